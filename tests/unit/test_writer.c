#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/io/pile.h"
#include "runtime/io/writer.h"
#include "runtime/ring/bell.h"
#include "runtime/time/time.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define PARTITIONS 3

static char folder[] = "/tmp/ringmill-writer-XXXXXX";

/* A plan by hand: one window stage, one filter stage, one source, and the sinks that a test wants. */
struct fixture {
    struct rml_plan plan;
    struct rml_plan_source source;
    struct rml_plan_stage stages[2];
    struct rml_plan_sink sinks[3];
    struct rml_sink_counts counts[3];
    struct rml_writer *writer;
    uint64_t seq[PARTITIONS][2];
    bool again;
    const struct rml_writer_note *notes;
    struct rml_bell marked;
    char complaint[600], unsure[600];
    _Atomic uint32_t complaints;
};

/* As the window's schema places it: null bits, window_start, window_end, key, revision, count. */
struct window_row {
    uint64_t nulls;
    int64_t start, end;
    int32_t key;
    uint32_t revision;
    uint64_t count;
};

struct filter_row {
    int64_t time;
    char name[8];
};

static char path_text[3][64];

static void add_sink(struct fixture *f, enum rml_sink_kind kind, const char *name)
{
    struct rml_plan_sink *sink = &f->sinks[f->plan.sink_count];
    char *path = path_text[f->plan.sink_count++];
    snprintf(path, sizeof path_text[0], "%s", name);
    snprintf(sink->name, sizeof sink->name, "sink%u", f->plan.sink_count);
    sink->kind = kind;
    sink->path = path;
}

static void take_from(struct fixture *f, uint32_t stage)
{
    struct rml_plan_sink *sink = &f->sinks[f->plan.sink_count - 1];
    sink->from[sink->from_count++] = (struct rml_plan_output){.stage = stage};
}

static struct fixture *new_fixture(void)
{
    struct fixture *f = aligned_alloc(64, (sizeof *f + 63) / 64 * 64);
    assert_non_null(f);
    memset(f, 0, sizeof *f);
    f->plan.partitions = PARTITIONS;
    f->plan.source_count = 1;
    f->plan.sources = &f->source;
    f->plan.stage_count = 2;
    f->plan.stages = f->stages;
    f->plan.sinks = f->sinks;
    struct rml_plan_stage *window = &f->stages[0], *filter = &f->stages[1];
    snprintf(window->name, sizeof window->name, "per_second");
    window->kind = RML_STAGE_WINDOW;
    window->key_count = 1;
    rml_schema_init(&window->output, "per_second", true);
    assert_int_equal(rml_schema_add(&window->output, "window_start", RML_TIME, false, NULL), 0);
    assert_int_equal(rml_schema_add(&window->output, "window_end", RML_TIME, false, NULL), 0);
    assert_int_equal(rml_schema_add(&window->output, "key", RML_I32, false, NULL), 0);
    assert_int_equal(rml_schema_add(&window->output, "revision", RML_U32, false, NULL), 0);
    assert_int_equal(rml_schema_add(&window->output, "count", RML_U64, true, NULL), 0);
    assert_int_equal(rml_schema_seal(&window->output, NULL), 0);
    assert_int_equal(window->output.record_bytes, sizeof(struct window_row));
    snprintf(filter->name, sizeof filter->name, "ok");
    filter->kind = RML_STAGE_FILTER;
    rml_schema_init(&filter->output, "ok", false);
    assert_int_equal(rml_schema_add(&filter->output, "time", RML_TIME, false, NULL), 0);
    assert_int_equal(rml_schema_add(&filter->output, "name", RML_STR8, false, NULL), 0);
    assert_int_equal(rml_schema_seal(&filter->output, NULL), 0);
    assert_int_equal(filter->output.record_bytes, sizeof(struct filter_row));
    return f;
}

static void note_complaint(void *context, const char *sentence)
{
    struct fixture *f = context;
    snprintf(f->complaint, sizeof f->complaint, "%s", sentence);
    atomic_fetch_add(&f->complaints, 1);
}

static void note_unsure(void *context, const char *sentence)
{
    struct fixture *f = context;
    snprintf(f->unsure, sizeof f->unsure, "%s", sentence);
}

// The writer's door to the disk: one flush, that it is told of, fails.
static _Atomic bool flush_fails;

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    int rc = (int)syscall(SYS_fdatasync, fd);
    if (atomic_exchange(&flush_fails, false)) {
        errno = EIO;
        return -1;
    }
    return rc;
}

static int open_writer(struct fixture *f, bool merge, uint32_t workers, struct rml_err *err)
{
    const struct rml_writer_options options = {
        .plan = &f->plan,
        .folder = folder,
        .merge = merge,
        .again = f->again,
        .notes = f->notes,
        .marked = &f->marked,
        .workers = workers,
        .blocks = 8,
        .counts = f->counts,
        .complain = note_complaint,
        .complain_context = f,
        .unsure = note_unsure,
        .unsure_context = f,
    };
    return rml_writer_open(&f->writer, &options, err);
}

static void start(struct fixture *f, bool merge, uint32_t workers)
{
    assert_int_equal(open_writer(f, merge, workers, NULL), 0);
    assert_int_equal(rml_writer_start(f->writer, NULL), 0);
}

static void end(struct fixture *f)
{
    rml_writer_close(f->writer);
    free(f);
}

static struct rml_result_block *take(struct fixture *f, uint32_t worker, uint32_t partition,
                                     uint32_t output)
{
    struct rml_result_block *block;
    while ((block = rml_writer_take(f->writer, worker)) == NULL)
        rml_writer_wait(f->writer, worker);
    block->partition = partition;
    block->output = output;
    block->source = 0;
    block->rows = 0;
    block->row_stride =
        (uint32_t)sizeof(struct rml_result_row)
        + (output == 0 ? (uint32_t)sizeof(struct window_row) : (uint32_t)sizeof(struct filter_row));
    block->step_end = true;
    block->is_mark = false;
    block->progress = RML_TIME_NONE;
    return block;
}

static void add_window(struct fixture *f, struct rml_result_block *block, int64_t fire, int32_t key)
{
    struct rml_result_row *row = rml_result_row_at(block, block->rows++);
    row->fire = fire;
    row->seq = f->seq[block->partition][0]++;
    const struct window_row record = {
        .start = fire - 10, .end = fire, .key = key, .count = (uint64_t)fire};
    memcpy(row->record, &record, sizeof record);
}

static void add_filtered(struct fixture *f, struct rml_result_block *block, int64_t fire,
                         const char *name)
{
    struct rml_result_row *row = rml_result_row_at(block, block->rows++);
    row->fire = fire;
    row->seq = f->seq[block->partition][1]++;
    struct filter_row record = {.time = fire};
    memcpy(record.name, name, strlen(name));
    memcpy(row->record, &record, sizeof record);
}

static const char *content(const char *name)
{
    static char text[1 << 16];
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t got = fread(text, 1, sizeof text - 1, file);
    text[got] = '\0';
    fclose(file);
    unlink(path);
    return text;
}

static void a_csv_file_begins_with_its_header(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_CSV, "a.csv");
    take_from(f, 0);
    start(f, false, 1);
    struct rml_result_block *block = take(f, 0, 1, 0);
    add_window(f, block, 20, 7);
    rml_writer_give(f->writer, 0, block);
    assert_int_equal(rml_writer_finish(f->writer), 0);
    assert_string_equal(content("a.csv"), "window_start,window_end,key,revision,count\n"
                                          "10,20,7,0,20\n");
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_rows]), 1);
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_bytes]), 56);
    end(f);
}

static void rows_of_one_step_leave_by_fire_then_key(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_CSV, "a.csv");
    take_from(f, 0);
    start(f, false, 1);
    struct rml_result_block *first = take(f, 0, 0, 0), *second = take(f, 0, 0, 0);
    first->step_end = false;
    add_window(f, first, 10, 5);
    add_window(f, first, 10, -3);
    add_window(f, second, 10, 100);
    add_window(f, second, 20, -9);
    add_window(f, second, 20, -10);
    rml_writer_give(f->writer, 0, first);
    rml_writer_give(f->writer, 0, second);
    rml_writer_finish(f->writer);
    assert_string_equal(content("a.csv"), "window_start,window_end,key,revision,count\n"
                                          "0,10,-3,0,10\n0,10,5,0,10\n0,10,100,0,10\n"
                                          "10,20,-10,0,20\n10,20,-9,0,20\n");
    end(f);
}

static void a_jsonl_file_of_several_stages_names_the_stage_first(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_JSONL, "a.jsonl");
    take_from(f, 0);
    take_from(f, 1);
    start(f, false, 1);
    struct rml_result_block *block = take(f, 0, 0, 0);
    add_window(f, block, 10, 1);
    rml_writer_give(f->writer, 0, block);
    block = take(f, 0, 0, 1);
    add_filtered(f, block, 4, "x");
    rml_writer_give(f->writer, 0, block);
    rml_writer_finish(f->writer);
    assert_string_equal(content("a.jsonl"),
                        "{\"stage\":\"per_second\",\"window_start\":0,\"window_end\":10,\"key\":1,"
                        "\"revision\":0,\"count\":10}\n"
                        "{\"stage\":\"ok\",\"time\":4,\"name\":\"x\"}\n");
    end(f);
}

// A step of one partition: rows of both outputs with random keys, then progress.
static void random_step(struct fixture *f, uint64_t *random, uint32_t worker, uint32_t partition,
                        int64_t from, int64_t to)
{
    struct rml_result_block *windows = take(f, worker, partition, 0);
    for (int64_t fire = from; fire < to; fire++) {
        for (uint32_t i = 0; i < 3; i++)
            add_window(f, windows, fire,
                       (int32_t)((uint32_t)(fire * 7) % 5 * 10 + i * 31 % 7)
                           + 1000 * (int32_t)partition);
    }
    if (rml_test_random(random) % 2 == 0) {
        rml_writer_give(f->writer, worker, windows);
        windows = take(f, worker, partition, 0);
    }
    struct rml_result_block *filtered = take(f, worker, partition, 1);
    for (int64_t fire = from; fire < to; fire++)
        add_filtered(f, filtered, fire, "r");
    rml_writer_give(f->writer, worker, windows);
    filtered->progress = to;
    rml_writer_give(f->writer, worker, filtered);
}

static char *merged_bytes(uint64_t seed, uint32_t workers)
{
    uint64_t random = seed;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_JSONL, "a.jsonl");
    take_from(f, 0);
    take_from(f, 1);
    start(f, true, workers);
    int64_t reached[PARTITIONS] = {0};
    const int64_t last = 60;
    for (;;) {
        uint32_t p = (uint32_t)(rml_test_random(&random) % PARTITIONS);
        if (reached[0] == last && reached[1] == last && reached[2] == last)
            break;
        int64_t to = reached[p] + (int64_t)(rml_test_random(&random) % 9);
        to = to > last ? last : to;
        random_step(f, &random, p % workers, p, reached[p], to);
        reached[p] = to;
    }
    rml_writer_finish(f->writer);
    char *bytes = strdup(content("a.jsonl"));
    end(f);
    return bytes;
}

static void merged_bytes_depend_on_no_worker_cut_or_interleaving(void **state)
{
    (void)state;
    char *first = merged_bytes(1, 1);
    assert_true(strlen(first) > 10000);
    for (uint64_t seed = 2; seed < 40; seed++) {
        char *other = merged_bytes(seed, 1 + (uint32_t)(seed % 3));
        assert_string_equal(first, other);
        free(other);
    }
    free(first);
}

static void merged_rows_wait_for_the_slowest_partition(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_CSV, "a.csv");
    take_from(f, 0);
    start(f, true, 1);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        struct rml_result_block *block = take(f, 0, PARTITIONS - 1 - p, 0);
        add_window(f, block, 10, (int32_t)p);
        block->progress = 11;
        rml_writer_give(f->writer, 0, block);
    }
    rml_writer_finish(f->writer);
    assert_string_equal(content("a.csv"), "window_start,window_end,key,revision,count\n"
                                          "0,10,0,0,10\n0,10,1,0,10\n0,10,2,0,10\n");
    end(f);
}

static void a_full_disk_loses_rows_counts_them_and_spares_other_sinks(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_JSONL, "/dev/full");
    take_from(f, 0);
    add_sink(f, RML_SINK_CSV, "a.csv");
    take_from(f, 0);
    start(f, false, 1);
    for (int i = 0; i < 100; i++) {
        struct rml_result_block *block = take(f, 0, 0, 0);
        add_window(f, block, 10 + i, 1);
        rml_writer_give(f->writer, 0, block);
    }
    assert_int_equal(rml_writer_finish(f->writer), 100);
    assert_non_null(strstr(f->complaint, "sink sink1: /dev/full: No space left on device"));
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_lost]), 100);
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_rows]), 0);
    assert_int_equal(rml_count_read(&f->counts[1].value[RML_SINK_rows]), 100);
    (void)content("a.csv");
    end(f);
}

static void a_missing_folder_is_said_before_anything_starts(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_JSONL, "none/a.jsonl");
    take_from(f, 0);
    struct rml_err err = {0};
    assert_int_equal(open_writer(f, false, 1, &err), -ENOENT);
    assert_non_null(strstr(err.text, "sink sink1: "));
    assert_non_null(strstr(err.text, "the folder it should lie in is not there"));
    free(f);
}

static void an_old_file_is_emptied(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/a.csv", folder);
    FILE *old = fopen(path, "w");
    assert_non_null(old);
    fputs("old old old old old old old old old old old old old old old\n", old);
    fclose(old);
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_CSV, "a.csv");
    take_from(f, 1);
    start(f, false, 1);
    rml_writer_finish(f->writer);
    assert_string_equal(content("a.csv"), "time,name\n");
    end(f);
}

static void a_writer_after_one_that_died_goes_on_behind_whole_rows(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_CSV, "a.csv");
    take_from(f, 0);
    char path[128];
    snprintf(path, sizeof path, "%s/a.csv", folder);
    for (int life = 0; life < 3; life++) {
        f->again = life > 0;
        start(f, false, 1);
        struct rml_result_block *block = take(f, 0, 1, 0);
        add_window(f, block, 20 + life, 7);
        rml_writer_give(f->writer, 0, block);
        assert_int_equal(rml_writer_finish(f->writer), 0);
        rml_writer_close(f->writer);
        FILE *file = fopen(path, "a");
        fputs("12,2", file);  // a row that the writer died in
        fclose(file);
    }
    f->again = true;
    start(f, false, 1);
    assert_int_equal(rml_writer_finish(f->writer), 0);
    assert_string_equal(content("a.csv"), "window_start,window_end,key,revision,count\n"
                                          "10,20,7,0,20\n11,21,7,0,21\n12,22,7,0,22\n");
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_rows]), 3);
    end(f);
}

static void give_window(struct fixture *f, uint32_t partition, int64_t fire)
{
    struct rml_result_block *block = take(f, 0, partition, 0);
    add_window(f, block, fire, (int32_t)partition);
    rml_writer_give(f->writer, 0, block);
}

// What the rows are up to the last mark is kept; what comes behind it is made again.
static void a_writer_that_goes_on_from_a_mark_has_every_row_once(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_CSV, "a.csv");
    take_from(f, 0);
    struct rml_writer_note notes[3] = {0};
    f->notes = notes;
    assert_int_equal(rml_bell_open(&f->marked, NULL), 0);
    start(f, false, 1);
    give_window(f, 0, 20);
    rml_writer_mark(f->writer, 0, 0);
    give_window(f, 0, 30);  // behind the moment of its partition, before that of the others
    give_window(f, 1, 20);
    rml_writer_mark(f->writer, 0, 1);
    assert_int_equal(rml_writer_rounds(f->writer), 0);
    rml_writer_mark(f->writer, 0, 2);
    while (rml_writer_rounds(f->writer) == 0)
        rml_bell_wait(&f->marked, 1);
    struct rml_writer_note note = rml_writer_note(f->writer, 0);
    void *kept = malloc(note.bytes);
    assert_non_null(kept);
    memcpy(kept, note.data, note.bytes);
    give_window(f, 2, 40);  // in the file, and in no note
    assert_int_equal(rml_writer_finish(f->writer), 0);
    rml_writer_close(f->writer);

    notes[0] = (struct rml_writer_note){kept, note.bytes};
    f->seq[0][0] = 1;  // partition 0 comes back as it was at its moment, the others likewise
    f->seq[1][0] = 1;
    f->seq[2][0] = 0;
    start(f, false, 1);
    give_window(f, 0, 30);
    give_window(f, 2, 40);
    give_window(f, 1, 50);
    assert_int_equal(rml_writer_finish(f->writer), 0);
    assert_string_equal(content("a.csv"), "window_start,window_end,key,revision,count\n"
                                          "10,20,0,0,20\n10,20,1,0,20\n20,30,0,0,30\n"
                                          "30,40,2,0,40\n40,50,1,0,50\n");
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_rows]), 5);
    rml_bell_close(&f->marked);
    free(kept);
    end(f);
}

static struct rml_writer_note none[3];

static void start_with_marks(struct fixture *f)
{
    add_sink(f, RML_SINK_CSV, "a.csv");
    take_from(f, 0);
    f->notes = none;
    assert_int_equal(rml_bell_open(&f->marked, NULL), 0);
    start(f, false, 1);
}

static void mark_all(struct fixture *f, uint64_t rounds)
{
    for (uint32_t p = 0; p < PARTITIONS; p++)
        rml_writer_mark(f->writer, 0, p);
    while (rml_writer_rounds(f->writer) < rounds)
        rml_bell_wait(&f->marked, 1);
}

// A disk without room, for whoever is not root either: a file may not get longer than this.
static void limit_files(uint64_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void until_tried_again(struct fixture *f)
{
    while (rml_count_read(&f->counts[0].value[RML_SINK_retries]) == 0
           || atomic_load(&f->complaints) == 0)
        sched_yield();
}

static void where_marks_are_given_a_full_disk_is_waited_for_and_every_row_comes_once(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    start_with_marks(f);
    struct rml_err err = {0};
    give_window(f, 0, 20);
    mark_all(f, 1);
    limit_files(60);  // room for a part of the next row
    give_window(f, 1, 30);
    until_tried_again(f);
    assert_non_null(strstr(f->complaint, "a.csv: File too large; results wait"));
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_rows]), 1);
    for (int i = 0; i < 5; i++)
        give_window(f, 2, 40 + i);
    limit_files(0);
    mark_all(f, 2);
    assert_int_equal(rml_writer_round(f->writer, &err), 0);
    assert_int_equal(atomic_load(&f->complaints), 2);
    assert_non_null(strstr(f->complaint, "a.csv: it can be written again"));
    assert_int_equal(rml_writer_finish(f->writer), 0);
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_rows]), 7);
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_lost]), 0);
    assert_string_equal(content("a.csv"), "window_start,window_end,key,revision,count\n"
                                          "10,20,0,0,20\n20,30,1,0,30\n30,40,2,0,40\n31,41,2,0,41\n"
                                          "32,42,2,0,42\n33,43,2,0,43\n34,44,2,0,44\n");
    rml_bell_close(&f->marked);
    end(f);
}

static void who_hurries_waits_for_no_disk_and_gets_no_whole_round(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    start_with_marks(f);
    struct rml_err err = {0};
    limit_files(60);
    give_window(f, 0, 20);
    give_window(f, 1, 30);
    until_tried_again(f);
    rml_writer_hurry(f->writer);
    mark_all(f, 1);
    assert_int_equal(rml_writer_round(f->writer, &err), -EFBIG);
    assert_non_null(strstr(err.text, "sink sink1: a.csv lacks rows: File too large"));
    assert_int_equal(rml_writer_finish(f->writer), 2);
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_lost]), 2);
    limit_files(0);
    (void)content("a.csv");
    rml_bell_close(&f->marked);
    end(f);
}

static void after_a_flush_that_failed_no_round_is_whole(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    start_with_marks(f);
    struct rml_err err = {0};
    give_window(f, 0, 20);
    mark_all(f, 1);
    assert_int_equal(rml_writer_round(f->writer, &err), 0);
    give_window(f, 0, 30);
    atomic_store(&flush_fails, true);
    mark_all(f, 2);
    assert_string_equal(f->unsure, "sink sink1: a.csv: flushing it failed: Input/output error");
    for (uint64_t round = 2; round < 5; round++) {  // the next flush would succeed
        assert_int_equal(rml_writer_round(f->writer, &err), -EIO);
        mark_all(f, round + 1);
    }
    rml_writer_finish(f->writer);
    (void)content("a.csv");
    rml_bell_close(&f->marked);
    end(f);
}

// What lies ready: of each row its partition and what it fired at.
static size_t look_at_ready(struct fixture *f, int64_t *fires, uint32_t *partitions)
{
    const struct rml_pile_row *row;
    size_t at = 0, count = 0;
    while ((row = rml_pile_next(rml_writer_pile(f->writer), &at)) != NULL) {
        struct window_row record;
        assert_int_equal(row->record_bytes, sizeof record);
        memcpy(&record, row->record, sizeof record);
        assert_int_equal(record.end, row->fire);
        fires[count] = row->fire;
        partitions[count++] = row->partition;
    }
    return count;
}

static void mark_from(struct fixture *f, uint32_t from)
{
    uint64_t rounds = rml_writer_rounds(f->writer);
    for (uint32_t p = from; p < PARTITIONS; p++)
        rml_writer_mark(f->writer, 0, p);
    while (rml_writer_rounds(f->writer) == rounds)
        rml_bell_wait(&f->marked, 1);
}

static void rows_for_tables_lie_ready_once_all_marks_behind_them_have_come(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_TABLE, "");
    take_from(f, 0);
    struct rml_writer_note notes[3] = {0};
    int64_t fires[8];
    uint32_t partitions[8];
    f->notes = notes;
    assert_int_equal(rml_bell_open(&f->marked, NULL), 0);
    start(f, false, 1);
    give_window(f, 0, 20);
    rml_writer_mark(f->writer, 0, 0);
    give_window(f, 0, 30);  // behind the moment of its partition
    give_window(f, 1, 21);  // before it
    assert_int_equal(look_at_ready(f, fires, partitions), 0);
    mark_from(f, 1);
    assert_int_equal(look_at_ready(f, fires, partitions), 2);
    assert_int_equal(fires[0], 20);
    assert_int_equal(fires[1], 21);
    assert_int_equal(partitions[1], 1);

    // that checkpoint fails: the next has its rows, too
    give_window(f, 2, 40);
    mark_from(f, 0);
    assert_int_equal(look_at_ready(f, fires, partitions), 4);
    assert_int_equal(fires[2], 30);
    assert_int_equal(fires[3], 40);
    assert_true(rml_pile_bytes(rml_writer_pile(f->writer)) > 0);

    rml_pile_settle(rml_writer_pile(f->writer));
    assert_int_equal(rml_pile_bytes(rml_writer_pile(f->writer)), 0);
    mark_from(f, 0);
    assert_int_equal(look_at_ready(f, fires, partitions), 0);
    rml_bell_close(&f->marked);
    end(f);
}

// One that died before there was a note has counted rows that are made, and written, again.
static void a_file_that_begins_anew_is_counted_anew(void **state)
{
    (void)state;
    struct fixture *f = new_fixture();
    add_sink(f, RML_SINK_CSV, "a.csv");
    take_from(f, 0);
    static const struct rml_writer_note notes[3];
    f->notes = notes;
    assert_int_equal(rml_bell_open(&f->marked, NULL), 0);
    for (int life = 0; life < 2; life++) {
        f->again = life > 0;
        f->seq[0][0] = 0;
        start(f, false, 1);
        give_window(f, 0, 20);
        assert_int_equal(rml_writer_finish(f->writer), 0);
        assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_rows]), 1);
        rml_count_set(&f->counts[0].value[RML_SINK_lost], 7);
        rml_writer_close(f->writer);
    }
    start(f, false, 1);
    assert_int_equal(rml_count_read(&f->counts[0].value[RML_SINK_lost]), 0);
    assert_int_equal(rml_writer_finish(f->writer), 0);
    assert_string_equal(content("a.csv"), "window_start,window_end,key,revision,count\n");
    rml_bell_close(&f->marked);
    end(f);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        CLAIM(a_csv_file_begins_with_its_header),
        CLAIM(rows_of_one_step_leave_by_fire_then_key),
        CLAIM(a_jsonl_file_of_several_stages_names_the_stage_first),
        CLAIM(merged_bytes_depend_on_no_worker_cut_or_interleaving),
        CLAIM(merged_rows_wait_for_the_slowest_partition),
        CLAIM(a_full_disk_loses_rows_counts_them_and_spares_other_sinks),
        CLAIM(a_missing_folder_is_said_before_anything_starts),
        CLAIM(an_old_file_is_emptied),
        CLAIM(a_writer_after_one_that_died_goes_on_behind_whole_rows),
        CLAIM(a_writer_that_goes_on_from_a_mark_has_every_row_once),
        CLAIM(where_marks_are_given_a_full_disk_is_waited_for_and_every_row_comes_once),
        CLAIM(who_hurries_waits_for_no_disk_and_gets_no_whole_round),
        CLAIM(after_a_flush_that_failed_no_round_is_whole),
        CLAIM(rows_for_tables_lie_ready_once_all_marks_behind_them_have_come),
        CLAIM(a_file_that_begins_anew_is_counted_anew),
    };
    return cmocka_run_group_tests(claims, make_folder, remove_folder);
}
