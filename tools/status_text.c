#include <inttypes.h>
#include <stdio.h>

#include "runtime/plan/units.h"
#include "runtime/time/time.h"
#include "tools/about.h"
#include "tools/ctl.h"
#include "tools/explain.h"
#include "tools/status.h"
#include "tools/table.h"

static void print_restarts(const struct rml_board *board)
{
    uint32_t restarts = rml_board_restarts(board);
    struct rml_board_death death;
    char at[40];
    if (restarts == 0)
        return;
    rml_board_death_read(board, &death);
    rml_ctl_second(death.wall_ns, at);
    printf("restarts    %" PRIu32 ", the last at %s: process %" PRIu32 " died: %s\n", restarts, at,
           death.pid, death.why);
    if (board->head->state_folder[0] == '\0')
        printf("            (windows that were open then are lost, with all that was in them)\n");
}

static void print_last_saved(const struct rml_status *status, const struct rml_board_saves *saves)
{
    char age[32], bytes[32], took[32], most[32];
    if (saves->epoch == 0) {
        printf("checkpoints none yet");
        return;
    }
    rml_about_duration(rml_time_sub(status->wall_ns, saves->durable_ns), age);
    rml_size_print_about(saves->bytes, bytes);
    rml_about_duration((int64_t)saves->took_ns, took);
    rml_about_duration((int64_t)saves->took_ns_most, most);
    printf("checkpoints %" PRIu64 ", the last of them %" PRIu64 ", %s ago: %s in %s (%s at most)",
           saves->durable, saves->epoch, age, bytes, took, most);
}

// A catalog that is as it should be says nothing.
static void print_catalog(const struct rml_status *status, const struct rml_board_saves *saves)
{
    char bytes[32], most[32], since[32];
    if (saves->times_held_back == 0)
        return;
    rml_size_print_about(saves->catalog_bytes, bytes);
    rml_size_print_about(saves->catalog_bytes_max, most);
    printf("            the catalog takes %s, %s at most; readers held it back %" PRIu64 " times",
           bytes, most, saves->times_held_back);
    rml_about_duration(rml_time_sub(status->wall_ns, saves->reader_since_ns), since);
    if (saves->reader_pid != 0)
        printf(", process %" PRIu32 " (%s) does so for %s: it reads what it was %" PRIu64
               " commits ago",
               saves->reader_pid, saves->reader_program, since, saves->reader_behind);
    printf("\n");
}

static void print_saves(const struct rml_status *status)
{
    struct rml_board_saves saves;
    if (status->board->head->state_folder[0] == '\0') {
        printf("checkpoints none: its file has no runtime.state\n");
        return;
    }
    rml_board_saves_read(status->board, &saves);
    print_last_saved(status, &saves);
    printf(", by %s%s%s%s\n", saves.way, saves.why_not[0] != '\0' ? " (" : "", saves.why_not,
           saves.why_not[0] != '\0' ? ")" : "");
    printf("            because of");
    for (uint32_t i = 0; i < RML_BOARD_WANTED_COUNT; i++)
        printf("%s %s %" PRIu64, i > 0 ? "," : "", rml_status_wanted[i], saves.wanted[i]);
    printf("\n");
    if (saves.failed > 0) {
        char at[40];
        rml_ctl_second(saves.failed_ns, at);
        printf("            %" PRIu64 " failed, the last at %s: %s\n", saves.failed, at,
               saves.failed_why);
    }
    if (saves.lanes_full + saves.schedules_full > 0)
        printf("            producers or workers waited for one: %" PRIu64
               " times a lane was full, %" PRIu64 " times a schedule\n",
               saves.lanes_full, saves.schedules_full);
    print_catalog(status, &saves);
    if (saves.restored_epoch != 0)
        printf("            it went on from checkpoint %" PRIu64 "\n", saves.restored_epoch);
    if (saves.gone_back_from != 0)
        printf("            back from %" PRIu64 ": %" PRIu64 " records and %" PRIu64
               " rows of files are missing\n",
               saves.gone_back_from, saves.records_missing, saves.rows_missing);
}

// Who was let in says nothing; who was not is worth a line.
static void print_gate(const struct rml_gate_counts *counts)
{
    bool any = false;
    for (uint32_t c = RML_GATE_let_in + 1; c < RML_GATE_COUNTERS; c++) {
        uint64_t count = rml_count_read(&counts->value[c]);
        if (count == 0)
            continue;
        printf("%s%" PRIu64 " %s", any ? ", " : "turned away ", count,
               rml_gate_counter_info[c].name);
        any = true;
    }
    if (any)
        printf("\n");
}

static void print_head(const struct rml_status *status)
{
    const struct rml_board_head *head = status->board->head;
    char since[40], up[32], allocated[32], resident[32];
    rml_ctl_second(head->start_ns, since);
    rml_about_duration(rml_status_uptime(status), up);
    printf("pipeline    %s\n", status->pipeline);
    printf("state       %s\n", rml_ctl_state(status->board));
    printf("file        %s\n", head->path);
    uint32_t engine = rml_board_engine_pid(status->board);
    printf("process     %" PRIu32 ", user %" PRIu32, head->pid, head->uid);
    if (engine != head->pid)
        printf(", engine %" PRIu32, engine);
    printf("\n");
    printf("up          %s, since %s\n", up, since);
    print_restarts(status->board);
    print_saves(status);
    rml_status_journal_text(status);
    rml_size_print_about(rml_count_read(&status->board->live->memory_allocated), allocated);
    rml_size_print_about(rml_count_read(&status->board->live->memory_resident), resident);
    printf("memory      %s allocated, %s resident (%s), besides state and rings\n", allocated,
           resident, head->allocator);
    printf("partitions  %" PRIu32 "\n", head->partitions);
    printf("lanes       %" PRIu32 " of %" PRIu32 "\n", rml_ctl_lanes(status->board),
           head->lanes_max);
    print_gate(&status->board->live->gate);
}

static int print_workers(const struct rml_status *status)
{
    const struct rml_board *board = status->board;
    static const char *const columns[] = {">WORKER", ">CPU",    ">STEPS",  ">RECORDS",
                                          ">ASLEEP", ">SLEEPS", ">WAITED", ">LONGEST STEP"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t w = 0; w < board->head->workers; w++) {
        const uint64_t *counts = status->look.totals.worker[w];
        char asleep[32], waited[32], longest[32];
        rml_about_duration((int64_t)status->look.asleep_ns[w], asleep);
        rml_about_duration((int64_t)counts[RML_WORKER_backpressure_ns], waited);
        int cpu = rml_board_cpu(board, w);
        rml_table_row(&table);
        rml_table_number(&table, w);
        rml_table_cell(&table, cpu >= 0 ? "%d" : "any", cpu);
        rml_table_number(&table, counts[RML_WORKER_steps]);
        rml_table_number(&table, counts[RML_WORKER_records]);
        rml_table_cell(&table, "%s", asleep);
        rml_table_number(&table, counts[RML_WORKER_sleeps]);
        rml_table_cell(&table, "%s", waited);
        rml_about_duration((int64_t)counts[RML_WORKER_step_ns_max], longest);
        rml_table_cell(&table, "%s", longest);
    }
    return rml_table_end(&table, stdout);
}

static int print_sources(const struct rml_status *status)
{
    const struct rml_board *board = status->board;
    static const char *const columns[] = {"SOURCE",    ">LANES",     ">PUBLISHED", ">TAKEN",
                                          ">BACKLOG",  ">DROPPED",   ">MALFORMED", ">AHEAD",
                                          "WATERMARK", ">BEHIND NOW"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t s = 0; s < board->head->sources; s++) {
        const uint64_t *counts = status->look.totals.source[s];
        char time[40] = "-", lag[32] = "-";
        int64_t watermark;
        if (rml_status_watermark(status, s, &watermark)) {
            rml_time_print_rfc3339(watermark, time);
            rml_about_duration(rml_time_sub(status->wall_ns, watermark), lag);
        }
        rml_table_row(&table);
        rml_table_cell(&table, "%s", board->sources[s].name);
        rml_table_number(&table, rml_status_lanes(status, s));
        rml_table_number(&table, status->look.totals.published[s]);
        rml_table_number(&table, counts[RML_SOURCE_taken]);
        rml_table_number(&table, rml_status_backlog(status, s));
        rml_table_number(&table, status->look.totals.dropped[s]);
        rml_table_number(&table, counts[RML_SOURCE_malformed]);
        rml_table_number(&table, counts[RML_SOURCE_ahead]);
        rml_table_cell(&table, "%s", time);
        rml_table_cell(&table, "%s", lag);
    }
    return rml_table_end(&table, stdout);
}

static int print_stages(const struct rml_status *status)
{
    const struct rml_board *board = status->board;
    static const char *const columns[] = {"STAGE", "KIND",  "FROM",     ">IN",   ">OUT",
                                          ">LATE", ">KEYS", ">EVICTED", ">STATE"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t s = 0; s < board->head->stages; s++) {
        const struct rml_board_stage *stage = &board->stages[s];
        const uint64_t *counts = status->look.totals.stage[s];
        char from[RML_STATUS_NAME], state[32];
        rml_status_from(board, s, from);
        rml_size_print_about(counts[RML_STAGE_state_bytes], state);
        rml_table_row(&table);
        rml_table_cell(&table, "%s", stage->name);
        rml_table_cell(&table, "%s",
                       stage->kind == RML_STAGE_WINDOW ? rml_explain_window_kinds[stage->window]
                                                       : rml_explain_stage_kinds[stage->kind]);
        rml_table_cell(&table, "%s", from);
        rml_table_number(&table, counts[RML_STAGE_in]);
        rml_table_number(&table, rml_look_out(&status->look, board, s));
        rml_table_number(&table, counts[RML_STAGE_late]);
        rml_table_number(&table, counts[RML_STAGE_keys]);
        rml_table_number(&table, counts[RML_STAGE_evicted]);
        rml_table_cell(&table, "%s", state);
    }
    return rml_table_end(&table, stdout);
}

static int print_sinks(const struct rml_status *status)
{
    const struct rml_board *board = status->board;
    static const char *const columns[] = {"SINK",   "TYPE",  "FROM", ">ROWS",
                                          ">BYTES", ">LOST", "FILE"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t s = 0; s < board->head->sinks; s++) {
        const struct rml_board_sink *sink = &board->sinks[s];
        const uint64_t *counts = status->look.totals.sink[s];
        char from[256] = "", one[RML_STATUS_NAME];
        size_t used = 0;
        for (uint32_t i = 0; i < sink->from_count && used < sizeof from; i++) {
            rml_status_output(board, sink->from[i], one);
            used +=
                (size_t)snprintf(from + used, sizeof from - used, "%s%s", i > 0 ? ", " : "", one);
        }
        bool is_ring = sink->kind == RML_SINK_RING;
        rml_table_row(&table);
        rml_table_cell(&table, "%s", sink->name);
        rml_table_cell(&table, "%s", rml_explain_sink_kinds[sink->kind]);
        rml_table_cell(&table, "%s", from);
        // rows of a ring are written by the stage itself and counted there
        rml_table_cell(&table, is_ring ? "-" : "%" PRIu64, counts[RML_SINK_rows]);
        rml_table_cell(&table, is_ring ? "-" : "%" PRIu64, counts[RML_SINK_bytes]);
        rml_table_cell(&table, is_ring ? "-" : "%" PRIu64, counts[RML_SINK_lost]);
        rml_table_cell(&table, "%s", sink->path);
    }
    return rml_table_end(&table, stdout);
}

int rml_status_text(const struct rml_status *status)
{
    int (*const parts[])(const struct rml_status *) = {print_workers, print_sources, print_stages,
                                                       print_sinks};
    print_head(status);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        printf("\n");
        int rc = parts[i](status);
        if (rc < 0)
            return rc;
    }
    return 0;
}
