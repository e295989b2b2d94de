"""The tables of all ranks of a run, merged as they are read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdiag.errors import DropdiagWarning
from dropdiag.store.lists import OpenLists
from dropdiag.store.merging import histograms, scalars
from dropdiag.store.merging.groups import Ints
from dropdiag.store.one_rank import OneRank, Tables, size
from dropdiag.store.ranks.correlations import with_correlations
from dropdiag.store.ranks.gathering import Gatherer, chunks, renamed
from dropdiag.store.ranks.given import with_given
from dropdiag.store.ranks.group import Group
from dropdiag.store.ranks.members import Rank
from dropdiag.store.ranks.repeated import without_digests
from dropdiag.store.reading import (
    KnownKeys,
    Rows,
    coded,
    not_gone,
    one_chunk,
    read_derivatives,
    read_scalars,
    read_steps,
)
from dropdiag.store.schema import quantities_of
from dropdiag.store.selection import Selection
from dropdiag.store.tables import SCHEMAS

STREAM_ROWS: Final = {"scalars": 262_144, "histograms": 2_048}
"""Rows of all ranks that are merged at a time, at most; of one step there may be more."""


def tables_of(group: Group) -> Tables:
    """Return the tables of a run that several ranks recorded, of which one alone may be there."""
    return SeveralRanks(group) if len(group.ranks) > 1 else OneRank(group.ranks[0].part, group.problems)


class SeveralRanks:
    """The tables of a run that several ranks recorded, each row that of all ranks that have it.

    Parameters
    ----------
    group : Group
    """

    def __init__(self, group: Group) -> None:
        self._ranks, self._problems = group.ranks, list(group.problems)
        self._gatherer = Gatherer(group.ranks)
        self._quantities = quantities_of(group.meta)

    def scalars(self, selection: Selection, known: KnownKeys | None = None) -> Rows:  # noqa: ARG002 - of one rank alone
        """Read scalars; those that states give from these, which are read where one of them is wanted."""
        read = [read_scalars(rank.part, self._own(rank, selection), counts=True) for rank in self._ranks]
        problems = [*self._problems, *(problem for one in read for problem in one.problems)]
        rows = self._gatherer.gathered([
            table.filter(mask) if (mask := selection.mask(renamed(rank, table))) is not None else table
            for rank, table in zip(self._ranks, (one_chunk(one.table) for one in read), strict=True)
        ])  # fmt: skip
        table, more = with_given(self._gatherer, scalars.merge(rows, self._quantities), rows)
        return Rows(without_digests(table), problems + more)

    def names(self) -> pa.Table:
        """Return names of scalars, without merging them."""
        tables = [renamed(rank, one_chunk(read_scalars(rank.part, Selection()).table)) for rank in self._ranks]
        return one_chunk(pa.concat_tables(tables))

    def histograms(self, choose: Callable[[pa.Table], NDArray[np.bool_]]) -> Rows:
        """Read histograms: the keys of all ranks, then of each the chosen ones."""

        def read() -> tuple[pa.Table, list[str]]:
            with ExitStack() as stack:
                opened = self._gatherer.opened("histograms", stack)
                keys = one_chunk(pa.concat_tables(list(map(renamed, self._ranks, (one.keys for one in opened)))))
                chosen = np.split(choose(keys), np.cumsum([len(one.keys) for one in opened])[:-1])
                table, problems = self._merged(opened, [np.flatnonzero(mask) for mask in chosen])
                return table, [*(problem for one in opened for problem in one.problems), *problems]

        table, problems = self._gatherer.whole(read)
        return Rows(table, [*self._problems, *problems])

    def derivatives(self) -> Rows:
        """Read derivatives: of each activation those of the first rank that has them."""
        found, problems = [SCHEMAS["derivatives"].empty_table()], list(self._problems)
        seen: set[str] = set()
        for rank in self._ranks:
            table, said, _ = read_derivatives(rank.part)
            problems += said
            own = table["activation"].unique().to_pylist()
            new = [name for name in own if rank.functions.get(name, name) not in seen]
            for name in new:
                called = rank.functions.get(name, name)
                seen.add(called)
                rows = table.filter(pc.equal(table["activation"], name))
                found.append(rows.set_column(0, "activation", pa.array([called] * len(rows), pa.string())))
        return Rows(pa.concat_tables(found), problems)

    def stream(self, name: str) -> Iterator[pa.Table]:
        """Yield all rows of a table, in the order of step."""
        found = self._scalar_parts() if name == "scalars" else self._histogram_parts()
        told = set[str]()
        for table, problems in found:
            for problem in problems:
                if problem not in told:
                    told.add(problem)
                    warnings.warn(problem, DropdiagWarning, stacklevel=2)
            if table.num_rows:
                yield table

    def size(self, *names: str) -> int:
        """Size of tables on the disk, those of all ranks together."""
        return sum(size(rank.part.folder, *names) for rank in self._ranks)

    def _own(self, rank: Rank, selection: Selection) -> Selection:
        """Return what to read of a rank: its files have its own names, which rows are wanted shows in those of all."""
        return selection.of_all_layers() if rank.renamed else selection

    def _merged(self, opened: list[OpenLists], rows: list[Ints]) -> tuple[pa.Table, list[str]]:
        """Return chosen histograms, merged."""
        tables = [one.read(chosen) for one, chosen in zip(opened, rows, strict=True)]
        return with_correlations(self._gatherer, histograms.merge(self._gatherer.gathered(tables)))

    def _scalar_parts(self) -> Iterator[tuple[pa.Table, list[str]]]:
        steps = np.concatenate([read_steps(rank.part, "scalars") for rank in self._ranks])
        for some in chunks(steps, np.ones_like(steps), STREAM_ROWS["scalars"]):
            table, problems, _ = self.scalars(Selection.of(steps=(int(some[0]), int(some[-1]))))
            yield table, problems

    def _histogram_parts(self) -> Iterator[tuple[pa.Table, list[str]]]:
        with ExitStack() as stack, not_gone(self._ranks[0].part):
            opened = self._gatherer.opened("histograms", stack)
            steps = [one.keys["step"].to_numpy() for one in opened]
            every = np.concatenate(steps)
            yield coded("histograms").empty_table(), self._problems
            for some in chunks(every, np.ones_like(every), STREAM_ROWS["histograms"]):
                table, problems = self._merged(opened, [np.flatnonzero(np.isin(step, some)) for step in steps])
                yield table, [*(problem for one in opened for problem in one.problems), *problems]
