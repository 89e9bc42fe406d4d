#include "runtime/lane/wire.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/parcel.h"
#include "runtime/base/rundir.h"
#include "runtime/base/utf8.h"
#include "runtime/ring/broadcast.h"
#include "runtime/ring/roster.h"

// The layouts are shared by programs built at different times: they change with the version only.
_Static_assert(sizeof(struct rml_wire_head) == 16, "wire layout");
_Static_assert(sizeof(struct rml_wire_hello_produce) == 128, "wire layout");
_Static_assert(sizeof(struct rml_wire_hello_subscribe) == 112, "wire layout");
_Static_assert(sizeof(struct rml_lane_geometry) == 416, "wire layout");
_Static_assert(sizeof(struct rml_wire_lane) == 456, "wire layout");
_Static_assert(sizeof(struct rml_wire_results) == 56, "wire layout");
_Static_assert(sizeof(struct rml_wire_hello_join) == 168, "wire layout");
_Static_assert(sizeof(struct rml_wire_membership) == 72, "wire layout");
_Static_assert(sizeof(struct rml_wire_refused) == 256, "wire layout");
_Static_assert(offsetof(struct rml_wire_reply, text) == 24, "wire layout");

struct rml_wire_head rml_wire_head(enum rml_wire_type type, size_t bytes)
{
    RML_CHECK(bytes >= sizeof(struct rml_wire_head) && bytes <= RML_WIRE_BYTES_MAX);
    return (struct rml_wire_head){.magic = RML_WIRE_MAGIC,
                                  .version = RML_WIRE_VERSION,
                                  .type = (uint16_t)type,
                                  .bytes = (uint32_t)bytes};
}

static bool is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'
           || c == '-';
}

int rml_wire_is_name(const char *name, size_t room)
{
    size_t length = strnlen(name, room);
    if (length == 0 || length >= RML_WIRE_NAME || length == room)
        return 0;
    for (size_t i = 0; i < length; i++)
        if (!is_name_character(name[i]))
            return 0;
    return 1;
}

size_t rml_wire_shown(const char *text, size_t left)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t length = rml_utf8_length(at, left);
    bool controls =
        length == 1 ? at[0] < ' ' || at[0] == 0x7f : length == 2 && at[0] == 0xc2 && at[1] < 0xa0;
    return controls ? 0 : length;
}

static bool is_text(const char *text, size_t room)
{
    size_t length = strnlen(text, room);
    for (size_t i = 0, one; i < length; i += one) {
        one = rml_wire_shown(text + i, length - i);
        if (one == 0)
            return false;
    }
    return length < room;
}

static int check_hello_produce(const void *message, struct rml_err *err)
{
    const struct rml_wire_hello_produce *hello = message;
    if (!rml_wire_is_name(hello->source, sizeof hello->source))
        return RML_FAIL(err, -EPROTO, "HELLO_PRODUCE: the source's name is not a name");
    if (!is_text(hello->program, sizeof hello->program))
        return RML_FAIL(err, -EPROTO, "HELLO_PRODUCE: the program's name is not a text");
    if (hello->record_bytes == 0 || hello->record_bytes % 8 != 0
        || hello->record_bytes > RML_RING_CELL_MAX)
        return RML_FAIL(err, -EPROTO, "HELLO_PRODUCE: records of %u bytes", hello->record_bytes);
    if ((hello->cells & (hello->cells - 1)) != 0 || hello->cells > RML_RING_CELLS_MAX)
        return RML_FAIL(err, -EPROTO, "HELLO_PRODUCE: %u cells", hello->cells);
    return 0;
}

// The name of a stage, or with ".late" behind it.
static bool is_stage(const char name[RML_WIRE_NAME])
{
    char stage[RML_WIRE_NAME];
    memcpy(stage, name, sizeof stage);
    stage[sizeof stage - 1] = '\0';
    size_t length = strlen(stage);
    if (length > 5 && strcmp(stage + length - 5, ".late") == 0)
        stage[length - 5] = '\0';
    return strnlen(name, sizeof stage) < sizeof stage && rml_wire_is_name(stage, sizeof stage);
}

static int check_hello_join(const void *message, struct rml_err *err)
{
    const struct rml_wire_hello_join *hello = message;
    if (!is_stage(hello->stage))
        return RML_FAIL(err, -EPROTO, "HELLO_JOIN: the stage's name is not a name");
    if (!rml_wire_is_name(hello->group, sizeof hello->group))
        return RML_FAIL(err, -EPROTO,
                        "HELLO_JOIN: the group's name is not a name: letters, digits, _ and -");
    if (!is_text(hello->program, sizeof hello->program))
        return RML_FAIL(err, -EPROTO, "HELLO_JOIN: the program's name is not a text");
    if (hello->from_oldest > 1 || hello->zero != 0)
        return RML_FAIL(err, -EPROTO, "HELLO_JOIN: from_oldest %u", hello->from_oldest);
    return 0;
}

static int check_hello_subscribe(const void *message, struct rml_err *err)
{
    const struct rml_wire_hello_subscribe *hello = message;
    if (!is_stage(hello->stage))
        return RML_FAIL(err, -EPROTO, "HELLO_SUBSCRIBE: the stage's name is not a name");
    if (!is_text(hello->program, sizeof hello->program))
        return RML_FAIL(err, -EPROTO, "HELLO_SUBSCRIBE: the program's name is not a text");
    return 0;
}

static int check_hello_control(const void *message, struct rml_err *err)
{
    const struct rml_wire_hello_control *hello = message;
    size_t room = hello->head.bytes - sizeof hello->head;
    if (room == 0 || strnlen(hello->text, room) != room - 1 || !is_text(hello->text, room))
        return RML_FAIL(err, -EPROTO, "HELLO_CONTROL: the request is not one line of text");
    return 0;
}

static int check_lane(const void *message, struct rml_err *err)
{
    const struct rml_wire_lane *lane = message;
    if (rml_lane_geometry_check(&lane->geometry, err) < 0)
        return RML_WRAP(err, -EPROTO, "LANE");
    if (lane->owner > lane->geometry.owners || (lane->owner == 0 && lane->geometry.owners > 0))
        return RML_FAIL(err, -EPROTO, "LANE: producer %u of %u", lane->owner,
                        lane->geometry.owners);
    if (lane->fd_count != 3 + lane->geometry.workers)
        return RML_FAIL(err, -EPROTO, "LANE: %u descriptors for %u workers", lane->fd_count,
                        lane->geometry.workers);
    return 0;
}

static int check_results(const void *message, struct rml_err *err)
{
    const struct rml_wire_results *results = message;
    const struct rml_broadcast_shape shape = {results->row_bytes, results->row_count};
    if (rml_broadcast_bytes(shape) == 0 || results->ring_bytes != rml_broadcast_bytes(shape)
        || results->record_bytes == 0 || results->record_bytes >= results->row_bytes)
        return RML_FAIL(err, -EPROTO, "RESULTS: rings of %u rows of %u bytes", results->row_count,
                        results->row_bytes);
    if (results->partitions == 0 || results->partitions > RML_LANE_PARTITIONS_MAX)
        return RML_FAIL(err, -EPROTO, "RESULTS: %u partitions", results->partitions);
    return 0;
}

static int check_membership(const void *message, struct rml_err *err)
{
    const struct rml_wire_membership *membership = message;
    int rc = check_results(&membership->results, err);
    if (rc == 0 && (membership->member >= RML_ROSTER_MEMBERS_MAX || membership->zero != 0))
        return RML_FAIL(err, -EPROTO, "MEMBERSHIP: member %u", membership->member);
    return rc;
}

static int check_reply(const void *message, struct rml_err *err)
{
    const struct rml_wire_reply *reply = message;
    if (reply->is_last > 1 || reply->code > INT32_MAX || (reply->code != 0 && !reply->is_last))
        return RML_FAIL(err, -EPROTO, "REPLY: is_last %u, code %u", reply->is_last, reply->code);
    return 0;
}

static int check_refused(const void *message, struct rml_err *err)
{
    const struct rml_wire_refused *refused = message;
    if (refused->code == 0 || refused->code > INT32_MAX || refused->zero != 0)
        return RML_FAIL(err, -EPROTO, "REFUSED: code %u", refused->code);
    if (!is_text(refused->text, sizeof refused->text))
        return RML_FAIL(err, -EPROTO, "REFUSED: the reason is not a text");
    return 0;
}

static int check_nothing(const void *message, struct rml_err *err)
{
    (void)message;
    (void)err;
    return 0;
}

static const struct kind {
    uint16_t type;
    bool is_open;  // longer than `bytes` is fine
    const char *name;
    size_t bytes;
    int (*check)(const void *message, struct rml_err *err);
} kinds[] = {
    {RML_WIRE_HELLO_PRODUCE, false, "HELLO_PRODUCE", sizeof(struct rml_wire_hello_produce),
     check_hello_produce},
    {RML_WIRE_HELLO_SUBSCRIBE, false, "HELLO_SUBSCRIBE", sizeof(struct rml_wire_hello_subscribe),
     check_hello_subscribe},
    {RML_WIRE_HELLO_CONTROL, true, "HELLO_CONTROL", sizeof(struct rml_wire_hello_control),
     check_hello_control},
    {RML_WIRE_HELLO_JOIN, false, "HELLO_JOIN", sizeof(struct rml_wire_hello_join),
     check_hello_join},
    {RML_WIRE_LANE, false, "LANE", sizeof(struct rml_wire_lane), check_lane},
    {RML_WIRE_RESULTS, false, "RESULTS", sizeof(struct rml_wire_results), check_results},
    {RML_WIRE_REPLY, true, "REPLY", offsetof(struct rml_wire_reply, text), check_reply},
    {RML_WIRE_REFUSED, false, "REFUSED", sizeof(struct rml_wire_refused), check_refused},
    {RML_WIRE_BYE, false, "BYE", sizeof(struct rml_wire_bye), check_nothing},
    {RML_WIRE_MEMBERSHIP, false, "MEMBERSHIP", sizeof(struct rml_wire_membership),
     check_membership},
};

static const struct kind *kind_of(uint16_t type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].type == type)
            return &kinds[i];
    return NULL;
}

int rml_wire_check(const void *message, size_t bytes, struct rml_err *err)
{
    const struct rml_wire_head *head = message;
    if (bytes < sizeof *head || head->magic != RML_WIRE_MAGIC)
        return RML_FAIL(err, -EPROTO, "not a message of ringmill's");
    if (head->version != RML_WIRE_VERSION) {
        return RML_FAIL(err, -EPROTONOSUPPORT,
                        "the peer speaks version %u of the protocol, this program %d: build one of "
                        "them with the other's version",
                        head->version, RML_WIRE_VERSION);
    }
    if (head->bytes != bytes || bytes > RML_WIRE_BYTES_MAX || head->zero != 0)
        return RML_FAIL(err, -EPROTO, "a message of %zu bytes that says %u", bytes, head->bytes);
    const struct kind *kind = kind_of(head->type);
    if (kind == NULL)
        return RML_FAIL(err, -EPROTO, "a message of unknown type %u", head->type);
    if (bytes < kind->bytes || (bytes > kind->bytes && !kind->is_open))
        return RML_FAIL(err, -EPROTO, "%s: %zu bytes, expected %zu", kind->name, bytes,
                        kind->bytes);
    int rc = kind->check(message, err);
    return rc < 0 ? rc : kind->type;
}

int rml_wire_send(int socket, const struct rml_wire_head *message, const int *fds,
                  uint32_t fd_count)
{
    RML_CHECK(fd_count <= RML_WIRE_FDS_MAX);
    return rml_parcel_send(socket, message, message->bytes, fds, fd_count, 0);
}

static void close_all(const int *fds, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        close(fds[i]);
}

int rml_wire_receive(int socket, void *message, size_t room, int *fds, uint32_t fds_max,
                     uint32_t *ret_fd_count, struct rml_err *err)
{
    uint32_t count = 0;
    ptrdiff_t got = rml_parcel_receive(socket, message, room, fds, fds_max, &count, 0);
    if (got == -EMSGSIZE)
        return RML_FAIL(err, -EPROTO,
                        "a message that is too long, or more descriptors than we may open");
    if (got == -EMFILE)
        return RML_FAIL(err, -EPROTO, "a message with more than %u descriptors", fds_max);
    if (got < 0)
        return RML_FAIL(err, (int)got, "recvmsg: %s", strerrordesc_np((int)-got));
    int rc = got == 0 ? 0 : rml_wire_check(message, (size_t)got, err);
    if (rc > 0)
        *ret_fd_count = count;
    else
        close_all(fds, count);
    return rc;
}

int rml_wire_send_lane(int socket, const struct rml_lane_geometry *geometry,
                       const struct rml_lane_fds *fds, uint64_t epoch, uint32_t lane,
                       uint32_t owner)
{
    struct rml_wire_lane message;
    memset(&message, 0, sizeof message);  // padding too: nothing of our stack leaves
    message.head = rml_wire_head(RML_WIRE_LANE, sizeof message);
    message.epoch = epoch;
    message.lane = lane;
    message.owner = owner;
    message.fd_count = 3 + geometry->workers;
    memcpy(&message.geometry, geometry, sizeof *geometry);

    int list[3 + RML_LANE_WORKERS_MAX] = {fds->records, fds->returns, fds->room};
    memcpy(list + 3, fds->wake, geometry->workers * sizeof(int));
    return rml_wire_send(socket, &message.head, list, message.fd_count);
}

int rml_wire_send_results(int socket, struct rml_wire_results results, int rings_fd,
                          int listener_fd)
{
    const int fds[] = {rings_fd, listener_fd};
    results.head = rml_wire_head(RML_WIRE_RESULTS, sizeof results);
    return rml_wire_send(socket, &results.head, fds, 2);
}

int rml_wire_send_membership(int socket, struct rml_wire_membership membership, const int fds[4])
{
    membership.results.head = rml_wire_head(RML_WIRE_MEMBERSHIP, sizeof membership);
    return rml_wire_send(socket, &membership.results.head, fds, 4);
}

int rml_wire_send_refused(int socket, int code, const char *fmt, ...)
{
    RML_CHECK(code > 0);
    struct rml_wire_refused message = {.head = rml_wire_head(RML_WIRE_REFUSED, sizeof message),
                                       .code = (uint32_t)code};
    va_list args;
    va_start(args, fmt);
    vsnprintf(message.text, sizeof message.text, fmt, args);
    va_end(args);
    return rml_wire_send(socket, &message.head, NULL, 0);
}

int rml_wire_lane_fds(const struct rml_wire_lane *lane, const int *fds, uint32_t fd_count,
                      struct rml_lane_fds *ret_fds)
{
    if (fd_count != lane->fd_count)
        return -EPROTO;
    rml_lane_fds_init(ret_fds);
    ret_fds->records = fds[0];
    ret_fds->returns = fds[1];
    ret_fds->room = fds[2];
    memcpy(ret_fds->wake, fds + 3, (fd_count - 3) * sizeof(int));
    return 0;
}

// The time limit of a connect is that of sending, while it is set.
static int connect_within(int socket, const struct sockaddr_un *address, int64_t wait_ns)
{
    const struct timeval forever = {0};
    struct timeval limit = {.tv_sec = wait_ns / 1000000000, .tv_usec = wait_ns / 1000 % 1000000};
    if (limit.tv_sec == 0 && limit.tv_usec == 0)
        limit.tv_usec = 1;
    int rc = setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 ? 0 : -errno;
    if (rc < 0)
        return rc;
    do
        rc = connect(socket, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : -errno;
    while (rc == -EINTR);
    if (rc == 0 && setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof forever) < 0)
        rc = -errno;
    return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

static int connect_to(int socket, const char *pipeline, int64_t wait_ns, struct rml_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int rc = rml_rundir_file(address.sun_path, sizeof address.sun_path, pipeline, "socket");
    if (rc < 0)
        return RML_FAIL(err, rc, "the run directory's path is too long for a socket (%zu bytes)",
                        sizeof address.sun_path - 1);
    rc = connect_within(socket, &address, wait_ns);
    if (rc == 0)
        return 0;
    if (rc == -ETIMEDOUT)
        return RML_FAIL(err, rc, "too many wait at %s already: is the engine's process stopped?",
                        address.sun_path);
    if (rc == -ENOENT)
        return RML_FAIL(err, rc, "no such pipeline is running (%s is not there)", address.sun_path);
    if (rc == -ECONNREFUSED)
        return RML_FAIL(err, rc, "nobody listens at %s: the pipeline has died, start it again",
                        address.sun_path);
    return RML_FAIL(err, rc, "%s: %s", address.sun_path, strerrordesc_np(-rc));
}

int rml_wire_connect(const char *pipeline, int64_t wait_ns, struct rml_err *err)
{
    if (!rml_wire_is_name(pipeline, RML_WIRE_NAME))
        return RML_FAIL(err, -EINVAL, "\"%.60s\" is not the name of a pipeline", pipeline);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        int rc = -errno;
        return RML_FAIL(err, rc, "socket: %s", strerrordesc_np(-rc));
    }
    int rc = connect_to(fd, pipeline, wait_ns, err);
    if (rc < 0) {
        close(fd);
        return RML_WRAP(err, rc, "pipeline %s", pipeline);
    }
    return fd;
}
