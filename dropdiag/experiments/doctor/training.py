"""Ten steps of a small network, bare and recorded, and the numbers of the bare one as numpy has them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dropdiag.recorder import Recorder

STEPS: Final = 10
WIDTHS: Final = (12, 16, 8, 3)
BATCH: Final = 20
SEED: Final = 7
Array = NDArray[np.float32]


class Trained(NamedTuple):
    """What a training ends with, bit for bit.

    Attributes
    ----------
    losses : list of float
    tensors : list of Tensor
        Weights, their last gradients, and the random states.
    """

    losses: list[float]
    tensors: list[Tensor]


class Numbers(NamedTuple):
    """What numpy has of a bare training.

    Attributes
    ----------
    weights : dict
        Layer -> the weights after the last step.
    net_values, net_gradients : dict
        Layer and step -> the net values of the batch, and the loss's gradient with respect to them.
    """

    weights: dict[str, Array]
    net_values: dict[tuple[str, int], Array]
    net_gradients: dict[tuple[str, int], Array]


def network(device: str) -> nn.Sequential:
    """Make the network, the same each time."""
    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    for before, after in pairwise(WIDTHS[:-1]):
        layers += [nn.Linear(before, after), nn.Tanh(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(*WIDTHS[-2:])).to(device)


def bare(device: str) -> tuple[Trained, Numbers]:
    """Train without a Recorder, layer by layer, and keep what goes into each activation."""
    model = network(device)
    numbers = Numbers({}, {}, {})

    def forward(x: Tensor) -> Tensor:
        kept.clear()
        for name, layer in model.named_children():
            if isinstance(layer, nn.Tanh):
                x.retain_grad()
                kept[name] = x
            x = layer(x)
        return x

    def after(step: int) -> None:
        for name, z in kept.items():
            numbers.net_values[name, step] = _array(z)
            numbers.net_gradients[name, step] = _array(z.grad)

    kept: dict[str, Tensor] = {}
    trained = _train(model, device, forward, after)
    for name, layer in model.named_children():
        if isinstance(layer, nn.Linear):
            numbers.weights[name] = _array(layer.weight)
    return trained, numbers


def recorded(device: str, path: Path) -> Trained:
    """Train with a Recorder."""
    model = network(device)
    with Recorder(model, path, every=1, strict=True) as rec:
        return _train(model, device, model, lambda _: None, rec)


def _train(
    model: nn.Module,
    device: str,
    forward: Callable[[Tensor], Tensor],
    after: Callable[[int], None],
    rec: Recorder | None = None,
) -> Trained:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    losses = []
    for step in range(1, STEPS + 1):
        x = torch.randn(BATCH, WIDTHS[0], generator=generator).to(device)
        y = torch.randint(WIDTHS[-1], (BATCH,), generator=generator).to(device)
        loss = F.cross_entropy(forward(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
        after(step)
        if rec is not None:
            rec.step(loss=loss)
    kept = [t.detach().cpu().clone() for p in model.parameters() for t in (p, p.grad) if t is not None]
    return Trained(losses, [*kept, *_random_states(device)])


def _random_states(device: str) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.startswith("cuda"):
        states.append(torch.cuda.get_rng_state(device))
    if device == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def _array(values: Tensor | None) -> Array:
    assert values is not None  # noqa: S101 - retain_grad() was called
    return values.detach().cpu().numpy().copy()
