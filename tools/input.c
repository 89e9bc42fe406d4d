#include "tools/input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/check.h"
#include "runtime/record/text.h"
#include "tools/input_csv.h"
#include "tools/input_jsonl.h"
#include "tools/lines.h"
#include "tools/row.h"

struct rml_input {
    const char *name;  // of the file, for messages
    struct rml_lines *lines;
    struct rml_input_csv *csv;      // one of the two
    struct rml_input_jsonl *jsonl;  // is there
    struct rml_row row;
    _Alignas(8) unsigned char blank[RML_RECORD_MAX];
    _Alignas(8) unsigned char record[RML_RECORD_MAX];
};

enum rml_format rml_format_find(const char *name)
{
    if (strcasecmp(name, "csv") == 0)
        return RML_FORMAT_CSV;
    if (strcasecmp(name, "jsonl") == 0)
        return RML_FORMAT_JSONL;
    return RML_FORMAT_UNKNOWN;
}

enum rml_format rml_format_of_path(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (dot == NULL)
        return RML_FORMAT_UNKNOWN;
    if (strcasecmp(dot, ".ndjson") == 0 || strcasecmp(dot, ".json") == 0)
        return RML_FORMAT_JSONL;
    return rml_format_find(dot + 1);
}

static int take_sets(struct rml_input *input, const struct rml_input_options *options,
                     struct rml_err *err)
{
    struct rml_row *row = &input->row;
    for (uint32_t i = 0; i < options->set_count; i++) {
        const struct rml_input_pair *set = &options->sets[i];
        uint32_t field = rml_schema_find(row->schema, set->field, strlen(set->field));
        if (field == RML_FIELD_ABSENT)
            continue;
        row->constant |= UINT64_C(1) << field;
        int rc = rml_text_field_parse(&row->schema->fields[field], set->text, strlen(set->text),
                                      row->blank, err);
        if (rc < 0)
            return RML_WRAP(err, rc, "--set %s", set->field);
    }
    return 0;
}

static void take_maps(struct rml_input *input, const struct rml_input_options *options)
{
    struct rml_row *row = &input->row;
    for (uint32_t i = 0; i < row->schema->field_count; i++)
        row->names[i] = row->schema->fields[i].name;
    for (uint32_t i = 0; i < options->map_count; i++) {
        const struct rml_input_pair *map = &options->maps[i];
        uint32_t field = rml_schema_find(row->schema, map->field, strlen(map->field));
        if (field != RML_FIELD_ABSENT)
            row->names[field] = map->text;
    }
}

static int read_header(struct rml_input *input, struct rml_err *err)
{
    rml_row_begin(&input->row, input->record);
    for (;;) {
        struct rml_line line;
        int rc = rml_lines_next(input->lines, &line, err);
        if (rc < 0)
            return rc;
        if (rc == 0)
            return RML_FAIL(err, -EBADMSG, "%s: no header line with the names of the columns",
                            input->name);
        rc = rml_input_csv_header(input->csv, &line, err);
        if (rc < 0)
            return RML_WRAP(err, rc, "%s:%llu", input->name, (unsigned long long)line.number);
        if (rc > 0)
            return 0;
    }
}

int rml_input_open(struct rml_input **ret_input, const struct rml_input_options *options,
                   struct rml_err *err)
{
    RML_CHECK(options->format != RML_FORMAT_UNKNOWN);
    RML_CHECK(!options->schema->has_nulls);
    struct rml_input *input = calloc(1, sizeof *input);
    if (input == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to read %s", options->path);
    input->name = strcmp(options->path, "-") == 0 ? "standard input" : options->path;
    input->row.schema = options->schema;
    input->row.blank = input->blank;
    take_maps(input, options);
    int rc = take_sets(input, options, err);
    if (rc < 0)
        goto fail;
    rc = rml_lines_open(&input->lines, options->path, err);
    if (rc < 0)
        goto fail;
    if (options->format == RML_FORMAT_CSV) {
        rc = rml_input_csv_open(&input->csv, &input->row, err);
        if (rc == 0)
            rc = read_header(input, err);
    } else {
        rc = rml_input_jsonl_open(&input->jsonl, &input->row, err);
    }
    if (rc < 0)
        goto fail;
    *ret_input = input;
    return 0;

fail:
    rml_input_close(input);
    return rc;
}

void rml_input_close(struct rml_input *input)
{
    if (input == NULL)
        return;
    rml_input_csv_close(input->csv);
    rml_input_jsonl_close(input->jsonl);
    rml_lines_close(input->lines);
    free(input);
}

static int malformed(const struct rml_input *input, uint64_t number, const char *what,
                     struct rml_err *err)
{
    return RML_FAIL(err, -EBADMSG, "%s:%llu: %s", input->name, (unsigned long long)number, what);
}

static int next_csv(struct rml_input *input, void *record, struct rml_err *err)
{
    rml_row_begin(&input->row, record);
    for (;;) {
        struct rml_line line;
        int rc = rml_lines_next(input->lines, &line, err);
        if (rc < 0)
            return rc;
        uint64_t since = rml_input_csv_open_since(input->csv);
        if (rc == 0 && since == 0)
            return 0;
        if (rc == 0) {
            rml_input_csv_forget(input->csv);
            return malformed(input, since, "a quote is opened here and never closed", err);
        }
        rc = rml_input_csv_line(input->csv, &line);
        if (rc < 0)
            return malformed(input, since != 0 ? since : line.number, input->row.err.text, err);
        if (rc > 0)
            return 1;
    }
}

static int next_jsonl(struct rml_input *input, void *record, struct rml_err *err)
{
    rml_row_begin(&input->row, record);
    for (;;) {
        struct rml_line line;
        int rc = rml_lines_next(input->lines, &line, err);
        if (rc <= 0)
            return rc;
        rc = rml_input_jsonl_line(input->jsonl, &line);
        if (rc < 0)
            return malformed(input, line.number, input->row.err.text, err);
        if (rc > 0)
            return 1;
    }
}

int rml_input_next(struct rml_input *input, void *record, struct rml_err *err)
{
    return input->csv != NULL ? next_csv(input, record, err) : next_jsonl(input, record, err);
}

uint64_t rml_input_bytes(const struct rml_input *input)
{
    return rml_lines_bytes(input->lines);
}

uint64_t rml_input_size(const struct rml_input *input)
{
    return rml_lines_size(input->lines);
}
