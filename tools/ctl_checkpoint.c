/*
 * A state folder is read as it lies on the disk (runtime/checkpoint/checkpoints.h). Of a pipeline that
 * runs only the folder's path is asked.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/checkpoints.h"
#include "runtime/plan/units.h"
#include "runtime/table/results.h"
#include "runtime/time/clock.h"
#include "runtime/time/time.h"
#include "tools/about.h"
#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/guard.h"
#include "tools/json.h"
#include "tools/table.h"
#include "tools/usage.h"

#define LIST_ROOM  64
#define FOREVER_NS (INT64_MAX / 2)
#define TABLES_MAX 512  // more than a pipeline has
#define TRIES      100  // where the engine drops checkpoints faster than we read them

/* What is looked at. */
struct folder {
    const struct rml_ctl *ctl;
    struct rml_view *view;
    struct rml_checkpoints *checkpoints;
    char path[RML_BOARD_STATE];
    const char *pipeline;  // NULL: the folder was named
    uint64_t epoch;        // 0: none was
    bool as_json;
};

static struct rml_checkpoint_info list[LIST_ROOM];

static int64_t age_ns(int64_t wall_ns)
{
    return rml_time_sub(rml_clock_system.wall_ns(rml_clock_system.context), wall_ns);
}

static int read_list(const struct folder *folder, uint32_t *ret_count, struct rml_err *err)
{
    int count = rml_checkpoints_list(folder->checkpoints, list, LIST_ROOM, err);
    if (count < 0)
        return count;
    *ret_count = count < LIST_ROOM ? (uint32_t)count : LIST_ROOM;
    return 0;
}

// Behind the sentence that one is not there: what is.
static int say_missing(const struct folder *folder)
{
    char sentence[200];
    uint32_t count = 0;
    struct rml_err err = {0};
    int rc = read_list(folder, &count, &err);
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    if (count == 0)
        snprintf(sentence, sizeof sentence, "there is no checkpoint yet");
    else
        snprintf(sentence, sizeof sentence,
                 "checkpoint %" PRIu64 " is not kept; the oldest is %" PRIu64
                 ", the newest %" PRIu64,
                 folder->epoch, list[0].epoch, list[count - 1].epoch);
    return rml_ctl_fail(-ENOENT, sentence);
}

static void json_begin(struct rml_json *json, const struct folder *folder, const char *schema)
{
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "schema", schema);
    rml_json_text(json, "pipeline", folder->pipeline);
    rml_json_text(json, "folder", folder->path);
}

static void json_end(struct rml_json *json)
{
    rml_json_close(json, '}');
    printf("\n");
}

/* list */

static void json_info(struct rml_json *json, const struct rml_checkpoint_info *info)
{
    rml_json_open(json, NULL, '{');
    rml_json_unsigned(json, "epoch", info->epoch);
    rml_json_bool(json, "damaged", info->damage != 0);
    rml_json_integer(json, "at_ns", info->wall_ns);
    rml_json_unsigned(json, "partitions", info->partitions);
    rml_json_unsigned(json, "extents", info->size.extents);
    rml_json_unsigned(json, "bytes", info->size.chain_bytes);
    rml_json_unsigned(json, "own_bytes", info->size.own_bytes);
    rml_json_unsigned(json, "chain", info->size.checkpoints);
    rml_json_close(json, '}');
}

static void row_info(struct rml_table *table, const struct rml_checkpoint_info *info)
{
    char at[40], age[32], bytes[32], own[32];
    rml_table_row(table);
    rml_table_number(table, info->epoch);
    if (info->damage != 0) {
        rml_table_cell(table, "damaged");
        return;
    }
    rml_ctl_second(info->wall_ns, at);
    rml_about_duration(age_ns(info->wall_ns), age);
    rml_size_print_about(info->size.chain_bytes, bytes);
    rml_size_print_about(info->size.own_bytes, own);
    rml_table_cell(table, "%s", at);
    rml_table_cell(table, "%s", age);
    rml_table_number(table, info->partitions);
    rml_table_cell(table, "%s", bytes);
    rml_table_cell(table, "%s", own);
    rml_table_number(table, info->size.extents);
    rml_table_number(table, info->size.checkpoints);
}

static int print_list(uint32_t count)
{
    static const char *const columns[] = {">EPOCH", "AT",         ">AGE",     ">PARTITIONS",
                                          ">BYTES", ">NEW BYTES", ">EXTENTS", ">CHAIN"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < count; i++)
        row_info(&table, &list[i]);
    int rc = rml_table_end(&table, stdout);
    if (count == 0)
        printf("there is no checkpoint yet\n");
    return rc < 0 ? RML_EXIT_FAILED : RML_EXIT_OK;
}

static int show_list(const struct folder *folder)
{
    uint32_t count;
    struct rml_err err = {0};
    int rc = read_list(folder, &count, &err);
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    if (!folder->as_json)
        return print_list(count);
    struct rml_json json = {.out = stdout};
    json_begin(&json, folder, "ringctl.checkpoint-list/1");
    rml_json_open(&json, "checkpoints", '[');
    for (uint32_t i = 0; i < count; i++)
        json_info(&json, &list[i]);
    rml_json_close(&json, ']');
    json_end(&json);
    return RML_EXIT_OK;
}

/* show */

struct part_size {
    uint64_t bytes, own_bytes, oldest;
};

static struct part_size size_of(const struct rml_manifest *manifest,
                                const struct rml_manifest_part *part)
{
    struct part_size size = {.oldest = manifest->epoch};
    for (uint32_t i = 0; i < part->extent_count; i++) {
        const struct rml_extent *extent = &part->extents[i];
        size.bytes += extent->bytes;
        size.own_bytes += extent->epoch == manifest->epoch ? extent->bytes : 0;
        size.oldest = extent->epoch < size.oldest ? extent->epoch : size.oldest;
    }
    return size;
}

static void json_extents(struct rml_json *json, const struct rml_manifest_part *part)
{
    rml_json_open(json, "extents", '[');
    for (uint32_t i = 0; i < part->extent_count; i++) {
        const struct rml_extent *extent = &part->extents[i];
        rml_json_open(json, NULL, '{');
        rml_json_unsigned(json, "epoch", extent->epoch);
        rml_json_unsigned(json, "offset", extent->offset);
        rml_json_unsigned(json, "bytes", extent->bytes);
        rml_json_unsigned(json, "crc32c", extent->crc32c);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_one(const struct folder *folder, const struct rml_manifest *manifest)
{
    struct rml_json json = {.out = stdout};
    json_begin(&json, folder, "ringctl.checkpoint-show/1");
    rml_json_unsigned(&json, "epoch", manifest->epoch);
    rml_json_integer(&json, "at_ns", manifest->wall_ns);
    rml_json_open(&json, "partitions", '[');
    for (uint32_t i = 0; i < manifest->part_count; i++) {
        const struct rml_manifest_part *part = &manifest->parts[i];
        const struct part_size size = size_of(manifest, part);
        rml_json_open(&json, NULL, '{');
        rml_json_unsigned(&json, "partition", part->partition);
        rml_json_unsigned(&json, "bytes", size.bytes);
        rml_json_unsigned(&json, "own_bytes", size.own_bytes);
        rml_json_unsigned(&json, "chain", rml_manifest_part_checkpoints(part));
        rml_json_unsigned(&json, "oldest_epoch", size.oldest);
        json_extents(&json, part);
        rml_json_close(&json, '}');
    }
    rml_json_close(&json, ']');
    rml_json_open(&json, "notes", '[');
    for (uint32_t i = 0; i < manifest->note_count; i++) {
        rml_json_open(&json, NULL, '{');
        rml_json_text(&json, "name", manifest->notes[i].name);
        rml_json_unsigned(&json, "bytes", manifest->notes[i].bytes);
        rml_json_close(&json, '}');
    }
    rml_json_close(&json, ']');
    json_end(&json);
}

static int print_one(const struct folder *folder, const struct rml_manifest *manifest)
{
    static const char *const columns[] = {">PARTITION", ">BYTES", ">NEW BYTES",
                                          ">EXTENTS",   ">CHAIN", ">OLDEST EPOCH"};
    char at[40], age[32];
    rml_ctl_second(manifest->wall_ns, at);
    rml_about_duration(age_ns(manifest->wall_ns), age);
    printf("folder      %s\n", folder->path);
    printf("epoch       %" PRIu64 "\n", manifest->epoch);
    printf("taken       %s ago, at %s\n", age, at);
    printf("notes       ");
    for (uint32_t i = 0; i < manifest->note_count; i++)
        printf("%s%s", i > 0 ? ", " : "", manifest->notes[i].name);
    printf("\n\n");
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < manifest->part_count; i++) {
        const struct rml_manifest_part *part = &manifest->parts[i];
        const struct part_size size = size_of(manifest, part);
        rml_table_row(&table);
        rml_table_number(&table, part->partition);
        rml_table_number(&table, size.bytes);
        rml_table_number(&table, size.own_bytes);
        rml_table_number(&table, part->extent_count);
        rml_table_number(&table, rml_manifest_part_checkpoints(part));
        rml_table_number(&table, size.oldest);
    }
    return rml_table_end(&table, stdout) < 0 ? RML_EXIT_FAILED : RML_EXIT_OK;
}

// The newest, where none is named; an engine may drop it between two looks.
static int read_one(const struct folder *folder, struct rml_manifest *manifest, struct rml_err *err)
{
    if (folder->epoch != 0)
        return rml_checkpoints_show(folder->checkpoints, folder->epoch, manifest, err);
    int rc = -ENOENT;
    for (int tries = 0; rc == -ENOENT && tries < TRIES; tries++) {
        uint32_t count;
        rc = read_list(folder, &count, err);
        if (rc == 0 && count == 0)
            return -ENOENT;
        if (rc == 0)
            rc = rml_checkpoints_show(folder->checkpoints, list[count - 1].epoch, manifest, err);
    }
    return rc;
}

static int show_one(const struct folder *folder)
{
    struct rml_err err = {0};
    struct rml_manifest manifest = {0};
    int rc = read_one(folder, &manifest, &err), code = RML_EXIT_OK;
    if (rc == -ENOENT)
        code = say_missing(folder);
    else if (rc < 0)
        code = rml_ctl_fail(rc, err.text);
    else if (folder->as_json)
        json_one(folder, &manifest);
    else
        code = print_one(folder, &manifest);
    rml_manifest_fini(&manifest);
    return code;
}

/* verify */

/* Of one pass over what is kept. */
struct verified {
    struct rml_json json;
    struct rml_table table;
    uint32_t read, damaged, dropped;
};

static void complain_as_json(void *context, const char *sentence)
{
    rml_json_text(context, NULL, sentence);
}

static void complain_in_words(void *context, const char *sentence)
{
    (void)context;
    fprintf(stderr, "ringctl: %s\n", sentence);
}

// One that an engine dropped meanwhile is as if it had not been listed.
static int verify_one(const struct folder *folder, uint64_t epoch, struct verified *verified,
                      struct rml_err *err)
{
    if (folder->as_json) {
        rml_json_open(&verified->json, NULL, '{');
        rml_json_unsigned(&verified->json, "epoch", epoch);
        rml_json_open(&verified->json, "damages", '[');
    }
    int rc = rml_checkpoints_verify(folder->checkpoints, epoch,
                                    folder->as_json ? complain_as_json : complain_in_words,
                                    &verified->json, err);
    bool is_gone = rc == -ESTALE || rc == -ENOENT;
    if (folder->as_json) {
        rml_json_close(&verified->json, ']');
        rml_json_bool(&verified->json, "dropped", is_gone);
        rml_json_close(&verified->json, '}');
    } else {
        rml_table_row(&verified->table);
        rml_table_number(&verified->table, epoch);
        rml_table_cell(&verified->table,
                       is_gone   ? "dropped meanwhile"
                       : rc < 0  ? "not read"
                       : rc == 0 ? "sound"
                                 : "%d damaged",
                       rc);
    }
    verified->read += rc >= 0;
    verified->damaged += rc > 0;
    verified->dropped += is_gone;
    return is_gone || rc > 0 ? 0 : rc;
}

// The newest first: it is there longest.
static int verify_listed(const struct folder *folder, struct verified *verified,
                         struct rml_err *err)
{
    int rc = 0;
    uint32_t count = 1;
    for (int tries = 0; rc == 0 && verified->read == 0 && count > 0 && tries < TRIES; tries++) {
        rc = read_list(folder, &count, err);
        for (uint32_t i = count; rc == 0 && i > 0; i--)
            rc = verify_one(folder, list[i - 1].epoch, verified, err);
    }
    if (rc == 0 && count == 0 && !folder->as_json)
        printf("there is no checkpoint yet\n");
    return rc;
}

static bool is_missing(const struct folder *folder)
{
    struct rml_manifest manifest = {0};
    int rc = folder->epoch != 0
                 ? rml_checkpoints_show(folder->checkpoints, folder->epoch, &manifest, NULL)
                 : 0;
    rml_manifest_fini(&manifest);
    return rc == -ENOENT;
}

struct named {
    char names[TABLES_MAX][RML_TABLE_NAME_BYTES];
    uint32_t count, damaged;
};

static void name_one(void *context, const struct rml_shape *shape,
                     const struct rml_shape_state *state)
{
    struct named *named = context;
    (void)state;
    if (named->count < TABLES_MAX)
        snprintf(named->names[named->count++], RML_TABLE_NAME_BYTES, "%s", shape->name);
}

static void name_damage(void *context, const char *sentence)
{
    struct named *named = context;
    named->damaged++;
    complain_in_words(NULL, sentence);
}

static int verify_table(const struct folder *folder, const char *name, struct verified *verified,
                        struct rml_err *err)
{
    uint64_t rows = 0;
    if (folder->as_json) {
        rml_json_open(&verified->json, NULL, '{');
        rml_json_text(&verified->json, "table", name);
        rml_json_open(&verified->json, "damages", '[');
    }
    int rc = rml_results_verify(folder->checkpoints, name,
                                folder->as_json ? complain_as_json : complain_in_words,
                                &verified->json, &rows, err);
    if (folder->as_json) {
        rml_json_close(&verified->json, ']');
        rml_json_unsigned(&verified->json, "rows", rows);
        rml_json_close(&verified->json, '}');
    } else {
        rml_table_row(&verified->table);
        rml_table_cell(&verified->table, "%s", name);
        rml_table_number(&verified->table, rows);
        rml_table_cell(&verified->table,
                       rc < 0    ? "not read"
                       : rc == 0 ? "sound"
                                 : "%d damaged",
                       rc);
    }
    verified->damaged += rc > 0;
    return rc < 0 ? rc : 0;
}

// Rows of result tables are of no one checkpoint: they are as the newest left them.
static int verify_tables(const struct folder *folder, struct verified *verified,
                         struct rml_err *err)
{
    static const char *const columns[] = {"TABLE", ">ROWS", "RESULT"};
    static struct named named;
    int rc = rml_results_list(folder->checkpoints, name_one, name_damage, &named, err);
    if (folder->as_json)
        rml_json_open(&verified->json, "tables", '[');
    else if (named.count > 0)
        rml_table_begin(&verified->table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; rc == 0 && i < named.count; i++) {
        rc = verify_table(folder, named.names[i], verified, err);
        if (rc == -ENOENT)
            rc = 0;  // taken away meanwhile
    }
    if (folder->as_json)
        rml_json_close(&verified->json, ']');
    else if (named.count > 0 && rml_table_end(&verified->table, stdout) < 0 && rc == 0)
        rc = RML_FAIL(err, -ENOMEM, "no memory for a table");
    verified->damaged += named.damaged;
    return rc;
}

static int verify(const struct folder *folder)
{
    static const char *const columns[] = {">EPOCH", "RESULT"};
    struct verified verified = {.json = {.out = stdout}};
    struct rml_err err = {0};
    if (is_missing(folder))
        return say_missing(folder);
    if (folder->as_json) {
        json_begin(&verified.json, folder, "ringctl.checkpoint-verify/1");
        rml_json_open(&verified.json, "checkpoints", '[');
    } else {
        rml_table_begin(&verified.table, columns, sizeof columns / sizeof columns[0]);
    }
    int rc = folder->epoch != 0 ? verify_one(folder, folder->epoch, &verified, &err)
                                : verify_listed(folder, &verified, &err);
    if (folder->as_json)
        rml_json_close(&verified.json, ']');
    else if (rml_table_end(&verified.table, stdout) < 0 && rc == 0)
        rc = RML_FAIL(&err, -ENOMEM, "no memory for a table");
    if (rc == 0 && folder->epoch == 0)
        rc = verify_tables(folder, &verified, &err);
    if (folder->as_json)
        json_end(&verified.json);
    if (rc == 0 && verified.read == 0 && verified.dropped > 0)
        rc = RML_FAIL(&err, -ESTALE, "nothing was verified: the engine had dropped it before");
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    return verified.damaged > 0 ? RML_EXIT_FAILED : RML_EXIT_OK;
}

/* now */

static void json_saved(const struct folder *folder, const uint64_t saved[3])
{
    struct rml_json json = {.out = stdout};
    json_begin(&json, folder, "ringctl.checkpoint-now/1");
    rml_json_unsigned(&json, "epoch", saved[0]);
    rml_json_unsigned(&json, "own_bytes", saved[1]);
    rml_json_unsigned(&json, "took_ns", saved[2]);
    json_end(&json);
}

// `count` numbers, a blank between each two, and nothing else.
static bool read_numbers(const char *text, uint64_t *numbers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char *end;
        errno = 0;
        numbers[i] = strtoull(text, &end, 10);
        if (errno != 0 || end == text || *end != (i + 1 < count ? ' ' : '\0'))
            return false;
        text = end + 1;
    }
    return true;
}

static int take_now(const struct folder *folder)
{
    char answer[RML_VIEW_ANSWER], bytes[32], took[32];
    struct rml_err err = {0};
    uint64_t saved[3];
    int64_t timeout_ns = folder->ctl->timeout_ns;
    int rc =
        rml_view_ask(folder->view, "checkpoint",
                     timeout_ns == RML_CTL_TIMEOUT_NONE ? FOREVER_NS : timeout_ns, answer, &err);
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    if (!read_numbers(answer, saved, 3))
        return rml_ctl_fail(-EPROTO, "the engine's answer tells of no checkpoint");
    if (folder->as_json) {
        json_saved(folder, saved);
        return RML_EXIT_OK;
    }
    rml_size_print_about(saved[1], bytes);
    rml_about_duration((int64_t)saved[2], took);
    printf("checkpoint %" PRIu64 " is durable: %s in %s\n", saved[0], bytes, took);
    return RML_EXIT_OK;
}

/* The command */

static const struct verb {
    const char *name;
    int (*run)(const struct folder *folder);
    bool is_asked;  // of the pipeline, not of the folder
} verbs[] = {{"list", show_list, false},
             {"show", show_one, false},
             {"verify", verify, false},
             {"now", take_now, true}};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    rml_usage_fail("there is no %s; there are list, show, verify and now", name);
    return NULL;
}

static int say_stateless(const struct rml_view *view)
{
    char sentence[RML_WIRE_NAME + 100];
    snprintf(sentence, sizeof sentence,
             "pipeline %s takes no checkpoints: its file has no runtime.state", view->pipeline);
    return rml_ctl_fail(-ENOTSUP, sentence);
}

static bool is_path(const char *word)
{
    return word != NULL && (strchr(word, '/') != NULL || word[0] == '.');
}

// As named, or that of a pipeline that runs: its board knows.
static int find_folder(const struct rml_ctl *ctl, struct rml_view *view, struct folder *folder)
{
    if (is_path(ctl->pipeline)) {
        snprintf(folder->path, sizeof folder->path, "%s", ctl->pipeline);
        return RML_EXIT_OK;
    }
    int code = rml_ctl_open(ctl, view);
    if (code == RML_EXIT_NOT_RUNNING || code == RML_EXIT_DEAD)
        fprintf(stderr, "ringctl: the state of one that does not run is found by its folder, with "
                        "a slash: ./state\n");
    if (code != RML_EXIT_OK)
        return code;
    snprintf(folder->path, sizeof folder->path, "%s", view->board.head->state_folder);
    folder->pipeline = view->pipeline;
    return folder->path[0] != '\0' ? RML_EXIT_OK : say_stateless(view);
}

static int run(const struct verb *verb, struct folder *folder)
{
    struct rml_err err = {0};
    if (verb->is_asked)
        return verb->run(folder);
    rml_guard_catalog(folder->path);
    int rc = rml_checkpoints_open(&folder->checkpoints, folder->path, &err);
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    int code = verb->run(folder);
    rml_checkpoints_close(folder->checkpoints);
    return code;
}

int rml_ctl_cmd_checkpoint(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringctl checkpoint list|show|verify|now [PIPELINE|FOLDER [EPOCH]] [--json]",
        .sentence =
            "list: the checkpoints that are kept, oldest first. show: the newest, or that of "
            "EPOCH, partition by partition. verify: read every byte of all that are kept and "
            "of result tables, or of one checkpoint; exits 1 if there is damage. A FOLDER has a slash in it, and need not be "
            "of a pipeline that runs. The engine is not held up. now: have the pipeline take "
            "one at once, and wait until it is durable.",
        .words_least = 1,
        .words_most = 3,
    };
    struct rml_ctl ctl = {
        .wants_verb = true,
        .timeout_sentence =
            "Wait at most so long for the pipeline's answer (5s), and for `now` to be "
            "durable (for ever); then exit 5.",
    };
    struct folder folder = {0};
    struct rml_view view = RML_VIEW_CLOSED;
    int64_t epoch = 0;
    int code;
    if (!rml_ctl_read(&ctl, &args, argc, argv, &code))
        return code;
    const struct verb *verb = find_verb(ctl.verb);
    if (verb == NULL || !rml_ctl_count("EPOCH", ctl.epoch, &epoch))
        return RML_EXIT_USAGE;
    if (verb->is_asked && (is_path(ctl.pipeline) || ctl.epoch != NULL))
        return rml_ctl_fail(-EINVAL, "now wants a pipeline that runs, and nothing else");
    folder.ctl = &ctl;
    folder.view = &view;
    folder.epoch = (uint64_t)epoch;
    folder.as_json = ctl.as_json;
    code = find_folder(&ctl, &view, &folder);
    if (code == RML_EXIT_OK)
        code = run(verb, &folder);
    rml_view_close(&view);
    return code;
}
