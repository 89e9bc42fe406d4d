/*
 * units - whole numbers and sizes as a pipeline file writes them.
 */
#ifndef RML_PLAN_UNITS_H
#define RML_PLAN_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* A decimal integer with an optional sign. -EINVAL: it is none; -ERANGE: beyond int64. */
int rml_integer_parse(const char *text, size_t length, int64_t *ret_value);

/*
 * Bytes: an integer and B, kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (of 1024). -EINVAL
 * without a unit or with another; -ERANGE beyond int64.
 */
int rml_size_parse(const char *text, size_t length, int64_t *ret_bytes);

/* A number of records: "100 records", "1 record". -EINVAL: it is none; -ERANGE beyond int64. */
int rml_records_parse(const char *text, size_t length, int64_t *ret_records);

/* The size in the largest binary unit that divides it: "4GiB", "1000B". */
void rml_size_print(uint64_t bytes, char text[32]);

/* About that many bytes, for people: "1.9 MiB". */
void rml_size_print_about(uint64_t bytes, char text[32]);

/* The greatest common divisor, never negative; of 0 and n it is n. */
int64_t rml_units_gcd(int64_t a, int64_t b);

#endif
