/*
 * A watermark W matters where a window ends (it fires) and `late` after that (its state goes). The
 * ends of one window stage lie at offset + size + k * every, its second points `late` further on. The
 * grid holds all of these of all stages below a source: its granule is the greatest common divisor
 * of every `every`, every `late`, and the distances between the stages' first ends; its origin is any
 * one of them. Watermarks between two neighbours of the grid cannot be told apart.
 *
 * Global windows and those of so many records do not look at the watermark. Sessions end anywhere: with one of them every nanosecond is a point of the grid.
 *
 * Lanes count in event time, and W is the greatest event time less out_of_order, so the origin is
 * moved by out_of_order: step(t) = floor((t - origin) / granule).
 */
#include "runtime/plan/reader.h"
#include "runtime/plan/units.h"
#include "runtime/time/time.h"

static void resolve_grid(const struct rml_plan *plan, uint32_t index,
                         struct rml_plan_source *source)
{
    int64_t granule = 0, origin = 0;
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rml_plan_stage *stage = &plan->stages[i];
        if (stage->kind != RML_STAGE_WINDOW || stage->source != index
            || stage->window.kind == RML_WINDOW_GLOBAL || stage->window.kind == RML_WINDOW_COUNT)
            continue;
        if (stage->window.kind == RML_WINDOW_SESSION) {
            granule = 1;
            break;
        }
        int64_t first_end = stage->window.offset_ns + stage->window.size_ns;
        if (granule == 0)
            origin = first_end;
        granule = rml_units_gcd(granule, stage->window.every_ns);
        granule = rml_units_gcd(granule, stage->window.late_ns);
        granule = rml_units_gcd(granule, first_end - origin);
    }
    if (granule == 0) {  // no window: nobody asks for the time
        source->grid_origin_ns = 0;
        source->grid_granule_ns = RML_TIME_END;
        return;
    }
    origin += source->out_of_order_ns;
    source->grid_granule_ns = granule;
    source->grid_origin_ns = origin - rml_time_floor_div(origin, granule) * granule;
}

void rml_resolve_grids(struct rml_plan *plan)
{
    for (uint32_t i = 0; i < plan->source_count; i++)
        resolve_grid(plan, i, &plan->sources[i]);
}
