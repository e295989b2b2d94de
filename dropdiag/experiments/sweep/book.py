"""``sweep.json``: what a sweep was asked for, and what was found out about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dropdiag.errors import ArgumentError, RunError
from dropdiag.experiments.sweep.asked import Asked
from dropdiag.experiments.sweep.axes import CONDITION, SEED, SWEEP, Point, Value, order
from dropdiag.formatting import jsonable
from dropdiag.store.new_files import new_file

FILE: Final = "sweep.json"
FORMAT: Final = "dropdiag-sweep"


def read(out: Path) -> dict[str, Any]:
    """Return what ``sweep.json`` holds, nothing where there is none.

    Raises
    ------
    RunError
        If it cannot be read.
    """
    path = out / FILE
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read ({error}); move it away, the runs are kept without it") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RunError(f"{path} is not that of a sweep; choose another out")
    return found


def check(out: Path, asked: Asked) -> None:
    """Raise `ArgumentError` where a folder's sweep had a setting that is not given any more."""
    before = read(out).get("settings", {})
    if gone := [key for key in before if key not in asked.settings]:
        raise ArgumentError(
            f"{out} was swept with {gone[0]} = {before[gone[0]]!r}, which is missing now; repeat it, or choose "
            "another out"
        )


def write(out: Path, asked: Asked, metas: Mapping[str, Mapping[str, Any]], **found: Any) -> None:
    """Write what is asked for, which runs are whole, and what was found.

    Parameters
    ----------
    out : Path
    asked : Asked
    metas : mapping
        ``run.json`` of completed runs by name, also of those that were asked for earlier.
    **found
        Goes into the file as it is.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    configs = [meta["config"] for meta in metas.values()]
    content = {
        **read(out),  # what an earlier call has found stays until this one has found its own
        "format": FORMAT,
        "version": 1,
        "train": asked.train,
        "axes": _axes(asked, configs),
        "seeds": sorted({*asked.seeds, *(config[SEED] for config in configs)}),
        "settings": dict(asked.settings),
        "runs": {
            name: {key: meta["config"][key] for key in (CONDITION, SEED, SWEEP)} | {"steps": meta["steps"]}
            for name, meta in metas.items()
        },
        **found,
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        with new_file(out / FILE) as file:
            file.write((json.dumps(jsonable(content), indent=1, ensure_ascii=False) + "\n").encode("utf-8"))
    except OSError as error:
        raise RunError(f"cannot write into {out}: {error.strerror}; choose another out") from error


def _axes(asked: Asked, configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Value]]:
    """Return the values of each axis, of what is asked for and of what is there, in their order."""
    both: Iterable[Point] = [*asked.points, *({axis: config[axis] for axis in asked.axes} for config in configs)]
    return {axis: _sorted({one[axis]: None for one in both}) for axis in asked.axes}


def _sorted(values: Iterable[Value]) -> list[Value]:
    return sorted(values, key=lambda value: order({"": value}))
