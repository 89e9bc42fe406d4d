/*
 * How a directory is made, and who has it.
 *
 * *Making the directory.* The header of the extent file is written as unfinished and flushed; the catalog
 * is made under another name, flushed, renamed; the folder is flushed, and the one that it lies in; the header
 * is written as whole.
 * A header that is whole without a catalog is damage and not a new directory, so losing the catalog
 * cannot pass for having had none. Header and catalog carry the same random number, so files of two
 * directories cannot be mixed.
 *
 * *The lock* is on the extent file, and the ring holds the file too. A process that is killed with writes
 * under way keeps the lock until they have landed, since the kernel finishes them after its death.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/checkpoint/crc32c.h"
#include "runtime/checkpoint/vault_state.h"

int rml_vault_make_folder(const struct rml_vault *vault, struct rml_err *err)
{
    return mkdir(vault->folder, 0700) == 0 || errno == EEXIST
               ? 0
               : RML_FAIL(err, -errno, "cannot make folder %.250s: %s", vault->folder,
                          strerrordesc_np(errno));
}

// The folder's name, whoever made it: one who died at once may have. A parent that may be used and not read has its
// file system flushed as a whole.
static int flush_name(const struct rml_vault *vault, struct rml_err *err)
{
    char parent[sizeof vault->folder + 4];
    snprintf(parent, sizeof parent, "%s/..", vault->folder);
    int rc = rml_disk_flush_folder(parent, err);
    bool is_done = rc == 0 || (rc != -EIO && syncfs(vault->disk.fd) == 0);
    return is_done ? 0 : rc;
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

int rml_vault_open_files(struct rml_vault *vault, struct rml_err *err)
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
            rc = flush_name(vault, err);
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
