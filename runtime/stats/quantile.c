/*
 * BLOCKS OF BUCKETS
 *
 *     unit 0       head
 *     unit 1...    directory: a place for each block from `first`, negative values beside positive
 *     then         blocks, in the order of the directory
 *
 * A block's 64 buckets count in layers, each of which exists once some bucket of the block needs it:
 *
 *     level 0   64 x u8    bits 0...7 of the counts      1 unit in all
 *     level 1   64 x u8    bits 8...15                   2
 *     level 2   64 x u16   bits 16...31                  4
 *     level 3   64 x u32   bits 32...63                  8
 *
 * So adding is an increment of one byte, 255 times of 256, and a rare value costs one byte, not
 * eight. Blocks move when one in front of them grows; over the life of a sketch that happens a few
 * hundred times.
 */
#include "runtime/stats/quantile.h"

#include <errno.h>
#include <math.h>

#include "runtime/base/check.h"
#include "runtime/stats/interpolate.h"

#define UNIT      64u
#define BITS_MIN  4u
#define BITS_MAX  9u
#define BLOCK     64u  // buckets
#define LEVEL_MAX 3u
#define FALLEN    1

uint32_t rml_quantile_bits(double accuracy)
{
    if (!(accuracy >= 0.001 && accuracy <= 0.05))
        return 0;
    uint32_t bits = BITS_MIN;
    while (1 / (double)((2u << bits) + 1) > accuracy)
        bits++;
    return bits;
}

uint32_t rml_quantile_bytes_max(uint32_t bits)
{
    return bits <= 6 ? RML_QUANTILE_BYTES_MAX / 2 : RML_QUANTILE_BYTES_MAX;
}

void rml_quantile_init(struct rml_quantile *sketch, uint32_t bits)
{
    RML_CHECK(bits >= BITS_MIN && bits <= BITS_MAX);
    memset(sketch, 0, sizeof *sketch);
    sketch->bits = (uint8_t)bits;
    sketch->shift = (uint8_t)(52 - bits);
}

uint32_t rml_quantile_bytes(const struct rml_quantile *sketch)
{
    if (sketch->kept == RML_QUANTILE_BUCKETS)
        return sketch->units * UNIT;
    return 8 * (1u + sketch->kept);
}

// The kept values, which go on behind the head.
static double *values_of(struct rml_quantile *sketch)
{
    return (void *)((unsigned char *)sketch + 8);
}

static const double *kept_of(const struct rml_quantile *sketch)
{
    return (const void *)((const unsigned char *)sketch + 8);
}

static uint16_t *places_of(struct rml_quantile *sketch)
{
    return (void *)(sketch + 1);
}

static unsigned char *unit_at(struct rml_quantile *sketch, uint32_t unit)
{
    return (unsigned char *)sketch + (size_t)unit * UNIT;
}

static uint32_t units_max(const struct rml_quantile *sketch)
{
    return rml_quantile_bytes_max(sketch->bits) / UNIT;
}

// A block of subnormal numbers has no octaves to cut, so they all count as zero.
static uint16_t floor_first(uint32_t bits)
{
    return (uint16_t)(bits > 6 ? 1u << (bits - 6) : 1u);
}

static void start_buckets(struct rml_quantile *sketch)
{
    sketch->kept = RML_QUANTILE_BUCKETS;
    sketch->units = 1;
    sketch->floor = floor_first(sketch->bits);
    memset(sketch->values, 0, sizeof sketch->values);
    sketch->least = (double)INFINITY;
    sketch->greatest = -(double)INFINITY;
}

/* Places and counts */

static uint32_t level_of(uint32_t place)
{
    return place & LEVEL_MAX;
}

static uint32_t units_of(uint32_t place)
{
    return place == 0 ? 0 : 1u << level_of(place);
}

static uint32_t directory_units(uint32_t span)
{
    return (uint32_t)(span * 2 * sizeof(uint16_t) + UNIT - 1) / UNIT;
}

static uint32_t find_place(const struct rml_quantile *sketch, uint32_t block, uint32_t sign)
{
    uint32_t at = block - sketch->first;
    return at < sketch->span ? rml_quantile_places(sketch)[2 * at + sign] : 0;
}

// What the 64 buckets at `place` have counted.
static void read_block(const struct rml_quantile *sketch, uint32_t place, uint64_t *counts)
{
    const unsigned char *low = (const unsigned char *)sketch + (size_t)(place >> 2) * UNIT;
    const unsigned char *middle = low + BLOCK;
    for (uint32_t i = 0; i < BLOCK; i++)
        counts[i] = low[i];
    if (level_of(place) >= 1) {
        for (uint32_t i = 0; i < BLOCK; i++)
            counts[i] |= (uint64_t)middle[i] << 8;
    }
    if (level_of(place) >= 2) {
        uint16_t high[BLOCK];
        memcpy(high, low + 2 * UNIT, sizeof high);
        for (uint32_t i = 0; i < BLOCK; i++)
            counts[i] |= (uint64_t)high[i] << 16;
    }
    if (level_of(place) >= 3) {
        uint32_t top[BLOCK];
        memcpy(top, low + 4 * UNIT, sizeof top);
        for (uint32_t i = 0; i < BLOCK; i++)
            counts[i] |= (uint64_t)top[i] << 32;
    }
}

static void write_block(struct rml_quantile *sketch, uint32_t place, const uint64_t *counts)
{
    unsigned char *low = unit_at(sketch, place >> 2), *middle = low + BLOCK;
    for (uint32_t i = 0; i < BLOCK; i++)
        low[i] = (unsigned char)counts[i];
    if (level_of(place) >= 1) {
        for (uint32_t i = 0; i < BLOCK; i++)
            middle[i] = (unsigned char)(counts[i] >> 8);
    }
    if (level_of(place) >= 2) {
        uint16_t high[BLOCK];
        for (uint32_t i = 0; i < BLOCK; i++)
            high[i] = (uint16_t)(counts[i] >> 16);
        memcpy(low + 2 * UNIT, high, sizeof high);
    }
    if (level_of(place) >= 3) {
        uint32_t top[BLOCK];
        for (uint32_t i = 0; i < BLOCK; i++)
            top[i] = (uint32_t)(counts[i] >> 32);
        memcpy(low + 4 * UNIT, top, sizeof top);
    }
}

static uint32_t level_for(uint64_t count)
{
    return (uint32_t)(count > UINT8_MAX) + (count > UINT16_MAX) + (count > UINT32_MAX);
}

static uint64_t sum_of(const uint64_t *counts)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < BLOCK; i++)
        sum += counts[i];
    return sum;
}

static uint64_t place_sum(const struct rml_quantile *sketch, uint32_t place)
{
    uint64_t counts[BLOCK];
    if (place == 0)
        return 0;
    read_block(sketch, place, counts);
    return sum_of(counts);
}

/* Room */

// Move everything from `unit` on by so many units, up or down.
static void move_units(struct rml_quantile *sketch, uint32_t unit, int32_t by)
{
    uint32_t to = (uint32_t)((int32_t)unit + by);
    memmove(unit_at(sketch, to), unit_at(sketch, unit), (size_t)(sketch->units - unit) * UNIT);
    for (uint32_t i = 0; i < 2u * sketch->span; i++) {
        if (places_of(sketch)[i] >> 2 >= unit)
            places_of(sketch)[i] = (uint16_t)(places_of(sketch)[i] + by * 4);
    }
    sketch->units = (uint16_t)((int32_t)sketch->units + by);
}

// Make the directory begin at `first` and have `span` blocks; what is left out is empty.
static void set_directory(struct rml_quantile *sketch, uint32_t first, uint32_t span)
{
    uint32_t old = directory_units(sketch->span), new = directory_units(span);
    if (new > old)
        move_units(sketch, 1 + old, (int32_t)(new - old));
    uint32_t low = first > sketch->first ? first : sketch->first;
    uint32_t old_end = (uint32_t)sketch->first + sketch->span, end = first + span;
    end = end < old_end ? end : old_end;
    uint32_t kept = end > low ? end - low : 0;
    if (kept > 0)
        memmove(&places_of(sketch)[2 * (low - first)],
                &places_of(sketch)[2 * (low - sketch->first)], kept * 2 * sizeof(uint16_t));
    uint32_t before = kept > 0 ? low - first : 0;
    memset(places_of(sketch), 0, before * 2 * sizeof(uint16_t));
    uint32_t room = (new > old ? new : old) * (UNIT / (uint32_t)sizeof(uint16_t));
    memset(&places_of(sketch)[2 * (before + kept)], 0,
           (room - 2 * (before + kept)) * sizeof(uint16_t));
    sketch->first = (uint16_t)first;
    sketch->span = (uint16_t)span;
    if (new < old)
        move_units(sketch, 1 + old, -(int32_t)(old - new));
}

// Where a block with this index into the directory begins or would begin.
static uint32_t unit_of(const struct rml_quantile *sketch, uint32_t index)
{
    for (uint32_t i = index; i < 2u * sketch->span; i++) {
        if (rml_quantile_places(sketch)[i] != 0)
            return rml_quantile_places(sketch)[i] >> 2;
    }
    return sketch->units;
}

// Give up the blocks of the least magnitude that is there.
static void drop_first(struct rml_quantile *sketch)
{
    for (uint32_t sign = 0; sign < 2; sign++) {
        uint32_t place = places_of(sketch)[sign];
        if (place == 0)
            continue;
        sketch->fallen += place_sum(sketch, place);
        places_of(sketch)[sign] = 0;
        move_units(sketch, (place >> 2) + units_of(place), -(int32_t)units_of(place));
    }
    uint32_t empty = 1;
    while (empty < sketch->span && places_of(sketch)[2 * empty] == 0
           && places_of(sketch)[2 * empty + 1] == 0)
        empty++;
    sketch->floor = (uint16_t)(sketch->first + 1);
    set_directory(sketch, sketch->first + empty, sketch->span - empty);
}

/*
 * Make the block be there with this level. 0, its place is *ret_place; FALLEN: it is or becomes one
 * that is given up; -ENOSPC.
 */
static int reach_block(struct rml_quantile *sketch, uint32_t capacity, uint32_t block,
                       uint32_t sign, uint32_t level, uint32_t *ret_place)
{
    while (block >= sketch->floor) {
        uint32_t place = find_place(sketch, block, sign);
        if (place != 0 && level_of(place) >= level) {
            *ret_place = place;
            return 0;
        }
        uint32_t end = (uint32_t)sketch->first + sketch->span;
        uint32_t first = sketch->span == 0 || block < sketch->first ? block : sketch->first;
        uint32_t span = (sketch->span == 0 || block >= end ? block + 1 : end) - first;
        uint32_t more = (1u << level) - units_of(place);
        uint32_t need =
            sketch->units + more + directory_units(span) - directory_units(sketch->span);
        if (need * UNIT > capacity && capacity < rml_quantile_bytes_max(sketch->bits))
            return -ENOSPC;
        if (need > units_max(sketch)) {
            // The least magnitude goes: the newcomer's own, or that of the first block.
            if (sketch->span == 0 || block < sketch->first)
                sketch->floor = (uint16_t)(block + 1);
            else
                drop_first(sketch);
            continue;
        }
        if (span != sketch->span)
            set_directory(sketch, first, span);
        uint32_t index = 2 * (block - first) + sign;
        uint32_t begin = unit_of(sketch, index), gap = begin + units_of(places_of(sketch)[index]);
        move_units(sketch, gap, (int32_t)more);
        memset(unit_at(sketch, gap), 0, (size_t)more * UNIT);
        places_of(sketch)[index] = (uint16_t)(begin << 2 | level);
    }
    return FALLEN;
}

/* Adding */

static void note_ends(struct rml_quantile *sketch, double x)
{
    x += 0.0;  // of two zeros that compare alike, one
    sketch->least = x < sketch->least ? x : sketch->least;
    sketch->greatest = x > sketch->greatest ? x : sketch->greatest;
}

static int count_in_block(struct rml_quantile *sketch, uint32_t capacity, uint64_t bits)
{
    uint64_t bucket = (bits & INT64_MAX) >> sketch->shift;
    uint32_t block = (uint32_t)(bucket / BLOCK), in_block = (uint32_t)(bucket % BLOCK);
    uint32_t sign = (uint32_t)(bits >> 63), place;
    int rc = reach_block(sketch, capacity, block, sign, 0, &place);
    if (rc != 0)
        return rc;
    unsigned char *low = unit_at(sketch, place >> 2) + in_block;
    if (*low != UINT8_MAX) {
        ++*low;
        return 0;
    }
    uint64_t counts[BLOCK];
    read_block(sketch, place, counts);
    uint32_t level = level_for(++counts[in_block]);
    if (level > level_of(place))
        rc = reach_block(sketch, capacity, block, sign, level, &place);
    if (rc == 0)
        write_block(sketch, place, counts);
    return rc;
}

static int count(struct rml_quantile *sketch, uint32_t capacity, double x)
{
    if (isinf(x)) {
        sketch->below += x < 0;
        sketch->above += x > 0;
        return 0;
    }
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint64_t block = ((bits & INT64_MAX) >> sketch->shift) / BLOCK;
    if (block < floor_first(sketch->bits)) {
        sketch->zero++;
    } else if (block < sketch->floor) {
        sketch->fallen++;
    } else {
        int rc = count_in_block(sketch, capacity, bits);
        if (rc < 0)
            return rc;
        sketch->fallen += rc == FALLEN;
    }
    note_ends(sketch, x);
    return 0;
}

static int keep(struct rml_quantile *sketch, uint32_t capacity, double x)
{
    if (8 * (2u + sketch->kept) > capacity)
        return -ENOSPC;
    values_of(sketch)[sketch->kept++] = x + 0.0;
    return 0;
}

// Few, and often nearly in order: by insertion.
static void sort_kept(struct rml_quantile *sketch)
{
    double *values = values_of(sketch);
    for (uint32_t i = 1; i < sketch->kept; i++) {
        double x = values[i];
        uint32_t at = i;
        for (; at > 0 && values[at - 1] > x; at--)
            values[at] = values[at - 1];
        values[at] = x;
    }
}

/* A sketch in the largest region there is. */
union spacious {
    struct rml_quantile sketch;
    unsigned char bytes[RML_QUANTILE_BYTES_MAX];
};

/* One in the largest region with values kept. */
union few {
    struct rml_quantile sketch;
    unsigned char bytes[8 * (1 + RML_QUANTILE_KEPT_MAX)];
};

static void count_kept(struct rml_quantile *into, uint32_t capacity,
                       const struct rml_quantile *from)
{
    for (uint32_t i = 0; i < from->kept; i++)
        RML_CHECK(count(into, capacity, kept_of(from)[i]) == 0);
}

static int take_over(struct rml_quantile *sketch, uint32_t capacity, const union spacious *made)
{
    uint32_t bytes = rml_quantile_bytes(&made->sketch);
    if (bytes > capacity)
        return -ENOSPC;
    memcpy(sketch, made->bytes, bytes);
    return 0;
}

int rml_quantile_add_apart(struct rml_quantile *sketch, uint32_t capacity, double x)
{
    RML_CHECK(!isnan(x));
    if (sketch->kept == RML_QUANTILE_BUCKETS)
        return count(sketch, capacity, x);
    if (sketch->kept < RML_QUANTILE_KEPT_MAX)
        return keep(sketch, capacity, x);
    union spacious made;
    rml_quantile_init(&made.sketch, sketch->bits);
    start_buckets(&made.sketch);
    count_kept(&made.sketch, sizeof made, sketch);
    RML_CHECK(count(&made.sketch, sizeof made, x) == 0);
    return take_over(sketch, capacity, &made);
}

/* Merging */

static void merge_block(struct rml_quantile *into, uint32_t capacity,
                        const struct rml_quantile *from, uint32_t block, uint32_t sign)
{
    uint32_t there = find_place(from, block, sign), here = find_place(into, block, sign);
    if (there == 0)
        return;
    uint64_t counts[BLOCK], more[BLOCK], all = 0;
    read_block(from, there, more);
    if (here != 0)
        read_block(into, here, counts);
    else
        memset(counts, 0, sizeof counts);
    for (uint32_t i = 0; i < BLOCK; i++) {
        counts[i] += more[i];
        all |= counts[i];  // has as many bits as the greatest
    }
    uint32_t place = 0;
    int rc = reach_block(into, capacity, block, sign, level_for(all), &place);
    RML_CHECK(rc >= 0);
    if (rc == FALLEN)
        into->fallen += sum_of(more);
    else
        write_block(into, place, counts);
}

static void merge_buckets(struct rml_quantile *into, uint32_t capacity,
                          const struct rml_quantile *from)
{
    while (into->span > 0 && into->first < from->floor)
        drop_first(into);
    into->floor = into->floor > from->floor ? into->floor : from->floor;
    into->zero += from->zero;
    into->fallen += from->fallen;
    into->below += from->below;
    into->above += from->above;
    into->least = from->least < into->least ? from->least : into->least;
    into->greatest = from->greatest > into->greatest ? from->greatest : into->greatest;
    for (uint32_t block = from->first; block < (uint32_t)from->first + from->span; block++) {
        merge_block(into, capacity, from, block, 0);
        merge_block(into, capacity, from, block, 1);
    }
}

// Both together have more values than are kept, and `into` has the largest region.
static void merge_spacious(struct rml_quantile *into, uint32_t capacity,
                           const struct rml_quantile *from)
{
    if (into->kept != RML_QUANTILE_BUCKETS) {
        union few few;
        memcpy(few.bytes, into, rml_quantile_bytes(into));
        start_buckets(into);
        count_kept(into, capacity, &few.sketch);
    }
    if (from->kept == RML_QUANTILE_BUCKETS)
        merge_buckets(into, capacity, from);
    else
        count_kept(into, capacity, from);
}

int rml_quantile_merge(struct rml_quantile *into, uint32_t capacity,
                       const struct rml_quantile *from)
{
    RML_CHECK(into->bits == from->bits);
    if (into->kept != RML_QUANTILE_BUCKETS && from->kept != RML_QUANTILE_BUCKETS
        && into->kept + from->kept <= (int)RML_QUANTILE_KEPT_MAX) {
        if (8 * (1u + into->kept + from->kept) > capacity)
            return -ENOSPC;
        for (uint32_t i = 0; i < from->kept; i++)
            RML_CHECK(keep(into, capacity, kept_of(from)[i]) == 0);
        sort_kept(into);
        return 0;
    }
    if (capacity >= rml_quantile_bytes_max(into->bits)) {
        merge_spacious(into, capacity, from);
        return 0;
    }
    union spacious made;
    memcpy(made.bytes, into, rml_quantile_bytes(into));
    merge_spacious(&made.sketch, sizeof made, from);
    return take_over(into, capacity, &made);
}

/* Asking */

uint64_t rml_quantile_count(const struct rml_quantile *sketch)
{
    if (sketch->kept != RML_QUANTILE_BUCKETS)
        return sketch->kept;
    uint64_t sum = sketch->zero + sketch->fallen + sketch->below + sketch->above;
    for (uint32_t i = 0; i < 2u * sketch->span; i++)
        sum += place_sum(sketch, rml_quantile_places(sketch)[i]);
    return sum;
}

double rml_quantile_floor(const struct rml_quantile *sketch)
{
    if (sketch->kept != RML_QUANTILE_BUCKETS || sketch->floor == floor_first(sketch->bits))
        return 0;
    uint64_t bits = (uint64_t)sketch->floor * BLOCK << sketch->shift;
    double least;
    memcpy(&least, &bits, sizeof least);
    return least;
}

// The value that is nearest to all of the bucket, relative to them.
static double middle_of(const struct rml_quantile *sketch, uint32_t block, uint32_t in_block)
{
    uint64_t bucket = (uint64_t)block * BLOCK + in_block;
    double steps = (double)(1u << sketch->bits);
    double mantissa = steps + (double)(bucket & ((1u << sketch->bits) - 1));
    int exponent = (int)(bucket >> sketch->bits) - 1023 - sketch->bits;
    return ldexp(2 * mantissa * (mantissa + 1) / (2 * mantissa + 1), exponent);
}

/*
 * Look for the rank, in the order of values, among the buckets at one place. true: it is there; else
 * *rank is what is left of it.
 */
static bool find_in_block(const struct rml_quantile *sketch, uint32_t at, uint32_t sign,
                          uint64_t *rank, double *ret_value)
{
    uint32_t place = rml_quantile_places(sketch)[2 * at + sign];
    if (place == 0)
        return false;
    uint64_t counts[BLOCK];
    read_block(sketch, place, counts);
    uint64_t sum = sum_of(counts);
    if (*rank >= sum) {
        *rank -= sum;
        return false;
    }
    uint32_t i = sign != 0 ? BLOCK - 1 : 0;
    for (; *rank >= counts[i]; i += sign != 0 ? UINT32_MAX : 1)
        *rank -= counts[i];
    double magnitude = middle_of(sketch, sketch->first + at, i);
    *ret_value = sign != 0 ? -magnitude : magnitude;
    return true;
}

// The value at a rank among the finite ones, of which the ends are known exactly and bound the rest.
static double finite_at(const struct rml_quantile *sketch, uint64_t rank, uint64_t count)
{
    if (rank == 0)
        return sketch->least;
    if (rank == count - 1)
        return sketch->greatest;
    double value = 0;
    bool there = false;
    for (uint32_t at = sketch->span; at-- > 0 && !there;)
        there = find_in_block(sketch, at, 1, &rank, &value);
    uint64_t zeros = sketch->zero + sketch->fallen;
    if (!there && rank < zeros)
        there = true;
    else if (!there)
        rank -= zeros;
    for (uint32_t at = 0; at < sketch->span && !there; at++)
        there = find_in_block(sketch, at, 0, &rank, &value);
    RML_CHECK(there);
    value = value > sketch->least ? value : sketch->least;
    return value < sketch->greatest ? value : sketch->greatest;
}

static double value_at(const struct rml_quantile *sketch, uint64_t rank, uint64_t count)
{
    if (rank < sketch->below)
        return -(double)INFINITY;
    if (rank >= count - sketch->above)
        return (double)INFINITY;
    return finite_at(sketch, rank - sketch->below, count - sketch->below - sketch->above);
}

bool rml_quantile_at(const struct rml_quantile *sketch, double q, double *ret_value)
{
    RML_CHECK(q >= 0 && q <= 1);
    uint64_t count = rml_quantile_count(sketch);
    if (count == 0)
        return false;
    double at = q * (double)(count - 1);
    uint64_t rank = (uint64_t)at;
    double part = at - (double)rank, value, next;
    uint64_t then = rank + (part > 0);
    if (sketch->kept == RML_QUANTILE_BUCKETS) {
        value = value_at(sketch, rank, count);
        next = value_at(sketch, then, count);
    } else {
        union few few;
        memcpy(few.bytes, sketch, rml_quantile_bytes(sketch));
        sort_kept(&few.sketch);
        value = kept_of(&few.sketch)[rank];
        next = kept_of(&few.sketch)[then];
    }
    value = rml_interpolate(value, next, part);
    if (isnan(value))
        return false;
    *ret_value = value;
    return true;
}
