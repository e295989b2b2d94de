"""What decides a run of Figure 8."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

from dropdiag.errors import ArgumentError
from dropdiag.experiments.data.datasets import dataset_named
from dropdiag.experiments.images.network import CONDITIONS, scaled_widths
from dropdiag.experiments.settings import TrainSettings


@dataclass(frozen=True)
class ImageSettings(TrainSettings):
    """What decides a run of Figure 8, beside what `TrainSettings` has.

    `epochs` is a fixed number: the learning rate falls to 0 with the last step, so that there is no stopping rule,
    and the accuracy that counts is the last one. The optimisers are SGD with momentum 0.9, and Adam with decoupled
    weight decay (AdamW). `lr` is the greatest learning rate: it rises in a straight line over the first twentieth
    of the steps and falls to 0 as half a cosine. `device` may be "auto": `dropdiag.experiments.images.train.prepare`
    then decides.

    Attributes
    ----------
    dataset : str
        Key of a data set; see `dropdiag.experiments.data.datasets.DATASETS`.
    weight_decay : float
    clip : float
        The gradient of all weights together is scaled down to this norm where it is longer. GAAF doubles the
        derivative of ReLU where z > 0, in each of seven layers: without a limit its first steps are far too long.
    width : float
        Factor of the network's widths.
    record_epochs : int
        Net values and node correlation on the test set are recorded after every n-th epoch and the last one.
    amp : bool
        Whether forward passes run under autocast in bfloat16.

    Raises
    ------
    ArgumentError
        For a value that cannot be used.
    """

    CONDITIONS = CONDITIONS
    LEARNING_RATES: ClassVar[Mapping[str, float]] = {"sgd": 0.05, "adam": 1e-3}
    MOMENTUM: ClassVar[float] = 0.9
    WARM_UP: ClassVar[float] = 0.05
    """Share of the steps over which the learning rate rises."""

    _: KW_ONLY
    dataset: str
    epochs: int = 60
    optimizer: str = "sgd"
    every: int = 100
    device: str = field(default="auto", compare=False)
    weight_decay: float = 5e-4
    clip: float = 1.0
    width: float = 1.0
    record_epochs: int = 10
    amp: bool = False

    def check(self) -> None:
        """See `TrainSettings.check`."""
        dataset_named(self.dataset)
        self.check_at_least_one("record_epochs")
        if self.batch_size < 2:
            raise ArgumentError(
                f"batch_size must be at least 2, got {self.batch_size!r}: batch norm has no variance of one image"
            )
        if not 0 < self.clip < math.inf:
            raise ArgumentError(f"clip must be positive and finite, got {self.clip!r}; a very large one is no limit")
        if not 0 <= self.weight_decay < math.inf:
            raise ArgumentError(f"weight_decay must not be negative, got {self.weight_decay!r}")
        scaled_widths(self.width)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the convolutions and nodes of the hidden layer."""
        return scaled_widths(self.width)

    def recorded(self, epoch: int) -> bool:
        """Whether net values and node correlation are recorded after this epoch (1, 2, ...)."""
        return epoch == self.epochs or epoch % self.record_epochs == 0

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of step `step` (1, 2, ...) of `steps`: up in a straight line, down as half a cosine."""
        rising = math.ceil(self.WARM_UP * steps)
        if step <= rising:
            return self.learning_rate * step / rising
        return 0.5 * self.learning_rate * (1.0 + math.cos(math.pi * (step - rising) / (steps - rising + 1)))
