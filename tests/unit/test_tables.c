/*
 * Result tables, held to a plain list of rows: whatever comes, in whatever checkpoints, however many of them
 * fail, and however often the engine dies in between.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/checkpoints.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/io/pile.h"
#include "runtime/table/results.h"
#include "runtime/table/tables.h"
#include "runtime/time/time.h"
#include "tests/support/folder.h"
#include "tests/support/plan.h"
#include "tests/support/random.h"

#define ROUNDS   (RML_TEST_SLOW ? 60 : 400)
#define ROWS_MAX 20000
#define TIMES    400
#define CURRENT  UINT64_MAX

enum { FIXED, VISITS, TENS, EVER, ALL, LATE, TABLES };

static const char *const names[TABLES] = {"fixed", "visits", "tens", "ever", "all", "fixed.late"};

static const char pipeline[] = PLAN_HEAD
    "runtime: {partitions: 2, workers: 1, state: ./state}\n"
    "stages:\n"
    "  fixed: {from: calls, key: [model, status], window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n"
    "  visits: {from: calls, key: [model, status], max_keys: 9, when_full: evict_oldest,\n"
    "           window: {type: session, gap: 1s}, aggregate: {n: count()}}\n"
    "  tens: {from: calls, key: [model, status], window: {type: tumbling, size: 10 records}, aggregate: {n: count()}}\n"
    "  ever: {from: calls, key: [model, status], window: {type: global, trigger: {count: 5}}, aggregate: {n: count()}}\n"
    "  all: {from: calls, filter: true}\n"
    "sinks:\n"
    "  a: {from: [fixed, visits], type: lmdb, keep: 200ns}\n"
    "  b: {from: tens, type: lmdb, keep: 150ns, max_rows: 60}\n"
    "  c: {from: ever, type: lmdb, keep: 100ns}\n"
    "  d: {from: [all, fixed.late], type: lmdb, max_rows: 40}\n";

static const int64_t keeps[TABLES] = {200, 200, 150, 100, 0, 0};
static const uint64_t mosts[TABLES] = {0, 0, 60, 0, 40, 40};

/* A row as the oracle has it. */
struct row {
    uint32_t table, model, status, partition;
    int64_t start, end, fire;
    uint64_t n;  // tells rows apart
    bool retracted, evicted;
    uint64_t seq;
    uint64_t which;  // of several of one identity; CURRENT
};

struct rows {
    struct row list[ROWS_MAX];
    size_t count;
};

static struct fixture {
    struct folder folder;
    struct rml_plan *plan;
    struct rml_shape shapes[TABLES];
    uint32_t outputs[TABLES];
    struct rml_vault *vault;
    struct rml_tables *tables;
    struct rml_pile pile;
    struct rows there;     // as of the last checkpoint
    struct rows pending;   // made since then
    size_t pending_ready;  // of them, that the next checkpoint takes along
    struct rows next;      // as of the checkpoint under way
    int64_t clock[TABLES], next_clock[TABLES];
    uint64_t seq[TABLES][2];
    uint64_t put[TABLES], next_put[TABLES];
    int64_t now;
} f;

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    return rml_test_random(&seed) % below;
}

static void must(int rc, const struct rml_err *err)
{
    if (rc < 0)
        fail_msg("%s", err->text);
}

/* The engine's side */

static void open_tables(bool is_new)
{
    const struct rml_vault_options options = {
        .first_bytes = 1 << 20, .step_bytes = 1 << 20, .rows_bytes_max = 1 << 30};
    struct rml_err err = {0};
    must(rml_vault_open(&f.vault, f.folder.path, &options, &err), &err);
    must(rml_tables_open(&f.tables, f.plan, f.vault, 0, &err), &err);
    if (is_new)
        rml_tables_begin_anew(f.tables);
}

static void close_tables(void)
{
    rml_tables_close(f.tables);
    rml_vault_close(f.vault);
    rml_pile_fini(&f.pile);
    f.pile = (struct rml_pile){0};
}

static void set(const struct rml_schema *schema, void *record, const char *name, const void *value)
{
    uint32_t field = rml_schema_find(schema, name, strlen(name));
    if (field != RML_FIELD_ABSENT)
        memcpy((char *)record + schema->fields[field].offset, value,
               rml_type_info[schema->fields[field].type].bytes);
}

static void fill_record(const struct row *row, void *record)
{
    const struct rml_schema *schema = &f.shapes[row->table].schema;
    // the longer ones begin with the shorter ones
    static const char *const models[] = {"a", "ab", "abcdefghijklmnop", "b", ""};
    char model[16] = "";
    memcpy(model, models[row->model], strlen(models[row->model]));
    memset(record, 0, schema->record_bytes);
    const uint32_t tokens = (uint32_t)row->n;
    set(schema, record, "window_start", &row->start);
    set(schema, record, "window_end", &row->end);
    set(schema, record, "ts", &row->end);
    set(schema, record, "model", model);
    set(schema, record, "status", &row->status);
    set(schema, record, "retracted", &row->retracted);
    set(schema, record, "evicted", &row->evicted);
    set(schema, record, "n", &row->n);
    set(schema, record, "tokens", &tokens);
}

static void pile_row(const struct row *row, bool behind)
{
    static struct rml_result_block block;
    block.partition = row->partition;
    block.output = f.outputs[row->table];
    block.rows = 1;
    block.row_stride =
        (uint32_t)sizeof(struct rml_result_row) + f.shapes[row->table].schema.record_bytes;
    struct rml_result_row *out = rml_result_row_at(&block, 0);
    out->fire = row->fire;
    out->seq = row->seq;
    fill_record(row, out->record);
    rml_pile_add(&f.pile, &block, behind);
}

/* The oracle */

static int compare_rows(const struct row *a, const struct row *b, bool by_time)
{
    static const int model_order[] = {1, 2, 3, 4, 0};  // as the strings are
#define BY(x, y)              \
 do {                         \
  if ((x) != (y))             \
   return (x) < (y) ? -1 : 1; \
 } while (0)
    int64_t a_time = a->table == EVER ? a->fire : a->end;
    int64_t b_time = b->table == EVER ? b->fire : b->end;
    if (by_time)
        BY(a_time, b_time);
    if (a->table < ALL) {
        BY(model_order[a->model], model_order[b->model]);
        BY(a->status, b->status);
        BY(a->start, b->start);
    } else {
        BY(a->end, b->end);
    }
    BY(a->which == CURRENT, b->which == CURRENT);
    BY(a->partition, b->partition);
    BY(a->which, b->which);
#undef BY
    return 0;
}

static bool same_place(const struct row *a, const struct row *b)
{
    return a->table == b->table && a->model == b->model && a->status == b->status
           && a->start == b->start && a->which == b->which
           && (a->which == CURRENT || a->partition == b->partition);
}

static void take_out(struct rows *rows, size_t at)
{
    rows->list[at] = rows->list[--rows->count];
}

static void remove_place(struct rows *rows, const struct row *place)
{
    for (size_t i = 0; i < rows->count; i++)
        if (same_place(&rows->list[i], place)) {
            take_out(rows, i);
            return;
        }
}

static void oracle_put(struct rows *rows, const struct row *row)
{
    struct row now = *row;
    bool is_each = row->table >= ALL || row->table == TENS;
    now.which = is_each ? row->seq : CURRENT;
    remove_place(rows, &now);
    if (row->table == VISITS && row->retracted)
        return;
    if (row->table == VISITS && row->evicted) {
        now.which = row->seq;
        remove_place(rows, &now);
    }
    assert_true(rows->count < ROWS_MAX);
    rows->list[rows->count++] = now;
}

static void oracle_retain(struct rows *rows, uint32_t table, int64_t clock)
{
    uint64_t count = 0;
    for (size_t i = rows->count; i-- > 0;) {
        const struct row *row = &rows->list[i];
        int64_t time = table == EVER ? row->fire : row->end;
        if (row->table != table)
            continue;
        if (keeps[table] > 0 && time != RML_TIME_END && time + keeps[table] <= clock)
            take_out(rows, i);
        else
            count++;
    }
    while (mosts[table] > 0 && count > mosts[table]) {
        size_t oldest = SIZE_MAX;
        for (size_t i = 0; i < rows->count; i++) {
            if (rows->list[i].table == table
                && (oldest == SIZE_MAX
                    || compare_rows(&rows->list[i], &rows->list[oldest], true) < 0))
                oldest = i;
        }
        take_out(rows, oldest);
        count--;
    }
}

static int order_by_key(const void *a, const void *b)
{
    return compare_rows(a, b, false);
}

static int order_by_time(const void *a, const void *b)
{
    return compare_rows(a, b, true);
}

/* Rows */

static struct row draw_row(void)
{
    struct row row = {.table = (uint32_t)draw(TABLES),
                      .model = (uint32_t)draw(5),
                      .status = (uint32_t)draw(3) * 255,
                      .n = rml_test_random(&seed) >> 32};
    row.partition = row.table < ALL ? (row.model + row.status) % 2 : (uint32_t)draw(2);
    row.seq = f.seq[row.table][row.partition]++;
    f.now += draw(8) == 0 ? (int64_t)draw(20) : 0;
    row.fire = f.now - (int64_t)draw(3);
    row.start = f.now - (int64_t)draw(TIMES) + (draw(50) == 0 ? 1000 : 0);
    row.end = row.start + (row.table == VISITS || row.table == TENS ? (int64_t)draw(30) : 5);
    if (row.table == FIXED || row.table == VISITS)  // so that places are met again
        row.start = row.start / 25 * 25;
    if (row.table == FIXED)
        row.end = row.start + 5;
    if (row.table == EVER) {
        row.start = RML_TIME_NONE;
        row.end = RML_TIME_END;
        if (draw(40) == 0)
            row.fire = RML_TIME_END;
    }
    if (row.table >= ALL)
        row.start = row.end;
    if (row.table == VISITS) {
        row.retracted = draw(5) == 0;
        row.evicted = !row.retracted && draw(6) == 0;
    }
    return row;
}

// Rows that partitions make before their marks, or behind them.
static void make_rows(uint64_t count, bool behind)
{
    for (uint64_t i = 0; i < count; i++) {
        const struct row row = draw_row();
        assert_true(f.pending.count < ROWS_MAX);
        f.pending.list[f.pending.count++] = row;
        pile_row(&row, behind);
    }
}

static void complete_round(void)
{
    make_rows(draw(6) == 0 ? 0 : draw(60), false);
    f.pending_ready = f.pending.count;
    make_rows(draw(20), true);
    rml_pile_turn(&f.pile);
}

// What was not in a checkpoint is made again, and more of it is before the marks, or less.
static void come_back(void)
{
    open_tables(false);
    size_t ready = draw(f.pending.count + 1);
    for (size_t i = 0; i < f.pending.count; i++)
        pile_row(&f.pending.list[i], i >= ready);
    f.pending_ready = ready;
    rml_pile_turn(&f.pile);
}

/* Checkpoints */

static void take_along(void)
{
    f.next = f.there;
    memcpy(f.next_clock, f.clock, sizeof f.clock);
    memcpy(f.next_put, f.put, sizeof f.put);
    for (size_t i = 0; i < f.pending_ready; i++) {
        const struct row *row = &f.pending.list[i];
        oracle_put(&f.next, row);
        if (row->fire != RML_TIME_END && row->fire > f.next_clock[row->table])
            f.next_clock[row->table] = row->fire;
        f.next_put[row->table]++;
    }
    for (uint32_t t = 0; t < TABLES; t++)
        oracle_retain(&f.next, t, f.next_clock[t]);
}

static void has_come_true(void)
{
    f.there = f.next;
    memcpy(f.clock, f.next_clock, sizeof f.clock);
    memcpy(f.put, f.next_put, sizeof f.put);
    f.pending.count -= f.pending_ready;
    memmove(f.pending.list, f.pending.list + f.pending_ready,
            f.pending.count * sizeof f.pending.list[0]);
    f.pending_ready = 0;
    rml_tables_committed(f.tables);
    rml_pile_settle(&f.pile);
}

static void put_into_vault(void)
{
    struct rml_err err = {0};
    uint64_t epoch;
    must(rml_vault_begin(f.vault, 1, 0, &epoch, &err), &err);
    must(rml_vault_append(f.vault, 0, "state", 5, &err), &err);
    must(rml_tables_put(f.tables, f.vault, &f.pile, &err), &err);
}

// A checkpoint of which nobody knew that it took place: it is gone back from, and its rows stay.
static void undone_checkpoint(void)
{
    struct rml_err err = {0};
    put_into_vault();
    take_along();
    must(rml_vault_commit(f.vault, &err), &err);
    must(rml_vault_go_back(f.vault, &err), &err);
    rml_tables_undone(f.tables);
    f.there = f.next;
    memcpy(f.clock, f.next_clock, sizeof f.clock);
}

static void checkpoint(bool succeeds)
{
    struct rml_err err = {0};
    put_into_vault();
    if (!succeeds) {
        rml_vault_abandon(f.vault);
        return;
    }
    take_along();
    must(rml_vault_commit(f.vault, &err), &err);
    has_come_true();
}

/* Comparing */

static size_t sorted(const struct rows *rows, uint32_t table, bool by_time, struct row *to)
{
    size_t count = 0;
    for (size_t i = 0; i < rows->count; i++)
        if (rows->list[i].table == table)
            to[count++] = rows->list[i];
    qsort(to, count, sizeof *to, by_time ? order_by_time : order_by_key);
    return count;
}

static void is_row(const struct row *row, const struct rml_shape_head *head, const void *record)
{
    unsigned char wanted[RML_RECORD_MAX];
    fill_record(row, wanted);
    assert_memory_equal(record, wanted, f.shapes[row->table].schema.record_bytes);
    assert_int_equal(head->seq, row->seq);
    assert_int_equal(head->fire, row->fire);
    assert_int_equal(head->partition, row->partition);
    assert_int_equal(head->time, row->table == EVER ? row->fire : row->end);
}

static void catalog_has(uint32_t table)
{
    static struct row wanted[ROWS_MAX];
    const struct rml_shape *shape = &f.shapes[table];
    struct rml_catalog_view *view;
    struct rml_err err = {0};
    struct rml_table_row row;
    must(rml_vault_look(f.vault, &view, &err), &err);
    size_t count = sorted(&f.there, table, false, wanted), listed = 0;
    for (size_t i = 0; i < count; i++) {
        struct rml_shape_head head;
        int rc = i == 0 ? rml_catalog_row(view, shape->name, "", 0, true, &row, &err)
                        : rml_catalog_next_row(view, &row, &err);
        must(rc, &err);
        assert_int_equal(row.value_bytes, sizeof head + shape->schema.record_bytes);
        memcpy(&head, row.value, sizeof head);
        is_row(&wanted[i], &head, (const char *)row.value + sizeof head);
    }
    // and the list by time has as many, which rml_results_read finds all
    for (int rc = rml_catalog_row(view, shape->by_time, "", 0, true, &row, &err);
         rc == 0 && row.table_bytes == strlen(shape->by_time)
         && memcmp(row.table, shape->by_time, row.table_bytes) == 0;
         rc = rml_catalog_next_row(view, &row, &err))
        listed++;
    assert_int_equal(listed, count);
    rml_catalog_view_close(view);
}

struct seen {
    struct row *wanted;
    size_t count, at;
};

static int see_row(void *context, const struct rml_shape_head *head, const void *record)
{
    struct seen *seen = context;
    assert_true(seen->at < seen->count);
    is_row(&seen->wanted[seen->at++], head, record);
    return 0;
}

static void no_damage(void *context, const char *sentence)
{
    (void)context;
    fail_msg("%s", sentence);
}

static bool is_wanted(const struct row *row, const struct row *like,
                      const struct rml_results_query *query)
{
    int64_t time = row->table == EVER ? row->fire : row->end;
    if ((query->key_count > 0 && row->model != like->model)
        || (query->key_count > 1 && row->status != like->status))
        return false;
    if (row->table == EVER || row->table >= ALL)
        return time >= query->from && (time < query->to || query->to == RML_TIME_END);
    return row->start >= query->from && row->end <= query->to;
}

static void ask(struct rml_checkpoints *checkpoints, uint32_t table)
{
    static struct row wanted[ROWS_MAX];
    static uint64_t key[RML_RECORD_MAX / 8];
    struct rml_err err = {0};
    struct rml_shape shape;
    struct rml_shape_state state;
    must(rml_results_find(checkpoints, names[table], &shape, &state, &err), &err);
    assert_int_equal(shape.schema.hash, f.shapes[table].schema.hash);
    struct row like = draw_row();
    f.seq[like.table][like.partition]--;
    like.table = table;
    fill_record(&like, key);
    struct rml_results_query query = {.shape = &shape,
                                      .key = key,
                                      .key_count = (uint32_t)draw(shape.key_count + 1),
                                      .from = RML_TIME_NONE,
                                      .to = RML_TIME_END,
                                      .row = see_row,
                                      .damage = no_damage};
    if (draw(2) == 0)
        query.from = f.now - (int64_t)draw(TIMES);
    if (draw(2) == 0)
        query.to = f.now - (int64_t)draw(TIMES);
    if (draw(3) == 0)
        query.first = 1 + draw(20);
    else if (draw(3) == 0)
        query.last = 1 + draw(20);
    bool by_time = query.key_count == 0 || (query.key_count < shape.key_count && query.last > 0);
    size_t all = sorted(&f.there, table, by_time, wanted), count = 0;
    assert_int_equal(state.rows, all);
    assert_int_equal(state.clock, f.clock[table]);
    assert_int_equal(state.put, f.put[table]);
    for (size_t i = 0; i < all; i++)
        if (is_wanted(&wanted[i], &like, &query))
            wanted[count++] = wanted[i];
    size_t from = query.last > 0 && query.last < count ? count - query.last : 0;
    size_t most = query.first > 0 && query.first < count ? query.first : count - from;
    struct seen seen = {.wanted = wanted + from, .count = most};
    query.context = &seen;
    must(rml_results_read(checkpoints, &query, &err), &err);
    assert_int_equal(seen.at, seen.count);
}

// As another process: one that has the vault open may not.
static void ask_all(void)
{
    struct rml_checkpoints *checkpoints;
    struct rml_err err = {0};
    close_tables();
    must(rml_checkpoints_open(&checkpoints, f.folder.path, &err), &err);
    for (uint32_t i = 0; i < 20; i++)
        ask(checkpoints, (uint32_t)draw(TABLES));
    rml_checkpoints_close(checkpoints);
    come_back();
}

static void tables_are_what_a_plain_list_of_rows_is_however_checkpoints_fail(void **state)
{
    (void)state;
    open_tables(true);
    for (uint32_t t = 0; t < TABLES; t++)
        f.clock[t] = RML_TIME_NONE;
    checkpoint(true);
    uint32_t failed = 0, died = 0;
    size_t most = 0;
    for (int round = 0; round < ROUNDS; round++) {
        complete_round();
        bool is_undone = draw(8) == 0;
        if (is_undone)
            undone_checkpoint();
        bool succeeds = is_undone || draw(4) > 0;
        checkpoint(succeeds);
        failed += !succeeds;
        most = f.there.count > most ? f.there.count : most;
        for (uint32_t t = 0; succeeds && t < TABLES; t++)
            catalog_has(t);
        if (draw(8) == 0) {
            close_tables();
            come_back();
            died++;
        }
        if (draw(6) == 0)
            ask_all();
    }
    printf("%u failed, %u died, up to %zu rows\n", failed, died, most);
    assert_true(failed > 0 && died > 0 && most > 100);
    close_tables();
}

/* One row of a table and another, put at once. */
static void put_two(uint32_t table)
{
    for (uint32_t i = 0; i < 2; i++) {
        const struct row row = {.table = table,
                                .model = i,
                                .start = 1000 + i,
                                .end = 1005 + i,
                                .fire = 1010,
                                .n = UINT64_C(0x1122334455667700) + i,
                                .seq = i};
        f.pending.list[f.pending.count++] = row;
        pile_row(&row, false);
    }
    f.pending_ready = f.pending.count;
    rml_pile_turn(&f.pile);
    checkpoint(true);
}

static void flip_in_catalog(const void *bytes, size_t count)
{
    FILE *file = fopen(folder_file(&f.folder, RML_CATALOG_FILE), "r+");
    assert_non_null(file);
    static unsigned char all[1 << 22];
    size_t size = fread(all, 1, sizeof all, file), found = 0;
    for (size_t at = 0; at + count <= size; at++) {
        if (memcmp(all + at, bytes, count) != 0)
            continue;
        all[at] ^= 4;
        assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
        assert_int_equal(fwrite(all + at, 1, 1, file), 1);
        found++;
    }
    fclose(file);
    assert_true(found > 0);
}

struct told {
    uint32_t rows, damages;
    char sentence[600];
};

static int count_row(void *context, const struct rml_shape_head *head, const void *record)
{
    (void)head;
    (void)record;
    ((struct told *)context)->rows++;
    return 0;
}

static void note_damage(void *context, const char *sentence)
{
    struct told *told = context;
    told->damages++;
    snprintf(told->sentence, sizeof told->sentence, "%s", sentence);
}

static struct told read_all(uint32_t table)
{
    struct rml_checkpoints *checkpoints;
    struct rml_err err = {0};
    struct told told = {0};
    const struct rml_results_query query = {.shape = &f.shapes[table],
                                            .from = RML_TIME_NONE,
                                            .to = RML_TIME_END,
                                            .row = count_row,
                                            .damage = note_damage,
                                            .context = &told};
    must(rml_checkpoints_open(&checkpoints, f.folder.path, &err), &err);
    must(rml_results_read(checkpoints, &query, &err), &err);
    rml_checkpoints_close(checkpoints);
    return told;
}

static void a_damaged_row_is_named_and_the_others_are_read(void **state)
{
    (void)state;
    open_tables(true);
    put_two(FIXED);
    close_tables();
    assert_int_equal(read_all(FIXED).rows, 2);
    const uint64_t n = UINT64_C(0x1122334455667701);
    flip_in_catalog(&n, sizeof n);
    const struct told told = read_all(FIXED);
    assert_int_equal(told.rows, 1);
    assert_int_equal(told.damages, 1);
    assert_string_equal(told.sentence,
                        "table fixed: the row of model ab, status 0, window_start "
                        "1970-01-01T00:00:00.000001001Z is damaged: it is not what was written");
}

static void a_damaged_row_that_comes_again_is_whole_again(void **state)
{
    (void)state;
    open_tables(true);
    put_two(FIXED);
    close_tables();
    const uint64_t n = UINT64_C(0x1122334455667701);
    flip_in_catalog(&n, sizeof n);
    open_tables(false);
    put_two(FIXED);
    catalog_has(FIXED);
    close_tables();
    const struct told told = read_all(FIXED);
    assert_int_equal(told.rows, 2);
    assert_int_equal(told.damages, 0);
}

static int open_again(uint64_t emptied, struct rml_err *err)
{
    struct rml_tables *tables = NULL;
    int rc = rml_tables_open(&tables, f.plan, f.vault, emptied, err);
    rml_tables_close(tables);
    return rc;
}

static void a_table_of_another_format_is_refused_with_what_helps(void **state)
{
    (void)state;
    static const char *const sentence =
        "table fixed has format 2 and this program reads format 1: use the program that wrote it, "
        "or `ringmill run --fresh fixed FILE` empties it";
    unsigned char note[RML_SHAPE_NOTE_MAX] = {0};
    const uint32_t format = RML_SHAPE_FORMAT + 1;
    uint64_t epoch;
    struct rml_err err = {0};
    open_tables(true);
    put_two(FIXED);
    memcpy(note, &format, sizeof format);
    // shorter than any of ours, and longer
    for (uint32_t bytes = sizeof format; bytes <= sizeof note;
         bytes += sizeof note - sizeof format) {
        must(rml_vault_begin(f.vault, 0, 0, &epoch, &err), &err);
        must(rml_vault_row(f.vault, RML_SHAPE_TABLES, "fixed", 5, note, bytes, &err), &err);
        must(rml_vault_commit(f.vault, &err), &err);
        assert_int_equal(open_again(0, &err), -EPROTONOSUPPORT);
        assert_string_equal(err.text, sentence);
    }
    must(open_again(UINT64_C(1) << rml_plan_stage_find(f.plan, "fixed"), &err), &err);
    close_tables();
}

static void a_stage_whose_rows_do_not_fit_its_table_is_refused_with_what_differs(void **state)
{
    (void)state;

    static const struct {
        const char *from, *to, *sentence;
    } changes[] = {
        {"size: 1s}, aggregate: {n: count()}", "size: 1s}, aggregate: {m: count()}",
         "column 6 of the table is n u64, and that of the stage m u64"},
        {"size: 1s}, aggregate: {n: count()}", "size: 1s}, aggregate: {n: avg(tokens)}",
         "column 6 of the table is n u64, and that of the stage n f64 or null"},
        {"size: 1s}, aggregate: {n: count()}", "size: 1s}, aggregate: {n: count(), m: count()}",
         "column 7 of the table is none, and that of the stage m u64"},
        {"fixed: {from: calls, key: [model, status]", "fixed: {from: calls, key: [model]",
         "column 4 of the table is status u16, and that of the stage revision u32"},
        {"type: tumbling, size: 1s", "type: tumbling, size: 7 records",
         "its rows are of windows of another kind"},
    };

    open_tables(true);
    put_two(FIXED);
    rml_tables_close(f.tables);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char text[sizeof pipeline + 100];
        struct rml_err err = {0};
        const char *at = strstr(pipeline, changes[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - pipeline), pipeline, changes[i].to,
                 at + strlen(changes[i].from));
        struct rml_plan *plan = plan_of(text);
        struct rml_tables *tables;
        assert_int_equal(rml_tables_open(&tables, plan, f.vault, 0, &err), -EINVAL);
        assert_non_null(strstr(err.text, "stage fixed"));
        assert_non_null(strstr(err.text, changes[i].sentence));
        assert_non_null(strstr(err.text, "--fresh fixed test.yaml"));
        rml_plan_close(plan);
    }
    must(rml_tables_open(&f.tables, f.plan, f.vault, 0, NULL), NULL);
    close_tables();
}

static void a_pipeline_that_begins_anew_keeps_rows_and_replaces_windows(void **state)
{
    (void)state;
    open_tables(true);
    put_two(FIXED);
    put_two(TENS);
    close_tables();
    open_tables(true);
    put_two(FIXED);
    put_two(TENS);
    close_tables();
    assert_int_equal(read_all(FIXED).rows, 2);
    assert_int_equal(read_all(TENS).rows, 4);  // whose numbers began with 0 again
}

static void a_table_that_is_emptied_has_new_rows_alone_and_others_keep_theirs(void **state)
{
    (void)state;
    struct rml_err err = {0};
    uint64_t fixed = UINT64_C(1) << rml_plan_stage_find(f.plan, "fixed");
    open_tables(true);
    put_two(FIXED);
    put_two(LATE);
    put_two(EVER);
    rml_tables_close(f.tables);
    must(rml_tables_open(&f.tables, f.plan, f.vault, fixed, &err), &err);
    const struct row row = {
        .table = FIXED, .model = 3, .start = 2000, .end = 2005, .fire = 2005, .seq = 2};
    for (int turn = 0; turn < 2; turn++) {  // the first checkpoint fails
        if (turn == 0)
            pile_row(&row, false);
        rml_pile_turn(&f.pile);
        checkpoint(turn == 1);
    }
    checkpoint(true);  // and the next empties nothing
    close_tables();
    assert_int_equal(read_all(FIXED).rows, 1);
    assert_int_equal(read_all(FIXED).damages, 0);
    assert_int_equal(read_all(LATE).rows, 0);
    assert_int_equal(read_all(EVER).rows, 2);
}

static void tables_that_are_removed_leave_nothing(void **state)
{
    (void)state;
    struct rml_err err = {0};
    struct rml_catalog_view *view;
    struct rml_table_row row;
    uint64_t epoch;
    open_tables(true);
    put_two(FIXED);
    put_two(LATE);
    must(rml_vault_begin(f.vault, 1, 0, &epoch, &err), &err);
    must(rml_tables_remove_all(f.vault, &err), &err);
    must(rml_vault_commit(f.vault, &err), &err);
    must(rml_vault_look(f.vault, &view, &err), &err);
    assert_int_equal(rml_catalog_row(view, NULL, NULL, 0, true, &row, &err), -ENOENT);
    rml_catalog_view_close(view);
    close_tables();
}

static int set_up(void **state)
{
    (void)state;
    struct rml_output outputs[RML_OUTPUTS_MAX];
    memset(&f, 0, sizeof f);
    f.folder = folder_make("/dev/shm");
    f.plan = plan_of(pipeline);
    f.now = 1000;
    uint32_t count = rml_outputs_list(f.plan, outputs);
    for (uint32_t t = 0; t < TABLES; t++) {
        uint32_t stage = rml_plan_stage_find(f.plan, t == LATE ? "fixed" : names[t]);
        rml_shape_of(f.plan, (struct rml_plan_output){stage, t == LATE}, &f.shapes[t]);
        assert_string_equal(f.shapes[t].name, names[t]);
        for (uint32_t o = 0; o < count; o++)
            if (outputs[o].stage == stage && outputs[o].late == (t == LATE))
                f.outputs[t] = o;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rml_plan_close(f.plan);
    folder_remove(&f.folder);
    return 0;
}

#define FIXTURE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest claims[] = {
        FIXTURE(tables_are_what_a_plain_list_of_rows_is_however_checkpoints_fail),
        FIXTURE(a_damaged_row_is_named_and_the_others_are_read),
        FIXTURE(a_damaged_row_that_comes_again_is_whole_again),
        FIXTURE(a_table_of_another_format_is_refused_with_what_helps),
        FIXTURE(a_stage_whose_rows_do_not_fit_its_table_is_refused_with_what_differs),
        FIXTURE(a_pipeline_that_begins_anew_keeps_rows_and_replaces_windows),
        FIXTURE(a_table_that_is_emptied_has_new_rows_alone_and_others_keep_theirs),
        FIXTURE(tables_that_are_removed_leave_nothing),
    };
    seed = rml_test_seed();
    return cmocka_run_group_tests(claims, NULL, NULL);
}
