#include "runtime/io/gather.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/time/time.h"

/* Rows of one output and partition, first in first out. */
struct line {
    unsigned char *rows;
    size_t stride;
    size_t first, count, room;  // in rows
};

/* A row's place while it is sorted. */
struct entry {
    const struct rml_result_row *row;
    uint32_t from, partition;
};

struct rml_gather {
    uint32_t from_count, partitions;
    struct rml_gather_from *froms;
    struct line *lines;  // [from][partition]
    struct entry *entries;
    size_t entry_room;
};

int rml_gather_open(struct rml_gather **ret_gather, const struct rml_gather_from *froms,
                    uint32_t from_count, uint32_t partitions, struct rml_err *err)
{
    struct rml_gather *g = calloc(1, sizeof *g);
    if (g == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to order rows in");
    g->from_count = from_count;
    g->partitions = partitions;
    g->froms = calloc(from_count, sizeof *g->froms);
    g->lines = calloc((size_t)from_count * partitions, sizeof *g->lines);
    if (g->froms == NULL || g->lines == NULL) {
        rml_gather_close(g);
        return RML_FAIL(err, -ENOMEM, "no memory to order rows in");
    }
    memcpy(g->froms, froms, from_count * sizeof *froms);
    for (uint32_t f = 0; f < from_count; f++)
        for (uint32_t p = 0; p < partitions; p++)
            g->lines[(size_t)f * partitions + p].stride =
                sizeof(struct rml_result_row) + froms[f].schema->record_bytes;
    *ret_gather = g;
    return 0;
}

void rml_gather_close(struct rml_gather *g)
{
    if (g == NULL)
        return;
    for (size_t i = 0; g->lines != NULL && i < (size_t)g->from_count * g->partitions; i++)
        free(g->lines[i].rows);
    free(g->lines);
    free(g->froms);
    free(g->entries);
    free(g);
}

static struct line *line_of(struct rml_gather *g, uint32_t from, uint32_t partition)
{
    RML_CHECK(from < g->from_count && partition < g->partitions);
    return &g->lines[(size_t)from * g->partitions + partition];
}

static const struct rml_result_row *line_row(const struct line *line, size_t index)
{
    const void *at = line->rows + (line->first + index) * line->stride;
    return at;
}

static int line_grow(struct line *line, size_t more)
{
    if (line->first + line->count + more <= line->room)
        return 0;
    if (line->first > 0) {
        if (line->count > 0)
            memmove(line->rows, line->rows + line->first * line->stride,
                    line->count * line->stride);
        line->first = 0;
    }
    size_t need = line->count + more;
    if (need <= line->room)
        return 0;
    size_t room = line->room * 2 > need ? line->room * 2 : need;
    void *rows = realloc(line->rows, room * line->stride);
    if (rows == NULL)
        return -ENOMEM;
    line->rows = rows;
    line->room = room;
    return 0;
}

int rml_gather_add(struct rml_gather *g, uint32_t from, struct rml_result_block *block)
{
    struct line *line = line_of(g, from, block->partition);
    RML_CHECK(block->rows == 0 || block->row_stride == line->stride);
    if (block->rows == 0)
        return 0;
    int rc = line_grow(line, block->rows);
    if (rc < 0)
        return rc;
    memcpy(line->rows + (line->first + line->count) * line->stride, block->data,
           block->rows * line->stride);
    line->count += block->rows;
    return 0;
}

#define COMPARE(a, b) ((a) < (b) ? -1 : (a) > (b))

static int64_t signed_value(enum rml_type type, const unsigned char *at)
{
    int64_t value = 0;
    memcpy(&value, at,
           rml_type_info[type].bytes);  // little-endian: checked by runtime/lane/route.h
    uint32_t spare = 64 - 8 * rml_type_info[type].bytes;
    bool is_signed = type == RML_I8 || type == RML_I16 || type == RML_I32;
    return is_signed ? (int64_t)((uint64_t)value << spare) >> spare : value;
}

static int compare_float(double a, double b)
{
    // What is no number has no place among numbers: behind all of them.
    if (a != a || b != b)
        return COMPARE(a != a, b != b);
    return COMPARE(a, b);
}

static int compare_field(const struct rml_field *field, const unsigned char *a,
                         const unsigned char *b)
{
    a += field->offset;
    b += field->offset;
    switch (rml_type_info[field->type].kind) {
    case RML_KIND_UINT: {
        uint64_t x, y;
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        return COMPARE(x, y);
    }
    case RML_KIND_INT:
        return COMPARE(signed_value(field->type, a), signed_value(field->type, b));
    case RML_KIND_FLOAT: {
        double x, y;
        float x4, y4;
        memcpy(&x4, a, sizeof x4);
        memcpy(&y4, b, sizeof y4);
        if (field->type == RML_F32)
            return compare_float((double)x4, (double)y4);
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        return compare_float(x, y);
    }
    case RML_KIND_BOOL:
    case RML_KIND_STR:
        return memcmp(a, b, rml_type_info[field->type].bytes);
    case RML_KINDS:
        break;
    }
    RML_UNREACHABLE("every field has one of the kinds");
}

// The fields of a window's row: window_start, window_end, keys, revision, and so on. Rows of one window
// and key stay in the order in which they were made.
static int compare_window(const struct rml_gather_from *from, const unsigned char *a,
                          const unsigned char *b)
{
    const struct rml_field *fields = from->schema->fields;
    for (uint32_t k = 0; k < from->key_count; k++) {
        int way = compare_field(&fields[2 + k], a, b);
        if (way != 0)
            return way;
    }
    return compare_field(&fields[0], a, b);
}

static int compare_entries(const void *left, const void *right, void *context)
{
    const struct rml_gather *g = context;
    const struct entry *a = left, *b = right;
    int way = COMPARE(a->row->fire, b->row->fire);
    if (way == 0)
        way = COMPARE(a->from, b->from);
    if (way == 0 && g->froms[a->from].is_window)
        way = compare_window(&g->froms[a->from], a->row->record, b->row->record);
    if (way == 0)
        way = COMPARE(a->partition, b->partition);
    return way != 0 ? way : COMPARE(a->row->seq, b->row->seq);
}

static size_t line_before(const struct line *line, int64_t before)
{
    if (before == RML_TIME_END)
        return line->count;
    size_t low = 0, high = line->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (line_row(line, middle)->fire < before)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void entries_grow(struct rml_gather *g, size_t need)
{
    if (need <= g->entry_room)
        return;
    size_t room = g->entry_room * 2 > need ? g->entry_room * 2 : need;
    void *entries = realloc(g->entries, room * sizeof *g->entries);
    // Rows are larger than entries: who could hold those can hold these, or the machine is at its end.
    RML_CHECK(entries != NULL);
    g->entries = entries;
    g->entry_room = room;
}

static size_t list(struct rml_gather *g, size_t used, uint32_t from, uint32_t partition,
                   int64_t before)
{
    const struct line *line = line_of(g, from, partition);
    size_t count = line_before(line, before);
    entries_grow(g, used + count);
    for (size_t i = 0; i < count; i++)
        g->entries[used + i] = (struct entry){line_row(line, i), from, partition};
    return used + count;
}

static void drop(struct line *line, size_t count)
{
    line->first += count;
    line->count -= count;
    if (line->count == 0)
        line->first = 0;
}

static void put_sorted(struct rml_gather *g, size_t count, rml_gather_fn *put, void *context)
{
    if (count > 1)
        qsort_r(g->entries, count, sizeof *g->entries, compare_entries, g);
    for (size_t i = 0; i < count; i++)
        put(context, g->entries[i].from, g->entries[i].row);
}

uint64_t rml_gather_put_one(struct rml_gather *g, uint32_t from, uint32_t partition,
                            rml_gather_fn *put, void *context)
{
    size_t count = list(g, 0, from, partition, RML_TIME_END);
    put_sorted(g, count, put, context);
    drop(line_of(g, from, partition), count);
    return count;
}

uint64_t rml_gather_put_before(struct rml_gather *g, int64_t before, rml_gather_fn *put,
                               void *context)
{
    size_t count = 0;
    for (uint32_t f = 0; f < g->from_count; f++)
        for (uint32_t p = 0; p < g->partitions; p++)
            count = list(g, count, f, p, before);
    put_sorted(g, count, put, context);
    for (uint32_t f = 0; f < g->from_count && count > 0; f++) {
        for (uint32_t p = 0; p < g->partitions; p++) {
            struct line *line = line_of(g, f, p);
            drop(line, line_before(line, before));
        }
    }
    return count;
}
