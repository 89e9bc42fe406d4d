#include "runtime/partition/emit.h"

#include <string.h>

#include "runtime/base/check.h"
#include "runtime/partition/operator.h"
#include "runtime/state/roots.h"
#include "runtime/time/time.h"

static bool is_read(const struct rml_plan *plan, uint32_t stage, bool late)
{
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct rml_plan_sink *sink = &plan->sinks[i];
        for (uint32_t j = 0; j < sink->from_count; j++) {
            if (sink->from[j].stage == stage && sink->from[j].late == late)
                return true;
        }
    }
    return false;
}

uint32_t rml_outputs_list(const struct rml_plan *plan, struct rml_output *outputs)
{
    uint32_t count = 0;
    for (uint32_t s = 0; s < plan->stage_count; s++) {
        const struct rml_plan_stage *stage = &plan->stages[s];
        const struct rml_schema *late = &plan->sources[stage->source].schema;
        if (is_read(plan, s, false))
            outputs[count++] = (struct rml_output){
                .stage = s, .source = stage->source, .row_bytes = stage->output.record_bytes};
        if (is_read(plan, s, true))
            outputs[count++] = (struct rml_output){
                .stage = s, .source = stage->source, .late = true, .row_bytes = late->record_bytes};
    }
    return count;
}

static void write_output(struct rml_emit *emit, uint32_t output, struct rml_roots *roots)
{
    bool late = emit->outputs[output].late;
    rml_roots_name(roots, emit->plan->stages[emit->outputs[output].stage].name);
    RML_ROOTS_WALK(roots, late);
    RML_ROOTS_WALK(roots, emit->next_seq[output]);
}

// Of an output that nobody reads any more the number is forgotten.
static void read_output(struct rml_emit *emit, struct rml_roots *roots)
{
    char name[RML_ROOTS_NAME_BYTES];
    bool late = false;
    uint64_t next_seq = 0;
    rml_roots_read_name(roots, name);
    RML_ROOTS_WALK(roots, late);
    RML_ROOTS_WALK(roots, next_seq);
    uint32_t output = rml_emit_output(emit, rml_plan_stage_find(emit->plan, name), late);
    if (roots->rc == 0 && output != RML_OUTPUTS_MAX)
        emit->next_seq[output] = next_seq;
}

void rml_emit_init(struct rml_emit *emit, const struct rml_plan *plan, uint32_t partition,
                   const struct rml_result_door *door)
{
    *emit = (struct rml_emit){.plan = plan, .door = *door, .partition = partition};
    emit->output_count = rml_outputs_list(plan, emit->outputs);
    for (uint32_t i = 0; i < RML_SOURCES_MAX; i++)
        emit->announced[i] = RML_TIME_NONE;
}

void rml_emit_roots(struct rml_emit *emit, struct rml_roots *roots)
{
    uint32_t count = emit->output_count;
    rml_roots_count(roots, &count, RML_OUTPUTS_MAX);
    for (uint32_t i = 0; i < count && roots->rc == 0; i++) {
        if (roots->reads)
            read_output(emit, roots);
        else
            write_output(emit, i, roots);
    }
}

uint32_t rml_emit_output(const struct rml_emit *emit, uint32_t stage, bool late)
{
    for (uint32_t i = 0; i < emit->output_count; i++) {
        if (emit->outputs[i].stage == stage && emit->outputs[i].late == late)
            return i;
    }
    return RML_OUTPUTS_MAX;
}

static struct rml_result_block *take_block(struct rml_emit *emit, uint32_t output, uint32_t source)
{
    struct rml_result_block *block = emit->door.take(emit->door.context);
    block->next = NULL;
    block->partition = emit->partition;
    block->output = output;
    block->source = source;
    block->rows = 0;
    block->row_stride = 0;
    block->is_mark = false;
    block->step_end = false;
    block->progress = RML_TIME_NONE;
    return block;
}

struct rml_result_row *rml_emit_row(struct rml_emit *emit, uint32_t output, int64_t fire)
{
    RML_CHECK(output < emit->output_count);
    const struct rml_output *to = &emit->outputs[output];
    uint32_t stride = (uint32_t)sizeof(struct rml_result_row) + to->row_bytes;
    struct rml_result_block *block = emit->filling[output];
    if (block != NULL && (block->rows + 1) * stride > RML_RESULT_BLOCK_BYTES) {
        emit->door.give(emit->door.context, block);
        block = NULL;
    }
    if (block == NULL) {
        block = take_block(emit, output, to->source);
        block->row_stride = stride;
        emit->filling[output] = block;
    }
    struct rml_result_row *row = rml_result_row_at(block, block->rows++);
    row->fire = fire;
    row->seq = emit->next_seq[output]++;
    memset(row->record, 0, to->row_bytes);
    return row;
}

#define STORE(field_type, cell_type)     \
 do {                                    \
  cell_type wide;                        \
  memcpy(&wide, cell, sizeof wide);      \
  field_type narrow = (field_type)wide;  \
  memcpy(field, &narrow, sizeof narrow); \
 } while (0)

void rml_cell_store(enum rml_type type, const void *cell, void *field)
{
    switch (type) {
    case RML_U8:
    case RML_I8:
        STORE(uint8_t, int64_t);
        break;
    case RML_U16:
    case RML_I16:
        STORE(uint16_t, int64_t);
        break;
    case RML_U32:
    case RML_I32:
        STORE(uint32_t, int64_t);
        break;
    case RML_F32:
        STORE(float, double);
        break;
    case RML_U64:
    case RML_I64:
    case RML_F64:
    case RML_TIME:
    case RML_BOOL:
    case RML_STR8:
    case RML_STR16:
    case RML_STR32:
    case RML_STR64:
        memcpy(field, cell, rml_type_info[type].bytes);
        break;
    case RML_TYPES:
        RML_UNREACHABLE("no column has that type");
    }
}

static void store_row(const struct rml_schema *schema, const uint32_t *columns,
                      const struct rml_batch *batch, uint32_t row, unsigned char *record)
{
    uint64_t nulls = 0;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct rml_field *field = &schema->fields[i];
        const struct rml_column *column = &batch->columns[columns != NULL ? columns[i] : i];
        if (column->null != NULL && column->null[row]) {
            nulls |= UINT64_C(1) << i;
            continue;
        }
        const unsigned char *cells = column->data;
        rml_cell_store(field->type, cells + (size_t)row * rml_type_info[column->type].cell_bytes,
                       record + field->offset);
    }
    if (schema->has_nulls)
        memcpy(record, &nulls, sizeof nulls);
}

void rml_emit_batch(struct rml_emit *emit, uint32_t output, const struct rml_schema *schema,
                    const uint32_t *columns, const struct rml_batch *batch, const int64_t *clock)
{
    for (uint32_t i = 0; i < batch->selected; i++) {
        uint32_t row = batch->select != NULL ? batch->select[i] : i;
        struct rml_result_row *out = rml_emit_row(emit, output, clock[row]);
        store_row(schema, columns, batch, row, out->record);
    }
}

void rml_emit_step_end(struct rml_emit *emit, uint32_t source, int64_t progress)
{
    // One block is held back until the others are given, because progress is only true of all of them.
    struct rml_result_block *last = NULL;
    for (uint32_t i = 0; i < emit->output_count; i++) {
        struct rml_result_block *block = emit->filling[i];
        if (block == NULL)
            continue;
        block->step_end = true;
        emit->filling[i] = NULL;
        if (last != NULL)
            emit->door.give(emit->door.context, last);
        last = block;
    }
    // A reader that merges must hear of progress also where no row was made.
    bool news = progress > emit->announced[source];
    if (news && emit->door.announce_progress && last == NULL) {
        last = take_block(emit, RML_OUTPUTS_MAX, source);
        last->step_end = true;
    }
    if (last != NULL) {
        last->progress = progress;
        emit->door.give(emit->door.context, last);
    }
    if (news)
        emit->announced[source] = progress;
}
