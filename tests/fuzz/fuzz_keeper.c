/*
 * An engine out of its mind says anything to its keeper, with any descriptors: the table stays in order,
 * no mark is left outside of a mapping, and in the end no descriptor is open that was not before.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/keeper/store.h"
#include "runtime/segment/segment.h"

#define SEGMENT_BYTES 4096u
#define STEP_BYTES    24u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The lowest free descriptor: the same before and after, or something was left open.
static int lowest_free(void)
{
    int fd = dup(0);
    RML_CHECK(fd >= 0);
    close(fd);
    return fd;
}

static int segment(void)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    RML_CHECK(fd >= 0 && ftruncate(fd, SEGMENT_BYTES) == 0);
    return fd;
}

// A message near to what can be: each field is right, or what the bytes say.
static struct rml_keeper_message message_of(const uint8_t *step, size_t *ret_bytes)
{
    uint64_t word;
    uint32_t mark;
    memcpy(&word, step + 8, sizeof word);
    memcpy(&mark, step + 16, sizeof mark);
    struct rml_keeper_message message = {
        .magic = (step[1] & 1) != 0 ? (uint32_t)word : RML_KEEPER_MAGIC,
        .request = (step[1] & 2) != 0 ? step[20] : 1 + step[20] % 4,
        .id = (step[1] & 4) != 0 ? word : step[21] & 7,
        .map_bytes = (step[1] & 8) != 0 ? word : (step[22] & 1) * SEGMENT_BYTES,
        .mark_at = (step[1] & 16) != 0   ? mark
                   : (step[22] & 2) != 0 ? RML_KEEPER_DEATHMARK_NONE
                                         : mark % SEGMENT_BYTES,
        .mark_value = mark,
        .blob_bytes = (step[1] & 32) != 0 ? mark : step[23],
        .zero = (step[1] & 64) != 0 ? step[23] : 0,
    };
    memset(message.blob, step[23], sizeof message.blob);
    *ret_bytes = (step[1] & 128) != 0 ? word % (sizeof message + 1) : sizeof message;
    return message;
}

static void take_step(struct rml_store *store, const uint8_t *step)
{
    size_t bytes;
    struct rml_keeper_message message = message_of(step, &bytes);
    int fds[RML_KEPT_FDS_MAX];
    uint32_t fd_count = (step[0] & 1) != 0 ? step[2] % 4 : 0;
    for (uint32_t i = 0; i < fd_count; i++)
        fds[i] = (step[0] & 2) != 0 ? dup(0) : segment();
    struct rml_kept *before = rml_store_find(store, message.id);
    int rc = rml_store_obey(store, &message, bytes, fds, fd_count);
    struct rml_kept *after = rml_store_find(store, message.id);
    RML_CHECK(rc <= 0);
    if (rc < 0)
        RML_CHECK(before == after);
    else if (message.request == RML_KEEPER_PUT)
        RML_CHECK(after->fd_count == fd_count && after->blob_bytes <= RML_KEPT_BLOB_MAX
                  && (after->memory != NULL) == (message.map_bytes > 0));
    else if (message.request == RML_KEEPER_DROP)
        RML_CHECK(before != NULL && after == NULL);
    if ((step[0] & 4) != 0)
        rml_store_mark(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int free_before = lowest_free();
    struct rml_store store;
    RML_CHECK(rml_store_open(&store) == 0);
    for (size_t at = 0; at + STEP_BYTES <= size && at < 64 * STEP_BYTES; at += STEP_BYTES)
        take_step(&store, data + at);
    rml_store_mark(&store);
    rml_store_close(&store);
    RML_CHECK(lowest_free() == free_before);
    return 0;
}
