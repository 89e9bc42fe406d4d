"""Who may attach, look and steer: other users, as the pipeline file says, and as far as it says."""
import contextlib
import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
import unittest

import harness
import stream

PIPELINE = """
version: 1
pipeline: p
schema: {event: %(schema)s}
runtime: {partitions: 1, workers: 1%(runtime)s}
sources:
  events: {schema: event, event_time: ts%(source)s}
stages:
  counts: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count(), total: sum(value)}}
sinks:
  live: {from: counts, type: ring%(sink)s}
  file: {from: counts, type: csv, path: counts.csv}
"""
NOBODY, DAEMON, FEEDERS, OTHERS = 65534, 1, 4242, 4243
REPLY = 18


@unittest.skipUnless(os.geteuid() == 0, "only root can be other users")
class Others(harness.Scenario):
    def start(self, runtime="", source="", sink="", **more):
        os.chmod(self.dir, 0o755)
        self.programs = self.dir / "programs"
        self.programs.mkdir()
        for program in (harness.FEEDER, harness.WATCHER, harness.MEMBER, harness.RINGCTL):
            shutil.copy(program, self.programs)
        self.pipeline = self.run_pipeline(PIPELINE % {
            "schema": stream.SCHEMA, "runtime": runtime, "source": source, "sink": sink}, **more)
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        self.hash = dict(re.findall(r"(\w+)_SCHEMA_HASH UINT64_C\((\w+)\)", header))

    def as_user(self, uid, program, *args, gid=OTHERS, groups=()):
        return subprocess.run([str(self.programs / program), *(str(a) for a in args)], env=self.env, user=uid,
                              group=gid, extra_groups=list(groups), capture_output=True, text=True, cwd="/",
                              stdin=subprocess.DEVNULL, timeout=harness.PATIENCE, check=False)

    def feed(self, uid, count=10, want=0, **who):
        done = self.as_user(uid, "feeder", "p/events", self.hash["EVENT"], uid, count, **who)
        self.assertEqual(done.returncode, want, done.stderr)
        return done.stderr

    def ctl(self, uid, *args, want=0, **who):
        done = self.as_user(uid, "ringctl", *args, **who)
        self.assertEqual(done.returncode, want, (args, done.stdout, done.stderr))
        return done.stdout + done.stderr

    def watch(self, uid, **who):
        """Rows of the ring that are there already; what a refusal says, as second."""
        done = self.as_user(uid, "watcher", "p/counts", self.hash["COUNTS_ROW"], "oldest", "rows", 0, **who)
        return done.returncode, done.stderr

    def join(self, uid, group):
        done = self.as_user(uid, "member", "p/counts", self.hash["COUNTS_ROW"], group, "/dev/null", "leave")
        return done.returncode, done.stderr

    def modes(self):
        return [stat.S_IMODE(os.stat(p).st_mode)
                for p in (self.rundir, self.rundir / "p", self.rundir / "p/socket", self.rundir / "p/lock")]

    def gate(self):
        return self.pipeline.look("status")["gate"]

    def ends(self, count):
        self.pipeline.end()
        rows = harness.rows_of_csv((self.dir / "counts.csv").read_text())
        self.assertEqual(sum(int(row["n"]) for row in rows), count)

    def test_without_a_list_nobody_else_comes_as_far_as_the_socket(self):
        self.start()
        self.assertEqual(self.modes(), [0o700, 0o700, 0o600, 0o600])
        self.assertIn("Permission denied", self.feed(NOBODY, want=1))
        self.ends(0)

    def test_who_opens_the_folders_by_hand_has_let_nobody_in(self):
        self.start()
        for path, mode in ((self.rundir, 0o755), (self.rundir / "p", 0o755), (self.rundir / "p/socket", 0o666)):
            os.chmod(path, mode)
        said = self.feed(NOBODY, want=1)
        self.assertIn("pipeline p runs as user 0 and does not know you, user 65534", said)
        self.assertIn("p.yaml", said)
        self.assertEqual(self.gate()["strangers"], 1)
        self.ends(0)

    def test_a_user_on_a_sources_list_feeds_it_and_does_nothing_else(self):
        nobody = pwd.getpwuid(NOBODY).pw_name
        self.start(source=f", allow: {{users: {nobody}}}")
        self.assertEqual(self.modes(), [0o711, 0o711, 0o666, 0o644])
        self.feed(NOBODY, 1000)
        self.assertIn("does not know you, user 1", self.feed(DAEMON, want=1))
        self.assertIn("only user 0 may look at pipeline p", self.ctl(NOBODY, "status", "p", want=7))
        code, said = self.watch(NOBODY)
        self.assertEqual(code, 1)
        self.assertIn("only user 0 may read the rows of counts: run as that user, or have p.yaml name yours", said)
        gate = self.gate()
        self.assertEqual((gate["strangers"], gate["not_allowed"]), (1, 2))
        self.ends(1000)

    def test_a_group_of_subscribers_is_for_the_user_who_made_it(self):
        self.start(sink=f", allow: {{users: [{NOBODY}, {DAEMON}]}}")
        self.assertEqual(self.join(NOBODY, "work")[0], 0)
        code, said = self.join(DAEMON, "work")
        self.assertEqual(code, 1)
        self.assertIn(f"EACCES: group work of counts belongs to user {NOBODY}, and you are user {DAEMON}", said)
        self.assertEqual(self.join(0, "work")[0], 0)
        self.assertEqual(self.join(DAEMON, "daemons")[0], 0)
        seen = {g["group"]: g["uid"] for g in json.loads(self.ctl(0, "groups", "p", "--json"))["groups"]}
        self.assertEqual(seen, {"work": NOBODY, "daemons": DAEMON})
        code, said = self.join(FEEDERS, "work")
        self.assertEqual(code, 1)
        self.pipeline.end()

    def test_a_group_alone_is_given_folder_and_socket_and_nobody_else_reaches_them(self):
        self.start(source=f", allow: {{groups: {FEEDERS}}}")
        self.assertEqual(self.modes(), [0o711, 0o710, 0o660, 0o640])
        for path in (self.rundir / "p", self.rundir / "p/socket"):
            self.assertEqual(os.stat(path).st_gid, FEEDERS)
        self.feed(NOBODY, 300, gid=FEEDERS)
        self.feed(NOBODY, 400, gid=OTHERS, groups=[5, FEEDERS])
        self.assertIn("Permission denied", self.feed(NOBODY, want=1, gid=OTHERS, groups=[5]))
        self.assertEqual(self.gate()["strangers"], 0)
        self.ends(700)

    def test_one_who_may_look_cannot_steer_and_one_who_may_steer_looks(self):
        daemon = pwd.getpwuid(DAEMON).pw_name
        self.start(runtime=f", view: {{users: {NOBODY}}}, control: {{users: {daemon}, groups: {FEEDERS}}}",
                   sink=f", allow: {{users: {NOBODY}}}")
        self.assertIn("name the pipeline", self.ctl(NOBODY, "status", want=7))
        self.assertIn("pipeline p has no tables", self.ctl(NOBODY, "results", "p", "counts", want=1))
        self.assertIn(f"only its owner may list {self.rundir}; a pipeline whose file lets you look at it is found by "
                      "its name", self.ctl(NOBODY, "ls", want=7))
        for command in ("status", "lanes", "balance"):
            self.ctl(NOBODY, command, "p")
            self.ctl(DAEMON, command, "p")
        self.assertEqual(self.watch(NOBODY), (0, "attached\nhad enough\n"))
        self.assertIn("only user 0 may read the rows of counts, and user 65534 (line 11 of p.yaml)",
                      self.watch(DAEMON)[1])
        for command in ("drain", "stop"):
            said = self.ctl(NOBODY, command, "p", want=7)
            self.assertIn("you are user 65534, and only user 0 may drain, stop or checkpoint pipeline p, and "
                          "user daemon; group 4242 (line 5 of p.yaml)", said)
        self.assertIn("write into source events", self.feed(NOBODY, want=1))
        self.feed(0, 50)
        self.ctl(2, "drain", "p", gid=FEEDERS)
        self.ends(50)

    def test_names_that_are_nobody_are_errors_with_their_place(self):
        path = self.write("p.yaml", PIPELINE % {
            "schema": stream.SCHEMA, "runtime": "", "sink": "", "source": ", allow: {users: rooot, groups: [a b c]}"})
        said = self.ringmill("check", path, want=78).stderr
        self.assertIn("p.yaml:7:", said)
        self.assertIn("allow of source events: there is no user rooot", said)
        self.assertIn("did you mean root?", said)
        self.assertIn("allow of source events: there is no group a b c", said)

    def test_a_folder_above_that_keeps_the_others_out_is_named(self):
        shut = self.dir / "shut"
        shut.mkdir(mode=0o700)
        self.rundir = shut / "run"
        self.env["RINGMILL_RUNDIR"] = str(self.rundir)
        self.start(source=f", allow: {{users: {NOBODY}}}")
        _, err = self.pipeline.end()
        self.assertIn(f"only its owner may pass through {shut}; set RINGMILL_RUNDIR", err)

    def test_what_a_user_may_do_outlives_the_engine(self):
        self.start(runtime=f", view: {{users: {NOBODY}}}", source=f", allow: {{users: {NOBODY}}}")
        self.feed(NOBODY, 10)
        self.pipeline.kill_engine()
        self.pipeline.ctl("status")
        self.assertEqual(self.modes(), [0o711, 0o711, 0o666, 0o644])
        self.feed(NOBODY, 10)
        self.ctl(NOBODY, "status", "p")
        self.assertIn("may drain", self.ctl(NOBODY, "drain", "p", want=7))
        self.pipeline.end()


class Limits(harness.Scenario):
    """For everybody; each is small here, so that it is met."""

    def start(self, limits, runtime="", source=""):
        limits = f", limits: {{{limits}}}" if limits else ""
        self.pipeline = self.run_pipeline(PIPELINE % {
            "schema": stream.SCHEMA, "runtime": runtime + limits, "source": source, "sink": ""})
        header = self.ringmill("gen", "header", self.dir / "p.yaml").stdout
        self.hash = dict(re.findall(r"(\w+)_SCHEMA_HASH UINT64_C\((\w+)\)", header))

    def feeder(self, *more, want=0):
        return self.call(harness.FEEDER, "p/events", self.hash["EVENT"], 3, 10, *more, want=want).stderr

    def test_a_lane_beyond_what_all_may_take_is_refused_and_the_place_comes_free(self):
        self.start("lane_bytes: 4MiB")  # one of the usual size takes some 1.5 MiB
        holding = [self.spawn(harness.FEEDER, "p/events", self.hash["EVENT"], seed, 10, "hold",
                              stdin=subprocess.PIPE) for seed in (1, 2)]
        for feeder in holding:
            self.assertEqual(feeder.stdout.readline(), "attached\n")
        said = self.feeder(want=1)
        self.assertIn("of 4096 KiB for all (runtime.limits.lane_bytes)", said)
        self.assertEqual(self.pipeline.look("status")["gate"]["no_lane"], 1)
        for feeder in holding:
            feeder.communicate("", timeout=harness.PATIENCE)
        harness.until("the lanes to be free", lambda: self.pipeline.look("status")["lanes"] == 0)
        self.feeder()
        self.pipeline.end()

    def connect(self):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(peer.close)
        peer.connect(str(self.rundir / "p/socket"))
        peer.settimeout(harness.PATIENCE)  # after that: one with a timeout would not wait to be let in
        return peer

    def test_who_connects_too_often_is_told_so_and_who_says_nothing_is_hung_up_on(self):
        self.start("attaches: 50, hello: 20ms")
        answers = []

        def some_refused():
            """Unless we are so slow ourselves that it was not too often."""
            answers.extend([peer.recv(1000) for peer in [self.connect() for _ in range(120)]])
            return [a for a in answers if a]

        refused = harness.until("some to be refused", some_refused)
        for said in refused:
            self.assertIn(b"process %d connects more often than 25 times a second, half of what its user %d may "
                          b"(runtime.limits.attaches)" % (os.getpid(), os.geteuid()), said)
        self.assertGreater(len(answers) - len(refused), 0)

        def seen():
            done = subprocess.run([harness.RINGCTL, "status", "p", "--json"], env=self.env, capture_output=True,
                                  text=True, check=False)  # may itself take too long to say what it wants
            return done.returncode == 0 and json.loads(done.stdout)["gate"]

        gate = harness.until("a connection", seen)
        self.assertGreaterEqual(gate["too_often"], len(refused))
        self.assertGreaterEqual(gate["silent"], len(answers) - len(refused))
        self.pipeline.end()

    def test_peers_that_dawdle_hold_nobody_up_and_are_hung_up_on(self):
        self.start("hello: 300ms")
        control = struct.pack("<IHHII", 0x4C4D524D, 1, 3, 24, 0) + b"refresh\0"
        produce = struct.pack("<IHHII48s48sQII", 0x4C4D524D, 3, 1, 128, 0, b"events", b"slow",
                              int(self.hash["EVENT"], 0), 24, 0)
        silent = [self.connect() for _ in range(30)]
        # none of the others is let in before it has said what it says
        self.assertTrue(self.pipeline.signal_engine(signal.SIGSTOP))
        byte_by_byte, halves = [self.connect() for _ in range(10)], [self.connect() for _ in range(10)]
        for peer, hello in zip(byte_by_byte, [control, produce] * 5):
            peer.send(hello[:1])
        for peer, hello in zip(halves, [control, produce] * 5):
            peer.send(hello[:len(hello) // 2])
        self.assertTrue(self.pipeline.signal_engine(signal.SIGCONT))
        self.feeder()  # is served while they are there
        for peer in byte_by_byte + halves:  # a message comes whole, or is none
            self.assertRegex(peer.recv(1000), b"not a message|a message of 64 bytes that says 128")
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(peer.recv(1000), b"")
        for peer in silent:
            self.assertEqual(peer.recv(1000), b"")
        gate = self.pipeline.look("status")["gate"]
        self.assertEqual(gate["nonsense"], 20)
        self.assertGreaterEqual(gate["silent"], 30)  # a feeder and ringctl may themselves be held up, and come again
        self.pipeline.end()

    def test_who_spoke_while_the_engine_stood_still_is_heard_however_long_that_was(self):
        self.start("hello: 2s")
        refresh = struct.pack("<IHHII", 0x4C4D524D, 3, 3, 24, 0) + b"refresh\0"
        fds = f"/proc/{self.pipeline.engine}/fd"

        def hung_up(peers):
            return select.select(peers, [], [], 0)[0]

        def stopped_among_peers():
            """All of them let in, and more than are looked at in one turn; None: that took too long."""
            before = len(os.listdir(fds))
            peers = [self.connect() for _ in range(150)]
            harness.until("all to be let in", lambda: len(os.listdir(fds)) >= before + 150 or hung_up(peers))
            self.pipeline.signal_engine(signal.SIGSTOP)
            if not hung_up(peers):
                return peers
            self.pipeline.signal_engine(signal.SIGCONT)
            return None

        peers = harness.until("the engine to stand still among silent peers", stopped_among_peers)
        for peer in peers:
            peer.send(refresh)
        time.sleep(2.1)  # however long: they are late only for an engine that counts its own time as theirs
        self.pipeline.signal_engine(signal.SIGCONT)
        for peer in peers:
            self.assertEqual(struct.unpack_from("<H", peer.recv(1000), 6), (REPLY,))
        self.pipeline.end()

    def test_who_asks_without_end_is_hung_up_on_and_others_are_served(self):
        self.start("requests: 30")
        peer = self.connect()
        refresh = struct.pack("<IHHII", 0x4C4D524D, 3, 3, 24, 0) + b"refresh\0"
        said = []
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                peer.send(refresh)
                said.append(peer.recv(1000))
        self.assertIn(b"asks more often than 15 times a second, half of what its user", b"".join(said))
        self.assertGreaterEqual(len(said), 15)
        self.pipeline.look("status")  # asks too, as another process
        self.assertLess(len(said), 1000)
        self.feeder()
        self.pipeline.end()

    def test_who_reads_no_answers_holds_nobody_up(self):
        self.start("requests: 1000000")
        peer = self.connect()
        peer.setblocking(False)
        refresh = struct.pack("<IHHII", 0x4C4D524D, 3, 3, 24, 0) + b"refresh\0"
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 5000:  # far more than a socket holds of answers
                with contextlib.suppress(BlockingIOError):
                    peer.send(refresh)
                    sent += 1
        self.feeder()
        harness.until("the feeder's lane to be taken", lambda: self.pipeline.look("status")["lanes"] == 0)
        self.pipeline.end()

    def test_a_process_of_our_own_that_takes_all_it_can_leaves_ringctl_its_place(self):
        self.start("hello: 1h", runtime=", lanes_max: 2")
        answers = []
        for _ in range(330):  # of 322 places
            peer = self.connect()
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                answers.append(peer.recv(1000))
        harness.until("the last to be refused", lambda: self.pipeline.look("status")["gate"]["too_many"] >= 40)
        for said in answers:
            self.assertIn(b"process %d has 290 of the 322 connections that can be open" % os.getpid(), said)
        self.feeder()
        self.pipeline.ctl("drain")
        self.pipeline.end()

    def test_producers_and_subscribers_leave_ringctl_its_place_however_many_processes_they_are(self):
        """Five shared lanes have more numbers than there are places."""
        sources = ", lane: shared}\n".join(f"  s{i}: {{schema: event, event_time: ts" for i in range(5))
        self.start("", runtime=", lanes_max: 100", source=", lane: shared}\n" + sources + ", lane: shared")
        villains = [subprocess.Popen([sys.executable, "-c", VILLAIN, str(self.rundir / "p/socket"), self.hash["EVENT"],
                                      "250"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                    for _ in range(2)]
        for villain in villains:
            self.addCleanup(villain.stdout.close)
            self.addCleanup(villain.communicate)
        said = [json.loads(villain.stdout.readline()) for villain in villains]
        self.assertEqual(sum(attached for attached, _ in said), 420 - 32)
        self.assertIn("388 producers and subscribers are attached, and the other 32 connections that can be open are "
                      "for ringctl: raise runtime.lanes_max", "".join(refused for _, refused in said))
        self.pipeline.look("status")
        self.pipeline.ctl("stop")
        self.pipeline.end()


# Attaches so many producers, to sources s0, s1, ...; how many were let in, and the last refusal.
VILLAIN = """
import json, os, socket, struct, sys
path, schema_hash, count = sys.argv[1], int(sys.argv[2], 0), int(sys.argv[3])
attached, refusal, peers = 0, "", []
for i in range(count):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.connect(path)
    peer.send(struct.pack("<IHHII48s48sQII", 0x4C4D524D, 3, 1, 128, 0, b"s%d" % (i % 5), b"villain", schema_hash, 24, 0))
    data, fds, _, _ = socket.recv_fds(peer, 65536, 64)
    for fd in fds:
        os.close(fd)
    attached += bool(fds)
    if not fds:
        refusal = data.decode(errors="replace")
    peers.append(peer)
print(json.dumps([attached, refusal]), flush=True)
sys.stdin.read()
"""

if __name__ == "__main__":
    harness.main()
