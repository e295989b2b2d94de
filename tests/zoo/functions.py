"""Networks whose activations are functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.network import Network, classify, vectors


class Functional(nn.Module):
    """Parameters and functions alone, every activation in one of its spellings."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.ParameterList(torch.randn(6, 6) * 0.6 for _ in range(22))
        self.v = nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        functions: list[Callable[[Tensor], Tensor]] = [
            F.relu,
            torch.relu,
            lambda z: z.relu(),
            torch.relu_,
            lambda z: F.relu(input=z, inplace=True),
            torch.tanh,
            lambda z: z.tanh_(),
            lambda z: z.sigmoid(),
            F.gelu,
            partial(F.gelu, approximate="tanh"),
            partial(F.silu, inplace=True),
            F.elu,
            partial(F.elu, alpha=0.5),
            F.selu,
            partial(F.leaky_relu, negative_slope=0.2),
            F.mish,
            F.softplus,
            partial(F.hardtanh, min_val=-2.0, max_val=2.0),
            F.relu6,
            F.hardswish,
            F.hardsigmoid,
            F.celu,
        ]
        for function, weight in zip(functions, self.w, strict=True):
            x = x + F.dropout(function(F.linear(x, weight)), 0.1, self.training)
            x = F.layer_norm(x, (6,))
        return F.linear(F.logsigmoid(x) + F.softsign(x), self.v)


class Settings(nn.Module):
    """Calls of one function with other settings: other derivatives, other gates."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(3 * self.a(x), 0.3)
        h = F.leaky_relu(3 * self.b(h), 0.01)
        gated = F.glu(h.view(-1, 2, 4), dim=1).flatten(1)
        return self.head(torch.cat([gated, F.glu(h)], 1))


class InplaceFunctions(nn.Module):
    """In-place functions on views: tokens of a Linear, a slice of its output."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x.view(-1, 2, 6)), inplace=self.inplace)
        z = self.b(h) * 1.5
        if self.inplace:
            F.elu(z[..., :3], inplace=True)
        else:
            z = torch.cat([F.elu(z[..., :3]), z[..., 3:]], -1)
        return self.head(z).flatten(0, 1)


NETWORKS = (
    Network(
        "functional",
        Functional,
        vectors,
        classify,
        apart={"(model):softsign": "ATen has no softsign: it is abs, add and div"},
    ),
    Network("one_function_two_settings", Settings, vectors, classify),
    Network(
        "functions_inplace_on_views",
        lambda: InplaceFunctions(inplace=True),
        lambda generator: (vectors(generator, n=16)[0], vectors(generator, n=16)[1]),
        classify,
        twin=lambda: InplaceFunctions(inplace=False),
    ),
)
