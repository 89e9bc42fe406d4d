#!/usr/bin/env python3
"""The list of folders in docs/architecture.md is the order in which includes run.

A file includes files of its own folder and of folders that stand above it in the list; every folder with
sources is listed, and no other.
"""
import pathlib
import re
import sys

PAGE = pathlib.Path("docs/architecture.md")
INCLUDE = re.compile(r'^#\s*include "((?:runtime|operators|tools)[\w/]*)/\w+\.(?:h|def)"', re.M)

section = PAGE.read_text().split("## The folders\n")[1].split("\n## ")[0]
listed = re.findall(r"^\| `([\w/]+)` \|", section, re.M)
faults, there = [], set()
for root in ("runtime", "operators", "tools"):
    for path in sorted(pathlib.Path(root).rglob("*.[ch]")):
        folder = str(path.parent)
        there.add(folder)
        if folder not in listed:
            continue
        for included in INCLUDE.findall(path.read_text()):
            if included not in listed or listed.index(included) > listed.index(folder):
                faults.append(f"{path}: includes {included}, which does not stand above {folder} in {PAGE}")
faults += [f"{PAGE}: the list lacks {folder}" for folder in sorted(there - set(listed))]
faults += [f"{PAGE}: there is no source in {folder}" for folder in sorted(set(listed) - there)]
print("\n".join(faults) or f"{len(listed)} folders, each above those that include from it")
sys.exit(bool(faults))
