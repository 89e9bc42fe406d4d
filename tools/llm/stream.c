#include "tools/llm/stream.h"

#include <math.h>
#include <string.h>

#define PI           3.14159265358979323846
#define DAY_NS       INT64_C(8000000000)
#define BAD_NS       INT64_C(500000000)  // how long a model has a bad time
#define DELAY_MEAN_S 0.012

struct model {
    const char *name;
    double first_ms;      // until the first token, the median
    double per_token_ms;  // the median
    double tokens;        // the median
};

/* The most popular first. */
static const struct model models[LLM_MODELS] = {
    {"swift-small", 90, 3, 160},   {"swift-medium", 160, 5, 240}, {"oak-large", 320, 9, 420},
    {"swift-mini", 60, 2, 90},     {"oak-code", 240, 7, 600},     {"heron-7b", 120, 4, 200},
    {"heron-70b", 420, 12, 380},   {"oak-vision", 600, 10, 260},  {"lark-embed", 25, 0.05, 512},
    {"lark-rerank", 30, 0.1, 256}, {"oak-reason", 1500, 9, 2400}, {"heron-chat", 130, 4, 180},
};

/* splitmix64: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators",
 * OOPSLA 2014. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t next(struct llm_stream *stream)
{
    return mix(stream->random++);
}

/* In (0, 1]. */
static double uniform(struct llm_stream *stream)
{
    return (double)((next(stream) >> 11) + 1) * 0x1p-53;
}

/* Two at a time: G. E. P. Box, M. E. Muller, "A note on the generation of random normal deviates", 1958. */
static double normal(struct llm_stream *stream)
{
    if (stream->has_spare) {
        stream->has_spare = 0;
        return stream->spare_normal;
    }
    double radius = sqrt(-2 * log(uniform(stream)));
    double angle = 2 * PI * uniform(stream);
    stream->spare_normal = radius * sin(angle);
    stream->has_spare = 1;
    return radius * cos(angle);
}

void llm_stream_init(struct llm_stream *stream, uint64_t seed, uint32_t number)
{
    *stream = (struct llm_stream){
        .seed = seed, .random = mix(mix(seed) + number), .first_id = (uint64_t)number << 40};
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < LLM_MODELS; i++)
        total += 1 / (double)(i + 1);
    for (uint32_t i = 0; i < LLM_MODELS; i++) {
        sum += 1 / (double)(i + 1);
        stream->share[i] = (uint32_t)(sum / total * (double)UINT32_MAX);
    }
}

static uint32_t pick_model(struct llm_stream *stream)
{
    uint32_t point = (uint32_t)(next(stream) >> 32);
    uint32_t model = 0;
    while (model + 1 < LLM_MODELS && point > stream->share[model])
        model++;
    return model;
}

/* One in sixteen half-seconds of a model is bad. */
static int is_bad_time(const struct llm_stream *stream, uint32_t model, int64_t now_ns)
{
    return mix(stream->seed ^ mix((uint64_t)(now_ns / BAD_NS) * LLM_MODELS + model)) >> 60 == 0;
}

static uint16_t pick_status(struct llm_stream *stream, uint32_t model, int64_t now_ns)
{
    uint32_t chance = (uint32_t)(next(stream) >> 32) / 4294968;  // 0 to 999
    if (chance < 4)
        return 0;
    if (chance < 7 || (chance < 350 && is_bad_time(stream, model, now_ns)))
        return chance % 2 == 0 ? 429 : 503;
    return 200;
}

void llm_stream_next(struct llm_stream *stream, int64_t now_ns, struct llm_call *call)
{
    uint32_t index = pick_model(stream);
    const struct model *model = &models[index];
    int64_t delay_ns = (int64_t)(-log(uniform(stream)) * DELAY_MEAN_S * 1e9);
    memset(call, 0, sizeof *call);
    call->ts = now_ns - (delay_ns < LLM_DELAY_MAX_NS ? delay_ns : LLM_DELAY_MAX_NS);
    call->request_id = stream->first_id + stream->count++;
    strncpy(call->model, model->name, sizeof call->model - 1);
    call->status = pick_status(stream, index, now_ns);
    double tokens = call->status == 200 ? 1 + floor(model->tokens * exp(0.5 * normal(stream))) : 0;
    call->tokens = (uint32_t)tokens;
    call->latency_ms =
        (float)((model->first_ms + model->per_token_ms * tokens) * exp(0.25 * normal(stream)));
}

double llm_stream_load(int64_t now_ns)
{
    return 1 + 0.4 * sin(2 * PI * (double)(now_ns % DAY_NS) / (double)DAY_NS);
}
