/*
 * bench_tables - what it costs to commit so many rows of a result table with a checkpoint.
 *
 *     bench_tables [--rounds 9] [--rows 1000000]
 *
 * Rows of a window stage with one key and five aggregates, in the order in which keys came, of 10 000, 100 000 and
 * 1 000 000 keys but no more than --rows, go into a table and are committed. `new`: rows that are not there
 * yet, and as many that are the oldest leave. `corrections`: all of the same windows again. `lmdb` is what
 * LMDB alone takes for rows of the same size: one transaction that puts them in order, with its flushes. They take
 * turns; `to_lmdb` compares two of one round. One line of JSON for each way and number of rows, median and
 * quartiles in milliseconds.
 *
 * The files lie in the present working directory. At the end the table must have the rows of the last window.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lmdb.h>

#include "bench/support/arguments.h"
#include "bench/support/figures.h"
#include "bench/support/pair.h"
#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/io/pile.h"
#include "runtime/table/shape.h"
#include "runtime/table/tables.h"

#define SECOND    INT64_C(1000000000)
#define MAP_BYTES ((size_t)8 << 30)

static uint32_t round_count = 9, row_count_max = 1000000;

enum { NEW, CORRECTIONS, LMDB, WAYS };

static struct way {
    const char *name;
    double ms;  // of the round
    struct bench_figures figures, to_lmdb;
} ways[WAYS] = {{.name = "new"}, {.name = "corrections"}, {.name = "lmdb"}};

static char folder[] = "bench-tables-XXXXXX";
static char path_of_vault[64], path_of_lmdb[64];

/* What rows go into. */
static struct {
    struct rml_plan *plan;
    struct rml_shape shape;
    struct rml_vault *vault;
    struct rml_tables *tables;
    struct rml_pile pile;
    struct rml_result_block block;
    uint64_t seq;
    MDB_env *env;
    MDB_dbi dbi;
} b;

static int open_plan(uint32_t rows, struct rml_err *err)
{
    char text[700];
    struct rml_plan_errors errors;
    snprintf(text, sizeof text,
             "version: 1\npipeline: bench\n"
             "schema: {call: {ts: time_ns, user: u32, ms: f32}}\n"
             "runtime: {partitions: 1, workers: 1, state: ./state}\n"
             "sources: {calls: {schema: call, event_time: ts}}\n"
             "stages:\n"
             "  sec: {from: calls, key: user, window: {type: tumbling, size: 1s}, aggregate: "
             "{n: count(), sum: sum(ms), mean: avg(ms), low: min(ms), high: max(ms)}}\n"
             "sinks: {table: {from: sec, type: lmdb, max_rows: %u}}\n",
             rows);
    int rc = rml_plan_parse(text, strlen(text), "bench.yaml", rml_operators_functions(), &b.plan,
                            &errors, err);
    if (rc == -EINVAL)
        rml_err_set(err, rc, "%s", errors.list[0].text);
    rml_plan_errors_fini(&errors);
    return rc;
}

static int open_lmdb(void)
{
    int rc = mdb_env_create(&b.env);
    MDB_txn *txn;
    if (rc == 0)
        rc = mdb_env_set_mapsize(b.env, MAP_BYTES);
    if (rc == 0)
        rc = mdb_env_open(b.env, path_of_lmdb, MDB_NOSUBDIR, 0600);
    if (rc == 0)
        rc = mdb_txn_begin(b.env, NULL, 0, &txn);
    if (rc == 0)
        rc = mdb_dbi_open(txn, NULL, 0, &b.dbi);
    return rc == 0 ? mdb_txn_commit(txn) : rc;
}

static int open_all(uint32_t rows, struct rml_err *err)
{
    const struct rml_vault_options options = {.rows_bytes_max = UINT64_MAX};
    memset(&b, 0, sizeof b);
    int rc = open_plan(rows, err);
    if (rc == 0)
        rc = rml_vault_open(&b.vault, path_of_vault, &options, err);
    if (rc == 0)
        rc = rml_tables_open(&b.tables, b.plan, b.vault, 0, err);
    if (rc == 0) {
        rml_shape_of(b.plan, (struct rml_plan_output){0}, &b.shape);
        int opened = open_lmdb();
        rc = opened == 0 ? 0 : RML_FAIL(err, -EIO, "%s", mdb_strerror(opened));
    }
    return rc;
}

static void remove_files(void)
{
    static const char *const files[] = {"vault/" RML_VAULT_EXTENTS_FILE, "vault/" RML_CATALOG_FILE,
                                        "vault/" RML_CATALOG_FILE "-lock", "lmdb", "lmdb-lock"};
    for (uint32_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(path_of_vault);
}

static void close_all(void)
{
    if (b.env != NULL)
        mdb_env_close(b.env);
    rml_pile_fini(&b.pile);
    rml_tables_close(b.tables);
    rml_vault_close(b.vault);
    rml_plan_close(b.plan);
    remove_files();
}

// Keys in no order, as a table of keys has them.
static uint32_t key_of(uint32_t i, uint32_t rows)
{
    return (uint32_t)((uint64_t)i * 2654435761u % rows);
}

static void give_block(void)
{
    if (b.block.rows > 0)
        rml_pile_add(&b.pile, &b.block, false);
    b.block.rows = 0;
}

static void pile_window(int64_t start, uint32_t revision, uint32_t rows)
{
    const struct rml_field *fields = b.shape.schema.fields;
    const int64_t end = start + SECOND;
    b.block.row_stride = (uint32_t)sizeof(struct rml_result_row) + b.shape.schema.record_bytes;
    for (uint32_t i = 0; i < rows; i++) {
        const uint32_t key = key_of(i, rows);
        if ((b.block.rows + 1) * b.block.row_stride > RML_RESULT_BLOCK_BYTES)
            give_block();
        struct rml_result_row *row = rml_result_row_at(&b.block, b.block.rows++);
        row->fire = end;
        row->seq = b.seq++;
        memset(row->record, 0x5a, b.shape.schema.record_bytes);
        memcpy(row->record + fields[0].offset, &start, sizeof start);
        memcpy(row->record + fields[1].offset, &end, sizeof end);
        memcpy(row->record + fields[2].offset, &key, sizeof key);
        memcpy(row->record + fields[3].offset, &revision, sizeof revision);
    }
    give_block();
    rml_pile_turn(&b.pile);
}

static int put_window(int64_t start, uint32_t revision, uint32_t rows, double *ret_ms,
                      struct rml_err *err)
{
    uint64_t epoch;
    pile_window(start, revision, rows);
    int64_t from = bench_now_ns();
    int rc = rml_vault_begin(b.vault, 0, 0, &epoch, err);
    if (rc == 0)
        rc = rml_tables_put(b.tables, b.vault, &b.pile, err);
    if (rc == 0)
        rc = rml_vault_commit(b.vault, err);
    *ret_ms = (double)(bench_now_ns() - from) / 1e6;
    rml_tables_committed(b.tables);
    rml_pile_settle(&b.pile);
    return rc;
}

static int put_lmdb(int64_t start, uint32_t rows, double *ret_ms, struct rml_err *err)
{
    unsigned char key[12], value[sizeof(struct rml_shape_head) + RML_RECORD_MAX] = {0};
    const uint64_t time = htobe64((uint64_t)start);
    MDB_txn *txn;
    int64_t from = bench_now_ns();
    int rc = mdb_txn_begin(b.env, NULL, 0, &txn);
    for (uint32_t i = 0; rc == 0 && i < rows; i++) {
        const uint32_t big = htobe32(i);
        memcpy(key, &big, sizeof big);
        memcpy(key + sizeof big, &time, sizeof time);
        MDB_val name = {sizeof key, key};
        MDB_val what = {sizeof(struct rml_shape_head) + b.shape.schema.record_bytes, value};
        rc = mdb_put(txn, b.dbi, &name, &what, 0);
    }
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    *ret_ms = (double)(bench_now_ns() - from) / 1e6;
    return rc == 0 ? 0 : RML_FAIL(err, -EIO, "%s", mdb_strerror(rc));
}

static int has_rows_of(int64_t start, uint32_t rows, struct rml_err *err)
{
    struct rml_catalog_view *view;
    struct rml_table_row row;
    uint64_t count = 0;
    int rc = rml_vault_look(b.vault, &view, err);
    if (rc < 0)
        return rc;
    for (rc = rml_catalog_row(view, b.shape.name, "", 0, true, &row, err);
         rc == 0 && row.table_bytes == strlen(b.shape.name);
         rc = rml_catalog_next_row(view, &row, err)) {
        struct rml_shape_head head;
        memcpy(&head, row.value, sizeof head);
        count += head.time == start + SECOND;
    }
    rml_catalog_view_close(view);
    return count == rows ? 0
                         : RML_FAIL(err, -EBADMSG, "the table has %llu rows of the last window",
                                    (unsigned long long)count);
}

static int measure(uint32_t rows, struct rml_err *err)
{
    int rc = open_all(rows, err);
    int64_t start = 0;
    for (uint32_t i = 0; i < WAYS; i++)
        ways[i].figures.count = ways[i].to_lmdb.count = 0;
    for (uint32_t round = 0; rc == 0 && round < round_count + 1;
         round++) {  // the first is not counted
        start = (int64_t)round * SECOND;
        rc = put_window(start, 0, rows, &ways[NEW].ms, err);
        if (rc == 0)
            rc = put_lmdb(start, rows, &ways[LMDB].ms, err);
        if (rc == 0)
            rc = put_window(start, 1, rows, &ways[CORRECTIONS].ms, err);
        for (uint32_t i = 0; i < WAYS && round > 0; i++) {
            bench_figures_add(&ways[i].figures, ways[i].ms);
            bench_figures_add(&ways[i].to_lmdb, ways[i].ms / ways[LMDB].ms);
        }
    }
    if (rc == 0)
        rc = has_rows_of(start, rows, err);
    for (uint32_t i = 0; rc == 0 && i < WAYS; i++) {
        struct bench_quartiles ms = bench_figures_quartiles(&ways[i].figures);
        struct bench_quartiles ratio = bench_figures_quartiles(&ways[i].to_lmdb);
        printf("{\"bench\":\"tables\",\"way\":\"%s\",\"rows\":%u,\"row_bytes\":%u,\"ms\":%.2f,"
               "\"q1\":%.2f,\"q3\":%.2f,\"rows_s\":%.0f,\"to_lmdb\":%.2f,\"to_lmdb_q1\":%.2f,"
               "\"to_lmdb_q3\":%.2f}\n",
               ways[i].name, rows, b.shape.schema.record_bytes, ms.median, ms.q1, ms.q3,
               rows / ms.median * 1e3, ratio.median, ratio.q1, ratio.q3);
        fflush(stdout);
    }
    close_all();
    return rc;
}

int main(int argc, char **argv)
{
    const struct bench_count counts[] = {
        {"--rounds", &round_count, 1000},
        {"--rows", &row_count_max, 100000000},
    };
    if (!bench_counts_read(argc, argv, counts, sizeof counts / sizeof counts[0])) {
        fprintf(stderr, "bench_tables [--rounds 9] [--rows 1000000]\n");
        return 2;
    }
    if (mkdtemp(folder) == NULL) {
        fprintf(stderr, "bench_tables: no folder can be made here: %s\n", strerrordesc_np(errno));
        return 1;
    }
    snprintf(path_of_vault, sizeof path_of_vault, "%s/vault", folder);
    snprintf(path_of_lmdb, sizeof path_of_lmdb, "%s/lmdb", folder);
    struct rml_err err = {0};
    int rc = 0;
    for (uint32_t i = 0; i < WAYS && rc == 0; i++) {
        rc = bench_figures_init(&ways[i].figures, round_count);
        if (rc == 0)
            rc = bench_figures_init(&ways[i].to_lmdb, round_count);
    }
    for (uint32_t rows = 10000; rows < row_count_max && rows <= 100000 && rc == 0; rows *= 10)
        rc = measure(rows, &err);
    if (rc == 0)
        rc = measure(row_count_max, &err);
    if (rc < 0)
        fprintf(stderr, "bench_tables: %s\n", err.text);
    for (uint32_t i = 0; i < WAYS; i++) {
        bench_figures_fini(&ways[i].figures);
        bench_figures_fini(&ways[i].to_lmdb);
    }
    rmdir(folder);
    return rc < 0;
}
