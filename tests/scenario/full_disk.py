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
LACKS = f"sink records: records.csv: {os.strerror(errno.ENOSPC)}; "


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
        self.kill_until_the_next_waits()
        for words in ("status", "lanes", "balance"):
            said = self.ringctl(words, "p", "--timeout", "100ms", want=5).stderr
            self.assertIn("pipeline p is restarting: its engine died", said)
            self.assertIn(f"it says: {LACKS}{faults.WAITS}", said)
        self.machine.mend()
        self.until_taken(self.COUNT)
        self.pipeline.end()
        self.check_all([feeder])

    def come_up_without_room(self, covered=True, journal=""):
        """An engine that takes again what another took, and finds no room; whose records a checkpoint covers."""
        self.start_on(runtime=hardships.NEVER, source=f", cells: {1 << 19}{journal}")
        saved = [self.fed(1, 1000)] if covered else []
        if covered:
            self.ringctl("checkpoint", "now", "p")
        self.unsaved = self.fed(2, self.COUNT)
        self.machine.fail("records.csv", machine.WRITE, errno.ENOSPC, times=machine.ALWAYS)
        self.kill_until_the_next_waits()
        return saved

    def kill_until_the_next_waits(self):
        before = self.said_bytes()
        self.assertTrue(self.pipeline.signal_engine())
        # the one that dies may have said the same, before its keeper says that it has died
        harness.until("the next engine to wait for room", lambda: LACKS + faults.WAITS in
                      self.said_since(before).partition("has died: SIGKILL")[2])

    def fed(self, seed, count):
        taken = self.source()["taken"]
        feeder = self.feeder(seed, count, "keys", exactly_once.KEYS[seed], "batch", 300)
        self.attached(feeder)
        self.ends(feeder)
        self.until_taken(taken + count)
        return feeder

    def ended(self, before):
        """It has ended as one that could not save does, and left nothing; what it said."""
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 1)
        self.assertEqual(self.left_behind(), [])
        said = self.said_since(before)
        self.assertIn(LACKS + "rows are lost from here on", said)
        return said

    def check_goes_on(self, saved):
        """The next run has what the checkpoint covers, and what it is given itself; each row once."""
        self.machine.mend()
        self.start_on(runtime=hardships.NEVER)
        third = self.fed(3, 1000)
        self.pipeline.end()
        self.check_all(saved + [third])

    def test_a_stop_ends_an_engine_that_comes_up_without_room_and_the_next_run_goes_on_from_the_checkpoint(self):
        saved = self.come_up_without_room()
        before = self.said_bytes()
        stop, first = self.end_by("stop")
        err, out = stop.stderr.read(), stop.stdout.read()  # communicate would not know what came with the first line
        self.assertEqual(stop.wait(timeout=harness.PATIENCE), 1, err)
        self.assertIn("pipeline p stopped", out)
        self.assertIn("what was taken since checkpoint 1 is in none; the next run goes on from there", first + err)
        self.assertIn(f"the last that failed: sink records: records.csv lacks rows: {os.strerror(errno.ENOSPC)}", err)
        said = self.ended(before)
        self.assertIn("stopping: asked to", said)
        self.assertIn("what was taken since checkpoint 1 is in none", said)
        self.check_goes_on(saved)

    def test_one_signal_ends_an_engine_that_comes_up_without_room(self):
        saved = self.come_up_without_room()
        before = self.said_bytes()
        self.pipeline.process.send_signal(harness.signal.SIGTERM)
        self.assertIn("stopping: signalled as it comes up", self.ended(before))
        self.check_goes_on(saved)

    def test_one_signal_that_an_engine_died_over_ends_the_next_one_that_comes_up_without_room(self):
        saved = self.come_up_without_room()
        stopped = os.pidfd_open(self.pipeline.engine)
        self.addCleanup(os.close, stopped)
        harness.signal.pidfd_send_signal(stopped, harness.signal.SIGSTOP)
        self.pipeline.process.send_signal(harness.signal.SIGTERM)
        before = self.said_bytes()
        harness.until("the keeper to have passed the signal on", lambda: restarts.pending(self.pipeline.engine))
        harness.signal.pidfd_send_signal(stopped, harness.signal.SIGKILL)  # it has not read it
        self.assertIn("stopping: signalled as it comes up", self.ended(before))
        self.check_goes_on(saved)

    def test_a_drain_of_an_engine_that_comes_up_without_room_says_so_and_is_made_once_there_is_room(self):
        saved = self.come_up_without_room()
        drain, first = self.end_by("drain")
        self.assertIn("it comes up, waits for a file that cannot be written, and drains once that can", first)
        self.assertIn("`ringctl stop` ends it before that", first)
        self.assertIn(f"restarting; it says: {LACKS}{faults.WAITS}", drain.stderr.readline())
        self.machine.mend()
        out, err = drain.communicate(timeout=harness.PATIENCE)
        self.assertEqual(drain.returncode, 0, err)
        self.assertIn("pipeline p drained", out)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        self.assertEqual(self.left_behind(), [])
        self.check_all(saved + [self.unsaved])

    def is_said_to_start(self):
        done = self.call(harness.RINGCTL, "status", "p", "--timeout", "200ms", want=None)
        return (done.returncode == 3 and "pipeline p is just starting or ending" in done.stderr
                and f"it said last: {LACKS}{faults.WAITS}" in done.stderr)

    def test_a_run_that_takes_a_journal_again_without_room_is_said_to_be_starting_and_ends_when_told_to(self):
        self.come_up_without_room(covered=False, journal=", journal: true")
        before = self.said_bytes()
        self.end_by("stop")
        self.ended(before)
        for tell in (lambda: self.end_by("stop"), lambda: self.pipeline.process.send_signal(harness.signal.SIGINT)):
            before = self.said_bytes()
            with self.machine.around():
                self.pipeline.process = self.spawn(harness.RINGMILL, "run", "p.yaml", stderr=self.said)
            self.until_said(LACKS + faults.WAITS, before)
            harness.until("somebody who looks to be told", self.is_said_to_start)
            tell()
            self.ended(before)
        self.machine.mend()
        with self.machine.around():
            self.pipeline.process = self.spawn(harness.RINGMILL, "run", "p.yaml", stderr=self.said)
        harness.until("it to be up", lambda: self.call(harness.RINGCTL, "status", "p", want=None).returncode == 0)
        self.until_taken(self.COUNT)
        self.pipeline.end()
        self.check_all([self.unsaved])


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
