/*
 * atoms - included before some of the engine's own files, as they are built for the simulation: before each
 * access to a shared word others may have a turn, or whoever makes it dies.
 *
 * So a producer or an engine stands, or is killed, between any two steps that others can see.
 */
#ifndef TESTS_SIM_ATOMS_H
#define TESTS_SIM_ATOMS_H

#include <stdatomic.h>

void sim_atom(void);

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit

// A weak exchange that fails for no reason is the machine's; here it would be chance without a seed.
#ifdef __clang__
# define atomic_load_explicit(object, order) (sim_atom(), __c11_atomic_load((object), (order)))
# define atomic_store_explicit(object, value, order) \
  (sim_atom(), __c11_atomic_store((object), (value), (order)))
# define atomic_exchange_explicit(object, value, order) \
  (sim_atom(), __c11_atomic_exchange((object), (value), (order)))
# define atomic_fetch_add_explicit(object, value, order) \
  (sim_atom(), __c11_atomic_fetch_add((object), (value), (order)))
# define atomic_compare_exchange_strong_explicit(object, expected, value, order, failing) \
  (sim_atom(),                                                                            \
   __c11_atomic_compare_exchange_strong((object), (expected), (value), (order), (failing)))
#else
# define atomic_load_explicit(object, order) (sim_atom(), __atomic_load_n((object), (order)))
# define atomic_store_explicit(object, value, order) \
  (sim_atom(), __atomic_store_n((object), (value), (order)))
# define atomic_exchange_explicit(object, value, order) \
  (sim_atom(), __atomic_exchange_n((object), (value), (order)))
# define atomic_fetch_add_explicit(object, value, order) \
  (sim_atom(), __atomic_fetch_add((object), (value), (order)))
# define atomic_compare_exchange_strong_explicit(object, expected, value, order, failing) \
  (sim_atom(), __atomic_compare_exchange_n((object), (expected), (value), 0, (order), (failing)))
#endif
#define atomic_compare_exchange_weak_explicit atomic_compare_exchange_strong_explicit

#endif
