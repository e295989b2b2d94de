"""Rules that follow the dimensions that count nodes, against tensors whose values are the nodes' numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from dropdiag.functional.layers import Layers
from dropdiag.functional.producers import Producers, Trail
from dropdiag.functional.rules import RULES

Function = Callable[..., object]


class Following(TorchFunctionMode):
    """Follows every function that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.producers = Producers(Layers(nn.Module(), ()))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in RULES:
            self.producers.follow(RULES[func], args, kwargs or {}, result)
        return result


def numbered(shape: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    """Return a tensor whose values say which node they are of, with these dimensions counting nodes."""
    sizes = [shape[d] for d in dims]
    numbers = torch.arange(float(torch.tensor(sizes).prod())).reshape(sizes)
    placed = [1] * len(shape)
    for d in dims:
        placed[d] = shape[d]
    return numbers.permute(sorted(range(len(dims)), key=lambda k: dims[k])).reshape(placed).expand(shape).clone()


def check(values: Tensor, dims: tuple[int, ...]) -> None:
    """Fail where a position of these dimensions holds several nodes, or several positions one."""
    rows = values.movedim(dims, tuple(range(len(dims)))).reshape(prod(values.shape[d] for d in dims), -1)
    assert torch.equal(rows, rows[:, :1].expand_as(rows)), "these dimensions do not count nodes"
    assert len(rows[:, 0].unique()) == len(rows), "these dimensions count more than nodes"


def factors(number: int, chance: random.Random) -> list[int]:
    """Return sizes whose product is a number."""
    found = []
    while number > 1:
        size = chance.choice([n for n in range(2, number + 1) if number % n == 0])
        found.append(size)
        number //= size
    return found + [1] * chance.randint(0, 1)


def one_of(chance: random.Random, x: Tensor) -> Tensor:
    """Apply a random function that moves, splits, joins or cuts dimensions."""
    n, d = x.ndim, chance.randrange(x.ndim)
    order = chance.sample(range(n), n)
    start = chance.randrange(x.shape[d])
    choices: list[Callable[[], object]] = [
        lambda: x.permute(order),
        lambda: x.transpose(d, n - 1),
        lambda: torch.movedim(x, d, 0).contiguous(),
        lambda: x.mT if n > 1 else x,
        lambda: x.reshape([s for size in x.shape for s in factors(size, chance)]),
        lambda: x.reshape(factors(x.numel(), chance) or [1]),
        lambda: x.flatten(d, min(d + 1, n - 1)),
        lambda: x.unsqueeze(d),
        x.squeeze,
        lambda: x.chunk(2, d)[0],
        lambda: x.narrow(d, start, 1),
        lambda: x.unbind(d)[0] if n > 2 else x,
        lambda: next(iter(x)) if n > 2 else x,
        lambda: x[(slice(None),) * d + (slice(start, None),)],
        lambda: x[..., None],
        lambda: x[torch.arange(x.shape[0])],
        lambda: x[torch.ones(x.shape[:1], dtype=torch.bool)],
        lambda: x.mean(d) if n > 2 else x,
        lambda: x.amax(d, keepdim=True),
        lambda: torch.stack([x, x], d) if x.numel() < 500 else x,
        lambda: F.dropout(x, 0.0) * 1.0,
        lambda: x[:1].expand(3, *x.shape[1:]),
    ]
    result = chance.choice(choices)()
    assert isinstance(result, Tensor)
    return result


def test_whatever_is_followed_counts_nodes():
    followed = tried = 0
    for seed in range(1_500):
        chance, mode = random.Random(seed), Following()
        shape = tuple(chance.choice([1, 2, 3, 4, 6]) for _ in range(chance.randint(1, 4)))
        dims = tuple(sorted(chance.sample(range(len(shape)), chance.randint(1, min(2, len(shape))))))
        x = numbered(shape, dims)
        mode.producers._keep(x, Trail(None, tuple(d - len(shape) for d in dims)))
        with mode:
            for _ in range(4):
                x = one_of(chance, x) if x.ndim else x
        trail = mode.producers.trail(x)
        assert trail is not None
        tried += 1
        if trail.dims is not None:
            check(x, trail.dims)
            followed += 1
    assert followed > tried / 3  # the others were cut down to a node, or mixed with samples for good


@pytest.mark.parametrize(
    ("function", "dims"),
    [
        (lambda x: x.view(4, 5, 2, 3).transpose(1, 2), (1, 3)),
        (lambda x: x.view(4, 5, 2, 3).transpose(1, 2).reshape(8, 5, 3), None),  # heads are joined with samples
        (lambda x: x.view(4, 5, 2, 3).permute(2, 0, 1, 3).permute(1, 2, 0, 3).flatten(2), (2,)),
        (lambda x: x.mT.unflatten(1, (3, 2)).flatten(1, 2), (1,)),
        (lambda x: x.flatten(), None),
        (lambda x: x.reshape(20, 6), (1,)),
        (lambda x: x[..., ::2].unsqueeze(0), None),
        (lambda x: x[:, 1:3, 2:5], (2,)),
        (lambda x: x[:, -1], (1,)),
        (lambda x: x[:, :, 0], None),
        (lambda x: x.mean((0, 1)), (0,)),
        (lambda x: torch.rand(4, 7, 5) @ x, (2,)),
        (lambda x: x.mT @ torch.rand(4, 5, 7), (1,)),
        (lambda x: torch.einsum("btc,bts->bcs", x, torch.rand(4, 5, 7)), (1,)),
        (lambda x: F.scaled_dot_product_attention(x, x, x), (2,)),
        (lambda x: torch.where(x > 1, x, 0.0).softmax(1).clamp(min=0.1), (2,)),
        (lambda x: F.max_pool1d(x.mT, 2), (1,)),
        (lambda x: torch.cat([x, torch.rand(4, 5, 2), x], -1), (2,)),
        (lambda x: torch.cat([x.mT, x.mT], 2), (1,)),
        (lambda x: torch.fft.fft(x).real, None),
    ],
)
def test_dimensions_that_count_nodes_afterwards(function: Function, dims: tuple[int, ...] | None):
    mode, x = Following(), torch.rand(4, 5, 6)
    mode.producers._keep(x, Trail(None, (-1,)))
    with mode:
        result = function(x)
    trail = mode.producers.trail(result)
    found = None if trail is None or trail.dims is None else tuple(d % result.ndim for d in trail.dims)
    assert found == dims


def test_a_tensor_that_is_gone_is_not_taken_for_another_of_its_number():
    producers = Producers(Layers(nn.Module(), ()))
    x = torch.rand(2)
    producers._keep(x, Trail(None, (-1,)))
    number = id(x)
    del x
    others = [torch.rand(2) for _ in range(50)]
    assert all(producers.trail(other) is None for other in others)
    assert number in producers._trails
