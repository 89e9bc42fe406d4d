/*
 * restored - pages put together again from the streams of snapshots.
 *
 * The newest comes first: what it has is not looked at again in older ones, so that each granule is copied
 * once, however often it changed. A stream may come cut anywhere, as it was read.
 *
 *     open ── stream, bytes, bytes ... ── stream, bytes ... ── end ──► pages, roots
 */
#ifndef RML_STATE_RESTORED_H
#define RML_STATE_RESTORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/state/pages.h"
#include "runtime/state/snapshot.h"

struct rml_err;
struct rml_touch;

struct rml_restored {
    struct rml_pages pages;         // but for what is in roots
    struct rml_snapshot_head head;  // of the newest
    unsigned char *roots;           // head.root_bytes
    uint64_t *have;                 // by page: granules that are there
    size_t have_bytes;
    struct rml_touch *touch;  // makes memory ready until the end; NULL: nobody does

    uint32_t streams;               // begun
    struct rml_snapshot_head next;  // of the stream that is being read
    size_t head_left, roots_left;   // of it, to come
    unsigned char *rest;            // a piece, as far as it has come
    size_t rest_bytes;
};

/* Empty pages of as many bytes at most. 0, or -ENOMEM with a sentence. */
int rml_restored_open(struct rml_restored *restored, uint64_t bytes_max, struct rml_err *err);

/* Accepts one of zeros, and one whose pages were taken away. */
void rml_restored_close(struct rml_restored *restored);

/* What comes next is the stream of the newest snapshot, or of the one before the last. */
int rml_restored_stream(struct rml_restored *restored, struct rml_err *err);

/* More bytes of it. 0; or -EBADMSG with a sentence: such a stream there cannot be; or -ENOMEM. */
int rml_restored_bytes(struct rml_restored *restored, const void *bytes, size_t count,
                       struct rml_err *err);

/* All is there. 0, or -EBADMSG with a sentence: more is needed. */
int rml_restored_end(struct rml_restored *restored, struct rml_err *err);

#endif
