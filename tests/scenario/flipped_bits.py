"""One bit of a state folder is another: `ringmill run` comes up right, or refuses with a sentence that names the damage
and the way out. It never goes on with what is wrong, never crashes and never hangs; nor does `ringctl` that looks.

RML_FLIPS bits are drawn, from RML_SEED; RML_FLIPS=all takes every byte that a checkpoint or the catalog uses.
"""
import json
import os
import random
import shutil

import exactly_once
import harness

SEED = int(os.environ.get("RML_SEED", "20261121"))
FLIPS = os.environ.get("RML_FLIPS", "12")
DAMAGED = ("damaged", "is not what was written", "are not what was written", "does not begin as", "format")


class FlippedBits(exactly_once.Saving):
    def stopped_with_state(self):
        """A pipeline with open windows was stopped, and its folder is put aside."""
        self.start(source=", cells: 4096")
        feeders = self.feeders(1, 2)
        self.until_published(feeders, 300)
        self.end_feeders(feeders)
        self.ringctl("stop", "p")
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        self.kept = self.dir / "kept"
        self.kept.mkdir()
        shutil.copytree(self.dir / "state", self.kept / "state")
        for path in self.dir.glob("*.csv"):
            shutil.copy(path, self.kept)
        return feeders

    def put_back(self):
        shutil.rmtree(self.dir / "state")
        shutil.copytree(self.kept / "state", self.dir / "state")
        for path in self.kept.glob("*.csv"):
            shutil.copy(path, self.dir)

    def flip(self, name, at, bit):
        with open(self.dir / "state" / name, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << bit]))

    def places(self):
        """Bytes that something is in: those of extents, some that nothing needs, and the whole catalog."""
        kept = json.loads(self.ringctl("checkpoint", "list", "./state", "--json").stdout)["checkpoints"]
        used = {}
        for c in kept:
            shown = json.loads(self.ringctl("checkpoint", "show", "./state", c["epoch"], "--json").stdout)
            for part in shown["partitions"]:
                used.update({e["offset"]: e["bytes"] for e in part["extents"]})
        places = [("extents", at + i) for at, count in used.items() for i in range(count)]
        places += [("extents", i) for i in range(64)]
        catalog = (self.dir / "state" / "catalog.mdb").stat().st_size
        return places, [("catalog.mdb", i) for i in range(catalog)] + [("extents", 0)]

    def drawn(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        extents, catalog = self.places()
        if FLIPS == "all":
            some = extents + catalog
        else:
            some = [rng.choice(p) for p in (extents, catalog) for _ in range(int(FLIPS) // 2)]
        return [(name, at, rng.randrange(8)) for name, at in some]

    def look(self):
        """Whoever looks is told, or sees nothing wrong; nobody dies of it."""
        for verb in ("list", "verify"):
            done = harness.subprocess.run([harness.RINGCTL, "checkpoint", verb, "./state"], env=self.env,
                                          cwd=self.dir, capture_output=True, text=True, timeout=harness.PATIENCE,
                                          check=False)
            self.assertIn(done.returncode, (0, 1, 3, 6), (verb, done))
            if done.returncode != 0:
                self.assertNotEqual(done.stderr, "")

    def run_again(self):
        """Run it to a drain, as soon as it is up. What it said when it refused; None: it came up."""
        process = self.spawn(harness.RINGMILL, "run", self.dir / "p.yaml", stdin=harness.subprocess.DEVNULL)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "running: p" in line:
                process.terminate()
        self.assertIn(process.wait(timeout=harness.PATIENCE), (0, 1), lines)
        self.children.remove(process)
        process.stdout.close()
        process.stderr.close()
        if process.returncode == 0:
            return None
        self.assertFalse(any("running: p" in line for line in lines), lines)
        return "".join(lines)

    def test_a_flipped_bit_is_refused_with_the_way_out_or_changes_nothing(self):
        feeders = self.stopped_with_state()
        refused = right = 0
        for name, at, bit in self.drawn():
            with self.subTest(file=name, byte=at, bit=bit):
                self.put_back()
                self.flip(name, at, bit)
                self.look()
                said = self.run_again()
                if said is None:
                    right += 1
                    self.check_all(feeders)
                    continue
                refused += 1
                self.assertTrue(any(word in said for word in DAMAGED), said)
                self.assertIn("state", said)
                self.assertRegex(said, "--fresh|--from|empty state directory|move the folder away")
        print("refused", refused, "right", right)
        self.assertGreater(refused, 0)
        self.put_back()
        self.assertIsNone(self.run_again())
        self.check_all(feeders)


if __name__ == "__main__":
    harness.main()
