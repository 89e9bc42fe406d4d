#!/usr/bin/env python3
"""What README.md repeats of the tree is as the tree has it.

    usage: readme.py    (in the root of the tree)

A block named after a file of docs/examples is a part of that file, which is built or run by other tests.
Words behind `ringmill` and `ringctl` are commands, folders of the tree are there, and the exit codes are
those of tools/exit.h.
"""
import pathlib
import re
import sys

from examples import blocks

README = pathlib.Path("README.md")
EXAMPLES = pathlib.Path("docs/examples")


def commands(program):
    table = pathlib.Path(f"tools/{program}.def").read_text()
    return set(re.findall(r"^RML_COMMAND\((\w+)", table, re.M))


def main():
    text, faults, shown = README.read_text(), [], set()
    for line, words, block in blocks(README):
        example = EXAMPLES / words[1] if len(words) > 1 else None
        if example is None or not example.exists():
            continue
        shown.add(example.name)
        if block not in example.read_text():
            faults.append(f"{README}:{line}: no longer stands so in {example}")
    faults += [f"{README}: does not show {name}"
               for name in {"llm.yaml", "producer.c", "subscriber.c"} - shown]
    for program in ("ringmill", "ringctl"):
        used = set(re.findall(rf"(?:^ +|`|\$ ){program} ([a-z]+)", text, re.M))
        faults += [f"{README}: {program} has no command {word}" for word in used - commands(program)]
        if not used:
            faults.append(f"{README}: tells of no command of {program}")
    codes = set(re.findall(r"^    RML_EXIT_\w+ = (\d+)", pathlib.Path("tools/exit.h").read_text(), re.M))
    told = set(re.findall(r"^\| (\d+) \|", text, re.M))
    if codes != told:
        faults.append(f"{README}: exit codes {sorted(codes ^ told)} stand in one place only")
    tree = text.partition("## The tree")[2]
    folders = re.findall(r"^    (\w+/)", tree, re.M)
    faults += [f"{README}: there is no {name}" for name in folders if not pathlib.Path(name).is_dir()]
    print("\n".join(faults) or f"{README}: {len(shown)} examples, {len(told)} exit codes")
    sys.exit(bool(faults) or not folders)


if __name__ == "__main__":
    main()
