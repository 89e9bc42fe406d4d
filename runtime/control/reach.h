/*
 * reach - how far the files of a running pipeline can be reached: by those whom its file lets in.
 *
 * A socket can be connected to by whoever may search the folders on the way and write to it. Where a
 * pipeline lets in nobody else, its folder is its user's alone. Where it lets in one group and nobody
 * besides, folder and socket are that group's. Where it lets in more than mode bits can say, everybody
 * comes as far as the socket, and the gate (runtime/control/gate.h) asks the kernel who it is.
 */
#ifndef RML_CONTROL_REACH_H
#define RML_CONTROL_REACH_H

#include <stdbool.h>
#include <stdint.h>

struct rml_claim;
struct rml_err;
struct rml_plan;

struct rml_reach {
    bool is_open;   // to others than its own user
    bool to_group;  // to `group` alone
    uint32_t group;
};

/* Whom the files of this plan's pipeline have to be reached by. */
struct rml_reach rml_reach_of(const struct rml_plan *plan);

/*
 * Let them come as far as the socket of a claimed pipeline that listens: in the order that nobody comes
 * further in between. 0; or a negative errno and a sentence. A folder above the run directory that
 * keeps them out is left as it is and named in `ret_note` (empty: there is none).
 */
int rml_reach_open(const struct rml_reach *reach, const struct rml_claim *claim, char *ret_note,
                   uint32_t note_bytes, struct rml_err *err);

#endif
