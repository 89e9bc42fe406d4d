/*
 * allow - whom a pipeline file lets in beside the engine's own user and root.
 */
#ifndef RML_PLAN_ALLOW_H
#define RML_PLAN_ALLOW_H

#include <stdint.h>

#define RML_ALLOW_MAX 16  // users of one list, and groups

struct rml_allow {
    uint32_t line;  // of the file, where it stands; 0: it stands nowhere, and lists nobody
    uint32_t user_count, group_count;
    uint32_t users[RML_ALLOW_MAX], groups[RML_ALLOW_MAX];
    const char *text;  // "users app, 1005; groups feeders", as written; NULL: it lists nobody
};

#endif
