/*
 * random - chance that a test can repeat: the seed is printed, and RML_SEED sets it.
 *
 * splitmix64 (G. Steele, D. Lea, C. Flood: "Fast splittable pseudorandom number generators", 2014).
 */
#ifndef RML_TESTS_RANDOM_H
#define RML_TESTS_RANDOM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Under a sanitizer loops are shorter. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
# define RML_TEST_SLOW 1
#elif defined(__has_feature)
# if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#  define RML_TEST_SLOW 1
# endif
#endif
#ifndef RML_TEST_SLOW
# define RML_TEST_SLOW 0
#endif

static inline uint64_t rml_test_seed(void)
{
    const char *set = getenv("RML_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed =
        set != NULL ? strtoull(set, NULL, 0) : (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
    printf("RML_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

static inline uint64_t rml_test_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline void rml_test_bytes(uint64_t *seed, void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((unsigned char *)bytes)[i] = (unsigned char)rml_test_random(seed);
}

#endif
