/*
 * subscribing - what a scenario's subscribers have in common: the rows that they read, those of a keyed count and sum in
 * windows, and how they come by them.
 */
#ifndef TESTS_SCENARIO_SUBSCRIBING_H
#define TESTS_SCENARIO_SUBSCRIBING_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/client/subscribe.h"

struct row {
    uint64_t null_mask;
    int64_t window_start, window_end;
    uint32_t key, revision;
    uint64_t n;
    int64_t total;
};

#define PATIENT_NS INT64_C(3600000000000)

/* Subscribe to such rows, whose schema has this hash, and say "attached" on the standard error; or say there
 * why not, and end. How long the engine takes for its answer is the machine's affair. */
static inline struct rml_subscriber *subscribe(const char *place, const char *schema_hash,
                                               const struct rml_subscriber_options *options)
{
    char error[RML_SUBSCRIBER_ERROR_BYTES];
    struct rml_subscriber *subscriber;
    struct rml_subscriber_options patient = *options;
    patient.open_ns = PATIENT_NS;
    int rc = rml_subscriber_open(&subscriber, place, strtoull(schema_hash, NULL, 0),
                                 sizeof(struct row), &patient, error, sizeof error);
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", strerrorname_np(-rc), error);
        exit(1);
    }
    fprintf(stderr, "attached\n");
    return subscriber;
}

#endif
