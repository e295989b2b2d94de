"""Networks of fields beside vision and language, and activations that are no usual ones."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune, spectral_norm, weight_norm

from tests.zoo.network import Network, classify, vectors


class Siren(nn.Module):
    """Sines as activations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sin(3 * self.b(torch.sin(3 * self.a(x)))))


class Maxout(nn.Module):
    """The larger of two linear pieces: no activation that anybody could know."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(6, 16), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x).view(-1, 8, 2).amax(-1))


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z > 0).to(z.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return gradient / (1 + 10 * z.abs()) ** 2


class Spiking(nn.Module):
    """Leaky neurons that spike, with a surrogate gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(6, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        potential, rate = x.new_zeros(len(x), 12), 0.0
        for _ in range(4):
            potential = 0.8 * potential + self.a(x)
            spikes = _Spike.apply(potential - 1.0)
            potential, rate = potential - spikes, rate + spikes / 4
        return self.head(rate)


class Flow(nn.Module):
    """Affine couplings."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6)) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(len(x))
        for net in self.nets:
            a, b = x.chunk(2, -1)
            scale, shift = net(a).chunk(2, -1)
            scale = torch.tanh(scale)
            x, log_det = torch.cat([b * scale.exp() + shift, a], -1), log_det + scale.sum(-1)
        return x, log_det


def _likelihood(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    z, log_det = model(batch[0])
    return (0.5 * z.square().sum(-1) - log_det).mean()


class Hyper(nn.Module):
    """One network makes the weights of another."""

    def __init__(self) -> None:
        super().__init__()
        self.maker, self.code, self.head = nn.Linear(4, 48), nn.Parameter(torch.randn(4)), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.tanh(self.maker(self.code)).view(8, 6)
        return self.head(F.relu(F.linear(x, weight)))


class FixedPoint(nn.Module):
    """Runs to a fixed point without gradients, then once with."""

    def __init__(self) -> None:
        super().__init__()
        self.inject, self.again, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(0.3 * self.again(z) + x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inject(x)
        with torch.no_grad():
            z = torch.zeros_like(x)
            for _ in range(4):
                z = self.step(z, x)
        return self.head(self.step(z, x))


class Graph(nn.Module):
    """Messages along the edges of a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update, self.head = nn.Linear(12, 8), nn.Linear(14, 8), nn.Linear(8, 5)
        self.register_buffer("edges", torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        source, target = self.edges
        messages = F.softplus(self.message(torch.cat([x[source], x[target]], -1)))
        gathered = x.new_zeros(len(x), 8).index_add(0, target, messages)
        return self.head(F.mish(self.update(torch.cat([x, gathered], -1))))


class Highway(nn.Module):
    """Gates decide how much passes unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.change, self.gate = nn.ModuleList(nn.Linear(6, 6) for _ in range(2)), nn.Linear(6, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        for change in self.change:
            gate = torch.sigmoid(self.gate(x))
            x = gate * F.relu(change(x)) + (1 - gate) * x
        return self.head(x)


class Points(nn.Module):
    """One network for all points of a set, and a maximum over them."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.head = nn.Sequential(nn.Conv1d(2, 8, 1), nn.BatchNorm1d(8), nn.ReLU6()), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(x.view(len(x), 2, 3)).amax(-1))


class Adapted(nn.Module):
    """A frozen layer with a low-rank addition that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(6, 2), nn.Linear(2, 8), nn.Linear(8, 5)
        self.base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.base(x) + 0.5 * self.b(self.a(x))))


class Ordinary(nn.Module):
    """A small differential equation, in steps of Euler."""

    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(7, 8), nn.Softplus(), nn.Linear(8, 6))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        for step in range(3):
            x = x + self.field(torch.cat([x, x.new_full((len(x), 1), step / 3)], 1)) / 3
        return self.head(x)


class Rotary(nn.Module):
    """Attention whose positions are angles: their sines are no activations."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.head = (nn.Linear(2, 4) for _ in range(4))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(len(x), 3, 2)
        angles = torch.arange(3.0)[:, None] * torch.tensor([1.0, 0.1])
        turn = torch.cat([angles.sin(), angles.cos()], -1)
        q, k = self.q(x) * turn, self.k(x) * turn
        weights = ((q @ k.mT) / math.sqrt(4)).softmax(-1)
        return self.head(F.hardswish(weights @ self.v(x)).mean(1))


def _hook_made(wrap) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and in use all the same
        return _wrapped(wrap)


def _wrapped(wrap) -> nn.Module:
    return nn.Sequential(wrap(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))


def _pruned(layer: nn.Linear) -> nn.Linear:
    return prune.l1_unstructured(layer, "weight", amount=0.4)


NO_ACTIVATION = ("no activation function is known", "saw no forward pass through a recorded activation")

NETWORKS = (
    Network("siren", Siren, vectors, classify, also=("sin",)),
    Network("maxout", Maxout, vectors, classify, warns=NO_ACTIVATION),
    Network("spiking", Spiking, vectors, classify, warns=NO_ACTIVATION),
    Network("normalising_flow", Flow, vectors, _likelihood),
    Network("hypernetwork", Hyper, vectors, classify),
    Network("fixed_point", FixedPoint, vectors, classify),
    Network("graph", Graph, vectors, classify),
    Network("highway", Highway, vectors, classify),
    Network("point_set", Points, vectors, classify),
    Network("low_rank_adapter", Adapted, vectors, classify),
    Network("differential_equation", Ordinary, vectors, classify),
    Network("rotary_positions", Rotary, vectors, classify),
    Network("old_weight_norm", lambda: _hook_made(weight_norm), vectors, classify),
    Network("old_spectral_norm", lambda: _hook_made(spectral_norm), vectors, classify),
    Network("pruned", lambda: _hook_made(_pruned), vectors, classify),
)
