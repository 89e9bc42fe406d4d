#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/control/engine.h"
#include "runtime/lane/lane_out.h"
#include "tests/support/folder.h"
#include "tests/support/test.h"

/*
 * An engine that comes up on a machine which refuses something: memory, a mapping, a thread, a
 * descriptor, room in a file. Each call that asks for one is refused once, each in a life of its own
 * (--wrap, tests/CMakeLists.txt); those of libraries are their affair.
 */

#define RECORDS 100u

static const char pipeline[] =
    "version: 1\npipeline: scarce\n"
    "schema: {event: {ts: time_ns, key: u64}}\n"
    "runtime: {workers: 2, partitions: 3, state_limit: 64MiB, state_prefault: 1MiB, lanes_max: 3%s}\n"
    "sources: {in: {schema: event, event_time: ts, partition_by: [key], cells: 256%s}}\n"
    "stages:\n"
    "  sums: {from: in, key: key, window: {type: tumbling, size: 1us}, aggregate: {c: count()}}\n"
    "sinks:\n"
    "  rows: {from: sums, type: ring, rows: 64}\n"
    "  file: {from: sums, type: csv, path: out.csv}\n%s";

static const struct life {
    const char *name, *runtime, *source, *sinks;
    bool replay;
} lives[] = {
    {"replay", "", "", "", true},
    {"without checkpoints", "", "", "", false},
    {"with checkpoints", ", state: state", "", "  table: {from: sums, type: lmdb}\n", false},
    {"with a journal", ", state: state", ", journal: true", "", false},
};

struct record {
    int64_t ts;
    uint64_t key;
};

/* What is refused */

static struct {
    uint32_t left;        // calls until one is refused
    const char *refused;  // which one was; NULL: none yet
} scarce;

static _Thread_local bool is_scarce;  // here: threads that the engine starts have what they need

static bool refuses(const char *call, int error)
{
    if (!is_scarce || scarce.refused != NULL || scarce.left-- > 0)
        return false;
    scarce.refused = call;
    errno = error;
    return true;
}

// clang-format off
// As the linker wants them.
#define AT_THE_DOOR(type, name, parameters, arguments, none, error)          \
    type __real_##name parameters;                                           \
    type __wrap_##name parameters;                                           \
    type __wrap_##name parameters                                            \
    {                                                                        \
        return refuses(#name, error) ? (none) : __real_##name arguments;     \
    }
// clang-format on

AT_THE_DOOR(void *, malloc, (size_t bytes), (bytes), NULL, ENOMEM)
AT_THE_DOOR(void *, calloc, (size_t count, size_t bytes), (count, bytes), NULL, ENOMEM)
AT_THE_DOOR(void *, realloc, (void *at, size_t bytes), (at, bytes), NULL, ENOMEM)
AT_THE_DOOR(void *, aligned_alloc, (size_t to, size_t bytes), (to, bytes), NULL, ENOMEM)
AT_THE_DOOR(char *, strdup, (const char *text), (text), NULL, ENOMEM)
AT_THE_DOOR(void *, mmap, (void *at, size_t bytes, int protection, int flags, int fd, off_t from),
            (at, bytes, protection, flags, fd, from), MAP_FAILED, ENOMEM)
AT_THE_DOOR(int, pthread_create,
            (pthread_t * thread, const pthread_attr_t *how, void *(*run)(void *), void *context),
            (thread, how, run, context), EAGAIN, EAGAIN)
AT_THE_DOOR(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1, EMFILE)
AT_THE_DOOR(int, eventfd, (unsigned count, int flags), (count, flags), -1, EMFILE)
AT_THE_DOOR(int, epoll_create1, (int flags), (flags), -1, EMFILE)
AT_THE_DOOR(int, epoll_ctl, (int epoll, int what, int fd, struct epoll_event *event),
            (epoll, what, fd, event), -1, ENOSPC)
AT_THE_DOOR(int, socketpair, (int domain, int type, int protocol, int fds[2]),
            (domain, type, protocol, fds), -1, EMFILE)
AT_THE_DOOR(int, ftruncate, (int fd, off_t bytes), (fd, bytes), -1, ENOSPC)
AT_THE_DOOR(int, fallocate, (int fd, int mode, off_t from, off_t bytes), (fd, mode, from, bytes),
            -1, ENOSPC)
AT_THE_DOOR(int, posix_fallocate, (int fd, off_t from, off_t bytes), (fd, from, bytes), ENOSPC,
            ENOSPC)
AT_THE_DOOR(DIR *, opendir, (const char *path), (path), NULL, EMFILE)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    return refuses("open", EMFILE) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);

int __wrap_openat(int folder, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    return refuses("openat", EMFILE) ? -1 : __real_openat(folder, path, flags, mode);
}

/* A life */

static struct folder folder;

static struct rml_plan *read_plan(const struct life *life)
{
    char text[1024];
    int used = snprintf(text, sizeof text, pipeline, life->runtime, life->source, life->sinks);
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    int rc = rml_plan_parse(text, (size_t)used, "scarce.yaml", rml_operators_functions(), &plan,
                            &errors, &err);
    if (rc < 0)
        print_message("%s %s\n", errors.count > 0 ? errors.list[0].text : "", err.text);
    assert_int_equal(rc, 0);
    rml_plan_errors_fini(&errors);
    return plan;
}

static uint32_t count_descriptors(void)
{
    DIR *fds = opendir("/proc/self/fd");
    assert_non_null(fds);
    uint32_t count = 0;
    while (readdir(fds) != NULL)
        count++;
    closedir(fds);
    return count;
}

static void feed(struct rml_engine *engine, uint32_t lane)
{
    struct rml_lane_in *in = rml_engine_lane(engine, lane);
    struct rml_lane_out *out;
    struct rml_err err = {0};
    assert_int_equal(
        rml_lane_out_open(&out, rml_lane_in_geometry(in), rml_lane_in_fds(in), -1, &err), 0);
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct record record = {.ts = (int64_t)i * 10, .key = i};
        assert_int_equal(rml_lane_out_put(out, &record), 1);
    }
    rml_lane_out_close(out);
}

// Open, start, attach; what came of it. A file of a life before is in nobody's way.
static int come_up(const struct life *life, const struct rml_plan *plan, struct rml_err *err)
{
    const struct rml_engine_options options = {.plan = plan,
                                               .operators = rml_operators_table(),
                                               .clock = &rml_clock_system,
                                               .replay = life->replay,
                                               .folder = folder.path};
    struct rml_engine *engine = NULL;
    uint32_t lane = UINT32_MAX;
    is_scarce = true;
    int rc = rml_engine_open(&engine, &options, err);
    if (rc == 0)
        rc = rml_engine_start(engine, err);
    bool is_up = rc == 0;
    if (rc == 0)
        rc = rml_engine_attach(engine, 0, NULL, &lane, err);
    is_scarce = false;
    if (is_up && rc < 0)  // it says so, and the next one is let in
        assert_int_equal(rml_engine_attach(engine, 0, NULL, &lane, NULL), 0);
    if (lane != UINT32_MAX) {
        feed(engine, lane);
        struct rml_board_totals totals;
        rml_engine_drain(engine);
        rml_engine_stop(engine);
        rml_engine_totals(engine, &totals);
        assert_int_equal(totals.source[0][RML_SOURCE_taken] % RECORDS, 0);
        assert_true(totals.source[0][RML_SOURCE_taken] > 0);
    }
    rml_engine_close(engine);
    return rc;
}

static void an_engine_that_is_refused_anything_says_so_and_leaves_nothing_behind(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof lives / sizeof lives[0]; i++) {
        struct rml_plan *plan = read_plan(&lives[i]);
        uint32_t refusals = 0, borne = 0, descriptors = 0;
        for (uint32_t calls = 0;; calls++) {
            struct rml_err err = {0};
            scarce.left = calls;
            scarce.refused = NULL;
            int rc = come_up(&lives[i], plan, &err);
            if (scarce.refused == NULL) {
                assert_int_equal(rc, 0);
                break;
            }
            refusals++;
            borne += rc == 0;
            if (rc < 0 && err.text[0] == '\0')
                fail_msg("%s: call %u (%s): %d, and no word", lives[i].name, calls, scarce.refused,
                         rc);
            uint32_t now = count_descriptors();
            if (calls > 0 && now != descriptors)
                fail_msg("%s: call %u (%s): %u descriptors after %u", lives[i].name, calls,
                         scarce.refused, now, descriptors);
            descriptors = now;
        }
        print_message("%s: %u refusals, %u of them borne\n", lives[i].name, refusals, borne);
        assert_true(refusals > 50 && borne < refusals);
        rml_plan_close(plan);
    }
}

static int set_up(void **state)
{
    (void)state;
    folder = folder_make("/dev/shm");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    struct folder inner;
    snprintf(inner.path, sizeof inner.path, "%s", folder_file(&folder, "state"));
    folder_remove(&inner);
    folder_remove(&folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        cmocka_unit_test_setup_teardown(
            an_engine_that_is_refused_anything_says_so_and_leaves_nothing_behind, set_up,
            tear_down),
    };
    return cmocka_run_group_tests(claims, NULL, NULL);
}
