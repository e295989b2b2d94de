"""A tensor of the chain in one forward pass, and the ways from it to the next ones."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dropdiag.recording.calls import Call
from dropdiag.recording.chain.joints import JointReading, StraightReading
from dropdiag.recording.chain.log import Key
from dropdiag.recording.collector import Opened
from dropdiag.recording.loss_scale import LossScale


class Path(NamedTuple):
    """What lies between a tensor and the next one of the chain, in one pass.

    Attributes
    ----------
    upper : Reading
    joints : list of JointReading
        From the upper one down to the lower one; none where both are one tensor, or all is `straight`.
    straight : StraightReading or None
    """

    upper: Reading
    joints: list[JointReading]
    straight: StraightReading | None = None

    @property
    def is_one(self) -> bool:
        """Whether both are one tensor."""
        return not self.joints and self.straight is None


class Reading(Call):
    """One tensor of the chain in one forward pass.

    Attributes
    ----------
    kind : str
        Of the tensor.
    key : tuple
        Kind, layer and call.
    opened : list
        The sketches that it goes to.
    paths : list of Path
        Ways up to the next tensor: to one that is found, or to each of several outputs.
    arrived : bool
        Whether its gradient has come.
    """

    __slots__ = ("arrived", "key", "kind", "opened", "paths")

    def __init__(self, call: Call, kind: str, opened: list[Opened]) -> None:
        super().__init__(call.info, call.number, call.collector, call.mask, recomputed=call.recomputed)
        self.divisor, self.period = call.divisor, call.period
        self.kind, self.opened = kind, opened
        self.key: Key = kind, call.info.site.layer, call.number
        self.paths: list[Path] = []
        self.arrived = False


def as_read(loss_scale: LossScale, call: Call, gradient: Tensor) -> Tensor:
    """Leave padding out of a gradient, and divide it by what the loss was multiplied with."""
    if call.mask is not None:
        gradient = call.unpadded(gradient)
    if loss_scale.active:
        gradient = loss_scale.unscaled(gradient)
    if call.divisor not in (None, 1.0):
        gradient = gradient.detach() / call.divisor
    return gradient
