#!/usr/bin/env python3
"""Holds README.md to docs/results.md: each row of results must be a row of the page's table.

Rows are joined by task and route, and every column with the same heading must be equal. It also
holds README.md to its length, pages to naming their readers first, and links of every Markdown file
to files and headings that exist, which mkdocs checks within docs/ only. Each run begins with a test
that shows that each rule can fail.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
README_LINES = 130
README_WORDS = 1100
KEY = ("task", "route")


def tables(text):
    """Each table of a Markdown text, as a list of dictionaries by heading."""
    found, lines = [], text.splitlines()
    for at, line in enumerate(lines):
        if at and re.fullmatch(r"\|[\s:|-]+\|", line) and lines[at - 1].startswith("|"):
            head = cells(lines[at - 1])
            rows = []
            for row in lines[at + 1:]:
                if not row.startswith("|"):
                    break
                rows.append(dict(zip(head, cells(row))))
            found.append((head, rows))
    return found


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def results(text):
    """The rows of the tables of results, joined by task and route."""
    found = {}
    for head, rows in tables(text):
        if set(KEY) <= set(head):
            for row in rows:
                found.setdefault(tuple(row[key] for key in KEY), {}).update(row)
    return found


def contradictions(readme, page):
    """Rows of README.md that the results do not have, or have otherwise."""
    known, quoted = results(page), results(readme)
    if not quoted:
        return ["README.md: expected a table with the columns task and route, found none"]
    found = []
    for key, row in quoted.items():
        if key not in known:
            found.append(f"README.md: docs/results.md has no row {' / '.join(key)}")
            continue
        for column in sorted(set(row) & set(known[key])):
            if row[column] != known[key][column]:
                found.append(f"README.md: {' / '.join(key)}, {column}: expected "
                             f"{known[key][column]} as in docs/results.md, found {row[column]}")
    first = next(iter(quoted.values()))["route"]
    if first != "default":
        found.append(f"README.md: expected the default route first, found {first}")
    return found


def too_long(readme):
    lengths = (("lines", README_LINES, len(readme.splitlines())),
               ("words", README_WORDS, len(readme.split())))
    return [f"README.md: expected at most {most} {unit}, found {found}"
            for unit, most, found in lengths if found > most]


def anchors(text):
    """The anchors that GitHub and the site give the headings of a Markdown text."""
    found, fenced = set(), False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"#+ (.*)", line)
        if heading:
            words = re.sub(r"[^\w\- ]", "", heading[1].strip().lower())
            found.add(words.replace(" ", "-"))
    return found


def dead_links(path, text, root=ROOT):
    """Links of a Markdown file to files or headings that do not exist."""
    found = []
    for link, file, anchor in re.findall(r"\]\((([^)#\s]*)(?:#([^)\s]*))?)\)", text):
        if re.match(r"[a-z]+:", file):
            continue
        target = (path.parent / file).resolve() if file else path
        known = target == path or target.exists() and target.is_relative_to(root)
        if known and anchor and target.suffix == ".md":
            known = anchor in anchors(text if target == path else target.read_text())
        if not known:
            found.append(f"{path.relative_to(root)}: expected a file or a heading of the project, "
                         f"found the link {link}")
    return found


def without_readers(name, text):
    """Pages whose first line after the title does not say who should read them."""
    body = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if body and body[0].startswith("For "):
        return []
    return [f"{name}: expected a first line that names its readers (`For ...`), found "
            f"`{body[0] if body else ''}`"]


def self_test():
    head = "| task | route | F1 |\n|---|---|--:|\n"
    page = f"{head}| `a` | default | 0.9 |\n| `a` | paper | 0.8 |\n"
    assert contradictions(f"{head}| `a` | default | 0.9 |\n", page) == []
    assert len(contradictions(f"{head}| `a` | default | 0.8 |\n", page)) == 1
    assert len(contradictions(f"{head}| `b` | default | 0.9 |\n", page)) == 1
    assert len(contradictions(f"{head}| `a` | paper | 0.8 |\n", page)) == 1
    assert len(contradictions("no table", page)) == 1
    assert too_long("a\n" * README_LINES) == [] and len(too_long("a\n" * 131)) == 1
    assert len(too_long("a " * 1101)) == 1
    here = ROOT / "docs/a.md"
    good = "# A b: `c`\n[x](#a-b-c) [y](../README.md) [z](../README.md#install) [w](https://a.b/#c)"
    assert dead_links(here, good) == []
    for bad in ("[x](#none)", "[x](none.md)", "[x](../README.md#none)", "[x](../../none)"):
        assert len(dead_links(here, bad)) == 1, bad
    assert without_readers("a.md", "# A\n\nFor operators: x.") == []
    assert len(without_readers("a.md", "# A\n\nThis page.")) == 1


def main():
    self_test()
    readme = (ROOT / "README.md").read_text()
    found = contradictions(readme, (ROOT / "docs/results.md").read_text()) + too_long(readme)
    for path in sorted((ROOT / "docs").glob("*.md")):
        found += without_readers(f"docs/{path.name}", path.read_text())
    pages = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, text=True,
                           stdout=subprocess.PIPE).stdout.split()
    for page in pages:
        found += dead_links(ROOT / page, (ROOT / page).read_text())
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
