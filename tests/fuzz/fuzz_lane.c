/*
 * A lane whose producer writes what it likes, where it likes, between any two steps of the engine. A
 * run is short enough for its ring, its marks ascend inside it, and what the engine has taken never
 * goes beyond what was published; otherwise the answer is -EPROTO, which ends the lane.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/layout.h"
#include "runtime/segment/segment.h"

#define CELLS    8u
#define RUN_MAX  16u
#define WORD_MAX 12u  // a step: what, where, how, and a word

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct scene {
    struct rml_lane_geometry geometry;
    struct rml_lane_layout layout;
    struct rml_lane_in *in;
    struct rml_segment records;  // as the producer maps it
    uint64_t taken[4], held[4];
    bool asleep;
};

static void open_scene(struct scene *scene, uint8_t shape)
{
    *scene = (struct scene){
        .geometry = {.partitions = 1 + (shape & 3),
                     .workers = 1,
                     .cells = CELLS,
                     .cell_bytes = 16,
                     .grid = {.granule_ns = 1 + (shape >> 2 & 7)},
                     .key_field_count = 1,
                     .key = {{.offset = 8, .bytes = 8}}},
    };
    scene->layout = rml_lane_layout(&scene->geometry);
    RML_CHECK(rml_lane_in_open(&scene->in, &scene->geometry, "fuzz", 1, NULL) == 0);
    RML_CHECK(rml_segment_attach(&scene->records, rml_lane_in_fds(scene->in)->records,
                                 rml_lane_records_bytes(&scene->geometry), true, NULL)
              == 0);
}

static void close_scene(struct scene *scene)
{
    rml_segment_close(&scene->records);
    rml_lane_in_close(scene->in);
}

// The producer's side: any word of the positions or of the marks, set, moved a little, or zeroed.
static void scribble(struct scene *scene, uint32_t partition, uint8_t how, uint64_t value)
{
    struct rml_lane_record_line *line = &rml_lane_record_lines(scene->records.memory)[partition];
    uint64_t *words = (void *)line;
    uint32_t word = how & 7;
    if ((how & 0x20) != 0 && scene->geometry.partitions > 1) {
        words = (void *)rml_lane_marks(scene->records.memory, &scene->layout, partition);
        word = how & (2 * CELLS - 1);
    }
    uint64_t seen = __atomic_load_n(&words[word], __ATOMIC_RELAXED);
    uint64_t next = (how & 0x80) != 0 ? value : seen + (value & 15);
    __atomic_store_n(&words[word], next, __ATOMIC_RELAXED);
}

static int peek(struct scene *scene, uint32_t partition, uint32_t want, uint32_t take)
{
    struct rml_mark marks[RUN_MAX];
    struct rml_lane_run run;
    int32_t rows = rml_lane_in_peek(scene->in, partition, want, marks, &run);
    if (rows < 0)
        return rows;
    RML_CHECK((uint32_t)rows == run.rows && run.rows <= want && run.rows <= CELLS);
    RML_CHECK(run.mark_count <= run.rows);
    for (uint32_t m = 0; m < run.mark_count; m++) {
        RML_CHECK(marks[m].row < run.rows);
        RML_CHECK(m == 0 || (marks[m].row > marks[m - 1].row && marks[m].time > marks[m - 1].time));
    }
    unsigned char copy[CELLS * 16];
    memcpy(copy, run.records, (size_t)run.rows * 16);  // all of it can be read

    take = take < run.rows ? take : run.rows;
    rml_lane_in_take(scene->in, partition, take);
    scene->taken[partition] += take;
    scene->held[partition] += take;
    RML_CHECK(scene->held[partition] <= CELLS);
    return 0;
}

static void release(struct scene *scene, uint32_t partition, uint32_t rows)
{
    rows = rows < scene->held[partition] ? rows : (uint32_t)scene->held[partition];
    rml_lane_in_release(scene->in, partition, rows);
    scene->held[partition] -= rows;
}

// Everybody's looks: they may show anything, and stay harmless.
static void look(struct scene *scene, uint32_t partition)
{
    struct rml_lane_counts counts;
    rml_lane_in_counts(scene->in, &counts);
    RML_CHECK(counts.variant < RML_RING_VARIANTS);
    rml_lane_in_partition_counts(scene->in, partition, &counts);
    RML_CHECK(counts.taken == scene->taken[partition]);
    RML_CHECK(counts.released == scene->taken[partition] - scene->held[partition]);
    (void)rml_lane_in_time(scene->in);
    (void)rml_lane_in_publishes(scene->in);
}

static int step(struct scene *scene, const uint8_t *bytes)
{
    uint32_t partition = (bytes[0] >> 4 & 3) % scene->geometry.partitions;
    uint64_t value;
    memcpy(&value, bytes + 4, sizeof value);
    switch (bytes[0] & 7) {
    case 0:
    case 1:
    case 2:
        scribble(scene, partition, bytes[1], value);
        return 0;
    case 3:
        return peek(scene, partition, 1 + bytes[1] % RUN_MAX, bytes[2] % (CELLS + 1));
    case 4:
        release(scene, partition, bytes[1] % (CELLS + 1));
        return 0;
    case 5:
        if (scene->asleep)
            rml_lane_in_sleep_end(scene->in, 0);
        else
            rml_lane_in_sleep_begin(scene->in, 0);
        scene->asleep = !scene->asleep;
        return 0;
    case 6:
        // A hole: every byte of the segment is zero from one moment to the next.
        RML_CHECK(fallocate(rml_lane_in_fds(scene->in)->records,
                            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                            (off_t)rml_lane_records_bytes(&scene->geometry))
                  == 0);
        return 0;
    default:
        look(scene, partition);
        int rc = rml_lane_in_is_drained(scene->in, partition);
        return rc < 0 ? rc : 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct scene scene;
    open_scene(&scene, data[0]);
    int rc = 0;
    for (size_t at = 1; rc == 0 && at + WORD_MAX <= size && at < 200 * WORD_MAX; at += WORD_MAX)
        rc = step(&scene, data + at);
    RML_CHECK(rc == 0 || rc == -EPROTO);
    if (rc < 0)
        rml_lane_in_detach(scene.in, EPROTO, "positions that cannot be true");
    close_scene(&scene);
    return 0;
}
