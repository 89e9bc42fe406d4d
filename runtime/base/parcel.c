#include "runtime/base/parcel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/check.h"

// Room for the most descriptors that there can be, aligned for the header.
union control {
    struct cmsghdr header;
    unsigned char bytes[CMSG_SPACE(RML_PARCEL_FDS_MAX * sizeof(int))];
};

int rml_parcel_send(int socket, const void *message, size_t bytes, const int *fds,
                    uint32_t fd_count, int flags)
{
    RML_CHECK(fd_count <= RML_PARCEL_FDS_MAX);
    union control control = {0};
    struct iovec body = {.iov_len = bytes};
    memcpy(&body.iov_base, &message, sizeof body.iov_base);  // const to us, and to sendmsg
    struct msghdr header = {.msg_iov = &body, .msg_iovlen = 1};
    if (fd_count > 0) {
        header.msg_control = &control;
        header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &header, flags | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

// Gather every descriptor that came, however many messages of rights the peer made of them.
static uint32_t gather_fds(struct msghdr *header, int fds[RML_PARCEL_FDS_MAX])
{
    uint32_t count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        uint32_t more = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        RML_CHECK(more
                  <= RML_PARCEL_FDS_MAX - count);  // the kernel's limit, and the room we gave it
        memcpy(fds + count, CMSG_DATA(c), more * sizeof(int));
        count += more;
    }
    return count;
}

ptrdiff_t rml_parcel_receive(int socket, void *message, size_t room, int *fds, uint32_t fds_max,
                             uint32_t *ret_fd_count, int flags)
{
    union control control;
    struct iovec body = {.iov_base = message, .iov_len = room};
    struct msghdr header = {.msg_iov = &body,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control};
    ssize_t got;
    do
        got = recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    int came[RML_PARCEL_FDS_MAX];
    uint32_t count = gather_fds(&header, came);
    ptrdiff_t rc = got;
    if (got > 0 && (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
        rc = -EMSGSIZE;
    else if (count > fds_max)
        rc = -EMFILE;
    for (uint32_t i = 0; rc <= 0 && i < count; i++)
        close(came[i]);
    if (rc <= 0)
        return rc;
    if (count > 0)
        memcpy(fds, came, count * sizeof(int));
    *ret_fd_count = count;
    return rc;
}
