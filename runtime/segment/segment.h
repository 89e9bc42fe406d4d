/*
 * segment - memory that two processes share, and that neither can pull from under the other.
 *
 * A segment is a memfd whose room is reserved when it is made, so that touching it never fails, and
 * sealed so that its size never changes. Who may write it is settled by seals too:
 *
 *     open_theirs    the peer writes, we only read: sealed against shrinking, growing, resealing
 *     open_ours      we write, the peer only reads: sealed moreover against every later writable
 *                    mapping, since a read-only descriptor can be reopened writable through /proc
 *     attach         the peer's view of either; what cannot be trusted is refused
 *
 * Sizes are bytes. A mapping outlives its descriptor. Seals do not stop hole punching: bytes that
 * the peer may write can read as zero at any time.
 */
#ifndef RML_SEGMENT_SEGMENT_H
#define RML_SEGMENT_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>

struct rml_err;

struct rml_segment {
    int fd;        // -1: none held
    void *memory;  // page-aligned, zeroed when new; NULL: not mapped
    size_t bytes;
};

/* A segment that is not open: closing it does nothing. */
#define RML_SEGMENT_CLOSED ((struct rml_segment){.fd = -1})

/*
 * Make a segment of `bytes` that a peer will write and we will read; `name` shows in /proc. The
 * mapping is read-only. 0, or a negative errno and a sentence (-EINVAL for 0 bytes, -ENOMEM for more
 * than half of the machine's memory, -ENOSPC when there is no room); nothing is left open then. Give segment->fd to the peer.
 */
int rml_segment_open_theirs(struct rml_segment *segment, const char *name, size_t bytes,
                            struct rml_err *err);

/* Likewise one that we write: our mapping, made before the last seal, is the only writable one. */
int rml_segment_open_ours(struct rml_segment *segment, const char *name, size_t bytes,
                          struct rml_err *err);

/*
 * The same in two steps, where another process of ours maps it too: make it, let that one map it, then
 * seal it, before anybody else gets the descriptor. Sealing what is sealed already is fine.
 */
int rml_segment_make_ours(struct rml_segment *segment, const char *name, size_t bytes,
                          struct rml_err *err);
int rml_segment_seal_ours(const struct rml_segment *segment, struct rml_err *err);

/* Map again what a former process of ours opened with open_theirs; `fd` is the segment's from here on. */
int rml_segment_again_theirs(struct rml_segment *segment, int fd, size_t bytes,
                             struct rml_err *err);

/*
 * Map a segment that came as `fd` from another process. `bytes` is what we expect, by our own
 * reckoning: -EPROTO when it is not exactly that long or could still shrink. `writable`: map it for
 * writing (-EPERM or -EACCES if its seals forbid that). The descriptor stays the caller's and may be
 * closed at once: segment->fd is -1.
 */
int rml_segment_attach(struct rml_segment *segment, int fd, size_t bytes, bool writable,
                       struct rml_err *err);

/* Unmap, close the descriptor if held. Accepts one that is closed or half opened. */
void rml_segment_close(struct rml_segment *segment);

#endif
