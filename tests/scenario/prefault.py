"""Memory of state that is there before the first record: how much, when, and what is said where there is not so much."""
import pathlib
import re

import harness

MIB = 1 << 20
PIPELINE = """
version: 1
pipeline: p
schema: {event: {ts: time_ns, key: u64}}
runtime: {partitions: 2, workers: 2%s}
sources: {events: {schema: event, event_time: ts}}
stages: {sums: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}}
sinks: {file: {from: sums, type: csv, path: out.csv}}
"""
KEPT = ", state: ./state, checkpoint: {every: 10ms}"


class Prefault(harness.Scenario):
    def start(self, runtime):
        self.pipeline = self.run_pipeline(PIPELINE % runtime)

    def state_in_memory(self):
        """Bytes of the engine's state: it is what no core has in it, without a name."""
        bytes_there, name, resident = 0, None, 0
        try:
            lines = pathlib.Path(f"/proc/{self.pipeline.engine}/smaps").read_text().splitlines()
        except FileNotFoundError:
            return 0  # it is just dying
        for line in lines:
            if head := re.match(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$", line):
                name = head[1]
            elif line.startswith("Rss:"):
                resident = int(line.split()[1]) * 1024
            elif line.startswith("VmFlags:") and name == "" and "dd" in line.split()[1:]:
                bytes_there += resident
        return bytes_there

    def test_without_it_hardly_any_is_there(self):
        self.start("")
        self.assertLess(self.state_in_memory(), 24 * MIB)
        self.pipeline.end()

    def test_each_partition_has_it_once_the_pipeline_runs(self):
        self.start(", state_prefault: 48MiB")
        self.assertGreaterEqual(self.state_in_memory(), 2 * 48 * MIB)
        self.pipeline.end()

    def test_whoever_goes_on_has_it_soon_after(self):
        self.start(KEPT + ", state_prefault: 48MiB")
        self.assertGreaterEqual(self.state_in_memory(), 2 * 48 * MIB)
        self.pipeline.kill_engine()
        harness.until("it to have its memory", lambda: self.state_in_memory() >= 2 * 48 * MIB)
        self.pipeline.end()
        self.start(KEPT + ", state_prefault: 48MiB")  # from a checkpoint
        harness.until("it to have its memory", lambda: self.state_in_memory() >= 2 * 48 * MIB)
        self.pipeline.end()

    def test_more_than_the_machine_has_is_refused_and_the_doctor_knows(self):
        path = self.write("p.yaml", PIPELINE % ", state_limit: 1TiB, state_prefault: 1TiB")
        wanted = "runtime.state_prefault: 2 partitions with 1.0 TiB each are more than the "
        self.assertIn(wanted, self.ringmill("run", "--restarts", "0", path, want=1).stderr)
        doctor = self.ringctl("doctor", path).stdout
        self.assertRegex(doctor, r"state_prefault +2 partitions with 1.0 TiB each; [\d.]+ .iB available")


if __name__ == "__main__":
    harness.main()
