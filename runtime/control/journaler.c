#include "runtime/control/journaler.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/control/board.h"
#include "runtime/observe/counters.h"
#include "runtime/plan/identity.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"

#define LOCK_WAIT_NS   INT64_C(10000000000)  // for the last writes of an engine that was killed
#define RETRY_LEAST_NS INT64_C(100000000)
#define RETRY_MOST_NS  INT64_C(5000000000)
#define GROUP_BYTES    (2u << 20)  // a segment holds two
#define COVERS         16u         // on their way from the checkpointer

struct rml_journaler {
    struct rml_journaler_options options;
    struct rml_journal *journal;
    struct rml_bell bell;
    struct rml_queue covers;  // of pointers to positions, to be freed
    struct rml_journal_queue queues[RML_WORKERS_MAX];
    _Atomic uint64_t wishes;  // for a checkpoint
    uint64_t wishes_seen;     // by the control thread
    _Atomic uint32_t stopping, is_stuck;
    struct rml_journal_counts *counts, own_counts;  // the board's, or where there is none
    struct rml_board_journal row;
    bool started;
    pthread_t thread;

    // The thread's own.
    uint64_t written[RML_WORKERS_MAX];  // buffers, of those given
    uint32_t first;                     // worker, of the next group
    bool must_renew, is_full, said_full, wished;
    int64_t retry_ns, retry_at_ns;
};

static int64_t now_ns(const struct rml_journaler *j)
{
    return j->options.clock->monotonic_ns(j->options.clock->context);
}

static void complain(const struct rml_journaler *j, const char *what, const char *then)
{
    char sentence[700];
    snprintf(sentence, sizeof sentence, "%s%s", what, then);
    if (j->options.complain != NULL)
        j->options.complain(j->options.complain_context, sentence);
}

static void wish(struct rml_journaler *j)
{
    if (j->wished)
        return;
    j->wished = true;
    rml_count(&j->wishes, 1);
    rml_bell_ring(j->options.bell);
}

static void count(struct rml_journaler *j, enum rml_journal_counter counter, uint64_t add)
{
    rml_count(&j->counts->value[counter], add);
}

static void count_set(struct rml_journaler *j, enum rml_journal_counter counter, uint64_t value)
{
    rml_count_set(&j->counts->value[counter], value);
}

static void count_most(struct rml_journaler *j, enum rml_journal_counter counter, uint64_t value)
{
    if (value > rml_count_read(&j->counts->value[counter]))
        count_set(j, counter, value);
}

static void show_way(struct rml_journaler *j)
{
    if (j->options.board == NULL)
        return;
    snprintf(j->row.way, sizeof j->row.way, "%s", rml_journal_way(j->journal));
    snprintf(j->row.why_not, sizeof j->row.why_not, "%.119s", rml_journal_why_not(j->journal));
    rml_board_journal_write(j->options.board, &j->row);
}

static void show_room(struct rml_journaler *j)
{
    const struct rml_journal_room room = rml_journal_room(j->journal);
    count_set(j, RML_JOURNAL_file_bytes, room.file_bytes);
    count_set(j, RML_JOURNAL_used_bytes, room.used_bytes);
    count_set(j, RML_JOURNAL_max_bytes, room.max_bytes);
    if (room.used_bytes > room.max_bytes / 2)
        wish(j);
}

/* What goes wrong */

static void set_stuck(struct rml_journaler *j, bool stuck)
{
    // relaxed: a hint
    atomic_store_explicit(&j->is_stuck, stuck, memory_order_relaxed);
    count_set(j, RML_JOURNAL_is_failing, stuck);
}

// Said once, until it works again.
static void failed(struct rml_journaler *j, const struct rml_err *err)
{
    count(j, RML_JOURNAL_failures, 1);
    j->row.failed_ns = j->options.clock->wall_ns(j->options.clock->context);
    snprintf(j->row.failed_why, sizeof j->row.failed_why, "%.319s", err->text);
    show_way(j);
    if (j->retry_ns == 0)
        complain(j, err->text, "; records wait in their lanes until the journal works again");
    j->retry_ns = j->retry_ns == 0                  ? RETRY_LEAST_NS
                  : j->retry_ns > RETRY_MOST_NS / 2 ? RETRY_MOST_NS
                                                    : 2 * j->retry_ns;
    j->retry_at_ns = now_ns(j) + j->retry_ns;
    j->must_renew = true;
    set_stuck(j, true);
    for (uint32_t w = 0; w < j->options.plan->workers; w++)
        j->written[w] = rml_journal_queue_durable(&j->queues[w]);
}

// A checkpoint makes room; a disk that is full needs somebody else to, so it is looked at again.
static void is_full(struct rml_journaler *j, const struct rml_err *err)
{
    if (!j->is_full)
        count(j, RML_JOURNAL_waits, 1);
    if (!j->said_full)
        complain(j, err->text, "; records wait in their lanes until there is room");
    j->is_full = j->said_full = true;
    j->retry_at_ns = now_ns(j) + RETRY_LEAST_NS;
    wish(j);
}

static void works(struct rml_journaler *j)
{
    if (j->retry_ns > 0)
        complain(j, "the journal works again", "");
    j->retry_ns = 0;
    j->is_full = false;
    set_stuck(j, false);
}

/* Groups */

// Of one worker, up to a group's size. 0, or what rml_journal_write says.
static int write_of(struct rml_journaler *j, uint32_t w, uint32_t *bytes, struct rml_err *err)
{
    struct rml_journal_queue *queue = &j->queues[w];
    uint64_t given = rml_journal_queue_given(queue);
    for (; j->written[w] < given && *bytes < GROUP_BYTES; j->written[w]++) {
        const struct rml_journal_load load = rml_journal_queue_load(queue, j->written[w]);
        int rc = rml_journal_write(j->journal, rml_journal_queue_buffer(queue, j->written[w]),
                                   load.bytes, err);
        if (rc < 0)
            return rc;
        *bytes += load.bytes + RML_DISK_BLOCK_BYTES;
    }
    return 0;
}

static bool has_some(const struct rml_journaler *j)
{
    for (uint32_t w = 0; w < j->options.plan->workers; w++) {
        if (rml_journal_queue_given(&j->queues[w]) > j->written[w])
            return true;
    }
    return false;
}

static void tell_workers(struct rml_journaler *j)
{
    uint64_t bytes = 0, steps = 0, records = 0;
    for (uint32_t w = 0; w < j->options.plan->workers; w++) {
        struct rml_journal_queue *queue = &j->queues[w];
        uint64_t before = rml_journal_queue_durable(queue);
        for (uint64_t i = before; i < j->written[w]; i++) {
            const struct rml_journal_load load = rml_journal_queue_load(queue, i);
            bytes += load.bytes;
            steps += load.steps;
            records += load.records;
        }
        if (j->written[w] > before)
            rml_journal_queue_say(queue, j->written[w]);
    }
    count(j, RML_JOURNAL_bytes, bytes);
    count(j, RML_JOURNAL_steps, steps);
    count(j, RML_JOURNAL_records, records);
    count_most(j, RML_JOURNAL_group_bytes_max, bytes);
}

// All that workers have given, up to a group's size, and one flush. Returns whether anything is durable.
static bool write_group(struct rml_journaler *j)
{
    struct rml_err err = {0};
    uint32_t workers = j->options.plan->workers, bytes = 0;
    if (!has_some(j) || (j->retry_at_ns > 0 && now_ns(j) < j->retry_at_ns))
        return false;
    j->retry_at_ns = 0;
    if (j->must_renew && rml_journal_renew(j->journal, &err) < 0) {
        failed(j, &err);
        return false;
    }
    if (j->must_renew)
        show_way(j);
    j->must_renew = false;
    int64_t since_ns = now_ns(j);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < workers; i++)
        rc = write_of(j, (j->first + i) % workers, &bytes, &err);
    j->first++;
    if (rc == -ENOSPC && bytes == 0) {
        is_full(j, &err);
        return false;
    }
    if (rc == 0 || rc == -EAGAIN || rc == -ENOSPC)
        rc = rml_journal_flush(j->journal, &err);
    if (rc < 0) {
        failed(j, &err);
        return false;
    }
    uint64_t took_ns = (uint64_t)(now_ns(j) - since_ns);
    tell_workers(j);
    count(j, RML_JOURNAL_flushes, 1);
    count(j, RML_JOURNAL_flush_ns, took_ns);
    count_most(j, RML_JOURNAL_flush_ns_max, took_ns);
    works(j);
    show_room(j);
    return true;
}

static bool take_covers(struct rml_journaler *j)
{
    uint64_t *positions;
    bool any = false;
    while (rml_queue_take(&j->covers, &positions)) {
        rml_journal_cover(j->journal, positions);
        free(positions);
        any = true;
    }
    if (any) {
        j->wished = false;
        if (j->is_full)
            j->retry_at_ns = 0;
        show_room(j);
    }
    return any;
}

/* The thread */

static int sleep_ms(const struct rml_journaler *j)
{
    if (j->retry_at_ns == 0)
        return -1;
    int64_t left = (j->retry_at_ns - now_ns(j)) / 1000000 + 1;
    return left < 0 ? 0 : (int)left;
}

static bool is_told_to_stop(const struct rml_journaler *j)
{
    // relaxed: the bell's exchanges order it
    return atomic_load_explicit(&j->stopping, memory_order_relaxed) != 0;
}

bool rml_journaler_round(struct rml_journaler *j)
{
    bool any = take_covers(j);
    any |= write_group(j);
    return any;
}

static void *work(void *context)
{
    struct rml_journaler *j = context;
    while (!is_told_to_stop(j)) {
        if (rml_journaler_round(j))
            continue;
        rml_bell_expect(&j->bell);
        if (rml_journaler_round(j) || is_told_to_stop(j))
            rml_bell_awake(&j->bell);
        else
            rml_bell_wait(&j->bell, sleep_ms(j));
    }
    return NULL;
}

void rml_journaler_begin(struct rml_journaler *j)
{
    rml_journal_forget(j->journal);
    // an engine before this one may have died while it failed
    set_stuck(j, false);
    show_way(j);
    show_room(j);
}

int rml_journaler_start(struct rml_journaler *j, struct rml_err *err)
{
    rml_journaler_begin(j);
    sigset_t all, before;
    sigfillset(&all);  // signals are the control thread's
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&j->thread, NULL, work, j);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return RML_FAIL(err, -rc, "no thread for the journal: %s", strerrordesc_np(rc));
    pthread_setname_np(j->thread, "rml-journal");
    j->started = true;
    return 0;
}

/* Other threads */

void rml_journaler_covered(struct rml_journaler *j, const uint64_t *positions)
{
    size_t bytes = j->options.plan->partitions * sizeof *positions;
    uint64_t *copy = malloc(bytes);
    if (copy == NULL)
        return;  // the next checkpoint covers it too
    memcpy(copy, positions, bytes);
    if (!rml_queue_give(&j->covers, &copy))
        free(copy);
    rml_bell_ring(&j->bell);
}

bool rml_journaler_wants_checkpoint(struct rml_journaler *j)
{
    uint64_t wishes = rml_count_read(&j->wishes);
    bool any = wishes != j->wishes_seen;
    j->wishes_seen = wishes;
    return any;
}

bool rml_journaler_is_stuck(const struct rml_journaler *j)
{
    // relaxed: a hint
    return atomic_load_explicit(&j->is_stuck, memory_order_relaxed) != 0;
}

struct rml_journal *rml_journaler_journal(struct rml_journaler *j)
{
    return j->journal;
}

struct rml_journal_queue *rml_journaler_queue(struct rml_journaler *j, uint32_t worker)
{
    return j->options.plan->journals ? &j->queues[worker] : NULL;
}

// What entries are made of: partitions, numbers of lanes, records of sources.
static int identify(const struct rml_plan *plan, uint64_t *ret_identity)
{
    struct rml_identity *part = malloc(sizeof *part);
    if (part == NULL)
        return -ENOMEM;
    uint64_t identity = plan->partitions * UINT64_C(8192) + plan->lanes_max;
    for (uint32_t s = 0; s < plan->source_count; s++) {
        rml_identity_part(plan, 1 + s, part);
        identity = XXH3_64bits_withSeed(part->text, strlen(part->text), identity);
    }
    free(part);
    *ret_identity = identity;
    return 0;
}

static int set_up(struct rml_journaler *j, struct rml_err *err)
{
    const struct rml_plan *plan = j->options.plan;
    struct rml_journal_options options = {
        .ways = j->options.ways,
        .lock_wait_ns = LOCK_WAIT_NS,
        .partitions = plan->partitions,
        .life = j->options.life,
        .covered = j->options.covered,
        .keep = plan->checkpoint_keep,
        .max_bytes = plan->journal_bytes_max,
        .broken_rules = j->options.broken_rules,
    };
    memcpy(options.vault, j->options.vault, sizeof options.vault);
    if (identify(plan, &options.identity) < 0)
        return RML_FAIL(err, -ENOMEM, "no memory for a journal");
    int rc = rml_bell_open(&j->bell, err);
    if (rc == 0)
        rc = rml_queue_open(&j->covers, sizeof(uint64_t *), COVERS, err);
    for (uint32_t w = 0; rc == 0 && w < plan->workers; w++)
        rc = rml_journal_queue_open(&j->queues[w], &j->bell, err);
    return rc == 0 ? rml_journal_open(&j->journal, j->options.folder, &options, err) : rc;
}

int rml_journaler_open(struct rml_journaler **ret_journaler,
                       const struct rml_journaler_options *options, struct rml_err *err)
{
    size_t bytes = (sizeof(struct rml_journaler) + 127) / 128 * 128;
    struct rml_journaler *j = aligned_alloc(128, bytes);
    if (j == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a journal");
    memset(j, 0, bytes);
    j->options = *options;
    if (options->board != NULL)
        rml_board_journal_read(options->board, &j->row);
    j->counts = options->board != NULL ? &options->board->live->journal : &j->own_counts;
    j->bell = RML_BELL_CLOSED;
    int rc = set_up(j, err);
    if (rc < 0) {
        rml_journaler_close(j);
        return rc;
    }
    *ret_journaler = j;
    return 0;
}

void rml_journaler_stop(struct rml_journaler *j)
{
    if (j == NULL || !j->started)
        return;
    // relaxed: the bell's exchanges order it
    atomic_store_explicit(&j->stopping, 1, memory_order_relaxed);
    rml_bell_ring(&j->bell);
    pthread_join(j->thread, NULL);
    j->started = false;
}

void rml_journaler_close(struct rml_journaler *j)
{
    if (j == NULL)
        return;
    rml_journaler_stop(j);
    uint64_t *positions;
    while (j->covers.cells != NULL && rml_queue_take(&j->covers, &positions))
        free(positions);
    rml_queue_close(&j->covers);
    for (uint32_t w = 0; w < j->options.plan->workers; w++)
        rml_journal_queue_close(&j->queues[w]);
    rml_bell_close(&j->bell);
    rml_journal_close(j->journal);
    free(j);
}
