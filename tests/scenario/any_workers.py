"""Whatever the number of workers, partitions and producers, and however they publish: the same rows."""
import random

import feeding
import harness
import stream

SEED = 20260808
ROUNDS = 12

PIPELINE = """
version: 1
pipeline: p
schema: {event: %(schema)s}
runtime: {partitions: %(partitions)d, workers: %(workers)d}
sources:
  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: %(disorder)dns, idle_after: 1h,
           cells: %(cells)d}
stages:
  sums: {from: events, key: key, window: {type: sliding, size: %(size)dns, every: %(every)dns},
         aggregate: %(aggregates)s}
  behind: {from: sums.late, filter: true}
sinks:
  windows: {from: sums, type: jsonl, path: windows.jsonl}
  late: {from: behind, type: csv, path: late.csv}
"""


class AnyWorkers(feeding.Feeding):
    def draw(self, rng):
        every = rng.choice([50, 100, 250]) * 1_000_000
        partitions = rng.choice([1, 2, 4, 7])
        return {"schema": stream.SCHEMA, "aggregates": stream.AGGREGATES,
                "partitions": partitions, "workers": rng.randrange(1, min(4, partitions) + 1),
                "cells": rng.choice([64, 1024]), "every": every, "size": every * rng.choice([1, 2, 5]),
                "disorder": rng.choice([1, 20, 70]) * 1_000_000}

    def draw_producer(self, rng):
        how = ["keys", rng.choice([1, 3, 8]), "batch", rng.choice([1, 10, 333]),
               "every", rng.choice([1, 5, 64, 500]), "pause", rng.choice([0, 0, 20])]
        return how + (["in-place"] if rng.random() < 0.5 else [])

    def test_real_producers_and_any_workers_give_the_oracles_rows(self):
        rng = random.Random(SEED)
        print("seed", SEED)
        for round_number in range(ROUNDS):
            shape = self.draw(rng)
            producers = [self.draw_producer(rng) for _ in range(rng.randrange(1, 5))]
            with self.subTest(round=round_number, shape=shape, producers=producers):
                self.check(shape, producers)

    def check(self, shape, producers):
        self.start_text(PIPELINE % shape)
        feeders, records = [], []
        for seed, how in enumerate(producers, 1):
            count = 1000 * seed
            feeders.append(self.feeder(seed, count, "gate", "hold", "wait", -1, "step", 1_000_000,
                                       "disorder", shape["disorder"], *how))
            records += stream.events(seed, count, how[1], disorder_ns=shape["disorder"])
        self.attached(*feeders)  # all of them hold the watermark back before the first record
        self.go(*feeders)
        for feeder in feeders:
            self.written(feeder)
        # The longest stays; without the others time goes on to its own, and windows fire before the end.
        for feeder in feeders[:-1]:
            self.ends(feeder)
        self.until_taken(len(records))
        size, every = shape["size"], shape["every"]
        harness.until("windows to fire",
                      lambda: self.pipeline.look("status")["stages"][0]["out"] > 0)
        self.ends(feeders[-1])
        self.until_free()
        self.pipeline.end()
        wanted, _ = stream.windows(records, size, every, out_of_order=float("inf"))
        rows = harness.rows_of_jsonl((self.dir / "windows.jsonl").read_text())
        self.assertEqual(stream.ordered(map(stream.typed, rows)), stream.ordered(wanted))
        self.assertEqual((self.dir / "late.csv").read_text().count("\n"), 1)


if __name__ == "__main__":
    harness.main()
