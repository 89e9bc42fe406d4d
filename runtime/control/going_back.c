#include "runtime/control/going_back.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/control/past.h"
#include "runtime/io/file_sink.h"
#include "runtime/time/time.h"

static void name_taken(const struct rml_plan_source *source, char name[RML_PAST_NOTE_BYTES])
{
    snprintf(name, RML_PAST_NOTE_BYTES, "taken %s", source->name);
}

int rml_go_back_note(const struct rml_plan *plan, const uint64_t *taken, struct rml_vault *vault,
                     struct rml_err *err)
{
    int rc = 0;
    for (uint32_t s = 0; rc == 0 && s < plan->source_count; s++) {
        char name[RML_PAST_NOTE_BYTES];
        name_taken(&plan->sources[s], name);
        rc = rml_vault_note(vault, name, &taken[s], sizeof taken[s], err);
    }
    return rc;
}

static bool is_end(const struct rml_manifest *manifest)
{
    return rml_manifest_find_note(manifest, RML_PAST_END_NOTE) != NULL;
}

// "7, 8 and 9"
static void list_kept(const struct rml_vault *vault, char *text, size_t bytes)
{
    uint32_t count = rml_vault_kept_count(vault);
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%" PRIu64,
                                 i == 0           ? ""
                                 : i + 1 == count ? " and "
                                                  : ", ",
                                 rml_vault_kept_at(vault, i)->epoch);
}

static int say_kept(const struct rml_vault *vault, uint64_t epoch, struct rml_err *err)
{
    char kept[RML_VAULT_KEEP_MAX * 24];
    list_kept(vault, kept, sizeof kept);
    if (kept[0] == '\0')
        return RML_FAIL(err, -ENOENT, "there is no checkpoint %" PRIu64 ", nor any other", epoch);
    return RML_FAIL(err, -ENOENT, "there is no checkpoint %" PRIu64 " that can be read; kept %s %s",
                    epoch, rml_vault_kept_count(vault) > 1 ? "are" : "is", kept);
}

int rml_go_back_check(struct rml_vault *vault, uint64_t epoch, struct rml_err *err)
{
    const struct rml_manifest *manifest = rml_vault_kept(vault, epoch);
    if (manifest == NULL)
        return say_kept(vault, epoch, err);
    if (is_end(manifest))
        return RML_FAIL(err, -EINVAL,
                        "checkpoint %" PRIu64
                        " is the end of a run, from which nothing goes on: run without --from to "
                        "begin anew",
                        epoch);
    // one without partitions stands where a run gave up what was before it, and emptied the files
    for (uint32_t i = 0; i < rml_vault_kept_count(vault); i++) {
        const struct rml_manifest *later = rml_vault_kept_at(vault, i);
        if (later->epoch > epoch && later->part_count == 0)
            return RML_FAIL(err, -EINVAL,
                            "checkpoint %" PRIu64
                            " is of an earlier run: the one that began anew at checkpoint %" PRIu64
                            " has written its files over",
                            epoch, later->epoch);
    }
    return rml_vault_verify(vault, epoch, err);
}

uint64_t rml_go_back_where(struct rml_vault *vault)
{
    const struct rml_manifest *newest;
    uint32_t count = rml_vault_kept_count(vault);
    if (rml_vault_newest(vault, &newest, NULL) == 0)
        count--;
    for (; count > 0; count--) {
        uint64_t epoch = rml_vault_kept_at(vault, count - 1)->epoch;
        if (rml_go_back_check(vault, epoch, NULL) == 0)
            return epoch;
    }
    return 0;
}

/* What checkpoints count, one after the other. */

struct counts {
    bool is_known;
    uint64_t records[RML_SOURCES_MAX], rows[RML_SINKS_MAX];
};

static void read_counts(const struct rml_manifest *manifest, const struct rml_plan *plan,
                        struct counts *counts)
{
    *counts = (struct counts){.is_known = true};
    for (uint32_t s = 0; s < plan->source_count; s++) {
        char name[RML_PAST_NOTE_BYTES];
        name_taken(&plan->sources[s], name);
        const struct rml_manifest_note *note = rml_manifest_find_note(manifest, name);
        if (note != NULL && note->bytes == sizeof counts->records[s])
            memcpy(&counts->records[s], note->data, sizeof counts->records[s]);
        else
            counts->is_known = false;
    }
    for (uint32_t s = 0; s < plan->sink_count; s++) {
        char name[RML_PAST_NOTE_BYTES];
        rml_past_name_note(&plan->sinks[s], name);
        const struct rml_manifest_note *note = rml_manifest_find_note(manifest, name);
        if (note != NULL)
            counts->rows[s] =
                rml_file_sink_note_rows((struct rml_writer_note){note->data, note->bytes});
    }
}

static void add(uint64_t *sums, const uint64_t *from, const uint64_t *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sums[i] += to[i] > from[i] ? to[i] - from[i] : 0;
}

static void count_given_up(const struct rml_vault *vault, const struct rml_plan *plan,
                           const struct rml_manifest *to, struct rml_gone_back *gone)
{
    struct counts last, next;
    read_counts(to, plan, &last);
    gone->is_partly_known = !last.is_known;
    for (uint32_t i = 0; i < rml_vault_kept_count(vault); i++) {
        const struct rml_manifest *manifest = rml_vault_kept_at(vault, i);
        if (manifest->epoch <= to->epoch)
            continue;
        read_counts(manifest, plan, &next);
        gone->is_partly_known |= !next.is_known;
        add(gone->records, last.records, next.records, plan->source_count);
        add(gone->rows, last.rows, next.rows, plan->sink_count);
        last = next;
    }
}

int rml_go_back(struct rml_vault *vault, const struct rml_plan *plan, uint64_t epoch,
                struct rml_gone_back *ret_gone, struct rml_err *err)
{
    const struct rml_manifest *to = rml_vault_kept(vault, epoch), *newest;
    *ret_gone = (struct rml_gone_back){.to = epoch, .to_wall_ns = to->wall_ns};
    ret_gone->from = rml_vault_newest_epoch(vault);
    count_given_up(vault, plan, to, ret_gone);
    for (;;) {
        int rc = rml_vault_newest(vault, &newest, NULL);
        if (rc == 0 && newest->epoch == epoch)
            return 0;
        ret_gone->is_partly_known |= rc < 0;  // its notes cannot be read
        rc = rml_vault_go_back(vault, err);
        if (rc < 0)
            return rc;
    }
}

void rml_gone_back_say(const struct rml_gone_back *gone, const struct rml_plan *plan,
                       void (*say)(void *context, const char *sentence), void *context)
{
    char when[40], sentence[400];
    if (gone->from == gone->to)
        return;
    rml_time_print_rfc3339(gone->to_wall_ns, when);
    snprintf(sentence, sizeof sentence,
             "went back from checkpoint %" PRIu64 " to %" PRIu64
             " of %s: what was taken since is in no result any more%s%s",
             gone->from, gone->to, when, plan->journals ? ", but for what is in the journal" : "",
             gone->is_partly_known ? "; not all of it can be counted" : "");
    say(context, sentence);
    for (uint32_t s = 0; s < plan->source_count; s++) {
        if (gone->records[s] == 0)
            continue;
        snprintf(sentence, sizeof sentence, "source %s: %" PRIu64 " records are %s",
                 plan->sources[s].name, gone->records[s],
                 plan->sources[s].journal ? "taken again from the journal" : "missing");
        say(context, sentence);
    }
    for (uint32_t s = 0; s < plan->sink_count; s++) {
        if (gone->rows[s] == 0)
            continue;
        bool is_cut = strcmp(plan->sinks[s].path, "-") != 0;
        snprintf(sentence, sizeof sentence, "sink %s: %" PRIu64 " rows %s", plan->sinks[s].name,
                 gone->rows[s],
                 is_cut ? "are cut off its file" : "were written and may come again");
        say(context, sentence);
    }
}
