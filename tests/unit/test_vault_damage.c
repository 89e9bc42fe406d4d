/*
 * What the vault says of files that are not what it wrote: flipped bits, cut files, other formats, files of
 * two directories. Whatever is there, it gives what was written or an error, and never crashes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lmdb.h>

#include "runtime/checkpoint/catalog_check.h"
#include "runtime/checkpoint/crc32c.h"
#include "tests/support/folder.h"
#include "tests/support/history.h"
#include "tests/support/test.h"

#define CHECKPOINTS 9

static struct folder folder;
static struct history h;
static struct rml_err err;
static uint64_t seed, newest;
static struct rml_vault_options options = {
    .first_bytes = RML_EXTENT_GRANULE_BYTES,
    .step_bytes = RML_EXTENT_GRANULE_BYTES,
    .catalog_bytes = 1 << 20,
};
static const struct rml_disk_way *const plain[] = {&rml_disk_way_pwrite, &rml_disk_way_buffered,
                                                   NULL};

struct file {
    char path[128];
    unsigned char *bytes;
    size_t count;
};

static struct file extents, catalog;

static struct file read_file(const char *name)
{
    struct file file;
    struct stat about;
    snprintf(file.path, sizeof file.path, "%s", folder_file(&folder, name));
    int fd = open(file.path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &about) == 0);
    file.count = (size_t)about.st_size;
    file.bytes = malloc(file.count);
    assert_non_null(file.bytes);
    assert_int_equal(read(fd, file.bytes, file.count), file.count);
    close(fd);
    return file;
}

static void change(const struct file *file, size_t at, const void *bytes, size_t count)
{
    int fd = open(file->path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, count, (off_t)at), count);
    close(fd);
}

static void flip(const struct file *file, size_t at, unsigned bit)
{
    unsigned char byte = (unsigned char)(file->bytes[at] ^ 1u << bit);
    change(file, at, &byte, 1);
}

static void restore(const struct file *file)
{
    int fd = open(file->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, file->bytes, file->count), file->count);
    close(fd);
}

static struct rml_vault *open_vault(void)
{
    struct rml_vault *vault;
    if (rml_vault_open(&vault, folder.path, &options, &err) < 0)
        fail_msg("%s", err.text);
    return vault;
}

static int open_refused(void)
{
    struct rml_vault *vault;
    int rc = rml_vault_open(&vault, folder.path, &options, &err);
    if (rc == 0)
        rml_vault_close(vault);
    return rc;
}

static void is_as_written(struct rml_vault *vault, uint64_t epoch)
{
    if (history_check(&h, vault, epoch, &err) != HISTORY_AS_WRITTEN)
        fail_msg("checkpoint %llu: %s", (unsigned long long)epoch, err.text);
}

/* A checkpoint that every byte of the extents belongs to: the file it lies in, where, and of whom. */
static void a_flipped_bit_in_any_extent_is_named(void **state)
{
    (void)state;
    struct rml_vault *vault = open_vault();
    uint32_t blocks = 0;
    for (uint32_t p = 0; p < HISTORY_PARTITIONS; p++) {
        const struct rml_manifest_part *part = rml_manifest_find(rml_vault_kept(vault, newest), p);
        for (uint32_t i = 0; i < part->extent_count; i++) {
            const struct rml_extent *extent = &part->extents[i];
            for (uint32_t at = 0; at < extent->bytes; at += RML_DISK_BLOCK_BYTES, blocks++) {
                uint32_t room = extent->bytes - at < RML_DISK_BLOCK_BYTES ? extent->bytes - at
                                                                          : RML_DISK_BLOCK_BYTES;
                size_t byte = extent->offset + at + rml_test_random(&seed) % room;
                flip(&extents, byte, (unsigned)(rml_test_random(&seed) % 8));
                if (history_check(&h, vault, newest, &err) != HISTORY_REFUSED)
                    fail_msg("the flipped byte %zu was not noticed", byte);
                char where[64], whose[64];
                snprintf(where, sizeof where, "bytes at byte %llu",
                         (unsigned long long)extent->offset);
                snprintf(whose, sizeof whose, "for partition %u", p);
                assert_non_null(strstr(err.text, extents.path));
                assert_non_null(strstr(err.text, where));
                assert_non_null(strstr(err.text, whose));
                change(&extents, byte, &extents.bytes[byte], 1);
            }
        }
    }
    assert_true(blocks > 20);
    is_as_written(vault, newest);
    rml_vault_close(vault);
}

/* The newest checkpoint and the rows, as they were; or an error. What else could be there? */
static void check_flipped(size_t at, unsigned bit, uint32_t counts[2])
{
    struct rml_vault *vault;
    bool refused = rml_vault_open(&vault, folder.path, &options, &err) < 0;
    if (!refused) {
        const struct rml_manifest *manifest;
        int rc = rml_vault_newest(vault, &manifest, &err);
        refused = rc < 0;
        if (!refused
            && (manifest->epoch != newest
                || history_check(&h, vault, newest, &err) != HISTORY_AS_WRITTEN))
            fail_msg("byte %zu, bit %u: another state came up: %llu", at, bit,
                     (unsigned long long)manifest->epoch);
        rml_vault_close(vault);
    }
    if (!refused) {
        enum history_verdict rows = history_check_rows(&h, folder.path, newest, &err);
        if (rows == HISTORY_WRONG)
            fail_msg("byte %zu, bit %u: other rows came up", at, bit);
        refused = rows == HISTORY_REFUSED;
    }
    counts[refused]++;
}

// The one bit that cannot be told from a commit that failed (catalog_check.h).
static bool passes_for_older(size_t at, unsigned bit)
{
    uint64_t transactions[2];
    size_t place = 16 + 128;
    memcpy(&transactions[0], catalog.bytes + place, 8);
    memcpy(&transactions[1], catalog.bytes + 4096 + place, 8);
    int newer = transactions[1] > transactions[0];
    place += newer ? 4096 : 0;
    return at >= place && at < place + 8
           && (transactions[newer] ^ (uint64_t)1 << (8 * (at - place) + bit)) + 1
                  == transactions[!newer];
}

/* What somebody knows who mends, and does without none: how many rows there should be. */
static struct {
    uint32_t wanted, found, mended, gaps;
} rows;

static void flip_some(uint32_t in_each_page, uint32_t counts[2])
{
    for (size_t page = 0; page < catalog.count; page += 4096)
        for (uint32_t i = 0; i < in_each_page; i++) {
            // Half of them where pages and their nodes begin.
            size_t at = page + rml_test_random(&seed) % (i % 2 == 0 ? 64 : 4096);
            unsigned bit = (unsigned)(rml_test_random(&seed) % 8);
            if (passes_for_older(at, bit))
                continue;
            rows.found = 0;
            flip(&catalog, at, bit);
            check_flipped(at, bit, counts);
            restore(&catalog);
        }
}

static void a_flipped_bit_in_any_page_of_the_catalog_is_noticed_or_harmless(void **state)
{
    (void)state;
    uint32_t counts[2] = {0, 0};
    options.ways = plain;
    flip_some(RML_TEST_SLOW ? 12 : 150, counts);
    print_message("%u harmless, %u refused\n", counts[0], counts[1]);
    assert_true(counts[1] > 100 || RML_TEST_SLOW);
    options.ways = NULL;
}

static bool give_up_none(void *context, const struct rml_table_row *row)
{
    (void)context, (void)row;
    return false;
}

static void count_kept(void *context, const struct rml_table_row *row, bool is_whole)
{
    (void)context, (void)row;
    rows.found += is_whole;
}

static void count_gap(void *context, const struct rml_catalog_gap *gap)
{
    (void)context, (void)gap;
    rows.gaps++;
}

static int approve_all_of_them(void *context, struct rml_err *why)
{
    (void)context;
    bool are_all = rows.found == rows.wanted;
    rows.found = 0;
    rows.mended += are_all;
    return are_all ? 0 : RML_FAIL(why, -EBADMSG, "rows are missing");
}

static const struct rml_catalog_mending mending = {give_up_none, count_kept, count_gap,
                                                   approve_all_of_them, NULL};

static bool wants_all(void *context, const void *key, size_t key_bytes)
{
    (void)context, (void)key, (void)key_bytes;
    return true;
}

static int count_entry(void *context, enum rml_catalog_tree tree, const void *key, size_t key_bytes,
                       const void *value, size_t value_bytes)
{
    (void)context, (void)key, (void)key_bytes, (void)value, (void)value_bytes;
    rows.wanted += tree == RML_CATALOG_TREE_ROWS;
    return 0;
}

static void what_is_mended_is_as_it_was_or_refused(void **state)
{
    (void)state;
    uint32_t counts[2] = {0, 0};
    const struct rml_catalog_entries entries = {wants_all, count_entry, count_gap, NULL};
    memset(&rows, 0, sizeof rows);
    assert_int_equal(rml_catalog_collect(catalog.path, &entries, &err), 0);
    assert_int_equal(rows.gaps, 0);
    assert_true(rows.wanted > 0);
    options.ways = plain;
    options.mending = &mending;
    flip_some(RML_TEST_SLOW ? 12 : 100, counts);
    // What needs mending is met by chance.
    for (uint32_t more = 0; more < 1000 && (rows.mended == 0 || counts[1] == 0); more++)
        flip_some(2, counts);
    print_message("%u right, %u of them mended, %u refused\n", counts[0], rows.mended, counts[1]);
    assert_true(rows.mended > 0 && counts[1] > 0);
    options.ways = NULL;
    options.mending = NULL;
}

static void every_bit_of_the_meta_pages_is_noticed_or_harmless(void **state)
{
    (void)state;
    uint32_t counts[2] = {0, 0};
    options.ways = plain;
    for (size_t page = 0; page < 8192; page += 4096)
        for (size_t at = page; at < page + 16 + 136; at += RML_TEST_SLOW ? 9 : 1)
            for (unsigned bit = 0; bit < 8; bit += RML_TEST_SLOW ? 3 : 1) {
                if (passes_for_older(at, bit))
                    continue;
                flip(&catalog, at, bit);
                check_flipped(at, bit, counts);
                restore(&catalog);
            }
    print_message("%u harmless, %u refused\n", counts[0], counts[1]);
    assert_true(counts[1] > counts[0] / 4);
    options.ways = NULL;
}

static void a_good_catalog_passes(void **state)
{
    (void)state;
    assert_int_equal(rml_catalog_check(catalog.path, &err), 0);
}

static void noise_is_no_catalog(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        size_t at = rml_test_random(&seed) % (catalog.count / 4096) * 4096;
        unsigned char noise[4096];
        rml_test_bytes(&seed, noise, sizeof noise);
        // half of them with a head that could be
        size_t from = i % 2 == 0 ? 0 : 16;
        change(&catalog, at + from, noise, sizeof noise - from);
        uint32_t counts[2] = {0, 0};
        check_flipped(at, 0, counts);
        restore(&catalog);
    }
}

static void a_catalog_that_was_cut_is_noticed(void **state)
{
    (void)state;
    uint32_t refused = 0;
    for (size_t bytes = 0; bytes < catalog.count; bytes += 4096 / 2) {
        assert_int_equal(truncate(catalog.path, (off_t)bytes), 0);
        uint32_t counts[2] = {0, 0};
        check_flipped(bytes, 0, counts);
        refused += counts[1];
        restore(&catalog);
    }
    assert_true(refused > 4);
}

// Where the farthest bytes of a checkpoint end: space is used again, so that it can be anywhere in the file.
static uint64_t end_of(uint64_t epoch)
{
    struct rml_vault *vault = open_vault();
    uint64_t end = 0;
    for (uint32_t p = 0; p < HISTORY_PARTITIONS; p++) {
        const struct rml_manifest_part *part = rml_manifest_find(rml_vault_kept(vault, epoch), p);
        for (uint32_t i = 0; i < part->extent_count; i++)
            if (part->extents[i].offset + part->extents[i].bytes > end)
                end = part->extents[i].offset + part->extents[i].bytes;
    }
    rml_vault_close(vault);
    return end;
}

static void extents_that_were_cut_are_named(void **state)
{
    (void)state;
    assert_int_equal(truncate(extents.path, (off_t)end_of(newest) - 1), 0);
    struct rml_vault *vault = open_vault();
    const struct rml_manifest *manifest;
    assert_int_equal(rml_vault_newest(vault, &manifest, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "it is shorter than checkpoint"));
    rml_vault_close(vault);
}

/*
 * A bit of the row of an epoch's partition 1, wherever its bytes lie, pages of older states included. The
 * whole of the bytes: less may be what is left of the row between others.
 */
static void flip_rows_of(uint64_t epoch)
{
    unsigned char bytes[13], row[4096];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val key = {sizeof bytes, bytes}, value;
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(epoch >> (56 - 8 * i));
    memcpy(bytes + 8, "p\0\0\0\1", 5);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 2), 0);
    assert_int_equal(mdb_env_open(env, catalog.path, MDB_NOSUBDIR | MDB_RDONLY, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "checkpoints", 0, &dbi), 0);
    assert_int_equal(mdb_get(txn, dbi, &key, &value), 0);
    size_t count = value.mv_size;
    assert_true(count <= sizeof row);
    memcpy(row, value.mv_data, count);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    uint32_t found = 0;
    for (size_t at = 8192; at + count <= catalog.count; at++)
        if (memcmp(catalog.bytes + at, row, count) == 0) {
            flip(&catalog, at + count / 2, 3);
            found++;
        }
    assert_true(found > 0);
}

static void a_damaged_newest_checkpoint_can_be_gone_back_from(void **state)
{
    (void)state;
    flip_rows_of(newest);
    struct rml_vault *vault = open_vault();
    const struct rml_manifest *manifest;
    uint64_t epoch;
    assert_int_equal(rml_vault_newest(vault, &manifest, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "the partition 1 is not what was written"));
    assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "go back to the one before"));
    is_as_written(vault, newest - 1);
    assert_int_equal(rml_vault_go_back(vault, &err), 0);
    assert_int_equal(rml_vault_newest(vault, &manifest, &err), 0);
    assert_int_equal(manifest->epoch, newest - 1);
    history_go_to(&h, newest - 1);
    assert_int_equal(history_write(&h, vault, &epoch, &err), 0);
    assert_int_equal(rml_vault_commit(vault, &err), 0);
    assert_true(epoch > newest);
    rml_vault_close(vault);
    vault = open_vault();
    is_as_written(vault, epoch);
    is_as_written(vault, newest - 1);
    rml_vault_close(vault);
}

static void damaged_checkpoints_that_are_given_up_stand_until_another_is_committed(void **state)
{
    (void)state;
    const struct rml_manifest *manifest;
    uint64_t epoch;
    flip_rows_of(newest - 1);
    flip_rows_of(newest);
    for (int i = 0; i < 2; i++) {
        struct rml_vault *vault = open_vault();
        assert_int_equal(rml_vault_newest(vault, &manifest, &err), -EBADMSG);
        assert_int_equal(rml_vault_go_back(vault, &err), -ENOENT);
        rml_vault_give_up(vault);
        assert_int_equal(rml_vault_newest(vault, &manifest, &err), -ENOENT);
        assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
        assert_true(epoch > newest);
        assert_int_equal(rml_vault_append(vault, 1, "anew", 4, &err), 0);
        if (i > 0)
            assert_int_equal(rml_vault_commit(vault, &err), 0);
        rml_vault_close(vault);
    }
    struct rml_vault *vault = open_vault();
    assert_int_equal(rml_vault_newest(vault, &manifest, &err), 0);
    assert_int_equal(manifest->epoch, epoch);
    assert_int_equal(rml_vault_kept_count(vault), 1);
    assert_int_equal(rml_vault_verify(vault, epoch, &err), 0);
    rml_vault_close(vault);
}

static void an_older_damaged_checkpoint_hinders_nothing(void **state)
{
    (void)state;
    flip_rows_of(newest - 1);
    struct rml_vault *vault = open_vault();
    assert_null(rml_vault_kept(vault, newest - 1));
    is_as_written(vault, newest);
    assert_int_equal(rml_vault_go_back(vault, &err), -ENOENT);
    uint64_t epoch;
    assert_int_equal(history_write(&h, vault, &epoch, &err), 0);
    assert_int_equal(rml_vault_commit(vault, &err), 0);
    is_as_written(vault, newest);
    rml_vault_close(vault);
}

static uint32_t complaints;

static void note_complaint(void *context, const char *sentence)
{
    (void)context;
    assert_non_null(strstr(sentence, "damaged"));
    complaints++;
}

static void a_reader_tells_of_every_damage(void **state)
{
    (void)state;
    struct rml_checkpoints *seen;
    assert_int_equal(rml_checkpoints_open(&seen, folder.path, &err), 0);
    struct rml_manifest manifest = {0};
    assert_int_equal(rml_checkpoints_show(seen, newest, &manifest, &err), 0);
    complaints = 0;
    assert_int_equal(rml_checkpoints_verify(seen, newest, note_complaint, NULL, &err), 0);
    flip(&extents, manifest.parts[0].extents[0].offset, 0);
    flip(&extents, manifest.parts[2].extents[0].offset + 1, 7);
    assert_int_equal(rml_checkpoints_verify(seen, newest, note_complaint, NULL, &err), 2);
    assert_int_equal(complaints, 2);
    rml_manifest_fini(&manifest);
    rml_checkpoints_close(seen);

    flip_rows_of(newest);
    struct rml_checkpoint_info list[4];
    assert_int_equal(rml_checkpoints_open(&seen, folder.path, &err), 0);
    assert_int_equal(rml_checkpoints_list(seen, list, 4, &err), 2);
    assert_int_equal(list[0].damage, 0);
    assert_int_equal(list[1].damage, -EBADMSG);
    assert_int_equal(rml_checkpoints_verify(seen, newest, note_complaint, NULL, &err), 1);
    rml_checkpoints_close(seen);
}

static void extents_of_another_format_are_refused(void **state)
{
    (void)state;
    struct rml_vault_header header;
    memcpy(&header, extents.bytes, sizeof header);
    header.format = 2;
    change(&extents, 0, &header, sizeof header);
    assert_int_equal(open_refused(), -EPROTONOSUPPORT);
    assert_non_null(strstr(err.text, "has format 2 and this program reads format 1"));
}

static void a_catalog_of_another_format_is_refused(void **state)
{
    (void)state;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val key = {4, (void *)(uintptr_t) "head"}, value;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, catalog.path, MDB_NOSUBDIR, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_get(txn, dbi, &key, &value), 0);
    unsigned char copy[256];
    size_t count = value.mv_size;
    assert_true(count <= sizeof copy);
    memcpy(copy, value.mv_data, count);
    struct rml_catalog_head_row row;
    memcpy(&row, copy, sizeof row);
    row.format = 3;
    row.transaction++;
    memcpy(copy, &row, sizeof row);
    value = (MDB_val){count, copy};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_int_equal(open_refused(), -EPROTONOSUPPORT);
    assert_non_null(strstr(err.text, "has format 3 and this program reads format 1"));
}

static void files_that_are_something_else_are_refused(void **state)
{
    (void)state;
    change(&extents, 0, "something else", 14);
    assert_int_equal(open_refused(), -EBADMSG);
    assert_non_null(strstr(err.text, "does not begin as an extent file does"));
    change(&extents, 0, extents.bytes, 14);
    flip(&extents, 20, 1);
    assert_int_equal(open_refused(), -EBADMSG);
    assert_non_null(strstr(err.text, "its header is not what was written"));
}

static void a_lost_file_is_not_a_new_directory(void **state)
{
    (void)state;
    assert_int_equal(unlink(catalog.path), 0);
    assert_int_equal(open_refused(), -EBADMSG);
    assert_non_null(strstr(err.text, "there is no catalog.mdb in it"));
    restore(&catalog);
    assert_int_equal(unlink(extents.path), 0);
    assert_int_equal(open_refused(), -EBADMSG);
    assert_non_null(strstr(err.text, "it is empty, and there is a catalog"));
}

static void files_of_two_directories_are_refused(void **state)
{
    (void)state;
    struct folder mine = folder, other = folder_make("/tmp");
    folder = other;
    rml_vault_close(open_vault());
    struct file theirs = read_file("catalog.mdb");
    folder_remove(&other);
    folder = mine;
    change(&catalog, 0, theirs.bytes, theirs.count);
    assert_int_equal(truncate(catalog.path, (off_t)theirs.count), 0);
    free(theirs.bytes);
    assert_int_equal(open_refused(), -EBADMSG);
    assert_non_null(strstr(err.text, "of two different directories"));
}

static int set_up(void **state)
{
    (void)state;
    folder = folder_make("/dev/shm");  // thousands of openings, each with its flush
    memset(&h, 0, sizeof h);
    h.seed = rml_test_random(&seed);
    h.piece_bytes_max = 100 << 10;
    struct rml_vault *vault = open_vault();
    for (int i = 0; i < CHECKPOINTS; i++) {
        if (history_write(&h, vault, &newest, &err) < 0 || rml_vault_commit(vault, &err) < 0)
            fail_msg("%s", err.text);
        history_committed(&h, newest);
    }
    rml_vault_close(vault);
    extents = read_file("extents");
    catalog = read_file("catalog.mdb");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(extents.bytes);
    free(catalog.bytes);
    folder_remove(&folder);
    return 0;
}

#define ON_FILES(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest claims[] = {
        ON_FILES(a_flipped_bit_in_any_extent_is_named),
        ON_FILES(a_flipped_bit_in_any_page_of_the_catalog_is_noticed_or_harmless),
        ON_FILES(what_is_mended_is_as_it_was_or_refused),
        ON_FILES(every_bit_of_the_meta_pages_is_noticed_or_harmless),
        ON_FILES(a_good_catalog_passes),
        ON_FILES(noise_is_no_catalog),
        ON_FILES(a_catalog_that_was_cut_is_noticed),
        ON_FILES(extents_that_were_cut_are_named),
        ON_FILES(a_damaged_newest_checkpoint_can_be_gone_back_from),
        ON_FILES(damaged_checkpoints_that_are_given_up_stand_until_another_is_committed),
        ON_FILES(an_older_damaged_checkpoint_hinders_nothing),
        ON_FILES(a_reader_tells_of_every_damage),
        ON_FILES(extents_of_another_format_are_refused),
        ON_FILES(a_catalog_of_another_format_is_refused),
        ON_FILES(files_that_are_something_else_are_refused),
        ON_FILES(a_lost_file_is_not_a_new_directory),
        ON_FILES(files_of_two_directories_are_refused),
    };
    seed = rml_test_seed();
    return cmocka_run_group_tests(claims, NULL, NULL);
}
