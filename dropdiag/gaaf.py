"""Gradient acceleration in activation functions (GAAF).

``GAAF(x) = phi(x) + g(x) s(x)``: a saw-tooth g of height 1/K and slope 1, shaped by s, is added to an
activation function phi. The node value hardly changes (by at most ``s(x)/(2K)``), the derivative grows by
about s(x) wherever s is large: gradient flows where phi alone has none.

Reference: Hahn and Choi, "Gradient Acceleration in Activation Functions", arXiv:1806.09783; the shapes are
those of its Figure 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from dropdiag.errors import ArgumentError

Function: TypeAlias = Callable[[Tensor], Tensor]


def gaussian(x: Tensor) -> Tensor:
    """``exp(-x^2/3)``: the shape drawn for tanh (s(0)=1, s(±2)=0.26)."""
    return torch.exp(x * x * (-1 / 3))


def shifted_sigmoid(x: Tensor) -> Tensor:
    """``sigmoid(6 (x + 0.5))``: the shape drawn for ReLU (s(-1)=0.05, s(0)=0.95)."""
    return torch.sigmoid(6 * (x + 0.5))


def constant(x: Tensor) -> Tensor:
    """One everywhere: the derivative is raised by 1 at every net value."""
    return torch.ones_like(x)


BASES: Final[dict[str, Function]] = {"tanh": torch.tanh, "relu": torch.relu}
SHAPES: Final[dict[str, Function]] = {f.__name__: f for f in (gaussian, shifted_sigmoid, constant)}
DEFAULT_SHAPES: Final = {"tanh": "gaussian", "relu": "shifted_sigmoid"}


class _SawTooth(torch.autograd.Function):
    """The saw-tooth forward, the identity backward (its slope is 1 almost everywhere)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, k: float) -> Tensor:
        scaled = x * k
        fraction = scaled - torch.floor(scaled)
        return (fraction.nan_to_num(nan=0.5) - 0.5) / k  # ±Inf and NaN have no fraction: g is 0 there

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep nothing: the slope does not depend on x."""

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def saw_tooth(x: Tensor, k: float = 10_000) -> Tensor:
    """``g(x) = (x K - floor(x K) - 0.5) / K``, with derivative 1 everywhere.

    Parameters
    ----------
    x : Tensor of float32 or float64, any shape
    k : float
        Teeth in a unit of x; ``|g| <= 0.5/K``.

    Returns
    -------
    Tensor
        Same shape and dtype as `x`. Zero at ±Inf and NaN.

    Notes
    -----
    ``x K`` has a usable fraction only while ``|x| K`` is well below 2**23 (float32) or 2**52 (float64);
    beyond, g is a constant of the same small size. The derivative is exact everywhere, since it is not
    computed from that fraction. Forward-mode differentiation (``torch.func.jvp``) is not implemented:
    torch.compile refuses functions that define it.
    """
    result: Tensor = _SawTooth.apply(x, k)  # type: ignore[no-untyped-call]
    return result


class GAAF(nn.Module):
    """The activation function ``phi(x) + g(x) s(x)`` of Hahn and Choi.

    Its derivative is exactly ``phi'(x) + s(x) + g(x) s'(x)``, at any magnitude of x and in any precision; the
    second derivative is ``phi''(x) + 2 s'(x) + g(x) s''(x)``. There is nothing random in it and no parameter.

    Parameters
    ----------
    phi : {"tanh", "relu"} or callable
        The base activation function; an ``nn.Module`` is registered as the submodule ``base``.
    k : float, default 10,000
        Teeth of the saw in a unit of x: the node value moves by at most ``s(x)/(2 k)``.
    shape : str or callable, optional
        Shape function s: ``"gaussian"`` (default for tanh), ``"shifted_sigmoid"`` (default for relu),
        ``"constant"``, or any differentiable function of a tensor. Needed where `phi` is a callable.

    Attributes
    ----------
    base : callable
        phi. Saturation is judged by *its* derivative: GAAF's own is large everywhere by design.

    Raises
    ------
    ArgumentError
        For an unknown name, a missing shape, or a `k` that is not a positive finite number.

    Notes
    -----
    g(x) s(x) is computed in float32 (float64 for float64 input), also under autocast, and the sum is rounded
    to the dtype that phi returns. In bfloat16 and float16 g itself (5e-5 at most) mostly disappears in that
    rounding; the derivative, which is what GAAF is for, does not.

    Examples
    --------
    >>> activation = GAAF("tanh")
    >>> activation
    GAAF(phi=tanh, k=10000, shape=gaussian)
    """

    def __init__(self, phi: str | Function = "tanh", k: float = 10_000, shape: str | Function | None = None) -> None:
        super().__init__()
        if not (isinstance(k, int | float) and math.isfinite(k) and k > 0):
            raise ArgumentError(f"k must be a positive finite number (teeth in a unit of x), got {k!r}")
        if shape is None:
            shape = _default_shape(phi)
        self.base = _function("phi", phi, BASES)
        self.shape = _function("shape", shape, SHAPES)
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """Node values of the net values `x`; same shape, the dtype phi returns."""
        # A base of the user's own may work in place; x is still needed.
        value = self.base(x) if self.base in BASES.values() else self.base(x.clone())
        wide = x if x.dtype == torch.float64 else x.float()
        return (value + saw_tooth(wide, self.k) * self.shape(wide)).to(value.dtype)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print(model)``."""
        return f"phi={_name(self.base)}, k={self.k}, shape={_name(self.shape)}"


def _default_shape(phi: str | Function) -> str:
    if isinstance(phi, str) and phi in DEFAULT_SHAPES:
        return DEFAULT_SHAPES[phi]
    if isinstance(phi, str):
        raise ArgumentError(_unknown("phi", phi, BASES))
    raise ArgumentError(
        f"GAAF has no default shape function for phi={_name(phi)}; "
        f"pass shape= as one of {', '.join(SHAPES)}, or as a function s(x) of a tensor"
    )


def _function(argument: str, given: str | Function, known: dict[str, Function]) -> Function:
    if isinstance(given, str) and given in known:
        return known[given]
    if isinstance(given, str | type) or not callable(given):
        raise ArgumentError(_unknown(argument, given, known))
    return given


def _unknown(argument: str, given: object, known: dict[str, Function]) -> str:
    what = f"the class {given.__name__}, not an instance of it" if isinstance(given, type) else repr(given)
    return f"{argument} must be one of {', '.join(known)}, or a function of a tensor; got {what}"


def _name(function: object) -> str:
    return getattr(function, "__name__", None) or type(function).__name__
