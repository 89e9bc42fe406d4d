#include <errno.h>
#include <sched.h>
#include <stdio.h>

#include "runtime/base/check.h"
#include "runtime/control/engine_state.h"
#include "runtime/observe/memory.h"

#define END_TRIES     30u  // a second apart, to save the end
#define STUCK_LOOK_MS 100  // while a stop waits for what is on its way to the journal

void rml_engine_tell(struct rml_engine *engine, const struct rml_worker_message *message)
{
    for (uint32_t i = 0; i < engine->plan->workers && engine->workers[i] != NULL; i++) {
        while (!rml_worker_tell(engine->workers[i], message))
            sched_yield();  // the worker reads its messages every round
    }
}

/* Checkpoints */

static void begin_checkpoint(struct rml_engine *engine, bool is_last, enum rml_board_wanted why)
{
    rml_saves_begun(&engine->saves, why);
    engine->end_tries += is_last;
    engine->begun = rml_checkpointer_begin(engine->checkpointer, is_last);
    engine->turns++;
    engine->is_asked = false;
    engine->saving = true;
    engine->is_last = is_last;
    const struct rml_worker_message message = {.kind = RML_WORKER_SAVE, .number = engine->begun};
    rml_engine_tell(engine, &message);
}

static void checkpoint_done(struct rml_engine *engine, const struct rml_checkpointer_news *news)
{
    engine->saving = false;
    rml_saves_done(&engine->saves, news);
    bool is_given_up = news->rc < 0 && engine->end_tries >= END_TRIES;
    engine->ended |= engine->is_last && (news->rc == 0 || is_given_up);
    engine->is_unsaved = news->rc < 0;
    const struct rml_worker_message message = {.kind = news->rc == 0 ? RML_WORKER_SAVED
                                                                     : RML_WORKER_UNSAVED};
    rml_engine_tell(engine, &message);
    for (uint32_t i = 0; news->rc == 0 && i < engine->plan->lanes_max; i++) {
        const struct engine_lane *lane = &engine->lanes[i];
        if (lane->in == NULL || !lane->is_done || lane->covered_by > news->number)
            continue;
        rml_lane_in_all_durable(lane->in);  // one that was cut off may wait for that
        rml_engine_free_lane(engine, i);
    }
    const struct rml_engine_saved saved = {.turn = engine->turns,
                                           .rc = news->rc,
                                           .epoch = news->epoch,
                                           .bytes = news->bytes,
                                           .took_ns = news->took_ns};
    if (engine->options.saved != NULL)
        engine->options.saved(engine->options.saved_context, &saved);
}

uint64_t rml_engine_save(struct rml_engine *engine)
{
    if (engine->checkpointer == NULL)
        return 0;
    engine->is_asked = true;
    return engine->turns + 1;
}

// Once all sources have ended there is one more, which says so. Where it fails it is tried again: whoever
// runs the pipeline next goes on from the last, and has rows that are out already cut off.
static void see_to_checkpoints(struct rml_engine *engine)
{
    struct rml_checkpointer_news news;
    bool is_due = false;
    enum rml_board_wanted why = RML_BOARD_WANTED_ASKED;
    if (engine->journaler != NULL && rml_journaler_wants_checkpoint(engine->journaler))
        rml_checkpointer_want(engine->checkpointer, RML_BOARD_WANTED_JOURNAL);
    while (rml_checkpointer_hear(engine->checkpointer, &news)) {
        if (news.kind == RML_CHECKPOINTER_DONE)
            checkpoint_done(engine, &news);
        else if (!is_due) {
            is_due = true;
            why = news.wanted_by;
        }
    }
    bool is_end = engine->ending && engine->sources_left == 0;
    if (engine->is_asked) {  // perhaps by somebody who was just told of the last
        is_due = true;
        why = RML_BOARD_WANTED_ASKED;
    }
    bool is_first = is_end && engine->end_tries == 0;
    if (!engine->saving && !engine->ended && (is_first || is_due))
        begin_checkpoint(engine, is_end, is_end ? RML_BOARD_WANTED_END : why);
}

static void lane_faulty(struct rml_engine *engine, uint32_t index)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (lane->finishing)
        return;
    const char *fault = rml_lane_in_fault(lane->in);
    char sentence[192];
    snprintf(sentence, sizeof sentence, "lane %u of source %s: %s; the lane is closed", index,
             engine->plan->sources[lane->source].name,
             fault != NULL ? fault : "its positions cannot be true");
    if (engine->options.complain != NULL)
        engine->options.complain(engine->options.complain_context, sentence);
    rml_count(&engine->board.live->gate.value[RML_GATE_faulty_lanes], 1);
    rml_engine_cut_off(engine, index, EPROTO,
                       fault != NULL ? fault : "positions that cannot be true");
}

static void unlistened(struct rml_engine *engine, uint32_t slot)
{
    struct engine_listener *listener = &engine->listeners[slot];
    if (--listener->workers_left > 0)
        return;
    listener->listener = NULL;
    if (engine->options.listener_done != NULL)
        engine->options.listener_done(engine->options.listener_context, slot);
}

// Once a draining engine has no lane left.
static void end_sources(struct rml_engine *engine)
{
    if (!engine->draining || engine->ending || engine->lane_count > 0)
        return;
    engine->ending = true;
    engine->sources_left = engine->plan->source_count * engine->plan->workers;
    for (uint32_t s = 0; s < engine->plan->source_count; s++) {
        const struct rml_worker_message message = {.kind = RML_WORKER_END, .source = s};
        rml_engine_tell(engine, &message);
    }
}

void rml_engine_poll(struct rml_engine *engine)
{
    struct rml_worker_report news;
    for (uint32_t i = 0; i < engine->plan->workers; i++) {
        while (rml_worker_hear(engine->workers[i], &news)) {
            switch ((enum rml_worker_report_kind)news.kind) {
            case RML_WORKER_LANE_DONE:
                rml_engine_lane_done(engine, news.index, news.published);
                break;
            case RML_WORKER_LANE_FAULTY:
                lane_faulty(engine, news.index);
                break;
            case RML_WORKER_SOURCE_DONE:
                engine->sources_left--;
                break;
            case RML_WORKER_WANTS_SAVING:
                rml_checkpointer_want(engine->checkpointer, news.index != 0
                                                                ? RML_BOARD_WANTED_SCHEDULE
                                                                : RML_BOARD_WANTED_LANE);
                break;
            case RML_WORKER_FULL:
                rml_saves_full(&engine->saves, news.source);
                break;
            case RML_WORKER_OWNERS_SEEN:
                rml_engine_owners_seen(engine, news.index);
                break;
            case RML_WORKER_UNLISTENED:
                unlistened(engine, news.index);
                break;
            }
        }
    }
    end_sources(engine);
    if (engine->checkpointer != NULL)
        see_to_checkpoints(engine);
}

int rml_engine_fd(const struct rml_engine *engine)
{
    return engine->bell.fd;
}

void rml_engine_sleep_begin(struct rml_engine *engine)
{
    rml_bell_expect(&engine->bell);
}

void rml_engine_sleep_end(struct rml_engine *engine)
{
    rml_bell_awake(&engine->bell);
}

bool rml_engine_keeps_lanes(const struct rml_engine *engine)
{
    if (engine->checkpointer == NULL)
        return false;
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++) {
        const struct engine_lane *lane = &engine->lanes[i];
        if (lane->in != NULL && (lane->is_done || lane->finishing))
            return true;
    }
    return false;
}

uint32_t rml_engine_lane_count(const struct rml_engine *engine)
{
    return engine->lane_count;
}

void rml_engine_drain_begin(struct rml_engine *engine)
{
    RML_CHECK(engine->started && !engine->stopped);
    if (engine->draining)
        return;
    engine->draining = true;
    rml_board_to_end(&engine->board, RML_BOARD_DRAIN);
    rml_board_say(&engine->board, RML_BOARD_DRAINING);
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++)
        rml_engine_cut_off(engine, i, ESHUTDOWN, "the pipeline drains");
    end_sources(engine);
}

bool rml_engine_is_drained(const struct rml_engine *engine)
{
    return engine->ending && engine->sources_left == 0
           && (engine->checkpointer == NULL || engine->ended);
}

void rml_engine_drain(struct rml_engine *engine)
{
    rml_engine_drain_begin(engine);
    for (;;) {
        // What a worker reports from here on rings; what it reported before is seen by this poll.
        rml_bell_expect(&engine->bell);
        rml_engine_poll(engine);
        if (rml_engine_is_drained(engine))
            break;
        rml_bell_wait(&engine->bell, -1);
    }
    rml_bell_awake(&engine->bell);
}

// What is on its way to a journal that fails may never be taken, and a stop does not wait for that.
static bool is_hopeless(const struct rml_engine *engine)
{
    return engine->journaler != NULL
           && (rml_journaler_is_stuck(engine->journaler) || engine->is_unsaved);
}

// What producers of a shared lane have in its rings counts as published once it is in the lane's log.
static bool has_more_to_take_over(const struct rml_engine *engine)
{
    bool any = false;
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++) {
        const struct engine_lane *lane = &engine->lanes[i];
        any |= lane->in != NULL && !lane->is_done && rml_lane_in_owners(lane->in) != NULL;
    }
    return any;
}

// Nobody has these records but the lanes, which end with the run.
static void see_what_is_left(struct rml_engine *engine)
{
    static struct rml_board_totals totals;
    uint64_t left = 0;
    rml_engine_totals(engine, &totals);
    for (uint32_t s = 0; s < engine->plan->source_count; s++)
        left += totals.published[s] - totals.source[s][RML_SOURCE_taken];
    bool may_be_more = has_more_to_take_over(engine);
    if (left == 0 && !may_be_more)
        return;
    engine->is_left = true;
    rml_saves_end_left(&engine->saves, left, may_be_more);
}

// Whoever runs the pipeline again goes on from here: take what was published, and save it.
static void save_all(struct rml_engine *engine)
{
    engine->is_unsaved = false;  // what failed before may work by now
    for (bool begun = false;;) {
        rml_bell_expect(&engine->bell);
        rml_engine_poll(engine);
        if (begun && !engine->saving)
            break;  // durable or not: it was tried, and what went wrong was said
        bool is_taken = engine->lane_count == 0 || is_hopeless(engine);
        if (!begun && is_taken && !engine->saving) {
            begin_checkpoint(engine, false, RML_BOARD_WANTED_END);
            begun = true;
        }
        rml_bell_wait(&engine->bell, engine->journaler != NULL ? STUCK_LOOK_MS : -1);
    }
    rml_bell_awake(&engine->bell);
    if (engine->journaler != NULL)
        see_what_is_left(engine);
}

uint64_t rml_engine_stop(struct rml_engine *engine)
{
    if (engine->stopped)
        return engine->lost;
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++)
        rml_engine_cut_off(engine, i, ESHUTDOWN, "the pipeline stops");
    if (engine->writer_started)
        rml_writer_hurry(engine->writer);  // a worker may wait for it, and it for room on a disk
    if (engine->checkpointer != NULL && engine->started && !engine->draining)
        save_all(engine);
    bool is_cut_short = engine->draining && !rml_engine_is_drained(engine);
    if (engine->checkpointer != NULL && engine->started && (engine->is_unsaved || is_cut_short)) {
        engine->is_unsaved = true;
        rml_saves_end_unsaved(&engine->saves);
    }
    engine->stopped = true;
    const struct rml_worker_message message = {.kind = RML_WORKER_STOP};
    // a start that failed half-way leaves some workers running
    rml_engine_tell(engine, &message);
    rml_journaler_stop(engine->journaler);
    for (uint32_t i = 0; i < engine->plan->workers; i++) {
        rml_worker_close(engine->workers[i]);
        engine->workers[i] = NULL;
    }
    if (engine->writer_started)
        engine->lost = rml_writer_finish(engine->writer);
    rml_engine_refresh(engine);
    rml_board_say(&engine->board, RML_BOARD_ENDED);
    return engine->lost;
}

bool rml_engine_is_saved(const struct rml_engine *engine)
{
    return !engine->is_unsaved && !engine->is_left;
}

/* What others see */

struct rml_board *rml_engine_board(struct rml_engine *engine)
{
    return &engine->board;
}

void rml_engine_refresh(struct rml_engine *engine)
{
    struct rml_memory memory;
    rml_memory_look(&memory);
    rml_board_memory(&engine->board, &memory);
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++) {
        if (engine->lanes[i].in != NULL)
            rml_engine_show_lane(engine, i);
    }
}

void rml_engine_totals(struct rml_engine *engine, struct rml_board_totals *ret_totals)
{
    rml_engine_refresh(engine);
    rml_board_total(&engine->board, ret_totals);
}

const struct rml_rings *rml_engine_rings(const struct rml_engine *engine)
{
    return &engine->rings;
}

int rml_engine_listen(struct rml_engine *engine, const struct rml_listener *listener,
                      uint32_t *ret_slot)
{
    uint32_t slot = 0;
    while (slot < RML_LISTENERS_MAX && engine->listeners[slot].listener != NULL)
        slot++;
    if (slot == RML_LISTENERS_MAX)
        return -EMFILE;
    engine->listeners[slot] = (struct engine_listener){listener, engine->plan->workers};
    const struct rml_worker_message message = {
        .kind = RML_WORKER_LISTEN, .index = slot, .listener = listener};
    rml_engine_tell(engine, &message);
    *ret_slot = slot;
    return 0;
}

void rml_engine_unlisten(struct rml_engine *engine, uint32_t slot)
{
    const struct rml_worker_message message = {.kind = RML_WORKER_UNLISTEN, .index = slot};
    rml_engine_tell(engine, &message);
}
