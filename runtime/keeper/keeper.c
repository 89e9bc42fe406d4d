#include "runtime/keeper/keeper.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/endings.h"
#include "runtime/base/err.h"
#include "runtime/base/parcel.h"
#include "runtime/keeper/keeping.h"
#include "runtime/keeper/note.h"
#include "runtime/keeper/store.h"
#include "runtime/time/clock.h"

#define PAUSE_LEAST_NS INT64_C(100000000)  // before the third start; the second is at once
#define PAUSE_MOST_NS  INT64_C(5000000000)
#define ANSWER_S       5  // after which an engine no longer waits for us

struct rml_keeper {
    struct rml_keeper_options options;
    struct rml_store store;
    struct rml_note *note;
    int signals;       // signalfd
    sigset_t before;   // what was blocked before
    int channel;       // to the engine; -1: there is none
    pid_t engine;      // 0: there is none
    int status;        // of the last one
    uint32_t asked;    // signals that ask for the end
    bool is_ending;    // somebody has asked an engine for it
    int64_t pause_ns;  // that the next engine is to wait out
    bool is_ready;     // the engine serves
    bool has_babbled;  // it said what cannot be
    uint32_t deaths;
    int64_t *died_ns;  // when the last restarts_most + 1 engines died, in turn
    struct rml_death last;
};

static int64_t now_ns(void)
{
    return rml_clock_system.monotonic_ns(rml_clock_system.context);
}

__attribute__((format(printf, 2, 3))) static void say(const struct rml_keeper *k,
                                                      const char *format, ...)
{
    char sentence[600];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    k->options.say(k->options.context, sentence);
}

/* What the engine says */

static void answer(const struct rml_keeper *k, uint64_t sequence, int rc)
{
    const struct rml_keeper_answer message = {.sequence = sequence, .rc = rc};
    // one that does not read its answers does not get them
    (void)rml_parcel_send(k->channel, &message, sizeof message, NULL, 0, MSG_DONTWAIT);
}

// Read one message: 1; 0 when there is none, and -1 when there will be none any more.
static int hear(struct rml_keeper *k)
{
    struct rml_keeper_message message;
    int fds[RML_KEPT_FDS_MAX];
    uint32_t fd_count = 0;
    ptrdiff_t got = rml_parcel_receive(k->channel, &message, sizeof message, fds, RML_KEPT_FDS_MAX,
                                       &fd_count, MSG_DONTWAIT);
    if (got == -ECONNRESET)
        return 1;  // it died with answers unread, which is told once, before what it had said
    if (got == 0 || got == -EAGAIN)
        return got == 0 ? -1 : 0;
    int rc = got < 0 ? (int)got : rml_store_obey(&k->store, &message, (size_t)got, fds, fd_count);
    bool is_whole = got == (ptrdiff_t)sizeof message;
    if (is_whole && message.request == RML_KEEPER_PUT)
        answer(k, message.sequence, rc);
    if (is_whole && rc == 0 && message.request == RML_KEEPER_READY) {
        k->is_ready = true;
        k->options.paused(k->options.context, NULL);
    }
    k->is_ending |= is_whole && rc == 0 && message.request == RML_KEEPER_ENDING;
    if (rc < 0 && !k->has_babbled)
        say(k, "the engine asked its keeper for what cannot be (%s); it is ignored",
            strerrordesc_np(-rc));
    k->has_babbled = k->has_babbled || rc < 0;
    return 1;
}

/* Signals */

static void read_signals(struct rml_keeper *k)
{
    struct signalfd_siginfo info;
    while (read(k->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            continue;
        k->asked++;
        if (k->engine > 0)
            kill(k->engine,
                 rml_ending_passed_on());  // not waited for yet, so the number is still its own
    }
}

/* The engine */

// In the child: what is the keeper's alone is closed, what is kept is the engine's.
static int become_engine(struct rml_keeper *k, int channel, pid_t keeper,
                         struct rml_keeping **ret_keeping, struct rml_err *err)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper)
        _exit(1);  // it died before it could be told
    prctl(PR_SET_NAME, "ringmill-engine");
    const struct timeval limit = {.tv_sec = ANSWER_S};
    struct rml_keeping *keeping = calloc(1, sizeof *keeping);
    if (keeping == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for an engine");
    if (setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0
        || setsockopt(channel, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
        RML_UNREACHABLE("a socket has time limits");
    rml_note_listen(k->note);
    *keeping = (struct rml_keeping){.socket = channel,
                                    .keeper = keeper,
                                    .deaths = k->deaths,
                                    .last = k->last,
                                    .asked = k->asked,
                                    .pause_ns = k->pause_ns,
                                    .store = k->store};
    k->store = (struct rml_store){.list = NULL};
    k->note = NULL;  // stays mapped
    sigset_t blocked;
    rml_endings(&blocked);
    sigorset(&blocked, &blocked, &k->before);
    // in one step: a signal that is passed on between two would end it
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    *ret_keeping = keeping;
    return 1;
}

static int start_engine(struct rml_keeper *k, struct rml_keeping **ret_keeping, struct rml_err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        int rc = -errno;
        return RML_FAIL(err, rc, "socketpair: %s", strerrordesc_np(-rc));
    }
    fflush(NULL);  // else both would write what is in the buffers
    pid_t keeper = getpid();
    pid_t engine = fork();
    if (engine < 0) {
        int rc = -errno;
        close(pair[0]);
        close(pair[1]);
        return RML_FAIL(err, rc, "cannot start an engine: %s", strerrordesc_np(-rc));
    }
    if (engine == 0) {
        close(pair[0]);
        return become_engine(k, pair[1], keeper, ret_keeping, err);
    }
    close(pair[1]);
    k->channel = pair[0];
    k->engine = engine;
    k->is_ready = k->has_babbled = false;
    return 0;
}

static bool has_ended(struct rml_keeper *k)
{
    return waitpid(k->engine, &k->status, WNOHANG) == k->engine;
}

// Look after the engine until it is dead, and what it said before that is heard.
static void look_after(struct rml_keeper *k)
{
    bool hangs_up = false;
    while (!has_ended(k)) {
        struct pollfd fds[2] = {{.fd = k->signals, .events = POLLIN},
                                {.fd = hangs_up ? -1 : k->channel, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents != 0)
            read_signals(k);
        if (fds[1].revents != 0)
            hangs_up = hear(k) < 0;
    }
    k->engine = 0;
    while (hear(k) > 0)
        continue;
    close(k->channel);
    k->channel = -1;
}

/* Deaths */

// Was that an end, and not a death? An engine that could not start has said why, and would not the next
// time either; one that comes after a death had already started once.
static bool is_end(const struct rml_keeper *k)
{
    if (!WIFEXITED(k->status))
        return false;
    return k->deaths == 0 || k->is_ready || WEXITSTATUS(k->status) == 0;
}

static void note_death(struct rml_keeper *k, pid_t engine)
{
    char words[RML_NOTE_TEXT];
    struct rml_death *death = &k->last;
    rml_note_take(k->note, words);
    *death = (struct rml_death){.wall_ns = rml_clock_system.wall_ns(rml_clock_system.context),
                                .pid = (uint32_t)engine};
    if (WIFSIGNALED(k->status)) {
        int number = WTERMSIG(k->status);
        const char *name = sigabbrev_np(number);
        snprintf(death->why, sizeof death->why, "SIG%s%s%s", name != NULL ? name : "?",
                 words[0] != '\0' ? ": " : "", words);
    } else {
        snprintf(death->why, sizeof death->why, "it could not come up again (exit code %d)%s%s",
                 WEXITSTATUS(k->status), words[0] != '\0' ? ": " : "", words);
    }
    k->died_ns[k->deaths % (k->options.restarts_most + 1)] = now_ns();
    k->deaths++;
}

// How many of the deaths that are remembered are not longer ago than within_ns.
static uint32_t recent_deaths(const struct rml_keeper *k)
{
    uint32_t remembered = k->options.restarts_most + 1, recent = 0;
    int64_t now = now_ns();
    for (uint32_t i = 0; i < remembered && i < k->deaths; i++)
        recent += now - k->died_ns[i] <= k->options.within_ns;
    return recent;
}

static int64_t pause_before(uint32_t recent)
{
    if (recent <= 1)
        return 0;
    int64_t pause_ns = PAUSE_LEAST_NS;
    for (uint32_t i = 2; i < recent && pause_ns < PAUSE_MOST_NS; i++)
        pause_ns *= 2;
    return pause_ns < PAUSE_MOST_NS ? pause_ns : PAUSE_MOST_NS;
}

// What to do about a death: 0 when the engine is to be started again, for which k->pause_ns is set.
static int get_over(struct rml_keeper *k, pid_t engine, struct rml_err *err)
{
    note_death(k, engine);
    rml_store_mark(&k->store);
    uint32_t recent = recent_deaths(k);
    if (k->asked > 1)
        return RML_FAIL(err, -EOWNERDEAD, "the engine (process %d) died as it was to stop: %s",
                        (int)engine, k->last.why);
    if (WIFEXITED(k->status) && (k->asked > 0 || k->is_ending))
        return RML_FAIL(
            err, -EOWNERDEAD,
            "asked to end, and the engine that was started again for that (process %d) is the last: %s",
            (int)engine, k->last.why);
    if (recent > k->options.restarts_most)
        return RML_FAIL(err, -EOWNERDEAD,
                        "the engine died %u times within %" PRId64
                        " s, the last one (process %d) of %s: it is not started again",
                        recent, k->options.within_ns / 1000000000, (int)engine, k->last.why);
    k->pause_ns = pause_before(recent);
    char when[40] = "now";
    if (k->pause_ns > 0)
        snprintf(when, sizeof when, "in %" PRId64 " ms", k->pause_ns / 1000000);
    k->options.paused(k->options.context, k->last.why);
    say(k, "the engine (process %d) has died: %s; it is started again %s", (int)engine, k->last.why,
        when);
    return 0;
}

/* Life */

int rml_keeper_open(struct rml_keeper **ret_keeper, const struct rml_keeper_options *options,
                    struct rml_err *err)
{
    RML_CHECK(options->restarts_most <= RML_KEEPER_RESTARTS_MAX);
    struct rml_keeper *k = calloc(1, sizeof *k);
    if (k == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a keeper");
    k->options = *options;
    k->channel = -1;
    signal(SIGCHLD, SIG_DFL);  // ignored, it would bury the dead before we know how they died
    sigset_t set;
    rml_endings(&set);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, &k->before);
    k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    k->died_ns = calloc(options->restarts_most + 1, sizeof *k->died_ns);
    int rc = 0;
    if (k->signals < 0)
        rc = RML_FAIL(err, -errno, "cannot watch signals: %s", strerrordesc_np(errno));
    else if (k->died_ns == NULL || rml_store_open(&k->store) < 0)
        rc = RML_FAIL(err, -ENOMEM, "no memory for a keeper");
    else
        rc = rml_note_open(&k->note, err);
    if (rc < 0) {
        rml_keeper_close(k);
        return rc;
    }
    *ret_keeper = k;
    return 0;
}

int rml_keeper_run(struct rml_keeper *k, struct rml_keeping **ret_keeping, int *ret_code,
                   struct rml_err *err)
{
    for (;;) {
        int rc = start_engine(k, ret_keeping, err);
        if (rc != 0)
            return rc;
        pid_t engine = k->engine;
        look_after(k);
        if (is_end(k)) {
            *ret_code = WEXITSTATUS(k->status);
            return 0;
        }
        rc = get_over(k, engine, err);
        if (rc < 0)
            return rc;
    }
}

void rml_keeper_close(struct rml_keeper *k)
{
    if (k == NULL)
        return;
    rml_store_close(&k->store);
    rml_note_close(k->note);
    if (k->signals >= 0)
        close(k->signals);
    free(k->died_ns);
    free(k);
}
