"""Several processes record one run: ``python -m tests.faults.writers --rounds N [--kind KIND]...``.

A requeued job beside a live one, new ones that race for one path, one that is stopped in mid flush and goes on later,
one whose clock is a day off. What each had on the disk must still be there: counted, or of a session that is hidden, by
a later one that `run.json` knows or with a sentence that names it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dropdiag.errors import DropdiagError
from tests.faults import oracle, tripwire, warm
from tests.faults.checks import changed
from tests.faults.drive import tell
from tests.faults.forks import Child, Ended, forked
from tests.faults.oracle import as_text, digest
from tests.faults.reading import seen
from tests.faults.scenes import SCENES, Place, Stage, perform

DAY = 86_400.0


class Gate:
    """Children wait at it until all are let through at once."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def wait(self) -> None:
        os.close(self._write)
        os.read(self._read, 1)

    def open(self) -> None:
        os.close(self._write)
        os.close(self._read)


def job(place: Place, session: int, resume: Any, gate: Gate | None = None, skew: float = 0.0, stop: int = 0) -> str:
    """Train in a child; return what refused it, or nothing."""
    from tests.faults.training import train

    log = oracle.Log(place.log)
    oracle.watch(log, session)
    if skew:
        skew_clock(skew)
    if stop:
        tripwire.arm(place.run.parent, tripwire.stopping(stop))
    if gate is not None:
        gate.wait()
    try:
        train(place.run, log, session, resume=resume, steps=6)
    except DropdiagError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def skew_clock(seconds: float) -> None:
    """Set the clocks that this process reads by so many seconds off."""
    real, real_ns = time.time, time.time_ns

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=seconds)

    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)
    for name, module in list(sys.modules.items()):
        if name.startswith("dropdiag") and getattr(module, "datetime", None) is datetime:
            module.datetime = Skewed  # type: ignore[attr-defined]


def on_disk(path: Path) -> set[tuple[int, oracle.Key, str]]:
    """Return each row of each file, whoever may count it."""
    found = set()
    for file in path.rglob("*.parquet"):
        rank = int(file.parent.name.removeprefix("rank-"))
        table = file.name.split("-", maxsplit=1)[0]
        for row in pq.read_table(file).to_pylist() if table in ("scalars", "histograms") else ():
            key = (table, *(row[name] for name in ("step", "phase", "layer", "call", "quantity")))
            value = as_text(row["value"]) if table == "scalars" else digest(row["bins"], row["counts"])
            found.add((rank, key, value))
    return found


def look(place: Place) -> dict[str, Any]:
    """Compare what is on the disk and what is read with what each process flushed."""
    told, found, disk = oracle.read(place.log), seen(place.run), on_disk(place.run)
    wrong = [f"error that is not dropdiag's: {one}" for one in found.foreign]
    wrong += [f"twice: {key}" for key in found.doubled]
    lost = [row for row in told.rows if (row.rank, row.key, row.value) not in disk]
    wrong += [f"lost: session {row.session} {row.key}" for row in lost]
    wrong += [one for one in changed(found, told) if one.startswith("changed")]
    counted = set(found.rows)
    uncounted = Counter(row.session for row in told.rows if (row.rank, row.key, row.value) not in counted
                        and not _hidden(row, told, found.meta))  # fmt: skip
    for session, n in uncounted.items():
        identifier = told.identifiers.get(session)
        if identifier is None or not found.names(identifier[:16]):
            wrong.append(f"not counted, not named: {n} rows of session {session} ({identifier})")
    return {"wrong": wrong, "rows": len(told.rows), "lost": len(lost), "named": len(uncounted), "told": found.told}


def _hidden(row: oracle.Flushed, told: oracle.Told, meta: dict[str, Any]) -> bool:
    """Whether a session that the run knows to be later went on before this row's step."""
    known = {one.get("id"): place for place, one in enumerate(meta.get("sessions", ()))}
    place = known.get(told.identifiers.get(row.session, ""))
    if place is None:
        return row.session == 1 and any(one["from_step"] < row.key[1] for one in meta.get("sessions", ())[1:])
    return any(one["from_step"] < row.key[1] for one in meta["sessions"][place + 1 :])


def end(place: Place, children: list[Child]) -> tuple[list[str], list[str]]:
    """Wait for jobs; return what refused each, and what is wrong with how they ended."""
    ends: list[Ended] = [child.wait() for child in children]
    wrong = [f"a job ended otherwise: {one.error or one.killed_by}" for one in ends if not one.well]
    return [one.value for one in ends if one.well], wrong


def resumed(stage: Stage, number: int, processes: int = 2) -> dict[str, Any]:
    """Several processes go on in one run at once."""
    place, gate = stage.new(SCENES["a training resumed"]), Gate()
    mode = "force" if number % 2 else True
    children = [Child(job, place, 2 + i, mode, gate, DAY * (i * (number % 3 - 1))) for i in range(processes)]
    gate.open()
    refused, wrong = end(place, children)
    if refused and all(refused):
        wrong.append(f"nobody could go on: {refused}")
    return _and_on(place, wrong, refused)


def new(stage: Stage, number: int, processes: int = 2) -> dict[str, Any]:
    """Several processes begin one run at once."""
    place, gate = stage.new(SCENES["new"]), Gate()
    children = [Child(job, place, 1 + i, False, gate) for i in range(processes)]
    gate.open()
    refused, wrong = end(place, children)
    if refused.count("") != 1:
        wrong.append(f"{refused.count('')} of {processes} began one new run: {refused}")
    wrong += [f"refused by {one}" for one in refused if one and not one.startswith(("RunError", "TakenError"))]
    return _and_on(place, wrong, refused)


def stopped(stage: Stage, number: int) -> dict[str, Any]:
    """One is stopped at a file operation, another goes on in its run and ends, then the first goes on."""
    place = stage.new(SCENES["a training resumed"])
    first = Child(job, place, 2, True, None, 0.0, 1 + 7 * number)
    wrong = []
    if first.stopped():
        second = forked(job, place, 3, "force")
        wrong += [] if second.well and not second.value else [f"the second could not go on: {second}"]
        between = forked(look, place)
        wrong += [f"between: {one}" for one in (between.value["wrong"] if between.well else [str(between)])]
        first.send(signal.SIGCONT)
    refused, more = end(place, [first])
    return _and_on(place, wrong + more, refused)


def _and_on(place: Place, wrong: list[str], refused: list[str]) -> dict[str, Any]:
    """Look at the run, go on in it alone, and look again."""
    looked = forked(look, place)
    value = looked.value or {"wrong": [f"the reader ended: {looked}"], "rows": 0, "lost": 0, "named": 0}
    wrong += value["wrong"]
    last = forked(perform, place, SCENES["a training resumed"])
    again = forked(look, place)
    wrong += [] if last.well else [f"it does not go on: {last.error}"]
    wrong += [f"gone on: {one}" for one in (again.value["wrong"] if again.well else [str(again)])]
    figures = {"rounds": 1, "rows": value["rows"], "rows_lost": value["lost"], "sessions_named": value["named"],
               "refused": sum(map(bool, refused))}  # fmt: skip
    shutil.rmtree(place.root)
    return {"figures": figures, "wrong": wrong}


KINDS: dict[str, Callable[[Stage, int], dict[str, Any]]] = {
    "two resume": resumed,
    "three resume": lambda stage, number: resumed(stage, number, 3),
    "two new": new,
    "three new": lambda stage, number: new(stage, number, 3),
    "one is stopped": stopped,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=KINDS)
    options = parser.parse_args()
    warm.up(*warm.TRAINING)
    figures: Counter[str] = Counter()
    wrong = []
    with tempfile.TemporaryDirectory() as root:
        stage = Stage(Path(root))
        for kind in options.kind or KINDS:
            for number in range(options.first, options.first + options.rounds):
                found = KINDS[kind](stage, number)
                figures.update(found["figures"])
                wrong += [f"{kind}, round {number}: {one}" for one in found["wrong"]]
    tell(figures, wrong)


if __name__ == "__main__":
    main()
