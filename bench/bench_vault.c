/*
 * bench_vault - what it costs to make so many bytes a checkpoint: the vault alone.
 *
 *     bench_vault [--rounds 15] [--keys 1000000]
 *
 * Rows of 128 bytes, of 10 000, 100 000 and 1 000 000 keys but no more than --keys, are appended to a
 * checkpoint, and it is committed: check sums, io_uring or what stands in for it, flush, LMDB. `raw` writes
 * the same bytes into a file whose space was written before, and calls fdatasync. All take turns in each
 * round, beginning with another each time; `to_raw` compares two of one round. One line of JSON for each
 * way and number of keys, median and quartiles in milliseconds.
 *
 * The files lie in the present working directory, so start it on the disk that is to be measured. At the
 * end every checkpoint is read back and its check sums are compared.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/support/arguments.h"
#include "bench/support/figures.h"
#include "bench/support/pair.h"
#include "bench/support/raw.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/vault.h"

#define ROW_BYTES 128u

static uint32_t round_count = 15, key_count_max = 1000000;

// Where a way is not to be had the next takes its place, and the figures say which it was.
static const struct rml_disk_way *const without_ring[] = {&rml_disk_way_pwrite,
                                                          &rml_disk_way_buffered, NULL};
static const struct rml_disk_way *const buffered[] = {&rml_disk_way_buffered, NULL};

static struct contender {
    const char *name;
    const struct rml_disk_way *const *ways;  // NULL: raw
    char path[64];
    struct rml_vault *vault;
    double ms;  // of the round
    struct bench_figures figures, to_raw;
} contenders[] = {
    {.name = "raw"},
    {.name = "best", .ways = rml_disk_ways},
    {.name = "without_ring", .ways = without_ring},
    {.name = "buffered", .ways = buffered},
};

#define CONTENDERS ((uint32_t)(sizeof contenders / sizeof contenders[0]))

static char folder[] = "bench-vault-XXXXXX";
static struct bench_raw raw = {.fd = -1};  // has the rows

static int write_checkpoint(const struct contender *c, size_t bytes, struct rml_err *err)
{
    uint64_t epoch;
    int rc = rml_vault_begin(c->vault, 0, bytes, &epoch, err);
    if (rc < 0)
        return rc;
    rc = rml_vault_append(c->vault, 0, raw.bytes, bytes, err);
    if (rc == 0)
        rc = rml_vault_describe(c->vault, 0, &bytes, sizeof bytes, err);
    int committed = rml_vault_commit(c->vault, rc == 0 ? err : NULL);
    return rc == 0 ? committed : rc;
}

static int open_contender(struct contender *c)
{
    struct rml_err err = {0};
    snprintf(c->path, sizeof c->path, "%s/%s", folder, c->name);
    int rc = bench_figures_init(&c->figures, round_count);
    if (rc == 0)
        rc = bench_figures_init(&c->to_raw, round_count);
    if (rc == 0 && c->ways == NULL) {
        rc = bench_raw_open(&raw, c->path, (size_t)key_count_max * ROW_BYTES);
    } else if (rc == 0) {
        // Two are kept while the third is written.
        const struct rml_vault_options options = {.ways = c->ways,
                                                  .first_bytes = 4 * (uint64_t)raw.count};
        rc = rml_vault_open(&c->vault, c->path, &options, &err);
    }
    if (rc < 0)
        fprintf(stderr, "bench_vault: %s: %s\n", c->name,
                err.code < 0 ? err.text : strerrordesc_np(-rc));
    return rc;
}

static void close_contender(struct contender *c)
{
    static const char *const files[] = {RML_VAULT_EXTENTS_FILE, RML_CATALOG_FILE,
                                        RML_CATALOG_FILE "-lock"};
    rml_vault_close(c->vault);
    for (uint32_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", c->path, files[i]);
        unlink(path);
    }
    if (c->ways == NULL)
        bench_raw_close(&raw);
    else
        rmdir(c->path);
    bench_figures_fini(&c->figures);
    bench_figures_fini(&c->to_raw);
}

static int run_once(struct contender *c, size_t bytes)
{
    struct rml_err err = {0};
    int64_t from = bench_now_ns();
    int rc =
        c->ways == NULL ? bench_raw_write(&raw, bytes, &c->ms) : write_checkpoint(c, bytes, &err);
    if (c->ways != NULL)
        c->ms = (double)(bench_now_ns() - from) / 1e6;
    if (rc < 0)
        fprintf(stderr, "bench_vault: %s: %s\n", c->name,
                err.code < 0 ? err.text : strerrordesc_np(-rc));
    return rc;
}

// All contenders with so many keys; every checkpoint can be read afterwards.
static int measure(uint32_t keys)
{
    size_t bytes = (size_t)keys * ROW_BYTES;
    for (uint32_t i = 0; i < CONTENDERS; i++)
        contenders[i].figures.count = contenders[i].to_raw.count = 0;
    for (uint32_t round = 0; round < round_count + 1; round++) {  // the first is not counted
        for (uint32_t i = 0; i < CONTENDERS; i++) {
            int rc = run_once(&contenders[(round + i) % CONTENDERS], bytes);
            if (rc < 0)
                return rc;
        }
        for (uint32_t i = 0; i < CONTENDERS && round > 0; i++) {
            bench_figures_add(&contenders[i].figures, contenders[i].ms);
            bench_figures_add(&contenders[i].to_raw, contenders[i].ms / contenders[0].ms);
        }
    }
    for (uint32_t i = 0; i < CONTENDERS; i++) {
        struct bench_quartiles ms = bench_figures_quartiles(&contenders[i].figures);
        struct bench_quartiles ratio = bench_figures_quartiles(&contenders[i].to_raw);
        printf("{\"bench\":\"vault\",\"way\":\"%s\",\"keys\":%u,\"bytes\":%zu,\"ms\":%.2f,"
               "\"q1\":%.2f,\"q3\":%.2f,\"mb_s\":%.0f,\"to_raw\":%.2f,\"to_raw_q1\":%.2f,"
               "\"to_raw_q3\":%.2f}\n",
               contenders[i].vault == NULL ? "raw" : rml_vault_way(contenders[i].vault), keys,
               bytes, ms.median, ms.q1, ms.q3, (double)bytes / 1e3 / ms.median, ratio.median,
               ratio.q1, ratio.q3);
        fflush(stdout);
        const struct rml_manifest *newest;
        struct rml_err err = {0};
        int rc =
            contenders[i].ways == NULL ? 0 : rml_vault_newest(contenders[i].vault, &newest, &err);
        if (rc == 0 && contenders[i].ways != NULL)
            rc = rml_vault_verify(contenders[i].vault, newest->epoch, &err);
        if (rc < 0) {
            fprintf(stderr, "bench_vault: %s\n", err.text);
            return rc;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct bench_count counts[] = {
        {"--rounds", &round_count, 1000000},
        {"--keys", &key_count_max, 100000000},
    };
    if (!bench_counts_read(argc, argv, counts, sizeof counts / sizeof counts[0])) {
        fprintf(stderr, "bench_vault [--rounds 15] [--keys 1000000]\n");
        return 2;
    }
    if (mkdtemp(folder) == NULL) {
        fprintf(stderr, "bench_vault: no folder can be made here: %s\n", strerrordesc_np(errno));
        return 1;
    }
    int rc = 0;
    for (uint32_t i = 0; i < CONTENDERS && rc == 0; i++)
        rc = open_contender(&contenders[i]);
    for (uint32_t keys = 10000; keys < key_count_max && keys <= 100000 && rc == 0; keys *= 10)
        rc = measure(keys);
    if (rc == 0)
        rc = measure(key_count_max);
    for (uint32_t i = 0; i < CONTENDERS; i++)
        close_contender(&contenders[i]);
    rmdir(folder);
    return rc < 0;
}
