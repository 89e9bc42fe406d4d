#include "runtime/table/tables.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/io/pile.h"
#include "runtime/record/order.h"
#include "runtime/table/shape.h"
#include "runtime/time/time.h"

#define NO_TABLE  UINT32_MAX
#define ROOM_KEPT ((size_t)1 << 20)  // changes; more is given back

struct table {
    struct rml_shape shape;
    uint32_t sink, stage;
    bool is_emptied;                     // what is there goes with the next checkpoint
    struct rml_shape_state state, next;  // as of the last checkpoint; as of the one under way
};

/* What becomes of one identity. */
struct change {
    const struct rml_pile_row *row;  // NULL: it is removed
    const unsigned char *id;
    uint64_t id_at;  // its place among all identities of the checkpoint, in the order of rows
    uint32_t id_bytes;
    uint32_t table;
    int64_t time;  // of the row
};

struct rml_tables {
    const struct rml_plan *plan;
    uint32_t count;
    struct table *tables;
    uint32_t of_output[RML_OUTPUTS_MAX];  // NO_TABLE: it has none

    // Set aside from checkpoint to checkpoint.
    struct change *changes;
    struct change **by_time;
    size_t room;  // of both
    unsigned char *ids;
    size_t ids_room;
};

/* Opening */

// It begins anew, but for the number of its life: of one that cannot be read another one is as good.
static void empty(struct table *table, const struct rml_shape_state *was)
{
    table->is_emptied = true;
    table->state = (struct rml_shape_state){.life = was->life + 1, .clock = RML_TIME_NONE};
}

// Put before what is damaged, and what helps; details, which may be cut, stand behind.
static int say_way_out(const struct rml_shape *shape, const char *file, const char *what,
                       struct rml_err *err)
{
    return RML_WRAP(err, -EBADMSG,
                    "%.200s; `ringmill run --fresh %.*s %.80s` gives that table up, and goes on "
                    "with all else",
                    what, (int)strcspn(shape->name, "."), shape->name, file);
}

static int read_note(struct table *table, const char *file, struct rml_catalog_view *view,
                     bool is_emptied, struct rml_err *err)
{
    struct rml_table_row row;
    struct rml_shape there;
    const char *name = table->shape.name;
    char sentence[300];
    table->state = (struct rml_shape_state){.clock = RML_TIME_NONE};
    int rc =
        rml_catalog_row(view, RML_SHAPE_TABLES, name, (uint32_t)strlen(name), false, &row, err);
    if (rc == -ENOENT)
        return 0;
    if (rc == 0)
        rc = rml_shape_read(name, (uint32_t)strlen(name), row.value, row.value_bytes, &there,
                            &table->state, err);
    if (is_emptied) {
        empty(table, &table->state);
        return 0;
    }
    if (rc == -EBADMSG) {
        snprintf(sentence, sizeof sentence, "what is noted of table %s is damaged", name);
        return say_way_out(&table->shape, file, sentence, err);
    }
    if (rc == 0 && rml_shape_differs(&there, &table->shape, sentence))
        rc = RML_FAIL(err, -EINVAL,
                      "stage %s was changed and does not fit its table: %s; `ringmill run --fresh "
                      "%.*s %.80s` empties that table",
                      name, sentence, (int)strcspn(name, "."), name, file);
    return rc;
}

static int open_tables(struct rml_tables *tables, struct rml_vault *vault, uint64_t emptied,
                       struct rml_err *err)
{
    struct rml_catalog_view *view;
    int rc = rml_vault_look(vault, &view, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; rc == 0 && i < tables->count; i++)
        rc = read_note(&tables->tables[i], tables->plan->path, view,
                       (emptied >> tables->tables[i].stage & 1) != 0, err);
    rml_catalog_view_close(view);
    return rc;
}

static void list_tables(struct rml_tables *tables, const struct rml_plan *plan)
{
    struct rml_output outputs[RML_OUTPUTS_MAX];
    uint32_t output_count = rml_outputs_list(plan, outputs);
    for (uint32_t o = 0; o < output_count; o++)
        tables->of_output[o] = NO_TABLE;
    for (uint32_t s = 0; s < plan->sink_count; s++) {
        const struct rml_plan_sink *sink = &plan->sinks[s];
        for (uint32_t f = 0; sink->kind == RML_SINK_TABLE && f < sink->from_count; f++) {
            struct table *table = &tables->tables[tables->count];
            table->sink = s;
            table->stage = sink->from[f].stage;
            rml_shape_of(plan, sink->from[f], &table->shape);
            for (uint32_t o = 0; o < output_count; o++)
                if (outputs[o].stage == sink->from[f].stage
                    && outputs[o].late == sink->from[f].late)
                    tables->of_output[o] = tables->count;
            tables->count++;
        }
    }
}

int rml_tables_open(struct rml_tables **ret_tables, const struct rml_plan *plan,
                    struct rml_vault *vault, uint64_t emptied, struct rml_err *err)
{
    struct rml_tables *tables = calloc(1, sizeof *tables);
    if (tables == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for tables");
    tables->plan = plan;
    tables->tables = calloc(RML_OUTPUTS_MAX, sizeof *tables->tables);
    int rc = tables->tables != NULL ? 0 : RML_FAIL(err, -ENOMEM, "no memory for tables");
    if (rc == 0) {
        list_tables(tables, plan);
        rc = tables->count > 0 ? open_tables(tables, vault, emptied, err) : 0;
    }
    if (rc < 0)
        rml_tables_close(tables);
    else
        *ret_tables = tables;
    return rc;
}

void rml_tables_close(struct rml_tables *tables)
{
    if (tables == NULL)
        return;
    free(tables->changes);
    free(tables->by_time);
    free(tables->ids);
    free(tables->tables);
    free(tables);
}

void rml_tables_begin_anew(struct rml_tables *tables)
{
    for (uint32_t i = 0; i < tables->count; i++) {
        struct rml_shape_state *state = &tables->tables[i].state;
        state->life++;
        state->put = state->put_bytes = 0;
    }
}

/* Which identities change */

static void forget_room(struct rml_tables *tables)
{
    free(tables->changes);
    free(tables->by_time);
    free(tables->ids);
    tables->changes = NULL;
    tables->by_time = NULL;
    tables->ids = NULL;
    tables->room = tables->ids_room = 0;
}

// Room for whatever the rows can change: of one row its own identity and what it was a correction of.
static int make_room(struct rml_tables *tables, uint64_t rows, struct rml_err *err)
{
    size_t room = 2 * (size_t)rows;
    if (room <= tables->room)
        return 0;
    forget_room(tables);
    tables->changes = malloc(room * sizeof *tables->changes);
    tables->by_time = malloc(room * sizeof(struct change *));
    if (tables->changes == NULL || tables->by_time == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for %zu rows of tables", room);
    tables->room = room;
    return 0;
}

static int make_id_room(struct rml_tables *tables, size_t used, struct rml_err *err)
{
    if (tables->ids_room - used >= 2 * RML_SHAPE_ID_MAX)
        return 0;
    size_t room = 2 * tables->ids_room + 4096;
    unsigned char *ids = realloc(tables->ids, room);
    if (ids == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for the keys of tables");
    tables->ids = ids;
    tables->ids_room = room;
    return 0;
}

static struct rml_shape_head head_of(const struct table *table, const struct rml_pile_row *row)
{
    return (struct rml_shape_head){
        .time = rml_shape_time(&table->shape, row->record, row->fire),
        .fire = row->fire,
        .seq = row->seq,
        .life = table->state.life,
        .partition = row->partition,
    };
}

/*
 * One row's changes. An evicted row is the last of what its key's window had: it takes the place of
 * that, and is a part from then on. `id` is set once all are listed, for the memory moves.
 */
static size_t list_row(struct rml_tables *tables, const struct rml_pile_row *row, uint32_t index,
                       struct change *changes, size_t *used)
{
    struct table *table = &tables->tables[index];
    const struct rml_shape_head head = head_of(table, row);
    const struct rml_shape *shape = &table->shape;
    bool is_part = rml_shape_is(shape, row->record, shape->evicted);
    bool is_gone = rml_shape_is(shape, row->record, shape->retracted);
    size_t count = 0;
    int last = is_part && !shape->is_each ? 1 : 0;
    for (int part = 0; part <= last; part++) {
        uint32_t bytes = rml_shape_id(shape, row->record, &head, part, tables->ids + *used);
        bool is_put = !is_gone && part == last;
        changes[count++] = (struct change){.row = is_put ? row : NULL,
                                           .id_at = *used,
                                           .id_bytes = bytes,
                                           .table = index,
                                           .time = head.time};
        *used += bytes;
    }
    return count;
}

static int list_changes(struct rml_tables *tables, const struct rml_pile *pile, size_t *ret_count,
                        struct rml_err *err)
{
    const struct rml_pile_row *row;
    size_t at = 0, used = 0, count = 0;
    int rc = make_room(tables, pile->ready.count, err);
    while (rc == 0 && (row = rml_pile_next(pile, &at)) != NULL) {
        uint32_t index = tables->of_output[row->output];
        RML_CHECK(index != NO_TABLE);
        rc = make_id_room(tables, used, err);
        if (rc < 0)
            break;
        count += list_row(tables, row, index, tables->changes + count, &used);
        struct rml_shape_state *next = &tables->tables[index].next;
        next->put++;
        next->put_bytes += row->record_bytes;
        if (row->fire != RML_TIME_END && row->fire > next->clock)
            next->clock = row->fire;
    }
    for (size_t i = 0; i < count; i++)
        tables->changes[i].id = tables->ids + tables->changes[i].id_at;
    *ret_count = count;
    return rc;
}

static int compare_bytes(const unsigned char *a, uint32_t a_bytes, const unsigned char *b,
                         uint32_t b_bytes)
{
    int way = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return way != 0 ? way : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_ids(const struct change *a, const struct change *b)
{
    if (a->table != b->table)
        return a->table < b->table ? -1 : 1;
    return compare_bytes(a->id, a->id_bytes, b->id, b->id_bytes);
}

static int compare_changes(const void *left, const void *right)
{
    const struct change *a = left, *b = right;
    int way = compare_ids(a, b);
    return way != 0 ? way : (a->id_at > b->id_at) - (a->id_at < b->id_at);
}

static size_t keep_last(struct change *changes, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && compare_ids(&changes[kept - 1], &changes[i]) == 0)
            kept--;
        changes[kept++] = changes[i];
    }
    return kept;
}

/* Into the vault */

/* One table's part of a checkpoint. */
struct putting {
    struct rml_tables *tables;
    struct table *table;
    struct rml_vault *vault;
    struct rml_catalog_view *view;
    struct change *changes;  // its own, by identity
    size_t count;
    struct rml_err *err;
};

static uint32_t time_key(int64_t time, const unsigned char *id, uint32_t id_bytes,
                         unsigned char to[RML_TABLE_KEY_BYTES])
{
    rml_order_put_time(time, to);
    memcpy(to + sizeof time, id, id_bytes);
    return (uint32_t)sizeof time + id_bytes;
}

static int change_list(const struct putting *p, int64_t time, const unsigned char *id,
                       uint32_t id_bytes, bool is_put)
{
    unsigned char key[RML_TABLE_KEY_BYTES];
    uint32_t bytes = time_key(time, id, id_bytes, key);
    return rml_vault_row(p->vault, p->table->shape.by_time, key, bytes, is_put ? "" : NULL, 0,
                         p->err);
}

static int change_row(const struct putting *p, const unsigned char *id, uint32_t id_bytes,
                      const void *value, uint32_t value_bytes)
{
    return rml_vault_row(p->vault, p->table->shape.name, id, id_bytes, value, value_bytes, p->err);
}

static int put_value(const struct putting *p, const struct change *change)
{
    unsigned char value[sizeof(struct rml_shape_head) + RML_RECORD_MAX];
    const struct rml_shape_head head = head_of(p->table, change->row);
    memcpy(value, &head, sizeof head);
    memcpy(value + sizeof head, change->row->record, change->row->record_bytes);
    return change_row(p, change->id, change->id_bytes, value,
                      (uint32_t)sizeof head + change->row->record_bytes);
}

// LMDB does not get to where a row would lie. A row that is damaged itself has its key.
static int fail_to_reach(const struct putting *p, const char *what)
{
    char sentence[200];
    snprintf(sentence, sizeof sentence, "%.120s cannot be reached, so no checkpoint comes to be",
             what);
    int rc = say_way_out(&p->table->shape, p->tables->plan->path, sentence, p->err);
    return RML_WRAP(p->err, rc, "table %s", p->table->shape.name);
}

// The row that is there: 1, and its time; 0: there is none; or an error. Of a damaged one nobody knows the
// time, so its place in the list stays behind, and is dropped when it is met.
static int look_up(const struct putting *p, const unsigned char *id, uint32_t id_bytes,
                   int64_t *ret_time, bool *ret_is_known)
{
    struct rml_table_row row = {0};
    struct rml_shape_head head;
    if (p->table->is_emptied)
        return 0;
    int rc = rml_catalog_row(p->view, p->table->shape.name, id, id_bytes, false, &row, p->err);
    if (rc == -ENOENT)
        return 0;
    if (rml_catalog_is_out_of_reach(rc, &row)) {
        char name[RML_SHAPE_ROW_TEXT];
        rml_shape_name_row(&p->table->shape, id, id_bytes, name);
        return fail_to_reach(p, name);
    }
    if (rc < 0 && rc != -EBADMSG)
        return rc;
    *ret_is_known = rc == 0 && row.value_bytes >= sizeof head;
    if (*ret_is_known) {
        memcpy(&head, row.value, sizeof head);
        *ret_time = head.time;
    }
    return 1;
}

// A time that has gone by for longer than rows are kept.
static bool is_old(const struct table *table, int64_t time)
{
    int64_t keep = table->next.keep_ns;
    return keep > 0 && table->next.clock != RML_TIME_NONE && time != RML_TIME_END
           && rml_time_add(time, keep) <= table->next.clock;
}

static int apply(struct putting *p, struct change *change)
{
    int64_t was = 0;
    bool is_known = false;
    int there = look_up(p, change->id, change->id_bytes, &was, &is_known);
    if (there < 0)
        return there;
    if (change->row != NULL && is_old(p->table, change->time))
        change->row = NULL;
    int rc = 0;
    if (is_known && (change->row == NULL || was != change->time))
        rc = change_list(p, was, change->id, change->id_bytes, false);
    if (rc == 0 && change->row != NULL && !(is_known && was == change->time))
        rc = change_list(p, change->time, change->id, change->id_bytes, true);
    if (rc == 0 && change->row != NULL)
        rc = put_value(p, change);
    else if (rc == 0 && there > 0)
        rc = change_row(p, change->id, change->id_bytes, NULL, 0);
    p->table->next.rows += (uint64_t)(change->row != NULL);
    p->table->next.rows -= (uint64_t)(there > 0);
    return rc;
}

/* Dropping what is old, or too many */

static bool has_too_many(const struct table *table)
{
    return table->next.rows_max > 0 && table->next.rows > table->next.rows_max;
}

static struct change *find_change(const struct putting *p, const unsigned char *id,
                                  uint32_t id_bytes)
{
    size_t low = 0, high = p->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct change *change = &p->changes[middle];
        int way = compare_bytes(change->id, change->id_bytes, id, id_bytes);
        if (way == 0)
            return change;
        if (way < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int compare_times(int64_t a_time, const unsigned char *a, uint32_t a_bytes, int64_t b_time,
                         const unsigned char *b, uint32_t b_bytes)
{
    if (a_time != b_time)
        return a_time < b_time ? -1 : 1;
    return compare_bytes(a, a_bytes, b, b_bytes);
}

static int compare_by_time(const void *left, const void *right)
{
    const struct change *a = *(struct change *const *)left, *b = *(struct change *const *)right;
    return compare_times(a->time, a->id, a->id_bytes, b->time, b->id, b->id_bytes);
}

// Those that are put, the oldest first; only where some may have to go again.
static int list_by_time(const struct putting *p, struct change **list, size_t *ret_count)
{
    size_t count = 0;
    for (size_t i = 0; i < p->count && has_too_many(p->table); i++)
        if (p->changes[i].row != NULL)
            list[count++] = &p->changes[i];
    if (count > 1)
        qsort(list, count, sizeof(struct change *), compare_by_time);
    *ret_count = count;
    return 0;
}

/* An entry of a list by time, as the last checkpoint left it. */
struct listed {
    bool is_there;
    int64_t time;
    const unsigned char *id;
    uint32_t id_bytes;
    unsigned char next[RML_TABLE_KEY_BYTES + 1];  // the least key behind it
    uint32_t next_bytes;
};

// Those that are damaged are entries, too: nothing is done because of one before its row was looked at.
static int next_listed(const struct putting *p, struct listed *listed)
{
    struct rml_table_row row = {0};
    listed->is_there = false;
    if (p->table->is_emptied)
        return 0;
    do {
        int rc = rml_catalog_row(p->view, p->table->shape.by_time, listed->next, listed->next_bytes,
                                 true, &row, p->err);
        if (rml_catalog_is_out_of_reach(rc, &row))
            return fail_to_reach(p, "the list of its rows by time");
        listed->is_there = rc == 0 || rc == -EBADMSG;
        if (!listed->is_there)
            return rc == -ENOENT ? 0 : rc;
        memcpy(listed->next, row.key, row.key_bytes);
        listed->next[row.key_bytes] = 0;
        listed->next_bytes = row.key_bytes + 1;
    } while (row.key_bytes <= sizeof listed->time || listed->next_bytes > RML_TABLE_KEY_BYTES);
    listed->time = rml_order_take_time(row.key);
    listed->id = (const unsigned char *)row.key + sizeof listed->time;
    listed->id_bytes = row.key_bytes - (uint32_t)sizeof listed->time;
    return 0;
}

static int drop_listed(struct putting *p, const struct listed *listed)
{
    int64_t time = 0;
    bool is_known = false;
    if (find_change(p, listed->id, listed->id_bytes) != NULL)
        return 0;  // what becomes of it has been settled
    int there = look_up(p, listed->id, listed->id_bytes, &time, &is_known);
    if (there < 0)
        return there;
    int rc = change_list(p, listed->time, listed->id, listed->id_bytes, false);
    if (rc < 0 || there == 0 || (is_known && time != listed->time))
        return rc;
    p->table->next.rows--;
    return change_row(p, listed->id, listed->id_bytes, NULL, 0);
}

static int drop_put(struct putting *p, struct change *change)
{
    int rc = change_list(p, change->time, change->id, change->id_bytes, false);
    if (rc == 0)
        rc = change_row(p, change->id, change->id_bytes, NULL, 0);
    change->row = NULL;
    p->table->next.rows--;
    return rc;
}

static int drop_oldest(struct putting *p, struct change **put)
{
    struct listed listed = {.next_bytes = 0};
    size_t count, at = 0;
    int rc = list_by_time(p, put, &count);
    while (rc == 0) {
        rc = next_listed(p, &listed);
        while (rc == 0 && at < count && has_too_many(p->table)
               && (!listed.is_there
                   || compare_times(put[at]->time, put[at]->id, put[at]->id_bytes, listed.time,
                                    listed.id, listed.id_bytes)
                          < 0))
            rc = drop_put(p, put[at++]);
        if (rc < 0 || !listed.is_there
            || (!is_old(p->table, listed.time) && !has_too_many(p->table)))
            break;
        rc = drop_listed(p, &listed);
    }
    return rc;
}

/* A checkpoint's part */

static int put_note(const struct putting *p)
{
    unsigned char note[RML_SHAPE_NOTE_MAX];
    const struct rml_shape *shape = &p->table->shape;
    uint32_t bytes = rml_shape_write(shape, &p->table->next, note);
    return rml_vault_row(p->vault, RML_SHAPE_TABLES, shape->name, (uint32_t)strlen(shape->name),
                         note, bytes, p->err);
}

static int remove_rows(const struct putting *p, const char *name)
{
    struct rml_table_row row = {0};
    int rc = rml_catalog_row(p->view, name, "", 0, true, &row, p->err);
    while ((rc == 0 || rc == -EBADMSG) && row.table_bytes == strlen(name)
           && memcmp(row.table, name, row.table_bytes) == 0) {
        rc = rml_vault_row(p->vault, name, row.key, row.key_bytes, NULL, 0, p->err);
        if (rc < 0)
            return rc;
        row = (struct rml_table_row){0};
        rc = rml_catalog_next_row(p->view, &row, p->err);
    }
    return rc == -ENOENT || rc == -EBADMSG ? 0 : rc;
}

static int put_table(struct putting *p, struct change **put)
{
    int rc = p->table->is_emptied ? remove_rows(p, p->table->shape.name) : 0;
    if (rc == 0 && p->table->is_emptied)
        rc = remove_rows(p, p->table->shape.by_time);
    for (size_t i = 0; rc == 0 && i < p->count; i++)
        rc = apply(p, &p->changes[i]);
    if (rc == 0)
        rc = drop_oldest(p, put);
    return rc == 0 ? put_note(p) : rc;
}

static int put_all(struct rml_tables *tables, struct rml_vault *vault, size_t count,
                   struct rml_err *err)
{
    struct rml_catalog_view *view;
    int rc = rml_vault_look(vault, &view, err);
    if (rc < 0)
        return rc;
    size_t at = 0;
    for (uint32_t t = 0; rc == 0 && t < tables->count; t++) {
        struct putting p = {.tables = tables,
                            .table = &tables->tables[t],
                            .vault = vault,
                            .view = view,
                            .changes = tables->changes + at,
                            .err = err};
        while (at + p.count < count && p.changes[p.count].table == t)
            p.count++;
        at += p.count;
        rc = put_table(&p, tables->by_time);
        if (rc < 0 && rc != -EBADMSG)
            rc = RML_WRAP(err, rc, "table %s", tables->tables[t].shape.name);
    }
    rml_catalog_view_close(view);
    return rc;
}

static void begin_next(struct rml_tables *tables)
{
    for (uint32_t t = 0; t < tables->count; t++) {
        struct table *table = &tables->tables[t];
        const struct rml_plan_sink *sink = &tables->plan->sinks[table->sink];
        table->next = table->state;
        table->next.keep_ns = sink->keep_ns;
        table->next.rows_max = sink->rows_max;
    }
}

int rml_tables_put(struct rml_tables *tables, struct rml_vault *vault, const struct rml_pile *pile,
                   struct rml_err *err)
{
    size_t count = 0;
    begin_next(tables);
    int rc = tables->count > 0 ? list_changes(tables, pile, &count, err) : 0;
    if (rc < 0 || tables->count == 0)
        return rc;
    if (count > 1)
        qsort(tables->changes, count, sizeof *tables->changes, compare_changes);
    return put_all(tables, vault, keep_last(tables->changes, count), err);
}

void rml_tables_committed(struct rml_tables *tables)
{
    for (uint32_t t = 0; t < tables->count; t++) {
        tables->tables[t].state = tables->tables[t].next;
        tables->tables[t].is_emptied = false;
    }
    if (tables->room > ROOM_KEPT)
        forget_room(tables);
}

void rml_tables_undone(struct rml_tables *tables)
{
    for (uint32_t t = 0; t < tables->count; t++) {
        struct table *table = &tables->tables[t];
        table->state.rows = table->next.rows;
        table->state.clock = table->next.clock;
        table->is_emptied = false;
    }
}

void rml_tables_count(const struct rml_tables *tables, struct rml_sink_counts *counts)
{
    uint64_t rows[RML_SINKS_MAX] = {0}, bytes[RML_SINKS_MAX] = {0};
    for (uint32_t t = 0; t < tables->count; t++) {
        rows[tables->tables[t].sink] += tables->tables[t].state.put;
        bytes[tables->tables[t].sink] += tables->tables[t].state.put_bytes;
    }
    for (uint32_t s = 0; s < tables->plan->sink_count; s++) {
        if (tables->plan->sinks[s].kind != RML_SINK_TABLE)
            continue;
        rml_count_set(&counts[s].value[RML_SINK_rows], rows[s]);
        rml_count_set(&counts[s].value[RML_SINK_bytes], bytes[s]);
    }
}

int rml_tables_remove_all(struct rml_vault *vault, struct rml_err *err)
{
    struct rml_catalog_view *view;
    struct rml_table_row row = {0};
    int rc = rml_vault_look(vault, &view, err);
    if (rc < 0)
        return rc;
    for (rc = rml_catalog_row(view, NULL, NULL, 0, true, &row, err); rc != -ENOENT;
         rc = rml_catalog_next_row(view, &row, err)) {
        char name[RML_TABLE_NAME_BYTES];
        if ((rc < 0 && rc != -EBADMSG) || row.table_bytes >= sizeof name)
            break;
        memcpy(name, row.table, row.table_bytes);
        name[row.table_bytes] = '\0';
        rc = rml_vault_row(vault, name, row.key, row.key_bytes, NULL, 0, err);
        if (rc < 0)
            break;
    }
    rml_catalog_view_close(view);
    return rc == -ENOENT ? 0 : rc;
}
