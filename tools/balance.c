#include "tools/balance.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/control/engine.h"
#include "tools/json.h"

void rml_balance_init(struct rml_balance *balance, const struct rml_plan *plan)
{
    memset(balance, 0, sizeof *balance);
    balance->source_count = plan->source_count;
    balance->stage_count = plan->stage_count;
    for (uint32_t i = 0; i < plan->source_count; i++)
        balance->sources[i].name = plan->sources[i].name;
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        balance->stages[i].name = plan->stages[i].name;
        balance->stages[i].source = plan->stages[i].source;
        balance->stages[i].from = plan->stages[i].from;
        balance->stages[i].from_late = plan->stages[i].from_late;
    }
}

void rml_balance_init_board(struct rml_balance *balance, const struct rml_board *board)
{
    memset(balance, 0, sizeof *balance);
    balance->source_count = board->head->sources;
    balance->stage_count = board->head->stages;
    for (uint32_t i = 0; i < balance->source_count; i++)
        balance->sources[i].name = board->sources[i].name;
    for (uint32_t i = 0; i < balance->stage_count; i++) {
        balance->stages[i].name = board->stages[i].name;
        balance->stages[i].source = board->stages[i].source;
        balance->stages[i].from = board->stages[i].from;
        balance->stages[i].from_late = board->stages[i].from_late != 0;
    }
}

void rml_balance_fill(struct rml_balance *balance, const struct rml_board_totals *totals)
{
    for (uint32_t i = 0; i < balance->source_count; i++) {
        memcpy(balance->sources[i].counts, totals->source[i], sizeof totals->source[i]);
        balance->sources[i].published = totals->published[i];
        balance->sources[i].dropped = totals->dropped[i];
    }
    for (uint32_t i = 0; i < balance->stage_count; i++)
        memcpy(balance->stages[i].counts, totals->stage[i], sizeof totals->stage[i]);
}

static bool source_holds(const struct rml_balance_source *source)
{
    const uint64_t *counts = source->counts;
    if (source->from_file && source->lines != source->malformed_lines + source->published)
        return false;
    uint64_t taken = counts[RML_SOURCE_taken];
    return (source->may_leave ? source->published >= taken : source->published == taken)
           && counts[RML_SOURCE_taken]
                  == counts[RML_SOURCE_delivered] + counts[RML_SOURCE_malformed]
                         + counts[RML_SOURCE_ahead];
}

/* What came out of where the stage reads. */
static uint64_t let_out(const struct rml_balance *balance, const struct rml_balance_stage *stage)
{
    if (stage->from == RML_NO_STAGE)
        return balance->sources[stage->source].counts[RML_SOURCE_delivered];
    return balance->stages[stage->from]
        .counts[stage->from_late ? RML_STAGE_late : RML_STAGE_passed];
}

static bool stage_holds(const struct rml_balance *balance, uint32_t index)
{
    const struct rml_balance_stage *stage = &balance->stages[index];
    uint64_t doors = 0;
    for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
        doors += rml_stage_counter_info[c].is_door ? stage->counts[c] : 0;
    return stage->counts[RML_STAGE_in] == doors
           && stage->counts[RML_STAGE_in] + stage->counts[RML_STAGE_missed]
                  == let_out(balance, stage) + stage->counts[RML_STAGE_inherited];
}

bool rml_balance_holds(const struct rml_balance *balance)
{
    bool holds = true;
    for (uint32_t i = 0; i < balance->source_count; i++)
        holds = holds && source_holds(&balance->sources[i]);
    for (uint32_t i = 0; i < balance->stage_count; i++)
        holds = holds && stage_holds(balance, i);
    return holds;
}

static const char *verdict(const struct rml_balance *balance, bool holds)
{
    return holds ? "" : balance->moving ? "   moving" : "   DOES NOT ADD UP";
}

static void print_source(const struct rml_balance *balance, uint32_t index, FILE *out)
{
    const struct rml_balance_source *source = &balance->sources[index];
    fprintf(out, "source %-16s ", source->name);
    if (source->from_file)
        fprintf(out, "%" PRIu64 " lines = %" PRIu64 " malformed + ", source->lines,
                source->malformed_lines);
    fprintf(out, "%" PRIu64 " published; taken %" PRIu64 " = delivered %" PRIu64, source->published,
            source->counts[RML_SOURCE_taken], source->counts[RML_SOURCE_delivered]);
    if (source->counts[RML_SOURCE_malformed] > 0)
        fprintf(out, " + malformed %" PRIu64, source->counts[RML_SOURCE_malformed]);
    if (source->counts[RML_SOURCE_ahead] > 0)
        fprintf(out, " + ahead %" PRIu64, source->counts[RML_SOURCE_ahead]);
    if (source->may_leave && source->published > source->counts[RML_SOURCE_taken])
        fprintf(out, "; left in lanes %" PRIu64,
                source->published - source->counts[RML_SOURCE_taken]);
    if (source->dropped > 0)
        fprintf(out, "; dropped for want of room %" PRIu64, source->dropped);
    fprintf(out, "%s\n", verdict(balance, source_holds(source)));
}

static void print_stage(const struct rml_balance *balance, uint32_t index, FILE *out)
{
    const struct rml_balance_stage *stage = &balance->stages[index];
    fprintf(out, "stage  %-16s in %" PRIu64, stage->name, stage->counts[RML_STAGE_in]);
    const char *sign = " =";
    for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++) {
        if (!rml_stage_counter_info[c].is_door || stage->counts[c] == 0)
            continue;
        fprintf(out, "%s %s %" PRIu64, sign, rml_stage_counter_info[c].name, stage->counts[c]);
        sign = " +";
    }
    if (stage->counts[RML_STAGE_missed] > 0)
        fprintf(out, "; %" PRIu64 " had gone by before it began", stage->counts[RML_STAGE_missed]);
    if (stage->counts[RML_STAGE_inherited] > 0)
        fprintf(out, "; %" PRIu64 " came before what it reads began",
                stage->counts[RML_STAGE_inherited]);
    if (stage->counts[RML_STAGE_evicted] > 0)
        fprintf(out, "; evicted %" PRIu64 " keys", stage->counts[RML_STAGE_evicted]);
    if (stage->counts[RML_STAGE_windows_evicted] > 0)
        fprintf(out, "; gave %" PRIu64 " windows early", stage->counts[RML_STAGE_windows_evicted]);
    fprintf(out, "%s\n", verdict(balance, stage_holds(balance, index)));
}

void rml_balance_print(const struct rml_balance *balance, FILE *out)
{
    for (uint32_t i = 0; i < balance->source_count; i++)
        print_source(balance, i, out);
    for (uint32_t i = 0; i < balance->stage_count; i++)
        print_stage(balance, i, out);
    fprintf(out, "%s\n",
            rml_balance_holds(balance) ? "every record left by one door"
            : balance->moving          ? "records are moving: what differs is on its way"
                                       : "the balance does not add up");
}

static void json_source(const struct rml_balance_source *source, struct rml_json *json)
{
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "name", source->name);
    if (source->from_file) {
        rml_json_unsigned(json, "lines", source->lines);
        rml_json_unsigned(json, "malformed_lines", source->malformed_lines);
    }
    rml_json_unsigned(json, "published", source->published);
    rml_json_unsigned(json, "dropped", source->dropped);
    rml_json_unsigned(json, "taken", source->counts[RML_SOURCE_taken]);
    rml_json_unsigned(json, "delivered", source->counts[RML_SOURCE_delivered]);
    rml_json_unsigned(json, "malformed", source->counts[RML_SOURCE_malformed]);
    rml_json_unsigned(json, "ahead", source->counts[RML_SOURCE_ahead]);
    rml_json_bool(json, "adds_up", source_holds(source));
    rml_json_close(json, '}');
}

static void json_stage(const struct rml_balance *balance, uint32_t index, struct rml_json *json)
{
    const struct rml_balance_stage *stage = &balance->stages[index];
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "name", stage->name);
    rml_json_unsigned(json, "in", stage->counts[RML_STAGE_in]);
    rml_json_open(json, "doors", '{');
    for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++) {
        if (rml_stage_counter_info[c].is_door)
            rml_json_unsigned(json, rml_stage_counter_info[c].name, stage->counts[c]);
    }
    rml_json_close(json, '}');
    rml_json_unsigned(json, "rows_out", stage->counts[RML_STAGE_rows_out]);
    rml_json_unsigned(json, "evicted", stage->counts[RML_STAGE_evicted]);
    rml_json_unsigned(json, "windows_evicted", stage->counts[RML_STAGE_windows_evicted]);
    rml_json_unsigned(json, "missed", stage->counts[RML_STAGE_missed]);
    rml_json_unsigned(json, "inherited", stage->counts[RML_STAGE_inherited]);
    rml_json_bool(json, "adds_up", stage_holds(balance, index));
    rml_json_close(json, '}');
}

void rml_balance_json(const struct rml_balance *balance, struct rml_json *json)
{
    bool holds = rml_balance_holds(balance);
    rml_json_bool(json, "adds_up", holds);
    rml_json_bool(json, "moving", balance->moving && !holds);
    rml_json_open(json, "sources", '[');
    for (uint32_t i = 0; i < balance->source_count; i++)
        json_source(&balance->sources[i], json);
    rml_json_close(json, ']');
    rml_json_open(json, "stages", '[');
    for (uint32_t i = 0; i < balance->stage_count; i++)
        json_stage(balance, i, json);
    rml_json_close(json, ']');
}
