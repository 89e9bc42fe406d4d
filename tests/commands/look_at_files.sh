#!/bin/sh
# The commands that only look at pipeline files: check, explain, gen header, and the words around them.
# usage: look_at_files.sh RINGMILL
set -eu
ringmill=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >good.yaml <<'EOF'
version: 1
pipeline: llm
schema: {call: {ts: time_ns, model: str16, status: u16, latency_ms: f32, tokens: u32}}
sources: {calls: {schema: call, event_time: ts, out_of_order: 200ms}}
stages:
  ok: {from: calls, filter: status != 0}
  by:
    from: ok
    key: model
    window: {type: tumbling, size: 1s}
    aggregate: {n: count(), sum: sum(tokens)}
sinks: {out: {from: by, type: jsonl, path: "-"}}
EOF
sed 's/filter:/fliter:/' good.yaml >bad.yaml

# wanted CODE COMMAND...: run it, keep what it says in `out` and `err`
wanted() {
    code=$1
    shift
    got=0
    "$@" >out 2>err </dev/null || got=$?
    if [ "$got" != "$code" ]; then
        echo "wanted exit $code, got $got: $*"
        cat out err
        exit 1
    fi
}
says() {
    if ! grep -qF -- "$2" "$1"; then
        echo "wanted in $1: $2"
        cat out err
        exit 1
    fi
}

# an unknown command or option is told with the one probably meant
wanted 2 "$ringmill"
wanted 2 "$ringmill" chekc
says err "did you mean check?"
wanted 2 "$ringmill" check --jsn good.yaml
says err "did you mean --json?"
wanted 2 "$ringmill" check
wanted 0 "$ringmill" --help
says out "explain FILE"
wanted 0 "$ringmill" --version
wanted 0 "$ringmill" check --help
says out "usage: ringmill check"

# check: a good file in one line, a bad one with place and hint and 78
wanted 0 "$ringmill" check good.yaml
says out "ok: pipeline llm: 1 source, 2 stages, 1 sink"
[ ! -s err ]

# a stage that nobody reads is a warning with its line; a file without sinks is one, too
sed 's/^sinks:/  lost: {from: calls, filter: tokens > 5}\n&/' good.yaml >unread.yaml
wanted 0 "$ringmill" check unread.yaml
says out "ok: pipeline llm: 1 source, 3 stages, 1 sink"
says err "unread.yaml:12: warning: nobody reads stage lost: its rows are thrown away"
says err "name it in the \`from\` of a sink"
[ "$(wc -l <err)" = 2 ]
wanted 0 "$ringmill" check --json unread.yaml
says out '"warnings":[{"line":12,"text":"nobody reads stage lost: its rows are thrown away"'
sed '/^sinks:/d' good.yaml >sinkless.yaml
wanted 0 "$ringmill" check sinkless.yaml
says err "sinkless.yaml: warning: there are no sinks"
[ "$(wc -l <err)" = 2 ]
wanted 0 "$ringmill" check --json good.yaml
says out '"warnings":[]'
wanted 78 "$ringmill" check good.yaml bad.yaml
says out "ok: pipeline llm"
says err "bad.yaml:6:21: error: unknown key fliter in stage ok"
says err "did you mean filter?"
wanted 78 "$ringmill" check --json bad.yaml
says out '"line":6,"column":21,"length":6'
wanted 1 "$ringmill" check nowhere.yaml
says err "nowhere.yaml: No such file or directory"
"$ringmill" check - <good.yaml >out
says out "ok: pipeline llm"

# explain: the plan for people and for programs, and the keys there are
wanted 0 "$ringmill" explain good.yaml
says out "by: tumbling window of 1s"
says out "partitioned  by model"
wanted 0 "$ringmill" explain --json good.yaml
says out '"partition_by":["model"]'
wanted 0 "$ringmill" explain --keys
says out "sources.NAME.out_of_order"
wanted 2 "$ringmill" explain
wanted 78 "$ringmill" explain bad.yaml

# gen header: C that a compiler takes
wanted 0 "$ringmill" gen header good.yaml -o llm.h
echo '#include "llm.h"
int main(void) { struct call c = {0}; struct by_row r = {0}; return c.tokens + (int)r.n; }' >use.c
"${CC:-cc}" -std=c11 -Wall -Wextra -Werror -o use use.c
./use
wanted 0 "$ringmill" gen header good.yaml --schema by
says out "struct by_row {"
wanted 2 "$ringmill" gen header good.yaml --schema nobody
says err "no schema or stage nobody"
wanted 2 "$ringmill" gen haeder good.yaml

# gen header: no file is written over that says what to write, or for nothing
cp good.yaml kept.yaml
wanted 2 "$ringmill" gen header good.yaml -o ./good.yaml
says err "that is the pipeline file"
cmp good.yaml kept.yaml
cp llm.h kept.h
wanted 2 "$ringmill" gen header good.yaml --schema nobody -o llm.h
cmp llm.h kept.h
wanted 1 "$ringmill" gen header good.yaml -o /dev/full
says err "/dev/full cannot be written: No space left on device"

# gen header: records that would be one in C are told, and can be written one by one
sed 's/call:/by_ROW:/; s/schema: call/schema: by_ROW/' good.yaml >twins.yaml
wanted 1 "$ringmill" gen header twins.yaml
says err "the records by_ROW and by_row would have one name"
wanted 0 "$ringmill" gen header twins.yaml --schema by_ROW
says out "struct by_ROW {"
