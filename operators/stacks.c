#include "operators/stacks.h"

#include <errno.h>
#include <stdlib.h>

#include "runtime/state/roots.h"

struct merged {
    uint64_t records;
    unsigned char state[];
};

int rml_stacks_open(struct rml_stacks *stacks, const struct rml_aggregator *aggregator,
                    struct rml_pages *pages, struct rml_stacks_panes panes, uint32_t size,
                    uint32_t step)
{
    uint32_t count = (size + step - 1) / step;
    *stacks = (struct rml_stacks){
        .aggregator = aggregator,
        .pages = pages,
        .panes = panes,
        .shape = rml_rows_shape((uint32_t)sizeof(struct merged) + aggregator->state_bytes),
        .step = step,
        .count = count,
        .suffix = calloc(count, sizeof *stacks->suffix),
    };
    return stacks->suffix != NULL ? 0 : -ENOMEM;
}

void rml_stacks_close(struct rml_stacks *stacks)
{
    free(stacks->suffix);
    *stacks = (struct rml_stacks){0};
}

void rml_stacks_roots(struct rml_stacks *stacks, struct rml_roots *roots)
{
    rml_roots_same(roots, stacks->count);
    RML_ROOTS_WALK(roots, stacks->next);
    RML_ROOTS_WALK(roots, stacks->good);
    RML_ROOTS_WALK(roots, stacks->first);
    RML_ROOTS_WALK(roots, stacks->split);
    RML_ROOTS_WALK(roots, stacks->upto);
    rml_roots_walk(roots, stacks->suffix, stacks->count * sizeof *stacks->suffix);
    RML_ROOTS_WALK(roots, stacks->back);
}

static void clear(struct rml_stacks *stacks)
{
    for (uint32_t i = 0; i < stacks->count; i++)
        rml_rows_clear(&stacks->suffix[i], stacks->pages);
    rml_rows_clear(&stacks->back, stacks->pages);
    stacks->good = false;
}

static const struct merged *find(const struct rml_stacks *stacks, const struct rml_rows *rows,
                                 uint32_t slot)
{
    const struct merged *m = rml_rows_find(rows, stacks->pages, stacks->shape, slot);
    return m != NULL && m->records > 0 ? m : NULL;
}

static void add(const struct rml_stacks *stacks, struct merged *into, const void *state,
                uint64_t records)
{
    if (into->records == 0)
        rml_aggregator_reset(stacks->aggregator, into->state);
    rml_aggregator_merge(stacks->aggregator, into->state, state);
    into->records += records;
}

// Merge the panes from..to of a slot into its row. False: there is no room for the row.
static bool add_panes(const struct rml_stacks *stacks, struct rml_rows *rows, uint32_t slot,
                      int64_t from, int64_t to)
{
    for (int64_t pane = from; pane <= to; pane++) {
        uint64_t records;
        const void *state = stacks->panes.state(stacks->panes.context, pane, slot, &records);
        if (state == NULL)
            continue;
        struct merged *m = rml_rows_reach(rows, stacks->pages, stacks->shape, slot);
        if (m == NULL)
            return false;
        add(stacks, m, state, records);
    }
    return true;
}

static int64_t start_of(const struct rml_stacks *stacks, uint32_t suffix)
{
    return stacks->first + (int64_t)suffix * stacks->step;
}

// Suffixes that begin up to the split.
static uint32_t suffixes(const struct rml_stacks *stacks)
{
    return (uint32_t)((stacks->split - stacks->first) / stacks->step) + 1;
}

static void void_row(struct rml_stacks *stacks, const struct rml_rows *rows, uint32_t slot)
{
    if (find(stacks, rows, slot) == NULL)
        return;
    struct merged *m = rml_rows_change(rows, stacks->pages, stacks->shape, slot);
    m->records = 0;
}

// Merge one suffix of a slot anew, from its own panes and the suffix behind it.
static bool merge_suffix(struct rml_stacks *stacks, uint32_t index, uint32_t slot)
{
    struct rml_rows *rows = &stacks->suffix[index];
    void_row(stacks, rows, slot);
    bool is_last = index + 1 == suffixes(stacks);
    int64_t to = is_last ? stacks->split : start_of(stacks, index + 1) - 1;
    if (!add_panes(stacks, rows, slot, start_of(stacks, index), to))
        return false;
    const struct merged *behind = is_last ? NULL : find(stacks, &stacks->suffix[index + 1], slot);
    if (behind == NULL)
        return true;
    struct merged *m = rml_rows_reach(rows, stacks->pages, stacks->shape, slot);
    if (m == NULL)
        return false;
    add(stacks, m, behind->state, behind->records);
    return true;
}

static bool flip(struct rml_stacks *stacks, int64_t first, int64_t last, uint32_t slots_end)
{
    clear(stacks);
    stacks->first = first;
    stacks->next = 0;
    stacks->split = stacks->upto = last;
    for (uint32_t slot = 0; slot < slots_end; slot++) {
        for (uint32_t i = suffixes(stacks); i-- > 0;)
            if (!merge_suffix(stacks, i, slot))
                return false;
    }
    return true;
}

static bool add_behind(struct rml_stacks *stacks, int64_t last, uint32_t slots_end)
{
    for (uint32_t slot = 0; slot < slots_end; slot++)
        if (!add_panes(stacks, &stacks->back, slot, stacks->upto + 1, last))
            return false;
    stacks->upto = last;
    return true;
}

bool rml_stacks_cover(struct rml_stacks *stacks, int64_t first, int64_t last, uint32_t slots_end)
{
    bool goes_on = stacks->good && first <= stacks->split;
    stacks->good =
        goes_on ? add_behind(stacks, last, slots_end) : flip(stacks, first, last, slots_end);
    if (!stacks->good)
        clear(stacks);
    return stacks->good;
}

static uint32_t index_of(const struct rml_stacks *stacks, int64_t first)
{
    return (uint32_t)((first - stacks->first) / stacks->step);
}

uint64_t rml_stacks_result(const struct rml_stacks *stacks, int64_t first, uint32_t slot,
                           void *state)
{
    const struct merged *parts[] = {find(stacks, &stacks->suffix[index_of(stacks, first)], slot),
                                    find(stacks, &stacks->back, slot)};
    uint64_t records = 0;
    for (int i = 0; i < 2; i++) {
        if (parts[i] == NULL)
            continue;
        if (records == 0)
            rml_aggregator_gather(stacks->aggregator, state);
        rml_aggregator_merge(stacks->aggregator, state, parts[i]->state);
        records += parts[i]->records;
    }
    return records;
}

void rml_stacks_drop(struct rml_stacks *stacks, int64_t first)
{
    if (!stacks->good)
        return;
    for (; stacks->next <= index_of(stacks, first); stacks->next++)
        rml_rows_clear(&stacks->suffix[stacks->next], stacks->pages);
}

void rml_stacks_change(struct rml_stacks *stacks, int64_t pane, uint32_t slot)
{
    if (!stacks->good || pane < stacks->first || pane > stacks->upto)
        return;
    bool done = true;
    if (pane > stacks->split) {
        void_row(stacks, &stacks->back, slot);
        done = add_panes(stacks, &stacks->back, slot, stacks->split + 1, stacks->upto);
    } else {
        for (uint32_t i = index_of(stacks, pane) + 1; done && i-- > stacks->next;)
            done = merge_suffix(stacks, i, slot);
    }
    if (!done)
        clear(stacks);
}
