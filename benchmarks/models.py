"""The networks that are measured, and a training loop that runs a block of steps at a time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (784, 512, 256, 256)


def mlp() -> nn.Module:
    """Return the paper's network: 784-512-256-256-10, tanh, dropout 0.5."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(a, b), nn.Tanh(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 10))


def cnn() -> nn.Module:
    """Return a small VGG: 0.3 million parameters, six convolutions with batch norm and ReLU."""
    layers: list[nn.Module] = []
    channels = (3, 32, 32, 64, 64, 128, 128)
    for number, (a, b) in enumerate(itertools.pairwise(channels)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
        layers += [nn.MaxPool2d(2), nn.Dropout(0.25)] if number % 2 else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


class Block(nn.Module):
    """One layer of a transformer, with its activation as a module."""

    def __init__(self, d: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out, self.heads = nn.Linear(d, 3 * d), nn.Linear(d, d), heads
        self.inner = nn.Sequential(nn.Linear(d, inner), nn.GELU(), nn.Dropout(0.1), nn.Linear(inner, d))

    def forward(self, x: Tensor) -> Tensor:
        """Attend, then transform each token."""
        batch, tokens, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1 if self.training else 0.0)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, d))
        return x + self.inner(self.norm2(x))


def transformer(layers: int = 6, d: int = 256, heads: int = 4, inner: int = 512, classes: int = 10) -> nn.Module:
    """Return a transformer over vectors; by default 6 layers, d 256, 4 heads, inner width 512."""
    blocks = [Block(d, heads, inner) for _ in range(layers)]
    return nn.Sequential(*blocks, nn.LayerNorm(d), nn.Linear(d, classes))


@dataclass(frozen=True)
class Case:
    """A network, the shape of its inputs, and how many rounds of blocks tell something in a few minutes."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    rounds: int


CASES = {
    "mlp": Case(mlp, (128, 784), 40),
    "cnn": Case(cnn, (64, 3, 32, 32), 8),
    "transformer": Case(transformer, (8, 128, 256), 6),
}


class Loop:
    """A training loop with a monitor on its network.

    Parameters
    ----------
    case : Case
    monitor : object
        With ``attach(model, folder)``, ``step(loss)`` and ``close()``.
    folder : Path
        Where the monitor writes.
    device : str
    context : callable
        Gives the context of each forward pass, e.g. autocast.
    """

    def __init__(self, case, monitor, folder, device="cpu", context=torch.enable_grad, wrap=lambda model: model):
        torch.manual_seed(0)
        self.model = case.make().to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.x = torch.randn(case.shape, device=device)
        self.monitor, self.context, self.device = monitor, context, device
        monitor.attach(self.model, folder)
        self.run = wrap(self.model)
        output = self.model(self.x)
        self.y = torch.randint(10, output.shape[:-1], device=device)

    def block(self, steps: int) -> float:
        """Train for so many steps and return the seconds they took, with all that is waited for at their end."""
        start = time.perf_counter()
        self.block_without_end(steps)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def block_without_end(self, steps: int) -> None:
        """Train for so many steps; a GPU may still be at work then."""
        for _ in range(steps):
            with self.context():
                loss = F.cross_entropy(self.run(self.x).flatten(0, -2), self.y.flatten())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.monitor.step(loss)
