#include "operators/window_row.h"

#include <string.h>

static void store(const struct rml_schema *schema, unsigned char *record, uint32_t field,
                  const void *cell)
{
    rml_cell_store(schema->fields[field].type, cell, record + schema->fields[field].offset);
}

static void store_null(const struct rml_schema *schema, unsigned char *record, uint32_t field)
{
    static const uint64_t nothing[RML_CELL_BYTES_MAX / 8];
    store(schema, record, field, nothing);
    if (!schema->fields[field].nullable)
        return;
    uint64_t nulls;
    memcpy(&nulls, record, sizeof nulls);
    nulls |= UINT64_C(1) << field;
    memcpy(record, &nulls, sizeof nulls);
}

void rml_window_row_emit(const struct rml_operator_env *env, const struct rml_keyed *keyed,
                         const struct rml_aggregator *aggregator, const struct rml_window_row *row)
{
    const struct rml_plan_stage *stage = keyed->stage;
    const struct rml_schema *schema = &stage->output;
    rml_count(&env->counts[RML_STAGE_rows_out], 1);
    rml_count(&env->counts[RML_STAGE_early], row->is_partial);
    if (env->output == RML_OUTPUTS_MAX)
        return;
    unsigned char *record = env->row(env->context, env->output, row->fire)->record;
    uint32_t field = 0;
    store(schema, record, field++, &row->start);
    store(schema, record, field++, &row->end);
    const unsigned char *key = keyed->has_key ? rml_keys_row(&keyed->keys, row->slot)->key : NULL;
    for (uint32_t i = 0; i < stage->key_count; i++) {
        store(schema, record, field++, key);
        key += keyed->cell_bytes[i];
    }
    const int64_t revision = row->revision;
    store(schema, record, field++, &revision);
    if (stage->window.kind == RML_WINDOW_SESSION) {
        const uint8_t retracted = row->state == NULL;
        store(schema, record, field++, &retracted);
    }
    if (rml_plan_gives_early(&stage->window)) {
        const uint8_t partial = row->is_partial;
        store(schema, record, field++, &partial);
    }
    if (rml_plan_evicts(stage)) {
        const uint8_t evicted = row->evicted;
        store(schema, record, field++, &evicted);
    }
    for (uint32_t i = 0; i < aggregator->result_count; i++, field++) {
        uint64_t cell[RML_CELL_BYTES_MAX / 8];
        if (row->state != NULL
            && rml_aggregator_result(aggregator, i, row->state, row->records, row->length_ns, cell))
            store(schema, record, field, cell);
        else
            store_null(schema, record, field);
    }
}
