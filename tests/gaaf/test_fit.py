from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.gaaf import GAAF, fit
from dropdiag.measure.under_masks.gains import HalvedMoments
from dropdiag.model.activations import describe

SATURATED = math.atanh(math.sqrt(0.9))


def gaussian_net(activation: GAAF, *, tau: float, p: float, samples: int = 512, fan_in: int = 512, nodes: int = 256):
    """A dropout, a layer and an activation whose net values are N(0, tau^2), their net variance p/(1-p) tau^2."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(fan_in, nodes, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(nodes, fan_in, generator=generator))
        linear.weight *= tau / linear.weight.norm(dim=1, keepdim=True)
    x = torch.randint(0, 2, (samples, fan_in), generator=generator).float() * 2 - 1  # |x| = 1: one variance for all
    return nn.Sequential(nn.Dropout(p), linear, activation), x


def test_the_closed_form_of_relu_and_a_gaussian_shape():
    """Net values N(0, 1), net variance 1 (p = 0.5), s = h exp(-(m/w)^2/3) on the half line.

    With rho = 1/sqrt(2), gain = E[Phi(m) | m < 0] = 2 (1/4 - asin(rho)/(2 pi)) = 1/4 and
    E[|m| Phi(m) | m < 0] = (1 - rho)/sqrt(2 pi). The shape narrows the half normal to kappa with
    1/kappa^2 = 1 + 2/(3 w^2): its reach is kappa sqrt(2/pi), its mean h kappa.
    """
    model, x = gaussian_net(GAAF("relu", shape="gaussian"), tau=1.0, p=0.5)
    found = fit(model, x, 0.5, masks=64)[0]
    reach = (1 - math.sqrt(0.5)) / math.sqrt(2 * math.pi) / 0.25
    kappa = reach / math.sqrt(2 / math.pi)
    width = math.sqrt(2 / 3 / (1 / kappa**2 - 1))
    assert found.net_variance == pytest.approx(1.0, rel=0.01)
    assert found.dropout_gain == pytest.approx(0.25, rel=0.01)
    assert found.dropout_reach == pytest.approx(reach, rel=0.01)
    assert found.height == pytest.approx(0.25 / kappa, rel=0.01)
    assert found.width == pytest.approx(width, rel=0.01)
    assert found.note == ""
    # where ReLU is active, dropout takes away what it gives elsewhere, and this shape does not follow
    assert found.dropout_gain_elsewhere == pytest.approx(-0.25, rel=0.01)
    assert found.gaaf_gain_elsewhere == pytest.approx(found.gaaf_gain, rel=0.02)


def gauss_hermite_gain(m: np.ndarray, variance: float) -> np.ndarray:
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    slope = 1 - np.tanh(m[:, None] + math.sqrt(variance) * points) ** 2
    return slope @ weights / math.sqrt(2 * math.pi) - (1 - np.tanh(m) ** 2)


@pytest.mark.parametrize(("tau", "p"), [(1.5, 0.5), (2.0, 0.2)])
def test_tanh_on_a_gaussian_net_is_the_solution_that_scipy_finds(tau, p):
    model, x = gaussian_net(GAAF("tanh"), tau=tau, p=p)
    found = fit(model, x, p, masks=64)[0]
    variance = p / (1 - p) * tau**2
    tail = stats.norm.sf(SATURATED, scale=tau)

    def mean(function):
        value, _ = integrate.quad(lambda m: function(m) * stats.norm.pdf(m, scale=tau), SATURATED, 12 * tau, limit=200)
        return value / tail

    def gain(m):
        return gauss_hermite_gain(np.array([m]), variance)[0]

    wanted = mean(gain), mean(lambda m: m * gain(m))

    def missing(parameters):
        height, width = np.exp(parameters)
        shape = lambda m: height * math.exp(-((m / width) ** 2) / 3)  # noqa: E731
        return mean(shape) / wanted[0] - 1, mean(lambda m: m * shape(m)) / wanted[1] - 1

    height, width = np.exp(optimize.fsolve(missing, np.log([0.3, 1.2])))
    assert found.dropout_gain == pytest.approx(wanted[0], rel=0.01)
    assert found.dropout_reach == pytest.approx(wanted[1] / wanted[0], rel=0.01)
    if height <= 1:
        assert found.width == pytest.approx(width, rel=0.03)  # a hundredth in the reach is three in the width
        assert found.note == ""
    else:
        assert found.height == 1
        narrow = optimize.brentq(lambda w: mean(lambda m: math.exp(-((m / w) ** 2) / 3)) - wanted[0], 0.1, 10)
        assert found.width == pytest.approx(narrow, rel=0.01)
        assert found.note.startswith("reach left open")
    assert found.gaaf_gain == pytest.approx(wanted[0], rel=0.01)


def many_masks(model: nn.Sequential, x: torch.Tensor, phi, border, masks: int = 800):
    """Gain and reach over saturated net values, their means known to a thousandth: nothing of the fit, and no GAAF."""
    twin, total, slopes = copy.deepcopy(model).train(), 0.0, 0.0
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(masks):
            z = twin[1](twin[0](x)).double()
            total, slopes = total + z / masks, slopes + phi(z) / masks
    saturated = border(total)
    means, gains = total[saturated], (slopes - phi(total))[saturated]
    return means, gains.mean().item(), ((means.abs() * gains).sum() / gains.sum()).item()


SLOPES = {
    "tanh": (lambda z: 1 - z.tanh() ** 2, lambda z: z.abs() >= SATURATED),
    "relu": (lambda z: (z > 0).double(), lambda z: z <= 0),
    "hardtanh": (lambda z: (z.abs() < 1).double(), lambda z: z.abs() >= 1),
}


@pytest.mark.parametrize("phi", SLOPES)
def test_few_masks_have_the_gain_of_many(phi):
    """Without correction hardtanh's is 20 % too high at 4 masks and 4 % at 16, ReLU's 12 % and 2 %, tanh's 8 % and 2 %."""
    model, x = gaussian_net(GAAF(phi, shape="gaussian"), tau=1.5, p=0.5, samples=64, fan_in=96, nodes=64)
    means, gain, reach = many_masks(model, x, *SLOPES[phi])
    for masks, off in ((4, 0.04), (5, 0.04), (16, 0.02)):
        fits = [fit(model, x, masks=masks, seed=seed, apply=False)[0] for seed in range(40 // masks)]
        assert np.mean([one.dropout_gain for one in fits]) == pytest.approx(gain, rel=off)
        assert np.mean([one.dropout_reach for one in fits]) == pytest.approx(reach, rel=off)
        assert np.mean([one.gaaf_gain for one in fits]) == pytest.approx(gain, rel=off)
    # autograd through the module, at the true means
    fit(model, x, masks=64)
    at = means.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model[2](at).sum(), at)
    assert (slope - SLOPES[phi][0](means)).mean().item() == pytest.approx(gain, rel=0.02)


def test_two_masks_are_not_extrapolated_and_too_few_are_told():
    model, x = gaussian_net(GAAF("sigmoid"), tau=1.5, p=0.5, samples=256, fan_in=64, nodes=64)
    for masks in (2, 3):
        found = fit(model, x, masks=masks, apply=False)[0]
        assert "too few masks" not in found.note
        assert found.dropout_gain > 0
    # in the far tail half of the masks put half as many again into the area
    found = fit(model, x, masks=4, apply=False)[0]
    assert "too few masks to correct for their number: half of them put" in found.note
    assert "too few masks" not in fit(model, x, masks=256, apply=False)[0].note


@pytest.mark.parametrize(("masks", "seen"), [(4, 4), (9, 9), (8, 6), (64, 64)])
def test_halves_take_off_what_is_of_order_one_over_masks(masks, seen):
    moments = HalvedMoments(masks, torch.zeros(3))
    z = torch.randn(seen, 3, dtype=torch.float64)
    for one in z:
        moments.update(one)
    weights, numbers, means = zip(*moments.samples(), strict=True)
    assert sum(weights) == pytest.approx(1)
    assert sum(weight / n for weight, n in zip(weights, numbers, strict=True)) == pytest.approx(0)
    half = masks // 2
    for mean, part in zip(means, (z, z[:half], z[half:]), strict=True):
        torch.testing.assert_close(mean, part.mean(0))
    few = HalvedMoments(3, torch.zeros(3))
    for one in z[:3]:
        few.update(one)
    assert [(weight, n) for weight, n, _ in few.samples()] == [(1.0, 3)]


def test_more_dropout_more_height_or_reach_and_none_for_none():
    gains = []
    for p in (0.0, 0.1, 0.3, 0.5):
        model, x = gaussian_net(GAAF("tanh"), tau=1.5, p=0.5, samples=64)
        found = fit(model, x, p, masks=32)[0]
        gains.append(found.gaaf_gain)
        assert model[0].p == 0.5
        if p == 0:
            assert (found.height, found.note) == (
                0.0,
                "dropout makes no more gradient in the saturation area: height 0",
            )
            torch.testing.assert_close(model[2](x), torch.tanh(x), rtol=0, atol=1e-7)
    assert gains == sorted(gains)
    assert gains[0] == 0 < gains[1]


def test_a_network_without_dropout_and_a_layer_that_no_mask_reaches():
    torch.manual_seed(0)
    layers = [nn.Linear(30, 64), GAAF("tanh"), nn.Linear(64, 64), GAAF("tanh"), nn.Linear(64, 5)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for layer in (0, 2):
            model[layer].weight *= 4
    x = torch.randn(64, 30)
    state = torch.get_rng_state()
    kept = fit(model, x, 0.5, apply=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert model[3].height == 1.0
    found = fit(model, x, 0.5)
    assert found.table.equals(kept.table)
    assert found[0].height == 0
    assert found[0].net_variance == 0
    assert 0 < found[1].height <= 1
    assert found[1].gaaf_gain == pytest.approx(found[1].dropout_gain, rel=1e-6)
    assert "GAAF fitted to dropout at rate 0.5" in repr(found)
    with pytest.raises(ArgumentError, match="no GAAF to fit"):
        fit(nn.Sequential(nn.Linear(30, 4), nn.Tanh(), nn.Dropout()), x)


def test_too_few_saturated_net_values():
    model, x = gaussian_net(GAAF("tanh"), tau=0.1, p=0.5, samples=16)
    assert fit(model, x, 0.5, masks=4)[0].note == "0 net values in the saturation area, fewer than 10: height 0"


@pytest.mark.parametrize(
    ("phi", "shape"),
    [("relu", None), ("gelu", None), ("silu", None), ("hardtanh", None), ("sigmoid", None), ("relu", "constant")],
)
def test_any_base_and_shape_gives_the_gain_of_dropout(phi, shape):
    model, x = gaussian_net(GAAF(phi, shape=shape), tau=4.0, p=0.5, samples=128)
    found = fit(model, x, 0.5, masks=32)[0]
    assert found.gaaf_gain == pytest.approx(found.dropout_gain, rel=1e-6)
    line = torch.linspace(-20, 20, 999)
    sup = describe(model[2]).sup
    assert model[2].s(line).abs().max().item() <= sup * (1 + 1e-6)


def test_a_shared_module_is_fitted_to_all_its_calls():
    torch.manual_seed(0)
    shared = GAAF("tanh")
    model = nn.Sequential(nn.Dropout(), nn.Linear(32, 32), shared, nn.Dropout(), nn.Linear(32, 32), shared)
    with torch.no_grad():
        model[1].weight *= 6
        model[4].weight *= 6
    x = torch.randn(64, 32)
    found = fit(model, x, masks=16)
    parts = dd.measure.net_variance(model, x, 16)
    assert len(found) == 1
    assert found[0].saturated == sum(int(part.saturated.sum()) for part in parts)
    assert found[0].net_variance == pytest.approx(np.mean([part.variance.mean() for part in parts]))
