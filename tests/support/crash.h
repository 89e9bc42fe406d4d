/*
 * crash - what a disk may hold after a loss of power, drawn from a tape.
 *
 * What was flushed is there. Of what was not, each sector of 512 bytes holds any version from the flushed
 * one to the last one written, whatever its neighbours hold; a flush covers the writes that were done
 * when it began, and after a failed flush no later one covers what it was to cover. A write through to
 * the disk (O_DSYNC) covers itself. Names of files are as uncertain until their folder is flushed.
 */
#ifndef RML_TESTS_CRASH_H
#define RML_TESTS_CRASH_H

#include <stddef.h>
#include <stdint.h>

#include "tests/support/tape.h"

struct crash;

/* Before the tape's first event. The tape must outlive it. */
struct crash *crash_open(const struct tape *tape);
void crash_close(struct crash *crash);

/* Take one more event; the power goes between two of them. */
void crash_step(struct crash *crash);

/* Draw what may be left, and write it into an empty folder. */
void crash_draw(const struct crash *crash, const char *folder, uint64_t *seed);

#endif
