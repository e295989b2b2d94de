"""Means of predicted distributions over masks, one mask after another, and how good a distribution is.

Everything is in float64 and on the logarithms of probabilities, so that what is summed over thousands of masks keeps
its digits, and memory does not grow with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.classes import AMBIGUOUS, IGNORED

ROUNDING: Final = 1e-12
"""What is never below 0 is taken for 0 where it is no further below it."""
BINS: Final = 15
"""Equal bins of confidence from 0 to 1, as in Guo et al. 2017."""


def cases_of(logits: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return log-probabilities case by case, and the class of each.

    Parameters
    ----------
    logits : Tensor, shape (samples, classes), (samples, classes, ...) or (samples, ..., classes)
        Of more than two dimensions the targets' shape says where the classes are.
    targets : Tensor of whole numbers or None
        Cases of class -100 are left out.

    Returns
    -------
    log_p : Tensor of float64, shape (cases, classes)
    y : Tensor of int64, shape (cases,), or None

    Raises
    ------
    ArgumentError
        Where the classes cannot be told, there are fewer than two, or targets do not fit.
    """
    rows = _classes_last(logits.detach(), targets)
    rows = rows.reshape(-1, rows.shape[-1])
    if rows.shape[-1] < 2 or not len(rows):
        raise ArgumentError(
            f"the output of shape {tuple(logits.shape)} is no logits of two classes or more: give output= a function "
            "that makes logits of shape (samples, classes) of what the model gives"
        )
    log_p = (rows.cpu() if rows.device.type == "mps" else rows).to(torch.float64).log_softmax(-1)
    if targets is None:
        return log_p, None
    y = targets.to(log_p.device).reshape(-1).long()
    known = y != IGNORED
    if known.any() and not (int(y[known].min()) >= 0 and int(y[known].max()) < log_p.shape[-1]):
        raise ArgumentError(
            f"targets are class numbers from 0 to {log_p.shape[-1] - 1} here, got others: those to be left out are "
            f"{IGNORED}"
        )
    if not known.any():
        raise ArgumentError(f"all targets are {IGNORED}, the class that is left out")
    return log_p[known], y[known]


def _classes_last(logits: Tensor, targets: Tensor | None) -> Tensor:
    if logits.ndim == 2 and (targets is None or targets.shape == logits.shape[:1]):
        return logits
    if targets is not None and logits.ndim > 2:
        if targets.shape == logits.shape[:-1] == (logits.shape[0], *logits.shape[2:]):
            raise ArgumentError(AMBIGUOUS)
        if targets.shape == logits.shape[:-1]:
            return logits
        if targets.shape == (logits.shape[0], *logits.shape[2:]):
            return logits.movedim(1, -1)
    beside = "" if targets is None else f" and targets of shape {tuple(targets.shape)}"
    raise ArgumentError(
        f"which dimension of the output of shape {tuple(logits.shape)}{beside} counts classes cannot be told: give "
        "output= a function that makes logits of shape (samples, classes) of what the model gives, and a target each"
    )


class Mixture:
    """Geometric and arithmetic mean of distributions, weighted."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._sums: tuple[Tensor, Tensor, Tensor] | None = None

    def add(self, log_p: Tensor, weight: float = 1.0) -> None:
        """Take in the log-probabilities under one mask, with a weight above 0."""
        self._take(weight, (weight * log_p, math.log(weight) + log_p, weight * entropies(log_p)))

    def __add__(self, other: Mixture) -> Mixture:
        """Return the mixture of all that both have taken in."""
        both = Mixture()
        for one in (self, other):
            if one._sums is not None:
                both._take(one._weight, one._sums)
        return both

    def _take(self, weight: float, more: tuple[Tensor, Tensor, Tensor]) -> None:
        if self._sums is not None:
            (logs, probabilities, entropy), (a, b, c) = self._sums, more
            more = logs + a, torch.logaddexp(probabilities, b), entropy + c
        self._sums, self._weight = more, self._weight + weight

    def geometric(self) -> Tensor:
        """Return the log-probabilities of the geometric mean, made to add up to 1."""
        return (self._known()[0] / self._weight).log_softmax(-1)

    def arithmetic(self) -> Tensor:
        """Return the log-probabilities of the arithmetic mean."""
        return self._known()[1].log_softmax(-1)  # which takes the rounding of the weights' sum off

    def mean_entropy(self) -> Tensor:
        """Return the mean over masks of each case's entropy, in nats."""
        return self._known()[2] / self._weight

    def _known(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._sums is None:
            raise ValueError("a mixture of no distribution")
        return self._sums


@dataclass(frozen=True)
class Scores:
    """How good predicted distributions are.

    Attributes
    ----------
    nll : float
        Mean negative log-likelihood, in nats.
    accuracy : float
    calibration_error : float
        Expected calibration error over `BINS` equal bins of the greatest probability.
    """

    nll: float
    accuracy: float
    calibration_error: float

    @classmethod
    def of(cls, log_p: Tensor, y: Tensor) -> Scores:
        """Score log-probabilities, shape (cases, classes), by the classes, shape (cases,)."""
        top, guess = log_p.max(-1)
        right, confidence = (guess == y).double(), top.exp()
        place = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1)
        gaps = torch.zeros(BINS, dtype=torch.float64, device=log_p.device).index_add_(0, place, right - confidence)
        nll = -log_p.gather(-1, y[:, None]).mean()
        return cls(float(nll), float(right.mean()), float(gaps.abs().sum() / len(y)))


def divergence(log_p: Tensor, log_q: Tensor) -> float:
    """Return the mean over cases of the Kullback-Leibler divergence of p from q, in nats."""
    parts = torch.where(log_p.isneginf(), 0.0, log_p.exp() * (log_p - log_q))
    found = float(parts.sum(-1).mean())
    return 0.0 if -ROUNDING < found < 0 else found


def entropies(log_p: Tensor) -> Tensor:
    """Return the entropy of each case, in nats."""
    return -torch.where(log_p.isneginf(), 0.0, log_p.exp() * log_p).sum(-1)
