"""One run of Figure 8: settings in, run folder out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError, DataError
from dropdiag.experiments import training
from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.experiment import Progress
from dropdiag.experiments.images.augment import EpochPlan, Normaliser, cropped, with_channels
from dropdiag.experiments.images.network import build
from dropdiag.experiments.images.settings import ImageSettings
from dropdiag.recorder import Recorder

EVALUATION_BATCH: Final = 500
AUTO: Final = "auto"
DEVICES: Final = (AUTO, "cuda", "mps", "cpu")


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
    """Decide on which device is trained; see `device_named`.

    Raises
    ------
    ArgumentError
        For a device that is not here.
    DataError
        If there is one training image alone.
    """
    if len(data.train_labels) < 2:
        raise DataError(f"{data.source}: one training image; batch norm needs two at least")
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
    settings = prepare(settings, data)
    training.train(ImageTraining(settings, data), settings, path, progress)


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
        self.model = build(
            settings.condition, data.dataset.classes, settings.seed, width=settings.width, shape=data.dataset.shape
        ).to(self._device)
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

    def finish(self, _recorder: Recorder) -> None:
        """Nothing is measured after training."""


def _optimizer(settings: ImageSettings, model: nn.Module) -> torch.optim.Optimizer:
    lr, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=settings.MOMENTUM, weight_decay=decay)
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
