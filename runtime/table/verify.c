#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/checkpoints.h"
#include "runtime/table/results.h"
#include "runtime/time/time.h"

struct counting {
    void (*complain)(void *context, const char *sentence);
    void *context;
    uint64_t rows;
    int damages;
};

static int count_row(void *context, const struct rml_shape_head *head, const void *record)
{
    struct counting *counting = context;
    (void)head, (void)record;
    counting->rows++;
    return 0;
}

static void count_damage(void *context, const char *sentence)
{
    struct counting *counting = context;
    counting->damages++;
    counting->complain(counting->context, sentence);
}

// How many commits the catalog has had; 0: it cannot be read.
static uint64_t commits(struct rml_checkpoints *checkpoints)
{
    struct rml_catalog_view *view;
    if (rml_catalog_look(rml_checkpoints_catalog(checkpoints), &view, NULL) < 0)
        return 0;
    uint64_t count = rml_catalog_view_head(view)->commits;
    rml_catalog_view_close(view);
    return count;
}

int rml_results_verify(struct rml_checkpoints *checkpoints, const char *name,
                       void (*complain)(void *context, const char *sentence), void *context,
                       uint64_t *ret_rows, struct rml_err *err)
{
    struct rml_shape shape;
    struct rml_shape_state state;
    struct counting counting = {.complain = complain, .context = context};
    uint64_t before = commits(checkpoints);
    int rc = rml_results_find(checkpoints, name, &shape, &state, err);
    if (rc < 0)
        return rc;
    const struct rml_results_query query = {.shape = &shape,
                                            .from = RML_TIME_NONE,
                                            .to = RML_TIME_END,
                                            .row = count_row,
                                            .damage = count_damage,
                                            .context = &counting};
    rc = rml_results_read(checkpoints, &query, err);
    if (rc < 0)
        return rc;
    // a row that is damaged is one all the same
    if (counting.damages == 0 && counting.rows != state.rows && before == commits(checkpoints)) {
        char sentence[200];
        snprintf(sentence, sizeof sentence,
                 "table %s: it should have %" PRIu64 " rows, and %" PRIu64 " can be found", name,
                 state.rows, counting.rows);
        count_damage(&counting, sentence);
    }
    *ret_rows = counting.rows;
    return counting.damages;
}
