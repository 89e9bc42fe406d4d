/*
 * protocol - what an engine says to its keeper, over a SOCK_SEQPACKET pair.
 *
 *     PUT     keep these descriptors, and a few bytes that say what they are, under this id; the
 *             first descriptor may be a segment that the keeper is to map as well. Answered.
 *     UPDATE  other bytes under this id
 *     DROP    close what is kept under this id
 *     READY   the engine has come up and serves
 *     ENDING  somebody has asked the engine for the end, and not its keeper by a signal
 *
 * The keeper answers a PUT once it has done it, so that what the engine does next (seal the segment,
 * show it to a peer) happens to something that is kept already. The others need no answer: they come
 * in order, and those that a dying engine sent are read after its death.
 */
#ifndef RML_KEEPER_PROTOCOL_H
#define RML_KEEPER_PROTOCOL_H

#include <stdint.h>

#define RML_KEEPER_MAGIC          0x4b4d524du
#define RML_KEPT_MAX              8192u  // entries
#define RML_KEPT_FDS_MAX          72u    // of one entry: a lane of 64 workers has 70
#define RML_KEPT_BLOB_MAX         256u
#define RML_KEEPER_DEATHMARK_NONE UINT32_MAX

enum rml_keeper_request {
    RML_KEEPER_PUT = 1,
    RML_KEEPER_UPDATE,
    RML_KEEPER_DROP,
    RML_KEEPER_READY,
    RML_KEEPER_ENDING,
};

struct rml_keeper_message {
    uint32_t magic;
    uint32_t request;   // enum rml_keeper_request
    uint64_t sequence;  // counts the engine's messages; repeated in the answer
    uint64_t id;
    uint64_t map_bytes;  // PUT: map so much of the first descriptor; 0: nothing
    uint32_t
        mark_at;  // PUT: 32-bit word of that mapping to store mark_value in once the engine has
    uint32_t mark_value;  // died (its offset in bytes); or RML_KEEPER_DEATHMARK_NONE
    uint32_t blob_bytes;
    uint32_t zero;
    unsigned char blob[RML_KEPT_BLOB_MAX];
};

struct rml_keeper_answer {
    uint64_t sequence;
    int32_t rc;  // 0 or a negative errno
    uint32_t zero;
};

#endif
