#include "tools/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "runtime/base/utf8.h"

// Names come from files and from peers: a byte that is not UTF-8 becomes U+FFFD.
static void quoted(FILE *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t left = strlen(text), length;
    fputc('"', out);
    for (; left > 0; at += length, left -= length) {
        length = rml_utf8_length(at, left);
        if (length == 0) {
            fputs("\xef\xbf\xbd", out);
            length = 1;
        } else if (*at == '"' || *at == '\\') {
            fprintf(out, "\\%c", *at);
        } else if (*at < 0x20 || *at == 0x7f) {
            fprintf(out, "\\u%04x", *at);
        } else {
            fwrite(at, 1, length, out);
        }
    }
    fputc('"', out);
}

static void start(struct rml_json *json, const char *key)
{
    if (json->comma)
        fputc(',', json->out);
    json->comma = true;
    if (key != NULL) {
        quoted(json->out, key);
        fputc(':', json->out);
    }
}

void rml_json_open(struct rml_json *json, const char *key, char bracket)
{
    start(json, key);
    fputc(bracket, json->out);
    json->comma = false;
}

void rml_json_close(struct rml_json *json, char bracket)
{
    fputc(bracket, json->out);
    json->comma = true;
}

void rml_json_text(struct rml_json *json, const char *key, const char *text)
{
    start(json, key);
    if (text == NULL)
        fputs("null", json->out);
    else
        quoted(json->out, text);
}

void rml_json_integer(struct rml_json *json, const char *key, int64_t value)
{
    start(json, key);
    fprintf(json->out, "%" PRId64, value);
}

void rml_json_unsigned(struct rml_json *json, const char *key, uint64_t value)
{
    start(json, key);
    fprintf(json->out, "%" PRIu64, value);
}

void rml_json_bool(struct rml_json *json, const char *key, bool value)
{
    start(json, key);
    fputs(value ? "true" : "false", json->out);
}

void rml_json_real(struct rml_json *json, const char *key, double value)
{
    start(json, key);
    if (isfinite(value))
        fprintf(json->out, "%.3f", value);
    else
        fputs("null", json->out);
}
