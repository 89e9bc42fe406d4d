#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/state/keys.h"
#include "runtime/state/snapshot.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define MIB         (UINT64_C(1) << 20)
#define NOT_A_SLOT  UINT32_MAX
#define KEY_MAX     64u
#define UNIVERSE    60000u
#define RANDOM_WORK (RML_TEST_SLOW ? 100000u : 1000000u)

struct table {
    struct rml_pages pages;
    struct rml_keys keys;
};

static void open_table(struct table *t, uint64_t bytes, uint32_t key_bytes, uint32_t keys_max)
{
    assert_int_equal(rml_pages_open(&t->pages, bytes, NULL), 0);
    assert_int_equal(rml_keys_open(&t->keys, &t->pages, key_bytes, 0, keys_max, NULL), 0);
}

static void close_table(struct table *t)
{
    rml_keys_close(&t->keys);
    rml_pages_close(&t->pages);
}

static uint32_t reach_hashed(struct table *t, uint64_t hash, const void *key)
{
    uint32_t slot = NOT_A_SLOT, before = t->keys.count;
    rml_keys_reach(&t->keys, &hash, key, 1, &slot);
    // a new key has a slot that nobody uses
    if (t->keys.count > before)
        assert_int_equal(rml_keys_row(&t->keys, slot)->uses, 0);
    return slot;
}

static uint32_t reach(struct table *t, const void *key)
{
    return reach_hashed(t, rml_key_hash_bytes(key, t->keys.key_bytes), key);
}

// The key of a number: numbers that are near give keys that differ in few bits.
static void make_key(uint32_t number, uint32_t key_bytes, unsigned char *key)
{
    memset(key, 0, key_bytes);
    memcpy(key, &number, key_bytes < sizeof number ? key_bytes : sizeof number);
}

// Insert, find and drop at random, against an array that knows each key's slot.
static void compare_with_array(uint32_t key_bytes, uint32_t universe, uint64_t *seed)
{
    struct table t;
    open_table(&t, 64 * MIB, key_bytes, universe);
    uint32_t *slot_of = malloc(universe * sizeof *slot_of);
    uint32_t *number_of = malloc(universe * sizeof *number_of);
    assert_non_null(slot_of);
    assert_non_null(number_of);
    memset(slot_of, 0xff, universe * sizeof *slot_of);
    uint32_t live = 0, most = 0, bias = 6;
    for (uint32_t i = 0; i < RANDOM_WORK / key_bytes * 2; i++) {
        if (i % 20000 == 0)  // it grows for some time, then shrinks
            bias = (uint32_t)(2 + rml_test_random(seed) % 7);
        uint32_t number = (uint32_t)(rml_test_random(seed) % universe);
        unsigned char key[KEY_MAX];
        make_key(number, key_bytes, key);
        if (rml_test_random(seed) % 10 < bias) {
            uint32_t slot = reach(&t, key);
            assert_true(slot < universe);
            if (slot_of[number] == NOT_A_SLOT) {
                slot_of[number] = slot;
                number_of[slot] = number;
                live++;
            }
            assert_int_equal(slot, slot_of[number]);
            assert_int_equal(number_of[slot], number);
            assert_memory_equal(rml_keys_row(&t.keys, slot)->key, key, key_bytes);
        } else if (slot_of[number] != NOT_A_SLOT) {
            rml_keys_drop(&t.keys, slot_of[number]);
            slot_of[number] = NOT_A_SLOT;
            live--;
        }
        most = live > most ? live : most;
        assert_int_equal(t.keys.count, live);
        assert_true(t.keys.slots_used <= most);  // what is dropped is used again
    }
    for (uint32_t number = 0; number < universe; number++) {
        if (slot_of[number] != NOT_A_SLOT)
            rml_keys_drop(&t.keys, slot_of[number]);
    }
    assert_int_equal(t.keys.count, 0);
    free(slot_of);
    free(number_of);
    close_table(&t);
}

static void a_key_keeps_its_slot_until_it_is_dropped(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 3, 8, 16, 24, 64};
    uint64_t seed = rml_test_seed();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint32_t universe = sizes[i] < 3 ? 1u << 8 * sizes[i] : UNIVERSE;
        compare_with_array(sizes[i], universe < UNIVERSE ? universe : UNIVERSE, &seed);
    }
}

static void a_block_may_name_a_new_key_many_times(void **state)
{
    (void)state;
    struct table t;
    open_table(&t, 4 * MIB, 8, 1000);
    uint64_t keys[RML_KEYS_BLOCK], hashes[RML_KEYS_BLOCK];
    uint32_t slots[RML_KEYS_BLOCK];
    for (uint32_t i = 0; i < RML_KEYS_BLOCK; i++) {
        keys[i] = i % 5;
        hashes[i] = rml_key_hash_bytes(&keys[i], 8);
    }
    rml_keys_reach(&t.keys, hashes, keys, RML_KEYS_BLOCK, slots);
    assert_int_equal(t.keys.count, 5);
    for (uint32_t i = 0; i < RML_KEYS_BLOCK; i++) {
        assert_int_equal(slots[i], slots[i % 5]);
        assert_memory_equal(rml_keys_row(&t.keys, slots[i])->key, &keys[i], 8);
    }
    close_table(&t);
}

static void keys_of_one_hash_are_told_apart_by_their_bytes(void **state)
{
    (void)state;
    struct table t;
    open_table(&t, 4 * MIB, 8, 1000);
    uint32_t slots[100];
    for (uint64_t key = 0; key < 100; key++)
        slots[key] = reach_hashed(&t, 42, &key);
    assert_int_equal(t.keys.count, 100);
    for (uint64_t key = 0; key < 100; key++) {
        assert_int_equal(reach_hashed(&t, 42, &key), slots[key]);
        for (uint64_t other = 0; other < key; other++)
            assert_int_not_equal(slots[other], slots[key]);
    }
    assert_int_equal(t.keys.count, 100);
    close_table(&t);
}

// An adversary's keys, all of one hash: some are refused, and the table does not go wild or wrong.
static void keys_of_one_hash_without_end_are_refused_at_last(void **state)
{
    (void)state;
    struct table t;
    open_table(&t, 16 * MIB, 8, 100000);
    for (uint64_t key = 0; key < 5000; key++)
        (void)reach_hashed(&t, 42, &key);
    assert_true(t.keys.count < 5000);
    uint32_t count = t.keys.count;
    for (uint64_t key = 0; key < 100; key++)
        assert_memory_equal(rml_keys_row(&t.keys, reach_hashed(&t, 42, &key))->key, &key, 8);
    assert_int_equal(t.keys.count, count);
    close_table(&t);
}

static void keys_that_begin_alike_are_different_keys(void **state)
{
    (void)state;
    struct table t;
    open_table(&t, 4 * MIB, 16, 1000);
    static const char names[][16] = {"", "a", "aa", "aaa", "aaaaaaaaaaaaaaa", "aab", "b"};
    uint32_t slots[sizeof names / sizeof names[0]];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        slots[i] = reach(&t, names[i]);
        assert_int_equal(t.keys.count, i + 1);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(reach(&t, names[i]), slots[i]);
    close_table(&t);
}

// No pause grows with the number of keys: one more key takes a few pages, however many there are.
static void growing_takes_a_few_pages_at_a_time(void **state)
{
    (void)state;
    struct table t;
    open_table(&t, 256 * MIB, 8, 1000000);
    uint32_t most = 0;
    for (uint64_t key = 0; key < 300000; key++) {
        uint32_t before = t.pages.in_use;
        assert_int_equal(reach(&t, &key), key);
        uint32_t grown = t.pages.in_use - before;
        most = grown > most ? grown : most;
    }
    assert_true(most >= 1);
    assert_true(most <= 4);
    for (uint64_t key = 0; key < 300000; key++)
        assert_int_equal(reach(&t, &key), key);
    close_table(&t);
}

// A split writes to the page that was full, the new one, the one that says whose it is; a row to its own, and
// where the table of rows grows to what names its pages.
static void a_new_key_writes_to_a_few_pages_however_many_there_are(void **state)
{
    (void)state;
    struct table t;
    open_table(&t, 256 * MIB, 8, 1000000);
    assert_int_equal(rml_snapshot_track(&t.pages, NULL), 0);
    uint32_t most = 0, splits = 0;
    for (uint64_t key = 0; key < 300000; key++) {
        memset(t.pages.changed, 0, t.pages.fresh * sizeof *t.pages.changed);
        assert_int_equal(reach(&t, &key), key);
        uint32_t written = 0, whole = 0;
        for (uint32_t page = 0; page < t.pages.fresh; page++) {
            written += t.pages.changed[page] != 0;
            whole += t.pages.changed[page] == UINT64_MAX;
        }
        assert_true(whole == 0 || whole == 2);  // the two of one split
        splits += whole / 2;
        most = written > most ? written : most;
    }
    assert_true(splits > 300000 / 900 && splits < 300000 / 300);
    assert_in_range(most, 4, 6);
    close_table(&t);
}

static void dropped_keys_give_their_room_to_new_ones(void **state)
{
    (void)state;
    struct table t;
    open_table(&t, 64 * MIB, 8, 20000);
    uint32_t in_use = 0;
    for (uint64_t round = 0; round < 10; round++) {
        uint32_t slots[20000];
        for (uint64_t i = 0; i < 20000; i++) {
            uint64_t key = round * 20000 + i;
            slots[i] = reach(&t, &key);
            assert_true(slots[i] < 20000);
        }
        for (uint32_t i = 0; i < 20000; i++)
            rml_keys_drop(&t.keys, slots[i]);
        assert_int_equal(t.keys.slots_used, 20000);
        if (round == 0)
            in_use = t.pages.in_use;
        assert_true(t.pages.in_use <= in_use + in_use / 4);
    }
    close_table(&t);
}

static void a_key_beyond_max_keys_is_refused_until_one_is_dropped(void **state)
{
    (void)state;
    struct table t;
    open_table(&t, 4 * MIB, 8, 3);
    for (uint64_t key = 0; key < 3; key++)
        assert_int_not_equal(reach(&t, &key), NOT_A_SLOT);
    uint64_t more = 3, known = 1;
    (void)reach(&t, &more);
    assert_int_equal(t.keys.count, 3);
    rml_keys_drop(&t.keys, reach(&t, &known));
    uint32_t slot = reach(&t, &more);
    assert_int_equal(t.keys.count, 3);
    assert_memory_equal(rml_keys_row(&t.keys, slot)->key, &more, 8);
    close_table(&t);
}

static void without_a_page_left_keys_that_are_there_stay(void **state)
{
    (void)state;
    struct table t;
    open_table(&t, 16 * RML_PAGE_BYTES, 64, 100000);
    unsigned char key[KEY_MAX];
    uint32_t before, held = 0;
    do {
        before = t.keys.count;
        make_key(held, 64, key);
        (void)reach(&t, key);
        held = t.keys.count;
    } while (held > before);
    assert_true(held > 500);
    assert_true(t.pages.in_use <= 16);
    for (uint32_t number = 0; number < held; number++) {
        make_key(number, 64, key);
        assert_memory_equal(rml_keys_row(&t.keys, reach(&t, key))->key, key, 64);
    }
    assert_int_equal(t.keys.count, held);
    close_table(&t);
}

static void limits_that_cannot_be_are_refused_with_a_sentence(void **state)
{
    (void)state;
    struct rml_err err = {0};
    struct rml_pages pages;
    struct rml_keys keys;
    assert_int_equal(rml_pages_open(&pages, MIB, NULL), 0);
    assert_int_equal(rml_keys_open(&keys, &pages, 1024, 0, UINT32_MAX, &err), -EINVAL);
    assert_non_null(strstr(err.text, "max_keys 4294967295: keys of 1024 bytes allow "));
    rml_pages_close(&pages);

    assert_int_equal(rml_pages_open(&pages, 0, NULL), 0);
    assert_int_equal(rml_keys_open(&keys, &pages, 8, 0, 10, &err), -ENOMEM);
    assert_string_equal(err.text, "state_limit leaves no page for keys");
    rml_pages_close(&pages);
}

TEST_MAIN(CLAIM(a_key_keeps_its_slot_until_it_is_dropped),
          CLAIM(a_block_may_name_a_new_key_many_times),
          CLAIM(keys_of_one_hash_are_told_apart_by_their_bytes),
          CLAIM(keys_of_one_hash_without_end_are_refused_at_last),
          CLAIM(keys_that_begin_alike_are_different_keys),
          CLAIM(growing_takes_a_few_pages_at_a_time),
          CLAIM(a_new_key_writes_to_a_few_pages_however_many_there_are),
          CLAIM(dropped_keys_give_their_room_to_new_ones),
          CLAIM(a_key_beyond_max_keys_is_refused_until_one_is_dropped),
          CLAIM(without_a_page_left_keys_that_are_there_stay),
          CLAIM(limits_that_cannot_be_are_refused_with_a_sentence))
