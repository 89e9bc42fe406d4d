/*
 * THE PARTITION
 *
 * A batch step is taken in runs. The watermark of the partition is the least of its lanes' clocks,
 * less what the source allows in disorder; it moves while records are taken. What a stage does with
 * a record depends on the watermark only through the stage's deadlines (a window's end, the end of
 * its lateness), so a stretch of records during which no deadline is passed can be taken as one:
 *
 *     clock    ... 7  8  8  9 | 10  9 11 11 | 12 ...
 *                             ^ the watermark passes a deadline here: the run ends with this record,
 *                               windows fire, the next run begins
 *
 * A record that moves the watermark is taken before it moves, and a mark moves it before the record
 * that it stands at; both are what would happen were records taken one at a time.
 *
 * A session's end moves with the records themselves. Stages of such windows are told the watermark
 * before each record and cut no runs.
 *
 * A step says up to which time its records, and what the lane vouches for, are believed. What lies
 * behind it is as if it were not there, but for being counted: it moves no clock.
 */
#include "runtime/partition/partition.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/partition/emit.h"
#include "runtime/partition/operator.h"
#include "runtime/partition/tree.h"
#include "runtime/state/pages.h"
#include "runtime/state/restored.h"
#include "runtime/state/room.h"
#include "runtime/state/roots.h"
#include "runtime/state/snapshot.h"
#include "runtime/time/time.h"

#define LANES_END 65536u  // steps name lanes in 16 bits

struct lane {
    bool attached;
    bool idle;
    bool active;    // something came since the last tick
    bool by_marks;  // records do not move its clock: they are several producers'
    uint32_t source;
    int64_t clock;        // greatest event time that this partition knows of
    int64_t active_tick;  // the last tick that found it active
    uint64_t serial;      // of the lane that was attached last under this number
    uint64_t taken;       // records of that
};

struct source {
    const struct rml_plan_source *plan;
    struct rml_tree tree;
    int64_t watermark;
    int64_t deadline;  // least watermark at which a stage acts
    int64_t cut;       // the same of the stages that runs are cut for
    uint32_t lane_count;
};

struct rml_partition {
    const struct rml_plan *plan;
    struct rml_pages pages;
    struct rml_emit emit;
    uint32_t lanes_max;
    struct lane *lanes;
    struct source *sources;
    int64_t tick;                    // the steady clock as the last tick said
    uint64_t steps;                  // ever taken
    struct rml_tree_found restored;  // which stages were
    int64_t time[RML_BATCH_ROWS];
    int64_t clock[RML_BATCH_ROWS];
    int64_t judge[RML_BATCH_ROWS];
};

static int64_t lane_watermark(const struct source *source, const struct lane *lane)
{
    return lane->clock == RML_TIME_NONE ? RML_TIME_NONE
                                        : rml_time_sub(lane->clock, source->plan->out_of_order_ns);
}

/*
 * The least watermark over the lanes of `source` that are not idle, leaving out lane `except`;
 * RML_TIME_END when there is none.
 */
static int64_t least_watermark(const struct rml_partition *p, uint32_t source, uint32_t except)
{
    int64_t least = RML_TIME_END;
    for (uint32_t i = 0; i < p->lanes_max; i++) {
        const struct lane *lane = &p->lanes[i];
        if (!lane->attached || lane->source != source || lane->idle || i == except)
            continue;
        int64_t w = lane_watermark(&p->sources[source], lane);
        least = w < least ? w : least;
    }
    return least;
}

static void step_end(struct rml_partition *p, uint32_t source_index)
{
    struct source *source = &p->sources[source_index];
    rml_count_set(&source->tree.counts[RML_SOURCE_watermark], (uint64_t)source->watermark);
    rml_emit_step_end(&p->emit, source_index, rml_tree_settled(&source->tree, source->watermark));
}

static void find_deadlines(struct source *source)
{
    source->deadline = rml_tree_deadline(&source->tree, source->watermark, false);
    source->cut = rml_tree_deadline(&source->tree, source->watermark, true);
}

static void advance(struct rml_partition *p, uint32_t source_index, int64_t watermark)
{
    struct source *source = &p->sources[source_index];
    if (watermark <= source->watermark)
        return;
    source->watermark = watermark;
    if (watermark < source->deadline)
        return;
    rml_tree_advance(&source->tree, watermark);
    find_deadlines(source);
}

// When every lane is idle the furthest of them decides, so that a pause of all does not hold results.
static void advance_from_lanes(struct rml_partition *p, uint32_t source_index)
{
    int64_t least = least_watermark(p, source_index, UINT32_MAX);
    if (least == RML_TIME_END) {
        least = RML_TIME_NONE;
        for (uint32_t i = 0; i < p->lanes_max; i++) {
            const struct lane *lane = &p->lanes[i];
            if (!lane->attached || lane->source != source_index)
                continue;
            int64_t w = lane_watermark(&p->sources[source_index], lane);
            least = w > least ? w : least;
        }
    }
    advance(p, source_index, least);
}

// What a batch step works on: one lane's view while records go by.
struct taking {
    struct rml_partition *p;
    struct source *source;
    struct lane *lane;
    uint32_t source_index;
    int64_t others;                // least watermark of the other lanes
    int64_t latest;                // time behind which nothing is believed
    const unsigned char *records;  // of the present chunk
    uint32_t left;                 // rows of the step behind it
    const struct rml_mark *marks;
    uint32_t mark_count, mark_next;
    uint32_t mark_base;  // row of the step at which the present chunk begins
};

static int64_t watermark_at(const struct taking *t, int64_t clock)
{
    int64_t own = clock == RML_TIME_NONE ? RML_TIME_NONE
                                         : rml_time_sub(clock, t->source->plan->out_of_order_ns);
    return own < t->others ? own : t->others;
}

static void run(struct taking *t, uint32_t from, uint32_t to)
{
    if (from == to)
        return;
    struct rml_partition *p = t->p;
    size_t record_bytes = t->source->plan->schema.record_bytes;
    const struct rml_tree_run tree_run = {
        .records = t->records + from * record_bytes,
        .ahead = t->left >= RML_BATCH_ROWS ? t->records + RML_BATCH_ROWS * record_bytes : NULL,
        .rows = to - from,
        .watermark = t->source->watermark,
        .time = p->time + from,
        .clock = t->source->tree.wants_clock ? p->clock + from : NULL,
        .judge = t->source->tree.by_row ? p->judge + from : NULL,
        .latest = t->latest,
    };
    rml_tree_take(&t->source->tree, &tree_run);
    if (t->source->tree.by_row)
        find_deadlines(t->source);  // new ones have come with the records
}

// The greatest of those that are believed; RML_TIME_NONE when none is.
static int64_t greatest(const int64_t *values, uint32_t count, int64_t latest)
{
    int64_t most = RML_TIME_NONE;
    for (uint32_t i = 0; i < count; i++)
        most = values[i] <= latest && values[i] > most ? values[i] : most;
    return most;
}

// What a clock shows once it has been told of a time.
static int64_t told(int64_t clock, int64_t time, int64_t latest)
{
    return time > clock && time <= latest ? time : clock;
}

// A chunk in which the watermark may pass a deadline, or whose rows want their clocks: row by row.
static void take_watching(struct taking *t, uint32_t rows)
{
    struct rml_partition *p = t->p;
    int64_t clock = t->lane->clock;
    uint32_t from = 0;
    for (uint32_t i = 0; i < rows; i++) {
        while (t->mark_next < t->mark_count && t->marks[t->mark_next].row == t->mark_base + i) {
            clock = told(clock, t->marks[t->mark_next++].time, t->latest);
            if (watermark_at(t, clock) >= t->source->cut) {
                run(t, from, i);
                from = i;
                advance(p, t->source_index, watermark_at(t, clock));
            }
        }
        int64_t judge = watermark_at(t, clock);
        p->judge[i] = judge > t->source->watermark ? judge : t->source->watermark;
        p->clock[i] = told(clock, p->time[i], t->latest);
        if (!t->lane->by_marks)
            clock = p->clock[i];
        if (watermark_at(t, clock) >= t->source->cut) {
            run(t, from, i + 1);
            from = i + 1;
            advance(p, t->source_index, watermark_at(t, clock));
        }
    }
    run(t, from, rows);
    t->lane->clock = clock;
    advance(p, t->source_index, watermark_at(t, clock));
}

static void take_chunk(struct taking *t, uint32_t rows)
{
    struct rml_partition *p = t->p;
    const struct rml_schema *schema = &t->source->plan->schema;
    const unsigned char *at = t->records + schema->fields[t->source->plan->time_field].offset;
    for (uint32_t i = 0; i < rows; i++)
        memcpy(&p->time[i], at + (size_t)i * schema->record_bytes, sizeof p->time[i]);

    uint32_t mark_end = t->mark_next;
    int64_t clock = t->lane->by_marks ? RML_TIME_NONE : greatest(p->time, rows, t->latest);
    clock = clock > t->lane->clock ? clock : t->lane->clock;
    while (mark_end < t->mark_count && t->marks[mark_end].row < t->mark_base + rows) {
        clock = told(clock, t->marks[mark_end].time, t->latest);
        mark_end++;
    }
    if (t->source->tree.wants_clock || t->source->tree.by_row
        || watermark_at(t, clock) >= t->source->cut) {
        take_watching(t, rows);
        return;
    }
    run(t, 0, rows);
    t->mark_next = mark_end;
    t->lane->clock = clock;
    advance(p, t->source_index, watermark_at(t, clock));
}

static int take_batch(struct rml_partition *p, const struct rml_step *step,
                      const struct rml_step_input *input)
{
    if (step->lane >= p->lanes_max || !p->lanes[step->lane].attached
        || step->count > (uint32_t)INT32_MAX)
        return -EPROTO;
    struct lane *lane = &p->lanes[step->lane];
    struct source *source = &p->sources[lane->source];
    uint32_t record_bytes = source->plan->schema.record_bytes;
    struct taking t = {
        .p = p,
        .source = source,
        .lane = lane,
        .source_index = lane->source,
        .latest = step->latest != 0 ? step->latest : RML_TIME_END,
    };
    lane->idle = false;  // from now on it holds the watermark back again
    lane->active = true;
    t.others = least_watermark(p, lane->source, step->lane);
    if (step->count > 0) {
        t.records = input->records;
        t.marks = input->marks;
        t.mark_count = input->mark_count;
    }
    for (uint32_t done = 0; done < step->count;) {
        uint32_t rows = step->count - done;
        rows = rows < RML_BATCH_ROWS ? rows : RML_BATCH_ROWS;
        done += rows;
        t.left = step->count - done;
        take_chunk(&t, rows);
        t.mark_base = done;
        t.records += (size_t)rows * record_bytes;
    }
    lane->clock = told(lane->clock, step->time, t.latest);
    lane->taken += step->count;
    advance_from_lanes(p, lane->source);
    step_end(p, lane->source);
    return (int)step->count;
}

static int attach(struct rml_partition *p, const struct rml_step *step)
{
    uint32_t index = step->lane, source = step->count;
    if (index >= p->lanes_max || source >= p->plan->source_count || p->lanes[index].attached)
        return -EPROTO;
    p->lanes[index] = (struct lane){.attached = true,
                                    .active = true,
                                    .by_marks = step->time == 1,
                                    .source = source,
                                    .clock = RML_TIME_NONE,
                                    .active_tick = p->tick,
                                    .serial = step->serial};
    p->sources[source].lane_count++;
    return 0;
}

static int detach(struct rml_partition *p, uint32_t index)
{
    if (index >= p->lanes_max || !p->lanes[index].attached)
        return -EPROTO;
    uint32_t source = p->lanes[index].source;
    // It has vouched for its last time: what the others allow counts, and nothing without others.
    int64_t own = lane_watermark(&p->sources[source], &p->lanes[index]);
    p->lanes[index].attached = false;
    p->sources[source].lane_count--;
    if (p->sources[source].lane_count > 0)
        advance_from_lanes(p, source);
    else
        advance(p, source, own);
    step_end(p, source);
    return 0;
}

static int end(struct rml_partition *p, uint32_t source)
{
    if (source >= p->plan->source_count)
        return -EPROTO;
    advance(p, source, RML_TIME_END);
    step_end(p, source);
    return 0;
}

// The wall clock may be set. How long a lane has been silent is therefore the steady clock's to say.
static int tick(struct rml_partition *p, int64_t wall_ns, int64_t steady_ns)
{
    p->tick = steady_ns;
    for (uint32_t i = 0; i < p->lanes_max; i++) {
        struct lane *lane = &p->lanes[i];
        if (!lane->attached)
            continue;
        int64_t idle_after = p->sources[lane->source].plan->idle_after_ns;
        if (lane->active) {
            lane->active = false;
            lane->active_tick = steady_ns;
        } else if (idle_after > 0 && rml_time_sub(steady_ns, lane->active_tick) >= idle_after) {
            lane->idle = true;
        }
    }
    for (uint32_t s = 0; s < p->plan->source_count; s++) {
        struct source *source = &p->sources[s];
        if (source->lane_count > 0)
            advance_from_lanes(p, s);
        rml_tree_tick(&source->tree, wall_ns, source->watermark);
        step_end(p, s);
    }
    return 0;
}

static int take_step(struct rml_partition *p, const struct rml_step *step,
                     const struct rml_step_input *input)
{
    switch ((enum rml_step_kind)step->kind) {
    case RML_STEP_BATCH:
        return take_batch(p, step, input);
    case RML_STEP_TICK:
        return tick(p, step->time, step->steady_ns);
    case RML_STEP_ATTACH:
        return attach(p, step);
    case RML_STEP_DETACH:
        return detach(p, step->lane);
    case RML_STEP_END:
        return end(p, step->count);
    }
    return -EPROTO;
}

int rml_partition_step(struct rml_partition *p, const struct rml_step *step,
                       const struct rml_step_input *input)
{
    int rc = take_step(p, step, input);
    p->steps += rc >= 0;
    return rc;
}

uint64_t rml_partition_steps(const struct rml_partition *p)
{
    return p->steps;
}

uint64_t rml_partition_next_row(const struct rml_partition *p, uint32_t output)
{
    return p->emit.next_seq[output];
}

struct rml_partition_lane rml_partition_lane(const struct rml_partition *p, uint32_t index)
{
    if (index >= p->lanes_max)
        return (struct rml_partition_lane){0};
    const struct lane *lane = &p->lanes[index];
    return (struct rml_partition_lane){.attached = lane->attached,
                                       .source = lane->source,
                                       .serial = lane->serial,
                                       .taken = lane->taken};
}

bool rml_partition_vouch_due(const struct rml_partition *p, uint16_t lane_index, int64_t time)
{
    if (lane_index >= p->lanes_max || !p->lanes[lane_index].attached)
        return false;
    const struct lane *lane = &p->lanes[lane_index];
    if (time <= lane->clock)
        return false;
    const struct source *source = &p->sources[lane->source];
    if (lane->idle || p->emit.door.announce_progress)
        return true;
    // Keeping a quiet partition from looking idle matters once a tick has gone by without news.
    if (source->plan->idle_after_ns > 0 && !lane->active)
        return true;
    int64_t others = least_watermark(p, lane->source, lane_index);
    int64_t own = rml_time_sub(time, source->plan->out_of_order_ns);
    return (own < others ? own : others) >= source->deadline;
}

int64_t rml_partition_watermark(const struct rml_partition *p, uint32_t source)
{
    return source < p->plan->source_count ? p->sources[source].watermark : RML_TIME_NONE;
}

uint64_t rml_partition_taken(const struct rml_partition *p, uint32_t source)
{
    return source < p->plan->source_count
               ? rml_count_read(&p->sources[source].tree.counts[RML_SOURCE_taken])
               : 0;
}

/* Snapshots */

/* What of a source is walked. */
struct source_part {
    struct rml_partition *p;
    uint32_t source;
};

static void source_roots(void *context, struct rml_roots *roots)
{
    const struct source_part *part = context;
    struct source *source = &part->p->sources[part->source];
    RML_ROOTS_WALK(roots, source->watermark);
    RML_ROOTS_WALK(roots, part->p->emit.announced[part->source]);
    rml_tree_roots(&source->tree, roots, &part->p->restored);
}

static void write_sources(struct rml_partition *p, struct rml_roots *roots)
{
    for (uint32_t s = 0; s < p->plan->source_count; s++) {
        struct source_part part = {p, s};
        rml_roots_name(roots, p->plan->sources[s].name);
        rml_roots_part(roots, source_roots, &part);
    }
}

// Which of the plan's sources each is: UINT32_MAX: none.
static void read_sources(struct rml_partition *p, struct rml_roots *roots, uint32_t count,
                         uint32_t now[RML_SOURCES_MAX])
{
    for (uint32_t i = 0; i < count && roots->rc == 0; i++) {
        char name[RML_ROOTS_NAME_BYTES];
        rml_roots_read_name(roots, name);
        now[i] = rml_plan_source_find(p->plan, name);
        struct source_part part = {p, now[i]};
        rml_roots_part(roots, now[i] != UINT32_MAX ? source_roots : NULL, &part);
    }
}

// Lanes of sources that are gone, and beyond the lanes that there can be now, are gone too.
static void walk_lanes(struct rml_partition *p, struct rml_roots *roots, uint32_t source_count,
                       const uint32_t now[RML_SOURCES_MAX])
{
    uint32_t count = p->lanes_max;
    rml_roots_count(roots, &count, LANES_END);
    for (uint32_t i = 0; i < count && roots->rc == 0; i++) {
        struct lane lane = i < p->lanes_max ? p->lanes[i] : (struct lane){0};
        RML_ROOTS_WALK(roots, lane);
        if (!rml_roots_have(roots) || i >= p->lanes_max)
            continue;
        lane.source = lane.source < source_count ? now[lane.source] : UINT32_MAX;
        lane.attached = lane.attached && lane.source != UINT32_MAX;
        p->lanes[i] = lane;
        if (lane.attached)
            p->sources[lane.source].lane_count++;
    }
}

static void walk_roots(struct rml_partition *p, struct rml_roots *roots)
{
    uint32_t now[RML_SOURCES_MAX], source_count = p->plan->source_count;
    rml_pages_roots(&p->pages, roots);
    RML_ROOTS_WALK(roots, p->tick);
    RML_ROOTS_WALK(roots, p->steps);
    rml_roots_count(roots, &source_count, RML_SOURCES_MAX);
    if (roots->reads)
        read_sources(p, roots, source_count, now);
    else
        write_sources(p, roots);
    walk_lanes(p, roots, source_count, now);
    rml_emit_roots(&p->emit, roots);
}

void rml_partition_snapshot(struct rml_partition *p, uint64_t number,
                            const struct rml_snapshot_sink *sink, uint32_t *ret_needs)
{
    struct rml_roots counting = {0}, writing = {.sink = sink};
    walk_roots(p, &counting);
    *ret_needs = rml_snapshot_begin(&p->pages, number, sink);
    const struct rml_snapshot_head head = {.magic = RML_SNAPSHOT_MAGIC,
                                           .number = number,
                                           .root_bytes = counting.bytes,
                                           .needs = *ret_needs,
                                           .page_count = p->pages.fresh};
    sink->put(sink->context, &head, sizeof head);
    walk_roots(p, &writing);
    RML_CHECK(writing.bytes == counting.bytes);
}

bool rml_partition_copy(struct rml_partition *p, uint32_t granules)
{
    return rml_snapshot_copy(&p->pages, granules);
}

void rml_partition_abandon(struct rml_partition *p)
{
    rml_snapshot_abandon(&p->pages);
}

static int read_roots(struct rml_partition *p, const unsigned char *bytes, size_t count)
{
    struct rml_roots roots = {.reads = true, .from = bytes, .left = count};
    walk_roots(p, &roots);
    return roots.rc == 0 && roots.left > 0 ? -EBADMSG : roots.rc;
}

void rml_partition_renew(struct rml_partition *p, uint64_t renewed)
{
    p->restored.renewed = renewed;
}

// It is known by now what changes: what is given back and begun anew is in the next snapshot.
static int renew_stages(struct rml_partition *p, struct rml_err *err)
{
    int rc = 0;
    rml_pages_pass_on(&p->pages, p->restored.owners);
    for (uint32_t s = 0; rc == 0 && s < p->plan->source_count; s++) {
        struct source *source = &p->sources[s];
        rc = rml_tree_renew(&source->tree, p->restored.found, source->watermark, err);
        if (rc < 0)
            return RML_WRAP(err, rc, "source %s", source->plan->name);
        find_deadlines(source);
    }
    return 0;
}

int rml_partition_restore(struct rml_partition *p, struct rml_restored *restored,
                          struct rml_err *err)
{
    bool tracks = p->pages.changed != NULL;
    RML_CHECK(restored->pages.limit == p->pages.limit);
    rml_pages_close(&p->pages);
    p->pages = restored->pages;
    restored->pages = (struct rml_pages){0};
    const struct rml_snapshot_head *head = &restored->head;
    if (read_roots(p, restored->roots, head->root_bytes) < 0)
        return RML_FAIL(err, -EBADMSG,
                        "the snapshot is of another pipeline, or of another version");
    int rc = tracks ? rml_snapshot_track(&p->pages, err) : 0;
    if (rc == 0 && tracks)
        rml_snapshot_go_on(&p->pages, head->number, head->needs, restored->have);
    return rc == 0 ? renew_stages(p, err) : rc;
}

int rml_partition_open(struct rml_partition **ret_partition, const struct rml_plan *plan,
                       const struct rml_operators *operators,
                       const struct rml_partition_options *options, struct rml_err *err)
{
    int rc = -ENOMEM;
    struct rml_partition *p = calloc(1, sizeof *p);
    if (p == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a partition");
    p->plan = plan;
    p->lanes_max = options->lanes_max;
    p->tick = RML_TIME_NONE;
    p->lanes = calloc(options->lanes_max, sizeof *p->lanes);
    p->sources = calloc(plan->source_count, sizeof *p->sources);
    if (p->lanes == NULL || p->sources == NULL) {
        rml_err_set(err, rc, "no memory for a partition");
        goto fail;
    }
    rc = rml_pages_open(&p->pages, plan->state_bytes_max, err);
    if (rc == 0 && options->snapshots)
        rc = rml_snapshot_track(&p->pages, err);
    if (rc < 0)
        goto fail;
    rml_emit_init(&p->emit, plan, options->index, &options->door);
    if (options->next_seq != NULL)
        memcpy(p->emit.next_seq, options->next_seq, sizeof p->emit.next_seq);
    for (uint32_t s = 0; s < plan->source_count; s++) {
        struct source *source = &p->sources[s];
        source->plan = &plan->sources[s];
        source->watermark = RML_TIME_NONE;
        const struct rml_tree_options tree = {
            .plan = plan,
            .source = s,
            .partition = options->index,
            .operators = operators,
            .pages = &p->pages,
            .emit = &p->emit,
            .stage_counts = options->stages,
            .source_counts = &options->sources[s],
        };
        rc = rml_tree_open(&source->tree, &tree, err);
        if (rc < 0) {
            rc = RML_WRAP(err, rc, "source %s", source->plan->name);
            goto fail;
        }
        find_deadlines(source);
        rml_count_set(&source->tree.counts[RML_SOURCE_watermark], (uint64_t)RML_TIME_NONE);
    }
    *ret_partition = p;
    return 0;
fail:
    rml_partition_close(p);
    return rc;
}

void rml_partition_serve(struct rml_partition *p, struct rml_room *room)
{
    rml_room_serve(room, &p->pages);
    rml_room_prefault(&p->pages, p->plan->state_prefault_bytes);
}

void rml_partition_close(struct rml_partition *p)
{
    if (p == NULL)
        return;
    for (uint32_t s = 0; p->sources != NULL && s < p->plan->source_count; s++)
        rml_tree_close(&p->sources[s].tree);
    rml_pages_close(&p->pages);
    free(p->sources);
    free(p->lanes);
    free(p);
}
