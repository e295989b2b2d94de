"""Histograms of the tensors of a site."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dropdiag.model.sites import WEIGHT
from dropdiag.probes.base import Place, Probe, Tap, Value
from dropdiag.sketches import Histogram
from dropdiag.store.schema import quantities as own

MAX_VALUES: Final = 2**18
"""Values of a site and pass that enter a histogram; of more, a sample at a fixed stride does."""


class _HistogramProbe(Probe[Histogram]):
    def sketch(self, place: Place) -> Histogram:
        """Open a histogram at every site; weights are counted whole, what passes a site up to `MAX_VALUES`."""
        return Histogram(None if place.site.kind == WEIGHT else MAX_VALUES)

    def values(self, sketch: Histogram) -> Iterable[tuple[str, Value]]:
        """Return the histogram under the tap's name, and the stride of its sample if it is one."""
        stride = [(f"{self.tap.value}_stride", float(sketch.stride))] if sketch.stride > 1 else []
        return [(self.tap.value, sketch), *stride]


class Weights(_HistogramProbe):
    """Histogram of each weight matrix (Figure 1 of the paper)."""

    name = "weights"
    tap = Tap.WEIGHT
    quantities = own("weight")


class WeightGradients(_HistogramProbe):
    """Histogram of each weight's gradient dL/dw."""

    name = "weight_gradients"
    tap = Tap.WEIGHT_GRAD
    quantities = own("weight_grad")


class NetValues(_HistogramProbe):
    """Histogram of net values z, in training and on held-out data (Figure 5)."""

    name = "net_values"
    tap = Tap.NET_VALUE
    quantities = own("net_value", "net_value_stride")
    on_eval = True


class NodeValues(_HistogramProbe):
    """Histogram of node values h = phi(z), before dropout."""

    name = "node_values"
    tap = Tap.NODE_VALUE
    quantities = own("node_value", "node_value_stride")
    on_eval = True


class NetGradients(_HistogramProbe):
    """Histogram of dL/dz."""

    name = "net_gradients"
    tap = Tap.NET_GRAD
    quantities = own("net_grad", "net_grad_stride")
