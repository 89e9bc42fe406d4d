#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/plan/reader.h"
#include "runtime/plan/units.h"
#include "runtime/time/time.h"

#define RECORDS_MOST 1000000000

/* What a window of some type must, may and cannot have: a letter for each type in the order of
 * enum rml_window_kind: + must, o may, - cannot. */
static const struct rule {
    enum rml_setting setting;
    const char *name;
    const char *by_kind;
    const char *meaning;     // where it is missing
    const char *instead[5];  // where it is too much
} rules[] = {
    {RML_SET_WINDOW_SIZE,
     "size",
     "++--+",
     "how much event time a window covers",
     {NULL, NULL, "a session is as long as its records go on; write  gap", "it covers all time",
      NULL}},
    {RML_SET_WINDOW_EVERY,
     "every",
     "-+--o",
     "how far the starts of windows lie apart",
     {"write  type: sliding", NULL, "a session begins with its first record",
      "it gives rows by its trigger", NULL}},
    {RML_SET_WINDOW_OFFSET,
     "offset",
     "oo---",
     NULL,
     {NULL, NULL, "a session begins with its first record", "it covers all time",
      "it counts from the first record of a key"}},
    {RML_SET_WINDOW_LATE,
     "late",
     "ooo--",
     NULL,
     {NULL, NULL, NULL, "no record is late for it",
      "it takes records as they arrive, and none is late for it"}},
    {RML_SET_WINDOW_ON_LATE,
     "on_late",
     "ooo--",
     NULL,
     {NULL, NULL, NULL, "no record is late for it",
      "it takes records as they arrive, and none is late for it"}},
    {RML_SET_WINDOW_TRIGGER,
     "trigger",
     "oooo-",
     NULL,
     {NULL, NULL, NULL, NULL, "a smaller size, or  every,  gives rows sooner"}},
    {RML_SET_WINDOW_EMIT,
     "emit",
     "oooo-",
     NULL,
     {NULL, NULL, NULL, NULL, "write  type: sliding  and  every: 1 record"}},
    {RML_SET_WINDOW_GAP,
     "gap",
     "--+--",
     "the silence that ends a session",
     {"write  type: session", "write  type: session", NULL, "write  type: session",
      "write  type: session"}},
    {RML_SET_WINDOW_MAX,
     "max",
     "--o--",
     NULL,
     {"write  type: session", "write  type: session", NULL, "write  type: session",
      "write  type: session"}},
    {RML_SET_WINDOW_WINDOW_LIMIT,
     "window_limit",
     "--o--",
     NULL,
     {"its windows are bounded by size, late and out_of_order",
      "its windows are bounded by size, late and out_of_order", NULL, "a key has one window",
      "a key has one window at a time"}},
    {RML_SET_WINDOW_WHEN_FULL,
     "when_full",
     "--o--",
     NULL,
     {"write it beside window, for max_keys", "write it beside window, for max_keys", NULL,
      "write it beside window, for max_keys", "write it beside window, for max_keys"}},
};

static const char *const kind_names[] = {
    [RML_WINDOW_TUMBLING] = "tumbling", [RML_WINDOW_SLIDING] = "sliding",
    [RML_WINDOW_SESSION] = "session",   [RML_WINDOW_GLOBAL] = "global",
    [RML_WINDOW_COUNT] = "counted",
};

static bool has_too_much(struct rml_reader *reader, const struct rml_values *values,
                         enum rml_window_kind kind)
{
    bool any = false;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const struct rml_yaml_node *node = values->at[rules[i].setting];
        if (rules[i].by_kind[kind] != '-')
            continue;
        rml_reader_forget_default(reader, values, rules[i].setting);
        if (node == NULL)
            continue;
        rml_report_add(reader->report, node->key->place, rules[i].instead[kind],
                       "%s: a %s window has no %s", values->what, kind_names[kind], rules[i].name);
        any = true;
    }
    return any;
}

static bool lacks_something(struct rml_reader *reader, const struct rml_values *values,
                            enum rml_window_kind kind)
{
    bool any = false;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].by_kind[kind] != '+' || values->at[rules[i].setting] != NULL)
            continue;
        rml_report_add(reader->report, values->place, rules[i].meaning, "%s: a %s window needs %s",
                       values->what, kind_names[kind], rules[i].name);
        any = true;
    }
    return any;
}

// A key's state holds one cell for each pane that can be open: refuse what no memory is made for.
static void check_panes(struct rml_reader *reader, const struct rml_values *values,
                        const struct rml_plan_window *window, int64_t out_of_order_ns)
{
    int64_t open_ns = window->size_ns + window->late_ns + out_of_order_ns;
    if (open_ns / window->pane_ns < RML_PANES_MAX)
        return;
    char pane[32];
    rml_duration_print(window->pane_ns, pane);
    rml_report_add(reader->report, values->place,
                   window->kind == RML_WINDOW_SLIDING
                       ? "choose a size that is a small multiple of every, or a shorter late"
                       : "choose a longer size or a shorter late",
                   "%s: size, late and out_of_order together are %lld panes of %s, at most %d go",
                   values->what, (long long)(open_ns / window->pane_ns), pane, RML_PANES_MAX);
}

static void read_panes(struct rml_reader *reader, const struct rml_reader_stage *draft,
                       const struct rml_values *values, struct rml_plan_window *window)
{
    bool good = rml_reader_number(reader, values, RML_SET_WINDOW_SIZE, &window->size_ns);
    good &= rml_reader_number(reader, values, RML_SET_WINDOW_OFFSET, &window->offset_ns);
    window->every_ns = window->size_ns;
    if (window->kind == RML_WINDOW_SLIDING)
        good &= rml_reader_number(reader, values, RML_SET_WINDOW_EVERY, &window->every_ns);
    if (!good)
        return;
    if (window->every_ns > window->size_ns) {
        rml_report_add(
            reader->report, values->at[RML_SET_WINDOW_EVERY]->place, "make it at most the size",
            "%s: every is longer than size: records between would be in no window", values->what);
        return;
    }
    window->offset_ns -= rml_time_floor_div(window->offset_ns, window->every_ns) * window->every_ns;
    window->pane_ns = rml_units_gcd(window->size_ns, window->every_ns);
    window->pane_offset_ns = window->offset_ns % window->pane_ns;
    int64_t out_of_order_ns =
        draft->source == UINT32_MAX ? 0 : reader->plan->sources[draft->source].out_of_order_ns;
    check_panes(reader, values, window, out_of_order_ns);
}

static bool is_in_records(const struct rml_yaml_node *node)
{
    int64_t ignored;
    return node != NULL && node->kind == RML_YAML_SCALAR && node->plain
           && rml_records_parse(node->text, node->text_length, &ignored) != -EINVAL;
}

static bool read_records(struct rml_reader *reader, const struct rml_values *values,
                         enum rml_setting setting, uint32_t *ret_records)
{
    const struct rml_yaml_node *node = values->at[setting];
    int64_t records = 0;
    int rc = rml_records_parse(node->text, node->text_length, &records);
    if (rc < 0 || records < 1 || records > RECORDS_MOST) {
        rml_report_add(reader->report, node->place, NULL,
                       "%s: %s must lie between 1 and %d records, not %.60s", values->what,
                       rml_setting_info[setting].key, RECORDS_MOST, node->text);
        return false;
    }
    *ret_records = (uint32_t)records;
    return true;
}

static void read_counts(struct rml_reader *reader, const struct rml_values *values,
                        struct rml_plan_window *window)
{
    const struct rml_yaml_node *every = values->at[RML_SET_WINDOW_EVERY];
    bool good = read_records(reader, values, RML_SET_WINDOW_SIZE, &window->size_records);
    window->every_records = window->size_records;
    if (every != NULL)
        good &= read_records(reader, values, RML_SET_WINDOW_EVERY, &window->every_records);
    if (!good)
        return;
    if (window->every_records > window->size_records) {
        rml_report_add(reader->report, every->place, "make it at most the size",
                       "%s: every is more than size: records between would be in no window",
                       values->what);
        return;
    }
    window->pane_records = (uint32_t)rml_units_gcd(window->size_records, window->every_records);
}

// Both in event time, or both in records?
static bool units_agree(struct rml_reader *reader, const struct rml_values *values)
{
    const struct rml_yaml_node *every = values->at[RML_SET_WINDOW_EVERY];
    bool counted = is_in_records(values->at[RML_SET_WINDOW_SIZE]);
    if (every == NULL || is_in_records(every) == counted)
        return true;
    rml_report_add(reader->report, every->place,
                   counted ? "such as 20 records" : "such as 200ms, 1.5s, 2m, 1h",
                   "%s: size is %s, so every must be too", values->what,
                   counted ? "a number of records" : "a duration");
    return false;
}

static void read_session(struct rml_reader *reader, const struct rml_values *values,
                         struct rml_plan_window *window)
{
    const struct rml_yaml_node *max = values->at[RML_SET_WINDOW_MAX];
    bool good = rml_reader_number(reader, values, RML_SET_WINDOW_GAP, &window->gap_ns);
    int64_t limit = 0;
    rml_reader_number(reader, values, RML_SET_WINDOW_WINDOW_LIMIT, &limit);
    window->session_limit = (uint32_t)limit;
    uint32_t when_full = RML_WHEN_FULL_REFUSE;
    rml_reader_choice(reader, values, RML_SET_WINDOW_WHEN_FULL, &when_full);
    window->when_full = (enum rml_when_full)when_full;
    if (max == NULL || !rml_reader_number(reader, values, RML_SET_WINDOW_MAX, &window->max_ns))
        return;
    if (good && window->max_ns < window->gap_ns)
        rml_report_add(reader->report, max->place, "make it at least the gap",
                       "%s: max is shorter than gap: not even one record would fit", values->what);
}

// A fired window keeps its state to be corrected, or goes at once: not both, and not for no time.
static bool read_late(struct rml_reader *reader, const struct rml_values *values,
                      struct rml_plan_window *window)
{
    const struct rml_yaml_node *on_late = values->at[RML_SET_WINDOW_ON_LATE];
    uint32_t drops = 0;
    bool good = rml_reader_number(reader, values, RML_SET_WINDOW_LATE, &window->late_ns);
    if (!rml_reader_choice(reader, values, RML_SET_WINDOW_ON_LATE, &drops) || !good)
        return false;
    if (window->late_ns == 0)
        rml_reader_forget_default(reader, values, RML_SET_WINDOW_ON_LATE);
    if (drops && window->late_ns > 0)
        rml_report_add(reader->report, values->at[RML_SET_WINDOW_LATE]->key->place,
                       "leave it out, or write  on_late: correct",
                       "%s: late is for how long late records correct a window, and with on_late: "
                       "drop none does",
                       values->what);
    if (on_late != NULL && !drops && window->late_ns == 0)
        rml_report_add(reader->report, on_late->key->place, "such as  late: 10s",
                       "%s: on_late: correct needs late, or no record is in time to correct",
                       values->what);
    return true;
}

static void read_trigger(struct rml_reader *reader, const struct rml_reader_stage *draft,
                         const struct rml_values *window_values, struct rml_plan_trigger *trigger)
{
    const struct rml_yaml_node *node = window_values->at[RML_SET_WINDOW_TRIGGER];
    const struct rml_yaml_node *emit = window_values->at[RML_SET_WINDOW_EMIT];
    uint32_t updates = 0;
    bool good = rml_reader_choice(reader, window_values, RML_SET_WINDOW_EMIT, &updates);
    if (node == NULL) {
        trigger->count = updates ? 1 : 0;
        return;
    }
    if (emit != NULL && good)
        rml_report_add(reader->report, emit->key->place, "leave one of them out",
                       updates ? "%s: with emit: updates each record triggers a row already"
                               : "%s: with emit: final there are no early rows to trigger",
                       window_values->what);
    rml_reader_forget_default(reader, window_values, RML_SET_WINDOW_EMIT);
    struct rml_values values;
    if (!rml_reader_section(reader, RML_SECTION_TRIGGER, node, node->key->place, draft->name->text,
                            &values))
        return;
    int64_t count = 0;
    bool counts = values.at[RML_SET_TRIGGER_COUNT] != NULL;
    bool ticks = values.at[RML_SET_TRIGGER_EVERY] != NULL;
    if (!counts && !ticks && node->first == NULL)
        rml_report_add(reader->report, node->key->place, "such as  {count: 1000}  or  {every: 1s}",
                       "%s: it needs count, or every, or both", values.what);
    if (counts && rml_reader_number(reader, &values, RML_SET_TRIGGER_COUNT, &count))
        trigger->count = (uint32_t)count;
    if (ticks)
        (void)rml_reader_number(reader, &values, RML_SET_TRIGGER_EVERY, &trigger->every_ns);
}

// Of a window of a type that there is not, nothing else can be judged.
static bool type_is_known(struct rml_reader *reader, const struct rml_reader_stage *draft,
                          const struct rml_yaml_node *node)
{
    struct rml_values values = {.place = node->key->place};
    snprintf(values.what, sizeof values.what, "window %.*s", RML_NAME_MAX, draft->name->text);
    if (node->kind == RML_YAML_MAPPING)
        values.at[RML_SET_WINDOW_TYPE] = rml_yaml_find(node, "type");
    uint32_t kind;
    return values.at[RML_SET_WINDOW_TYPE] == NULL
           || rml_reader_choice(reader, &values, RML_SET_WINDOW_TYPE, &kind);
}

void rml_read_shape(struct rml_reader *reader, const struct rml_reader_stage *draft,
                    struct rml_plan_window *window)
{
    const struct rml_yaml_node *node = draft->values.at[RML_SET_STAGE_WINDOW];
    struct rml_values values;
    if (!type_is_known(reader, draft, node)
        || !rml_reader_section(reader, RML_SECTION_WINDOW, node, node->key->place,
                               draft->name->text, &values))
        return;
    uint32_t kind = 0;
    bool good = read_late(reader, &values, window);
    if (!rml_reader_choice(reader, &values, RML_SET_WINDOW_TYPE, &kind))
        return;
    window->kind = (enum rml_window_kind)kind;
    // A file that means another type is told that, and not what the type written would need besides.
    if (has_too_much(reader, &values, window->kind)
        || lacks_something(reader, &values, window->kind) || !good)
        return;
    read_trigger(reader, draft, &values, &window->trigger);
    if (window->kind == RML_WINDOW_GLOBAL) {
        window->size_ns = window->every_ns = window->pane_ns = INT64_MAX;
        return;
    }
    if (window->kind == RML_WINDOW_SESSION) {
        read_session(reader, &values, window);
        return;
    }
    if (!units_agree(reader, &values))
        return;
    if (!is_in_records(values.at[RML_SET_WINDOW_SIZE])) {
        read_panes(reader, draft, &values, window);
        return;
    }
    window->kind = RML_WINDOW_COUNT;
    window->trigger = (struct rml_plan_trigger){0};
    if (!has_too_much(reader, &values, window->kind))
        read_counts(reader, &values, window);
}
