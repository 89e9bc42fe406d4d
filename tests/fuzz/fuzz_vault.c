/*
 * A state directory with any bytes changed, in its catalog and in its extents: what the vault hands out is a
 * checkpoint as it was written, or it is refused with a sentence. So it is for another process that looks,
 * and where rows that cannot be read are done without.
 *
 * Input: patches, one after the other: which file and how, where (4 bytes), how many bytes, the bytes.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "tests/support/folder.h"
#include "tests/support/history.h"

#define CHECKPOINTS 9
#define PATCHES_MAX 16
#define PATCH_HEAD  6u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct file {
    char path[128];
    unsigned char *bytes;
    size_t count;
};

static struct folder folder;
static struct file files[2];  // the catalog, extents
static struct history history = {.seed = 3, .piece_bytes_max = 3000};
static const struct rml_disk_way *const plain[] = {&rml_disk_way_buffered, NULL};

static bool give_up_none(void *context, const struct rml_table_row *row)
{
    (void)context, (void)row;
    return false;
}

static void keep(void *context, const struct rml_table_row *row, bool is_whole)
{
    (void)context, (void)row, (void)is_whole;
}

static void lack(void *context, const struct rml_catalog_gap *gap)
{
    (void)context;
    (void)rml_catalog_gap_may_have(gap, "rows");
}

static int approve(void *context, struct rml_err *err)
{
    (void)context, (void)err;
    return 0;
}

static const struct rml_catalog_mending mending = {give_up_none, keep, lack, approve, NULL};
static const struct rml_vault_options options = {
    .mending = &mending,
    .ways = plain,
    .first_bytes = RML_EXTENT_GRANULE_BYTES,
    .step_bytes = RML_EXTENT_GRANULE_BYTES,
    .catalog_bytes = 1 << 20,
};

static void remove_folder(void)
{
    folder_remove(&folder);
}

static void put_back(const struct file *file)
{
    int fd = open(file->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    RML_CHECK(fd >= 0 && write(fd, file->bytes, file->count) == (ssize_t)file->count);
    close(fd);
}

static struct file read_file(const char *name)
{
    struct file file;
    struct stat about;
    snprintf(file.path, sizeof file.path, "%s", folder_file(&folder, name));
    int fd = open(file.path, O_RDONLY);
    RML_CHECK(fd >= 0 && fstat(fd, &about) == 0);
    file.count = (size_t)about.st_size;
    file.bytes = malloc(file.count);
    RML_CHECK(file.bytes != NULL);
    RML_CHECK(read(fd, file.bytes, file.count) == (ssize_t)file.count);
    close(fd);
    return file;
}

static void make_directory(void)
{
    struct rml_vault *vault;
    struct rml_err err;
    folder = folder_make("/dev/shm");
    atexit(remove_folder);
    RML_CHECK(rml_vault_open(&vault, folder.path, &options, &err) == 0);
    for (int i = 0; i < CHECKPOINTS; i++) {
        uint64_t epoch;
        RML_CHECK(history_write(&history, vault, &epoch, &err) == 0);
        RML_CHECK(rml_vault_commit(vault, &err) == 0);
        history_committed(&history, epoch);
    }
    rml_vault_close(vault);
    files[0] = read_file(RML_CATALOG_FILE);
    files[1] = read_file(RML_VAULT_EXTENTS_FILE);
}

static bool extents_changed;

/* Changes one of the files as a patch says. Returns the bytes of the patch, 0 behind the last one. */
static size_t apply(const uint8_t *patch, size_t left)
{
    if (left < PATCH_HEAD)
        return 0;
    const struct file *file = &files[patch[0] & 1];
    extents_changed |= (patch[0] & 1) != 0;
    uint32_t where;
    memcpy(&where, patch + 1, sizeof where);
    size_t count = patch[5] < left - PATCH_HEAD ? patch[5] : left - PATCH_HEAD;
    size_t at = where % file->count;
    if ((patch[0] & 2) != 0)  // where pages and their nodes begin
        at = (at & ~(size_t)4095) + (at & 127);
    if (count > file->count - at)
        count = file->count - at;
    unsigned char bytes[UINT8_MAX];
    for (size_t i = 0; i < count; i++)
        bytes[i] = (patch[0] & 4) != 0 ? patch[PATCH_HEAD + i]
                                       : file->bytes[at + i] ^ patch[PATCH_HEAD + i];
    int fd = open(file->path, O_WRONLY);
    RML_CHECK(fd >= 0);
    if ((patch[0] & 0xf8) == 0xf8)
        RML_CHECK(ftruncate(fd, (off_t)at) == 0);
    else
        RML_CHECK(pwrite(fd, bytes, count, (off_t)at) == (ssize_t)count);
    close(fd);
    return PATCH_HEAD + count;
}

/* As the engine would: what it goes on from. */
static void check_engine(void)
{
    struct rml_vault *vault;
    struct rml_err err = {0};
    const struct rml_manifest *newest;
    if (rml_vault_open(&vault, folder.path, &options, &err) < 0) {
        RML_CHECK(err.text[0] != '\0');
        return;
    }
    int rc = rml_vault_newest(vault, &newest, &err);
    if (rc < 0)
        RML_CHECK(err.text[0] != '\0');
    else
        RML_CHECK(newest->epoch < HISTORY_EPOCHS
                  && history_check(&history, vault, newest->epoch, &err) != HISTORY_WRONG);
    rml_vault_close(vault);
}

static void hear(void *context, const char *sentence)
{
    (void)context;
    RML_CHECK(sentence[0] != '\0');
}

/* As another process would, which looks. */
static void check_looks(void)
{
    struct rml_checkpoints *seen;
    struct rml_err err = {0};
    struct rml_checkpoint_info list[HISTORY_EPOCHS];
    if (rml_checkpoints_open(&seen, folder.path, &err) < 0) {
        RML_CHECK(err.text[0] != '\0');
        return;
    }
    int count = rml_checkpoints_list(seen, list, HISTORY_EPOCHS, &err);
    uint64_t newest = 0;
    for (int i = 0; i < count && i < (int)HISTORY_EPOCHS; i++) {
        struct rml_manifest manifest = {0};
        int rc = rml_checkpoints_show(seen, list[i].epoch, &manifest, &err);
        newest = rc == 0 ? list[i].epoch : 0;  // the last one in the list, if it is whole
        rml_manifest_fini(&manifest);
        (void)rml_checkpoints_verify(seen, list[i].epoch, hear, NULL, &err);
    }
    rml_checkpoints_close(seen);
    if (newest > 0 && newest < HISTORY_EPOCHS)
        RML_CHECK(history_check_rows(&history, folder.path, newest, &err) != HISTORY_WRONG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (folder.path[0] == '\0')
        make_directory();
    extents_changed = false;
    uint32_t patches = 0;
    for (size_t at = 0, used; patches < PATCHES_MAX; at += used, patches++) {
        used = apply(data + at, size - at);
        if (used == 0)
            break;
    }
    check_looks();
    check_engine();
    put_back(&files[0]);  // whoever opens it may write to it
    if (extents_changed)
        put_back(&files[1]);
    return 0;
}
