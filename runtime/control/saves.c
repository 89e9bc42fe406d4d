#include "runtime/control/saves.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/control/going_back.h"

#define SAID_NS (INT64_C(60) * 1000000000)

static void show(struct rml_saves *s)
{
    rml_board_saves_write(s->board, &s->row);
}

void rml_saves_open(struct rml_saves *s, uint64_t restored_epoch, const char *way,
                    const char *why_not, const struct rml_gone_back *gone)
{
    rml_board_saves_read(s->board, &s->row);
    s->row.restored_epoch = restored_epoch;
    snprintf(s->row.way, sizeof s->row.way, "%s", way);
    snprintf(s->row.why_not, sizeof s->row.why_not, "%s", why_not);
    for (uint32_t i = 0; gone->from != gone->to && i < s->plan->source_count; i++)
        s->row.records_missing += gone->records[i];
    for (uint32_t i = 0; gone->from != gone->to && i < s->plan->sink_count; i++)
        s->row.rows_missing += gone->rows[i];
    if (gone->from != gone->to)
        s->row.gone_back_from = gone->from;
    s->said_ns = INT64_MIN;
    s->held.times = s->row.times_held_back;
    s->row.reader_pid = 0;  // the first checkpoint tells
    show(s);
}

void rml_saves_begun(struct rml_saves *s, enum rml_board_wanted why)
{
    s->row.wanted_by = why;
    s->row.wanted[why]++;
    show(s);
}

static void see_readers(struct rml_saves *s, const struct rml_catalog_use *use, int64_t wall_ns)
{
    char sentence[RML_HELD_BACK_SENTENCE];
    int64_t now_ns = s->clock->monotonic_ns(s->clock->context);
    if (use->bytes == 0)
        return;  // nobody could look
    bool has_news = rml_held_back_see(&s->held, use, now_ns, wall_ns, sentence);
    s->row.catalog_bytes = use->bytes;
    s->row.catalog_bytes_max = use->bytes_max;
    s->row.reader_count = use->reader_count;
    s->row.reader_pid = s->held.is_long ? s->held.pid : 0;
    s->row.reader_behind = use->reader_behind;
    s->row.reader_since_ns = s->held.since_wall_ns;
    s->row.times_held_back = s->held.times;
    if (has_news && s->held.is_long)
        rml_held_back_program(s->held.pid, s->row.reader_program);
    if (has_news && s->complain != NULL)
        s->complain(s->complain_context, sentence);
}

void rml_saves_done(struct rml_saves *s, const struct rml_checkpointer_news *news)
{
    int64_t wall_ns = s->clock->wall_ns(s->clock->context);
    if (news->rc < 0) {
        s->row.failed++;
        s->row.failed_ns = wall_ns;
        snprintf(s->row.failed_why, sizeof s->row.failed_why, "%s", news->why);
    } else {
        s->row.durable++;
        s->row.epoch = news->epoch;
        s->row.durable_ns = wall_ns;
        s->row.bytes = news->bytes;
        s->row.bytes_all += news->bytes;
        s->row.took_ns = news->took_ns;
        s->row.took_ns_all += news->took_ns;
        s->row.took_ns_most =
            news->took_ns > s->row.took_ns_most ? news->took_ns : s->row.took_ns_most;
    }
    see_readers(s, &news->catalog, wall_ns);
    show(s);
}

void rml_saves_full(struct rml_saves *s, uint32_t source)
{
    bool is_lane = source < s->plan->source_count;
    int64_t now_ns = s->clock->monotonic_ns(s->clock->context);
    *(is_lane ? &s->row.lanes_full : &s->row.schedules_full) += 1;
    show(s);
    if (s->complain == NULL || (s->said_ns != INT64_MIN && now_ns - s->said_ns < SAID_NS))
        return;
    s->said_ns = now_ns;
    char sentence[400];
    if (is_lane)
        snprintf(sentence, sizeof sentence,
                 "a lane of source %s is full of records that no checkpoint covers yet: its "
                 "producer %s; more `cells`, or a shorter `every` and `min_pause` of "
                 "runtime.checkpoint, or a faster disk, would help (%" PRIu64 " times so far)",
                 s->plan->sources[source].name,
                 s->plan->sources[source].on_full == RML_ON_FULL_BLOCK ? "waits" : "drops",
                 s->row.lanes_full);
    else
        snprintf(sentence, sizeof sentence,
                 "a schedule is full of steps that no checkpoint covers yet: its partition waits; "
                 "larger batches of producers, or a faster disk, would help (%" PRIu64
                 " times so far)",
                 s->row.schedules_full);
    s->complain(s->complain_context, sentence);
}

void rml_saves_end_unsaved(struct rml_saves *s)
{
    char sentence[300];
    s->row.is_end_unsaved |= RML_BOARD_END_UNSAVED;
    show(s);
    if (s->complain == NULL)
        return;
    uint64_t epoch = s->row.epoch != 0 ? s->row.epoch : s->row.restored_epoch;
    if (epoch != 0)
        snprintf(
            sentence, sizeof sentence,
            "what was taken since checkpoint %" PRIu64
            " is in none: the next run goes on from there without it, and cuts files back to it",
            epoch);
    else
        snprintf(sentence, sizeof sentence,
                 "no checkpoint has what was taken: the next run begins anew, and empties files");
    s->complain(s->complain_context, sentence);
}

void rml_saves_end_left(struct rml_saves *s, uint64_t records, bool may_be_more)
{
    char sentence[200];
    s->row.is_end_unsaved |= RML_BOARD_END_LEFT;
    show(s);
    if (s->complain == NULL)
        return;
    snprintf(sentence, sizeof sentence,
             "%s%" PRIu64
             " records that were published are lost: a stop does not wait for a journal "
             "that cannot be written",
             may_be_more ? "what a shared lane had not taken over, and " : "", records);
    s->complain(s->complain_context, sentence);
}
