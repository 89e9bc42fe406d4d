"""A file that was changed goes on with the state of the stages that are as they were, and says what of the others."""
import re
import shlex

import going_back
import harness
import restarts
import stream

COUNT = going_back.COUNT
HEAD = """
version: 1
pipeline: p
schema: {event: %s}
runtime: {partitions: 3, workers: 2%s}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 40s, idle_after: 1h}
""" % (stream.SCHEMA, going_back.ASKED)
BEFORE = HEAD + """
stages:
  all: {from: events, filter: true}
  fixed: {from: all, key: key, window: {type: tumbling, size: 100ms},
          aggregate: {n: count(), p90: 'quantile(value, 0.9)', ids: distinct(id)}}
  moving: {from: events, key: key, window: {type: sliding, size: 500ms, every: 20ms},
           aggregate: {n: count(), spread: stddev_samp(value), often: 'top(value, 2)'}}
  bursts: {from: events, key: key, window: {type: session, gap: 12ms}, aggregate: {n: count(), mid: median(value)}}
  tens: {from: events, key: key, window: {type: tumbling, size: 7 records}, aggregate: {total: sum(value)}}
sinks:
  both: {from: [fixed, moving], type: jsonl, path: both.jsonl}
  bursts: {from: bursts, type: csv, path: bursts.csv}
  tens: {from: tens, type: csv, path: tens.csv}
"""
# Two go on, one was changed, one is gone, one is new, and nothing stands where it stood.
AFTER = HEAD + """
stages:
  tens: {from: some, key: key, window: {type: tumbling, size: 7 records}, aggregate: {total: sum(value)}}
  some: {from: events, filter: value > -1000}
  added: {from: some, key: key, window: {type: session, gap: 5ms}, aggregate: {n: count(), mid: median(value)}}
  moving: {from: events, key: key, window: {type: sliding, size: 500ms, every: 20ms},
           aggregate: {n: count(), spread: stddev_samp(value), often: 'top(value, 2)'}}
  fixed: {from: events, key: key, window: {type: tumbling, size: 200ms},
          aggregate: {n: count(), p90: 'quantile(value, 0.9)', ids: distinct(id)}}
sinks:
  tens: {from: tens, type: csv, path: tens.csv}
  both: {from: [moving, fixed], type: jsonl, path: both.jsonl}
  added: {from: added, type: csv, path: added.csv}
"""
LIMITED = HEAD.replace("partitions: 3, workers: 2", "partitions: 1, workers: 1, state_limit: 1MiB") + """
stages:
  %s: {from: events, key: [key, id], window: {type: tumbling, size: 1h}, aggregate: {n: count(), mean: avg(value)}}
sinks:
  rows: {from: %s, type: csv, path: %s.csv}
"""


class FreshStages(going_back.Asked):
    def start_as(self, text, *args):
        super(restarts.Restarts, self).start_text(text, args=(*restarts.OFTEN, *args))

    def replayed(self, text, records, *names):
        """The rows that such a file makes of these records."""
        self.write("again.yaml", text)
        self.write("made.csv", stream.as_csv(records))
        self.ringmill("replay", self.dir / "again.yaml", "--input", "events=made.csv", "--format", "jsonl",
                      *(w for n in names for w in ("--output", f"{n}=again-{n}")))
        return {n: sorted((self.dir / f"again-{n}").read_text().splitlines()) for n in names}

    def lines(self, name):
        return sorted((self.dir / name).read_text().splitlines())

    def test_a_run_says_once_what_it_goes_on_from_and_what_is_new(self):
        self.start_as(BEFORE)
        epochs = [self.fed(seed) for seed in (1, 2)]
        self.stop()
        self.start_as(BEFORE.replace("stages:\n", "stages:\n  more: {from: events, filter: true}\n"), "--from",
                      epochs[0])
        _, err = self.pipeline.end()
        self.assertEqual(err.count("stage more is new"), 1, err)
        self.assertEqual(err.count(f"goes on from checkpoint {epochs[0]} in {self.dir}/state\n"), 1, err)
        self.start_as(BEFORE)
        _, err = self.pipeline.end()  # the one before was drained
        self.assertEqual(err.count(f"begins anew in {self.dir}/state\n"), 1, err)

    def test_a_run_under_another_name_says_whose_state_it_goes_on_with(self):
        self.start_as(BEFORE)
        self.fed(1)
        self.stop()
        text = (self.dir / "p.yaml").read_text()
        _, err = self.run_pipeline(text.replace("pipeline: p\n", "pipeline: q\n"), "q").end()
        self.assertEqual(err.count("goes on with the state of pipeline p, which was not drained"), 1, err)

    def test_stages_that_are_as_they_were_go_on_and_others_begin_where_they_came(self):
        self.start_as(BEFORE)
        self.fed(1)
        self.stop()
        self.write("p.yaml", AFTER)
        said = self.refused()
        self.assertIn("stage fixed was changed, stage bursts is not in the file any more", said)
        self.assertIn("fixed had size 100000000, and has size 200000000\n", said)
        program, *words = shlex.split(re.search("`(ringmill run --fresh .*?)`", said)[1])
        self.assertEqual((program, words[1:3], words[3]), ("ringmill", ["--fresh", "fixed,bursts"], "p.yaml"))
        self.start_as(AFTER, *words[1:3])
        self.kill_engine()  # no checkpoint has what was given up yet
        self.until_back(1)
        self.fed(2)
        self.kill_engine()  # and this one has: nothing is given up again
        self.until_back(2)
        self.assertTrue(self.pipeline.look("balance")["adds_up"])
        _, err = self.pipeline.end()
        for sentence in ("stage added is new: it begins empty", "stage some is new", "stage fixed begins empty",
                         "stage bursts is not in the file: its state is given up"):
            self.assertIn(sentence, err)
        old, new = [stream.events(s, COUNT, 4) for s in (1, 2)]
        whole = self.replayed(AFTER, old + new, "moving", "tens")
        later = self.replayed(AFTER, new, "fixed", "added")
        both = sorted(['{"stage":"%s",%s' % (n, line[1:]) for rows, n in ((whole, "moving"), (later, "fixed"))
                       for line in rows[n]])
        self.assertEqual(self.lines("both.jsonl"), both)
        for name, rows in (("tens", whole), ("added", later)):
            self.assertGreater(len(rows[name]), 20)
            self.assertEqual(len(self.lines(f"{name}.csv")), len(rows[name]) + 1)  # a header
        came = harness.rows_of_csv((self.dir / "added.csv").read_text())
        self.assertEqual(sum(int(r["n"]) for r in came), COUNT)

    def test_what_a_stage_that_is_gone_held_is_free_for_others(self):
        refused = []
        for before, name in ((None, "first"), ("first", "second"), ("second", "third")):
            self.start_as(LIMITED % (name, name, name), *(("--fresh", before) if before else ()))
            self.fed(len(refused) + 1, 20_000)
            stage, = self.pipeline.look("status")["stages"]
            self.assertEqual(stage["in"], 20_000)
            refused.append(stage["refused"])
            self.stop()
        self.assertGreater(refused[0], 1000)
        self.assertEqual(refused, [refused[0]] * 3)

    def test_filters_and_maps_and_new_stages_need_no_leave(self):
        self.start_as(BEFORE)
        self.fed(1)
        self.stop()
        self.start_as(BEFORE.replace("all: {from: events, filter: true}", "all: {from: events, map: {x: value}}"))
        self.fed(2)
        self.stop()
        self.start_as(BEFORE.replace("all: {from: events, filter: true}", "same: {from: events, filter: true}")
                      .replace("from: all", "from: same"))
        self.pipeline.end()
        rows = harness.rows_of_jsonl((self.dir / "both.jsonl").read_text())
        self.assertEqual(sum(r["n"] for r in rows if r["stage"] == "fixed"), 2 * COUNT)

    def test_what_makes_no_sense_is_told(self):
        self.start_as(BEFORE)
        self.fed(1)
        self.stop()
        self.assertIn("did you mean fixed?", self.refused("--fresh", "fixd"))
        self.assertIn("--fresh alone begins anew", self.refused("--fresh", "fixed", "--fresh", want=2))
        for was, becomes, what in (("partitions: 3", "partitions: 4", "pipeline was changed"),
                                   ("event_time: ts, ", "event_time: ts, partition_by: [key], ", None),
                                   ("value: i32", "value: i64", "source events was changed")):
            text = BEFORE.replace(was, becomes) if what else None
            if text:
                self.write("p.yaml", text)
                self.assertIn(what, self.refused())
        self.write("p.yaml", BEFORE.replace("n: count(), mid: median(value)", "n: count()"))
        self.assertIn("give the sink another path", self.refused("--fresh", "bursts"))
        self.start_as(BEFORE.replace("n: count(), mid: median(value)", "n: count()")
                      .replace("path: bursts.csv", "path: other.csv"), "--fresh", "bursts")
        self.pipeline.end()

    def test_more_lanes_and_sources_need_no_leave_and_one_that_is_gone_takes_its_stages_along(self):
        self.start_as(BEFORE)
        self.fed(1)
        self.stop()
        more = BEFORE.replace("partitions: 3", "lanes_max: 300, partitions: 3").replace("sources:\n", """sources:
  first: {schema: event, event_time: ts, partition_by: [key]}
""").replace("stages:\n", """stages:
  of_first: {from: first, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}
""").replace("sinks:\n", "sinks:\n  of_first: {from: of_first, type: csv, path: first.csv}\n")
        self.start_as(more)
        feeder = self.spawn(harness.FEEDER, "p/first", self.hash, 5, COUNT, "keys", 4)
        self.attached(feeder)
        self.assertEqual(feeder.wait(timeout=harness.PATIENCE), 0)
        self.stop()
        self.write("p.yaml", BEFORE)
        self.assertIn("stage of_first is not in the file any more", self.refused())
        self.start_as(BEFORE.replace("partitions: 3", "lanes_max: 2, partitions: 3"), "--fresh=of_first")
        self.pipeline.end()
        rows = harness.rows_of_jsonl((self.dir / "both.jsonl").read_text())
        self.assertEqual(sum(r["n"] for r in rows if r["stage"] == "fixed"), COUNT)


if __name__ == "__main__":
    harness.main()
