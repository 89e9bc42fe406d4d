"""With checkpoints, whatever dies beside or during something else changes no result: producers, the keeper,
an engine that drains or is not up yet."""
import os
import random
import re
import signal
import subprocess
import time

import exactly_once
import harness
import killed_producers
import restarts
import stream

SEED = int(os.environ.get("RML_SEED", "20261121"))
ROUNDS = int(os.environ.get("RML_ROUNDS", "3"))
ENDLESS = 1 << 31
NEVER = ", state: ./state, checkpoint: {every: 1h, min_pause: 1h}"

# Windows that can be followed by a subscriber.
WATCHED = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2%s}
sources:
  ticks: {schema: event, event_time: ts, partition_by: [key]}
stages:
  counts: {from: ticks, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count(), total: sum(value)}}
sinks:
  live: {from: counts, type: ring, rows: 65536}
  counted: {from: counts, type: csv, path: counts.csv}
"""


class Hardships(exactly_once.Saving):
    def drawn(self):
        print("seed", SEED)
        return random.Random(SEED)

    def start_with(self, runtime):
        super(restarts.Restarts, self).start(runtime=runtime, args=restarts.OFTEN)

    def until_freed(self, keeper_fds):
        """Wait until the keeper keeps no lane any more."""
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0
                      and self.keeper_fds() == keeper_fds)

    def came_of(self, feeder, came):
        """The feeder's own among the records, of each key the first so many."""
        mine = [r for r in came if r["id"] >> 32 == feeder.seed]
        made = stream.events(feeder.seed, self.progress(feeder)[0], 4)
        for key in {r["key"] for r in made}:
            got = [r for r in mine if r["key"] == key]
            self.assertEqual(got, [r for r in made if r["key"] == key][:len(got)])
        return mine


class Killed(Hardships, killed_producers.Victims):
    def test_what_producers_published_before_they_and_engines_were_killed_is_in_the_results_once(self):
        rng = self.drawn()
        self.start(source=", cells: 512")
        keeper_fds = self.keeper_fds()
        victims, kills = [], 0
        for first in range(1, 8 * ROUNDS, 4):
            some = []
            for seed in range(first, first + 4):
                how = self.draw(rng)
                how[how.index("die") + 1] *= 30  # it lives for some checkpoints
                victim = self.feeder(seed, ENDLESS, *how)
                victim.keys = how[1]
                some.append(victim)
                if "early" not in how:
                    self.attached(victim)
            while any(victim.poll() is None for victim in some) or rng.random() < 0.7:
                time.sleep(rng.random() * 0.05)
                self.kill_engine()
                kills += 1
            for victim in some:
                self.assertEqual(victim.returncode, -signal.SIGKILL, victim.stderr.read())
            victims += some
        self.until_back(kills)
        self.until_freed(keeper_fds)
        source, = self.pipeline.look("status")["sources"]
        self.assertEqual(source["published"], source["taken"])
        self.assertTrue(self.pipeline.look("balance")["adds_up"])
        self.pipeline.end()
        came = self.records()
        self.assertEqual(len(came), source["published"])
        for victim in victims:
            with self.subTest(seed=victim.seed):
                self.check_prefix(victim, victim.keys, [r for r in came if r["id"] >> 32 == victim.seed])
        self.assertGreater(len({r["id"] >> 32 for r in came}), len(victims) // 2)
        self.check_windows(came)

    def live(self, life):
        """Feed for a while. The feeders, which still do."""
        feeders = [self.feeder(10 * life + s, ENDLESS, "keys", 4, "batch", 16, "pause", 200, "wait", -1,
                               "until-told") for s in (1, 2)]
        self.attached(*feeders)
        time.sleep(0.05 + self.rng.random() * 0.3)
        if self.rng.random() < 0.5:
            self.kill_engine()
            time.sleep(self.rng.random() * 0.05)
        return feeders

    def test_after_the_keeper_was_killed_results_go_on_from_the_last_checkpoint(self):
        self.rng = self.drawn()
        before = []
        for life in range(ROUNDS):
            self.start()
            feeders = self.live(life)
            if life == 0:  # there is one checkpoint to go on from at least
                self.until_published(feeders, 1)
                harness.until("something to be taken", lambda: self.pipeline.look("status")["sources"][0]["taken"] > 0)
                self.ringctl("checkpoint", "now", "p")
            self.pipeline.process.kill()
            self.pipeline.process.wait()
            for feeder in feeders:
                feeder.communicate("", timeout=harness.PATIENCE)
            before += feeders
        self.start()
        last = self.live(ROUNDS)
        self.end_feeders(last)
        self.pipeline.end()
        came = self.records()
        self.assertEqual(len({r["id"] for r in came}), len(came))
        self.assertGreater(sum(len(self.came_of(feeder, came)) for feeder in before), 0)
        for feeder in last:
            self.assertEqual(len(self.came_of(feeder, came)), self.progress(feeder)[1])
        self.check_windows(came)

    def test_a_subscriber_is_given_each_row_once_however_often_the_engine_is_killed(self):
        rng = self.drawn()
        self.start_text(WATCHED % (stream.SCHEMA, exactly_once.RUNTIME), args=restarts.OFTEN)
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        row_hash = re.search(r"COUNTS_ROW_SCHEMA_HASH UINT64_C\((\w+)\)", header)[1]
        with open(self.dir / "watched", "w") as watched:
            watcher = self.spawn(harness.WATCHER, "p/counts", row_hash, stdin=subprocess.PIPE, stdout=watched)
        self.assertEqual(watcher.stderr.readline(), "attached\n")
        feeder = self.spawn(harness.FEEDER, "p/ticks", self.hash, 1, ENDLESS, "keys", 4, "step", 20_000_000,
                            "batch", 7, "pause", 500, "wait", -1, "until-told", stdin=subprocess.PIPE)
        self.attached(feeder)
        for _ in range(10 * ROUNDS):
            time.sleep(rng.random() * 0.06)
            self.kill_engine()
        self.until_back(10 * ROUNDS)
        harness.until("some rows", lambda: self.pipeline.look("status")["stages"][0]["rows_out"] > 20)
        self.ends(feeder)
        self.pipeline.end()
        _, err = watcher.communicate(timeout=harness.PATIENCE)
        self.assertEqual(err, "EPIPE\n")
        *lines, missed = (self.dir / "watched").read_text().splitlines()
        self.assertEqual(missed, "missed 0")
        rows = [tuple(int(v) for v in line.split(",")) for line in lines]
        for partition in {r[0] for r in rows}:
            self.assertEqual([r[1] for r in rows if r[0] == partition],
                             list(range(sum(r[0] == partition for r in rows))))
        in_file = harness.rows_of_csv((self.dir / "counts.csv").read_text())
        self.assertEqual(sorted((r[2], r[3], r[5], r[6]) for r in rows),
                         sorted((int(r["window_start"]), int(r["key"]), int(r["n"]), int(r["total"]))
                                for r in in_file))
        self.assertGreater(len(rows), 20)


class Moments(Hardships):
    def feed(self, count):
        feeders = [self.feeder(s, count, "keys", exactly_once.KEYS[s], "batch", 16, "wait", -1, "hold")
                   for s in (1, 2)]
        self.attached(*feeders)
        for feeder in feeders:
            self.assertEqual(self.written(feeder), (count, 0))
        return feeders

    def test_engines_that_are_killed_before_a_first_checkpoint_lose_nothing(self):
        rng = self.drawn()
        self.start_with(NEVER)
        feeders = self.feed(3000)
        for _ in range(5 * ROUNDS):
            self.kill_engine()
            time.sleep(rng.random() * 0.02)  # some come up, some do not
        for feeder in feeders:
            self.ends(feeder)
        self.pipeline.end()
        self.check_all(feeders)

    def test_what_an_earlier_life_took_is_counted_though_the_first_engine_dies_coming_up(self):
        rng = self.drawn()
        self.start_with(NEVER)
        self.end_feeders(self.feed(1000))
        self.ringctl("stop", "p")
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        for turn in range(8 * ROUNDS):
            process = self.spawn(harness.RINGMILL, "run", "p.yaml", *restarts.OFTEN)
            self.pipeline = harness.Running(self, "p", process)
            harness.until("an engine", lambda: self.pipeline.engine)
            time.sleep(rng.random() * 0.01)  # somewhere on its way
            self.pipeline.kill_engine()
            with self.subTest(turn=turn):
                self.assertEqual(self.pipeline.look("status")["sources"][0]["published"], 2000)
                self.assertTrue(self.pipeline.look("balance")["adds_up"])
            self.ringctl("stop", "p")
            self.assertEqual(process.wait(timeout=harness.PATIENCE), 0)

    # One life after the other in one folder: each finds the end of the one before.
    def test_engines_that_are_killed_as_they_drain_are_drained_by_the_next(self):
        rng = self.drawn()
        for turn in range(8 * ROUNDS):
            with self.subTest(turn=turn):
                self.start_with(NEVER if turn % 2 else exactly_once.RUNTIME)
                feeders = self.feed(1000)
                for feeder in feeders:
                    self.ends(feeder)
                process, kills = self.pipeline.process, 0
                process.send_signal(signal.SIGTERM)
                while process.poll() is None and kills < 3:
                    time.sleep(rng.random() * 0.015)
                    kills += self.pipeline.signal_engine() != 0
                _, err = process.communicate(timeout=harness.PATIENCE)
                self.assertEqual(process.returncode, 0, err)
                self.assertEqual(self.left_behind(), [])
                self.check_all(feeders)


if __name__ == "__main__":
    harness.main()
