"""What `ringctl checkpoint` says of a state folder is what lies there."""
import errno
import json
import os
import random
import resource
import shutil
import signal
import time

import feeding
import harness

SEED = 20261121
RUNTIME = ", state: ./state, checkpoint: {every: %s, min_pause: 1ms}"


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Checkpoints(feeding.Feeding):
    def start_saving(self, every="20ms"):
        self.start(runtime=RUNTIME % every)
        return self.feeder(1, 1 << 31, "keys", 50, "batch", 64, "pause", 2000, "wait", -1, "until-told")

    def start_asking(self):
        """No checkpoint but those that are asked for: it would be long before a lane is half full."""
        self.start(runtime=RUNTIME % "1h", source=", cells: 1048576")
        return self.feeder(1, 1 << 31, "keys", 50, "batch", 64, "pause", 20000, "wait", -1, "until-told")

    def stop_with_state(self):
        """A pipeline that has run for some checkpoints, and was stopped."""
        feeder = self.start_saving()
        self.attached(feeder)
        self.until_epoch(5)
        self.ringctl("stop", "p")
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        feeder.kill()

    def checkpoint(self, verb, what, *more, want=0):
        return json.loads(self.ringctl("checkpoint", verb, "--json", what, *more, want=want).stdout)

    def until_epoch(self, least):
        def newest():
            kept = self.checkpoint("list", "p")["checkpoints"]
            return kept and kept[-1]["epoch"] >= least
        harness.until(f"checkpoint {least}", newest)

    def shown(self):
        """All that are kept, by epoch, as `show` has them."""
        kept = self.checkpoint("list", "./state")["checkpoints"]
        return {c["epoch"]: self.checkpoint("show", "./state", c["epoch"]) for c in kept}

    def bytes_of(self, extent):
        with open(self.dir / "state" / "extents", "rb") as file:
            file.seek(extent["offset"])
            return file.read(extent["bytes"])

    def flip(self, at, bit):
        with open(self.dir / "state" / "extents", "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << bit]))

    def test_checkpoints_of_a_running_pipeline_are_found_by_its_name(self):
        before_ns = time.time_ns()
        feeder = self.start_saving()
        self.attached(feeder)
        self.until_epoch(3)
        seen = self.checkpoint("list", "p")
        self.assertEqual((seen["schema"], seen["pipeline"], seen["folder"]),
                         ("ringctl.checkpoint-list/1", "p", str((self.dir / "state").resolve())))
        kept = seen["checkpoints"]
        self.assertGreaterEqual(len(kept), 2)
        epochs = [c["epoch"] for c in kept]
        self.assertEqual(epochs, list(range(epochs[0], epochs[-1] + 1)))
        for c in kept:
            self.assertFalse(c["damaged"])
            self.assertEqual(c["partitions"], 3)
            self.assertTrue(before_ns <= c["at_ns"] <= time.time_ns(), c)
            self.assertTrue(0 < c["own_bytes"] <= c["bytes"], c)
        self.until_epoch(epochs[-1] + 2)  # it was not held up
        self.assertIn("EPOCH", self.ringctl("checkpoint", "list").stdout)  # the only one that runs
        self.assertIn("PARTITION", self.ringctl("checkpoint", "show", "p").stdout)
        self.assertIn("checkpoint 999999 is not kept",
                      self.ringctl("checkpoint", "show", "999999", want=3).stderr)

        def verified():
            """How many were read to their end: all are dropped where the engine is much faster than who reads."""
            read = self.checkpoint("verify", "p")["checkpoints"]
            self.assertTrue(all(c["damages"] == [] for c in read), read)
            return sum(not c["dropped"] for c in read)

        for _ in range(5):
            harness.until("a checkpoint to be read before it is dropped", verified)
        harness.until("words for one that is", lambda: "sound" in self.ringctl("checkpoint", "verify", "p").stdout)
        feeder.stdin.close()
        self.pipeline.end()

    def test_what_is_shown_lies_in_the_file(self):
        self.stop_with_state()
        shown = self.shown()
        self.assertGreaterEqual(len(shown), 2)
        for c in self.checkpoint("list", "./state")["checkpoints"]:
            parts = shown[c["epoch"]]["partitions"]
            self.assertEqual([p["partition"] for p in parts], [0, 1, 2])
            extents = [e for p in parts for e in p["extents"]]
            self.assertEqual(len(extents), c["extents"])
            self.assertEqual(sum(e["bytes"] for e in extents), c["bytes"])
            self.assertEqual(sum(e["bytes"] for e in extents if e["epoch"] == c["epoch"]), c["own_bytes"])
            chains = [len({e["epoch"] for e in p["extents"]}) for p in parts]
            self.assertEqual([p["chain"] for p in parts], chains)
            self.assertEqual(max(chains), c["chain"])
            self.assertEqual([p["oldest_epoch"] for p in parts],
                             [min(e["epoch"] for e in p["extents"]) for p in parts])
            for extent in extents:
                self.assertEqual(crc32c(self.bytes_of(extent)), extent["crc32c"])
        newest = max(shown)
        self.assertEqual(self.checkpoint("show", "./state"), shown[newest])

    def test_a_flipped_bit_is_found_in_every_checkpoint_that_it_is_in_and_in_no_other(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        self.stop_with_state()
        shown = self.shown()
        for c in self.checkpoint("verify", "./state")["checkpoints"]:
            self.assertEqual((c["damages"], c["dropped"]), ([], False))
        extents = [(p["partition"], e) for c in shown.values() for p in c["partitions"]
                   for e in p["extents"]]
        for partition, extent in rng.sample(extents, min(8, len(extents))):
            at = extent["offset"] + rng.randrange(extent["bytes"])
            bit = rng.randrange(8)
            hit = {n for n, c in shown.items() for p in c["partitions"] if extent in p["extents"]}
            self.flip(at, bit)
            seen = self.checkpoint("verify", "./state", want=1)["checkpoints"]
            self.assertEqual({c["epoch"] for c in seen if c["damages"]}, hit)
            for c in seen:
                self.assertTrue(all(f"partition {partition}" in s for s in c["damages"]), c)
            for epoch in shown:
                self.checkpoint("verify", "./state", epoch, want=1 if epoch in hit else 0)
            said = self.ringctl("checkpoint", "verify", "./state", want=1)
            self.assertIn("1 damaged", said.stdout)
            self.assertIn(f"partition {partition}", said.stderr)
            self.flip(at, bit)
            self.ringctl("checkpoint", "verify", "./state")

    def test_a_checkpoint_asked_for_begins_at_once_and_is_durable_when_that_is_answered(self):
        feeder = self.start_asking()
        self.attached(feeder)
        self.assertEqual(self.checkpoint("list", "p")["checkpoints"], [])
        for turn in range(5):
            before_ns = time.time_ns()
            saved = self.checkpoint("now", "p")
            newest = self.checkpoint("list", "p")["checkpoints"][-1]
            self.assertEqual((saved["epoch"], saved["own_bytes"]), (newest["epoch"], newest["own_bytes"]))
            self.assertTrue(before_ns < newest["at_ns"], (before_ns, newest))
            self.assertTrue(0 < saved["took_ns"] < time.time_ns() - before_ns, saved)
        asked = [self.spawn(harness.RINGCTL, "checkpoint", "now", "p", "--json") for _ in range(8)]
        for one in asked:
            out, err = one.communicate(timeout=harness.PATIENCE)
            self.assertEqual(one.returncode, 0, err)
            self.assertGreater(json.loads(out)["epoch"], saved["epoch"])
        self.assertIn("is durable", self.ringctl("checkpoint", "now").stdout)
        feeder.stdin.close()
        self.pipeline.end()

    def limit(self, bytes_most):
        """Let no file of the engine grow beyond; None: as it was."""
        engine = self.pipeline.engine
        if bytes_most is None:
            resource.prlimit(engine, resource.RLIMIT_FSIZE, self.before)
            return
        self.before = resource.prlimit(engine, resource.RLIMIT_FSIZE)
        resource.prlimit(engine, resource.RLIMIT_FSIZE, (bytes_most, self.before[1]))

    COVERED, REST = 500, 1000  # records; the rows of all are a good deal less than what files may have then

    def fed(self, seed, count):
        feeder = self.feeder(seed, count, "keys", 50, "batch", 64)
        self.attached(feeder)
        self.assertEqual(feeder.wait(timeout=harness.PATIENCE), 0)

    def without_room(self):
        """A pipeline that took records since its checkpoint, and has room for rows and none for checkpoints."""
        self.start(runtime=RUNTIME % "1h")
        self.fed(1, self.COVERED)
        self.until_taken(self.COVERED)
        epoch = self.checkpoint("now", "p")["epoch"]
        self.fed(2, self.REST)
        self.until_taken(self.COVERED + self.REST)
        self.limit((256 << 10) - 1)
        return epoch

    def test_a_checkpoint_that_cannot_be_written_is_said_to_have_failed_and_the_next_may_succeed(self):
        self.without_room()
        said = self.ringctl("checkpoint", "now", "p", want=1).stderr
        self.assertIn(f"the checkpoint failed: {os.strerror(errno.EFBIG)}", said)
        self.limit(None)
        self.checkpoint("now", "p")
        self.ringctl("checkpoint", "verify", "p")
        self.pipeline.process.kill()

    def status(self):
        return self.pipeline.look("status")["checkpoints"]

    def test_status_tells_how_many_there_were_what_the_last_was_and_why_one_failed(self):
        self.assertEqual(self.start() and self.status(), None)
        self.pipeline.end()
        feeder = self.start_asking()
        self.attached(feeder)
        seen = self.status()
        self.assertEqual((seen["durable"], seen["failed"], seen["last"], seen["last_failure"], seen["wanted_by"]),
                         (0, 0, None, None, None))
        self.assertIn("checkpoints none yet", self.pipeline.ctl("status").stdout)
        saved = [self.checkpoint("now", "p") for _ in range(3)]
        seen = self.status()
        self.assertEqual(seen["folder"], str(self.dir / "state"))
        self.assertIn(seen["way"], ("io_uring", "pwrite", "buffered"))
        self.assertEqual((seen["durable"], seen["failed"], seen["wanted"]["asked"], seen["wanted_by"]),
                         (3, 0, 3, "asked"))
        self.assertEqual({n: seen["last"][n] for n in ("epoch", "own_bytes", "took_ns")},
                         {n: saved[-1][n] for n in ("epoch", "own_bytes", "took_ns")})
        self.assertEqual(seen["bytes_written"], sum(c["own_bytes"] for c in saved))
        self.assertEqual((seen["took_ns_sum"], seen["took_ns_max"]),
                         (sum(c["took_ns"] for c in saved), max(c["took_ns"] for c in saved)))
        feeder.stdin.close()
        self.assertEqual(feeder.wait(timeout=harness.PATIENCE), 0)
        self.until_taken(self.progress(feeder)[1])
        harness.until("all rows in the file", lambda: len(self.records()) == self.progress(feeder)[1])
        self.limit(1)  # the engine waits for room for rows, and there shall be none
        self.checkpoint_fails()
        self.limit(None)
        harness.until("the next try, a second later", lambda: self.status()["durable"] == 4)
        seen = self.status()
        self.assertGreaterEqual(seen["failed"], 1)  # it may have been tried meanwhile
        self.assertIn(os.strerror(errno.EFBIG), seen["last_failure"]["why"])
        self.assertRegex(self.pipeline.ctl("status").stdout,
                         f"{seen['failed']} failed, the last at .*" + os.strerror(errno.EFBIG))
        self.pipeline.kill_engine()  # the next engine goes on counting
        harness.until("the next one", lambda: self.status()["restored_epoch"] == seen["last"]["epoch"])
        self.assertEqual((self.status()["durable"], self.status()["failed"]), (4, seen["failed"]))
        self.pipeline.end()

    def checkpoint_fails(self):
        self.ringctl("checkpoint", "now", "p", want=1)

    def test_that_a_lane_is_full_before_a_checkpoint_covers_it_is_counted_and_said_and_nothing_is_lost(self):
        self.start(runtime=", state: ./state, checkpoint: {every: 1h, min_pause: 1h}", source=", cells: 64")
        feeder = self.feeder(1, 1000, "keys", 1, "batch", 16, "wait", -1)
        self.attached(feeder)
        harness.until("the lane to be full", lambda: self.status()["lanes_full"] > 0)
        self.assertIsNone(feeder.poll())
        full = 0

        def is_full_again():
            return self.status()["lanes_full"] > full or feeder.poll() is not None

        while feeder.poll() is None:
            harness.until("the lane to be full again, or the end", is_full_again)
            full = self.status()["lanes_full"]
            self.checkpoint("now", "p")
        seen = self.status()
        self.assertGreater(seen["lanes_full"], 5)
        self.assertIn(f"{seen['lanes_full']} times a lane was full", self.pipeline.ctl("status").stdout)
        self.until_taken(1000)
        _, err = self.pipeline.end()
        self.assertEqual(err.count("is full of records that no checkpoint covers yet: its producer waits"), 1)
        self.assertEqual(len(self.records()), 1000)

    def test_producers_that_come_and_go_wait_for_a_checkpoint_that_frees_a_lane(self):
        self.start(runtime=", lanes_max: 2, state: ./state, checkpoint: {every: 1h, min_pause: 1h}")
        for seed in range(1, 9):
            feeder = self.feeder(seed, 100, "keys", 2)
            self.assertEqual(feeder.stdout.readline(), "attached\n", feeder.poll() is not None and feeder.stderr.read())
            self.ends(feeder)
        seen = self.status()
        self.assertGreaterEqual(seen["wanted"]["asked"], 3)
        self.checkpoint("now", "p")
        staying = [self.feeder(seed, 1, "hold") for seed in (20, 21)]
        self.attached(*staying)
        late = self.feeder(22, 1)
        _, err = late.communicate(timeout=harness.PATIENCE)
        self.assertIn("2 producers are attached, as many as runtime.lanes_max allows: raise it", err)
        for feeder in staying:
            self.ends(feeder)
        self.pipeline.end()
        self.assertEqual(len(self.records()), 802)

    def failing_drain(self):
        """A pipeline that has drained but for the checkpoint of its end, which fails."""
        epoch = self.without_room()
        self.pipeline.process.send_signal(signal.SIGTERM)
        harness.until("a failure of the end", lambda: self.status()["failed"] > 0)
        return epoch

    def records_of(self, *fed):
        return [r for seed, count in fed for r in feeding.stream.events(seed, count, 50)]

    def test_the_checkpoint_of_a_drains_end_is_tried_again_until_it_is_durable(self):
        self.failing_drain()
        self.limit(None)
        _, err = self.pipeline.process.communicate(timeout=harness.PATIENCE)
        self.assertEqual(self.pipeline.process.returncode, 0, err)
        self.assertRegex(err, "checkpoint .* failed: .*" + os.strerror(errno.EFBIG))
        self.assertEqual(self.records(), self.records_of((1, self.COVERED), (2, self.REST)))
        self.start_saving()  # begins anew
        self.pipeline.end()
        self.assertEqual(self.records(), [])

    def test_a_drain_whose_end_no_checkpoint_has_exits_1_and_the_next_run_has_no_row_twice(self):
        epoch = self.failing_drain()
        _, err = self.pipeline.end(want=1)  # a second signal ends it at once
        self.assertIn(f"what was taken since checkpoint {epoch} is in none", err)
        self.assertEqual(self.records(), self.records_of((1, self.COVERED), (2, self.REST)))
        self.start(runtime=RUNTIME % "1h")
        self.assertEqual(self.status()["restored_epoch"], epoch)
        self.fed(3, self.COVERED)
        self.pipeline.end()
        came = self.records()
        self.assertEqual(came, self.records_of((1, self.COVERED), (3, self.COVERED)))
        self.check_windows(came)

    def test_who_asked_for_an_end_that_no_checkpoint_has_is_told_and_exits_1(self):
        for verbs in (("stop",), ("drain", "stop")):
            with self.subTest(verbs=verbs):
                epoch = self.without_room()
                asked = []
                for verb in verbs:
                    asked.append(self.spawn(harness.RINGCTL, verb, "p"))
                    if verb != verbs[-1]:  # it goes on trying; the other ends it
                        harness.until("a failure of the end", lambda: self.status()["failed"] > 0)
                _, err = self.pipeline.process.communicate(timeout=harness.PATIENCE)
                self.assertEqual(self.pipeline.process.returncode, 1, err)
                self.assertIn(f"what was taken since checkpoint {epoch} is in none", err)
                for who in asked:
                    out, err = who.communicate(timeout=harness.PATIENCE)
                    self.assertEqual(who.returncode, 1, (out, err))
                    self.assertIn(f"ringctl: what was taken since checkpoint {epoch} is in none", err)
                    self.assertRegex(err, "the last that failed: .*" + os.strerror(errno.EFBIG))
                shutil.rmtree(self.dir / "state")

    def test_nobody_waits_for_an_engine_that_has_died(self):
        rng = random.Random(SEED + 1)
        print("seed", SEED + 1)
        self.start(runtime=RUNTIME % "1h", args=("--restarts", "1000", "--within", "1ms"))
        feeder = self.feeder(1, 1 << 31, "keys", 50, "batch", 64, "pause", 2000, "wait", -1, "until-told")
        self.attached(feeder)
        codes = []
        for _ in range(20):
            asked = self.spawn(harness.RINGCTL, "checkpoint", "now", "p")
            time.sleep(rng.random() * 0.03)
            dead = self.pipeline.signal_engine()
            asked.communicate(timeout=harness.PATIENCE)
            codes.append(asked.returncode)
            harness.until("another engine", lambda: self.pipeline.engine not in (0, dead))
        print("exit codes", codes)
        self.assertTrue(set(codes) <= {0, 3}, codes)
        self.checkpoint("now", "p")
        feeder.stdin.close()
        self.pipeline.end()

    def test_what_is_not_there_or_makes_no_sense_is_told_apart(self):
        for words in ([], ["undo", "p"], ["list", "p", "x"], ["show", "p", "0"], ["list", "p", "1", "2"],
                      ["now", "./state"], ["now", "p", "1"]):
            with self.subTest(words=words):
                self.ringctl("checkpoint", *words, want=2)
        self.assertIn("./state", self.ringctl("checkpoint", "list", "p", want=3).stderr)
        self.assertIn("no state directory", self.ringctl("checkpoint", "list", "./state", want=3).stderr)
        self.start()
        for verb in ("list", "now"):
            self.assertIn("runtime.state", self.ringctl("checkpoint", verb, "p", want=1).stderr)
        self.pipeline.end()
        self.start(runtime=RUNTIME % "1h")
        self.assertIn("no checkpoint yet", self.ringctl("checkpoint", "list", "p").stdout)
        self.assertEqual(self.checkpoint("list", "p")["checkpoints"], [])
        self.assertEqual(self.checkpoint("verify", "p")["checkpoints"], [])
        self.ringctl("checkpoint", "show", "p", want=3)
        self.pipeline.end()
        for verb in ("show", "verify"):
            self.assertIn("checkpoint 77 is not kept",
                          self.ringctl("checkpoint", verb, "./state", "77", want=3).stderr)


if __name__ == "__main__":
    harness.main()
