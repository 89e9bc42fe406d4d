#include "runtime/state/restored.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/state/touch.h"

#define ROOT_BYTES_MAX  ((uint64_t)1 << 30)
#define PIECE_BYTES_MAX (sizeof(struct rml_snapshot_piece) + RML_PAGE_BYTES)
#define TOUCH_PAGES     ((8u << 20) / RML_PAGE_BYTES)  // for fewer a thread is not worth while

int rml_restored_open(struct rml_restored *r, uint64_t bytes_max, struct rml_err *err)
{
    *r = (struct rml_restored){0};
    int rc = rml_pages_open(&r->pages, bytes_max, err);
    if (rc < 0)
        return rc;
    r->rest = malloc(PIECE_BYTES_MAX);
    r->have_bytes = (size_t)r->pages.limit * sizeof *r->have;
    void *have = mmap(NULL, r->have_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    r->have = have != MAP_FAILED ? have : NULL;
    if (r->rest != NULL && r->have != NULL)
        return 0;
    rml_restored_close(r);
    return RML_FAIL(err, -ENOMEM, "no memory to read state");
}

static void end_touching(struct rml_restored *r)
{
    rml_touch_end(r->touch);
    r->touch = NULL;
}

void rml_restored_close(struct rml_restored *r)
{
    end_touching(r);
    if (r->have != NULL)
        munmap(r->have, r->have_bytes);
    free(r->rest);
    free(r->roots);
    rml_pages_close(&r->pages);
    *r = (struct rml_restored){0};
}

static int is_none(struct rml_err *err)
{
    return RML_FAIL(err, -EBADMSG, "this is no snapshot of a partition");
}

// The last stream is whole.
static int end_stream(const struct rml_restored *r, struct rml_err *err)
{
    bool is_whole = r->head_left == 0 && r->roots_left == 0 && r->rest_bytes == 0;
    return r->streams == 0 || is_whole ? 0 : RML_FAIL(err, -EBADMSG, "a snapshot is cut off");
}

int rml_restored_stream(struct rml_restored *r, struct rml_err *err)
{
    int rc = end_stream(r, err);
    r->head_left = sizeof r->next;
    r->streams++;
    return rc;
}

// The head is there.
static int begin_stream(struct rml_restored *r, struct rml_err *err)
{
    const struct rml_snapshot_head *head = &r->next;
    uint64_t differs = head->magic ^ RML_SNAPSHOT_MAGIC;
    if (differs != 0 && differs >> RML_SNAPSHOT_FORMAT_BIT << RML_SNAPSHOT_FORMAT_BIT == differs)
        return RML_FAIL(err, -EPROTONOSUPPORT,
                        "its state has format '%c' and this program reads format '%c': go on with "
                        "the program that wrote it, or `ringmill run --fresh FILE` begins anew",
                        (char)(head->magic >> RML_SNAPSHOT_FORMAT_BIT),
                        (char)(RML_SNAPSHOT_MAGIC >> RML_SNAPSHOT_FORMAT_BIT));
    if (head->magic != RML_SNAPSHOT_MAGIC || head->needs >= RML_SNAPSHOT_ROUND_MAX
        || head->needs > head->number || head->root_bytes > ROOT_BYTES_MAX
        || head->page_count > r->pages.limit)
        return is_none(err);
    if (r->streams > 1 && head->number != r->head.number - (r->streams - 1))
        return RML_FAIL(err, -EBADMSG, "snapshot %" PRIu64 " lies where %" PRIu64 " belongs",
                        head->number, r->head.number - (r->streams - 1));
    r->roots_left = head->root_bytes;
    if (r->streams > 1)
        return 0;
    r->head = *head;
    r->roots = malloc(head->root_bytes > 0 ? head->root_bytes : 1);
    if (r->roots == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to read state");
    if (head->page_count >= TOUCH_PAGES)
        r->touch = rml_touch_begin(r->pages.base, (size_t)head->page_count * RML_PAGE_BYTES);
    return 0;
}

// The size of a piece whose head is there, or -EBADMSG.
static int64_t piece_size(const struct rml_restored *r, const unsigned char *at,
                          struct rml_snapshot_piece *ret_piece)
{
    memcpy(ret_piece, at, sizeof *ret_piece);
    if (ret_piece->page == RML_NO_PAGE || ret_piece->page >= r->pages.limit
        || ret_piece->granules == 0
        || ret_piece->granule_count != (uint32_t)__builtin_popcountll(ret_piece->granules))
        return -EBADMSG;
    return (int64_t)(sizeof *ret_piece + (size_t)ret_piece->granule_count * RML_PAGE_GRANULE_BYTES);
}

static void put_piece(struct rml_restored *r, const struct rml_snapshot_piece *piece,
                      const unsigned char *from)
{
    unsigned char *page = r->pages.base + (size_t)piece->page * RML_PAGE_BYTES;
    uint64_t wanted = piece->granules & ~r->have[piece->page];
    r->have[piece->page] |= piece->granules;
    if (wanted == UINT64_MAX) {
        memcpy(page, from, RML_PAGE_BYTES);
        return;
    }
    for (; wanted != 0; wanted &= wanted - 1) {
        unsigned granule = (unsigned)__builtin_ctzll(wanted);
        uint64_t before = piece->granules & ((UINT64_C(1) << granule) - 1);
        memcpy(page + (size_t)granule * RML_PAGE_GRANULE_BYTES,
               from + (size_t)__builtin_popcountll(before) * RML_PAGE_GRANULE_BYTES,
               RML_PAGE_GRANULE_BYTES);
    }
}

// As many whole pieces as there are. Returns their bytes, or -EBADMSG.
static int64_t put_pieces(struct rml_restored *r, const unsigned char *at, size_t count)
{
    size_t used = 0;
    struct rml_snapshot_piece piece;
    while (count - used >= sizeof piece) {
        int64_t size = piece_size(r, at + used, &piece);
        if (size < 0)
            return size;
        if ((size_t)size > count - used)
            break;
        put_piece(r, &piece, at + used + sizeof piece);
        used += (size_t)size;
    }
    return (int64_t)used;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

// Take what belongs to a piece of which some came before. Returns the bytes that were taken, or -EBADMSG.
static int64_t fill_rest(struct rml_restored *r, const unsigned char *at, size_t count)
{
    size_t used = 0;
    while (used < count && r->rest_bytes > 0) {
        size_t wanted = sizeof(struct rml_snapshot_piece);
        struct rml_snapshot_piece piece;
        int64_t size = 0;
        if (r->rest_bytes >= wanted) {
            size = piece_size(r, r->rest, &piece);
            if (size < 0)
                return size;
            wanted = (size_t)size;
        }
        size_t part = least(wanted - r->rest_bytes, count - used);
        memcpy(r->rest + r->rest_bytes, at + used, part);
        r->rest_bytes += part;
        used += part;
        if (size > 0 && r->rest_bytes == wanted) {
            put_piece(r, &piece, r->rest + sizeof piece);
            r->rest_bytes = 0;
        }
    }
    return (int64_t)used;
}

static int take_pieces(struct rml_restored *r, const unsigned char *at, size_t count,
                       struct rml_err *err)
{
    int64_t used = fill_rest(r, at, count);
    if (used >= 0) {
        at += used;
        count -= (size_t)used;
        used = put_pieces(r, at, count);
    }
    if (used < 0)
        return RML_FAIL(err, (int)used, "a snapshot has a piece that cannot be");
    size_t left = count - (size_t)used;
    memcpy(r->rest + r->rest_bytes, at + used, left);
    r->rest_bytes += left;
    return 0;
}

int rml_restored_bytes(struct rml_restored *r, const void *bytes, size_t count, struct rml_err *err)
{
    RML_CHECK(r->streams > 0);
    const unsigned char *at = bytes;
    if (r->head_left > 0) {
        size_t part = least(r->head_left, count);
        memcpy((unsigned char *)&r->next + sizeof r->next - r->head_left, at, part);
        at += part;
        count -= part;
        r->head_left -= part;
        int rc = r->head_left == 0 ? begin_stream(r, err) : 0;
        if (rc < 0 || r->head_left > 0)
            return rc;
    }
    size_t part = least(r->roots_left, count);
    if (r->streams == 1 && part > 0)
        memcpy(r->roots + r->head.root_bytes - r->roots_left, at, part);
    r->roots_left -= part;
    return take_pieces(r, at + part, count - part, err);
}

int rml_restored_end(struct rml_restored *r, struct rml_err *err)
{
    end_touching(r);
    int rc = end_stream(r, err);
    if (rc == 0 && (r->streams == 0 || r->streams - 1 < r->head.needs))
        rc = RML_FAIL(err, -EBADMSG, "snapshot %" PRIu64 " needs %u before it, and there are %u",
                      r->head.number, r->head.needs, r->streams == 0 ? 0 : r->streams - 1);
    return rc;
}
