"""Histograms of the tensors of a site."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dropdiag.model.sites import WEIGHT
from dropdiag.probes.base import Probe, ProbeValue, Signal, SiteInfo
from dropdiag.sketches.histogram import HistogramSketch
from dropdiag.store.schema import quantities as own

MAX_VALUES: Final = 2**18
"""Values of a site and pass that enter a histogram; of more, a sample does."""


class _HistogramProbe(Probe[HistogramSketch]):
    def sketch(self, info: SiteInfo) -> HistogramSketch:
        """Open a histogram at every site; weights are counted whole, what passes a site up to `MAX_VALUES`."""
        # A weight matrix comes once in a scheduled step, a site's values at every call: only those have to be sampled.
        return HistogramSketch(None if info.site.kind == WEIGHT else MAX_VALUES)

    def values(self, sketch: HistogramSketch) -> Iterable[tuple[str, ProbeValue]]:
        """Return the histogram under the signal's name, and the stride of its sample if it is one."""
        stride = [(f"{self.signal.value}_stride", float(sketch.stride))] if sketch.stride > 1 else []
        return [(self.signal.value, sketch), *stride]


class Weights(_HistogramProbe):
    """Histogram of each weight matrix (Figure 1 of the paper)."""

    name = "weights"
    signal = Signal.WEIGHT
    quantities = own("weight")


class WeightGradients(_HistogramProbe):
    """Histogram of each weight's gradient dL/dw."""

    name = "weight_gradients"
    signal = Signal.WEIGHT_GRAD
    quantities = own("weight_grad")


class NetValues(_HistogramProbe):
    """Histogram of net values z, in training and on held-out data (Figure 5)."""

    name = "net_values"
    signal = Signal.NET_VALUE
    quantities = own("net_value", "net_value_stride")
    on_eval = True


class NodeValues(_HistogramProbe):
    """Histogram of node values h = phi(z), before dropout."""

    name = "node_values"
    signal = Signal.NODE_VALUE
    quantities = own("node_value", "node_value_stride")
    on_eval = True


class NetGradients(_HistogramProbe):
    """Histogram of dL/dz."""

    name = "net_gradients"
    signal = Signal.NET_GRAD
    quantities = own("net_grad", "net_grad_stride")
