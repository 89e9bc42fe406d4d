#include "runtime/lane/trial.h"
#include "tests/support/test.h"

// A machine on which each way carries so many bytes in a microsecond.
static uint64_t per_us[RML_RING_VARIANTS];
static struct rml_trial trial;
static int64_t now_ns;

static void fresh(uint64_t plain, uint64_t staged, uint64_t flush)
{
    per_us[RML_RING_PLAIN] = plain;
    per_us[RML_RING_STAGED] = staged;
    per_us[RML_RING_FLUSH] = flush;
    now_ns = 0;
    rml_trial_init(&trial, true, true);
}

// Carry for so long, looking every 50 us.
static void run_for(int64_t ns)
{
    for (int64_t end_ns = now_ns + ns; now_ns < end_ns;) {
        now_ns += 50000;
        rml_trial_note(&trial, per_us[trial.current] * 50, now_ns);
    }
}

static void a_lane_that_is_not_busy_is_never_tried(void **state)
{
    (void)state;
    fresh(RML_TRIAL_BUSY_PER_US / 2, 1000, 1000);
    run_for(1000000000);
    assert_int_equal(trial.trials, 0);
    assert_int_equal(trial.current, RML_RING_PLAIN);
}

static void a_busy_lane_keeps_the_fastest_way(void **state)
{
    (void)state;
    for (int best = 0; best < RML_RING_VARIANTS; best++) {
        fresh(1000, 1000, 1000);
        per_us[best] = 3000;
        run_for(50000000);
        assert_int_equal(trial.trials, 1);
        assert_int_equal(trial.trying, 0);
        assert_int_equal(trial.current, best);
    }
}

static void a_hair_faster_is_not_worth_leaving_the_plain_way(void **state)
{
    (void)state;
    fresh(1000, 1040, 1030);
    run_for(50000000);
    assert_int_equal(trial.trials, 1);
    assert_int_equal(trial.current, RML_RING_PLAIN);
}

static void a_fall_of_the_rate_brings_another_trial_but_not_too_soon(void **state)
{
    (void)state;
    fresh(1000, 3000, 500);
    run_for(50000000);
    assert_int_equal(trial.current, RML_RING_STAGED);
    per_us[RML_RING_STAGED] = 200;  // the cores moved
    run_for(100000000);
    assert_int_equal(trial.trials, 1);
    run_for(250000000);
    assert_int_equal(trial.trials, 2);
    assert_int_equal(trial.current, RML_RING_PLAIN);
}

static void trials_take_less_than_two_percent_of_the_time_of_a_fickle_lane(void **state)
{
    (void)state;
    fresh(1000, 3000, 500);
    int64_t trying_ns = 0;
    for (int i = 0; i < 20000; i++) {
        now_ns += 50000;
        per_us[RML_RING_STAGED] = i / 2000 % 2 == 0 ? 3000 : 200;
        per_us[RML_RING_PLAIN] = i / 2000 % 2 == 0 ? 500 : 1500;
        trying_ns += trial.trying ? 50000 : 0;
        rml_trial_note(&trial, per_us[trial.current] * 50, now_ns);
    }
    assert_true(trial.trials > 1);
    assert_true(trying_ns * 50 < now_ns);
}

static void a_way_that_the_machine_has_not_is_never_chosen(void **state)
{
    (void)state;
    fresh(1000, 9000, 9000);
    rml_trial_init(&trial, false, false);
    for (int i = 0; i < 2000; i++) {
        now_ns += 50000;
        rml_trial_note(&trial, per_us[trial.current] * 50, now_ns);
        assert_int_equal(trial.current, RML_RING_PLAIN);
    }
    assert_int_equal(trial.trials, 1);
}

TEST_MAIN(CLAIM(a_lane_that_is_not_busy_is_never_tried), CLAIM(a_busy_lane_keeps_the_fastest_way),
          CLAIM(a_hair_faster_is_not_worth_leaving_the_plain_way),
          CLAIM(a_fall_of_the_rate_brings_another_trial_but_not_too_soon),
          CLAIM(trials_take_less_than_two_percent_of_the_time_of_a_fickle_lane),
          CLAIM(a_way_that_the_machine_has_not_is_never_chosen))
