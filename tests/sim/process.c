#include "tests/sim/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "tests/support/random.h"

#define EXPORT       __attribute__((visibility("default")))
#define FDS_MAX      4096
#define MAPPINGS_MAX 4096

static bool is_inside;

static struct mapping {
    unsigned char *memory;
    size_t bytes;
} mappings[MAPPINGS_MAX];

static uint32_t mapping_count;
static bool is_outside[FDS_MAX];

bool process_turn(bool inside)
{
    bool was = is_inside;
    is_inside = inside;
    return was;
}

bool process_is_inside(void)
{
    return is_inside;
}

/* Memory */

#if RML_TEST_SLOW

// A sanitizer's malloc is its own: it tells what it hands out. (sanitizer/allocator_interface.h, which
// gcc does not bring)
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t),
                                              void (*free_hook)(const volatile void *));

# define BLOCKS_MAX (1u << 20)

// volatile: the compiler knows that free changes nothing of ours, and its hook does
static const volatile void *volatile blocks[BLOCKS_MAX];
static volatile uint32_t block_count;

static uint32_t place_of(const volatile void *block)
{
    return (uint32_t)(((uintptr_t)block >> 4) * 0x9e3779b1u) % BLOCKS_MAX;
}

static void saw_malloc(const volatile void *block, size_t bytes)
{
    (void)bytes;
    if (!is_inside || block == NULL)
        return;
    RML_CHECK(++block_count < BLOCKS_MAX / 2);
    uint32_t at = place_of(block);
    while (blocks[at] != NULL)
        at = (at + 1) % BLOCKS_MAX;
    blocks[at] = block;
}

static void saw_free(const volatile void *block)
{
    uint32_t at = place_of(block);
    while (blocks[at] != NULL && blocks[at] != block)
        at = (at + 1) % BLOCKS_MAX;
    if (block == NULL || blocks[at] == NULL)
        return;
    block_count--;
    blocks[at] = NULL;
    // close the gap, so that those behind it are found
    for (uint32_t i = (at + 1) % BLOCKS_MAX; blocks[i] != NULL; i = (i + 1) % BLOCKS_MAX) {
        uint32_t home = place_of(blocks[i]);
        bool may_stay = at < i ? home > at && home <= i : home > at || home <= i;
        if (may_stay)
            continue;
        blocks[at] = blocks[i];
        blocks[i] = NULL;
        at = i;
    }
}

static void init_memory(void)
{
    RML_CHECK(__sanitizer_install_malloc_and_free_hooks(saw_malloc, saw_free) > 0);
}

static void kill_memory(void)
{
    for (uint32_t i = 0; block_count > 0; i = (i + 1) % BLOCKS_MAX)
        free((void *)(uintptr_t)blocks[i]);
}

#else

// What glibc's own malloc is called beneath the name that a program may take over.
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *memory);

# define HEAP_BYTES ((size_t)4 << 30)  // address space
# define CLASSES    128
# define DIRTY_BYTES \
  4096  // blocks up to this long are handed out full of what is no good to anybody

/* In front of a block of the process. */
struct block {
    struct block *next;  // of its class, while it is free
    uint32_t class, zero;
};

static unsigned char *heap;
static size_t heap_used;
static struct block *free_blocks[CLASSES];

// Two sizes between each power of two and the next.
static uint32_t class_of(size_t bytes)
{
    uint32_t class = 0;
    size_t size = 64;
    while (size < bytes) {
        class += 2;
        size *= 2;
    }
    return class > 0 && bytes <= size / 4 * 3 ? class - 1 : class;
}

static size_t class_bytes(uint32_t class)
{
    size_t size = (size_t)64 << (class / 2);
    return class % 2 == 0 ? size : size * 2 / 4 * 3;
}

static bool is_ours(const void *memory)
{
    const unsigned char *at = memory;
    return at != NULL && at >= heap && at < heap + HEAP_BYTES;
}

// Blocks begin 64 bytes behind a multiple of 64, or for more alignment on one of that, header before.
static void *take_block(size_t alignment, size_t bytes)
{
    uint32_t class = class_of(bytes > 0 ? bytes : 1);
    struct block *block = alignment <= 64 ? free_blocks[class] : NULL;
    unsigned char *memory;
    if (block != NULL) {
        free_blocks[class] = block->next;
        memory = (unsigned char *)block + 64;
    } else {
        size_t at = heap_used + 64;
        alignment = alignment < 64 ? 64 : alignment;
        at = (at + alignment - 1) / alignment * alignment;
        heap_used = at + class_bytes(class);
        RML_CHECK(heap_used <= HEAP_BYTES);
        memory = heap + at;
        block = (void *)(memory - 64);
        block->class = class;
    }
    memset(memory, 0xa5, bytes < DIRTY_BYTES ? bytes : DIRTY_BYTES);
    return memory;
}

static void give_block(void *memory)
{
    struct block *block = (void *)((unsigned char *)memory - 64);
    block->next = free_blocks[block->class];
    free_blocks[block->class] = block;
}

static size_t block_bytes(void *memory)
{
    const struct block *block = (void *)((unsigned char *)memory - 64);
    return class_bytes(block->class);
}

# pragma GCC visibility push(default)

void *malloc(size_t bytes)
{
    return is_inside ? take_block(64, bytes) : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    if (!is_inside)
        return __libc_calloc(count, bytes);
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all))
        return NULL;
    void *memory = take_block(64, all);
    return memset(memory, 0, all);
}

void *realloc(void *old, size_t bytes)
{
    if (!is_ours(old) && (old != NULL || !is_inside))
        return __libc_realloc(old, bytes);
    bool was = process_turn(true);
    void *memory = take_block(64, bytes);
    if (old != NULL) {
        size_t before = block_bytes(old);
        memcpy(memory, old, before < bytes ? before : bytes);
        give_block(old);
    }
    process_turn(was);
    return memory;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return is_inside ? take_block(alignment, bytes) : __libc_memalign(alignment, bytes);
}

void *memalign(size_t alignment, size_t bytes);

void *memalign(size_t alignment, size_t bytes)
{
    return aligned_alloc(alignment, bytes);
}

int posix_memalign(void **ret_memory, size_t alignment, size_t bytes)
{
    *ret_memory = aligned_alloc(alignment, bytes);
    return *ret_memory != NULL ? 0 : ENOMEM;
}

void free(void *memory)
{
    if (is_ours(memory))
        give_block(memory);
    else
        __libc_free(memory);
}

# pragma GCC visibility pop

static void init_memory(void)
{
    void *memory = mmap(NULL, HEAP_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    RML_CHECK(memory != MAP_FAILED);
    heap = memory;
}

static void kill_memory(void)
{
    heap_used = 0;
    memset(free_blocks, 0, sizeof free_blocks);
}

#endif

/* Mappings */

static void note_mapping(void *memory, size_t bytes)
{
    if (!is_inside || memory == MAP_FAILED)
        return;
    RML_CHECK(mapping_count < MAPPINGS_MAX);
    mappings[mapping_count++] = (struct mapping){memory, bytes};
}

EXPORT void *mmap(void *wanted, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    void *memory = (void *)syscall(SYS_mmap, wanted, bytes, protection, flags, fd, offset);
    note_mapping(memory, bytes);
    return memory;
}

EXPORT int munmap(void *memory, size_t bytes)
{
    for (uint32_t i = mapping_count; i-- > 0;) {
        if (mappings[i].memory == memory) {
            mappings[i] = mappings[--mapping_count];
            break;
        }
    }
    return (int)syscall(SYS_munmap, memory, bytes);
}

void *process_map_again(void *memory, size_t bytes)
{
    void *again = (void *)syscall(SYS_mremap, memory, 0, bytes, MREMAP_MAYMOVE);
    RML_CHECK(again != MAP_FAILED);
    bool was = process_turn(true);
    note_mapping(again, bytes);
    process_turn(was);
    return again;
}

/* Descriptors */

void process_fd_is_outside(int fd)
{
    RML_CHECK(fd >= 0 && fd < FDS_MAX);
    is_outside[fd] = true;
}

int process_dup_outside(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    RML_CHECK(copy >= 0);
    process_fd_is_outside(copy);
    return copy;
}

EXPORT int close(int fd)
{
    if (fd >= 0 && fd < FDS_MAX)
        is_outside[fd] = false;
    return (int)syscall(SYS_close, fd);
}

static void each_fd(void (*each)(int fd))
{
    int list[FDS_MAX];
    uint32_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    RML_CHECK(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && fd != dirfd(folder) && count < FDS_MAX)
            list[count++] = fd;
    }
    closedir(folder);
    for (uint32_t i = 0; i < count; i++)
        each(list[i]);
}

static void close_if_inside(int fd)
{
    if (!is_outside[fd])
        close(fd);
}

void process_init(void)
{
    init_memory();
    each_fd(process_fd_is_outside);
}

void process_kill(void)
{
    RML_CHECK(!is_inside);
    while (mapping_count > 0)
        munmap(mappings[mapping_count - 1].memory, mappings[mapping_count - 1].bytes);
    each_fd(close_if_inside);
    kill_memory();
}
