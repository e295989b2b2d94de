"""A network of many sites: each is counted as if it were alone, and few of them hold a table meanwhile."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import dropdiag as dd
from dropdiag.histograms import grid
from dropdiag.recording.collector import FEW
from dropdiag.sketches.histogram import BINS, HistogramSketch

LAYERS = 2 * FEW


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(part for _ in range(LAYERS) for part in (nn.Linear(4, 4), nn.Tanh())))


def expected(net_values: list[torch.Tensor]) -> np.ndarray:
    numbers = grid.bin_numbers(torch.cat(net_values).detach().numpy().ravel())
    return np.bincount(numbers, minlength=BINS)


def test_of_many_sites_each_histogram_is_that_of_its_values_over_all_micro_batches(tmp_path):
    model, seen = network(), {}
    for name, module in model.named_children():
        if isinstance(module, nn.Tanh):
            module.register_forward_pre_hook(lambda _, args, n=name: seen.setdefault(n, []).append(args[0].clone()))
    with dd.Recorder(model, tmp_path / "run", probes="net_values", every=1) as rec:
        for _ in range(2):
            model(torch.randn(3, 4)).sum().backward()
        sketches = [one for _, one in rec._session._train._open.values() if isinstance(one, HistogramSketch)]
        tables = [one for one in sketches if one._counts is not None]
        rec.step()
    recorded = dd.load(tmp_path / "run").histograms("net_value", step=1)
    assert len(recorded) == LAYERS
    for layer, histogram in zip(recorded["layer"], recorded["histogram"], strict=True):
        counts = np.zeros(BINS, np.int64)
        counts[histogram.bins] = histogram.counts
        np.testing.assert_array_equal(counts, expected(seen[layer]))
    assert len(tables) <= FEW
