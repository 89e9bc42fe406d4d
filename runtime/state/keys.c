/*
 * THE KEY TABLE
 *
 *     hash
 *       low 32 bits         -> tag; its first `depth` bits -> directory -> page
 *       next 16 bits        -> home bucket in the page
 *       high bits           chose the partition, and say little here
 *
 * A page is 256 lines of 64 bytes: line 0 its header, the other 255 a bucket each:
 *
 *     tag[7]  place[7]  far[7]  passed
 *
 * A place says where the key's row lies, in units of 16 bytes from the beginning of all pages; tag 0 is
 * an empty one. A key whose home bucket is full goes to the next one with room; `far` says
 * how many buckets it went, and each bucket it went over counts it in `passed`. So a search ends at
 * the first bucket that nobody passed, a removed key leaves no tombstone, and when a page splits
 * the counts can be mended from the entries that leave, without reading any key.
 *
 * Pages are split when half full: fuller buckets overflow more often, and a search that leaves its
 * home bucket is one that the processor did not expect.
 */
#include "runtime/state/keys.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/state/room.h"
#include "runtime/state/roots.h"

#ifdef __AVX2__
# include <immintrin.h>
#endif

#define BUCKET_KEYS    7u
#define PAGE_BUCKETS   255u
#define PAGE_KEYS_FULL (PAGE_BUCKETS * BUCKET_KEYS / 2)
#define PLACE_BYTES    16u
#define PAGES_MAX      (UINT32_MAX / (RML_PAGE_BYTES / PLACE_BYTES))  // that places can name
#define FAR_MAX        200u
#define DEPTH_MAX      22u
#define SLOTS_END      UINT32_MAX

struct bucket {
    uint32_t tag[BUCKET_KEYS];
    uint32_t place[BUCKET_KEYS];
    uint8_t far[BUCKET_KEYS];
    uint8_t passed;
};

struct page {
    uint32_t depth;  // leading hash bits that all its keys share
    uint32_t count;
    uint32_t unused[14];
    struct bucket buckets[PAGE_BUCKETS];
};

_Static_assert(sizeof(struct bucket) == 64, "a bucket is a cache line");
_Static_assert(sizeof(struct page) == RML_PAGE_BYTES, "a page is a page");

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)hash | 1;  // never that of an empty place
}

static uint32_t home_of(uint64_t hash)
{
    return ((uint32_t)(hash >> 32 & UINT16_MAX) * PAGE_BUCKETS) >> 16;
}

static uint32_t next_bucket(uint32_t bucket)
{
    return bucket + 1 < PAGE_BUCKETS ? bucket + 1 : 0;
}

static uint32_t directory_index(const struct rml_keys *keys, uint64_t hash)
{
    return (uint32_t)((hash & UINT32_MAX) >> (32 - keys->depth));
}

static uint32_t page_number(const struct rml_keys *keys, uint64_t hash)
{
    return keys->directory[directory_index(keys, hash)];
}

static const struct page *page_of(const struct rml_keys *keys, uint64_t hash)
{
    return rml_page(keys->pages, page_number(keys, hash));
}

static const struct rml_key_row *row_at(const struct rml_keys *keys, uint32_t place)
{
    const void *row = keys->pages->base + (size_t)place * PLACE_BYTES;
    return row;
}

static uint32_t place_of(const struct rml_keys *keys, const struct rml_key_row *row)
{
    size_t offset = (size_t)((const unsigned char *)row - keys->pages->base);
    return (uint32_t)(offset / PLACE_BYTES);
}

// A bit for each place of the bucket whose tag is that of `hash`.
static inline unsigned match(const struct bucket *bucket, const uint64_t *hash)
{
#ifdef __AVX2__
    // Eight words from the bucket's start are the seven tags and the first place, which the mask cuts.
    __m256i tags = _mm256_or_si256(_mm256_set1_epi32((int)*hash), _mm256_set1_epi32(1));
    __m256i equal = _mm256_cmpeq_epi32(_mm256_loadu_si256((const void *)bucket), tags);
    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(equal)) & 0x7f;
#else
    unsigned found = 0;
    for (unsigned i = 0; i < BUCKET_KEYS; i++)
        found |= (unsigned)(bucket->tag[i] == tag_of(*hash)) << i;
    return found;
#endif
}

// A bit for each place that is empty.
static unsigned empty_places(const struct bucket *bucket)
{
    unsigned found = 0;
    for (unsigned i = 0; i < BUCKET_KEYS; i++)
        found |= (unsigned)(bucket->tag[i] == 0) << i;
    return found;
}

static const struct rml_key_row *find(const struct rml_keys *keys, uint64_t hash, const void *key)
{
    const struct page *page = page_of(keys, hash);
    uint32_t at = home_of(hash);
    for (uint32_t far = 0; far <= FAR_MAX; far++, at = next_bucket(at)) {
        const struct bucket *bucket = &page->buckets[at];
        for (unsigned found = match(bucket, &hash); found != 0; found &= found - 1) {
            const struct rml_key_row *row = row_at(keys, bucket->place[__builtin_ctz(found)]);
            if (memcmp(row->key, key, keys->key_bytes) == 0)
                return row;
        }
        if (bucket->passed == 0)
            return NULL;
    }
    return NULL;
}

// How far from its home bucket the next free place is; FAR_MAX + 1 when all near ones are taken.
static uint32_t distance_to_room(const struct page *page, uint32_t home)
{
    uint32_t at = home, far = 0;
    while (far <= FAR_MAX
           && (empty_places(&page->buckets[at]) == 0 || page->buckets[at].passed == UINT8_MAX)) {
        if (page->buckets[at].passed == UINT8_MAX)
            return FAR_MAX + 1;
        at = next_bucket(at);
        far++;
    }
    return far;
}

static struct bucket *change_bucket(struct rml_keys *keys, const struct page *page, uint32_t at)
{
    return rml_change(keys->pages, &page->buckets[at], sizeof page->buckets[at]);
}

static uint32_t *change_count(struct rml_keys *keys, const struct page *page)
{
    return rml_change(keys->pages, &page->count, sizeof page->count);
}

static void put(struct rml_keys *keys, const struct page *page, uint32_t home, uint32_t far,
                const struct rml_key_row *row, uint32_t tag)
{
    uint32_t at = home;
    for (uint32_t i = 0; i < far; i++, at = next_bucket(at))
        change_bucket(keys, page, at)->passed++;
    struct bucket *bucket = change_bucket(keys, page, at);
    unsigned i = (unsigned)__builtin_ctz(empty_places(bucket));
    bucket->tag[i] = tag;
    bucket->place[i] = place_of(keys, row);
    bucket->far[i] = (uint8_t)far;
    ++*change_count(keys, page);
}

static void take_out(struct rml_keys *keys, const struct page *page, uint32_t at, unsigned i)
{
    struct bucket *bucket = change_bucket(keys, page, at);
    uint32_t over = at;
    for (uint32_t far = bucket->far[i]; far > 0; far--) {
        over = over > 0 ? over - 1 : PAGE_BUCKETS - 1;
        change_bucket(keys, page, over)->passed--;
    }
    bucket->tag[i] = 0;
    --*change_count(keys, page);
}

/* Which places of a bucket a split takes keys out of. */
struct parting {
    unsigned low, high;  // of the page that stays, of the new one
};

// Two buckets with the same keys: those with the bit stay in the one, those without it in the other.
static struct parting part(struct bucket *low, struct bucket *high, uint32_t bit)
{
    struct parting gone = {0};
#ifdef __AVX2__
    // The eighth word is the first place, which stays as it is.
    const __m256i place = _mm256_setr_epi32(0, 0, 0, 0, 0, 0, 0, -1);
    __m256i tags = _mm256_loadu_si256((const void *)low);
    __m256i set = _mm256_srai_epi32(_mm256_sll_epi32(tags, _mm_cvtsi32_si128((int)(31 - bit))), 31);
    __m256i empty = _mm256_cmpeq_epi32(tags, _mm256_setzero_si256());
    gone.low = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(set)) & 0x7f;
    gone.high = ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(empty)) & 0x7f & ~gone.low;
    _mm256_storeu_si256((void *)low, _mm256_andnot_si256(_mm256_andnot_si256(place, set), tags));
    _mm256_storeu_si256((void *)high, _mm256_and_si256(_mm256_or_si256(place, set), tags));
#else
    for (unsigned i = 0; i < BUCKET_KEYS; i++) {
        uint32_t tag = low->tag[i];
        bool is_set = (tag >> bit & 1) != 0;
        gone.low |= (unsigned)is_set << i;
        gone.high |= (unsigned)(tag != 0 && !is_set) << i;
        low->tag[i] = is_set ? 0 : tag;
        high->tag[i] = is_set ? tag : 0;
    }
#endif
    return gone;
}

// Keys left these places: buckets that they went over count them no more. Few went over any.
static uint32_t uncount(struct page *page, uint32_t at, unsigned gone)
{
    const struct bucket *bucket = &page->buckets[at];
    uint32_t far_any = 0;
    for (unsigned i = 0; i < BUCKET_KEYS; i++)
        far_any |= bucket->far[i];
    for (unsigned left = far_any != 0 ? gone : 0; left != 0; left &= left - 1) {
        uint32_t over = at;
        for (uint32_t far = bucket->far[__builtin_ctz(left)]; far > 0; far--) {
            over = over > 0 ? over - 1 : PAGE_BUCKETS - 1;
            page->buckets[over].passed--;
        }
    }
    return (uint32_t)__builtin_popcount(gone);
}

// Two pages with the same keys, both announced as a whole: each keeps one side of the bit.
static void part_pages(struct page *low, struct page *high, uint32_t bit)
{
    for (uint32_t at = 0; at < PAGE_BUCKETS; at++) {
        struct parting gone = part(&low->buckets[at], &high->buckets[at], bit);
        low->count -= uncount(low, at, gone.low);
        high->count -= uncount(high, at, gone.high);
    }
}

static bool double_directory(struct rml_keys *keys)
{
    if (keys->depth == DEPTH_MAX)
        return false;
    for (size_t i = (size_t)1 << keys->depth; i-- > 0;) {
        uint32_t page = keys->directory[i];
        keys->directory[2 * i] = page;
        keys->directory[2 * i + 1] = page;
    }
    keys->depth++;
    // What the next time will write to first.
    if (keys->depth < DEPTH_MAX)
        rml_room_touch(keys->pages, keys->directory + ((size_t)1 << keys->depth),
                       sizeof(uint32_t) << keys->depth);
    return true;
}

static bool split(struct rml_keys *keys, uint64_t hash)
{
    uint32_t number = page_number(keys, hash);
    if (page_of(keys, hash)->depth == keys->depth && !double_directory(keys))
        return false;
    uint32_t twin = rml_pages_take(keys->pages);
    if (twin == RML_NO_PAGE)
        return false;
    struct page *low = rml_page_change(keys->pages, number);
    struct page *high = rml_page_change(keys->pages, twin);
    low->depth++;
    memcpy(high, low, sizeof *high);
    part_pages(low, high, 32 - low->depth);

    // Of the directory entries that named the old page, the upper half names the new one.
    uint32_t span = 1u << (keys->depth - low->depth);
    uint32_t first = directory_index(keys, hash) / span | 1;
    for (uint32_t i = 0; i < span; i++)
        keys->directory[first * span + i] = twin;
    return true;
}

static struct rml_key_row *take_row(struct rml_keys *keys, const void *key)
{
    if (keys->count >= keys->keys_max)
        return NULL;
    uint32_t slot = keys->free_slot != SLOTS_END ? keys->free_slot : keys->slots_used;
    struct rml_key_row *row = rml_rows_reach(&keys->rows, keys->pages, keys->row_shape, slot);
    if (row == NULL)
        return NULL;
    if (slot == keys->free_slot)
        keys->free_slot = row->uses;
    else
        keys->slots_used++;
    row->uses = 0;
    row->slot = slot;
    memcpy(row->key, key, keys->key_bytes);
    memset(row->key + keys->beside_at, 0, keys->beside_bytes);
    keys->count++;
    return row;
}

static struct rml_key_row *insert(struct rml_keys *keys, uint64_t hash, const void *key)
{
    const struct page *page = page_of(keys, hash);
    uint32_t home = home_of(hash);
    uint32_t far = distance_to_room(page, home);
    while (page->count >= PAGE_KEYS_FULL || far > FAR_MAX) {
        if (!split(keys, hash))
            return NULL;
        page = page_of(keys, hash);
        far = distance_to_room(page, home);
    }
    struct rml_key_row *row = take_row(keys, key);
    if (row != NULL)
        put(keys, page, home, far, row, tag_of(hash));
    return row;
}

static void fetch_buckets(const struct rml_keys *keys, const uint64_t *hashes, uint32_t count,
                          const struct bucket **homes)
{
    for (uint32_t i = 0; i < count; i++) {
        homes[i] = &page_of(keys, hashes[i])->buckets[home_of(hashes[i])];
        __builtin_prefetch(homes[i]);
    }
}

// A row becomes NULL when its home bucket has no such tag.
static void fetch_rows(const struct rml_keys *keys, const uint64_t *hashes, uint32_t count,
                       const struct bucket *const *homes, const struct rml_key_row **rows)
{
    for (uint32_t i = 0; i < count; i++) {
        unsigned found = match(homes[i], &hashes[i]);
        if (found == 0) {
            rows[i] = NULL;
            continue;
        }
        rows[i] = row_at(keys, homes[i]->place[__builtin_ctz(found)]);
        __builtin_prefetch(rows[i]);
    }
}

// What the tag promised is nearly always so; the rest goes the long way, where it also sees keys that
// this very block has inserted.
__attribute__((always_inline)) static inline uint32_t
settle(struct rml_keys *keys, const uint64_t *hashes, const unsigned char *cells,
       uint32_t key_bytes, uint32_t count, const struct rml_key_row *const *rows,
       uint32_t *restrict slots)
{
    uint32_t settled = count;
    for (uint32_t i = 0; i < count; i++) {
        const unsigned char *key = cells + (size_t)i * key_bytes;
        const struct rml_key_row *row = rows[i];
        if (row == NULL || memcmp(row->key, key, key_bytes) != 0) {
            row = find(keys, hashes[i], key);
            if (row == NULL)
                row = insert(keys, hashes[i], key);
            if (row == NULL) {
                slots[i] = RML_NO_SLOT;
                settled = i < settled ? i : settled;
                continue;
            }
        }
        slots[i] = row->slot;
    }
    return settled;
}

uint32_t rml_keys_reach(struct rml_keys *keys, const uint64_t *hashes, const void *key_cells,
                        uint32_t count, uint32_t *restrict slots)
{
    RML_CHECK(count <= RML_KEYS_BLOCK);
    const struct bucket *homes[RML_KEYS_BLOCK];
    const struct rml_key_row *rows[RML_KEYS_BLOCK];
    fetch_buckets(keys, hashes, count, homes);
    fetch_rows(keys, hashes, count, homes, rows);
    // the commonest sizes as constants, compared without a call
    if (keys->key_bytes == 8)
        return settle(keys, hashes, key_cells, 8, count, rows, slots);
    if (keys->key_bytes == 16)
        return settle(keys, hashes, key_cells, 16, count, rows, slots);
    return settle(keys, hashes, key_cells, keys->key_bytes, count, rows, slots);
}

void rml_keys_drop(struct rml_keys *keys, uint32_t slot)
{
    struct rml_key_row *row = rml_keys_row_change(keys, slot);
    RML_CHECK(row->uses == 0);
    uint64_t hash = rml_key_hash_bytes(row->key, keys->key_bytes);
    uint32_t place = place_of(keys, row);
    const struct page *page = page_of(keys, hash);
    uint32_t at = home_of(hash);
    for (uint32_t far = 0; far <= FAR_MAX; far++, at = next_bucket(at)) {
        const struct bucket *bucket = &page->buckets[at];
        for (unsigned found = match(bucket, &hash); found != 0; found &= found - 1) {
            unsigned i = (unsigned)__builtin_ctz(found);
            if (bucket->place[i] != place)
                continue;
            take_out(keys, page, at, i);
            row->uses = keys->free_slot;
            keys->free_slot = slot;
            keys->count--;
            return;
        }
    }
    RML_UNREACHABLE("a slot with a key stands in its page");
}

int rml_keys_open(struct rml_keys *keys, struct rml_pages *pages, uint32_t key_bytes,
                  uint32_t beside_bytes, uint32_t keys_max, struct rml_err *err)
{
    *keys = (struct rml_keys){.pages = pages,
                              .key_bytes = key_bytes,
                              .beside_at = (key_bytes + 3) / 4 * 4,
                              .beside_bytes = beside_bytes,
                              .keys_max = keys_max,
                              .free_slot = SLOTS_END};
    uint32_t row_bytes = beside_bytes > 0 ? keys->beside_at + beside_bytes : key_bytes;
    keys->row_shape = rml_rows_shape((uint32_t)sizeof(struct rml_key_row) + row_bytes);
    if (pages->limit > PAGES_MAX)
        return RML_FAIL(err, -EINVAL, "state_limit: a partition with keys has at most 64 GiB");
    if (keys_max > rml_rows_max(keys->row_shape))
        return RML_FAIL(err, -EINVAL, "max_keys %u: keys of %u bytes allow %llu", keys_max,
                        key_bytes, (unsigned long long)rml_rows_max(keys->row_shape));

    // Reserved for the deepest directory, touched as it doubles.
    void *directory = mmap(NULL, sizeof(uint32_t) << DEPTH_MAX, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (directory == MAP_FAILED)
        return RML_FAIL(err, -ENOMEM, "no address space for a key directory: %s", strerror(errno));
    keys->directory = directory;
    keys->directory[0] = rml_pages_take(pages);
    if (keys->directory[0] == RML_NO_PAGE) {
        rml_keys_close(keys);
        return RML_FAIL(err, -ENOMEM, "state_limit leaves no page for keys");
    }
    return 0;
}

void rml_keys_roots(struct rml_keys *keys, struct rml_roots *roots)
{
    rml_roots_same(roots, keys->key_bytes);
    rml_roots_same(roots, keys->beside_bytes);
    rml_roots_count(roots, &keys->depth, DEPTH_MAX);
    rml_roots_walk(roots, keys->directory, sizeof(uint32_t) << keys->depth);
    RML_ROOTS_WALK(roots, keys->count);
    RML_ROOTS_WALK(roots, keys->slots_used);
    RML_ROOTS_WALK(roots, keys->free_slot);
    RML_ROOTS_WALK(roots, keys->rows);
}

void rml_keys_close(struct rml_keys *keys)
{
    if (keys->directory != NULL)
        munmap(keys->directory, sizeof(uint32_t) << DEPTH_MAX);
    *keys = (struct rml_keys){0};
}
