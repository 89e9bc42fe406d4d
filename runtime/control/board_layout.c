#include "runtime/control/board_state.h"

static uint64_t place(uint64_t *used, uint64_t count, size_t bytes)
{
    uint64_t at = (*used + 63) / 64 * 64;
    *used = at + count * bytes;
    return at;
}

struct rml_board_places rml_board_places(const struct rml_board_head *head)
{
    struct rml_board_places p;
    uint64_t used = sizeof *head;
    uint64_t partitions = head->partitions;
    p.sources = place(&used, head->sources, sizeof(struct rml_board_source));
    p.stages = place(&used, head->stages, sizeof(struct rml_board_stage));
    p.sinks = place(&used, head->sinks, sizeof(struct rml_board_sink));
    p.schemas =
        place(&used, (uint64_t)head->sources + head->stages, sizeof(struct rml_board_schema));
    p.workers = place(&used, head->workers, sizeof(struct rml_board_worker));
    p.lanes = place(&used, head->lanes_max, rml_board_slot_bytes(sizeof(struct rml_board_lane)));
    p.death = place(&used, 1, rml_board_slot_bytes(sizeof(struct rml_board_death)));
    p.saves = place(&used, 1, rml_board_slot_bytes(sizeof(struct rml_board_saves)));
    p.journal = place(&used, 1, rml_board_slot_bytes(sizeof(struct rml_board_journal)));
    p.groups =
        place(&used, RML_BOARD_GROUPS_MAX, rml_board_slot_bytes(sizeof(struct rml_board_group)));
    p.members =
        place(&used, RML_BOARD_MEMBERS_MAX, rml_board_slot_bytes(sizeof(struct rml_board_member)));
    p.stage_counts = place(&used, partitions * head->stages, sizeof(struct rml_stage_counts));
    p.source_counts = place(&used, partitions * head->sources, sizeof(struct rml_source_counts));
    p.worker_counts = place(&used, head->workers, sizeof(struct rml_worker_counts));
    p.sink_counts = place(&used, head->sinks, sizeof(struct rml_sink_counts));
    p.bytes = (used + 63) / 64 * 64;
    return p;
}

void rml_board_point(struct rml_board *board, const struct rml_board_places *p)
{
    unsigned char *memory = board->segment.memory;
    board->live = board->segment.memory;
    board->live_sources = (void *)(memory + p->sources);
    if (board->frozen != NULL)
        memory = board->frozen;
    board->head = (void *)memory;
    board->sources = (void *)(memory + p->sources);
    board->stages = (void *)(memory + p->stages);
    board->sinks = (void *)(memory + p->sinks);
    board->schemas = (void *)(memory + p->schemas);
    memory = board->segment.memory;
    board->workers = (void *)(memory + p->workers);
    board->lanes = (void *)(memory + p->lanes);
    board->death = (void *)(memory + p->death);
    board->saves = (void *)(memory + p->saves);
    board->journal = (void *)(memory + p->journal);
    board->groups = (void *)(memory + p->groups);
    board->members = (void *)(memory + p->members);
    board->stage_counts = (void *)(memory + p->stage_counts);
    board->source_counts = (void *)(memory + p->source_counts);
    board->worker_counts = (void *)(memory + p->worker_counts);
    board->sink_counts = (void *)(memory + p->sink_counts);
}
