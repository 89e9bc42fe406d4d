#include "operators/fold_kept.h"

#include "runtime/base/check.h"
#include "runtime/state/chunks.h"
#include "runtime/stats/exact.h"

struct piece {
    uint32_t before;  // the next older chunk
    uint32_t count;
    double values[];
};

static const struct piece *piece_of(const struct rml_chunks *chunks, uint32_t chunk)
{
    return rml_chunk(chunks->pages, chunk);
}

static struct piece *change_head(struct rml_chunks *chunks, uint32_t chunk)
{
    return rml_chunk_change(chunks->pages, chunk, sizeof(struct piece));
}

static uint32_t piece_room(uint32_t bytes)
{
    return (bytes - (uint32_t)sizeof(struct piece)) / (uint32_t)sizeof(double);
}

static void keep(struct rml_chunks *chunks, struct rml_kept_slot *slot, double x)
{
    const struct piece *newest = slot->chunk != RML_NO_CHUNK ? piece_of(chunks, slot->chunk) : NULL;
    if (newest == NULL || newest->count == piece_room(slot->bytes)) {
        uint32_t bytes = newest == NULL                      ? RML_CHUNK_BYTES_MIN
                         : slot->bytes < RML_CHUNK_BYTES_MAX ? 2 * slot->bytes
                                                             : RML_CHUNK_BYTES_MAX;
        uint32_t chunk = rml_chunks_take(chunks, bytes);
        RML_CHECK(chunk != RML_NO_CHUNK);
        *change_head(chunks, chunk) = (struct piece){.before = slot->chunk};
        slot->chunk = chunk;
        slot->bytes = bytes;
    }
    struct piece *piece = change_head(chunks, slot->chunk);
    double *value = rml_change(chunks->pages, &piece->values[piece->count++], sizeof *value);
    *value = x;
    slot->values++;
}

uint64_t rml_fold_kept_add(const struct rml_fold *fold, struct rml_chunks *chunks,
                           const struct rml_fold_walk *walk)
{
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        double x;
        if (rml_fold_number(fold, walk, walk->rows[i], &x))
            keep(chunks, (void *)((unsigned char *)walk->states[i] + fold->offset), x);
        else
            skipped++;
    }
    return skipped;
}

void rml_fold_kept_absorb(struct rml_chunks *chunks, struct rml_kept_slot *into,
                          struct rml_kept_slot *from)
{
    if (from->chunk == RML_NO_CHUNK)
        return;
    uint32_t oldest = from->chunk;
    while (piece_of(chunks, oldest)->before != RML_NO_CHUNK)
        oldest = piece_of(chunks, oldest)->before;
    change_head(chunks, oldest)->before = into->chunk;
    into->chunk = from->chunk;
    into->bytes = from->bytes;
    into->values += from->values;
    *from = (struct rml_kept_slot){.chunk = RML_NO_CHUNK};
}

void rml_fold_kept_release(struct rml_chunks *chunks, const struct rml_kept_slot *slot)
{
    for (uint32_t chunk = slot->chunk; chunk != RML_NO_CHUNK;) {
        uint32_t before = piece_of(chunks, chunk)->before;
        rml_chunks_give(chunks, chunk);
        chunk = before;
    }
}

/* A way through all pieces of all slots. */
struct way {
    const struct rml_chunks *chunks;
    const struct rml_kept_list *list;
    uint32_t slot;   // of the list, the next one to enter
    uint32_t chunk;  // the next piece of the one before it
};

static void rewind_way(void *context)
{
    struct way *way = context;
    way->slot = 0;
    way->chunk = RML_NO_CHUNK;
}

static bool next_piece(void *context, const double **ret_values, uint32_t *ret_count)
{
    struct way *way = context;
    while (way->chunk == RML_NO_CHUNK) {
        if (way->slot == way->list->count)
            return false;
        way->chunk = way->list->slots[way->slot++]->chunk;
    }
    const struct piece *piece = piece_of(way->chunks, way->chunk);
    *ret_values = piece->values;
    *ret_count = piece->count;
    way->chunk = piece->before;
    return true;
}

bool rml_fold_kept_quantile(const struct rml_chunks *chunks, const struct rml_kept_list *list,
                            double q, double *ret_value)
{
    struct way way = {.chunks = chunks, .list = list};
    struct rml_exact_pieces pieces = {.rewind = rewind_way, .next = next_piece, .context = &way};
    for (uint32_t i = 0; i < list->count; i++)
        pieces.count += list->slots[i]->values;
    return rml_exact_quantile(&pieces, q, ret_value);
}
