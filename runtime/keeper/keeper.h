/*
 * keeper - a small parent process that starts an engine, and starts it again when it dies.
 *
 *     ringmill run ──fork──► engine
 *       keeper ◄──protocol──  PUT / UPDATE / DROP
 *         └───fork───► engine again, with everything that is kept
 *
 * It keeps descriptors and mappings of which it knows nothing but ids (store.h), so that nothing is
 * lost to those at their other ends, and hands them on by the fork itself: what is sealed against
 * further writable mappings can be had in no other way. It has one thread, takes nothing that an engine
 * says on trust, never waits for one, and does no more than this, so that there is little in it to fail.
 *
 * An engine that ends by itself, with whatever exit code, is not started again: that is the end, or it
 * could not start. One that a signal killed is; and so is one that could not come up after a death, until somebody
 * asks for the end, by a signal or of an engine: then it is tried once more at most.
 *
 * Where deaths follow each other there is a pause before the next engine. The engine itself waits it out, as the first
 * thing that it does: so whoever comes meanwhile is heard, and not by the keeper.
 */
#ifndef RML_KEEPER_KEEPER_H
#define RML_KEEPER_KEEPER_H

#include <stdint.h>

struct rml_err;
struct rml_keeper;
struct rml_keeping;

#define RML_KEEPER_RESTARTS_MAX 1000u

struct rml_keeper_options {
    uint32_t restarts_most;  // so many within_ns, at most RML_KEEPER_RESTARTS_MAX; then it gives up
    int64_t within_ns;
    /* Told what happens. */
    void (*say)(void *context, const char *sentence);
    /* The engine has died and is to be started again, for this reason; or it is back (NULL). */
    void (*paused)(void *context, const char *why);
    void *context;
};

/* 0 or a negative errno and a sentence. The signals of runtime/base/endings.h are blocked in the calling
 * thread, which has to be the process's only one, from here on. */
int rml_keeper_open(struct rml_keeper **ret_keeper, const struct rml_keeper_options *options,
                    struct rml_err *err);

/*
 * Fork an engine and look after it. Returns once in each process:
 *
 *     1     in the engine, and in each that follows: *ret_keeping is its (rml_keeping_close)
 *     0     in the keeper: the engine has ended by itself, with exit code *ret_code
 *     < 0   in the keeper: it could not be started, or (-EOWNERDEAD) it died and is not started any more;
 *           with a sentence
 *
 * Signals are passed on to the engine as rml_ending_passed_on(); who signals twice does not want it back when it dies,
 * and who does so once, or has asked an engine (rml_keeping_ending), not when it exits before it was ready.
 * The engine dies with the keeper.
 */
int rml_keeper_run(struct rml_keeper *keeper, struct rml_keeping **ret_keeping, int *ret_code,
                   struct rml_err *err);

/* In the keeper: let go of everything that is kept. In the engine: of what is the keeper's alone. NULL
 * is accepted. */
void rml_keeper_close(struct rml_keeper *keeper);

#endif
