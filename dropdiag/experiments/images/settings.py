"""All that decides a run of Figure 8."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from dropdiag.errors import ArgumentError
from dropdiag.experiments.data.datasets import dataset_named
from dropdiag.experiments.images.network import condition_named, widths
from dropdiag.experiments.settings import KeptSettings

LEARNING_RATES: Final = {"sgd": 0.05, "adam": 1e-3}
MOMENTUM: Final = 0.9
WEIGHT_DECAY: Final = 5e-4
WARM_UP: Final = 0.05
"""Share of the steps over which the learning rate rises."""


@dataclass(frozen=True)
class Settings(KeptSettings):
    """All that decides a run, written into its ``run.json`` as ``config``.

    Attributes
    ----------
    dataset : {"cifar10", "cifar100", "svhn"}
    condition : str
        "Base", "Batch norm", "GAAF" or "Batch norm + GAAF".
    seed : int
        Of the initial weights, the order of the batches and what augmentation draws. Runs of the same seed
        have all three in common in every condition: they are paired.
    epochs : int
        A fixed number: the learning rate falls to 0 with the last step, so that there is no stopping rule, and
        the accuracy that counts is the last one.
    batch_size : int
    optimizer : {"sgd", "adam"}
        SGD with momentum 0.9, or Adam with decoupled weight decay (AdamW).
    lr : float, optional
        Greatest learning rate; unless given, see `LEARNING_RATES`. It rises in a straight line over the first
        twentieth of the steps and falls to 0 as half a cosine.
    weight_decay : float
    clip : float
        The gradient of all weights together is scaled down to this norm where it is longer. GAAF doubles the
        derivative of ReLU where z > 0, in each of seven layers: without a limit its first steps are far too long.
    width : float
        Factor of the network's widths.
    every : int
        Weights and net values of training are recorded at every n-th step; the gradient flow at every step.
    record_epochs : int
        Net values and node correlation on the test set are recorded after every n-th epoch and the last one.
    amp : bool
        Whether forward passes run under autocast in bfloat16.
    data : str
        SHA-256 digest of the data.
    source : str
        Where the data came from, in words; equal settings may differ in it.
    device : str
        What trained the network; equal settings may differ in it.

    Raises
    ------
    ArgumentError
        For a value that cannot be used.
    """

    dataset: str
    condition: str
    seed: int
    epochs: int = 60
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float | None = None
    weight_decay: float = WEIGHT_DECAY
    clip: float = 1.0
    width: float = 1.0
    every: int = 100
    record_epochs: int = 10
    amp: bool = False
    data: str = ""
    source: str = field(default="", compare=False)
    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        dataset_named(self.dataset)
        object.__setattr__(self, "condition", condition_named(self.condition))
        if self.optimizer not in LEARNING_RATES:
            raise ArgumentError(f"optimizer must be one of {', '.join(LEARNING_RATES)}, got {self.optimizer!r}")
        if self.lr is None:
            object.__setattr__(self, "lr", LEARNING_RATES[self.optimizer])
        _check_ranges(self)

    def steps(self, images: int) -> int:
        """Return the number of training steps with so many training images."""
        return self.epochs * max(1, images // self.batch_size)

    def recorded(self, epoch: int) -> bool:
        """Whether net values and node correlation are recorded after this epoch (1, 2, ...)."""
        return epoch == self.epochs or epoch % self.record_epochs == 0

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of step `step` (1, 2, ...) of `steps`: up in a straight line, down as half a cosine."""
        assert self.lr is not None  # noqa: S101 - set above
        rising = math.ceil(WARM_UP * steps)
        if step <= rising:
            return self.lr * step / rising
        return 0.5 * self.lr * (1.0 + math.cos(math.pi * (step - rising) / (steps - rising + 1)))


def _check_ranges(settings: Settings) -> None:
    for name in ("epochs", "every", "record_epochs"):
        if getattr(settings, name) < 1:
            raise ArgumentError(f"{name} must be at least 1, got {getattr(settings, name)!r}")
    if settings.batch_size < 2:
        raise ArgumentError(
            f"batch_size must be at least 2, got {settings.batch_size!r}: batch norm has no variance of one image"
        )
    if settings.seed < 0:
        raise ArgumentError(f"seed must not be negative, got {settings.seed!r}")
    if not (settings.lr is not None and 0 < settings.lr < math.inf):
        raise ArgumentError(f"lr must be positive and finite, got {settings.lr!r}")
    if not 0 < settings.clip < math.inf:
        raise ArgumentError(f"clip must be positive and finite, got {settings.clip!r}; a very large one is no limit")
    if not 0 <= settings.weight_decay < math.inf:
        raise ArgumentError(f"weight_decay must not be negative, got {settings.weight_decay!r}")
    widths(settings.width)
