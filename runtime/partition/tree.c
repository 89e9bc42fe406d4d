#include "runtime/partition/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/partition/operator.h"
#include "runtime/state/roots.h"
#include "runtime/time/time.h"

#define LINE_BYTES 64u

static const struct rml_plan_source *source_of(const struct rml_tree *tree)
{
    return &tree->options.plan->sources[tree->options.source];
}

static const struct rml_operator_kind *kind_of(const struct rml_tree *tree, uint32_t stage)
{
    const struct rml_plan_stage *of = &tree->options.plan->stages[stage];
    const struct rml_operators *operators = tree->options.operators;
    switch (of->kind) {
    case RML_STAGE_FILTER:
        return operators->filter;
    case RML_STAGE_MAP:
        return operators->map;
    case RML_STAGE_WINDOW:
        return operators->window[of->window.kind];
    }
    RML_UNREACHABLE("no stage is of that kind");
}

static uint8_t owner_of(uint32_t stage)
{
    _Static_assert(RML_STAGES_MAX < RML_OWNERS_MAX, "each stage owns pages");
    return (uint8_t)(stage + 1);
}

static void want(struct rml_tree *tree, uint32_t column)
{
    tree->wanted[column / 64] |= UINT64_C(1) << (column % 64);
}

static bool is_wanted(const struct rml_tree *tree, uint32_t column)
{
    return (tree->wanted[column / 64] >> (column % 64) & 1) != 0;
}

/*
 * The bytes that the producer hashed: the record's fields, not the wider cells of columns. The low
 * bytes of a cell are the field, which for f32 means converting back.
 */
static uint32_t key_bytes_of(struct rml_tree *tree, uint32_t row)
{
    const struct rml_plan_source *source = source_of(tree);
    uint32_t used = 0;
    for (uint32_t i = 0; i < source->partition_field_count; i++) {
        const struct rml_column *column = &tree->columns[source->partition_fields[i]];
        const struct rml_type_info *info = &rml_type_info[column->type];
        const unsigned char *cells = column->data;
        rml_cell_store(column->type, cells + (size_t)row * info->cell_bytes, tree->key + used);
        used += info->bytes;
    }
    return used;
}

/*
 * Hashing is where a run computes most and loads least, so meanwhile the records of a later run are
 * fetched, `stride` bytes apart from `ahead`: when they are read, all at once, they would be waited for.
 *
 * Flattened and apart: of a hash whose length is a constant a few instructions are left, if only it
 * is inlined.
 */
__attribute__((flatten, noinline)) static void hash_cells_of_8(const unsigned char *cells,
                                                               uint32_t rows, uint64_t *hashes,
                                                               const unsigned char *ahead,
                                                               size_t stride)
{
    for (uint32_t i = 0; i < rows; i++) {
        __builtin_prefetch(ahead + i * stride);
        hashes[i] = rml_key_hash_bytes(cells + (size_t)i * 8, 8);
    }
}

__attribute__((flatten, noinline)) static void hash_cells_of_16(const unsigned char *cells,
                                                                uint32_t rows, uint64_t *hashes,
                                                                const unsigned char *ahead,
                                                                size_t stride)
{
    for (uint32_t i = 0; i < rows; i++) {
        __builtin_prefetch(ahead + i * stride);
        hashes[i] = rml_key_hash_bytes(cells + (size_t)i * 16, 16);
    }
}

static void hash_keys(struct rml_tree *tree, const struct rml_tree_run *run)
{
    const struct rml_plan_source *source = source_of(tree);
    const struct rml_column *first = &tree->columns[source->partition_fields[0]];
    const unsigned char *cells = first->data;
    const void *ahead = run->ahead != NULL ? run->ahead : run->records;
    size_t stride = source->schema.record_bytes;
    uint32_t bytes = rml_type_info[first->type].bytes;
    bool as_it_lies =
        source->partition_field_count == 1 && bytes == rml_type_info[first->type].cell_bytes;
    if (as_it_lies && bytes == 8) {
        hash_cells_of_8(cells, run->rows, tree->key_hash, ahead, stride);
    } else if (as_it_lies && bytes == 16) {
        hash_cells_of_16(cells, run->rows, tree->key_hash, ahead, stride);
    } else if (as_it_lies) {
        for (uint32_t i = 0; i < run->rows; i++)
            tree->key_hash[i] = rml_key_hash_bytes(cells + (size_t)i * bytes, bytes);
    } else {
        for (uint32_t i = 0; i < run->rows; i++)
            tree->key_hash[i] = rml_key_hash_bytes(tree->key, key_bytes_of(tree, i));
    }
}

// A record in a partition that its key does not belong to would split the key's results: refuse it.
static void refuse_misrouted(struct rml_tree *tree, struct rml_batch *batch)
{
    uint32_t partitions = tree->options.plan->partitions, kept = 0;
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < batch->rows; i++)
        wrong += rml_partition_of(tree->key_hash[i], partitions) != tree->options.partition;
    if (wrong == 0)
        return;
    for (uint32_t i = 0; i < batch->rows; i++) {
        tree->select[kept] = (uint16_t)i;
        kept += rml_partition_of(tree->key_hash[i], partitions) == tree->options.partition;
    }
    batch->select = tree->select;
    batch->selected = kept;
}

// A time that the clock on the wall is far from would be believed by nobody who looked at it.
static void refuse_far_ahead(struct rml_tree *tree, struct rml_batch *batch, const int64_t *time,
                             int64_t latest)
{
    uint32_t kept = 0, far = 0;
    for (uint32_t i = 0; i < batch->rows; i++)
        far += time[i] > latest;
    if (far == 0)
        return;
    for (uint32_t i = 0; i < batch->selected; i++) {
        uint32_t row = batch->select != NULL ? batch->select[i] : i;
        tree->select[kept] = (uint16_t)row;
        kept += time[row] <= latest;
    }
    batch->select = tree->select;
    batch->selected = kept;
}

// What is taken from the pages until it returns is the stage's.
static void take(struct rml_tree *tree, uint32_t stage, const struct rml_batch *batch,
                 const struct rml_run *run)
{
    uint8_t before = rml_pages_own(tree->options.pages, owner_of(stage));
    kind_of(tree, stage)->take(tree->operators[stage], batch, run);
    rml_pages_own(tree->options.pages, before);
}

static void pass(void *context, uint32_t from, bool late, const struct rml_batch *batch,
                 const struct rml_run *run)
{
    struct rml_tree *tree = context;
    const struct rml_plan *plan = tree->options.plan;
    if (batch->selected == 0)
        return;
    if (from != RML_NO_STAGE) {
        const struct rml_plan_stage *stage = &plan->stages[from];
        uint32_t output = rml_emit_output(tree->options.emit, from, late);
        if (output != RML_OUTPUTS_MAX) {
            rml_emit_batch(tree->options.emit, output,
                           late ? &source_of(tree)->schema : &stage->output,
                           late ? NULL : stage->output_columns, batch, run->clock);
            rml_count(&tree->options.stage_counts[from].value[RML_STAGE_rows_out],
                      late ? 0 : batch->selected);
        }
    }
    for (uint32_t s = from == RML_NO_STAGE ? 0 : from + 1; s < plan->stage_count; s++) {
        const struct rml_plan_stage *stage = &plan->stages[s];
        if (stage->source == tree->options.source && stage->from == from
            && stage->from_late == late)
            take(tree, s, batch, run);
    }
}

void rml_tree_take(struct rml_tree *tree, const struct rml_tree_run *tree_run)
{
    const struct rml_plan_source *source = source_of(tree);
    RML_CHECK(tree_run->rows <= RML_BATCH_ROWS);

    rml_batch_load(&source->schema, &source->frame, tree->wanted, tree_run->records, tree_run->rows,
                   tree->columns);
    // Not loaded with the others: it was read before the run was cut, and a second look could see
    // another one.
    memcpy(tree->columns[source->time_field].data, tree_run->time,
           tree_run->rows * sizeof tree_run->time[0]);

    struct rml_batch batch = {
        .rows = tree_run->rows, .selected = tree_run->rows, .columns = tree->columns};
    bool hashed = source->partition_field_count > 0;
    if (hashed)
        hash_keys(tree, tree_run);
    if (hashed && tree->checks_partition)
        refuse_misrouted(tree, &batch);
    uint32_t routed = batch.selected;
    if (tree_run->latest != RML_TIME_END)
        refuse_far_ahead(tree, &batch, tree_run->time, tree_run->latest);
    const struct rml_run run = {
        .watermark = tree_run->watermark,
        .time = tree_run->time,
        .clock = tree_run->clock,
        .judge = tree_run->judge,
        .key_hash = hashed ? tree->key_hash : NULL,
    };
    rml_count(&tree->counts[RML_SOURCE_taken], batch.rows);
    rml_count(&tree->counts[RML_SOURCE_delivered], batch.selected);
    rml_count(&tree->counts[RML_SOURCE_malformed], batch.rows - routed);
    rml_count(&tree->counts[RML_SOURCE_ahead], routed - batch.selected);
    pass(tree, RML_NO_STAGE, false, &batch, &run);
}

static void advance(struct rml_tree *tree, uint32_t stage, int64_t watermark)
{
    uint8_t before = rml_pages_own(tree->options.pages, owner_of(stage));
    kind_of(tree, stage)->advance(tree->operators[stage], watermark);
    rml_pages_own(tree->options.pages, before);
}

void rml_tree_advance(struct rml_tree *tree, int64_t watermark)
{
    for (uint32_t s = 0; s < tree->options.plan->stage_count; s++) {
        if (tree->operators[s] != NULL && kind_of(tree, s)->advance != NULL)
            advance(tree, s, watermark);
    }
}

void rml_tree_tick(struct rml_tree *tree, int64_t now, int64_t watermark)
{
    for (uint32_t s = 0; s < tree->options.plan->stage_count; s++) {
        bool ticks = tree->options.plan->stages[s].window.trigger.every_ns > 0;
        if (tree->operators[s] == NULL || !ticks)
            continue;
        uint8_t before = rml_pages_own(tree->options.pages, owner_of(s));
        kind_of(tree, s)->tick(tree->operators[s], now, watermark);
        rml_pages_own(tree->options.pages, before);
    }
}

int64_t rml_tree_deadline(const struct rml_tree *tree, int64_t watermark, bool cuts)
{
    int64_t least = RML_TIME_END;
    for (uint32_t s = 0; s < tree->options.plan->stage_count; s++) {
        if (tree->operators[s] == NULL || kind_of(tree, s)->deadline == NULL
            || (cuts && kind_of(tree, s)->by_row))
            continue;
        int64_t deadline = kind_of(tree, s)->deadline(tree->operators[s], watermark);
        least = deadline < least ? deadline : least;
    }
    return least;
}

int64_t rml_tree_settled(const struct rml_tree *tree, int64_t watermark)
{
    int64_t least = watermark;
    for (uint32_t s = 0; s < tree->options.plan->stage_count; s++) {
        if (tree->operators[s] == NULL || kind_of(tree, s)->settled == NULL)
            continue;
        int64_t settled = kind_of(tree, s)->settled(tree->operators[s], watermark);
        least = settled < least ? settled : least;
    }
    return least;
}

static struct rml_result_row *row(void *context, uint32_t output, int64_t fire)
{
    struct rml_tree *tree = context;
    return rml_emit_row(tree->options.emit, output, fire);
}

static void want_stage(struct rml_tree *tree, uint32_t index)
{
    const struct rml_plan_stage *stage = &tree->options.plan->stages[index];
    if (stage->filter != NULL)
        rml_expr_columns(stage->filter, tree->wanted);
    for (uint32_t i = 0; i < stage->mapped_count; i++) {
        rml_expr_columns(stage->mapped[i].expr, tree->wanted);
        want(tree, stage->mapped[i].column);
    }
    for (uint32_t i = 0; i < stage->key_count; i++)
        want(tree, stage->key_columns[i]);
    for (uint32_t i = 0; i < stage->aggregate_count; i++) {
        const struct rml_plan_aggregate *aggregate = &stage->aggregates[i];
        if (aggregate->column != RML_FIELD_ABSENT)
            want(tree, aggregate->column);
        for (uint32_t a = 1; aggregate->call != NULL && a < aggregate->call->call.argument_count;
             a++)
            want(tree, aggregate->call->columns[a]);
    }
    bool gives_records = stage->kind != RML_STAGE_WINDOW;
    if (gives_records && rml_emit_output(tree->options.emit, index, false) != RML_OUTPUTS_MAX) {
        for (uint32_t i = 0; i < stage->output.field_count; i++)
            want(tree, stage->output_columns[i]);
        tree->wants_clock = true;
    }
    if (rml_emit_output(tree->options.emit, index, true) != RML_OUTPUTS_MAX) {
        for (uint32_t i = 0; i < source_of(tree)->schema.field_count; i++)
            want(tree, i);
        tree->wants_clock = true;
    }
}

static int make_columns(struct rml_tree *tree)
{
    const struct rml_frame *frame = &source_of(tree)->frame;
    size_t bytes = 0;
    for (uint32_t i = 0; i < frame->column_count; i++) {
        if (is_wanted(tree, i))
            bytes +=
                (size_t)(rml_type_info[frame->columns[i].type].cell_bytes + 1) * RML_BATCH_ROWS;
    }
    // A vector loop may read a whole register where a column ends.
    tree->memory =
        aligned_alloc(LINE_BYTES, (bytes + 2 * LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES);
    if (tree->memory == NULL)
        return -ENOMEM;
    memset(tree->memory, 0, bytes);
    unsigned char *at = tree->memory;
    for (uint32_t i = 0; i < frame->column_count; i++) {
        tree->columns[i].type = frame->columns[i].type;
        if (!is_wanted(tree, i))
            continue;
        tree->columns[i].data = at;
        at += (size_t)rml_type_info[frame->columns[i].type].cell_bytes * RML_BATCH_ROWS;
        tree->nulls[i] = at;
        at += RML_BATCH_ROWS;
    }
    return 0;
}

static int make_scratch(struct rml_tree *tree)
{
    const struct rml_plan *plan = tree->options.plan;
    const struct rml_expr *exprs[RML_STAGES_MAX + RML_COLUMNS_MAX];
    uint32_t count = 0;
    for (uint32_t s = 0; s < plan->stage_count; s++) {
        const struct rml_plan_stage *stage = &plan->stages[s];
        if (stage->source != tree->options.source)
            continue;
        if (stage->filter != NULL)
            exprs[count++] = stage->filter;
        for (uint32_t i = 0; i < stage->mapped_count; i++)
            exprs[count++] = stage->mapped[i].expr;
    }
    return rml_expr_scratch_open(&tree->scratch, exprs, count);
}

static int open_stage(struct rml_tree *tree, uint32_t stage, struct rml_err *err)
{
    const struct rml_operator_env env = {
        .plan = tree->options.plan,
        .stage = stage,
        .output = rml_emit_output(tree->options.emit, stage, false),
        .pages = tree->options.pages,
        .scratch = tree->scratch,
        .columns = tree->columns,
        .nulls = tree->nulls,
        .counts = tree->options.stage_counts[stage].value,
        .pass = pass,
        .row = row,
        .context = tree,
    };
    tree->by_row |= kind_of(tree, stage)->by_row;
    tree->wants_clock |= kind_of(tree, stage)->wants_clock;
    uint8_t before = rml_pages_own(tree->options.pages, owner_of(stage));
    int rc = kind_of(tree, stage)->open(&tree->operators[stage], &env, err);
    rml_pages_own(tree->options.pages, before);
    return rc < 0 ? RML_WRAP(err, rc, "stage %s", tree->options.plan->stages[stage].name) : 0;
}

int rml_tree_open(struct rml_tree *tree, const struct rml_tree_options *options,
                  struct rml_err *err)
{
    const struct rml_plan *plan = options->plan;
    *tree = (struct rml_tree){.options = *options, .counts = options->source_counts->value};
    const struct rml_plan_source *source = source_of(tree);
    tree->checks_partition = plan->partitions > 1;

    want(tree, source->time_field);
    for (uint32_t i = 0; i < source->partition_field_count; i++)
        want(tree, source->partition_fields[i]);
    for (uint32_t s = 0; s < plan->stage_count; s++) {
        if (plan->stages[s].source == options->source)
            want_stage(tree, s);
    }
    if (make_columns(tree) < 0 || make_scratch(tree) < 0)
        return RML_FAIL(err, -ENOMEM, "no memory for columns");
    // from here on `wanted` is what is loaded from records
    tree->wanted[source->time_field / 64] &= ~(UINT64_C(1) << (source->time_field % 64));
    for (uint32_t s = 0; s < plan->stage_count; s++) {
        if (plan->stages[s].source != options->source)
            continue;
        int rc = open_stage(tree, s, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void count_roots(_Atomic uint64_t *counts, uint32_t count, struct rml_roots *roots)
{
    rml_roots_same(roots, count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t value = rml_count_read(&counts[i]);
        RML_ROOTS_WALK(roots, value);
        if (rml_roots_have(roots))
            rml_count_set(&counts[i], value);
    }
}

/* What of a stage is walked. */
struct stage_part {
    struct rml_tree *tree;
    uint32_t stage;
};

static void stage_roots(void *context, struct rml_roots *roots)
{
    const struct stage_part *part = context;
    struct rml_tree *tree = part->tree;
    count_roots(tree->options.stage_counts[part->stage].value, RML_STAGE_COUNTERS, roots);
    if (kind_of(tree, part->stage)->roots != NULL)
        kind_of(tree, part->stage)->roots(tree->operators[part->stage], roots);
}

static void write_stages(struct rml_tree *tree, struct rml_roots *roots)
{
    uint32_t count = 0;
    for (uint32_t s = 0; s < tree->options.plan->stage_count; s++)
        count += tree->operators[s] != NULL;
    RML_ROOTS_WALK(roots, count);
    for (uint32_t s = 0; s < tree->options.plan->stage_count; s++) {
        if (tree->operators[s] == NULL)
            continue;
        struct stage_part part = {tree, s};
        uint8_t owner = owner_of(s);
        rml_roots_name(roots, tree->options.plan->stages[s].name);
        RML_ROOTS_WALK(roots, owner);
        rml_roots_part(roots, stage_roots, &part);
    }
}

static void read_stages(struct rml_tree *tree, struct rml_roots *roots,
                        struct rml_tree_found *found)
{
    uint32_t count = 0;
    rml_roots_count(roots, &count, RML_STAGES_MAX);
    for (uint32_t i = 0; i < count && roots->rc == 0; i++) {
        char name[RML_ROOTS_NAME_BYTES];
        uint8_t owner = RML_NO_OWNER;
        rml_roots_read_name(roots, name);
        RML_ROOTS_WALK(roots, owner);
        uint32_t s = rml_plan_stage_find(tree->options.plan, name);
        bool is_kept =
            s < RML_STAGES_MAX && tree->operators[s] != NULL && (found->renewed >> s & 1) == 0;
        struct stage_part part = {tree, s};
        rml_roots_part(roots, is_kept ? stage_roots : NULL, &part);
        if (!is_kept)
            continue;
        found->found |= UINT64_C(1) << s;
        found->owners[owner] = owner_of(s);
    }
}

void rml_tree_roots(struct rml_tree *tree, struct rml_roots *roots, struct rml_tree_found *found)
{
    count_roots(tree->counts, RML_SOURCE_COUNTERS, roots);
    if (roots->reads)
        read_stages(tree, roots, found);
    else
        write_stages(tree, roots);
}

// What a stage that goes on, and what it reads, count of before they had to do with each other.
static void count_apart(struct rml_tree *tree, uint32_t stage)
{
    const struct rml_plan_stage *plan = &tree->options.plan->stages[stage];
    _Atomic uint64_t *counts = tree->options.stage_counts[stage].value;
    uint64_t in = rml_count_read(&counts[RML_STAGE_in]);
    const _Atomic uint64_t *from =
        plan->from == RML_NO_STAGE
            ? &tree->counts[RML_SOURCE_delivered]
            : &tree->options.stage_counts[plan->from]
                   .value[plan->from_late ? RML_STAGE_late : RML_STAGE_passed];
    uint64_t out = rml_count_read(from);
    rml_count_set(&counts[RML_STAGE_missed], out > in ? out - in : 0);
    rml_count_set(&counts[RML_STAGE_inherited], in > out ? in - out : 0);
}

int rml_tree_renew(struct rml_tree *tree, uint64_t found, int64_t watermark, struct rml_err *err)
{
    for (uint32_t s = 0; s < tree->options.plan->stage_count; s++) {
        if (tree->operators[s] == NULL || (found >> s & 1) != 0)
            continue;
        // what it has taken as it was opened lies in pages that are another's by now
        kind_of(tree, s)->close(tree->operators[s]);
        tree->operators[s] = NULL;
        int rc = open_stage(tree, s, err);
        if (rc < 0)
            return rc;
        if (watermark != RML_TIME_NONE && kind_of(tree, s)->advance != NULL)
            advance(tree, s, watermark);
    }
    for (uint32_t s = 0; s < tree->options.plan->stage_count; s++) {
        if (tree->operators[s] != NULL)
            count_apart(tree, s);
    }
    return 0;
}

void rml_tree_close(struct rml_tree *tree)
{
    for (uint32_t s = 0; s < RML_STAGES_MAX; s++) {
        if (tree->operators[s] != NULL)
            kind_of(tree, s)->close(tree->operators[s]);
    }
    rml_expr_scratch_close(tree->scratch);
    free(tree->memory);
    *tree = (struct rml_tree){0};
}
