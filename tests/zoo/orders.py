"""Networks that run in another order than they declare, or lay out their nodes in another dimension than usual."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.network import Network, classify, images, vectors


class Backwards(nn.Module):
    """Declares its layers from the last to the first."""

    def __init__(self, functional: bool = False) -> None:
        super().__init__()
        self.head, self.c, self.b, self.a = nn.Linear(8, 5), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(6, 8)
        self.activations = nn.ModuleList() if functional else nn.ModuleList(nn.Tanh() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        own = list(self.activations)[::-1] or [torch.tanh] * 3
        for layer, activation in zip((self.a, self.b, self.c), own, strict=True):
            x = activation(layer(x))
        return self.head(x)


class Parallel(nn.Module):
    """Branches side by side, one of them of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(3, 4, 1)
        self.deep = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ELU(), nn.Conv2d(4, 4, 3, padding=1))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        branches = F.relu(self.wide(x)), torch.sigmoid(self.narrow(x)), F.silu(self.deep(x))
        return self.head(torch.cat(branches, 1).mean((2, 3)))


class Filters(nn.Module):
    """Convolutions over time whose channels are moved to the last dimension before they are activated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(1, 5, 3, padding=1), nn.Conv1d(5, 7, 3, padding=1)
        self.activation, self.head = nn.GELU(), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.first(x.unsqueeze(1)).permute(0, 2, 1))
        h = torch.tanh(self.second(h.transpose(1, 2)).mT)
        return self.head(h.mean(1))


class Heads(nn.Module):
    """Activations of attention heads: features in the last dimension, heads in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(2, 8) for _ in range(4))
        self.out, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(len(x), 3, 2)
        q, k, v = (layer(x).view(len(x), 3, 2, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        h = (q @ (k.mT @ v)) / (q @ k.sum(2, keepdim=True).mT)
        return self.head(F.relu(self.out(h.transpose(1, 2).flatten(2))).mean(1))


class ChannelsLast(nn.Module):
    """A ConvNeXt block: depthwise convolution, then Linears over the channels in the last dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 6, 2, 2), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm, self.up, self.down, self.head = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(12, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.down(F.gelu(self.up(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))))
        return self.head((x + h.permute(0, 3, 1, 2)).mean((2, 3)))


class Excitation(nn.Module):
    """Squeeze and excitation with 1x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.squeeze, self.excite, self.head = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head((x * gate).mean((2, 3)))


class Dense(nn.Module):
    """Each layer takes what all before it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.norms, self.head = nn.ModuleList(nn.BatchNorm2d(3 + 4 * i) for i in range(3)), nn.Linear(15, 5)

    def forward(self, x: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = torch.cat([x, layer(F.leaky_relu(norm(x), 0.1))], 1)
        return self.head(x.mean((2, 3)))


class InAndAfter(nn.Module):
    """A layer that activates inside, and whose output is activated again."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(6, 6) * 0.4), _Activated()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.head(F.relu(F.linear(x, self.weight))))


class _Activated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 6) * 0.4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.linear(x, self.weight)) - 0.2


def _small(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return images(generator, size=8)


NETWORKS = (
    Network("declared_backwards", Backwards, vectors, classify),
    Network("declared_backwards_functional", lambda: Backwards(functional=True), vectors, classify),
    Network("parallel_branches", Parallel, _small, classify),
    Network("channels_moved", Filters, vectors, classify),
    Network("linear_attention_heads", Heads, vectors, classify),
    Network("channels_last_block", ChannelsLast, _small, classify),
    Network("squeeze_excitation", Excitation, _small, classify),
    Network("densely_connected", Dense, _small, classify),
    Network("activated_inside_and_after", InAndAfter, vectors, classify),
)
