/*
 * means - a plug-in with two aggregate functions: the geometric mean, and the mean weighted by another column.
 *
 *     cc -O2 -fPIC -shared -fvisibility=hidden means.c $(pkg-config --cflags ringmill) -lm -o means.so
 *
 * and in a pipeline file beside it
 *
 *     plugins: ./means.so
 *     ...
 *     aggregate: {usual_ms: geomean(latency_ms), per_token: 'wmean(latency_ms, tokens)'}
 */
#include <math.h>
#include <ringmill/plugin.h>

/* The geometric mean: the exponential of the logarithms' mean. Of a value that is not above 0 there is none. */
struct geomean {
    double logs;    // of values
    uint64_t none;  // values without a logarithm
};

static uint32_t geomean_add(const struct rml_plugin_call *call,
                            const struct rml_plugin_block *block)
{
    const double *x = block->columns[0];
    (void)call;
    for (uint32_t i = 0; i < block->count; i++) {
        struct geomean *state = block->states[i];
        if (x[block->rows[i]] > 0)
            state->logs += log(x[block->rows[i]]);
        else
            state->none++;
    }
    return block->count;
}

static int geomean_merge(const struct rml_plugin_call *call, void *into, uint32_t into_bytes,
                         const void *from, uint32_t from_bytes)
{
    struct geomean *a = into;
    const struct geomean *b = from;
    (void)call, (void)into_bytes, (void)from_bytes;
    a->logs += b->logs;
    a->none += b->none;
    return 1;
}

static int geomean_finish(const struct rml_plugin_call *call, const void *state,
                          const struct rml_plugin_window *window, void *cell)
{
    const struct geomean *s = state;
    (void)call;
    *(double *)cell = exp(s->logs / (double)window->values);
    return s->none == 0;
}

/* The mean of x, each weighted by w; a third argument, a constant, is added to every weight. */
struct wmean {
    double weighted, weights;
};

static uint32_t wmean_add(const struct rml_plugin_call *call, const struct rml_plugin_block *block)
{
    const double *x = block->columns[0], *w = block->columns[1];
    double more = call->parameter_count > 0 ? call->parameters[0] : 0;
    for (uint32_t i = 0; i < block->count; i++) {
        struct wmean *state = block->states[i];
        double weight = w[block->rows[i]] + more;
        state->weighted += weight * x[block->rows[i]];
        state->weights += weight;
    }
    return block->count;
}

static int wmean_merge(const struct rml_plugin_call *call, void *into, uint32_t into_bytes,
                       const void *from, uint32_t from_bytes)
{
    struct wmean *a = into;
    const struct wmean *b = from;
    (void)call, (void)into_bytes, (void)from_bytes;
    a->weighted += b->weighted;
    a->weights += b->weights;
    return 1;
}

static int wmean_finish(const struct rml_plugin_call *call, const void *state,
                        const struct rml_plugin_window *window, void *cell)
{
    const struct wmean *s = state;
    (void)call;
    (void)window;
    *(double *)cell = s->weighted / s->weights;  // 0 / 0 is NaN, and so null
    return 1;
}

static const struct rml_plugin_aggregate functions[] = {
    {.name = "geomean",
     .sentence = "geomean(x): geometric mean; null if a value is not above 0.",
     .argument_count = 1,
     .takes = {RML_PLUGIN_FLOAT},
     .gives = RML_PLUGIN_GIVES_F64,
     .state_bytes = sizeof(struct geomean),
     .add = geomean_add,
     .merge = geomean_merge,
     .finish = geomean_finish},
    {.name = "wmean",
     .sentence = "wmean(x, w): mean weighted by w; wmean(x, w, more): by w + more.",
     .argument_count = 2,
     .takes = {RML_PLUGIN_FLOAT, RML_PLUGIN_FLOAT},
     .parameters_most = 1,
     .gives = RML_PLUGIN_GIVES_F64,
     .state_bytes = sizeof(struct wmean),
     .add = wmean_add,
     .merge = wmean_merge,
     .finish = wmean_finish},
};

const struct rml_plugin rml_plugin = RML_PLUGIN(functions);
