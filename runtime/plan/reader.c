#include "runtime/plan/reader.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/plan/units.h"
#include "runtime/time/time.h"

static bool is_power_of_two(int64_t value)
{
    return value > 0 && (value & (value - 1)) == 0;
}

static const char *node_kind(const struct rml_yaml_node *node)
{
    switch (node->kind) {
    case RML_YAML_MAPPING:
        return "a mapping";
    case RML_YAML_SEQUENCE:
        return "a list";
    case RML_YAML_SCALAR:
        return node->text_length == 0 ? "nothing" : "a single value";
    case RML_YAML_BROKEN:
        break;
    }
    return "something broken";
}

static void wrong_kind(struct rml_reader *reader, const struct rml_yaml_node *node,
                       struct rml_place place, const char *what, const char *wanted)
{
    if (node->kind != RML_YAML_BROKEN)
        rml_report_add(reader->report, place, NULL, "%s must be %s, not %s", what, wanted,
                       node_kind(node));
}

// A container's own place is where its contents begin; its key says better which one is meant.
static struct rml_place named_place(const struct rml_yaml_node *node)
{
    return node->kind != RML_YAML_SCALAR && node->key != NULL ? node->key->place : node->place;
}

// A default that means something by itself, not one that hangs on other keys of its section.
static bool is_standing_default(const struct rml_setting_info *info)
{
    if (info->standard == NULL)
        return false;
    bool value = (info->standard[0] >= '0' && info->standard[0] <= '9') || info->choices != NULL;
    return info->section == RML_SECTION_RUNTIME || info->section == RML_SECTION_SOURCE
           || (info->section == RML_SECTION_WINDOW && value);
}

static void note_defaults(struct rml_reader *reader, enum rml_section section,
                          const struct rml_values *values)
{
    struct rml_plan *plan = reader->plan;
    char *what = NULL;
    for (uint32_t s = 0; s < RML_SETTINGS; s++) {
        const struct rml_setting_info *info = &rml_setting_info[s];
        if (info->section != section || values->at[s] != NULL || !is_standing_default(info))
            continue;
        if (what == NULL)
            what = rml_arena_text(reader->arena, values->what, strlen(values->what));
        RML_CHECK(plan->default_count < (uint32_t)RML_DEFAULTS_MAX);
        plan->defaults[plan->default_count++] =
            (struct rml_plan_default){what, info->key, info->standard};
    }
}

void rml_reader_forget_default(struct rml_reader *reader, const struct rml_values *values,
                               enum rml_setting setting)
{
    struct rml_plan *plan = reader->plan;
    for (uint32_t i = plan->default_count; i-- > 0;) {
        const struct rml_plan_default *noted = &plan->defaults[i];
        if (noted->key != rml_setting_info[setting].key || strcmp(noted->what, values->what) != 0)
            continue;
        memmove(&plan->defaults[i], &plan->defaults[i + 1],
                (--plan->default_count - i) * sizeof plan->defaults[0]);
        return;
    }
}

static void section_missing(struct rml_reader *reader, enum rml_section section,
                            const struct rml_values *values, const bool *misspelt)
{
    for (uint32_t s = 0; s < RML_SETTINGS; s++) {
        const struct rml_setting_info *info = &rml_setting_info[s];
        if (info->section == section && info->standard == NULL && values->at[s] == NULL
            && !misspelt[s])
            rml_report_add(reader->report, values->place, info->sentence,
                           "%s: the key %s is missing", values->what, info->key);
    }
}

static uint32_t find_key(enum rml_section section, const char *key)
{
    for (uint32_t s = 0; s < RML_SETTINGS; s++)
        if (rml_setting_info[s].section == section && strcmp(rml_setting_info[s].key, key) == 0)
            return s;
    return RML_SETTINGS;
}

// Report a key that is none; the one probably meant is not missed as well.
static void unknown_key(struct rml_reader *reader, enum rml_section section,
                        const struct rml_yaml_node *key, const char *what, bool *misspelt)
{
    struct rml_names names = {0};
    for (uint32_t s = 0; s < RML_SETTINGS; s++)
        if (rml_setting_info[s].section == section)
            rml_names_add(&names, rml_setting_info[s].key);
    char hint[160];
    const char *near = rml_names_hint(&names, key->text, hint, sizeof hint);
    if (near != NULL)
        misspelt[find_key(section, near)] = true;
    rml_report_add(reader->report, key->place, hint, "unknown key %.60s in %s", key->text, what);
}

bool rml_reader_section(struct rml_reader *reader, enum rml_section section,
                        const struct rml_yaml_node *mapping, struct rml_place place,
                        const char *name, struct rml_values *ret_values)
{
    *ret_values = (struct rml_values){.place = place};
    snprintf(ret_values->what, sizeof ret_values->what, "%s%s%.*s", rml_section_names[section],
             name != NULL ? " " : "", RML_NAME_MAX, name != NULL ? name : "");
    if (mapping->kind != RML_YAML_MAPPING) {
        wrong_kind(reader, mapping, place, ret_values->what, "a mapping of keys to values");
        return false;
    }
    bool misspelt[RML_SETTINGS] = {false};
    for (const struct rml_yaml_node *n = mapping->first; n != NULL; n = n->next) {
        uint32_t s = find_key(section, n->key->text);
        if (s < RML_SETTINGS)
            ret_values->at[s] = n;
        else
            unknown_key(reader, section, n->key, ret_values->what, misspelt);
    }
    section_missing(reader, section, ret_values, misspelt);
    note_defaults(reader, section, ret_values);
    return true;
}

static int number_parse(enum rml_setting_kind kind, const char *text, size_t length,
                        int64_t *ret_value)
{
    if (kind == RML_SETTING_DURATION)
        return rml_duration_parse(text, length, ret_value);
    if (kind == RML_SETTING_SIZE)
        return rml_size_parse(text, length, ret_value);
    return rml_integer_parse(text, length, ret_value);
}

static void number_print(enum rml_setting_kind kind, int64_t value, char text[32])
{
    if (kind == RML_SETTING_DURATION)
        rml_duration_print(value, text);
    else if (kind == RML_SETTING_SIZE)
        rml_size_print((uint64_t)value, text);
    else
        snprintf(text, 32, "%lld", (long long)value);
}

// A number without its unit is the likeliest slip: say how it would be written.
static void number_hint(enum rml_setting_kind kind, const struct rml_yaml_node *node,
                        char hint[160])
{
    int64_t ignored;
    bool bare = rml_integer_parse(node->text, node->text_length, &ignored) == 0;
    if (kind == RML_SETTING_DURATION) {
        snprintf(hint, 160,
                 bare ? "write a unit: %.20ss or %.20sms" : "such as 200ms, 1.5s, 2m, 1h",
                 node->text, node->text);
    } else if (kind == RML_SETTING_SIZE) {
        snprintf(hint, 160, bare ? "write a unit: %.20sMiB or %.20sGiB" : "such as 64MiB or 4GiB",
                 node->text, node->text);
    } else {
        hint[0] = '\0';
    }
}

static bool number_check(struct rml_reader *reader, const struct rml_values *values,
                         enum rml_setting setting, const struct rml_yaml_node *node,
                         int64_t *ret_value)
{
    const struct rml_setting_info *info = &rml_setting_info[setting];
    int64_t value = 0;
    int rc = number_parse(info->kind, node->text, node->text_length, &value);
    if (rc == -EINVAL || !node->plain) {
        char hint[160];
        number_hint(info->kind, node, hint);
        rml_report_add(reader->report, node->place, hint, "%s: %s must be %s, not %.60s",
                       values->what, info->key, rml_setting_kind_names[info->kind],
                       node->text_length > 0 ? node->text : "nothing");
        return false;
    }
    if (rc < 0 || value < info->least || value > info->most) {
        char least[32], most[32];
        number_print(info->kind, info->least, least);
        number_print(info->kind, info->most, most);
        if (info->least == info->most) {
            rml_report_add(reader->report, node->place, NULL, "%s: %s must be %s, not %.60s",
                           values->what, info->key, least, node->text);
        } else {
            rml_report_add(reader->report, node->place, NULL,
                           "%s: %s must lie between %s and %s, not %.60s", values->what, info->key,
                           least, most, node->text);
        }
        return false;
    }
    if (info->kind == RML_SETTING_POWER && !is_power_of_two(value)) {
        int64_t power = 1;
        while (power < value)
            power *= 2;
        char hint[160];
        snprintf(hint, sizeof hint, "the next one is %lld", (long long)power);
        rml_report_add(reader->report, node->place, hint,
                       "%s: %s must be a power of two, not %.60s", values->what, info->key,
                       node->text);
        return false;
    }
    *ret_value = value;
    return true;
}

bool rml_reader_number(struct rml_reader *reader, const struct rml_values *values,
                       enum rml_setting setting, int64_t *ret_value)
{
    const struct rml_setting_info *info = &rml_setting_info[setting];
    if (values->at[setting] == NULL) {
        const char *standard = info->standard;
        return standard != NULL
               && number_parse(info->kind, standard, strlen(standard), ret_value) == 0;
    }
    const struct rml_yaml_node *node = rml_reader_scalar(reader, values, setting);
    return node != NULL && number_check(reader, values, setting, node, ret_value);
}

static int choice_find(const char *choices, const char *word, struct rml_names *names,
                       char names_text[][RML_NAME_MAX + 1])
{
    int found = -1;
    for (const char *at = choices; at != NULL;) {
        const char *end = strchr(at, '|');
        int length = end != NULL ? (int)(end - at) : (int)strlen(at);
        snprintf(names_text[names->count], RML_NAME_MAX + 1, "%.*s", length, at);
        if (strcmp(names_text[names->count], word) == 0)
            found = (int)names->count;
        rml_names_add(names, names_text[names->count]);
        at = end != NULL ? end + 1 : NULL;
    }
    return found;
}

bool rml_reader_choice(struct rml_reader *reader, const struct rml_values *values,
                       enum rml_setting setting, uint32_t *ret_choice)
{
    const struct rml_setting_info *info = &rml_setting_info[setting];
    struct rml_names names = {0};
    char names_text[8][RML_NAME_MAX + 1];
    if (values->at[setting] == NULL) {
        if (info->standard == NULL)
            return false;
        *ret_choice = (uint32_t)choice_find(info->choices, info->standard, &names, names_text);
        return true;
    }
    const struct rml_yaml_node *node = rml_reader_scalar(reader, values, setting);
    if (node == NULL)
        return false;
    int found = choice_find(info->choices, node->text, &names, names_text);
    if (found < 0) {
        char hint[160];
        rml_names_hint(&names, node->text, hint, sizeof hint);
        rml_report_add(reader->report, node->place, hint, "%s: there is no %s %.60s", values->what,
                       info->key, node->text);
        return false;
    }
    *ret_choice = (uint32_t)found;
    return true;
}

const struct rml_yaml_node *rml_reader_scalar(struct rml_reader *reader,
                                              const struct rml_values *values,
                                              enum rml_setting setting)
{
    const struct rml_yaml_node *node = values->at[setting];
    if (node == NULL)
        return NULL;
    if (node->kind != RML_YAML_SCALAR || node->text_length == 0) {
        char what[sizeof values->what + 40];
        snprintf(what, sizeof what, "%s: %s", values->what, rml_setting_info[setting].key);
        wrong_kind(reader, node, node->key->place, what,
                   rml_setting_kind_names[rml_setting_info[setting].kind]);
        return NULL;
    }
    return node;
}

uint32_t rml_reader_scalars(struct rml_reader *reader, const struct rml_values *values,
                            enum rml_setting setting, const struct rml_yaml_node **ret_list,
                            uint32_t most)
{
    const struct rml_yaml_node *node = values->at[setting];
    if (node == NULL)
        return 0;
    const struct rml_setting_info *info = &rml_setting_info[setting];
    if (node->kind != RML_YAML_SEQUENCE) {
        const struct rml_yaml_node *one = rml_reader_scalar(reader, values, setting);
        ret_list[0] = one;
        return one != NULL;
    }
    if (node->count == 0)
        rml_report_add(reader->report, named_place(node), "leave the key away, or name something",
                       "%s: %s is an empty list", values->what, info->key);
    uint32_t count = 0;
    for (const struct rml_yaml_node *n = node->first; n != NULL; n = n->next) {
        if (n->kind != RML_YAML_SCALAR || n->text_length == 0) {
            char what[sizeof values->what + 60];
            snprintf(what, sizeof what, "%s: each element of %s", values->what, info->key);
            wrong_kind(reader, n, n->place, what, "a single value");
            continue;
        }
        if (count == most) {
            rml_report_add(reader->report, n->place, NULL, "%s: %s has more than %u elements",
                           values->what, info->key, most);
            return count;
        }
        ret_list[count++] = n;
    }
    return count;
}

const struct rml_yaml_node *rml_reader_mapping(struct rml_reader *reader,
                                               const struct rml_values *values,
                                               enum rml_setting setting, uint32_t most)
{
    const struct rml_yaml_node *node = values->at[setting];
    if (node == NULL)
        return NULL;
    char what[sizeof values->what + 40];
    snprintf(what, sizeof what, "%s: %s", values->what, rml_setting_info[setting].key);
    if (node->kind != RML_YAML_MAPPING) {
        wrong_kind(reader, node, node->key->place, what, "a mapping");
        return NULL;
    }
    if (node->count == 0) {
        rml_report_add(reader->report, node->key->place, NULL, "%s is empty", what);
        return NULL;
    }
    if (node->count > most) {
        rml_report_add(reader->report, node->key->place, NULL, "%s has %u entries, at most %u go",
                       what, node->count, most);
        return NULL;
    }
    return node;
}

bool rml_reader_is_list(struct rml_reader *reader, const struct rml_yaml_node *node,
                        const char *what)
{
    if (node->kind == RML_YAML_SEQUENCE)
        return true;
    wrong_kind(reader, node, named_place(node), what, "a list");
    return false;
}

void rml_reader_lose(struct rml_reader *reader, uint32_t source, const char *name)
{
    if (reader->lost_count < RML_LOST_MAX)
        reader->lost[reader->lost_count++] = (struct rml_reader_lost){source, name};
}

bool rml_reader_is_lost(const struct rml_reader *reader, uint32_t source, const char *name,
                        size_t length)
{
    for (uint32_t i = 0; i < reader->lost_count; i++) {
        if (reader->lost[i].source == source && strlen(reader->lost[i].name) == length
            && memcmp(reader->lost[i].name, name, length) == 0)
            return true;
    }
    return false;
}

uint32_t rml_reader_stage_find(const struct rml_reader *reader, const char *name)
{
    for (uint32_t i = 0; i < reader->stage_count; i++)
        if (strcmp(reader->stages[i].name->text, name) == 0)
            return i;
    return UINT32_MAX;
}

uint32_t rml_reader_column(const struct rml_frame *frame, const uint64_t *visible, const char *name,
                           size_t length)
{
    for (uint32_t i = 0; i < frame->column_count; i++) {
        if ((visible == NULL || (visible[i / 64] >> (i % 64) & 1) != 0)
            && strlen(frame->columns[i].name) == length
            && memcmp(frame->columns[i].name, name, length) == 0)
            return i;
    }
    return RML_FIELD_ABSENT;
}

struct rml_expr *rml_reader_expr(struct rml_reader *reader, uint32_t source,
                                 const uint64_t *visible, const struct rml_yaml_node *node,
                                 uint32_t offset, uint32_t length)
{
    RML_CHECK(offset + length <= node->text_length);
    struct rml_expr *expr = NULL;
    struct rml_expr_error error = {0};
    const char *text = node->text + offset;
    int rc = rml_expr_compile(text, length, &reader->plan->sources[source].frame, visible, &expr,
                              &error);
    if (rc == 0)
        return expr;
    if (rc == -ENOMEM) {
        rml_report_add(reader->report, node->place, NULL, "no memory for this expression");
        return NULL;
    }
    bool inside = error.offset <= length && error.length <= length - error.offset;
    if (inside && rml_reader_is_lost(reader, source, text + error.offset, error.length))
        return NULL;
    rml_report_add(reader->report,
                   rml_yaml_part(node, offset + error.offset, error.length > 0 ? error.length : 1),
                   error.hint, "%s", error.text);
    return NULL;
}
