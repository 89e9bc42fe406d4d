#include "tools/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <liburing.h>

#include "runtime/base/err.h"
#include "runtime/base/rundir.h"
#include "runtime/checkpoint/checkpoints.h"
#include "runtime/checkpoint/disk.h"
#include "runtime/control/held_back.h"
#include "runtime/plan/units.h"
#include "tools/guard.h"
#include "tools/pipelines.h"

#define MIB       ((uint64_t)1 << 20)
#define LANE_FDS  8u  // and an eventfd for each worker
#define FDS_SPARE 256u
#define RING_BYTES \
 (16 * MIB)  // of lockable memory, that older kernels count for buffers of io_uring
#define FOLDER_BYTES  (256 * MIB)
#define SHARED_BYTES  (64 * MIB)
#define PROBE_FILE    "ringctl-doctor"
#define KERNEL_OLDEST 503u  // pidfds that can be polled
#define KERNEL_GOOD   510u

__attribute__((format(printf, 4, 5))) static struct rml_doctor_finding *
find(struct rml_doctor *doctor, enum rml_doctor_level level, const char *about, const char *format,
     ...)
{
    static struct rml_doctor_finding beyond;
    struct rml_doctor_finding *finding =
        doctor->count < RML_DOCTOR_FINDINGS_MAX ? &doctor->findings[doctor->count++] : &beyond;
    finding->level = level;
    finding->about = about;
    finding->advice[0] = '\0';
    va_list args;
    va_start(args, format);
    vsnprintf(finding->what, sizeof finding->what, format, args);
    va_end(args);
    return finding;
}

__attribute__((format(printf, 2, 3))) static void advise(struct rml_doctor_finding *finding,
                                                         const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(finding->advice, sizeof finding->advice, format, args);
    va_end(args);
}

// The first line of a file of /proc or /sys; empty when it cannot be read.
static const char *first_line(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, bytes - 1) : 0;
    text[got > 0 ? got : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
    return text;
}

/* The kernel */

static void look_at_kernel(struct rml_doctor *doctor)
{
    struct utsname name;
    unsigned major = 0, minor = 0;
    uname(&name);
    char *end;
    major = (unsigned)strtoul(name.release, &end, 10);
    minor = *end == '.' ? (unsigned)strtoul(end + 1, NULL, 10) : 0;
    unsigned number = major * 100 + (minor < 99 ? minor : 99);
    struct rml_doctor_finding *f =
        find(doctor,
             number >= KERNEL_GOOD     ? RML_DOCTOR_OK
             : number >= KERNEL_OLDEST ? RML_DOCTOR_WARN
                                       : RML_DOCTOR_BAD,
             "kernel", "%s %s, %s", name.sysname, name.release, name.machine);
    if (number < KERNEL_GOOD)
        advise(f, "use Linux 5.10 or newer; 5.3 is the oldest that can work");
}

static void look_at_memfds(struct rml_doctor *doctor)
{
    int fd = memfd_create("ringctl-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int rc = fd < 0 ? -errno : 0;
    if (rc == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) < 0)
        rc = -errno;
    if (rc == 0)
        find(doctor, RML_DOCTOR_OK, "shared memory", "can be made and sealed");
    else
        advise(find(doctor, RML_DOCTOR_BAD, "shared memory", "memfd_create or its seals: %s",
                    strerrordesc_np(-rc)),
               "use Linux 5.1 or newer, and let the container make memfds");
    if (fd >= 0)
        close(fd);
}

static void look_at_pidfds(struct rml_doctor *doctor)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd >= 0)
        find(doctor, RML_DOCTOR_OK, "pidfd", "a producer's death can be proved");
    else
        advise(find(doctor, RML_DOCTOR_WARN, "pidfd", "pidfd_open: %s", strerrordesc_np(errno)),
               "a producer's death is known by its socket alone; use Linux 5.3 or newer, and let "
               "the container's seccomp profile pass pidfd_open");
    if (fd >= 0)
        close(fd);
}

static void look_at_io_uring(struct rml_doctor *doctor)
{
    struct io_uring ring;
    int rc = io_uring_queue_init(1, &ring, 0);
    if (rc == 0) {
        io_uring_queue_exit(&ring);
        find(doctor, RML_DOCTOR_OK, "io_uring", "a ring can be set up");
        return;
    }
    struct rml_doctor_finding *f =
        find(doctor, RML_DOCTOR_WARN, "io_uring", "no ring: %s", strerrordesc_np(-rc));
    advise(f, "%s",
           rc == -EPERM
               ? "checkpoints are written one write after the other; let the container's seccomp "
                 "profile pass io_uring_setup, or set the sysctl kernel.io_uring_disabled to 0"
           : rc == -ENOMEM ? "raise the limit of lockable memory: ulimit -l"
                           : "checkpoints are written one write after the other; a newer kernel "
                             "has it");
}

/* Limits and memory */

static void look_at_memlock(struct rml_doctor *doctor)
{
    struct rlimit limit;
    char size[32];
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur == RLIM_INFINITY || geteuid() == 0) {
        find(doctor, RML_DOCTOR_OK, "lockable memory", "not limited");
        return;
    }
    rml_size_print_about(limit.rlim_cur, size);
    struct rml_doctor_finding *f =
        find(doctor, limit.rlim_cur >= RING_BYTES ? RML_DOCTOR_OK : RML_DOCTOR_WARN,
             "lockable memory", "%s", size);
    if (limit.rlim_cur < RING_BYTES)
        advise(f, "kernels before 5.12 want 16 MiB for io_uring: ulimit -l 16384");
}

static void look_at_descriptors(struct rml_doctor *doctor, const struct rml_plan *plan)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    uint32_t lanes = plan != NULL ? plan->lanes_max : 256;
    uint64_t needed = (uint64_t)lanes * (LANE_FDS + (plan != NULL ? plan->workers : 1)) + FDS_SPARE;
    bool is_enough = limit.rlim_max == RLIM_INFINITY || limit.rlim_max >= needed;
    struct rml_doctor_finding *f =
        find(doctor, is_enough ? RML_DOCTOR_OK : RML_DOCTOR_WARN, "descriptors",
             "%" PRIu64 " at most; %u producers at once need %" PRIu64, (uint64_t)limit.rlim_max,
             lanes, needed);
    if (!is_enough)
        advise(f,
               "raise the hard limit (ulimit -Hn %" PRIu64 ", LimitNOFILE= of a service), or "
               "lower runtime.lanes_max",
               needed);
}

// "MemAvailable:   123 kB"
static uint64_t memory_available(void)
{
    char text[4096];
    int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    text[got > 0 ? got : 0] = '\0';
    if (fd >= 0)
        close(fd);
    const char *at = strstr(text, "MemAvailable:");
    return at != NULL ? strtoull(at + strlen("MemAvailable:"), NULL, 10) * 1024 : 0;
}

static uint64_t lane_bytes(const struct rml_plan *plan)
{
    uint64_t most = 0;
    for (uint32_t s = 0; s < plan->source_count; s++) {
        uint64_t bytes = (uint64_t)plan->sources[s].cells * plan->sources[s].schema.record_bytes
                         * plan->partitions;
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void look_at_prefault(struct rml_doctor *doctor, const struct rml_plan *plan,
                             uint64_t available)
{
    uint64_t each = plan->state_prefault_bytes;
    if (each == 0)
        return;
    char text[32], of_each[32];
    rml_size_print_about(available, text);
    rml_size_print_about(each, of_each);
    bool is_little = each > available / plan->partitions;
    struct rml_doctor_finding *f =
        find(doctor, is_little ? RML_DOCTOR_WARN : RML_DOCTOR_OK, "state_prefault",
             "%u partitions with %s each; %s available", plan->partitions, of_each, text);
    if (is_little)
        advise(f, "lower runtime.state_prefault: what is more than there is ends in a kill");
}

static void look_at_memory(struct rml_doctor *doctor, const struct rml_plan *plan)
{
    uint64_t available = memory_available(), lane = plan != NULL ? lane_bytes(plan) : 0;
    char text[32], of_lane[32];
    rml_size_print_about(available, text);
    rml_size_print_about(lane, of_lane);
    uint64_t producers = lane > 0 ? available / lane : UINT64_MAX;
    bool is_little = plan != NULL && producers < plan->lanes_max;
    struct rml_doctor_finding *f =
        plan == NULL
            ? find(doctor, RML_DOCTOR_OK, "memory", "%s available", text)
            : find(doctor, is_little ? RML_DOCTOR_WARN : RML_DOCTOR_OK, "memory",
                   "%s available; a lane takes %s, so there is room for %" PRIu64
                   " of %u producers",
                   text, of_lane, is_little ? producers : plan->lanes_max, plan->lanes_max);
    if (is_little)
        advise(f, "lower `cells` of the sources, runtime.partitions or runtime.lanes_max");
    if (plan != NULL)
        look_at_prefault(doctor, plan, available);
}

static void look_at_shm(struct rml_doctor *doctor)
{
    struct statvfs room;
    char text[32];
    if (statvfs("/dev/shm", &room) < 0) {
        find(doctor, RML_DOCTOR_OK, "/dev/shm", "not there, and not needed: lanes are memfds");
        return;
    }
    uint64_t bytes = (uint64_t)room.f_bavail * room.f_frsize;
    rml_size_print_about(bytes, text);
    find(doctor, RML_DOCTOR_OK, "/dev/shm",
         "%s free; lanes are memfds, which count as memory and not there", text);
}

static void look_at_huge_pages(struct rml_doctor *doctor)
{
    char text[128];
    first_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text);
    bool is_on = strstr(text, "[always]") != NULL || strstr(text, "[madvise]") != NULL;
    struct rml_doctor_finding *f = find(doctor, is_on ? RML_DOCTOR_OK : RML_DOCTOR_WARN,
                                        "huge pages", "%s", text[0] != '\0' ? text : "none");
    if (!is_on)
        advise(f, "state of a million keys is found faster with them: echo madvise > "
                  "/sys/kernel/mm/transparent_hugepage/enabled");
}

/* Processors and clock */

static void look_at_pins(struct rml_doctor *doctor, const struct rml_plan *plan,
                         const cpu_set_t *usable)
{
    for (uint32_t i = 0; i < plan->cpu_count; i++) {
        if (plan->cpus[i] < CPU_SETSIZE && CPU_ISSET((size_t)plan->cpus[i], usable))
            continue;
        advise(find(doctor, RML_DOCTOR_BAD, "pinning", "CPU %u of runtime.cpus cannot be used here",
                    plan->cpus[i]),
               "name others, or change the affinity (taskset, the container's cpuset)");
    }
}

static void look_at_cpus(struct rml_doctor *doctor, const struct rml_plan *plan)
{
    cpu_set_t usable;
    char isolated[128];
    if (sched_getaffinity(0, sizeof usable, &usable) < 0)
        CPU_ZERO(&usable);
    uint32_t count = (uint32_t)CPU_COUNT(&usable);
    first_line("/sys/devices/system/cpu/isolated", isolated, sizeof isolated);
    bool are_too_many = plan != NULL && plan->workers > count;
    struct rml_doctor_finding *f =
        find(doctor, are_too_many ? RML_DOCTOR_WARN : RML_DOCTOR_OK, "processors",
             "%u usable%s%s%s%s", count, isolated[0] != '\0' ? ", isolated: " : "", isolated,
             plan != NULL ? ", workers: " : "",
             plan != NULL ? (plan->workers > count ? "more than that" : "enough for all") : "");
    if (are_too_many)
        advise(f, "set runtime.workers to %u: workers that share a CPU wait for each other", count);
    if (plan != NULL)
        look_at_pins(doctor, plan, &usable);
}

static void look_at_clock(struct rml_doctor *doctor)
{
    static const char *const good[] = {"tsc", "kvm-clock", "arch_sys_counter",
                                       "hyperv_clocksource_tsc_page"};
    char text[64];
    first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", text,
               sizeof text);
    bool is_good = text[0] == '\0';  // nobody tells
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        is_good |= strcmp(text, good[i]) == 0;
    struct rml_doctor_finding *f = find(doctor, is_good ? RML_DOCTOR_OK : RML_DOCTOR_WARN, "clock",
                                        "%s", text[0] != '\0' ? text : "not told");
    if (!is_good)
        advise(f, "reading it takes a system call; boot with clocksource=tsc where that is stable");
}

/* What dies */

static void look_at_cores(struct rml_doctor *doctor)
{
    struct rlimit limit;
    char pattern[128];
    getrlimit(RLIMIT_CORE, &limit);
    first_line("/proc/sys/kernel/core_pattern", pattern, sizeof pattern);
    bool is_kept = limit.rlim_max > 0 && pattern[0] != '\0';
    find(doctor, RML_DOCTOR_OK, "core files", "%s%s",
         is_kept ? "pattern " : "none is written when an engine dies (ulimit -c)",
         is_kept ? pattern : "");
}

static void look_at_rundir(struct rml_doctor *doctor)
{
    char path[4096];
    struct stat about;
    if (rml_rundir(path, sizeof path) < 0)
        return;
    if (stat(path, &about) < 0) {
        bool is_new = errno == ENOENT;
        find(doctor, is_new ? RML_DOCTOR_OK : RML_DOCTOR_BAD, "run directory", "%.180s: %s", path,
             is_new ? "made with the first pipeline" : strerrordesc_np(errno));
        return;
    }
    bool is_ours = about.st_uid == geteuid() || geteuid() == 0;
    bool is_open = (about.st_mode & (S_IWGRP | S_IWOTH)) != 0;
    struct rml_doctor_finding *f =
        find(doctor, is_ours && !is_open ? RML_DOCTOR_OK : RML_DOCTOR_BAD, "run directory",
             "%.150s, user %u, mode %04o", path, (unsigned)about.st_uid,
             (unsigned)(about.st_mode & 07777));
    if (!is_ours)
        advise(f, "it is another user's: set RINGMILL_RUNDIR");
    else if (is_open)
        advise(f, "others may write there, and pass for a pipeline: chmod go-w");
}

static void look_at_leftovers(struct rml_doctor *doctor)
{
    struct rml_pipelines pipelines;
    struct rml_err err = {0};
    char names[160] = "";
    size_t used = 0;
    uint32_t dead = 0;
    if (rml_pipelines_open(&pipelines, &err) < 0) {
        find(doctor, RML_DOCTOR_BAD, "pipelines", "%.200s", err.text);
        return;
    }
    for (uint32_t i = 0; i < pipelines.count; i++) {
        if (pipelines.list[i].rc != 0 || pipelines.list[i].claim != RML_CLAIM_LEFT)
            continue;
        dead++;
        if (used < sizeof names)
            used +=
                (size_t)snprintf(names + used, sizeof names - used, " %s", pipelines.list[i].name);
    }
    struct rml_doctor_finding *f =
        find(doctor, dead > 0 ? RML_DOCTOR_WARN : RML_DOCTOR_OK, "pipelines",
             dead > 0 ? "%u here, %u of them dead:%s" : "%u here", pipelines.count, dead, names);
    if (dead > 0)
        advise(f, "`ringmill run` of their files goes on with them, `ringctl clean` forgets them");
    rml_pipelines_close(&pipelines);
}

void rml_doctor_host(struct rml_doctor *doctor, const struct rml_plan *plan)
{
    look_at_kernel(doctor);
    look_at_memfds(doctor);
    look_at_pidfds(doctor);
    look_at_io_uring(doctor);
    look_at_memlock(doctor);
    look_at_descriptors(doctor, plan);
    look_at_memory(doctor, plan);
    look_at_shm(doctor);
    look_at_huge_pages(doctor);
    look_at_cpus(doctor, plan);
    look_at_clock(doctor);
    look_at_cores(doctor);
    look_at_rundir(doctor);
    look_at_leftovers(doctor);
}

/* Where state is kept */

struct file_system {
    uint64_t type;
    const char *name;
    enum rml_doctor_level level;
    const char *advice;
};

static void look_at_file_system(struct rml_doctor *doctor, const char *folder)
{
    static const char remote[] = "locks, mappings and flushes there are another machine's promise: "
                                 "put the state on a disk of this one";
    static const struct file_system known[] = {
        {0x6969, "nfs", RML_DOCTOR_BAD, remote},
        {0xff534d42, "cifs", RML_DOCTOR_BAD, remote},
        {0xfe534d42, "smb2", RML_DOCTOR_BAD, remote},
        {0x01021997, "9p", RML_DOCTOR_BAD, remote},
        {0x00c36400, "ceph", RML_DOCTOR_BAD, remote},
        {0x65735546, "fuse", RML_DOCTOR_WARN, "what it promises depends on the program behind it"},
        {0x01021994, "tmpfs", RML_DOCTOR_WARN, "nothing of it outlasts a reboot: take a disk"},
    };
    struct statfs about;
    if (statfs(folder, &about) < 0)
        return;
    uint64_t type = (uint64_t)about.f_type & UINT32_MAX;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].type != type)
            continue;
        advise(find(doctor, known[i].level, "file system", "%s", known[i].name), "%s",
               known[i].advice);
        return;
    }
    find(doctor, RML_DOCTOR_OK, "file system", "type 0x%" PRIx64 ", of this machine", type);
}

static void look_at_room(struct rml_doctor *doctor, const char *folder)
{
    struct statvfs room;
    char text[32];
    if (statvfs(folder, &room) < 0)
        return;
    uint64_t bytes = (uint64_t)room.f_bavail * room.f_frsize;
    rml_size_print_about(bytes, text);
    struct rml_doctor_finding *f =
        find(doctor, bytes < FOLDER_BYTES ? RML_DOCTOR_WARN : RML_DOCTOR_OK, "room for state",
             "%s free", text);
    if (bytes < FOLDER_BYTES)
        advise(f, "a checkpoint that finds no room fails, and producers wait: free some");
}

// As the engine would write there, without touching what it has.
static void look_at_way(struct rml_doctor *doctor, const char *folder)
{
    char path[4200];
    struct rml_disk disk = RML_DISK_CLOSED;
    const struct rml_disk_options options = {0};
    struct rml_err err = {0};
    snprintf(path, sizeof path, "%s/" PROBE_FILE "-%ld", folder, (long)getpid());
    int rc = rml_disk_open(&disk, path, &options, &err);
    if (rc < 0) {
        find(doctor, RML_DOCTOR_BAD, "writing", "%.250s", err.text);
    } else {
        bool is_best = disk.why_not[0] == '\0';
        struct rml_doctor_finding *f =
            find(doctor, is_best ? RML_DOCTOR_OK : RML_DOCTOR_WARN, "writing", "by %s%s%s",
                 disk.way->name, is_best ? "" : ": ", disk.why_not);
        if (!is_best)
            advise(f, "checkpoints are right all the same, and slower");
    }
    rml_disk_close(&disk);
    unlink(path);
}

// Whoever looks for a moment is a commit or two behind.
#define BEHIND_LONG 20u

static void look_at_catalog(struct rml_doctor *doctor, const char *folder)
{
    struct rml_checkpoints *checkpoints;
    struct rml_err err = {0};
    char bytes[32], program[16];
    rml_guard_catalog(folder);
    int rc = rml_checkpoints_open(&checkpoints, folder, &err);
    if (rc == -ENOENT || rc == -EACCES)
        return;  // not made yet; or not ours to look at
    if (rc < 0) {
        advise(find(doctor, RML_DOCTOR_BAD, "catalog", "%.250s", err.text),
               "ringctl checkpoint verify tells more; ringmill run tells what can be done");
        return;
    }
    const struct rml_catalog_use use = rml_catalog_use(rml_checkpoints_catalog(checkpoints));
    rml_size_print_about(use.bytes, bytes);
    rml_held_back_program(use.reader_pid, program);
    if (use.reader_behind < BEHIND_LONG)
        find(doctor, RML_DOCTOR_OK, "catalog", "%s; no reader holds it back", bytes);
    else
        advise(find(doctor, RML_DOCTOR_WARN, "catalog",
                    "%s; process %" PRIu32 " (%s) reads what it was %" PRIu64
                    " commits ago, and what came free since cannot be used again",
                    bytes, use.reader_pid, program, use.reader_behind),
               "the file grows with each checkpoint until that process goes on or ends");
    rml_checkpoints_close(checkpoints);
}

void rml_doctor_folder(struct rml_doctor *doctor, const char *folder)
{
    char path[4096];
    struct stat about;
    snprintf(path, sizeof path, "%s", folder);
    bool is_there = stat(path, &about) == 0;
    if (!is_there) {
        // it will be made there
        size_t length = strlen(path);
        while (length > 1 && path[length - 1] == '/')
            path[--length] = '\0';
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            snprintf(path, sizeof path, ".");
        else
            slash[slash == path] = '\0';
        is_there = stat(path, &about) == 0;
    }
    if (!is_there || !S_ISDIR(about.st_mode)) {
        advise(find(doctor, RML_DOCTOR_BAD, "state", "%.200s: %s", folder,
                    is_there ? "is no folder" : "the folder it should lie in is not there"),
               "make it, or name another in runtime.state");
        return;
    }
    find(doctor, RML_DOCTOR_OK, "state", "%.240s", folder);
    look_at_file_system(doctor, path);
    look_at_room(doctor, path);
    look_at_way(doctor, path);
    look_at_catalog(doctor, folder);
}

/* A pipeline that runs */

// Of a pipeline that has one.
static void look_at_journal(struct rml_doctor *doctor, const struct rml_board *board)
{
    const _Atomic uint64_t *counts = board->live->journal.value;
    struct rml_board_journal journal;
    rml_board_journal_read(board, &journal);
    if (journal.way[0] == '\0')
        return;
    bool is_best = journal.why_not[0] == '\0';
    struct rml_doctor_finding *f =
        find(doctor, is_best ? RML_DOCTOR_OK : RML_DOCTOR_WARN, "journal", "by %s%s%s", journal.way,
             is_best ? "" : ": ", journal.why_not);
    if (!is_best)
        advise(f, "it is right all the same, and slower");
    if (rml_count_read(&counts[RML_JOURNAL_is_failing]) != 0)
        advise(find(doctor, RML_DOCTOR_BAD, "journal", "cannot be written: %.200s",
                    journal.failed_why),
               "records wait in their lanes, and producers with them: look at the disk");
    else if (rml_count_read(&counts[RML_JOURNAL_failures]) > 0)
        advise(find(doctor, RML_DOCTOR_WARN, "journal",
                    "%" PRIu64 " writes or flushes failed, the last: %.180s",
                    rml_count_read(&counts[RML_JOURNAL_failures]), journal.failed_why),
               "nothing is lost by that; look at the disk");
    if (rml_count_read(&counts[RML_JOURNAL_waits]) > 0)
        advise(find(doctor, RML_DOCTOR_WARN, "journal", "full %" PRIu64 " times",
                    rml_count_read(&counts[RML_JOURNAL_waits])),
               "a larger runtime.journal.max, or a shorter checkpoint.every, or room on the disk");
}

void rml_doctor_board(struct rml_doctor *doctor, const struct rml_board *board)
{
    uint32_t restarts = rml_board_restarts(board);
    struct rml_board_death death;
    rml_board_death_read(board, &death);
    struct rml_doctor_finding *f =
        restarts == 0 ? find(doctor, RML_DOCTOR_OK, "engine", "has not died")
                      : find(doctor, RML_DOCTOR_WARN, "engine",
                             "has died %u times, the last time: %.150s", restarts, death.why);
    if (restarts > 0)
        advise(f, "the log of `ringmill run` has the time of each, and what was done");
    for (uint32_t w = 0; w < board->head->workers; w++) {
        if (rml_board_cpu(board, w) < 0)
            advise(find(doctor, RML_DOCTOR_WARN, "pinning", "worker %u is not pinned", w),
                   "runtime.cpus names CPUs; the process must be allowed to use them");
    }
    if (board->head->state_folder[0] == '\0') {
        advise(find(doctor, RML_DOCTOR_WARN, "checkpoints", "none are taken"),
               "with runtime.state an engine that dies loses nothing");
        return;
    }
    look_at_journal(doctor, board);
    struct rml_board_saves saves;
    rml_board_saves_read(board, &saves);
    bool is_best = saves.why_not[0] == '\0';
    f = find(doctor, is_best ? RML_DOCTOR_OK : RML_DOCTOR_WARN, "checkpoints", "by %s%s%s",
             saves.way, is_best ? "" : ": ", saves.why_not);
    if (!is_best)
        advise(f, "they are right all the same, and slower");
    if (saves.failed > 0)
        advise(find(doctor, RML_DOCTOR_WARN, "checkpoints", "%" PRIu64 " failed, the last: %.180s",
                    saves.failed, saves.failed_why),
               "each is tried again; what is not released meanwhile fills the lanes");
    if (saves.lanes_full + saves.schedules_full > 0)
        advise(find(doctor, RML_DOCTOR_WARN, "lanes",
                    "full before a checkpoint covered them, %" PRIu64 " times; schedules %" PRIu64,
                    saves.lanes_full, saves.schedules_full),
               "more `cells`, a shorter checkpoint.every and min_pause, or a faster disk");
}

enum rml_doctor_level rml_doctor_worst(const struct rml_doctor *doctor)
{
    enum rml_doctor_level worst = RML_DOCTOR_OK;
    for (uint32_t i = 0; i < doctor->count; i++)
        worst = doctor->findings[i].level > worst ? doctor->findings[i].level : worst;
    return worst;
}
