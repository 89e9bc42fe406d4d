/*
 * parcel - one message over a Unix socket, with descriptors.
 */
#ifndef RML_BASE_PARCEL_H
#define RML_BASE_PARCEL_H

#include <stddef.h>
#include <stdint.h>

#define RML_PARCEL_FDS_MAX 253u  // SCM_MAX_FD: what the kernel passes at most

/*
 * Send `bytes` with `fd_count` descriptors, which stay the caller's. `flags` as of sendmsg; no signal is
 * raised. 0 or a negative errno.
 */
int rml_parcel_send(int socket, const void *message, size_t bytes, const int *fds,
                    uint32_t fd_count, int flags);

/*
 * Receive a message into `room` bytes, and at most `fds_max` descriptors, close-on-exec. `flags` as of
 * recvmsg. Returns its bytes; 0 when the peer has closed; -EMSGSIZE when it, or what came with it, was
 * cut; -EMFILE when there were more descriptors; or another negative errno. Nothing is left open
 * unless bytes are returned.
 */
ptrdiff_t rml_parcel_receive(int socket, void *message, size_t room, int *fds, uint32_t fds_max,
                             uint32_t *ret_fd_count, int flags);

#endif
