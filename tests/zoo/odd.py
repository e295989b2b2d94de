"""Networks each with one habit that recorders trip over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.zoo.network import Network, classify, images, vectors


class Experts(nn.Module):
    """A mixture of four experts, one for each input; the last is never chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(6, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 5)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x) - torch.tensor([0.0, 0.0, 0.0, 1e9])
        weight, chosen = scores.softmax(-1).max(-1)
        out = x.new_zeros(len(x), 5)
        for number, expert in enumerate(self.experts):
            (rows,) = torch.where(chosen == number)
            if len(rows):
                out = out.index_add(0, rows, weight[rows, None] * expert(x[rows]))
        return out


def _inplace_cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(inplace=True)),
        *(nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8), nn.Hardswish(inplace=True), nn.Dropout2d(0.2, inplace=True)),
        *(nn.Conv2d(8, 8, 3), nn.ELU(inplace=True), nn.Flatten(), nn.Dropout(0.3), nn.LazyLinear(5)),
    )


def _inplace_tokens(inplace: bool = True) -> nn.Module:
    """A Linear gives a view for three dimensions, and in-place operations on views rewrite the graph before them."""
    activations = nn.ReLU(inplace=inplace), nn.SiLU(inplace=inplace)
    return nn.Sequential(nn.Linear(6, 8), activations[0], nn.Linear(8, 8), activations[1], nn.Linear(8, 5))


def _of_tokens(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return F.cross_entropy(model(x.view(4, 2, 6)).flatten(0, 1), y)


@dataclass
class Output:
    logits: Tensor
    hidden: dict[str, Tensor]


class _Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.activation = nn.Linear(6, 8), nn.SELU()

    def forward(self, x: Tensor, *, scale: float) -> dict[str, Tensor]:
        return {"last": self.activation(input=self.linear(x)) * scale, "input": x}


class Structured(nn.Module):
    """Submodules with keywords, that give a dict; the model gives a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = _Trunk(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Output:
        hidden = self.trunk(x, scale=2.0)
        return Output(self.head(hidden["last"]), hidden)


def _structured_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    out = model(batch[0])
    return F.cross_entropy(out.logits, batch[1]) + 0.01 * out.hidden["last"].square().mean()


def _normed() -> nn.Module:
    return nn.Sequential(
        *(parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh()),
        *(parametrizations.spectral_norm(nn.Linear(8, 8)), nn.LeakyReLU()),
        *(parametrizations.orthogonal(nn.Linear(8, 8)), nn.Mish(), nn.Linear(8, 5)),
    )


class Shared(nn.Module):
    """One activation module three times, and one block called again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 5)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.first(x))
        for _ in range(3):
            h = h + torch.sigmoid(self.again(self.activation(h - 0.5)))
        return self.head(h)


class PreActivation(nn.Module):
    """What enters an activation goes past it too: dL/dz is the sum over both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, 6, 3, padding=1) for c in (3, 6, 6))
        self.norms = nn.ModuleList(nn.GroupNorm(2, 6) for _ in range(2))
        self.activation, self.head = nn.GELU(approximate="tanh"), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        z = self.convs[0](x)
        for norm, conv in zip(self.norms, self.convs[1:], strict=True):
            z = norm(z)
            z = z + conv(self.activation(z))
        return self.head(z.mean((2, 3)))


class Gated(nn.Module):
    """Gated units as a module and as a function, and learned slopes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 16), nn.Linear(8, 12), nn.Linear(6, 5)
        self.unit, self.slope, self.slopes = nn.GLU(), nn.PReLU(6), nn.Parameter(torch.full((5,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.head(self.slope(F.glu(self.b(self.unit(self.a(x))), dim=-1)))
        return F.prelu(h, self.slopes)


class Words(nn.Module):
    """Sparse gradients, a frozen layer, one that is unfrozen at the third step, and a layer that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, sparse=True)
        self.frozen, self.late, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 5)
        self.unused = nn.Linear(3, 3)
        self.frozen.requires_grad_(False)
        self.late.requires_grad_(False)
        self.passes = 0

    def forward(self, words: Tensor) -> Tensor:
        self.passes += self.training
        if self.passes == 3:
            self.late.requires_grad_(True)
        return self.head(torch.tanh(self.late(torch.sigmoid(self.frozen(self.embedding(words).mean(1))))))


def _words(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randint(11, (8, 3), generator=generator), torch.randint(5, (8,), generator=generator)


def _frozen_input() -> nn.Module:
    """The first activation's input needs no gradient: its gradient flow is missing, not zero."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 5))
    model[0].requires_grad_(False)
    return model


_ROUTED = "experts.3.1"

NETWORKS = (
    Network("experts_one_unused", Experts, vectors, classify, silent=(_ROUTED,)),
    Network("cnn_inplace_lazy", _inplace_cnn, images, classify),
    Network("tokens_inplace", _inplace_tokens, vectors, _of_tokens, twin=partial(_inplace_tokens, inplace=False)),
    Network("structured_outputs", Structured, vectors, _structured_loss),
    Network("parametrized", _normed, vectors, classify),
    Network("shared_activation", Shared, vectors, classify),
    Network("pre_activation", PreActivation, lambda generator: images(generator, size=8), classify),
    Network("sparse_frozen_unfrozen_unused", Words, _words, classify, momentum=0.0),
    Network("frozen_input", _frozen_input, vectors, classify),
    Network("gated_units", Gated, vectors, classify),
)
