/*
 * Any bytes as a file of events. Each record that is read is well-formed text again, the numbers of
 * lines never go back, every malformed line has a sentence with its number, and the end comes.
 *
 * The first byte chooses CSV or JSONL, the rest is the file.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/record/text.h"
#include "tools/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_schema(struct rml_schema *schema)
{
    rml_schema_init(schema, "event", false);
    int rc = rml_schema_add(schema, "ts", RML_TIME, false, NULL);
    rc |= rml_schema_add(schema, "model", RML_STR8, false, NULL);
    rc |= rml_schema_add(schema, "x", RML_F64, false, NULL);
    rc |= rml_schema_add(schema, "n", RML_U8, false, NULL);
    rc |= rml_schema_seal(schema, NULL);
    RML_CHECK(rc == 0);
}

static void check_record(const struct rml_schema *schema, const void *record)
{
    static const struct rml_text_options plain = {0};
    unsigned char *again = calloc(1, schema->record_bytes);
    RML_CHECK(again != NULL);
    for (uint32_t i = 0; i < schema->field_count; i++) {
        char text[RML_TEXT_FIELD_MAX];
        const struct rml_field *field = &schema->fields[i];
        uint32_t length = rml_text_field_csv(field, record, &plain, text);
        if (rml_type_info[field->type].kind != RML_KIND_STR)
            RML_CHECK(rml_text_field_parse(field, text, length, again, NULL) == 0);
    }
    free(again);
}

static void read_all(struct rml_input *input, const struct rml_schema *schema, const char *path)
{
    unsigned char *record =
        malloc(schema->record_bytes);  // of exactly this size, for the sanitizer
    RML_CHECK(record != NULL);
    unsigned long long line = 0;
    for (;;) {
        struct rml_err err = {0};
        int rc = rml_input_next(input, record, &err);
        if (rc == 0)
            break;
        if (rc == 1) {
            check_record(schema, record);
            continue;
        }
        RML_CHECK(rc == -EBADMSG);
        size_t length = strlen(path);
        RML_CHECK(strncmp(err.text, path, length) == 0 && err.text[length] == ':');
        unsigned long long number = strtoull(err.text + length + 1, NULL, 10);
        RML_CHECK(number > line);
        line = number;
    }
    free(record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    int fd = memfd_create("events", MFD_CLOEXEC);
    RML_CHECK(fd >= 0);
    RML_CHECK(write(fd, data + 1, size - 1) == (ssize_t)(size - 1));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);

    struct rml_schema schema;
    make_schema(&schema);
    const struct rml_input_pair constant = {"n", "7"};
    const struct rml_input_options options = {
        .path = path,
        .format = (data[0] & 1) != 0 ? RML_FORMAT_CSV : RML_FORMAT_JSONL,
        .schema = &schema,
        .sets = &constant,
        .set_count = 1,
    };
    struct rml_input *input;
    struct rml_err err = {0};
    if (rml_input_open(&input, &options, &err) == 0) {
        read_all(input, &schema, path);
        rml_input_close(input);
    } else {
        RML_CHECK(err.text[0] != '\0');
    }
    close(fd);
    return 0;
}
