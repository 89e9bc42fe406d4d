/*
 * Files of rows after a loss of power: what was synced is there, under its name.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/io/text_file.h"
#include "tests/support/crash.h"
#include "tests/support/folder.h"
#include "tests/support/random.h"
#include "tests/support/tape.h"
#include "tests/support/test.h"

#define ROW_BYTES 64u
#define DRAWS     400u

static uint64_t seed;

/* The tape stands at pwrite. */
__attribute__((visibility("default"))) ssize_t write(int fd, const void *data, size_t bytes)
{
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (at < 0)
        return syscall(SYS_write, fd, data, bytes);
    ssize_t done = pwrite(fd, data, bytes, at);
    if (done > 0)
        lseek(fd, at + done, SEEK_SET);
    return done;
}

static void put_rows(struct rml_text_file *file, uint32_t from, uint32_t count)
{
    for (uint32_t row = from; row < from + count; row++) {
        char *text = rml_text_file_room(file, ROW_BYTES);
        memset(text, (int)('a' + row % 26), ROW_BYTES - 1);
        text[ROW_BYTES - 1] = '\n';
        rml_text_file_commit(file, ROW_BYTES, 1);
    }
    assert_int_equal(rml_text_file_flush(file), 0);
}

// So many rows are there, or there never were so many.
static void has_rows(const char *path, uint32_t count)
{
    int fd = open(path, O_RDONLY, 0);
    if (count == 0) {
        if (fd >= 0)
            close(fd);
        return;
    }
    assert_true(fd >= 0);
    for (uint32_t row = 0; row < count; row++) {
        char text[ROW_BYTES];
        assert_int_equal(read(fd, text, sizeof text), sizeof text);
        assert_int_equal(text[0], 'a' + row % 26);
        assert_int_equal(text[ROW_BYTES - 2], text[0]);
        assert_int_equal(text[ROW_BYTES - 1], '\n');
    }
    close(fd);
}

static void what_was_synced_is_there_after_a_loss_of_power_and_so_is_the_files_name(void **state)
{
    (void)state;
    struct folder folder = folder_make("/tmp");
    struct rml_text_file file;
    struct rml_err err = {0};
    tape_start(folder.path);
    assert_int_equal(rml_text_file_open(&file, folder_file(&folder, "rows.csv"), ROW_BYTES, &err),
                     0);
    uint32_t rows = 0;
    for (uint32_t turn = 1; turn < 6; turn++) {
        put_rows(&file, rows, 20 * turn);
        rows += 20 * turn;
        rml_text_file_sync(&file);
        assert_int_equal(file.error, 0);
        tape_mark(rows);
        put_rows(&file, rows, 7);
        rows += 7;
    }
    rml_text_file_close(&file);
    struct tape tape = tape_stop();
    folder_remove(&folder);

    struct crash *crash = crash_open(&tape);
    uint32_t synced = 0, drawn = 0;
    for (size_t event = 0; event < tape.count; event++) {
        crash_step(crash);
        if (tape.events[event].kind == TAPE_MARK)
            synced = (uint32_t)tape.events[event].mark;
        for (uint32_t i = 0; i < DRAWS / 40; i++) {
            struct folder left = folder_make("/tmp");
            crash_draw(crash, left.path, &seed);
            has_rows(folder_file(&left, "rows.csv"), synced);
            drawn += synced > 0;
            folder_remove(&left);
        }
    }
    assert_true(synced > 0 && drawn > DRAWS / 4);
    crash_close(crash);
    tape_free(&tape);
}

static void a_folder_that_may_be_written_and_not_read_is_flushed_otherwise(void **state)
{
    (void)state;
    if (geteuid() == 0 && seteuid(65534) < 0)
        skip();
    struct folder folder = folder_make("/tmp");
    struct rml_text_file file;
    struct rml_err err = {0};
    assert_int_equal(chmod(folder.path, 0300), 0);
    assert_int_equal(rml_text_file_open(&file, folder_file(&folder, "rows.csv"), ROW_BYTES, &err),
                     0);
    put_rows(&file, 0, 3);
    rml_text_file_sync(&file);
    assert_int_equal(file.error, 0);
    assert_null(file.folder);
    assert_int_equal(rml_text_file_close(&file), 0);
    assert_int_equal(chmod(folder.path, 0700), 0);
    has_rows(folder_file(&folder, "rows.csv"), 3);
    folder_remove(&folder);
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        CLAIM(what_was_synced_is_there_after_a_loss_of_power_and_so_is_the_files_name),
        CLAIM(a_folder_that_may_be_written_and_not_read_is_flushed_otherwise),
    };
    seed = rml_test_seed();
    return cmocka_run_group_tests(claims, NULL, NULL);
}
