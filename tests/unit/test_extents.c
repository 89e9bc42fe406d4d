#include <errno.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/extents.h"
#include "tests/support/folder.h"
#include "tests/support/random.h"
#include "tests/support/tape.h"
#include "tests/support/test.h"

#define G (RML_EXTENT_GRANULE_BYTES)

static struct folder folder;
static struct rml_disk disk;
static struct rml_extents extents;
static uint64_t told_bytes;

static void note_progress(void *context, uint64_t written_bytes, uint64_t wanted_bytes)
{
    (void)context;
    assert_true(written_bytes <= wanted_bytes);
    told_bytes = written_bytes;
}

static void open_extents(uint64_t step_bytes, uint64_t limit_bytes, uint64_t written_bytes)
{
    const struct rml_disk_options options = {.ways = tape_ways};
    const struct rml_extents_options about = {
        .step_bytes = step_bytes, .limit_bytes = limit_bytes, .progress = note_progress};
    assert_int_equal(rml_disk_open(&disk, folder_file(&folder, "extents"), &options, NULL), 0);
    assert_int_equal(rml_extents_open(&extents, &disk, &about, written_bytes), 0);
}

static struct rml_extent_run take(uint64_t bytes)
{
    struct rml_extent_run run;
    struct rml_err err = {0};
    if (rml_extents_take(&extents, bytes, &run, &err) < 0)
        fail_msg("%s", err.text);
    return run;
}

static void need(struct rml_extent_run run)
{
    assert_int_equal(rml_extents_need(&extents, run.offset, run.bytes), 0);
}

static void room_is_made_before_it_is_given(void **state)
{
    (void)state;
    open_extents(4 * G, 0, 0);
    struct rml_extent_run run = take(3 * G - 1);
    assert_int_equal(run.bytes, 3 * G);
    assert_true(run.offset >= G);  // the header's granule is nobody's
    assert_int_equal(told_bytes, 5 * G);
    unsigned char *memory = rml_disk_memory(&disk, 0);
    for (uint64_t at = G; at < 5 * G; at += G) {
        memset(memory, 1, RML_EXTENT_GRANULE_BYTES);
        assert_int_equal(rml_disk_read(disk.fd, at, memory, RML_EXTENT_GRANULE_BYTES), 0);
        for (uint32_t i = 0; i < RML_EXTENT_GRANULE_BYTES; i++)
            assert_int_equal(memory[i], 0);
    }
}

// Random takes, needs and settlings, against a list of who has what.
static void no_granule_has_two_owners(void **state)
{
    (void)state;
    open_extents(2 * G, 0, 0);
    uint64_t seed = rml_test_seed();
    struct rml_extent_run held[64], kept[2][64];
    uint32_t held_count, kept_count[2] = {0, 0};
    for (int round = 0; round < 60; round++) {
        held_count = 0;
        for (uint64_t i = rml_test_random(&seed) % 6; i > 0; i--)
            held[held_count++] = take(1 + rml_test_random(&seed) % (3 * G));
        for (uint32_t i = 0; i < held_count; i++)
            for (int c = 0; c < 2; c++)
                for (uint32_t k = 0; k < kept_count[c]; k++)
                    assert_true(held[i].offset >= kept[c][k].offset + kept[c][k].bytes
                                || kept[c][k].offset >= held[i].offset + held[i].bytes);
        for (uint32_t i = 0; i < held_count; i++)
            for (uint32_t j = 0; j < i; j++)
                assert_true(held[i].offset >= held[j].offset + held[j].bytes
                            || held[j].offset >= held[i].offset + held[i].bytes);
        memcpy(kept[0], kept[1], sizeof kept[0]);
        kept_count[0] = kept_count[1];
        memcpy(kept[1], held, sizeof held);
        kept_count[1] = held_count;
        rml_extents_settle(&extents);
        for (int c = 0; c < 2; c++)
            for (uint32_t k = 0; k < kept_count[c]; k++)
                need(kept[c][k]);
    }
    // Three checkpoints of at most five runs of three granules, and what lies broken between them.
    assert_true(rml_extents_room(&extents).file_bytes < 100 * G);
}

static void at_the_limit_the_longest_run_is_given(void **state)
{
    (void)state;
    open_extents(G, 7 * G, 0);
    struct rml_extent_run a = take(2 * G), b = take(G), c = take(3 * G), none;
    struct rml_err err = {0};
    assert_int_equal(rml_extents_take(&extents, G, &none, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "may not grow past 1835008 bytes"));
    rml_extents_settle(&extents);
    need(b);
    struct rml_extent_run longest = take(6 * G);
    assert_int_equal(longest.offset, c.offset);
    assert_int_equal(longest.bytes, c.bytes);
    assert_int_equal(take(6 * G).offset, a.offset);
}

static void a_full_disk_gives_the_longest_run(void **state)
{
    (void)state;
    open_extents(G, 0, 0);
    take(3 * G);
    rml_extents_settle(&extents);
    tape_arm((struct tape_fault){
        .where = TAPE_EXTENTS, .how = TAPE_NOT, .error = ENOSPC, .after = 1, .times = 100});
    assert_int_equal(take(6 * G).bytes, 3 * G);
    struct rml_extent_run none;
    struct rml_err err = {0};
    assert_int_equal(rml_extents_take(&extents, G, &none, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "No space left on device"));
    assert_int_equal(disk.error, 0);
    tape_disarm();
    assert_int_equal(take(2 * G).offset % G, 0);
}

static void where_growing_failed_nothing_is_put(void **state)
{
    (void)state;
    open_extents(2 * G, 0, 0);
    tape_arm((struct tape_fault){.where = TAPE_EXTENTS, .is_flush = true, .error = EIO});
    struct rml_extent_run run;
    struct rml_err err = {0};
    assert_int_equal(rml_extents_take(&extents, G, &run, &err), -EIO);
    assert_non_null(strstr(err.text, "cannot grow"));
    assert_int_equal(rml_disk_settle(&disk), -EIO);
    assert_int_equal(rml_extents_room(&extents).lost_bytes, 2 * G);
    assert_true(take(G).offset >= 3 * G);
}

static void what_is_lost_is_not_given_again(void **state)
{
    (void)state;
    open_extents(G, 0, 0);
    struct rml_extent_run lost = take(4 * G);
    rml_extents_lose(&extents);
    for (int i = 0; i < 10; i++) {
        struct rml_extent_run run = take(2 * G);
        assert_true(run.offset >= lost.offset + lost.bytes);
        rml_extents_settle(&extents);
    }
    assert_int_equal(rml_extents_room(&extents).lost_bytes, 4 * G);
    rml_extents_close(&extents);
    rml_disk_close(&disk);
    open_extents(G, 0, 5 * G);
    assert_int_equal(take(4 * G).offset, lost.offset);
}

static void a_need_outside_of_the_file_is_refused(void **state)
{
    (void)state;
    open_extents(G, 0, 4 * G);
    assert_int_equal(rml_extents_need(&extents, 0, 4096), -ERANGE);  // the header
    assert_int_equal(rml_extents_need(&extents, 4 * G - 4096, 4097), -ERANGE);
    assert_int_equal(rml_extents_need(&extents, UINT64_MAX - 4095, 4096), -ERANGE);
    assert_int_equal(rml_extents_need(&extents, G, 0), -ERANGE);
    assert_int_equal(rml_extents_need(&extents, 4 * G - 4096, 4096), 0);
}

static int set_up(void **state)
{
    (void)state;
    folder = folder_make("/tmp");
    disk = RML_DISK_CLOSED;
    extents = (struct rml_extents){0};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tape_disarm();
    rml_extents_close(&extents);
    rml_disk_close(&disk);
    folder_remove(&folder);
    return 0;
}

#define ON_DISK(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest claims[] = {
        ON_DISK(room_is_made_before_it_is_given),       ON_DISK(no_granule_has_two_owners),
        ON_DISK(at_the_limit_the_longest_run_is_given), ON_DISK(a_full_disk_gives_the_longest_run),
        ON_DISK(where_growing_failed_nothing_is_put),   ON_DISK(what_is_lost_is_not_given_again),
        ON_DISK(a_need_outside_of_the_file_is_refused),
    };
    return cmocka_run_group_tests(claims, NULL, NULL);
}
