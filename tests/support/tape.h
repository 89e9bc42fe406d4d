/*
 * tape - what a state directory's files are asked to do, written down in order, with faults on demand.
 *
 * It stands at two doors. The extent file and the journal are reached through a struct rml_disk_way, so
 * tape_way wraps one; a test has one of each open at a time. LMDB calls libc itself; tape.c defines open,
 * pwrite, writev, fdatasync and their like, a program that is linked with it exports them, and liblmdb then
 * calls these. From the record tests/support/crash.h draws what a disk may hold after a loss of power.
 */
#ifndef RML_TESTS_TAPE_H
#define RML_TESTS_TAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/checkpoint/disk.h"

enum tape_kind {
    TAPE_WRITE,         // begun
    TAPE_WRITE_DONE,    // its result was taken: `of` is the event of its beginning
    TAPE_WRITE_SYNCED,  // and it alone has reached the disk (O_DSYNC)
    TAPE_FLUSH,         // begun: covers writes that were done by now
    TAPE_FLUSH_DONE,    // `of` is the event of its beginning
    TAPE_FLUSH_FAILED,
    TAPE_CREATE,
    TAPE_RENAME,
    TAPE_REMOVE,
    TAPE_FOLDER_SYNC,
    TAPE_MARK,  // of the test's own
};

struct tape_event {
    enum tape_kind kind;
    int file;
    uint32_t bytes;
    uint64_t offset;
    size_t of;
    unsigned char *data;
    char name[32], to[32];
    uint64_t mark;
};

struct tape {
    struct tape_event *events;
    size_t count, room;
    int files;
};

/* Record what happens to files in `folder`, whose present contents do not count; until tape_stop. */
void tape_start(const char *folder);
struct tape tape_stop(void);
void tape_free(struct tape *tape);
void tape_mark(uint64_t mark);

/* Ways for struct rml_disk_options, each a wrapped one. */
extern const struct rml_disk_way tape_io_uring, tape_pwrite, tape_buffered;
extern const struct rml_disk_way *const tape_ways[];

enum tape_where { TAPE_EXTENTS, TAPE_CATALOG };

enum tape_how {
    TAPE_NOT,       // an error, and nothing was done
    TAPE_NOT_SURE,  // an error, though it was done
    TAPE_SHORT,     // a write: the first half alone
    TAPE_UNSENT,  // a write to the extents: it is not even begun, and what becomes of it is not known
};

/* One fault: in the call after so many of its sort, and in `times` of them (0: one). */
struct tape_fault {
    enum tape_where where;
    bool is_flush;
    enum tape_how how;
    int error;  // positive
    uint32_t after, times;
};

void tape_arm(struct tape_fault fault);

/* How often it was met. */
uint32_t tape_fault_met(void);

/* Forget faults, and what the setup of rings or open should return. */
void tape_disarm(void);

/* Setups of a ring return these (negative) first, one after the other, before one is made. */
void tape_ring_setups(const int *results, uint32_t count);

/* How many setups were asked for since tape_ring_setups. */
uint32_t tape_ring_setups_met(void);

/* Does open refuse O_DIRECT? */
void tape_refuse_direct(bool refuse);

/* Calls of libc's that the tape stands in for. */
enum tape_call { TAPE_CALL_WRITE, TAPE_CALL_FLUSH, TAPE_CALL_CUT, TAPE_CALL_NAME };

/* Told of each before it is done, when faults may still be armed for it, and behind it; the names of files
 * have no descriptor (-1). NULL: nobody is. */
extern void (*tape_watcher)(enum tape_call call, int fd, bool is_done);

/* Go on with a folder whose files are as they are, and have been flushed: their contents begin the tape. */
void tape_start_with(const char *folder);

#endif
