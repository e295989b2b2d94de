"""From records to rows: what still waits on a device, and what to do when the disk refuses rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from dropdiag.errors import DropdiagWarning
from dropdiag.probes.base import State
from dropdiag.recording.records import Record
from dropdiag.sketches.histogram import HistogramSketch, drained
from dropdiag.store.memory import BIN_BYTES, ROW_BYTES
from dropdiag.store.rows import HistogramRow, ScalarRow, StateRow
from dropdiag.store.writer import RunWriter

DEVICE_VALUES: Final = 256
"""Values that may wait on an accelerator before they are copied to the host together."""

SETTLED_BINS: Final = 65_536
SETTLED_BATCHES: Final = 256
SETTLED_RECORDS: Final = 20_000
"""Histogram bins, steps, and records that wait to become rows: many at once cost a tenth of one by one."""


class _Waiting(NamedTuple):
    """A record whose value, a number or the table of a histogram, is on a device or on its way to the host."""

    step: int
    phase: str
    record: Record
    value: Tensor

    def arrived(self) -> Record:
        """Return the record with its value, which is on the host by now."""
        if isinstance(self.record.value, State):
            return self.record._replace(value=self.record.value._replace(values=self.value))
        if isinstance(self.record.n, Tensor):
            value, n = self.value.tolist()
            return self.record._replace(value=value, n=n)
        return self.record._replace(value=drained(self.value) if self.value.ndim == 1 else self.value.item())


class _Copies(NamedTuple):
    """Values on their way to the host; they have arrived when all events are done."""

    waiting: list[_Waiting]
    events: list[torch.cuda.Event]
    bytes: int


class TransferQueue:
    """Records on their way to the writer.

    Values on the CPU become rows many at a time, at a flush at the latest. Values on an accelerator wait there; many
    at a time, and at every flush, they are copied to pinned memory without waiting for the device, and become rows
    when they have arrived: no step makes the host wait.

    Parameters
    ----------
    writer : RunWriter
    on_failure : callable
        Called with the exception where the disk refuses rows (they are kept and tried again).

    Attributes
    ----------
    bytes_under_way : int
        Memory of what is being copied from devices, about.
    """

    def __init__(self, writer: RunWriter, on_failure: Callable[[Exception], None]) -> None:
        self._writer = writer
        self._on_failure = on_failure
        self._batches: list[tuple[int, str, list[Record]]] = []
        self._bins = self._records = 0
        self._waiting: list[_Waiting] = []
        self._copies: list[_Copies] = []
        self.bytes_under_way = 0

    def put(self, step: int, phase: str, records: list[Record]) -> None:
        """Take in the records of one step or evaluation; the list is kept."""
        self._records += len(records)
        for record in records:
            value, n = record.value, record.n
            if type(value) is float and (n is None or type(n) is float or type(n) is int):
                continue  # as most of them are
            if isinstance(value, State):
                self._bins += value.values.numel()
            elif isinstance(value, tuple):
                self._bins += len(value[0])
            on_device = _on_device(record)
            if on_device is not None:
                self._waiting.append(_Waiting(step, phase, record, on_device))
        self._batches.append((step, phase, records))
        many = self._bins >= SETTLED_BINS or self._records >= SETTLED_RECORDS
        if many or len(self._batches) >= SETTLED_BATCHES:
            self._settle()
        if self._waiting or self._copies:
            self._fetch(send=len(self._waiting) >= DEVICE_VALUES, wait=False)

    def _settle(self) -> None:
        """Turn batches into rows, many at a time."""
        batches = self._batches
        self._add([(step, phase, record) for step, phase, records in batches for record in records], batches)
        self._bins = self._records = 0

    @property
    def waiting_bytes(self) -> int:
        """Memory that all records hold which are not on disk, about."""
        own = ROW_BYTES * (self._records + len(self._waiting)) + BIN_BYTES * self._bins
        return own + self.bytes_under_way + self._writer.waiting_bytes

    def flush(self, *, due_only: bool = False, wait: bool = True) -> None:
        """Hand over everything to the writer, and let it write.

        Parameters
        ----------
        due_only : bool
            Only if the writer is due, and then without waiting for a device.
        wait : bool
            Whether to wait for what is on a device.
        """
        if not due_only or self._writer.due:
            self._settle()
            self._fetch(send=True, wait=wait and not due_only)
            self._writer.flush()

    def safe_step(self, step: int) -> int:
        """Return the last step of which, as of those before it, nothing is on a device; ``step`` if nothing is at all.

        ``run.json`` may name this step as the last one: a job that is killed now has all rows up to it, or can have
        them from the next flush.
        """
        # Both lists are in the order of steps. One group of copies holds those of several steps, sorted by device.
        pending = [w.step for w in self._waiting[:1]] + [w.step for copies in self._copies[:1] for w in copies.waiting]
        return min(min(pending) - 1, step) if pending else step

    def report_failure(self) -> None:
        """Report what the disk has refused since the last call."""
        failure = self._writer.take_failure()
        if failure is not None:
            self._on_failure(failure)

    def _add(self, records: Sequence[tuple[int, str, Record]], taken_from: list[Any]) -> None:
        """Hand over rows of the records whose values are on the host; what is on a device comes here later.

        ``taken_from`` is emptied together with that.
        """
        scalars, histograms, states = [], [], []
        for step, phase, (layer, call, quantity, value, n) in records:
            if (value is None or isinstance(value, float)) and not isinstance(n, Tensor):
                scalars.append(ScalarRow(step, phase, layer, call, quantity, value, n))
            elif isinstance(value, State):
                if value.values.is_cpu:
                    numbers = value.values.numpy()
                    states.append(StateRow(step, phase, layer or "", call, quantity, value.n, value.nodes, numbers))
            elif isinstance(value, tuple) and len(value[0]):
                histograms.append(HistogramRow(step, phase, layer or "", call, quantity, *value))
        self._writer.add(scalars, histograms, states, taken_from)

    def _fetch(self, *, send: bool, wait: bool) -> None:
        """Send copies off, and turn those that have arrived into rows, or all."""
        if self._waiting and send:
            sent = [_sent(self._waiting)]
            self._copies += sent  # nothing is called in between: a KeyboardInterrupt leaves it where it was
            self._waiting = []
            self.bytes_under_way += sent[0].bytes
        while self._copies:
            copies = self._copies[0]
            if wait:
                for event in copies.events:
                    event.synchronize()
            elif not all(event.query() for event in copies.events):  # type: ignore[no-untyped-call]
                return  # later copies are not looked at: rows reach the writer in the order of steps
            arrived = [(w.step, w.phase, w.arrived()) for w in copies.waiting]
            self._add(arrived, copies.waiting)
            del self._copies[0]
            self.bytes_under_way -= copies.bytes


def abandon(queue: TransferQueue, writer: RunWriter, why: str) -> None:
    """Keep the rows of a Recorder that nobody can close any more, and mark its run as interrupted."""
    try:
        queue.flush()
        writer.close("interrupted", why)
    except Exception as error:  # noqa: BLE001 - a disk, a device, too little memory: it is told, and nothing goes on
        warnings.warn(writer.give_up(error), DropdiagWarning, stacklevel=2)
    problems = writer.close_sinks("interrupted")
    if problems:
        writer.meta["warnings"] = [*writer.meta["warnings"], *(one.sentence for one in problems)]
        with suppress(OSError, MemoryError):  # it could not be written before, then
            writer.note_after_the_end()
    for problem in problems:
        warnings.warn(problem.sentence, DropdiagWarning, stacklevel=2)


def _on_device(record: Record) -> Tensor | None:
    """Return what of a record is on a device, or on its way to the host: the number or the table; None: nothing is."""
    value = record.value
    if isinstance(value, State):
        return None if value.values.is_cpu else value.values
    if isinstance(record.n, Tensor):
        number = torch.full_like(record.n, math.nan, dtype=torch.float64) if value is None else value
        return torch.stack([torch.as_tensor(n, dtype=torch.float64) for n in (number, record.n)])
    on_device = value.counts if isinstance(value, HistogramSketch) else value
    return on_device if isinstance(on_device, Tensor) else None


def _sent(waiting: Sequence[_Waiting]) -> _Copies:
    """Start copying values to the host: one copy for all scalars of a device, one for each histogram."""
    scalars = [w for w in waiting if w.value.ndim == 0]
    sent = [w._replace(value=_copied(w.value)) for w in waiting if w.value.ndim == 1]
    devices = {w.value.device for w in waiting}
    for device in devices:
        there = [w for w in scalars if w.value.device == device]
        if there:
            on_host = _copied(torch.stack([w.value.to(torch.float64) for w in there]))
            sent += [w._replace(value=number) for w, number in zip(there, on_host.unbind(), strict=True)]
    size = sum(ROW_BYTES + w.value.nbytes for w in sent)
    return _Copies(sent, [event for device in devices for event in _recorded(device)], size)


def _copied(value: Tensor) -> Tensor:
    """Start copying a tensor to the host."""
    pinned = value.is_cuda  # the driver copies to pinned memory alone without making the host wait
    return torch.empty(value.shape, dtype=value.dtype, pin_memory=pinned).copy_(value, non_blocking=pinned)


def _recorded(device: torch.device) -> list[torch.cuda.Event]:
    """Return an event that is done when all copies from a device are; none where copying waited for them."""
    if device.type != "cuda":
        return []
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return [event]
