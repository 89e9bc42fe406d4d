#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/plan/reader.h"

static const struct rml_reader_schema *find_schema(struct rml_reader *reader,
                                                   const struct rml_values *values)
{
    const struct rml_yaml_node *node = rml_reader_scalar(reader, values, RML_SET_SOURCE_SCHEMA);
    if (node == NULL)
        return NULL;
    struct rml_names names = {0};
    for (uint32_t i = 0; i < reader->schema_count; i++) {
        const struct rml_reader_schema *schema = &reader->schemas[i];
        if (strcmp(schema->node->key->text, node->text) == 0)
            return schema;
        rml_names_add(&names, schema->node->key->text);
    }
    char hint[160];
    rml_names_hint(&names, node->text, hint, sizeof hint);
    rml_report_add(reader->report, node->place, hint, "%s: there is no schema %.60s", values->what,
                   node->text);
    return NULL;
}

// The field that a setting names, or RML_FIELD_ABSENT with the reason reported.
static uint32_t find_field(struct rml_reader *reader, uint32_t source, const char *key,
                           const struct rml_yaml_node *node)
{
    const struct rml_schema *schema = &reader->plan->sources[source].schema;
    uint32_t field = rml_schema_find(schema, node->text, node->text_length);
    if (field != RML_FIELD_ABSENT
        || rml_reader_is_lost(reader, source, node->text, node->text_length))
        return field;
    struct rml_names names = {0};
    for (uint32_t i = 0; i < schema->field_count; i++)
        rml_names_add(&names, schema->fields[i].name);
    char hint[160];
    rml_names_hint(&names, node->text, hint, sizeof hint);
    rml_report_add(reader->report, node->place, hint, "%s: %s: schema %s has no field %.60s",
                   reader->sources[source].values.what, key, schema->name, node->text);
    return RML_FIELD_ABSENT;
}

static void read_event_time(struct rml_reader *reader, uint32_t index)
{
    struct rml_plan_source *source = &reader->plan->sources[index];
    const struct rml_values *values = &reader->sources[index].values;
    const struct rml_yaml_node *node = rml_reader_scalar(reader, values, RML_SET_SOURCE_EVENT_TIME);
    if (node == NULL)
        return;
    uint32_t field = find_field(reader, index, "event_time", node);
    if (field == RML_FIELD_ABSENT)
        return;
    source->time_field = field;
    enum rml_type type = source->schema.fields[field].type;
    if (type != RML_TIME) {
        rml_report_add(reader->report, node->place, "give the field the type time_ns",
                       "%s: event_time: %s is a %s, no time", values->what, node->text,
                       rml_type_info[type].name);
    }
}

static void read_partition_by(struct rml_reader *reader, uint32_t index)
{
    struct rml_plan_source *source = &reader->plan->sources[index];
    const struct rml_values *values = &reader->sources[index].values;
    const struct rml_yaml_node *list[RML_KEY_FIELDS_MAX];
    uint32_t count =
        rml_reader_scalars(reader, values, RML_SET_SOURCE_PARTITION_BY, list, RML_KEY_FIELDS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t field = find_field(reader, index, "partition_by", list[i]);
        if (field == RML_FIELD_ABSENT)
            continue;
        bool twice = false;
        for (uint32_t k = 0; k < source->partition_field_count; k++)
            twice = twice || source->partition_fields[k] == field;
        if (twice) {
            rml_report_add(reader->report, list[i]->place, NULL, "%s: partition_by names %s twice",
                           values->what, list[i]->text);
        } else if (rml_type_info[source->schema.fields[field].type].kind == RML_KIND_FLOAT) {
            rml_report_add(reader->report, list[i]->place,
                           "use an integer, a bool, a time or a string",
                           "%s: partition_by: %s is a float, and floats that look the same can "
                           "differ",
                           values->what, list[i]->text);
        } else {
            source->partition_fields[source->partition_field_count++] = field;
        }
    }
}

// The schema's fields are the frame's first columns, in their order.
static void start_frame(struct rml_reader *reader, uint32_t index,
                        const struct rml_reader_schema *from)
{
    struct rml_plan_source *source = &reader->plan->sources[index];
    source->schema = from->schema;
    const struct rml_schema *schema = &source->schema;
    _Static_assert(RML_FIELDS_MAX <= RML_COLUMNS_MAX, "a frame has room for a schema's fields");
    for (uint32_t i = 0; i < schema->field_count; i++) {
        struct rml_frame_column *column = &source->frame.columns[i];
        memcpy(column->name, schema->fields[i].name, sizeof column->name);
        column->type = schema->fields[i].type;
        column->field = i;
    }
    source->frame.column_count = schema->field_count;
    for (const struct rml_yaml_node *n = from->node->first; n != NULL; n = n->next)
        if (rml_schema_find(schema, n->key->text, n->key->text_length) == RML_FIELD_ABSENT)
            rml_reader_lose(reader, index, n->key->text);
}

// The runtime was read before.
static void read_journal(struct rml_reader *reader, struct rml_plan_source *source,
                         const struct rml_values *values)
{
    uint32_t journal = 0;
    if (!rml_reader_choice(reader, values, RML_SET_SOURCE_JOURNAL, &journal) || journal == 0)
        return;
    source->journal = reader->plan->journals = true;
    if (reader->plan->state == NULL)
        rml_report_add(reader->report, values->at[RML_SET_SOURCE_JOURNAL]->place,
                       "such as  state: ./state  under  runtime:",
                       "%s: journal: a journal needs a state to go on from", values->what);
}

static void read_source(struct rml_reader *reader, const struct rml_yaml_node *node)
{
    uint32_t index = reader->plan->source_count++;
    struct rml_plan_source *source = &reader->plan->sources[index];
    struct rml_reader_source *draft = &reader->sources[index];
    *draft = (struct rml_reader_source){.name = node->key, .unknown = true};
    if (rml_reader_name(reader, node->key, "source"))
        memcpy(source->name, node->key->text, node->key->text_length);
    struct rml_values *values = &draft->values;
    if (!rml_reader_section(reader, RML_SECTION_SOURCE, node, node->key->place, node->key->text,
                            values))
        return;

    const struct rml_reader_schema *schema = find_schema(reader, values);
    if (schema != NULL && schema->node->kind == RML_YAML_MAPPING) {
        draft->unknown = false;
        start_frame(reader, index, schema);
        read_event_time(reader, index);
        read_partition_by(reader, index);
    }
    int64_t cells = 0;
    uint32_t on_full = 0, lane = 0;
    rml_reader_number(reader, values, RML_SET_SOURCE_OUT_OF_ORDER, &source->out_of_order_ns);
    rml_reader_number(reader, values, RML_SET_SOURCE_IDLE_AFTER, &source->idle_after_ns);
    rml_reader_number(reader, values, RML_SET_SOURCE_MAX_AHEAD, &source->max_ahead_ns);
    rml_reader_number(reader, values, RML_SET_SOURCE_CELLS, &cells);
    rml_reader_choice(reader, values, RML_SET_SOURCE_LANE, &lane);
    rml_reader_choice(reader, values, RML_SET_SOURCE_ON_FULL, &on_full);
    rml_read_allow(reader, values, RML_SET_SOURCE_ALLOW, values->what, &source->allow);
    source->is_shared = lane != 0;
    read_journal(reader, source, values);
    source->cells = (uint32_t)cells;
    source->on_full = on_full == 0 ? RML_ON_FULL_BLOCK : RML_ON_FULL_DROP_NEWEST;
}

void rml_read_sources(struct rml_reader *reader, const struct rml_values *file)
{
    const struct rml_yaml_node *sources =
        rml_reader_mapping(reader, file, RML_SET_FILE_SOURCES, RML_SOURCES_MAX);
    if (sources == NULL)
        return;
    for (const struct rml_yaml_node *n = sources->first; n != NULL; n = n->next)
        read_source(reader, n);
}
