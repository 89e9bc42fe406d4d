/*
 * feed - the files of a replay, read side by side and put into lanes in the order of event time.
 *
 * Each source has a lane of its own. Of several files the one whose next record is the earliest goes
 * on, so that none runs away from the others; within a file the order is the file's.
 */
#ifndef RML_TOOLS_FEED_H
#define RML_TOOLS_FEED_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "tools/replay_options.h"

struct rml_err;
struct rml_feed;
struct rml_lane_out;

struct rml_feed_counts {
    uint64_t lines;      // records and malformed lines
    uint64_t malformed;  // of them
    uint64_t fed;        // records that went into the lane
};

struct rml_feed_options {
    const struct rml_replay_options *replay;
    bool strict;    // a malformed line is the end
    bool progress;  // shown on standard error, which is a terminal
};

/* Open the files. 0, or a negative errno with a sentence; -EINVAL: the files' fault or the options'. */
int rml_feed_open(struct rml_feed **ret_feed, const struct rml_feed_options *options,
                  struct rml_err *err);
void rml_feed_close(struct rml_feed *feed);

/*
 * Read everything into `lanes`, one for each input, and publish it. Malformed lines are told on standard
 * error: the first few, then how many more. 0; -EBADMSG: strict, and a line was malformed; another
 * negative errno with a sentence. Ends early, with 0, once *stop is set by a signal handler.
 */
int rml_feed_run(struct rml_feed *feed, struct rml_lane_out *const *lanes,
                 const volatile sig_atomic_t *stop, struct rml_err *err);

/* What became of input number `input`. */
struct rml_feed_counts rml_feed_counts(const struct rml_feed *feed, uint32_t input);

#endif
