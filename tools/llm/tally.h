/*
 * tally - what the processes of a demo tell one another beside the pipeline, so that its result can be
 * checked against what went in, and its latency measured.
 *
 * One segment of memory that all inherit as a descriptor. Each word has one writer: the demo itself
 * fills the beginning before any other process is there, each producer has its block, the one
 * subscriber has its own.
 */
#ifndef RML_LLM_TALLY_H
#define RML_LLM_TALLY_H

#include <stdatomic.h>
#include <stdint.h>

/* How long the processes of a demo wait for one another, for what takes milliseconds on a machine that is well: who is
 * the first to lose its patience ends it for all. */
#define LLM_PATIENCE_NS INT64_C(60000000000)

#define LLM_PRODUCERS_MAX 64
#define LLM_WINDOWS_MAX   4096   // beyond which the latency of windows is not measured
#define LLM_SAMPLES_MAX   65536  // of latency

/* A producer's account of itself. But for closed_ns it is there once the process has ended. Times are of
 * the monotonic clock. */
struct llm_tally_producer {
    _Alignas(64) uint64_t written;  // records that the lane took
    uint64_t gone;                  // of them, with status 0, which the pipeline filters out
    int64_t first_ns, last_ns;
    uint32_t
        was_drained;  // the pipeline did not take all that was written: somebody had it drained
    /* When it began to put its first record that lets window i close, for all that it can tell; 0: not
     * yet. Read by who sees the window's rows, and so after it was written: the record carries it. */
    _Atomic int64_t closed_ns[LLM_WINDOWS_MAX];
};

/* The subscriber's account. But for is_there it is there once the process has ended. */
struct llm_tally_rows {
    _Alignas(64) _Atomic uint32_t is_there;  // it will see all rows from now on
    uint64_t missed;                         // rows
    uint64_t counted;                        // calls, of the newest revision of every row
    uint32_t sample_count;
    /* For a row on time: from the last producer's closed_ns of its window until it was read. */
    int64_t sample_ns[LLM_SAMPLES_MAX];
};

struct llm_tally {
    int64_t first_end_ns;  // wall clock: the end of window 0
    int64_t window_ns;
    int64_t out_of_order_ns;
    uint32_t producer_count;
    struct llm_tally_rows rows;
    struct llm_tally_producer producers[LLM_PRODUCERS_MAX];
};

/* The number of the window that ends at `end_ns`, or -1 when its latency is not measured. */
int llm_tally_window(const struct llm_tally *tally, int64_t end_ns);

/* Map the tally that was inherited as the descriptor that a word of the command line names. NULL: there is none. */
struct llm_tally *llm_tally_attach(const char *word);

int64_t llm_monotonic_ns(void);

#endif
