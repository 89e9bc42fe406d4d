#include "tools/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/err.h"

/* Room for the longest line and a read of good size behind it. */
#define BUFFER_BYTES (RML_LINE_MAX + (256u << 10))

struct rml_lines {
    int fd;
    bool at_end;    // read() has said so
    bool skipping;  // inside the rest of a line that was cut
    uint64_t number;
    uint64_t bytes, size;
    size_t begin, end;  // what of `buffer` is still to be given out
    const char *name;
    char buffer[BUFFER_BYTES + 1];  // one more for the line feed that a last line may lack
};

int rml_lines_open(struct rml_lines **ret_lines, const char *path, struct rml_err *err)
{
    struct rml_lines *lines = malloc(sizeof *lines);
    if (lines == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to read %s", path);
    memset(lines, 0, offsetof(struct rml_lines, buffer));  // the buffer is filled by reading alone
    lines->name = path;
    if (strcmp(path, "-") == 0) {
        lines->name = "standard input";
        lines->fd = STDIN_FILENO;
    } else {
        lines->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (lines->fd < 0) {
            int code = -errno;
            free(lines);
            return RML_FAIL(err, code, "cannot open %s: %s", path, strerror(-code));
        }
    }
    struct stat stat;
    if (fstat(lines->fd, &stat) == 0 && S_ISREG(stat.st_mode))
        lines->size = (uint64_t)stat.st_size;
    *ret_lines = lines;
    return 0;
}

void rml_lines_close(struct rml_lines *lines)
{
    if (lines == NULL)
        return;
    if (lines->fd != STDIN_FILENO)
        close(lines->fd);
    free(lines);
}

/* Read more behind what is there; 1, 0 at the end, or a negative errno. */
static int lines_fill(struct rml_lines *lines, struct rml_err *err)
{
    if (lines->at_end)
        return 0;
    if (lines->begin > 0) {
        memmove(lines->buffer, lines->buffer + lines->begin, lines->end - lines->begin);
        lines->end -= lines->begin;
        lines->begin = 0;
    }
    ssize_t got;
    do
        got = read(lines->fd, lines->buffer + lines->end, BUFFER_BYTES - lines->end);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return RML_FAIL(err, -errno, "cannot read %s: %s", lines->name, strerror(errno));
    if (got == 0) {
        lines->at_end = true;
        return 0;
    }
    if (lines->bytes == 0 && got >= 3 && memcmp(lines->buffer, "\xef\xbb\xbf", 3) == 0)
        lines->begin = 3;
    lines->bytes += (uint64_t)got;
    lines->end += (size_t)got;
    return 1;
}

/* Drop what is left of a line that was cut; 1 when its end was found, 0 at the end of the file. */
static int lines_skip(struct rml_lines *lines, struct rml_err *err)
{
    for (;;) {
        char *from = lines->buffer + lines->begin;
        char *feed = memchr(from, '\n', lines->end - lines->begin);
        if (feed != NULL) {
            lines->begin = (size_t)(feed - lines->buffer) + 1;
            lines->skipping = false;
            return 1;
        }
        lines->begin = lines->end;
        int rc = lines_fill(lines, err);
        if (rc <= 0)
            return rc;
    }
}

int rml_lines_next(struct rml_lines *lines, struct rml_line *line, struct rml_err *err)
{
    if (lines->skipping) {
        int rc = lines_skip(lines, err);
        if (rc <= 0)
            return rc;
    }
    size_t seen = 0;  // bytes after begin that hold no line feed
    for (;;) {
        char *from = lines->buffer + lines->begin;
        size_t there = lines->end - lines->begin;
        char *feed = memchr(from + seen, '\n', there - seen);
        bool cut = (feed == NULL ? there : (size_t)(feed - from)) > RML_LINE_MAX;
        if (feed == NULL && !cut) {
            seen = there;
            int rc = lines_fill(lines, err);
            if (rc < 0)
                return rc;
            if (rc > 0)
                continue;
            if (there == 0)
                return 0;
            from = lines->buffer + lines->begin;
            feed = from + there;  // the last line has no end of its own
        }
        if (cut) {
            lines->skipping = true;
            feed = from + RML_LINE_MAX;
        }
        *feed = '\n';
        size_t length = (size_t)(feed - from);
        *line = (struct rml_line){
            .text = from, .length = length, .number = ++lines->number, .cut = cut};
        lines->begin += length + 1;
        if (lines->begin > lines->end)
            lines->begin = lines->end;
        return 1;
    }
}

bool rml_line_is_blank(const struct rml_line *line)
{
    for (size_t i = 0; i < line->length; i++) {
        if (line->text[i] != ' ' && line->text[i] != '\t' && line->text[i] != '\r')
            return false;
    }
    return true;
}

uint64_t rml_lines_bytes(const struct rml_lines *lines)
{
    return lines->bytes - (lines->end - lines->begin);
}

uint64_t rml_lines_size(const struct rml_lines *lines)
{
    return lines->size;
}
