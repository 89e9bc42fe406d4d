/*
 * readers - who looks at a catalog in other processes, and how far behind they stand.
 *
 * A page of a state that somebody still reads is not used again, and no page that came free since is either: LMDB
 * frees by the order of commits. So one reader that stands still makes the file grow with every commit, and only
 * its end, or its going on to a newer state, ends that. LMDB's table of readers tells who it is.
 */
#ifndef RML_CHECKPOINT_READERS_H
#define RML_CHECKPOINT_READERS_H

#include <stdint.h>

#include <lmdb.h>

struct rml_readers {
    uint32_t count;   // that hold a state
    uint32_t pid;     // of the one that holds the oldest; 0: there is none
    uint64_t state;   // the number of the commit that made it
    uint64_t behind;  // how many came after that
};

/* Those of other processes. One thread at a time uses `env`. 0, or LMDB's error. */
int rml_readers_look(MDB_env *env, struct rml_readers *ret_readers);

#endif
