"""What a network of the zoo is: how it is built, fed and trained, and what of it cannot be compared, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

STEPS = 5
FUSED = "torch's fused attention hides its layers in evaluation mode; a recorded evaluation goes through them"


@dataclass(frozen=True)
class Network:
    """A network of the zoo.

    Attributes
    ----------
    name : str
    build : callable
        () -> the model. Called after seeding.
    batch : callable
        Generator -> one batch, in any form that ``loss`` takes.
    loss : callable
        (model, batch) -> scalar loss.
    step : callable, optional
        (network, parts, optimizers, batch) -> the losses of one training step. Default: one loss, one update.
    parts : callable, optional
        Model -> its networks by name, each with a Recorder and an optimiser of its own. Default: the model.
    twin : callable, optional
        () -> a model of the same numbers for the slow reader, where it cannot read the model itself.
    composites : mapping
        Type name of an activation module that is several ATen operations -> why its pass is read at the module.
    apart : mapping
        Layer pattern -> why the slow reader cannot see these sites: their numbers are not compared.
    silent : tuple of str
        Sites that no forward pass goes through: the Recorder must warn of them by name, and of no others.
    also : tuple of str
        ATen operations that are activations in this network and arithmetic in others.
    fused : str
        Why outputs of the evaluation are equal to rounding only.
    own_masks : bool
        Whether masks are drawn in a forward method by torch's own random functions: no dropout can be listed.
    warns : tuple of str
        Parts of the other warnings that the Recorder must give, one each.
    """

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[torch.Generator], Any]
    loss: Callable[[nn.Module, Any], Tensor]
    step: Callable[..., list[Tensor]] | None = None
    parts: Callable[[nn.Module], dict[str, nn.Module]] = lambda model: {"model": model}
    lr: float = 0.05
    momentum: float = 0.9
    twin: Callable[[], nn.Module] | None = None
    composites: Mapping[str, str] = field(default_factory=dict)
    apart: Mapping[str, str] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    fused: str = ""
    own_masks: bool = False
    warns: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return self.name

    def make(self, *, twin: bool = False) -> nn.Module:
        """Build the model, the same each time."""
        torch.manual_seed(0)
        return (self.twin if twin and self.twin else self.build)().train()

    def batches(self) -> list[Any]:
        """Draw the batches of the training and, last, one for the evaluation, without the global generator."""
        return [self.batch(torch.Generator().manual_seed(step)) for step in range(1, STEPS + 2)]

    def optimizers(self, parts: Mapping[str, nn.Module]) -> dict[str, torch.optim.Optimizer]:
        """Return an optimiser for each part."""
        return {
            name: torch.optim.SGD(part.parameters(), lr=self.lr, momentum=self.momentum) for name, part in parts.items()
        }

    def train_step(
        self, parts: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer], batch: Any
    ) -> list[Tensor]:
        """Train one step; return its losses, detached."""
        if self.step is not None:
            return self.step(self, parts, optimizers, batch)
        (model,), (optimizer,) = parts.values(), optimizers.values()
        loss = self.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return [loss.detach()]


def images(generator: torch.Generator, n: int = 4, size: int = 32, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Draw images of three channels, and labels."""
    return torch.randn(n, 3, size, size, generator=generator), torch.randint(classes, (n,), generator=generator)


def vectors(generator: torch.Generator, n: int = 8, width: int = 6, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Draw vectors, and labels."""
    return torch.randn(n, width, generator=generator), torch.randint(classes, (n,), generator=generator)


def classify(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the cross entropy of a classifier."""
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)
