#include "bench/support/ideal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)2 << 20)
#define AHEAD      32u  // events whose line is on its way

struct bench_ideal_slot {
    _Alignas(64) uint64_t key;
    uint64_t count;  // 0: empty
    double sum, lost, least, greatest;
};

static void *large_pages(size_t bytes)
{
    void *memory = aligned_alloc(HUGE_BYTES, (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES);
    if (memory != NULL) {
        (void)madvise(memory, bytes, MADV_HUGEPAGE);
        memset(memory, 0, bytes);
    }
    return memory;
}

int bench_ideal_open(struct bench_ideal *ideal, uint32_t keys, int64_t window_ns)
{
    *ideal = (struct bench_ideal){.window_ns = window_ns, .log_slots = 1};
    while ((1u << ideal->log_slots) < 4 * keys)
        ideal->log_slots++;
    ideal->slots = large_pages(sizeof *ideal->slots << ideal->log_slots);
    ideal->rows = large_pages(sizeof *ideal->rows * keys);
    if (ideal->slots != NULL && ideal->rows != NULL)
        return 0;
    bench_ideal_close(ideal);
    return -ENOMEM;
}

void bench_ideal_close(struct bench_ideal *ideal)
{
    free(ideal->slots);
    free(ideal->rows);
    *ideal = (struct bench_ideal){0};
}

static void end_window(struct bench_ideal *ideal)
{
    struct bench_row *row = ideal->rows;
    for (uint32_t i = 0; i < 1u << ideal->log_slots; i++) {
        struct bench_ideal_slot *slot = &ideal->slots[i];
        if (slot->count == 0)
            continue;
        double sum = slot->sum + slot->lost;
        *row++ = (struct bench_row){.start = ideal->start,
                                    .end = ideal->start + ideal->window_ns,
                                    .key = slot->key,
                                    .count = slot->count,
                                    .sum = sum,
                                    .mean = sum / (double)slot->count,
                                    .least = slot->least,
                                    .greatest = slot->greatest};
        slot->count = 0;
    }
    ideal->row_count = (uint32_t)(row - ideal->rows);
}

static inline struct bench_ideal_slot *home_of(const struct bench_ideal *ideal, uint64_t key)
{
    return &ideal->slots[key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - ideal->log_slots)];
}

static inline struct bench_ideal_slot *find(const struct bench_ideal *ideal, uint64_t key)
{
    struct bench_ideal_slot *slot = home_of(ideal, key);
    struct bench_ideal_slot *end = ideal->slots + ((size_t)1 << ideal->log_slots);
    while (slot->count != 0 && slot->key != key)
        slot = slot + 1 < end ? slot + 1 : ideal->slots;
    return slot;
}

static inline void add(struct bench_ideal_slot *slot, const struct bench_event *event)
{
    double x = event->value;
    if (slot->count == 0)
        *slot = (struct bench_ideal_slot){
            .key = event->key, .least = (double)INFINITY, .greatest = -(double)INFINITY};
    slot->count++;
    double total = slot->sum + x, added = total - slot->sum;
    slot->lost += (slot->sum - (total - added)) + (x - added);  // what rounding took
    slot->sum = total;
    slot->least = x < slot->least ? x : slot->least;
    slot->greatest = x > slot->greatest ? x : slot->greatest;
}

// Events of the open window.
static void take_here(const struct bench_ideal *ideal, const struct bench_event *events,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count && i < AHEAD; i++)
        __builtin_prefetch(home_of(ideal, events[i].key), 1);
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(home_of(ideal, events[i + AHEAD].key), 1);
        add(find(ideal, events[i].key), &events[i]);
    }
}

// The first event that is not in the open window.
static uint32_t end_of_here(const struct bench_ideal *ideal, const struct bench_event *events,
                            uint32_t count)
{
    int64_t end = ideal->start + ideal->window_ns;
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (events[middle].ts < end)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void bench_ideal_take(struct bench_ideal *ideal, const struct bench_event *events, uint32_t count)
{
    while (count > 0) {
        uint32_t here = end_of_here(ideal, events, count);
        take_here(ideal, events, here);
        events += here;
        count -= here;
        if (count > 0) {
            end_window(ideal);
            ideal->start = events->ts - events->ts % ideal->window_ns;
        }
    }
}
