#include "runtime/checkpoint/handover.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/large.h"

int rml_handover_open(struct rml_handover *handover, uint32_t buffers, struct rml_bell *news,
                      struct rml_err *err)
{
    *handover = (struct rml_handover){.emptied = RML_BELL_CLOSED, .news = news, .buffers = buffers};
    int rc = rml_queue_open(&handover->filled, sizeof(struct rml_handover_message), buffers, err);
    if (rc == 0)
        rc = rml_queue_open(&handover->empty, sizeof(void *), buffers, err);
    if (rc == 0)
        rc = rml_bell_open(&handover->emptied, err);
    if (rc < 0)
        return rc;
    handover->memory = rml_large_open((size_t)buffers * RML_HANDOVER_BYTES);
    if (handover->memory == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for buffers of snapshots");
    // The kernel makes it ready now, and not while a worker waits for that.
    memset(handover->memory, 0, (size_t)buffers * RML_HANDOVER_BYTES);
    for (uint32_t i = 0; i < buffers; i++)
        rml_handover_put_back(handover, handover->memory + (size_t)i * RML_HANDOVER_BYTES);
    return 0;
}

void rml_handover_close(struct rml_handover *handover)
{
    if (handover->buffers == 0)
        return;
    rml_queue_close(&handover->filled);
    rml_queue_close(&handover->empty);
    rml_bell_close(&handover->emptied);
    rml_large_close(handover->memory, (size_t)handover->buffers * RML_HANDOVER_BYTES);
    *handover = (struct rml_handover){0};
}

void *rml_handover_room(struct rml_handover *handover)
{
    void *buffer;
    return rml_queue_take(&handover->empty, &buffer) ? buffer : NULL;
}

void *rml_handover_wait(struct rml_handover *handover)
{
    void *buffer;
    while ((buffer = rml_handover_room(handover)) == NULL) {
        rml_bell_expect(&handover->emptied);
        buffer = rml_handover_room(handover);
        if (buffer != NULL) {
            rml_bell_awake(&handover->emptied);
            return buffer;
        }
        rml_bell_wait(&handover->emptied, -1);
    }
    return buffer;
}

void rml_handover_give(struct rml_handover *handover, const struct rml_handover_message *message)
{
    RML_CHECK(rml_queue_give(&handover->filled, message));  // there are as many cells as buffers
    rml_bell_ring(handover->news);
}

bool rml_handover_take(struct rml_handover *handover, struct rml_handover_message *ret_message)
{
    return rml_queue_take(&handover->filled, ret_message);
}

void rml_handover_put_back(struct rml_handover *handover, void *buffer)
{
    RML_CHECK(rml_queue_give(&handover->empty, &buffer));
    rml_bell_ring(&handover->emptied);
}
