#include "tests/support/crash.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "tests/support/random.h"

#define SECTOR    512u
#define FILES_MAX 16
#define NAMES_MAX 64
#define NOT_YET   SIZE_MAX

/* A part of a write that lies in one sector. */
struct piece {
    size_t event;
    uint64_t offset;
    uint32_t bytes;
    bool is_done;
    size_t covered_by;  // the flush that was begun after it was done; NOT_YET
    bool is_lost;       // to a failed flush
};

struct bytes {
    unsigned char *at;
    size_t used, room;
};

struct file {
    struct bytes flushed;
    struct piece *pieces;
    size_t count, room;
};

struct name {
    char text[32];
    int file;
};

struct crash {
    const struct tape *tape;
    size_t at;
    struct file files[FILES_MAX];
    struct name flushed[NAMES_MAX];
    int flushed_count;
    size_t names[NAMES_MAX];  // events that are not flushed
    int name_count;
};

struct crash *crash_open(const struct tape *tape)
{
    struct crash *crash = calloc(1, sizeof *crash);
    RML_CHECK(crash != NULL && tape->files <= FILES_MAX);
    crash->tape = tape;
    return crash;
}

void crash_close(struct crash *crash)
{
    for (int i = 0; i < FILES_MAX; i++) {
        free(crash->files[i].flushed.at);
        free(crash->files[i].pieces);
    }
    free(crash);
}

static void put(struct bytes *to, uint64_t offset, const unsigned char *from, uint32_t count)
{
    if (offset + count > to->room) {
        size_t room = 2 * (offset + count);
        to->at = realloc(to->at, room);
        RML_CHECK(to->at != NULL);
        memset(to->at + to->room, 0, room - to->room);
        to->room = room;
    }
    memcpy(to->at + offset, from, count);
    if (offset + count > to->used)
        to->used = offset + count;
}

static void put_piece(struct bytes *to, const struct tape *tape, const struct piece *piece)
{
    const struct tape_event *write = &tape->events[piece->event];
    put(to, piece->offset, write->data + (piece->offset - write->offset), piece->bytes);
}

static void begin_write(struct crash *crash, size_t event)
{
    const struct tape_event *write = &crash->tape->events[event];
    struct file *file = &crash->files[write->file];
    uint64_t end = write->offset + write->bytes;
    for (uint64_t at = write->offset; at < end;) {
        uint64_t next = (at / SECTOR + 1) * SECTOR;
        if (next > end)
            next = end;
        if (file->count == file->room) {
            file->room = 2 * file->room + 64;
            file->pieces = realloc(file->pieces, file->room * sizeof *file->pieces);
            RML_CHECK(file->pieces != NULL);
        }
        file->pieces[file->count++] = (struct piece){
            .event = event, .offset = at, .bytes = (uint32_t)(next - at), .covered_by = NOT_YET};
        at = next;
    }
}

// The pieces that `is_theirs` of reach the disk, and older ones of their sectors are overwritten.
static void flush_pieces(struct crash *crash, struct file *file,
                         bool (*is_theirs)(const struct piece *piece, size_t of), size_t of)
{
    size_t left = 0;
    for (size_t i = 0; i < file->count; i++)
        if (is_theirs(&file->pieces[i], of)) {
            put_piece(&file->flushed, crash->tape, &file->pieces[i]);
            uint64_t sector = file->pieces[i].offset / SECTOR;
            size_t kept = 0;
            // older versions of a sector are rare, but for lost ones and meta pages
            for (size_t j = 0; j < left; j++)
                if (file->pieces[j].offset / SECTOR != sector)
                    file->pieces[kept++] = file->pieces[j];
            left = kept;
        } else {
            file->pieces[left++] = file->pieces[i];
        }
    file->count = left;
}

static bool is_covered(const struct piece *piece, size_t of)
{
    return piece->covered_by == of;
}

static bool is_of_write(const struct piece *piece, size_t of)
{
    return piece->event == of;
}

static void end_write(struct file *file, size_t of)
{
    for (size_t i = 0; i < file->count; i++)
        if (file->pieces[i].event == of)
            file->pieces[i].is_done = true;
}

static void begin_flush(struct file *file, size_t event)
{
    for (size_t i = 0; i < file->count; i++)
        if (file->pieces[i].is_done && !file->pieces[i].is_lost)
            file->pieces[i].covered_by = event;
}

static void fail_flush(struct file *file, size_t of)
{
    for (size_t i = 0; i < file->count; i++)
        if (file->pieces[i].covered_by == of) {
            file->pieces[i].is_lost = true;
            file->pieces[i].covered_by = NOT_YET;
        }
}

static void set_name(struct name *names, int *count, const char *text, int file)
{
    for (int i = 0; i < *count; i++)
        if (strcmp(names[i].text, text) == 0) {
            names[i].file = file;
            return;
        }
    RML_CHECK(*count < NAMES_MAX);
    snprintf(names[*count].text, sizeof names[0].text, "%s", text);
    names[(*count)++].file = file;
}

static void apply_name(struct name *names, int *count, const struct tape_event *event)
{
    if (event->kind == TAPE_CREATE)
        set_name(names, count, event->name, event->file);
    else
        set_name(names, count, event->name, -1);
    if (event->kind == TAPE_RENAME)
        set_name(names, count, event->to, event->file);
}

void crash_step(struct crash *crash)
{
    RML_CHECK(crash->at < crash->tape->count);
    size_t index = crash->at++;
    const struct tape_event *event = &crash->tape->events[index];
    struct file *file = event->file >= 0 ? &crash->files[event->file] : NULL;
    switch (event->kind) {
    case TAPE_WRITE:
        begin_write(crash, index);
        break;
    case TAPE_WRITE_DONE:
        end_write(file, event->of);
        break;
    case TAPE_WRITE_SYNCED:
        flush_pieces(crash, file, is_of_write, event->of);
        break;
    case TAPE_FLUSH:
        begin_flush(file, index);
        break;
    case TAPE_FLUSH_DONE:
        flush_pieces(crash, file, is_covered, event->of);
        break;
    case TAPE_FLUSH_FAILED:
        fail_flush(file, event->of);
        break;
    case TAPE_CREATE:
    case TAPE_RENAME:
    case TAPE_REMOVE:
        RML_CHECK(crash->name_count < NAMES_MAX);
        crash->names[crash->name_count++] = index;
        break;
    case TAPE_FOLDER_SYNC:
        for (int i = 0; i < crash->name_count; i++)
            apply_name(crash->flushed, &crash->flushed_count,
                       &crash->tape->events[crash->names[i]]);
        crash->name_count = 0;
        break;
    case TAPE_MARK:
        break;
    }
}

// A chance out of 256, drawn once for many decisions: all, none, most, few.
static uint64_t draw_chance(uint64_t *seed)
{
    static const uint64_t chances[] = {0, 256, 128, 8, 248};
    return chances[rml_test_random(seed) % (sizeof chances / sizeof chances[0])];
}

static void draw_file(const struct crash *crash, const struct file *file, struct bytes *to,
                      uint64_t *seed)
{
    if (file->flushed.used > 0)
        put(to, 0, file->flushed.at, (uint32_t)file->flushed.used);
    bool by_write = rml_test_random(seed) % 4 == 0;  // whole writes, or each sector by itself
    uint64_t chance = draw_chance(seed);
    size_t last_event = SIZE_MAX;
    bool is_there = false;
    for (size_t i = 0; i < file->count; i++) {
        const struct piece *piece = &file->pieces[i];
        if (!by_write || piece->event != last_event)
            is_there = rml_test_random(seed) % 256 < chance;
        last_event = piece->event;
        if (!is_there)
            continue;
        // What reaches a sector is all that was written to it by then.
        for (size_t j = 0; j < i && piece->bytes < SECTOR; j++)
            if (file->pieces[j].offset / SECTOR == piece->offset / SECTOR)
                put_piece(to, crash->tape, &file->pieces[j]);
        put_piece(to, crash->tape, piece);
    }
}

static void write_file(const char *folder, const char *name, const struct bytes *bytes)
{
    static const unsigned char zeros[32768];
    char path[300];
    snprintf(path, sizeof path, "%.200s/%.31s", folder, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    RML_CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes->used) == 0);
    for (size_t at = 0; at < bytes->used; at += sizeof zeros) {
        size_t count = bytes->used - at < sizeof zeros ? bytes->used - at : sizeof zeros;
        if (memcmp(bytes->at + at, zeros, count) != 0)
            RML_CHECK(pwrite(fd, bytes->at + at, count, (off_t)at) == (ssize_t)count);
    }
    close(fd);
}

void crash_draw(const struct crash *crash, const char *folder, uint64_t *seed)
{
    struct name names[NAMES_MAX];
    int count = crash->flushed_count;
    memcpy(names, crash->flushed, sizeof names);
    uint64_t chance = draw_chance(seed);
    for (int i = 0; i < crash->name_count; i++)
        if (rml_test_random(seed) % 256 < chance)
            apply_name(names, &count, &crash->tape->events[crash->names[i]]);
    for (int i = 0; i < count; i++)
        if (names[i].file >= 0) {
            struct bytes bytes = {0};
            draw_file(crash, &crash->files[names[i].file], &bytes, seed);
            write_file(folder, names[i].text, &bytes);
            free(bytes.at);
        }
}
