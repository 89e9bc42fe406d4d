"""Lanes, rings and schedules lie in no folder: who empties the run directory takes nothing from those who are in."""
import shutil

import exactly_once
import harness

CELLS = 256  # of each of three partitions


class LostFolders(exactly_once.Saving):
    def until_taken_from(self, feeders):
        """Wait until each has published more than its lane holds."""
        wanted = [self.progress(f)[1] + 3 * CELLS for f in feeders]
        harness.until("records to be taken",
                      lambda: all(self.progress(f)[1] > n for f, n in zip(feeders, wanted)))

    def test_who_empties_the_run_directory_keeps_nobody_out_who_is_in(self):
        self.start(source=f", cells: {CELLS}")
        feeders = self.feeders(2, 3)
        self.until_taken_from(feeders)
        shutil.rmtree(self.rundir)
        for _ in range(3):
            self.kill_engine()
            self.until_taken_from(feeders)
        self.end_feeders(feeders)
        self.pipeline.end()
        self.check_all(feeders)


if __name__ == "__main__":
    harness.main()
