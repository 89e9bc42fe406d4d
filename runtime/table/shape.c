#include "runtime/table/shape.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/record/order.h"
#include "runtime/record/text.h"
#include "runtime/time/time.h"

/* Which of several: behind start, where rows need it. */
#define WHICH_BYTES (sizeof(uint32_t) + sizeof(uint32_t) + sizeof(uint64_t))

_Static_assert(RML_SHAPE_ID_MAX + sizeof(uint64_t) <= RML_TABLE_KEY_BYTES,
               "a list names rows by it");
_Static_assert(RML_KEY_BYTES_MAX + RML_KEY_FIELDS_MAX + sizeof(uint64_t) + WHICH_BYTES
                   <= RML_SHAPE_ID_MAX,
               "an identity has room");

static void name_tables(struct rml_shape *shape, const char *name, int name_bytes)
{
    snprintf(shape->name, sizeof shape->name, "%.*s", name_bytes, name);
    snprintf(shape->by_time, sizeof shape->by_time, "%.*s" RML_SHAPE_BY_TIME,
             (int)(sizeof shape->by_time - sizeof RML_SHAPE_BY_TIME), shape->name);
}

static void shape_window(const struct rml_plan_stage *stage, struct rml_shape *shape)
{
    // window_start, window_end, the key, revision, and what is there of retracted and evicted
    shape->schema = stage->output;
    shape->key_count = stage->key_count;
    for (uint32_t k = 0; k < stage->key_count; k++)
        shape->keys[k] = 2 + k;
    shape->start = 0;
    shape->time = 1;
    shape->is_each = stage->window.kind == RML_WINDOW_COUNT;
    shape->is_timed_made = stage->window.kind == RML_WINDOW_GLOBAL;
    if (stage->window.kind == RML_WINDOW_SESSION)
        shape->retracted = rml_schema_find(&shape->schema, "retracted", strlen("retracted"));
    if (rml_plan_evicts(stage))
        shape->evicted = rml_schema_find(&shape->schema, "evicted", strlen("evicted"));
}

static void shape_records(const struct rml_plan *plan, const struct rml_plan_stage *stage,
                          bool late, struct rml_shape *shape)
{
    const struct rml_plan_source *source = &plan->sources[stage->source];
    shape->schema = late ? source->schema : stage->output;
    shape->is_each = true;
    for (uint32_t i = 0; i < shape->schema.field_count; i++) {
        uint32_t column = late ? i : stage->output_columns[i];
        if (column == source->time_field)
            shape->start = shape->time = i;
    }
    RML_CHECK(shape->time != RML_FIELD_ABSENT);  // every stage hands on the source's fields
}

void rml_shape_of(const struct rml_plan *plan, struct rml_plan_output output,
                  struct rml_shape *ret_shape)
{
    const struct rml_plan_stage *stage = &plan->stages[output.stage];
    char name[RML_TABLE_NAME_BYTES];
    *ret_shape = (struct rml_shape){.start = RML_FIELD_ABSENT,
                                    .time = RML_FIELD_ABSENT,
                                    .retracted = RML_FIELD_ABSENT,
                                    .evicted = RML_FIELD_ABSENT};
    int length = snprintf(name, sizeof name, "%s%s", stage->name, output.late ? ".late" : "");
    name_tables(ret_shape, name, length);
    if (stage->kind == RML_STAGE_WINDOW && !output.late)
        shape_window(stage, ret_shape);
    else
        shape_records(plan, stage, output.late, ret_shape);
}

static int64_t time_in(const struct rml_shape *shape, const void *record, uint32_t field)
{
    int64_t time;
    memcpy(&time, (const char *)record + shape->schema.fields[field].offset, sizeof time);
    return time;
}

int64_t rml_shape_time(const struct rml_shape *shape, const void *record, int64_t fire)
{
    return shape->is_timed_made ? fire : time_in(shape, record, shape->time);
}

bool rml_shape_is(const struct rml_shape *shape, const void *record, uint32_t field)
{
    return field != RML_FIELD_ABSENT
           && ((const unsigned char *)record)[shape->schema.fields[field].offset] != 0;
}

uint32_t rml_shape_prefix(const struct rml_shape *shape, const void *record, uint32_t key_count,
                          unsigned char *to)
{
    uint32_t used = 0;
    for (uint32_t k = 0; k < key_count; k++)
        used += rml_order_put(&shape->schema.fields[shape->keys[k]], record, to + used);
    return used;
}

static uint32_t put_which(const struct rml_shape_head *head, bool is_one, unsigned char *to)
{
    if (!is_one) {
        memset(to, 0xff, WHICH_BYTES);
        return WHICH_BYTES;
    }
    const uint32_t life = htobe32(head->life), partition = htobe32(head->partition);
    const uint64_t seq = htobe64(head->seq);
    memcpy(to, &life, sizeof life);
    memcpy(to + sizeof life, &partition, sizeof partition);
    memcpy(to + sizeof life + sizeof partition, &seq, sizeof seq);
    return WHICH_BYTES;
}

uint32_t rml_shape_id(const struct rml_shape *shape, const void *record,
                      const struct rml_shape_head *head, bool is_part, unsigned char *to)
{
    uint32_t used = rml_shape_prefix(shape, record, shape->key_count, to);
    rml_order_put_time(time_in(shape, record, shape->start), to + used);
    used += (uint32_t)sizeof(int64_t);
    if (shape->is_each || shape->evicted != RML_FIELD_ABSENT)
        used += put_which(head, shape->is_each || is_part, to + used);
    return used;
}

// False: it is damaged, too.
static bool read_id(const struct rml_shape *shape, const unsigned char *id, uint32_t bytes,
                    void *record)
{
    uint32_t used = 0;
    for (uint32_t k = 0; k < shape->key_count; k++) {
        uint32_t took =
            rml_order_take(&shape->schema.fields[shape->keys[k]], id + used, bytes - used, record);
        if (took == 0)
            return false;
        used += took;
    }
    return rml_order_take(&shape->schema.fields[shape->start], id + used, bytes - used, record) > 0;
}

void rml_shape_name_row(const struct rml_shape *shape, const unsigned char *id, uint32_t bytes,
                        char text[RML_SHAPE_ROW_TEXT])
{
    char value[RML_TEXT_FIELD_MAX];
    unsigned char record[RML_RECORD_MAX] = {0};
    const struct rml_text_options options = {.rfc3339 = true};
    size_t used = (size_t)snprintf(text, RML_SHAPE_ROW_TEXT, "the row of");
    bool is_named = read_id(shape, id, bytes, record);
    for (uint32_t k = 0; is_named && k <= shape->key_count && used < RML_SHAPE_ROW_TEXT; k++) {
        const struct rml_field *field =
            &shape->schema.fields[k < shape->key_count ? shape->keys[k] : shape->start];
        uint32_t length = rml_text_field_csv(field, record, &options, value);
        used += (size_t)snprintf(text + used, RML_SHAPE_ROW_TEXT - used, " %s %.*s%s", field->name,
                                 (int)length, value, k < shape->key_count ? "," : "");
    }
    if (!is_named)
        snprintf(text + used, RML_SHAPE_ROW_TEXT - used, " no known key");
}

/* Notes */

struct note_field {
    char name[RML_NAME_MAX + 1];
    char type[12];
    uint32_t nullable;
};

struct note_head {
    uint32_t format, field_count;
    struct rml_shape_state state;
    uint64_t schema_hash;
    uint32_t has_nulls, key_count;
    uint32_t keys[RML_KEY_FIELDS_MAX];
    uint32_t start, time, retracted, evicted;
    uint32_t is_each, is_timed_made;
};

_Static_assert(sizeof(struct note_head) + RML_FIELDS_MAX * sizeof(struct note_field)
                   <= RML_SHAPE_NOTE_MAX,
               "a note has room");

uint32_t rml_shape_write(const struct rml_shape *shape, const struct rml_shape_state *state,
                         unsigned char note[RML_SHAPE_NOTE_MAX])
{
    struct note_head head = {.format = RML_SHAPE_FORMAT,
                             .field_count = shape->schema.field_count,
                             .state = *state,
                             .schema_hash = shape->schema.hash,
                             .has_nulls = shape->schema.has_nulls,
                             .key_count = shape->key_count,
                             .start = shape->start,
                             .time = shape->time,
                             .retracted = shape->retracted,
                             .evicted = shape->evicted,
                             .is_each = shape->is_each,
                             .is_timed_made = shape->is_timed_made};
    memcpy(head.keys, shape->keys, sizeof head.keys);
    memcpy(note, &head, sizeof head);
    uint32_t used = (uint32_t)sizeof head;
    for (uint32_t i = 0; i < shape->schema.field_count; i++) {
        const struct rml_field *from = &shape->schema.fields[i];
        struct note_field field = {.nullable = from->nullable};
        memcpy(field.name, from->name, sizeof field.name);
        snprintf(field.type, sizeof field.type, "%s", rml_type_info[from->type].name);
        memcpy(note + used, &field, sizeof field);
        used += (uint32_t)sizeof field;
    }
    return used;
}

static bool is_field(const struct rml_shape *shape, uint32_t field, enum rml_type type)
{
    return field < shape->schema.field_count && shape->schema.fields[field].type == type;
}

static bool is_sound(const struct rml_shape *shape)
{
    for (uint32_t k = 0; k < shape->key_count; k++) {
        uint32_t field = shape->keys[k];
        if (field >= shape->schema.field_count
            || rml_type_info[shape->schema.fields[field].type].kind == RML_KIND_FLOAT)
            return false;
    }
    return is_field(shape, shape->start, RML_TIME) && is_field(shape, shape->time, RML_TIME)
           && (shape->retracted == RML_FIELD_ABSENT || is_field(shape, shape->retracted, RML_BOOL))
           && (shape->evicted == RML_FIELD_ABSENT || is_field(shape, shape->evicted, RML_BOOL));
}

static bool read_schema(const struct note_head *head, const unsigned char *fields,
                        struct rml_schema *schema)
{
    for (uint32_t i = 0; i < head->field_count; i++) {
        struct note_field field;
        memcpy(&field, fields + i * sizeof field, sizeof field);
        field.name[sizeof field.name - 1] = '\0';
        enum rml_type type = rml_type_find(field.type, strnlen(field.type, sizeof field.type));
        if (type == RML_TYPES
            || rml_schema_add(schema, field.name, type, field.nullable != 0, NULL) < 0)
            return false;
    }
    return rml_schema_seal(schema, NULL) == 0;
}

int rml_shape_read(const char *name, uint32_t name_bytes, const void *note, uint32_t bytes,
                   struct rml_shape *ret_shape, struct rml_shape_state *ret_state,
                   struct rml_err *err)
{
    struct note_head head = {0};
    struct rml_shape shape = {0};
    uint32_t format = 0;
    if (bytes >= sizeof format)
        memcpy(&format, note, sizeof format);
    if (bytes >= sizeof format && format != RML_SHAPE_FORMAT)
        return RML_FAIL(err, -EPROTONOSUPPORT,
                        "table %.*s has format %u and this program reads format %u: use the "
                        "program that wrote it, or `ringmill run --fresh %.*s FILE` empties it",
                        (int)name_bytes, name, format, RML_SHAPE_FORMAT, (int)strcspn(name, "."),
                        name);
    bool good = bytes >= sizeof head;
    if (good)
        memcpy(&head, note, sizeof head);
    good = good && name_bytes + sizeof RML_SHAPE_BY_TIME <= sizeof shape.by_time
           && head.field_count <= RML_FIELDS_MAX && head.key_count <= RML_KEY_FIELDS_MAX
           && bytes == sizeof head + head.field_count * sizeof(struct note_field);
    if (good) {
        shape.key_count = head.key_count;
        memcpy(shape.keys, head.keys, sizeof shape.keys);
        shape.start = head.start;
        shape.time = head.time;
        shape.retracted = head.retracted;
        shape.evicted = head.evicted;
        shape.is_each = head.is_each != 0;
        shape.is_timed_made = head.is_timed_made != 0;
        name_tables(&shape, name, (int)name_bytes);
        char stage[RML_NAME_MAX + 1];
        snprintf(stage, sizeof stage, "%.*s", (int)strcspn(shape.name, "."), shape.name);
        rml_schema_init(&shape.schema, stage, head.has_nulls != 0);
        good = read_schema(&head, (const unsigned char *)note + sizeof head, &shape.schema)
               && is_sound(&shape);
    }
    if (!good)
        return RML_FAIL(err, -EBADMSG, "the note of table %.*s is not what was written",
                        (int)name_bytes, name);
    *ret_shape = shape;
    *ret_state = head.state;
    return 0;
}

/* What is different */

static void say_column(const struct rml_shape *shape, uint32_t index, char text[100])
{
    if (index >= shape->schema.field_count) {
        snprintf(text, 100, "none");
        return;
    }
    const struct rml_field *field = &shape->schema.fields[index];
    snprintf(text, 100, "%s %s%s", field->name, rml_type_info[field->type].name,
             field->nullable ? " or null" : "");
}

static bool same_column(const struct rml_shape *a, const struct rml_shape *b, uint32_t index)
{
    if (index >= a->schema.field_count || index >= b->schema.field_count)
        return false;
    const struct rml_field *x = &a->schema.fields[index], *y = &b->schema.fields[index];
    return strcmp(x->name, y->name) == 0 && x->type == y->type && x->nullable == y->nullable;
}

static bool same_key(const struct rml_shape *a, const struct rml_shape *b)
{
    return a->key_count == b->key_count
           && memcmp(a->keys, b->keys, a->key_count * sizeof a->keys[0]) == 0;
}

bool rml_shape_differs(const struct rml_shape *table, const struct rml_shape *now,
                       char sentence[300])
{
    uint32_t count = table->schema.field_count > now->schema.field_count ? table->schema.field_count
                                                                         : now->schema.field_count;
    for (uint32_t i = 0; i < count; i++) {
        if (same_column(table, now, i))
            continue;
        char was[100], is[100];
        say_column(table, i, was);
        say_column(now, i, is);
        snprintf(sentence, 300, "column %u of the table is %s, and that of the stage %s", i + 1,
                 was, is);
        return true;
    }
    bool same = same_key(table, now);
    if (!same)
        snprintf(sentence, 300, "the table's key has %u columns, and the stage's %u",
                 table->key_count, now->key_count);
    else if (table->is_each != now->is_each || table->is_timed_made != now->is_timed_made
             || table->start != now->start || table->time != now->time)
        snprintf(sentence, 300, "its rows are of windows of another kind");
    else
        return false;
    return true;
}
