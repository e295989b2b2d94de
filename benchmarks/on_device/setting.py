"""What is measured, and on what."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from models import CASES, Case, transformer

OWN = ("bare", "bare again", "empty hooks", "dropdiag paper / 1", "dropdiag paper / 10")
PEERS = ("wandb / 1", "wandb / 10", "tensorboard / 1", "tensorboard / 10")
EVERY_STEP = "dropdiag paper / 1"

GOALS = {EVERY_STEP: 1.05, "dropdiag paper / 10": 1.02}
"""Ratios to bare that the project set out to reach on the transformer."""


@dataclass(frozen=True)
class Network:
    """A network as it is trained here."""

    title: str
    case: Case
    monitors: tuple[str, ...]
    goals: dict[str, float] = field(default_factory=dict)
    loop: dict[str, Callable[..., Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """Where it runs and how large it is.

    ``tiny`` is for tests: networks of a few nodes, a compiler that only traces.
    """

    device: str = "cuda"
    tiny: bool = False
    rounds: int = 20
    seconds: float = 45.0
    block: int = 10

    @property
    def on_gpu(self) -> bool:
        """Whether the device is one that works beside the host."""
        return self.device == "cuda"

    @property
    def steps(self) -> int:
        """In how many steps waits are looked for, and memory is watched."""
        return 3 if self.tiny else 30

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values a histogram counts."""
        return (1_000, 5_000) if self.tiny else (65_536, 1_048_576, 16_777_216, 134_217_728)

    def networks(self) -> tuple[Network, ...]:
        """Return the networks, the 100 million parameters eager and compiled."""
        monitors = (*OWN, "dropdiag full / 1", *PEERS)
        few = (*OWN, *(name for name in PEERS if name.endswith("/ 10")))  # the others take seconds a step
        large = Case(functools.partial(transformer, *self._large()), self._tokens(), 10)
        amp = {"context": functools.partial(torch.autocast, self.device, dtype=torch.bfloat16)}
        compiled = {**amp, "wrap": functools.partial(torch.compile, backend="eager" if self.tiny else "inductor")}
        name = "transformer, 2 layers" if self.tiny else "transformer, 100 million parameters"
        return (
            Network("MLP", CASES["mlp"], monitors),
            Network("CNN", self._cnn(), monitors),
            Network(f"{name}, bfloat16, eager", large, few, GOALS, amp),
            Network(f"{name}, bfloat16, compiled", large, few, GOALS, compiled),
        )

    def _large(self) -> tuple[int, int, int, int]:
        return (2, 16, 2, 32) if self.tiny else (12, 832, 13, 3328)

    def _tokens(self) -> tuple[int, int, int]:
        return (2, 4, 16) if self.tiny else (16, 512, 832)

    def _cnn(self) -> Case:
        return Case(CASES["cnn"].make, (2, 3, 8, 8), 2) if self.tiny else CASES["cnn"]

    def wait(self) -> None:
        """Let the device finish."""
        if self.on_gpu:
            torch.cuda.synchronize()
