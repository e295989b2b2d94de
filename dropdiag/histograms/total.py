"""The sum of many histograms, in one pass: that of all values together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dropdiag.histograms.grid import BINS
from dropdiag.histograms.histogram import Histogram


def total(histograms: Iterable[Histogram]) -> Histogram:
    """Return the sum of histograms, as ``+`` gives it; without any it is empty."""
    counts = np.zeros(BINS, np.int64)
    for one in histograms:  # each has a bin once
        counts[one.bins] += one.counts
    return Histogram(np.arange(BINS, dtype=np.uint16), counts)
