"""Surrogate derivatives: a function psi whose derivative takes the place of phi's in the backward pass.

GAAF adds a derivative s to that of phi; with ``s = psi' - phi'`` what comes out is psi'. So surrogate gradients are
GAAF's relatives: ``GAAF(phi, surrogate=...)`` has the value of phi, bit for bit, and the derivative of psi.

References: Horuz et al., "The Resurrection of the ReLU", arXiv:2505.22074 (SUGAR); Bengio et al., "Estimating or
Propagating Gradients Through Stochastic Neurons", arXiv:1308.3432 (the straight-through estimator).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.gaaf.shapes import Derivative, Function, port_shape


def b_silu(x: Tensor, alpha: float = 1.67) -> Tensor:
    """``(x + alpha) sigmoid(x) - alpha/2``, B-SiLU of SUGAR (its equation 7, alpha as there)."""
    return (x + alpha) * torch.sigmoid(x) - alpha / 2


def b_silu_slope(x: Tensor, alpha: float = 1.67) -> Tensor:
    """``sigmoid(x) (1 + (x + alpha) (1 - sigmoid(x)))``, the derivative of `b_silu`."""
    gate = torch.sigmoid(x)
    return gate * (1 + (x + alpha) * (1 - gate))


def nelu(x: Tensor, alpha: float = 0.2) -> Tensor:
    """``x`` above 0 and ``-alpha/(1 + x^2)`` elsewhere, NeLU of SUGAR.

    It is not continuous at 0, and falls as x rises towards 0 from below: its derivative is negative there. This form,
    and ``2 alpha x/(1 + x^2)^2`` for the derivative, are those of public implementations of SUGAR (two that were
    compared agree); the paper itself was not at hand for them, and neither was its alpha: 0.2 is the default of one
    implementation, 0.05 that of another. ``partial(nelu_slope, alpha=0.05)`` goes into a `Surrogate` of one's own.
    """
    return torch.where(x > 0, x, -alpha / (1 + x * x))


def nelu_slope(x: Tensor, alpha: float = 0.2) -> Tensor:
    """1 above 0 and ``2 alpha x/(1 + x^2)^2`` elsewhere: the derivative of `nelu`, 0 at 0 as ReLU's."""
    return torch.where(x > 0, 1.0, 2 * alpha * x / (1 + x * x).square())


@dataclass(frozen=True)
class Surrogate:
    """A derivative that takes the place of another one.

    Attributes
    ----------
    name : str
    slope : callable
        psi', an elementwise differentiable function of a tensor.

    Examples
    --------
    >>> straight_through = dd.gaaf.Surrogate("identity", torch.ones_like)
    >>> z = torch.tensor([0.0, 3.0], requires_grad=True)
    >>> dd.GAAF("tanh", surrogate=straight_through)(z).sum().backward()
    >>> z.grad
    tensor([1., 1.])
    """

    name: str
    slope: Function

    def added_to(self, phi: Function) -> Function:
        """Return ``psi' - phi'``, the shape function with which GAAF over `phi` has the derivative psi'.

        Examples
        --------
        >>> shape = dd.gaaf.Surrogate("identity", torch.ones_like).added_to(torch.tanh)
        >>> shape(torch.tensor([0.0]))
        tensor([0.])
        """
        return partial(_difference, slope=self.slope, derivative=Derivative(phi))


def surrogate_named(given: str | Function | Surrogate, phi: Function) -> Surrogate:
    """Return the surrogate derivative that a name or a function psi stands for.

    Raises
    ------
    ArgumentError
        For an unknown name, or what is no function.
    """
    if isinstance(given, Surrogate):
        return given
    if isinstance(given, str) and given in SURROGATES:
        return Surrogate(given, SURROGATES[given](phi))
    if isinstance(given, str | type) or not callable(given):
        what = f"the class {given.__name__}, not an instance of it" if isinstance(given, type) else repr(given)
        raise ArgumentError(
            f"surrogate must be one of {', '.join(SURROGATES)}, or a function psi of a tensor, whose derivative is "
            f"taken; got {what}"
        )
    return Surrogate(getattr(given, "__name__", None) or type(given).__name__, Derivative(given))


def _difference(x: Tensor, slope: Function, derivative: Function) -> Tensor:
    return slope(x) - derivative(x)


def _raised(x: Tensor, by: Function, derivative: Function) -> Tensor:
    return derivative(x) + by(x)


SURROGATES: Final[dict[str, Callable[[Function], Function]]] = {
    "b-silu": lambda _phi: b_silu_slope,
    "nelu": lambda _phi: nelu_slope,
    "straight-through": lambda _phi: torch.ones_like,
    "keras-port": lambda phi: partial(_raised, by=port_shape, derivative=Derivative(phi)),
}
"""Name -> psi' of a base function phi. "keras-port" is ``phi' + sigmoid(x + 4)``, the derivative of the public Keras
port of GAAF (kobiso/GAAF-keras)."""
