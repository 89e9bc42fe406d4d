/*
 * stream - calls to language models as a gateway might see them, made from a seed.
 *
 * A few models take most of the calls (Zipf), answers take long now and then (log-normal, longer for
 * more tokens), a model has bad half-seconds in which a third of its calls fail, some clients go
 * away, and an answer is reported a little after it was complete, so that times come out of order.
 * Load rises and falls like days do, only that a day takes eight seconds. What happens at one moment
 * depends on the seed and the wall clock alone, so that producers with one seed have the same bad
 * half-seconds and days.
 */
#ifndef RML_LLM_STREAM_H
#define RML_LLM_STREAM_H

#include <stdint.h>

#include "llm.h"  // made by `ringmill gen header` from docs/examples/llm.yaml

#define LLM_MODELS       12u
#define LLM_DELAY_MAX_NS INT64_C(150000000)  // of a report; the pipeline waits for 200 ms

struct llm_stream {
    uint64_t seed;
    uint64_t random;             // state of this producer's own numbers
    uint64_t count;              // calls made
    uint64_t first_id;           // request ids go up from here
    uint32_t share[LLM_MODELS];  // of all calls, model i and those before it, out of 2^32
    double spare_normal;         // made in pairs
    int has_spare;
};

/* `number` tells producers of one seed apart. */
void llm_stream_init(struct llm_stream *stream, uint64_t seed, uint32_t number);

/* One call that is reported at `now_ns` of the wall clock. */
void llm_stream_next(struct llm_stream *stream, int64_t now_ns, struct llm_call *call);

/* How many times the average rate there is at `now_ns`: around 1, between 0.6 and 1.4. */
double llm_stream_load(int64_t now_ns);

#endif
