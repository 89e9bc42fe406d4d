/*
 * snapshot - what changed in the pages since the last one, copied out while the partition goes on.
 *
 * Between two steps a snapshot begins: from then on it means the bytes of that moment. They are copied
 * a little at a time, and those that are about to change before they do (copy on update, by the one who
 * updates: M. A. V. Salles et al., "An Evaluation of Checkpoint Recovery for Massively Multiplayer
 * Online Games", VLDB 2009, compares the ways to do this). No pause grows with the size of the state.
 *
 * Snapshots are numbered one after the other. Number n has the granules that changed since number
 * n - 1, and whole the pages whose number is n modulo RML_SNAPSHOT_ROUND; so the state is what the
 * last RML_SNAPSHOT_ROUND snapshots give, applied in order to pages of zeros.
 *
 * The stream of a snapshot is a row of pieces, each a struct rml_snapshot_piece and its granules. A page
 * can have several; no granule comes twice.
 *
 * Everything here is called by the thread that runs the partition.
 */
#ifndef RML_STATE_SNAPSHOT_H
#define RML_STATE_SNAPSHOT_H

#include <stdbool.h>

#include "runtime/state/pages.h"

#define RML_SNAPSHOT_ROUND 32u

struct rml_snapshot_piece {
    uint32_t page;
    uint32_t granule_count;  // the bits of `granules`
    uint64_t granules;       // of the page; their bytes follow
};

/* Where the bytes go. `put` copies them and does not fail. */
struct rml_snapshot_sink {
    void (*put)(void *context, const void *bytes, size_t count);
    void *context;
};

/* From now on it is known what changes; all pages are zero yet, or as rml_snapshot_apply left them. 0
 * or -ENOMEM. */
int rml_snapshot_track(struct rml_pages *pages, struct rml_err *err);

/* It is not known any more; snapshots end. For rml_pages_close. */
void rml_snapshot_untrack(struct rml_pages *pages);

/* Begin snapshot `number`; none is being copied. `sink` is used until it is copied. */
void rml_snapshot_begin(struct rml_pages *pages, uint64_t number,
                        const struct rml_snapshot_sink *sink);

/* Copy up to `granules` of it, or what is left. Returns whether something is left still. */
bool rml_snapshot_copy(struct rml_pages *pages, uint32_t granules);

/* Is a snapshot being copied? */
bool rml_snapshot_is_open(const struct rml_pages *pages);

/* The last snapshot did not become durable: what was in it counts as changed again. What is left of it
 * is not copied any more. */
void rml_snapshot_abandon(struct rml_pages *pages);

/*
 * Put the pieces of a stream back, up to `count` bytes of them, of which only the last may be cut off.
 * Returns how many bytes were used (0: the first piece is not whole), or -EBADMSG for pieces that
 * cannot be. Pages are not tracked yet.
 */
int64_t rml_snapshot_apply(struct rml_pages *pages, const void *bytes, size_t count);

#endif
