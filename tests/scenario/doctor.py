"""What `ringctl doctor` finds is so, and `ringctl clean` removes what is dead, and nothing else."""
import json
import os
import resource
import subprocess

import feeding
import harness

ABOUT_HOST = {"kernel", "shared memory", "pidfd", "io_uring", "lockable memory", "descriptors", "memory", "/dev/shm",
              "huge pages", "processors", "clock", "core files", "run directory", "pipelines"}
FILE = """
version: 1
pipeline: %s
schema: {event: {ts: time_ns}}
runtime: {partitions: 1, workers: 1%s}
sources: {events: {schema: event, event_time: ts}}
stages: {all: {from: events, filter: true}}
"""


class Doctor(feeding.Feeding):
    def doctor(self, *words, want=0, **more):
        done = subprocess.run([harness.RINGCTL, "doctor", "--json", *map(str, words)], env=self.env, cwd=self.dir,
                              capture_output=True, text=True, timeout=harness.PATIENCE, check=False, **more)
        self.assertEqual(done.returncode, want, done.stdout + done.stderr)
        said = json.loads(done.stdout)
        self.assertEqual(said["schema"], "ringctl.doctor/1")
        self.assertEqual(said["worst"] == "bad", want == 1)
        for finding in said["findings"]:
            self.assertIn(finding["level"], ("ok", "warn", "bad"))
            self.assertTrue(finding["level"] == "ok" or finding["advice"], finding)
        return {f["about"]: f for f in said["findings"]}

    def test_each_thing_of_the_host_is_looked_at_and_has_a_line(self):
        found = self.doctor()
        self.assertEqual(set(found), ABOUT_HOST)
        self.assertIn(os.uname().release, found["kernel"]["what"])
        self.assertIn(f"{len(os.sched_getaffinity(0))} usable", found["processors"]["what"])
        lines = self.ringctl("doctor").stdout.splitlines()
        for about in ABOUT_HOST:
            self.assertTrue(any(about in line for line in lines), about)

    def test_limits_that_are_too_low_are_named_with_what_to_do(self):
        found = self.doctor(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
        self.assertEqual(found["descriptors"]["level"], "warn")
        self.assertIn("64 at most", found["descriptors"]["what"])
        self.assertIn("ulimit -Hn", found["descriptors"]["advice"])

    def test_a_run_directory_that_others_may_write_to_is_bad(self):
        self.rundir.mkdir(mode=0o700)
        self.assertEqual(self.doctor()["run directory"]["level"], "ok")
        self.rundir.chmod(0o777)
        found = self.doctor(want=1)["run directory"]
        self.assertEqual(found["level"], "bad")
        self.assertIn("mode 0777", found["what"])
        self.assertIn("chmod go-w", found["advice"])

    def test_a_file_is_held_against_the_host(self):
        self.write("p.yaml", FILE % ("p", ", state: ./state"))
        found = self.doctor("p.yaml")
        self.assertEqual(set(found), ABOUT_HOST | {"state", "file system", "room for state", "writing"})
        self.assertEqual([p.name for p in self.dir.iterdir()], ["p.yaml"])
        self.write("p.yaml", FILE % ("p", ", state: ./nowhere/state, cpus: [1023]"))
        found = self.doctor("p.yaml", want=1)
        self.assertEqual((found["state"]["level"], found["pinning"]["level"]), ("bad", "bad"))
        self.assertIn("CPU 1023", found["pinning"]["what"])
        self.write("p.yaml", FILE % ("p", ", cpus: [x]"))
        self.assertIn("cpus", self.ringctl("doctor", "p.yaml", want=78).stderr)

    def test_the_way_to_the_disk_is_the_one_that_the_engine_takes(self):
        self.start(runtime=", state: ./state, checkpoint: {every: 20ms}")
        way = self.pipeline.look("status")["checkpoints"]["way"]
        found = self.doctor("p")
        self.assertTrue(found["checkpoints"]["what"].startswith(f"by {way}"), found["checkpoints"])
        self.assertTrue(found["writing"]["what"].startswith(f"by {way}"), found["writing"])
        self.assertEqual(found["engine"]["level"], "ok")
        self.pipeline.kill_engine()
        harness.until("the next engine", lambda: self.pipeline.look("status")["restarts"] == 1)
        found = self.doctor("p")
        self.assertEqual(found["engine"]["level"], "warn")
        self.assertIn("SIGKILL", found["engine"]["what"])
        self.pipeline.end()
        self.doctor("./state")
        self.assertEqual({p.name for p in (self.dir / "state").iterdir()},
                         {"extents", "catalog.mdb", "catalog.mdb-lock"})

    def test_what_a_dead_pipeline_left_is_told_and_removed_and_what_runs_is_not_touched(self):
        self.assertIn("no dead pipeline", self.ringctl("clean").stdout)
        living = self.run_pipeline(FILE % ("living", ""), "living")
        dead = self.run_pipeline(FILE % ("dead", ""), "dead")
        dead.process.kill()
        dead.process.wait()
        found = self.doctor()["pipelines"]
        self.assertEqual((found["level"], found["what"]), ("warn", "2 here, 1 of them dead: dead"))
        self.assertIn("ringctl clean", found["advice"])
        self.assertIn("living runs", self.ringctl("clean", "living", want=1).stderr)
        self.ringctl("clean", "nobody", want=3)
        said = json.loads(self.ringctl("clean", "--json").stdout)
        self.assertEqual(said, {"schema": "ringctl.clean/1", "removed": [{"name": "dead", "pid": dead.process.pid}]})
        self.assertEqual([p.name for p in self.rundir.iterdir()], ["living"])
        self.assertEqual(self.doctor()["pipelines"]["what"], "1 here")
        living.look("status")
        living.end()


if __name__ == "__main__":
    harness.main()
