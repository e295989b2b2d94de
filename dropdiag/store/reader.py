"""Read run folders: one `Run`, or several `Runs` side by side. Needs no torch."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from dropdiag.coverage import Coverage
from dropdiag.errors import ArgumentError, NotRecordedError, RunError
from dropdiag.store.folder import read_meta
from dropdiag.store.histogram import Histogram
from dropdiag.store.schema import EVAL, TRAIN
from dropdiag.store.segments import list_segments, session_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PathLike: TypeAlias = str | Path
Where: TypeAlias = PathLike | Sequence[PathLike]
_HistogramRow: TypeAlias = tuple[int, str, str, int, Histogram]
_Filter: TypeAlias = tuple[str, str, Any]


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
        self.meta: dict[str, Any] = read_meta(self.path)
        ranks = sorted(p.name for p in self.path.glob("rank-*"))
        if ranks != ["rank-0"]:
            raise RunError(f"{self.path} holds {ranks or 'no ranks'}; this version reads runs of one rank (rank-0)")
        self._condition = condition

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"<Run {self.name!r}: {self.condition}{seed}, {self.meta.get('steps', 0)} steps, {self.meta['state']}>"

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.path.resolve().name

    @property
    def condition(self) -> str:
        """Group of the run: as given to `load`, else ``config["condition"]``, else the run's name."""
        return self._condition or str(self.meta["config"].get("condition") or self.name)

    @property
    def seed(self) -> int | None:
        """``config["seed"]``, the unit of replication; None where the config has none."""
        seed = self.meta["config"].get("seed")
        return None if seed is None else int(seed)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Sites in network order: layer, call, kind, type, activation, shape."""
        import pandas as pd  # noqa: PLC0415 - readers of histograms alone need no pandas

        return pd.DataFrame(self.meta["layers"])

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
        frame: pd.DataFrame = self._table("scalars").to_pandas()
        return frame

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
        table = self._table("derivatives", [("activation", "=", activation)])
        if not table.num_rows:
            raise NotRecordedError(f"{self} has no activation {activation!r}; it has {list(self.meta['activations'])}")
        return table["bin"].to_numpy(), table["abs_derivative"].to_numpy()

    def _select(self, quantity: str, phase: str | None, step: int | str | None) -> list[_HistogramRow]:
        import pyarrow.compute as pc  # noqa: PLC0415

        table = self._table("histograms", [("quantity", "=", quantity)])
        phase = phase or self._default_phase(quantity, table["phase"].unique().to_pylist())
        table = table.filter(pc.field("phase") == phase)
        if table.num_rows and step != "all":
            table = table.filter(pc.field("step") == (pc.max(table["step"]) if step is None else step))
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
        table = self._table("histograms")
        pairs = zip(table["quantity"].to_pylist(), table["phase"].to_pylist(), strict=True)
        return ", ".join(f"{q} ({p})" for q, p in sorted(set(pairs))) or "no histograms"

    def _table(self, name: str, filters: list[_Filter] | None = None) -> pa.Table:
        """Read a table's segments, without rows that a later session recorded anew."""
        import pyarrow as pa  # noqa: PLC0415

        from dropdiag.store import tables  # noqa: PLC0415

        if not (self.path / "rank-0").is_dir():
            raise RunError(f"{self.path} is gone, or its rank-0 is: it cannot be read any more")
        sessions = self.meta["sessions"]
        starts = [s["first_segment"] for s in sessions]
        found = [tables.SCHEMAS[name].empty_table()]
        for segment in list_segments(self.path / "rank-0"):
            if segment.table != name:
                continue
            later = [s["from_step"] for s in sessions[session_of(segment, starts) + 1 :]]
            kept: list[_Filter] = [("step", "<=", min(later))] if later and name != "derivatives" else []
            table = tables.read(segment, filters=[*(filters or []), *kept] or None)
            if table is not None:
                found.append(table)
        return pa.concat_tables(found)


class Runs(Sequence[Run]):
    """Runs side by side: each a condition and a seed; frames have these as leading columns.

    Parameters
    ----------
    runs : sequence of Run
        At least one.

    Raises
    ------
    ArgumentError
        If there is none.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        if not runs:
            raise ArgumentError("no runs were given; pass at least one")
        self.runs = tuple(runs)

    def __repr__(self) -> str:
        counts = {c: sum(run.condition == c for run in self.runs) for c in self.conditions}
        return f"<Runs: {', '.join(f'{c} x {n}' for c, n in counts.items())}>"

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        """Return one run, or some of them as `Runs`."""
        return self.runs[index] if isinstance(index, int) else Runs(self.runs[index])

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    @property
    def conditions(self) -> list[str]:
        """Conditions, in the order in which they first come."""
        return list(dict.fromkeys(run.condition for run in self.runs))

    @property
    def layers(self) -> pd.DataFrame:
        """As `Run.layers`, with columns condition, seed, run before."""
        return self._joined([run.layers for run in self.runs])

    @cached_property
    def scalars(self) -> pd.DataFrame:
        """As `Run.scalars`, with columns condition, seed, run before."""
        return self._joined([run.scalars for run in self.runs])

    def histograms(self, quantity: str, step: int | str | None = None, phase: str | None = None) -> pd.DataFrame:
        """As `Run.histograms`, with columns condition, seed, run before.

        Raises
        ------
        NotRecordedError
            If one of the runs has no such histograms.
        """
        return self._joined([run.histograms(quantity, step, phase) for run in self.runs])

    def labels(self) -> list[str]:
        """Return a name for each run that no other one has: the folder's, or its path where folders share a name."""
        names = [run.name for run in self.runs]
        return [name if names.count(name) == 1 else str(run.path) for name, run in zip(names, self.runs, strict=True)]

    def _joined(self, frames: list[pd.DataFrame]) -> pd.DataFrame:
        import pandas as pd  # noqa: PLC0415

        frames = [frame.copy(deep=False) for frame in frames]
        for run, label, frame in zip(self.runs, self.labels(), frames, strict=True):
            keys = {"condition": run.condition, "seed": run.seed, "run": label}
            for position, (column, value) in enumerate(keys.items()):
                dtype = "Int64" if column == "seed" else "str"
                values = pd.Series([value] * len(frame), dtype=dtype, index=frame.index)
                frame.insert(position, column, values)
        return pd.concat(frames, ignore_index=True)


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


@overload
def load(where: PathLike) -> Run: ...
@overload
def load(where: list[PathLike] | tuple[PathLike, ...] | Mapping[str, Where]) -> Runs: ...
def load(where: PathLike | list[PathLike] | tuple[PathLike, ...] | Mapping[str, Where]) -> Run | Runs:
    """Open recorded runs.

    Parameters
    ----------
    where : path, list of paths, or dict
        A path opens one run. A list opens several, each under the condition its config names. A dict opens
        condition -> path, glob pattern, or list of them. Patterns are ``glob``'s, in sorted order.

    Returns
    -------
    Run or Runs
        A `Run` for a path; `Runs` for a list or a dict (also of one).

    Raises
    ------
    RunError
        If a path is no run, or a pattern matches none.
    ArgumentError
        If ``where`` is empty or of another type, or a run is given under two conditions.
    """
    if isinstance(where, (str, Path)):
        return Run(where)
    if isinstance(where, Mapping):
        found = {str(name): _once(_paths(at)) for name, at in where.items()}
        _check_disjoint(found)
        return Runs([Run(path, condition=name) for name, paths in found.items() for path in paths])
    if isinstance(where, (list, tuple)):
        return Runs([Run(path) for path in _once(_paths(where))])
    raise ArgumentError(f"load() takes a path, a list of paths or a dict condition -> paths, got {where!r}")


def _once(paths: list[Path]) -> list[Path]:
    """Drop paths to a run that came before: patterns may overlap, and a run is no second seed of itself."""
    return list({path.resolve(): path for path in reversed(paths)}.values())[::-1]


def _check_disjoint(found: Mapping[str, list[Path]]) -> None:
    owners: dict[Path, str] = {}
    for name, paths in found.items():
        for path in paths:
            owner = owners.setdefault(path.resolve(), name)
            if owner != name:
                raise ArgumentError(f"{path} is given as {owner!r} and as {name!r}; a run belongs to one condition")


def _paths(where: Where) -> list[Path]:
    if not isinstance(where, (str, Path)):
        return [path for one in where for path in _paths(one)]
    if Path(where).exists():
        return [Path(where)]
    found = [Path(p) for p in sorted(glob.glob(str(where))) if (Path(p) / "run.json").exists()]  # noqa: PTH207
    if not found:
        raise RunError(f"no run matches {str(where)!r}; a run is a folder with a run.json")
    return found


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
