"""Rows that the wall clock triggers come while nothing else happens, and the last row is whole."""
import json

import feeding
import harness

PIPELINE = """
version: 1
pipeline: p
schema: {event: {ts: time_ns, id: u64, key: u32, value: i32}}
runtime: {partitions: 3, workers: 2}
sources: {events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 1h}}
stages:
  sums: {from: events, key: key, window: %s, aggregate: {n: count(), total: sum(value)}}
sinks: {file: {from: sums, type: jsonl, path: windows.jsonl}}
"""
WINDOWS = ["{type: tumbling, size: 1h, trigger: {every: 20ms}}", "{type: global, trigger: {every: 20ms}}",
           "{type: session, gap: 1h, trigger: {every: 20ms, count: 7}}"]
RECORDS = 3000


class Triggers(feeding.Feeding):
    def rows(self):
        """By window: its rows in the order of the file."""
        windows = {}
        for line in (self.dir / "windows.jsonl").read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be on its way
                row = json.loads(line)
                windows.setdefault((row["key"], row["window_start"]), []).append(row)
        return windows

    def shown(self):
        """How many records the newest rows of all windows have."""
        return sum(rows[-1]["n"] for rows in self.rows().values() if not rows[-1].get("retracted"))

    def test_what_has_changed_is_told_before_its_window_fires(self):
        for window in WINDOWS:
            with self.subTest(window=window):
                self.check(PIPELINE % window)

    def check(self, text):
        self.start_text(text)
        first = self.feeder(1, RECORDS, "keys", 20, "hold")
        self.attached(first)
        self.written(first)
        harness.until("all records to be told of", lambda: self.shown() == RECORDS)
        self.assertTrue(all(row["partial"] or row.get("retracted") for rows in self.rows().values() for row in rows))
        second = self.feeder(2, RECORDS, "keys", 20, "hold")
        self.attached(second)
        self.written(second)
        self.ends(first)
        self.ends(second)  # without a lane the clock is looked at all the same
        harness.until("what came since to be told of", lambda: self.shown() == 2 * RECORDS)
        self.pipeline.end()
        self.assertEqual(self.shown(), 2 * RECORDS)
        for rows in self.rows().values():
            self.assertFalse(rows[-1]["partial"])
            if "retracted" not in rows[-1]:
                self.assertEqual([row["revision"] for row in rows], list(range(len(rows))))
                self.assertEqual([row["n"] for row in rows], sorted(row["n"] for row in rows))


if __name__ == "__main__":
    harness.main()
