#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/worker/schedule.h"
#include "tests/support/test.h"

static void append(struct rml_schedule *schedule, uint32_t number)
{
    rml_schedule_append(schedule, &(struct rml_step){.kind = RML_STEP_BATCH, .count = number});
}

static void a_schedule_keeps_the_last_steps_and_forgets_the_oldest(void **state)
{
    (void)state;
    struct rml_schedule schedule;
    assert_int_equal(rml_schedule_open(&schedule, NULL, 8, 0), 0);
    assert_null(rml_schedule_at(&schedule, 0));
    for (uint32_t i = 0; i < 100; i++) {
        append(&schedule, i);
        uint64_t oldest = i < 8 ? 0 : i - 7;
        for (uint64_t at = oldest; at <= i; at++) {
            const struct rml_step *step = rml_schedule_at(&schedule, at);
            assert_true(step != NULL && step->count == at);
        }
        assert_null(rml_schedule_at(&schedule, i + 1));
        assert_null(rml_schedule_at(&schedule, UINT64_MAX));
        if (oldest > 0)
            assert_null(rml_schedule_at(&schedule, oldest - 1));
    }
    rml_schedule_close(&schedule);
}

static void a_schedule_goes_on_in_memory_that_outlived_its_owner(void **state)
{
    (void)state;
    void *memory = aligned_alloc(64, rml_schedule_bytes(8));
    assert_non_null(memory);
    memset(memory, 0, rml_schedule_bytes(8));
    struct rml_schedule schedule;
    assert_int_equal(rml_schedule_open(&schedule, memory, 8, 1000), 0);
    append(&schedule, 1);
    append(&schedule, 2);
    // no close: the owner was killed
    assert_int_equal(rml_schedule_open(&schedule, memory, 8, 7), 0);
    assert_int_equal(schedule.position, 1002);
    assert_null(rml_schedule_at(&schedule, 999));
    assert_int_equal(rml_schedule_at(&schedule, 1000)->count, 1);
    assert_int_equal(rml_schedule_at(&schedule, 1001)->count, 2);
    append(&schedule, 3);
    assert_int_equal(rml_schedule_at(&schedule, 1002)->count, 3);
    assert_int_equal(rml_schedule_open(&schedule, memory, 16, 0), -EPROTO);
    free(memory);
}

TEST_MAIN(CLAIM(a_schedule_keeps_the_last_steps_and_forgets_the_oldest),
          CLAIM(a_schedule_goes_on_in_memory_that_outlived_its_owner))
