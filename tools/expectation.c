#include "tools/expectation.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/plan/plan.h"
#include "runtime/record/text.h"
#include "runtime/time/time.h"

#define FLOATS_MEET 1e-9

int rml_said_row_read(const struct rml_plan_test_row *row, const struct rml_schema *schema,
                      struct rml_said_row *ret_said, struct rml_err *err)
{
    struct rml_said_row said = {.line = row->line, .record = calloc(1, schema->record_bytes)};
    if (said.record == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for the row of line %u", row->line);
    for (uint32_t i = 0; i < row->count; i++) {
        const struct rml_plan_test_value *value = &row->values[i];
        uint32_t field = rml_schema_find(schema, value->name, strlen(value->name));
        if (field == RML_FIELD_ABSENT) {
            free(said.record);
            return RML_FAIL(err, -EINVAL, "%u:%u: there is no %s", value->line, value->column,
                            value->name);
        }
        said.named |= UINT64_C(1) << field;
        if (value->text == NULL) {
            said.null |= UINT64_C(1) << field;
            continue;
        }
        int rc = rml_text_field_parse(&schema->fields[field], value->text, strlen(value->text),
                                      said.record, err);
        if (rc < 0) {
            free(said.record);
            return RML_WRAP(err, -EINVAL, "%u:%u: %s", value->line, value->column, value->name);
        }
    }
    *ret_said = said;
    return 0;
}

uint64_t rml_expectation_nulls(const struct rml_schema *schema, const void *record)
{
    uint64_t nulls = 0;
    if (schema->has_nulls)
        memcpy(&nulls, record, sizeof nulls);
    return nulls;
}

static double float_at(const struct rml_field *field, const unsigned char *record)
{
    if (field->type == RML_F32) {
        float narrow;
        memcpy(&narrow, record + field->offset, sizeof narrow);
        return (double)narrow;
    }
    double wide;
    memcpy(&wide, record + field->offset, sizeof wide);
    return wide;
}

static bool values_meet(const struct rml_field *field, const unsigned char *a,
                        const unsigned char *b)
{
    const struct rml_type_info *info = &rml_type_info[field->type];
    if (memcmp(a + field->offset, b + field->offset, info->bytes) == 0)
        return true;
    if (info->kind != RML_KIND_FLOAT)
        return false;
    double x = float_at(field, a), y = float_at(field, b);
    return isfinite(x) && isfinite(y) && fabs(x - y) <= FLOATS_MEET * fmax(fabs(x), fabs(y));
}

static bool rows_meet(const struct rml_schema *schema, const struct rml_said_row *said,
                      const void *came)
{
    uint64_t nulls = rml_expectation_nulls(schema, came);
    for (uint64_t left = said->named; left != 0; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        if ((said->null >> i & 1) != (nulls >> i & 1))
            return false;
        if ((nulls >> i & 1) == 0 && !values_meet(&schema->fields[i], said->record, came))
            return false;
    }
    return true;
}

struct matching {
    const struct rml_schema *schema;
    const struct rml_said_row *said;
    const void *const *came;
    uint32_t came_count;
    uint32_t *partner;  // of each said row
    uint32_t *taken;    // of each row that came: the said row it is paired with
    uint32_t *visited;  // of each row that came: the said row whose search saw it last
};

/* Find a row for said[i], moving others to rows that do for them too. */
static bool find_partner(struct matching *m, uint32_t i, uint32_t search)
{
    for (uint32_t j = 0; j < m->came_count; j++) {
        if (m->visited[j] == search || !rows_meet(m->schema, &m->said[i], m->came[j]))
            continue;
        m->visited[j] = search;
        if (m->taken[j] == UINT32_MAX || find_partner(m, m->taken[j], search)) {
            m->taken[j] = i;
            m->partner[i] = j;
            return true;
        }
    }
    return false;
}

int64_t rml_expectation_match(const struct rml_schema *schema, const struct rml_said_row *said,
                              uint32_t said_count, const void *const *came, uint32_t came_count,
                              uint32_t *partner)
{
    struct matching m = {
        .schema = schema,
        .said = said,
        .came = came,
        .came_count = came_count,
        .partner = partner,
        .taken = malloc((came_count + 1) * sizeof(uint32_t)),
        .visited = malloc((came_count + 1) * sizeof(uint32_t)),
    };
    int64_t pairs = 0;
    if (m.taken == NULL || m.visited == NULL) {
        pairs = -ENOMEM;
        goto out;
    }
    for (uint32_t j = 0; j < came_count; j++)
        m.taken[j] = m.visited[j] = UINT32_MAX;
    for (uint32_t i = 0; i < said_count; i++) {
        partner[i] = UINT32_MAX;
        pairs += find_partner(&m, i, i);
    }
out:
    free(m.taken);
    free(m.visited);
    return pairs;
}

static void print_value(const struct rml_schema *schema, uint32_t index, const void *record,
                        uint64_t null, FILE *out)
{
    const struct rml_field *field = &schema->fields[index];
    char text[RML_TEXT_FIELD_MAX];
    if ((null >> index & 1) != 0) {
        fprintf(out, "null");
    } else if (field->type == RML_TIME) {
        int64_t time;
        memcpy(&time, (const unsigned char *)record + field->offset, sizeof time);
        rml_duration_print(time, text);
        fprintf(out, "%s", text);
    } else {
        static const struct rml_text_options plain = {0};
        uint32_t length = rml_text_field_json(field, record, &plain, text);
        fprintf(out, "%.*s", (int)length, text);
    }
}

void rml_expectation_print(const struct rml_schema *schema, const void *record, uint64_t named,
                           uint64_t null, FILE *out)
{
    uint32_t start = rml_schema_find(schema, "window_start", 12);
    uint32_t end = rml_schema_find(schema, "window_end", 10);
    bool window = start != RML_FIELD_ABSENT && end != RML_FIELD_ABSENT && (named >> start & 1) != 0
                  && (named >> end & 1) != 0;
    const char *comma = "";
    fprintf(out, "{");
    for (uint32_t i = 0; i < schema->field_count; i++) {
        if ((named >> i & 1) == 0 || (window && i == end))
            continue;
        fprintf(out, "%s%s: ", comma, window && i == start ? "window" : schema->fields[i].name);
        comma = ", ";
        if (window && i == start) {
            fprintf(out, "[");
            print_value(schema, start, record, null, out);
            fprintf(out, ", ");
            print_value(schema, end, record, null, out);
            fprintf(out, "]");
        } else {
            print_value(schema, i, record, null, out);
        }
    }
    fprintf(out, "}\n");
}
