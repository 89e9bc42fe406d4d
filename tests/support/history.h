/*
 * history - drawn checkpoints, and what each must hold when it is read again.
 *
 * A few partitions with chains, blobs, a note, and rows of two tables that are put and removed. What a
 * checkpoint must hold is kept apart from the vault, as bytes in order.
 */
#ifndef RML_TESTS_HISTORY_H
#define RML_TESTS_HISTORY_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/chain.h"
#include "runtime/checkpoint/checkpoints.h"
#include "runtime/checkpoint/vault.h"
#include "tests/support/random.h"

#define HISTORY_PARTITIONS 3u
#define HISTORY_EPOCHS     64u
#define HISTORY_ROWS       24u
#define HISTORY_CHAIN      4u

struct history_piece {
    uint64_t epoch;
    uint32_t bytes;  // drawn from `seed`
    uint64_t seed;
};

struct history_state {
    bool is_drawn;
    struct history_piece chain[HISTORY_PARTITIONS][HISTORY_CHAIN];
    uint32_t pieces[HISTORY_PARTITIONS];
    uint64_t rows[HISTORY_ROWS];  // the value; 0: there is none
};

struct history {
    uint64_t seed;
    uint32_t piece_bytes_max;
    struct history_state states[HISTORY_EPOCHS];  // by epoch
    struct history_state last;                    // what the next one goes out from
};

static inline void history_bytes(const struct history_piece *piece, unsigned char *into)
{
    uint64_t seed = piece->seed;
    for (uint32_t at = 0; at < piece->bytes; at += 8) {
        uint64_t word = rml_test_random(&seed);
        uint32_t count = piece->bytes - at < 8 ? piece->bytes - at : 8;
        memcpy(into + at, &word, count);
    }
}

// Part of a chain goes on being needed: the newest pieces of it.
static inline int history_keep(struct history *h, struct rml_vault *vault,
                               struct history_state *next, uint32_t partition, struct rml_err *err)
{
    const struct rml_manifest *newest;
    uint32_t count = next->pieces[partition];
    uint32_t kept = rml_test_random(&h->seed) % 3 == 0 ? 0 : count;
    if (kept == HISTORY_CHAIN)
        kept--;
    uint32_t from = count - kept;
    memmove(next->chain[partition], next->chain[partition] + from, kept * sizeof next->chain[0][0]);
    next->pieces[partition] = kept;
    if (kept == 0)
        return 0;
    int rc = rml_vault_newest(vault, &newest, err);
    if (rc < 0)
        return rc;
    const struct rml_manifest_part *part = rml_manifest_find(newest, partition);
    RML_CHECK(part != NULL);
    uint64_t oldest = next->chain[partition][0].epoch;
    uint32_t first = 0;
    while (first < part->extent_count && part->extents[first].epoch < oldest)
        first++;
    return rml_vault_keep(vault, partition, part->extents + first, part->extent_count - first, err);
}

static inline int history_append(struct history *h, struct rml_vault *vault,
                                 struct history_state *next, uint64_t epoch, uint32_t partition,
                                 struct rml_err *err)
{
    struct history_piece piece = {
        .epoch = epoch,
        .bytes = 1 + (uint32_t)(rml_test_random(&h->seed) % h->piece_bytes_max),
        .seed = rml_test_random(&h->seed),
    };
    next->chain[partition][next->pieces[partition]++] = piece;
    unsigned char *bytes = malloc(piece.bytes);
    RML_CHECK(bytes != NULL);
    history_bytes(&piece, bytes);
    uint32_t cut = (uint32_t)(rml_test_random(&h->seed) % piece.bytes);
    int rc = rml_vault_append(vault, partition, bytes, cut, err);
    if (rc == 0)
        rc = rml_vault_append(vault, partition, bytes + cut, piece.bytes - cut, err);
    free(bytes);
    return rc;
}

static inline int history_row(struct history *h, struct rml_vault *vault,
                              struct history_state *next, uint64_t epoch, struct rml_err *err)
{
    uint64_t row = rml_test_random(&h->seed) % HISTORY_ROWS;
    const char *table = row % 2 == 0 ? "per_minute" : "bursts";
    uint32_t key = (uint32_t)row;
    bool is_removed = rml_test_random(&h->seed) % 4 == 0;
    next->rows[row] = is_removed ? 0 : epoch << 8 | row;
    return rml_vault_row(vault, table, &key, sizeof key, is_removed ? NULL : &next->rows[row],
                         is_removed ? 0 : sizeof next->rows[row], err);
}

/*
 * Begin the next checkpoint and say all of it. `*ret_epoch` is its number once it was begun, else 0. The
 * caller commits, and calls history_committed if that went well.
 */
static inline int history_write(struct history *h, struct rml_vault *vault, uint64_t *ret_epoch,
                                struct rml_err *err)
{
    *ret_epoch = 0;
    uint64_t epoch;
    struct history_state next = h->last;
    int rc =
        rml_vault_begin(vault, (int64_t)rml_test_random(&h->seed), h->piece_bytes_max, &epoch, err);
    if (rc < 0)
        return rc;
    *ret_epoch = epoch;
    RML_CHECK(epoch < HISTORY_EPOCHS);
    for (uint32_t p = 0; p < HISTORY_PARTITIONS && rc == 0; p++)
        rc = history_keep(h, vault, &next, p, err);
    for (uint32_t p = 0; p < HISTORY_PARTITIONS && rc == 0; p++) {
        rc = history_append(h, vault, &next, epoch, p, err);
        if (rc == 0)
            rc = rml_vault_describe(vault, p, &epoch, sizeof epoch, err);
    }
    for (uint32_t i = 0; i < HISTORY_ROWS / 3 && rc == 0; i++)
        rc = history_row(h, vault, &next, epoch, err);
    if (rc == 0)
        rc = rml_vault_note(vault, "pipeline", &epoch, sizeof epoch, err);
    next.is_drawn = true;
    h->states[epoch] = next;
    return rc;
}

static inline void history_committed(struct history *h, uint64_t epoch)
{
    h->last = h->states[epoch];
}

/* A loss of power left this one. */
static inline void history_go_to(struct history *h, uint64_t epoch)
{
    h->last = epoch == 0 ? (struct history_state){0} : h->states[epoch];
}

/* All of a partition's chain against what was drawn. */
struct history_comparison {
    unsigned char *expected;
    size_t at, bytes;
    bool differs;
};

static inline int history_compare(void *context, const struct rml_extent *extent, const void *bytes)
{
    struct history_comparison *c = context;
    if (extent->bytes > c->bytes - c->at
        || memcmp(c->expected + c->at, bytes, extent->bytes) != 0) {
        c->differs = true;
        return 1;
    }
    c->at += extent->bytes;
    return 0;
}

enum history_verdict { HISTORY_AS_WRITTEN, HISTORY_REFUSED, HISTORY_WRONG };

static inline enum history_verdict history_check_chain(const struct history_state *state,
                                                       struct rml_vault *vault, uint64_t epoch,
                                                       uint32_t partition, struct rml_err *err)
{
    struct history_comparison c = {0};
    for (uint32_t i = 0; i < state->pieces[partition]; i++)
        c.bytes += state->chain[partition][i].bytes;
    c.expected = malloc(c.bytes + 1);
    RML_CHECK(c.expected != NULL);
    for (uint32_t i = 0; i < state->pieces[partition]; i++) {
        history_bytes(&state->chain[partition][i], c.expected + c.at);
        c.at += state->chain[partition][i].bytes;
    }
    c.at = 0;
    int rc = rml_vault_load(vault, epoch, partition, history_compare, &c, err);
    free(c.expected);
    if (rc < 0)
        return HISTORY_REFUSED;
    return c.differs || c.at != c.bytes ? HISTORY_WRONG : HISTORY_AS_WRITTEN;
}

/* Is this kept checkpoint what it must be? */
static inline enum history_verdict history_check(const struct history *h, struct rml_vault *vault,
                                                 uint64_t epoch, struct rml_err *err)
{
    const struct history_state *state = &h->states[epoch];
    const struct rml_manifest *manifest = rml_vault_kept(vault, epoch);
    if (manifest == NULL)
        return HISTORY_REFUSED;
    const struct rml_manifest_note *note = rml_manifest_find_note(manifest, "pipeline");
    if (!state->is_drawn || manifest->part_count != HISTORY_PARTITIONS || note == NULL
        || note->bytes != sizeof epoch || memcmp(note->data, &epoch, sizeof epoch) != 0)
        return HISTORY_WRONG;
    enum history_verdict verdict = HISTORY_AS_WRITTEN;
    for (uint32_t p = 0; p < HISTORY_PARTITIONS && verdict == HISTORY_AS_WRITTEN; p++) {
        const struct rml_manifest_part *part = &manifest->parts[p];
        if (part->partition != p || part->blob_bytes != sizeof epoch
            || memcmp(part->blob, &epoch, sizeof epoch) != 0)
            return HISTORY_WRONG;
        verdict = history_check_chain(state, vault, epoch, p, err);
    }
    return verdict;
}

/* Are the tables' rows those of this epoch? The vault must be closed: this looks as another process
 * would. */
static inline enum history_verdict history_check_rows(const struct history *h, const char *folder,
                                                      uint64_t epoch, struct rml_err *err)
{
    struct rml_checkpoints *seen;
    struct rml_catalog_view *view;
    if (rml_checkpoints_open(&seen, folder, err) < 0)
        return HISTORY_REFUSED;
    struct history_state found = {0};
    struct rml_table_row row;
    int rc = rml_catalog_look(rml_checkpoints_catalog(seen), &view, err);
    if (rc == 0) {
        for (rc = rml_catalog_row(view, NULL, NULL, 0, true, &row, err); rc == 0;
             rc = rml_catalog_next_row(view, &row, err)) {
            uint32_t key = HISTORY_ROWS;
            if (row.key_bytes == sizeof key)
                memcpy(&key, row.key, sizeof key);
            if (key >= HISTORY_ROWS || row.value_bytes != sizeof found.rows[0]) {
                rc = -EIO;
                break;
            }
            memcpy(&found.rows[key], row.value, sizeof found.rows[0]);
        }
        rml_catalog_view_close(view);
    }
    rml_checkpoints_close(seen);
    if (rc != -ENOENT)
        return HISTORY_REFUSED;
    return memcmp(found.rows, h->states[epoch].rows, sizeof found.rows) == 0 ? HISTORY_AS_WRITTEN
                                                                             : HISTORY_WRONG;
}

#endif
