"""The rows of a run's ranks put together, under the names that the merged run has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.store.lists import OpenLists
from dropdiag.store.merging.groups import Ints, places
from dropdiag.store.merging.once import Parts, numbers, roles
from dropdiag.store.merging.scalars import Gathered
from dropdiag.store.ranks.members import Rank
from dropdiag.store.ranks.repeated import RepeatedEvaluations
from dropdiag.store.reading import one_chunk, whole

STATES_AT_ONCE: Final = 8 << 20
"""Numbers of states in memory, at most: 64 MB; of one step there may be more."""
Found = TypeVar("Found")


class Gatherer:
    """Puts rows of ranks together.

    Parameters
    ----------
    ranks : sequence of Rank
        In the order in which they are merged.

    Attributes
    ----------
    ranks : sequence of Rank
    shares : bool
        Whether any two of them got the same batch.
    """

    def __init__(self, ranks: Sequence[Rank]) -> None:
        self.ranks = ranks
        self._batch = numbers(rank.batch for rank in ranks)
        self._shard = np.array([rank.shard for rank in ranks], np.int64)
        self._split = [parts_of(rank) for rank in ranks]
        self._repeated = RepeatedEvaluations(ranks, self._batch, self._shard)
        self.shares = len(set(self._batch.tolist())) < len(ranks)

    def gathered(self, tables: Sequence[pa.Table]) -> Gathered:
        """Return the tables of all ranks, one each, as one; names are those that each rank has itself."""
        named = [table.select(["quantity", "layer"]) for table in tables]  # lists may be large: they are copied once
        role = [roles(one_chunk(keys), split) for keys, split in zip(named, self._split, strict=True)]
        place = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        table = one_chunk(pa.concat_tables([renamed(rank, one) for rank, one in zip(self.ranks, tables, strict=True)]))
        of = np.concatenate(role)
        kept = self._repeated.kept(table, place)
        if kept is not None:
            table, place, of = one_chunk(table.filter(pa.array(kept))), place[kept], of[kept]
        return Gathered(table, place, of, self._batch[place], self._shard[place])

    def opened(self, name: str, stack: ExitStack) -> list[OpenLists]:
        """Open a table of each rank whose rows hold lists."""
        return [OpenLists(rank.part, name, stack, len(self.ranks)) for rank in self.ranks]

    def whole(self, read: Callable[[], Found]) -> Found:
        """Read, and again where a rank ended meanwhile."""
        return whole([rank.part for rank in self.ranks], read)

    def states(self, wanted: pa.Table, use: Callable[[Gathered], Found]) -> tuple[list[Found], list[str]]:
        """Read the states of some keys, and use them, a bounded number at a time.

        Parameters
        ----------
        wanted : Table
            Columns of keys.
        use : callable
            Takes states that belong together, those of each step at once.

        Returns
        -------
        list
            What ``use`` returned.
        list of str
            A sentence on each segment that could not be read.
        """

        def read() -> tuple[list[Found], list[str]]:
            with ExitStack() as stack:
                opened = self.opened("states", stack)
                chosen = [np.flatnonzero(places(renamed(rank, one.keys), wanted) >= 0)
                          for rank, one in zip(self.ranks, opened, strict=True)]  # fmt: skip
                found = [use(self.gathered(tables)) for tables in _by_steps(opened, chosen)]
                return found, [problem for one in opened for problem in one.problems]

        return self.whole(read)


def _by_steps(opened: Sequence[OpenLists], chosen: Sequence[Ints]) -> Iterator[list[pa.Table]]:
    """Yield the chosen states of all ranks, some steps at a time."""
    steps = [one.keys["step"].to_numpy()[rows] for one, rows in zip(opened, chosen, strict=True)]
    sizes = [_numbers(one.keys["nodes"].to_numpy()[rows]) for one, rows in zip(opened, chosen, strict=True)]
    for some in chunks(np.concatenate(steps), np.concatenate(sizes), STATES_AT_ONCE):
        yield [one.read(rows[np.isin(step, some)]) for one, rows, step in zip(opened, chosen, steps, strict=True)]


def chunks(steps: Ints, sizes: Ints, most: int) -> list[Ints]:
    """Return the steps of rows in groups whose rows are of so much together, at most; one step may be more."""
    found, place = np.unique(steps, return_inverse=True)
    ends = np.cumsum(np.bincount(place, weights=sizes, minlength=len(found)))
    groups = np.split(found, np.flatnonzero(np.diff(ends // most)) + 1)
    return [group for group in groups if len(group)]


def _numbers(nodes: NDArray[Any]) -> Ints:
    """Return how many numbers states have at most, by their nodes: those of a covariance."""
    wide = nodes.astype(np.int64)
    return 7 + 3 * wide + wide * (wide + 1) // 2


def renamed(rank: Rank, table: pa.Table) -> pa.Table:
    """Return a table of one rank with the names of layers in the merged run."""
    if not rank.renamed:
        return table
    column = table["layer"].unify_dictionaries().combine_chunks()
    names = pa.array([rank.renamed.get(name, name) for name in column.dictionary.to_pylist()], pa.string())
    layers = pa.DictionaryArray.from_arrays(column.indices, names)
    return table.set_column(table.schema.get_field_index("layer"), table.schema.field("layer"), layers)


def parts_of(rank: Rank) -> Parts:
    """Return the layers of which a rank holds a part."""
    split = [row for row in rank.meta["layers"] if row.get("sharded")]
    weights = frozenset(str(row["layer"]) for row in split if row["kind"] == "weight")
    return Parts(weights, frozenset(str(row["layer"]) for row in split if row["kind"] != "weight"))
