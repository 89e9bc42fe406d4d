#include "runtime/table/results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/checkpoints.h"
#include "runtime/record/order.h"
#include "runtime/time/time.h"

#define LOOKS_MOST (20 * RML_RESULTS_ROWS)  // rows that are looked at before the state is let go

/* Which tables there are */

static bool is_of(const struct rml_table_row *row, const char *table)
{
    return row->table_bytes == strlen(table) && memcmp(row->table, table, row->table_bytes) == 0;
}

int rml_results_find(struct rml_checkpoints *checkpoints, const char *name,
                     struct rml_shape *ret_shape, struct rml_shape_state *ret_state,
                     struct rml_err *err)
{
    struct rml_catalog_view *view;
    struct rml_table_row row;
    uint32_t bytes = (uint32_t)strlen(name);
    int rc = rml_catalog_look(rml_checkpoints_catalog(checkpoints), &view, err);
    if (rc < 0)
        return rc;
    rc = bytes > 0 ? rml_catalog_row(view, RML_SHAPE_TABLES, name, bytes, false, &row, err)
                   : -ENOENT;
    if (rc == 0)
        rc = rml_shape_read(name, bytes, row.value, row.value_bytes, ret_shape, ret_state, err);
    rml_catalog_view_close(view);
    return rc;
}

/* The note of one table, or of the next one, copied. */
struct listed {
    char name[RML_TABLE_KEY_BYTES];
    uint32_t bytes;
    bool is_last;  // there may be more, behind a name that none has
    struct rml_shape shape;
    struct rml_shape_state state;
    struct rml_err why;  // it cannot be read; code 0: it can
};

// The first one from that name on. 0, -ENOENT: there is none, or another negative errno.
static int read_note(struct rml_checkpoints *checkpoints, struct listed *at, struct rml_err *err)
{
    struct rml_catalog_view *view;
    struct rml_table_row row = {0};
    int rc = rml_catalog_look(rml_checkpoints_catalog(checkpoints), &view, err);
    if (rc < 0)
        return rc;
    rc = rml_catalog_row(view, RML_SHAPE_TABLES, at->name, at->bytes, true, &row, err);
    if (rml_catalog_is_out_of_reach(rc, &row)) {
        rml_catalog_view_close(view);
        return rc;
    }
    if ((rc == 0 || rc == -EBADMSG) && !is_of(&row, RML_SHAPE_TABLES))
        rc = -ENOENT;
    at->why = (struct rml_err){0};
    if (rc == -EBADMSG)
        rml_err_set(&at->why, rc, "the note of table %.*s is not what was written",
                    (int)row.key_bytes, (const char *)row.key);
    else if (rc == 0)
        (void)rml_shape_read(row.key, row.key_bytes, row.value, row.value_bytes, &at->shape,
                             &at->state, &at->why);
    if (rc == 0 || rc == -EBADMSG) {
        at->is_last = row.key_bytes >= sizeof at->name;
        at->bytes = at->is_last ? 0 : row.key_bytes;
        memcpy(at->name, row.key, at->bytes);
        at->name[at->bytes++] = '\0';  // the least name behind it
        rc = 0;
    }
    rml_catalog_view_close(view);
    return rc;
}

int rml_results_list(struct rml_checkpoints *checkpoints,
                     void (*each)(void *context, const struct rml_shape *shape,
                                  const struct rml_shape_state *state),
                     void (*damage)(void *context, const char *sentence), void *context,
                     struct rml_err *err)
{
    struct listed at = {.bytes = 0};
    int rc;
    while ((rc = at.is_last ? -ENOENT : read_note(checkpoints, &at, err)) == 0) {
        if (at.why.code < 0)
            damage(context, at.why.text);
        else
            each(context, &at.shape, &at.state);
    }
    return rc == -ENOENT ? 0 : rc;
}

/* Reading */

/* A place among the rows, or in the list by time. */
struct place {
    unsigned char key[RML_TABLE_KEY_BYTES];
    uint32_t bytes;
};

struct reading {
    const struct rml_results_query *query;
    const struct rml_shape *shape;
    struct rml_checkpoints *checkpoints;
    struct rml_catalog_view *view;
    struct rml_err *err;
    bool is_by_time;
    bool is_counting;                        // nothing is handed on, nor said
    const char *table;                       // what is walked along
    unsigned char prefix[RML_SHAPE_ID_MAX];  // of identities
    uint32_t prefix_bytes;
    struct place at, end;  // the next one is there or behind it, and before the end
    bool has_end;
    uint64_t left;          // rows that are still wanted
    unsigned char *memory;  // RML_RESULTS_ROWS rows
    uint32_t row_bytes, row_count;
};

static bool is_behind(const unsigned char *key, uint32_t bytes, const struct place *place)
{
    int way = memcmp(key, place->key, bytes < place->bytes ? bytes : place->bytes);
    return way > 0 || (way == 0 && bytes >= place->bytes);
}

static bool has_windows(const struct rml_shape *shape)
{
    return shape->start != shape->time && !shape->is_timed_made;
}

static int64_t start_of(const struct rml_shape *shape, const void *record)
{
    int64_t start;
    memcpy(&start, (const char *)record + shape->schema.fields[shape->start].offset, sizeof start);
    return start;
}

static bool is_in_time(const struct reading *r, const struct rml_shape_head *head,
                       const void *record)
{
    const struct rml_results_query *query = r->query;
    if (has_windows(r->shape))
        return start_of(r->shape, record) >= query->from && head->time <= query->to;
    return head->time >= query->from && (head->time < query->to || query->to == RML_TIME_END);
}

static void complain(const struct reading *r, const unsigned char *id, uint32_t bytes,
                     const char *what)
{
    char row[RML_SHAPE_ROW_TEXT], sentence[RML_SHAPE_ROW_TEXT + 100];
    if (r->is_counting)
        return;
    rml_shape_name_row(r->shape, id, bytes, row);
    snprintf(sentence, sizeof sentence, "table %s: %s %s", r->shape->name, row, what);
    r->query->damage(r->query->context, sentence);
}

// What lies under an identity, if it is wanted, as a row of ours.
static bool take(struct reading *r, const unsigned char *id, uint32_t id_bytes,
                 const struct rml_table_row *row)
{
    struct rml_shape_head head;
    if (row->value_bytes != sizeof head + r->shape->schema.record_bytes) {
        complain(r, id, id_bytes, "has another length than its table's");
        return false;
    }
    memcpy(&head, row->value, sizeof head);
    const unsigned char *record = (const unsigned char *)row->value + sizeof head;
    if (!is_in_time(r, &head, record))
        return false;
    if (!r->is_counting)
        memcpy(r->memory + (size_t)r->row_count * r->row_bytes, row->value, row->value_bytes);
    r->row_count++;
    return true;
}

static bool has_prefix(const struct reading *r, const unsigned char *id, uint32_t bytes)
{
    return bytes >= r->prefix_bytes && memcmp(id, r->prefix, r->prefix_bytes) == 0;
}

// An entry of what is walked along. `rc` is how reading it went. Returns whether it is a wanted row.
static bool look_at(struct reading *r, const struct rml_table_row *row, int rc)
{
    const unsigned char *id = row->key;
    uint32_t id_bytes = row->key_bytes;
    struct rml_table_row found = *row;
    if (r->is_by_time) {
        if (id_bytes <= sizeof(int64_t)) {
            complain(r, id, 0, "is damaged in the list by time");
            return false;
        }
        id += sizeof(int64_t);
        id_bytes -= (uint32_t)sizeof(int64_t);
        if (!has_prefix(r, id, id_bytes))
            return false;
        if (rc < 0)
            complain(r, id, id_bytes, "is damaged in the list by time");
        rc = rml_catalog_row(r->view, r->shape->name, id, id_bytes, false, &found, NULL);
    }
    if (rc == 0)
        return take(r, id, id_bytes, &found);
    complain(r, id, id_bytes,
             rc == -ENOENT ? "is in the list by time and is not there"
                           : "is damaged: it is not what was written");
    return false;
}

// Nothing behind this entry is wanted.
static bool is_over(const struct reading *r, const struct rml_table_row *row)
{
    const unsigned char *key = row->key;
    if (!is_of(row, r->table) || (r->has_end && is_behind(key, row->key_bytes, &r->end)))
        return true;
    if (!r->is_by_time && !has_prefix(r, key, row->key_bytes))
        return true;
    if (!r->is_by_time && r->query->key_count < r->shape->key_count)
        return false;  // several keys, each from its beginning
    if (!r->is_by_time)
        key += r->prefix_bytes;
    size_t bytes = row->key_bytes - (size_t)(key - (const unsigned char *)row->key);
    return bytes >= sizeof(int64_t) && rml_order_take_time(key) > r->query->to;
}

static void go_behind(struct place *place, const struct rml_table_row *row)
{
    memcpy(place->key, row->key, row->key_bytes);
    place->bytes = row->key_bytes;
    if (place->bytes < sizeof place->key)
        place->key[place->bytes++] = 0;  // the least key behind it
}

// Some rows into memory, of one state. 1: there is more; 0: that was all.
static int read_some(struct reading *r)
{
    int rc = rml_catalog_look(rml_checkpoints_catalog(r->checkpoints), &r->view, r->err);
    if (rc < 0)
        return rc;
    bool is_done = false;
    r->row_count = 0;
    for (uint32_t looks = 0; rc >= 0 && !is_done && looks < LOOKS_MOST
                             && r->row_count < RML_RESULTS_ROWS && r->row_count < r->left;
         looks++) {
        struct rml_table_row row = {0};
        // each time from the root: looking a row up moves the cursor
        rc = rml_catalog_row(r->view, r->table, r->at.key, r->at.bytes, true, &row, r->err);
        is_done = rc == -ENOENT || (row.key != NULL && is_over(r, &row));
        if (is_done || row.key == NULL)
            break;
        go_behind(&r->at, &row);
        (void)look_at(r, &row, rc);
        rc = 0;
    }
    rml_catalog_view_close(r->view);
    r->left -= r->row_count;
    return rc < 0 && rc != -ENOENT ? rc : !is_done && r->left > 0;
}

static int hand_on(const struct reading *r)
{
    int rc = 0;
    for (uint32_t i = 0; i < r->row_count && rc == 0; i++) {
        struct rml_shape_head head;
        const unsigned char *row = r->memory + (size_t)i * r->row_bytes;
        memcpy(&head, row, sizeof head);
        rc = r->query->row(r->query->context, &head, row + sizeof head);
    }
    return rc;
}

// Behind everything that could be wanted; false: that is the end of all.
static bool find_end(const struct reading *r, struct place *ret_end)
{
    int64_t to = r->query->to;
    if (!r->is_by_time) {
        memcpy(ret_end->key, r->prefix, r->prefix_bytes);
        memset(ret_end->key + r->prefix_bytes, 0xff, sizeof ret_end->key - r->prefix_bytes);
        ret_end->bytes = sizeof ret_end->key;
        return true;
    }
    rml_order_put_time(rml_time_add(to, 1), ret_end->key);
    ret_end->bytes = sizeof to;
    return to < RML_TIME_END - 1;
}

// From the end back by as many rows as are wanted: that is where reading begins, and the end where it ends.
static int go_back(struct reading *r)
{
    int rc = rml_catalog_look(rml_checkpoints_catalog(r->checkpoints), &r->view, r->err);
    if (rc < 0)
        return rc;
    const struct place begin = r->at;
    struct place here;
    bool has_place = find_end(r, &here);
    bool is_lost = false;
    r->is_counting = true;
    r->row_count = 0;
    while (r->row_count < r->query->last) {
        struct rml_table_row row = {0};
        rc = rml_catalog_row_before(r->view, r->table, has_place ? here.key : NULL, here.bytes,
                                    &row, r->err);
        is_lost = rml_catalog_is_out_of_reach(rc, &row);
        if (row.key == NULL || !is_behind(row.key, row.key_bytes, &begin))
            break;
        if (!r->has_end)
            go_behind(&r->end, &row);
        r->has_end = has_place = true;
        memcpy(here.key, row.key, row.key_bytes);
        here.bytes = row.key_bytes;
        r->at = here;
        (void)look_at(r, &row, rc);
    }
    rml_catalog_view_close(r->view);
    r->is_counting = false;
    return is_lost || (rc < 0 && rc != -ENOENT && rc != -EBADMSG) ? rc : 0;
}

static void find_begin(struct reading *r)
{
    const struct rml_results_query *query = r->query;
    r->prefix_bytes = rml_shape_prefix(r->shape, query->key, query->key_count, r->prefix);
    // of the global window the start says nothing of a row's time
    bool is_whole =
        query->key_count > 0 && query->key_count == r->shape->key_count && !r->shape->is_timed_made;
    if (!r->is_by_time) {
        memcpy(r->at.key, r->prefix, r->prefix_bytes);
        r->at.bytes = r->prefix_bytes;
    }
    if (r->is_by_time || is_whole) {
        rml_order_put_time(query->from, r->at.key + r->at.bytes);
        r->at.bytes += (uint32_t)sizeof query->from;
    }
}

int rml_results_read(struct rml_checkpoints *checkpoints, const struct rml_results_query *query,
                     struct rml_err *err)
{
    const struct rml_shape *shape = query->shape;
    RML_CHECK(query->key_count <= shape->key_count && (query->first == 0 || query->last == 0));
    struct reading r = {.query = query,
                        .shape = shape,
                        .checkpoints = checkpoints,
                        .err = err,
                        .left = query->first > 0 ? query->first : UINT64_MAX};
    r.is_by_time =
        query->key_count == 0 || (query->key_count < shape->key_count && query->last > 0);
    r.table = r.is_by_time ? shape->by_time : shape->name;
    r.row_bytes = (uint32_t)sizeof(struct rml_shape_head) + shape->schema.record_bytes;
    r.memory = malloc((size_t)RML_RESULTS_ROWS * r.row_bytes);
    if (r.memory == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for rows");
    find_begin(&r);
    int rc = query->last > 0 ? go_back(&r) : 0;
    bool more = rc == 0;
    while (more) {
        rc = read_some(&r);
        more = rc > 0;
        int said = hand_on(&r);
        if (said != 0) {
            rc = said;
            break;
        }
    }
    free(r.memory);
    return rc;
}
