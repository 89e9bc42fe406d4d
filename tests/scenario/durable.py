"""What a producer was told to be durable is in the results, whatever is killed; and when it is told."""
import errno
import os
import struct

import exactly_once
import feeding
import harness
import hardships
import journal
import machine
import restarts

ROUNDS = int(os.environ.get("RML_ROUNDS", "6"))
ENDLESS = exactly_once.ENDLESS
JOURNALED = ", journal: true"


class Durable(journal.Journal):
    def start_with(self, runtime=exactly_once.RUNTIME, source=JOURNALED, **more):
        super(restarts.Restarts, self).start(runtime=runtime, source=source, args=restarts.OFTEN, **more)

    def asker(self, seed, count, *more):
        feeder = self.feeder(seed, count, "keys", 4, *more, "asks")
        self.attached(feeder)
        return feeder

    def durable(self, feeder):
        """How many of its records it has been told are durable, the first so many."""
        data = (self.dir / f"progress-{feeder.seed}-durable").read_bytes()
        return struct.unpack("=Q", data)[0] if data else 0

    def check_told(self, told, came):
        """Each one's first records, as many as it was told, are there."""
        ids = {r["id"] for r in came}
        self.assertEqual(len(ids), len(came))
        for feeder, count in told:
            missing = [i for i in range(count) if (feeder.seed << 32) + i not in ids]
            self.assertEqual(missing, [], f"{feeder.seed} was told that {count} are durable")

    def lives_and_deaths(self, runtime, source, *how):
        self.rng = rng = self.drawn()
        told, batches = [], (1, 64, 300)
        for life in range(ROUNDS):
            self.start_with(runtime, source)
            feeders = [self.asker(10 * life + s, ENDLESS, "batch", batch, "pause", pause, "wait", -1,
                                  "until-told", *how)
                       for s, batch, pause in zip((1, 2, 3), batches, (100, 999, 9999))]
            wanted = 1 + rng.randrange(20)
            harness.until("some to be told", lambda: all(
                self.durable(f) >= wanted * batch for f, batch in zip(feeders, batches)))
            kills = rng.randrange(2)
            if kills:
                self.kill_engine()
                before = [self.durable(f) for f in feeders]
                harness.until("more to be told", lambda: all(
                    self.durable(f) > b for f, b in zip(feeders, before)))
            # none died but by our hand
            self.assertEqual(self.restarts(), kills)
            self.kill_all()
            for feeder in feeders:
                feeder.communicate("", timeout=harness.PATIENCE)
            # as it was told in the end, which it asks for once more when the engine is gone
            told += [(f, self.durable(f)) for f in feeders]
        self.start_with(runtime, source)
        self.pipeline.end()
        came = self.records()
        self.check_told(told, came)
        self.assertGreater(sum(count for _, count in told), 3 * ROUNDS)
        self.check_windows(came)


class Told(Durable):
    def test_with_a_journal_what_a_producer_was_told_outlasts_keeper_and_engine(self):
        self.lives_and_deaths(exactly_once.RUNTIME, JOURNALED)

    def test_so_it_does_where_there_never_was_a_checkpoint_and_producers_wait_for_each_batch(self):
        self.lives_and_deaths(hardships.NEVER, JOURNALED, "settles")

    def test_without_one_what_a_checkpoint_covers_does(self):
        self.lives_and_deaths(exactly_once.RUNTIME, "", "settles")


class When(Durable):
    def test_who_waits_is_told_of_all_without_a_checkpoint(self):
        self.start_with(hardships.NEVER)
        feeder = self.asker(1, 2000, "batch", 100, "wait", -1, "settles", "hold")
        self.written(feeder)
        self.assertEqual(self.durable(feeder), 2000)
        self.ends(feeder)
        self.pipeline.end()

    def test_without_a_journal_it_is_the_checkpoint_that_makes_records_durable(self):
        self.start_with(hardships.NEVER, "")
        feeder = self.asker(1, 2000, "batch", 2000, "wait", -1, "settles", "hold")
        harness.until("all to be taken", lambda: self.source()["taken"] == 2000)
        self.until_waiting(feeder)
        self.assertEqual(self.durable(feeder), 0)
        self.ringctl("checkpoint", "now", "p")
        self.written(feeder)
        self.assertEqual(self.durable(feeder), 2000)
        self.ends(feeder)
        self.pipeline.end()

    def until_waiting(self, feeder):
        harness.until("the feeder to sleep", lambda: self.waits_in(feeder.pid, (feeding.SYS_PPOLL,)))

    def test_a_wait_has_an_end_while_the_journal_fails_and_is_over_when_it_works(self):
        self.machine = machine.Machine(self, errno.EPERM)
        with self.machine.around():
            self.start_with(hardships.NEVER)
        self.machine.fail("journal", machine.FLUSH, errno.EIO, times=machine.ALWAYS)
        hurried = self.feeder(1, 100, "asks", "settles", "wait", 300_000_000)
        self.assertEqual(hurried.wait(timeout=harness.PATIENCE), 1)
        self.assertIn("Connection timed out", hurried.stderr.read())
        self.assertEqual(self.durable(hurried), 0)
        patient = self.asker(2, 100, "batch", 100, "settles", "wait", -1, "hold")
        self.until_waiting(patient)
        self.machine.mend()
        self.written(patient)
        self.assertEqual(self.durable(patient), 100)
        self.ends(patient)
        self.pipeline.end()

    def test_who_is_cut_off_by_a_stop_is_told_of_what_it_had_published(self):
        for source in (JOURNALED, ""):
            with self.subTest(source=source):
                self.start_with(hardships.NEVER, source)
                feeder = self.asker(3, 500, "batch", 500, "settles", "wait", -1, "hold")
                harness.until("it to have published", lambda f=feeder: self.progress(f)[1] == 500)
                if not source:
                    self.until_waiting(feeder)
                self.ringctl("stop", "p")
                self.written(feeder)
                self.assertEqual(self.durable(feeder), 500)
                self.ends(feeder)
                self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
                harness.shutil.rmtree(self.dir / "state")

    def test_where_nothing_is_ever_durable_it_says_so(self):
        for runtime, source in (("", ""), (exactly_once.RUNTIME, ", lane: shared")):
            with self.subTest(runtime=runtime, source=source):
                self.start_with(runtime, source)
                feeder = self.feeder(4, 10, "asks")
                self.assertEqual(feeder.wait(timeout=harness.PATIENCE), 1)
                self.assertIn("Operation not supported", feeder.stderr.read())
                self.pipeline.end()


if __name__ == "__main__":
    harness.main()
