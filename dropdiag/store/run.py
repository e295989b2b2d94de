"""One recorded run, read from its folder as it is asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError, RunError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.asked import Asked, did_you_mean
from dropdiag.store.coverage import Coverage
from dropdiag.store.folder import check_ranks, read_meta
from dropdiag.store.naming import NO_NAMES, Names, site_today, today
from dropdiag.store.order import Places, Site, listed, ranks, recorded
from dropdiag.store.schema import Quantity, quantities_of
from dropdiag.store.seeds import seed_of
from dropdiag.store.selection import Layers, Selection, Steps
from dropdiag.store.selection import Names as Chosen

if TYPE_CHECKING:
    import pandas as pd

    from dropdiag.store.histogram_rows import Choose, Recorded
    from dropdiag.store.reading import KnownKeys, Rows

PathLike: TypeAlias = str | Path
_Derivative: TypeAlias = tuple[NDArray[np.uint16], NDArray[np.float64]]


class Run:
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

    Raises
    ------
    RunError
        If the folder is not a run that this version can read.
    """

    def __init__(self, path: PathLike, condition: str | None = None) -> None:
        self.path = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 - Path's raises where there is no such user
        self._condition = condition
        self.meta: dict[str, Any] = read_meta(self.path)
        self.names = NO_NAMES
        check_ranks(self.path)

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"<Run {self.name!r}: {self.condition}{seed}, {self.meta.get('steps', 0)} steps, {self.meta['state']}>"

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

    @cached_property
    def name(self) -> str:
        """Name of the run folder, behind links."""
        # resolving looks at every folder above: of thousands of runs, half of the time that opening them takes
        plain = self.path.name not in ("", "..") and not self.path.is_symlink()
        return self.path.name if plain else self.path.resolve().name

    @property
    def id(self) -> str | None:
        """Random identifier that the run got when it began, in every copy of it; None for runs that have none yet."""
        found = self.meta.get("id")
        return None if found is None else str(found)

    @property
    def condition(self) -> str:
        """Group of the run: as given to `load`, else ``config["condition"]`` as text, else the run's name.

        What Python takes for false is a condition as any other: 0, 0.0, False and "" are "0", "0.0", "False" and "".
        """
        given = self.meta["config"].get("condition") if self._condition is None else self._condition
        return self.name if given is None else str(given)

    @property
    def names_condition(self) -> bool:
        """Whether the condition was given, to `load` or in the config, and is not the run's name."""
        return self._condition is not None or self.meta["config"].get("condition") is not None

    @cached_property
    def seed(self) -> int | None:
        """``config["seed"]``, the unit of replication; None where the config has none.

        Raises
        ------
        RunError
            If it is no integer.
        """
        try:
            return seed_of(self.meta["config"])
        except ArgumentError as error:
            raise RunError(f"{self.path / 'run.json'} is damaged: {error}") from None

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Sites in network order (of execution, where it was recorded): layer, call, kind, type, activation, shape."""
        import pandas as pd  # noqa: PLC0415 - readers of histograms alone need no pandas

        return pd.DataFrame(self.meta["layers"])

    @cached_property
    def order(self) -> dict[Site, int]:
        """Rank of each site (layer, call) in the order of execution; empty where none was recorded (schema 1).

        Sites of one rank stand in parallel branches, or changed places while they were recorded.
        """
        return ranks(recorded(self.meta))

    @cached_property
    def places(self) -> Places:
        """Where the sites stand: in the order of execution, or, where none was recorded, as `layers` lists them."""
        return Places(listed(self.meta))

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """What is known of each quantity (unit, label, scale): as the run's probes say, else dropdiag's own.

        Names that neither knows are those of `Recorder.step` and `Recorder.log`, and of probes that declare nothing.
        """
        return quantities_of(self.meta)

    def coverage(self) -> Coverage:
        """Return every site of the model: whether it was recorded, how often, and if not, why.

        Raises
        ------
        NotRecordedError
            If the run has not ended: the table is written at its end.
        """
        if "coverage" not in self.meta:
            raise NotRecordedError(f"{self} has no coverage table: it is written when the Recorder is closed")
        return Coverage.from_dicts(self.meta["coverage"])

    @cached_property
    def scalars(self) -> pd.DataFrame:
        """All scalars, tidy: step, phase, layer (None for the run's own), call, quantity, value (NaN if missing)."""
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
            asked.check(f"{self} has no", [self.meta], (self.read_scalars(Selection()).table for _ in range(1)))
        frame: pd.DataFrame = decoded(table).to_pandas()
        return frame

    def read_scalars(self, selection: Selection, known: KnownKeys | None = None) -> Rows:
        """Read scalars as `dropdiag.store.reading.read_scalars` does, sites under the run's `names`."""
        from dropdiag.store.reading import read_scalars  # noqa: PLC0415

        if not self.names:
            return read_scalars(self.path, self.meta["sessions"], selection, known)
        # the files have the run's own names: which rows are wanted shows when they have those of today
        found = read_scalars(self.path, self.meta["sessions"], selection.of_all_layers(), known)
        if found.keys is None:
            return found._replace(table=self.names.rows(found.table))
        keys = self.names.keys(found.keys)
        return found._replace(table=keys.append_column("value", found.table["value"]), keys=keys)

    def phases(self, quantity: str) -> list[str]:
        """Return the phases in which a histogram quantity was recorded, in the order in which they first come."""
        return [phase for name, phase in self._recorded_steps() if name == quantity]

    def steps(self, quantity: str, phase: str) -> list[int]:
        """Return the steps at which a histogram quantity was recorded in a phase, ascending."""
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
        """
        names = [quantity] if isinstance(quantity, str) else list(quantity)
        frame = self.frame_of(self._found(names, step, phase), names)
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
            return read_recorded(self.path, self.meta["sessions"], choose, keep)
        found = read_recorded(self.path, self.meta["sessions"], choose, self.names.wanted(keep))
        return found._replace(table=rows_where(self.names.rows(found.table), keep))

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

    def frame_of(self, found: Recorded, quantities: Sequence[str], places: Places | None = None) -> pd.DataFrame:
        """Return what was `recorded` as the frame that `histograms` returns of several quantities.

        Parameters
        ----------
        found : Recorded
        quantities : sequence of str
        places : Places, optional
            Those of runs that are read together; None: the run's own.
        """
        import pandas as pd  # noqa: PLC0415

        places = places or self.places
        rows = sorted(found.rows(), key=lambda row: (
            quantities.index(row.quantity), row.step, places.key((row.layer, row.call)),
        ))  # fmt: skip
        return pd.DataFrame(rows, columns=["step", "phase", "layer", "call", "quantity", "histogram"])

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
        """
        return _derivative(self, activation)


@lru_cache(maxsize=64)  # asked for site by site, of one run after the other; what is not there is asked for again
def _derivative(run: Run, activation: str) -> _Derivative:
    import pyarrow.compute as pc  # noqa: PLC0415

    from dropdiag.store.reading import read_derivatives  # noqa: PLC0415

    table, problems, _ = read_derivatives(run.path, run.meta["sessions"])
    for problem in problems:
        warnings.warn(problem, DropdiagWarning, stacklevel=3)
    table = table.filter(pc.equal(table["activation"], activation))
    if not table.num_rows:
        raise NotRecordedError(f"{run} has no activation {activation!r}; it has {list(run.meta['activations'])}")
    return table["bin"].to_numpy(), table["abs_derivative"].to_numpy()
