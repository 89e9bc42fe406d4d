"""Standard input, output and error of the programs: closed, full, or given to somebody who goes."""
import os
import signal
import subprocess

import harness
import stream

PIPELINE = f"""
version: 1
pipeline: p
schema: {{event: {stream.SCHEMA}}}
runtime: {{partitions: 1, workers: 1, state: ./state}}
sources: {{events: {{schema: event, event_time: ts, partition_by: [key]}}}}
stages:
  counts: {{from: events, key: key, window: {{type: tumbling, size: 1s}}, aggregate: {{n: count()}}}}
sinks:
  live: {{from: counts, type: ring}}
  kept: {{from: counts, type: lmdb}}
"""
LOOKS = [
    ("ls",), ("ls", "--json"), ("status",), ("status", "--json"), ("stat", "--every", "10ms"),
    ("stat", "--every", "10ms", "--json"), ("lanes",), ("lanes", "--json"), ("balance",),
    ("balance", "--json"), ("tap", "counts", "--csv"), ("results",), ("results", "--json"),
    ("results", "p", "counts", "--format", "csv"), ("checkpoint", "list"), ("checkpoint", "show"),
    ("checkpoint", "verify"), ("checkpoint", "now"), ("doctor",), ("doctor", "p", "--json"),
    ("clean",), ("--help",), ("--version",), ("stat", "--help"),
]
FILES = [
    ("check", "p.yaml"), ("check", "p.yaml", "--json"), ("explain", "p.yaml"),
    ("explain", "p.yaml", "--json"), ("explain", "--keys"), ("gen", "header", "p.yaml"), ("--help",),
    ("--version",), ("run", "--help"),
]
TESTED = PIPELINE.replace("runtime:", "# runtime:").replace("  kept:", "  # kept:") + """
tests:
  - name: none
    feed: {events: []}
    expect: {counts: []}
"""


class Standard(harness.Scenario):
    def started(self, program, args, closed=(), **streams):
        """Run a command with some of its descriptors closed; its exit code and what it said."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                   "stderr": subprocess.PIPE} | streams

        def close():
            for descriptor in closed:
                os.close(descriptor)

        ran = subprocess.run([program, *args], cwd=self.dir, env=self.env, text=True,
                             timeout=harness.PATIENCE, preexec_fn=close, **streams)
        return ran.returncode, ran.stderr

    def check_all(self, program, commands):
        for args in commands:
            with self.subTest(args=args, output="full"), open("/dev/full", "w") as full:
                code, said = self.started(program, args, stdout=full)
                self.assertEqual(code, 1, said)
                self.assertIn("standard output cannot be written: No space left on device", said)
            with self.subTest(args=args, output="closed"):
                code, said = self.started(program, args, closed=[1])
                self.assertEqual(code, 1, said)
                self.assertIn("standard output cannot be written: Bad file descriptor", said)

    def test_looking_at_what_runs_fails_where_the_answer_cannot_be_written(self):
        running = self.run_pipeline(PIPELINE)
        self.check_all(harness.RINGCTL, LOOKS)
        with open("/dev/full", "w") as full:  # it has ended all the same
            code, said = self.started(harness.RINGCTL, ["drain"], stdout=full)
        self.assertEqual(code, 1)
        self.assertIn("cannot be written", said)
        running.process.wait(harness.PATIENCE)
        self.assertEqual(running.process.returncode, 0)

    def test_looking_at_files_fails_where_the_answer_cannot_be_written(self):
        self.write("p.yaml", PIPELINE)
        self.check_all(harness.RINGMILL, FILES)
        self.write("p.yaml", TESTED)
        self.check_all(harness.RINGMILL, [("test", "p.yaml")])

    def test_who_closes_the_pipe_is_obeyed_in_silence(self):
        self.write("p.yaml", PIPELINE)
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as gone:
            code, said = self.started(harness.RINGMILL, ["explain", "p.yaml"], stdout=gone,
                                      restore_signals=True)
        self.assertEqual((code, said), (-signal.SIGPIPE, ""))

    def test_nothing_of_an_engine_takes_the_place_of_what_was_closed(self):
        """Else its sentences would go into the files and sockets that it opens first."""
        self.write("p.yaml", PIPELINE)
        process = self.spawn(harness.RINGMILL, "run", self.dir / "p.yaml",
                             preexec_fn=lambda: [os.close(d) for d in (0, 1, 2)])
        running = harness.Running(self, "p", process)
        harness.until("the pipeline to run", lambda: b"running" in subprocess.run(
            [harness.RINGCTL, "status"], env=self.env, capture_output=True).stdout)
        for pid in (process.pid, running.engine):
            self.assertEqual([os.readlink(f"/proc/{pid}/fd/{d}") for d in (0, 1, 2)],
                             ["/dev/null"] * 3)
        self.ringctl("checkpoint", "now")
        self.ringctl("checkpoint", "verify")
        running.end()


harness.main()
