"""The ranks of a run, each by itself and side by side."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from dropdiag.errors import NotRecordedError
from dropdiag.printable import printable
from dropdiag.store.ranks.coverage import numbered
from dropdiag.store.ranks.group import Group
from dropdiag.store.ranks.members import Rank
from dropdiag.store.selection import Layers, Names, Selection, Steps

if TYPE_CHECKING:
    import pandas as pd

View = TypeVar("View")


class Ranks(Generic[View]):
    """The processes that recorded a run, by number; of a run of one process there is one.

    ``len`` is how many of them can be read, iterating gives each by itself, ``ranks[2]`` is rank 2: a `Run` with what
    that process alone saw. Missing ones are in `missing`.

    Parameters
    ----------
    views : mapping of int to Run
        Each rank by itself.
    ranks : sequence of Rank
        In the order in which they are merged.
    group : Group or None
        None of a run of one process.
    run : str
        What the run is called.
    """

    def __init__(self, views: Mapping[int, View], ranks: Sequence[Rank], group: Group | None, run: str) -> None:
        self._views, self._ranks, self._group, self._run = dict(views), ranks, group, run

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[View]:
        return iter(self._views.values())

    def __getitem__(self, rank: int) -> View:
        """Return one rank by itself.

        Raises
        ------
        NotRecordedError
            If there is none of this number, or it cannot be read; the message says why.
        """
        number = operator.index(rank)
        if number not in self._views:
            why = f": {self.missing[number]}" if number in self.missing else ""
            raise NotRecordedError(f"{self._run} has no rank {number}{why}; it has {numbered(self._views.keys())}")
        return self._views[number]

    def __repr__(self) -> str:
        lacking = {} if self._group is None else self._group.lacking
        told = "".join(f"; rank {rank} {why}" for rank, why in lacking.items())
        return printable(f"<Ranks of {self._run}: {numbered(self._views.keys())} of {self.world_size}{told}>")

    @property
    def world_size(self) -> int:
        """Processes of the run's last session."""
        return 1 if self._group is None else self._group.world_size

    @property
    def missing(self) -> dict[int, str]:
        """Ranks that should have recorded and cannot be read, and why."""
        lacking = {} if self._group is None else self._group.lacking
        return {rank: why for rank, why in lacking.items() if rank not in self._views}

    @property
    def table(self) -> pd.DataFrame:
        """One row a rank, missing ones too.

        Columns rank, state ("missing" of one that cannot be read), steps (the last that it recorded), sessions (in how
        many it took part), step_seconds (mean time of a training step), recorder_share (of that time, the recorder's),
        differs (in words: that it stopped, that its layers, its disabled probes, or its copy of the weights are not
        those of most ranks; empty where nothing is of note).
        """
        from dropdiag.store.ranks.table import table  # noqa: PLC0415 - it needs pandas

        return table(self._ranks, {} if self._group is None else self._group.lacking)

    def spread(
        self, quantity: Names = None, *, phase: Names = None, layer: Layers = None, steps: Steps = None
    ) -> pd.DataFrame:
        """Return how far the ranks' scalars lie apart: each rank's own number counts once, whatever it was made of.

        Parameters
        ----------
        quantity, phase, layer, steps
            As of `Run.select`.

        Returns
        -------
        DataFrame
            Columns step, phase, layer, call, quantity, ranks (how many have a number there), mean, sd (over ranks,
            divided by their number less one; NaN of one), minimum, maximum.

        Raises
        ------
        ArgumentError, NotRecordedError
            As `Run.select`.
        """
        from dropdiag.store.ranks.spread import spread  # noqa: PLC0415 - as above

        problems = () if self._group is None else self._group.problems
        return spread(self._ranks, Selection.of(quantity, phase, layer, steps), f"{self._run} has no", problems)
