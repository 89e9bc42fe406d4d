/*
 * What a catalog that is mended needs, and what is found where mending was cut short.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog.h"
#include "tests/support/folder.h"
#include "tests/support/reader.h"
#include "tests/support/test.h"

#define MIB       ((uint64_t)1 << 20)
#define LIMIT     (2 * MIB)
#define KEY_BYTES 4u
#define ROW_BYTES 1200u  // three on a page of 4 KiB

static struct folder folder;
static struct rml_catalog *catalog;
static struct rml_err err;
static struct rml_table_rows rows;
static uint64_t rows_kept;

static const struct rml_catalog_options at_limit = {LIMIT, LIMIT};
static uint32_t dies_at;  // its rename or removal of a file of this number, from 1; 0: it lives

/* Doors: names of files change there. */

int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);

static void maybe_die(void)
{
    if (dies_at > 0 && --dies_at == 0)
        _exit(7);
}

int __wrap_rename(const char *from, const char *to)
{
    maybe_die();
    return __real_rename(from, to);
}

int __wrap_unlink(const char *path)
{
    maybe_die();
    return __real_unlink(path);
}

/* Who mends and does without no row: there should be as many as were counted. */

static uint64_t rows_wanted;

static bool give_up_none(void *context, const struct rml_table_row *row)
{
    (void)context, (void)row;
    return false;
}

static void count_kept(void *context, const struct rml_table_row *row, bool is_whole)
{
    (void)context, (void)row;
    rows_kept += is_whole;
}

static void lacks_none(void *context, const struct rml_catalog_gap *gap)
{
    (void)context, (void)gap;
    fail_msg("a catalog that is sound has a gap");
}

static int approve_all_of_them(void *context, struct rml_err *why)
{
    (void)context;
    uint64_t kept = rows_kept;
    rows_kept = 0;
    return kept == rows_wanted ? 0 : RML_FAIL(why, -EBADMSG, "rows are missing");
}

static const struct rml_catalog_mending mending = {give_up_none, count_kept, lacks_none,
                                                   approve_all_of_them, NULL};

static void mend(const struct rml_catalog_options *options)
{
    rows_kept = 0;
    if (rml_catalog_mend(folder.path, options, &mending, &err) < 0)
        fail_msg("%s", err.text);
}

/* Rows */

static int put_row(uint32_t key, uint32_t turn)
{
    unsigned char name[KEY_BYTES] = {(unsigned char)(key >> 24), (unsigned char)(key >> 16),
                                     (unsigned char)(key >> 8), (unsigned char)key};
    unsigned char row[ROW_BYTES];
    memset(row, (int)(key % 7), sizeof row);
    memcpy(row, &turn, sizeof turn);
    const struct rml_catalog_head *head = rml_catalog_head(catalog);
    const struct rml_catalog_change change = {.rows = &rows,
                                              .newest_epoch = head->newest_epoch,
                                              .next_epoch = head->next_epoch,
                                              .written_bytes = head->written_bytes};
    rml_table_rows_clear(&rows);
    assert_int_equal(rml_table_rows_put(&rows, "t", name, sizeof name, row, sizeof row), 0);
    return rml_catalog_commit(catalog, &change, &err);
}

static void open_it(void)
{
    if (rml_catalog_open(&catalog, folder.path, &at_limit, &err) < 0)
        fail_msg("%s", err.text);
}

static void close_it(void)
{
    rml_catalog_close(catalog);
    catalog = NULL;
}

static uint64_t file_bytes(void)
{
    struct stat about;
    assert_int_equal(stat(folder_file(&folder, RML_CATALOG_FILE), &about), 0);
    return (uint64_t)about.st_size;
}

// As full of rows as the limit lets it be: what came between others has filled the pages, too.
static uint32_t fill_up(void)
{
    uint32_t count = 0;
    for (uint32_t key = 0; key < 600; key += 2, count++)
        assert_int_equal(put_row(key, 0), 0);
    for (uint32_t key = 1; key < 600; key += 4, count++)
        assert_int_equal(put_row(key, 0), 0);
    for (uint32_t key = 600; put_row(key, 0) == 0; key++)
        count++;
    assert_non_null(strstr(err.text, "may not grow past"));
    return count;
}

static void what_fits_under_the_limit_fits_when_it_is_mended(void **state)
{
    (void)state;
    rows_wanted = fill_up();
    uint64_t before = file_bytes();
    close_it();
    mend(&at_limit);
    assert_true(file_bytes() <= before);
    open_it();
    assert_int_equal(put_row(0, 1), 0);
}

static void so_does_what_is_larger_than_a_new_limit(void **state)
{
    (void)state;
    const struct rml_catalog_options smaller = {LIMIT / 4, LIMIT / 4};
    rows_wanted = fill_up();
    close_it();
    mend(&smaller);
    open_it();
    assert_int_equal(put_row(0, 1), 0);
}

// One that mends and is killed as it is about to change the name of a file for the n-th time. False: it came to its end.
static bool mend_and_die(uint32_t n)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dies_at = n;
        mend(&at_limit);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 7));
    return WEXITSTATUS(status) == 7;
}

static ino_t file_number(void)
{
    struct stat about;
    assert_int_equal(stat(folder_file(&folder, RML_CATALOG_FILE), &about), 0);
    return about.st_ino;
}

// Whoever still reads the old one has its locks, by which another file would be misunderstood.
static void killed_at_any_moment_it_leaves_the_old_catalog_or_a_sound_one(void **state)
{
    (void)state;
    uint32_t n = 0, seen_new = 0;
    bool died = true;
    for (rows_wanted = 0; rows_wanted < 10; rows_wanted++)
        assert_int_equal(put_row((uint32_t)rows_wanted, 0), 0);
    for (uint32_t turn = 1; died; turn++) {
        // an odd or even number of commits, so that each of the meta pages is met
        for (uint32_t i = 0; i <= turn % 2; i++)
            assert_int_equal(put_row(0, turn), 0);
        pid_t reader = reader_start(folder.path);
        close_it();
        ino_t old = file_number();
        died = mend_and_die(++n);
        seen_new += died && file_number() != old;
        open_it();
        assert_int_equal(put_row(1, turn), 0);
        reader_end(reader);
    }
    assert_true(seen_new > 0 && seen_new < n - 1);
}

static int set_up(void **state)
{
    (void)state;
    const unsigned char vault[RML_VAULT_ID_BYTES] = "a vault";
    folder = folder_make("/dev/shm");
    assert_int_equal(rml_catalog_make(folder.path, vault, &at_limit, &err), 0);
    open_it();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_it();
    rml_table_rows_fini(&rows);
    folder_remove(&folder);
    return 0;
}

#define IN_FOLDER(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest claims[] = {
        IN_FOLDER(what_fits_under_the_limit_fits_when_it_is_mended),
        IN_FOLDER(so_does_what_is_larger_than_a_new_limit),
        IN_FOLDER(killed_at_any_moment_it_leaves_the_old_catalog_or_a_sound_one),
    };
    return cmocka_run_group_tests(claims, NULL, NULL);
}
