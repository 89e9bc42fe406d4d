#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/worker/undo.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define STAGES  3
#define SOURCES 2
#define KILLS   (RML_TEST_SLOW ? 60 : 300)

/* What outlives the process that counts. */
static struct shared {
    struct rml_stage_counts stages[STAGES];
    struct rml_source_counts sources[SOURCES];
    _Alignas(64) _Atomic uint64_t position;
    _Atomic uint64_t steps;
    _Alignas(64) unsigned char undo[8192];
} * shared;

static struct rml_undo undo;

static int open_shared(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(rml_undo_bytes(STAGES, SOURCES) <= sizeof shared->undo);
    rml_undo_attach(&undo, shared->undo, STAGES, SOURCES, shared->stages, shared->sources);
    return shared == MAP_FAILED ? -1 : 0;
}

static int close_shared(void **state)
{
    (void)state;
    return munmap(shared, sizeof *shared);
}

static void add_to_all(uint64_t records)
{
    for (uint32_t s = 0; s < STAGES; s++) {
        for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
            rml_count(&shared->stages[s].value[c], records);
    }
    for (uint32_t s = 0; s < SOURCES; s++) {
        for (uint32_t c = 0; c < RML_SOURCE_COUNTERS; c++)
            rml_count(&shared->sources[s].value[c], records);
    }
}

static bool all_are(uint64_t records)
{
    bool all = true;
    for (uint32_t s = 0; s < STAGES; s++) {
        for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
            all = all && rml_count_read(&shared->stages[s].value[c]) == records;
    }
    for (uint32_t s = 0; s < SOURCES; s++) {
        for (uint32_t c = 0; c < RML_SOURCE_COUNTERS; c++)
            all = all && rml_count_read(&shared->sources[s].value[c]) == records;
    }
    return all;
}

static void a_step_that_has_ended_stands_and_one_that_has_not_does_not(void **state)
{
    (void)state;
    uint32_t lane;
    uint64_t position;
    assert_false(rml_undo_look(&undo, &lane, &position));
    rml_undo_begin(&undo, 7, 100);
    add_to_all(5);
    rml_undo_end(&undo);
    assert_false(rml_undo_look(&undo, &lane, &position));
    assert_true(all_are(5));
    rml_undo_begin(&undo, 9, 105);
    add_to_all(3);
    for (int again = 0; again < 2; again++) {  // whoever undoes may die over it
        assert_true(rml_undo_look(&undo, &lane, &position));
        assert_int_equal(lane, 9);
        assert_int_equal(position, 105);
        rml_undo_back(&undo);
        assert_true(all_are(5));
    }
    rml_undo_end(&undo);
    rml_undo_begin(&undo, RML_UNDO_NO_LANE, 0);
    assert_true(rml_undo_look(&undo, &lane, &position));
    assert_int_equal(lane, RML_UNDO_NO_LANE);
}

static void nothing_is_undone_where_nothing_is_kept(void **state)
{
    (void)state;
    struct rml_undo none;
    uint32_t lane;
    uint64_t position;
    rml_undo_attach(&none, NULL, STAGES, SOURCES, shared->stages, shared->sources);
    rml_undo_begin(&none, 1, 2);
    assert_false(rml_undo_look(&none, &lane, &position));
    rml_undo_end(&none);
}

// Steps of so many records, each of which moves every counter and the position, until it is killed.
_Noreturn static void take_steps(void)
{
    for (;;) {
        uint64_t at = rml_count_read(&shared->position), records = at % 7 + 1;
        rml_undo_begin(&undo, 1, at);
        add_to_all(records);
        rml_count_set(&shared->position, at + records);
        rml_undo_end(&undo);
        rml_count(&shared->steps, 1);
    }
}

static void counters_and_position_agree_whenever_the_process_is_killed(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed(), undone = 0;
    for (int i = 0; i < KILLS; i++) {
        uint64_t steps = rml_count_read(&shared->steps);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            take_steps();
        while (rml_count_read(&shared->steps) == steps)
            continue;
        nanosleep(&(struct timespec){.tv_nsec = (long)(rml_test_random(&seed) % 200000)}, NULL);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        uint32_t lane;
        uint64_t position;
        if (rml_undo_look(&undo, &lane, &position)) {
            rml_undo_back(&undo);
            rml_count_set(&shared->position, position);
            rml_undo_end(&undo);
            undone++;
        }
        assert_true(all_are(rml_count_read(&shared->position)));
    }
    assert_true(undone > 0);
}

#define SHARED(name) cmocka_unit_test_setup_teardown(name, open_shared, close_shared)

TEST_MAIN(SHARED(a_step_that_has_ended_stands_and_one_that_has_not_does_not),
          SHARED(nothing_is_undone_where_nothing_is_kept),
          SHARED(counters_and_position_agree_whenever_the_process_is_killed))
