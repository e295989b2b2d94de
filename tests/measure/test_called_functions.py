"""Measurements of functions that forward methods call: against numpy, and against the same network of modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.measure import masks_by_weights, net_variance


class Net(nn.Module):
    """Linear, ReLU, dropout, linear, tanh, dropout, linear, leaky ReLU, linear: functions, or modules."""

    def __init__(self, *, functional=True, drop=True):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.d = nn.Linear(5, 12), nn.Linear(12, 9), nn.Linear(9, 7), nn.Linear(7, 3)
        self.drop = nn.Dropout(0.4) if drop else nn.Identity()
        self.relu, self.tanh, self.leaky = nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.2)
        self.functional = functional
        with torch.no_grad():
            self.b.weight *= 3

    def forward(self, x):
        if self.functional:
            h = self.drop(F.relu(self.a(x)))
            h = self.drop(torch.tanh(self.b(h)))
            return self.d(F.leaky_relu(self.c(h), 0.2))
        h = self.drop(self.relu(self.a(x)))
        h = self.drop(self.tanh(self.b(h)))
        return self.d(self.leaky(self.c(h)))


def data(n=24):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 5, generator=generator), torch.arange(n) % 3


def brute_force(net, x, p, masks, seed=0):
    """Net values of layers b and c under masks that numpy draws, in float64; shape (masks, samples, nodes)."""
    random = np.random.default_rng(seed)
    weights = {name: value.detach().double().numpy() for name, value in net.state_dict().items()}
    h = np.maximum(x.double().numpy() @ weights["a.weight"].T + weights["a.bias"], 0)
    kept = random.random((masks, *h.shape)) >= p
    b = (kept * h / (1 - p)) @ weights["b.weight"].T + weights["b.bias"]
    h = np.tanh(b)
    kept = random.random(h.shape) >= p
    return b, (kept * h / (1 - p)) @ weights["c.weight"].T + weights["c.bias"]


def test_net_variance_and_gradient_probability_against_numpy():
    net, (x, _) = Net(), data()
    found = {layer.layer: layer for layer in net_variance(net, x, masks=200).layers}
    assert [*found] == ["a:relu", "b:tanh", "c:leaky_relu(0.2)"]
    assert not found["a:relu"].variance.any()
    b, c = brute_force(net, x, 0.4, 4000)
    for layer, z in (("b:tanh", b), ("c:leaky_relu(0.2)", c)):
        np.testing.assert_allclose(found[layer].variance.mean(), z.var(0, ddof=1).mean(), rtol=0.03)
        assert np.corrcoef(found[layer].variance.ravel(), z.var(0).ravel())[0, 1] > 0.95
        error = found[layer].mean - z.mean(0)
        assert abs(error / np.sqrt(z.var(0) / 200 + z.var(0) / 2000)).mean() == pytest.approx(0.8, abs=0.15)
    # tanh is saturated where 1 - tanh^2 <= 0.1: beyond 1.818
    border = np.arctanh(np.sqrt(0.9))
    saturated = abs(b.mean(0)) >= border
    probability = (abs(b) < border)[:, saturated].mean()
    assert found["b:tanh"].gradient_probability == pytest.approx(probability, rel=0.05)
    # closed form: p/(1-p) sum w^2 x^2, of the layer right behind a dropout
    h = np.maximum(x.numpy() @ net.a.weight.detach().numpy().T + net.a.bias.detach().numpy(), 0).astype(np.float64)
    expected = 0.4 / 0.6 * h**2 @ (net.b.weight.detach().numpy().astype(np.float64) ** 2).T
    np.testing.assert_allclose(found["b:tanh"].closed_form, expected, rtol=1e-5)


@pytest.mark.parametrize(("drop", "p"), [(True, None), (True, 0.2), (False, 0.3)])
def test_net_variance_is_that_of_modules_bit_for_bit(drop, p):
    x, _ = data()
    functional = net_variance(Net(drop=drop), x, masks=16, p=p)
    modules = net_variance(Net(functional=False, drop=drop), x, masks=16, p=p)
    assert [layer.layer for layer in modules.layers] == ["relu", "tanh", "leaky"]
    for one, other in zip(functional.layers, modules.layers, strict=True):
        assert np.array_equal(one.variance, other.variance)
        assert np.array_equal(one.mean, other.mean)
        assert (one.closed_form is None) == (other.closed_form is None)
        assert one.closed_form is None or np.array_equal(one.closed_form, other.closed_form)
        assert one.gradient_probability == other.gradient_probability or np.isnan(one.gradient_probability)
        assert (one.left, one.right) == (other.left, other.right)


@pytest.mark.parametrize("p", [None, 0.3])
def test_gradient_flow_under_masks_is_that_of_modules(p):
    found = [
        masks_by_weights(Net(functional=functional, drop=p is None), data(), masks=8, p=p).layers
        for functional in (True, False)
    ]
    for one, other in zip(*found, strict=True):
        assert one.masks_off == other.masks_off > 0
        if p is None:  # masks at the names of the model's own dropouts are the same, those behind functions are not
            assert np.array_equal(one.by_mask, other.by_mask)
        else:
            assert one.masks_on == pytest.approx(other.masks_on, rel=0.5)
            assert one.masks_on != one.masks_off


def test_a_mask_behind_a_function_changes_what_comes_after_it_in_place_or_not():
    class InPlace(Net):
        def forward(self, x):
            h = self.a(x)
            h.relu_()
            return self.d(F.leaky_relu(self.c(torch.tanh(self.b(h))), 0.2))

    x, _ = data()
    one = net_variance(InPlace(drop=False), x, masks=16, p=0.3)
    other = net_variance(Net(drop=False), x, masks=16, p=0.3)
    for ours, theirs in zip(one.layers, other.layers, strict=True):
        assert np.array_equal(ours.variance, theirs.variance)
    assert one.layers[1].variance.min() > 0
    flow = masks_by_weights(InPlace(drop=False), data(), masks=4, p=0.3)
    assert flow.layers[0].masks_off == masks_by_weights(Net(drop=False), data(), masks=4, p=0.3).layers[0].masks_off


def test_patterns_calls_and_both_kinds_in_one_model():
    class Both(Net):
        def forward(self, x):
            h = self.tanh(self.b(self.drop(F.relu(self.a(x)))))
            h = torch.sigmoid(self.b(self.drop(F.relu(F.pad(h, (0, 3)) + F.relu(self.a(x))))))
            return self.d(self.c(h))

    x, _ = data()
    found = net_variance(Both(), x, masks=4).layers
    assert [(layer.layer, layer.call) for layer in found] == [
        ("a:relu", 0), ("a:relu", 1), ("tanh", 0), ("(model):relu", 0), ("b:sigmoid", 0),
    ]  # fmt: skip
    chosen = net_variance(Both(), x, masks=4, include=["b:*", "tanh"]).layers
    assert [layer.layer for layer in chosen] == ["tanh", "b:sigmoid"]


def test_a_gated_unit_is_its_gate():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(4, 3)

        def forward(self, x):
            return self.b(F.glu(self.a(F.dropout(x, 0.5, self.training))))

    net, (x, _) = Gated(), data()
    (found,) = net_variance(net, x, masks=64).layers
    assert (found.layer, found.variance.shape) == ("a:glu", (24, 4))
    expected = (x**2) @ (net.a.weight[4:].detach() ** 2).T
    assert found.variance.mean() == pytest.approx(expected.mean().item(), rel=0.2)


def test_nothing_is_left_behind_and_errors_say_what_is_the_matter():
    net, (x, y) = Net(), data()
    before = [value.clone() for value in net.state_dict().values()]
    masks_by_weights(net, (x, y), masks=2)
    dd.measure.ablation(net, (x, y), groups=2, permutations=2, shares=())
    assert all(torch.equal(one, other) for one, other in zip(before, net.state_dict().values(), strict=True))
    assert not net._forward_hooks
    assert not net._forward_pre_hooks
    assert _get_current_function_mode_stack() == []
    with pytest.raises(ArgumentError, match="its forward pass calls no activation function that is known"):
        net_variance(nn.Sequential(nn.Linear(5, 3)), x)

    class Checkpointed(Net):
        def forward(self, x):
            return checkpoint(super().forward, x.requires_grad_(), use_reentrant=True)

    with pytest.raises(ArgumentError, match="under a reentrant torch.utils.checkpoint"):
        masks_by_weights(Checkpointed(drop=False), (x, y), masks=2, p=0.3)
    Checkpointed.forward = lambda self, x: checkpoint(super(Checkpointed, self).forward, x, use_reentrant=False)
    with pytest.raises(ArgumentError, match="what stands behind a:relu would be lost"):
        masks_by_weights(Checkpointed(drop=False), (x, y), masks=2, p=0.3)

    class Dropped(Checkpointed):
        def __init__(self):
            super().__init__(drop=False)
            self.before = nn.Dropout(0.3)

    Dropped.forward = lambda self, x: checkpoint(super(Checkpointed, self).forward, self.before(x), use_reentrant=False)
    plain = type("Plain", (Dropped,), {"forward": lambda self, x: Net.forward(self, self.before(x))})
    x = x.detach()
    found, expected = (masks_by_weights(one, (x, y), masks=2).layers for one in (Dropped(), plain()))
    assert all(np.array_equal(one.by_mask, other.by_mask) for one, other in zip(found, expected, strict=True))
    assert [layer.masks_off for layer in found] == [layer.masks_off for layer in expected]


def test_flatness_is_not_made_of_gaaf_s_gradient():
    net = Net(drop=False)
    with dd.gaaf.replace(net):
        found = dd.measure.flatness(net, data(), k=1)
        assert found.table["why"].str.contains("a gradient that the loss does not follow").any()
