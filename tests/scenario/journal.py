"""With a journal, nothing that a pipeline has taken is lost, though its keeper dies with it."""
import os
import signal

import exactly_once
import harness
import hardships

ROUNDS = int(os.environ.get("RML_ROUNDS", "6"))
OFTEN = exactly_once.RUNTIME
NEVER = hardships.NEVER


class Journal(hardships.Hardships):
    def start_journaled(self, runtime=OFTEN, journal="true"):
        super(exactly_once.restarts.Restarts, self).start(runtime=runtime, source=f", journal: {journal}",
                                                         args=exactly_once.restarts.OFTEN)

    def source(self):
        def look():
            try:
                return self.pipeline.look("status")["sources"][0]
            except AssertionError:
                return None  # an engine that is just coming up does not answer

        return harness.until("the engine to answer", look)

    def lines(self):
        """What files hold, whole lines alone."""
        return {name: {line for line in (self.dir / name).read_text().splitlines(True) if line.endswith("\n")}
                for name in ("records.csv", "windows.csv")}

    def kill_all(self):
        """The keeper and the engine, at one moment as far as one process can see."""
        engine, keeper = self.pipeline.engine, self.pipeline.process
        victims = [engine, keeper.pid]
        self.rng.shuffle(victims)
        for pid in victims:
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # the one before it took it along
        keeper.wait()

    def live(self, life, seeds=(1, 2, 3)):
        """Feed for a while, with kills of the engine alone mixed in. The feeders, which still do."""
        feeders = [self.feeder(10 * life + s, exactly_once.ENDLESS, "keys", 4, "batch", (1, 16, 300)[s % 3],
                               "pause", (50, 200, 3000)[s % 3], "wait", -1, "until-told") for s in seeds]
        self.attached(*feeders)
        self.until_published(feeders, 1 + self.rng.randrange(2000))
        if self.rng.random() < 0.5:
            self.kill_engine()
        return feeders

    def lives(self, runtime, rounds):
        """Lives that end in a kill of all, and one that does not."""
        self.rng = self.drawn()
        before, taken = [], 0
        for life in range(rounds):
            self.start_journaled(runtime)
            # What an earlier life had taken, and had shown to anybody, is there again.
            self.assertGreaterEqual(self.source()["taken"], taken)
            feeders = self.live(life)
            taken = self.source()["taken"]
            shown = self.lines()
            self.kill_all()
            for feeder in feeders:
                feeder.communicate("", timeout=harness.PATIENCE)
            before.append((feeders, shown, taken))
        self.start_journaled(runtime)
        self.assertGreaterEqual(self.source()["taken"], taken)
        last = self.live(rounds)
        self.end_feeders(last)
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        self.assertTrue(self.pipeline.look("balance")["adds_up"])
        self.pipeline.end()
        self.check_lives(before, last)

    def check_lives(self, before, last):
        came = self.records()
        self.assertEqual(len({r["id"] for r in came}), len(came))
        there = self.lines()
        count = 0
        for feeders, shown, taken in before:
            for name, lines in shown.items():
                self.assertEqual(lines - there[name], set())
            count += sum(len(self.came_of(feeder, came)) for feeder in feeders)
            self.assertGreaterEqual(count, taken)
        for feeder in last:
            self.assertEqual(len(self.came_of(feeder, came)), self.progress(feeder)[1])
        self.check_windows(came)


class PowerAway(Journal):
    def test_what_was_taken_is_in_the_results_once_when_keeper_and_engine_are_killed(self):
        self.lives(OFTEN, ROUNDS)

    def test_so_it_is_where_there_never_was_a_checkpoint(self):
        self.lives(NEVER, max(2, ROUNDS // 2))


if __name__ == "__main__":
    harness.main()
