/*
 * large - memory that disks read into and write from, in pages as large as the kernel has.
 *
 * A read past the page cache goes to the disk as a list of pieces that lie side by side in the machine's
 * memory. Over pages of 4 KiB a megabyte is 256 of them, over one of 2 MiB it is one, and a virtual disk
 * then reads nearly twice as much in a second.
 */
#ifndef RML_CHECKPOINT_LARGE_H
#define RML_CHECKPOINT_LARGE_H

#include <stddef.h>

/* Zeros, aligned to 4096; what is in it is left out of a core. NULL: there is no such memory. Less than
 * 2 MiB is small pages, and so is all of it where the kernel has no large ones. */
void *rml_large_open(size_t bytes);

/* As many as were opened. Accepts NULL. */
void rml_large_close(void *memory, size_t bytes);

#endif
