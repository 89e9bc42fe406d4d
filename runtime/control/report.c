#include "runtime/control/report.h"

#include <inttypes.h>
#include <unistd.h>

static const char *const variant_names[] = {"plain", "staged", "flush"};

// A text that a peer chose: only what needs no escape is shown.
static void print_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++)
        fputc(*text >= ' ' && *text < 0x7f && *text != '"' && *text != '\\' ? *text : '?', out);
    fputc('"', out);
}

static void print_counters(FILE *out, const struct rml_counter_info *info, uint32_t count,
                           const uint64_t *values)
{
    for (uint32_t i = 0; i < count; i++)
        fprintf(out, ",\"%s\":%" PRIu64, info[i].name, values[i]);
}

static void print_sources(const struct rml_report *report, const struct rml_engine_totals *totals,
                          FILE *out)
{
    fputs(",\"sources\":[", out);
    for (uint32_t s = 0; s < report->plan->source_count; s++) {
        const uint64_t *values = totals->source[s];
        fprintf(out, "%s{\"name\":\"%s\",\"published\":%" PRIu64 ",\"dropped\":%" PRIu64,
                s > 0 ? "," : "", report->plan->sources[s].name, totals->published[s],
                totals->dropped[s]);
        // the watermark is signed, and the last of the table
        print_counters(out, rml_source_counter_info, RML_SOURCE_watermark, values);
        int64_t watermark = (int64_t)values[RML_SOURCE_watermark];
        if (watermark == RML_TIME_NONE || watermark == RML_TIME_END)
            fputs(",\"watermark\":null}", out);
        else
            fprintf(out, ",\"watermark\":%" PRId64 "}", watermark);
    }
    fputc(']', out);
}

static void print_stages(const struct rml_report *report, const struct rml_engine_totals *totals,
                         FILE *out)
{
    static const char *const kinds[] = {"filter", "map", "window"};
    fputs(",\"stages\":[", out);
    for (uint32_t s = 0; s < report->plan->stage_count; s++) {
        const struct rml_plan_stage *stage = &report->plan->stages[s];
        fprintf(out, "%s{\"name\":\"%s\",\"kind\":\"%s\",\"source\":\"%s\"", s > 0 ? "," : "",
                stage->name, kinds[stage->kind], report->plan->sources[stage->source].name);
        print_counters(out, rml_stage_counter_info, RML_STAGE_COUNTERS, totals->stage[s]);
        fputc('}', out);
    }
    fputc(']', out);
}

static void print_lanes(const struct rml_report *report, FILE *out)
{
    bool first = true;
    fputs(",\"lanes\":[", out);
    for (uint32_t i = 0; i < report->plan->lanes_max; i++) {
        struct rml_engine_lane_info lane;
        if (!rml_engine_lane_look(report->engine, i, &lane))
            continue;
        fprintf(out, "%s{\"lane\":%u,\"source\":\"%s\",\"state\":\"%s\"", first ? "" : ",", i,
                report->plan->sources[lane.source].name, lane.finishing ? "finishing" : "attached");
        first = false;
        const struct rml_report_peer *peer = report->peer(report->context, i);
        if (peer != NULL) {
            fprintf(out, ",\"pid\":%" PRId64 ",\"uid\":%" PRId64 ",\"program\":", peer->pid,
                    peer->uid);
            print_text(out, peer->program);
        }
        fprintf(out,
                ",\"published\":%" PRIu64 ",\"taken\":%" PRIu64 ",\"released\":%" PRIu64
                ",\"dropped\":%" PRIu64 ",\"variant\":\"%s\"}",
                lane.counts.published, lane.counts.taken, lane.counts.released, lane.counts.dropped,
                (unsigned)lane.counts.variant < RML_RING_VARIANTS
                    ? variant_names[lane.counts.variant]
                    : "?");
    }
    fputc(']', out);
}

void rml_report_print(const struct rml_report *report, FILE *out)
{
    static _Thread_local struct rml_engine_totals totals;
    rml_engine_totals(report->engine, &totals);
    fprintf(out,
            "{\"schema\":\"ringmill.report/1\",\"pipeline\":\"%s\",\"pid\":%ld,\"state\":\"%s\","
            "\"uptime_ns\":%" PRId64 ",\"partitions\":%u",
            report->plan->name, (long)getpid(), report->state, report->uptime_ns,
            report->plan->partitions);
    print_sources(report, &totals, out);
    print_stages(report, &totals, out);
    fputs(",\"sinks\":[", out);
    for (uint32_t s = 0; s < report->plan->sink_count; s++) {
        fprintf(out, "%s{\"name\":\"%s\"", s > 0 ? "," : "", report->plan->sinks[s].name);
        print_counters(out, rml_sink_counter_info, RML_SINK_COUNTERS, totals.sink[s]);
        fputc('}', out);
    }
    fputs("],\"workers\":[", out);
    for (uint32_t w = 0; w < report->plan->workers; w++) {
        fprintf(out, "%s{\"worker\":%u", w > 0 ? "," : "", w);
        print_counters(out, rml_worker_counter_info, RML_WORKER_COUNTERS, totals.worker[w]);
        fputc('}', out);
    }
    fputc(']', out);
    print_lanes(report, out);
    fputs("}\n", out);
}
