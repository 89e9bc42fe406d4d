/*
 * reader - a process that looks at the catalog in a folder and stands still, so that no page it sees comes free.
 */
#ifndef RML_TESTS_READER_H
#define RML_TESTS_READER_H

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/checkpoint/catalog.h"
#include "tests/support/test.h"

/* Start one; it looks by the time this returns. */
static inline pid_t reader_start(const char *folder)
{
    int tell[2];
    assert_int_equal(pipe(tell), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rml_catalog *seen;
        struct rml_catalog_view *view;
        if (rml_catalog_open_reading(&seen, folder, NULL) < 0
            || rml_catalog_look(seen, &view, NULL) < 0 || write(tell[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(tell[1]);
    char byte;
    assert_int_equal(read(tell[0], &byte, 1), 1);
    close(tell[0]);
    return child;
}

/* Kill it. */
static inline void reader_end(pid_t reader)
{
    kill(reader, SIGKILL);
    waitpid(reader, NULL, 0);
}

#endif
