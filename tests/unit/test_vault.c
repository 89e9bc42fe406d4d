/*
 * The vault as its caller meets it, with errors of the disk and of LMDB on demand.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/folder.h"
#include "tests/support/history.h"
#include "tests/support/reader.h"
#include "tests/support/tape.h"
#include "tests/support/test.h"

static struct folder folder;
static struct rml_vault *vault;
static struct rml_vault_options options;
static struct history h;
static struct rml_err err;
static uint64_t seed;

static void open_vault(void)
{
    if (rml_vault_open(&vault, folder.path, &options, &err) < 0)
        fail_msg("%s", err.text);
}

static void close_vault(void)
{
    rml_vault_close(vault);
    vault = NULL;
}

// One more checkpoint, or why not.
static int checkpoint(uint64_t *ret_epoch)
{
    int rc = history_write(&h, vault, ret_epoch, &err);
    if (*ret_epoch == 0)
        return rc;
    rc = rml_vault_commit(vault, &err);
    if (rc == 0)
        history_committed(&h, *ret_epoch);
    return rc;
}

static uint64_t good_checkpoint(void)
{
    uint64_t epoch;
    if (checkpoint(&epoch) < 0)
        fail_msg("%s", err.text);
    return epoch;
}

static void is_as_written(uint64_t epoch)
{
    if (history_check(&h, vault, epoch, &err) != HISTORY_AS_WRITTEN)
        fail_msg("checkpoint %llu: %s", (unsigned long long)epoch, err.text);
}

static uint64_t newest_epoch(void)
{
    const struct rml_manifest *manifest;
    int rc = rml_vault_newest(vault, &manifest, &err);
    if (rc == -ENOENT)
        return 0;
    assert_int_equal(rc, 0);
    return manifest->epoch;
}

static void a_fresh_directory_holds_no_checkpoint(void **state)
{
    (void)state;
    const struct rml_manifest *manifest;
    assert_int_equal(rml_vault_newest(vault, &manifest, &err), -ENOENT);
    close_vault();
    open_vault();
    assert_int_equal(rml_vault_newest(vault, &manifest, &err), -ENOENT);
    assert_int_equal(rml_vault_go_back(vault, &err), -ENOENT);
}

static ino_t around;  // the folder that the directory lies in
static uint32_t around_flushes;

static void see_flushes(enum tape_call call, int fd, bool is_done)
{
    struct stat about;
    around_flushes +=
        call == TAPE_CALL_FLUSH && is_done && fstat(fd, &about) == 0 && about.st_ino == around;
}

// Who made the folder may have died before it was flushed.
static void the_name_of_a_new_directory_is_flushed_whoever_made_its_folder(void **state)
{
    (void)state;
    char path[sizeof folder.path + 8];
    struct stat about;
    assert_int_equal(stat(folder.path, &about), 0);
    around = about.st_ino;
    snprintf(path, sizeof path, "%s/mine", folder.path);
    assert_int_equal(mkdir(path, 0700), 0);
    close_vault();
    tape_watcher = see_flushes;
    for (uint32_t i = 0; i < 2; i++) {
        around_flushes = 0;
        assert_int_equal(rml_vault_open(&vault, path, &options, &err), 0);
        close_vault();
        assert_int_equal(around_flushes, i == 0);  // of one that is whole it has been done
    }
    tape_watcher = NULL;
    open_vault();
}

static void what_was_committed_is_read_back(void **state)
{
    (void)state;
    for (uint32_t way = 0; tape_ways[way] != NULL; way++)
        for (int i = 0; i < 3; i++) {
            close_vault();
            options.ways = tape_ways + way;
            open_vault();
            assert_string_equal(rml_vault_way(vault), tape_ways[way]->name);
            is_as_written(good_checkpoint());
            uint64_t epoch = good_checkpoint();
            close_vault();
            assert_int_equal(history_check_rows(&h, folder.path, epoch, &err), HISTORY_AS_WRITTEN);
            open_vault();
            assert_int_equal(newest_epoch(), epoch);
            is_as_written(epoch);
            is_as_written(epoch - 1);
        }
}

static void as_many_are_kept_as_was_asked_for(void **state)
{
    (void)state;
    close_vault();
    options.keep = 4;
    open_vault();
    uint64_t epoch = 0;
    for (int i = 0; i < 7; i++)
        epoch = good_checkpoint();
    for (uint64_t kept = epoch; kept > epoch - 4; kept--)
        is_as_written(kept);
    assert_null(rml_vault_kept(vault, epoch - 4));
    close_vault();
    options.keep = 2;
    open_vault();
    is_as_written(epoch);
    is_as_written(epoch - 1);
    assert_null(rml_vault_kept(vault, epoch - 2));
    epoch = good_checkpoint();
    close_vault();
    struct rml_checkpoints *seen;
    struct rml_checkpoint_info list[8];
    assert_int_equal(rml_checkpoints_open(&seen, folder.path, &err), 0);
    assert_int_equal(rml_checkpoints_list(seen, list, 8, &err), 2);
    assert_int_equal(list[1].epoch, epoch);
    rml_checkpoints_close(seen);
    open_vault();
}

static void space_is_used_again(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++)
        good_checkpoint();
    uint64_t file_bytes = rml_vault_room(vault).file_bytes;
    for (int i = 0; i < 40; i++)
        good_checkpoint();
    assert_true(rml_vault_room(vault).file_bytes <= 2 * file_bytes);
    assert_int_equal(rml_vault_room(vault).lost_bytes, 0);
}

static void one_large_append_becomes_extents_side_by_side(void **state)
{
    (void)state;
    const uint32_t bytes = (5u << 20) + 12345;
    unsigned char *memory = malloc(bytes);
    assert_non_null(memory);
    rml_test_bytes(&seed, memory, bytes);
    uint64_t epoch;
    assert_int_equal(rml_vault_begin(vault, 7, bytes, &epoch, &err), 0);
    assert_int_equal(rml_vault_append(vault, 5, memory, bytes, &err), 0);
    assert_int_equal(rml_vault_commit(vault, &err), 0);
    const struct rml_manifest *manifest = rml_vault_kept(vault, epoch);
    assert_int_equal(manifest->wall_ns, 7);
    assert_int_equal(manifest->part_count, 1);
    const struct rml_manifest_part *part = rml_manifest_find(manifest, 5);
    assert_int_equal(part->extent_count, 6);
    for (uint32_t i = 1; i < part->extent_count; i++)
        assert_int_equal(part->extents[i].offset,
                         part->extents[i - 1].offset + part->extents[i - 1].bytes);
    struct history_comparison c = {.expected = memory, .bytes = bytes};
    assert_int_equal(rml_vault_load(vault, epoch, 5, history_compare, &c, &err), 0);
    assert_int_equal(c.at, bytes);
    free(memory);
}

static void a_checkpoint_of_nothing_is_one(void **state)
{
    (void)state;
    uint64_t epoch;
    assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
    assert_int_equal(rml_vault_commit(vault, &err), 0);
    assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
    assert_int_equal(rml_vault_describe(vault, 9, "", 0, &err), 0);
    assert_int_equal(rml_vault_commit(vault, &err), 0);
    close_vault();
    open_vault();
    assert_int_equal(newest_epoch(), epoch);
    assert_int_equal(rml_vault_load(vault, epoch, 9, NULL, NULL, &err), 0);
    assert_int_equal(rml_vault_load(vault, epoch, 8, NULL, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.text, "has no partition 8"));
}

static void what_is_abandoned_leaves_nothing(void **state)
{
    (void)state;
    uint64_t epoch = good_checkpoint(), begun;
    uint64_t free_bytes = rml_vault_room(vault).free_bytes;
    assert_int_equal(history_write(&h, vault, &begun, &err), 0);
    rml_vault_abandon(vault);
    assert_int_equal(newest_epoch(), epoch);
    assert_true(rml_vault_room(vault).free_bytes >= free_bytes);
    assert_int_equal(rml_vault_room(vault).lost_bytes, 0);
    is_as_written(good_checkpoint());
    is_as_written(epoch);
}

/* The one that met the error does not exist, its room is not used again, and the next one is good. */
static void the_next_one_is_good(struct tape_fault fault, const char *sentence)
{
    uint64_t before = good_checkpoint(), failed;
    tape_arm(fault);
    assert_int_equal(checkpoint(&failed), -fault.error);
    assert_true(tape_fault_met() > 0);
    assert_non_null(strstr(err.text, sentence));
    tape_disarm();
    assert_int_equal(newest_epoch(), before);
    assert_null(rml_vault_kept(vault, failed));
    is_as_written(before);
    uint64_t lost_bytes = rml_vault_room(vault).lost_bytes;
    // a disk that was full before there was any room has taken none
    assert_true(lost_bytes > 0 || fault.error == ENOSPC);
    uint64_t after = good_checkpoint();
    assert_true(after > failed);
    is_as_written(after);
    is_as_written(before);
    assert_int_equal(rml_vault_room(vault).lost_bytes, lost_bytes);
    close_vault();
    open_vault();
    assert_int_equal(newest_epoch(), after);
    is_as_written(after);
    assert_int_equal(rml_vault_room(vault).lost_bytes, 0);
}

static void a_failed_write_abandons_the_checkpoint(void **state)
{
    (void)state;
    the_next_one_is_good(
        (struct tape_fault){.where = TAPE_EXTENTS, .how = TAPE_NOT, .error = EIO, .after = 1},
        "Input/output error");
}

static void a_failed_flush_abandons_the_checkpoint(void **state)
{
    (void)state;
    good_checkpoint();
    good_checkpoint();
    good_checkpoint();  // there is room now, and the flush is not one of growing
    the_next_one_is_good((struct tape_fault){.where = TAPE_EXTENTS, .is_flush = true, .error = EIO},
                         "");
}

static void a_full_disk_abandons_the_checkpoint(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        good_checkpoint();
    the_next_one_is_good(
        (struct tape_fault){.where = TAPE_EXTENTS, .how = TAPE_NOT, .error = ENOSPC, .times = 100},
        "No space left on device");
}

static void nothing_comes_of_a_way_that_is_out_of_step_before_it_is_opened_again(void **state)
{
    (void)state;
    options.lock_wait_ns = INT64_C(20000000000);  // until the kernel has taken the ring apart
    uint64_t before = good_checkpoint(), epoch;
    tape_arm((struct tape_fault){.where = TAPE_EXTENTS, .how = TAPE_UNSENT, .error = EAGAIN});
    assert_int_equal(checkpoint(&epoch), -EAGAIN);
    assert_true(rml_vault_has_failed(vault));
    tape_disarm();
    assert_int_equal(checkpoint(&epoch), -EIO);
    assert_non_null(strstr(err.text, "has failed: open it again"));
    close_vault();
    open_vault();
    assert_false(rml_vault_has_failed(vault));
    assert_int_equal(newest_epoch(), before);
    is_as_written(good_checkpoint());
    is_as_written(before);
}

static void errors_without_end_take_no_more_room_than_is_set(void **state)
{
    (void)state;
    close_vault();
    options.lost_bytes_max = 40 * RML_EXTENT_GRANULE_BYTES;
    open_vault();
    uint64_t before = good_checkpoint(), epoch, file_bytes = rml_vault_room(vault).file_bytes;
    for (uint32_t opened = 0; opened < 5; opened++) {
        uint32_t tries = 0;
        tape_arm((struct tape_fault){
            .where = TAPE_EXTENTS, .how = TAPE_NOT, .error = EIO, .times = UINT32_MAX});
        while (!rml_vault_has_failed(vault)) {
            assert_int_equal(checkpoint(&epoch), -EIO);
            assert_true(++tries < 100);
        }
        assert_true(tries > 1);
        assert_true(rml_vault_room(vault).file_bytes < file_bytes + 80 * RML_EXTENT_GRANULE_BYTES);
        tape_disarm();
        close_vault();
        open_vault();
        assert_int_equal(rml_vault_room(vault).lost_bytes, 0);
        assert_int_equal(newest_epoch(), before);
    }
    assert_int_equal(rml_vault_room(vault).file_bytes, file_bytes);
    is_as_written(before);
    is_as_written(good_checkpoint());
}

static void a_short_write_is_continued(void **state)
{
    (void)state;
    tape_arm((struct tape_fault){.where = TAPE_EXTENTS, .how = TAPE_SHORT, .times = 3});
    uint64_t epoch = good_checkpoint();
    assert_int_equal(tape_fault_met(), 3);
    is_as_written(epoch);
}

static void an_extent_file_at_its_limit_refuses_and_recovers(void **state)
{
    (void)state;
    close_vault();
    options.limit_bytes = 12 * RML_EXTENT_GRANULE_BYTES;
    open_vault();
    unsigned char *memory = calloc(1, 16 * RML_EXTENT_GRANULE_BYTES);
    assert_non_null(memory);
    uint64_t epoch;
    assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
    assert_int_equal(rml_vault_append(vault, 0, memory, 16 * RML_EXTENT_GRANULE_BYTES, &err),
                     -ENOSPC);
    assert_non_null(strstr(err.text, "may not grow past"));
    assert_int_equal(rml_vault_append(vault, 0, memory, 1, NULL), -ENOSPC);
    err.text[0] = '\0';
    assert_int_equal(rml_vault_commit(vault, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "may not grow past"));  // the first cause
    free(memory);
    close_vault();
    open_vault();
    is_as_written(good_checkpoint());
}

/* Every error of LMDB's commit: what is said afterwards is what is there, and stays there. */
static void an_unknown_outcome_is_found_out(void **state)
{
    (void)state;
    uint32_t committed = 0, refused = 0;
    for (int is_flush = 0; is_flush < 2; is_flush++)
        for (int how = TAPE_NOT; how <= TAPE_SHORT; how++)
            for (uint32_t after = 0; after < 4; after++) {
                uint64_t before = newest_epoch(), epoch;
                tape_arm((struct tape_fault){.where = TAPE_CATALOG,
                                             .is_flush = is_flush == 1,
                                             .how = (enum tape_how)how,
                                             .error = EIO,
                                             .after = after});
                int rc = checkpoint(&epoch);
                tape_disarm();
                assert_false(rml_vault_has_failed(vault));
                committed += rc == 0;
                refused += rc < 0;
                assert_int_equal(newest_epoch(), rc == 0 ? epoch : before);
                close_vault();
                open_vault();
                assert_int_equal(newest_epoch(), rc == 0 ? epoch : before);
                if (newest_epoch() != 0)
                    is_as_written(newest_epoch());
            }
    assert_true(refused > 3 && committed > 3);
}

static void a_catalog_that_cannot_be_read_again_has_failed(void **state)
{
    (void)state;
    uint64_t before = good_checkpoint(), epoch;
    tape_arm(
        (struct tape_fault){.where = TAPE_CATALOG, .is_flush = true, .error = EIO, .times = 1000});
    assert_int_equal(checkpoint(&epoch), -EIO);
    assert_non_null(strstr(err.text, "is not known"));
    assert_true(rml_vault_has_failed(vault));
    tape_disarm();
    assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), -EIO);
    assert_non_null(strstr(err.text, "open it again"));
    close_vault();
    open_vault();
    assert_int_equal(newest_epoch(), before);
    is_as_written(before);
    is_as_written(good_checkpoint());
}

static void put_many_rows(uint32_t count, uint64_t value)
{
    unsigned char bytes[200];
    memset(bytes, (int)(value % 251), sizeof bytes);
    for (uint32_t key = 0; key < count; key++)
        assert_int_equal(rml_vault_row(vault, "many", &key, sizeof key, bytes, sizeof bytes, &err),
                         0);
}

static uint64_t catalog_bytes(void)
{
    struct stat about;
    assert_int_equal(stat(folder_file(&folder, "catalog.mdb"), &about), 0);
    return (uint64_t)about.st_size;
}

static void a_full_map_is_made_larger(void **state)
{
    (void)state;
    uint64_t epoch;
    assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
    put_many_rows(20000, 1);
    assert_int_equal(rml_vault_commit(vault, &err), 0);
    assert_true(catalog_bytes() > 4 * options.catalog_bytes);
    close_vault();
    open_vault();
    assert_int_equal(newest_epoch(), epoch);
}

static void a_catalog_at_its_limit_refuses_and_goes_on(void **state)
{
    (void)state;
    close_vault();
    options.catalog_bytes_max = 2 << 20;
    open_vault();
    uint64_t before = good_checkpoint(), epoch;
    assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
    put_many_rows(20000, 1);
    assert_int_equal(rml_vault_commit(vault, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "may not grow past 2097152 bytes"));
    assert_int_equal(newest_epoch(), before);
    is_as_written(good_checkpoint());
}

static void too_many_rows_for_one_checkpoint_are_refused(void **state)
{
    (void)state;
    close_vault();
    options.rows_bytes_max = 1000;
    open_vault();
    uint64_t epoch;
    char value[600] = "";
    assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
    assert_int_equal(rml_vault_row(vault, "t", "a", 1, value, sizeof value, &err), 0);
    assert_int_equal(rml_vault_row(vault, "t", "b", 1, value, sizeof value, &err), -E2BIG);
    assert_int_equal(rml_vault_commit(vault, &err), -E2BIG);
}

static void commit_rows(int times)
{
    for (int i = 0; i < times; i++) {
        uint64_t epoch;
        assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
        put_many_rows(1000, epoch);
        assert_int_equal(rml_vault_commit(vault, &err), 0);
    }
}

static void a_killed_reader_holds_no_pages(void **state)
{
    (void)state;
    commit_rows(5);
    uint64_t at_first = catalog_bytes();
    pid_t reader = reader_start(folder.path);
    commit_rows(10);
    uint64_t beside_reader = catalog_bytes();
    assert_true(beside_reader > 2 * at_first);  // a living one does hold them
    reader_end(reader);
    commit_rows(30);
    assert_true(catalog_bytes() <= beside_reader);
}

/* As `ringctl checkpoint` would, from a process of its own beside the engine. */
static void look_from_outside(uint64_t newest)
{
    struct rml_checkpoints *seen;
    struct rml_checkpoint_info list[4];
    struct rml_manifest manifest = {0};
    bool good = rml_checkpoints_open(&seen, folder.path, &err) == 0
                && rml_checkpoints_list(seen, list, 4, &err) == 2 && list[1].epoch == newest
                && list[0].epoch == newest - 1 && list[1].partitions == HISTORY_PARTITIONS
                && list[1].size.own_bytes > 0 && list[1].size.own_bytes <= list[1].size.chain_bytes
                && rml_checkpoints_show(seen, newest, &manifest, &err) == 0
                && manifest.part_count == HISTORY_PARTITIONS
                && rml_checkpoints_verify(seen, newest, NULL, NULL, &err) == 0
                && rml_checkpoints_verify(seen, newest - 1, NULL, NULL, &err) == 0
                && rml_checkpoints_verify(seen, newest - 2, NULL, NULL, &err) == -ENOENT;
    rml_manifest_fini(&manifest);
    rml_checkpoints_close(seen);
    _exit(good ? 0 : 1);
}

static void other_processes_see_what_is_committed(void **state)
{
    (void)state;
    uint64_t newest = 0, begun;
    for (int i = 0; i < 4; i++)
        newest = good_checkpoint();
    assert_int_equal(history_write(&h, vault, &begun, &err), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        look_from_outside(newest);
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(rml_vault_commit(vault, &err), 0);
}

static void a_folder_without_a_state_directory_is_named(void **state)
{
    (void)state;
    struct rml_checkpoints *seen;
    assert_int_equal(rml_checkpoints_open(&seen, "/tmp", &err), -ENOENT);
    assert_non_null(strstr(err.text, "/tmp is no state directory"));
}

static void rows_are_found_by_table_and_key(void **state)
{
    (void)state;
    uint64_t epoch;
    assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
    assert_int_equal(rml_vault_row(vault, "b", "2", 1, "two", 3, &err), 0);
    assert_int_equal(rml_vault_row(vault, "a", "1", 1, "one", 3, &err), 0);
    assert_int_equal(rml_vault_row(vault, "b", "1", 1, "", 0, &err), 0);
    assert_int_equal(rml_vault_row(vault, "b", "0", 1, "gone", 4, &err), 0);
    assert_int_equal(rml_vault_row(vault, "b", "0", 1, NULL, 0, &err), 0);
    assert_int_equal(rml_vault_row(vault, "b", "9", 1, NULL, 0, &err), 0);
    assert_int_equal(rml_vault_commit(vault, &err), 0);
    close_vault();
    struct rml_checkpoints *seen;
    struct rml_catalog_view *view;
    struct rml_table_row row;
    assert_int_equal(rml_checkpoints_open(&seen, folder.path, &err), 0);
    assert_int_equal(rml_catalog_look(rml_checkpoints_catalog(seen), &view, &err), 0);
    assert_int_equal(rml_catalog_view_head(view)->newest_epoch, epoch);
    assert_int_equal(rml_catalog_row(view, "a", "1", 1, false, &row, &err), 0);
    assert_int_equal(row.value_bytes, 3);
    assert_memory_equal(row.value, "one", 3);
    assert_int_equal(rml_catalog_row(view, "b", "0", 1, false, &row, &err), -ENOENT);
    assert_int_equal(rml_catalog_row(view, "a", "2", 1, true, &row, &err), -ENOENT);
    assert_int_equal(rml_catalog_row(view, "b", NULL, 0, true, &row, &err), 0);
    assert_int_equal(row.key_bytes, 1);
    assert_memory_equal(row.key, "1", 1);
    assert_int_equal(row.value_bytes, 0);
    assert_int_equal(rml_catalog_next_row(view, &row, &err), 0);
    assert_memory_equal(row.value, "two", 3);
    assert_int_equal(rml_catalog_next_row(view, &row, &err), -ENOENT);
    rml_catalog_view_close(view);
    rml_checkpoints_close(seen);
}

static void what_cannot_be_a_row_or_note_is_refused(void **state)
{
    (void)state;
    char long_name[100];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    uint64_t epoch;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
        int rc = i == 0   ? rml_vault_row(vault, long_name, "k", 1, "v", 1, &err)
                 : i == 1 ? rml_vault_row(vault, "t", "", 0, "v", 1, &err)
                 : i == 2
                     ? rml_vault_row(vault, "t", long_name, RML_TABLE_KEY_BYTES + 1, "v", 1, &err)
                     : rml_vault_note(vault, long_name, "v", 1, &err);
        assert_int_equal(rc, -EINVAL);
        assert_int_equal(rml_vault_commit(vault, &err), -EINVAL);
    }
}

static void only_what_the_last_one_had_can_be_kept(void **state)
{
    (void)state;
    uint64_t newest = good_checkpoint(), epoch;
    struct rml_extent extent = rml_manifest_find(rml_vault_kept(vault, newest), 1)->extents[0];
    struct rml_extent twice[2] = {extent, extent}, other = extent;
    other.crc32c++;

    const struct {
        uint32_t partition, count;
        const struct rml_extent *extents;
        int rc;
    } cases[] = {{1, 1, &extent, 0},
                 {0, 1, &extent, -EINVAL},
                 {1, 1, &other, -EINVAL},
                 {1, 2, twice, -EINVAL}};

    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(rml_vault_begin(vault, 0, 0, &epoch, &err), 0);
        assert_int_equal(
            rml_vault_keep(vault, cases[i].partition, cases[i].extents, cases[i].count, &err),
            cases[i].rc);
        rml_vault_abandon(vault);
    }
}

static void going_back_makes_the_one_before_the_newest(void **state)
{
    (void)state;
    uint64_t before = good_checkpoint(), newest = good_checkpoint();
    assert_int_equal(rml_vault_go_back(vault, &err), 0);
    assert_int_equal(newest_epoch(), before);
    assert_null(rml_vault_kept(vault, newest));
    assert_int_equal(rml_vault_go_back(vault, &err), -ENOENT);
    close_vault();
    open_vault();
    assert_int_equal(newest_epoch(), before);
    is_as_written(before);
    history_go_to(&h, before);
    assert_true(good_checkpoint() > newest);  // its number is not used twice
}

static void a_second_opener_is_refused(void **state)
{
    (void)state;
    struct rml_vault *second;
    assert_int_equal(rml_vault_open(&second, folder.path, &options, &err), -EBUSY);
    assert_non_null(strstr(err.text, "in use by another process"));
}

/* Killed in the middle of anything, a writer leaves whole checkpoints. */
static void a_killed_writer_leaves_the_last_checkpoint(void **state)
{
    (void)state;
    close_vault();
    options.lock_wait_ns = INT64_C(20000000000);
    for (int round = 0; round < (RML_TEST_SLOW ? 3 : 8); round++) {
        int tell[2];
        assert_int_equal(pipe(tell), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            open_vault();
            for (uint64_t epoch; h.last.chain[0][0].epoch < HISTORY_EPOCHS - 2;)
                if (checkpoint(&epoch) < 0 || write(tell[1], &epoch, sizeof epoch) < 0
                    || epoch == HISTORY_EPOCHS - 1)
                    break;
            for (;;)
                pause();
        }
        close(tell[1]);
        uint64_t told = 0, last = 0;
        for (uint64_t i = 0; i <= rml_test_random(&seed) % 3; i++)
            assert_int_equal(read(tell[0], &told, sizeof told), sizeof told);
        usleep((useconds_t)(rml_test_random(&seed) % 3000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(tell[0], &last, sizeof last) == (ssize_t)sizeof last)
            told = last;
        close(tell[0]);
        open_vault();
        uint64_t found = newest_epoch();
        assert_true(found == told || found == told + 1);
        assert_int_equal(rml_vault_verify(vault, found, &err), 0);
        assert_int_equal(rml_vault_verify(vault, found - 1, &err), found > 1 ? 0 : -ENOENT);
        close_vault();
        folder_empty(&folder);
    }
}

static int set_up(void **state)
{
    (void)state;
    folder = folder_make("/tmp");
    memset(&h, 0, sizeof h);
    h.seed = rml_test_random(&seed);
    h.piece_bytes_max = 150 << 10;
    options = (struct rml_vault_options){
        .ways = tape_ways,
        .first_bytes = RML_EXTENT_GRANULE_BYTES,
        .step_bytes = RML_EXTENT_GRANULE_BYTES,
        .catalog_bytes = 256 << 10,
    };
    open_vault();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tape_disarm();
    close_vault();
    folder_remove(&folder);
    return 0;
}

#define IN_VAULT(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest claims[] = {
        IN_VAULT(a_fresh_directory_holds_no_checkpoint),
        IN_VAULT(the_name_of_a_new_directory_is_flushed_whoever_made_its_folder),
        IN_VAULT(what_was_committed_is_read_back),
        IN_VAULT(as_many_are_kept_as_was_asked_for),
        IN_VAULT(space_is_used_again),
        IN_VAULT(one_large_append_becomes_extents_side_by_side),
        IN_VAULT(a_checkpoint_of_nothing_is_one),
        IN_VAULT(what_is_abandoned_leaves_nothing),
        IN_VAULT(a_failed_write_abandons_the_checkpoint),
        IN_VAULT(a_failed_flush_abandons_the_checkpoint),
        IN_VAULT(a_full_disk_abandons_the_checkpoint),
        IN_VAULT(nothing_comes_of_a_way_that_is_out_of_step_before_it_is_opened_again),
        IN_VAULT(errors_without_end_take_no_more_room_than_is_set),
        IN_VAULT(a_short_write_is_continued),
        IN_VAULT(an_extent_file_at_its_limit_refuses_and_recovers),
        IN_VAULT(an_unknown_outcome_is_found_out),
        IN_VAULT(a_catalog_that_cannot_be_read_again_has_failed),
        IN_VAULT(a_full_map_is_made_larger),
        IN_VAULT(a_catalog_at_its_limit_refuses_and_goes_on),
        IN_VAULT(too_many_rows_for_one_checkpoint_are_refused),
        IN_VAULT(a_killed_reader_holds_no_pages),
        IN_VAULT(other_processes_see_what_is_committed),
        IN_VAULT(a_folder_without_a_state_directory_is_named),
        IN_VAULT(rows_are_found_by_table_and_key),
        IN_VAULT(what_cannot_be_a_row_or_note_is_refused),
        IN_VAULT(only_what_the_last_one_had_can_be_kept),
        IN_VAULT(going_back_makes_the_one_before_the_newest),
        IN_VAULT(a_second_opener_is_refused),
        IN_VAULT(a_killed_writer_leaves_the_last_checkpoint),
    };
    seed = rml_test_seed();
    return cmocka_run_group_tests(claims, NULL, NULL);
}
