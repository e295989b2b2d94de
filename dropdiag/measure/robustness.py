"""How the loss and the accuracy of a network bear noise on its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.measure.loss_surface.estimates import attempt, mean_and_error, with_error
from dropdiag.measure.loss_surface.input_noise import InputNoise
from dropdiag.measure.passes.arguments import check_count, check_sizes
from dropdiag.measure.passes.classes import IGNORED, are_classes, check_classes, logits_of, share_right
from dropdiag.measure.passes.loss import LossFunction
from dropdiag.measure.passes.measurable import inner
from dropdiag.measure.passes.passes import Passes
from dropdiag.measure.passes.state.random_states import derived
from dropdiag.measure.passes.vectors import generator_of
from dropdiag.measure.result import Result, Value
from dropdiag.store.schema import at

NOISE: Final = (0.1, 0.2, 0.5)


@dataclass(frozen=True)
class RobustnessResult(Result):
    """What `robustness` found.

    Attributes
    ----------
    draws : int
        Of the noise, at each size.
    numbers : tuple of Value
        ``noisy_loss@S`` for each size S of the noise, 0 (no noise) first, and ``noisy_loss_se@S``, its standard error
        over draws; the same of ``noisy_accuracy``, where the targets are class numbers.

    Examples
    --------
    >>> dd.measure.robustness(model, x, F.cross_entropy, y, draws=2).draws
    2
    """

    name: ClassVar[str] = "robustness"
    draws: int
    numbers: tuple[Value, ...]

    def values(self) -> Iterator[Value]:
        """Give all numbers, in the order of the table."""
        yield from self.numbers

    def __getitem__(self, quantity: str) -> float | None:
        """Return a number by its quantity; None where it is missing."""
        return {one.quantity: one.value for one in self.numbers}[quantity]


def robustness(
    model: nn.Module,
    batch: object,
    loss_fn: LossFunction | None = None,
    targets: object = None,
    *,
    noise: Sequence[float] = NOISE,
    draws: int = 8,
    output: Callable[[Any], Any] | None = None,
    seed: int = 0,
) -> RobustnessResult:
    """Measure loss and accuracy in evaluation mode under Gaussian noise on the inputs.

    Parameters
    ----------
    model : nn.Module
        It is left as it was.
    batch : Tensor, sequence or mapping
        What the model is called with, or the pair (inputs, targets). Noise is added to all floating-point tensors in
        it but named ones with "mask", "label" or "target" in their name.
    loss_fn : callable, optional
        ``loss_fn(output)`` or ``loss_fn(output, targets)``; by default cross entropy of class numbers.
    targets : object, optional
        Class numbers of shape (N,) give an accuracy beside the loss.
    noise : sequence of float
        Standard deviations, in units of that of each input tensor over all its numbers in the batch.
    draws : int, default 8
        Of the noise, the same for all sizes; at least 2.
    output : callable, optional
        Takes the logits, of shape (N, classes), out of what the model gives; by default that itself, or its ``logits``.
    seed : int, default 0

    Returns
    -------
    RobustnessResult
        A number that could not be computed is None, with the reason.

    Raises
    ------
    ArgumentError
        For arguments out of range, a batch without floating-point inputs (of token numbers, say) or with inputs that
        are all alike, and all that cannot be measured at all.

    Notes
    -----
    Cost: ``1 + draws * noise`` forward passes, no backward pass. Memory: that of evaluation, a copy of the model, and
    two of the inputs.

    How it misleads: the noise knows nothing of what is in the input (pixels that are always 0 get as much as others),
    and a batch that is normalised otherwise has another unit. Loss that is higher without noise is higher with it:
    compare what noise adds.

    Examples
    --------
    >>> found = dd.measure.robustness(model, x, F.cross_entropy, y, draws=2)
    >>> found.table["quantity"].iloc[0]
    'noisy_loss@0'
    """
    check_count("draws", draws, 2)
    check_sizes("noise", noise)
    passes = Passes(model, batch, loss_fn, targets, needs_loss=True)
    added = InputNoise(passes.inputs)
    with passes.ready(seed, evaluation=True):
        scores = _Scores(passes, output)
        found = [*scores.clean()]
        for size in noise:
            found += scores.noisy(added, float(size), draws, seed)
        return RobustnessResult(passes.count, seed, draws, tuple(found))


class _Scores:
    """Loss and accuracy of passes, which draw the same random numbers each time."""

    def __init__(self, passes: Passes, output: Callable[[Any], Any] | None) -> None:
        self._passes, self._output = passes, output
        self._root = inner(passes.model)
        self._classes = passes.classes if are_classes(passes.classes) else None
        self._why: str | None = None

    def clean(self) -> list[Value]:
        """Measure without noise."""
        loss, accuracy = self._pass()
        found = attempt([(at("noisy_loss", 0.0), None)], lambda: mean_and_error([loss])[:1])
        if self._classes is not None:
            found += attempt([(at("noisy_accuracy", 0.0), None)], lambda: [accuracy], self._why)
        return found

    def noisy(self, noise: InputNoise, size: float, draws: int, seed: int) -> list[Value]:
        """Measure under noise of one size."""
        scores = []
        for draw in range(draws):
            on = partial(noise.on, self._root, size, generator_of(derived(seed, "noise", draw)))
            with self._passes.watched(lambda hooks, on=on: hooks.enter_context(on())):  # type: ignore[misc]
                scores.append(self._pass())
        losses, accuracies = zip(*scores, strict=True)
        found = attempt(with_error("noisy_loss", x=size), lambda: mean_and_error(losses))
        if self._classes is not None:
            found += attempt(with_error("noisy_accuracy", x=size), lambda: mean_and_error(accuracies), self._why)
        return found

    def _pass(self) -> tuple[float, float]:
        self._passes.seed(0)
        output = self._passes.forward()
        return float(self._passes.loss_of(output)), self._accuracy(output)

    def _accuracy(self, output: Any) -> float:
        if self._classes is None or self._why is not None:
            return math.nan
        try:
            logits = logits_of(output, self._output)
            check_classes(logits, self._classes)
        except ArgumentError as error:
            self._why = str(error)
            return math.nan
        share = share_right(logits, self._classes)
        if share is None:
            self._why = f"no target counts: all are {IGNORED}"
        return math.nan if share is None else share
