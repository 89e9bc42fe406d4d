/*
 * checkpoints - a state directory seen by another process, whether an engine is running on it or not.
 *
 * It takes no lock that an engine would wait for, and sees whole states only: what was committed when
 * it looked. One thread at a time uses it; the process must not be the one that has the vault open.
 */
#ifndef RML_CHECKPOINT_CHECKPOINTS_H
#define RML_CHECKPOINT_CHECKPOINTS_H

#include <stdint.h>

#include "runtime/checkpoint/catalog.h"
#include "runtime/checkpoint/manifest.h"

struct rml_err;
struct rml_checkpoints;

/*
 * 0, or a negative errno with a sentence: -ENOENT there is no state directory, -EBADMSG its catalog is
 * damaged, -EPROTONOSUPPORT it is of another format. Where no engine runs the catalog's file is looked
 * through before it is used.
 */
int rml_checkpoints_open(struct rml_checkpoints **ret_checkpoints, const char *folder,
                         struct rml_err *err);

/* Accepts NULL. */
void rml_checkpoints_close(struct rml_checkpoints *checkpoints);

/* Rows of result tables: rml_catalog_look, rml_catalog_row and rml_catalog_next_row read them. */
struct rml_catalog *rml_checkpoints_catalog(struct rml_checkpoints *checkpoints);

struct rml_checkpoint_info {
    uint64_t epoch;
    int64_t wall_ns;
    uint32_t partitions;
    struct rml_manifest_size size;
    int damage;  // -EBADMSG: its rows are, and all but the epoch is 0
};

/* Those that are kept, oldest first, up to `room`. Returns how many there are, or a negative errno. */
int rml_checkpoints_list(struct rml_checkpoints *checkpoints, struct rml_checkpoint_info *list,
                         uint32_t room, struct rml_err *err);

/* All about one, into an empty manifest. 0, -ENOENT, -EBADMSG naming the row. */
int rml_checkpoints_show(struct rml_checkpoints *checkpoints, uint64_t epoch,
                         struct rml_manifest *ret_manifest, struct rml_err *err);

/*
 * Read everything of one and tell of each damage. Returns how many there were; -ESTALE when the engine
 * dropped it meanwhile, so that nothing can be said; or another negative errno with a sentence.
 */
int rml_checkpoints_verify(struct rml_checkpoints *checkpoints, uint64_t epoch,
                           void (*complain)(void *context, const char *sentence), void *context,
                           struct rml_err *err);

#endif
