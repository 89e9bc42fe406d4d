"""What a producer published is in the results once, however and whenever the producer dies."""
import random
import signal

import feeding
import harness
import stream

SEED = 20261121
VICTIMS = 100
AT_ONCE = 5
ENDLESS = 1 << 31


class Victims(feeding.Feeding):
    def draw(self, rng):
        """How a victim writes, and when it dies."""
        how = ["keys", rng.choice([1, 3, 8]), "batch", rng.choice([1, 7, 64, 300]),
               "pause", rng.choice([0, 1, 50]), "wait", -1]
        if rng.random() < 0.5:
            how.append("in-place")
        if rng.random() < 0.15:
            return how + ["early", "die", rng.randrange(1, 5_000_000)]
        return how + ["die", rng.randrange(1, 3_000_000)]

    def check_prefix(self, victim, keys, came):
        """Of each key the first so many records came: all that were published, none that was not begun."""
        begun, published = self.progress(victim)
        made = stream.events(victim.seed, begun, keys)
        left = len(came)
        for key in {r["key"] for r in made}:
            mine = [r for r in made if r["key"] == key]
            got = [r for r in came if r["key"] == key]
            self.assertEqual(got, mine[:len(got)])
            self.assertGreaterEqual(len(got), sum(r["key"] == key for r in made[:published]))
            left -= len(got)
        self.assertEqual(left, 0)


class KilledProducers(Victims):
    def test_what_a_producer_published_before_sigkill_is_in_the_results_once(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        self.start(source=", cells: 512")
        honest = self.feeder(0, 30_000, "wait", -1, "pause", 100, "hold")
        self.attached(honest)
        victims = []
        for first in range(1, VICTIMS + 1, AT_ONCE):
            some = []
            for seed in range(first, first + AT_ONCE):
                how = self.draw(rng)
                victim = self.feeder(seed, ENDLESS, *how)
                victim.keys = how[1]
                some.append(victim)
            for victim in some:
                victim.wait(timeout=harness.PATIENCE)
                self.assertEqual(victim.returncode, -signal.SIGKILL, victim.stderr.read())
            victims += some
        self.assertEqual(self.written(honest), (30_000, 0))
        self.ends(honest)
        self.until_free()

        source, = self.pipeline.look("status")["sources"]
        self.assertEqual(source["published"], source["taken"])
        balance = self.pipeline.look("balance")
        self.assertTrue(balance["adds_up"])
        self.pipeline.end()

        came = self.records()
        self.assertEqual(len(came), source["published"])
        by_seed = {}
        for record in came:
            by_seed.setdefault(record["id"] >> 32, []).append(record)
        self.assertEqual(by_seed.pop(0), stream.events(0, 30_000))
        died_writing = 0
        for victim in victims:
            with self.subTest(seed=victim.seed):
                died_writing += self.progress(victim)[1] > 0
                self.check_prefix(victim, victim.keys, by_seed.pop(victim.seed, []))
        self.assertEqual(by_seed, {})
        self.assertGreater(died_writing, VICTIMS // 2)
        self.check_windows(came)


if __name__ == "__main__":
    harness.main()
