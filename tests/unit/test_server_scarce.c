#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/client/client.h"
#include "runtime/client/subscribe.h"
#include "runtime/control/claim.h"
#include "runtime/control/server.h"
#include "runtime/lane/wire.h"
#include "tests/support/descriptors.h"
#include "tests/support/refusal.h"
#include "tests/support/served.h"
#include "tests/support/test.h"

/*
 * A pipeline that runs, and those who attach to it, on a machine which refuses something: each call of either
 * side is refused once. Who is refused says so; the other side, and whoever comes next, does not notice.
 */

#define RECORDS 40u
#define TRIES   10000u

static const char file[] =
    "version: 1\n"
    "pipeline: scarce\n"
    "schema: {event: {ts: time_ns, key: u64}}\n"
    "runtime: {workers: 1, partitions: 2, lanes_max: 8, state_limit: 64MiB,\n"
    "  limits: {attaches: 1000000, requests: 1000000}}\n"
    "sources:\n"
    "  own: {schema: event, event_time: ts, cells: 64}\n"
    "  ours: {schema: event, event_time: ts, cells: 64, lane: shared}\n"
    "stages:\n"
    "  w: {from: own, key: key, window: {type: tumbling, size: 10ns}, aggregate: {n: count()}}\n"
    "  v: {from: ours, key: key, window: {type: tumbling, size: 10ns}, aggregate: {n: count()}}\n"
    "sinks: {w: {from: w, type: ring, rows: 64}, v: {from: v, type: ring, rows: 64}}\n";

struct event {
    int64_t ts;
    uint64_t key;
};

static struct rml_plan *plan;
static struct rml_claim claim;
static struct served served;
static pthread_t thread;
static char run_dir[] = "/tmp/ringmill-test-XXXXXX";
static bool server_refused;  // or else the clients

/* The pipeline, in a thread of its own. */
static void *serve(void *context)
{
    refusal_is_here = server_refused;
    return served_run(context);
}

/* The type of the next message of this connection; 0 for none. */
static int hear(int peer)
{
    _Alignas(8) unsigned char reply[RML_WIRE_BYTES_MAX];
    uint32_t none;
    int type = rml_wire_receive(peer, reply, sizeof reply, NULL, 0, &none, NULL);
    return type > 0 ? type : 0;
}

/* Of the answer to a request over it. */
static int ask_over(int peer, const char *text)
{
    _Alignas(8) unsigned char message[sizeof(struct rml_wire_head) + 16] = {0};
    size_t bytes = sizeof(struct rml_wire_head) + strlen(text) + 1;
    assert_true(bytes <= sizeof message);
    const struct rml_wire_head head = rml_wire_head(RML_WIRE_HELLO_CONTROL, bytes);
    memcpy(message, &head, sizeof head);
    memcpy(message + sizeof head, text, strlen(text) + 1);
    return rml_wire_send(peer, (const void *)message, NULL, 0) == 0 ? hear(peer) : 0;
}

/* One request; does it come to an answer? */
static bool ask(const char *text)
{
    int peer = rml_wire_connect("scarce", INT64_C(20000000000), NULL);
    if (peer < 0)
        return false;
    bool is_answered = ask_over(peer, text) != 0;
    close(peer);
    return is_answered;
}

static int start(void **state)
{
    (void)state;
    struct rml_plan_errors errors = {0};
    refusal_is_here = false;
    assert_non_null(mkdtemp(run_dir));
    assert_int_equal(setenv("RINGMILL_RUNDIR", run_dir, 1), 0);
    assert_int_equal(rml_plan_parse(file, strlen(file), "scarce.yaml", rml_operators_functions(),
                                    &plan, &errors, NULL),
                     0);
    assert_int_equal(rml_claim_open(&claim, "scarce", NULL), 0);
    assert_int_equal(rml_claim_listen(&claim, NULL), 0);
    served = (struct served){plan, &claim};
    assert_int_equal(pthread_create(&thread, NULL, serve, &served), 0);
    assert_true(ask("refresh"));
    return 0;
}

static int start_refusing(void **state)
{
    server_refused = true;
    return start(state);
}

static int stop(void **state)
{
    (void)state;
    assert_true(ask("stop"));
    pthread_join(thread, NULL);
    rml_claim_close(&claim);
    rml_plan_close(plan);
    rmdir(run_dir);
    memcpy(run_dir + sizeof run_dir - 7, "XXXXXX", 6);
    server_refused = false;
    return 0;
}

/* What came of a visit: of whom, a code, and a word about it. */
struct outcome {
    const char *who;
    int rc;
    char text[RML_PRODUCER_ERROR_BYTES];
};

static void produce(const char *place, uint32_t source, struct outcome *o)
{
    struct rml_producer *producer = NULL;
    *o = (struct outcome){.who = place};
    o->rc = rml_producer_open(&producer, place, plan->sources[source].schema.hash,
                              sizeof(struct event), NULL, o->text, sizeof o->text);
    if (o->rc < 0)
        return;
    for (uint32_t i = 0; i < RECORDS && o->rc >= 0; i++) {
        const struct event event = {.ts = i, .key = i % 3};
        o->rc = rml_producer_put(producer, &event);
    }
    if (o->rc < 0)
        (void)rml_producer_reason(producer, o->text, sizeof o->text);
    rml_producer_close(producer);
}

static void read_rows(const char *place, const char *group, struct outcome *o)
{
    struct rml_subscriber *subscriber = NULL;
    const struct rml_subscriber_options options = {.from_oldest = 1, .group = group};
    unsigned char row[256];
    *o = (struct outcome){.who = group != NULL ? "member" : place};
    o->rc = rml_subscriber_open(&subscriber, place, 0, 0, &options, o->text, sizeof o->text);
    if (o->rc < 0)
        return;
    assert_true(rml_subscriber_record_bytes(subscriber) <= sizeof row);
    for (int got = 1; got > 0;)
        got = rml_subscriber_read(subscriber, row, NULL);
    rml_subscriber_close(subscriber);
}

// All of whom one has come to nothing at most; which one, or 0.
static int visit(struct outcome *ret_worst)
{
    struct outcome o[4];
    produce("scarce/own", 0, &o[0]);
    produce("scarce/ours", 1, &o[1]);
    read_rows("scarce/w", NULL, &o[2]);
    read_rows("scarce/v", "g", &o[3]);
    uint32_t failed = 0;
    for (uint32_t i = 0; i < 4; i++) {
        if (o[i].rc >= 0)
            continue;
        failed++;
        *ret_worst = o[i];
    }
    return (int)failed;
}

static void come_back_until_it_is_as_before(uint32_t descriptors)
{
    struct outcome worst = {0};
    uint32_t tries = 0;
    // a lane that is being let go of, or a place of one who just left, comes free in a moment
    while (visit(&worst) > 0) {
        if (tries++ == TRIES)
            fail_msg("%s: %d %s", worst.who, worst.rc, worst.text);
        sched_yield();
    }
    while (descriptors > 0 && descriptors_open() > descriptors) {
        if (tries++ == TRIES)
            fail_msg("%u descriptors where there were %u", descriptors_open(), descriptors);
        assert_true(ask("refresh"));
    }
}

static void refuse_each_call_once(void)
{
    uint32_t refusals = 0, borne = 0;
    come_back_until_it_is_as_before(0);
    come_back_until_it_is_as_before(descriptors_open());
    uint32_t descriptors = descriptors_open();
    for (uint32_t calls = 0;; calls++) {
        struct outcome worst = {0};
        refusal_begin(calls);
        int failed = visit(&worst);
        const char *refused = refusal_end();
        if (refused == NULL) {
            assert_int_equal(failed, 0);
            break;
        }
        refusals++;
        borne += failed == 0;
        if (failed > 0 && worst.text[0] == '\0')
            fail_msg("%s: call %u (%s): %d, and no word", worst.who, calls, refused, worst.rc);
        come_back_until_it_is_as_before(descriptors);
    }
    print_message("%u refusals, %u of them borne\n", refusals, borne);
    assert_true(refusals > 20);
}

static void who_attaches_and_is_refused_anything_says_so_and_can_come_again(void **state)
{
    (void)state;
    refusal_is_here = true;
    refuse_each_call_once();
    refusal_is_here = false;
}

static void a_pipeline_that_is_refused_anything_goes_on_and_serves_who_comes_next(void **state)
{
    (void)state;
    refuse_each_call_once();
}

/* No descriptor, not even to say so */

static int connect_later(struct sockaddr_un *ret_address)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t length = strlen(claim.socket);
    assert_true(length < sizeof ret_address->sun_path);
    memcpy(ret_address->sun_path, claim.socket, length);
    int peer = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(peer >= 0);
    return peer;
}

static void be_short_of_descriptors(struct rlimit *ret_before)
{
    assert_int_equal(getrlimit(RLIMIT_NOFILE, ret_before), 0);
    int lowest_free = dup(STDERR_FILENO);
    struct rlimit none = *ret_before;
    none.rlim_cur = (rlim_t)lowest_free;
    close(lowest_free);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
}

static void where_the_spare_descriptor_is_gone_too_those_who_have_come_are_served_on(void **state)
{
    (void)state;
    struct sockaddr_un address;
    struct rlimit before;
    int there = rml_wire_connect("scarce", INT64_C(20000000000), NULL);
    assert_int_equal(ask_over(there, "refresh"), RML_WIRE_REPLY);
    int told = connect_later(&address), waits = connect_later(&address);
    const struct sockaddr *to = (const void *)&address;
    be_short_of_descriptors(&before);

    // it gives up the spare one to say so, and does not get it back
    refusal_begin(0);
    assert_int_equal(connect(told, to, sizeof address), 0);
    assert_int_equal(hear(told), RML_WIRE_REFUSED);
    assert_int_equal(ask_over(there, "refresh"), RML_WIRE_REPLY);
    assert_string_equal(refusal_end(), "open");
    int taken = dup(STDERR_FILENO);  // by another thread, as it were
    assert_true(taken >= 0);

    assert_int_equal(connect(waits, to, sizeof address), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ask_over(there, "refresh"), RML_WIRE_REPLY);
    close(taken);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(ask_over(waits, "refresh"), RML_WIRE_REPLY);
    close(there);
    close(told);
    close(waits);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        cmocka_unit_test_setup_teardown(
            who_attaches_and_is_refused_anything_says_so_and_can_come_again, start, stop),
        cmocka_unit_test_setup_teardown(
            a_pipeline_that_is_refused_anything_goes_on_and_serves_who_comes_next, start_refusing,
            stop),
        cmocka_unit_test_setup_teardown(
            where_the_spare_descriptor_is_gone_too_those_who_have_come_are_served_on,
            start_refusing, stop),
    };
    return cmocka_run_group_tests(claims, NULL, NULL);
}
