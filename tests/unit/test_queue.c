#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"
#include "tests/support/test.h"

static void messages_come_out_in_the_order_given(void **state)
{
    (void)state;
    static struct rml_queue queue;
    assert_int_equal(rml_queue_open(&queue, 16, 4, NULL), 0);
    uint64_t message[2] = {0, 7};
    assert_false(rml_queue_take(&queue, message));
    for (message[0] = 0; message[0] < 4; message[0]++)
        assert_true(rml_queue_give(&queue, message));
    assert_false(rml_queue_give(&queue, message));
    for (uint64_t i = 0; i < 4; i++) {
        assert_true(rml_queue_take(&queue, message));
        assert_int_equal(message[0], i);
    }
    assert_false(rml_queue_take(&queue, message));
    rml_queue_close(&queue);
}

static void a_queue_of_no_power_of_two_is_refused(void **state)
{
    (void)state;
    static struct rml_queue queue;
    struct rml_err err = {0};
    assert_true(rml_queue_open(&queue, 16, 3, &err) < 0);
    assert_true(err.text[0] != '\0');
    rml_queue_close(&queue);
}

#define MESSAGES 50000

struct pair {
    struct rml_queue there, back;
    struct rml_bell bell, back_bell;
};

static void *echo(void *context)
{
    struct pair *pair = context;
    for (uint64_t i = 0; i < MESSAGES;) {
        uint64_t message;
        if (!rml_queue_take(&pair->there, &message)) {
            rml_bell_expect(&pair->bell);
            if (!rml_queue_take(&pair->there, &message)) {
                rml_bell_wait(&pair->bell, -1);
                continue;
            }
            rml_bell_awake(&pair->bell);
        }
        message++;
        if (!rml_queue_give(&pair->back, &message))
            return pair;
        rml_bell_ring(&pair->back_bell);
        i++;
    }
    return NULL;
}

// With one message under way at a time both sides sleep again and again: a lost ring would hang here.
static void no_ring_is_lost_between_two_sleepers(void **state)
{
    (void)state;
    static struct pair pair;
    assert_int_equal(rml_queue_open(&pair.there, 8, 2, NULL), 0);
    assert_int_equal(rml_queue_open(&pair.back, 8, 2, NULL), 0);
    assert_int_equal(rml_bell_open(&pair.bell, NULL), 0);
    assert_int_equal(rml_bell_open(&pair.back_bell, NULL), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, echo, &pair), 0);
    for (uint64_t i = 0; i < MESSAGES; i++) {
        assert_true(rml_queue_give(&pair.there, &i));
        rml_bell_ring(&pair.bell);
        uint64_t message;
        while (!rml_queue_take(&pair.back, &message)) {
            rml_bell_expect(&pair.back_bell);
            if (rml_queue_take(&pair.back, &message)) {
                rml_bell_awake(&pair.back_bell);
                break;
            }
            rml_bell_wait(&pair.back_bell, -1);
        }
        assert_int_equal(message, i + 1);
    }
    void *failed;
    pthread_join(thread, &failed);
    assert_null(failed);
    rml_bell_close(&pair.bell);
    rml_bell_close(&pair.back_bell);
    rml_queue_close(&pair.there);
    rml_queue_close(&pair.back);
}

/*
 * Who rings says first that it does, and may be held up before it writes to the descriptor: until the sleeper
 * has woken for another reason, and sleeps once more.
 */
static void a_ring_that_is_late_ends_one_sleep_and_no_more(void **state)
{
    (void)state;
    struct rml_bell bell;
    const uint64_t one = 1;
    assert_int_equal(rml_bell_open(&bell, NULL), 0);
    rml_bell_expect(&bell);
    assert_int_equal(atomic_exchange_explicit(&bell.expected, 0, memory_order_acq_rel), 1);
    rml_bell_wait(&bell, 0);
    rml_bell_expect(&bell);
    assert_int_equal(write(bell.fd, &one, sizeof one), sizeof one);
    rml_bell_wait(&bell, -1);
    struct pollfd rung = {.fd = bell.fd, .events = POLLIN};
    rml_bell_expect(&bell);
    assert_int_equal(poll(&rung, 1, 0), 0);
    rml_bell_ring(&bell);
    assert_int_equal(poll(&rung, 1, 0), 1);
    rml_bell_awake(&bell);
    assert_int_equal(poll(&rung, 1, 0), 0);
    rml_bell_close(&bell);
}

TEST_MAIN(CLAIM(a_ring_that_is_late_ends_one_sleep_and_no_more),
          CLAIM(messages_come_out_in_the_order_given), CLAIM(a_queue_of_no_power_of_two_is_refused),
          CLAIM(no_ring_is_lost_between_two_sleepers))
