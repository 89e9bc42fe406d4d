/*
 * int128 - the 128-bit integers that gcc and clang have and ISO C has not.
 */
#ifndef RML_BASE_INT128_H
#define RML_BASE_INT128_H

__extension__ typedef __int128 rml_int128;

#endif
