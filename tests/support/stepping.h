/*
 * stepping - a process that is killed after so many instructions: the moments of a death, one by one.
 *
 * Linux on machines whose kernel single-steps (ptrace). Where that is not allowed, rml_stepping_able says so.
 */
#ifndef RML_TESTS_STEPPING_H
#define RML_TESTS_STEPPING_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/check.h"

/* Fork, have the child do `what`, and kill it after `steps` instructions of that. Returns whether it was done by then. */
static inline bool rml_stepping(void (*what)(void), uint64_t steps)
{
    pid_t child = fork();
    RML_CHECK(child >= 0);
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(2);
        raise(SIGSTOP);
        what();
        _exit(0);
    }
    int status = 0;
    RML_CHECK(waitpid(child, &status, 0) == child);
    for (uint64_t i = 0; i < steps && WIFSTOPPED(status); i++) {
        RML_CHECK(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
        RML_CHECK(waitpid(child, &status, 0) == child);
    }
    if (WIFEXITED(status)) {
        RML_CHECK(WEXITSTATUS(status) == 0);
        return true;
    }
    kill(child, SIGKILL);
    while (!WIFSIGNALED(status))
        RML_CHECK(waitpid(child, &status, 0) == child);
    return false;
}

static inline bool rml_stepping_able(void)
{
    pid_t child = fork();
    RML_CHECK(child >= 0);
    if (child == 0)
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0);
    int status = 0;
    RML_CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#endif
