#include "tools/guard.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/exit.h"

static char sentence[700];
static size_t sentence_bytes;

static void say_and_exit(int number)
{
    (void)number;
    ssize_t said = write(STDERR_FILENO, sentence, sentence_bytes);
    (void)said;
    _exit(RML_EXIT_FAILED);
}

void rml_guard_catalog(const char *folder)
{
    int length = snprintf(sentence, sizeof sentence,
                          "ringctl: %.300s: reading its catalog led out of the file: it is damaged "
                          "(or this program is wrong; `ringctl checkpoint verify` of the folder, "
                          "once the pipeline is stopped, tells)\n",
                          folder);
    sentence_bytes = (size_t)length < sizeof sentence ? (size_t)length : sizeof sentence - 1;
    struct sigaction action = {.sa_handler = say_and_exit, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
}
