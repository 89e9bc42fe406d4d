/*
 * store - the table of what a keeper keeps: descriptors, mappings, and a few bytes about each.
 *
 * All of it is set aside when it is opened. What comes from an engine is input: whatever cannot be is
 * refused, and leaves the table as it was.
 */
#ifndef RML_KEEPER_STORE_H
#define RML_KEEPER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/keeper/protocol.h"

struct rml_kept {
    uint64_t id;
    bool used;
    bool taken;    // an engine's, of what it inherited: somebody goes on with it
    void *memory;  // mapping of the first descriptor, NULL: there is none
    size_t bytes;
    uint32_t mark_at, mark_value;
    uint32_t blob_bytes, fd_count;
    int fds[RML_KEPT_FDS_MAX];
    unsigned char blob[RML_KEPT_BLOB_MAX];
};

struct rml_store {
    struct rml_kept *list;  // RML_KEPT_MAX; NULL: not open
    uint32_t end;           // entries from here on are unused
};

/* 0 or -ENOMEM. */
int rml_store_open(struct rml_store *store);

/* Close and unmap everything. Accepts one of zeros. */
void rml_store_close(struct rml_store *store);

/*
 * Do what the `bytes` at `message` say, with descriptors that came along: they are the store's, or
 * closed, when this returns. 0; or -EPROTO (no message of ours), -EEXIST, -ENOENT (the id), -ENOSPC (the
 * table is full), -EINVAL (a mapping that cannot be), or why the kernel does not map it. READY and ENDING are 0
 * and change nothing.
 */
int rml_store_obey(struct rml_store *store, const struct rml_keeper_message *message, size_t bytes,
                   const int *fds, uint32_t fd_count);

/* The entry of that id, or NULL. */
struct rml_kept *rml_store_find(const struct rml_store *store, uint64_t id);

/* Close and unmap what is kept under it, and forget it. */
void rml_store_drop(struct rml_store *store, struct rml_kept *kept);

/* The engine has died: leave every mark that was asked for. */
void rml_store_mark(const struct rml_store *store);

#endif
