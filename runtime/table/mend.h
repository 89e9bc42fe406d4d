/*
 * mend - which result tables a damaged catalog can do without, and whether the others are all there.
 *
 * Of a catalog whose pages are damaged what can be read is put into another (rml_catalog_mend). What cannot may have
 * been of any table; so the rows of each are counted, and held against how many its note says there are. Tables
 * of stages that the caller gives up need not be whole; if another is not, nothing is changed. Where notes
 * cannot be read, a table of which no row can be read either is known by the plan alone: of others, which the plan
 * has no more, it is said that they may be lost.
 */
#ifndef RML_TABLE_MEND_H
#define RML_TABLE_MEND_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint/catalog.h"

struct rml_plan;

struct rml_table_mend {
    const struct rml_plan *plan;
    const char *const *names;  // stages whose tables are given up
    uint32_t name_count;
    bool all;  // whatever its name
    /* Told what was mended; may be NULL. */
    void (*say)(void *context, const char *sentence);
    void *say_context;

    // Its own: 0 at first.
    struct rml_table_mend_count *counts;
    uint32_t count, room;
    uint64_t given_up;
    uint64_t found;  // by bit: something of that name was there
    bool lacks_notes;
};

/* For a vault's options, for as long as it is opened. A refusal names the stages, and what to type. */
struct rml_catalog_mending rml_table_mend(struct rml_table_mend *mend);
void rml_table_mend_fini(struct rml_table_mend *mend);

#endif
