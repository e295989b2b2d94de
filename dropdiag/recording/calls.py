"""One recorded pass through one site, and what is told apart about it."""

from __future__ import annotations

from torch import Tensor

from dropdiag.probes.base import SiteInfo
from dropdiag.recording.collector import Collector
from dropdiag.sketches.native import PLAIN


class Call:
    """One recorded pass through one site.

    Attributes
    ----------
    info : SiteInfo
    number : int
        The call's index within one forward pass.
    collector : Collector
        What its tensors go to.
    mask : Tensor of bool or None
        True where tokens are no padding.
    recomputed : bool
        Whether it was run inside a backward pass, which is one that trains: ``torch.autograd.grad`` cannot pass a
        reentrant checkpoint.
    backward : int or None
        The number of the backward pass that its gradient came from, once it has one.
    period : int
        The collector's, when the call was made.
    divisor : float or None
        What its gradient is to be divided by, so that it is of the loss of the whole step; None: nobody can tell.
    """

    __slots__ = ("backward", "collector", "divisor", "info", "mask", "number", "period", "recomputed")

    def __init__(
        self, info: SiteInfo, number: int, collector: Collector, mask: Tensor | None, *, recomputed: bool = False
    ) -> None:
        self.info, self.number, self.collector, self.mask = info, number, collector, mask
        self.recomputed, self.period = recomputed, collector.period
        self.backward: int | None = None
        self.divisor: float | None = 1.0

    def padded(self, tensor: Tensor) -> bool:
        """Whether the padding mask fits a tensor, so that its padding is left out."""
        mask = self.mask
        return mask is not None and tensor.ndim >= 3 and tensor.shape[: mask.ndim] == mask.shape

    def unpadded(self, tensor: Tensor) -> Tensor:
        """Return the tokens that are no padding, where a padding mask is set and fits the tensor."""
        # The class first: a subclass may refuse to be indexed. The collector reports that it is not read.
        return tensor.detach()[self.mask] if type(tensor) in PLAIN and self.padded(tensor) else tensor
