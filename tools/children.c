#include "tools/children.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/time/clock.h"

#define SECOND INT64_C(1000000000)

static int64_t now_ns(void)
{
    return rml_clock_system.monotonic_ns(rml_clock_system.context);
}

static void heeded(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGCHLD);
}

void rml_children_open(struct rml_children *children)
{
    sigset_t signals;
    heeded(&signals);
    children->count = 0;
    pthread_sigmask(SIG_BLOCK, &signals, &children->before);
}

/* In the child, between fork and exec. */
_Noreturn static void become(const struct rml_children *children,
                             const struct rml_child_options *options, pid_t parent)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);  // it died before it could be told
    int input = options->input >= 0 ? options->input : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (input < 0 || dup2(input, STDIN_FILENO) < 0
        || (options->keep >= 0 && fcntl(options->keep, F_SETFD, 0) < 0)) {
        perror(options->name);
        _exit(127);
    }
    pthread_sigmask(SIG_SETMASK, &children->before, NULL);
    char *const *argv;
    memcpy(&argv, &options->argv, sizeof argv);  // execv changes no word, its type does not say so
    execv(options->path, argv);
    fprintf(stderr, "%s: %s\n", options->path, strerrordesc_np(errno));
    _exit(127);
}

int rml_child_start(struct rml_children *children, const struct rml_child_options *options,
                    struct rml_err *err)
{
    RML_CHECK(children->count < RML_CHILDREN_MAX);
    fflush(NULL);  // else both would write what is in the buffers
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        int rc = -errno;
        return RML_FAIL(err, rc, "cannot start %s: %s", options->name, strerrordesc_np(-rc));
    }
    if (pid == 0)
        become(children, options, parent);
    children->child[children->count] = (struct rml_child){.name = options->name, .pid = pid};
    return (int)children->count++;
}

static bool reap(struct rml_children *children)
{
    bool any = false;
    for (uint32_t i = 0; i < children->count; i++) {
        struct rml_child *child = &children->child[i];
        if (!child->ended && waitpid(child->pid, &child->status, WNOHANG) == child->pid)
            any = child->ended = true;
    }
    return any;
}

enum rml_children_news rml_children_wait(struct rml_children *children, int64_t wait_ns)
{
    sigset_t signals;
    heeded(&signals);
    const int64_t end = now_ns() + wait_ns;
    for (int64_t left = wait_ns;; left = end - now_ns()) {
        if (reap(children))
            return RML_CHILDREN_ENDED;
        if (left < 0)
            left = 0;
        const struct timespec most = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
        int number = sigtimedwait(&signals, NULL, &most);
        if (number == SIGINT || number == SIGTERM)
            return RML_CHILDREN_SIGNALLED;
        if (number < 0 && errno == EAGAIN)
            return reap(children) ? RML_CHILDREN_ENDED : RML_CHILDREN_NOTHING;
    }
}

void rml_child_signal(const struct rml_child *child, int number)
{
    if (!child->ended)
        kill(child->pid, number);  // not reaped yet, so the number is still its own
}

static bool ended_well(const struct rml_child *child)
{
    int status = child->status, pid = (int)child->pid;
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "%s (process %d) was ended by signal %d, %s\n", child->name, pid,
                WTERMSIG(status), sigdescr_np(WTERMSIG(status)));
    } else if (WEXITSTATUS(status) != 0) {
        fprintf(stderr, "%s (process %d) ended with exit code %d\n", child->name, pid,
                WEXITSTATUS(status));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool rml_child_join(struct rml_children *children, uint32_t index, int64_t wait_ns)
{
    struct rml_child *child = &children->child[index];
    const int64_t end = now_ns() + wait_ns;
    while (!child->ended) {
        int64_t left = end - now_ns();
        if (left <= 0) {
            rml_child_signal(child, SIGKILL);
            left = SECOND;
        }
        if (rml_children_wait(children, left) == RML_CHILDREN_SIGNALLED)
            rml_child_signal(child, SIGTERM);
    }
    return ended_well(child);
}
