"""What is said of a journal: how it is written, how much, how full it is, and when it fails."""
import errno
import os

import exactly_once
import faults
import harness
import machine

RUNTIME = exactly_once.RUNTIME + ", journal: {max: 64MiB}"
COUNT = 20000
BYTES = 24  # of a record


class Said(faults.Faulty):
    def start_journaled(self, **more):
        self.start_on(runtime=RUNTIME, source=", journal: true", **more)

    def journal(self):
        return self.pipeline.look("status")["journal"]

    def findings(self):
        said = self.call(harness.RINGCTL, "doctor", "--json", "p", want=None).stdout
        return {(f["level"], f["what"]) for f in harness.json.loads(said)["findings"] if f["about"] == "journal"}

    def test_status_says_what_the_journal_has_had_and_how_full_its_file_is(self):
        self.start_journaled()
        feeder = self.feeder(1, COUNT, "keys", 4, "batch", 50, "pause", 50)
        self.assertEqual(feeder.wait(timeout=harness.PATIENCE), 0)
        harness.until("all to be taken", lambda: self.source()["taken"] == COUNT)
        status = self.pipeline.look("status")
        self.assertEqual([s["journal"] for s in status["sources"]], [True])
        said = status["journal"]
        # what was taken had been journaled, and nothing else was published
        self.assertEqual(said["records"], COUNT)
        self.assertGreaterEqual(said["steps"], said["flushes"])
        self.assertGreaterEqual(said["bytes"], COUNT * BYTES + said["steps"] * 56)
        self.assertLess(said["bytes"], COUNT * (BYTES + 16) + said["steps"] * 64)
        self.assertGreater(said["flushes"], 0)
        self.assertGreaterEqual(said["group_bytes_max"] * said["flushes"], said["bytes"])
        self.assertGreaterEqual(said["flush_ns_max"] * said["flushes"], said["flush_ns"])
        self.assertGreater(said["flush_ns_max"], 0)
        self.assertEqual((said["failures"], said["is_failing"], said["last_failure"]), (0, False, None))
        self.assertEqual(said["file_bytes"], os.stat(self.dir / "state" / "journal").st_size)
        self.assertEqual(said["max_bytes"], 64 << 20)
        self.assertLessEqual(said["used_bytes"], said["file_bytes"])
        # the machine refuses rings, so there is a reason why it is no better way
        self.assertEqual(said["way"], "pwrite")
        self.assertIn("io_uring", said["why_not"])
        text = self.pipeline.ctl("status").stdout
        self.assertIn(f"journal     {COUNT} records", text)
        self.assertIn("by pwrite (", text)
        self.assertTrue(any(level == "warn" and what.startswith("by pwrite") for level, what in self.findings()))

    def test_stat_has_what_is_journaled_in_each_interval(self):
        self.start_journaled()
        feeder = self.feeder(1, COUNT, "keys", 4, "gate")
        self.attached(feeder)
        stat = self.spawn(harness.RINGCTL, "stat", "p", "--json", "--every", "100ms")
        before = harness.json.loads(stat.stdout.readline())
        feeder.communicate("go\n", timeout=harness.PATIENCE)
        records, after = 0, before["journal"]
        while records < COUNT:
            line = harness.json.loads(stat.stdout.readline())
            after = line["journal"]
            records += after["records_per_s"] * line["interval_ns"] / 1e9
            self.assertLessEqual(records, COUNT + 1)
            if after["records"] == COUNT:
                break
        self.assertEqual(after["records"], COUNT)
        self.assertAlmostEqual(records, COUNT, delta=1)
        self.assertIn("journal/s", self.pipeline.ctl("stat", "--every", "10ms", "--count", "1").stdout)

    def test_who_has_none_is_told_so(self):
        self.start_on()
        self.assertIsNone(self.journal())
        self.assertEqual([s["journal"] for s in self.pipeline.look("status")["sources"]], [False])
        self.assertNotIn("journal  ", self.pipeline.ctl("status").stdout)
        self.assertEqual(self.findings(), set())
        line = harness.json.loads(self.pipeline.ctl("stat", "--json", "--every", "10ms", "--count", "1").stdout)
        self.assertIsNone(line["journal"])

    def test_a_journal_that_fails_is_said_to_until_it_works_again(self):
        self.start_journaled()
        feeder = self.feeder(1, exactly_once.ENDLESS, "keys", 4, "batch", 10, "pause", 100, "wait", -1, "until-told")
        self.until_published([feeder], 100)
        self.machine.fail("journal", machine.FLUSH, errno.EIO, times=machine.ALWAYS)
        said = harness.until("it to fail", lambda: self.journal()["is_failing"] and self.journal())
        self.assertGreaterEqual(said["failures"], 1)
        self.assertIn("journal: Input/output error", said["last_failure"]["why"])
        self.assertIn("it is to be written again", self.pipeline.ctl("status").stdout)
        self.assertTrue(any(level == "bad" and "cannot be written" in what for level, what in self.findings()))
        self.machine.mend()
        harness.until("it to work", lambda: not self.journal()["is_failing"])
        # the next engine goes on counting
        before = self.journal()
        self.kill_engine()
        self.until_back(1)
        harness.until("more to be journaled", lambda: self.journal()["records"] > before["records"])
        self.assertEqual({k: self.journal()[k] for k in ("failures", "last_failure")},
                         {k: before[k] for k in ("failures", "last_failure")})
        self.assertTrue(any(level == "warn" and "failed, the last" in what for level, what in self.findings()))
        self.end_feeders([feeder])
        self.pipeline.end()


if __name__ == "__main__":
    harness.main()
