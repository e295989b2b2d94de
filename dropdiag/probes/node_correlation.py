"""Node correlation, on held-out data and in training steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dropdiag.probes.base import Probe, ProbeValue, Signal, SiteInfo, State
from dropdiag.sketches.covariance import Covariance
from dropdiag.sketches.histogram import HistogramSketch
from dropdiag.sketches.spectrum import effective_rank, participation_ratio
from dropdiag.store.merging.multiple_correlation import multiple_correlation, null_multiple_correlation
from dropdiag.store.schema import quantities as own


class _OfNodes(Probe[Covariance]):
    signal = Signal.NODE_VALUE

    def sketch(self, info: SiteInfo) -> Covariance | None:
        """Open a covariance at every site."""
        return Covariance(info.site.node_axis)


class _Correlation(_OfNodes):
    quantities = own(
        "node_correlation", "node_correlation_abs_mean", "participation_ratio", "node_correlation_samples",
        "node_correlation_items", "node_correlation_nodes", "node_correlation_width", "constant_nodes",
    )  # fmt: skip

    def values(self, sketch: Covariance) -> Iterable[tuple[str, ProbeValue]]:
        """Return the histogram of r over pairs, its mean size, the participation ratio, and the numbers behind them."""
        is_constant = sketch.constant()
        return self._told(sketch, is_constant, sketch.correlation(is_constant))

    def _told(self, sketch: Covariance, is_constant: Tensor, r: Tensor) -> list[tuple[str, ProbeValue]]:
        pairs = sketch.pairs(r)
        histogram = HistogramSketch()
        histogram.update(pairs)
        histogram.forget_nan()  # on an accelerator, the pairs of constant nodes
        constant, items = is_constant.sum(), sketch.items
        return [
            ("node_correlation", histogram),
            ("node_correlation_abs_mean", _abs_mean(pairs)),
            ("participation_ratio", participation_ratio(r)),
            ("node_correlation_samples", float(sketch.n)),
            ("node_correlation_items", None if items is None else float(items)),
            # Counts that are on an accelerator stay tensors: as numbers they would make the host wait.
            ("node_correlation_nodes", (sketch.nodes - constant).to(torch.float64)),
            ("node_correlation_width", float(sketch.width)),
            ("constant_nodes", constant.to(torch.float64)),
        ]

    def states(self, sketch: Covariance) -> Iterable[tuple[str, State]]:
        """Return means, extremes and covariance of the nodes, where there are samples."""
        if sketch.n:
            yield "node_correlation", State(sketch.n, sketch.nodes, sketch.as_state())


def _abs_mean(pairs: Tensor) -> Tensor:
    """Return the mean of |r| over the pairs that have one."""
    if pairs.is_cpu and pairs.numel():
        total: Tensor = torch.linalg.vector_norm(pairs, 1)  # in one pass, with no table of absolute values
        if not total.isnan():
            return total / pairs.numel()
    return pairs.abs().nanmean()


class NodeCorrelation(_Correlation):
    """Pearson r of every pair of a layer's nodes over a held-out set in evaluation mode (Figure 2).

    Taken from node values before dropout, so that no mask lowers it, over all samples of the set or, of more
    than 2,048, over so many that a hash chooses (`dropdiag.sketches.Covariance`). Constant nodes have no r:
    they are excluded and counted. Of how many items of the batches the samples are is counted as well: positions of
    one image and tokens of one text are not independent. With n independent samples, independent nodes still show a
    mean |r| of sqrt(2 / (pi n)). Of the same matrix: the participation ratio (`dropdiag.sketches.spectrum`).
    """

    name = "node_correlation"
    on_train = False
    on_eval = True

    def __init__(self, also: Sequence[_OfMatrix] = ()) -> None:
        self._also = tuple(also)

    def values(self, sketch: Covariance) -> Iterable[tuple[str, ProbeValue]]:
        """Return what is told of the correlation, and what the probes beside this one make of it."""
        is_constant = sketch.constant()
        r = sketch.correlation(is_constant)
        others = (number for probe in self._also for number in probe.of_matrix(sketch, is_constant, r))
        return [*self._told(sketch, is_constant, r), *others]


class TrainingNodeCorrelation(_Correlation):
    """The same over the samples of a scheduled training step, up to 2,048: one matrix product.

    In training mode, so the masks of the dropouts before the layer affect it, and a small batch does.
    To compare conditions, use held-out data.
    """

    name = "training_node_correlation"


class _OfMatrix(_OfNodes):
    """Numbers of the correlation matrix alone: by itself, or told by `NodeCorrelation` where that is recorded as well.

    Parameters
    ----------
    told_elsewhere : bool
        Whether they are told by another probe, so that this one takes no samples.
    """

    on_train = False
    on_eval = True

    def __init__(self, *, told_elsewhere: bool = False) -> None:
        self._told_elsewhere = told_elsewhere

    def sketch(self, info: SiteInfo) -> Covariance | None:
        """Open a covariance, unless the numbers are told by another probe."""
        return None if self._told_elsewhere else super().sketch(info)

    def values(self, sketch: Covariance) -> Iterable[tuple[str, ProbeValue]]:
        """Return the numbers of the matrix."""
        is_constant = sketch.constant()
        return self.of_matrix(sketch, is_constant, sketch.correlation(is_constant))

    @abstractmethod
    def of_matrix(self, sketch: Covariance, is_constant: Tensor, r: Tensor) -> Iterable[tuple[str, ProbeValue]]:
        """Return the numbers of a correlation matrix that is known already, and which nodes are constant in it."""


class EffectiveRank(_OfMatrix):
    """Effective rank of the nodes' correlation over a held-out set, of the matrix that `NodeCorrelation` makes.

    A separate probe, in the preset "full" only: eigenvalues cost several times what the correlation does.
    """

    name = "effective_rank"
    quantities = own("effective_rank")

    def of_matrix(self, sketch: Covariance, is_constant: Tensor, r: Tensor) -> Iterable[tuple[str, ProbeValue]]:
        """Return the effective rank; None on an accelerator, where it would make the host wait."""
        return [("effective_rank", effective_rank(r, sketch.samples()))]


class MultipleCorrelation(_OfMatrix):
    """Multiple correlation of the nodes over a held-out set, of the matrix that `NodeCorrelation` makes.

    How much of a node's variance a linear map of all others of its layer tells, adjusted R^2, averaged over nodes; and
    what R^2 would be of independent nodes before it is adjusted. A separate probe, in the preset "full" only: a matrix
    is inverted.
    """

    name = "multiple_correlation"
    quantities = own("multiple_correlation", "multiple_correlation_null")

    def of_matrix(self, sketch: Covariance, is_constant: Tensor, r: Tensor) -> Iterable[tuple[str, ProbeValue]]:
        """Return the mean adjusted R^2 and its null; None where they are not known."""
        if not r.is_cpu:  # how many nodes vary is not known to the host, which would have to wait
            return [(quantity.name, None) for quantity in self.quantities]
        keep = ~is_constant
        varying = r[keep][:, keep].numpy()
        return [
            ("multiple_correlation", multiple_correlation(varying, sketch.n)),
            ("multiple_correlation_null", null_multiple_correlation(len(varying), sketch.n)),
        ]


def of_one_covariance(probes: Sequence[Probe[Any]]) -> tuple[Probe[Any], ...]:
    """Return probes of which one alone takes node values of held-out data, and tells what the others make of them."""
    kinds = {type(probe) for probe in probes}
    known: tuple[type[_OfMatrix], ...] = (EffectiveRank, MultipleCorrelation)
    also = tuple(kind for kind in known if kind in kinds)
    if NodeCorrelation not in kinds or not also:
        return tuple(probes)
    exchanged: dict[type, Probe[Any]] = {kind: kind(told_elsewhere=True) for kind in also}
    exchanged[NodeCorrelation] = NodeCorrelation([kind() for kind in also])
    return tuple(exchanged.get(type(probe), probe) for probe in probes)
