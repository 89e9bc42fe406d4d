"""A process killed at each of its system calls in turn, before the call is done and right behind it: no result differs.

Moments drawn from a clock (exactly_once.py, torture.py) rarely meet the microseconds between two calls in which a
checkpoint is written, a lane handed over or a folder opened. Here at_call.c counts calls, and kills at the one that was
asked for. A first run lists the calls of each thread over a stretch that is of interest; each of them, by its thread and
its number, is a moment then, before the call and behind it. RML_CALLS of them are drawn by RML_SEED, fewer of those that
need a run of their own; RML_CALLS=all takes all of them (tools/torture --every-call), some thousands.

Threads do not make the same calls each time, so a moment may not come again; of all of them more than half must.
"""
import collections
import itertools
import json
import mmap
import os
import random
import re
import signal
import struct
import subprocess

import harness
import hardships
import journal
import restarts
import stream
import tables

AT_CALL = harness.BUILD / "tests" / "scenario" / "at_call"
SEED = int(os.environ.get("RML_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
CALLS = os.environ.get("RML_CALLS", "16")
TOGETHER = 40  # kills in one run
ENDLESS = 1 << 31
OFTEN = ", state: ./state, checkpoint: {every: 20ms, min_pause: 1ms}"

# All that a death could spoil: a journal, files, tables, a ring; records that are late, and windows open for long.
PIPELINE = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2%s}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 2ms, journal: true}
stages:
  all: {from: events, filter: true}
  fixed: {from: events, key: key, window: {type: tumbling, size: 100ms, late: 4ms},
          aggregate: {n: count(), mean: avg(value), p90: 'quantile(value, 0.9)'}}
  moving: {from: events, key: key, window: {type: sliding, size: 500ms, every: 20ms}, aggregate: {n: count()}}
  bursts: {from: events, key: key, window: {type: session, gap: 12ms, late: 100ms}, aggregate: {n: count()}}
  counts: {from: events, key: key, window: {type: tumbling, size: 20ms}, aggregate: {n: count(), total: sum(value)}}
sinks:
  records: {from: all, type: csv, path: records.csv}
  archive: {from: [fixed, moving, bursts, fixed.late], type: jsonl, path: rows.jsonl}
  tables: {from: [fixed, moving, bursts, fixed.late], type: lmdb, max_rows: 0}
  live: {from: counts, type: ring, rows: 65536}
  counted: {from: counts, type: csv, path: counts.csv}
"""
STAGES = ("fixed", "moving", "bursts", "fixed.late")
ONCE = ("fixed.late",)
DISORDER_NS = 16_000_000

HEAD, ORDER, ORDERS = struct.Struct("=IIII"), struct.Struct("=16sQ16sIIq"), 4096
BIRTHS, GIVEN, BORN, TAKEN = 0, 4, 8, 12
ENTRY, EXIT = 0, 1
NEVER = 1 << 60
LONG = 6  # checkpoints of one engine, after which a call that it has not made is not waited for

# `heard`: words; then the moment is that at which the thread has received a message with them.
Moment = collections.namedtuple("Moment", "thread number when heard", defaults=("",))


class Plan:
    """The other half of at_call.c."""

    def __init__(self, scenario, name):
        self.path, self.listed = scenario.dir / f"{name}.plan", scenario.dir / f"{name}.calls"
        self.path.write_bytes(bytes(HEAD.size + (1 + ORDERS) * ORDER.size))
        with open(self.path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        scenario.addCleanup(self.memory.close)
        self.births = self.given = 0

    def _put(self, place, moment, listed):
        ORDER.pack_into(self.memory, HEAD.size + place * ORDER.size, moment.thread.encode(), moment.number,
                        moment.heard.encode(), moment.when, listed, 0)

    def _word(self, at):
        return struct.unpack_from("=I", self.memory, at)[0]

    def at_birth(self, *moments, listed=False):
        """The engines that are born next are killed at these moments, each at one."""
        for moment in moments:
            self.births += 1
            self._put(self.births, moment, listed)
        struct.pack_into("=I", self.memory, BIRTHS, self.births)

    def from_now(self, moment, listed=False):
        self._put(0, moment._replace(number=0, heard=""), listed)
        self._put(0, moment, listed)
        self.given += 1
        struct.pack_into("=I", self.memory, GIVEN, self.given)

    def born(self):
        return self._word(BORN)

    def struck(self, place=0):
        """Did this order kill? The last one from now on, or that of the engine of this number, from 1."""
        return ORDER.unpack_from(self.memory, HEAD.size + place * ORDER.size)[5] != 0

    def moments(self):
        """Of each thread all calls that were listed."""
        last = {}
        for line in self.listed.read_text().splitlines():
            thread, number, _ = line.split()
            last[thread] = max(last.get(thread, 0), int(number))
        return [Moment(thread, number, when) for thread in sorted(last) if thread != "new"
                for number in range(1, last[thread] + 1) for when in (ENTRY, EXIT)]


def chosen(rng, moments, share=1.0):
    """As many as are asked for, in an order of chance; all threads have their share of them."""
    if CALLS == "all":
        return rng.sample(moments, len(moments))
    by_thread = {}
    for moment in rng.sample(moments, len(moments)):
        by_thread.setdefault(moment.thread, []).append(moment)
    in_turn = [m for some in itertools.zip_longest(*by_thread.values()) for m in some if m is not None]
    return in_turn[:max(1, int(int(CALLS) * share))]


class EveryCall(tables.Tables, journal.Journal):
    def setUp(self):
        super().setUp()
        # its looking for leaks is a tracer itself
        self.env["ASAN_OPTIONS"] = ":".join(filter(None, [self.env.get("ASAN_OPTIONS"), "detect_leaks=0"]))
        self.rng = random.Random(SEED)
        print("seed", SEED)
        self.base = self.dir
        self.plan, self.turn = None, 0

    def spawn(self, *argv, **more):
        if self.plan is not None and argv[:2] == (harness.RINGMILL, "run"):
            argv = (AT_CALL, self.plan.path, self.plan.listed, *argv)
        return super().spawn(*argv, **more)

    def begin(self, runtime=OFTEN, args=restarts.OFTEN):
        """A folder of its own, and a plan."""
        self.turn += 1
        self.dir = self.base / str(self.turn)
        self.dir.mkdir()
        self.rundir = self.dir / "run"
        self.env["RINGMILL_RUNDIR"] = str(self.rundir)
        self.runtime, self.args, self.watched = runtime, args, []
        self.new_plan()

    def new_plan(self):
        self.plan = Plan(self, f"life-{len(os.listdir(self.dir))}")

    def come_up(self):
        super(restarts.Restarts, self).start_text(PIPELINE % (stream.SCHEMA, self.runtime), args=self.args)

    def watch(self):
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        row_hash = re.search(r"COUNTS_ROW_SCHEMA_HASH UINT64_C\((\w+)\)", header)[1]
        with open(self.dir / "watched", "w") as watched:
            self.watcher = self.spawn(harness.WATCHER, "p/counts", row_hash, stdin=subprocess.PIPE, stdout=watched)
        self.assertEqual(self.watcher.stderr.readline(), "attached\n")

    def feed_some(self, count=ENDLESS, seed=7, *how):
        feeder = self.feeder(seed, count, "keys", 9, "batch", 16, "disorder", DISORDER_NS, "wait", -1,
                             *(how or ["pause", 5000, "until-told"]))
        self.attached(feeder)
        return feeder

    def check(self, feeder):
        """Everything that came out against a replay of what the producer made."""
        made = stream.events(feeder.seed, self.progress(feeder)[1], 9, disorder_ns=DISORDER_NS)
        self.assertEqual(self.records(), made)
        self.write("made.csv", stream.as_csv(made))
        outputs = [w for i, s in enumerate(STAGES) for w in ("--output", f"{s}=again{i}.jsonl")]
        self.ringmill("replay", self.dir / "p.yaml", "--input", "events=made.csv", *outputs, "--output",
                      "counts=again.csv")
        again = [dict(row, stage=stage) for i, stage in enumerate(STAGES)
                 for row in harness.rows_of_jsonl((self.dir / f"again{i}.jsonl").read_text())]
        rows = self.file_rows()
        self.assertEqual(tables.canonical(rows), tables.canonical(again))
        wanted = self.as_table(again)
        self.assertEqual({s: tables.canonical(self.table(s)) for s in STAGES}, wanted)
        counts, counts_again = [sorted((self.dir / name).read_text().splitlines()) for name in ("counts.csv", "again.csv")]
        self.assertEqual(counts, counts_again)
        return len(made), len(rows)

    def as_table(self, rows):
        last = {}
        for number, row in enumerate(rows):
            row = dict(row)
            stage = row.pop("stage")
            place = (stage, number) if stage in ONCE else (stage, row["key"], row["window_start"])
            if row.get("retracted"):
                last.pop(place, None)
            else:
                last[place] = row
        return {s: tables.canonical([row for place, row in last.items() if place[0] == s]) for s in STAGES}

    def take_watched(self):
        """The rows that were seen until the ring ended, behind those of the rings before."""
        _, err = self.watcher.communicate(timeout=harness.PATIENCE)
        self.assertIn(err, ("EPIPE\n", "ECONNRESET\n"))
        *lines, missed = (self.dir / "watched").read_text().splitlines()
        self.assertEqual(missed, "missed 0")
        self.watched += [tuple(int(v) for v in line.split(",")) for line in lines]

    def check_watched(self):
        self.take_watched()
        rows = self.watched
        for partition in {r[0] for r in rows}:
            numbers = [r[1] for r in rows if r[0] == partition]
            self.assertEqual(numbers, list(range(len(numbers))))
        in_file = harness.rows_of_csv((self.dir / "counts.csv").read_text())
        self.assertEqual(sorted((r[2], r[3], r[5], r[6]) for r in rows),
                         sorted((int(r["window_start"]), int(r["key"]), int(r["n"]), int(r["total"]))
                                for r in in_file))

    def check_met(self, met, moments):
        if CALLS == "all":  # few that were drawn may be missed by chance
            self.assertGreater(met, len(moments) / 2)

    def newest_epoch(self):
        kept = json.loads(self.ringctl("checkpoint", "list", "./state", "--json").stdout)["checkpoints"]
        return kept[-1]["epoch"] if kept else 0

    def until_epoch_is_beyond(self, epoch):
        harness.until("a checkpoint", lambda: self.newest_epoch() > epoch)

    def drained(self, process):
        """The end of a process that was told to drain."""
        _, err = process.communicate(timeout=harness.PATIENCE)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(self.left_behind(), [])


class Engines(EveryCall):
    def calls_of_an_engine(self):
        """Those of one that comes up again, and lives for two checkpoints and more."""
        self.begin()
        self.plan.at_birth(Moment("", NEVER, ENTRY))
        self.plan.at_birth(Moment("", NEVER, ENTRY), listed=True)
        self.come_up()
        self.watch()
        feeder = self.feed_some()
        self.until_epoch_is_beyond(1)
        self.kill_engine()
        harness.until("another engine", lambda: self.plan.born() == 2)
        self.until_epoch_is_beyond(self.newest_epoch() + 2)
        self.ringctl("stop", "p")
        self.pipeline.process.communicate(timeout=harness.PATIENCE)
        feeder.communicate(timeout=harness.PATIENCE)
        moments = self.plan.moments()
        seen = {m.thread for m in moments}
        self.assertLessEqual({"ringmill-engine", "rml-checkpoint", "rml-journal", "rml-writer", "rml-worker-0",
                              "rml-worker-1"}, seen)
        return moments

    def live_through(self, moments):
        """One run, in which engine after engine is killed at the next of these."""
        self.begin()
        self.plan.at_birth(Moment("", NEVER, ENTRY))
        self.come_up()
        self.watch()
        feeder = self.feed_some()
        self.until_epoch_is_beyond(1)
        self.plan.at_birth(*moments)
        self.kill_engine()
        missed = sum(not self.is_met(number) for number in range(2, len(moments) + 2))
        self.until_back(len(moments) + 1)
        self.end_feeders([feeder])
        self.pipeline.end()
        self.check_watched()
        return len(moments) - missed, *self.check(feeder)

    def is_met(self, number):
        """Wait until the engine of this number was killed where it was to be, or kill it when it lives for long."""
        harness.until("an engine", lambda: self.plan.born() >= number)
        first, looks = self.newest_epoch(), itertools.count(1)

        def is_over():
            return self.plan.struck(number) or next(looks) % 20 == 0 and self.newest_epoch() > first + LONG

        harness.until("the engine to be killed, or checkpoints", is_over)
        if not self.plan.struck(number):
            self.kill_engine()
            return self.plan.struck(number)
        return True

    def test_an_engine_may_be_killed_at_any_call_that_it_makes(self):
        moments, kills = chosen(self.rng, self.calls_of_an_engine()), 0
        for first in range(0, len(moments), TOGETHER):
            some = moments[first:first + TOGETHER]
            with self.subTest(moments=some, folder=self.dir):
                met, records, rows = self.live_through(some)
                kills += met
                print(f"{first + len(some)} of {len(moments)} moments, {kills} met; {records} records, {rows} rows",
                      flush=True)
        self.check_met(kills, moments)


class Endings(EveryCall):
    """Each moment of an end has a run of its own."""

    COUNT = 500

    def full(self, runtime=OFTEN):
        """A pipeline that has taken what there is, or not yet, and its producer, which stays."""
        self.begin(runtime)
        self.come_up()
        self.watch()
        feeder = self.feed_some(self.COUNT, 7, "hold")
        self.assertEqual(self.written(feeder), (self.COUNT, 0))
        return feeder

    def end_by_drain(self, feeder):
        self.pipeline.process.send_signal(signal.SIGTERM)
        self.drained(self.pipeline.process)
        self.assertEqual(self.progress(feeder), (self.COUNT, self.COUNT))

    def end_by_stop(self, feeder):
        """Nothing fires; the next run goes on, and is drained."""
        process = self.pipeline.process
        stop = self.asked_to_stop()
        self.assertEqual(stop.returncode, 0, stop.told)
        _, self.said = process.communicate(timeout=harness.PATIENCE)
        self.assertEqual(process.returncode, 0, self.said)
        feeder.communicate("", timeout=harness.PATIENCE)
        self.take_watched()
        before, self.plan = self.plan, None
        self.come_up()
        self.watch()
        self.pipeline.end()
        self.plan = before

    def asked_to_stop(self):
        stop = self.spawn(harness.RINGCTL, "stop", "p")
        stop.told = stop.communicate(timeout=harness.PATIENCE)
        return stop

    def calls_of(self, end):
        feeder = self.full()
        self.plan.from_now(Moment("", NEVER, ENTRY), listed=True)
        end(feeder)
        feeder.communicate("", timeout=harness.PATIENCE)
        self.take_watched()
        return [m for m in self.plan.moments() if m.thread != "keeper"]

    def check_end(self, end, moments):
        met = 0
        for number, moment in enumerate(moments):
            with self.subTest(moment=moment):
                feeder = self.full()
                self.plan.from_now(moment)
                end(feeder)
                met += self.plan.struck()
                feeder.communicate("", timeout=harness.PATIENCE)
                self.check_watched()
                self.assertEqual(self.check(feeder)[0], self.COUNT)
            if number % 50 == 49:
                print(f"{number + 1} of {len(moments)} moments, {met} met", flush=True)
        self.check_met(met, moments)

    def test_an_engine_that_drains_may_be_killed_at_any_call_that_it_makes(self):
        self.check_end(self.end_by_drain, chosen(self.rng, self.calls_of(self.end_by_drain), 0.2))


    def test_an_engine_that_is_stopped_may_be_killed_at_any_call_that_it_makes(self):
        self.check_end(self.end_by_stop, chosen(self.rng, self.calls_of(self.end_by_stop), 0.2))


    def test_a_stop_that_was_asked_for_is_made_by_the_next_engine_when_one_dies_over_it(self):
        feeder = self.full(hardships.NEVER)
        self.until_taken(self.COUNT)
        self.plan.from_now(Moment("rml-checkpoint", 3, EXIT))  # of the only checkpoint, which the stop takes
        self.end_by_stop(feeder)
        self.assertTrue(self.plan.struck())
        self.assertIn("stopping: as it was to before", self.said)
        self.check_watched()
        self.assertEqual(self.check(feeder)[0], self.COUNT)


    def test_a_stop_that_an_engine_read_and_died_over_is_asked_again_of_the_next(self):
        self.end_over("stop", self.end_by_stop)
        self.assertIn("stopping: asked to", self.said)  # and not for what the first had noted

    def test_a_stop_that_an_engine_died_over_that_had_not_even_shown_its_board_is_made_by_the_next(self):
        self.end_over("board", self.end_by_stop)
        self.assertIn("stopping: asked to", self.said)

    def test_a_drain_that_an_engine_read_and_died_over_is_asked_again_of_the_next(self):
        self.end_over("drain", self.end_by_ringctl_drain)
        self.assertIn("draining: asked to", self.said)

    def end_over(self, words, end):
        """End it so that the engine dies right when it has received these words."""
        feeder = self.full(hardships.NEVER)
        self.until_taken(self.COUNT)
        self.plan.from_now(Moment("ringmill-engine", 0, EXIT, words))
        end(feeder)
        self.assertTrue(self.plan.struck())
        feeder.communicate("", timeout=harness.PATIENCE)
        self.check_watched()
        self.assertEqual(self.check(feeder)[0], self.COUNT)


    def end_by_ringctl_drain(self, feeder):
        drain = self.spawn(harness.RINGCTL, "drain", "p")
        told = drain.communicate(timeout=harness.PATIENCE)
        self.assertEqual(drain.returncode, 0, told)
        _, self.said = self.pipeline.process.communicate(timeout=harness.PATIENCE)
        self.assertEqual(self.pipeline.process.returncode, 0, self.said)
        self.assertEqual(self.progress(feeder), (self.COUNT, self.COUNT))


class Lives(EveryCall):
    """Lives of keepers, one after the other, and what must have come of all of them."""

    def life(self, life, moment, listed=False):
        """One that ends with the keeper's death, as it has an engine's death to deal with."""
        self.new_plan()
        self.start_journaled()
        feeders = [self.feeder(10 * life + s, ENDLESS, "keys", 4, "batch", 16, "pause", 2000, "wait", -1, "until-told")
                   for s in (1, 2)]
        self.attached(*feeders)
        self.until_published(feeders, 100)
        taken, shown, process = self.source()["taken"], self.lines(), self.pipeline.process
        born = self.plan.born()
        self.plan.from_now(moment, listed)
        self.assertTrue(self.pipeline.signal_engine())
        harness.until("the keeper to be killed, or another engine to be there",
                      lambda: process.poll() is not None or self.plan.born() > born and self.answers(1))
        met = self.plan.struck()
        process.kill()
        process.wait()
        for feeder in feeders:
            feeder.communicate("", timeout=harness.PATIENCE)
        return feeders, shown, taken, met

    def answers(self, restarts):
        done = subprocess.run([harness.RINGCTL, "status", "p", "--json"], env=self.env, capture_output=True, check=False)
        return done.returncode == 0 and json.loads(done.stdout)["restarts"] == restarts

    def last_life(self, life, before):
        self.plan = None
        self.start_journaled()
        self.assertGreaterEqual(self.source()["taken"], before[-1][2] if before else 0)
        last = [self.feeder(10 * life + s, 500, "keys", 4, "batch", 16, "wait", -1) for s in (1, 2)]
        self.attached(*last)
        self.end_feeders(last)
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        self.pipeline.end()
        self.check_lives(before, last)


class Keepers(Lives):
    def calls_of_a_handover(self):
        self.begin()
        self.life(0, Moment("", NEVER, ENTRY), listed=True)
        return [m for m in self.plan.moments() if m.thread == "keeper"]

    def test_a_keeper_may_be_killed_at_any_call_that_it_makes_over_an_engine_s_death(self):
        moments, met = chosen(self.rng, self.calls_of_a_handover(), 0.2), 0
        for first in range(0, len(moments), 10):
            self.begin()
            before = []
            some = moments[first:first + 10]
            with self.subTest(moments=some, folder=self.dir):
                for life, moment in enumerate(some):
                    *told, was_met = self.life(life, moment)
                    before.append(told)
                    met += was_met
                self.last_life(len(some), before)
                print(f"{first + len(some)} of {len(moments)} moments, {met} met", flush=True)
        self.check_met(met, moments)


class ComingUp(Lives):
    def calls_of_a_start(self):
        """Those of a keeper that comes up where there is a state, until its engine serves."""
        self.new_plan()
        self.plan.from_now(Moment("", NEVER, ENTRY), listed=True)
        self.start_journaled()
        self.pipeline.process.kill()
        self.pipeline.process.wait()
        return [m for m in self.plan.moments() if m.thread == "keeper"]

    def test_a_keeper_may_be_killed_at_any_call_that_it_makes_coming_up(self):
        self.begin()
        before = [self.life(0, Moment("", NEVER, ENTRY))[:3]]
        moments, met = chosen(self.rng, self.calls_of_a_start()), 0
        for moment in moments:
            with self.subTest(moment=moment):
                self.new_plan()
                self.plan.from_now(moment)
                process = self.spawn(harness.RINGMILL, "run", "p.yaml", *restarts.OFTEN)
                self.pipeline = harness.Running(self, "p", process)
                harness.until("the keeper to be killed, or to be up",
                              lambda: process.poll() is not None or self.answers(0))
                met += self.plan.struck()
                process.kill()
                process.wait()
                self.assertEqual(process.returncode, -signal.SIGKILL, process.communicate())
        self.last_life(1, before)
        print(f"{len(moments)} moments, {met} met", flush=True)
        self.check_met(met, moments)


class GivenUp(Lives):
    """Engines that die as they come up, one after the other, until their keeper gives up: the next run goes on."""

    FEW = ("--restarts", "2", "--within", "1h")

    def until_given_up(self, process):
        _, err = process.communicate(timeout=harness.PATIENCE)
        self.assertNotEqual(process.returncode, 0)
        self.assertRegex(err, r"the engine died 3 times .* of SIGKILL: it is not started again")
        self.assertEqual(self.left_behind(), [])

    def dying(self, count):
        """Moments of engines that come up: each is come to before it serves anybody."""
        return [Moment("ringmill-engine", self.rng.randrange(1, 120), self.rng.choice((ENTRY, EXIT)))
                for _ in range(count)]

    def test_a_run_goes_on_after_keepers_gave_up_over_engines_that_died_coming_up(self):
        self.begin()
        self.plan.at_birth(Moment("", NEVER, ENTRY), *self.dying(5))
        super(restarts.Restarts, self).start(runtime=journal.OFTEN, source=", journal: true", args=self.FEW)
        feeders = [self.feeder(s, ENDLESS, "keys", 4, "batch", 16, "pause", 2000, "wait", -1, "until-told")
                   for s in (1, 2)]
        self.attached(*feeders)
        self.until_published(feeders, 100)
        taken, shown, process = self.source()["taken"], self.lines(), self.pipeline.process
        self.assertTrue(self.pipeline.signal_engine())
        self.until_given_up(process)
        self.assertGreater(self.plan.born(), 1)
        for feeder in feeders:
            feeder.communicate("", timeout=harness.PATIENCE)
        for _ in range(3):
            self.new_plan()
            self.plan.at_birth(*self.dying(5))
            self.until_given_up(self.spawn(harness.RINGMILL, "run", "p.yaml", *self.FEW))
            self.assertTrue(self.plan.struck(1))
        self.last_life(1, [(feeders, shown, taken)])


if __name__ == "__main__":
    harness.main()
