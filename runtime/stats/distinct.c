#include "runtime/stats/distinct.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/hash.h"

#define INDEX_BITS     12u
#define REGISTERS      (1u << INDEX_BITS)
#define REGISTER_BITS  6u
#define RANK_BITS      (64 - INDEX_BITS)  // ranks go from 1 to one more
#define REGISTER_BYTES (REGISTERS * REGISTER_BITS / 8)
#define TABLE_MAX      ((RML_DISTINCT_BYTES_MAX - (uint32_t)sizeof(struct rml_distinct)) / 8)

_Static_assert(sizeof(struct rml_distinct) + REGISTER_BYTES <= RML_DISTINCT_BYTES_MAX,
               "the registers fit into the largest table");
_Static_assert(RML_DISTINCT_EXACT_MAX <= TABLE_MAX * 3 / 4 + 1, "the last table is not too full");

void rml_distinct_init(struct rml_distinct *sketch, uint32_t capacity)
{
    RML_CHECK(capacity >= RML_DISTINCT_BYTES_MIN && capacity <= RML_DISTINCT_BYTES_MAX);
    memset(sketch, 0, capacity);
    sketch->slots = (capacity - (uint32_t)sizeof *sketch) / 8;
}

uint64_t rml_distinct_hash(const void *value, uint32_t bytes)
{
    const uint64_t seed = UINT64_C(0x64697374696e6374);
    uint64_t hash = bytes == 8 ? XXH3_64bits_withSeed(value, 8, seed)
                               : XXH3_64bits_withSeed(value, bytes, seed);
    return hash != 0 ? hash : 1;  // 0 is an empty place
}

/* Registers */

static unsigned char *registers_of(struct rml_distinct *sketch)
{
    return (unsigned char *)sketch->table;
}

// A register lies in at most two bytes; the two behind the last one are in the region still.
static uint32_t read_register(const unsigned char *registers, uint32_t index)
{
    uint16_t pair;
    memcpy(&pair, registers + index * REGISTER_BITS / 8, sizeof pair);
    return (uint32_t)pair >> (index * REGISTER_BITS % 8) & ((1u << REGISTER_BITS) - 1);
}

static void raise_register(unsigned char *registers, uint32_t index, uint32_t rank)
{
    uint32_t had = read_register(registers, index);
    if (rank <= had)
        return;
    uint16_t pair;
    memcpy(&pair, registers + index * REGISTER_BITS / 8, sizeof pair);
    pair = (uint16_t)(pair ^ (had ^ rank) << (index * REGISTER_BITS % 8));
    memcpy(registers + index * REGISTER_BITS / 8, &pair, sizeof pair);
}

static void note(unsigned char *registers, uint64_t hash)
{
    uint64_t rest = hash << INDEX_BITS;
    uint32_t rank = rest != 0 ? (uint32_t)__builtin_clzll(rest) + 1 : RANK_BITS + 1;
    raise_register(registers, (uint32_t)(hash >> RANK_BITS), rank);
}

static void start_registers(struct rml_distinct *sketch)
{
    uint64_t hashes[TABLE_MAX];
    memcpy(hashes, sketch->table, sizeof hashes);
    memset(sketch->table, 0, sizeof hashes);
    sketch->hashes = RML_DISTINCT_REGISTERS;
    for (uint32_t i = 0; i < TABLE_MAX; i++) {
        if (hashes[i] != 0)
            note(registers_of(sketch), hashes[i]);
    }
}

/* The table */

static uint32_t home_of(const struct rml_distinct *sketch, uint64_t hash)
{
    return (uint32_t)(((hash & UINT32_MAX) * sketch->slots) >> 32);
}

static uint32_t after(const struct rml_distinct *sketch, uint32_t slot)
{
    return slot + 1 < sketch->slots ? slot + 1 : 0;
}

// On the way from a hash's home to its slot lie greater ones only.
static int add_to_table(struct rml_distinct *sketch, uint64_t hash)
{
    uint32_t slot = home_of(sketch, hash);
    while (sketch->table[slot] > hash)
        slot = after(sketch, slot);
    if (sketch->table[slot] == hash)
        return 0;
    if (sketch->slots == TABLE_MAX && sketch->hashes == RML_DISTINCT_EXACT_MAX) {
        start_registers(sketch);
        note(registers_of(sketch), hash);
        return 0;
    }
    if (sketch->slots < TABLE_MAX && sketch->hashes >= sketch->slots - sketch->slots / 4)
        return -ENOSPC;
    // The smaller ones make room, each going on by the same rule.
    for (; hash != 0; slot = after(sketch, slot)) {
        uint64_t there = sketch->table[slot];
        if (there < hash) {
            sketch->table[slot] = hash;
            hash = there;
        }
    }
    sketch->hashes++;
    return 0;
}

int rml_distinct_add(struct rml_distinct *sketch, uint64_t hash)
{
    if (sketch->hashes != RML_DISTINCT_REGISTERS)
        return add_to_table(sketch, hash);
    note(registers_of(sketch), hash);
    return 0;
}

static int merge_registers(struct rml_distinct *into, const struct rml_distinct *from)
{
    if (into->slots < TABLE_MAX)
        return -ENOSPC;
    if (into->hashes != RML_DISTINCT_REGISTERS)
        start_registers(into);
    const unsigned char *registers = (const void *)from->table;
    for (uint32_t i = 0; i < REGISTERS; i++)
        raise_register(registers_of(into), i, read_register(registers, i));
    return 0;
}

int rml_distinct_merge(struct rml_distinct *into, const struct rml_distinct *from)
{
    if (from->hashes == RML_DISTINCT_REGISTERS)
        return merge_registers(into, from);
    for (uint32_t i = 0; i < from->slots; i++) {
        int rc = from->table[i] != 0 ? rml_distinct_add(into, from->table[i]) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Counting: Ertl's section on the improved raw estimator. */

// x + sum over k >= 1 of x^(2^k) 2^(k-1): what the registers at 0 stand for.
static double low_share(double x)
{
    double sum = x, weight = 1, before;
    do {
        before = sum;
        x *= x;
        sum += x * weight;
        weight *= 2;
    } while (sum > before);
    return sum;
}

// (1 - x - sum over k >= 1 of (1 - x^(2^-k))^2 2^-k) / 3: what those at the greatest rank stand for.
static double high_share(double x)
{
    double sum = 1 - x, weight = 1, before;
    if (x <= 0 || x >= 1)
        return 0;
    do {
        before = sum;
        x = sqrt(x);
        weight /= 2;
        sum -= (1 - x) * (1 - x) * weight;
    } while (sum < before);
    return sum / 3;
}

static uint64_t estimate(const unsigned char *registers)
{
    uint32_t with_rank[RANK_BITS + 2] = {0};
    for (uint32_t i = 0; i < REGISTERS; i++)
        with_rank[read_register(registers, i)]++;
    if (with_rank[0] == REGISTERS)
        return 0;
    const double all = REGISTERS;
    double sum = all * high_share(1 - with_rank[RANK_BITS + 1] / all);
    for (uint32_t rank = RANK_BITS; rank >= 1; rank--)
        sum = (sum + with_rank[rank]) / 2;
    sum += all * low_share(with_rank[0] / all);
    return (uint64_t)llround(all * all / (2 * log(2) * sum));
}

uint64_t rml_distinct_count(const struct rml_distinct *sketch)
{
    return sketch->hashes != RML_DISTINCT_REGISTERS ? sketch->hashes
                                                    : estimate((const void *)sketch->table);
}
