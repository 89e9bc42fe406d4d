#include "runtime/client/attach.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/err.h"

#define AGAIN_NS 10000000  // between two attempts

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

int rml_owner_open(struct rml_owner *owner, struct rml_err *err)
{
    void *page =
        mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return RML_FAIL(err, -ENOMEM, "no memory");
    owner->page = page;
    if (madvise(page, page_bytes(), MADV_WIPEONFORK) < 0) {
        int rc = -errno;
        return RML_FAIL(err, rc, "madvise: %s", strerrordesc_np(-rc));
    }
    *owner->page = RML_OWNER_MARK;
    return 0;
}

void rml_owner_close(struct rml_owner *owner)
{
    if (owner->page != NULL)
        munmap(owner->page, page_bytes());
    owner->page = NULL;
}

int rml_attach_split(const char *place, const char *what, char pipeline[RML_WIRE_NAME],
                     char name[RML_WIRE_NAME], struct rml_err *err)
{
    const char *slash = strchr(place, '/');
    size_t length = slash == NULL ? RML_WIRE_NAME : (size_t)(slash - place);
    if (length == 0 || length >= RML_WIRE_NAME || strlen(slash + 1) >= RML_WIRE_NAME)
        return RML_FAIL(err, -EINVAL, "\"%.100s\" should be PIPELINE/%s", place, what);
    memcpy(pipeline, place, length);
    pipeline[length] = '\0';
    snprintf(name, RML_WIRE_NAME, "%s", slash + 1);
    return 0;
}

void rml_attach_program(char program[RML_WIRE_NAME])
{
    snprintf(program, RML_WIRE_NAME, "%s", program_invocation_short_name);
    size_t length = strlen(program);
    for (size_t i = 0, one; i < length; i += one) {
        one = rml_wire_shown(program + i, length - i);
        if (one == 0) {
            program[i] = '?';  // may also be what is left of a longer name's last character
            one = 1;
        }
    }
}

static int64_t limit_of(int64_t wait_ns)
{
    return wait_ns > 0 ? wait_ns : RML_ATTACH_WAIT_NS;
}

int rml_attach_connect(const char *pipeline, const struct rml_wire_head *hello, int64_t wait_ns,
                       struct rml_err *err)
{
    if (rml_wire_check(hello, hello->bytes, err) < 0)
        return -EINVAL;  // what we were asked to say, not what a peer said
    int socket = rml_wire_connect(pipeline, limit_of(wait_ns), err);
    if (socket < 0)
        return socket;
    int rc = rml_wire_send(socket, hello, NULL, 0);
    if (rc < 0 && rc != -EPIPE && rc != -ECONNRESET) {
        close(socket);
        return RML_FAIL(err, rc, "asking the engine: %s", strerrordesc_np(-rc));
    }
    return socket;
}

int64_t rml_attach_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t rml_attach_end_ns(int64_t wait_ns)
{
    return rml_attach_now_ns() + limit_of(wait_ns);
}

bool rml_attach_again(int rc, int64_t end_ns)
{
    if (rc != -EPIPE || rml_attach_now_ns() + AGAIN_NS >= end_ns)
        return false;
    const struct timespec pause = {.tv_nsec = AGAIN_NS};
    nanosleep(&pause, NULL);
    return true;
}

static int await(int socket, int64_t wait_ns, struct rml_err *err)
{
    int64_t end_ns = rml_attach_now_ns() + wait_ns;
    bool is_over = false;
    for (;;) {
        int64_t left_ns = end_ns - rml_attach_now_ns();
        if (is_over) {
            return RML_FAIL(
                err, -ETIMEDOUT,
                "the engine has not answered within %lld ms: is it still coming up, its process "
                "stopped, or the machine too busy?",
                (long long)(wait_ns / 1000000));
        }
        // when it is over, a last look: it may be us who were held up, and the answer is there
        is_over = left_ns <= 0;
        left_ns = is_over ? 0 : left_ns;
        struct timespec left = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
        struct pollfd answer = {.fd = socket, .events = POLLIN};
        int rc = ppoll(&answer, 1, &left, NULL);
        if (rc > 0)
            return 0;
        if (rc < 0 && errno != EINTR) {
            rc = -errno;
            return RML_FAIL(err, rc, "poll: %s", strerrordesc_np(-rc));
        }
    }
}

int rml_attach_answer(int socket, enum rml_wire_type wanted, int64_t wait_ns, void *message,
                      size_t room, int *fds, uint32_t fds_max, uint32_t *ret_fd_count,
                      struct rml_err *err)
{
    *ret_fd_count = 0;
    int rc = await(socket, limit_of(wait_ns), err);
    if (rc < 0)
        return rc;
    int type = rml_wire_receive(socket, message, room, fds, fds_max, ret_fd_count, err);
    // An engine that hangs up without having read what we said resets the connection, and the kernel
    // tells that once before it gives what the engine had said.
    if (type == -ECONNRESET)
        type = rml_wire_receive(socket, message, room, fds, fds_max, ret_fd_count, err);
    if (type == 0 || type == -ECONNRESET)
        return RML_FAIL(err, -EPIPE, "the engine hung up without an answer");
    if (type < 0)
        return type;
    if (type == (int)wanted)
        return 0;
    for (uint32_t i = 0; i < *ret_fd_count; i++)
        close(fds[i]);
    *ret_fd_count = 0;
    const struct rml_wire_refused *refused = message;
    if (type == RML_WIRE_REFUSED)
        return RML_FAIL(err, -(int)refused->code, "%s", refused->text);
    return RML_FAIL(err, -EPROTO, "the engine answered with a message that is none (type %d)",
                    type);
}
