"""Disks fail under an engine that runs: it says so, goes on as docs/checkpoints.md has it, and results stay right."""
import errno
import json
import os
import random

import exactly_once
import hardships
import harness
import machine
import restarts
from machine import CUT, FLUSH, NOT, NOT_SURE, SEND, SHORT, WRITE

SEED = int(os.environ.get("RML_SEED", "20261121"))
GOES_BACK = "going back to the last checkpoint"
WAITS = "results wait until it can be written again"
FAILED = "failed: checkpoint"


class Faulty(exactly_once.Saving):
    def start_on(self, ring_error=errno.EPERM, runtime=exactly_once.RUNTIME, **more):
        """A pipeline on a machine that can fail; what it says goes to a file."""
        self.machine = machine.Machine(self, ring_error)
        self.said = open(self.dir / "said", "w+")
        self.addCleanup(self.said.close)
        with self.machine.around():
            super(restarts.Restarts, self).start(runtime=runtime, args=restarts.OFTEN, stderr=self.said, **more)

    def said_since(self, before):
        return (self.dir / "said").read_text()[before:]

    def until_said(self, sentence, before):
        try:
            harness.until(f"it to say '{sentence}'", lambda: sentence in self.said_since(before))
        except AssertionError as vain:
            raise AssertionError(f"{vain}; but:\n{self.said_since(before)}") from None

    def said_bytes(self):
        return (self.dir / "said").stat().st_size

    def until_saved(self):
        """Wait until a checkpoint that was asked for is durable: the ones before it may fail."""
        harness.until("a checkpoint to be durable", lambda: self.call(
            harness.RINGCTL, "checkpoint", "now", "p", want=None).returncode == 0)

    def call(self, *argv, want=0, input=None):
        if want is not None:
            return super().call(*argv, want=want, input=input)
        return harness.subprocess.run([str(a) for a in argv], env=self.env, cwd=self.dir, capture_output=True,
                                      text=True, timeout=5 * harness.PATIENCE, check=False)

    def end_by(self, request):
        """Ask for the end until it is heard: an engine that comes up listens to nobody but as it waits."""
        while True:
            ctl = self.spawn(harness.RINGCTL, request, "p")
            first = ctl.stderr.readline()
            if f"not told to {request} yet" not in first:
                return ctl, first
            ctl.communicate(timeout=harness.PATIENCE)

    def stop_without_saving(self, feeders):
        """Stop a pipeline that cannot save, which it does not wait for; what it said."""
        before = self.said_bytes()
        self.ringctl("stop", "p", want=1)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 1)
        for feeder in feeders:
            feeder.communicate("", timeout=harness.PATIENCE)
        return self.said_since(before)

    def run_to_the_end(self, *seeds):
        """Feed the run that goes on, and end it: all of that came, and nothing twice; the records, and their ids."""
        feeders = self.feeders(*seeds)
        self.until_published(feeders)
        self.end_feeders(feeders)
        self.pipeline.end()
        came = self.records()
        ids = {r["id"] for r in came}
        self.assertEqual(len(ids), len(came))
        self.assertTrue(ids.issuperset(r["id"] for r in self.made(feeders)))
        return came, ids

    def source(self):
        return self.pipeline.look("status")["sources"][0]

    def saves(self):
        return self.pipeline.look("status")["checkpoints"]


class Faults(Faulty):
    # Of which file, in which call, how, with which error, how often at least; and what is said.
    STATE = [
        ("extents", WRITE, NOT, errno.EIO, FAILED),
        ("extents", WRITE, NOT_SURE, errno.EIO, FAILED),
        ("extents", WRITE, NOT, errno.ENOSPC, FAILED),
        ("extents", WRITE, SHORT, 0, ""),
        ("extents", FLUSH, NOT, errno.EIO, FAILED),
        ("extents", FLUSH, NOT_SURE, errno.EIO, FAILED),
        ("catalog.mdb", WRITE, NOT, errno.ENOSPC, FAILED),
        ("catalog.mdb", WRITE, NOT, errno.EIO, FAILED),
        ("catalog.mdb", WRITE, NOT_SURE, errno.EIO, ""),
        ("catalog.mdb", WRITE, SHORT, 0, ""),
        ("catalog.mdb", FLUSH, NOT, errno.EIO, ""),
        ("catalog.mdb", FLUSH, NOT_SURE, errno.EIO, ""),
    ]

    def test_results_are_right_whatever_fails_in_the_state_folder(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        self.start_on()
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 100)
        for name, call, how, error, sentence in self.STATE:
            for after, times in ((0, 1), (rng.randrange(4), 1), (0, 7)):
                with self.subTest(name=name, call=call, how=how, error=error, after=after, times=times):
                    before = self.said_bytes()
                    self.machine.fail(name, call, error, how, after, times, bytes=100)
                    self.machine.until_met(1)
                    if sentence:
                        self.until_said(sentence, before)
                    if rng.random() < 0.3:
                        self.kill_engine()
                    self.machine.mend()
                    self.until_saved()
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    SINK = [
        (WRITE, NOT, errno.ENOSPC), (WRITE, NOT, errno.EDQUOT), (WRITE, NOT, errno.EIO), (WRITE, NOT_SURE, errno.EIO),
    ]

    def test_a_file_that_cannot_be_written_is_waited_for_and_has_every_row_once(self):
        self.start_on(source=", cells: 512")
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 100)
        for call, how, error in self.SINK:
            for torn in (False, True):
                with self.subTest(call=call, how=how, error=error, torn=torn):
                    before = self.said_bytes()
                    if torn:  # and the part that did arrive cannot be cut off at once
                        self.machine.fail("records.csv", CUT, errno.EIO, number=1)
                    self.machine.fail("records.csv", call, error, how, times=machine.ALWAYS)
                    self.machine.until_met(3)
                    self.until_said(f"records.csv: {os.strerror(error)}; {WAITS}", before)
                    self.machine.mend()
                    self.machine.mend(1)
                    self.until_said("it can be written again; results go on", before)
                    self.until_saved()
        sink = self.pipeline.look("status")["sinks"][0]
        self.assertEqual(sink["lost"], 0)
        self.assertGreater(sink["retries"], 8)
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    def test_an_engine_that_waits_for_a_disk_may_die_and_the_next_one_waits(self):
        self.start_on(source=", cells: 512")
        feeders = self.feeders(1, 2)
        self.until_published(feeders, 100)
        self.machine.fail("records.csv", WRITE, errno.ENOSPC, times=machine.ALWAYS)
        for _ in range(3):
            self.machine.until_met(self.machine.met() + 2)
            self.kill_engine()
        self.machine.until_met(self.machine.met() + 2)
        self.machine.mend()
        self.until_back(3)
        self.until_saved()
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    def test_after_a_flush_of_a_file_failed_another_engine_writes_it_anew(self):
        self.start_on()
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 100)
        for turn, name in enumerate(("records.csv", "windows.csv", "records.csv"), start=1):
            before = self.said_bytes()
            self.machine.fail(name, FLUSH, errno.EIO, how=(NOT, NOT_SURE)[turn % 2])
            self.until_said(f"{name}: flushing it failed: Input/output error; {GOES_BACK}", before)
            self.until_back(turn)
            self.until_saved()
        self.assertIn("flushing it failed", self.pipeline.look("status")["last_death"]["why"])
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    def test_a_stop_does_not_wait_for_a_full_disk_and_the_next_run_has_what_a_checkpoint_covers(self):
        self.start_on(source=", cells: 512")
        first = self.feeders(1, 2)
        self.until_published(first, 500)
        covered = [self.progress(f)[1] for f in first]
        published = self.source()["published"]
        harness.until("all of that to be taken", lambda: self.source()["taken"] >= published)
        self.until_saved()
        self.machine.fail("records.csv", WRITE, errno.ENOSPC, times=machine.ALWAYS)
        self.machine.until_met(2)
        said = self.stop_without_saving(first)
        self.assertIn("records.csv lacks rows: No space left on device", said)
        self.assertEqual(self.left_behind(), [])
        self.start_on(source=", cells: 512")
        came, ids = self.run_to_the_end(3, 4)
        for feeder, count in zip(first, covered):
            self.assertTrue(ids.issuperset((feeder.seed << 32) + i for i in range(count)))
        self.check_windows(came)


class Rings(Faulty):
    """The same by way of io_uring: what is sent is changed, or its completion."""
    BLOCK = 4096
    STATE = [
        (WRITE, NOT, errno.EIO), (WRITE, NOT_SURE, errno.EIO), (WRITE, NOT, errno.ENOSPC), (WRITE, SHORT, 0),
        (FLUSH, NOT, errno.EIO), (FLUSH, NOT_SURE, errno.EIO), (SEND, NOT, 0),
    ]

    def start_with_ring(self, **more):
        self.start_on(ring_error=0, **more)
        if self.saves()["way"] != "io_uring":
            self.skipTest("there is no io_uring here")

    def newest_extents(self):
        shown = json.loads(self.ringctl("checkpoint", "show", "p", "--json").stdout)
        return [e for part in shown["partitions"] for e in part["extents"]]

    def check_is_elsewhere(self, lost):
        """What a checkpoint that failed may have left anywhere is in no later one of that engine."""
        at, length = lost
        for extent in self.newest_extents():
            begins_behind = extent["offset"] >= at + length
            self.assertTrue(begins_behind or extent["offset"] + extent["bytes"] <= at, (extent, lost))

    def test_results_are_right_whatever_comes_back_from_a_ring(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        self.start_with_ring()
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 100)
        for call, how, error in self.STATE:
            for after, times in ((0, 1), (rng.randrange(4), 1), (0, 7)):
                with self.subTest(call=call, how=how, error=error, after=after, times=times):
                    before, failed = self.said_bytes(), self.saves()["failed"]
                    self.machine.fail("extents", call, error, how, after, times, bytes=self.BLOCK)
                    self.machine.until_met(1)
                    if how != SHORT:
                        self.until_said(FAILED, before)
                        self.assertIn(os.strerror(error or errno.EAGAIN), self.said_since(before))
                        harness.until("that to be counted", lambda: self.saves()["failed"] > failed)
                    is_killed = rng.random() < 0.3
                    if is_killed:
                        self.kill_engine()
                    self.machine.mend()
                    lost = self.machine.where()
                    self.until_saved()
                    if call == WRITE and how != SHORT and not is_killed:
                        self.check_is_elsewhere(lost)
        self.assertEqual(self.saves()["way"], "io_uring")
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    def test_a_journal_that_a_ring_fails_holds_records_up_and_loses_none(self):
        self.start_with_ring(source=", journal: true, cells: 512")
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 100)
        for turn, (call, how, error) in enumerate(self.STATE):
            for times in (1, 7):
                with self.subTest(call=call, how=how, error=error, times=times):
                    before = self.said_bytes()
                    self.machine.fail("journal", call, error, how, 0, times, bytes=self.BLOCK)
                    self.machine.until_met(1 if how == SHORT else times)
                    if how != SHORT:
                        self.until_said("records wait in their lanes until the journal works again", before)
                        self.until_said(": the journal works again", before)  # and not the end of the other
                    if turn % 3 == 2:
                        self.kill_engine()
                    self.machine.mend()
                    published = self.source()["published"]
                    harness.until("all of that to be taken", lambda: self.source()["taken"] >= published)
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)


class Unsaved(Faulty):
    def fed(self, seed):
        """Feed so many records, all of which have been taken by the end of this."""
        before = self.source()["taken"]
        feeder = self.feeder(seed, 1000, "keys", exactly_once.KEYS[seed], "batch", 16, "hold")
        self.attached(feeder)
        harness.until("them to be taken", lambda: self.source()["taken"] == before + 1000)
        self.ends(feeder)
        return feeder

    def test_an_end_that_cannot_be_saved_is_tried_thirty_times_and_undone_by_the_next_run(self):
        self.start_on(runtime=hardships.NEVER)
        saved = self.fed(1)
        self.until_saved()
        self.fed(2)
        self.assertEqual(self.saves()["failed"], 0)
        self.machine.fail("extents", FLUSH, errno.EIO, NOT, times=machine.ALWAYS)
        self.ringctl("drain", "p", want=1)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 1)
        said = self.said_since(0)
        self.assertEqual(said.count(FAILED), 30, said)
        self.assertRegex(said, r"what was taken since checkpoint \d+ is in none")
        super(restarts.Restarts, self).start(runtime=hardships.NEVER, args=restarts.OFTEN)
        self.pipeline.end()
        self.check_all([saved])


if __name__ == "__main__":
    harness.main()
