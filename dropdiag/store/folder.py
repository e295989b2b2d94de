"""The run folder as a whole: ``run.json``, whether a run can begin or go on there."""

from __future__ import annotations

import json
import operator
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store import limits
from dropdiag.store.digests import is_whole
from dropdiag.store.door import reading
from dropdiag.store.door.reading import DamagedError
from dropdiag.store.lease import check_free
from dropdiag.store.leftovers import is_leftover
from dropdiag.store.meta_files import SessionFile, session_files
from dropdiag.store.schema import ORDERED, SEALED, TRAIN
from dropdiag.store.segments import Part, list_segments, rank_folder, short, spans_of
from dropdiag.store.selection import Selection
from dropdiag.store.storage.chosen import storage_of
from dropdiag.store.storage.places import is_remote

RUN_FILE: Final = "run.json"
RANK_FILE: Final = "rank.json"
FORCE: Final = "force"
Resume: TypeAlias = bool | int | str | tuple[str, int]
"""True, a step, "force", or ("force", step)."""


class AbsentError(RunError):
    """There is no file that says what a run is."""


def check_new(path: Path, file: str = RUN_FILE) -> None:
    """Raise `RunError` unless a run can be begun at ``path`` (it does not exist, or is an empty folder)."""
    storage = storage_of(path)
    kind = storage.kind(path)
    if kind == "file":
        raise RunError(f"{path} is a file; a run needs a folder: choose another path")
    if kind is not None and (names := [name for name in storage.names(path) if not is_leftover(name)]):
        what = "holds a run" if file in names else "is not empty"
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


def resume_step(path: Path, resume: Resume) -> int | None:
    """Turn ``resume=`` into the step to go on from; None for a new run.

    Raises
    ------
    RunError
        If there is no run to go on in, or there is one and ``resume`` is False; if it holds layers that have other
        names today, or another process still records it, unless that is to be forced.
    ArgumentError
        If it is no step.
    """
    if resume is False:  # not `not resume`: 0 is a step to go on from
        check_new(path)
        return None
    if _holds_nothing(path):  # killed before it had begun: there is nothing to go on from, and nothing to lose
        return None
    old = read_meta(path)
    _check_names(path, old)
    steps = int(old["steps"])
    force, step = forced(resume)
    if not force:
        check_free(path, old)
    if step is True:
        return steps
    try:
        step = operator.index(step)
    except TypeError:
        step = -1
    if step < 0:
        raise ArgumentError(
            f"resume= takes True, a step of at least 0 (the run came to {steps}), {FORCE!r} or ({FORCE!r}, step), "
            f"got {resume!r}"
        )
    return step


def _holds_nothing(path: Path) -> bool:
    storage = storage_of(path)
    return storage.kind(path) == "folder" and all(map(is_leftover, storage.names(path)))


def forced(resume: Resume) -> tuple[bool, Any]:
    """Return whether to go on beside another process, and the rest of what ``resume=`` says."""
    if isinstance(resume, str) and resume == FORCE:
        return True, True
    if isinstance(resume, tuple) and len(resume) == 2 and resume[0] == FORCE:
        return True, resume[1]
    return False, resume


def _check_names(path: Path, old: dict[str, Any]) -> None:
    """Raise `RunError` where an earlier version recorded calls of functions: they have other names today."""
    called = [row["layer"] for row in old["layers"]
              if row.get("functional") and row["kind"] != "dropout" and not row.get("skipped")]  # fmt: skip
    if old["schema"] < ORDERED and called:
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
    if rank and storage_of(folder).kind(folder / RANK_FILE) is None:
        return set()
    own = read_meta(folder, RANK_FILE)["sessions"] if rank else None
    table, problems, _ = read_scalars(Part(folder, spans_of(read_meta(path)["sessions"], own)), selection)
    for problem in problems:
        warnings.warn(problem, DropdiagWarning, stacklevel=2)
    rows = decoded(selection.apply(table).select(["phase", "layer"])).to_pylist()
    return {row["phase"] for row in rows if row["layer"] is not None and row["phase"] != TRAIN}


class Described(NamedTuple):
    """What a run, or a rank of it, says of itself.

    Attributes
    ----------
    meta : dict
        Of ``run.json``, with all sessions, those of which another writer's ``run.json`` does not know among them.
    remarks : list of str
        What whoever opens the run is to be told: files that are not as they were written, writers beside each other.
    """

    meta: dict[str, Any]
    remarks: list[str]


def read_meta(path: Path, name: str = RUN_FILE) -> dict[str, Any]:
    """Read what a run, or a rank of it, says of itself, as `described` does, without its remarks."""
    return described(path, name).meta


def described(path: Path, name: str = RUN_FILE) -> Described:
    """Read ``run.json``, or the ``rank.json`` in the folder of a rank, and what sessions say beside it.

    Raises
    ------
    RunError
        If there is none, or it is not that of a run this version can read.
    """
    folder = rank_folder(path) if name == RUN_FILE else path
    files, superseded = session_files(folder)
    try:
        meta, remarks = _read(path, name)
    except AbsentError:
        if not files or list_segments(folder):  # it was there: with rows beside it, it was removed
            raise
        # its process ended just after it began, or is about to write it: nothing was recorded, and nothing is missing
        meta, remarks = _read(folder, files[-1].path(folder).name)
    except DamagedError as error:
        if not files:
            raise
        raise DamagedError(
            f"{error}. {files[-1].path(folder)} has what it said when the session began, or when it ended: a copy of "
            f"it may stand in for {name}"
        ) from error
    unknown = [file for file in files if file.session not in {short(one.get("id")) for one in meta["sessions"]}]
    if unknown:
        meta, more = _joined(folder, meta, unknown, is_last=unknown[-1] == files[-1])
        remarks = [*remarks, *more]
    beside = _side_by_side(path, meta["sessions"], superseded) if name == RUN_FILE else []
    return Described(meta, [*remarks, *beside])


def _joined(
    folder: Path, meta: dict[str, Any], unknown: Sequence[SessionFile], *, is_last: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return what is said with sessions that ``run.json`` does not know, and what there is to tell of them."""
    told, remarks = meta, list[str]()
    sessions = {one.get("id"): (place + 1, one) for place, one in enumerate(meta["sessions"])}
    for file in unknown:
        try:
            found, more = _read(folder, file.path(folder).name)
        except RunError as error:
            remarks.append(f"{error}; the rows of the session are left out")
            continue
        if found.get("id") != meta.get("id"):
            remarks.append(f"{file.path(folder)} is of another run; it is left out, move it away")
            continue
        told, remarks = found, [*remarks, *more]
        sessions[told["sessions"][-1].get("id")] = file.number, told["sessions"][-1]
    numbered = [(one.get("number", place), short(one.get("id")), one) for place, one in sessions.values()]
    ordered = [one for *_, one in sorted(numbered, key=lambda one: one[:2])]
    return {**(told if is_last else meta), "sessions": ordered}, remarks


def _side_by_side(path: Path, sessions: Sequence[Mapping[str, Any]], superseded: Collection[str]) -> list[str]:
    """Say which sessions recorded at the same time as a later one, which hides what they recorded from there on.

    Parameters
    ----------
    path : Path
        Of the run, or of the rank.
    sessions : sequence of mapping
        In their order.
    superseded : collection of str
        Those that found a later one beside them.
    """
    remarks = []
    for place, one in enumerate(sessions):
        later = [other for other in sessions[place + 1 :] if one.get("id")]
        same = any(other.get("number") == one.get("number") for other in later)
        if later and (same or short(one.get("id")) in superseded):
            begun = min(int(other["from_step"]) for other in later)
            remarks.append(
                f"{path}: two processes recorded at the same time. What the session {short(one['id'])} (begun "
                f"{one.get('started')} on {one.get('host')!r}) recorded after step {begun} is hidden by a later one; "
                f"run.session({short(one['id'])!r}) has it"
            )
    return remarks


def _read(path: Path, name: str) -> tuple[dict[str, Any], list[str]]:
    """Read one file, and whether it is as it was written."""
    file = path / name
    try:
        content = storage_of(path).read(file, limits.RUN_JSON_BYTES, _root(file))
    except (FileNotFoundError, NotADirectoryError):
        kind = storage_of(path).kind(path)
        what = {"folder": f"it has no {name}", "file": "it is a file", None: "there is no such folder"}[kind]
        raise AbsentError(f"{path} is not a {'run' if name == RUN_FILE else 'rank of a run'}: {what}") from None
    except (OSError, ValueError) as error:
        raise DamagedError(f"{file} cannot be read: {error}") from error
    known = reading.read(content, file)
    known.pop("sha256", None)
    whole = is_whole(content)
    if whole or (whole is None and known["schema"] < SEALED):
        return known, []
    return known, [f"{file} is not as dropdiag wrote it: it was edited, or is damaged; it is read as it is now"]


def _root(file: Path) -> Path | None:
    """Return the run folder that no link may lead out of; None where there is no link, which is soon seen."""
    if is_remote(file):  # where there are none
        return None
    if file.name != RUN_FILE:
        return file.parent.parent
    return file.parent if os.path.islink(file) else None  # noqa: PTH114 - of thousands


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
    if isinstance(value, list) and value and all(isinstance(row, (dict, list)) for row in value):
        row_as_json = json.JSONEncoder(allow_nan=False).encode
        return "[\n  " + ",\n  ".join(map(row_as_json, value)) + "\n ]"
    return json.dumps(value, indent=1, allow_nan=False).replace("\n", "\n ")


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
