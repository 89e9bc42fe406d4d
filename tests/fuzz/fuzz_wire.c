/*
 * Any bytes as a message, with any number of descriptors: what is believed is well-formed, receiving
 * and checking agree, and no descriptor is left open. The first byte says whether the head is put
 * right, so that the fuzzer comes behind it, and how many descriptors travel along.
 */
#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/wire.h"

#define FDS_SENT_MAX 7u
#define FDS_KEPT_MAX 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t room)
{
    RML_CHECK(memchr(text, '\0', room) != NULL);
}

// What a reader of a checked message goes by without looking again.
static void check_believed(int type, const void *message, size_t bytes)
{
    const struct rml_wire_head *head = message;
    RML_CHECK(head->type == type && head->bytes == bytes);
    if (type == RML_WIRE_HELLO_PRODUCE) {
        const struct rml_wire_hello_produce *hello = message;
        RML_CHECK(bytes == sizeof *hello);
        RML_CHECK(rml_wire_is_name(hello->source, sizeof hello->source) == 1);
        check_text(hello->program, sizeof hello->program);
    } else if (type == RML_WIRE_HELLO_SUBSCRIBE) {
        const struct rml_wire_hello_subscribe *hello = message;
        RML_CHECK(bytes == sizeof *hello);
        check_text(hello->stage, sizeof hello->stage);
        check_text(hello->program, sizeof hello->program);
    } else if (type == RML_WIRE_HELLO_JOIN) {
        const struct rml_wire_hello_join *hello = message;
        RML_CHECK(bytes == sizeof *hello);
        check_text(hello->stage, sizeof hello->stage);
        RML_CHECK(rml_wire_is_name(hello->group, sizeof hello->group) == 1);
        check_text(hello->program, sizeof hello->program);
    } else if (type == RML_WIRE_MEMBERSHIP) {
        RML_CHECK(bytes == sizeof(struct rml_wire_membership));
        RML_CHECK(((const struct rml_wire_membership *)message)->member < 64);
    } else if (type == RML_WIRE_HELLO_CONTROL) {
        check_text(((const struct rml_wire_hello_control *)message)->text, bytes - sizeof *head);
    } else if (type == RML_WIRE_LANE) {
        const struct rml_wire_lane *lane = message;
        int fds[RML_WIRE_FDS_MAX] = {0};
        struct rml_lane_fds sorted;
        RML_CHECK(bytes == sizeof *lane);
        RML_CHECK(rml_lane_geometry_check(&lane->geometry, NULL) == 0);
        RML_CHECK(rml_lane_records_bytes(&lane->geometry) > 0);
        RML_CHECK(rml_wire_lane_fds(lane, fds, lane->fd_count, &sorted) == 0);
        RML_CHECK(rml_wire_lane_fds(lane, fds, lane->fd_count + 1, &sorted) == -EPROTO);
    } else if (type == RML_WIRE_REFUSED) {
        const struct rml_wire_refused *refused = message;
        RML_CHECK(bytes == sizeof *refused);
        check_text(refused->text, sizeof refused->text);
    }
}

static void send_raw(int socket, const void *message, size_t bytes, uint32_t fd_count)
{
    alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(FDS_SENT_MAX * sizeof(int))] = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = bytes};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > 0) {
        head.msg_control = control;
        head.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&head);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        int fds[FDS_SENT_MAX];
        for (uint32_t i = 0; i < fd_count; i++)
            fds[i] = socket;
        memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
    }
    RML_CHECK(sendmsg(socket, &head, MSG_NOSIGNAL) == (ssize_t)bytes);
}

// The lowest free descriptor: the same before and after, or something was left open.
static int lowest_free(void)
{
    int fd = dup(0);
    RML_CHECK(fd >= 0);
    close(fd);
    return fd;
}

static void check_received(const void *message, size_t bytes, uint32_t fd_count, int expected)
{
    alignas(8) static unsigned char received[4096];
    int pair[2], fds[FDS_KEPT_MAX];
    uint32_t kept = 0;
    int free_before = lowest_free();
    RML_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    send_raw(pair[0], message, bytes, fd_count);
    int type = rml_wire_receive(pair[1], received, sizeof received, fds, FDS_KEPT_MAX, &kept, NULL);
    if (bytes > sizeof received || fd_count > FDS_KEPT_MAX)
        RML_CHECK(type < 0);
    else
        RML_CHECK(type == expected);
    if (type > 0) {
        RML_CHECK(kept == fd_count);
        for (uint32_t i = 0; i < kept; i++)
            close(fds[i]);
    }
    close(pair[0]);
    close(pair[1]);
    RML_CHECK(lowest_free() == free_before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint8_t shape = data[0];
    size_t bytes = size - 1;
    unsigned char *message = aligned_alloc(8, (bytes + 7) / 8 * 8);
    RML_CHECK(message != NULL);
    memcpy(message, data + 1, bytes);
    if ((shape & 1) != 0 && bytes >= sizeof(struct rml_wire_head)) {
        struct rml_wire_head head;
        memcpy(&head, message, sizeof head);
        head = rml_wire_head((enum rml_wire_type)(head.type & 31), bytes);
        memcpy(message, &head, sizeof head);
    }

    struct rml_err err = {0};
    int type = rml_wire_check(message, bytes, &err);
    if (type > 0)
        check_believed(type, message, bytes);
    else
        RML_CHECK((type == -EPROTO || type == -EPROTONOSUPPORT) && err.text[0] != '\0');
    check_received(message, bytes, (uint32_t)(shape >> 1) & FDS_SENT_MAX, type);
    free(message);
    return 0;
}
