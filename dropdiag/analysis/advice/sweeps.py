"""A sweep's folder: where its runs are, what was swept, and what became of conditions that have no whole runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from dropdiag.errors import RunError
from dropdiag.store.storage.places import is_path, is_remote

FILE, RUNS = "sweep.json", "runs"
ENDS: Final = {
    "failed": "{} failed, and is not among the runs: {}.",
    "stopped": "{} was stopped by screening, and nothing is said of it: {}.",
}
"""What ``sweep.json`` says of runs and conditions that are not there -> the sentence."""


class Given(NamedTuple):
    """What runs are to be opened, and what their sweep says of itself.

    Attributes
    ----------
    runs : object
        For `dropdiag.store.reader.open_runs`.
    axes : tuple of str
        What was swept; empty where that is not known.
    remarks : tuple of str
        A sentence for each run or condition that came to nothing.
    failed : frozenset of str
        Names of the runs among them.
    """

    runs: Any
    axes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    failed: frozenset[str] = frozenset()


def given(runs: Any) -> Given:
    """Take a sweep, its folder, or whatever else runs are given as.

    Raises
    ------
    RunError
        If the sweep's own file cannot be read.
    """
    if isinstance(runs, list | tuple):
        return Given([given(one).runs for one in runs])
    out = getattr(runs, "out", runs)  # a `Sweep` knows its folder
    if is_path(out) and not is_remote(out) and (file := Path(out).expanduser() / FILE).is_file():
        told = _read(file)
        remarks = tuple(sentence.format(name, str(why).rstrip(".")) for kind, sentence in ENDS.items()
                   for name, why in _mapping(told, kind).items())  # fmt: skip
        axes, failed = tuple(_mapping(told, "axes")), frozenset(_mapping(told, "failed"))
        return Given(file.parent / RUNS, axes, remarks, failed)
    return Given(runs)


def _read(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file} cannot be read ({error}); give the runs themselves, {file.parent / RUNS}") from None
    return told if isinstance(told, dict) else {}


def _mapping(told: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = told.get(key)
    return found if isinstance(found, dict) else {}
