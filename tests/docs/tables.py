#!/usr/bin/env python3
"""What docs/pipeline-file.md repeats of the code is what the code says.

    usage: tables.py RINGMILL          compare; exits 1 where the page differs
           tables.py RINGMILL --write  put the code's word into the page

A table of the page stands between `<!-- NAME, written by tests/docs/tables.py -->` and `<!-- end -->`. Keys
come from `ringmill explain --keys`, which prints runtime/plan/settings.def; types and aggregates from their
.def files; limits from the headers. Functions and operators of expressions are explained by hand: of these it
is only compared that all of them are there, and no others. Likewise docs/semantics.md has a section for each
type of window, a row for each aggregate, and one for each door.
"""
import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path("docs/pipeline-file.md")
SEMANTICS = pathlib.Path("docs/semantics.md")

# Every RML_..._MAX of the folders that read a pipeline file: what it limits, or None where no writer of a
# file can meet it.
LIMITS = {
    "RML_YAML_BYTES_MAX": "bytes of a file",
    "RML_YAML_NODES_MAX": "values in a file",
    "RML_YAML_DEPTH_MAX": "mappings and lists inside one another",
    "RML_YAML_MAPPING_MAX": "keys of one mapping",
    "RML_NAME_MAX": "characters of a name",
    "RML_SCHEMAS_MAX": "schemas",
    "RML_FIELDS_MAX": "fields of a record or of a row, and columns of one `map`",
    "RML_RECORD_MAX": "bytes of a record or of a row",
    "RML_COLUMNS_MAX": "columns below one source: its fields, mapped ones, expressions in aggregates",
    "RML_SOURCES_MAX": "sources",
    "RML_STAGES_MAX": "stages",
    "RML_SINKS_MAX": "sinks",
    "RML_AGGREGATES_MAX": "columns of a stage's aggregates: one of most, several of `histogram` and `top`",
    "RML_TOP_MAX": "values of a `top`",
    "RML_PARAMETERS_MAX": "bounds of a `histogram`",
    "RML_KEY_FIELDS_MAX": "columns of a `key`, fields of a `partition_by`",
    "RML_KEY_BYTES_MAX": "bytes of a key; a string counts whole, every other column 8, a `bool` 1",
    "RML_WORKERS_MAX": "workers",
    "RML_PARTITIONS_MAX": "partitions",
    "RML_PLUGINS_MAX": "plug-ins",
    "RML_FUNCTIONS_MAX": "aggregate functions, those of plug-ins included",
    "RML_PLUGIN_FUNCTIONS_MAX": "functions of a plug-in",
    "RML_PLUGIN_ARGUMENTS_MAX": "columns that a plug-in's function takes",
    "RML_PLUGIN_PARAMETERS_MAX": "constants that a plug-in's function takes",
    "RML_PLUGIN_STATE_MAX": "bytes that a state of a plug-in's function begins with",
    "RML_PLUGIN_GROWN_MAX": "bytes of a state of a plug-in's function that has grown",
    "RML_PLUGIN_STATES_MAX": "bytes of such states in one stage, for one key and pane",
    "RML_PANES_MAX": "panes of a window: `(size + late + out_of_order) / gcd(size, every)` lies below",
    "RML_EXPR_LENGTH_MAX": "bytes of an expression",
    "RML_EXPR_NESTING_MAX": "parentheses, calls, `not` and `-` inside one another",
    "RML_EXPR_CALL_ARGS_MAX": "arguments of a call",
    "RML_ALLOW_MAX": "users of one list, and groups",
    "RML_PLAN_ERRORS_MAX": "errors that are shown; further ones are counted",
    "RML_DEFAULTS_MAX": None,
    "RML_LOST_MAX": None,
    "RML_TEXT_FIELD_MAX": None,
    "RML_NUMBER_TEXT_MAX": None,
}
SIZES = {"uint8_t": 1, "uint16_t": 2, "uint32_t": 4, "uint64_t": 8, "int8_t": 1, "int16_t": 2, "int32_t": 4,
         "int64_t": 8, "float": 4, "double": 8, "char": 1}
RANGES = {"u": "0 to 2^{} - 1", "i": "-2^{} to 2^{} - 1"}

faults = []


def cell(text):
    return text.replace("|", "\\|")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def keys(ringmill):
    """Tables by section: `file`, `runtime`, `sources.NAME`, ..."""
    said = subprocess.run([ringmill, "explain", "--keys"], check=True, capture_output=True, text=True).stdout
    sections = {}
    for entry in re.finditer(r"^(\S*?)(\w+): (.*)\n    (.*)\n    (.*)\n", said, re.M):
        path, key, value, sentence, standard = entry.groups()
        choices = value.split(", ")[0].split("|")
        if len(choices) > 1:
            value = " or ".join(f"`{choice}`" for choice in choices)
        default = standard.removeprefix("default: ")
        if default == "must be written":
            default = "**must be written**"
        elif re.match(r"\d", default) or default in choices:
            default = f"`{default}`"
        section = path.rstrip(".") or "file"
        sections.setdefault(section, []).append([f"`{key}`", cell(value), default, cell(sentence)])
    return {section: table(["key", "value", "default", "meaning"], rows) for section, rows in sections.items()}


def types():
    rows = []
    for name, size, kind, ctype in re.findall(r"^RML_TYPE\(\w+, (\w+), (\d+), (\w+), (\w+)\)",
                                              pathlib.Path("runtime/record/type.def").read_text(), re.M):
        bits = int(size) * 8
        holds = {"FLOAT": f"IEEE 754 of {bits} bits", "BOOL": "0: false; every other byte: true",
                 "STR": f"up to {size} bytes, padded with NUL"}.get(kind)
        if name == "time_ns":
            holds = "nanoseconds since 1970-01-01 UTC"
        elif holds is None:
            holds = RANGES[name[0]].format(*[bits - (name[0] == "i")] * 2)
        in_c = f"char[{size}]" if kind == "STR" else ctype
        rows.append([f"`{name}`", size, str(SIZES[ctype]), f"`{in_c}`", holds])
    return table(["type", "bytes", "alignment", "in C", "holds"], rows)


def aggregates():
    text = pathlib.Path("operators/aggregate.def").read_text()
    rows = []
    for name, argument, parameters, type_, nullable, sentence in re.findall(
            r'^RML_AGGREGATE\(\w+, (\w+), (\w+), (\w+), (\w+), [^,]+, (\w+),\s*"((?:[^"\\]|\\.|"\s+")*)"\)', text,
            re.M):
        takes = {"NONE": "nothing", "BOOL": "a bool", "NUMBER": "a number",
                 "ANY": "anything"}[argument]
        takes += {"NONE": "", "SPAN": ", a duration", "COUNT": ", a number from 1 to 10", "BOUNDS": ", bounds that rise",
                  "QUANTILE": ", a number from 0 to 1, if need be `exact` or an accuracy such as `0.5%`"}[parameters]
        gives = {"count": "`u64`", "float": "`f64`", "argument": "its argument's",
                 "sum": "`f64` of floats, `u64` of `u64`, else `i64`",
                 "range": "`f64` of floats, else `u64`"}[type_]
        rows.append([f"`{name}`", takes, gives, "yes" if nullable == "true" else "no",
                     re.sub(r'"\s+"', "", sentence)])
    if len(rows) != len(re.findall(r"^RML_AGGREGATE\(", text, re.M)):
        faults.append("operators/aggregate.def: a line that tables.py cannot read")
    return table(["function", "takes", "type", "null of nothing", "meaning"], rows)


def limits():
    found = {}
    for folder in ("runtime/plan", "runtime/record", "runtime/plugin"):
        for header in sorted(pathlib.Path(folder).glob("*.h")):
            for name, value in re.findall(r"^#\s*define (RML_\w+_MAX)\s+(.*?)\s*(?://.*)?$",
                                          header.read_text(), re.M):
                found[name] = (value, header)
    rows = []
    for name, what in LIMITS.items():
        if name not in found:
            faults.append(f"tests/docs/tables.py: there is no {name} any more")
        elif what is not None:
            value = re.sub(r"\(1u << (\d+)\)", lambda m: str(1 << int(m[1])), found[name][0]).rstrip("u")
            rows.append([value, what])
    for name in found.keys() - LIMITS.keys():
        faults.append(f"{found[name][1]}: {name} is a limit that LIMITS of tests/docs/tables.py does not know")
    return table(["at most", "of"], rows)


def same(page, what, in_code, in_page):
    for name in sorted(in_code - in_page):
        faults.append(f"{page}: {what} `{name}` is in the code and not in the page")
    for name in sorted(in_page - in_code):
        faults.append(f"{page}: {what} `{name}` is in the page and not in the code")


def section(page, title):
    """What stands between this heading and the next of its rank or a higher one."""
    rank = title.split()[0]
    start = page.index(f"\n{title}\n") + len(title) + 2
    end = re.search(rf"^#{{1,{len(rank)}}} ", page[start:], re.M)
    return page[start:start + end.start()] if end else page[start:]


def first_cells(text):
    """The words in `code` in the first cells of all tables."""
    cells = re.findall(r"^\| (`[^|]*`) \|", text, re.M)
    return {name for entry in cells for name in re.findall(r"`([^`]+)`", entry)}


def check_semantics():
    page = SEMANTICS.read_text()
    settings = pathlib.Path("runtime/plan/settings.def").read_text()
    types_of_windows = re.search(r'^RML_SETTING\(WINDOW, TYPE, .*?"([a-z_|]+)"', settings, re.M | re.S)[1]
    kinds = {name.lower() for name in re.findall(r"^### (.*)$", section(page, "## Kinds of windows"), re.M)}
    same(SEMANTICS, "window", set(types_of_windows.split("|")), kinds)
    functions = re.findall(r"^RML_AGGREGATE\(\w+, (\w+),", pathlib.Path("operators/aggregate.def").read_text(), re.M)
    told = {name.split("(")[0] for name in first_cells(section(page, "## Aggregates")) if "(" in name}
    same(SEMANTICS, "aggregate", set(functions), told)
    doors = re.findall(r"^RML_STAGE_DOOR\((\w+),", pathlib.Path("runtime/observe/counters.def").read_text(), re.M)
    same(SEMANTICS, "door", set(doors), first_cells(section(page, "## Every record leaves by one door")))


def check_expressions(page):
    calls = pathlib.Path("runtime/record/expr_call.c").read_text()
    forms = re.findall(r'^    \{"\w+", \w+, \w+, \w+, \w+, "([^"]+)"\},', calls, re.M)
    shown = first_cells(section(page, "## Expressions"))
    same(PAGE, "function", set(forms), {name for name in shown if "(" in name})
    operations = pathlib.Path("runtime/record/expr_op.def").read_text()
    signs = {sign for sign in re.findall(r'^RML_EXPR_\w+\(\w+, \w+, "([^"]*)"', operations, re.M)
             if sign and (not sign.isalpha() or sign == "not")}
    same(PAGE, "operator", signs | {"and", "or"}, {name for name in shown if "(" not in name})


def main(ringmill, *options):
    page = PAGE.read_text()
    wanted = {f"keys of {section}": text for section, text in keys(ringmill).items()}
    wanted.update({"types": types(), "aggregates": aggregates(), "limits": limits()})
    seen = set()

    def put(match):
        name = match[1]
        seen.add(name)
        if name not in wanted:
            faults.append(f"{PAGE}: there is no table {name}")
            return match[0]
        return f"<!-- {name}, written by tests/docs/tables.py -->\n{wanted[name]}<!-- end -->"

    new = re.sub(r"<!-- ([^,>]*), written by tests/docs/tables.py -->\n.*?<!-- end -->", put, page, flags=re.S)
    for name in wanted.keys() - seen:
        faults.append(f"{PAGE}: the table {name} is missing")
    check_expressions(page)
    check_semantics()
    if "--write" in options:
        PAGE.write_text(new)
    elif new != page:
        for old, line in zip(page.splitlines(), new.splitlines()):
            if old != line:
                faults.append(f"{PAGE}: the page says\n    {old}\nand the code\n    {line}")
                break
        faults.append(f"put it right with: {sys.argv[0]} {ringmill} --write")
    print("\n".join(faults) or f"{PAGE}: {len(seen)} tables say what the code says")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main(*sys.argv[1:])
