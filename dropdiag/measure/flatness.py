"""How flat the loss is around a network's weights: curvature, and how far it rises at some distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.formatting import some
from dropdiag.functional.replaced import replaced_functions
from dropdiag.measure.loss_surface.numbers import Settings, measured
from dropdiag.measure.loss_surface.rows import weights
from dropdiag.measure.passes.arguments import check_count, check_positive, check_sizes
from dropdiag.measure.passes.loss import LossFunction
from dropdiag.measure.passes.measurable import inner
from dropdiag.measure.passes.passes import Passes
from dropdiag.measure.result import Result, Value
from dropdiag.model.activations import HasReference
from dropdiag.model.names import ROOT, named_modules

SIZES: Final = (0.05, 0.1, 0.2, 0.5)
LOW_PRECISION: Final = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class FlatnessResult(Result):
    """What `flatness` found.

    Attributes
    ----------
    loss : float
        Of the batch in evaluation mode, at the weights as they are.
    numbers : tuple of Value
        ``hessian_eigenvalue@1`` (the largest) to ``@k``, ``hessian_trace``, ``relative_flatness`` (of the network, and
        of each layer of weights), ``loss_rise@SIZE``, ``sam_sharpness@RHO``; those that are estimates with their
        standard error under ``_se``.

    Examples
    --------
    >>> found = dd.measure.flatness(model, x, F.cross_entropy, y, trace_samples=4)
    >>> "hessian_trace" in set(found.table["quantity"])
    True
    """

    name: ClassVar[str] = "flatness"
    loss: float
    numbers: tuple[Value, ...]

    def values(self) -> Iterator[Value]:
        """Give all numbers, in the order of the table."""
        yield from self.numbers

    def __getitem__(self, quantity: str) -> float | None:
        """Return a number of the network by its quantity; None where it is missing."""
        return {one.quantity: one.value for one in self.numbers if one.layer is None}[quantity]


def flatness(
    model: nn.Module,
    batch: object,
    loss_fn: LossFunction | None = None,
    targets: object = None,
    *,
    k: int = 1,
    trace_samples: int = 32,
    sizes: Sequence[float] = SIZES,
    directions: int = 5,
    rho: float = 0.05,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> FlatnessResult:
    """Measure how flat the loss of a batch is around the weights, in evaluation mode.

    Parameters
    ----------
    model : nn.Module
        In float32 or float64; it is left as it was. All its trainable parameters are moved together.
    batch : Tensor, sequence or mapping
        What the model is called with, or the pair (inputs, targets).
    loss_fn : callable, optional
        ``loss_fn(output)`` or ``loss_fn(output, targets)``; by default cross entropy of class numbers.
    targets : object, optional
    k : int, default 1
        How many of the largest eigenvalues of the Hessian: fewer than there are parameters.
    trace_samples : int, default 32
        Random vectors for the trace, and as many for the relative flatness; at least 2.
    sizes : sequence of float
        Of steps along filter-normalised directions: 0.1 moves each row of weights by a tenth of its length.
    directions : int, default 5
        Random ones, at least 2; steps are made along each and the other way.
    rho : float, default 0.05
        Length of the step of the SAM sharpness, in the Euclidean norm over all trainable parameters.
    tolerance : float, default 1e-4
        Relative tolerance of the eigenvalues.
    seed : int, default 0

    Returns
    -------
    FlatnessResult
        A number that could not be computed is None, with the reason: an iteration that does not converge, an operation
        without second derivative, an activation whose derivative is not that of its values (GAAF), a weight that is
        made of others.

    Raises
    ------
    ArgumentError
        For arguments out of range, half-precision parameters, and all that cannot be measured at all.

    Notes
    -----
    Cost: ``3 + 2 * directions * sizes`` forward passes; one backward pass for the gradient and one through the graph
    of the gradient (about twice as long) for each product with the Hessian: ``2 * trace_samples``, and some 20 to 100
    for the eigenvalues. The result says how many there were.

    Memory: the graph of the gradient (two to three times that of a training step), four vectors of the size of all
    parameters beside the model's copy, and ``8 * max(20, 2k + 1)`` bytes a parameter on the CPU for the eigenvalues:
    of a network of 100 million parameters that is 16 GB.

    How it misleads: eigenvalues, trace and SAM sharpness depend on the scale of the weights, which a network of ReLU
    may change without changing its function (Dinh et al. 2017); relative flatness does not. All are of this batch and
    of the network without masks: not of the loss that dropout trains on. ReLU's kinks have no part in a Hessian.

    References
    ----------
    Hutchinson 1989 (trace); Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets" (filter-normalised
    directions: biases and parameters of norms stay); Foret et al. 2021, "Sharpness-Aware Minimization"; Petzka et al.
    2021, "Relative Flatness and Generalization".

    Examples
    --------
    >>> found = dd.measure.flatness(model, x, F.cross_entropy, y, trace_samples=4)
    >>> found.loss > 0
    True
    """
    _check_counts(k, trace_samples, directions)
    _check_sizes(sizes, rho, tolerance)
    passes = Passes(model, batch, loss_fn, targets, needs_loss=True)
    root = inner(passes.model)
    trainable = {name: p for name, p in root.named_parameters() if p.requires_grad}
    _check_parameters(list(trainable.values()), k)
    known, unlike = weights(root, trainable), _not_its_derivative(root)
    autocast = _full_precision({p.device.type for p in trainable.values()})
    asked = Settings(k, trace_samples, [float(x) for x in sizes], directions, float(rho), tolerance, seed)
    with passes.ready(seed, evaluation=True, double_backward=True), autocast:
        loss, numbers = measured(passes, known, asked, unlike)
        return FlatnessResult(passes.count, seed, loss, tuple(numbers))


def _check_counts(k: int, samples: int, directions: int) -> None:
    check_count("k", k)
    check_count("trace_samples", samples, 2)
    check_count("directions", directions, 2)


def _check_sizes(sizes: Sequence[float], rho: float, tolerance: float) -> None:
    check_sizes("sizes", sizes)
    check_positive("rho", rho)
    check_positive("tolerance", tolerance)
    if tolerance >= 1.0:
        raise ArgumentError(f"tolerance is relative to the eigenvalues and below 1, got {tolerance!r}")


def _check_parameters(trainable: Sequence[Tensor], k: int) -> None:
    low = {str(p.dtype) for p in trainable if p.dtype in LOW_PRECISION}
    if low:
        raise ArgumentError(
            f"the model has parameters of {', '.join(sorted(low))}, which round off what curvature is made of: measure "
            "copy.deepcopy(model).float()"
        )
    if any(p.is_complex() for p in trainable):
        raise ArgumentError("the model has complex parameters, of which no Hessian is made: freeze them for this")
    size = sum(p.numel() for p in trainable)
    if 0 < size <= k:
        raise ArgumentError(f"k must be less than the number of trainable parameters, {size}; got {k}")


def _not_its_derivative(model: nn.Module) -> str | None:
    """Say which activations have a derivative that is not that of their values, as GAAF has; None without any."""
    names = [name or ROOT for name, module in named_modules(model) if isinstance(module, HasReference)]
    names += replaced_functions(model)
    if not names:
        return None
    return (
        f"{some(names, 3)} {'has' if len(names) == 1 else 'have'} a gradient that the loss does not follow over any "
        "distance (GAAF's is that of its saw-tooth): what is made of gradients cannot be compared"
    )


@contextmanager
def _full_precision(devices: set[str]) -> Iterator[None]:
    """Switch off autocast, under which no second derivative is good for anything."""
    with ExitStack() as stack:
        for device in devices:
            stack.enter_context(torch.autocast(device, enabled=False))
        yield
