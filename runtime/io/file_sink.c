#include "runtime/io/file_sink.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/io/gather.h"
#include "runtime/io/text_file.h"
#include "runtime/record/text.h"

#define PREFIX_BYTES    80   // of {"stage":"<a name>.late",
#define FROM_NAME_BYTES 56   // <a name>.late
#define TRY_AGAIN_MS    100  // after a write that failed

struct rml_file_sink {
    const struct rml_writer_options *options;
    struct rml_file_wait *wait;
    uint32_t index;  // in the plan
    const struct rml_plan_sink *plan;
    struct rml_sink_counts *counts;
    uint32_t from_count;
    const struct rml_schema *schemas[RML_STAGES_MAX];
    char (*prefixes)[PREFIX_BYTES];  // by from; NULL: one stage alone, rows need no name
    uint32_t row_bytes_max;
    struct rml_gather *gather;
    struct rml_text_file file;
    bool complained;
    uint64_t lost;  // rows
    // Where there are marks.
    uint64_t *next;          // number of the next row, by from and partition
    bool *held;              // whole steps wait for the round's end, likewise
    struct sink_note *note;  // as of the last round
    uint32_t note_bytes;
};

/* As it is kept; behind it the names of what the rows are from. */
struct sink_note {
    uint64_t file_bytes, rows, lost;
    uint64_t froms, partitions;
    uint64_t path;     // hash of it
    uint64_t columns;  // hash of them, where a header names them
    uint64_t next[];   // by from and partition
};

bool rml_file_wait_is_hurried(const struct rml_file_wait *wait)
{
    // relaxed: nothing else is read by it
    return atomic_load_explicit(&wait->hurried, memory_order_relaxed);
}

static void name_output(const struct rml_plan *plan, struct rml_plan_output from, char *prefix)
{
    snprintf(prefix, PREFIX_BYTES, "{\"stage\":\"%s%s\",", plan->stages[from.stage].name,
             from.late ? ".late" : "");
}

static int whole_path(const struct rml_file_sink *sink, char *path, size_t bytes)
{
    const char *folder = sink->options->folder;
    const char *name = sink->plan->path;
    bool is_whole = folder == NULL || name[0] == '/' || strcmp(name, "-") == 0;
    int used =
        is_whole ? snprintf(path, bytes, "%s", name) : snprintf(path, bytes, "%s/%s", folder, name);
    return used < 0 || (size_t)used >= bytes ? -ENAMETOOLONG : 0;
}

static struct sink_note *new_note(struct rml_file_sink *sink)
{
    uint32_t partitions = sink->options->plan->partitions;
    uint32_t bytes = sink->from_count * partitions * (uint32_t)sizeof(uint64_t);
    sink->note_bytes = (uint32_t)sizeof *sink->note + bytes + sink->from_count * FROM_NAME_BYTES;
    sink->next = calloc(1, bytes + sizeof *sink->next);
    sink->held = calloc((size_t)sink->from_count * partitions + 1, sizeof *sink->held);
    sink->note = calloc(1, sink->note_bytes);
    return sink->next != NULL && sink->held != NULL ? sink->note : NULL;
}

uint64_t rml_file_sink_note_rows(struct rml_writer_note note)
{
    struct sink_note head = {0};
    if (note.data != NULL && note.bytes >= sizeof head)
        memcpy(&head, note.data, sizeof head);
    return head.rows;
}

static char *note_name(struct sink_note *note, uint64_t from)
{
    return (char *)(note->next + note->froms * note->partitions) + from * FROM_NAME_BYTES;
}

// What will be true of any note of this sink.
static void fill_note(struct rml_file_sink *sink)
{
    struct sink_note *note = sink->note;
    note->froms = sink->from_count;
    note->partitions = sink->options->plan->partitions;
    note->path = rml_key_hash_bytes(sink->plan->path, (uint32_t)strlen(sink->plan->path));
    note->columns = sink->plan->kind == RML_SINK_CSV ? sink->schemas[0]->hash : 0;
    for (uint32_t i = 0; i < sink->from_count; i++) {
        struct rml_plan_output from = sink->plan->from[i];
        snprintf(note_name(note, i), FROM_NAME_BYTES, "%s%s",
                 sink->options->plan->stages[from.stage].name, from.late ? ".late" : "");
    }
}

// Whatever the order in which they stand now: of each stage the rows that were written.
static void take_next(struct rml_file_sink *sink, struct sink_note *given)
{
    uint32_t partitions = sink->options->plan->partitions;
    for (uint32_t i = 0; i < sink->from_count; i++) {
        for (uint64_t j = 0; j < given->froms; j++) {
            if (strncmp(note_name(sink->note, i), note_name(given, j), FROM_NAME_BYTES) == 0)
                memcpy(sink->next + i * partitions, given->next + j * partitions,
                       partitions * sizeof sink->next[0]);
        }
    }
}

/*
 * Go on from a note, if there is one of such a sink. 1: with the file too, whose counts become what they
 * were; 0: it is another; or -EINVAL.
 */
static int take_note(struct rml_file_sink *sink, const char *path, struct rml_err *err)
{
    const struct rml_writer_note kept = sink->options->notes[sink->index];
    _Atomic uint64_t *counts = sink->counts->value;
    struct sink_note head = {0}, *given;
    fill_note(sink);
    // an engine that died before there was a note has counted what is written again
    rml_count_set(&counts[RML_SINK_bytes], 0);
    rml_count_set(&counts[RML_SINK_rows], 0);
    rml_count_set(&counts[RML_SINK_lost], 0);
    if (kept.data != NULL && kept.bytes >= sizeof head)
        memcpy(&head, kept.data, sizeof head);
    if (head.froms == 0 || head.froms > RML_OUTPUTS_MAX
        || head.partitions != sink->options->plan->partitions
        || kept.bytes
               != sizeof head + head.froms * (head.partitions * sizeof head.rows + FROM_NAME_BYTES))
        return 0;
    given = malloc(kept.bytes);
    if (given == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    memcpy(given, kept.data, kept.bytes);
    take_next(sink, given);
    free(given);
    if (head.path != sink->note->path)
        return 0;
    if (head.columns != sink->note->columns && head.file_bytes > 0)
        return RML_FAIL(err, -EINVAL,
                        "%.200s has rows with other columns than the sink writes now: give the "
                        "sink another path",
                        path);
    rml_count_set(&counts[RML_SINK_bytes], head.file_bytes);
    rml_count_set(&counts[RML_SINK_rows], head.rows);
    rml_count_set(&counts[RML_SINK_lost], head.lost);
    return 1;
}

// An empty or cut pipeline file is a pipeline that nobody starts again.
static int leave_pipeline_file(const struct rml_file_sink *sink, const char *path,
                               struct rml_err *err)
{
    const char *pipeline_path = sink->options->plan->path;
    struct stat rows, pipeline;
    if (stat(path, &rows) < 0 || pipeline_path == NULL || stat(pipeline_path, &pipeline) < 0
        || rows.st_dev != pipeline.st_dev || rows.st_ino != pipeline.st_ino)
        return 0;
    return RML_FAIL(err, -EINVAL, "%.300s is the pipeline file: choose another path", path);
}

static void say(const struct rml_file_sink *sink, const char *what, const char *then)
{
    char sentence[600];
    snprintf(sentence, sizeof sentence, "sink %s: %.300s: %s; %s", sink->plan->name,
             sink->plan->path != NULL ? sink->plan->path : "", what, then);
    if (sink->options->complain != NULL)
        sink->options->complain(sink->options->complain_context, sentence);
}

// What was in there is no loss of ours, and does not come again.
static void say_missing(const struct rml_file_sink *sink)
{
    char what[160];
    snprintf(what, sizeof what,
             "somebody cut it or took it away: the last %" PRIu64 " of its %" PRIu64
             " bytes are missing",
             sink->file.missing, sink->file.bytes + sink->file.missing);
    if (sink->file.missing > 0)
        say(sink, what, "new rows come behind what is there");
}

static int open_file(struct rml_file_sink *sink, struct rml_err *err)
{
    char path[4096];
    int rc = whole_path(sink, path, sizeof path);
    if (rc < 0)
        return RML_FAIL(err, rc, "the path is too long");
    rc = leave_pipeline_file(sink, path, err);
    if (rc < 0)
        return rc;
    int again = sink->options->notes != NULL ? take_note(sink, path, err) : sink->options->again;
    if (again < 0)
        return again;
    uint64_t bytes = rml_count_read(&sink->counts->value[RML_SINK_bytes]);
    if (again)
        rc = rml_text_file_resume(&sink->file, path, sink->row_bytes_max, bytes, err);
    else
        rc = rml_text_file_open(&sink->file, path, sink->row_bytes_max, err);
    if (rc == 0)
        say_missing(sink);
    if (rc < 0 || sink->plan->kind != RML_SINK_CSV || sink->file.bytes > 0)
        return rc;
    char *text = rml_text_file_room(&sink->file, sink->row_bytes_max);
    rml_text_file_commit(&sink->file,
                         rml_text_header_csv(sink->schemas[0], text, sink->row_bytes_max), 0);
    return 0;
}

static int set_up(struct rml_file_sink *sink, struct rml_err *err)
{
    const struct rml_plan *plan = sink->options->plan;
    if (sink->from_count > 1 && sink->plan->kind == RML_SINK_JSONL) {
        sink->prefixes = calloc(sink->from_count, sizeof *sink->prefixes);
        if (sink->prefixes == NULL)
            return RML_FAIL(err, -ENOMEM, "no memory");
    }
    struct rml_gather_from froms[RML_STAGES_MAX];
    for (uint32_t i = 0; i < sink->from_count; i++) {
        struct rml_plan_output from = sink->plan->from[i];
        const struct rml_plan_stage *stage = &plan->stages[from.stage];
        sink->schemas[i] = from.late ? &plan->sources[stage->source].schema : &stage->output;
        if (sink->prefixes != NULL)
            name_output(plan, from, sink->prefixes[i]);
        uint32_t bytes = rml_text_row_bytes_max(sink->schemas[i]) + PREFIX_BYTES;
        sink->row_bytes_max = bytes > sink->row_bytes_max ? bytes : sink->row_bytes_max;
        froms[i] = (struct rml_gather_from){
            .schema = sink->schemas[i],
            .key_count = stage->key_count,
            .is_window = stage->kind == RML_STAGE_WINDOW && !from.late,
        };
    }
    if (sink->options->notes != NULL && new_note(sink) == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    int rc = rml_gather_open(&sink->gather, froms, sink->from_count, plan->partitions, err);
    if (rc < 0 || sink->options->row != NULL)
        return rc;
    return open_file(sink, err);
}

int rml_file_sink_open(struct rml_file_sink **ret_sink, const struct rml_writer_options *options,
                       struct rml_file_wait *wait, uint32_t index, struct rml_err *err)
{
    struct rml_file_sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    sink->options = options;
    sink->wait = wait;
    sink->index = index;
    sink->plan = &options->plan->sinks[index];
    sink->from_count = sink->plan->from_count;
    sink->counts = &options->counts[index];
    sink->file = RML_TEXT_FILE_CLOSED;
    int rc = set_up(sink, err);
    if (rc < 0) {
        rml_file_sink_close(sink);
        return rc;
    }
    *ret_sink = sink;
    return 0;
}

void rml_file_sink_close(struct rml_file_sink *sink)
{
    if (sink == NULL)
        return;
    rml_text_file_close(&sink->file);
    rml_gather_close(sink->gather);
    free(sink->prefixes);
    free(sink->next);
    free(sink->held);
    free(sink->note);
    free(sink);
}

struct putting {
    struct rml_file_sink *sink;
    uint64_t least;  // rows of lower numbers are in the file already
    uint64_t next;   // behind the greatest number that was put
};

static void complain(struct rml_file_sink *sink, const char *what)
{
    if (!sink->complained)
        say(sink, what, "rows are lost from here on");
    sink->complained = true;
}

static void lose(struct rml_file_sink *sink, uint64_t rows)
{
    sink->lost += rows;
    rml_count(&sink->counts->value[RML_SINK_lost], rows);
}

// Until the rows in the buffer are in the file, or nobody waits any more.
static void try_until_written(struct rml_file_sink *sink)
{
    struct rml_file_wait *wait = sink->wait;
    int rc = rml_text_file_try(&sink->file);
    if (rc == 0)
        return;
    say(sink, strerrordesc_np(-rc), "results wait until it can be written again");
    // relaxed: nothing else is told by it
    atomic_store_explicit(&wait->stuck, true, memory_order_relaxed);
    while (rc < 0 && !rml_file_wait_is_hurried(wait)) {
        rml_bell_expect(&wait->bell);
        if (rml_file_wait_is_hurried(wait))
            rml_bell_awake(&wait->bell);
        else
            rml_bell_wait(&wait->bell, TRY_AGAIN_MS);
        rml_count(&sink->counts->value[RML_SINK_retries], 1);
        rc = rml_text_file_try(&sink->file);
    }
    // relaxed: likewise
    atomic_store_explicit(&wait->stuck, false, memory_order_relaxed);
    if (rc == 0)
        say(sink, "it can be written again", "results go on");
}

static void flush(struct rml_file_sink *sink)
{
    if (sink->file.fd < 0)
        return;
    uint32_t held = sink->file.rows_held;
    if (sink->note != NULL && sink->file.is_regular && sink->file.error == 0)
        try_until_written(sink);
    uint32_t lost = rml_text_file_flush(&sink->file);
    // in this order: another writer goes on behind these bytes if we die now
    rml_count_set(&sink->counts->value[RML_SINK_bytes], sink->file.bytes);
    rml_count(&sink->counts->value[RML_SINK_rows], held - lost);
    if (lost > 0)
        lose(sink, lost);
    if (sink->file.error != 0)
        complain(sink, strerrordesc_np(-sink->file.error));
}

static uint32_t print_row(const struct rml_file_sink *sink, uint32_t from, const void *record,
                          char *text)
{
    const struct rml_text_options options = {.rfc3339 = sink->plan->rfc3339};
    const struct rml_schema *schema = sink->schemas[from];
    uint32_t room = sink->row_bytes_max - PREFIX_BYTES;
    if (sink->plan->kind == RML_SINK_CSV)
        return rml_text_row_csv(schema, record, &options, text, room);
    if (sink->prefixes == NULL)
        return rml_text_row_json(schema, record, &options, text, room);
    // The prefix takes the place of the row's opening brace.
    uint32_t prefix = (uint32_t)strlen(sink->prefixes[from]);
    uint32_t length = rml_text_row_json(schema, record, &options, text + prefix - 1, room);
    memcpy(text, sink->prefixes[from], prefix);
    return prefix - 1 + length;
}

static void put_row(void *context, uint32_t from, const struct rml_result_row *row)
{
    struct putting *putting = context;
    struct rml_file_sink *sink = putting->sink;
    if (row->seq < putting->least)
        return;  // made again
    putting->next = row->seq >= putting->next ? row->seq + 1 : putting->next;
    if (sink->options->row != NULL) {
        sink->options->row(sink->options->row_context, sink->index, from, row);
        rml_count(&sink->counts->value[RML_SINK_rows], 1);
        return;
    }
    if (sink->file.room - sink->file.used < sink->row_bytes_max)
        flush(sink);
    if (sink->file.error != 0) {
        lose(sink, 1);
        return;
    }
    char *text = rml_text_file_room(&sink->file, sink->row_bytes_max);
    rml_text_file_commit(&sink->file, print_row(sink, from, row->record, text), 1);
}

static void put_steps(struct rml_file_sink *sink, uint32_t from, uint32_t partition)
{
    uint64_t *next =
        sink->next != NULL ? &sink->next[from * sink->options->plan->partitions + partition] : NULL;
    struct putting putting = {.sink = sink};
    putting.least = putting.next = next != NULL ? *next : 0;
    rml_gather_put_one(sink->gather, from, partition, put_row, &putting);
    if (next != NULL)
        *next = putting.next;
}

/*
 * Rows that a partition makes behind its mark wait until all have given theirs: the length of the file that
 * is noted then is right for every partition. Whoever goes on from the note may have lost the records
 * that such rows are of.
 */
void rml_file_sink_add(struct rml_file_sink *sink, uint32_t from, struct rml_result_block *block,
                       bool is_behind_mark)
{
    if (rml_gather_add(sink->gather, from, block) < 0) {
        lose(sink, block->rows);
        complain(sink, "no memory to order rows in");
    }
    if (sink->options->merge)
        return;
    if (is_behind_mark && sink->held != NULL)
        sink->held[from * sink->options->plan->partitions + block->partition] = block->step_end;
    else if (block->step_end)
        put_steps(sink, from, block->partition);
}

void rml_file_sink_put_held(struct rml_file_sink *sink)
{
    uint32_t partitions = sink->options->plan->partitions;
    for (uint32_t i = 0; sink->held != NULL && i < sink->from_count * partitions; i++) {
        if (!sink->held[i])
            continue;
        sink->held[i] = false;
        put_steps(sink, i / partitions, i % partitions);
    }
}

void rml_file_sink_put_before(struct rml_file_sink *sink, int64_t before)
{
    struct putting putting = {.sink = sink};
    rml_gather_put_before(sink->gather, before, put_row, &putting);
}

void rml_file_sink_flush(struct rml_file_sink *sink)
{
    if (sink->file.used > 0)
        flush(sink);
}

// After a flush that failed the next one succeeds, though what the first should have written is not there.
static void sync_file(struct rml_file_sink *sink)
{
    rml_text_file_sync(&sink->file);
    if (sink->file.error == 0 || sink->options->unsure == NULL)
        return;
    char sentence[600];
    snprintf(sentence, sizeof sentence, "sink %s: %.300s: flushing it failed: %s", sink->plan->name,
             sink->plan->path, strerrordesc_np(-sink->file.error));
    sink->options->unsure(sink->options->unsure_context, sentence);
}

void rml_file_sink_mark(struct rml_file_sink *sink, struct rml_err *round)
{
    if (sink->note == NULL)
        return;
    flush(sink);
    if (sink->file.error == 0)
        sync_file(sink);
    if (sink->file.error != 0 && sink->file.is_regular)
        rml_err_set(round, sink->file.error, "sink %s: %.300s lacks rows: %s", sink->plan->name,
                    sink->plan->path, strerrordesc_np(-sink->file.error));
    struct sink_note *note = sink->note;
    note->file_bytes = sink->file.bytes;
    note->rows = rml_count_read(&sink->counts->value[RML_SINK_rows]);
    note->lost = rml_count_read(&sink->counts->value[RML_SINK_lost]);
    memcpy(note->next, sink->next, note->froms * note->partitions * sizeof note->next[0]);
}

struct rml_writer_note rml_file_sink_note(const struct rml_file_sink *sink)
{
    return (struct rml_writer_note){sink->note, sink->note_bytes};
}

uint64_t rml_file_sink_lost(const struct rml_file_sink *sink)
{
    return sink->lost;
}
