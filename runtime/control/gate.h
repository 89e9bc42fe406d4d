/*
 * gate - who is let in to a pipeline, to what, and how often.
 *
 * The kernel says whose process is at the other end of a socket, as of when it connected (SO_PEERCRED,
 * SO_PEERGROUPS). The engine's own user and root may do everything; others what the pipeline file's
 * lists say. Who is refused is told who he is, who is let in, and where that stands. Every refusal is
 * counted.
 *
 * Rates are counted for each user: so many in a second, all at once if need be (the generic cell rate
 * algorithm of ITU-T I.371, one time for each user and rate). Of the engine's own user and root, whom no other
 * limit holds, one process has half of them, and never the last RML_GATE_PLACES_LEFT places: so one that runs
 * wild leaves room for `ringctl`.
 *
 * One thread uses a gate.
 */
#ifndef RML_CONTROL_GATE_H
#define RML_CONTROL_GATE_H

#include <stdint.h>

#include "runtime/observe/counters.h"
#include "runtime/plan/plan.h"
#include "runtime/time/clock.h"

struct rml_err;
struct rml_gate;

struct rml_gate_options {
    const struct rml_plan *plan;  // must outlive the gate
    const struct rml_clock *clock;
    uint32_t own_uid;  // whom the engine runs as
};

#define RML_GATE_PLACES_LEFT 32u

/* How many connections there are, and can be. */
struct rml_gate_open {
    uint32_t by_user, by_process;  // of who wants another
    uint32_t places;
};

/* Whose process is at the other end. */
struct rml_gate_peer {
    uint32_t pid, uid, gid;
    uint32_t group_count;
    const uint32_t *groups;  // beside gid
};

/* 0, or -ENOMEM and a sentence. */
int rml_gate_open(struct rml_gate **ret_gate, const struct rml_gate_options *options,
                  struct rml_err *err);
void rml_gate_close(struct rml_gate *gate);

/* Where to count from now on; before that nothing is counted. */
void rml_gate_count_in(struct rml_gate *gate, struct rml_gate_counts *counts);
void rml_gate_count(struct rml_gate *gate, enum rml_gate_counter counter);

/* Ask the kernel. The groups are the gate's, until it is asked again. 0, or a negative errno. */
int rml_gate_ask(struct rml_gate *gate, int socket, struct rml_gate_peer *ret_peer);

/*
 * May this peer begin a connection? 0; -EACCES: nothing lets this user in; -EMFILE: no more at once; -EAGAIN:
 * not so often; with a sentence. Counts one that may.
 */
int rml_gate_enter(struct rml_gate *gate, const struct rml_gate_peer *peer,
                   struct rml_gate_open open, struct rml_err *err);

/*
 * May it write into a source; read the rows of a stage (a name, or one with ".late" behind it; 0 where
 * there is no ring of it, which is for others to say); look; steer? 0, or -EACCES and a sentence.
 */
int rml_gate_may_write(struct rml_gate *gate, const struct rml_gate_peer *peer, uint32_t source,
                       struct rml_err *err);
int rml_gate_may_read(struct rml_gate *gate, const struct rml_gate_peer *peer, const char *stage,
                      struct rml_err *err);
int rml_gate_may_view(struct rml_gate *gate, const struct rml_gate_peer *peer, struct rml_err *err);
int rml_gate_may_control(struct rml_gate *gate, const struct rml_gate_peer *peer,
                         struct rml_err *err);

/* May this process make one more request now? 0, or -EAGAIN and a sentence. */
int rml_gate_request(struct rml_gate *gate, uint32_t uid, uint32_t pid, struct rml_err *err);

#endif
