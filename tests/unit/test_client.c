#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/base/rundir.h"
#include "runtime/client/attach.h"
#include "runtime/client/client.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/wire.h"
#include "tests/support/test.h"

struct record {
    int64_t time;
    uint64_t key;
};

static char rundir[] = "/tmp/ringmill-test-XXXXXX";
static char error[RML_PRODUCER_ERROR_BYTES];
static struct rml_producer *producer;
static struct rml_mark marks[64];
static struct rml_lane_run run;

/* As much of an engine as an attaching producer sees. */
static struct engine {
    int listener, connection;
    int refuse;          // with this code instead of a lane
    bool mute, hang_up;  // instead of an answer, and for good
    int deaths;          // engines that hang up before one answers
    pthread_t thread;
    struct rml_wire_hello_produce hello;
    struct rml_lane_in *in;
} engine;

static struct rml_lane_geometry geometry(void)
{
    return (struct rml_lane_geometry){.partitions = 2,
                                      .workers = 1,
                                      .cells = 8,
                                      .cell_bytes = sizeof(struct record),
                                      .on_full = RML_LANE_BLOCK,
                                      .grid = {.granule_ns = 1},
                                      .key_field_count = 1,
                                      .key = {{.offset = 8, .bytes = 8}}};
}

static void answer(void)
{
    struct rml_lane_geometry offered = geometry();
    if (engine.mute)
        return;
    if (engine.refuse != 0) {
        rml_wire_send_refused(engine.connection, engine.refuse, "no source calls here");
    } else if (rml_lane_in_open(&engine.in, &offered, "test", 1, NULL) == 0) {
        rml_wire_send_lane(engine.connection, &offered, rml_lane_in_fds(engine.in), 1, 0, 0);
    }
}

static void *serve(void *unused)
{
    (void)unused;
    uint32_t fd_count = 0;
    engine.connection = accept4(engine.listener, NULL, NULL, SOCK_CLOEXEC);
    for (; engine.deaths > 0; engine.deaths--) {
        close(engine.connection);
        engine.connection = accept4(engine.listener, NULL, NULL, SOCK_CLOEXEC);
    }
    if (rml_wire_receive(engine.connection, &engine.hello, sizeof engine.hello, NULL, 0, &fd_count,
                         NULL)
        == RML_WIRE_HELLO_PRODUCE)
        answer();
    if (engine.hang_up) {
        close(engine.listener);
        close(engine.connection);
    }
    return NULL;
}

static void start_engine(void)
{
    engine = (struct engine){.connection = -1};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char dir[64];
    snprintf(dir, sizeof dir, "%s/llm", rundir);
    assert_true(mkdir(dir, 0700) == 0 || errno == EEXIST);
    assert_true(rml_rundir_file(address.sun_path, sizeof address.sun_path, "llm", "socket") > 0);
    unlink(address.sun_path);
    engine.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(engine.listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(engine.listener, 4), 0);
}

// NULL: as most want it, but for as long as the machine takes.
static int open_with(const struct rml_producer_options *options)
{
    static const struct rml_producer_options patient = {.open_ns = INT64_C(3600000000000)};
    options = options != NULL ? options : &patient;
    assert_int_equal(pthread_create(&engine.thread, NULL, serve, NULL), 0);
    int rc = rml_producer_open(&producer, "llm/calls", 77, sizeof(struct record), options, error,
                               sizeof error);
    assert_int_equal(pthread_join(engine.thread, NULL), 0);
    return rc;
}

static void stop_engine(void)
{
    rml_lane_in_close(engine.in);
    if (engine.hang_up)
        return;
    close(engine.connection);
    close(engine.listener);
}

static uint64_t take_all(void)
{
    uint64_t taken = 0;
    for (uint32_t p = 0; p < 2; p++) {
        int32_t rows;
        while ((rows = rml_lane_in_peek(engine.in, p, 64, marks, &run)) > 0) {
            rml_lane_in_take(engine.in, p, (uint32_t)rows);
            rml_lane_in_release(engine.in, p, (uint32_t)rows);
            taken += (uint64_t)rows;
        }
        assert_int_equal(rows, 0);
    }
    return taken;
}

static void what_a_producer_writes_the_engine_takes(void **state)
{
    (void)state;
    start_engine();
    assert_int_equal(open_with(NULL), 0);
    assert_string_equal(engine.hello.source, "calls");
    assert_int_equal(engine.hello.schema_hash, 77);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(rml_producer_put(producer, &(struct record){.key = i}), 1);

    struct record record = {.time = 5, .key = 99};
    uint32_t p = rml_producer_route(producer, &record);
    assert_true(p < rml_producer_partitions(producer));
    void *cells;
    assert_true(rml_producer_claim(producer, p, 2, &cells) > 0);
    memcpy(cells, &record, sizeof record);
    assert_int_equal(rml_producer_commit(producer, p, 3), -EINVAL);
    assert_int_equal(rml_producer_commit(producer, p, 1), 0);
    assert_int_equal(rml_producer_commit(producer, p, 1), -EINVAL);  // the claim is over
    assert_int_equal(rml_producer_claim(producer, 2, 1, &cells), -EINVAL);
    assert_int_equal(take_all(), 0);
    assert_int_equal(rml_producer_publish(producer), 0);
    assert_int_equal(take_all(), 5);

    struct rml_producer_stats stats;
    assert_int_equal(rml_producer_drop(producer, 2), 0);
    assert_int_equal(rml_producer_stats(producer, &stats), 0);
    assert_int_equal(stats.written, 5);
    assert_int_equal(stats.published, 5);
    assert_int_equal(stats.released, 5);
    assert_int_equal(stats.dropped, 2);
    rml_producer_close(producer);
    stop_engine();
}

static void closing_publishes_and_says_goodbye(void **state)
{
    (void)state;
    start_engine();
    assert_int_equal(open_with(NULL), 0);
    assert_int_equal(rml_producer_put(producer, &(struct record){.key = 1}), 1);
    rml_producer_close(producer);
    assert_int_equal(take_all(), 1);
    _Alignas(8) struct rml_wire_bye bye;
    uint32_t fd_count;
    assert_int_equal(
        rml_wire_receive(engine.connection, &bye, sizeof bye, NULL, 0, &fd_count, NULL),
        RML_WIRE_BYE);
    assert_int_equal(
        rml_wire_receive(engine.connection, &bye, sizeof bye, NULL, 0, &fd_count, NULL), 0);
    stop_engine();
}

static void a_refusal_says_what_the_engine_said(void **state)
{
    (void)state;
    start_engine();
    engine.refuse = ENOENT;
    assert_int_equal(open_with(NULL), -ENOENT);
    assert_string_equal(error, "no source calls here");
    stop_engine();
}

static void a_refusal_is_heard_from_an_engine_that_did_not_listen(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct rml_wire_bye hello = {.head = rml_wire_head(RML_WIRE_BYE, sizeof hello)};
    assert_int_equal(rml_wire_send(pair[0], &hello.head, NULL, 0), 0);
    assert_int_equal(rml_wire_send_refused(pair[1], EACCES, "not you"), 0);
    close(pair[1]);  // with what was said unread

    _Alignas(8) unsigned char message[RML_WIRE_BYTES_MAX];
    struct rml_err err = {0};
    uint32_t fd_count;
    assert_int_equal(rml_attach_answer(pair[0], RML_WIRE_LANE, 0, message, sizeof message, NULL, 0,
                                       &fd_count, &err),
                     -EACCES);
    assert_string_equal(err.text, "not you");
    close(pair[0]);
}

static void an_answer_that_is_there_is_heard_however_late_one_looks(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(rml_wire_send_refused(pair[1], EACCES, "not you"), 0);
    _Alignas(8) unsigned char message[RML_WIRE_BYTES_MAX];
    uint32_t fd_count;
    for (int look = 0; look < 2;
         look++)  // the time is up before the first look, and nothing comes for the second
        assert_int_equal(rml_attach_answer(pair[0], RML_WIRE_LANE, 1, message, sizeof message, NULL,
                                           0, &fd_count, NULL),
                         look == 0 ? -EACCES : -ETIMEDOUT);
    close(pair[0]);
    close(pair[1]);
}

static void an_engine_that_hangs_up_or_is_silent_ends_the_attempt(void **state)
{
    (void)state;
    start_engine();
    engine.mute = engine.hang_up = true;
    assert_int_equal(open_with(NULL), -ECONNREFUSED);
    stop_engine();
    start_engine();
    engine.mute = true;
    assert_int_equal(open_with(&(struct rml_producer_options){.open_ns = 1000000}), -ETIMEDOUT);
    stop_engine();
}

static void engines_that_die_while_a_producer_attaches_are_hidden_by_the_next(void **state)
{
    (void)state;
    start_engine();
    engine.deaths = 3;
    assert_int_equal(open_with(NULL), 0);
    assert_int_equal(engine.deaths, 0);
    rml_producer_close(producer);
    stop_engine();
}

static void nobody_to_attach_to_is_told_apart(void **state)
{
    (void)state;
    start_engine();
    close(engine.listener);
    assert_int_equal(rml_producer_open(&producer, "llm/calls", 0, 16, NULL, error, sizeof error),
                     -ECONNREFUSED);
    assert_non_null(strstr(error, "the pipeline has died"));
    assert_int_equal(rml_producer_open(&producer, "other/calls", 0, 16, NULL, error, sizeof error),
                     -ENOENT);
    assert_non_null(strstr(error, "pipeline other: no such pipeline is running"));
    static const char *const places[] = {"llm", "/calls", "llm/", "../x/calls", "llm/ca lls", ""};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        assert_int_equal(rml_producer_open(&producer, places[i], 0, 16, NULL, error, sizeof error),
                         -EINVAL);
}

static void a_full_lane_holds_a_call_up_no_longer_than_allowed(void **state)
{
    (void)state;
    start_engine();
    assert_int_equal(open_with(&(struct rml_producer_options){.wait_ns = 1000000,
                                                              .open_ns = INT64_C(3600000000000)}),
                     0);
    int rc;
    uint64_t written = 0;
    while ((rc = rml_producer_put(producer, &(struct record){.key = 5})) == 1)
        written++;
    assert_int_equal(rc, -ETIMEDOUT);
    assert_int_equal(written, 8);
    assert_int_equal(take_all(), 8);
    assert_int_equal(rml_producer_put(producer, &(struct record){.key = 5}), 1);
    rml_producer_close(producer);
    stop_engine();
}

static void a_detached_producer_learns_why(void **state)
{
    (void)state;
    start_engine();
    assert_int_equal(open_with(NULL), 0);
    char text[64] = "x";
    assert_int_equal(rml_producer_reason(producer, text, sizeof text), 0);
    assert_string_equal(text, "");
    rml_lane_in_detach(engine.in, ESHUTDOWN, "the pipeline is stopping");
    assert_int_equal(rml_producer_publish(producer), -EPIPE);
    assert_int_equal(rml_producer_reason(producer, text, sizeof text), ESHUTDOWN);
    assert_string_equal(text, "the pipeline is stopping");
    rml_producer_close(producer);
    stop_engine();
}

static int use_the_parents_producer(void)
{
    void *cells;
    struct rml_producer_stats stats;
    if (rml_producer_put(producer, &(struct record){.key = 1}) != -ECHILD
        || rml_producer_publish(producer) != -ECHILD
        || rml_producer_claim(producer, 0, 1, &cells) != -ECHILD
        || rml_producer_stats(producer, &stats) != -ECHILD)
        return 1;
    rml_producer_close(producer);
    return 0;
}

static void a_forked_child_cannot_touch_its_parents_lane(void **state)
{
    (void)state;
    start_engine();
    assert_int_equal(open_with(NULL), 0);
    assert_int_equal(rml_producer_put(producer, &(struct record){.key = 1}), 1);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(use_the_parents_producer());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(take_all(), 0);  // not even what the parent had put was published
    assert_int_equal(rml_producer_put(producer, &(struct record){.key = 1}), 1);
    assert_int_equal(rml_producer_publish(producer), 0);
    assert_int_equal(take_all(), 2);
    rml_producer_close(producer);
    stop_engine();
}

static int make_rundir(void **state)
{
    (void)state;
    return mkdtemp(rundir) == NULL || setenv("RINGMILL_RUNDIR", rundir, 1) != 0;
}

static int remove_rundir(void **state)
{
    (void)state;
    char path[96];
    snprintf(path, sizeof path, "%s/llm/socket", rundir);
    unlink(path);
    snprintf(path, sizeof path, "%s/llm", rundir);
    rmdir(path);
    return rmdir(rundir);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        CLAIM(what_a_producer_writes_the_engine_takes),
        CLAIM(closing_publishes_and_says_goodbye),
        CLAIM(a_refusal_says_what_the_engine_said),
        CLAIM(a_refusal_is_heard_from_an_engine_that_did_not_listen),
        CLAIM(an_answer_that_is_there_is_heard_however_late_one_looks),
        CLAIM(an_engine_that_hangs_up_or_is_silent_ends_the_attempt),
        CLAIM(engines_that_die_while_a_producer_attaches_are_hidden_by_the_next),
        CLAIM(nobody_to_attach_to_is_told_apart),
        CLAIM(a_full_lane_holds_a_call_up_no_longer_than_allowed),
        CLAIM(a_detached_producer_learns_why),
        CLAIM(a_forked_child_cannot_touch_its_parents_lane),
    };
    return cmocka_run_group_tests(claims, make_rundir, remove_rundir);
}
