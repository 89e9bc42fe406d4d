#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/plan/print.h"
#include "tests/support/plan.h"
#include "tests/support/test.h"

#define STAGES PLAN_HEAD "stages:\n"
#define W      STAGES "  w:\n    from: calls\n    key: model\n    " WINDOW "\n    aggregate:\n      n: "
#define OK     STAGES "  ok: {from: calls, filter: tokens > 0}\n"
#define WINDOW "window: {type: tumbling, size: 1s}"
#define BY     STAGES "  by: {from: calls, key: model, " WINDOW ", aggregate: {n: count()}}\n"
#define SINKS  BY "sinks:\n"
#define TESTS  BY "tests:\n"

/* A bad file, where its only error stands, a part of the sentence, and a part of the hint. */
static const struct bad {
    const char *text;
    uint32_t line, column, length;
    const char *sentence, *hint;
} bad_files[] = {
    // the form
    {"", 1, 1, 1, "the file is empty", "version: 1"},
    {"just words", 1, 1, 10, "file must be a mapping of keys to values, not a single value", ""},
    {"a: [1\n", 2, 1, 1, "this is not YAML", ""},
    {"a: \x01", 1, 4, 1, "the control character 0x01 is not text", ""},
    {"a: \xff", 1, 4, 1, "byte 0xff is not UTF-8 text", ""},
    {"a: \xc0\xaf", 1, 4, 1, "byte 0xc0 is not UTF-8 text", ""},
    {"a: \xed\xa0\x80", 1, 4, 1, "byte 0xed is not UTF-8 text", ""},
    {OK "--- {}\n", 7, 1, 3, "a pipeline file holds one document", "file of its own"},
    {OK "stages: {}\n", 7, 1, 6, "the key stages stands here twice", "keep one"},
    {STAGES "  ok: !x {from: calls, filter: true}\n", 6, 7, 2, "tags are not read",
     "leave the tag"},
    {STAGES "  ok: {from: &a calls, filter: true}\n", 6, 15, 1, "anchors are not read",
     "write the"},
    {STAGES "  ok: *b\n", 6, 8, 1, "aliases are not read", "write the value out"},
    {STAGES "  [a]: {from: calls, filter: true}\n"
            "  b: {from: calls, filter: true}\n",
     6, 3, 1, "a key is a plain word", ""},
    {STAGES "  a: {from: \"x\\0y\", filter: true}\n", 6, 14, 4, "cannot hold the character NUL",
     ""},
    {"a: [[[[[[[[[[[[[[[[[[[[[[", 1, 19, 1, "nested too deep", ""},
    {"version: 1\npipeline: p\nschema: {s: {ts: time_ns, b: }}\n"
     "sources: {c: {schema: s, event_time: ts}}\nstages: {a: {from: c, filter: true}}\n",
     3, 27, 1, "field b: there is no type written", ""},
    {OK "  b: {from: calls, filter: 'true\n    '}\n", 7, 29, 4, "single quotes ends on its line",
     "double"},
    // keys
    {"versoin: 1\n" OK, 1, 1, 7, "unknown key versoin in file", "did you mean version?"},
    {OK "sink: {}\n", 7, 1, 4, "unknown key sink in file", "did you mean sinks?"},
    {OK "foo: 1\n", 7, 1, 3, "unknown key foo in file", "there is version, pipeline, schema"},
    {STAGES "  ok: {frm: calls, filter: true}\n", 6, 8, 3, "unknown key frm in stage ok", "from?"},
    {STAGES "  ok: {filter: true}\n", 6, 3, 2, "stage ok: the key from is missing", "it reads"},
    {STAGES "  ok: 3\n", 6, 3, 2, "stage ok must be a mapping of keys to values", ""},
    {STAGES "  ok:\n", 6, 3, 2, "stage ok must be a mapping of keys to values, not nothing", ""},
    {PLAN_HEAD "stages: {}\n", 5, 1, 6, "file: stages is empty", ""},
    {PLAN_HEAD "stages: [a]\n", 5, 1, 6, "file: stages must be a mapping, not a list", ""},
    // numbers
    {OK "runtime: {workers: many}\n", 7, 20, 4, "workers must be an integer, not many", ""},
    {OK "runtime: {workers: 0}\n", 7, 20, 1, "workers must lie between 1 and 64, not 0", ""},
    {OK "runtime: {workers: \"2\"}\n", 7, 21, 1, "workers must be an integer, not 2", ""},
    {OK "runtime: {workers: [2]}\n", 7, 11, 7, "workers must be an integer, not a list", ""},
    {OK "runtime: {partitions: 99999999999999999999}\n", 7, 23, 20, "between 1 and 256", ""},
    {OK "runtime: {state_limit: 64}\n", 7, 24, 2, "state_limit must be a size", "64MiB or 64GiB"},
    {OK "runtime: {state_limit: 1B}\n", 7, 24, 2, "state_limit must lie between 1MiB and", ""},
    {OK "runtime: {state_prefault: 2}\n", 7, 27, 1, "state_prefault must be a size",
     "2MiB or 2GiB"},
    {OK "runtime: {state_limit: 1GiB, state_prefault: 2GiB}\n", 7, 46, 4,
     "state_prefault must not be more than state_limit", "both are for one partition"},
    {OK "runtime: {state_prefault: 5GiB}\n", 7, 27, 4,
     "state_prefault must not be more than state_limit", "both are for one partition"},
    {OK "runtime: {cpus: [0, x]}\n", 7, 21, 1, "a CPU is a number between 0 and 1023, not x", ""},
    {OK "runtime: {cpus: []}\n", 7, 11, 4, "cpus is an empty list", ""},
    // users and groups
    {OK "runtime: {view: {users: [root, rooot]}}\n", 7, 32, 5,
     "allow of runtime.view: there is no user rooot", "did you mean root?"},
    {OK "runtime: {control: {groups: zzqqyyxx}}\n", 7, 29, 8,
     "allow of runtime.control: there is no group zzqqyyxx", "its number would do"},
    {OK "runtime: {view: {users: 4294967295}}\n", 7, 25, 10, "no user has the number 4294967295",
     ""},
    {OK "runtime: {view: {users: -1}}\n", 7, 25, 2, "no user has the number -1", ""},
    {OK "runtime: {view: {users: []}}\n", 7, 18, 5, "users is an empty list", "leave the key"},
    {OK "runtime: {view: root}\n", 7, 11, 4, "must be a mapping of keys", ""},
    {OK "runtime: {view: {user: root}}\n", 7, 18, 4, "unknown key user in allow of runtime.view",
     "did you mean users?"},
    {OK "runtime: {limits: {hello: 0s}}\n", 7, 27, 2, "hello must lie between 10ms and 1h", ""},
    {BY "sinks: {f: {from: by, type: csv, path: f, allow: {users: 0}}}\n", 7, 43, 5,
     "sink f: a file has no allow", "leave it away"},
    {OK "runtime: {workers: 4, partitions: 2}\n", 7, 20, 1, "4 workers share 2 partitions",
     "raise"},
    // names
    {STAGES "  a-b: {from: calls, filter: true}\n", 6, 3, 3, "a-b is no name for a stage",
     "letters"},
    {STAGES "  or: {from: calls, filter: true}\n", 6, 3, 2, "or is a word of expressions",
     "another"},
    {STAGES "  int: {from: calls, filter: true}\n", 6, 3, 3, "int is a word of C", "another name"},
    {STAGES "  calls: {from: calls, filter: true}\n", 6, 3, 5, "calls is a source already",
     "another"},
    // stages
    {STAGES "  ok: {from: cals, filter: true}\n", 6, 14, 4, "no source or stage cals",
     "mean calls?"},
    {STAGES "  ok: {from: ok, filter: true}\n", 6, 14, 2,
     "stage ok reads, by way of ok, from itself", "begin at a source"},
    {STAGES "  ab: {from: cd, filter: true}\n"
            "  cd: {from: ab, filter: true}\n"
            "  ef: {from: cd, filter: true}\n",
     6, 14, 2, "stage ab reads, by way of cd, from itself", "begin at a source"},
    {STAGES "  ok: {from: calls.late, filter: true}\n", 6, 14, 10, "only window stages have a late",
     ""},
    {OK "  b: {from: ok.late, filter: true}\n", 7, 13, 7, "ok has no late output", ""},
    {BY "  b: {from: by, filter: true}\n", 7, 13, 2,
     "results of window stage by cannot feed another", "by.late"},
    {STAGES "  ok: {from: calls}\n", 6, 3, 2, "one of filter, map and window must say", ""},
    {STAGES "  ok: {from: calls, filter: true, map: {a: tokens}}\n", 6, 3, 2,
     "only one of filter, map", "two stages"},
    {STAGES "  ok: {from: calls, filter: true, key: model}\n", 6, 35, 3, "key stands only beside a",
     ""},
    {STAGES "  ok: {from: calls, filter: true, max_keys: 3}\n", 6, 35, 8,
     "max_keys stands only beside a", ""},
    {STAGES "  ok: {from: calls, filter: tokens}\n", 6, 29, 6, "a filter is true or false",
     "compare"},
    {STAGES "  ok: {from: calls, filter: statos > 0}\n", 6, 29, 6, "statos", "status"},
    {STAGES "  ok: {from: calls, filter: 'status > 0 and tokns > 1'}\n", 6, 45, 5, "tokns",
     "tokens"},
    {STAGES "  ok:\n    from: calls\n    filter: status >= 400 and tokns > 1\n", 8, 31, 5, "tokns",
     "tokens"},
    {STAGES "  ok: {from: calls, map: {tokens: status}}\n", 6, 27, 6, "there is a column tokens",
     ""},
    {STAGES "  ok: {from: calls, map: {a: [1]}}\n", 6, 27, 1, "a needs an expression",
     "status >= 500"},
    {STAGES "  ok: {from: calls, map: {a: tokns}}\n"
            "  b: {from: ok, filter: a > 1}\n",
     6, 30, 5, "tokns", "tokens"},
    // windows
    {PLAN_HEAD "runtime: {partitions: 1}\nstages:\n"
               "  w: {from: calls, max_keys: 5, window: {type: tumbling, size: 1s}, aggregate: {n: "
               "count()}}\n",
     7, 20, 8, "without a key there are no keys to limit by max_keys", "add  key"},
    {STAGES "  w: {from: calls, key: model, max_keys: 0, window: {type: tumbling, size: 1s}, "
            "aggregate: {n: count()}}\n",
     6, 42, 1, "max_keys must lie between 1 and 4294967294, not 0", ""},
    {STAGES "  w: {from: calls, key: model, when_full: drop, window: {type: tumbling, size: 1s}, "
            "aggregate: {n: count()}}\n",
     6, 43, 4, "there is no when_full drop", "there is refuse, evict_oldest"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, when_full: refuse}, "
            "aggregate: {n: count()}}\n",
     6, 67, 9, "a tumbling window has no when_full", "beside window, for max_keys"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 1s}, aggregate: "
            "{evicted: count()}}\n",
     6, 80, 7, "evicted", ""},
    {STAGES
     "  w: {from: calls, key: model, window: {type: hopping, size: 1s}, aggregate: {n: count()}}\n",
     6, 47, 7, "window w: there is no type hopping", "there is tumbling, sliding, session, global"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: session, size: 1s}, aggregate: {n: count()}}\n",
     6, 56, 4, "a session window has no size", "write  gap"},
    {STAGES "  w: {from: calls, key: model, window: {type: session}, aggregate: {n: count()}}\n", 6,
     32, 6, "a session window needs gap", "silence"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, gap: 1s}, aggregate: "
     "{n: count()}}\n",
     6, 67, 3, "a tumbling window has no gap", "session"},
    {STAGES "  w: {from: calls, key: model, window: {type: session, gap: 2s, max: 1s}, aggregate: "
            "{n: count()}}\n",
     6, 70, 2, "max is shorter than gap", "at least the gap"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 60}, aggregate: {n: "
            "count()}}\n",
     6, 63, 2, "size must be a duration such as 200ms, not 60", "write a unit: 60s or 60ms"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 0s}, aggregate: {n: "
            "count()}}\n",
     6, 63, 2, "size must lie between 1ns and 3650d, not 0s", ""},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 9999d}, aggregate: {n: "
            "count()}}\n",
     6, 63, 5, "size must lie between 1ns and 3650d, not 9999d", ""},
    {STAGES "  w: {from: calls, key: model, window: {type: sliding, size: 1s}, aggregate: {n: "
            "count()}}\n",
     6, 32, 6, "a sliding window needs every", "apart"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, every: 1s}, aggregate: "
     "{n: count()}}\n",
     6, 67, 5, "a tumbling window has no every", "sliding"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: sliding, size: 1s, every: 2s}, aggregate: "
     "{n: count()}}\n",
     6, 73, 2, "every is longer than size", "at most the size"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: sliding, size: 1s, every: 7ns}, aggregate: "
     "{n: count()}}\n",
     6, 32, 6, "panes of 1ns, at most 4096 go", "small multiple of every"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 0 records}, aggregate: "
            "{n: count()}}\n",
     6, 63, 9, "size must lie between 1 and 1000000000 records, not 0 records", ""},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 5 recrds}, aggregate: "
            "{n: count()}}\n",
     6, 63, 8, "size must be a duration", "such as"},
    {STAGES "  w: {from: calls, key: model, window: {type: sliding, size: 9 records, every: 1s}, "
            "aggregate: {n: count()}}\n",
     6, 80, 2, "size is a number of records, so every must be too", "20 records"},
    {STAGES "  w: {from: calls, key: model, window: {type: sliding, size: 9s, every: 1 record}, "
            "aggregate: {n: count()}}\n",
     6, 73, 8, "size is a duration, so every must be too", "such as 200ms"},
    {STAGES "  w: {from: calls, key: model, window: {type: sliding, size: 9 records, every: 10 "
            "records}, aggregate: {n: count()}}\n",
     6, 80, 10, "every is more than size", "at most the size"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 9 records, every: 1 "
            "record}, aggregate: {n: count()}}\n",
     6, 74, 5, "a tumbling window has no every", "sliding"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 9 records, late: 1s}, "
            "aggregate: {n: count()}}\n",
     6, 74, 4, "a counted window has no late", "as they arrive"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 9 records, offset: 1s}, "
            "aggregate: {n: count()}}\n",
     6, 74, 6, "a counted window has no offset", "first record"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, late: 2s, on_late: "
            "drop}, aggregate: {n: count()}}\n",
     6, 67, 4, "with on_late: drop none does", "leave it out"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, on_late: correct}, "
            "aggregate: {n: count()}}\n",
     6, 67, 7, "on_late: correct needs late", "late: 10s"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: tumbling, size: 9 records, on_late: drop}, "
     "aggregate: {n: count()}}\n",
     6, 74, 7, "a counted window has no on_late", "as they arrive"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, trigger: {}}, "
            "aggregate: {n: count()}}\n",
     6, 67, 7, "trigger w: it needs count, or every, or both", "{every: 1s}"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, trigger: {every: 9ms}}, "
     "aggregate: {n: count()}}\n",
     6, 84, 3, "trigger w: every must lie between 10ms and 3650d, not 9ms", ""},
    {STAGES
     "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, trigger: {evry: 1s}}, "
     "aggregate: {n: count()}}\n",
     6, 77, 4, "unknown key evry in trigger w", "did you mean every?"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, trigger: {count: 0}}, "
     "aggregate: {n: count()}}\n",
     6, 84, 1, "trigger w: count must lie between 1 and 1000000000, not 0", ""},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, trigger: 5}, "
            "aggregate: {n: count()}}\n",
     6, 67, 7, "trigger w must be a mapping", ""},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, emit: updates, "
            "trigger: {count: 9}}, aggregate: {n: count()}}\n",
     6, 67, 4, "with emit: updates each record triggers a row already", "one of them"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 1s, emit: final, "
            "trigger: {count: 9}}, aggregate: {n: count()}}\n",
     6, 67, 4, "with emit: final there are no early rows to trigger", "one of them"},
    {STAGES "  w: {from: calls, key: model, window: {type: tumbling, size: 9 records, trigger: "
            "{count: 3}}, aggregate: {n: count()}}\n",
     6, 74, 7, "a counted window has no trigger", "every"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: tumbling, size: 9 records, emit: updates}, "
     "aggregate: {n: count()}}\n",
     6, 74, 4, "a counted window has no emit", "every: 1 record"},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {partial: count()}}\n", 6, 80, 7,
     "its results have a column partial already", "another name"},
    {STAGES "  m: {from: calls, map: {x: max(tokens}}\n", 6, 39, 1,
     "expected , or ), but the expression ends",
     "between braces, what has a comma in it needs quotes"},
    {STAGES "  m: {from: calls, map: {x: 'max(tokens, 3'}}\n", 6, 43, 1,
     "expected , or ), but the expression ends", ""},
    {STAGES "  w: {from: calls, key: model, window: {type: global, size: 1s}, aggregate: {n: "
            "count()}}\n",
     6, 55, 4, "a global window has no size", "all time"},
    {STAGES "  w: {from: calls, key: model, window: {type: global, late: 1s}, aggregate: {n: "
            "count()}}\n",
     6, 55, 4, "a global window has no late", "no record is late"},
    {STAGES
     "  w: {from: calls, key: model, window: {type: global}, aggregate: {r: rate(tokens)}}\n",
     6, 71, 12, "rate divides by the length of the window, and a global one has none", "a sum"},
    {STAGES "  w: {from: calls, key: model, window: {type: sliding, size: 1000 records, every: 1 "
            "record}, aggregate: {n: count()}}\n",
     6, 32, 6, "a key would have 1000 panes of 1 records, at most", "small multiple of every"},
    {STAGES "  w: {from: calls, key: model, " WINDOW "}\n", 6, 3, 1, "a window needs aggregates",
     "such"},
    {STAGES "  w: {from: calls, key: modl, " WINDOW ", aggregate: {n: count()}}\n", 6, 25, 4,
     "there is no column modl", "did you mean model?"},
    {STAGES "  w: {from: calls, key: [model, model], " WINDOW ", aggregate: {n: count()}}\n", 6, 33,
     5, "key names model twice", ""},
    {STAGES "  w: {from: calls, key: latency_ms, " WINDOW ", aggregate: {n: count()}}\n", 6, 25, 10,
     "latency_ms is a float", "an integer"},
    {STAGES "  m: {from: calls, map: {a: tokens / status, revision: tokens}}\n"
            "  w: {from: m, key: [model, revision], " WINDOW ", aggregate: {n: count()}}\n",
     7, 29, 8, "revision is the name of a result column", ""},
    {STAGES "  w: {from: calls, " WINDOW ", aggregate: {n: count()}}\n", 6, 3, 1,
     "without a key its one group would be spread", "partitions: 1"},
    // aggregates
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {n: cuont()}}\n", 6, 83, 5,
     "there is no aggregate function cuont", "did you mean count?"},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {n: count}}\n", 6, 83, 5,
     "an aggregate is a function and its argument", "count()"},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {n: count(tokens)}}\n", 6, 89, 6,
     "count takes nothing between", "count_if"},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {n: sum()}}\n", 6, 83, 5,
     "sum needs a column or an expression", ""},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {n: sum( tokns )}}\n", 6, 88, 5,
     "tokns", "tokens"},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {n: sum(model)}}\n", 6, 87, 5,
     "sum takes a number, this is a str16", ""},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {n: count_if(tokens)}}\n", 6, 92,
     6, "count_if takes a bool, this is a u32", ""},
    {W "ewma(tokens, 10)\n", 11, 23, 2, "stage w: ewma: 10 is no duration",
     "ewma(latency_ms, 10s)"},
    {W "ewma(tokens, 0s)\n", 11, 23, 2, "0s is no time at all", "10s"},
    {W "ewma(tokens, 1s, 2s)\n", 11, 27, 2, "2s is one parameter too many", "10s"},
    {W "ewma(tokens)\n", 11, 10, 12, "ewma needs a duration behind its argument", "10s"},
    {W "ewma(tokens,)\n", 11, 10, 13, "ewma: nothing is no duration", "10s"},
    {W "ewma(min(tokns, 3), 1s)\n", 11, 19, 5, "tokns", "tokens"},
    {W "histogram(tokens, 1, 2x)\n", 11, 31, 2, "histogram: 2x is no number", "10, 100"},
    {W "histogram(tokens, 1, inf)\n", 11, 31, 3, "inf is no number", "10, 100"},
    {W "histogram(tokens, 5, 5)\n", 11, 31, 1, "5 is not above the bound before it", "10, 100"},
    {W "histogram(tokens, 1)\n      n_1: count()\n", 12, 7, 3, "have a column n_1 already",
     "another name"},
    {W "quantile(tokens)\n", 11, 10, 16, "needs a number from 0 to 1 behind", "0.99"},
    {W "quantile(tokens, 99)\n", 11, 27, 2, "99 does not lie between 0 and 1", "0.99"},
    {W "quantile(tokens, 99%)\n", 11, 27, 3, "99% is no number", "0.99"},
    {W "quantile(tokens, 0.5, 0.5)\n", 11, 32, 3,
     "0.5 is neither exact nor an accuracy from 0.1% to 5%", "0.99"},
    {W "quantile(tokens, 0.5, 9%)\n", 11, 32, 2,
     "9% is neither exact nor an accuracy from 0.1% to 5%", "0.99"},
    {W "quantile(tokens, 0.5, 1%, 2)\n", 11, 36, 1, "2 is one parameter too many", "0.99"},
    {W "top(model, 0)\n", 11, 21, 1, "0 is no whole number from 1 to 10", "top(user, 3)"},
    {W "top(model, 2.5)\n", 11, 21, 3, "2.5 is no whole number", "top(user, 3)"},
    {W "top(model, 2, 3)\n", 11, 24, 1, "3 is one parameter too many", "top(user, 3)"},
    {W "top(model, 10)\n      more: top(tokens, 1)\n", 12, 13, 14,
     "have more than 32 result columns", "second stage"},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {n: ewma(tokens, 10s)}}\n", 6,
     83, 11, "an aggregate is a function and its argument", "needs quotes"},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {model: count()}}\n", 6, 80, 5,
     "its results have a column model already", "another name"},
    {STAGES "  w: {from: calls, key: model, " WINDOW ", aggregate: {window_end: count()}}\n", 6, 80,
     10, "its results have a column window_end already", "another name"},
    // sinks
    {SINKS "  a: {from: bi, type: jsonl, path: x}\n", 8, 13, 2, "there is no stage bi", "mean by?"},
    {SINKS "  a: {from: calls, type: jsonl, path: x}\n", 8, 13, 5, "calls is a source",
     "filter: true"},
    {SINKS "  a: {from: by, type: json, path: x}\n", 8, 23, 4, "there is no type json", "jsonl?"},
    {SINKS "  a: {from: by, type: jsonl}\n", 8, 3, 1, "a file needs a path", "results.jsonl"},
    {SINKS "  a: {from: by, type: jsonl, path: x/}\n", 8, 36, 2, "x/ is a folder", ""},
    {SINKS "  a: {from: by, type: ring, path: x}\n", 8, 29, 4, "a ring has no path",
     "leave it away"},
    {SINKS "  a: {from: by, type: csv, path: x, rows: 64}\n", 8, 37, 4, "a file has no rows",
     "leave"},
    {SINKS "  a: {from: by, type: csv, path: x, times: iso}\n", 8, 44, 3, "there is no times iso",
     "ns"},
    {SINKS "  a: {from: by, type: lmdb}\n", 8, 23, 4, "the file has no runtime.state",
     "state: ./state"},
    {SINKS "  a: {from: by, type: lmdb, path: x}\nruntime: {state: s}\n", 8, 29, 4,
     "a table has no path", "leave"},
    {SINKS "  a: {from: by, type: lmdb, rows: 64}\nruntime: {state: s}\n", 8, 29, 4,
     "a table has no rows", "leave"},
    {SINKS "  a: {from: by, type: csv, path: x, keep: 1h}\n", 8, 37, 4, "a file has no keep",
     "leave"},
    {SINKS "  a: {from: by, type: ring, max_rows: 5}\n", 8, 29, 8, "a ring has no max_rows",
     "leave"},
    {SINKS "  a: {from: [by, by.late], type: lmdb}\n"
           "  b: {from: by.late, type: lmdb}\nruntime: {state: s}\n",
     9, 7, 4, "sink a keeps a table of by.late already", "one table"},
    {SINKS "  a: {from: [by, by], type: jsonl, path: x}\n", 8, 18, 2, "from names by twice", ""},
    {SINKS "  a: {from: [by, by.late], type: csv, path: x}\n", 8, 7, 4, "a csv file has one header",
     ""},
    {SINKS "  a: {from: [by, by.late], type: ring}\n", 8, 7, 4, "rows of one stage",
     "sink for each"},
    {SINKS "  a: {from: by, type: jsonl, path: ./d//x}\n"
           "  b: {from: by.late, type: jsonl, path: d/x}\n",
     9, 41, 3, "sink a writes to d/x already", "file of its own"},
    // tests
    {TESTS "  - {name: t, feed: {cals: []}, expect: {by: []}}\n", 8, 22, 4, "no source cals",
     "calls?"},
    {TESTS "  - {name: t, feed: {calls: [{ts: 0ms, tokns: 1}]}, expect: {by: []}}\n", 8, 40, 5,
     "calls has no field tokns", "did you mean tokens?"},
    {TESTS "  - {name: t, feed: {calls: [{tokens: 1}]}, expect: {by: []}}\n", 8, 30, 1,
     "needs its event time, ts", ""},
    {TESTS "  - {name: t, feed: {calls: [{ts: 0s, tokens: null}]}, expect: {by: []}}\n", 8, 47, 4,
     "tokens is never null", ""},
    {TESTS "  - {name: t, feed: {calls: [{ts: 0s, tokens: many}]}, expect: {by: []}}\n", 8, 47, 4,
     "test t: tokens: 'many' is not", ""},
    {TESTS "  - {name: t, feed: {calls: [{ts: 0s, status: 65536}]}, expect: {by: []}}\n", 8, 47, 5,
     "test t: status: 65536 does not fit u16", ""},
    {TESTS "  - {name: t, feed: {calls: [{ts: soon}]}, expect: {by: []}}\n", 8, 35, 4,
     "test t: ts: 'soon' is not a time", ""},
    {TESTS "  - {name: t, feed: {calls: [{ts: 0s, model: abcdefghijklmnopq}]}, expect: {by: []}}\n",
     8, 46, 17, "test t: model: ", ""},
    {TESTS "  - {name: t, feed: {calls: []}, expect: {by: [{n: 1.5}]}}\n", 8, 52, 3,
     "test t: n: '1.5' is not", ""},
    {TESTS "  - {name: t, feed: {calls: []}, expect: {by: [{window: [0s, x]}]}}\n", 8, 62, 1,
     "test t: window_end: 'x' is not a time", ""},
    {TESTS "  - {name: t, feed: {calls: 3}, expect: {by: []}}\n", 8, 29, 1, "must be a list", ""},
    {TESTS "  - {name: t, feed: {calls: [x]}, expect: {by: []}}\n", 8, 30, 1, "a row is a mapping",
     ""},
    {TESTS "  - {name: t, feed: {calls: []}, expect: {bye: []}}\n", 8, 43, 3, "no stage bye",
     "by?"},
    {TESTS "  - {name: t, feed: {calls: []}, expect: {by: [{m: 1}]}}\n", 8, 49, 1,
     "by has no column m", ""},
    {TESTS "  - {name: t, feed: {calls: []}, expect: {by: [{window: 1s}]}}\n", 8, 49, 6,
     "window is a list of its start and its end", "[0s, 1s]"},
    {TESTS "  - {name: t, feed: {calls: []}, expect: {by: [{n: null}]}}\n", 8, 52, 4,
     "n is never null", ""},
};

static int errors_of(const char *text, struct rml_plan_errors *errors)
{
    struct rml_plan *plan = NULL;
    struct rml_err err = {0};
    int rc = rml_plan_parse(text, strlen(text), "bad.yaml", plan_functions(), &plan, errors, &err);
    rml_plan_close(plan);
    return rc;
}

static bool fits(const struct bad *bad, const struct rml_plan_errors *errors)
{
    if (errors->count != 1)
        return false;
    const struct rml_plan_error *error = &errors->list[0];
    return error->line == bad->line && error->column == bad->column && error->length == bad->length
           && strstr(error->text, bad->sentence) != NULL && strstr(error->hint, bad->hint) != NULL;
}

static void a_mistake_is_named_once_where_it_stands(void **state)
{
    (void)state;
    uint32_t wrong = 0;
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
        const struct bad *bad = &bad_files[i];
        struct rml_plan_errors errors;
        int rc = errors_of(bad->text, &errors);
        if (rc != -EINVAL || !fits(bad, &errors)) {
            wrong++;
            print_error("%s\n  wanted %u:%u+%u %s (%s)\n", bad->text, bad->line, bad->column,
                        bad->length, bad->sentence, bad->hint);
            for (uint32_t e = 0; e < errors.count; e++)
                print_error("     got %u:%u+%u %s (%s)\n", errors.list[e].line,
                            errors.list[e].column, errors.list[e].length, errors.list[e].text,
                            errors.list[e].hint);
        }
        rml_plan_errors_fini(&errors);
    }
    assert_int_equal(wrong, 0);
}

static void all_errors_come_in_one_pass_in_the_order_of_the_file(void **state)
{
    (void)state;
    static const char text[] =
        "version: 2\n"
        "pipeline: a b\n"
        "sinks: {s: {from: nobody, type: jsonl, path: x}}\n"
        "stages: {ok: {from: calls, filter: nothing > 0}, w: {from: calls, key: a,\n"
        "   window: {type: tumbling, size: 1}, aggregate: {n: cnt()}}}\n"
        "sources: {calls: {schema: s, event_time: ts, cells: 3}}\n"
        "schema: {s: {ts: time_ns, a: u7}}\n"
        "runtime: {workers: x}\n";
    static const uint32_t lines[] = {1, 2, 3, 4, 5, 5, 6, 7, 8};
    struct rml_plan_errors errors;
    assert_int_equal(errors_of(text, &errors), -EINVAL);
    assert_int_equal(errors.count, sizeof lines / sizeof lines[0]);
    for (uint32_t i = 0; i < errors.count; i++)
        assert_int_equal(errors.list[i].line, lines[i]);
    rml_plan_errors_fini(&errors);
}

static void an_error_takes_no_others_with_it(void **state)
{
    (void)state;
    // the field of unknown type is used as partition key, key, in a filter and in an aggregate
    static const char text[] =
        "version: 1\n"
        "pipeline: p\n"
        "schema: {s: {ts: time_ns, a: u7}}\n"
        "sources: {calls: {schema: s, event_time: ts, partition_by: a}}\n"
        "stages:\n"
        "  ok: {from: calls, filter: a > 1}\n"
        "  w: {from: ok, key: a, window: {type: tumbling, size: 1s}, aggregate: {n: sum(a)}}\n";
    struct rml_plan_errors errors;
    assert_int_equal(errors_of(text, &errors), -EINVAL);
    assert_int_equal(errors.count, 1);
    assert_int_equal(errors.list[0].line, 3);
    rml_plan_errors_fini(&errors);
}

static void keys_must_contain_what_the_source_is_partitioned_by(void **state)
{
    (void)state;
    static const char text[] =
        "version: 1\n"
        "pipeline: p\n"
        "schema: {s: {ts: time_ns, a: u8, b: u8}}\n"
        "sources:\n"
        "  one: {schema: s, event_time: ts, partition_by: [a]}\n"
        "  two: {schema: s, event_time: ts}\n"
        "stages:\n"
        "  w: {from: one, key: b, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n"
        "  x: {from: two, key: a, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n"
        "  y: {from: two, key: b, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n";
    struct rml_plan_errors errors;
    assert_int_equal(errors_of(text, &errors), -EINVAL);
    assert_int_equal(errors.count, 2);
    assert_int_equal(errors.list[0].line, 6);
    assert_non_null(strstr(errors.list[0].text, "no field of the record in common"));
    assert_int_equal(errors.list[1].line, 8);
    assert_non_null(strstr(errors.list[1].text, "the key must contain a"));
    rml_plan_errors_fini(&errors);
}

static void of_many_errors_the_first_in_the_file_are_kept_and_the_rest_counted(void **state)
{
    (void)state;
    char text[20000];
    size_t used = 0;
    for (int i = 0; i < 200; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "nokey%d: 1\n", i);
    struct rml_plan_errors errors;
    assert_int_equal(errors_of(text, &errors), -EINVAL);
    assert_int_equal(errors.count, RML_PLAN_ERRORS_MAX);
    assert_true(errors.more >= 150);
    // the missing keys of the whole file are told of at its start
    assert_int_equal(errors.list[0].line, 1);
    assert_true(errors.list[RML_PLAN_ERRORS_MAX - 1].line < 50);
    rml_plan_errors_fini(&errors);
}

static void print_to(const char *text, char *out, size_t bytes)
{
    struct rml_plan_errors errors;
    assert_int_equal(errors_of(text, &errors), -EINVAL);
    FILE *stream = fmemopen(out, bytes, "w");
    assert_non_null(stream);
    rml_plan_errors_print(&errors, "bad.yaml", false, stream);
    fclose(stream);
    rml_plan_errors_fini(&errors);
}

static void an_error_is_shown_with_its_line_a_caret_and_a_hint(void **state)
{
    (void)state;
    char out[4096] = "";
    print_to(STAGES "  ok: {frm: calls, filter: true}\n", out, sizeof out);
    assert_string_equal(out, "bad.yaml:6:8: error: unknown key frm in stage ok\n"
                             "    6 |   ok: {frm: calls, filter: true}\n"
                             "      |        ^~~\n"
                             "      = did you mean from?\n");
}

static void the_caret_stands_right_behind_tabs_and_letters_of_many_bytes(void **state)
{
    (void)state;
    char out[4096] = "";
    print_to(OK "runtime: {\tcpus: [\"\xc3\xa4\xe2\x82\xac\", x]}\n", out, sizeof out);
    const char *caret = strstr(out, "x]}\n");
    assert_non_null(caret);
    assert_non_null(strstr(caret, "x]}\n      |                            ^\n"));
}

static void a_long_line_is_cut_around_the_caret(void **state)
{
    (void)state;
    char text[2048], out[4096] = "", blanks[301];
    memset(blanks, ' ', 300);
    blanks[300] = '\0';
    snprintf(text, sizeof text, "%sruntime: {%s workers: x,%s cpus: 1}\n", OK, blanks, blanks);
    print_to(text, out, sizeof out);
    const char *line = strchr(out, '\n');
    assert_non_null(line);
    assert_true(strcspn(line + 1, "\n") < 120);
    assert_non_null(strstr(out, "workers: x,"));
    assert_non_null(strstr(out, "..."));
}

TEST_MAIN(CLAIM(a_mistake_is_named_once_where_it_stands),
          CLAIM(all_errors_come_in_one_pass_in_the_order_of_the_file),
          CLAIM(an_error_takes_no_others_with_it),
          CLAIM(keys_must_contain_what_the_source_is_partitioned_by),
          CLAIM(of_many_errors_the_first_in_the_file_are_kept_and_the_rest_counted),
          CLAIM(an_error_is_shown_with_its_line_a_caret_and_a_hint),
          CLAIM(the_caret_stands_right_behind_tabs_and_letters_of_many_bytes),
          CLAIM(a_long_line_is_cut_around_the_caret))
