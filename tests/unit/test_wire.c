#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/lane/wire.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

static struct rml_err err;

static struct rml_wire_hello_produce hello(void)
{
    struct rml_wire_hello_produce message = {
        .head = rml_wire_head(RML_WIRE_HELLO_PRODUCE, sizeof message),
        .source = "calls",
        .program = "test",
        .record_bytes = 32};
    return message;
}

static struct rml_lane_geometry geometry(void)
{
    return (struct rml_lane_geometry){
        .partitions = 2, .workers = 1, .cells = 64, .cell_bytes = 32, .grid = {.granule_ns = 1}};
}

static void an_honest_message_is_known_by_its_type(void **state)
{
    (void)state;
    struct rml_wire_hello_produce message = hello();
    assert_int_equal(rml_wire_check(&message, sizeof message, &err), RML_WIRE_HELLO_PRODUCE);
    struct rml_wire_bye bye = {.head = rml_wire_head(RML_WIRE_BYE, sizeof bye)};
    assert_int_equal(rml_wire_check(&bye, sizeof bye, &err), RML_WIRE_BYE);
    struct rml_wire_lane lane = {.head = rml_wire_head(RML_WIRE_LANE, sizeof lane), .fd_count = 4};
    lane.geometry = geometry();
    assert_int_equal(rml_wire_check(&lane, sizeof lane, &err), RML_WIRE_LANE);
}

static void each_field_that_cannot_be_is_refused(void **state)
{
    (void)state;
    struct rml_wire_hello_produce message = hello();
    assert_int_equal(rml_wire_check(&message, 15, &err), -EPROTO);
    assert_int_equal(rml_wire_check(&message, sizeof message - 1, &err), -EPROTO);
    message.head.version = 1;
    assert_int_equal(rml_wire_check(&message, sizeof message, &err), -EPROTONOSUPPORT);
    assert_string_equal(
        err.text, "the peer speaks version 1 of the protocol, this program 3: build one of them "
                  "with the other's version");
    message = hello();
    message.head.type = 9;
    assert_int_equal(rml_wire_check(&message, sizeof message, &err), -EPROTO);
    message = hello();
    memset(message.source, 'x', sizeof message.source);  // no terminator
    assert_int_equal(rml_wire_check(&message, sizeof message, &err), -EPROTO);
    message = hello();
    strcpy(message.source, "../calls");
    assert_int_equal(rml_wire_check(&message, sizeof message, &err), -EPROTO);
    message = hello();
    strcpy(message.program, "\033[2J");
    assert_int_equal(rml_wire_check(&message, sizeof message, &err), -EPROTO);
    message = hello();
    message.record_bytes = 12;
    assert_int_equal(rml_wire_check(&message, sizeof message, &err), -EPROTO);
    message = hello();
    message.cells = 1000;
    assert_int_equal(rml_wire_check(&message, sizeof message, &err), -EPROTO);

    struct rml_wire_lane lane = {.head = rml_wire_head(RML_WIRE_LANE, sizeof lane), .fd_count = 5};
    lane.geometry = geometry();
    assert_int_equal(rml_wire_check(&lane, sizeof lane, &err), -EPROTO);
    lane.fd_count = 4;
    lane.geometry.cells = 3;
    assert_int_equal(rml_wire_check(&lane, sizeof lane, &err), -EPROTO);
    assert_string_equal(err.text, "LANE: cell_count must be a power of two, got 3");
}

static void a_request_is_one_terminated_line(void **state)
{
    (void)state;
    _Alignas(8) unsigned char bytes[32];
    struct rml_wire_hello_control *control = (void *)bytes;

    static const struct {
        const char *text;
        size_t bytes;
        int rc;
    } cases[] = {{"drain", 6, RML_WIRE_HELLO_CONTROL},
                 {"", 1, RML_WIRE_HELLO_CONTROL},
                 {"drain", 5, -EPROTO},
                 {"dr\0in", 6, -EPROTO},
                 {"a\nb", 4, -EPROTO},
                 {"gr\xc3\xbc\xc3\x9f", 7, RML_WIRE_HELLO_CONTROL},
                 {"gr\xfc\xdf", 5, -EPROTO},
                 {"cut \xc3", 6, -EPROTO},
                 {"\xc2\x9b\x32J", 5, -EPROTO},
                 {"", 0, -EPROTO}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        control->head =
            rml_wire_head(RML_WIRE_HELLO_CONTROL, sizeof control->head + cases[i].bytes);
        memcpy(control->text, cases[i].text, cases[i].bytes);
        assert_int_equal(rml_wire_check(bytes, control->head.bytes, &err), cases[i].rc);
    }
}

static void no_bytes_make_the_check_fail_or_read_too_far(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (int i = 0; i < 200000; i++) {
        // exactly as long as it says it is, so that a sanitizer sees one byte too many
        size_t bytes = rml_test_random(&seed) % 480;
        unsigned char *message = malloc(bytes == 0 ? 1 : bytes);
        rml_test_bytes(&seed, message, bytes);
        static const uint16_t types[] = {1, 2, 3, 16, 17, 18, 19, 20};
        static const size_t sizes[] = {128, 112, 40, 432, 64, 30, 256, 16};
        uint64_t kind = rml_test_random(&seed) % 8;
        if (bytes >= sizes[kind]) {
            bytes = sizes[kind];
            struct rml_wire_head head = rml_wire_head((enum rml_wire_type)types[kind], bytes);
            memcpy(message, &head, sizeof head);
            if (i % 2 != 0)
                memset(message + sizeof head, i % 3 == 0 ? 'a' : 0, bytes - sizeof head);
        }
        int rc = rml_wire_check(message, bytes, &err);
        assert_true(rc > 0 || rc == -EPROTO || rc == -EPROTONOSUPPORT);
        free(message);
    }
}

static int sockets[2];

static void pair(void)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
}

static void unpair(void)
{
    close(sockets[0]);
    close(sockets[1]);
}

// The lowest free descriptor: what it was before, unless one was left open.
static int lowest_free(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    return fd;
}

static void descriptors_arrive_sorted_and_close_on_exec(void **state)
{
    (void)state;
    pair();
    struct rml_lane_geometry sent = geometry();
    struct rml_lane_fds fds;
    rml_lane_fds_init(&fds);
    fds.records = 0;
    fds.returns = 1;
    fds.room = 2;
    fds.wake[0] = sockets[0];
    assert_int_equal(rml_wire_send_lane(sockets[0], &sent, &fds, 9, 3, 0), 0);

    _Alignas(8) struct rml_wire_lane lane;
    int came[RML_WIRE_FDS_MAX];
    uint32_t count = 0;
    assert_int_equal(
        rml_wire_receive(sockets[1], &lane, sizeof lane, came, RML_WIRE_FDS_MAX, &count, &err),
        RML_WIRE_LANE);
    assert_int_equal(count, 4);
    assert_int_equal(lane.epoch, 9);
    assert_memory_equal(&lane.geometry, &sent, sizeof sent);
    assert_int_equal(rml_wire_lane_fds(&lane, came, 3, &fds), -EPROTO);
    assert_int_equal(rml_wire_lane_fds(&lane, came, count, &fds), 0);
    assert_true(fds.records >= 0 && fds.wake[0] >= 0 && fds.wake[1] == -1);
    assert_int_equal(fcntl(fds.wake[0], F_GETFD), FD_CLOEXEC);
    rml_lane_fds_close(&fds);
    unpair();
}

static void descriptors_that_nobody_wants_are_closed(void **state)
{
    (void)state;
    pair();
    int before = lowest_free();
    struct rml_wire_hello_produce message = hello();
    int many[8] = {0, 1, 2, 0, 1, 2, 0, 1};
    int came[2];
    uint32_t count = 0;
    assert_int_equal(rml_wire_send(sockets[0], &message.head, many, 8), 0);
    assert_int_equal(rml_wire_receive(sockets[1], &message, sizeof message, came, 2, &count, &err),
                     -EPROTO);
    message = hello();
    message.head.type = 99;
    assert_int_equal(rml_wire_send(sockets[0], &message.head, many, 2), 0);
    assert_int_equal(rml_wire_receive(sockets[1], &message, sizeof message, came, 2, &count, &err),
                     -EPROTO);
    assert_int_equal(lowest_free(), before);
    unpair();
}

static void a_peer_that_is_gone_raises_no_signal(void **state)
{
    (void)state;
    pair();
    close(sockets[0]);
    struct rml_wire_hello_produce message = hello();
    uint32_t count = 0;
    assert_int_equal(rml_wire_receive(sockets[1], &message, sizeof message, NULL, 0, &count, &err),
                     0);
    message = hello();
    assert_int_equal(rml_wire_send(sockets[1], &message.head, NULL, 0), -EPIPE);
    close(sockets[1]);
}

static void a_message_too_long_for_the_reader_is_refused(void **state)
{
    (void)state;
    pair();
    assert_int_equal(rml_wire_send_refused(sockets[0], EACCES, "not %s", "you"), 0);
    _Alignas(8) unsigned char small[64];
    uint32_t count = 0;
    assert_int_equal(rml_wire_receive(sockets[1], small, sizeof small, NULL, 0, &count, &err),
                     -EPROTO);
    unpair();
}

static void who_waits_to_be_let_in_waits_no_longer_than_he_said(void **state)
{
    (void)state;
    char rundir[] = "/tmp/ringmill-wire-XXXXXX", folder[64];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_non_null(mkdtemp(rundir));
    assert_int_equal(setenv("RINGMILL_RUNDIR", rundir, 1), 0);
    snprintf(folder, sizeof folder, "%s/p", rundir);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/p/socket", rundir);
    assert_int_equal(mkdir(folder, 0700), 0);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 0), 0);

    // Nobody accepts; the kernel keeps one more than the backlog.
    int first = rml_wire_connect("p", INT64_C(60000000000), &err);
    assert_true(first >= 0);
    assert_int_equal(rml_wire_connect("p", 1000000, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.text, "pipeline p: too many wait at "));
    assert_int_equal(rml_wire_connect("p", 0, &err), -ETIMEDOUT);

    close(first);
    close(listener);
    unlink(address.sun_path);
    rmdir(folder);
    assert_int_equal(rmdir(rundir), 0);
}

TEST_MAIN(CLAIM(an_honest_message_is_known_by_its_type),
          CLAIM(each_field_that_cannot_be_is_refused), CLAIM(a_request_is_one_terminated_line),
          CLAIM(no_bytes_make_the_check_fail_or_read_too_far),
          CLAIM(descriptors_arrive_sorted_and_close_on_exec),
          CLAIM(descriptors_that_nobody_wants_are_closed),
          CLAIM(a_peer_that_is_gone_raises_no_signal),
          CLAIM(a_message_too_long_for_the_reader_is_refused),
          CLAIM(who_waits_to_be_let_in_waits_no_longer_than_he_said))
