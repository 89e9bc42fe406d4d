/*
 * past - what an engine goes on from: the newest checkpoint of its state folder, compared with its plan and
 * read.
 */
#ifndef RML_CONTROL_PAST_H
#define RML_CONTROL_PAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/control/fitting.h"
#include "runtime/control/going_back.h"
#include "runtime/io/writer.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/state/restored.h"
#include "runtime/time/clock.h"

struct rml_err;
struct rml_vault;

struct rml_past_options {
    const struct rml_plan *plan;
    const char *folder;  // of the state, for sentences
    const struct rml_clock *clock;
    bool fresh;  // do not go on from what is there
    bool again;  // what is there is of this very life: go on even from its end
    struct rml_fitting_options fitting;
    uint64_t from;  // a life that begins goes back to this epoch; 0: to none
};

/* What a checkpoint notes of the journal: which life of the pipeline it is of, and how many entries each
 * partition had taken. */
struct rml_past_journal {
    uint64_t life;
    uint64_t journaled[RML_PARTITIONS_MAX];
};

struct rml_past {
    struct rml_past_options options;
    struct rml_vault *vault;
    struct rml_restored *parts;  // by partition; NULL: forgotten
    struct rml_writer_note notes[RML_SINKS_MAX];
    void *note_memory[RML_SINKS_MAX];
    uint64_t restored;  // number of the checkpoint; 0: there is none
    uint64_t epoch;     // its name in the state folder
    uint64_t renewed;   // stages that begin empty all the same, by bit
    bool is_new;        // what is in the vault is of a life that is over
    struct rml_gone_back gone_back;
    struct rml_past_journal journal;
};

/*
 * Choose and read. 0; or a negative errno with a sentence: -EINVAL: the state is of another pipeline, or
 * of this one before it was changed, says the sentence, and what can be done; -EBADMSG: it is damaged, and
 * this is how to go back; -ENOENT: there is no options.from.
 * To be forgotten in either case. `vault` is used until rml_past_read returns.
 */
int rml_past_read(struct rml_past *past, struct rml_vault *vault,
                  const struct rml_past_options *options, struct rml_err *err);

/* Accepts one of zeros, and one that was forgotten. */
void rml_past_forget(struct rml_past *past);

/* Note in the checkpoint under way what it covers of the journal. 0, or as rml_vault_note. */
int rml_past_note_journal(const struct rml_plan *plan, struct rml_vault *vault,
                          const struct rml_past_journal *journal, struct rml_err *err);

/* The name of the note in which a checkpoint has what is known of a sink's file. */
#define RML_PAST_NOTE_BYTES (RML_NAME_MAX + 16)
void rml_past_name_note(const struct rml_plan_sink *sink, char name[RML_PAST_NOTE_BYTES]);

/* Says of a checkpoint that its pipeline came to its end, and whoever runs it next begins anew. */
#define RML_PAST_END_NOTE "end"

#endif
