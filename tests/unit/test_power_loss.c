/*
 * What a state directory holds after the power went, at any moment of a history of checkpoints that goes
 * well and badly. All that was written is on a tape; what may be left of it is drawn, opened, and
 * compared with what was to be there.
 *
 *     RML_POWER_LOSSES=50000 test_power_loss      so many of them; some thousands without
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/crash.h"
#include "tests/support/folder.h"
#include "tests/support/history.h"
#include "tests/support/tape.h"
#include "tests/support/test.h"

#define LOSSES      (RML_TEST_SLOW ? 300u : 4800u)
#define CHECKPOINTS 7u
#define PIECE_BYTES (150u << 10)

/* What the marks on a tape say: an epoch, and one of these. */
enum mark { MARK_COMMITTING, MARK_COMMITTED, MARK_GIVEN_UP, MARK_OPENED };

static const struct rml_disk_way *const to_memory[] = {&rml_disk_way_pwrite, &rml_disk_way_buffered,
                                                       NULL};

static uint64_t seed;

static void mark(uint64_t epoch, enum mark what)
{
    tape_mark(epoch << 2 | what);
}

static struct rml_vault_options options_of(const struct rml_disk_way *const *ways, unsigned broken)
{
    return (struct rml_vault_options){
        .ways = ways,
        .first_bytes = RML_EXTENT_GRANULE_BYTES,
        .step_bytes = RML_EXTENT_GRANULE_BYTES,
        .catalog_bytes = 1 << 20,
        .broken_rules = broken,
    };
}

static struct rml_vault *open_vault(const char *folder, const struct rml_vault_options *options)
{
    struct rml_vault *vault;
    struct rml_err err = {0};
    if (rml_vault_open(&vault, folder, options, &err) < 0)
        fail_msg("%s", err.text);
    return vault;
}

/* Errors, one in some checkpoints: none, of the extent file, of the catalog's file. */
static const struct tape_fault faults[] = {
    {.where = TAPE_EXTENTS, .how = TAPE_SHORT, .after = 1},
    {.where = TAPE_EXTENTS, .how = TAPE_NOT, .error = EIO, .after = 1},
    {.where = TAPE_EXTENTS, .how = TAPE_NOT_SURE, .error = EIO},
    {.where = TAPE_EXTENTS, .is_flush = true, .how = TAPE_NOT, .error = EIO},
    {.where = TAPE_CATALOG, .how = TAPE_NOT, .error = ENOSPC},
    {.where = TAPE_CATALOG, .how = TAPE_NOT_SURE, .error = EIO, .after = 1},
    {.where = TAPE_CATALOG, .how = TAPE_NOT, .error = EIO, .after = 1},
    {.where = TAPE_CATALOG, .is_flush = true, .how = TAPE_NOT, .error = EIO},
};

#define FAULTS ((uint32_t)(sizeof faults / sizeof faults[0]))

static void make_checkpoint(struct history *h, struct rml_vault *vault)
{
    uint64_t epoch;
    struct rml_err err = {0};
    int rc = history_write(h, vault, &epoch, &err);
    mark(epoch, MARK_COMMITTING);
    int committed = rml_vault_commit(vault, &err);
    assert_true(rc == 0 || committed < 0);
    mark(epoch, committed == 0 ? MARK_COMMITTED : MARK_GIVEN_UP);
    if (committed == 0)
        history_committed(h, epoch);
}

/* Seven checkpoints and a restart in their midst, all on tape. With faults, every other one meets one. */
static struct tape record(struct history *h, const struct rml_disk_way *const *ways,
                          unsigned broken, uint32_t fault_from, bool with_faults)
{
    struct folder folder = folder_make("/tmp");
    const struct rml_vault_options options = options_of(ways, broken);
    memset(h, 0, sizeof *h);
    h->seed = rml_test_random(&seed);
    h->piece_bytes_max = PIECE_BYTES;
    tape_start(folder.path);
    struct rml_vault *vault = open_vault(folder.path, &options);
    mark(0, MARK_OPENED);
    for (uint32_t i = 0; i < CHECKPOINTS; i++) {
        if (with_faults && i % 2 == 1)
            tape_arm(faults[(fault_from + i / 2) % FAULTS]);
        make_checkpoint(h, vault);
        tape_disarm();
        if (i == CHECKPOINTS / 2 || rml_vault_has_failed(vault)) {
            rml_vault_close(vault);
            vault = open_vault(folder.path, &options);
        }
    }
    rml_vault_close(vault);
    folder_remove(&folder);
    return tape_stop();
}

/* What may be newest after a loss of power. */
struct allowed {
    bool is_opened;
    uint64_t committed, committing;
};

static void take_mark(struct allowed *allowed, uint64_t what)
{
    uint64_t epoch = what >> 2;
    switch ((enum mark)(what & 3)) {
    case MARK_OPENED:
        allowed->is_opened = true;
        break;
    case MARK_COMMITTING:
        allowed->committing = epoch;
        break;
    case MARK_COMMITTED:
        allowed->committed = epoch;
        allowed->committing = 0;
        break;
    case MARK_GIVEN_UP:
        allowed->committing = 0;
        break;
    }
}

// The vault as it came up: the newest checkpoint, and every other that is kept.
static enum history_verdict check_vault(const struct history *h, struct rml_vault *vault,
                                        const struct allowed *allowed, uint64_t *ret_epoch,
                                        struct rml_err *err)
{
    const struct rml_manifest *newest;
    int rc = rml_vault_newest(vault, &newest, err);
    *ret_epoch = 0;
    if (rc == -ENOENT)
        return allowed->committed == 0 ? HISTORY_AS_WRITTEN : HISTORY_WRONG;
    if (rc < 0)
        return HISTORY_REFUSED;
    *ret_epoch = newest->epoch;
    if (newest->epoch != allowed->committed && newest->epoch != allowed->committing)
        return HISTORY_WRONG;
    enum history_verdict verdict = HISTORY_AS_WRITTEN;
    for (uint64_t epoch = newest->epoch; epoch > 0 && verdict == HISTORY_AS_WRITTEN; epoch--)
        if (rml_vault_kept(vault, epoch) != NULL)
            verdict = history_check(h, vault, epoch, err);
    return verdict;
}

// Life goes on: one more checkpoint, and it is there.
static enum history_verdict go_on(const struct history *h, const char *folder,
                                  const struct rml_vault_options *options, uint64_t newest,
                                  struct rml_err *err)
{
    struct history after = *h;
    history_go_to(&after, newest);
    struct rml_vault *vault;
    if (rml_vault_open(&vault, folder, options, err) < 0)
        return HISTORY_REFUSED;
    uint64_t epoch;
    enum history_verdict verdict = HISTORY_REFUSED;
    if (history_write(&after, vault, &epoch, err) == 0 && rml_vault_commit(vault, err) == 0)
        verdict = HISTORY_AS_WRITTEN;
    rml_vault_close(vault);
    if (verdict != HISTORY_AS_WRITTEN || rml_vault_open(&vault, folder, options, err) < 0)
        return HISTORY_REFUSED;
    verdict = history_check(&after, vault, epoch, err);
    if (verdict == HISTORY_AS_WRITTEN && newest != 0)
        verdict = history_check(&after, vault, newest, err);
    rml_vault_close(vault);
    return verdict == HISTORY_AS_WRITTEN ? history_check_rows(&after, folder, epoch, err) : verdict;
}

static enum history_verdict check_image(const struct history *h, const char *folder,
                                        unsigned broken, const struct allowed *allowed,
                                        bool goes_on, struct rml_err *err)
{
    const struct rml_vault_options options =
        options_of(to_memory, broken & RML_VAULT_BELIEVES_EXTENTS);
    struct rml_vault *vault;
    uint64_t newest;
    if (rml_vault_open(&vault, folder, &options, err) < 0)
        return HISTORY_REFUSED;
    enum history_verdict verdict = check_vault(h, vault, allowed, &newest, err);
    rml_vault_close(vault);
    if (verdict == HISTORY_AS_WRITTEN && newest != 0)
        verdict = history_check_rows(h, folder, newest, err);
    if (verdict == HISTORY_AS_WRITTEN && goes_on)
        verdict = go_on(h, folder, &options, newest, err);
    return verdict;
}

struct outcome {
    uint32_t images, counts[HISTORY_WRONG + 1];
    bool saw_committing;  // one that had not returned was there after all
    char first[600];
};

/* So many images, evenly over the tape's events. With `ends_at` the first such verdict is enough. */
static void lose_power(const struct history *h, const struct tape *tape, unsigned broken,
                       uint64_t wanted, enum history_verdict ends_at, struct outcome *outcome)
{
    struct folder folder = folder_make("/dev/shm");
    struct crash *crash = crash_open(tape);
    struct allowed allowed = {0};
    for (size_t at = 0; at < tape->count; at++) {
        crash_step(crash);
        if (tape->events[at].kind == TAPE_MARK)
            take_mark(&allowed, tape->events[at].mark);
        uint64_t due = wanted * (at + 1) / tape->count - wanted * at / tape->count;
        for (; due > 0; due--) {
            struct rml_err err = {0};
            uint64_t drawn_from = seed;
            crash_draw(crash, folder.path, &seed);
            enum history_verdict verdict =
                check_image(h, folder.path, broken, &allowed, outcome->images % 8 == 0, &err);
            outcome->images++;
            if (verdict != HISTORY_AS_WRITTEN && outcome->first[0] == '\0')
                snprintf(outcome->first, sizeof outcome->first,
                         "after event %zu of %zu, image %llu, committed %llu, committing %llu: %s",
                         at, tape->count, (unsigned long long)drawn_from,
                         (unsigned long long)allowed.committed,
                         (unsigned long long)allowed.committing,
                         verdict == HISTORY_WRONG ? "what is there was never written" : err.text);
            outcome->counts[verdict]++;
            folder_empty(&folder);
            if (ends_at != HISTORY_AS_WRITTEN && verdict == ends_at) {
                at = tape->count - 1;
                break;
            }
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

// Histories of one kind until there were `wanted` images.
static void nothing_is_lost(const struct rml_disk_way *const *ways, bool with_faults,
                            uint32_t wanted)
{
    static struct history h;
    struct outcome outcome = {0};
    uint32_t histories = with_faults ? FAULTS : 2;
    for (uint32_t i = 0; i < histories; i++) {
        struct tape tape = record(&h, ways, 0, i, with_faults);
        lose_power(&h, &tape, 0, wanted / histories, HISTORY_AS_WRITTEN, &outcome);
        tape_free(&tape);
    }
    print_message("%u images\n", outcome.images);
    if (outcome.counts[HISTORY_AS_WRITTEN] != outcome.images)
        fail_msg("%u refused, %u wrong; the first %s", outcome.counts[HISTORY_REFUSED],
                 outcome.counts[HISTORY_WRONG], outcome.first);
}

static void a_loss_of_power_leaves_the_last_checkpoint_or_the_one_under_way(void **state)
{
    (void)state;
    nothing_is_lost(tape_ways, false, losses() / 2);
}

static void so_it_does_without_io_uring(void **state)
{
    (void)state;
    nothing_is_lost(tape_ways + 1, false, losses() / 8);
}

static void so_it_does_through_the_page_cache(void **state)
{
    (void)state;
    nothing_is_lost(tape_ways + 2, false, losses() / 8);
}

static void so_it_does_after_writes_and_flushes_that_failed(void **state)
{
    (void)state;
    nothing_is_lost(tape_ways, true, losses() / 4);
}

// A rule is broken on purpose, and this finds it.
static void is_noticed(unsigned broken, enum history_verdict as)
{
    static struct history h;
    struct outcome outcome = {0};
    for (int i = 0; i < 20 && outcome.counts[as] == 0; i++) {
        struct tape tape = record(&h, tape_ways, broken, 0, false);
        lose_power(&h, &tape, broken, tape.count, as, &outcome);
        tape_free(&tape);
    }
    print_message("after %u images: %s\n", outcome.images, outcome.first);
    assert_int_equal(outcome.counts[as], 1);
}

static void a_commit_before_the_flush_is_noticed(void **state)
{
    (void)state;
    is_noticed(RML_VAULT_COMMITS_BEFORE_FLUSH, HISTORY_REFUSED);
}

static void extents_that_are_released_early_are_noticed(void **state)
{
    (void)state;
    is_noticed(RML_VAULT_RELEASES_EARLY, HISTORY_REFUSED);
}

static void extents_that_are_believed_are_noticed(void **state)
{
    (void)state;
    is_noticed(RML_VAULT_COMMITS_BEFORE_FLUSH | RML_VAULT_BELIEVES_EXTENTS, HISTORY_WRONG);
}

/*
 * LMDB's part of the bargain, seen on the tape: what a transaction wrote is flushed before its meta page
 * is written, and that goes through to the disk.
 */
static void the_catalog_flushes_its_pages_before_its_meta_page(void **state)
{
    (void)state;
    static struct history h;
    struct tape tape = record(&h, tape_ways, 0, 0, false);
    uint32_t metas = 0;
    bool has_pages = false, is_flushed = false;
    for (size_t i = 0; i < tape.count; i++) {
        const struct tape_event *event = &tape.events[i];
        bool is_catalog = event->file == tape.files - 1;  // made last
        if (is_catalog && event->kind == TAPE_WRITE && event->offset >= 8192) {
            has_pages = true;
            is_flushed = false;
        }
        if (is_catalog && event->kind == TAPE_FLUSH_DONE)
            is_flushed = true;
        if (is_catalog && event->kind == TAPE_WRITE_SYNCED) {
            assert_true(tape.events[event->of].offset < 8192);
            assert_true(tape.events[event->of].offset % 512 + tape.events[event->of].bytes <= 512);
            assert_true(has_pages && is_flushed);
            metas++;
        }
    }
    tape_free(&tape);
    assert_int_equal(metas, CHECKPOINTS + 1);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        CLAIM(the_catalog_flushes_its_pages_before_its_meta_page),
        CLAIM(a_commit_before_the_flush_is_noticed),
        CLAIM(extents_that_are_released_early_are_noticed),
        CLAIM(extents_that_are_believed_are_noticed),
        CLAIM(a_loss_of_power_leaves_the_last_checkpoint_or_the_one_under_way),
        CLAIM(so_it_does_without_io_uring),
        CLAIM(so_it_does_through_the_page_cache),
        CLAIM(so_it_does_after_writes_and_flushes_that_failed),
    };
    seed = rml_test_seed();
    return cmocka_run_group_tests(claims, NULL, NULL);
}
