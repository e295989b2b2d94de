from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.experiments.images.experiment import figure8
from dropdiag.experiments.images.network import (
    BASE,
    BATCH_NORM,
    BATCH_NORM_GAAF,
    CONDITIONS,
    DROPOUT,
    KNOWN,
    WITH_GAAF,
    WITHOUT_GAAF,
    build,
    layers,
    scaled_widths,
)
from dropdiag.experiments.plan import run_name
from dropdiag.experiments.settings import condition_named
from dropdiag.experiments.surrogates import SURROGATES
from dropdiag.gaaf import GAAF


def test_the_full_network_is_the_one_described():
    model = build(BASE, 100, 0)
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim > 1]
    convolutions = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256)]
    assert shapes == [*((a, b, 3, 3) for a, b in convolutions), (512, 4096), (100, 512)]
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == 3
    assert not any(isinstance(m, nn.Dropout) for m in model.modules())
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_differ_in_what_they_say(condition):
    model = build(condition, 10, 3, width=0.1)
    names = dict(model.named_modules())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == (7 if condition in (BATCH_NORM, BATCH_NORM_GAAF) else 0)
    for name in layers().activations:
        activation = names[name]
        assert isinstance(activation, GAAF if condition in WITHOUT_GAAF else nn.ReLU)
        assert not isinstance(activation, GAAF) or activation.base is torch.relu
    assert all(isinstance(names[name], nn.Conv2d | nn.Linear) for name in layers().weights)
    reference = dict(build(BASE, 10, 3, width=0.1).named_parameters())
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            assert torch.equal(parameter, reference[name])
    if condition == BATCH_NORM:
        parts = [type(m).__name__ for m in names["layer2"].children()]
        assert parts == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]


def test_weights_have_the_variance_of_he_and_biases_are_zero():
    model = build(BASE, 10, 0)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            variance = (1.0 if name == "output" else 2.0) / fan_in
            n = module.weight.numel()
            assert module.weight.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / n))
            assert not module.bias.any()


def test_seeds_differ_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    first, second = (build(BASE, 10, seed, width=0.1) for seed in (0, 1))
    assert not torch.equal(first.output.weight, second.output.weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_names_are_found_however_they_are_written():
    assert [condition_named(n, CONDITIONS) for n in ("base", "batch-norm", "gaaf", "batch-norm-gaaf", "BATCH NORM + gaaf")] == [
        BASE, BATCH_NORM, WITH_GAAF, BATCH_NORM_GAAF, BATCH_NORM_GAAF,
    ]  # fmt: skip
    with pytest.raises(ArgumentError, match="unknown condition 'dropout'; the conditions are 'Base', 'Batch norm'"):
        condition_named("dropout", CONDITIONS)
    assert [run_name(c, 1) for c in CONDITIONS] == ["base-s1", "batch-norm-s1", "gaaf-s1", "batch-norm-gaaf-s1"]


def test_other_sizes_of_images():
    model = build(BASE, 10, 0, width=0.1, shape=(1, 28, 28))
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert model.layer7.linear.in_features == 26 * 3 * 3
    with pytest.raises(ArgumentError, match=r"images must be at least 8 x 8 .* got \(1, 7, 28\)"):
        build(BASE, 10, 0, shape=(1, 7, 28))


def test_widths():
    assert scaled_widths(0.25) == (16, 16, 32, 32, 64, 64, 128)
    assert scaled_widths(1e-9) == (1,) * 7
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ArgumentError, match="width must be positive and finite"):
            build(BASE, 10, 0, width=wrong)


@pytest.mark.parametrize(("condition", "like"), [(DROPOUT, BASE), (f"{BATCH_NORM} + {DROPOUT}", BATCH_NORM)])
def test_dropout_stands_on_the_hidden_layer_alone(condition, like):
    network, plain = (build(c, 10, 0, width=0.5, rate=0.25) for c in (condition, like))
    assert [name for name, m in network.named_modules() if isinstance(m, nn.Dropout)] == ["layer7.dropout"]
    assert all(map(torch.equal, network.parameters(), plain.parameters()))
    x, kept = torch.randn(40, 3, 32, 32), []
    network.layer7.dropout.register_forward_hook(lambda _module, args, output: kept.extend((*args, output)))
    torch.manual_seed(0)
    network(x)
    before, after = kept
    off = (after == 0) & (before > 0)
    on = (before > 0) & ~off
    assert 0.2 < off.sum() / (before > 0).sum() < 0.3
    torch.testing.assert_close(after[on], before[on] / 0.75)
    network.load_state_dict(plain.state_dict())  # the pass above moved batch norm's means
    assert torch.equal(network.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("condition", sorted(c for c in set(KNOWN) - set(CONDITIONS) if DROPOUT not in c))
def test_surrogates_have_relu_s_value_and_are_trained_only_when_asked_for(condition):
    network, like = build(condition, 10, 0, width=0.06), BATCH_NORM if condition.startswith(BATCH_NORM) else BASE
    plain = build(like, 10, 0, width=0.06)
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(network(x), plain(x))
    name = condition.removeprefix(f"{BATCH_NORM} + ")
    assert network.layer1.activation.surrogate.name == SURROGATES[name]
    assert figure8("cifar10").default_conditions == CONDITIONS
    assert condition in figure8("cifar10").conditions
