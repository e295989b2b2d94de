from __future__ import annotations

import pytest
import torch
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.experiments.mnist.network import CONDITIONS, KNOWN, OF_RELU, build
from dropdiag.experiments.settings import condition_named
from dropdiag.experiments.surrogates import SURROGATES
from dropdiag.gaaf import GAAF

SMALL = (12, 8, 6, 6, 3)


def names(condition: str) -> list[str]:
    return [name for name, module in build(condition, 0, widths=SMALL).named_modules() if not list(module.children())]


def test_modules_are_named_by_layer():
    plain = [f"layer{i}.{part}" for i in (1, 2, 3) for part in ("linear", "activation")]
    assert names("No dropout") == [*plain, "output"]
    assert names("GAAF") == [*plain, "output"]
    assert names("Dropout") == [
        f"layer{i}.{part}" for i in (1, 2, 3) for part in ("linear", "activation", "dropout")
    ] + ["output"]


def test_conditions_differ_in_what_they_say():
    parts = {c: build(c, 0, rate=0.3, widths=SMALL).get_submodule("layer2") for c in CONDITIONS}
    assert type(parts["No dropout"].activation) is nn.Tanh
    assert type(parts["Dropout"].activation) is nn.Tanh
    assert parts["Dropout"].dropout.p == 0.3
    assert isinstance(parts["GAAF"].activation, GAAF)
    assert parts["GAAF"].activation.base is torch.tanh


def test_the_paper_s_widths():
    shapes = [tuple(p.shape) for p in build("Dropout", 0).parameters() if p.ndim == 2]
    assert shapes == [(512, 784), (256, 512), (256, 256), (10, 256)]


@pytest.mark.parametrize("other", CONDITIONS[1:])
def test_a_seed_gives_the_same_weights_in_every_condition(other):
    first, second = build("No dropout", 3).parameters(), build(other, 3).parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(next(build(other, 4).parameters()), next(build(other, 3).parameters()))


def test_weights_are_glorot_uniform_and_biases_zero():
    for linear in (m for m in build("GAAF", 0).modules() if isinstance(m, nn.Linear)):
        bound = (6 / (linear.in_features + linear.out_features)) ** 0.5
        weights = linear.weight.detach().abs()
        assert weights.max() <= bound
        assert weights.mean().item() == pytest.approx(bound / 2, rel=0.03)
        assert not linear.bias.any()


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    build("Dropout", 5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "condition"),
    [("dropout", "Dropout"), ("No-Dropout", "No dropout"), ("no_dropout", "No dropout"), ("gaaf", "GAAF")],
)
def test_names_forgive_case_and_hyphens(name, condition):
    assert condition_named(name, KNOWN) == condition


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build("droput", 0),
            "unknown condition 'droput'; the conditions are 'No dropout', 'Dropout', 'GAAF'",
        ),
        (lambda: build("Dropout", 0, rate=1.0), r"the dropout rate must be in \[0, 1\), got 1.0"),
        (
            lambda: build("Dropout", 0, widths=(4,)),
            r"widths must be at least two positive numbers.* got \(4,\)",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize("condition", SURROGATES)
def test_surrogates_have_relu_s_value_and_their_derivative(condition):
    network = build(condition, 0, widths=SMALL, activation="relu")
    plain = build("No dropout", 0, widths=SMALL, activation="relu")
    x = torch.randn(5, SMALL[0])
    assert torch.equal(network(x), plain(x))
    assert network.layer1.activation.surrogate.name == SURROGATES[condition]
    assert condition not in CONDITIONS
    if condition in OF_RELU:
        with pytest.raises(ArgumentError, match=f"the condition '{condition}' is ReLU's; pass activation relu"):
            build(condition, 0, widths=SMALL)
    else:
        build(condition, 0, widths=SMALL)
