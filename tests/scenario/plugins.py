"""Plug-ins: their results are an oracle's, and what is wrong with one is said where the file names it."""
import math
import os
import random
import shutil
import sys
import unittest

import harness

MEANS = harness.BUILD / "tests" / "means.so"
HEADER = harness.BUILD / "tests" / "include"

PIPELINE = """
version: 1
pipeline: p
plugins: {plugins}
schema: {{event: {{ts: time_ns, key: str8, n: u32, x: f64, big: u64, flag: bool}}}}
runtime: {{partitions: 3}}
sources: {{in: {{schema: event, event_time: ts, out_of_order: {wait}ns}}}}
stages:
  w:
    from: in
    key: key
    window: {window}
    aggregate:
      {aggregate}
"""
TUMBLING = "{type: tumbling, size: 1s}"

# A plug-in of one function that counts. Each fault below takes one thing away from it.
COUNTER = """
#include <ringmill/plugin.h>
#include <string.h>
struct state { uint64_t count; };
static uint32_t add(const struct rml_plugin_call *call, const struct rml_plugin_block *block)
{
    (void)call;
    for (uint32_t i = 0; i < block->count; i++)
        ((struct state *)block->states[i])->count++;
    return block->count;
}
static int merge(const struct rml_plugin_call *call, void *into, uint32_t into_bytes, const void *from,
                 uint32_t from_bytes)
{
    (void)call, (void)into_bytes, (void)from_bytes;
    ((struct state *)into)->count += ((const struct state *)from)->count;
    return 1;
}
static int finish(const struct rml_plugin_call *call, const void *state,
                  const struct rml_plugin_window *window, void *cell)
{
    (void)call, (void)window;
    memcpy(cell, state, 8);
    return 1;
}
static const struct rml_plugin_aggregate functions[] = {
    {.name = "counter", .sentence = "It counts.", .argument_count = 1, .takes = {RML_PLUGIN_INT},
     .gives = RML_PLUGIN_GIVES_U64, .state_bytes = sizeof(struct state),
     .add = add, .merge = merge, .finish = finish},
};
const struct rml_plugin rml_plugin = RML_PLUGIN(functions);
"""

# A plug-in that keeps its values, in a state that grows, from its end to its front: growing has to move them. Its
# result is their sum, and 1000000 for each row that the engine says it has.
KEEPER = """
#include <ringmill/plugin.h>
#include <string.h>
static int put(uint64_t *state, uint32_t bytes, uint64_t value)
{
    uint64_t room = bytes / 8 - 1;
    if (state[0] == room)
        return 0;
    state[room - state[0]++] = value;
    return 1;
}
static uint32_t add(const struct rml_plugin_call *call, const struct rml_plugin_block *block)
{
    const int64_t *n = block->columns[0];
    (void)call;
    for (uint32_t i = 0; i < block->count; i++)
        if (!put(block->states[i], block->bytes[i], (uint64_t)n[block->rows[i]]))
            return i;
    return block->count;
}
static int merge(const struct rml_plugin_call *call, void *into, uint32_t into_bytes, const void *from,
                 uint32_t from_bytes)
{
    const uint64_t *other = from;
    (void)call;
    if (*(uint64_t *)into + other[0] > into_bytes / 8 - 1)
        return 0;
    for (uint64_t i = 0; i < other[0]; i++)
        put(into, into_bytes, other[from_bytes / 8 - 1 - i]);
    return 1;
}
static void move(const struct rml_plugin_call *call, void *to, uint32_t to_bytes, const void *from,
                 uint32_t from_bytes)
{
    merge(call, to, to_bytes, from, from_bytes);
}
static int finish(const struct rml_plugin_call *call, const void *state,
                  const struct rml_plugin_window *window, void *cell)
{
    const uint64_t *kept = state;
    uint64_t sum = 1000000 * window->values;
    (void)call;
    for (uint64_t i = 0; i < kept[0]; i++)
        sum += kept[window->state_bytes / 8 - 1 - i];
    memcpy(cell, &sum, 8);
    return 1;
}
static const struct rml_plugin_aggregate functions[] = {
    {.name = "keep", .sentence = "It keeps.", .argument_count = 1, .takes = {RML_PLUGIN_INT},
     .gives = RML_PLUGIN_GIVES_U64, .state_bytes = 64, .state_bytes_max = MOST,
     .add = add, .merge = merge, .move = move, .finish = finish},
};
const struct rml_plugin rml_plugin = RML_PLUGIN(functions);
"""

# What is changed in COUNTER, and what is then said of ./bad.so.
FAULTS = [
    ("const struct rml_plugin rml_plugin", "const struct rml_plugin some_plugin",
     "it has no rml_plugin"),
    ("const struct rml_plugin rml_plugin = RML_PLUGIN(functions);",
     "__attribute__((visibility(\"default\"))) int plugin(void) __asm__(\"rml_plugin\");\n"
     "int plugin(void) { return functions[0].state_bytes > 0; }",
     "what it calls rml_plugin is no table of functions"),
    ("RML_PLUGIN(functions);", "{2, 24, 24, 1, functions};",
     "it is made for version 2 of plug-ins, this is version 1"),
    ("RML_PLUGIN(functions);", "{1, 24, 24, 1, functions};",
     "its structures have other sizes than here (24 and 24 bytes, not 24 and "),
    ("RML_PLUGIN(functions);",
     "{1, sizeof(struct rml_plugin), sizeof functions[0], 0, functions};", "it has 0 functions"),
    ("RML_PLUGIN(functions);",
     "{1, sizeof(struct rml_plugin), sizeof functions[0], 4000000000, functions};",
     "it has 4000000000 functions, from 1 to 64 go"),
    ("RML_PLUGIN(functions);", "{1, sizeof(struct rml_plugin), sizeof functions[0], 1, 0};",
     "it has 1 functions"),
    ("\"counter\"", "\"2nd\"", "function 0 of it has no name that can be called"),
    ("\"counter\"", "\"" + "long" * 12 + "\"", "function 0 of it has no name that can be called"),
    ("\"counter\"", "0", "function 0 of it has no name that can be called"),
    (".sentence = \"It counts.\"", ".sentence = 0", "its function counter has no sentence"),
    (".merge = merge,", "", "its function counter lacks add, merge or finish"),
    (".argument_count = 1", ".argument_count = 5", "counter takes no argument, or more than"),
    (".argument_count = 1", ".argument_count = 0", "counter takes no argument, or more than"),
    ("{RML_PLUGIN_INT}", "{32}", "counter takes an argument of no kind there is"),
    ("{RML_PLUGIN_INT}", "{0}", "counter takes an argument of no kind there is"),
    (".argument_count = 1", ".argument_count = 1, .parameters_least = 2",
     "counter takes a number of parameters that cannot be"),
    (".argument_count = 1", ".argument_count = 1, .parameters_most = 32",
     "counter takes a number of parameters that cannot be"),
    ("RML_PLUGIN_GIVES_U64", "11", "counter gives a result of no type there is"),
    ("sizeof(struct state),\n", "0,\n", "counter has a state of no size, or of more than 4096"),
    ("sizeof(struct state),\n", "4097,\n", "counter has a state of no size, or of more than 4096"),
    ("sizeof(struct state),\n", "96, .state_bytes_max = 16384,\n",
     "counter has a state that grows from or to what is no power of two from 64 to 16384"),
    ("sizeof(struct state),\n", "64, .state_bytes_max = 32768,\n", "counter has a state that grows"),
    ("sizeof(struct state),\n", "64, .state_bytes_max = 3000,\n", "counter has a state that grows"),
    ("sizeof(struct state),\n", "256, .state_bytes_max = 128,\n", "counter has a state that grows"),
    ("static int finish", "extern int nowhere(void); extern int (*const used)(void);\n"
     "int (*const used)(void) = nowhere;\nstatic int finish", "undefined symbol: nowhere"),
    ("\"counter\"", "\"sum\"", "there is a function sum already: it is Ringmill's own"),
]


class Plugins(harness.Scenario):
    def build(self, name, source=COUNTER):
        """Compile a plug-in into the test's folder."""
        self.write(f"{name}.c", source)
        flags = ["-O1", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden"]
        self.call("gcc", *flags, "-I", HEADER, f"{name}.c", "-o", f"{name}.so")
        return self.own(self.dir / f"{name}.so")

    def own(self, path):
        os.chmod(path, 0o755)  # whatever the umask is
        return path

    def means(self):
        return self.own(shutil.copy(MEANS, self.dir / "means.so"))

    def pipeline(self, plugins, *aggregates, window=TUMBLING, wait=0, name="p.yaml"):
        text = PIPELINE.format(plugins=plugins, window=window, wait=wait,
                               aggregate="\n      ".join(aggregates))
        return self.write(name, text)

    def refused(self, pipeline, sentence, *more, place=None):
        err = self.ringmill("check", pipeline, *more, want=78).stderr
        self.assertIn(sentence, err)
        if place:
            self.assertIn(f":{place}: error: ", err)
        return err

    def replay(self, pipeline, records, *options):
        lines = ["ts,key,n,x,big,flag"] + [",".join(str(v) for v in r) for r in records]
        self.write("in.csv", "\n".join(lines) + "\n")
        self.ringmill("replay", pipeline, "--input", "in=in.csv", "--output", "w=out.jsonl",
                      "--quiet", *options)
        return (self.dir / "out.jsonl").read_text()

    # Results

    @staticmethod
    def drawn(rng, count, disorder):
        """Records whose times go back by up to `disorder`; some have no number for x."""
        now, records = 0, []
        for _ in range(count):
            now += rng.randrange(0, 60_000_000)
            x = "nan" if rng.random() < 0.1 else rng.randrange(1, 4000) / 16
            records.append((now - rng.randrange(0, disorder + 1) + 10 ** 9, rng.choice("abcde"),
                            rng.randrange(0, 40), x, rng.randrange(0, 2 ** 63), "true"))
        return records

    def compare(self, rows, records, names=("usual", "per", "more")):
        """Hold every row against what the records in its window give."""
        self.assertGreater(len(rows), 20)
        for row in rows:
            if row.get("retracted"):
                self.assertEqual([row[name] for name in names], [None] * 3)
                continue
            mine = [r for r in records if r[1] == row["key"]
                    and row["window_start"] <= r[0] < row["window_end"]]
            self.assertEqual(row["n"], len(mine))
            logs = [math.log(r[2]) for r in mine if r[2] > 0]
            usual = math.exp(math.fsum(logs) / len(logs)) if len(logs) == len(mine) else None
            pairs = [(r[3], r[2]) for r in mine if r[3] != "nan"]

            def weighted(more):
                weights = math.fsum(w + more for _, w in pairs)
                return math.fsum(x * (w + more) for x, w in pairs) / weights if weights else None

            for name, value in zip(names, (usual, weighted(0), weighted(2))):
                if value is None:
                    self.assertIsNone(row[name], row)
                else:
                    self.assertAlmostEqual(row[name] / value, 1, 12, row)

    def held_against_the_oracle(self, window, disorder, seeds):
        self.means()
        for seed in seeds:
            rng = random.Random(seed)
            pipeline = self.pipeline("./means.so", "n: count()", "usual: geomean(n)", "per: wmean(x, n)",
                                     "more: wmean(x, n, 2)", window=window, wait=disorder)
            records = self.drawn(rng, 700, disorder)
            outputs = {self.replay(pipeline, records, *options)
                       for options in ((), ("--workers", "1", "--batch", "1"), ("--workers", "3"),
                                       ("--batch", str(rng.randrange(2, 300)), "--workers", "2"))}
            self.assertEqual(len(outputs), 1, "batches and workers show")
            self.compare(harness.rows_of_jsonl(outputs.pop()), records)

    def test_tumbling_windows_are_the_oracles_whatever_batches_and_workers(self):
        self.held_against_the_oracle("{type: tumbling, size: 1s}", 300_000_000, (1, 2))

    def test_sliding_windows_are_the_oracles_whatever_batches_and_workers(self):
        self.held_against_the_oracle("{type: sliding, size: 2s, every: 500ms}", 300_000_000, (3,))

    def test_windows_that_overlap_much_are_the_oracles_whatever_batches_and_workers(self):
        self.held_against_the_oracle("{type: sliding, size: 3s, every: 100ms}", 300_000_000, (4, 5))

    def test_sessions_are_the_oracles_whatever_batches_and_workers(self):
        self.held_against_the_oracle("{type: session, gap: 250ms}", 300_000_000, (6, 7))

    def test_counted_windows_are_the_oracles_whatever_batches_and_workers(self):
        self.means()
        pipeline = self.pipeline("./means.so", "n: count()", "usual: geomean(n)", "per: wmean(x, n)",
                                 "more: wmean(x, n, 2)",
                                 window="{type: sliding, size: 12 records, every: 4 records}")
        records = self.drawn(random.Random(8), 700, 0)
        outputs = {self.replay(pipeline, records, *options)
                   for options in ((), ("--batch", "1"), ("--workers", "3", "--batch", "7"))}
        self.assertEqual(len(outputs), 1)
        rows = harness.rows_of_jsonl(outputs.pop())
        # the windows of a key are its records 1-4, 1-8, 1-12, 5-16, ...
        for key in "abcde":
            mine = [r for r in records if r[1] == key]
            given = [row for row in rows if row["key"] == key]
            self.assertEqual(len(given), len(mine) // 4)
            for i, row in enumerate(given, 1):
                window = mine[max(0, 4 * i - 12):4 * i]
                pairs = [(r[3], r[2]) for r in window if r[3] != "nan"]
                wanted = sum(x * w for x, w in pairs) / sum(w for _, w in pairs)
                self.assertEqual(row["n"], len(window))
                self.assertAlmostEqual(row["per"] / wanted, 1, 12)

    # States that grow

    def test_states_that_grow_hold_what_they_held_in_every_kind_of_window(self):
        self.build("keeper", KEEPER.replace("MOST", "16384"))
        rng = random.Random(9)
        for window, disorder in (("{type: tumbling, size: 8s}", 0),
                                 ("{type: sliding, size: 5s, every: 500ms}", 300_000_000),
                                 ("{type: session, gap: 600ms}", 300_000_000)):
            records = self.drawn(rng, 900, disorder)
            pipeline = self.pipeline("keeper.so", "r: keep(n)", "q: median(n)", window=window,
                                     wait=disorder)
            outputs = {self.replay(pipeline, records, *options)
                       for options in ((), ("--batch", "1"), ("--workers", "3", "--batch", "50"))}
            self.assertEqual(len(outputs), 1)
            most = 0
            for row in harness.rows_of_jsonl(outputs.pop()):
                mine = [r[2] for r in records if r[1] == row["key"]
                        and row["window_start"] <= r[0] < row["window_end"]]
                if not row.get("retracted"):
                    self.assertEqual(row["r"], 1000000 * len(mine) + sum(mine))
                most = max(most, len(mine))
            self.assertGreater(most, 15)  # some have grown twice

    def test_what_has_no_room_in_a_state_at_its_largest_is_skipped(self):
        self.build("keeper", KEEPER.replace("MOST", "256"))
        records = [(i, "a", i, 1, 1, "true") for i in range(100)]
        for batch in ("1", "7", "100"):
            out = self.replay(self.pipeline("keeper.so", "r: keep(n)", "c: count()"), records, "--batch", batch)
            row = harness.rows_of_jsonl(out)[0]
            self.assertEqual((row["r"], row["c"]), (31_000_000 + sum(range(31)), 100))

    # What it gives is made well-formed

    def result_of(self, gives, body, argument="n", takes="RML_PLUGIN_INT"):
        """The one result of a plug-in whose `finish` is `body`."""
        source = (COUNTER.replace("memcpy(cell, state, 8);\n    return 1;", f"(void)state;\n    {body}")
                  .replace("RML_PLUGIN_GIVES_U64", gives).replace("{RML_PLUGIN_INT}", f"{{{takes}}}"))
        self.build("odd", source)
        pipeline = self.pipeline("./odd.so", f"r: counter({argument})")
        out = self.replay(pipeline, [(1, "a", 200, 1.5, 7, "true")])
        return harness.rows_of_jsonl(out)[0]["r"]

    def test_what_is_no_number_is_null_and_infinities_are_kept(self):
        double = "double d = {}; memcpy(cell, &d, 8); return 1;"
        self.assertIsNone(self.result_of("RML_PLUGIN_GIVES_F64", double.format("__builtin_nan(\"\")")))
        self.assertEqual(self.result_of("RML_PLUGIN_GIVES_F64", double.format("-__builtin_inf()")),
                         "-Infinity")

    def test_every_byte_but_0_is_true(self):
        self.assertIs(self.result_of("RML_PLUGIN_GIVES_BOOL", "*(char *)cell = 77; return 1;"), True)
        self.assertIs(self.result_of("RML_PLUGIN_GIVES_BOOL", "return -3;"), False)

    def test_text_ends_at_its_first_nul_or_with_its_room(self):
        self.assertEqual(self.result_of("RML_PLUGIN_GIVES_STR16",
                                        "memcpy(cell, \"ab\\0cdefghijklmnop\", 16); return 1;"), "ab")
        self.assertEqual(self.result_of("RML_PLUGIN_GIVES_STR8",
                                        "memcpy(cell, \"abcdefgh\", 8); return 1;"), "abcdefgh")

    def test_what_is_not_written_is_zero_and_what_is_not_wanted_is_null(self):
        self.assertEqual(self.result_of("RML_PLUGIN_GIVES_I64", "return 1;"), 0)
        self.assertIsNone(self.result_of("RML_PLUGIN_GIVES_I64", "memset(cell, 1, 8); return 0;"))

    def test_a_result_of_the_arguments_type_is_cut_to_it(self):
        self.assertEqual(self.result_of("RML_PLUGIN_GIVES_SAME",
                                        "memset(cell, 0xff, 8); return 1;"), 2 ** 32 - 1)
        self.assertEqual(self.result_of("RML_PLUGIN_GIVES_SAME", "memcpy(cell, \"z\", 1); return 1;",
                                        "key", "RML_PLUGIN_STR"), "z")
        # of an integer that is given as a double, a double
        self.assertEqual(self.result_of("RML_PLUGIN_GIVES_SAME", "*(double *)cell = 2.5; return 1;",
                                        takes="RML_PLUGIN_FLOAT"), 2.5)

    def test_each_kind_of_argument_comes_as_the_header_says(self):
        source = (COUNTER.replace("{RML_PLUGIN_INT}", "{TAKES}")
                  .replace("->count++", "->count += WHAT")
                  .replace("(void)call;\n    for", "(void)call;\n    const CELL *cells = block->columns[0];\n    for"))
        for argument, takes, cell, what, wanted in (
                ("n", "RML_PLUGIN_INT | RML_PLUGIN_FLOAT", "int64_t", "cells[block->rows[i]]", 403),
                ("n", "RML_PLUGIN_FLOAT", "double", "cells[block->rows[i]] == 200 ? 1 : 10", 11),
                ("big", "RML_PLUGIN_UINT", "uint64_t", "cells[block->rows[i]]", 2 ** 63 + 12),
                ("big", "RML_PLUGIN_FLOAT", "double", "cells[block->rows[i]] > 9e18 ? 1 : 10", 11),
                ("flag", "RML_PLUGIN_BOOL", "uint8_t", "cells[block->rows[i]]", 1),
                ("key", "RML_PLUGIN_STR", "char",
                 "(uint64_t)cells[block->rows[i] * call->cell_bytes[0]] * call->cell_bytes[0]",
                 2 * 97 * 8),
                ("ts", "RML_PLUGIN_INT", "int64_t",
                 "cells[block->rows[i]] == block->time[block->rows[i]]", 2)):
            self.build("kinds", source.replace("TAKES", takes).replace("CELL", cell)
                       .replace("WHAT", what))
            pipeline = self.pipeline("kinds.so", f"r: counter({argument})")
            out = self.replay(pipeline, [(1, "a", 200, 1.5, 2 ** 63 + 5, "true"),
                                         (2, "a", 203, 1.5, 7, "false")])
            self.assertEqual(harness.rows_of_jsonl(out)[0]["r"], wanted, (argument, takes))

    # What is wrong is said where it stands

    def test_a_bad_plug_in_is_refused_with_what_is_wrong_with_it(self):
        pipeline = self.pipeline("./bad.so", "r: counter(n)", "s: nowhere(n)")
        for old, new, sentence in FAULTS:
            with self.subTest(sentence):
                self.assertEqual(COUNTER.count(old), 1, old)
                self.build("bad", COUNTER.replace(old, new))
                err = self.refused(pipeline, sentence, place="4:10")
                self.assertIn("plug-in ./bad.so: ", err)
                # names that it may have had are not complained of on top
                self.assertEqual(err.count("error:"), 1, err)

    def test_a_file_that_is_no_plug_in_is_refused(self):
        pipeline = self.pipeline("./bad.so", "r: count()")
        self.refused(pipeline, "plug-in ./bad.so: No such file or directory", place="4:10")
        self.own(self.write("bad.so", "no object at all\n" * 100))
        self.refused(pipeline, "invalid ELF header")
        (self.dir / "bad.so").unlink()
        (self.dir / "bad.so").mkdir()
        self.refused(pipeline, "it is no file")
        self.refused(self.pipeline("./" + "d/" * 2500 + "x.so", "r: count()"), "its path is too long")
        self.refused(self.pipeline("{a: ./bad.so}", "r: count()"),
                     "plugins must be a text or a list of texts, not a mapping")

    def test_a_plug_in_that_others_could_have_written_is_not_loaded(self):
        plugin = self.build("counter")
        pipeline = self.pipeline("./counter.so", "r: counter(n)")
        self.ringmill("check", pipeline)
        for mode in (0o757, 0o775):
            os.chmod(plugin, mode)
            self.refused(pipeline, "others can write to it: chmod go-w", place="4:10")
        os.chmod(plugin, 0o755)
        os.chmod(self.dir, 0o757)
        self.refused(pipeline, "others can write to its folder")
        os.chmod(self.dir, 0o1777)  # sticky: nobody else can put another file in its place
        self.ringmill("check", pipeline)
        os.chmod(self.dir, 0o755)
        # a link does not hide whose the file is
        (self.dir / "link.so").symlink_to(plugin)
        self.ringmill("check", self.pipeline("link.so", "r: counter(n)"))
        os.chmod(plugin, 0o757)
        self.refused(self.dir / "p.yaml", "others can write to it")
        if os.geteuid() == 0:
            os.chmod(plugin, 0o755)
            os.chown(plugin, 12345, 0)
            self.refused(self.dir / "p.yaml", "it belongs to user 12345, who is neither root nor you")

    def test_names_are_looked_for_among_those_of_plug_ins_too(self):
        self.build("counter")
        err = self.refused(self.pipeline("./counter.so", "r: conter(n)"),
                           "there is no aggregate function conter", place="14:10")
        self.assertIn("did you mean counter?", err)
        self.build("twin")
        self.refused(self.pipeline("[./counter.so, ./twin.so]", "r: counter(n)"),
                     "plug-in ./twin.so: there is a function counter already, of a plug-in",
                     place="4:25")

    def test_arguments_and_parameters_are_checked_when_a_file_is_read(self):
        self.means()
        for call, place, sentence in (
                ("geomean(key)", "14:18", "geomean takes a number, this is a str8"),
                ("geomean(flag)", "14:18", "geomean takes a number, this is a bool"),
                ("geomean()", "14:10", "geomean needs 1 column or expression between"),
                ("wmean(x)", "14:10", "wmean needs 2 columns or expressions between"),
                ("wmean(x, key)", "14:19", "wmean takes a number here, this is a str8"),
                ("wmean(x, nn)", "14:19", "nn"),
                ("wmean(x, n, 1, 2)", "14:25", "wmean: 2 is one parameter too many"),
                ("wmean(x, n, high)", "14:22", "wmean: high is neither a number nor a duration"),
                ("geomean(n, 1)", "14:21", "geomean: 1 is one parameter too many")):
            with self.subTest(call):
                self.refused(self.pipeline("means.so", f"r: {call}"), sentence, place=place)
        takes = COUNTER.replace("{RML_PLUGIN_INT}", "{TAKES}")
        for mask, words in (("RML_PLUGIN_INT", "an integer that is no u64, this is a u64"),
                            ("RML_PLUGIN_STR | RML_PLUGIN_BOOL", "a bool or a string, this is a u64")):
            self.build("counter", takes.replace("TAKES", mask))
            self.refused(self.pipeline("counter.so", "r: counter(big)"), words, place="14:18")

    def test_a_call_that_a_plug_in_cannot_answer_is_refused_in_its_words(self):
        sized = COUNTER.replace(".add = add,", ".size = size, .parameters_most = 1, .add = add,").replace(
            "static uint32_t add(", """
static uint32_t size(const struct rml_plugin_call *call, char *error, size_t error_bytes)
{
    double bytes = call->parameter_count > 0 ? call->parameters[0] : 8;
    if (bytes < 8)
        memcpy(error, "it needs 8 bytes to count", error_bytes < 26 ? error_bytes : 26);
    return bytes < 0 ? 0 : bytes < 8 ? 0 : (uint32_t)bytes;
}
static uint32_t add(""", 1)
        self.build("counter", sized)
        self.refused(self.pipeline("counter.so", "r: counter(n, 7)"),
                     "stage w: counter: it needs 8 bytes to count",
                     place="14:10")
        self.refused(self.pipeline("counter.so", "r: counter(n, 4097)"),
                     "counter would have a state of 4097 bytes, at most 4096 go")
        big = [f"r{i}: counter(n + {i}, 4096)" for i in range(3)]
        self.ringmill("check", self.pipeline("counter.so", *big[:2]))
        self.refused(self.pipeline("counter.so", *big), "more than 8192 bytes together", place="16:11")
        # such states lie beside all others, and hold what they hold
        out = self.replay(self.pipeline("counter.so", *big[:2], "d: distinct(n)", "l: last(key)"),
                          [(i, "a", i, 1, 1, "true") for i in range(100)])
        row = harness.rows_of_jsonl(out)[0]
        self.assertEqual((row["r0"], row["r1"], row["d"], row["l"]), (100, 100, 100, "a"))

    # Where it is loaded

    def test_paths_start_at_the_pipeline_files_folder(self):
        folder = self.dir / "elsewhere"
        folder.mkdir()
        self.build("counter").rename(folder / "counter.so")
        text = self.pipeline("./counter.so", "r: counter(n)").read_text()
        self.refused(self.dir / "p.yaml", "No such file")
        (folder / "p.yaml").write_text(text)
        self.ringmill("check", "elsewhere/p.yaml")
        self.ringmill("check", folder / "p.yaml")
        self.ringmill("check", self.pipeline(str(folder / "counter.so"), "r: counter(n)"))
        # a pipeline file without a folder is in the one that one is in
        self.call("sh", "-c", f"cd elsewhere && {harness.RINGMILL} check - <p.yaml")

    def test_every_command_that_reads_a_pipeline_file_knows_its_functions(self):
        self.build("counter")
        path = self.pipeline("./counter.so", "r: counter(n)")
        text = path.read_text() + """
tests:
  - name: it counts
    feed: {in: [{ts: 1ms, key: a, n: 5}, {ts: 2ms, key: a, n: 6}]}
    expect: {w: [{key: a, r: 2}]}
"""
        path.write_text(text)
        self.assertIn("1 passed", self.ringmill("test", path).stdout)
        self.assertIn("uint64_t r;", self.ringmill("gen", "header", path).stdout)
        said = self.ringmill("explain", path).stdout
        self.assertIn("plug-in      ./counter.so: counter", said)
        self.assertIn("r = counter(n), u64 or null", said)
        self.assertIn('"plugins":[{"path":"./counter.so","functions":["counter"]}]',
                      self.ringmill("explain", "--json", path).stdout)
        self.run_pipeline(text, "p").end()

    def test_no_code_is_loaded_where_none_is_wanted(self):
        mark = self.dir / "mark"
        source = COUNTER.replace("#include <string.h>", f"""#include <string.h>
#include <fcntl.h>
__attribute__((constructor)) static void begin(void)
{{
    (void)open("{mark}", O_CREAT | O_WRONLY, 0600);
}}""")
        self.build("counter", source)
        path = self.pipeline("./counter.so", "r: counter(nn)", "s: sum(nn)")
        err = self.refused(path, "plug-in ./counter.so: no plug-in is loaded here", "--no-plugins",
                           place="4:10")
        self.assertEqual(err.count("error:"), 2, err)  # what else is wrong is said
        self.assertFalse(mark.exists())
        self.ringmill("check", self.pipeline("./counter.so", "r: counter(n)"))
        self.assertTrue(mark.exists())


if __name__ == "__main__":
    unittest.main(argv=sys.argv, verbosity=2)
