/*
 * claim - one running pipeline of a name: its folder in the run directory, held by a lock.
 *
 * The lock is what says that a pipeline runs: the kernel drops it with the process, however that
 * ends, and whoever gets it may clear away what a dead one left.
 */
#ifndef RML_CONTROL_CLAIM_H
#define RML_CONTROL_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

struct rml_err;

struct rml_claim {
    int lock_fd;    // -1: nothing is claimed
    int listen_fd;  // a listening SOCK_SEQPACKET socket, non-blocking
    char folder[4096];
    char socket[4096];
    char lock[4096];
};

#define RML_CLAIM_NONE ((struct rml_claim){.lock_fd = -1, .listen_fd = -1})

/*
 * Claim `pipeline`. -EBUSY: it runs already (the sentence names the process); or what the file system
 * says, with the path. Folders are made with mode 0700.
 */
int rml_claim_open(struct rml_claim *claim, const char *pipeline, struct rml_err *err);

/* Listen on the claimed pipeline's socket. */
int rml_claim_listen(struct rml_claim *claim, struct rml_err *err);

/* Have it shown, or no longer, that what runs here is being started again. */
void rml_claim_restarting(const struct rml_claim *claim, bool is_so);

/* What an engine says while it is being started again, for those whom it does not answer yet; the last of it
 * counts. Of any thread. */
void rml_claim_say(const struct rml_claim *claim, const char *sentence);

/* Remove socket, lock and folder. Accepts RML_CLAIM_NONE and one that is half open. */
void rml_claim_close(struct rml_claim *claim);

enum rml_claim_state {
    RML_CLAIM_FREE,        // nothing is there
    RML_CLAIM_HELD,        // a process holds it, whether it listens or not
    RML_CLAIM_LEFT,        // its process died and left its files; the next claim clears them away
    RML_CLAIM_RESTARTING,  // held, and its engine died and is being started again
};

static inline bool rml_claim_is_held(enum rml_claim_state state)
{
    return state == RML_CLAIM_HELD || state == RML_CLAIM_RESTARTING;
}

/*
 * How it stands with a name, without taking the lock even for a moment. 0, with the process that the
 * files name (0: none); or a negative errno: -EACCES when they are another user's.
 */
int rml_claim_look(const char *pipeline, enum rml_claim_state *ret_state, uint32_t *ret_pid);

/* What the engine that is being started again said last; "" for nothing. */
#define RML_CLAIM_SAYS 300u
void rml_claim_says(const char *pipeline, char text[RML_CLAIM_SAYS]);

#endif
