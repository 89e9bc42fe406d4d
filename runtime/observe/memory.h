/*
 * memory - what the allocator of this program says of itself.
 *
 * jemalloc where the program is linked with it, as ours are outside of sanitizers; else glibc's
 * malloc. State, lanes and result rings are mappings of their own and no part of this.
 */
#ifndef RML_OBSERVE_MEMORY_H
#define RML_OBSERVE_MEMORY_H

#include <stdint.h>

struct rml_memory {
    const char *allocator;  // "jemalloc" | "malloc"
    uint64_t allocated;     // bytes that the program holds
    uint64_t resident;      // bytes of physical memory that the allocator holds for that
};

/* As of now. Takes the allocator's locks: for the control thread. */
void rml_memory_look(struct rml_memory *ret_memory);

#endif
