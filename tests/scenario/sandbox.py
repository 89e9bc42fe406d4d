"""What a pipeline's processes cannot do any more once they run, and what of it nobody gets to see."""
import pathlib
import re
import subprocess

import harness
import plugins
import stream

# Its result is the errno of the last call that no aggregate has any business to make.
REACHING = plugins.COUNTER.replace("#include <string.h>", """
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
""").replace("        ((struct state *)block->states[i])->count++;", """
    {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        ((struct state *)block->states[i])->count = fd < 0 ? (uint64_t)errno : 0;
        if (fd >= 0)
            close(fd);
    }
""").replace("->count += ((const", "->count = ((const")

PIPELINE = """
version: 1
pipeline: p
schema: {event: %(schema)s}
plugins: ./reaching.so
runtime: {partitions: 2, workers: 2%(runtime)s}
sources: {events: {schema: event, event_time: ts}}
stages:
  all:
    from: events
    key: key
    window: {type: tumbling, size: 1s}
    aggregate: {n: count(), reached: counter(value)}
sinks: {file: {from: all, type: csv, path: all.csv}, live: {from: all, type: ring}}
"""
EPERM = 1


class Sandbox(harness.Scenario):
    build, own = plugins.Plugins.build, plugins.Plugins.own

    def start(self, runtime=""):
        self.build("reaching", REACHING)
        self.pipeline = self.run_pipeline(PIPELINE % {"schema": stream.SCHEMA, "runtime": runtime})
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        self.hash = re.search(r"EVENT_SCHEMA_HASH UINT64_C\((\w+)\)", header)[1]

    def feed(self, count, *more):
        self.call(harness.FEEDER, "p/events", self.hash, 3, count, *more)

    def processes(self):
        return self.pipeline.process.pid, self.pipeline.engine

    def says(self, pid, word):
        return int(re.search(rf"^{word}:\s+(\d+)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1])

    def reached(self):
        self.feed(1000)
        self.pipeline.end()
        return {int(row["reached"]) for row in harness.rows_of_csv((self.dir / "all.csv").read_text())}

    def test_what_a_pipeline_never_needs_it_cannot_do_and_says_so_nowhere(self):
        self.start()
        for pid in self.processes():
            self.assertEqual((self.says(pid, "NoNewPrivs"), self.says(pid, "Seccomp")), (1, 2))
        self.assertEqual(self.reached(), {EPERM})

    def test_the_next_engine_is_in_it_too(self):
        self.start(", sandbox: on")
        dead = self.pipeline.engine
        subprocess.run(["kill", "-9", str(dead)], check=True)
        harness.until("another engine", lambda: self.pipeline.engine not in (0, dead))
        self.pipeline.ctl("status")
        for pid in self.processes():
            self.assertEqual((self.says(pid, "NoNewPrivs"), self.says(pid, "Seccomp")), (1, 2))
        self.assertEqual(self.reached(), {EPERM})

    def test_a_file_can_do_without(self):
        self.start(", sandbox: off")
        ours = {word: self.says("self", word) for word in ("NoNewPrivs", "Seccomp")}
        for pid in self.processes():
            for word, value in ours.items():
                self.assertEqual(self.says(pid, word), value)
        self.assertEqual(self.reached(), {0})

    def mappings(self, pid):
        """Of a process: (from, to, name, flags of the kernel's)."""
        found = []
        for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if head := re.match(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ *(.*)$", line):
                found.append([int(head[1], 16), int(head[2], 16), head[3], []])
            elif line.startswith("VmFlags:"):
                found[-1][3] = line.split()[1:]
        return found

    def test_records_state_and_results_are_in_no_core(self):
        self.start(", state_limit: 64MiB, state: ./state, checkpoint: {every: 20ms}")
        self.feed(5000)
        dead = self.pipeline.engine
        subprocess.run(["kill", "-9", str(dead)], check=True)  # another has the mappings from the keeper
        harness.until("another engine", lambda: self.pipeline.engine not in (0, dead))
        self.pipeline.ctl("status")
        feeder = self.spawn(harness.FEEDER, "p/events", self.hash, 4, 5000, "hold", stdin=subprocess.PIPE)
        self.assertEqual(feeder.stdout.readline(), "attached\n")
        for pid in self.processes():
            shared = [m for m in self.mappings(pid) if "memfd:ringmill" in m[2]]
            self.assertGreater(len(shared), 2)
            self.assertEqual([m for m in shared if "dd" not in m[3]], [])
        # the state of two partitions is the only thing of that size; how it is cut is the kernel's affair
        state = sum(m[1] - m[0] for m in self.mappings(self.pipeline.engine) if m[2] == "" and "dd" in m[3])
        self.assertGreaterEqual(state, 2 * (64 << 20))
        feeder.communicate("", timeout=harness.PATIENCE)
        self.pipeline.end()

    def test_no_address_of_the_engine_lies_where_others_can_read(self):
        self.start()
        feeder = self.spawn(harness.FEEDER, "p/events", self.hash, 4, 5000, "hold", stdin=subprocess.PIPE)
        self.assertEqual(feeder.stdout.readline(), "attached\n")
        harness.until("rows to be made", lambda: self.pipeline.look("status")["stages"][0]["rows_out"] > 0)
        pid = self.pipeline.engine
        # times and counts are no addresses, though one may look like one: what is reserved is not looked for
        own = [(m[0], m[1]) for m in self.mappings(pid) if m[1] - m[0] < 1 << 30]
        looked_at = 0
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for begin, end, name, _ in self.mappings(pid):
                if "memfd:ringmill" not in name:
                    continue
                memory.seek(begin)
                words = memoryview(memory.read(end - begin)).cast("Q")
                looked_at += len(words)
                addresses = [w for w in words if w > 1 << 32 and any(b <= w < e for b, e in own)]
                self.assertEqual(addresses, [], name)
        self.assertGreater(looked_at, 10_000)
        feeder.communicate("", timeout=harness.PATIENCE)
        self.pipeline.end()


if __name__ == "__main__":
    harness.main()
