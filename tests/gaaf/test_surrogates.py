"""Surrogate derivatives: phi forward, psi' backward, against closed forms, finite differences and an own Function."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.gaaf import GAAF, fit, port_shape
from dropdiag.gaaf.surrogates import SURROGATES, Surrogate, b_silu, b_silu_slope, nelu, nelu_slope
from dropdiag.model.activations import describe


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# psi' of float64 in numpy, over ReLU, written from the papers and not from the module under test
SLOPES = {
    "b-silu": lambda x: sigmoid(x) + (x + 1.67) * sigmoid(x) * (1 - sigmoid(x)),
    "nelu": lambda x: np.where(x > 0, 1.0, 0.2 * 2 * x / (1 + x**2) ** 2),
    "straight-through": np.ones_like,
    "keras-port": lambda x: (x > 0) + sigmoid(x + 4),
}


def derivative(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def points(n=400):
    return torch.from_numpy(np.random.default_rng(0).normal(scale=3, size=n))


def test_every_name_is_held_to_a_formula():
    assert set(SLOPES) == set(SURROGATES)


@pytest.mark.parametrize("name", SLOPES)
def test_the_value_is_relu_s_and_the_derivative_the_formula_s(name):
    module, x = GAAF("relu", surrogate=name), points()
    assert torch.equal(module(x), torch.relu(x))
    np.testing.assert_allclose(derivative(module, x).numpy(), SLOPES[name](x.numpy()), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("psi", "slope"), [(b_silu, b_silu_slope), (nelu, nelu_slope)])
@pytest.mark.parametrize("alpha", [None, 0.7])
def test_slopes_are_those_of_their_functions_by_finite_differences(psi, slope, alpha):
    given = {} if alpha is None else {"alpha": alpha}
    x = points()
    x = x[x.abs() > 1e-3]  # NeLU jumps at 0
    step = 1e-5
    differences = (psi(x + step, **given) - psi(x - step, **given)) / (2 * step)
    torch.testing.assert_close(slope(x, **given), differences, rtol=1e-6, atol=1e-9)


def test_a_function_s_derivative_is_taken_by_autograd():
    x = points()
    softplus = GAAF("relu", surrogate=torch.nn.functional.softplus)
    np.testing.assert_allclose(derivative(softplus, x).numpy(), sigmoid(x.numpy()), rtol=1e-10)
    assert torch.equal(softplus(x), torch.relu(x))
    silu = GAAF("tanh", surrogate=nn.SiLU())
    assert torch.equal(silu(x), torch.tanh(x))
    np.testing.assert_allclose(
        derivative(silu, x).numpy(),
        sigmoid(x.numpy()) * (1 + x.numpy() * (1 - sigmoid(x.numpy()))),
        rtol=1e-9,
        atol=1e-12,
    )


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, phi):
        return phi(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("phi", ["relu", "tanh", "gelu", "sigmoid", "hardtanh"])
def test_straight_through_is_bit_for_bit_that_of_an_own_function(phi, dtype):
    module = GAAF(phi, surrogate="straight-through")
    ours, theirs = points().to(dtype).requires_grad_(), points().to(dtype).requires_grad_()
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (module(ours) * weights).sum().backward()
    value = StraightThrough.apply(theirs, module.base)
    (value * weights).sum().backward()
    assert torch.equal(module(ours), value)
    assert torch.equal(ours.grad, theirs.grad)
    assert torch.equal(ours.grad, weights)


def test_height_takes_the_derivative_from_phi_s_to_the_surrogate_s():
    x = points()
    for height, expected in ((0.0, 1 - x.tanh() ** 2), (0.25, 0.75 * (1 - x.tanh() ** 2) + 0.25)):
        module = GAAF("tanh", surrogate="straight-through", height=height)
        torch.testing.assert_close(derivative(module, x), expected, rtol=1e-9, atol=1e-12)
        assert torch.equal(module(x), torch.tanh(x))
        torch.testing.assert_close(module.s(x), height * x.tanh() ** 2, rtol=1e-9, atol=1e-12)


def test_exact_forward_is_gaaf_with_the_difference_for_a_shape():
    x = torch.from_numpy((np.random.default_rng(2).integers(-30_000, 30_000, 300) + 0.3) / 10_000)
    module = GAAF("tanh", surrogate="straight-through", exact_forward=True)
    g = (x * 1e4 - torch.floor(x * 1e4) - 0.5) / 1e4
    torch.testing.assert_close(module(x), torch.tanh(x) + g * torch.tanh(x) ** 2, rtol=1e-12, atol=1e-14)
    shape_slope = 2 * torch.tanh(x) * (1 - torch.tanh(x) ** 2)
    torch.testing.assert_close(derivative(module, x), 1 + g * shape_slope, rtol=1e-9, atol=1e-12)


def test_the_port_as_a_surrogate_and_as_a_shape_agree():
    x = points()
    as_shape = GAAF("relu", shape=port_shape, exact_forward=False)
    torch.testing.assert_close(derivative(GAAF("relu", surrogate="keras-port"), x), derivative(as_shape, x))


def test_the_second_derivative_is_the_surrogate_s():
    x = points(50).requires_grad_()
    (first,) = torch.autograd.grad(GAAF("relu", surrogate="b-silu")(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    step = 1e-5
    expected = (b_silu_slope(x.detach() + step) - b_silu_slope(x.detach() - step)) / (2 * step)
    torch.testing.assert_close(second, expected, rtol=1e-5, atol=1e-8)


def test_per_sample_gradients():
    module, x = GAAF("relu", surrogate="b-silu"), points(12).view(4, 3)
    per_sample = torch.func.vmap(torch.func.grad(lambda row: module(row).sum()))(x)
    torch.testing.assert_close(per_sample, derivative(module, x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("surrogate", ["b-silu", torch.nn.functional.softplus], ids=["b-silu", "softplus"])
def test_compiles_as_one_graph(surrogate):
    torch._dynamo.reset()
    module, x = GAAF("relu", surrogate=surrogate), points(64).float()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), torch.relu(x))
    torch.testing.assert_close(derivative(compiled, x), derivative(module, x))


def test_under_autocast_the_derivative_is_the_formula_s_of_bfloat16():
    torch.manual_seed(0)
    layer, module = nn.Linear(4, 8), GAAF("relu", surrogate="b-silu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = layer(torch.randn(16, 4))
        z.retain_grad()
        value = module(z)
    assert value.dtype == torch.bfloat16
    assert torch.equal(value, torch.relu(z))
    value.float().sum().backward()
    np.testing.assert_allclose(z.grad.float(), SLOPES["b-silu"](z.detach().double().numpy()), rtol=0.01, atol=0.01)
    assert layer.weight.grad.dtype == torch.float32


def test_infinite_and_far_net_values():
    x = torch.tensor([float("inf"), -float("inf"), 1e30, -1e30])
    for name, ends in (("b-silu", (1, 0)), ("nelu", (1, 0)), ("straight-through", (1, 1))):
        module = GAAF("relu", surrogate=name)
        assert derivative(module, x).tolist() == pytest.approx([*ends, *ends], abs=1e-6)
    assert derivative(GAAF("relu", surrogate="b-silu"), torch.tensor([float("nan")])).isnan()


def test_a_parametric_base_is_trained_and_x_gets_the_surrogate_alone():
    module, x = GAAF(nn.PReLU(), surrogate="straight-through"), torch.tensor([-1.0, 2.0], requires_grad=True)
    module(x).sum().backward()
    assert module.base.weight.grad.item() == -1.0
    assert x.grad.tolist() == [1.0, 1.0]


def test_names_copies_and_files():
    module = GAAF("relu", surrogate="b-silu")
    assert repr(module) == "GAAF(phi=relu, surrogate=b-silu)"
    assert repr(GAAF("relu", surrogate=nn.SiLU(), height=0.5)) == "GAAF(phi=relu, surrogate=SiLU, height=0.5)"
    assert "surrogate=mine" in repr(GAAF("tanh", surrogate=Surrogate("mine", torch.ones_like)))
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    x = points(20)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(buffer, weights_only=False)):  # noqa: S301
        assert torch.equal(derivative(twin, x), derivative(module, x))
        assert repr(twin) == repr(module)
    for name in SLOPES:
        pickle.dumps(GAAF("tanh", surrogate=name))
    assert dict(module.state_dict()) == {}


def test_saturation_is_judged_by_phi():
    found = describe(GAAF("relu", surrogate="straight-through"))
    assert (found.left, found.right) == (((-np.inf, 0.0),), ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"surrogate": "swish"},
            "surrogate must be one of b-silu, nelu, straight-through, keras-port, or a function psi",
        ),
        ({"surrogate": nn.SiLU}, "got the class SiLU, not an instance of it"),
        ({"surrogate": "nelu", "shape": "gaussian"}, "give no shape= or width= beside it"),
        ({"surrogate": "nelu", "width": 2.0}, "give no shape= or width= beside it"),
    ],
)
def test_what_cannot_be_used(options, message):
    with pytest.raises(ArgumentError) as caught:
        GAAF("relu", **options)
    assert message in str(caught.value)


def test_there_is_no_shape_to_fit():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4), GAAF("relu", surrogate="b-silu"))
    with pytest.raises(ArgumentError, match="the GAAF of 3 has a surrogate, and no shape to fit"):
        fit(net, torch.randn(32, 4), 0.5, masks=4)
