#include <string.h>

#include "runtime/control/board_state.h"

/* Added up. */

static void add_source(const struct rml_board *board, uint32_t partition, uint32_t source,
                       struct rml_board_totals *totals)
{
    const struct rml_source_counts *counts =
        &board->source_counts[(size_t)partition * board->head->sources + source];
    for (uint32_t c = 0; c < RML_SOURCE_COUNTERS; c++) {
        uint64_t value = rml_count_read(&counts->value[c]);
        uint64_t *total = &totals->source[source][c];
        // A source is as far as its slowest partition; the others are sums.
        if (c != RML_SOURCE_watermark)
            *total += value;
        else if (partition == 0 || (int64_t)value < (int64_t)*total)
            *total = value;
    }
}

static void add_lanes(const struct rml_board *board, struct rml_board_totals *totals)
{
    for (uint32_t s = 0; s < board->head->sources; s++) {
        totals->published[s] = rml_count_read(&board->live_sources[s].published_gone);
        totals->dropped[s] = rml_count_read(&board->live_sources[s].dropped_gone);
    }
    for (uint32_t i = 0; i < board->head->lanes_max; i++) {
        struct rml_board_lane lane;
        rml_board_lane_read(board, i, &lane);
        if (lane.state == RML_BOARD_LANE_FREE || lane.source >= board->head->sources)
            continue;
        totals->published[lane.source] += lane.published;
        totals->dropped[lane.source] += lane.dropped;
    }
}

void rml_board_total(const struct rml_board *board, struct rml_board_totals *totals)
{
    const struct rml_board_head *head = board->head;
    memset(totals, 0, sizeof *totals);
    add_lanes(board, totals);
    for (uint32_t p = 0; p < head->partitions; p++) {
        for (uint32_t s = 0; s < head->sources; s++)
            add_source(board, p, s, totals);
        for (uint32_t s = 0; s < head->stages; s++) {
            const struct rml_stage_counts *counts =
                &board->stage_counts[(size_t)p * head->stages + s];
            for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
                totals->stage[s][c] += rml_count_read(&counts->value[c]);
        }
    }
    for (uint32_t s = 0; s < head->sinks; s++) {
        for (uint32_t c = 0; c < RML_SINK_COUNTERS; c++)
            totals->sink[s][c] = rml_count_read(&board->sink_counts[s].value[c]);
    }
    for (uint32_t w = 0; w < head->workers; w++) {
        for (uint32_t c = 0; c < RML_WORKER_COUNTERS; c++)
            totals->worker[w][c] = rml_count_read(&board->worker_counts[w].value[c]);
    }
    for (uint32_t c = 0; c < RML_JOURNAL_COUNTERS; c++)
        totals->journal[c] = rml_count_read(&board->live->journal.value[c]);
}

/* After a death. */

// What counts what there is now counts nothing: the state is lost.
static void lose_state(struct rml_stage_counts *counts)
{
    _Atomic uint64_t *value = counts->value;
    uint64_t lost = rml_count_read(&value[RML_STAGE_keys]);
    if (lost == 0)  // no key, but one group of all records
        lost = rml_count_read(&value[RML_STAGE_panes]) > 0;
    rml_count(&value[RML_STAGE_keys_lost], lost);
    rml_count_set(&value[RML_STAGE_keys], 0);
    rml_count_set(&value[RML_STAGE_panes], 0);
    rml_count_set(&value[RML_STAGE_sessions], 0);
    rml_count_set(&value[RML_STAGE_state_bytes], 0);
}

void rml_board_lose_state(struct rml_board *board)
{
    for (uint32_t i = 0; i < board->head->partitions * board->head->stages; i++)
        lose_state(&board->stage_counts[i]);
    for (uint32_t w = 0; w < board->head->workers; w++)
        rml_count_set(&board->worker_counts[w].value[RML_WORKER_asleep_since], 0);
}
