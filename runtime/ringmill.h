/*
 * ringmill/ringmill.h - run a pipeline file inside one's own program.
 *
 *     struct rml_pipeline *pipeline;
 *     struct rml_feeder *feeder;
 *     char error[RML_PIPELINE_ERROR_BYTES];
 *     rml_pipeline_open(&pipeline, "llm.yaml", NULL, error, sizeof error);   // reads and checks it
 *     rml_pipeline_rows(pipeline, "per_second", PER_SECOND_ROW_SCHEMA_HASH,
 *                       sizeof(struct per_second_row), on_row, NULL, error, sizeof error);
 *     rml_pipeline_start(pipeline, error, sizeof error);
 *     rml_feeder_open(&feeder, pipeline, "calls", LLM_CALL_SCHEMA_HASH, sizeof(struct llm_call),
 *                     error, sizeof error);
 *     ...
 *     rml_feeder_put(feeder, &call);
 *     ...
 *     rml_feeder_close(feeder);
 *     rml_pipeline_drain(pipeline);   // all is taken, all windows fire, all rows are delivered
 *     rml_pipeline_close(pipeline);
 *
 * It is the engine of `ringmill run` and `ringmill replay`, with the same lanes, workers and stages, but
 * without a socket: producers and subscribers in other processes, and ringctl, do not see it. `ringmill
 * gen header FILE` writes the structs and hashes of a file's records and rows. Link with `pkg-config
 * --libs ringmill`.
 *
 * THREADS. The library starts a thread for each worker of the file, pinned as the file says, and one
 * for rows; they block all signals. It handles no signal and writes nothing to standard output or error
 * unless a sink of the file does.
 *
 * AT THE SAME TIME. A feeder is for one thread at a time; different feeders are independent. What takes
 * a pipeline may be called by several threads at once, but for open and close.
 *
 * FORK. Pipelines and feeders belong to the process that opened them; a child must not touch them.
 *
 * ERRORS are negative errno values. `error` (may be NULL), of `error_bytes` bytes, gets a sentence when a
 * function that takes it fails, or, for a bad pipeline file, every error of the file with its line.
 */
#ifndef RINGMILL_RINGMILL_H
#define RINGMILL_RINGMILL_H

#include <stddef.h>
#include <stdint.h>

#ifndef RML_PUBLIC
# define RML_PUBLIC __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct rml_pipeline;
struct rml_feeder;

#define RML_PIPELINE_ERROR_BYTES 8192  // room for many errors of a file; what is longer is cut

/* All zero is what most want. */
struct rml_pipeline_options {
    /*
     * 1: results depend on the records, their order in each feeder, and the number of partitions
     * alone, not on time, workers or speed, as with `ringmill replay`: no lane is ever idle, full lanes
     * always block, and rows come ordered by the time at which their windows fire. Open all feeders
     * before the first record is put, for windows do not wait for one that is not there.
     */
    int replay;
    /* Told what goes wrong and is gone on without, such as a file that cannot be written. Called by
     * any thread of the library, also by several at once; may be NULL. */
    void (*complain)(void *context, const char *sentence);
    void *context;
};

/*
 * Read and check the pipeline file at `path`, and load its plug-ins; nothing runs yet, so that this alone is
 * `ringmill check`.
 * `options` may be NULL. 0 and a new pipeline; -EINVAL: the file is bad, `error` has all of its errors;
 * -ENOENT and so on: it cannot be read; -ENOMEM.
 */
RML_PUBLIC int rml_pipeline_open(struct rml_pipeline **ret_pipeline, const char *path,
                                 const struct rml_pipeline_options *options, char *error,
                                 size_t error_bytes);

/*
 * A row of the stage that it was asked for: `record` is laid out as the header says, and gone when the
 * call returns. `seq` counts the rows of one partition's stage from 0.
 */
typedef void (*rml_row_function)(void *context, const void *record, uint64_t seq);

/*
 * Have the rows of `stage` ("per_second", or "per_second.late") given to `function`, before start. The
 * library's thread for rows calls it, one row at a time; while it runs no other row is delivered,
 * and when it is slow the workers wait, so it must use neither the pipeline nor its feeders. With any
 * such function the sinks of the file are not opened; without, rows go to its files, and those of its
 * rings nowhere. 0; -ENOENT: no such stage; -EPROTO: its rows are laid out otherwise; -EEXIST: they go
 * to a function already; -EBUSY: started.
 */
RML_PUBLIC int rml_pipeline_rows(struct rml_pipeline *pipeline, const char *stage,
                                 uint64_t schema_hash, uint32_t record_bytes,
                                 rml_row_function function, void *context, char *error,
                                 size_t error_bytes);

/*
 * Set all memory aside, open the files of sinks (relative paths start at the pipeline file), start the
 * threads. 0; -EBUSY: started already; another negative errno: close the pipeline.
 */
RML_PUBLIC int rml_pipeline_start(struct rml_pipeline *pipeline, char *error, size_t error_bytes);

/*
 * Open a lane into `source`. 0 and a new feeder; -ENOENT: no such source; -EPROTO: its records are laid
 * out otherwise; -EMFILE: there are as many as runtime.lanes_max allows; -ESHUTDOWN: not started, or
 * drained; -ENOMEM.
 */
RML_PUBLIC int rml_feeder_open(struct rml_feeder **ret_feeder, struct rml_pipeline *pipeline,
                               const char *source, uint64_t schema_hash, uint32_t record_bytes,
                               char *error, size_t error_bytes);

/*
 * Copy the record into the lane; every 64 are published. 1: taken; 0: there was no room and the source
 * says `on_full: drop_newest`: dropped and counted; -ETIMEDOUT: no room for ten seconds, not taken;
 * -EPIPE: the pipeline drains.
 */
RML_PUBLIC int rml_feeder_put(struct rml_feeder *feeder, const void *record);

/* Let the workers see what was put: when quiet for a while. 0; -EPIPE. */
RML_PUBLIC int rml_feeder_publish(struct rml_feeder *feeder);

/* Publish, and end the lane: windows wait for it no more. Before its pipeline is closed. NULL is
 * accepted. */
RML_PUBLIC void rml_feeder_close(struct rml_feeder *feeder);

/*
 * Take what all feeders have published, end all sources so that every window fires, deliver all rows,
 * complete the files, end the threads. Feeders that are open get -EPIPE from then on. Returns how many
 * rows files lost, 0 when all is well; -ESHUTDOWN: not started, or drained before.
 */
RML_PUBLIC int64_t rml_pipeline_drain(struct rml_pipeline *pipeline);

/*
 * A counter of a source or a stage, by the names that `ringctl stat` shows; of a source also `published`
 * and `dropped`. Partitions are added up; a moment old while workers run, exact once drained. 0;
 * -ENOENT: there is none of that name; -ESHUTDOWN: not started.
 */
RML_PUBLIC int rml_pipeline_count(struct rml_pipeline *pipeline, const char *source_or_stage,
                                  const char *counter, uint64_t *ret_count);

/* Stop what runs without draining it, free everything. Feeders have been closed. NULL is accepted. */
RML_PUBLIC void rml_pipeline_close(struct rml_pipeline *pipeline);

#ifdef __cplusplus
}
#endif

#endif
