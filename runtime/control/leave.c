#include "runtime/control/leave.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "runtime/control/claim.h"

static struct rml_claim *leaving;
static volatile sig_atomic_t asked;

// Closing a claim is unlink, rmdir and close, which a handler may call.
static void leave(int signal_number)
{
    (void)signal_number;
    if (!asked) {
        asked = 1;
        return;
    }
    static const char sentence[] = "ringmill: leaving, although not all results are written\n";
    rml_claim_close(leaving);
    (void)!write(STDERR_FILENO, sentence, sizeof sentence - 1);
    _exit(1);
}

static void mask(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(how, &set, NULL);
}

void rml_leave_on_signal(struct rml_claim *claim, bool signalled)
{
    leaving = claim;
    asked = signalled;
    struct sigaction action = {.sa_handler = leave, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    mask(SIG_UNBLOCK);
}

void rml_leave_off(void)
{
    mask(SIG_BLOCK);
}
