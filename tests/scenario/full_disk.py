"""Disks that are really full under an engine with a state: it says so, waits, and goes on when there is room again."""
import ctypes
import errno
import os
import resource
import subprocess
import sys

import exactly_once
import faults
import feeding
import hardships
import harness
import machine
import restarts

MIB = 1 << 20


def mount(kind, where, options):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(kind.encode(), str(where).encode(), kind.encode(), 0, options.encode()) < 0:
        raise OSError(ctypes.get_errno(), f"mounting a {kind}")


class Full(faults.Faulty):
    def start_here(self, **more):
        self.said = open(self.dir / "said", "w+")
        self.addCleanup(self.said.close)
        super(restarts.Restarts, self).start(runtime=exactly_once.RUNTIME, args=restarts.OFTEN, stderr=self.said,
                                             source=", cells: 512", **more)

    def size(self, name):
        return (self.dir / name).stat().st_size

    def until_stuck(self, *feeders):
        """Wait until nothing is published any more: lanes are full."""
        def published():
            return [self.progress(f)[1] for f in feeders]

        def all_wait():
            before = published()
            return all(self.waits_in(f.pid, (feeding.SYS_PPOLL,)) for f in feeders) and published() == before

        harness.until("all feeders to wait for room", all_wait)


class Limited(Full):
    def test_where_no_file_may_grow_producers_wait_and_every_row_comes_once(self):
        self.start_here()
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 200)
        for turn in range(3):
            before = self.said_bytes()
            engine = self.pipeline.engine
            unlimited = resource.prlimit(engine, resource.RLIMIT_FSIZE)
            harness.until("more records than words", lambda: self.size("records.csv") > self.size("said") + 9000)
            most = self.size("records.csv") + 1000  # it comes to that before lanes are full
            resource.prlimit(engine, resource.RLIMIT_FSIZE, (most, unlimited[1]))
            self.until_said(f"records.csv: {os.strerror(errno.EFBIG)}; {faults.WAITS}", before)
            self.until_stuck(*feeders)
            if turn == 1:
                self.kill_engine()  # the next one inherits no such limit
            else:
                resource.prlimit(engine, resource.RLIMIT_FSIZE, unlimited)
            self.until_saved()
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)


class ComingUp(Full):
    COUNT = 400_000  # rows of so many records are some times as much as all blocks of both workers hold

    def test_an_engine_that_comes_up_without_room_is_said_to_be_restarting_and_what_it_waits_for(self):
        self.start_on(runtime=hardships.NEVER, source=f", cells: {1 << 19}")
        feeder = self.feeder(2, self.COUNT, "keys", 8, "batch", 300)
        self.attached(feeder)
        self.ends(feeder)
        self.until_taken(self.COUNT)  # and all of it is taken again
        self.machine.fail("records.csv", machine.WRITE, errno.ENOSPC, times=machine.ALWAYS)
        before = self.said_bytes()
        os.kill(self.pipeline.engine, harness.signal.SIGKILL)
        self.until_said(f"records.csv: {os.strerror(errno.ENOSPC)}; {faults.WAITS}", before)
        for words in ("status", "lanes", "balance"):
            said = self.ringctl(words, "p", "--timeout", "100ms", want=5).stderr
            self.assertIn("pipeline p is restarting: its engine died", said)
            self.assertIn(f"the new one says: sink records: records.csv: {os.strerror(errno.ENOSPC)}; {faults.WAITS}", said)
        self.machine.mend()
        self.until_taken(self.COUNT)
        self.pipeline.end()
        self.check_all([feeder])


class Mounted(Full):
    def setUp(self):
        super().setUp()
        if not IS_OWN_NAMESPACE:
            self.skipTest("mounting is not permitted here (unshare -m, or -Urm)")
        self.disk = self.dir / "disk"
        self.disk.mkdir()
        mount("tmpfs", self.disk, f"size={96 * MIB}")
        self.addCleanup(subprocess.run, ["umount", "-l", self.disk], check=False)
        self.text_dir, self.dir = self.dir, self.disk  # state, sinks and progress lie there
        self.addCleanup(setattr, self, "dir", self.text_dir)

    def fill(self):
        """Take all the room that there is."""
        with open(self.dir / "filler", "wb", buffering=0) as filler:
            try:
                for size in (MIB, 4096, 1):
                    while True:
                        filler.write(bytes(size))
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)

    def test_on_a_full_disk_everything_waits_and_goes_on_when_there_is_room(self):
        self.start_here()
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 200)
        for _ in range(3):
            before = self.said_bytes()
            self.fill()
            self.until_said(f"{os.strerror(errno.ENOSPC)}; {faults.WAITS}", before)
            self.until_stuck(*feeders)
            (self.dir / "filler").unlink()
            self.until_said("results go on", before)
            self.until_saved()
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    def test_a_state_that_finds_no_room_to_begin_with_is_refused_with_a_sentence(self):
        self.fill()
        os.truncate(self.dir / "filler", os.stat(self.dir / "filler").st_size - 20 * MIB)
        text = (exactly_once.WINDOWS % (exactly_once.stream.SCHEMA, exactly_once.RUNTIME))
        said = self.ringmill("run", self.write("p.yaml", text), want=1).stderr
        self.assertIn("No space left on device", said)
        self.assertIn("extents", said)
        self.assertEqual(self.left_behind(), [])
        (self.dir / "filler").unlink()
        self.start_here()  # what was half made is no hindrance
        feeders = self.feeders(1)
        self.until_published(feeders, 200)
        self.until_saved()
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)


IS_OWN_NAMESPACE = os.environ.get("RML_OWN_NAMESPACE") == "1"


def main():
    """In a mount namespace of its own, where that is permitted: then nothing that is mounted is left."""
    if not IS_OWN_NAMESPACE:
        for how in (["-m"] if os.geteuid() == 0 else [], ["-Urm"]):
            if how and subprocess.run(["unshare", *how, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                os.environ["RML_OWN_NAMESPACE"] = "1"
                os.execvp("unshare", ["unshare", *how, sys.executable, *sys.argv])
    harness.main()


if __name__ == "__main__":
    main()
