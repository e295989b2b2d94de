"""The run folder as a whole: ``run.json``, whether a run can begin or go on there."""

from __future__ import annotations

import json
import operator
import warnings
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store.schema import FORMAT, READABLE, SCHEMA_VERSION, TRAIN
from dropdiag.store.segments import Part, rank_folder, spans_of
from dropdiag.store.selection import Selection

RUN_FILE: Final = "run.json"
RANK_FILE: Final = "rank.json"


def check_new(path: Path, file: str = RUN_FILE) -> None:
    """Raise `RunError` unless a run can be begun at ``path`` (it does not exist, or is an empty folder)."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; a run needs a folder: choose another path")
    if path.is_dir() and any(path.iterdir()):
        what = "holds a run" if (path / file).exists() else "is not empty"
        raise RunError(
            f"{path} {what} already and nothing is ever overwritten; "
            'choose another path, let one be chosen below a folder (name="auto"), or resume=True to go on in a run'
        )


def joined_meta(old: dict[str, Any], new: dict[str, Any], resume_from: int, rank: int = 0) -> dict[str, Any]:
    """Return what ``run.json`` says of a run that goes on: the new settings, with what earlier sessions found.

    So it is with the ``rank.json`` of a rank that goes on.
    """
    # a rank other than the first may have had no part in a session
    what = "are not recorded by this rank: it" if rank else "were lost: the run"
    gap = f"steps {old['steps'] + 1} to {resume_from} {what} was resumed beyond its last flushed step"
    return {
        **new,
        "id": old.get("id"),  # a run that began without one goes on without: copies of it would get others
        "created": old["created"],
        "order": new.get("order") or old.get("order", []),
        "chain": new.get("chain") or old.get("chain", []),
        "activations": {**old["activations"], **new["activations"]},
        "disabled_probes": [*old["disabled_probes"], *new["disabled_probes"]],
        "interventions": [*_ended(old.get("interventions", []), resume_from), *new.get("interventions", [])],
        "missing": [*old.get("missing", []), *new.get("missing", [])],
        "warnings": [*old["warnings"], *([gap] if resume_from > old["steps"] else []), *new["warnings"]],
    }


def _ended(interventions: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Return those made until a step, of which none goes on: those in force in a resumed run are listed anew."""
    ends = [step if one["until"] is None else min(one["until"], step) for one in interventions]
    return [{**one, "until": end} for one, end in zip(interventions, ends, strict=True) if one["step"] <= step]


def resume_step(path: Path, resume: bool | int) -> int | None:
    """Turn ``resume=`` into the step to go on from; None for a new run.

    Raises
    ------
    RunError
        If there is no run to go on in, or there is one and ``resume`` is False; if it holds layers that have other
        names today.
    ArgumentError
        If it is no step.
    """
    if resume is False:  # not `not resume`: 0 is a step to go on from
        check_new(path)
        return None
    old = read_meta(path)
    _check_names(path, old)
    steps = int(old["steps"])
    if resume is True:
        return steps
    try:
        step = operator.index(resume)
    except TypeError:
        step = -1
    if step < 0:
        raise ArgumentError(f"resume= takes True or a step of at least 0 (the run came to {steps}), got {resume!r}")
    return step


def _check_names(path: Path, old: dict[str, Any]) -> None:
    """Raise `RunError` where an earlier version recorded calls of functions: they have other names today."""
    called = [row["layer"] for row in old["layers"]
              if row.get("functional") and row["kind"] != "dropout" and not row.get("skipped")]  # fmt: skip
    if old["schema"] < SCHEMA_VERSION and called:
        raise RunError(
            f"{path} was recorded by an earlier version, which named calls of functions otherwise ({called[0]!r}): one "
            "run would hold a layer under two names. Record on in a new run; both are read together under today's names"
        )


def evaluated_phases(path: Path, step: int, rank: int = 0) -> set[str]:
    """Return the held-out phases that a rank of a run has recorded at a step.

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read.
    """
    from dropdiag.store.reading import decoded, read_scalars  # noqa: PLC0415 - pyarrow is not paid by a new run

    selection, folder = Selection.of(steps=step), rank_folder(path, rank)
    if rank and not (folder / RANK_FILE).exists():
        return set()
    own = read_meta(folder, RANK_FILE)["sessions"] if rank else None
    table, problems, _ = read_scalars(Part(folder, spans_of(read_meta(path)["sessions"], own)), selection)
    for problem in problems:
        warnings.warn(problem, DropdiagWarning, stacklevel=2)
    rows = decoded(selection.apply(table).select(["phase", "layer"])).to_pylist()
    return {row["phase"] for row in rows if row["layer"] is not None and row["phase"] != TRAIN}


def read_meta(path: Path, name: str = RUN_FILE) -> dict[str, Any]:
    """Read ``run.json``, or the ``rank.json`` in the folder of a rank.

    Raises
    ------
    RunError
        If there is none, or it is not that of a run this version can read.
    """
    file = path / name
    try:
        meta = json.loads(file.read_bytes())  # bytes: UTF-8 whatever the locale is
    except (FileNotFoundError, NotADirectoryError):
        what = f"it has no {name}" if path.is_dir() else "it is a file" if path.exists() else "there is no such folder"
        raise RunError(f"{path} is not a {'run' if name == RUN_FILE else 'rank of a run'}: {what}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    found = meta.get("format") if isinstance(meta, dict) else type(meta).__name__
    if found != FORMAT:
        raise RunError(f"{file} is not that of a dropdiag run: its format is {found!r}, not {FORMAT!r}")
    if meta.get("schema") not in READABLE:
        raise RunError(
            f"{path} has run schema {meta.get('schema')!r} and this version reads {' and '.join(map(str, READABLE))}; "
            "read it with the version that wrote it: " + str(meta.get("versions", {}).get("dropdiag", "unknown"))
        )
    known: dict[str, Any] = meta
    return known


def as_json(meta: dict[str, Any], known: Mapping[str, str] | None = None) -> str:
    """Return ``meta`` as strict JSON, rows of a table one a line; raise `ArgumentError` where it is none.

    ``known``: values whose JSON is there already, by name.
    """
    known = known or {}
    try:
        lines = [f" {json.dumps(key)}: {known.get(key) or value_as_json(value)}" for key, value in meta.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"config= must hold only what JSON knows (text, finite numbers, true/false, null, lists, dicts): {error}"
        ) from error


def value_as_json(value: object) -> str:
    """Return one value of ``run.json`` as strict JSON."""
    # NaN is no JSON, and most other readers refuse it. With an indent, json takes ten times as long.
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        row_as_json = json.JSONEncoder(allow_nan=False).encode
        return "[\n  " + ",\n  ".join(map(row_as_json, value)) + "\n ]"
    return json.dumps(value, indent=1, allow_nan=False).replace("\n", "\n ")


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
