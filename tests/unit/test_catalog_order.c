/*
 * Rows of a catalog of which a page leads back to an earlier one: whoever reads it row by row comes to an end.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog.h"
#include "tests/support/folder.h"
#include "tests/support/test.h"

#define MIB        ((uint64_t)1 << 20)
#define ROWS       400u
#define ROW_BYTES  100u
#define PAGE_BYTES 4096u

static struct folder folder;
static struct rml_catalog *catalog;
static struct rml_err err;

/* Pages of LMDB's data version 1, as far as they are needed here: a head, places of nodes, nodes. */
enum { FLAGS_AT = 10, LOWER_AT = 12, NODES_AT = 16, IS_BRANCH = 1 };

static uint16_t word(const unsigned char *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

// The third child of each page that has more becomes the first. How many pages those were.
static uint32_t lead_back(void)
{
    uint32_t found = 0;
    int fd = open(folder_file(&folder, RML_CATALOG_FILE), O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    struct stat about;
    assert_int_equal(fstat(fd, &about), 0);
    size_t bytes = (size_t)about.st_size;
    unsigned char *file = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(file, MAP_FAILED);
    close(fd);
    for (unsigned char *page = file; page < file + bytes; page += PAGE_BYTES) {
        if (word(page + FLAGS_AT) != IS_BRANCH || word(page + LOWER_AT) < NODES_AT + 4 * 2)
            continue;
        // the number of a child is the first three words of its node
        memcpy(page + word(page + NODES_AT + 4), page + word(page + NODES_AT), 6);
        found++;
    }
    munmap(file, bytes);
    return found;
}

static void put_rows(void)
{
    struct rml_table_rows rows = {0};
    const struct rml_catalog_head *head = rml_catalog_head(catalog);
    const struct rml_catalog_change change = {.rows = &rows,
                                              .newest_epoch = head->newest_epoch,
                                              .next_epoch = head->next_epoch,
                                              .written_bytes = head->written_bytes};
    for (uint32_t i = 0; i < ROWS; i++) {
        unsigned char key[2] = {(unsigned char)(i >> 8), (unsigned char)i}, row[ROW_BYTES] = {0};
        assert_int_equal(rml_table_rows_put(&rows, "t", key, sizeof key, row, sizeof row), 0);
    }
    if (rml_catalog_commit(catalog, &change, &err) < 0)
        fail_msg("%s", err.text);
    rml_table_rows_fini(&rows);
}

// From row to row, each time looked up anew. What ended it; *ret_rows: how many there were.
static int walk(uint32_t *ret_rows)
{
    struct rml_catalog_view *view;
    unsigned char key[3];
    uint32_t bytes = 0;
    int rc = rml_catalog_look(catalog, &view, &err);
    for (*ret_rows = 0; rc == 0 && *ret_rows <= ROWS; ++*ret_rows) {
        struct rml_table_row row = {0};
        rc = rml_catalog_row(view, "t", key, bytes, true, &row, &err);
        if (rc < 0)
            break;
        assert_int_equal(row.key_bytes, 2);
        memcpy(key, row.key, 2);
        key[2] = 0;  // the least key behind it
        bytes = sizeof key;
    }
    rml_catalog_view_close(view);
    return rc;
}

static int walk_back(uint32_t *ret_rows)
{
    struct rml_catalog_view *view;
    unsigned char key[2];
    int rc = rml_catalog_look(catalog, &view, &err);
    for (*ret_rows = 0; rc == 0 && *ret_rows <= ROWS; ++*ret_rows) {
        struct rml_table_row row = {0};
        rc = rml_catalog_row_before(view, "t", *ret_rows > 0 ? key : NULL, sizeof key, &row, &err);
        if (rc < 0)
            break;
        memcpy(key, row.key, 2);
    }
    rml_catalog_view_close(view);
    return rc;
}

static void rows_are_read_once_each_and_what_leads_back_is_said_to_be_damaged(void **state)
{
    (void)state;
    uint32_t rows;
    put_rows();
    assert_int_equal(walk(&rows), -ENOENT);
    assert_int_equal(rows, ROWS);
    assert_int_equal(walk_back(&rows), -ENOENT);
    assert_int_equal(rows, ROWS);

    assert_true(lead_back() > 0);
    assert_int_equal(walk(&rows), -EBADMSG);
    assert_true(rows < ROWS);
    assert_non_null(strstr(err.text, "its rows are not in order"));
    (void)walk_back(&rows);  // which may leave rows out, and comes to its end
    assert_true(rows < ROWS);
}

static int set_up(void **state)
{
    (void)state;
    const unsigned char vault[RML_VAULT_ID_BYTES] = "a vault";
    const struct rml_catalog_options options = {MIB, MIB};
    folder = folder_make("/dev/shm");
    assert_int_equal(rml_catalog_make(folder.path, vault, &options, &err), 0);
    return rml_catalog_open(&catalog, folder.path, &options, &err);
}

static int tear_down(void **state)
{
    (void)state;
    rml_catalog_close(catalog);
    folder_remove(&folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest claims[] = {cmocka_unit_test_setup_teardown(
        rows_are_read_once_each_and_what_leads_back_is_said_to_be_damaged, set_up, tear_down)};
    return cmocka_run_group_tests(claims, NULL, NULL);
}
