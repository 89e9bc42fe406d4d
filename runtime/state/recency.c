#include "runtime/state/recency.h"

#include "runtime/state/roots.h"

/* Slots, counted from 1; 0: it is the newest, or the oldest, or not in the list. */
struct link {
    uint32_t newer, older;
};

_Static_assert(sizeof(struct link) == RML_RECENCY_BYTES, "a link lies beside each key");
_Static_assert(RML_NO_SLOT == UINT32_MAX, "before the first slot, counted from 1, is no slot");

static struct link *change(struct rml_recency *recency, uint32_t number)
{
    return rml_keys_beside_change(recency->keys, number - 1);
}

// The word that says which is the next older than `number`, or the newest of all where that is 0.
static uint32_t *older_than(struct rml_recency *recency, uint32_t number)
{
    return number != 0 ? &change(recency, number)->older : &recency->newest;
}

// The word that says which is the next newer than `number`, or the oldest of all where that is 0.
static uint32_t *newer_than(struct rml_recency *recency, uint32_t number)
{
    return number != 0 ? &change(recency, number)->newer : &recency->oldest;
}

void rml_recency_roots(struct rml_recency *recency, struct rml_roots *roots)
{
    RML_ROOTS_WALK(roots, recency->newest);
    RML_ROOTS_WALK(roots, recency->oldest);
}

void rml_recency_forget(struct rml_recency *recency, uint32_t slot)
{
    const uint32_t number = slot + 1;
    const struct link link = *(const struct link *)rml_keys_beside(recency->keys, slot);
    if (link.newer == 0 && recency->newest != number)
        return;
    *older_than(recency, link.newer) = link.older;
    *newer_than(recency, link.older) = link.newer;
    *change(recency, number) = (struct link){0};
}

void rml_recency_use(struct rml_recency *recency, uint32_t slot)
{
    const uint32_t number = slot + 1;
    if (recency->newest == number)
        return;
    rml_recency_forget(recency, slot);
    change(recency, number)->older = recency->newest;
    *newer_than(recency, recency->newest) = number;
    recency->newest = number;
}
