from __future__ import annotations

import copy
import io
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.gaaf import GAAF, constant, gaussian, saw_tooth, shifted_sigmoid

K = 10_000


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# name -> phi, phi', s, s' in numpy, written from the paper and not from the module under test
FORMULAS = {
    "tanh": (
        np.tanh,
        lambda x: 1 - np.tanh(x) ** 2,
        lambda x: np.exp(-(x**2) / 3),
        lambda x: -2 * x / 3 * np.exp(-(x**2) / 3),
    ),
    "relu": (
        lambda x: np.maximum(x, 0),
        lambda x: (x > 0).astype(float),
        lambda x: sigmoid(6 * (x + 0.5)),
        lambda x: 6 * sigmoid(6 * (x + 0.5)) * (1 - sigmoid(6 * (x + 0.5))),
    ),
}


def numpy_g(x, k=K):
    return (x * k - np.floor(x * k) - 0.5) / k


def mid_tooth(n, span, seed=0, k=K):
    """Points away from the teeth's edges, where every precision agrees on the tooth."""
    random = np.random.default_rng(seed)
    teeth = random.integers(-int(span * k), int(span * k), n)
    return (teeth + random.uniform(0.2, 0.8, n)) / k


def derivative(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


@pytest.mark.parametrize("name", FORMULAS)
def test_forward_and_derivative_in_float64(name):
    phi, slope, s, s_slope = FORMULAS[name]
    x = mid_tooth(5000, 6.0)
    value = GAAF(name)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(value, phi(x) + numpy_g(x) * s(x), rtol=0, atol=1e-14)
    expected = slope(x) + s(x) + numpy_g(x) * s_slope(x)
    np.testing.assert_allclose(derivative(GAAF(name), torch.from_numpy(x)).numpy(), expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", FORMULAS)
def test_forward_and_derivative_in_float32(name):
    phi, slope, s, s_slope = FORMULAS[name]
    x = mid_tooth(5000, 4.0).astype(np.float32)
    wide = x.astype(np.float64)
    value = GAAF(name)(torch.from_numpy(x)).double().numpy()
    np.testing.assert_allclose(value, phi(wide) + numpy_g(wide) * s(wide), rtol=3e-7, atol=1e-6)
    got = derivative(GAAF(name), torch.from_numpy(x)).double().numpy()
    expected = slope(wide) + s(wide) + numpy_g(wide) * s_slope(wide)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-6)


@given(st.floats(-1e6, 1e6), st.sampled_from([1.0, 100.0, 10_000.0]))
def test_the_saw_is_never_higher_than_half_a_tooth(x, k):
    for dtype in (torch.float32, torch.float64):
        assert saw_tooth(torch.tensor(x, dtype=dtype), k).abs().item() <= 0.5 / k * (1 + 1e-6)


@pytest.mark.parametrize("x", [3e3, -3e3, 1e30])
def test_the_derivative_does_not_need_a_usable_fraction(x):
    module = GAAF("tanh", shape="constant")
    assert derivative(module, torch.tensor([x])).item() == 1.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_dtype_and_derivative(dtype):
    x = torch.linspace(-3, 3, 101).to(dtype)
    module = GAAF("tanh")
    assert module(x).dtype == dtype
    wide = x.double().numpy()
    _, slope, s, _ = FORMULAS["tanh"]
    np.testing.assert_allclose(derivative(module, x).double().numpy(), slope(wide) + s(wide), atol=0.02)


def test_under_autocast_the_weights_get_float32_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), GAAF("tanh"), nn.Linear(8, 1))
    x = torch.randn(16, 4)
    full = torch.autograd.grad(model(x).sum(), model[0].weight)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x)
    assert out.dtype == torch.bfloat16
    mixed = torch.autograd.grad(out.float().sum(), model[0].weight)[0]
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, full, rtol=0.1, atol=0.1)


def test_infinite_net_values_give_what_phi_gives():
    x = torch.tensor([float("inf"), -float("inf"), float("nan")])
    assert GAAF("tanh")(x)[:2].tolist() == [1.0, -1.0]
    assert GAAF("tanh")(x)[2].isnan()
    assert saw_tooth(x)[:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("phi", ["tanh", "relu", torch.sigmoid])
def test_gradcheck_piecewise(phi):
    # teeth of width 1 and steps of 1e-6: no finite difference crosses an edge, nor ReLU's kink
    module = GAAF(phi, k=1, shape=gaussian)
    x = torch.tensor([-2.7, -1.3, -0.4, 0.3, 0.8, 2.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x)
    assert torch.autograd.gradgradcheck(module, x)


def test_any_function_and_any_shape():
    x = torch.from_numpy(mid_tooth(200, 3.0))
    module = GAAF(nn.Softsign(), shape=lambda v: torch.exp(-v.abs()))
    a = x.numpy()
    expected = a / (1 + abs(a)) + numpy_g(a) * np.exp(-abs(a))
    np.testing.assert_allclose(module(x).numpy(), expected, atol=1e-15)
    expected = 1 / (1 + abs(a)) ** 2 + np.exp(-abs(a)) - numpy_g(a) * np.sign(a) * np.exp(-abs(a))
    np.testing.assert_allclose(derivative(module, x).numpy(), expected, rtol=1e-12)


def test_a_parametric_base_is_trained():
    module = GAAF(nn.PReLU(), shape="shifted_sigmoid")
    module(torch.tensor([-1.0])).backward()
    assert module.base.weight.grad.item() == -1.0


def test_shapes_are_those_of_figure_6():
    x = torch.tensor([0.0, 2.0, -2.0, 4.0])
    np.testing.assert_allclose(gaussian(x), [1, 0.2636, 0.2636, 0.0048], atol=1e-4)
    x = torch.tensor([-1.0, -0.5, 0.0, 1.0])
    np.testing.assert_allclose(shifted_sigmoid(x), [0.0474, 0.5, 0.9526, 0.9999], atol=1e-4)
    assert constant(x).tolist() == [1.0] * 4


def test_names_choose_the_paper_s_shapes():
    assert (GAAF("tanh").shape, GAAF("relu").shape) == (gaussian, shifted_sigmoid)
    assert GAAF("tanh", shape="constant").shape is constant
    assert repr(GAAF("relu", k=100)) == "GAAF(phi=relu, k=100, shape=shifted_sigmoid)"
    assert repr(GAAF(nn.ELU(), shape=torch.sigmoid)).startswith("GAAF(\n  phi=ELU, k=10000, shape=sigmoid")


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiles_as_one_graph(backend):
    if backend == "inductor" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("inductor needs a C++ compiler on the path")
    torch._dynamo.reset()
    module = GAAF("tanh")
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    x = torch.from_numpy(mid_tooth(64, 3.0)).float()
    torch.testing.assert_close(compiled(x), module(x))
    torch.testing.assert_close(derivative(compiled, x), derivative(module, x))


def test_torch_func():
    module = GAAF("tanh")
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    per_sample = torch.func.vmap(torch.func.grad(lambda row: module(row).sum()))(x)
    torch.testing.assert_close(per_sample, derivative(module, x))


def test_copies_and_files():
    module = nn.Sequential(nn.Linear(2, 2), GAAF("relu", k=100))
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    x = torch.randn(3, 2)
    for twin in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),  # noqa: S301
        torch.load(buffer, weights_only=False),
    ):
        assert torch.equal(twin(x), module(x))
    assert dict(GAAF().state_dict()) == {}


def test_draws_no_random_numbers():
    before = torch.get_rng_state()
    x = torch.linspace(-2, 2, 50, requires_grad=True)
    GAAF("tanh")(x).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"phi": "swish"}, "phi must be one of tanh, relu, or a function of a tensor; got 'swish'"),
        ({"phi": nn.Tanh, "shape": "gaussian"}, "got the class Tanh, not an instance of it"),
        ({"phi": 3, "shape": "gaussian"}, "phi must be one of tanh, relu, or a function of a tensor; got 3"),
        (
            {"phi": torch.sigmoid},
            "GAAF has no default shape function for phi=sigmoid; pass shape= as one of gaussian",
        ),
        ({"shape": "bump"}, "shape must be one of gaussian, shifted_sigmoid, constant, or a function"),
        ({"k": 0}, "k must be a positive finite number (teeth in a unit of x), got 0"),
        ({"k": float("nan")}, "got nan"),
        ({"k": "many"}, "got 'many'"),
    ],
)
def test_errors_say_what_to_do(arguments, message):
    with pytest.raises(ArgumentError) as caught:
        GAAF(**arguments)
    assert message in str(caught.value)
