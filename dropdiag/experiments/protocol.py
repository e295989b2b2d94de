"""One run of the paper's MNIST experiment: settings in, run folder out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError
from dropdiag.experiments.data import Mnist, as_inputs
from dropdiag.experiments.networks import WIDTHS, build, condition_named
from dropdiag.recorder import Recorder

LEARNING_RATES: Final = {"sgd": 0.1, "adam": 1e-3}
EVALUATION_BATCH: Final = 1_000

Progress: TypeAlias = Callable[[int, float | None], None]
"""Called after every step with (step, None) and after every evaluation with (step, test accuracy)."""


@dataclass(frozen=True)
class Settings:
    """All that decides a run, written into its ``run.json`` as ``config``.

    Attributes
    ----------
    condition : str
        "No dropout", "Dropout" or "GAAF".
    seed : int
        Of the initial weights, the order of the batches and the dropout masks. Runs of the same seed start
        from the same weights and see the same batches in every condition: they are paired.
    epochs, batch_size : int
    optimizer : {"adam", "sgd"}
        Adam with PyTorch's defaults, or plain gradient descent without momentum.
    lr : float, optional
        Learning rate; 0.1 for sgd and 0.001 for adam unless given.
    rate : float
        Dropout rate of the condition "Dropout".
    widths : tuple of int
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

    def config(self) -> dict[str, Any]:
        """Return the settings as a dict that JSON keeps as it is."""
        config: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Return the settings that `config` was written from; what it does not know is ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in known})

    def steps(self, images: int) -> int:
        """Return the number of training steps with so many training images."""
        return self.epochs * max(1, images // self.batch_size)

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
    correlation are recorded there, with the accuracy and the mean loss). The global random number generator
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
    model = build(settings.condition, settings.seed, rate=settings.rate, widths=settings.widths)
    optimizer = _optimizer(settings, model)
    torch.manual_seed(settings.seed)
    order = torch.Generator().manual_seed(settings.seed)
    step = 0
    with Recorder(model, path, every=settings.every, config=settings.config()) as rec:
        for epoch in range(1, settings.epochs + 1):
            model.train()
            for batch in settings.batches(len(data.train_labels), order):
                loss = F.cross_entropy(model(as_inputs(data.train_images[batch])), data.train_labels[batch])
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
    if settings.seed < 0:
        raise ArgumentError(f"seed must not be negative, got {settings.seed!r}")
    if not (settings.lr is not None and 0 < settings.lr < math.inf):
        raise ArgumentError(f"lr must be positive and finite, got {settings.lr!r}")
    if not 0 <= settings.rate < 1:
        raise ArgumentError(f"rate must be in [0, 1), got {settings.rate!r}")
