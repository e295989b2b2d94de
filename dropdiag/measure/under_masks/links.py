"""Which layers come right behind a dropout and right before a net value, told by the tensors of a pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, TypeVar

from torch import Tensor, nn

from dropdiag.measure.passes.net_values import CallKey, tensor_argument
from dropdiag.model.dropouts import mask_variance_of, rate_of

T = TypeVar("T")

_CONVOLUTIONS: Final = nn.modules.conv._ConvNd
_LAYERS: Final = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


@dataclass
class MaskedLayer:
    """A layer whose output is a net value, right behind a dropout.

    Attributes
    ----------
    x : Tensor
        The layer's input when no mask is drawn.
    variance : float
        Of the factor by which the dropout multiplies each input, independently.
    layer : nn.Module
    call : int
        Call index of the layer.
    """

    x: Tensor
    variance: float
    layer: nn.Module
    call: int


class Marks(Generic[T]):
    """What is known of tensors, each until an operation in place changes it."""

    def __init__(self) -> None:
        # Tensors are found again by their id(). They are held here, as the id of a freed one may be given to another.
        self._marks: dict[int, tuple[Tensor, int, T]] = {}

    def put(self, tensor: Tensor, mark: T) -> None:
        """Keep something of a tensor."""
        self._marks[id(tensor)] = tensor, _version(tensor), mark

    def get(self, tensor: Tensor) -> T | None:
        """Return what was kept of a tensor; None if nothing was, or it has changed since."""
        held, version, mark = self._marks.get(id(tensor), (tensor, None, None))
        return mark if _version(held) == version else None


@dataclass
class Links:
    """Which layers come right behind a dropout and right before a net value, seen in one pass."""

    calls: Counter[int] = field(default_factory=Counter)
    masked: Marks[float] = field(default_factory=Marks)
    linear: Marks[MaskedLayer] = field(default_factory=Marks)
    found: dict[CallKey, MaskedLayer] = field(default_factory=dict)

    def dropout(
        self, variance: Callable[[float], float], module: nn.Module, _args: tuple[Any, ...], output: Tensor
    ) -> None:
        """Forward hook of a dropout."""
        if module.training:
            self.masked.put(output, variance(rate_of(module)))

    def layer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        """Forward hook of a layer that has a closed form."""
        call = self.calls[id(module)]
        self.calls[id(module)] += 1
        x = tensor_argument(args, kwargs)
        variance = None if x is None else self.masked.get(x)
        if x is not None and variance is not None and math.isfinite(variance):
            self.linear.put(output, MaskedLayer(x, variance, module, call))

    def watch(self, modules: Iterable[nn.Module], hooks: ExitStack) -> None:
        """Put hooks on dropouts and layers for one pass."""
        for module in modules:
            if (variance := mask_variance_of(module)) is not None:
                hooks.enter_context(module.register_forward_hook(partial(self.dropout, variance)))
            elif _has_closed_form(module):
                hooks.enter_context(module.register_forward_hook(self.layer, with_kwargs=True))


def _has_closed_form(module: nn.Module) -> bool:
    """Whether a layer is torch's own w x + b, in which each input is in one product of a net value only."""
    if isinstance(module, _CONVOLUTIONS) and module.padding_mode != "zeros":
        return False
    return any(type(module).forward is kind.forward for kind in _LAYERS)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # private; tensors of inference mode have none
