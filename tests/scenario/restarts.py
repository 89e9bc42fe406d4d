"""An engine that dies is started again: what producers, subscribers and those who look see of that."""
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import time

import feeding
import harness
import stream

SEED = 20261121
KILLS = 40
ENDLESS = 1 << 31
OFTEN = ("--restarts", "1000", "--within", "1ms")

# As in feeding, but for windows that can be followed by a subscriber.
PIPELINE = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 1h, idle_after: 1h%s}
  ticks: {schema: event, event_time: ts, partition_by: [key]}
stages:
  all: {from: events, filter: true}
  sums: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: %s}
  counts: {from: ticks, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count(), total: sum(value)}}
sinks:
  records: {from: all, type: csv, path: records.csv}
  windows: {from: sums, type: csv, path: windows.csv}
  live: {from: counts, type: ring, rows: 65536}
  counted: {from: counts, type: csv, path: counts.csv}
"""


def status_of(pid, word):
    """What the kernel says of a process under this word."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{word}:"))


def pending(pid):
    """Signals that a process has been sent and has not read."""
    mask = int(status_of(pid, "ShdPnd"), 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


class Restarts(feeding.Feeding):
    def start(self, *args, source="", **more):
        self.start_text(PIPELINE % (stream.SCHEMA, source, stream.AGGREGATES), args=args, **more)
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        self.row_hash = re.search(r"COUNTS_ROW_SCHEMA_HASH UINT64_C\((\w+)\)", header)[1]

    def kill_engine(self, number=signal.SIGKILL):
        return self.pipeline.kill_engine(number)

    def restarts(self):
        return self.pipeline.look("status")["restarts"]

    def until_back(self, count):
        harness.until(f"{count} restarts", lambda: self.restarts() == count)

    def catch_waiting(self, by_killing=False):
        """Have a process stand still that waits for its turn to be the engine; it, and what makes it go on."""
        def stand_still():
            process = self.pipeline.waiting
            if process == 0 and by_killing:
                self.pipeline.signal_engine()  # the next one waits longer, and is easier to see
            if process == 0:
                return 0
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it may have ended
                os.kill(process, signal.SIGSTOP)
                harness.until("it to stand still", lambda: status_of(process, "State") in "TZ")
                if status_of(process, "Name") == "ringmill-waits":
                    return process
                os.kill(process, signal.SIGCONT)
            return 0

        caught = harness.until("a process that waits for its turn", stand_still)
        return caught, lambda: os.kill(caught, signal.SIGCONT)

    def keeper_fds(self):
        return len(os.listdir(f"/proc/{self.pipeline.process.pid}/fd"))


class Killed(Restarts):
    def test_every_record_published_is_taken_once_however_often_the_engine_is_killed(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        self.start(*OFTEN, source=", cells: 1024")
        keeper_at_start = self.keeper_fds()
        watcher = self.spawn(harness.WATCHER, "p/counts", self.row_hash, stdin=harness.subprocess.PIPE)
        self.assertEqual(watcher.stderr.readline(), "attached\n")
        feeders = [self.feeder(seed, ENDLESS, "keys", keys, "batch", batch, "pause", pause, "wait", -1,
                               *how, "until-told")
                   for seed, keys, batch, pause, how in
                   ((1, 3, 1, 100, []), (2, 8, 64, 999, ["in-place"]), (3, 1, 300, 9999, []),
                    (4, 5, 7, 300, []))]
        self.attached(*feeders)
        for _ in range(KILLS):
            time.sleep(rng.random() * 0.05)  # no moment is a particular one
            self.kill_engine()
        self.until_back(KILLS)
        for feeder in feeders:
            feeder.stdin.close()
        for feeder in feeders:
            self.assertEqual(feeder.wait(timeout=harness.PATIENCE), 0, feeder.stderr.read())
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)

        published = sum(self.progress(feeder)[1] for feeder in feeders)
        source = self.pipeline.look("status")["sources"][0]
        self.assertEqual((source["published"], source["taken"], source["delivered"]),
                         (published, published, published))
        balance = self.pipeline.look("balance")
        self.assertTrue(balance["adds_up"], balance)
        watcher.kill()
        watcher.wait()
        harness.until("the keeper to keep what it kept at first",
                      lambda: self.keeper_fds() == keeper_at_start)
        self.pipeline.end()
        # rows that were on their way to the file are lost with an engine; none is torn, or of no record
        made = {r["id"]: r for feeder in feeders
                for r in stream.events(feeder.seed, self.progress(feeder)[0],
                                       {1: 3, 2: 8, 3: 1, 4: 5}[feeder.seed])}
        for record in self.records():
            self.assertEqual(made[record["id"]], record)

    def test_a_subscriber_keeps_its_connection_and_rows_go_on_being_numbered(self):
        self.start(*OFTEN)
        watcher = self.spawn(harness.WATCHER, "p/counts", self.row_hash, stdin=harness.subprocess.PIPE)
        self.assertEqual(watcher.stderr.readline(), "attached\n")
        for turn in range(5):
            feeder = self.spawn(harness.FEEDER, "p/ticks", self.hash, 1, 5000, "keys", 4, "step", 1_000_000)
            self.assertEqual(feeder.stdout.readline(), "attached\n")
            self.assertEqual(feeder.wait(timeout=harness.PATIENCE), 0)
            harness.until("the lane to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
            self.kill_engine()
            self.until_back(turn + 1)
        self.pipeline.end()
        out, err = watcher.communicate(timeout=harness.PATIENCE)
        self.assertEqual(err, "EPIPE\n")  # at the end, and not before
        *lines, missed = out.splitlines()
        self.assertEqual(missed, "missed 0")
        rows = [tuple(int(v) for v in line.split(",")) for line in lines]
        self.assertGreater(len(rows), 5 * 4 * 4 - 1)
        for partition in {r[0] for r in rows}:
            self.assertEqual([r[1] for r in rows if r[0] == partition],
                             list(range(sum(r[0] == partition for r in rows))))

    def test_a_producer_that_waits_for_room_is_given_it_by_the_next_engine(self):
        self.start(source=", cells: 64")
        feeder = self.feeder(1, 20_000, "keys", 1, "batch", 1000, "gate", "wait", -1, "hold")
        self.attached(feeder)
        self.stand_still()
        self.go(feeder)
        self.until_asleep(feeder)
        self.kill_engine()
        self.assertEqual(self.written(feeder), (20_000, 0))
        self.until_taken_all(20_000)
        self.ends(feeder)
        self.pipeline.end()

    def until_taken_all(self, count):
        harness.until(f"{count} records to be taken", lambda: self.pipeline.look("status")
                      ["sources"][0]["taken"] == count)

    def test_a_producer_that_leaves_or_dies_meanwhile_is_taken_to_its_end(self):
        self.start("--restarts", "5")
        for seed, how in ((1, []), (2, []), (3, ["die", 1])):
            feeder = self.feeder(seed, 1000, "hold", *how)
            self.attached(feeder)
            if how:
                feeder.wait(timeout=harness.PATIENCE)
            else:
                self.written(feeder)
                self.assertTrue(self.pipeline.signal_engine(signal.SIGSTOP))
                if seed == 1:
                    self.ends(feeder)
                else:
                    feeder.kill()
                    feeder.wait()
            self.kill_engine()
            harness.until("the lane to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        source = self.pipeline.look("status")["sources"][0]
        self.assertEqual(source["lanes_gone"], 3)
        self.assertEqual(source["published"], source["taken"])
        self.assertGreaterEqual(source["taken"], 2000)
        self.pipeline.end()


class Ending(Restarts):
    def test_a_drain_after_restarts_fires_what_came_since(self):
        self.start(*OFTEN)
        for _ in range(3):
            self.kill_engine()
        self.until_back(3)
        feeder = self.feeder(1, 5000, "hold")
        self.attached(feeder)
        self.written(feeder)
        _, err = self.pipeline.end()
        self.assertIn("every record left by one door", err)
        self.ends(feeder)
        wanted = stream.events(1, 5000)
        self.assertEqual(self.records(), wanted)
        self.check_windows(wanted)

    def test_an_engine_that_dies_over_a_signal_is_drained_by_the_next(self):
        self.start(*OFTEN)
        feeder = self.feeder(1, 1000, "hold")
        self.attached(feeder)
        self.written(feeder)
        engine = self.pipeline.engine
        os.kill(engine, signal.SIGSTOP)  # it cannot obey
        self.pipeline.process.send_signal(signal.SIGTERM)
        os.kill(engine, signal.SIGKILL)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        self.ends(feeder)
        self.pipeline.end()

    def test_an_engine_that_dies_while_it_drains_is_drained_by_the_next(self):
        os.mkfifo(self.dir / "records.csv")
        reader = os.open(self.dir / "records.csv", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.start(*OFTEN)
        feeder = self.feeder(1, ENDLESS, "wait", -1)  # more than a sink takes that nobody reads
        self.attached(feeder)
        drain = self.spawn(harness.RINGCTL, "drain", "p")
        self.assertIn("draining", drain.stderr.readline())
        self.ends(feeder, want=1)
        os.kill(self.pipeline.engine, signal.SIGKILL)
        os.set_blocking(reader, True)
        while os.read(reader, 1 << 20) or self.pipeline.process.poll() is None:
            continue
        self.pipeline.end()
        self.assertEqual(drain.wait(timeout=harness.PATIENCE), 0, drain.stderr.read())

    def test_a_second_signal_in_a_pause_ends_it(self):
        self.start(*OFTEN)
        feeder = self.feeder(1, 1000, "hold")
        self.attached(feeder)
        self.written(feeder)
        self.assertTrue(self.pipeline.signal_engine(signal.SIGSTOP))
        for _ in range(2):
            self.pipeline.process.send_signal(signal.SIGTERM)
            # two of the same are one as long as nobody reads them
            harness.until("the keeper to read it", lambda: signal.SIGTERM not in pending(self.pipeline.process.pid))
        self.assertTrue(self.pipeline.signal_engine())
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 4)
        self.assertEqual(self.left_behind(), [])
        self.assertIn("died as it was to stop", self.pipeline.process.stderr.read())
        self.ends(feeder)

    def test_sighup_drains(self):
        self.start()
        _, err = self.pipeline.end(signal.SIGHUP)
        self.assertIn("draining: signalled", err)

    def test_signals_to_the_engine_itself_are_the_keepers_to_pass_on(self):
        """A terminal signals both of them; that is one signal, not two."""
        self.start()
        feeder = self.feeder(1, 1000, "hold")
        self.attached(feeder)
        self.written(feeder)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.assertTrue(self.pipeline.signal_engine(number))
        self.assertEqual(self.pipeline.look("status")["state"], "running")
        self.pipeline.end()
        self.ends(feeder)
        self.assertEqual(self.records(), stream.events(1, 1000))

    def test_a_signal_to_the_whole_group_is_not_lost_to_an_engine_that_is_slow(self):
        """A service manager sends SIGTERM to both; what the keeper passes on is not merged with that."""
        self.start()
        engine = self.pipeline.engine
        os.kill(engine, signal.SIGSTOP)

        os.kill(engine, signal.SIGTERM)
        self.pipeline.process.send_signal(signal.SIGTERM)
        harness.until("the keeper to pass it on", lambda: pending(engine) - {signal.SIGTERM})
        os.kill(engine, signal.SIGCONT)
        self.pipeline.process.wait(harness.PATIENCE)
        self.assertIn("draining: signalled", self.pipeline.process.stderr.read())
        self.assertEqual(self.pipeline.process.returncode, 0)

    def test_who_kills_the_keeper_ends_everything(self):
        self.start()
        feeder = self.feeder(1, ENDLESS, "pause", 100, "wait", -1)
        self.attached(feeder)
        engine = self.pipeline.engine
        self.pipeline.process.kill()
        self.pipeline.process.wait()
        self.assertIn("Broken pipe", self.ends(feeder, want=1))
        harness.until("the engine to end", lambda: not pathlib.Path(f"/proc/{engine}").exists())
        self.assertIn("is dead", self.ringctl("status", "p", want=4).stderr)
        self.start()  # what was left is no hindrance
        self.pipeline.end()

    def test_a_producer_with_room_for_hours_learns_of_such_an_end_at_once(self):
        for source in ("", ", lane: shared"):
            with self.subTest(source=source):
                self.start(source=source)
                feeder = self.feeder(1, ENDLESS, "pause", 20000, "wait", -1)
                self.attached(feeder)
                harness.until("a first record", lambda f=feeder: self.progress(f)[1] > 0)
                self.pipeline.process.kill()
                self.pipeline.process.wait()
                self.assertIn("the pipeline died", self.ends(feeder, want=1))
                self.assertLess(self.progress(feeder)[0], 60000)  # it has never waited for room


class GivingUp(Restarts):
    def test_it_gives_up_and_says_why(self):
        self.start("--restarts", "2", "--within", "1h")
        feeder = self.feeder(1, ENDLESS, "pause", 100, "wait", -1)
        self.attached(feeder)
        for _ in range(2):
            self.kill_engine(signal.SIGSYS)  # a sanitizer has SIGSEGV for itself
        self.assertTrue(self.pipeline.signal_engine(signal.SIGABRT))
        _, err = self.pipeline.process.communicate(timeout=harness.PATIENCE)
        self.assertEqual(self.pipeline.process.returncode, 4, err)
        self.assertEqual(self.left_behind(), [])
        self.assertIn("the engine died 3 times within 3600 s", err)
        self.assertIn("SIGABRT", err)
        self.assertIn("Broken pipe", self.ends(feeder, want=1))

    def test_what_cannot_start_is_not_tried_again(self):
        path = self.write("q.yaml", (PIPELINE % (stream.SCHEMA, "", stream.AGGREGATES)).replace(
            "path: counts.csv", "path: /nowhere/counts.csv"))
        err = self.ringmill("run", path, want=1).stderr
        self.assertEqual(err.count("/nowhere/counts.csv"), 1, err)
        self.assertNotIn("died", err)
        self.assertEqual(self.left_behind(), [])

    def test_without_a_keeper_a_death_is_the_end(self):
        path = self.write("p.yaml", PIPELINE % (stream.SCHEMA, "", stream.AGGREGATES))
        process = self.spawn(harness.RINGMILL, "run", path, "--no-keeper")
        while "running: p" not in process.stderr.readline():
            self.assertIsNone(process.poll())
        self.assertEqual(json.loads(self.ringctl("status", "p", "--json").stdout)["engine_pid"], process.pid)
        process.kill()
        self.assertEqual(process.wait(), -signal.SIGKILL)


class Looking(Restarts):
    def stage(self, name):
        return next(s for s in self.pipeline.look("status")["stages"] if s["name"] == name)

    def test_status_says_how_often_when_and_why(self):
        self.start(*OFTEN)
        seen = self.pipeline.look("status")
        self.assertEqual((seen["restarts"], seen["last_death"]), (0, None))
        self.assertEqual((seen["pid"], seen["engine_pid"]),
                         (self.pipeline.process.pid, self.pipeline.engine))
        self.assertNotIn("restarts", self.pipeline.ctl("status").stdout)
        feeder = self.spawn(harness.FEEDER, "p/ticks", self.hash, 1, 5000, "keys", 4, "hold",
                            stdin=harness.subprocess.PIPE)
        self.attached(feeder)
        self.written(feeder)
        harness.until("windows to fire", lambda: self.stage("counts")["rows_out"] == 4 * 4)
        keys = self.stage("counts")["keys"]
        self.assertGreater(keys, 0)
        before = time.time_ns()
        dead = self.kill_engine(signal.SIGSYS)
        self.until_back(1)
        seen = self.pipeline.look("status")
        death = seen["last_death"]
        self.assertEqual((death["pid"], seen["engine_pid"]), (dead, self.pipeline.engine))
        self.assertTrue(before <= death["at_ns"] <= time.time_ns())
        self.assertIn("SIGSYS", death["why"])
        counts = self.stage("counts")
        self.assertEqual((counts["keys"], counts["keys_lost"], counts["rows_out"]), (0, keys, 4 * 4))
        said = self.pipeline.ctl("status").stdout
        self.assertRegex(said, r"(?m)^restarts +1, the last at \S+Z: process \d+ died: SIGSYS")
        self.assertIn("windows that were open then are lost", said)
        self.ends(feeder)
        self.pipeline.end()

    def test_who_looks_while_it_is_down_is_told_that_it_is_restarting(self):
        self.start("--restarts", "1000", "--within", "1h")  # pauses grow to seconds, and it is not given up
        stat = self.spawn(harness.RINGCTL, "stat", "p", "--json", "--every", "20ms")
        self.assertEqual(json.loads(stat.stdout.readline())["state"], "running")

        _, go_on = self.catch_waiting(by_killing=True)
        one, = json.loads(self.ringctl("ls", "--json", "--timeout", "50ms").stdout)["pipelines"]
        self.assertEqual(one["state"], "restarting")
        said = self.pipeline.ctl("status", "--timeout", "1ms", want=5).stderr
        self.assertRegex(said, "pipeline p is restarting: .* it says: the engine .* has died: SIGKILL; it is started again in")
        while json.loads(stat.stdout.readline())["state"] != "restarting":
            self.assertIsNone(stat.poll())
        go_on()
        while json.loads(stat.stdout.readline())["state"] != "running":
            self.assertIsNone(stat.poll())
        self.pipeline.end()
        self.assertEqual(stat.wait(timeout=harness.PATIENCE), 0)


if __name__ == "__main__":
    harness.main()
