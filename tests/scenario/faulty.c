/*
 * faulty - a machine on which a scenario can set the clock and have disks fail, for a program that is not told.
 *
 * It is preloaded (LD_PRELOAD), so calls of libc pass through here, LMDB's too. What is to happen stands in a file
 * that both map, RML_TEST_MACHINE in the environment: a shift of the wall clock, and faults, each in calls of one
 * sort on files of one name. Rings of io_uring would go past it, so they can be refused. machine.py writes it.
 */
#undef _FORTIFY_SOURCE  // libc's own definitions of these, inline
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <liburing.h>

#define EXPORT __attribute__((visibility("default")))
#define FAULTS 8

enum call { NONE, WRITE, FLUSH, CUT, SEND };  // SEND: into a ring

enum how {
    NOT,       // an error, and nothing was done
    NOT_SURE,  // an error, though it was done
    SHORT,     // a write: a part alone
};

struct fault {
    char name[32];
    uint32_t how;
    int32_t error;
    _Atomic uint32_t call;  // written last
    uint32_t bytes;         // SHORT: so many of them
    uint64_t after, times;  // of such calls so many pass, then so many do not
    _Atomic uint64_t seen, met;
    _Atomic uint64_t at, length;  // of the last write that was met in a ring, in its file
};

struct machine {
    _Atomic int64_t wall_shift_ns;
    int32_t ring_error;  // of setting up a ring; 0: it may
    uint32_t padding;
    struct fault faults[FAULTS];
};

_Static_assert(sizeof(struct fault) == 96, "as machine.py has it");

static struct machine *machine;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("RML_TEST_MACHINE");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof *machine, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    machine = memory == MAP_FAILED ? NULL : memory;
}

static bool is_named(int fd, const char *name)
{
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    const char *last = strrchr(path, '/');
    return last != NULL && strcmp(last + 1, name) == 0;
}

// The fault that strikes this call; NULL: none does.
static struct fault *strikes(int fd, enum call call)
{
    for (int i = 0; machine != NULL && i < FAULTS; i++) {
        struct fault *fault = &machine->faults[i];
        if (atomic_load(&fault->call) != call || !is_named(fd, fault->name))
            continue;
        uint64_t number = atomic_fetch_add(&fault->seen, 1);
        if (number < fault->after || number - fault->after >= fault->times)
            continue;
        atomic_fetch_add(&fault->met, 1);
        return fault;
    }
    return NULL;
}

static long fail(const struct fault *fault)
{
    errno = fault->error;
    return -1;
}

/* What becomes of a write: the fault, and how many of its bytes are sent. */
static const struct fault *before_write(int fd, size_t *bytes)
{
    const struct fault *fault = strikes(fd, WRITE);
    if (fault != NULL && fault->how == SHORT && *bytes > fault->bytes)
        *bytes = fault->bytes;
    return fault;
}

static bool is_refused(const struct fault *fault)
{
    return fault != NULL && fault->how == NOT;
}

static long after_write(const struct fault *fault, long done)
{
    return fault != NULL && fault->how == NOT_SURE ? fail(fault) : done;
}

EXPORT ssize_t write(int fd, const void *data, size_t bytes)
{
    const struct fault *fault = before_write(fd, &bytes);
    return is_refused(fault) ? fail(fault)
                             : after_write(fault, syscall(SYS_write, fd, data, bytes));
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    const struct fault *fault = before_write(fd, &bytes);
    return is_refused(fault) ? fail(fault)
                             : after_write(fault, syscall(SYS_pwrite64, fd, data, bytes, offset));
}

// LMDB takes a short one for an error, so it is cut after its first piece at least.
static void cut_parts(const struct iovec *parts, int *count, size_t bytes)
{
    int whole = 0;
    for (size_t sum = 0; whole < *count && sum + parts[whole].iov_len <= bytes; whole++)
        sum += parts[whole].iov_len;
    *count = whole > 0 ? whole : 1;
}

static size_t bytes_of(const struct iovec *parts, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    size_t whole = bytes_of(parts, count), bytes = whole;
    const struct fault *fault = before_write(fd, &bytes);
    if (is_refused(fault))
        return fail(fault);
    if (bytes < whole)
        cut_parts(parts, &count, bytes);
    return after_write(fault, syscall(SYS_writev, fd, parts, count));
}

static int flush(int fd, long number)
{
    const struct fault *fault = strikes(fd, FLUSH);
    if (fault != NULL && fault->how == NOT)
        return (int)fail(fault);
    int rc = (int)syscall(number, fd);
    return fault != NULL ? (int)fail(fault) : rc;
}

EXPORT int fdatasync(int fd)
{
    return flush(fd, SYS_fdatasync);
}

EXPORT int fsync(int fd)
{
    return flush(fd, SYS_fsync);
}

EXPORT int ftruncate(int fd, off_t bytes)
{
    const struct fault *fault = strikes(fd, CUT);
    return fault != NULL ? (int)fail(fault) : (int)syscall(SYS_ftruncate, fd, bytes);
}

/* Rings. Each has one file. */

#define RINGS 16

static struct {
    struct io_uring *ring;
    int fd;
} rings[RINGS];

static int file_of(const struct io_uring *ring)
{
    for (int i = 0; i < RINGS; i++)
        if (rings[i].ring == ring)
            return rings[i].fd;
    return -1;
}

EXPORT int io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
    if (machine != NULL && machine->ring_error != 0)
        return -machine->ring_error;
    int (*next)(unsigned, struct io_uring *, struct io_uring_params *);
    void *symbol = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
    if (symbol == NULL)
        return -ENOSYS;
    memcpy(&next, &symbol, sizeof next);
    return next(entries, ring, params);
}

EXPORT int io_uring_register_files(struct io_uring *ring, const int *files, unsigned count)
{
    int (*next)(struct io_uring *, const int *, unsigned);
    void *symbol = dlsym(RTLD_NEXT, "io_uring_register_files");
    memcpy(&next, &symbol, sizeof next);
    int place = 0;
    while (place < RINGS - 1 && rings[place].ring != NULL && rings[place].ring != ring)
        place++;
    rings[place].ring = ring;
    rings[place].fd = count > 0 ? files[0] : -1;
    return next(ring, files, count);
}

EXPORT void io_uring_queue_exit(struct io_uring *ring)
{
    void (*next)(struct io_uring *);
    void *symbol = dlsym(RTLD_NEXT, "io_uring_queue_exit");
    memcpy(&next, &symbol, sizeof next);
    for (int i = 0; i < RINGS; i++)
        if (rings[i].ring == ring)
            rings[i].ring = NULL;
    next(ring);
}

// Wait until the result of what was sent under this mark is there, and leave it to be taken, changed.
static void change_result(struct io_uring *ring, uint64_t mark, int result)
{
    for (;;) {
        unsigned head, count = 0;
        struct io_uring_cqe *cqe;
        io_uring_for_each_cqe(ring, head, cqe)
        {
            count++;
            if (cqe->user_data == mark) {
                cqe->res = result;
                return;
            }
        }
        syscall(SYS_io_uring_enter, ring->ring_fd, 0, count + 1, IORING_ENTER_GETEVENTS, NULL, 0);
    }
}

static bool is_write(const struct io_uring_sqe *sqe)
{
    return sqe->opcode == IORING_OP_WRITE_FIXED || sqe->opcode == IORING_OP_WRITE;
}

EXPORT int io_uring_submit(struct io_uring *ring)
{
    int (*next)(struct io_uring *);
    void *symbol = dlsym(RTLD_NEXT, "io_uring_submit");
    memcpy(&next, &symbol, sizeof next);
    int fd = file_of(ring);
    struct io_uring_sqe *sqe = &ring->sq.sqes[(ring->sq.sqe_tail - 1) & ring->sq.ring_mask];
    if (strikes(fd, SEND) != NULL)
        return -EAGAIN;
    bool is_flush = sqe->opcode == IORING_OP_FSYNC;
    struct fault *fault = is_write(sqe) || is_flush ? strikes(fd, is_flush ? FLUSH : WRITE) : NULL;
    if (fault == NULL)
        return next(ring);
    uint64_t mark = sqe->user_data;
    if (is_write(sqe)) {
        atomic_store(&fault->at, sqe->off);
        atomic_store(&fault->length, sqe->len);
    }
    if (fault->how == SHORT) {
        if (sqe->len > fault->bytes)
            sqe->len = fault->bytes;
        return next(ring);
    }
    if (fault->how == NOT) {
        io_uring_prep_nop(sqe);
        sqe->user_data = mark;
    }
    int rc = next(ring);
    if (rc == 1)
        change_result(ring, mark, -fault->error);
    return rc;
}

EXPORT int clock_gettime(clockid_t which, struct timespec *ret_now)
{
    int rc = (int)syscall(SYS_clock_gettime, which, ret_now);
    if (rc < 0 || which != CLOCK_REALTIME || machine == NULL)
        return rc;
    const int64_t second = 1000000000;
    int64_t now =
        ret_now->tv_sec * second + ret_now->tv_nsec + atomic_load(&machine->wall_shift_ns);
    *ret_now = (struct timespec){.tv_sec = now / second, .tv_nsec = now % second};
    return rc;
}
