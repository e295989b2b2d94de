"""Settings of a run that go into its ``run.json`` and come out of it."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError

S = TypeVar("S", bound="TrainSettings")

OF_ONE_RUN = ("condition", "seed")
"""What differs between the runs of one reproduction."""
OF_THE_DATA = ("data", "source")
"""What the data that were loaded decide."""


@dataclass(frozen=True)
class TrainSettings(ABC):
    """What decides a run of any experiment, written into its ``run.json`` as ``config``.

    A subclass adds what its experiment alone has, and says which conditions and optimisers there are.

    Attributes
    ----------
    condition : str
        One of `CONDITIONS`; case, spaces and hyphens do not matter when it is given.
    seed : int
        Of the initial weights, the order of the batches and whatever else is random. Runs of the same seed have
        them in common in every condition: they are paired.
    epochs : int
        The greatest number of epochs.
    batch_size : int
    optimizer : str
        One of `LEARNING_RATES`.
    lr : float, optional
        Learning rate; unless given, that of `LEARNING_RATES`.
    every : int
        Weights are recorded at every n-th step; the gradient flow at every step.
    device : {"cpu", "cuda", "mps"}
        What trains the network; equal settings may differ in it.
    data : str
        SHA-256 digest of the data.
    source : str
        Where the data came from, in words; equal settings may differ in it.

    Raises
    ------
    ArgumentError
        For a value that cannot be used.
    """

    CONDITIONS: ClassVar[tuple[str, ...]]
    LEARNING_RATES: ClassVar[Mapping[str, float]]

    condition: str
    seed: int
    _: KW_ONLY
    epochs: int = 20
    batch_size: int = 128
    optimizer: str = "adam"
    lr: float | None = None
    every: int = 10
    device: str = field(default="cpu", compare=False)
    data: str = ""
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        # The dataclass is frozen; these are the only fields whose value is not the one that was given.
        object.__setattr__(self, "condition", condition_named(self.condition, self.CONDITIONS))
        if self.optimizer not in self.LEARNING_RATES:
            raise ArgumentError(f"optimizer must be one of {', '.join(self.LEARNING_RATES)}, got {self.optimizer!r}")
        if self.lr is None:
            object.__setattr__(self, "lr", self.LEARNING_RATES[self.optimizer])
        check_at_least_one(epochs=self.epochs, batch_size=self.batch_size, every=self.every)
        if self.seed < 0:
            raise ArgumentError(f"seed must not be negative, got {self.seed!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ArgumentError(f"lr must be positive and finite, got {self.lr!r}")
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise `ArgumentError` for a value of the subclass's own fields that cannot be used."""

    @property
    def learning_rate(self) -> float:
        """`lr`, which is a number once the settings are made."""
        return self.LEARNING_RATES[self.optimizer] if self.lr is None else self.lr

    def steps(self, images: int) -> int:
        """Return the greatest number of training steps with so many training images."""
        return self.epochs * max(1, images // self.batch_size)

    def batches(self, images: int, order: torch.Generator) -> Tensor:
        """Draw one epoch's batches: indices of images, shape (batches, size).

        All batches are of one size: the mean of abs(dL/dz) falls as the batch grows, and a last batch of 16
        among others of 128 would weigh eight times as much. The images left over are others in every epoch.
        """
        size = min(self.batch_size, images)
        indices = torch.randperm(images, generator=order)
        return indices[: images // size * size].view(-1, size)

    def config(self) -> dict[str, Any]:
        """Return the settings as a dict that JSON keeps as it is."""
        config: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return config

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
        """Return the settings that `config` was written from; what it does not know is ignored."""
        # Runs of earlier versions lack the fields that came later, whose defaults are what was done then.
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in known})

    @classmethod
    def options(cls) -> list[str]:
        """Return the names of the fields that a user may choose for all runs of a reproduction."""
        return [f.name for f in fields(cls) if f.name not in (*OF_ONE_RUN, *OF_THE_DATA)]


def check_at_least_one(**counts: int | None) -> None:
    """Raise `ArgumentError` for a count that is given and below 1; the message has its name."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ArgumentError(f"{name} must be at least 1, got {count!r}")


def condition_named(name: str, known: Sequence[str]) -> str:
    """Return which of the `known` conditions `name` means: letters and digits alone count, and not their case.

    Raises
    ------
    ArgumentError
        If there is none; the message lists all.
    """
    meant = {_bare(condition): condition for condition in known}
    if _bare(name) not in meant:
        raise ArgumentError(f"unknown condition {name!r}; the conditions are {', '.join(map(repr, known))}")
    return meant[_bare(name)]


def _bare(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
