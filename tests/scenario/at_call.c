/*
 * at_call - `ringmill run`, of which a process is killed exactly at its k-th system call, of one thread or of all,
 * before the call is done or right behind it.
 *
 *     at_call PLAN LOG PROGRAM [ARGUMENT...]
 *
 * The caller's process becomes PROGRAM, the keeper; an orphan beside it traces it and all engines that it starts. What
 * is to be killed stands in PLAN, a file that both map: an order for each engine that is born, in turn, and one that
 * counts from now on, which may mean the keeper. An order may also be for the call by which a thread receives a message
 * with certain words in it: it has been read then, and nothing has been done about it. Calls that an order wants listed
 * are written to LOG, a line each: the thread, the call's number in that thread, its number in the kernel.
 * every_call.py writes the plan.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORDERS     4096
#define TASKS      1024
#define NAME_BYTES 16

enum when { AT_ENTRY, AT_EXIT };

struct order {
    char thread[NAME_BYTES];  // its name; "all": calls of all threads count; "keeper": the keeper's
    uint64_t number;          // of the call, from 1; 0: none is
    char heard
        [NAME_BYTES];  // words: strikes when it has received a message with these, whatever the number
    uint32_t when, is_listed;
    _Atomic int64_t struck;  // the kernel's number of the call at which it was killed, and 1
};

struct plan {
    _Atomic uint32_t births;     // orders that are there for engines
    _Atomic uint32_t now_given;  // how often `now` was written: it begins anew
    _Atomic uint32_t born;       // engines so far
    _Atomic uint32_t now_taken;  // which of these orders counts
    struct order now;
    struct order at_birth[ORDERS];
};

_Static_assert(sizeof(struct order) == 56 && sizeof(struct plan) == 72 + 56 * ORDERS,
               "as every_call.py has it");

struct task {
    pid_t tid, process;
    char name[NAME_BYTES];
    uint64_t calls;
    uint64_t now_calls;
    struct order *order;  // of its process
};

/* The call that a thread is in. */
struct entered {
    int64_t number;
    uint64_t argument;  // the second: what recvmsg receives into
};

static struct task tasks[TASKS];
static struct plan *plan;
static FILE *list;
static pid_t keeper;
static uint64_t all_calls, all_now_calls;  // of the newest engine

static void die(const char *what)
{
    fprintf(stderr, "at_call: %s: %s\n", what, strerror(errno));
    exit(2);
}

static pid_t process_of(pid_t tid)
{
    char path[64], line[128];
    snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
    FILE *status = fopen(path, "re");
    int process = 0;
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "Tgid: %d", &process) == 1)
            break;
    if (status != NULL)
        fclose(status);
    return (pid_t)process;
}

static struct task *find(pid_t tid)
{
    for (int i = 0; i < TASKS; i++)
        if (tasks[i].tid == tid)
            return &tasks[i];
    return NULL;
}

// One that has not been seen before: of the keeper, an engine that was just born, or a thread of one.
static struct task *meet(pid_t tid)
{
    struct task *task = find(0);
    if (task == NULL)
        return NULL;
    *task = (struct task){.tid = tid, .process = process_of(tid)};
    if (task->process != keeper && task->process == tid) {
        uint32_t turn = atomic_load(&plan->born);
        if (turn < atomic_load(&plan->births))
            task->order = &plan->at_birth[turn];
        all_calls = all_now_calls = 0;
        atomic_store(&plan->born, turn + 1);
    } else if (task->process != keeper) {
        struct task *first = find(task->process);
        task->order = first != NULL ? first->order : NULL;
    }
    return task;
}

// A thread has its maker's name at first.
static const char *name_of(struct task *task)
{
    if (task->process == keeper)
        return "keeper";
    if (task->process == task->tid)
        return "ringmill-engine";
    if (task->name[0] == '\0' || strcmp(task->name, "ringmill-engine") == 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/comm", (int)task->tid);
        FILE *comm = fopen(path, "re");
        if (comm == NULL || fgets(task->name, sizeof task->name, comm) == NULL)
            task->name[0] = '\0';
        task->name[strcspn(task->name, "\n")] = '\0';
        if (comm != NULL)
            fclose(comm);
    }
    return strcmp(task->name, "ringmill-engine") == 0 ? "new" : task->name;
}

// What a call that is just done has received by recvmsg; as much of it as fits.
static size_t received(pid_t tid, uint64_t message_at, int64_t got, char *text, size_t room)
{
    struct msghdr message;
    struct iovec first;
    struct iovec here = {&message, sizeof message}, there = {(void *)message_at, sizeof message};
    if (got <= 0 || process_vm_readv(tid, &here, 1, &there, 1, 0) != (ssize_t)sizeof message)
        return 0;
    here = (struct iovec){&first, sizeof first};
    there = (struct iovec){message.msg_iov, sizeof first};
    if (message.msg_iovlen == 0
        || process_vm_readv(tid, &here, 1, &there, 1, 0) != (ssize_t)sizeof first)
        return 0;
    here = (struct iovec){text, room < (size_t)got ? room : (size_t)got};
    there = (struct iovec){first.iov_base, here.iov_len};
    ssize_t read = process_vm_readv(tid, &here, 1, &there, 1, 0);
    return read > 0 ? (size_t)read : 0;
}

static bool has_heard(const struct order *order, const struct task *task,
                      const struct entered *call, const struct __ptrace_syscall_info *info)
{
    char text[1024];
    if (info->op != PTRACE_SYSCALL_INFO_EXIT || call->number != SYS_recvmsg)
        return false;
    size_t bytes = received(task->tid, call->argument, info->exit.rval, text, sizeof text);
    return memmem(text, bytes, order->heard, strnlen(order->heard, NAME_BYTES)) != NULL;
}

/* Does this order kill the process at this stop? `mine` and `all`: calls of the thread and of its process so far. */
static bool strikes(struct order *order, struct task *task, const struct entered *call,
                    const struct __ptrace_syscall_info *info, uint64_t mine, uint64_t all)
{
    const char *name = name_of(task);
    bool is_all = strcmp(order->thread, "all") == 0 && task->process != keeper;
    bool is_entry = info->op == PTRACE_SYSCALL_INFO_ENTRY;
    if (order->is_listed != 0 && is_entry)
        fprintf(list, "%s %llu %lld\n", name, (unsigned long long)mine, (long long)info->entry.nr);
    if (!is_all && strncmp(order->thread, name, NAME_BYTES) != 0)
        return false;
    if (order->heard[0] != '\0')
        return atomic_load(&order->struck) == 0 && has_heard(order, task, call, info);
    return order->number == (is_all ? all : mine) && is_entry == (order->when == AT_ENTRY)
           && atomic_load(&order->struck) == 0;
}

static void kill_at(struct order *order, const struct task *task, int64_t call)
{
    fflush(list);
    kill(task->process, SIGKILL);
    atomic_store(&order->struck, call + 1);
}

static void at_call(struct task *task)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task->tid, sizeof info, &info) < 0)
        return;
    bool is_entry = info.op == PTRACE_SYSCALL_INFO_ENTRY;
    static struct entered entered[TASKS];
    struct entered *call = &entered[task - tasks];
    uint32_t now_given = atomic_load(&plan->now_given);
    if (now_given != atomic_load(&plan->now_taken)) {
        for (int i = 0; i < TASKS; i++)
            tasks[i].now_calls = 0;
        all_now_calls = 0;
        atomic_store(&plan->now_taken, now_given);
    }
    if (is_entry) {
        *call = (struct entered){(int64_t)info.entry.nr, info.entry.args[1]};
        task->calls++;
        task->now_calls++;
        if (task->process != keeper) {
            all_calls++;
            all_now_calls++;
        }
    }
    if (task->order != NULL && strikes(task->order, task, call, &info, task->calls, all_calls))
        kill_at(task->order, task, call->number);
    else if (now_given != 0
             && strikes(&plan->now, task, call, &info, task->now_calls, all_now_calls))
        kill_at(&plan->now, task, call->number);
}

// What a stop was for, and how its thread goes on: the request, and the signal that it is given.
static enum __ptrace_request look_at(struct task *task, int status, int *ret_signal)
{
    int signal = WSTOPSIG(status), event = status >> 16;
    *ret_signal = 0;
    if (signal == (SIGTRAP | 0x80)) {
        at_call(task);
        return PTRACE_SYSCALL;
    }
    if (event == PTRACE_EVENT_STOP)
        return signal == SIGTRAP ? PTRACE_SYSCALL : PTRACE_LISTEN;
    if (event == 0)
        *ret_signal = signal;
    return PTRACE_SYSCALL;
}

static void trace(int ready)
{
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK
                         | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    int status;
    if (ptrace(PTRACE_SEIZE, keeper, NULL, options) < 0
        || ptrace(PTRACE_INTERRUPT, keeper, NULL, NULL) < 0
        || waitpid(keeper, &status, __WALL) != keeper
        || ptrace(PTRACE_SYSCALL, keeper, NULL, NULL) < 0)
        die("cannot trace");
    if (write(ready, "", 1) != 1)
        die("write");
    close(ready);
    for (pid_t tid; (tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR;) {
        struct task *task = find(tid);
        if (tid <= 0)
            continue;
        if (!WIFSTOPPED(status)) {
            if (task != NULL)
                *task = (struct task){0};
            fflush(list);
            continue;
        }
        if (task == NULL)
            task = meet(tid);
        if (task == NULL)
            die("too many threads");
        int signal;
        enum __ptrace_request go_on = look_at(task, status, &signal);
        ptrace(go_on, tid, NULL, (void *)(intptr_t)signal);  // one that is gone is told by waitpid
    }
}

static void open_files(const char *plan_path, const char *list_path)
{
    int fd = open(plan_path, O_RDWR | O_CLOEXEC);
    plan =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (plan == MAP_FAILED)
        die(plan_path);
    close(fd);
    list = fopen(list_path, "ae");
    if (list == NULL)
        die(list_path);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: at_call PLAN LOG PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    open_files(argv[1], argv[2]);
    keeper = getpid();
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0)
        die("pipe");
    // an orphan, so that the keeper has no child that it did not make
    pid_t between = fork();
    if (between == 0) {
        pid_t tracer = fork();
        if (tracer != 0)
            _exit(tracer < 0 ? 2 : 0);
        // the pipes of whom it traces end when that does
        for (int fd = 0; fd < 3; fd++)
            if (dup2(open("/dev/null", O_RDWR | O_CLOEXEC), fd) < 0)
                _exit(2);
        close(ready[0]);
        trace(ready[1]);
        _exit(0);
    }
    close(ready[1]);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0,
          0);  // where only descendants may be traced otherwise
    char byte;
    if (between < 0 || waitpid(between, NULL, 0) != between || read(ready[0], &byte, 1) != 1)
        die("no tracer");
    execv(argv[3], argv + 3);
    die(argv[3]);
}
