#include "tools/standard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/exit.h"

static int
    why;  // the errno of the first flush that failed; 0: none has; what printf could not write fails again in a flush, mostly

void rml_standard_open(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        // the lowest number that is free, which is this one; the wrong way round, so that uses fail
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            _exit(RML_EXIT_FAILED);
    }
}

bool rml_standard_is_written(void)
{
    bool is_flushed = fflush(stdout) == 0;
    if (!is_flushed && why == 0)
        why = errno;
    return is_flushed && ferror(stdout) == 0;
}

int rml_standard_end(const char *program, int code)
{
    if (rml_standard_is_written())
        return code;
    fprintf(stderr, "%s: standard output cannot be written%s%s\n", program, why != 0 ? ": " : "",
            why != 0 ? strerrordesc_np(why) : "");
    return code == RML_EXIT_OK ? RML_EXIT_FAILED : code;
}
