"""The figures that experiments share, drawn by `dropdiag.plots` with the paper's names for the layers."""

from __future__ import annotations

from matplotlib.figure import Figure

from dropdiag import plots
from dropdiag.experiments.experiment import Layers
from dropdiag.store.reader import Runs


def gradient_flow(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 3 of the paper."""
    return plots.gradient_flow(runs, layers=layers.activations)


def weights(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 1."""
    return plots.weights(runs, layers=layers.weights)


def correlation(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 2."""
    return plots.correlation(runs, layers=layers.activations)


def net_variance(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 4."""
    return plots.net_variance(runs, layers=layers.activations)


def saturation(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 5."""
    return plots.saturation(runs, layers=layers.activations)


def learning(runs: Runs, _layers: Layers) -> Figure:
    """Draw losses and accuracies over training."""
    return plots.learning(runs)


def gaaf(_runs: Runs, _layers: Layers) -> Figure:
    """Draw Figure 6, which needs no runs."""
    return plots.gaaf()
