#include "runtime/control/past.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/journal.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/table/tables.h"

#define JOURNAL_NOTE "journal"

static int compare(struct rml_past *past, const struct rml_manifest *manifest, struct rml_err *err)
{
    return rml_fit(&past->options.fitting, manifest, &past->renewed, err);
}

/* Reading what is there */

/* Partitions that are being put together, one after the other. */
struct reading {
    struct rml_past *past;
    uint32_t partition;
    uint64_t epoch;  // of its last extent; 0: there was none
    struct rml_err err;
};

// Extents of one checkpoint are one stream.
static int read_extent(void *context, uint32_t partition, const struct rml_extent *extent,
                       const void *bytes)
{
    struct reading *reading = context;
    struct rml_restored *part = &reading->past->parts[partition];
    int rc = 0;
    if (reading->partition != partition)
        reading->epoch = 0;
    reading->partition = partition;
    if (reading->epoch != extent->epoch)
        rc = rml_restored_stream(part, &reading->err);
    reading->epoch = extent->epoch;
    return rc == 0 ? rml_restored_bytes(part, bytes, extent->bytes, &reading->err) : rc;
}

static int open_parts(struct rml_past *past, const struct rml_manifest *manifest,
                      struct rml_err *err)
{
    const struct rml_plan *plan = past->options.plan;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < manifest->part_count; i++) {
        uint32_t partition = manifest->parts[i].partition;
        if (partition >= plan->partitions)
            return RML_FAIL(err, -EBADMSG, "checkpoint %" PRIu64 " has a partition %u",
                            manifest->epoch, partition);
        rc = rml_restored_open(&past->parts[partition], plan->state_bytes_max, err);
    }
    return rc;
}

static int read_parts(struct rml_past *past, const struct rml_manifest *manifest,
                      struct rml_err *err)
{
    int rc = open_parts(past, manifest, err);
    if (rc < 0)
        return rc;
    struct reading reading = {.past = past};
    rc = rml_vault_load_newest(past->vault, manifest->epoch, read_extent, &reading, err);
    if (rc < 0 && reading.err.code < 0)
        return RML_FAIL(err, rc, "checkpoint %" PRIu64 ": partition %u: %s", manifest->epoch,
                        reading.partition, reading.err.text);
    for (uint32_t i = 0; rc == 0 && i < manifest->part_count; i++)
        rc = rml_restored_end(&past->parts[manifest->parts[i].partition], err);
    return rc;
}

static int read_number(struct rml_past *past, const struct rml_manifest *manifest,
                       struct rml_err *err)
{
    for (uint32_t i = 0; i < manifest->part_count; i++) {
        const struct rml_manifest_part *part = &manifest->parts[i];
        if (part->blob_bytes != sizeof past->restored)
            return RML_FAIL(err, -EBADMSG, "checkpoint %" PRIu64 ": partition %u has no number",
                            manifest->epoch, part->partition);
        memcpy(&past->restored, part->blob, sizeof past->restored);
    }
    if (manifest->part_count != past->options.plan->partitions)
        return RML_FAIL(err, -EBADMSG, "checkpoint %" PRIu64 " has %u partitions, not %u",
                        manifest->epoch, manifest->part_count, past->options.plan->partitions);
    return 0;
}

void rml_past_name_note(const struct rml_plan_sink *sink, char name[RML_PAST_NOTE_BYTES])
{
    snprintf(name, RML_PAST_NOTE_BYTES, "file %s", sink->name);
}

static int read_notes(struct rml_past *past, const struct rml_manifest *manifest,
                      struct rml_err *err)
{
    for (uint32_t s = 0; s < past->options.plan->sink_count; s++) {
        char name[RML_PAST_NOTE_BYTES];
        rml_past_name_note(&past->options.plan->sinks[s], name);
        const struct rml_manifest_note *note = rml_manifest_find_note(manifest, name);
        if (note == NULL)
            continue;
        void *copy = malloc(note->bytes > 0 ? note->bytes : 1);
        if (copy == NULL)
            return RML_FAIL(err, -ENOMEM, "no memory");
        memcpy(copy, note->data, note->bytes);
        past->note_memory[s] = copy;
        past->notes[s] = (struct rml_writer_note){copy, note->bytes};
    }
    return 0;
}

static size_t journal_bytes(const struct rml_plan *plan)
{
    return offsetof(struct rml_past_journal, journaled) + plan->partitions * sizeof(uint64_t);
}

// What a life has in the journal goes by a name that no other life has: the epoch at which it began, or, where
// a journal came later, that of the last checkpoint without one.
static int read_journal(struct rml_past *past, const struct rml_manifest *manifest,
                        struct rml_err *err)
{
    const struct rml_manifest_note *note = rml_manifest_find_note(manifest, JOURNAL_NOTE);
    past->journal.life = manifest->epoch;
    if (note == NULL)
        return 0;
    if (note->bytes != journal_bytes(past->options.plan))
        return RML_FAIL(err, -EBADMSG, "checkpoint %" PRIu64 ": its note of the journal is damaged",
                        manifest->epoch);
    memcpy(&past->journal, note->data, note->bytes);
    return 0;
}

int rml_past_note_journal(const struct rml_plan *plan, struct rml_vault *vault,
                          const struct rml_past_journal *journal, struct rml_err *err)
{
    if (!plan->journals)
        return 0;
    return rml_vault_note(vault, JOURNAL_NOTE, journal, (uint32_t)journal_bytes(plan), err);
}

// From here on what is there is of a life that is over, whatever becomes of this one.
static int end_old_life(struct rml_past *past, bool is_fresh, struct rml_err *err)
{
    const struct rml_clock *clock = past->options.clock;
    const struct rml_manifest *newest;
    uint64_t epoch;
    int rc = rml_vault_newest(past->vault, &newest, err);
    // Not gone back from, step by step: who dies before the commit below finds all as it was.
    if (rc == -EBADMSG)
        rml_vault_give_up(past->vault);
    else if (rc < 0 && rc != -ENOENT)
        return rc;
    // Where there was no checkpoint yet there may be a journal all the same.
    if (rc == -ENOENT && !rml_journal_is_there(past->options.folder))
        return 0;
    rc = rml_vault_begin(past->vault, clock->wall_ns(clock->context), 0, &epoch, err);
    if (rc == 0)
        rc = rml_vault_note(past->vault, RML_PAST_END_NOTE, "", 0, err);
    if (rc == 0 && is_fresh)
        rc = rml_tables_remove_all(past->vault, err);
    return rc == 0 ? rml_vault_commit(past->vault, err) : rc;
}

// An engine that died between its last checkpoint and its end leaves one that the next ends from. What
// has no partitions is the end of a life that was given up.
static bool is_over(const struct rml_past *past, const struct rml_manifest *manifest)
{
    bool says_so = rml_manifest_find_note(manifest, RML_PAST_END_NOTE) != NULL;
    return says_so && (!past->options.again || manifest->part_count == 0);
}

static int go_back(struct rml_past *past, struct rml_err *err)
{
    uint64_t epoch = past->options.from;
    int rc = rml_go_back_check(past->vault, epoch, err);
    if (rc == 0)
        rc = compare(past, rml_vault_kept(past->vault, epoch), err);
    return rc == 0 ? rml_go_back(past->vault, past->options.plan, epoch, &past->gone_back, err)
                   : rc;
}

// What is damaged was said; then what can be done.
static int say_damaged(struct rml_past *past, struct rml_err *err)
{
    uint64_t newest = rml_vault_newest_epoch(past->vault), other = rml_go_back_where(past->vault);
    const char *file = past->options.plan->path;
    const struct rml_err what = *err;
    if (other != 0)
        return RML_FAIL(err, -EBADMSG,
                        "checkpoint %" PRIu64 " is damaged: %s; `ringmill run --from %" PRIu64
                        " %s` goes back to one that is sound, and tells what is missing then",
                        newest, what.text, other, file);
    return RML_FAIL(err, -EBADMSG,
                    "checkpoint %" PRIu64
                    " is damaged: %s; there is none to go back to; `ringmill run --fresh %s` "
                    "begins anew",
                    newest, what.text, file);
}

static int read_newest(struct rml_past *past, struct rml_err *err)
{
    const struct rml_manifest *manifest;
    int rc = 0;
    bool goes_back = past->options.from != 0 && !past->options.again && !past->options.fresh;
    if (past->options.fresh)
        rc = end_old_life(past, true, err);
    else if (goes_back)
        rc = go_back(past, err);
    if (rc < 0)
        return rc;
    rc = rml_vault_newest(past->vault, &manifest, err);
    if (rc == -ENOENT || (rc == 0 && is_over(past, manifest))) {
        past->is_new = true;
        // an engine that comes after this one shall not take it for the end of this life
        int ended = rc == 0 && manifest->part_count > 0 ? end_old_life(past, false, err) : 0;
        if (ended == 0 && rml_vault_newest(past->vault, &manifest, err) == 0)
            past->journal.life = manifest->epoch;
        return ended;
    }
    if (rc == 0 && !goes_back)  // it was compared before all behind it was given up
        rc = compare(past, manifest, err);
    if (rc == 0)
        rc = read_journal(past, manifest, err);
    if (rc == 0)
        rc = read_number(past, manifest, err);
    if (rc == 0)
        rc = read_notes(past, manifest, err);
    past->epoch = rc == 0 ? manifest->epoch : 0;
    return rc == 0 ? read_parts(past, manifest, err) : rc;
}

int rml_past_read(struct rml_past *past, struct rml_vault *vault,
                  const struct rml_past_options *options, struct rml_err *err)
{
    const struct rml_plan *plan = options->plan;
    *past = (struct rml_past){.options = *options, .vault = vault};
    past->parts = calloc(plan->partitions, sizeof *past->parts);
    if (past->parts == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for checkpoints");
    int rc = read_newest(past, err);
    if (rc == -EBADMSG && options->from == 0)
        rc = say_damaged(past, err);
    past->vault = NULL;
    return rc;
}

void rml_past_forget(struct rml_past *past)
{
    for (uint32_t p = 0; past->parts != NULL && p < past->options.plan->partitions; p++)
        rml_restored_close(&past->parts[p]);
    free(past->parts);
    past->parts = NULL;
    for (uint32_t s = 0; s < RML_SINKS_MAX; s++) {
        free(past->note_memory[s]);
        past->note_memory[s] = NULL;
        past->notes[s] = (struct rml_writer_note){0};
    }
}
