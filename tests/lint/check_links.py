#!/usr/bin/env python3
"""What a page names is there.

    usage: check_links.py    (in the root of the tree: README.md and every other page below our folders)

A link into the tree leads to a file, and what stands behind its # to a heading of that page. Of the words in
`code` a path below one of our folders is a file or a folder (`*` stands for any name), one that begins with
rml_ or RML_ or that has three underscores or more stands in the sources. So a page that tells of what was
renamed or taken away is found out.
"""
import pathlib
import re
import sys

FOLDERS = ("runtime", "operators", "tools", "tests", "bench", "docs")
SOURCES = {".c", ".h", ".def", ".py", ".pml", ".txt", ".sh", ".yaml"}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
PATH = re.compile(r"(?:%s)/[\w./*-]*" % "|".join(FOLDERS))
WORD = re.compile(r"(?:rml|RML)_\w+|[a-z]\w*(?:_\w+){3,}")


def headings(page):
    """The anchors of a page, by the rule that code hosts use."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.M):
        text = re.sub(r"[^\w\s-]", "", heading.lower())
        found.add(re.sub(r"\s", "-", text.strip()))
    return found


def words_of_sources():
    words = set()
    for folder in FOLDERS:
        for path in pathlib.Path(folder).rglob("*"):
            if path.suffix in SOURCES and path.is_file():
                words.update(re.findall(r"\w+", path.read_text(errors="replace")))
    return words


def check_link(page, link):
    if re.match(r"[a-z]+:", link):
        return None
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists():
        return "there is no such file"
    if anchor and anchor not in headings(target):
        return "there is no such heading"
    return None


def check_code(code, words):
    if PATH.fullmatch(code):
        found = any(pathlib.Path(".").glob(code.rstrip("/")))
        return None if found else "there is no such file"
    name = re.sub(r"\(.*\)$", "", code)
    if WORD.fullmatch(name) and name not in words:
        return "the sources do not have that word"
    return None


def main():
    words = words_of_sources()
    count, faults = 0, []
    pages = [page for folder in FOLDERS for page in sorted(pathlib.Path(folder).rglob("*.md"))]
    for page in [pathlib.Path("README.md"), *pages]:
        text = FENCE.sub(lambda block: "\n" * block[0].count("\n"), page.read_text())
        for number, line in enumerate(text.splitlines(), 1):
            checks = [(link, check_link(page, link)) for link in LINK.findall(line)]
            checks += [(code, check_code(code, words)) for code in CODE.findall(line)]
            count += len(checks)
            faults += [f"{page}:{number}: {what}: {why}" for what, why in checks if why]
    print("\n".join(faults) or f"{count} links and names, all of something that is there")
    sys.exit(bool(faults) or count == 0)


if __name__ == "__main__":
    main()
