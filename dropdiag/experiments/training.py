"""The loop that trains and records a run; what differs between experiments is a `Training`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.experiments.recipe import Progress
from dropdiag.experiments.settings import TrainSettings
from dropdiag.recorder import Recorder


class Training(ABC):
    """A network with its data and optimiser, ready to be trained.

    Attributes
    ----------
    model : nn.Module
    probes : str or tuple of str
        What is recorded while it trains.
    """

    model: nn.Module
    probes: ClassVar[str | tuple[str, ...]] = "paper"

    @abstractmethod
    def epoch(self, recorder: Recorder) -> Iterator[Tensor]:
        """Train for one epoch; yield the loss of each step after the optimiser's step."""

    @abstractmethod
    def test(self) -> tuple[float, float]:
        """Return accuracy and mean cross-entropy on the test set; see `evaluate`."""

    @abstractmethod
    def is_recorded(self, epoch: int) -> bool:
        """Whether net values and node correlation are recorded in the evaluation after this epoch (1, 2, ...)."""

    @abstractmethod
    def is_over(self, recorder: Recorder) -> bool:
        """Whether training stops early; asked after every evaluation."""

    @abstractmethod
    def measure(self, recorder: Recorder) -> None:
        """Measure what is measured in the course of training; asked before the first step and after every one."""

    @abstractmethod
    def finish(self, recorder: Recorder) -> None:
        """Measure what is measured once, after training."""


def train(training: Training, settings: TrainSettings, path: str | Path, progress: Progress | None = None) -> None:
    """Train and record one run.

    After every epoch the whole test set is evaluated. The global random number generator is seeded.

    Parameters
    ----------
    training : Training
    settings : TrainSettings
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
    # Seeded after the network was built: dropout masks depend on the seed alone, not on what building has drawn.
    torch.manual_seed(settings.seed)
    step = 0
    recorder = Recorder(training.model, path, probes=training.probes, every=settings.every, config=settings.config())
    with recorder:
        training.measure(recorder)
        for epoch in range(1, settings.epochs + 1):
            training.model.train()
            for loss in training.epoch(recorder):
                recorder.step(loss=loss)
                step += 1
                training.measure(recorder)
                report(step, None)
            with recorder.evaluation() if training.is_recorded(epoch) else nullcontext():
                accuracy, test_loss = training.test()
                recorder.log(accuracy=accuracy, test_loss=test_loss, epoch=epoch)
            report(step, accuracy)
            if training.is_over(recorder):
                break
        training.finish(recorder)


@torch.no_grad()
def evaluate(
    model: nn.Module, outputs: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, batch_size: int
) -> tuple[float, float]:
    """Return accuracy (a share in 0..1) and mean cross-entropy (nats) of `model` in evaluation mode.

    Parameters
    ----------
    model : nn.Module
        Left in the mode it was in.
    outputs : callable
        Images -> the outputs of `model`, shape (n, classes).
    images : Tensor of uint8
    labels : Tensor of int64, shape (n,)
    batch_size : int
        Images at a time.
    """
    training = model.training
    model.eval()
    # Averaged on the CPU in float64: not every device has it, and a mean over 10,000 images in float32 is rounded.
    logits = torch.cat([outputs(part) for part in torch.split(images, batch_size)]).cpu().double()
    model.train(training)
    accuracy = (logits.argmax(1) == labels.cpu()).double().mean().item()
    return accuracy, F.cross_entropy(logits, labels.cpu()).item()
