"""Networks with dropout of every kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo import from_timm  # noqa: F401 - makes torchvision importable
from tests.zoo.network import Network, classify, images, vectors

from timm.layers import DropBlock2d, DropPath, PatchDropout  # isort: skip
from torchvision.ops import DropBlock2d as OtherDropBlock2d, StochasticDepth, stochastic_depth  # isort: skip


class WeightDrop(nn.Module):
    """AWD-LSTM's dropout on recurrent weights."""

    def __init__(self, module: nn.Module, name: str, dropout: float) -> None:
        super().__init__()
        self.module, self.name, self.dropout = module, name, dropout
        self.raw = nn.Parameter(getattr(module, name).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        given = {self.name: F.dropout(self.raw, self.dropout, self.training)}
        return torch.func.functional_call(self.module, given, (x,))[0]


class LockedDropout(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * x.new_empty(x.shape[0], 1, x.shape[2]).bernoulli_(1 - self.p) / (1 - self.p)


class WordDropout(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x.masked_fill(torch.rand(x.shape) < self.p, 0) if self.training else x


class AWDLSTM(nn.Module):
    """Word, locked and weight dropout, and an LSTM's own."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.embedding, self.locked = WordDropout(0.1), nn.Embedding(11, 8), LockedDropout(0.2)
        self.first = WeightDrop(nn.LSTM(8, 8, batch_first=True), "weight_hh_l0", 0.5)
        self.second = nn.LSTM(8, 8, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        h = self.locked(self.embedding(self.words(x)))
        return self.head(self.second(self.first(h))[0][:, -1])


def _sentences(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randint(11, (6, 7), generator=generator), torch.randint(5, (6,), generator=generator)


class Zoneout(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, new: Tensor, previous: Tensor) -> Tensor:
        return (1 - self.p) * F.dropout(new - previous, self.p, self.training) + previous


class Recurrent(nn.Module):
    """States that are kept at random, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.zoneout, self.act, self.head = nn.Linear(9, 8), Zoneout(0.2), nn.Tanh(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 8)
        for step in x.unbind(1):
            state = self.zoneout(self.act(self.cell(torch.cat([step[:, None], state], 1))), state)
        return self.head(state)


class ConcreteDropout(nn.Module):
    """Gal, Hron & Kendall 2017; no sigmoid of torch, which the slow reader would take for an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.p_logit = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        p, noise = _soft_step(self.p_logit), torch.rand_like(x)
        logits = torch.log(p) - torch.log1p(-p) + torch.log(noise + 1e-7) - torch.log1p(-noise + 1e-7)
        return x * (1 - _soft_step(logits / 0.1)) / (1 - p)


def _soft_step(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def _concrete() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), ConcreteDropout(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 5))


def _selu() -> nn.Module:
    first = (nn.Conv2d(3, 6, 3, stride=2), nn.SELU(), nn.FeatureAlphaDropout(0.2))
    return nn.Sequential(*first, nn.Conv2d(6, 6, 3), nn.SELU(), nn.AlphaDropout(0.1), nn.Flatten(), nn.LazyLinear(5))


class Paths(nn.Module):
    """Blocks, paths and whole batches dropped, by modules and by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 6, 3, stride=2), nn.GELU()
        self.blocks = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(4))
        self.drops = nn.ModuleList([DropPath(0.3), StochasticDepth(0.3, "row"), StochasticDepth(0.5, "batch")])
        self.holes = nn.Sequential(DropBlock2d(0.2, 3), OtherDropBlock2d(0.2, 3))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.holes(self.act(self.stem(x)))
        for block, drop in zip(self.blocks, self.drops, strict=False):
            x = x + drop(F.relu(block(x)))
        x = x + stochastic_depth(F.silu(self.blocks[3](x)), 0.4, "row", self.training)
        return self.head(x.mean((2, 3)))


class Patches(nn.Module):
    """Fewer tokens than there are, attention with dropout, several rates in one forward method."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fewer = nn.Linear(3, 8), PatchDropout(0.4, num_prefix_tokens=0)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fewer(self.embed(x.flatten(2).transpose(1, 2)))
        q, k, v = F.dropout(self.qkv(h), 0.1, self.training).chunk(3, -1)
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=0.2 * self.training)
        h = F.relu(F.dropout(h, 0.3, self.training)).mean(1)
        return self.head(torch.feature_dropout(h[:, :, None], 0.2, self.training)[:, :, 0])


class LayerDrop(nn.Module):
    """Leaves layers out at random, and masks by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.layerdrop = nn.Linear(6, 8), nn.Linear(8, 5), 0.3
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        if self.training:
            h = h * torch.bernoulli(torch.full_like(h, 0.9)) / 0.9
        for number, layer in enumerate(self.layers):
            if not (self.training and number and torch.rand([]) < self.layerdrop):
                h = layer(h)
        return self.head(h)


class AlwaysOn(nn.Dropout):
    """Draws in evaluations, too (MC dropout)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, training=True)


def _always_on() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), AlwaysOn(0.2), nn.Linear(8, 5))


def _small(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return images(generator, size=8)


NETWORKS = (
    Network("awd_lstm", AWDLSTM, _sentences, classify),
    Network("zoneout", Recurrent, vectors, classify),
    Network("concrete_dropout", _concrete, vectors, classify),
    Network("selu_alpha_dropout", _selu, _small, classify),
    Network("paths_and_blocks", Paths, images, classify, lr=0.01),
    Network("patch_dropout", Patches, _small, classify),
    Network("layer_drop", LayerDrop, vectors, classify),
    Network("always_on", _always_on, vectors, classify, warns=("a dropout was active inside evaluation",)),
)
