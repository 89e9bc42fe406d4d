#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/suggest.h"
#include "runtime/plan/accounts.h"
#include "runtime/plan/reader.h"
#include "runtime/plan/units.h"

#define NUMBER_MOST (UINT32_MAX - 1)  // the last is none, to every call of the kernel's

static const char *const kind_names[] = {
    [RML_ACCOUNT_USER] = "user",
    [RML_ACCOUNT_GROUP] = "group",
};

#define LOOKED_AT_MOST 10000  // of names that are like one that is not there

struct near_by {
    struct rml_reader *reader;
    const struct rml_yaml_node *word;
    const char *name;  // the nearest so far, or NULL
};

static void see_name(void *context, const char *name)
{
    struct near_by *near = context;
    const char *const names[] = {near->name, name};
    size_t from = near->name == NULL;
    if (rml_suggest(near->word->text, near->word->text_length, names + from, 2 - from) == name)
        near->name = rml_arena_text(near->reader->arena, name, strlen(name));
}

static void report_nobody(struct rml_reader *reader, const struct rml_values *values,
                          const struct rml_yaml_node *node, enum rml_account_kind kind, int rc)
{
    if (rc != -ENOENT) {
        rml_report_add(reader->report, node->place, "write its number instead",
                       "%s: this machine does not say who %s %.60s is: %s", values->what,
                       kind_names[kind], node->text, strerrordesc_np(-rc));
        return;
    }
    struct near_by near = {.reader = reader, .word = node};
    rml_account_each(kind, LOOKED_AT_MOST, see_name, &near);
    char hint[160];
    snprintf(hint, sizeof hint,
             near.name != NULL ? "did you mean %.60s?" : "its number would do, too", near.name);
    rml_report_add(reader->report, node->place, hint, "%s: there is no %s %.60s", values->what,
                   kind_names[kind], node->text);
}

static bool read_one(struct rml_reader *reader, const struct rml_values *values,
                     const struct rml_yaml_node *node, enum rml_account_kind kind,
                     uint32_t *ret_number)
{
    int64_t number;
    int rc = rml_integer_parse(node->text, node->text_length, &number);
    if (rc == -EINVAL) {
        rc = rml_account_find(kind, node->text, ret_number);
        if (rc < 0)
            report_nobody(reader, values, node, kind, rc);
        return rc == 0;
    }
    if (rc < 0 || number < 0 || number > NUMBER_MOST) {
        rml_report_add(reader->report, node->place, NULL, "%s: no %s has the number %.60s",
                       values->what, kind_names[kind], node->text);
        return false;
    }
    *ret_number = (uint32_t)number;
    return true;
}

/* What is said of a list to people. */
struct said {
    char text[512];
    size_t used;
};

static void say(struct said *said, const char *before, const char *word)
{
    int more =
        snprintf(said->text + said->used, sizeof said->text - said->used, "%s%s", before, word);
    said->used += (size_t)more;
    if (said->used >= sizeof said->text)
        said->used = sizeof said->text - 1;
}

static uint32_t read_list(struct rml_reader *reader, const struct rml_values *values,
                          enum rml_setting setting, enum rml_account_kind kind,
                          uint32_t numbers[RML_ALLOW_MAX], struct said *said)
{
    const struct rml_yaml_node *list[RML_ALLOW_MAX];
    uint32_t written = rml_reader_scalars(reader, values, setting, list, RML_ALLOW_MAX), count = 0;
    for (uint32_t i = 0; i < written; i++) {
        if (!read_one(reader, values, list[i], kind, &numbers[count]))
            continue;
        if (count == 0) {
            say(said, said->used > 0 ? "; " : "", kind_names[kind]);
            say(said, written > 1 ? "s " : " ", list[i]->text);
        } else {
            say(said, ", ", list[i]->text);
        }
        count++;
    }
    return count;
}

void rml_read_allow(struct rml_reader *reader, const struct rml_values *values,
                    enum rml_setting setting, const char *whose, struct rml_allow *allow)
{
    const struct rml_yaml_node *node = values->at[setting];
    struct rml_values lists;
    *allow = (struct rml_allow){0};
    if (node == NULL
        || !rml_reader_section(reader, RML_SECTION_ALLOW, node, node->key->place, whose, &lists))
        return;
    struct said said = {.used = 0};
    allow->user_count =
        read_list(reader, &lists, RML_SET_ALLOW_USERS, RML_ACCOUNT_USER, allow->users, &said);
    allow->group_count =
        read_list(reader, &lists, RML_SET_ALLOW_GROUPS, RML_ACCOUNT_GROUP, allow->groups, &said);
    if (said.used > 0)
        allow->text = rml_arena_text(reader->arena, said.text, said.used);
    allow->line = node->key->line;
}
