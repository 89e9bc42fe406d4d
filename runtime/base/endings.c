#include "runtime/base/endings.h"

#include <stddef.h>

void rml_endings(sigset_t *set)
{
    struct sigaction hangup;
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, rml_ending_passed_on());
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(set, SIGHUP);
}

int rml_ending_passed_on(void)
{
    return SIGRTMIN;
}
