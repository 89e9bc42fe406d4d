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
#include "runtime/checkpoint/journal.h"
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

static const struct failing journal_write_faults[] = {
    {SIM_journal_write_fails, TAPE_NOT, EIO},
    {SIM_journal_write_is_unsure, TAPE_NOT_SURE, EIO},
    {SIM_journal_write_is_short, TAPE_SHORT, 0},
    {SIM_journal_write_finds_no_room, TAPE_NOT, ENOSPC},
};

static const struct failing journal_flush_faults[] = {{SIM_journal_flush_fails, TAPE_NOT, EIO}};

static const struct failing catalog_write_faults[] = {
    {SIM_catalog_write_fails, TAPE_NOT, EIO},
    {SIM_catalog_write_is_unsure, TAPE_NOT_SURE, EIO},
    {SIM_catalog_write_finds_no_room, TAPE_NOT, ENOSPC},
};

static const struct failing catalog_flush_faults[] = {{SIM_catalog_flush_fails, TAPE_NOT, EIO}};

static struct {
    char folder[100], state[120];
    bool power;
    uint32_t journal_segments;
    bool has_failed;
    bool was_inside;
    uint64_t flushed[FILES];  // bytes of each file of rows that a loss of power leaves

    // The extents, and the journal.
    struct direct {
        struct rml_disk *of;  // NULL: it is closed
        struct rml_disk_write pending[RML_DISK_DEPTH];
        uint32_t pending_count;
    } extents, journal;
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

/* The extents and the journal. A write is sent when its result is asked for, in any order. */

// Of the file alone, or "".
static const char *name_of(int fd)
{
    static char path[300];
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    const char *name = strrchr(path, '/');
    return name != NULL ? name + 1 : "";
}

static struct direct *direct_of(const struct rml_disk *of)
{
    struct direct *direct = of == disk.journal.of ? &disk.journal : &disk.extents;
    RML_CHECK(direct->of == of);
    return direct;
}

static int start(struct rml_disk *of)
{
    struct direct *direct =
        strcmp(name_of(of->fd), RML_JOURNAL_FILE) == 0 ? &disk.journal : &disk.extents;
    *direct = (struct direct){.of = of};
    return tape_pwrite.start(of);
}

static void stop(struct rml_disk *of)
{
    tape_pwrite.stop(of);
    direct_of(of)->of = NULL;
}

static int submit(struct rml_disk *of, const struct rml_disk_write *write)
{
    struct direct *direct = direct_of(of);
    sim_door(direct == &disk.journal ? DOOR_JOURNAL_WRITE : DOOR_EXTENTS_WRITE);
    RML_CHECK(direct->pending_count < RML_DISK_DEPTH);
    direct->pending[direct->pending_count++] = *write;
    return 0;
}

static int reap(struct rml_disk *of, struct rml_disk_done *ret_done)
{
    struct direct *direct = direct_of(of);
    bool is_journal = direct == &disk.journal;
    do
        sim_door(is_journal ? DOOR_JOURNAL_REAP : DOOR_EXTENTS_REAP);
    while (sim_draw(3) == 0);
    bool was = process_turn(false);
    uint32_t which = (uint32_t)sim_draw(direct->pending_count);
    struct rml_disk_write write = direct->pending[which];
    direct->pending[which] = direct->pending[--direct->pending_count];
    if (is_journal)
        TRY(journal_write_faults, TAPE_EXTENTS, false);
    else
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
    bool is_journal = direct_of(of) == &disk.journal;
    do
        sim_door(is_journal ? DOOR_JOURNAL_FLUSH : DOOR_EXTENTS_FLUSH);
    while (sim_draw(3) == 0);
    bool was = process_turn(false);
    if (is_journal)
        TRY(journal_flush_faults, TAPE_EXTENTS, true);
    else
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

/* Stands before the real one: the journal is on this disk, too, and small. */
int __real_rml_journal_open(struct rml_journal **ret_journal, const char *folder,
                            const struct rml_journal_options *options, struct rml_err *err);
int __wrap_rml_journal_open(struct rml_journal **ret_journal, const char *folder,
                            const struct rml_journal_options *options, struct rml_err *err);

int __wrap_rml_journal_open(struct rml_journal **ret_journal, const char *folder,
                            const struct rml_journal_options *options, struct rml_err *err)
{
    struct rml_journal_options ours = *options;
    ours.ways = disk_ways;
    ours.segment_bytes = RML_DISK_WRITE_BYTES;
    ours.first_bytes = 2 * (uint64_t)RML_DISK_WRITE_BYTES;
    ours.max_bytes = disk.journal_segments * (uint64_t)RML_DISK_WRITE_BYTES;
    ours.broken_rules = sim.wrong == SIM_flushes_no_journal   ? RML_JOURNAL_ACKNOWLEDGES_EARLY
                        : sim.wrong == SIM_uses_journal_again ? RML_JOURNAL_USES_AGAIN_EARLY
                                                              : 0;
    return __real_rml_journal_open(ret_journal, folder, &ours, err);
}

/* The catalog, and files of rows */

enum sort { OTHER, CATALOG, ROWS };

static enum sort sort_of(int fd, int *ret_file)
{
    const char *name = name_of(fd);
    if (strncmp(name, "catalog.mdb", 11) == 0)
        return CATALOG;
    for (*ret_file = 0; *ret_file < FILES; ++*ret_file) {
        if (strcmp(name, row_files[*ret_file]) == 0)
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

void disk_begin(const char *folder, bool power, uint32_t journal_segments)
{
    memset(&disk, 0, sizeof disk);
    snprintf(disk.folder, sizeof disk.folder, "%s", folder);
    snprintf(disk.state, sizeof disk.state, "%s/state", folder);
    disk.power = power;
    disk.journal_segments = journal_segments;
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

static void land(struct direct *direct)
{
    for (uint32_t i = 0; direct->of != NULL && i < direct->pending_count; i++) {
        struct rml_disk_done done;
        if (!sim_strikes(SIM_late_write_lands))
            continue;
        if (sim_strikes(SIM_late_write_is_torn))
            direct->pending[i].bytes = direct->pending[i].bytes / 2 / 512 * 512 + 512;
        RML_CHECK(tape_pwrite.submit(direct->of, &direct->pending[i]) == 0);
        RML_CHECK(tape_pwrite.reap(direct->of, &done) == 0);
    }
    *direct = (struct direct){.of = NULL};
}

void disk_engine_dies(void)
{
    tape_disarm();
    disk.was_inside = false;
    land(&disk.extents);
    land(&disk.journal);
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
