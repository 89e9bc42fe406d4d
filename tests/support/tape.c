#undef _FORTIFY_SOURCE  // libc's own definitions of these, inline
#include "tests/support/tape.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <liburing.h>

#include "runtime/base/check.h"

#define EXPORT    __attribute__((visibility("default")))
#define FILES_MAX 16
#define NOWHERE   (-1)
#define DOORS     8  // two disks are open at a time; those of killed processes are not closed

static struct tape tape;
static bool is_recording;
static char folder[256];

static struct {
    char name[32];
    dev_t device;
    ino_t inode;
    bool is_extents;
} files[FILES_MAX];

static struct tape_fault fault;
static bool is_armed;
static uint32_t fault_calls, fault_met;
static const int *ring_results;
static uint32_t ring_result_count, ring_setups;
static bool direct_is_refused;

void (*tape_watcher)(enum tape_call call, int fd, bool is_done);

static void tell(enum tape_call call, int fd, bool is_done)
{
    if (tape_watcher != NULL)
        tape_watcher(call, fd, is_done);
}

static size_t put(struct tape_event event)
{
    if (!is_recording)
        return 0;
    if (tape.count == tape.room) {
        tape.room = tape.room == 0 ? 1024 : 2 * tape.room;
        tape.events = realloc(tape.events, tape.room * sizeof event);
        RML_CHECK(tape.events != NULL);
    }
    tape.events[tape.count] = event;
    return tape.count++;
}

static size_t put_write(int file, const void *data, uint32_t bytes, uint64_t offset)
{
    if (!is_recording || file == NOWHERE)
        return 0;
    unsigned char *copy = malloc(bytes);
    RML_CHECK(copy != NULL);
    memcpy(copy, data, bytes);
    return put((struct tape_event){
        .kind = TAPE_WRITE, .file = file, .bytes = bytes, .offset = offset, .data = copy});
}

static void put_end(enum tape_kind kind, int file, size_t of)
{
    if (file != NOWHERE)
        put((struct tape_event){.kind = kind, .file = file, .of = of});
}

void tape_start(const char *path)
{
    tape = (struct tape){0};
    memset(files, 0, sizeof files);
    snprintf(folder, sizeof folder, "%s/", path);
    is_recording = true;
}

struct tape tape_stop(void)
{
    is_recording = false;
    return tape;
}

void tape_free(struct tape *done)
{
    for (size_t i = 0; i < done->count; i++)
        free(done->events[i].data);
    free(done->events);
    *done = (struct tape){0};
}

void tape_mark(uint64_t mark)
{
    put((struct tape_event){.kind = TAPE_MARK, .mark = mark});
}

void tape_arm(struct tape_fault wanted)
{
    fault = wanted;
    if (fault.times == 0)
        fault.times = 1;
    is_armed = true;
    fault_calls = fault_met = 0;
}

uint32_t tape_fault_met(void)
{
    return fault_met;
}

void tape_disarm(void)
{
    is_armed = direct_is_refused = false;
    ring_result_count = 0;
}

void tape_ring_setups(const int *results, uint32_t count)
{
    ring_results = results;
    ring_result_count = count;
    ring_setups = 0;
}

uint32_t tape_ring_setups_met(void)
{
    return ring_setups;
}

void tape_refuse_direct(bool refuse)
{
    direct_is_refused = refuse;
}

// Does the armed fault strike this call?
static bool strikes(enum tape_where where, bool is_flush)
{
    if (!is_armed || fault.where != where || fault.is_flush != is_flush)
        return false;
    uint32_t call = fault_calls++;
    if (call < fault.after || call - fault.after >= fault.times)
        return false;
    fault_met++;
    return true;
}

/* The door of the extents, and of the journal. */

static int file_of(int fd)
{
    struct stat about;
    if (!is_recording || fstat(fd, &about) < 0)
        return NOWHERE;
    for (int i = 0; i < tape.files; i++)
        if (files[i].device == about.st_dev && files[i].inode == about.st_ino
            && files[i].inode != 0)
            return i;
    return NOWHERE;
}

static struct door {
    const struct rml_disk *disk;  // NULL: none
    uint64_t since;
    const struct rml_disk_way *inner;
    struct rml_disk_done refused[RML_DISK_DEPTH];
    uint32_t refused_count;
    size_t begun[RML_DISK_DEPTH];  // the event of each buffer's write
    bool is_unsure[RML_DISK_DEPTH];
} doors[DOORS];

static int find_door(const struct rml_disk *disk)
{
    int i = 0;
    while (i < DOORS && doors[i].disk != disk)
        i++;
    return i;
}

static struct door *door_of(const struct rml_disk *disk)
{
    int i = find_door(disk);
    RML_CHECK(i < DOORS);
    return &doors[i];
}

// One that was closed; else the oldest, which is of a process that was killed.
static struct door *new_door(void)
{
    int free = find_door(NULL), oldest = 0;
    for (int i = 1; i < DOORS; i++)
        if (doors[i].since < doors[oldest].since)
            oldest = i;
    return &doors[free < DOORS ? free : oldest];
}

static int door_start(struct rml_disk *disk, const struct rml_disk_way *inner)
{
    static uint64_t starts;
    struct door *door = find_door(disk) < DOORS ? door_of(disk) : new_door();
    *door = (struct door){.disk = disk, .since = ++starts, .inner = inner};
    return inner->start(disk);
}

static void door_stop(struct rml_disk *disk)
{
    struct door *door = door_of(disk);
    door->disk = NULL;
    door->since = 0;
    door->inner->stop(disk);
}

static int door_submit(struct rml_disk *disk, const struct rml_disk_write *write)
{
    struct door *door = door_of(disk);
    const unsigned char *data = rml_disk_memory(disk, (int)write->buffer) + write->from;
    struct rml_disk_write sent = *write;
    bool struck = strikes(TAPE_EXTENTS, false);
    if (struck && fault.how == TAPE_UNSENT)
        return -fault.error;
    if (struck && fault.how == TAPE_SHORT)
        sent.bytes /= 2;
    // A write that fails may still have arrived, in part or whole: it is on the tape in any case.
    door->begun[write->buffer] = put_write(file_of(disk->fd), data, sent.bytes, sent.offset);
    if (struck && fault.how == TAPE_NOT) {
        door->refused[door->refused_count++] =
            (struct rml_disk_done){.buffer = write->buffer, .result = -fault.error};
        return 0;
    }
    door->is_unsure[write->buffer] = struck && fault.how == TAPE_NOT_SURE;
    return door->inner->submit(disk, &sent);
}

static int door_reap(struct rml_disk *disk, struct rml_disk_done *ret_done)
{
    struct door *door = door_of(disk);
    if (door->refused_count > 0) {
        *ret_done = door->refused[--door->refused_count];
        return 0;
    }
    int rc = door->inner->reap(disk, ret_done);
    if (rc < 0)
        return rc;
    if (door->is_unsure[ret_done->buffer])
        ret_done->result = -fault.error;
    if (ret_done->result > 0)
        put_end(TAPE_WRITE_DONE, file_of(disk->fd), door->begun[ret_done->buffer]);
    return 0;
}

static int door_flush(struct rml_disk *disk)
{
    const struct door *door = door_of(disk);
    int file = file_of(disk->fd);
    size_t begun = put((struct tape_event){.kind = TAPE_FLUSH, .file = file});
    if (strikes(TAPE_EXTENTS, true)) {
        if (fault.how == TAPE_NOT_SURE)
            door->inner->flush(disk);
        put_end(TAPE_FLUSH_FAILED, file, begun);
        return -fault.error;
    }
    int rc = door->inner->flush(disk);
    put_end(rc == 0 ? TAPE_FLUSH_DONE : TAPE_FLUSH_FAILED, file, begun);
    return rc;
}

#define DOOR(way, direct)                           \
 static int door_start_##way(struct rml_disk *disk) \
 {                                                  \
  return door_start(disk, &rml_disk_way_##way);     \
 }                                                  \
                                                    \
 const struct rml_disk_way tape_##way = {           \
     .name = #way,                                  \
     .is_direct = (direct),                         \
     .start = door_start_##way,                     \
     .stop = door_stop,                             \
     .submit = door_submit,                         \
     .reap = door_reap,                             \
     .flush = door_flush,                           \
 };

DOOR(io_uring, true)
DOOR(pwrite, true)
DOOR(buffered, false)

const struct rml_disk_way *const tape_ways[] = {&tape_io_uring, &tape_pwrite, &tape_buffered, NULL};

EXPORT int io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
    ring_setups++;
    if (ring_result_count > 0) {
        ring_result_count--;
        return *ring_results++;
    }
    int (*next)(unsigned, struct io_uring *, struct io_uring_params *);
    void *symbol = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
    RML_CHECK(symbol != NULL);
    memcpy(&next, &symbol, sizeof next);
    return next(entries, ring, params);
}

/* libc's door. */

static const char *name_in_folder(const char *path)
{
    size_t length = strlen(folder);
    return is_recording && length > 0 && strncmp(path, folder, length) == 0 ? path + length : NULL;
}

static bool is_catalog(int fd)
{
    char link[64], path[300];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    const char *name = strrchr(path, '/');
    return name != NULL && strncmp(name, "/catalog.mdb", 12) == 0 && strstr(name, "lock") == NULL;
}

static void remember_file(int fd, const char *name)
{
    struct stat about;
    if (fstat(fd, &about) < 0 || !S_ISREG(about.st_mode) || file_of(fd) != NOWHERE
        || strstr(name, "lock") != NULL)
        return;
    RML_CHECK(tape.files < FILES_MAX);
    int file = tape.files++;
    snprintf(files[file].name, sizeof files[file].name, "%s", name);
    files[file].device = about.st_dev;
    files[file].inode = about.st_ino;
    files[file].is_extents = strcmp(name, "extents") == 0 || strcmp(name, "journal") == 0;
    struct tape_event event = {.kind = TAPE_CREATE, .file = file};
    snprintf(event.name, sizeof event.name, "%s", name);
    put(event);
}

EXPORT int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & O_CREAT) != 0) {
        va_list more;
        va_start(more, flags);
        mode = va_arg(more, mode_t);
        va_end(more);
    }
    if (direct_is_refused && (flags & O_DIRECT) != 0) {
        errno = EINVAL;
        return -1;
    }
    tell(TAPE_CALL_NAME, -1, false);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    int error = errno;
    const char *name = name_in_folder(path);
    if (fd >= 0 && name != NULL)
        remember_file(fd, name);
    tell(TAPE_CALL_NAME, -1, true);
    errno = error;
    return fd;
}

// A write of LMDB's, by whichever call: `data` is all of it.
static ssize_t write_recorded(int fd, const void *data, size_t bytes, off_t offset)
{
    bool struck = is_armed && is_catalog(fd) && strikes(TAPE_CATALOG, false);
    if (struck && fault.how == TAPE_SHORT)
        bytes /= 2;
    int file = file_of(fd);
    if (file != NOWHERE && files[file].is_extents)
        file = NOWHERE;  // recorded at its own door
    size_t begun = put_write(file, data, (uint32_t)bytes, (uint64_t)offset);
    if (struck && fault.how == TAPE_NOT) {
        errno = fault.error;
        return -1;
    }
    ssize_t done = syscall(SYS_pwrite64, fd, data, bytes, offset);
    if (done > 0 && file != NOWHERE) {
        RML_CHECK((size_t)done == bytes);
        bool is_synced = (fcntl(fd, F_GETFL) & O_DSYNC) != 0 && !struck;
        put_end(is_synced ? TAPE_WRITE_SYNCED : TAPE_WRITE_DONE, file, begun);
    }
    if (struck && fault.how == TAPE_NOT_SURE) {
        errno = fault.error;
        return -1;
    }
    return done;
}

static ssize_t write_at(int fd, const void *data, size_t bytes, off_t offset)
{
    tell(TAPE_CALL_WRITE, fd, false);
    ssize_t done = write_recorded(fd, data, bytes, offset);
    int error = errno;
    tell(TAPE_CALL_WRITE, fd, true);
    errno = error;
    return done;
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    return write_at(fd, data, bytes, offset);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    off_t offset = lseek(fd, 0, SEEK_CUR);
    if (offset < 0)
        return syscall(SYS_writev, fd, parts, count);
    size_t bytes = 0, at = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    unsigned char *all = malloc(bytes + 1);
    RML_CHECK(all != NULL);
    for (int i = 0; i < count; at += parts[i++].iov_len)
        memcpy(all + at, parts[i].iov_base, parts[i].iov_len);
    ssize_t done = write_at(fd, all, bytes, offset);
    int error = errno;
    free(all);
    if (done > 0)
        lseek(fd, offset + done, SEEK_SET);
    errno = error;
    return done;
}

static bool is_folder(int fd)
{
    struct stat there, about;
    return is_recording && fstat(fd, &about) == 0 && S_ISDIR(about.st_mode)
           && stat(folder, &there) == 0 && there.st_ino == about.st_ino;
}

static int flush_recorded(int fd, long number)
{
    if (is_folder(fd))
        put((struct tape_event){.kind = TAPE_FOLDER_SYNC});
    bool struck = is_armed && is_catalog(fd) && strikes(TAPE_CATALOG, true);
    int file = file_of(fd);
    if (file != NOWHERE && files[file].is_extents)
        file = NOWHERE;
    size_t begun = 0;
    if (file != NOWHERE)
        begun = put((struct tape_event){.kind = TAPE_FLUSH, .file = file});
    int rc = struck ? -1 : (int)syscall(number, fd);
    put_end(rc == 0 ? TAPE_FLUSH_DONE : TAPE_FLUSH_FAILED, file, begun);
    if (struck)
        errno = fault.error;
    return rc;
}

static int flush_of(int fd, long number)
{
    tell(TAPE_CALL_FLUSH, fd, false);
    int rc = flush_recorded(fd, number);
    int error = errno;
    tell(TAPE_CALL_FLUSH, fd, true);
    errno = error;
    return rc;
}

EXPORT int fdatasync(int fd)
{
    return flush_of(fd, SYS_fdatasync);
}

EXPORT int fsync(int fd)
{
    return flush_of(fd, SYS_fsync);
}

// Nobody here writes by a mapping that reaches the disk, or cuts a file that is recorded.
EXPORT int msync(void *memory, size_t bytes, int flags)
{
    RML_CHECK(!is_recording);
    return (int)syscall(SYS_msync, memory, bytes, flags);
}

EXPORT int ftruncate(int fd, off_t bytes)
{
    struct stat about;
    bool is_cut = fstat(fd, &about) < 0 || about.st_size != bytes;
    RML_CHECK(file_of(fd) == NOWHERE || !is_cut);
    tell(TAPE_CALL_CUT, fd, false);
    int rc = (int)syscall(SYS_ftruncate, fd, bytes);
    int error = errno;
    tell(TAPE_CALL_CUT, fd, true);
    errno = error;
    return rc;
}

static int file_named(const char *name)
{
    for (int i = 0; i < tape.files; i++)
        if (strcmp(files[i].name, name) == 0)
            return i;
    return NOWHERE;
}

static int rename_recorded(const char *from, const char *to)
{
    int rc = (int)syscall(SYS_rename, from, to);
    const char *old = name_in_folder(from), *new = name_in_folder(to);
    int file = rc == 0 && old != NULL ? file_named(old) : NOWHERE;
    if (file != NOWHERE && new != NULL) {
        struct tape_event event = {.kind = TAPE_RENAME, .file = file};
        snprintf(event.name, sizeof event.name, "%s", old);
        snprintf(event.to, sizeof event.to, "%s", new);
        snprintf(files[file].name, sizeof files[file].name, "%s", new);
        put(event);
    }
    return rc;
}

EXPORT int rename(const char *from, const char *to)
{
    tell(TAPE_CALL_NAME, -1, false);
    int rc = rename_recorded(from, to);
    int error = errno;
    tell(TAPE_CALL_NAME, -1, true);
    errno = error;
    return rc;
}

static int unlink_recorded(const char *path)
{
    int rc = (int)syscall(SYS_unlink, path);
    const char *name = name_in_folder(path);
    int file = rc == 0 && name != NULL ? file_named(name) : NOWHERE;
    if (file != NOWHERE) {
        struct tape_event event = {.kind = TAPE_REMOVE, .file = file};
        snprintf(event.name, sizeof event.name, "%s", name);
        files[file].inode = 0;
        files[file].name[0] = '\0';
        put(event);
    }
    return rc;
}

EXPORT int unlink(const char *path)
{
    tell(TAPE_CALL_NAME, -1, false);
    int rc = unlink_recorded(path);
    int error = errno;
    tell(TAPE_CALL_NAME, -1, true);
    errno = error;
    return rc;
}

/* A folder as it is. */

static void put_whole(const char *name)
{
    char path[300];
    struct stat about;
    snprintf(path, sizeof path, "%.200s%.31s", folder, name);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    RML_CHECK(fd >= 0 && fstat(fd, &about) == 0);
    remember_file(fd, name);
    int file = file_of(fd);
    uint32_t bytes = (uint32_t)about.st_size;
    unsigned char *data = malloc(bytes + 1);
    RML_CHECK(data != NULL && file != NOWHERE);
    RML_CHECK(pread(fd, data, bytes, 0) == (ssize_t)bytes);
    put_end(TAPE_WRITE_DONE, file, put_write(file, data, bytes, 0));
    put_end(TAPE_FLUSH_DONE, file, put((struct tape_event){.kind = TAPE_FLUSH, .file = file}));
    free(data);
    close(fd);
}

void tape_start_with(const char *path)
{
    tape_start(path);
    DIR *there = opendir(path);
    RML_CHECK(there != NULL);
    for (struct dirent *entry; (entry = readdir(there)) != NULL;)
        if (entry->d_name[0] != '.' && strstr(entry->d_name, "lock") == NULL)
            put_whole(entry->d_name);
    closedir(there);
    put((struct tape_event){.kind = TAPE_FOLDER_SYNC});
}
