"""From finished values to rows: what waits on a device, and what to do when the disk refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from dropdiag.recording.collector import Finished
from dropdiag.sketches import Histogram
from dropdiag.sketches.histogram import drained
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.writer import RunWriter

DEVICE_VALUES: Final = 256
"""Values that may wait on an accelerator before they are copied to the host in one go."""


SETTLED_BINS: Final = 65_536
SETTLED_BATCHES: Final = 256
"""Histogram bins, and steps, that wait to be turned into rows: in one go that costs a tenth."""


class _Batch(NamedTuple):
    """What one step or evaluation gave."""

    step: int
    phase: str
    finished: list[Finished]


class _Waiting(NamedTuple):
    """A value that is on its way from a device, or there still."""

    step: int
    phase: str
    layer: str | None
    call: int
    quantity: str
    value: Tensor

    @property
    def is_histogram(self) -> bool:
        return self.value.ndim == 1


class _Copies(NamedTuple):
    """Values on their way to the host; they are there when all events have come."""

    waiting: list[_Waiting]
    events: list[torch.cuda.Event]


class Outbox:
    """Values on their way to the writer.

    Values on the CPU become rows many at a time, at a flush at the latest. Values on an accelerator wait there; many
    at a time, and at every flush, they are copied to pinned memory without waiting for the device, and become rows
    when they have come: no step makes the host wait.

    Parameters
    ----------
    writer : RunWriter
    on_failure : callable
        Called with the exception where the disk refuses rows (they are kept and tried again).
    """

    def __init__(self, writer: RunWriter, on_failure: Callable[[Exception], None]) -> None:
        self._writer = writer
        self._on_failure = on_failure
        self._batches: list[_Batch] = []
        self._bins = 0
        self._waiting: list[_Waiting] = []
        self._copies: list[_Copies] = []

    def put(self, step: int, phase: str, finished: list[Finished]) -> None:
        """Take in what one step or evaluation gave; the list is kept."""
        for one in finished:
            value = one.value
            if isinstance(value, tuple):
                self._bins += len(value[0])
            elif isinstance(value, Histogram) and value.counts is not None:
                self._waiting.append(_Waiting(step, phase, *one[:3], value.counts))
            elif isinstance(value, Tensor):
                self._waiting.append(_Waiting(step, phase, *one[:3], value))
        self._batches.append(_Batch(step, phase, finished))
        if self._bins >= SETTLED_BINS or len(self._batches) >= SETTLED_BATCHES:
            self._settle()
        if self._waiting or self._copies:
            self._fetch(send=len(self._waiting) >= DEVICE_VALUES, wait=False)

    def _settle(self) -> None:
        """Turn batches into rows, many at a time."""
        scalars: list[ScalarRow] = []
        histograms: list[HistogramRow] = []
        for step, phase, finished in self._batches:
            for layer, call, quantity, value in finished:
                if isinstance(value, tuple):
                    histograms.append(HistogramRow(step, phase, layer or "", call, quantity, *value))
                elif value is None or isinstance(value, float):
                    scalars.append(ScalarRow(step, phase, layer, call, quantity, value))
        self._batches, self._bins = [], 0
        self._add(scalars, histograms)

    def flush(self, *, due_only: bool = False, wait: bool = True) -> None:
        """Hand over what there is.

        Parameters
        ----------
        due_only : bool
            Only if that is due; nobody waits for a device then.
        wait : bool
            Whether to wait for what is on a device.
        """
        if not due_only or self._writer.due:
            self._settle()
            self._fetch(send=True, wait=wait and not due_only)
            self._writer.flush()

    def safe_step(self, step: int) -> int:
        """Return the last step up to which nothing is on a device any more; ``step`` if nothing is at all."""
        there = [w.step for w in self._waiting[:1]] + [w.step for copies in self._copies[:1] for w in copies.waiting]
        return min(min(there) - 1, step) if there else step

    def tell_failure(self) -> None:
        """Tell of what the disk has refused since this was called before."""
        failure = self._writer.take_failure()
        if failure is not None:
            self._on_failure(failure)

    def _add(self, scalars: Sequence[ScalarRow], histograms: Sequence[HistogramRow]) -> None:
        self._writer.add_scalars(scalars)
        self._writer.add_histograms([row for row in histograms if len(row.bins)])

    def _fetch(self, *, send: bool, wait: bool) -> None:
        """Send copies off, and take in those that have come, or all."""
        if self._waiting and send:
            waiting, self._waiting = self._waiting, []
            self._copies.append(_sent(waiting))
        while self._copies:
            copies = self._copies[0]
            if wait:
                for event in copies.events:
                    event.synchronize()
            elif not all(event.query() for event in copies.events):  # type: ignore[no-untyped-call]
                return
            del self._copies[0]
            self._add(*_rows(copies.waiting))


def _sent(waiting: Sequence[_Waiting]) -> _Copies:
    """Copy values to the host: one copy for all scalars of a device, one for each histogram."""
    scalars = [w for w in waiting if not w.is_histogram]
    sent = [w._replace(value=_copied(w.value)) for w in waiting if w.is_histogram]
    devices = {w.value.device for w in waiting}
    for device in devices:
        there = [w for w in scalars if w.value.device == device]
        if there:
            on_host = _copied(torch.stack([w.value.to(torch.float64) for w in there]))
            sent += [w._replace(value=number) for w, number in zip(there, on_host.unbind(), strict=True)]
    return _Copies(sent, [event for device in devices for event in _recorded(device)])


def _copied(value: Tensor) -> Tensor:
    """Begin to copy a tensor to the host."""
    pinned = value.is_cuda  # only then can a copy go on by itself
    return torch.empty(value.shape, dtype=value.dtype, pin_memory=pinned).copy_(value, non_blocking=pinned)


def _recorded(device: torch.device) -> list[torch.cuda.Event]:
    """Return an event that comes when all copies from a device have; none where copying waited for them."""
    if device.type != "cuda":
        return []
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return [event]


def _rows(come: Iterable[_Waiting]) -> tuple[list[ScalarRow], list[HistogramRow]]:
    scalars, histograms = [], []
    for step, phase, layer, call, quantity, value in come:
        if value.ndim == 1:
            histograms.append(HistogramRow(step, phase, layer or "", call, quantity, *drained(value)))
        else:
            scalars.append(ScalarRow(step, phase, layer, call, quantity, value.item()))
    return scalars, histograms
