/*
 * ringmill/plugin.h - aggregate functions of one's own, for pipeline files.
 *
 * A plug-in is a shared object that a pipeline file names:
 *
 *     plugins: ./means.so
 *     ...
 *     aggregate: {usual_ms: geomean(latency_ms), cost: 'wmean(price, tokens)'}
 *
 * It needs this header alone, and no symbol of Ringmill's:
 *
 *     cc -O2 -fPIC -shared -fvisibility=hidden means.c -o means.so
 *
 * and has a table of its functions under the one name that is looked for:
 *
 *     static const struct rml_plugin_aggregate functions[] = {{
 *         .name = "geomean",
 *         .sentence = "Geometric mean.",
 *         .argument_count = 1,
 *         .takes = {RML_PLUGIN_FLOAT},
 *         .gives = RML_PLUGIN_GIVES_F64,
 *         .state_bytes = sizeof(struct geomean),
 *         .add = geomean_add,
 *         .merge = geomean_merge,
 *         .finish = geomean_finish,
 *     }};
 *     const struct rml_plugin rml_plugin = RML_PLUGIN(functions);
 *
 * STATE. Each key has a state in each pane of a window: so many bytes, 8-byte aligned, that only the plug-in
 * looks into. It is plain data. The engine copies it, moves it and drops it without asking, and may
 * write it to a file and go on with it in another process, so there must be no pointer in it and nothing that
 * it would have to give back. Bytes beyond it are other states: a plug-in that writes there has corrupted
 * the engine, and nothing can hold it back. A state may grow: it begins small, in most keys stays so, and is
 * moved to twice the bytes when it says that it is full, up to the most that its function declares.
 *
 * DETERMINISM. The same records give the same bytes, whatever the batches, the workers and the machine's
 * load: that is what replay, tests and results are built on. So each callback is a pure function of what
 * it is given. It reads no clock, no random number, no address, no file, no variable that it writes, and
 * leaves the rounding mode and all else of the floating-point environment as it was. `add` takes rows one by
 * one in the order given, because how many come in one call depends on batches. What is merged with what, and
 * when, depends on the pipeline file, the records and their order alone.
 *
 * AT THE SAME TIME. Workers are threads: any callback may be called by several of them at once, with the
 * same call, for different states. They share nothing else, so a callback that writes to its state alone
 * needs no lock. It must not block, allocate, start a thread, exit, jump out or throw, and its time counts as
 * the worker's.
 *
 * ERRORS. There is none while records are taken: what a value cannot go into is a null result. What can be
 * wrong with a call, such as a parameter out of its range, is told by `size` when the pipeline is loaded.
 *
 * VERSIONS. RML_PLUGIN writes RML_PLUGIN_ABI and the sizes of these structures into the plug-in, and an engine
 * takes those of its own version alone. Whatever changes here changes the version.
 */
#ifndef RINGMILL_PLUGIN_H
#define RINGMILL_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RML_PLUGIN_ABI            1u
#define RML_PLUGIN_ARGUMENTS_MAX  4u
#define RML_PLUGIN_PARAMETERS_MAX 31u
#define RML_PLUGIN_STATE_MAX      4096u   // bytes, to begin with
#define RML_PLUGIN_GROWN_MAX      16384u  // bytes of one that has grown
#define RML_PLUGIN_GROWS_MIN      64u     // bytes that one which grows begins with at least
#define RML_PLUGIN_FUNCTIONS_MAX  64u     // of one plug-in

/* What a cell of a column is; as bits, for an argument may be of several kinds. */
#define RML_PLUGIN_INT   1u   // int64_t: of u8 u16 u32 i8 i16 i32 i64 time_ns
#define RML_PLUGIN_UINT  2u   // uint64_t: of u64
#define RML_PLUGIN_FLOAT 4u   // double: of f32 f64, and of a number whose own kind is not allowed
#define RML_PLUGIN_BOOL  8u   // uint8_t, 0 or 1
#define RML_PLUGIN_STR   16u  // cell_bytes of text, NULs behind it

/* What a result is, and what `finish` writes for it. */
#define RML_PLUGIN_GIVES_F64   1u  // double; NaN is null
#define RML_PLUGIN_GIVES_I64   2u  // int64_t
#define RML_PLUGIN_GIVES_U64   3u  // uint64_t
#define RML_PLUGIN_GIVES_BOOL  4u  // uint8_t: everything but 0 is true
#define RML_PLUGIN_GIVES_TIME  5u  // int64_t: a time_ns
#define RML_PLUGIN_GIVES_STR8  6u  // 8 bytes of text; what stands behind its first NUL is void
#define RML_PLUGIN_GIVES_STR16 7u
#define RML_PLUGIN_GIVES_STR32 8u
#define RML_PLUGIN_GIVES_STR64 9u
#define RML_PLUGIN_GIVES_SAME \
 10u  // a cell as the first argument's: cut to its type, f64 if made a double

/* One call in a pipeline file: the same for all states of it, and for the plug-in to read alone. */
struct rml_plugin_call {
    uint32_t argument_count;
    uint32_t argument_kinds[RML_PLUGIN_ARGUMENTS_MAX];  // one bit each: what the cells are
    uint32_t cell_bytes[RML_PLUGIN_ARGUMENTS_MAX];      // 8; BOOL: 1; STR: 8, 16, 32 or 64
    uint32_t parameter_count;
    const double *parameters;  // constants behind the arguments; durations in nanoseconds
};

/* Rows to be added. Cells of row r of argument a lie at columns[a] + r * cell_bytes[a]. */
struct rml_plugin_block {
    uint32_t count;
    const uint16_t *rows;   // row rows[i] goes into states[i]
    void *const *states;    // a state may stand here more than once
    const uint32_t *bytes;  // of states[i] at present; NULL where they do not grow
    const void *columns[RML_PLUGIN_ARGUMENTS_MAX];
    const int64_t *time;  // event times by row, nanoseconds since 1970
};

/* What a result is over. */
struct rml_plugin_window {
    uint64_t values;       // rows that were added
    int64_t length_ns;     // of the window; of a session from its start to its end
    uint32_t state_bytes;  // at present
};

struct rml_plugin_aggregate {
    const char
        *name;  // as called in a pipeline file: a letter or _, then letters, digits, _; at most 47
    const char *sentence;  // what it does, for `explain` and errors
    /* Columns or expressions, then constants. */
    uint32_t argument_count;                   // 1 to RML_PLUGIN_ARGUMENTS_MAX
    uint32_t takes[RML_PLUGIN_ARGUMENTS_MAX];  // the kinds that each may have
    uint32_t parameters_least, parameters_most;
    uint32_t gives;        // RML_PLUGIN_GIVES_F64 ... RML_PLUGIN_GIVES_SAME
    uint32_t state_bytes;  // 1 to RML_PLUGIN_STATE_MAX
    /* 0: it does not grow. Else a power of two up to RML_PLUGIN_GROWN_MAX; state_bytes, or what `size` gives, is
     * then one too, from RML_PLUGIN_GROWS_MIN to this. */
    uint32_t state_bytes_max;

    /*
     * May be NULL. Look at a call when the pipeline is loaded; give how many bytes its states begin with, in
     * place of state_bytes. 0: it cannot be, and `error` (`error_bytes` of room) has a sentence about it,
     * such as "a weight lies between 0 and 1".
     */
    uint32_t (*size)(const struct rml_plugin_call *call, char *error, size_t error_bytes);

    /* Make the state of no rows. It comes zeroed; NULL: that is all there is to do. One that others are to be
     * merged into may begin with state_bytes_max. */
    void (*init)(const struct rml_plugin_call *call, void *state, uint32_t bytes);

    /*
     * Add rows to states, in order. One call for each block of records. What is null or NaN in any
     * argument is not among them: it is counted as null_skipped. Infinities are. Return how many were taken:
     * block->count; or as many as come before the first whose state has to grow. It grows, and the rest
     * comes in a further call. A row that a state does not take although it has all that it may is
     * skipped, and counted as if it were null.
     */
    uint32_t (*add)(const struct rml_plugin_call *call, const struct rml_plugin_block *block);

    /*
     * Add the rows of `from` to those of `into`; each has at least one. In windows of event time those of
     * `into` are of earlier panes, in counted windows they came earlier, in sessions it may be either.
     * Return 1; or 0: `into` has to grow, and it is asked again; what was merged before must not count twice.
     * With all that it may have, a state takes them.
     */
    int (*merge)(const struct rml_plugin_call *call, void *into, uint32_t into_bytes,
                 const void *from, uint32_t from_bytes);

    /* Of states that grow: make in `to`, which is zeroed and has more bytes, the state that `from` is. NULL: it is
     * copied, and has zeros behind it. */
    void (*move)(const struct rml_plugin_call *call, void *to, uint32_t to_bytes, const void *from,
                 uint32_t from_bytes);

    /*
     * Write the result of a state of at least one row into `cell`, which is zeroed, 8-byte aligned and has room
     * for what `gives` says. Return 1, or 0: it is null. May be called any number of times of one
     * state, also between rows. A state of no rows is not asked for: its result is null.
     */
    int (*finish)(const struct rml_plugin_call *call, const void *state,
                  const struct rml_plugin_window *window, void *cell);
};

struct rml_plugin {
    uint32_t abi;              // RML_PLUGIN_ABI
    uint32_t plugin_bytes;     // of this structure
    uint32_t aggregate_bytes;  // of struct rml_plugin_aggregate
    uint32_t aggregate_count;
    const struct rml_plugin_aggregate *aggregates;
};

/* Of an array of functions: what a plug-in defines `rml_plugin` as. */
#define RML_PLUGIN(functions)                                         \
 {                                                                    \
  RML_PLUGIN_ABI, (uint32_t)sizeof(struct rml_plugin),                \
      (uint32_t)sizeof(struct rml_plugin_aggregate),                  \
      (uint32_t)(sizeof(functions) / sizeof(functions)[0]), functions \
 }

__attribute__((visibility("default"))) extern const struct rml_plugin rml_plugin;

#ifdef __cplusplus
}
#endif

#endif
