"""Whatever is killed, and whenever, no result differs from that of a run in which nothing was.

A *run* is a pipeline with a state and some lives. A life ends with the death of the keeper, with a stop,
or, the last one, with a drain. In each life engines are killed at drawn moments, some while they come up,
and of the producers some die, too. Three sources come together in it:

    left, right   one producer in each life, records out of order and some of them late: windows of every
                  kind, sketches in their aggregates
    crowd         producers that come and die; nothing is late, so that it does not matter who came first

What an uninterrupted run gives is made by `ringmill replay` of what the producers made. Records that were lost
with a keeper, since no checkpoint covered them, are in there too, with a value that a filter takes out: so
the clock that others are judged by is the same. RML_KILLS engines are killed in as many runs as it takes;
RML_SEED chooses them, and with it RML_KILLS=1 makes one run again.
"""
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
import pathlib

import harness
import killed_producers
import restarts
import stream

SEED = int(os.environ.get("RML_SEED", "20261121"))
KILLS = int(os.environ.get("RML_KILLS", "25"))
ENDLESS = 1 << 31
LIFE_NS = 1000 * 10**9  # of event time, from one life's first record to the next one's
LOST = -5000
FLOAT = re.compile(r"-?\d+\.\d+")

PIPELINE = """
version: 1
pipeline: p
schema: {event: %(schema)s}
runtime: {partitions: %(partitions)d, workers: %(workers)d, state: ./state,
          checkpoint: {every: %(every)dms, min_pause: 1ms}}
sources:
  left: {schema: event, event_time: ts, partition_by: [key], out_of_order: 2ms, cells: %(cells)d}
  right: {schema: event, event_time: ts, partition_by: [key], out_of_order: 9ms, idle_after: 1h, cells: %(cells)d}
  crowd: {schema: event, event_time: ts, partition_by: [key], out_of_order: 1h, idle_after: 1h, cells: %(cells)d}
stages:
  left_all: {from: left, filter: true}
  right_all: {from: right, filter: true}
  crowd_all: {from: crowd, filter: true}
  left_kept: {from: left, filter: value > -1000}
  right_kept: {from: right, filter: value > -1000}
  sums: {from: crowd, key: key, window: {type: tumbling, size: 1s}, aggregate: %(aggregates)s}
  fixed: {from: left_kept, key: key, window: {type: tumbling, size: 100ms, late: 4ms},
          aggregate: {n: count(), mean: avg(value), p90: 'quantile(value, 0.9)', ids: distinct(id)}}
  counts: {from: left_kept, key: key, window: {type: tumbling, size: 20ms}, aggregate: {n: count(), total: sum(value)}}
  moving: {from: left_kept, key: key, window: {type: sliding, size: 500ms, every: 20ms},
           aggregate: {n: count(), spread: stddev_samp(value), often: 'top(value, 2)'}}
  bursts: {from: right_kept, key: key, window: {type: session, gap: 12ms, late: 100ms},
           aggregate: {n: count(), mid: median(value), exact: 'quantile(value, 0.5, exact)'}}
  tens: {from: right_kept, key: key, window: {type: tumbling, size: 10 records}, aggregate: {total: sum(value)}}
  slow: {from: right_kept, key: key, window: {type: sliding, size: 300ms, every: 50ms},
         aggregate: {p99: 'quantile(value, 0.99)', ids: distinct(id), often: 'top(value, 3)'}}
sinks:
  live: {from: counts, type: ring, rows: 65536}
"""
ALL = ("left_all", "right_all", "crowd_all")
MADE = ("sums", "fixed", "fixed.late", "counts", "counts.late", "moving", "moving.late", "bursts", "bursts.late",
        "tens", "slow", "slow.late")
SINK = "  {name}: {{from: {stage}, type: csv, path: {stage}.csv}}\n"


class Run(killed_producers.Victims):
    """One run, in a folder of its own."""

    def begin_run(self, base, seed):
        self.rng = random.Random(seed)
        self.dir = base / str(seed)
        self.dir.mkdir()
        self.rundir = self.dir / "run"
        self.env["RINGMILL_RUNDIR"] = str(self.rundir)
        workers = self.rng.choice([1, 2, 2, 3])
        how = {"schema": stream.SCHEMA, "aggregates": stream.AGGREGATES, "workers": workers,
               "partitions": workers + self.rng.randrange(3), "every": self.rng.choice([5, 30, 100, 1000]),
               "cells": self.rng.choice([512, 4096, 16384])}
        self.text = PIPELINE % how + "".join(SINK.format(name=stage.replace(".", "_"), stage=stage)
                                             for stage in ALL + MADE)
        self.lives = self.rng.randrange(1, 4)
        self.kills = self.keepers = self.deaths = 0
        self.seeds = 0
        self.single = {"left": [], "right": []}  # feeders, life by life
        self.victims = []
        self.rows = {}  # of the ring, by partition and number
        self.unsure = set()  # partitions that have given no row since a keeper died: who knows which are left
        self.hashes = None

    def feed(self, source, *how, until_told=True):
        """A feeder of `source`, with a seed of its own."""
        self.seeds += 1
        path = self.dir / f"progress-{self.seeds}"
        more = ["wait", -1, "from", self.life * LIFE_NS] + (["until-told"] if until_told else [])
        feeder = self.spawn(harness.FEEDER, f"p/{source}", self.hash, self.seeds, ENDLESS, "progress", path, *how,
                            *more, stdin=subprocess.PIPE)
        feeder.seed, feeder.life, feeder.is_whole = self.seeds, self.life, False
        feeder.keys = how[how.index("keys") + 1]
        return feeder

    def feed_alone(self, source):
        disorder = self.rng.choice([0, 5_000_000, 16_000_000])
        feeder = self.feed(source, "keys", self.rng.choice([9, 20]), "batch", self.rng.choice([1, 32, 100]),
                           "pause", self.rng.choice([200, 500]), "disorder", disorder)
        feeder.disorder = disorder
        self.single[source].append(feeder)
        return feeder

    def feed_victim(self):
        how = self.draw(self.rng)
        how[how.index("die") + 1] *= 30  # it lives for some checkpoints
        how[how.index("pause") + 1] += 50
        victim = self.feed("crowd", *how, until_told=False)
        self.victims.append(victim)
        self.deaths += 1
        return victim

    def begin_life(self):
        self.start_text(self.text, args=restarts.OFTEN)
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        row_hash = re.search(r"COUNTS_ROW_SCHEMA_HASH UINT64_C\((\w+)\)", header)[1]
        with open(self.dir / "watched", "w") as watched:
            self.watcher = self.spawn(harness.WATCHER, "p/counts", row_hash, "oldest", stdin=subprocess.PIPE,
                                      stdout=watched)
        self.assertEqual(self.watcher.stderr.readline(), "attached\n")
        feeders = [self.feed_alone("left"), self.feed_alone("right"),
                   self.feed("crowd", "keys", 5, "batch", 7, "pause", 300)]
        self.attached(*feeders)
        self.victims.append(feeders[-1])
        return feeders

    def kill_some(self, count):
        """Kill so many engines, and start producers that die, meanwhile."""
        dying = []
        for _ in range(count):
            time.sleep(self.rng.random() * self.rng.choice([0.005, 0.05, 0.15]))  # no moment is a particular one
            self.pipeline.kill_engine()
            self.kills += 1
            dying = [v for v in dying if v.poll() is None]
            if len(dying) < 3 and self.rng.random() < 0.5:
                dying.append(self.feed_victim())
        return dying

    def end_life(self, how, feeders, dying):
        process = self.pipeline.process
        died = False
        told = self.rng.random() < 0.5 if how != "drain" else True
        if told and how != "keeper":
            for feeder in feeders:
                self.ends(feeder)
        if how == "keeper":
            process.kill()
            process.wait()
            self.keepers += 1
            died = True
        elif how == "stop":
            self.ringctl("stop", "p")
            process.communicate(timeout=harness.PATIENCE)
            self.assertEqual(process.returncode, 0)
        else:
            process.send_signal(signal.SIGTERM)
            if self.rng.random() < 0.5:
                time.sleep(self.rng.random() * 0.02)
                self.kills += self.pipeline.signal_engine() != 0
            _, err = process.communicate(timeout=harness.PATIENCE)
            self.assertEqual(process.returncode, 0, err)
        for feeder in feeders + dying:
            with harness.contextlib.suppress(BrokenPipeError):
                feeder.communicate("", timeout=harness.PATIENCE)
        for feeder in self.victims + self.single["left"] + self.single["right"]:
            if feeder.life == self.life:
                feeder.is_whole = how != "keeper"
        _, err = self.watcher.communicate(timeout=harness.PATIENCE)
        self.assertIn(err, ("EPIPE\n", "ECONNRESET\n"))
        self.take_watched()
        if died:
            self.unsure = set(self.rows)
        for child in self.children:
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        self.children = []

    def take_watched(self):
        """Rows of this life have numbers without a gap, none twice; a life that goes on from before those of another
        gives these anew."""
        *lines, missed = (self.dir / "watched").read_text().splitlines()
        self.assertEqual(missed, "missed 0")
        came = {}
        for line in lines:
            partition, number, *row = (int(v) for v in line.split(","))
            came.setdefault(partition, []).append((number, row))
        for partition, rows in came.items():
            first = rows[0][0]
            self.assertEqual([n for n, _ in rows], list(range(first, first + len(rows))))
            known = self.rows.setdefault(partition, [])
            self.assertLessEqual(first, len(known))
            known[first:] = [row for _, row in rows]
            self.unsure.discard(partition)

    def check_numbers(self):
        in_file = harness.rows_of_csv((self.dir / "counts.csv").read_text())
        written = [(int(r["window_start"]), int(r["key"]), int(r["n"]), int(r["total"])) for r in in_file]
        watched = []
        for partition, rows in self.rows.items():
            rows = [(r[0], r[1], r[3], r[4]) for r in rows]
            if partition in self.unsure:  # the first so many of them
                keys = {r[1] for r in rows}
                rows = rows[:sum(r[1] in keys for r in written)]
            watched += rows
        self.assertEqual(sorted(watched), sorted(written))

    def made_of(self, source, came):
        """What the producers of left or right made, life by life, without that of which none came."""
        ids = {r["id"] for r in came}
        made = []
        for feeder in self.single[source]:
            begun, published = self.progress(feeder)
            events = stream.events(feeder.seed, begun, feeder.keys, disorder_ns=feeder.disorder,
                                   from_ns=feeder.life * LIFE_NS)
            if feeder.is_whole:
                self.assertTrue(ids.issuperset(e["id"] for e in events[:published]))
            for key in {e["key"] for e in events}:  # of each key the first so many
                there = [e["id"] in ids for e in events if e["key"] == key]
                self.assertEqual(there, sorted(there, reverse=True))
            made += [e if e["id"] in ids else dict(e, value=LOST) for e in events]
        by_id = {e["id"]: e for e in made}
        self.assertEqual([by_id[r["id"]] for r in came], came)
        return made

    def check_crowd(self, came):
        by_seed = {}
        for record in came:
            by_seed.setdefault(record["id"] >> 32, []).append(record)
        for victim in self.victims:
            begun, published = self.progress(victim)
            mine = by_seed.pop(victim.seed, [])
            made = stream.events(victim.seed, begun, victim.keys, from_ns=victim.life * LIFE_NS)
            for key in {r["key"] for r in made}:
                got = [r for r in mine if r["key"] == key]
                self.assertEqual(got, [r for r in made if r["key"] == key][:len(got)])
            if victim.is_whole:
                self.assertTrue({r["id"] for r in mine}.issuperset(r["id"] for r in made[:published]))
        self.assertEqual(by_seed, {})

    def check(self):
        came = {source: self.records(f"{source}_all.csv") for source in ("left", "right", "crowd")}
        for records in came.values():
            self.assertEqual(len({r["id"] for r in records}), len(records))
        self.check_crowd(came["crowd"])
        self.check_numbers()
        inputs = [("left", self.made_of("left", came["left"])), ("right", self.made_of("right", came["right"])),
                  ("crowd", came["crowd"])]
        for source, records in inputs:
            self.write(f"{source}.csv", stream.as_csv(records))
        self.ringmill("replay", self.dir / "p.yaml", *(w for s, _ in inputs for w in ("--input", f"{s}={s}.csv")),
                      *(w for stage in MADE for w in ("--output", f"{stage}=again-{stage}.csv")))
        rows = 0
        for stage in MADE:
            came_out, wanted = [self.lines_of(name) for name in (stage, f"again-{stage}")]
            self.assertEqual(came_out, wanted, stage)
            rows += len(wanted) - 1
        return sum(map(len, came.values())), rows

    def lines_of(self, stage):
        """The rows of a file, in an order of their own. Where records were lost, keys may have other places in
        memory than where these are filtered out; then the sums of a sliding window are put together in another
        order, and their last digit is not the same."""
        text = (self.dir / f"{stage}.csv").read_text()
        if self.keepers > 0:
            text = FLOAT.sub(lambda found: f"{float(found[0]):.12g}", text)
        return sorted(text.splitlines())

    def make_run(self, base, seed):
        self.begin_run(base, seed)
        for self.life in range(1, self.lives + 1):
            feeders = self.begin_life()
            dying = self.kill_some(self.rng.randrange(4, 16))
            last = self.life == self.lives
            self.end_life("drain" if last else self.rng.choice(["keeper", "keeper", "stop"]), feeders, dying)
        return self.check()


class Torture(Run):
    def test_results_are_those_of_a_run_without_a_kill(self):
        base = pathlib.Path(tempfile.mkdtemp(prefix="ringmill-torture-"))
        kills = runs = keepers = deaths = 0
        while kills < KILLS:
            seed = SEED + runs
            try:
                records, rows = self.make_run(base, seed)
            except BaseException:
                print(f"seed {seed} failed, see {self.dir}", flush=True)
                self.dir = base / "nothing"  # what is there is left for people to look at
                raise
            shutil.rmtree(self.dir)
            kills, keepers, deaths, runs = (kills + self.kills, keepers + self.keepers, deaths + self.deaths, runs + 1)
            print(f"run {runs}, seed {seed}: right: {records} records, {rows} rows, {self.lives} lives; killed so far: "
                  f"{kills} engines, {keepers} keepers, {deaths} producers", flush=True)
        os.rmdir(base)


if __name__ == "__main__":
    harness.main()
