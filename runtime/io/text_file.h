/*
 * text_file - a file that grows at its end, written through a buffer.
 *
 * The first error of a flush stays: it is said once, and everything after it is lost and counted. Who can
 * wait tries instead: what arrived of a write that failed is cut off, and the rows stay in the buffer until a
 * disk that was full has room. Pipes and the like cannot be cut, so nothing is written to them twice.
 */
#ifndef RML_IO_TEXT_FILE_H
#define RML_IO_TEXT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rml_err;

struct rml_text_file {
    int fd;           // -1: not open
    char *folder;     // that it lies in, until its name has been flushed there; NULL: it has
    bool is_ours;     // standard output is not
    bool is_regular;  // it can be cut
    char *buffer;
    size_t used, room;
    uint32_t rows_held;  // rows in the buffer, for counting what an error loses
    uint64_t bytes;      // written to the file
    bool is_torn;        // and behind them lies a part of a write that failed
    int error;           // the negative errno that ended it; 0
    uint64_t missing;    // bytes that it should have had when it was gone on with, and has not
};

#define RML_TEXT_FILE_CLOSED ((struct rml_text_file){.fd = -1})

/*
 * Create the file at `path`, empty even when there was one before ("-": standard output), with a
 * buffer that holds at least `row_bytes_max` bytes. 0, or a negative errno with a sentence; -EBUSY: it is
 * written to by somebody who holds a lock (flock) on it, as we do from then on; -ENXIO: a pipe without a reader.
 */
int rml_text_file_open(struct rml_text_file *file, const char *path, size_t row_bytes_max,
                       struct rml_err *err);

/* Go on with a file of which a writer that died had written `bytes`: what comes behind is of a write
 * that it died in. One that somebody made shorter meanwhile, or took away, is gone on with behind its last whole
 * line, and `missing` says how much is not there. */
int rml_text_file_resume(struct rml_text_file *file, const char *path, size_t row_bytes_max,
                         uint64_t bytes, struct rml_err *err);

/* `bytes` (at most row_bytes_max) of free buffer; fill, then commit what was filled as `rows` rows. */
char *rml_text_file_room(struct rml_text_file *file, size_t bytes);
void rml_text_file_commit(struct rml_text_file *file, size_t bytes, uint32_t rows);

/*
 * Write what is in the buffer, or nothing of it. 0, or a negative errno after which it can be tried again: of
 * a regular file only, and not where an error has stayed.
 */
int rml_text_file_try(struct rml_text_file *file);

/* Write what is in the buffer. Returns how many rows were lost because the file has failed. */
uint32_t rml_text_file_flush(struct rml_text_file *file);

/* Have what was written outlast a loss of power, and the file's name, which may be new. A failure stays in
 * `error`. */
void rml_text_file_sync(struct rml_text_file *file);

/* Flush and close; returns the rows lost. Accepts a file that is closed or half opened. */
uint32_t rml_text_file_close(struct rml_text_file *file);

#endif
