#include "runtime/checkpoint/checkpoints.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog_check.h"
#include "runtime/checkpoint/chain.h"
#include "runtime/checkpoint/disk.h"
#include "runtime/checkpoint/vault.h"

#define EPOCHS_MAX 64u

struct rml_checkpoints {
    int fd;  // of the extent file
    char path[320];
    struct rml_catalog *catalog;
};

/*
 * A shared lock can be had when no engine has its own. It is held while the catalog's file is looked
 * through, and given back at once.
 */
static int check_if_quiet(const struct rml_checkpoints *checkpoints, const char *folder,
                          struct rml_err *err)
{
    char path[320];
    snprintf(path, sizeof path, "%s/" RML_CATALOG_FILE, folder);
    if (flock(checkpoints->fd, LOCK_SH | LOCK_NB) < 0)
        return 0;
    int rc = rml_catalog_check(path, err);
    flock(checkpoints->fd, LOCK_UN);
    return rc;
}

int rml_checkpoints_open(struct rml_checkpoints **ret_checkpoints, const char *folder,
                         struct rml_err *err)
{
    struct rml_checkpoints *checkpoints = calloc(1, sizeof *checkpoints);
    if (checkpoints == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to look at %.250s", folder);
    int rc = 0;
    if (snprintf(checkpoints->path, sizeof checkpoints->path, "%s/" RML_VAULT_EXTENTS_FILE, folder)
        >= (int)sizeof checkpoints->path)
        rc = RML_FAIL(err, -ENAMETOOLONG, "%.250s...: the path is too long", folder);
    checkpoints->fd = rc == 0 ? rml_disk_open_reading(checkpoints->path) : -1;
    if (rc == 0 && checkpoints->fd < 0)
        rc =
            RML_FAIL(err, checkpoints->fd, "%.250s is no state directory: cannot open %s in it: %s",
                     folder, RML_VAULT_EXTENTS_FILE, strerrordesc_np(-checkpoints->fd));
    if (rc == 0)
        rc = check_if_quiet(checkpoints, folder, err);
    if (rc == 0)
        rc = rml_catalog_open_reading(&checkpoints->catalog, folder, err);
    if (rc < 0)
        rml_checkpoints_close(checkpoints);
    else
        *ret_checkpoints = checkpoints;
    return rc;
}

void rml_checkpoints_close(struct rml_checkpoints *checkpoints)
{
    if (checkpoints == NULL)
        return;
    rml_catalog_close(checkpoints->catalog);
    if (checkpoints->fd >= 0)
        close(checkpoints->fd);
    free(checkpoints);
}

struct rml_catalog *rml_checkpoints_catalog(struct rml_checkpoints *checkpoints)
{
    return checkpoints->catalog;
}

static int describe(struct rml_catalog_view *view, uint64_t epoch,
                    struct rml_checkpoint_info *ret_info, struct rml_err *err)
{
    struct rml_manifest manifest = {0};
    int rc = rml_catalog_manifest(view, epoch, &manifest, err);
    if (rc == -EBADMSG) {
        *ret_info = (struct rml_checkpoint_info){.epoch = epoch, .damage = rc};
        return 0;
    }
    if (rc < 0)
        return rc;
    *ret_info = (struct rml_checkpoint_info){
        .epoch = epoch,
        .wall_ns = manifest.wall_ns,
        .partitions = manifest.part_count,
        .size = rml_manifest_size(&manifest),
    };
    rml_manifest_fini(&manifest);
    return 0;
}

int rml_checkpoints_list(struct rml_checkpoints *checkpoints, struct rml_checkpoint_info *list,
                         uint32_t room, struct rml_err *err)
{
    struct rml_catalog_view *view;
    int rc = rml_catalog_look(checkpoints->catalog, &view, err);
    if (rc < 0)
        return rc;
    uint64_t epochs[EPOCHS_MAX];
    int count = rml_catalog_epochs(view, epochs, EPOCHS_MAX);
    if (count < 0)
        rc = RML_FAIL(err, count, "cannot read the list of checkpoints: %s",
                      strerrordesc_np(-count));
    for (int i = 0; i < count && i < (int)room && i < (int)EPOCHS_MAX && rc == 0; i++)
        rc = describe(view, epochs[i], &list[i], err);
    rml_catalog_view_close(view);
    return rc < 0 ? rc : count;
}

int rml_checkpoints_show(struct rml_checkpoints *checkpoints, uint64_t epoch,
                         struct rml_manifest *ret_manifest, struct rml_err *err)
{
    struct rml_catalog_view *view;
    int rc = rml_catalog_look(checkpoints->catalog, &view, err);
    if (rc < 0)
        return rc;
    rc = rml_catalog_manifest(view, epoch, ret_manifest, err);
    rml_catalog_view_close(view);
    return rc;
}

// Its extents are used again once it is dropped.
static bool is_still_there(struct rml_checkpoints *checkpoints, uint64_t epoch)
{
    struct rml_manifest manifest = {0};
    int rc = rml_checkpoints_show(checkpoints, epoch, &manifest, NULL);
    rml_manifest_fini(&manifest);
    return rc != -ENOENT;
}

// What is told of, and where.
struct complaints {
    void (*complain)(void *context, const char *sentence);
    void *context;
};

static int verify_extents(struct rml_checkpoints *checkpoints, const struct rml_manifest *manifest,
                          void *memory, const struct complaints *to, struct rml_err *err)
{
    const struct rml_chain_reader chain = {.fd = checkpoints->fd, .path = checkpoints->path};
    int damages = 0;
    struct rml_err damage = {0};
    for (uint32_t p = 0; p < manifest->part_count; p++) {
        const struct rml_manifest_part *part = &manifest->parts[p];
        for (uint32_t i = 0; i < part->extent_count; i++) {
            if (rml_chain_read_extent(&chain, part->partition, &part->extents[i], memory, &damage)
                == 0)
                continue;
            if (!is_still_there(checkpoints, manifest->epoch))
                return RML_FAIL(err, -ESTALE, "checkpoint %llu was dropped while it was being read",
                                (unsigned long long)manifest->epoch);
            damages++;
            to->complain(to->context, damage.text);
        }
    }
    return damages;
}

int rml_checkpoints_verify(struct rml_checkpoints *checkpoints, uint64_t epoch,
                           void (*complain)(void *context, const char *sentence), void *context,
                           struct rml_err *err)
{
    struct rml_manifest manifest = {0};
    struct rml_err damage = {0};
    int rc = rml_checkpoints_show(checkpoints, epoch, &manifest, &damage);
    if (rc == -EBADMSG) {
        complain(context, damage.text);
        return 1;
    }
    if (rc < 0) {
        if (err != NULL)
            *err = damage;
        return rc;
    }
    void *memory = aligned_alloc(RML_DISK_BLOCK_BYTES, RML_EXTENT_BYTES_MAX);
    rc = memory == NULL ? RML_FAIL(err, -ENOMEM, "no memory to read extents")
                        : verify_extents(checkpoints, &manifest, memory,
                                         &(struct complaints){complain, context}, err);
    free(memory);
    rml_manifest_fini(&manifest);
    return rc;
}
