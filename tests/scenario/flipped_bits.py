"""One bit of a state folder is another: `ringmill run` comes up right, or refuses with a sentence that names the damage
and the way out. It never goes on with what is wrong, never crashes and never hangs; nor does `ringctl` that looks. Under
an engine that runs, what comes out is right, or the damage is said and found by `ringctl checkpoint verify`.

RML_FLIPS bits are drawn for that, and RML_LIVES for this, from RML_SEED; RML_FLIPS=all takes every byte that a checkpoint or the catalog uses.
"""
import collections
import fcntl
import json
import os
import random
import shutil
import struct
import subprocess

import exactly_once
import harness
import tables

SEED = int(os.environ.get("RML_SEED", "20261121"))
FLIPS = os.environ.get("RML_FLIPS", "12")
LIVES = int(os.environ.get("RML_LIVES", "5"))
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

    def epochs(self):
        """Of the checkpoints that are kept, the newest one last."""
        kept = json.loads(self.ringctl("checkpoint", "list", "./state", "--json").stdout)["checkpoints"]
        return [c["epoch"] for c in kept]

    def extents(self, epoch):
        shown = json.loads(self.ringctl("checkpoint", "show", "./state", epoch, "--json").stdout)
        return [e for part in shown["partitions"] for e in part["extents"]]

    def places(self):
        """Bytes that something is in: those of extents, some that nothing needs, and the whole catalog."""
        used = {}
        for epoch in self.epochs():
            used.update({e["offset"]: e["bytes"] for e in self.extents(epoch)})
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
        needed = ("extents", self.extents(self.epochs()[-1])[0]["offset"], 3)
        for name, at, bit in [needed] + self.drawn():
            with self.subTest(file=name, byte=at, bit=bit):
                self.put_back()
                self.flip(name, at, bit)
                self.look()
                said = self.run_again()
                if said is None:
                    self.assertNotEqual((name, at, bit), needed)
                    right += 1
                    self.check_all(feeders)
                    continue
                refused += 1
                self.assertTrue(any(word in said for word in DAMAGED), said)
                self.assertIn("state", said)
                self.assertRegex(said, "--fresh|--from|empty state directory|move the folder away")
        print("refused", refused, "right", right)
        self.put_back()
        self.assertIsNone(self.run_again())
        self.check_all(feeders)


class Running(tables.Tables):
    """A bit is flipped while checkpoints are taken, with tables."""

    def start_said(self):
        with open(self.dir / "said", "w") as said:
            super(exactly_once.restarts.Restarts, self).start_text(
                tables.PIPELINE % (tables.stream.SCHEMA, tables.OFTEN, ""), stderr=said)

    def fresh(self):
        for path in list(self.dir.glob("*.csv")) + list(self.dir.glob("*.jsonl")):
            path.unlink()
        shutil.rmtree(self.dir / "state", ignore_errors=True)

    def words(self):
        return (self.dir / "said").read_text()

    def runs(self):
        return self.pipeline.process.poll() is None

    def saves(self):
        """Of an engine that may just be dying; or None."""
        done = subprocess.run([harness.RINGCTL, "status", "p", "--json"], env=self.env, cwd=self.dir,
                              capture_output=True, text=True, timeout=harness.PATIENCE, check=False)
        return json.loads(done.stdout)["checkpoints"] if done.returncode == 0 else None

    def until_it_matters(self):
        """Some checkpoints more, or one that fails, or the end of it."""
        first = harness.until("it to answer, or to be over", lambda: not self.runs() or self.saves())

        def some_more():
            if not self.runs():
                return True
            now = self.saves()
            return now and (now["durable"] >= first["durable"] + 6 or now["failed"] > first["failed"])

        harness.until("checkpoints, or why there are none", some_more)

    def flip(self, rng):
        """In the catalog, or in what the newest checkpoint is made of."""
        name, at = "catalog.mdb", None
        if rng.random() < 0.4:
            done = subprocess.run([harness.RINGCTL, "checkpoint", "show", "p", "--json"], env=self.env, cwd=self.dir,
                                  capture_output=True, text=True, timeout=harness.PATIENCE, check=False)
            if done.returncode == 0:
                extents = [e for p in json.loads(done.stdout)["partitions"] for e in p["extents"]]
                extent = rng.choice(extents)
                name, at = "extents", extent["offset"] + rng.randrange(extent["bytes"])
        path = self.dir / "state" / name
        at = rng.randrange(path.stat().st_size) if at is None else at
        bit = rng.randrange(8)
        fd = os.open(path, os.O_RDWR)
        byte = os.pread(fd, 1, at)
        os.pwrite(fd, bytes([byte[0] ^ 1 << bit]), at)
        os.close(fd)
        return name, at, bit

    def look(self):
        """Whoever looks is told, or sees nothing wrong; nobody dies of it. Returns what verify says."""
        for words in (("checkpoint", "list"), ("results",), ("checkpoint", "verify")):
            done = subprocess.run([harness.RINGCTL, *words, "./state"], env=self.env, cwd=self.dir,
                                  capture_output=True, text=True, timeout=harness.PATIENCE, check=False)
            self.assertIn(done.returncode, (0, 1, 3, 6), (words, done))
            if done.returncode != 0:
                self.assertNotEqual(done.stderr, "")
        return done

    def live_with_a_flip(self, rng):
        self.fresh()
        self.start_said()
        feeder = self.feed()
        self.until_published([feeder], 3000)
        harness.until("checkpoints", lambda: (self.saves() or {"durable": 0})["durable"] > 8)
        where = self.flip(rng)
        self.until_it_matters()
        self.look()
        if self.runs() and rng.random() < 0.6:
            dead = self.pipeline.signal_engine()
            harness.until("the next one, or the end", lambda: not self.runs() or self.pipeline.engine not in (0, dead))
        feeder.stdin.close()
        harness.until("the feeder to end, or not to", lambda: feeder.poll() is not None or not self.runs()
                      or (self.saves() or {"failed": 0})["failed"] > 0)
        if self.runs():
            self.pipeline.process.terminate()
            if feeder.poll() is None:
                harness.until("it to drain", lambda: "draining" in self.words() or not self.runs())
                self.pipeline.process.terminate()  # what has failed for good is tried no more
        code = self.pipeline.process.wait(timeout=harness.PATIENCE)
        feeder.wait(timeout=harness.PATIENCE)
        for child in (feeder, self.pipeline.process):
            self.children.remove(child)
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        return where, code, feeder

    def check_life(self, code, feeder):
        """Right, or said. Returns which."""
        words, verified = self.words(), self.look()
        if code != 0:
            self.assertTrue(any(word in words for word in DAMAGED), words)
            return "refused"
        made = tables.stream.events(feeder.seed, self.progress(feeder)[1], 9, disorder_ns=16_000_000)
        self.assertEqual(self.records(), made)
        if verified.returncode != 0:
            self.assertTrue(any(word in verified.stderr for word in DAMAGED + ("can be found", "is not there")), verified.stderr)
            return "found"
        self.check_tables(self.tables(), tables.as_table(self.file_rows()))
        return "right"

    def lead_out(self):
        """The root of the catalog's main tree is a page within its map and behind the file's end."""
        path = self.dir / "state" / "catalog.mdb"
        with open(path, "r+b") as file:
            for page in (0, 4096):
                file.seek(page + 128)  # md_root, then mm_last_pg
                file.write(struct.pack("=QQ", 15000, 16000))
        self.assertLess(path.stat().st_size, 15000 * 4096)

    def test_a_catalog_that_leads_out_of_its_file_ends_a_look_with_a_sentence(self):
        self.fresh()
        self.start_said()
        feeder = self.feed()
        harness.until("checkpoints", lambda: (self.saves() or {"durable": 0})["durable"] > 3)
        self.ringctl("stop", "p")
        feeder.wait(timeout=harness.PATIENCE)
        self.pipeline.process.wait(timeout=harness.PATIENCE)
        self.lead_out()
        looks = (("checkpoint", "list"), ("checkpoint", "verify"), ("results",), ("results", "all"), ("doctor",))
        with open(self.dir / "state" / "extents", "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # as an engine does
            for words in looks:
                where = ("./state", *words[1:]) if words[0] == "results" else (*words[1:], "./state")
                said = self.ringctl(words[0], *where, want=1).stderr
                self.assertIn("./state: reading its catalog led out of the file: it is damaged", said)
        for words in looks[:3]:  # nobody writes it, so it is looked through before
            where = ("./state", *words[1:]) if words[0] == "results" else (*words[1:], "./state")
            done = subprocess.run([harness.RINGCTL, words[0], *where], env=self.env, cwd=self.dir, capture_output=True,
                                  text=True, timeout=harness.PATIENCE, check=False)
            self.assertIn("is damaged: page", done.stderr, done)

    def test_a_flip_under_an_engine_that_runs_is_said_or_found_or_changes_nothing(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        became = collections.Counter()
        for _ in range(LIVES):
            where, code, feeder = self.live_with_a_flip(rng)
            with self.subTest(where=where, code=code):
                became[self.check_life(code, feeder)] += 1
        print(dict(became))
        self.assertEqual(sum(became.values()), LIVES)


if __name__ == "__main__":
    harness.main()
