"""One recorded run, read from its folder as it is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.coverage import Coverage
from dropdiag.store.folder import check_ranks, read_meta
from dropdiag.store.schema import EVAL, TRAIN, Quantity, quantities_of
from dropdiag.store.segments import list_segments
from dropdiag.store.selection import Layers, Names, Selection, Steps

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from dropdiag.store.batches import Kept

PathLike: TypeAlias = str | Path
_HistogramRow: TypeAlias = tuple[int, str, str, int, Histogram]


class Run:
    """One recorded run. Reading is lazy; a run may be read while it is still recorded.

    Parameters
    ----------
    path : path
        The run folder.
    condition : str, optional
        Overrides the condition in the run's config.

    Raises
    ------
    RunError
        If the folder is not a run that this version can read.
    """

    def __init__(self, path: PathLike, condition: str | None = None) -> None:
        self.path = Path(path).expanduser().absolute()
        self.kept: Kept | None = None
        self._condition = condition
        self.meta = read_meta(self.path)
        check_ranks(self.path)

    @classmethod
    def listed(cls, path: Path, name: str, condition: str | None, seed: int | None, kept: Kept) -> Run:
        """Return a run that a catalog knows: its ``run.json`` is not read before something asks for it.

        Parameters
        ----------
        path : Path
            The run folder, absolute.
        name, condition, seed
            As the catalog has them.
        kept : Kept
            Where the catalog keeps the run's scalars.
        """
        run = cls.__new__(cls)
        run.path, run.kept, run._condition = path, kept, condition
        run.__dict__.update(name=name, seed=seed)
        return run

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What ``run.json`` says: config, versions, layers, activations, sessions, how the run ended."""
        return read_meta(self.path)

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"<Run {self.name!r}: {self.condition}{seed}, {self.meta.get('steps', 0)} steps, {self.meta['state']}>"

    def _repr_html_(self) -> str:
        from dropdiag.notebook import run  # noqa: PLC0415 - a notebook alone pays it

        return run(self)

    @cached_property
    def name(self) -> str:
        """Name of the run folder."""
        return self.path.resolve().name

    @property
    def condition(self) -> str:
        """Group of the run: as given to `load`, else ``config["condition"]`` (0 is one), else the run's name."""
        given = self.meta["config"].get("condition") if self._condition is None else self._condition
        return self.name if given is None or given == "" else str(given)

    @cached_property
    def seed(self) -> int | None:
        """``config["seed"]``, the unit of replication; None where the config has none."""
        seed = self.meta["config"].get("seed")
        return None if seed is None else int(seed)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Sites in network order: layer, call, kind, type, activation, shape."""
        import pandas as pd  # noqa: PLC0415 - readers of histograms alone need no pandas

        return pd.DataFrame(self.meta["layers"])

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
        self, quantity: Names = None, *, phase: Names = None, layer: Layers = None, steps: Steps = None
    ) -> pd.DataFrame:
        """Return some of the scalars: what is not asked for is not kept in memory.

        Parameters
        ----------
        quantity, phase, layer : str or sequence of str, optional
            Names; None is all of them. ``layer=[None]`` is the run's own scalars, which belong to no layer.
        steps : int or (int or None, int or None), optional
            A step, or the first and last one, both inclusive; None is an open end.

        Returns
        -------
        DataFrame
            As `scalars`: the same rows in the same order.

        Raises
        ------
        ArgumentError
            If a name or a step is none.
        RunError
            If the run is gone.

        Warns
        -----
        DropdiagWarning
            For each segment that cannot be read; the rest is.
        """
        from dropdiag.store.frames import tidy  # noqa: PLC0415 - readers of histograms alone need no pandas

        return tidy(self._rows("scalars", Selection.of(quantity, phase, layer, steps)))

    def phases(self, quantity: str) -> list[str]:
        """Return the phases in which a histogram quantity was recorded, in the order in which they first come."""
        found: list[str] = self._rows("histograms", Selection.of(quantity), heavy=False)["phase"].unique().to_pylist()
        return found

    def steps(self, quantity: str, phase: str) -> list[int]:
        """Return the steps at which a histogram quantity was recorded in a phase, ascending."""
        found = self._rows("histograms", Selection.of(quantity, phase), heavy=False)["step"].unique().to_pylist()
        return sorted(found)

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
        table = self._select(quantity, phase, step="all" if step is None else step)
        found = [(s, h) for s, _, at, c, h in table if at == layer and c == call]
        if not found:
            have = sorted({(at, c) for _, _, at, c, _ in table})
            raise NotRecordedError(f"{self} has no {quantity!r} of layer {layer!r}, call {call}; recorded are {have}")
        return max(found, key=lambda row: row[0])[1]

    def histograms(self, quantity: str, step: int | str | None = None, phase: str | None = None) -> pd.DataFrame:
        """Return a quantity's histograms of all layers.

        Parameters
        ----------
        quantity : str
        step : int, "all" or None
            None: the last recorded step.
        phase : str, optional
            As in `histogram`.

        Returns
        -------
        DataFrame
            Columns step, phase, layer, call, histogram; by step, then in network order.

        Raises
        ------
        NotRecordedError
            If the quantity was not recorded there; the message lists what was.
        """
        import pandas as pd  # noqa: PLC0415

        rows = self._select(quantity, phase, step)
        order = {(site["layer"], site["call"]): i for i, site in enumerate(self.meta["layers"])}
        rows.sort(key=lambda row: (row[0], order.get((row[2], 0), len(order)), row[3]))
        return pd.DataFrame(rows, columns=["step", "phase", "layer", "call", "histogram"])

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
        import pyarrow as pa  # noqa: PLC0415

        from dropdiag.store import tables  # noqa: PLC0415

        found = [tables.SCHEMAS["derivatives"].empty_table()]
        for segment in list_segments(self.path / "rank-0"):
            if segment.table == "derivatives":
                table = tables.read(segment, filters=[("activation", "=", activation)])
                found += [] if table is None else [table]
        table = pa.concat_tables(found)
        if not table.num_rows:
            raise NotRecordedError(f"{self} has no activation {activation!r}; it has {list(self.meta['activations'])}")
        return table["bin"].to_numpy(), table["abs_derivative"].to_numpy()

    def _select(self, quantity: str, phase: str | None, step: int | str | None) -> list[_HistogramRow]:
        keys = self._rows("histograms", Selection.of(quantity), heavy=False)
        phase = phase or self._default_phase(quantity, keys["phase"].unique().to_pylist())
        table = self._rows("histograms", Selection.of(quantity, phase, steps=_steps(keys, phase, step)))
        if not table.num_rows:
            at = "" if step in (None, "all") else f" at step {step}"
            raise NotRecordedError(f"{self} has no {quantity!r} in phase {phase!r}{at}; it has {self._recorded()}")
        return list(_rows(table))

    def _default_phase(self, quantity: str, phases: list[str]) -> str:
        held_out = sorted(set(phases) - {TRAIN})
        if EVAL in held_out or len(held_out) <= 1:
            return EVAL if EVAL in held_out else (*held_out, TRAIN)[0]
        names = " or ".join(map(repr, held_out))
        raise ArgumentError(f"{self} has {quantity!r} of several held-out sets; name one: phase={names}")

    def _recorded(self) -> str:
        table = self._rows("histograms", Selection(), heavy=False)
        pairs = zip(table["quantity"].to_pylist(), table["phase"].to_pylist(), strict=True)
        return ", ".join(f"{q} ({p})" for q, p in sorted(set(pairs))) or "no histograms"

    def _rows(self, name: str, selection: Selection, *, heavy: bool = True) -> pa.Table:
        """Read the wanted rows of a table, without those that a later session recorded anew."""
        from dropdiag.store.reading import read_rows  # noqa: PLC0415 - pyarrow is not paid before it is needed

        table, problems = read_rows(self.path, self.meta["sessions"], name, selection, heavy=heavy)
        for problem in problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=3)
        return selection.apply(table)


def _steps(keys: pa.Table, phase: str, step: int | str | None) -> int | None:
    """Return the step to read: the last one of the phase for None, None for all of them."""
    import pyarrow.compute as pc  # noqa: PLC0415

    if step is None:
        last: int | None = pc.max(Selection.of(phase=phase).apply(keys)["step"]).as_py()
        return last
    if isinstance(step, str) and step != "all":
        raise ArgumentError(f"step= takes a step, 'all', or None for the last one, got {step!r}")
    return None if isinstance(step, str) else step


def _rows(table: pa.Table) -> Iterator[_HistogramRow]:
    keys = (table[name].to_pylist() for name in ("step", "phase", "layer", "call"))
    for (step, phase, layer, call), bins, counts in zip(
        zip(*keys, strict=True), _lists(table["bins"]), _lists(table["counts"]), strict=True
    ):
        yield step, phase, layer, call, Histogram(bins, counts)


def _lists(column: pa.ChunkedArray) -> Iterator[NDArray[Any]]:
    for chunk in column.chunks:
        flat, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy()  # noqa: PD011 - an arrow array
        for begin, end in pairwise(offsets):
            yield flat[begin:end]
