/*
 * WHAT LIES WHERE
 *
 *     header │ segment │ segment │ segment ...        the first 256 KiB are the header's
 *              block, block, block ... what was there before
 *
 * A block begins at a multiple of 4 KiB with a struct head, and holds whole entries. Blocks are numbered
 * without gaps through all segments (*sequence*); a segment has a number that rises with each use
 * (*generation*, with a random number of whoever wrote it). Space is written with zeros before it is used.
 *
 * WHAT IS BELIEVED
 *
 * Blocks are read in the order of generations, from the oldest segment that was needed when the newest was
 * begun, as long as each has the next sequence and its check sum holds. The first that does not is where
 * the power went, and nothing behind it is believed: writes of one group reach a disk in any order. A
 * segment that begins with sequence s takes the place of all blocks from s on in older ones. So what was
 * torn, or not believed for another reason, never comes back, since whoever goes on begins a segment.
 *
 * Each block says up to which sequence blocks had been *flushed* when it was written. So a block that is
 * missing although a later one says that it was flushed is not where the power went but damage, and
 * that is an error. Also, what lies behind the last flush that is known of is written again and flushed before
 * it is believed: a killed process may have left it in a cache that a failed flush has made believe to be
 * clean. It is written where it lies, the same bytes: whatever a loss of power leaves of that, new or
 * old, is the block. Elsewhere it would need a segment that is free, and which are is told by just these
 * blocks, of which nobody knows yet whether they are on the disk.
 *
 * ERRORS
 *
 * After a write or flush that failed, the file is closed and opened again, and the whole group goes to
 * another segment. What was written to the old place since the last flush is never believed: the new
 * segment begins with the same sequence. Segments are taken in turn, so that the next try meets another
 * place of the disk.
 *
 * A flush that fails while the file grows may lose its new length, though the next process sees it; what that has
 * flushed into the new segment is there nevertheless. So a last segment that is cut short is read, and taken for one
 * if anything in it counts.
 *
 * USED AGAIN
 *
 * A segment is free once the oldest of the kept checkpoints covers all its entries, and the segments
 * older than it are free: what is in use has no gap. A checkpoint that has been committed is no reason
 * yet, because it may turn out to be damaged, and then the one before it is gone back to. And it is not
 * written to before a block is on the disk that says it is not needed: else a loss of power could leave
 * neither what was in it nor anybody who knows that this does not matter.
 */
#include "runtime/checkpoint/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/crc32c.h"

#define FILE_MAGIC    "rmljrnl"
#define FILE_FORMAT   1u
#define BLOCK_MAGIC   UINT32_C(0x6b6c626a)
#define MIB           ((uint64_t)1 << 20)
#define SEGMENT_BYTES (4 * MIB)
#define FIRST_BYTES   (16 * MIB)
#define MAX_BYTES     (1024 * MIB)
#define SEGMENTS_AT   ((uint64_t)RML_DISK_WRITE_BYTES)
#define NO_SEGMENT    UINT32_MAX

/* The first block of the file. */
struct file_header {
    char magic[8];
    uint32_t format;
    uint32_t segment_bytes;
    unsigned char vault[RML_JOURNAL_VAULT_BYTES];
    uint32_t crc32c;  // of what stands before
};

/* How a block begins. */
struct head {
    uint32_t magic;
    uint32_t crc32c;  // of what stands behind this word, and of the entries
    uint32_t bytes;   // of entries
    uint32_t reserved;
    unsigned char vault[RML_JOURNAL_VAULT_BYTES];
    uint64_t life, identity;
    uint64_t generation, sequence;
    uint64_t flushed;  // the last sequence that was, when this was written; 0: none
    uint64_t oldest_generation, oldest_sequence;  // of the first segment in use
    uint64_t writer;                              // a random number of whoever opened the file
    unsigned char zeros[32];
};

_Static_assert(sizeof(struct head) == RML_JOURNAL_HEAD_BYTES, "entries lie aligned to 8");
_Static_assert(sizeof(struct rml_journal_entry) == 16, "what follows lies aligned to 8");

struct segment {
    uint64_t generation;  // 0: free
    uint64_t writer;      // of its blocks
    uint64_t first;       // sequence
    uint64_t free_from;   // not to be used again before block number this is on the disk
    uint64_t *ends;       // by partition: behind the last entry that is in it
};

/* A block that is believed. */
struct place {
    uint64_t offset, sequence;
};

struct rml_journal {
    struct rml_journal_options options;
    char folder[300], path[320];
    struct rml_disk disk;
    uint64_t least_bytes;  // of the file, as far as it is known
    uint32_t segment_bytes, segment_count, segments_max;
    struct segment *segments;
    uint32_t *used;  // segments in use, by generation
    uint32_t used_count;
    uint64_t generation;  // the greatest that was ever seen
    uint64_t writer;      // ours
    uint64_t sequence;    // of the next block
    uint64_t flushed;     // up to here blocks are on the disk
    uint32_t current;     // being written, or NO_SEGMENT
    uint32_t at;          // in it
    uint32_t turn;        // where to look for the next
    uint64_t *covered;    // by each of the kept checkpoints, the oldest first
    struct place *places;
    size_t place_count, place_room;
    unsigned char *memory, *scan;  // for reading a block, and what lies around
};

static uint64_t begin_of(const struct rml_journal *j, uint32_t segment)
{
    return SEGMENTS_AT + (uint64_t)segment * j->segment_bytes;
}

static uint32_t in_blocks(uint32_t bytes)
{
    return (bytes + RML_DISK_BLOCK_BYTES - 1) / RML_DISK_BLOCK_BYTES * RML_DISK_BLOCK_BYTES;
}

/* Entries of a block */

static const struct rml_journal_entry *entry_at(const unsigned char *entries, uint32_t bytes,
                                                uint32_t at, uint32_t partitions)
{
    const struct rml_journal_entry *entry = (const void *)(entries + at);
    if (bytes - at < sizeof *entry || entry->bytes < sizeof *entry || entry->bytes % 8 != 0
        || entry->bytes > bytes - at || entry->partition >= partitions)
        return NULL;
    return entry;
}

// Note how far a segment's entries go. False: they cannot be.
static bool note_ends(struct rml_journal *j, struct segment *segment, const unsigned char *entries,
                      uint32_t bytes)
{
    for (uint32_t at = 0; at < bytes;) {
        const struct rml_journal_entry *entry = entry_at(entries, bytes, at, j->options.partitions);
        if (entry == NULL)
            return false;
        if (entry->position >= segment->ends[entry->partition])
            segment->ends[entry->partition] = entry->position + 1;
        at += entry->bytes;
    }
    return true;
}

/* The file */

static int failed(const struct rml_journal *j, int rc, const char *what, struct rml_err *err)
{
    return RML_FAIL(err, rc, "cannot %s %.300s: %s", what, j->path, strerrordesc_np(-rc));
}

static int write_block(struct rml_journal *j, uint64_t offset, const void *from, size_t bytes)
{
    int buffer = rml_disk_buffer(&j->disk);
    if (buffer < 0)
        return buffer;
    unsigned char *memory = rml_disk_memory(&j->disk, buffer);
    memcpy(memory, from, bytes);
    uint32_t whole = in_blocks((uint32_t)bytes);
    memset(memory + bytes, 0, whole - bytes);
    return rml_disk_write(&j->disk, buffer, offset, whole);
}

static int make_file(struct rml_journal *j, struct rml_err *err)
{
    struct file_header header = {.magic = FILE_MAGIC, .format = FILE_FORMAT};
    header.segment_bytes = j->segment_bytes;
    memcpy(header.vault, j->options.vault, sizeof header.vault);
    header.crc32c = rml_crc32c(0, &header, offsetof(struct file_header, crc32c));
    int rc = write_block(j, 0, &header, sizeof header);
    if (rc == 0)
        rc = rml_disk_flush(&j->disk);
    if (rc < 0)
        return failed(j, rc, "write", err);
    return rml_disk_flush_folder(j->folder, err);
}

static int read_header(struct rml_journal *j, struct rml_err *err)
{
    struct file_header header;
    int rc = rml_disk_read(j->disk.fd, 0, j->memory, RML_DISK_BLOCK_BYTES);
    if (rc < 0)
        return failed(j, rc, "read", err);
    memcpy(&header, j->memory, sizeof header);
    if (memcmp(header.magic, FILE_MAGIC, sizeof header.magic) != 0)
        return RML_FAIL(err, -EBADMSG, "%.300s: damaged at byte 0: no journal begins so", j->path);
    if (header.format != FILE_FORMAT)
        return RML_FAIL(
            err, -EPROTONOSUPPORT,
            "%.300s is a journal of format %u, and this program reads format %u: run it "
            "to its end (ringctl drain) with the program that wrote it",
            j->path, header.format, FILE_FORMAT);
    if (header.crc32c != rml_crc32c(0, &header, offsetof(struct file_header, crc32c))
        || header.segment_bytes == 0 || header.segment_bytes % RML_DISK_BLOCK_BYTES != 0)
        return RML_FAIL(err, -EBADMSG, "%.300s: damaged at byte 0: its header's check sum is wrong",
                        j->path);
    if (memcmp(header.vault, j->options.vault, sizeof header.vault) != 0)
        return RML_FAIL(err, -EBADMSG,
                        "%.300s is of another state folder than the catalog beside it", j->path);
    j->segment_bytes = header.segment_bytes;
    return 0;
}

static int set_aside(struct rml_journal *j, uint64_t file_bytes)
{
    uint64_t bytes = file_bytes > SEGMENTS_AT ? file_bytes - SEGMENTS_AT : 0;
    uint64_t there = (bytes + j->segment_bytes - 1) / j->segment_bytes;
    uint64_t most = j->options.max_bytes / j->segment_bytes;
    most =
        most > 3 ? most : 3;  // the one that is written, the one before it, and the one left alone
    uint64_t room = most > there ? most : there;
    j->least_bytes = file_bytes;
    j->segment_count = (uint32_t)there;
    j->segments_max = (uint32_t)most;
    j->segments = calloc(room, sizeof *j->segments);
    j->used = calloc(room, sizeof *j->used);
    uint64_t *ends = calloc(room * j->options.partitions, sizeof *ends);
    if (j->segments == NULL || j->used == NULL || ends == NULL) {
        free(ends);
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < room; i++)
        j->segments[i].ends = ends + i * j->options.partitions;
    return 0;
}

// One segment more, written before its use. -ENOSPC: there are as many as may be, or the disk is full.
static int grow(struct rml_journal *j, struct rml_err *err)
{
    static const unsigned char zeros[RML_DISK_WRITE_BYTES];
    if (j->segment_count >= j->segments_max)
        return RML_FAIL(err, -ENOSPC,
                        "the journal is full, with %" PRIu64 " bytes, until checkpoints cover it",
                        (uint64_t)j->segment_count * j->segment_bytes);
    uint64_t offset = begin_of(j, j->segment_count);
    int rc = 0;
    for (uint32_t left = j->segment_bytes; left > 0 && rc == 0;) {
        uint32_t bytes = left < sizeof zeros ? left : (uint32_t)sizeof zeros;
        rc = write_block(j, offset, zeros, bytes);
        offset += bytes;
        left -= bytes;
    }
    if (rc == 0)
        rc = rml_disk_flush(&j->disk);
    if (rc < 0 && !j->disk.is_broken)
        rml_disk_settle(&j->disk);  // nothing of worth was under way
    if (rc < 0)
        return failed(j, rc, "make room in", err);
    j->segment_count++;
    j->least_bytes = begin_of(j, j->segment_count);
    return 0;
}

/* Finding what is there */

enum found { NOTHING, OF_OTHERS, A_BLOCK };

// What lies at `offset`, in j->memory; at most `room` bytes of it.
static int look(struct rml_journal *j, uint64_t offset, uint32_t room, struct rml_err *err)
{
    const struct head *head = (const void *)j->memory;
    if (room < RML_DISK_BLOCK_BYTES)
        return NOTHING;
    int rc = rml_disk_read(j->disk.fd, offset, j->memory, RML_DISK_BLOCK_BYTES);
    if (rc == -ENODATA)
        return NOTHING;
    if (rc < 0)
        return failed(j, rc, "read", err);
    if (head->magic != BLOCK_MAGIC || head->bytes > RML_JOURNAL_BLOCK_BYTES
        || memcmp(head->vault, j->options.vault, sizeof head->vault) != 0)
        return NOTHING;
    uint32_t whole = in_blocks((uint32_t)sizeof *head + head->bytes);
    if (whole > room)
        return NOTHING;
    if (whole > RML_DISK_BLOCK_BYTES)
        rc = rml_disk_read(j->disk.fd, offset + RML_DISK_BLOCK_BYTES,
                           j->memory + RML_DISK_BLOCK_BYTES, whole - RML_DISK_BLOCK_BYTES);
    if (rc < 0)
        return rc == -ENODATA ? NOTHING : failed(j, rc, "read", err);
    size_t from = offsetof(struct head, bytes);
    bool holds = head->crc32c == rml_crc32c(0, j->memory + from, sizeof *head - from + head->bytes);
    if (!holds && (j->options.broken_rules & RML_JOURNAL_BELIEVES_BLOCKS) == 0)
        return NOTHING;
    return head->life == j->options.life ? A_BLOCK : OF_OTHERS;
}

// What each segment begins with; those of this life are `used`, by generation.
static int look_at_segments(struct rml_journal *j, struct rml_err *err)
{
    const struct head *head = (const void *)j->memory;
    for (uint32_t i = 0; i < j->segment_count; i++) {
        int found = look(j, begin_of(j, i), j->segment_bytes, err);
        if (found < 0)
            return found;
        if (found != NOTHING && head->generation > j->generation)
            j->generation = head->generation;
        if (found != A_BLOCK)
            continue;
        struct segment *segment = &j->segments[i];
        segment->generation = head->generation;
        segment->writer = head->writer;
        segment->first = head->sequence;
        uint32_t at = j->used_count++;
        for (; at > 0 && j->segments[j->used[at - 1]].generation > head->generation; at--)
            j->used[at] = j->used[at - 1];
        j->used[at] = i;
    }
    // One that is cut short and holds nothing is made anew.
    if (j->segment_count > 0 && j->segments[j->segment_count - 1].generation == 0
        && j->least_bytes < begin_of(j, j->segment_count))
        j->segment_count--;
    return 0;
}

static int add_place(struct rml_journal *j, uint64_t offset, uint64_t sequence)
{
    if (j->place_count == j->place_room) {
        size_t room = j->place_room > 0 ? 2 * j->place_room : 1024;
        struct place *places = realloc(j->places, room * sizeof *places);
        if (places == NULL)
            return -ENOMEM;
        j->places = places;
        j->place_room = room;
    }
    j->places[j->place_count++] = (struct place){offset, sequence};
    return 0;
}

// One who opened the file after a loss of power may have used a number that was in use before.
static bool is_of(const struct segment *segment, const struct head *head)
{
    return head->generation == segment->generation && head->writer == segment->writer;
}

// Is what was found the next block of this segment?
static bool is_next(const struct rml_journal *j, int found, const struct segment *segment)
{
    const struct head *head = (const void *)j->memory;
    if (found != A_BLOCK || !is_of(segment, head))
        return false;
    bool skips = (j->options.broken_rules & RML_JOURNAL_BELIEVES_BEHIND) != 0;
    return head->sequence == j->sequence || (skips && head->sequence > j->sequence);
}

// The blocks of one segment from j->sequence on, below `limit`. Where they end is *ret_at.
static int walk_segment(struct rml_journal *j, uint32_t index, uint64_t limit, uint32_t *ret_at,
                        struct rml_err *err)
{
    const struct head *head = (const void *)j->memory;
    struct segment *segment = &j->segments[index];
    bool skips = (j->options.broken_rules & RML_JOURNAL_BELIEVES_BEHIND) != 0;
    uint32_t at = 0;
    while (j->sequence < limit && at < j->segment_bytes) {
        int found = look(j, begin_of(j, index) + at, j->segment_bytes - at, err);
        if (found < 0)
            return found;
        if (!is_next(j, found, segment)
            || !note_ends(j, segment, j->memory + sizeof *head, head->bytes)) {
            if (!skips)
                break;
            at += RML_DISK_BLOCK_BYTES;
            continue;
        }
        if (head->identity != j->options.identity)
            return RML_FAIL(err, -EINVAL,
                            "%.300s holds records of this pipeline's sources before they were "
                            "changed; run with --fresh to begin anew",
                            j->path);
        if (add_place(j, begin_of(j, index) + at, head->sequence) < 0)
            return RML_FAIL(err, -ENOMEM, "no memory to read the journal");
        j->flushed = head->flushed > j->flushed ? head->flushed : j->flushed;
        j->sequence = head->sequence + 1;
        at += in_blocks((uint32_t)sizeof *head + head->bytes);
    }
    *ret_at = at;
    return 0;
}

static int is_damaged(const struct rml_journal *j, uint64_t offset, struct rml_err *err)
{
    const struct head *head = (const void *)j->memory;
    return RML_FAIL(err, -EBADMSG,
                    "%.300s: damaged: block %" PRIu64
                    " was written and is not there, though block %" PRIu64 " at byte %" PRIu64
                    " came after it",
                    j->path, j->sequence, head->sequence, offset);
}

// Does any block in the segment, from `at` on, say that j->sequence was flushed?
static int look_for_damage(struct rml_journal *j, uint32_t index, uint32_t at, struct rml_err *err)
{
    const struct head *head = (const void *)j->memory;
    while (at < j->segment_bytes) {
        uint64_t offset = begin_of(j, index) + at;
        uint32_t bytes = j->segment_bytes - at;
        bytes = bytes < RML_DISK_WRITE_BYTES ? bytes : RML_DISK_WRITE_BYTES;
        int rc = rml_disk_read(j->disk.fd, offset, j->scan, bytes);
        if (rc < 0)
            return rc == -ENODATA ? 0 : failed(j, rc, "read", err);
        for (uint32_t i = 0; i < bytes; i += RML_DISK_BLOCK_BYTES) {
            const struct head *seen = (const void *)(j->scan + i);
            if (seen->magic != BLOCK_MAGIC || seen->flushed < j->sequence)
                continue;
            int found = look(j, offset + i, j->segment_bytes - at - i, err);
            if (found < 0)
                return found;
            if (found == A_BLOCK && head->flushed >= j->sequence)
                return is_damaged(j, offset + i, err);
        }
        at += bytes;
    }
    return 0;
}

/*
 * The first segment that is needed, and where it begins: as the last block says that is there. Segments are in
 * the order of generations, and whoever used one again had a block flushed that says it is not needed.
 */
static int find_oldest(struct rml_journal *j, uint32_t *ret_at, struct rml_err *err)
{
    const struct head *head = (const void *)j->memory;
    uint32_t newest = j->used_count > 0 ? j->used[j->used_count - 1] : NO_SEGMENT;
    uint64_t oldest = 0;
    for (uint32_t at = 0; newest != NO_SEGMENT && at < j->segment_bytes;) {
        int found = look(j, begin_of(j, newest) + at, j->segment_bytes - at, err);
        if (found < 0)
            return found;
        if (found != A_BLOCK || !is_of(&j->segments[newest], head))
            break;
        oldest = head->oldest_generation;
        j->sequence = head->oldest_sequence;
        at += in_blocks((uint32_t)sizeof *head + head->bytes);
    }
    *ret_at = 0;
    while (*ret_at < j->used_count && j->segments[j->used[*ret_at]].generation < oldest)
        ++*ret_at;
    return 0;
}

static void drop_used(struct rml_journal *j, uint32_t at)
{
    struct segment *segment = &j->segments[j->used[at]];
    segment->generation = 0;
    segment->free_from = 0;
    memset(segment->ends, 0, j->options.partitions * sizeof *segment->ends);
    j->used_count--;
    memmove(j->used + at, j->used + at + 1, (j->used_count - at) * sizeof *j->used);
}

// Where a younger segment takes the place of this one's blocks.
static uint64_t limit_of(const struct rml_journal *j, uint32_t at)
{
    uint64_t limit = UINT64_MAX;
    for (uint32_t i = at + 1; i < j->used_count; i++) {
        uint64_t first = j->segments[j->used[i]].first;
        limit = first < limit ? first : limit;
    }
    return limit;
}

static int drop_what_is_not_needed(struct rml_journal *j, struct rml_err *err)
{
    uint32_t oldest;
    int rc = find_oldest(j, &oldest, err);
    if (rc < 0)
        return rc;
    for (; oldest > 0; oldest--)
        drop_used(j, 0);
    for (uint32_t i = 0; i < j->used_count;) {
        if (j->segments[j->used[i]].first >= limit_of(j, i))
            drop_used(j, i);
        else
            i++;
    }
    return 0;
}

static int walk(struct rml_journal *j, struct rml_err *err)
{
    int dropped = drop_what_is_not_needed(j, err);
    if (dropped < 0)
        return dropped;
    uint32_t i = 0, at = 0;
    for (bool ends = false; i < j->used_count && !ends; i += !ends) {
        uint64_t limit = limit_of(j, i);
        at = 0;
        ends = j->segments[j->used[i]].first != j->sequence;
        int rc = ends ? 0 : walk_segment(j, j->used[i], limit, &at, err);
        if (rc < 0)
            return rc;
        ends |= j->sequence < limit;
    }
    // Where it ended: here the power went, unless somebody knows better.
    uint32_t last = i < j->used_count ? j->used[i] : NO_SEGMENT;
    for (uint32_t k = 0; k < j->segment_count; k++) {
        bool is_believed = false;
        for (uint32_t b = 0; b < i; b++)
            is_believed |= j->used[b] == k;
        int rc = is_believed ? 0 : look_for_damage(j, k, k == last ? at : 0, err);
        if (rc < 0)
            return rc;
    }
    while (j->used_count > 0 && j->segments[j->used[j->used_count - 1]].first >= j->sequence)
        drop_used(j, j->used_count - 1);
    if (j->place_count == 0)
        j->flushed = j->sequence - 1;
    return 0;
}

/* Writing */

// The next in turn that may be used again; NO_SEGMENT when there is none, or no other free one beside it.
static uint32_t find_free(const struct rml_journal *j)
{
    uint32_t count = 0, first = NO_SEGMENT;
    for (uint32_t i = 0; i < j->segment_count; i++) {
        uint32_t index = (j->turn + i) % j->segment_count;
        const struct segment *segment = &j->segments[index];
        if (segment->generation != 0)
            continue;
        count++;
        if (first == NO_SEGMENT && segment->free_from <= j->flushed)
            first = index;
    }
    return count > 1 ? first : NO_SEGMENT;
}

static void take_segment(struct rml_journal *j, uint32_t index)
{
    struct segment *segment = &j->segments[index];
    segment->generation = ++j->generation;
    segment->writer = j->writer;
    segment->first = j->sequence;
    j->used[j->used_count++] = index;
    j->current = index;
    j->at = 0;
    j->turn = index + 1;
}

// One segment is left alone. So when all others are in use, and a checkpoint covers some, there is one to write the
// block to that says so.
static int begin_segment(struct rml_journal *j, struct rml_err *err)
{
    bool is_early = (j->options.broken_rules & RML_JOURNAL_USES_AGAIN_EARLY) != 0;
    if (is_early && j->used_count > 1)
        drop_used(j, 0);
    uint32_t index = find_free(j);
    if (index == NO_SEGMENT) {
        if (j->sequence - 1 > j->flushed)
            return -EAGAIN;
        int rc = 0;
        while (rc == 0 && (index = find_free(j)) == NO_SEGMENT)
            rc = grow(j, err);
        if (rc < 0)
            return rc;
    }
    take_segment(j, index);
    return 0;
}

int rml_journal_write(struct rml_journal *j, const void *entries, uint32_t bytes,
                      struct rml_err *err)
{
    RML_CHECK(bytes > 0 && bytes <= RML_JOURNAL_BLOCK_BYTES);
    uint32_t whole = in_blocks((uint32_t)sizeof(struct head) + bytes);
    RML_CHECK(whole <= j->segment_bytes);
    if (j->disk.fd < 0)
        return RML_FAIL(err, -EIO, "%.300s is closed after an error", j->path);
    if (j->current == NO_SEGMENT || j->at + whole > j->segment_bytes) {
        int rc = begin_segment(j, err);
        if (rc < 0)
            return rc;
    }
    struct segment *segment = &j->segments[j->current];
    RML_CHECK(note_ends(j, segment, entries, bytes));
    const struct segment *oldest = &j->segments[j->used[0]];
    struct head head = {
        .magic = BLOCK_MAGIC,
        .bytes = bytes,
        .life = j->options.life,
        .identity = j->options.identity,
        .generation = segment->generation,
        .sequence = j->sequence,
        .flushed = j->flushed,
        .oldest_generation = oldest->generation,
        .oldest_sequence = oldest->first,
        .writer = j->writer,
    };
    memcpy(head.vault, j->options.vault, sizeof head.vault);
    int buffer = rml_disk_buffer(&j->disk);
    if (buffer < 0)
        return failed(j, buffer, "write", err);
    unsigned char *memory = rml_disk_memory(&j->disk, buffer);
    memcpy(memory, &head, sizeof head);
    memcpy(memory + sizeof head, entries, bytes);
    memset(memory + sizeof head + bytes, 0, whole - sizeof head - bytes);
    size_t from = offsetof(struct head, bytes);
    head.crc32c = rml_crc32c(0, memory + from, sizeof head - from + bytes);
    memcpy(memory, &head, sizeof head);
    int rc = rml_disk_write(&j->disk, buffer, begin_of(j, j->current) + j->at, whole);
    if (rc < 0)
        return failed(j, rc, "write", err);
    j->at += whole;
    j->sequence++;
    return 0;
}

int rml_journal_flush(struct rml_journal *j, struct rml_err *err)
{
    if (j->disk.fd < 0)
        return RML_FAIL(err, -EIO, "%.300s is closed after an error", j->path);
    bool is_early = (j->options.broken_rules & RML_JOURNAL_ACKNOWLEDGES_EARLY) != 0;
    int rc = is_early ? rml_disk_drain(&j->disk) : rml_disk_flush(&j->disk);
    if (rc < 0)
        return failed(j, rc, "flush", err);
    j->flushed = j->sequence - 1;
    return 0;
}

static int open_disk(struct rml_journal *j, struct rml_err *err)
{
    const struct rml_disk_options options = {.ways = j->options.ways,
                                             .lock_wait_ns = j->options.lock_wait_ns};
    return rml_disk_open(&j->disk, j->path, &options, err);
}

int rml_journal_renew(struct rml_journal *j, struct rml_err *err)
{
    j->sequence = j->flushed + 1;
    j->current = NO_SEGMENT;
    while (j->used_count > 0 && j->segments[j->used[j->used_count - 1]].first >= j->sequence)
        drop_used(j, j->used_count - 1);
    // the block that was to say that a segment is not needed comes under another number
    for (uint32_t i = 0; i < j->segment_count; i++) {
        if (j->segments[i].free_from > j->sequence)
            j->segments[i].free_from = j->sequence;
    }
    rml_disk_close(&j->disk);
    int rc = open_disk(j, err);
    struct stat about;
    if (rc == 0 && fstat(j->disk.fd, &about) < 0)
        rc = failed(j, -errno, "look at", err);
    if (rc == 0 && (uint64_t)about.st_size < j->least_bytes)
        rc = RML_FAIL(err, -ESTALE, "%.300s is not the file that it was", j->path);
    if (rc < 0)
        rml_disk_close(&j->disk);
    return rc;
}

/*
 * What may not have been flushed by whoever wrote it: one group at most, for each group says of the one
 * before it that it was.
 */
static int make_sure_of_the_end(struct rml_journal *j, struct rml_err *err)
{
    const struct head *head = (const void *)j->memory;
    size_t first = j->place_count;
    while (first > 0 && j->places[first - 1].sequence > j->flushed)
        first--;
    for (size_t i = first; i < j->place_count; i++) {
        const struct place *place = &j->places[i];
        int rc = look(j, place->offset, j->segment_bytes, err);
        if (rc >= 0 && (rc != A_BLOCK || head->sequence != place->sequence))
            rc = RML_FAIL(err, -EBADMSG, "%.300s: block %" PRIu64 " reads differently now", j->path,
                          place->sequence);
        if (rc < 0)
            return rc;
        rc = write_block(j, place->offset, j->memory, sizeof *head + head->bytes);
        if (rc < 0)
            return failed(j, rc, "write", err);
    }
    return first < j->place_count ? rml_journal_flush(j, err) : 0;
}

/* Reading */

int rml_journal_read(struct rml_journal *j,
                     int (*each)(void *context, const struct rml_journal_entry *entry,
                                 struct rml_err *err),
                     void *context, struct rml_err *err)
{
    const struct head *head = (const void *)j->memory;
    for (size_t i = 0; i < j->place_count; i++) {
        const struct place *place = &j->places[i];
        int rc = look(j, place->offset, j->segment_bytes, err);
        if (rc >= 0 && (rc != A_BLOCK || head->sequence != place->sequence))
            rc =
                RML_FAIL(err, -EBADMSG, "%.300s: damaged at byte %" PRIu64, j->path, place->offset);
        const unsigned char *entries = j->memory + sizeof *head;
        for (uint32_t at = 0; rc >= 0 && at < head->bytes;) {
            const struct rml_journal_entry *entry =
                entry_at(entries, head->bytes, at, j->options.partitions);
            rc = entry != NULL ? each(context, entry, err)
                               : RML_FAIL(err, -EBADMSG, "%.300s: block %" PRIu64 " is damaged",
                                          j->path, place->sequence);
            at += entry != NULL ? entry->bytes : 0;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

void rml_journal_forget(struct rml_journal *j)
{
    free(j->places);
    j->places = NULL;
    j->place_count = j->place_room = 0;
}

/* Room */

static bool is_covered(const struct rml_journal *j, const struct segment *segment)
{
    for (uint32_t p = 0; p < j->options.partitions; p++) {
        if (segment->ends[p] > j->covered[p])
            return false;
    }
    return true;
}

void rml_journal_cover(struct rml_journal *j, const uint64_t *positions)
{
    size_t count = j->options.partitions, others = (j->options.keep - 1) * count;
    memmove(j->covered, j->covered + count, others * sizeof *positions);
    memcpy(j->covered + others, positions, count * sizeof *positions);
    while (j->used_count > 0 && j->used[0] != j->current
           && is_covered(j, &j->segments[j->used[0]])) {
        struct segment *segment = &j->segments[j->used[0]];
        drop_used(j, 0);
        segment->free_from = j->sequence;  // the next block says that it is not needed
    }
}

struct rml_journal_room rml_journal_room(const struct rml_journal *j)
{
    return (struct rml_journal_room){
        .file_bytes = begin_of(j, j->segment_count),
        .used_bytes = (uint64_t)j->used_count * j->segment_bytes,
        .max_bytes =
            (uint64_t)(j->segments_max > j->segment_count ? j->segments_max : j->segment_count)
            * j->segment_bytes,
    };
}

const char *rml_journal_way(const struct rml_journal *j)
{
    return j->disk.fd >= 0 ? j->disk.way->name : "closed";
}

const char *rml_journal_why_not(const struct rml_journal *j)
{
    return j->disk.why_not;
}

/* Opening */

static void take_defaults(struct rml_journal_options *options)
{
    if (options->segment_bytes == 0)
        options->segment_bytes = SEGMENT_BYTES;
    if (options->keep < 2)
        options->keep = 2;
    if (options->max_bytes == 0)
        options->max_bytes = MAX_BYTES;
    if (options->first_bytes == 0)
        options->first_bytes = FIRST_BYTES;
    if (options->first_bytes > options->max_bytes)
        options->first_bytes = options->max_bytes;
}

static int find_all(struct rml_journal *j, struct rml_err *err)
{
    int rc = look_at_segments(j, err);
    if (rc == 0)
        rc = walk(j, err);
    return rc == 0 ? make_sure_of_the_end(j, err) : rc;
}

static int set_up(struct rml_journal *j, struct rml_err *err)
{
    j->memory = aligned_alloc(RML_DISK_BLOCK_BYTES, RML_DISK_WRITE_BYTES);
    if (getrandom(&j->writer, sizeof j->writer, 0) != (ssize_t)sizeof j->writer)
        return RML_FAIL(err, -EIO, "no random number is to be had: %s", strerrordesc_np(errno));
    j->scan = aligned_alloc(RML_DISK_BLOCK_BYTES, RML_DISK_WRITE_BYTES);
    j->covered = calloc((size_t)j->options.keep * j->options.partitions, sizeof *j->covered);
    if (j->memory == NULL || j->scan == NULL || j->covered == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a journal");
    // Of checkpoints before the one that was restored nothing is known: they cover nothing.
    if (j->options.covered != NULL)
        memcpy(j->covered + (size_t)(j->options.keep - 1) * j->options.partitions,
               j->options.covered, j->options.partitions * sizeof *j->covered);
    int rc = open_disk(j, err);
    if (rc < 0)
        return rc;
    struct stat about;
    if (fstat(j->disk.fd, &about) < 0)
        return failed(j, -errno, "look at", err);
    // Segments come only after a header that was flushed.
    bool is_new = (uint64_t)about.st_size <= RML_DISK_BLOCK_BYTES;
    rc = is_new ? make_file(j, err) : read_header(j, err);
    if (rc < 0)
        return rc;
    if (set_aside(j, (uint64_t)about.st_size) < 0)
        return RML_FAIL(err, -ENOMEM, "no memory for a journal");
    rc = find_all(j, err);
    while (rc == 0 && j->segment_count < j->segments_max
           && (uint64_t)j->segment_count * j->segment_bytes < j->options.first_bytes)
        rc = grow(j, err);
    return rc;
}

int rml_journal_open(struct rml_journal **ret_journal, const char *folder,
                     const struct rml_journal_options *options, struct rml_err *err)
{
    struct rml_journal *j = calloc(1, sizeof *j);
    if (j == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a journal");
    j->options = *options;
    take_defaults(&j->options);
    j->segment_bytes = j->options.segment_bytes;
    j->sequence = 1;
    j->current = NO_SEGMENT;
    j->disk = RML_DISK_CLOSED;
    snprintf(j->folder, sizeof j->folder, "%s", folder);
    int length = snprintf(j->path, sizeof j->path, "%s/" RML_JOURNAL_FILE, folder);
    int rc = (size_t)length < sizeof j->folder
                 ? set_up(j, err)
                 : RML_FAIL(err, -ENAMETOOLONG, "the path of the state is too long");
    if (rc < 0) {
        rml_journal_close(j);
        return rc;
    }
    *ret_journal = j;
    return 0;
}

void rml_journal_close(struct rml_journal *j)
{
    if (j == NULL)
        return;
    rml_disk_close(&j->disk);
    rml_journal_forget(j);
    if (j->segments != NULL)
        free(j->segments[0].ends);
    free(j->segments);
    free(j->used);
    free(j->covered);
    free(j->memory);
    free(j->scan);
    free(j);
}

bool rml_journal_is_there(const char *folder)
{
    char path[400];
    snprintf(path, sizeof path, "%s/" RML_JOURNAL_FILE, folder);
    struct stat about;
    return stat(path, &about) == 0 && (uint64_t)about.st_size > RML_DISK_BLOCK_BYTES;
}
