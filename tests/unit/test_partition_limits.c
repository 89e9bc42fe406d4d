/*
 * What goes beyond a limit is refused and counted, and when there is room again it is taken again.
 */
#include "runtime/base/hash.h"
#include "tests/support/partition.h"

#define SECOND INT64_C(1000000000)

struct event {
    int64_t ts;
    uint64_t key;
};

#define FILE_OF(runtime, stage)                                        \
 "version: 1\npipeline: p\nschema: {event: {ts: time_ns, key: u64}}\n" \
 "runtime: {workers: 1, " runtime "}\n"                                \
 "sources: {in: {schema: event, event_time: ts, partition_by: key}}\n" \
 "stages: {sec: {from: in, key: key, aggregate: {n: count()}, " stage "}}\n"

#define FILE_WITH(runtime) FILE_OF(runtime, "window: {type: tumbling, size: 1s}")

static void write_event(struct held *h, uint16_t lane, int64_t ts, uint64_t key)
{
    const struct event event = {ts, key};
    held_write(h, lane, &event, 1);
}

static void assert_doors(const struct held *h, uint64_t aggregated, uint64_t refused)
{
    assert_int_equal(held_count(h, RML_STAGE_aggregated), aggregated);
    assert_int_equal(held_count(h, RML_STAGE_refused), refused);
    assert_int_equal(held_count(h, RML_STAGE_in), aggregated + refused);
}

static void keys_beyond_max_keys_are_refused_until_others_are_gone(void **state)
{
    (void)state;
    struct held h;
    held_open(&h, FILE_WITH("partitions: 1, max_keys: 2"), 0);
    for (uint64_t key = 0; key < 3; key++)
        write_event(&h, 0, 0, key);
    assert_doors(&h, 2, 1);
    write_event(&h, 0, 1, 1);  // a key that is there is no further one
    assert_doors(&h, 3, 1);
    write_event(&h, 0, SECOND, 0);  // fires the second, and its keys go
    write_event(&h, 0, SECOND, 7);
    assert_doors(&h, 5, 1);
    held_close(&h);
}

static void a_stage_may_allow_fewer_keys_than_the_pipeline(void **state)
{
    (void)state;
    struct held h;
    held_open(
        &h,
        FILE_OF("partitions: 1, max_keys: 9", "max_keys: 2, window: {type: tumbling, size: 1s}"),
        0);
    for (uint64_t key = 0; key < 5; key++)
        write_event(&h, 0, 0, key);
    assert_doors(&h, 2, 3);
    held_close(&h);
}

static void keys_that_are_evicted_without_end_leave_nothing_behind(void **state)
{
    (void)state;
    static const char *const files[] = {
        FILE_OF(
            "partitions: 1, state_limit: 1MiB",
            "max_keys: 100, when_full: evict_oldest, window: {type: sliding, size: 9h, every: 3h}"),
        FILE_OF(
            "partitions: 1, state_limit: 1MiB",
            "max_keys: 100, when_full: evict_oldest, window: {type: session, gap: 1h, late: 1h}"),
        FILE_OF(
            "partitions: 1, state_limit: 1MiB",
            "max_keys: 100, when_full: evict_oldest, window: {type: tumbling, size: 9 records}"),
    };
    static struct event events[512];
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        struct held h;
        held_open(&h, files[f], 0);
        uint64_t written = 0;
        for (; written < 256 * 512; written += 512) {
            for (uint64_t i = 0; i < 512; i++)
                events[i] = (struct event){(int64_t)(written + i), written + i};
            held_write(&h, 0, events, 512);
        }
        assert_doors(&h, written, 0);
        assert_int_equal(held_count(&h, RML_STAGE_evicted), written - 100);
        held_close(&h);
    }
}

static void records_beyond_state_limit_are_refused_until_windows_are_gone(void **state)
{
    (void)state;
    struct held h;
    held_open(&h, FILE_WITH("partitions: 1, state_limit: 1MiB"), 0);
    static struct event events[512];
    uint64_t written = 0;
    for (; written < 64 * 512; written += 512) {
        for (uint64_t i = 0; i < 512; i++)
            events[i] = (struct event){0, written + i};
        held_write(&h, 0, events, 512);
    }
    uint64_t refused = held_count(&h, RML_STAGE_refused);
    assert_true(refused > 0 && refused < written);
    assert_doors(&h, written - refused, refused);
    assert_true(held_count(&h, RML_STAGE_state_bytes) <= 1 << 20);

    write_event(&h, 0, SECOND, 0);  // taken before it moves the watermark: there is no room yet
    assert_doors(&h, written - refused, refused + 1);
    assert_int_equal(held_count(&h, RML_STAGE_windows_fired), written - refused);
    for (uint64_t i = 0; i < 512; i++)
        events[i] = (struct event){SECOND, i};
    held_write(&h, 0, events, 512);
    assert_doors(&h, written - refused + 512, refused + 1);
    held_close(&h);
}

static void a_time_too_far_from_the_others_is_refused(void **state)
{
    (void)state;
    struct held h;
    held_open(&h, FILE_WITH("partitions: 1"), 0);
    held_attach(&h, 1);  // says nothing, and so holds the watermark back
    write_event(&h, 0, 0, 1);
    write_event(&h, 0, 8191 * SECOND, 1);
    assert_doors(&h, 2, 0);
    write_event(&h, 0, 8192 * SECOND, 1);
    assert_doors(&h, 2, 1);
    held_close(&h);
}

static void a_record_in_the_wrong_partition_is_malformed(void **state)
{
    (void)state;
    struct held h;
    held_open(&h, FILE_WITH("partitions: 2"), 1);
    uint64_t belong = 0;
    for (uint64_t key = 0; key < 100; key++) {
        belong += rml_partition_of(rml_key_hash_bytes(&key, sizeof key), 2) == 1;
        write_event(&h, 0, 0, key);
    }
    assert_true(belong > 20 && belong < 80);
    assert_int_equal(rml_count_read(&h.source.value[RML_SOURCE_taken]), 100);
    assert_int_equal(rml_count_read(&h.source.value[RML_SOURCE_delivered]), belong);
    assert_int_equal(rml_count_read(&h.source.value[RML_SOURCE_malformed]), 100 - belong);
    assert_doors(&h, belong, 0);
    held_close(&h);
}

static void a_record_leaves_by_one_door_though_both_its_place_and_its_time_are_wrong(void **state)
{
    (void)state;
    struct held h;
    held_open(&h, FILE_WITH("partitions: 2"), 1);
    struct event events[100];
    uint64_t belong = 0, wrong = 0;
    for (uint64_t i = 0; i < 100; i++) {
        events[i] = (struct event){.ts = i % 3 == 0 ? SECOND + 1 : SECOND, .key = i};
        bool is_here = rml_partition_of(rml_key_hash_bytes(&i, sizeof i), 2) == 1;
        wrong += !is_here;
        belong += is_here && i % 3 != 0;
    }
    const struct rml_step step = {
        .kind = RML_STEP_BATCH, .count = 100, .time = RML_TIME_NONE, .latest = SECOND};
    const struct rml_step_input input = {.records = events};
    held_step(&h, step, &input);
    assert_true(belong > 10 && 100 - wrong - belong > 5);
    assert_int_equal(rml_count_read(&h.source.value[RML_SOURCE_malformed]), wrong);
    assert_int_equal(rml_count_read(&h.source.value[RML_SOURCE_ahead]), 100 - wrong - belong);
    assert_int_equal(rml_count_read(&h.source.value[RML_SOURCE_delivered]), belong);
    assert_doors(&h, belong, 0);
    held_close(&h);
}

TEST_MAIN(CLAIM(keys_beyond_max_keys_are_refused_until_others_are_gone),
          CLAIM(a_stage_may_allow_fewer_keys_than_the_pipeline),
          CLAIM(keys_that_are_evicted_without_end_leave_nothing_behind),
          CLAIM(records_beyond_state_limit_are_refused_until_windows_are_gone),
          CLAIM(a_time_too_far_from_the_others_is_refused),
          CLAIM(a_record_in_the_wrong_partition_is_malformed),
          CLAIM(a_record_leaves_by_one_door_though_both_its_place_and_its_time_are_wrong))
