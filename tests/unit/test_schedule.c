#include "runtime/worker/schedule.h"
#include "tests/support/test.h"

static void a_schedule_keeps_the_last_steps_and_forgets_the_oldest(void **state)
{
    (void)state;
    struct rml_schedule schedule;
    assert_int_equal(rml_schedule_open(&schedule, 8), 0);
    assert_null(rml_schedule_at(&schedule, 0));
    for (uint32_t i = 0; i < 100; i++) {
        rml_schedule_append(&schedule, &(struct rml_step){.kind = RML_STEP_BATCH, .count = i});
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

TEST_MAIN(CLAIM(a_schedule_keeps_the_last_steps_and_forgets_the_oldest))
