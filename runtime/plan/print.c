#include "runtime/plan/print.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/err.h"

#define SHOWN_MAX 96  // columns of a source line; longer ones are cut around the caret
#define TAB_WIDTH 4

struct colours {
    const char *bold, *red, *green, *plain;
};

static const struct colours colours_on = {"\x1b[1m", "\x1b[1;31m", "\x1b[32m", "\x1b[0m"};
static const struct colours colours_off = {"", "", "", ""};

static bool continues(char byte)
{
    return ((unsigned char)byte & 0xc0u) == 0x80u;
}

// The line of that number, without its end.
static const char *find_line(const struct rml_plan_errors *errors, uint32_t line,
                             size_t *ret_length)
{
    const char *at = errors->source, *end = errors->source + errors->source_length;
    for (uint32_t l = 1; l < line && at < end; l++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline != NULL ? newline + 1 : end;
    }
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    size_t length = (size_t)((newline != NULL ? newline : end) - at);
    if (length > 0 && at[length - 1] == '\r')
        length--;
    *ret_length = length;
    return at;
}

/* A stretch of a line that is shown, in characters from its start. */
struct view {
    uint32_t from, to;
    bool cut_left, cut_right;
};

static struct view choose_view(uint32_t characters, uint32_t column)
{
    struct view view = {.from = 0, .to = characters};
    if (characters > SHOWN_MAX) {
        view.from = column > SHOWN_MAX / 2 ? column - SHOWN_MAX / 2 : 0;
        if (view.from > characters - SHOWN_MAX)
            view.from = characters - SHOWN_MAX;
        view.to = view.from + SHOWN_MAX;
        view.cut_left = view.from > 0;
        view.cut_right = view.to < characters;
    }
    return view;
}

static void repeat(FILE *out, char c, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        fputc(c, out);
}

static void print_line(const struct rml_plan_error *error, const char *line, size_t length,
                       const struct colours *colours, FILE *out)
{
    uint32_t characters = 0;
    for (size_t i = 0; i < length; i++)
        characters += !continues(line[i]);
    struct view view = choose_view(characters, error->column);

    fprintf(out, "%5u | %s", error->line, view.cut_left ? "..." : "");
    uint32_t index = 0;                       // of the character, from 0
    uint32_t before = view.cut_left ? 3 : 0;  // columns before the caret
    uint32_t under = 0;                       // columns under which it stands
    for (size_t i = 0; i < length; index++) {
        size_t bytes = 1;
        while (i + bytes < length && continues(line[i + bytes]))
            bytes++;
        uint32_t width = line[i] == '\t' ? TAB_WIDTH : 1;
        if (index >= view.from && index < view.to) {
            if (line[i] == '\t')
                repeat(out, ' ', width);
            else
                fwrite(line + i, 1, bytes, out);
            if (index + 1 < error->column)
                before += width;
            else if (index + 1 < error->column + error->length)
                under += width;
        }
        i += bytes;
    }
    fprintf(out, "%s\n      | ", view.cut_right ? "..." : "");
    repeat(out, ' ', before);
    fprintf(out, "%s^", colours->green);
    repeat(out, '~', under > 1 ? under - 1 : 0);
    fprintf(out, "%s\n", colours->plain);
}

void rml_plan_errors_print(const struct rml_plan_errors *errors, const char *path, bool colour,
                           FILE *out)
{
    const struct colours *colours = colour ? &colours_on : &colours_off;
    for (uint32_t i = 0; i < errors->count; i++) {
        const struct rml_plan_error *error = &errors->list[i];
        fprintf(out, "%s%s:%u:%u: %serror:%s %s\n", colours->bold, path, error->line, error->column,
                colours->red, colours->plain, error->text);
        size_t length;
        const char *line = find_line(errors, error->line, &length);
        print_line(error, line, length, colours, out);
        if (error->hint[0] != '\0')
            fprintf(out, "      = %s\n", error->hint);
    }
    if (errors->more > 0)
        fprintf(out, "%s: and %u more errors\n", path, errors->more);
}

void rml_plan_failure_print(const struct rml_plan_errors *errors, const char *path,
                            const struct rml_err *err, FILE *out)
{
    if (errors->count == 0) {
        fprintf(out, "ringmill: %s\n", err->text);
        return;
    }
    const char *no_colour = getenv("NO_COLOR");
    bool colour = isatty(fileno(out)) && (no_colour == NULL || no_colour[0] == '\0');
    rml_plan_errors_print(errors, path, colour, out);
}
