#include "tests/sim/fibers.h"

#include <stddef.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "runtime/base/check.h"
#include "tests/support/random.h"

#if RML_TEST_SLOW
# include <sanitizer/asan_interface.h>
# include <sanitizer/common_interface_defs.h>
#endif

#define STACK_BYTES ((size_t)1 << 20)

enum state { FREE, THERE, ENDED };

static struct fiber {
    enum state state;
    ucontext_t context;
    void *stack;
    void *(*run)(void *context);
    void *run_context;
    void *shadow;  // a sanitizer's, while it pauses
} fibers[FIBERS_MAX];

static ucontext_t outside;
static uint32_t now = FIBERS_NONE;

// A sanitizer wants to know which stack is in use.
#if RML_TEST_SLOW
static const void *outside_stack;
static size_t outside_bytes;
static void *outside_shadow;

static void leaves_for(void **shadow, const void *stack, size_t bytes)
{
    __sanitizer_start_switch_fiber(shadow, stack, bytes);
}

static void arrives(void *shadow, const void **from, size_t *from_bytes)
{
    __sanitizer_finish_switch_fiber(shadow, from, from_bytes);
}

static void clean(const struct fiber *fiber)
{
    __asan_unpoison_memory_region(fiber->stack, STACK_BYTES);
}
#else
static const void *const outside_stack = NULL;
static const size_t outside_bytes = 0;
static void *outside_shadow;

static void leaves_for(void **shadow, const void *stack, size_t bytes)
{
    (void)shadow;
    (void)stack;
    (void)bytes;
}

static void arrives(const void *shadow, const void *const *from, const size_t *from_bytes)
{
    (void)shadow;
    (void)from;
    (void)from_bytes;
}

static void clean(const struct fiber *fiber)
{
    (void)fiber;
}
#endif

static void begin(void)
{
    struct fiber *fiber = &fibers[now];
    arrives(NULL, &outside_stack, &outside_bytes);
    fiber->run(fiber->run_context);
    fiber->state = ENDED;
    leaves_for(NULL, outside_stack, outside_bytes);
    setcontext(&outside);
    RML_UNREACHABLE("nobody gives a turn to one that has ended");
}

static void prepare(struct fiber *fiber)
{
    RML_CHECK(getcontext(&fiber->context) == 0);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, begin, 0);
}

uint32_t fiber_make(void *(*run)(void *context), void *context)
{
    uint32_t number = 0;
    while (fibers[number].state != FREE)
        RML_CHECK(++number < FIBERS_MAX);
    struct fiber *fiber = &fibers[number];
    if (fiber->stack == NULL) {
        fiber->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        RML_CHECK(fiber->stack != MAP_FAILED);
    }
    clean(fiber);
    prepare(fiber);
    fiber->run = run;
    fiber->run_context = context;
    fiber->shadow = NULL;
    fiber->state = THERE;
    return number;
}

void fiber_turn(uint32_t number)
{
    struct fiber *fiber = &fibers[number];
    RML_CHECK(now == FIBERS_NONE && fiber->state == THERE);
    now = number;
    leaves_for(&outside_shadow, fiber->stack, STACK_BYTES);
    RML_CHECK(swapcontext(&outside, &fiber->context) == 0);
    arrives(outside_shadow, NULL, NULL);
    now = FIBERS_NONE;
}

void fiber_pause(void)
{
    struct fiber *fiber = &fibers[now];
    leaves_for(&fiber->shadow, outside_stack, outside_bytes);
    RML_CHECK(swapcontext(&fiber->context, &outside) == 0);
    arrives(fiber->shadow, &outside_stack, &outside_bytes);
}

uint32_t fiber_now(void)
{
    return now;
}

bool fiber_is_there(uint32_t fiber)
{
    return fiber < FIBERS_MAX && fibers[fiber].state != FREE;
}

bool fiber_has_ended(uint32_t fiber)
{
    return fiber < FIBERS_MAX && fibers[fiber].state == ENDED;
}

void fiber_drop(uint32_t fiber)
{
    RML_CHECK(now != fiber);
    fibers[fiber].state = FREE;
}
