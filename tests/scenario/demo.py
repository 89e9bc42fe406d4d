"""`ringmill demo`: what someone sees first has to work, and to end well however it is ended."""
import os
import pathlib
import re
import signal
import subprocess

import harness

CALM = ("--rate", "20000", "--producers", "2")  # a sanitizer's build on a busy machine keeps up


class Demo(harness.Scenario):
    def start(self, *args):
        """A demo that has begun to show rows."""
        demo = self.begun(*args)
        if demo.poll() is not None:
            raise AssertionError(f"no row came: {self.said} {demo.stderr.read()}")
        return demo

    def begun(self, *args):
        """A demo that has begun to show rows, or has ended before that."""
        demo = self.spawn(harness.RINGMILL, "demo", *args)
        self.said = []
        for line in demo.stdout:
            self.said.append(line)
            if " calls of " in line:
                return demo
        demo.wait(timeout=harness.PATIENCE)
        return demo

    def start_short(self):
        """One that lasts as long as it takes for rows to come, and not until it is told to end."""
        for seconds in (2, 8, 32, 128):
            demo = self.begun("--seconds", seconds, *CALM)
            if " calls of " in self.said[-1]:
                break
        return demo

    def processes(self):
        """All processes that belong to this scenario's run directory, but for zombies."""
        mine = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                environment = (entry / "environ").read_bytes()
                if f"RINGMILL_RUNDIR={self.rundir}".encode() in environment.split(b"\0"):
                    mine.append((entry / "comm").read_text().strip())
            except (OSError, NotADirectoryError):
                continue
        return mine

    def end(self, demo, want=0):
        out, err = harness.rest_of(demo)
        self.said.append(out)
        self.assertEqual(demo.returncode, want, "".join(self.said) + err)
        self.assertEqual(self.processes(), [])
        return "".join(self.said), err

    def assert_summed_up(self, out):
        self.assertRegex(out, r"\nrate +\d+ records/s: \d+ in [\d.]+ s, from 2 processes\n")
        self.assertRegex(out, r"\nlatency +(p50 [\d.]+ ms, p99 [\d.]+ ms, |no second closed)")
        written, counted, filtered = map(int, re.search(
            r"\nbalance +(\d+) written = (\d+) counted in rows \+ (\d+) filtered out\n",
            out).groups())
        self.assertEqual(written, counted + filtered)
        self.assertGreater(written, 0)

    def test_a_short_demo_shows_rows_and_sums_up_and_leaves_nothing(self):
        out, err = self.end(self.start_short())
        self.assert_summed_up(out)
        self.assertIn("every record left by one door", err)
        self.assertIn("p50", out)
        self.assertEqual(self.left_behind(), [])
        # what the engine counted is what the producers say they wrote
        written = re.search(r"\nbalance +(\d+) written", out).group(1)
        self.assertRegex(err, rf"source calls +{written} published; taken {written} ")

    def test_ctrl_c_ends_it_early_and_as_cleanly(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            demo = self.start("--seconds", "600", *CALM)
            demo.send_signal(number)
            out, _ = self.end(demo)
            self.assertIn("demo: interrupted\n", out)
            self.assert_summed_up(out)
            self.assertEqual(self.left_behind(), [])

    def test_when_it_is_killed_its_processes_end_by_themselves(self):
        demo = self.start("--seconds", "600", *CALM)
        demo.kill()
        harness.until("all processes to end", lambda: self.processes() == [])
        self.assertEqual(self.left_behind(), [])

    def test_an_engine_that_dies_ends_it_and_it_says_so(self):
        demo = self.start("--seconds", "600", *CALM)
        pid = next(int(word) for word in re.findall(r"process (\d+), socket", self.log(demo)))
        os.kill(pid, signal.SIGKILL)
        _, err = self.end(demo, want=1)
        self.assertIn("the engine", err)
        self.assertIn("was ended by signal 9", err)

    def test_a_demo_that_is_drained_from_another_terminal_sums_up(self):
        demo = self.start("--seconds", "600", *CALM)
        self.ringctl("drain", "llm")
        out, err = self.end(demo)
        self.assertIn("a process has ended before its time", out)
        self.assertIn("every record left by one door", err)
        written, counted, filtered, late = map(int, re.search(
            r"\nbalance +(\d+) written = (\d+) counted .* \+ (\d+) filtered out \+ (\d+) that came when",
            out).groups())
        self.assertEqual(written, counted + filtered + late)
        self.assertGreater(counted, 0)
        self.assertEqual(self.left_behind(), [])

    @staticmethod
    def log(demo):
        """What the engine said first: that it runs, and as which process."""
        return demo.stderr.readline()

    def test_a_pipeline_of_the_same_name_is_left_alone(self):
        text = (harness.SOURCE / "docs" / "examples" / "llm.yaml").read_text()
        running = self.run_pipeline(text, "llm")
        demo = self.spawn(harness.RINGMILL, "demo", *CALM)
        _, err = demo.communicate(timeout=harness.PATIENCE)
        self.assertEqual(demo.returncode, 1)
        self.assertIn(f"process {running.process.pid}", err)
        self.assertIsNone(running.process.poll())
        running.end()

    def test_options_that_make_no_sense_are_refused(self):
        for option, value in (("--seconds", "0"), ("--producers", "65"), ("--rate", "many")):
            err = self.ringmill("demo", option, value, want=2).stderr
            self.assertIn(f"{option} takes a number from 1 to", err)

    def test_producer_and_subscriber_can_be_run_by_hand(self):
        text = (harness.SOURCE / "docs" / "examples" / "llm.yaml").read_text()
        tools = harness.RINGMILL.parent
        running = self.run_pipeline(text, "llm")
        rows = self.spawn(tools / "ringmill-llm-rows", "llm/per_second")
        calls = self.spawn(tools / "ringmill-llm-calls", "llm/calls", "20000")
        self.assertRegex(rows.stdout.readline() + rows.stdout.readline(), r"\n\d\d:\d\d:\d\d .* calls of ")
        calls.send_signal(signal.SIGINT)
        self.assertEqual(calls.wait(timeout=harness.PATIENCE), 0)
        running.end()
        rows.communicate(timeout=harness.PATIENCE)
        self.assertEqual(rows.returncode, 0)
        for program in ("ringmill-llm-calls", "ringmill-llm-rows"):
            self.call(tools / program, want=2)
            done = subprocess.run([str(tools / program), "llm/nothing"], env=self.env,
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("llm", done.stderr)


if __name__ == "__main__":
    harness.main()
