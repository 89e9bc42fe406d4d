#include "runtime/table/mend.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/plan/plan.h"
#include "runtime/table/shape.h"

#define NOBODY_KNOWS \
 "whether a table of a stage that the file has no more lay where nothing can be read, nobody can tell"

struct rml_table_mend_count {
    char name[RML_TABLE_NAME_BYTES];
    uint64_t rows, listed;  // that can be read, and their entries by time
    bool has_note;
    uint64_t noted;  // how many there should be
};

/* "fixed.late@time" is of the stage fixed. */
static bool is_of_stage(const char *name, const void *table, uint32_t bytes)
{
    size_t length = strlen(name);
    const char *text = table;
    return bytes >= length && memcmp(text, name, length) == 0
           && (bytes == length || text[length] == '.' || text[length] == '@');
}

// By bit, by which of the names.
static uint64_t given_up_by(const struct rml_table_mend *mend, const void *table, uint32_t bytes)
{
    uint64_t names = 0;
    for (uint32_t i = 0; i < mend->name_count; i++)
        names |= (uint64_t)is_of_stage(mend->names[i], table, bytes) << i;
    return names;
}

static bool is_note(const struct rml_table_row *row)
{
    return row->table_bytes == strlen(RML_SHAPE_TABLES)
           && memcmp(row->table, RML_SHAPE_TABLES, row->table_bytes) == 0;
}

static bool gives_up(void *context, const struct rml_table_row *row)
{
    struct rml_table_mend *mend = context;
    uint64_t names = is_note(row) ? given_up_by(mend, row->key, row->key_bytes)
                                  : given_up_by(mend, row->table, row->table_bytes);
    bool is = mend->all || names != 0;
    mend->found |= names;
    mend->given_up += is && !is_note(row) && memchr(row->table, '@', row->table_bytes) == NULL;
    return is;
}

// NULL: there is no memory, and nothing will be approved of.
static struct rml_table_mend_count *count_of(struct rml_table_mend *mend, const char *name,
                                             uint32_t bytes)
{
    if (bytes >= RML_TABLE_NAME_BYTES)
        return NULL;
    for (uint32_t i = mend->count; i > 0; i--)  // rows come table by table
        if (strlen(mend->counts[i - 1].name) == bytes
            && memcmp(mend->counts[i - 1].name, name, bytes) == 0)
            return &mend->counts[i - 1];
    if (mend->count == mend->room) {
        uint32_t room = 2 * mend->room + 16;
        struct rml_table_mend_count *counts = realloc(mend->counts, room * sizeof *counts);
        if (counts == NULL)
            return NULL;
        mend->counts = counts;
        mend->room = room;
    }
    struct rml_table_mend_count *count = &mend->counts[mend->count++];
    *count = (struct rml_table_mend_count){0};
    memcpy(count->name, name, bytes);
    return count;
}

static void take_note(struct rml_table_mend *mend, const struct rml_table_row *row)
{
    struct rml_shape shape;
    struct rml_shape_state state;
    struct rml_table_mend_count *count = count_of(mend, row->key, row->key_bytes);
    if (count != NULL
        && rml_shape_read(row->key, row->key_bytes, row->value, row->value_bytes, &shape, &state,
                          NULL)
               == 0) {
        count->has_note = true;
        count->noted = state.rows;
    }
}

static void kept(void *context, const struct rml_table_row *row, bool is_whole)
{
    struct rml_table_mend *mend = context;
    if (is_note(row)) {
        if (is_whole)
            take_note(mend, row);
        return;
    }
    const char *at = memchr(row->table, '@', row->table_bytes);
    uint32_t bytes = at != NULL ? (uint32_t)(at - row->table) : row->table_bytes;
    struct rml_table_mend_count *count = count_of(mend, row->table, bytes);
    if (count != NULL && at != NULL)
        count->listed++;
    else if (count != NULL)
        count->rows++;
}

static void lacks(void *context, const struct rml_catalog_gap *gap)
{
    struct rml_table_mend *mend = context;
    mend->lacks_notes |= rml_catalog_gap_may_have(gap, RML_SHAPE_TABLES);
}

static bool is_all_there(const struct rml_table_mend_count *count)
{
    // of a row that had been damaged before an old entry may be left
    return count->has_note && count->rows == count->noted && count->listed >= count->rows;
}

static void name_stage(const char *table, char *stages, size_t room)
{
    char name[RML_NAME_MAX + 1];
    size_t used = strlen(stages);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(table, "."), table);
    for (char *at = strstr(stages, name); at != NULL; at = strstr(at + 1, name)) {
        char behind = at[strlen(name)];
        if ((at == stages || at[-1] == ',') && (behind == ',' || behind == '\0'))
            return;
    }
    snprintf(stages + used, room - used, "%s%s", used > 0 ? "," : "", name);
}

// A table of the plan's of which nothing was found may be new, or lost as a whole.
static bool is_missing(const struct rml_table_mend *mend, const char *name)
{
    for (uint32_t i = 0; i < mend->count; i++)
        if (strcmp(mend->counts[i].name, name) == 0)
            return false;
    return given_up_by(mend, name, (uint32_t)strlen(name)) == 0;
}

static void name_missing(const struct rml_table_mend *mend, char *stages, size_t room)
{
    for (uint32_t s = 0; s < mend->plan->sink_count; s++) {
        const struct rml_plan_sink *sink = &mend->plan->sinks[s];
        for (uint32_t f = 0; sink->kind == RML_SINK_TABLE && f < sink->from_count; f++) {
            struct rml_shape shape;
            rml_shape_of(mend->plan, sink->from[f], &shape);
            if (is_missing(mend, shape.name))
                name_stage(shape.name, stages, room);
        }
    }
}

static void say_mended(const struct rml_table_mend *mend)
{
    char sentence[300];
    bool may_lack_others = mend->lacks_notes && !mend->all;
    if (mend->name_count > 0 || mend->all)
        snprintf(sentence, sizeof sentence,
                 "the catalog was damaged, and is whole again: %" PRIu64
                 " rows of tables that begin anew are given up, %s",
                 mend->given_up,
                 may_lack_others ? "and none of others of this file; " NOBODY_KNOWS
                                 : "nothing else is lost");
    else
        snprintf(sentence, sizeof sentence, "the catalog was damaged%s",
                 may_lack_others
                     ? ", and is whole again: no table of this file lacks a row; " NOBODY_KNOWS
                     : " where nothing lay that is needed, and is whole again");
    if (mend->say != NULL)
        mend->say(mend->say_context, sentence);
}

static int approve(void *context, struct rml_err *err)
{
    struct rml_table_mend *mend = context;
    char stages[200] = "", first[RML_TABLE_NAME_BYTES] = "";
    for (uint32_t i = 0; i < mend->count; i++) {
        if (is_all_there(&mend->counts[i]))
            continue;
        if (first[0] == '\0')
            memcpy(first, mend->counts[i].name, sizeof first);
        name_stage(mend->counts[i].name, stages, sizeof stages);
    }
    if (mend->lacks_notes && !mend->all)
        name_missing(mend, stages, sizeof stages);
    if (stages[0] == '\0') {
        say_mended(mend);
        return 0;
    }
    for (uint32_t i = 0; i < mend->name_count; i++)
        name_stage(mend->names[i], stages, sizeof stages);
    return RML_FAIL(err, -EBADMSG,
                    "rows of table %s cannot be read; `ringmill run --fresh %.120s %.80s` gives "
                    "them up, and goes on with all else",
                    first[0] != '\0' ? first : stages, stages, mend->plan->path);
}

struct rml_catalog_mending rml_table_mend(struct rml_table_mend *mend)
{
    return (struct rml_catalog_mending){gives_up, kept, lacks, approve, mend};
}

void rml_table_mend_fini(struct rml_table_mend *mend)
{
    free(mend->counts);
    mend->counts = NULL;
    mend->count = mend->room = 0;
}
