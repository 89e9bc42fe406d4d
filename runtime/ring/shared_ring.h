/*
 * shared_ring - many producers hand fixed-size cells to one or several consumers, across threads and
 * processes, and nobody waits for anybody: whoever is stopped or killed, anywhere, the others go on.
 *
 *     a producer, holding an out end   claim a run of cells -> fill them -> publish, or give up
 *     a consumer, holding an in end    take: whole runs, copied out; or, where there is only one and its
 *                                      death must not lose a record, gather: into a log
 *     who knows that a process died    recover: what its ends had claimed comes free
 *
 * Every end, of either kind, is an owner: a number that no other end of the ring has. What one owner
 * publishes is taken in the order in which it published it; nothing is said about two owners. Nothing
 * here blocks, allocates or enters the kernel. One thread at a time may use an end. States, memory
 * order, trust, and what a death leaves behind: the essay at the top of shared_ring.c.
 */
#ifndef RML_RING_SHARED_RING_H
#define RML_RING_SHARED_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rml_err;

#define RML_SHARED_RUN_MAX    256u   // cells that one claim can get
#define RML_SHARED_OWNERS_MAX 4095u  // of one ring

struct rml_shared_shape {
    uint32_t cell_bytes;   // as of any ring
    uint32_t cell_count;   // likewise, a power of two
    uint32_t run_max;      // cells of one claim, at most RML_SHARED_RUN_MAX and cell_count
    uint32_t owner_count;  // owners are 1 ... owner_count, at most RML_SHARED_OWNERS_MAX
};

/*
 * Where a ring lies. New, zeroed memory is an empty ring. Producers need to write what stands first,
 * and need only read what consumers write: it may lie where they cannot map it writable.
 */
struct rml_shared_place {
    struct rml_shared_shape shape;
    unsigned char *cells;     // producers write; 64-byte aligned
    _Atomic uint64_t *words;  // one for each cell; producers and consumers write
    _Atomic uint64_t *tail;   // producers write
    _Atomic uint64_t *head;   // consumers write
    _Atomic uint64_t *passes;
    _Atomic uint64_t *held;  // one for each owner
};

/* A producer's end. It lives in the producer's own memory; its fields are shared_ring.c's. */
struct rml_shared_out {
    struct rml_shared_place place;
    const char *fault;  // why a call returned -EPROTO
    uint64_t head;      // when last looked
    uint64_t next;      // a run ends here
    uint32_t lap_shift;
    uint32_t owner;
    uint32_t at, claimed;  // the run claimed, 0 cells: none
};

/* A consumer's end, likewise. */
struct rml_shared_in {
    struct rml_shared_place place;
    const char *fault;
    uint64_t passed_over;  // runs that this end did not wait for
    uint32_t patience;     // how often it looks at a claimed run before that; may be set
    uint32_t lap_shift;
    uint32_t owner;
    uint32_t poll_next;  // the owner whose held run is looked at next
    uint64_t passes;     // as this round of looking began
    bool open_seen;      // in this round
    bool is_clear;       // nothing was held in all of a round that began at `passes`
    bool is_end;         // the last gathering came to where nothing is published any more
    bool is_back;        // and took all that was published of what had been passed over
    uint64_t last;       // no run is taken that begins here or later
};

/*
 * Where the only consumer of a ring puts records so that none is lost or there twice when it dies: a
 * ring of cells, and two words that outlive it. New, zeroed memory is an empty log.
 */
struct rml_shared_log {
    unsigned char *cells;
    uint32_t cell_count;       // a power of two, at least run_max
    _Atomic uint64_t *end;     // records ever put into the log
    _Atomic uint64_t *intent;  // the run being copied, and where to
};

/* 0, or -EINVAL and a sentence when there is no such ring. */
int rml_shared_check_shape(struct rml_shared_shape shape, struct rml_err *err);

/* What the two parts of a ring take, multiples of 64: what producers write, what only consumers do. */
size_t rml_shared_records_bytes(struct rml_shared_shape shape);
size_t rml_shared_returns_bytes(struct rml_shared_shape shape);

/* The ring whose parts lie at `records` and `returns`, both 64-byte aligned. */
struct rml_shared_place rml_shared_place_at(struct rml_shared_shape shape, void *records,
                                            void *returns);

/* Hold an end. The memory stays the caller's; there is nothing to close. `owner` is nobody else's. */
void rml_shared_attach_out(struct rml_shared_out *out, const struct rml_shared_place *place,
                           uint32_t owner);
void rml_shared_attach_in(struct rml_shared_in *in, const struct rml_shared_place *place,
                          uint32_t owner);

/*
 * Claim a run of up to `want` adjacent cells, the first at *ret_cells. It is shorter where memory
 * ends, where room ends, and before cells that somebody else still holds. Returns its length; 0 when
 * there is no room; -EPROTO and out->fault when the ring shows what cannot be; -EOVERFLOW after the
 * last lap that can be counted (2^41 times all cells). An end holds one run: publish it, or give it
 * up, before the next claim.
 */
int32_t rml_shared_claim(struct rml_shared_out *out, uint32_t want, void **ret_cells);

/*
 * The claimed run is filled: make it visible. 0, or -EPROTO and out->fault when it is not ours any
 * more, because somebody took this end for dead or wrote what he must not; then it is not published.
 */
int rml_shared_publish(struct rml_shared_out *out);

/* The claimed run will not be filled. Likewise. */
int rml_shared_give_up(struct rml_shared_out *out);

/*
 * Copy up to `want` records out, which must be at least run_max; `owners`, unless it is NULL, is told
 * whose each is. Returns how many; 0 when there are none; -EPROTO and in->fault when the ring shows
 * what cannot be, from then on always. A record is taken once, by one consumer.
 */
int32_t rml_shared_take(struct rml_shared_in *in, void *records, uint16_t *owners, uint32_t want);

/*
 * The same for an only consumer, into its log: at most `want` records (at least run_max), and none at or
 * behind position `room` of the log. With in->is_end everything is in the log then that was published
 * before the call. Returns how many, or -EPROTO.
 */
int32_t rml_shared_gather(struct rml_shared_in *in, const struct rml_shared_log *log, uint32_t want,
                          uint64_t room);

/*
 * Of an only consumer, before anything else after the death of the one before, whose number it has: a run
 * that was being copied gets into the log once. 0, or -EPROTO: the log has no room for it, which cannot be.
 */
int rml_shared_gather_again(struct rml_shared_in *in, const struct rml_shared_log *log,
                            uint64_t room);

/*
 * Of an only consumer: from now on look no further than a ring's length, and pass over at once what is
 * claimed and not published. So it comes to an end, whatever producers still do.
 */
void rml_shared_gather_last(struct rml_shared_in *in);

/* Where the chain of claims ends, as it seems to a consumer; and where it goes on taking. What is
 * claimed later lies at or behind the first. */
uint64_t rml_shared_chain_end(const struct rml_shared_in *in);
uint64_t rml_shared_position(const struct rml_shared_in *in);

/* How far consumers have come, looked up in the total order of all sequentially consistent accesses:
 * for a producer that has said that it will sleep. */
uint64_t rml_shared_head_look(const struct rml_shared_out *out);

/*
 * `owner` is dead, which the caller has seen proved: none of its stores is still to come. What it had
 * claimed and not published is free for others, and so is what it was taking if it was a consumer
 * (those records are gone with it). What it published is taken as ever. Afterwards the number may be
 * given to somebody else. Returns how many cells came free, or -EPROTO if somebody fights over one.
 */
int32_t rml_shared_recover(const struct rml_shared_place *place, uint32_t owner);

#endif
