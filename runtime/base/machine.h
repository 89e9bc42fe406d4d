/*
 * machine - what there is of the machine that a program runs on.
 */
#ifndef RML_BASE_MACHINE_H
#define RML_BASE_MACHINE_H

#include <stdint.h>

/* Bytes of memory, whoever uses them. */
uint64_t rml_machine_memory(void);

#endif
