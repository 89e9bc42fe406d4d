#include <stdio.h>
#include <string.h>

#include "runtime/plan/reader.h"

/* `function(argument)` taken apart: offsets into the scalar's text. */
struct call {
    uint32_t name_length;
    uint32_t argument, argument_length;  // without blanks around it
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

static bool take_call_apart(const struct rml_yaml_node *node, struct call *ret_call)
{
    const char *open = strchr(node->text, '(');
    uint32_t end = node->text_length;
    while (end > 0 && is_blank(node->text[end - 1]))
        end--;
    if (open == NULL || end == 0 || node->text[end - 1] != ')')
        return false;
    uint32_t from = (uint32_t)(open - node->text) + 1, to = end - 1;
    uint32_t name_length = from - 1;
    while (name_length > 0 && is_blank(node->text[name_length - 1]))
        name_length--;
    while (from < to && is_blank(node->text[from]))
        from++;
    while (to > from && is_blank(node->text[to - 1]))
        to--;
    *ret_call = (struct call){name_length, from, to - from};
    return name_length > 0;
}

// The argument alone, where something may stand behind it. Returns where it ends: at a comma, or all does.
static uint32_t cut_argument(const struct rml_yaml_node *node, struct call *call)
{
    uint32_t from = call->argument;
    uint32_t comma = rml_reader_part_end(node->text, from, from + call->argument_length);
    uint32_t end = comma;
    while (end > from && is_blank(node->text[end - 1]))
        end--;
    call->argument_length = end - from;
    return comma;
}

/* The aggregates of one stage while they are read. */
struct aggregates {
    struct rml_reader *reader;
    const struct rml_reader_stage *draft;
    struct rml_plan_stage *stage;
    bool columns_known;
    uint32_t argument_count;  // expressions so far: those in the same words share one column
    uint32_t plugin_bytes;    // of states of plug-ins

    struct {
        const char *text;
        uint32_t length, column;
    } arguments[RML_COLUMNS_MAX];
};

static uint32_t find_function(const struct aggregates *all, const struct rml_yaml_node *node,
                              const struct call *call)
{
    const struct rml_functions *functions = &all->reader->plan->functions;
    struct rml_names names = {0};
    for (uint32_t f = 0; f < functions->count; f++) {
        const char *name = functions->list[f].name;
        if (strlen(name) == call->name_length && memcmp(name, node->text, call->name_length) == 0)
            return f;
        rml_names_add(&names, name);
    }
    if (all->reader->functions_lost)
        return UINT32_MAX;
    char word[RML_NAME_MAX + 1], hint[160];
    snprintf(word, sizeof word, "%.*s", (int)call->name_length, node->text);
    rml_names_hint(&names, word, hint, sizeof hint);
    rml_report_add(all->reader->report, rml_yaml_part(node, 0, call->name_length), hint,
                   "%s: there is no aggregate function %s", all->draft->values.what, word);
    return UINT32_MAX;
}

// The frame column of the argument, mapped for the purpose unless it is a column by itself.
static uint32_t argument_column(struct aggregates *all, const struct rml_yaml_node *node,
                                const struct call *call)
{
    struct rml_reader *reader = all->reader;
    uint32_t source = all->draft->source;
    const char *text = node->text + call->argument;
    uint32_t length = call->argument_length;
    uint32_t column =
        rml_reader_column(&reader->plan->sources[source].frame, all->stage->visible, text, length);
    if (column != RML_FIELD_ABSENT)
        return column;
    for (uint32_t i = 0; i < all->argument_count; i++)
        if (all->arguments[i].length == length && memcmp(all->arguments[i].text, text, length) == 0)
            return all->arguments[i].column;

    struct rml_expr *expr =
        rml_reader_expr(reader, source, all->stage->visible, node, call->argument, length);
    if (expr == NULL)
        return RML_FIELD_ABSENT;
    // the dot keeps the name out of reach of expressions
    char name[2 * RML_NAME_MAX + 2];
    snprintf(name, sizeof name, "%s.%s", all->stage->name, node->key->text);
    column = rml_reader_add_mapped(reader, all->draft, all->stage, name, expr, node->place);
    if (column != RML_FIELD_ABSENT) {
        all->arguments[all->argument_count].text = text;
        all->arguments[all->argument_count].length = length;
        all->arguments[all->argument_count++].column = column;
    }
    return column;
}

static bool argument_fits(enum rml_function_argument wanted, enum rml_type type)
{
    if (wanted == RML_ARGUMENT_ANY)
        return true;
    return wanted == RML_ARGUMENT_BOOL ? type == RML_BOOL : rml_type_is_number(type);
}

static const char *const argument_words[] = {
    [RML_ARGUMENT_NONE] = "nothing",
    [RML_ARGUMENT_NUMBER] = "a number",
    [RML_ARGUMENT_BOOL] = "a bool",
    [RML_ARGUMENT_ANY] = "anything",
};

static bool read_argument(struct aggregates *all, const struct rml_yaml_node *node,
                          const struct call *call, const struct rml_function *function,
                          struct rml_plan_aggregate *aggregate)
{
    struct rml_report *report = all->reader->report;
    const char *what = all->draft->values.what;
    struct rml_place place = rml_yaml_part(node, call->argument, call->argument_length);
    enum rml_type type = RML_U64;
    aggregate->column = RML_FIELD_ABSENT;
    if (function->argument == RML_ARGUMENT_NONE) {
        if (call->argument_length > 0) {
            rml_report_add(report, place, "count_if(condition) counts some of the records",
                           "%s: %s takes nothing between its parentheses", what, function->name);
            return false;
        }
    } else {
        if (call->argument_length == 0) {
            rml_report_add(report, node->place, function->sentence,
                           "%s: %s needs a column or an expression between its parentheses", what,
                           function->name);
            return false;
        }
        if (!all->columns_known)
            return false;
        aggregate->column = argument_column(all, node, call);
        if (aggregate->column == RML_FIELD_ABSENT)
            return false;
        const struct rml_frame *frame = &all->reader->plan->sources[all->draft->source].frame;
        type = frame->columns[aggregate->column].type;
        if (!argument_fits(function->argument, type)) {
            rml_report_add(report, place, function->sentence, "%s: %s takes %s, this is a %s", what,
                           function->name, argument_words[function->argument],
                           rml_type_info[type].name);
            return false;
        }
    }
    aggregate->type = function->type(type);
    aggregate->nullable = function->nullable;
    aggregate->state_bytes = function->state_bytes;
    if (function->holds_value)
        aggregate->state_bytes += (rml_type_info[type].cell_bytes + 7) / 8 * 8;
    return true;
}

/* Calls of plug-ins */

static uint32_t plugin_kind(enum rml_type type)
{
    switch (rml_type_info[type].kind) {
    case RML_KIND_INT:
        return RML_PLUGIN_INT;
    case RML_KIND_UINT:
        return RML_PLUGIN_UINT;
    case RML_KIND_FLOAT:
        return RML_PLUGIN_FLOAT;
    case RML_KIND_BOOL:
        return RML_PLUGIN_BOOL;
    case RML_KIND_STR:
    case RML_KINDS:
        break;
    }
    return RML_PLUGIN_STR;
}

static void takes_words(uint32_t takes, char text[64])
{
    const char *number = takes & RML_PLUGIN_FLOAT                        ? "a number"
                         : !(takes & (RML_PLUGIN_INT | RML_PLUGIN_UINT)) ? ""
                         : !(takes & RML_PLUGIN_UINT) ? "an integer that is no u64"
                         : !(takes & RML_PLUGIN_INT)  ? "a u64"
                                                      : "an integer";
    const char *rest[] = {number, takes & RML_PLUGIN_BOOL ? "a bool" : "",
                          takes & RML_PLUGIN_STR ? "a string" : ""};
    int length = 0;
    for (int i = 0; i < 3; i++) {
        if (rest[i][0] != '\0')
            length += snprintf(text + length, 64 - (size_t)length, "%s%s", length > 0 ? " or " : "",
                               rest[i]);
    }
}

// Argument `a` of a plug-in's function, whose text is the call's argument.
static bool read_plugin_argument(struct aggregates *all, const struct rml_yaml_node *node,
                                 const struct call *call, const struct rml_function *function,
                                 uint32_t a, struct rml_plan_call *made)
{
    struct rml_report *report = all->reader->report;
    const char *what = all->draft->values.what;
    const struct rml_plugin_aggregate *plugin = function->plugin;
    if (call->argument_length == 0) {
        rml_report_add(report, node->place, plugin->sentence,
                       "%s: %s needs %u column%s or expression%s between its parentheses", what,
                       plugin->name, plugin->argument_count, plugin->argument_count == 1 ? "" : "s",
                       plugin->argument_count == 1 ? "" : "s");
        return false;
    }
    if (!all->columns_known)
        return false;
    uint32_t column = argument_column(all, node, call);
    if (column == RML_FIELD_ABSENT)
        return false;
    enum rml_type type = all->reader->plan->sources[all->draft->source].frame.columns[column].type;
    uint32_t takes = plugin->takes[a], kind = plugin_kind(type);
    if (!(takes & kind) && rml_type_is_number(type))
        kind = RML_PLUGIN_FLOAT;  // any number can be given as one
    if (!(takes & kind)) {
        char words[64];
        takes_words(takes, words);
        rml_report_add(report, rml_yaml_part(node, call->argument, call->argument_length),
                       plugin->sentence, "%s: %s takes %s%s, this is a %s", what, plugin->name,
                       words, plugin->argument_count == 1 ? "" : " here", rml_type_info[type].name);
        return false;
    }
    made->columns[a] = column;
    made->call.argument_kinds[a] = kind;
    made->call.cell_bytes[a] = rml_type_info[type].cell_bytes;
    return true;
}

static enum rml_type plugin_result(uint32_t gives, enum rml_type argument, bool made_double)
{
    static const enum rml_type types[] = {
        [RML_PLUGIN_GIVES_F64] = RML_F64,     [RML_PLUGIN_GIVES_I64] = RML_I64,
        [RML_PLUGIN_GIVES_U64] = RML_U64,     [RML_PLUGIN_GIVES_BOOL] = RML_BOOL,
        [RML_PLUGIN_GIVES_TIME] = RML_TIME,   [RML_PLUGIN_GIVES_STR8] = RML_STR8,
        [RML_PLUGIN_GIVES_STR16] = RML_STR16, [RML_PLUGIN_GIVES_STR32] = RML_STR32,
        [RML_PLUGIN_GIVES_STR64] = RML_STR64,
    };

    if (gives != RML_PLUGIN_GIVES_SAME)
        return types[gives];
    return made_double ? RML_F64 : argument;
}

// How many bytes its states have; all those of a stage have to lie in one page with the others.
static bool size_plugin_state(struct aggregates *all, const struct rml_yaml_node *node,
                              struct rml_plan_call *made)
{
    const struct rml_plugin_aggregate *plugin = made->plugin;
    const char *what = all->draft->values.what;
    char error[160] = "";
    made->state_bytes =
        plugin->size != NULL ? plugin->size(&made->call, error, sizeof error) : plugin->state_bytes;
    error[sizeof error - 1] = '\0';
    if (made->state_bytes == 0) {
        rml_report_add(all->reader->report, node->place, plugin->sentence, "%s: %s: %s", what,
                       plugin->name, error[0] != '\0' ? error : "it cannot be called so");
        return false;
    }
    if (made->state_bytes > RML_PLUGIN_STATE_MAX) {
        rml_report_add(all->reader->report, node->place, plugin->sentence,
                       "%s: %s would have a state of %u bytes, at most %u go", what, plugin->name,
                       made->state_bytes, RML_PLUGIN_STATE_MAX);
        return false;
    }
    if (!rml_library_may_grow(plugin, made->state_bytes)) {
        rml_report_add(
            all->reader->report, node->place, plugin->sentence,
            "%s: %s would have a state that grows from %u bytes, not from a power of two "
            "between %u and %u",
            what, plugin->name, made->state_bytes, RML_PLUGIN_GROWS_MIN, plugin->state_bytes_max);
        return false;
    }
    made->state_bytes_max = plugin->state_bytes_max;
    all->plugin_bytes += made->state_bytes;
    if (all->plugin_bytes > RML_PLUGIN_STATES_MAX) {
        rml_report_add(all->reader->report, node->place, "make a second stage of some",
                       "%s: states of plug-ins have more than %d bytes together", what,
                       RML_PLUGIN_STATES_MAX);
        return false;
    }
    return true;
}

// The arguments of a plug-in's function, and the constants behind them.
static bool read_plugin_call(struct aggregates *all, const struct rml_yaml_node *node,
                             const struct call *call, const struct rml_function *function,
                             struct rml_plan_aggregate *aggregate)
{
    struct rml_reader *reader = all->reader;
    const struct rml_plugin_aggregate *plugin = function->plugin;
    struct rml_plan_call *made = rml_arena_give(reader->arena, 1, sizeof *made);
    made->plugin = plugin;
    made->call.argument_count = plugin->argument_count;
    uint32_t end = call->argument + call->argument_length, comma = end;
    bool good = true;
    struct call part = *call;
    for (uint32_t a = 0; a < plugin->argument_count; a++) {
        comma = cut_argument(node, &part);
        good &= read_plugin_argument(all, node, &part, function, a, made);
        part.argument = comma < end ? comma + 1 : end;
        while (part.argument < end && is_blank(node->text[part.argument]))
            part.argument++;
        part.argument_length = end - part.argument;
        if (a == 0 && part.argument_length > 0)
            aggregate->parameters_text =
                rml_arena_text(reader->arena, node->text + part.argument, part.argument_length);
    }
    good &= rml_read_plugin_parameters(reader, all->draft->values.what, node, comma, end, function,
                                       &made->call);
    if (!good || !size_plugin_state(all, node, made))
        return false;
    const struct rml_frame *frame = &reader->plan->sources[all->draft->source].frame;
    aggregate->call = made;
    aggregate->column = made->columns[0];
    enum rml_type type = frame->columns[aggregate->column].type;
    aggregate->type =
        plugin_result(plugin->gives, type, made->call.argument_kinds[0] != plugin_kind(type));
    aggregate->nullable = true;
    aggregate->state_bytes = (made->state_bytes_max > 0 ? 16 : 8) + (made->state_bytes + 7) / 8 * 8;
    return true;
}

/* Result columns */

static bool has_column(const struct aggregates *all, const char *name)
{
    const struct rml_plan_stage *stage = all->stage;
    const struct rml_frame *frame = &all->reader->plan->sources[all->draft->source].frame;
    for (uint32_t k = 0; k < stage->key_count; k++) {
        if (strcmp(frame->columns[stage->key_columns[k]].name, name) == 0)
            return true;
    }
    for (uint32_t a = 0; a < stage->aggregate_count; a++) {
        if (strcmp(stage->aggregates[a].name, name) == 0)
            return true;
    }
    return rml_reader_is_reserved(name);
}

// Add a result column, if its name is free and there is room.
static bool add_column(struct aggregates *all, const struct rml_yaml_node *node,
                       const struct rml_plan_aggregate *aggregate)
{
    struct rml_report *report = all->reader->report;
    const char *what = all->draft->values.what;
    struct rml_plan_stage *stage = all->stage;
    if (has_column(all, aggregate->name)) {
        rml_report_add(report, node->key->place, "choose another name",
                       "%s: its results have a column %s already", what, aggregate->name);
        return false;
    }
    if (stage->aggregate_count == RML_AGGREGATES_MAX) {
        rml_report_add(report, node->place, "make a second stage of some",
                       "%s: its aggregates have more than %d result columns", what,
                       RML_AGGREGATES_MAX);
        return false;
    }
    stage->aggregates[stage->aggregate_count++] = *aggregate;
    return true;
}

// A column of a function that makes several; false: it cannot be, which is reported.
static bool add_part(struct aggregates *all, const struct rml_yaml_node *node,
                     struct rml_plan_aggregate *aggregate, uint32_t number, const char *suffix)
{
    int length = snprintf(aggregate->name, sizeof aggregate->name, "%s_%u%s", node->key->text,
                          number, suffix);
    if (length >= (int)sizeof aggregate->name) {
        rml_report_add(all->reader->report, node->key->place, "choose a shorter one",
                       "%s: with what is put behind it, the name %s is too long",
                       all->draft->values.what, node->key->text);
        return false;
    }
    bool good = add_column(all, node, aggregate);
    aggregate->part++;
    aggregate->state_bytes = 8;  // of a further part: a histogram's word
    return good;
}

// A column for each interval: NAME_0 lies below the first bound.
static void add_intervals(struct aggregates *all, const struct rml_yaml_node *node,
                          struct rml_plan_aggregate *aggregate)
{
    for (uint32_t i = 0; i <= aggregate->parameter_count; i++) {
        if (!add_part(all, node, aggregate, i, ""))
            return;
    }
}

// RML_TOP_PARTS columns for each of the first values: NAME_1 is the first.
static void add_ranks(struct aggregates *all, const struct rml_yaml_node *node,
                      struct rml_plan_aggregate *aggregate)
{
    static const char *const suffixes[RML_TOP_PARTS] = {"", "_count", "_error"};
    enum rml_type type = aggregate->type;
    for (uint32_t i = 0; i < RML_TOP_PARTS * (uint32_t)aggregate->parameters[0]; i++) {
        aggregate->type = i % RML_TOP_PARTS == 0 ? type : RML_U64;
        if (!add_part(all, node, aggregate, 1 + i / RML_TOP_PARTS, suffixes[i % RML_TOP_PARTS]))
            return;
    }
}

// Between braces a comma ends the scalar: `n: ewma(x, 10s)` is n: "ewma(x" and a key "10s)".
static bool is_cut(const struct rml_yaml_node *node)
{
    return node->kind == RML_YAML_SCALAR && strchr(node->text, '(') != NULL
           && strchr(node->text, ')') == NULL;
}

static const char *hint_for_no_call(const struct rml_yaml_node *node)
{
    return is_cut(node) ? "between braces, what has a comma in it needs quotes: 'ewma(x, 10s)'"
                        : "such as count() or sum(tokens)";
}

static void read_aggregate(struct aggregates *all, const struct rml_yaml_node *node)
{
    struct rml_reader *reader = all->reader;
    bool good = rml_reader_name(reader, node->key, "result column");
    struct call call;
    if (node->kind != RML_YAML_SCALAR || !take_call_apart(node, &call)) {
        if (node->kind != RML_YAML_BROKEN) {
            rml_report_add(reader->report,
                           node->kind == RML_YAML_SCALAR && node->text_length > 0
                               ? node->place
                               : node->key->place,
                           hint_for_no_call(node),
                           "%s: an aggregate is a function and its argument in parentheses",
                           all->draft->values.what);
        }
        return;
    }
    uint32_t f = find_function(all, node, &call);
    if (f == UINT32_MAX)
        return;
    const struct rml_function *function = &reader->plan->functions.list[f];
    if (function->needs_length && all->stage->window.kind == RML_WINDOW_GLOBAL) {
        rml_report_add(reader->report, node->place, "divide a sum where it is read",
                       "%s: %s divides by the length of the window, and a global one has none",
                       all->draft->values.what, function->name);
        return;
    }
    struct rml_plan_aggregate aggregate = {.function = f};
    if (function->plugin != NULL) {
        good &= read_plugin_call(all, node, &call, function, &aggregate);
    } else {
        uint32_t end = call.argument + call.argument_length, comma = end;
        if (function->parameters != RML_PARAMETERS_NONE)
            comma = cut_argument(node, &call);
        good &= read_argument(all, node, &call, function, &aggregate);
        good &= rml_read_parameters(reader, all->draft->values.what, node, comma, end, function,
                                    &aggregate);
    }
    if (!good)
        return;
    snprintf(aggregate.name, sizeof aggregate.name, "%s", node->key->text);
    if (function->parameters == RML_PARAMETERS_BOUNDS)
        add_intervals(all, node, &aggregate);
    else if (function->parameters == RML_PARAMETERS_COUNT)
        add_ranks(all, node, &aggregate);
    else
        (void)add_column(all, node, &aggregate);
}

void rml_read_aggregates(struct rml_reader *reader, const struct rml_reader_stage *draft,
                         struct rml_plan_stage *stage, bool columns_known)
{
    if (draft->values.at[RML_SET_STAGE_AGGREGATE] == NULL)
        rml_report_add(reader->report, draft->values.place, "such as  aggregate: {calls: count()}",
                       "%s: a window needs aggregates", draft->values.what);
    const struct rml_yaml_node *node =
        rml_reader_mapping(reader, &draft->values, RML_SET_STAGE_AGGREGATE, RML_AGGREGATES_MAX);
    if (node == NULL)
        return;
    stage->aggregates =
        rml_arena_give(reader->arena, RML_AGGREGATES_MAX, sizeof *stage->aggregates);
    struct aggregates all = {
        .reader = reader, .draft = draft, .stage = stage, .columns_known = columns_known};
    for (const struct rml_yaml_node *n = node->first; n != NULL; n = n->next) {
        read_aggregate(&all, n);
        // The other pieces of a cut call are no mistakes of their own.
        for (bool cut = is_cut(n); cut && n->next != NULL; n = n->next)
            cut = strchr(n->next->key->text, ')') == NULL;
    }
}
