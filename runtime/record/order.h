/*
 * order - values as bytes that are in order where the values are.
 *
 * Numbers have their highest byte first, and their sign turned; strings end with a NUL, behind which the
 * next field begins. So memcmp of two lists of values, encoded one behind the other, says what comparing
 * value by value says, and no list is the beginning of another one of the same fields.
 */
#ifndef RML_RECORD_ORDER_H
#define RML_RECORD_ORDER_H

#include "runtime/record/schema.h"

/* The most bytes that a value of the type takes, floats apart: they are in no key. */
uint32_t rml_order_bytes_max(enum rml_type type);

/* Encode the field of `record`, which is no float, behind `to`; returns how many bytes it took. */
uint32_t rml_order_put(const struct rml_field *field, const void *record, unsigned char *to);

/* Read such a value into `record`; returns how many of the `bytes` at `from` it took, 0: it is cut, or
 * none that rml_order_put makes. */
uint32_t rml_order_take(const struct rml_field *field, const unsigned char *from, uint32_t bytes,
                        void *record);

/* The same of a time alone: eight bytes. */
void rml_order_put_time(int64_t time, unsigned char to[8]);
int64_t rml_order_take_time(const unsigned char from[8]);

#endif
