"""Real processes, held to claims: what the scenarios share.

Each test has a folder of its own, with a run directory in it, so that tests can run side by side and
what a pipeline leaves behind can be seen. Nothing here sleeps and hopes: `until` looks again and
again for what must come, and gives up loudly.
"""
import contextlib
import csv
import fcntl
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ["RINGMILL_BUILD"])
RINGMILL = BUILD / "tools" / "ringmill"
RINGCTL = BUILD / "tools" / "ringctl"
FEEDER = BUILD / "tests" / "scenario" / "feeder"
WATCHER = BUILD / "tests" / "scenario" / "watcher"
LOOKER = BUILD / "tests" / "scenario" / "looker"
MEMBER = BUILD / "tests" / "scenario" / "member"
EXAMPLES = BUILD / "tests" / "scenario"
SOURCE = pathlib.Path(__file__).resolve().parents[2]
PIPE_BYTES = 1 << 20  # so much may be said before the end, when somebody reads it
PATIENCE = float(os.environ.get("RML_PATIENCE", "120"))  # seconds; a sanitizer's build on a busy machine is slow


def until(what, condition, seconds=PATIENCE, while_moves=None):
    """Look until `condition()` is true, and return what it gave.

    What takes much work is given its time: so many seconds since `while_moves()` last said something else.
    """
    end, last = time.monotonic() + seconds, None
    while True:
        seen = condition()
        if seen:
            return seen
        now = while_moves() if while_moves else None
        if now != last:
            end, last = time.monotonic() + seconds, now
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}, in vain" + (f": {now}" if while_moves else ""))
        time.sleep(0.005)


def until_more(what, count, least):
    """Look until `count()` is more than `least`, for as long as it gets there."""
    seen = []

    def is_more():
        seen[:] = [count()]
        return seen[0] > least

    until(f"more than {least} {what}", is_more, while_moves=lambda: tuple(seen))


def work_of(pid):
    """How much a process and its children have worked, in ticks of its processor time."""
    ticks = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in [pid, *children]:
            fields = pathlib.Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks


def end_of(child):
    """What a child still says until its end, which is waited for as long as it has work to do."""
    said = []

    def is_over():
        with contextlib.suppress(subprocess.TimeoutExpired):  # which loses nothing
            said.append(child.communicate(timeout=0.2))
        return said

    until(f"the end of {child.args}", is_over, while_moves=lambda: work_of(child.pid))
    return said[0]


def rest_of(child):
    """All that a child still says, of which lines were read before: communicate() loses what came along with them."""
    out, err = [pipe.read() for pipe in (child.stdout, child.stderr)]
    child.wait()
    return out, err


class Running:
    """A pipeline that runs, as a child process of the test."""

    def __init__(self, scenario, name, process):
        self.scenario, self.name, self.process = scenario, name, process

    @property
    def engine(self):
        """The process of the engine; `process` is its keeper, which outlives it."""
        return self.child("ringmill-engine")

    @property
    def waiting(self):
        """The process that waits for its turn to be the engine."""
        return self.child("ringmill-waits")

    def child(self, name):
        """The keeper's child of this name; 0 if there is none."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            # A sanitizer that looks for leaks as the keeper ends is a child, too.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if pathlib.Path(f"/proc/{child}/comm").read_text() == f"{name}\n":
                    return int(child)
        return 0

    def signal_engine(self, number=signal.SIGKILL):
        """Signal the engine that is there at this moment. Its process; 0 if there is none, or it was just ending."""
        engine = self.engine
        if engine != 0:
            try:
                os.kill(engine, number)
            except ProcessLookupError:
                return 0
        return engine

    def kill_engine(self, number=signal.SIGKILL):
        """Have the engine die, as soon as there is one, and wait until another is there. Which one died."""
        dead = until("an engine to kill", lambda: self.signal_engine(number))
        until("another engine", lambda: self.engine not in (0, dead))
        return dead

    def ctl(self, command, *args, want=0):
        return self.scenario.ringctl(command, self.name, *args, want=want)

    def look(self, command, *args, want=0):
        """What a look-command says, as Python values."""
        return json.loads(self.ctl(command, "--json", *args, want=want).stdout)

    def end(self, with_signal=signal.SIGTERM, want=0):
        """Ask it to drain, wait, and see that it left nothing behind. Returns what it said."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        out, err = end_of(self.process)
        self.scenario.assertEqual(self.process.returncode, want, err)
        self.scenario.assertEqual(self.scenario.left_behind(), [])
        return out, err


class Scenario(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="ringmill-scenario-"))
        self.rundir = self.dir / "run"
        # Who asks an engine that comes up, or on a busy machine, gives it time, but for those who say --timeout.
        self.env = dict(os.environ, RINGMILL_RUNDIR=str(self.rundir), RINGCTL_ANSWER=f"{PATIENCE / 2:.0f}s")
        self.shm_before = set(os.listdir("/dev/shm"))
        self.children = []
        self.addCleanup(self._clean)

    def _clean(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def left_behind(self):
        """Files in the run directory, and new ones of ours in /dev/shm."""
        files = [str(p) for p in self.rundir.rglob("*")] if self.rundir.exists() else []
        new = set(os.listdir("/dev/shm")) - self.shm_before
        return files + [n for n in new if "ringmill" in n]  # others of other tests lie there, too

    def write(self, name, text):
        path = self.dir / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def spawn(self, *argv, **more):
        child = subprocess.Popen([str(a) for a in argv], env=self.env, cwd=self.dir,
                                 stdout=more.pop("stdout", subprocess.PIPE),
                                 stderr=more.pop("stderr", subprocess.PIPE), text=True, **more)
        self.children.append(child)
        return child

    def call(self, *argv, want=0, input=None):
        done = subprocess.run([str(a) for a in argv], env=self.env, cwd=self.dir, input=input,
                              stdin=subprocess.DEVNULL if input is None else None,
                              capture_output=True, text=not isinstance(input, bytes),
                              timeout=5 * PATIENCE, check=False)
        self.assertEqual(done.returncode, want, f"{argv}\n{done.stdout}\n{done.stderr}")
        return done

    def ringmill(self, *args, want=0, input=None):
        return self.call(RINGMILL, *args, want=want, input=input)

    def ringctl(self, *args, want=0):
        return self.call(RINGCTL, *args, want=want)

    def run_pipeline(self, text, name="p", *args, **popen):
        """Start `ringmill run` and wait until it takes producers."""
        path = self.write(f"{name}.yaml", text)
        process = self.spawn(RINGMILL, "run", path, *args, **popen)
        if process.stderr is not None:
            with contextlib.suppress(PermissionError):  # more than this user may have
                fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        running = Running(self, name, process)

        def is_up():
            if process.poll() is not None:
                raise AssertionError(f"ringmill run ended: {process.communicate()}")
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                return (probe.connect_ex(str(self.rundir / name / "socket")) == 0
                        and running.engine != 0)  # not one that is just dying

        until(f"pipeline {name} to run", is_up)
        running.ctl("status")  # it listens from its first moment on, and answers once it is all there
        return running


def rows_of_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def rows_of_jsonl(text):
    return [json.loads(line) for line in text.splitlines()]


def main():
    """Run the claims of a file, or those named, as `test_<claim>`."""
    unittest.main(argv=sys.argv, verbosity=2)
