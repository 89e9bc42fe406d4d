/*
 * sandbox - what a pipeline's processes give up for good before they meet the first peer.
 *
 * No privileges come from running other programs any more (PR_SET_NO_NEW_PRIVS), and calls that a
 * pipeline never needs fail with EPERM (seccomp, by libseccomp): running programs, opening sockets,
 * looking into other processes, making memory executable, changing users, mounts, namespaces, clocks
 * and the kernel. It is a list of what is not needed, and not of what is: what allocators, LMDB,
 * liburing and plug-ins call differs from one version to the next, and a call that was forgotten would
 * fail on a rare path, long after the tests.
 */
#ifndef RML_CONTROL_SANDBOX_H
#define RML_CONTROL_SANDBOX_H

struct rml_err;

/*
 * Enter it, with all threads of this process; whoever is forked from it is in it, too. 0; or a negative
 * errno and a sentence where the kernel, or a sandbox around us, does not let us.
 */
int rml_sandbox_enter(struct rml_err *err);

#endif
