"""What a producer is promised when its lane is full: `on_full: block` and `on_full: drop_newest`."""
import time

import feeding
import harness
import stream

CELLS = 256
COUNT = 20 * CELLS


class FullLanes(feeding.Feeding):
    def test_block_waits_for_an_engine_that_stands_still_and_loses_nothing(self):
        self.start(source=f", cells: {CELLS}")
        for how in (["in-place"], ["batch", 1000]):
            seed = len(how)
            with self.subTest(how=how):
                feeder = self.feeder(seed, COUNT, "keys", 1, "wait", -1, "gate", "hold", *how)
                self.attached(feeder)
                self.stand_still()
                self.go(feeder)
                self.until_asleep(feeder)
                self.assertEqual(self.progress(feeder)[0], CELLS + 1)
                self.go_on()
                self.assertEqual(self.written(feeder), (COUNT, 0))
                self.ends(feeder)
        self.until_free()
        self.pipeline.end()
        wanted = stream.events(1, COUNT, 1) + stream.events(2, COUNT, 1)
        self.assertEqual(self.records(), wanted)
        self.check_windows(wanted)

    def test_block_waits_no_longer_than_it_was_told_to(self):
        self.start(source=f", cells: {CELLS}")
        wait_ns = 150_000_000
        feeder = self.feeder(1, COUNT, "keys", 1, "wait", wait_ns, "gate", "hold")
        self.attached(feeder)
        self.stand_still()
        since = time.monotonic_ns()
        self.go(feeder)
        self.assertEqual(self.written(feeder), (CELLS, 0))
        self.assertGreaterEqual(time.monotonic_ns() - since, wait_ns)
        self.go_on()
        self.assertIn("Connection timed out", self.ends(feeder, want=1))
        self.until_free()
        self.pipeline.end()
        self.assertEqual(self.records(), stream.events(1, CELLS, 1))

    def test_drop_newest_never_waits_and_counts_what_it_drops(self):
        self.start(source=f", cells: {CELLS}, on_full: drop_newest")
        feeders = [self.feeder(seed, COUNT, "keys", 1, "gate", "hold", *how)
                   for seed, how in ((1, []), (2, ["in-place"]))]
        self.attached(*feeders)
        self.stand_still()
        self.go(*feeders)
        for feeder in feeders:
            self.assertEqual(self.written(feeder), (CELLS, COUNT - CELLS))
        self.go_on()
        self.until_taken(2 * CELLS)
        source, = self.pipeline.look("status")["sources"]
        self.assertEqual(source["dropped"], 2 * (COUNT - CELLS))
        self.assertEqual(source["published"] + source["dropped"], 2 * COUNT)
        for feeder in feeders:
            self.ends(feeder)
        self.until_free()
        balance = self.pipeline.look("balance")
        self.assertEqual((balance["sources"][0]["dropped"], balance["adds_up"]),
                         (2 * (COUNT - CELLS), True))
        _, err = self.pipeline.end()
        self.assertIn(f"dropped for want of room {2 * (COUNT - CELLS)}", err)
        wanted = stream.events(1, CELLS, 1) + stream.events(2, CELLS, 1)
        self.assertEqual(self.records(), wanted)
        self.check_windows(wanted)

    def test_what_is_dropped_while_the_engine_runs_is_offered_less_what_came(self):
        self.start(source=", cells: 64, on_full: drop_newest")
        feeders = [self.feeder(seed, 50_000, "keys", 5, "batch", seed * 7) for seed in (1, 2, 3)]
        self.attached(*feeders)
        written = dropped = 0
        for feeder in feeders:
            wrote, lost = self.written(feeder)
            self.assertEqual(wrote + lost, 50_000)
            written, dropped = written + wrote, dropped + lost
            self.ends(feeder)
        self.until_free()
        source, = self.pipeline.look("status")["sources"]
        self.assertEqual((source["published"], source["taken"], source["dropped"]),
                         (written, written, dropped))
        self.pipeline.end()
        came = self.records()
        self.assertEqual(len({r["id"] for r in came}), written)
        made = {r["id"]: r for seed in (1, 2, 3) for r in stream.events(seed, 50_000, 5)}
        self.assertEqual([made[r["id"]] for r in came], came)


if __name__ == "__main__":
    harness.main()
