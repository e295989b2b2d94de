"""The Hessian of a loss in the parameters, by its products with vectors: eigenvalues and trace.

A product is one more backward pass, through the graph of the gradient (Pearlmutter 1994); no matrix is ever made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from dropdiag.measure.loss_surface.estimates import NoValueError, mean_and_error
from dropdiag.measure.passes.leaves import leaves
from dropdiag.measure.passes.vectors import Floats, by_backward, dot, filled, flat, parted, signs

RESTARTS: Final = 100
"""So often eigsh may begin anew, each time with about twenty products."""
TRUSTED: Final = 0.01
"""An eigenvalue whose residual ``|Hv - xv|`` is more than so much of the largest one is not given: rounding decides."""


class Hessian:
    """The Hessian of a loss at the parameters as they are.

    Parameters
    ----------
    loss : Tensor
        A scalar with its graph; parameters that it does not depend on have zeros in their rows.
    parameters : sequence of Tensor
        Without gradients of their own (``.grad``).

    Attributes
    ----------
    gradient : list of Tensor
        Of the loss, one tensor a parameter, without a graph.
    size : int
        Number of parameters.
    products : int
        How many were made: backward passes through the graph of the gradient.

    Notes
    -----
    The graph of the gradient is kept as long as this object: twice to three times the memory of a training step.
    """

    def __init__(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.size = sum(p.numel() for p in self.parameters)
        self.products = 0
        self._unknown = custom_function(loss)
        # by a backward pass, in the way that a reentrant checkpoint allows
        found = (
            by_backward(loss, self.parameters, leaves(loss), keep_graph=True)
            if self._unknown
            else _with_graph(loss, self.parameters)
        )
        self._graphs = [(i, g) for i, g in enumerate(found) if g is not None and g.requires_grad]
        self.gradient = filled(found, self.parameters)

    def times(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Return the product with a vector that has one tensor a parameter.

        Raises
        ------
        NoValueError
            Where an operation of the network has no second derivative, or may have none.
        """
        if self._unknown is not None:
            raise NoValueError(_why_not(self._unknown))
        self.products += 1
        if not self._graphs:  # the gradient depends on no parameter
            return filled([None] * len(self.parameters), self.parameters)
        gradients, parts = [g for _, g in self._graphs], [vector[i] for i, _ in self._graphs]
        try:
            found = torch.autograd.grad(gradients, self.parameters, parts, retain_graph=True, allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of the first derivative there was none: it is of the second
            raise NoValueError(f"the network has no second derivative here: {_first_sentence(error)}") from error
        return filled(found, self.parameters)

    def times_flat(self, vector: Floats) -> Floats:
        """Return the product with a vector of float64 that has all parameters in one row."""
        product = flat(self.times(parted(vector, self.parameters)))
        if not np.isfinite(product).all():
            raise NoValueError("the product of the Hessian with a vector is not finite")
        return product


def custom_function(loss: Tensor) -> str | None:
    """Return the name of a `torch.autograd.Function` in a tensor's graph that is written in Python, None without one.

    Its backward pass may be no derivative (a straight-through estimator), or hide from autograd what it depends on:
    the gradient of the gradient is then wrong, without an error.
    """
    waiting: list[Any] = [loss.grad_fn]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, BackwardCFunction):
            return type(node).__name__.removesuffix("Backward")
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
    return None


def _why_not(function: str) -> str:
    if function == "CheckpointFunction":
        return (
            "torch.utils.checkpoint has no second derivative where it is reentrant: give it use_reentrant=False, or "
            "switch checkpointing off for the measurement"
        )
    return (
        f"the loss depends on {function}, an autograd.Function of somebody's own: its backward pass need not have the "
        "derivative that the second derivative is made of"
    )


def _with_graph(loss: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
    return torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)


def _first_sentence(error: RuntimeError) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0].rstrip(".") if lines else type(error).__name__


def largest_eigenvalues(hessian: Hessian, k: int, *, tolerance: float, seed: int) -> list[float]:
    """Return the k algebraically largest eigenvalues, largest first.

    Parameters
    ----------
    hessian : Hessian
    k : int
        Less than the number of parameters.
    tolerance : float
        Of ARPACK, relative to each eigenvalue; each is also checked by one product more.
    seed : int
        Of the vector that the iteration starts from.

    Raises
    ------
    NoValueError
        If the iteration does not converge, or rounding leaves an eigenvalue uncertain by more than `TRUSTED` of the
        largest.

    Notes
    -----
    Memory outside of torch: ``8 max(20, 2k + 1)`` bytes a parameter.
    """
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh  # noqa: PLC0415 - a Recorder needs no SciPy

    start = np.random.default_rng(seed).standard_normal(hessian.size)
    usual = float(np.linalg.norm(hessian.times_flat(start)) / np.linalg.norm(start))
    if usual == 0.0:
        return [0.0] * k  # no start leads anywhere: all of the Hessian is 0
    operator = LinearOperator((hessian.size, hessian.size), matvec=_of_column(hessian), dtype=np.float64)
    # ARPACK begins anew at random where it finds a space that H maps onto itself; older SciPy has no choice of how.
    rng = {"rng": np.random.default_rng(seed)} if "rng" in inspect.signature(eigsh).parameters else {}
    try:
        values, vectors = eigsh(operator, k, which="LA", v0=start, tol=tolerance, maxiter=RESTARTS, **rng)
    except ArpackNoConvergence as error:
        raise NoValueError(
            f"eigsh found {len(error.eigenvalues)} of {k} eigenvalues to a tolerance of {tolerance:g} in "
            f"{hessian.products} products: ask for fewer, or allow more with tolerance="
        ) from error
    except ArpackError as error:
        raise NoValueError(f"eigsh failed: {error}") from error
    _check(hessian, values, vectors, usual)
    return [float(x) for x in values[::-1]]


def _of_column(hessian: Hessian) -> Callable[[Any], Floats]:
    return lambda column: hessian.times_flat(np.asarray(column, dtype=np.float64).reshape(-1))


def _check(hessian: Hessian, values: Floats, vectors: Floats, usual: float) -> None:
    # A symmetric matrix has an eigenvalue within |Hv - xv| of x (for |v| = 1), however v was found.
    apart = [np.linalg.norm(hessian.times_flat(v) - x * v) for x, v in zip(values, vectors.T, strict=True)]
    scale = max(np.abs(values).max(), usual)  # the largest may be 0, where all others are negative
    if max(apart) > TRUSTED * scale:
        raise NoValueError(
            f"an eigenvalue is uncertain by {max(apart):.2g}, where the largest is {values.max():.2g}: lower "
            "tolerance=, or measure in float64"
        )


def trace(hessian: Hessian, samples: int, generator: torch.Generator) -> tuple[float, float]:
    """Estimate the trace, ``E v'Hv`` over Rademacher vectors (Hutchinson 1989), with its standard error."""
    drawn = (signs(hessian.parameters, generator) for _ in range(samples))
    return mean_and_error([dot(v, hessian.times(v)) for v in drawn])
