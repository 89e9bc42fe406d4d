#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/plan/reader.h"

static void read_field(struct rml_reader *reader, struct rml_reader_schema *ret,
                       const struct rml_yaml_node *node)
{
    bool good = rml_reader_name(reader, node->key, "field");
    enum rml_type type = RML_TYPES;
    if (node->kind == RML_YAML_SCALAR)
        type = rml_type_find(node->text, node->text_length);
    if (type == RML_TYPES) {
        struct rml_names types = {0};
        for (uint32_t t = 0; t < RML_TYPES; t++)
            rml_names_add(&types, rml_type_info[t].name);
        char hint[160];
        rml_names_hint(&types, node->text, hint, sizeof hint);
        if (node->kind == RML_YAML_SCALAR) {
            rml_report_add(reader->report, node->place, hint, "field %.60s: there is no type %.60s",
                           node->key->text, node->text_length > 0 ? node->text : "written");
        } else if (node->kind != RML_YAML_BROKEN) {
            rml_report_add(reader->report, node->key->place, hint,
                           "field %.60s: a type is a single word", node->key->text);
        }
        good = false;
    }
    struct rml_err err = {0};
    if (good && rml_schema_add(&ret->schema, node->key->text, type, false, &err) < 0) {
        rml_report_add(reader->report, node->key->place, NULL, "%s", err.text);
        good = false;
    }
    if (!good)
        ret->complete = false;
}

static void read_schema(struct rml_reader *reader, const struct rml_yaml_node *node)
{
    struct rml_reader_schema *ret = &reader->schemas[reader->schema_count++];
    *ret = (struct rml_reader_schema){.node = node, .complete = true};
    bool good = rml_reader_name(reader, node->key, "schema");
    rml_schema_init(&ret->schema, good ? node->key->text : "unnamed", false);
    if (node->kind != RML_YAML_MAPPING || node->count == 0) {
        if (node->kind != RML_YAML_BROKEN)
            rml_report_add(reader->report, node->key->place, "write one line for each: name: type",
                           "schema %.60s needs fields", node->key->text);
        ret->complete = false;
        return;
    }
    for (const struct rml_yaml_node *n = node->first; n != NULL; n = n->next)
        read_field(reader, ret, n);
    struct rml_err err = {0};
    if (ret->complete && rml_schema_seal(&ret->schema, &err) < 0) {
        rml_report_add(reader->report, node->key->place, NULL, "schema %s: %s", ret->schema.name,
                       err.text);
        ret->complete = false;
    }
}

void rml_read_schemas(struct rml_reader *reader, const struct rml_values *file)
{
    const struct rml_yaml_node *schemas =
        rml_reader_mapping(reader, file, RML_SET_FILE_SCHEMA, RML_SCHEMAS_MAX);
    if (schemas == NULL)
        return;
    for (const struct rml_yaml_node *n = schemas->first; n != NULL; n = n->next)
        read_schema(reader, n);
}
