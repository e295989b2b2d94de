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
from dropdiag.gaaf import GAAF, constant, gaussian, port_shape, saw_tooth, shifted_sigmoid

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
        (
            {"phi": "swish"},
            "phi must be one of tanh, sigmoid, relu, leaky_relu, gelu, silu, hardtanh, or a function of a tensor; got 'swish'",
        ),
        ({"phi": nn.Tanh, "shape": "gaussian"}, "got the class Tanh, not an instance of it"),
        (
            {"phi": 3, "shape": "gaussian"},
            "phi must be one of tanh, sigmoid, relu, leaky_relu, gelu, silu, hardtanh, or a function of a tensor; got 3",
        ),
        (
            {"phi": torch.sigmoid},
            "GAAF has no default shape function for phi=sigmoid; pass shape= as one of gaussian",
        ),
        (
            {"shape": "bump"},
            "shape must be one of gaussian, shifted_sigmoid, constant, derivative_complement, or a function",
        ),
        ({"k": 0}, "k must be a positive finite number (teeth in a unit of x), got 0"),
        ({"k": float("nan")}, "got nan"),
        ({"k": "many"}, "got 'many'"),
    ],
)
def test_errors_say_what_to_do(arguments, message):
    with pytest.raises(ArgumentError) as caught:
        GAAF(**arguments)
    assert message in str(caught.value)


# what torch's own functions are, with autograd, against the formula phi' + s + g s' written out here
BASES = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "gelu": lambda x: x * torch.special.ndtr(x),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "hardtanh": lambda x: x.clamp(-1, 1),
}


def expected_slope(name, shape, x, exact=True):
    x = x.double()
    return derivative(BASES[name], x) + shape(x) + (saw_tooth(x) * derivative(shape, x) if exact else 0)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", BASES)
def test_every_base_with_its_default_shape(name, exact):
    module = GAAF(name, exact_forward=exact)
    shape = {"sigmoid": lambda v: 0.25 * torch.exp(-((v / 2) ** 2) / 3)}.get(
        name, gaussian if name in ("tanh", "hardtanh") else shifted_sigmoid
    )
    x = torch.from_numpy(mid_tooth(4000, 5.0))
    value = BASES[name](x) + (saw_tooth(x) * shape(x) if exact else 0)
    torch.testing.assert_close(module(x), value, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(derivative(module, x), expected_slope(name, shape, x, exact), rtol=1e-10, atol=1e-12)


def test_without_exact_forward_the_value_is_phi_bit_for_bit_and_the_two_differ_by_half_a_tooth():
    x = torch.linspace(-5, 5, 4001)
    for name in BASES:
        plain, exact = GAAF(name, exact_forward=False), GAAF(name, exact_forward=True)
        assert torch.equal(plain(x), plain.base(x))
        assert (plain(x) - exact(x)).abs().max() <= 0.5 / K * 1.01 + 3e-7
        # in derivative by max |s'| / 2K: at most 1.5 / 20,000 for the steepest default shape
        assert (derivative(plain, x) - derivative(exact, x)).abs().max() <= 1.5 / (2 * K) * 1.01 + 1e-6


@pytest.mark.parametrize(("dtype", "exact"), [(torch.bfloat16, False), (torch.float16, False), (torch.float32, True)])
def test_low_precision_is_not_exact_by_default(dtype, exact):
    x = torch.linspace(-2, 2, 301).to(dtype)
    assert torch.equal(GAAF("tanh")(x), GAAF("tanh", exact_forward=exact)(x))
    assert torch.equal(GAAF("tanh")(x), torch.tanh(x)) is not exact


def test_the_second_derivative_without_exact_forward():
    module = GAAF("tanh", exact_forward=False)
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    h = torch.tanh(x)
    torch.testing.assert_close(second, -2 * h * (1 - h * h) - 2 * x / 3 * torch.exp(-x * x / 3))


def test_the_derivative_complement_makes_the_slope_one_everywhere():
    x = torch.from_numpy(mid_tooth(500, 6.0))
    for phi in (*BASES, nn.Softplus(), torch.sin):
        module = GAAF(phi, shape="derivative_complement", exact_forward=False)
        torch.testing.assert_close(derivative(module, x), torch.ones_like(x), rtol=0, atol=1e-12)
        assert copy.deepcopy(module)(x).equal(module(x))


def test_the_port_s_shape_is_not_the_figure_s():
    x = torch.tensor([-8.0, -4.0, -2.0, 0.0])
    np.testing.assert_allclose(port_shape(x), sigmoid(x.numpy() + 4), rtol=1e-6)
    assert (port_shape(x) - shifted_sigmoid(x))[2] > 0.8
    assert "shifted_sigmoid(slope=1, shift=4)" in repr(GAAF("relu", shape=port_shape))


def test_height_and_width_stretch_any_shape():
    x = torch.from_numpy(mid_tooth(500, 4.0))
    for shape in ("gaussian", "shifted_sigmoid", lambda v: torch.exp(-v.abs())):
        one, stretched = GAAF("tanh", shape=shape), GAAF("tanh", shape=shape, height=0.3, width=2.5)
        torch.testing.assert_close(stretched.s(x), 0.3 * one.s(x / 2.5))
        torch.testing.assert_close(derivative(stretched, x), expected_slope("tanh", stretched.s, x))
    off = GAAF("tanh", height=0.0)
    torch.testing.assert_close(off(x), torch.tanh(x), rtol=0, atol=0)
    torch.testing.assert_close(derivative(off, x), 1 - torch.tanh(x) ** 2)
    assert "height=0.3, width=2.5" in repr(GAAF("tanh", height=0.3, width=2.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be a positive finite number, got 0"),
        ({"width": float("nan")}, "width must be"),
        ({"height": float("inf")}, "height must be a finite number, got inf"),
        ({"phi": "softplus"}, "phi must be one of tanh, sigmoid, relu, leaky_relu, gelu, silu, hardtanh, or"),
        ({"shape": "bump"}, "derivative_complement, or a function of a tensor; got 'bump'"),
    ],
)
def test_more_that_cannot_be_used(options, message):
    with pytest.raises(ArgumentError) as caught:
        GAAF(**options)
    assert message in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("options", [{}, {"exact_forward": False}, {"shape": "derivative_complement"}])
def test_a_whole_graph_with_new_heights_all_the_time(options):
    torch._dynamo.reset()  # graphs of other tests count
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), GAAF("tanh", **options), nn.Linear(8, 1))
    compiled, x = torch.compile(net, fullgraph=True, backend="aot_eager"), torch.randn(16, 4)
    for height in range(12):
        net[1].height, net[1].width = 0.1 + height / 10, 1 + height / 7
        compiled(x).sum().backward()
        got, net[0].weight.grad = net[0].weight.grad, None
        net(x).sum().backward()
        torch.testing.assert_close(got, net[0].weight.grad, rtol=1e-5, atol=1e-6)
        net[0].weight.grad = None


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_trains_under_autocast_and_compile_with_the_formula_s_gradient():
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), GAAF("tanh"), nn.Linear(16, 16), GAAF("relu"), nn.Linear(16, 3))
    compiled = torch.compile(net, fullgraph=True)
    x = torch.randn(64, 6)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    losses = []
    for _ in range(40):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(compiled(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    # one activation by itself, in bfloat16, against the formula at the very same numbers
    z = (2 * torch.randn(512)).bfloat16().requires_grad_()
    torch.compile(GAAF("tanh"), fullgraph=True)(z).float().sum().backward()
    w = z.detach().double()
    torch.testing.assert_close(z.grad.double(), 1 - w.tanh() ** 2 + torch.exp(-w * w / 3), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.cuda), "mps"])
def test_on_an_accelerator_if_there_is_one(device):
    if not getattr(torch, device).is_available():
        pytest.skip(f"no {device} here")
    x = torch.from_numpy(mid_tooth(1000, 4.0).astype(np.float32)).to(device)
    for name in BASES:
        module = GAAF(name, exact_forward=False).to(device)
        got = derivative(module, x).cpu().double()
        torch.testing.assert_close(got, expected_slope(name, module.s, x.cpu(), exact=False), rtol=1e-4, atol=1e-5)
