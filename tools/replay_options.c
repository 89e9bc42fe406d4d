#include "tools/replay_options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/base/suggest.h"

#define STANDARD_BATCH 256

/* Said where a name is unknown: what there is, and the nearest. */
static int unknown(const char *option, const char *kind, const char *name, size_t length,
                   const char *const *names, uint32_t count, struct rml_err *err)
{
    const char *near = rml_suggest(name, length, names, count);
    if (near == NULL && count == 1)
        near = names[0];
    return RML_FAIL(err, -EINVAL, "%s: there is no %s %.*s%s%s%s", option, kind, (int)length, name,
                    near != NULL ? "; did you mean " : "", near != NULL ? near : "",
                    near != NULL ? "?" : "");
}

static enum rml_format format_of(const char *path, enum rml_format otherwise)
{
    enum rml_format format = rml_format_of_path(path);
    return format == RML_FORMAT_UNKNOWN ? otherwise : format;
}

static int take_input(struct rml_replay_options *options, const char *word,
                      enum rml_format otherwise, struct rml_err *err)
{
    const char *equals = strchr(word, '=');
    if (equals == NULL)
        return RML_FAIL(err, -EINVAL, "--input %s: write SOURCE=FILE, such as --input %s=%s", word,
                        options->plan.sources[0].name, word);
    size_t length = (size_t)(equals - word);
    const char *names[RML_SOURCES_MAX];
    uint32_t source = UINT32_MAX;
    for (uint32_t i = 0; i < options->plan.source_count; i++) {
        names[i] = options->plan.sources[i].name;
        if (strlen(names[i]) == length && memcmp(names[i], word, length) == 0)
            source = i;
    }
    if (source == UINT32_MAX)
        return unknown("--input", "source", word, length, names, options->plan.source_count, err);
    for (uint32_t i = 0; i < options->input_count; i++) {
        if (options->inputs[i].source == source)
            return RML_FAIL(err, -EINVAL, "--input: source %s has two files", names[source]);
    }
    options->inputs[options->input_count++] =
        (struct rml_replay_source){.source = source,
                                   .input = {.path = equals + 1,
                                             .format = format_of(equals + 1, otherwise),
                                             .schema = &options->plan.sources[source].schema}};
    return 0;
}

static int take_inputs(struct rml_replay_options *options, const struct rml_replay_words *words,
                       enum rml_format otherwise, struct rml_err *err)
{
    if (words->input_count == 0)
        return RML_FAIL(err, -EINVAL, "nothing to replay: give a file with --input %s=FILE",
                        options->plan.sources[0].name);
    uint32_t from_stdin = 0;
    for (uint32_t i = 0; i < words->input_count; i++) {
        int rc = take_input(options, words->inputs[i], otherwise, err);
        if (rc < 0)
            return rc;
        from_stdin += strcmp(options->inputs[i].input.path, "-") == 0;
    }
    if (from_stdin > 1)
        return RML_FAIL(err, -EINVAL, "--input: only one source can be read from standard input");
    return 0;
}

/* Does a source with an input have this field? The names of all that do are for "did you mean". */
static int check_field(const struct rml_replay_options *options, const char *option,
                       const char *field, struct rml_err *err)
{
    const char *names[RML_FIELDS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < options->input_count; i++) {
        const struct rml_schema *schema = options->inputs[i].input.schema;
        if (rml_schema_find(schema, field, strlen(field)) != RML_FIELD_ABSENT)
            return 0;
        for (uint32_t f = 0; f < schema->field_count && count < RML_FIELDS_MAX; f++)
            names[count++] = schema->fields[f].name;
    }
    return unknown(option, "field", field, strlen(field), names, count, err);
}

/* "field=text", with the halves copied to where `*at` points. */
static int take_pair(struct rml_replay_options *options, const char *option, const char *word,
                     char **at, struct rml_input_pair *pair, struct rml_err *err)
{
    const char *equals = strchr(word, '=');
    if (equals == NULL || equals == word)
        return RML_FAIL(err, -EINVAL, "%s %s: write FIELD=%s", option, word,
                        strcmp(option, "--map") == 0 ? "COLUMN" : "VALUE");
    size_t bytes = strlen(word) + 1;
    memcpy(*at, word, bytes);
    (*at)[equals - word] = '\0';
    *pair = (struct rml_input_pair){.field = *at, .text = *at + (equals - word) + 1};
    *at += bytes;
    return check_field(options, option, pair->field, err);
}

static int take_pairs(struct rml_replay_options *options, const struct rml_replay_words *words,
                      struct rml_err *err)
{
    size_t bytes = 1;
    for (uint32_t i = 0; i < words->map_count; i++)
        bytes += strlen(words->maps[i]) + 1;
    for (uint32_t i = 0; i < words->set_count; i++)
        bytes += strlen(words->sets[i]) + 1;
    char *at = options->text = malloc(bytes);
    if (at == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for the options");
    int rc = 0;
    for (uint32_t i = 0; i < words->map_count && rc == 0; i++)
        rc = take_pair(options, "--map", words->maps[i], &at, &options->maps[i], err);
    for (uint32_t i = 0; i < words->set_count && rc == 0; i++)
        rc = take_pair(options, "--set", words->sets[i], &at, &options->sets[i], err);
    for (uint32_t i = 0; i < options->input_count; i++) {
        struct rml_input_options *input = &options->inputs[i].input;
        input->maps = options->maps;
        input->map_count = words->map_count;
        input->sets = options->sets;
        input->set_count = words->set_count;
    }
    return rc;
}

static void file_sink(struct rml_plan_sink *sink, enum rml_format format, bool rfc3339,
                      const char *path)
{
    *sink = (struct rml_plan_sink){.kind = format == RML_FORMAT_CSV ? RML_SINK_CSV : RML_SINK_JSONL,
                                   .rfc3339 = rfc3339};
    snprintf(sink->name, sizeof sink->name, "output");
    /* The plan owns its paths; this one is a word of the command line, and nobody writes to it. */
    memcpy(&sink->path, &path, sizeof path);
}

/* Files are emptied when they are opened for output: an input would be gone before it was read. */
static int leave_inputs(const struct rml_replay_options *options, const char *path,
                        struct rml_err *err)
{
    struct stat output, input;
    if (strcmp(path, "-") == 0 || stat(path, &output) < 0 || !S_ISREG(output.st_mode))
        return 0;
    for (uint32_t i = 0; i < options->input_count; i++) {
        const char *name = options->inputs[i].input.path;
        int rc = strcmp(name, "-") == 0 ? fstat(STDIN_FILENO, &input) : stat(name, &input);
        if (rc == 0 && input.st_dev == output.st_dev && input.st_ino == output.st_ino)
            return RML_FAIL(err, -EINVAL, "--output: %s is an input: choose another file", path);
    }
    return 0;
}

/* "stage=path" or "stage.late=path". */
static int take_output(struct rml_replay_options *options, const char *word,
                       enum rml_format otherwise, bool rfc3339, struct rml_err *err)
{
    const struct rml_plan *plan = &options->plan;
    const char *equals = strchr(word, '=');
    if (equals == NULL)
        return RML_FAIL(err, -EINVAL, "--output %s: write STAGE=FILE, such as --output %s=%s", word,
                        plan->stages[plan->stage_count - 1].name, word);
    size_t length = (size_t)(equals - word);
    bool late = length > 5 && memcmp(equals - 5, ".late", 5) == 0;
    length -= late ? 5 : 0;
    const char *names[RML_STAGES_MAX];
    uint32_t stage = UINT32_MAX;
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        names[i] = plan->stages[i].name;
        if (strlen(names[i]) == length && memcmp(names[i], word, length) == 0)
            stage = i;
    }
    if (stage == UINT32_MAX)
        return unknown("--output", "stage", word, length, names, plan->stage_count, err);
    if (late && plan->stages[stage].kind != RML_STAGE_WINDOW)
        return RML_FAIL(err, -EINVAL, "--output: %s has no late output: only window stages do",
                        names[stage]);
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        if (strcmp(plan->sinks[i].path, equals + 1) == 0)
            return RML_FAIL(err, -EINVAL, "--output: two outputs go to %s", equals + 1);
    }
    int rc = leave_inputs(options, equals + 1, err);
    if (rc < 0)
        return rc;
    struct rml_plan_sink *sink = &options->sinks[options->plan.sink_count++];
    file_sink(sink, format_of(equals + 1, otherwise), rfc3339, equals + 1);
    sink->from[sink->from_count++] = (struct rml_plan_output){.stage = stage, .late = late};
    return 0;
}

/* Without --output: all stages that no other stage reads, on standard output. */
static int standard_output(struct rml_replay_options *options, enum rml_format format, bool rfc3339,
                           struct rml_err *err)
{
    const struct rml_plan *plan = &options->plan;
    struct rml_plan_sink *sink = &options->sinks[options->plan.sink_count++];
    file_sink(sink, format, rfc3339, "-");
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        bool is_read = false;
        for (uint32_t j = 0; j < plan->stage_count; j++)
            is_read = is_read || (plan->stages[j].from == i && !plan->stages[j].from_late);
        if (!is_read)
            sink->from[sink->from_count++] = (struct rml_plan_output){.stage = i};
    }
    if (sink->from_count > 1 && format == RML_FORMAT_CSV)
        return RML_FAIL(err, -EINVAL,
                        "CSV has one header, and %u stages would go to standard output: choose "
                        "with --output STAGE=FILE, or --format jsonl",
                        sink->from_count);
    return 0;
}

static int take_number(const char *option, const char *word, uint32_t most, uint32_t *ret_value,
                       struct rml_err *err)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(word, &end, 10);
    if (word[0] < '0' || word[0] > '9' || *end != '\0' || errno != 0 || value == 0 || value > most)
        return RML_FAIL(err, -EINVAL, "%s takes a number from 1 to %u, got %s", option, most, word);
    *ret_value = (uint32_t)value;
    return 0;
}

static int take_speed(const char *word, double *ret_speed, struct rml_err *err)
{
    *ret_speed = 0;
    if (strcmp(word, "max") == 0)
        return 0;
    char *end;
    double speed = strtod(word, &end);
    if (end == word || *end != '\0' || !isfinite(speed) || speed <= 0)
        return RML_FAIL(err, -EINVAL, "--speed takes max or a number such as 1 or 2.5, got %s",
                        word);
    *ret_speed = speed;
    return 0;
}

static int take_numbers(struct rml_replay_options *options, const struct rml_replay_words *words,
                        struct rml_err *err)
{
    options->batch = STANDARD_BATCH;
    int rc = 0;
    if (words->workers_count > 0)
        rc = take_number("--workers", words->workers, RML_WORKERS_MAX, &options->plan.workers, err);
    if (rc == 0 && words->batch_count > 0)
        rc = take_number("--batch", words->batch, RML_REPLAY_BATCH_MAX, &options->batch, err);
    if (rc == 0 && words->speed_count > 0)
        rc = take_speed(words->speed, &options->speed, err);
    return rc;
}

static int take_outputs(struct rml_replay_options *options, const struct rml_replay_words *words,
                        enum rml_format otherwise, struct rml_err *err)
{
    bool rfc3339 = words->times_count > 0 && strcmp(words->times, "rfc3339") == 0;
    if (words->times_count > 0 && !rfc3339 && strcmp(words->times, "ns") != 0)
        return RML_FAIL(err, -EINVAL, "--times takes ns or rfc3339, got %s", words->times);
    options->plan.sinks = options->sinks;
    options->plan.sink_count = 0;
    int rc = 0;
    for (uint32_t i = 0; i < words->output_count && rc == 0; i++)
        rc = take_output(options, words->outputs[i], otherwise, rfc3339, err);
    if (words->output_count == 0)
        rc = standard_output(options, otherwise, rfc3339, err);
    return rc;
}

/* The lanes of a replay wait for room and are never idle: both depend on the machine's pace, and the
 * answer must not. */
static void take_plan(struct rml_replay_options *options, const struct rml_plan *plan)
{
    options->plan = *plan;
    memcpy(options->sources, plan->sources, plan->source_count * sizeof *plan->sources);
    for (uint32_t i = 0; i < plan->source_count; i++) {
        options->sources[i].idle_after_ns = 0;
        options->sources[i].on_full = RML_ON_FULL_BLOCK;
    }
    options->plan.sources = options->sources;
}

int rml_replay_options_make(const struct rml_plan *plan, const struct rml_replay_words *words,
                            struct rml_replay_options *options, struct rml_err *err)
{
    memset(options, 0, sizeof *options);
    take_plan(options, plan);
    enum rml_format otherwise = RML_FORMAT_JSONL;
    if (words->format_count > 0)
        otherwise = rml_format_find(words->format);
    if (otherwise == RML_FORMAT_UNKNOWN)
        return RML_FAIL(err, -EINVAL, "--format takes csv or jsonl, got %s", words->format);
    int rc = take_inputs(options, words, otherwise, err);
    if (rc == 0)
        rc = take_pairs(options, words, err);
    if (rc == 0)
        rc = take_outputs(options, words, otherwise, err);
    if (rc == 0)
        rc = take_numbers(options, words, err);
    if (rc < 0)
        rml_replay_options_fini(options);
    return rc;
}

void rml_replay_options_fini(struct rml_replay_options *options)
{
    free(options->text);
    options->text = NULL;
}
