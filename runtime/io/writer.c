#include "runtime/io/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/io/file_sink.h"
#include "runtime/io/pile.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"
#include "runtime/time/time.h"

#define WATCH_MS 50  // between two looks of who waits for a file, where somebody watches

/* One sink, and which of the outputs its rows are of. */
struct target {
    struct rml_file_sink *sink;
    uint32_t index;  // in the plan
    uint32_t from_count;
    uint32_t outputs[RML_STAGES_MAX];
    uint64_t sources;  // bits: where its rows come from
};

/* Between one worker and the writer. */
struct channel {
    struct rml_queue given, returned;
    struct rml_bell bell;  // the worker sleeps on it
    struct rml_result_block *blocks;
    struct rml_result_block *unused;  // the worker's list
};

struct rml_writer {
    struct rml_writer_options options;
    uint32_t output_count;
    struct rml_output outputs[RML_OUTPUTS_MAX];
    bool wanted[RML_OUTPUTS_MAX];
    bool tabled[RML_OUTPUTS_MAX];  // its rows go into the pile
    struct rml_pile pile;
    uint32_t target_count;
    struct target targets[RML_SINKS_MAX];
    int64_t *progress;  // [source][partition]
    int64_t least[RML_SOURCES_MAX];
    struct channel *channels;
    struct rml_file_wait wait;
    uint32_t marks_left;  // of the present round
    bool marked[RML_PARTITIONS_MAX];
    struct rml_err round;  // of the last round: code 0, or what it lacks
    _Atomic uint64_t rounds;
    _Atomic bool finishing;
    bool (*is_enough)(void *context);  // for who waits meanwhile; NULL: nobody watches
    void *watch_context;
    bool started;
    pthread_t thread;
};

static uint32_t output_index(const struct rml_writer *w, struct rml_plan_output from)
{
    for (uint32_t i = 0; i < w->output_count; i++) {
        if (w->outputs[i].stage == from.stage && w->outputs[i].late == from.late)
            return i;
    }
    RML_UNREACHABLE("what a sink takes from is an output");
}

static int target_open(struct rml_writer *w, struct target *target, uint32_t index,
                       struct rml_err *err)
{
    const struct rml_plan *plan = w->options.plan;
    const struct rml_plan_sink *sink = &plan->sinks[index];
    target->index = index;
    target->from_count = sink->from_count;
    for (uint32_t i = 0; i < sink->from_count; i++) {
        target->outputs[i] = output_index(w, sink->from[i]);
        target->sources |= UINT64_C(1) << plan->stages[sink->from[i].stage].source;
        w->wanted[target->outputs[i]] = true;
    }
    return rml_file_sink_open(&target->sink, &w->options, &w->wait, index, err);
}

// Where there are no checkpoints nobody would take rows out of the pile.
static void table_open(struct rml_writer *w, const struct rml_plan_sink *sink)
{
    for (uint32_t i = 0; i < sink->from_count && w->options.notes != NULL; i++) {
        uint32_t output = output_index(w, sink->from[i]);
        w->tabled[output] = w->wanted[output] = true;
    }
}

static int channel_open(struct channel *channel, uint32_t blocks, struct rml_err *err)
{
    channel->bell = RML_BELL_CLOSED;
    uint32_t cells = 2;
    while (cells < blocks)
        cells *= 2;
    int rc = rml_queue_open(&channel->given, sizeof(void *), cells, err);
    if (rc == 0)
        rc = rml_queue_open(&channel->returned, sizeof(void *), cells, err);
    if (rc == 0)
        rc = rml_bell_open(&channel->bell, err);
    if (rc < 0)
        return rc;
    size_t bytes = (size_t)blocks * sizeof *channel->blocks;
    channel->blocks = aligned_alloc(_Alignof(struct rml_result_block), bytes);
    if (channel->blocks == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for %u blocks of results", blocks);
    memset(channel->blocks, 0, bytes);  // touched now, so that no worker waits for pages later
    for (uint32_t i = 0; i < blocks; i++) {
        channel->blocks[i].next = channel->unused;
        channel->unused = &channel->blocks[i];
    }
    return 0;
}

static void channel_close(struct channel *channel)
{
    rml_queue_close(&channel->given);
    rml_queue_close(&channel->returned);
    rml_bell_close(&channel->bell);
    free(channel->blocks);
}

static int writer_set_up(struct rml_writer *w, struct rml_err *err)
{
    const struct rml_plan *plan = w->options.plan;
    w->output_count = rml_outputs_list(plan, w->outputs);
    size_t channel_bytes = w->options.workers * sizeof *w->channels;
    w->channels = aligned_alloc(_Alignof(struct channel), channel_bytes);
    if (w->channels == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for the writer of results");
    memset(w->channels, 0, channel_bytes);
    for (uint32_t i = 0; i < w->options.workers; i++)
        w->channels[i].bell = RML_BELL_CLOSED;
    w->progress = calloc((size_t)plan->source_count * plan->partitions, sizeof *w->progress);
    if (w->progress == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for the writer of results");
    for (size_t i = 0; i < (size_t)plan->source_count * plan->partitions; i++)
        w->progress[i] = RML_TIME_NONE;
    for (uint32_t s = 0; s < plan->source_count; s++)
        w->least[s] = RML_TIME_NONE;
    int rc = rml_bell_open(&w->wait.bell, err);
    for (uint32_t i = 0; i < w->options.workers && rc == 0; i++)
        rc = channel_open(&w->channels[i], w->options.blocks, err);
    for (uint32_t s = 0; s < plan->sink_count && rc == 0; s++) {
        if (plan->sinks[s].kind == RML_SINK_TABLE)
            table_open(w, &plan->sinks[s]);
        if (plan->sinks[s].kind == RML_SINK_RING || plan->sinks[s].kind == RML_SINK_TABLE)
            continue;
        rc = target_open(w, &w->targets[w->target_count], s, err);
        if (rc < 0)
            rc = RML_WRAP(err, rc, "sink %s", plan->sinks[s].name);
        else
            w->target_count++;
    }
    return rc;
}

int rml_writer_open(struct rml_writer **ret_writer, const struct rml_writer_options *options,
                    struct rml_err *err)
{
    struct rml_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for the writer of results");
    w->options = *options;
    w->marks_left = options->plan->partitions;
    w->wait.bell = RML_BELL_CLOSED;
    int rc = writer_set_up(w, err);
    if (rc < 0) {
        rml_writer_close(w);
        return rc;
    }
    *ret_writer = w;
    return 0;
}

bool rml_writer_wants(const struct rml_writer *w, uint32_t output)
{
    return output < w->output_count && w->wanted[output];
}

struct rml_result_block *rml_writer_take(struct rml_writer *w, uint32_t worker)
{
    struct channel *channel = &w->channels[worker];
    struct rml_result_block *block = channel->unused;
    if (block != NULL) {
        channel->unused = block->next;
        return block;
    }
    return rml_queue_take(&channel->returned, &block) ? block : NULL;
}

static bool is_watched_and_stuck(const struct rml_writer *w)
{
    // relaxed: nothing else is read by it
    bool is_stuck = atomic_load_explicit(&w->wait.stuck, memory_order_relaxed);
    return is_stuck && w->is_enough != NULL && !rml_file_wait_is_hurried(&w->wait);
}

void rml_writer_wait(struct rml_writer *w, uint32_t worker)
{
    struct channel *channel = &w->channels[worker];
    struct rml_result_block *block;
    rml_bell_expect(&channel->bell);
    if (rml_queue_take(&channel->returned, &block)) {
        rml_bell_awake(&channel->bell);
        rml_writer_put_back(w, worker, block);
        return;
    }
    if (is_watched_and_stuck(w) && w->is_enough(w->watch_context))
        rml_writer_hurry(w);
    rml_bell_wait(&channel->bell, w->is_enough != NULL ? WATCH_MS : -1);
}

void rml_writer_give(struct rml_writer *w, uint32_t worker, struct rml_result_block *block)
{
    RML_CHECK(rml_queue_give(&w->channels[worker].given, &block));  // holds all that there are
    rml_bell_ring(&w->wait.bell);
}

void rml_writer_mark(struct rml_writer *w, uint32_t worker, uint32_t partition)
{
    struct rml_result_block *block;
    while ((block = rml_writer_take(w, worker)) == NULL)
        rml_writer_wait(w, worker);
    block->partition = partition;
    block->output = RML_OUTPUTS_MAX;
    block->rows = 0;
    block->progress = RML_TIME_NONE;
    block->is_mark = true;
    rml_writer_give(w, worker, block);
}

uint64_t rml_writer_rounds(const struct rml_writer *w)
{
    // acquire: writer.notes
    return atomic_load_explicit(&w->rounds, memory_order_acquire);
}

int rml_writer_round(const struct rml_writer *w, struct rml_err *err)
{
    if (w->round.code < 0)
        *err = w->round;
    return w->round.code;
}

struct rml_writer_note rml_writer_note(const struct rml_writer *w, uint32_t sink)
{
    for (uint32_t t = 0; t < w->target_count; t++) {
        if (w->targets[t].index == sink)
            return rml_file_sink_note(w->targets[t].sink);
    }
    return (struct rml_writer_note){0};
}

struct rml_pile *rml_writer_pile(struct rml_writer *w)
{
    return &w->pile;
}

bool rml_writer_is_full(const struct rml_writer *w)
{
    return rml_pile_bytes(&w->pile) > RML_PILE_BYTES;
}

void rml_writer_put_back(struct rml_writer *w, uint32_t worker, struct rml_result_block *block)
{
    block->next = w->channels[worker].unused;
    w->channels[worker].unused = block;
}

/* ---- from here on: the writer's thread ---- */

static void put_held(struct rml_writer *w)
{
    for (uint32_t t = 0; t < w->target_count; t++)
        rml_file_sink_put_held(w->targets[t].sink);
}

static void put_merged(struct rml_writer *w, uint64_t sources)
{
    for (uint32_t t = 0; t < w->target_count; t++) {
        const struct target *target = &w->targets[t];
        if ((target->sources & sources) == 0)
            continue;
        int64_t before = RML_TIME_END;
        for (uint32_t s = 0; s < w->options.plan->source_count; s++) {
            if ((target->sources >> s & 1) != 0 && w->least[s] < before)
                before = w->least[s];
        }
        rml_file_sink_put_before(target->sink, before);
    }
}

static void note_progress(struct rml_writer *w, const struct rml_result_block *block)
{
    uint32_t partitions = w->options.plan->partitions;
    int64_t *progress = &w->progress[(size_t)block->source * partitions];
    if (block->progress <= progress[block->partition])
        return;
    bool was_least = progress[block->partition] == w->least[block->source];
    progress[block->partition] = block->progress;
    if (!was_least)
        return;
    int64_t least = progress[0];
    for (uint32_t p = 1; p < partitions; p++)
        least = progress[p] < least ? progress[p] : least;
    if (least <= w->least[block->source])
        return;
    w->least[block->source] = least;
    put_merged(w, UINT64_C(1) << block->source);
}

static void take_mark(struct rml_writer *w, uint32_t partition)
{
    w->marked[partition] = true;
    if (--w->marks_left > 0)
        return;
    w->marks_left = w->options.plan->partitions;
    w->round = (struct rml_err){0};
    for (uint32_t t = 0; t < w->target_count; t++)
        rml_file_sink_mark(w->targets[t].sink, &w->round);
    rml_pile_turn(&w->pile);
    memset(w->marked, 0, sizeof w->marked);
    put_held(w);
    // relaxed: this thread is the only writer
    uint64_t rounds = atomic_load_explicit(&w->rounds, memory_order_relaxed);
    // release: writer.notes
    atomic_store_explicit(&w->rounds, rounds + 1, memory_order_release);
    rml_bell_ring(w->options.marked);
}

static void pile_up(struct rml_writer *w, struct rml_result_block *block)
{
    bool was_low = rml_pile_bytes(&w->pile) <= RML_PILE_BYTES / 2;
    rml_pile_add(&w->pile, block, w->marked[block->partition]);
    if (was_low && rml_pile_bytes(&w->pile) > RML_PILE_BYTES / 2)
        rml_bell_ring(w->options.marked);
}

static void handle_block(struct rml_writer *w, struct rml_result_block *block)
{
    if (block->is_mark) {
        take_mark(w, block->partition);
        return;
    }
    if (block->rows > 0 && w->tabled[block->output])
        pile_up(w, block);
    for (uint32_t t = 0; t < w->target_count && block->rows > 0; t++) {
        const struct target *target = &w->targets[t];
        for (uint32_t f = 0; f < target->from_count; f++) {
            if (target->outputs[f] == block->output)
                rml_file_sink_add(target->sink, f, block, w->marked[block->partition]);
        }
    }
    if (w->options.merge && block->progress != RML_TIME_NONE)
        note_progress(w, block);
}

static bool drain_channels(struct rml_writer *w)
{
    bool any = false;
    for (uint32_t i = 0; i < w->options.workers; i++) {
        struct channel *channel = &w->channels[i];
        struct rml_result_block *block;
        while (rml_queue_take(&channel->given, &block)) {
            any = true;
            handle_block(w, block);
            RML_CHECK(rml_queue_give(&channel->returned, &block));
            rml_bell_ring(&channel->bell);
        }
    }
    return any;
}

static void flush_all(struct rml_writer *w)
{
    for (uint32_t t = 0; t < w->target_count; t++)
        rml_file_sink_flush(w->targets[t].sink);
}

static void put_the_rest(struct rml_writer *w)
{
    put_held(w);
    for (uint32_t s = 0; s < w->options.plan->source_count; s++)
        w->least[s] = RML_TIME_END;
    put_merged(w, UINT64_MAX);
    flush_all(w);
}

static void *writer_main(void *context)
{
    struct rml_writer *w = context;
    for (;;) {
        // acquire: writer.finish
        bool finishing = atomic_load_explicit(&w->finishing, memory_order_acquire);
        if (drain_channels(w))
            continue;
        if (finishing)
            break;
        flush_all(w);
        rml_bell_expect(&w->wait.bell);
        // acquire: writer.finish
        if (drain_channels(w) || atomic_load_explicit(&w->finishing, memory_order_acquire))
            rml_bell_awake(&w->wait.bell);
        else
            rml_bell_wait(&w->wait.bell, -1);
    }
    put_the_rest(w);
    return NULL;
}

int rml_writer_start(struct rml_writer *w, struct rml_err *err)
{
    // Signals are for the control thread, and a file too large or a closed pipe is an errno to us.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, writer_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return RML_FAIL(err, -rc, "starting the writer of results: %s", strerrordesc_np(rc));
    pthread_setname_np(w->thread, "rml-writer");
    w->started = true;
    return 0;
}

void rml_writer_watch(struct rml_writer *w, bool (*is_enough)(void *context), void *context)
{
    w->is_enough = is_enough;
    w->watch_context = context;
}

void rml_writer_hurry(struct rml_writer *w)
{
    // relaxed: nothing else is told by it
    atomic_store_explicit(&w->wait.hurried, true, memory_order_relaxed);
    rml_bell_ring(&w->wait.bell);
}

uint64_t rml_writer_finish(struct rml_writer *w)
{
    if (w->started) {
        // release: writer.finish
        atomic_store_explicit(&w->finishing, true, memory_order_release);
        rml_bell_ring(&w->wait.bell);
        pthread_join(w->thread, NULL);
        w->started = false;
    }
    uint64_t lost = 0;
    for (uint32_t t = 0; t < w->target_count; t++)
        lost += rml_file_sink_lost(w->targets[t].sink);
    return lost;
}

void rml_writer_close(struct rml_writer *w)
{
    if (w == NULL)
        return;
    rml_writer_finish(w);
    for (uint32_t t = 0; t < w->target_count; t++)
        rml_file_sink_close(w->targets[t].sink);
    for (uint32_t i = 0; w->channels != NULL && i < w->options.workers; i++)
        channel_close(&w->channels[i]);
    rml_pile_fini(&w->pile);
    rml_bell_close(&w->wait.bell);
    free(w->channels);
    free(w->progress);
    free(w);
}
