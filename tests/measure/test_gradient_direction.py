"""Direction of gradients: numpy on gradients of plain autograd, known covariances, and that it leaves no trace."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError
from dropdiag.measure.directions.directions import Directions
from dropdiag.measure.directions.mini_batches import mini_batches
from dropdiag.measure.gradient_direction import gradient_direction
from tests.measure.test_no_trace import KINDS, data
from tests.measure.traces import check_training_goes_on, recorded_beside


def half_of_one_minus_cosine(a, b):
    return 0.5 * (1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def by_hand(gradients, truth, size):
    """All three from the gradients themselves, pair by pair."""
    pairs = [half_of_one_minus_cosine(a, b) for a, b in itertools.combinations(gradients, 2)]
    trace = size * np.cov(np.array(gradients).T).trace()
    square = np.square(np.mean(gradients, 0)).sum() - trace / size / len(gradients)
    return np.mean(pairs), np.mean([half_of_one_minus_cosine(g, truth) for g in gradients]), trace / square


def found_of(switched):
    return switched.variance, switched.error, switched.noise_scale


def network():
    torch.manual_seed(0)
    layers = nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    return nn.Sequential(*layers).double()


def larger(n=50):
    generator = torch.Generator().manual_seed(2)
    x = 1 + torch.randn(n, 6, generator=generator).double()
    return x, (x[:, :3] + torch.tensor([2.0, 1.0, 0.0])).argmax(1)  # a class that is frequent: there is a mean gradient


def gradient(model, x, y):
    found = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    return torch.cat([part.flatten() for part in found]).numpy()


def test_masks_off_all_three_are_those_of_plain_autograd():
    model, (x, y) = network(), larger()
    found = gradient_direction(model, x, targets=y, batches=6, seed=3)
    model.eval()
    rows = list(mini_batches(50, 6, 3))
    assert len({row for part in rows for row in part}) == 48  # two are left over
    gradients = [gradient(model, x[part], y[part]) for part in rows]
    used = [row for part in rows for row in part]
    expected = by_hand(gradients, gradient(model, x[used], y[used]), 8)
    np.testing.assert_allclose(found_of(found.off), expected, rtol=1e-9)
    assert (found.batches, found.size, found.samples) == (6, 8, 50)
    assert (found.cost.forward, found.cost.backward) == (12, 12)
    assert found.memory == 3 * 8 * sum(p.numel() for p in model.parameters())


def test_masks_on_they_are_those_of_the_gradients_under_masks(monkeypatch):
    model, (x, y) = network(), larger(48)
    kept = []

    class Keeping(Directions):
        def add(self, part):
            kept.append(torch.cat([one.flatten() for one in part]).numpy())
            super().add(part)

    monkeypatch.setattr(sys.modules[gradient_direction.__module__], "Directions", Keeping)
    found = gradient_direction(model, x, targets=y, batches=6, seed=3)
    off, on = kept[:6], kept[6:]
    truth = gradient(model.eval(), x, y)
    np.testing.assert_allclose(found_of(found.on), by_hand(on, truth, 8), rtol=1e-9)
    np.testing.assert_allclose(found_of(found.off), by_hand(off, truth, 8), rtol=1e-9)
    # half of the second layer's columns, on average, come of dropped nodes: no gradient flows to them from one sample
    one = gradient_direction(model, x[:6], targets=y[:6], batches=6)
    columns = [g[112:240].reshape(8, 16) for g in kept[-6:]]
    dropped = np.mean([(c == 0).all(0).mean() for c in columns])
    assert one.size == 1
    assert 0.3 < dropped < 0.7


class Mean(nn.Module):
    """The gradient of a sample's loss is the sample, under a mask."""

    def __init__(self, nodes, p=0.0):
        super().__init__()
        self.drop, self.w = nn.Dropout(p), nn.Linear(nodes, 1, bias=False).double()

    def forward(self, x):
        return self.w(self.drop(x)).mean()


def test_estimates_of_the_noise_are_unbiased_where_the_covariance_is_known():
    generator, p, nodes = np.random.default_rng(0), 0.3, 5
    mean, sd = np.array([0.6, -0.4, 0.2, 0.0, 0.3]), np.array([1.0, 0.5, 2.0, 1.5, 0.1])
    rows = []
    for seed in range(300):
        x = torch.from_numpy(mean + sd * generator.standard_normal((24, nodes)))
        found = gradient_direction(Mean(nodes, p), x, lambda out: out, batches=4, seed=seed)
        rows.append([found.off.trace, found.off.square, found.on.trace, found.on.square])
    trace = np.square(sd).sum()
    of_masks = p / (1 - p) * (np.square(sd) + np.square(mean)).sum()
    expected = np.array([trace, np.square(mean).sum(), trace + of_masks, np.square(mean).sum()])
    found, error = np.mean(rows, 0), np.std(rows, 0, ddof=1) / np.sqrt(300)
    assert (np.abs(found - expected) < 4 * error).all()
    assert (error < 0.1 * expected).all()


def test_orthogonal_opposite_and_equal_directions():
    def variance(*rows):
        x = torch.tensor(rows).double()
        return gradient_direction(Mean(2), x, lambda out: out, batches=len(rows)).off

    assert variance([1.0, 0.0], [0.0, 3.0]).variance == pytest.approx(0.5)
    assert variance([2.0, 1.0], [4.0, 2.0], [1.0, 0.5]).variance == pytest.approx(0.0, abs=1e-15)
    opposite = variance([1.0, 0.0], [-3.0, 0.0])
    assert opposite.variance == pytest.approx(1.0)
    assert opposite.error == pytest.approx(0.5)  # one of two points the other way than their mean


def test_what_is_missing_says_why():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double()
    found = gradient_direction(Mean(2), x, lambda out: out, batches=4)
    assert found.off.variance == pytest.approx((2 * 1 + 4 * 0.5) / 6)
    assert found.off.error is None
    rows = found.table.set_index("quantity")
    assert "mini-batches' gradients are lost in their noise" in rows.loc["gradient_noise_scale_masks_off", "why"]
    assert "of all mini-batches together is zero" in rows.loc["gradient_direction_error_masks_off", "why"]
    assert set(rows["why"][rows.index.str.endswith("masks_on")]) == {"the model has no dropout that draws masks"}
    assert rows["value"].isna().sum() == 5
    assert found.cost.forward == 4
    zero = gradient_direction(Mean(2), x * torch.tensor([[0.0], [1], [1], [1]]), lambda out: out, batches=4)
    assert zero.off.variance is None
    assert "is zero or not finite" in dict(zero.off.why)["variance"]
    diverged = gradient_direction(Mean(2), x * torch.inf, lambda out: out, batches=4)
    assert found_of(diverged.off) == (None, None, None)
    assert dict(diverged.off.why).keys() == {"variance", "error", "noise_scale"}


class Unreached(Mean):
    def forward(self, x):
        return self.w(x).mean()


@pytest.mark.parametrize("model", [Mean(6), Unreached(6, 0.5)])
def test_a_model_that_draws_no_masks_has_no_row_with_masks_on(model):
    found = gradient_direction(model, larger()[0], lambda out: out)
    assert found_of(found.on) == (None, None, None)
    assert None not in found_of(found.off)


def test_dropouts_alone_are_switched_whatever_mode_the_model_is_in():
    model, (x, y) = network(), larger()
    found = gradient_direction(model, x, targets=y)
    assert gradient_direction(model.eval(), x, targets=y) == found
    assert not any(m.training for m in model.modules())
    assert gradient_direction(model, x, targets=y, seed=1) != found
    # batch norm stays in the mode that it has
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)).double()
    given = [gradient_direction(model.train(mode), x, targets=y).off.variance for mode in (True, False)]
    assert given[0] != given[1]


def test_inputs_are_split_in_all_their_forms():
    x, y = larger()

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, values, scale=None, labels=None):
            return {"logits": self.inner(values * (1 if scale is None else scale["by"][0]))}

    expected = gradient_direction(network(), x, targets=y).off
    one = torch.ones(50, 1).double()
    for batch in (
        {"values": x, "scale": {"by": [one]}},
        (x, {"by": [one]}),
        {"values": x, "scale": {"by": [torch.tensor(1.0)]}},
    ):
        assert gradient_direction(Named(), batch, targets=y).off == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: gradient_direction(m, x, targets=y, batches=1), "batches must be a whole number of at least 2"),
        (lambda m, x, y: gradient_direction(m, x, targets=y, batches=51), "50 samples cannot be split into batches=51"),
        (lambda m, x, y: gradient_direction(m, x), "there is no loss"),
        (lambda m, x, y: gradient_direction(m, x, targets=y, seed="a"), "seed must be a whole number"),
        (lambda m, x, y: gradient_direction(m, x.to("meta"), targets=y), "batch is on meta"),
        (lambda m, x, y: gradient_direction(m, (x, x[:3]), lambda out: out.mean()), "lengths of 3 and 50"),
        (lambda m, x, y: gradient_direction(m, [], lambda out: out.mean()), "lengths of no tensor"),
        (lambda m, x, y: gradient_direction(m.requires_grad_(False), x, targets=y), "no parameter"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_before_anything_runs(call, message):
    model = network()
    model.register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
    with pytest.raises(ArgumentError, match=message):
        call(model, *larger())


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(ArgumentError, match="one floating-point number"):
        gradient_direction(network(), larger()[0], lambda out: out)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_what_it_was_and_training_goes_on(kind):
    x, y = data()
    check_training_goes_on(kind, lambda model: gradient_direction(model, x, targets=y, batches=2))


def test_it_is_the_same_by_a_recorder_which_sees_nothing_of_it(tmp_path):
    expected = []

    def measure(rec, model):
        expected.append(gradient_direction(model, data(), batches=2))
        assert rec.measure("gradient_direction", data(), batches=2) == expected[-1]

    rows = recorded_beside(lambda: nn.Dropout(0.4), tmp_path, measure).scalars
    rows = rows[(rows["phase"] == "gradient_direction") & rows["quantity"].str.startswith("gradient")]
    for step, found in enumerate(expected, 1):
        table = found.table.set_index("quantity")["value"]
        written = rows[rows["step"] == step].set_index("quantity")["value"]
        pd.testing.assert_series_equal(written.loc[table.index], table)
        assert len(written) == len(table) == 6


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex128))

    def forward(self, x):
        return (x.to(torch.complex128) @ self.weight).abs()


def test_both_parts_of_complex_parameters_count():
    torch.manual_seed(0)
    model, x, y = Complex(), torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 3
    gradients = []
    for rows in mini_batches(12, 3, 0):
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x[rows]), y[rows]), [model.weight])
        gradients.append(torch.view_as_real(gradient).flatten())
    cosines = [F.cosine_similarity(gradients[i], gradients[j], dim=0) for i, j in ((0, 1), (0, 2), (1, 2))]
    found = gradient_direction(model, x, targets=y, batches=3)
    assert found.off.variance == pytest.approx(float(1 - torch.stack(cosines).mean()) / 2, rel=1e-12)
