/*
 * settings - every key that a pipeline file may hold, as a table.
 *
 * The reader takes keys, defaults and limits from it, `ringmill explain --keys` and the manual take
 * the sentences. What stands behind names of the user's own (a schema's fields, the rows of a test)
 * is not in it.
 */
#ifndef RML_PLAN_SETTINGS_H
#define RML_PLAN_SETTINGS_H

#include <stdint.h>

/* The longest duration in a file: ten years, so that sums of a few of them stay inside int64. */
#define RML_DURATION_MOST (INT64_C(3650) * 86400 * 1000000000)

enum rml_section {
    RML_SECTION_FILE,
    RML_SECTION_RUNTIME,
    RML_SECTION_CHECKPOINT,
    RML_SECTION_LIMITS,
    RML_SECTION_ALLOW,
    RML_SECTION_JOURNAL,
    RML_SECTION_SOURCE,
    RML_SECTION_STAGE,
    RML_SECTION_WINDOW,
    RML_SECTION_TRIGGER,
    RML_SECTION_SINK,
    RML_SECTION_TEST,
    RML_SECTIONS
};

enum rml_setting_kind {
    RML_SETTING_INTEGER,
    RML_SETTING_POWER,  // of two
    RML_SETTING_DURATION,
    RML_SETTING_SIZE,
    RML_SETTING_CHOICE,
    RML_SETTING_NAME,
    RML_SETTING_NAMES,  // one, or a list
    RML_SETTING_INTEGERS,
    RML_SETTING_ACCOUNTS,  // users or groups: one, or a list
    RML_SETTING_TEXT,
    RML_SETTING_TEXTS,  // one, or a list
    RML_SETTING_EXPRESSION,
    RML_SETTING_MAPPING,
    RML_SETTING_LIST,
    RML_SETTING_KINDS
};

struct rml_setting_info {
    enum rml_section section;
    enum rml_setting_kind kind;
    const char *key;
    /* The default as it would be written, or what holds without; NULL: the key must be there. */
    const char *standard;
    int64_t least, most;
    const char *choices;  // CHOICE: "a|b"
    const char *sentence;
};

enum rml_setting {

#define RML_SETTING(SECTION, NAME, ...) RML_SET_##SECTION##_##NAME,
#include "runtime/plan/settings.def"
#undef RML_SETTING
    RML_SETTINGS
};

extern const struct rml_setting_info rml_setting_info[RML_SETTINGS];
extern const char *const rml_section_names[RML_SECTIONS];            // "source"
extern const char *const rml_section_paths[RML_SECTIONS];            // "sources.NAME."
extern const char *const rml_setting_kind_names[RML_SETTING_KINDS];  // "a duration such as 200ms"

#endif
