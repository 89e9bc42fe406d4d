#include "tools/input_jsonl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "runtime/base/err.h"
#include "tools/lines.h"
#include "tools/row.h"

struct rml_input_jsonl {
    yajl_handle parser;  // NULL after a malformed line: yajl does not go on from there
    struct rml_row *row;
    uint32_t depth;  // of objects and lists around what is being read
    uint32_t field;  // of the member being read, or RML_FIELD_ABSENT
    uint32_t guess;  // the field that the next member may be
    bool complete;   // the line's object has been closed
};

/* A value of the line: of a member that is wanted, of one that is not, or where no value may be. */
static int on_value(struct rml_input_jsonl *jsonl, const char *text, size_t length)
{
    struct rml_row *row = jsonl->row;
    if (jsonl->depth == 0)
        rml_row_complain(row, "not an object: each line is one {\"field\": value, ...}");
    else if (jsonl->depth == 1 && jsonl->field != RML_FIELD_ABSENT && text == NULL)
        rml_row_complain(row, "%s: null, and fields of events have values",
                         row->names[jsonl->field]);
    else if (jsonl->depth == 1 && jsonl->field != RML_FIELD_ABSENT)
        rml_row_put(row, jsonl->field, text, length);
    return row->err.code == 0;
}

static int on_null(void *context)
{
    return on_value(context, NULL, 0);
}

static int on_bool(void *context, int value)
{
    return value ? on_value(context, "true", 4) : on_value(context, "false", 5);
}

static int on_number(void *context, const char *text, size_t length)
{
    return on_value(context, text, length);
}

static int on_string(void *context, const unsigned char *text, size_t length)
{
    return on_value(context, (const char *)text, length);
}

static int on_key(void *context, const unsigned char *text, size_t length)
{
    struct rml_input_jsonl *jsonl = context;
    if (jsonl->depth == 1) {
        jsonl->field = rml_row_find(jsonl->row, (const char *)text, length, jsonl->guess);
        jsonl->guess = jsonl->field == RML_FIELD_ABSENT ? jsonl->guess : jsonl->field + 1;
    }
    return 1;
}

static int on_open(struct rml_input_jsonl *jsonl, bool is_object)
{
    if (jsonl->depth == 0 && jsonl->complete)
        rml_row_complain(jsonl->row, "a second value on the line");
    else if (jsonl->depth == 0 && !is_object)
        return on_value(jsonl, NULL, 0);
    else if (jsonl->depth == 1 && jsonl->field != RML_FIELD_ABSENT)
        rml_row_complain(jsonl->row, "%s: a list or an object, and a field holds one value",
                         jsonl->row->names[jsonl->field]);
    jsonl->depth++;
    return jsonl->row->err.code == 0;
}

static int on_object_open(void *context)
{
    return on_open(context, true);
}

static int on_list_open(void *context)
{
    return on_open(context, false);
}

static int on_close(void *context)
{
    struct rml_input_jsonl *jsonl = context;
    jsonl->complete = --jsonl->depth == 0;
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_bool,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_map_key = on_key,
    .yajl_start_map = on_object_open,
    .yajl_end_map = on_close,
    .yajl_start_array = on_list_open,
    .yajl_end_array = on_close,
};

int rml_input_jsonl_open(struct rml_input_jsonl **ret_jsonl, struct rml_row *row,
                         struct rml_err *err)
{
    struct rml_input_jsonl *jsonl = calloc(1, sizeof *jsonl);
    if (jsonl == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to read JSON");
    jsonl->row = row;
    *ret_jsonl = jsonl;
    return 0;
}

static void forget_parser(struct rml_input_jsonl *jsonl)
{
    if (jsonl->parser != NULL)
        yajl_free(jsonl->parser);
    jsonl->parser = NULL;
}

void rml_input_jsonl_close(struct rml_input_jsonl *jsonl)
{
    if (jsonl == NULL)
        return;
    forget_parser(jsonl);
    free(jsonl);
}

/* Turn yajl's complaint, which ends in a line's end, into ours. */
static void complain_as_yajl(struct rml_input_jsonl *jsonl)
{
    unsigned char *said = yajl_get_error(jsonl->parser, 0, NULL, 0);
    size_t length = strcspn((const char *)said, "\n");
    rml_row_complain(jsonl->row, "no JSON: %.*s", (int)length, (const char *)said);
    yajl_free_error(jsonl->parser, said);
}

int rml_input_jsonl_line(struct rml_input_jsonl *jsonl, const struct rml_line *line)
{
    if (rml_line_is_blank(line))
        return 0;
    struct rml_row *row = jsonl->row;
    if (jsonl->parser == NULL) {
        jsonl->parser = yajl_alloc(&callbacks, NULL, jsonl);
        if (jsonl->parser == NULL) {
            rml_row_complain(row, "no memory to read the line");
            return -EBADMSG;
        }
        yajl_config(jsonl->parser, yajl_allow_multiple_values, 1);
    }
    jsonl->depth = 0;
    jsonl->field = RML_FIELD_ABSENT;
    jsonl->guess = 0;
    jsonl->complete = false;
    if (line->cut)
        rml_row_complain(row, "longer than %u bytes", RML_LINE_MAX);
    else if (yajl_parse(jsonl->parser, (const unsigned char *)line->text, line->length + 1)
             == yajl_status_error)
        complain_as_yajl(jsonl);
    else if (!jsonl->complete)
        rml_row_complain(row, "the line ends inside the object");
    if (row->err.code != 0) {
        forget_parser(jsonl);
        return -EBADMSG;
    }
    return rml_row_end(row);
}
