#include "runtime/checkpoint/vault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/check.h"
#include "runtime/checkpoint/chain.h"
#include "runtime/checkpoint/vault_state.h"

#define MIB            ((uint64_t)1 << 20)
#define FIRST_BYTES    (64 * MIB)
#define CATALOG_MAX    (MIB * MIB)
#define ROWS_BYTES_MAX (1024 * MIB)
#define LOST_BYTES_MAX (1024 * MIB)

static void take_defaults(struct rml_vault_options *options)
{
    if (options->keep < 2)
        options->keep = 2;
    if (options->keep > RML_VAULT_KEEP_MAX)
        options->keep = RML_VAULT_KEEP_MAX;
    if (options->first_bytes == 0)
        options->first_bytes = FIRST_BYTES;
    if (options->limit_bytes != 0 && options->first_bytes > options->limit_bytes)
        options->first_bytes = options->limit_bytes;
    if (options->step_bytes == 0)
        options->step_bytes = FIRST_BYTES;
    if (options->catalog_bytes == 0)
        options->catalog_bytes = FIRST_BYTES;
    if (options->catalog_bytes_max == 0)
        options->catalog_bytes_max = CATALOG_MAX;
    if (options->lost_bytes_max == 0)
        options->lost_bytes_max = LOST_BYTES_MAX;
    if (options->rows_bytes_max == 0)
        options->rows_bytes_max = ROWS_BYTES_MAX;
}

/* What is kept. */

int rml_vault_mark_needed(struct rml_vault *vault, const struct rml_manifest *manifest)
{
    int rc = 0;
    for (uint32_t p = 0; p < manifest->part_count && rc == 0; p++)
        for (uint32_t i = 0; i < manifest->parts[p].extent_count && rc == 0; i++) {
            const struct rml_extent *extent = &manifest->parts[p].extents[i];
            rc = rml_extents_need(&vault->extents, extent->offset, extent->bytes);
        }
    return rc;
}

int rml_vault_mark_all_needed(struct rml_vault *vault)
{
    rml_extents_settle(&vault->extents);
    int rc = 0;
    for (uint32_t i = 0; i < vault->kept_count && rc == 0; i++)
        rc = rml_vault_mark_needed(vault, &vault->kept[i]);
    return rc;
}

static int read_kept(struct rml_vault *vault, struct rml_catalog_view *view, uint64_t epoch,
                     struct rml_err *err)
{
    struct rml_err damage = {0};
    struct rml_manifest *manifest = &vault->kept[vault->kept_count];
    int rc = rml_catalog_manifest(view, epoch, manifest, &damage);
    if (rc == 0 && rml_vault_mark_needed(vault, manifest) < 0) {
        rml_manifest_fini(manifest);
        rc = RML_FAIL(&damage, -EBADMSG,
                      "%.250s is damaged: it is shorter than checkpoint %llu needs it to be",
                      vault->path, (unsigned long long)epoch);
    }
    if (rc == 0) {
        vault->kept_count++;
        return 0;
    }
    if (rc != -EBADMSG && rc != -ENOENT) {
        if (err != NULL)
            *err = damage;
        return rc;
    }
    vault->unreadable[vault->unreadable_count++] = epoch;
    if (epoch == rml_catalog_head(vault->catalog)->newest_epoch)
        vault->damage = damage;
    return 0;
}

static int find_kept(struct rml_vault *vault, struct rml_err *err)
{
    struct rml_catalog_view *view;
    int rc = rml_catalog_look(vault->catalog, &view, err);
    if (rc < 0)
        return rc;
    uint64_t epochs[RML_VAULT_EPOCHS_MAX];
    int count = rml_catalog_epochs(view, epochs, RML_VAULT_EPOCHS_MAX);
    if (count < 0 || count > (int)RML_VAULT_EPOCHS_MAX)
        rc = RML_FAIL(err, -EBADMSG, "%.250s/" RML_CATALOG_FILE " lists %d checkpoints",
                      vault->folder, count);
    // A directory may have been written by an engine that kept more.
    int first = count > (int)vault->options.keep ? count - (int)vault->options.keep : 0;
    for (int i = 0; i < count && rc == 0; i++)
        if (i < first)
            vault->unreadable[vault->unreadable_count++] = epochs[i];
        else
            rc = read_kept(vault, view, epochs[i], err);
    uint64_t newest = rml_catalog_head(vault->catalog)->newest_epoch;
    if (rc == 0 && newest != (count > 0 ? epochs[count - 1] : 0))
        rc = RML_FAIL(err, -EBADMSG,
                      "%.250s/" RML_CATALOG_FILE " is damaged: checkpoint %llu is not in it",
                      vault->folder, (unsigned long long)newest);
    rml_catalog_view_close(view);
    return rc;
}

static int open_extents(struct rml_vault *vault, struct rml_err *err)
{
    const struct rml_extents_options options = {
        .step_bytes = vault->options.step_bytes,
        .limit_bytes = vault->options.limit_bytes,
        .progress = vault->options.progress,
        .progress_context = vault->options.progress_context,
    };
    struct stat about;
    if (fstat(vault->disk.fd, &about) < 0)
        return RML_FAIL(err, -errno, "%.250s: %s", vault->path, strerrordesc_np(errno));
    uint64_t written = rml_catalog_head(vault->catalog)->written_bytes;
    if (written > (uint64_t)about.st_size)  // the damage is named with the checkpoint it hurts
        written = (uint64_t)about.st_size;
    int rc = rml_extents_open(&vault->extents, &vault->disk, &options, written);
    return rc == 0 ? 0 : RML_FAIL(err, rc, "no memory for a map of %.250s", vault->path);
}

/* Opening. */

int rml_vault_open(struct rml_vault **ret_vault, const char *folder,
                   const struct rml_vault_options *options, struct rml_err *err)
{
    struct rml_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a vault");
    vault->disk = RML_DISK_CLOSED;
    vault->stream.buffer = RML_VAULT_NO_BUFFER;
    vault->options = *options;
    take_defaults(&vault->options);
    int rc = 0;
    if (snprintf(vault->folder, sizeof vault->folder, "%s", folder) >= (int)sizeof vault->folder)
        rc = RML_FAIL(err, -ENAMETOOLONG, "%.250s...: the path is too long", folder);
    snprintf(vault->path, sizeof vault->path, "%s/" RML_VAULT_EXTENTS_FILE, vault->folder);
    const struct rml_disk_options disk = {options->ways, options->lock_wait_ns};
    if (rc == 0)
        rc = rml_vault_make_folder(vault, err);
    if (rc == 0)
        rc = rml_disk_open(&vault->disk, vault->path, &disk, err);
    if (rc == 0)
        rc = rml_vault_open_files(vault, err);
    if (rc == 0)
        rc = open_extents(vault, err);
    if (rc == 0)
        rc = find_kept(vault, err);
    if (rc == 0) {
        rc = rml_extents_grow_to(&vault->extents, vault->options.first_bytes, err);
        if (rc < 0)
            rc = RML_WRAP(err, rc, "%.250s", vault->path);
    }
    if (rc < 0) {
        rml_vault_close(vault);
        return rc;
    }
    vault->next_epoch = rml_catalog_head(vault->catalog)->next_epoch;
    *ret_vault = vault;
    return 0;
}

void rml_vault_close(struct rml_vault *vault)
{
    if (vault == NULL)
        return;
    rml_vault_abandon(vault);
    for (uint32_t i = 0; i < vault->kept_count; i++)
        rml_manifest_fini(&vault->kept[i]);
    rml_table_rows_fini(&vault->rows);
    rml_catalog_close(vault->catalog);
    rml_extents_close(&vault->extents);
    rml_disk_close(&vault->disk);  // last: it is the lock
    free(vault);
}

const char *rml_vault_way(const struct rml_vault *vault)
{
    return vault->disk.way->name;
}

const char *rml_vault_why_not(const struct rml_vault *vault)
{
    return vault->disk.why_not;
}

const unsigned char *rml_vault_id(const struct rml_vault *vault)
{
    return rml_catalog_head(vault->catalog)->vault;
}

struct rml_extents_room rml_vault_room(const struct rml_vault *vault)
{
    return rml_extents_room(&vault->extents);
}

struct rml_catalog_use rml_vault_catalog_use(const struct rml_vault *vault)
{
    return rml_catalog_use(vault->catalog);
}

bool rml_vault_has_failed(const struct rml_vault *vault)
{
    return rml_catalog_has_failed(vault->catalog) || vault->disk.is_broken
           || rml_vault_room(vault).lost_bytes > vault->options.lost_bytes_max;
}

/* Reading. */

int rml_vault_newest(const struct rml_vault *vault, const struct rml_manifest **ret_manifest,
                     struct rml_err *err)
{
    if (vault->damage.code != 0) {
        if (err != NULL)
            *err = vault->damage;
        return vault->damage.code;
    }
    if (vault->kept_count == 0)
        return RML_FAIL(err, -ENOENT, "%.250s holds no checkpoint", vault->folder);
    *ret_manifest = &vault->kept[vault->kept_count - 1];
    return 0;
}

const struct rml_manifest *rml_vault_kept(const struct rml_vault *vault, uint64_t epoch)
{
    for (uint32_t i = 0; i < vault->kept_count; i++)
        if (vault->kept[i].epoch == epoch)
            return &vault->kept[i];
    return NULL;
}

uint32_t rml_vault_kept_count(const struct rml_vault *vault)
{
    return vault->kept_count;
}

const struct rml_manifest *rml_vault_kept_at(const struct rml_vault *vault, uint32_t index)
{
    RML_CHECK(index < vault->kept_count);
    return &vault->kept[index];
}

uint64_t rml_vault_newest_epoch(const struct rml_vault *vault)
{
    return rml_catalog_head(vault->catalog)->newest_epoch;
}

static int no_such_checkpoint(const struct rml_vault *vault, uint64_t epoch, struct rml_err *err)
{
    return RML_FAIL(err, -ENOENT, "%.250s: checkpoint %llu is not kept, or cannot be read",
                    vault->folder, (unsigned long long)epoch);
}

static struct rml_chain_reader chain_reader(const struct rml_vault *vault)
{
    return (struct rml_chain_reader){
        .fd = vault->disk.fd,
        .path = vault->path,
        .believes = (vault->options.broken_rules & RML_VAULT_BELIEVES_EXTENTS) != 0,
    };
}

/* Who asks for one partition knows which. */
struct one {
    int (*each)(void *context, const struct rml_extent *extent, const void *bytes);
    void *context;
};

static int give_one(void *context, uint32_t partition, const struct rml_extent *extent,
                    const void *bytes)
{
    const struct one *one = context;
    (void)partition;
    return one->each != NULL ? one->each(one->context, extent, bytes) : 0;
}

int rml_vault_load(struct rml_vault *vault, uint64_t epoch, uint32_t partition,
                   int (*each)(void *context, const struct rml_extent *extent, const void *bytes),
                   void *context, struct rml_err *err)
{
    const struct rml_manifest *manifest = rml_vault_kept(vault, epoch);
    if (manifest == NULL)
        return no_such_checkpoint(vault, epoch, err);
    const struct rml_manifest_part *part = rml_manifest_find(manifest, partition);
    if (part == NULL)
        return RML_FAIL(err, -ENOENT, "%.250s: checkpoint %llu has no partition %u", vault->folder,
                        (unsigned long long)epoch, partition);
    struct one one = {each, context};
    struct rml_chain_reader reader = chain_reader(vault);
    reader.each = give_one;
    reader.context = &one;
    return rml_chain_read(&reader, part, 1, err);
}

static int load_all(struct rml_vault *vault, uint64_t epoch, const struct rml_chain_reader *reader,
                    struct rml_err *err)
{
    const struct rml_manifest *manifest = rml_vault_kept(vault, epoch);
    if (manifest == NULL)
        return no_such_checkpoint(vault, epoch, err);
    return rml_chain_read(reader, manifest->parts, manifest->part_count, err);
}

int rml_vault_load_newest(struct rml_vault *vault, uint64_t epoch,
                          int (*each)(void *context, uint32_t partition,
                                      const struct rml_extent *extent, const void *bytes),
                          void *context, struct rml_err *err)
{
    struct rml_chain_reader reader = chain_reader(vault);
    reader.each = each;
    reader.context = context;
    reader.newest_first = true;
    return load_all(vault, epoch, &reader, err);
}

int rml_vault_verify(struct rml_vault *vault, uint64_t epoch, struct rml_err *err)
{
    const struct rml_chain_reader reader = chain_reader(vault);
    return load_all(vault, epoch, &reader, err);
}

uint64_t rml_vault_written_bytes(const struct rml_vault *vault)
{
    return vault->extents.count * RML_EXTENT_GRANULE_BYTES;
}

int rml_vault_go_back(struct rml_vault *vault, struct rml_err *err)
{
    RML_CHECK(!vault->is_under_way);
    const struct rml_catalog_head *head = rml_catalog_head(vault->catalog);
    bool is_readable = vault->damage.code == 0;
    uint32_t before = vault->kept_count - (is_readable && vault->kept_count > 0);
    if (before == 0)
        return RML_FAIL(err, -ENOENT, "%.250s: there is no checkpoint before %llu that can be read",
                        vault->folder, (unsigned long long)head->newest_epoch);
    uint64_t dropped = head->newest_epoch;
    const struct rml_catalog_change change = {
        .dropped = &dropped,
        .dropped_count = 1,
        .newest_epoch = vault->kept[before - 1].epoch,
        .next_epoch = head->next_epoch,
        .written_bytes = rml_vault_written_bytes(vault),
    };
    int rc = rml_catalog_commit(vault->catalog, &change, err);
    if (rc < 0)
        return rc;
    if (is_readable)
        rml_manifest_fini(&vault->kept[--vault->kept_count]);
    for (uint32_t i = 0; i < vault->unreadable_count; i++)
        if (vault->unreadable[i] == dropped)
            vault->unreadable[i] = vault->unreadable[--vault->unreadable_count];
    vault->damage = (struct rml_err){0};
    return rml_vault_mark_all_needed(vault);
}

void rml_vault_give_up(struct rml_vault *vault)
{
    RML_CHECK(!vault->is_under_way);
    vault->damage = (struct rml_err){0};  // one of the unreadable, which the next commit drops
}

int rml_vault_look(struct rml_vault *vault, struct rml_catalog_view **ret_view, struct rml_err *err)
{
    return rml_catalog_look(vault->catalog, ret_view, err);
}
