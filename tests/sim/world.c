#include "tests/sim/world.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/control/board.h"
#include "runtime/control/engine.h"
#include "runtime/keeper/keeping.h"
#include "runtime/lane/lane_in.h"
#include "runtime/plan/plan.h"
#include "runtime/worker/worker.h"
#include "tests/sim/disk.h"
#include "tests/sim/fibers.h"
#include "tests/sim/judge.h"
#include "tests/sim/keeper.h"
#include "tests/sim/ledger.h"
#include "tests/sim/limits.h"
#include "tests/sim/log.h"
#include "tests/sim/process.h"
#include "tests/sim/producers.h"
#include "tests/sim/sim.h"
#include "tools/balance.h"

#define THREADS_MAX  16u
#define LANES        12u
#define COMMANDS_MAX 64u
#define STUCK_TURNS  400000u  // without a step, when the end was asked for
#define GRANULE      ((uint64_t)256 << 10)

/* What the server would hear over its sockets. */
enum command_kind { ATTACH, FINISH, LEAVE, SAVE, DRAIN, STOP };

struct command {
    enum command_kind kind;
    uint32_t number;  // of the producer, of the lane
    uint32_t owner;   // of that lane
    enum rml_engine_leaving how;
};

enum fate { RUNS, HAS_ENDED, IS_STOPPED, HAS_FAILED };

/* What is drawn once for a run. */
struct shape {
    uint32_t partitions, workers, producers, stages;  // bits of those stages that there are
    int64_t window_ns, late_ns, out_of_order_ns, every_ns;
    uint32_t cells, schedule_steps, ring_rows, table_rows;
    bool ticks, has_tables, is_shared, drops, has_journal;
    int64_t journal_delay_ns;
    uint32_t journal_segments;
    struct producers_options records;
};

static struct {
    struct shape shape;
    char folder[100];
    struct rml_plan *plan;
    struct rml_vault_options vault;

    // The engine's threads, control first.
    struct thread {
        uint32_t fiber;
        char name[16];
        bool is_in_step, is_committing, is_flushing;  // at its last door
    } threads[THREADS_MAX];

    uint32_t thread_count;
    bool has_power;  // that can fail
    bool has_engine, is_up, is_again, was_durable;
    bool is_saved;  // all that the engine was given before its stop
    enum fate fate;
    struct rml_err why;  // it could not come up
    struct command commands[COMMANDS_MAX];
    uint32_t command_count;
    bool is_leaving;   // no producer comes any more
    bool is_draining;  // it was said to
    bool is_stopping;
    uint64_t fault_turns;  // behind these nothing fails
    uint64_t idle_turns;
    uint32_t quiet;        // a thread that gets no turn
    uint64_t quiet_until;  // this turn
} w;

static struct world_sums sums;

struct world_sums world_sums(void)
{
    return sums;
}

/* The pipeline */

// Where else should it be found?
static bool is_wrong_in_shared_lanes(void)
{
    return sim.wrong == SIM_buries_nobody || sim.wrong == SIM_gathers_twice
           || sim.wrong == SIM_trusts_the_fastest;
}

static bool is_wrong_with_journals(void)
{
    return sim.wrong == SIM_flushes_no_journal || sim.wrong == SIM_uses_journal_again
           || sim.wrong == SIM_forgets_the_journal || sim.wrong == SIM_takes_entries_twice;
}

static void draw_shape(void)
{
    struct shape *s = &w.shape;
    s->partitions = 1 + (uint32_t)sim_draw(PARTITIONS_MOST);
    s->workers = 1 + (uint32_t)sim_draw(s->partitions);
    s->is_shared = sim_draw(5) < 2 || is_wrong_in_shared_lanes();
    s->drops = sim_draw(5) == 0;
    s->producers = 1 + (uint32_t)sim_draw(s->is_shared ? PRODUCERS : PRODUCERS_ALONE);
    s->stages = 1 + (uint32_t)sim_draw(15);
    s->window_ns = 20000 + (int64_t)sim_draw(2000000);
    s->late_ns = sim_draw(3) == 0 ? 0 : (int64_t)sim_draw(1000000);
    s->out_of_order_ns = (int64_t)sim_draw(300000);
    s->every_ns = 1000000 + (int64_t)sim_draw(8000000);
    s->cells = 64u << sim_draw(5);
    s->schedule_steps = 256u << sim_draw(6);
    s->ring_rows = sim_draw(4) == 0 ? 64 : 1024;
    s->ticks = sim_draw(3) == 0;
    s->has_tables =
        sim_draw(2) == 0 && s->stages != 8;  // what counted windows are known by is no window
    // where a row can be taken back, which ones had room depends on when
    bool can_retract = (s->stages & 4) != 0 && s->late_ns > 0;
    s->table_rows = sim_draw(2) == 0 || can_retract ? 0 : 10 + (uint32_t)sim_draw(500);
    s->has_journal = sim_draw(5) < 2 || is_wrong_with_journals();
    s->journal_delay_ns = sim_draw(2) == 0 ? 0 : (int64_t)sim_draw(300000);
    s->journal_segments = 3 + (uint32_t)sim_draw(10);
    s->records = (struct producers_options){
        .partitions = s->partitions,
        .keys = sim_draw(4) == 0 ? 400 : 1 + sim_draw(20),
        .spread_ns = 1 + (int64_t)sim_draw(500000),
        .burst = 1 + (uint32_t)sim_draw(sim_draw(3) == 0 ? 40 : 4),
        .cells = s->cells,
        .is_shared = s->is_shared,
        .drops = s->drops,
        .asks = !s->is_shared,
        .wait_max_ns = sim_draw(3) == 0 ? -1 : (int64_t)sim_draw(3) * 1000000,
    };
}

static uint64_t keep_bits(uint32_t bits, uint64_t most)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < 4 && most > 0; i++) {
        kept |= bits & 1u << i;
        most -= bits >> i & 1;
    }
    return kept;
}

static void keep_to(const struct limits *limits)
{
    struct shape *s = &w.shape;
    s->partitions = (uint32_t)limits_keep(limits, LIMIT_partitions, s->partitions);
    s->workers = (uint32_t)limits_keep(limits, LIMIT_workers, s->workers);
    s->workers = s->workers < s->partitions ? s->workers : s->partitions;
    s->producers = (uint32_t)limits_keep(limits, LIMIT_producers, s->producers);
    s->stages = (uint32_t)keep_bits(s->stages, limits_keep(limits, LIMIT_windows, 4));
    s->records.partitions = s->partitions;
    s->records.keys = limits_keep(limits, LIMIT_keys, s->records.keys);
    s->records.burst = (uint32_t)limits_keep(limits, LIMIT_burst, s->records.burst);
    bool has_extras = limits_keep(limits, LIMIT_extras, 1) != 0;
    s->ticks = s->ticks && has_extras;
    s->has_journal = s->has_journal && has_extras;
    s->has_tables = s->has_tables && has_extras && s->stages != 8;
    w.has_power = w.has_power && has_extras;
    sim.faults_of = (uint32_t)limits_keep(limits, LIMIT_faults, sim.faults_of);
    sim.atoms_each = limits_keep(limits, LIMIT_doors, 1) != 0 ? sim.atoms_each : 0;
    sim.without = limits->without;
}

static void write_stage(char *text, size_t bytes, uint32_t stage)
{
    const struct shape *s = &w.shape;
    long long size = s->window_ns, late = s->late_ns;
    const char *trigger = s->ticks ? ", trigger: {every: 10ms}" : "";
    switch (stage) {
    case 0:
        snprintf(text, bytes,
                 "  w: {from: twice, key: key,\n"
                 "      window: {type: tumbling, size: %lldns, late: %lldns%s},\n"
                 "      aggregate: {c: count(), s: sum(n), ms: sum(m), a: avg(x),\n"
                 "                  p: 'quantile(x, 0.9)', d: distinct(n), t: 'top(n %% 10, 2)',\n"
                 "                  f: first(n), l: last(tag)}}\n",
                 size, late, trigger);
        break;
    case 1:
        snprintf(text, bytes,
                 "  slide: {from: in, key: key,\n"
                 "      window: {type: sliding, size: %lldns, every: %lldns, late: %lldns},\n"
                 "      aggregate: {c: count(), s: sum(x), mx: max(n), md: median(n)}}\n",
                 size / 4 * 4, size / 4, late);
        break;
    case 2:
        snprintf(text, bytes,
                 "  bursts: {from: in, key: key,\n"
                 "      window: {type: session, gap: %lldns, late: %lldns},\n"
                 "      aggregate: {c: count(), s: sum(n), d: distinct(tag)}}\n",
                 size / 8, late);
        break;
    default:
        snprintf(text, bytes,
                 "  runs: {from: in, key: key,\n"
                 "      window: {type: sliding, size: 7 records, every: 3 records},\n"
                 "      aggregate: {c: count(), s: sum(n), mn: min(x)}}\n");
        break;
    }
}

static void write_pipeline(char *text, size_t bytes)
{
    const struct shape *s = &w.shape;
    static const char *const names[] = {"w", "slide", "bursts", "runs"};
    char stages[4][600] = {""}, live[900] = "", lines[100] = "", tables[100] = "", journal[60] = "";
    for (uint32_t i = 0; i < 4; i++) {
        if ((s->stages >> i & 1) == 0)
            continue;
        write_stage(stages[i], sizeof stages[i], i);
        snprintf(live + strlen(live), sizeof live - strlen(live),
                 "  live_%s: {from: %s, type: ring, rows: %u}\n", names[i], names[i], s->ring_rows);
        if (i > 0)
            snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s%s",
                     lines[0] ? ", " : "", names[i]);
    }
    for (uint32_t i = 0; i < 3; i++)
        if ((s->stages >> i & 1) != 0)
            snprintf(tables + strlen(tables), sizeof tables - strlen(tables), "%s%s",
                     tables[0] ? ", " : "", names[i]);
    if (s->has_tables)
        snprintf(live + strlen(live), sizeof live - strlen(live),
                 "  kept: {from: [%s], type: lmdb, max_rows: %u}\n", tables, s->table_rows);
    if (s->has_journal)
        snprintf(journal, sizeof journal, ", journal: {delay: %lldns}",
                 (long long)s->journal_delay_ns);
    bool has_w = (s->stages & 1) != 0;
    if (has_w && s->late_ns > 0)
        snprintf(live + strlen(live), sizeof live - strlen(live),
                 "  live_late: {from: w.late, type: ring, rows: %u}\n", s->ring_rows);
    snprintf(
        text, bytes,
        "version: 1\npipeline: sim\n"
        "schema: {event: {ts: time_ns, key: u64, n: i64, x: f64, tag: str16, id: u64}}\n"
        "runtime: {workers: %u, partitions: %u, cpus: [0], state_limit: 64MiB, lanes_max: %u,\n"
        "  state: %s/state, checkpoint: {every: %lldns, min_pause: %lldns}%s}\n"
        "sources:\n"
        "  in: {schema: event, event_time: ts, partition_by: [key], out_of_order: %lldns,\n"
        "       cells: %u%s%s%s%s}\n"
        "stages:\n%s%s%s%s%s"
        "sinks:\n%s%s%s%s%s",
        s->workers, s->partitions, LANES, w.folder, (long long)s->every_ns,
        (long long)s->every_ns / 20, journal, (long long)s->out_of_order_ns, s->cells,
        s->has_journal ? ", journal: true" : "", s->ticks ? ", idle_after: 20ms" : "",
        s->is_shared ? ", lane: shared" : "", s->drops ? ", on_full: drop_newest" : "",
        has_w ? "  some: {from: in, filter: n % 7 != 0}\n"
                "  twice: {from: some, map: {m: n * 2}}\n"
              : "",
        stages[0], stages[1], stages[2], stages[3], live,
        has_w ? "  table: {from: w, type: csv, path: rows.csv}\n" : "",
        lines[0] ? "  lines: {from: [" : "", lines,
        lines[0] ? "], type: jsonl, path: rows.jsonl}\n" : "");
}

static void read_plan(void)
{
    char text[6000];
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    write_pipeline(text, sizeof text);
    int rc = rml_plan_parse(text, strlen(text), "sim", rml_operators_functions(), &w.plan, &errors,
                            &err);
    if (rc < 0)
        sim_fail("%s\n%u: %s", text, errors.count > 0 ? errors.list[0].line : 0,
                 errors.count > 0 ? errors.list[0].text : err.text);
    rml_plan_errors_fini(&errors);
}

/* The engine's control thread: what `ringmill run` does, with a list where that has sockets */

static void push(enum command_kind kind, uint32_t number)
{
    RML_CHECK(w.command_count < COMMANDS_MAX);
    w.commands[w.command_count++] = (struct command){.kind = kind, .number = number};
}

static void saved(void *context, const struct rml_engine_saved *how)
{
    (void)context;
    sim_say("checkpoint %" PRIu64 ": %s, %" PRIu64 " bytes", how->epoch,
            how->rc == 0 ? "durable" : strerrordesc_np(-how->rc), how->bytes);
    w.was_durable = how->rc == 0;
    sums.checkpoints += how->rc == 0;
    if (how->rc == 0)
        ledger_checkpoint_is_durable();
    ledger_checkpoint_begins();
}

static void complain(void *context, const char *sentence)
{
    (void)context;
    const char *path = strstr(sentence, w.folder);  // is by chance, and not by the seed's
    int before = path != NULL ? (int)(path - sentence) : 0;
    sim_say("the engine says: %.*s%s", before, sentence,
            path != NULL ? path + strlen(w.folder) : sentence);
}

static uint64_t told_serials[LANES];

/* Stands before the real one, to learn a lane's serial. */
bool __real_rml_worker_tell(struct rml_worker *worker, const struct rml_worker_message *message);
bool __wrap_rml_worker_tell(struct rml_worker *worker, const struct rml_worker_message *message);

bool __wrap_rml_worker_tell(struct rml_worker *worker, const struct rml_worker_message *message)
{
    if (message->kind == RML_WORKER_ATTACH)
        told_serials[message->index] = message->number;
    return __real_rml_worker_tell(worker, message);
}

static int find_lane(struct rml_engine *engine, uint32_t producer, uint32_t *ret_lane,
                     uint32_t *ret_owner, struct rml_err *err)
{
    static const struct rml_engine_producer who = {.program = "simulated"};
    if (w.is_draining || w.is_stopping)
        return -ESHUTDOWN;
    *ret_owner = 0;
    return w.shape.is_shared
               ? rml_engine_join(engine, 0, &who, producer_door(producer), ret_lane, ret_owner, err)
               : rml_engine_attach(engine, 0, NULL, ret_lane, err);
}

static void attach(struct rml_engine *engine, uint32_t producer)
{
    uint32_t lane, owner;
    struct rml_err err = {0};
    int rc = find_lane(engine, producer, &lane, &owner, &err);
    bool was = sim_go_outside();
    if (rc == 0) {
        sim_say("producer %u has lane %u, as number %u", producer, lane, owner);
        producer_attach(producer, lane, owner, told_serials[lane], rml_engine_lane(engine, lane));
    } else {
        sim_say("producer %u is refused: %s", producer, strerrordesc_np(-rc));
        producer_vanish(producer);
    }
    sim_go_back(was);
}

static void obey(struct rml_engine *engine, const struct command *command)
{
    switch (command->kind) {
    case ATTACH:
        attach(engine, command->number);
        break;
    case FINISH:
        rml_engine_finish(engine, command->number);
        break;
    case LEAVE:
        rml_engine_leave(engine, command->number, command->owner, command->how);
        break;
    case SAVE:
        (void)rml_engine_save(engine);
        break;
    case DRAIN:
        rml_engine_drain_begin(engine);
        break;
    case STOP:
        break;
    }
}

static bool has_news(void *context)
{
    struct pollfd bell = {.fd = rml_engine_fd(context), .events = POLLIN};
    return w.command_count > 0 || poll(&bell, 1, 0) != 0;
}

static void serve(struct rml_engine *engine)
{
    bool is_over = false;
    while (!is_over && !rml_engine_is_drained(engine)) {
        rml_engine_sleep_begin(engine);
        rml_engine_poll(engine);
        if (!rml_engine_is_drained(engine))
            sim_sleep(has_news, engine, INT64_MAX);
        rml_engine_sleep_end(engine);
        while (w.command_count > 0 && !is_over) {
            const struct command command = w.commands[0];
            memmove(w.commands, w.commands + 1, --w.command_count * sizeof command);
            is_over = command.kind == STOP;
            obey(engine, &command);
        }
    }
}

static bool is_fed(uint32_t lane)
{
    bool any = false;
    for (uint32_t i = 0; i < PRODUCERS; i++)
        any |= producer_state(i) == PRODUCER_ATTACHED && producer_lane(i) == lane;
    return any;
}

// Producers of a shared lane go on, whoever still has a connection; unless it was being stopped, and their lane
// had come to its end.
static void join_again(struct rml_engine *engine)
{
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        if (producer_state(i) != PRODUCER_ATTACHED
            || rml_engine_join_again(engine, producer_lane(i), producer_owner(i), producer_door(i)))
            continue;
        if (!w.is_stopping)
            sim_fail("producer %u is not known any more", i);
        bool was = sim_go_outside();
        producer_vanish(i);
        sim_go_back(was);
    }
}

// Whose producer is gone is taken to its end.
static void come_up(struct rml_engine *engine, struct rml_keeping *keeping)
{
    if (w.shape.is_shared)
        join_again(engine);
    rml_keeping_rest(keeping);
    for (uint32_t lane = 0; lane < LANES && rml_keeping_again(keeping); lane++) {
        const struct rml_lane_in *in = rml_engine_lane(engine, lane);
        if (in != NULL && rml_lane_in_geometry(in)->owners > 0)
            rml_engine_leave_rest(engine, lane);
        else if (!is_fed(lane))
            rml_engine_finish(engine, lane);
    }
    if ((rml_board_wanted_end(rml_engine_board(engine)) & RML_BOARD_DRAIN) != 0)
        rml_engine_drain_begin(engine);
    rml_keeping_ready(keeping);
}

// As `ringmill run` does at its end.
static void check_balance(struct rml_engine *engine, bool is_drained)
{
    static struct rml_board_totals totals;
    static struct rml_balance balance;
    rml_engine_totals(engine, &totals);
    if (is_drained && totals.dropped[0] != producers_dropped())
        sim_fail("%" PRIu64 " records are said to be dropped, and %" PRIu64 " were",
                 totals.dropped[0], producers_dropped());
    rml_balance_init(&balance, w.plan);
    rml_balance_fill(&balance, &totals);
    for (uint32_t i = 0; i < w.plan->source_count; i++)
        balance.sources[i].may_leave = !is_drained;
    if (rml_balance_holds(&balance))
        return;
    process_turn(false);
    rml_balance_print(&balance, stdout);
    sim_fail("the balance does not hold");
}

static void *control(void *context)
{
    struct rml_keeping *keeping = context;
    const struct rml_engine_options options = {
        .plan = w.plan,
        .operators = rml_operators_table(),
        .clock = &sim_clock,
        .keeping = keeping,
        .folder = w.folder,
        .complain = complain,
        .saved = saved,
        .schedule_steps = w.shape.schedule_steps,
        .vault = &w.vault,
    };
    struct rml_engine *engine;
    int rc = rml_engine_open(&engine, &options, &w.why);
    if (rc == 0)
        rc = rml_engine_start(engine, &w.why);
    if (rc < 0) {
        w.fate = HAS_FAILED;
        return NULL;
    }
    w.is_up = true;
    bool was = sim_go_outside();
    ledger_checkpoint_begins();
    sim_go_back(was);
    come_up(engine, keeping);
    serve(engine);
    bool is_drained = rml_engine_is_drained(engine);
    rml_engine_stop(engine);
    w.is_saved = rml_engine_is_saved(engine);
    check_balance(engine, is_drained);
    was = sim_go_outside();
    (void)ledger_look();
    ledger_board(rml_engine_board(engine));
    sim_go_back(was);
    rml_engine_close(engine);
    rml_keeping_close(keeping);
    w.fate = is_drained ? HAS_ENDED : IS_STOPPED;
    return NULL;
}

/* Threads */

void world_add_thread(uint32_t fiber)
{
    RML_CHECK(w.thread_count < THREADS_MAX);
    struct thread *thread = &w.threads[w.thread_count++];
    *thread = (struct thread){.fiber = fiber};
    snprintf(thread->name, sizeof thread->name, "thread %u", w.thread_count);
}

void world_drop_thread(uint32_t fiber)
{
    uint32_t i = 0;
    while (w.threads[i].fiber != fiber)
        RML_CHECK(++i < w.thread_count);
    memmove(&w.threads[i], &w.threads[i + 1], (--w.thread_count - i) * sizeof w.threads[0]);
    fiber_drop(fiber);
}

void world_name_thread(uint32_t fiber, const char *name)
{
    for (uint32_t i = 0; i < w.thread_count; i++) {
        if (w.threads[i].fiber == fiber)
            snprintf(w.threads[i].name, sizeof w.threads[i].name, "%s", name);
    }
}

/* Life and death */

static void start_engine(void)
{
    sums.engines++;
    w.has_engine = true;
    w.is_up = false;
    w.fate = RUNS;
    w.command_count = 0;
    w.quiet_until = 0;
    w.why = (struct rml_err){0};
    (void)disk_has_failed();
    ledger_engine_begins();
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        if (producer_state(i) == PRODUCER_ASKS)
            push(ATTACH, i);
    }
    if (w.is_draining)
        push(DRAIN, 0);
    if (w.is_stopping)
        push(STOP, 0);
    world_add_thread(fiber_make(control, keeper_fork()));
    world_name_thread(w.threads[0].fiber, "control");
}

// As a kill does: no word of the engine's own is said any more.
static void end_engine(bool is_killed)
{
    (void)ledger_look();
    if (is_killed)
        disk_engine_dies();
    for (uint32_t i = 0; i < w.thread_count; i++)
        fiber_drop(w.threads[i].fiber);
    w.thread_count = 0;
    process_kill();
    producers_engine_dies();
    keeper_engine_dies();
    w.has_engine = false;
    w.is_again = true;
}

static void begin_life(void)
{
    sums.keepers++;
    w.is_again = w.is_stopping = false;
    keeper_open();
    ledger_new_life();
    start_engine();
}

// `keeps_due`: a checkpoint has all that was published when the end was asked for.
static void end_life(bool keeps_due)
{
    for (uint32_t i = 0; i < PRODUCERS; i++)
        producer_vanish(i);
    producers_lose_keeper(keeps_due);
    log_close();
    keeper_close();
}

static void kill_engine(const struct thread *thread)
{
    sim_say("the engine is killed, in %s", thread != NULL ? thread->name : "no matter what");
    end_engine(true);
    start_engine();
}

static void kill_keeper(bool power_fails)
{
    sim_say(power_fails ? "the power fails" : "the keeper is killed");
    end_engine(true);
    end_life(false);
    if (power_fails)
        disk_power_fails();
    begin_life();
}

static void change_workers(void)
{
    bool is_more = sim_draw(2) == 0;
    uint32_t before = w.shape.workers;
    if (is_more && w.shape.workers < w.shape.partitions)
        w.shape.workers += 1 + (uint32_t)sim_draw(w.shape.partitions - w.shape.workers);
    else if (!is_more && w.shape.workers > 1)
        w.shape.workers -= 1 + (uint32_t)sim_draw(w.shape.workers - 1);
    if (w.shape.workers != before)
        sim_struck(w.shape.workers > before ? SIM_stop_for_more_workers
                                            : SIM_stop_for_fewer_workers);
    rml_plan_close(w.plan);
    read_plan();
    ledger_plan(w.plan);
}

// The engine's process has ended by itself.
static void see_to_end(void)
{
    enum fate fate = w.fate;
    bool has_failed = disk_has_failed();
    sim_say(fate == HAS_FAILED   ? "the engine does not come up"
            : fate == IS_STOPPED ? "the engine has stopped"
                                 : "the engine has ended");
    if (fate == HAS_FAILED && !has_failed)
        sim_fail("the engine does not come up, and nothing was wrong: %s", w.why.text);
    bool was_again = w.is_again;
    end_engine(fate == HAS_FAILED);
    if (fate == HAS_FAILED && was_again) {
        start_engine();
        return;
    }
    if (fate == HAS_ENDED)
        return;
    end_life(fate == IS_STOPPED && w.is_saved);
    if (fate == IS_STOPPED)
        change_workers();
    begin_life();
}

/* Turns */

static enum sim_point point_of(struct thread *thread, bool has_stepped)
{
    enum sim_door door = sim_last_door();
    bool was_in_step = thread->is_in_step, was_committing = thread->is_committing;
    thread->is_in_step = has_stepped;
    thread->is_flushing = door == DOOR_JOURNAL_FLUSH;
    thread->is_committing = door == DOOR_CATALOG_WRITE || door == DOOR_CATALOG_FLUSH;
    switch (door) {
    case DOOR_CLOCK:
        return has_stepped      ? SIM_kill_in_a_step
               : was_in_step    ? SIM_kill_behind_a_step
               : was_committing ? SIM_kill_behind_a_commit
                                : SIM_kill_between_steps;
    case DOOR_SPIN:
        return SIM_kill_in_a_spin;
    case DOOR_BELL:
        return SIM_kill_at_a_bell;
    case DOOR_KEEP:
        return SIM_kill_before_keeping;
    case DOOR_KEPT:
        return SIM_kill_behind_keeping;
    case DOOR_THREAD:
        return SIM_kill_at_a_thread;
    case DOOR_NAME:
        return SIM_kill_at_a_name;
    case DOOR_EXTENTS_WRITE:
        return SIM_kill_at_a_write;
    case DOOR_EXTENTS_REAP:
        return SIM_kill_under_writes;
    case DOOR_EXTENTS_FLUSH:
        return SIM_kill_at_a_flush;
    case DOOR_JOURNAL_WRITE:
        return SIM_kill_at_a_journal_write;
    case DOOR_JOURNAL_REAP:
        return SIM_kill_under_journal_writes;
    case DOOR_JOURNAL_FLUSH:
        return SIM_kill_at_a_journal_flush;
    case DOOR_CATALOG_WRITE:
        return SIM_kill_at_a_catalog_write;
    case DOOR_CATALOG_FLUSH:
        return SIM_kill_at_a_catalog_flush;
    case DOOR_FILE_WRITE:
        return SIM_kill_at_a_row;
    case DOOR_FILE_WRITTEN:
        return SIM_kill_behind_a_row;
    case DOOR_FILE_FLUSH:
        return SIM_kill_at_a_file_flush;
    case DOOR_FILE_CUT:
        return SIM_kill_at_a_cut;
    case DOOR_ATOM:
        return producers_gathers(thread->fiber) ? SIM_kill_gathering : SIM_kill_at_an_atom;
    case DOOR_NONE:
    case DOOR_SLEEP:
    case DOORS:
        break;
    }
    return SIM_kill_asleep;
}

// What may come over the engine where it stands now. Returns whether something has.
static bool befalls(struct thread *thread, bool has_stepped)
{
    bool was_flushing = thread->is_flushing;
    enum sim_point point = point_of(thread, has_stepped);
    if (w.has_power && was_flushing && !thread->is_flushing && !w.is_leaving
        && sim_strikes(SIM_power_fails_behind_a_group)) {
        kill_keeper(true);
        return true;
    }
    if (w.has_power && thread->is_committing && !w.is_leaving
        && sim_strikes(SIM_power_fails_in_a_commit)) {
        kill_keeper(true);
        return true;
    }
    bool is_killed = sim_strikes(point);
    if (w.is_again && !w.is_up)
        is_killed |= sim_strikes(SIM_kill_coming_up);
    if (w.is_draining && w.is_up)
        is_killed |= sim_strikes(SIM_kill_draining);
    if (is_killed)
        kill_engine(thread);
    return is_killed;
}

static void turn_thread(void)
{
    uint32_t which = (uint32_t)sim_draw(w.thread_count);
    uint32_t fiber = w.threads[which].fiber;
    if ((which == w.quiet && sim.turns < w.quiet_until) || fiber_has_ended(fiber))
        return;
    bool was_asleep = sim_is_asleep(fiber);
    process_turn(true);
    fiber_turn(fiber);
    process_turn(false);
    bool has_stepped = ledger_look();
    bool is_idle = was_asleep && sim_is_asleep(fiber);
    w.idle_turns = is_idle ? w.idle_turns + 1 : 0;
    sim_mix((uint64_t)which << 8 | (uint64_t)sim_last_door());
    // another may have its place by now
    for (which = 0; which < w.thread_count && w.threads[which].fiber != fiber;)
        which++;
    if (w.fate != RUNS)
        see_to_end();
    else if (!is_idle && which < w.thread_count)
        (void)befalls(&w.threads[which], has_stepped);
}

static void push_leave(uint32_t lane, uint32_t owner, enum rml_engine_leaving how)
{
    push(LEAVE, lane);
    w.commands[w.command_count - 1].owner = owner;
    w.commands[w.command_count - 1].how = how;
}

static void turn_attached(uint32_t which)
{
    uint32_t lane = producer_lane(which), owner = producer_owner(which);
    if (w.is_leaving || sim_strikes(SIM_producer_leaves))
        producer_should_leave(which);
    switch (producer_turn(which)) {
    case PRODUCER_STAYS:
        return;
    case PRODUCER_HUNG_UP:
        push_leave(lane, owner, RML_ENGINE_LOST);
        return;
    case PRODUCER_LEFT:
        sim_say("producer %u has left lane %u", which, lane);
        if (owner > 0)
            push_leave(lane, owner, RML_ENGINE_LEFT);
        break;
    case PRODUCER_DIED:
        sim_say("producer %u of lane %u is dead", which, lane);
        if (owner > 0)
            push_leave(lane, owner, RML_ENGINE_DEAD);
        break;
    }
    if (owner == 0)
        push(FINISH, lane);
}

static void turn_producer(void)
{
    uint32_t which = (uint32_t)sim_draw(w.shape.producers);
    if (w.command_count > 40)
        return;
    switch (producer_state(which)) {
    case PRODUCER_AWAY:
        if (w.is_leaving || w.is_stopping || sim_draw(20) != 0)
            return;
        producer_asks(which);
        push(ATTACH, which);
        return;
    case PRODUCER_ASKS:
        return;
    case PRODUCER_ATTACHED:
        turn_attached(which);
        return;
    }
}

static void leap(enum sim_point point, int64_t by)
{
    if (sim_strikes(point))
        sim.wall_ahead_ns += by;
}

// What comes from elsewhere.
static void turn_fate(void)
{
    sim.now_ns += (int64_t)sim_draw(200000);
    leap(SIM_clock_leaps_on, INT64_C(3600000000000));
    leap(SIM_clock_leaps_back, -INT64_C(3600000000000));
    if (sim_draw(20) == 0) {
        w.quiet = (uint32_t)sim_draw(w.thread_count);
        w.quiet_until = sim.turns + sim_draw(3000);
    }
    if (w.is_leaving || w.is_stopping || !w.is_up)
        return;
    if (sim_strikes(SIM_checkpoint_is_asked_for) && w.command_count < 40)
        push(SAVE, 0);
    if (sim_strikes(SIM_keeper_dies))
        kill_keeper(false);
    else if (w.has_power && sim_strikes(SIM_power_fails))
        kill_keeper(true);
    else if (w.shape.partitions > 1 && sim_draw(400) == 0) {
        sim_say("it is asked to stop");
        producers_are_due();
        w.is_stopping = true;
        push(STOP, 0);
    }
}

// Nobody has anything to do: time goes on to where somebody has.
static void skip_time(void)
{
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; i < w.thread_count; i++) {
        int64_t at = sim_wakes_at(w.threads[i].fiber);
        next = at < next ? at : next;
    }
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        int64_t at = producer_wakes_at(i);
        next = at < next ? at : next;
    }
    if (next < INT64_MAX && next > sim.now_ns)
        sim.now_ns = next;
    w.idle_turns = 0;
}

static void leave(void)
{
    w.is_leaving = true;
    bool all_gone = w.command_count == 0 && w.is_up && !w.is_stopping && !w.is_draining;
    for (uint32_t i = 0; i < PRODUCERS; i++)
        all_gone &= producer_state(i) == PRODUCER_AWAY;
    if (!all_gone)
        return;
    sim_say("it is asked to drain");
    producers_are_due();
    w.is_draining = true;
    push(DRAIN, 0);
}

static void turn(uint64_t wanted)
{
    sim.turns++;
    sums.turns++;
    sim.now_ns += (int64_t)sim_draw(3000);
    if (sim.turns >= wanted && !w.is_draining)
        leave();
    if (sim.turns > w.fault_turns)
        sim.is_calm = true;
    uint64_t choice = sim_draw(100);
    if (choice < 2)
        turn_fate();
    else if (choice < 30)
        turn_producer();
    else
        turn_thread();
    if (w.idle_turns > 8 * (uint64_t)w.thread_count + 8)
        skip_time();
    if (sim.turns > 2 * wanted + STUCK_TURNS)
        sim_fail("it does not come to its end");
}

uint64_t world_run(uint64_t seed, uint64_t turns, const struct limits *limits, const char *folder)
{
    sim_begin(seed);
    memset(&w, 0, sizeof w);
    turns = limits_keep(limits, LIMIT_turns, turns);
    w.fault_turns = limits_keep(limits, LIMIT_fault_turns, turns + turns / 2);
    snprintf(w.folder, sizeof w.folder, "%s", folder);
    draw_shape();
    static const uint32_t faults[] = {0, 4, 4, 8, 16};
    sim.faults_of = faults[sim_draw(sizeof faults / sizeof faults[0])];
    w.has_power = sim_draw(3) == 0;
    static const uint32_t atoms[] = {0, 400, 400, 60, 60, 6};
    sim.atoms_each = atoms[sim_draw(sizeof atoms / sizeof atoms[0])];
    if (is_wrong_in_shared_lanes())
        sim.atoms_each = 6;
    keep_to(limits);
    w.vault = (struct rml_vault_options){
        .ways = disk_ways,
        .first_bytes = 4 * GRANULE,
        .step_bytes = 4 * GRANULE,
        .catalog_bytes = 1 << 20,
        .broken_rules = sim.wrong == SIM_commits_before_flush ? RML_VAULT_COMMITS_BEFORE_FLUSH : 0};
    read_plan();
    sim_say("partitions %u, workers %u, stages %x, cells %u%s, schedule %u, faults %u, power %d",
            w.shape.partitions, w.shape.workers, w.shape.stages, w.shape.cells,
            w.shape.is_shared ? " shared" : "", w.shape.schedule_steps, sim.faults_of, w.has_power);
    sim_say("producers %u, a door at one access in %u, journal %d of %u segments, delay %lld",
            w.shape.producers, sim.atoms_each, w.shape.has_journal, w.shape.journal_segments,
            (long long)w.shape.journal_delay_ns);
    producers_begin(&w.shape.records);
    log_begin();
    judge_begin(&(struct judge_shape){.size_ns = w.shape.window_ns,
                                      .late_ns = w.shape.late_ns,
                                      .out_of_order_ns = w.shape.out_of_order_ns,
                                      .stages = w.shape.stages,
                                      .has_wall_clock = w.shape.ticks});
    ledger_begin(w.plan);
    disk_begin(w.folder, w.has_power, w.shape.journal_segments);
    begin_life();
    while (w.has_engine)
        turn(turns);
    ledger_check(w.folder);
    if (w.was_durable)
        ledger_check_tables(w.folder);
    keeper_close();
    disk_end();
    sums.rows += ledger_rows();
    sums.steps = ledger_steps();
    sums.records = ledger_records();
    ledger_end();
    log_close();
    producers_end();
    rml_plan_close(w.plan);
    return sim.hash;
}
