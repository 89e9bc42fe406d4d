"""Producers come and go while the engine runs, as many at once as there may be, and no more."""
import struct
import subprocess
import sys

import feeding
import harness
import stream

MANY = 64
ROUNDS = 3
COUNT = 200

# Attaches with the message that it is given, then closes its socket, then ends: a line each.
LEAVER = """
import socket, sys
peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
peer.connect(sys.argv[1])
peer.send(bytes.fromhex(sys.argv[2]))
peer.recv(65536)
print("attached", flush=True)
sys.stdin.readline()
peer.close()
print("left", flush=True)
sys.stdin.readline()
"""


class ManyProducers(feeding.Feeding):
    def refused(self, seed):
        """A producer that is one too many: what it is told."""
        feeder = self.feeder(seed, 1)
        _, err = feeder.communicate(timeout=harness.PATIENCE)
        self.assertEqual(feeder.returncode, 1)
        return err

    def test_64_producers_attach_and_detach_while_the_engine_runs(self):
        self.start(runtime=f", lanes_max: {MANY}", source=", cells: 256")
        for first in range(0, ROUNDS * MANY, MANY):
            some = []
            for seed in range(first, first + MANY):
                feeder = self.feeder(seed, COUNT, "batch", 1 + seed % 50, "wait", -1, "hold")
                some.append(feeder)
            self.attached(*some)
            seen = self.pipeline.look("lanes")["lanes"]
            self.assertEqual({lane["pid"] for lane in seen}, {feeder.pid for feeder in some})
            self.assertEqual(len({lane["lane"] for lane in seen}), MANY)
            said = self.refused(ROUNDS * MANY)
            self.assertIn(f"{MANY} producers are attached, as many as runtime.lanes_max allows", said)
            for feeder in some:
                self.assertEqual(self.written(feeder), (COUNT, 0))
            for feeder in some:
                feeder.stdin.close()
            for feeder in some:
                self.assertEqual(feeder.wait(timeout=harness.PATIENCE), 0)
            self.until_free()
        source, = self.pipeline.look("status")["sources"]
        self.assertEqual((source["lanes_gone"], source["published"], source["taken"]),
                         (ROUNDS * MANY, ROUNDS * MANY * COUNT, ROUNDS * MANY * COUNT))
        self.pipeline.end()
        wanted = [r for seed in range(ROUNDS * MANY) for r in stream.events(seed, COUNT)]
        self.assertEqual(self.records(), wanted)
        self.check_windows(wanted)

    def test_a_place_that_was_left_is_taken_by_the_next(self):
        self.start(runtime=", lanes_max: 2")
        first, second = (self.feeder(seed, COUNT, "hold") for seed in (1, 2))
        self.attached(first, second)
        self.assertIn("2 producers are attached", self.refused(3))
        self.written(first)
        self.ends(first)
        harness.until("a lane to be freed", lambda: self.pipeline.look("status")["lanes"] == 1)
        third = self.feeder(3, COUNT, "hold")
        self.attached(third)
        self.assertIn("2 producers are attached", self.refused(4))
        for feeder in (second, third):
            self.written(feeder)
            self.ends(feeder)
        self.until_free()
        self.pipeline.end()
        self.assertEqual(self.records(),
                         [r for seed in (1, 2, 3) for r in stream.events(seed, COUNT)])

    def test_who_comes_in_the_place_of_a_dying_producer_is_let_in(self):
        """A producer leaves, another comes, the first one's process ends: all before the engine looks."""
        self.start()
        hello = struct.pack("<IHHII48s48sQII", 0x4C4D524D, 3, 1, 128, 0, b"events", b"leaver",
                            int(self.hash, 0), 24, 0)
        leaver = self.spawn(sys.executable, "-c", LEAVER, self.rundir / "p" / "socket", hello.hex(),
                            stdin=subprocess.PIPE)
        self.attached(leaver)
        self.stand_still()
        self.go(leaver)
        self.assertEqual(leaver.stdout.readline(), "left\n")
        comer = self.feeder(1, COUNT)
        self.until_asleep(comer)
        self.go(leaver)
        leaver.wait(timeout=harness.PATIENCE)
        self.go_on()
        self.attached(comer)
        self.written(comer)
        self.ends(comer)
        self.until_free()
        self.pipeline.end()
        self.assertEqual(self.records(), stream.events(1, COUNT))


if __name__ == "__main__":
    harness.main()
