"""The notebooks of the repository are pages of the site: text, code, and the outputs that are kept in them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FENCE = "`" * 6
STYLE = re.compile(r"<style scoped>.*?</style>\n?", re.DOTALL)
"""What pandas writes before each table, for pages that have no style of their own."""


def write(app: Any) -> None:
    """Write the page and the pictures of each, where they have changed."""
    folder = Path(app.srcdir) / "_generated" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for name, content in files(notebook):
            path = folder / name
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)


def files(notebook: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files that a notebook becomes, by name: its pictures, then its page."""
    parts, pictures = [], 0
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(_links(source) if cell["cell_type"] == "markdown" else _code(source))
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                pictures += 1
                name = f"{notebook.stem}-{pictures}.png"
                yield name, base64.b64decode("".join(data["image/png"]))
                parts.append(
                    f"::::{{div}} wide\n```{{image}} {name}\n:alt: Figure {pictures} of the notebook\n```\n::::"
                )
            elif "text/html" in data:
                table = STYLE.sub("", "".join(data["text/html"]))
                parts.append(f'{FENCE}{{raw}} html\n<div class="output">{table}</div>\n{FENCE}')
            else:
                parts.append(f"{FENCE}{{code-block}} text\n:class: output\n\n{''.join(data['text/plain'])}\n{FENCE}")
    title, _, rest = parts[0].partition("\n")
    file = f"{{download}}`{notebook.name} <../../../notebooks/{notebook.name}>`"
    yield (
        f"{notebook.stem}.md",
        "\n\n".join([title, f"*A notebook, with its outputs: {file}.*", rest, *parts[1:], ""]).encode(),
    )


def _code(source: str) -> str:
    return f"{FENCE}{'text' if source.startswith('%') else 'python'}\n{source}\n{FENCE}"


def _links(text: str) -> str:
    """Make links that lead to the site's pages of links that lead to files of the repository."""
    text = re.sub(r"\]\(\.\./docs/", "](../../", text)
    text = re.sub(r"\]\(\.\./([A-Z]+\.md)", r"](../../../\1", text)  # which `pages_outside` knows
    return re.sub(r"\]\(([\w-]+)\.ipynb\)", r"](\1.md)", text)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
