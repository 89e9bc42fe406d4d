"""Lanes that hold less than comes between two checkpoints, while engines are killed: producers wait or drop, as the
file says; what was published is in the results once, and what was dropped is counted once."""
import os
import random
import time

import exactly_once
import feeding
import harness
import restarts
import stream

SEED = int(os.environ.get("RML_SEED", "20261121"))
KILLS = 10
SELDOM = ", state: ./state, checkpoint: {every: 1h, min_pause: %s}"


class SmallLanes(exactly_once.Saving):
    def start_with(self, runtime, source):
        super(restarts.Restarts, self).start(runtime=runtime, source=source, args=restarts.OFTEN)

    def kill_some(self, kills=KILLS):
        rng = random.Random(SEED)
        print("seed", SEED)
        for _ in range(kills):
            time.sleep(rng.random() * 0.05)  # no moment is a particular one
            self.kill_engine()
        self.until_back(kills)

    def until_freed(self):
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)

    def test_a_lane_that_is_half_full_has_a_checkpoint_taken_long_before_one_is_due(self):
        self.start_with(SELDOM % "1ms", ", cells: 64")
        feeders = self.feeders(1, 2, 3, 4)
        self.until_published(feeders, 300)  # some times what a lane holds
        self.kill_some()
        self.until_published(feeders, 500)
        self.end_feeders(feeders)
        self.until_freed()
        self.assertTrue(self.pipeline.look("balance")["adds_up"])
        self.pipeline.end()
        self.check_all(feeders)

    def test_where_none_may_be_taken_yet_producers_wait_and_nothing_is_lost(self):
        self.start_with(SELDOM % "1h", ", cells: 64")
        feeders = self.feeders(1, 2)
        harness.until("producers to wait", lambda: all(
            self.waits_in(f.pid, (feeding.SYS_PPOLL,)) for f in feeders))
        self.kill_some()
        before = [self.progress(f)[1] for f in feeders]
        for _ in range(20):  # each makes room for as much as lanes hold
            self.ringctl("checkpoint", "now", "p")
        harness.until("producers to use the room", lambda: all(
            self.progress(f)[1] > max(b, 64) for f, b in zip(feeders, before)))
        drained = self.spawn(harness.RINGCTL, "drain", "p")  # a drain closes lanes, also to who waits
        self.pipeline.process.wait(timeout=harness.PATIENCE)
        self.assertEqual(drained.wait(timeout=harness.PATIENCE), 0)
        for feeder in feeders:
            feeder.communicate("", timeout=harness.PATIENCE)
        came = self.records()
        ids = {r["id"] for r in came}
        self.assertEqual(len(ids), len(came))
        for feeder in feeders:
            self.assertTrue(ids.issuperset((feeder.seed << 32) + i for i in range(self.progress(feeder)[1])))
        self.check_windows(came)

    def test_what_is_dropped_is_counted_once_however_often_the_engine_is_killed(self):
        self.start_with(exactly_once.RUNTIME, ", cells: 64, on_full: drop_newest")
        feeders = [self.feeder(seed, 1 << 31, "keys", 3, "batch", 40, "pause", 500, "until-told", "hold")
                   for seed in (1, 2, 3)]
        self.attached(*feeders)
        for feeder in feeders[:1]:  # one that leaves before the others, and is counted as gone
            self.until_published(feeders, 500)
            feeder.stdin.close()
            wrote, dropped = self.written(feeder)
            feeder.wait(timeout=harness.PATIENCE)
        self.kill_some()
        harness.until("some to be dropped", lambda: self.pipeline.look("status")["sources"][0]["dropped"] > 0)
        for feeder in feeders[1:]:
            feeder.stdin.close()
            more, lost = self.written(feeder)
            feeder.wait(timeout=harness.PATIENCE)
            wrote, dropped = wrote + more, dropped + lost
        self.until_freed()
        source, = self.pipeline.look("status")["sources"]
        self.assertEqual((source["published"], source["taken"], source["dropped"]), (wrote, wrote, dropped))
        self.assertGreater(dropped, 0)
        balance = self.pipeline.look("balance")
        self.assertEqual((balance["sources"][0]["dropped"], balance["adds_up"]), (dropped, True))
        self.pipeline.end()
        came = self.records()
        self.assertEqual(len({r["id"] for r in came}), wrote)
        self.assertEqual(len(came), wrote)
        made = {e["id"]: e for f in feeders for e in stream.events(f.seed, self.progress(f)[0], 3)}
        self.assertEqual([made[r["id"]] for r in came], came)
        self.check_windows(came)


class Changed(exactly_once.Saving):
    def stop(self):
        self.ringctl("stop", "p")
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)

    def live(self, *seeds):
        feeders = self.feeders(*seeds)
        self.until_published(feeders, 200)
        self.end_feeders(feeders)
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        return feeders

    def test_a_run_that_begins_anew_has_nothing_of_the_one_before(self):
        self.start()
        self.live(1, 2)
        self.stop()
        super(restarts.Restarts, self).start(runtime=exactly_once.RUNTIME, args=(*restarts.OFTEN, "--fresh"))
        second = self.live(3, 4)
        self.kill_engine()
        self.until_back(1)  # nor does an engine of that run begin anew once more
        third = self.live(1)
        self.pipeline.end()
        self.check_all(second + third)

    def test_a_run_whose_file_was_changed_is_refused_and_the_state_is_as_it_was(self):
        self.start()
        first = self.live(1, 2)
        self.stop()
        text = (self.dir / "p.yaml").read_text()
        for what, by, named in (("partitions: 3", "partitions: 2", "partitions"), ("size: 1s}, aggregate: {n: count(), total: sum(value), low",
                                 "size: 2s}, aggregate: {n: count(), total: sum(value), low", "sums")):
            self.assertIn(what, text)
            said = self.ringmill("run", self.write("p.yaml", text.replace(what, by)), want=1).stderr
            self.assertIn(named, said)
            self.assertIn("--fresh", said)
            self.assertEqual(self.left_behind(), [])
        self.start()
        second = self.live(3, 4)
        self.pipeline.end()
        self.check_all(first + second)


if __name__ == "__main__":
    harness.main()
