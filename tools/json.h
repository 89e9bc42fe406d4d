/*
 * json - output of the look-commands as one JSON value, written as it is made.
 *
 * The writer keeps track of commas; who calls it keeps track of what is open.
 */
#ifndef RML_TOOLS_JSON_H
#define RML_TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct rml_json {
    FILE *out;
    bool comma;  // the next value is not the first of its container
};

/* A value inside an object has a key; inside a list, or alone, the key is NULL. */
void rml_json_open(struct rml_json *json, const char *key, char bracket);      // '{' or '['
void rml_json_close(struct rml_json *json, char bracket);                      // '}' or ']'
void rml_json_text(struct rml_json *json, const char *key, const char *text);  // NULL: null
void rml_json_integer(struct rml_json *json, const char *key, int64_t value);
void rml_json_unsigned(struct rml_json *json, const char *key, uint64_t value);
void rml_json_real(struct rml_json *json, const char *key,
                   double value);  // three decimals, or null
void rml_json_bool(struct rml_json *json, const char *key, bool value);

#endif
