"""The sum of many histograms, beside the histogram of all values and beside adding two at a time."""

import numpy as np

from dropdiag.histograms.histogram import Histogram
from dropdiag.histograms.total import total


def test_it_is_the_histogram_of_all_values_together():
    rng = np.random.default_rng(0)
    parts = [rng.standard_cauchy(300) for _ in range(5)] + [np.array([0.0, -0.0, np.nan, np.inf, -np.inf]), np.empty(0)]
    histograms = [Histogram.from_values(part) for part in parts]
    found = total(histograms)
    assert found == Histogram.from_values(np.concatenate(parts)) == sum(histograms, Histogram.from_values([]))
    assert (found.bins.dtype, found.counts.dtype) == (np.uint16, np.int64)


def test_without_any_it_is_empty():
    assert total([]) == Histogram.from_values([])
