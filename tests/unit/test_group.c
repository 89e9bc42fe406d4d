#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/ring/group.h"
#include "runtime/ring/roster.h"
#include "tests/support/random.h"
#include "tests/support/stepping.h"
#include "tests/support/test.h"

enum { PARTITIONS = 2, MEMBERS_MAX = 4, TOTAL_MAX = 4096 };

struct row {
    uint64_t partition, number, inverse;
};

/* A ring or two, a group, and what a test knows of it. */
struct scene {
    struct rml_group_shape shape;
    unsigned char *rings, *memory;
    struct rml_roster *roster;
    struct rml_broadcast_out out[PARTITIONS];
    uint64_t taken_before[RML_ROSTER_MEMBERS_MAX];
};

struct member {
    struct rml_group_in in;
    struct rml_group_lane lanes[PARTITIONS];
    uint32_t number;
};

static void *shared(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

static size_t rings_bytes(const struct scene *scene)
{
    return rml_broadcast_bytes(scene->shape.ring) * scene->shape.partitions;
}

static void set_up(struct scene *scene, uint32_t rows, uint32_t partitions, uint64_t first,
                   uint64_t begins)
{
    *scene = (struct scene){.shape = {{sizeof(struct row), rows}, partitions}};
    scene->rings = shared(rings_bytes(scene));
    scene->memory = shared(rml_group_bytes(scene->shape));
    scene->roster = shared(rml_roster_bytes(partitions));
    for (uint32_t p = 0; p < partitions; p++) {
        unsigned char *ring = scene->rings + p * rml_broadcast_bytes(scene->shape.ring);
        rml_broadcast_attach_out(&scene->out[p], ring, scene->shape.ring);
        if (first > 0)
            rml_broadcast_number_out(&scene->out[p], first);
        rml_roster_begin(scene->roster, p, begins);
    }
}

static void tear_down(struct scene *scene)
{
    munmap(scene->rings, rings_bytes(scene));
    munmap(scene->memory, rml_group_bytes(scene->shape));
    munmap(scene->roster, rml_roster_bytes(scene->shape.partitions));
}

static void give(struct scene *scene, uint32_t partition, uint64_t rows)
{
    struct rml_broadcast_out *out = &scene->out[partition];
    for (uint64_t i = 0; i < rows; i++) {
        const struct row row = {partition, out->given, ~out->given};
        rml_broadcast_give(out, &row);
    }
    rml_broadcast_announce(out);
}

static void join(struct scene *scene, struct member *member)
{
    uint64_t turn;
    assert_int_equal(rml_roster_admit(scene->roster, scene->taken_before, &member->number, &turn),
                     0);
    rml_group_attach(&member->in, scene->shape, scene->memory, scene->roster, scene->rings,
                     member->lanes, member->number, turn);
}

static void check_row(const struct row *row, const struct rml_group_row *taken)
{
    assert_int_equal(row->partition, taken->partition);
    assert_int_equal(row->number, taken->number);
    assert_int_equal(row->inverse, ~taken->number);
}

// Take a row that must be there.
static struct rml_group_row take(struct member *member)
{
    struct row row;
    struct rml_group_row taken;
    assert_int_equal(rml_group_take(&member->in, &row, &taken), 1);
    check_row(&row, &taken);
    return taken;
}

static void nothing_is_left_for(struct member *member)
{
    struct row row;
    struct rml_group_row taken;
    assert_int_equal(rml_group_take(&member->in, &row, &taken), 0);
    assert_false(rml_group_look(&member->in));
}

static struct rml_group_counts counts_of(const struct scene *scene)
{
    struct rml_group_counts counts;
    rml_group_count(scene->shape, scene->memory, &counts);
    return counts;
}

static void a_group_of_no_ring_takes_no_bytes(void **state)
{
    (void)state;
    assert_int_equal(rml_group_bytes((struct rml_group_shape){{24, 16}, 0}), 0);
    assert_int_equal(rml_group_bytes((struct rml_group_shape){{24, 15}, 1}), 0);
    assert_int_equal(rml_group_bytes((struct rml_group_shape){{24, 16}, 2}) % 64, 0);
    // beside counters a word for each row
    assert_int_equal(rml_group_bytes((struct rml_group_shape){{24, 64}, 2})
                         - rml_group_bytes((struct rml_group_shape){{24, 32}, 2}),
                     2 * 32 * 8);
}

static void a_row_goes_to_one_member_and_rows_come_in_order(void **state)
{
    (void)state;
    struct scene scene;
    struct member a, b;
    set_up(&scene, 16, 1, 0, 0);
    join(&scene, &a);
    join(&scene, &b);
    nothing_is_left_for(&a);
    for (uint64_t i = 0; i < 100; i += 4) {
        give(&scene, 0, 4);
        assert_true(rml_group_look(&a.in));
        struct rml_group_row rows[4] = {take(&a), take(&b), take(&b), take(&a)};
        for (uint64_t j = 0; j < 4; j++) {
            assert_int_equal(rows[j].number, i + j);
            assert_int_equal(rows[j].again, 0);
            assert_true(rml_group_done(j % 3 == 0 ? &a.in : &b.in, &rows[j]));
        }
        nothing_is_left_for(&a);
        nothing_is_left_for(&b);
    }
    struct rml_group_counts counts = counts_of(&scene);
    assert_int_equal(counts.taken, 100);
    assert_int_equal(counts.done, 100);
    assert_int_equal(counts.again + counts.missed + counts.expired, 0);
    tear_down(&scene);
}

static void what_one_who_is_gone_was_not_done_with_goes_to_another(void **state)
{
    (void)state;
    struct scene scene;
    struct member a, b;
    set_up(&scene, 16, 2, 0, 0);
    join(&scene, &a);
    join(&scene, &b);
    give(&scene, 0, 6);
    give(&scene, 1, 6);
    struct rml_group_row first = take(&a), second = take(&a), third = take(&a);
    assert_true(rml_group_done(&a.in, &second));
    for (uint32_t i = 0; i < 9; i++) {
        struct rml_group_row row = take(&b);
        assert_int_equal(row.again, 0);
        assert_true(rml_group_done(&b.in, &row));
    }
    nothing_is_left_for(&b);
    rml_roster_bury(scene.roster, a.number);
    assert_true(rml_group_look(&b.in));
    const struct rml_group_row wanted[] = {first, third};
    for (uint32_t i = 0; i < 2; i++) {
        struct rml_group_row row = take(&b);
        assert_int_equal(row.number, wanted[i].number);
        assert_int_equal(row.partition, 0);
        assert_int_equal(row.again, 1);
    }
    nothing_is_left_for(&b);
    // who comes next has the dead one's number, and takes nothing of what b holds; b dies too
    struct member c;
    join(&scene, &c);
    assert_int_equal(c.number, a.number);
    nothing_is_left_for(&c);
    rml_roster_bury(scene.roster, b.number);
    assert_int_equal(take(&c).again, 2);
    struct rml_group_row last = take(&c);
    assert_int_equal(last.number, third.number);
    assert_true(rml_group_done(&c.in, &last));
    nothing_is_left_for(&c);
    struct rml_group_counts counts = counts_of(&scene);
    assert_int_equal(counts.taken, 12 + 4);
    assert_int_equal(counts.again, 4);
    assert_int_equal(counts.done, 11);
    assert_int_equal(counts.missed + counts.expired, 0);
    tear_down(&scene);
}

static void what_a_stopped_member_holds_holds_nobody_up_and_expires_with_the_ring(void **state)
{
    (void)state;
    struct scene scene;
    struct member stopped, goes_on;
    set_up(&scene, 16, 1, 0, 0);
    join(&scene, &stopped);
    join(&scene, &goes_on);
    give(&scene, 0, 3);
    struct rml_group_row held = take(&stopped);
    uint64_t taken = 0;
    for (uint32_t round = 0; round < 20; round++) {
        struct row row;
        struct rml_group_row got;
        for (; rml_group_take(&goes_on.in, &row, &got) == 1; taken++) {
            assert_int_equal(got.number, taken + 1);
            assert_int_equal(got.again, 0);
            assert_true(rml_group_done(&goes_on.in, &got));
        }
        give(&scene, 0, 10);
    }
    assert_int_equal(taken, 2 + 190);
    struct rml_group_counts counts = counts_of(&scene);
    assert_int_equal(counts.expired, 1);
    assert_int_equal(counts.missed, 0);
    assert_false(rml_group_done(&stopped.in, &held));
    assert_int_equal(counts_of(&scene).done, taken);
    tear_down(&scene);
}

static void a_row_that_expired_with_a_dead_member_is_counted_once(void **state)
{
    (void)state;
    struct scene scene;
    struct member dead, a, b;
    set_up(&scene, 16, 1, 0, 0);
    join(&scene, &dead);
    join(&scene, &a);
    join(&scene, &b);
    give(&scene, 0, 5);
    for (uint32_t i = 0; i < 5; i++)
        (void)take(&dead);
    give(&scene, 0, 13);  // rows 0 and 1 are gone
    rml_roster_bury(scene.roster, dead.number);
    uint64_t again = 0;
    for (uint32_t i = 0; i < 16; i++) {
        struct rml_group_row row = take(i % 2 == 0 ? &a : &b);
        again += row.again;
        assert_in_range(row.number, 2, 17);
    }
    nothing_is_left_for(&a);
    nothing_is_left_for(&b);
    assert_int_equal(again, 3);
    struct rml_group_counts counts = counts_of(&scene);
    assert_int_equal(counts.expired, 2);
    assert_int_equal(counts.missed, 0);
    tear_down(&scene);
}

// Rounds of rows, of which many are overwritten before anybody looks.
static void every_row_is_taken_or_counted_as_missed(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (uint32_t i = 0; i < 400; i++) {
        struct scene scene;
        struct member members[3];
        uint64_t first = rml_test_random(&seed) % 4 == 0 ? rml_test_random(&seed) % 100 : 0;
        uint64_t begins = rml_test_random(&seed) % 2 == 0 ? first : 0, taken = 0;
        uint32_t rows = 2u << rml_test_random(&seed) % 5;
        set_up(&scene, rows, 1, first, begins);
        for (uint32_t m = 0; m < 3; m++)
            join(&scene, &members[m]);
        static unsigned char times[TOTAL_MAX];
        memset(times, 0, sizeof times);
        for (uint32_t round = 0; round < 12; round++) {
            give(&scene, 0, rml_test_random(&seed) % (4 * rows));
            for (uint64_t take_some = rml_test_random(&seed) % (2 * rows); take_some > 0;
                 take_some--) {
                struct member *member = &members[rml_test_random(&seed) % 3];
                struct row row;
                struct rml_group_row got;
                if (rml_group_take(&member->in, &row, &got) == 0)
                    continue;
                check_row(&row, &got);
                assert_int_equal(times[got.number]++, 0);
                taken++;
                if (rml_test_random(&seed) % 8 != 0)
                    (void)rml_group_done(&member->in, &got);
            }
        }
        for (uint32_t m = 0; m < 3; m++) {
            struct row row;
            struct rml_group_row got;
            for (; rml_group_take(&members[m].in, &row, &got) == 1; taken++) {
                check_row(&row, &got);
                assert_int_equal(times[got.number]++, 0);
            }
        }
        struct rml_group_counts counts = counts_of(&scene);
        assert_int_equal(counts.taken, taken);
        assert_int_equal(counts.missed + taken, scene.out[0].given - first);
        tear_down(&scene);
    }
}

/* Members that die and come, from a seed: what each is promised. */

struct fate {
    uint8_t times;   // it was taken
    uint8_t holder;  // member of this test that has it; MEMBERS_MAX: nobody
    uint8_t is_done;
};

static void rows_are_taken_again_only_from_the_dead_and_none_is_left_out(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (uint32_t i = 0; i < 300; i++) {
        struct scene scene;
        struct member members[MEMBERS_MAX];
        struct rml_group_row held[MEMBERS_MAX][64];
        uint32_t held_count[MEMBERS_MAX] = {0}, done = 0;
        static struct fate fates[PARTITIONS][64];
        for (uint32_t p = 0; p < PARTITIONS; p++)
            for (uint32_t n = 0; n < 64; n++)
                fates[p][n] = (struct fate){.holder = MEMBERS_MAX};
        set_up(&scene, 64, PARTITIONS, 0, 0);  // nothing is overwritten
        for (uint32_t m = 0; m < MEMBERS_MAX; m++)
            join(&scene, &members[m]);
        uint32_t given = 0;
        for (uint32_t idle = 0; done < PARTITIONS * 64;) {
            uint64_t draw = rml_test_random(&seed);
            uint32_t m = draw % MEMBERS_MAX;
            struct row row;
            struct rml_group_row got;
            if (draw >> 8 & 1 && given < 64) {
                give(&scene, 0, 1);
                give(&scene, 1, 1);
                given++;
            } else if ((draw >> 16) % 32 == 0) {
                rml_roster_bury(scene.roster, members[m].number);
                for (uint32_t h = 0; h < held_count[m]; h++)
                    fates[held[m][h].partition][held[m][h].number].holder = MEMBERS_MAX;
                held_count[m] = 0;
                join(&scene, &members[m]);
            } else if ((draw >> 16) % 3 == 0 && held_count[m] > 0) {
                got = held[m][--held_count[m]];
                struct fate *fate = &fates[got.partition][got.number];
                assert_int_equal(fate->holder, m);
                assert_true(rml_group_done(&members[m].in, &got));
                fate->is_done = 1;
                done++;
            } else if (held_count[m] < 64 && rml_group_take(&members[m].in, &row, &got) == 1) {
                check_row(&row, &got);
                struct fate *fate = &fates[got.partition][got.number];
                assert_false(fate->is_done);
                assert_int_equal(fate->holder, MEMBERS_MAX);
                assert_int_equal(got.again, fate->times < 15 ? fate->times : 15);
                fate->times++;
                fate->holder = (uint8_t)m;
                held[m][held_count[m]++] = got;
                idle = 0;
            }
            assert_true(++idle < 100000);
        }
        struct rml_group_counts counts = counts_of(&scene);
        assert_int_equal(counts.done, PARTITIONS * 64);
        assert_int_equal(counts.taken - counts.again, PARTITIONS * 64);
        assert_int_equal(counts.missed + counts.expired, 0);
        tear_down(&scene);
    }
}

static void a_group_begins_where_it_is_said_to_and_not_before_the_ring(void **state)
{
    (void)state;
    static const uint64_t firsts[] = {0, 1, 15, 16, 53};
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        for (uint64_t begins = 0; begins < 70; begins += 7) {
            struct scene scene;
            struct member member;
            set_up(&scene, 16, 1, firsts[i], begins);
            join(&scene, &member);
            give(&scene, 0, 12);
            uint64_t from = begins > firsts[i] ? begins : firsts[i], end = firsts[i] + 12;
            for (uint64_t n = from; n < end; n++) {
                assert_true(rml_group_look(&member.in));
                assert_int_equal(take(&member).number, n);
            }
            struct row row;
            struct rml_group_row got;
            assert_int_equal(rml_group_take(&member.in, &row, &got), 0);
            assert_int_equal(counts_of(&scene).missed, 0);
            assert_int_equal(
                rml_group_waiting(scene.shape, scene.memory, scene.roster, scene.rings, 0), 0);
            tear_down(&scene);
        }
    }
}

static void rows_that_wait_are_those_nobody_has_taken(void **state)
{
    (void)state;
    struct scene scene;
    struct member member;
    set_up(&scene, 16, 1, 0, 0);
    join(&scene, &member);
    give(&scene, 0, 9);
    assert_int_equal(rml_group_waiting(scene.shape, scene.memory, scene.roster, scene.rings, 0), 9);
    give(&scene, 0, 30);
    assert_int_equal(rml_group_waiting(scene.shape, scene.memory, scene.roster, scene.rings, 0),
                     16);
    struct row row;
    struct rml_group_row got;
    while (rml_group_take(&member.in, &row, &got) == 1)
        continue;
    give(&scene, 0, 2);
    assert_int_equal(rml_group_waiting(scene.shape, scene.memory, scene.roster, scene.rings, 0), 2);
    tear_down(&scene);
}

/* A member that is killed after so many instructions. */

enum { STEP_ROWS = 4 };

static struct scene step_scene;
static struct member step_member;

static struct step_log {
    _Atomic uint32_t taken, done;
} * step_log;

static void take_and_be_done(void)
{
    for (uint32_t i = 0; i < STEP_ROWS; i++) {
        struct row row;
        struct rml_group_row got;
        if (rml_group_take(&step_member.in, &row, &got) != 1 || got.number != i)
            _exit(3);
        // relaxed: of a process that is dead when it is read
        atomic_store_explicit(&step_log->taken, i + 1, memory_order_relaxed);
        if (i == 1)
            continue;  // it keeps this one
        if (!rml_group_done(&step_member.in, &got))
            _exit(4);
        // relaxed: as above
        atomic_store_explicit(&step_log->done, i + 1, memory_order_relaxed);
    }
}

static void a_member_killed_after_any_instruction_leaves_all_it_was_not_done_with(void **state)
{
    (void)state;
    if (RML_TEST_SLOW || !rml_stepping_able())
        skip();
    bool is_over = false;
    // a run tries each thirteenth moment, from a seed, and another run others
    for (uint64_t steps = rml_test_seed() % 13; !is_over; steps += 13) {
        struct member survivor;
        set_up(&step_scene, 16, 1, 0, 0);
        step_log = shared(sizeof *step_log);
        join(&step_scene, &step_member);
        join(&step_scene, &survivor);
        give(&step_scene, 0, STEP_ROWS);
        is_over = rml_stepping(take_and_be_done, steps);
        rml_roster_bury(step_scene.roster, step_member.number);
        uint32_t done = atomic_load_explicit(&step_log->done, memory_order_relaxed);
        uint32_t taken = atomic_load_explicit(&step_log->taken, memory_order_relaxed);
        struct row row;
        struct rml_group_row got;
        bool given[STEP_ROWS] = {false};
        while (rml_group_take(&survivor.in, &row, &got) == 1) {
            check_row(&row, &got);
            assert_false(given[got.number]);
            given[got.number] = true;
            // what the dead was certainly done with does not come, and what it certainly took comes marked
            assert_true(got.number >= done || got.number == 1);
            assert_true(got.again == 1 || got.number >= taken);
            assert_true(rml_group_done(&survivor.in, &got));
        }
        // what it was certainly not done with comes; of one row it is not known
        for (uint32_t n = 0; n < STEP_ROWS; n++)
            assert_true(given[n] || (n != 1 && n <= done + (done == 1)));
        nothing_is_left_for(&survivor);
        struct rml_group_counts counts = counts_of(&step_scene);
        assert_in_range(counts.taken - counts.again, STEP_ROWS - 1, STEP_ROWS);
        assert_int_equal(counts.missed + counts.expired, 0);
        munmap(step_log, sizeof *step_log);
        tear_down(&step_scene);
    }
}

/* Threads. */

enum { RACE_ROWS = RML_TEST_SLOW ? 20000 : 200000, RACERS = 4 };

static struct scene race_scene;
static _Atomic uint32_t race_times[PARTITIONS][RACE_ROWS];
static _Atomic uint64_t race_done;
static _Atomic int race_over;

struct racer {
    struct member member;
    uint64_t taken, torn;
};

static void *race(void *context)
{
    struct racer *racer = context;
    for (;;) {
        struct row row;
        struct rml_group_row got;
        // acquire: test.over
        int over = atomic_load_explicit(&race_over, memory_order_acquire);
        int rc = rml_group_take(&racer->member.in, &row, &got);
        if (rc < 0 || (rc == 0 && over))
            return NULL;
        if (rc == 0) {
            sched_yield();
            continue;
        }
        racer->torn += row.partition != got.partition || row.number != got.number
                       || row.inverse != ~got.number;
        racer->taken++;
        // relaxed: looked at when all is over
        atomic_fetch_add_explicit(&race_times[got.partition][got.number], 1, memory_order_relaxed);
        (void)rml_group_done(&racer->member.in, &got);
        // relaxed: a brake for the writer
        atomic_fetch_add_explicit(&race_done, 1, memory_order_relaxed);
    }
}

static void run_race(bool with_brake)
{
    struct racer racers[RACERS] = {0};
    pthread_t threads[RACERS];
    set_up(&race_scene, 64, PARTITIONS, 0, 0);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        for (uint32_t n = 0; n < RACE_ROWS; n++)
            atomic_store_explicit(&race_times[p][n], 0, memory_order_relaxed);
    atomic_store_explicit(&race_done, 0, memory_order_relaxed);
    atomic_store_explicit(&race_over, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < RACERS; i++)
        join(&race_scene, &racers[i].member);
    for (uint32_t i = 0; i < RACERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (uint64_t n = 0; n < RACE_ROWS; n++) {
        // relaxed: a brake
        while (with_brake && 2 * n > 60 + atomic_load_explicit(&race_done, memory_order_relaxed))
            sched_yield();
        give(&race_scene, 0, 1);
        give(&race_scene, 1, 1);
    }
    // release: test.over
    atomic_store_explicit(&race_over, 1, memory_order_release);
    uint64_t taken = 0;
    for (uint32_t i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
        assert_null(racers[i].member.in.fault);
        assert_int_equal(racers[i].torn, 0);
        taken += racers[i].taken;
    }
    struct rml_group_counts counts = counts_of(&race_scene);
    assert_int_equal(counts.taken, taken);
    assert_int_equal(counts.again, 0);
    assert_int_equal(counts.done + counts.expired, taken);
    assert_int_equal(taken + counts.missed, PARTITIONS * (uint64_t)RACE_ROWS);
    uint64_t not_taken = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        for (uint32_t n = 0; n < RACE_ROWS; n++) {
            assert_true(race_times[p][n] <= 1);
            not_taken += race_times[p][n] == 0;
        }
    }
    assert_int_equal(not_taken, counts.missed);
    if (with_brake)
        assert_int_equal(counts.missed, 0);
    tear_down(&race_scene);
}

static void threads_take_each_row_once_where_the_ring_waits(void **state)
{
    (void)state;
    run_race(true);
}

static void threads_take_or_miss_each_row_once_where_the_ring_does_not_wait(void **state)
{
    (void)state;
    run_race(false);
}

/* What cannot be. */

static void a_group_that_is_ahead_of_its_ring_is_a_fault_for_good(void **state)
{
    (void)state;
    for (uint32_t which = 0; which < 3; which++) {
        struct scene scene;
        struct member member;
        set_up(&scene, 16, 1, 0, 0);
        join(&scene, &member);
        give(&scene, 0, 3);
        _Atomic uint64_t *next = (_Atomic uint64_t *)(void *)scene.memory;
        _Atomic uint64_t *words =
            (_Atomic uint64_t *)(void *)(scene.memory + rml_group_bytes(scene.shape)) - 16;
        if (which == 0)
            atomic_store_explicit(next, 1000, memory_order_relaxed);
        else if (which == 1)
            atomic_store_explicit(&words[0], UINT64_MAX, memory_order_relaxed);
        else
            atomic_store_explicit(&words[3], UINT64_C(1) << 24 | 2, memory_order_relaxed);
        struct row row;
        struct rml_group_row got;
        int rc = 1;
        while (rc == 1)
            rc = rml_group_take(&member.in, &row, &got);
        assert_int_equal(rc, -EPROTO);
        assert_non_null(member.in.fault);
        atomic_store_explicit(next, 0, memory_order_relaxed);
        memset(scene.memory + rml_group_bytes(scene.shape) - 128, 0, 128);
        assert_int_equal(rml_group_take(&member.in, &row, &got), -EPROTO);
        assert_true(rml_group_look(&member.in));  // so that it does not sleep over it
        tear_down(&scene);
    }
}

static void a_roster_has_an_end_and_numbers_come_back_with_another_turn(void **state)
{
    (void)state;
    struct rml_roster *roster = shared(rml_roster_bytes(1));
    uint64_t before[RML_ROSTER_MEMBERS_MAX] = {[5] = 77}, turn;
    uint32_t member;
    for (uint32_t i = 0; i < RML_ROSTER_MEMBERS_MAX; i++) {
        assert_int_equal(rml_roster_admit(roster, before, &member, &turn), 0);
        assert_int_equal(member, i);
        assert_false(rml_roster_is_gone(roster, member, turn));
    }
    assert_int_equal(rml_roster_admit(roster, before, &member, &turn), -EMFILE);
    assert_int_equal(rml_roster_version(roster), 0);
    rml_roster_bury(roster, 5);
    assert_int_equal(rml_roster_version(roster), 1);
    assert_true(rml_roster_is_gone(roster, 5, 1));
    assert_int_equal(rml_roster_admit(roster, before, &member, &turn), 0);
    assert_int_equal(member, 5);
    assert_int_equal(turn, 2);
    assert_int_equal(rml_roster_taken_before(roster, 5), 77);
    assert_true(rml_roster_is_gone(roster, 5, 1));
    assert_false(rml_roster_is_gone(roster, 5, 2));
    assert_true(rml_roster_is_gone(roster, 1000, 1));
    munmap(roster, rml_roster_bytes(1));
}

TEST_MAIN(CLAIM(a_group_of_no_ring_takes_no_bytes),
          CLAIM(a_row_goes_to_one_member_and_rows_come_in_order),
          CLAIM(what_one_who_is_gone_was_not_done_with_goes_to_another),
          CLAIM(what_a_stopped_member_holds_holds_nobody_up_and_expires_with_the_ring),
          CLAIM(a_row_that_expired_with_a_dead_member_is_counted_once),
          CLAIM(every_row_is_taken_or_counted_as_missed),
          CLAIM(rows_are_taken_again_only_from_the_dead_and_none_is_left_out),
          CLAIM(a_group_begins_where_it_is_said_to_and_not_before_the_ring),
          CLAIM(rows_that_wait_are_those_nobody_has_taken),
          CLAIM(a_member_killed_after_any_instruction_leaves_all_it_was_not_done_with),
          CLAIM(threads_take_each_row_once_where_the_ring_waits),
          CLAIM(threads_take_or_miss_each_row_once_where_the_ring_does_not_wait),
          CLAIM(a_group_that_is_ahead_of_its_ring_is_a_fault_for_good),
          CLAIM(a_roster_has_an_end_and_numbers_come_back_with_another_turn))
