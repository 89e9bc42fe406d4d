#include "runtime/control/checkpointer.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/control/going_back.h"
#include "runtime/control/past.h"
#include "runtime/io/pile.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"
#include "runtime/state/snapshot.h"
#include "runtime/table/mend.h"
#include "runtime/table/tables.h"

#define BUFFERS      64u  // of each worker
#define QUEUE_LENGTH 64u
#define LOCK_WAIT_NS INT64_C(10000000000)  // for the last writes of an engine that was killed
#define ROWS_BYTES   ((uint64_t)1 << 40)   // of tables: one step may make as many as there are keys
#define RETRY_NS     (INT64_C(1) * 1000000000)  // after one that failed

enum command { BEGIN, BEGIN_LAST, STOP, WANT };  // and behind WANT why

struct rml_checkpointer {
    struct rml_checkpointer_options options;
    char folder[4096];
    struct rml_vault *vault;
    struct rml_tables *tables;
    struct rml_handover handovers[RML_WORKERS_MAX];
    struct rml_bell bell;
    struct rml_queue commands, news;
    struct rml_past past;
    struct rml_past_journal journal;  // of the open one
    bool started;
    pthread_t thread;

    // The control thread's.
    uint64_t next_number;

    // The thread's own.
    struct rml_writer *writer;
    uint64_t rounds;  // of marks that were begun
    bool stopping, is_open, is_end;
    int rc;  // of the open one
    uint64_t number, epoch, bytes;
    uint64_t taken[RML_SOURCES_MAX];  // what it covers
    uint64_t last_bytes;              // of the last one that became durable
    uint32_t parts_left;
    int64_t began_ns, ended_ns, due_ns;
    bool told_due;
    bool wanted;  // another, since the open one began
    enum rml_board_wanted wanted_by;
    char why[600];  // the open one failed, or the last one
};

static int64_t now_ns(const struct rml_checkpointer *c)
{
    return c->options.clock->monotonic_ns(c->options.clock->context);
}

static struct rml_vault_options vault_options(const struct rml_checkpointer *c)
{
    struct rml_vault_options options = {0};
    if (c->options.vault != NULL)
        options = *c->options.vault;
    options.lock_wait_ns = LOCK_WAIT_NS;
    options.keep = c->options.plan->checkpoint_keep;
    if (options.catalog_bytes_max == 0)
        options.catalog_bytes_max = c->options.plan->catalog_bytes_max;
    options.rows_bytes_max = ROWS_BYTES;
    return options;
}

static int note_files(struct rml_checkpointer *c, struct rml_err *err)
{
    int rc = rml_writer_round(c->writer, err);
    for (uint32_t s = 0; rc == 0 && s < c->options.plan->sink_count; s++) {
        char name[RML_PAST_NOTE_BYTES];
        rml_past_name_note(&c->options.plan->sinks[s], name);
        const struct rml_writer_note note = rml_writer_note(c->writer, s);
        if (note.data != NULL)
            rc = rml_vault_note(c->vault, name, note.data, note.bytes, err);
    }
    return rc;
}

/* One checkpoint */

static int begin_in_vault(struct rml_checkpointer *c, struct rml_err *err)
{
    const struct rml_clock *clock = c->options.clock;
    return rml_vault_begin(c->vault, clock->wall_ns(clock->context), c->last_bytes, &c->epoch, err);
}

// Of the newest checkpoint what the one under way still needs: the last `needs` of a partition's snapshots.
static int keep_chain(struct rml_checkpointer *c, uint32_t partition, uint32_t needs,
                      struct rml_err *err)
{
    if (needs == 0)
        return 0;
    const struct rml_manifest *newest;
    int rc = rml_vault_newest(c->vault, &newest, err);
    if (rc < 0)
        return rc;
    const struct rml_manifest_part *part = rml_manifest_find(newest, partition);
    RML_CHECK(!c->past.is_new && part != NULL);
    uint32_t from = part->extent_count, epochs = 0;
    while (from > 0) {
        bool is_other = from == part->extent_count
                        || part->extents[from - 1].epoch != part->extents[from].epoch;
        if (is_other && ++epochs > needs)
            break;
        from--;
    }
    return rml_vault_keep(c->vault, partition, part->extents + from, part->extent_count - from,
                          err);
}

static int commit_in_vault(struct rml_checkpointer *c, struct rml_err *err)
{
    int rc = rml_fit_note(c->options.plan, c->options.fitting.life, c->vault, err);
    for (uint32_t p = 0; rc == 0 && p < c->options.plan->partitions; p++)
        rc = rml_vault_describe(c->vault, p, &c->number, sizeof c->number, err);
    if (rc == 0)
        rc = rml_go_back_note(c->options.plan, c->taken, c->vault, err);
    if (rc == 0)
        rc = note_files(c, err);
    if (rc == 0)
        rc = rml_past_note_journal(c->options.plan, c->vault, &c->journal, err);
    if (rc == 0)
        rc = rml_tables_put(c->tables, c->vault, rml_writer_pile(c->writer), err);
    if (rc == 0 && c->is_end)
        rc = rml_vault_note(c->vault, RML_PAST_END_NOTE, "", 0, err);
    if (rc < 0)
        return rc;
    rc = rml_vault_commit(c->vault, err);
    if (rc == -EBADMSG)
        rc = RML_WRAP(err, rc,
                      "no checkpoint comes to be; end the run, and `ringmill run %.80s` tells what "
                      "can be given up",
                      c->options.plan->path);
    return rc;
}

// Open the vault anew, and see whether the last checkpoint that was begun is in it.
static int open_vault(struct rml_checkpointer *c, bool *ret_is_there, struct rml_err *err)
{
    const struct rml_vault_options options = vault_options(c);
    int rc = rml_vault_open(&c->vault, c->options.folder, &options, err);
    if (rc < 0)
        return rc;
    const struct rml_manifest *newest = NULL;
    struct rml_err why = {0};
    rc = rml_vault_newest(c->vault, &newest, &why);
    *ret_is_there = rc == 0 && newest->epoch == c->epoch;
    if (rc == 0 || rc == -ENOENT)
        return 0;
    *err = why;
    return rc;
}

static void close_vault(struct rml_checkpointer *c)
{
    rml_vault_close(c->vault);
    c->vault = NULL;
}

// Nobody knows whether the last commit took place: what the vault says when opened anew is true.
static int ask_again(struct rml_checkpointer *c, struct rml_err *err)
{
    bool is_there = false;
    close_vault(c);
    int rc = open_vault(c, &is_there, err);
    if (rc < 0)
        close_vault(c);
    return rc == 0 && !is_there ? -EIO : rc;
}

// The disk may be well again. A commit that took place after all was said not to have, and the next checkpoint
// goes on from the one before it.
static int try_again(struct rml_checkpointer *c, struct rml_err *err)
{
    bool is_there = false;
    int rc = open_vault(c, &is_there, err);
    if (rc == 0 && is_there)
        rml_tables_undone(c->tables);
    if (rc == 0 && is_there && !c->past.is_new)
        rc = rml_vault_go_back(c->vault, err);
    if (rc < 0)
        close_vault(c);
    return rc;
}

static void failed(struct rml_checkpointer *c, int rc, const struct rml_err *err)
{
    if (c->rc < 0)
        return;  // the first reason is the one
    c->rc = rc;
    snprintf(c->why, sizeof c->why, "%s", err->text);
    char sentence[600];
    snprintf(sentence, sizeof sentence, "checkpoint %" PRIu64 " failed: %s", c->number, err->text);
    if (c->options.complain != NULL)
        c->options.complain(c->options.complain_context, sentence);
}

static void give_news(struct rml_checkpointer *c, const struct rml_checkpointer_news *news)
{
    RML_CHECK(rml_queue_give(&c->news, news));  // one DUE and one DONE at most
    rml_bell_ring(c->options.bell);
}

static void want(struct rml_checkpointer *c, enum rml_board_wanted why)
{
    c->wanted_by = c->wanted ? c->wanted_by : why;
    c->wanted = true;
    int64_t least = c->ended_ns + c->options.plan->checkpoint_min_pause_ns;
    c->due_ns = least < c->due_ns ? least : c->due_ns;
}

static void open_one(struct rml_checkpointer *c, bool is_end)
{
    struct rml_err err = {0};
    c->is_open = true;
    c->rounds++;
    c->is_end = is_end;
    c->number += c->rc == 0;  // one that failed is tried again
    c->rc = 0;
    c->bytes = 0;
    memset(c->taken, 0, sizeof c->taken);
    c->parts_left = c->options.plan->partitions;
    c->began_ns = now_ns(c);
    c->told_due = c->wanted = false;
    int rc = c->vault == NULL ? try_again(c, &err) : 0;
    if (rc == 0)
        rc = begin_in_vault(c, &err);
    if (rc < 0)
        failed(c, rc, &err);
}

static void close_one(struct rml_checkpointer *c)
{
    struct rml_err err = {0};
    int rc = c->rc == 0 ? commit_in_vault(c, &err) : 0;
    if (c->vault != NULL && rml_vault_has_failed(c->vault))
        rc = ask_again(c, &err);
    if (rc < 0)
        failed(c, rc, &err);
    if (c->rc < 0 && c->vault != NULL)
        rml_vault_abandon(c->vault);
    if (c->rc == 0) {
        c->past.is_new = false;
        if (c->options.durable != NULL && c->options.plan->journals)
            c->options.durable(c->options.durable_context, c->journal.journaled);
        c->last_bytes = c->bytes;
        rml_tables_committed(c->tables);
        rml_tables_count(c->tables, c->options.sinks);
        rml_pile_settle(rml_writer_pile(c->writer));
    }
    c->is_open = false;
    c->ended_ns = now_ns(c);
    c->due_ns = c->ended_ns + (c->rc < 0 ? RETRY_NS : c->options.plan->checkpoint_every_ns);
    if (c->rc == 0 && c->wanted)
        want(c, c->wanted_by);
    struct rml_checkpointer_news news = {.kind = RML_CHECKPOINTER_DONE,
                                         .rc = c->rc,
                                         .why = c->why,
                                         .number = c->number,
                                         .epoch = c->epoch,
                                         .bytes = c->bytes,
                                         .took_ns = (uint64_t)(c->ended_ns - c->began_ns)};
    if (c->vault != NULL)
        news.catalog = rml_vault_catalog_use(c->vault);
    give_news(c, &news);
}

static void take_message(struct rml_checkpointer *c, const struct rml_handover_message *message)
{
    struct rml_err err = {0};
    RML_CHECK(c->is_open && message->number == c->number);
    c->bytes += message->bytes;
    int rc = 0;
    if (c->rc == 0 && message->is_first != 0)
        rc = keep_chain(c, message->partition, message->needs, &err);
    if (c->rc == 0 && rc == 0 && message->bytes > 0)
        rc = rml_vault_append(c->vault, message->partition, message->buffer, message->bytes, &err);
    if (rc < 0)
        failed(c, rc, &err);
    if (!message->is_last)
        return;
    c->parts_left--;
    for (uint32_t s = 0; s < c->options.plan->source_count; s++)
        c->taken[s] += message->taken[s];
    c->journal.journaled[message->partition] = message->journaled;
}

/* The thread */

static bool take_commands(struct rml_checkpointer *c)
{
    uint64_t command;
    bool any = false;
    while (rml_queue_take(&c->commands, &command)) {
        any = true;
        if (command >= WANT)
            want(c, (enum rml_board_wanted)(command - WANT));
        else if (command == STOP)
            c->stopping = true;
        else
            open_one(c, command == BEGIN_LAST);
    }
    return any;
}

// All that a worker has, so that a partition's bytes lie together.
static bool take_messages(struct rml_checkpointer *c)
{
    bool any = false;
    struct rml_handover_message message;
    for (uint32_t w = 0; w < c->options.plan->workers; w++) {
        while (rml_handover_take(&c->handovers[w], &message)) {
            if (!c->is_open)
                (void)take_commands(c);  // it was told before the worker was
            take_message(c, &message);
            rml_handover_put_back(&c->handovers[w], message.buffer);
            any = true;
        }
    }
    if (c->is_open && c->parts_left == 0 && rml_writer_rounds(c->writer) == c->rounds)
        close_one(c);
    // between two of them, lest one that settles rows makes room be wanted once more
    if (!c->is_open && !c->wanted
        && rml_pile_bytes(rml_writer_pile(c->writer)) > RML_PILE_BYTES / 2) {
        want(c, RML_BOARD_WANTED_TABLES);
        any = true;
    }
    return any;
}

static void tell_if_due(struct rml_checkpointer *c)
{
    if (c->is_open || c->told_due || now_ns(c) < c->due_ns)
        return;
    c->told_due = true;
    give_news(c, &(struct rml_checkpointer_news){.kind = RML_CHECKPOINTER_DUE,
                                                 .wanted_by = c->wanted ? c->wanted_by
                                                                        : RML_BOARD_WANTED_PERIOD});
}

static int sleep_ms(const struct rml_checkpointer *c)
{
    if (c->is_open || c->told_due)
        return -1;
    int64_t left = (c->due_ns - now_ns(c)) / 1000000 + 1;
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

static void *work(void *context)
{
    struct rml_checkpointer *c = context;
    c->due_ns = now_ns(c) + c->options.plan->checkpoint_every_ns;
    while (!c->stopping) {
        bool any = take_commands(c);
        any |= take_messages(c);
        tell_if_due(c);
        if (any)
            continue;
        rml_bell_expect(&c->bell);
        any = take_commands(c);
        any |= take_messages(c);
        if (any)
            rml_bell_awake(&c->bell);
        else
            rml_bell_wait(&c->bell, sleep_ms(c));
    }
    return NULL;
}

int rml_checkpointer_start(struct rml_checkpointer *c, struct rml_writer *writer,
                           struct rml_err *err)
{
    c->writer = writer;
    sigset_t all, before;
    sigfillset(&all);  // signals are the control thread's
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&c->thread, NULL, work, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return RML_FAIL(err, -rc, "no thread for checkpoints: %s", strerrordesc_np(rc));
    pthread_setname_np(c->thread, "rml-checkpoint");
    c->started = true;
    return 0;
}

/* The control thread's side */

static void tell(struct rml_checkpointer *c, uint64_t word)
{
    RML_CHECK(rml_queue_give(&c->commands, &word));
    rml_bell_ring(&c->bell);
}

void rml_checkpointer_want(struct rml_checkpointer *c, enum rml_board_wanted why)
{
    tell(c, WANT + (uint64_t)why);
}

uint64_t rml_checkpointer_begin(struct rml_checkpointer *c, bool is_end)
{
    tell(c, is_end ? BEGIN_LAST : BEGIN);
    return c->next_number;
}

bool rml_checkpointer_hear(struct rml_checkpointer *c, struct rml_checkpointer_news *ret_news)
{
    if (!rml_queue_take(&c->news, ret_news))
        return false;
    if (ret_news->kind == RML_CHECKPOINTER_DONE && ret_news->rc == 0)
        c->next_number = ret_news->number + 1;
    return true;
}

struct rml_restored *rml_checkpointer_past(struct rml_checkpointer *c)
{
    return c->past.parts;
}

void rml_checkpointer_forget_past(struct rml_checkpointer *c)
{
    rml_past_forget(&c->past);
}

uint64_t rml_checkpointer_restored(const struct rml_checkpointer *c)
{
    return c->past.restored;
}

uint64_t rml_checkpointer_restored_epoch(const struct rml_checkpointer *c)
{
    return c->past.epoch;
}

const char *rml_checkpointer_way(const struct rml_checkpointer *c)
{
    return rml_vault_way(c->vault);
}

const char *rml_checkpointer_why_not(const struct rml_checkpointer *c)
{
    return rml_vault_why_not(c->vault);
}

uint64_t rml_checkpointer_renewed(const struct rml_checkpointer *c)
{
    return c->past.renewed;
}

const struct rml_gone_back *rml_checkpointer_gone_back(const struct rml_checkpointer *c)
{
    return &c->past.gone_back;
}

struct rml_checkpointer_life rml_checkpointer_life(const struct rml_checkpointer *c)
{
    return (struct rml_checkpointer_life){.life = c->past.journal.life,
                                          .vault = rml_vault_id(c->vault),
                                          .journaled = c->past.journal.journaled};
}

struct rml_bell *rml_checkpointer_bell(struct rml_checkpointer *c)
{
    return &c->bell;
}

const struct rml_writer_note *rml_checkpointer_notes(const struct rml_checkpointer *c)
{
    return c->past.notes;
}

struct rml_handover *rml_checkpointer_handover(struct rml_checkpointer *c, uint32_t worker)
{
    return &c->handovers[worker];
}

// Stages whose tables begin anew: they do themselves, or the whole pipeline does and they were named.
static uint64_t emptied(const struct rml_checkpointer *c)
{
    const struct rml_fitting_options *fitting = &c->past.options.fitting;
    uint64_t stages = c->past.renewed;
    for (uint32_t i = 0; c->past.is_new && i < fitting->name_count; i++) {
        uint32_t stage = rml_plan_stage_find(c->options.plan, fitting->names[i]);
        if (stage != UINT32_MAX)
            stages |= UINT64_C(1) << stage;
    }
    return stages;
}

// A catalog that is damaged is mended where only tables would lose by it that begin anew.
static int open_first(struct rml_checkpointer *c, struct rml_err *err)
{
    struct rml_fitting_options *fitting = &c->options.fitting;
    struct rml_table_mend mend = {.plan = c->options.plan,
                                  .names = fitting->names,
                                  .name_count = c->options.again ? 0 : fitting->name_count,
                                  .all = c->options.fresh,
                                  .say = fitting->say,
                                  .say_context = fitting->say_context};
    const struct rml_catalog_mending mending = rml_table_mend(&mend);
    struct rml_vault_options options = vault_options(c);
    options.mending = &mending;
    int rc = rml_vault_open(&c->vault, c->options.folder, &options, err);
    // names are for the first engine of a life to find: the next ones no longer have what it gave up
    fitting->known = c->options.again ? UINT64_MAX : mend.found;
    rml_table_mend_fini(&mend);
    return rc;
}

static int set_up(struct rml_checkpointer *c, struct rml_err *err)
{
    const struct rml_plan *plan = c->options.plan;
    int rc = rml_bell_open(&c->bell, err);
    if (rc == 0)
        rc = rml_queue_open(&c->commands, sizeof(uint64_t), QUEUE_LENGTH, err);
    if (rc == 0)
        rc = rml_queue_open(&c->news, sizeof(struct rml_checkpointer_news), QUEUE_LENGTH, err);
    for (uint32_t w = 0; rc == 0 && w < plan->workers; w++)
        rc = rml_handover_open(&c->handovers[w], BUFFERS, &c->bell, err);
    if (rc < 0)
        return rc;
    rc = open_first(c, err);
    if (rc == -EBADMSG && err != NULL) {
        const struct rml_err what = *err;
        return RML_FAIL(err, rc, "%s; move the folder away to begin anew without it", what.text);
    }
    const struct rml_past_options past = {.plan = plan,
                                          .folder = c->folder,
                                          .clock = c->options.clock,
                                          .fresh = c->options.fresh,
                                          .again = c->options.again,
                                          .from = c->options.from,
                                          .fitting = c->options.fitting};
    if (rc == 0)
        rc = rml_past_read(&c->past, c->vault, &past, err);
    if (rc == 0)
        rc = rml_tables_open(&c->tables, plan, c->vault, emptied(c), err);
    if (rc == 0 && c->past.is_new)
        rml_tables_begin_anew(c->tables);
    if (rc == 0)
        rml_tables_count(c->tables, c->options.sinks);
    c->journal.life = c->past.journal.life;
    c->number = c->past.restored;
    c->next_number = c->past.restored + 1;
    return rc;
}

int rml_checkpointer_open(struct rml_checkpointer **ret_checkpointer,
                          const struct rml_checkpointer_options *options, struct rml_err *err)
{
    size_t bytes = (sizeof(struct rml_checkpointer) + 127) / 128 * 128;
    struct rml_checkpointer *c = aligned_alloc(128, bytes);
    if (c == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for checkpoints");
    memset(c, 0, bytes);
    c->options = *options;
    snprintf(c->folder, sizeof c->folder, "%s", options->folder);
    c->options.folder = c->folder;
    c->options.fitting.plan = options->plan;
    c->options.fitting.folder = c->folder;
    c->bell = RML_BELL_CLOSED;
    int rc = set_up(c, err);
    if (rc < 0) {
        rml_checkpointer_close(c);
        return rc;
    }
    *ret_checkpointer = c;
    return 0;
}

void rml_checkpointer_close(struct rml_checkpointer *c)
{
    if (c == NULL)
        return;
    if (c->started) {
        tell(c, STOP);
        pthread_join(c->thread, NULL);
    }
    rml_checkpointer_forget_past(c);
    for (uint32_t w = 0; w < c->options.plan->workers; w++)
        rml_handover_close(&c->handovers[w]);
    rml_tables_close(c->tables);
    rml_vault_close(c->vault);
    rml_queue_close(&c->commands);
    rml_queue_close(&c->news);
    rml_bell_close(&c->bell);
    free(c);
}
