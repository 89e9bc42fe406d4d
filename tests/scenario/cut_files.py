"""Files of rows that somebody cut or took away between two runs: what is said of them, and what comes behind."""
import os

import exactly_once
import harness


class CutFiles(exactly_once.Saving):
    def run_once(self, seed):
        """Feed a run, and stop it. What it said."""
        self.start()
        feeder, = self.feeders(seed)
        self.until_published([feeder])
        self.end_feeders([feeder])
        harness.until("all lanes to be freed", lambda: self.pipeline.look("status")["lanes"] == 0)
        self.ringctl("stop", "p")
        _, said = self.pipeline.process.communicate(timeout=harness.PATIENCE)
        self.assertEqual(self.pipeline.process.returncode, 0, said)
        return feeder, said

    def test_a_file_that_was_left_alone_is_gone_on_with_and_nothing_is_said_of_it(self):
        first, _ = self.run_once(1)
        second, said = self.run_once(2)
        self.assertNotIn("sink", said)
        self.assertEqual(self.records(), self.made([first, second]))

    def test_of_a_file_that_was_cut_it_is_said_how_much_is_missing_and_rows_go_on_behind_the_last_whole_one(self):
        first, _ = self.run_once(1)
        path = self.dir / "records.csv"
        rows = path.read_bytes().splitlines(keepends=True)
        size, kept = path.stat().st_size, b"".join(rows[:200])
        os.truncate(path, len(kept) + 3)  # in the midst of a row
        second, said = self.run_once(2)
        self.assertIn(f"sink records: records.csv: somebody cut it or took it away: the last {size - len(kept)} of its "
                      f"{size} bytes are missing; new rows come behind what is there", said)
        self.assertTrue(path.read_bytes().startswith(kept))
        made = self.made([second])
        self.assertEqual([r for r in self.records() if r["id"] >> 32 == 2], made)
        self.assertEqual(len(self.records()), 199 + len(made))

    def test_a_file_that_was_taken_away_is_made_anew_and_that_is_said(self):
        self.run_once(1)
        path = self.dir / "records.csv"
        size = path.stat().st_size
        path.unlink()
        second, said = self.run_once(2)
        self.assertIn(f"sink records: records.csv: somebody cut it or took it away: the last {size} of its {size} bytes",
                      said)
        self.assertEqual(self.records(), self.made([second]))


if __name__ == "__main__":
    harness.main()
