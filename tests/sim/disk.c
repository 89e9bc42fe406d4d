#include "tests/sim/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/checkpoint/disk.h"
#include "tests/sim/process.h"
#include "tests/sim/sim.h"
#include "tests/support/crash.h"
#include "tests/support/tape.h"

#define FILES 2  // of rows

/* A fault of the disk, by its point. */
struct failing {
    enum sim_point point;
    enum tape_how how;
    int error;
};

static const struct failing write_faults[] = {
    {SIM_write_fails, TAPE_NOT, EIO},
    {SIM_write_is_unsure, TAPE_NOT_SURE, EIO},
    {SIM_write_is_short, TAPE_SHORT, 0},
    {SIM_write_finds_no_room, TAPE_NOT, ENOSPC},
};

static const struct failing flush_faults[] = {{SIM_flush_fails, TAPE_NOT, EIO}};

static const struct failing catalog_write_faults[] = {
    {SIM_catalog_write_fails, TAPE_NOT, EIO},
    {SIM_catalog_write_is_unsure, TAPE_NOT_SURE, EIO},
    {SIM_catalog_write_finds_no_room, TAPE_NOT, ENOSPC},
};

static const struct failing catalog_flush_faults[] = {{SIM_catalog_flush_fails, TAPE_NOT, EIO}};

static struct {
    char folder[100], state[120];
    bool power;
    bool has_failed;
    bool was_inside;
    uint64_t flushed[FILES];  // bytes of each file of rows that a loss of power leaves
    struct rml_disk *extents;
    struct rml_disk_write pending[RML_DISK_DEPTH];
    uint32_t pending_count;
} disk;

static const char *const row_files[FILES] = {"rows.csv", "rows.jsonl"};

static void row_path(int file, char path[160])
{
    snprintf(path, 160, "%s/%s", disk.folder, row_files[file]);
}

#define TRY(faults, where, is_flush) \
 try_faults((faults), sizeof(faults) / sizeof((faults)[0]), (where), (is_flush))

// Arm the first that strikes, for the call that comes now.
static void try_faults(const struct failing *faults, size_t count, enum tape_where where,
                       bool is_flush)
{
    for (size_t i = 0; i < count; i++) {
        if (!sim_strikes(faults[i].point))
            continue;
        disk.has_failed = true;
        tape_arm((struct tape_fault){
            .where = where, .is_flush = is_flush, .how = faults[i].how, .error = faults[i].error});
        return;
    }
}

/* The extents. A write is sent when its result is asked for, in any order. */

static int start(struct rml_disk *of)
{
    disk.extents = of;
    disk.pending_count = 0;
    return tape_pwrite.start(of);
}

static void stop(struct rml_disk *of)
{
    tape_pwrite.stop(of);
    disk.extents = NULL;
}

static int submit(struct rml_disk *of, const struct rml_disk_write *write)
{
    (void)of;
    sim_door(DOOR_EXTENTS_WRITE);
    RML_CHECK(disk.pending_count < RML_DISK_DEPTH);
    disk.pending[disk.pending_count++] = *write;
    return 0;
}

static int reap(struct rml_disk *of, struct rml_disk_done *ret_done)
{
    do
        sim_door(DOOR_EXTENTS_REAP);
    while (sim_draw(3) == 0);
    bool was = process_turn(false);
    uint32_t which = (uint32_t)sim_draw(disk.pending_count);
    struct rml_disk_write write = disk.pending[which];
    disk.pending[which] = disk.pending[--disk.pending_count];
    TRY(write_faults, TAPE_EXTENTS, false);
    int rc = tape_pwrite.submit(of, &write);
    if (rc == 0)
        rc = tape_pwrite.reap(of, ret_done);
    tape_disarm();
    process_turn(was);
    return rc;
}

static int flush(struct rml_disk *of)
{
    do
        sim_door(DOOR_EXTENTS_FLUSH);
    while (sim_draw(3) == 0);
    bool was = process_turn(false);
    TRY(flush_faults, TAPE_EXTENTS, true);
    int rc = tape_pwrite.flush(of);
    tape_disarm();
    process_turn(was);
    return rc;
}

static const struct rml_disk_way way = {
    .name = "simulated",
    .start = start,
    .stop = stop,
    .submit = submit,
    .reap = reap,
    .flush = flush,
};

const struct rml_disk_way *const disk_ways[] = {&way, NULL};

/* The catalog, and files of rows */

enum sort { OTHER, CATALOG, ROWS };

static enum sort sort_of(int fd, int *ret_file)
{
    char link[40], path[300];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    const char *name = strrchr(path, '/');
    if (name != NULL && strncmp(name, "/catalog.mdb", 12) == 0)
        return CATALOG;
    for (*ret_file = 0; name != NULL && *ret_file < FILES; ++*ret_file) {
        if (strcmp(name + 1, row_files[*ret_file]) == 0)
            return ROWS;
    }
    return OTHER;
}

static void before_write(int fd)
{
    int file;
    if (sort_of(fd, &file) != CATALOG)
        return;
    sim_door(DOOR_CATALOG_WRITE);
    TRY(catalog_write_faults, TAPE_CATALOG, false);
}

static void before_flush(int fd)
{
    int file;
    enum sort sort = sort_of(fd, &file);
    if (sort == OTHER)
        return;
    sim_door(sort == CATALOG ? DOOR_CATALOG_FLUSH : DOOR_FILE_FLUSH);
    if (sort == CATALOG)
        TRY(catalog_flush_faults, TAPE_CATALOG, true);
}

static void behind_flush(int fd)
{
    int file;
    struct stat about;
    if (sort_of(fd, &file) == ROWS && fstat(fd, &about) == 0)
        disk.flushed[file] = (uint64_t)about.st_size;
}

static void watch(enum tape_call call, int fd, bool is_done)
{
    if (is_done) {
        if (!disk.was_inside)
            return;
        if (call == TAPE_CALL_FLUSH)
            behind_flush(fd);
        tape_disarm();
        process_turn(true);
        disk.was_inside = false;
        return;
    }
    if (!process_is_inside())
        return;
    switch (call) {
    case TAPE_CALL_WRITE:
        before_write(fd);
        break;
    case TAPE_CALL_FLUSH:
        before_flush(fd);
        break;
    case TAPE_CALL_CUT:
        sim_door(DOOR_FILE_CUT);
        break;
    case TAPE_CALL_NAME:
        sim_door(DOOR_NAME);
        break;
    }
    disk.was_inside = process_turn(false);
}

// How full the machine's own disk is has nothing to do with the seed.
__attribute__((visibility("default"))) int statvfs(const char *path, struct statvfs *ret_disk)
{
    (void)path;
    *ret_disk = (struct statvfs){.f_frsize = 4096, .f_bavail = 1000};
    return 0;
}

/* Life and death */

void disk_begin(const char *folder, bool power)
{
    memset(&disk, 0, sizeof disk);
    snprintf(disk.folder, sizeof disk.folder, "%s", folder);
    snprintf(disk.state, sizeof disk.state, "%s/state", folder);
    disk.power = power;
    tape_watcher = watch;
    if (power)
        tape_start(disk.state);
}

void disk_end(void)
{
    tape_watcher = NULL;
    if (disk.power) {
        struct tape tape = tape_stop();
        tape_free(&tape);
    }
}

bool disk_has_failed(void)
{
    bool has = disk.has_failed;
    disk.has_failed = false;
    return has;
}

void disk_engine_dies(void)
{
    tape_disarm();
    disk.was_inside = false;
    for (uint32_t i = 0; disk.extents != NULL && i < disk.pending_count; i++) {
        struct rml_disk_done done;
        if (!sim_strikes(SIM_late_write_lands))
            continue;
        if (sim_strikes(SIM_late_write_is_torn))
            disk.pending[i].bytes = disk.pending[i].bytes / 2 / 512 * 512 + 512;
        RML_CHECK(tape_pwrite.submit(disk.extents, &disk.pending[i]) == 0);
        RML_CHECK(tape_pwrite.reap(disk.extents, &done) == 0);
    }
    disk.pending_count = 0;
    disk.extents = NULL;
}

static void empty_state(void)
{
    DIR *files = opendir(disk.state);
    if (files == NULL) {
        RML_CHECK(mkdir(disk.state, 0700) == 0);
        return;
    }
    for (struct dirent *file; (file = readdir(files)) != NULL;)
        unlinkat(dirfd(files), file->d_name, 0);
    closedir(files);
}

// What was flushed is there; of the rest some bytes, or zeros in their place.
static void cut_rows(int file)
{
    char path[160];
    struct stat about;
    row_path(file, path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    RML_CHECK(fstat(fd, &about) == 0);
    uint64_t bytes = (uint64_t)about.st_size, flushed = disk.flushed[file];
    flushed = flushed < bytes ? flushed : bytes;
    uint64_t left = flushed + sim_draw(bytes - flushed + 1);
    uint64_t good = flushed + sim_draw(left - flushed + 1);
    RML_CHECK(ftruncate(fd, (off_t)good) == 0 && ftruncate(fd, (off_t)left) == 0);
    close(fd);
}

void disk_power_fails(void)
{
    uint64_t seed = sim_draw(UINT64_MAX);
    struct tape tape = tape_stop();
    struct crash *crash = crash_open(&tape);
    for (size_t i = 0; i < tape.count; i++)
        crash_step(crash);
    empty_state();
    crash_draw(crash, disk.state, &seed);
    crash_close(crash);
    tape_free(&tape);
    for (int i = 0; i < FILES; i++)
        cut_rows(i);
    tape_start_with(disk.state);
}
