#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/endings.h"
#include "runtime/base/err.h"
#include "runtime/base/parcel.h"
#include "runtime/keeper/keeper.h"
#include "runtime/keeper/keeping.h"
#include "runtime/segment/segment.h"
#include "tests/support/descriptors.h"
#include "tests/support/test.h"

#define SECOND INT64_C(1000000000)

enum sort { SORT_SEGMENT = 1, SORT_PIPE, SORT_OTHER };

/* What a test's engines and the test say to each other: memory that all of them share, one
 * after the other. */
static struct shared {
    uint32_t runs;     // engines that were started
    uint32_t fds[64];  // that each of them had when it began
    uint32_t asked;
    int pid;
    int rc[16];
    char why[400];
} * shared;

static struct rml_err err;
static char said[4096];
static uint32_t paused, resumed;

static int open_shared(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    said[0] = '\0';
    paused = resumed = 0;
    return shared == MAP_FAILED ? -1 : 0;
}

static int close_shared(void **state)
{
    (void)state;
    return munmap(shared, sizeof *shared);
}

static void say(void *context, const char *sentence)
{
    (void)context;
    size_t used = strlen(said);
    snprintf(said + used, sizeof said - used, "%s\n", sentence);
}

static void note_pause(void *context, const char *why)
{
    (void)context;
    paused += why != NULL;
    resumed += why == NULL;
}

// Keep `engine` running, `most` restarts in a day; what rml_keeper_run says.
static int keep(void (*engine)(struct rml_keeping *keeping, uint32_t run), uint32_t most,
                int *ret_code)
{
    struct rml_keeper *keeper = NULL;
    struct rml_keeping *keeping = NULL;
    const struct rml_keeper_options options = {
        .restarts_most = most, .within_ns = 86400 * SECOND, .say = say, .paused = note_pause};
    uint32_t before = descriptors_open();
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    assert_int_equal(rml_keeper_open(&keeper, &options, &err), 0);
    int rc = rml_keeper_run(keeper, &keeping, ret_code, &err);
    if (rc == 1) {
        uint32_t run = shared->runs++;
        shared->fds[run % 64] = descriptors_open();
        engine(keeping, run);
        _exit(99);
    }
    rml_keeper_close(keeper);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    assert_int_equal(descriptors_open(), before);
    return rc;
}

static void die(int number)
{
    kill(getpid(), number);
    pause();
}

/* Ends */

static void exits(struct rml_keeping *keeping, uint32_t run)
{
    (void)run;
    RML_CHECK(!rml_keeping_again(keeping) && rml_keeping_process(keeping) == getppid());
    _exit(78);
}

static void an_engine_that_ends_by_itself_is_not_started_again(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(exits, 10, &code), 0);
    assert_int_equal(code, 78);
    assert_int_equal(shared->runs, 1);
    assert_string_equal(said, "");
}

static void dies(struct rml_keeping *keeping, uint32_t run)
{
    (void)keeping;
    (void)run;
    die(SIGKILL);
}

static void one_that_dies_too_often_is_given_up(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(dies, 2, &code), -EOWNERDEAD);
    assert_int_equal(code, -1);
    assert_int_equal(shared->runs, 3);
    assert_non_null(strstr(err.text, "died 3 times within 86400 s"));
    assert_non_null(strstr(err.text, "SIGKILL"));
    assert_non_null(strstr(said, "it is started again now"));
    assert_non_null(strstr(said, "it is started again in 100 ms"));
    assert_int_equal(paused, 2);
}

static void comes_up_at_the_third_try(struct rml_keeping *keeping, uint32_t run)
{
    if (run == 0) {
        rml_keeping_ready(keeping);
        die(SIGKILL);
    }
    if (run == 1) {
        rml_note_say("something stood in its way");
        _exit(1);
    }
    snprintf(shared->why, sizeof shared->why, "%s", keeping->last.why);
    rml_keeping_ready(keeping);
    _exit(3);
}

static void one_that_cannot_come_up_after_a_death_is_tried_again(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(comes_up_at_the_third_try, 10, &code), 0);
    assert_int_equal(code, 3);
    assert_int_equal(shared->runs, 3);
    assert_string_equal(shared->why,
                        "it could not come up again (exit code 1): something stood in its way");
    assert_int_equal(resumed, 2);
}

static void is_told_of_a_pause(struct rml_keeping *keeping, uint32_t run)
{
    shared->rc[run] = (int)(keeping->pause_ns / 1000000);
    if (run < 9)
        die(SIGKILL);
    _exit(0);
}

static void the_pause_before_an_engine_is_its_to_wait_out_and_grows_with_deaths(void **state)
{
    (void)state;
    static const int wanted_ms[] = {0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
    int code = -1;
    assert_int_equal(keep(is_told_of_a_pause, 10, &code), 0);
    for (int run = 0; run < 10; run++)
        assert_int_equal(shared->rc[run], wanted_ms[run]);
}

/* Ends that are asked for */

static void wait_for_passed_on(void)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, rml_ending_passed_on());
    RML_CHECK(sigwaitinfo(&set, &info) > 0);
}

static void is_asked_and_cannot_come_up(struct rml_keeping *keeping, uint32_t run)
{
    if (run == 0)
        die(SIGKILL);
    if (run == 2)
        rml_keeping_ending(keeping);
    rml_note_say("a disk that fails");
    _exit(1);
}

static void one_that_cannot_come_up_is_the_last_once_an_engine_was_asked_to_end(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(is_asked_and_cannot_come_up, 10, &code), -EOWNERDEAD);
    assert_int_equal(shared->runs, 3);
    assert_non_null(
        strstr(err.text, "asked to end, and the engine that was started again for that"));
    assert_non_null(strstr(err.text, "could not come up again (exit code 1): a disk that fails"));
}

static void is_signalled_and_cannot_come_up(struct rml_keeping *keeping, uint32_t run)
{
    (void)keeping;
    if (run == 0)
        die(SIGKILL);
    if (run == 2) {
        kill(getppid(), SIGTERM);
        wait_for_passed_on();
    }
    _exit(1);
}

static void one_that_cannot_come_up_is_the_last_once_its_keeper_was_signalled(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(is_signalled_and_cannot_come_up, 10, &code), -EOWNERDEAD);
    assert_int_equal(shared->runs, 3);
    assert_non_null(strstr(err.text, "asked to end"));
}

static void is_killed_over_an_end(struct rml_keeping *keeping, uint32_t run)
{
    if (run == 0) {
        rml_keeping_ready(keeping);
        rml_keeping_ending(keeping);
        kill(getppid(), SIGTERM);
        wait_for_passed_on();
    }
    if (run < 3)
        die(SIGKILL);
    shared->asked = keeping->asked;
    rml_keeping_ready(keeping);
    _exit(5);
}

static void one_that_is_killed_over_an_end_that_was_asked_for_leaves_it_to_the_next(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(is_killed_over_an_end, 10, &code), 0);
    assert_int_equal(code, 5);
    assert_int_equal(shared->runs, 4);
    assert_int_equal(shared->asked, 1);
}

/* What is kept */

static const struct rml_keeping_segment segment_wanted = {
    .id = RML_KEPT_ID(SORT_SEGMENT, 7), .name = "kept", .bytes = 8192, .mark_at = 64, .mark = 5};

static struct rml_segment open_segment(struct rml_keeping *keeping, bool want_again)
{
    struct rml_segment segment;
    bool again;
    RML_CHECK(rml_keeping_segment(keeping, &segment_wanted, &segment, &again, NULL) == 0);
    RML_CHECK(again == want_again);
    // sealed: nobody can map it writable any more, and what we hold is
    RML_CHECK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, segment.fd, 0) == MAP_FAILED);
    return segment;
}

static void leaves_things_behind(struct rml_keeping *keeping, uint32_t run)
{
    struct rml_segment segment = open_segment(keeping, run > 0);
    uint32_t *words = segment.memory;
    RML_CHECK(words[0] == run && words[16] == (run > 0 ? 5 : 0));
    words[0] = run + 1;
    words[16] = 0;
    if (run == 0) {
        int ends[2];
        RML_CHECK(pipe2(ends, O_CLOEXEC) == 0);
        const struct rml_keep one = {.id = RML_KEPT_ID(SORT_PIPE, 1),
                                     .fds = ends,
                                     .fd_count = 2,
                                     .blob = "first",
                                     .blob_bytes = 6};
        const struct rml_keep two = {.id = RML_KEPT_ID(SORT_OTHER, 1), .fds = ends, .fd_count = 1};
        const struct rml_keep three = {.id = RML_KEPT_ID(SORT_OTHER, 2)};
        RML_CHECK(rml_keeping_put(keeping, &one, NULL) == 0);
        RML_CHECK(rml_keeping_put(keeping, &two, NULL) == 0);
        RML_CHECK(rml_keeping_put(keeping, &three, NULL) == 0);
        rml_keeping_update(keeping, one.id, "second", 7);
        rml_keeping_drop(keeping, two.id);
        RML_CHECK(write(ends[1], "x", 1) == 1);
        die(SIGKILL);
    }
    const struct rml_kept *kept = rml_keeping_take(keeping, RML_KEPT_ID(SORT_PIPE, 1));
    RML_CHECK(kept != NULL && kept->fd_count == 2
              && strcmp((const char *)kept->blob, "second") == 0);
    RML_CHECK(rml_keeping_take(keeping, kept->id) == NULL);  // once
    char byte;
    RML_CHECK(read(kept->fds[0], &byte, 1) == 1 && byte == 'x');
    RML_CHECK(write(kept->fds[1], "x", 1) == 1);
    RML_CHECK(rml_keeping_take(keeping, RML_KEPT_ID(SORT_OTHER, 1)) == NULL);
    if (run == 1)
        RML_CHECK(rml_keeping_next(keeping, SORT_OTHER)->id == RML_KEPT_ID(SORT_OTHER, 2));
    else
        RML_CHECK(rml_keeping_next(keeping, SORT_OTHER) == NULL);
    RML_CHECK(rml_keeping_next(keeping, SORT_OTHER) == NULL);
    if (run == 1)
        rml_keeping_drop(keeping, RML_KEPT_ID(SORT_OTHER, 2));
    rml_keeping_ready(keeping);
    if (run < 4)
        die(SIGKILL);
    _exit(0);
}

static void what_an_engine_had_is_the_next_ones(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(leaves_things_behind, 10, &code), 0);
    assert_int_equal(code, 0);
    assert_int_equal(shared->runs, 5);
    for (uint32_t run = 2; run < 5; run++)
        assert_int_equal(shared->fds[run], shared->fds[1]);  // nothing is left over by a restart
    assert_null(strstr(said, "what cannot be"));
}

static void lets_go_of_the_rest(struct rml_keeping *keeping, uint32_t run)
{
    if (run == 0) {
        for (uint32_t i = 0; i < 20; i++) {
            const int fd = STDERR_FILENO;
            const struct rml_keep one = {
                .id = RML_KEPT_ID(SORT_OTHER, i), .fds = &fd, .fd_count = 1};
            RML_CHECK(rml_keeping_put(keeping, &one, NULL) == 0);
        }
        die(SIGKILL);
    }
    RML_CHECK(run == 2 || rml_keeping_take(keeping, RML_KEPT_ID(SORT_OTHER, 3)) != NULL);
    rml_keeping_rest(keeping);
    shared->rc[run] = (int)descriptors_open();
    if (run == 1)
        die(SIGKILL);
    rml_keeping_close(keeping);
    _exit(0);
}

static void what_nobody_takes_is_let_go_of(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(lets_go_of_the_rest, 10, &code), 0);
    assert_int_equal(code, 0);
    assert_int_equal(shared->fds[1], shared->fds[0] + 20);
    assert_int_equal(shared->rc[1], shared->fds[0] + 1);
    assert_int_equal(shared->fds[2], shared->fds[0] + 1);
    assert_int_equal(shared->rc[2], shared->fds[0]);
}

/* Engines that babble */

static int ask(struct rml_keeping *keeping, const struct rml_keeper_message *message, size_t bytes,
               const int *fds, uint32_t fd_count)
{
    struct rml_keeper_answer answer;
    uint32_t none;
    RML_CHECK(rml_parcel_send(keeping->socket, message, bytes, fds, fd_count, 0) == 0);
    RML_CHECK(rml_parcel_receive(keeping->socket, &answer, sizeof answer, NULL, 0, &none, 0)
              == (ptrdiff_t)sizeof answer);
    RML_CHECK(answer.sequence == message->sequence);
    return answer.rc;
}

static void babbles(struct rml_keeping *keeping, uint32_t run)
{
    (void)run;
    unsigned char noise[4096];
    int fds[100];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (unsigned char)(i * 31);
    for (int i = 0; i < 100; i++)
        fds[i] = STDERR_FILENO;
    for (size_t bytes = 1; bytes < sizeof noise; bytes += 97)
        RML_CHECK(rml_parcel_send(keeping->socket, noise, bytes, fds, (uint32_t)(bytes % 100), 0)
                  == 0);
    rml_keeping_drop(keeping, 12345);
    rml_keeping_update(keeping, 12345, "x", 1);

    struct rml_segment segment;
    RML_CHECK(rml_segment_make_ours(&segment, "here", 4096, NULL) == 0);
    const struct rml_keeper_message good = {.magic = RML_KEEPER_MAGIC,
                                            .request = RML_KEEPER_PUT,
                                            .sequence = 17,
                                            .id = 1,
                                            .map_bytes = 4096,
                                            .mark_at = RML_KEEPER_DEATHMARK_NONE};
    struct rml_keeper_message bad[8];
    for (int i = 0; i < 8; i++)
        bad[i] = good;
    bad[0].map_bytes = 8192;
    bad[1].mark_at = 4096;
    bad[2].mark_at = 2;
    bad[3].mark_at = 4093;
    bad[4].map_bytes = UINT64_MAX;
    bad[5].blob_bytes = RML_KEPT_BLOB_MAX + 1;
    bad[6].zero = 1;
    bad[7].magic++;
    for (int i = 0; i < 8; i++)
        RML_CHECK(ask(keeping, &bad[i], sizeof bad[i], &segment.fd, 1)
                  == (i < 5 ? -EINVAL : -EPROTO));
    RML_CHECK(ask(keeping, &good, sizeof good, fds, 0) == -EINVAL);  // nothing to map
    RML_CHECK(ask(keeping, &good, sizeof good, fds, 1) == -EINVAL);  // no memory
    RML_CHECK(ask(keeping, &good, sizeof good, &segment.fd, 1) == 0);
    RML_CHECK(ask(keeping, &good, sizeof good, &segment.fd, 1) == -EEXIST);
    // answers that are not read are not waited for
    for (int i = 0; i < 3000; i++)
        RML_CHECK(rml_parcel_send(keeping->socket, &good, sizeof good, &segment.fd, 1, 0) == 0);
    _exit(0);
}

static void what_cannot_be_is_refused_and_closed(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(babbles, 10, &code), 0);
    assert_int_equal(code, 0);
    char *first = strstr(said, "the engine asked its keeper for what cannot be");
    assert_non_null(first);
    assert_null(strstr(first + 1, "the engine asked"));  // said once
}

static void asks_for_too_much(struct rml_keeping *keeping, uint32_t run)
{
    if (run == 1)
        _exit(rml_keeping_take(keeping, RML_KEPT_ID(SORT_OTHER, RML_KEPT_MAX - 1)) != NULL ? 0 : 1);
    for (uint32_t i = 0; i < RML_KEPT_MAX; i++) {
        const struct rml_keep one = {.id = RML_KEPT_ID(SORT_OTHER, i)};
        RML_CHECK(rml_keeping_put(keeping, &one, NULL) == 0);
    }
    struct rml_err why = {0};
    const struct rml_keep more = {.id = RML_KEPT_ID(SORT_OTHER, RML_KEPT_MAX)};
    RML_CHECK(rml_keeping_put(keeping, &more, &why) == -ENOSPC);
    RML_CHECK(strstr(why.text, "the keeper does not keep it") != NULL);
    rml_keeping_drop(keeping, RML_KEPT_ID(SORT_OTHER, 5));
    RML_CHECK(rml_keeping_put(keeping, &more, NULL) == 0);
    die(SIGKILL);
}

static void the_table_has_an_end(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(asks_for_too_much, 10, &code), 0);
    assert_int_equal(code, 0);
}

static void hangs_up_and_lives(struct rml_keeping *keeping, uint32_t run)
{
    (void)run;
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, rml_ending_passed_on());
    close(keeping->socket);
    kill(getppid(), SIGTERM);
    RML_CHECK(sigwait(&set, &number) == 0);
    _exit(4);
}

static void one_that_hangs_up_is_still_looked_after(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(hangs_up_and_lives, 10, &code), 0);
    assert_int_equal(code, 4);
}

static void an_engine_without_a_keeper_keeps_nothing(void **state)
{
    (void)state;
    struct rml_segment segment;
    bool again = true;
    assert_int_equal(rml_keeping_segment(NULL, &segment_wanted, &segment, &again, &err), 0);
    assert_false(again);
    rml_segment_close(&segment);
    const struct rml_keep one = {.id = 1};
    assert_int_equal(rml_keeping_put(NULL, &one, &err), 0);
    assert_null(rml_keeping_take(NULL, 1));
    assert_false(rml_keeping_again(NULL));
    assert_int_equal(rml_keeping_process(NULL), getpid());
}

/* Last words */

static void fails_a_check(struct rml_keeping *keeping, uint32_t run)
{
    if (run == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        RML_CHECK(run > 0);
    }
    snprintf(shared->why, sizeof shared->why, "%s", keeping->last.why);
    shared->pid = (int)keeping->last.pid;
    _exit(0);
}

static void a_failed_check_is_remembered(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(fails_a_check, 10, &code), 0);
    assert_non_null(strstr(shared->why, "SIGABRT: check failed: run > 0 at fails_a_check"));
    assert_non_null(strstr(shared->why, ", thread ringmill-engine"));
    assert_non_null(strstr(said, "check failed: run > 0"));
    assert_true(shared->pid > 0);
}

static void stumbles(struct rml_keeping *keeping, uint32_t run)
{
    struct sigaction fault;
    sigaction(SIGBUS, NULL, &fault);
    bool is_ours = (fault.sa_flags & SA_SIGINFO) != 0;
    if (run == 0) {
        die(SIGBUS);
    } else if (run == 1) {
        shared->rc[0] = strstr(keeping->last.why, "SIGBUS") != NULL;
        die(SIGKILL);
    }
    shared->rc[1] = strcmp(keeping->last.why, "SIGKILL") == 0;
    _exit(is_ours ? 0 : 1);
}

static void a_signal_is_remembered_and_one_that_kills_leaves_no_words(void **state)
{
    (void)state;
    int code = -1;
    signal(SIGBUS, SIG_DFL);  // cmocka's own stays out of the way
    assert_int_equal(keep(stumbles, 10, &code), 0);
    assert_int_equal(shared->rc[0], 1);
    assert_int_equal(shared->rc[1], 1);
}

/* Signals */

static void waits_for_a_signal(struct rml_keeping *keeping, uint32_t run)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, rml_ending_passed_on());
    siginfo_t info;
    if (run == 0) {
        kill(getppid(), SIGINT);
        RML_CHECK(sigwaitinfo(&set, &info) > 0 && info.si_pid == getppid());
        die(SIGKILL);
    }
    shared->asked = keeping->asked;
    kill(getppid(), SIGHUP);
    RML_CHECK(sigwaitinfo(&set, &info) > 0 && info.si_pid == getppid());
    die(SIGKILL);
}

static void signals_are_passed_on_and_counted_and_two_are_an_end(void **state)
{
    (void)state;
    int code = -1;
    assert_int_equal(keep(waits_for_a_signal, 10, &code), -EOWNERDEAD);
    assert_int_equal(shared->runs, 2);
    assert_int_equal(shared->asked, 1);
    assert_non_null(strstr(err.text, "died as it was to stop"));
}

static int line[2];

static void lives_on(struct rml_keeping *keeping, uint32_t run)
{
    (void)keeping;
    (void)run;
    close(line[0]);
    RML_CHECK(write(line[1], "x", 1) == 1);
    for (;;)
        pause();
}

static void the_engine_dies_with_its_keeper(void **state)
{
    (void)state;
    assert_int_equal(pipe(line), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int code;
        keep(lives_on, 10, &code);
        _exit(1);
    }
    close(line[1]);
    char byte;
    assert_int_equal(read(line[0], &byte, 1), 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(read(line[0], &byte, 1), 0);  // comes once nobody holds the other end
    close(line[0]);
}

#define SHARED(name) cmocka_unit_test_setup_teardown(name, open_shared, close_shared)

TEST_MAIN(SHARED(an_engine_that_ends_by_itself_is_not_started_again),
          SHARED(one_that_dies_too_often_is_given_up),
          SHARED(one_that_cannot_come_up_after_a_death_is_tried_again),
          SHARED(the_pause_before_an_engine_is_its_to_wait_out_and_grows_with_deaths),
          SHARED(one_that_cannot_come_up_is_the_last_once_an_engine_was_asked_to_end),
          SHARED(one_that_cannot_come_up_is_the_last_once_its_keeper_was_signalled),
          SHARED(one_that_is_killed_over_an_end_that_was_asked_for_leaves_it_to_the_next),
          SHARED(what_an_engine_had_is_the_next_ones), SHARED(what_nobody_takes_is_let_go_of),
          SHARED(what_cannot_be_is_refused_and_closed), SHARED(the_table_has_an_end),
          SHARED(one_that_hangs_up_is_still_looked_after),
          SHARED(an_engine_without_a_keeper_keeps_nothing), SHARED(a_failed_check_is_remembered),
          SHARED(a_signal_is_remembered_and_one_that_kills_leaves_no_words),
          SHARED(signals_are_passed_on_and_counted_and_two_are_an_end),
          SHARED(the_engine_dies_with_its_keeper))
