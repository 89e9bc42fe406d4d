"""With checkpoints, no engine that is killed changes a result: every record is in them, and once."""
import os
import random
import time

import harness
import restarts
import stream

SEED = 20261121
KILLS = int(os.environ.get("RML_KILLS", "30"))
ENDLESS = 1 << 31
RUNTIME = ", state: ./state, checkpoint: {every: 30ms, min_pause: 1ms}"
KEYS = {1: 3, 2: 8, 3: 1, 4: 5}


# One producer, so that what is late does not depend on who comes first.
WINDOWS = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2%s}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 2ms, cells: 16384}
stages:
  all: {from: events, filter: true}
  fixed: {from: events, key: key, window: {type: tumbling, size: 100ms, late: 4ms},
          aggregate: {n: count(), mean: avg(value), p90: 'quantile(value, 0.9)', ids: distinct(id)}}
  moving: {from: events, key: key, window: {type: sliding, size: 500ms, every: 20ms},
           aggregate: {n: count(), spread: stddev_samp(value), often: 'top(value, 2)'}}
  bursts: {from: events, key: key, window: {type: session, gap: 12ms, late: 100ms},
           aggregate: {n: count(), mid: median(value), exact: 'quantile(value, 0.5, exact)'}}
  tens: {from: events, key: key, window: {type: tumbling, size: 10 records}, aggregate: {total: sum(value)}}
sinks:
  records: {from: all, type: csv, path: records.csv}
  late: {from: fixed.late, type: csv, path: late.csv}
  fixed: {from: fixed, type: csv, path: fixed.csv}
  moving: {from: moving, type: csv, path: moving.csv}
  bursts: {from: bursts, type: csv, path: bursts.csv}
  tens: {from: tens, type: csv, path: tens.csv}
"""


class Saving(restarts.Restarts):
    """A pipeline with a state, and feeders of which all must be in its results."""

    def start(self, source="", **more):
        super(restarts.Restarts, self).start(runtime=RUNTIME, source=source, args=restarts.OFTEN, **more)

    def feeders(self, *seeds):
        how = {1: ["batch", 1, "pause", 100], 2: ["batch", 64, "pause", 999, "in-place"],
               3: ["batch", 300, "pause", 9999], 4: ["batch", 7, "pause", 300]}
        some = [self.feeder(s, ENDLESS, "keys", KEYS[s], *how[s], "wait", -1, "until-told") for s in seeds]
        self.attached(*some)
        return some

    def until_published(self, feeders, count=1000):
        harness.until(f"{count} records of each feeder",
                      lambda: all(self.progress(f)[1] >= count for f in feeders),
                      while_moves=lambda: [min(self.progress(f)[1], count) for f in feeders])

    def end_feeders(self, feeders):
        for feeder in feeders:
            feeder.stdin.close()
        for feeder in feeders:
            self.assertEqual(feeder.wait(timeout=harness.PATIENCE), 0, feeder.stderr.read())

    def made(self, feeders):
        return [r for f in feeders for r in stream.events(f.seed, self.progress(f)[1], KEYS[f.seed])]

    def check_all(self, feeders):
        came = self.records()
        self.assertEqual(came, sorted(self.made(feeders), key=lambda r: r["id"]))
        self.check_windows(came)


class ExactlyOnce(Saving):
    def test_every_record_is_in_the_results_once_however_often_the_engine_is_killed(self):
        rng = random.Random(SEED)
        print("seed", SEED, "kills", KILLS)
        self.start(source=", cells: 16384")
        feeders = self.feeders(1, 2, 3, 4)
        for _ in range(KILLS):
            time.sleep(rng.random() * 0.1)  # no moment is a particular one
            self.kill_engine()
        self.until_back(KILLS)
        self.end_feeders(feeders)
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        balance = self.pipeline.look("balance")
        self.assertTrue(balance["adds_up"], balance)
        self.pipeline.end()
        self.check_all(feeders)

    def test_windows_of_every_kind_are_those_of_a_run_without_a_kill(self):
        rng = random.Random(SEED + 1)
        print("seed", SEED + 1, "kills", KILLS)
        super(restarts.Restarts, self).start_text(WINDOWS % (stream.SCHEMA, RUNTIME), args=restarts.OFTEN)
        feeder = self.feeder(7, ENDLESS, "keys", 9, "batch", 32, "pause", 500, "disorder", 16_000_000,
                             "wait", -1, "until-told")
        self.attached(feeder)
        for _ in range(KILLS):
            time.sleep(rng.random() * 0.1)
            self.kill_engine()
        self.until_back(KILLS)
        self.until_published([feeder], 3000)  # which makes some windows of each kind
        self.end_feeders([feeder])
        self.pipeline.end()
        made = stream.events(7, self.progress(feeder)[1], 9, disorder_ns=16_000_000)
        self.assertEqual(self.records(), made)

        self.write("made.csv", stream.as_csv(made))
        outputs = ("late", "fixed", "moving", "bursts", "tens")
        names = [f for n in outputs for f in ("--output", f"{n.replace('late', 'fixed.late')}=again-{n}.csv")]
        self.ringmill("replay", self.dir / "p.yaml", "--input", "events=made.csv", *names)
        for n in outputs:
            with self.subTest(output=n):
                came, wanted = [sorted((self.dir / f"{name}.csv").read_text().splitlines())
                                for name in (n, f"again-{n}")]
                self.assertGreater(len(wanted), 20)
                self.assertEqual(came, wanted)

    def test_a_pipeline_that_was_stopped_goes_on_where_it_stopped(self):
        self.start()
        first = self.feeders(1, 2)
        self.until_published(first)
        self.end_feeders(first)
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        self.assertEqual(self.ringctl("stop", "p").returncode, 0)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        self.start()
        second = self.feeders(3, 4)
        self.until_published(second)
        self.end_feeders(second)
        self.pipeline.end()
        self.check_all(first + second)


if __name__ == "__main__":
    harness.main()
