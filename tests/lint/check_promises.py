#!/usr/bin/env python3
"""A test that a page names runs.

    usage: check_promises.py BUILD    (in the root of the tree: README.md and every page of docs/)

Pages say which test holds what they promise: `a_claim`, `another` in `tests/unit/test_x.c`, or the file and behind it
the claims in brackets. Such a claim is a test of that file: a function that the file's list of tests has, or a method
`test_...` of a scenario. The file is one that ctest runs in BUILD (fuzzers: that a build with them would run). In a table whose
last column is headed `held by` each row names a test at least, and each function that it names is in one of the row's files.
"""
import json
import pathlib
import re
import subprocess
import sys

FILE = re.compile(r"`(tests/(?:unit|scenario|model|fuzz|sim)/[\w.]+)`")
CODE = re.compile(r"`([^`\s]+)`")
# What is a test itself there; the rest is what tests are made of.
KINDS = {"unit": {".c"}, "scenario": {".py"}, "model": {".pml"}, "fuzz": {".c"}, "sim": {}}
SPANS = r"(?:`[a-z]\w+`(?:,? and |,\s+))*`[a-z]\w+`"
BEFORE = re.compile(r"(%s)\s+in\s+`(tests/[\w./]+)`" % SPANS)
BEHIND = re.compile(r"`(tests/[\w./]+)`\s+\((%s)\)" % SPANS)


def runs(path, entries):
    kind, name = path.parts[1], path.stem
    if kind == "fuzz":
        return name.startswith("fuzz_")
    return f"{kind}.{name.removeprefix('test_')}" in entries


def is_claim_of(path, claim):
    text = path.read_text()
    if path.suffix == ".py":
        return re.search(r"^    def %s\(self" % re.escape(claim), text, re.M) and claim.startswith("test_")
    defined = re.search(r"^static void\s+%s\(\s*void \*\*state\)" % re.escape(claim), text, re.M)
    return defined and len(re.findall(r"\b%s\b" % re.escape(claim), text)) > 1


def check(page, entries):
    text = page.read_text()

    def line(at):
        return f"{page}:{text.count(chr(10), 0, at) + 1}"

    for found in FILE.finditer(text):
        path = pathlib.Path(found[1])
        if not path.exists():
            yield f"{line(found.start())}: there is no {path}"
        elif path.suffix in KINDS[path.parts[1]] and not runs(path, entries):
            yield f"{line(found.start())}: {path} is no test that ctest runs"
    for pattern, claims, file in ((BEFORE, 1, 2), (BEHIND, 2, 1)):
        for found in pattern.finditer(text):
            path = pathlib.Path(found[file])
            for claim in CODE.findall(found[claims]):
                if path.is_file() and path.parts[1] in ("unit", "scenario") and not is_claim_of(path, claim):
                    yield f"{line(found.start())}: {path} has no test {claim}"
    yield from check_rows(page, text)


def check_rows(page, text):
    held = False
    for number, row in enumerate(text.split("\n"), 1):
        if not row.startswith("|"):
            held = False
            continue
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if cells[-1] == "held by":
            held = True
        elif held and set(row) - set("|- "):
            files = [pathlib.Path(f) for f in FILE.findall(cells[-1])]
            if not files and not cells[-1].startswith("the same"):
                yield f"{page}:{number}: no test holds what this row promises"
            for claim in CODE.findall(cells[-1]):
                if "/" not in claim and not any(f.is_file() and is_claim_of(f, claim) for f in files):
                    yield f"{page}:{number}: no file of this row has a test {claim}"


def main(build):
    listed = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], capture_output=True, text=True,
                            check=True).stdout
    entries = {test["name"] for test in json.loads(listed[listed.index("{"):])["tests"]}
    pages = [pathlib.Path("README.md"), *sorted(pathlib.Path("docs").glob("*.md"))]
    faults = [fault for page in pages for fault in check(page, entries)]
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"{len(pages)} pages, of which every test runs")
    return bool(faults)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
