"""Networks with dropout of every kind, each in small."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.from_timm import DropBlock2d, DropPath, PatchDropout
from tests.zoo.network import FUSED, Network, classify, images, vectors


def _mlp(*behind: nn.Module, activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    """An MLP with one of the dropouts behind each activation."""
    layers: list[nn.Module] = []
    for dropout in behind:
        layers += [nn.Linear(6, 6), activation(), dropout]
    return nn.Sequential(*layers, nn.Linear(6, 5))


class _Sequences(nn.Module):
    """Vectors as short sequences, through a module that gives (output, state) or an output."""

    def __init__(self, inner: nn.Module, width: int = 6) -> None:
        super().__init__()
        self.embed, self.inner, self.head = nn.Linear(2, 6), inner, nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(torch.relu(self.embed(x.view(len(x), 3, 2))))
        h = h[0] if isinstance(h, tuple) else h
        return self.head(h.mean(1))


class _SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)


class FlashAttention(nn.Module):
    """Attention by torch's function, with a dropout of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, dropout_p=0.2 if self.training else 0.0))


class LockedDropout(nn.Module):
    """One mask for all time steps."""

    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * x.new_empty(len(x), 1, x.shape[-1]).bernoulli_(1 - self.p) / (1 - self.p)


class WordDropout(nn.Module):
    """Drops whole words of an embedding."""

    def __init__(self, p: float = 0.2) -> None:
        super().__init__()
        self.p, self.embedding, self.head = p, nn.Embedding(11, 6), nn.Linear(6, 5)

    def forward(self, words: Tensor) -> Tensor:
        weight = self.embedding.weight
        if self.training:
            weight = weight * (torch.rand(len(weight), 1) >= self.p) / (1 - self.p)
        return self.head(torch.tanh(F.embedding(words, weight).mean(1)))


def _words(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randint(11, (8, 3), generator=generator), torch.randint(5, (8,), generator=generator)


class WeightDrop(nn.Module):
    """Dropout on the recurrent weights, as in an AWD-LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 6, batch_first=True)
        raw = self.rnn.weight_hh_l0
        del self.rnn._parameters["weight_hh_l0"]
        self.rnn.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.detach()))
        self._set()

    def _set(self) -> None:
        self.rnn.weight_hh_l0 = F.dropout(self.rnn.weight_hh_l0_raw, 0.3, self.training)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self._set()
        inputs, hidden = (w.unbind() for w in (x.transpose(0, 1), x.new_zeros(2, len(x), 6)))
        h, c = hidden
        outputs = []
        for step in inputs:
            gates = F.linear(step, self.rnn.weight_ih_l0, self.rnn.bias_ih_l0) + F.linear(h, self.rnn.weight_hh_l0)
            i, f, g, o = gates.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs, 1), h


class Zoneout(nn.Module):
    """Keeps units of the previous state at random."""

    def __init__(self, p: float = 0.2) -> None:
        super().__init__()
        self.p, self.cell = p, nn.RNNCell(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(len(x), 6), []
        for step in x.unbind(1):
            new = self.cell(step, h)
            keep = torch.rand_like(h) < self.p if self.training else torch.full_like(h, self.p)
            h = torch.where(keep, h, new) if self.training else self.p * h + (1 - self.p) * new
            states.append(h)
        return torch.stack(states, 1)


class GaussianDropout(nn.Module):
    """Multiplicative normal noise of variance p / (1 - p)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 0.5 * torch.randn_like(x)) if self.training else x


class Written(nn.Module):
    """Masks written out in the forward method."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if self.training:
            h = h * torch.bernoulli(torch.full_like(h, 0.7)) / 0.7
        h = torch.tanh(self.b(h))
        return self.head(h * (torch.rand_like(h) > 0.2) / 0.8 if self.training else h)


class SeveralRates(nn.Module):
    """Several functional dropouts of one module, each at its own rate."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(F.relu(self.a(F.dropout(x, 0.1, self.training))), 0.5, self.training)
        h = torch.feature_dropout(torch.tanh(self.b(h)), 0.2, self.training)
        return self.head(F.alpha_dropout(h, p=0.1, training=self.training))


class OwnGenerator(nn.Module):
    """A dropout with a generator, a counter and a mask that it keeps for two passes."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.passes, self.mask = torch.Generator().manual_seed(5), 0, None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if self.passes % 2 == 0 or self.mask is None or self.mask.shape != x.shape:
            self.mask = torch.rand(x.shape, generator=self.generator) > 0.3
        self.passes += 1
        return x * self.mask / 0.7


class HostRandomness(nn.Module):
    """Masks drawn by numpy's and Python's generators."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.from_numpy(np.random.rand(*x.shape) > 0.2)  # noqa: NPY002 - the state that is to stay as it is
        return x * keep / 0.8 * (1.0 if random.random() > 0.1 else 0.5)


class LayerDrop(nn.Module):
    """Layers that are left out at random, whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.GELU()) for _ in range(5))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if not self.training or torch.rand(()) > 0.3:
                x = x + layer(x)
        return self.head(x)


class Scheduled(nn.Module):
    """A rate that falls from pass to pass."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop, self.head, self.passes = nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 5), 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        self.drop.p = max(0.5 - 0.1 * self.passes, 0.0)
        return self.head(self.drop(torch.relu(self.a(x))))


class Residual(nn.Module):
    """Convolutions whose branches and blocks of positions are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.branches = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.paths = nn.ModuleList((DropPath(0.3), DropPath(0.5)))
        self.block, self.head = DropBlock2d(0.2, block_size=3), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(torch.relu(self.stem(x)))
        for branch, path in zip(self.branches, self.paths, strict=True):
            x = x + path(torch.tanh(branch(x)))
        return self.head(x.mean((2, 3)))


def _patches() -> nn.Module:
    patches = PatchDropout(0.5, num_prefix_tokens=0)
    return _Sequences(nn.Sequential(patches, nn.Linear(6, 6), nn.GELU()))


def _tensor_rate() -> nn.Module:
    return _mlp(nn.Dropout(torch.tensor(0.3)), nn.Dropout(np.float32(0.2)))


NETWORKS = (
    Network("drop_none", lambda: _mlp(nn.Dropout(0.0), nn.Dropout(0.0), nn.Dropout(0.0)), vectors, classify),
    Network("drop_alpha", lambda: _mlp(nn.AlphaDropout(0.2), nn.AlphaDropout(0.4), activation=nn.SELU), vectors, classify),
    Network("drop_tensor_rate", _tensor_rate, vectors, classify),
    Network("drop_inplace", lambda: _mlp(nn.Dropout(0.3, True), nn.Dropout(0.3, True), activation=nn.GELU), vectors, classify),
    Network("drop_lstm", lambda: _Sequences(nn.LSTM(6, 6, 2, batch_first=True, dropout=0.3)), vectors, classify),
    Network("drop_gru", lambda: _Sequences(nn.GRU(6, 6, 3, batch_first=True, dropout=0.2, bidirectional=True), 12), vectors, classify),
    Network("drop_attention", lambda: _Sequences(_SelfAttention(6, 2, dropout=0.3, batch_first=True)), vectors, classify, fused=FUSED),
    Network("drop_flash", lambda: _Sequences(FlashAttention()), vectors, classify),
    Network("drop_locked", lambda: _Sequences(LockedDropout()), vectors, classify),
    Network("drop_word", WordDropout, _words, classify),
    # In evaluation mode dropout gives the parameter itself, which a module takes for a new parameter of its own.
    Network("drop_weight", lambda: _Sequences(WeightDrop()), vectors, classify, silent=("inner.rnn",)),
    Network("drop_zoneout", lambda: _Sequences(Zoneout()), vectors, classify),
    Network("drop_gaussian", lambda: _mlp(GaussianDropout(), GaussianDropout()), vectors, classify),
    Network("drop_written", Written, vectors, classify, own_masks=True),
    Network("drop_several_rates", SeveralRates, vectors, classify),
    Network("drop_own_generator", lambda: _mlp(OwnGenerator(), OwnGenerator()), vectors, classify),
    Network("drop_host_randomness", lambda: _mlp(HostRandomness()), vectors, classify),
    Network("drop_layers", LayerDrop, vectors, classify),
    Network("drop_scheduled", Scheduled, vectors, classify),
    Network("drop_paths_and_blocks", Residual, lambda generator: images(generator, size=8), classify),
    Network("drop_patches", _patches, vectors, classify),
)  # fmt: skip
