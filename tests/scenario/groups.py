"""What subscribers that share the rows of a ring are promised, whoever of them is stopped or killed."""
import collections
import mmap
import os
import random
import re
import signal
import socket
import struct

import harness
import strangers
import stream

PIPELINE = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 2, workers: 2%s}
sources: {events: {schema: event, event_time: ts, partition_by: [key]}}
stages:
  counts: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count(), total: sum(value)}}
sinks:
  live: {from: counts, type: ring, rows: %d%s}
  file: {from: counts, type: csv, path: counts.csv}
"""


class Reading:
    """What one member told: each row as it read it, with whether it said that it had acknowledged it."""

    def __init__(self, text):
        self.rows, self.late = [], 0
        pending = []
        for line in text.splitlines():
            words = line.split()
            if words[0] == "r" and len(words) == 9:
                row = {"id": (int(words[1]), int(words[2])), "again": int(words[3]),
                       "values": tuple(int(w) for w in words[4:]), "acked": False}
                self.rows.append(row)
                pending.append(row)
            elif words[0] == "a":
                self.late += int(words[1])
                for row in pending:
                    row["acked"] = True
                pending = []


class Groups(harness.Scenario):
    def start(self, rows=65536, more="", runtime=""):
        self.pipeline = self.run_pipeline(PIPELINE % (stream.SCHEMA, runtime, rows, more))
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        self.hash = dict(re.findall(r"(\w+)_SCHEMA_HASH UINT64_C\((\w+)\)", header))
        self.members = []

    def member(self, group, *more, want_attached=True):
        file = self.dir / f"member-{len(self.members)}"
        child = self.spawn(harness.MEMBER, "p/counts", self.hash["COUNTS_ROW"], group, file, *more,
                           stdin=harness.subprocess.PIPE)
        child.file, child.group, child.was_killed = file, group, False
        if want_attached:
            self.assertEqual(child.stderr.readline(), "attached\n")
            self.members.append(child)
        return child

    def kill(self, member):
        member.kill()
        member.wait()
        member.was_killed = True

    def feed(self, count, seed=7, more=()):
        self.call(harness.FEEDER, "p/events", self.hash["EVENT"], seed, count, "keys", 5, "step", 10_000_000, *more)

    def group(self, name):
        return next(g for g in self.pipeline.look("groups")["groups"] if g["group"] == name)

    def until_done(self, *names):
        """Until nothing waits in a group and nothing is in hand; and then once more, as counts are a moment old."""
        def is_done():
            groups = [self.group(name) for name in names]
            return all(g["taken"] > 0 and g["waiting"] == 0 and g["in_hand"] == 0 for g in groups)
        harness.until("the groups to be done", is_done)

    def in_file(self):
        rows = harness.rows_of_csv((self.dir / "counts.csv").read_text())
        return sorted((int(r["window_start"]), int(r["key"]), int(r["revision"]), int(r["n"]),
                       int(r["total"])) for r in rows)

    def end(self):
        self.pipeline.end()
        for member in self.members:
            if not member.was_killed:
                _, err = member.communicate(timeout=harness.PATIENCE)
                self.assertEqual(member.returncode, 0, err)
                self.assertEqual(err.splitlines()[-1], "EPIPE")

    def held_to(self, group):
        """Every row of the file came to the group, and again only where a killed member had not acknowledged it."""
        readings = [(m, Reading(m.file.read_text())) for m in self.members if m.group == group]
        times = collections.defaultdict(list)
        for member, reading in readings:
            for row in reading.rows:
                times[row["id"]].append((member, row))
        wanted = self.in_file()
        self.assertEqual(sorted(rows[0][1]["values"] for rows in times.values()), wanted)
        again = 0
        for rows in times.values():
            self.assertEqual(len({row["values"] for _, row in rows}), 1)
            settled = [(m, row) for m, row in rows if row["acked"] or not m.was_killed]
            self.assertLessEqual(len(settled), 1)  # who lives, or said that he acknowledged, was the last
            # a row that comes again says so, all but its first time
            self.assertGreaterEqual(sum(row["again"] > 0 for _, row in rows), len(rows) - 1)
            again += len(rows) - 1
        return again

    def test_each_row_goes_to_one_member_and_one_group_does_not_disturb_another(self):
        self.start()
        watcher = self.spawn(harness.WATCHER, "p/counts", self.hash["COUNTS_ROW"])
        self.assertEqual(watcher.stderr.readline(), "attached\n")
        for _ in range(3):
            self.member("alpha")
        self.member("beta", "hold", "10")
        self.feed(20_000)
        self.until_done("alpha", "beta")
        self.end()
        out, _ = watcher.communicate(timeout=harness.PATIENCE)
        self.assertEqual(out.splitlines()[-1], "missed 0")
        self.assertEqual(sorted(tuple(int(v) for v in line.split(",")[2:]) for line in out.splitlines()[:-1]),
                         self.in_file())
        self.assertGreater(len(self.in_file()), 900)
        self.assertEqual(self.held_to("alpha"), 0)
        self.assertEqual(self.held_to("beta"), 0)

    def test_rows_of_the_dead_go_to_others_and_those_of_the_stopped_wait_while_the_engine_dies_too(self):
        chance = random.Random(os.environ.get("RML_SEED", "11"))
        self.start(runtime=", state: ./state, checkpoint: {every: 200ms}")  # so that the file has every row, too
        calm = self.member("calm")
        full = self.member("work", "never")
        feeder = self.spawn(harness.FEEDER, "p/events", self.hash["EVENT"], 7, 60_000, "keys", 5, "step", 10_000_000)
        harness.until("its hands to be full", lambda: self.group("work")["in_hand"] == 64)
        for _ in range(4):
            self.member("work", "hold", "4", "nap", "3000")
        self.kill(full)  # whatever those after it are about as they are killed, these rows come again
        kills = stops = 0
        stopped = []
        while feeder.poll() is None or kills < 12:
            alive = [m for m in self.members if m.group == "work" and not m.was_killed and m not in stopped]
            taken = self.group("work")["taken"]
            victim = chance.choice(alive)
            if chance.random() < 0.6 or len(stopped) == 2:
                self.kill(victim)
                self.member("work", "hold", "4", "nap", "3000")
                kills += 1
            else:
                os.kill(victim.pid, signal.SIGSTOP)
                stopped.append(victim)
                stops += 1
            if kills in (3, 7):
                self.pipeline.kill_engine()
                harness.until("it to answer", lambda: self.pipeline.look("status")["state"] == "running")
            # Others go on while some are stopped.
            harness.until("rows to be taken", lambda t=taken: self.group("work")["taken"] > t or
                          self.group("work")["waiting"] == 0)
            if stopped and chance.random() < 0.5:
                os.kill(stopped.pop().pid, signal.SIGCONT)
        for member in stopped:
            os.kill(member.pid, signal.SIGCONT)
        self.assertGreater(stops, 0)
        self.until_done("work", "calm")
        seen = self.group("work")
        self.assertEqual((seen["missed"], seen["expired"]), (0, 0))
        self.assertEqual(len(seen["members"]), 4)
        self.end()
        self.assertGreaterEqual(self.held_to("work"), 64 - 1)  # the last one may not have been told of yet
        self.assertEqual(self.held_to("calm"), 0)
        self.assertFalse(calm.was_killed)

    def test_a_group_without_members_goes_on_where_it_was(self):
        self.start()
        first = self.member("night", "oldest", "never")
        self.feed(2_000)
        harness.until("some rows to be taken", lambda: self.group("night")["in_hand"] == 64)
        self.kill(first)
        harness.until("it to be gone", lambda: not self.group("night")["members"])
        self.feed(2_000, seed=8)
        self.member("night")
        self.until_done("night")
        self.end()
        self.assertEqual(self.held_to("night"), 64)

    def test_a_stopped_group_costs_the_engine_nothing_and_is_told_what_it_missed(self):
        self.start(rows=64)
        watcher = self.member("slow", "after")
        self.feed(20_000)
        self.pipeline.ctl("drain")
        watcher.stdin.write("go\n")
        watcher.stdin.flush()
        _, err = watcher.communicate(timeout=harness.PATIENCE)
        self.pipeline.end()
        missed = int(err.splitlines()[0].removeprefix("missed "))
        got = Reading(watcher.file.read_text()).rows
        self.assertGreater(missed, 0)
        self.assertEqual(len(got) + missed, len(self.in_file()))
        self.assertLessEqual({row["values"] for row in got}, set(self.in_file()))

    def test_a_member_that_acknowledges_nothing_gets_no_more_than_it_may_hold(self):
        self.start()
        self.member("idle", "never")
        self.feed(5_000)
        harness.until("its hands to be full", lambda: self.group("idle")["in_hand"] == 64)
        seen = self.group("idle")
        self.assertEqual((seen["taken"], seen["again"], seen["acknowledged"]), (64, 0, 0))
        self.assertGreater(seen["waiting"], 0)
        member, = seen["members"]
        self.assertEqual((member["pid"], member["program"], member["taken"]),
                         (self.members[0].pid, "member", 64))
        self.assertRegex(self.pipeline.ctl("groups").stdout, r"(?m)^idle +counts +1 member .* 64 +64 +0 +0 +0$")
        _, err = self.members.pop().communicate(timeout=harness.PATIENCE)  # it says so, and leaves
        self.assertEqual(err.splitlines()[-1], "ENOBUFS")
        self.member("idle")  # what it had comes to the next
        self.until_done("idle")
        self.assertEqual(self.group("idle")["again"], 64)
        self.end()

    def test_a_member_that_writes_what_it_likes_harms_its_own_group_alone(self):
        chance = random.Random(os.environ.get("RML_SEED", "5"))
        self.start(rows=1024)
        engine = self.pipeline.engine
        self.member("calm", "hold", "5")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(str(self.rundir / "p" / "socket"))
            peer.send(strangers.join(b"counts", b"noisy"))
            _, descriptors, _, _ = socket.recv_fds(peer, 65536, 16)
            for descriptor in descriptors:
                self.addCleanup(os.close, descriptor)
            with mmap.mmap(descriptors[2], os.fstat(descriptors[2]).st_size) as shared:
                for turn in range(12):
                    honest = self.member("noisy", "hold", "3")
                    for _ in range(4000):
                        at = chance.choice((0, 8, chance.randrange(576), chance.randrange(len(shared) // 8)))
                        value = chance.choice((0, 1, chance.randrange(1 << 12), chance.randrange(1 << 32),
                                               chance.randrange(1 << 64), (1 << 64) - 1))
                        struct.pack_into("<Q", shared, at * 8 % len(shared), value)
                    self.feed(500, seed=turn)
                    self.pipeline.look("groups")  # for which the engine counts what lies there
                    self.members.remove(honest)
                    honest.kill()
                    self.assertIn(honest.wait(), (0, -signal.SIGKILL))  # it left, or was still there
                struct.pack_into("<Q", shared, 0, 1 << 63)  # the next row of a partition
                struct.pack_into("<Q", shared, 64, 1 << 63)
                honest = self.member("noisy")
                self.members.remove(honest)
                # by the file that its first line was read from, which may have more of it already
                self.assertEqual(honest.stderr.read().splitlines()[-1], "EPROTO")
                self.assertEqual(honest.wait(), 0)
        self.assertEqual(self.pipeline.engine, engine)
        self.until_done("calm")
        self.end()
        self.assertEqual(self.held_to("calm"), 0)

    def test_there_are_so_many_groups_and_one_without_members_makes_room(self):
        self.start(more=", groups: 2")
        self.assertIn("no group", self.pipeline.ctl("groups").stdout)
        one, two = self.member("one"), self.member("two")
        three = self.member("three", want_attached=False)
        _, err = three.communicate(timeout=harness.PATIENCE)
        self.assertIn("EMFILE: 2 groups with members share the rows of counts", err)
        self.kill(one)
        harness.until("it to be gone", lambda: not self.group("one")["members"])
        self.member("three")
        self.assertEqual(sorted(g["group"] for g in self.pipeline.look("groups")["groups"]), ["three", "two"])
        nameless = self.member("a/b", want_attached=False)
        _, err = nameless.communicate(timeout=harness.PATIENCE)
        self.assertIn("is not the name of a group", err)
        self.kill(two)
        self.end()


if __name__ == "__main__":
    harness.main()
