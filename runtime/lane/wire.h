/*
 * wire - the messages of a pipeline's socket, and their descriptors.
 *
 * A SOCK_SEQPACKET Unix socket, <rundir>/<pipeline>/socket. The first message says what the peer
 * wants; one connection is for one thing:
 *
 *     HELLO_PRODUCE    ->  LANE with descriptors | REFUSED;   later BYE, or the peer just goes
 *     HELLO_SUBSCRIBE  ->  RESULTS with descriptors | REFUSED
 *     HELLO_JOIN       ->  MEMBERSHIP with descriptors | REFUSED;  later BYE, or the peer just goes
 *     HELLO_CONTROL    ->  REPLY ..., the last one marked | REFUSED
 *
 * A message is a struct of fixed layout in this machine's byte order (both ends are on it); bytes
 * that are not named are zero, texts are NUL-terminated. What comes in is checked by rml_wire_check
 * before anything of it is used.
 */
#ifndef RML_LANE_WIRE_H
#define RML_LANE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/lane/geometry.h"
#include "runtime/ring/ring.h"

struct rml_err;

#define RML_WIRE_MAGIC     0x4c4d524du
#define RML_WIRE_VERSION   3
#define RML_WIRE_BYTES_MAX 65536  // of one message
#define RML_WIRE_FDS_MAX   250    // with one message
#define RML_WIRE_NAME      48

enum rml_wire_type {
    RML_WIRE_HELLO_PRODUCE = 1,
    RML_WIRE_HELLO_SUBSCRIBE,
    RML_WIRE_HELLO_CONTROL,
    RML_WIRE_HELLO_JOIN,
    RML_WIRE_LANE = 16,
    RML_WIRE_RESULTS,
    RML_WIRE_REPLY,
    RML_WIRE_REFUSED,
    RML_WIRE_BYE,
    RML_WIRE_MEMBERSHIP,
};

struct rml_wire_head {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t bytes;  // of the whole message
    uint32_t zero;
};

struct rml_wire_hello_produce {
    struct rml_wire_head head;
    char source[RML_WIRE_NAME];
    char program[RML_WIRE_NAME];  // the peer's name for itself, for people to read
    uint64_t schema_hash;
    uint32_t record_bytes;
    uint32_t cells;  // wanted for each ring, a power of two; 0: as the pipeline file says
};

struct rml_wire_hello_subscribe {
    struct rml_wire_head head;
    char stage[RML_WIRE_NAME];  // or with ".late" behind it
    char program[RML_WIRE_NAME];
};

/* Of a group: readers that share rows. */
struct rml_wire_hello_join {
    struct rml_wire_head head;
    char stage[RML_WIRE_NAME];  // or with ".late" behind it
    char group[RML_WIRE_NAME];
    char program[RML_WIRE_NAME];
    uint32_t from_oldest;  // 1: where the group is new, it begins with the oldest row there is
    uint32_t zero;
};

/* The request, a text of head.bytes - sizeof head bytes with its terminator. */
struct rml_wire_hello_control {
    struct rml_wire_head head;
    char text[];
};

/* Descriptors: records, returns, room, then wake[0 .. workers). */
struct rml_wire_lane {
    struct rml_wire_head head;
    uint64_t epoch;  // of the engine
    uint32_t lane;   // its number there
    uint32_t fd_count;
    struct rml_lane_geometry geometry;
    uint32_t owner;  // the producer's number in a shared lane; 0: the lane is its own
    uint32_t zero;
};

/*
 * Descriptors: the rings (one for each partition, one behind the other; to be mapped read-only), and
 * the listener's segment, which is the subscriber's to write. From then on a byte that comes over the
 * connection says: look, there are rows.
 */
struct rml_wire_results {
    struct rml_wire_head head;
    uint64_t epoch;        // of the engine
    uint64_t schema_hash;  // of the record in a row
    uint64_t ring_bytes;   // of each partition's ring
    uint32_t record_bytes;
    uint32_t row_bytes;  // of a row in the ring: what comes before the record, and the record
    uint32_t row_count;
    uint32_t partitions;
};

/*
 * Descriptors: as RESULTS; then the group's segment, which its members write, and its roster, to be mapped
 * read-only.
 */
struct rml_wire_membership {
    struct rml_wire_results results;
    uint64_t turn;    // of the member
    uint32_t member;  // its number
    uint32_t zero;
};

/* A part of the answer: text without terminator, to be put behind the former ones. */
struct rml_wire_reply {
    struct rml_wire_head head;
    uint32_t is_last;
    uint32_t code;  // of the last: 0, or a positive errno
    char text[];
};

struct rml_wire_refused {
    struct rml_wire_head head;
    uint32_t code;  // a positive errno
    uint32_t zero;
    char text[232];  // what an honest user can do about it
};

/* Nothing more will come. */
struct rml_wire_bye {
    struct rml_wire_head head;
};

/* The head of a message of `bytes` bytes. */
struct rml_wire_head rml_wire_head(enum rml_wire_type type, size_t bytes);

/*
 * Is `message`, 8-byte aligned, of `bytes` bytes, one of ours, and can all of it be? Returns its type
 * (enum rml_wire_type), or -EPROTO (-EPROTONOSUPPORT: another version) and a sentence. Reads nothing
 * beyond `bytes`, and depends on nothing else.
 */
int rml_wire_check(const void *message, size_t bytes, struct rml_err *err);

/* A name of a pipeline, source or stage as it may stand in a message and in a path: letters, digits, _
 * and -, not empty, shorter than RML_WIRE_NAME. 1 or 0. */
int rml_wire_is_name(const char *name, size_t room);

/* Texts in messages end up in people's terminals: how many bytes the character at `text`, of `left` (> 0)
 * bytes, takes; 0: it is none that may be shown (no UTF-8, or it steers the terminal). */
size_t rml_wire_shown(const char *text, size_t left);

/*
 * Send one message (its head says how long it is) with `fd_count` descriptors, which stay the
 * caller's. 0, or a negative errno: -EPIPE when the peer is gone (no signal is raised), -EAGAIN when
 * the socket is non-blocking and full.
 */
int rml_wire_send(int socket, const struct rml_wire_head *message, const int *fds,
                  uint32_t fd_count);

/*
 * Receive one message into `message` (8-byte aligned, `room` bytes) and check it. At most `fds_max`
 * descriptors are kept, close-on-exec, in `fds`, *ret_fd_count of them; more than that is -EPROTO.
 * Returns the message's type; 0 when the peer has closed; -EAGAIN and other errnos of recvmsg;
 * -EPROTO with a sentence. Unless a type is returned no descriptor is left open.
 */
int rml_wire_receive(int socket, void *message, size_t room, int *fds, uint32_t fds_max,
                     uint32_t *ret_fd_count, struct rml_err *err);

/* Offer a lane, or a share in one: builds and sends a LANE message. As rml_wire_send. */
int rml_wire_send_lane(int socket, const struct rml_lane_geometry *geometry,
                       const struct rml_lane_fds *fds, uint64_t epoch, uint32_t lane,
                       uint32_t owner);

/* Offer result rings: `results` without its head, and the two descriptors. As rml_wire_send. */
int rml_wire_send_results(int socket, struct rml_wire_results results, int rings_fd,
                          int listener_fd);

/* Take somebody into a group: `membership` without its head, and its four descriptors. As rml_wire_send. */
int rml_wire_send_membership(int socket, struct rml_wire_membership membership, const int fds[4]);

/* Refuse: `code` is a positive errno, the text is cut where it does not fit. As rml_wire_send. */
__attribute__((format(printf, 3, 4))) int rml_wire_send_refused(int socket, int code,
                                                                const char *fmt, ...);

/* Sort the descriptors that came with a checked LANE message; they are the caller's to close. 0, or
 * -EPROTO when their number is another than the message says. */
int rml_wire_lane_fds(const struct rml_wire_lane *lane, const int *fds, uint32_t fd_count,
                      struct rml_lane_fds *ret_fds);

/*
 * Connect to a running pipeline, waiting at most `wait_ns` where so many came before that the kernel
 * keeps no more for it. The descriptor (close-on-exec, blocking), or -ENOENT: no such pipeline is
 * running; -ECONNREFUSED: its socket is left, but nobody listens; -ETIMEDOUT; -EACCES and so on;
 * always with a sentence.
 */
int rml_wire_connect(const char *pipeline, int64_t wait_ns, struct rml_err *err);

#endif
