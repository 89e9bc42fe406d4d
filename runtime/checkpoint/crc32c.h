/*
 * crc32c - Castagnoli's check sum, which finds what happened to bytes on a disk (RFC 3720, B.4).
 */
#ifndef RML_CHECKPOINT_CRC32C_H
#define RML_CHECKPOINT_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of what `crc` was of (0: of nothing), followed by `bytes`. By an instruction where there is one. */
uint32_t rml_crc32c(uint32_t crc, const void *bytes, size_t count);

/* The same by a table, on any processor. */
uint32_t rml_crc32c_table(uint32_t crc, const void *bytes, size_t count);

#endif
