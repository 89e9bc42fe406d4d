/*
 * disk - the state folder and the files of rows, on a disk that is slow, fails, fills up and loses power.
 *
 * The vault, the journal and LMDB are the real ones, on a tape (tests/support/tape.h) where the power is to fail.
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>

struct rml_disk_way;

/* For struct rml_vault_options. */
extern const struct rml_disk_way *const disk_ways[];

/* From here on the files in `folder` (the state is in its `state`); with `power`, power can be lost. A journal
 * has so many segments at most. */
void disk_begin(const char *folder, bool power, uint32_t journal_segments);
void disk_end(void);

/* The engine was killed, and is not cleared away yet: what was under way lands, in part, or not. */
void disk_engine_dies(void);

/* And it is cleared away: of what was not flushed, something is left. */
void disk_power_fails(void);

/* Has something failed, of late? Forgets it. */
bool disk_has_failed(void);

#endif
