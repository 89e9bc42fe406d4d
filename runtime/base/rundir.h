/*
 * rundir - where running pipelines are found.
 *
 * One folder holds a folder for each pipeline that runs, and in that lies its socket.
 */
#ifndef RML_BASE_RUNDIR_H
#define RML_BASE_RUNDIR_H

#include <stddef.h>

/*
 * Write the path of the run directory: $RINGMILL_RUNDIR, else /run/ringmill for root, else
 * $XDG_RUNTIME_DIR/ringmill, else /tmp/ringmill-<uid>. Returns its length, or -ENAMETOOLONG. Nothing
 * is created. Reads the environment: not while another thread changes it.
 */
int rml_rundir(char *path, size_t bytes);

/* The same for a file of one pipeline: <rundir>/<pipeline>/<file>. */
int rml_rundir_file(char *path, size_t bytes, const char *pipeline, const char *file);

#endif
