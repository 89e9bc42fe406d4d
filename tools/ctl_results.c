/*
 * Result tables are read as they lie in the state folder (runtime/table/results.h), found as
 * `ringctl checkpoint` finds it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/suggest.h"
#include "runtime/checkpoint/checkpoints.h"
#include "runtime/record/text.h"
#include "runtime/table/results.h"
#include "runtime/time/time.h"
#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/guard.h"
#include "tools/json.h"
#include "tools/pipelines.h"
#include "tools/table.h"
#include "tools/usage.h"

#define TEXT_MAX   32768u  // a row of any schema fits
#define TABLES_MAX 256u    // that are named where one is looked for in vain

enum format { FORMAT_TABLE, FORMAT_CSV, FORMAT_JSONL, FORMATS };

static const char *const format_names[FORMATS] = {"table", "csv", "jsonl"};

/* What the options said; counts are 0 or 1. */
static struct {
    const char *from, *to, *last, *first, *format, *times;
    uint32_t from_count, to_count, last_count, first_count, format_count, times_count;
} words;

/* What is looked at, and how it is shown. */
struct results {
    const struct rml_ctl *ctl;
    struct rml_view view;
    struct rml_checkpoints *checkpoints;
    char path[RML_BOARD_STATE];
    const char *pipeline;  // NULL: the folder was named
    const char *stage;     // NULL: all tables
    const char *const *keys;
    uint32_t key_count;

    enum format format;
    struct rml_text_options text_options;
    struct rml_shape shape;
    struct rml_table table;
    uint32_t page;  // rows of the table that is being filled
    bool is_printed, is_damaged, has_failed;
    char text[TEXT_MAX];
};

static void say_damage(void *context, const char *sentence)
{
    struct results *r = context;
    r->is_damaged = true;
    fflush(stdout);
    fprintf(stderr, "ringctl: %s\n", sentence);
}

/* All tables */

struct listing {
    struct results *results;
    struct rml_json json;
    struct rml_table table;
    uint32_t count;
    char names[TABLES_MAX][RML_TABLE_NAME_BYTES];
};

static void json_table(struct rml_json *json, const struct rml_shape *shape,
                       const struct rml_shape_state *state)
{
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "name", shape->name);
    rml_json_unsigned(json, "rows", state->rows);
    rml_json_open(json, "key", '[');
    for (uint32_t k = 0; k < shape->key_count; k++)
        rml_json_text(json, NULL, shape->schema.fields[shape->keys[k]].name);
    rml_json_close(json, ']');
    rml_json_open(json, "columns", '[');
    for (uint32_t i = 0; i < shape->schema.field_count; i++) {
        const struct rml_field *field = &shape->schema.fields[i];
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", field->name);
        rml_json_text(json, "type", rml_type_info[field->type].name);
        rml_json_bool(json, "nullable", field->nullable);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
    rml_json_integer(json, "keep_ns", state->keep_ns);
    rml_json_unsigned(json, "max_rows", state->rows_max);
    if (state->clock == RML_TIME_NONE)
        rml_json_text(json, "time_ns", NULL);
    else
        rml_json_integer(json, "time_ns", state->clock);
    rml_json_close(json, '}');
}

static void row_table(struct rml_table *table, const struct rml_shape *shape,
                      const struct rml_shape_state *state)
{
    char key[200] = "", keep[32] = "-", time[40] = "-";
    size_t used = 0;
    for (uint32_t k = 0; k < shape->key_count && used < sizeof key; k++)
        used += (size_t)snprintf(key + used, sizeof key - used, "%s%s", k > 0 ? ", " : "",
                                 shape->schema.fields[shape->keys[k]].name);
    if (state->keep_ns > 0)
        rml_duration_print(state->keep_ns, keep);
    if (state->clock != RML_TIME_NONE)
        rml_time_print_rfc3339(state->clock, time);
    rml_table_row(table);
    rml_table_cell(table, "%s", shape->name);
    rml_table_cell(table, "%s", key[0] != '\0' ? key : "-");
    rml_table_number(table, state->rows);
    rml_table_cell(table, "%s", keep);
    if (state->rows_max > 0)
        rml_table_number(table, state->rows_max);
    else
        rml_table_cell(table, "-");
    rml_table_cell(table, "%s", time);
}

static void list_one(void *context, const struct rml_shape *shape,
                     const struct rml_shape_state *state)
{
    struct listing *listing = context;
    if (listing->count < TABLES_MAX)
        snprintf(listing->names[listing->count], RML_TABLE_NAME_BYTES, "%s", shape->name);
    listing->count++;
    if (listing->json.out != NULL)
        json_table(&listing->json, shape, state);
    else if (listing->table.table != NULL)
        row_table(&listing->table, shape, state);
}

static void list_damage(void *context, const char *sentence)
{
    const struct listing *listing = context;
    say_damage(listing->results, sentence);
}

static int list(struct results *r)
{
    static const char *const columns[] = {"TABLE", "KEY", ">ROWS", ">KEEP", ">MAX ROWS", "TIME"};
    static struct listing listing;
    struct rml_err err = {0};
    listing = (struct listing){.results = r};
    if (r->ctl->as_json) {
        listing.json.out = stdout;
        rml_json_open(&listing.json, NULL, '{');
        rml_json_text(&listing.json, "schema", "ringctl.results-tables/1");
        rml_json_text(&listing.json, "pipeline", r->pipeline);
        rml_json_text(&listing.json, "folder", r->path);
        rml_json_open(&listing.json, "tables", '[');
    } else {
        rml_table_begin(&listing.table, columns, sizeof columns / sizeof columns[0]);
    }
    int rc = rml_results_list(r->checkpoints, list_one, list_damage, &listing, &err);
    if (r->ctl->as_json) {
        rml_json_close(&listing.json, ']');
        rml_json_close(&listing.json, '}');
        printf("\n");
    } else if (rml_table_end(&listing.table, stdout) < 0 && rc == 0) {
        rc = RML_FAIL(&err, -ENOMEM, "no memory for a table");
    }
    if (rc == 0 && listing.count == 0 && !r->ctl->as_json && !r->is_damaged)
        printf("there are no tables\n");
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    return r->is_damaged ? RML_EXIT_FAILED : RML_EXIT_OK;
}

/* Rows of one */

static bool is_null(const struct rml_shape *shape, const void *record, uint32_t field)
{
    uint64_t nulls = 0;
    if (shape->schema.has_nulls)
        memcpy(&nulls, record, sizeof nulls);
    return (nulls >> field & 1) != 0;
}

static void begin_page(struct results *r)
{
    char headers[RML_FIELDS_MAX][RML_NAME_MAX + 2];
    const char *columns[RML_FIELDS_MAX];
    const struct rml_schema *schema = &r->shape.schema;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct rml_field *field = &schema->fields[i];
        snprintf(headers[i], sizeof headers[i], "%s%s", rml_type_is_number(field->type) ? ">" : "",
                 field->name);
        columns[i] = headers[i];
    }
    rml_table_begin(&r->table, columns, schema->field_count);
}

static void end_page(struct results *r)
{
    if (r->page == 0)
        return;
    r->page = 0;
    r->has_failed |= rml_table_end(&r->table, stdout) < 0;
}

static void table_row(struct results *r, const void *record)
{
    if (r->page == 0)
        begin_page(r);
    rml_table_row(&r->table);
    for (uint32_t i = 0; i < r->shape.schema.field_count; i++) {
        char text[RML_TEXT_FIELD_MAX];
        uint32_t length =
            rml_text_field_csv(&r->shape.schema.fields[i], record, &r->text_options, text);
        if (is_null(&r->shape, record, i))
            rml_table_cell(&r->table, "-");
        else
            rml_table_cell(&r->table, "%.*s", (int)length, text);
    }
    if (++r->page == RML_RESULTS_ROWS)
        end_page(r);
}

static void text_row(struct results *r, const struct rml_shape_head *head, const void *record)
{
    const struct rml_schema *schema = &r->shape.schema;
    bool as_csv = r->format == FORMAT_CSV;
    uint32_t used = as_csv ? rml_text_row_csv(schema, record, &r->text_options, r->text, TEXT_MAX)
                           : rml_text_row_json(schema, record, &r->text_options, r->text, TEXT_MAX);
    if (!r->ctl->as_json) {
        fwrite(r->text, 1, used, stdout);
        return;
    }
    printf("{\"schema\":\"ringctl.results/1\",\"table\":\"%s\",\"partition\":%" PRIu32
           ",\"seq\":%" PRIu64 ",\"fire_ns\":%" PRId64 ",\"row\":%.*s}\n",
           r->shape.name, head->partition, head->seq, head->fire, (int)(used - 1), r->text);
}

static int show_row(void *context, const struct rml_shape_head *head, const void *record)
{
    struct results *r = context;
    r->is_printed = true;
    if (r->format == FORMAT_TABLE)
        table_row(r, record);
    else
        text_row(r, head, record);
    return r->has_failed || ferror(stdout) != 0;
}

static int read_rows(struct results *r, struct rml_results_query *query)
{
    struct rml_err err = {0};
    if (r->format == FORMAT_CSV)
        fwrite(r->text, 1, rml_text_header_csv(&r->shape.schema, r->text, TEXT_MAX), stdout);
    int rc = rml_results_read(r->checkpoints, query, &err);
    end_page(r);
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    if (r->has_failed)
        return rml_ctl_fail(-EIO, "the rows could not be written");
    if (!r->is_printed && r->format == FORMAT_TABLE && !r->is_damaged)
        printf("there are no such rows\n");
    return r->is_damaged ? RML_EXIT_FAILED : RML_EXIT_OK;
}

static int fail_usage(const struct rml_err *err)
{
    return rml_ctl_fail(-EINVAL, err->text);
}

static int read_keys(const struct results *r, void *record, struct rml_err *err)
{
    const struct rml_shape *shape = &r->shape;
    if (r->key_count > shape->key_count)
        return shape->key_count == 0
                   ? RML_FAIL(err, -EINVAL, "table %s has no key", shape->name)
                   : RML_FAIL(err, -EINVAL, "the key of table %s has %u columns, not %u",
                              shape->name, shape->key_count, r->key_count);
    for (uint32_t k = 0; k < r->key_count; k++) {
        const struct rml_field *field = &shape->schema.fields[shape->keys[k]];
        int rc = rml_text_field_parse(field, r->keys[k], strlen(r->keys[k]), record, err);
        if (rc < 0)
            return RML_WRAP(err, -EINVAL, "key %s", field->name);
    }
    return 0;
}

static int read_time(const char *option, const char *text, int64_t *time, struct rml_err *err)
{
    if (text == NULL || rml_time_parse(text, strlen(text), time) == 0)
        return 0;
    return RML_FAIL(err, -EINVAL,
                    "%s: a time is wanted, such as 2026-11-21T10:00:00Z or nanoseconds since 1970, "
                    "not %s",
                    option, text);
}

static int show_rows(struct results *r)
{
    static uint64_t key[RML_RECORD_MAX / 8];
    struct rml_err err = {0};
    struct rml_results_query query = {.shape = &r->shape,
                                      .key = key,
                                      .key_count = r->key_count,
                                      .from = RML_TIME_NONE,
                                      .to = RML_TIME_END,
                                      .row = show_row,
                                      .damage = say_damage,
                                      .context = r};
    int64_t first = 0, last = 0;
    int rc = read_keys(r, key, &err);
    if (rc == 0)
        rc = read_time("--from", words.from_count > 0 ? words.from : NULL, &query.from, &err);
    if (rc == 0)
        rc = read_time("--to", words.to_count > 0 ? words.to : NULL, &query.to, &err);
    if (rc < 0)
        return fail_usage(&err);
    if (!rml_ctl_count("--limit", words.first_count > 0 ? words.first : NULL, &first)
        || !rml_ctl_count("--last", words.last_count > 0 ? words.last : NULL, &last))
        return RML_EXIT_USAGE;
    query.first = (uint64_t)first;
    query.last = (uint64_t)last;
    return read_rows(r, &query);
}

/* Which table */

static int say_missing(struct results *r)
{
    static struct listing listing;
    struct rml_err err = {0};
    const char *names[TABLES_MAX];
    listing = (struct listing){.results = r};
    int rc = rml_results_list(r->checkpoints, list_one, list_damage, &listing, &err);
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    uint32_t count = listing.count < TABLES_MAX ? listing.count : TABLES_MAX;
    for (uint32_t i = 0; i < count; i++)
        names[i] = listing.names[i];
    const char *near = rml_suggest(r->stage, strlen(r->stage), names, count);
    rml_err_set(&err, -ENOENT, "%.200s has no table %.100s", r->path, r->stage);
    size_t used = strlen(err.text);
    if (near != NULL)
        snprintf(err.text + used, sizeof err.text - used, "; did you mean %s?", near);
    else if (count == 0)
        snprintf(err.text + used, sizeof err.text - used,
                 "; there are none: a stage has one with a sink of type lmdb, from the first "
                 "checkpoint on");
    for (uint32_t i = 0; near == NULL && i < count && (used = strlen(err.text)) < 450; i++)
        snprintf(err.text + used, sizeof err.text - used, "%s%s", i == 0 ? "; there is " : ", ",
                 names[i]);
    return rml_ctl_fail(-ENOENT, err.text);
}

static int show(struct results *r)
{
    struct rml_err err = {0};
    struct rml_shape_state state;
    if (r->stage == NULL)
        return list(r);
    int rc = strlen(r->stage) < RML_TABLE_NAME_BYTES
                 ? rml_results_find(r->checkpoints, r->stage, &r->shape, &state, &err)
                 : -ENOENT;
    if (rc == -ENOENT)
        return say_missing(r);
    return rc < 0 ? rml_ctl_fail(rc, err.text) : show_rows(r);
}

/* The command */

static bool is_path(const char *word)
{
    return strchr(word, '/') != NULL || word[0] == '.';
}

// Does a pipeline of that name run here, or lie dead?
static bool is_pipeline(const char *word)
{
    struct rml_pipelines pipelines;
    bool found = false;
    if (rml_pipelines_open(&pipelines, NULL) < 0) {  // nor need others be able to list them
        enum rml_claim_state state;
        uint32_t pid;
        return rml_wire_is_name(word, RML_WIRE_NAME) && rml_claim_look(word, &state, &pid) == 0
               && state != RML_CLAIM_FREE;
    }
    for (uint32_t i = 0; i < pipelines.count; i++)
        found |= strcmp(pipelines.list[i].name, word) == 0;
    rml_pipelines_close(&pipelines);
    return found;
}

// The folder, as named, or of a pipeline that runs; what stands behind it.
static int find_folder(struct rml_ctl *ctl, struct results *r)
{
    uint32_t at = 0;
    if (ctl->word_count > 0 && is_path(ctl->words[0])) {
        snprintf(r->path, sizeof r->path, "%s", ctl->words[at++]);
    } else {
        if (ctl->word_count > 0 && is_pipeline(ctl->words[0]))
            ctl->pipeline = ctl->words[at++];
        int code = rml_ctl_open(ctl, &r->view);
        if (code == RML_EXIT_NOT_RUNNING || code == RML_EXIT_DEAD)
            fprintf(stderr, "ringctl: tables of one that does not run are found by its state "
                            "folder, with a slash: ringctl results ./state ...\n");
        if (code != RML_EXIT_OK)
            return code;
        snprintf(r->path, sizeof r->path, "%s", r->view.board.head->state_folder);
        r->pipeline = r->view.pipeline;
    }
    if (at < ctl->word_count)
        r->stage = ctl->words[at++];
    r->keys = ctl->words + at;
    r->key_count = ctl->word_count - at;
    if (r->path[0] != '\0')
        return RML_EXIT_OK;
    char sentence[RML_WIRE_NAME + 100];
    snprintf(sentence, sizeof sentence, "pipeline %s has no tables: its file has no runtime.state",
             r->pipeline);
    return rml_ctl_fail(-ENOTSUP, sentence);
}

static bool read_format(struct results *r)
{
    r->format = r->ctl->as_json ? FORMAT_JSONL : FORMAT_TABLE;
    for (uint32_t i = 0; words.format_count > 0 && i <= FORMATS; i++) {
        if (i == FORMATS || (r->ctl->as_json && i != FORMAT_JSONL)) {
            rml_usage_fail("--format: table, csv or jsonl is wanted, with --json none, not %s",
                           words.format);
            return false;
        }
        if (strcmp(words.format, format_names[i]) == 0) {
            r->format = (enum format)i;
            break;
        }
    }
    r->text_options.rfc3339 = r->format == FORMAT_TABLE;
    if (words.times_count > 0)
        r->text_options.rfc3339 = strcmp(words.times, "rfc3339") == 0;
    if (words.times_count > 0 && !r->text_options.rfc3339 && strcmp(words.times, "ns") != 0) {
        rml_usage_fail("--times: ns or rfc3339 is wanted, not %s", words.times);
        return false;
    }
    if (words.first_count > 0 && words.last_count > 0) {
        rml_usage_fail("--limit and --last: the first rows or the last ones, not both");
        return false;
    }
    return true;
}

#define OPTION(option, what, text, field)                                      \
 {                                                                             \
  .name = option, .value = what, .sentence = text, .ret_values = &words.field, \
  .ret_count = &words.field##_count, .most = 1                                 \
 }

int rml_ctl_cmd_results(int argc, char **argv)
{
    const struct rml_option options[] = {
        OPTION("--from", "TIME", "Windows that begin then or later; records of then or later.",
               from),
        OPTION("--to", "TIME", "Windows that end then or before; records of before.", to),
        OPTION("--limit", "N", "The first so many rows.", first),
        OPTION("--last", "N", "The last so many rows.", last),
        OPTION("--format", "table|csv|jsonl", "How rows are shown (table).", format),
        OPTION("--times", "ns|rfc3339",
               "Times as nanoseconds since 1970 or in words (a table: rfc3339, else ns).", times),
    };
    const struct rml_args args = {
        .usage = "ringctl results [PIPELINE|FOLDER] [STAGE [KEY]...] [--from TIME] [--to TIME] "
                 "[--limit N | --last N] [--format table|csv|jsonl] [--json]",
        .sentence =
            "Show the rows of a stage's table (STAGE.late: its late records), as of the last "
            "checkpoint; without a stage, which tables there are. KEY: values of the columns of "
            "its key, in their order; those left out at the end may have any. The first word "
            "is a FOLDER if it has a slash in it, of a pipeline that need not run, and a PIPELINE "
            "if one of that name is here. With a key rows come by key and window, without by "
            "time. A row that is damaged is named, and the exit code is 1. --json shows where "
            "each row comes from. The engine is not held up.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .words_most = RML_CTL_WORDS_MAX,
    };
    static struct results results;  // too large for a stack
    struct rml_ctl ctl = {.wants_words = true};
    int code;
    results = (struct results){.ctl = &ctl, .view = RML_VIEW_CLOSED};
    if (!rml_ctl_read(&ctl, &args, argc, argv, &code))
        return code;
    if (!read_format(&results))
        return RML_EXIT_USAGE;
    code = find_folder(&ctl, &results);
    if (code == RML_EXIT_OK) {
        struct rml_err err = {0};
        rml_guard_catalog(results.path);
        int rc = rml_checkpoints_open(&results.checkpoints, results.path, &err);
        code = rc < 0 ? rml_ctl_fail(rc, err.text) : show(&results);
        rml_checkpoints_close(results.checkpoints);
    }
    rml_view_close(&results.view);
    return code;
}
