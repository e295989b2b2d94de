"""GAAF at infinities, NaN and numbers at the end of a dtype's range: the limits, in both modes and every precision."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from dropdiag.gaaf import GAAF, constant, gaussian, shifted_sigmoid

INF = float("inf")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# name: value, derivative and limit of the default shape at -Inf and at Inf
LIMITS = {
    "tanh": ((-1, 1), (0, 0), (0, 0)),
    "sigmoid": ((0, 1), (0, 0), (0, 0)),
    "hardtanh": ((-1, 1), (0, 0), (0, 0)),
    "relu": ((0, INF), (0, 1), (0, 1)),
    "leaky_relu": ((-INF, INF), (0.01, 1), (0, 1)),
}
SHAPES = {
    "a narrow gaussian": (partial(gaussian, width=1e-3), 0, 0),
    "a steep sigmoid": (partial(shifted_sigmoid, slope=1e6), 0, 1),
    "constant": (partial(constant, height=0.5), 0.5, 0.5),
    "an exponential": (lambda x: torch.exp(-x.abs()), 0, 0),
    "Cauchy's": (lambda x: 1 / (1 + x * x), 0, 0),
    "one that rises to 1": (lambda x: x * x / (1 + x * x), 1, 1),
    "the slope of SiLU": (lambda x: torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))), 0, 1),
}


def twice(module: nn.Module, x: Tensor) -> tuple[list[float], list[float], list[float]]:
    """Value, derivative and second derivative."""
    x = x.clone().requires_grad_()
    value = module(x)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return value.tolist(), first.tolist(), second.tolist()


@pytest.mark.parametrize("exact", [None, True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LIMITS)
def test_infinities_have_the_limits_of_phi_and_s(name, dtype, exact):
    values, slopes, shapes = LIMITS[name]
    value, first, second = twice(GAAF(name, exact_forward=exact), torch.tensor([-INF, INF], dtype=dtype))
    assert value == list(values)
    assert first == pytest.approx([a + b for a, b in zip(slopes, shapes, strict=True)], abs=1e-4)
    assert second == [0, 0]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*LIMITS, "gelu", "silu"])
def test_the_largest_numbers_have_them_too(name, dtype, exact):
    ends = torch.tensor([-1.0, 1.0], dtype=dtype) * torch.finfo(dtype).max
    _, first, _ = twice(GAAF(name, exact_forward=exact), ends)
    _, slopes, shapes = LIMITS.get(name, LIMITS["relu"])
    assert first == pytest.approx([a + b for a, b in zip(slopes, shapes, strict=True)], abs=1e-4)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("width", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("kind", SHAPES)
def test_any_shape_that_has_limits(kind, width, exact):
    shape, low, high = SHAPES[kind]
    for dtype in (torch.float32, torch.float64):
        most = torch.finfo(dtype).max
        x = torch.tensor([-INF, -most, -most / 7, most / 7, most, INF], dtype=dtype)
        value, first, second = twice(GAAF("tanh", shape=shape, width=width, exact_forward=exact), x)
        assert value == [-1] * 3 + [1] * 3
        assert first == pytest.approx([low] * 3 + [high] * 3, abs=1e-9)
        assert second == pytest.approx([0] * 6, abs=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*LIMITS, "gelu", "silu"])
def test_nan_stays_nan_and_spoils_no_neighbour(name, dtype):
    for exact in (True, False):
        x = torch.tensor([0.5, float("nan"), -0.25], dtype=dtype)
        value, first, _ = twice(GAAF(name, exact_forward=exact), x)
        alone = twice(GAAF(name, exact_forward=exact), x[[0, 2]])
        assert torch.tensor([value, first]).isnan().tolist() == [[False, True, False]] * 2
        assert ([value[0], value[2]], [first[0], first[2]]) == alone[:2]


def test_what_torch_has_no_derivative_for_is_nan_as_there():
    x = torch.tensor([-INF, INF])
    for name, base in (("gelu", nn.GELU()), ("silu", nn.SiLU())):
        assert torch.tensor(twice(GAAF(name), x)[1]).isnan().all()
        assert torch.tensor(twice(base, x)[1]).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_product_with_k_that_overflows_leaves_phi(dtype):
    x = torch.tensor([-1.0, 1.0], dtype=dtype) * (torch.finfo(dtype).max / 100)
    for k in (10_000, 1e30):
        value, first, second = twice(GAAF("hardtanh", k=k, shape="constant"), x)
        assert (value, first, second) == ([-1, 1], [1, 1], [0, 0])


def test_an_overflow_does_not_reach_the_weights():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), GAAF("tanh"), nn.Linear(4, 1))
    with torch.no_grad():
        net[0].weight[0] = 1e38
    net(torch.tensor([[9.0, 9.0, 9.0]])).sum().backward()
    assert net[1](torch.tensor([INF])).item() == 1
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_shape_itself_is_unchanged_within_any_range_that_matters():
    x = torch.linspace(-60, 60, 5001)
    assert torch.equal(GAAF("tanh").s(x), gaussian(x))
    assert torch.equal(GAAF("tanh").s(x.half()), gaussian(x.half()))
    assert GAAF("relu").s(torch.tensor([1, -3])).tolist() == shifted_sigmoid(torch.tensor([1, -3])).tolist()
