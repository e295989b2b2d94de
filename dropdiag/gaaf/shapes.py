"""Base functions and shape functions of GAAF.

A shape function s determines how much derivative GAAF adds where. Each one here is a function of a tensor with
parameters of its own; set them by ``functools.partial``, e.g. ``partial(shifted_sigmoid, slope=1, shift=4)``.
`GAAF`'s own ``height`` and ``width`` stretch any of them: ``height * s(x / width)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Function: TypeAlias = Callable[[Tensor], Tensor]


def gaussian(x: Tensor, height: float = 1.0, width: float = 1.0) -> Tensor:
    """``height exp(-(x/width)^2/3)``; with 1 and 1 the shape that Figure 6 draws for tanh (s(0)=1, s(±2)=0.26).

    Examples
    --------
    >>> dd.gaaf.gaussian(torch.tensor([0.0, 2.0]), height=0.5)
    tensor([0.5000, 0.1318])
    """
    scaled = x if width == 1 else x / width  # one operation less in every forward pass
    bump = torch.exp(scaled * scaled * (-1 / 3))
    return bump if height == 1 else height * bump


def shifted_sigmoid(x: Tensor, slope: float = 6.0, shift: float = 0.5) -> Tensor:
    """``sigmoid(slope (x + shift))``; with 6 and 0.5 the shape of Figure 6 for ReLU (s(-1)=0.05, s(0)=0.95).

    Examples
    --------
    >>> dd.gaaf.shifted_sigmoid(torch.tensor([-0.5]))
    tensor([0.5000])
    """
    return torch.sigmoid(slope * (x + shift))


def constant(x: Tensor, height: float = 1.0) -> Tensor:
    """`height` everywhere: the derivative is raised by as much at every net value.

    Examples
    --------
    >>> dd.gaaf.constant(torch.zeros(2), height=0.25)
    tensor([0.2500, 0.2500])
    """
    return torch.full_like(x, height)


def derivative_complement(x: Tensor, derivative: Function, level: float = 1.0) -> Tensor:
    """``level - phi'(x)``: with phi' of the base function, GAAF's derivative is `level` at every net value.

    GAAF with this shape is the straight-through estimator. ``GAAF(phi, shape="derivative_complement")`` takes the
    derivative of its own phi.

    Examples
    --------
    >>> dd.gaaf.derivative_complement(torch.tensor([0.0, 9.0]), lambda z: 1 - torch.tanh(z) ** 2).round(decimals=3)
    tensor([0., 1.])
    """
    return level - derivative(x)


port_shape: Final = partial(shifted_sigmoid, slope=1.0, shift=4.0)
"""``sigmoid(x + 4)``, the shape for ReLU in the public Keras port (kobiso/GAAF-keras); not that of Figure 6."""

NAMED: Final[dict[str, tuple[Function, type[nn.Module], Function]]] = {
    "tanh": (torch.tanh, nn.Tanh, gaussian),
    # Sigmoid is tanh at x/2 in a quarter of its slope, and so is its shape.
    "sigmoid": (torch.sigmoid, nn.Sigmoid, partial(gaussian, height=0.25, width=2.0)),
    "relu": (torch.relu, nn.ReLU, shifted_sigmoid),
    "leaky_relu": (F.leaky_relu, nn.LeakyReLU, shifted_sigmoid),
    "gelu": (F.gelu, nn.GELU, shifted_sigmoid),
    "silu": (F.silu, nn.SiLU, shifted_sigmoid),
    "hardtanh": (F.hardtanh, nn.Hardtanh, gaussian),
}
"""The base functions that have a name, each with PyTorch's default settings; torch's module of it, which has the same
default shape, whatever its settings; and that shape. tanh's and ReLU's are the paper's. The others are taken over from
the one that saturates alike."""

BASES: Final = {name: function for name, (function, _, _) in NAMED.items()}
MODULES: Final = {module: name for name, (_, module, _) in NAMED.items()}

SHAPES: Final[dict[str, Function]] = {"gaussian": gaussian, "shifted_sigmoid": shifted_sigmoid, "constant": constant}
COMPLEMENT: Final = "derivative_complement"


@dataclass(frozen=True)
class Derivative:
    """The derivative of an elementwise function, itself a differentiable function of a tensor."""

    phi: Function

    def __call__(self, x: Tensor) -> Tensor:
        """Return phi'(x); same shape and dtype."""
        gradient: Tensor = torch.func.grad(self._summed)(x)
        return gradient

    def _summed(self, x: Tensor) -> Tensor:
        return self.phi(x.clone()).sum()  # a copy: phi may work in place
