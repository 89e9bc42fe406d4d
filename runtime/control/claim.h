/*
 * claim - one running pipeline of a name: its folder in the run directory, held by a lock.
 *
 * The lock is what says that a pipeline runs: the kernel drops it with the process, however that
 * ends, and whoever gets it may clear away what a dead one left.
 */
#ifndef RML_CONTROL_CLAIM_H
#define RML_CONTROL_CLAIM_H

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

/* Remove socket, lock and folder. Accepts RML_CLAIM_NONE and one that is half open. */
void rml_claim_close(struct rml_claim *claim);

#endif
