"""A loss function may hold what is trained, what counts, and what was computed before: none of it is touched."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from dropdiag import measure
from dropdiag.errors import ArgumentError

MEASURES = {
    "masks_by_weights": partial(measure.masks_by_weights, masks=2),
    "ensemble": partial(measure.ensemble, masks=2),
    "flatness": partial(measure.flatness, trace_samples=2, directions=2, sizes=(0.1,)),
    "robustness": partial(measure.robustness, draws=2, noise=(0.1,)),
    "ablation": partial(measure.ablation, permutations=2, orders=2, shares=(0.5,), groups=4),
    "gradient_direction": partial(measure.gradient_direction, batches=2),
}
BY_GRADIENTS = ("masks_by_weights", "flatness", "gradient_direction")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3))


def data(n=12):
    torch.manual_seed(1)
    return torch.randn(n, 6), torch.randint(0, 3, (n,))


class Scaled(nn.Module):
    """A loss that learns a scale, counts its calls, and follows the mean of what it is given."""

    def __init__(self):
        super().__init__()
        self.scale, self.norm, self.calls = nn.Parameter(torch.ones(())), nn.BatchNorm1d(3), 0

    def forward(self, output, targets):
        self.calls += 1
        return F.cross_entropy(self.scale * self.norm(output), targets)


@pytest.mark.parametrize("name", MEASURES)
def test_a_loss_that_is_a_module_is_left_as_it_was(name):
    x, y = data()
    loss = Scaled()
    loss(torch.randn(5, 3), torch.zeros(5, dtype=torch.long)).backward()
    gradients = [p.grad for p in loss.parameters()]
    before = [p.clone() for p in (*gradients, *loss.buffers())]
    MEASURES[name](network(), x, loss_fn=loss, targets=y)
    assert all(p.grad is g for p, g in zip(loss.parameters(), gradients, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, (*gradients, *loss.buffers()), strict=True))
    assert (loss.calls, loss.training) == (1, True)


def test_each_pass_has_the_loss_in_the_state_that_it_had():
    x, y = data()
    loss = Scaled()
    expected = Scaled()(network().eval()(x), y).detach()
    found = measure.ablation(network(), x, loss, y, permutations=2, orders=2, shares=(0.0,), groups=2)
    assert found.layers[0].loss == (pytest.approx(float(expected), rel=1e-6),)


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_what_a_loss_brings_in_keeps_its_gradient_and_its_graph(name):
    x, _ = data()
    teacher, leaf = network(1), torch.ones(3, requires_grad=True)
    aim = leaf * leaf  # the graph of it is to be there afterwards

    def distilled(output):
        return F.mse_loss(output, teacher(x)[: len(output)]) + (output * aim).mean()

    MEASURES[name](network(), x, loss_fn=distilled)
    assert leaf.grad is None
    assert all(p.grad is None for p in teacher.parameters())
    aim.sum().backward()
    assert torch.equal(leaf.grad, torch.full((3,), 2.0))


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_a_loss_that_holds_the_parameters_themselves_is_refused(name):
    model, (x, y) = network(), data()
    held = list(model.parameters())

    def decayed(output, targets, parameters=lambda: held):
        return F.cross_entropy(output, targets) + sum(p.pow(2).sum() for p in parameters())

    with pytest.raises(ArgumentError, match=r"loss_fn holds the parameter .* itself"):
        MEASURES[name](model, x, loss_fn=decayed, targets=y)
    assert all(p.grad is None for p in held)
    MEASURES[name](model, x, loss_fn=partial(decayed, parameters=model.parameters), targets=y)
    assert all(p.grad is None for p in held)


def test_weight_decay_in_a_loss_is_part_of_the_curvature():
    model, (x, y) = network(), data()

    def decayed(output, targets):
        return F.cross_entropy(output, targets) + 50 * sum(p.pow(2).sum() for p in model.parameters())

    bare, more = (measure.flatness(model, x, loss, y, trace_samples=2) for loss in (None, decayed))
    assert more["hessian_eigenvalue@1"] == pytest.approx(bare["hessian_eigenvalue@1"] + 100, rel=1e-4)


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_a_loss_without_gradient_is_refused(name):
    x, y = data()
    with pytest.raises(ArgumentError, match="depends on no trainable parameter"):
        MEASURES[name](network(), x, loss_fn=lambda o, t: F.cross_entropy(o.detach(), t), targets=y)


@pytest.mark.parametrize("name", MEASURES)
def test_targets_that_a_loss_cannot_take_are_told_with_their_shape(name):
    x, y = data()
    with pytest.raises(ArgumentError, match=r"loss_fn cannot be computed .*\(\d+, 3\).*\(\d+, 1\), torch.int64"):
        MEASURES[name](network(), x, loss_fn=nn.CrossEntropyLoss(), targets=y[:, None])


@pytest.mark.parametrize("name", MEASURES)
def test_a_batch_without_samples_is_refused(name):
    x, y = data()
    with pytest.raises(ArgumentError, match=r"no samples: .*\(0, 6\)"):
        MEASURES[name](network(), x[:0], targets=y[:0])


class Counting:
    """A hook that counts how often it is called."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *_):
        self.calls += 1


@pytest.mark.parametrize("register", [register_module_forward_hook, register_module_forward_pre_hook])
@pytest.mark.parametrize("name", MEASURES)
def test_hooks_on_all_modules_keep_their_state_and_are_there_afterwards(name, register):
    model, (x, y), hook, seen = network(), data(), Counting(), [0]

    def count(*_):
        seen[0] += 1

    handles = [register(hook), register(count)]
    try:
        MEASURES[name](model, x, targets=y)
        assert (hook.calls, seen) == (0, [0])
        model(x)
        assert (hook.calls, seen) == (5, [5])
    finally:
        for handle in handles:
            handle.remove()
    model(x)
    assert hook.calls == 5
