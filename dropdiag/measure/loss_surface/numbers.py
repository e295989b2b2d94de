"""The numbers of `dropdiag.measure.flatness`, one kind after the other; what cannot be computed has its reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor

from dropdiag.formatting import some
from dropdiag.measure.loss_surface.curvature import Hessian, largest_eigenvalues, trace
from dropdiag.measure.loss_surface.estimates import Named, attempt, mean_and_error, with_error
from dropdiag.measure.loss_surface.landscape import loss_rises, relative_flatness, sharpness
from dropdiag.measure.loss_surface.rows import Weight
from dropdiag.measure.passes.passes import Passes
from dropdiag.measure.passes.state.random_states import derived
from dropdiag.measure.passes.vectors import generator_of
from dropdiag.measure.result import Value
from dropdiag.store.schema import at

_RELATIVE: Final = "relative_flatness"


@dataclass(frozen=True)
class Settings:
    """What `dropdiag.measure.flatness` was asked for."""

    k: int
    trace_samples: int
    sizes: Sequence[float]
    directions: int
    rho: float
    tolerance: float
    seed: int

    def generator(self, of: str) -> torch.Generator:
        """Return random numbers of their own for each kind of number, so that none depends on what else was asked."""
        return generator_of(derived(self.seed, of))


def measured(
    passes: Passes, weights: Sequence[Weight], asked: Settings, unlike: str | None
) -> tuple[float, list[Value]]:
    """Return the loss and all numbers.

    Parameters
    ----------
    passes : Passes
        Ready, with gradients that can be differentiated again.
    weights : sequence of Weight
    asked : Settings
    unlike : str or None
        Why what is made of gradients says nothing here.

    Raises
    ------
    ArgumentError
        If the loss depends on no trainable parameter.
    """
    passes.seed(0)
    loss = passes.loss()
    passes.other_leaves(loss)
    value = float(loss.detach())
    lost = None if math.isfinite(value) else f"the loss is {value}"
    gradient, found = _curvature(passes, loss, weights, asked, lost or unlike)
    del loss  # and with it the graph, which is as large as all that follows
    evaluate = partial(_evaluated, passes)
    first = evaluate()  # again, without a graph: some kernels then give another last digit
    found += _rises(partial(loss_rises, evaluate, first, passes.parameters, weights), weights, asked, lost)
    step = partial(sharpness, evaluate, first, passes.parameters, gradient, asked.rho)
    found += attempt([(at("sam_sharpness", asked.rho), None)], lambda: [step()], lost or unlike)
    return value, found


def _evaluated(passes: Passes) -> float:
    # The same random numbers each time: a network that draws some in evaluation mode is compared with itself.
    passes.seed(0)
    with torch.no_grad():
        return _finite(float(passes.loss()))


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.nan  # Inf - Inf would warn


def _curvature(
    passes: Passes, loss: Tensor, weights: Sequence[Weight], asked: Settings, why: str | None
) -> tuple[list[Tensor], list[Value]]:
    """Return the gradient, and what is made of the Hessian."""
    eigenvalues: list[Named] = [(at("hessian_eigenvalue", i + 1), None) for i in range(asked.k)]
    if why is not None:
        names = [*eigenvalues, *with_error("hessian_trace"), *_relative_names(_between(weights))]
        return [], attempt(names, list, why)
    hessian = Hessian(loss, list(passes.parameters.values()))
    seed = derived(asked.seed, "eigenvalues")
    largest = partial(largest_eigenvalues, hessian, asked.k, tolerance=asked.tolerance, seed=seed)
    sampled = partial(trace, hessian, asked.trace_samples, asked.generator("trace"))
    found = [*attempt(eigenvalues, largest), *attempt(with_error("hessian_trace"), sampled)]
    found += _relative(passes, hessian, weights, asked)
    passes.made(backward=1 + hessian.products)
    return hessian.gradient, found


def _between(weights: Sequence[Weight]) -> list[Weight]:
    """Return the weights between nodes that are known by rows."""
    return [weight for weight in weights if weight.why is None and not weight.table]


def _relative_names(weights: Sequence[Weight]) -> list[Named]:
    return [*with_error(_RELATIVE), *(name for weight in weights for name in with_error(_RELATIVE, weight.layer))]


def _relative(passes: Passes, hessian: Hessian, weights: Sequence[Weight], asked: Settings) -> list[Value]:
    known, unknown = _between(weights), [weight for weight in weights if weight.why is not None]

    def compute() -> list[float]:
        generator = asked.generator("relative flatness")
        each, total = relative_flatness(hessian, passes.parameters, known, asked.trace_samples, generator)
        return [number for estimate in (total, *each) for number in estimate]

    lacking = attempt([(_RELATIVE, None), (f"{_RELATIVE}_se", None)], list, _no_sum(known, unknown))
    parts = [Value(_RELATIVE, None, weight.layer, why=weight.why) for weight in unknown]
    if not known:
        return [*lacking, *parts]
    found = attempt(_relative_names(known), compute)
    return [*(lacking if unknown else found[:2]), *found[2:], *parts]


def _no_sum(known: Sequence[Weight], unknown: Sequence[Weight]) -> str:
    if not known and not unknown:
        return "no layer with trainable weights is known here"
    names = some([weight.layer for weight in unknown], 3)
    return f"it is a sum over all weights, and {names} {'has' if len(unknown) == 1 else 'have'} none"


def _rises(
    measure: Callable[..., list[list[float]]], weights: Sequence[Weight], asked: Settings, why: str | None
) -> list[Value]:
    if why is None and not weights:
        why = "no trainable weight has rows: biases and parameters of norms do not move"
    rises: list[list[float]] = [[] for _ in asked.sizes]
    if why is None:
        generator = asked.generator("directions")
        rises = measure(sizes=asked.sizes, directions=asked.directions, generator=generator)
    return [
        value
        for size, samples in zip(asked.sizes, rises, strict=True)
        for value in attempt(with_error("loss_rise", x=size), partial(mean_and_error, samples), why)
    ]
