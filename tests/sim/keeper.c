#include "tests/sim/keeper.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/keeper/keeping.h"
#include "runtime/keeper/protocol.h"
#include "runtime/keeper/store.h"
#include "tests/sim/process.h"
#include "tests/sim/sim.h"

#define EXPORT __attribute__((visibility("default")))

static struct rml_store store;
static uint32_t deaths;
static int socket_fd = -1;  // of the present engine
static struct rml_keeper_answer answer;

void keeper_open(void)
{
    RML_CHECK(rml_store_open(&store) == 0);
    deaths = 0;
}

void keeper_close(void)
{
    rml_store_close(&store);
    socket_fd = -1;
}

static void copy_kept(struct rml_kept *to, const struct rml_kept *from)
{
    *to = *from;
    if (!from->used)
        return;
    to->taken = false;
    for (uint32_t i = 0; i < from->fd_count; i++) {
        to->fds[i] = dup(from->fds[i]);
        RML_CHECK(to->fds[i] >= 0);
    }
    if (from->memory != NULL)
        to->memory = process_map_again(from->memory, from->bytes);
}

struct rml_keeping *keeper_fork(void)
{
    bool was = process_turn(true);
    struct rml_keeping *keeping = calloc(1, sizeof *keeping);
    struct rml_kept *list = calloc(store.end + 1, sizeof *list);
    RML_CHECK(keeping != NULL && list != NULL);
    for (uint32_t i = 0; i < store.end; i++)
        copy_kept(&list[i], &store.list[i]);
    socket_fd = eventfd(0, EFD_CLOEXEC);
    RML_CHECK(socket_fd >= 0);
    *keeping = (struct rml_keeping){.socket = socket_fd,
                                    .keeper = 1,
                                    .deaths = deaths,
                                    .store = {.list = list, .end = store.end}};
    process_turn(was);
    return keeping;
}

void keeper_engine_dies(void)
{
    rml_store_mark(&store);
    deaths++;
    socket_fd = -1;
}

const struct rml_kept *keeper_find(uint64_t id)
{
    return store.list != NULL ? rml_store_find(&store, id) : NULL;
}

/* The socket */

static void obey(const struct msghdr *header)
{
    int fds[RML_KEPT_FDS_MAX];
    uint32_t count = 0;
    const struct cmsghdr *rights = CMSG_FIRSTHDR(header);
    if (rights != NULL) {
        count = (uint32_t)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(rights), count * sizeof(int));
    }
    for (uint32_t i = 0; i < count; i++)
        fds[i] = process_dup_outside(fds[i]);
    struct rml_keeper_message message;
    RML_CHECK(header->msg_iov[0].iov_len == sizeof message);
    memcpy(&message, header->msg_iov[0].iov_base, sizeof message);
    int rc = rml_store_obey(&store, &message, sizeof message, fds, count);
    answer = (struct rml_keeper_answer){.sequence = message.sequence, .rc = rc};
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *header, int flags)
{
    if (fd != socket_fd)
        return syscall(SYS_sendmsg, fd, header, flags);
    sim_door(DOOR_KEEP);
    bool was = process_turn(false);
    obey(header);
    process_turn(was);
    return (ssize_t)header->msg_iov[0].iov_len;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *header, int flags)
{
    if (fd != socket_fd)
        return syscall(SYS_recvmsg, fd, header, flags);
    sim_door(DOOR_KEPT);
    memcpy(header->msg_iov[0].iov_base, &answer, sizeof answer);
    header->msg_controllen = 0;
    header->msg_flags = 0;
    return (ssize_t)sizeof answer;
}
