"""Weights as they were, to be set beside what they are: when the step began, and at step 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from dropdiag.probes.base import Signal
from dropdiag.sketches.change import Change

SINCE: Final = {Signal.WEIGHT_STEP: "at the beginning of the step", Signal.WEIGHT_FROM_START: "at step 0"}
"""Signals that set a weight beside an earlier one, and when that was."""
NOT_KNOWN: Final = "what it was {since} is not known"


class EarlierWeights:
    """Copies of weights by signal and layer, each on the weight's own device."""

    def __init__(self) -> None:
        self._copies: dict[Signal, dict[str, Tensor]] = {signal: {} for signal in SINCE}

    def keep(self, signal: Signal, weights: Mapping[str, Tensor]) -> None:
        """Copy weights, by layer, as they are; let go of those kept before."""
        before = self._copies[signal]
        with _disable_current_modes():  # a user's: what counts operations counts those of the model
            self._copies[signal] = {layer: _copied(w.detach(), before.get(layer)) for layer, w in weights.items()}

    def forget(self, *signals: Signal) -> None:
        """Let go of the copies of some signals."""
        for signal in signals:
            self._copies[signal].clear()

    def change(self, signal: Signal, layer: str, now: Tensor) -> Change | None:
        """Return a weight beside what it was; None where that is not known, or it has another shape by now."""
        before = self._copies[signal].get(layer)
        if before is None or before.shape != now.shape:
            return None
        if before.device != now.device:  # the model was moved since
            before = self._copies[signal][layer] = before.to(now.device)
        return Change(before, now)


def _copied(weight: Tensor, room: Tensor | None) -> Tensor:
    """Copy a weight, over an earlier copy if that is alike: fresh memory costs more than what is written to it."""
    if room is None or room.is_inference() or _form(room) != _form(weight):
        return weight.clone()
    return room.copy_(weight)


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device
