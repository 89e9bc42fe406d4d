/*
 * dues - which of many numbered things come due by some time, and in which order.
 *
 * Times that are some way off lie unsorted in the buckets of a wheel, by the stretch of time that they
 * fall into; when time comes to a bucket its entries are taken out, and those that still hold go into
 * a heap that has nothing else in it (G. Varghese, T. Lauck, "Hashed and Hierarchical Timing Wheels",
 * SOSP 1987). So a thing that is put off again and again, as a session is by each of its records, is
 * hardly ever sorted. Times beyond the wheel go into the heap at once.
 *
 * Entries are never changed: who puts a thing off puts another entry, and knows by its stamp which one
 * holds. Everything lies in the partition's pages.
 */
#ifndef RML_OPERATORS_DUES_H
#define RML_OPERATORS_DUES_H

#include <stdbool.h>

#include "runtime/state/rows.h"

#define RML_DUES_BUCKETS 256u  // a power of two
#define RML_DUES_OPEN    64u   // entries of buckets that are taken out together

struct rml_roots;

struct rml_due {
    int64_t at;
    uint32_t number;
    uint32_t stamp;
};

struct rml_dues {
    struct rml_pages *pages;
    uint32_t width_log;  // a bucket covers 1 << width_log ns
    int64_t opened;      // buckets before this one (counted from time 0) are in the heap
    int64_t next;        // no entry is due before
    struct rml_rows_shape block_shape, heap_shape;
    struct rml_rows blocks;  // of entries in buckets, numbered from 1
    uint32_t fresh_block, free_block;
    uint32_t waiting;                  // entries in buckets
    uint32_t heads[RML_DUES_BUCKETS];  // each bucket's first block
    struct rml_rows heap;
    uint32_t heap_count;
    uint32_t room;  // so many entries have their places
};

/* Empty; a bucket covers the least power of two that is `width_ns`, at least 2. */
void rml_dues_init(struct rml_dues *dues, struct rml_pages *pages, int64_t width_ns);

/* runtime/state/roots.h */
void rml_dues_roots(struct rml_dues *dues, struct rml_roots *roots);

/* Nothing is in it: give its pages back. */
void rml_dues_clear(struct rml_dues *dues);

static inline bool rml_dues_is_empty(const struct rml_dues *dues)
{
    return dues->waiting == 0 && dues->heap_count == 0;
}

/* Is there room for one entry more? Asked before anything changes that will need it. */
bool rml_dues_has_room(struct rml_dues *dues);

/* Add an entry, for which there is room. */
void rml_dues_put(struct rml_dues *dues, struct rml_due due);

/*
 * When time has come to `now`, first take out entries of buckets, some at a time, until there is none:
 * each is dropped, put again at a later time, or kept. Returns how many. Then take what is due, the
 * earliest first, until there is none; more may be put meanwhile.
 */
uint32_t rml_dues_open(struct rml_dues *dues, int64_t now, struct rml_due due[RML_DUES_OPEN]);
void rml_dues_keep(struct rml_dues *dues, struct rml_due due);
bool rml_dues_take(struct rml_dues *dues, int64_t now, struct rml_due *ret_due);

#endif
