#include "operators/dues.h"

#include <string.h>

#include "runtime/time/time.h"

#define NO_NODE 0u

struct node {
    struct rml_due due;
    uint32_t next;  // in its bucket, or among the free ones
    uint32_t unused;
};

void rml_dues_init(struct rml_dues *dues, struct rml_pages *pages, int64_t width_ns)
{
    *dues = (struct rml_dues){
        .pages = pages,
        .width_ns = width_ns > 2 ? width_ns : 2,
        .opened = INT64_MIN,
        .next = RML_TIME_END,
        .node_shape = rml_rows_shape(sizeof(struct node)),
        .heap_shape = rml_rows_shape(sizeof(struct rml_due)),
        .fresh_node = NO_NODE + 1,
    };
}

void rml_dues_clear(struct rml_dues *dues)
{
    rml_rows_clear(&dues->nodes, dues->pages);
    rml_rows_clear(&dues->heap, dues->pages);
    rml_dues_init(dues, dues->pages, dues->width_ns);
}

static struct node *change_node(struct rml_dues *dues, uint32_t number)
{
    return rml_rows_change(&dues->nodes, dues->pages, dues->node_shape, number);
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

// Every entry can come into the heap, and from there into a bucket again: there is a place and a node
// for each of them, always.
bool rml_dues_has_room(struct rml_dues *dues)
{
    uint32_t entries = dues->heap_count + dues->waiting;
    return entries < rml_rows_max(dues->heap_shape) && entries + 1 < rml_rows_max(dues->node_shape)
           && rml_rows_reach(&dues->heap, dues->pages, dues->heap_shape, entries) != NULL
           && rml_rows_reach(&dues->nodes, dues->pages, dues->node_shape, entries + 1) != NULL;
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
    return rml_time_floor_div(time, dues->width_ns);
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
    uint32_t number = dues->free_node != NO_NODE ? dues->free_node : dues->fresh_node++;
    struct node *node = change_node(dues, number);
    if (number == dues->free_node)
        dues->free_node = node->next;
    uint32_t *head = &dues->heads[(uint64_t)bucket & (RML_DUES_BUCKETS - 1)];
    *node = (struct node){.due = due, .next = *head};
    *head = number;
    dues->waiting++;
    int64_t begins = bucket * dues->width_ns;
    dues->next = begins < dues->next ? begins : dues->next;
}

// Where the first bucket with entries begins, or the least of the heap if that is earlier.
static void find_next(struct rml_dues *dues)
{
    dues->next = dues->heap_count > 0 ? heap_at(dues, 0)->at : RML_TIME_END;
    if (dues->waiting == 0)
        return;
    int64_t bucket = dues->opened;
    while (dues->heads[(uint64_t)bucket & (RML_DUES_BUCKETS - 1)] == NO_NODE)
        bucket++;
    int64_t begins = bucket * dues->width_ns;
    dues->next = begins < dues->next ? begins : dues->next;
}

bool rml_dues_open(struct rml_dues *dues, int64_t now, struct rml_due *ret_due)
{
    int64_t last = bucket_of(dues, now);
    for (; dues->waiting > 0 && dues->opened <= last; dues->opened++) {
        uint32_t *head = &dues->heads[(uint64_t)dues->opened & (RML_DUES_BUCKETS - 1)];
        if (*head == NO_NODE)
            continue;
        uint32_t number = *head;
        struct node *node = change_node(dues, number);
        *ret_due = node->due;
        *head = node->next;
        node->next = dues->free_node;
        dues->free_node = number;
        dues->waiting--;
        return true;
    }
    dues->opened = last + 1 > dues->opened ? last + 1 : dues->opened;
    return false;
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
