/*
 * Which key was used longest ago, against a list that is searched from its beginning.
 */
#include "runtime/base/hash.h"
#include "runtime/state/recency.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define KEYS 50u

struct table {
    struct rml_pages pages;
    struct rml_keys keys;
    struct rml_recency recency;
    uint32_t slot[KEYS];   // RML_NO_SLOT: the key is not there
    uint32_t order[KEYS];  // keys that were used, the oldest first
    uint32_t order_count;
};

static void open_table(struct table *t)
{
    memset(t, 0, sizeof *t);
    assert_int_equal(rml_pages_open(&t->pages, 1 << 20, NULL), 0);
    assert_int_equal(rml_keys_open(&t->keys, &t->pages, 5, RML_RECENCY_BYTES, KEYS, NULL), 0);
    rml_recency_init(&t->recency, &t->keys);
    for (uint32_t key = 0; key < KEYS; key++)
        t->slot[key] = RML_NO_SLOT;
}

static void close_table(struct table *t)
{
    rml_keys_close(&t->keys);
    rml_pages_close(&t->pages);
}

static void add(struct table *t, uint32_t key)
{
    const unsigned char bytes[5] = {(unsigned char)key};
    const uint64_t hash = rml_key_hash_bytes(bytes, sizeof bytes);
    assert_int_equal(rml_keys_reach(&t->keys, &hash, bytes, 1, &t->slot[key]), 1);
}

static void leave_order(struct table *t, uint32_t key)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->order_count; i++) {
        t->order[kept] = t->order[i];
        kept += t->order[i] != key;
    }
    t->order_count = kept;
}

static void use(struct table *t, uint32_t key)
{
    rml_recency_use(&t->recency, t->slot[key]);
    leave_order(t, key);
    t->order[t->order_count++] = key;
}

static void drop(struct table *t, uint32_t key)
{
    rml_recency_forget(&t->recency, t->slot[key]);
    rml_keys_drop(&t->keys, t->slot[key]);
    t->slot[key] = RML_NO_SLOT;
    leave_order(t, key);
}

static void assert_oldest(const struct table *t)
{
    uint32_t oldest = rml_recency_oldest(&t->recency);
    assert_int_equal(oldest, t->order_count > 0 ? t->slot[t->order[0]] : RML_NO_SLOT);
}

static void a_list_of_nobody_has_no_oldest(void **state)
{
    (void)state;
    struct table t;
    open_table(&t);
    assert_oldest(&t);
    add(&t, 7);  // it is there, but was not used
    assert_oldest(&t);
    drop(&t, 7);
    assert_oldest(&t);
    close_table(&t);
}

static void the_oldest_is_who_was_used_longest_ago_whoever_came_and_went(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    struct table t;
    open_table(&t);
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t key = (uint32_t)(rml_test_random(&seed) % KEYS);
        uint32_t what = (uint32_t)(rml_test_random(&seed) % 8);
        if (t.slot[key] == RML_NO_SLOT)
            add(&t, key);
        if (what > 0)
            use(&t, key);
        else
            drop(&t, key);
        assert_oldest(&t);
    }
    while (t.order_count > 0) {
        assert_oldest(&t);
        drop(&t, t.order[0]);
    }
    assert_oldest(&t);
    close_table(&t);
}

TEST_MAIN(CLAIM(a_list_of_nobody_has_no_oldest),
          CLAIM(the_oldest_is_who_was_used_longest_ago_whoever_came_and_went))
