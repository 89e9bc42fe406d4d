/*
 * reader - what the parts of a pipeline file are read with: a section's keys, typed values, names.
 *
 * Every function here reports what is wrong by itself and returns whether its result can be used, so
 * that the parts go on after an error and all errors of a file come in one pass. The parts
 * (read_*.c) are declared here as well; rml_plan_parse calls them in the order that they stand.
 */
#ifndef RML_PLAN_READER_H
#define RML_PLAN_READER_H

#include "runtime/plan/plan.h"
#include "runtime/plan/settings.h"
#include "runtime/plan/yaml.h"

#define RML_SCHEMAS_MAX 64
/* No section has more keys than the whole table. */
#define RML_DEFAULTS_MAX ((1 + RML_SOURCES_MAX + RML_STAGES_MAX) * (int)RML_SETTINGS)

/* A schema as it stands in the file. */
struct rml_reader_schema {
    const struct rml_yaml_node *node;
    struct rml_schema schema;
    bool complete;  // false: an error left fields out
};

/* A section of the file with its keys looked up. */
struct rml_values {
    char what[80];                                 // "source calls", for messages
    struct rml_place place;                        // of the section's name
    const struct rml_yaml_node *at[RML_SETTINGS];  // NULL: not written
};

/* What is known of a source beyond the plan. */
struct rml_reader_source {
    const struct rml_yaml_node *name;
    struct rml_values values;
    bool unknown;  // its columns are not known: say nothing about names of columns
};

/* What is known of a stage beyond the plan; in the order of the file until they are sorted. */
struct rml_reader_stage {
    const struct rml_yaml_node *name;
    struct rml_values values;
    bool readable;  // it is a mapping
    bool from_source;
    bool from_late;
    uint32_t from;    // source or stage by index; UINT32_MAX: not known
    uint32_t source;  // at the root; UINT32_MAX: not known
    uint32_t place;   // in the plan; UINT32_MAX: in none, because it cannot be reached
};

/* A name that an error took away: whoever misses it says nothing more. */
struct rml_reader_lost {
    uint32_t source;
    const char *name;
};

struct rml_reader {
    struct rml_report *report;
    struct rml_arena *arena;  // the plan's
    struct rml_plan *plan;
    bool partitions_written;
    bool functions_lost;  // some plug-in's are not known: say nothing about names of functions
    uint32_t schema_count;
    struct rml_reader_schema *schemas;  // RML_SCHEMAS_MAX
    struct rml_reader_source *sources;  // RML_SOURCES_MAX
    uint32_t stage_count;               // as written; plan->stage_count: sorted and reachable
    struct rml_reader_stage *stages;    // RML_STAGES_MAX
    uint32_t lost_count;
    struct rml_reader_lost *lost;  // RML_LOST_MAX
};

#define RML_LOST_MAX 256

/* Names to choose a near one from, and to list. */
struct rml_names {
    uint32_t count;
    const char *list[RML_COLUMNS_MAX];
};

void rml_names_add(struct rml_names *names, const char *name);

/* Write "did you mean NEAR?" or, with none near, "there is A, B, C" into `hint`, or nothing. Returns the
 * near one or NULL. */
const char *rml_names_hint(const struct rml_names *names, const char *word, char *hint,
                           size_t hint_bytes);

/*
 * Look up the keys of `mapping` in the table: unknown ones and missing ones are reported. False if
 * it is no mapping. `name` may be NULL where a section is alone of its kind.
 */
bool rml_reader_section(struct rml_reader *reader, enum rml_section section,
                        const struct rml_yaml_node *mapping, struct rml_place place,
                        const char *name, struct rml_values *ret_values);

/* INTEGER, POWER, DURATION, SIZE: the value or the table's default, inside its limits. */
bool rml_reader_number(struct rml_reader *reader, const struct rml_values *values,
                       enum rml_setting setting, int64_t *ret_value);

/* CHOICE: the index of the word among the table's choices; the default's where it is not written. */
bool rml_reader_choice(struct rml_reader *reader, const struct rml_values *values,
                       enum rml_setting setting, uint32_t *ret_choice);

/* The one scalar behind a key, NULL if absent or something else (then reported). */
const struct rml_yaml_node *rml_reader_scalar(struct rml_reader *reader,
                                              const struct rml_values *values,
                                              enum rml_setting setting);

/* NAMES, INTEGERS: one scalar or a list of them, at most `most`; how many. */
uint32_t rml_reader_scalars(struct rml_reader *reader, const struct rml_values *values,
                            enum rml_setting setting, const struct rml_yaml_node **ret_list,
                            uint32_t most);

/* A mapping of at least one and at most `most` names, or NULL (reported; BROKEN or absent: not). */
const struct rml_yaml_node *rml_reader_mapping(struct rml_reader *reader,
                                               const struct rml_values *values,
                                               enum rml_setting setting, uint32_t most);

/* True when `node` is a list; otherwise reported. */
bool rml_reader_is_list(struct rml_reader *reader, const struct rml_yaml_node *node,
                        const char *what);

/*
 * Check a name that the file gives to something: its letters, its length, that no language it ends
 * up in (expressions, C) has a meaning for it. `what`: "field", "stage", ...
 */
bool rml_reader_name(struct rml_reader *reader, const struct rml_yaml_node *node, const char *what);

/* Note a column that would be there without an error, and ask for one. */
void rml_reader_lose(struct rml_reader *reader, uint32_t source, const char *name);
bool rml_reader_is_lost(const struct rml_reader *reader, uint32_t source, const char *name,
                        size_t length);

/* Split "NAME.late" or "NAME"; true for the first. `ret_name` holds RML_NAME_MAX + 1. */
bool rml_reader_split_late(const struct rml_yaml_node *node, char *ret_name);

/* The stage of that name as written in the file, or UINT32_MAX. */
uint32_t rml_reader_stage_find(const struct rml_reader *reader, const char *name);

/* The frame column of that name among the visible ones (NULL: all), or RML_FIELD_ABSENT. */
uint32_t rml_reader_column(const struct rml_frame *frame, const uint64_t *visible, const char *name,
                           size_t length);

/* Compile an expression; its errors are reported where they stand in the file. NULL if it fails. */
struct rml_expr *rml_reader_expr(struct rml_reader *reader, uint32_t source,
                                 const uint64_t *visible, const struct rml_yaml_node *node,
                                 uint32_t offset, uint32_t length);

/* The parts, in the order in which they are read. */
void rml_read_schemas(struct rml_reader *reader, const struct rml_values *file);
void rml_read_runtime(struct rml_reader *reader, const struct rml_values *file);
void rml_read_plugins(struct rml_reader *reader, const struct rml_values *file);
void rml_read_sources(struct rml_reader *reader, const struct rml_values *file);
void rml_read_stages(struct rml_reader *reader, const struct rml_values *file);
void rml_read_sinks(struct rml_reader *reader, const struct rml_values *file);
/* The users and groups behind a key; `whose` list it is, for messages. */
void rml_read_allow(struct rml_reader *reader, const struct rml_values *values,
                    enum rml_setting setting, const char *whose, struct rml_allow *allow);
void rml_read_tests(struct rml_reader *reader, const struct rml_values *file);

/* A key of a section that what is written besides leaves without meaning has no default either. */
void rml_reader_forget_default(struct rml_reader *reader, const struct rml_values *values,
                               enum rml_setting setting);

void rml_read_shape(struct rml_reader *reader, const struct rml_reader_stage *draft,
                    struct rml_plan_window *window);
/* The window, key and aggregates of a stage; names of columns only where they are known. */
void rml_read_window(struct rml_reader *reader, const struct rml_reader_stage *draft,
                     struct rml_plan_stage *stage, bool columns_known);

void rml_read_aggregates(struct rml_reader *reader, const struct rml_reader_stage *draft,
                         struct rml_plan_stage *stage, bool columns_known);

/*
 * What stands behind an aggregate's argument, from the comma at `from`, if there is one, up to `to` of the
 * scalar's text. False: something is wrong with it, which is reported.
 */
bool rml_read_parameters(struct rml_reader *reader, const char *what,
                         const struct rml_yaml_node *node, uint32_t from, uint32_t to,
                         const struct rml_function *function, struct rml_plan_aggregate *aggregate);

/* The same for a plug-in's function: numbers and durations, or none. */
bool rml_read_plugin_parameters(struct rml_reader *reader, const char *what,
                                const struct rml_yaml_node *node, uint32_t from, uint32_t to,
                                const struct rml_function *function, struct rml_plugin_call *call);

/* Where the first of text[from..to) ends, outside of parentheses and quotes: at a comma, or at `to`. */
uint32_t rml_reader_part_end(const char *text, uint32_t from, uint32_t to);

/* Is that a column of every window stage's rows? */
bool rml_reader_is_reserved(const char *name);

/* Give `expr` a column of the source's frame, filled by `stage`; RML_FIELD_ABSENT if there is no room
 * (reported). The expression becomes the stage's, or is freed. */
uint32_t rml_reader_add_mapped(struct rml_reader *reader, const struct rml_reader_stage *draft,
                               struct rml_plan_stage *stage, const char *name,
                               struct rml_expr *expr, struct rml_place place);

/* What follows from all stages together: who reads whom, partition keys, grids. */
void rml_resolve_readers(struct rml_reader *reader);
void rml_resolve_partition_keys(struct rml_reader *reader);
void rml_resolve_grids(struct rml_plan *plan);
int rml_resolve_output(struct rml_plan *plan, struct rml_plan_stage *stage, struct rml_err *err);

#endif
