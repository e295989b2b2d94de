"""The figures that experiments share, drawn by `dropdiag.plots` with the paper's names for the layers."""

from __future__ import annotations

from matplotlib.figure import Figure

from dropdiag.experiments.experiment import Layers
from dropdiag.plots.correlation import correlation as draw_correlation
from dropdiag.plots.distribution import weights as draw_weights
from dropdiag.plots.gaaf import gaaf as draw_gaaf
from dropdiag.plots.gradient_flow import gradient_flow as draw_gradient_flow
from dropdiag.plots.learning import learning as draw_learning
from dropdiag.plots.net_variance import net_variance as draw_net_variance
from dropdiag.plots.saturation import saturation as draw_saturation
from dropdiag.store.reader import Runs


def gradient_flow(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 3 of the paper."""
    return draw_gradient_flow(runs, layers=layers.activations)


def weights(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 1."""
    return draw_weights(runs, layers=layers.weights)


def correlation(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 2."""
    return draw_correlation(runs, layers=layers.activations)


def net_variance(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 4."""
    return draw_net_variance(runs, layers=layers.activations)


def saturation(runs: Runs, layers: Layers) -> Figure:
    """Draw Figure 5."""
    return draw_saturation(runs, layers=layers.activations)


def learning(runs: Runs, _layers: Layers) -> Figure:
    """Draw losses and accuracies over training."""
    return draw_learning(runs)


def gaaf(_runs: Runs, _layers: Layers) -> Figure:
    """Draw Figure 6, which needs no runs."""
    return draw_gaaf()
