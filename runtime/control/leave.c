#include "runtime/control/leave.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "runtime/base/endings.h"
#include "runtime/control/claim.h"

static struct rml_claim *leaving;
static bool is_kept;
static volatile sig_atomic_t asked;

// Closing a claim is unlink, rmdir and close, which a handler may call.
static void leave(int signal_number)
{
    if (is_kept && signal_number != rml_ending_passed_on())
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

void rml_leave_on_signal(struct rml_claim *claim, bool has_keeper, bool signalled)
{
    leaving = claim;
    is_kept = has_keeper;
    asked = signalled;
    sigset_t set;
    rml_endings(&set);
    struct sigaction action = {.sa_handler = leave, .sa_mask = set, .sa_flags = SA_RESTART};
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP, rml_ending_passed_on()};
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
