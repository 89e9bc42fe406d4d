/*
 * recency - which of a table's keys was used longest ago.
 *
 * A list through the slots, from the newest to the oldest, whose links lie beside the keys: what is
 * used goes to the front, at the cost of its own row and of its two neighbours'. Links are slots, so
 * the list means the same wherever its pages lie.
 */
#ifndef RML_STATE_RECENCY_H
#define RML_STATE_RECENCY_H

#include "runtime/state/keys.h"

#define RML_RECENCY_BYTES 8u  // beside each key

struct rml_recency {
    struct rml_keys *keys;
    uint32_t newest, oldest;  // slots, counted from 1; 0: no key was used
};

/* Of a table that was opened with RML_RECENCY_BYTES beside its keys. */
static inline void rml_recency_init(struct rml_recency *recency, struct rml_keys *keys)
{
    *recency = (struct rml_recency){.keys = keys};
}

/* runtime/state/roots.h; after those of the keys. */
void rml_recency_roots(struct rml_recency *recency, struct rml_roots *roots);

/* The key of a slot is used now. */
void rml_recency_use(struct rml_recency *recency, uint32_t slot);

/* It is about to be dropped, used or not. */
void rml_recency_forget(struct rml_recency *recency, uint32_t slot);

/* The slot of the key whose last use was longest ago, or RML_NO_SLOT. */
static inline uint32_t rml_recency_oldest(const struct rml_recency *recency)
{
    return recency->oldest - 1;
}

#endif
