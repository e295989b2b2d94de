"""From finished values to rows on disk: what waits on a device, and what to do when the disk refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dropdiag.collector import Finished
from dropdiag.sketches import Histogram
from dropdiag.sketches.histogram import sparse
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.writer import RunWriter

DEVICE_VALUES: Final = 256
"""Values that may wait on an accelerator before they are copied to the host in one go."""


class _Waiting(NamedTuple):
    step: int
    phase: str
    finished: Finished


class Outbox:
    """Values on their way to the writer.

    Values on the CPU become rows at once. Values on an accelerator wait there and are copied together, so that
    no step makes the host wait.

    Parameters
    ----------
    writer : RunWriter
    on_failure : callable
        Called with the OSError where the disk refuses rows (they are kept and tried again).
    """

    def __init__(self, writer: RunWriter, on_failure: Callable[[OSError], None]) -> None:
        self._writer = writer
        self._on_failure = on_failure
        self._waiting: list[_Waiting] = []

    def put(self, step: int, phase: str, finished: Sequence[Finished]) -> None:
        """Take in what one step or evaluation gave."""
        self._waiting.extend(_Waiting(step, phase, value) for value in finished)
        if len(self._waiting) >= DEVICE_VALUES or all(_device(w).type == "cpu" for w in self._waiting):
            self._drain()

    def flush(self, *, due_only: bool = False) -> None:
        """Write what waits, or only if that is due."""
        if due_only and not self._writer.due:
            return
        try:
            self._drain()
        finally:  # rows that are on the host already are written whatever becomes of the others
            self._write()

    def _write(self) -> None:
        try:
            self._writer.flush()
        except OSError as error:
            self._on_failure(error)

    def _drain(self) -> None:
        waiting, self._waiting = self._waiting, []
        on_host = _to_host([w.finished.value for w in waiting])
        scalars, histograms = [], []
        for (step, phase, (layer, call, quantity, _)), value in zip(waiting, on_host, strict=True):
            if isinstance(value, np.ndarray):
                histograms.append(HistogramRow(step, phase, layer or "", call, quantity, *sparse(value)))
            else:
                scalars.append(ScalarRow(step, phase, layer, call, quantity, value))
        self._writer.add_scalars(scalars)
        self._writer.add_histograms([row for row in histograms if len(row.bins)])


def _tensor(finished: Finished) -> Tensor | None:
    value = finished.value
    if isinstance(value, Histogram):
        return value.counts
    return value if isinstance(value, Tensor) else None


def _device(waiting: _Waiting) -> torch.device:
    tensor = _tensor(waiting.finished)
    return torch.device("cpu") if tensor is None else tensor.device


def _to_host(values: Sequence[object]) -> list[float | np.ndarray[tuple[int], np.dtype[np.int64]] | None]:
    """Copy values to the host: one copy for all scalars of a device, one for each histogram."""
    host: list[float | np.ndarray[tuple[int], np.dtype[np.int64]] | None] = []
    by_device: dict[torch.device, list[tuple[int, Tensor]]] = {}
    for position, value in enumerate(values):
        if isinstance(value, Histogram):
            host.append(value.dense().cpu().numpy())
        elif isinstance(value, Tensor):
            by_device.setdefault(value.device, []).append((position, value))
            host.append(None)
        else:
            host.append(None if value is None else float(value))  # type: ignore[arg-type]
    for scalars in by_device.values():
        numbers = torch.stack([value.detach().reshape(()).to(torch.float64) for _, value in scalars]).tolist()
        for (position, _), number in zip(scalars, numbers, strict=True):
            host[position] = number
    return host
