/*
 * checkpointer - the thread that makes checkpoints durable, and knows when one is due.
 *
 *     control thread        checkpointer           workers
 *          ◄──── due ────────
 *          ───── begin ─────►                       (then the control thread tells them)
 *                            ◄════ handover ═══════ bytes of snapshots
 *          ◄──── done ───────  committed, or not    (then it tells them that, too)
 *
 * Between begin and done there is one checkpoint, and all that workers hand over is of that. One that
 * fails is said and counted, and tried again after a while; meanwhile nothing is released, so producers
 * may come to wait, and nothing is lost.
 *
 * The snapshots of checkpoints are numbered without gaps; each says how many of those before it a
 * partition is restored from with it (runtime/state/snapshot.h).
 */
#ifndef RML_CONTROL_CHECKPOINTER_H
#define RML_CONTROL_CHECKPOINTER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint/catalog.h"
#include "runtime/checkpoint/handover.h"
#include "runtime/control/board.h"
#include "runtime/control/fitting.h"
#include "runtime/io/writer.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/time/clock.h"

struct rml_checkpointer;
struct rml_err;
struct rml_vault_options;

struct rml_checkpointer_options {
    const struct rml_plan *plan;
    const char *folder;             // of the state
    struct rml_sink_counts *sinks;  // by sink of the plan; those of tables are ours
    const struct rml_clock *clock;
    bool fresh;  // do not go on from what is there
    bool again;  // what is there is of this very life: go on even from its end
    struct rml_fitting_options fitting;  // but for the plan and the folder
    uint64_t from;  // go back to this epoch, where it is no life to go on with; 0: the newest
    const struct rml_vault_options *vault;  // but for what it sets; NULL: as usual
    struct rml_bell *bell;                  // of the control thread, rung after all news
    /* Told by the checkpointer's thread, where the plan has a journal, of each checkpoint that is durable:
     * how many of the journal's entries it covers, for each partition. May be NULL. */
    void (*durable)(void *context, const uint64_t *journaled);
    void *durable_context;
    /* A sentence about a checkpoint that failed, by the checkpointer's thread. May be NULL. */
    void (*complain)(void *context, const char *sentence);
    void *complain_context;
};

/*
 * Open the state folder, making it if there is none, and read the newest checkpoint. 0; or a negative
 * errno with a sentence: what rml_vault_open says; -EINVAL: the state is of another pipeline, or of this
 * one before it was changed, says the sentence, and what can be done.
 */
int rml_checkpointer_open(struct rml_checkpointer **ret_checkpointer,
                          const struct rml_checkpointer_options *options, struct rml_err *err);
void rml_checkpointer_close(struct rml_checkpointer *checkpointer);  // accepts NULL

/* What each partition is restored from, by its index, until rml_checkpointer_forget_past. */
struct rml_restored *rml_checkpointer_past(struct rml_checkpointer *checkpointer);
void rml_checkpointer_forget_past(struct rml_checkpointer *checkpointer);

/* The number of the checkpoint that was restored, 0 when there is none. */
uint64_t rml_checkpointer_restored(const struct rml_checkpointer *checkpointer);

/* Its name in the state folder. */
uint64_t rml_checkpointer_restored_epoch(const struct rml_checkpointer *checkpointer);

/* How it writes, and why not better (vault.h). */
const char *rml_checkpointer_way(const struct rml_checkpointer *checkpointer);
const char *rml_checkpointer_why_not(const struct rml_checkpointer *checkpointer);

/* Stages that begin empty though the checkpoint has some of their names, by bit. */
uint64_t rml_checkpointer_renewed(const struct rml_checkpointer *checkpointer);

/* What is missing because of options.from. */
const struct rml_gone_back *rml_checkpointer_gone_back(const struct rml_checkpointer *checkpointer);

/* Which life of the pipeline this is, in its state folder, whose random number is `vault`; and how many
 * entries of the journal the checkpoint that was restored covers, for each partition. */
struct rml_checkpointer_life {
    uint64_t life;
    const unsigned char *vault;
    const uint64_t *journaled;
};

struct rml_checkpointer_life rml_checkpointer_life(const struct rml_checkpointer *checkpointer);

struct rml_handover *rml_checkpointer_handover(struct rml_checkpointer *checkpointer,
                                               uint32_t worker);

/* Where the writer's notes are kept: with the checkpoint whose moments they are of. */
struct rml_bell *rml_checkpointer_bell(struct rml_checkpointer *checkpointer);
const struct rml_writer_note *rml_checkpointer_notes(const struct rml_checkpointer *checkpointer);

int rml_checkpointer_start(struct rml_checkpointer *checkpointer, struct rml_writer *writer,
                           struct rml_err *err);

/* A checkpoint is wanted as soon as min_pause allows. */
void rml_checkpointer_want(struct rml_checkpointer *checkpointer, enum rml_board_wanted why);

/*
 * Begin one, none being under way. Returns its number, to be told to all workers. `is_end`: the
 * pipeline has come to its end, and whoever runs it next begins anew.
 */
uint64_t rml_checkpointer_begin(struct rml_checkpointer *checkpointer, bool is_end);

enum rml_checkpointer_news_kind {
    RML_CHECKPOINTER_DUE,   // begin one, unless one is under way
    RML_CHECKPOINTER_DONE,  // the one that was begun
};

struct rml_checkpointer_news {
    uint32_t kind;
    int32_t rc;                       // DONE: 0: it is durable
    enum rml_board_wanted wanted_by;  // DUE
    const char *why;                  // DONE: a sentence, where it failed; until the next begins
    uint64_t number;
    uint64_t epoch;                  // DONE: its name in the state folder
    uint64_t bytes;                  // DONE: written for it
    uint64_t took_ns;                // DONE: since its beginning
    struct rml_catalog_use catalog;  // DONE: as it is now
};

/* False: there are no news. */
bool rml_checkpointer_hear(struct rml_checkpointer *checkpointer,
                           struct rml_checkpointer_news *ret_news);

#endif
