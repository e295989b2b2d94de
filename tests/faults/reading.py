"""What a reader gets out of a run, through the public ways: each row bit for bit, and what it is told beside."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

import dropdiag as dd
from dropdiag.cli import app
from dropdiag.errors import DropdiagError, DropdiagWarning
from tests.faults.oracle import Key, as_text, digest

ENVIRONMENT = {"COLUMNS": "200", "NO_COLOR": "1"}


@dataclass
class Seen:
    """What was read.

    Attributes
    ----------
    rows : list of (rank, key, value)
        As each rank has them.
    merged : list of (key, value)
        As the run of several ranks has them.
    derivatives : dict of str to str
    told : list of str
        Warnings, and errors of dropdiag's own.
    foreign : list of str
        Errors that are none of dropdiag's.
    meta : dict
        What the run says of itself; empty where it cannot be opened.
    """

    rows: list[tuple[int, Key, str]] = field(default_factory=list)
    merged: list[tuple[Key, str]] = field(default_factory=list)
    derivatives: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    def names(self, *names: str) -> bool:
        """Whether something of these names was spoken of."""
        return any(name in sentence for name in names for sentence in self.told)

    @property
    def doubled(self) -> list[Key]:
        """Keys that came more than once."""
        one = Counter((rank, key) for rank, key, _ in self.rows)
        merged = Counter(key for key, _ in self.merged)
        return [key for (_, key), n in one.items() if n > 1] + [key for key, n in merged.items() if n > 1]


def seen(path: Path) -> Seen:
    """Read everything of a run."""
    found = Seen()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = _guarded(found, dd.load, path)
        if run is not None:
            found.meta = dict(run.meta)
            for read in (_scalars, _histograms, _derivatives):
                _guarded(found, read, run, found)
    for one in caught:
        (found.told if issubclass(one.category, DropdiagWarning) else found.foreign).append(str(one.message))
    return found


def _guarded(found: Seen, read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except DropdiagError as error:  # also the answer to what a damaged file would have said
        found.told.append(str(error))
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        found.foreign.append(f"{read.__name__}: {type(error).__name__}: {error}")
    return None


def _views(run: dd.Run) -> list[tuple[int, dd.Run]]:
    """Return the ranks, each by itself."""
    return [(0, run)] if run.group is None else [(view.rank or 0, view) for view in run.ranks]


def _scalars(run: dd.Run, found: Seen) -> None:
    found.told += run.group.problems if run.group else []
    for number, rank in _views(run):
        frame = rank.select()
        found.rows += [(number, key, value) for key, value in _keyed("scalars", frame, map(as_text, frame["value"]))]
    if run.group is not None:
        frame = run.select()
        found.merged += _keyed("scalars", frame, map(as_text, frame["value"]))


def _histograms(run: dd.Run, found: Seen) -> None:
    for number, rank in _views(run):
        found.rows += [(number, *one) for one in _recorded(rank)]
    if run.group is not None:
        found.merged += _recorded(run)


def _recorded(run: dd.Run) -> list[tuple[Key, str]]:
    told = run.recorded(lambda steps: steps)
    told.warn()
    return [(("histograms", row.step, row.phase, row.layer, row.call, row.quantity),
             digest(row.histogram.bins, row.histogram.counts)) for row in told.rows()]  # fmt: skip


def _derivatives(run: dd.Run, found: Seen) -> None:
    for name in run.meta["activations"]:
        bins, values = run.derivative(name)
        found.derivatives[name] = f"{len(bins)} {digest(bins, values.view('<i8'))}"


def _keyed(table: str, frame: Any, values: Any) -> list[tuple[Key, str]]:
    columns = [frame[name].tolist() for name in ("step", "phase", "layer", "call", "quantity")]
    keys = ((table, step, phase, layer if isinstance(layer, str) else None, call, quantity)
            for step, phase, layer, call, quantity in zip(*columns, strict=True))  # fmt: skip
    return list(zip(keys, values, strict=True))


def command(*arguments: object) -> tuple[Any, int, str]:
    """Run a command of the CLI for machines; return its JSON, its exit code, and what it said on standard error."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], env=ENVIRONMENT)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout) if result.stdout else None, result.exit_code, result.stderr
