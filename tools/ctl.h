/*
 * ctl - what the commands of ringctl have in common: options, the pipeline meant, exit codes.
 */
#ifndef RML_TOOLS_CTL_H
#define RML_TOOLS_CTL_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/args.h"
#include "tools/view.h"

#define RML_CTL_WORDS_MAX 10  // a pipeline, a stage, and a value for each column of a key

struct rml_ctl {
    /* To be set before reading. */
    const char *timeout_sentence;  // what --timeout does; NULL: it limits the wait for an answer
    bool wants_stage;              // behind the pipeline stands a stage
    bool wants_verb;               // before it stands what is to be done, behind it may be an epoch
    bool wants_words;              // what words mean is the command's business
    const char *to_end;  // told to a pipeline, be it up or not; NULL: nothing that ends it

    bool as_json;
    int64_t timeout_ns;  // of --timeout, or RML_CTL_TIMEOUT_NONE
    int64_t
        answer_ns;  // that an answer may usually take, as it was set or 0; read: or as $RINGCTL_ANSWER says
    const char *pipeline;  // the word; NULL: none was given
    const char *stage;     // likewise, if wanted
    const char *verb, *epoch;
    const char *words[RML_CTL_WORDS_MAX];
    uint32_t word_count;
};

#define RML_CTL_TIMEOUT_NONE INT64_C(-1)

/*
 * The answer of an engine that lives takes milliseconds; this is for machines out of breath. Whoever has one that
 * is worse says so in the environment, once for all commands.
 */
#define RML_CTL_ANSWER    "RINGCTL_ANSWER"
#define RML_CTL_ANSWER_NS (INT64_C(5) * 1000000000)

/*
 * Take the command line apart; `args` has the command's own options, --json and --timeout are added.
 * As rml_args_read.
 */
bool rml_ctl_read(struct rml_ctl *ctl, const struct rml_args *args, int argc, char **argv,
                  int *ret_exit);

/* A duration of at least `least_ns` that an option was given. False: all is said. */
bool rml_ctl_duration(const char *option, const char *text, int64_t least_ns, int64_t *ret_ns);

/* Likewise a number of at least 1; *ret_count is left alone where `text` is NULL. */
bool rml_ctl_count(const char *option, const char *text, int64_t *ret_count);

/* How long to wait for an answer: as --timeout says, else as the environment does, else as above. */
int64_t rml_ctl_answer_ns(const struct rml_ctl *ctl);

/* Open a view of the pipeline named, or of the only one that runs. RML_EXIT_OK, or all is said. */
int rml_ctl_open(const struct rml_ctl *ctl, struct rml_view *ret_view);

/*
 * The whole of a command that looks at one pipeline: read the command line, open a
 * view of the pipeline named (where none is, of the only one that runs), call `show`, whose answer is
 * the exit code, and close the view.
 */
int rml_ctl_run(struct rml_ctl *ctl, const struct rml_args *args, int argc, char **argv,
                int (*show)(const struct rml_ctl *ctl, struct rml_view *view));

/* Say the sentence; what to exit with after `rc`, a negative errno of rml_view_*. */
int rml_ctl_fail(int rc, const char *sentence);

/* Say that the pipeline that was watched has ended, or died; what to exit with. */
int rml_ctl_ended(const struct rml_view *view);

/* Of enum rml_board_state. */
const char *rml_ctl_state(const struct rml_board *board);

/* Lanes that are attached or being taken to their end. */
uint32_t rml_ctl_lanes(const struct rml_board *board);

/* "2026-11-21T10:05:57Z" */
void rml_ctl_second(int64_t ns, char text[40]);

#endif
