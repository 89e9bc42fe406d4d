/*
 * cases - the same question about thousands of drawn cases; where one fails, the smallest like it.
 *
 * A kind of cases says how one is drawn from a seed and whether the engine does with it what an oracle
 * says. One that fails is shrunk: records are left out, and what is left is made simpler, as long as
 * it still fails. Each try is a process of its own, so that a case that crashes can be shrunk too.
 * (A. Zeller, R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002.)
 *
 *     RML_CASES=1000000   how many cases      RML_SEED=7   from which seed on; alone: that case
 */
#ifndef TESTS_SUPPORT_CASES_H
#define TESTS_SUPPORT_CASES_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/partition_rig.h"
#include "tests/support/random.h"

#define CASES_KNOBS 16
#define CASES_TRIES 5000  // of one shrinking

struct cases_case {
    uint64_t seed;
    int64_t knobs[CASES_KNOBS];  // all else that was drawn, so that it can be made simpler
    struct rig_stream stream;
};

struct cases_knob {
    const char *name;
    int64_t simplest;
    int64_t
        else_to;  // where it goes if that cannot be; as a limit does, which is simplest where it is none
};

struct cases_kind {
    uint32_t knob_count;
    const struct cases_knob *knobs;
    void (*draw)(struct cases_case *c);
    /* Can these knobs be? */
    bool (*can_be)(const int64_t *knobs);
    /* The pipeline file of a case. */
    void (*write)(const int64_t *knobs, char *text, size_t bytes);
    /* Does the engine do what the oracle says? Where not, print how they differ, if `say`. */
    bool (*holds)(const struct cases_case *c, bool say);
};

/* Stops at the first broken promise of the engine, as a program would. */
#if RML_TEST_SLOW
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "abort_on_error=1";
}
#endif

/* One case, as it is drawn. */
static inline void cases_draw(const struct cases_kind *kind, uint64_t seed, struct cases_case *c)
{
    rig_begin_case(seed);
    memset(c, 0, sizeof *c);
    kind->draw(c);
    c->seed = seed;
}

/* Few records mostly, so that there are many cases, and sometimes as many as go. */
static inline uint32_t cases_draw_size(void)
{
    return 1 + (uint32_t)draw(draw(40) == 0 ? RIG_RECORDS : draw(4) == 0 ? 60 : 16);
}

/* Records, written by one lane or by several in turn, in one partition mostly. */
static inline void cases_draw_stream(struct rig_stream *stream, int64_t *ret_partitions)
{
    *ret_partitions = draw(3) > 0 ? 1 : 1 + (int64_t)draw(RIG_PARTITIONS);
    rig_draw_records(stream, cases_draw_size());
    stream->lanes = draw(2) ? 1 : 1 + (uint32_t)draw(RIG_LANES);
    stream->tick_each = draw(2) ? 0 : 1 + (uint32_t)draw(20);
    uint64_t run = 1 + draw(20);
    for (uint32_t i = 0; i < stream->count; i++)
        stream->lane[i] = (uint8_t)(i > 0 && draw(run) > 0 ? stream->lane[i - 1] : draw(RIG_LANES));
}

/* In a process of its own: whatever happens to it is an answer. */
static inline bool cases_fails(const struct cases_kind *kind, const struct cases_case *c)
{
    fflush(stdout);
    pid_t child = fork();
    RML_CHECK(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        alarm(60);
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(1);
        _exit(kind->holds(c, false) ? 0 : 1);
    }
    int status = 0;
    RML_CHECK(waitpid(child, &status, 0) == child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

struct cases_shrink {
    const struct cases_kind *kind;
    struct cases_case *best;
    struct cases_case other;  // to be tried
    uint32_t tries;
};

static inline bool cases_try(struct cases_shrink *s)
{
    if (memcmp(&s->other, s->best, sizeof s->other) == 0 || s->tries == CASES_TRIES
        || !s->kind->can_be(s->other.knobs))
        return false;
    s->tries++;
    if (!cases_fails(s->kind, &s->other))
        return false;
    *s->best = s->other;
    return true;
}

static inline bool cases_leave_out(struct cases_shrink *s, uint32_t from, uint32_t count)
{
    struct rig_stream *stream = &s->other.stream;
    uint32_t behind = stream->count - from - count;
    memmove(&stream->records[from], &stream->records[from + count],
            behind * sizeof stream->records[0]);
    memmove(&stream->lane[from], &stream->lane[from + count], behind);
    stream->count -= count;
    return cases_try(s);
}

static inline bool cases_fewer_records(struct cases_shrink *s)
{
    bool any = false;
    // by halves first; the last few in every way, since some go only together
    for (uint32_t count = s->best->stream.count; count > 0; count -= count > 8 ? count / 2 : 1) {
        for (uint32_t from = 0; from + count <= s->best->stream.count;) {
            s->other = *s->best;
            bool left_out = cases_leave_out(s, from, count);
            any |= left_out;
            from += left_out ? 0 : count > 8 ? count : 1;
        }
    }
    return any;
}

/* A limit that is met needs its records: try one less of both. */
static inline bool cases_lower_limits(struct cases_shrink *s)
{
    bool any = false;
    for (uint32_t k = 0; k < s->kind->knob_count; k++) {
        const struct cases_knob *knob = &s->kind->knobs[k];
        for (uint32_t i = 0; knob->else_to != 0 && i < s->best->stream.count; i++) {
            s->other = *s->best;
            s->other.knobs[k] -= s->other.knobs[k] > knob->else_to;
            any |= cases_leave_out(s, i, 1);
        }
    }
    return any;
}

/* Bring a number of the other case to its simplest, or half the way there as often as it goes. */
static inline bool cases_simpler(struct cases_shrink *s, int64_t *number, int64_t simplest)
{
    size_t at = (size_t)((unsigned char *)number - (unsigned char *)&s->other);
    bool any = false;
    for (int64_t way = 1;; way = 2) {
        s->other = *s->best;
        int64_t now;
        memcpy(&now, (const unsigned char *)s->best + at, sizeof now);
        *number = way == 1 ? simplest : now - (now - simplest) / 2;
        if (!cases_try(s)) {
            if (way == 2)
                return any;
            continue;
        }
        any = true;
        if (way == 1)
            return true;
    }
}

static inline bool cases_simpler_knobs(struct cases_shrink *s)
{
    bool any = false;
    for (uint32_t k = 0; k < s->kind->knob_count; k++) {
        const struct cases_knob *knob = &s->kind->knobs[k];
        any |= cases_simpler(s, &s->other.knobs[k], knob->simplest);
        if (knob->else_to != 0 && s->best->knobs[k] != knob->simplest)
            any |= cases_simpler(s, &s->other.knobs[k], knob->else_to);
    }
    return any;
}

static inline bool cases_simpler_records(struct cases_shrink *s)
{
    bool any = false;
    for (uint32_t i = 0; i < s->best->stream.count; i++) {
        struct rig_record *record = &s->other.stream.records[i];
        any |= cases_simpler(s, &record->n, 0);
        any |= cases_simpler(s, (int64_t *)&record->key, 0);
        any |= cases_simpler(s, &record->ts, 0);
        s->other = *s->best;
        record->x = 0;
        any |= cases_try(s);
        s->other = *s->best;
        s->other.stream.lane[i] = 0;
        any |= cases_try(s);
    }
    return any;
}

static inline bool cases_simpler_lanes(struct cases_shrink *s)
{
    s->other = *s->best;
    s->other.stream.lanes = 1;
    bool any = cases_try(s);
    s->other = *s->best;
    s->other.stream.tick_each = s->other.stream.tick_each > 1;
    any |= cases_try(s);
    s->other = *s->best;
    s->other.stream.lanes -= s->other.stream.lanes > 1;
    any |= cases_try(s);
    s->other = *s->best;
    s->other.stream.latest_each = 0;
    any |= cases_try(s);
    for (uint64_t cuts = RIG_ALONE; cuts <= RIG_TOGETHER && s->best->stream.cuts != RIG_ALONE;
         cuts += RIG_TOGETHER - RIG_ALONE) {
        s->other = *s->best;
        s->other.stream.cuts = cuts;
        any |= cases_try(s);
    }
    return any;
}

/* Make a case that fails as small as it gets by small steps. */
static inline void cases_shrink(const struct cases_kind *kind, struct cases_case *c)
{
    static struct cases_shrink s;
    s.kind = kind;
    s.best = c;
    s.tries = 0;
    bool any = true;
    while (any && s.tries < CASES_TRIES) {
        any = cases_fewer_records(&s);
        any |= cases_lower_limits(&s);
        any |= cases_simpler_lanes(&s);
        any |= cases_simpler_knobs(&s);
        any |= cases_simpler_records(&s);
    }
}

/* The pipeline file, and the records as lines that `ringmill replay` reads but for the lane's column. */
static inline void cases_print(const struct cases_kind *kind, const struct cases_case *c)
{
    char text[4096];
    kind->write(c->knobs, text, sizeof text);
    printf("%s\n", text);
    for (uint32_t k = 0; k < kind->knob_count; k++)
        printf("%s%s %lld", k > 0 ? ", " : "", kind->knobs[k].name, (long long)c->knobs[k]);
    printf("\nlanes %u; the wall clock told each %u records of %d ms; %s\n", c->stream.lanes,
           c->stream.tick_each, RIG_RECORD_MS,
           c->stream.cuts == RIG_ALONE      ? "each record is a batch"
           : c->stream.cuts == RIG_TOGETHER ? "batches as large as can be"
                                            : "batches as drawn");
    if (c->stream.latest_each > 0)
        printf("believed up to %lld, and %lld more each %u records\n", (long long)c->stream.latest,
               (long long)c->stream.latest_step, c->stream.latest_each);
    printf("lane,ts,key,n,x\n");
    for (uint32_t i = 0; i < c->stream.count; i++) {
        const struct rig_record *r = &c->stream.records[i];
        printf("%u,%lld,%llu,%lld,%g\n", rig_lane(&c->stream, i), (long long)r->ts,
               (unsigned long long)r->key, (long long)r->n, r->x);
    }
}

/* The first of `count` cases from `first` on that fails, shrunk; false: there is none. */
static inline bool cases_find(const struct cases_kind *kind, uint64_t first, uint64_t count,
                              struct cases_case *ret_case)
{
    for (uint64_t seed = first; seed - first < count; seed++) {
        cases_draw(kind, seed, ret_case);
        if (!cases_fails(kind, ret_case))
            continue;
        cases_shrink(kind, ret_case);
        return true;
    }
    return false;
}

/* A fault that was put in must be found, and shrunk to `most` records. */
static inline void cases_find_small(const struct cases_kind *kind, uint32_t fault, uint32_t most)
{
    static struct cases_case c;
    if (!cases_find(kind, 1, 1000, &c))
        fail_msg("fault %u is not found", fault);
    printf("fault %u: found by seed %llu, shrunk to %u records\n", fault,
           (unsigned long long)c.seed, c.stream.count);
    if (c.stream.count > most)
        cases_print(kind, &c);
    assert_true(c.stream.count <= most);
}

/*
 * A case that ends the process is known by its number alone: begin again with it, in a process where
 * each try is one of its own.
 */
static char cases_now[40];

static inline void cases_begin_again(int number)
{
    (void)number;
    static char *again[512];
    uint32_t count = 0;
    for (char **e = environ; *e != NULL && count < 510; e++) {
        if (strncmp(*e, "RML_SEED=", 9) != 0 && strncmp(*e, "RML_CASES=", 10) != 0)
            again[count++] = *e;
    }
    again[count++] = cases_now;
    again[count] = NULL;
    static char program[] = "/proc/self/exe";
    char *const arguments[] = {program, NULL};
    execve(program, arguments, again);
    _exit(1);
}

static inline void cases_fail(const struct cases_kind *kind, struct cases_case *c)
{
    uint32_t records = c->stream.count;
    printf("RML_SEED=%llu fails; making it smaller\n", (unsigned long long)c->seed);
    cases_shrink(kind, c);
    printf("\nRML_SEED=%llu, from %u records to %u:\n\n", (unsigned long long)c->seed, records,
           c->stream.count);
    cases_print(kind, c);
    fflush(stdout);
    kind->holds(c, true);
    fail();
}

/*
 * Ask of `count` cases, or of what RML_CASES and RML_SEED say, and print how many a second. Returns
 * whether it was as many as the test wants by itself. A case that fails is printed, made small.
 */
static inline bool cases_hold(const struct cases_kind *kind, const char *name, uint64_t count)
{
    static struct cases_case c;
    const char *seed_set = getenv("RML_SEED"), *count_set = getenv("RML_CASES");
    uint64_t first = seed_set != NULL ? strtoull(seed_set, NULL, 0) : 1;
    uint64_t cases = count_set != NULL  ? strtoull(count_set, NULL, 0)
                     : seed_set != NULL ? 1
                     : RML_TEST_SLOW    ? count / 20
                                        : count;
    struct timespec from, to;
    // a small case would spend its time on clearing large pages
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    if (cases == 1) {
        cases_draw(kind, first, &c);
        if (cases_fails(kind, &c))
            cases_fail(kind, &c);
    } else {
        const struct sigaction begin_again = {.sa_handler = cases_begin_again,
                                              .sa_flags = SA_NODEFER};
        struct sigaction was[2];
        sigaction(SIGABRT, &begin_again, &was[0]);
        sigaction(SIGSEGV, &begin_again, &was[1]);
        for (uint64_t seed = first; seed - first < cases; seed++) {
            snprintf(cases_now, sizeof cases_now, "RML_SEED=%llu", (unsigned long long)seed);
            cases_draw(kind, seed, &c);
            if (!kind->holds(&c, false))
                cases_fail(kind, &c);
        }
        sigaction(SIGABRT, &was[0], NULL);
        sigaction(SIGSEGV, &was[1], NULL);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    printf("%s: %llu cases from seed %llu in %.1f s of a processor, %.0f a second\n", name,
           (unsigned long long)cases, (unsigned long long)first, seconds, (double)cases / seconds);
    return seed_set == NULL && cases >= count;
}

#endif
