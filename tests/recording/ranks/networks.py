"""Small networks for jobs of several ranks; activations are modules, so that a test can watch them by hooks of its own."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

FEATURES, CLASSES = 12, 4


class Mlp(nn.Module):
    """Two hidden layers."""

    shape = (FEATURES,)

    def __init__(self, rate=0.0):
        super().__init__()
        self.fc1, self.act1 = nn.Linear(FEATURES, 16), nn.Tanh()
        self.drop = nn.Dropout(rate)
        self.fc2, self.act2 = nn.Linear(16, 16), nn.ReLU()
        self.out = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.out(self.act2(self.fc2(self.drop(self.act1(self.fc1(x))))))


class Branched(Mlp):
    """The same, of which a rank may leave out the middle."""

    skips = False

    def forward(self, x):
        h = self.act1(self.fc1(x))
        return self.out(h if self.skips else h + self.act2(self.fc2(h)))


class Checkpointed(Mlp):
    """The same, of which the middle is run again inside the backward pass."""

    reentrant = False

    def middle(self, x):
        return self.act2(self.fc2(self.drop(self.act1(x))))

    def forward(self, x):
        return self.out(checkpoint(self.middle, self.fc1(x), use_reentrant=self.reentrant))


class Reentrant(Checkpointed):
    """By the older way, which runs the middle without gradients first."""

    reentrant = True


class Cnn(nn.Module):
    """A convolution whose batch norm is frozen, as its statistics would be those of a rank's own batch."""

    shape = (3, 6, 6)

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        self.fc, self.act2 = nn.Linear(8 * 16, 16), nn.Sigmoid()
        self.out = nn.Linear(16, CLASSES)

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x):
        return self.out(self.act2(self.fc(self.act1(self.norm(self.conv(x))).flatten(1))))


class Block(nn.Module):
    """An encoder layer, written out."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2, self.up, self.act, self.down = (
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )  # fmt: skip

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(self.act(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Two blocks over five tokens."""

    shape = (5, FEATURES)

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(FEATURES), Block(FEATURES))
        self.head, self.act, self.out = nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.out(self.act(self.head(self.blocks(x).mean(1))))


NETWORKS = {
    "mlp": Mlp,
    "branched": Branched,
    "checkpointed": Checkpointed,
    "reentrant": Reentrant,
    "cnn": Cnn,
    "transformer": Transformer,
}
ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU)


def network(name, dtype):
    """Return a network with the same weights on every rank."""
    torch.manual_seed(7)
    return NETWORKS[name]().to(dtype)


def data(shape, n, step, dtype):
    """Return a global batch: the same on every rank."""
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(0, CLASSES, (n,), generator=generator)
