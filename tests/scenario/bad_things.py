"""Bad things happen around an engine: it says what is wrong, goes on, and the honest see nothing of it."""
import contextlib
import ctypes
import mmap
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

import feeding
import harness
import stream

COUNT = 20_000
RECORD_BYTES = 24
CELLS = 64
MAGIC = 0x4C4D524D
HELLO_PRODUCE, LANE = 1, 16


def message(kind, body):
    return struct.pack("<IHHII", MAGIC, 3, kind, 16 + len(body), 0) + body


class Beside(feeding.Feeding):
    """An honest producer is at work all the time; what it wrote must come out as if it were alone."""

    def begin(self, **more):
        self.start(**more)
        self.honest = self.feeder(1, COUNT, "keys", 5, "batch", 100, "pause", 1, "wait", -1, "hold")
        self.attached(self.honest)

    def finish(self):
        self.assertEqual(self.written(self.honest), (COUNT, 0))
        self.ends(self.honest)
        self.until_free()
        _, err = self.pipeline.end()
        wanted = stream.events(1, COUNT, 5)
        self.assertEqual([r for r in self.records() if r["id"] >> 32 == 1], wanted)
        rows, _ = stream.windows(wanted, size=10**9, every=10**9, out_of_order=float("inf"))
        keys = {r["key"] for r in wanted}
        came = harness.rows_of_csv((self.dir / "windows.csv").read_text())
        self.assertEqual(stream.ordered(stream.typed(r) for r in came if int(r["key"]) in keys),
                         stream.ordered(rows))
        return err

    def connect(self):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(peer.close)
        peer.connect(str(self.rundir / "p" / "socket"))
        peer.settimeout(harness.PATIENCE)  # after that: one with a timeout would not wait to be let in
        return peer

    def until_hung_up(self, peer):
        """Everything that the engine still says, until it hangs up."""
        said = []
        with contextlib.suppress(ConnectionResetError):  # it had not read all that was sent
            while data := peer.recv(65536):
                said.append(data)
        return said

    def hello(self):
        return message(HELLO_PRODUCE, struct.pack("<48s48sQII", b"events", b"stranger",
                                                  int(self.hash, 0), RECORD_BYTES, CELLS))


class Connections(Beside):
    def test_more_silent_peers_than_there_are_places_are_told_and_the_places_come_free(self):
        self.begin(runtime=", lanes_max: 2")

        def some_turned_away():
            """Unless we are so slow that the first are hung up on before the last come."""
            peers = [self.connect() for _ in range(400)]
            return [a for a in map(self.until_hung_up, peers) if a]

        turned_away = harness.until("some to be turned away", some_turned_away)
        self.assertLess(len(turned_away), 400)
        for said, in turned_away:
            self.assertIn(b"has 290 of the 322 connections that can be open", said)
        other = self.feeder(2, 10, "keys", 5)
        self.attached(other)
        self.ends(other)
        self.finish()

    def test_no_bytes_on_the_socket_do_harm(self):
        rng = random.Random(20260809)
        print("seed 20260809")
        self.begin()
        with open("/dev/null", "rb") as null:
            for _ in range(300):
                data = rng.choice([rng.randbytes(rng.randrange(1, 200)),
                                   message(rng.randrange(0, 25), rng.randbytes(rng.randrange(0, 300))),
                                   self.hello()])
                data = bytearray(data)
                for _ in range(rng.choice([0, 1, 5])):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                peer = self.connect()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused already, read or not
                    for _ in range(rng.choice([1, 1, 2])):
                        socket.send_fds(peer, [data], [null.fileno()] * rng.choice([0, 0, 3, 200]))
                peer.close()
        self.finish()

    def test_a_producer_with_another_schema_or_place_is_told_what_to_do(self):
        self.begin()
        other = self.feeder(2, 1, hash=hex(int(self.hash, 0) ^ 1))
        self.assertIn("make the header again with `ringmill gen header` and compile",
                      self.ends(other, want=1))
        for place, sentence in (("p/evnts", "no source evnts"), ("q/events", "q"),
                                ("events", "PIPELINE/SOURCE"), ("../p/events", "not a name")):
            done = self.call(harness.FEEDER, place, self.hash, 2, 1, want=1)
            self.assertIn(sentence, done.stderr)
        self.finish()

    @unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
    def test_another_user_is_refused_with_a_sentence(self):
        self.begin()
        program = shutil.copy(harness.FEEDER, self.dir / "feeder")

        def as_nobody():
            return subprocess.run([program, "p/events", self.hash, "2", "1"], env=self.env, user=65534,
                                  group=65534, extra_groups=[], capture_output=True, text=True,
                                  cwd="/", check=False)

        os.chmod(self.dir, 0o755)
        done = as_nobody()
        self.assertEqual(done.returncode, 1)
        self.assertIn("Permission denied", done.stderr)
        # who opens the folder to others has not yet let them write into the pipeline
        for path, mode in ((self.rundir, 0o755), (self.rundir / "p", 0o755),
                           (self.rundir / "p" / "socket", 0o666)):
            os.chmod(path, mode)
        done = as_nobody()
        self.assertEqual(done.returncode, 1)
        self.assertIn("pipeline p runs as user 0 and does not know you, user 65534", done.stderr)
        self.finish()


def punch(fd, size):
    """Give the memory back: all of it reads as zero from now on."""
    keep_size, punch_hole = 1, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, keep_size | punch_hole, ctypes.c_long(0), ctypes.c_long(size)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


class Lane:
    """A lane in the hands of somebody who does not play by the rules."""

    def __init__(self, test):
        self.peer = test.connect()
        self.peer.send(test.hello())
        data, self.fds, _, _ = socket.recv_fds(self.peer, 65536, 250)
        test.addCleanup(lambda: [os.close(fd) for fd in self.fds])
        test.assertEqual(struct.unpack_from("<H", data, 6), (LANE,))
        self.records, self.returns, self.room, *self.wake = self.fds
        self.size = os.fstat(self.records).st_size
        self.memory = mmap.mmap(self.records, self.size)
        test.addCleanup(self.memory.close)

    def put(self, word, value):
        """Words of the first line: published, marks, time, publishes, waiting, room_at, dropped."""
        struct.pack_into("<Q", self.memory, 8 * word, value & (2**64 - 1))

    def ring(self):
        for fd in self.wake:
            os.eventfd_write(fd, 1)


class Lanes(Beside):
    def said(self, sentence):
        process = self.pipeline.process
        while sentence not in (line := process.stderr.readline()):
            self.assertNotEqual(line, "", "the engine ended")

    def test_positions_that_go_back_close_the_lane(self):
        self.begin()
        lane = Lane(self)
        for record in stream.events(2, 3, 5):
            struct.pack_into("<qQIi", lane.memory, 4096 + RECORD_BYTES * (record["id"] & 3),
                             record["ts"], record["id"], record["key"], record["value"])
        lane.put(3, 1)
        lane.put(0, 3)
        lane.ring()
        harness.until("three records to be taken", lambda: [
            seen["taken"] for seen in self.pipeline.look("lanes")["lanes"] if seen["taken"] == 3])
        punch(lane.records, lane.size)
        lane.put(3, 2)
        lane.ring()
        self.said("its positions cannot be true; the lane is closed")
        lane.peer.close()
        self.finish()

    def test_scribbling_over_a_lane_hurts_nobody_else(self):
        rng = random.Random(20260810)
        print("seed 20260810")
        self.begin()
        for turn in range(60):
            lane = Lane(self)
            for _ in range(rng.choice([1, 10, 100])):
                at = rng.choice([rng.randrange(0, 64), rng.randrange(0, lane.size - 300)])
                noise = rng.randbytes(rng.choice([1, 8, 300]))
                lane.memory[at:at + len(noise)] = noise
            lane.put(3, turn + 1)
            if rng.random() < 0.5:
                lane.put(0, rng.randrange(1, 65))
            lane.ring()
            lane.peer.close()
        self.finish()

    def write_times(self, *times):
        lane = Lane(self)
        for i, ts in enumerate(times):
            struct.pack_into("<qQIi", lane.memory, 4096 + RECORD_BYTES * i, ts, (9 << 32) + i, 999, 1)
        lane.put(3, 1)
        lane.put(0, len(times))
        lane.ring()
        harness.until("the records to be taken", lambda: [
            seen for seen in self.pipeline.look("lanes")["lanes"] if seen["taken"] == len(times)])
        lane.peer.close()

    def test_times_at_the_ends_of_time_are_taken(self):
        self.begin(source=", max_ahead: 0s")
        self.write_times(-(2**63), -(2**63) + 1, 2**63 - 1, 2**63 - 2, 0, -(2**62), 2**62)
        self.finish()

    def test_times_far_in_the_future_are_refused_and_counted(self):
        self.begin()
        far = time.time_ns() + 2 * 3600 * 10**9
        self.write_times(0, far, 2**63 - 1, 2**62, -(2**63))
        source, = self.pipeline.look("status")["sources"]
        self.assertEqual(source["ahead"], 3)
        self.finish()


class Sinks(feeding.Feeding):
    def feed(self, count):
        feeder = self.feeder(1, count, "keys", 5, "batch", 1000, "wait", -1)
        self.attached(feeder)
        self.assertEqual(self.written(feeder), (count, 0))
        self.ends(feeder)
        self.until_free()

    def test_a_sink_on_a_full_disk_loses_its_rows_says_so_and_disturbs_no_other(self):
        self.start(records="/dev/full")
        self.feed(COUNT)
        _, err = self.pipeline.end(want=1)
        self.assertIn("sink records: /dev/full: No space left on device; rows are lost from here on",
                      err)
        self.assertIn(f"{COUNT} result rows could not be written", err)
        self.assertIn("every record left by one door", err)
        self.check_windows(stream.events(1, COUNT, 5))

    def test_a_file_that_may_not_grow_keeps_whole_rows_and_the_engine_goes_on(self):
        most, count = 1 << 20, 100_000
        self.start(source=", cells: 1024", preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (most, most)))
        self.feed(count)
        _, err = self.pipeline.end(want=1)
        self.assertIn("records.csv: File too large; rows are lost from here on", err)
        lost = int(re.search(r"(\d+) result rows could not be written", err)[1])
        came = self.records()
        self.assertEqual(len(came) + lost, count)
        self.assertGreater(len(came), 10_000)
        made = stream.events(1, count, 5)
        self.assertEqual([made[r["id"] & 0xFFFFFFFF] for r in came], came)
        self.check_windows(made)

    def test_an_engine_whose_words_nobody_reads_any_more_goes_on(self):
        self.start()
        self.pipeline.process.stderr.close()
        self.feed(COUNT)
        self.pipeline.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        self.assertEqual(self.left_behind(), [])
        self.check_windows(stream.events(1, COUNT, 5))


class Files(harness.Scenario):
    def test_a_pipeline_file_with_mistakes_exits_78_with_all_of_them(self):
        path = self.write("p.yaml", """
version: 1
pipeline: p
schema: {event: {ts: time_ns, key: u33}}
sources: {events: {schema: evnt, event_time: ts}}
stages:
  sums: {from: events, kye: key, filter: nothing > 0}
""")
        err = self.ringmill("run", path, want=78).stderr
        for said in ("p.yaml:4:", "p.yaml:5:", "did you mean event?", "p.yaml:7:", "did you mean key?"):
            self.assertIn(said, err)
        self.assertEqual(self.left_behind(), [])

    def test_no_bytes_in_a_pipeline_file_do_harm(self):
        text = (feeding.PIPELINE % {"schema": stream.SCHEMA, "aggregates": stream.AGGREGATES,
                                    "runtime": "", "source": "", "records": "r.csv"}).encode()
        for cut in range(1, len(text) - 80, 37):
            broken = text[:cut] + b"}: [" + bytes([cut % 128]) + text[cut:cut + 9]
            self.ringmill("run", self.write("broken.yaml", broken), want=78)
        self.assertEqual(self.left_behind(), [])

    def test_a_sink_that_cannot_be_opened_is_named_and_nothing_is_left(self):
        path = self.write("p.yaml", feeding.PIPELINE % {
            "schema": stream.SCHEMA, "aggregates": stream.AGGREGATES, "runtime": "", "source": "",
            "records": "/nowhere/records.csv"})
        self.assertIn("/nowhere/records.csv", self.ringmill("run", path, want=1).stderr)
        self.assertEqual(self.left_behind(), [])


if __name__ == "__main__":
    harness.main()
