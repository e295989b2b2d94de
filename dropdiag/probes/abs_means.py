"""Mean absolute gradients."""

from __future__ import annotations

from collections.abc import Iterable

from dropdiag.probes.base import Counted, Probe, ProbeValue, Signal, SiteInfo
from dropdiag.sketches.moments import AbsMean
from dropdiag.store.schema import quantities as own


class _AbsMeanProbe(Probe[AbsMean]):
    def sketch(self, info: SiteInfo) -> AbsMean:
        """Open a mean at every site."""
        return AbsMean()

    def values(self, sketch: AbsMean) -> Iterable[tuple[str, ProbeValue]]:
        """Return the mean of absolute values; None where no gradient came (missing, not zero)."""
        # The mean of no value is NaN, which a diverged network has as well: None keeps the two apart.
        mean = sketch.mean() if sketch.n else None
        return [(f"{self.signal.value}_abs_mean", Counted(mean, sketch.n))]


class GradientFlow(_AbsMeanProbe):
    """Gradient flow: mean over samples and nodes of |dL/dz|, at every training step (Table 2 of the paper).

    L is the loss that ``backward()`` was called on, and of several ranks that of the whole step: dL/dz of a rank is
    divided by the number of ranks that gradients are averaged over. If L is a mean over the batch, flow falls as the
    batch grows.
    """

    name = "gradient_flow"
    signal = Signal.NET_GRAD
    quantities = own("net_grad_abs_mean")
    every_step = True  # the paper's Table 2 averages over all of training, and a sum of |dL/dz| costs little


class RawWeightGradientMeans(_AbsMeanProbe):
    """Mean of |dL/dw| as ``backward()`` left it, before clipping, at every training step."""

    name = "raw_weight_gradient_means"
    signal = Signal.RAW_WEIGHT_GRAD
    quantities = own("raw_weight_grad_abs_mean")
    every_step = True


class WeightGradientMeans(_AbsMeanProbe):
    """Mean of |dL/dw| over each weight matrix as it stands at ``step()`` (clipped, if it was), at every step."""

    name = "weight_gradient_means"
    signal = Signal.WEIGHT_GRAD
    quantities = own("weight_grad_abs_mean")
    every_step = True
