#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/time/clock.h"
#include "tools/about.h"
#include "tools/ctl.h"
#include "tools/stat.h"

/* A column for each thing, under its kind. */

#define HEAD_EVERY   20  // lines
#define COLUMN_LEAST 9   // wide enough for a hundred million a second

enum { KIND_SOURCE, KIND_STAGE, KIND_SINK, KIND_BUSY, KIND_SLEEPS, KIND_JOURNAL, KINDS };

static const char *const kind_titles[KINDS] = {"records/s", "out/s",    "written/s",
                                               "busy %",    "sleeps/s", "journal/s"};

static const struct {
    const char *name;
    enum rml_journal_counter counter;
} journal_columns[] = {{"records", RML_JOURNAL_records}, {"flushes", RML_JOURNAL_flushes}};

static uint32_t kind_count(const struct rml_board *board, int kind)
{
    bool has_journal = rml_count_read(&board->live->journal.value[RML_JOURNAL_max_bytes]) > 0;
    const uint32_t counts[KINDS] = {board->head->sources, board->head->stages,
                                    board->head->sinks,   board->head->workers,
                                    board->head->workers, has_journal ? 2 : 0};
    return counts[kind];
}

static void column_name(const struct rml_board *board, int kind, uint32_t i,
                        char text[RML_BOARD_NAME])
{
    if (kind == KIND_JOURNAL) {
        snprintf(text, RML_BOARD_NAME, "%s", journal_columns[i].name);
    } else if (kind == KIND_BUSY || kind == KIND_SLEEPS) {
        snprintf(text, RML_BOARD_NAME, "%" PRIu32, i);
    } else {
        snprintf(text, RML_BOARD_NAME, "%s",
                 kind == KIND_SOURCE  ? board->sources[i].name
                 : kind == KIND_STAGE ? board->stages[i].name
                                      : board->sinks[i].name);
    }
}

static int column_width(const struct rml_board *board, int kind, uint32_t i)
{
    char name[RML_BOARD_NAME];
    column_name(board, kind, i, name);
    int width = (int)strlen(name);
    return width < COLUMN_LEAST ? COLUMN_LEAST : width;
}

// What stands in a column, as a number to be printed.
static double column_value(const struct rml_stat *stat, int kind, uint32_t i)
{
    switch (kind) {
    case KIND_SOURCE:
        return rml_stat_source(stat, i);
    case KIND_STAGE:
        return rml_stat_stage(stat, i);
    case KIND_SINK:
        return rml_stat_sink(stat, i);
    case KIND_BUSY:
        return 100 * rml_stat_busy(stat, i);
    case KIND_JOURNAL:
        return rml_stat_journal(stat, journal_columns[i].counter);
    default:
        return rml_stat_sleeps(stat, i);
    }
}

// The kind's title, in the middle of dashes over its columns.
static void print_title(const struct rml_board *board, int kind)
{
    int width = -1;
    for (uint32_t i = 0; i < kind_count(board, kind); i++)
        width += 1 + column_width(board, kind, i);
    int title = (int)strlen(kind_titles[kind]), dashes = width - title;
    printf(" ");
    for (int i = 0; i < dashes / 2; i++)
        printf("-");
    printf("%s", kind_titles[kind]);
    for (int i = dashes / 2; i < dashes; i++)
        printf("-");
}

static void print_head(const struct rml_board *board)
{
    printf("%8s", "");
    for (int kind = 0; kind < KINDS; kind++) {
        if (kind_count(board, kind) > 0)
            print_title(board, kind);
    }
    printf("\n%8s", "UTC");
    for (int kind = 0; kind < KINDS; kind++) {
        for (uint32_t i = 0; i < kind_count(board, kind); i++) {
            char name[RML_BOARD_NAME];
            column_name(board, kind, i, name);
            printf(" %*s", column_width(board, kind, i), name);
        }
    }
    printf("\n");
}

void rml_stat_text(const struct rml_stat *stat)
{
    const struct rml_board *board = stat->board;
    if (stat->number % HEAD_EVERY == 0)
        print_head(board);
    char time[40];
    rml_ctl_second(rml_clock_system.wall_ns(rml_clock_system.context), time);
    printf("%.8s", strchr(time, 'T') + 1);
    for (int kind = 0; kind < KINDS; kind++) {
        for (uint32_t i = 0; i < kind_count(board, kind); i++) {
            char value[32] = "-";
            if (kind != KIND_SINK || rml_stat_is_file(stat, i))
                rml_about_rate(column_value(stat, kind, i), value);
            printf(" %*s", column_width(board, kind, i), value);
        }
    }
    printf("\n");
}
