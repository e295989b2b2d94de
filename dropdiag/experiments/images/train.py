"""One run of Figure 8: settings in, run folder out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError, DataError
from dropdiag.experiments import training
from dropdiag.experiments.data.datasets import Images, dataset_named
from dropdiag.experiments.images.augment import EpochPlan, Normaliser, cropped, with_channels
from dropdiag.experiments.images.network import KNOWN, build, scaled_widths
from dropdiag.experiments.recipe import Progress, Recipe
from dropdiag.experiments.settings import TrainSettings, check_at_least_one
from dropdiag.recorder import Recorder

EVALUATION_BATCH: Final = 500
AUTO: Final = "auto"
DEVICES: Final = (AUTO, "cuda", "mps", "cpu")


@dataclass(frozen=True)
class ImageSettings(TrainSettings):
    """What decides a run of Figure 8, beside what `TrainSettings` has.

    `epochs` is a fixed number: the learning rate falls to 0 with the last step, so that there is no stopping rule,
    and the accuracy that counts is the last one. The optimisers are SGD with momentum 0.9, and Adam with decoupled
    weight decay (AdamW). `lr` is the greatest learning rate: it rises in a straight line over the first twentieth
    of the steps and falls to 0 as half a cosine. `device` may be "auto": `place` then decides.

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
    rate : float
        Dropout rate of the conditions with "Dropout".
    record_epochs : int
        Net values and node correlation on the test set are recorded after every n-th epoch and the last one.
    amp : bool
        Whether forward passes run under autocast in bfloat16.

    Raises
    ------
    ArgumentError
        For a value that cannot be used.
    """

    CONDITIONS = KNOWN
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
    rate: float = 0.5
    record_epochs: int = 10
    amp: bool = False

    def check(self) -> None:
        """See `TrainSettings.check`."""
        dataset_named(self.dataset)
        check_at_least_one(record_epochs=self.record_epochs)
        if self.batch_size < 2:
            raise ArgumentError(
                f"batch_size must be at least 2, got {self.batch_size!r}: batch norm has no variance of one image"
            )
        if not 0 < self.clip < math.inf:
            raise ArgumentError(f"clip must be positive and finite, got {self.clip!r}; a very large one is no limit")
        if not 0 <= self.weight_decay < math.inf:
            raise ArgumentError(f"weight_decay must not be negative, got {self.weight_decay!r}")
        if not 0 <= self.rate < 1:
            raise ArgumentError(f"rate must be in [0, 1), got {self.rate!r}")
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


def device_named(name: str) -> str:
    """Return what `name` means here: "auto" is a CUDA GPU, else Apple's (mps), else the CPU.

    Raises
    ------
    ArgumentError
        For another name, or a device that is not here.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == AUTO:
        return next(device for device, there in here.items() if there)
    if name not in here:
        raise ArgumentError(f"device must be one of {', '.join(DEVICES)}, got {name!r}")
    if not here[name]:
        raise ArgumentError(f"device {name!r} is not here; use --device auto")
    return name


def prepare(settings: ImageSettings, data: Images) -> ImageSettings:
    """Return the settings as they are, once the data can be trained with.

    Raises
    ------
    DataError
        If there is one training image alone.
    """
    if len(data.train_labels) < 2:
        raise DataError(f"{data.source}: one training image; batch norm needs two at least")
    return settings


def place(settings: ImageSettings) -> ImageSettings:
    """Decide on which device is trained; see `device_named`.

    Raises
    ------
    ArgumentError
        For a device that is not here.
    """
    return replace(settings, device=device_named(settings.device))


def train(settings: ImageSettings, data: Images, path: str | Path, progress: Progress | None = None) -> None:
    """Train and record one run; see `dropdiag.experiments.training.train`.

    Net values and node correlation are recorded in the evaluations of `ImageSettings.recorded`.

    Parameters
    ----------
    settings : ImageSettings
    data : Images
        Copied to ``settings.device`` as a whole.
    path : path
        The run folder to be made.
    progress : callable, optional
    """
    settings = place(prepare(settings, data))
    training.train(ImageTraining(settings, data), settings, path, progress)


IMAGES_RECIPE: Final = Recipe(ImageSettings, prepare=prepare, place=place, train=train)


class ImageTraining(training.Training):
    """The network of a run, its images and its optimiser, on the device of the settings.

    Parameters
    ----------
    settings : ImageSettings
    data : Images
    """

    def __init__(self, settings: ImageSettings, data: Images) -> None:
        self._settings, self._dataset = settings, data.dataset
        self._device = torch.device(settings.device)
        classes, shape = data.dataset.classes, data.dataset.shape
        network = build(
            settings.condition, classes, settings.seed, width=settings.width, shape=shape, rate=settings.rate
        )
        self.model = network.to(self._device)
        self._optimizer = _optimizer(settings, self.model)
        images, tests = with_channels(data.train_images), with_channels(data.test_images)
        self._normalise = Normaliser.of(images).to(self._device)
        # The whole set lies on the device, so that no step waits for its batch to be copied.
        self._images, self._labels = images.to(self._device), data.train_labels.to(self._device)
        self._tests, self._test_labels = tests.to(self._device), data.test_labels.to(self._device)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._step, self._steps = 0, settings.steps(len(self._labels))

    def epoch(self, _recorder: Recorder) -> Iterator[Tensor]:
        """See `Training.epoch`."""
        order = self._settings.batches(len(self._labels), self._generator)
        plan = EpochPlan.draw(order, self._generator, flip=self._dataset.flip)
        for batch, shift, mirrored in plan.to(self._device):
            self._set_learning_rate()
            outputs = self._outputs(cropped(self._images[batch], shift, mirrored))
            loss = F.cross_entropy(outputs, self._labels[batch])
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            # After backward, in whose hooks gradient flow is recorded: what is recorded is not clipped.
            nn.utils.clip_grad_norm_(self.model.parameters(), self._settings.clip)
            self._optimizer.step()
            yield loss

    def _set_learning_rate(self) -> None:
        self._step += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.lr_at(self._step, self._steps)

    def _outputs(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._settings.amp):
            outputs: Tensor = self.model(self._normalise(images))
        return outputs.float()

    def test(self) -> tuple[float, float]:
        """See `Training.test`."""
        return training.evaluate(self.model, self._outputs, self._tests, self._test_labels, EVALUATION_BATCH)

    def is_recorded(self, epoch: int) -> bool:
        """See `ImageSettings.recorded`."""
        return self._settings.recorded(epoch)

    def is_over(self, _recorder: Recorder) -> bool:
        """Never before the last epoch: the learning rate has been planned for all of them."""
        return False

    def measure(self, _recorder: Recorder) -> None:
        """Nothing is measured in the course of training."""

    def finish(self, _recorder: Recorder) -> None:
        """Nothing is measured after training."""


def _optimizer(settings: ImageSettings, model: nn.Module) -> torch.optim.Optimizer:
    lr, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=settings.MOMENTUM, weight_decay=decay)
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
