#!/usr/bin/env python3
"""Run a static analyzer over what the programs are made of: check_static.py TOOL BUILD-FOLDER [FILE...]

TOOL      is held to                          and wants a folder built with
tidy      .clang-tidy                         clang
analyzer  gcc's -fanalyzer                    gcc
cppcheck  tests/lint/cppcheck-suppressions    either

The folder has been built, so that generated headers are there. A file that passed is remembered, in
the folder, by what the preprocessor makes of it and by what it was held to, and looked at again when
one of them changes.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("runtime", "operators", "tools")
SUPPRESSIONS = ROOT / "tests/lint/cppcheck-suppressions"


def compiling(entry):
    """The command that compiles the file, without the object that it would write."""
    command = [word for word in shlex.split(entry["command"]) if not word.endswith("ccache")]
    output = command.index("-o")
    del command[output:output + 2]
    return command


def tidy(entry, build):
    return ["clang-tidy-14", "--quiet", "-p", build, "--extra-arg=-Wno-unknown-warning-option",
            entry["file"]]


def analyzer(entry, _build):
    # It takes what is reached through a second pointer for lost; clang's analyzer and the address
    # sanitizer look for leaks as well.
    return compiling(entry) + ["-fanalyzer", "-Wno-analyzer-malloc-leak", "-o", os.devnull]


def cppcheck(entry, _build):
    given = [word for word in compiling(entry) if word[:2] in ("-D", "-I", "-U")]
    return ["cppcheck", "--std=c11", "--quiet", "--error-exitcode=1", "--inline-suppr",
            "--enable=warning,style,performance,portability",
            f"--suppressions-list={SUPPRESSIONS}",
            "--template={file}:{line}: {id}: {message}", *given, entry["file"]]


# How each is called, and the file that says what it holds to.
TOOLS = {"tidy": (tidy, ROOT / ".clang-tidy"),
         "analyzer": (analyzer, pathlib.Path(__file__)),
         "cppcheck": (cppcheck, SUPPRESSIONS)}


def digest(entry, config):
    """A name for all that a verdict depends on, comments included: they may silence a check."""
    command = [word for word in compiling(entry) if word != "-c"]
    made = subprocess.run(command + ["-E", "-C", "-P"], cwd=entry["directory"], check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return hashlib.sha256(config + made.stdout).hexdigest()


def look(entry, call, passed, build, config):
    """The findings in one file, or nothing."""
    try:
        stamp = passed / digest(entry, config)
    except subprocess.CalledProcessError as error:  # a generated header that was never built
        return error.stderr.decode(errors="replace")
    if stamp.exists():
        return ""
    command = call(entry, build)
    run = subprocess.run(command, cwd=entry["directory"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode == 0:
        stamp.touch()
        return ""
    return run.stdout + run.stderr or f"{entry['file']}: {command[0]} ended with {run.returncode}\n"


def main():
    tool, build = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    call, held_to = TOOLS[tool]
    wanted = {str(pathlib.Path(name).resolve()) for name in sys.argv[3:]}
    passed = build / f"{tool}-passed"
    passed.mkdir(exist_ok=True)
    config = held_to.read_bytes()
    entries = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in FOLDERS \
                and (not wanted or str(path) in wanted):
            entries[path] = entry
    if not entries:
        sys.exit(f"{build}: there is nothing to look at")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        findings = list(pool.map(lambda entry: look(entry, call, passed, str(build), config),
                                 entries.values()))
    sys.stdout.write("".join(findings))
    bad = sum(1 for text in findings if text)
    print(f"{tool}: {len(entries)} files, {bad} with findings")
    sys.exit(1 if bad else 0)


main()
