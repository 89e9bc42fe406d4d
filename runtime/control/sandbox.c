#include "runtime/control/sandbox.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/err.h"

// What LeakSanitizer looks for leaks with, as a program ends.
#if defined(__SANITIZE_ADDRESS__)
# define LOOKS_FOR_LEAKS 1
#elif defined(__has_feature)
# if __has_feature(address_sanitizer)
#  define LOOKS_FOR_LEAKS 1
# endif
#endif

static const int never[] = {
    // other programs
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
#ifndef LOOKS_FOR_LEAKS
    // other processes
    SCMP_SYS(ptrace),
#endif
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),
    // sockets: the one that is listened on is there already, and lanes have pairs
    SCMP_SYS(socket),
    SCMP_SYS(connect),
    SCMP_SYS(bind),
    SCMP_SYS(listen),
    // users, groups, capabilities
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setreuid),
    SCMP_SYS(setregid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(capset),
    // where files are
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(open_tree),
    SCMP_SYS(move_mount),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(quotactl),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    // clocks
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime),
    // the kernel and the machine
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(personality),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
};

static const int namespaces[] = {CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,   CLONE_NEWNET,
                                 CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP};

// A call whose argument `number` has all of these bits.
static int refuse_bits(scmp_filter_ctx filter, int call, unsigned number, unsigned bits)
{
    const struct scmp_arg_cmp having = {
        .arg = number, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits, .datum_b = bits};
    return seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), call, 1, &having);
}

static int add_rules(scmp_filter_ctx filter)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof never / sizeof never[0]; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), never[i], 0);
    for (size_t i = 0; rc == 0 && i < sizeof namespaces / sizeof namespaces[0]; i++)
        rc = refuse_bits(filter, SCMP_SYS(clone), 0, (unsigned)namespaces[i]);
    // its flags lie in memory where a filter cannot see them; libc uses clone then
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    // plug-ins have been loaded: nothing becomes code any more
    if (rc == 0)
        rc = refuse_bits(filter, SCMP_SYS(mmap), 2, PROT_EXEC);
    if (rc == 0)
        rc = refuse_bits(filter, SCMP_SYS(mprotect), 2, PROT_EXEC);
    if (rc == 0)
        rc = refuse_bits(filter, SCMP_SYS(pkey_mprotect), 2, PROT_EXEC);
    return rc;
}

int rml_sandbox_enter(struct rml_err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a seccomp filter");
    // no_new_privs is set with it; and what a filter of another architecture would let by is refused
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
    if (rc == 0)
        rc = add_rules(filter);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc == 0 ? 0 : RML_FAIL(err, rc, "no seccomp filter here: %s", strerrordesc_np(-rc));
}
