#include "runtime/plan/yaml.h"

#include <libfyaml.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/utf8.h"

struct level {
    struct rml_yaml_node *node;
    struct rml_yaml_node *last;  // child
    const struct rml_yaml_node *key;
    bool key_broken;  // the value that follows has no usable key
};

struct builder {
    const char *source;
    size_t source_length;
    struct rml_arena *arena;
    struct rml_report *report;
    struct fy_parser *parser;
    struct rml_yaml_node *root;
    uint32_t nodes, documents, depth;
    struct level levels[RML_YAML_DEPTH_MAX];
    bool stop;
};

static uint32_t clamp_offset(const struct builder *b, size_t offset)
{
    return (uint32_t)(offset < b->source_length ? offset : b->source_length);
}

static struct rml_place event_place(const struct builder *b, struct fy_event *event)
{
    const struct fy_mark *start = fy_event_start_mark(event);
    const struct fy_mark *end = fy_event_end_mark(event);
    struct rml_place place = {0};
    if (start != NULL)
        place.offset = clamp_offset(b, start->input_pos);
    if (start != NULL && end != NULL && end->input_pos > start->input_pos)
        place.length = clamp_offset(b, end->input_pos) - place.offset;
    return place;
}

static struct rml_place token_place(const struct builder *b, struct fy_token *token)
{
    const struct fy_mark *start = fy_token_start_mark(token);
    const struct fy_mark *end = fy_token_end_mark(token);
    if (start == NULL || end == NULL || end->input_pos < start->input_pos)
        return (struct rml_place){0};
    uint32_t offset = clamp_offset(b, start->input_pos);
    return (struct rml_place){offset, clamp_offset(b, end->input_pos) - offset};
}

// Stop reading: what follows could not be understood, or would cost too much.
static void builder_stop(struct builder *b, struct rml_place place, const char *hint,
                         const char *sentence)
{
    rml_report_add(b->report, place, hint, "%s", sentence);
    b->stop = true;
}

static struct rml_yaml_node *builder_node(struct builder *b, struct fy_event *event,
                                          enum rml_yaml_kind kind)
{
    struct rml_place place = event_place(b, event);
    if (b->nodes == RML_YAML_NODES_MAX) {
        builder_stop(b, place, NULL, "the file holds too many values");
        return NULL;
    }
    b->nodes++;
    struct rml_yaml_node *node = rml_arena_give(b->arena, 1, sizeof *node);
    *node = (struct rml_yaml_node){.kind = kind,
                                   .place = place,
                                   .line = 1,
                                   .column = 1,
                                   .text_offset = UINT32_MAX,
                                   .text = ""};
    const struct fy_mark *start = fy_event_start_mark(event);
    if (start != NULL) {
        node->line = (uint32_t)start->line + 1;
        node->column = (uint32_t)start->column + 1;
    } else if (b->depth > 0) {  // a value that is not written stands where it is missed
        const struct level *level = &b->levels[b->depth - 1];
        const struct rml_yaml_node *near = level->key != NULL ? level->key : level->node;
        node->place = near->place;
        node->line = near->line;
        node->column = near->column;
    }

    struct fy_token *anchor = fy_event_get_anchor_token(event);
    struct fy_token *tag = fy_event_get_tag_token(event);
    if (anchor != NULL && kind != RML_YAML_BROKEN)
        rml_report_add(b->report, token_place(b, anchor), "write the value out where it is needed",
                       "anchors are not read in a pipeline file");
    if (tag != NULL)
        rml_report_add(b->report, token_place(b, tag), "leave the tag away",
                       "tags are not read in a pipeline file");
    return node;
}

static bool has_key(const struct level *level, const struct rml_yaml_node *key)
{
    for (const struct rml_yaml_node *n = level->node->first; n != NULL; n = n->next) {
        if (n->key->text_length == key->text_length
            && memcmp(n->key->text, key->text, key->text_length) == 0)
            return true;
    }
    return false;
}

static void builder_key(struct builder *b, struct level *level, struct rml_yaml_node *node)
{
    level->key = node;
    level->key_broken = true;
    if (node->kind == RML_YAML_BROKEN)
        return;
    if (node->kind != RML_YAML_SCALAR)
        rml_report_add(b->report, node->place, NULL, "a key is a plain word");
    else if (level->node->count == RML_YAML_MAPPING_MAX)
        builder_stop(b, node->place, NULL, "too many keys in one mapping (at most 256)");
    else if (has_key(level, node)) {
        rml_report_add(b->report, node->place, "keep one of the two",
                       "the key %s stands here twice", node->text);
    } else {
        level->key_broken = false;
    }
}

// Hang a finished or just opened node into the tree: as a key, as a child, or as the root.
static void builder_attach(struct builder *b, struct rml_yaml_node *node)
{
    if (b->depth == 0) {
        b->root = node;
        return;
    }
    struct level *level = &b->levels[b->depth - 1];
    if (level->node->kind == RML_YAML_MAPPING && level->key == NULL) {
        builder_key(b, level, node);
        return;
    }
    node->key = level->key;
    level->key = NULL;
    if (level->node->kind == RML_YAML_MAPPING && level->key_broken)
        return;  // reported with its key
    if (level->last == NULL)
        level->node->first = node;
    else
        level->last->next = node;
    level->last = node;
    level->node->count++;
}

/*
 * The text of a scalar in single quotes, whose only escape is a doubled quote. It is read here because
 * fy_token_get_text of libfyaml 0.7.12 leaks memory for one with many escapes; one that runs over
 * several lines, with folds, is refused.
 */
static bool single_quoted(struct builder *b, struct rml_yaml_node *node)
{
    const char *from = b->source + node->place.offset;
    uint32_t length = node->place.length;
    if (memchr(from, '\n', length) != NULL || memchr(from, '\r', length) != NULL) {
        rml_report_add(b->report, node->place, "use double quotes, or none",
                       "a text in single quotes ends on its line");
        return false;
    }
    char *text = rml_arena_text(b->arena, from, length);
    uint32_t used = 0;
    for (uint32_t i = 0; i < length; i++) {
        text[used++] = from[i];
        if (from[i] == '\'')
            i++;  // and its double
    }
    text[used] = '\0';
    node->text = text;
    node->text_length = used;
    return true;
}

static bool other_text(struct builder *b, struct rml_yaml_node *node, struct fy_token *token)
{
    size_t length = 0;
    const char *text = fy_token_get_text(token, &length);
    if (text == NULL)
        return true;
    if (memchr(text, '\0', length) != NULL) {
        rml_report_add(b->report, node->place, NULL, "a text cannot hold the character NUL");
        return false;
    }
    node->text = rml_arena_text(b->arena, text, length);
    node->text_length = (uint32_t)length;
    return true;
}

static void builder_scalar(struct builder *b, struct fy_event *event)
{
    struct rml_yaml_node *node = builder_node(b, event, RML_YAML_SCALAR);
    if (node == NULL)
        return;
    struct fy_token *token = event->scalar.value;
    enum fy_scalar_style style = token != NULL ? fy_token_scalar_style(token) : FYSS_PLAIN;
    node->plain = style == FYSS_PLAIN || style == FYSS_ANY;
    if (token != NULL
        && !(style == FYSS_SINGLE_QUOTED ? single_quoted(b, node) : other_text(b, node, token)))
        node->kind = RML_YAML_BROKEN;
    // a quoted text's place begins behind its quote
    uint32_t length = node->text_length;
    if (length > 0 && length <= b->source_length - node->place.offset
        && memcmp(b->source + node->place.offset, node->text, length) == 0)
        node->text_offset = node->place.offset;
    builder_attach(b, node);
}

static void builder_open(struct builder *b, struct fy_event *event, enum rml_yaml_kind kind)
{
    struct rml_yaml_node *node = builder_node(b, event, kind);
    if (node == NULL)
        return;
    if (b->depth == RML_YAML_DEPTH_MAX) {
        builder_stop(b, node->place, NULL,
                     "nested too deep for a pipeline file (at most 16 levels)");
        return;
    }
    builder_attach(b, node);
    b->levels[b->depth++] = (struct level){.node = node};
}

static void builder_alias(struct builder *b, struct fy_event *event)
{
    struct rml_yaml_node *node = builder_node(b, event, RML_YAML_BROKEN);
    if (node == NULL)
        return;
    rml_report_add(b->report, node->place, "write the value out where it is needed",
                   "aliases are not read in a pipeline file");
    builder_attach(b, node);
}

static void builder_event(struct builder *b, struct fy_event *event)
{
    switch (event->type) {
    case FYET_DOCUMENT_START:
        if (++b->documents > 1)
            builder_stop(b, event_place(b, event), "put each pipeline into a file of its own",
                         "a pipeline file holds one document");
        break;
    case FYET_SCALAR:
        builder_scalar(b, event);
        break;
    case FYET_ALIAS:
        builder_alias(b, event);
        break;
    case FYET_MAPPING_START:
        builder_open(b, event, RML_YAML_MAPPING);
        break;
    case FYET_SEQUENCE_START:
        builder_open(b, event, RML_YAML_SEQUENCE);
        break;
    case FYET_MAPPING_END:
    case FYET_SEQUENCE_END:
        RML_CHECK(b->depth > 0);
        b->depth--;
        break;
    case FYET_NONE:
    case FYET_STREAM_START:
    case FYET_STREAM_END:
    case FYET_DOCUMENT_END:
        break;
    }
}

// What libfyaml had to say about text that is no YAML: the first complaint, the others follow from it.
static void builder_syntax(struct builder *b, struct fy_diag *diag)
{
    void *cursor = NULL;
    const struct fy_diag_error *error = fy_diag_errors_iterate(diag, &cursor);
    struct rml_place place = {0};
    if (error != NULL && error->line > 0)
        place = rml_report_place(b->source, b->source_length, (uint32_t)error->line,
                                 error->column > 0 ? (uint32_t)error->column : 1);
    rml_report_add(b->report, place, NULL, "this is not YAML: %s",
                   error != NULL && error->msg != NULL ? error->msg : "it cannot be parsed");
    b->root = NULL;
}

// Only text goes on to the parser: UTF-8 without control characters but tab and line ends.
static bool is_text(const char *source, size_t source_length, struct rml_report *report)
{
    const unsigned char *bytes = (const unsigned char *)source;
    for (size_t at = 0; at < source_length;) {
        size_t length = rml_utf8_length(bytes + at, source_length - at);
        bool control =
            length == 1
            && ((bytes[at] < 0x20 && bytes[at] != '\t' && bytes[at] != '\n' && bytes[at] != '\r')
                || bytes[at] == 0x7f);
        if (length == 0 || control) {
            rml_report_add(report, (struct rml_place){(uint32_t)at, 1}, NULL,
                           length == 0 ? "byte 0x%02x is not UTF-8 text"
                                       : "the control character 0x%02x is not text",
                           bytes[at]);
            return false;
        }
        at += length;
    }
    return true;
}

const struct rml_yaml_node *rml_yaml_read(const char *source, size_t source_length,
                                          struct rml_arena *arena, struct rml_report *report)
{
    RML_CHECK(source_length <= RML_YAML_BYTES_MAX);
    if (!is_text(source, source_length, report))
        return NULL;

    struct builder b = {
        .source = source, .source_length = source_length, .arena = arena, .report = report};
    struct fy_diag_cfg diag_config;
    fy_diag_cfg_default(&diag_config);
    diag_config.fp = NULL;
    struct fy_diag *diag = fy_diag_create(&diag_config);
    struct fy_parse_cfg config = {
        .flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE, .diag = diag};
    if (diag != NULL) {
        fy_diag_set_collect_errors(diag, true);
        b.parser = fy_parser_create(&config);
    }
    if (b.parser == NULL || fy_parser_set_string(b.parser, source, source_length) != 0) {
        builder_stop(&b, (struct rml_place){0}, NULL, "no memory to read the file");
        b.root = NULL;
        goto done;
    }

    struct fy_event *event;
    while (!b.stop && (event = fy_parser_parse(b.parser)) != NULL) {
        builder_event(&b, event);
        fy_parser_event_free(b.parser, event);
    }
    if (!b.stop && fy_parser_get_stream_error(b.parser))
        builder_syntax(&b, diag);
    else if (b.stop)
        b.root = NULL;
    else if (b.root == NULL)
        rml_report_add(report, (struct rml_place){0}, "begin with `version: 1`",
                       "the file is empty");

done:
    if (b.parser != NULL)
        fy_parser_destroy(b.parser);
    if (diag != NULL)
        fy_diag_destroy(diag);
    return b.root;
}

const struct rml_yaml_node *rml_yaml_find(const struct rml_yaml_node *mapping, const char *key)
{
    for (const struct rml_yaml_node *n = mapping->first; n != NULL; n = n->next)
        if (n->key != NULL && strcmp(n->key->text, key) == 0)
            return n;
    return NULL;
}

bool rml_yaml_is_null(const struct rml_yaml_node *node)
{
    return node->kind == RML_YAML_SCALAR && node->plain
           && (node->text_length == 0 || strcmp(node->text, "null") == 0
               || strcmp(node->text, "~") == 0);
}

struct rml_place rml_yaml_part(const struct rml_yaml_node *node, uint32_t offset, uint32_t length)
{
    if (node->text_offset == UINT32_MAX || offset > node->text_length)
        return node->place;
    return (struct rml_place){node->text_offset + offset, length};
}
