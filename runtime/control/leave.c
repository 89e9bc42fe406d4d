#include "runtime/control/leave.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "runtime/base/endings.h"
#include "runtime/control/claim.h"

static struct rml_claim *leaving;
static pid_t obeyed;
static volatile sig_atomic_t asked;

// Closing a claim is unlink, rmdir and close, which a handler may call.
static void leave(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)context;
    if (obeyed != 0 && info->si_pid != obeyed)
        return;
    if (!asked) {
        asked = 1;
        return;
    }
    static const char sentence[] = "ringmill: leaving, although not all results are written\n";
    if (leaving != NULL)
        rml_claim_close(leaving);
    (void)!write(STDERR_FILENO, sentence, sizeof sentence - 1);
    _exit(1);
}

static void mask(int how)
{
    sigset_t set;
    rml_endings(&set);
    pthread_sigmask(how, &set, NULL);
}

void rml_leave_on_signal(struct rml_claim *claim, pid_t sender, bool signalled)
{
    leaving = claim;
    obeyed = sender;
    asked = signalled;
    sigset_t set;
    rml_endings(&set);
    struct sigaction action = {
        .sa_sigaction = leave, .sa_mask = set, .sa_flags = SA_RESTART | SA_SIGINFO};
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (sigismember(&set, numbers[i]))
            sigaction(numbers[i], &action, NULL);
    }
    mask(SIG_UNBLOCK);
}

void rml_leave_off(void)
{
    mask(SIG_BLOCK);
}
