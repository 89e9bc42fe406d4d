/*
 * file_sink - one sink of the writer: orders rows, prints them, and has them arrive in its file, each once.
 *
 * Where a row function was given, rows go there instead of to a file. All functions are for the thread that
 * opens the writer and, from its start to its end, for the writer's thread alone, but for those that say otherwise.
 */
#ifndef RML_IO_FILE_SINK_H
#define RML_IO_FILE_SINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/io/writer.h"
#include "runtime/ring/bell.h"

struct rml_err;
struct rml_file_sink;
struct rml_result_block;

/* How the thread of all sinks of a writer waits for a file that cannot be written. */
struct rml_file_wait {
    struct rml_bell bell;  // wakes it
    _Atomic bool hurried;  // it waits for none any more; for any thread
    _Atomic bool stuck;    // it does now; for any thread to read
};

/* Is nothing to be waited for any more? For any thread. */
bool rml_file_wait_is_hurried(const struct rml_file_wait *wait);

/* How many rows were in the file; 0 where that cannot be told. Any thread. */
uint64_t rml_file_sink_note_rows(struct rml_writer_note note);

/*
 * Open sink `index` of the plan of the writer's options, which must outlive it, as `wait` must: its file anew, or
 * behind what its note or its counts say. 0, or a negative errno with a sentence.
 */
int rml_file_sink_open(struct rml_file_sink **ret_sink, const struct rml_writer_options *options,
                       struct rml_file_wait *wait, uint32_t index, struct rml_err *err);

/* Flush and close. Accepts NULL. */
void rml_file_sink_close(struct rml_file_sink *sink);

/*
 * Copy the rows of a block of `from`, an index into the sink's list, and without `merge` put them out at the end of
 * their step. Where its partition is already behind its mark, they wait for rml_file_sink_put_held.
 */
void rml_file_sink_add(struct rml_file_sink *sink, uint32_t from, struct rml_result_block *block,
                       bool is_behind_mark);
void rml_file_sink_put_held(struct rml_file_sink *sink);

/* With `merge`: put out what fires before that time, in order. RML_TIME_END: all. */
void rml_file_sink_put_before(struct rml_file_sink *sink, int64_t before);

/* Have what was put out arrive in the file. */
void rml_file_sink_flush(struct rml_file_sink *sink);

/* All rows of the moment were put out: have them arrive, outlast a loss of power, and note it. A file that lacks rows
 * is said in `round`. Without marks: nothing. */
void rml_file_sink_mark(struct rml_file_sink *sink, struct rml_err *round);

/* As of the last mark, until the next; data NULL: there are no marks. */
struct rml_writer_note rml_file_sink_note(const struct rml_file_sink *sink);

/* How many rows were lost. */
uint64_t rml_file_sink_lost(const struct rml_file_sink *sink);

#endif
