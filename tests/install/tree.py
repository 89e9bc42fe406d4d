"""The installed tree is whole: examples build against it alone, and run.

Nothing here looks into the source tree but for the examples themselves and the list of what is public.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "scenario"))
import harness  # pylint: disable=wrong-import-position

EXAMPLES = harness.SOURCE / "docs" / "examples"
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
C11_CLANG = ["clang", "-std=c11"]
GCC = ["gcc"]


def output(*argv, **more):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        raise AssertionError(f"{argv}: {done.stdout}{done.stderr}")
    return done.stdout


def public_names(*headers):
    """What the headers mark RML_PUBLIC."""
    names = set()
    for header in headers:
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        names |= set(re.findall(r"^RML_PUBLIC [^;(]*?\b(\w+)\(", text, flags=re.M))
    return names


class Tree(harness.Scenario):
    @classmethod
    def setUpClass(cls):
        cls.prefix = pathlib.Path(tempfile.mkdtemp(prefix="ringmill-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.prefix)
        output("cmake", "--install", harness.BUILD, "--prefix", cls.prefix)
        cls.headers = cls.prefix / "include" / "ringmill"
        cls.libs = next(cls.prefix.rglob("libringmill.so")).parent
        harness.RINGMILL = cls.prefix / "bin" / "ringmill"

    def setUp(self):
        super().setUp()
        self.env["LD_LIBRARY_PATH"] = str(self.libs)
        self.env["PKG_CONFIG_PATH"] = str(self.libs / "pkgconfig")
        header = self.ringmill("gen", "header", EXAMPLES / "llm.yaml").stdout
        self.write("llm.h", header)

    def flags(self, package, *more):
        return output("pkg-config", *more, "--cflags", "--libs", package, env=self.env).split()

    def build(self, example, compiler, flags):
        """Compile an example with the installed headers; give the program's path."""
        source = self.write(f"{example}.c", (EXAMPLES / f"{example}.c").read_text())
        program = self.dir / f"{example}-{compiler[0]}-{len(flags)}"
        output(*compiler, *STRICT, "-O1", "-I", self.dir, source, "-o", program, *flags)
        return program

    def test_the_producer_builds_with_either_compiler_shared_and_static_and_its_records_count(self):
        shared = self.flags("ringmill-client")
        static = ["-static", *self.flags("ringmill-client", "--static")]
        producers = [self.build("producer", compiler, flags)
                     for compiler in (GCC, C11_CLANG) for flags in (shared, static)]
        self.assertEqual(len(set(producers)), 4)
        text = (EXAMPLES / "llm.yaml").read_text().replace(
            "sinks:", "sinks:\n  file: {from: per_second, type: csv, path: per_second.csv}")
        running = self.run_pipeline(text, "llm")
        for producer in producers:
            self.call(producer, "1000")
        running.end()
        last = {}
        for row in harness.rows_of_csv((self.dir / "per_second.csv").read_text()):
            self.assertEqual(row["model"], "small")
            last[row["window_start"]] = row  # of revisions, the newest comes last
        self.assertEqual(sum(int(row["calls"]) for row in last.values()), 4000)
        self.assertEqual(sum(int(row["errors"]) for row in last.values()), 80)

    def test_a_producer_without_a_pipeline_says_so(self):
        producer = self.build("producer", GCC, self.flags("ringmill-client"))
        self.assertIn("llm", self.call(producer, want=1).stderr)

    def test_a_subscriber_sees_what_a_producer_wrote_and_how_much_it_missed(self):
        flags = self.flags("ringmill-client")
        producer = self.build("producer", GCC, flags)
        subscriber = self.build("subscriber", C11_CLANG, flags)
        running = self.run_pipeline((EXAMPLES / "llm.yaml").read_text(), "llm")
        watching = self.spawn(subscriber)
        harness.until("the subscriber to be let in", lambda: self.is_let_in(watching, running))
        self.call(producer, "5000")
        running.end()
        out, err = watching.communicate(timeout=harness.PATIENCE)
        self.assertEqual(watching.returncode, 0, err)
        *rows, missed = out.splitlines()
        self.assertEqual(missed, "missed 0 rows")
        last = {}
        for row in rows:
            start, model, _, calls, _, errors, _, _ = row.split()
            self.assertEqual(model, "small")
            last[start] = (int(calls), int(errors))
        self.assertEqual(sum(calls for calls, _ in last.values()), 5000)
        self.assertEqual(sum(errors for _, errors in last.values()), 100)

    @staticmethod
    def is_let_in(watching, running):
        """Has the subscriber mapped the pipeline's rings?"""
        if watching.poll() is not None or running.process.poll() is not None:
            raise AssertionError("one of them has ended")
        maps = pathlib.Path(f"/proc/{watching.pid}/maps").read_text(encoding="ascii")
        return "ringmill-llm-per_second" in maps

    def test_a_pipeline_runs_inside_a_program_of_ones_own(self):
        text = (EXAMPLES / "llm.yaml").read_text()
        self.write("llm.yaml", text)
        self.write("bad.yaml", text.replace("filter:", "fliter:"))
        archive = [f for f in self.flags("ringmill", "--static") if f != "-lringmill"]
        shared, static = self.flags("ringmill"), [self.libs / "libringmill.a", *archive]
        for program in (self.build("embed", GCC, shared), self.build("embed", C11_CLANG, shared),
                        self.build("embed", GCC, static)):
            lines = self.call(program).stdout.splitlines()
            self.assertEqual(lines.pop(), "10000 calls counted")
            self.assertEqual(len(lines), 20)  # ten seconds of two models
            self.assertEqual(sum(int(line.split()[3]) for line in lines), 10000)
            self.assertEqual(lines[0], "0 s  large     250 calls, 10 failed,  23.0 ms")
            bad = self.call(program, "bad.yaml", want=1).stderr
            self.assertIn("bad.yaml:18:25: error: unknown key fliter", bad)
            self.assertIn("did you mean filter?", bad)

    def test_a_plug_in_builds_with_either_compiler_and_its_functions_can_be_called(self):
        source = self.write("means.c", (EXAMPLES / "means.c").read_text())
        self.write("p.yaml", """
version: 1
pipeline: p
plugins: ./means.so
schema: {call: {ts: time_ns, latency_ms: f32, tokens: u32}}
runtime: {partitions: 1}
sources: {calls: {schema: call, event_time: ts}}
stages:
  all:
    from: calls
    window: {type: tumbling, size: 1s}
    aggregate: {usual_ms: geomean(latency_ms), by_tokens: 'wmean(latency_ms, tokens)'}
""")
        self.write("calls.csv", "ts,latency_ms,tokens\n1,2,1\n2,8,2\n")
        for compiler in (GCC, C11_CLANG):
            output(*compiler, *STRICT, "-O2", "-fPIC", "-shared", "-fvisibility=hidden", source, "-o",
                   self.dir / "means.so", *output("pkg-config", "--cflags", "ringmill", env=self.env).split(), "-lm")
            (self.dir / "means.so").chmod(0o755)
            rows = self.ringmill("replay", "p.yaml", "--input", "calls=calls.csv", "--quiet").stdout
            self.assertIn('"usual_ms":4,"by_tokens":6}', rows)

    def test_the_libraries_export_what_is_public_and_nothing_else(self):
        client = public_names(self.headers / "client.h", self.headers / "subscribe.h")
        engine = public_names(self.headers / "ringmill.h")
        self.assertIn("rml_producer_put", client)
        self.assertIn("rml_pipeline_drain", engine)
        for library, names in (("ringmill-client", client), ("ringmill", client | engine)):
            symbols = output("nm", "-D", "--defined-only", self.libs / f"lib{library}.so")
            self.assertEqual({line.split()[-1] for line in symbols.splitlines()}, names)

    def test_the_libraries_are_versioned_and_a_producer_needs_libc_alone(self):
        for library in ("ringmill-client", "ringmill"):
            dynamic = output("readelf", "-dW", self.libs / f"lib{library}.so")
            self.assertIn(f"soname: [lib{library}.so.0]", dynamic)
            self.assertTrue((self.libs / f"lib{library}.so.0").exists())
        dynamic = output("readelf", "-dW", self.libs / "libringmill-client.so")
        self.assertEqual(re.findall(r"NEEDED.*\[(.*)\]", dynamic), ["libc.so.6"])

    def test_the_headers_are_cplusplus_too_and_each_stands_alone(self):
        for header in [f"ringmill/{h.name}" for h in self.headers.iterdir()] + ["llm.h"]:
            for language in (["c++", "-std=c++11"], ["c", "-std=c11"]):
                source = self.write("alone", f"#include <{header}>\n")
                output("clang", "-fsyntax-only", *STRICT, "-I", self.headers.parent, "-I", self.dir,
                       "-x", *language, source)

    def test_the_demo_finds_its_programs(self):
        out = self.ringmill("demo", "--seconds", "1", "--rate", "1000", "--producers", "1").stdout
        self.assertRegex(out, r"\nbalance +\d+ written = ")
        self.assertEqual(self.left_behind(), [])

    def test_the_programs_say_their_version(self):
        self.assertRegex(self.ringmill("--version").stdout, r"^ringmill \d+\.\d+\.\d+$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv, verbosity=2)
