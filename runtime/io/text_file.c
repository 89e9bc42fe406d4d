#include "runtime/io/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"

#define BUFFER_BYTES  ((size_t)256 << 10)
#define LOCK_TRIES    200
#define LOCK_PAUSE_NS 10000000

// A pipe that nobody reads would hold up who opens it, deaf to signals, until somebody does.
static int open_path(const char *path, struct rml_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    int rc = fd < 0 || fcntl(fd, F_SETFL, 0) < 0 ? -errno : 0;
    if (rc == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    struct stat status;
    if (rc == -ENOENT)
        return RML_FAIL(err, rc, "%.300s: the folder it should lie in is not there", path);
    if (rc == -ENXIO && stat(path, &status) == 0 && S_ISFIFO(status.st_mode))
        return RML_FAIL(err, rc, "%.300s: nobody reads this pipe: start who does first", path);
    return RML_FAIL(err, rc, "%.300s: %s", path, strerror(-rc));
}

/*
 * Two that write to one file would write over each other, under whatever names they know it, and so would a
 * sink that is given the file of a state: that is locked, too. The lock goes with the process; one that was
 * killed a moment ago may take a while to go.
 */
static int lock(const struct rml_text_file *file, const char *path, struct rml_err *err)
{
    for (int i = 0; file->is_regular && flock(file->fd, LOCK_EX | LOCK_NB) < 0; i++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return 0;  // not every file system can
        if (i == LOCK_TRIES)
            return RML_FAIL(err, -EBUSY,
                            "%.300s is written to already, by another sink or another process: "
                            "choose another path",
                            path);
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
    return 0;
}

static char *folder_of(const char *path)
{
    char *copy = strdup(path);
    char *folder = copy != NULL ? strdup(dirname(copy)) : NULL;
    free(copy);
    return folder;
}

static int open_file(struct rml_text_file *file, const char *path, size_t row_bytes_max,
                     struct rml_err *err)
{
    *file = RML_TEXT_FILE_CLOSED;
    file->is_ours = strcmp(path, "-") != 0;
    int fd = file->is_ours ? open_path(path, err) : STDOUT_FILENO;
    if (fd < 0)
        return fd;
    file->fd = fd;
    struct stat status;
    file->is_regular = file->is_ours && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    int rc = lock(file, path, err);
    if (rc < 0) {
        rml_text_file_close(file);
        return rc;
    }
    file->room = row_bytes_max > BUFFER_BYTES ? row_bytes_max : BUFFER_BYTES;
    file->buffer = malloc(file->room);
    file->folder = file->is_regular ? folder_of(path) : NULL;
    if (file->buffer != NULL && (file->folder != NULL || !file->is_regular))
        return 0;
    rml_text_file_close(file);
    return RML_FAIL(err, -ENOMEM, "%.300s: no memory for a buffer", path);
}

static int cut(struct rml_text_file *file, uint64_t bytes)
{
    if (ftruncate(file->fd, (off_t)bytes) < 0 || lseek(file->fd, (off_t)bytes, SEEK_SET) < 0)
        return -errno;
    file->bytes = bytes;
    return 0;
}

int rml_text_file_open(struct rml_text_file *file, const char *path, size_t row_bytes_max,
                       struct rml_err *err)
{
    int rc = open_file(file, path, row_bytes_max, err);
    if (rc < 0 || !file->is_regular)
        return rc;
    rc = cut(file, 0);
    if (rc == 0)
        return 0;
    rml_text_file_close(file);
    return RML_FAIL(err, rc, "%.300s: cannot be emptied: %s", path, strerrordesc_np(-rc));
}

// How much of so many bytes is whole lines. Where that cannot be read: all of it.
static uint64_t whole_lines(const char *path, uint64_t bytes)
{
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    uint64_t end = bytes;
    while (fd >= 0 && end > 0) {
        size_t count = end < sizeof text ? (size_t)end : sizeof text;
        if (pread(fd, text, count, (off_t)(end - count)) != (ssize_t)count) {
            end = bytes;
            break;
        }
        const char *last = memrchr(text, '\n', count);
        if (last != NULL) {
            end -= count - (size_t)(last + 1 - text);
            break;
        }
        end -= count;
    }
    if (fd >= 0)
        close(fd);
    return end;
}

int rml_text_file_resume(struct rml_text_file *file, const char *path, size_t row_bytes_max,
                         uint64_t bytes, struct rml_err *err)
{
    int rc = open_file(file, path, row_bytes_max, err);
    if (rc < 0)
        return rc;
    file->bytes = bytes;
    struct stat status;
    if (!file->is_regular || fstat(file->fd, &status) < 0)
        return 0;
    if ((uint64_t)status.st_size < bytes)
        file->bytes = whole_lines(path, (uint64_t)status.st_size);
    file->missing = bytes - file->bytes;
    rc = cut(file, file->bytes);
    if (rc == 0)
        return 0;
    rml_text_file_close(file);
    return RML_FAIL(err, rc, "%.300s: cannot go on with it: %s", path, strerrordesc_np(-rc));
}

static int write_some(const struct rml_text_file *file, size_t *at)
{
    ssize_t put = write(file->fd, file->buffer + *at, file->used - *at);
    if (put >= 0) {
        *at += (size_t)put;
        return 0;
    }
    if (errno == EINTR)
        return 0;
    if (errno != EAGAIN)
        return -errno;
    // Standard output is whatever we were given; another program may have made it non-blocking.
    struct pollfd room = {.fd = file->fd, .events = POLLOUT};
    poll(&room, 1, -1);
    return 0;
}

// A disk that is full takes a part: the rows of this buffer come together, or none of them.
static int write_all(struct rml_text_file *file)
{
    int rc = file->is_torn ? cut(file, file->bytes) : 0;
    for (size_t at = 0; at < file->used && rc == 0;)
        rc = write_some(file, &at);
    if (rc < 0) {
        file->is_torn = file->is_regular && cut(file, file->bytes) < 0;
        return rc;
    }
    file->is_torn = false;
    file->bytes += file->used;
    file->used = 0;
    file->rows_held = 0;
    return 0;
}

int rml_text_file_try(struct rml_text_file *file)
{
    RML_CHECK(file->is_regular && file->error == 0);
    return write_all(file);
}

uint32_t rml_text_file_flush(struct rml_text_file *file)
{
    if (file->error == 0)
        file->error = write_all(file);
    uint32_t lost = file->error != 0 ? file->rows_held : 0;
    file->used = 0;
    file->rows_held = 0;
    return lost;
}

/*
 * Once: a name that was flushed stays. A folder that may be written and not read has its file system flushed as a
 * whole.
 */
static int flush_name(struct rml_text_file *file)
{
    if (file->folder == NULL)
        return 0;
    int fd = open(file->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    int rc = fd >= 0 ? fsync(fd) : syncfs(file->fd);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (rc < 0 && error != EINVAL && error != EROFS)
        return -error;
    free(file->folder);
    file->folder = NULL;
    return 0;
}

void rml_text_file_sync(struct rml_text_file *file)
{
    // pipes and terminals have nothing to sync
    if (file->is_ours && fdatasync(file->fd) < 0 && errno != EINVAL && errno != EROFS)
        file->error = -errno;
    int rc = flush_name(file);
    if (file->error == 0)
        file->error = rc;
}

char *rml_text_file_room(struct rml_text_file *file, size_t bytes)
{
    RML_CHECK(bytes <= file->room - file->used);
    return file->buffer + file->used;
}

void rml_text_file_commit(struct rml_text_file *file, size_t bytes, uint32_t rows)
{
    RML_CHECK(bytes <= file->room - file->used);
    file->used += bytes;
    file->rows_held += rows;
}

uint32_t rml_text_file_close(struct rml_text_file *file)
{
    uint32_t lost = 0;
    if (file->fd >= 0) {
        lost = rml_text_file_flush(file);
        if (file->is_ours)
            close(file->fd);
    }
    free(file->folder);
    free(file->buffer);
    *file = RML_TEXT_FILE_CLOSED;
    return lost;
}
