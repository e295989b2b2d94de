"""Event files of TensorBoard, by its own protocol: of a run that is over, or of one that goes on."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import DropdiagError
from dropdiag.histograms.grid import NEGATIVE_ZERO, bin_bounds, is_finite_bin
from dropdiag.integrations.records import record
from dropdiag.integrations.tags import Row, not_finite, tag
from dropdiag.store.new_files import file_name

if TYPE_CHECKING:
    from types import ModuleType

    from dropdiag.store.histogram_rows import RecordedHistogram

MERGED: Final = 2  # bits: four bins of the grid make one bucket, 16 an octave and sign


class Tensorboard:
    """What is used of TensorBoard."""

    def __init__(self, event: ModuleType, summary: ModuleType) -> None:
        self.Event, self.SessionLog = event.Event, event.SessionLog
        self.Summary, self.Histogram = summary.Summary, summary.HistogramProto


def tensorboard() -> Tensorboard:
    """Import what is used of TensorBoard.

    Raises
    ------
    DropdiagError
        If it is not installed; the message says how to install it.
    """
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2  # noqa: PLC0415
    except ImportError as error:
        raise DropdiagError(
            f"writing event files of TensorBoard needs the package tensorboard, which cannot be imported ({error}); "
            "install it with: pip install 'dropdiag[tensorboard]'"
        ) from error
    return Tensorboard(event_pb2, summary_pb2)


class Events:
    """One event file a phase, each opened at its first event.

    Parameters
    ----------
    protos : Tensorboard
    folder : Path
        Gets a folder a phase.
    name : str
        That of the files.
    stack : ExitStack
        Closes them.
    at : float, optional
        The time of day of all events, in seconds. By default each has its own, and a phase has one folder in all
        sessions, whatever came before it: one with a capital letter ends in eight digits of its digest.
    purge : int, optional
        The first step of which an earlier file of the phase says nothing any more: TensorBoard forgets it from there.
    """

    def __init__(
        self,
        protos: Tensorboard,
        folder: Path,
        name: str,
        stack: ExitStack,
        *,
        at: float | None = None,
        purge: int | None = None,
    ) -> None:
        self._protos, self._folder, self._name, self._stack = protos, folder, name, stack
        self._at, self._purge = at, purge
        self._files: dict[str, Any] = {}
        self._folders: dict[str, str] = {}

    def file(self, phase: str) -> Any:
        """Return the file of a phase."""
        if phase not in self._folders:
            self._folders[phase] = self._named(phase)
        return self.begin(self._folders[phase])

    def begin(self, folder: str) -> Any:
        """Return the file of a phase's folder, by its name."""
        if folder not in self._files:
            path = self._folder / folder / self._name
            path.parent.mkdir(exist_ok=True)
            # unbuffered: what is written can be looked at, and nothing waits that a forked child would write again
            self._files[folder] = self._stack.enter_context(path.open("xb", buffering=0))
            self._write(folder, file_version="brain.Event:2")
            if self._purge is not None:
                begun = self._protos.SessionLog(status=self._protos.SessionLog.START)
                self._write(folder, step=self._purge, session_log=begun)
        return self._files[folder]

    def _named(self, phase: str) -> str:
        # a phase is whatever somebody called an evaluation: "../../x" is no path, and "Eval" has a folder of its own
        taken = {one.lower() for one in self._folders.values()} if self._at is not None else {phase.lower()} - {phase}
        return file_name(phase, taken)

    def scalar(self, row: Row, value: float, name: str | None = None) -> None:
        """Write one scalar."""
        self._summarise(row, tag=name or tag(row), simple_value=value)

    def histogram(self, row: RecordedHistogram) -> None:
        """Write one histogram, and how many of its values are not finite."""
        whole = row.histogram
        if whole.n_finite < whole.n:
            self.scalar(row, whole.n - whole.n_finite, not_finite(tag(row)))
        if not whole.n_finite:
            return
        limits, amounts = buckets(whole.bins, whole.counts)
        low, high, inside = whole.bounds()
        centre, width = 0.5 * (low + high), high - low
        proto = self._protos.Histogram(
            min=low[0], max=high[-1], num=whole.n_finite, sum=inside @ centre,
            sum_squares=inside @ (centre**2 + width**2 / 12.0), bucket_limit=limits, bucket=amounts,
        )  # fmt: skip
        self._summarise(row, tag=tag(row), histo=proto)

    def _summarise(self, row: Row, **value: Any) -> None:
        self.file(row.phase)
        summary = self._protos.Summary(value=[self._protos.Summary.Value(**value)])
        self._write(self._folders[row.phase], step=row.step, summary=summary)

    def _write(self, folder: str, **content: Any) -> None:
        event = self._protos.Event(wall_time=time.time() if self._at is None else self._at, **content)
        self._files[folder].write(record(event.SerializeToString()))


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
