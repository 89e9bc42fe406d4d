#include "operators/keyed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "operators/mapped.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"

int rml_keyed_open(struct rml_keyed *keyed, const struct rml_operator_env *env, struct rml_err *err)
{
    const struct rml_plan_stage *stage = &env->plan->stages[env->stage];
    const struct rml_frame *frame = &env->plan->sources[stage->source].frame;
    *keyed = (struct rml_keyed){.stage = stage};
    keyed->every_row = malloc(RML_BATCH_ROWS * sizeof *keyed->every_row);
    if (keyed->every_row == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for keys");
    for (uint32_t i = 0; i < RML_BATCH_ROWS; i++)
        keyed->every_row[i] = (uint16_t)i;
    if (stage->key_count == 0)
        return 0;
    bool cells_are_fields = true;
    for (uint32_t k = 0; k < stage->key_count; k++) {
        const struct rml_type_info *info =
            &rml_type_info[frame->columns[stage->key_columns[k]].type];
        keyed->cell_bytes[k] = info->cell_bytes;
        cells_are_fields = cells_are_fields && info->cell_bytes == info->bytes;
    }
    // The partition's hash is of record fields, this table's of cells: one serves both where the
    // bytes are the same.
    keyed->shares_hash = stage->key_is_partition_key && cells_are_fields;
    keyed->block = calloc(RML_KEYS_BLOCK, stage->key_bytes);
    if (keyed->block == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for keys");
    keyed->evicts = stage->when_full == RML_WHEN_FULL_EVICT_OLDEST;
    int rc = rml_keys_open(&keyed->keys, env->pages, stage->key_bytes,
                           keyed->evicts ? RML_RECENCY_BYTES : 0, stage->keys_max, err);
    keyed->has_key = rc == 0;
    rml_recency_init(&keyed->recency, &keyed->keys);
    return rc;
}

void rml_keyed_close(struct rml_keyed *keyed)
{
    if (keyed->has_key)
        rml_keys_close(&keyed->keys);
    free(keyed->block);
    free(keyed->every_row);
    *keyed = (struct rml_keyed){0};
}

void rml_keyed_roots(struct rml_keyed *keyed, struct rml_roots *roots)
{
    if (keyed->has_key)
        rml_keys_roots(&keyed->keys, roots);
    if (keyed->evicts)
        rml_recency_roots(&keyed->recency, roots);
}

static bool has_null(const struct rml_keyed *keyed, const struct rml_batch *batch, uint32_t row)
{
    for (uint32_t k = 0; k < keyed->stage->key_count; k++) {
        const uint8_t *null = batch->columns[keyed->stage->key_columns[k]].null;
        if (null != NULL && null[row])
            return true;
    }
    return false;
}

static const uint16_t *choose(const struct rml_keyed *keyed, const struct rml_batch *batch,
                              uint16_t *room, uint32_t *ret_count)
{
    bool nulls = false;
    for (uint32_t k = 0; k < keyed->stage->key_count; k++)
        nulls |= batch->columns[keyed->stage->key_columns[k]].null != NULL;
    const uint16_t *selected = batch->select != NULL ? batch->select : keyed->every_row;
    *ret_count = batch->selected;
    if (!nulls)
        return selected;
    uint32_t count = 0;
    for (uint32_t i = 0; i < batch->selected; i++) {
        room[count] = selected[i];
        count += !has_null(keyed, batch, selected[i]);
    }
    *ret_count = count;
    return room;
}

const uint16_t *rml_keyed_begin(const struct rml_keyed *keyed, const struct rml_operator_env *env,
                                const struct rml_batch *batch, uint16_t *room, uint32_t *ret_count)
{
    rml_mapped_fill(env, batch);
    const uint16_t *rows = choose(keyed, batch, room, ret_count);
    if (*ret_count < batch->selected)
        rml_count(&env->counts[RML_STAGE_null_key], batch->selected - *ret_count);
    return rows;
}

void rml_keyed_pass_late(const struct rml_operator_env *env, const struct rml_batch *batch,
                         const struct rml_run *run, const uint16_t *rows, uint32_t count)
{
    if (count == 0)
        return;
    rml_count(&env->counts[RML_STAGE_late], count);
    struct rml_batch late = *batch;
    late.select = rows;
    late.selected = count;
    env->pass(env->context, env->stage, true, &late, run);
}

// Up to RML_KEYS_BLOCK keys, one behind the other, and their hashes.
struct block_keys {
    const unsigned char *cells;
    const uint64_t *hashes;
    uint64_t own_hashes[RML_KEYS_BLOCK];
};

__attribute__((always_inline)) static inline void copy_cells(unsigned char *to, uint32_t stride,
                                                             const unsigned char *cells,
                                                             uint32_t bytes, const uint16_t *rows,
                                                             uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        memcpy(to + (size_t)i * stride, cells + (size_t)rows[i] * bytes, bytes);
}

static void gather(struct rml_keyed *keyed, const struct rml_batch *batch,
                   const struct rml_run *run, const uint16_t *rows, uint32_t count,
                   struct block_keys *keys)
{
    const struct rml_plan_stage *stage = keyed->stage;
    uint32_t stride = stage->key_bytes;
    bool as_they_lie = rml_rows_are_adjacent(rows, count);
    if (as_they_lie && stage->key_count == 1) {
        const unsigned char *cells = batch->columns[stage->key_columns[0]].data;
        keys->cells = cells + (size_t)rows[0] * stride;
    } else {
        for (uint32_t k = 0, at = 0; k < stage->key_count; k++) {
            const unsigned char *cells = batch->columns[stage->key_columns[k]].data;
            uint32_t bytes = keyed->cell_bytes[k];
            if (bytes == 8)
                copy_cells(keyed->block + at, stride, cells, 8, rows, count);
            else
                copy_cells(keyed->block + at, stride, cells, bytes, rows, count);
            at += bytes;
        }
        keys->cells = keyed->block;
    }
    if (as_they_lie && keyed->shares_hash) {
        keys->hashes = run->key_hash + rows[0];
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        keys->own_hashes[i] = keyed->shares_hash
                                  ? run->key_hash[rows[i]]
                                  : rml_key_hash_bytes(keys->cells + (size_t)i * stride, stride);
    keys->hashes = keys->own_hashes;
}

uint32_t rml_keyed_reach(struct rml_keyed *keyed, const struct rml_batch *batch,
                         const struct rml_run *run, const uint16_t *rows, uint32_t count,
                         uint32_t *slots)
{
    if (!keyed->has_key) {
        memset(slots, 0, count * sizeof slots[0]);
        return count;
    }
    struct block_keys keys;
    gather(keyed, batch, run, rows, count, &keys);
    return rml_keys_reach(&keyed->keys, keys.hashes, keys.cells, count, slots);
}

void rml_keyed_use(struct rml_keyed *keyed, uint32_t slot)
{
    if (keyed->has_key)
        rml_keys_row_change(&keyed->keys, slot)->uses++;
}

static void drop(struct rml_keyed *keyed, uint32_t slot)
{
    if (keyed->evicts)
        rml_recency_forget(&keyed->recency, slot);
    rml_keys_drop(&keyed->keys, slot);
}

void rml_keyed_release(struct rml_keyed *keyed, uint32_t slot)
{
    if (keyed->has_key && --rml_keys_row_change(&keyed->keys, slot)->uses == 0)
        drop(keyed, slot);
}

// A key may stand there more than once, and is to be dropped once.
void rml_keyed_forget_unused(struct rml_keyed *keyed, uint32_t *slots, uint32_t count)
{
    for (uint32_t i = 0; keyed->has_key && i < count; i++) {
        const uint32_t slot = slots[i];
        if (slot == RML_NO_SLOT || rml_keys_row(&keyed->keys, slot)->uses > 0)
            continue;
        for (uint32_t j = i; j < count; j++)
            slots[j] = slots[j] == slot ? RML_NO_SLOT : slots[j];
        drop(keyed, slot);
    }
}

uint32_t rml_keyed_oldest(const struct rml_keyed *keyed)
{
    uint32_t slot = rml_recency_oldest(&keyed->recency);
    RML_CHECK(slot != RML_NO_SLOT);
    return slot;
}

void rml_keyed_block_begin(struct rml_keyed *keyed, struct rml_keyed_block *block,
                           const struct rml_batch *batch, const struct rml_run *run,
                           const uint16_t *rows, uint32_t count)
{
    block->batch = batch;
    block->run = run;
    block->rows = rows;
    uint32_t most = block->most > 0 ? block->most : RML_KEYS_BLOCK;
    block->count = count < most ? count : most;
    block->most = most < RML_KEYS_BLOCK ? 2 * most : most;
    block->next = 0;
    block->gave = false;
    (void)rml_keyed_reach(keyed, batch, run, rows, block->count, block->slots);
}

// All places are looked at, whichever are to come: a loop of known length becomes a few vectors.
static bool is_to_come(const struct rml_keyed_block *block, uint32_t slot)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < RML_KEYS_BLOCK; i++)
        found |= (block->slots[i] == slot) & (i >= block->next) & (i < block->count);
    return found != 0;
}

void rml_keyed_block_forget(struct rml_keyed *keyed, struct rml_keyed_block *block, uint32_t slot)
{
    if (!keyed->has_key || slot == RML_NO_SLOT || rml_keys_row(&keyed->keys, slot)->uses > 0)
        return;
    block->gave = true;
    if (!is_to_come(block, slot))
        drop(keyed, slot);
}

void rml_keyed_block_release(struct rml_keyed *keyed, struct rml_keyed_block *block, uint32_t slot)
{
    block->gave = true;
    if (keyed->has_key && --rml_keys_row_change(&keyed->keys, slot)->uses == 0
        && !is_to_come(block, slot))
        drop(keyed, slot);
}

// Keys that only rows to come have make room for those that come first.
void rml_keyed_block_again(struct rml_keyed *keyed, struct rml_keyed_block *block)
{
    uint32_t from = block->next;
    while (block->next < block->count)
        rml_keyed_block_forget(keyed, block, block->slots[block->next++]);
    block->next = from;
    block->count = from + 1;
    block->most = 2;
    block->gave = false;
    (void)rml_keyed_reach(keyed, block->batch, block->run, block->rows + from, 1,
                          block->slots + from);
}
