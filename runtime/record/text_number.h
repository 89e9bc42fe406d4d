/*
 * text_number - numbers as the shortest text that reads back as the same number.
 */
#ifndef RML_RECORD_TEXT_NUMBER_H
#define RML_RECORD_TEXT_NUMBER_H

#include <stdint.h>

#define RML_NUMBER_TEXT_MAX 32  // bytes of any number

/* Each writes at most RML_NUMBER_TEXT_MAX bytes to `text`, without a terminator; returns how many. */
uint32_t rml_print_u64(uint64_t value, char *text);
uint32_t rml_print_i64(int64_t value, char *text);

/* Of a finite number. As few digits as there are, with an exponent where %g would have one. */
uint32_t rml_print_f64(double value, char *text);
uint32_t rml_print_f32(float value, char *text);

#endif
