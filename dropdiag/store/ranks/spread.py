"""How far the scalars of a run's ranks lie apart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.errors import DropdiagWarning
from dropdiag.store.asked import Asked
from dropdiag.store.merging.groups import KEYS, Ints, grouped
from dropdiag.store.merging.scalars import Numbers
from dropdiag.store.ranks.gathering import Gatherer
from dropdiag.store.ranks.members import Rank
from dropdiag.store.reading import decoded, read_scalars
from dropdiag.store.selection import Selection

Floats = NDArray[np.float64]


def spread(ranks: Sequence[Rank], selection: Selection, who: str, problems: Sequence[str] = ()) -> pd.DataFrame:
    """Return mean, sd, least and greatest of the ranks' own scalars; see `dropdiag.store.ranks.sequence.Ranks.spread`.

    Parameters
    ----------
    ranks : sequence of Rank
    selection : Selection
    who : str
        "<Run ...> has no": how a sentence on a name that is not there begins.
    problems : sequence of str
        What is missing of the run.
    """
    read = [read_scalars(rank.part, Selection(), counts=True) for rank in ranks]
    for problem in [*problems, *(problem for one in read for problem in one.problems)]:
        warnings.warn(problem, DropdiagWarning, stacklevel=3)
    rows = Gatherer(ranks).gathered([one.table for one in read])
    asked = Asked(selection)
    asked.see(rows.table)
    asked.check(who, [rank.meta for rank in ranks], [rows.table])
    kept = np.flatnonzero(_mask(selection, rows.table))
    table, rank = rows.table.take(kept), rows.rank[kept]
    groups = grouped(table.select(KEYS), rank)
    columns = _columns(groups.of, _came(table), len(groups))
    frame: pd.DataFrame = decoded(table.select(KEYS).take(groups.first)).to_pandas()
    return frame.assign(**columns)


def _mask(selection: Selection, table: pa.Table) -> NDArray[np.bool_]:
    mask = selection.mask(table)
    return np.ones(len(table), np.bool_) if mask is None else mask.to_numpy()


def _came(table: pa.Table) -> Numbers:
    """Return the numbers of rows; of those that are made of no value there is none."""
    values, counts = (Numbers.of(table[name]) for name in ("value", "count"))
    return values._replace(known=values.known & ~(counts.known & (counts.value == 0.0)))


def _columns(group: Ints, values: Numbers, groups: int) -> dict[str, Floats | Ints]:
    """Return what is told of each group; what is missing on a rank does not count."""
    value, of = values.value[values.known], group[values.known]
    number = np.bincount(of, minlength=groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(of, weights=value, minlength=groups) / number
        sd = np.sqrt(np.bincount(of, weights=(value - mean[of]) ** 2, minlength=groups) / (number - 1))
        ends = [np.full(groups, end) for end in (np.inf, -np.inf)]
        for end, take in zip(ends, (np.minimum, np.maximum), strict=True):
            take.at(end, of, value)
            end[number == 0] = np.nan
    sd[number < 2] = np.nan
    return {"ranks": number, "mean": mean, "sd": sd, "minimum": ends[0], "maximum": ends[1]}
