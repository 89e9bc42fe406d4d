"""Producers come and go while the engine runs, as many at once as there may be, and no more."""
import feeding
import harness
import stream

MANY = 64
ROUNDS = 3
COUNT = 200


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


if __name__ == "__main__":
    harness.main()
