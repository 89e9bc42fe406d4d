"""A catalog that is held back by who reads it, or finds no room: it is said who and why, counted, and bounded; the engine
goes on once there is room again, and results are right."""
import json
import os
import pathlib
import resource
import signal
import subprocess

import full_disk
import harness
import machine
import restarts
import tables

MIB = 1 << 20
OFTEN = ", state: ./state, checkpoint: {every: 30ms, min_pause: 1ms%s}"
NO_ROOM = "catalog.mdb is full: it may not grow past %d bytes"


class Catalogs(full_disk.Full):
    def saves(self):
        return self.pipeline.look("status")["checkpoints"]

    def catalog(self):
        return self.saves()["catalog"]

    def until_grown(self, least):
        harness.until_more("bytes of the catalog", lambda: self.catalog()["bytes"], least)

    def looker(self):
        """Somebody who holds a state."""
        looker = self.spawn(harness.LOOKER, self.dir / "state" / "catalog.mdb", stdin=subprocess.PIPE)
        self.assertEqual(looker.stdout.readline(), "looking\n")
        return looker

    def until_saved_again(self, times):
        before = self.saves()["durable"]
        harness.until(f"{times} checkpoints", lambda: self.saves()["durable"] >= before + times)

    def until_held_by(self, looker):
        def held():
            by = self.catalog()["held_back_by"]
            return by is not None and by["pid"] == looker.pid
        harness.until("the looker to be named", held)

    def doctor(self, what):
        done = self.call(harness.RINGCTL, "doctor", what, "--json", want=None)
        return next(f for f in json.loads(done.stdout)["findings"] if f["about"] == "catalog")


class Readers(Catalogs):
    def start_saving(self, more="", source=""):
        self.said = open(self.dir / "said", "w+")
        self.addCleanup(self.said.close)
        super(restarts.Restarts, self).start(runtime=OFTEN % more, source=source, args=restarts.OFTEN, stderr=self.said)

    def test_one_that_stands_still_is_named_until_it_goes_on_or_dies_and_the_file_grows_no_more_then(self):
        self.start_saving()
        feeders = self.feeders(1, 4)
        self.until_saved_again(20)
        self.assertEqual(self.catalog()["held_back_by"], None)
        self.assertEqual(self.doctor("p")["level"], "ok")
        looker = self.looker()
        os.kill(looker.pid, signal.SIGSTOP)
        self.until_held_by(looker)
        named = f"process {looker.pid} (looker)"
        self.until_said(f"{named} reads the same state of the catalog for 5 s", 0)
        seen = self.catalog()
        self.assertEqual((seen["held_back_by"]["program"], seen["readers"], seen["times_held_back"]), ("looker", 1, 1))
        self.assertGreater(seen["held_back_by"]["commits"], 20)
        self.assertIn(named, self.pipeline.ctl("status").stdout)
        for what in ("p", "./state"):
            found = self.doctor(what)
            self.assertEqual(found["level"], "warn")
            self.assertIn(named, found["what"])
        grown = self.catalog()["bytes"]
        self.until_saved_again(20)
        self.assertGreater(self.catalog()["bytes"], grown)

        os.kill(looker.pid, signal.SIGCONT)
        looker.stdin.write("\n")
        looker.stdin.flush()
        self.assertEqual(looker.stdout.readline(), "looking\n")
        self.until_said(f"process {looker.pid} holds back no pages of the catalog any more", 0)
        self.until_held_by(looker)  # it stands still again
        self.kill_engine()
        self.until_held_by(looker)  # the next engine finds out for itself, and the count goes on
        self.assertEqual(self.catalog()["times_held_back"], 3)
        looker.kill()
        looker.wait()
        harness.until("it to be forgotten", lambda: self.catalog()["readers"] == 0)
        self.assertIsNone(self.catalog()["held_back_by"])
        self.until_saved_again(5)  # what it held is free from then on
        free = self.catalog()["bytes"]
        self.until_saved_again(60)
        self.assertLessEqual(self.catalog()["bytes"], free)
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)

    def test_a_reader_that_uses_up_what_the_catalog_may_take_stops_checkpoints_until_it_ends(self):
        self.start_saving(", catalog_max: 1MiB", ", cells: 512")
        feeders = self.feeders(1, 2, 3, 4)
        for turn, end in enumerate((signal.SIGKILL, signal.SIGTERM, None)):
            self.until_published(feeders, 500)
            before = self.said_bytes()
            looker = self.looker()
            os.kill(looker.pid, signal.SIGSTOP)
            self.until_said(f"{NO_ROOM % MIB}, and process {looker.pid} reads a state of ", before)
            self.until_stuck(*feeders)
            self.assertLessEqual((self.dir / "state" / "catalog.mdb").stat().st_size, MIB)
            self.assertIn("may not grow past", self.saves()["last_failure"]["why"])
            if turn == 1:
                self.kill_engine()
            os.kill(looker.pid, signal.SIGCONT)
            if end is None:
                looker.stdin.close()
            else:
                looker.send_signal(end)
            looker.wait()
            self.until_saved()
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)


class Growing(Catalogs, tables.Tables):
    def start_said(self, more=""):
        self.said = open(self.dir / "said", "a+")
        self.addCleanup(self.said.close)
        super(restarts.Restarts, self).start_text(tables.PIPELINE % (tables.stream.SCHEMA, OFTEN % more, ""),
                                                  args=restarts.OFTEN, stderr=self.said)

    def lock_room(self):
        """The engine gets no address space that would do for a larger map. Returns what undoes that."""
        engine = self.pipeline.engine
        unlimited = resource.prlimit(engine, resource.RLIMIT_AS)
        pages = int(pathlib.Path(f"/proc/{engine}/statm").read_text().split()[0])
        # LMDB gives the old map, of 64 MiB, up before it asks for one of 128; all else has what is left to grow in
        least = pages * resource.getpagesize() + 56 * MIB
        resource.prlimit(engine, resource.RLIMIT_AS, (least, unlimited[1]))
        return lambda: resource.prlimit(engine, resource.RLIMIT_AS, unlimited)

    @harness.unittest.skipIf("san" in machine.preloaded(), "a sanitizer takes all address space that there is")
    def test_it_grows_beside_who_reads_it_and_where_it_cannot_it_waits_for_room(self):
        self.start_said()
        feeder = self.feed()
        self.until_published([feeder], 2000)
        self.until_saved_again(3)
        pager = self.spawn(harness.RINGCTL, "results", "p", "all", "--format", "jsonl")  # into a pipe that nobody reads
        looker = self.looker()
        self.until_grown(40 * MIB)  # most of its map
        self.assertEqual(self.catalog()["readers"], 1)  # who waits for a pager is none
        unlock = self.lock_room()
        self.until_said("bytes of it cannot be mapped: Cannot allocate memory", 0)
        self.assertIn("ulimit -v", self.saves()["last_failure"]["why"])
        for verb in ("list", "verify"):
            self.ringctl("checkpoint", verb, "p")
        self.assertGreater(len(self.table("fixed", "p")), 0)
        unlock()
        self.until_saved()
        self.until_grown(65 * MIB)  # more than its first map
        looker.kill()
        seen = harness.rows_of_jsonl(pager.communicate(timeout=harness.PATIENCE)[0])
        self.assertEqual(pager.returncode, 0)
        ids = [row["id"] for row in seen]
        self.assertEqual(len(set(ids)), len(ids))
        made = self.drained(feeder)
        self.assertTrue(set(ids) <= {r["id"] for r in made})
        self.check_tables(self.tables(), tables.as_table(self.file_rows()))

    def test_tables_that_outgrow_the_limit_stop_checkpoints_and_a_run_with_a_greater_one_goes_on(self):
        self.start_said(", catalog_max: 2MiB")
        self.until_saved()  # once, however long the next one takes
        feeder = self.feed()
        self.until_said(NO_ROOM % (2 * MIB) + "; fewer rows of tables, or a greater limit", 0)
        self.ringctl("stop", "p", want=1)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 1)
        self.assertLessEqual((self.dir / "state" / "catalog.mdb").stat().st_size, 2 * MIB)
        feeder.kill()
        as_saved = self.tables()
        self.start_said(", catalog_max: 1GiB")
        self.check_tables(self.tables(), tables.as_table(self.file_rows()))  # files are cut back to it
        self.assertEqual(self.tables()["all"], as_saved["all"])
        second = self.feed(8)
        self.until_published([second], 3000)
        self.end_feeders([second])
        self.pipeline.end()
        self.check_tables(self.tables(), tables.as_table(self.file_rows()))


if __name__ == "__main__":
    harness.main()
