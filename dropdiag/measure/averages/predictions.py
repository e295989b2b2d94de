"""What an ensemble of masks predicts and adds to the loss, as it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from dropdiag.measure.averages.mixtures import ROUNDING, Scores, entropies
from dropdiag.measure.result import Result, Value

Floats = NDArray[np.float64]
OF_CLASSES: Final = (
    "ensemble_kl_geometric", "ensemble_kl_geometric_bias", "ensemble_kl_arithmetic", "ensemble_kl_arithmetic_bias",
    "predictive_entropy", "mutual_information",
)  # fmt: skip
NOT_CALLED: Final = "no pass called this dropout"
NO_CLASSES: Final = "the targets are no class numbers, so that the output is not taken for logits"


@dataclass(frozen=True)
class Regulariser:
    """What masks add to the loss: its mean over masks less the loss without them.

    Attributes
    ----------
    dropout : str or None
        The dropout that alone draws; None: all of them do.
    value : float or None
        In loss units. None for a dropout that no pass called.
    se : float or None
        Its standard error over masks; 0 where all masks were gone through.

    Examples
    --------
    >>> found = dd.measure.ensemble(model, x, y, masks=16)
    >>> [one.dropout for one in found.regularisers]
    [None, 'dropout1', 'dropout2']
    """

    dropout: str | None
    value: float | None
    se: float | None


@dataclass(frozen=True)
class Predictions:
    """Predicted distributions without masks and their means over masks, each of shape (cases, classes).

    Attributes
    ----------
    weight_scaled, geometric, arithmetic : ndarray of float64
        Logarithms of probabilities.
    kl_geometric, kl_arithmetic : float
        Divergence of the means over masks from the output without masks, averaged over cases, in nats.
    bias_geometric, bias_arithmetic : float
        About how much of these comes of the number of masks, and goes when it grows.
    mean_entropy : float
        Mean over masks and cases of the entropy, in nats.
    scores : mapping of str to Scores
        By these names; empty without targets.

    Examples
    --------
    >>> predictions = dd.measure.ensemble(model, x, y, masks=16).predictions
    >>> predictions.weight_scaled.shape, sorted(predictions.scores)
    ((60, 3), ['arithmetic', 'geometric', 'weight_scaled'])
    """

    weight_scaled: Floats
    geometric: Floats
    arithmetic: Floats
    kl_geometric: float
    kl_arithmetic: float
    bias_geometric: float
    bias_arithmetic: float
    mean_entropy: float
    scores: Mapping[str, Scores]


@dataclass(frozen=True)
class Ensemble(Result):
    """What `ensemble` gives.

    Attributes
    ----------
    masks : int
        How many were drawn, or gone through.
    exact : bool
        Whether all masks were gone through, with their probabilities as weights.
    predictions : Predictions or None
        None where the output is not taken for logits.
    regularisers : tuple of Regulariser
        All dropouts together first, then each alone; empty without a loss.

    Examples
    --------
    >>> found = dd.measure.ensemble(model, x, y, masks=16)
    >>> found.masks, found.exact
    (16, False)
    """

    name: ClassVar[str] = "ensemble"
    masks: int
    exact: bool
    predictions: Predictions | None = field(repr=False)
    regularisers: tuple[Regulariser, ...]

    def values(self) -> Iterator[Value]:
        """Give divergences, scores, uncertainty, and what masks add to the loss."""
        yield from self._of_predictions()
        for one in self.regularisers:
            why = NOT_CALLED if one.value is None else None
            yield Value("regulariser", one.value, one.dropout, why=why)
            yield Value("regulariser_se", one.se, one.dropout, why=why)
        yield Value("ensemble_masks", float(self.masks))

    def _of_predictions(self) -> Iterator[Value]:
        held = self.predictions
        if held is None:
            yield from (Value(quantity, None, why=NO_CLASSES) for quantity in OF_CLASSES)
            return
        n, entropy = float(len(held.arithmetic)), float(entropies(torch.from_numpy(held.arithmetic)).mean())
        of_classes = (
            held.kl_geometric, held.bias_geometric, held.kl_arithmetic, held.bias_arithmetic, entropy,
            0.0 if -ROUNDING < entropy - held.mean_entropy < 0 else entropy - held.mean_entropy,
        )  # fmt: skip
        for quantity, value in zip(OF_CLASSES, of_classes, strict=True):
            yield Value(quantity, value, n=n)
        for score in ("nll", "accuracy", "calibration_error"):
            for output, scores in held.scores.items():
                yield Value(f"{score}_{output}", getattr(scores, score), n=n)
