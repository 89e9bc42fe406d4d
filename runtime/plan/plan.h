/*
 * plan - a pipeline file, read, checked and resolved: what everything else is built from.
 *
 * Names have become indices, expressions are compiled, units are nanoseconds and bytes. A plan is
 * made once, never changes, and may be read by any number of threads at once.
 */
#ifndef RML_PLAN_PLAN_H
#define RML_PLAN_PLAN_H

#include "runtime/plan/allow.h"
#include "runtime/plan/functions.h"
#include "runtime/plugin/library.h"
#include "runtime/record/expr.h"
#include "runtime/record/schema.h"

struct rml_err;

#define RML_SOURCES_MAX       16
#define RML_STAGES_MAX        64
#define RML_SINKS_MAX         32
#define RML_AGGREGATES_MAX    32  // of one stage
#define RML_KEY_FIELDS_MAX    8
#define RML_KEY_BYTES_MAX     256
#define RML_WORKERS_MAX       64
#define RML_PARTITIONS_MAX    256
#define RML_PANES_MAX         4096  // (size + late + out_of_order) / pane of one window
#define RML_PLUGINS_MAX       16
#define RML_PLUGIN_STATES_MAX 8192  // bytes of their states in one stage, for one key and pane
#define RML_NO_STAGE          UINT32_MAX

/* Rows of a table whose file says nothing of how many, nor of how long they are kept. */
#define RML_TABLE_ROWS_STANDARD 1000000

enum rml_on_full { RML_ON_FULL_BLOCK, RML_ON_FULL_DROP_NEWEST };

struct rml_plan_source {
    char name[RML_NAME_MAX + 1];
    struct rml_schema schema;
    uint32_t time_field;  // event_time
    uint32_t partition_field_count;
    uint32_t
        partition_fields[RML_KEY_FIELDS_MAX];  // partition_by: field indices, in the order hashed
    int64_t out_of_order_ns;
    int64_t idle_after_ns;  // 0: a lane is never idle
    int64_t max_ahead_ns;   // of the wall clock; 0: times may lie as far ahead as they like
    uint32_t cells;         // of each partition's ring in a lane, a power of two
    enum rml_on_full on_full;
    struct rml_allow allow;  // who may write into it
    bool is_shared;          // all producers in other processes share one lane
    bool journal;            // its records are on the disk before they are taken
    struct rml_frame frame;  // the schema's fields first, then each map's columns in stage order
    /*
     * The coarsest grid of watermarks on which no stage below can tell two watermarks apart: every
     * window's end and end + late lies on it. Counted in event time of a lane, out_of_order
     * included: step(t) = floor((t - origin) / granule). No window: granule RML_TIME_END.
     */
    int64_t grid_origin_ns, grid_granule_ns;
};

enum rml_stage_kind { RML_STAGE_FILTER, RML_STAGE_MAP, RML_STAGE_WINDOW };

/* What a record that would begin one key, or session, too many does: see `max_keys`, `window_limit`. */
enum rml_when_full { RML_WHEN_FULL_REFUSE, RML_WHEN_FULL_EVICT_OLDEST };

/* COUNT: tumbling or sliding in the file, with sizes in records. */
enum rml_window_kind {
    RML_WINDOW_TUMBLING,
    RML_WINDOW_SLIDING,
    RML_WINDOW_SESSION,
    RML_WINDOW_GLOBAL,
    RML_WINDOW_COUNT
};

/* When a window gives results before it fires. */
struct rml_plan_trigger {
    uint32_t count;    // so many records of a key since its last result; 0: however many
    int64_t every_ns;  // where a record has come since then, at multiples of it by the wall clock;
                       // 0: at none
};

struct rml_plan_window {
    enum rml_window_kind kind;
    int64_t late_ns;
    struct rml_plan_trigger trigger;
    /* Tumbling and sliding; of a global window all but the offsets are INT64_MAX. */
    int64_t size_ns, every_ns, offset_ns;  // tumbling: every == size
    int64_t pane_ns;                       // gcd(size, every)
    int64_t pane_offset_ns;                // offset modulo pane
    /* Session. */
    int64_t gap_ns;
    int64_t max_ns;                // 0: as long as its records go on
    uint32_t session_limit;        // that one key may have at once
    enum rml_when_full when_full;  // of that limit
    /* Count. */
    uint32_t size_records, every_records;  // tumbling: every == size
    uint32_t pane_records;                 // gcd(size, every)
};

/* Does it give results before it fires? */
static inline bool rml_plan_gives_early(const struct rml_plan_window *window)
{
    return window->trigger.count > 0 || window->trigger.every_ns > 0;
}

/* A call of a plug-in's function. */
struct rml_plan_call {
    const struct rml_plugin_aggregate *plugin;
    struct rml_plugin_call call;                 // as the plug-in is told of it
    uint32_t columns[RML_PLUGIN_ARGUMENTS_MAX];  // frame columns of the arguments
    uint32_t state_bytes;                        // the plug-in's own, to begin with
    uint32_t state_bytes_max;                    // 0: it does not grow
};

struct rml_plan_aggregate {
    char name[RML_NAME_MAX + 1];  // of the result column
    uint32_t function;            // index into the plan's functions
    uint32_t column;  // frame column of the (first) argument; RML_FIELD_ABSENT: none (count())
    const struct rml_plan_call *call;  // of a plug-in; NULL: the function is ours
    enum rml_type type;                // of the result
    bool nullable;
    uint32_t part;         // of a function with several result columns, from 0
    uint32_t state_bytes;  // of one key and pane, to begin with, if it shares nothing with others
    uint32_t parameter_count;
    const double *parameters;     // as enum rml_function_parameters says
    const char *parameters_text;  // what stands behind the first argument; NULL: nothing
};

struct rml_plan_mapped {
    uint32_t column;  // frame column that it fills
    struct rml_expr *expr;
};

struct rml_plan_stage {
    char name[RML_NAME_MAX + 1];
    uint32_t line;  // of its name in the file
    enum rml_stage_kind kind;
    uint32_t source;  // the source at the root
    uint32_t from;    // parent stage, RML_NO_STAGE: the source itself
    bool from_late;   // takes the parent's late output instead of its main one
    uint64_t visible[RML_COLUMNS_MAX / 64];  // frame columns that its children (and outputs) see

    struct rml_expr *filter;  // FILTER

    uint32_t mapped_count;           // MAP
    struct rml_plan_mapped *mapped;  // in order: a later one may read an earlier one's column

    struct rml_plan_window window;  // WINDOW
    uint32_t key_count;
    uint32_t key_columns[RML_KEY_FIELDS_MAX];
    uint32_t key_bytes;  // of all key columns' cells behind one another
    uint32_t keys_max;   // that have state at once in one partition
    enum rml_when_full when_full;
    bool key_is_partition_key;  // key columns are partition_by, in order: one hash serves both
    uint32_t aggregate_count;
    struct rml_plan_aggregate *aggregates;
    /* An aggregate's argument that is an expression is a mapped column of this stage (`mapped`),
     * evaluated before the window sees the batch. */

    bool has_reader;       // some stage or sink takes its main output
    bool late_has_reader;  // likewise its late output

    /*
     * What its outputs' rows look like. Main: for FILTER and MAP the visible columns (named as in
     * the frame, source fields of their own type); for WINDOW window_start, window_end, keys,
     * revision (u32), retracted (bool; sessions alone), partial (bool; with a trigger alone),
     * evicted (bool; where something may be evicted), aggregates, with null bits where one is nullable.
     * Late: the source's record as it came plus nothing.
     */
    struct rml_schema output;
    uint32_t output_columns[RML_FIELDS_MAX];  // FILTER, MAP: the frame column behind each field
};

enum rml_sink_kind { RML_SINK_JSONL, RML_SINK_CSV, RML_SINK_RING, RML_SINK_TABLE };

struct rml_plan_output {
    uint32_t stage;
    bool late;
};

struct rml_plan_sink {
    char name[RML_NAME_MAX + 1];
    enum rml_sink_kind kind;
    char *path;              // files: relative to the pipeline file's folder; "-": standard output
    bool rfc3339;            // times: rfc3339 | ns (default)
    uint32_t rows;           // RING: rows kept for slow readers, a power of two (default 65536)
    uint32_t groups;         // RING: groups of subscribers that it may have (default 8)
    struct rml_allow allow;  // RING: who may read it
    /* TABLE: what each of its tables keeps. */
    int64_t keep_ns;    // of event time; 0: however old
    uint64_t rows_max;  // 0: no limit
    uint32_t from_count;
    struct rml_plan_output from[RML_STAGES_MAX];
};

/* One test of the file's `tests:` section; values are text with their place, because their types
 * depend on the stage. A time written as a duration has become integer nanoseconds. */
struct rml_plan_test_value {
    char *name, *text;  // text NULL: null
    uint32_t line, column;
};

struct rml_plan_test_row {
    uint32_t count;
    struct rml_plan_test_value *values;  // window: [0s, 1s] comes as window_start and window_end
    uint32_t line, column;
};

struct rml_plan_test_list {  // rows fed to a source, or expected of a stage's output
    uint32_t index;          // of the source or the stage
    bool late;               // expect of NAME.late
    uint32_t row_count;
    struct rml_plan_test_row *rows;
};

struct rml_plan_test {
    char *name;
    uint32_t feed_count, expect_count;
    struct rml_plan_test_list *feed, *expect;
    int64_t advance_ns;  // RML_TIME_NONE: to the end of the input
    uint32_t line;
};

struct rml_plan_plugin {
    char *path;  // as written
    struct rml_library library;
};

/* A key that the file left out, and what holds instead; for `explain`. */
struct rml_plan_default {
    char *what;  // "source calls"
    const char *key, *standard;
};

enum rml_plan_sandbox { RML_PLAN_SANDBOX_AUTO, RML_PLAN_SANDBOX_ON, RML_PLAN_SANDBOX_OFF };

/* What those who attach may take at most. */
struct rml_plan_limits {
    uint32_t connections;     // of one user that is neither the engine's own nor root
    uint64_t lane_bytes;      // of all lanes; 0: half of the machine's memory
    int64_t hello_ns;         // until a connection has said what it is for
    uint32_t attaches_per_s;  // connections that one user begins
    uint32_t requests_per_s;  // of one user's control connections
};

struct rml_plan {
    char name[RML_NAME_MAX + 1];
    char *path;  // of the file
    uint32_t workers, partitions;
    uint32_t cpu_count;
    uint32_t
        cpus[RML_WORKERS_MAX];  // worker i runs on cpus[i % cpu_count]; none: not pinned by the
                                // file, worker i takes the i-th CPU that the process may use
    uint64_t state_bytes_max;   // of one partition's state; default 4 GiB (virtual until touched)
    uint64_t state_prefault_bytes;   // of that, there before the first record; default 0
    uint32_t keys_max;               // of stages that say nothing else; default 10 million
    uint32_t lanes_max;              // default 256
    struct rml_allow view, control;  // who may look; and who may also steer
    struct rml_plan_limits limits;
    enum rml_plan_sandbox sandbox;
    char *state;  // folder of checkpoints, relative to the file's; NULL: there are none
    int64_t checkpoint_every_ns, checkpoint_min_pause_ns;
    uint32_t checkpoint_keep;
    uint64_t catalog_bytes_max;
    bool journals;  // some source does
    uint64_t journal_bytes_max;
    int64_t journal_delay_ns;
    uint32_t source_count, stage_count, sink_count, test_count;
    struct rml_plan_source *sources;
    struct rml_plan_stage *stages;  // a parent always stands before its children
    struct rml_plan_sink *sinks;
    struct rml_plan_test *tests;
    uint32_t default_count;
    struct rml_plan_default *defaults;
    struct rml_functions functions;  // those that it was read with, then those of plug-ins
    uint32_t plugin_count;
    struct rml_plan_plugin plugins[RML_PLUGINS_MAX];
};

/* Can a row of this window stage be marked as evicted? */
static inline bool rml_plan_evicts(const struct rml_plan_stage *stage)
{
    return stage->when_full == RML_WHEN_FULL_EVICT_OLDEST
           || stage->window.when_full == RML_WHEN_FULL_EVICT_OLDEST;
}

/* One error of a file: everything a person needs to mend it. */
struct rml_plan_error {
    uint32_t line, column, length;  // 1-based, in characters; length of the caret's underline
    char text[256];
    char hint[160];  // may be empty
};

struct rml_plan_errors {
    uint32_t count;  // of `list`; errors beyond RML_PLAN_ERRORS_MAX are only counted in `more`
    uint32_t more;
    struct rml_plan_error *list;
    char *source;  // the file's text, for showing the lines; NUL terminated
    size_t source_length;
};

#define RML_PLAN_ERRORS_MAX 50

/*
 * Read the pipeline file at `path` ("-": standard input). 0 and a new plan (rml_plan_close); -EINVAL
 * with every error of the file in `errors`, in the order of their lines; another negative errno with
 * one sentence in `err` when the file cannot be read at all (missing, larger than 1 MiB, ...).
 * rml_plan_parse: the same from memory; `path` is for messages, and where plug-ins are looked for.
 * Plug-ins that the file names stay loaded until the plan is closed.
 */
int rml_plan_load(const char *path, const struct rml_functions *functions,
                  struct rml_plan **ret_plan, struct rml_plan_errors *errors, struct rml_err *err);
int rml_plan_parse(const char *text, size_t length, const char *path,
                   const struct rml_functions *functions, struct rml_plan **ret_plan,
                   struct rml_plan_errors *errors, struct rml_err *err);
void rml_plan_close(struct rml_plan *plan);
void rml_plan_errors_fini(struct rml_plan_errors *errors);

/* About how many bytes of state one pane of one key takes in a window stage, and at most, but for sketches
 * that grow. */
uint64_t rml_plan_pane_bytes(const struct rml_plan_stage *stage);

/* Cells of each partition's log in a lane that producers share: what lies between two checkpoints, where there are
 * some, else what is on its way through. */
uint32_t rml_plan_log_cells(const struct rml_plan *plan, const struct rml_plan_source *source);

/* The index of a source / stage, or UINT32_MAX. */
uint32_t rml_plan_source_find(const struct rml_plan *plan, const char *name);
uint32_t rml_plan_stage_find(const struct rml_plan *plan, const char *name);

#endif
