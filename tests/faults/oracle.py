"""What was flushed, kept apart from the run: a log that only grows, and values that anybody can compute again.

Each number of a scene follows from its key and the session that records it, so a reader's number is right, of an
earlier session, or wrong: nothing in between.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dropdiag.histograms.grid import line_bins
from dropdiag.histograms.histogram import Histogram
from dropdiag.store import jobs, writer
from dropdiag.store.rows import HistogramRow, ScalarRow, StateRow

Key = tuple[str, int, str, str | None, int, str]
"""Table, step, phase, layer, call, quantity."""
LAYERS = ("a", "b")


class Log:
    """Lines that are appended, each by one call; a kill of the process leaves whole ones."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, **told: Any) -> None:
        os.write(self._descriptor, json.dumps(told).encode() + b"\n")


def number(session: int, *key: object) -> float:
    """Return the number that a session records under a key."""
    digest = hashlib.sha256(repr((session, key)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**40


def values(session: int, step: int, layer: str) -> np.ndarray:
    """Return the net values that a session records at a step."""
    seed = int(number(session, "seed", step, layer) * 2**30)
    return np.random.default_rng(seed).normal(size=12).astype(np.float32)


def digest(bins: np.ndarray, counts: np.ndarray) -> str:
    """Return a histogram as text."""
    content = np.asarray(bins, "<u2").tobytes() + np.asarray(counts, "<i8").tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def scalars(session: int, step: int) -> list[ScalarRow]:
    """Return the scalars of a step: one of the run, one a layer, and one that is missing."""
    keys = [("train", None, "loss"), *(("train", layer, "net_grad_abs_mean") for layer in LAYERS)]
    rows = [ScalarRow(step, phase, layer, 0, quantity, number(session, step, phase, layer, quantity))
            for phase, layer, quantity in keys]  # fmt: skip
    return [*rows, ScalarRow(step, "train", "b", 1, "net_grad_abs_mean", None)]


def histograms(session: int, step: int) -> list[HistogramRow]:
    """Return the histograms of a step."""
    found = {layer: Histogram.from_values(values(session, step, layer)) for layer in LAYERS}
    return [HistogramRow(step, "train", layer, 0, "net_value", h.bins, h.counts) for layer, h in found.items()]


def derivative(name: str) -> np.ndarray:
    """Return |phi'| of an activation: numbers that repeat, so that its file is small."""
    return np.where(np.arange(len(line_bins())) % 1024 < 512, number(0, name), 1.0)


def told_of(row: Any) -> tuple[Key, str]:
    """Return the key and the value of a row, as text."""
    if isinstance(row, HistogramRow):
        return ("histograms", *row[:5]), digest(row.bins, row.counts)
    return ("scalars", *row[:5]), as_text(row.value)


def as_text(value: float | None) -> str:
    """Return a number as text, bit for bit; what is missing and what is no number are one."""
    return "nan" if value is None or value != value else float(value).hex()


def watch(log: Log, session: int) -> None:
    """Note the rows of each flush in this process, before and as soon as they are on the disk: wraps the writer's jobs.

    Parameters
    ----------
    log : Log
    session : int
        Which session of the run this process records.
    """

    class Rows(jobs.Rows):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            all_of = [row for some in arguments if isinstance(some, list) for row in some]
            self._all = [told_of(row) for row in all_of if not isinstance(row, StateRow)]
            self._rank = _rank_of(self._numbers)
            log.note(handed=self._all, rank=self._rank, session=session)

        def __call__(self) -> None:
            super().__call__()
            log.note(flushed=self._all, rank=self._rank, session=session)

    class Derivatives(jobs.Derivatives):
        def __init__(self, numbers: Any, derivatives: Any) -> None:
            super().__init__(numbers, derivatives)
            self._names = list(derivatives)

        def __call__(self) -> None:
            super().__call__()
            log.note(derivatives=self._names)

    def compact(*arguments: Any, **options: Any) -> Any:
        log.note(phase="compacting")
        return real(*arguments, **options)

    real = writer.compact
    writer.Rows, writer.Derivatives, writer.compact = Rows, Derivatives, compact  # type: ignore[misc]


def _rank_of(numbers: Any) -> int:
    """Return whose segments they are numbers of."""
    return int(Path(numbers._folder).name.removeprefix("rank-"))


@dataclass
class Flushed:
    """A row that was on the disk."""

    rank: int
    key: Key
    value: str
    session: int


@dataclass
class Told:
    """What a log says: rows by session, from which step each session meant to go on, phases it came to."""

    rows: list[Flushed] = field(default_factory=list)
    handed: list[Flushed] = field(default_factory=list)
    derivatives: set[str] = field(default_factory=set)
    from_step: dict[int, int] = field(default_factory=dict)
    opened: int = 0
    identifiers: dict[int, str] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Whether no session was ever open and no row on the disk."""
        return not (self.rows or self.opened)

    def must_count(self) -> dict[int, dict[Key, str]]:
        """Return the rows that no later session can have hidden, by rank."""
        found: dict[int, dict[Key, str]] = defaultdict(dict)
        for row in self.rows:
            later = [step for session, step in self.from_step.items() if session > row.session]
            if row.key[1] <= min(later, default=row.key[1]):
                found[row.rank][row.key] = row.value
        return found

    def may_count(self) -> dict[tuple[int, Key], set[str]]:
        """Return each value that the writer was given under a key."""
        found: dict[tuple[int, Key], set[str]] = defaultdict(set)
        for row in self.handed:
            found[row.rank, row.key].add(row.value)
        return found


def read(path: Path) -> Told:
    """Read a log."""
    told = Told()
    for line in path.read_text().splitlines() if path.exists() else ():
        one = json.loads(line)
        if "begin" in one:
            told.from_step[one["begin"]] = one["from_step"]
        told.opened += "opened" in one
        if one.get("id"):
            told.identifiers[one["opened"]] = one["id"]
        told.phases += [one["phase"]] if "phase" in one else []
        told.derivatives |= set(one.get("derivatives", ()))
        told.rows += _rows(one, "flushed")
        told.handed += _rows(one, "handed")
    return told


def _rows(one: dict[str, Any], kind: str) -> list[Flushed]:
    return [Flushed(one["rank"], tuple(key), value, one["session"]) for key, value in one.get(kind, ())]
