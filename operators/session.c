/*
 * SESSIONS
 *
 * A session is what a key's records have in common that lie less than the gap apart from one another:
 * [first, last + gap). A record joins the sessions it is near to, and bridges them when there are
 * several; with a `max`, what would make a session longer than that begins another instead.
 *
 *     t --->        a  a a      b           a, b: two sessions of a key
 *                          x                x: nearer than the gap to both
 *                   a  a a a    a           one session; what was said of b is taken back
 *
 * A session's result is known by its key and its start. Whenever a start that a result was given for
 * is no longer the start of a session, because an earlier record came or another session reached it,
 * that result is retracted by a row that says so; every other new result replaces the former one of
 * its start under the next revision. (T. Akidau et al., "The Dataflow Model", VLDB 2015, calls this
 * accumulating and retracting.)
 *
 * Since a record's own end may be passed before its run ends, rows are judged one by one here, each by
 * the watermark before it.
 *
 * WHEN. A session has an entry among the due times (operators/dues.h): its end until it has fired, and
 * the end of its lateness after that. Records mostly move it to later, which needs nothing: an entry
 * that comes up too early is put again. Where it moves to earlier (a session that had fired is open
 * again) it gets a second entry, and the stamp in the session makes the first one void. The entry of a
 * session that was bridged or evicted stays, and is that of the next one of its number: so there are never
 * many more entries than there were sessions at once.
 */
#include "operators/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "operators/aggregate.h"
#include "operators/dues.h"
#include "operators/keyed.h"
#include "operators/ticks.h"
#include "operators/window_row.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/partition/operator.h"
#include "runtime/state/roots.h"
#include "runtime/time/time.h"

#define BUCKETS_IN_GAP 32
#define NONE           0u  // sessions are numbered from 1

struct session {
    int64_t first, last;
    int64_t end_given;  // of the last result, where `results` > 0
    int64_t due;        // of its entry among the dues
    uint64_t records;   // 0: it is free
    uint64_t shown;     // of these, in the last result, where `results` > 0
    uint32_t slot;
    uint32_t next;     // the key's next older session; while free: the next free one
    uint32_t stamp;    // of its entry; never the same twice
    uint32_t results;  // given for this start and not retracted
    bool open;         // has not fired, or was reopened
    bool is_newest;    // of its key
    bool has_entry;
    bool is_listed;  // among the changed
    uint32_t next_changed;
    _Alignas(uint64_t) unsigned char state[];
};

struct sessions {
    struct rml_operator_env env;
    struct rml_plan_window spec;
    struct rml_aggregator aggregator;
    struct rml_keyed keyed;
    struct rml_rows_shape head_shape, session_shape;
    struct rml_rows heads;  // by slot: the key's newest session
    struct rml_rows list;   // by number: sessions
    uint32_t live, fresh, free;
    struct rml_dues dues;
    bool is_early;  // results are given before sessions end
    struct rml_ticks ticks;
    // Sessions to which a record has come since the wall clock last triggered results, and maybe others
    // that ended meanwhile, in the order in which they came; where it does.
    uint32_t first_changed, last_changed;

    // Working room for one run.
    uint16_t rows[RML_BATCH_ROWS];
    uint16_t late[RML_BATCH_ROWS];
    uint32_t late_count;
    uint16_t folded_rows[RML_BATCH_ROWS];
    void *folded_states[RML_BATCH_ROWS];
    uint32_t folded_count;
    int64_t folded_least;  // of their times
    const struct rml_batch *batch;
    struct rml_keyed_block block;
};

static struct sessions *sessions_of(struct rml_operator *op)
{
    return (void *)op;
}

static const struct session *at(const struct sessions *w, uint32_t number)
{
    return rml_rows_known(&w->list, w->env.pages, w->session_shape, number);
}

static struct session *change(struct sessions *w, uint32_t number)
{
    return rml_rows_change(&w->list, w->env.pages, w->session_shape, number);
}

static int64_t end_of(const struct sessions *w, const struct session *s)
{
    return rml_time_add(s->last, w->spec.gap_ns);
}

static int64_t due_of(const struct sessions *w, const struct session *s)
{
    return s->open ? end_of(w, s) : rml_time_add(end_of(w, s), w->spec.late_ns);
}

static void schedule(struct sessions *w, uint32_t number)
{
    struct session *s = change(w, number);
    s->due = due_of(w, s);
    s->has_entry = true;
    rml_dues_put(&w->dues, (struct rml_due){.at = s->due, .number = number, .stamp = ++s->stamp});
}

/* The lists of keys, newest start first */

static uint32_t head_of(const struct sessions *w, uint32_t slot)
{
    const uint32_t *head = rml_rows_known(&w->heads, w->env.pages, w->head_shape, slot);
    return *head;
}

// The word that names the session behind `before`, NONE: the newest of the slot.
static uint32_t *change_link(struct sessions *w, uint32_t slot, uint32_t before)
{
    return before != NONE ? &change(w, before)->next
                          : rml_rows_change(&w->heads, w->env.pages, w->head_shape, slot);
}

static void unlink_session(struct sessions *w, uint32_t number)
{
    const struct session *s = at(w, number);
    uint32_t before = NONE;
    for (uint32_t n = head_of(w, s->slot); n != number; n = at(w, n)->next)
        before = n;
    *change_link(w, s->slot, before) = s->next;
    if (before == NONE && s->next != NONE)
        change(w, s->next)->is_newest = true;
    change(w, number)->is_newest = false;
}

static void link_session(struct sessions *w, uint32_t number)
{
    struct session *s = change(w, number);
    uint32_t before = NONE, n = head_of(w, s->slot);
    for (; n != NONE && at(w, n)->first > s->first; n = at(w, n)->next)
        before = n;
    s->next = n;
    *change_link(w, s->slot, before) = number;
    s->is_newest = before == NONE;
    if (s->is_newest && n != NONE)
        change(w, n)->is_newest = false;
}

static void free_session(struct sessions *w, uint32_t number)
{
    struct session *s = change(w, number);
    rml_aggregator_release(&w->aggregator, s->state);
    unlink_session(w, number);
    s->records = 0;
    s->open = false;
    s->next = w->free;
    w->free = number;
    w->live--;
    rml_keyed_block_release(&w->keyed, &w->block, s->slot);
}

// A session of one record, or NONE when there is no room for it.
static uint32_t new_session(struct sessions *w, uint32_t slot, int64_t time)
{
    uint32_t number = w->free != NONE ? w->free : w->fresh;
    if (number >= rml_rows_max(w->session_shape)
        || rml_rows_reach(&w->heads, w->env.pages, w->head_shape, slot) == NULL)
        return NONE;
    struct session *s = rml_rows_reach(&w->list, w->env.pages, w->session_shape, number);
    if (s == NULL)
        return NONE;
    if (number == w->free)
        w->free = s->next;
    else
        w->fresh++;
    *s = (struct session){.first = time,
                          .last = time,
                          .due = s->due,
                          .slot = slot,
                          .stamp = s->stamp,
                          .has_entry = s->has_entry,
                          .is_listed = s->is_listed,
                          .next_changed = s->next_changed};
    rml_aggregator_reset(&w->aggregator, s->state);
    w->live++;
    rml_keyed_use(&w->keyed, slot);
    link_session(w, number);
    return number;
}

/* Results */

// Bring the states up to the records that were taken; before anything reads, merges or frees one.
static void fold(struct sessions *w)
{
    if (w->folded_count == 0)
        return;
    uint64_t skipped = rml_aggregator_fold(&w->aggregator, w->batch->columns, w->folded_states,
                                           w->folded_rows, w->folded_count);
    rml_count(&w->env.counts[RML_STAGE_aggregated], w->folded_count);
    if (skipped > 0)
        rml_count(&w->env.counts[RML_STAGE_null_skipped], skipped);
    w->folded_count = 0;
    w->folded_least = RML_TIME_END;
}

// A record of the session, to be folded into it.
static void add(struct sessions *w, struct session *s, uint16_t row, int64_t time)
{
    s->records++;
    w->folded_states[w->folded_count] = s->state;
    w->folded_rows[w->folded_count++] = row;
    w->folded_least = time < w->folded_least ? time : w->folded_least;
}

enum mark { PLAIN, PARTIAL, EVICTED };

static void give_result(struct sessions *w, struct session *s, int64_t fire, enum mark mark)
{
    s->end_given = end_of(w, s);
    s->shown = s->records;
    const struct rml_window_row row = {
        .start = s->first,
        .end = s->end_given,
        .length_ns = rml_time_sub(s->end_given, s->first),
        .fire = fire,
        .slot = s->slot,
        .revision = s->results++,
        .records = s->records,
        .evicted = mark == EVICTED,
        .state = s->state,
        .is_partial = mark == PARTIAL,
    };
    rml_window_row_emit(&w->env, &w->keyed, &w->aggregator, &row);
}

static void retract(struct sessions *w, struct session *s, int64_t fire)
{
    const struct rml_window_row row = {
        .start = s->first,
        .end = s->end_given,
        .fire = fire,
        .slot = s->slot,
        .revision = s->results,
    };
    rml_window_row_emit(&w->env, &w->keyed, &w->aggregator, &row);
    rml_count(&w->env.counts[RML_STAGE_retractions], 1);
    s->results = 0;
    s->shown = 0;
}

static void list_changed(struct sessions *w, struct session *s, uint32_t number)
{
    if (s->is_listed)
        return;
    s->is_listed = true;
    s->next_changed = NONE;
    if (w->last_changed == NONE)
        w->first_changed = number;
    else
        change(w, w->last_changed)->next_changed = number;
    w->last_changed = number;
}

// A record has come to an open session: an early result, if so many have since the last one.
static void show_due(struct sessions *w, struct session *s, uint32_t number, int64_t now)
{
    if (w->ticks.every_ns > 0)
        list_changed(w, s, number);
    if (w->spec.trigger.count == 0 || s->records - s->shown < w->spec.trigger.count)
        return;
    fold(w);
    give_result(w, s, now, PARTIAL);
}

static void session_tick(struct rml_operator *op, int64_t now, int64_t watermark)
{
    struct sessions *w = sessions_of(op);
    if (!rml_ticks_pass(&w->ticks, now))
        return;
    while (w->first_changed != NONE) {
        struct session *s = change(w, w->first_changed);
        w->first_changed = s->next_changed;
        s->is_listed = false;
        if (s->open && s->records > s->shown)
            give_result(w, s, watermark, PARTIAL);
    }
    w->last_changed = NONE;
}

static void come_due(struct sessions *w, uint32_t number)
{
    struct session *s = change(w, number);
    s->has_entry = false;
    if (s->open) {
        give_result(w, s, end_of(w, s), PLAIN);
        rml_count(&w->env.counts[RML_STAGE_windows_fired], 1);
        s->open = false;
        if (w->spec.late_ns > 0) {
            schedule(w, number);
            return;
        }
    }
    free_session(w, number);
}

// Has the session of an entry come due? One that was put off is put there again.
static bool is_due(struct sessions *w, const struct rml_due *due)
{
    const struct session *s = at(w, due->number);
    if (s->stamp != due->stamp)
        return false;
    if (s->records == 0) {
        change(w, due->number)->has_entry = false;
        return false;
    }
    struct rml_due later = *due;
    later.at = due_of(w, s);
    if (later.at <= due->at)
        return true;
    change(w, due->number)->due = later.at;
    rml_dues_put(&w->dues, later);
    return false;
}

static void open_dues(struct sessions *w, int64_t watermark)
{
    struct rml_due due[RML_DUES_OPEN];
    for (uint32_t count; (count = rml_dues_open(&w->dues, watermark, due)) > 0;) {
        for (uint32_t i = 0; i < count; i++)
            __builtin_prefetch(at(w, due[i].number), 1);
        for (uint32_t i = 0; i < count; i++) {
            if (is_due(w, &due[i]))
                rml_dues_keep(&w->dues, due[i]);
        }
    }
}

// Something may be due: what is, comes due.
static void advance_to(struct sessions *w, int64_t watermark)
{
    // all records of sessions that come due are the gap or more before
    if (rml_time_add(w->folded_least, w->spec.gap_ns) <= watermark)
        fold(w);
    open_dues(w, watermark);
    struct rml_due due;
    while (rml_dues_take(&w->dues, watermark, &due)) {
        if (is_due(w, &due))
            come_due(w, due.number);
    }
}

static inline void advance(struct sessions *w, int64_t watermark)
{
    if (w->dues.next <= watermark && !rml_dues_is_empty(&w->dues))
        advance_to(w, watermark);
}

// Nothing is left: give the pages back.
static void start_anew(struct sessions *w)
{
    rml_rows_clear(&w->heads, w->env.pages);
    rml_rows_clear(&w->list, w->env.pages);
    rml_dues_clear(&w->dues);
    w->fresh = NONE + 1;
    w->free = NONE;
    w->first_changed = w->last_changed = NONE;
}

static void session_advance(struct rml_operator *op, int64_t watermark)
{
    struct sessions *w = sessions_of(op);
    advance(w, watermark);
    if (rml_dues_is_empty(&w->dues) && w->fresh > NONE + 1)
        start_anew(w);
    rml_count_set(&w->env.counts[RML_STAGE_keys], w->keyed.has_key ? w->keyed.keys.count : 0);
    rml_count_set(&w->env.counts[RML_STAGE_sessions], w->live);
    rml_count_set(&w->env.counts[RML_STAGE_state_bytes],
                  (uint64_t)w->env.pages->in_use * RML_PAGE_BYTES);
}

static int64_t session_deadline(const struct rml_operator *op, int64_t watermark)
{
    const struct sessions *w = (const void *)op;
    if (rml_dues_is_empty(&w->dues))
        return RML_TIME_END;
    return w->dues.next > watermark ? w->dues.next : rml_time_add(watermark, 1);
}

/* Eviction */

// Forget a session, which gives a last row before it is.
static void evict_session(struct sessions *w, uint32_t number, int64_t now)
{
    struct session *s = change(w, number);
    fold(w);
    give_result(w, s, now, EVICTED);
    rml_count(&w->env.counts[RML_STAGE_windows_fired], s->open);
    rml_count(&w->env.counts[RML_STAGE_windows_evicted], 1);
    free_session(w, number);
}

static void evict_key(struct sessions *w, uint32_t slot, int64_t now)
{
    for (uint32_t n = head_of(w, slot); n != NONE; n = head_of(w, slot))
        evict_session(w, n, now);
    rml_count(&w->env.counts[RML_STAGE_evicted], 1);
}

/* Records */

static uint64_t distance(int64_t a, int64_t b)
{
    return a < b ? (uint64_t)b - (uint64_t)a : (uint64_t)a - (uint64_t)b;
}

// Could these times be in one session, as far as its length goes?
static bool fits(const struct sessions *w, int64_t first, int64_t last)
{
    return w->spec.max_ns == 0
           || distance(first, last) <= (uint64_t)(w->spec.max_ns - w->spec.gap_ns);
}

static bool is_near(const struct sessions *w, const struct session *s, int64_t first, int64_t last)
{
    uint64_t gap = (uint64_t)w->spec.gap_ns;
    bool touches = first <= s->last && last >= s->first;
    return touches || distance(first, s->last) < gap || distance(last, s->first) < gap;
}

// What a key has: the session that the time lies in or else the oldest that it may join, or NONE; and
// how many there are and the earliest of them, where it joins none.
struct found {
    uint32_t number, count, earliest;
};

static struct found find_session(const struct sessions *w, uint32_t slot, int64_t time)
{
    const uint32_t *head = rml_rows_find(&w->heads, w->env.pages, w->head_shape, slot);
    struct found found = {.number = NONE, .earliest = NONE};
    for (uint32_t n = head != NULL ? *head : NONE; n != NONE; n = at(w, n)->next) {
        const struct session *s = at(w, n);
        if (time >= s->first && time <= s->last)
            return (struct found){.number = n};
        int64_t first = s->first < time ? s->first : time;
        int64_t last = s->last > time ? s->last : time;
        if (is_near(w, s, time, time) && fits(w, first, last))
            found.number = n;
        found.count++;
        found.earliest = n;
    }
    return found;
}

// Take `other` into `s`, at the moment `now`. Of two starts the earlier one stays.
static void absorb(struct sessions *w, uint32_t number, uint32_t other_number, int64_t now)
{
    struct session *s = change(w, number), *other = change(w, other_number);
    fold(w);
    struct session *later = s->first <= other->first ? other : s;
    uint32_t results = later == other ? s->results : other->results;
    int64_t end_given = later == other ? s->end_given : other->end_given;
    uint64_t shown = later == other ? s->shown : other->shown;
    if (later->results > 0)
        retract(w, later, now);
    rml_aggregator_absorb(&w->aggregator, s->state, other->state);
    s->records += other->records;
    s->first = other->first < s->first ? other->first : s->first;
    s->last = other->last > s->last ? other->last : s->last;
    s->open |= other->open;
    s->results = results;
    s->end_given = end_given;
    s->shown = shown;
    free_session(w, other_number);
}

// Absorb what the session now reaches.
static void bridge(struct sessions *w, uint32_t number, int64_t now)
{
    for (uint32_t n = head_of(w, at(w, number)->slot); n != NONE;) {
        const struct session *s = at(w, number), *other = at(w, n);
        uint32_t next = other->next;
        int64_t first = s->first < other->first ? s->first : other->first;
        int64_t last = s->last > other->last ? s->last : other->last;
        if (n != number && is_near(w, other, s->first, s->last) && fits(w, first, last))
            absorb(w, number, n, now);
        n = next;
    }
}

// Extend a session to a time that is near it.
static void join(struct sessions *w, uint32_t number, int64_t time, int64_t now)
{
    struct session *s = change(w, number);
    if (time >= s->first && time <= s->last)
        return;
    if (time > s->last) {
        s->last = time;
    } else {
        if (s->results > 0) {
            fold(w);
            retract(w, s, now);
        }
        unlink_session(w, number);
        s->first = time;
        link_session(w, number);
    }
    bridge(w, number, now);
}

/*
 * By far the most records extend their key's newest session, or lie in it, while it has not fired.
 * There is nothing to be looked for or moved then: the session reaches no older one that it did not
 * reach before (with a `max` there may be one that was near all the time), and it comes due later.
 */
static bool extends_newest(const struct sessions *w, const struct session *newest, uint32_t slot,
                           int64_t time)
{
    if (newest->slot != slot || !newest->is_newest || !newest->open || time < newest->first)
        return false;
    if (time <= newest->last)
        return true;
    return distance(time, newest->last) < (uint64_t)w->spec.gap_ns
           && (w->spec.max_ns == 0 || (newest->next == NONE && fits(w, newest->first, time)));
}

// For one record more, and for what it bridges, whose sketch grows to the largest once at most.
static bool has_room(struct sessions *w)
{
    if (rml_aggregator_has_room(&w->aggregator, w->folded_count + 2))
        return true;
    fold(w);
    return rml_aggregator_has_room(&w->aggregator, 2);
}

// Would even a session of this time alone be forgotten?
static bool is_late(const struct sessions *w, int64_t time, int64_t now)
{
    int64_t end = rml_time_add(time, w->spec.gap_ns);
    return now != RML_TIME_NONE && rml_time_add(end, w->spec.late_ns) <= now;
}

/*
 * The session of a record, made or extended, at the watermark `now`. NONE: the record is refused, for
 * want of room, or with *ret_late, because it is too late for any session.
 */
static uint32_t place(struct sessions *w, uint32_t slot, int64_t time, int64_t now, bool *ret_late)
{
    struct found found = find_session(w, slot, time);
    bool is_new = found.number == NONE, is_full = found.count >= w->spec.session_limit;
    *ret_late = is_new && is_late(w, time, now);
    if (*ret_late || (is_new && is_full && w->spec.when_full == RML_WHEN_FULL_REFUSE)
        || !has_room(w) || !rml_dues_has_room(&w->dues))
        return NONE;
    if (!is_new) {
        join(w, found.number, time, now);
        return found.number;
    }
    // before another goes, so that the key is in use all the time
    uint32_t number = new_session(w, slot, time);
    if (number != NONE && is_full)
        evict_session(w, found.earliest, now);
    return number;
}

// The slot of the next record's key, if need be in the place of another. RML_NO_SLOT as NONE above.
static uint32_t find_key(struct sessions *w, int64_t time, int64_t now, bool *ret_late)
{
    uint32_t slot = rml_keyed_block_next(&w->keyed, &w->block);
    *ret_late = slot == RML_NO_SLOT && is_late(w, time, now);
    if (slot != RML_NO_SLOT || *ret_late || !rml_keyed_must_evict(&w->keyed))
        return slot;
    evict_key(w, rml_keyed_oldest(&w->keyed), now);
    return rml_keyed_block_retry(&w->keyed, &w->block);
}

static void take_row(struct sessions *w, const struct rml_run *run, uint16_t row, uint32_t slot,
                     bool late)
{
    int64_t now = run->judge[row];
    uint32_t number = slot != RML_NO_SLOT ? place(w, slot, run->time[row], now, &late) : NONE;
    if (number == NONE) {
        rml_keyed_block_forget(&w->keyed, &w->block, slot);
        if (late)
            w->late[w->late_count++] = row;
        else
            rml_count(&w->env.counts[RML_STAGE_refused], 1);
        return;
    }
    struct session *s = change(w, number);
    add(w, s, row, run->time[row]);
    rml_keyed_seen(&w->keyed, &slot, 1);
    s->open = now == RML_TIME_NONE || end_of(w, s) > now;
    if (!s->open) {
        fold(w);
        give_result(w, s, now, PLAIN);
        rml_count(&w->env.counts[RML_STAGE_corrections], 1);
    } else if (w->is_early) {
        show_due(w, s, number, now);
    }
    if (!s->has_entry || due_of(w, s) < s->due)
        schedule(w, number);
}

/*
 * The newest session of each row's key, on its way before the first is needed. What is there may be
 * another key's or none by the time of the row's turn, and shows it.
 */
static void look_newest(const struct sessions *w, const struct session **newest)
{
    const uint32_t *heads[RML_KEYS_BLOCK];
    for (uint32_t i = 0; i < w->block.count; i++) {
        uint32_t slot = w->block.slots[i] != RML_NO_SLOT ? w->block.slots[i] : 0;
        heads[i] = rml_rows_look(&w->heads, w->env.pages, w->head_shape, slot);
        __builtin_prefetch(heads[i]);
    }
    for (uint32_t i = 0; i < w->block.count; i++) {
        newest[i] = rml_rows_look(&w->list, w->env.pages, w->session_shape, *heads[i]);
        __builtin_prefetch(newest[i], 1);
        __builtin_prefetch(newest[i]->state, 1);
    }
}

static void take_block(struct sessions *w, const struct rml_run *run, const uint16_t *rows)
{
    const struct session *newest[RML_KEYS_BLOCK];
    look_newest(w, newest);
    bool has_room = rml_aggregator_has_room(&w->aggregator, w->folded_count + w->block.count + 1);
    for (uint32_t i = 0; i < w->block.count; i++) {
        int64_t time = run->time[rows[i]], now = run->judge[rows[i]];
        advance(w, now);
        bool late;
        uint32_t slot = find_key(w, time, now, &late);
        if (!has_room || !extends_newest(w, newest[i], slot, time)) {
            take_row(w, run, rows[i], slot, late);
            continue;
        }
        struct session *s = rml_change(w->env.pages, newest[i], w->session_shape.stride);
        s->last = time > s->last ? time : s->last;
        add(w, s, rows[i], time);
        rml_keyed_seen(&w->keyed, &slot, 1);
        if (w->is_early)
            show_due(w, s, head_of(w, slot), run->judge[rows[i]]);
    }
}

static void session_take(struct rml_operator *op, const struct rml_batch *batch,
                         const struct rml_run *run)
{
    struct sessions *w = sessions_of(op);
    RML_CHECK(run->judge != NULL);
    rml_count(&w->env.counts[RML_STAGE_in], batch->selected);
    uint32_t count;
    const uint16_t *rows = rml_keyed_begin(&w->keyed, &w->env, batch, w->rows, &count);
    w->batch = batch;
    w->late_count = 0;
    for (uint32_t done = 0; done < count; done += w->block.count) {
        rml_keyed_block_begin(&w->keyed, &w->block, batch, run, rows + done, count - done);
        take_block(w, run, rows + done);
    }
    fold(w);
    rml_keyed_pass_late(&w->env, batch, run, w->late, w->late_count);
}

/* Checkpoints */

static void session_roots(struct rml_operator *op, struct rml_roots *roots)
{
    struct sessions *w = sessions_of(op);
    rml_keyed_roots(&w->keyed, roots);
    rml_aggregator_roots(&w->aggregator, roots);
    RML_ROOTS_WALK(roots, w->heads);
    RML_ROOTS_WALK(roots, w->list);
    RML_ROOTS_WALK(roots, w->live);
    RML_ROOTS_WALK(roots, w->fresh);
    RML_ROOTS_WALK(roots, w->free);
    RML_ROOTS_WALK(roots, w->ticks.last);
    RML_ROOTS_WALK(roots, w->first_changed);
    RML_ROOTS_WALK(roots, w->last_changed);
    rml_dues_roots(&w->dues, roots);
}

/* Setting up */

static void session_close(struct rml_operator *op)
{
    struct sessions *w = sessions_of(op);
    rml_keyed_close(&w->keyed);
    rml_aggregator_close(&w->aggregator);
    free(w);
}

static int session_open(struct rml_operator **ret_operator, const struct rml_operator_env *env,
                        struct rml_err *err)
{
    struct sessions *w = calloc(1, sizeof *w);
    if (w == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    const struct rml_plan_stage *stage = &env->plan->stages[env->stage];
    w->env = *env;
    w->spec = stage->window;
    w->is_early = rml_plan_gives_early(&w->spec);
    rml_ticks_init(&w->ticks, w->spec.trigger.every_ns);
    w->fresh = NONE + 1;
    int rc = rml_aggregator_open(&w->aggregator, stage, &env->plan->sources[stage->source],
                                 env->pages, err);
    if (rc < 0) {
        session_close((void *)w);
        return rc;
    }
    w->head_shape = rml_rows_shape(sizeof(uint32_t));
    rml_dues_init(&w->dues, env->pages, w->spec.gap_ns / BUCKETS_IN_GAP);
    w->session_shape = rml_rows_shape((uint32_t)sizeof(struct session) + w->aggregator.state_bytes);
    rc = rml_keyed_open(&w->keyed, env, err);
    if (rc < 0) {
        session_close((void *)w);
        return rc;
    }
    *ret_operator = (void *)w;
    return 0;
}

const struct rml_operator_kind rml_operator_session = {
    .name = "session",
    .by_row = true,
    .open = session_open,
    .close = session_close,
    .take = session_take,
    .advance = session_advance,
    .tick = session_tick,
    .deadline = session_deadline,
    .roots = session_roots,
};
