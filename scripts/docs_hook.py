"""What mkdocs needs to build pages that are written for GitHub; mkdocs.yml names this file.

- Links that leave docs/ go to the repository. Their targets must exist here.
- GitHub starts a list or a table without a blank line before it, Python-Markdown does not.
"""

import logging
import pathlib
import re

log = logging.getLogger("mkdocs.plugins.docs_hook")

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/serveflow/serveflow"
OUTSIDE = re.compile(r"\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")
STARTS = re.compile(r"(?:[-*+] |\d+\. |\|)")


def repository_links(text, page):
    """The text with links out of docs/ made into links to the repository."""
    def absolute(match):
        target = (ROOT / "docs" / pathlib.Path(page).parent / match[1]).resolve()
        if not target.exists() or not target.is_relative_to(ROOT):
            # A warning fails a strict build.
            log.warning("%s: expected a file of the repository, found the link %s", page, match[1])
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{target.relative_to(ROOT)}{match[2] or ''})"
    return OUTSIDE.sub(absolute, text)


def blank_lines(text):
    """The text with a blank line between a paragraph and the list or table that follows it."""
    out, before, fenced = [], "", False
    for line in text.split("\n"):
        if line.startswith("```"):
            fenced = not fenced
        paragraph = before.strip() and not before.startswith((" ", "#")) \
            and not STARTS.match(before)
        if not fenced and paragraph and STARTS.match(line):
            out.append("")
        out.append(line)
        before = line
    return "\n".join(out)


def on_page_markdown(markdown, page, **_):
    return blank_lines(repository_links(markdown, page.file.src_path))
