#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/segment/segment.h"
#include "tests/support/test.h"

static void a_new_segment_is_zero_and_cannot_change_its_size(void **state)
{
    (void)state;
    struct rml_segment segment;
    assert_int_equal(rml_segment_open_theirs(&segment, "test", 8192, NULL), 0);
    assert_int_equal(segment.bytes, 8192);
    for (size_t i = 0; i < segment.bytes; i++)
        assert_int_equal(((const char *)segment.memory)[i], 0);
    assert_int_equal(ftruncate(segment.fd, 4096), -1);
    assert_int_equal(ftruncate(segment.fd, 16384), -1);
    assert_int_equal(fcntl(segment.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    rml_segment_close(&segment);
    assert_int_equal(segment.fd, -1);
    rml_segment_close(&segment);
}

static void what_the_peer_writes_is_seen_here(void **state)
{
    (void)state;
    struct rml_segment ours, theirs;
    assert_int_equal(rml_segment_open_theirs(&ours, "test", 4096, NULL), 0);
    assert_int_equal(rml_segment_attach(&theirs, ours.fd, 4096, true, NULL), 0);
    assert_int_equal(theirs.fd, -1);
    strcpy(theirs.memory, "hello");
    assert_string_equal(ours.memory, "hello");
    rml_segment_close(&theirs);
    rml_segment_close(&ours);
}

static void our_own_segment_cannot_be_mapped_writable_by_any_way_in(void **state)
{
    (void)state;
    struct rml_segment ours, theirs;
    struct rml_err err = {0};
    assert_int_equal(rml_segment_open_ours(&ours, "test", 4096, NULL), 0);
    strcpy(ours.memory, "still writable for us");
    assert_true(rml_segment_attach(&theirs, ours.fd, 4096, true, &err) < 0);
    assert_int_equal(rml_segment_attach(&theirs, ours.fd, 4096, false, NULL), 0);
    assert_string_equal(theirs.memory, "still writable for us");

    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ours.fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    if (again >= 0) {
        void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
        assert_ptr_equal(map, MAP_FAILED);
        assert_int_equal(write(again, "x", 1), -1);
        close(again);
    }
    assert_int_equal(mprotect(theirs.memory, 4096, PROT_READ | PROT_WRITE), -1);
    rml_segment_close(&theirs);
    rml_segment_close(&ours);
}

static void a_descriptor_that_may_shrink_is_refused(void **state)
{
    (void)state;
    struct rml_segment theirs;
    struct rml_err err = {0};
    int fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(rml_segment_attach(&theirs, fd, 4096, true, &err), -EPROTO);
    assert_string_equal(err.text, "the memfd could still shrink below us");
    close(fd);

    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(rml_segment_attach(&theirs, pipes[0], 4096, true, &err), -EPROTO);
    close(pipes[0]);
    close(pipes[1]);
}

static void another_size_than_expected_is_refused(void **state)
{
    (void)state;
    struct rml_segment ours, theirs;
    struct rml_err err = {0};
    assert_int_equal(rml_segment_open_theirs(&ours, "test", 4096, NULL), 0);
    assert_int_equal(rml_segment_attach(&theirs, ours.fd, 8192, true, &err), -EPROTO);
    assert_string_equal(err.text, "the memfd has 4096 bytes and should have 8192");
    assert_int_equal(rml_segment_attach(&theirs, ours.fd, 0, true, &err), -EPROTO);
    rml_segment_close(&ours);
}

static void no_bytes_and_too_many_are_errors(void **state)
{
    (void)state;
    struct rml_segment segment;
    struct rml_err err = {0};
    assert_int_equal(rml_segment_open_theirs(&segment, "test", 0, &err), -EINVAL);
    assert_int_equal(rml_segment_open_ours(&segment, "test", (size_t)1 << 50, &err), -ENOMEM);
    assert_int_equal(segment.fd, -1);
    assert_null(segment.memory);
}

TEST_MAIN(CLAIM(a_new_segment_is_zero_and_cannot_change_its_size),
          CLAIM(what_the_peer_writes_is_seen_here),
          CLAIM(our_own_segment_cannot_be_mapped_writable_by_any_way_in),
          CLAIM(a_descriptor_that_may_shrink_is_refused),
          CLAIM(another_size_than_expected_is_refused), CLAIM(no_bytes_and_too_many_are_errors))
