/*
 * chain - partitions' extents read back in order, none handed out before its check sum was right.
 */
#ifndef RML_CHECKPOINT_CHAIN_H
#define RML_CHECKPOINT_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint/manifest.h"

struct rml_err;

#define RML_EXTENT_BYTES_MAX (1u << 20)  // so much is read before its check sum is known

struct rml_chain_reader {
    int fd;             // of the extent file
    const char *path;   // and its name, for sentences
    bool believes;      // takes extents for what they say; for tests of the tests
    bool newest_first;  // what the last checkpoint wrote comes first; else what was written first
    /* Given each extent's bytes, which last until it returns; anything but 0 ends the reading and is
     * returned. May be NULL. */
    int (*each)(void *context, uint32_t partition, const struct rml_extent *extent,
                const void *bytes);
    void *context;
};

/*
 * All extents of some parts, one part after the other; those that one checkpoint wrote always in order.
 * 0; -EBADMSG with a sentence that names file, offset and partition; -ENOMEM, or the errno of a read that
 * failed, which names them too.
 */
int rml_chain_read(const struct rml_chain_reader *reader, const struct rml_manifest_part *parts,
                   uint32_t part_count, struct rml_err *err);

/* One of them, as rml_chain_read reads it, into RML_EXTENT_BYTES_MAX of memory aligned to blocks. */
int rml_chain_read_extent(const struct rml_chain_reader *reader, uint32_t partition,
                          const struct rml_extent *extent, void *memory, struct rml_err *err);

#endif
