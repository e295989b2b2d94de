"""Saturation areas against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, special
from torch import nn

import dropdiag as dd
from dropdiag.histograms.grid import line_centres
from dropdiag.model.activations import TORCH_ACTIVATIONS, activation_name, describe, describe_function
from dropdiag.sketches.intervals import IntervalCounts

INF = math.inf
TANH = math.atanh(math.sqrt(0.9))
LOGIT = float(special.logit((1 - math.sqrt(0.9)) / 2))
SOFTSIGN = math.sqrt(10) - 1


@pytest.mark.parametrize(
    ("module", "sup", "left", "right"),
    [
        (nn.Tanh(), 1, [(-INF, -TANH)], [(TANH, INF)]),
        (nn.Sigmoid(), 0.25, [(-INF, LOGIT)], [(-LOGIT, INF)]),
        (nn.ReLU(), 1, [(-INF, 0)], []),
        (nn.ReLU(inplace=True), 1, [(-INF, 0)], []),
        (nn.ReLU6(), 1, [(-INF, 0)], [(6, INF)]),
        (nn.LeakyReLU(0.01), 1, [(-INF, 0)], []),
        (nn.LeakyReLU(0.3), 1, [], []),
        (nn.ELU(), 1, [(-INF, math.log(0.1))], []),
        (nn.Softplus(), 1, [(-INF, -math.log(9))], []),
        (nn.Softsign(), 1, [(-INF, -SOFTSIGN)], [(SOFTSIGN, INF)]),
        (nn.Hardtanh(), 1, [(-INF, -1)], [(1, INF)]),
        (dd.GAAF("tanh"), 1, [(-INF, -TANH)], [(TANH, INF)]),
        (dd.GAAF("relu"), 1, [(-INF, 0)], []),
    ],
    ids=lambda v: str(v) if isinstance(v, nn.Module) else None,
)
def test_areas_are_those_of_the_closed_form(module, sup, left, right):
    activation = describe(module)
    assert activation.sup == pytest.approx(sup, rel=1e-9)
    np.testing.assert_allclose(activation.left, np.reshape(left, (-1, 2)).tolist() or [], rtol=1e-7)
    np.testing.assert_allclose(activation.right, np.reshape(right, (-1, 2)).tolist() or [], rtol=1e-7)


def test_gelu_has_a_saturated_pocket_where_its_derivative_changes_sign():
    slope = lambda z: special.ndtr(z) + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    sup = -optimize.minimize_scalar(lambda z: -slope(z), bounds=(0, 3), method="bounded", options={"xatol": 1e-10}).fun
    activation = describe(nn.GELU())
    assert activation.sup == pytest.approx(sup, rel=1e-9)
    assert len(activation.left) == 2
    borders = [activation.left[0][1], *activation.left[1]]
    np.testing.assert_allclose([abs(slope(z)) for z in borders], 0.1 * sup, rtol=1e-6)
    assert activation.right == ()


def test_the_stored_derivative_is_phi_prime_at_the_bin_centres():
    derivative = describe(nn.Tanh()).derivative
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(derivative, 1 - np.tanh(line_centres()) ** 2, atol=1e-12)


def test_exact_zeros_have_the_derivative_at_zero():
    derivative, centres = describe(nn.ReLU()).derivative, line_centres()
    assert derivative[centres < 0].max() == 0
    assert derivative[np.abs(centres) < 2.0**-132].tolist() == [0, 0]
    assert derivative[centres > 2.0**-132].min() == 1


def test_where_saturation_has_no_meaning_there_is_none():
    assert describe(nn.PReLU()) is None

    class Sign(nn.Module):
        def forward(self, x):
            return x.sign()

    dd.register_activation(Sign)
    try:
        assert describe(Sign()) is None
    finally:
        from dropdiag.model import activations

        del activations._KNOWN[Sign]


def test_describing_changes_neither_the_module_nor_the_random_state():
    module = nn.RReLU().train()
    state = torch.get_rng_state()
    describe(module)
    assert module.training
    assert torch.equal(torch.get_rng_state(), state)


def test_names_tell_settings_and_pass_over_inplace():
    assert activation_name(nn.ReLU(inplace=True)) == activation_name(nn.ReLU()) == "ReLU"
    assert activation_name(nn.LeakyReLU(0.2, inplace=True)) == "LeakyReLU(negative_slope=0.2)"


@pytest.mark.parametrize("frequency", [1.0, 30.0])
def test_an_oscillating_activation_has_its_exact_share_where_its_area_is_known(frequency):
    activation = describe_function("wave", lambda x: torch.sin(frequency * x + 0.3))
    z = np.random.default_rng(0).normal(0, 40 / frequency, 50_000)
    assert np.abs(z).max() < min(-activation.known[0], activation.known[1])
    saturated = np.abs(np.cos(frequency * z + 0.3)) <= 0.1
    counts = IntervalCounts([activation.left, activation.right], activation.known)
    counts.update(torch.from_numpy(z))
    assert sum(counts.shares()) == saturated.mean()
    assert activation.sup == pytest.approx(frequency, rel=1e-9)


def test_beyond_the_known_range_of_an_oscillating_activation_there_is_no_share():
    activation = describe_function("sin", torch.sin)
    counts = IntervalCounts([activation.left, activation.right], activation.known)
    counts.update(torch.tensor([0.1, 1e5]))
    assert all(map(math.isnan, counts.shares()))
    assert np.isnan(activation.derivative[[0, -1]]).all()


def test_a_function_whose_derivative_grows_as_it_oscillates_is_not_judged():
    assert describe_function("wild", lambda x: x * torch.sin(x)) is None


@pytest.mark.parametrize(
    "kind", [k for k in TORCH_ACTIVATIONS if k not in (nn.PReLU, nn.RReLU)], ids=lambda k: k.__name__
)
def test_the_area_of_torchs_own_activations_is_known_everywhere(kind):
    module = kind(0.1, 0.0) if kind is nn.Threshold else kind()
    activation = describe(module)
    assert activation.known == (-INF, INF)
    assert not np.isnan(activation.derivative).any()
