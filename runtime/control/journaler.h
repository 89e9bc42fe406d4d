/*
 * journaler - the thread that makes entries of the journal durable, group by group.
 *
 *     workers             journaler                      checkpointer
 *        ──── entries ────►                    ◄── covered ──
 *        ◄─── durable ─────   write all there are, one flush
 *
 * What comes while a group is on its way to the disk is the next group. One that fails is said and
 * counted, and written again to another place, after a while; meanwhile workers take nothing of the sources
 * that have a journal, so producers may come to wait, and nothing is lost. So it is while the journal is full: a
 * checkpoint is wanted then, and makes room.
 */
#ifndef RML_CONTROL_JOURNALER_H
#define RML_CONTROL_JOURNALER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint/journal.h"
#include "runtime/checkpoint/journal_queue.h"
#include "runtime/plan/plan.h"
#include "runtime/time/clock.h"

struct rml_board;
struct rml_err;
struct rml_journaler;

struct rml_journaler_options {
    const struct rml_plan *plan;
    const char *folder;          // of the state
    const unsigned char *vault;  // its random number
    uint64_t life;               // rml_checkpointer_life
    const uint64_t *covered;     // by the checkpoint that was restored, for each partition
    const struct rml_clock *clock;
    struct rml_bell *bell;    // of the control thread, rung when a checkpoint is wanted
    struct rml_board *board;  // its counters and row of the journal are kept. May be NULL
    const struct rml_disk_way *const *ways;  // NULL: all there are
    unsigned broken_rules;                   // of enum rml_journal_broken_rule; 0, but in tests
    /* A sentence about a journal that fails, or works again. May be NULL. */
    void (*complain)(void *context, const char *sentence);
    void *complain_context;
};

/* Open the journal, making it where the plan has one. 0, or what rml_journal_open says. */
int rml_journaler_open(struct rml_journaler **ret_journaler,
                       const struct rml_journaler_options *options, struct rml_err *err);
void rml_journaler_close(struct rml_journaler *journaler);  // accepts NULL

/* Before the start: the journal, to read what it has. */
struct rml_journal *rml_journaler_journal(struct rml_journaler *journaler);

/* The queue of a worker; NULL where nothing is journaled any more. */
struct rml_journal_queue *rml_journaler_queue(struct rml_journaler *journaler, uint32_t worker);

int rml_journaler_start(struct rml_journaler *journaler, struct rml_err *err);

/* Instead of a start, for who has no thread for it: get ready, then any number of rounds. A round writes one
 * group at most; returns whether there was anything to do. */
void rml_journaler_begin(struct rml_journaler *journaler);
bool rml_journaler_round(struct rml_journaler *journaler);

/* Before workers are closed, which it wakes: it says nothing any more. Accepts NULL, and one that stopped. */
void rml_journaler_stop(struct rml_journaler *journaler);

/* A checkpoint covers so many entries of each partition. For one thread at a time, beside the journaler's. */
void rml_journaler_covered(struct rml_journaler *journaler, const uint64_t *positions);

/* Has it become short of room since it was asked last? For the control thread. */
bool rml_journaler_wants_checkpoint(struct rml_journaler *journaler);

/* Does it fail at present, so that nobody knows when what is on its way will be taken? */
bool rml_journaler_is_stuck(const struct rml_journaler *journaler);

#endif
