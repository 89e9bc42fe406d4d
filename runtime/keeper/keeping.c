#include "runtime/keeper/keeping.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/parcel.h"
#include "runtime/segment/segment.h"

bool rml_keeping_again(const struct rml_keeping *keeping)
{
    return keeping != NULL && keeping->deaths > 0;
}

pid_t rml_keeping_process(const struct rml_keeping *keeping)
{
    return keeping != NULL ? keeping->keeper : getpid();
}

static int send_message(struct rml_keeping *keeping, struct rml_keeper_message *message,
                        const int *fds, uint32_t fd_count)
{
    message->magic = RML_KEEPER_MAGIC;
    message->sequence = ++keeping->sequence;
    return rml_parcel_send(keeping->socket, message, sizeof *message, fds, fd_count, 0);
}

// An answer that came too late for its own request may still be there.
static int await_answer(const struct rml_keeping *keeping)
{
    for (;;) {
        struct rml_keeper_answer answer;
        uint32_t none;
        ptrdiff_t got =
            rml_parcel_receive(keeping->socket, &answer, sizeof answer, NULL, 0, &none, 0);
        if (got == -EAGAIN)
            return -ETIMEDOUT;
        if (got <= 0)
            return got == 0 ? -EPIPE : (int)got;
        if (got == (ptrdiff_t)sizeof answer && answer.sequence == keeping->sequence)
            return answer.rc;
    }
}

static void fill_blob(struct rml_keeper_message *message, const void *blob, uint32_t bytes)
{
    RML_CHECK(bytes <= RML_KEPT_BLOB_MAX);
    message->blob_bytes = bytes;
    if (bytes > 0)
        memcpy(message->blob, blob, bytes);
}

static int put(struct rml_keeping *keeping, struct rml_keeper_message *message, const int *fds,
               uint32_t fd_count, struct rml_err *err)
{
    int rc = send_message(keeping, message, fds, fd_count);
    if (rc == 0)
        rc = await_answer(keeping);
    return rc == 0 ? 0 : RML_FAIL(err, rc, "the keeper does not keep it: %s", strerrordesc_np(-rc));
}

int rml_keeping_put(struct rml_keeping *keeping, const struct rml_keep *what, struct rml_err *err)
{
    if (keeping == NULL)
        return 0;
    RML_CHECK(what->fd_count <= RML_KEPT_FDS_MAX);
    struct rml_keeper_message message = {.request = RML_KEEPER_PUT,
                                         .id = what->id,
                                         .map_bytes = what->map_bytes,
                                         .mark_at = RML_KEEPER_DEATHMARK_NONE};
    fill_blob(&message, what->blob, what->blob_bytes);
    return put(keeping, &message, what->fds, what->fd_count, err);
}

void rml_keeping_update(struct rml_keeping *keeping, uint64_t id, const void *blob,
                        uint32_t blob_bytes)
{
    if (keeping == NULL)
        return;
    struct rml_keeper_message message = {.request = RML_KEEPER_UPDATE, .id = id};
    fill_blob(&message, blob, blob_bytes);
    (void)send_message(keeping, &message, NULL, 0);  // without a keeper this process is ending
}

void rml_keeping_drop(struct rml_keeping *keeping, uint64_t id)
{
    if (keeping == NULL)
        return;
    struct rml_keeper_message message = {.request = RML_KEEPER_DROP, .id = id};
    (void)send_message(keeping, &message, NULL, 0);  // likewise
}

static void tell(struct rml_keeping *keeping, enum rml_keeper_request what)
{
    if (keeping == NULL)
        return;
    struct rml_keeper_message message = {.request = what};
    (void)send_message(keeping, &message, NULL, 0);  // likewise
}

void rml_keeping_ready(struct rml_keeping *keeping)
{
    tell(keeping, RML_KEEPER_READY);
}

void rml_keeping_ending(struct rml_keeping *keeping)
{
    tell(keeping, RML_KEEPER_ENDING);
}

static int open_new(struct rml_keeping *keeping, const struct rml_keeping_segment *what,
                    struct rml_segment *segment, struct rml_err *err)
{
    int rc = rml_segment_make_ours(segment, what->name, what->bytes, err);
    if (rc < 0)
        return rc;
    if (keeping != NULL) {
        struct rml_keeper_message message = {.request = RML_KEEPER_PUT,
                                             .id = what->id,
                                             .map_bytes = what->bytes,
                                             .mark_at = what->mark_at,
                                             .mark_value = what->mark};
        rc = put(keeping, &message, &segment->fd, 1, err);
    }
    if (rc == 0)
        rc = rml_segment_seal_ours(segment, err);
    if (rc < 0)
        rml_segment_close(segment);
    return rc;
}

int rml_keeping_segment(struct rml_keeping *keeping, const struct rml_keeping_segment *what,
                        struct rml_segment *ret_segment, bool *ret_again, struct rml_err *err)
{
    const struct rml_kept *kept = rml_keeping_take(keeping, what->id);
    *ret_again = kept != NULL;
    if (kept == NULL)
        return open_new(keeping, what, ret_segment, err);
    if (kept->memory == NULL || kept->bytes != what->bytes)
        return RML_FAIL(err, -EPROTO, "%s: %zu bytes are kept of it, expected %zu", what->name,
                        kept->bytes, what->bytes);
    *ret_segment =
        (struct rml_segment){.fd = kept->fds[0], .memory = kept->memory, .bytes = kept->bytes};
    return rml_segment_seal_ours(ret_segment, err);  // an engine may have died before it did
}

bool rml_keeping_has(struct rml_keeping *keeping, uint64_t id)
{
    return keeping != NULL && rml_store_find(&keeping->store, id) != NULL;
}

const struct rml_kept *rml_keeping_take(struct rml_keeping *keeping, uint64_t id)
{
    struct rml_kept *kept = keeping != NULL ? rml_store_find(&keeping->store, id) : NULL;
    if (kept == NULL || kept->taken)
        return NULL;
    kept->taken = true;
    return kept;
}

const struct rml_kept *rml_keeping_next(struct rml_keeping *keeping, uint32_t sort)
{
    for (uint32_t i = 0; keeping != NULL && i < keeping->store.end; i++) {
        struct rml_kept *kept = &keeping->store.list[i];
        if (!kept->used || kept->taken || kept->id >> 32 != sort)
            continue;
        kept->taken = true;
        return kept;
    }
    return NULL;
}

static void let_go(struct rml_keeping *keeping, struct rml_kept *kept)
{
    rml_keeping_drop(keeping, kept->id);
    rml_store_drop(&keeping->store, kept);
}

void rml_keeping_let_go(struct rml_keeping *keeping, uint64_t id)
{
    struct rml_kept *kept = keeping != NULL ? rml_store_find(&keeping->store, id) : NULL;
    if (kept != NULL && !kept->taken)
        let_go(keeping, kept);
}

void rml_keeping_rest(struct rml_keeping *keeping)
{
    for (uint32_t i = keeping != NULL ? keeping->store.end : 0; i-- > 0;) {
        struct rml_kept *kept = &keeping->store.list[i];
        if (kept->used && !kept->taken)
            let_go(keeping, kept);
    }
}

void rml_keeping_close(struct rml_keeping *keeping)
{
    if (keeping == NULL)
        return;
    // what was taken is somebody's; what was not is closed with the process
    free(keeping->store.list);
    close(keeping->socket);
    free(keeping);
}
