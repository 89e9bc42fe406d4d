#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/plan/reader.h"
#include "runtime/time/time.h"

/* The texts between commas behind an aggregate's argument: offsets into the scalar's text. */
struct parameter {
    uint32_t offset, length;  // without blanks around it
};

/* What is read, and where. */
struct parameters {
    struct rml_reader *reader;
    const char *what;  // the stage
    const struct rml_yaml_node *node;
    const struct rml_function *function;
    uint32_t count;
    struct parameter list[RML_PARAMETERS_MAX + 1];
    double values[RML_PARAMETERS_MAX];
};

/* What each kind of parameters wants, in words and by example. */
static const struct {
    const char *wants, *example;
} wanted[] = {
    [RML_PARAMETERS_NONE] = {"nothing", ""},
    [RML_PARAMETERS_SPAN] = {"a duration", "such as ewma(latency_ms, 10s)"},
    [RML_PARAMETERS_QUANTILE] = {"a number from 0 to 1", "such as quantile(latency_ms, 0.99)"},
    [RML_PARAMETERS_COUNT] = {"how many values are wanted", "such as top(user, 3)"},
    [RML_PARAMETERS_BOUNDS] = {"bounds that rise", "such as histogram(latency_ms, 10, 100, 1000)"},
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

uint32_t rml_reader_part_end(const char *text, uint32_t from, uint32_t to)
{
    int depth = 0;
    char quote = '\0';
    for (uint32_t i = from; i < to; i++) {
        char c = text[i];
        if (c == quote)
            quote = '\0';
        else if (quote != '\0')
            continue;
        else if (c == '\'' || c == '"')
            quote = c;
        else if (c == ',' && depth == 0)
            return i;
        else
            depth += (c == '(') - (c == ')');
    }
    return to;
}

static void split(struct parameters *all, uint32_t from, uint32_t to)
{
    const char *text = all->node->text;
    while (from < to && all->count <= RML_PARAMETERS_MAX) {
        uint32_t begin = from + 1, end = rml_reader_part_end(text, begin, to);  // from: a comma
        from = end;
        while (begin < end && is_blank(text[begin]))
            begin++;
        while (end > begin && is_blank(text[end - 1]))
            end--;
        all->list[all->count++] = (struct parameter){begin, end - begin};
    }
}

static bool complain(struct parameters *all, uint32_t at, const char *fault)
{
    const struct parameter *p = &all->list[at];
    struct rml_place place =
        p->length > 0 ? rml_yaml_part(all->node, p->offset, p->length) : all->node->place;
    rml_report_add(all->reader->report, place,
                   all->function->plugin != NULL ? all->function->sentence
                                                 : wanted[all->function->parameters].example,
                   "%s: %s: %.*s %s", all->what, all->function->name,
                   p->length > 0 ? (int)p->length : 7,
                   p->length > 0 ? all->node->text + p->offset : "nothing", fault);
    return false;
}

// Decimal, finite, and all of the text.
static bool read_number(struct parameters *all, uint32_t at, double *ret_value)
{
    const struct parameter *p = &all->list[at];
    const char *text = all->node->text + p->offset;
    char *end;
    if (p->length == 0 || memchr(text, 'x', p->length) != NULL)
        return false;
    *ret_value = strtod(text, &end);
    return end == text + p->length && isfinite(*ret_value);
}

static bool read_span(struct parameters *all)
{
    int64_t ns;
    const struct parameter *p = &all->list[0];
    if (all->count > 1)
        return complain(all, 1, "is one parameter too many");
    if (rml_duration_parse(all->node->text + p->offset, p->length, &ns) < 0)
        return complain(all, 0, "is no duration");
    if (ns <= 0)
        return complain(all, 0, "is no time at all");
    all->values[0] = (double)ns;
    return true;
}

// The share, and how far off the answer may be: 0.1% to 5%, or `exact`.
static bool read_quantile(struct parameters *all)
{
    if (all->count > 2)
        return complain(all, 2, "is one parameter too many");
    if (!read_number(all, 0, &all->values[0]))
        return complain(all, 0, "is no number");
    if (all->values[0] < 0 || all->values[0] > 1)
        return complain(all, 0, "does not lie between 0 and 1");
    all->values[1] = RML_QUANTILE_ACCURACY;
    if (all->count == 2) {
        struct parameter *p = &all->list[1];
        if (p->length == 5 && memcmp(all->node->text + p->offset, "exact", 5) == 0) {
            all->values[1] = 0;
            return true;
        }
        if (p->length == 0 || all->node->text[p->offset + p->length - 1] != '%')
            return complain(all, 1, "is neither exact nor an accuracy from 0.1% to 5%");
        p->length--;
        bool good = read_number(all, 1, &all->values[1]);
        p->length++;
        all->values[1] /= 100;
        if (!good || all->values[1] < 0.001 || all->values[1] > 0.05)
            return complain(all, 1, "is neither exact nor an accuracy from 0.1% to 5%");
    }
    return true;
}

static bool read_count(struct parameters *all)
{
    if (all->count > 1)
        return complain(all, 1, "is one parameter too many");
    if (!read_number(all, 0, &all->values[0]) || all->values[0] != floor(all->values[0])
        || all->values[0] < 1 || all->values[0] > RML_TOP_MAX)
        return complain(all, 0, "is no whole number from 1 to 10");
    return true;
}

_Static_assert(RML_TOP_MAX == 10, "the sentence above says so");

static bool read_bounds(struct parameters *all)
{
    if (all->count > RML_PARAMETERS_MAX)
        return complain(all, RML_PARAMETERS_MAX, "is one bound too many");
    for (uint32_t i = 0; i < all->count; i++) {
        if (!read_number(all, i, &all->values[i]))
            return complain(all, i, "is no number");
        if (i > 0 && all->values[i] <= all->values[i - 1])
            return complain(all, i, "is not above the bound before it");
    }
    return true;
}

static bool read_values(struct parameters *all)
{
    switch (all->function->parameters) {
    case RML_PARAMETERS_SPAN:
        return read_span(all);
    case RML_PARAMETERS_QUANTILE:
        return read_quantile(all);
    case RML_PARAMETERS_COUNT:
        return read_count(all);
    case RML_PARAMETERS_BOUNDS:
        return read_bounds(all);
    case RML_PARAMETERS_NONE:
        break;
    }
    return true;
}

bool rml_read_plugin_parameters(struct rml_reader *reader, const char *what,
                                const struct rml_yaml_node *node, uint32_t from, uint32_t to,
                                const struct rml_function *function, struct rml_plugin_call *call)
{
    struct parameters all = {.reader = reader, .what = what, .node = node, .function = function};
    const struct rml_plugin_aggregate *plugin = function->plugin;
    split(&all, from, to);
    if (all.count > plugin->parameters_most)
        return complain(&all, plugin->parameters_most, "is one parameter too many");
    if (all.count < plugin->parameters_least) {
        rml_report_add(reader->report, node->place, plugin->sentence,
                       "%s: %s needs %u parameter%s behind its arguments, not %u", what,
                       plugin->name, plugin->parameters_least,
                       plugin->parameters_least == 1 ? "" : "s", all.count);
        return false;
    }
    for (uint32_t i = 0; i < all.count; i++) {
        int64_t ns;
        const struct parameter *p = &all.list[i];
        if (read_number(&all, i, &all.values[i]))
            continue;
        if (rml_duration_parse(node->text + p->offset, p->length, &ns) < 0)
            return complain(&all, i, "is neither a number nor a duration");
        all.values[i] = (double)ns;
    }
    double *values = rml_arena_give(reader->arena, RML_PARAMETERS_MAX, sizeof *values);
    memcpy(values, all.values, sizeof all.values);
    call->parameters = values;
    call->parameter_count = all.count;
    return true;
}

_Static_assert(RML_PLUGIN_PARAMETERS_MAX == RML_PARAMETERS_MAX, "one list holds either");

bool rml_read_parameters(struct rml_reader *reader, const char *what,
                         const struct rml_yaml_node *node, uint32_t from, uint32_t to,
                         const struct rml_function *function, struct rml_plan_aggregate *aggregate)
{
    struct parameters all = {.reader = reader, .what = what, .node = node, .function = function};
    if (function->parameters == RML_PARAMETERS_NONE)
        return true;
    split(&all, from, to);
    if (all.count == 0) {
        rml_report_add(reader->report, node->place, wanted[function->parameters].example,
                       "%s: %s needs %s behind its argument", what, function->name,
                       wanted[function->parameters].wants);
        return false;
    }
    if (!read_values(&all))
        return false;
    uint32_t count = function->parameters == RML_PARAMETERS_QUANTILE ? 2 : all.count;
    double *values = rml_arena_give(reader->arena, count, sizeof *values);
    memcpy(values, all.values, count * sizeof *values);
    aggregate->parameters = values;
    aggregate->parameter_count = count;
    const struct parameter *last = &all.list[all.count - 1];
    uint32_t begin = all.list[0].offset;
    aggregate->parameters_text =
        rml_arena_text(reader->arena, node->text + begin, last->offset + last->length - begin);
    return true;
}
