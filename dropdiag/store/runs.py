"""Several runs side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np

from dropdiag.errors import ArgumentError
from dropdiag.printable import printable, well_formed
from dropdiag.store.asked import Asked, check_conditions
from dropdiag.store.naming import Names as SiteNames
from dropdiag.store.naming import guides, names_beside, today
from dropdiag.store.order import Places, joined
from dropdiag.store.run import Run
from dropdiag.store.seeds import seed_column
from dropdiag.store.selection import Layers, Names, Selection, Steps

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from dropdiag.store.batches import Block, ScalarCache


class Runs(Sequence[Run]):
    """Runs side by side: each a condition and a seed; frames have these as leading columns.

    Parameters
    ----------
    runs : sequence of Run
        At least one.
    ordered : bool, default False
        Whether the order of their conditions is one that the user gave, as a dict of conditions has it, and not
        one of file names.

    Raises
    ------
    ArgumentError
        If there is none.

    Examples
    --------
    >>> len(runs), runs.conditions
    (6, ['No dropout', 'Dropout'])
    >>> runs[0].path.name
    'base-s0'
    """

    def __init__(self, runs: Sequence[Run], *, ordered: bool = False) -> None:
        if not runs:
            raise ArgumentError("no runs were given; pass at least one")
        self.runs = with_names_of_today(runs)
        self.ordered = ordered

    def __repr__(self) -> str:
        counts = Counter(run.condition for run in self.runs)
        return printable(f"<Runs: {', '.join(f'{c} x {n}' for c, n in counts.items())}>")

    def _repr_html_(self) -> str:
        from dropdiag.notebook import runs  # noqa: PLC0415 - a notebook alone pays it

        return runs(self)

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        """Return one run, or some of them as `Runs`."""
        return self.runs[index] if isinstance(index, int) else Runs(self.runs[index], ordered=self.ordered)

    @property
    def conditions(self) -> list[str]:
        """Conditions, in the order in which they first come.

        Examples
        --------
        >>> runs.conditions
        ['No dropout', 'Dropout']
        """
        return list(dict.fromkeys(run.condition for run in self.runs))

    @cached_property
    def places(self) -> Places:
        """Where the sites of all runs stand: in the first run's order, with what only others have in between."""
        return joined([(run.name, run.meta) for run in self.runs])

    def today(self, layers: Layers) -> Layers:
        """Return layers under their names of today, with a warning for each that is asked for by a former one."""
        return today(layers, self.places, (run.meta for run in self.runs))

    @property
    def layers(self) -> pd.DataFrame:
        """As `Run.layers`, with columns condition, seed, run before.

        Examples
        --------
        >>> runs.layers[["run", "layer", "kind"]].head(3)
               run    layer        kind
        0  base-s0  linear1      weight
        1  base-s0     act1  activation
        2  base-s0  linear2      weight
        """
        return self.joined([run.layers for run in self.runs])

    @cached_property
    def scalars(self) -> pd.DataFrame:
        """As `Run.scalars`, with columns condition, seed, run before.

        Examples
        --------
        >>> runs.scalars.columns.tolist()
        ['condition', 'seed', 'run', 'step', 'phase', 'layer', 'call', 'quantity', 'value']
        """
        return self.select()

    def select(
        self, quantity: Names = None, *, condition: Names = None,
        phase: Names = None, layer: Layers = None, steps: Steps = None, missing_ok: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """As `Run.select`, with columns condition, seed, run before; run by run, in their order.

        Parameters
        ----------
        condition : str or sequence of str, optional
            Runs of other conditions are not read.
        quantity, phase, layer, steps
            As in `Run.select`.
        missing_ok : bool
            Whether a name that none of the runs knows selects nothing, in place of an error. One that some of them
            know selects nothing of the others.

        Raises
        ------
        ArgumentError
            If there is no such condition, or as `Run.select`.
        NotRecordedError
            If none of the runs, of whatever condition, knows a quantity, phase or layer.

        Examples
        --------
        >>> frame = runs.select("accuracy", phase="eval")
        >>> frame.groupby("condition", sort=False)["value"].count()
        condition
        No dropout    6
        Dropout       6
        Name: value, dtype: int64
        """
        from dropdiag.store.batches import batches, joined  # noqa: PLC0415
        from dropdiag.store.reading import decoded  # noqa: PLC0415

        found = self._blocks(quantity, condition, phase, layer, steps, check=not missing_ok)
        return _with_runs(decoded(joined(batches(found))), self._run_columns)

    def batches(
        self, quantity: Names = None, *, condition: Names = None,
        phase: Names = None, layer: Layers = None, steps: Steps = None,
        columns: Sequence[str] | None = None, missing_ok: bool = False,
    ) -> Iterator[pd.DataFrame]:  # fmt: skip
        """Yield the scalars that `select` returns, a bounded number of rows at a time: for many or long runs.

        Parameters
        ----------
        quantity, condition, phase, layer, steps, missing_ok
            As in `select`; that a name is unknown shows, and is raised, after the last frame.
        columns : sequence of str, optional
            Columns of `Run.scalars` to return after condition, seed and run; None is all of them.

        Yields
        ------
        DataFrame
            Columns as of `select`; the text columns are categories (give ``observed=True`` to ``groupby``). All
            rows of a run are in one frame, in the order in which they were recorded, run by run.

        Examples
        --------
        >>> sum(len(frame) for frame in runs.batches("loss", phase="train"))
        60
        """
        import pandas as pd  # noqa: PLC0415

        from dropdiag.store.batches import batches  # noqa: PLC0415

        found = self._blocks(quantity, condition, phase, layer, steps, check=not missing_ok)
        who = self._run_columns
        # categories in the order given, not sorted: groupby(sort=False) and figures then keep it
        coded = {name: pd.Categorical(who[name], categories=who[name].unique()) for name in ("condition", "run")}
        who = who.assign(**coded)
        return (_with_runs(table, who) for table in batches(found, columns))

    def blocks(
        self, quantity: Names = None, *, condition: Names = None,
        phase: Names = None, layer: Layers = None, steps: Steps = None,
    ) -> Iterator[Block]:  # fmt: skip
        """Yield the scalars that `select` returns as matrices, runs by rows: for arithmetic over thousands of runs.

        Parameters
        ----------
        quantity, condition, phase, layer, steps
            As in `select`.

        Yields
        ------
        Block
            Of a bounded size, run by run; `run_columns` says of its positions which runs they are. A name that no run
            knows selects nothing.

        Examples
        --------
        >>> [block.matrix.shape for block in runs.blocks("loss", phase="train")]
        [(3, 10), (3, 10)]
        """
        return self._blocks(quantity, condition, phase, layer, steps, check=False)

    def _blocks(
        self, quantity: Names, condition: Names, phase: Names, layer: Layers, steps: Steps, *, check: bool
    ) -> Iterator[Block]:
        from dropdiag.store.batches import blocks  # noqa: PLC0415

        selection = Selection.of(quantity, phase, self.today(layer), steps)
        names = [condition] if isinstance(condition, str) else condition
        check_conditions(names, self.conditions)
        wanted = [i for i, run in enumerate(self.runs) if names is None or run.condition in names]
        found = blocks(self.runs, wanted, selection, self._cache)
        return self._checked(found, selection) if check else found

    def _checked(self, found: Iterator[Block], selection: Selection) -> Iterator[Block]:
        """Yield blocks, and raise after the last one if a name is none that the runs know."""
        asked = Asked(selection)
        for block in found:
            asked.see(block.keys)
            yield block
        everything = (block.keys for block in self._blocks(None, None, None, None, None, check=False))
        asked.check("no run holds", (run.meta for run in self.runs), everything)

    def run_columns(self, positions: Sequence[int] | NDArray[np.int32]) -> pd.DataFrame:
        """Return condition, seed and run of runs, a row each, as frames of scalars have them."""
        return self._run_columns.iloc[np.asarray(positions)].reset_index(drop=True)

    def histograms(
        self, quantity: str | Sequence[str], step: int | str | None = None, phase: str | None = None
    ) -> pd.DataFrame:
        """As `Run.histograms`, with columns condition, seed, run before; each run's file is opened once.

        Raises
        ------
        NotRecordedError
            If one of the runs has no such histograms.

        Examples
        --------
        >>> rows = runs.histograms("weight", step=0)
        >>> rows["layer"].unique().tolist()
        ['linear1', 'linear2', 'output']
        """
        return self.joined([run.histograms(quantity, step, phase) for run in self.runs])

    def labels(self) -> list[str]:
        """Return a name for each run that no other one has: the folder's, or its path where folders share a name.

        Examples
        --------
        >>> runs.labels()[:2]
        ['base-s0', 'base-s1']
        """
        names = [run.name for run in self.runs]
        times = Counter(names)
        return [
            name if times[name] == 1 else well_formed(str(run.path)) for name, run in zip(names, self.runs, strict=True)
        ]

    @cached_property
    def _cache(self) -> ScalarCache:
        from dropdiag.store.batches import ScalarCache  # noqa: PLC0415

        return ScalarCache()

    @cached_property
    def _run_columns(self) -> pd.DataFrame:
        import pandas as pd  # noqa: PLC0415

        seeds = seed_column([run.seed for run in self.runs])
        columns = {"condition": [run.condition for run in self.runs], "seed": seeds, "run": self.labels()}
        return pd.DataFrame(columns).astype({"condition": "str", "run": "str"})

    def joined(self, frames: Sequence[pd.DataFrame], positions: Sequence[int] | None = None) -> pd.DataFrame:
        """Join a frame of each run, or of those at the positions, with columns condition, seed, run before."""
        import pandas as pd  # noqa: PLC0415

        whose = range(len(self)) if positions is None else positions
        return self.beside(pd.concat(frames, ignore_index=True), np.repeat(whose, [len(frame) for frame in frames]))

    def beside(self, frame: pd.DataFrame, positions: Sequence[int] | NDArray[np.int32]) -> pd.DataFrame:
        """Return a frame, given of which run each row is, with columns condition, seed, run before."""
        import pandas as pd  # noqa: PLC0415

        return pd.concat([self.run_columns(positions), frame], axis=1)


def with_names_of_today(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return runs with the sites of those of schema 1 called as those of schema 2 call them, where there are any."""
    newer = [run.meta for run in runs if run.meta.get("schema", 1) > 1]
    if not newer or len(newer) == len(runs):
        return tuple(runs)
    known, names = guides(newer), SiteNames({})
    before: tuple[object, object] = (None, None)
    found = []
    for run in runs:
        if run.meta.get("schema", 1) == 1 and not run.names:
            told = run.meta["layers"], run.meta.get("coverage")
            if told != before:  # the runs of a sweep share one object: what is renamed for one is for all
                before, names = told, names_beside(run.meta, known)
            found.append(run.called(names) if names else run)
        else:
            found.append(run)
    return tuple(found)


def _with_runs(table: pa.Table, runs: pd.DataFrame) -> pd.DataFrame:
    """Return a batch, with the column ``position``, as a frame with the columns of its runs before."""
    import pandas as pd  # noqa: PLC0415

    who = runs.iloc[table["position"].to_numpy()].reset_index(drop=True)
    rows: pd.DataFrame = table.drop_columns("position").to_pandas()
    joined: pd.DataFrame = pd.concat([who, rows], axis=1)
    return joined


def as_runs(runs: Run | Runs) -> Runs:
    """Take a single `Run` as `Runs` of one.

    Raises
    ------
    ArgumentError
        If it is neither.
    """
    if isinstance(runs, Runs):
        return runs
    if isinstance(runs, Run):
        return Runs([runs])
    raise ArgumentError(f"expected runs as dropdiag.load() returns them, got {type(runs).__name__}; load() it first")
