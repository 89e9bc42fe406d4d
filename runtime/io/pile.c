#include "runtime/io/pile.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"

static unsigned char *make_room(struct rml_pile_rows *rows, size_t need)
{
    if (rows->room - rows->used < need) {
        size_t room = 2 * rows->room + need;
        void *bytes = realloc(rows->bytes, room);
        // No row may be left out. The next engine makes them again, and may find more memory.
        RML_CHECK(bytes != NULL);
        rows->bytes = bytes;
        rows->room = room;
    }
    return rows->bytes + rows->used;
}

void rml_pile_add(struct rml_pile *pile, struct rml_result_block *block, bool behind)
{
    struct rml_pile_rows *rows = behind ? &pile->behind : &pile->filling;
    uint32_t record_bytes = block->row_stride - (uint32_t)sizeof(struct rml_result_row);
    const size_t each = sizeof(struct rml_pile_row) + record_bytes;
    unsigned char *at = make_room(rows, each * block->rows);
    for (uint32_t i = 0; i < block->rows; i++, at += each) {
        const struct rml_result_row *from = rml_result_row_at(block, i);
        const struct rml_pile_row row = {.output = block->output,
                                         .partition = block->partition,
                                         .record_bytes = record_bytes,
                                         .fire = from->fire,
                                         .seq = from->seq};
        memcpy(at, &row, sizeof row);
        memcpy(at + sizeof row, from->record, record_bytes);
    }
    rows->used += each * block->rows;
    rows->count += block->rows;
    // relaxed: a number alone
    atomic_fetch_add_explicit(&pile->bytes, each * block->rows, memory_order_relaxed);
}

static void move(struct rml_pile_rows *to, struct rml_pile_rows *from)
{
    if (from->used == 0)
        return;
    if (to->used == 0) {
        const struct rml_pile_rows empty = *to;
        *to = *from;
        *from = empty;
        return;
    }
    memcpy(make_room(to, from->used), from->bytes, from->used);
    to->used += from->used;
    to->count += from->count;
    from->used = 0;
    from->count = 0;
}

void rml_pile_turn(struct rml_pile *pile)
{
    move(&pile->ready, &pile->filling);
    move(&pile->filling, &pile->behind);
}

static void rows_fini(struct rml_pile_rows *rows)
{
    free(rows->bytes);
    *rows = (struct rml_pile_rows){0};
}

void rml_pile_settle(struct rml_pile *pile)
{
    // relaxed: a number alone
    atomic_fetch_sub_explicit(&pile->bytes, pile->ready.used, memory_order_relaxed);
    pile->ready.used = 0;
    pile->ready.count = 0;
    if (pile->ready.room > RML_PILE_BYTES)
        rows_fini(&pile->ready);  // of a moment that is not the rule
}

const struct rml_pile_row *rml_pile_next(const struct rml_pile *pile, size_t *at)
{
    if (*at == pile->ready.used)
        return NULL;
    const void *here = pile->ready.bytes + *at;
    const struct rml_pile_row *row = here;
    *at += sizeof *row + row->record_bytes;
    return row;
}

uint64_t rml_pile_bytes(const struct rml_pile *pile)
{
    // relaxed: a number alone
    return atomic_load_explicit(&pile->bytes, memory_order_relaxed);
}

void rml_pile_fini(struct rml_pile *pile)
{
    rows_fini(&pile->ready);
    rows_fini(&pile->filling);
    rows_fini(&pile->behind);
}
