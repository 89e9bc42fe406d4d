/*
 * input - a file of events, CSV or JSONL, becomes records of a schema.
 *
 * CSV has a header line of names and is read by libcsv (quotes as in RFC 4180, LF or CR LF, blank
 * lines skipped); JSONL has one object a line and is read by yajl, numbers as they are written. In
 * both, columns that the schema does not know are skipped, and a field that the file lacks is an
 * error unless the user gave a constant for it.
 */
#ifndef RML_TOOLS_INPUT_H
#define RML_TOOLS_INPUT_H

#include <stdint.h>

struct rml_err;
struct rml_input;
struct rml_schema;

enum rml_format { RML_FORMAT_UNKNOWN, RML_FORMAT_CSV, RML_FORMAT_JSONL };

/* A field and what the user says of it: the file's name for it, or the value itself. */
struct rml_input_pair {
    const char *field;
    const char *text;
};

struct rml_input_options {
    const char *path;  // "-": standard input
    enum rml_format format;
    const struct rml_schema *schema;
    const struct rml_input_pair *maps;  // field is called `text` in the file
    uint32_t map_count;
    const struct rml_input_pair *sets;  // field is always `text`
    uint32_t set_count;
};

/* The format of that name ("csv", "jsonl"), or RML_FORMAT_UNKNOWN; likewise by the ending of a path. */
enum rml_format rml_format_find(const char *name);
enum rml_format rml_format_of_path(const char *path);

/*
 * Open the file; of CSV, the header is read. What `options` points at must outlive the input; maps and
 * sets of fields that the schema lacks are passed over (one command may feed several schemas). 0, or a
 * negative errno and a sentence: no such file, no column for a field, a constant that is no value.
 */
int rml_input_open(struct rml_input **ret_input, const struct rml_input_options *options,
                   struct rml_err *err);
void rml_input_close(struct rml_input *input);

/*
 * Read the next record into `record` (schema->record_bytes). 1 when there is one; 0 at the end;
 * -EBADMSG when a line is malformed, with "FILE:LINE: what is wrong": call again for the next one;
 * another negative errno when reading fails.
 */
int rml_input_next(struct rml_input *input, void *record, struct rml_err *err);

/* Bytes read so far, and of the file; the latter 0 where it cannot be known. */
uint64_t rml_input_bytes(const struct rml_input *input);
uint64_t rml_input_size(const struct rml_input *input);

#endif
