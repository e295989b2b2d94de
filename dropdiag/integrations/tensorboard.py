"""A run as TensorBoard event files, written by TensorBoard's own record writer."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import DropdiagError
from dropdiag.histograms.grid import NEGATIVE_ZERO, bin_bounds, is_finite_bin
from dropdiag.integrations.destination import new_folder
from dropdiag.store.histogram_rows import RecordedHistogram, rows_of
from dropdiag.store.new_files import file_name
from dropdiag.store.rows import ScalarRow
from dropdiag.store.run import Run

if TYPE_CHECKING:
    from types import ModuleType

MERGED: Final = 2  # bits: four bins of the grid make one bucket, 16 an octave and sign
Row: TypeAlias = ScalarRow | RecordedHistogram
FILE: Final = "events.out.tfevents.{seconds}.dropdiag"


def to_tensorboard(run: Run, out: Path) -> list[Path]:
    """Write a run's scalars and histograms as event files, one folder a phase: ``out/train``, ``out/eval``.

    A phase whose name is no folder's name has one like it, with eight digits of its digest (`file_name`).

    Tags are ``quantity/layer`` (``loss`` for the run's own), with ``#call`` where a module is called several
    times. Buckets are four bins of the grid each, so their counts are exact and they are at most 1/16 of their values
    wide; zeros are a bucket of width 2**-131 around 0. Min, max, sum and sum of squares come from the bins (to
    1/64 of the values). TensorBoard has no place for values that are not finite: how many there were is the
    scalar ``not_finite/quantity/layer``, where there were any. Missing scalars are left out. A run's rows carry no
    time of day; all events have the time at which the run was created.

    Parameters
    ----------
    run : Run
    out : Path
        A new or empty folder. It is put in place when all files are whole.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    DropdiagError
        If TensorBoard is not installed; the message says how to install it.
    RunError
        If ``out`` holds something, or cannot be written; or the run ends meanwhile.

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read; the others are.

    Examples
    --------
    >>> from dropdiag.integrations.tensorboard import to_tensorboard
    >>> written = to_tensorboard(run, Path("tb"))
    >>> {"train", "eval"} <= {path.name for path in Path("tb").iterdir()}
    True
    """
    protos = _tensorboard()
    out = out.expanduser().absolute()
    with new_folder(out) as folder:
        with ExitStack() as stack:
            events = _Events(protos, folder, datetime.fromisoformat(run.meta["created"]).timestamp(), stack)
            for table in run.tables.stream("scalars"):
                for values in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
                    row = ScalarRow(*values)
                    if row.value is not None:
                        events.scalar(row, _tag(row), row.value)
            for table in run.tables.stream("histograms"):
                for recorded in rows_of(table):
                    events.histogram(recorded, _tag(recorded))
            events.file("train")  # also for a run without any row: TensorBoard then shows it, empty
        names = sorted(path.relative_to(folder) for path in folder.rglob("*.dropdiag"))
    return [out / name for name in names]


class _Tensorboard:
    """What is used of TensorBoard."""

    def __init__(self, event: ModuleType, summary: ModuleType, writer: Any) -> None:
        self.Event, self.Summary, self.Histogram = event.Event, summary.Summary, summary.HistogramProto
        self.Writer = writer


def _tensorboard() -> _Tensorboard:
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2  # noqa: PLC0415
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415
    except ImportError as error:
        raise DropdiagError(
            f"exporting to TensorBoard needs the package tensorboard, which cannot be imported ({error}); "
            "install it with: pip install 'dropdiag[tensorboard]'"
        ) from error
    return _Tensorboard(event_pb2, summary_pb2, RecordWriter)


class _Events:
    """One event file a phase, each opened at its first event."""

    def __init__(self, protos: _Tensorboard, folder: Path, created: float, stack: ExitStack) -> None:
        self._protos, self._folder, self._created, self._stack = protos, folder, created, stack
        self._files: dict[str, Any] = {}

    def file(self, phase: str) -> Any:
        """Return the record writer of a phase."""
        if phase not in self._files:
            path = self._folder / self._named(phase) / FILE.format(seconds=int(self._created))
            path.parent.mkdir()
            self._files[phase] = self._protos.Writer(self._stack.enter_context(path.open("wb")))
            self._write(phase, file_version="brain.Event:2")
        return self._files[phase]

    def _named(self, phase: str) -> str:
        # a phase is whatever somebody called an evaluation: "../../x" is no path, and "Eval" has a folder of its own
        return file_name(phase, {one.name.lower() for one in self._folder.iterdir()})

    def scalar(self, row: Row, tag: str, value: float) -> None:
        """Write one scalar."""
        summary = self._protos.Summary(value=[self._protos.Summary.Value(tag=tag, simple_value=value)])
        self._write(row.phase, step=row.step, summary=summary)

    def histogram(self, row: RecordedHistogram, tag: str) -> None:
        """Write one histogram, and how many of its values are not finite."""
        whole = row.histogram
        if whole.n_finite < whole.n:
            self.scalar(row, f"not_finite/{tag}", whole.n - whole.n_finite)
        if not whole.n_finite:
            return
        limits, amounts = buckets(whole.bins, whole.counts)
        low, high, inside = whole.bounds()
        centre, width = 0.5 * (low + high), high - low
        proto = self._protos.Histogram(
            min=low[0], max=high[-1], num=whole.n_finite, sum=inside @ centre,
            sum_squares=inside @ (centre**2 + width**2 / 12.0), bucket_limit=limits, bucket=amounts,
        )  # fmt: skip
        summary = self._protos.Summary(value=[self._protos.Summary.Value(tag=tag, histo=proto)])
        self._write(row.phase, step=row.step, summary=summary)

    def _write(self, phase: str, **content: Any) -> None:
        event = self._protos.Event(wall_time=self._created, **content)
        self.file(phase).write(event.SerializeToString())


def buckets(bins: NDArray[np.uint16], counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return TensorBoard's buckets of the finite values: upper limits, ascending, and the count below each.

    Parameters
    ----------
    bins : ndarray of uint16, shape (m,)
    counts : ndarray of int64, shape (m,)

    Returns
    -------
    limits, amounts : ndarray of float64, shape (k,)
        A bucket reaches from the limit before it to its own. The first one is empty: it says where the second
        begins. So do empty ones in gaps.
    """
    keep = is_finite_bin(bins)
    coarse = np.where(_by_itself(bins), bins, (bins >> MERGED) << MERGED)[keep]
    groups, place = np.unique(coarse, return_inverse=True)
    amounts = np.bincount(place, weights=counts[keep].astype(np.float64), minlength=len(groups))
    low, high = _bounds_of(groups)
    order = np.argsort(low + high, kind="stable")
    low, high, amounts = low[order], high[order], amounts[order]
    gaps = np.flatnonzero(np.r_[True, low[1:] > high[:-1]])
    return np.insert(high, gaps, low[gaps]), np.insert(amounts, gaps, 0.0)


def _bounds_of(groups: NDArray[np.uint16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of merged bins, each named by the first of them."""
    last = np.where(_by_itself(groups), groups, groups | ((1 << MERGED) - 1)).astype(np.uint16)
    (low, high), (other_low, other_high) = bin_bounds(groups), bin_bounds(last)
    return np.minimum(low, other_low), np.maximum(high, other_high)


def _by_itself(bins: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Whether a bin is not merged: those of zero, and the three denormal ones next to them."""
    return (bins & np.uint16(NEGATIVE_ZERO - 1)) < (1 << MERGED)


def _tag(row: Row) -> str:
    if row.layer is None:
        return row.quantity
    return f"{row.quantity}/{row.layer}" + (f"#{row.call}" if row.call else "")
