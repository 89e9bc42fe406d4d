/*
 * keyed - the keys of one stage in one partition: from rows of a batch to slots, and back to columns.
 */
#ifndef RML_OPERATORS_KEYED_H
#define RML_OPERATORS_KEYED_H

#include "runtime/partition/operator.h"
#include "runtime/state/recency.h"

struct rml_keyed {
    const struct rml_plan_stage *stage;
    bool has_key;      // else everything is in slot 0
    bool shares_hash;  // the partition key's hash is this key's
    uint32_t cell_bytes[RML_KEY_FIELDS_MAX];
    struct rml_keys keys;
    bool evicts;  // a new key that finds no room takes that of the one used longest ago
    struct rml_recency recency;  // where it evicts
    unsigned char *block;        // RML_KEYS_BLOCK keys
    uint16_t *every_row;         // 0, 1, 2 ... of a batch
};

/* An empty table for the stage's keys in the partition's pages. 0, or a sentence. */
int rml_keyed_open(struct rml_keyed *keyed, const struct rml_operator_env *env,
                   struct rml_err *err);
void rml_keyed_close(struct rml_keyed *keyed);  // accepts one of zeros

/* runtime/state/roots.h */
void rml_keyed_roots(struct rml_keyed *keyed, struct rml_roots *roots);

/*
 * Begin to take a batch: fill in what the stage's expressions make, and choose the selected rows that
 * have a key, *ret_count of them, in `room` (RML_BATCH_ROWS) or where they stand already. The others are
 * counted as null_key.
 */
const uint16_t *rml_keyed_begin(const struct rml_keyed *keyed, const struct rml_operator_env *env,
                                const struct rml_batch *batch, uint16_t *room, uint32_t *ret_count);

/* End it: count `count` rows of the batch as late and hand them to the late output. */
void rml_keyed_pass_late(const struct rml_operator_env *env, const struct rml_batch *batch,
                         const struct rml_run *run, const uint16_t *rows, uint32_t count);

/* Rows ascend, so they lie side by side when the last is no further from the first than they are many. */
static inline bool rml_rows_are_adjacent(const uint16_t *rows, uint32_t count)
{
    return (uint32_t)(rows[count - 1] - rows[0]) == count - 1;
}

/* Slots of up to RML_KEYS_BLOCK rows, ascending; slots and what is returned as of rml_keys_reach. */
uint32_t rml_keyed_reach(struct rml_keyed *keyed, const struct rml_batch *batch,
                         const struct rml_run *run, const uint16_t *rows, uint32_t count,
                         uint32_t *slots);

/* Slots in use are below. */
static inline uint32_t rml_keyed_end(const struct rml_keyed *keyed)
{
    return keyed->has_key ? keyed->keys.slots_used : 1;
}

/* Are there as many keys as may be, and would a new one take the room of another? */
static inline bool rml_keyed_must_evict(const struct rml_keyed *keyed)
{
    return keyed->evicts && keyed->keys.count >= keyed->keys.keys_max;
}

/* The key to be evicted, where every key is in use. */
uint32_t rml_keyed_oldest(const struct rml_keyed *keyed);

/* Records of these keys were taken, one after the other. */
static inline void rml_keyed_seen(struct rml_keyed *keyed, const uint32_t *slots, uint32_t count)
{
    for (uint32_t i = 0; keyed->evicts && i < count; i++)
        rml_recency_use(&keyed->recency, slots[i]);
}

/* One use more of a slot, and one less: with the last one the key is forgotten. */
void rml_keyed_use(struct rml_keyed *keyed, uint32_t slot);
void rml_keyed_release(struct rml_keyed *keyed, uint32_t slot);

/* Forget those of the slots' keys that were reached and then not used; the slots are void then. */
void rml_keyed_forget_unused(struct rml_keyed *keyed, uint32_t *slots, uint32_t count);

/*
 * Rows that are taken one after the other, while keys come and go, though their slots are looked up
 * together: a key whose last use goes stays as long as a row to come has its slot. Where a limit leaves
 * a row without a slot, and something was given back since, it is looked up again, and blocks are short
 * for a while. So a row's fate does not depend on how rows are cut into blocks. All zeros: there are no
 * rows to come.
 */
struct rml_keyed_block {
    const struct rml_batch *batch;
    const struct rml_run *run;
    const uint16_t *rows;
    uint32_t count;  // falls to what was taken when the rest is to be looked up anew
    uint32_t next;   // the first row to come
    uint32_t most;   // the next block is to have; 0: RML_KEYS_BLOCK
    bool gave;       // something was given back since the look-up
    uint32_t slots[RML_KEYS_BLOCK];
};

/* Look up the slots of the first rows, ascending: block->count of them. */
void rml_keyed_block_begin(struct rml_keyed *keyed, struct rml_keyed_block *block,
                           const struct rml_batch *batch, const struct rml_run *run,
                           const uint16_t *rows, uint32_t count);

/* Look up again the next row to come, which is the block's last one then. */
void rml_keyed_block_again(struct rml_keyed *keyed, struct rml_keyed_block *block);

/* The slot of the next row to come, to be used or forgotten, or RML_NO_SLOT. */
static inline uint32_t rml_keyed_block_next(struct rml_keyed *keyed, struct rml_keyed_block *block)
{
    if (block->slots[block->next] == RML_NO_SLOT && block->gave)
        rml_keyed_block_again(keyed, block);
    return block->slots[block->next++];
}

/* The slot of the row that had none, now that a key was evicted. */
static inline uint32_t rml_keyed_block_retry(struct rml_keyed *keyed, struct rml_keyed_block *block)
{
    block->next--;
    rml_keyed_block_again(keyed, block);
    return block->slots[block->next++];
}

/* One use less of a slot; and forget the key of one that was reached and then not used. */
void rml_keyed_block_release(struct rml_keyed *keyed, struct rml_keyed_block *block, uint32_t slot);
void rml_keyed_block_forget(struct rml_keyed *keyed, struct rml_keyed_block *block, uint32_t slot);

#endif
