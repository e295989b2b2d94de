"""What the files of runs do not say themselves, as tables: whose they are, which of their rows count."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from dropdiag.analysis.saturation import activation_of, area_parts
from dropdiag.errors import DropdiagWarning, NotRecordedError
from dropdiag.store.folder import RUN_FILE
from dropdiag.store.merging.states import GIVEN, MERGEABLE
from dropdiag.store.ranks.gathering import parts_of
from dropdiag.store.ranks.members import Rank
from dropdiag.store.run import Run
from dropdiag.store.runs import Runs
from dropdiag.store.schema import MEAN, SEALED, SUM, quantities_of
from dropdiag.store.segments import part_of, visible_segments
from dropdiag.store.tables import SCHEMAS

STATE: Final = "state"
"""How a scalar of several ranks merges that follows from their states alone: SQL leaves it out."""
_TEXT, _LONG, _INT = pa.string(), pa.int64(), pa.int32()
_SATURATION: Final = pa.schema([
    ("function", _INT), ("activation", _TEXT), ("eps", pa.float64()), ("bin", pa.uint16()),
    ("left_part", pa.float64()), ("right_part", pa.float64()),
])  # fmt: skip


def ranks_of(run: Run) -> Sequence[Rank]:
    """Return the ranks of a run whose rows count, in the order in which they are merged."""
    if run.group is not None:
        return run.group.ranks
    return [Rank(0, run.meta, part_of(run.path, run.meta["sessions"]))]


def runs_table(runs: Runs) -> pa.Table:
    """Return a row a run: run, path, condition, seed, ranks, left_out; the others tell whether it changed since."""
    columns = {
        "path": (_TEXT, [run.path.as_posix() for run in runs]),
        "ranks": (_INT, [len(ranks_of(run)) for run in runs]),
        "left_out": (_TEXT, list(map(left_out, runs))),
        "sessions": (_LONG, [_sessions(run) for run in runs]),
        "sealed": (pa.bool_(), [run.meta["schema"] >= SEALED for run in runs]),
        "edited": (_TEXT, [hashlib.sha256(_told(run)).hexdigest() if run.remarks else None for run in runs]),
        "metas": (_LONG, [1 + len(list(run.path.glob("rank-*/rank.json"))) for run in runs]),
    }
    table = pa.Table.from_pandas(runs.run_columns(range(len(runs))), preserve_index=False)
    for name, (dtype, values) in columns.items():
        table = table.append_column(name, pa.array(values, dtype))
    return table


def _told(run: Run) -> bytes:
    return (run.path / RUN_FILE).read_bytes()


def _sessions(run: Run) -> int | None:
    """Return of how many sessions the file itself knows: others have one of their own, and change nothing in it."""
    try:
        return len(json.loads(_told(run))["sessions"])
    except (OSError, ValueError, KeyError, TypeError):  # it changed since the run was opened: then it is stale
        return None


def left_out(run: Run) -> str | None:
    """Say why the rows of a run are not merged by SQL."""
    ranks = ranks_of(run)
    if run.names:
        return "an earlier version recorded it, and its layers have other names today: read it with dropdiag.load"
    if len({rank.batch for rank in ranks}) < len(ranks):
        return "its ranks hold parts of one tensor (tensor parallelism): read it with dropdiag.load"
    if any(rank.renamed or rank.functions for rank in ranks):
        return "its ranks have other layers or functions of one name: read it with dropdiag.load"
    return None


def ranks_table(runs: Runs) -> pa.Table:
    """Return a row a rank: run, rank, place in the order of merging, and the layers of whose weights it has a part."""
    rows = [(label, rank.number, place, sorted(parts_of(rank).weights))
            for label, run in labelled(runs) for place, rank in enumerate(ranks_of(run))]  # fmt: skip
    return _table(rows, run=_TEXT, rank=_INT, place=_INT, parts=pa.list_(_TEXT))


def spans_table(runs: Runs) -> pa.Table:
    """Return a row a session of a rank: its segments, by their names or else by their numbers, and which steps count.

    Those of ``last_step`` and before do; null: all.
    """
    rows = []
    for label, run in labelled(runs):
        for rank in ranks_of(run):
            starts = [span.first_segment for span in rank.part.spans]
            rows += [(label, rank.number, span.first_segment, following, span.last_step, span.session)
                     for span, following in zip(rank.part.spans, [*starts[1:], None], strict=True)]  # fmt: skip
    return _table(
        rows, run=_TEXT, rank=_INT, first_segment=_LONG, next_segment=_LONG, last_step=_LONG, session=_TEXT
    )  # fmt: skip


def segments_table(runs: Runs, damaged: Container[Path]) -> pa.Table:
    """Return a row a file that counts now and is not damaged: run, rank, table, file, last_step."""
    rows = [(label, rank.number, name, segment.path.as_posix(), last_step)
            for label, run in labelled(runs) for rank in ranks_of(run) for name in SCHEMAS
            for segment, last_step in visible_segments(rank.part, name) if segment.path not in damaged]  # fmt: skip
    return _table(rows, run=_TEXT, rank=_INT, table=_TEXT, file=_TEXT, last_step=_LONG)


def merges_table(runs: Runs) -> pa.Table:
    """Return how the scalars of runs of several ranks merge, those that do by their mean aside."""
    rows = [
        (label, name, merge)
        for label, run in labelled(runs) if len(ranks_of(run)) > 1 for name, merge in _merges(run).items()
    ]  # fmt: skip
    return _table(rows, run=_TEXT, quantity=_TEXT, merge=_TEXT)


def _merges(run: Run) -> dict[str, str]:
    rules = {name: quantity.merge for name, quantity in quantities_of(run.meta).items() if quantity.merge != MEAN}
    given = {name: STATE for name in GIVEN if name not in MERGEABLE and rules.get(name) != SUM}
    return rules | given


def sites_table(runs: Runs) -> pa.Table:
    """Return a row a site: run, layer, call, kind, type, activation, and its place in the order of execution."""
    rows = [
        (label, row["layer"], row["call"], row.get("kind"), row.get("type"), row.get("activation"),
         run.order.get((row["layer"], row["call"])))
        for label, run in labelled(runs) for row in run.meta["layers"]
    ]  # fmt: skip
    return _table(rows, run=_TEXT, layer=_TEXT, call=_INT, kind=_TEXT, type=_TEXT, activation=_TEXT, place=_INT)


class Functions:
    """Which function each site has, and how much of each bin lies in its saturation area.

    Functions of one name and one saturation area are one.

    Parameters
    ----------
    runs : Runs
    """

    def __init__(self, runs: Runs) -> None:
        self._runs: dict[tuple[str, str], list[Run]] = {}  # those that have each function
        self._rows = [(label, *site) for label, run in labelled(runs) for site in self._sites(run)]

    def activations(self) -> pa.Table:
        """Return a row a site: run, layer, call (null: each call that has no row), activation, function."""
        return _table(self._rows, run=_TEXT, layer=_TEXT, call=_INT, activation=_TEXT, function=_INT)

    def saturation(self) -> pa.Table:
        """Return a row a function and finite bin: function, activation, eps, bin, left_part, right_part.

        Warns
        -----
        DropdiagWarning
            For each function whose derivative no run holds: it has no rows.
        """
        found = [_parts_table(place, name, runs) for place, ((name, _), runs) in enumerate(self._runs.items())]
        return pa.concat_tables([_SATURATION.empty_table(), *(table for table in found if table is not None)])

    def _sites(self, run: Run) -> Iterator[tuple[str, int | None, str, int]]:
        calls: dict[str, list[int | None]] = {}
        for row in run.meta["layers"]:
            calls.setdefault(row["layer"], [None]).append(row["call"])
        for layer, some in calls.items():
            for call in dict.fromkeys(some):
                # a call that is not listed has the function of another one of its layer
                name = activation_of(run, layer, -1 if call is None else call)
                if name is not None:
                    yield layer, call, name, self._number(run, name)

    def _number(self, run: Run, activation: str) -> int:
        key = activation, json.dumps(run.meta["activations"][activation], sort_keys=True)
        having = self._runs.setdefault(key, [])
        if not having or having[-1] is not run:
            having.append(run)
        return list(self._runs).index(key)


def _parts_table(function: int, activation: str, runs: Sequence[Run]) -> pa.Table | None:
    area: dict[str, Any] = runs[0].meta["activations"][activation]
    for run in runs:
        try:
            bins, derivative = run.derivative(activation)
        except NotRecordedError:  # killed before its first flush, or not yet there
            continue
        left, right = area_parts(bins, derivative, area["eps"] * area["sup"])
        same = [pa.repeat(pa.scalar(value, field.type), len(bins))
                for value, field in zip((function, activation, area["eps"]), _SATURATION, strict=False)]  # fmt: skip
        return pa.Table.from_arrays([*same, pa.array(bins), pa.array(left), pa.array(right)], schema=_SATURATION)
    message = f"{runs[0].path}: the derivative of {activation!r} is not recorded (yet), saturation shares lack it"
    warnings.warn(message, DropdiagWarning, stacklevel=2)
    return None


def labelled(runs: Runs) -> Iterator[tuple[str, Run]]:
    """Yield each run with the name that frames have in their column ``run``."""
    return zip(runs.labels(), runs, strict=True)


def _table(rows: Sequence[tuple[Any, ...]], **columns: pa.DataType) -> pa.Table:
    return pa.table({name: pa.array([row[place] for row in rows], dtype)
                     for place, (name, dtype) in enumerate(columns.items())})  # fmt: skip
