#include "runtime/lane/confluence.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "runtime/base/check.h"

/* What a partition knows of a producer. */
struct rml_confluence_owner {
    uint64_t word;         // of its state, as seen last
    uint64_t publishes;    // likewise
    int64_t since_ns;      // when that changed
    uint64_t knocked_for;  // its `waiting` that was answered last
};

int rml_confluence_open(struct rml_confluence *g, const struct rml_confluence_lane *lane,
                        uint32_t partition)
{
    const struct rml_lane_geometry *geometry = lane->geometry;
    const struct rml_lane_layout *layout = &lane->layout;
    *g = (struct rml_confluence){
        .lane = lane,
        .partition = partition,
        .lines = rml_lane_record_lines(lane->records),
        .owner_lines = rml_lane_owner_lines(lane->records, layout),
        .states = rml_lane_owner_states(lane->returns, layout),
        .line = &rml_lane_log_lines(lane->returns, layout)[partition],
        .marks = rml_lane_marks(lane->returns, layout, partition),
        .released = &rml_lane_return_lines(lane->returns)[partition].released,
        .owners = calloc(geometry->owners, sizeof *g->owners),
        .here = calloc(geometry->owners, sizeof *g->here),
        .left_time = RML_TIME_NONE,
        .time = RML_TIME_NONE,
        .marked = RML_TIME_NONE,
    };
    if (g->owners == NULL || g->here == NULL)
        return -ENOMEM;
    const struct rml_shared_place place =
        rml_lane_shared(geometry, layout, lane->records, lane->returns, partition);
    rml_shared_attach_in(&g->in, &place, place.shape.owner_count);
    g->log = (struct rml_shared_log){
        .cells = rml_lane_cells(lane->returns, layout, partition),
        .cell_count = geometry->log_cells,
        .end = &g->line->end,
        .intent = &g->line->intent,
    };
    // relaxed: of an engine that died, or zero
    uint64_t marks = atomic_load_explicit(&g->line->marks, memory_order_relaxed);
    if (marks > 0) {
        const struct rml_lane_mark_cell *last = &g->marks[(marks - 1) & (geometry->log_cells - 1)];
        // relaxed: likewise
        g->marked = atomic_load_explicit(&last->time, memory_order_relaxed);
    }
    // relaxed: likewise
    uint64_t released = atomic_load_explicit(g->released, memory_order_relaxed);
    return rml_shared_gather_again(&g->in, &g->log, released + geometry->log_cells);
}

void rml_confluence_close(struct rml_confluence *g)
{
    free(g->owners);
    free(g->here);
}

const char *rml_confluence_fault(const struct rml_confluence *g)
{
    return g->in.fault;
}

static int64_t now_ns(const struct rml_confluence *g)
{
    const struct rml_clock *clock = g->lane->clock;
    return g->lane->idle_after_ns > 0 ? clock->monotonic_ns(clock->context) : 0;
}

/* Producers */

static int64_t time_of(const struct rml_confluence *g, uint32_t index)
{
    _Atomic uint64_t *time = &g->owner_lines[index].time;
    // acquire: lane.clock
    return rml_lane_word_time(atomic_load_explicit(time, memory_order_acquire));
}

// A statistic, of which this thread is the only writer.
static void add(_Atomic uint64_t *word, uint64_t more)
{
    // relaxed: a statistic, ordered with nothing
    uint64_t before = atomic_load_explicit(word, memory_order_relaxed);
    // relaxed: likewise
    atomic_store_explicit(word, before + more, memory_order_relaxed);
}

// What the dead one had claimed is free from here on, so that its number can be another's.
static int bury(struct rml_confluence *g, uint32_t index)
{
    int32_t cells = rml_shared_recover(&g->in.place, index + 1);
    if (cells < 0) {
        g->in.fault = "a dead producer's claims change";
        return cells;
    }
    add(&g->line->tombstones, (uint64_t)cells);
    return 0;
}

static int see_owner(struct rml_confluence *g, uint32_t index, int64_t now)
{
    struct rml_confluence_owner *owner = &g->owners[index];
    // relaxed: the version ordered it
    uint64_t word = atomic_load_explicit(&g->states->state[index], memory_order_relaxed);
    enum rml_lane_owner_state state = RML_LANE_OWNER_STATE(word);
    bool is_new = owner->word != word;
    owner->word = word;
    if (state == RML_LANE_OWNER_HERE) {
        if (is_new)
            *owner = (struct rml_confluence_owner){.word = word, .since_ns = now};
        g->here[g->here_count++] = (uint16_t)index;
        return 0;
    }
    if (state != RML_LANE_OWNER_FREE) {
        int64_t time = time_of(g, index);
        if (time != RML_TIME_NONE && (g->left_time == RML_TIME_NONE || time < g->left_time))
            g->left_time = time;
    }
    return state == RML_LANE_OWNER_DEAD && is_new ? bury(g, index) : 0;
}

// Who is here, if that has changed.
static int see_owners(struct rml_confluence *g)
{
    // acquire: lane.owners
    uint64_t version = atomic_load_explicit(&g->states->version, memory_order_acquire);
    if (version == g->version)
        return 0;
    int64_t now = now_ns(g);
    g->here_count = 0;
    g->left_time = RML_TIME_NONE;
    g->any_waits = true;
    for (uint32_t i = 0; i < g->lane->geometry->owners; i++) {
        int rc = see_owner(g, i, now);
        if (rc < 0)
            return rc;
    }
    g->version = version;
    return 0;
}

static bool is_idle(struct rml_confluence *g, uint32_t index, int64_t now)
{
    struct rml_confluence_owner *owner = &g->owners[index];
    if (g->lane->idle_after_ns == 0)
        return false;
    const _Atomic uint64_t *word = &g->owner_lines[index].publishes;
    // relaxed: a hint, ordered with nothing
    uint64_t publishes = atomic_load_explicit(word, memory_order_relaxed);
    if (publishes != owner->publishes) {
        owner->publishes = publishes;
        owner->since_ns = now;
    }
    return now - owner->since_ns >= g->lane->idle_after_ns;
}

// The latest clock that is believed.
static int64_t latest_time(const struct rml_confluence *g)
{
    const struct rml_clock *clock = g->lane->clock;
    if (g->lane->max_ahead_ns == 0)
        return RML_TIME_END;
    return rml_time_add(clock->wall_ns(clock->context), g->lane->max_ahead_ns);
}

// The least of the producers' clocks: of those that are not idle, or the greatest when all are.
static int64_t least_time(struct rml_confluence *g)
{
    int64_t latest = latest_time(g);
    if (g->here_count == 0)
        return g->left_time <= latest ? g->left_time : RML_TIME_NONE;
    int64_t now = now_ns(g), least = RML_TIME_END, most = RML_TIME_NONE;
    bool any = false;
    for (uint32_t i = 0; i < g->here_count; i++) {
        int64_t time = time_of(g, g->here[i]);
        if (time > latest)
            continue;
        most = time > most ? time : most;
        if (is_idle(g, g->here[i], now))
            continue;
        any = true;
        least = time < least ? time : least;
    }
    return any ? least : most;
}

/* Looks */

/*
 * Everything that was published before the clocks are read is at or before the end of the chain that is
 * looked up afterwards, or was passed over and is looked back at.
 */
static int begin_look(struct rml_confluence *g)
{
    // total order: whoever publishes later than this is seen by the next look
    g->look_publishes = atomic_load_explicit(&g->lines->publishes, memory_order_seq_cst);
    int rc = see_owners(g);
    if (rc < 0)
        return rc;
    g->look_version = g->version;
    g->look_time = least_time(g);
    g->look_at = rml_shared_chain_end(&g->in);
    g->is_looking = true;
    return 0;
}

static void end_look(struct rml_confluence *g, uint64_t end)
{
    if (!g->in.is_back || !(g->in.is_end || rml_shared_position(&g->in) >= g->look_at))
        return;
    g->is_looking = false;
    if (g->look_time > g->time) {
        g->time = g->look_time;
        g->time_at = end;
    }
    g->is_settled = g->in.is_end;
    g->settled_publishes = g->look_publishes;
    // release: lane.leaving
    atomic_store_explicit(&g->line->seen, g->look_version, memory_order_release);
}

// The clock came to a new step of the grid since the last mark: say so before the next record.
static void mark(struct rml_confluence *g, uint64_t end)
{
    const struct rml_lane_geometry *geometry = g->lane->geometry;
    if (g->time == RML_TIME_NONE
        || (g->marked != RML_TIME_NONE
            && rml_lane_step(geometry->grid, g->time) <= rml_lane_step(geometry->grid, g->marked)))
        return;
    // relaxed: this thread is the only writer, here and below
    uint64_t marks = atomic_load_explicit(&g->line->marks, memory_order_relaxed);
    struct rml_lane_mark_cell *cell = &g->marks[(marks - 1) & (geometry->log_cells - 1)];
    // relaxed: likewise
    if (marks == 0 || atomic_load_explicit(&cell->position, memory_order_relaxed) != end)
        cell = &g->marks[marks++ & (geometry->log_cells - 1)];
    // relaxed: lane.marks orders it
    atomic_store_explicit(&cell->position, end, memory_order_relaxed);
    // relaxed: likewise
    atomic_store_explicit(&cell->time, g->time, memory_order_relaxed);
    // release: lane.marks
    atomic_store_explicit(&g->line->marks, marks, memory_order_release);
    g->marked = g->time;
}

static bool is_quiet(const struct rml_confluence *g)
{
    if (!g->is_settled || g->lane->idle_after_ns > 0 || g->is_last)
        return false;
    // acquire: lane.owners
    uint64_t version = atomic_load_explicit(&g->states->version, memory_order_acquire);
    // total order: as when a look begins
    uint64_t publishes = atomic_load_explicit(&g->lines->publishes, memory_order_seq_cst);
    return version == g->version && publishes == g->settled_publishes;
}

/* Room */

static void knock_where_room_is(struct rml_confluence *g)
{
    uint64_t head = rml_shared_position(&g->in);
    g->any_waits = false;
    for (uint32_t i = 0; i < g->here_count; i++) {
        const struct rml_lane_owner_line *line = &g->owner_lines[g->here[i]];
        struct rml_confluence_owner *owner = &g->owners[g->here[i]];
        // relaxed: stored before the partition's count of waits, which was just read
        uint64_t waiting = atomic_load_explicit(&line->waiting, memory_order_relaxed);
        if (RML_LANE_WAIT_PARTITION(waiting) != g->partition + 1 || waiting == owner->knocked_for)
            continue;
        // relaxed: likewise
        uint64_t room_at = atomic_load_explicit(&line->room_at, memory_order_relaxed);
        if ((int64_t)(head - room_at) < 0) {
            g->any_waits = true;
            continue;
        }
        owner->knocked_for = waiting;
        // relaxed: a number for the kernel; whose door comes later is knocked at then
        int door = atomic_load_explicit(&g->lane->doors[g->here[i]], memory_order_relaxed);
        if (door >= 0)
            (void)send(door, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static void see_waits(struct rml_confluence *g)
{
    _Atomic uint64_t *waits = &g->lines[g->partition].waiting;
    // total order: after the head moved
    uint64_t seen = atomic_load_explicit(waits, memory_order_seq_cst);
    g->any_waits |= seen != g->waits;
    g->waits = seen;
    if (g->any_waits)
        knock_where_room_is(g);
}

int rml_confluence_more(struct rml_confluence *g, uint32_t want)
{
    if (g->is_over || is_quiet(g))
        return 0;
    int rc = g->is_looking ? 0 : begin_look(g);
    if (rc < 0)
        return rc;
    uint32_t run_max = g->in.place.shape.run_max;
    // relaxed: this thread is the only writer
    uint64_t end = atomic_load_explicit(g->log.end, memory_order_relaxed);
    // relaxed: likewise
    uint64_t room = atomic_load_explicit(g->released, memory_order_relaxed) + g->log.cell_count;
    if (end < room)
        mark(g, end);
    uint64_t passed = g->in.passed_over;
    int32_t rows = rml_shared_gather(&g->in, &g->log, want > run_max ? want : run_max, room);
    if (rows < 0)
        return rows;
    add(&g->line->passed, g->in.passed_over - passed);
    end_look(g, end + (uint32_t)rows);
    g->is_over = g->is_last && g->in.is_back && g->in.is_end;
    see_waits(g);
    return 0;
}

void rml_confluence_last(struct rml_confluence *g)
{
    g->is_last = true;
    rml_shared_gather_last(&g->in);
}

bool rml_confluence_is_over(const struct rml_confluence *g)
{
    return g->is_over;
}
