/*
 * test - cmocka, with a test's claim standing once.
 *
 *     static void a_fresh_ring_is_empty(void **state) { ... assert_int_equal(...); }
 *     TEST_MAIN(CLAIM(a_fresh_ring_is_empty), CLAIM(...))
 */
#ifndef RML_TESTS_TEST_H
#define RML_TESTS_TEST_H

// cmocka wants these before itself
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define CLAIM(name) cmocka_unit_test(name)

#define TEST_MAIN(...)                               \
 int main(void)                                      \
 {                                                   \
  const struct CMUnitTest claims[] = {__VA_ARGS__};  \
  return cmocka_run_group_tests(claims, NULL, NULL); \
 }

#endif
