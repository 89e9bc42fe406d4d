"""What `ringmill replay` promises: the same answer as a plain oracle, the same bytes every time."""
import gzip
import json
import random
import signal
import sqlite3

import harness
import stream

TRACE = """
version: 1
pipeline: trace
schema: {request: {ts: time_ns, kind: str8, context: u32, generated: u32}}
runtime: {partitions: 2}
sources: {requests: {schema: request, event_time: ts}}
stages:
  minutes:
    from: requests
    key: kind
    window: {type: tumbling, size: 60s}
    aggregate: &AGGREGATES
  sliding:
    from: requests
    key: kind
    window: {type: sliding, size: 5m, every: 30s}
    aggregate: &AGGREGATES
  bursts:
    from: requests
    key: kind
    window: {type: session, gap: 700ms}
    aggregate: &AGGREGATES
  counted:
    from: requests
    key: kind
    window: {type: tumbling, size: 100 records}
    aggregate: &AGGREGATES
  moving:
    from: requests
    key: kind
    window: {type: sliding, size: 300 records, every: 70 records}
    aggregate: &AGGREGATES
""".replace("&AGGREGATES", """
      n: count()
      context_sum: sum(context)
      context_avg: avg(context)
      context_min: min(context)
      context_max: max(context)
      generated_sum: sum(generated)
      generated_avg: avg(generated)
      generated_min: min(generated)
      generated_max: max(generated)""")

TRACE_SQL = """
with recursive
  bounds(lo, hi) as (select min(ts), max(ts) from t),
  starts(s) as (
    select (lo / :every) * :every - :size + :every from bounds
    union all select s + :every from starts, bounds where s + :every <= hi)
select s, s + :size, kind, 0, count(*),
  sum(context), avg(context), min(context), max(context),
  sum(generated), avg(generated), min(generated), max(generated)
from starts join t on t.ts >= s and t.ts < s + :size
group by s, kind order by s, kind
"""

# Sessions without a loop: a record begins one when the one before it lies a gap back; the running count of
# beginnings is the session's number.
SESSION_SQL = """
with
  marked as (select *, ts - lag(ts) over (order by ts) >= :gap as begins from t),
  numbered as (select *, sum(coalesce(begins, 1)) over (order by ts rows unbounded preceding) as n
               from marked)
select min(ts), max(ts) + :gap, kind, 0, 'false', count(*),
  sum(context), avg(context), min(context), max(context),
  sum(generated), avg(generated), min(generated), max(generated)
from numbered group by n, kind order by min(ts)
"""

# Windows of so many records: the rows of the file are numbered as they stand in it.
COUNTED_SQL = """
with numbered as (select *, row_number() over (order by rowid) as i from t),
  ends as (select i as e from numbered where i % :every = 0)
select min(ts), max(ts) + 1, kind, 0, count(*),
  sum(context), avg(context), min(context), max(context),
  sum(generated), avg(generated), min(generated), max(generated)
from ends join numbered on i > e - :size and i <= e group by e, kind order by e
"""


def trace_rows(text):
    """The trace as sqlite3 takes it; the time by hand, so that no parser is shared with replay."""
    for line in text.decode().splitlines()[1:]:
        time, context, generated = line.split(",")
        day, clock = time.split(" ")
        year, month, date = (int(x) for x in day.split("-"))
        assert (year, month) == (2023, 11)
        hours, minutes, seconds = clock.split(":")
        whole, fraction = seconds.split(".")
        days = 19662 + date - 1  # 2023-11-01 is day 19662 of the epoch
        ns = ((days * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(whole)
        yield ns * 10**9 + int(fraction.ljust(9, "0")), int(context), int(generated)


class Traces(harness.Scenario):
    def check_trace(self, kind):
        text = gzip.decompress(
            (harness.SOURCE / f"tests/data/azure_llm_2023_{kind}.csv.gz").read_bytes())
        self.write("trace.csv", text)
        db = sqlite3.connect(":memory:")
        db.execute("create table t (ts integer, context integer, generated integer, kind text)")
        db.executemany(f"insert into t values (?, ?, ?, '{kind}')", trace_rows(text))
        pipeline = self.write("trace.yaml", TRACE)
        done = self.ringmill(
            "replay", pipeline, "--input", "requests=trace.csv", "--map", "ts=TIMESTAMP",
            "--map", "context=ContextTokens", "--map", "generated=GeneratedTokens",
            "--set", f"kind={kind}", "--output", "minutes=minutes.csv",
            "--output", "sliding=sliding.jsonl", "--output", "bursts=bursts.csv",
            "--output", "counted=counted.csv", "--output", "moving=moving.jsonl", "--json")
        balance = json.loads(done.stderr)
        self.assertTrue(balance["adds_up"])
        total, = db.execute("select count(*) from t").fetchone()
        self.assertEqual(balance["sources"][0]["delivered"], total)

        tumbling = db.execute(TRACE_SQL, {"size": 60 * 10**9, "every": 60 * 10**9}).fetchall()
        rows = harness.rows_of_csv((self.dir / "minutes.csv").read_text())
        self.compare(rows, tumbling)
        sliding = db.execute(TRACE_SQL, {"size": 300 * 10**9, "every": 30 * 10**9}).fetchall()
        rows = harness.rows_of_jsonl((self.dir / "sliding.jsonl").read_text())
        self.compare(rows, sliding)
        sessions = db.execute(SESSION_SQL, {"gap": 700 * 10**6}).fetchall()
        self.compare(harness.rows_of_csv((self.dir / "bursts.csv").read_text()), sessions)
        counted = db.execute(COUNTED_SQL, {"size": 100, "every": 100}).fetchall()
        self.compare(harness.rows_of_csv((self.dir / "counted.csv").read_text()), counted)
        moving = db.execute(COUNTED_SQL, {"size": 300, "every": 70}).fetchall()
        self.compare(harness.rows_of_jsonl((self.dir / "moving.jsonl").read_text()), moving)
        self.assertGreater(len(sessions), 100)
        self.assertGreater(len(counted), 80)
        self.assertGreater(len(moving), 100)
        self.assertGreater(len(tumbling), 40)
        self.assertGreater(len(sliding), 100)

    def compare(self, rows, wanted):
        """To the last row and digit: what is no float is compared as text, floats as they read."""
        self.assertEqual(len(rows), len(wanted))
        for row, want in zip(rows, wanted):
            self.assertEqual(len(row), len(want))
            for (name, value), expected in zip(row.items(), want):
                if isinstance(expected, float):
                    self.assertEqual(float(value), expected, (name, row))
                else:
                    self.assertEqual(str(value), str(expected), (name, row))

    def test_the_trace_of_code_gives_what_sqlite_gives(self):
        self.check_trace("code")

    def test_the_trace_of_conversations_gives_what_sqlite_gives(self):
        self.check_trace("conv")


def pipeline_of(rng):
    """A pipeline drawn at random, with what the oracle must know of it."""
    every = rng.choice([10, 25, 40]) * 1_000_000
    size = every * rng.choice([1, 1, 2, 5])
    shape = {
        "size": size, "every": every,
        "out_of_order": rng.choice([0, 5, 30]) * 1_000_000,
        "late": rng.choice([0, 0, 20, 60]) * 1_000_000,
    }
    text = f"""
version: 1
pipeline: drawn
schema: {{event: {stream.SCHEMA}}}
runtime: {{partitions: 3}}
sources: {{events: {{schema: event, event_time: ts, out_of_order: {shape['out_of_order']}ns}}}}
stages:
  sums:
    from: events
    key: key
    window: {{type: sliding, size: {size}ns, every: {every}ns, late: {shape['late']}ns}}
    aggregate: {stream.AGGREGATES}
  behind: {{from: sums.late, filter: true}}
"""
    return text, shape


class Properties(harness.Scenario):
    SEED = 20260807

    def test_drawn_windows_over_disorder_are_the_oracles(self):
        rng = random.Random(self.SEED)
        print("seed", self.SEED)
        corrections = behind_all = 0
        for round_number in range(40):
            text, shape = pipeline_of(rng)
            keys = rng.choice([1, 3, 20])
            records = stream.events(round_number, rng.choice([300, 1500]), keys=keys,
                                    step_ns=200_000, disorder_ns=rng.choice([8, 40, 90]) * 1_000_000)
            rows, refused = stream.windows(records, **shape)
            pipeline = self.write("drawn.yaml", text)
            self.write("events.csv", stream.as_csv(records))
            with self.subTest(round=round_number, shape=shape):
                self.ringmill("replay", pipeline, "--input", "events=events.csv", "--output",
                              "sums=sums.jsonl", "--output", "behind=behind.csv", "--quiet")
                got = harness.rows_of_jsonl((self.dir / "sums.jsonl").read_text())
                self.assertEqual(stream.ordered([stream.typed(r) for r in got]),
                                 stream.ordered(rows))
                behind = harness.rows_of_csv((self.dir / "behind.csv").read_text())
                self.assertEqual(sorted(int(r["id"]) for r in behind),
                                 sorted(r["id"] for r in refused))
            corrections += sum(r["revision"] > 0 for r in rows)
            behind_all += len(refused)
        self.assertGreater(corrections, 100)
        self.assertGreater(behind_all, 100)

    def test_workers_batches_and_speed_do_not_change_a_byte(self):
        rng = random.Random(self.SEED + 1)
        for round_number in range(4):
            text, _ = pipeline_of(rng)
            pipeline = self.write("drawn.yaml", text)
            records = stream.events(round_number, 1200, keys=9, step_ns=200_000,
                                    disorder_ns=40_000_000)
            self.write("events.csv", stream.as_csv(records))
            seen = set()
            for options in (["--workers", "1"], ["--workers", "3"], ["--batch", "1"],
                            ["--batch", str(rng.randrange(2, 900)), "--workers", "2"],
                            ["--speed", "4"]):
                self.ringmill("replay", pipeline, "--input", "events=events.csv", "--output",
                              "sums=sums.csv", "--output", "behind=behind.jsonl", "--quiet",
                              *options)
                seen.add(((self.dir / "sums.csv").read_bytes(),
                          (self.dir / "behind.jsonl").read_bytes()))
            self.assertEqual(len(seen), 1)
            sums, _ = seen.pop()
            self.assertGreater(sums.count(b"\n"), 20)

    def test_who_is_evicted_depends_on_nothing_but_the_records(self):
        limits = "key: key, max_keys: 3, when_full: evict_oldest"
        pipeline = self.write("evicting.yaml", f"""
version: 1
pipeline: evicting
schema: {{event: {stream.SCHEMA}}}
runtime: {{partitions: 3}}
sources: {{events: {{schema: event, event_time: ts, out_of_order: 5ms}}}}
stages:
  slide: {{from: events, {limits}, window: {{type: sliding, size: 30ms, every: 10ms, late: 10ms}},
          aggregate: {stream.AGGREGATES}}}
  visit: {{from: events, {limits}, window: {{type: session, gap: 4ms, window_limit: 2, when_full: evict_oldest}},
          aggregate: {stream.AGGREGATES}}}
  count: {{from: events, {limits}, window: {{type: tumbling, size: 7 records}}, aggregate: {stream.AGGREGATES}}}
""")
        self.write("events.csv", stream.as_csv(stream.events(5, 3000, keys=40, step_ns=200_000,
                                                             disorder_ns=8_000_000)))
        stages, seen = ["slide", "visit", "count"], set()
        outputs = [o for s in stages for o in ("--output", f"{s}={s}.jsonl")]
        for options in (["--workers", "1"], ["--workers", "3"], ["--batch", "1"],
                        ["--batch", "61", "--workers", "2"]):
            done = self.ringmill("replay", pipeline, "--input", "events=events.csv", *outputs,
                                 "--json", *options)
            balance = json.loads(done.stderr)
            self.assertTrue(balance["adds_up"])
            seen.add(tuple((self.dir / f"{s}.jsonl").read_bytes() for s in stages))
            for stage, text in zip(balance["stages"], (self.dir / f"{s}.jsonl" for s in stages)):
                rows = harness.rows_of_jsonl(text.read_text())
                self.assertEqual(stage["rows_out"], len(rows))
                self.assertEqual(stage["windows_evicted"], sum(r["evicted"] for r in rows))
                self.assertGreater(stage["evicted"], 100)
                self.assertEqual(stage["doors"]["refused"], 0)
        self.assertEqual(len(seen), 1)

    def test_rows_leave_in_the_order_that_windows_end_ties_by_key(self):
        records = stream.events(7, 2000, keys=30)
        text, _ = pipeline_of(random.Random(3))
        pipeline = self.write("drawn.yaml", text)
        self.write("events.csv", stream.as_csv(records))
        self.ringmill("replay", pipeline, "--input", "events=events.csv", "--output",
                      "sums=sums.jsonl", "--quiet")
        rows = harness.rows_of_jsonl((self.dir / "sums.jsonl").read_text())
        order = [(r["window_end"], r["key"]) for r in rows]
        self.assertEqual(order, sorted(order))


SIMPLE = f"""
version: 1
pipeline: simple
schema: {{event: {stream.SCHEMA}}}
sources: {{events: {{schema: event, event_time: ts}}}}
stages:
  kept: {{from: events, filter: value >= 0}}
  sums: {{from: kept, key: key, window: {{type: tumbling, size: 1s}}, aggregate: {{n: count()}}}}
"""


class Lines(harness.Scenario):
    def setUp(self):
        super().setUp()
        self.pipeline = self.write("simple.yaml", SIMPLE)

    def test_a_pipe_goes_in_and_rows_come_out(self):
        done = self.ringmill("replay", self.pipeline, "--input", "events=-", "--format", "csv",
                             input="ts,id,key,value\n1,1,5,0\n2,2,5,1\n3,3,6,-1\n")
        self.assertEqual(done.stdout,
                         "window_start,window_end,key,revision,n\n0,1000000000,5,0,2\n")
        done = self.ringmill("replay", self.pipeline, "--input", "events=-", "--times", "rfc3339",
                             input='{"ts":1,"id":1,"key":5,"value":0}\n')
        self.assertEqual(done.stdout,
                         '{"window_start":"1970-01-01T00:00:00Z","window_end":'
                         '"1970-01-01T00:00:01Z","key":5,"revision":0,"n":1}\n')

    def test_stages_that_share_standard_output_say_which_is_which(self):
        both = SIMPLE + "  all: {from: events, filter: true}\n"
        done = self.ringmill("replay", self.write("both.yaml", both), "--input", "events=-",
                             input='{"ts":1,"id":1,"key":5,"value":0}\n')
        rows = harness.rows_of_jsonl(done.stdout)
        self.assertEqual(sorted(r["stage"] for r in rows), ["all", "sums"])
        self.ringmill("replay", self.write("both.yaml", both), "--input", "events=-", "--format",
                      "csv", input="ts,id,key,value\n", want=2)

    def test_malformed_lines_are_named_counted_and_passed_over(self):
        text = "ts,id,key,value\r\n1,1,5,0\r\nx,1,5,0\r\n\r\n2,2,5\r\n3,3,5,1"
        self.write("events.csv", text)
        done = self.ringmill("replay", self.pipeline, "--input", "events=events.csv", "--json")
        self.assertIn('"n":2', done.stdout)
        self.assertIn("events.csv:3: ts: ", done.stderr)
        self.assertIn("events.csv:5: 3 cells where the header has 4", done.stderr)
        balance = json.loads(done.stderr.splitlines()[-1])
        self.assertEqual(balance["sources"][0]["lines"], 4)
        self.assertEqual(balance["sources"][0]["malformed_lines"], 2)
        self.assertTrue(balance["adds_up"])

    def test_strict_stops_at_the_first_malformed_line(self):
        self.write("events.csv", "ts,id,key,value\n1,1,5,0\nx,1,5,0\n")
        done = self.ringmill("replay", self.pipeline, "--input", "events=events.csv", "--strict",
                             want=1)
        self.assertIn("events.csv:3: ts: ", done.stderr)

    def test_an_empty_file_gives_no_rows_and_adds_up(self):
        self.write("events.csv", "ts,id,key,value\n")
        done = self.ringmill("replay", self.pipeline, "--input", "events=events.csv")
        self.assertEqual(done.stdout, "")

    def test_mistakes_on_the_command_line_say_what_to_do(self):
        self.write("events.csv", "ts,id,key,value\n")
        for args, code, said in (
                (["--input", "evnts=events.csv"], 2, "did you mean events?"),
                (["--input", "events.csv"], 2, "SOURCE=FILE"),
                ([], 2, "--input"),
                (["--input", "events=none.csv"], 1, "none.csv"),
                (["--input", "events=events.csv", "--output", "sum=x.csv"], 2,
                 "did you mean sums?"),
                (["--input", "events=events.csv", "--map", "vlaue=V"], 2, "did you mean value?"),
                (["--input", "events=events.csv", "--speed", "fast"], 2, "--speed"),
                (["--input", "events=events.csv", "--workers", "0"], 2, "--workers"),
                (["--input", "events=events.csv", "--output", "sums=/nowhere/x.csv"], 1,
                 "/nowhere/x.csv")):
            with self.subTest(args=args):
                done = self.ringmill("replay", self.pipeline, *args, want=code)
                self.assertIn(said, done.stderr)

    def test_an_input_and_the_pipeline_file_are_no_outputs(self):
        text = "ts,id,key,value\n1,1,5,0\n"
        self.write("events.csv", text)
        (self.dir / "link.csv").symlink_to("events.csv")
        for path, code, said in (("./events.csv", 2, "./events.csv is an input"),
                                 ("link.csv", 2, "link.csv is an input"),
                                 ("simple.yaml", 1, "simple.yaml is the pipeline file")):
            with self.subTest(path=path):
                done = self.ringmill("replay", self.pipeline, "--input", "events=events.csv",
                                     "--output", f"sums={path}", want=code)
                self.assertIn(said, done.stderr)
        self.assertEqual((self.dir / "events.csv").read_text(), text)
        self.assertEqual(self.pipeline.read_text(), SIMPLE)

    def test_who_interrupts_gets_a_balance_of_what_was_read_that_adds_up(self):
        hour = 3600 * 10**9
        self.write("events.csv", "ts,id,key,value\n"
                   + "".join(f"{i * hour},{i},5,0\n" for i in range(10)))
        replay = self.spawn(harness.RINGMILL, "replay", self.pipeline, "--input",
                            "events=events.csv", "--speed", "1", "--output", "sums=rows.csv")
        # the handler stands before the files are opened, and the second record is due in an hour
        harness.until("the replay to begin", (self.dir / "rows.csv").exists)
        replay.send_signal(signal.SIGINT)
        _, said = replay.communicate(timeout=harness.PATIENCE)
        self.assertEqual(replay.returncode, 1, said)
        self.assertIn("interrupted: the rest of the input was not read", said)
        self.assertIn("every record left by one door", said)

    def test_nothing_is_left_behind(self):
        self.write("events.csv", stream.as_csv(stream.events(1, 1000)))
        self.ringmill("replay", self.pipeline, "--input", "events=events.csv", "--quiet")
        self.assertEqual(self.left_behind(), [])


if __name__ == "__main__":
    harness.main()
