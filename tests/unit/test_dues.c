#include <string.h>

#include "operators/dues.h"
#include "runtime/base/err.h"
#include "runtime/time/time.h"
#include "tests/support/test.h"

#define THINGS 500u

/* The oracle: when each thing is due, and 0 where it waits for nothing. */
struct thing {
    int64_t at;
    uint32_t stamp;
    bool waits;
};

struct fixture {
    struct rml_pages pages;
    struct rml_dues dues;
    struct thing things[THINGS];
    uint32_t waiting;
    int64_t now;
    uint64_t seed;
};

static uint64_t draw(struct fixture *f, uint64_t below)
{
    f->seed ^= f->seed << 13;
    f->seed ^= f->seed >> 7;
    f->seed ^= f->seed << 17;
    return (f->seed >> 11) % below;
}

static void put(struct fixture *f, uint32_t number, int64_t at)
{
    struct thing *t = &f->things[number];
    assert_true(rml_dues_has_room(&f->dues));
    f->waiting += !t->waits;
    *t = (struct thing){.at = at, .stamp = t->stamp + 1, .waits = true};
    rml_dues_put(&f->dues, (struct rml_due){.at = at, .number = number, .stamp = t->stamp});
}

static bool holds(const struct fixture *f, struct rml_due due)
{
    const struct thing *t = &f->things[due.number];
    return t->waits && t->stamp == due.stamp;
}

static uint32_t due_by(const struct fixture *f, int64_t now)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < THINGS; i++)
        count += f->things[i].waits && f->things[i].at <= now;
    return count;
}

// Let time come to `now`: what is due must come out, all of it, in order, and nothing else.
static void come_to(struct fixture *f, int64_t now)
{
    uint32_t left = due_by(f, now);
    if (left > 0)
        assert_true(f->dues.next <= now);
    struct rml_due due, opened[RML_DUES_OPEN];
    for (uint32_t count; (count = rml_dues_open(&f->dues, now, opened)) > 0;) {
        for (uint32_t i = 0; i < count; i++) {
            if (holds(f, opened[i]))
                rml_dues_keep(&f->dues, opened[i]);
        }
    }
    int64_t last = INT64_MIN;
    while (rml_dues_take(&f->dues, now, &due)) {
        if (!holds(f, due))
            continue;
        assert_int_equal(f->things[due.number].at, due.at);
        assert_true(due.at <= now && due.at >= last);
        last = due.at;
        f->things[due.number].waits = false;
        f->waiting--;
        left--;
        // Some are due again, now and then within the same moment.
        if (draw(f, 4) == 0) {
            put(f, due.number, due.at + (int64_t)draw(f, 40));
            left += f->things[due.number].at <= now;
        }
    }
    assert_int_equal(left, 0);
    f->now = now;
}

static void run(int64_t width_ns, int64_t start, uint64_t seed)
{
    static struct fixture f;
    struct rml_err err = {0};
    memset(&f, 0, sizeof f);
    f.seed = seed;
    f.now = start;
    assert_int_equal(rml_pages_open(&f.pages, 64 << 20, &err), 0);
    rml_dues_init(&f.dues, &f.pages, width_ns);
    for (uint32_t step = 0; step < 20000; step++) {
        uint32_t number = (uint32_t)draw(&f, THINGS);
        if (draw(&f, 8) == 0)
            come_to(&f, f.now + (int64_t)draw(&f, draw(&f, 50) == 0 ? 100000 : 30));
        else
            put(&f, number, f.now + 1 + (int64_t)draw(&f, draw(&f, 10) == 0 ? 50000 : 600));
    }
    come_to(&f, RML_TIME_END);
    assert_int_equal(f.waiting, 0);
    struct rml_due due;
    assert_false(rml_dues_take(&f.dues, RML_TIME_END, &due));
    assert_true(rml_dues_is_empty(&f.dues));
    rml_dues_clear(&f.dues);
    assert_int_equal(f.pages.in_use, 0);
    rml_pages_close(&f.pages);
}

static void what_is_due_comes_once_and_in_order_however_time_goes(void **state)
{
    (void)state;
    const int64_t widths[] = {1, 2, 7, 100, 5000};
    const int64_t starts[] = {-1000000, 0, INT64_MIN + 10, INT64_MAX - (INT64_C(1) << 40)};
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++)
            for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++)
                run(widths[w], starts[s], seed * UINT64_C(0x9e3779b97f4a7c15));
}

static void room_runs_out_before_anything_is_lost(void **state)
{
    (void)state;
    struct rml_pages pages;
    struct rml_dues dues;
    struct rml_err err = {0};
    assert_int_equal(rml_pages_open(&pages, 16 * (uint64_t)RML_PAGE_BYTES, &err), 0);
    rml_dues_init(&dues, &pages, 10);
    uint32_t put_count = 0, taken = 0;
    while (rml_dues_has_room(&dues)) {
        rml_dues_put(&dues, (struct rml_due){.at = 1 + put_count % 5000, .number = put_count});
        put_count++;
    }
    assert_true(put_count > 1000);
    struct rml_due due, opened[RML_DUES_OPEN];
    for (uint32_t count; (count = rml_dues_open(&dues, RML_TIME_END, opened)) > 0;) {
        for (uint32_t i = 0; i < count; i++)
            rml_dues_keep(&dues, opened[i]);
    }
    while (rml_dues_take(&dues, RML_TIME_END, &due))
        taken++;
    assert_int_equal(taken, put_count);
    rml_pages_close(&pages);
}

TEST_MAIN(CLAIM(what_is_due_comes_once_and_in_order_however_time_goes),
          CLAIM(room_runs_out_before_anything_is_lost))
