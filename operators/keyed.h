/*
 * keyed - the keys of one stage in one partition: from rows of a batch to slots, and back to columns.
 */
#ifndef RML_OPERATORS_KEYED_H
#define RML_OPERATORS_KEYED_H

#include "runtime/partition/operator.h"
#include "runtime/state/keys.h"

struct rml_keyed {
    const struct rml_plan_stage *stage;
    bool has_key;      // else everything is in slot 0
    bool shares_hash;  // the partition key's hash is this key's
    uint32_t cell_bytes[RML_KEY_FIELDS_MAX];
    struct rml_keys keys;
    unsigned char *block;  // RML_KEYS_BLOCK keys
};

/* An empty table for the stage's keys in the partition's pages. 0, or a sentence. */
int rml_keyed_open(struct rml_keyed *keyed, const struct rml_operator_env *env,
                   struct rml_err *err);
void rml_keyed_close(struct rml_keyed *keyed);  // accepts one of zeros

/* The batch's selected rows that have a key, into `rows` (RML_BATCH_ROWS); returns how many. */
uint32_t rml_keyed_choose(const struct rml_keyed *keyed, const struct rml_batch *batch,
                          uint16_t *rows);

/* Slots of up to RML_KEYS_BLOCK rows, as rml_keys_reach gives them. */
void rml_keyed_reach(struct rml_keyed *keyed, const struct rml_batch *batch,
                     const struct rml_run *run, const uint16_t *rows, uint32_t count,
                     uint32_t *slots);

/* One use more of a slot, and one less: with the last one the key is forgotten. */
void rml_keyed_use(struct rml_keyed *keyed, uint32_t slot);
void rml_keyed_release(struct rml_keyed *keyed, uint32_t slot);

#endif
