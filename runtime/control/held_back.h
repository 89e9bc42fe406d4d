/*
 * held_back - whoever reads one state of the catalog for long is named, for the file grows with every checkpoint
 * meanwhile (runtime/checkpoint/readers.h).
 *
 * The control thread's, told after each checkpoint. That a reader is there says nothing; that the same one still
 * looks at the same state RML_HELD_BACK_NS after it was first seen there does.
 */
#ifndef RML_CONTROL_HELD_BACK_H
#define RML_CONTROL_HELD_BACK_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint/catalog.h"

#define RML_HELD_BACK_NS       (INT64_C(5) * 1000000000)
#define RML_HELD_BACK_AGAIN_NS (INT64_C(60) * 1000000000)  // until it is said once more
#define RML_HELD_BACK_SENTENCE 400u

/* All zero is a good beginning. */
struct rml_held_back {
    uint32_t pid;  // of the oldest reader; 0: there was none that is behind
    bool is_long;
    uint64_t state;             // that it looks at
    int64_t since_ns, said_ns;  // by the monotonic clock
    int64_t since_wall_ns;      // since_ns for people
    uint64_t times;             // that one became one for long
};

/*
 * How it was after a checkpoint. Returns whether there is something to say, in `ret_sentence`: that somebody holds
 * pages back, still does, or does no more.
 */
bool rml_held_back_see(struct rml_held_back *held, const struct rml_catalog_use *use,
                       int64_t now_ns, int64_t wall_ns, char ret_sentence[RML_HELD_BACK_SENTENCE]);

/* The name of a process, as the kernel has it; "?" where it does not tell. */
void rml_held_back_program(uint32_t pid, char ret_name[16]);

#endif
