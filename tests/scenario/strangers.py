"""What a peer cannot do to a running pipeline, one way in at a time; bad_things.py throws noise at them."""
import ctypes
import errno
import mmap
import os
import re
import socket
import struct

import harness
import stream

PIPELINE = f"""
version: 1
pipeline: p
schema: {{event: {stream.SCHEMA}}}
runtime: {{partitions: 1, workers: 1, lanes_max: 2}}
sources:
  events: {{schema: event, event_time: ts, cells: 64, idle_after: 50ms}}
  several: {{schema: event, event_time: ts, cells: 64, idle_after: 50ms, lane: shared}}
stages: {{all: {{from: events, key: key, window: {{type: tumbling, size: 1s}}, aggregate: {{n: count()}}}}}}
sinks: {{file: {{from: all, type: csv, path: all.csv}}, live: {{from: all, type: ring}}}}
"""
RECORD_BYTES = 24

MAGIC, VERSION = 0x4C4D524D, 3
PRODUCE, SUBSCRIBE, CONTROL, JOIN = 1, 2, 3, 4
LANE, RESULTS, REPLY, REFUSED, BYE, MEMBERSHIP = 16, 17, 18, 19, 20, 21

# struct rml_lane_record_line and struct rml_lane_return_head
PUBLISHED, PUBLISHES = 0, 24
STATE, TEXT = 8, 16


def message(kind, body=b"", version=VERSION, claims=None):
    return struct.pack("<IHHII", MAGIC, version, kind, claims or 16 + len(body), 0) + body


def produce(schema_hash, source=b"events", record_bytes=RECORD_BYTES, cells=0):
    return message(PRODUCE, struct.pack("<48s48sQII", source, b"stranger", schema_hash, record_bytes, cells))


def join(stage, group):
    return message(JOIN, struct.pack("<48s48s48sII", stage, group, b"stranger", 0, 0))


def control(text):
    return message(CONTROL, text + b"\0")


class Strangers(harness.Scenario):
    def setUp(self):
        super().setUp()
        self.pipeline = self.run_pipeline(PIPELINE)
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        self.hash = re.search(r"EVENT_SCHEMA_HASH UINT64_C\((\w+)\)", header)[1]

    def connect(self):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.connect(str(self.rundir / "p" / "socket"))
        peer.settimeout(harness.PATIENCE)  # after that: one with a timeout would not wait to be let in
        self.addCleanup(peer.close)
        return peer

    def answer(self, data, descriptors=()):
        """What comes back for one message: its kind (None: hung up), what a refusal says."""
        peer = self.connect()
        socket.send_fds(peer, [data], list(descriptors))
        said = peer.recv(65536)
        kind = struct.unpack_from("<H", said, 6)[0] if said else None
        return kind, said[24:].split(b"\0")[0].decode() if kind == REFUSED else ""

    def attach(self, source=b"events"):
        """A lane, one's own or shared: the connection, and its descriptors in the order of the wire."""
        peer = self.connect()
        peer.send(produce(int(self.hash, 16), source))
        said, descriptors, _, _ = socket.recv_fds(peer, 65536, 16)
        for descriptor in descriptors:
            self.addCleanup(os.close, descriptor)
        self.assertEqual(struct.unpack_from("<H", said, 6)[0], LANE)
        return peer, descriptors

    def end_with_all_of(self, count):
        """An honest producer's records are all there, and the accounts are in order (else it exits 1)."""
        self.call(harness.FEEDER, "p/events", self.hash, 3, count, "keys", 4)
        self.pipeline.end()
        rows = harness.rows_of_csv((self.dir / "all.csv").read_text())
        self.assertEqual(sum(int(row["n"]) for row in rows), count)

    def descriptors_of_the_engine(self):
        return len(os.listdir(f"/proc/{self.pipeline.engine}/fd"))

    def test_each_message_that_cannot_be_is_refused_or_hung_up_on(self):
        for data in (b"?", b"?" * 40, message(PRODUCE), message(99), message(LANE, bytes(500)),
                     message(REPLY, bytes(8)), produce(1)[:-1], message(CONTROL, b"no end"),
                     message(PRODUCE, bytes(112), claims=4096), message(SUBSCRIBE, b"\xff" * 96)):
            self.assertIn(self.answer(data)[0], (REFUSED, None), data)
        kind, text = self.answer(message(PRODUCE, bytes(112), version=1))
        self.assertEqual(kind, REFUSED)
        self.assertIn("version 1", text)
        self.assertIn("cells", self.answer(produce(int(self.hash, 16), cells=1 << 31))[1])
        self.end_with_all_of(3000)

    def test_descriptors_that_nobody_asked_for_are_closed(self):
        before = self.descriptors_of_the_engine()
        with open("/dev/null", "rb") as null:
            self.assertIn(self.answer(control(b"refresh"), [null.fileno()] * 20)[0], (REFUSED, None))
        harness.until("the engine to close them", lambda: self.descriptors_of_the_engine() <= before)
        self.end_with_all_of(10)

    def test_a_lane_can_be_neither_cut_nor_written_where_the_engine_writes(self):
        peer, (records, returns, *_) = self.attach()
        for descriptor in (records, returns):
            with self.assertRaises(PermissionError):
                os.ftruncate(descriptor, 0)
        length = os.fstat(returns).st_size
        for way_in in (returns, None):
            with self.assertRaises(PermissionError):
                descriptor = way_in
                if way_in is None:
                    descriptor = os.open(f"/proc/self/fd/{returns}", os.O_RDWR)
                    self.addCleanup(os.close, descriptor)
                mmap.mmap(descriptor, length, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        peer.close()
        self.end_with_all_of(10)

    def cannot_write(self, descriptor):
        """By no way in to a segment that the engine writes."""
        length = os.fstat(descriptor).st_size
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
        self.addCleanup(os.close, again)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        for way_in in (descriptor, again):
            with self.assertRaises(PermissionError):
                mmap.mmap(way_in, length, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            with self.assertRaises(PermissionError):
                os.pwrite(way_in, b"x", 0)
            with self.assertRaises(PermissionError):
                os.ftruncate(way_in, 0)
            keep_size_and_punch_hole = 3
            self.assertEqual(libc.fallocate(way_in, keep_size_and_punch_hole, ctypes.c_long(0), ctypes.c_long(4096)), -1)
            self.assertEqual(ctypes.get_errno(), errno.EPERM)
            # what was mapped to be read does not become writable later
            at = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, way_in, 0)
            self.assertNotEqual(at, ctypes.c_void_p(-1).value)
            self.assertEqual(libc.mprotect(at, length, mmap.PROT_READ | mmap.PROT_WRITE), -1)
            self.assertEqual(ctypes.get_errno(), errno.EACCES)
            libc.munmap(at, length)

    def test_what_the_engine_writes_can_be_mapped_writable_by_nobody_and_by_no_way_in(self):
        for source in (b"events", b"several"):  # of the second, clocks and logs, which all who share it read
            _, (_, returns, *_) = self.attach(source)
            self.cannot_write(returns)
        for hello in (control(b"board"), message(SUBSCRIBE, struct.pack("<48s48s", b"all", b"stranger"))):
            peer = self.connect()
            peer.send(hello)
            said, descriptors, _, _ = socket.recv_fds(peer, 65536, 16)
            for descriptor in descriptors:
                self.addCleanup(os.close, descriptor)
            self.assertIn(struct.unpack_from("<H", said, 6)[0], (REPLY, RESULTS))
            self.cannot_write(descriptors[0])  # the second of a subscriber's is its own
        self.pipeline.ctl("balance")

    def test_a_member_can_write_what_members_share_and_nothing_that_the_engine_writes(self):
        peer = self.connect()
        peer.send(join(b"all", b"work"))
        said, descriptors, _, _ = socket.recv_fds(peer, 65536, 16)
        for descriptor in descriptors:
            self.addCleanup(os.close, descriptor)
        self.assertEqual(struct.unpack_from("<H", said, 6)[0], MEMBERSHIP)
        rings, _, shared, roster = descriptors
        self.cannot_write(rings)
        self.cannot_write(roster)
        with mmap.mmap(shared, os.fstat(shared).st_size) as ours:
            ours[:8] = bytes(8)
        for descriptor in descriptors:
            with self.assertRaises(PermissionError):
                os.ftruncate(descriptor, 0)
        for group in (b"", b"a/b", b"x" * 48):
            self.assertEqual(self.answer(join(b"all", group))[0], REFUSED)
        self.end_with_all_of(10)

    def test_positions_that_cannot_be_true_end_the_lane_that_shows_them(self):
        for place, value in ((PUBLISHED, 65), (PUBLISHED, 1 << 63)):
            peer, (records, returns, _, wake) = self.attach()
            with mmap.mmap(records, os.fstat(records).st_size) as ours, \
                    mmap.mmap(returns, os.fstat(returns).st_size, prot=mmap.PROT_READ) as theirs:
                struct.pack_into("<Q", ours, place, value)
                struct.pack_into("<Q", ours, PUBLISHES, 1)
                os.write(wake, struct.pack("<Q", 1))
                harness.until("the lane to end", lambda: theirs[STATE])
                self.assertEqual(theirs[TEXT:TEXT + 48].split(b"\0")[0], b"positions that cannot be true")
            peer.close()
            harness.until("its place to be free", lambda: self.pipeline.look("status")["lanes"] == 0)
        self.end_with_all_of(3000)


if __name__ == "__main__":
    harness.main()
