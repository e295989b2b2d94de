"""What a shell offers when the Tab key is pressed: run folders, and names that a run knows.

A name is offered only if a shell takes it as it stands: what is completed is put into a line that the shell reads, and
run folders come from others.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import typer

PLAIN: Final = re.compile(r"[\w./~+,@%-]+")
"""Of what a shell makes nothing else; also no wildcard, no equals sign, no space."""
MOST: Final = 200
"""Names that are offered at most."""
LARGE: Final = 20_000_000
"""Bytes of a ``run.json`` that is not read while somebody waits for a line to be completed."""


def run_folders(incomplete: str) -> list[str]:
    """Return run folders whose path begins so, and folders that may hold some, each with a slash at its end.

    Parameters
    ----------
    incomplete : str
        As it was typed: ``runs/dr``, or the pattern of a condition, ``Dropout=runs/dr``.
    """
    before, equals, typed = incomplete.rpartition("=")
    head, _, begun = typed.rpartition("/")
    folder = Path(os.path.expanduser(f"{head}/" if "/" in typed else "."))  # noqa: PTH111 - Path's raises
    place = f"{head}/" if "/" in typed else ""
    found = [f"{before}{equals}{place}{name}" for name in _folders(folder, begun)]
    return [one for one in found if PLAIN.fullmatch(one.replace("=", "") or "-")][:MOST]


def _folders(folder: Path, begun: str) -> Iterator[str]:
    try:
        entries = sorted((entry for entry in os.scandir(folder) if entry.name.startswith(begun)), key=lambda e: e.name)
    except OSError:  # no such folder, or one that may not be read: nothing is offered
        return
    for entry in entries:
        if (begun or not entry.name.startswith(".")) and _is_folder(entry):
            yield entry.name if _is_file(Path(entry.path) / "run.json") else f"{entry.name}/"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def layers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return layers of the run, or of the first of the runs, that is named before on the line."""
    rows = _meta(ctx).get("layers")
    known = [str(row.get("layer")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return offered(dict.fromkeys(known), incomplete)


def offered(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the names that begin so and that a shell takes as they stand."""
    return [name for name in names if name.startswith(incomplete) and PLAIN.fullmatch(name)][:MOST]


def _meta(ctx: typer.Context) -> dict[str, Any]:
    """Return what the ``run.json`` says of a run on the line; nothing where none can be read at once."""
    given = next((ctx.params[name] for name in ("run", "runs") if ctx.params.get(name)), None)
    # while an option lacks its value, as the one does that is completed, arguments are not given their names
    left = [one for one in getattr(ctx, "args", ()) if not one.startswith("-")]
    first = (given[0] if isinstance(given, (list, tuple)) else given) or next(iter(left), None)
    if first is None or "://" in str(first):
        return {}
    folder = Path(os.path.expanduser(str(first).rpartition("=")[2]))  # noqa: PTH111 - as above
    try:
        below = [folder, *sorted(folder.iterdir())[:MOST]]
        file = next((one / "run.json" for one in below if _is_file(one / "run.json")), None)
        found = {} if file is None or file.stat().st_size > LARGE else json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):  # a command will say what is wrong; a completion says nothing
        return {}
    return found if isinstance(found, dict) else {}
