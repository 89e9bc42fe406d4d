/*
 * snapshot - what changed in the pages since the last one, copied out while the partition goes on.
 *
 * Between two steps a snapshot begins: from then on it means the bytes of that moment. They are copied
 * a little at a time, and those that are about to change before they do (copy on update, by the one who
 * updates: M. A. V. Salles et al., "An Evaluation of Checkpoint Recovery for Massively Multiplayer
 * Online Games", VLDB 2009, compares the ways to do this). No pause grows with the size of the state.
 *
 * Snapshots are numbered one after the other. Number n has the granules that changed since number
 * n - 1, and of the pages whose number is n modulo the *round* all that were ever changed. So the state is what the snapshots of a
 * round give, applied in order to pages of zeros, and never more than RML_SNAPSHOT_ROUND_MAX of them.
 *
 * A long round has whoever reads it read much that was changed again later, a short one writes much that
 * has not changed. The round is the longest power of two in which snapshots like this one change no more
 * than twice what one leaves as it is. Then the snapshots of a round are no more than three times the
 * state, and one is no more than twice what changed, or that and a RML_SNAPSHOT_ROUND_MAXth of all.
 *
 * The stream of a snapshot begins with a struct rml_snapshot_head and what the partition knows outside
 * of its pages; then comes a row of pieces, each a struct rml_snapshot_piece and its granules. A page can
 * have several; no granule comes twice. runtime/state/restored.h puts pages together again.
 *
 * Everything here is called by the thread that runs the partition.
 */
#ifndef RML_STATE_SNAPSHOT_H
#define RML_STATE_SNAPSHOT_H

#include <stdbool.h>

#include "runtime/state/pages.h"

#define RML_SNAPSHOT_ROUND_MAX 32u  // a power of two

/* How the bytes of a snapshot, and the pages in it, are laid out. Eight characters, the last of which says it. */
#define RML_SNAPSHOT_MAGIC      UINT64_C(0x33736c6d72736c6d)
#define RML_SNAPSHOT_FORMAT_BIT 56  // from here on: '3'

struct rml_snapshot_head {
    uint64_t magic;
    uint64_t number;
    uint64_t root_bytes;  // that follow, before the first piece
    uint32_t needs;       // so many snapshots before this one
    uint32_t page_count;  // that there are, and page 0; 0: not known
};

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

/* From now on it is known what changes; all pages are zero yet, or as they were restored. 0 or -ENOMEM. */
int rml_snapshot_track(struct rml_pages *pages, struct rml_err *err);

/* Pages have come so far that what is noted of so many more is wished for (runtime/state/room.h). For
 * rml_pages_take. */
#define RML_SNAPSHOT_MAP_PAGES 512u
void rml_snapshot_make_room(struct rml_pages *pages);

/* It is not known any more; snapshots end. For rml_pages_close. */
void rml_snapshot_untrack(struct rml_pages *pages);

/*
 * Begin snapshot `number`, the next one or that which was abandoned; none is being copied. `sink` is used
 * until it is copied. Returns how many snapshots before it are needed to have the state of this moment.
 */
uint32_t rml_snapshot_begin(struct rml_pages *pages, uint64_t number,
                            const struct rml_snapshot_sink *sink);

/* Copy up to `granules` of it, or what is left. Returns whether something is left still. */
bool rml_snapshot_copy(struct rml_pages *pages, uint32_t granules);

/* Is a snapshot being copied? */
bool rml_snapshot_is_open(const struct rml_pages *pages);

/* The last snapshot did not become durable: what was in it counts as changed again. What is left of it
 * is not copied any more. */
void rml_snapshot_abandon(struct rml_pages *pages);

/* The pages are those of snapshot `number`, which needs `needs` before it; all of them together have
 * the granules of `used`, by page. Just after rml_snapshot_track. */
void rml_snapshot_go_on(struct rml_pages *pages, uint64_t number, uint32_t needs,
                        const uint64_t *used);

#endif
