#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/plan/reader.h"

// Where a path of the file leads: relative ones start at its folder.
static int resolve(const char *plan_path, const char *text, char path[PATH_MAX])
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", plan_path);
    int length = text[0] == '/' ? snprintf(path, PATH_MAX, "%s", text)
                                : snprintf(path, PATH_MAX, "%s/%s", dirname(copy), text);
    return length < PATH_MAX ? 0 : -1;
}

// The function of that name, or NULL.
static const struct rml_function *find(const struct rml_functions *functions, const char *name)
{
    for (uint32_t f = 0; f < functions->count; f++)
        if (strcmp(functions->list[f].name, name) == 0)
            return &functions->list[f];
    return NULL;
}

/* Put a plug-in's functions behind those that there are; `list` has room for them. */
static bool add_functions(struct rml_reader *reader, const struct rml_yaml_node *node,
                          const struct rml_plugin *plugin, struct rml_function *list)
{
    struct rml_functions *functions = &reader->plan->functions;
    if (functions->count + plugin->aggregate_count > RML_FUNCTIONS_MAX) {
        rml_report_add(reader->report, node->place, NULL,
                       "plug-in %.80s: with its %u functions there are more than %d", node->text,
                       plugin->aggregate_count, RML_FUNCTIONS_MAX);
        return false;
    }
    for (uint32_t i = 0; i < plugin->aggregate_count; i++) {
        const struct rml_plugin_aggregate *aggregate = &plugin->aggregates[i];
        const struct rml_function *other = find(functions, aggregate->name);
        if (other != NULL) {
            rml_report_add(reader->report, node->place,
                           "name its functions otherwise, or leave one of the two away",
                           "plug-in %.80s: there is a function %s already%s", node->text,
                           aggregate->name,
                           other->plugin != NULL ? ", of a plug-in" : ": it is Ringmill's own");
            return false;
        }
        list[functions->count++] = (struct rml_function){
            .name = aggregate->name, .sentence = aggregate->sentence, .plugin = aggregate};
    }
    return true;
}

static bool load(struct rml_reader *reader, const struct rml_yaml_node *node,
                 struct rml_function *list)
{
    struct rml_plan *plan = reader->plan;
    if (!plan->functions.loads_plugins) {
        rml_report_add(reader->report, node->place, "what it does has not been looked at",
                       "plug-in %.80s: no plug-in is loaded here", node->text);
        return false;
    }
    char path[PATH_MAX];
    struct rml_err err = {0};
    struct rml_plan_plugin *plugin = &plan->plugins[plan->plugin_count];
    if (resolve(plan->path, node->text, path) < 0)
        rml_err_set(&err, -ENAMETOOLONG, "its path is too long");
    else
        (void)rml_library_open(&plugin->library, path, &err);
    if (err.code < 0) {
        rml_report_add(reader->report, node->place,
                       err.code == -ENOENT ? "a path relative to the pipeline file's folder" : NULL,
                       "plug-in %.80s: %s", node->text, err.text);
        return false;
    }
    plugin->path = rml_arena_text(reader->arena, node->text, node->text_length);
    plan->plugin_count++;
    return add_functions(reader, node, plugin->library.plugin, list);
}

void rml_read_plugins(struct rml_reader *reader, const struct rml_values *file)
{
    const struct rml_yaml_node *nodes[RML_PLUGINS_MAX];
    uint32_t count = rml_reader_scalars(reader, file, RML_SET_FILE_PLUGINS, nodes, RML_PLUGINS_MAX);
    if (count == 0 || nodes[0] == NULL)
        return;
    struct rml_functions *functions = &reader->plan->functions;
    struct rml_function *list = rml_arena_give(reader->arena, RML_FUNCTIONS_MAX, sizeof *list);
    memcpy(list, functions->list, functions->count * sizeof *list);
    functions->list = list;
    for (uint32_t i = 0; i < count; i++)
        reader->functions_lost = !load(reader, nodes[i], list) || reader->functions_lost;
}
