"""Scenarios in which feeders write into a pipeline that runs, and what came of it is counted."""
import os
import pathlib
import re
import signal
import struct
import subprocess

import harness
import stream

# Every record by itself, and all of them in windows. Nothing is ever late or idle, in whatever order
# feeders come.
PIPELINE = """
version: 1
pipeline: p
schema: {event: %(schema)s}
runtime: {partitions: 3, workers: 2%(runtime)s}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 1h, idle_after: 1h%(source)s}
stages:
  all: {from: events, filter: true}
  sums: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: %(aggregates)s}
sinks:
  records: {from: all, type: csv, path: %(records)s}
  windows: {from: sums, type: csv, path: windows.csv}
"""


class Feeding(harness.Scenario):
    def start(self, runtime="", source="", records="records.csv", **more):
        text = PIPELINE % {"schema": stream.SCHEMA, "aggregates": stream.AGGREGATES,
                           "runtime": runtime, "source": source, "records": records}
        return self.start_text(text, **more)

    def start_text(self, text, args=(), **more):
        self.pipeline = self.run_pipeline(text, "p", *args, **more)
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        self.hash = re.search(r"EVENT_SCHEMA_HASH UINT64_C\((\w+)\)", header)[1]
        # It waits once it has dealt with everybody who came to look whether it is there.
        harness.until("the engine to wait", lambda: self.waits_in(self.pipeline.engine, SYS_EPOLL))
        self.fds_at_start = self.fds()
        return self.pipeline

    def states(self):
        """The states of the engine's threads, its first one first."""
        tasks = pathlib.Path(f"/proc/{self.pipeline.engine}/task")
        return [(task / "stat").read_text().rpartition(")")[2].split()[0]
                for task in sorted(tasks.iterdir(), key=lambda task: int(task.name))]

    def feeder(self, seed, count, *more, hash=None, program=harness.FEEDER, **popen):
        """A feeder that leaves a word on how far it came in a file of its own."""
        path = self.dir / f"progress-{seed}"
        path.unlink(missing_ok=True)  # of a former one
        feeder = self.spawn(program, "p/events", hash or self.hash, seed, count, "progress", path, *more,
                            stdin=subprocess.PIPE, **popen)
        feeder.seed = seed
        return feeder

    def attached(self, *feeders):
        for feeder in feeders:
            self.assertEqual(feeder.stdout.readline(), "attached\n")

    def go(self, *feeders):
        """Open the gates of feeders."""
        for feeder in feeders:
            feeder.stdin.write("\n")
            feeder.stdin.flush()

    def written(self, feeder):
        """Wait for its end of feeding: how many records it wrote, and how many it dropped."""
        line = feeder.stdout.readline()
        found = re.fullmatch(r"written (\d+) dropped (\d+)\n", line)
        self.assertIsNotNone(found, (line, feeder.poll()))
        return tuple(int(n) for n in found.groups())

    def progress(self, feeder):
        """How many records it has begun to write, and how many of them are published for certain."""
        path = self.dir / f"progress-{feeder.seed}"
        data = path.read_bytes() if path.exists() else b""
        return struct.unpack("=QQ", data) if len(data) == 16 else (0, 0)

    def ends(self, feeder, want=0):
        """Let a feeder that holds go, and wait for it. What it said as it ended."""
        _, err = feeder.communicate("", timeout=harness.PATIENCE)
        self.assertEqual(feeder.returncode, want, err)
        return err

    def fds(self):
        return len(os.listdir(f"/proc/{self.pipeline.engine}/fd"))

    def until_free(self):
        """Wait until the engine is as it was before anybody came."""
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        harness.until("all descriptors to be closed", lambda: self.fds() == self.fds_at_start)

    def until_taken(self, count):
        seen = {}

        def taken():
            source, = self.pipeline.look("status")["sources"]
            seen.update(source)
            return source["taken"] == count == source["published"]

        harness.until(f"{count} records to be taken", taken,
                      while_moves=lambda: (seen["published"], seen["taken"]))

    def stand_still(self):
        """Stop the engine, all threads of it, until go_on."""
        self.stopped = self.pipeline.engine
        os.kill(self.stopped, signal.SIGSTOP)
        self.addCleanup(self.go_on)
        harness.until("all threads to stand still", lambda: set(self.states()) == {"T"})

    def go_on(self):
        if self.pipeline.process.poll() is None:
            os.kill(self.stopped, signal.SIGCONT)

    def until_asleep(self, feeder):
        """Wait until the feeder waits for the engine, which stands still: for an answer, or for room."""
        harness.until("the feeder to wait for the engine",
                      lambda: self.waits_in(feeder.pid, (SYS_PPOLL,)))

    def waits_in(self, pid, calls):
        """Does the process's first thread sleep in one of these system calls?"""
        return pathlib.Path(f"/proc/{pid}/syscall").read_text().split()[0] in calls

    def records(self, path="records.csv"):
        """The records that came through, in the order of their ids."""
        rows = harness.rows_of_csv((self.dir / path).read_text())
        return sorted(({n: int(v) for n, v in r.items()} for r in rows), key=lambda r: r["id"])

    def check_windows(self, records):
        """The windows are what the oracle makes of the records."""
        wanted, _ = stream.windows(records, size=10**9, every=10**9, out_of_order=float("inf"))
        rows = harness.rows_of_csv((self.dir / "windows.csv").read_text())
        self.assertEqual(stream.ordered([stream.typed(r) for r in rows]), stream.ordered(wanted))


# Numbers of system calls, as /proc shows where a thread sleeps.
SYS_WRITE, SYS_PPOLL, SYS_EPOLL = {
    "x86_64": ("1", "271", ("232", "281")),
    "aarch64": ("64", "73", ("22",)),
}[os.uname().machine]
