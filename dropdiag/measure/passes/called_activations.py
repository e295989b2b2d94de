"""Activation functions that a model calls without a module, as sites of their own in the passes of a measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.functional.calls import CallNames, FollowedCalls, NamedCall, in_checkpoint
from dropdiag.functional.functions import FUNCTIONS, MIXING_FUNCTIONS
from dropdiag.model.activations import MIXES
from dropdiag.model.sites import ACTIVATION, Site, axis_rule_inside

MEASURED: Final = frozenset(f.name for f in FUNCTIONS.values() if not f.of_masks) - {*MIXING_FUNCTIONS}
"""Names of the functions that are activations, each node value of which depends on one net value."""


class Taker(NamedTuple):
    """What takes the tensors of calls in one pass.

    Attributes
    ----------
    before : callable or None
        Called with a call that is about to be made.
    after : callable or None
        Called with the call and what the function gave. What it returns takes its place, unless that is None.
    """

    before: Callable[[NamedCall], object] | None = None
    after: Callable[[NamedCall, Tensor], Tensor | None] | None = None


class CalledActivations:
    """The calls of activation functions in the passes of a model, handed to whatever takes them.

    Parameters
    ----------
    model : nn.Module
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names: CallNames | None = None
        self._takers: list[Taker] = []
        self.gradients = False
        """Whether the passes have a graph."""

    def take(self, hooks: ExitStack, taker: Taker, *, first: bool = False) -> None:
        """Hand the calls of one pass over, until hooks are taken off."""
        self._takers.insert(0 if first else len(self._takers), taker)
        hooks.callback(self._takers.remove, taker)

    @contextmanager
    def intercepting(self) -> Iterator[None]:
        """Intercept the calls of the forward pass inside, where anything takes them."""
        if not self._takers:
            yield
            return
        self._names = self._names or CallNames(self._model)
        self._names.pass_begins()
        with _Intercepted(self, self._names):
            yield

    def call(self, call: NamedCall, function: Callable[[Tensor], Any]) -> Any:
        """Make a call, and hand over what enters and leaves it; an operation in place stays one."""
        if self.gradients and not torch.is_grad_enabled():
            raise ArgumentError(
                f"{call.layer} is called without gradients, as under a reentrant torch.utils.checkpoint, which runs it "
                "again where no function is seen: give the checkpoint use_reentrant=False, or switch it off"
            )
        takers = list(self._takers)
        after = [taker.after for taker in takers if taker.after is not None]
        if after and self.gradients and in_checkpoint(call.frame):
            raise ArgumentError(
                f"what stands behind {call.layer} would be lost where torch.utils.checkpoint runs it again: switch "
                "checkpointing off for the measurement"
            )
        # Nothing of the measurement's own is a call of the model's. Private: it is the one switch for modes.
        with torch._C.DisableTorchFunction():
            for taker in takers:
                if taker.before is not None:
                    taker.before(call)
        # What the backward pass of the function itself needs is not to be overwritten by what takes its place.
        apart = call.inplace and bool(after)
        h = function(call.z.clone() if apart else call.z)
        with torch._C.DisableTorchFunction():
            for take in after if isinstance(h, Tensor) else ():
                given = take(call, h)
                h = h if given is None else given
            return call.z.copy_(h) if apart else h


class _Intercepted(FollowedCalls):
    """One forward pass in which calls are handed over."""

    def __init__(self, called: CalledActivations, names: CallNames) -> None:
        super().__init__(names)
        self._called = called

    def made(self, call: NamedCall, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """See `FollowedCalls.made`."""

        def function(z: Tensor) -> Any:
            return func(z, *args[1:], **keywords) if args else func(**{**keywords, "input": z})

        return self._called.call(call, function)


def site_of(call: NamedCall) -> Site:
    """Return the site of a call."""
    return Site(
        call.layer,
        ACTIVATION,
        call.module,
        activation=call.activation,
        functional=True,
        phi=call.phi,
        axis_rule=axis_rule_inside(call.module),
        node_dims=call.dims,
        after=None if call.dims is None else "as followed",
        gate_dim=call.gate_dim,
        skipped=MIXES if call.function.name in MIXING_FUNCTIONS else None,
    )
