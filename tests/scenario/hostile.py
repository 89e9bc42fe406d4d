"""A producer that was let in and plays by no rule: the engine lives, finds it out, and the honest see nothing of it.

What it does comes from a seed. Beside it an honest producer is at work, whose records and windows must come out
as they would without it. Each way to do harm is tried with an engine that keeps checkpoints and with one that
does not; RML_HOSTILE=N tries N times as much.
"""
import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import random
import re
import socket
import struct
import time

import bad_things
import feeding
import harness
import stream

SEED = int(os.environ.get("RML_SEED", "20261205"))
TIMES = int(os.environ.get("RML_HOSTILE", "1"))
COUNT = 6_000
RECORD_BYTES, CELLS = 24, bad_things.CELLS
MARKS, TIME, PUBLISHES, WAITING, ROOM_AT, DROPPED = 1, 2, 3, 4, 5, 6
SIGN = 1 << 63
F_ADD_SEALS, F_SEAL_WRITE = 1033, 8
STATE = ", state: ./state, checkpoint: {every: 30ms, min_pause: 1ms}"

# As feeding's, with a limit of keys that can be met, and a source whose records have all that a float can be.
PIPELINE = """
version: 1
pipeline: p
schema:
  event: %(schema)s
  wild: {ts: time_ns, key: u64, x: f64, y: f32, name: str16}
runtime: {partitions: 3, workers: 2, lanes_max: 8%(runtime)s}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 1h, idle_after: 1h}
  wild: {schema: wild, event_time: ts, partition_by: [key], idle_after: 50ms}
stages:
  all: {from: events, filter: true}
  sums: {from: events, key: key, max_keys: 200, window: {type: tumbling, size: 1s}, aggregate: %(aggregates)s}
  fixed:
    from: wild
    key: key
    max_keys: 50
    window: {type: sliding, size: 2s, every: 1s, late: 1s}
    aggregate:
      n: count()
      total: sum(x)
      low: min(x)
      high: max(y)
      spread: stddev_samp(x)
      p90: 'quantile(x, 0.9)'
      exact: 'quantile(y, 0.5, exact)'
      names: distinct(name)
      often: 'top(name, 2)'
      weighed: 'ewma(x, 1s)'
      bars: 'histogram(x, -1, 0, 1)'
  visits: {from: wild, key: [key, name], max_keys: 50, window: {type: session, gap: 10ms}, aggregate: {n: count(), total: sum(y)}}
sinks:
  records: {from: all, type: csv, path: records.csv}
  windows: {from: sums, type: csv, path: windows.csv}
  fixed: {from: fixed, type: jsonl, path: fixed.jsonl}
  visits: {from: visits, type: jsonl, path: visits.jsonl}
"""
WILD_BYTES = 48
FLOATS = [float("nan"), float("inf"), float("-inf"), 5e-324, -5e-324, 2.2e-308, 1.7976931348623157e308,
          -1.7976931348623157e308, 0.0, -0.0, 1.0, 1e-300, 3.4e38, -3.4e38]


class Held:
    """A lane in bad hands, of whichever source: what it writes, and when, is its own affair."""

    def __init__(self, test, source=b"events", schema_hash=None, record_bytes=RECORD_BYTES):
        self.test = test
        self.record_bytes = record_bytes
        self.peer = test.connect()
        hello = struct.pack("<48s48sQII", source, b"villain", int(schema_hash or test.hash, 0), record_bytes, CELLS)
        self.peer.send(bad_things.message(bad_things.HELLO_PRODUCE, hello))
        data, self.fds, _, _ = socket.recv_fds(self.peer, 65536, 250)
        test.assertEqual(struct.unpack_from("<H", data, 6), (bad_things.LANE,), data[24:])
        # head, epoch, lane, fd_count, then the geometry, which begins with how many partitions there are
        self.lane, _, self.partitions = struct.unpack_from("<III", data, 24)
        self.records, self.returns, self.room, *self.wake = self.fds
        self.size = os.fstat(self.records).st_size
        self.memory = bad_things.mmap.mmap(self.records, self.size)
        self.theirs = bad_things.mmap.mmap(self.returns, os.fstat(self.returns).st_size,
                                           prot=bad_things.mmap.PROT_READ)
        self.words = (ctypes.c_uint64 * (8 * self.partitions)).from_buffer(self.memory)
        test.addCleanup(self.leave)
        # lines of positions, up to a page; then the cells of each partition (runtime/lane/layout.h)
        self.cells_at = (64 * self.partitions + 4095) // 4096 * 4096
        self.stride = (CELLS * record_bytes + 63) // 64 * 64 + 5 * 64  # of several partitions
        self.published = [0] * self.partitions

    def leave(self):
        if self.fds:
            self.words = None  # which holds the memory
            self.memory.close()
            self.theirs.close()
            for fd in self.fds:
                os.close(fd)
            self.fds = []
            self.peer.close()

    def word(self, index, partition, value):
        """At once, as struct.pack_into does not: what is half written would be a lie."""
        self.words[8 * partition + index] = value & (2**64 - 1)

    def cell(self, partition, index, record):
        at = self.cells_at + partition * self.stride + index % CELLS * self.record_bytes
        self.memory[at:at + self.record_bytes] = record

    def released(self, partition):
        return struct.unpack_from("<Q", self.theirs, 64 * (1 + partition))[0]

    def publish(self, partition, records):
        """Like an honest producer: as room comes free. False: it has been cut off."""
        for record in records:
            end = time.monotonic() + harness.PATIENCE
            while self.published[partition] - self.released(partition) >= CELLS:
                if self.closed() or time.monotonic() > end:
                    return False
                self.ring()
                time.sleep(0.0005)
            self.cell(partition, self.published[partition], record)
            self.published[partition] += 1
            self.word(0, partition, self.published[partition])
        self.ring()
        return True

    def ring(self):
        self.word(PUBLISHES, 0, self.words[PUBLISHES] + 1)
        for fd in self.wake:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(fd, 1)

    def closed(self):
        """What the engine tells its producer; 0: nothing yet."""
        return struct.unpack_from("<I", self.theirs, 8)[0]


def event(ts, number, key, value):
    return struct.pack("<qQIi", ts, number, key & 0xFFFFFFFF, value)


class Hostile(feeding.Feeding):
    connect = bad_things.Beside.connect

    def begin(self, runtime=""):
        self.rng = random.Random(SEED)
        print(f"seed {SEED}", end=" ")
        text = PIPELINE % {"schema": stream.SCHEMA, "aggregates": stream.AGGREGATES, "runtime": runtime}
        self.start_text(text)
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        hashes = dict(re.findall(r"(\w+)_SCHEMA_HASH UINT64_C\((\w+)\)", header))
        self.hash, self.wild = hashes["EVENT"], hashes["WILD"]
        self.honest = self.feeder(1, COUNT, "keys", 5, "batch", 50, "pause", 1, "wait", -1, "hold")
        self.attached(self.honest)
        self.restarts = 0
        harness.until("all honest keys to be there", lambda: self.progress(self.honest)[1] >= 200)
        harness.until("the honest to be taken", lambda: self.counts()["taken"] >= 200)

    def counts(self, source="events"):
        return next(s for s in self.pipeline.look("status")["sources"] if s["name"] == source)

    def stage(self, name):
        return next(s for s in self.pipeline.look("status")["stages"] if s["name"] == name)

    def lane_row(self, lane):
        rows = [row for row in self.pipeline.look("lanes")["lanes"] if row["lane"] == lane]
        return rows[0] if rows else None

    def until_taken_of(self, held, count):
        harness.until("what is honest of it to be taken",
                      lambda: (self.lane_row(held.lane) or {"taken": 0})["taken"] == count)

    def until_closed(self, held, reason="positions that cannot be true"):
        """It is cut off, is told why, and so is who looks."""
        harness.until("the lane to be closed", held.closed)
        row = harness.until("the reason to be shown",
                            lambda: (r := self.lane_row(held.lane)) and r["reason"] and r)
        self.assertEqual((row["program"], row["reason"]), ("villain", reason))
        held.leave()

    def until_gone(self, held):
        held.leave()
        harness.until("the lane to be free", lambda: self.pipeline.look("status")["lanes"] == 1)

    def kill_engine(self):
        self.pipeline.kill_engine()
        self.pipeline.ctl("status")
        self.restarts += 1

    def finish(self, exact=True):
        self.assertEqual(self.written(self.honest), (COUNT, 0))
        self.assertEqual(self.pipeline.look("status")["restarts"], self.restarts)
        self.ends(self.honest)
        _, err = self.pipeline.end()  # which says by its exit code that the balance adds up
        wanted = stream.events(1, COUNT, 5)
        rows, _ = stream.windows(wanted, size=10**9, every=10**9, out_of_order=float("inf"))
        keys = {r["key"] for r in wanted}
        came = harness.rows_of_csv((self.dir / "windows.csv").read_text())
        self.assertEqual(stream.ordered(stream.typed(r) for r in came if int(r["key"]) in keys),
                         stream.ordered(rows))
        self.assertEqual([r for r in self.records() if r["id"] >> 32 == 1 and r["key"] in keys], wanted)
        for name in ("fixed.jsonl", "visits.jsonl"):
            text = (self.dir / name).read_text()
            for line in text.splitlines():
                json.loads(line, parse_constant=self.fail)  # no NaN, no Infinity: they are no JSON
        return err

    # What a villain does; each gets a lane of its own.

    def positions_at_random(self):
        held = Held(self)
        for partition in range(held.partitions):
            held.word(0, partition, self.rng.choice([CELLS + 1, 1 << 40, SIGN, 2**64 - 1, self.rng.getrandbits(64) | SIGN]))
        held.ring()
        self.until_closed(held)

    def positions_that_go_back(self):
        held = Held(self)
        partition = self.rng.randrange(held.partitions)
        self.assertTrue(held.publish(partition, [event(0, i, 1_000_000 + i, 1) for i in range(30)]))
        self.until_taken_of(held, 30)
        held.word(0, partition, self.rng.randrange(30))
        held.ring()
        self.until_closed(held)

    def huge_jumps(self):
        held = Held(self)
        held.publish(0, [event(0, i, 1_000_000 + i, 1) for i in range(5)])
        held.word(0, 0, 5 + (1 << self.rng.randrange(7, 63)))
        held.ring()
        self.until_closed(held)

    def the_head_rewritten(self):
        held = Held(self)
        held.publish(0, [event(0, i, 1_000_000 + i, 1) for i in range(5)])
        for at in range(0, held.cells_at, 8):
            struct.pack_into("<Q", held.memory, at, self.rng.getrandbits(64) | SIGN)
        held.ring()
        self.until_closed(held)

    def marks_at_random(self):
        held = Held(self)
        partition = self.rng.randrange(held.partitions)
        held.cell(partition, 0, event(0, 1, 1_000_000, 1))
        held.word(MARKS, partition, self.rng.choice([CELLS + 1, 1 << 33, 2**64 - 1]))
        held.word(0, partition, 1)
        held.ring()
        self.until_closed(held)

    def noise_everywhere(self):
        """Whatever it comes to: scribbled over while it is read."""
        held = Held(self)
        for _ in range(50):
            at = self.rng.choice([self.rng.randrange(0, 64 * held.partitions), self.rng.randrange(held.size - 300)])
            noise = self.rng.randbytes(self.rng.choice([1, 8, 300]))
            # no key of the honest: a record with one of theirs would be as good as theirs
            held.memory[at:at + len(noise)] = noise
            if self.rng.random() < 0.3:
                held.ring()
        held.ring()
        self.until_gone(held)

    def floats_of_all_kinds(self):
        held = Held(self, b"wild", self.wild, WILD_BYTES)
        now = time.time_ns()
        before = self.counts("wild")["taken"]
        records = []
        for i, (x, y) in enumerate(itertools.product(FLOATS, FLOATS)):
            y = struct.unpack("<f", struct.pack("<I", self.rng.getrandbits(32)))[0] if i % 3 == 0 else y
            small = y if y != y or abs(y) < 3.4e38 else 1.0
            name = self.rng.randbytes(16) if i % 2 else b"some"
            records.append(struct.pack("<qQdf16s4x", now + i * 20_000_000, self.rng.choice([1, 2]), x, small, name))
        for partition in range(held.partitions):
            self.assertTrue(held.publish(partition, records))
        harness.until("all of them to be taken",
                      lambda: self.counts("wild")["taken"] - before == held.partitions * len(records))
        self.until_gone(held)

    def keys_without_end(self):
        held = Held(self)
        before = self.stage("sums")["refused"]
        for partition in range(held.partitions):
            self.assertTrue(held.publish(partition, [event(0, i, 1_000_000 + i, 1) for i in range(4000)]))
        harness.until("keys to be refused", lambda: self.stage("sums")["refused"] > before + 1000)
        self.until_gone(held)

    def times_far_ahead(self):
        held = Held(self)
        before = self.counts()
        far = time.time_ns() + 2 * 3600 * 10**9
        for partition in range(held.partitions):
            times = [far, 2**63 - 1, far + self.rng.getrandbits(50)] * 5
            self.assertTrue(held.publish(partition, [event(t, i, 1_000_000 + i, 1) for i, t in enumerate(times)]))
        held.word(TIME, 0, (2**63 - 1) ^ SIGN)
        held.ring()
        # those that lie in the partition of their key; the others are malformed
        harness.until("them to be refused", lambda: (now := self.counts())["ahead"] + now["malformed"]
                      - before["ahead"] - before["malformed"] == 15 * held.partitions)
        self.assertGreater(self.counts()["ahead"], before["ahead"])
        self.until_gone(held)

    def cutting_off_its_memory(self):
        held = Held(self)
        held.publish(0, [event(0, i, 1_000_000 + i, 1) for i in range(5)])
        for fd in (held.records, held.returns):
            for size in (0, 64, held.size * 2):
                with self.assertRaises(PermissionError):
                    os.ftruncate(fd, size)
            with self.assertRaises(PermissionError):
                fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)
        self.until_taken_of(held, 5)
        bad_things.punch(held.records, held.size)
        held.ring()
        self.until_closed(held)  # for its positions are 0 now

    def leaving_in_the_midst_of_a_claim(self):
        held = Held(self)
        held.publish(0, [event(0, i, 1_000_000 + i, 1) for i in range(3)])
        for i in range(3, 20):
            held.cell(0, i, self.rng.randbytes(RECORD_BYTES))  # claimed, filled, and never published
        self.until_gone(held)

    def never_reading_its_doorbell(self):
        held = Held(self)
        for fd in (held.room, *held.wake):
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)  # of the engine's, too, where it has the same
        before = self.counts()["taken"]
        for i in range(3000):
            # waits anew each time, and is knocked for each time; nobody ever hears it
            held.word(WAITING, 0, (i + 1) << 9 | 1)
            held.word(ROOM_AT, 0, 0)
            if not held.publish(0, [event(0, i, 1_000_000 + i, 1)]):
                self.fail("it was cut off")
        harness.until("all of it to be taken", lambda: self.counts()["taken"] - before >= 3000)
        self.until_gone(held)

    def stealing_wake_ups(self):
        held = Held(self)
        for i in range(200):
            held.publish(0, [event(0, i, 1_000_000 + i, 1)])
            for fd in held.wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(fd)
        for fd in held.wake:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(fd, 2**64 - 2)  # full: a further ring would wait
        self.until_gone(held)

    FOUND_OUT = ("positions_at_random", "positions_that_go_back", "huge_jumps", "the_head_rewritten",
                 "marks_at_random", "cutting_off_its_memory")
    OTHERS = ("noise_everywhere", "floats_of_all_kinds", "keys_without_end", "times_far_ahead",
              "leaving_in_the_midst_of_a_claim", "never_reading_its_doorbell", "stealing_wake_ups")

    def do_all(self):
        villainies = list(self.FOUND_OUT + self.OTHERS) * TIMES
        self.rng.shuffle(villainies)
        for what in villainies:
            with self.subTest(what):
                getattr(self, what)()
        gate = self.pipeline.look("status")["gate"]
        self.assertGreaterEqual(gate["faulty_lanes"], len(self.FOUND_OUT) * TIMES)

    def test_nothing_that_a_villain_does_shows_in_the_results_of_others(self):
        self.begin()
        self.do_all()
        self.finish()

    def test_nothing_that_a_villain_does_shows_in_the_results_of_others_with_checkpoints(self):
        self.begin(STATE)
        self.do_all()
        self.finish()

    def test_an_engine_is_started_again_among_villains_that_lie_about_what_it_had_taken(self):
        self.begin(STATE)
        for _ in range(3 * TIMES):
            held = Held(self)
            for partition in range(held.partitions):
                self.assertTrue(held.publish(partition, [event(0, i, 1_000_000 + i, 1) for i in range(40)]))
            self.until_taken_of(held, 40 * held.partitions)
            for partition in range(held.partitions):
                held.word(0, partition, self.rng.choice([0, 1, 39, 41 + CELLS, self.rng.getrandbits(64)]))
                held.word(MARKS, partition, self.rng.getrandbits(64))
            self.kill_engine()
            held.ring()
            self.until_closed(held)
        self.finish()

    def test_a_villain_alone_with_its_own_source_ends_nobody_elses_time(self):
        """The honest say nothing for longer than idle_after: then who goes on decides, up to max_ahead."""
        self.begin()
        held = Held(self, b"wild", self.wild, WILD_BYTES)
        now = time.time_ns()
        honest = [struct.pack("<qQdf16s4x", now, key, 1.0, 1.0, b"honest") for key in range(8)]
        for partition in range(held.partitions):
            self.assertTrue(held.publish(partition, honest))
        harness.until("them to be taken", lambda: self.counts("wild")["taken"] == 8 * held.partitions)
        villain = Held(self, b"wild", self.wild, WILD_BYTES)
        far = [struct.pack("<qQdf16s4x", now + 10**18, key, 1.0, 1.0, b"villain") for key in range(8)]
        for partition in range(held.partitions):
            self.assertTrue(villain.publish(partition, far))
        harness.until("them to be refused", lambda: self.counts("wild")["ahead"] == 8)
        self.assertLessEqual(self.counts("wild")["watermark"] or 0, now)
        # what the honest say now is as much in time as it was
        for partition in range(held.partitions):
            self.assertTrue(held.publish(partition, honest))
        harness.until("them to be taken", lambda: self.counts("wild")["taken"] == 3 * 8 * held.partitions)
        # taken is counted before stages are given it
        harness.until("them to be aggregated", lambda: self.stage("fixed")["aggregated"] == 16)
        self.assertEqual(self.stage("fixed")["late"], 0)
        villain.leave()
        self.until_gone(held)
        self.finish()


if __name__ == "__main__":
    harness.main()
