"""What `ringctl` promises: what it shows is so, its exit codes, and how it ends pipelines."""
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading

import harness
import stream

PIPELINE = """
version: 1
pipeline: %s
schema: {event: %s}
runtime: {partitions: 2, workers: 2}
sources: {events: {schema: event, event_time: ts, partition_by: [key]}}
stages:
  even: {from: events, filter: id %% 2 == 0}
  counts: {from: even, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}
  visits: {from: events, key: key, window: {type: session, gap: 30s}, aggregate: {n: count()}}
sinks:
  file: {from: counts, type: csv, path: %s}
  live: {from: counts, type: ring, rows: %d}
"""
RECORDS = 5000
SECONDS = 5  # of event time, a record each millisecond
KEYS = 4


class Ctl(harness.Scenario):
    def start(self, name="p", path="counts.csv", ring_rows=65536):
        running = self.run_pipeline(PIPELINE % (name, stream.SCHEMA, path, ring_rows), name)
        header = self.ringmill("gen", "header", self.dir / f"{name}.yaml").stdout
        self.hash = re.search(r"EVENT_SCHEMA_HASH UINT64_C\((\w+)\)", header)[1]
        return running

    def feed(self, running, *more, count=RECORDS):
        """A producer that has written everything and stays attached."""
        feeder = self.spawn(harness.FEEDER, f"{running.name}/events", self.hash, 1, count, "keys",
                            KEYS, "hold", *more, stdin=subprocess.PIPE)
        self.assertEqual(feeder.stdout.readline(), "attached\n")
        self.assertEqual(feeder.stdout.readline(), f"written {count} dropped 0\n")
        return feeder

    def until_fired(self, running):
        """Wait until all is taken and every window but the last has fired; how many rows that makes."""
        keys = {r["key"] for r in stream.events(1, RECORDS, KEYS) if r["id"] % 2 == 0}
        rows, newest = (SECONDS - 1) * len(keys), (RECORDS - 1) * 1_000_000

        def is_so():
            """Sources count first, then stages, then workers; a sink counts when it has the row."""
            seen = running.look("status")
            source = seen["sources"][0]
            return (source["taken"], sum(w["records"] for w in seen["workers"]), source["watermark"],
                    seen["stages"][1]["out"], seen["sinks"][0]["rows"]) == (RECORDS, RECORDS, newest, rows, rows)

        harness.until(f"{RECORDS} records to be taken and {rows} rows to be made", is_so)
        return rows

    def kill(self, running):
        running.process.kill()
        running.process.wait()

    def rows(self, path="counts.csv"):
        return harness.rows_of_csv((self.dir / path).read_text())


class Looking(Ctl):
    def setUp(self):
        super().setUp()
        self.running = self.start()
        self.feeder = self.feed(self.running)
        self.fired = self.until_fired(self.running)

    def test_status_says_what_went_in_and_came_out(self):
        seen = self.running.look("status")
        self.assertEqual(seen["schema"], "ringctl.status/1")
        self.assertEqual((seen["pipeline"], seen["state"], seen["partitions"], seen["lanes"]),
                         ("p", "running", 2, 1))
        self.assertEqual((seen["pid"], seen["uid"]), (self.running.process.pid, os.geteuid()))
        self.assertEqual(seen["file"], str(self.dir / "p.yaml"))
        self.assertGreater(seen["uptime_ns"], 0)
        memory = seen["memory"]
        self.assertIn(memory["allocator"], ("jemalloc", "malloc"))
        if memory["allocator"] == "jemalloc":  # a sanitizer's own allocator says nothing
            self.assertGreater(memory["allocated"], 100_000)  # the plan, columns, blocks of rows
            self.assertGreaterEqual(memory["resident"], memory["allocated"] // 2)
        source, = seen["sources"]
        self.assertEqual((source["name"], source["published"], source["taken"], source["backlog"],
                          source["dropped"]), ("events", RECORDS, RECORDS, 0, 0))
        self.assertEqual(source["watermark"], (RECORDS - 1) * 1_000_000)
        self.assertGreater(source["lag_ns"], 0)
        even, counts, visits = seen["stages"]
        self.assertEqual((even["name"], even["kind"], even["from"], even["in"], even["out"]),
                         ("even", "filter", "events", RECORDS, RECORDS // 2))
        self.assertEqual((counts["name"], counts["window"], counts["from"], counts["in"]),
                         ("counts", "tumbling", "even", RECORDS // 2))
        self.assertEqual(counts["out"], self.fired)
        self.assertEqual((visits["window"], visits["gap_ns"], visits["keys"]),
                         ("session", 30 * 10**9, KEYS))
        self.assertEqual([w["worker"] for w in seen["workers"]], [0, 1])
        self.assertEqual(sum(w["records"] for w in seen["workers"]), RECORDS)
        file, live = seen["sinks"]
        self.assertEqual((file["name"], file["type"], file["from"], file["lost"]),
                         ("file", "csv", ["counts"], 0))
        self.assertEqual((live["type"], live["path"]), ("ring", None))

    def test_lanes_say_who_feeds_and_how_far_each_is(self):
        seen = self.running.look("lanes")
        self.assertEqual(seen["schema"], "ringctl.lanes/1")
        lane, = seen["lanes"]
        self.assertEqual((lane["lane"], lane["source"], lane["pid"], lane["uid"], lane["program"]),
                         (0, "events", self.feeder.pid, os.geteuid(), "feeder"))
        self.assertEqual((lane["published"], lane["taken"], lane["backlog"], lane["dropped"]),
                         (RECORDS, RECORDS, 0, 0))
        self.assertEqual((lane["state"], lane["reason"]), ("attached", None))
        self.assertIn(lane["variant"], ("plain", "staged", "flush"))
        self.feeder.communicate("")
        harness.until("the lane to go", lambda: not self.running.look("lanes")["lanes"])
        self.assertIn("no producer is attached", self.running.ctl("lanes").stdout)
        source, = self.running.look("status")["sources"]
        self.assertEqual((source["lanes"], source["lanes_gone"], source["published"]),
                         (0, 1, RECORDS))

    def test_the_balance_names_every_door(self):
        seen = self.running.look("balance")
        self.assertEqual((seen["schema"], seen["adds_up"], seen["moving"]),
                         ("ringctl.balance/1", True, False))
        even, counts, visits = seen["stages"]
        self.assertEqual((even["in"], even["doors"]["passed"], even["doors"]["filtered"]),
                         (RECORDS, RECORDS // 2, RECORDS // 2))
        self.assertEqual(counts["doors"]["aggregated"], RECORDS // 2)
        self.assertEqual(visits["doors"]["aggregated"], RECORDS)
        said = self.running.ctl("balance").stdout
        self.assertIn(f"in {RECORDS} = passed {RECORDS // 2} + filtered {RECORDS // 2}", said)
        self.assertIn("every record left by one door", said)

    def test_every_member_is_in_the_manual(self):
        manual = (harness.SOURCE / "docs" / "ringctl.md").read_text()

        def members(value):
            if isinstance(value, dict):
                for name, inner in value.items():
                    yield name
                    yield from members(inner)
            elif isinstance(value, list):
                for inner in value:
                    yield from members(inner)

        looks = [json.loads(self.ringctl("ls", "--json").stdout)]
        looks += [self.running.look(c) for c in ("status", "lanes", "balance")]
        looks += [self.running.look("stat", "--count", "1", "--every", "10ms")]
        looks += [self.running.look("drain")]
        counters = {c for s in looks[1]["stages"] for c in s}
        for look in looks:
            self.assertEqual(look["schema"].split("/")[1], "1")
            for name in members(look):
                if name not in counters:  # a table has those, and they come and go by themselves
                    self.assertIn(f"`{name}`", manual)

    def test_people_get_tables(self):
        said = self.running.ctl("status").stdout
        for word in ("state       running", "WORKER", "SOURCE", "STAGE", "SINK", "counts.csv"):
            self.assertIn(word, said)
        self.assertRegex(said, rf"(?m)^events +1 +{RECORDS} +{RECORDS} +0 +0 +0 +0 1970-01-01T00:00:04")
        self.assertRegex(said, rf"(?m)^even +filter +events +{RECORDS} +{RECORDS // 2} ")
        self.assertRegex(self.running.ctl("lanes").stdout,
                         rf"(?m)^ +0 events +{self.feeder.pid} +\d+ feeder +{RECORDS} +{RECORDS} +0 ")
        self.assertRegex(self.ringctl("ls").stdout,
                         rf"(?m)^p +running +{self.running.process.pid} \S+Z +1 +{RECORDS} +0$")

    def test_the_only_one_that_runs_needs_no_name(self):
        seen = json.loads(self.ringctl("status", "--json").stdout)
        self.assertEqual(seen["pipeline"], "p")
        self.start("q", "q.csv")
        self.assertIn("2 pipelines are running: say which of p, q",
                      self.ringctl("status", want=2).stderr)
        seen = json.loads(self.ringctl("ls", "--json").stdout)
        self.assertEqual(seen["schema"], "ringctl.ls/1")
        self.assertEqual([(p["name"], p["state"], p["lanes"], p["records"])
                          for p in seen["pipelines"]],
                         [("p", "running", 1, RECORDS), ("q", "running", 0, 0)])

    def test_stat_has_a_line_for_each_interval(self):
        done = self.running.ctl("stat", "--json", "--every", "20ms", "--count", "3")
        seen = harness.rows_of_jsonl(done.stdout)
        self.assertEqual([s["interval"] for s in seen], [0, 1, 2])
        for line in seen:
            self.assertEqual(line["schema"], "ringctl.stat/1")
            self.assertGreater(line["interval_ns"], 0)
            self.assertEqual(line["sources"],
                             [{"name": "events", "taken": RECORDS, "records_per_s": 0}])
            for worker in line["workers"]:
                self.assertTrue(0 <= worker["busy"] <= 1, worker)
        head, names, *lines = self.running.ctl(
            "stat", "--every", "10ms", "--count", "2").stdout.splitlines()
        self.assertIn("records/s", head)
        self.assertEqual(names.split(), ["UTC", "events", "even", "counts", "visits", "file", "live",
                                         "0", "1", "0", "1"])
        self.assertEqual(len(lines), 2)
        self.assertEqual(lines[0].split()[1:7], ["0", "0", "0", "0", "0", "-"])


class Intervals(Ctl):
    def watch(self, running):
        stat = self.spawn(harness.RINGCTL, "stat", running.name, "--every", "50ms", "--json")
        return stat, [json.loads(stat.stdout.readline())]

    def test_intervals_add_up_to_everything_when_the_pipeline_ends(self):
        running = self.start()
        stat, seen = self.watch(running)
        self.feed(running)
        running.ctl("drain")
        out, err = harness.rest_of(stat)
        self.assertEqual((stat.returncode, err), (0, "ringctl: pipeline p has ended\n"))
        seen += harness.rows_of_jsonl(out)
        self.assertEqual(seen[-1]["sources"][0]["taken"], RECORDS)
        self.assertEqual(seen[-1]["sinks"][0]["rows"], len(self.rows()))
        through = sum(s["sources"][0]["records_per_s"] * s["interval_ns"] / 1e9 for s in seen)
        self.assertAlmostEqual(through, RECORDS, delta=1)

    def test_a_signal_ends_stat_in_good_order(self):
        stat, _ = self.watch(self.start())
        stat.send_signal(signal.SIGINT)
        out, err = harness.rest_of(stat)
        self.assertEqual((stat.returncode, err), (0, ""))
        for line in out.splitlines():
            json.loads(line)

    def test_stat_tells_death_from_an_end(self):
        running = self.start()
        stat, _ = self.watch(running)
        self.kill(running)
        _, err = stat.communicate(timeout=harness.PATIENCE)
        self.assertEqual((stat.returncode, err), (4, "ringctl: pipeline p has died\n"))


class Ending(Ctl):
    def test_drain_waits_until_all_is_written_and_nothing_is_left(self):
        running = self.start()
        feeder = self.feed(running)
        seen = running.look("drain")
        self.assertEqual(self.left_behind(), [])
        self.assertEqual((seen["schema"], seen["ended"], seen["adds_up"]),
                         ("ringctl.drain/1", "drained", True))
        self.assertEqual((seen["left_in_lanes"], seen["rows_lost"]), (0, 0))
        self.assertEqual(seen["sources"][0]["taken"], RECORDS)
        self.assertEqual(sum(int(r["n"]) for r in self.rows()), RECORDS // 2)
        feeder.communicate("")
        running.end()

    def test_stop_keeps_the_results_so_far(self):
        running = self.start()
        self.feed(running)
        self.until_fired(running)
        said = running.ctl("stop").stdout
        self.assertIn("pipeline p stopped\n", said)
        self.assertEqual(self.left_behind(), [])
        self.assertEqual({int(r["window_start"]) for r in self.rows()},
                         {s * 10**9 for s in range(SECONDS - 1)})
        running.end()

    def test_waiting_for_the_end_has_a_limit_and_the_end_goes_on(self):
        """A sink that nobody empties holds the pipeline back."""
        pipe = self.dir / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        running = self.start(path="pipe")
        self.feed(running, "step", 1_000_000_000)

        def times_out():
            """With ever more time: an engine on a busy machine may take its own to answer."""
            limit = next(limits)
            done = running.ctl("drain", "--timeout", limit, want=5)
            return f"pipeline p has not ended within {limit}; it goes on ending" in done.stderr and done

        limits = iter(("1200ms", "4s", "16s", "64s"))
        self.assertIn("draining", harness.until("it to answer, and not to end", times_out).stderr)
        os.set_blocking(reader, True)
        got = b""
        while part := os.read(reader, 65536):
            got += part
        running.end()
        rows = harness.rows_of_csv(got.decode())
        self.assertEqual(sum(int(r["n"]) for r in rows), RECORDS // 2)

    def test_a_pipeline_that_dies_while_it_drains_is_called_dead(self):
        pipe = self.dir / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        running = self.start(path="pipe")
        self.feed(running, "step", 1_000_000_000)
        drain = self.spawn(harness.RINGCTL, "drain", "p")
        self.assertIn("draining", drain.stderr.readline())
        self.kill(running)
        out, _ = drain.communicate(timeout=harness.PATIENCE)
        self.assertEqual(drain.returncode, 4)
        self.assertIn("pipeline p died", out)


class Tapping(Ctl):
    def in_file(self):
        return sorted(map(stream.typed, self.rows()), key=lambda r: (r["window_start"], r["key"]))

    def test_rows_come_as_they_are_in_the_file(self):
        running = self.start()
        tap = self.spawn(harness.RINGCTL, "tap", "p", "counts", "--oldest")
        self.feed(running)
        count = self.until_fired(running)
        some = running.ctl("tap", "counts", "--oldest", "--count", str(count)).stdout
        first = tap.stdout.readline()  # it is there before the end
        running.ctl("drain")
        out, err = harness.rest_of(tap)
        self.assertEqual((tap.returncode, err), (0, "ringctl: pipeline p has ended\n"))
        rows = sorted(harness.rows_of_jsonl(first + out), key=lambda r: (r["window_start"], r["key"]))
        self.assertEqual(rows, self.in_file())
        self.assertGreater(len(rows), count)
        for row in harness.rows_of_jsonl(some):
            self.assertIn(row, rows)

    def test_rows_come_with_where_they_are_from_or_as_csv(self):
        running = self.start()
        self.feed(running)
        count = self.until_fired(running)
        seen = harness.rows_of_jsonl(
            running.ctl("tap", "counts", "--oldest", "--count", str(count), "--json").stdout)
        for partition in {s["partition"] for s in seen}:
            mine = [s["seq"] for s in seen if s["partition"] == partition]
            self.assertEqual(mine, list(range(len(mine))))
        for line in seen:
            self.assertEqual(line["schema"], "ringctl.tap/1")
            self.assertEqual(line["fire_ns"], line["row"]["window_end"])
        plain = harness.rows_of_csv(
            running.ctl("tap", "counts", "--oldest", "--count", str(count), "--csv").stdout)
        self.assertEqual(list(map(stream.typed, plain)), [s["row"] for s in seen])
        times = running.ctl("tap", "counts", "--oldest", "--count", "1", "--rfc3339").stdout
        self.assertIn('"window_start":"1970-01-01T00:00:00Z"', times)

    def test_a_tap_that_stands_still_is_told_how_many_rows_it_missed(self):
        running = self.start(ring_rows=64)
        tap = self.spawn(harness.RINGCTL, "tap", "counts", "--csv")
        tap.stdout.readline()
        tap.send_signal(signal.SIGSTOP)
        self.feed(running, "step", 100_000_000)
        running.ctl("drain")
        tap.send_signal(signal.SIGCONT)
        out, err = harness.rest_of(tap)
        self.assertEqual(tap.returncode, 0, err)
        missed = sum(map(int, re.findall(r"missed (\d+) rows", err)))
        self.assertGreater(len(self.rows()), 2 * 64)
        self.assertEqual(len(out.splitlines()) + missed, len(self.rows()))

    def test_what_cannot_be_tapped_is_said(self):
        running = self.start()
        self.assertIn("did you mean counts?", running.ctl("tap", "count", want=2).stderr)
        self.assertIn("no sink of type ring takes the rows of even",
                      running.ctl("tap", "even", want=1).stderr)
        self.assertIn("a row cannot be both",
                      running.ctl("tap", "counts", "--csv", "--json", want=2).stderr)
        self.assertIn("STAGE is missing", self.ringctl("tap", want=2).stderr)
        self.assertIn("pipeline q is not running", self.ringctl("tap", "q", "counts", want=3).stderr)

    def test_tap_tells_death_from_an_end_and_a_signal_ends_it(self):
        running = self.start()
        taps = [self.spawn(harness.RINGCTL, "tap", "counts", "--csv") for _ in range(2)]
        for tap in taps:  # the line of names comes once it has subscribed
            self.assertEqual(tap.stdout.readline(), "window_start,window_end,key,revision,n\n")
        taps[0].send_signal(signal.SIGTERM)
        _, err = taps[0].communicate(timeout=harness.PATIENCE)
        self.assertEqual((taps[0].returncode, err), (0, ""))
        self.kill(running)
        _, err = taps[1].communicate(timeout=harness.PATIENCE)
        self.assertEqual((taps[1].returncode, err), (4, "ringctl: pipeline p has died\n"))


class Exits(Ctl):
    def test_a_command_line_that_makes_no_sense_exits_2_with_advice(self):
        self.assertIn("did you mean status?", self.ringctl("statsu", want=2).stderr)
        self.assertIn("did you mean --json?", self.ringctl("ls", "--jsn", want=2).stderr)
        self.assertIn("one word too many", self.ringctl("ls", "p", want=2).stderr)
        self.assertIn("usage: ringctl COMMAND", self.ringctl(want=2).stderr)
        self.assertIn("is not the name of a pipeline", self.ringctl("status", "../p", want=2).stderr)
        self.assertIn("a duration", self.ringctl("status", "p", "--timeout", "5", want=2).stderr)
        self.start()
        self.assertIn("--every", self.ringctl("stat", "p", "--every", "1ns", want=2).stderr)
        self.assertIn("--count", self.ringctl("stat", "p", "--count", "0", want=2).stderr)

    def test_each_program_says_alike_where_a_command_line_makes_no_sense_and_what_to_try(self):
        self.write("p.yaml", PIPELINE % ("p", stream.SCHEMA, "counts.csv", 64))
        tools = harness.RINGMILL.parent
        for program, words, what in (
                (harness.RINGCTL, ["statsu"], "there is no command statsu; did you mean status?"),
                (harness.RINGCTL, ["tap"], "STAGE is missing"),
                (harness.RINGCTL, ["ls", "p"], "p is one word too many"),
                (harness.RINGCTL, ["ls", "--jsn"], "--jsn is no option here; did you mean --json?"),
                (harness.RINGCTL, ["stat", "--every"], "--every needs a value"),
                (harness.RINGCTL, ["status", "--timeout", "5"], "--timeout: a duration "),
                (harness.RINGCTL, ["checkpoint", "lsit"], "there is no lsit; there are list, "),
                (harness.RINGCTL, ["results", "--last", "1", "--limit", "1"], "--limit and --last: "),
                (harness.RINGCTL, ["status", "../p"], '"../p" is not the name of a pipeline'),
                (harness.RINGMILL, ["chekc"], "there is no command chekc; did you mean check?"),
                (harness.RINGMILL, ["check"], "FILE is missing"),
                (harness.RINGMILL, ["gen", "header"], "FILE is missing"),
                (harness.RINGMILL, ["gen", "heder", "p.yaml"], "heder is nothing to generate"),
                (harness.RINGMILL, ["gen", "header", "p.yaml", "--schema", "x"], "--schema: pipeline p has no "),
                (harness.RINGMILL, ["explain"], "FILE is missing, or --keys"),
                (harness.RINGMILL, ["replay", "p.yaml"], "nothing to replay: give a file with --input "),
                (harness.RINGMILL, ["run", "p.yaml", "--within", "5"], "--within takes a duration "),
                (harness.RINGMILL, ["run", "p.yaml", "--from", "2"], "--from: p.yaml keeps no checkpoints"),
                (harness.RINGMILL, ["demo", "--rate", "x"], "--rate takes a number from 1 to "),
                (tools / "ringmill-llm-calls", [], "PIPELINE/SOURCE is missing"),
                (tools / "ringmill-llm-calls", ["llm/calls", "0"], "RATE is a number above 0, not 0"),
                (tools / "ringmill-llm-rows", ["a", "b", "c"], "c is one word too many")):
            done = self.call(program, *words, want=2)
            command = program.name
            if words and words[0] not in ("statsu", "chekc") and command in ("ringmill", "ringctl"):
                command += " " + words[0]
            lines = done.stderr.splitlines()
            self.assertEqual(len(lines), 2, done.stderr)
            self.assertTrue(lines[0].startswith(f"{command}: {what}"), lines[0])
            self.assertEqual(lines[1], f"try '{command} --help'")
            tried = self.call(program, *command.split()[1:], "--help")
            self.assertTrue(tried.stdout.startswith((f"usage: {command} ", f"{command} - ")), tried.stdout)

    def test_help_fits_into_80_columns(self):
        for program in (harness.RINGCTL, harness.RINGMILL):
            said = self.call(program, "--help").stdout
            commands = re.findall(r"(?m)^  ([a-z]\w*)", said)
            self.assertGreater(len(commands), 5)
            for text in [said] + [self.call(program, c, "--help").stdout for c in commands]:
                self.assertGreater(len(text.splitlines()), 4)
                for line in text.splitlines():
                    self.assertLessEqual(len(line), 80, line)

    def test_every_command_has_help(self):
        said = self.ringctl("--help").stdout
        commands = re.findall(r"(?m)^  ([a-z]\w*)", said)
        self.assertIn("drain", commands)
        for command in commands:
            self.assertIn(f"usage: ringctl {command}", self.ringctl(command, "--help").stdout)
        self.assertTrue(self.ringctl("--version").stdout.startswith("ringctl "))

    def test_what_does_not_run_exits_3(self):
        self.assertEqual(self.ringctl("ls").stdout, "")
        self.assertIn(f"no pipeline is running in the run directory {self.rundir}",
                      self.ringctl("drain", want=3).stderr)
        self.assertIn("pipeline p is not running", self.ringctl("stop", "p", want=3).stderr)
        self.start("clicks", "clicks.csv")
        self.assertIn("did you mean clicks?", self.ringctl("status", "clikcs", want=3).stderr)
        self.assertIn("running: clicks", self.ringctl("status", "elsewhere", want=3).stderr)

    def test_what_died_exits_4_until_it_is_started_again(self):
        running = self.start()
        pid = running.process.pid
        self.kill(running)
        for command in ("status", "stat", "lanes", "balance", "drain", "stop", "tap"):
            stage = ["counts"] if command == "tap" else []
            said = self.ringctl(command, "p", *stage, want=4).stderr
            self.assertIn(f"pipeline p is dead: process {pid}", said)
            self.assertIn("`ringmill run` of its file starts it again", said)
        done = self.ringctl("ls", "--json")
        dead, = json.loads(done.stdout)["pipelines"]
        self.assertEqual((dead["name"], dead["state"], dead["pid"]), ("p", "dead", pid))
        done = self.ringctl("ls")
        self.assertRegex(done.stdout, rf"(?m)^p +dead +{pid} ")
        self.assertIn("is dead", done.stderr)
        for command in ("status", "drain"):  # as with its name
            said = self.ringctl(command, want=4).stderr
            self.assertIn("no pipeline is running; p is dead", said)
            self.assertIn("`ringctl clean` removes what it left", said)
        running = self.start()
        self.assertEqual(running.look("status")["pid"], running.process.pid)
        running.end()

    def test_no_answer_exits_5(self):
        running = self.start()
        os.kill(running.engine, signal.SIGSTOP)
        said = running.ctl("status", "--timeout", "100ms", want=5).stderr
        self.assertIn("pipeline p: the engine has not answered within 100 ms", said)
        silent, = json.loads(self.ringctl("ls", "--json", "--timeout", "50ms").stdout)["pipelines"]
        self.assertEqual(silent["state"], "silent")
        os.kill(running.engine, signal.SIGCONT)
        running.end()

    def test_another_users_pipeline_exits_7(self):
        self.start()
        if os.geteuid() != 0:  # keep ourselves out
            os.chmod(self.rundir / "p", 0)
            self.addCleanup(os.chmod, self.rundir / "p", 0o700)
            self.assertIn("Permission denied", self.ringctl("status", "p", want=7).stderr)
            return
        os.chmod(self.dir, 0o755)
        ours = shutil.copy(harness.RINGCTL, self.dir / "ringctl")
        nobody = subprocess.run([ours, "status", "p"], env=self.env, user=65534, text=True,
                                capture_output=True, cwd="/", check=False)
        self.assertEqual(nobody.returncode, 7, nobody.stderr)
        self.assertIn("Permission denied", nobody.stderr)


MAGIC, REPLY, REFUSED = 0x4C4D524D, 18, 19


def message(kind, body, version=3):
    return struct.pack("<IHHII", MAGIC, version, kind, 16 + len(body), 0) + body


def refusal(code, text):
    return message(REFUSED, struct.pack("<II232s", code, 0, text))


class Impostors(Ctl):
    """What answers in a pipeline's place is input: it is told what is wrong, and nothing crashes."""

    def answered(self, *answers, want):
        folder = self.rundir / "p"
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(folder / "socket"))
            listener.listen()

            def serve():
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65536)
                    for data, descriptors in answers:
                        socket.send_fds(peer, [data], descriptors)
                    if not answers:
                        listener.close()  # who is hung up on looks again

            server = threading.Thread(target=serve)
            server.start()
            said = self.ringctl("status", "p", want=want).stderr
            server.join()
        (folder / "socket").unlink()
        return said

    def test_another_version_exits_6(self):
        self.assertIn("the peer speaks version 1", self.answered(
            (message(REPLY, struct.pack("<II", 1, 0), version=1), []), want=6))
        self.assertIn("no, you do", self.answered((refusal(93, b"no, you do"), []), want=6))

    def test_a_refusal_says_its_reason(self):
        self.assertIn("pipeline p: as root only",
                      self.answered((refusal(13, b"as root only"), []), want=7))
        self.assertIn("REFUSED: code 0", self.answered((refusal(0, b"no reason"), []), want=1))

    def test_hanging_up_is_not_running(self):
        self.assertIn("pipeline p is not running", self.answered(want=3))

    def test_what_is_no_board_is_refused(self):
        reply = message(REPLY, struct.pack("<II", 1, 0) + b"4096")
        self.assertIn("without a board", self.answered((reply, []), want=1))
        with open("/dev/null", "rb") as null:
            self.answered((reply, [null.fileno()]), want=1)
        self.assertIn("pipeline p", self.answered((b"?" * 40, []), want=1))
        fd = os.memfd_create("board", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, 4096)
        self.answered((reply, [fd]), want=1)  # it could be cut under our feet
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS,
                    fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.assertIn("no board", self.answered((reply, [fd]), want=1))
        os.close(fd)


if __name__ == "__main__":
    harness.main()
