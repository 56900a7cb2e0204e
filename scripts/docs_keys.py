#!/usr/bin/env python3
"""Holds docs/reference.md to the code: keys of the configuration, metrics, keys of /status.

A name that only one of the two has fails. The run begins with a test that shows that each rule can
fail.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = "docs/reference.md"
SERVE = "crates/serve/src"
# Keys that the example cannot show beside the others: each has one sentence in its comments.
NOT_SHOWN = {"live.block_ms"}
# Names that the encoder of OpenMetrics adds a unit or a kind to.
SUFFIXES = ("_seconds", "_info")


def section(text, heading):
    """What stands under a heading, up to the next one of its rank."""
    rank = heading.split(" ")[0]
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^{rank} |\Z)", text, re.M | re.S)
    return found[1] if found else ""


def first_cells(text):
    """The code spans of the first column of each table."""
    rows = (line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    return {name for row in rows for name in re.findall(r"`([\w.]+)(?:\[\])?`", row)}


def example_keys(text):
    """`section.key` for each key of the example configuration."""
    found, inside = set(), None
    for line in text.splitlines():
        table = re.fullmatch(r"\[([\w.]+)\]", line)
        key = re.match(r"# (\w+) = ", line)
        if table:
            inside = table[1]
        elif key and inside:
            found.add(f"{inside}.{key[1]}")
    return found


def page_keys(text):
    """The same from the reference; the table of a subsection follows a line that names it."""
    found = set()
    for table in re.findall(r"^### \[(\w+)\]$", text, re.M):
        part, inside = section(text, f"### [{table}]"), table
        for line in part.splitlines():
            named = re.match(rf"`\[({table}\.\w+)\]`", line)
            inside = named[1] if named else inside
            found |= {f"{inside}.{key}" for key in first_cells(line)}
    return found


def differences(what, code, page):
    return [f"{PAGE}: {what} `{name}`: expected in both, found only in {where}"
            for where, names in (("the code", code - page), ("the page", page - code))
            for name in sorted(names)]


def metrics(code, page):
    plain = {name.removesuffix(end) for name in page for end in SUFFIXES if name.endswith(end)}
    written = set(re.findall(r'"([a-z]+(?:_[a-z]+)*)"', code))
    # A word without `_` in the code may be a label; one on the page must be a name in the code.
    certain = {name for name in written if "_" in name}
    return differences("metric", certain, (page | plain) & certain) + \
        differences("metric", set(), {name for name in page if not {name, *(
            name.removesuffix(end) for end in SUFFIXES)} & written})


def status_keys(code):
    """The keys of the object that /status is, from its source."""
    body = re.search(r"let status = json!\(\{(.*?)^    \}\);", code, re.M | re.S)
    if not body:
        sys.exit(f"{SERVE}/service/http.rs: expected `let status = json!({{`, found none")
    flat = re.sub(r"\{[^{}]*\}", "", body[1])
    return set(re.findall(r'"(\w+)":', flat)), set(re.findall(r'"(\w+)":', code))


def self_test():
    example = "[a]\n# What.\n# one = 1\n[a.b]\n# two = 2\n"
    page = "### [a]\n| key |\n|---|\n| `one` | x |\n\n`[a.b]` holds:\n\n| `two` | y |\n"
    assert example_keys(example) == page_keys(page) == {"a.one", "a.b.two"}
    assert page_keys(page.replace("two", "three")) == {"a.one", "a.b.three"}
    assert len(differences("key", {"a", "b"}, {"b", "c"})) == 2
    code = 'counter(e, "a_b", "Help."); histogram(e, "delay", "Help.")'
    assert metrics(code, {"a_b", "delay_seconds"}) == []
    assert len(metrics(code, {"delay_seconds"})) == 1
    assert len(metrics(code, {"a_b", "gone"})) == 1
    source = '    let status = json!({\n  "x": { "y": 1 }, "z": 2,\n    });\n json!({ "w": 3 })'
    assert status_keys(source) == ({"x", "z"}, {"x", "y", "z", "w"})


def main():
    self_test()
    read = {name: (ROOT / name).read_text() for name in (
        PAGE, f"{SERVE}/serveflow.toml", f"{SERVE}/service/metrics.rs", f"{SERVE}/service/http.rs")}
    page, example, named, http = read.values()
    found = differences("key", example_keys(example), page_keys(page) - NOT_SHOWN)
    found += metrics(named, first_cells(section(page, "## Metrics")))
    top, every = status_keys(http)
    part = section(page, "## Status")
    found += differences("key of /status", top, first_cells(part))
    spans = set(re.findall(r"`(\w+)(?:\[\])?`", part))
    found += differences("key of /status", every, every & spans)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
