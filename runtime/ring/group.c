/*
 * THE GROUP
 *
 * Row n of a ring of `row_count` rows lies at index n modulo row_count, in lap n / row_count + 1. For each index
 * of each partition's ring a group has one word, which says all that there is to say about a row:
 *
 *     lap (40 bits) | turn (12) | member (6) | again (4) | state (2)
 *
 * STATES of row n, in lap L
 *
 *     step        who           the ring has row n    word before                   word after
 *     take        a member      there, and copied     lap < L, in any state         TAKEN@L by me
 *     take over   a member      there, and copied     TAKEN@L by one who is gone    TAKEN@L by me, again + 1
 *     done        its taker     whatever              TAKEN@L by me                 DONE@L
 *     pass over   a member      gone                  lap < L, in any state         MISSED@L
 *
 * Every step is one compare-and-swap of one word, and none needs another to follow. So a member may be stopped or
 * killed between any two of its steps, and the others go on: a row is free for all, or somebody's who is
 * in the roster, or somebody's who is gone and from whom anybody takes it over, or done. There is nothing to repair,
 * and nobody whose task it is. A take that swaps a word of an earlier lap says with that what became of the rows
 * between: those of laps that no word ever had were missed, and a row that was TAKEN in the former lap has
 * expired. Both are counted by whoever swapped, and by nobody else.
 *
 *          begins          next                    at of some member
 *            v              v                       v
 *     ...  | DONE | TAKEN | DONE | TAKEN by one gone | (not taken) | ...
 *
 * `next` of a partition is a place to start looking: all rows before it were taken once or passed over. It
 * may lag, and whoever has come further helps it forward, which is a compare-and-swap too. Each member goes along
 * the words from there. When the roster says that somebody is gone, each goes back by a ring's length and looks at
 * all words once more; a row that the dead had not done is then taken over by whoever comes first.
 *
 * WHAT IS PROMISED
 *
 * A row that stays in its ring long enough is taken, unless all who could are stopped. It is taken again only if
 * its taker is gone and was not done: at least once, with `again` and the row's number to tell. A member sees
 * the rows of one partition in the order of their numbers, but for those that it takes over.
 *
 * MEMORY ORDER
 *
 *     group.word    any step -> whoever looks at the word     that the ring has the row, or has it no longer
 *     group.next    help `next` on -> look at `next`          the same, of the rows before it
 *     group.roster  see roster.c
 *
 * What is in a row comes from the ring by the ring's own edges; a member gives the others nothing but words. The
 * two edges keep those believable: a member that sees a row taken or passed over sees a ring in which that
 * could be. What it then still finds impossible is not a matter of order.
 *
 * SLEEP is as for any reader of the rings. Besides, the engine knocks at all members when it has buried one.
 *
 * TRUST
 *
 * Members write one memory, and so they trust each other: one that is hostile can take rows and let them
 * rot, mark them done, or count nonsense. It can do no more than that: a member reads a word once, judges it, and
 * swaps it as read; no number from this memory is used as an index, or as a length, or for how often to do
 * something. A word ahead of the ring, a `next` ahead of it, or a word that changes without end is an error
 * for good (-EPROTO). The engine reads the counters for people to look at, and nothing else; rings and roster it has
 * written itself, and no member can.
 *
 * A DEATH costs the others a look at as many words as a ring has rows. See STATES.
 *
 * WHERE IT COMES FROM
 *
 * Readers that share a log by cursors beside it, and leave the log alone: the Disruptor (M. Thompson et al., LMAX 2011),
 * and the consumer groups of Apache Kafka and Redis Streams, where a pending row has an owner until it is acknowledged. There
 * a time-out says who is dead; here it is proved. A lap in each word, so that no word ever comes back: D. Vyukov's bounded
 * queue (2010). A hint that lags and is helped on: M. Michael, M. Scott (PODC 1996). Ownership in the word, recovery by whoever
 * comes: as in shared_ring.c. Claims of runs, as there, would save swaps; they need a word whose place depends on
 * what was claimed before it, and with rows overwritten under the readers that chain would break wherever the ring goes
 * round. A word for each row has no chain. tests/model/group.pml tries every interleaving of small rings.
 */
#include "runtime/ring/group.h"

#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/ring/roster.h"

#define LINE_BYTES ((size_t)64)
#define TRIES      64u  // at a word that others change: each change is a step of theirs that was done
#define HELP_EVERY 16u  // rows between two looks at whether `next` lags

#define STATE_MASK   UINT64_C(3)
#define AGAIN_SHIFT  2
#define AGAIN_MAX    15u
#define MEMBER_SHIFT 6
#define TURN_SHIFT   12
#define LAP_SHIFT    24
#define TURN_MASK    ((UINT64_C(1) << RML_ROSTER_TURN_BITS) - 1)
#define LAP_MAX      (UINT64_MAX >> LAP_SHIFT)

enum state { NEVER, TAKEN, DONE, MISSED };

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock in shared memory would outlive its owner");
_Static_assert(RML_ROSTER_MEMBERS_MAX == 1u << (TURN_SHIFT - MEMBER_SHIFT), "a member fits");
_Static_assert(RML_ROSTER_TURN_BITS == LAP_SHIFT - TURN_SHIFT, "a turn fits");

struct rml_group_part {
    alignas(LINE_BYTES) _Atomic uint64_t next;
};

/* What members of one number have counted. There is one at a time. */
struct member_line {
    alignas(LINE_BYTES) _Atomic uint64_t taken;
    _Atomic uint64_t again, done, missed, expired;
};

static size_t words_at(struct rml_group_shape shape)
{
    return shape.partitions * sizeof(struct rml_group_part)
           + RML_ROSTER_MEMBERS_MAX * sizeof(struct member_line);
}

size_t rml_group_bytes(struct rml_group_shape shape)
{
    if (rml_broadcast_bytes(shape.ring) == 0 || shape.partitions == 0)
        return 0;
    size_t bytes = words_at(shape) + (size_t)8 * shape.partitions * shape.ring.row_count;
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

static const struct rml_group_part *parts_of(const void *memory)
{
    return memory;
}

static _Atomic uint64_t *next_of(const struct rml_group_in *in, uint32_t partition)
{
    return &((struct rml_group_part *)(void *)in->memory)[partition].next;
}

static const struct member_line *line_at(struct rml_group_shape shape, const void *memory,
                                         uint32_t member)
{
    const unsigned char *lines =
        (const unsigned char *)memory + shape.partitions * sizeof(struct rml_group_part);
    return (const struct member_line *)(const void *)lines + member;
}

static struct member_line *my_line(const struct rml_group_in *in)
{
    unsigned char *lines = in->memory + in->shape.partitions * sizeof(struct rml_group_part);
    return (struct member_line *)(void *)lines + in->member;
}

static _Atomic uint64_t *word_at(const struct rml_group_in *in, uint32_t partition, uint64_t number)
{
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)(in->memory + words_at(in->shape));
    uint32_t rows = in->shape.ring.row_count;
    return &words[(size_t)partition * rows + (number & (rows - 1))];
}

static uint64_t lap_at(const struct rml_group_in *in, uint64_t number)
{
    return number / in->shape.ring.row_count + 1;
}

static uint64_t lap_of(uint64_t word)
{
    return word >> LAP_SHIFT;
}

static enum state state_of(uint64_t word)
{
    return (enum state)(word & STATE_MASK);
}

static uint32_t again_of(uint64_t word)
{
    return (uint32_t)(word >> AGAIN_SHIFT & AGAIN_MAX);
}

static bool is_left(const struct rml_group_in *in, uint64_t word)
{
    uint32_t member = (uint32_t)(word >> MEMBER_SHIFT & (RML_ROSTER_MEMBERS_MAX - 1));
    return state_of(word) == TAKEN && rml_roster_is_gone(in->roster, member, word >> TURN_SHIFT);
}

static int fail(struct rml_group_in *in, const char *fault)
{
    in->fault = fault;
    return -EPROTO;
}

static void count(_Atomic uint64_t *counter, uint64_t more)
{
    // relaxed: statistics, of one writer
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    // relaxed: as above
    atomic_store_explicit(counter, value + more, memory_order_relaxed);
}

void rml_group_attach(struct rml_group_in *in, struct rml_group_shape shape, void *memory,
                      const struct rml_roster *roster, const void *rings,
                      struct rml_group_lane *lanes, uint32_t member, uint64_t turn)
{
    RML_CHECK(rml_group_bytes(shape) > 0 && member < RML_ROSTER_MEMBERS_MAX);
    RML_CHECK((uintptr_t)memory % LINE_BYTES == 0);
    *in = (struct rml_group_in){.shape = shape,
                                .memory = memory,
                                .roster = roster,
                                .lanes = lanes,
                                .member = member,
                                .turn = turn};
    size_t ring_bytes = rml_broadcast_bytes(shape.ring);
    for (uint32_t p = 0; p < shape.partitions; p++) {
        lanes[p] = (struct rml_group_lane){.version = UINT64_MAX};  // so it looks at all there is
        rml_broadcast_attach_in(&lanes[p].ring, (const unsigned char *)rings + p * ring_bytes,
                                shape.ring, 0);
    }
}

// The first row that is the group's and the ring's.
static uint64_t floor_of(const struct rml_group_in *in, uint32_t partition)
{
    uint64_t begins = rml_roster_begins(in->roster, partition);
    uint64_t first = rml_broadcast_first(&in->lanes[partition].ring);
    return begins > first ? begins : first;
}

// The lap of the last row before the floor that has the same index, or 0.
static uint64_t lap_before(const struct rml_group_in *in, uint32_t partition, uint64_t number)
{
    uint64_t floor = floor_of(in, partition), rows = in->shape.ring.row_count;
    uint64_t index = number & (rows - 1);
    if (floor <= index)
        return 0;
    return lap_at(in, (floor - 1 - index) / rows * rows + index);
}

static uint64_t look_at(const struct rml_group_in *in, uint32_t partition, uint64_t number)
{
    const _Atomic uint64_t *word = word_at(in, partition, number);
    // acquire: group.word
    return atomic_load_explicit(word, memory_order_acquire);
}

static bool swap_word(_Atomic uint64_t *at, uint64_t word, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(
        at, &word, to,
        memory_order_acq_rel,   // acquire: group.word, release: group.word
        memory_order_relaxed);  // relaxed: whoever loses looks again
}

static uint64_t look_at_next(const struct rml_group_in *in, uint32_t partition)
{
    const _Atomic uint64_t *next = next_of(in, partition);
    // acquire: group.next
    return atomic_load_explicit(next, memory_order_acquire);
}

// Swap a word for one that is mine, of a later lap or the same, and count what that says of former rows. The
// word that is there then; 0: it was another by now.
static uint64_t swap(struct rml_group_in *in, uint32_t partition, uint64_t number, uint64_t word,
                     enum state state)
{
    uint64_t lap = lap_at(in, number);
    bool is_same = lap_of(word) == lap;
    uint32_t again = is_same ? again_of(word) + (again_of(word) < AGAIN_MAX) : 0;
    uint64_t mine = lap << LAP_SHIFT | (in->turn & TURN_MASK) << TURN_SHIFT
                    | (uint64_t)in->member << MEMBER_SHIFT | (uint64_t)again << AGAIN_SHIFT | state;
    if (!swap_word(word_at(in, partition, number), word, mine))
        return 0;
    struct member_line *line = my_line(in);
    uint64_t before = lap_before(in, partition, number);
    uint64_t known = lap_of(word) > before ? lap_of(word) : before;
    bool takes = state == TAKEN;
    if (!is_same && lap - known > takes)
        count(&line->missed, lap - known - takes);
    if (state_of(word) == TAKEN && !is_same && lap_of(word) > before)
        count(&line->expired, 1);
    if (takes)
        count(&line->taken, 1);
    if (takes && is_same)
        count(&line->again, 1);
    return mine;
}

/*
 * Rows before `to` have gone from the ring, or are about to: say so of each that nobody has taken. A
 * word speaks for all rows of its index, so no more words are looked at than there are.
 */
static int pass_over(struct rml_group_in *in, uint32_t partition, uint64_t from, uint64_t to)
{
    uint64_t rows = in->shape.ring.row_count;
    for (uint64_t n = from; n < to && n < from + rows; n++) {
        uint64_t last = n + (to - 1 - n) / rows * rows;
        uint32_t tries = 0;
        for (;;) {
            uint64_t word = look_at(in, partition, last);
            if (lap_of(word) >= lap_at(in, last) || swap(in, partition, last, word, MISSED) != 0)
                break;
            if (++tries == TRIES)
                return fail(in, "a word of the group changes without end");
        }
    }
    in->lanes[partition].at = to;
    return 0;
}

static void help(struct rml_group_in *in, uint32_t partition)
{
    uint64_t at = in->lanes[partition].at, seen = look_at_next(in, partition);
    if (seen >= at)
        return;
    // Once is enough: who moved it meanwhile has helped, too.
    (void)atomic_compare_exchange_strong_explicit(
        next_of(in, partition), &seen, at,
        memory_order_release,   // release: group.next
        memory_order_relaxed);  // relaxed: what it has become is not looked at
}

enum visit { VISIT_NONE, VISIT_PASSED, VISIT_MINE, VISIT_GONE, VISIT_FAULT };

// Look at the row of that number, and take it if it can be taken.
static enum visit visit(struct rml_group_in *in, uint32_t partition, uint64_t number, void *row,
                        struct rml_group_row *ret_row, uint64_t *ret_newest)
{
    const struct rml_broadcast_in *ring = &in->lanes[partition].ring;
    uint64_t lap = lap_at(in, number);
    for (uint32_t tries = 0; tries < TRIES; tries++) {
        uint64_t word = look_at(in, partition, number);
        if (lap_of(word) == lap && !is_left(in, word) && rml_broadcast_reached(ring, number))
            return VISIT_PASSED;
        switch (rml_broadcast_copy(ring, number, row, ret_newest)) {
        case RML_BROADCAST_GONE:
            return VISIT_GONE;
        case RML_BROADCAST_NOT_YET:
            if (lap_of(word) >= lap) {
                fail(in, "a word of the group tells of a row that has not been");
                return VISIT_FAULT;
            }
            return VISIT_NONE;
        case RML_BROADCAST_THERE:
            break;
        }
        if (lap_of(word) > lap) {
            fail(in, "a word of the group is ahead of its ring");
            return VISIT_FAULT;
        }
        uint64_t mine = swap(in, partition, number, word, TAKEN);
        if (mine != 0) {
            *ret_row = (struct rml_group_row){partition, again_of(mine), number, mine};
            return VISIT_MINE;
        }
    }
    fail(in, "a word of the group changes without end");
    return VISIT_FAULT;
}

// Somebody is gone: all rows that the ring may still have are looked at once more.
static void go_back(struct rml_group_in *in, uint32_t partition, uint64_t version)
{
    struct rml_group_lane *lane = &in->lanes[partition];
    uint64_t floor = floor_of(in, partition), rows = in->shape.ring.row_count;
    uint64_t given = rml_broadcast_announced(&lane->ring);
    lane->version = version;
    lane->until = lane->at > given ? lane->at : given;
    lane->at = lane->until > rows && lane->until - rows > floor ? lane->until - rows : floor;
}

// How far to go where row `at` has gone. Rows that are looked at once more are passed over one by one, so that
// none is given up that is still there; else with room to breathe before the writer comes round again.
static uint64_t where_rows_are(const struct rml_group_in *in, const struct rml_group_lane *lane,
                               uint64_t floor, uint64_t newest)
{
    uint64_t rows = in->shape.ring.row_count;
    uint64_t slack = lane->at < lane->until ? 1 : rows / 8 + 1;
    uint64_t to = newest - rows + slack;
    return to > floor ? to : floor;
}

static int take_from(struct rml_group_in *in, uint32_t partition, void *row,
                     struct rml_group_row *ret_row)
{
    struct rml_group_lane *lane = &in->lanes[partition];
    uint64_t version = rml_roster_version(in->roster), newest = 0;
    uint64_t next = look_at_next(in, partition);
    if (next > 0 && !rml_broadcast_reached(&lane->ring, next - 1) && next > floor_of(in, partition))
        return fail(in, "the group's next row is ahead of its ring");
    if (lane->version != version)
        go_back(in, partition, version);
    if (lane->at >= lane->until && lane->at < next)
        lane->at = next;
    // As many as there are words, and then once more: the ring goes on while this looks.
    for (uint64_t left = 2 * (uint64_t)in->shape.ring.row_count; left > 0; left--) {
        uint64_t floor = floor_of(in, partition);
        lane->at = lane->at > floor ? lane->at : floor;
        if (lap_at(in, lane->at) > LAP_MAX)
            return -EOVERFLOW;
        switch (visit(in, partition, lane->at, row, ret_row, &newest)) {
        case VISIT_NONE:
            help(in, partition);
            return 0;
        case VISIT_PASSED:
            lane->at++;
            break;
        case VISIT_MINE:
            if (++lane->at % HELP_EVERY == 0)
                help(in, partition);
            return 1;
        case VISIT_GONE:
            floor = floor_of(in, partition);  // which a row that has been there carries
            if (lane->at >= floor
                && pass_over(in, partition, lane->at, where_rows_are(in, lane, floor, newest)) < 0)
                return -EPROTO;
            break;
        case VISIT_FAULT:
            return -EPROTO;
        }
    }
    help(in, partition);
    return 0;
}

int rml_group_take(struct rml_group_in *in, void *row, struct rml_group_row *ret_row)
{
    if (in->fault != NULL)
        return -EPROTO;
    for (uint32_t tried = 0; tried < in->shape.partitions; tried++) {
        int rc = take_from(in, in->next, row, ret_row);
        if (rc != 0)
            return rc;
        in->next = in->next + 1 < in->shape.partitions ? in->next + 1 : 0;
    }
    return 0;
}

bool rml_group_done(struct rml_group_in *in, const struct rml_group_row *row)
{
    if (!swap_word(word_at(in, row->partition, row->number), row->word,
                   (row->word & ~STATE_MASK) | DONE))
        return false;
    count(&my_line(in)->done, 1);
    return true;
}

bool rml_group_look(const struct rml_group_in *in)
{
    if (in->fault != NULL)
        return true;
    uint64_t version = rml_roster_version(in->roster);
    for (uint32_t p = 0; p < in->shape.partitions; p++) {
        const struct rml_group_lane *lane = &in->lanes[p];
        uint64_t next = look_at_next(in, p);
        uint64_t at = next > lane->at ? next : lane->at;
        if (lane->version != version || lane->at < lane->until
            || rml_broadcast_announced(&lane->ring) > at)
            return true;
    }
    return false;
}

void rml_group_count_member(struct rml_group_shape shape, const void *memory, uint32_t member,
                            struct rml_group_counts *ret_counts)
{
    RML_CHECK(member < RML_ROSTER_MEMBERS_MAX);
    const struct member_line *line = line_at(shape, memory, member);
    *ret_counts = (struct rml_group_counts){
        // relaxed: statistics
        .taken = atomic_load_explicit(&line->taken, memory_order_relaxed),
        // relaxed: statistics
        .again = atomic_load_explicit(&line->again, memory_order_relaxed),
        // relaxed: statistics
        .done = atomic_load_explicit(&line->done, memory_order_relaxed),
        // relaxed: statistics
        .missed = atomic_load_explicit(&line->missed, memory_order_relaxed),
        // relaxed: statistics
        .expired = atomic_load_explicit(&line->expired, memory_order_relaxed),
    };
}

void rml_group_count(struct rml_group_shape shape, const void *memory,
                     struct rml_group_counts *ret_counts)
{
    *ret_counts = (struct rml_group_counts){0};
    for (uint32_t m = 0; m < RML_ROSTER_MEMBERS_MAX; m++) {
        struct rml_group_counts one;
        rml_group_count_member(shape, memory, m, &one);
        ret_counts->taken += one.taken;
        ret_counts->again += one.again;
        ret_counts->done += one.done;
        ret_counts->missed += one.missed;
        ret_counts->expired += one.expired;
    }
}

uint64_t rml_group_waiting(struct rml_group_shape shape, const void *memory,
                           const struct rml_roster *roster, const void *rings, uint32_t partition)
{
    struct rml_broadcast_in ring;
    rml_broadcast_attach_in(
        &ring, (const unsigned char *)rings + partition * rml_broadcast_bytes(shape.ring),
        shape.ring, 1);
    uint64_t given = rml_broadcast_announced(&ring), begins = rml_roster_begins(roster, partition);
    // acquire: group.next
    uint64_t next = atomic_load_explicit(&parts_of(memory)[partition].next, memory_order_acquire);
    next = next > ring.next ? next : ring.next;  // what has gone waits no more
    next = next > begins ? next : begins;
    return given > next ? given - next : 0;
}
