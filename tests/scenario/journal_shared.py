"""Producers that share a lane whose source has a journal: what was taken is in the results once, whoever is killed."""
import os

import exactly_once
import harness
import hardships
import journal
import shared_lanes

ROUNDS = int(os.environ.get("RML_ROUNDS", "4"))
KEYS = 4


class SharedJournal(journal.Journal, shared_lanes.Sharing):
    def start_shared(self, runtime):
        self.start_journaled(runtime, "true, lane: shared")

    def live(self, life):
        """Feed for a while, with some of the producers killed, and perhaps the engine. Those that are left."""
        seeds = [20 * life + s for s in range(1, 5)]
        feeders = [self.feeder(seed, exactly_once.ENDLESS, "keys", KEYS, "batch", (1, 16, 64, 7)[seed % 4],
                               "pause", (999, 3000, 9999)[seed % 3], "wait", -1, "until-told") for seed in seeds]
        self.attached(*feeders)
        self.until_published(feeders, 1 + self.rng.randrange(200))
        self.kills = self.rng.randrange(3)
        victim = feeders[self.rng.randrange(4)]
        victim.kill()
        victim.wait()
        for kill in range(self.kills):
            self.kill_engine()
            self.until_back(kill + 1)
        self.until_published([f for f in feeders if f is not victim], 300)
        return feeders, victim

    def lives(self, runtime):
        self.rng = self.drawn()
        before, taken = [], 0
        for life in range(ROUNDS):
            self.start_shared(runtime)
            self.assertGreaterEqual(self.source()["taken"], taken)
            feeders, _ = self.live(life)
            taken, shown = self.source()["taken"], self.lines()
            self.assertEqual(self.restarts(), self.kills)  # none died but by our hand
            self.kill_all()
            for feeder in feeders:
                feeder.wait() if feeder.stdin.closed else feeder.communicate("", timeout=harness.PATIENCE)
            before.append((feeders, shown, taken))
        self.start_shared(runtime)
        self.assertGreaterEqual(self.source()["taken"], taken)
        last, victim = self.live(ROUNDS)
        left = [f for f in last if f is not victim]
        self.end_feeders(left)
        self.until_quiet()
        # what lanes call taken may be on its way to the journal, and the doors are counted behind that
        harness.until("the balance to add up", lambda: self.pipeline.look("balance")["adds_up"])
        self.pipeline.end()
        self.check_lives(before, left, victim)

    def until_quiet(self):
        def is_quiet():
            lanes = self.pipeline.look("lanes")["lanes"]
            return all(lane["producers"] == 0 and lane["published"] == lane["taken"] for lane in lanes)

        harness.until("all that was published to be taken", is_quiet)

    def check_lives(self, before, left, victim):
        came = self.records()
        self.assertEqual(len({r["id"] for r in came}), len(came))
        there, count = self.lines(), 0
        for feeders, shown, taken in before:
            for name, lines in shown.items():
                self.assertEqual(lines - there[name], set())
            count += sum(len(self.came_of(feeder, came)) for feeder in feeders)
            self.assertGreaterEqual(count, taken)
        for feeder in left:
            self.assertEqual(len(self.came_of(feeder, came)), self.progress(feeder)[1])
        self.assertGreaterEqual(len(self.came_of(victim, came)), self.progress(victim)[1])
        self.check_windows(came)


class PowerAway(SharedJournal):
    def test_what_was_taken_of_a_shared_lane_is_there_once_when_keeper_and_engine_are_killed(self):
        self.lives(exactly_once.RUNTIME)

    def test_so_it_is_where_there_never_was_a_checkpoint(self):
        self.lives(hardships.NEVER)


if __name__ == "__main__":
    harness.main()
