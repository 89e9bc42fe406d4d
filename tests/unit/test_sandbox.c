/*
 * What a process in the sandbox can still do, and what it cannot: each in a process of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/control/sandbox.h"
#include "tests/support/test.h"

static int outcome(long rc)
{
    return rc < 0 ? errno : 0;
}

static int runs_a_program(void)
{
    static char word[] = "true";
    char *const words[] = {word, NULL};
    return outcome(execv("/bin/true", words));
}

static int opens_a_socket(void)
{
    return outcome(socket(AF_INET, SOCK_STREAM, 0));
}

static int connects(void)
{
    const struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = "/nowhere"};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
        return errno;
    return outcome(connect(pair[0], (const void *)&to, sizeof to));
}

static int maps_code(void)
{
    void *at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? errno : 0;
}

static int makes_data_code(void)
{
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? ENOMEM : outcome(mprotect(at, 4096, PROT_READ | PROT_EXEC));
}

static int looks_into_its_parent(void)
{
    char byte;
    const struct iovec here = {&byte, 1}, there = {&byte, 1};
    return outcome(syscall(SYS_process_vm_readv, getppid(), &here, 1, &there, 1, 0));
}

static int makes_a_namespace(void)
{
    return outcome(unshare(CLONE_NEWUSER));
}

static int clones_into_a_namespace(void)
{
    long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return outcome(child);
}

static int becomes_another_user(void)
{
    return outcome(syscall(SYS_setuid, getuid()));
}

static int watches_the_kernel(void)
{
    return outcome(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
}

static void *nothing(void *context)
{
    return context;
}

static int starts_a_thread(void)
{
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, nothing, NULL);
    return rc != 0 ? rc : pthread_join(thread, NULL);
}

static int forks(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return child < 0 ? errno : outcome(waitpid(child, NULL, 0));
}

static int makes_a_segment(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, 4096) < 0)
        return errno;
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? errno : outcome(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
}

static int makes_what_wakes(void)
{
    int pair[2];
    return eventfd(0, EFD_CLOEXEC) < 0 ? errno : outcome(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
}

// Whatever the machine says to io_uring, it is not the sandbox that says it.
static int sets_up_a_ring(void)
{
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    return outcome(syscall(SYS_io_uring_setup, 8, &params));
}

/* What comes of it in a process of its own, in the sandbox or out of it; -1: it died. */
static int in_a_process(int (*what)(void), bool sandboxed)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rml_err err = {0};
        if (sandboxed && rml_sandbox_enter(&err) < 0) {
            fprintf(stderr, "%s\n", err.text);
            _exit(99);
        }
        _exit(what());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void what_a_pipeline_never_needs_is_refused(void **state)
{
    (void)state;
    int (*const never[])(void) = {runs_a_program,    opens_a_socket,          connects,
                                  maps_code,         makes_data_code,         looks_into_its_parent,
                                  makes_a_namespace, clones_into_a_namespace, becomes_another_user,
                                  watches_the_kernel};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        assert_int_equal(in_a_process(never[i], true), EPERM);
    assert_int_equal(in_a_process(opens_a_socket, false), 0);
    assert_int_equal(in_a_process(runs_a_program, false), 0);
    assert_int_equal(in_a_process(makes_data_code, false), 0);
}

static void what_it_needs_goes_on(void **state)
{
    (void)state;
    int (*const needed[])(void) = {starts_a_thread, forks, makes_a_segment, makes_what_wakes,
                                   sets_up_a_ring};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        assert_int_equal(in_a_process(needed[i], true), in_a_process(needed[i], false));
}

static int is_without_new_privileges(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
}

static int in_a_child(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(opens_a_socket());
    int status;
    return child > 0 && waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1;
}

static int sockets_of_a_thread;

static void *opens_one(void *context)
{
    sockets_of_a_thread = opens_a_socket();
    return context;
}

static int in_a_thread(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, opens_one, NULL) != 0 || pthread_join(thread, NULL) != 0
               ? -1
               : sockets_of_a_thread;
}

static void nobody_gets_out_of_it(void **state)
{
    (void)state;
    assert_int_equal(in_a_process(is_without_new_privileges, true), 1);
    assert_int_equal(in_a_process(in_a_child, true), EPERM);
    assert_int_equal(in_a_process(in_a_thread, true), EPERM);
}

TEST_MAIN(CLAIM(what_a_pipeline_never_needs_is_refused), CLAIM(what_it_needs_goes_on),
          CLAIM(nobody_gets_out_of_it))
