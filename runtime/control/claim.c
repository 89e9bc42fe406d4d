#include "runtime/control/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/base/rundir.h"

#define BACKLOG       128
#define CLAIM_TRIES   100
#define DYING_MS      2000  // at most, that an engine outlives its keeper; looked at every DYING_LOOK_MS
#define DYING_LOOK_MS 10
#define RESTARTING    "restarting\n"
#define SAYS_AT       64  // in the lock file, behind what the keeper writes and cuts it to

/* What the lock file says. */
struct holder {
    char pid[16];  // empty: nothing yet
    bool restarting;
};

static int make_folder(const char *path, struct rml_err *err)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    return RML_FAIL(err, -errno, "cannot make folder %s: %s", path, strerrordesc_np(errno));
}

// Is the file that we hold open still the one of that name? Its last holder may have removed it.
static bool is_in_place(int fd, const char *path)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev
           && held.st_ino == named.st_ino;
}

/*
 * A lock of the open file, not of the process: it goes with the last descriptor, and whoever only
 * looks can ask for it without taking it, so that a look never makes a claim fail.
 */
static int lock_file(int fd, int command, struct flock *lock)
{
    *lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, command, lock) == 0 ? 0 : -errno;
}

// The process that the lock file names; empty while it names none.
static struct holder read_holder(int fd)
{
    struct holder holder;
    char text[32];
    ssize_t got = pread(fd, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = '\0';
    size_t length = strcspn(text, "\n");
    snprintf(holder.pid, sizeof holder.pid, "%.*s", (int)length, text);
    holder.restarting = text[length] == '\n' && strcmp(text + length + 1, RESTARTING) == 0;
    return holder;
}

static bool is_alive(const struct holder *holder)
{
    long pid = strtol(holder->pid, NULL, 10);
    return pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH;
}

// Held although its holder is dead: by an engine that dies with its keeper, and is about to have done so.
static bool wait_while_it_dies(int tries, const struct holder *holder)
{
    if (tries * DYING_LOOK_MS >= DYING_MS || is_alive(holder))
        return false;
    poll(NULL, 0, DYING_LOOK_MS);
    return true;
}

static int open_lock(struct rml_claim *claim, const char *pipeline, struct rml_err *err)
{
    claim->lock_fd = open(claim->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (claim->lock_fd < 0)
        return RML_FAIL(err, -errno, "cannot open %s: %s", claim->lock, strerrordesc_np(errno));
    struct flock lock;
    struct holder holder;
    int rc, tries = 0;
    do {
        rc = lock_file(claim->lock_fd, F_OFD_SETLK, &lock);
        if (rc == 0)
            return 0;
        holder = read_holder(claim->lock_fd);
    } while (wait_while_it_dies(tries++, &holder));
    // not ours: leave everything as it is
    close(claim->lock_fd);
    claim->lock_fd = -1;
    if (rc != -EAGAIN && rc != -EACCES)
        return RML_FAIL(err, rc, "cannot lock %s: %s", claim->lock, strerrordesc_np(-rc));
    return RML_FAIL(err, -EBUSY, "pipeline %s is running already, as process %s", pipeline,
                    holder.pid[0] != '\0' ? holder.pid : "?");
}

static int write_holder(const struct rml_claim *claim, bool restarting)
{
    char text[32];
    int used = snprintf(text, sizeof text, "%ld\n%s", (long)getpid(), restarting ? RESTARTING : "");
    // never empty in between, which would be a claim that is just being made
    return pwrite(claim->lock_fd, text, (size_t)used, 0) == used
                   && ftruncate(claim->lock_fd, used) == 0
               ? 0
               : -EIO;
}

static int take_lock(struct rml_claim *claim, const char *pipeline, struct rml_err *err)
{
    for (;;) {
        int rc = open_lock(claim, pipeline, err);
        if (rc < 0)
            return rc;
        if (is_in_place(claim->lock_fd, claim->lock))
            break;
        close(claim->lock_fd);
    }
    return write_holder(claim, false) == 0 ? 0
                                           : RML_FAIL(err, -EIO, "cannot write %s", claim->lock);
}

int rml_claim_open(struct rml_claim *claim, const char *pipeline, struct rml_err *err)
{
    *claim = RML_CLAIM_NONE;
    char rundir[4096];
    if (rml_rundir(rundir, sizeof rundir) < 0
        || rml_rundir_file(claim->folder, sizeof claim->folder, pipeline, "") < 0
        || rml_rundir_file(claim->socket, sizeof claim->socket, pipeline, "socket") < 0
        || rml_rundir_file(claim->lock, sizeof claim->lock, pipeline, "lock") < 0)
        return RML_FAIL(err, -ENAMETOOLONG, "the run directory's path is too long");
    int rc = make_folder(rundir, err);
    // the last holder may be removing the folder just now
    for (int tries = 0; rc == 0; tries++) {
        rc = make_folder(claim->folder, err);
        if (rc < 0)
            break;
        rc = take_lock(claim, pipeline, err);
        if (rc != -ENOENT || tries == CLAIM_TRIES)
            break;
        rc = 0;
    }
    if (rc < 0)
        rml_claim_close(claim);
    return rc;
}

int rml_claim_listen(struct rml_claim *claim, struct rml_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(claim->socket) >= sizeof address.sun_path)
        return RML_FAIL(err, -ENAMETOOLONG, "%s: a socket's path has at most %zu bytes",
                        claim->socket, sizeof address.sun_path - 1);
    memcpy(address.sun_path, claim->socket, strlen(claim->socket));
    unlink(claim->socket);  // a dead engine's; the lock says that no living one has it
    claim->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (claim->listen_fd < 0)
        return RML_FAIL(err, -errno, "no socket: %s", strerrordesc_np(errno));
    const struct sockaddr *to = (const void *)&address;
    if (bind(claim->listen_fd, to, sizeof address) < 0 || chmod(claim->socket, 0600) < 0
        || listen(claim->listen_fd, BACKLOG) < 0)
        return RML_FAIL(err, -errno, "cannot listen on %s: %s", claim->socket,
                        strerrordesc_np(errno));
    return 0;
}

void rml_claim_restarting(const struct rml_claim *claim, bool is_so)
{
    (void)write_holder(claim, is_so);  // a word for people
}

void rml_claim_say(const struct rml_claim *claim, const char *sentence)
{
    char text[RML_CLAIM_SAYS];
    int used = snprintf(text, sizeof text, "%s", sentence);
    // whole, so that nothing of a longer one is left behind it
    memset(text + strlen(text), 0, sizeof text - strlen(text));
    if (used > 0)
        (void)(pwrite(claim->lock_fd, text, sizeof text, SAYS_AT) < 0);  // a word for people
}

void rml_claim_says(const char *pipeline, char text[RML_CLAIM_SAYS])
{
    char path[4096];
    text[0] = '\0';
    if (rml_rundir_file(path, sizeof path, pipeline, "lock") < 0)
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = pread(fd, text, RML_CLAIM_SAYS - 1, SAYS_AT);
    text[got > 0 ? got : 0] = '\0';
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    close(fd);
}

void rml_claim_close(struct rml_claim *claim)
{
    if (claim->listen_fd >= 0)
        close(claim->listen_fd);
    claim->listen_fd = -1;
    if (claim->lock_fd < 0)
        return;
    unlink(claim->socket);
    unlink(claim->lock);
    rmdir(claim->folder);
    close(claim->lock_fd);
    claim->lock_fd = -1;
}

int rml_claim_look(const char *pipeline, enum rml_claim_state *ret_state, uint32_t *ret_pid)
{
    char path[4096];
    int rc = rml_rundir_file(path, sizeof path, pipeline, "lock");
    if (rc < 0)
        return rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT)
        return -errno;
    *ret_state = RML_CLAIM_FREE;
    *ret_pid = 0;
    if (fd < 0)
        return 0;
    struct holder holder;
    struct flock lock;
    int tries = 0;
    do {
        holder = read_holder(fd);
        rc = lock_file(fd, F_OFD_GETLK, &lock);
    } while (rc == 0 && lock.l_type != F_UNLCK && wait_while_it_dies(tries++, &holder));
    if (rc == 0) {
        // an empty one is being claimed just now; one that is not in place has just been given back
        bool is_left = holder.pid[0] != '\0' && is_in_place(fd, path);
        *ret_state = lock.l_type != F_UNLCK
                         ? (holder.restarting ? RML_CLAIM_RESTARTING : RML_CLAIM_HELD)
                     : is_left ? RML_CLAIM_LEFT
                               : RML_CLAIM_FREE;
        *ret_pid = (uint32_t)strtoul(holder.pid, NULL, 10);
    }
    close(fd);
    return rc;
}
