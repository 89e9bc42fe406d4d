/*
 * Processes with threads put records into one shared ring and are stopped and killed at any moment, by
 * others and by themselves between claim and publish; four processes take, three of which are stopped and
 * killed too. For long:
 *
 *     test_shared_torture --records 1000000
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/ring/shared_ring.h"
#include "runtime/segment/segment.h"
#include "tests/support/patience.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

/*
 * ThreadSanitizer knows what happens in its own process. That a cell came back by way of a consumer in
 * another it cannot know, so there a process has one thread; test_shared_ring has all in one process.
 */
#if defined(__SANITIZE_THREAD__)
enum { THREADS = 1 };
#else
enum { THREADS = 3 };
#endif

enum {
    PROCESSES = 8,
    SLOTS = PROCESSES * THREADS,
    READER = SLOTS + 1,
    READERS = 3,  // beside the parent
    ALL = PROCESSES + READERS,
    RUN = 16,
    CELLS = 512,
    TURNS = 4 * CELLS  // what must go by while somebody is stopped
};

struct record {
    uint64_t slot, number, check;
};

/* Who writes on behalf of one owner, over all its lives. */
struct slot {
    alignas(64) _Atomic uint64_t begun;  // numbers that it was about to publish, or had
    _Atomic uint64_t published;          // that it certainly had
    uint64_t unsure;                     // that it may have had when it was killed; the parent's
};

struct reader {
    alignas(64) _Atomic uint64_t taken;
    uint64_t faults;
    uint64_t next[SLOTS];  // what can come next at the earliest
};

struct board {
    struct slot slots[SLOTS];
    struct reader readers[1 + READERS];
    _Atomic uint32_t over;
    _Atomic uint8_t times[];  // each number of each slot was taken
};

static uint64_t records_each = RML_TEST_SLOW ? 10000 : 100000;
static const struct rml_shared_shape shape = {.cell_bytes = sizeof(struct record),
                                              .cell_count = CELLS,
                                              .run_max = RUN,
                                              .owner_count = READER + READERS};
static struct rml_segment records, records_fd, returns;
static struct rml_shared_place place;
static struct board *board;
static uint64_t seed;

static uint64_t count_of(const _Atomic uint64_t *word)
{
    // relaxed: progress is looked at; what it counts comes through the ring
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void set(_Atomic uint64_t *word, uint64_t value)
{
    // relaxed: as above
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint64_t check_of(uint64_t slot, uint64_t number)
{
    return (number * SLOTS + slot) * UINT64_C(0x9e3779b97f4a7c15);
}

/* The processes that write. */

static void *write_records(void *arg)
{
    uint64_t slot = *(const uint64_t *)arg, chance = seed ^ slot << 40;
    struct slot *mine = &board->slots[slot];
    struct rml_shared_out out;
    rml_shared_attach_out(&out, &place, (uint32_t)slot + 1);
    uint64_t number = count_of(&mine->begun);
    chance ^= number;
    while (number < records_each) {
        void *cells;
        uint64_t draw = rml_test_random(&chance), want = 1 + draw % RUN;
        if (want > records_each - number)
            want = records_each - number;
        int32_t run = rml_shared_claim(&out, (uint32_t)want, &cells);
        if (run < 0)
            _exit(2);
        if (run == 0) {
            sched_yield();
            continue;
        }
        for (int32_t i = 0; i < run; i++)
            ((struct record *)cells)[i] =
                (struct record){slot, number + (uint64_t)i, check_of(slot, number + (uint64_t)i)};
        if ((draw >> 8) % (records_each / 20) == 0)
            kill(getpid(), SIGSTOP);
        if ((draw >> 32) % (records_each / 4) == 0)
            kill(getpid(), SIGKILL);
        if ((draw >> 24 & 63) == 0) {
            if (rml_shared_give_up(&out) < 0)
                _exit(3);
            continue;
        }
        number += (uint64_t)run;
        set(&mine->begun, number);
        if (rml_shared_publish(&out) < 0)
            _exit(4);
        set(&mine->published, number);
    }
    return NULL;
}

static void be_writer(uint32_t process)
{
    struct rml_segment theirs;  // what consumers write, as a producer may see it
    if (rml_segment_attach(&theirs, returns.fd, returns.bytes, false, NULL) < 0)
        _exit(5);
    place = rml_shared_place_at(shape, records.memory, theirs.memory);
    uint64_t slots[THREADS];
    pthread_t threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        slots[i] = process * THREADS + i;
        if (i > 0 && pthread_create(&threads[i], NULL, write_records, &slots[i]) != 0)
            _exit(6);
    }
    write_records(&slots[0]);
    for (uint32_t i = 1; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

/* The processes that read. */

// Take what there is and note it; how many, or -EPROTO.
static int32_t read_some(struct rml_shared_in *in, struct reader *reader)
{
    struct record got[RUN];
    uint16_t owners[RUN];
    int32_t count = rml_shared_take(in, got, owners, RUN);
    for (int32_t i = 0; i < count; i++) {
        struct record record = got[i];
        if (record.slot >= SLOTS || record.number >= records_each || owners[i] != record.slot + 1
            || record.check != check_of(record.slot, record.number)
            || record.number < reader->next[record.slot]) {
            reader->faults++;
            continue;
        }
        reader->next[record.slot] = record.number + 1;
        // relaxed: looked at when all is over
        atomic_fetch_add_explicit(&board->times[record.slot * records_each + record.number], 1,
                                  memory_order_relaxed);
    }
    if (count > 0)
        set(&reader->taken, count_of(&reader->taken) + (uint64_t)count);
    return count;
}

static void be_reader(uint32_t which)
{
    struct rml_shared_in in;
    rml_shared_attach_in(&in, &place, READER + which);
    // relaxed: only asked whether to end
    while (atomic_load_explicit(&board->over, memory_order_relaxed) == 0) {
        int32_t count = read_some(&in, &board->readers[which]);
        if (count < 0)
            _exit(7);
        if (count == 0)
            sched_yield();
    }
    _exit(0);
}

/* The parent: it reads, stops, kills, wakes, and sees to the dead. */

struct child {
    pid_t pid;  // 0: it has done all it had to
    bool stopped;
    uint64_t stopped_at;  // records taken by then
};

static struct child children[ALL];  // the last ones read
static uint64_t stops, kills, reader_kills, cells_recovered;

static void start(uint32_t i)
{
    fflush(stdout);
    pid_t parent = getpid(), pid = fork();
    assert_true(pid >= 0);
    seed = rml_test_random(&seed);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(8);
        if (i < PROCESSES)
            be_writer(i);
        be_reader(i - PROCESSES + 1);
    }
    children[i] = (struct child){.pid = pid};
}

static uint64_t taken_by_all(void)
{
    uint64_t taken = 0;
    for (uint32_t i = 0; i <= READERS; i++)
        taken += count_of(&board->readers[i].taken);
    return taken;
}

static void recover(uint32_t owner)
{
    int32_t cells = rml_shared_recover(&place, owner);
    assert_in_range(cells, 0, RUN);
    cells_recovered += (uint64_t)cells;
}

// It was killed: what it may have published is between what it said before and after.
static void bury(uint32_t i)
{
    if (i >= PROCESSES) {
        reader_kills++;
        recover(READER + i - PROCESSES + 1);
        return;
    }
    kills++;
    for (uint32_t s = i * THREADS; s < (i + 1) * THREADS; s++) {
        struct slot *slot = &board->slots[s];
        recover(s + 1);
        slot->unsure += count_of(&slot->begun) - count_of(&slot->published);
        set(&slot->published, count_of(&slot->begun));
    }
}

static void hear_of_children(void)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0;) {
        uint32_t i = 0;
        while (i < ALL - 1 && children[i].pid != pid)
            i++;
        assert_int_equal(children[i].pid, pid);
        if (WIFSTOPPED(status)) {
            stops++;
            children[i].stopped = true;
            children[i].stopped_at = taken_by_all();
        } else if (WIFSIGNALED(status)) {
            assert_int_equal(WTERMSIG(status), SIGKILL);
            bury(i);
            start(i);
        } else {
            assert_int_equal(WEXITSTATUS(status), 0);
            children[i].pid = 0;
        }
    }
}

static uint32_t writers(bool stopped)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < PROCESSES; i++)
        count += children[i].pid != 0 && children[i].stopped == stopped;
    return count;
}

// Only after so many records of others: were they held up, the test would stand still.
static void wake_some(void)
{
    bool nobody_else = writers(false) == 0;
    for (uint32_t i = 0; i < ALL; i++)
        if (children[i].stopped
            && (nobody_else || taken_by_all() - children[i].stopped_at >= TURNS)) {
            children[i].stopped = false;
            kill(children[i].pid, SIGCONT);
        }
}

static void trouble_some(void)
{
    uint64_t draw = rml_test_random(&seed);
    struct child *child = &children[draw % ALL];
    if (child->pid != 0)
        kill(child->pid, (draw >> 32) % 4 == 0 ? SIGKILL : SIGSTOP);
}

static void end_readers(void)
{
    // relaxed: it is asked again and again
    atomic_store_explicit(&board->over, 1, memory_order_relaxed);
    for (uint32_t i = PROCESSES; i < ALL; i++) {
        while (children[i].pid != 0) {
            kill(children[i].pid, SIGCONT);
            children[i].stopped = false;
            hear_of_children();
            sched_yield();
        }
    }
}

static void read_until_all_have_written(struct rml_shared_in *in)
{
    uint64_t step = SLOTS * records_each / 60, trouble_at = step;
    struct patience patience = {0};
    while (writers(false) + writers(true) > 0) {
        int32_t count = read_some(in, &board->readers[0]);
        assert_true(count >= 0);
        if (count == 0)
            sched_yield();
        assert_true(patience_lasts(&patience, taken_by_all()));  // else nobody gets on
        hear_of_children();
        wake_some();
        if (taken_by_all() >= trouble_at) {
            trouble_at += step;
            trouble_some();
        }
    }
}

static void set_up(void)
{
    size_t bytes = sizeof(struct board) + SLOTS * records_each;
    board = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(board, MAP_FAILED);
    size_t records_bytes = (rml_shared_records_bytes(shape) + 4095) / 4096 * 4096;
    assert_int_equal(rml_segment_open_theirs(&records_fd, "torture", records_bytes, NULL), 0);
    assert_int_equal(rml_segment_attach(&records, records_fd.fd, records_bytes, true, NULL), 0);
    assert_int_equal(
        rml_segment_open_ours(&returns, "torture", rml_shared_returns_bytes(shape), NULL), 0);
    place = rml_shared_place_at(shape, records.memory, returns.memory);
}

static void what_was_published_is_taken_once_whoever_is_stopped_or_killed(void **state)
{
    (void)state;
    seed = rml_test_seed();
    set_up();
    struct rml_shared_in in;
    rml_shared_attach_in(&in, &place, READER);
    for (uint32_t i = 0; i < ALL; i++)
        start(i);
    read_until_all_have_written(&in);
    end_readers();
    for (uint32_t empty = 0; empty < 3;)
        empty = read_some(&in, &board->readers[0]) == 0 ? empty + 1 : 0;

    uint64_t missing = 0, unsure = 0;
    for (uint32_t s = 0; s < SLOTS; s++) {
        assert_int_equal(count_of(&board->slots[s].published), records_each);
        unsure += board->slots[s].unsure;
        for (uint64_t n = 0; n < records_each; n++) {
            // relaxed: whoever wrote it is gone
            uint8_t times =
                atomic_load_explicit(&board->times[s * records_each + n], memory_order_relaxed);
            assert_true(times <= 1);
            missing += times == 0;
        }
    }
    printf(
        "%llu records, %llu stops, %llu producers and %llu consumers killed, %llu cells recovered, "
        "%llu runs passed over; %llu not taken\n",
        (unsigned long long)taken_by_all(), (unsigned long long)stops, (unsigned long long)kills,
        (unsigned long long)reader_kills, (unsigned long long)cells_recovered,
        (unsigned long long)in.passed_over, (unsigned long long)missing);
    for (uint32_t i = 0; i <= READERS; i++)
        assert_int_equal(board->readers[i].faults, 0);
    assert_true(missing <= unsure + reader_kills * RUN);
    assert_true(stops > 0 && kills > 0);
    rml_segment_close(&records);
    rml_segment_close(&records_fd);
    rml_segment_close(&returns);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--records") == 0)
        records_each = strtoull(argv[2], NULL, 10);
    if ((argc != 1 && argc != 3) || records_each < 100) {
        fprintf(stderr,
                "usage: test_shared_torture [--records N]   of each thread, at least 100\n");
        return 2;
    }
    const struct CMUnitTest claims[] = {
        CLAIM(what_was_published_is_taken_once_whoever_is_stopped_or_killed)};
    return cmocka_run_group_tests(claims, NULL, NULL);
}
