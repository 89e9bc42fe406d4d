/*
 * keeping - what an engine asks of its keeper, and what it inherited from the engine before it.
 *
 * An engine is forked by its keeper, so it has everything that is kept: descriptors under the same
 * numbers, mappings at the same addresses. It finds what it knows by its id and goes on with it; the
 * rest it lets go of. NULL in place of a keeping is an engine without a keeper: nothing is kept then,
 * nothing was inherited, and every call succeeds.
 *
 * One thread calls all of this. Waiting for the keeper takes as long as two system calls of its; one
 * that does not answer is an error after a while.
 */
#ifndef RML_KEEPER_KEEPING_H
#define RML_KEEPER_KEEPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/keeper/note.h"
#include "runtime/keeper/store.h"

struct rml_err;
struct rml_segment;

/* How an engine died, for those after it. */
struct rml_death {
    int64_t wall_ns;
    uint32_t pid;
    char why[RML_NOTE_TEXT + 64];  // a signal's name, and last words
};

struct rml_keeping {
    int socket;
    pid_t keeper;
    uint64_t sequence;
    uint32_t deaths;        // of engines before this one
    struct rml_death last;  // of them
    uint32_t asked;    // how often somebody had signalled the end before this one reads signals
    int64_t pause_ns;  // to be waited out before it comes up; 0: none
    struct rml_store store;
};

/* Something to keep. */
struct rml_keep {
    uint64_t id;
    const int *fds;  // stay the caller's
    uint32_t fd_count;
    size_t map_bytes;  // map so much of the first of them; 0: nothing
    const void *blob;
    uint32_t blob_bytes;
};

/* Ids: what sort of thing, and which of that sort. */
#define RML_KEPT_ID(sort, index) ((uint64_t)(sort) << 32 | (uint32_t)(index))

/* Is there a keeper, and did an engine die before this one? */
bool rml_keeping_again(const struct rml_keeping *keeping);

/* The process that people know: who is signalled ends the pipeline. */
pid_t rml_keeping_process(const struct rml_keeping *keeping);

/*
 * Have it kept: it is when this returns 0. -ETIMEDOUT: no answer; -EPIPE: the keeper is gone; or what
 * the keeper says (runtime/keeper/store.h); with a sentence.
 */
int rml_keeping_put(struct rml_keeping *keeping, const struct rml_keep *what, struct rml_err *err);

/* What is kept under the id has become this, or is to be let go of. */
void rml_keeping_update(struct rml_keeping *keeping, uint64_t id, const void *blob,
                        uint32_t blob_bytes);
void rml_keeping_drop(struct rml_keeping *keeping, uint64_t id);

/* The engine serves: from here on its end is not one of starting. */
void rml_keeping_ready(struct rml_keeping *keeping);

/* Somebody other than the keeper has asked for the end: an engine that cannot come up is the last, then. */
void rml_keeping_ending(struct rml_keeping *keeping);

/*
 * Open a segment of ours (runtime/segment/segment.h) that is kept under `id`: the one that was inherited, or else
 * a new one. *ret_again says which. `mark_at` is the offset of a 32-bit word that the keeper sets to `mark`
 * when the engine has died, or RML_KEEPER_DEATHMARK_NONE. 0 or a negative errno and a sentence; -EPROTO
 * when what is kept has another length.
 */
struct rml_keeping_segment {
    uint64_t id;
    const char *name;
    size_t bytes;
    uint32_t mark_at, mark;
};

int rml_keeping_segment(struct rml_keeping *keeping, const struct rml_keeping_segment *what,
                        struct rml_segment *ret_segment, bool *ret_again, struct rml_err *err);

/* Is something kept under that name? */
bool rml_keeping_has(struct rml_keeping *keeping, uint64_t id);

/* What was inherited under this id and is the caller's to go on with from here on, or NULL. */
const struct rml_kept *rml_keeping_take(struct rml_keeping *keeping, uint64_t id);

/* Likewise the next that is of this sort; NULL when there is no more. */
const struct rml_kept *rml_keeping_next(struct rml_keeping *keeping, uint32_t sort);

/* What was inherited under this id, or all that was and that nobody has taken: close it here and have it
 * dropped there. */
void rml_keeping_let_go(struct rml_keeping *keeping, uint64_t id);
void rml_keeping_rest(struct rml_keeping *keeping);

/* Frees what the engine's process has of it; what was taken stays. NULL is accepted. */
void rml_keeping_close(struct rml_keeping *keeping);

#endif
