/*
 * What happens to a checkpoint, and in which order.
 *
 *     begun ── append ──► written ── reap all ──► arrived ── fdatasync ──► flushed ── commit ──► exists
 *       │                    │                       │                        │
 *       └────────────────────┴───── any error ───────┴────────────────────────┴──► abandoned
 *
 * 1. *Room.* Bytes go to granules that neither of the last two checkpoints needs, nor any that a kept one's
 *    chain reaches back to. So whatever happens from here on, the last two can be read.
 * 2. *Arrived.* Every write's result is taken and its length compared; what arrived short is continued.
 * 3. *Flushed.* Only then the flush, which covers what had arrived when it began and nothing else.
 * 4. *Commit.* One transaction of the catalog adds the manifest with the check sums of what was flushed,
 *    puts the result rows, and drops the oldest checkpoint. Were it to come before the flush, a loss of
 *    power between the two would leave a manifest of bytes that are not there.
 * 5. *Free.* After the commit, what only the dropped one needed is free. Not before: until the commit is on
 *    the disk, the dropped one is what a loss of power leaves.
 *
 * *Errors.* The granules of a checkpoint that met an error are lost to this process: after a failed flush
 * the kernel calls pages clean that it never wrote, so a second flush of the same bytes says nothing about
 * them. Other granules are written anew and flushed with success only if they arrived. Opening the vault
 * again makes them free: by then nothing is left in any cache that believes to be written. If a commit
 * fails, rml_catalog_commit finds out what is true. When even that cannot be known, the granules stay
 * untouched, because a checkpoint may be in them.
 */
#include <errno.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/checkpoint/chain.h"
#include "runtime/checkpoint/crc32c.h"
#include "runtime/checkpoint/vault_state.h"

int rml_vault_begin(struct rml_vault *vault, int64_t wall_ns, uint64_t expected_bytes,
                    uint64_t *ret_epoch, struct rml_err *err)
{
    RML_CHECK(!vault->is_under_way);
    if (rml_vault_has_failed(vault))
        return RML_FAIL(err, -EIO, "%.250s has failed: open it again", vault->folder);
    if (vault->damage.code != 0)
        return RML_FAIL(err, vault->damage.code, "%.400s; go back to the one before",
                        vault->damage.text);
    vault->is_under_way = true;
    vault->why = (struct rml_err){0};
    vault->made = (struct rml_manifest){.epoch = vault->next_epoch++, .wall_ns = wall_ns};
    vault->stream =
        (struct vault_stream){.buffer = RML_VAULT_NO_BUFFER, .expected_bytes = expected_bytes};
    if ((vault->options.broken_rules & RML_VAULT_RELEASES_EARLY) != 0)
        rml_extents_settle(&vault->extents);
    *ret_epoch = vault->made.epoch;
    return 0;
}

// What went wrong, in `why`, stays with the checkpoint: whoever asks is told again.
static int fail(struct rml_vault *vault, struct rml_err *err)
{
    int rc = vault->why.code;
    rml_err_prefix(&vault->why, rc, "checkpoint %llu", (unsigned long long)vault->made.epoch);
    if (err != NULL)
        *err = vault->why;
    return rc;
}

#define FAIL(vault, err, code, ...) \
 (rml_err_set(&(vault)->why, (code), __VA_ARGS__), fail((vault), (err)))

static int fail_write(struct rml_vault *vault, int rc, struct rml_err *err)
{
    return FAIL(vault, err, rc, "%.250s: %s", vault->path, strerrordesc_np(-rc));
}

static int fail_memory(struct rml_vault *vault, struct rml_err *err)
{
    return FAIL(vault, err, -ENOMEM, "no memory for its manifest");
}

static int check_under_way(const struct rml_vault *vault, struct rml_err *err)
{
    RML_CHECK(vault->is_under_way);
    if (vault->why.code < 0 && err != NULL)
        *err = vault->why;
    return vault->why.code;
}

static int send_buffer(struct rml_vault *vault, struct rml_err *err)
{
    struct vault_stream *stream = &vault->stream;
    uint32_t bytes =
        (stream->filled + RML_DISK_BLOCK_BYTES - 1) / RML_DISK_BLOCK_BYTES * RML_DISK_BLOCK_BYTES;
    int rc = rml_disk_write(&vault->disk, stream->buffer, stream->offset, bytes);
    stream->buffer = RML_VAULT_NO_BUFFER;
    return rc == 0 ? 0 : fail_write(vault, rc, err);
}

// Ends the open extent on a whole block.
static int end_extent(struct rml_vault *vault, struct rml_err *err)
{
    struct vault_stream *stream = &vault->stream;
    if (!stream->is_open)
        return 0;
    stream->is_open = false;
    struct rml_manifest_part *part = rml_manifest_add_part(&vault->made, stream->partition);
    if (part == NULL || rml_manifest_add_extents(part, &stream->extent, 1) < 0)
        return fail_memory(vault, err);
    if (stream->buffer == RML_VAULT_NO_BUFFER)
        return 0;
    uint32_t over = stream->filled % RML_DISK_BLOCK_BYTES;
    if (over != 0) {
        uint32_t rest = RML_DISK_BLOCK_BYTES - over;
        memset(rml_disk_memory(&vault->disk, stream->buffer) + stream->filled, 0, rest);
        stream->filled += rest;
    }
    return stream->filled == RML_EXTENT_GRANULE_BYTES ? send_buffer(vault, err) : 0;
}

static int begin_granule(struct rml_vault *vault, struct rml_err *err)
{
    struct vault_stream *stream = &vault->stream;
    if (stream->run.bytes == 0) {
        // The next run lies elsewhere, and so does what is written from here on.
        int rc = end_extent(vault, err);
        if (rc < 0)
            return rc;
        uint64_t wanted = stream->expected_bytes > RML_EXTENT_BYTES_MAX ? stream->expected_bytes
                                                                        : RML_EXTENT_BYTES_MAX;
        rc = rml_extents_take(&vault->extents, wanted, &stream->run, &vault->why);
        if (rc < 0)
            return fail(vault, err);
        stream->expected_bytes -=
            stream->expected_bytes < stream->run.bytes ? stream->expected_bytes : stream->run.bytes;
    }
    int buffer = rml_disk_buffer(&vault->disk);
    if (buffer < 0)
        return fail_write(vault, buffer, err);
    stream->buffer = buffer;
    stream->filled = 0;
    stream->offset = stream->run.offset;
    stream->run.offset += RML_EXTENT_GRANULE_BYTES;
    stream->run.bytes -= RML_EXTENT_GRANULE_BYTES;
    return 0;
}

// Make sure that there is room in a buffer, and an extent of this partition that ends there.
static int get_ready(struct rml_vault *vault, uint32_t partition, struct rml_err *err)
{
    struct vault_stream *stream = &vault->stream;
    int rc = 0;
    if (stream->is_open
        && (stream->partition != partition || stream->extent.bytes == RML_EXTENT_BYTES_MAX))
        rc = end_extent(vault, err);
    if (rc == 0 && stream->buffer == RML_VAULT_NO_BUFFER)
        rc = begin_granule(vault, err);
    if (rc == 0 && !stream->is_open) {
        stream->is_open = true;
        stream->partition = partition;
        stream->extent = (struct rml_extent){.offset = stream->offset + stream->filled,
                                             .epoch = vault->made.epoch};
    }
    return rc;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

int rml_vault_append(struct rml_vault *vault, uint32_t partition, const void *bytes, size_t count,
                     struct rml_err *err)
{
    int rc = check_under_way(vault, err);
    struct vault_stream *stream = &vault->stream;
    const unsigned char *from = bytes;
    while (count > 0 && rc == 0) {
        rc = get_ready(vault, partition, err);
        if (rc < 0)
            break;
        uint32_t room = least(RML_EXTENT_GRANULE_BYTES - stream->filled,
                              RML_EXTENT_BYTES_MAX - stream->extent.bytes);
        uint32_t part = count < room ? (uint32_t)count : room;
        memcpy(rml_disk_memory(&vault->disk, stream->buffer) + stream->filled, from, part);
        stream->extent.crc32c = rml_crc32c(stream->extent.crc32c, from, part);
        stream->extent.bytes += part;
        stream->filled += part;
        from += part;
        count -= part;
        if (stream->filled == RML_EXTENT_GRANULE_BYTES)
            rc = send_buffer(vault, err);
    }
    return rc;
}

static bool same_extent(const struct rml_extent *a, const struct rml_extent *b)
{
    return a->offset == b->offset && a->epoch == b->epoch && a->bytes == b->bytes
           && a->crc32c == b->crc32c;
}

// Is it there, from `*from` on? Then the next one has to stand behind it.
static bool has_extent(const struct rml_manifest_part *part, const struct rml_extent *extent,
                       uint32_t *from)
{
    while (*from < part->extent_count)
        if (same_extent(&part->extents[(*from)++], extent))
            return true;
    return false;
}

int rml_vault_keep(struct rml_vault *vault, uint32_t partition, const struct rml_extent *extents,
                   uint32_t count, struct rml_err *err)
{
    int rc = check_under_way(vault, err);
    if (rc == 0)
        rc = end_extent(vault, err);
    if (rc < 0)
        return rc;
    const struct rml_manifest_part *last =
        vault->kept_count == 0 ? NULL
                               : rml_manifest_find(&vault->kept[vault->kept_count - 1], partition);
    uint32_t from = 0;  // in the order in which they stand there
    for (uint32_t i = 0; i < count; i++)
        if (last == NULL || !has_extent(last, &extents[i], &from)) {
            return FAIL(vault, err, -EINVAL,
                        "partition %u: the last checkpoint has no extent of %u bytes at byte %llu "
                        "behind the one before it",
                        partition, extents[i].bytes, (unsigned long long)extents[i].offset);
        }
    struct rml_manifest_part *part = rml_manifest_add_part(&vault->made, partition);
    if (part == NULL || rml_manifest_add_extents(part, extents, count) < 0)
        return fail_memory(vault, err);
    if ((vault->options.broken_rules & RML_VAULT_RELEASES_EARLY) != 0)
        rc = rml_vault_mark_needed(vault, &vault->made);
    return rc;
}

int rml_vault_describe(struct rml_vault *vault, uint32_t partition, const void *blob,
                       uint32_t bytes, struct rml_err *err)
{
    int rc = check_under_way(vault, err);
    if (rc < 0)
        return rc;
    struct rml_manifest_part *part = rml_manifest_add_part(&vault->made, partition);
    if (part == NULL || rml_manifest_describe(part, blob, bytes) < 0)
        return fail_memory(vault, err);
    return 0;
}

int rml_vault_note(struct rml_vault *vault, const char *name, const void *data, uint32_t bytes,
                   struct rml_err *err)
{
    int rc = check_under_way(vault, err);
    if (rc < 0)
        return rc;
    if (name[0] == '\0' || strlen(name) >= RML_NOTE_NAME_BYTES) {
        return FAIL(vault, err, -EINVAL, "a note's name has 1 to %u bytes, not as \"%.80s\"",
                    RML_NOTE_NAME_BYTES - 1, name);
    }
    return rml_manifest_set_note(&vault->made, name, data, bytes) == 0 ? 0
                                                                       : fail_memory(vault, err);
}

int rml_vault_row(struct rml_vault *vault, const char *table, const void *key, uint32_t key_bytes,
                  const void *value, uint32_t value_bytes, struct rml_err *err)
{
    int rc = check_under_way(vault, err);
    if (rc < 0)
        return rc;
    if (table[0] == '\0' || strlen(table) >= RML_TABLE_NAME_BYTES || key_bytes == 0
        || key_bytes > RML_TABLE_KEY_BYTES) {
        return FAIL(vault, err, -EINVAL,
                    "table \"%.80s\", key of %u bytes: a name has 1 to %u bytes, a key 1 to %u",
                    table, key_bytes, RML_TABLE_NAME_BYTES - 1, RML_TABLE_KEY_BYTES);
    }
    if (vault->rows.used + value_bytes > vault->options.rows_bytes_max) {
        return FAIL(vault, err, -E2BIG,
                    "more than %llu bytes of result rows: take checkpoints more often",
                    (unsigned long long)vault->options.rows_bytes_max);
    }
    if (rml_table_rows_put(&vault->rows, table, key, key_bytes, value, value_bytes) < 0)
        return fail_memory(vault, err);
    return 0;
}

static void forget_made(struct rml_vault *vault)
{
    rml_manifest_fini(&vault->made);
    rml_table_rows_clear(&vault->rows);
    vault->stream.buffer = RML_VAULT_NO_BUFFER;
    vault->is_under_way = false;
}

void rml_vault_abandon(struct rml_vault *vault)
{
    if (!vault->is_under_way)
        return;
    int written = rml_disk_settle(&vault->disk);
    if (written < 0 || vault->why.code < 0 || rml_vault_has_failed(vault))
        rml_extents_lose(&vault->extents);
    int rc = rml_vault_mark_all_needed(vault);
    RML_CHECK(rc == 0);  // they were before
    forget_made(vault);
}

// All bytes on the disk.
static int finish_writing(struct rml_vault *vault, struct rml_err *err)
{
    int rc = end_extent(vault, err);
    if (rc == 0 && vault->stream.buffer != RML_VAULT_NO_BUFFER)
        rc = send_buffer(vault, err);
    if (rc < 0)
        return rc;
    bool flushes = (vault->options.broken_rules & RML_VAULT_COMMITS_BEFORE_FLUSH) == 0;
    rc = flushes ? rml_disk_flush(&vault->disk) : rml_disk_drain(&vault->disk);
    return rc == 0 ? 0 : fail_write(vault, rc, err);
}

// The change that adds what was made and drops what is kept no longer; how many kept ones go.
static int commit_made(struct rml_vault *vault, uint32_t going, struct rml_err *err)
{
    uint64_t dropped[RML_VAULT_EPOCHS_MAX + RML_VAULT_KEEP_MAX];
    uint32_t count = vault->unreadable_count;
    memcpy(dropped, vault->unreadable, count * sizeof dropped[0]);
    for (uint32_t i = 0; i < going; i++)
        dropped[count++] = vault->kept[i].epoch;
    const struct rml_catalog_change change = {
        .added = &vault->made,
        .dropped = dropped,
        .dropped_count = count,
        .rows = &vault->rows,
        .newest_epoch = vault->made.epoch,
        .next_epoch = vault->made.epoch + 1,
        .written_bytes = rml_vault_written_bytes(vault),
    };
    return rml_catalog_commit(vault->catalog, &change, err);
}

int rml_vault_commit(struct rml_vault *vault, struct rml_err *err)
{
    int rc = check_under_way(vault, err);
    if (rc == 0)
        rc = finish_writing(vault, err);
    uint32_t going =
        vault->kept_count >= vault->options.keep ? vault->kept_count - vault->options.keep + 1 : 0;
    if (rc == 0 && commit_made(vault, going, &vault->why) < 0)
        rc = fail(vault, err);
    if (rc < 0) {
        rml_vault_abandon(vault);
        return rc;
    }
    if ((vault->options.broken_rules & RML_VAULT_COMMITS_BEFORE_FLUSH) != 0)
        rml_disk_flush(&vault->disk);
    for (uint32_t i = 0; i < going; i++)
        rml_manifest_fini(&vault->kept[i]);
    vault->kept_count -= going;
    memmove(vault->kept, vault->kept + going, vault->kept_count * sizeof vault->kept[0]);
    vault->kept[vault->kept_count++] = vault->made;
    vault->made = (struct rml_manifest){0};
    vault->unreadable_count = 0;
    forget_made(vault);
    rc = rml_vault_mark_all_needed(vault);
    RML_CHECK(rc == 0);  // all of it was taken from there
    return 0;
}
