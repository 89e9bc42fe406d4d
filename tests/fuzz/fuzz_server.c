/*
 * Peers of a pipeline's socket that do anything in any order: connect, say what they want with bytes that are
 * right or not, once or again, with descriptors that nobody asked for, take what they are given or leave it,
 * hang up in the middle. A whole engine runs beside, with its server, workers and clock. After each input it must
 * answer an honest request and give an honest producer a lane, and in the end have no more descriptors
 * open than it had. The peers are a process of their own, since places of who hung up and lives are kept.
 *
 * An input is a script: each byte says what is done (its low three bits) and by which peer.
 */
#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/control/server.h"
#include "runtime/lane/wire.h"
#include "runtime/plan/plan.h"
#include "tests/support/descriptors.h"
#include "tests/support/served.h"

#define PEERS   6u
#define STEPS   64u  // of a script
#define FDS_MAX 7u   // sent with one message
#define ANSWER  120  // seconds for an honest request; then the server stands still
#define TRIES   3000
#define OF_OWN  96  // descriptors that may come to stay: groups outlive their members

static const char file[] =
    "version: 1\n"
    "pipeline: p\n"
    "schema: {call: {ts: time_ns, key: u64}}\n"
    "runtime:\n"
    "  workers: 1\n"
    "  partitions: 2\n"
    "  lanes_max: 8\n"
    "  limits: {connections: 900, hello: 60s, attaches: 1000000, requests: 1000000}\n"
    "sources:\n"
    "  own: {schema: call, event_time: ts, cells: 64}\n"
    "  ours: {schema: call, event_time: ts, cells: 64, lane: shared}\n"
    "stages:\n"
    "  w: {from: own, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n"
    "  v: {from: ours, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n"
    "sinks:\n"
    "  w: {from: w, type: ring, rows: 64}\n"
    "  v: {from: v, type: ring, rows: 64}\n";

static struct rml_plan *plan;
static pthread_t thread;
static char run_dir[] = "/tmp/fuzz-server-XXXXXX";
static struct rml_claim claim;
static struct served served;
static uint32_t open_before;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int connected(void)
{
    int peer = rml_wire_connect("p", INT64_C(1000000000) * ANSWER, NULL);
    RML_CHECK(peer >= 0);
    const struct timeval patience = {.tv_sec = ANSWER};
    RML_CHECK(setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    return peer;
}

/* One message, and what came with it closed again; its type, 0 or a negative errno. */
static int receive(int peer, bool wait)
{
    alignas(8) static unsigned char message[RML_WIRE_BYTES_MAX];
    alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(RML_WIRE_FDS_MAX * sizeof(int))];
    struct iovec part = {.iov_base = message, .iov_len = sizeof message};
    struct msghdr head = {.msg_iov = &part,
                          .msg_iovlen = 1,
                          .msg_control = control,
                          .msg_controllen = sizeof control};
    ssize_t got = recvmsg(peer, &head, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    if (got <= 0)
        return got < 0 ? -errno : 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&head); c != NULL; c = CMSG_NXTHDR(&head, c)) {
        int fds[RML_WIRE_FDS_MAX];
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), count * sizeof(int));
        for (size_t i = 0; i < count; i++)
            close(fds[i]);
    }
    int type = rml_wire_check(message, (size_t)got, NULL);
    RML_CHECK(type > 0
              || got == 1);  // what a server says is well-formed; a byte is a subscriber's knock
    return type;
}

static void request(const char *text, size_t room)
{
    alignas(8) unsigned char message[sizeof(struct rml_wire_head) + 16] = {0};
    RML_CHECK(room <= 16);
    const struct rml_wire_head head =
        rml_wire_head(RML_WIRE_HELLO_CONTROL, sizeof(struct rml_wire_head) + room);
    memcpy(message, &head, sizeof head);
    memcpy(message + sizeof head, text, room);
    int peer = connected();
    RML_CHECK(rml_wire_send(peer, (const void *)message, NULL, 0) == 0);
    RML_CHECK(receive(peer, true) == RML_WIRE_REPLY);
    close(peer);
}

static struct rml_wire_hello_produce honest_hello(uint32_t source)
{
    struct rml_wire_hello_produce hello = {
        .head = rml_wire_head(RML_WIRE_HELLO_PRODUCE, sizeof hello),
        .program = "fuzz",
        .schema_hash = plan->sources[source].schema.hash,
        .record_bytes = plan->sources[source].schema.record_bytes,
    };
    snprintf(hello.source, sizeof hello.source, "%s", plan->sources[source].name);
    return hello;
}

static void end(void)
{
    request("stop", sizeof "stop");
    pthread_join(thread, NULL);
    rml_plan_close(plan);
    rmdir(run_dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    struct rml_plan_errors errors;
    RML_CHECK(mkdtemp(run_dir) != NULL && setenv("RINGMILL_RUNDIR", run_dir, 1) == 0);
    RML_CHECK(rml_plan_parse(file, strlen(file), "p.yaml", rml_operators_functions(), &plan,
                             &errors, NULL)
              == 0);
    RML_CHECK(rml_claim_open(&claim, "p", NULL) == 0 && rml_claim_listen(&claim, NULL) == 0);
    served = (struct served){plan, &claim};
    RML_CHECK(pthread_create(&thread, NULL, served_run, &served) == 0);
    request("refresh", sizeof "refresh");
    open_before = descriptors_open();
    return atexit(end);
}

/* Scripts */

struct script {
    const uint8_t *at;
    size_t left;
    int peers[PEERS];  // -1: not connected
};

static uint8_t next(struct script *s)
{
    if (s->left == 0)
        return 0;
    s->left--;
    return *s->at++;
}

static void send_with(struct script *s, int peer, const void *message, size_t bytes)
{
    alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(FDS_MAX * sizeof(int))] = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = bytes};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    uint32_t fd_count = next(s) % 16;
    if (fd_count > 0 && fd_count <= FDS_MAX) {
        head.msg_control = control;
        head.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&head);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        for (uint32_t i = 0; i < fd_count; i++)
            memcpy(CMSG_DATA(rights) + i * sizeof(int), &peer, sizeof peer);
    }
    (void)sendmsg(peer, &head, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// A pipeline that has been stopped answers nobody: that is what these two are for.
static bool would_end_it(const unsigned char *message, size_t bytes)
{
    struct rml_wire_head head;
    if (bytes <= sizeof head)
        return false;
    memcpy(&head, message, sizeof head);
    const char *text = (const char *)message + sizeof head;
    size_t room = bytes - sizeof head;
    return head.type == RML_WIRE_HELLO_CONTROL
           && ((room >= 4 && memcmp(text, "stop", 4) == 0)
               || (room >= 5 && memcmp(text, "drain", 5) == 0));
}

/* Bytes of the script, of which the head may be put right. */
static void send_bytes(struct script *s, int peer, bool with_head)
{
    alignas(8) unsigned char message[512] = {0};
    size_t bytes = 1 + (size_t)next(s) * 2 % sizeof message;
    for (size_t i = 0; i < bytes; i++)
        message[i] = next(s);
    if (with_head && bytes >= sizeof(struct rml_wire_head)) {
        const struct rml_wire_head head =
            rml_wire_head((enum rml_wire_type)(message[6] & 31), bytes);
        memcpy(message, &head, sizeof head);
    }
    if (!would_end_it(message, bytes))
        send_with(s, peer, message, bytes);
}

/* A hello of some kind that is right but for one byte, maybe. */
static void send_hello(struct script *s, int peer)
{
    static const char *const requests[] = {"board", "refresh", "checkpoint", "", "drains"};
    static const char *const stages[] = {"w", "v", "w.late", "nobody"};
    alignas(8) unsigned char message[512] = {0};
    size_t bytes;
    uint8_t kind = next(s), how = next(s);
    if (kind % 4 == 0) {
        struct rml_wire_hello_produce hello = honest_hello(how % 2);
        hello.cells = how & 2 ? 1u << (how >> 3) % 24 : 0;
        bytes = sizeof hello;
        memcpy(message, &hello, bytes);
    } else if (kind % 4 == 1) {
        struct rml_wire_hello_subscribe hello = {
            .head = rml_wire_head(RML_WIRE_HELLO_SUBSCRIBE, sizeof hello), .program = "fuzz"};
        snprintf(hello.stage, sizeof hello.stage, "%s", stages[how % 4]);
        bytes = sizeof hello;
        memcpy(message, &hello, bytes);
    } else if (kind % 4 == 2) {
        struct rml_wire_hello_join hello = {.head =
                                                rml_wire_head(RML_WIRE_HELLO_JOIN, sizeof hello),
                                            .program = "fuzz",
                                            .from_oldest = how >> 7};
        snprintf(hello.stage, sizeof hello.stage, "%s", stages[how % 4]);
        snprintf(hello.group, sizeof hello.group, "g%u", how >> 2 & 15);
        bytes = sizeof hello;
        memcpy(message, &hello, bytes);
    } else {
        const char *text = requests[how % 5];
        bytes = sizeof(struct rml_wire_head) + strlen(text) + 1;
        const struct rml_wire_head head = rml_wire_head(RML_WIRE_HELLO_CONTROL, bytes);
        memcpy(message, &head, sizeof head);
        memcpy(message + sizeof head, text, strlen(text) + 1);
    }
    if (kind >= 128)
        message[next(s) * (size_t)2 % bytes] ^= (unsigned char)(1u << next(s) % 8);
    if (!would_end_it(message, bytes))
        send_with(s, peer, message, bytes);
}

static void hang_up(int *peer)
{
    if (*peer >= 0)
        close(*peer);
    *peer = -1;
}

static void take_step(struct script *s)
{
    uint8_t what = next(s);
    int *peer = &s->peers[(what >> 3) % PEERS];
    if (*peer < 0)
        *peer = connected();
    const struct rml_wire_bye bye = {.head = rml_wire_head(RML_WIRE_BYE, sizeof bye)};
    switch (what & 7) {
    case 0:
    case 1:
        send_hello(s, *peer);
        break;
    case 2:
        send_bytes(s, *peer, true);
        break;
    case 3:
        send_bytes(s, *peer, false);
        break;
    case 4:
        send_with(s, *peer, &bye, sizeof bye);
        break;
    case 5:
        hang_up(peer);
        break;
    case 6:
        (void)shutdown(*peer, SHUT_WR);
        break;
    default:
        (void)receive(*peer, false);
        break;
    }
}

static void play(const uint8_t *data, size_t size)
{
    struct script s = {.at = data, .left = size};
    for (uint32_t i = 0; i < PEERS; i++)
        s.peers[i] = -1;
    for (uint32_t i = 0; i < STEPS && s.left > 0; i++)
        take_step(&s);
}

/* What an honest producer is told. */
static int ask_for_lane(void)
{
    const struct rml_wire_hello_produce hello = honest_hello(0);
    int peer = connected();
    int rc = rml_wire_send(peer, &hello.head, NULL, 0);
    RML_CHECK(rc == 0 || rc == -EPIPE || rc == -ECONNRESET);
    int type = receive(peer, true);
    // who is refused before it was heard learns that first, and then why
    if (type == -ECONNRESET)
        type = receive(peer, true);
    close(peer);
    return type;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fflush(NULL);
    pid_t child = fork();
    RML_CHECK(child >= 0);
    if (child == 0) {
        play(data, size);
        _exit(0);
    }
    int status, type, tries = 0;
    RML_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    // places of those who died come free in a moment, lanes once the worker has let go of them
    while ((type = ask_for_lane()) == RML_WIRE_REFUSED)
        RML_CHECK(tries++ < TRIES);
    RML_CHECK(type == RML_WIRE_LANE);
    do {
        RML_CHECK(tries++ < TRIES);
        request("refresh", sizeof "refresh");
    } while (descriptors_open() > open_before + OF_OWN);
    return 0;
}
