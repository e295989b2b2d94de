"""Activation functions: which modules are one, their derivative on the grid, their saturation area."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dropdiag.histograms.grid import bin_magnitude_edges, line_centres
from dropdiag.store.memory import check_for_thread

Phi: TypeAlias = Callable[[Tensor], Tensor]
Interval: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float64]
Saturated: TypeAlias = Callable[[Floats], NDArray[np.bool_]]

EPS: Final = 0.1
"""A net value is saturated where |phi'| <= EPS * sup|phi'|."""

ZERO: Final = 2.0**-53
"""A derivative is taken for 0 where |phi'| <= ZERO * sup|phi'|."""

EVERYWHERE: Final[Interval] = (-math.inf, math.inf)
PARTS: Final = (8, 64)
SHORTEST: Final = 4
"""The saturation area is known where each of its intervals, and each gap, holds so many points, of `PARTS` a bin."""

_TINY: Final = 2.0**-126
_UNKNOWN: Final = object()
_LIBRARIES: Final = ("timm.layers.activations", "transformers.activations")
"""Modules whose classes without parameters are elementwise activations."""


def own_forward(module: nn.Module) -> Phi:
    """Return the module's own forward in float64 and evaluation mode, without its hooks."""
    forward: Phi = copy.deepcopy(module).eval().to(device="cpu", dtype=torch.float64).forward
    return forward


@runtime_checkable
class HasReference(Protocol):
    """An activation module whose saturation is judged by another function, as GAAF's is by its base function."""

    def reference_function(self) -> Phi | nn.Module:
        """Return the function whose derivative decides where the module is saturated."""
        ...

    def reference_is_named(self) -> bool:
        """Whether `activation_name` of the module identifies that function."""
        ...


def _has_reference(module: object) -> TypeGuard[HasReference]:
    # isinstance() on a protocol takes longer than all other questions that the survey asks of a module.
    return hasattr(type(module), "reference_function")


def _reference(module: nn.Module) -> Phi | None:
    if not _has_reference(module):
        return None
    function = module.reference_function()
    if not isinstance(function, nn.Module):
        return function
    entry = _entry(function)
    return entry(function) if callable(entry) else None if entry is None else own_forward(function)


# fmt: off
TORCH_ACTIVATIONS: Final[dict[type[nn.Module], str | None]] = {
    nn.CELU: "celu", nn.ELU: "elu", nn.GELU: "gelu", nn.GLU: None, nn.Hardshrink: "hardshrink",
    nn.Hardsigmoid: "hardsigmoid", nn.Hardswish: "hardswish", nn.Hardtanh: "hardtanh", nn.LeakyReLU: "leaky_relu",
    nn.LogSigmoid: "logsigmoid", nn.Mish: "mish", nn.PReLU: "prelu", nn.ReLU: "relu", nn.ReLU6: "relu6",
    nn.RReLU: "rrelu", nn.SELU: "selu", nn.SiLU: "silu", nn.Sigmoid: "sigmoid", nn.Softplus: "softplus",
    nn.Softshrink: "softshrink", nn.Softsign: "softsign", nn.Tanh: "tanh", nn.Tanhshrink: "tanhshrink",
    nn.Threshold: "threshold",
}
# fmt: on
"""torch's activation modules, and the function of each that is recorded where a forward method calls it."""

MIXING: Final = (nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax)
MIXES: Final = "each of its node values depends on several net values (softmax): it is listed, not measured"
"""Activation modules that are not elementwise, and why nothing of them is recorded."""

_KNOWN: dict[type[nn.Module], Callable[[nn.Module], Phi | None] | None] = {
    **dict.fromkeys(TORCH_ACTIVATIONS, own_forward),
    nn.GLU: lambda _: torch.sigmoid,  # of its gate
    nn.PReLU: None,  # its derivative is learned, so its saturation area is not fixed
    nn.RReLU: None,  # its slope is drawn anew for each value in training
}


def register_module(module_type: type[nn.Module], base: Callable[[nn.Module], Phi] | None) -> None:
    """Register a module class as an activation (see `dropdiag.register_activation`)."""
    _KNOWN[module_type] = base


def is_activation(module: nn.Module) -> bool:
    """Whether a module is a known elementwise activation, a subclass of one, or one of a library's own."""
    return _entry(module) is not _UNKNOWN


def _entry(module: nn.Module) -> Callable[[nn.Module], Phi | None] | object | None:
    for cls in type(module).__mro__:  # the nearest base class wins, so that a user's own entry is found first
        if cls in _KNOWN:
            return _KNOWN[cls]
    if _has_reference(module):
        return _reference
    of_library = type(module).__module__.startswith(_LIBRARIES)
    return own_forward if of_library and not list(module.parameters()) else _UNKNOWN


def is_identified_by_name(module: nn.Module) -> bool:
    """Whether `activation_name` identifies the function, as it does for classes of torch and of known libraries."""
    if _has_reference(module):
        return module.reference_is_named()
    return type(module).__module__.startswith(("torch.nn", *_LIBRARIES))


def activation_name(module: nn.Module) -> str:
    """Return the activation's name with its settings, e.g. ``LeakyReLU(negative_slope=0.01)``.

    Two modules of one name are the same function; ``inplace`` does not count.
    """
    settings = [s for s in module.extra_repr().split(", ") if s and not s.startswith("inplace")]
    return f"{type(module).__name__}({', '.join(settings)})" if settings else type(module).__name__


@dataclass(frozen=True, eq=False)  # an array has no plain answer to ``==``, and no hash
class Activation:
    """An activation function as far as saturation is concerned.

    Attributes
    ----------
    name : str
        From `activation_name`.
    sup : float
        sup |phi'|, found on the grid and refined.
    left, right : tuple of (low, high)
        The saturation area { z : |phi'(z)| <= EPS * sup } as closed intervals, below and above the net value
        where |phi'| is largest (for ReLU all of it is left). Borders are exact to float64.
    derivative : ndarray of float64, shape (32640,)
        |phi'| at the centre of every finite bin, in order of the real line; at 0 for the two bins of zero, which
        hold exact zeros. NaN where a bin is too wide for the function: see `known`.
    known : (low, high)
        The range in which the saturation area is known; all finite numbers for most functions. One that oscillates
        (a sine) has infinitely many intervals: far out they are narrower than any grid.
    flat : tuple of (low, high)
        Where phi has no slope: { z : |phi'(z)| <= `ZERO` * sup } as closed intervals. For ReLU that is z <= 0; a smooth
        function's derivative is below what float64 can tell from 0 beside its supremum (tanh: |z| > 19).
    """

    name: str
    sup: float
    left: tuple[Interval, ...]
    right: tuple[Interval, ...]
    derivative: Floats
    known: Interval = EVERYWHERE
    flat: tuple[Interval, ...] = ()


def describe(module: nn.Module) -> Activation | None:
    """Measure an activation's derivative.

    Parameters
    ----------
    module : nn.Module
        A known activation. Not changed; its hooks do not fire.

    Returns
    -------
    Activation or None
        None where saturation has no meaning: the derivative is not fixed, zero everywhere, or has no largest value.
    """
    phi = phi_of(module)
    return None if phi is None else describe_function(activation_name(module), phi)


def phi_of(module: nn.Module) -> Phi | None:
    """Return the function of a known activation, GAAF's base, on float64 tensors; None where it is not fixed."""
    base = _entry(module)
    return base(module) if callable(base) else None


def describe_function(name: str, phi: Phi) -> Activation | None:
    """Measure the derivative of an elementwise function.

    Parameters
    ----------
    name : str
    phi : callable
        Of one float64 tensor on the CPU.

    Returns
    -------
    Activation or None
        None where the derivative is zero everywhere, or largest where it oscillates too fast to be known.
    """
    # Called in the middle of a user's forward pass: autocast, a checkpoint's saved-tensor hooks, a default device and
    # function modes all belong to their thread, so a thread of its own neither sees them nor is seen by them.
    check_for_thread()
    with ThreadPoolExecutor(max_workers=1) as apart:
        return apart.submit(_measure, name, phi).result()


def _measure(name: str, phi: Phi) -> Activation | None:
    slope = partial(_abs_slope, phi)
    edges = bin_magnitude_edges()[:-1]
    line = np.concatenate([-edges[:0:-1], edges])
    at_edges = slope(line)
    peak, sup = _supremum(slope, line, at_edges)
    if not sup > 0:
        return None
    saturated: Saturated = lambda z: slope(z) <= EPS * sup  # noqa: E731 - it says what _areas and _known take
    flat: Saturated = lambda z: slope(z) <= ZERO * sup  # noqa: E731 - as above
    known = _known(saturated, line)
    searched, derivative = line, slope(_line_points())
    if known != EVERYWHERE:
        searched = _between(line[_is_within(line, known)], PARTS[1])  # no border lies unseen between two of these
        peak, highest = _supremum(slope, searched, slope(searched))
        if highest < sup * (1 - 1e-9):
            return None
        # The bins' centres are further apart: between two of them a fast function may go up and down.
        derivative[~_is_within(_line_points(), _known_beside(saturated, line, 1))] = np.nan
    areas = _areas(saturated, searched, saturated(searched))
    return Activation(
        name=name,
        sup=sup,
        left=tuple(a for a in areas if a[0] < peak),
        right=tuple(a for a in areas if a[0] >= peak),
        derivative=derivative,
        known=known,
        flat=tuple(_areas(flat, searched, flat(searched))),
    )


def _known(saturated: Saturated, line: Floats) -> Interval:
    """Return the range in which the saturation area is known; a finer grid is tried only where one has to be."""
    known = _known_beside(saturated, line, PARTS[0])
    return known if known == EVERYWHERE else _known_beside(saturated, line, PARTS[1])


def _known_beside(saturated: Saturated, line: Floats, parts: int) -> Interval:
    """Return the range about 0 in which the saturation area changes slowly beside a grid of `parts` points a bin."""
    points = _between(line, parts)
    state = saturated(points)
    turns = np.flatnonzero(state[1:] != state[:-1]) + 1
    starts, ends = turns[:-1], turns[1:]  # of the stretches in one state, but for the two that reach to infinity
    zero = int(np.searchsorted(points, 0.0))
    # At 0 itself the derivative may be one of its own: abs has 0 there.
    narrow = (ends - starts < SHORTEST) & ~((starts <= zero) & (zero < ends))
    below, above = ends[narrow & (ends <= zero)], starts[narrow & (starts > zero)]
    return (
        float(points[below[-1]]) if below.size else -math.inf,
        float(points[above[0] - 1]) if above.size else math.inf,
    )


def _is_within(line: Floats, interval: Interval) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (line >= interval[0]) & (line <= interval[1])
    return inside


def _between(line: Floats, parts: int) -> Floats:
    """Return the points of a line with others between them, `parts` for each."""
    points: Floats = (line[:-1, None] + np.diff(line)[:, None] * np.arange(parts) / parts).ravel()
    return points


def _line_points() -> Floats:
    points = line_centres()
    # The two bins of zero hold exact zeros (and magnitudes that count as zero), not values near their centres.
    points[np.abs(points) < 2.0**-132] = 0.0
    return points


def _abs_slope(phi: Phi, z: Floats) -> Floats:
    absolute: Floats = slope_at(phi, torch.from_numpy(z)).abs().numpy()
    return absolute


def slope_at(phi: Phi, z: Tensor) -> Tensor:
    """Return phi' at net values, of any elementwise function that autograd can differentiate; same shape and dtype."""
    with torch.inference_mode(False), torch.enable_grad():
        x = z.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(phi(x.clone()).sum(), x)  # a copy: phi may work in place
    return gradient


def _supremum(slope: Callable[[Floats], Floats], line: Floats, at_edges: Floats) -> tuple[float, float]:
    """Return the first place where |phi'| is largest, and its supremum, refined between the neighbouring edges."""
    finite = np.nan_to_num(at_edges, nan=0.0, posinf=0.0)
    best = int(finite.argmax())
    sup = float(finite[best])
    low, high = line[max(best - 1, 0)], line[min(best + 1, len(line) - 1)]
    for _ in range(4):
        fine = np.linspace(low, high, 1001)
        values = np.nan_to_num(slope(fine), nan=0.0, posinf=0.0)
        top = int(values.argmax())
        sup = max(sup, float(values[top]))
        low, high = fine[max(top - 1, 0)], fine[min(top + 1, 1000)]
    # The first of equals, to rounding: for ReLU all of z > 0 has the largest derivative.
    peak = line[np.flatnonzero(finite >= finite.max() * (1 - 1e-9))[0]]
    return float(peak), sup


def _areas(saturated: Saturated, line: Floats, at_edges: NDArray[np.bool_]) -> list[Interval]:
    """Return the maximal intervals where ``saturated`` holds, with borders bisected between grid edges."""
    turns = np.flatnonzero(at_edges[1:] != at_edges[:-1])
    low, high = line[turns].copy(), line[turns + 1].copy()
    starts_saturated = at_edges[turns]
    for _ in range(1100):  # float64 has at most 2098 halvings; usual borders need about 60
        middle = low + (high - low) / 2
        tiny = np.maximum(np.abs(low), np.abs(high)) < _TINY  # a border in between is taken for 0
        if np.all((middle <= low) | (middle >= high) | tiny):
            break
        same = saturated(middle) == starts_saturated
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    borders = np.where(starts_saturated, low, high)
    borders = np.where(np.abs(borders) < _TINY, 0.0, borders)
    marks = [-np.inf] if at_edges[0] else []
    marks += borders.tolist()
    marks += [np.inf] if at_edges[-1] else []
    return list(zip(marks[::2], marks[1::2], strict=True))
