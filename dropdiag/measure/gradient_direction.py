"""Whether dropout makes the gradients of mini-batches point the same way: variance and error of their direction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.measure.directions.directions import Directions
from dropdiag.measure.directions.mini_batches import mini_batches, rows_of, samples_in
from dropdiag.measure.passes.arguments import check_count
from dropdiag.measure.passes.dropouts.kinds import may_mask
from dropdiag.measure.passes.loss import LossFunction
from dropdiag.measure.passes.passes import Passes
from dropdiag.measure.passes.vectors import Vector, filled
from dropdiag.measure.result import Result, Value

ON, OFF = "masks_on", "masks_off"
_NO_DROPOUT: Final = "the model has no dropout that draws masks"
_NO_DIRECTION: Final = "the gradient of a mini-batch is zero or not finite, and has no direction"
_NO_TRUTH: Final = "the gradient of all mini-batches together is zero or not finite, and has no direction"
_LOST: Final = (
    "the estimate of |G|^2 is not above zero: the mini-batches' gradients are lost in their noise; give a larger batch"
)


@dataclass(frozen=True)
class Switched:
    """What was found with masks on, or with masks off.

    Attributes
    ----------
    variance, error, noise_scale : float or None
        See `gradient_direction`; None where there is none.
    trace, square : float or None
        Unbiased estimates of tr(Sigma), of one sample's gradient, and of ``|G|^2``.
    why : tuple of (str, str)
        Which of the first three are missing, and why.
    """

    variance: float | None = None
    error: float | None = None
    noise_scale: float | None = None
    trace: float | None = None
    square: float | None = None
    why: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class GradientDirection(Result):
    """Result of `gradient_direction`.

    Attributes
    ----------
    off, on : Switched
        With masks off and on.
    batches, size, samples : int
        Mini-batches, samples of each, and samples of the batch that was given.
    memory : int
        Bytes that were held beside the model and its gradient.

    Examples
    --------
    >>> found = dd.measure.gradient_direction(model, x, F.cross_entropy, y, batches=4)
    >>> found.batches, found.samples
    (4, 60)
    """

    name: ClassVar[str] = "gradient_direction"
    off: Switched
    on: Switched
    batches: int
    size: int
    samples: int
    memory: int

    def values(self) -> Iterator[Value]:
        """Give all numbers."""
        for quantity, attribute in (
            ("gradient_direction_variance", "variance"),
            ("gradient_direction_error", "error"),
            ("gradient_noise_scale", "noise_scale"),
        ):
            for switch, found in ((ON, self.on), (OFF, self.off)):
                why = dict(found.why).get(attribute)
                yield Value(f"{quantity}_{switch}", getattr(found, attribute), n=float(self.batches), why=why)


def gradient_direction(
    model: Any,
    batch: Any,
    loss_fn: LossFunction | None = None,
    targets: Any = None,
    *,
    batches: int = 8,
    seed: int = 0,
) -> GradientDirection:
    """Measure how far the gradients of mini-batches lie apart, and from the whole batch's, with masks on and off.

    The batch is split by lot into ``K = batches`` mini-batches of one size b; what is left over is not used. Their
    gradients ``g_i``, of all trainable parameters, are taken at the same weights, each with masks of its own where
    masks are on. Only dropouts are switched: everything else stays in the mode it has.

    - *variance of the direction*: the mean of ``(1 - cos(g_i, g_j)) / 2`` over all pairs; 0 where all point the same
      way, 1/2 where they are orthogonal;
    - *error of the direction*: the mean of ``(1 - cos(g_i, g)) / 2``, where g is the mean gradient of the same
      mini-batches with masks off: for a loss that is a mean over samples, the gradient of all their samples;
    - *noise scale*: ``tr(Sigma) / |G|^2``, in samples, of the covariance Sigma of one sample's gradient and the
      expected gradient G, by the unbiased estimates ``b s^2`` and ``|mean g_i|^2 - s^2 / K``, where
      ``s^2 = sum |g_i - mean|^2 / (K - 1)``. With masks on, their variance is part of Sigma.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    batch : Tensor, sequence or mapping
        What the model is called with; where the loss takes targets and none are given, the pair (inputs, targets). The
        first dimension of each tensor counts samples.
    loss_fn : callable, optional
        ``loss_fn(output)`` or ``loss_fn(output, targets)``; by default cross entropy, where the targets are class
        numbers. A mean over samples is meant; a sum gives the same numbers.
    targets : Tensor, optional
    batches : int
        Mini-batches, at least 2.
    seed : int
        Of the split and of the masks.

    Returns
    -------
    GradientDirection
        Rows with masks on are missing for a model without dropout; a noise scale is missing where the estimate of
        ``|G|^2`` is not above zero.

    Raises
    ------
    ArgumentError
        Before anything runs, for a batch that cannot be split so, and as `Passes`.

    Notes
    -----
    Cost: 2 K forward and 2 K backward passes of a mini-batch (half of that without dropout). Memory: three vectors of
    float64 as long as the trainable parameters, and their gradient, whatever K is: of the pairs' cosines only their
    sum is needed, which is that of the square of the sum of unit gradients. Nothing is projected or left out.

    All three depend on b: compare them at the same size of mini-batches. The error also depends on K, as each ``g_i``
    is part of g. The ratio of two unbiased estimates is not unbiased itself: with few mini-batches the noise scale of
    noisy gradients is uncertain. Batch norm in training mode makes samples of a mini-batch depend on each other, and
    Sigma then is no property of a sample.

    References
    ----------
    Z. Liu, Z. Xu, J. Jin, Z. Shen, T. Darrell, Dropout Reduces Underfitting, ICML 2023, arXiv:2303.01500 (direction);
    S. McCandlish, J. Kaplan, D. Amodei, OpenAI Dota Team, An Empirical Model of Large-Batch Training, 2018,
    arXiv:1812.06162, appendix A.1 (noise scale).

    Examples
    --------
    >>> found = dd.measure.gradient_direction(model, x, targets=y, batches=4)
    >>> found.batches, found.samples
    (4, 60)
    """
    check_count("batches", batches, least=2)
    passes = Passes(model, batch, loss_fn, targets, needs_loss=True)
    samples = samples_in(passes.inputs, passes.targets)
    parts = list(mini_batches(samples, batches, seed))
    with passes.ready(seed, gradients=True, norms="given"):
        memory = 3 * sum(8 * parameter.numel() for parameter in passes.parameters.values())
        off, _ = _directions(passes, parts, on=False)
        truth, found = off.mean, _found(off, off.mean, len(parts[0]))
        masks = any(may_mask(site) for site in passes.dropouts)
        on, drawn = _directions(passes, parts, on=True) if masks else (None, False)
    with_masks = _found(on, truth, len(parts[0])) if on is not None and drawn else _missing(_NO_DROPOUT)
    return GradientDirection(passes.count, seed, found, with_masks, batches, len(parts[0]), samples, memory)


def _directions(passes: Passes, parts: Sequence[list[int]], *, on: bool) -> tuple[Directions, bool]:
    """Return sums over the gradients of mini-batches, and whether masks were drawn."""
    directions = Directions()
    with passes.switched(on) as switches:
        for k, rows in enumerate(parts):
            passes.seed(k)
            directions.add(_gradient(passes, rows))
    return directions, switches is not None and bool(switches.drawn)


def _gradient(passes: Passes, rows: list[int]) -> list[Tensor]:
    """Return the gradient of some samples' loss; zeros for a parameter that it does not depend on."""
    return filled(passes.backward(_loss(passes, rows)), list(passes.parameters.values()))


def _loss(passes: Passes, rows: list[int]) -> Tensor:
    try:
        return passes.loss(partial(rows_of, rows=rows))
    except (ArgumentError, torch.OutOfMemoryError):
        raise
    except (IndexError, RuntimeError, ValueError) as error:
        raise ArgumentError(
            f"the model cannot be run on {len(rows)} samples of the batch, which are taken from the first dimension of "
            f"each tensor in it: {error}; give a batch whose parts are batches"
        ) from error


def _found(directions: Directions, truth: Vector, size: int) -> Switched:
    variance, error = directions.variance, directions.error(truth)
    trace, square = directions.noise()
    why = []
    if variance is None:
        why += [("variance", _NO_DIRECTION), ("error", _NO_DIRECTION)]
    elif error is None:
        why.append(("error", _NO_TRUTH))
    if not math.isfinite(trace) or not square > 0:
        why.append(("noise_scale", _LOST if math.isfinite(trace) else _NO_DIRECTION))
        scale = None
    else:
        scale = size * trace / square
    return Switched(variance, error, scale, size * trace, square, tuple(why))


def _missing(why: str) -> Switched:
    return Switched(why=tuple((name, why) for name in ("variance", "error", "noise_scale")))
