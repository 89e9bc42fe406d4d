"""A schedule has room for so many steps between two checkpoints: one is taken before it fills, and where none may be
taken yet its partition waits, which is said and counted; nothing is lost."""
import os

import exactly_once
import feeding
import harness
import restarts

STEPS = 1 << 17  # of one partition
HALVES = int(os.environ.get("RML_SCHEDULES", "2"))  # checkpoints that are waited for, each for half of a schedule
RUNTIME = ", partitions: 1, workers: 1, state: ./state, checkpoint: {every: 1h, min_pause: %s}"
# Records of the same partition that are in nobody's way.
OTHERS = {
    "sources": "others: {schema: event, event_time: ts, partition_by: [key], cells: 8192}",
    "stages": "rest: {from: others, filter: true}",
    "sinks": "rest: {from: rest, type: csv, path: rest.csv}",
}


class FullSchedules(exactly_once.Saving):
    def start_with(self, min_pause):
        text = feeding.PIPELINE % {"schema": feeding.stream.SCHEMA, "aggregates": feeding.stream.AGGREGATES,
                                   "runtime": "", "source": f", cells: {2 * STEPS}", "records": "records.csv"}
        text = text.replace("partitions: 3, workers: 2", (RUNTIME % min_pause)[2:])
        for part, more in OTHERS.items():
            text = text.replace(f"{part}:\n", f"{part}:\n  {more}\n")
        with open(self.dir / "said", "w") as said:
            super(restarts.Restarts, self).start_text(text, args=restarts.OFTEN, stderr=said)

    def step_by_step(self):
        """A producer whose steps are of one record each, so that a schedule is full before its lane is."""
        feeder = self.feeder(1, 1 << 31, "keys", 1, "batch", 1, "one-by-one", "until-told")
        self.attached(feeder)
        return feeder

    def stuck(self):
        """How much was taken when the one checkpoint that may be is durable, and records of others wait."""
        saves = self.saves()
        if saves["durable"] == 0 or saves["schedules_full"] == 0:
            return None
        taken = self.taken()
        other = self.spawn(harness.FEEDER, "p/others", self.hash, 2, 5000, "keys", 1)
        self.assertEqual(other.wait(timeout=harness.PATIENCE), 0)
        return taken if self.taken() == taken else None

    def saves(self):
        return self.pipeline.look("status")["checkpoints"]

    def made(self, feeders):
        return [r for f in feeders for r in feeding.stream.events(f.seed, self.progress(f)[1], 1)]

    def taken(self):
        return sum(source["taken"] for source in self.pipeline.look("status")["sources"])

    def words(self):
        return (self.dir / "said").read_text()

    def test_a_checkpoint_is_taken_before_one_is_full_and_nobody_waits(self):
        self.start_with("1ms")
        feeder = self.step_by_step()
        harness.until("a checkpoint for a schedule", lambda: self.saves()["wanted"]["schedule"] >= HALVES,
                      while_moves=self.taken)
        self.assertEqual(self.saves()["schedules_full"], 0)
        self.assertEqual(self.saves()["lanes_full"], 0)
        self.ends(feeder)
        self.pipeline.end()
        self.check_all([feeder])

    def test_where_none_may_be_taken_the_partition_waits_and_goes_on_with_the_next(self):
        self.start_with("1h")
        feeder = self.step_by_step()
        taken = harness.until("the schedule to be full", self.stuck, while_moves=self.taken)
        self.ends(feeder)
        self.assertIn("a schedule is full of steps that no checkpoint covers yet: its partition waits", self.words())
        self.assertRegex(self.pipeline.ctl("status").stdout, r"[1-9]\d* times a schedule")
        times = self.saves()["schedules_full"]
        self.kill_engine()
        # it finds the schedule full, too, unless a checkpoint comes first: an engine's first one waits for nothing
        harness.until("the next one to wait or go on",
                      lambda: self.saves()["schedules_full"] > times or self.taken() > taken)
        self.ringctl("checkpoint", "now", "p")
        harness.until("it to go on", lambda: self.taken() > taken)
        drained = self.spawn(harness.RINGCTL, "drain", "p")
        self.pipeline.process.wait(timeout=harness.PATIENCE)
        self.assertEqual(drained.wait(timeout=harness.PATIENCE), 0)
        self.check_all([feeder])


if __name__ == "__main__":
    harness.main()
