"""What gradient flow is made of: gradients of the tensors between the network's output and each net value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dropdiag.model.sites import ACTIVATION, DROPOUT
from dropdiag.probes.base import Counted, Probe, ProbeValue, Signal, SiteInfo
from dropdiag.sketches.chain import MASK_INPUT, MASK_OUTPUT, NET, NODE, OUTPUT, ChainMeans
from dropdiag.store.schema import quantities as own

_KINDS: Final = {ACTIVATION: (NODE,), DROPOUT: (MASK_OUTPUT, MASK_INPUT)}
_PARTS: Final = (
    ("path_grad_abs_mean", (NODE, MASK_OUTPUT, OUTPUT)),
    ("input_path_grad_abs_mean", (NET, MASK_INPUT)),
)


class FlowDecomposition(Probe[ChainMeans]):
    """Means of |dL/d tensor| of what leaves each activation, enters and leaves each dropout, and of the output.

    From one of these to the next, in order of execution, the gradient passes a layer's weights and what else lies
    between, a mask, or an activation's slope, so the ratios of neighbours are what gradient flow is made of; see
    ``docs/chain.md``. Where a tensor has users off this chain, as in a residual network, the part of its gradient that
    came by the chain is recorded as well.
    """

    name = "flow_decomposition"
    signal = Signal.CHAIN
    quantities = own(
        "node_grad_abs_mean",
        "mask_output_grad_abs_mean",
        "mask_input_grad_abs_mean",
        "path_grad_abs_mean",
        "input_path_grad_abs_mean",
        "output_grad_abs_mean",
    )

    def sketch(self, info: SiteInfo) -> ChainMeans:
        """Open means at every activation, dropout and output."""
        return ChainMeans(*_KINDS.get(info.site.kind, (OUTPUT,)))

    def values(self, sketch: ChainMeans) -> Iterable[tuple[str, ProbeValue]]:
        """Return a mean for each tensor, and the part by the chain where something branches; None: missing."""
        found: list[tuple[str, ProbeValue]] = [
            (f"{kind}_grad_abs_mean", Counted(*sketch.mean(kind))) for kind in sketch.kinds
        ]
        for name, kinds in _PARTS:
            found += [(name, Counted(*part)) for kind in kinds if (part := sketch.part(kind)) is not None]
        return found
