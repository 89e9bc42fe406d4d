"""A state folder of another format, older or newer, is refused with what it is, what is read, and what can be done; and it stays as it
was, so that the program that wrote it goes on with it."""
import struct
import subprocess

import exactly_once
import harness
import restarts
import stream

PIPELINE = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2%s}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 1h, idle_after: 1h, journal: true}
stages:
  all: {from: events, filter: true}
  sums: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: %s}
sinks:
  tables: {from: [all, sums], type: lmdb, max_rows: 0}
  records: {from: all, type: csv, path: records.csv}
  windows: {from: sums, type: csv, path: windows.csv}
"""
COUNT = 5000
USE = "use the program that wrote it, or start from an empty state directory"
DRAIN = "run it to its end (ringctl drain) with the program that wrote it"
# What begins a thing, behind how many bytes its number stands, where it is looked for, whether `ringctl` reads it, too,
# what is said of it, and what can be done.
NUMBERS = {
    "extents": (b"", 8, ("extents",), False, "extents has format %d and this program reads format 1", USE),
    "head": (struct.pack("=I", 0x524d4c43), 4, ("catalog.mdb",), True,
             "catalog.mdb has format %d and this program reads format 1", USE),
    "LMDB": (struct.pack("=I", 0xbeefc0de), 4, ("catalog.mdb",), True,
             "catalog.mdb is of version %d of LMDB's format, and this program reads 1", USE),
    "journal": (b"", 8, ("journal",), False, "journal is a journal of format %d, and this program reads format 1", DRAIN),
}


class Formats(exactly_once.Saving):
    def start_as(self):
        super(restarts.Restarts, self).start_text(PIPELINE % (stream.SCHEMA, exactly_once.RUNTIME, stream.AGGREGATES),
                                                  args=restarts.OFTEN)

    def fed(self, seed):
        feeder = self.feeder(seed, COUNT, "keys", 4, "wait", -1)
        self.attached(feeder)
        self.ends(feeder)
        harness.until("all of it to be taken", lambda: self.pipeline.look("status")["lanes"] == 0)

    def kept(self):
        """All that lies in the folder, but for LMDB's table of readers, which is of no worth while nobody runs."""
        return {path.name: path.read_bytes() for path in (self.dir / "state").iterdir() if path.name != "catalog.mdb-lock"}

    def patched(self, begins, behind, names, number):
        """Wherever such a thing lies its number is another."""
        for name in names:
            path = self.dir / "state" / name
            data, found, at = bytearray(path.read_bytes()), 0, 0
            while at >= 0:
                if struct.unpack_from("=I", data, at + behind) == (1,):
                    struct.pack_into("=I", data, at + behind, number)
                    found += 1
                at = data.find(begins, at + 1) if begins else -1
            self.assertGreater(found, 0)
            with open(path, "r+b") as file:
                file.write(data)

    def test_another_format_of_any_file_is_refused_and_the_folder_stays_as_it_was(self):
        self.start_as()
        self.fed(1)
        self.ringctl("stop", "p")
        self.assertEqual(self.pipeline.process.wait(timeout=harness.PATIENCE), 0)
        whole = self.kept()
        self.assertEqual(set(whole), {"extents", "catalog.mdb", "journal"})
        outputs = {n: (self.dir / n).read_bytes() for n in ("records.csv", "windows.csv")}
        for what, (begins, behind, names, is_looked_at, sentence, advice) in NUMBERS.items():
            for number in (0, 2, 77):
                with self.subTest(what=what, number=number):
                    self.patched(begins, behind, names, number)
                    then = self.kept()
                    self.assertEqual({n for n in then if then[n] != whole[n]}, set(names))
                    for words in ((), ("--fresh", "sums")):
                        said = self.ringmill("run", "p.yaml", *words, want=1).stderr
                        self.assertIn(sentence % number, said)
                        self.assertIn(advice, said)
                        self.assertEqual(self.kept(), then)
                    if is_looked_at:
                        self.look(sentence % number)
                        self.assertEqual(self.kept(), then)
                    for name in names:
                        with open(self.dir / "state" / name, "r+b") as file:
                            file.write(whole[name])
                    self.assertEqual({n: (self.dir / n).read_bytes() for n in outputs}, outputs)
        self.start_as()  # what wrote it goes on
        self.fed(2)
        self.pipeline.end()
        came = self.records()
        made = [r for s in (1, 2) for r in stream.events(s, COUNT, 4)]
        self.assertEqual(came, sorted(made, key=lambda r: r["id"]))
        self.check_windows(came)

    def look(self, sentence):
        for words in (("checkpoint", "list", "./state"), ("checkpoint", "verify", "./state"), ("results", "./state", "sums")):
            done = subprocess.run([harness.RINGCTL, *words], env=self.env, cwd=self.dir, capture_output=True, text=True,
                                  timeout=harness.PATIENCE, check=False)
            self.assertIn(sentence, done.stderr)
            self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    harness.main()
