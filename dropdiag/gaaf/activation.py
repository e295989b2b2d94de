"""Gradient acceleration in activation functions (GAAF).

``GAAF(x) = phi(x) + g(x) s(x)``: a saw-tooth g of height 1/K and slope 1, shaped by s, is added to an
activation function phi. The node value hardly changes (by at most ``s(x)/(2K)``), the derivative grows by
about s(x) wherever s is large: gradient flows where phi alone has none.

Reference: Hahn and Choi, "Gradient Acceleration in Activation Functions", arXiv:1806.09783; the shapes are
those of its Figure 6.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.gaaf.shapes import BASES, COMPLEMENT, MODULES, NAMED, SHAPES, Derivative, Function, derivative_complement
from dropdiag.gaaf.surrogates import Surrogate, surrogate_named

LOW_PRECISION: Final = (torch.bfloat16, torch.float16)


class _SawTooth(torch.autograd.Function):
    """The saw-tooth forward, the identity backward (its slope is 1 almost everywhere)."""

    # A forward-mode rule (jvp) is left out: torch.compile refuses functions that define one.
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

    Examples
    --------
    >>> z = torch.tensor([0.1], requires_grad=True)
    >>> dd.gaaf.saw_tooth(z).backward()
    >>> z.grad
    tensor([1.])
    """
    result: Tensor = _SawTooth.apply(x, k)  # type: ignore[no-untyped-call]
    return result


class _Accelerate(torch.autograd.Function):
    """phi(x) forward; backward its own derivative and s(x) besides."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, _x: Tensor, _s: Tensor) -> Tensor:
        return value.clone()  # torch treats an input that is returned as it is in a way of its own

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 - torch names it
        _, x, s = inputs
        ctx.save_for_backward(s)
        ctx.dtype = x.dtype

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (s,) = ctx.saved_tensors
        return grads[0], (grads[0] * s).to(ctx.dtype), None


_BASES: Final = tuple(BASES.values())
"""Not a view, as Dynamo of torch 2.7 and 2.8 cannot look into one."""


class GAAF(nn.Module):
    """The activation function ``phi(x) + g(x) s(x)`` of Hahn and Choi.

    Its derivative is exactly ``phi'(x) + s(x) + g(x) s'(x)`` at any magnitude of x, and the second derivative
    ``phi''(x) + 2 s'(x) + g(x) s''(x)``; without `exact_forward` (the default in low precision) they are ``phi'(x) +
    s(x)`` and ``phi''(x) + s'(x)``. There is nothing random in it and no parameter.

    Parameters
    ----------
    phi : {"tanh", "sigmoid", "relu", "leaky_relu", "gelu", "silu", "hardtanh"} or callable
        The base activation function; an ``nn.Module`` is registered as the submodule ``base``.
    k : float, default 10,000
        Teeth of the saw in a unit of x: the node value moves by at most ``s(x)/(2 k)``.
    shape : str or callable, optional
        Shape function s: ``"gaussian"``, ``"shifted_sigmoid"``, ``"constant"``, ``"derivative_complement"``
        (``1 - phi'(x)``), or any differentiable function of a tensor; see `dropdiag.gaaf` for their parameters.
        By default Figure 6's for tanh (gaussian) and ReLU (shifted sigmoid), and for the others with a name the
        one of those two that saturates alike. Needed where `phi` is a function without a default shape.
    height, width : float, default 1
        Stretch the shape: ``s(x) = height * shape(x / width)``. `dropdiag.gaaf.fit` sets them. A height of 0 is
        phi alone; a negative one takes derivative away. The attributes may be set at any time.
    exact_forward : bool, optional
        True: the value is ``phi(x) + g(x) s(x)``. False: the value is phi(x), bit for bit, and the derivative
        ``phi'(x) + s(x)``. The two differ by at most ``max|s|/(2 k)`` in value (5e-5 with the defaults) and by
        ``max|s'|/(2 k)`` in derivative. By default True, but False for bfloat16 and float16 net values, where g
        would be lost in rounding: there half a unit in the last place of a value near 1 is 2e-3 and 2e-4. False with
        a `surrogate`.
    surrogate : {"b-silu", "nelu", "straight-through", "keras-port"} or callable, optional
        In the place of a shape: a function psi whose derivative takes the place of phi's, ``s = psi' - phi'``. The
        value is phi(x), bit for bit, and the derivative psi'(x), as an ``autograd.Function`` that multiplies by it
        would give; with another height h it is ``(1 - h) phi'(x) + h psi'(x)``. A function's derivative is taken by
        autograd; see `dropdiag.gaaf.surrogates` for those with a name.

    Attributes
    ----------
    base : callable
        phi. Saturation is judged by *its* derivative: GAAF's own is large everywhere by design.
    shape : callable
        The shape function before `height` and `width`.
    surrogate : Surrogate or None

    Raises
    ------
    ArgumentError
        For an unknown name, a missing shape, a shape or width beside a surrogate, a `k` or `width` that is not a
        positive finite number, or a height that is not finite.

    Notes
    -----
    s(x) and g(x) are computed in float32 (float64 for float64 input), also under autocast, and the sum is rounded
    to the dtype that phi returns. ``state_dict`` holds neither height nor width; pickles and copies do.

    At ±Inf the derivative is that of phi, as torch has it, plus the limit of s (0 of a gaussian, 1 of a shifted
    sigmoid), so it is finite wherever phi's own is; of GELU and SiLU torch's own is NaN there. NaN gives NaN, except
    where neither phi' nor s depends on x.

    Examples
    --------
    >>> activation = dd.GAAF("tanh")
    >>> activation
    GAAF(phi=tanh, k=10000, shape=gaussian)
    """

    surrogate: Surrogate | None = None  # of pickles that were written before there were any

    def __init__(
        self,
        phi: str | Function = "tanh",
        k: float = 10_000,
        shape: str | Function | None = None,
        *,
        height: float = 1.0,
        width: float = 1.0,
        exact_forward: bool | None = None,
        surrogate: str | Function | Surrogate | None = None,
    ) -> None:
        super().__init__()
        if not (isinstance(k, int | float) and math.isfinite(k) and k > 0):
            raise ArgumentError(f"k must be a positive finite number (teeth in a unit of x), got {k!r}")
        if not (isinstance(width, int | float) and math.isfinite(width) and width > 0):
            raise ArgumentError(f"width must be a positive finite number, got {width!r}")
        if not (isinstance(height, int | float) and math.isfinite(height)):
            raise ArgumentError(f"height must be a finite number, got {height!r}")
        self.base = _function("phi", phi, BASES)
        if surrogate is not None and (shape is not None or width != 1):
            raise ArgumentError("a surrogate= is in the place of a shape: give no shape= or width= beside it")
        self.surrogate = None if surrogate is None else surrogate_named(surrogate, self.base)
        self.shape = _shape(shape, phi, self.base) if self.surrogate is None else self.surrogate.added_to(self.base)
        self.k, self.height, self.width, self.exact_forward = k, float(height), float(width), exact_forward

    def s(self, x: Tensor) -> Tensor:
        """Return the shape function, ``height * shape(x / width)``, of `x`; same shape and dtype.

        Far out (from 4e9 in float32), infinities included, it is constant: there a shape has its limits, while the
        slope of its formula is easily 0 times Inf.
        """
        scaled = x if self.width == 1 else x / self.width
        s = self.shape(_not_far(scaled) if x.is_floating_point() else scaled)
        return s if self.height == 1 else self.height * s

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's activations call it so
        """Node values of the net values `input`; same shape, the dtype phi returns."""
        x = input
        exact = self._is_exact(x.dtype)
        # Of a bfloat16 or float16 x, the product x K would have no fraction left.
        wide = x if x.dtype == torch.float64 else x.float()
        if self.surrogate is not None and not exact:
            # What comes of phi goes to the parameters that it may have, and not to x.
            result: Tensor = _Accelerate.apply(self._phi(x.detach()), x, self._slope(wide))  # type: ignore[no-untyped-call]
            return result
        value = self._phi(x)
        if exact:
            return (value + saw_tooth(wide, self.k) * self.s(wide)).to(value.dtype)
        accelerated: Tensor = _Accelerate.apply(value, x, self.s(wide))  # type: ignore[no-untyped-call]
        return accelerated

    def _is_exact(self, dtype: torch.dtype) -> bool:
        if self.exact_forward is None:
            return self.surrogate is None and dtype not in LOW_PRECISION
        return self.exact_forward

    def _phi(self, x: Tensor) -> Tensor:
        # A base of the user's own may work in place, and x is needed again for s. torch's functions need no copy.
        return self.base(x) if self.base in _BASES else self.base(x.clone())

    def _slope(self, x: Tensor) -> Tensor:
        """Return the derivative of a GAAF with a surrogate: psi' itself at height 1, where nothing is rounded twice."""
        assert self.surrogate is not None  # noqa: S101 - it is asked for with one alone
        x = _not_far(x)
        if self.height == 1:
            return self.surrogate.slope(x)
        return (1 - self.height) * Derivative(self.base)(x) + self.height * self.surrogate.slope(x)

    def reference_function(self) -> Function:
        """Return phi: its derivative, not GAAF's own, which is large everywhere, decides where nodes are saturated."""
        base: Function = self.base
        return base

    def reference_is_named(self) -> bool:
        """Whether ``print(model)`` identifies phi, as it does where phi was given by name."""
        return self.base in _BASES

    def extra_repr(self) -> str:
        """Return the arguments, for ``print(model)``."""
        parts = [f"phi={_name(self.base)}"]
        if self.surrogate is None:
            parts += [f"k={self.k}", f"shape={_name(self.shape)}"]
        else:
            parts += [f"surrogate={self.surrogate.name}"]
        parts += [f"{name}={getattr(self, name):.4g}" for name in ("height", "width") if getattr(self, name) != 1]
        parts += [] if self.exact_forward is None else [f"exact_forward={self.exact_forward}"]
        return ", ".join(parts)


def _not_far(x: Tensor) -> Tensor:
    """Return x without what is so far out that its fourth power overflows; NaN stays."""
    largest = torch.finfo(x.dtype).max
    far = largest if x.dtype == torch.float16 else largest**0.25  # of float16 that would be 16, which is not far
    return x.clamp(-far, far)


def _shape(shape: str | Function | None, phi: str | Function, base: Function) -> Function:
    if shape is None:
        name = phi if isinstance(phi, str) else MODULES.get(type(phi))  # type: ignore[arg-type]
        if name is not None:
            return NAMED[name][2]
        raise ArgumentError(
            f"GAAF has no default shape function for phi={_name(phi)}; "
            f"pass shape= as one of {', '.join((*SHAPES, COMPLEMENT))}, or as a function s(x) of a tensor"
        )
    if shape == COMPLEMENT:
        return partial(derivative_complement, derivative=Derivative(base))
    return _function("shape", shape, SHAPES, COMPLEMENT)


def _function(argument: str, given: str | Function, known: dict[str, Function], *more: str) -> Function:
    if isinstance(given, str) and given in known:
        return known[given]
    if isinstance(given, str | type) or not callable(given):
        what = f"the class {given.__name__}, not an instance of it" if isinstance(given, type) else repr(given)
        names = ", ".join((*known, *more))
        raise ArgumentError(f"{argument} must be one of {names}, or a function of a tensor; got {what}")
    return given


def _name(function: object) -> str:
    if isinstance(function, partial):
        settings = [f"{k}={v:g}" for k, v in function.keywords.items() if isinstance(v, (int, float))]
        return f"{_name(function.func)}({', '.join(settings)})" if settings else _name(function.func)
    return getattr(function, "__name__", None) or type(function).__name__
