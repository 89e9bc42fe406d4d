#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/control/engine.h"
#include "runtime/control/server.h"
#include "runtime/keeper/keeper.h"
#include "runtime/keeper/keeping.h"
#include "runtime/lane/wire.h"
#include "runtime/plan/plan.h"
#include "tests/support/test.h"

/*
 * An engine that waits for its turn after deaths, an hour that nobody has. Whoever asks for the end stands in front of
 * it before it begins to wait, in its own process; what it has heard by the time that it waits no longer is held to
 * what was asked. The keeper is a real one.
 */

#define HOUR_NS INT64_C(3600000000000)

static const char file[] =
    "version: 1\n"
    "pipeline: waiting\n"
    "schema: {event: {ts: time_ns, key: u64}}\n"
    "runtime: {workers: 1, partitions: 1, lanes_max: 4, state_limit: 64MiB}\n"
    "sources: {s: {schema: event, event_time: ts, cells: 64}}\n"
    "stages: {w: {from: s, key: key, window: {type: tumbling, size: 10ns}, aggregate: {n: count()}}}\n"
    "sinks: {w: {from: w, type: ring, rows: 64}}\n";

enum asker { BY_STOP, BY_DRAIN, BY_SIGNAL };

/* What the engine's process leaves. */
static struct shared {
    uint32_t runs, wanted_end, signals;
    char answer[300];
} * shared;

static struct rml_plan *plan;
static struct rml_claim claim;
static char run_dir[] = "/tmp/ringmill-test-XXXXXX";

static int open_all(void **state)
{
    (void)state;
    struct rml_plan_errors errors = {0};
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || mkdtemp(run_dir) == NULL
        || setenv("RINGMILL_RUNDIR", run_dir, 1) < 0
        || rml_plan_parse(file, strlen(file), "waiting.yaml", rml_operators_functions(), &plan,
                          &errors, NULL)
               < 0
        || rml_claim_open(&claim, "waiting", NULL) < 0)
        return -1;
    return rml_claim_listen(&claim, NULL);
}

static int close_all(void **state)
{
    (void)state;
    rml_claim_close(&claim);
    rml_plan_close(plan);
    rmdir(run_dir);
    memcpy(run_dir + sizeof run_dir - 7, "XXXXXX", 6);
    return munmap(shared, sizeof *shared);
}

static void send_request(int peer, const char *text)
{
    _Alignas(8) unsigned char message[sizeof(struct rml_wire_head) + 16] = {0};
    size_t bytes = sizeof(struct rml_wire_head) + strlen(text) + 1;
    const struct rml_wire_head head = rml_wire_head(RML_WIRE_HELLO_CONTROL, bytes);
    RML_CHECK(bytes <= sizeof message);
    memcpy(message, &head, sizeof head);
    memcpy(message + sizeof head, text, strlen(text) + 1);
    RML_CHECK(rml_wire_send(peer, (const void *)message, NULL, 0) == 0);
}

static void hear_answer(int peer, char *text, size_t room)
{
    _Alignas(8) unsigned char memory[RML_WIRE_BYTES_MAX];
    const struct rml_wire_reply *reply = (const void *)memory;
    int fds[1];
    uint32_t fd_count;
    RML_CHECK(rml_wire_receive(peer, memory, sizeof memory, fds, 1, &fd_count, NULL)
              == RML_WIRE_REPLY);
    size_t length = reply->head.bytes - offsetof(struct rml_wire_reply, text);
    RML_CHECK(length < room && reply->code == 0);
    memcpy(text, reply->text, length);
    text[length] = '\0';
}

// As an engine that a keeper has started, once it has died before; where it would wait for an hour.
static void be_engine(struct rml_keeping *keeping, enum asker asker)
{
    const char *request = asker == BY_STOP ? "stop" : "drain";
    int peer = -1;
    if (shared->runs++ == 0) {
        kill(getpid(), SIGKILL);
        pause();
    }
    keeping->pause_ns = HOUR_NS;
    const struct rml_server_options server_options = {
        .plan = plan, .clock = &rml_clock_system, .claim = &claim, .keeping = keeping};
    struct rml_engine_options options = {.plan = plan,
                                         .operators = rml_operators_table(),
                                         .clock = &rml_clock_system,
                                         .keeping = keeping};
    struct rml_server *server;
    struct rml_engine *engine;
    RML_CHECK(rml_server_open(&server, &server_options, NULL) == 0);
    rml_server_hook(server, &options);
    if (asker == BY_SIGNAL) {
        kill(getppid(), SIGTERM);
    } else {
        peer = rml_wire_connect("waiting", HOUR_NS, NULL);
        RML_CHECK(peer >= 0);
        send_request(peer, "board");
        send_request(peer, request);
    }
    RML_CHECK(rml_engine_open(&engine, &options, NULL) == 0);
    shared->wanted_end = rml_board_wanted_end(rml_engine_board(engine));
    shared->signals = keeping->asked;
    if (peer >= 0) {
        hear_answer(peer, shared->answer, sizeof shared->answer);  // how large the board is
        RML_CHECK(strtoull(shared->answer, NULL, 10) == rml_engine_board(engine)->segment.bytes);
        hear_answer(peer, shared->answer, sizeof shared->answer);
    }
    rml_note_say("and then it could not");
    _exit(1);
}

static void say(void *context, const char *sentence)
{
    (void)context;
    (void)sentence;
}

// The keeper gives up, since it was asked to, after this one try.
static void wait_and_ask(enum asker asker)
{
    struct rml_keeper *keeper = NULL;
    struct rml_keeping *keeping = NULL;
    struct rml_err err = {0};
    int code = -1;
    const struct rml_keeper_options options = {
        .restarts_most = 1000, .within_ns = HOUR_NS, .say = say, .paused = say};
    assert_int_equal(rml_keeper_open(&keeper, &options, &err), 0);
    int rc = rml_keeper_run(keeper, &keeping, &code, &err);
    if (rc == 1)
        be_engine(keeping, asker);
    rml_keeper_close(keeper);
    assert_int_equal(rc, -EOWNERDEAD);
    assert_int_equal(shared->runs, 2);
    assert_non_null(strstr(err.text, "asked to end"));
    assert_non_null(strstr(err.text, "and then it could not"));
}

static void a_stop_ends_the_longest_wait_and_is_answered(void **state)
{
    (void)state;
    wait_and_ask(BY_STOP);
    assert_int_equal(shared->wanted_end, RML_BOARD_STOP);
    assert_non_null(strstr(shared->answer, "the next one comes up at once to save what there is"));
}

static void a_drain_ends_the_longest_wait_and_is_answered(void **state)
{
    (void)state;
    wait_and_ask(BY_DRAIN);
    assert_int_equal(shared->wanted_end, RML_BOARD_DRAIN);
    assert_non_null(strstr(shared->answer, "the next one comes up at once to drain"));
}

static void a_signal_ends_the_longest_wait_and_is_obeyed_later(void **state)
{
    (void)state;
    wait_and_ask(BY_SIGNAL);
    assert_int_equal(shared->wanted_end, 0);
    assert_int_equal(shared->signals, 1);
}

#define WAITING(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

TEST_MAIN(WAITING(a_stop_ends_the_longest_wait_and_is_answered),
          WAITING(a_drain_ends_the_longest_wait_and_is_answered),
          WAITING(a_signal_ends_the_longest_wait_and_is_obeyed_later))
