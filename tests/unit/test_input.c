#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/record/schema.h"
#include "tests/support/test.h"
#include "tools/input.h"
#include "tools/lines.h"

struct event {
    int64_t ts;
    char model[16];
    float latency_ms;
    uint32_t tokens;
};

static struct rml_schema schema;

static int make_schema(void **state)
{
    (void)state;
    rml_schema_init(&schema, "event", false);
    rml_schema_add(&schema, "ts", RML_TIME, false, NULL);
    rml_schema_add(&schema, "model", RML_STR16, false, NULL);
    rml_schema_add(&schema, "latency_ms", RML_F32, false, NULL);
    rml_schema_add(&schema, "tokens", RML_U32, false, NULL);
    int rc = rml_schema_seal(&schema, NULL);
    return rc == 0 && schema.record_bytes == sizeof(struct event) ? 0 : -1;
}

/* A file of `length` bytes, open as `in`; it is gone when the test ends. */
struct given {
    char path[64];
    struct rml_input *in;
    struct rml_err err;
};

static int give_bytes(struct given *given, enum rml_format format, const char *text, size_t length,
                      const struct rml_input_options *more)
{
    *given = (struct given){.path = "/tmp/ringmill-input-XXXXXX"};
    int fd = mkstemp(given->path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, length), (ssize_t)length);
    close(fd);
    struct rml_input_options options = more != NULL ? *more : (struct rml_input_options){0};
    options.path = given->path;
    options.format = format;
    options.schema = &schema;
    int rc = rml_input_open(&given->in, &options, &given->err);
    unlink(given->path);
    return rc;
}

static int give(struct given *given, enum rml_format format, const char *text)
{
    return give_bytes(given, format, text, strlen(text), NULL);
}

static void next_is(struct given *given, int64_t ts, const char *model, float latency_ms,
                    uint32_t tokens)
{
    struct event event;
    memset(&event, 0xee, sizeof event);
    int rc = rml_input_next(given->in, &event, &given->err);
    if (rc != 1)
        fail_msg("%d: %s", rc, given->err.text);
    assert_int_equal(event.ts, ts);
    assert_string_equal(event.model, model);
    assert_true(event.latency_ms == latency_ms);
    assert_int_equal(event.tokens, tokens);
}

/* The next line is malformed, and what is said of it ends so. */
static void next_is_bad(struct given *given, const char *ending)
{
    struct event event;
    assert_int_equal(rml_input_next(given->in, &event, &given->err), -EBADMSG);
    size_t length = strlen(given->err.text), want = strlen(ending);
    if (length < want || strcmp(given->err.text + length - want, ending) != 0)
        fail_msg("said: %s", given->err.text);
}

static void next_is_the_end(struct given *given)
{
    struct event event;
    assert_int_equal(rml_input_next(given->in, &event, &given->err), 0);
    rml_input_close(given->in);
}

static void columns_of_csv_stand_in_any_order_and_others_are_skipped(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(
        give(&given, RML_FORMAT_CSV, "tokens,note,model,ts,latency_ms\n7,x,a,5,1.5\n8,,b,6,2.25\n"),
        0);
    next_is(&given, 5, "a", 1.5f, 7);
    next_is(&given, 6, "b", 2.25f, 8);
    next_is_the_end(&given);
}

static void a_mark_blanks_carriage_returns_and_a_missing_last_line_end_do_not_matter(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(give(&given, RML_FORMAT_CSV,
                          "\xef\xbb\xbf\r\n ts , model,latency_ms ,tokens\r\n\r\n 5 ,a,1.5,7\r\n  "
                          "\t\r\n6,b,2.25,8"),
                     0);
    next_is(&given, 5, "a", 1.5f, 7);
    next_is(&given, 6, "b", 2.25f, 8);
    next_is_the_end(&given);
}

static void quoted_cells_hold_commas_quotes_and_line_ends(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(give(&given, RML_FORMAT_CSV,
                          "ts,model,latency_ms,tokens\n\"5\",\"a,\"\"b\"\"\",1.5,7\n"
                          "6,\"c\nd\",2.25,8\n7,bad,x,1\n"),
                     0);
    next_is(&given, 5, "a,\"b\"", 1.5f, 7);
    next_is(&given, 6, "c\nd", 2.25f, 8);
    next_is_bad(&given, ":5: latency_ms: 'x' is not a number");
    next_is_the_end(&given);
}

static void a_malformed_row_is_named_by_its_line_and_the_next_one_is_read(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(give(&given, RML_FORMAT_CSV,
                          "ts,model,latency_ms,tokens\n1,a,1\n2,a,1,2,3\n3,a\"b,1,1\n"
                          "4,\"a\"b,1,1\n5,a,1,-1\n6,a,1,\n7,a\rb,1,1\n8,ok,1,1\n"),
                     0);
    next_is_bad(&given, ":2: 3 cells where the header has 4");
    next_is_bad(&given, ":3: 5 cells where the header has 4");
    next_is_bad(&given, ":4: a quote stands in the middle of cell 2");
    next_is_bad(&given, ":5: a quote stands in the middle of cell 2");
    next_is_bad(&given, ":6: tokens: -1 does not fit u32");
    struct event event;
    assert_int_equal(rml_input_next(given.in, &event, &given.err), -EBADMSG);
    assert_non_null(strstr(given.err.text, ":7: tokens: "));
    next_is_bad(&given, ":8: a carriage return stands in the middle of the line");
    next_is(&given, 8, "ok", 1, 1);
    next_is_the_end(&given);
}

static void a_quote_that_is_never_closed_is_told_with_the_line_that_opens_it(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(
        give(&given, RML_FORMAT_CSV, "ts,model,latency_ms,tokens\n1,a,1,1\n2,\"b,1,1\n3,c,1,1\n"),
        0);
    next_is(&given, 1, "a", 1, 1);
    next_is_bad(&given, ":3: a quote is opened here and never closed");
    next_is_the_end(&given);
}

static void a_line_without_bounds_is_refused_and_passed_over(void **state)
{
    (void)state;
    static const char head[] = "ts,model,latency_ms,tokens\n1,", tail[] = ",1,1\n2,b,1,1\n";
    size_t long_bytes = 3u * RML_LINE_MAX, length = sizeof head - 1 + long_bytes + sizeof tail - 1;
    char *text = malloc(length);
    assert_non_null(text);
    memcpy(text, head, sizeof head - 1);
    memset(text + sizeof head - 1, 'x', long_bytes);
    memcpy(text + sizeof head - 1 + long_bytes, tail, sizeof tail - 1);
    struct given given;
    assert_int_equal(give_bytes(&given, RML_FORMAT_CSV, text, length, NULL), 0);
    next_is_bad(&given, ":2: longer than 1048576 bytes; is a quote not closed?");
    next_is(&given, 2, "b", 1, 1);
    next_is_the_end(&given);
    free(text);
}

static void a_header_that_lacks_a_field_says_what_would_help(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(give(&given, RML_FORMAT_CSV, "ts,Model,latency_ms,tokens\n"), -EBADMSG);
    assert_non_null(strstr(given.err.text, ":1: no column model; there is Model: give --map "
                                           "model=Model if that is it"));
    assert_int_equal(give(&given, RML_FORMAT_CSV, "ts,latency_ms,tokens\n"), -EBADMSG);
    assert_non_null(strstr(given.err.text, "no column model: name the column with --map"));
    assert_int_equal(give(&given, RML_FORMAT_CSV, "ts,ts,model,latency_ms,tokens\n"), -EBADMSG);
    assert_non_null(strstr(given.err.text, "column ts stands there twice"));
    assert_int_equal(give(&given, RML_FORMAT_CSV, "\n"), -EBADMSG);
    assert_non_null(strstr(given.err.text, "no header line"));
}

static void columns_are_renamed_and_constants_supplied(void **state)
{
    (void)state;
    const struct rml_input_pair maps[] = {{"ts", "TIMESTAMP"}, {"tokens", "ContextTokens"}};
    const struct rml_input_pair sets[] = {{"model", "gpt"}, {"latency_ms", "0.5"}, {"other", "x"}};
    const struct rml_input_options more = {
        .maps = maps, .map_count = 2, .sets = sets, .set_count = 3};
    static const char csv[] =
        "TIMESTAMP,ContextTokens,model\r\n2023-11-16 18:17:03.9799600,4808,ignored";
    struct given given;
    assert_int_equal(give_bytes(&given, RML_FORMAT_CSV, csv, sizeof csv - 1, &more), 0);
    next_is(&given, INT64_C(1700158623979960000), "gpt", 0.5f, 4808);
    next_is_the_end(&given);
    static const char jsonl[] = "{\"TIMESTAMP\":5,\"ContextTokens\":6}\n";
    assert_int_equal(give_bytes(&given, RML_FORMAT_JSONL, jsonl, sizeof jsonl - 1, &more), 0);
    next_is(&given, 5, "gpt", 0.5f, 6);
    next_is_the_end(&given);
}

static void a_constant_that_is_no_value_is_refused(void **state)
{
    (void)state;
    const struct rml_input_pair set = {"tokens", "many"};
    const struct rml_input_options more = {.sets = &set, .set_count = 1};
    struct given given;
    assert_true(give_bytes(&given, RML_FORMAT_JSONL, "", 0, &more) < 0);
    assert_string_equal(given.err.text, "--set tokens: 'many' is not a whole number");
}

static void objects_of_jsonl_give_their_members_in_any_order(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(
        give(&given, RML_FORMAT_JSONL,
             "{\"tokens\": 7, \"more\": {\"ts\": [1, {\"ts\": 2}]}, \"model\": \"\\u0061\\n\", "
             "\"latency_ms\": 15e-1, \"ts\": 9007199254740993}\r\n\n"
             "{\"ts\":\"1970-01-01T00:00:00.000000005Z\",\"model\":\"b\",\"latency_ms\":2,"
             "\"tokens\":8}"),
        0);
    next_is(&given, INT64_C(9007199254740993), "a\n", 1.5f, 7);
    next_is(&given, 5, "b", 2, 8);
    next_is_the_end(&given);
}

static void lines_that_are_no_events_are_named_and_passed_over(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(give(&given, RML_FORMAT_JSONL,
                          "[1]\n5\n{\"ts\":1\n{\"ts\":1}\n{\"ts\":1,\"ts\":2}\n{\"ts\":null}\n"
                          "{\"ts\":[1]}\n{} {}\n{\"ts\":1.5}\n"
                          "{\"ts\":1,\"model\":\"b\",\"latency_ms\":2,\"tokens\":8}\n"),
                     0);
    next_is_bad(&given, ":1: not an object: each line is one {\"field\": value, ...}");
    next_is_bad(&given, ":2: not an object: each line is one {\"field\": value, ...}");
    next_is_bad(&given, ":3: the line ends inside the object");
    next_is_bad(&given, ":4: model is missing");
    next_is_bad(&given, ":5: ts stands there twice");
    next_is_bad(&given, ":6: ts: null, and fields of events have values");
    next_is_bad(&given, ":7: ts: a list or an object, and a field holds one value");
    next_is_bad(&given, ":8: a second value on the line");
    struct event event;
    assert_int_equal(rml_input_next(given.in, &event, &given.err), -EBADMSG);
    assert_non_null(strstr(given.err.text, ":9: ts: '1.5' "));
    next_is(&given, 1, "b", 2, 8);
    next_is_the_end(&given);
}

static void bytes_that_are_no_json_are_told_from_those_that_are(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(give(&given, RML_FORMAT_JSONL, "{ts: 1}\n\xff\xfe\n"), 0);
    struct event event;
    for (int line = 1; line <= 2; line++) {
        char place[32];
        snprintf(place, sizeof place, ":%d: no JSON: ", line);
        assert_int_equal(rml_input_next(given.in, &event, &given.err), -EBADMSG);
        assert_non_null(strstr(given.err.text, place));
    }
    next_is_the_end(&given);
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    const struct rml_input_options options = {
        .path = "/nowhere/events.csv", .format = RML_FORMAT_CSV, .schema = &schema};
    struct rml_input *input;
    struct rml_err err = {0};
    assert_int_equal(rml_input_open(&input, &options, &err), -ENOENT);
    assert_string_equal(err.text, "cannot open /nowhere/events.csv: No such file or directory");
}

static void the_ending_of_a_path_tells_its_format(void **state)
{
    (void)state;
    assert_int_equal(rml_format_of_path("a.b/events.CSV"), RML_FORMAT_CSV);
    assert_int_equal(rml_format_of_path("events.jsonl"), RML_FORMAT_JSONL);
    assert_int_equal(rml_format_of_path("events.ndjson"), RML_FORMAT_JSONL);
    assert_int_equal(rml_format_of_path("-"), RML_FORMAT_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        CLAIM(columns_of_csv_stand_in_any_order_and_others_are_skipped),
        CLAIM(a_mark_blanks_carriage_returns_and_a_missing_last_line_end_do_not_matter),
        CLAIM(quoted_cells_hold_commas_quotes_and_line_ends),
        CLAIM(a_malformed_row_is_named_by_its_line_and_the_next_one_is_read),
        CLAIM(a_quote_that_is_never_closed_is_told_with_the_line_that_opens_it),
        CLAIM(a_line_without_bounds_is_refused_and_passed_over),
        CLAIM(a_header_that_lacks_a_field_says_what_would_help),
        CLAIM(columns_are_renamed_and_constants_supplied),
        CLAIM(a_constant_that_is_no_value_is_refused),
        CLAIM(objects_of_jsonl_give_their_members_in_any_order),
        CLAIM(lines_that_are_no_events_are_named_and_passed_over),
        CLAIM(bytes_that_are_no_json_are_told_from_those_that_are),
        CLAIM(a_file_that_is_not_there_is_named),
        CLAIM(the_ending_of_a_path_tells_its_format),
    };
    return cmocka_run_group_tests(claims, make_schema, NULL);
}
