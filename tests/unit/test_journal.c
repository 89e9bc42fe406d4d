/*
 * What a journal holds after the power went, at any moment of a history that goes well and badly; and what
 * it says of files that are damaged, full, of others, or of a time that is over.
 *
 *     RML_POWER_LOSSES=50000 test_journal      so many losses; some thousands without
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/journal.h"
#include "tests/support/crash.h"
#include "tests/support/folder.h"
#include "tests/support/random.h"
#include "tests/support/tape.h"
#include "tests/support/test.h"

#define LOSSES     (RML_TEST_SLOW ? 400u : 6000u)
#define PARTITIONS 3u
#define ENTRIES    4096u  // of a partition, at most
#define BLOCK_MAX  6000u
#define SEGMENT    (32u << 10)
#define GROUPS     90u

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    return rml_test_random(&seed) % below;
}

/* Entries follow from partition and position, but for a salt that tells who wrote them. */
struct entry {
    struct rml_journal_entry head;
    uint64_t salt;
    unsigned char body[];
};

static uint64_t salt_of(uint32_t partition, uint64_t position, uint64_t life)
{
    uint64_t from = life * 1000003 + partition * 100000 + position;
    return rml_test_random(&from);
}

static uint32_t put_entry(unsigned char *at, uint32_t partition, uint64_t position, uint64_t life)
{
    struct entry *entry = (void *)at;
    uint64_t salt = salt_of(partition, position, life), from = salt;
    entry->salt = salt;
    uint32_t body = (uint32_t)(salt % 40) * 8 + (salt % 17 == 0 ? 2048 : 0);
    rml_test_bytes(&from, entry->body, body);
    entry->head = (struct rml_journal_entry){(uint32_t)sizeof *entry + body, partition, position};
    return entry->head.bytes;
}

static bool is_as_written(const struct rml_journal_entry *head, uint64_t life)
{
    static uint64_t expected[1024];
    put_entry((unsigned char *)expected, head->partition, head->position, life);
    const struct entry *entry = (const void *)expected;
    return entry->head.bytes == head->bytes && memcmp(entry, head, head->bytes) == 0;
}

/* How far each partition is: what was given to the journal, was said to be durable, is covered by the two
 * kept checkpoints. */
struct moment {
    uint64_t written[PARTITIONS], durable[PARTITIONS], covered[PARTITIONS], before[PARTITIONS];
};

struct history {
    struct moment now, moments[16 * GROUPS];  // by mark
    uint64_t marks;
};

static void mark(struct history *h)
{
    assert_true(h->marks < sizeof h->moments / sizeof h->moments[0]);
    h->moments[h->marks] = h->now;
    tape_mark(h->marks++);
}

static struct rml_journal_options options_of(const struct rml_disk_way *const *ways,
                                             const uint64_t *covered, unsigned broken)
{
    return (struct rml_journal_options){
        .ways = ways,
        .partitions = PARTITIONS,
        .vault = "sixteen bytes..",
        .life = 7,
        .identity = 11,
        .covered = covered,
        .segment_bytes = SEGMENT,
        .first_bytes = 2 * SEGMENT,
        .max_bytes = 8 * SEGMENT,
        .broken_rules = broken,
    };
}

static struct rml_journal *open_journal(const char *folder,
                                        const struct rml_journal_options *options)
{
    struct rml_journal *journal;
    struct rml_err err = {0};
    if (rml_journal_open(&journal, folder, options, &err) < 0)
        fail_msg("%s", err.text);
    return journal;
}

/* A group: some blocks, as they are given once or more often. */
struct group {
    _Alignas(8) unsigned char blocks[2][BLOCK_MAX];
    uint32_t bytes[2], count;
    uint32_t flushed;  // of the blocks
};

static void make_group(struct history *h, struct group *group)
{
    group->count = 1 + (uint32_t)draw(2);
    group->flushed = 0;
    for (uint32_t b = 0; b < group->count; b++) {
        uint32_t entries = 1 + (uint32_t)draw(6);
        group->bytes[b] = 0;
        while (entries-- > 0 && group->bytes[b] + 2500 < BLOCK_MAX) {
            uint32_t p = (uint32_t)draw(PARTITIONS);
            group->bytes[b] +=
                put_entry(group->blocks[b] + group->bytes[b], p, h->now.written[p]++, 0);
        }
    }
}

// What was flushed is not written again.
static int write_group(struct rml_journal *journal, struct group *group)
{
    int rc = 0;
    for (uint32_t b = group->flushed; rc == 0 && b < group->count; b++) {
        rc = rml_journal_write(journal, group->blocks[b], group->bytes[b], NULL);
        if (rc == -EAGAIN && rml_journal_flush(journal, NULL) == 0) {
            group->flushed = b;
            rc = rml_journal_write(journal, group->blocks[b], group->bytes[b], NULL);
        }
    }
    return rc == 0 ? rml_journal_flush(journal, NULL) : rc;
}

static void cover(struct history *h, struct rml_journal *journal)
{
    memcpy(h->now.before, h->now.covered, sizeof h->now.before);
    memcpy(h->now.covered, h->now.durable, sizeof h->now.covered);
    mark(h);  // the checkpoint is durable before the journal hears of it
    rml_journal_cover(journal, h->now.covered);
}

static const struct tape_fault faults[] = {
    {.how = TAPE_SHORT, .after = 1},
    {.how = TAPE_NOT, .error = EIO, .after = 1},
    {.how = TAPE_NOT_SURE, .error = EIO},
    {.is_flush = true, .how = TAPE_NOT, .error = EIO},
    {.is_flush = true, .how = TAPE_NOT_SURE, .error = EIO},
    {.how = TAPE_NOT, .error = ENOSPC},
    {.is_flush = true, .how = TAPE_NOT, .error = EIO, .times = 3},
};

static void give_group(struct history *h, struct rml_journal *journal)
{
    struct group group;
    make_group(h, &group);
    mark(h);
    for (int tries = 0;; tries++) {
        int rc = write_group(journal, &group);
        if (rc == 0)
            break;
        assert_true(tries < 20);
        if (rc == -ENOSPC || draw(3) == 0)
            cover(h, journal);
        struct rml_err err = {0};
        if (rml_journal_renew(journal, &err) < 0)
            fail_msg("%s", err.text);
    }
    memcpy(h->now.durable, h->now.written, sizeof h->now.durable);
    mark(h);
}

// One that is killed while it makes sure of the end, before its flush; or whose flush fails.
static void open_and_die(const char *folder, const struct rml_journal_options *options)
{
    static const struct tape_fault flush = {.is_flush = true, .how = TAPE_NOT, .error = EIO};
    struct rml_journal *journal;
    tape_arm(flush);
    if (rml_journal_open(&journal, folder, options, NULL) == 0)
        rml_journal_close(journal);
    tape_disarm();
}

// A process that is killed with a block on its way: what the next one finds, it makes durable.
static struct rml_journal *start_again(struct history *h, struct rml_journal *journal,
                                       const char *folder,
                                       const struct rml_journal_options *options)
{
    struct group group;
    make_group(h, &group);
    mark(h);
    bool is_there = rml_journal_write(journal, group.blocks[0], group.bytes[0], NULL) == 0;
    rml_journal_close(journal);
    if (draw(3) == 0)
        open_and_die(folder, options);
    journal = open_journal(folder, options);
    memcpy(h->now.written, h->now.durable, sizeof h->now.written);
    for (uint32_t at = 0; is_there && at < group.bytes[0];) {
        const struct rml_journal_entry *entry = (const void *)(group.blocks[0] + at);
        h->now.written[entry->partition] = entry->position + 1;
        at += entry->bytes;
    }
    memcpy(h->now.durable, h->now.written, sizeof h->now.durable);
    mark(h);
    return journal;
}

/* What comes to pass in a history, and how often: once in so many groups. */
struct habits {
    const struct rml_disk_way *const *ways;
    bool with_faults;
    uint32_t cover, kill;
};

static const struct habits usual = {.ways = tape_ways, .cover = 12, .kill = 30};

/* Groups, checkpoints, restarts, all on tape. */
static struct tape record(struct history *h, const struct habits *habits, unsigned broken)
{
    struct folder folder = folder_make("/tmp");
    struct rml_journal_options options = options_of(habits->ways, h->now.covered, broken);
    memset(h, 0, sizeof *h);
    tape_start(folder.path);
    struct rml_journal *journal = open_journal(folder.path, &options);
    for (uint32_t i = 0; i < GROUPS; i++) {
        if (habits->with_faults && i % 5 == 4)
            tape_arm(faults[draw(sizeof faults / sizeof faults[0])]);
        give_group(h, journal);
        tape_disarm();
        if (draw(habits->cover) == 0)
            cover(h, journal);
        if (draw(habits->kill) == 0)
            journal = start_again(h, journal, folder.path, &options);
    }
    rml_journal_close(journal);
    folder_remove(&folder);
    return tape_stop();
}

/* What is read back */

struct reading {
    const struct moment *moment;
    uint64_t begin[PARTITIONS], end[PARTITIONS];
    bool has[PARTITIONS];
    uint64_t salted_from[PARTITIONS];  // entries of another life are from here on
    const char *wrong;
};

static int read_one(void *context, const struct rml_journal_entry *entry, struct rml_err *err)
{
    (void)err;
    struct reading *r = context;
    uint32_t p = entry->partition;
    bool is_later = entry->position >= r->salted_from[p];
    if (!is_as_written(entry, is_later ? 1 : 0))
        r->wrong = "an entry that nobody wrote";
    if (!r->has[p])
        r->begin[p] = entry->position;
    else if (entry->position != r->end[p])
        r->wrong = entry->position < r->end[p] ? "an entry twice" : "a gap";
    r->has[p] = true;
    r->end[p] = entry->position + 1;
    return 0;
}

static struct reading read_all(struct rml_journal *journal, const struct moment *moment,
                               const uint64_t *salted_from)
{
    struct reading r = {.moment = moment};
    for (uint32_t p = 0; p < PARTITIONS; p++)
        r.salted_from[p] = salted_from != NULL ? salted_from[p] : UINT64_MAX;
    struct rml_err err = {0};
    if (rml_journal_read(journal, read_one, &r, &err) < 0)
        r.wrong = "it cannot be read";
    return r;
}

// Nothing that was durable and is not covered is missing, and nothing is there that was not written.
static void judge(struct reading *r)
{
    const struct moment *m = r->moment;
    for (uint32_t p = 0; p < PARTITIONS && r->wrong == NULL; p++) {
        if (!r->has[p] && m->durable[p] > m->before[p])
            r->wrong = "nothing is left";
        else if (r->has[p] && r->begin[p] > m->before[p])
            r->wrong = "the beginning is missing";
        else if (r->has[p] && r->end[p] < m->durable[p])
            r->wrong = "the end is missing";
        else if (r->has[p] && r->end[p] > m->written[p])
            r->wrong = "what was never written";
    }
}

// Another life goes on from there, with entries of its own at the same positions as those that were lost.
static const char *go_on(const char *folder, const struct moment *moment, const struct reading *was)
{
    const struct rml_journal_options options = options_of(NULL, moment->covered, 0);
    struct rml_journal *journal;
    uint64_t from[PARTITIONS];
    _Alignas(8) unsigned char block[BLOCK_MAX];
    if (rml_journal_open(&journal, folder, &options, NULL) < 0)
        return "it cannot be opened again";
    const char *wrong = NULL;
    for (uint32_t p = 0; p < PARTITIONS && wrong == NULL; p++) {
        from[p] = was->has[p] ? was->end[p] : moment->covered[p];
        uint32_t bytes = put_entry(block, p, from[p], 1);
        int rc = rml_journal_write(journal, block, bytes, NULL);
        if (rc == -ENOSPC) {  // full, as it may be
            rml_journal_close(journal);
            return NULL;
        }
        if (rc < 0 || rml_journal_flush(journal, NULL) < 0)
            wrong = "nothing can be written";
    }
    rml_journal_close(journal);
    if (wrong != NULL || rml_journal_open(&journal, folder, &options, NULL) < 0)
        return wrong != NULL ? wrong : "it cannot be opened any more";
    struct reading r = read_all(journal, moment, from);
    for (uint32_t p = 0; p < PARTITIONS && r.wrong == NULL; p++) {
        if (r.end[p] != from[p] + 1 || (was->has[p] && r.begin[p] != was->begin[p]))
            r.wrong = "what was written later is not there";
    }
    rml_journal_close(journal);
    return r.wrong;
}

struct outcome {
    uint32_t images, refused, wrong;
    char first[700];
};

static void check_image(const char *folder, const struct moment *moment, unsigned broken,
                        struct outcome *outcome)
{
    static const struct rml_disk_way *const plain[] = {&rml_disk_way_buffered, NULL};
    const struct rml_journal_options options =
        options_of(plain, moment->covered,
                   broken & (RML_JOURNAL_BELIEVES_BLOCKS | RML_JOURNAL_BELIEVES_BEHIND));
    struct rml_journal *journal;
    struct rml_err err = {0};
    outcome->images++;
    const char *what = NULL;
    if (rml_journal_open(&journal, folder, &options, &err) < 0) {
        outcome->refused++;
        what = err.text;
    } else {
        struct reading r = read_all(journal, moment, NULL);
        judge(&r);
        rml_journal_close(journal);
        if (r.wrong == NULL && outcome->images % 8 == 0)
            r.wrong = go_on(folder, moment, &r);
        outcome->wrong += r.wrong != NULL;
        what = r.wrong;
    }
    if (what != NULL && outcome->first[0] == '\0')
        snprintf(outcome->first, sizeof outcome->first, "image %u: %s", outcome->images, what);
}

static void lose_power(const struct history *h, const struct tape *tape, unsigned broken,
                       uint64_t wanted, bool first_is_enough, struct outcome *outcome)
{
    static const struct moment nothing;
    struct folder folder = folder_make("/dev/shm");
    struct crash *crash = crash_open(tape);
    const struct moment *moment = &nothing;
    for (size_t at = 0; at < tape->count; at++) {
        crash_step(crash);
        if (tape->events[at].kind == TAPE_MARK)
            moment = &h->moments[tape->events[at].mark];
        uint64_t due = wanted * (at + 1) / tape->count - wanted * at / tape->count;
        for (; due > 0 && !(first_is_enough && outcome->first[0] != '\0'); due--) {
            crash_draw(crash, folder.path, &seed);
            check_image(folder.path, moment, broken, outcome);
            folder_empty(&folder);
        }
    }
    crash_close(crash);
    folder_remove(&folder);
}

static uint32_t losses(void)
{
    const char *set = getenv("RML_POWER_LOSSES");
    return set != NULL ? (uint32_t)strtoul(set, NULL, 10) : LOSSES;
}

static void nothing_is_lost(const struct habits *habits, uint32_t wanted)
{
    static struct history h;
    struct outcome outcome = {0};
    uint32_t histories = habits->with_faults || habits->kill < 30 ? 6 : 3;
    for (uint32_t i = 0; i < histories; i++) {
        struct tape tape = record(&h, habits, 0);
        lose_power(&h, &tape, 0, wanted / histories, false, &outcome);
        tape_free(&tape);
    }
    print_message("%u images\n", outcome.images);
    if (outcome.refused + outcome.wrong > 0)
        fail_msg("%u refused, %u wrong; the first: %s", outcome.refused, outcome.wrong,
                 outcome.first);
}

static void a_loss_of_power_leaves_every_entry_that_was_durable(void **state)
{
    (void)state;
    nothing_is_lost(&usual, losses() / 2);
}

static void so_it_does_through_the_page_cache(void **state)
{
    (void)state;
    const struct habits habits = {.ways = tape_ways + 2, .cover = 12, .kill = 30};
    nothing_is_lost(&habits, losses() / 4);
}

static void so_it_does_after_writes_and_flushes_that_failed(void **state)
{
    (void)state;
    const struct habits habits = {.ways = tape_ways, .with_faults = true, .cover = 12, .kill = 30};
    nothing_is_lost(&habits, losses() / 4);
}

// What a checkpoint freed was needed until a flush said that it is not.
static void so_it_does_after_kills_behind_checkpoints(void **state)
{
    (void)state;
    const struct habits habits = {.ways = tape_ways, .cover = 3, .kill = 3};
    nothing_is_lost(&habits, losses() / 4);
}

// A rule is broken on purpose, and this finds it.
static void is_noticed(unsigned broken)
{
    static struct history h;
    struct outcome outcome = {0};
    for (int i = 0; i < 20 && outcome.first[0] == '\0'; i++) {
        struct tape tape = record(&h, &usual, broken);
        lose_power(&h, &tape, broken, 2 * tape.count, true, &outcome);
        tape_free(&tape);
    }
    print_message("after %u images: %s\n", outcome.images, outcome.first);
    assert_true(outcome.first[0] != '\0');
}

static void an_acknowledgement_before_the_flush_is_noticed(void **state)
{
    (void)state;
    is_noticed(RML_JOURNAL_ACKNOWLEDGES_EARLY);
}

static void blocks_that_are_believed_without_check_sum_are_noticed(void **state)
{
    (void)state;
    is_noticed(RML_JOURNAL_BELIEVES_BLOCKS);
}

static void segments_that_are_used_again_early_are_noticed(void **state)
{
    (void)state;
    is_noticed(RML_JOURNAL_USES_AGAIN_EARLY);
}

static void blocks_that_are_believed_behind_a_torn_one_are_noticed(void **state)
{
    (void)state;
    is_noticed(RML_JOURNAL_BELIEVES_BEHIND);
}

/* Without a loss of power */

static const uint64_t nothing_covered[PARTITIONS];

struct place {
    struct folder folder;
    struct rml_journal_options options;
    struct rml_journal *journal;
    uint64_t next;  // entry of partition 0
};

static struct place place_make(void)
{
    struct place place = {.folder = folder_make("/tmp"),
                          .options = options_of(NULL, nothing_covered, 0)};
    place.journal = open_journal(place.folder.path, &place.options);
    return place;
}

static void place_remove(struct place *place)
{
    rml_journal_close(place->journal);
    folder_remove(&place->folder);
}

static int put(struct place *place, struct rml_err *err)
{
    _Alignas(8) unsigned char block[BLOCK_MAX];
    uint32_t bytes = put_entry(block, 0, place->next, 0);
    int rc = rml_journal_write(place->journal, block, bytes, err);
    if (rc == 0)
        rc = rml_journal_flush(place->journal, err);
    place->next += rc == 0;
    return rc;
}

static int open_again(struct place *place, struct rml_err *err)
{
    rml_journal_close(place->journal);
    place->journal = NULL;
    return rml_journal_open(&place->journal, place->folder.path, &place->options, err);
}

static uint64_t count_entries(struct place *place)
{
    const struct moment any = {.written = {UINT64_MAX}};
    struct reading r = read_all(place->journal, &any, NULL);
    assert_null(r.wrong);
    return r.has[0] ? r.end[0] - r.begin[0] : 0;
}

static void flip(const struct place *place, off_t at)
{
    int fd = open(folder_file(&place->folder, RML_JOURNAL_FILE), O_RDWR);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void what_was_written_is_read_again(void **state)
{
    (void)state;
    struct place place = place_make();
    for (int i = 0; i < 20; i++)
        assert_int_equal(put(&place, NULL), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(open_again(&place, NULL), 0);
        assert_int_equal(count_entries(&place), 20 + i);
        assert_int_equal(put(&place, NULL), 0);
    }
    place_remove(&place);
}

static void opening_again_and_again_takes_no_more_room(void **state)
{
    (void)state;
    struct place place = place_make();
    assert_int_equal(put(&place, NULL), 0);
    uint64_t bytes = rml_journal_room(place.journal).file_bytes;
    for (int i = 0; i < 100; i++)
        assert_int_equal(open_again(&place, NULL), 0);
    assert_int_equal(count_entries(&place), 1);
    assert_int_equal(rml_journal_room(place.journal).file_bytes, bytes);
    place_remove(&place);
}

static void another_life_believes_nothing_of_it(void **state)
{
    (void)state;
    struct place place = place_make();
    for (int i = 0; i < 10; i++)
        assert_int_equal(put(&place, NULL), 0);
    place.options.life = 8;
    assert_int_equal(open_again(&place, NULL), 0);
    assert_int_equal(count_entries(&place), 0);
    place.next = 0;
    assert_int_equal(put(&place, NULL), 0);
    assert_int_equal(open_again(&place, NULL), 0);
    assert_int_equal(count_entries(&place), 1);
    place_remove(&place);
}

static void a_full_journal_has_room_once_two_checkpoints_cover_it(void **state)
{
    (void)state;
    struct place place = place_make();
    struct rml_err err = {0};
    int rc;
    while ((rc = put(&place, &err)) == 0)
        assert_true(place.next < ENTRIES);
    assert_int_equal(rc, -ENOSPC);
    assert_non_null(strstr(err.text, "until checkpoints cover it"));
    const uint64_t covered[PARTITIONS] = {place.next, 0, 0};
    rml_journal_cover(place.journal, covered);
    assert_int_equal(put(&place, NULL), -ENOSPC);  // the one before covers nothing
    rml_journal_cover(place.journal, covered);
    assert_int_equal(put(&place, NULL), 0);
    assert_int_equal(open_again(&place, NULL), 0);
    assert_int_equal(rml_journal_room(place.journal).used_bytes, 2 * SEGMENT);
    place_remove(&place);
}

// A block of 8 KiB.
static int put_large(struct place *place)
{
    _Alignas(8) unsigned char block[8000];
    uint32_t bytes = 0;
    uint64_t next = place->next;
    while (bytes <= 4096)
        bytes += put_entry(block + bytes, 0, next++, 0);
    int rc = rml_journal_write(place->journal, block, bytes, NULL);
    if (rc == 0)
        rc = rml_journal_flush(place->journal, NULL);
    if (rc == 0)
        place->next = next;
    return rc;
}

// By both of the checkpoints that are kept.
static void cover_all(struct place *place)
{
    const uint64_t covered[PARTITIONS] = {place->next, 0, 0};
    for (int i = 0; i < 2; i++)
        rml_journal_cover(place->journal, covered);
}

// It waits for a block that says so, and the number of that is another once the group is written again, in larger blocks.
static void what_is_covered_while_a_group_fails_is_used_again(void **state)
{
    (void)state;
    struct place place = {.folder = folder_make("/tmp"),
                          .options = options_of(NULL, nothing_covered, 0)};
    place.options.max_bytes = 3 * SEGMENT;
    place.journal = open_journal(place.folder.path, &place.options);
    for (uint32_t i = 0; i < SEGMENT / 4096 + 1; i++)
        assert_int_equal(put(&place, NULL), 0);
    for (uint64_t next = place.next; next < place.next + 6; next++) {
        _Alignas(8) unsigned char block[BLOCK_MAX];
        uint32_t bytes = put_entry(block, 0, next, 0);
        assert_int_equal(rml_journal_write(place.journal, block, bytes, NULL), 0);
    }
    cover_all(&place);
    assert_int_equal(rml_journal_renew(place.journal, NULL), 0);
    for (uint32_t i = 0; i < 40; i++) {
        int rc = put_large(&place);
        if (rc == -ENOSPC) {
            cover_all(&place);
            rc = put_large(&place);
        }
        assert_int_equal(rc, 0);
    }
    place_remove(&place);
}

// As where the flush failed that was to make the file longer, and a process after that believed its length.
static void what_was_flushed_into_a_segment_that_is_cut_short_is_read(void **state)
{
    (void)state;
    const uint32_t in_segment = SEGMENT / 4096;
    struct place place = {.folder = folder_make("/tmp"),
                          .options = options_of(NULL, nothing_covered, 0)};
    place.options.max_bytes = 3 * SEGMENT;
    place.journal = open_journal(place.folder.path, &place.options);
    for (uint32_t i = 0; i < 2 * in_segment; i++)
        assert_int_equal(put(&place, NULL), 0);
    assert_int_equal(put(&place, NULL), -ENOSPC);
    cover_all(&place);
    assert_int_equal(put(&place, NULL), 0);  // in the last
    const off_t end = (256 << 10) + 3 * (off_t)SEGMENT;
    assert_int_equal(truncate(folder_file(&place.folder, RML_JOURNAL_FILE), end - 512), 0);
    assert_int_equal(open_again(&place, NULL), 0);
    assert_int_equal(count_entries(&place), in_segment + 1);
    cover_all(&place);
    for (uint32_t i = 0; i < 4 * in_segment; i++) {  // all around, and through it again
        int rc = put(&place, NULL);
        if (rc == -ENOSPC)
            cover_all(&place);
        assert_int_equal(rc == -ENOSPC ? put(&place, NULL) : rc, 0);
        assert_int_equal(rml_journal_renew(place.journal, NULL), 0);
    }
    place_remove(&place);
}

// The first segment begins at 256 KiB; each block here has 4 KiB.
static void damage_in_what_was_flushed_is_named_and_no_end(void **state)
{
    (void)state;
    struct place place = place_make();
    for (int i = 0; i < 20; i++)
        assert_int_equal(put(&place, NULL), 0);
    for (int block = 0; block < 19; block++) {
        off_t at = (256 << 10) + block * 4096 + 130;
        flip(&place, at);
        struct rml_err err = {0};
        assert_int_equal(open_again(&place, &err), -EBADMSG);
        char number[40];
        snprintf(number, sizeof number, "block %d was written", block + 1);
        assert_non_null(strstr(err.text, number));
        flip(&place, at);
    }
    // Of the last one nobody can say so: it is where the power went.
    flip(&place, (256 << 10) + 19 * 4096 + 130);
    assert_int_equal(open_again(&place, NULL), 0);
    assert_int_equal(count_entries(&place), 19);
    place_remove(&place);
}

static void another_format_is_refused_by_its_number(void **state)
{
    (void)state;
    struct place place = place_make();
    assert_int_equal(put(&place, NULL), 0);
    flip(&place, 8);
    struct rml_err err = {0};
    assert_int_equal(open_again(&place, &err), -EPROTONOSUPPORT);
    assert_non_null(strstr(err.text, "format 5, and this program reads format 1"));
    flip(&place, 8);
    flip(&place, 20);
    assert_int_equal(open_again(&place, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "damaged at byte 0"));
    place_remove(&place);
}

static void a_journal_of_another_folder_or_pipeline_is_refused(void **state)
{
    (void)state;
    struct place place = place_make();
    assert_int_equal(put(&place, NULL), 0);
    struct rml_err err = {0};
    place.options.identity++;
    assert_int_equal(open_again(&place, &err), -EINVAL);
    assert_non_null(strstr(err.text, "before they were changed"));
    place.options.identity--;
    place.options.vault[3]++;
    assert_int_equal(open_again(&place, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "another state folder"));
    place_remove(&place);
}

static void nobody_else_opens_it_meanwhile(void **state)
{
    (void)state;
    struct place place = place_make();
    struct rml_journal *other;
    assert_int_equal(rml_journal_open(&other, place.folder.path, &place.options, NULL), -EBUSY);
    place_remove(&place);
}

static void a_group_that_failed_is_written_to_another_segment(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct place place = {.folder = folder_make("/tmp")};
        place.options = options_of(tape_ways, nothing_covered, 0);
        place.journal = open_journal(place.folder.path, &place.options);
        for (int k = 0; k < 3; k++)
            assert_int_equal(put(&place, NULL), 0);
        uint64_t used = rml_journal_room(place.journal).used_bytes;
        tape_arm(faults[i]);
        for (int tries = 0; tries < 6 && place.next < 6; tries++) {
            struct rml_err err = {0};
            if (put(&place, &err) < 0) {
                assert_true(err.text[0] != '\0');
                assert_int_equal(rml_journal_renew(place.journal, NULL), 0);
            }
        }
        assert_true(tape_fault_met() > 0);
        tape_disarm();
        assert_int_equal(place.next, 6);
        if (faults[i].how != TAPE_SHORT)
            assert_true(rml_journal_room(place.journal).used_bytes > used);
        assert_int_equal(open_again(&place, NULL), 0);
        assert_int_equal(count_entries(&place), 6);
        place_remove(&place);
    }
}

static void a_disk_that_is_full_leaves_what_there_is_as_it_was(void **state)
{
    (void)state;
    struct place place = {.folder = folder_make("/tmp")};
    place.options = options_of(tape_ways, nothing_covered, 0);
    place.journal = open_journal(place.folder.path, &place.options);
    while (rml_journal_room(place.journal).used_bytes < SEGMENT
           || place.next % 8 != 0)  // its segment is full, and the file has to grow
        assert_int_equal(put(&place, NULL), 0);
    tape_arm((struct tape_fault){.how = TAPE_NOT, .error = ENOSPC, .times = 2});
    struct rml_err err = {0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(put(&place, &err), -ENOSPC);
        assert_non_null(strstr(err.text, "cannot make room"));
    }
    tape_disarm();
    assert_int_equal(put(&place, NULL), 0);
    assert_int_equal(open_again(&place, NULL), 0);
    assert_int_equal(count_entries(&place), 9);
    place_remove(&place);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        CLAIM(what_was_written_is_read_again),
        CLAIM(opening_again_and_again_takes_no_more_room),
        CLAIM(another_life_believes_nothing_of_it),
        CLAIM(a_full_journal_has_room_once_two_checkpoints_cover_it),
        CLAIM(what_is_covered_while_a_group_fails_is_used_again),
        CLAIM(what_was_flushed_into_a_segment_that_is_cut_short_is_read),
        CLAIM(damage_in_what_was_flushed_is_named_and_no_end),
        CLAIM(another_format_is_refused_by_its_number),
        CLAIM(a_journal_of_another_folder_or_pipeline_is_refused),
        CLAIM(nobody_else_opens_it_meanwhile),
        CLAIM(a_group_that_failed_is_written_to_another_segment),
        CLAIM(a_disk_that_is_full_leaves_what_there_is_as_it_was),
        CLAIM(an_acknowledgement_before_the_flush_is_noticed),
        CLAIM(blocks_that_are_believed_without_check_sum_are_noticed),
        CLAIM(segments_that_are_used_again_early_are_noticed),
        CLAIM(blocks_that_are_believed_behind_a_torn_one_are_noticed),
        CLAIM(a_loss_of_power_leaves_every_entry_that_was_durable),
        CLAIM(so_it_does_through_the_page_cache),
        CLAIM(so_it_does_after_writes_and_flushes_that_failed),
        CLAIM(so_it_does_after_kills_behind_checkpoints),
    };
    seed = rml_test_seed();
    return cmocka_run_group_tests(claims, NULL, NULL);
}
