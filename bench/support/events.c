#include "bench/support/events.h"

#include <math.h>

#include "runtime/base/hash.h"

static uint64_t chance(uint64_t number)
{
    return rml_key_hash_bytes(&number, sizeof number);
}

// In [0, 1).
static double fraction(uint64_t number)
{
    return (double)(chance(number) >> 11) * 0x1p-53;
}

void bench_events_fill(struct bench_event *events, uint32_t count, uint32_t keys, bool zipf,
                       int64_t span_ns)
{
    double log_all = log((double)keys + 1);
    for (uint32_t i = 0; i < count; i++) {
        double u = fraction(UINT64_C(2) * i);
        uint64_t rank = zipf ? (uint64_t)exp(u * log_all) - 1 : (uint64_t)(u * keys);
        events[i] = (struct bench_event){
            .ts = (int64_t)((double)span_ns / count * i),
            .key = chance(~(rank < keys ? rank : keys - 1)),
            .value = fraction(UINT64_C(2) * i + 1) * 1000,
            .id = i,
        };
    }
}

void bench_events_shift(struct bench_event *events, uint32_t count, int64_t by_ns)
{
    for (uint32_t i = 0; i < count; i++)
        events[i].ts += by_ns;
}
