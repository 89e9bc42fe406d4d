/*
 * Who is let in, to what, and how often; the clock is held.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/control/gate.h"
#include "tests/support/plan.h"
#include "tests/support/random.h"

#define SECOND INT64_C(1000000000)

// User 100 runs the engine; 7 may write, 8 look, 9 steer, 10 read one ring; group 70 may write.
static const char file[] =
    "version: 1\npipeline: p\nschema: {event: {ts: time_ns, key: u32}}\n"
    "runtime:\n"
    "  partitions: 1\n"
    "  view: {users: 8}\n"
    "  control: {users: [9]}\n"
    "  limits: {connections: 3, attaches: 10, requests: 5}\n"
    "sources:\n"
    "  open: {schema: event, event_time: ts, allow: {users: [7, 17], groups: 70}}\n"
    "  shut: {schema: event, event_time: ts}\n"
    "stages:\n"
    "  rows: {from: open, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n"
    "  other: {from: shut, filter: true}\n"
    "sinks:\n"
    "  file: {from: rows, type: csv, path: rows.csv}\n"
    "  shut: {from: rows, type: ring}\n"
    "  open: {from: rows, type: ring, allow: {users: 10}}\n"
    "  late: {from: rows.late, type: ring}\n";

static const struct rml_gate_open NONE_OPEN = {.places = 10000};

static struct world {
    struct rml_plan *plan;
    struct rml_gate *gate;
    struct rml_gate_counts counts;
    struct rml_err err;
} w;

static int64_t held_now;

static int64_t held_monotonic(void *context)
{
    (void)context;
    return held_now;
}

static const struct rml_clock clock_held = {.monotonic_ns = held_monotonic};

static int open_world(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    held_now = 0;
    w.plan = plan_of(file);
    const struct rml_gate_options options = {.plan = w.plan, .clock = &clock_held, .own_uid = 100};
    assert_int_equal(rml_gate_open(&w.gate, &options, &w.err), 0);
    rml_gate_count_in(w.gate, &w.counts);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    rml_gate_close(w.gate);
    rml_plan_close(w.plan);
    return 0;
}

static uint64_t count(enum rml_gate_counter counter)
{
    return rml_count_read(&w.counts.value[counter]);
}

static struct rml_gate_peer user(uint32_t uid)
{
    return (struct rml_gate_peer){.pid = 1, .uid = uid, .gid = uid};
}

static void assert_said(const char *words)
{
    if (strstr(w.err.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", w.err.text, words);
}

/* What a peer may do, as a word of letters: write open, write shut, read, read late, view, control. */
static void assert_may(struct rml_gate_peer peer, const char *what)
{
    const int rc[] = {rml_gate_may_write(w.gate, &peer, 0, &w.err),
                      rml_gate_may_write(w.gate, &peer, 1, &w.err),
                      rml_gate_may_read(w.gate, &peer, "rows", &w.err),
                      rml_gate_may_read(w.gate, &peer, "rows.late", &w.err),
                      rml_gate_may_view(w.gate, &peer, &w.err),
                      rml_gate_may_control(w.gate, &peer, &w.err)};
    char may[] = "oOrlvc";
    for (int i = 0; i < 6; i++) {
        assert_true(rc[i] == 0 || rc[i] == -EACCES);
        if (rc[i] < 0)
            may[i] = '-';
    }
    assert_string_equal(may, what);
}

static void each_list_lets_its_own_users_in_and_to_nothing_else(void **state)
{
    (void)state;
    assert_may(user(100), "oOrlvc");
    assert_may(user(0), "oOrlvc");
    assert_may(user(7), "o-----");
    assert_may(user(17), "o-----");
    assert_may(user(8), "----v-");
    assert_may(user(9), "----vc");
    assert_may(user(10), "--r---");
    assert_may(user(11), "------");
    assert_int_equal(count(RML_GATE_not_allowed), 5 + 5 + 5 + 4 + 5 + 6);
}

static void a_group_lets_in_who_acts_for_it_or_is_in_it(void **state)
{
    (void)state;
    const uint32_t groups[] = {1, 70, 2}, others[] = {1, 2, 71};
    struct rml_gate_peer peer = user(50);
    peer.gid = 70;
    assert_may(peer, "o-----");
    peer.gid = 50;
    assert_may(peer, "------");
    peer.groups = groups;
    peer.group_count = 3;
    assert_may(peer, "o-----");
    peer.groups = others;
    assert_may(peer, "------");
    // a user's number is no group's
    assert_may(user(70), "o-----");
    peer = user(70);
    peer.gid = 1;
    assert_may(peer, "------");
}

static void who_is_refused_is_told_who_he_is_who_is_let_in_and_where_that_stands(void **state)
{
    (void)state;
    struct rml_gate_peer peer = user(11);
    assert_int_equal(rml_gate_enter(w.gate, &peer, NONE_OPEN, &w.err), -EACCES);
    assert_said("pipeline p runs as user 100 and does not know you, user 11");
    assert_said("`allow`, `view` or `control` of test.yaml");
    peer = user(8);
    assert_int_equal(rml_gate_may_write(w.gate, &peer, 0, &w.err), -EACCES);
    assert_said("you are user 8, and only user 100 and root may write into source open, and users "
                "7, 17; group 70 (line 10 of test.yaml)");
    assert_int_equal(rml_gate_may_write(w.gate, &peer, 1, &w.err), -EACCES);
    assert_said("you are user 8, and only user 100 and root may write into source shut: run as "
                "that user, or have test.yaml name yours");
    assert_int_equal(rml_gate_may_read(w.gate, &peer, "rows", &w.err), -EACCES);
    assert_said("may read the rows of rows, and user 10 (line 18 of test.yaml)");
    assert_int_equal(rml_gate_may_control(w.gate, &peer, &w.err), -EACCES);
    assert_said("drain, stop or checkpoint pipeline p, and user 9 (line 7 of test.yaml)");
    assert_true(strlen(w.err.text) < 232);  // what a refusal has room for
}

static void what_has_no_ring_is_for_others_to_refuse(void **state)
{
    (void)state;
    const struct rml_gate_peer peer = user(7);
    assert_int_equal(rml_gate_may_read(w.gate, &peer, "other", &w.err), 0);
    assert_int_equal(rml_gate_may_read(w.gate, &peer, "nothing.late", &w.err), 0);
}

static int enter(uint32_t uid, uint32_t open)
{
    const struct rml_gate_peer peer = user(uid);
    return rml_gate_enter(w.gate, &peer, (struct rml_gate_open){.by_user = open, .places = 10000},
                          &w.err);
}

static void each_who_is_on_any_list_may_enter(void **state)
{
    (void)state;
    static const uint32_t known[] = {0, 100, 7, 8, 9, 10};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        assert_int_equal(enter(known[i], 0), 0);
    assert_int_equal(enter(11, 0), -EACCES);
    assert_int_equal(count(RML_GATE_let_in), 6);
    assert_int_equal(count(RML_GATE_strangers), 1);
}

static void another_user_has_so_many_connections_and_our_own_has_more(void **state)
{
    (void)state;
    assert_int_equal(enter(7, 2), 0);
    assert_int_equal(enter(7, 3), -EMFILE);
    assert_said("user 7 has 3 connections, as many as runtime.limits.connections allows");
    assert_int_equal(enter(100, 3000), 0);
    assert_int_equal(enter(0, 3000), 0);
    assert_int_equal(count(RML_GATE_too_many), 1);
}

static void a_user_connects_so_often_in_a_second_and_others_do_not_notice(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(enter(7, 0), 0);
    assert_int_equal(enter(7, 0), -EAGAIN);
    assert_said("user 7 connects more often than 10 times a second (runtime.limits.attaches)");
    assert_int_equal(enter(8, 0), 0);
    held_now = SECOND / 10 - 1;
    assert_int_equal(enter(7, 0), -EAGAIN);
    held_now = SECOND / 10;
    assert_int_equal(enter(7, 0), 0);
    assert_int_equal(enter(7, 0), -EAGAIN);
    held_now = 100 * SECOND;  // what was not used in between is not kept for later
    for (int i = 0; i < 10; i++)
        assert_int_equal(enter(7, 0), 0);
    assert_int_equal(enter(7, 0), -EAGAIN);
    assert_int_equal(count(RML_GATE_too_often), 4);
}

static void a_user_asks_so_often_in_a_second(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(rml_gate_request(w.gate, 8, 1, &w.err), 0);
    assert_int_equal(rml_gate_request(w.gate, 8, 1, &w.err), -EAGAIN);
    assert_said("user 8 asks more often than 5 times a second (runtime.limits.requests)");
    assert_int_equal(enter(8, 0), 0);  // which is another rate
    assert_int_equal(rml_gate_request(w.gate, 9, 1, &w.err), 0);
    held_now = SECOND / 5;
    assert_int_equal(rml_gate_request(w.gate, 8, 1, &w.err), 0);
    assert_int_equal(rml_gate_request(w.gate, 8, 1, &w.err), -EAGAIN);
    assert_int_equal(count(RML_GATE_too_many_requests), 2);
}

static int enter_as(uint32_t uid, uint32_t pid, uint32_t open)
{
    struct rml_gate_peer peer = user(uid);
    peer.pid = pid;
    return rml_gate_enter(w.gate, &peer,
                          (struct rml_gate_open){.by_user = 90, .by_process = open, .places = 100},
                          &w.err);
}

static void a_process_of_our_own_leaves_places_and_half_of_each_rate_to_others(void **state)
{
    (void)state;
    assert_int_equal(enter_as(100, 5, 100 - RML_GATE_PLACES_LEFT - 1), 0);
    assert_int_equal(enter_as(100, 5, 100 - RML_GATE_PLACES_LEFT), -EMFILE);
    assert_said("process 5 has 68 of the 100 connections that can be open");
    assert_int_equal(enter_as(100, 6, 0), 0);
    assert_int_equal(count(RML_GATE_too_many), 1);

    held_now = 10 * SECOND;  // ten in a second, five for one process
    for (int i = 0; i < 5; i++)
        assert_int_equal(enter_as(100, 5, 0), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(enter_as(100, 5, 0), -EAGAIN);
    assert_said("process 5 connects more often than 5 times a second, half of what its user 100 "
                "may (runtime.limits.attaches)");
    for (int i = 0; i < 5; i++)
        assert_int_equal(enter_as(100, 6, 0), 0);
    assert_int_equal(enter_as(100, 7, 0), -EAGAIN);
    assert_said("user 100 connects more often than 10 times a second");
    assert_int_equal(enter_as(0, 8, 0), 0);

    for (int i = 0; i < 3; i++)
        assert_int_equal(rml_gate_request(w.gate, 100, 5, &w.err), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(rml_gate_request(w.gate, 100, 5, &w.err), -EAGAIN);
    assert_int_equal(rml_gate_request(w.gate, 100, 6, &w.err), 0);
}

/*
 * Processes of two users come and go at moments that are drawn: user 7's as often as they can, user 8's
 * eight times a second. Counted against what a rate is: no more in any second than twice as many (what was
 * saved up, and what came back), no more in all than came back in all; and who keeps to it is never refused.
 */
static void
however_often_connections_come_and_go_a_rate_is_kept_and_who_keeps_to_it_is_let_in(void **state)
{
    (void)state;

    enum { RATE = 10, SECONDS = 60 };

    uint64_t seed = rml_test_seed();
    static int64_t let_in[RATE * (SECONDS + 2)];
    uint32_t count_in = 0, refused = 0;
    int64_t next_steady = 0;
    while (held_now < SECONDS * SECOND) {
        held_now += (int64_t)(rml_test_random(&seed) % (SECOND / 50));
        for (uint64_t burst = rml_test_random(&seed) % 4; burst > 0; burst--) {
            int rc = enter_as(7, 1 + (uint32_t)(rml_test_random(&seed) % 1000), 0);
            if (rc == -EMFILE)  // 90 connections are more than this user's
                rc = enter(7, 0);
            assert_true(rc == 0 || rc == -EAGAIN);
            refused += rc < 0;
            if (rc == 0)
                let_in[count_in++] = held_now;
        }
        if (held_now >= next_steady) {
            assert_int_equal(enter(8, 0), 0);
            next_steady = held_now + SECOND / 8;
        }
    }
    assert_true(refused > count_in);
    assert_in_range(count_in, RATE * (SECONDS - 1), RATE * (SECONDS + 1));
    for (uint32_t i = 0; i + 2 * RATE < count_in; i++)
        assert_true(let_in[i + 2 * RATE] - let_in[i] >= SECOND);
    assert_int_equal(count(RML_GATE_too_often), refused);
}

static void of_more_users_than_there_are_places_those_that_were_here_last_are_known(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(rml_gate_request(w.gate, 8, 1, &w.err), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(enter(8, 0), 0);
    // each of them was here less
    for (uint32_t uid = 1000; uid < 3000; uid++)
        assert_int_equal(rml_gate_request(w.gate, uid, 1, &w.err), 0);
    assert_int_equal(rml_gate_request(w.gate, 8, 1, &w.err), -EAGAIN);
    assert_int_equal(enter(8, 0), -EAGAIN);
}

static void the_kernel_says_who_is_at_the_other_end(void **state)
{
    (void)state;
    int pair[2];
    struct rml_gate_peer peer;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    assert_int_equal(rml_gate_ask(w.gate, pair[0], &peer), 0);
    assert_int_equal(peer.pid, getpid());
    assert_int_equal(peer.uid, geteuid());
    assert_int_equal(peer.gid, getegid());
    gid_t groups[256];
    int known = getgroups(256, groups);
    assert_int_equal(peer.group_count, known);
    for (int i = 0; i < known; i++)
        assert_int_equal(peer.groups[i], groups[i]);
    close(pair[0]);
    close(pair[1]);
    assert_true(rml_gate_ask(w.gate, pair[0], &peer) < 0);
}

#define HELD(claim) cmocka_unit_test_setup_teardown(claim, open_world, close_world)

TEST_MAIN(HELD(each_list_lets_its_own_users_in_and_to_nothing_else),
          HELD(a_group_lets_in_who_acts_for_it_or_is_in_it),
          HELD(who_is_refused_is_told_who_he_is_who_is_let_in_and_where_that_stands),
          HELD(what_has_no_ring_is_for_others_to_refuse), HELD(each_who_is_on_any_list_may_enter),
          HELD(another_user_has_so_many_connections_and_our_own_has_more),
          HELD(a_user_connects_so_often_in_a_second_and_others_do_not_notice),
          HELD(a_user_asks_so_often_in_a_second),
          HELD(a_process_of_our_own_leaves_places_and_half_of_each_rate_to_others),
          HELD(however_often_connections_come_and_go_a_rate_is_kept_and_who_keeps_to_it_is_let_in),
          HELD(of_more_users_than_there_are_places_those_that_were_here_last_are_known),
          HELD(the_kernel_says_who_is_at_the_other_end))
