"""Producers that share a lane: each record that one of them published is in the results once, in its
order, whoever of them is stopped or killed, and whenever; and each one's promise of time is its own."""
import mmap
import os
import random
import signal
import socket
import struct
import subprocess
import time

import exactly_once
import harness
import killed_producers
import restarts
import strangers
import stream

SEED = 20261121
KILLS = int(os.environ.get("RML_KILLS", "20"))
VICTIMS = 60
AT_ONCE = 6
ENDLESS = 1 << 31
SHARED = ", lane: shared"

# Windows fire while producers write, and nobody's times may go back.
STRICT = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2%s}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], lane: shared, cells: 1024}
stages:
  all: {from: events, filter: true}
  sums: {from: events, key: key, window: {type: tumbling, size: 100ms}, aggregate: %s}
sinks:
  records: {from: all, type: csv, path: records.csv}
  late: {from: sums.late, type: csv, path: late.csv}
  windows: {from: sums, type: csv, path: windows.csv}
"""


class Sharing(killed_producers.Victims):
    def lane(self):
        lanes = self.pipeline.look("lanes")["lanes"]
        self.assertEqual([(l["variant"], l["source"]) for l in lanes], [("shared", "events")])
        return lanes[0]

    def until_alone(self):
        """Wait until nobody has the lane any more, and all that was published is taken."""
        def alone():
            lane = self.lane()
            return lane["producers"] == 0 and lane["published"] == lane["taken"]

        harness.until("all producers to be forgotten", alone)
        harness.until("their descriptors to be closed",
                      lambda: self.fds() == self.fds_at_start + LANE_FDS)

    def check_order(self, came, seeds):
        """What one producer wrote of a key came in the order in which it wrote it."""
        for seed in seeds:
            mine = [r for r in came if r["id"] >> 32 == seed]
            for key in {r["key"] for r in mine}:
                ids = [r["id"] for r in mine if r["key"] == key]
                self.assertEqual(ids, sorted(ids))

    def in_order(self):
        rows = harness.rows_of_csv((self.dir / "records.csv").read_text())
        return [{n: int(v) for n, v in r.items()} for r in rows]


# The two segments, both ends of a door that nobody knocks at, an eventfd for each of two workers.
LANE_FDS = 6


class Shared(Sharing):
    def test_producers_killed_and_stopped_anywhere_cost_nothing_that_they_published(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        self.start(source=SHARED + ", cells: 512")
        honest = self.feeder(1000, 20_000, "threads", 4, "wait", -1, "pause", 100, "hold")
        self.attached(honest)
        victims = []
        for first in range(1, VICTIMS + 1, AT_ONCE):
            some = []
            for seed in range(first, first + AT_ONCE):
                how = self.draw(rng)
                victim = self.feeder(seed, ENDLESS, *how)
                victim.keys = how[1]
                some.append(victim)
            stopped = rng.choice(some)
            stopped.send_signal(signal.SIGSTOP)
            for victim in some:
                if victim is not stopped:
                    victim.wait(timeout=harness.PATIENCE)
            stopped.send_signal(signal.SIGCONT)
            for victim in some:
                victim.wait(timeout=harness.PATIENCE)
                self.assertEqual(victim.returncode, -signal.SIGKILL, victim.stderr.read())
            victims += some
        self.assertEqual(self.written(honest), (80_000, 0))
        self.ends(honest)
        self.until_alone()
        source, = self.pipeline.look("status")["sources"]
        self.assertEqual(source["published"], source["taken"])
        self.assertTrue(self.pipeline.look("balance")["adds_up"])
        self.pipeline.end()

        came = self.records()
        self.assertEqual(len(came), source["published"])
        by_seed = {}
        for record in came:
            by_seed.setdefault(record["id"] >> 32, []).append(record)
        for seed in range(1000, 1004):
            self.assertEqual(by_seed.pop(seed), stream.events(seed, 20_000))
        died_writing = 0
        for victim in victims:
            with self.subTest(seed=victim.seed):
                died_writing += self.progress(victim)[1] > 0
                self.check_prefix(victim, victim.keys, by_seed.pop(victim.seed, []))
        self.assertEqual(by_seed, {})
        self.assertGreater(died_writing, VICTIMS // 2)
        self.check_windows(came)
        self.check_order(self.in_order(), [*range(1, VICTIMS + 1), *range(1000, 1004)])

    def test_a_stopped_producer_holds_back_windows_and_nobodys_records(self):
        """With no disorder allowed at all nothing is late, though one stands still and is far behind."""
        self.start_text(STRICT % (stream.SCHEMA, "", stream.AGGREGATES))
        slow = self.feeder(1, 3000, "gate", "batch", 10, "wait", -1)
        quick = [self.feeder(seed, 30_000, "gate", "batch", 50, "wait", -1, "hold") for seed in (2, 3)]
        self.attached(slow, *quick)
        slow.send_signal(signal.SIGSTOP)
        self.go(slow, *quick)
        for feeder in quick:
            self.assertEqual(self.written(feeder), (30_000, 0))
        self.until_taken(60_000)
        self.assertEqual(self.stage("sums")["rows_out"], 0)
        slow.send_signal(signal.SIGCONT)
        self.assertEqual(self.written(slow), (3000, 0))
        self.assertEqual(slow.wait(timeout=harness.PATIENCE), 0)
        harness.until("windows to fire", lambda: self.stage("sums")["rows_out"] > 2 * 4 * 290)
        for feeder in quick:
            self.ends(feeder)
        self.until_alone()
        self.pipeline.end()
        self.check_strict([(1, 3000), (2, 30_000), (3, 30_000)])

    def test_a_dead_producer_holds_nothing_back(self):
        self.start_text(STRICT % (stream.SCHEMA, "", stream.AGGREGATES))
        dead = self.feeder(1, 100, "gate", "hold")
        lives = self.feeder(2, 10_000, "gate", "hold", "wait", -1)
        self.attached(dead, lives)
        self.go(dead)
        self.written(dead)
        self.go(lives)
        self.written(lives)
        self.until_taken(10_100)
        self.assertEqual(self.stage("sums")["rows_out"], 0)
        dead.kill()
        harness.until("windows to fire", lambda: self.stage("sums")["rows_out"] >= 4 * 99)
        self.ends(lives)
        self.pipeline.end()
        self.check_strict([(1, 100), (2, 10_000)])

    def test_a_producer_that_waits_for_room_is_given_it_by_the_next_engine(self):
        self.start(source=SHARED + ", cells: 64", args=restarts.OFTEN)
        feeder = self.feeder(1, 20_000, "keys", 1, "batch", 1000, "gate", "wait", -1, "hold")
        self.attached(feeder)
        self.stand_still()
        self.go(feeder)
        self.until_asleep(feeder)
        before = self.pipeline.engine
        os.kill(before, signal.SIGKILL)
        harness.until("another engine", lambda: self.pipeline.engine not in (0, before))
        self.assertEqual(self.written(feeder), (20_000, 0))
        self.until_taken(20_000)
        self.ends(feeder)
        self.pipeline.end()

    def test_what_has_no_room_is_dropped_and_counted_where_the_source_says_so(self):
        self.start(source=SHARED + ", cells: 64, on_full: drop_newest")
        feeder = self.feeder(1, 20_000, "keys", 1, "batch", 20_000, "every", 16, "gate", "hold")
        self.attached(feeder)
        self.stand_still()
        self.go(feeder)
        written, dropped = self.written(feeder)  # what is with the feeder still counts as written
        self.go_on()
        self.ends(feeder)
        self.until_alone()
        source, = self.pipeline.look("status")["sources"]
        self.assertEqual(source["published"] + source["dropped"], 20_000)
        self.assertGreaterEqual(source["dropped"], dropped)
        self.assertEqual(written + dropped, 20_000)
        self.assertGreaterEqual(source["published"], 64)
        self.pipeline.end()
        self.assertEqual(len(self.records()), source["published"])

    def stage(self, name):
        return next(s for s in self.pipeline.look("status")["stages"] if s["name"] == name)

    def check_strict(self, streams):
        made = sorted((r for seed, count in streams for r in stream.events(seed, count)),
                      key=lambda r: r["id"])
        self.assertEqual(self.records(), made)
        self.assertEqual(harness.rows_of_csv((self.dir / "late.csv").read_text()), [])
        wanted, _ = stream.windows(made, size=10**8, every=10**8, out_of_order=float("inf"))
        rows = harness.rows_of_csv((self.dir / "windows.csv").read_text())
        self.assertEqual(stream.ordered([stream.typed(r) for r in rows]), stream.ordered(wanted))


# Beside the lane that is shared, one that is its producer's own.
TWO = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 2, workers: 2}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], lane: shared, cells: 256}
  others: {schema: event, event_time: ts, partition_by: [key]}
stages:
  all: {from: events, filter: true}
  rest: {from: others, filter: true}
sinks:
  records: {from: all, type: csv, path: records.csv}
  rest: {from: rest, type: csv, path: rest.csv}
"""


class Hostile(Sharing):
    def attach(self):
        """A share in the lane, as whoever speaks the protocol gets it: the connection and the records."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(peer.close)
        peer.connect(str(self.rundir / "p" / "socket"))
        peer.send(strangers.produce(int(self.hash, 16)))
        said, descriptors, _, _ = socket.recv_fds(peer, 65536, 16)
        for descriptor in descriptors:
            self.addCleanup(os.close, descriptor)
        self.assertEqual(struct.unpack_from("<H", said, 6)[0], strangers.LANE)
        return peer, mmap.mmap(descriptors[0], os.fstat(descriptors[0]).st_size)

    def test_who_scribbles_over_a_shared_lane_ends_it_and_no_other(self):
        rng = random.Random(SEED)
        self.start_text(TWO % stream.SCHEMA)
        honest = self.spawn(harness.FEEDER, "p/others", self.hash, 9, 50_000, "wait", -1, "pause", 10,
                            "hold", stdin=subprocess.PIPE)
        self.attached(honest)
        for turn in range(5):
            fellow = self.feeder(turn, ENDLESS, "pause", 100, "wait", -1)
            self.attached(fellow)
            peer, records = self.attach()

            def scribble():
                at = rng.randrange(len(records) // 4096) * 4096
                records[at:at + 4096] = rng.randbytes(4096)
                records[24:32] = os.urandom(8)  # something was published
                return fellow.poll() is not None

            harness.until("the lane to be closed", scribble)
            self.assertEqual(fellow.returncode, 1)
            said = fellow.stderr.read()
            self.assertRegex(said, "Broken pipe|Protocol error")
            records.close()
            peer.close()
            harness.until("its end to be shown", lambda: [
                lane["reason"] for lane in self.pipeline.look("lanes")["lanes"]
                if lane["source"] == "events" and lane["state"] == "closed"])
        after = self.feeder(100, 1000, "wait", -1)  # the next lane is like new
        self.assertEqual(after.wait(timeout=harness.PATIENCE), 0, after.stderr.read())
        self.assertEqual(self.written(honest), (50_000, 0))
        self.ends(honest)
        harness.until("all to be taken", lambda: self.pipeline.look("balance")["adds_up"])
        out, err = self.pipeline.end()
        self.assertIn("the lane is closed", err)
        self.assertEqual(self.records("rest.csv"), stream.events(9, 50_000))
        self.assertEqual([r for r in self.records() if r["id"] >> 32 == 100], stream.events(100, 1000))


class Surviving(exactly_once.Saving, Sharing):
    def test_every_record_is_in_the_results_once_however_often_engine_and_producers_are_killed(self):
        rng = random.Random(SEED)
        print("seed", SEED, "kills", KILLS)
        self.start(source=SHARED + ", cells: 16384")
        feeders = self.feeders(1, 2, 3, 4)
        victims, stopped = [], None
        for kill in range(KILLS):
            victim = self.feeder(100 + kill, ENDLESS, "keys", 2, "batch", rng.choice([1, 16, 100]),
                                 "pause", 100, "wait", -1)
            victims.append(victim)
            time.sleep(rng.random() * 0.1)  # no moment is a particular one
            if stopped is not None:
                stopped.send_signal(signal.SIGCONT)
            stopped = rng.choice(feeders + victims)
            if stopped.poll() is None:
                stopped.send_signal(signal.SIGSTOP)
            rng.choice(victims).kill()
            self.kill_engine()
        stopped.send_signal(signal.SIGCONT)
        self.until_back(KILLS)
        for victim in victims:
            victim.kill()
            victim.wait()
        self.end_feeders(feeders)
        harness.until("all producers to be forgotten", lambda: self.lane()["producers"] == 0)
        harness.until("all to be taken", lambda: self.pipeline.look("balance")["adds_up"])
        self.pipeline.end()
        came = self.records()
        of_victims = [r for r in came if r["id"] >> 32 >= 100]
        self.assertEqual([r for r in came if r["id"] >> 32 < 100],
                         sorted(self.made(feeders), key=lambda r: r["id"]))
        for victim in victims:
            self.check_prefix(victim, 2, [r for r in of_victims if r["id"] >> 32 == victim.seed])
        self.check_windows(came)
        self.check_order(self.in_order(), [1, 2, 3, 4, *range(100, 100 + KILLS)])

    def test_nothing_is_late_after_restarts_though_no_disorder_is_allowed(self):
        self.start_text(STRICT % (stream.SCHEMA, exactly_once.RUNTIME, stream.AGGREGATES),
                        args=restarts.OFTEN)
        feeders = [self.feeder(seed, 1 << 31, "gate", "batch", 20, "pause", pause, "wait", -1, "until-told")
                   for seed, pause in ((1, 100), (2, 500), (3, 2000))]
        self.attached(*feeders)
        for feeder in feeders:
            os.kill(feeder.pid, 0)
            feeder.stdin.write("\n")
            feeder.stdin.flush()
        rng = random.Random(SEED)
        for _ in range(KILLS // 2):
            time.sleep(rng.random() * 0.1)
            self.kill_engine()
        self.until_back(KILLS // 2)
        self.end_feeders(feeders)
        harness.until("all producers to be forgotten", lambda: self.lane()["producers"] == 0)
        self.pipeline.end()
        made = sorted((r for f in feeders for r in stream.events(f.seed, self.progress(f)[1])),
                      key=lambda r: r["id"])
        self.assertEqual(self.records(), made)
        self.assertEqual(harness.rows_of_csv((self.dir / "late.csv").read_text()), [])
        wanted, _ = stream.windows(made, size=10**8, every=10**8, out_of_order=float("inf"))
        rows = harness.rows_of_csv((self.dir / "windows.csv").read_text())
        self.assertEqual(stream.ordered([stream.typed(r) for r in rows]), stream.ordered(wanted))


if __name__ == "__main__":
    harness.main()
