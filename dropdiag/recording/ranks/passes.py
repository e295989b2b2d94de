"""What forward and backward passes show of several ranks, and what of their tensors this one is to count."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.probes.base import Signal, SiteInfo
from dropdiag.recording.backward import backward_number
from dropdiag.recording.calls import Call
from dropdiag.recording.collector import Collector
from dropdiag.recording.parts import is_spread, part_of
from dropdiag.recording.ranks.reduced import ReducedGradients
from dropdiag.recording.ranks.repeated import RepeatedItems, repeated_items
from dropdiag.recording.ranks.spread import Spread


class RankedPasses:
    """Keeps up with how a model is spread over ranks, from pass to pass.

    Parameters
    ----------
    spread : Spread
    reduced : ReducedGradients
    train, held_out : Collector

    Attributes
    ----------
    repeated : RepeatedItems or None
        What a loader of this evaluation gives to two ranks, where one was seen.
    first_look : callable
        Called when it is known for the first time how the model is spread: before any pass.
    """

    def __init__(self, spread: Spread, reduced: ReducedGradients, train: Collector, held_out: Collector) -> None:
        self.spread, self.reduced = spread, reduced
        self._averaging = spread.averaging
        self._collectors = train, held_out
        self.repeated: RepeatedItems | None = None
        self.first_look: Callable[[], None] = nothing
        self._looked = self._looks_for_loader = False

    def step_begins(self) -> None:
        """Forget the passes of the last step."""
        self.reduced.step_begins()
        self._looked = False

    def evaluation_begins(self) -> None:
        """Look for a loader in the passes that follow."""
        self._looked = False
        self.repeated, self._looks_for_loader = None, self._averaging is not None

    def batch_begins(self, *, evaluating: bool) -> None:
        """Note what a loader repeats that feeds this evaluation."""
        if self._looks_for_loader and evaluating:
            self.repeated, self._looks_for_loader = repeated_items(), False

    def forward_begins(self, *, looks: bool) -> None:
        """Note what a forward pass runs in; look at the model where that is wanted, once in a step or evaluation."""
        if self._averaging is not None:
            self._averaging.forward_begins()
        if not looks or self._looked:
            return
        self._looked = True
        self.spread.look()
        for collector in self._collectors:
            if collector.shares:
                collector.of_ranks(*self.spread.place())
        self.first_look()
        self.first_look = nothing

    def of_shapes(self, *, alone: bool, looks: bool) -> bool:
        """Whether the pass that runs is one of a pipeline that looks for shapes alone.

        Parameters
        ----------
        alone : bool
            Whether a part of the model is called by itself (a stage, say): no forward pass of the model began.
        looks : bool
            As for `forward_begins`.
        """
        if self._averaging is None:
            return False
        if alone and backward_number() == -1:
            self.forward_begins(looks=looks)
        return self._averaging.of_shapes

    def divide(self, call: Call, *, again: bool) -> None:
        """Note what the gradient of a training pass is to be divided by; ``again``: of one that is run once more."""
        if self._averaging is not None:
            site = call.info.site
            call.divisor = self._averaging.divisor(site.layer, site.module, recomputed=again)

    def held(self, info: SiteInfo, tensor: Tensor, collector: Collector) -> Tensor | None:
        """Return what this rank is to count of a tensor that may be spread over ranks; None: nothing."""
        if not is_spread(tensor):
            return tensor
        part = self.spread.part(info.site, tensor)
        if part.why is not None:
            collector.refuse(info, ArgumentError(f"{part.why}; leave the layer out with exclude="))
        return part.tensor

    def held_gradient(self, call: Call, gradient: Tensor) -> Tensor | None:
        """Return what this rank is to count of a gradient that is spread over ranks."""
        part = part_of(gradient)
        if part.why is not None:
            call.collector.fail(Signal.NET_GRAD, call.info, ArgumentError(f"its gradient cannot be read: {part.why}"))
        return part.tensor

    def is_reduced_later(self, info: SiteInfo) -> bool:
        """Whether ranks may be about to average a weight's gradient; it is read then when the backward pass is over."""
        if self._averaging is None or backward_number() == -1:
            return False
        self.reduced.wait_for(info)
        return True


def nothing() -> None:
    """Do nothing: nobody asked to be called."""
