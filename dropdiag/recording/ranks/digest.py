"""A number by which ranks that evaluated the same data are told from those that shared it out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.recording.records import Record, run_scalar
from dropdiag.sketches.devices import sent
from dropdiag.sketches.histogram import HistogramSketch
from dropdiag.sketches.mixing import mixed

OF: Final = ("net_value", "node_value")
SLOTS: Final = 2**15
MASK: Final = 2**52 - 1
"""Digests are integers that float64 holds exactly."""


def digest(records: Iterable[Record]) -> Record | None:
    """Return a number of all histograms of an evaluation; None where it has none.

    Equal histograms have equal digests, on every device; unlike ones by a chance of about 2**-52. No accelerator makes
    the host wait.
    """
    found = [record.value for record in records if record.quantity in OF]
    numbers = [number for place, value in enumerate(found) if (number := _of(value, place)) is not None]
    if not numbers:
        return None
    total: int | Tensor = sum(numbers[1:], start=numbers[0]) & MASK
    return run_scalar("evaluation_digest", total.to(torch.float64) if isinstance(total, Tensor) else float(total))


def _of(value: object, place: int) -> int | Tensor | None:
    """Return the sum of counts times a hash of bin and place, modulo 2**64."""
    if isinstance(value, HistogramSketch) and value.counts is not None:
        hashes = sent(torch.from_numpy(_hashes(place)), value.counts.device)
        return (value.counts * hashes).sum()  # integers wrap around
    if type(value) is tuple:
        bins, counts = value
        return int((counts * _hashes(place)[bins]).sum())
    return None


@lru_cache(maxsize=64)
def _hashes(place: int) -> NDArray[np.int64]:
    return mixed(1 + place * SLOTS, SLOTS).view(np.int64)
