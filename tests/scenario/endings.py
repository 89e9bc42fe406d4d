"""How a running pipeline ends: by signals, by death, and what those around it see of that."""
import os
import pathlib
import signal

import feeding
import harness
import stream

COUNT = 5000
ENDLESS = 1 << 31


class Draining(feeding.Feeding):
    def drained_by(self, with_signal):
        self.start()
        feeder = self.feeder(1, COUNT, "hold")
        self.attached(feeder)
        self.assertEqual(self.written(feeder), (COUNT, 0))
        _, err = self.pipeline.end(with_signal)
        self.assertIn("draining: signalled", err)
        self.assertIn("every record left by one door", err)
        self.ends(feeder)
        wanted = stream.events(1, COUNT)
        self.assertEqual(self.records(), wanted)
        self.check_windows(wanted)

    def test_sigterm_fires_all_windows_and_completes_the_files(self):
        self.drained_by(signal.SIGTERM)

    def test_sigint_fires_all_windows_and_completes_the_files(self):
        self.drained_by(signal.SIGINT)

    def test_a_drain_in_mid_stream_takes_what_was_published_and_tells_the_producers(self):
        for round_number in range(5):
            with self.subTest(round=round_number):
                self.start()
                feeders = [self.feeder(seed, ENDLESS, "keys", 5, "batch", batch, "every", every,
                                       "pause", 1, "wait", -1)
                           for seed, batch, every in ((1, 1, 64), (2, 100, 7), (3, 64, 1 << 31))]
                self.attached(*feeders)
                for feeder in feeders:
                    harness.until("records to flow", lambda f=feeder: self.progress(f)[1] > 300)
                _, err = self.pipeline.end()
                self.assertIn("every record left by one door", err)
                came = self.records()
                for feeder in feeders:
                    self.assertIn("the pipeline drains", self.ends(feeder, want=1))
                    begun, published = self.progress(feeder)
                    made = {r["id"]: r for r in stream.events(feeder.seed, begun, 5)}
                    mine = [r for r in came if r["id"] >> 32 == feeder.seed]
                    self.assertEqual([made[r["id"]] for r in mine], mine)
                    ids = {r["id"] for r in mine}
                    self.assertEqual(len(ids), len(mine))
                    missing = [i for i in range(published) if (feeder.seed << 32) + i not in ids]
                    self.assertEqual(missing, [])
                self.check_windows(came)

    def stuck(self):
        """A pipeline that waits for a sink which nobody empties."""
        pipe = self.dir / "pipe"
        os.mkfifo(pipe)
        self.reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, self.reader)
        self.start(records="pipe")
        feeder = self.feeder(1, ENDLESS, "wait", -1)
        self.attached(feeder)
        tasks = pathlib.Path(f"/proc/{self.pipeline.engine}/task")

        def writes():
            calls = [call.read_text().split()[0] for call in tasks.glob("*/syscall")]
            return feeding.SYS_WRITE in calls

        harness.until("the writer to wait for the sink", writes)
        return feeder

    def test_who_signals_again_does_not_wait_for_a_sink_that_takes_nothing(self):
        for first in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(first=first):
                feeder = self.stuck()
                process = self.pipeline.process
                process.send_signal(first)
                said = ""
                while "draining" not in said:
                    said = process.stderr.readline()
                    self.assertNotEqual(said, "")

                def gone():
                    process.send_signal(signal.SIGTERM)
                    return process.poll() is not None

                harness.until("it to end", gone)
                _, err = self.pipeline.end(want=1)
                self.assertIn("leaving, although not all results are written", err)
                self.ends(feeder, want=1)
                (self.dir / "pipe").unlink()

    def test_a_signal_to_what_drains_already_changes_nothing(self):
        feeder = self.stuck()
        drain = self.spawn(harness.RINGCTL, "drain", "p")
        self.assertIn("draining", drain.stderr.readline())
        self.pipeline.process.send_signal(signal.SIGTERM)
        self.ends(feeder, want=1)
        with open(self.reader, closefd=False) as pipe:
            os.set_blocking(self.reader, True)
            rows = harness.rows_of_csv(pipe.read())
        self.pipeline.end()
        self.assertEqual(drain.wait(timeout=harness.PATIENCE), 0, drain.stderr.read())
        self.assertGreaterEqual(len(rows), self.progress(feeder)[1])


class Names(feeding.Feeding):
    def test_a_second_run_of_the_name_is_refused_and_names_the_process(self):
        self.start()
        done = self.ringmill("run", self.dir / "p.yaml", want=1)
        self.assertIn(f"pipeline p is running already, as process {self.pipeline.process.pid}",
                      done.stderr)
        feeder = self.feeder(1, COUNT)  # the first has not been disturbed
        self.attached(feeder)
        self.written(feeder)
        self.ends(feeder)
        self.pipeline.end()
        self.assertEqual(self.records(), stream.events(1, COUNT))

    def test_a_run_after_a_death_clears_what_the_dead_one_left(self):
        for with_files in (True, False):
            self.start()
            feeder = self.feeder(1, COUNT, "hold")
            self.attached(feeder)
            self.written(feeder)
            self.pipeline.process.kill()
            self.pipeline.process.wait()
            self.assertNotEqual(self.left_behind(), [])
            self.ends(feeder)
            if not with_files:  # as after a reboot with a run directory that was half cleared
                (self.rundir / "p" / "lock").unlink()
        self.start()
        feeder = self.feeder(2, COUNT)
        self.attached(feeder)
        self.written(feeder)
        self.ends(feeder)
        self.pipeline.end()
        self.assertEqual(self.records(), stream.events(2, COUNT))


class Dying(feeding.Feeding):
    def kill(self, *feeders):
        """Kill the engine, and see feeders that would wait for ever notice it."""
        self.pipeline.process.kill()
        for feeder in feeders:
            self.assertIn("Broken pipe", self.ends(feeder, want=1))

    def test_a_producer_is_told_when_its_engine_is_killed(self):
        self.start()
        feeders = [self.feeder(seed, ENDLESS, "batch", 10, "pause", 50, "wait", -1) for seed in (1, 2)]
        self.attached(*feeders)
        for feeder in feeders:
            harness.until("records to flow", lambda f=feeder: self.progress(f)[1] > 100)
        self.kill(*feeders)

    def test_a_producer_that_waits_for_room_is_told_when_its_engine_is_killed(self):
        self.start(source=", cells: 64")
        feeder = self.feeder(1, ENDLESS, "gate", "wait", -1)
        self.attached(feeder)
        self.stand_still()
        self.go(feeder)
        self.until_asleep(feeder)
        self.kill(feeder)


if __name__ == "__main__":
    harness.main()
