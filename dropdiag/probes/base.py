"""What a probe is: a tensor of a site -> a sketch -> named values.

To add one: a small file with a class like those beside this one, then its name in the tuple of
``probes/__init__.py``. Its quantities say what its numbers are called; they go with the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Generic, TypeAlias, TypeVar

from torch import Tensor

from dropdiag.model.activations import Activation
from dropdiag.model.sites import Site
from dropdiag.sketches import Histogram, Sketch
from dropdiag.store.schema import TRAIN, Quantity

Value: TypeAlias = Tensor | Histogram | float | None
"""A scalar (a number, or a tensor of one element on any device), a histogram, or None: missing."""


class Tap(str, Enum):  # a str hashes in C: taps are looked up in every hook
    """The tensors of a site that a probe can be fed with."""

    WEIGHT = "weight"
    """The parameter, after the optimiser's step."""
    WEIGHT_GRAD = "weight_grad"
    """The parameter's gradient, as it stands at ``step()``."""
    RAW_WEIGHT_GRAD = "raw_weight_grad"
    """The parameter's gradient as ``backward()`` left it: before clipping."""
    NET_VALUE = "net_value"
    """z, what enters the activation."""
    NODE_VALUE = "node_value"
    """h = phi(z), what leaves it, before dropout."""
    NET_GRAD = "net_grad"
    """dL/dz, from a hook on the tensor z."""


@dataclass(frozen=True)
class Place:
    """A site with what is known of its activation function (None for weights and unknown functions)."""

    site: Site
    activation: Activation | None


S = TypeVar("S", bound=Sketch)


class Probe(ABC, Generic[S]):
    """One diagnostic. Holds no state: what it has seen is in the sketches it opens.

    Attributes
    ----------
    name : str
        What ``Recorder(probes=...)`` calls it.
    tap : Tap
        The tensor it is fed with.
    quantities : tuple of Quantity
        What it writes: unit, label and scale are shown wherever the values are. A value whose quantity is not
        declared is recorded all the same, and shown under its bare name.
    on_train, on_eval : bool
        Whether it takes part in training steps, and in held-out evaluations.
    every_step : bool
        Whether it takes part in every training step, or in those of the schedule.
    """

    name: ClassVar[str]
    tap: ClassVar[Tap]
    quantities: ClassVar[tuple[Quantity, ...]] = ()
    on_train: ClassVar[bool] = True
    on_eval: ClassVar[bool] = False
    every_step: ClassVar[bool] = False

    @abstractmethod
    def sketch(self, place: Place) -> S | None:
        """Open an empty sketch for a site and step; None where the probe does not apply."""

    @abstractmethod
    def values(self, sketch: S) -> Iterable[tuple[str, Value]]:
        """Return what a finished sketch says: quantities and their values."""

    def takes_part(self, phase: str, scheduled: bool) -> bool:
        """Whether the probe is fed in a phase, at a step that is or is not on the schedule."""
        if phase == TRAIN:
            return self.on_train and (self.every_step or scheduled)
        return self.on_eval
