#include "runtime/plan/settings.h"

#include "runtime/plan/plan.h"

const struct rml_setting_info rml_setting_info[RML_SETTINGS] = {
#define RML_SETTING(SECTION, NAME, key, kind, standard, least, most, choices, sentence) \
 {RML_SECTION_##SECTION, RML_SETTING_##kind, #key, standard, least, most, choices, sentence},
#include "runtime/plan/settings.def"
#undef RML_SETTING
};

const char *const rml_section_names[RML_SECTIONS] = {
    [RML_SECTION_FILE] = "file",
    [RML_SECTION_RUNTIME] = "runtime",
    [RML_SECTION_CHECKPOINT] = "checkpoint",
    [RML_SECTION_LIMITS] = "limits",
    [RML_SECTION_ALLOW] = "allow of",
    [RML_SECTION_JOURNAL] = "journal",
    [RML_SECTION_SOURCE] = "source",
    [RML_SECTION_STAGE] = "stage",
    [RML_SECTION_WINDOW] = "window",
    [RML_SECTION_TRIGGER] = "trigger",
    [RML_SECTION_SINK] = "sink",
    [RML_SECTION_TEST] = "test",
};

const char *const rml_section_paths[RML_SECTIONS] = {
    [RML_SECTION_FILE] = "",
    [RML_SECTION_RUNTIME] = "runtime.",
    [RML_SECTION_CHECKPOINT] = "runtime.checkpoint.",
    [RML_SECTION_LIMITS] = "runtime.limits.",
    [RML_SECTION_ALLOW] = "sources.NAME.allow.",
    [RML_SECTION_JOURNAL] = "runtime.journal.",
    [RML_SECTION_SOURCE] = "sources.NAME.",
    [RML_SECTION_STAGE] = "stages.NAME.",
    [RML_SECTION_WINDOW] = "stages.NAME.window.",
    [RML_SECTION_TRIGGER] = "stages.NAME.window.trigger.",
    [RML_SECTION_SINK] = "sinks.NAME.",
    [RML_SECTION_TEST] = "tests[].",
};

const char *const rml_setting_kind_names[RML_SETTING_KINDS] = {
    [RML_SETTING_INTEGER] = "an integer",
    [RML_SETTING_POWER] = "a power of two",
    [RML_SETTING_DURATION] = "a duration such as 200ms",
    [RML_SETTING_SIZE] = "a size such as 64MiB",
    [RML_SETTING_CHOICE] = "a choice",
    [RML_SETTING_NAME] = "a name",
    [RML_SETTING_NAMES] = "a name or a list of names",
    [RML_SETTING_INTEGERS] = "a list of integers",
    [RML_SETTING_ACCOUNTS] = "a name or a number, or a list of them",
    [RML_SETTING_TEXT] = "a text",
    [RML_SETTING_TEXTS] = "a text or a list of texts",
    [RML_SETTING_EXPRESSION] = "an expression",
    [RML_SETTING_MAPPING] = "a mapping",
    [RML_SETTING_LIST] = "a list",
};
