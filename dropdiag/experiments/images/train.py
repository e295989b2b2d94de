"""One run of Figure 8: settings in, run folder out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError
from dropdiag.experiments.data.datasets import Images, dataset_named
from dropdiag.experiments.images.augment import Draws, Normaliser, cropped
from dropdiag.experiments.images.network import build
from dropdiag.experiments.images.settings import MOMENTUM, Settings
from dropdiag.experiments.mnist.train import Progress
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


def train(settings: Settings, data: Images, path: str | Path, progress: Progress | None = None) -> None:
    """Train and record one run.

    After every epoch the whole test set is evaluated; net values and node correlation are recorded in those of
    `Settings.recorded`. The global random number generators are seeded.

    Parameters
    ----------
    settings : Settings
    data : Images
        Copied to ``settings.device`` as a whole.
    path : path
        The run folder to be made.
    progress : callable, optional
        See `dropdiag.experiments.mnist.train.Progress`. What it raises ends the run.

    Raises
    ------
    RunError, ArgumentError
        As `Recorder`, before anything is trained.
    """
    report = progress or (lambda _step, _accuracy: None)
    device = torch.device(settings.device)
    dataset = dataset_named(settings.dataset)
    model = build(settings.condition, dataset.classes, settings.seed, width=settings.width).to(device)
    optimizer = _optimizer(settings, model)
    torch.manual_seed(settings.seed)
    draw = torch.Generator().manual_seed(settings.seed)
    normalise = Normaliser.of(data.train_images).to(device)
    images, labels = data.train_images.to(device), data.train_labels.to(device)
    test_images, test_labels = data.test_images.to(device), data.test_labels.to(device)
    step, steps = 0, settings.steps(len(labels))
    with Recorder(model, path, every=settings.every, config=settings.config()) as rec:
        for epoch in range(1, settings.epochs + 1):
            model.train()
            epoch_draws = Draws.epoch(len(labels), settings.batch_size, draw, flip=dataset.flip)
            for batch, shift, mirrored in epoch_draws.to(device):
                step += 1
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr_at(step, steps)
                with _precision(settings, device):
                    outputs = model(normalise(cropped(images[batch], shift, mirrored)))
                loss = F.cross_entropy(outputs.float(), labels[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
                optimizer.step()
                rec.step(loss=loss)
                report(step, None)
            with rec.evaluation() if settings.recorded(epoch) else nullcontext():
                accuracy, test_loss = evaluate(settings, model, normalise, test_images, test_labels)
                rec.log(accuracy=accuracy, test_loss=test_loss, epoch=epoch)
            report(step, accuracy)


@torch.no_grad()
def evaluate(
    settings: Settings, model: nn.Module, normalise: Normaliser, images: Tensor, labels: Tensor
) -> tuple[float, float]:
    """Return accuracy (a share in 0..1) and mean cross-entropy (nats) of `model` in evaluation mode.

    Parameters
    ----------
    settings : Settings
    model : nn.Module
        Left in the mode it was in.
    normalise : Normaliser
    images : Tensor of uint8, shape (n, 3, 32, 32)
    labels : Tensor of int64, shape (n,)
    """
    training = model.training
    model.eval()
    with _precision(settings, images.device):
        outputs = torch.cat([model(normalise(part)).float() for part in torch.split(images, EVALUATION_BATCH)])
    model.train(training)
    accuracy = (outputs.argmax(1) == labels).float().mean().item()
    return accuracy, F.cross_entropy(outputs, labels).item()


def _precision(settings: Settings, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.amp)


def _optimizer(settings: Settings, model: nn.Module) -> torch.optim.Optimizer:
    assert settings.lr is not None  # noqa: S101 - set by Settings
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=MOMENTUM, weight_decay=decay)
    return torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=decay)
