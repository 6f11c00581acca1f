"""What MkDocs cannot do by itself: reference, list of decisions, tests behind the guarantees.

`reference/` is made from docstrings (`reference.py`). `decisions/index.md` gets a line for each
record. Each test that `guarantees.md` names becomes a link to its source, on a page that is made
here. Absent: anything that a reader of the plain files would miss.
"""

import ast
import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).resolve().parent))

import reference

ROOT = Path(__file__).resolve().parents[1]
TESTS_PAGE = "guarantees-tests.md"
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
TEST = re.compile(r"`(test_\w+)`")


def on_files(files, config):
    """Add the pages that are made: the reference, and the tests that hold the guarantees."""
    for package in reference.ALSO:
        made = reference.page(package)
        files.append(File.generated(config, f"reference/{package}.md", content=made))
    files.append(File.generated(config, TESTS_PAGE, content=tests_page()))
    return files


def on_page_markdown(markdown, page, **_):
    """Fill in the list of decisions, and the links to tests."""
    if page.file.src_uri == "decisions/index.md":
        return f"{markdown}\n{decisions()}"
    if page.file.src_uri == "guarantees.md":
        return TEST.sub(rf"[`\1`]({TESTS_PAGE}#\1)", markdown)
    return markdown


def decisions():
    """A line for each record: its title, linked."""
    records = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    titles = [(TITLE.search(record.read_text("utf-8")), record) for record in records]
    return "\n".join(f"* [{title[1]}]({record.name})" for title, record in titles if title)


def tests_page():
    """The tests of the promises, as they stand in the repository, each under its name."""
    parts = ["# The tests of the guarantees", "They are part of the suite, and run as they stand."]
    for path in sorted((ROOT / "tests").glob("test_guarantees*.py")):
        text = path.read_text("utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                begin = min([node.lineno, *(one.lineno for one in node.decorator_list)]) - 1
                source = "\n".join(text.splitlines()[begin : node.end_lineno])
                parts.append(f"## {node.name}\n\n`tests/{path.name}`\n\n```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"
