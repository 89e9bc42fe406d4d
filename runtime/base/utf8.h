/*
 * utf8 - is this text, character by character?
 */
#ifndef RML_BASE_UTF8_H
#define RML_BASE_UTF8_H

#include <stddef.h>

/*
 * Bytes of the UTF-8 character at `at`, of which `left` (at least 1) may be read; 0: there is none,
 * or not a whole one. Well-formed as in table 3-7 of the Unicode standard.
 */
size_t rml_utf8_length(const unsigned char *at, size_t left);

#endif
