"""What a subscriber in another process is promised: rows, their order, and how many it missed."""
import os
import pathlib
import re

import harness
import stream

PIPELINE = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 2, workers: 2}
sources: {events: {schema: event, event_time: ts, partition_by: [key]}}
stages:
  counts: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count(), total: sum(value)}}
  silent: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}
sinks:
  live: {from: counts, type: ring, rows: %d}
  file: {from: counts, type: csv, path: counts.csv}
  other: {from: silent, type: csv, path: silent.csv}
"""


class Subscribers(harness.Scenario):
    def start(self, rows):
        self.pipeline = self.run_pipeline(PIPELINE % (stream.SCHEMA, rows))
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        self.hash = dict(re.findall(r"(\w+)_SCHEMA_HASH UINT64_C\((\w+)\)", header))

    def watch(self, *more, stage="counts", want_attached=True):
        watcher = self.spawn(harness.WATCHER, f"p/{stage}", self.hash["COUNTS_ROW"], *more,
                             stdin=harness.subprocess.PIPE)
        if want_attached:
            self.assertEqual(watcher.stderr.readline(), "attached\n")
        return watcher

    def feed(self, count):
        self.call(harness.FEEDER, "p/events", self.hash["EVENT"], 7, count, "keys", 5, "step", 10_000_000)

    def saw(self, watcher, last="EPIPE\n"):
        out, err = watcher.communicate(timeout=harness.PATIENCE)
        self.assertEqual(watcher.returncode, 0, err)
        self.assertEqual(err, last)
        lines = out.splitlines()
        rows = [tuple(int(v) for v in line.split(",")) for line in lines[:-1]]
        return rows, int(lines[-1].removeprefix("missed "))

    def in_file(self):
        rows = harness.rows_of_csv((self.dir / "counts.csv").read_text())
        return sorted((int(r["window_start"]), int(r["key"]), int(r["revision"]), int(r["n"]),
                       int(r["total"])) for r in rows)

    def test_every_row_comes_to_every_subscriber_once_and_in_order(self):
        self.start(65536)
        watchers = [self.watch(), self.watch("spin", "200000"), self.watch("oldest")]
        self.feed(20_000)
        self.pipeline.end()
        wanted = self.in_file()
        self.assertGreater(len(wanted), 900)
        for watcher in watchers:
            rows, missed = self.saw(watcher)
            self.assertEqual(missed, 0)
            self.assertEqual(sorted(r[2:] for r in rows), wanted)
            for partition in {r[0] for r in rows}:
                mine = [r for r in rows if r[0] == partition]
                self.assertEqual([r[1] for r in mine], list(range(len(mine))))
                self.assertEqual([r[2] for r in mine], sorted(r[2] for r in mine))

    def test_a_slow_subscriber_is_told_exactly_how_many_it_missed(self):
        self.start(64)
        watcher = self.watch("after")
        self.feed(20_000)
        self.pipeline.end()
        watcher.stdin.write("go\n")
        watcher.stdin.flush()
        rows, missed = self.saw(watcher)
        wanted = self.in_file()
        self.assertEqual(len(rows) + missed, len(wanted))
        self.assertGreater(missed, 0)
        self.assertTrue(0 < len(rows) <= 2 * 64)  # what both rings can still hold
        self.assertLessEqual({r[2:] for r in rows}, set(wanted))

    def test_subscribers_come_and_go_and_the_engine_keeps_nothing_of_them(self):
        self.start(1024)
        fds = f"/proc/{self.pipeline.engine}/fd"
        before = len(os.listdir(fds))
        killed = [self.watch() for _ in range(8)]
        leaving = [self.watch("rows", "3") for _ in range(8)]
        self.assertGreater(len(os.listdir(fds)), before)
        self.feed(2_000)
        for watcher in leaving:
            rows, _ = self.saw(watcher, last="had enough\n")
            self.assertEqual(len(rows), 3)
        for watcher in killed:
            watcher.kill()
        harness.until("the engine to let go", lambda: len(os.listdir(fds)) <= before)
        self.pipeline.end()

    def test_a_subscriber_that_cannot_have_what_it_asks_for_is_told_why(self):
        self.start(64)
        for stage, said in (("nothing", "has no stage nothing"),
                            ("silent", "there are rings of: counts"),
                            ("counts.late", "there are rings of: counts")):
            watcher = self.watch(stage=stage, want_attached=False)
            _, err = watcher.communicate(timeout=harness.PATIENCE)
            self.assertEqual(watcher.returncode, 1)
            self.assertTrue(err.startswith("ENOENT: "), err)
            self.assertIn(said, err)
        self.hash["COUNTS_ROW"] = "0x1234"
        watcher = self.watch(want_attached=False)
        _, err = watcher.communicate(timeout=harness.PATIENCE)
        self.assertIn("make the header again", err)
        self.pipeline.end()

    def test_a_subscriber_cannot_write_into_a_ring(self):
        self.start(64)
        watcher = self.watch("after")
        maps = pathlib.Path(f"/proc/{watcher.pid}/maps").read_text(encoding="ascii").splitlines()
        ring = [line for line in maps if "ringmill-p-counts" in line]
        self.assertEqual(len(ring), 1)
        self.assertEqual(ring[0].split()[1], "r--s")
        self.pipeline.end()
        watcher.kill()


if __name__ == "__main__":
    harness.main()
