#!/usr/bin/env python3
"""Every example of a page is run, and does what the page says.

    usage: examples.py RINGMILL PAGE [FILE...]

FILEs lie beside the examples, as the page says that they do.

Fenced blocks are examples by their first word:

    ```yaml              a pipeline file: `ringmill test` must pass it, or `ringmill check` where it
                         has no tests. One without `version:` is a part: it takes the place of the
                         parts of the same name in the page's first whole file.
    ```yaml NAME         the same, and kept as NAME for a console; `wrong` behind it: not run here
    ```csv NAME          a file for a console; so is ```jsonl NAME
    ```console           lines after `$ ` are commands, the others all that they print

Other words (c, sh, text) are for readers only.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FENCE = re.compile(r"^```(.*)$")
PART = re.compile(r"^([a-z_]+):", re.M)


def blocks(page):
    """(line, words, text) of every fenced block; a fence that is not closed is an error."""
    start, words, lines = 0, [], []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if fence and not start:
            start, words, lines = number, fence[1].split(), []
        elif fence:
            yield start, words, "".join(lines)
            start = 0
        else:
            lines.append(line + "\n")
    if start:
        sys.exit(f"{page}:{start}: the block is not closed")


def parts(text):
    """A pipeline file taken apart into its parts by name, comments going with what they precede."""
    found = {}
    names = list(PART.finditer(text))
    for i, name in enumerate(names):
        end = names[i + 1].start() if i + 1 < len(names) else len(text)
        found[name[1]] = text[name.start():end]
    return found


class Page:
    def __init__(self, ringmill, page, folder):
        self.ringmill, self.page, self.folder = ringmill, page, folder
        self.base, self.faults, self.count = None, [], 0

    def fault(self, line, text):
        self.faults.append(f"{self.page}:{line}: {text}")

    def call(self, command):
        return subprocess.run(command, cwd=self.folder, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def pipeline(self, line, words, text):
        found = parts(text)
        if "version" in found:
            self.base = self.base or found
        elif self.base is None:
            self.fault(line, "a part of a pipeline file, and no whole one before it")
            return
        else:
            text = "".join({**self.base, **found}.values())
        name = words[1] if len(words) > 1 else f"line_{line}.yaml"
        (self.folder / name).write_text(text)
        if "wrong" in words:
            return
        command = "test" if "tests" in found else "check"
        done = self.call([self.ringmill, command, name])
        if done.returncode != 0:
            self.fault(line, f"ringmill {command} exits {done.returncode}:\n{done.stdout}")
        elif command == "test" and done.stdout.startswith("0 passed"):
            self.fault(line, "its tests are none")

    def console(self, line, text):
        for number, turn in enumerate(re.split(r"^\$ ", text, flags=re.M)):
            if number == 0:
                if turn:
                    self.fault(line, "output before the first command")
                continue
            command, _, wanted = turn.partition("\n")
            done = self.call(["sh", "-c", command])
            if done.stdout != wanted:
                self.fault(line, f"$ {command}\nprints\n{done.stdout}and the page says\n{wanted}")

    def run(self):
        for line, words, text in blocks(self.page):
            kind = words[0] if words else ""
            if kind == "yaml":
                self.pipeline(line, words, text)
            elif kind == "console":
                self.console(line, text)
            elif kind in ("csv", "jsonl") and len(words) == 2:
                (self.folder / words[1]).write_text(text)
                continue
            else:
                continue
            self.count += 1


def main(ringmill, page, *files):
    ringmill = pathlib.Path(ringmill).resolve()
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "ringmill").symlink_to(ringmill)
        # commands of a console stand as a reader would write them
        os.environ["PATH"] = folder + os.pathsep + os.environ["PATH"]
        work = pathlib.Path(folder) / "work"
        work.mkdir()
        for file in files:
            shutil.copy(file, work)
            (work / pathlib.Path(file).name).chmod(0o755)
        read = Page(ringmill, pathlib.Path(page), work)
        read.run()
    print("\n".join(read.faults) or f"{page}: {read.count} examples")
    sys.exit(bool(read.faults) or read.count == 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
