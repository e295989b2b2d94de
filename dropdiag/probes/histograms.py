"""Histograms of the tensors of a site."""

from __future__ import annotations

from collections.abc import Iterable

from dropdiag.probes.base import Place, Probe, Tap, Value
from dropdiag.sketches import Histogram


class _HistogramProbe(Probe[Histogram]):
    def sketch(self, place: Place) -> Histogram:
        """Open a histogram at every site."""
        return Histogram()

    def values(self, sketch: Histogram) -> Iterable[tuple[str, Value]]:
        """Return the histogram under the tap's name."""
        return [(self.tap.value, sketch)]


class Weights(_HistogramProbe):
    """Histogram of each weight matrix (Figure 1 of the paper)."""

    name = "weights"
    tap = Tap.WEIGHT


class WeightGradients(_HistogramProbe):
    """Histogram of each weight's gradient dL/dw."""

    name = "weight_gradients"
    tap = Tap.WEIGHT_GRAD


class NetValues(_HistogramProbe):
    """Histogram of net values z, in training and on held-out data (Figure 5)."""

    name = "net_values"
    tap = Tap.NET_VALUE
    on_eval = True


class NodeValues(_HistogramProbe):
    """Histogram of node values h = phi(z), before dropout."""

    name = "node_values"
    tap = Tap.NODE_VALUE
    on_eval = True


class NetGradients(_HistogramProbe):
    """Histogram of dL/dz."""

    name = "net_gradients"
    tap = Tap.NET_GRAD
