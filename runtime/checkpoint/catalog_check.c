#include "runtime/checkpoint/catalog_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog.h"

/* The file's format. Everything is of the host's byte order. */

#define PAGE_BYTES   4096u
#define META_MAGIC   UINT32_C(0xbeefc0de)
#define META_VERSION 1u
#define NO_PAGE      UINT64_MAX
#define DEPTH_MAX    32u

enum page_flag { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4, PAGE_META = 8 };

enum node_flag { NODE_BIG = 1, NODE_TREE = 2 };

struct page {
    uint64_t number;
    uint16_t pad, flags;
    uint16_t lower, upper;  // of an overflow page: 32 bits, how many there are
};

struct tree {
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct meta {
    uint32_t magic, version;
    uint64_t address, map_bytes;
    struct tree free, main;
    uint64_t last_page, transaction;
};

struct node {
    uint16_t low, high, flags, key_bytes;
};

#define FLAG_INTEGER_KEYS 0x08u
#define FLAGS_OF_OPENING  0x4000u  // MDB_NOSUBDIR stays in the file's own flags

struct bytes {
    const unsigned char *at;
    size_t count;
};

struct check {
    const char *path;
    int fd;
    uint64_t file_pages;
    struct meta meta;
    unsigned char *used;   // a byte for each page up to the last
    unsigned char *pages;  // one for each level
    uint64_t head_transaction;
    bool has_head;
    const struct rml_catalog_entries *entries;  // NULL: nobody wants any
    struct rml_err *err;
};

/* A tree on the way down. */
struct walk {
    struct check *check;
    enum rml_catalog_tree kind;
    uint16_t depth;
    uint64_t entries;
};

static int damaged(const struct check *check, uint64_t page, const char *what)
{
    return RML_FAIL(check->err, -EBADMSG, "%.300s is damaged: page %llu (byte %llu): %s",
                    check->path, (unsigned long long)page, (unsigned long long)(page * PAGE_BYTES),
                    what);
}

/* The keys of a page lie from `low` on and before `high`; of either, count 0 is none. */
struct bounds {
    struct bytes low, high;
};

// What of rows cannot be read is left out where somebody collects what can.
static bool is_left_out(const struct walk *walk, int rc, struct bounds lost)
{
    const struct rml_catalog_entries *entries = walk->check->entries;
    if (rc != -EBADMSG || entries == NULL || walk->kind != RML_CATALOG_TREE_ROWS)
        return false;
    const struct rml_catalog_gap gap = {lost.low.at, lost.high.at, lost.low.count, lost.high.count};
    entries->lacks(entries->context, &gap);
    return true;
}

static int read_page(const struct check *check, uint64_t number, unsigned char *into)
{
    if (number >= check->file_pages)
        return damaged(check, number, "lies behind the file's end");
    for (size_t at = 0; at < PAGE_BYTES;) {
        ssize_t got =
            pread(check->fd, into + at, PAGE_BYTES - at, (off_t)(number * PAGE_BYTES + at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return RML_FAIL(check->err, -errno, "cannot read %.300s at byte %llu: %s", check->path,
                            (unsigned long long)(number * PAGE_BYTES), strerrordesc_np(errno));
        if (got == 0)
            return damaged(check, number, "is cut off");
        at += (size_t)got;
    }
    return 0;
}

static int use_pages(const struct check *check, uint64_t first, uint64_t count)
{
    if (first < 2 || count == 0 || first > check->meta.last_page
        || count - 1 > check->meta.last_page - first)
        return damaged(check, first, "is named by a tree and lies outside of it");
    for (uint64_t page = first; page < first + count; page++) {
        if (check->used[page] != 0)
            return damaged(check, page, "is named twice");
        check->used[page] = 1;
    }
    return 0;
}

static int compare(const struct walk *walk, struct bytes a, struct bytes b)
{
    if (walk->kind == RML_CATALOG_TREE_FREE) {
        uint64_t x, y;
        memcpy(&x, a.at, sizeof x);
        memcpy(&y, b.at, sizeof y);
        return (x > y) - (x < y);
    }
    int order = memcmp(a.at, b.at, a.count < b.count ? a.count : b.count);
    return order != 0 ? order : (a.count > b.count) - (a.count < b.count);
}

static int walk_tree(struct check *check, const struct tree *tree, enum rml_catalog_tree kind);

static int take_big(const struct walk *walk, struct bytes data, uint64_t page, uint64_t bytes,
                    unsigned char **ret_copy)
{
    const struct check *check = walk->check;
    uint64_t first;
    if (data.count != sizeof first)
        return damaged(check, page, "has a node that does not fit");
    memcpy(&first, data.at, sizeof first);
    uint64_t count = (sizeof(struct page) + bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    unsigned char *pages = NULL;
    bool is_wanted = walk->kind == RML_CATALOG_TREE_FREE || check->entries != NULL;
    int rc = use_pages(check, first, count);
    if (rc == 0 && (pages = malloc(is_wanted ? count * PAGE_BYTES : PAGE_BYTES)) == NULL)
        rc = RML_FAIL(check->err, -ENOMEM, "no memory for pages of %.300s", check->path);
    for (uint64_t i = 0; rc == 0 && i < (is_wanted ? count : 1); i++)
        rc = read_page(check, first + i, pages + i * PAGE_BYTES);
    if (rc == 0) {
        struct page head;
        uint32_t said;
        memcpy(&head, pages, sizeof head);
        memcpy(&said, pages + offsetof(struct page, lower), sizeof said);
        // what was written over a longer value may keep the longer one's pages
        if (head.number != first || head.flags != PAGE_OVERFLOW || said < count)
            rc = damaged(check, first, "is not the long value that a tree names");
        else if (said > count)
            rc = use_pages(check, first + count, said - count);
    }
    if (rc == 0 && is_wanted)
        *ret_copy = pages;
    else
        free(pages);
    return rc;
}

// Pages that are free since some transaction: how many, then their numbers.
static int take_free(const struct walk *walk, struct bytes key, struct bytes list, uint64_t page)
{
    const struct check *check = walk->check;
    uint64_t count, transaction, number;
    if (list.count < sizeof count)
        return damaged(check, page, "has a list of free pages that is cut off");
    memcpy(&count, list.at, sizeof count);
    memcpy(&transaction, key.at, sizeof transaction);
    if (count > list.count / sizeof count - 1 || transaction > check->meta.transaction)
        return damaged(check, page, "has a list of free pages that cannot be");
    for (uint64_t i = 1; i <= count; i++) {
        memcpy(&number, list.at + i * sizeof number, sizeof number);
        int rc = use_pages(check, number, 1);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static enum rml_catalog_tree kind_of(struct bytes key)
{
    bool is_rows = key.count == sizeof RML_CATALOG_ROWS - 1
                   && memcmp(key.at, RML_CATALOG_ROWS, key.count) == 0;
    return is_rows ? RML_CATALOG_TREE_ROWS : RML_CATALOG_TREE_CHECKPOINTS;
}

static int take_tree(const struct walk *walk, struct bytes key, struct bytes data, uint64_t page)
{
    struct tree tree;
    if (data.count != sizeof tree)
        return damaged(walk->check, page, "has a node that does not fit");
    memcpy(&tree, data.at, sizeof tree);
    if (tree.flags != 0 || tree.pad != 0)
        return damaged(walk->check, page, "names a tree of an unknown kind");
    return walk_tree(walk->check, &tree, kind_of(key));
}

static int hand_on(const struct walk *walk, struct bytes key, struct bytes value)
{
    const struct rml_catalog_entries *entries = walk->check->entries;
    return entries->take(entries->context, walk->kind, key.at, key.count, value.at, value.count);
}

int rml_catalog_check_format(const char *path, const void *head, size_t bytes, struct rml_err *err)
{
    struct {
        uint32_t magic, format;
    } begin;

    if (bytes < sizeof begin)
        return 0;
    memcpy(&begin, head, sizeof begin);
    if (begin.magic != RML_CATALOG_HEAD_MAGIC || begin.format == RML_VAULT_FORMAT)
        return 0;
    return RML_FAIL(err, -EPROTONOSUPPORT,
                    "%.250s has format %u and this program reads format %u: use the program that "
                    "wrote it, or start from an empty state directory",
                    path, begin.format, RML_VAULT_FORMAT);
}

static bool is_head(struct bytes key)
{
    return key.count == sizeof RML_CATALOG_HEAD_KEY - 1
           && memcmp(key.at, RML_CATALOG_HEAD_KEY, key.count) == 0;
}

static int take_value(struct walk *walk, struct bytes key, struct bytes data, uint16_t flags,
                      uint64_t page, uint64_t value_bytes)
{
    struct check *check = walk->check;
    walk->entries++;
    if ((flags & ~(walk->kind == RML_CATALOG_TREE_MAIN ? NODE_TREE : NODE_BIG)) != 0)
        return damaged(check, page, "has a node of an unknown kind");
    if (flags == NODE_TREE)
        return take_tree(walk, key, data, page);
    bool is_ours = walk->kind == RML_CATALOG_TREE_MAIN && is_head(key);
    int rc = is_ours ? rml_catalog_check_format(check->path, data.at, data.count, check->err) : 0;
    if (rc < 0)
        return rc;
    if (is_ours && data.count >= sizeof(struct rml_catalog_head_row)) {
        memcpy(&check->head_transaction,
               data.at + offsetof(struct rml_catalog_head_row, transaction),
               sizeof check->head_transaction);
        check->has_head = true;
    }
    unsigned char *copy = NULL;
    if (flags == NODE_BIG)
        rc = take_big(walk, data, page, value_bytes, &copy);
    if (copy != NULL)
        data = (struct bytes){copy + sizeof(struct page), value_bytes};
    if (rc == 0 && walk->kind == RML_CATALOG_TREE_FREE)
        rc = take_free(walk, key, data, page);
    else if (rc == 0 && check->entries != NULL)
        rc = hand_on(walk, key, data);
    free(copy);
    return rc;
}

struct found {
    struct node node;
    struct bytes key;
    const unsigned char *data;
    size_t data_room;  // up to the page's end
};

static int find_node(const struct walk *walk, const unsigned char *bytes, uint32_t index,
                     uint64_t page, struct found *ret_found)
{
    uint16_t offset;
    memcpy(&offset, bytes + sizeof(struct page) + index * sizeof offset, sizeof offset);
    struct page head;
    memcpy(&head, bytes, sizeof head);
    struct found found;
    if (offset < head.upper || offset % 2 != 0 || offset > PAGE_BYTES - sizeof found.node)
        return damaged(walk->check, page, "has a node outside of it");
    memcpy(&found.node, bytes + offset, sizeof found.node);
    size_t room = PAGE_BYTES - offset - sizeof found.node;
    if (found.node.key_bytes > room)
        return damaged(walk->check, page, "has a key that runs out of it");
    found.key = (struct bytes){bytes + offset + sizeof found.node, found.node.key_bytes};
    found.data = found.key.at + found.key.count;
    found.data_room = room - found.key.count;
    *ret_found = found;
    return 0;
}

static int key_fits(const struct walk *walk, struct bytes key, uint64_t page)
{
    bool fits = walk->kind == RML_CATALOG_TREE_FREE
                    ? key.count == sizeof(uint64_t)
                    : key.count > 0 && key.count <= RML_CATALOG_KEY_BYTES;
    return fits ? 0 : damaged(walk->check, page, "has a key of a length that cannot be");
}

static int walk_page(struct walk *walk, uint64_t number, uint32_t level, struct bounds bounds);

static int walk_branch(struct walk *walk, const unsigned char *bytes, uint32_t count,
                       uint64_t number, uint32_t level, struct bounds bounds)
{
    if (count < 2)
        return damaged(walk->check, number, "is a branch of less than two");
    struct found found, next = {0};
    int rc = find_node(walk, bytes, 0, number, &found);
    struct bytes low = bounds.low;
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        bool is_last = i + 1 == count;
        if (!is_last) {
            rc = find_node(walk, bytes, i + 1, number, &next);
            if (rc == 0)
                rc = key_fits(walk, next.key, number);
        }
        struct bytes high = is_last ? bounds.high : next.key;
        if (rc == 0 && low.count > 0 && high.count > 0 && compare(walk, low, high) >= 0)
            rc = damaged(walk->check, number, "has keys out of order");
        uint64_t child = (uint64_t)found.node.low | (uint64_t)found.node.high << 16
                         | (uint64_t)found.node.flags << 32;
        if (rc == 0)
            rc = walk_page(walk, child, level + 1, (struct bounds){low, high});
        low = high;
        found = next;
    }
    return rc;
}

static bool is_in_order(const struct walk *walk, struct bytes last, struct bytes key,
                        struct bounds bounds)
{
    return (last.count == 0 || compare(walk, last, key) < 0)
           && (bounds.low.count == 0 || compare(walk, bounds.low, key) <= 0)
           && (bounds.high.count == 0 || compare(walk, key, bounds.high) < 0);
}

static bool is_wanted(const struct walk *walk, struct bytes key)
{
    const struct rml_catalog_entries *entries = walk->check->entries;
    return entries == NULL || walk->kind != RML_CATALOG_TREE_ROWS
           || entries->wants(entries->context, key.at, key.count);
}

static int walk_node(struct walk *walk, const unsigned char *bytes, uint32_t index, uint64_t number,
                     struct bounds bounds, struct bytes *last)
{
    struct found found;
    int rc = find_node(walk, bytes, index, number, &found);
    if (rc == 0)
        rc = key_fits(walk, found.key, number);
    if (rc < 0 || !is_wanted(walk, found.key))
        return rc;
    uint64_t value_bytes = (uint64_t)found.node.low | (uint64_t)found.node.high << 16;
    bool is_big = (found.node.flags & NODE_BIG) != 0;
    struct bytes data = {found.data, is_big ? sizeof(uint64_t) : (size_t)value_bytes};
    if (!is_in_order(walk, *last, found.key, bounds))
        return damaged(walk->check, number, "has keys out of order");
    *last = found.key;
    if (data.count > found.data_room)
        return damaged(walk->check, number, "has a value that runs out of it");
    return take_value(walk, found.key, data, found.node.flags, number, value_bytes);
}

static int walk_leaf(struct walk *walk, const unsigned char *bytes, uint32_t count, uint64_t number,
                     struct bounds bounds)
{
    struct bytes last = {0};
    for (uint32_t i = 0; i < count; i++) {
        const struct bytes before = last;
        int rc = walk_node(walk, bytes, i, number, bounds, &last);
        // a key that is in its place is known, whatever became of its value
        struct bounds lost = {last, last};
        if (last.at == before.at)
            lost = (struct bounds){before.count > 0 ? before : bounds.low, bounds.high};
        if (rc < 0 && !is_left_out(walk, rc, lost))
            return rc;
    }
    return 0;
}

static int walk_page(struct walk *walk, uint64_t number, uint32_t level, struct bounds bounds)
{
    struct check *check = walk->check;
    int rc = use_pages(check, number, 1);
    if (rc < 0)
        return rc;
    unsigned char *bytes = malloc(PAGE_BYTES);
    if (bytes == NULL)
        return RML_FAIL(check->err, -ENOMEM, "no memory for a page of %.300s", check->path);
    rc = read_page(check, number, bytes);
    struct page head = {0};
    memcpy(&head, bytes, sizeof head);
    uint16_t kind = level + 1 == walk->depth ? PAGE_LEAF : PAGE_BRANCH;
    if (rc == 0
        && (head.number != number || head.flags != kind || head.lower < sizeof head
            || head.lower % 2 != 0 || head.lower > head.upper || head.upper > PAGE_BYTES))
        rc = damaged(check, number, "is not the page that a tree names");
    if (rc == 0) {
        uint32_t count = (head.lower - (uint32_t)sizeof head) / 2;
        rc = kind == PAGE_LEAF ? walk_leaf(walk, bytes, count, number, bounds)
                               : walk_branch(walk, bytes, count, number, level, bounds);
    }
    free(bytes);
    return is_left_out(walk, rc, bounds) ? 0 : rc;
}

static int walk_tree(struct check *check, const struct tree *tree, enum rml_catalog_tree kind)
{
    struct walk walk = {.check = check, .kind = kind, .depth = tree->depth};
    bool is_empty = tree->root == NO_PAGE;
    if (tree->depth > DEPTH_MAX || is_empty != (tree->depth == 0))
        return damaged(check, check->meta.transaction % 2,
                       "names a tree of a depth that cannot be");
    int rc = is_empty ? 0 : walk_page(&walk, tree->root, 0, (struct bounds){0});
    bool is_counted = check->entries == NULL || kind != RML_CATALOG_TREE_ROWS;
    if (rc == 0 && is_counted && walk.entries != tree->entries)
        rc =
            damaged(check, is_empty ? 0 : tree->root, "begins a tree of another number of entries");
    return rc;
}

static int read_meta(struct check *check, uint64_t number, struct meta *ret_meta)
{
    unsigned char bytes[PAGE_BYTES];
    int rc = read_page(check, number, bytes);
    if (rc < 0)
        return rc;
    struct page head;
    struct meta meta;
    memcpy(&head, bytes, sizeof head);
    memcpy(&meta, bytes + sizeof head, sizeof meta);
    if (meta.magic == META_MAGIC && meta.version != META_VERSION)
        return RML_FAIL(check->err, -EPROTONOSUPPORT,
                        "%.300s is of version %u of LMDB's format, and this program reads %u: use "
                        "the program that wrote it, or start from an empty state directory",
                        check->path, meta.version, META_VERSION);
    if (meta.magic != META_MAGIC || head.number != number || (head.flags & PAGE_META) == 0)
        return damaged(check, number, "is not the meta page that should lie there");
    if (meta.free.pad != PAGE_BYTES || (meta.free.flags & ~FLAGS_OF_OPENING) != FLAG_INTEGER_KEYS
        || meta.main.flags != 0 || meta.address != 0)
        return damaged(check, number, "says what no catalog of ours says");
    if (meta.transaction != 0 && meta.transaction % 2 != number)
        return damaged(check, number, "is of a transaction that does not write there");
    *ret_meta = meta;
    return 0;
}

/*
 * The state as of the newer meta page. The older one's is not looked at: where a commit failed LMDB puts
 * the number of the older state back and leaves the roots of the one that failed.
 */
static int look_through(struct check *check, const struct meta *meta)
{
    check->meta = *meta;
    if (meta->last_page < 1 || meta->last_page > UINT64_MAX / PAGE_BYTES / 2)
        return damaged(check, meta->transaction % 2, "counts pages that cannot be");
    // last_page may lie behind the end of the file: a page that came and went in one transaction
    if (meta->last_page > 2 * check->file_pages + 1024)
        return damaged(check, meta->transaction % 2, "counts more pages than there are");
    check->used = calloc(meta->last_page + 1, 1);
    if (check->used == NULL)
        return RML_FAIL(check->err, -ENOMEM, "no memory for a map of %llu pages",
                        (unsigned long long)meta->last_page);
    // what is free matters to whoever goes on writing the file
    int rc = check->entries == NULL ? walk_tree(check, &meta->free, RML_CATALOG_TREE_FREE) : 0;
    if (rc == 0)
        rc = walk_tree(check, &meta->main, RML_CATALOG_TREE_MAIN);
    free(check->used);
    check->used = NULL;
    if (rc == 0 && (!check->has_head || check->head_transaction != meta->transaction))
        rc = damaged(check, meta->transaction % 2, "is of another transaction than its head");
    return rc;
}

static int look_at_metas(struct check *check)
{
    struct meta metas[2];
    for (uint64_t i = 0; i < 2; i++) {
        int rc = read_meta(check, i, &metas[i]);
        if (rc < 0)
            return rc;
    }
    bool second_is_newer = metas[1].transaction > metas[0].transaction;
    const struct meta *newer = &metas[second_is_newer], *older = &metas[!second_is_newer];
    if (newer->transaction - older->transaction != 1)
        return damaged(check, second_is_newer, "does not follow on the other meta page");
    return look_through(check, newer);
}

static int look(struct check *check)
{
    check->fd = open(check->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (check->fd < 0)
        return RML_FAIL(check->err, -errno, "cannot open %.300s: %s", check->path,
                        strerrordesc_np(errno));
    struct stat about;
    int rc = fstat(check->fd, &about) < 0
                 ? RML_FAIL(check->err, -errno, "cannot look at %.300s", check->path)
                 : 0;
    if (rc == 0) {
        check->file_pages = (uint64_t)about.st_size / PAGE_BYTES;
        rc = look_at_metas(check);
    }
    close(check->fd);
    return rc;
}

int rml_catalog_check(const char *path, struct rml_err *err)
{
    struct check check = {.path = path, .err = err};
    return look(&check);
}

int rml_catalog_collect(const char *path, const struct rml_catalog_entries *entries,
                        struct rml_err *err)
{
    struct check check = {.path = path, .entries = entries, .err = err};
    return look(&check);
}
