"""Going back to a checkpoint gives the results of that moment, and says what is missing then."""
import collections
import random
import re
import shlex
import subprocess

import checkpoints
import exactly_once
import hardships
import harness
import restarts
import stream
import tables

SEED = 20261121
ASKED = ", state: ./state, checkpoint: {every: 1h, min_pause: 1h, keep: 6}"
COUNT = 3000


class Asked(exactly_once.Saving):
    """A pipeline that takes a checkpoint when it is asked to, and keeps some."""
    checkpoint = checkpoints.Checkpoints.checkpoint
    flip = checkpoints.Checkpoints.flip

    def start(self, *args):
        super(restarts.Restarts, self).start(runtime=ASKED, args=(*restarts.OFTEN, *args))

    def fed(self, seed, count=COUNT):
        """Feed so many records, all of which are in the checkpoint whose epoch is returned."""
        before = self.pipeline.look("status")["sources"][0]["taken"]
        feeder = self.feeder(seed, count, "keys", 4)
        self.attached(feeder)
        self.ends(feeder)
        self.until_taken(before + count)
        return self.checkpoint("now", "p")["epoch"]

    def stop(self):
        self.ringctl("stop", "p")
        _, err = self.pipeline.process.communicate(timeout=harness.PATIENCE)
        self.assertEqual(self.pipeline.process.returncode, 0, err)

    def kept(self):
        return [c["epoch"] for c in self.checkpoint("list", "./state")["checkpoints"]]

    def refused(self, *args, want=1):
        """What is said of a run that does not come about, and changes nothing."""
        kept = self.kept()
        said = self.ringmill("run", "p.yaml", *args, want=want).stderr
        self.assertEqual(self.kept(), kept)
        return said

    def check(self, *seeds):
        came = self.records()
        made = [r for s in seeds for r in stream.events(s, COUNT, 4)]
        self.assertEqual(came, sorted(made, key=lambda r: r["id"]))
        self.check_windows(came)


class GoingBack(Asked):
    def test_results_are_those_of_the_checkpoint_and_of_what_came_after_going_back(self):
        self.start()
        epochs = [self.fed(seed) for seed in (1, 2, 3)]
        self.stop()
        self.check_windows([])  # none has fired
        self.start("--from", epochs[0], "--quiet")  # which does not keep it from being said
        self.fed(4)
        self.kill_engine()  # which does not go back again
        self.until_back(1)
        self.fed(5)
        self.assertTrue(self.pipeline.look("balance")["adds_up"])
        _, err = self.pipeline.end()
        self.assertRegex(err, f"went back from checkpoint {epochs[2] + 1} to {epochs[0]} of 2")
        self.assertIn(f"source events: {2 * COUNT} records are missing", err)
        self.assertIn(f"sink records: {2 * COUNT} rows are cut off its file", err)
        self.assertNotIn("sink windows", err)
        self.assertEqual(err.count("went back"), 1)
        self.check(1, 4, 5)

    def test_one_that_is_not_kept_is_refused_with_a_list_of_those_that_are(self):
        self.start()
        epochs = [self.fed(seed) for seed in (1, 2)]
        self.assertIn("is running already", self.ringmill("run", "p.yaml", "--from", epochs[0], want=1).stderr)
        self.stop()
        kept = self.kept()
        self.assertIn(f"there is no checkpoint 77 that can be read; kept are {kept[0]}, {kept[1]} and {kept[2]}",
                      self.refused("--from", "77"))
        for words in (["--from", "x"], ["--from", "0"], ["--from", kept[0], "--fresh"], ["--from"]):
            with self.subTest(words=words):
                self.refused(*words, want=2)
        self.write("q.yaml", (self.dir / "p.yaml").read_text().replace(ASKED, ""))
        self.assertIn("runtime.state", self.ringmill("run", "q.yaml", "--from", "1", want=2).stderr)
        self.start("--from", kept[-1])  # the newest: nothing is given up
        _, err = self.pipeline.end()
        self.assertNotIn("went back", err)
        self.check(1, 2)

    def test_a_drain_can_be_taken_back_but_not_what_a_later_run_has_written_over(self):
        self.start()
        before = self.fed(1)
        self.pipeline.end()
        end = self.kept()[-1]
        self.assertIn(f"checkpoint {end} is the end of a run", self.refused("--from", end))
        self.start("--from", before)
        self.fed(2)
        _, err = self.pipeline.end()
        self.assertRegex(err, r"sink windows: \d+ rows are cut off")
        self.check(1, 2)
        self.start("--fresh")
        self.stop()
        self.assertRegex(self.refused("--from", self.kept()[0]), "an earlier run|is the end of a run")

    def test_a_damaged_newest_checkpoint_is_named_with_the_command_that_goes_back(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        self.start()
        epochs = [self.fed(seed) for seed in (1, 2)]
        self.pipeline.process.kill()
        self.pipeline.process.wait()
        parts = self.checkpoint("show", "./state", epochs[1])["partitions"]
        part, extent = rng.choice([(p["partition"], e) for p in parts for e in p["extents"]
                                   if e["epoch"] == epochs[1]])
        self.flip(extent["offset"] + rng.randrange(extent["bytes"]), rng.randrange(8))
        said = self.refused()
        self.assertIn(f"checkpoint {epochs[1]} is damaged", said)
        self.assertIn(f"partition {part}", said)
        self.assertIn("extents", said)
        command = re.search("`(ringmill run --from .*?)`", said)[1]
        program, *words = shlex.split(command)
        self.assertEqual((program, words[2]), ("ringmill", str(epochs[0])))
        self.assertEqual(words[3], "p.yaml")
        self.start("--from", words[2])
        _, err = self.pipeline.end()
        self.assertIn(f"source events: {COUNT} records are missing", err)
        self.assertIn(f"sink records: {COUNT} rows are cut off its file", err)
        self.check(1)

    def damage_note(self, epoch):
        """A row of this checkpoint is not what was written, and all else in the catalog is sound."""
        catalog = self.dir / "state" / "catalog.mdb"
        key = epoch.to_bytes(8, "big") + b"ntaken events"
        data = catalog.read_bytes()
        self.assertIn(key, data)
        for found in list(re.finditer(re.escape(key), data)):  # in pages that are free now, too
            data = data[:found.end() + 1] + bytes([data[found.end() + 1] ^ 4]) + data[found.end() + 2:]
        catalog.write_bytes(data)

    def test_what_cannot_be_read_cannot_be_counted_and_that_is_said(self):
        self.start()
        epochs = [self.fed(seed) for seed in (1, 2)]
        self.pipeline.process.kill()
        self.pipeline.process.wait()
        self.damage_note(epochs[1])
        self.assertIn(f"`ringmill run --from {epochs[0]} p.yaml`", self.refused())
        self.start("--from", epochs[0])
        _, err = self.pipeline.end()
        self.assertIn("not all of it can be counted", err)
        self.check(1)

    def test_where_none_is_sound_beginning_anew_is_offered(self):
        self.start()
        self.fed(1)
        self.pipeline.process.kill()
        self.pipeline.process.wait()
        for part in self.checkpoint("show", "./state")["partitions"]:
            self.flip(part["extents"][0]["offset"], 1)
        self.assertIn("`ringmill run --fresh p.yaml` begins anew", self.refused())
        self.start("--fresh")
        self.fed(2)
        self.pipeline.end()
        self.check(2)

    def test_where_no_checkpoint_can_be_read_beginning_anew_is_offered_and_does_so(self):
        self.start()
        epochs = [self.fed(1)]
        for again in (2, 3):
            self.pipeline.process.kill()
            self.pipeline.process.wait()
            for epoch in epochs:
                self.damage_note(epoch)
            self.assertIn("`ringmill run --fresh p.yaml` begins anew", self.refused())
            self.start("--fresh")
            epochs = [self.fed(again), self.fed(again + 2)]
        self.stop()
        self.start()  # what was given up stays given up
        self.pipeline.end()
        self.check(3, 5)

    def test_what_was_given_up_is_said_also_of_a_run_that_comes_to_nothing_then(self):
        self.start()
        epochs = [self.fed(seed) for seed in (1, 2)]
        self.stop()
        (self.dir / "state" / "journal").write_bytes(b"none" * 4096)
        said = self.ringmill("run", "p.yaml", "--from", epochs[0], want=1).stderr
        self.assertIn("damaged at byte 0: no journal begins so", said)
        self.assertEqual(self.kept(), epochs[:1])
        self.assertRegex(said, f"went back from checkpoint {epochs[1] + 1} to {epochs[0]} of 2")
        self.assertIn(f"source events: {COUNT} records are missing", said)


class WithJournal(Asked):
    """What a journal has is kept for as long as a checkpoint is kept that does not cover it."""
    def start(self, *args):
        super(restarts.Restarts, self).start(runtime=ASKED, source=", journal: true", args=(*restarts.OFTEN, *args))

    def test_with_a_journal_going_back_loses_no_record_however_often(self):
        self.start()
        epochs = [self.fed(seed) for seed in (1, 2, 3)]
        self.stop()
        self.start("--from", epochs[1])
        self.fed(4)
        self.pipeline.process.kill()
        _, err = self.pipeline.process.communicate(timeout=harness.PATIENCE)
        self.assertIn(f"source events: {COUNT} records are taken again from the journal", err)
        self.start("--from", epochs[0])
        self.fed(5)
        self.assertTrue(self.pipeline.look("balance")["adds_up"])
        _, err = self.pipeline.end()
        self.assertIn(f"to {epochs[0]} of 2", err)
        self.assertNotIn("missing", err)
        self.check(1, 2, 3, 4, 5)

    def test_with_a_journal_a_drain_that_is_taken_back_loses_no_record(self):
        self.start()
        before = self.fed(1)
        self.fed(2)
        self.pipeline.end()
        self.start("--from", before)
        self.fed(3)
        _, err = self.pipeline.end()
        self.assertIn(f"source events: {COUNT} records are taken again from the journal", err)
        self.check(1, 2, 3)


class WithRing(Asked):
    LATER = 61 * 10**9

    def start(self, *args):
        self.start_text(hardships.WATCHED % (stream.SCHEMA, ASKED), args=(*restarts.OFTEN, *args))
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        self.row_hash = re.search(r"COUNTS_ROW_SCHEMA_HASH UINT64_C\((\w+)\)", header)[1]

    def watched(self, name):
        """Have somebody follow the ring into a file of this name."""
        with open(self.dir / name, "w") as rows:
            watcher = self.spawn(harness.WATCHER, "p/counts", self.row_hash, stdin=subprocess.PIPE, stdout=rows)
        self.assertEqual(watcher.stderr.readline(), "attached\n")
        return watcher

    def seen(self, watcher, name):
        """By partition, the numbers that the one who followed it has seen, and under each the row."""
        watcher.communicate(timeout=harness.PATIENCE)
        *lines, missed = (self.dir / name).read_text().splitlines()
        self.assertEqual(missed, "missed 0")
        seen = collections.defaultdict(dict)
        for line in lines:
            partition, number, *row = (int(v) for v in line.split(","))
            seen[partition][number] = row
        return seen

    def ticked(self, seed, begin):
        """Feed a minute of ticks from then on. The checkpoint that covers them."""
        before = self.pipeline.look("status")["sources"][0]["taken"]
        feeder = self.spawn(harness.FEEDER, "p/ticks", self.hash, seed, COUNT, "keys", 4, "from", begin,
                            "step", 20_000_000, stdin=subprocess.PIPE)
        self.attached(feeder)
        self.ends(feeder)
        self.until_taken(before + COUNT)
        return self.checkpoint("now", "p")["epoch"]

    def test_numbers_of_a_ring_are_given_again_from_the_checkpoint_on_and_to_other_rows(self):
        self.start()
        watcher = self.watched("before")
        epoch = self.ticked(1, 0)
        self.ticked(2, self.LATER)
        self.stop()
        before = self.seen(watcher, "before")
        self.start("--from", epoch)
        watcher = self.watched("after")
        self.ticked(3, self.LATER)
        self.pipeline.end()
        after = self.seen(watcher, "after")
        self.assertEqual(before.keys(), after.keys())
        for partition, rows in after.items():
            with self.subTest(partition=partition):
                first = min(rows)
                self.assertEqual(list(rows), list(range(first, first + len(rows))))
                self.assertTrue(all(before[partition][n][0] < self.LATER for n in range(first)))
                again = [n for n in rows if n in before[partition]]
                self.assertNotEqual([rows[n] for n in again], [before[partition][n] for n in again])


class WithTables(Asked, tables.Tables):
    """Tables stay as the newest commit left them, and what is made again takes its place."""
    WINDOWED = [stage for stage in tables.STAGES if stage not in tables.ONCE]

    def start(self, *args):
        super(restarts.Restarts, self).start_text(tables.PIPELINE % (stream.SCHEMA, ASKED, ""),
                                                  args=(*restarts.OFTEN, *args))

    def by_window(self, rows):
        """The last row of each window of stages that have windows."""
        last = {}
        for row in rows:
            if row["stage"] in self.WINDOWED:
                place = row["stage"], row["key"], row["window_start"]
                last[place] = None if row.get("retracted") else {n: v for n, v in row.items() if n != "stage"}
        return last

    def in_tables(self):
        return {(stage, row["key"], row["window_start"]): row
                for stage in self.WINDOWED for row in self.table(stage)}

    def test_rows_beyond_the_checkpoint_stay_until_they_are_made_again(self):
        self.start()
        epochs = [self.fed(seed) for seed in (1, 2, 3)]
        self.stop()
        newest, once = self.in_tables(), {stage: self.table(stage) for stage in tables.ONCE}
        self.start("--from", epochs[0])
        before = self.file_rows()  # cut to that checkpoint
        self.assertEqual(self.in_tables(), newest)
        self.fed(4)
        self.kill_engine()  # which does not go back again
        self.until_back(1)
        self.fed(5)
        self.pipeline.end()
        rows = self.file_rows()
        self.assertEqual(rows[:len(before)], before)
        again = rows[len(before):]
        wanted = newest | self.by_window(again)
        self.assertEqual(self.in_tables(), {place: row for place, row in wanted.items() if row is not None})
        self.assertGreater(len(set(newest) - set(self.by_window(again))), 0)  # some stayed
        self.assertGreater(len(set(newest) & set(self.by_window(again))), 0)  # some were made again
        for stage in tables.ONCE:
            with self.subTest(stage=stage):
                now = collections.Counter(tables.canonical(self.table(stage)))
                own = [{n: v for n, v in row.items() if n != "stage"} for row in rows if row["stage"] == stage]
                self.assertEqual(collections.Counter(tables.canonical(own)) - now, collections.Counter())
                known = collections.Counter(tables.canonical(once[stage] + own))
                self.assertEqual(now - known, collections.Counter())
        self.ringctl("checkpoint", "verify", "./state")


if __name__ == "__main__":
    harness.main()
