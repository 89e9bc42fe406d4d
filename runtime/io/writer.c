#include "runtime/io/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/io/gather.h"
#include "runtime/io/pile.h"
#include "runtime/io/text_file.h"
#include "runtime/record/text.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"
#include "runtime/time/time.h"

#define PREFIX_BYTES 80   // of {"stage":"<a name>.late",
#define TRY_AGAIN_MS 100  // after a write that failed
#define WATCH_MS     50   // between two looks of who waits for that, where somebody watches

/* One file, or one sink whose rows go to the row function. */
struct target {
    uint32_t sink;
    const struct rml_plan_sink *plan;
    uint32_t from_count;
    uint32_t outputs[RML_STAGES_MAX];
    const struct rml_schema *schemas[RML_STAGES_MAX];
    char (*prefixes)[PREFIX_BYTES];  // by from; NULL: one stage alone, rows need no name
    uint32_t row_bytes_max;
    uint64_t sources;  // bits: where its rows come from
    struct rml_gather *gather;
    struct rml_text_file file;
    bool complained;
    // Where there are marks.
    uint64_t *next;            // number of the next row, by from and partition
    bool *held;                // whole steps wait for the round's end, likewise
    struct target_note *note;  // as of the last round
    uint32_t note_bytes;
};

#define FROM_NAME_BYTES 56  // <a name>.late

/* As it is kept; behind it the names of what the rows are from. */
struct target_note {
    uint64_t file_bytes, rows, lost;
    uint64_t froms, partitions;
    uint64_t path;     // hash of it
    uint64_t columns;  // hash of them, where a header names them
    uint64_t next[];   // by from and partition
};

/* Between one worker and the writer. */
struct channel {
    struct rml_queue given, returned;
    struct rml_bell bell;  // the worker sleeps on it
    struct rml_result_block *blocks;
    struct rml_result_block *unused;  // the worker's list
};

struct rml_writer {
    struct rml_writer_options options;
    uint32_t output_count;
    struct rml_output outputs[RML_OUTPUTS_MAX];
    bool wanted[RML_OUTPUTS_MAX];
    bool tabled[RML_OUTPUTS_MAX];  // its rows go into the pile
    struct rml_pile pile;
    uint32_t target_count;
    struct target targets[RML_SINKS_MAX];
    int64_t *progress;  // [source][partition]
    int64_t least[RML_SOURCES_MAX];
    struct channel *channels;
    struct rml_bell bell;  // the writer's own
    uint32_t marks_left;   // of the present round
    bool marked[RML_PARTITIONS_MAX];
    struct rml_err round;  // of the last round: code 0, or what it lacks
    _Atomic uint64_t rounds;
    _Atomic bool finishing, hurried;
    _Atomic bool stuck;                // a file cannot be written, and is tried again
    bool (*is_enough)(void *context);  // for who waits meanwhile; NULL: nobody watches
    void *watch_context;
    bool started;
    pthread_t thread;
    uint64_t lost;
};

static uint32_t output_index(const struct rml_writer *w, struct rml_plan_output from)
{
    for (uint32_t i = 0; i < w->output_count; i++) {
        if (w->outputs[i].stage == from.stage && w->outputs[i].late == from.late)
            return i;
    }
    RML_UNREACHABLE("what a sink takes from is an output");
}

static void name_output(const struct rml_plan *plan, struct rml_plan_output from, char *prefix)
{
    snprintf(prefix, PREFIX_BYTES, "{\"stage\":\"%s%s\",", plan->stages[from.stage].name,
             from.late ? ".late" : "");
}

static int target_path(const struct rml_writer *w, const struct target *target, char *path,
                       size_t bytes)
{
    const char *folder = w->options.folder;
    const char *name = target->plan->path;
    bool is_whole = folder == NULL || name[0] == '/' || strcmp(name, "-") == 0;
    int used =
        is_whole ? snprintf(path, bytes, "%s", name) : snprintf(path, bytes, "%s/%s", folder, name);
    return used < 0 || (size_t)used >= bytes ? -ENAMETOOLONG : 0;
}

static struct target_note *new_note(const struct rml_writer *w, struct target *target)
{
    uint32_t partitions = w->options.plan->partitions;
    uint32_t bytes = target->from_count * partitions * (uint32_t)sizeof(uint64_t);
    target->note_bytes =
        (uint32_t)sizeof *target->note + bytes + target->from_count * FROM_NAME_BYTES;
    target->next = calloc(1, bytes + sizeof *target->next);
    target->held = calloc((size_t)target->from_count * partitions + 1, sizeof *target->held);
    target->note = calloc(1, target->note_bytes);
    return target->next != NULL && target->held != NULL ? target->note : NULL;
}

uint64_t rml_writer_note_rows(struct rml_writer_note note)
{
    struct target_note head = {0};
    if (note.data != NULL && note.bytes >= sizeof head)
        memcpy(&head, note.data, sizeof head);
    return head.rows;
}

static char *note_name(struct target_note *note, uint64_t from)
{
    return (char *)(note->next + note->froms * note->partitions) + from * FROM_NAME_BYTES;
}

// What will be true of any note of this target.
static void fill_note(const struct rml_writer *w, struct target *target)
{
    struct target_note *note = target->note;
    note->froms = target->from_count;
    note->partitions = w->options.plan->partitions;
    note->path = rml_key_hash_bytes(target->plan->path, (uint32_t)strlen(target->plan->path));
    note->columns = target->plan->kind == RML_SINK_CSV ? target->schemas[0]->hash : 0;
    for (uint32_t i = 0; i < target->from_count; i++) {
        struct rml_plan_output from = target->plan->from[i];
        snprintf(note_name(note, i), FROM_NAME_BYTES, "%s%s",
                 w->options.plan->stages[from.stage].name, from.late ? ".late" : "");
    }
}

// Whatever the order in which they stand now: of each stage the rows that were written.
static void take_next(const struct rml_writer *w, struct target *target, struct target_note *given)
{
    uint32_t partitions = w->options.plan->partitions;
    for (uint32_t i = 0; i < target->from_count; i++) {
        for (uint64_t j = 0; j < given->froms; j++) {
            if (strncmp(note_name(target->note, i), note_name(given, j), FROM_NAME_BYTES) == 0)
                memcpy(target->next + i * partitions, given->next + j * partitions,
                       partitions * sizeof target->next[0]);
        }
    }
}

/*
 * Go on from a note, if there is one of such a sink. 1: with the file too, whose counts become what they
 * were; 0: it is another; or -EINVAL.
 */
static int take_note(struct rml_writer *w, struct target *target, const char *path,
                     struct rml_err *err)
{
    const struct rml_writer_note kept = w->options.notes[target->sink];
    _Atomic uint64_t *counts = w->options.counts[target->sink].value;
    struct target_note head = {0}, *given;
    fill_note(w, target);
    // an engine that died before there was a note has counted what is written again
    rml_count_set(&counts[RML_SINK_bytes], 0);
    rml_count_set(&counts[RML_SINK_rows], 0);
    rml_count_set(&counts[RML_SINK_lost], 0);
    if (kept.data != NULL && kept.bytes >= sizeof head)
        memcpy(&head, kept.data, sizeof head);
    if (head.froms == 0 || head.froms > RML_OUTPUTS_MAX
        || head.partitions != w->options.plan->partitions
        || kept.bytes
               != sizeof head + head.froms * (head.partitions * sizeof head.rows + FROM_NAME_BYTES))
        return 0;
    given = malloc(kept.bytes);
    if (given == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    memcpy(given, kept.data, kept.bytes);
    take_next(w, target, given);
    free(given);
    if (head.path != target->note->path)
        return 0;
    if (head.columns != target->note->columns && head.file_bytes > 0)
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
static int leave_pipeline_file(const struct rml_writer *w, const char *path, struct rml_err *err)
{
    struct stat sink, pipeline;
    if (stat(path, &sink) < 0 || w->options.plan->path == NULL
        || stat(w->options.plan->path, &pipeline) < 0 || sink.st_dev != pipeline.st_dev
        || sink.st_ino != pipeline.st_ino)
        return 0;
    return RML_FAIL(err, -EINVAL, "%.300s is the pipeline file: choose another path", path);
}

static void say(const struct rml_writer *w, const struct target *target, const char *what,
                const char *then)
{
    char sentence[600];
    snprintf(sentence, sizeof sentence, "sink %s: %.300s: %s; %s", target->plan->name,
             target->plan->path != NULL ? target->plan->path : "", what, then);
    if (w->options.complain != NULL)
        w->options.complain(w->options.complain_context, sentence);
}

// What was in there is no loss of ours, and does not come again.
static void say_missing(const struct rml_writer *w, const struct target *target)
{
    char what[160];
    snprintf(what, sizeof what,
             "somebody cut it or took it away: the last %" PRIu64 " of its %" PRIu64
             " bytes are missing",
             target->file.missing, target->file.bytes + target->file.missing);
    if (target->file.missing > 0)
        say(w, target, what, "new rows come behind what is there");
}

static int target_open_file(struct rml_writer *w, struct target *target, struct rml_err *err)
{
    char path[4096];
    int rc = target_path(w, target, path, sizeof path);
    if (rc < 0)
        return RML_FAIL(err, rc, "the path is too long");
    rc = leave_pipeline_file(w, path, err);
    if (rc < 0)
        return rc;
    int again = w->options.notes != NULL ? take_note(w, target, path, err) : w->options.again;
    if (again < 0)
        return again;
    uint64_t bytes = rml_count_read(&w->options.counts[target->sink].value[RML_SINK_bytes]);
    if (again)
        rc = rml_text_file_resume(&target->file, path, target->row_bytes_max, bytes, err);
    else
        rc = rml_text_file_open(&target->file, path, target->row_bytes_max, err);
    if (rc == 0)
        say_missing(w, target);
    if (rc < 0 || target->plan->kind != RML_SINK_CSV || target->file.bytes > 0)
        return rc;
    char *text = rml_text_file_room(&target->file, target->row_bytes_max);
    rml_text_file_commit(&target->file,
                         rml_text_header_csv(target->schemas[0], text, target->row_bytes_max), 0);
    return 0;
}

static int target_open(struct rml_writer *w, struct target *target, uint32_t sink,
                       struct rml_err *err)
{
    const struct rml_plan *plan = w->options.plan;
    target->sink = sink;
    target->plan = &plan->sinks[sink];
    target->from_count = target->plan->from_count;
    if (target->from_count > 1 && target->plan->kind == RML_SINK_JSONL) {
        target->prefixes = calloc(target->from_count, sizeof *target->prefixes);
        if (target->prefixes == NULL)
            return RML_FAIL(err, -ENOMEM, "no memory");
    }
    struct rml_gather_from froms[RML_STAGES_MAX];
    for (uint32_t i = 0; i < target->from_count; i++) {
        struct rml_plan_output from = target->plan->from[i];
        const struct rml_plan_stage *stage = &plan->stages[from.stage];
        target->outputs[i] = output_index(w, from);
        target->schemas[i] = from.late ? &plan->sources[stage->source].schema : &stage->output;
        target->sources |= UINT64_C(1) << stage->source;
        w->wanted[target->outputs[i]] = true;
        if (target->prefixes != NULL)
            name_output(plan, from, target->prefixes[i]);
        uint32_t bytes = rml_text_row_bytes_max(target->schemas[i]) + PREFIX_BYTES;
        target->row_bytes_max = bytes > target->row_bytes_max ? bytes : target->row_bytes_max;
        froms[i] = (struct rml_gather_from){
            .schema = target->schemas[i],
            .key_count = stage->key_count,
            .is_window = stage->kind == RML_STAGE_WINDOW && !from.late,
        };
    }
    if (w->options.notes != NULL && new_note(w, target) == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    int rc = rml_gather_open(&target->gather, froms, target->from_count, plan->partitions, err);
    if (rc < 0 || w->options.row != NULL)
        return rc;
    return target_open_file(w, target, err);
}

// Where there are no checkpoints nobody would take rows out of the pile.
static void table_open(struct rml_writer *w, const struct rml_plan_sink *sink)
{
    for (uint32_t i = 0; i < sink->from_count && w->options.notes != NULL; i++) {
        uint32_t output = output_index(w, sink->from[i]);
        w->tabled[output] = w->wanted[output] = true;
    }
}

static int channel_open(struct channel *channel, uint32_t blocks, struct rml_err *err)
{
    channel->bell = RML_BELL_CLOSED;
    uint32_t cells = 2;
    while (cells < blocks)
        cells *= 2;
    int rc = rml_queue_open(&channel->given, sizeof(void *), cells, err);
    if (rc == 0)
        rc = rml_queue_open(&channel->returned, sizeof(void *), cells, err);
    if (rc == 0)
        rc = rml_bell_open(&channel->bell, err);
    if (rc < 0)
        return rc;
    size_t bytes = (size_t)blocks * sizeof *channel->blocks;
    channel->blocks = aligned_alloc(_Alignof(struct rml_result_block), bytes);
    if (channel->blocks == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for %u blocks of results", blocks);
    memset(channel->blocks, 0, bytes);  // touched now, so that no worker waits for pages later
    for (uint32_t i = 0; i < blocks; i++) {
        channel->blocks[i].next = channel->unused;
        channel->unused = &channel->blocks[i];
    }
    return 0;
}

static void channel_close(struct channel *channel)
{
    rml_queue_close(&channel->given);
    rml_queue_close(&channel->returned);
    rml_bell_close(&channel->bell);
    free(channel->blocks);
}

static int writer_set_up(struct rml_writer *w, struct rml_err *err)
{
    const struct rml_plan *plan = w->options.plan;
    w->output_count = rml_outputs_list(plan, w->outputs);
    size_t channel_bytes = w->options.workers * sizeof *w->channels;
    w->channels = aligned_alloc(_Alignof(struct channel), channel_bytes);
    if (w->channels == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for the writer of results");
    memset(w->channels, 0, channel_bytes);
    for (uint32_t i = 0; i < w->options.workers; i++)
        w->channels[i].bell = RML_BELL_CLOSED;
    w->progress = calloc((size_t)plan->source_count * plan->partitions, sizeof *w->progress);
    if (w->progress == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for the writer of results");
    for (size_t i = 0; i < (size_t)plan->source_count * plan->partitions; i++)
        w->progress[i] = RML_TIME_NONE;
    for (uint32_t s = 0; s < plan->source_count; s++)
        w->least[s] = RML_TIME_NONE;
    int rc = rml_bell_open(&w->bell, err);
    for (uint32_t i = 0; i < w->options.workers && rc == 0; i++)
        rc = channel_open(&w->channels[i], w->options.blocks, err);
    for (uint32_t s = 0; s < plan->sink_count && rc == 0; s++) {
        if (plan->sinks[s].kind == RML_SINK_TABLE)
            table_open(w, &plan->sinks[s]);
        if (plan->sinks[s].kind == RML_SINK_RING || plan->sinks[s].kind == RML_SINK_TABLE)
            continue;
        struct target *target = &w->targets[w->target_count++];
        target->file = RML_TEXT_FILE_CLOSED;
        rc = target_open(w, target, s, err);
        if (rc < 0)
            rc = RML_WRAP(err, rc, "sink %s", plan->sinks[s].name);
    }
    return rc;
}

int rml_writer_open(struct rml_writer **ret_writer, const struct rml_writer_options *options,
                    struct rml_err *err)
{
    struct rml_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for the writer of results");
    w->options = *options;
    w->marks_left = options->plan->partitions;
    w->bell = RML_BELL_CLOSED;
    int rc = writer_set_up(w, err);
    if (rc < 0) {
        rml_writer_close(w);
        return rc;
    }
    *ret_writer = w;
    return 0;
}

bool rml_writer_wants(const struct rml_writer *w, uint32_t output)
{
    return output < w->output_count && w->wanted[output];
}

struct rml_result_block *rml_writer_take(struct rml_writer *w, uint32_t worker)
{
    struct channel *channel = &w->channels[worker];
    struct rml_result_block *block = channel->unused;
    if (block != NULL) {
        channel->unused = block->next;
        return block;
    }
    return rml_queue_take(&channel->returned, &block) ? block : NULL;
}

static bool is_hurried(const struct rml_writer *w)
{
    // relaxed: nothing else is read by it
    return atomic_load_explicit(&w->hurried, memory_order_relaxed);
}

static bool is_watched_and_stuck(const struct rml_writer *w)
{
    // relaxed: likewise
    bool is_stuck = atomic_load_explicit(&w->stuck, memory_order_relaxed);
    return is_stuck && w->is_enough != NULL && !is_hurried(w);
}

void rml_writer_wait(struct rml_writer *w, uint32_t worker)
{
    struct channel *channel = &w->channels[worker];
    struct rml_result_block *block;
    rml_bell_expect(&channel->bell);
    if (rml_queue_take(&channel->returned, &block)) {
        rml_bell_awake(&channel->bell);
        rml_writer_put_back(w, worker, block);
        return;
    }
    if (is_watched_and_stuck(w) && w->is_enough(w->watch_context))
        rml_writer_hurry(w);
    rml_bell_wait(&channel->bell, w->is_enough != NULL ? WATCH_MS : -1);
}

void rml_writer_give(struct rml_writer *w, uint32_t worker, struct rml_result_block *block)
{
    RML_CHECK(rml_queue_give(&w->channels[worker].given, &block));  // holds all that there are
    rml_bell_ring(&w->bell);
}

void rml_writer_mark(struct rml_writer *w, uint32_t worker, uint32_t partition)
{
    struct rml_result_block *block;
    while ((block = rml_writer_take(w, worker)) == NULL)
        rml_writer_wait(w, worker);
    block->partition = partition;
    block->output = RML_OUTPUTS_MAX;
    block->rows = 0;
    block->progress = RML_TIME_NONE;
    block->is_mark = true;
    rml_writer_give(w, worker, block);
}

uint64_t rml_writer_rounds(const struct rml_writer *w)
{
    // acquire: writer.notes
    return atomic_load_explicit(&w->rounds, memory_order_acquire);
}

int rml_writer_round(const struct rml_writer *w, struct rml_err *err)
{
    if (w->round.code < 0)
        *err = w->round;
    return w->round.code;
}

struct rml_writer_note rml_writer_note(const struct rml_writer *w, uint32_t sink)
{
    for (uint32_t t = 0; t < w->target_count; t++) {
        if (w->targets[t].sink == sink)
            return (struct rml_writer_note){w->targets[t].note, w->targets[t].note_bytes};
    }
    return (struct rml_writer_note){0};
}

struct rml_pile *rml_writer_pile(struct rml_writer *w)
{
    return &w->pile;
}

bool rml_writer_is_full(const struct rml_writer *w)
{
    return rml_pile_bytes(&w->pile) > RML_PILE_BYTES;
}

void rml_writer_put_back(struct rml_writer *w, uint32_t worker, struct rml_result_block *block)
{
    block->next = w->channels[worker].unused;
    w->channels[worker].unused = block;
}

/* ---- from here on: the writer's thread ---- */

struct putting {
    struct rml_writer *writer;
    struct target *target;
    uint64_t least;  // rows of lower numbers are in the file already
    uint64_t next;   // behind the greatest number that was put
};

static void complain(struct rml_writer *w, struct target *target, const char *what)
{
    if (!target->complained)
        say(w, target, what, "rows are lost from here on");
    target->complained = true;
}

static void lose(struct rml_writer *w, struct target *target, uint64_t rows)
{
    w->lost += rows;
    rml_count(&w->options.counts[target->sink].value[RML_SINK_lost], rows);
}

// Until the rows in the buffer are in the file, or nobody waits any more.
static void try_until_written(struct rml_writer *w, struct target *target)
{
    _Atomic uint64_t *retries = &w->options.counts[target->sink].value[RML_SINK_retries];
    int rc = rml_text_file_try(&target->file);
    if (rc == 0)
        return;
    say(w, target, strerrordesc_np(-rc), "results wait until it can be written again");
    // relaxed: nothing else is told by it
    atomic_store_explicit(&w->stuck, true, memory_order_relaxed);
    while (rc < 0 && !is_hurried(w)) {
        rml_bell_expect(&w->bell);
        if (is_hurried(w))
            rml_bell_awake(&w->bell);
        else
            rml_bell_wait(&w->bell, TRY_AGAIN_MS);
        rml_count(retries, 1);
        rc = rml_text_file_try(&target->file);
    }
    // relaxed: likewise
    atomic_store_explicit(&w->stuck, false, memory_order_relaxed);
    if (rc == 0)
        say(w, target, "it can be written again", "results go on");
}

static void flush(struct rml_writer *w, struct target *target)
{
    if (target->file.fd < 0)
        return;
    struct rml_sink_counts *counts = &w->options.counts[target->sink];
    uint32_t held = target->file.rows_held;
    if (target->note != NULL && target->file.is_regular && target->file.error == 0)
        try_until_written(w, target);
    uint32_t lost = rml_text_file_flush(&target->file);
    // in this order: another writer goes on behind these bytes if we die now
    rml_count_set(&counts->value[RML_SINK_bytes], target->file.bytes);
    rml_count(&counts->value[RML_SINK_rows], held - lost);
    if (lost > 0)
        lose(w, target, lost);
    if (target->file.error != 0)
        complain(w, target, strerrordesc_np(-target->file.error));
}

static uint32_t print_row(const struct target *target, uint32_t from, const void *record,
                          char *text)
{
    const struct rml_text_options options = {.rfc3339 = target->plan->rfc3339};
    const struct rml_schema *schema = target->schemas[from];
    uint32_t room = target->row_bytes_max - PREFIX_BYTES;
    if (target->plan->kind == RML_SINK_CSV)
        return rml_text_row_csv(schema, record, &options, text, room);
    if (target->prefixes == NULL)
        return rml_text_row_json(schema, record, &options, text, room);
    // The prefix takes the place of the row's opening brace.
    uint32_t prefix = (uint32_t)strlen(target->prefixes[from]);
    uint32_t length = rml_text_row_json(schema, record, &options, text + prefix - 1, room);
    memcpy(text, target->prefixes[from], prefix);
    return prefix - 1 + length;
}

static void put_row(void *context, uint32_t from, const struct rml_result_row *row)
{
    struct putting *putting = context;
    struct rml_writer *w = putting->writer;
    struct target *target = putting->target;
    if (row->seq < putting->least)
        return;  // made again
    putting->next = row->seq >= putting->next ? row->seq + 1 : putting->next;
    if (w->options.row != NULL) {
        w->options.row(w->options.row_context, target->sink, from, row);
        rml_count(&w->options.counts[target->sink].value[RML_SINK_rows], 1);
        return;
    }
    if (target->file.room - target->file.used < target->row_bytes_max)
        flush(w, target);
    if (target->file.error != 0) {
        lose(w, target, 1);
        return;
    }
    char *text = rml_text_file_room(&target->file, target->row_bytes_max);
    rml_text_file_commit(&target->file, print_row(target, from, row->record, text), 1);
}

static void put_steps(struct rml_writer *w, struct target *target, uint32_t from,
                      uint32_t partition)
{
    uint64_t *next =
        target->next != NULL ? &target->next[from * w->options.plan->partitions + partition] : NULL;
    struct putting putting = {.writer = w, .target = target};
    putting.least = putting.next = next != NULL ? *next : 0;
    rml_gather_put_one(target->gather, from, partition, put_row, &putting);
    if (next != NULL)
        *next = putting.next;
}

/*
 * Rows that a partition makes behind its mark wait until all have given theirs: the length of the file that
 * is noted then is right for every partition. Whoever goes on from the note may have lost the records
 * that such rows are of.
 */
static void gather_block(struct rml_writer *w, struct target *target, uint32_t from,
                         struct rml_result_block *block)
{
    if (rml_gather_add(target->gather, from, block) < 0) {
        lose(w, target, block->rows);
        complain(w, target, "no memory to order rows in");
    }
    if (w->options.merge)
        return;
    if (w->marked[block->partition] && target->held != NULL)
        target->held[from * w->options.plan->partitions + block->partition] = block->step_end;
    else if (block->step_end)
        put_steps(w, target, from, block->partition);
}

static void put_held(struct rml_writer *w)
{
    uint32_t partitions = w->options.plan->partitions;
    for (uint32_t t = 0; t < w->target_count; t++) {
        struct target *target = &w->targets[t];
        for (uint32_t i = 0; target->held != NULL && i < target->from_count * partitions; i++) {
            if (!target->held[i])
                continue;
            target->held[i] = false;
            put_steps(w, target, i / partitions, i % partitions);
        }
    }
}

static void put_merged(struct rml_writer *w, uint64_t sources)
{
    for (uint32_t t = 0; t < w->target_count; t++) {
        struct target *target = &w->targets[t];
        if ((target->sources & sources) == 0)
            continue;
        int64_t before = RML_TIME_END;
        for (uint32_t s = 0; s < w->options.plan->source_count; s++) {
            if ((target->sources >> s & 1) != 0 && w->least[s] < before)
                before = w->least[s];
        }
        struct putting putting = {.writer = w, .target = target};
        rml_gather_put_before(target->gather, before, put_row, &putting);
    }
}

static void note_progress(struct rml_writer *w, const struct rml_result_block *block)
{
    uint32_t partitions = w->options.plan->partitions;
    int64_t *progress = &w->progress[(size_t)block->source * partitions];
    if (block->progress <= progress[block->partition])
        return;
    bool was_least = progress[block->partition] == w->least[block->source];
    progress[block->partition] = block->progress;
    if (!was_least)
        return;
    int64_t least = progress[0];
    for (uint32_t p = 1; p < partitions; p++)
        least = progress[p] < least ? progress[p] : least;
    if (least <= w->least[block->source])
        return;
    w->least[block->source] = least;
    put_merged(w, UINT64_C(1) << block->source);
}

// After a flush that failed the next one succeeds, though what the first should have written is not there.
static void sync_file(struct rml_writer *w, struct target *target)
{
    rml_text_file_sync(&target->file);
    if (target->file.error == 0 || w->options.unsure == NULL)
        return;
    char sentence[600];
    snprintf(sentence, sizeof sentence, "sink %s: %.300s: flushing it failed: %s",
             target->plan->name, target->plan->path, strerrordesc_np(-target->file.error));
    w->options.unsure(w->options.unsure_context, sentence);
}

// All of the moment's rows are on their way to the file: have them arrive, and note it.
static void note_target(struct rml_writer *w, struct target *target)
{
    const _Atomic uint64_t *counts = w->options.counts[target->sink].value;
    if (target->note == NULL)
        return;
    flush(w, target);
    if (target->file.error == 0)
        sync_file(w, target);
    if (target->file.error != 0 && target->file.is_regular)
        rml_err_set(&w->round, target->file.error, "sink %s: %.300s lacks rows: %s",
                    target->plan->name, target->plan->path, strerrordesc_np(-target->file.error));
    struct target_note *note = target->note;
    note->file_bytes = target->file.bytes;
    note->rows = rml_count_read(&counts[RML_SINK_rows]);
    note->lost = rml_count_read(&counts[RML_SINK_lost]);
    memcpy(note->next, target->next, note->froms * note->partitions * sizeof note->next[0]);
}

static void take_mark(struct rml_writer *w, uint32_t partition)
{
    w->marked[partition] = true;
    if (--w->marks_left > 0)
        return;
    w->marks_left = w->options.plan->partitions;
    w->round = (struct rml_err){0};
    for (uint32_t t = 0; t < w->target_count; t++)
        note_target(w, &w->targets[t]);
    rml_pile_turn(&w->pile);
    memset(w->marked, 0, sizeof w->marked);
    put_held(w);
    // relaxed: this thread is the only writer
    uint64_t rounds = atomic_load_explicit(&w->rounds, memory_order_relaxed);
    // release: writer.notes
    atomic_store_explicit(&w->rounds, rounds + 1, memory_order_release);
    rml_bell_ring(w->options.marked);
}

static void pile_up(struct rml_writer *w, struct rml_result_block *block)
{
    bool was_low = rml_pile_bytes(&w->pile) <= RML_PILE_BYTES / 2;
    rml_pile_add(&w->pile, block, w->marked[block->partition]);
    if (was_low && rml_pile_bytes(&w->pile) > RML_PILE_BYTES / 2)
        rml_bell_ring(w->options.marked);
}

static void handle_block(struct rml_writer *w, struct rml_result_block *block)
{
    if (block->is_mark) {
        take_mark(w, block->partition);
        return;
    }
    if (block->rows > 0 && w->tabled[block->output])
        pile_up(w, block);
    for (uint32_t t = 0; t < w->target_count && block->rows > 0; t++) {
        struct target *target = &w->targets[t];
        for (uint32_t f = 0; f < target->from_count; f++) {
            if (target->outputs[f] == block->output)
                gather_block(w, target, f, block);
        }
    }
    if (w->options.merge && block->progress != RML_TIME_NONE)
        note_progress(w, block);
}

static bool drain_channels(struct rml_writer *w)
{
    bool any = false;
    for (uint32_t i = 0; i < w->options.workers; i++) {
        struct channel *channel = &w->channels[i];
        struct rml_result_block *block;
        while (rml_queue_take(&channel->given, &block)) {
            any = true;
            handle_block(w, block);
            RML_CHECK(rml_queue_give(&channel->returned, &block));
            rml_bell_ring(&channel->bell);
        }
    }
    return any;
}

static void flush_all(struct rml_writer *w)
{
    for (uint32_t t = 0; t < w->target_count; t++) {
        if (w->targets[t].file.used > 0)
            flush(w, &w->targets[t]);
    }
}

static void put_the_rest(struct rml_writer *w)
{
    put_held(w);
    for (uint32_t s = 0; s < w->options.plan->source_count; s++)
        w->least[s] = RML_TIME_END;
    put_merged(w, UINT64_MAX);
    flush_all(w);
}

static void *writer_main(void *context)
{
    struct rml_writer *w = context;
    for (;;) {
        // acquire: writer.finish
        bool finishing = atomic_load_explicit(&w->finishing, memory_order_acquire);
        if (drain_channels(w))
            continue;
        if (finishing)
            break;
        flush_all(w);
        rml_bell_expect(&w->bell);
        // acquire: writer.finish
        if (drain_channels(w) || atomic_load_explicit(&w->finishing, memory_order_acquire))
            rml_bell_awake(&w->bell);
        else
            rml_bell_wait(&w->bell, -1);
    }
    put_the_rest(w);
    return NULL;
}

int rml_writer_start(struct rml_writer *w, struct rml_err *err)
{
    // Signals are for the control thread, and a file too large or a closed pipe is an errno to us.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, writer_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return RML_FAIL(err, -rc, "starting the writer of results: %s", strerrordesc_np(rc));
    pthread_setname_np(w->thread, "rml-writer");
    w->started = true;
    return 0;
}

void rml_writer_watch(struct rml_writer *w, bool (*is_enough)(void *context), void *context)
{
    w->is_enough = is_enough;
    w->watch_context = context;
}

void rml_writer_hurry(struct rml_writer *w)
{
    // relaxed: nothing else is told by it
    atomic_store_explicit(&w->hurried, true, memory_order_relaxed);
    rml_bell_ring(&w->bell);
}

uint64_t rml_writer_finish(struct rml_writer *w)
{
    if (w->started) {
        // release: writer.finish
        atomic_store_explicit(&w->finishing, true, memory_order_release);
        rml_bell_ring(&w->bell);
        pthread_join(w->thread, NULL);
        w->started = false;
    }
    return w->lost;
}

void rml_writer_close(struct rml_writer *w)
{
    if (w == NULL)
        return;
    rml_writer_finish(w);
    for (uint32_t t = 0; t < w->target_count; t++) {
        rml_text_file_close(&w->targets[t].file);
        rml_gather_close(w->targets[t].gather);
        free(w->targets[t].prefixes);
        free(w->targets[t].next);
        free(w->targets[t].held);
        free(w->targets[t].note);
    }
    for (uint32_t i = 0; w->channels != NULL && i < w->options.workers; i++)
        channel_close(&w->channels[i]);
    rml_pile_fini(&w->pile);
    rml_bell_close(&w->bell);
    free(w->channels);
    free(w->progress);
    free(w);
}
