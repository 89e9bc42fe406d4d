"""Result tables have exactly the rows of their stage that the last checkpoint covers, whoever dies."""
import collections
import json
import os
import random
import resource
import time

import exactly_once
import harness
import restarts
import stream

SEED = int(os.environ.get("RML_SEED", "20261121"))
KILLS = int(os.environ.get("RML_KILLS", "30"))
ROUNDS = int(os.environ.get("RML_ROUNDS", "4"))
ENDLESS = 1 << 31
OFTEN = ", state: ./state, checkpoint: {every: 30ms, min_pause: 1ms}"
STAGES = ("fixed", "moving", "bursts", "tens", "ever", "all", "fixed.late")
ONCE = ("tens", "all", "fixed.late")  # stages of which each row is a row of its own

# Each stage goes into a table and into a file.
PIPELINE = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2%s}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 2ms, cells: 16384}
stages:
  all: {from: events, filter: true}
  fixed: {from: events, key: key, window: {type: tumbling, size: 100ms, late: 4ms, trigger: {count: 7}},
          aggregate: {n: count(), mean: avg(value), p90: 'quantile(value, 0.9)'}}
  moving: {from: events, key: key, window: {type: sliding, size: 500ms, every: 100ms}, aggregate: {n: count()}}
  bursts: {from: events, key: key, window: {type: session, gap: 12ms, late: 100ms}, aggregate: {n: count()}}
  tens: {from: events, key: key, window: {type: tumbling, size: 10 records}, aggregate: {total: sum(value)}}
  ever: {from: events, key: key, window: {type: global, trigger: {count: 5}}, aggregate: {n: count()}}
sinks:
  archive: {from: [fixed, moving, bursts, tens, ever, all, fixed.late], type: jsonl, path: rows.jsonl}
  tables: {from: [fixed, moving, bursts, tens, ever, all, fixed.late], type: lmdb, max_rows: 0%s}
  records: {from: all, type: csv, path: records.csv}
"""


def as_table(rows):
    """What is in the tables when these are all the rows that were made, in this order: the last of each."""
    last, once = {}, {stage: [] for stage in ONCE}
    for row in rows:
        stage = row["stage"]
        if stage in ONCE:
            once[stage].append({n: v for n, v in row.items() if n != "stage"})
        elif row.get("retracted"):
            last.pop((stage, row["key"], row["window_start"]), None)
        else:
            last[stage, row["key"], row["window_start"]] = {n: v for n, v in row.items() if n != "stage"}
    tables = {stage: [] for stage in STAGES}
    tables.update(once)
    for (stage, _, _), row in last.items():
        tables[stage].append(row)
    return {stage: canonical(rows) for stage, rows in tables.items()}


def canonical(rows):
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


class Tables(exactly_once.Saving):
    def start_tables(self, runtime=OFTEN, more=""):
        super(restarts.Restarts, self).start_text(PIPELINE % (stream.SCHEMA, runtime, more),
                                                  args=restarts.OFTEN)

    def feed(self, seed=7):
        feeder = self.feeder(seed, ENDLESS, "keys", 9, "batch", 32, "pause", 500, "disorder", 16_000_000,
                             "wait", -1, "until-told")
        self.attached(feeder)
        return feeder

    def results(self, *words, want=0):
        return self.ringctl("results", *words, want=want)

    def table(self, stage, where="./state"):
        return harness.rows_of_jsonl(self.results(where, stage, "--format", "jsonl").stdout)

    def tables(self, where="./state"):
        return {stage: canonical(self.table(stage, where)) for stage in STAGES}

    def file_rows(self):
        """Rows of the file, without one that is being written."""
        lines = (self.dir / "rows.jsonl").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def check_tables(self, tables, wanted):
        for stage in STAGES:
            with self.subTest(stage=stage):
                self.assertEqual(tables[stage], wanted[stage])

    def drained(self, feeder):
        """End the input; the tables are then those of all rows that there are."""
        self.end_feeders([feeder])
        self.pipeline.end()
        made = stream.events(feeder.seed, self.progress(feeder)[1], 9, disorder_ns=16_000_000)
        self.assertEqual(self.records(), made)
        return made


class Killed(Tables):
    def test_tables_are_those_of_a_replay_however_often_the_engine_is_killed(self):
        rng = random.Random(SEED)
        print("seed", SEED, "kills", KILLS)
        self.start_tables()
        feeder = self.feed()
        for _ in range(KILLS):
            time.sleep(rng.random() * 0.1)  # no moment is a particular one
            self.kill_engine()
        self.until_back(KILLS)
        self.until_published([feeder], 3000)  # which makes some rows of each table
        made = self.drained(feeder)
        tables = self.tables()
        self.check_tables(tables, as_table(self.file_rows()))
        self.write("made.csv", stream.as_csv(made))
        outputs = [f for i, stage in enumerate(STAGES) for f in ("--output", f"{stage}=again{i}.jsonl")]
        self.ringmill("replay", self.dir / "p.yaml", "--input", "events=made.csv", *outputs)
        again = [dict(row, stage=stage) for i, stage in enumerate(STAGES)
                 for row in harness.rows_of_jsonl((self.dir / f"again{i}.jsonl").read_text())]
        self.check_tables(tables, as_table(again))
        for stage in STAGES:
            self.assertGreater(len(tables[stage]), 5 if stage == "ever" else 20, stage)
        listed = json.loads(self.results("./state", "--json").stdout)["tables"]
        self.assertEqual({t["name"]: t["rows"] for t in listed}, {s: len(tables[s]) for s in STAGES})

    def test_after_the_keeper_was_killed_tables_are_as_of_one_moment_the_last_checkpoint(self):
        rng = random.Random(SEED + 1)
        print("seed", SEED + 1)
        for life in range(ROUNDS):
            with self.subTest(life=life):
                self.start_tables()
                before = self.rows_kept()
                feeder = self.feed(seed=life + 1)
                harness.until("rows of this life", lambda: self.rows_kept() > before)
                time.sleep(rng.random() * 0.4)
                if rng.random() < 0.5:
                    self.kill_engine()
                    time.sleep(rng.random() * 0.05)
                self.pipeline.process.kill()
                self.pipeline.process.wait()
                feeder.communicate("", timeout=harness.PATIENCE)
                # The file goes on behind the checkpoint; some beginning of it is what the checkpoint covers.
                tables, rows = self.tables(), self.file_rows()
                count = self.find_moment(tables, rows)
                print(f"{count} of {len(rows)} rows are covered")
                self.assertGreater(count, 0)

    def rows_kept(self):
        return sum(t["rows"] for t in json.loads(self.results("p", "--json").stdout)["tables"])

    def find_moment(self, tables, rows):
        """How many rows of the file make these tables: each row is looked at once, and what it changes."""
        wanted = {stage: collections.Counter(tables[stage]) for stage in STAGES}
        missing = {stage: collections.Counter(tables[stage]) for stage in STAGES}  # or, below 0, too much
        differing, last = sum(map(len, wanted.values())), {}

        def change(stage, text, by):
            nonlocal differing
            differing -= missing[stage][text] != 0
            missing[stage][text] -= by
            differing += missing[stage][text] != 0

        for count, row in enumerate(rows):
            if differing == 0 and count > 0:
                return count
            stage = row["stage"]
            text = json.dumps({n: v for n, v in row.items() if n != "stage"}, sort_keys=True)
            if stage not in ONCE:
                place = stage, row["key"], row["window_start"]
                if place in last:
                    change(stage, last.pop(place), -1)
                if row.get("retracted"):
                    continue
                last[place] = text
            change(stage, text, 1)
        if differing == 0:
            return len(rows)
        self.fail("no beginning of the file has these tables")


class Looked(Tables):
    def test_tables_are_read_while_the_engine_runs_each_part_of_one_checkpoint(self):
        self.start_tables()
        feeder = self.feed()
        self.until_rows("fixed", 300)
        for _ in range(20):
            rows = self.table("fixed", "p")
            places = [(row["key"], row["window_start"]) for row in rows]
            self.assertEqual(len(set(places)), len(places))
            self.assertEqual([r["window_end"] for r in rows], sorted(r["window_end"] for r in rows))
            last = harness.rows_of_jsonl(
                self.results("p", "fixed", "--last", "5", "--format", "jsonl").stdout)
            self.assertEqual(len(last), 5)
        self.drained(feeder)

    def until_rows(self, stage, count, where="p"):
        def rows():
            listed = json.loads(self.results(where, "--json").stdout)["tables"]
            return any(t["name"] == stage and t["rows"] >= count for t in listed)
        harness.until(f"{count} rows of {stage}", rows)

    def test_a_reader_that_stands_still_does_not_keep_the_catalog_from_using_its_pages_again(self):
        self.start_tables()
        feeder = self.feed()
        self.until_rows("all", 3000)
        reader = self.spawn(harness.RINGCTL, "results", "p", "all", "--format", "jsonl")
        reader.stdout.readline()  # the pipe is full soon, and nobody reads on
        locks = self.dir / "state" / "catalog.mdb-lock"
        harness.until("it to wait for its reader", lambda: self.is_writing(reader.pid))
        harness.until("it to hold no state of the catalog", lambda: self.readers(locks) == [])
        rest, _ = harness.rest_of(reader)
        self.assertGreaterEqual(len(rest.splitlines()), 2999)
        self.drained(feeder)

    def is_writing(self, pid):
        return self.waits_in(pid, (restarts.feeding.SYS_WRITE,))

    def readers(self, locks):
        """Processes but the engine that hold a transaction open, as LMDB's table of readers has them."""
        data = locks.read_bytes()
        slots = [data[at:at + 64] for at in range(128, len(data) - 63, 64)]
        pids = [(int.from_bytes(s[8:12], "little"), int.from_bytes(s[0:8], "little")) for s in slots]
        return [pid for pid, txn in pids if pid not in (0, self.pipeline.engine) and txn != (1 << 64) - 1]

    def test_rows_are_chosen_by_key_time_and_number_and_shown_as_is_asked_for(self):
        self.start_tables()
        feeder = self.feed()
        self.until_rows("fixed", 200)
        self.drained(feeder)
        rows = self.table("fixed")
        key = rows[0]["key"]
        mine = [r for r in rows if r["key"] == key]
        self.assertEqual(self.chosen(str(key)), sorted(mine, key=lambda r: r["window_start"]))
        low, high = 1_000_000_000, 1_500_000_000
        inside = [r for r in rows if r["window_start"] >= low and r["window_end"] <= high]
        self.assertGreater(len(inside), 10)
        self.assertEqual(self.chosen("--from", low, "--to", high), inside)
        self.assertEqual(self.chosen("--from", "1970-01-01T00:00:01Z", "--to", "1970-01-01T00:00:01.5Z"), inside)
        self.assertEqual(self.chosen(key, "--from", low, "--to", high),
                         [r for r in inside if r["key"] == key])
        self.assertEqual(self.chosen("--limit", 7), rows[:7])
        self.assertEqual(self.chosen("--last", 7), rows[-7:])
        self.assertEqual(self.chosen(key, "--last", 3), mine[-3:])
        as_csv = harness.rows_of_csv(self.results("./state", "fixed", "--format", "csv").stdout)
        self.assertEqual([{n: str(v) for n, v in r.items()} for r in as_csv],
                         [{n: "true" if v is True else "false" if v is False else str(v)
                           for n, v in r.items()} for r in rows])
        said = [json.loads(line) for line in
                self.results("./state", "fixed", "--json", "--limit", "2").stdout.splitlines()]
        self.assertEqual([s["row"] for s in said], rows[:2])
        self.assertEqual(set(said[0]), {"schema", "table", "partition", "seq", "fire_ns", "row"})
        self.assertIn("window_start", self.results("./state", "fixed", "--last", "2").stdout)
        self.assertIn("1970-01-01T", self.results("./state", "fixed", "--last", "2").stdout)

    def chosen(self, *words):
        return harness.rows_of_jsonl(
            self.results("./state", "fixed", *map(str, words), "--format", "jsonl").stdout)

    def test_what_is_not_there_or_makes_no_sense_is_told_apart(self):
        self.results("fixed", want=3)
        self.assertIn("no state directory", self.results("./state", want=3).stderr)
        self.start_tables(runtime=", state: ./state, checkpoint: {every: 1h}")
        self.assertIn("there are no tables", self.results("p").stdout)
        self.assertIn("there are none", self.results("p", "fixed", want=3).stderr)
        self.ringctl("checkpoint", "now", "p")
        self.assertIn("fixed.late", self.results().stdout)
        self.assertIn("no such rows", self.results("fixed").stdout)
        self.assertIn("did you mean fixed?", self.results("fixd", want=3).stderr)
        for words in (["fixed", "x"], ["fixed", "1", "2"], ["all", "1"], ["fixed", "--from", "noon"],
                      ["fixed", "--last", "0"], ["fixed", "--last", "1", "--limit", "1"],
                      ["fixed", "--format", "xml"], ["fixed", "--times", "utc"]):
            with self.subTest(words=words):
                self.results(*words, want=2)
        self.pipeline.end()


# Sixty rows of 300 bytes for each record.
WIDE = ", ".join(f"n{i}: count()" for i in range(30))
MANY = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2, state: ./state, checkpoint: {every: 1h, min_pause: 1ms}}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], cells: 65536}
stages:
  many: {from: events, key: key, window: {type: sliding, size: 600ms, every: 10ms%s}, aggregate: {%s}}
sinks:
  table: {from: many, type: lmdb, max_rows: 0}
"""


class Full(Tables):
    def start_many(self):
        self.start_text(MANY % (stream.SCHEMA, ", emit: updates", WIDE), args=restarts.OFTEN)

    def check_many(self, count):
        """The table has what a replay without early rows has, but for their numbers."""
        self.write("made.csv", stream.as_csv(stream.events(1, count, 9)))
        self.write("once.yaml", MANY % (stream.SCHEMA, "", WIDE))
        self.ringmill("replay", self.dir / "once.yaml", "--input", "events=made.csv", "--output", "many=once.jsonl")
        once, table = [sorted((r["window_start"], r["key"], r["n0"], r["n29"]) for r in rows) for rows in
                       (harness.rows_of_jsonl((self.dir / "once.jsonl").read_text()), self.table("many"))]
        self.assertEqual(table, once)

    def feeder_of_many(self, count):
        feeder = self.feeder(1, count, "keys", 9, "batch", 64, "wait", -1, "gate", "hold")
        self.attached(feeder)
        return feeder

    def newest_epoch(self):
        kept = json.loads(self.ringctl("checkpoint", "list", "p", "--json").stdout)["checkpoints"]
        return kept[-1]["epoch"] if kept else 0

    def test_rows_that_pile_up_ask_for_a_checkpoint(self):
        self.start_many()
        feeder = self.feeder_of_many(4_000)  # some 80 MB of rows, and too few records to fill lanes
        self.go(feeder)
        harness.until("a checkpoint that nobody asked for but the rows", lambda: self.newest_epoch() > 0)
        self.ends(feeder)
        self.pipeline.end()
        self.check_many(4_000)

    def test_no_records_are_taken_while_too_many_rows_wait_for_a_checkpoint_and_none_is_lost(self):
        self.start_many()
        feeder = self.feeder_of_many(12_000)
        engine = self.pipeline.engine
        before = resource.prlimit(engine, resource.RLIMIT_FSIZE)
        resource.prlimit(engine, resource.RLIMIT_FSIZE, (1, before[1]))
        self.go(feeder)
        harness.until("workers to wait before all is taken", self.all_asleep_with_records)

        def taken_no_more():
            """A worker may also have slept for a moment."""
            before = self.taken()
            for _ in range(2):
                self.ringctl("checkpoint", "now", "p", want=1)
            return self.all_asleep_with_records() and self.taken() == before and before

        taken = harness.until("no more to be taken", taken_no_more)
        self.assertLess(taken, 9_000)
        self.assertEqual(self.newest_epoch(), 0)
        resource.prlimit(engine, resource.RLIMIT_FSIZE, before)
        self.until_taken(12_000)
        self.ends(feeder)
        _, err = self.pipeline.end()
        self.assertIn("failed", err)
        self.check_many(12_000)

    def taken(self):
        source, = self.pipeline.look("status")["sources"]
        return source["taken"]

    def all_asleep_with_records(self):
        status = self.pipeline.look("status")
        source, = status["sources"]
        return (source["published"] == 12_000 and source["taken"] > 2_000 and source["backlog"] > 0
                and all(w["asleep_ns"] is not None for w in status["workers"]))


class Kept(Tables):
    def test_rows_are_kept_as_long_and_as_many_as_the_file_says(self):
        self.start_tables(more=", keep: 2s")
        feeder = self.feed()
        harness.until("six seconds of events", lambda: self.progress(feeder)[1] > 6000)
        self.drained(feeder)
        ends = [r["window_end"] for r in self.table("fixed")]
        self.assertLessEqual(max(ends) - min(ends), 2_000_000_000)
        self.assertGreater(max(ends) - min(ends), 1_500_000_000)
        kept = [r for r in self.file_rows() if r["stage"] == "tens"]
        times = [r["window_end"] for r in self.table("tens")]
        self.assertGreater(len(kept), len(times))
        self.assertLessEqual(max(times) - min(times), 2_100_000_000)

    def test_a_stage_that_fits_its_table_no_more_is_refused_and_the_table_emptied_when_told(self):
        self.start_tables()
        feeder = self.feed()
        self.until_published([feeder])
        self.drained(feeder)
        before = self.tables()
        path = self.dir / "p.yaml"
        path.write_text(path.read_text().replace("mean: avg(value)", "mean: max(value)"))
        said = self.ringmill("run", path, want=1).stderr
        self.assertIn("stage fixed was changed and does not fit its table", said)
        self.assertIn("mean f64", said)
        self.assertIn("--fresh fixed", said)
        self.assertEqual(self.tables(), before)
        self.pipeline = self.run_pipeline(path.read_text(), "p", "--fresh", "fixed")
        self.ringctl("checkpoint", "now", "p")
        wanted = dict(before, **{"fixed": [], "fixed.late": []})
        self.assertEqual(self.tables("p"), wanted)
        self.pipeline.end()
        self.assertEqual(self.tables(), wanted)
        self.pipeline = self.run_pipeline(path.read_text(), "p", "--fresh")
        self.pipeline.end()
        self.assertEqual(self.tables(), {stage: [] for stage in STAGES})

    def test_a_pipeline_that_was_stopped_goes_on_with_its_tables(self):
        self.start_tables()
        feeder = self.feed(seed=1)
        self.until_published([feeder])
        self.end_feeders([feeder])
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        self.assertEqual(self.ringctl("stop", "p").returncode, 0)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        self.check_tables(self.tables(), as_table(self.file_rows()))
        self.start_tables()
        sinks = {s["name"]: s["rows"] for s in self.pipeline.look("status")["sinks"]}
        self.assertEqual(sinks["tables"], sinks["archive"])
        feeder = self.feed(seed=2)
        self.until_published([feeder])
        self.end_feeders([feeder])
        self.pipeline.end()
        self.check_tables(self.tables(), as_table(self.file_rows()))

    def test_a_table_may_be_added_to_a_pipeline_that_goes_on(self):
        more = """
  more: {from: moving, type: lmdb}
  file: {from: moving, type: jsonl, path: moving.jsonl}
"""
        whole = PIPELINE % (stream.SCHEMA, OFTEN, "")
        without = whole.replace("fixed, moving, bursts", "fixed, bursts")
        super(restarts.Restarts, self).start_text(without, args=restarts.OFTEN)
        feeder = self.feed(seed=1)
        self.until_published([feeder])
        self.end_feeders([feeder])
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        self.ringctl("stop", "p")
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        super(restarts.Restarts, self).start_text(without.rstrip() + more, args=restarts.OFTEN)
        feeder = self.feed(seed=2)
        self.until_published([feeder])
        harness.until("rows beyond those of the first run", lambda: self.file("moving.jsonl"))
        self.end_feeders([feeder])
        self.pipeline.end()
        rows = self.file_rows() + [dict(r, stage="moving") for r in self.file("moving.jsonl")]
        self.check_tables(self.tables(), as_table(rows))

    def file(self, name):
        return harness.rows_of_jsonl((self.dir / name).read_text())


if __name__ == "__main__":
    harness.main()
