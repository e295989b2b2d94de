"""What a probe is: a tensor of a site -> a sketch -> named values.

To add one: a small file with a class like those beside this one, then an instance in `PROBES` of
``probes/presets.py``. Its ``quantities`` name its numbers, with unit and label; they are stored in the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

from torch import Tensor

from dropdiag.deprecation import renamed, warn_of
from dropdiag.model.activations import Activation
from dropdiag.model.sites import Site
from dropdiag.sketches.base import Sketch
from dropdiag.sketches.histogram import HistogramSketch
from dropdiag.store.schema import TRAIN, Quantity


class Counted(NamedTuple):
    """A number that is a mean, and of how many values: by these, the means of several ranks are merged."""

    value: Tensor | float | None
    n: Tensor | float


class State(NamedTuple):
    """What several ranks' values of a quantity are merged from, as a row of the table ``states``.

    Attributes
    ----------
    n : int
        Samples.
    nodes : int
    values : Tensor of float64, shape (n,)
        On any device; ``docs/run-folder.md`` says what it holds for which quantity.
    """

    n: int
    nodes: int
    values: Tensor


ProbeValue: TypeAlias = Tensor | HistogramSketch | Counted | float | None
"""A scalar (a number, or a tensor of one element on any device), counted where it is a mean; a histogram; or None:
missing."""


class Signal(str, Enum):  # a str, as that hashes in C: every hook looks signals up in a dict
    """Which tensor of a site a probe is fed with."""

    WEIGHT = "weight"
    """The parameter, after the optimiser's step."""
    WEIGHT_GRAD = "weight_grad"
    """The parameter's gradient, as it stands at ``step()``."""
    RAW_WEIGHT_GRAD = "raw_weight_grad"
    """The parameter's gradient as ``backward()`` left it: before clipping."""
    WEIGHT_STEP = "weight_step"
    """The parameter before and after the step: a `dropdiag.sketches.change.Change`."""
    WEIGHT_FROM_START = "weight_from_start"
    """The parameter at step 0 and after the step: the same."""
    NET_VALUE = "net_value"
    """z, what enters the activation."""
    NODE_VALUE = "node_value"
    """h = phi(z), what leaves it, before dropout."""
    NET_GRAD = "net_grad"
    """dL/dz, from a hook on the tensor z."""
    DROPOUT = "dropout"
    """A pass through a dropout: no tensor, but a `dropdiag.sketches.dropout.MaskedPass`."""
    CHAIN = "chain"
    """Gradients along the chain from the output to each net value, as `dropdiag.sketches.chain` has them."""


@dataclass(frozen=True)
class SiteInfo:
    """A site, and its measured activation function: None for weights, and where saturation has no meaning."""

    site: Site
    activation: Activation | None


S = TypeVar("S", bound=Sketch)


class Probe(ABC, Generic[S]):
    """One diagnostic. It holds no state: what it has seen is in the sketches that it opens.

    Attributes
    ----------
    name : str
        What ``Recorder(probes=...)`` calls it.
    signal : Signal
        Which tensor it is fed with.
    quantities : tuple of Quantity
        What it writes: unit, label and scale are shown wherever the values are. A value whose quantity is not
        declared is recorded all the same, and shown under its bare name.
    on_train, on_eval : bool
        Whether it takes part in training steps, and in held-out evaluations.
    every_step : bool
        Whether it takes part in every training step, or in those of the schedule.
    """

    name: ClassVar[str]
    signal: ClassVar[Signal]
    quantities: ClassVar[tuple[Quantity, ...]] = ()
    on_train: ClassVar[bool] = True
    on_eval: ClassVar[bool] = False
    every_step: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Take ``tap``, as the attribute was called before, for `signal`."""
        super().__init_subclass__(**options)
        # On the class's own dict: a subclass of a probe with a tap inherits the signal that was set here.
        if "tap" in vars(cls) and "signal" not in vars(cls):
            warn_of(f"{cls.__name__}.tap", f"{cls.__name__}.signal", stacklevel=2)
            cls.signal = vars(cls)["tap"]

    def __getattr__(self, name: str) -> Any:
        """Find a signal that is called ``tap``, and the other way round, wherever it was set."""
        other = {"signal": "tap", "tap": "signal"}.get(name)
        if other is None or not (other in vars(self) or hasattr(type(self), other)):
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}", name=name, obj=self)
        warn_of(f"{type(self).__name__}.tap", f"{type(self).__name__}.signal")
        return getattr(self, other)

    @abstractmethod
    def sketch(self, info: SiteInfo) -> S | None:
        """Open an empty sketch for a site and step; None where the probe does not apply."""

    @abstractmethod
    def values(self, sketch: S) -> Iterable[tuple[str, ProbeValue]]:
        """Return the quantities of a finished sketch with their values."""

    def states(self, sketch: S) -> Iterable[tuple[str, State]]:
        """Return what the values of several ranks are merged from, where counts do not do; asked of ranks alone."""
        return ()

    def takes_part(self, phase: str, scheduled: bool) -> bool:
        """Whether the probe is fed in a phase, at a step that is or is not on the schedule."""
        if phase == TRAIN:
            return self.on_train and (self.every_step or scheduled)
        return self.on_eval


__getattr__ = renamed(
    __name__,
    {
        "Place": "dropdiag.probes.base:SiteInfo",
        "Tap": "dropdiag.probes.base:Signal",
        "Value": "dropdiag.probes.base:ProbeValue",
    },
)
