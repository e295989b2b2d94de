"""Networks that recompute parts of their forward pass in the backward pass."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from tests.zoo.network import Network, classify, vectors


class _Half(nn.Module):
    """A block with dropout, one activation that is a module and one that is a function."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.a, self.b, self.activation, self.dropout = (
            nn.Linear(width, width),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Dropout(0.3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + F.silu(self.b(self.dropout(self.activation(self.a(x)))))


class Checkpointed(nn.Module):
    """Recomputes its blocks in the backward pass."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 5)
        self.blocks = nn.ModuleList(_Half() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        for block in self.blocks:
            h = checkpoint(block, h, use_reentrant=self.reentrant) if self.training else block(h)
        return self.head(h)


class CheckpointedChain(nn.Module):
    """Recomputes segments of several modules; the last segment is not recomputed."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = nn.Sequential(nn.Linear(6, 6), *(_Half() for _ in range(3)), nn.Linear(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint_sequential(self.chain, 2, x, use_reentrant=False)


class SharedCheckpointed(nn.Module):
    """One activation in several recomputed blocks: they are recomputed last block first."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.layers, self.activation = nn.ModuleList(nn.Linear(6, 6) for _ in range(4)), nn.Tanh()
        self.head = nn.Linear(6, 5)

    def block(self, first: int, h: Tensor) -> Tensor:
        return self.activation(self.layers[first + 1](self.activation(self.layers[first](h))))

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(x + self.head.bias.sum())
        for first in (0, 2):
            run = partial(self.block, first)
            h = checkpoint(run, h, use_reentrant=self.reentrant) if self.training else run(h)
        return self.head(h)


NETWORKS = (
    Network("checkpoint_reentrant", lambda: Checkpointed(reentrant=True), vectors, classify),
    Network("checkpoint_non_reentrant", lambda: Checkpointed(reentrant=False), vectors, classify),
    Network("checkpoint_sequential", CheckpointedChain, vectors, classify),
    Network("checkpoint_shared_reentrant", lambda: SharedCheckpointed(reentrant=True), vectors, classify),
    Network("checkpoint_shared_non_reentrant", lambda: SharedCheckpointed(reentrant=False), vectors, classify),
)
