"""Small networks and the plain training loop that tests record."""

import torch
import torch.nn.functional as F
from torch import nn


def mlp(seed: int = 0, activation=nn.Tanh, widths=(12, 16, 8, 8)) -> nn.Sequential:
    """An MLP with dropout; layers 0, 3, 6 (weights), 1, 4, 7 (activations), 9 (output)."""
    torch.manual_seed(seed)
    layers = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(a, b), activation(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 3))


def batches(steps: int, n: int = 20, width: int = 12, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        yield torch.randn(n, width, generator=generator) * 2, torch.randint(3, (n,), generator=generator)


def train(model, steps, recorder=None, seed: int = 1, lr: float = 0.5, after_step=None) -> list[torch.Tensor]:
    """Train with SGD and momentum; return the losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for x, y in batches(steps, seed=seed):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if recorder is not None:
            recorder.step(loss=loss)
        if after_step is not None:
            after_step()
    return losses
