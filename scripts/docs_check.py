#!/usr/bin/env python3
"""Holds README.md to docs/results.md: each row of results must be a row of the page's table.

Rows are joined by task and route, and every column with the same heading must be equal. It also
holds README.md to its length, and pages to naming their readers first. Each run begins with a test
that shows that each rule can fail.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
README_LINES = 130
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
    lines = len(readme.splitlines())
    return [] if lines <= README_LINES else \
        [f"README.md: expected at most {README_LINES} lines, found {lines}"]


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
    assert without_readers("a.md", "# A\n\nFor operators: x.") == []
    assert len(without_readers("a.md", "# A\n\nThis page.")) == 1


def main():
    self_test()
    readme = (ROOT / "README.md").read_text()
    found = contradictions(readme, (ROOT / "docs/results.md").read_text()) + too_long(readme)
    for path in sorted((ROOT / "docs").glob("*.md")):
        found += without_readers(f"docs/{path.name}", path.read_text())
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
