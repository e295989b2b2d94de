"""One run of the paper's MNIST experiment: settings in, run folder out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError
from dropdiag.experiments.data.mnist import Mnist, as_inputs
from dropdiag.experiments.mnist.network import FITTED, WIDTHS, build, check_activation, condition_named
from dropdiag.experiments.settings import KeptSettings
from dropdiag.gaaf import fit
from dropdiag.recorder import Recorder

LEARNING_RATES: Final = {"sgd": 0.1, "adam": 1e-3}
EVALUATION_BATCH: Final = 1_000
FIT_BATCH: Final = 256
"""Training images on which GAAF's shape is fitted, before every epoch; others each time."""
FIT_MASKS: Final = 16
VARIANCE_BATCH: Final = 256
"""Test images on which the net variance is measured, after training."""
VALIDATION_SEED: Final = 0
"""Which images are held out for validation is the same in every run."""

Progress: TypeAlias = Callable[[int, float | None], None]
"""Called after every step with (step, None) and after every evaluation with (step, test accuracy)."""


@dataclass(frozen=True)
class Settings(KeptSettings):
    """All that decides a run, written into its ``run.json`` as ``config``.

    Attributes
    ----------
    condition : str
        "No dropout", "Dropout", "GAAF", "GAAF fitted" or "GAAF port".
    seed : int
        Of the initial weights, the order of the batches and the dropout masks. Runs of the same seed start
        from the same weights and see the same batches in every condition: they are paired.
    epochs : int
        The greatest number of epochs; without `patience`, the number.
    batch_size : int
    optimizer : {"adam", "sgd"}
        Adam with PyTorch's defaults, or plain gradient descent without momentum.
    lr : float, optional
        Learning rate; 0.1 for sgd and 0.001 for adam unless given.
    rate : float
        Dropout rate of the condition "Dropout", and the one to which "GAAF fitted" is fitted.
    widths : tuple of int
    activation : {"tanh", "relu"}
    validation : int
        So many training images, the same in every run, are held out of training. After every epoch their
        accuracy is logged as ``validation_accuracy``.
    patience : int, optional
        Stop when the validation accuracy has not risen above its best for so many epochs. The epoch of that
        best (the first, of several) is the run's best epoch, and the test accuracy there is what it is
        reported with: the test set takes no part in the choice.
    every : int
        Weights are recorded at every n-th step; the gradient flow at every step.
    data : str
        SHA-256 digest of the data.
    source : str
        Where the data came from, in words; equal settings may differ in it.

    Raises
    ------
    ArgumentError
        For a value that cannot be used.
    """

    condition: str
    seed: int
    epochs: int = 20
    optimizer: str = "adam"
    lr: float | None = None
    batch_size: int = 128
    rate: float = 0.5
    widths: tuple[int, ...] = WIDTHS
    every: int = 10
    activation: str = "tanh"
    validation: int = 0
    patience: int | None = None
    data: str = ""
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "condition", condition_named(self.condition))
        object.__setattr__(self, "widths", tuple(self.widths))
        if self.optimizer not in LEARNING_RATES:
            raise ArgumentError(f"optimizer must be one of {', '.join(LEARNING_RATES)}, got {self.optimizer!r}")
        if self.lr is None:
            object.__setattr__(self, "lr", LEARNING_RATES[self.optimizer])
        _check_ranges(self)
        check_activation(self.activation, self.condition)

    def steps(self, images: int) -> int:
        """Return the greatest number of training steps with so many training images, validation included."""
        return self.epochs * max(1, (images - self.validation) // self.batch_size)

    def batches(self, images: int, order: torch.Generator) -> list[Tensor]:
        """Return the indices of one epoch's batches, drawn anew.

        All batches are of one size: the mean of abs(dL/dz) falls as the batch grows, and a last batch of 16
        among others of 128 would weigh eight times as much. The images left over are others in every epoch.
        """
        size = min(self.batch_size, images)
        indices = torch.randperm(images, generator=order)
        return list(indices[: images // size * size].view(-1, size))


def train(settings: Settings, data: Mnist, path: str | Path, progress: Progress | None = None) -> None:
    """Train and record one run.

    Every step is a plain one; after every epoch the whole test set is evaluated (net values and node
    correlation are recorded there, with the accuracy and the mean loss). At the end the net variance at the dropout
    rate is measured, in every condition. The global random number generator
    is seeded.

    Parameters
    ----------
    settings : Settings
    data : Mnist
    path : path
        The run folder to be made.
    progress : callable, optional
        See `Progress`. What it raises ends the run, which is then marked as interrupted or failed.

    Raises
    ------
    RunError, ArgumentError
        As `Recorder`, before anything is trained.
    """
    report = progress or (lambda _step, _accuracy: None)
    model = build(
        settings.condition, settings.seed, rate=settings.rate, widths=settings.widths, activation=settings.activation
    )
    optimizer = _optimizer(settings, model)
    training, validation = _split(data, settings.validation)
    torch.manual_seed(settings.seed)
    order = torch.Generator().manual_seed(settings.seed)
    stop = Patience(settings.patience)
    step = 0
    with Recorder(model, path, every=settings.every, config=settings.config()) as rec:
        for epoch in range(1, settings.epochs + 1):
            model.train()
            batches = settings.batches(len(training[1]), order)
            if settings.condition == FITTED:
                _fit(model, settings, training[0][torch.cat(batches)[:FIT_BATCH]], rec)
            for batch in batches:
                loss = F.cross_entropy(model(as_inputs(training[0][batch])), training[1][batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                rec.step(loss=loss)
                step += 1
                report(step, None)
            with rec.evaluation():
                accuracy, test_loss = evaluate(model, data.test_images, data.test_labels)
                rec.log(accuracy=accuracy, test_loss=test_loss, epoch=epoch)
            report(step, accuracy)
            if settings.validation:
                held_out, _ = evaluate(model, *validation)
                rec.log(validation_accuracy=held_out)
                if stop.is_over(held_out):
                    break
        rec.net_variance(as_inputs(data.test_images[:VARIANCE_BATCH]), p=settings.rate)


class Patience:
    """Early stopping: over when a score has not risen above its best for so many times.

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


def check_validation(validation: int, images: int) -> None:
    """Raise `ArgumentError` if no training image is left."""
    if validation >= images:
        raise ArgumentError(f"validation must leave images to train with: got {validation} of {images} images")


def _split(data: Mnist, validation: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return (images, labels) to train with, and those held out."""
    if not validation:
        return (data.train_images, data.train_labels), (data.train_images[:0], data.train_labels[:0])
    images = len(data.train_labels)
    check_validation(validation, images)
    chosen = torch.randperm(images, generator=torch.Generator().manual_seed(VALIDATION_SEED))
    held_out, kept = chosen[:validation].sort().values, chosen[validation:].sort().values
    return (data.train_images[kept], data.train_labels[kept]), (
        data.train_images[held_out],
        data.train_labels[held_out],
    )


def _fit(model: nn.Module, settings: Settings, images: Tensor, rec: Recorder) -> None:
    """Fit GAAF's shape to the dropout rate; keep what came out, per layer."""
    for layer in fit(model, as_inputs(images), settings.rate, masks=FIT_MASKS):
        rec.log(
            phase="fit",
            layer=layer.layer,
            gaaf_height=layer.height,
            gaaf_width=layer.width,
            net_variance_mean=layer.net_variance,
        )


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return accuracy (a share in 0..1) and mean cross-entropy (nats) of `model` in evaluation mode.

    Parameters
    ----------
    model : nn.Module
        Left in the mode it was in.
    images : Tensor of uint8, shape (n, 28, 28)
    labels : Tensor of int64, shape (n,)
    """
    training = model.training
    model.eval()
    starts = range(0, len(images), EVALUATION_BATCH)
    outputs = torch.cat([model(as_inputs(images[i : i + EVALUATION_BATCH])) for i in starts])
    model.train(training)
    accuracy = (outputs.argmax(1) == labels).double().mean().item()
    return accuracy, F.cross_entropy(outputs.double(), labels).item()


def _optimizer(settings: Settings, model: nn.Module) -> torch.optim.Optimizer:
    lr = settings.lr or LEARNING_RATES[settings.optimizer]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr)
    return torch.optim.Adam(model.parameters(), lr=lr)


def _check_ranges(settings: Settings) -> None:
    for name in ("epochs", "batch_size", "every"):
        if getattr(settings, name) < 1:
            raise ArgumentError(f"{name} must be at least 1, got {getattr(settings, name)!r}")
    if len(settings.widths) < 3:
        raise ArgumentError(f"widths must name inputs, hidden layers and outputs, got {settings.widths!r}")
    if settings.validation < 0:
        raise ArgumentError(f"validation must not be negative, got {settings.validation!r}")
    if settings.patience is not None and (settings.patience < 1 or not settings.validation):
        raise ArgumentError(
            f"patience must be at least 1 epoch and needs images held out for validation, got patience "
            f"{settings.patience!r} and validation {settings.validation!r}"
        )
    if settings.seed < 0:
        raise ArgumentError(f"seed must not be negative, got {settings.seed!r}")
    if not (settings.lr is not None and 0 < settings.lr < math.inf):
        raise ArgumentError(f"lr must be positive and finite, got {settings.lr!r}")
    if not 0 <= settings.rate < 1:
        raise ArgumentError(f"rate must be in [0, 1), got {settings.rate!r}")
