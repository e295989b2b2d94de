"""One run of the paper's MNIST experiment: settings in, run folder out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from dropdiag.errors import ArgumentError
from dropdiag.experiments import training
from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.mnist.network import DROPOUT, FITTED, KNOWN, WIDTHS, build, check_activation
from dropdiag.experiments.mnist.why import Why
from dropdiag.experiments.recipe import Progress, Recipe
from dropdiag.experiments.settings import TrainSettings
from dropdiag.gaaf.fit import fit
from dropdiag.recorder import Recorder

EVALUATION_BATCH: Final = 1_000
FIT_BATCH: Final = 256
"""Training images on which GAAF's shape is fitted, before every epoch; others each time."""
FIT_MASKS: Final = 16
MEASURED: Final = 2_048
"""So many training images, and as many test images, are what `dropdiag.experiments.mnist.why` measures with."""
VARIANCE_BATCH: Final = 256
"""Test images on which the net variance is measured, after training."""
VALIDATION_SEED: Final = 0
"""Which images are held out for validation is the same in every run."""


@dataclass(frozen=True)
class MnistSettings(TrainSettings):
    """What decides a run of the MNIST analysis, beside what `TrainSettings` has.

    `epochs` is the greatest number of epochs; without `patience`, the number. The optimisers are Adam with
    PyTorch's defaults, and plain gradient descent without momentum.

    Attributes
    ----------
    rate : float
        Dropout rate of the condition "Dropout", and the one to which "GAAF fitted" is fitted.
    widths : tuple of int
        Inputs, hidden layers, outputs.
    activation : {"tanh", "relu"}
    validation : int, optional
        So many training images, the same in every run, are held out of training. After every epoch their
        accuracy is logged as ``validation_accuracy``. Without a number none are; with `patience`, `prepare` then
        chooses a sixth of them (10,000 of MNIST's 60,000).
    measurements : int
        At the start of training, at so many evenly spaced points of it and at its end, measurements are made that need
        passes of their own (`dropdiag.experiments.mnist.why`). With 0 none are, but for the net variance at the end.
        Equal settings may differ in it, as a run trains as it would without.
    patience : int, optional
        Stop when the validation accuracy has not risen above its best for this many epochs. The epoch of that
        best (the first, of several) is the run's best epoch, and the test accuracy there is what it is
        reported with: the test set takes no part in the choice.

    Raises
    ------
    ArgumentError
        For a value that cannot be used.
    """

    CONDITIONS = KNOWN
    LEARNING_RATES: ClassVar[Mapping[str, float]] = {"sgd": 0.1, "adam": 1e-3}

    _: KW_ONLY
    rate: float = 0.5
    widths: tuple[int, ...] = WIDTHS
    activation: str = "tanh"
    validation: int | None = None
    patience: int | None = None
    measurements: int = field(default=10, compare=False)

    def check(self) -> None:
        """See `TrainSettings.check`."""
        # JSON has lists alone: settings that come out of a run.json must equal those that went in.
        object.__setattr__(self, "widths", tuple(self.widths))
        if self.validation is None and self.patience is None:
            object.__setattr__(self, "validation", 0)
        if len(self.widths) < 3:
            raise ArgumentError(f"widths must name inputs, hidden layers and outputs, got {self.widths!r}")
        if not 0 <= self.rate < 1:
            raise ArgumentError(f"rate must be in [0, 1), got {self.rate!r}")
        if self.measurements < 0:
            raise ArgumentError(f"measurements must not be negative, got {self.measurements!r}")
        self._check_stopping()
        check_activation(self.activation, self.condition)

    def _check_stopping(self) -> None:
        if self.validation is not None and self.validation < 0:
            raise ArgumentError(f"validation must not be negative, got {self.validation!r}")
        if self.patience is not None and (self.patience < 1 or self.validation == 0):
            raise ArgumentError(
                f"patience must be at least 1 epoch and needs images held out for validation, got patience "
                f"{self.patience!r} and validation {self.validation!r}"
            )

    def steps(self, images: int) -> int:
        """Return the greatest number of training steps with so many training images, validation included."""
        return super().steps(images - (self.validation or 0))

    def measured(self, images: int) -> frozenset[int]:
        """Return after which training steps something is measured, with so many training images."""
        if not self.measurements:
            return frozenset()
        last = self.steps(images)
        return frozenset(round(last * part / self.measurements) for part in range(self.measurements + 1))


def prepare(settings: MnistSettings, data: Images) -> MnistSettings:
    """Decide how many images are held out for validation; see `MnistSettings`.

    Raises
    ------
    ArgumentError
        If no training image is left.
    """
    images = len(data.train_labels)
    held_out = images // 6 if settings.validation is None else settings.validation
    if held_out >= images:
        raise ArgumentError(f"validation must leave images to train with: got {held_out} of {images} images")
    return replace(settings, validation=held_out)


def train(settings: MnistSettings, data: Images, path: str | Path, progress: Progress | None = None) -> None:
    """Train and record one run; see `dropdiag.experiments.training.train`.

    Every step is a plain one; net values and node correlation are recorded in every evaluation. At the end the
    net variance at the dropout rate is measured, in every condition.

    Parameters
    ----------
    settings : MnistSettings
    data : Images
    path : path
        The run folder to be made.
    progress : callable, optional
    """
    settings = prepare(settings, data)
    training.train(MnistTraining(settings, data), settings, path, progress)


MNIST_RECIPE: Final = Recipe(
    MnistSettings,
    prepare=prepare,
    place=lambda settings: settings,  # on the CPU, on any machine
    train=train,
)


def as_inputs(images: Tensor) -> Tensor:
    """Turn images, uint8 of shape (n, 28, 28), into network inputs, float32 in [0, 1] of shape (n, 784)."""
    return images.flatten(1).float().div_(255)


class MnistTraining(training.Training):
    """The network of a run, its images and its optimiser.

    Parameters
    ----------
    settings : MnistSettings
    data : Images
    """

    probes = ("paper", "multiple_correlation")

    def __init__(self, settings: MnistSettings, data: Images) -> None:
        self._settings, self._data = settings, data
        self.model = build(
            settings.condition,
            settings.seed,
            rate=settings.rate,
            widths=settings.widths,
            activation=settings.activation,
        )
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[settings.optimizer]
        self._optimizer: torch.optim.Optimizer = kind(self.model.parameters(), lr=settings.learning_rate)
        (self._images, self._labels), self._validation = _split(data, settings.validation or 0)
        # A generator of its own: dropout and fitting draw from the global one, and would change the batches.
        self._order = torch.Generator().manual_seed(settings.seed)
        self._patience = Patience(settings.patience)
        self._points = settings.measured(len(data.train_labels))
        self._why = Why(
            settings.rate,
            (as_inputs(self._images[:MEASURED]), self._labels[:MEASURED]),
            (as_inputs(data.test_images[:MEASURED]), data.test_labels[:MEASURED]),
            drops=settings.condition == DROPOUT,
        )

    def epoch(self, recorder: Recorder) -> Iterator[Tensor]:
        """See `Training.epoch`; "GAAF fitted" is fitted before the first step."""
        batches = self._settings.batches(len(self._labels), self._order)
        if self._settings.condition == FITTED:
            self._fit(self._images[batches.flatten()[:FIT_BATCH]], recorder)
        for batch in batches:
            loss = F.cross_entropy(self.model(as_inputs(self._images[batch])), self._labels[batch])
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            yield loss

    def _fit(self, images: Tensor, recorder: Recorder) -> None:
        """Fit GAAF's shape to the dropout rate; keep what came out, per layer."""
        for layer in fit(self.model, as_inputs(images), self._settings.rate, masks=FIT_MASKS):
            recorder.log(
                phase="fit",
                layer=layer.layer,
                gaaf_height=layer.height,
                gaaf_width=layer.width,
                net_variance_mean=layer.net_variance,
            )

    def test(self) -> tuple[float, float]:
        """See `Training.test`."""
        return self._evaluate(self._data.test_images, self._data.test_labels)

    def _evaluate(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        return training.evaluate(self.model, lambda x: self.model(as_inputs(x)), images, labels, EVALUATION_BATCH)

    def is_recorded(self, _epoch: int) -> bool:
        """Every evaluation is."""
        return True

    def is_over(self, recorder: Recorder) -> bool:
        """See `Training.is_over`; the accuracy on validation images is logged, if there are any."""
        if not self._settings.validation:
            return False
        accuracy, _ = self._evaluate(*self._validation)
        recorder.log(validation_accuracy=accuracy)
        return self._patience.is_over(accuracy)

    def measure(self, recorder: Recorder) -> None:
        """See `Training.measure`: what is measured along training, see `dropdiag.experiments.mnist.why`."""
        if recorder.completed in self._points:
            self._why.along_training(recorder)

    def finish(self, recorder: Recorder) -> None:
        """Measure the net variance at the dropout rate, in every condition, and what else is measured at the end."""
        if self._points:
            if recorder.completed not in self._points:  # it was stopped early
                self._why.along_training(recorder)
            self._why.at_the_end(recorder)
        recorder.net_variance(as_inputs(self._data.test_images[:VARIANCE_BATCH]), p=self._settings.rate)


class Patience:
    """Early stopping: over when a score has not risen above its best this many times in a row.

    Parameters
    ----------
    patience : int or None
        None never stops.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self._best = -math.inf
        self._since = 0

    def is_over(self, score: float) -> bool:
        """Take in the next score; return whether patience is at its end."""
        self._since = 0 if score > self._best else self._since + 1
        self._best = max(self._best, score)
        return self._patience is not None and self._since >= self._patience


def _split(data: Images, validation: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return (images, labels) to train with, and those held out, both in the order of the data."""
    images, labels = data.train_images, data.train_labels
    # A seed of its own, not the run's: runs of different seeds must be stopped by the same images.
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(VALIDATION_SEED))
    # Sorted, so that with nothing held out the order is that of the data, and batches are those they always were.
    held_out, kept = chosen[:validation].sort().values, chosen[validation:].sort().values
    return (images[kept], labels[kept]), (images[held_out], labels[held_out])
