"""Sinks whose path is of something else: nothing is written over, nobody waits for ever."""
import os

import harness
import stream

PIPELINE = f"""
version: 1
pipeline: %s
schema: {{event: {stream.SCHEMA}}}
runtime: {{partitions: 1, workers: 1%s}}
sources: {{events: {{schema: event, event_time: ts, partition_by: [key]}}}}
stages:
  counts: {{from: events, key: key, window: {{type: tumbling, size: 1s}}, aggregate: {{n: count()}}}}
sinks: {{%s}}
"""


class SinkPaths(harness.Scenario):
    def refused(self, *paths, name="p", more=""):
        """A run with sinks to these paths ends at once, and leaves all files as they are."""
        sinks = ", ".join(f"s{i}: {{from: counts, type: csv, path: {path}}}"
                          for i, path in enumerate(paths))
        file = self.write(f"{name}.yaml", PIPELINE % (name, more, sinks))
        before = self.contents()
        said = self.ringmill("run", file, want=1).stderr
        after = self.contents()
        self.assertEqual({path: after[path] for path in before}, before)
        return said

    def contents(self):
        return {path: path.read_bytes() for path in self.dir.rglob("*")
                if path.is_file() and not path.name.startswith("catalog.mdb")}

    def test_the_pipeline_file_is_no_place_for_rows_under_any_name(self):
        self.assertIn("p.yaml is the pipeline file", self.refused("p.yaml"))
        (self.dir / "link").symlink_to("p.yaml")
        self.assertIn("link is the pipeline file", self.refused("link"))
        os.link(self.dir / "p.yaml", self.dir / "twin")
        self.assertIn("twin is the pipeline file", self.refused("twin"))

    def test_a_state_is_no_place_for_rows(self):
        sink = "s: {from: counts, type: csv, path: a.csv}"
        self.run_pipeline(PIPELINE % ("p", ", state: ./state", sink)).end()
        self.assertIn("state/extents is written to already",
                      self.refused("state/extents", more=", state: ./state"))

    def test_two_sinks_to_one_file_under_two_names_are_refused(self):
        (self.dir / "b.csv").symlink_to("a.csv")
        self.assertIn("b.csv is written to already", self.refused("a.csv", "b.csv"))

    def test_what_another_pipeline_writes_to_is_left_to_it(self):
        running = self.run_pipeline(
            PIPELINE % ("first", "", "s: {from: counts, type: csv, path: a.csv}"), "first")
        harness.until("its first line", (self.dir / "a.csv").read_text)
        self.assertIn("a.csv is written to already", self.refused("a.csv", name="second"))
        running.end()

    def test_a_pipe_without_a_reader_is_refused_and_one_with_a_reader_gets_the_rows(self):
        os.mkfifo(self.dir / "pipe")
        sinks = "s: {from: counts, type: csv, path: pipe}"
        file = self.write("p.yaml", PIPELINE % ("p", "", sinks))
        self.assertIn("nobody reads this pipe", self.ringmill("run", file, want=1).stderr)
        reader = os.open(self.dir / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        self.run_pipeline(PIPELINE % ("p", "", sinks)).end()
        self.assertTrue(os.read(reader, 1000).startswith(b"window_start,"))
        os.close(reader)


harness.main()
