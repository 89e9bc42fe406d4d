#include "runtime/lane/attached.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/err.h"

#define WAIT_NS_DEFAULT 10000000000

void rml_attached_init(struct rml_attached *lane, const struct rml_lane_geometry *geometry,
                       const struct rml_lane_fds *fds, int room_fd, int peer_fd)
{
    *lane = (struct rml_attached){
        .geometry = *geometry,
        .route = rml_route_kind(geometry),
        .records = RML_SEGMENT_CLOSED,
        .returns = RML_SEGMENT_CLOSED,
        .fds = *fds,
        .knock = {.room = room_fd, .peer = peer_fd, .wait_max_ns = WAIT_NS_DEFAULT},
    };
}

int rml_attached_open(struct rml_attached *lane, struct rml_err *err)
{
    const struct rml_lane_layout layout = rml_lane_layout(&lane->geometry);
    int rc = rml_segment_attach(&lane->records, lane->fds.records, layout.records_bytes, true, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "records");
    rc = rml_segment_attach(&lane->returns, lane->fds.returns, layout.returns_bytes, false, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "returns");
    lane->lines = rml_lane_record_lines(lane->records.memory);
    lane->head = rml_lane_return_head(lane->returns.memory);
    lane->ringing.sleepers = rml_lane_sleep_lines(lane->returns.memory, lane->geometry.partitions);
    lane->ringing.wake = lane->fds.wake;
    lane->ringing.workers = lane->geometry.workers;
    return 0;
}

void rml_attached_close(struct rml_attached *lane)
{
    rml_segment_close(&lane->returns);
    rml_segment_close(&lane->records);
}

static const char died[RML_LANE_TEXT] = "the pipeline died";

int rml_attached_state(const struct rml_attached *lane, uint32_t *ret_code, char *text)
{
    // total order: as rml_attached_look
    uint32_t state = atomic_load_explicit(&lane->head->state, memory_order_seq_cst);
    bool is_told = state != RML_LANE_ATTACHED;
    if (!is_told && !lane->knock.is_gone)
        return 0;
    if (ret_code != NULL)
        *ret_code = is_told ? lane->head->code : EOWNERDEAD;
    if (text != NULL)
        memcpy(text, is_told ? lane->head->text : died, RML_LANE_TEXT);
    return -EPIPE;
}
