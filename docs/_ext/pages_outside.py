"""Pages that lie at the repository's root are pages of the site as well: links to them lead there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md": "contributing", "SECURITY.md": "security", "CHANGELOG.md": "changelog"}
FOLDER = "project"
PLACES = {"../README.md": "index.md", "adr": "project/index.md", "schemas": "reference/schemas.md"}
"""What pages of the documentation link to as files of the repository, and the site has as a page."""


def to_the_site(app: Any, docname: str, source: list[str]) -> None:
    """Turn ``(../CONTRIBUTING.md#x)`` into a link to the page of the site, from wherever it is written."""
    up = "../" * docname.count("/")
    for file, page in PAGES.items():
        source[0] = re.sub(rf"\]\((?:\.\./)+{re.escape(file)}", f"]({up}{FOLDER}/{page}.md", source[0])
    source[0] = re.sub(r"\]\((?:\.\./)+notebooks/([\w-]+)\.ipynb\)", rf"]({up}_generated/notebooks/\1.md)", source[0])
    for place, page in PLACES.items():
        source[0] = source[0].replace(f"]({up}{place})", f"]({up}{page})")


def write_pages(app: Any) -> None:
    """Write the site's copy of each, with links as they are from its own place."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    for file, page in PAGES.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/", "](../", text)
        for other, name in PAGES.items():
            text = text.replace(f"]({other}", f"]({name}.md")
        if "\n## " not in text:
            text = text.replace("\n### ", "\n## ")  # headings of a page come in steps of one
        _write_if_new(folder / f"{page}.md", text)


def _write_if_new(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")  # else the page would be read again at each build


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", to_the_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
