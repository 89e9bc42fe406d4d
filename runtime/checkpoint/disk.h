/*
 * disk - one file with writes under way to it, past the page cache where the file system lets us.
 *
 * There are three ways to the same bytes, and the best that starts is taken:
 *
 *     io_uring   O_DIRECT from registered buffers, eight writes under way at a time
 *     pwrite     O_DIRECT, one write after the other in the calling thread: where io_uring is not to
 *                be had (a container's seccomp, an old kernel, too little lockable memory)
 *     buffered   through the page cache: where the file system knows no O_DIRECT
 *
 * A write is *reaped* when its result is known and its whole length has arrived; what arrived short is
 * continued. A flush begins after the last write was reaped, because a flush that is queued behind
 * writes covers none of those that still run. The first error stays until rml_disk_settle, and nothing is
 * flushed while it does: after a failed flush the kernel calls lost pages clean, and the next flush
 * succeeds. Whoever meets an error writes the same bytes elsewhere.
 *
 * One thread at a time calls these functions; it need not be the one that opened the file.
 */
#ifndef RML_CHECKPOINT_DISK_H
#define RML_CHECKPOINT_DISK_H

#include <stdbool.h>
#include <stdint.h>

struct rml_disk;
struct rml_err;

#define RML_DISK_BLOCK_BYTES 4096u         // offsets, lengths and memory are multiples of it
#define RML_DISK_WRITE_BYTES (256u << 10)  // the longest write, and a buffer's size
#define RML_DISK_DEPTH       8u            // buffers, and so writes under way

/* From the start of one of the disk's buffers, or from within it when a write is continued. */
struct rml_disk_write {
    uint64_t offset;
    uint32_t buffer, from, bytes;
};

struct rml_disk_done {
    uint32_t buffer;
    int result;  // bytes that arrived, or a negative errno
};

/*
 * A way to the kernel, and the door at which tests stand. Each function returns 0 or a negative errno;
 * no more than one write for each buffer is under way, and none during a flush.
 */
struct rml_disk_way {
    const char *name;
    bool is_direct;
    int (*start)(struct rml_disk *disk);
    void (*stop)(struct rml_disk *disk);
    int (*submit)(struct rml_disk *disk, const struct rml_disk_write *write);
    int (*reap)(struct rml_disk *disk, struct rml_disk_done *ret_done);  // waits for one
    int (*flush)(struct rml_disk *disk);                                 // and waits for that
};

extern const struct rml_disk_way rml_disk_way_io_uring, rml_disk_way_pwrite, rml_disk_way_buffered;

/* All of them, best first, ended by NULL. */
extern const struct rml_disk_way *const rml_disk_ways[];

struct rml_disk_options {
    const struct rml_disk_way *const *ways;  // best first, ended by NULL; NULL: all there are
    int64_t lock_wait_ns;  // how long to wait for a former owner's last writes; 0: not at all
};

struct rml_disk {
    int fd;  // -1: closed
    const struct rml_disk_way *way;
    void *own;                                        // the way's
    unsigned char *buffers;                           // RML_DISK_DEPTH of RML_DISK_WRITE_BYTES
    struct rml_disk_write under_way[RML_DISK_DEPTH];  // bytes 0: the buffer is free
    uint32_t tries[RML_DISK_DEPTH];                   // without anything having arrived
    uint32_t under_way_count;
    int error;          // the first since the last settling; 0
    bool is_broken;     // a write may lie in the ring unsent: nothing goes there any more
    char why_not[200];  // why no better way is in use; empty when there is none
};

#define RML_DISK_CLOSED ((struct rml_disk){.fd = -1})

/*
 * Open or make the file, and lock it for as long as this process has it open and the kernel has a
 * write under way to it, even past the process's death. 0, or a negative errno with a sentence;
 * -EBUSY: somebody else has it.
 */
int rml_disk_open(struct rml_disk *disk, const char *path, const struct rml_disk_options *options,
                  struct rml_err *err);

/* Waits for what is under way; flushes nothing. Accepts a disk that is closed or half opened. */
void rml_disk_close(struct rml_disk *disk);

/* The number of a buffer with nothing under way from it, waiting for one; or the negative errno that
 * stays. */
int rml_disk_buffer(struct rml_disk *disk);

/* Its memory. */
static inline unsigned char *rml_disk_memory(const struct rml_disk *disk, int buffer)
{
    return disk->buffers + (uint32_t)buffer * (uint64_t)RML_DISK_WRITE_BYTES;
}

/* Send the first `bytes` of a buffer to `offset`. 0, or the errno that stays. */
int rml_disk_write(struct rml_disk *disk, int buffer, uint64_t offset, uint32_t bytes);

/* Wait until all has arrived. 0, or the errno that stays. */
int rml_disk_drain(struct rml_disk *disk);

/* The same, then wait until it would outlast a loss of power. 0, or the errno that stays. */
int rml_disk_flush(struct rml_disk *disk);

/* Wait until nothing is under way, and forget the error: what was written since the last flush counts
 * as lost. Returns the error, or 0. */
int rml_disk_settle(struct rml_disk *disk);

/* Read blocks into memory aligned to them. 0, -ENODATA where the file ends, or a negative errno. For any
 * thread. */
int rml_disk_read(int fd, uint64_t offset, void *into, uint32_t bytes);

/* Open an existing file for rml_disk_read alone, without locking it: a descriptor or a negative errno. */
int rml_disk_open_reading(const char *path);

/* Make names in a folder outlast a loss of power. 0, or a negative errno with a sentence. */
int rml_disk_flush_folder(const char *folder, struct rml_err *err);

#endif
