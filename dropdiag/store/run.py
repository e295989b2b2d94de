"""One recorded run, read from its folder as it is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.histograms.histogram import Histogram
from dropdiag.printable import printable
from dropdiag.store.asked import Asked, did_you_mean
from dropdiag.store.coverage import Coverage
from dropdiag.store.folder import described
from dropdiag.store.naming import NO_NAMES, Names, site_today, today
from dropdiag.store.ranks.group import group_of
from dropdiag.store.ranks.members import Rank
from dropdiag.store.ranks.sequence import Ranks
from dropdiag.store.run_facts import RunFacts
from dropdiag.store.segments import NOTHING, Part, part_of
from dropdiag.store.selection import Layers, Selection, Steps
from dropdiag.store.selection import Names as Chosen
from dropdiag.store.storage.places import PathLike, as_path

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from dropdiag.store.histogram_rows import Choose, Recorded
    from dropdiag.store.kept import KeptHistograms
    from dropdiag.store.one_rank import Tables
    from dropdiag.store.reading import KnownKeys, Rows

_Derivative: TypeAlias = tuple[NDArray[np.uint16], NDArray[np.float64]]


class Run(RunFacts):
    """One recorded run. Reading is lazy; a run may be read while it is still recorded.

    Parameters
    ----------
    path : path
        The run folder.
    condition : str, optional
        Overrides the condition in the run's config.

    Attributes
    ----------
    path : Path
        The run folder, absolute.
    meta : dict
        What ``run.json`` says: config, versions, layers, activations, sessions, how the run ended.
    names : Names
        What sites are called in place of what the run calls them itself: runs of schema 1 beside others alone.
    group : Group or None
        Who recorded it, where that was a training of several processes; their rows are merged as they are read.
    remarks : list of str
        What whoever opens the run is told: files that are not as they were written, writers beside each other.
    rank : int or None
        Of one rank by itself, as `ranks` gives it, its number; None: the run as a whole.

    Raises
    ------
    RunError
        If the folder is not a run that this version can read.

    Examples
    --------
    >>> run = dd.load("runs/dropout-s0")
    >>> run.meta["config"]["rate"]
    0.5
    >>> run.scalars["quantity"].nunique() > 10
    True
    """

    def __init__(self, path: PathLike, condition: str | None = None) -> None:
        self.path = as_path(path)
        self._condition = condition
        self.meta, self.remarks = described(self.path)
        self.names = NO_NAMES
        self.rank: int | None = None
        self._part: Part | None = None  # None: rank 0's, or those of all ranks
        self._kept: KeptHistograms | None = None
        self.group = group_of(self.path, self.meta)
        if self.group is not None:
            self.meta = self.group.meta

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        of = f", {self.of_ranks}" if self.of_ranks else ""
        steps = f"{self.meta.get('steps', 0)} steps"
        return printable(f"<Run {self.name!r}: {self.condition}{seed}, {steps}, {self.state}{of}>")

    def _repr_html_(self) -> str:
        from dropdiag.notebook import run  # noqa: PLC0415 - a notebook alone pays it

        return run(self)

    def under(self, condition: str | None) -> Run:
        """Return the same run under another condition, without reading it again; None: as its config has it."""
        run = copy(self)
        run._condition = condition
        return run

    def called(self, names: Names) -> Run:
        """Return the same run with other names of its sites, without reading it again."""
        run = copy(self)
        for cached in ("layers", "places", "scalars"):
            run.__dict__.pop(cached, None)
        run.names, run.meta = names, names.meta(self.meta)
        return run

    def keeping(self, kept: KeptHistograms) -> Run:
        """Return the same run, whose histograms are taken from what is kept; one that keeps or merges as it is."""
        if self._kept is not None or self.merges:
            return self
        run = copy(self)
        run._kept = kept
        return run

    def forget_histograms(self) -> None:
        """Keep nothing of the run's histograms any more."""
        if self._kept is not None:
            self._kept.forget(self.path)

    def coverage(self) -> Coverage:
        """Return every site of the model: whether it was recorded, how often, and if not, why.

        Raises
        ------
        NotRecordedError
            If the run has not ended: the table is written at its end.

        Examples
        --------
        >>> [row.layer for row in run.coverage()][:3]
        ['linear1', 'act1', 'dropout1']
        """
        if "coverage" not in self.meta:
            raise NotRecordedError(f"{self} has no coverage table: it is written when the Recorder is closed")
        table = Coverage.from_dicts(self.meta["coverage"])
        ranks = () if self.group is None else self.group.ranks
        together = [rank.number for rank in ranks if rank.batch == ranks[0].batch]
        if len(together) < 2:
            return table
        from dropdiag.store.ranks.pairs import WIDTH, with_pairs  # noqa: PLC0415 - of tensor parallel ranks alone

        parts = [self.ranks[number].select(WIDTH, missing_ok=True) for number in together]
        return with_pairs(table, self.select(WIDTH, missing_ok=True), parts)

    @cached_property
    def scalars(self) -> pd.DataFrame:
        """All scalars, tidy: step, phase, layer (None for the run's own), call, quantity, value (NaN if missing).

        Examples
        --------
        >>> run.scalars.columns.tolist()
        ['step', 'phase', 'layer', 'call', 'quantity', 'value']
        """
        return self.select()

    def select(
        self, quantity: Chosen = None, *, phase: Chosen = None, layer: Layers = None, steps: Steps = None,
        missing_ok: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return some of the scalars: what is not asked for is not kept in memory.

        Parameters
        ----------
        quantity, phase, layer : str or sequence of str, optional
            Names; None is all of them. ``layer=[None]`` is the run's own scalars, which belong to no layer.
        steps : int or (int or None, int or None), optional
            A step, or the first and last one, both inclusive; None is an open end.
        missing_ok : bool
            Whether a name that the run does not know selects nothing, in place of an error.

        Returns
        -------
        DataFrame
            As `scalars`: the same rows in the same order. Empty where the names are known and have no rows together.

        Raises
        ------
        ArgumentError
            If a name or a step is none, or a list of names is empty.
        NotRecordedError
            If the run knows no such quantity, phase or layer; the message says what there is.
        RunError
            If the run is gone.

        Warns
        -----
        DropdiagWarning
            For each segment that cannot be read; the rest is.

        Examples
        --------
        >>> run.select("loss", phase="train", steps=(1, 3))["step"].tolist()
        [1, 2, 3]
        """
        from dropdiag.store.reading import decoded  # noqa: PLC0415 - pyarrow is not paid for `import`

        selection = Selection.of(quantity, phase, today(layer, self.places, [self.meta]), steps)
        table, problems, _ = self.read_scalars(selection)
        for problem in problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=2)
        table = selection.apply(table)
        if not missing_ok:
            asked = Asked(selection)
            asked.see(table)
            asked.check(f"{self} has no", [self.meta], (self._names_of_scalars() for _ in range(1)))
        frame: pd.DataFrame = decoded(table).to_pandas()
        return frame

    def read_scalars(self, selection: Selection, known: KnownKeys | None = None) -> Rows:
        """Read scalars as `dropdiag.store.reading.read_scalars` does, sites under the run's `names`."""
        if not self.names:
            return self.tables.scalars(selection, known)
        # the files have the run's own names: which rows are wanted shows when they have those of today
        found = self.tables.scalars(selection.of_all_layers(), known)
        if found.keys is None:
            return found._replace(table=self.names.rows(found.table))
        keys = self.names.keys(found.keys)
        return found._replace(table=keys.append_column("value", found.table["value"]), keys=keys)

    @property
    def ranks(self) -> Ranks[Run]:
        """The processes that recorded the run, each by itself: ``run.ranks[2].scalars``, ``run.ranks.table``.

        Examples
        --------
        >>> len(run.ranks)
        1
        """
        if self.group is None:
            own = Rank(self.rank or 0, self.meta, self._own_part)
            return Ranks({own.number: self}, [own], None, repr(self))
        views = {rank.number: self._alone(rank) for rank in sorted(self.group.ranks, key=lambda rank: rank.number)}
        return Ranks(views, self.group.ranks, self.group, repr(self))

    def _alone(self, rank: Rank) -> Run:
        """Return one rank by itself."""
        view = Run.__new__(Run)
        view.path, view.meta, view.names, view.remarks = rank.own.folder, dict(rank.meta), NO_NAMES, []
        view.rank, view.group, view._part, view._condition = rank.number, None, rank.own, self._condition
        view._kept = None
        view.name = f"{self.name}/{rank.own.folder.name}"
        return view

    def session(self, identifier: str) -> Run:
        """Return what one session of the run recorded, all of it: also what a later session hides.

        Parameters
        ----------
        identifier : str
            Of one of ``meta["sessions"]``, or the first digits of it.

        Raises
        ------
        NotRecordedError
            If no session has it; the message lists those that there are.
        ArgumentError
            If several ranks recorded the run: ask one of `ranks`.

        Examples
        --------
        >>> sessions = [one["id"] for one in run.meta["sessions"]]
        >>> run.session(sessions[0]).steps("weight", "train")
        [0, 1, 5, 10]
        """
        if self.group is not None:
            raise ArgumentError(f"{self} is of several ranks; ask one of them: run.ranks[0].session({identifier!r})")
        known = [str(one.get("id") or "") for one in self.meta["sessions"]]
        if not identifier or sum(one.startswith(identifier) for one in known) != 1:
            raise NotRecordedError(f"{self} has not one session {identifier!r}; it has {known}")
        spans = [span._replace(last_step=None if one.startswith(identifier) else NOTHING)
                 for span, one in zip(self._own_part.spans, known, strict=True)]  # fmt: skip
        view = self.called(self.names)
        view.__dict__.pop("tables", None)
        view._kept = None
        view._part = self._own_part._replace(spans=tuple(spans))
        return view

    def _names_of_scalars(self) -> pa.Table:
        return self.read_scalars(Selection()).table if self.names else self.tables.names()

    @cached_property
    def tables(self) -> Tables:
        """The tables of the run's files, those of all ranks merged."""
        from dropdiag.store.one_rank import OneRank  # noqa: PLC0415 - pyarrow, as above
        from dropdiag.store.ranks.reading import tables_of  # noqa: PLC0415

        return OneRank(self._own_part) if self.group is None else tables_of(self.group)

    @property
    def _own_part(self) -> Part:
        return self._part or part_of(self.path, self.meta["sessions"])

    def phases(self, quantity: str) -> list[str]:
        """Return the phases in which a histogram quantity was recorded, in the order in which they first come.

        Examples
        --------
        >>> run.phases("net_value")
        ['eval', 'train']
        """
        return [phase for name, phase in self._recorded_steps() if name == quantity]

    def steps(self, quantity: str, phase: str) -> list[int]:
        """Return the steps at which a histogram quantity was recorded in a phase, ascending.

        Examples
        --------
        >>> run.steps("weight", "train")
        [0, 1, 5, 10]
        """
        return self._recorded_steps().get((quantity, phase), [])

    def histogram(
        self, quantity: str, layer: str, step: int | None = None, phase: str | None = None, call: int = 0
    ) -> Histogram:
        """Return one recorded histogram.

        Parameters
        ----------
        quantity : str
            E.g. ``"weight"``, ``"net_value"``.
        layer : str
            The site's module name.
        step : int, optional
            Default: the last recorded one.
        phase : str, optional
            Default: ``"eval"`` (held-out data) where it was recorded, else the one other held-out set, else
            ``"train"``.
        call : int
            Call index of the module within one forward pass.

        Raises
        ------
        NotRecordedError
            If there is none; the message lists what there is.

        Examples
        --------
        >>> run.histogram("net_value", "act1", phase="eval").n
        480
        """
        layer, call = site_today(layer, call, self.places, self.meta)
        rows = list(self._found([quantity], "all" if step is None else step, phase).rows())
        found = [row for row in rows if row.layer == layer and row.call == call]
        if not found:
            have = sorted({(row.layer, row.call) for row in rows})
            meant = f"call {call}{did_you_mean(layer, [name for name, _ in have])}"
            raise NotRecordedError(f"{self} has no {quantity!r} of layer {layer!r}, {meant} recorded are {have}")
        return max(found, key=lambda row: row.step).histogram

    def histograms(
        self, quantity: str | Sequence[str], step: int | str | None = None, phase: str | None = None
    ) -> pd.DataFrame:
        """Return histograms of all layers, of one quantity or of several; the run's file is opened once.

        Parameters
        ----------
        quantity : str or sequence of str
            Of several, those that the run does not hold are left out, if dropdiag knows such a quantity.
        step : int, "all" or None
            None: the last recorded step (of each quantity).
        phase : str, optional
            As in `histogram`.

        Returns
        -------
        DataFrame
            Columns step, phase, layer, call, histogram; by step, then in network order. Several quantities have
            a column ``quantity`` before ``histogram`` and follow each other as they are named.

        Raises
        ------
        NotRecordedError
            If none of it was recorded there; the message lists what was.
        ArgumentError
            If there are several held-out phases, none of them ``"eval"``, and no phase is named.

        Examples
        --------
        >>> run.histograms("weight")[["layer", "step"]]
             layer  step
        0  linear1    10
        1  linear2    10
        2   output    10
        """
        import pandas as pd  # noqa: PLC0415

        from dropdiag.store.histogram_rows import RecordedHistogram  # noqa: PLC0415

        names = [quantity] if isinstance(quantity, str) else list(quantity)
        rows = self._found(names, step, phase).in_order(names, self.places)
        frame = pd.DataFrame(rows, columns=RecordedHistogram._fields)
        return frame.drop(columns="quantity") if isinstance(quantity, str) else frame

    def recorded(self, choose: Choose, keep: Callable[[str], bool] = lambda _: True) -> Recorded:
        """Read histograms, and when all were recorded: for questions that `histograms` does not answer.

        Parameters
        ----------
        choose, keep
            As of `dropdiag.store.histogram_rows.read_recorded`.

        Returns
        -------
        Recorded
            It warns of nothing: `Recorded.warn` does, so that it may be read in a thread.
        """
        from dropdiag.store.histogram_rows import read_recorded, rows_where  # noqa: PLC0415

        if not self.names:
            return read_recorded(self._histograms, choose, keep)
        found = read_recorded(self._histograms, choose, self.names.wanted(keep))
        return found._replace(table=rows_where(self.names.rows(found.table), keep))

    def _histograms(self, choose: Callable[[pa.Table], NDArray[np.bool_]]) -> Rows:
        if self._kept is None:
            return self.tables.histograms(choose)
        return self._kept.histograms(self.path, self.tables, choose)

    def _recorded_steps(self) -> dict[tuple[str, str], list[int]]:
        found = self.recorded(lambda _: {})  # without their bins and counts
        found.warn()
        return found.steps

    def _found(self, quantities: Sequence[str], step: int | str | None, phase: str | None) -> Recorded:
        from dropdiag.store.histogram_rows import chooser  # noqa: PLC0415

        found = self.recorded(chooser(quantities, step, phase))
        found.warn()
        found.check(self, quantities, step, phase)
        return found

    def derivative(self, activation: str) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
        """Return |phi'| of an activation on the bin grid.

        Parameters
        ----------
        activation : str
            Name as in ``layers``.

        Returns
        -------
        bins : ndarray of uint16
            All finite bins in order of the real line.
        abs_derivative : ndarray of float64
            |phi'| at their centres.

        Raises
        ------
        NotRecordedError
            If the run has no such activation.

        Examples
        --------
        >>> bins, slope = run.derivative("Tanh")
        >>> float(slope.max())
        1.0
        """
        return _derivative(self, activation)


@lru_cache(maxsize=64)  # asked for site by site, of one run after the other; what is not there is asked for again
def _derivative(run: Run, activation: str) -> _Derivative:
    import pyarrow.compute as pc  # noqa: PLC0415

    table, problems, _ = run.tables.derivatives()
    for problem in problems:
        warnings.warn(problem, DropdiagWarning, stacklevel=3)
    table = table.filter(pc.equal(table["activation"], activation))
    if not table.num_rows and activation in run.meta["activations"]:
        raise NotRecordedError(f"{run} lacks the derivative of {activation!r}: it ended before its files were written")
    if not table.num_rows:
        raise NotRecordedError(f"{run} has no activation {activation!r}; it has {list(run.meta['activations'])}")
    return table["bin"].to_numpy(), table["abs_derivative"].to_numpy()
