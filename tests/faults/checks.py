"""What must hold of a run after its job was killed: nothing lost, nothing twice, nothing changed, and it goes on."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import Any

from dropdiag.errors import DropdiagError
from tests.faults import oracle
from tests.faults.reading import Seen, command, seen
from tests.faults.scenes import Place, Scene, perform

RANK_NOT_THERE = "is read from 1 of 2 ranks"
"""What is said, rightly, where one of two ranks had not come as far."""


def after_kill(place: Place, scene: Scene) -> dict[str, Any]:
    """Look at a run whose job was killed, go on in it, and look again.

    Returns
    -------
    dict
        wrong (list of str), rows (how many flushed rows were looked for), begun (whether there was a run), blocked
        (whether none was, and none could begin in what was left).
    """
    told = oracle.read(place.log)
    begun = (place.run / "run.json").exists()
    wrong = [] if begun or told.nothing else ["run.json is gone, though the run was open"]
    rows = 0
    if begun:
        found, rows = look(place, told)
        wrong += found + _commands(place, closed=bool(told.phases) and told.phases[-1] == "closed")
    _age(place)
    known = begun or any(place.run.glob("rank-0/session-*.json"))
    go_on = replace(scene, resume=True if known else scene.resume, steps=3, state="completed")
    refusal = _go_on(place, go_on)
    blocked = not begun and refusal is not None
    if blocked:
        shutil.rmtree(place.run)  # no run is in it, and yet none can begin there: a user looks, and clears it away
        refusal = _go_on(place, go_on)
    if refusal is not None:
        wrong.append(f"it does not go on: {refusal}")
    else:
        found, more = look(place, oracle.read(place.log))
        wrong += [f"gone on: {one}" for one in found + _left_over(place, scene)]
        rows += more
    return {"wrong": wrong, "rows": rows, "begun": begun, "blocked": blocked}


def _age(place: Place) -> None:
    """Let what lies under temporary names be an hour old: younger files may be those of a process that still lives."""
    for path in place.run.rglob("*.tmp"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3600.0))


def _go_on(place: Place, scene: Scene) -> str | None:
    """Do a job; return why it was refused."""
    try:
        perform(place, scene)
    except DropdiagError as error:
        return str(error)
    return None


def look(place: Place, told: oracle.Told) -> tuple[list[str], int]:
    """Compare what is read with what was flushed; return what is wrong, and how many rows were looked for."""
    found = seen(place.run)
    wrong = [f"error that is not dropdiag's: {one}" for one in found.foreign]
    told_of_files = [one for one in found.told if (".parquet" in one or ".json" in one) and RANK_NOT_THERE not in one]
    wrong += [f"spoken of as damaged: {one}" for one in told_of_files]
    wrong += [f"twice: {key}" for key in found.doubled]
    count = 0
    for rank, rows in told.must_count().items():
        have = {key: value for number, key, value in found.rows if number == rank}
        count += len(rows)
        wrong += [f"lost: rank {rank} {key}" for key in rows.keys() - have.keys()]
    wrong += changed(found, told)
    wrong += [f"lost: derivative of {name}" for name in told.derivatives - found.derivatives.keys()]
    return wrong, count


def changed(found: Seen, told: oracle.Told) -> list[str]:
    """Return the rows that have a number which nobody gave them."""
    given = told.may_count()
    wrong = [f"changed: rank {rank} {key} reads {value}" for rank, key, value in found.rows
             if value not in given.get((rank, key), ())]  # fmt: skip
    newest = told.must_count()
    for rank, key, value in found.rows:
        expected = newest.get(rank, {}).get(key)
        if expected is not None and expected != value and value in given.get((rank, key), ()):
            if _handed_later(told, rank, key, value):
                continue
            wrong.append(f"of an earlier session: rank {rank} {key}")
    return wrong


def _handed_later(told: oracle.Told, rank: int, key: oracle.Key, value: str) -> bool:
    """Whether a session after the one whose flush is known gave this number, and was killed before it was noted."""
    sessions = [row.session for row in told.handed if (row.rank, row.key, row.value) == (rank, key, value)]
    flushed = [row.session for row in told.rows if (row.rank, row.key) == (rank, key)]
    return max(sessions) > max(flushed)


def _commands(place: Place, *, closed: bool) -> list[str]:
    """Ask the command line."""
    listed, code, said = command("ls", place.run.parent)
    wrong = [f"ls ends with {code}: {said}"] if code or len(listed["runs"]) != 1 else []
    if not closed and not wrong and listed["runs"][0]["state"] == "running":
        wrong.append("the run is shown as running, and its process is gone")
    _, code, said = command("show", place.run)
    return [*wrong, *([f"show ends with {code}: {said}"] if code and RANK_NOT_THERE not in said else [])]


def _left_over(place: Place, scene: Scene) -> list[str]:
    """Return what of dead sessions is still there after a session that ended well."""
    names = [file.relative_to(place.run).as_posix() for file in place.run.rglob("*") if file.is_file()]
    wrong = [f"left over: {name}" for name in names if name.endswith(".tmp")]
    sessions = len(oracle.read(place.log).from_step)
    tables = 3 if scene.ranks == 1 else 4
    segments = [name for name in names if name.endswith(".parquet")]
    most = sessions * tables * scene.ranks
    return [*wrong, *([f"{len(segments)} segments of {sessions} sessions"] if len(segments) > most else [])]
