#include "runtime/keeper/store.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int rml_store_open(struct rml_store *store)
{
    // not touched before it is used: a small table costs little
    *store = (struct rml_store){.list = calloc(RML_KEPT_MAX, sizeof *store->list)};
    return store->list != NULL ? 0 : -ENOMEM;
}

struct rml_kept *rml_store_find(const struct rml_store *store, uint64_t id)
{
    for (uint32_t i = 0; i < store->end; i++) {
        if (store->list[i].used && store->list[i].id == id)
            return &store->list[i];
    }
    return NULL;
}

void rml_store_drop(struct rml_store *store, struct rml_kept *kept)
{
    if (kept->memory != NULL)
        munmap(kept->memory, kept->bytes);
    for (uint32_t i = 0; i < kept->fd_count; i++)
        close(kept->fds[i]);
    *kept = (struct rml_kept){.used = false};
    while (store->end > 0 && !store->list[store->end - 1].used)
        store->end--;
}

void rml_store_close(struct rml_store *store)
{
    for (uint32_t i = store->end; i-- > 0;) {
        if (store->list[i].used)
            rml_store_drop(store, &store->list[i]);
    }
    free(store->list);
    *store = (struct rml_store){.list = NULL};
}

static struct rml_kept *free_entry(struct rml_store *store)
{
    uint32_t i = 0;
    while (i < store->end && store->list[i].used)
        i++;
    if (i == RML_KEPT_MAX)
        return NULL;
    if (i == store->end)
        store->end++;
    return &store->list[i];
}

static int map(struct rml_kept *kept, const struct rml_keeper_message *message)
{
    struct stat status;
    bool has_mark = message->mark_at != RML_KEEPER_DEATHMARK_NONE;
    if (message->map_bytes == 0)
        return has_mark ? -EINVAL : 0;
    if (kept->fd_count == 0 || fstat(kept->fds[0], &status) < 0 || status.st_size <= 0
        || (uint64_t)status.st_size != message->map_bytes)
        return -EINVAL;
    if (has_mark
        && (message->mark_at % sizeof(uint32_t) != 0 || message->map_bytes < sizeof(uint32_t)
            || message->mark_at > message->map_bytes - sizeof(uint32_t)))
        return -EINVAL;
    void *memory =
        mmap(NULL, message->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kept->fds[0], 0);
    if (memory == MAP_FAILED)
        return -errno;
    // as with the mapping of whoever had it made (runtime/segment)
    (void)madvise(memory, message->map_bytes, MADV_DONTDUMP);
    kept->memory = memory;
    kept->bytes = message->map_bytes;
    return 0;
}

static int put(struct rml_store *store, const struct rml_keeper_message *message, const int *fds,
               uint32_t fd_count)
{
    if (rml_store_find(store, message->id) != NULL)
        return -EEXIST;
    struct rml_kept *kept = free_entry(store);
    if (kept == NULL)
        return -ENOSPC;
    kept->used = true;
    kept->id = message->id;
    kept->mark_at = message->mark_at;
    kept->mark_value = message->mark_value;
    kept->fd_count = fd_count;
    memcpy(kept->fds, fds, fd_count * sizeof *fds);
    kept->blob_bytes = message->blob_bytes;
    memcpy(kept->blob, message->blob, message->blob_bytes);
    int rc = map(kept, message);
    if (rc < 0) {
        kept->fd_count = 0;  // the caller closes them
        rml_store_drop(store, kept);
    }
    return rc;
}

static int update(const struct rml_store *store, const struct rml_keeper_message *message)
{
    struct rml_kept *kept = rml_store_find(store, message->id);
    if (kept == NULL)
        return -ENOENT;
    kept->blob_bytes = message->blob_bytes;
    memcpy(kept->blob, message->blob, message->blob_bytes);
    return 0;
}

static int drop(struct rml_store *store, uint64_t id)
{
    struct rml_kept *kept = rml_store_find(store, id);
    if (kept == NULL)
        return -ENOENT;
    rml_store_drop(store, kept);
    return 0;
}

static int obey(struct rml_store *store, const struct rml_keeper_message *message, size_t bytes,
                const int *fds, uint32_t fd_count)
{
    if (bytes != sizeof *message || message->magic != RML_KEEPER_MAGIC || message->zero != 0
        || message->blob_bytes > RML_KEPT_BLOB_MAX || fd_count > RML_KEPT_FDS_MAX
        || (fd_count > 0 && message->request != RML_KEEPER_PUT))
        return -EPROTO;
    switch ((enum rml_keeper_request)message->request) {
    case RML_KEEPER_PUT:
        return put(store, message, fds, fd_count);
    case RML_KEEPER_UPDATE:
        return update(store, message);
    case RML_KEEPER_DROP:
        return drop(store, message->id);
    case RML_KEEPER_READY:
    case RML_KEEPER_ENDING:
        return 0;
    }
    return -EPROTO;
}

int rml_store_obey(struct rml_store *store, const struct rml_keeper_message *message, size_t bytes,
                   const int *fds, uint32_t fd_count)
{
    int rc = obey(store, message, bytes, fds, fd_count);
    for (uint32_t i = 0; rc < 0 && i < fd_count; i++)
        close(fds[i]);
    return rc;
}

void rml_store_mark(const struct rml_store *store)
{
    for (uint32_t i = 0; i < store->end; i++) {
        const struct rml_kept *kept = &store->list[i];
        if (!kept->used || kept->memory == NULL || kept->mark_at == RML_KEEPER_DEATHMARK_NONE)
            continue;
        _Atomic uint32_t *word = (void *)((unsigned char *)kept->memory + kept->mark_at);
        // relaxed: a word for people
        atomic_store_explicit(word, kept->mark_value, memory_order_relaxed);
    }
}
