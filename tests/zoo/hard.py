"""Networks with gradients, types or shapes that are easily read wrongly."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.network import Network, classify, vectors


class EmptyExperts(nn.Module):
    """A mixture whose last expert is called with no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        chosen, out = (x[:, 0] > 0).long(), x.new_zeros(len(x), 5)
        for number, expert in enumerate(self.experts):
            (rows,) = torch.where(chosen == number)
            out = out.index_add(0, rows, expert(x[rows]))
        return out


class ActivatedParameters(nn.Module):
    """Activations of parameters: these tensors live on from step to step, and one has no dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.gate, self.scale = (
            nn.Linear(6, 5),
            nn.Parameter(torch.randn(5)),
            nn.Parameter(torch.tensor(0.3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.gate) * self.linear(x) * F.softplus(self.scale)


class TwoWays(nn.Module):
    """One net value enters two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head, self.activation = nn.Linear(6, 8), nn.Linear(16, 5), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        z = self.linear(x)
        return self.head(torch.cat([self.activation(z), torch.tanh(z)], 1)) + self.activation(-z)[:, :5]


def _mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    layers = nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 5)
    return nn.Sequential(*layers).to(dtype)


def _in(dtype: torch.dtype, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0].to(dtype)).float(), batch[1])


def _autocast(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return classify(model, batch)


def _two_losses(network, parts, optimizers, batch) -> list[Tensor]:
    """Two losses on one forward pass, each with its own backward pass through the same graph."""
    (model,), (optimizer,) = parts.values(), optimizers.values()
    out = model(batch[0])
    losses = F.cross_entropy(out, batch[1]), 0.1 * out.square().mean()
    optimizer.zero_grad()
    losses[0].backward(retain_graph=True)
    losses[1].backward()
    optimizer.step()
    return [loss.detach() for loss in losses]


def _penalty(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Penalise the gradient by the input: a backward pass that is differentiated itself."""
    x = batch[0].clone().requires_grad_()
    with torch.enable_grad():
        out = model(x)
        (gradient,) = torch.autograd.grad(out.sum(), x, create_graph=torch.is_grad_enabled())
    return F.cross_entropy(out, batch[1]) + gradient.square().mean()


def _accumulate(network, parts, optimizers, batch) -> list[Tensor]:
    """Two micro-batches, one update."""
    (model,), (optimizer,) = parts.values(), optimizers.values()
    optimizer.zero_grad()
    losses = [network.loss(model, micro) / 2 for micro in zip(*(part.chunk(2) for part in batch), strict=True)]
    for loss in losses:
        loss.backward()
    optimizer.step()
    return [loss.detach() for loss in losses]


NETWORKS = (
    Network("experts_empty_batches", EmptyExperts, vectors, classify),
    Network("activated_parameters", ActivatedParameters, vectors, classify),
    Network("one_net_value_two_activations", TwoWays, vectors, classify),
    Network("float64", lambda: _mlp(torch.float64), vectors, partial(_in, torch.float64)),
    Network("bfloat16", lambda: _mlp(torch.bfloat16), vectors, partial(_in, torch.bfloat16)),
    Network("autocast", _mlp, vectors, _autocast),
    Network("two_backward_passes", _mlp, vectors, classify, step=_two_losses, warns=("add the losses",)),
    Network("micro_batches", _mlp, vectors, classify, step=_accumulate),
    Network("gradient_penalty", _mlp, vectors, _penalty),
)
