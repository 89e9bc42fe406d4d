#include "tools/feed.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/err.h"
#include "runtime/lane/lane_out.h"
#include "runtime/time/clock.h"

#define TOLD_MAX         5  // malformed lines told one by one, of each file
#define PROGRESS_EVERY   8192
#define PROGRESS_NS      INT64_C(200000000)
#define NS_PER_SECOND    INT64_C(1000000000)
#define LONGEST_SLEEP_NS INT64_C(100000000)  // so that a signal is heeded soon

struct file {
    struct rml_input *input;
    struct rml_feed_counts counts;
    uint32_t time_offset;  // of the event time in a record
    int64_t time;          // of `record`
    bool open;             // `record` is there
    _Alignas(8) unsigned char record[RML_RECORD_MAX];
};

struct rml_feed {
    struct rml_feed_options options;
    uint32_t file_count;
    struct file *files;
    uint64_t unpublished;
    int64_t first_time;   // event time of the first record, where speed counts from
    int64_t began_ns;     // and when it was fed
    int64_t shown_ns;     // progress was shown
    uint64_t fed_before;  // records fed when progress was shown
};

static int64_t now_ns(void)
{
    return rml_clock_system.monotonic_ns(rml_clock_system.context);
}

int rml_feed_open(struct rml_feed **ret_feed, const struct rml_feed_options *options,
                  struct rml_err *err)
{
    const struct rml_replay_options *replay = options->replay;
    struct rml_feed *feed = calloc(1, sizeof *feed);
    struct file *files = calloc(replay->input_count, sizeof *files);
    if (feed == NULL || files == NULL) {
        free(feed);
        free(files);
        return RML_FAIL(err, -ENOMEM, "no memory to read files");
    }
    *feed = (struct rml_feed){.options = *options, .files = files};
    for (uint32_t i = 0; i < replay->input_count; i++) {
        const struct rml_plan_source *source = &replay->plan.sources[replay->inputs[i].source];
        files[i].time_offset = source->schema.fields[source->time_field].offset;
        feed->file_count++;
        int rc = rml_input_open(&files[i].input, &replay->inputs[i].input, err);
        if (rc < 0) {
            rml_feed_close(feed);
            return rc;
        }
    }
    *ret_feed = feed;
    return 0;
}

void rml_feed_close(struct rml_feed *feed)
{
    if (feed == NULL)
        return;
    for (uint32_t i = 0; i < feed->file_count; i++)
        rml_input_close(feed->files[i].input);
    free(feed->files);
    free(feed);
}

struct rml_feed_counts rml_feed_counts(const struct rml_feed *feed, uint32_t input)
{
    return feed->files[input].counts;
}

/* Read on to the file's next record. 1; 0 at its end; a negative errno. */
static int read_next(const struct rml_feed *feed, struct file *file, struct rml_err *err)
{
    for (;;) {
        int rc = rml_input_next(file->input, file->record, err);
        file->open = rc == 1;
        if (rc == 1)
            memcpy(&file->time, file->record + file->time_offset, sizeof file->time);
        file->counts.lines += rc == 1 || rc == -EBADMSG;
        if (rc != -EBADMSG)
            return rc;
        file->counts.malformed++;
        if (feed->options.strict)
            return rc;
        if (file->counts.malformed <= TOLD_MAX)
            fprintf(stderr, "%s\n", err->text);
    }
}

static void publish_all(struct rml_feed *feed, struct rml_lane_out *const *lanes)
{
    for (uint32_t i = 0; i < feed->file_count; i++)
        rml_lane_out_publish(lanes[i]);
    feed->unpublished = 0;
}

/* Wait until event time `time` is due; what was put before is published first, for it is. */
static void keep_pace(struct rml_feed *feed, struct rml_lane_out *const *lanes, int64_t time,
                      const volatile sig_atomic_t *stop)
{
    if (feed->began_ns == 0) {
        feed->began_ns = now_ns();
        feed->first_time = time;
    }
    double ahead = ((double)time - (double)feed->first_time) / feed->options.replay->speed;
    for (;;) {
        double left = ahead - (double)(now_ns() - feed->began_ns);
        if (left <= 0 || *stop != 0)
            return;
        publish_all(feed, lanes);
        int64_t ns = left < (double)LONGEST_SLEEP_NS ? (int64_t)left : LONGEST_SLEEP_NS;
        nanosleep(&(struct timespec){.tv_sec = ns / NS_PER_SECOND, .tv_nsec = ns % NS_PER_SECOND},
                  NULL);
    }
}

static void show_progress(struct rml_feed *feed, bool last)
{
    int64_t now = now_ns();
    if (!last && now - feed->shown_ns < PROGRESS_NS)
        return;
    uint64_t fed = 0, bytes = 0, size = 0;
    for (uint32_t i = 0; i < feed->file_count; i++) {
        fed += feed->files[i].counts.fed;
        bytes += rml_input_bytes(feed->files[i].input);
        size += rml_input_size(feed->files[i].input);
    }
    fprintf(stderr, "\r\033[K%" PRIu64 " records", fed);
    if (size > 0)
        fprintf(stderr, ", %" PRIu64 " %% of the input", bytes * 100 / size);
    if (feed->shown_ns != 0 && now > feed->shown_ns)
        fprintf(stderr, ", %.2f M/s",
                (double)(fed - feed->fed_before) * 1e3 / (double)(now - feed->shown_ns));
    if (last)
        fprintf(stderr, "\r\033[K");
    fflush(stderr);
    feed->shown_ns = now;
    feed->fed_before = fed;
}

static int earliest(const struct rml_feed *feed)
{
    int best = -1;
    for (uint32_t i = 0; i < feed->file_count; i++) {
        if (feed->files[i].open && (best < 0 || feed->files[i].time < feed->files[best].time))
            best = (int)i;
    }
    return best;
}

static int put(struct rml_feed *feed, struct rml_lane_out *const *lanes, uint32_t index,
               struct rml_err *err)
{
    int rc = rml_lane_out_put(lanes[index], feed->files[index].record);
    if (rc < 0)
        return RML_FAIL(err, rc, "the engine takes no more records: %s", strerror(-rc));
    feed->files[index].counts.fed++;
    if (++feed->unpublished >= feed->options.replay->batch)
        publish_all(feed, lanes);
    return 0;
}

static int feed_all(struct rml_feed *feed, struct rml_lane_out *const *lanes,
                    const volatile sig_atomic_t *stop, struct rml_err *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < feed->file_count && rc >= 0; i++)
        rc = read_next(feed, &feed->files[i], err);
    uint64_t until_shown = 0;
    while (rc >= 0 && *stop == 0) {
        int next = earliest(feed);
        if (next < 0)
            break;
        if (feed->options.replay->speed > 0)
            keep_pace(feed, lanes, feed->files[next].time, stop);
        rc = put(feed, lanes, (uint32_t)next, err);
        if (rc == 0)
            rc = read_next(feed, &feed->files[next], err);
        if (feed->options.progress && until_shown++ % PROGRESS_EVERY == 0)
            show_progress(feed, false);
    }
    return rc < 0 ? rc : 0;
}

int rml_feed_run(struct rml_feed *feed, struct rml_lane_out *const *lanes,
                 const volatile sig_atomic_t *stop, struct rml_err *err)
{
    for (uint32_t i = 0; i < feed->file_count; i++) {
        rml_lane_out_wait_max(lanes[i], -1);
        rml_lane_out_publish_every(lanes[i], UINT32_MAX);  // batches are ours
    }
    int rc = feed_all(feed, lanes, stop, err);
    publish_all(feed, lanes);
    for (uint32_t i = 0; i < feed->file_count; i++)
        feed->files[i].counts.lines -= feed->files[i].open;  // read ahead when it was interrupted
    if (feed->options.progress)
        show_progress(feed, true);
    for (uint32_t i = 0; i < feed->file_count; i++) {
        uint64_t malformed = feed->files[i].counts.malformed;
        if (malformed > TOLD_MAX && !feed->options.strict)
            fprintf(stderr, "%s: %" PRIu64 " more malformed lines\n",
                    feed->options.replay->inputs[i].input.path, malformed - TOLD_MAX);
    }
    return rc;
}
