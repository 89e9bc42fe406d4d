#include "tools/json.h"

#include <inttypes.h>

static void quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c == '\t')
            fputs("\\t", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
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
