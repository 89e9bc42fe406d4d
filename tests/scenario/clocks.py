"""Whoever sets the machine's clock, forward or back, changes no result: nobody is idle for it, and nothing stops."""
import json

import faults
import harness
import machine
import restarts
import stream

HOUR = 3600

# A producer that is called idle holds the watermark back no longer: then what it writes is late.
PIPELINE = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2, state: ./state, checkpoint: {every: 30ms, min_pause: 1ms}}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], idle_after: 50m}
stages:
  all: {from: events, filter: true}
  sums: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: %s}
  early: {from: events, key: key, window: {type: tumbling, size: 1h, trigger: {every: 20ms}},
          aggregate: {n: count()}}
sinks:
  records: {from: all, type: csv, path: records.csv}
  windows: {from: sums, type: csv, path: windows.csv}
  late: {from: sums.late, type: csv, path: late.csv}
  early: {from: early, type: jsonl, path: early.jsonl}
"""


class Clocks(faults.Faulty):
    def stage(self, name):
        return next(s for s in self.pipeline.look("status")["stages"] if s["name"] == name)

    def newest(self):
        kept = json.loads(self.ringctl("checkpoint", "list", "p", "--json").stdout)["checkpoints"]
        return kept[-1]["epoch"] if kept else 0

    def until_it_goes_on(self):
        """Wait until early rows have come by the clock, and checkpoints."""
        early, epoch = self.stage("early")["early"], self.newest()
        harness.until("early rows", lambda: self.stage("early")["early"] > early + 20)
        harness.until("checkpoints", lambda: self.newest() > epoch + 2)

    def test_a_clock_that_is_set_an_hour_forward_or_back_changes_no_result(self):
        self.machine = machine.Machine(self)
        with self.machine.around():
            super(restarts.Restarts, self).start_text(PIPELINE % (stream.SCHEMA, stream.AGGREGATES),
                                                      args=restarts.OFTEN)
            feeders = [self.feeder(seed, 1 << 31, "batch", 16, "pause", 300, "wait", -1, "gate",
                                    "until-told") for seed in (1, 2)]
            silent = self.feeder(3, 3000, "gate", "wait", -1)
            self.attached(*feeders, silent)
        self.go(*feeders)  # none before all are there, or they would be late for the first
        self.until_it_goes_on()
        now = 0
        for hours in (1, -1, -1, 1, 24, -48):
            now += hours * HOUR
            self.machine.shift_clock(now)
            self.until_it_goes_on()
            self.kill_engine()
            self.until_it_goes_on()
        self.go(silent)
        self.ends(silent)
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders + [silent])
        self.assertEqual(len((self.dir / "late.csv").read_text().splitlines()), 1)

    def made(self, feeders):
        return [r for f in feeders for r in stream.events(f.seed, self.progress(f)[1])]


if __name__ == "__main__":
    harness.main()
