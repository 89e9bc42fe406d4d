/*
 * schema_c - a record's layout as the text of a C header.
 *
 * What is written compiles alone as C11 and as C++11, and refuses to compile where a compiler places
 * a member elsewhere than the engine reads it.
 */
#ifndef RML_RECORD_SCHEMA_C_H
#define RML_RECORD_SCHEMA_C_H

#include <stdio.h>

#include "runtime/record/schema.h"

/* What stands before the first struct of a header, inside its guard: includes and one macro. */
void rml_schema_print_c_start(FILE *out);

/*
 * Write `struct <name><suffix>`, its checks, and its hash as `<NAME><SUFFIX>_SCHEMA_HASH`. A row
 * with null bits has them as its first member, `null_mask`. A member or struct whose name is a word
 * of C++, or one of our own members', gets a _ behind it. Errors of `out` are left in it for ferror().
 */
void rml_schema_print_c(FILE *out, const struct rml_schema *schema, const char *suffix);

#endif
