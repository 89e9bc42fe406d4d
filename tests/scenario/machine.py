"""A machine whose disks fail and whose clock is set, as a scenario wants it: the other half of faulty.c."""
import contextlib
import mmap
import re
import struct
import subprocess

import harness

FAULTY = harness.BUILD / "tests" / "scenario" / "libfaulty.so"
HEAD, FAULT, FAULTS = struct.Struct("=qiI"), struct.Struct("=32sIiIIQQQQQQ"), 8
WRITE, FLUSH, CUT, SEND = 1, 2, 3, 4
NOT, NOT_SURE, SHORT = 0, 1, 2
ALWAYS = 1 << 60
MET_AT = FAULT.size - 24


def preloaded():
    """A sanitizer's library wants to be the first."""
    linked = subprocess.run(["ldd", harness.RINGMILL], capture_output=True, text=True, check=True).stdout
    return ":".join(re.findall(r"(/\S*lib[at]san\S*) ", linked) + [str(FAULTY)])


class Machine:
    """For the processes that are started in `around`, and theirs."""

    def __init__(self, scenario, ring_error=0):
        self.scenario = scenario
        path = scenario.write("machine", bytes(HEAD.size + FAULTS * FAULT.size))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        scenario.addCleanup(self.memory.close)
        HEAD.pack_into(self.memory, 0, 0, ring_error, 0)
        self.env = {"RML_TEST_MACHINE": str(path), "LD_PRELOAD": preloaded()}

    @contextlib.contextmanager
    def around(self):
        before = self.scenario.env
        self.scenario.env = dict(before, **self.env)
        yield
        self.scenario.env = before

    def shift_clock(self, seconds):
        struct.pack_into("=q", self.memory, 0, seconds * 10**9)

    def _at(self, number):
        return HEAD.size + number * FAULT.size

    def fail(self, name, call, error, how=NOT, after=0, times=1, bytes=0, number=0):
        """Calls of this sort on files of that name fail."""
        self.mend(number)
        at = self._at(number)
        FAULT.pack_into(self.memory, at, name.encode(), how, error, 0, bytes, after, times, 0, 0, 0, 0)
        struct.pack_into("=I", self.memory, at + 40, call)

    def mend(self, number=0):
        struct.pack_into("=I", self.memory, self._at(number) + 40, 0)

    def met(self, number=0):
        return struct.unpack_from("=Q", self.memory, self._at(number) + MET_AT)[0]

    def where(self, number=0):
        """The write through a ring that was met last: its place in the file, and its length."""
        return struct.unpack_from("=QQ", self.memory, self._at(number) + MET_AT + 8)

    def until_met(self, count=1, number=0):
        harness.until(f"fault {number} to be met {count} times", lambda: self.met(number) >= count)
