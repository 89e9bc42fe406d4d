/*
 * board - what the engine shows of itself: one segment that it writes and anyone let in may read.
 *
 * Names and numbers of the plan, the counters where the workers count them, and a row for each lane.
 * The engine opens a board, `ringctl` attaches to it; both know its layout from the same few numbers
 * in its head, and a board of another version is refused.
 *
 *     head | sources | stages | sinks | schemas | workers | lane rows | death | saves | journal
 *          | groups | members | counters: stage, source, worker, sink
 *
 * board_state.h says which of the files beside this one does what.
 */
#ifndef RML_CONTROL_BOARD_H
#define RML_CONTROL_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/observe/counters.h"
#include "runtime/plan/plan.h"
#include "runtime/segment/segment.h"
#include "runtime/time/clock.h"

struct rml_err;
struct rml_keeping;
struct rml_memory;

#define RML_BOARD_MAGIC   0x72a9b0a7u
#define RML_BOARD_VERSION 10
#define RML_BOARD_NAME    (RML_NAME_MAX + 1)
#define RML_BOARD_PATH    256
#define RML_BOARD_WHY     328
#define RML_BOARD_STATE   4096

/* Ends that somebody asked for: bits. */
enum rml_board_wanted_end { RML_BOARD_DRAIN = 1, RML_BOARD_STOP = 2 };

enum rml_board_state {
    RML_BOARD_STARTING,
    RML_BOARD_RUNNING,
    RML_BOARD_DRAINING,  // takes what was published, then ends
    RML_BOARD_ENDED,
    RML_BOARD_RESTARTING,  // the engine has died, and there will be another
};

struct rml_board_head {
    _Atomic uint32_t magic;  // the last to be written
    uint32_t version;
    uint64_t bytes;
    uint32_t sources, stages, sinks, workers, partitions, lanes_max;
    uint32_t stage_counters, source_counters, worker_counters, sink_counters;
    uint32_t pid, uid;  // of the process to be signalled: the engine's keeper, or the engine
    int64_t start_ns;   // wall clock; of the first engine
    int64_t start_monotonic_ns;  // likewise; the wall clock may be set meanwhile
    uint64_t epoch;              // likewise
    char pipeline[RML_BOARD_NAME];
    char path
        [RML_BOARD_PATH];  // whole path of the pipeline file, cut at its beginning where it is longer
    char state_folder[RML_BOARD_STATE];  // whole path; empty: there are no checkpoints
    _Atomic uint32_t state;              // enum rml_board_state
    _Atomic uint32_t engine_pid;
    _Atomic uint32_t wanted_end;  // bits of enum rml_board_wanted_end; it outlives an engine
    _Atomic uint32_t restarts;    // engines after the first
    char allocator[16];
    _Atomic uint64_t memory_allocated,
        memory_resident;  // struct rml_memory, as of the last refresh
    uint32_t gate_counters;
    uint32_t journal_counters;
    struct rml_gate_counts gate;  // of all who came to attach
    struct rml_journal_counts journal;
};

struct rml_board_source {
    char name[RML_BOARD_NAME];
    char schema[RML_BOARD_NAME];
    uint64_t schema_hash;
    uint32_t record_bytes, cells;
    uint32_t on_full;  // enum rml_on_full
    uint32_t has_journal;
    int64_t out_of_order_ns, idle_after_ns;
    /* Of lanes that are gone; the control thread writes. */
    _Atomic uint64_t lanes_gone, published_gone, dropped_gone;
};

struct rml_board_stage {
    char name[RML_BOARD_NAME];
    uint32_t kind;    // enum rml_stage_kind
    uint32_t source;  // at its root
    uint32_t from;    // stage, or RML_NO_STAGE: the source
    uint32_t from_late;
    uint32_t window;  // enum rml_window_kind, of windows
    uint32_t zero;
    int64_t size_ns, every_ns, gap_ns, late_ns;
    uint32_t size_records, every_records;
};

struct rml_board_sink {
    char name[RML_BOARD_NAME];
    char path[RML_BOARD_PATH];
    uint32_t kind;  // enum rml_sink_kind
    uint32_t from_count;
    uint32_t from[RML_STAGES_MAX];  // stage * 2 + late
};

/* What a schema is made of; layout and hash follow (rml_board_rows). */
struct rml_board_field {
    char name[RML_BOARD_NAME];
    uint32_t type;  // enum rml_type
    uint32_t nullable;
};

struct rml_board_schema {
    char name[RML_BOARD_NAME];
    uint64_t hash;
    uint32_t has_nulls;
    uint32_t field_count;
    struct rml_board_field fields[RML_FIELDS_MAX];
};

struct rml_board_worker {
    _Atomic int32_t cpu;  // it is pinned to; -1: to none
};

enum rml_board_lane_state {
    RML_BOARD_LANE_FREE,
    RML_BOARD_LANE_ATTACHED,
    RML_BOARD_LANE_ENDING,  // what it published is being taken
    RML_BOARD_LANE_GONE,    // being counted among the lanes that are gone; shown as FREE
    RML_BOARD_LANE_CLOSED,  // free, and the last one of this number was closed; shown as FREE
};

/* What one lane's row says. The counts are as of the last time the control thread looked. */
struct rml_board_lane {
    uint32_t state;  // enum rml_board_lane_state
    uint32_t source;
    uint32_t pid, uid;  // 0: this process
    int64_t since_ns;   // wall clock
    uint64_t published, taken, released, dropped;
    uint32_t variant;     // enum rml_ring_variant; RML_RING_VARIANTS: the lane is shared
    uint32_t producers;   // that share it now
    uint64_t tombstones;  // of a shared lane: cells that producers had claimed when they died
    uint64_t passed;      // likewise: runs that were passed over, because they came later
    char program[RML_BOARD_NAME];
    char reason[RML_BOARD_NAME];  // why it ends; empty while it does not
    uint64_t gone_before[3];      // GONE: what its source's words were before it was counted there
};

/* How the last engine died. */
struct rml_board_death {
    int64_t wall_ns;  // 0: none has
    uint32_t pid;
    uint32_t zero;
    char why[RML_BOARD_WHY];
};

/* Why a checkpoint began. */
enum rml_board_wanted {
    RML_BOARD_WANTED_PERIOD,    // checkpoint.every was over
    RML_BOARD_WANTED_LANE,      // a lane was half full
    RML_BOARD_WANTED_SCHEDULE,  // a schedule was
    RML_BOARD_WANTED_TABLES,    // rows for result tables had piled up
    RML_BOARD_WANTED_JOURNAL,   // half of the journal was in use
    RML_BOARD_WANTED_ASKED,     // somebody asked for one
    RML_BOARD_WANTED_END,       // the pipeline ends
    RML_BOARD_WANTED_COUNT,
};

/* What is wrong with an end. */
enum rml_board_end {
    RML_BOARD_END_UNSAVED = 1,  // what was taken last is in no checkpoint
    RML_BOARD_END_LEFT = 2,     // records that were published were never taken, and are lost
};

/* What became of checkpoints, of all engines of this run. */
struct rml_board_saves {
    uint64_t durable, failed;
    uint64_t epoch, bytes, took_ns;  // of the last durable one; epoch 0: there was none
    int64_t durable_ns, failed_ns;   // wall clock, when the last one was over; 0: none was
    uint64_t bytes_all, took_ns_all, took_ns_most;
    uint64_t wanted[RML_BOARD_WANTED_COUNT];
    uint32_t wanted_by;       // enum rml_board_wanted, of the last that began
    uint32_t is_end_unsaved;  // bits of enum rml_board_end; 0: it has not ended, or as it should
    /* How often a lane, or a schedule, was full of what no checkpoint covered. */
    uint64_t lanes_full, schedules_full;
    uint64_t restored_epoch;                 // that the present engine went on from; 0: from none
    uint64_t gone_back_from;                 // 0: it did not go back
    uint64_t records_missing, rows_missing;  // because of that
    uint64_t catalog_bytes, catalog_bytes_max;  // after the last one; 0: not known
    /* Who reads one state of the catalog for long (held_back.h); pid 0: nobody does. And how often one did. */
    uint32_t reader_pid, reader_count;  // and how many read it at all
    uint64_t reader_behind;             // commits since the state that it reads
    int64_t reader_since_ns;            // wall clock
    uint64_t times_held_back;
    char reader_program[16];
    char way[16];  // rml_vault_way
    char why_not[120];
    char failed_why[200];
};

/* Subscribers that share the rows of an output. The counts are as of the last look. */
#define RML_BOARD_GROUPS_MAX  32u
#define RML_BOARD_MEMBERS_MAX 256u

struct rml_board_group {
    uint32_t is_there;
    uint32_t output;  // stage * 2 + late
    uint32_t uid;     // whose it is
    uint32_t members;
    uint32_t lost;  // of them, that hung up and live
    uint32_t zero;
    uint64_t waiting;                              // rows that nobody has taken
    uint64_t in_hand;                              // taken, and not acknowledged
    uint64_t taken, again, done, missed, expired;  // struct rml_group_counts
    char name[RML_BOARD_NAME];
};

/* One of their members, under the number of its subscription. */
struct rml_board_member {
    uint32_t is_there;
    uint32_t group;
    uint32_t pid, uid;
    uint64_t taken;  // by this one
    char program[RML_BOARD_NAME];
};

struct rml_board_slot;  // a row and its stamp

/* How the journal is written; its counters are the head's. */
struct rml_board_journal {
    int64_t failed_ns;  // wall clock, when a group failed last; 0: none has
    char way[16];       // rml_journal_way; empty: there is no journal
    char why_not[120];
    char failed_why[320];
};

/* Pointers into a board's memory; write through them only where one has opened it. */
struct rml_board {
    struct rml_segment segment;
    /* What it says of the plan, which never changes; whoever attached it has a copy, and it is in this. */
    unsigned char *frozen;
    struct rml_board_head *head;
    struct rml_board_source *sources;
    struct rml_board_stage *stages;
    struct rml_board_sink *sinks;
    struct rml_board_schema *schemas;  // of each source's records, then of each stage's rows
    /* What changes; of `live` and `live_sources` what is _Atomic, and counts. */
    struct rml_board_head *live;
    struct rml_board_source *live_sources;
    struct rml_board_worker *workers;
    struct rml_board_slot *lanes, *death, *saves, *journal, *groups, *members;
    struct rml_stage_counts *stage_counts;    // [partition][stage]
    struct rml_source_counts *source_counts;  // [partition][source]
    struct rml_worker_counts *worker_counts;
    struct rml_sink_counts *sink_counts;
};

/*
 * Make the board of a plan; all counters are 0. Where `keeping` has the board of an engine that died,
 * go on with it: its counters, rows of lanes and epoch stay, and the death is noted. 0, or a negative
 * errno with a sentence.
 */
int rml_board_open(struct rml_board *board, const struct rml_plan *plan,
                   struct rml_keeping *keeping, const struct rml_clock *clock, uint64_t epoch,
                   struct rml_err *err);

/*
 * Map a board that came as `fd` and is said to have `bytes`; nothing in it can be written then. 0;
 * -EPROTONOSUPPORT: it is of another version; -EPROTO: it is none; with a sentence. `fd` stays the
 * caller's.
 */
int rml_board_attach(struct rml_board *board, int fd, uint64_t bytes, struct rml_err *err);

/* What the partitions of a dead engine held is lost: count it so, and that there is none now. */
void rml_board_lose_state(struct rml_board *board);

/* Accepts a board of zeros, or half opened. */
void rml_board_close(struct rml_board *board);

/* Where the state is, before anyone sees the board. */
void rml_board_state_folder(struct rml_board *board, const char *folder);

/* The control thread of the engine: say where a worker is pinned; change the state; an end that was
 * asked for; what the allocator says; replace lane `index`'s row. */
void rml_board_pinned(struct rml_board *board, uint32_t worker, int cpu);
void rml_board_say(struct rml_board *board, enum rml_board_state state);
void rml_board_to_end(struct rml_board *board, enum rml_board_wanted_end wanted);
void rml_board_memory(struct rml_board *board, const struct rml_memory *memory);
void rml_board_lane_write(struct rml_board *board, uint32_t index,
                          const struct rml_board_lane *lane);

/*
 * Count lane `index` among those that are gone; its row is GONE then, until it is replaced. An engine that
 * dies in here does it again (rml_board_is_gone finds the row so, and has counted it).
 */
void rml_board_lane_gone(struct rml_board *board, uint32_t index,
                         const struct rml_board_lane *lane);
bool rml_board_is_gone(struct rml_board *board, uint32_t index);

/* The control thread, and anyone: what became of checkpoints. */
void rml_board_saves_write(struct rml_board *board, const struct rml_board_saves *saves);
void rml_board_saves_read(const struct rml_board *board, struct rml_board_saves *ret_saves);

/* One thread at a time, and anyone: how the journal is written. */
void rml_board_journal_write(struct rml_board *board, const struct rml_board_journal *journal);
void rml_board_journal_read(const struct rml_board *board, struct rml_board_journal *ret_journal);

/* Likewise of groups and their members; a row of zeros: there is none of that number. */
void rml_board_group_write(struct rml_board *board, uint32_t index,
                           const struct rml_board_group *group);
void rml_board_member_write(struct rml_board *board, uint32_t index,
                            const struct rml_board_member *member);
void rml_board_group_read(const struct rml_board *board, uint32_t index,
                          struct rml_board_group *ret_group);
void rml_board_member_read(const struct rml_board *board, uint32_t index,
                           struct rml_board_member *ret_member);

/* Anyone: the CPU that a worker is pinned to, or -1; the state; a copy of a lane's row, or of the
 * last death, as it was at one moment; how many engines there were before this one; its process; whether
 * ends were asked for. */
int rml_board_cpu(const struct rml_board *board, uint32_t worker);
enum rml_board_state rml_board_state(const struct rml_board *board);
void rml_board_lane_read(const struct rml_board *board, uint32_t index,
                         struct rml_board_lane *ret_lane);
/* Why the lane of a row that is not free ends, for an engine that goes on with it; empty: for no reason. */
void rml_board_lane_reason(const struct rml_board *board, uint32_t index,
                           char ret_reason[RML_BOARD_NAME]);

/* The last lane of a free number, where it was closed for a reason; or false. */
bool rml_board_lane_closed(const struct rml_board *board, uint32_t index,
                           struct rml_board_lane *ret_lane);
void rml_board_death_read(const struct rml_board *board, struct rml_board_death *ret_death);
uint32_t rml_board_restarts(const struct rml_board *board);
uint32_t rml_board_engine_pid(const struct rml_board *board);
uint32_t rml_board_wanted_end(const struct rml_board *board);

/* The layout of a stage's rows, or late ones, which are its source's records. 0; or -EPROTO and a
 * sentence when the board says something that cannot be. */
int rml_board_rows(const struct rml_board *board, uint32_t stage, bool late,
                   struct rml_schema *ret_schema, struct rml_err *err);

/* Counters as plain numbers, partitions added up. */
struct rml_board_totals {
    /* Of all lanes that ever fed a source: what producers published before they were cut off, and what
     * they dropped because a lane was full, by their own account. */
    uint64_t published[RML_SOURCES_MAX], dropped[RML_SOURCES_MAX];
    uint64_t source[RML_SOURCES_MAX][RML_SOURCE_COUNTERS];
    uint64_t stage[RML_STAGES_MAX][RML_STAGE_COUNTERS];
    uint64_t sink[RML_SINKS_MAX][RML_SINK_COUNTERS];
    uint64_t worker[RML_WORKERS_MAX][RML_WORKER_COUNTERS];
    uint64_t journal[RML_JOURNAL_COUNTERS];
};

/* Add a board up; a moment old while workers run, and its parts not all of the same moment. */
void rml_board_total(const struct rml_board *board, struct rml_board_totals *ret_totals);

#endif
