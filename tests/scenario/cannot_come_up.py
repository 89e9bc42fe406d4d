"""An engine that died and cannot come up again, and somebody who wants the end: he gets it after one more try."""
import errno
import os
import re
import signal

import exactly_once
import harness
import hardships
import journal_faults
import machine
import restarts
from machine import FLUSH

COUNT = 5000
CANNOT = "has died: it could not come up again (exit code 1)"
LAST = (r"asked to end, and the engine that was started again for that \(process \d+\) is the last: it could not come up "
        r"again \(exit code 1\): .*state/%s: ")
GOES_ON = "goes on from the last checkpoint%s; of what is durable nothing is lost, and what else producers had published is"
JOURNAL = ", and with what the journal has behind it"


class ComingUp(journal_faults.Faulty):
    def start_here(self, journal=", journal: true"):
        self.machine = machine.Machine(self, errno.EPERM)
        self.said = open(self.dir / "said", "a+")
        self.addCleanup(self.said.close)
        with self.machine.around():  # more tries than there is time for
            super(restarts.Restarts, self).start(runtime=hardships.NEVER, source=f", cells: 16384{journal}",
                                                 args=("--restarts", "1000", "--within", "1h"), stderr=self.said)

    def fed(self, seed):
        """A feeder whose records are all taken; it stays."""
        taken = self.source()["taken"]
        feeder = self.feeder(seed, COUNT, "keys", exactly_once.KEYS[seed], "batch", 50, "hold")
        self.attached(feeder)
        self.written(feeder)
        self.until_taken(taken + COUNT)
        return feeder

    def break_down(self, name="journal", error=errno.EIO):
        """The engine dies, and no other can come up; at least one of them has said so."""
        self.before = self.said_bytes()
        self.machine.fail(name, FLUSH, error, times=machine.ALWAYS)
        self.assertTrue(self.pipeline.signal_engine())
        self.until_said(CANNOT, self.before)

    def tries(self):
        return self.said_since(self.before).count(CANNOT)

    def check_gave_up(self, *feeders, name="journal", goes_on=GOES_ON % JOURNAL):
        """It has given up as it was asked to, and told all of them."""
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 4)
        self.assertEqual(self.left_behind(), [])
        last, way_out = self.said_since(0).splitlines()[-2:]
        self.assertRegex(last, LAST % name)
        self.assertIn("once that is put right, `ringmill run", way_out)
        self.assertIn(goes_on, way_out)
        for feeder in feeders:
            self.ends(feeder)

    def check_goes_on(self, *before):
        """The next run has what was taken, and what it is given itself; each row once."""
        self.machine.mend()
        self.start_here()
        more = self.fed(4)
        self.ends(more)
        self.pipeline.end()
        self.check_all([*before, more])

    def test_one_signal_as_it_waits_for_its_turn_ends_it_after_that_try(self):
        self.start_here()
        feeder = self.fed(2)
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number=number):
                self.break_down()
                process, go_on = self.catch_waiting()
                tries = self.tries()
                self.pipeline.process.send_signal(number)
                harness.until("the keeper to pass it on", lambda p=process: restarts.pending(p))
                go_on()
                self.check_gave_up()
                self.assertEqual(self.tries(), tries)
                self.machine.mend()
                self.start_here()
        self.ends(feeder)
        self.pipeline.end()
        self.check_all([feeder])

    def is_said_to_restart(self):
        done = self.call(harness.RINGCTL, "status", "p", "--timeout", "300ms", want=None)
        return done.returncode == 5 and re.search(
            "pipeline p is restarting: its engine died, and process .* it says: .*could not come up", done.stderr)

    def test_a_stop_is_heard_as_it_waits_for_its_turn_and_ends_it_after_that_try(self):
        self.start_here()
        feeder = self.fed(2)
        self.break_down()
        harness.until("somebody who looks to be told why", self.is_said_to_restart)
        stop, first = self.end_by("stop")
        self.check_gave_up(feeder)
        out, err = stop.stdout.read(), first + stop.stderr.read()
        self.assertEqual(stop.wait(timeout=harness.PATIENCE), 4, err)
        self.assertIn("the next one comes up at once to save what there is; if it cannot", err)
        self.assertIn("pipeline p died", out)
        self.assertRegex(err, r"process \d+ died before that: .*could not come up again .*journal")
        self.assertIn("the next run " + GOES_ON % JOURNAL, err)
        self.assertNotIn(CANNOT, self.said_since(0).partition("stopping: asked to")[2])
        self.check_goes_on(feeder)

    def test_where_the_disk_of_the_state_is_full_a_drain_ends_it_too_and_what_a_checkpoint_covers_is_not_lost(self):
        self.start_here(journal="")
        covered = self.fed(2)
        self.ringctl("checkpoint", "now", "p")
        lost = self.fed(3)
        self.break_down("catalog.mdb", errno.ENOSPC)
        drain, first = self.end_by("drain")
        self.check_gave_up(covered, lost, name="catalog.mdb", goes_on=GOES_ON % "")
        out, err = drain.stdout.read(), first + drain.stderr.read()
        self.assertEqual(drain.wait(timeout=harness.PATIENCE), 4, err)
        self.assertIn("the next one comes up at once to drain; if it cannot", err)
        self.assertIn("pipeline p died", out)
        self.assertIn("the next run " + GOES_ON % "", err)
        self.assertIn(os.strerror(errno.ENOSPC), self.said_since(0).splitlines()[-2])
        self.check_goes_on(covered)

    def end_in_time(self, request):
        """The disk works again, and who asks for the end has it from an engine that comes up; what it printed."""
        self.start_here()
        taken = self.fed(2)
        feeder = self.feeder(3, COUNT, "keys", exactly_once.KEYS[3], "batch", 50, "gate", "hold")
        self.attached(feeder)
        self.break_down()
        self.go(feeder)  # into lanes that no engine takes from
        self.written(feeder)
        _, go_on = self.catch_waiting()
        self.machine.mend()
        ctl = self.spawn(harness.RINGCTL, request, "p")
        go_on()
        out, err = ctl.communicate(timeout=harness.PATIENCE)
        self.assertEqual(ctl.returncode, 0, err)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        self.assertEqual(self.left_behind(), [])
        self.ends(taken)
        self.ends(feeder)
        return [taken, feeder], out

    def test_a_drain_as_it_waits_takes_what_lies_in_lanes_where_it_can_come_up(self):
        feeders, out = self.end_in_time("drain")
        self.assertIn("pipeline p drained", out)
        self.check_all(feeders)

    def test_a_stop_as_it_waits_saves_what_lies_in_lanes_where_it_can_come_up(self):
        feeders, out = self.end_in_time("stop")
        self.assertIn("pipeline p stopped", out)
        self.check_goes_on(*feeders)


if __name__ == "__main__":
    harness.main()
