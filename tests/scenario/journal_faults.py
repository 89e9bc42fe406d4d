"""Disks fail under a journal, it is full, and those who replay it die: nothing that was taken is lost or comes twice."""
import errno
import os
import random
import time

import exactly_once
import faults
import feeding
import harness
import hardships
import journal
import machine
import restarts
import stream
from machine import FLUSH, NOT, NOT_SURE, SHORT, WRITE

SEED = int(os.environ.get("RML_SEED", "20261121"))
ROUNDS = int(os.environ.get("RML_ROUNDS", "8"))
COUNT = 20_000
WAITS = "; records wait in their lanes until the journal works again"
WORKS = ": the journal works again"  # and not the end of WAITS


class Faulty(faults.Faulty):
    lines = journal.Journal.lines

    def start_journaled(self, runtime=exactly_once.RUNTIME, cells=2048):
        self.start_on(runtime=runtime, source=f", cells: {cells}, journal: true")

    def journal(self):
        return self.pipeline.look("status")["journal"]

    def came_of(self, feeder, came, keys):
        """Of each key, what came of a feeder is the first so many that it made."""
        made = stream.events(feeder.seed, self.progress(feeder)[0], keys)
        mine = [r for r in came if r["id"] >> 32 == feeder.seed]
        for key in {r["key"] for r in mine}:
            got = [r for r in mine if r["key"] == key]
            self.assertEqual(got, [r for r in made if r["key"] == key][:len(got)])

    def until_working(self):
        harness.until("the journal to work", lambda: not self.journal()["is_failing"])


class Faults(Faulty):
    # In which call, how, with which error; and what is said.
    SORTS = [
        (WRITE, NOT, errno.EIO, os.strerror(errno.EIO)),
        (WRITE, NOT_SURE, errno.EIO, os.strerror(errno.EIO)),
        (WRITE, NOT, errno.ENOSPC, os.strerror(errno.ENOSPC)),
        (WRITE, SHORT, 0, ""),
        (FLUSH, NOT, errno.EIO, os.strerror(errno.EIO)),
        (FLUSH, NOT_SURE, errno.EIO, os.strerror(errno.EIO)),
    ]

    def test_results_are_right_whatever_fails_in_the_journal(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        self.start_journaled()
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 100)
        kills = 0
        for call, how, error, why in self.SORTS:
            for after, times in ((0, 1), (rng.randrange(4), 1), (0, 5)):
                with self.subTest(call=call, how=how, error=error, after=after, times=times):
                    before = self.said_bytes()
                    self.machine.fail("journal", call, error, how, after, times, bytes=100)
                    self.machine.until_met(times)
                    if why:
                        self.until_said(f"journal: {why}{WAITS}", before)
                        self.until_said(WORKS, before)
                    self.machine.mend()
                    if rng.random() < 0.3:
                        self.kill_engine()
                        kills += 1
                        self.until_back(kills)
                    self.until_working()
                    taken = self.source()["taken"]
                    harness.until("more to be taken", lambda: self.source()["taken"] > taken)
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    def test_what_fails_as_an_engine_dies_is_made_good_by_the_next(self):
        rng = random.Random(SEED + 1)
        self.start_journaled()
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 100)
        for turn, (call, how, error, _) in enumerate(self.SORTS):
            with self.subTest(call=call, how=how, error=error):
                self.machine.fail("journal", call, error, how, after=rng.randrange(3), times=machine.ALWAYS, bytes=100)
                self.machine.until_met(1)
                # while it fails, and while the one after it cannot even come up
                dead = self.pipeline.signal_engine()
                self.assertNotEqual(dead, 0)
                met = self.machine.met()
                if how != SHORT:
                    self.machine.until_met(met + 1)
                self.machine.mend()
                harness.until("an engine", lambda: self.pipeline.engine not in (0, dead))
                self.pipeline.ctl("status", "--timeout", "60s")
                self.until_working()
                self.assertGreater(self.restarts(), turn)
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    def test_while_it_fails_nothing_is_taken_and_producers_wait(self):
        self.start_journaled()
        feeders = self.feeders(1, 2)
        self.until_published(feeders, 100)
        self.machine.fail("journal", FLUSH, errno.EIO, times=machine.ALWAYS)
        self.machine.until_met(2)  # what was on the disk before has been taken by then, or will be soon
        harness.until("producers to wait for room", lambda: all(
            self.waits_in(f.pid, (feeding.SYS_PPOLL,)) for f in feeders))

        def stands_still():
            before = self.source()["taken"]
            self.machine.until_met(self.machine.met() + 2)
            return self.source()["taken"] == before and before

        taken = harness.until("nothing more to be taken", stands_still)
        self.machine.until_met(self.machine.met() + 2)
        self.assertEqual(self.source()["taken"], taken)
        self.machine.mend()
        harness.until("more to be taken", lambda: self.source()["taken"] > taken)
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    def test_a_stop_does_not_wait_for_a_journal_that_fails_and_loses_nothing_that_was_taken(self):
        self.start_journaled()
        first = self.feeders(1, 2)
        self.until_published(first, 500)
        self.machine.fail("journal", FLUSH, errno.EIO, times=machine.ALWAYS)
        harness.until("it to fail", lambda: self.journal()["is_failing"])
        taken = self.source()["taken"]
        self.assertRegex(self.stop_without_saving(first),
                         r"\d+ records that were published are lost: a stop does not wait")
        self.start_journaled()
        self.assertGreaterEqual(self.source()["taken"], taken)
        came, _ = self.run_to_the_end(3, 4)
        for feeder in first:  # of each key the first so many
            self.came_of(feeder, came, exactly_once.KEYS[feeder.seed])
        self.check_windows(came)


class GivenUp(Faulty):
    def start_with_few_restarts(self):
        self.machine = machine.Machine(self, errno.EPERM)
        self.said = open(self.dir / "said", "a+")
        self.addCleanup(self.said.close)
        with self.machine.around():
            super(restarts.Restarts, self).start(runtime=exactly_once.RUNTIME, source=", cells: 2048, journal: true",
                                                 args=("--restarts", "2", "--within", "1h"), stderr=self.said)

    def test_a_disk_that_fails_until_the_keeper_gives_up_is_named_last_and_once_mended_nothing_is_lost(self):
        self.start_with_few_restarts()
        first = self.feeders(1, 2, 3)
        self.until_published(first, 500)
        taken, shown = self.source()["taken"], self.lines()
        self.machine.fail("journal", FLUSH, errno.EIO, times=machine.ALWAYS)
        self.machine.until_met(1)
        self.assertTrue(self.pipeline.signal_engine())
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 4)
        last, way_out = self.said_since(0).splitlines()[-2:]
        self.assertRegex(last, "the engine died 3 times within 3600 s, the last one .* could not come up again "
                               r"\(exit code 1\): .*state/journal: Input/output error: it is not started again")
        self.assertRegex(way_out, "once that is put right, `ringmill run .*p.yaml` goes on from the last checkpoint, "
                                  "and with what the journal has behind it")
        for feeder in first:
            feeder.communicate("", timeout=harness.PATIENCE)
        self.machine.mend()
        self.start_with_few_restarts()
        self.assertGreaterEqual(self.source()["taken"], taken)
        second = self.feeders(4)
        self.until_published(second, 500)
        self.end_feeders(second)
        self.pipeline.end()
        came = self.records()
        ids = {r["id"] for r in came}
        self.assertEqual(len(ids), len(came))
        self.assertTrue(ids.issuperset(r["id"] for r in self.made(second)))
        for feeder in first:  # of each key the first so many
            self.came_of(feeder, came, exactly_once.KEYS[feeder.seed])
        there = self.lines()
        for name, lines in shown.items():
            self.assertEqual(lines - there[name], set())
        self.check_windows(came)


class Full(Faulty):
    RUNTIME = ", state: ./state, checkpoint: {every: 1h, min_pause: 1ms}, journal: {max: 16MiB}"

    def until_written(self, least):
        harness.until_more("bytes to be journaled", lambda: self.journal()["bytes"], least)

    def test_a_journal_that_fills_has_checkpoints_taken_and_goes_round(self):
        self.start_journaled(self.RUNTIME, 1 << 20)
        feeder = self.feeder(2, exactly_once.ENDLESS, "keys", 8, "batch", 300, "wait", -1, "until-told")
        self.attached(feeder)
        self.until_written(3 * (16 << 20))  # it has gone round three times
        status = self.pipeline.look("status")
        self.assertGreater(status["checkpoints"]["wanted"]["journal"], 1)
        self.assertLessEqual(status["journal"]["file_bytes"], 17 << 20)
        self.assertLessEqual(status["journal"]["used_bytes"], status["journal"]["max_bytes"])
        self.kill_engine()
        self.until_back(1)
        self.end_feeders([feeder])
        self.pipeline.end()
        self.assertEqual(self.records(), sorted(self.made([feeder]), key=lambda r: r["id"]))

    def test_while_no_checkpoint_succeeds_a_full_journal_waits_and_says_so(self):
        self.start_journaled(self.RUNTIME, 1 << 20)
        feeder = self.feeder(2, exactly_once.ENDLESS, "keys", 8, "batch", 300, "wait", -1, "until-told")
        self.attached(feeder)
        self.machine.fail("extents", FLUSH, errno.EIO, times=machine.ALWAYS)
        harness.until("a group to wait for room", lambda: self.journal()["waits"] > 0)
        written = self.journal()["bytes"]
        self.assertLessEqual(written, 16 << 20)
        self.machine.mend()
        self.until_written(written + (16 << 20))  # once more round
        self.end_feeders([feeder])
        self.pipeline.end()
        self.assertEqual(self.records(), sorted(self.made([feeder]), key=lambda r: r["id"]))


class Replayed(journal.Journal):
    def test_whoever_replays_it_may_be_killed_again_and_again(self):
        self.rng = self.drawn()
        self.start_journaled(hardships.NEVER)
        feeders = [self.feeder(s, COUNT, "keys", 4, "wait", -1, "hold") for s in (1, 2, 3, 4)]
        self.attached(*feeders)
        for feeder in feeders:
            self.written(feeder)
        harness.until("all to be taken", lambda: self.source()["taken"] == 4 * COUNT)
        taken, shown = self.source()["taken"], self.lines()
        self.kill_all()
        for feeder in feeders:
            feeder.communicate("", timeout=harness.PATIENCE)
        begun = time.monotonic()
        self.start_journaled(hardships.NEVER)
        took = time.monotonic() - begun
        self.kill_all()
        for _ in range(ROUNDS):
            process = self.spawn(harness.RINGMILL, "run", self.dir / "p.yaml", *restarts.OFTEN)
            self.pipeline = harness.Running(self, "p", process)
            for _ in range(self.rng.randrange(3)):  # the engine alone, which is started again
                time.sleep(self.rng.random() * took / 2)
                self.pipeline.signal_engine()
            time.sleep(self.rng.random() * took)
            self.kill_all()
        self.start_journaled(hardships.NEVER)
        self.assertEqual(self.source()["taken"], taken)
        last = self.feeder(5, COUNT, "keys", 4, "wait", -1)
        self.assertEqual(last.wait(timeout=harness.PATIENCE), 0)
        self.pipeline.end()
        came = self.records()
        there = self.lines()
        for name, lines in shown.items():
            self.assertEqual(lines - there[name], set())
        self.assertEqual(came, [r for seed in (1, 2, 3, 4, 5) for r in stream.events(seed, COUNT, 4)])
        self.check_windows(came)


if __name__ == "__main__":
    harness.main()
