"""What a peer that keeps to no rule can do to a running pipeline: end its own connection, and no more."""
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
sources: {{events: {{schema: event, event_time: ts, cells: 64, idle_after: 50ms}}}}
stages: {{all: {{from: events, key: key, window: {{type: tumbling, size: 1s}}, aggregate: {{n: count()}}}}}}
sinks: {{file: {{from: all, type: csv, path: all.csv}}}}
"""
CONNECTIONS = 2 + 256 + 64  # lanes_max, subscribers, and people who look
RECORD_BYTES = 24

MAGIC, VERSION = 0x4C4D524D, 1
PRODUCE, SUBSCRIBE, CONTROL = 1, 2, 3
LANE, RESULTS, REPLY, REFUSED = 16, 17, 18, 19

# struct rml_lane_record_line and struct rml_lane_return_head
PUBLISHED, MARKS, TIME, PUBLISHES = 0, 8, 16, 24
STATE, CODE, TEXT = 8, 12, 16


def message(kind, body=b"", version=VERSION, claims=None):
    return struct.pack("<IHHII", MAGIC, version, kind, claims or 16 + len(body), 0) + body


def produce(schema_hash, source=b"events", record_bytes=RECORD_BYTES, cells=0):
    return message(PRODUCE, struct.pack("<48s48sQII", source, b"stranger", schema_hash, record_bytes, cells))


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

    def attach(self):
        """A lane of one's own: the connection, and its descriptors in the order of the wire."""
        peer = self.connect()
        peer.send(produce(int(self.hash, 16)))
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
        return len(os.listdir(f"/proc/{self.pipeline.process.pid}/fd"))

    def test_what_is_no_message_is_refused_and_nobody_else_notices(self):
        for data in (b"?", b"?" * 40, message(PRODUCE), message(99), message(LANE, bytes(500)),
                     message(REPLY, bytes(8)), produce(1)[:-1], message(CONTROL, b"no end"),
                     message(PRODUCE, bytes(112), claims=4096), message(SUBSCRIBE, b"\xff" * 96)):
            self.assertIn(self.answer(data)[0], (REFUSED, None), data)
        kind, text = self.answer(message(PRODUCE, bytes(112), version=2))
        self.assertEqual(kind, REFUSED)
        self.assertIn("version 2", text)
        self.assertIn("has no source", self.answer(produce(int(self.hash, 16), b"nothing"))[1])
        self.assertIn("make the header again", self.answer(produce(1))[1])
        self.assertIn("cells", self.answer(produce(int(self.hash, 16), cells=1 << 31))[1])
        self.end_with_all_of(3000)

    def test_a_peer_that_says_nothing_is_hung_up_on(self):
        self.assertEqual(self.connect().recv(1), b"")
        self.end_with_all_of(10)

    def test_descriptors_that_nobody_asked_for_are_closed(self):
        before = self.descriptors_of_the_engine()
        with open("/dev/null", "rb") as null:
            self.assertIn(self.answer(control(b"refresh"), [null.fileno()] * 20)[0], (REFUSED, None))
        harness.until("the engine to close them", lambda: self.descriptors_of_the_engine() == before)
        self.end_with_all_of(10)

    def test_connections_without_number_are_turned_away_and_the_rest_goes_on(self):
        crowd = []
        while len(crowd) < CONNECTIONS:
            peer = self.connect()
            peer.send(control(b"refresh"))
            crowd.append(peer)
        for peer in crowd:
            self.assertEqual(struct.unpack_from("<H", peer.recv(65536), 6)[0], REPLY)
        one_more = self.connect()
        said = one_more.recv(65536)
        self.assertEqual(struct.unpack_from("<H", said, 6)[0], REFUSED)
        self.assertIn(b"as many as there can be", said)
        for peer in crowd:
            peer.close()
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
        self.end_with_all_of(3000)

    def test_records_of_any_bytes_are_records(self):
        """What stands in cells is data: a lane whose cells are noise is taken like any other."""
        peer, (records, _, _, wake) = self.attach()
        with mmap.mmap(records, os.fstat(records).st_size) as ours:
            ours[64:64 + 64 * RECORD_BYTES] = bytes((i * 7919 >> 3) & 255 for i in range(64 * RECORD_BYTES))
            struct.pack_into("<Q", ours, PUBLISHED, 64)
            struct.pack_into("<Q", ours, PUBLISHES, 1)
            os.write(wake, struct.pack("<Q", 1))
            harness.until("the records to be taken",
                          lambda: self.pipeline.look("status")["sources"][0]["taken"] == 64)
        peer.close()
        self.pipeline.end()

    def test_another_user_is_told_to_be_the_right_one(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to become another user")
        for path in (self.dir, self.rundir, self.rundir / "p"):
            os.chmod(path, 0o755)
        os.chmod(self.rundir / "p" / "socket", 0o666)
        result, hand_over = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                os.write(hand_over, self.connect().recv(65536))
            finally:
                os._exit(0)
        os.close(hand_over)
        with open(result, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        self.assertEqual(struct.unpack_from("<H", said, 6)[0], REFUSED)
        self.assertIn(b"runs as user 0", said)
        self.end_with_all_of(10)


if __name__ == "__main__":
    harness.main()
