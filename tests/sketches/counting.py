"""The counts of a tensor in a table of their own."""

import torch
from torch import Tensor

from dropdiag.histograms.grid import BINS
from dropdiag.sketches.histogram import add_counts


def count(values: Tensor) -> Tensor:
    counts = torch.zeros(BINS, dtype=torch.int64, device=values.device)
    add_counts(values, counts)
    return counts
