#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/suggest.h"
#include "runtime/client/subscribe.h"
#include "runtime/plan/units.h"
#include "runtime/record/text.h"
#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/signals.h"
#include "tools/standard.h"

/* What the options said. */
static bool as_csv, from_oldest, rfc3339;
static const char *count_text;
static uint32_t count_count;

#define TEXT_MAX 32768u  // a row of any schema fits

struct tap {
    const struct rml_ctl *ctl;
    struct rml_view *view;
    struct rml_subscriber *subscriber;
    struct rml_schema schema;
    uint64_t record[RML_RECORD_MAX / 8];
    char text[TEXT_MAX];
    uint64_t rows_left;
    uint64_t missed;  // rows, that has been said
};

/* The stage */

// "per_second" or "per_second.late", on the board.
static int find_stage(const struct rml_board *board, const char *word, uint32_t *ret_stage,
                      bool *ret_late, struct rml_err *err)
{
    const char *names[RML_STAGES_MAX];
    size_t length = strlen(word);
    *ret_late = length > 5 && strcmp(word + length - 5, ".late") == 0;
    if (*ret_late)
        length -= 5;
    for (uint32_t i = 0; i < board->head->stages; i++) {
        names[i] = board->stages[i].name;
        if (strlen(names[i]) == length && memcmp(names[i], word, length) == 0) {
            *ret_stage = i;
            return 0;
        }
    }
    const char *near = rml_suggest(word, length, names, board->head->stages);
    return RML_FAIL(err, -EINVAL, "pipeline %s has no stage %.60s%s%s%s", board->head->pipeline,
                    word, near != NULL ? "; did you mean " : "", near != NULL ? near : "",
                    near != NULL ? "?" : "");
}

static int open_tap(struct tap *tap, struct rml_err *err)
{
    uint32_t stage;
    bool late;
    int rc = find_stage(&tap->view->board, tap->ctl->stage, &stage, &late, err);
    if (rc == 0)
        rc = rml_board_rows(&tap->view->board, stage, late, &tap->schema, err);
    if (rc < 0)
        return rc;
    RML_CHECK(rml_text_row_bytes_max(&tap->schema) <= TEXT_MAX);
    char place[2 * RML_WIRE_NAME + 1], error[RML_SUBSCRIBER_ERROR_BYTES];
    snprintf(place, sizeof place, "%s/%s", tap->view->pipeline, tap->ctl->stage);
    const struct rml_subscriber_options options = {.from_oldest = from_oldest,
                                                   .open_ns = rml_ctl_answer_ns(tap->ctl)};
    rc = rml_subscriber_open(&tap->subscriber, place, tap->schema.hash, tap->schema.record_bytes,
                             &options, error, sizeof error);
    // the pipeline runs: what is not there is a ring of this stage
    return rc < 0 ? RML_FAIL(err, rc == -ENOENT ? -ENODATA : rc, "%s", error) : 0;
}

/* Rows */

static void print_row(struct tap *tap, const struct rml_row_info *info)
{
    const struct rml_text_options options = {.rfc3339 = rfc3339};
    uint32_t used =
        as_csv ? rml_text_row_csv(&tap->schema, tap->record, &options, tap->text, TEXT_MAX)
               : rml_text_row_json(&tap->schema, tap->record, &options, tap->text, TEXT_MAX);
    if (tap->ctl->as_json) {
        printf("{\"schema\":\"ringctl.tap/1\",\"partition\":%" PRIu32 ",\"seq\":%" PRIu64
               ",\"fire_ns\":%" PRId64 ",\"row\":%.*s}\n",
               info->partition, info->seq, info->fire_ns, (int)(used - 1), tap->text);
    } else {
        fwrite(tap->text, 1, used, stdout);
    }
}

static void say_missed(struct tap *tap)
{
    uint64_t missed = rml_subscriber_missed(tap->subscriber);
    if (missed > tap->missed) {
        fprintf(stderr,
                "ringctl: missed %" PRIu64 " rows: they were overwritten before they were read\n",
                missed - tap->missed);
    }
    tap->missed = missed;
}

// 0, or -EPIPE at the end of the pipeline.
static int print_rows(struct tap *tap)
{
    struct rml_row_info info;
    int rc = 0;
    while (tap->rows_left > 0
           && (rc = rml_subscriber_read(tap->subscriber, tap->record, &info)) > 0) {
        print_row(tap, &info);
        tap->rows_left--;
    }
    if (!rml_standard_is_written())
        tap->rows_left = 0;
    say_missed(tap);
    return rc < 0 ? rc : 0;
}

// Print until it is over. 0: as many as were asked for, or a signal; -EPIPE.
static int follow(struct tap *tap, int signals)
{
    while (tap->rows_left > 0) {
        int rc = rml_subscriber_sleep(tap->subscriber);
        if (rc == 0) {
            struct pollfd what[] = {{.fd = signals, .events = POLLIN},
                                    {.fd = rml_subscriber_fd(tap->subscriber), .events = POLLIN}};
            poll(what, 2, -1);
            if (what[0].revents != 0)
                return 0;
        }
        rc = rml_subscriber_wait(tap->subscriber, 0);
        if (rc >= 0)
            rc = print_rows(tap);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int show(const struct rml_ctl *ctl, struct rml_view *view)
{
    int64_t count = INT64_MAX;
    if (!rml_ctl_count("--count", count_count > 0 ? count_text : NULL, &count))
        return RML_EXIT_USAGE;
    if (as_csv && ctl->as_json)
        return rml_ctl_fail(-EINVAL, "--csv and --json: a row cannot be both");
    struct rml_err err = {0};
    static struct tap tap;  // too large for a stack
    tap = (struct tap){.ctl = ctl, .view = view, .rows_left = (uint64_t)count};
    int signals = -1, code = RML_EXIT_OK;
    int rc = open_tap(&tap, &err);
    if (rc == 0) {
        rc = signals = rml_signals_open(&err);
    }
    if (rc < 0) {
        code = rml_ctl_fail(rc, err.text);
    } else {
        if (as_csv)
            fwrite(tap.text, 1, rml_text_header_csv(&tap.schema, tap.text, TEXT_MAX), stdout);
        if (rml_standard_is_written() && follow(&tap, signals) < 0)
            code = rml_ctl_ended(view);
        close(signals);
    }
    rml_subscriber_close(tap.subscriber);
    return code;
}

int rml_ctl_cmd_tap(int argc, char **argv)
{
    const struct rml_option options[] = {
        {.name = "--csv",
         .sentence = "Rows as CSV with a line of names, not as JSON.",
         .ret_flag = &as_csv},
        {.name = "--oldest",
         .sentence = "Begin with the oldest row that is still there, not with the next one made.",
         .ret_flag = &from_oldest},
        {.name = "--rfc3339",
         .sentence = "Print times so, not as nanoseconds since 1970.",
         .ret_flag = &rfc3339},
        {.name = "--count",
         .value = "N",
         .sentence = "End after so many rows. Without it: until a signal, or the pipeline's end.",
         .ret_values = &count_text,
         .ret_count = &count_count,
         .most = 1},
    };
    const struct rml_args args = {
        .usage = "ringctl tap [PIPELINE] STAGE [--oldest] [--count N] [--csv] [--json]",
        .sentence =
            "Show the rows of a stage (STAGE.late: its late records) as they are made, a line of "
            "JSON each; --json adds where each row comes from. The pipeline needs a sink of "
            "type ring that takes them, and is never held up: rows that were overwritten "
            "before they were read are counted on standard error.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    struct rml_ctl ctl = {.wants_stage = true};
    return rml_ctl_run(&ctl, &args, argc, argv, show);
}
