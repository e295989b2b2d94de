"""The pages whose Python is run, and what of it cannot be."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1]
SKIP = re.compile(r'^<!--- skip: next "(.+)" -->$', re.MULTILINE)
BLOCK = re.compile(r"^```python\n", re.MULTILINE)

ELSEWHERE = (DOCS / "tour.md",)
"""It goes on in the README's runs, so tests/test_readme.py runs it behind the README's code."""


def pages() -> list[Path]:
    """Return every page that is written by hand and has Python in it."""
    made = (DOCS / "_generated", DOCS / "project")
    found = [page for page in sorted(DOCS.rglob("*.md")) if not any(map(page.is_relative_to, (*made, *ELSEWHERE)))]
    return [page for page in found if BLOCK.search(page.read_text(encoding="utf-8"))]


def skipped() -> dict[str, list[str]]:
    """Return the reasons of the blocks that are not run, by page."""
    found = {page: SKIP.findall(page.read_text(encoding="utf-8")) for page in pages()}
    return {page.relative_to(DOCS).as_posix(): reasons for page, reasons in found.items() if reasons}
