#!/usr/bin/env python3
"""Run clang-tidy over what the programs are made of: check_tidy.py BUILD-FOLDER [FILE...]

The folder has been built with clang, so that generated headers are there.

The checks and their reasons stand in .clang-tidy. A file that passed is remembered, in the build
folder, by what the preprocessor makes of it, and looked at again when that, or .clang-tidy, changes.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

TIDY = "clang-tidy-14"
ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("runtime", "operators", "tools")


def digest(entry, config):
    """A name for all that a verdict depends on, comments included: they may silence a check."""
    command = shlex.split(entry["command"])
    output = command.index("-o")
    del command[output:output + 2]
    command.remove("-c")
    command = [word for word in command if not word.endswith("ccache")]
    made = subprocess.run(command + ["-E", "-C", "-P"], cwd=entry["directory"], check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return hashlib.sha256(config + made.stdout).hexdigest()


def look(entry, build, passed, config):
    """The findings in one file, or nothing."""
    try:
        stamp = passed / digest(entry, config)
    except subprocess.CalledProcessError as error:  # a generated header that was never built
        return error.stderr.decode(errors="replace")
    if stamp.exists():
        return ""
    run = subprocess.run([TIDY, "--quiet", "-p", build, "--extra-arg=-Wno-unknown-warning-option",
                          entry["file"]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         check=False)
    if run.returncode == 0:
        stamp.touch()
        return ""
    return run.stdout or run.stderr or f"{entry['file']}: {TIDY} ended with {run.returncode}\n"


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    wanted = {str(pathlib.Path(name).resolve()) for name in sys.argv[2:]}
    passed = build / "tidy-passed"
    passed.mkdir(exist_ok=True)
    config = (ROOT / ".clang-tidy").read_bytes()
    entries = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in FOLDERS \
                and (not wanted or str(path) in wanted):
            entries[path] = entry
    if not entries:
        sys.exit(f"{build}: there is nothing to look at")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        findings = list(pool.map(lambda entry: look(entry, str(build), passed, config),
                                 entries.values()))
    sys.stdout.write("".join(findings))
    bad = sum(1 for text in findings if text)
    print(f"{len(entries)} files, {bad} with findings")
    sys.exit(1 if bad else 0)


main()
