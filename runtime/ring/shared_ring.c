/*
 * THE SHARED RING
 *
 * Positions count cells and never go back; position p lies at index p modulo cell_count, in lap
 * p / cell_count + 1. The positions are cut into runs that follow each other without a gap. A run is
 * 1 to run_max adjacent cells that one owner claimed at once, and the word of its first cell says all
 * that there is to say about it:
 *
 *     lap (41 bits) | owner (12) | cells - 1 (8) | carried (1) | state (2)
 *
 * The words of its other cells stay as they are and are nobody's business. So whoever stands where a
 * run begins finds the next one behind it, and what has been claimed is a chain without a hole:
 *
 *          head                       tail              end of the chain
 *           v                          v                  v
 *     ...   | taken | published | claimed by 7 | published |  free, a lap ago  ...
 *           └ read by consumers from here       └ `tail` may lag: it is a place to start looking
 *
 * STATES
 *
 *     step        who          where                       word before            word after
 *     claim       producer     end of the chain, lap M     FREE, lap < M          CLAIMED@M by me
 *     carry       producer     end of the chain, lap M     not FREE, lap < M      the same @M, carried
 *     publish     its owner    its run, whatever its lap   CLAIMED by me          PUBLISHED
 *     give up     its owner    its run, whatever its lap   CLAIMED by me          FREE
 *     take        consumer     the chain from head on      PUBLISHED              TAKING by me
 *     done        its owner    its run, whatever its lap   TAKING by me           FREE
 *     recover     anybody      all words                   CLAIMED, TAKING by     FREE
 *                                                          a dead owner
 *
 * Every step is one compare-and-swap of one word, and each leaves the ring such that anybody can go on:
 * there is no second word that has to follow before others may. FREE in the chain's lap is a run with
 * nothing in it, a tombstone: consumers go on behind it.
 *
 * A producer claims behind the end of the chain: whoever meets a run of the lap it is in goes on
 * behind that, and if that took it far, helps `tail` there. It claims no cell that lies a whole ring
 * or more ahead of `head`, nor over a word that is not FREE: such a run is held up since a lap ago. It
 * cannot be claimed, and jumping over it would leave it to everybody whether he jumps or finds it free
 * a moment later. So the run is *carried*: its word is moved on to this lap as it is, and the chain
 * goes on behind it. Its owner need not know; its cells stay where they are. A stopped owner costs
 * its cells and a compare-and-swap for each lap, and nobody's time.
 *
 * A consumer goes along the chain from `head`. A run that is claimed and behind which others lie it
 * looks at a few times and then passes over: it notes the run's position in `held` of the owner, and
 * goes on. Held runs are looked at again in every take. One place for each owner is enough, since an
 * owner has one run claimed at a time; that bounds what can be held. A held run is taken from there
 * once published, whatever lap it was carried to, or where the chain shows it again.
 *
 *     held[owner]     position of the run that was passed over last, and whether that is open
 *
 * `head` moves over all that is taken, free or held, and so room comes free around a run that is not.
 *
 * WHAT ONE OWNER PUBLISHES IS TAKEN IN THAT ORDER
 *
 * It claims a run only after it published the one before. Its runs lie in the chain in the order of
 * its claims, but for one that was carried. A run is carried only where head has passed it, claimed
 * or published, and then it was passed over and `held` is open for it. A consumer that meets a run of
 * an owner whose `held` is open therefore takes the held one first; it must be published by then.
 *
 * NOTHING IS LOST OR TAKEN TWICE
 *
 * A word leaves PUBLISHED by one compare-and-swap of one consumer. The chain is read by consumers up
 * to its end, so every run is met in its lap; one that is met when claimed is in `held` before `head`
 * goes past it, and stays there until its word is no longer its own. A word's lap never repeats, so
 * nobody can mistake a run for a later one, however long he slept between his look and his swap; 41
 * bits of laps are counted to their end, and then no claim is given (-EOVERFLOW).
 *
 * With several consumers an entry of `held` may be written late, for a run that was taken meanwhile.
 * Its word is then not the owner's, or of a later lap and not carried; the entry is closed when seen.
 *
 * WHO WRITES WHAT
 *
 *     words, `tail`            producers and consumers; `tail` producers alone
 *     a cell                   the run's owner while CLAIMED, the taker reads while TAKING
 *     `head`, `held`,          consumers alone, in memory that producers can at best read
 *     `passes`
 *
 * The words are written by both sides because freeing a run and carrying it must exclude each other,
 * which two words cannot do. What consumers must be able to believe lies in words of their own.
 *
 * MEMORY ORDER
 *
 *     shared.cells    publish -> take            the contents of the run
 *     shared.room     done, recover -> claim     that the cells are read or written no longer
 *     shared.chain    any step -> whoever goes along the chain, or starts at head or tail: all that
 *                     the one who made the step had seen, so that what he built on is seen too
 *     shared.held     pass over -> take          that the run was passed over, before head shows it
 *
 * A claim swaps one word, and its cells may have been given back under several. It reads each of them
 * (shared.room); and a run that reaches into its cells from in front of them was met on the way along
 * the chain. Other edges than these would not show ThreadSanitizer who had a cell before.
 *
 * TRUST
 *
 * A hostile producer can write any word, `tail`, and every cell. It can spoil what others put into this
 * ring and fill it with rubbish; it cannot make a consumer read outside of the ring, nor turn for
 * ever, nor lose its place. A word is read once, judged, and swapped as read. One that cannot be true
 * is an error for good: a run that leaves its lap's memory or is longer than run_max, an owner that
 * does not exist, a lap ahead of head's by one, an owner that claims twice, a tail beyond a cell that
 * nobody claimed, a word that changes while it is taken. What producers can write without end ahead
 * of a consumer ends with the number of looks that a take has.
 *
 * A DEATH
 *
 * A producer's costs the run that it had claimed and not published: nobody waits for it meanwhile, and
 * `recover` frees it by one pass over all words. A consumer's costs the run that it was copying, which
 * `recover` frees likewise; its records count as taken. All else is as it was.
 *
 * WHERE IT COMES FROM
 *
 * A number of its lap in each cell, instead of two counters that have to be moved in order: D. Vyukov's
 * bounded MPMC queue (2010). Going on past cells that others are not done with: LCRQ (A. Morrison, Y. Afek,
 * PPoPP 2013) and SCQ (R. Nikolaev, DISC 2019), whose entries have a cycle; there the slow one's entry is
 * made void and it tries again, which an owner that fills its cells in place cannot. A tail that lags
 * and is helped on: M. Michael, M. Scott (PODC 1996). Claims of whole runs, the carrying of what is
 * held up, and the owner in the word, for his death, are ours. tests/model/shared_ring.pml tries every
 * interleaving of small rings, with owners that stop for ever and die; tests/unit/test_shared_ring.c
 * runs threads under ThreadSanitizer, test_shared_torture.c kills and stops processes.
 */
#include "runtime/ring/shared_ring.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/ring/ring.h"
#include "runtime/ring/stream.h"

#define PATIENCE   64u  // looks at a claimed run, some microseconds together
#define POLL_MAX   64u  // owners looked at in one take
#define TRIES      8u   // at a word that only its carrying may change, which a lap lies between
#define TAIL_CELLS 64u  // tail is moved when a claim passes a multiple of this

#define STATE_MASK  UINT64_C(3)
#define CARRIED     (UINT64_C(1) << 2)
#define COUNT_SHIFT 3
#define OWNER_SHIFT 11
#define LAP_SHIFT   23
#define LAP_MAX     (UINT64_MAX >> LAP_SHIFT)

#define INTENT_SHIFT 40  // an index in front, the end of the log, as far as it fits, behind
#define INTENT_END   ((UINT64_C(1) << INTENT_SHIFT) - 1)

enum state { FREE, CLAIMED, PUBLISHED, TAKING };

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock in shared memory would outlive its owner");
_Static_assert(RML_SHARED_RUN_MAX == 1u << (OWNER_SHIFT - COUNT_SHIFT), "a count fits its bits");
_Static_assert(RML_RING_CELLS_MAX <= 1u << (64 - INTENT_SHIFT), "an index fits its bits");
_Static_assert(RML_SHARED_OWNERS_MAX == (1u << (LAP_SHIFT - OWNER_SHIFT)) - 1, "an owner too");

struct tail_line {
    _Alignas(RML_RING_LINE) _Atomic uint64_t tail;
};

struct head_line {
    _Alignas(RML_RING_LINE) _Atomic uint64_t head;
    _Alignas(RML_RING_LINE) _Atomic uint64_t passes;
};

// What a take has copied so far, and where to: to a caller's memory, or into a log.
struct sink {
    unsigned char *records;
    uint16_t *owners;
    uint32_t want, got;
    const struct rml_shared_log *log;  // NULL: to memory
    uint64_t end;                      // of the log
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static size_t whole_lines(size_t bytes)
{
    return (bytes + RML_RING_LINE - 1) / RML_RING_LINE * RML_RING_LINE;
}

static enum state state_of(uint64_t word)
{
    return (enum state)(word & STATE_MASK);
}

static uint32_t count_of(uint64_t word)
{
    return (uint32_t)(word >> COUNT_SHIFT & (RML_SHARED_RUN_MAX - 1)) + 1;
}

static uint32_t owner_of(uint64_t word)
{
    return (uint32_t)(word >> OWNER_SHIFT & RML_SHARED_OWNERS_MAX);
}

static uint64_t lap_of(uint64_t word)
{
    return word >> LAP_SHIFT;
}

static uint64_t word_of(uint64_t lap, uint32_t owner, uint32_t count, enum state state)
{
    return lap << LAP_SHIFT | (uint64_t)owner << OWNER_SHIFT | (uint64_t)(count - 1) << COUNT_SHIFT
           | (uint64_t)state;
}

static uint64_t with_state(uint64_t word, enum state state)
{
    return (word & ~STATE_MASK) | (uint64_t)state;
}

static uint64_t taken_by(uint64_t word, uint32_t owner)
{
    return with_state((word & ~((uint64_t)RML_SHARED_OWNERS_MAX << OWNER_SHIFT))
                          | (uint64_t)owner << OWNER_SHIFT,
                      TAKING);
}

static uint64_t carried_to(uint64_t word, uint64_t lap)
{
    return (word & ~(LAP_MAX << LAP_SHIFT)) | lap << LAP_SHIFT | CARRIED;
}

static uint32_t index_at(const struct rml_shared_place *place, uint64_t position)
{
    return (uint32_t)position & (place->shape.cell_count - 1);
}

static unsigned char *cell_at(const struct rml_shared_place *place, uint32_t index)
{
    return place->cells + (size_t)index * place->shape.cell_bytes;
}

int rml_shared_check_shape(struct rml_shared_shape shape, struct rml_err *err)
{
    int rc = rml_ring_check_shape((struct rml_ring_shape){shape.cell_bytes, shape.cell_count}, err);
    if (rc < 0)
        return rc;
    if (shape.run_max == 0 || shape.run_max > least(RML_SHARED_RUN_MAX, shape.cell_count))
        return RML_FAIL(err, -EINVAL, "run_max is 1 to %u, got %u",
                        least(RML_SHARED_RUN_MAX, shape.cell_count), shape.run_max);
    if (shape.owner_count == 0 || shape.owner_count > RML_SHARED_OWNERS_MAX)
        return RML_FAIL(err, -EINVAL, "owner_count is 1 to %u, got %u", RML_SHARED_OWNERS_MAX,
                        shape.owner_count);
    return 0;
}

size_t rml_shared_records_bytes(struct rml_shared_shape shape)
{
    return sizeof(struct tail_line) + whole_lines((size_t)shape.cell_count * sizeof(uint64_t))
           + whole_lines((size_t)shape.cell_count * shape.cell_bytes);
}

size_t rml_shared_returns_bytes(struct rml_shared_shape shape)
{
    return sizeof(struct head_line) + whole_lines((size_t)shape.owner_count * sizeof(uint64_t));
}

struct rml_shared_place rml_shared_place_at(struct rml_shared_shape shape, void *records,
                                            void *returns)
{
    RML_CHECK(rml_shared_check_shape(shape, NULL) == 0);
    RML_CHECK(((uintptr_t)records | (uintptr_t)returns) % RML_RING_LINE == 0);
    struct tail_line *tail = records;
    struct head_line *head = returns;
    unsigned char *words = (unsigned char *)records + sizeof *tail;
    return (struct rml_shared_place){
        .shape = shape,
        .cells = words + whole_lines((size_t)shape.cell_count * sizeof(uint64_t)),
        .words = (void *)words,
        .tail = &tail->tail,
        .head = &head->head,
        .passes = &head->passes,
        .held = (void *)((unsigned char *)returns + sizeof *head),
    };
}

static uint32_t lap_shift_of(struct rml_shared_shape shape)
{
    return (uint32_t)__builtin_ctz(shape.cell_count);
}

void rml_shared_attach_out(struct rml_shared_out *out, const struct rml_shared_place *place,
                           uint32_t owner)
{
    RML_CHECK(owner >= 1 && owner <= place->shape.owner_count);
    *out = (struct rml_shared_out){
        .place = *place, .lap_shift = lap_shift_of(place->shape), .owner = owner};
    // acquire: shared.chain
    out->head = atomic_load_explicit(place->head, memory_order_acquire);
    out->next = out->head;
}

void rml_shared_attach_in(struct rml_shared_in *in, const struct rml_shared_place *place,
                          uint32_t owner)
{
    RML_CHECK(owner >= 1 && owner <= place->shape.owner_count);
    *in = (struct rml_shared_in){.place = *place,
                                 .patience = PATIENCE,
                                 .lap_shift = lap_shift_of(place->shape),
                                 .last = UINT64_MAX,
                                 .owner = owner};
}

static uint64_t look_at(const struct rml_shared_place *place, uint32_t index)
{
    // acquire: shared.chain
    return atomic_load_explicit(&place->words[index], memory_order_acquire);
}

// What every word of the chain keeps to, whoever wrote it.
static const char *misfit(const struct rml_shared_place *place, uint32_t index, uint64_t word)
{
    if (owner_of(word) == 0 || owner_of(word) > place->shape.owner_count)
        return "a cell is claimed by an owner that does not exist";
    if (count_of(word) > place->shape.run_max)
        return "a run is longer than runs can be";
    if (count_of(word) > place->shape.cell_count - index)
        return "a run goes on where the memory ends";
    return NULL;
}

/* Producers. */

static int out_fault(struct rml_shared_out *out, const char *fault)
{
    out->fault = fault;
    return -EPROTO;
}

static void see_head(struct rml_shared_out *out)
{
    // acquire: shared.chain
    out->head = atomic_load_explicit(out->place.head, memory_order_acquire);
}

// Where to look for the end of the chain: the furthest of what we know, and of what others tell.
static int start_of(struct rml_shared_out *out, uint64_t *ret_position)
{
    // acquire: shared.chain
    uint64_t tail = atomic_load_explicit(out->place.tail, memory_order_acquire);
    if (tail > out->head && tail - out->head > out->place.shape.cell_count) {
        see_head(out);
        if (tail > out->head && tail - out->head > out->place.shape.cell_count)
            return out_fault(out, "the tail lies more than a ring ahead of the head");
    }
    uint64_t position = out->next > out->head ? out->next : out->head;
    *ret_position = tail > position ? tail : position;
    return 0;
}

static void help_tail(struct rml_shared_out *out, uint64_t end)
{
    // relaxed: compared and swapped below
    uint64_t tail = atomic_load_explicit(out->place.tail, memory_order_relaxed);
    while (tail < end && end - tail >= TAIL_CELLS) {
        if (atomic_compare_exchange_weak_explicit(
                out->place.tail, &tail, end,
                memory_order_release,   // release: shared.chain
                memory_order_relaxed))  // relaxed: whoever loses only tries again
            return;
    }
}

// How many cells from `position` on can be had: before the memory's end, in the room, and all free.
static uint32_t free_cells(struct rml_shared_out *out, uint64_t position, uint32_t want)
{
    const struct rml_shared_place *place = &out->place;
    uint32_t index = index_at(place, position);
    want = least(want, place->shape.cell_count - index);
    if (position + want - out->head > place->shape.cell_count)
        see_head(out);
    uint64_t ahead = position - out->head;
    if (ahead >= place->shape.cell_count)  // the head has gone past it, and so have others
        return 0;
    want = least(want, place->shape.cell_count - (uint32_t)ahead);
    for (uint32_t i = 1; i < want; i++) {
        // acquire: shared.room
        uint64_t word = atomic_load_explicit(&place->words[index + i], memory_order_acquire);
        if (state_of(word) != FREE)
            return i;
    }
    return want;
}

// One word at the end of the chain: true once its run is ours.
static bool swap_word(struct rml_shared_out *out, uint32_t index, uint64_t word, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(
        &out->place.words[index], &word, to,
        memory_order_acq_rel,   // release: shared.chain, acquire: shared.room
        memory_order_relaxed);  // relaxed: whoever loses looks again
}

// Go on to the next run, whose word must be such that there is one.
static int step_over(struct rml_shared_out *out, uint64_t word, uint64_t *position)
{
    const char *fault = misfit(&out->place, index_at(&out->place, *position), word);
    if (fault != NULL)
        return out_fault(out, fault);
    *position += count_of(word);
    return 0;
}

int32_t rml_shared_claim(struct rml_shared_out *out, uint32_t want, void **ret_cells)
{
    RML_CHECK(want > 0 && out->claimed == 0);

    const struct rml_shared_place *place = &out->place;
    uint64_t position;
    int rc = start_of(out, &position);
    want = least(want, place->shape.run_max);
    while (rc == 0) {
        if (position - out->head >= place->shape.cell_count) {
            see_head(out);
            if (position < out->head)
                position = out->head;
            if (position - out->head >= place->shape.cell_count) {
                out->next = position;
                return 0;
            }
        }
        uint32_t index = index_at(place, position);
        uint64_t word = look_at(place, index);
        uint64_t lap = (position >> out->lap_shift) + 1;
        if (lap > LAP_MAX) {
            out->fault = "the last lap is over";
            return -EOVERFLOW;
        }
        if (lap_of(word) == lap) {
            rc = step_over(out, word, &position);
        } else if (lap_of(word) > lap) {
            see_head(out);
            if (out->head <= position)
                return out_fault(out, "a cell is a lap ahead of its consumers");
            position = out->head;
        } else if (state_of(word) != FREE) {
            (void)swap_word(out, index, word, carried_to(word, lap));
        } else {
            uint32_t count = free_cells(out, position, want);
            if (count == 0
                || !swap_word(out, index, word, word_of(lap, out->owner, count, CLAIMED)))
                continue;
            out->next = position + count;
            help_tail(out, out->next);
            out->at = index;
            out->claimed = count;
            *ret_cells = cell_at(place, index);
            return (int32_t)count;
        }
    }
    return rc;
}

// Our run's word leaves CLAIMED; its lap is not asked for, since others may carry it meanwhile.
static int leave_claim(struct rml_shared_out *out, enum state state)
{
    RML_CHECK(out->claimed > 0);
    _Atomic uint64_t *place = &out->place.words[out->at];
    // relaxed: compared and swapped below
    uint64_t word = atomic_load_explicit(place, memory_order_relaxed);
    uint64_t ours = word_of(0, out->owner, out->claimed, CLAIMED);
    out->claimed = 0;
    while ((word & ~(LAP_MAX << LAP_SHIFT | CARRIED)) == ours) {
        if (atomic_compare_exchange_weak_explicit(
                place, &word, with_state(word, state),
                memory_order_release,   // release: shared.cells
                memory_order_relaxed))  // relaxed: whoever loses only tries again
            return 0;
    }
    return out_fault(out, "a claimed run is no longer its owner's");
}

int rml_shared_publish(struct rml_shared_out *out)
{
    return leave_claim(out, PUBLISHED);
}

int rml_shared_give_up(struct rml_shared_out *out)
{
    return leave_claim(out, FREE);
}

/* Consumers. Steps along the chain return 1 to go on, 0 when there is nothing more for now, -EPROTO. */

static int in_fault(struct rml_shared_in *in, const char *fault)
{
    in->fault = fault;
    return -EPROTO;
}

// A position in `held`, and whether the run there is still to be taken; 0: there was none yet.
static uint64_t open_at(uint64_t position)
{
    return (position + 1) << 1 | 1;
}

static bool is_open(uint64_t entry)
{
    return (entry & 1) != 0;
}

static uint64_t position_of(uint64_t entry)
{
    return (entry >> 1) - 1;
}

static uint64_t look_at_held(const struct rml_shared_in *in, uint32_t owner)
{
    // acquire: shared.held
    return atomic_load_explicit(&in->place.held[owner - 1], memory_order_acquire);
}

static bool swap_held(struct rml_shared_in *in, uint32_t owner, uint64_t entry, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(
        &in->place.held[owner - 1], &entry, to,
        memory_order_release,   // release: shared.held
        memory_order_relaxed);  // relaxed: whoever loses looks again
}

// Is this word the run that was passed over?
static bool is_held_run(const struct rml_shared_in *in, uint32_t owner, uint64_t entry,
                        uint64_t word)
{
    uint64_t lap = (position_of(entry) >> in->lap_shift) + 1;
    return owner_of(word) == owner && (state_of(word) == CLAIMED || state_of(word) == PUBLISHED)
           && (lap_of(word) == lap || (word & CARRIED) != 0);
}

// The cells are copied: give them back, wherever the run was carried meanwhile.
static int free_run(struct rml_shared_in *in, uint32_t index, uint64_t taking)
{
    uint64_t word = taking;
    for (uint32_t i = 0; i < TRIES; i++) {
        if (atomic_compare_exchange_strong_explicit(
                &in->place.words[index], &word, with_state(word, FREE),
                memory_order_release,   // release: shared.room
                memory_order_relaxed))  // relaxed: a lost swap is judged below
            return 0;
        if (word != carried_to(taking, lap_of(word)))
            break;
    }
    return in_fault(in, "a run changed while it was taken");
}

static uint64_t intent_of(uint32_t index, uint64_t end)
{
    return (uint64_t)index << INTENT_SHIFT | (end & INTENT_END);
}

// Say, to who comes after us, what is about to be copied and where to.
static void mean_to(const struct sink *sink, uint32_t index)
{
    // relaxed: the swap that takes the run comes after it, and whoever reads it after our death
    atomic_store_explicit(sink->log->intent, intent_of(index, sink->end), memory_order_relaxed);
}

// The cells of a run, which goes on at the log's beginning where its memory ends.
static void put_in_log(const struct rml_shared_in *in, const struct rml_shared_log *log,
                       uint64_t end, uint32_t index, uint32_t count)
{
    size_t cell_bytes = in->place.shape.cell_bytes;
    uint32_t at = (uint32_t)end & (log->cell_count - 1);
    uint32_t first = least(count, log->cell_count - at);
    const unsigned char *from = cell_at(&in->place, index);
    memcpy(log->cells + at * cell_bytes, from, first * cell_bytes);
    memcpy(log->cells, from + first * cell_bytes, (count - first) * cell_bytes);
    // release: ring.cells
    atomic_store_explicit(log->end, end + count, memory_order_release);
}

static void put_in_memory(const struct rml_shared_in *in, const struct sink *sink, uint32_t index,
                          uint32_t owner, uint32_t count)
{
    size_t cell_bytes = in->place.shape.cell_bytes;
    memcpy(sink->records + sink->got * cell_bytes, cell_at(&in->place, index), count * cell_bytes);
    for (uint32_t i = 0; sink->owners != NULL && i < count; i++)
        sink->owners[sink->got + i] = (uint16_t)owner;
}

/* Take a published run. 1: it is in the sink; 0: the word has changed; -EPROTO. */
static int take_run(struct rml_shared_in *in, uint32_t index, uint64_t word, struct sink *sink)
{
    uint64_t taking = taken_by(word, in->owner);
    uint64_t seen = word;
    if (sink->log != NULL)
        mean_to(sink, index);
    if (!atomic_compare_exchange_strong_explicit(
            &in->place.words[index], &seen, taking,
            memory_order_acq_rel,   // acquire: shared.cells, release: shared.chain
            memory_order_relaxed))  // relaxed: whoever loses looks again
        return 0;
    uint32_t count = count_of(word);
    if (sink->log != NULL)
        put_in_log(in, sink->log, sink->end, index, count);
    else
        put_in_memory(in, sink, index, owner_of(word), count);
    sink->end += count;
    sink->got += count;
    int rc = free_run(in, index, taking);
    return rc < 0 ? rc : 1;
}

enum held { GONE, STANDING, NO_PLACE };

/* Look at a run that was passed over. */
static int settle(struct rml_shared_in *in, uint32_t owner, uint64_t entry, struct sink *sink)
{
    uint32_t index = index_at(&in->place, position_of(entry));
    for (uint32_t i = 0; i < TRIES; i++) {
        uint64_t word = look_at(&in->place, index);
        if (!is_held_run(in, owner, entry, word)) {
            (void)swap_held(in, owner, entry, entry & ~UINT64_C(1));
            return GONE;
        }
        const char *fault = misfit(&in->place, index, word);
        if (fault != NULL)
            return in_fault(in, fault);
        if (state_of(word) == CLAIMED)
            return STANDING;
        if (sink->want - sink->got < count_of(word))
            return NO_PLACE;
        int rc = take_run(in, index, word, sink);
        if (rc < 0)
            return rc;
    }
    return STANDING;
}

// Look again at what was passed over: at up to POLL_MAX owners, unless there can be nothing.
static int look_back(struct rml_shared_in *in, struct sink *sink)
{
    // acquire: shared.held
    uint64_t passes = atomic_load_explicit(in->place.passes, memory_order_acquire);
    if (in->is_clear && passes == in->passes)
        return 0;
    in->is_clear = false;
    uint32_t owner_count = in->place.shape.owner_count;
    for (uint32_t i = least(owner_count, POLL_MAX); i > 0; i--) {
        if (in->poll_next == 0) {
            in->passes = passes;
            in->open_seen = false;
        }
        uint32_t owner = in->poll_next + 1;
        uint64_t entry = look_at_held(in, owner);
        if (is_open(entry)) {
            int rc = settle(in, owner, entry, sink);
            if (rc < 0)
                return rc;
            in->open_seen |= rc != GONE;
        }
        in->poll_next = owner % owner_count;
        if (in->poll_next == 0 && !in->open_seen) {
            in->is_clear = true;
            return 0;
        }
    }
    return 0;
}

// The end of the chain, as it seems: is that so?
static int see_end(struct rml_shared_in *in, uint64_t position, uint64_t lap)
{
    // acquire: shared.chain
    uint64_t tail = atomic_load_explicit(in->place.tail, memory_order_acquire);
    if (tail > position && lap_of(look_at(&in->place, index_at(&in->place, position))) < lap)
        return in_fault(in, "the tail lies beyond a cell that nobody claimed");
    in->is_end = true;
    return 0;
}

// Somebody claimed the run, and may be slow, or stopped, or dead.
static int pass_over(struct rml_shared_in *in, uint64_t word, uint64_t *position,
                     const struct sink *sink)
{
    uint32_t index = index_at(&in->place, *position);
    uint64_t behind = *position + count_of(word);
    bool is_last = in->last != UINT64_MAX;
    if (!is_last
        && lap_of(look_at(&in->place, index_at(&in->place, behind)))
               != (behind >> in->lap_shift) + 1) {
        in->is_end = true;
        return 0;  // nothing would be won
    }
    if (sink->got > 0)
        return 0;  // what there is first
    for (uint32_t i = 0; !is_last && i < in->patience; i++) {
        rml_pause();
        if (look_at(&in->place, index) != word)
            return 1;
    }
    uint32_t owner = owner_of(word);
    uint64_t entry = look_at_held(in, owner);
    if (is_open(entry) || look_at(&in->place, index) != word)
        return 1;  // another consumer has been here
    if (!swap_held(in, owner, entry, open_at(*position)))
        return 1;
    // release: shared.held
    atomic_fetch_add_explicit(in->place.passes, 1, memory_order_release);
    in->passed_over++;
    *position = behind;
    return 1;
}

// A run of an owner of whom an earlier one was passed over: that one comes first.
static int meet_held(struct rml_shared_in *in, uint64_t word, uint64_t entry, uint64_t *position,
                     struct sink *sink)
{
    uint32_t index = index_at(&in->place, *position);
    bool is_same = index_at(&in->place, position_of(entry)) == index
                   && is_held_run(in, owner_of(word), entry, word);
    int rc = settle(in, owner_of(word), entry, sink);
    if (rc < 0)
        return rc;
    if (rc != STANDING)
        return rc == GONE;
    if (!is_same)
        return in_fault(in, "an owner claims a run while it holds another");
    // Who opened the entry may not have come to say so, and head is about to go past the run.
    // release: shared.held
    atomic_fetch_add_explicit(in->place.passes, 1, memory_order_release);
    *position += count_of(word);
    return 1;
}

// Other consumers have been here, and head has gone on; or else somebody wrote what he must not.
static int catch_up(struct rml_shared_in *in, uint64_t *position, const char *fault)
{
    // acquire: shared.chain
    uint64_t head = atomic_load_explicit(in->place.head, memory_order_acquire);
    if (head <= *position)
        return in_fault(in, fault);
    *position = head;
    return 1;
}

// One run of the chain.
static int visit(struct rml_shared_in *in, uint64_t *position, struct sink *sink)
{
    if (*position >= in->last) {
        in->is_end = true;
        return 0;
    }
    uint32_t index = index_at(&in->place, *position);
    uint64_t word = look_at(&in->place, index);
    uint64_t lap = (*position >> in->lap_shift) + 1;
    if (lap_of(word) < lap)
        return see_end(in, *position, lap);
    if (lap_of(word) > lap)
        return catch_up(in, position, "a cell is a lap ahead of its consumers");
    const char *fault = misfit(&in->place, index, word);
    if (fault != NULL)
        return in_fault(in, fault);
    if (state_of(word) == CLAIMED || state_of(word) == PUBLISHED) {
        uint64_t entry = look_at_held(in, owner_of(word));
        if (is_open(entry) && position_of(entry) > *position)
            return look_at(&in->place, index) != word
                       ? 1  // taken by who passed over the later one, and head is still to move
                       : catch_up(in, position, "an owner holds a run ahead of one it published");
        if (is_open(entry))
            return meet_held(in, word, entry, position, sink);
        if (state_of(word) == CLAIMED)
            return pass_over(in, word, position, sink);
        if (sink->want - sink->got < count_of(word))
            return 0;
        int rc = take_run(in, index, word, sink);
        if (rc <= 0)
            return rc < 0 ? rc : 1;  // the word has changed: look again
    }
    *position += count_of(word);
    return 1;
}

static void move_head(struct rml_shared_in *in, uint64_t head, uint64_t position)
{
    while (head < position) {
        if (atomic_compare_exchange_weak_explicit(
                in->place.head, &head, position,
                memory_order_seq_cst,   // total order: before a look at who waits for room
                memory_order_relaxed))  // relaxed: whoever loses only tries again
            return;
    }
}

// Go along the chain, as long as there is something to be had.
static int32_t walk(struct rml_shared_in *in, struct sink *sink, int rc)
{
    // acquire: shared.chain
    uint64_t head = atomic_load_explicit(in->place.head, memory_order_acquire);
    uint64_t position = head;
    if (rc == 0)
        rc = 1;
    for (uint32_t looks = 2 * sink->want + in->place.shape.run_max; rc > 0 && looks > 0; looks--)
        rc = sink->got < sink->want ? visit(in, &position, sink) : 0;
    move_head(in, head, position);
    return rc < 0 && sink->got == 0 ? rc : (int32_t)sink->got;
}

// NOLINTNEXTLINE(readability-non-const-parameter): written by way of the sink
int32_t rml_shared_take(struct rml_shared_in *in, void *records, uint16_t *owners, uint32_t want)
{
    RML_CHECK(want >= in->place.shape.run_max);
    if (in->fault != NULL)
        return -EPROTO;

    struct sink sink = {.records = records, .owners = owners, .want = want};
    return walk(in, &sink, look_back(in, &sink));
}

/*
 * Look again at all that was passed over. 0; 1 when something published found no room; -EPROTO. Nobody
 * else passes over in a ring with one consumer, so what is open is all that is.
 */
static int look_back_at_all(struct rml_shared_in *in, struct sink *sink)
{
    // relaxed: nobody else writes it
    uint64_t passes = atomic_load_explicit(in->place.passes, memory_order_relaxed);
    if (in->is_clear && passes == in->passes)
        return 0;
    bool any = false;
    for (uint32_t owner = 1; owner <= in->place.shape.owner_count; owner++) {
        uint64_t entry = look_at_held(in, owner);
        if (!is_open(entry))
            continue;
        int rc = settle(in, owner, entry, sink);
        if (rc < 0 || rc == NO_PLACE)
            return rc < 0 ? rc : 1;
        any |= rc == STANDING;
    }
    in->passes = passes;
    in->is_clear = !any;
    return 0;
}

int32_t rml_shared_gather(struct rml_shared_in *in, const struct rml_shared_log *log, uint32_t want,
                          uint64_t room)
{
    if (in->fault != NULL)
        return -EPROTO;
    in->is_end = false;
    // relaxed: nobody else writes it
    uint64_t end = atomic_load_explicit(log->end, memory_order_relaxed);
    struct sink sink = {.log = log, .end = end, .want = want};
    if (room - end < want)
        sink.want = (uint32_t)(room - end);
    int rc = look_back_at_all(in, &sink);
    in->is_back = rc == 0;
    if (rc > 0)
        return (int32_t)sink.got;
    return walk(in, &sink, rc);
}

int rml_shared_gather_again(struct rml_shared_in *in, const struct rml_shared_log *log,
                            uint64_t room)
{
    // relaxed: of one that is dead
    uint64_t intent = atomic_load_explicit(log->intent, memory_order_relaxed);
    // relaxed: likewise
    uint64_t end = atomic_load_explicit(log->end, memory_order_relaxed);
    uint32_t index = (uint32_t)(intent >> INTENT_SHIFT) & (in->place.shape.cell_count - 1);
    uint64_t word = look_at(&in->place, index);
    if (state_of(word) != TAKING || owner_of(word) != in->owner)
        return 0;  // it had not begun, or was done
    if (misfit(&in->place, index, word) != NULL)
        return in_fault(in, misfit(&in->place, index, word));
    if ((intent & INTENT_END) == (end & INTENT_END)) {
        if (room - end < count_of(word))
            return in_fault(in, "a run changed while it was taken");
        put_in_log(in, log, end, index, count_of(word));
    }
    return free_run(in, index, word);
}

void rml_shared_gather_last(struct rml_shared_in *in)
{
    in->last = rml_shared_position(in) + in->place.shape.cell_count;
}

uint64_t rml_shared_position(const struct rml_shared_in *in)
{
    // acquire: shared.chain
    return atomic_load_explicit(in->place.head, memory_order_acquire);
}

uint64_t rml_shared_chain_end(const struct rml_shared_in *in)
{
    uint64_t head = rml_shared_position(in), most = head + in->place.shape.cell_count;
    // acquire: shared.chain
    uint64_t position = atomic_load_explicit(in->place.tail, memory_order_acquire);
    if (position < head || position > most)
        position = head;
    while (position < most) {
        uint64_t word = look_at(&in->place, index_at(&in->place, position));
        if (lap_of(word) != (position >> in->lap_shift) + 1)
            break;
        position += count_of(word);
    }
    return position;
}

uint64_t rml_shared_head_look(const struct rml_shared_out *out)
{
    // total order: after the producer's word that it waits, before it sleeps
    return atomic_load_explicit(out->place.head, memory_order_seq_cst);
}

// Free a run if a dead owner still holds it: its cells, 0, or -EPROTO.
static int32_t recover_run(const struct rml_shared_place *place, uint32_t index, uint32_t owner)
{
    uint64_t word = look_at(place, index);
    for (uint32_t i = 0; i < TRIES; i++) {
        if (owner_of(word) != owner || (state_of(word) != CLAIMED && state_of(word) != TAKING))
            return 0;
        if (atomic_compare_exchange_strong_explicit(
                &place->words[index], &word, with_state(word, FREE),
                memory_order_release,   // release: shared.room
                memory_order_relaxed))  // relaxed: whoever loses looks again
            return (int32_t)least(count_of(word), place->shape.cell_count - index);
    }
    return -EPROTO;
}

int32_t rml_shared_recover(const struct rml_shared_place *place, uint32_t owner)
{
    RML_CHECK(owner >= 1 && owner <= place->shape.owner_count);
    int32_t freed = 0;
    for (uint32_t index = 0; index < place->shape.cell_count; index++) {
        int32_t cells = recover_run(place, index, owner);
        if (cells < 0)
            return cells;
        freed += cells;
    }
    return freed;
}
