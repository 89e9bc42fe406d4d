#include "runtime/plan/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Where a new error belongs: behind all that start before it or at the same byte.
static uint32_t report_position(const struct rml_report *report, uint32_t offset)
{
    uint32_t position = report->count;
    while (position > 0 && report->list[position - 1].place.offset > offset)
        position--;
    return position;
}

void rml_report_add(struct rml_report *report, struct rml_place place, const char *hint,
                    const char *format, ...)
{
    uint32_t position = report_position(report, place.offset);
    if (report->count == RML_PLAN_ERRORS_MAX) {
        report->more++;
        if (position == RML_PLAN_ERRORS_MAX)
            return;
        report->count--;
    }
    struct rml_report_entry *entry = &report->list[position];
    memmove(entry + 1, entry, (report->count - position) * sizeof *entry);
    report->count++;

    *entry = (struct rml_report_entry){.place = place};
    va_list args;
    va_start(args, format);
    vsnprintf(entry->text, sizeof entry->text, format, args);
    va_end(args);
    snprintf(entry->hint, sizeof entry->hint, "%s", hint != NULL ? hint : "");
}

static bool utf8_continues(char byte)
{
    return ((unsigned char)byte & 0xc0u) == 0x80u;
}

static uint32_t characters(const char *text, size_t length)
{
    uint32_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += !utf8_continues(text[i]);
    return count;
}

// How much of the stretch lies on the line that it starts on.
static size_t length_on_line(const char *source, size_t source_length, struct rml_place place)
{
    size_t length = 0;
    while (length < place.length && place.offset + length < source_length
           && source[place.offset + length] != '\n' && source[place.offset + length] != '\r')
        length++;
    return length;
}

int rml_report_finish(const struct rml_report *report, const char *source, size_t source_length,
                      struct rml_plan_errors *errors)
{
    struct rml_plan_error *list = calloc(report->count, sizeof *list);
    char *copy = malloc(source_length + 1);
    if (list == NULL || copy == NULL) {
        free(list);
        free(copy);
        return -ENOMEM;
    }
    memcpy(copy, source, source_length);
    copy[source_length] = '\0';

    uint32_t line = 1;
    size_t line_start = 0, seen = 0;
    for (uint32_t i = 0; i < report->count; i++) {
        const struct rml_report_entry *entry = &report->list[i];
        for (; seen < entry->place.offset && seen < source_length; seen++) {
            if (source[seen] == '\n') {
                line++;
                line_start = seen + 1;
            }
        }
        size_t length = length_on_line(source, source_length, entry->place);
        uint32_t shown = characters(source + seen, length);
        list[i].line = line;
        list[i].column = 1 + characters(source + line_start, seen - line_start);
        list[i].length = shown > 0 ? shown : 1;
        memcpy(list[i].text, entry->text, sizeof list[i].text);
        memcpy(list[i].hint, entry->hint, sizeof list[i].hint);
    }
    *errors = (struct rml_plan_errors){.count = report->count,
                                       .more = report->more,
                                       .list = list,
                                       .source = copy,
                                       .source_length = source_length};
    return 0;
}

struct rml_place rml_report_place(const char *source, size_t source_length, uint32_t line,
                                  uint32_t column)
{
    size_t at = 0;
    for (uint32_t l = 1; l < line && at < source_length; l++) {
        const char *end = memchr(source + at, '\n', source_length - at);
        at = end != NULL ? (size_t)(end - source) + 1 : source_length;
    }
    uint32_t c = 1;
    while (c < column && at < source_length && source[at] != '\n') {
        at++;
        c += at == source_length || !utf8_continues(source[at]);
    }
    return (struct rml_place){.offset = (uint32_t)at, .length = 1};
}
