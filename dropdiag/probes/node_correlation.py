"""Node correlation, on held-out data and in training steps."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from dropdiag.probes.base import Place, Probe, Tap, Value
from dropdiag.sketches import Covariance, Histogram
from dropdiag.sketches.spectrum import effective_rank, participation_ratio
from dropdiag.store.schema import quantities as own


class _Correlation(Probe[Covariance]):
    tap = Tap.NODE_VALUE
    quantities = own(
        "node_correlation", "node_correlation_abs_mean", "participation_ratio", "node_correlation_samples",
        "node_correlation_nodes", "node_correlation_width", "constant_nodes",
    )  # fmt: skip

    def sketch(self, place: Place) -> Covariance:
        """Open a covariance at every site."""
        return Covariance(place.site.node_axis)

    def values(self, sketch: Covariance) -> Iterable[tuple[str, Value]]:
        """Return the histogram of r over pairs, its mean size, how many dimensions there are, and what it rests on."""
        r = sketch.correlation()
        pairs = sketch.pairs(r)
        histogram = Histogram()
        histogram.update(pairs)
        histogram.forget_nan()  # on an accelerator, the pairs of constant nodes
        constant = sketch.constant().sum()
        return [
            ("node_correlation", histogram),
            ("node_correlation_abs_mean", pairs.abs().nanmean()),
            ("participation_ratio", participation_ratio(r)),
            ("node_correlation_samples", float(sketch.n)),
            ("node_correlation_nodes", (sketch.nodes - constant).to(torch.float64)),
            ("node_correlation_width", float(sketch.width)),
            ("constant_nodes", constant.to(torch.float64)),
        ]


class NodeCorrelation(_Correlation):
    """Pearson r of every pair of a layer's nodes over a held-out set in evaluation mode (Figure 2).

    Taken from node values before dropout, so that no mask lowers it, over all samples of the set or, of more
    than 2,048, over an even selection of that many (`dropdiag.sketches.Covariance`). Constant nodes have no r:
    they are excluded and counted. With n samples, independent nodes still show a mean |r| of sqrt(2 / (pi n)).
    Of the same matrix: the participation ratio (`dropdiag.sketches.spectrum`).
    """

    name = "node_correlation"
    on_train = False
    on_eval = True


class TrainingNodeCorrelation(_Correlation):
    """The same over the samples of a training step that is on the schedule, up to 2,048: one matrix product.

    In training mode: the masks of the dropouts before the layer, and a batch that is small, take part in it.
    For a comparison of conditions take held-out data.
    """

    name = "training_node_correlation"


class EffectiveRank(Probe[Covariance]):
    """Effective rank of the nodes' correlation over a held-out set, from the samples that `NodeCorrelation` takes.

    A probe of its own, in the preset "full" alone: eigenvalues cost several times what the correlation does.
    """

    name = "effective_rank"
    tap = Tap.NODE_VALUE
    quantities = own("effective_rank")
    on_train = False
    on_eval = True

    def sketch(self, place: Place) -> Covariance:
        """Open a covariance at every site."""
        return Covariance(place.site.node_axis)

    def values(self, sketch: Covariance) -> Iterable[tuple[str, Value]]:
        """Return the effective rank; None on an accelerator, where it would make the host wait."""
        return [("effective_rank", effective_rank(sketch.correlation(), sketch.samples()))]
