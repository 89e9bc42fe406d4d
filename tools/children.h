/*
 * children - processes that a command starts, waits for, and sees to their end.
 *
 * Each is a process group of its own, so that Ctrl-C comes to the command alone, which then ends them in
 * its order; and each gets SIGTERM when the command dies before it could. The thread that starts them
 * must live as long as they do.
 */
#ifndef RML_TOOLS_CHILDREN_H
#define RML_TOOLS_CHILDREN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct rml_err;

#define RML_CHILDREN_MAX 72

struct rml_child {
    const char *name;  // for people
    pid_t pid;
    bool ended;
    int status;  // once it has ended, as waitpid gives it
};

struct rml_children {
    uint32_t count;
    struct rml_child child[RML_CHILDREN_MAX];
    sigset_t before;  // the signals that were blocked before
};

enum rml_children_news {
    RML_CHILDREN_NOTHING,   // the time is over
    RML_CHILDREN_ENDED,     // one of them has ended, or some
    RML_CHILDREN_SIGNALLED  // SIGINT or SIGTERM came to this process
};

/* From here on SIGINT, SIGTERM and SIGCHLD are blocked, and heeded by rml_children_wait. */
void rml_children_open(struct rml_children *children);

struct rml_child_options {
    const char *name;
    const char *path;         // of the program
    const char *const *argv;  // NULL at its end
    int input;                // its standard input; -1: none
    int keep;                 // a descriptor that it inherits under its number; -1: none
};

/* Its index, or a negative errno and a sentence. A program that is not there shows as a child that
 * ends with 127 and has said so. */
int rml_child_start(struct rml_children *children, const struct rml_child_options *options,
                    struct rml_err *err);

/* Sleep until there is news, at most `wait_ns`. */
enum rml_children_news rml_children_wait(struct rml_children *children, int64_t wait_ns);

/* Send it a signal, unless it has ended. */
void rml_child_signal(const struct rml_child *child, int number);

/* Wait until it has ended, at most `wait_ns`, then kill it. A signal to this process is passed on to
 * it as SIGTERM. True: it ended by itself with exit code 0; otherwise it is said what happened. */
bool rml_child_join(struct rml_children *children, uint32_t index, int64_t wait_ns);

#endif
