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
 *
 * *Making the directory.* The header of the extent file is written as unfinished and flushed; the catalog
 * is made under another name, flushed, renamed; the folder is flushed; the header is written as whole.
 * A header that is whole without a catalog is damage and not a new directory, so losing the catalog
 * cannot pass for having had none. Header and catalog carry the same random number, so files of two
 * directories cannot be mixed.
 *
 * *The lock* is on the extent file, and the ring holds the file too. A process that is killed with writes
 * under way keeps the lock until they have landed, since the kernel finishes them after its death.
 */
#include "runtime/checkpoint/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/chain.h"
#include "runtime/checkpoint/crc32c.h"

#define MIB            ((uint64_t)1 << 20)
#define EPOCHS_MAX     64u
#define FIRST_BYTES    (64 * MIB)
#define CATALOG_MAX    (MIB * MIB)
#define ROWS_BYTES_MAX (1024 * MIB)
#define LOST_BYTES_MAX (1024 * MIB)
#define NO_BUFFER      (-1)

/* Where the next byte goes. */
struct stream {
    int buffer;                 // NO_BUFFER: the next byte begins a granule
    uint32_t filled;            // of the buffer
    uint64_t offset;            // of the buffer in the file
    struct rml_extent_run run;  // what is left of it, behind the buffer
    uint64_t expected_bytes;
    bool is_open;  // `extent`, of `partition`
    uint32_t partition;
    struct rml_extent extent;
};

struct rml_vault {
    char folder[300], path[320];
    struct rml_vault_options options;
    struct rml_disk disk;
    struct rml_extents extents;
    struct rml_catalog *catalog;
    struct rml_manifest kept[RML_VAULT_KEEP_MAX];  // by epoch, rising; those that can be read
    uint32_t kept_count;
    uint64_t unreadable[EPOCHS_MAX];  // to be dropped with the next commit
    uint32_t unreadable_count;
    struct rml_err damage;  // of the newest one's rows; code 0: none
    uint64_t next_epoch;
    bool is_under_way;
    struct rml_err why;  // the one under way can only be abandoned; code 0: it goes well
    struct rml_manifest made;
    struct rml_table_rows rows;
    struct stream stream;
};

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

/* The directory and the header. */

static int make_folder(const struct rml_vault *vault, struct rml_err *err)
{
    if (mkdir(vault->folder, 0700) < 0)
        return errno == EEXIST ? 0
                               : RML_FAIL(err, -errno, "cannot make folder %.250s: %s",
                                          vault->folder, strerrordesc_np(errno));
    char parent[sizeof vault->folder + 4];
    snprintf(parent, sizeof parent, "%s/..", vault->folder);
    return rml_disk_flush_folder(parent, err);
}

static int write_header(struct rml_vault *vault, struct rml_vault_header *header,
                        struct rml_err *err)
{
    header->crc32c = rml_crc32c(0, header, offsetof(struct rml_vault_header, crc32c));
    int buffer = rml_disk_buffer(&vault->disk);
    RML_CHECK(buffer >= 0);  // nothing is under way yet
    unsigned char *memory = rml_disk_memory(&vault->disk, buffer);
    memset(memory, 0, RML_DISK_BLOCK_BYTES);
    memcpy(memory, header, sizeof *header);
    int rc = rml_disk_write(&vault->disk, buffer, 0, RML_DISK_BLOCK_BYTES);
    if (rc == 0)
        rc = rml_disk_flush(&vault->disk);
    return rc == 0
               ? 0
               : RML_FAIL(err, rc, "cannot write %.250s: %s", vault->path, strerrordesc_np(-rc));
}

static bool is_all_zero(const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

// 0, -ENODATA when nothing was ever written there, or an error.
static int read_header(struct rml_vault *vault, struct rml_vault_header *ret_header,
                       struct rml_err *err)
{
    unsigned char *memory = rml_disk_memory(&vault->disk, 0);
    int rc = rml_disk_read(vault->disk.fd, 0, memory, RML_DISK_BLOCK_BYTES);
    if (rc == -ENODATA || (rc == 0 && is_all_zero(memory, RML_DISK_BLOCK_BYTES)))
        return -ENODATA;
    if (rc < 0)
        return RML_FAIL(err, rc, "cannot read %.250s: %s", vault->path, strerrordesc_np(-rc));
    struct rml_vault_header header;
    memcpy(&header, memory, sizeof header);
    if (memcmp(header.magic, RML_VAULT_HEADER_MAGIC, sizeof header.magic) != 0)
        return RML_FAIL(err, -EBADMSG,
                        "%.250s does not begin as an extent file does: it is damaged or none",
                        vault->path);
    if (header.format != RML_VAULT_FORMAT)
        return RML_FAIL(err, -EPROTONOSUPPORT,
                        "%.250s has format %u and this program reads format %u: use the program "
                        "that wrote it, or start from an empty state directory",
                        vault->path, header.format, RML_VAULT_FORMAT);
    if (header.crc32c != rml_crc32c(0, &header, offsetof(struct rml_vault_header, crc32c))
        || header.granule_bytes != RML_EXTENT_GRANULE_BYTES)
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged: its header is not what was written",
                        vault->path);
    *ret_header = header;
    return 0;
}

static bool has_catalog(const struct rml_vault *vault)
{
    char path[330];
    snprintf(path, sizeof path, "%s/" RML_CATALOG_FILE, vault->folder);
    return access(path, F_OK) == 0;
}

static int new_header(struct rml_vault *vault, struct rml_vault_header *ret_header,
                      struct rml_err *err)
{
    struct rml_vault_header header = {.format = RML_VAULT_FORMAT,
                                      .granule_bytes = RML_EXTENT_GRANULE_BYTES};
    memcpy(header.magic, RML_VAULT_HEADER_MAGIC, sizeof header.magic);
    if (getrandom(header.vault, sizeof header.vault, 0) != (ssize_t)sizeof header.vault)
        return RML_FAIL(err, -EIO, "no random numbers");
    int rc = write_header(vault, &header, err);
    if (rc == 0)
        rc = rml_disk_flush_folder(vault->folder, err);
    *ret_header = header;
    return rc;
}

static struct rml_catalog_options catalog_options(const struct rml_vault *vault)
{
    return (struct rml_catalog_options){vault->options.catalog_bytes,
                                        vault->options.catalog_bytes_max};
}

// What is damaged was said; then why nothing was done about it.
static int mend_catalog(struct rml_vault *vault, const struct rml_catalog_options *options,
                        struct rml_err *err)
{
    struct rml_err what = {0}, why = {0};
    if (err != NULL)
        what = *err;
    int rc = rml_catalog_mend(vault->folder, options, vault->options.mending, &why);
    if (rc == 0)
        return rml_catalog_open(&vault->catalog, vault->folder, options, err);
    bool is_same = strcmp(what.text, why.text) == 0;
    return RML_FAIL(err, -EBADMSG, "%.300s%s%s", what.text, is_same ? "" : "; ",
                    is_same ? "" : why.text);
}

// A directory with a whole header and a catalog of the same vault, made if there was none.
static int open_files(struct rml_vault *vault, struct rml_err *err)
{
    const struct rml_catalog_options options = catalog_options(vault);
    struct rml_vault_header header;
    int rc = read_header(vault, &header, err);
    if (rc == -ENODATA && has_catalog(vault))
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged: it is empty, and there is a catalog",
                        vault->path);
    if (rc == -ENODATA)
        rc = new_header(vault, &header, err);
    if (rc < 0)
        return rc;
    if (header.is_whole == 0) {
        if (!has_catalog(vault))
            rc = rml_catalog_make(vault->folder, header.vault, &options, err);
        else
            rc = rml_disk_flush_folder(vault->folder, err);
        header.is_whole = 1;
        if (rc == 0)
            rc = write_header(vault, &header, err);
        if (rc < 0)
            return rc;
    } else if (!has_catalog(vault)) {
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged: there is no " RML_CATALOG_FILE " in it",
                        vault->folder);
    }
    rc = rml_catalog_open(&vault->catalog, vault->folder, &options, err);
    if (rc == -EBADMSG && vault->options.mending != NULL)
        rc = mend_catalog(vault, &options, err);
    if (rc == 0
        && memcmp(rml_catalog_head(vault->catalog)->vault, header.vault, sizeof header.vault) != 0)
        rc = RML_FAIL(err, -EBADMSG, "%.250s: its files are of two different directories",
                      vault->folder);
    return rc;
}

/* What is kept. */

static int mark_needed(struct rml_vault *vault, const struct rml_manifest *manifest)
{
    int rc = 0;
    for (uint32_t p = 0; p < manifest->part_count && rc == 0; p++)
        for (uint32_t i = 0; i < manifest->parts[p].extent_count && rc == 0; i++) {
            const struct rml_extent *extent = &manifest->parts[p].extents[i];
            rc = rml_extents_need(&vault->extents, extent->offset, extent->bytes);
        }
    return rc;
}

static int mark_all_needed(struct rml_vault *vault)
{
    rml_extents_settle(&vault->extents);
    int rc = 0;
    for (uint32_t i = 0; i < vault->kept_count && rc == 0; i++)
        rc = mark_needed(vault, &vault->kept[i]);
    return rc;
}

static int read_kept(struct rml_vault *vault, struct rml_catalog_view *view, uint64_t epoch,
                     struct rml_err *err)
{
    struct rml_err damage = {0};
    struct rml_manifest *manifest = &vault->kept[vault->kept_count];
    int rc = rml_catalog_manifest(view, epoch, manifest, &damage);
    if (rc == 0 && mark_needed(vault, manifest) < 0) {
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
    uint64_t epochs[EPOCHS_MAX];
    int count = rml_catalog_epochs(view, epochs, EPOCHS_MAX);
    if (count < 0 || count > (int)EPOCHS_MAX)
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

int rml_vault_open(struct rml_vault **ret_vault, const char *folder,
                   const struct rml_vault_options *options, struct rml_err *err)
{
    struct rml_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a vault");
    vault->disk = RML_DISK_CLOSED;
    vault->stream.buffer = NO_BUFFER;
    vault->options = *options;
    take_defaults(&vault->options);
    int rc = 0;
    if (snprintf(vault->folder, sizeof vault->folder, "%s", folder) >= (int)sizeof vault->folder)
        rc = RML_FAIL(err, -ENAMETOOLONG, "%.250s...: the path is too long", folder);
    snprintf(vault->path, sizeof vault->path, "%s/" RML_VAULT_EXTENTS_FILE, vault->folder);
    const struct rml_disk_options disk = {options->ways, options->lock_wait_ns};
    if (rc == 0)
        rc = make_folder(vault, err);
    if (rc == 0)
        rc = rml_disk_open(&vault->disk, vault->path, &disk, err);
    if (rc == 0)
        rc = open_files(vault, err);
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

static uint64_t written_bytes(const struct rml_vault *vault)
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
        .written_bytes = written_bytes(vault),
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
    return mark_all_needed(vault);
}

/* Writing. */

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
    vault->stream = (struct stream){.buffer = NO_BUFFER, .expected_bytes = expected_bytes};
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
    struct stream *stream = &vault->stream;
    uint32_t bytes =
        (stream->filled + RML_DISK_BLOCK_BYTES - 1) / RML_DISK_BLOCK_BYTES * RML_DISK_BLOCK_BYTES;
    int rc = rml_disk_write(&vault->disk, stream->buffer, stream->offset, bytes);
    stream->buffer = NO_BUFFER;
    return rc == 0 ? 0 : fail_write(vault, rc, err);
}

// Ends the open extent on a whole block.
static int end_extent(struct rml_vault *vault, struct rml_err *err)
{
    struct stream *stream = &vault->stream;
    if (!stream->is_open)
        return 0;
    stream->is_open = false;
    struct rml_manifest_part *part = rml_manifest_add_part(&vault->made, stream->partition);
    if (part == NULL || rml_manifest_add_extents(part, &stream->extent, 1) < 0)
        return fail_memory(vault, err);
    if (stream->buffer == NO_BUFFER)
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
    struct stream *stream = &vault->stream;
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
    struct stream *stream = &vault->stream;
    int rc = 0;
    if (stream->is_open
        && (stream->partition != partition || stream->extent.bytes == RML_EXTENT_BYTES_MAX))
        rc = end_extent(vault, err);
    if (rc == 0 && stream->buffer == NO_BUFFER)
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
    struct stream *stream = &vault->stream;
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
        rc = mark_needed(vault, &vault->made);
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

int rml_vault_look(struct rml_vault *vault, struct rml_catalog_view **ret_view, struct rml_err *err)
{
    return rml_catalog_look(vault->catalog, ret_view, err);
}

static void forget_made(struct rml_vault *vault)
{
    rml_manifest_fini(&vault->made);
    rml_table_rows_clear(&vault->rows);
    vault->stream.buffer = NO_BUFFER;
    vault->is_under_way = false;
}

void rml_vault_abandon(struct rml_vault *vault)
{
    if (!vault->is_under_way)
        return;
    int written = rml_disk_settle(&vault->disk);
    if (written < 0 || vault->why.code < 0 || rml_vault_has_failed(vault))
        rml_extents_lose(&vault->extents);
    int rc = mark_all_needed(vault);
    RML_CHECK(rc == 0);  // they were before
    forget_made(vault);
}

bool rml_vault_has_failed(const struct rml_vault *vault)
{
    return rml_catalog_has_failed(vault->catalog) || vault->disk.is_broken
           || rml_vault_room(vault).lost_bytes > vault->options.lost_bytes_max;
}

// All bytes on the disk.
static int finish_writing(struct rml_vault *vault, struct rml_err *err)
{
    int rc = end_extent(vault, err);
    if (rc == 0 && vault->stream.buffer != NO_BUFFER)
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
    uint64_t dropped[EPOCHS_MAX + RML_VAULT_KEEP_MAX];
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
        .written_bytes = written_bytes(vault),
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
    rc = mark_all_needed(vault);
    RML_CHECK(rc == 0);  // all of it was taken from there
    return 0;
}
