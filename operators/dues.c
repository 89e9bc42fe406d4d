#include "operators/dues.h"

#include <string.h>

#include "runtime/state/roots.h"
#include "runtime/time/time.h"

#define NO_BLOCK      0u
#define BLOCK_ENTRIES 15u

// Entries of one bucket. Of a bucket's blocks only the first may have places left.
struct block {
    uint32_t next;  // of its bucket, or of the free ones
    uint32_t count;
    struct rml_due due[BLOCK_ENTRIES];
};

_Static_assert(sizeof(struct block) <= RML_PAGE_GRANULE_BYTES,
               "to change one is to change one granule");

void rml_dues_init(struct rml_dues *dues, struct rml_pages *pages, int64_t width_ns)
{
    uint32_t width_log = 1;
    while (width_log < 62 && INT64_C(1) << width_log < width_ns)
        width_log++;
    *dues = (struct rml_dues){
        .pages = pages,
        .width_log = width_log,
        .opened = INT64_MIN,
        .next = RML_TIME_END,
        .block_shape = rml_rows_shape(RML_PAGE_GRANULE_BYTES),
        .heap_shape = rml_rows_shape(sizeof(struct rml_due)),
        .fresh_block = NO_BLOCK + 1,
    };
}

void rml_dues_clear(struct rml_dues *dues)
{
    rml_rows_clear(&dues->blocks, dues->pages);
    rml_rows_clear(&dues->heap, dues->pages);
    rml_dues_init(dues, dues->pages, INT64_C(1) << dues->width_log);
}

void rml_dues_roots(struct rml_dues *dues, struct rml_roots *roots)
{
    rml_roots_same(roots, dues->width_log);
    RML_ROOTS_WALK(roots, dues->opened);
    RML_ROOTS_WALK(roots, dues->next);
    RML_ROOTS_WALK(roots, dues->blocks);
    RML_ROOTS_WALK(roots, dues->fresh_block);
    RML_ROOTS_WALK(roots, dues->free_block);
    RML_ROOTS_WALK(roots, dues->waiting);
    RML_ROOTS_WALK(roots, dues->heads);
    RML_ROOTS_WALK(roots, dues->heap);
    RML_ROOTS_WALK(roots, dues->heap_count);
    RML_ROOTS_WALK(roots, dues->room);
}

static const struct block *block_at(const struct rml_dues *dues, uint32_t number)
{
    return rml_rows_known(&dues->blocks, dues->pages, dues->block_shape, number);
}

static struct block *change_block(struct rml_dues *dues, uint32_t number)
{
    return rml_rows_change(&dues->blocks, dues->pages, dues->block_shape, number);
}

static const struct rml_due *heap_at(const struct rml_dues *dues, uint32_t place)
{
    return rml_rows_known(&dues->heap, dues->pages, dues->heap_shape, place);
}

static void set_heap(struct rml_dues *dues, uint32_t place, const struct rml_due *due)
{
    struct rml_due *to = rml_rows_change(&dues->heap, dues->pages, dues->heap_shape, place);
    *to = *due;
}

// Blocks that so many entries take up at most, however they fall into buckets.
static uint32_t blocks_for(uint32_t entries)
{
    return entries / BLOCK_ENTRIES + (entries < RML_DUES_BUCKETS ? entries : RML_DUES_BUCKETS);
}

// Every entry can come into the heap, and from there into a bucket again: there is always a place for
// each of them here and there.
bool rml_dues_has_room(struct rml_dues *dues)
{
    uint32_t entries = dues->heap_count + dues->waiting;
    if (entries < dues->room)
        return true;
    if (entries >= rml_rows_max(dues->heap_shape)
        || blocks_for(entries + 1) >= rml_rows_max(dues->block_shape)
        || rml_rows_reach(&dues->heap, dues->pages, dues->heap_shape, entries) == NULL)
        return false;
    for (uint32_t b = blocks_for(entries) + 1; b <= blocks_for(entries + 1); b++) {
        if (rml_rows_reach(&dues->blocks, dues->pages, dues->block_shape, b) == NULL)
            return false;
    }
    dues->room = entries + 1;
    return true;
}

static bool is_before(const struct rml_due *a, const struct rml_due *b)
{
    return a->at != b->at ? a->at < b->at : a->number < b->number;
}

void rml_dues_keep(struct rml_dues *dues, struct rml_due due)
{
    uint32_t place = dues->heap_count++;
    while (place > 0) {
        const struct rml_due *parent = heap_at(dues, (place - 1) / 2);
        if (!is_before(&due, parent))
            break;
        set_heap(dues, place, parent);
        place = (place - 1) / 2;
    }
    set_heap(dues, place, &due);
    dues->next = due.at < dues->next ? due.at : dues->next;
}

static int64_t bucket_of(const struct rml_dues *dues, int64_t time)
{
    return time >> dues->width_log;  // rounds down, below 0 too
}

static int64_t begin_of(const struct rml_dues *dues, int64_t bucket)
{
    return bucket * (INT64_C(1) << dues->width_log);
}

// A block without entries before the first of a bucket.
static struct block *add_block(struct rml_dues *dues, uint32_t *head)
{
    uint32_t number = dues->free_block != NO_BLOCK ? dues->free_block : dues->fresh_block++;
    struct block *block = change_block(dues, number);
    if (number == dues->free_block)
        dues->free_block = block->next;
    block->next = *head;
    block->count = 0;
    *head = number;
    return block;
}

void rml_dues_put(struct rml_dues *dues, struct rml_due due)
{
    int64_t bucket = bucket_of(dues, due.at);
    // Never back: what is due by now must not wait in a bucket that was passed.
    if (rml_dues_is_empty(dues) && bucket > dues->opened)
        dues->opened = bucket;
    if (bucket < dues->opened || bucket - dues->opened >= RML_DUES_BUCKETS) {
        rml_dues_keep(dues, due);
        return;
    }
    uint32_t *head = &dues->heads[(uint64_t)bucket & (RML_DUES_BUCKETS - 1)];
    struct block *block = *head != NO_BLOCK && block_at(dues, *head)->count < BLOCK_ENTRIES
                              ? change_block(dues, *head)
                              : add_block(dues, head);
    block->due[block->count++] = due;
    dues->waiting++;
    int64_t begins = begin_of(dues, bucket);
    dues->next = begins < dues->next ? begins : dues->next;
}

// Where the first bucket with entries begins, or the least of the heap if that is earlier.
static void find_next(struct rml_dues *dues)
{
    dues->next = dues->heap_count > 0 ? heap_at(dues, 0)->at : RML_TIME_END;
    if (dues->waiting == 0)
        return;
    int64_t bucket = dues->opened;
    while (dues->heads[(uint64_t)bucket & (RML_DUES_BUCKETS - 1)] == NO_BLOCK)
        bucket++;
    int64_t begins = begin_of(dues, bucket);
    dues->next = begins < dues->next ? begins : dues->next;
}

uint32_t rml_dues_open(struct rml_dues *dues, int64_t now, struct rml_due due[RML_DUES_OPEN])
{
    int64_t last = bucket_of(dues, now);
    uint32_t count = 0;
    for (; dues->waiting > 0 && dues->opened <= last; dues->opened++) {
        uint32_t *head = &dues->heads[(uint64_t)dues->opened & (RML_DUES_BUCKETS - 1)];
        while (*head != NO_BLOCK) {
            if (count + BLOCK_ENTRIES > RML_DUES_OPEN)
                return count;
            uint32_t number = *head;
            struct block *block = change_block(dues, number);
            memcpy(&due[count], block->due, block->count * sizeof due[0]);
            count += block->count;
            dues->waiting -= block->count;
            *head = block->next;
            block->next = dues->free_block;
            dues->free_block = number;
        }
    }
    dues->opened = last + 1 > dues->opened ? last + 1 : dues->opened;
    return count;
}

static void drop_least(struct rml_dues *dues)
{
    const struct rml_due moved = *heap_at(dues, --dues->heap_count);
    uint32_t place = 0;
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= dues->heap_count)
            break;
        if (child + 1 < dues->heap_count
            && is_before(heap_at(dues, child + 1), heap_at(dues, child)))
            child++;
        if (!is_before(heap_at(dues, child), &moved))
            break;
        set_heap(dues, place, heap_at(dues, child));
        place = child;
    }
    if (dues->heap_count > 0)
        set_heap(dues, place, &moved);
}

bool rml_dues_take(struct rml_dues *dues, int64_t now, struct rml_due *ret_due)
{
    if (dues->heap_count == 0 || heap_at(dues, 0)->at > now) {
        find_next(dues);
        return false;
    }
    *ret_due = *heap_at(dues, 0);
    drop_least(dues);
    return true;
}
