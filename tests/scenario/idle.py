"""A pipeline with nothing to do costs next to nothing. This measures: no sanitizer, please."""
import pathlib
import re
import time

import feeding
import harness

PRODUCERS = 16
SECONDS = 3.0
# With idle_after workers cannot just sleep: they look at the clock.
PIPELINE = """
version: 1
pipeline: p
schema: {event: {ts: time_ns, id: u64, key: u32, value: i32}}
runtime: {partitions: 2, workers: 2}
sources: {events: {schema: event, event_time: ts, partition_by: [key], idle_after: 1s}}
stages:
  sums: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}
sinks: {file: {from: sums, type: csv, path: windows.csv}}
"""


class Idle(feeding.Feeding):
    def cost(self):
        """CPU time so far, in ns, and how often a thread went to sleep."""
        ns = switches = 0
        for task in pathlib.Path(f"/proc/{self.pipeline.engine}/task").iterdir():
            ns += int((task / "schedstat").read_text().split()[0])
            status = (task / "status").read_text()
            switches += sum(int(n) for n in re.findall(r"ctxt_switches:\t(\d+)", status))
        return ns, switches

    def costs_little(self):
        """In a while; others on the machine may make one dear, and not all."""
        ns, switches = self.cost()
        since = time.monotonic()
        time.sleep(SECONDS)  # what is measured is time passing
        passed = time.monotonic() - since
        ns_after, switches_after = self.cost()
        share = (ns_after - ns) / (passed * 1e9)
        per_second = (switches_after - switches) / passed
        print(f"idle: {100 * share:.3f} % of a core, {per_second:.1f} context switches a second")
        return share < 0.01 and per_second < 60

    def test_idle_producers_cost_less_than_one_percent_of_a_core(self):
        self.start_text(PIPELINE)
        feeders = [self.feeder(seed, 1000, "hold") for seed in range(PRODUCERS)]
        self.attached(*feeders)
        for feeder in feeders:
            self.written(feeder)
        self.until_taken(PRODUCERS * 1000)
        harness.until("all threads to sleep", lambda: set(self.states()) == {"S"})
        self.assertGreater(self.cost()[0], 0)  # the kernel counts at all
        harness.until("a while that costs as little as it should", self.costs_little)
        for feeder in feeders:
            self.ends(feeder)
        self.until_free()
        self.pipeline.end()


if __name__ == "__main__":
    harness.main()
