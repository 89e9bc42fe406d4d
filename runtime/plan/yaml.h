/*
 * yaml - a pipeline file as a tree of nodes that know their place.
 *
 * What YAML 1.2 offers beyond that is refused here, with a sentence: tags, anchors, aliases,
 * duplicate keys, keys that are no words, several documents, bytes that are no text. The syntax is
 * libfyaml's to know; the tree is built from its events, so depth and size stay bounded by us.
 */
#ifndef RML_PLAN_YAML_H
#define RML_PLAN_YAML_H

#include "runtime/plan/arena.h"
#include "runtime/plan/report.h"

#define RML_YAML_BYTES_MAX   (1u << 20)
#define RML_YAML_NODES_MAX   (1u << 18)
#define RML_YAML_DEPTH_MAX   16
#define RML_YAML_MAPPING_MAX 256  // keys of one mapping

enum rml_yaml_kind {
    RML_YAML_SCALAR,
    RML_YAML_SEQUENCE,
    RML_YAML_MAPPING,
    RML_YAML_BROKEN,  // reported already: whoever meets it says nothing more
};

struct rml_yaml_node {
    enum rml_yaml_kind kind;
    bool plain;              // SCALAR: written without quotes
    struct rml_place place;  // in the file
    uint32_t line, column;
    /* Where in the file the text stands byte for byte; UINT32_MAX where quotes or folds differ. */
    uint32_t text_offset;
    const char *text;  // SCALAR: NUL terminated, and no NUL before
    uint32_t text_length;
    uint32_t count;                     // SEQUENCE, MAPPING: children
    const struct rml_yaml_node *key;    // of a mapping's child
    const struct rml_yaml_node *first;  // child
    const struct rml_yaml_node *next;   // sibling
};

/*
 * Build the tree of `source` in `arena`. Returns the root, or NULL when the text is no YAML at all
 * or holds nothing; whatever is wrong is in `report`. Nodes live as long as the arena.
 */
const struct rml_yaml_node *rml_yaml_read(const char *source, size_t source_length,
                                          struct rml_arena *arena, struct rml_report *report);

/* The child of that key, or NULL. */
const struct rml_yaml_node *rml_yaml_find(const struct rml_yaml_node *mapping, const char *key);

/* An empty value: nothing written, `null` or `~`. */
bool rml_yaml_is_null(const struct rml_yaml_node *node);

/* The place of a part of a scalar's text; the whole scalar where the file's bytes differ from it. */
struct rml_place rml_yaml_part(const struct rml_yaml_node *node, uint32_t offset, uint32_t length);

#endif
