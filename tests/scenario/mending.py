"""A catalog whose rows are damaged: what is said names the table, the row and the command that helps. Who types that loses
this table and nothing else, and checkpoints are taken again. And what `--fresh STAGE` leaves of other stages' tables."""
import re
import shlex
import struct

import fresh_stages
import going_back
import harness
import restarts
import stream
import tables

COUNT = going_back.COUNT
PAGE = 4096
STAGES = ("fixed", "bursts", "tens", "ever", "all")
# Nothing is late, and rows of `ever` come again as long as records do.
PIPELINE = fresh_stages.HEAD + """
stages:
  all: {from: events, filter: true}
  fixed: {from: events, key: key, window: {type: tumbling, size: 100ms, trigger: {count: 7}},
          aggregate: {n: count(), mean: avg(value), p90: 'quantile(value, 0.9)'}}
  bursts: {from: events, key: key, window: {type: session, gap: 12ms}, aggregate: {n: count()}}
  tens: {from: events, key: key, window: {type: tumbling, size: 10 records}, aggregate: {total: sum(value)}}
  ever: {from: events, key: key, window: {type: global, trigger: {count: 5}}, aggregate: {n: count()}}
sinks:
  tables: {from: [fixed, bursts, tens, ever, all], type: lmdb, max_rows: 0}
  records: {from: all, type: csv, path: records.csv}
"""


class WithTables(going_back.Asked):
    def start_as(self, *args, **more):
        super(restarts.Restarts, self).start_text(PIPELINE, args=(*restarts.OFTEN, *args), **more)

    def in_tables(self):
        return {stage: tables.canonical(harness.rows_of_jsonl(
            self.ringctl("results", "./state", stage, "--format", "jsonl").stdout)) for stage in STAGES}

    def replayed(self, *seeds):
        """The tables that a replay of these feeders' records makes."""
        self.write("made.csv", stream.as_csv([r for s in seeds for r in stream.events(s, COUNT, 4)]))
        self.ringmill("replay", self.dir / "p.yaml", "--input", "events=made.csv",
                      *(w for n in STAGES for w in ("--output", f"{n}=again-{n}.jsonl")))
        return tables.as_table([dict(row, stage=n) for n in STAGES
                                for row in harness.rows_of_jsonl((self.dir / f"again-{n}.jsonl").read_text())])

    def check(self, went_on, began_anew, *fresh):
        """Tables of all stages but `fresh` are of these feeders' records, and those of `fresh` of those."""
        came, whole, later = self.in_tables(), self.replayed(*went_on), self.replayed(*began_anew)
        for stage in STAGES:
            with self.subTest(stage=stage):
                self.assertGreaterEqual(len(whole[stage]), 4)
                self.assertEqual(came[stage], (later if stage in fresh else whole)[stage])
        self.assertIn("sound", self.ringctl("checkpoint", "verify", "./state").stdout)

    def offered(self, said):
        """The arguments of the command that is offered."""
        program, verb, *words, path = shlex.split(re.search("`(ringmill run --fresh [^`]*)`", said)[1])
        self.assertEqual((program, verb, path.rpartition("/")[2]), ("ringmill", "run", "p.yaml"))
        return words

    # What lies in the catalog

    @property
    def catalog(self):
        return self.dir / "state" / "catalog.mdb"

    def change(self, change):
        """The file's bytes, changed in their place."""
        data = bytearray(self.catalog.read_bytes())
        change(data)
        with open(self.catalog, "r+b") as file:
            file.write(data)

    def newer_meta(self, data):
        """Where the tree of free pages and the main tree stand in the newer of the two."""
        metas = [(struct.unpack_from("=Q", data, page * PAGE + 16 + 128)[0], page * PAGE + 16 + 24) for page in (0, 1)]
        return max(metas)[1]

    def nodes(self, data, table):
        """Where the rows of a table stand, in whatever state of the catalog."""
        prefix = bytes([len(table)]) + table.encode()
        found, at = [], data.find(prefix)
        while at >= 0:
            _, high, flags, key_bytes = struct.unpack_from("=4H", data, at - 8)
            is_leaf = data[at // PAGE * PAGE + 10] == 2
            if is_leaf and flags == 0 and high == 0 and len(prefix) < key_bytes < 400 and at % 2 == 0:
                found.append(at - 8)
            at = data.find(prefix, at + 1)
        return found


    def spoil_pages(self, data, nodes):
        for page in {node // PAGE for node in nodes}:
            data[page * PAGE + 10] ^= 16  # no kind of page


class Mending(WithTables):
    def lead_astray(self, table):
        """Each row of a table says that it is a long one, and where that lies is no page."""
        def change(data):
            nodes = self.nodes(data, table)
            self.assertGreaterEqual(len(nodes), 4)
            for node in nodes:
                data[node + 4] |= 1
        self.change(change)

    def test_a_row_out_of_reach_is_named_with_the_command_that_gives_up_its_table_and_nothing_else(self):
        with open(self.dir / "log", "w") as log:
            self.start_as(stderr=log)
        self.fed(1)
        self.lead_astray("ever")
        before = self.pipeline.look("status")["sources"][0]["taken"]
        feeder = self.feeder(1, COUNT, "keys", 4)  # the same keys
        self.attached(feeder)
        self.ends(feeder)
        self.until_taken(before + COUNT)
        for _ in range(2):
            self.ringctl("checkpoint", "now", "p", want=1)
        said = (self.dir / "log").read_text()
        self.assertGreaterEqual(said.count("failed: table ever: the row of key"), 2, said)
        self.assertRegex(said, "the row of key [0-9]+, window_start [^ ]* cannot be reached, so no checkpoint comes to be")
        self.assertIn("catalog.mdb: reading rows", said)
        self.assertEqual(self.offered(said), ["--fresh", "ever"])
        self.assertIn("cannot be reached, so no checkpoint comes to be; `ringmill run --fresh ever ",
                      self.pipeline.look("status")["checkpoints"]["last_failure"]["why"])
        self.ringctl("stop", "p", want=1)
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 1)
        kept = self.catalog.read_bytes()
        for args in ((), ("--fresh", "tens")):
            said = self.ringmill("run", "p.yaml", *args, want=1).stderr
            self.assertIn("catalog.mdb is damaged: page", said)
            self.assertIn("rows of table ever cannot be read", said)
            self.assertEqual(self.offered(said), ["--fresh", ",".join(["ever", *args[1:]])])
            self.assertEqual(self.catalog.read_bytes(), kept)
        self.start_as("--fresh", "ever")
        self.fed(3)
        self.kill_engine()
        self.until_back(1)
        self.fed(4)
        _, err = self.pipeline.end()
        self.assertEqual(err.count("the catalog was damaged, and is whole again: 4 rows of tables that begin anew"), 1, err)
        self.check((1, 3, 4), (3, 4), "ever")
        self.assertEqual(len(self.records()), 3 * COUNT)

    def test_a_page_of_many_tables_is_mended_by_giving_up_all_that_are_named(self):
        self.start_as()
        self.fed(1)
        self.stop()
        def change(data):
            self.spoil_pages(data, self.nodes(data, "ever"))
        self.change(change)
        said = self.ringmill("run", "p.yaml", want=1).stderr
        self.assertIn("is damaged: page", said)
        fresh = self.offered(said)
        names = fresh[1].split(",")
        self.assertIn("ever", names)
        self.start_as(*fresh)
        self.fed(2)
        self.pipeline.end()
        self.check((1, 2), (2,), *names)

    def test_a_list_of_free_pages_that_is_damaged_is_made_anew_and_nothing_is_lost(self):
        self.start_as()
        self.fed(1)
        self.fed(2)
        self.stop()
        def change(data):
            root, = struct.unpack_from("=Q", data, self.newer_meta(data) + 40)
            data[root * PAGE + 10] ^= 16
        self.change(change)
        self.start_as()
        self.fed(3)
        _, err = self.pipeline.end()
        self.assertIn("was damaged where nothing lay that is needed", err)
        self.check((1, 2, 3), ())

    def test_a_table_whose_note_is_damaged_is_named_with_the_command_that_gives_it_up(self):
        self.start_as()
        self.fed(1)
        self.stop()
        def change(data):
            at = data.find(b"\x07@tablestens")
            while at >= 0:
                data[at + 12 + 60] ^= 4
                at = data.find(b"\x07@tablestens", at + 1)
        self.change(change)
        said = self.ringmill("run", "p.yaml", want=1).stderr
        self.assertIn("of table @tables is not what was written", said)
        self.assertIn("tens", said)
        self.assertEqual(self.offered(said), ["--fresh", "tens"])
        self.start_as("--fresh", "tens")
        self.fed(2)
        self.pipeline.end()
        self.check((1, 2), (2,), "tens")


    def rewritten(self, *changes):
        text = PIPELINE
        for old, new in changes:
            self.assertEqual(text.count(old), 1)
            text = text.replace(old, new)
        self.write("p.yaml", text)

    def tables_there(self):
        return self.ringctl("results", "./state").stdout

    def start_rewritten(self, *args):
        super(restarts.Restarts, self).start_text((self.dir / "p.yaml").read_text(), args=(*restarts.OFTEN, *args))

    def test_that_tables_which_the_file_has_no_more_may_be_lost_is_said_where_their_notes_were(self):
        self.start_as()
        self.fed(1)
        self.stop()
        self.assertIn("ever", self.tables_there())
        def change(data):
            self.spoil_pages(data, self.nodes(data, "ever") + self.nodes(data, "ever@time") + self.nodes(data, "@tables"))
        self.change(change)
        self.rewritten(("tens, ever, all]", "tens, all]"))  # and no sign is left of the table `ever`
        fresh = self.offered(self.ringmill("run", "p.yaml", want=1).stderr)
        self.assertNotIn("ever", fresh[1].split(","))
        self.start_rewritten(*fresh)
        self.fed(2)
        _, err = self.pipeline.end()
        self.assertNotIn("ever", self.tables_there())
        self.assertNotIn("nothing else is lost", err)
        self.assertIn("whether a table of a stage that the file has no more lay where nothing can be read", err)

    def test_the_table_of_a_stage_that_is_gone_for_long_is_given_up_by_the_command_that_is_offered(self):
        self.start_as()
        self.fed(1)
        self.stop()
        self.rewritten(("tens, ever, all]", "tens, all]"),
                       ("  ever: {from: events, key: key, window: {type: global, trigger: {count: 5}}, aggregate: {n: count()}}\n", ""))
        self.start_rewritten("--fresh", "ever")  # its state; the table stays
        self.fed(2)
        self.stop()
        self.start_rewritten()
        self.fed(3)  # no checkpoint that is kept has ever heard of the stage
        self.stop()
        self.assertIn("ever", self.tables_there())
        self.lead_astray("ever")
        said = self.ringmill("run", "p.yaml", want=1).stderr
        self.assertIn("rows of table ever cannot be read", said)
        self.assertEqual(self.offered(said), ["--fresh", "ever"])
        self.start_rewritten("--fresh", "ever")
        self.kill_engine()  # and no checkpoint tells the next one that it was given up
        self.fed(4)
        _, err = self.pipeline.end()
        self.assertIn("4 rows of tables that begin anew are given up, nothing else is lost", err)
        self.assertNotIn("ever", self.tables_there())
        self.assertEqual(len(self.records()), 4 * COUNT)

    def test_who_begins_anew_with_everything_does_so_whatever_rows_are_damaged(self):
        self.start_as()
        self.fed(1)
        self.stop()
        self.lead_astray("ever")
        self.start_as("--fresh")
        self.fed(2)
        self.pipeline.end()
        self.check((2,), (2,), *STAGES)


class Fresh(WithTables):
    def test_the_table_of_a_stage_that_begins_anew_is_emptied_and_those_of_others_go_on(self):
        self.start_as()
        self.fed(1)
        self.stop()
        before = self.in_tables()
        self.start_as("--fresh", "fixed,ever")
        self.assertEqual(self.in_tables(), before)  # until its first checkpoint
        self.kill_engine()
        self.until_back(1)
        self.checkpoint("now", "p")
        now = self.in_tables()
        self.assertEqual((now["fixed"], now["ever"]), ([], []))
        self.assertEqual({s: now[s] for s in ("bursts", "tens", "all")}, {s: before[s] for s in ("bursts", "tens", "all")})
        self.fed(2)
        self.kill_engine()
        self.until_back(2)
        self.fed(3)
        self.stop()
        self.start_as()  # and it is given up once
        self.pipeline.end()
        self.check((1, 2, 3), (2, 3), "fixed", "ever")


if __name__ == "__main__":
    harness.main()
