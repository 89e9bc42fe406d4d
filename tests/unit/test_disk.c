#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/crc32c.h"
#include "runtime/checkpoint/disk.h"
#include "tests/support/folder.h"
#include "tests/support/random.h"
#include "tests/support/tape.h"
#include "tests/support/test.h"

#define BYTES (5u << 20)  // of more writes than there are buffers

static struct folder folder;
static unsigned char *expected, *found;
static uint64_t seed;

static void path_of(char path[128])
{
    snprintf(path, 128, "%s", folder_file(&folder, "extents"));
}

static int open_disk(struct rml_disk *disk, const struct rml_disk_way *const *ways,
                     struct rml_err *err)
{
    char path[128];
    path_of(path);
    return rml_disk_open(disk, path, &(struct rml_disk_options){.ways = ways}, err);
}

static void open_well(struct rml_disk *disk, const struct rml_disk_way *const *ways)
{
    struct rml_err err = {0};
    int rc = open_disk(disk, ways, &err);
    if (rc < 0)
        print_error("%s\n", err.text);
    assert_int_equal(rc, 0);
}

static int write_all(struct rml_disk *disk)
{
    rml_test_bytes(&seed, expected, BYTES);
    int rc = 0;
    for (uint32_t at = 0; at < BYTES && rc == 0; at += RML_DISK_WRITE_BYTES) {
        int buffer = rml_disk_buffer(disk);
        if (buffer < 0)
            return buffer;
        memcpy(rml_disk_memory(disk, buffer), expected + at, RML_DISK_WRITE_BYTES);
        rc = rml_disk_write(disk, buffer, at, RML_DISK_WRITE_BYTES);
    }
    return rc;
}

static void all_is_there(void)
{
    char path[128];
    path_of(path);
    int fd = rml_disk_open_reading(path);
    assert_true(fd >= 0);
    assert_int_equal(rml_disk_read(fd, 0, found, BYTES), 0);
    assert_memory_equal(found, expected, BYTES);
    assert_int_equal(rml_disk_read(fd, BYTES, found, RML_DISK_BLOCK_BYTES), -ENODATA);
    close(fd);
}

static void writes_arrive_by(const struct rml_disk_way *way)
{
    const struct rml_disk_way *const ways[] = {way, NULL};
    struct rml_disk disk;
    open_well(&disk, ways);
    assert_ptr_equal(disk.way, way);
    assert_int_equal(write_all(&disk), 0);
    assert_int_equal(rml_disk_flush(&disk), 0);
    all_is_there();
    rml_disk_close(&disk);
    all_is_there();
}

static void what_is_written_is_there_by_io_uring(void **state)
{
    (void)state;
    writes_arrive_by(&rml_disk_way_io_uring);
}

static void what_is_written_is_there_by_pwrite(void **state)
{
    (void)state;
    writes_arrive_by(&rml_disk_way_pwrite);
}

static void what_is_written_is_there_through_the_page_cache(void **state)
{
    (void)state;
    writes_arrive_by(&rml_disk_way_buffered);
}

static void io_uring_is_taken_where_it_is_to_be_had(void **state)
{
    (void)state;
    struct rml_disk disk;
    open_well(&disk, NULL);
    assert_string_equal(disk.way->name, "io_uring");
    assert_string_equal(disk.why_not, "");
    assert_true((fcntl(disk.fd, F_GETFL) & O_DIRECT) != 0);
    rml_disk_close(&disk);
}

static void falls_back(int setup_result)
{
    struct rml_disk disk;
    tape_ring_setups(&setup_result, 1);
    open_well(&disk, NULL);
    assert_int_equal(tape_ring_setups_met(), 1);
    assert_string_equal(disk.way->name, "pwrite");
    assert_non_null(strstr(disk.why_not, strerrordesc_np(-setup_result)));
    assert_true((fcntl(disk.fd, F_GETFL) & O_DIRECT) != 0);
    assert_int_equal(write_all(&disk), 0);
    assert_int_equal(rml_disk_flush(&disk), 0);
    rml_disk_close(&disk);
    all_is_there();
}

static void a_ring_that_is_forbidden_is_done_without(void **state)
{
    (void)state;
    falls_back(-EPERM);
}

static void a_kernel_without_rings_is_done_with(void **state)
{
    (void)state;
    falls_back(-ENOSYS);
}

static void a_ring_without_lockable_memory_is_done_without(void **state)
{
    (void)state;
    falls_back(-ENOMEM);
}

static void an_unknown_flag_is_left_out(void **state)
{
    (void)state;
    struct rml_disk disk;
    const int result = -EINVAL;
    tape_ring_setups(&result, 1);
    open_well(&disk, NULL);
    assert_int_equal(tape_ring_setups_met(), 2);
    assert_string_equal(disk.way->name, "io_uring");
    assert_int_equal(write_all(&disk), 0);
    assert_int_equal(rml_disk_flush(&disk), 0);
    rml_disk_close(&disk);
    all_is_there();
}

static void without_o_direct_writes_go_through_the_page_cache(void **state)
{
    (void)state;
    struct rml_disk disk;
    tape_refuse_direct(true);
    open_well(&disk, NULL);
    assert_string_equal(disk.way->name, "buffered");
    assert_non_null(strstr(disk.why_not, "O_DIRECT"));
    assert_int_equal(write_all(&disk), 0);
    assert_int_equal(rml_disk_flush(&disk), 0);
    rml_disk_close(&disk);
    all_is_there();
}

static void memory_is_written_to_like_a_disk(void **state)
{
    (void)state;
    // tmpfs knows O_DIRECT or not, as the kernel is new or old.
    struct folder outer = folder;
    folder = folder_make("/dev/shm");
    struct rml_disk disk;
    open_well(&disk, NULL);
    int rc = write_all(&disk);
    if (rc == 0)
        rc = rml_disk_flush(&disk);
    rml_disk_close(&disk);
    if (rc == 0)
        all_is_there();
    folder_remove(&folder);
    folder = outer;
    assert_int_equal(rc, 0);
}

static void a_short_write_is_continued(void **state)
{
    (void)state;
    for (uint32_t way = 0; tape_ways[way] != NULL; way++) {
        struct rml_disk disk;
        open_well(&disk, tape_ways + way);
        tape_arm(
            (struct tape_fault){.where = TAPE_EXTENTS, .how = TAPE_SHORT, .after = 3, .times = 5});
        assert_int_equal(write_all(&disk), 0);
        assert_int_equal(rml_disk_flush(&disk), 0);
        assert_int_equal(tape_fault_met(), 5);
        rml_disk_close(&disk);
        all_is_there();
        tape_disarm();
        folder_empty(&folder);
    }
}

static void a_write_that_does_not_come_on_ends_in_an_error(void **state)
{
    (void)state;
    struct rml_disk disk;
    open_well(&disk, tape_ways);
    tape_arm((struct tape_fault){
        .where = TAPE_EXTENTS, .how = TAPE_NOT, .error = EAGAIN, .after = 2, .times = 100000});
    int rc = write_all(&disk);
    if (rc == 0)
        rc = rml_disk_flush(&disk);
    assert_int_equal(rc, -EIO);
    rml_disk_close(&disk);
}

static void an_interrupted_write_is_sent_again(void **state)
{
    (void)state;
    struct rml_disk disk;
    open_well(&disk, tape_ways);
    tape_arm((struct tape_fault){
        .where = TAPE_EXTENTS, .how = TAPE_NOT, .error = EINTR, .after = 2, .times = 3});
    assert_int_equal(write_all(&disk), 0);
    assert_int_equal(rml_disk_flush(&disk), 0);
    assert_int_equal(tape_fault_met(), 3);
    rml_disk_close(&disk);
    all_is_there();
}

// Once a write has failed, no flush reports success before the failure was taken notice of.
static void an_error_stays(int error)
{
    for (uint32_t way = 0; tape_ways[way] != NULL; way++) {
        struct rml_disk disk;
        open_well(&disk, tape_ways + way);
        tape_arm((struct tape_fault){
            .where = TAPE_EXTENTS, .how = TAPE_NOT, .error = error, .after = 5});
        int rc = write_all(&disk);
        assert_true(rc == 0 || rc == -error);
        assert_int_equal(rml_disk_flush(&disk), -error);
        assert_int_equal(rml_disk_flush(&disk), -error);
        assert_int_equal(rml_disk_buffer(&disk), -error);
        assert_int_equal(rml_disk_settle(&disk), -error);
        assert_int_equal(write_all(&disk), 0);
        assert_int_equal(rml_disk_flush(&disk), 0);
        rml_disk_close(&disk);
        all_is_there();
        tape_disarm();
        folder_empty(&folder);
    }
}

static void a_failed_write_stays_until_it_is_settled(void **state)
{
    (void)state;
    an_error_stays(EIO);
}

static void a_full_disk_stays_until_it_is_settled(void **state)
{
    (void)state;
    an_error_stays(ENOSPC);
}

static void a_failed_flush_stays_until_it_is_settled(void **state)
{
    (void)state;
    struct rml_disk disk;
    open_well(&disk, tape_ways);
    tape_arm((struct tape_fault){.where = TAPE_EXTENTS, .is_flush = true, .error = EIO});
    assert_int_equal(write_all(&disk), 0);
    assert_int_equal(rml_disk_flush(&disk), -EIO);
    assert_int_equal(rml_disk_flush(&disk), -EIO);
    assert_int_equal(tape_fault_met(), 1);  // the second asked nobody
    assert_int_equal(rml_disk_settle(&disk), -EIO);
    rml_disk_close(&disk);
}

static void a_flush_begins_after_every_write_was_reaped(void **state)
{
    (void)state;
    struct rml_disk disk;
    tape_start(folder.path);
    open_well(&disk, tape_ways);
    assert_int_equal(write_all(&disk), 0);
    assert_int_equal(rml_disk_flush(&disk), 0);
    rml_disk_close(&disk);
    struct tape tape = tape_stop();
    uint32_t begun = 0, done = 0, most_under_way = 0, flushes = 0;
    for (size_t i = 0; i < tape.count; i++) {
        begun += tape.events[i].kind == TAPE_WRITE;
        done += tape.events[i].kind == TAPE_WRITE_DONE;
        most_under_way = begun - done > most_under_way ? begun - done : most_under_way;
        if (tape.events[i].kind == TAPE_FLUSH) {
            assert_int_equal(begun, done);
            flushes++;
        }
    }
    tape_free(&tape);
    assert_int_equal(begun, BYTES / RML_DISK_WRITE_BYTES);
    assert_int_equal(flushes, 1);
    assert_int_equal(most_under_way, RML_DISK_DEPTH);
}

static void a_second_opener_is_told_to_wait(void **state)
{
    (void)state;
    struct rml_disk disk, other;
    struct rml_err err = {0};
    open_well(&disk, NULL);
    assert_int_equal(open_disk(&other, NULL, &err), -EBUSY);
    assert_non_null(strstr(err.text, "in use by another process"));
    rml_disk_close(&other);
    rml_disk_close(&disk);
    open_well(&disk, NULL);
    rml_disk_close(&disk);
}

/*
 * What is under way when a process is killed still lands. The lock goes only after it: whoever gets
 * the lock sees a file that changes no more.
 */
static void the_lock_outlasts_a_killed_writers_last_writes(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        int tell[2];
        assert_int_equal(pipe(tell), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct rml_disk disk;
            if (open_disk(&disk, NULL, NULL) < 0 || write(tell[1], "x", 1) != 1)
                _exit(1);
            for (;;)
                write_all(&disk);
        }
        close(tell[1]);
        char byte;
        assert_int_equal(read(tell[0], &byte, 1), 1);
        usleep((useconds_t)(1000 * (round + 1)));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(tell[0]);

        char path[128];
        path_of(path);
        struct rml_disk disk;
        struct rml_err err = {0};
        assert_int_equal(rml_disk_open(&disk, path,
                                       &(struct rml_disk_options){.lock_wait_ns = 10000000000},
                                       &err),
                         0);
        memset(found, 0, BYTES);
        ssize_t first = pread(disk.fd, found, BYTES, 0);
        uint32_t sum = rml_crc32c(0, found, first > 0 ? (size_t)first : 0);
        usleep(2000);
        ssize_t second = pread(disk.fd, found, BYTES, 0);
        assert_int_equal(first, second);
        assert_int_equal(sum, rml_crc32c(0, found, second > 0 ? (size_t)second : 0));
        rml_disk_close(&disk);
    }
}

static void a_folder_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct rml_disk disk;
    struct rml_err err = {0};
    assert_int_equal(rml_disk_open(&disk, "/nowhere/extents", &(struct rml_disk_options){0}, &err),
                     -ENOENT);
    assert_non_null(strstr(err.text, "/nowhere/extents"));
    rml_disk_close(&disk);
}

// RFC 3720, B.4
static void check_sums_are_those_of_the_standard(void **state)
{
    (void)state;
    unsigned char zeros[32] = {0}, ones[32], rising[32], falling[32];
    for (unsigned char i = 0; i < 32; i++) {
        ones[i] = 0xff;
        rising[i] = i;
        falling[i] = (unsigned char)(31 - i);
    }
    uint32_t (*const sums[])(uint32_t, const void *, size_t) = {rml_crc32c, rml_crc32c_table};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sums[i](0, zeros, 32), 0x8a9136aa);
        assert_int_equal(sums[i](0, ones, 32), 0x62a8ab43);
        assert_int_equal(sums[i](0, rising, 32), 0x46dd794e);
        assert_int_equal(sums[i](0, falling, 32), 0x113fdb5c);
        assert_int_equal(sums[i](0, "123456789", 9), 0xe3069283);
        assert_int_equal(sums[i](0, "", 0), 0);
    }
}

static void a_check_sum_may_be_taken_in_pieces(void **state)
{
    (void)state;
    rml_test_bytes(&seed, expected, 10000);
    uint32_t whole = rml_crc32c_table(0, expected, 10000);
    for (uint32_t cut = 0; cut < 10000; cut += 7)
        assert_int_equal(rml_crc32c(rml_crc32c(0, expected, cut), expected + cut, 10000 - cut),
                         whole);
}

// What is summed side by side, three times a kilobyte, and what is left of it.
static void check_sums_by_the_instruction_are_those_by_the_table(void **state)
{
    (void)state;
    rml_test_bytes(&seed, expected, 20000);
    for (uint32_t count = 0; count < 10000; count = count < 3200 ? count + 1 : count + 61) {
        uint32_t from = count % 67, before = count * 2654435761u;
        assert_int_equal(rml_crc32c(before, expected + from, count),
                         rml_crc32c_table(before, expected + from, count));
    }
}

static int set_up(void **state)
{
    (void)state;
    folder = folder_make("/tmp");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tape_disarm();
    folder_remove(&folder);
    return 0;
}

#define ON_DISK(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest claims[] = {
        ON_DISK(what_is_written_is_there_by_io_uring),
        ON_DISK(what_is_written_is_there_by_pwrite),
        ON_DISK(what_is_written_is_there_through_the_page_cache),
        ON_DISK(io_uring_is_taken_where_it_is_to_be_had),
        ON_DISK(a_ring_that_is_forbidden_is_done_without),
        ON_DISK(a_kernel_without_rings_is_done_with),
        ON_DISK(a_ring_without_lockable_memory_is_done_without),
        ON_DISK(an_unknown_flag_is_left_out),
        ON_DISK(without_o_direct_writes_go_through_the_page_cache),
        ON_DISK(memory_is_written_to_like_a_disk),
        ON_DISK(a_short_write_is_continued),
        ON_DISK(a_write_that_does_not_come_on_ends_in_an_error),
        ON_DISK(an_interrupted_write_is_sent_again),
        ON_DISK(a_failed_write_stays_until_it_is_settled),
        ON_DISK(a_full_disk_stays_until_it_is_settled),
        ON_DISK(a_failed_flush_stays_until_it_is_settled),
        ON_DISK(a_flush_begins_after_every_write_was_reaped),
        ON_DISK(a_second_opener_is_told_to_wait),
        ON_DISK(the_lock_outlasts_a_killed_writers_last_writes),
        ON_DISK(a_folder_that_is_not_there_is_named),
        CLAIM(check_sums_are_those_of_the_standard),
        CLAIM(a_check_sum_may_be_taken_in_pieces),
        CLAIM(check_sums_by_the_instruction_are_those_by_the_table),
    };
    seed = rml_test_seed();
    expected = aligned_alloc(RML_DISK_BLOCK_BYTES, BYTES);
    found = aligned_alloc(RML_DISK_BLOCK_BYTES, BYTES);
    int failed =
        expected == NULL || found == NULL || cmocka_run_group_tests(claims, NULL, NULL) != 0;
    free(expected);
    free(found);
    return failed;
}
