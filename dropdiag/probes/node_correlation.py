"""Node correlation on held-out data."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from dropdiag.probes.base import Place, Probe, Tap, Value
from dropdiag.sketches import Covariance, Histogram


class NodeCorrelation(Probe[Covariance]):
    """Pearson r of every pair of a layer's nodes over a held-out set in evaluation mode (Figure 2).

    Taken from node values before dropout, so that no mask lowers it. Constant nodes have no r: they are
    excluded and counted. With n samples, independent nodes still show a mean |r| of sqrt(2 / (pi n)).
    """

    name = "node_correlation"
    tap = Tap.NODE_VALUE
    on_train = False
    on_eval = True

    def sketch(self, place: Place) -> Covariance:
        """Open a covariance at every site."""
        return Covariance(place.site.node_axis)

    def values(self, sketch: Covariance) -> Iterable[tuple[str, Value]]:
        """Return the histogram of r over pairs, its mean size, and the numbers it rests on."""
        pairs = sketch.pairs()
        histogram = Histogram()
        histogram.update(pairs)
        constant = sketch.constant().sum()
        return [
            ("node_correlation", histogram),
            ("node_correlation_abs_mean", pairs.abs().mean()),
            ("node_correlation_samples", float(sketch.n)),
            ("node_correlation_nodes", (sketch.nodes - constant).to(torch.float64)),
            ("node_correlation_width", float(sketch.width)),
            ("constant_nodes", constant.to(torch.float64)),
        ]
