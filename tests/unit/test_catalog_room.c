/*
 * How large a catalog may become, what becomes of it when there is no more room, and who is named for it. Room for
 * a larger map is refused at a door: LMDB's own mmap.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog.h"
#include "tests/support/folder.h"
#include "tests/support/reader.h"
#include "tests/support/test.h"

#define KIB       ((uint64_t)1 << 10)
#define MAP_BYTES (256 * KIB)
#define ROW_BYTES 200u

#define SOME_ROWS 100u
#define MOST_ROWS 700u   // more than half of what the first map holds
#define MANY_ROWS 3000u  // more than the first map holds

static struct folder folder;
static struct rml_catalog *catalog;
static struct rml_err err;
static struct rml_table_rows rows;
static size_t refused_from;  // maps of so many bytes or more are refused; 0: none is
static uint32_t refused;

// The thread sanitizer maps memory before it could be asked through another's door; without one these tests are skipped.
#if defined(__SANITIZE_THREAD__)
# define HAS_DOOR false
#else
# define HAS_DOOR true

__attribute__((visibility("default"))) void *mmap(void *at, size_t bytes, int protection, int flags,
                                                  int fd, off_t offset)
{
    if (refused_from > 0 && fd >= 0 && bytes >= refused_from) {
        refused++;
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}
#endif

static void open_with(uint64_t bytes_max)
{
    const struct rml_catalog_options options = {MAP_BYTES, bytes_max};
    rml_catalog_close(catalog);
    catalog = NULL;
    if (rml_catalog_open(&catalog, folder.path, &options, &err) < 0)
        fail_msg("%s", err.text);
}

static void fill_row(unsigned char row[ROW_BYTES], uint32_t key, uint32_t turn)
{
    memset(row, (int)(key % 7), ROW_BYTES);
    memcpy(row, &turn, sizeof turn);
}

// So many rows with this turn's values, in one commit.
static int commit(uint32_t count, uint32_t turn)
{
    unsigned char row[ROW_BYTES];
    const struct rml_catalog_head *head = rml_catalog_head(catalog);
    const struct rml_catalog_change change = {.rows = &rows,
                                              .newest_epoch = head->newest_epoch,
                                              .next_epoch = head->next_epoch,
                                              .written_bytes = turn};
    rml_table_rows_clear(&rows);
    for (uint32_t key = 0; key < count; key++) {
        fill_row(row, key, turn);
        assert_int_equal(rml_table_rows_put(&rows, "t", &key, sizeof key, row, ROW_BYTES), 0);
    }
    return rml_catalog_commit(catalog, &change, &err);
}

static void good_commit(uint32_t count, uint32_t turn)
{
    if (commit(count, turn) < 0)
        fail_msg("%s", err.text);
}

static void has_rows(uint32_t count, uint32_t turn)
{
    struct rml_catalog_view *view;
    struct rml_table_row row;
    unsigned char wanted[ROW_BYTES];
    assert_int_equal(rml_catalog_head(catalog)->written_bytes, turn);
    assert_int_equal(rml_catalog_look(catalog, &view, &err), 0);
    for (uint32_t key = 0; key < count; key++) {
        fill_row(wanted, key, turn);
        assert_int_equal(rml_catalog_row(view, "t", &key, sizeof key, false, &row, &err), 0);
        assert_int_equal(row.value_bytes, ROW_BYTES);
        assert_memory_equal(row.value, wanted, ROW_BYTES);
    }
    rml_catalog_view_close(view);
}

static uint64_t file_bytes(void)
{
    struct stat about;
    assert_int_equal(stat(folder_file(&folder, RML_CATALOG_FILE), &about), 0);
    return (uint64_t)about.st_size;
}

static int set_up(void **state)
{
    (void)state;
    const unsigned char vault[RML_VAULT_ID_BYTES] = "a vault";
    const struct rml_catalog_options options = {MAP_BYTES, 1 << 30};
    folder = folder_make("/tmp");
    refused_from = 0;
    refused = 0;
    assert_int_equal(rml_catalog_make(folder.path, vault, &options, &err), 0);
    open_with(1 << 30);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    refused_from = 0;
    rml_catalog_close(catalog);
    catalog = NULL;
    rml_table_rows_fini(&rows);
    folder_remove(&folder);
    return 0;
}

static void a_map_that_cannot_be_made_larger_is_said_and_nothing_is_lost(void **state)
{
    (void)state;
    if (!HAS_DOOR)
        skip();
    good_commit(MOST_ROWS, 1);
    refused_from = MAP_BYTES + 1;
    for (uint32_t try = 1; try <= 3; try++) {
        assert_int_equal(commit(MANY_ROWS, 2), -ENOMEM);
        assert_int_equal(refused, try);
        assert_non_null(strstr(err.text, "524288 bytes of it cannot be mapped"));
        assert_false(rml_catalog_has_failed(catalog));
        has_rows(MOST_ROWS, 1);
    }
    refused_from = 0;
    good_commit(MANY_ROWS, 3);
    has_rows(MANY_ROWS, 3);
    open_with(1 << 30);
    has_rows(MANY_ROWS, 3);
}

static void where_not_even_the_old_map_can_be_had_it_is_opened_again_later(void **state)
{
    (void)state;
    if (!HAS_DOOR)
        skip();
    good_commit(MOST_ROWS, 1);
    refused_from = MAP_BYTES;
    assert_int_equal(commit(MANY_ROWS, 2), -EIO);
    assert_non_null(strstr(err.text, "can be mapped no more"));
    assert_true(rml_catalog_has_failed(catalog));
    assert_int_equal(rml_catalog_use(catalog).bytes, 0);
    assert_int_equal(commit(1, 2), -EIO);
    struct rml_catalog_view *view;
    assert_int_equal(rml_catalog_look(catalog, &view, &err), -EIO);
    refused_from = 0;
    open_with(1 << 30);
    has_rows(MOST_ROWS, 1);
    good_commit(MANY_ROWS, 2);
    has_rows(MANY_ROWS, 2);
}

static void a_limit_is_used_up_whatever_it_is(void **state)
{
    (void)state;
    const uint64_t most = 1000 * KIB;  // no power of two times the first
    open_with(most);
    uint32_t count = 100;
    while (commit(count, count) == 0)
        count += 100;
    assert_non_null(strstr(err.text, "is full: it may not grow past 1024000 bytes"));
    assert_true(file_bytes() > most / 2 && file_bytes() <= most);
    assert_true(rml_catalog_use(catalog).bytes <= most);
    assert_int_equal(rml_catalog_use(catalog).bytes_max, most);
    has_rows(count - 100, count - 100);
    good_commit(1, count - 100);
}

static void a_file_that_is_larger_than_a_new_limit_can_be_read_and_changed(void **state)
{
    (void)state;
    good_commit(MANY_ROWS, 1);
    good_commit(MANY_ROWS, 2);
    good_commit(SOME_ROWS, 2);  // pages come free with the commit after the next
    good_commit(SOME_ROWS, 2);
    open_with(MAP_BYTES);
    has_rows(MANY_ROWS, 2);
    good_commit(SOME_ROWS, 3);
    uint64_t before = file_bytes();
    for (uint32_t i = 0; i < 10; i++) {
        (void)commit(MANY_ROWS, 3);  // there may be room for it, or not
        assert_int_equal(file_bytes(), before);
    }
    open_with(1 << 30);
    good_commit(MANY_ROWS, 4);
    has_rows(MANY_ROWS, 4);
}

static void who_holds_pages_back_is_known_with_the_commits_since(void **state)
{
    (void)state;
    good_commit(SOME_ROWS, 1);
    assert_int_equal(rml_catalog_use(catalog).reader_pid, 0);
    pid_t first = reader_start(folder.path);
    struct rml_catalog_use use = rml_catalog_use(catalog);
    assert_int_equal(use.reader_pid, first);
    assert_int_equal(use.reader_behind, 0);
    for (uint32_t turn = 2; turn < 9; turn++)
        good_commit(SOME_ROWS, turn);
    pid_t second = reader_start(folder.path);
    good_commit(SOME_ROWS, 9);
    use = rml_catalog_use(catalog);
    assert_int_equal(use.reader_count, 2);
    assert_int_equal(use.reader_pid, first);
    assert_int_equal(use.reader_behind, 8);
    uint64_t state_of_first = use.reader_state;
    reader_end(first);
    good_commit(SOME_ROWS, 10);  // it forgets who is dead
    use = rml_catalog_use(catalog);
    assert_int_equal(use.reader_count, 1);
    assert_int_equal(use.reader_pid, second);
    assert_int_equal(use.reader_behind, 2);
    assert_int_equal(use.reader_state, state_of_first + 7);
    reader_end(second);
    good_commit(SOME_ROWS, 11);
    use = rml_catalog_use(catalog);
    assert_int_equal(use.reader_count + use.reader_pid + use.reader_behind, 0);
}

static void a_limit_that_a_reader_uses_up_names_it_and_its_end_makes_room(void **state)
{
    (void)state;
    open_with(4 * MAP_BYTES);
    good_commit(SOME_ROWS, 1);
    pid_t reader = reader_start(folder.path);
    uint32_t turn = 2;
    while (commit(SOME_ROWS, turn) == 0)
        turn++;
    char name[40];
    snprintf(name, sizeof name, "process %d reads a state", (int)reader);
    assert_non_null(strstr(err.text, "may not grow past 1048576 bytes"));
    assert_non_null(strstr(err.text, name));
    uint64_t full_bytes = file_bytes();
    assert_true(turn > 20 && full_bytes <= 4 * MAP_BYTES);
    has_rows(SOME_ROWS, turn - 1);
    reader_end(reader);
    for (uint32_t i = 0; i < 100; i++)
        good_commit(SOME_ROWS, ++turn);
    has_rows(SOME_ROWS, turn);
    assert_true(file_bytes() <= 4 * MAP_BYTES);
}

#define IN_FOLDER(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest claims[] = {
        IN_FOLDER(a_map_that_cannot_be_made_larger_is_said_and_nothing_is_lost),
        IN_FOLDER(where_not_even_the_old_map_can_be_had_it_is_opened_again_later),
        IN_FOLDER(a_limit_is_used_up_whatever_it_is),
        IN_FOLDER(a_file_that_is_larger_than_a_new_limit_can_be_read_and_changed),
        IN_FOLDER(who_holds_pages_back_is_known_with_the_commits_since),
        IN_FOLDER(a_limit_that_a_reader_uses_up_names_it_and_its_end_makes_room),
    };
    return cmocka_run_group_tests(claims, NULL, NULL);
}
