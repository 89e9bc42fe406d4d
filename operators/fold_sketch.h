/*
 * fold_sketch - aggregates whose state grows: sketches that begin in the row and move to chunks.
 *
 * In the row lies a slot: how many values went in, where the sketch is, and room for its smallest form,
 * if that is small.
 * Most keys of a stage with many stay there. One that needs more moves to a chunk of twice the size
 * (runtime/state/chunks.h) and back to nothing when its pane is freed. A state that panes are put
 * together in has no chunks but room of its own for the largest form, set aside at the start, so
 * that giving a result never fails.
 */
#ifndef RML_OPERATORS_FOLD_SKETCH_H
#define RML_OPERATORS_FOLD_SKETCH_H

#include "operators/fold_own.h"

struct rml_err;
struct rml_pages;
struct rml_sketches;

/* Chunks and room for the aggregator's sketches. 0 or -ENOMEM; *ret_sketches is NULL where it has no
 * sketch. */
int rml_sketches_open(struct rml_sketches **ret_sketches, const struct rml_aggregator *aggregator,
                      struct rml_pages *pages, struct rml_err *err);

/* Whose sketches were not released leave their chunks to the pages, which are closed with them. NULL is fine. */
void rml_sketches_close(struct rml_sketches *sketches);

/* runtime/state/roots.h */
void rml_sketches_roots(struct rml_sketches *sketches, struct rml_roots *roots);

/* Is there room to take so many records, whatever they are: for their keys, rows and sketches? If
 * so, nothing below fails for them. */
bool rml_sketches_have_room(const struct rml_sketches *sketches, uint32_t count);

/* Bytes of a slot. */
uint32_t rml_fold_sketch_bytes(const struct rml_fold *fold);

/* The slot without values, in a state that panes are put together in (`gathers`) or any other. */
void rml_fold_sketch_reset(const struct rml_fold *fold, struct rml_sketches *sketches, bool gathers,
                           unsigned char *at);

/* As rml_fold_own_add and rml_fold_own_merge, where there is room. */
uint64_t rml_fold_sketch_add(const struct rml_fold *fold, struct rml_sketches *sketches,
                             const struct rml_fold_walk *walk);
void rml_fold_sketch_merge(const struct rml_fold *fold, struct rml_sketches *sketches,
                           unsigned char *into, const unsigned char *from);

/* Merge `from`, which is released next and may be left without its values. */
void rml_fold_sketch_absorb(const struct rml_fold *fold, struct rml_sketches *sketches,
                            unsigned char *into, unsigned char *from);

/* Give back what the slot has outside of its row; the slot itself is void then. */
void rml_fold_sketch_release(const struct rml_fold *fold, struct rml_sketches *sketches,
                             const unsigned char *at);

/* The same of a plug-in's state that grows, which may take several columns. */
uint64_t rml_fold_growing_add(const struct rml_fold *fold, struct rml_sketches *sketches,
                              const struct rml_column *columns, const struct rml_fold_walk *walk);

/* The result of a plug-in as a cell of a column of `type`; false: null. */
bool rml_fold_growing_result(const struct rml_fold *fold, const struct rml_sketches *sketches,
                             const unsigned char *at, int64_t length_ns, enum rml_type type,
                             void *cell);

/* Results of a slot with values; false: null. */
bool rml_fold_sketch_quantile(const struct rml_fold *fold, const struct rml_sketches *sketches,
                              const unsigned char *at, double q, double *ret_value);
uint64_t rml_fold_sketch_distinct(const struct rml_fold *fold, const struct rml_sketches *sketches,
                                  const unsigned char *at);

/* Part RML_TOP_PARTS * i is the i-th value, the next two its count and by how much that may be too
 * large. Parts of one slot are asked for in order, from 0. */
bool rml_fold_sketch_top(const struct rml_fold *fold, struct rml_sketches *sketches,
                         const unsigned char *at, uint32_t part, void *cell);

#endif
