#include "tools/look.h"

void rml_look_take(struct rml_look *look, const struct rml_board *board, int64_t now_ns)
{
    look->at_ns = now_ns;
    rml_board_total(board, &look->totals);
    for (uint32_t w = 0; w < board->head->workers; w++) {
        const uint64_t *counts = look->totals.worker[w];
        uint64_t since = counts[RML_WORKER_asleep_since], now = (uint64_t)now_ns;
        look->asleep_ns[w] = counts[RML_WORKER_parked_ns];
        if (since != 0 && since < now)
            look->asleep_ns[w] += now - since;
    }
}

double rml_look_rate(const struct rml_look *before, const struct rml_look *after, uint64_t was,
                     uint64_t is)
{
    int64_t passed_ns = after->at_ns - before->at_ns;
    return passed_ns <= 0 || is < was ? 0 : (double)(is - was) * 1e9 / (double)passed_ns;
}

double rml_look_busy(const struct rml_look *before, const struct rml_look *after, uint32_t worker)
{
    // words of a worker that falls asleep just now are read one after the other: keep to the possible
    double asleep =
        rml_look_rate(before, after, before->asleep_ns[worker], after->asleep_ns[worker]) / 1e9;
    return after->at_ns <= before->at_ns || asleep > 1 ? 0 : 1 - asleep;
}

uint64_t rml_look_out(const struct rml_look *look, const struct rml_board *board, uint32_t stage)
{
    return look->totals
        .stage[stage][board->stages[stage].kind == RML_STAGE_WINDOW ? RML_STAGE_rows_out
                                                                    : RML_STAGE_passed];
}
