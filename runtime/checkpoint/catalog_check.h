/*
 * catalog_check - is a catalog's file sound enough to be given to LMDB?
 *
 * LMDB maps its file and believes it: a flipped bit in a page of a tree sends it to another page, into
 * an assertion or past the end of the mapping, and one in a meta page silently to an older state. So the
 * file is read here first, as any file, and everything that LMDB would follow is followed: meta pages,
 * trees, order of keys, overflow pages, and that no page which is listed as free is in use. What pages hold
 * besides is guarded by the check sums of rows (catalog.h).
 *
 * It knows LMDB's data version 1, as the 0.9 releases write it. Nobody may be writing.
 */
#ifndef RML_CHECKPOINT_CATALOG_CHECK_H
#define RML_CHECKPOINT_CATALOG_CHECK_H

struct rml_err;

/* 0, or a negative errno with a sentence: -ENOENT, -EBADMSG, -EPROTONOSUPPORT, or that of reading. */
int rml_catalog_check(const char *path, struct rml_err *err);

#endif
