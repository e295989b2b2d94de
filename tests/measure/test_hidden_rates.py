"""Dropouts whose rate or call is hidden in a forward method: measured as they train, or it is said that they are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dropdiag import measure
from dropdiag.errors import ArgumentError, DropdiagWarning


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.below, self.act, self.above = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)

    def forward(self, x):
        return self.above(self.dropped(self.act(self.below(x))))


class Literal(Base):
    """In evaluation mode the rate that is handed over is 0, and the one of training is in no attribute."""

    def dropped(self, h):
        rate = 0.4 if self.training else 0.0
        return F.dropout(h, rate)


class Guarded(Base):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def dropped(self, h):
        h = self.drop(h)
        if self.training:
            h = F.dropout(h, 0.4)
        return h


class Skipping(Base):
    """Leaves layers out by comparing a random number."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.layerdrop, self.drop = 0.4, nn.Dropout(0.3)

    def dropped(self, h):
        return h

    def forward(self, x):
        for layer in self.parts:
            if self.training and torch.rand(()).item() < self.layerdrop:
                continue
            x = x + self.drop(self.act(layer(x)))
        return self.above(x)


def data():
    torch.manual_seed(1)
    return torch.randn(16, 6), torch.randint(0, 3, (16,))


MEASURES = {
    "ensemble": lambda model, x, y: measure.ensemble(model, x, y, 4),
    "masks_by_weights": lambda model, x, y: measure.masks_by_weights(model, x, targets=y, masks=4),
    "gradient_direction": lambda model, x, y: measure.gradient_direction(model, x, targets=y, batches=2),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_rate_that_is_not_known_in_evaluation_mode_is_refused_and_not_taken_for_0(name):
    with pytest.raises(ArgumentError, match="hands over the rate 0 in evaluation mode"):
        MEASURES[name](Literal().eval(), *data())


def test_the_same_rate_is_measured_in_training_mode():
    found = measure.masks_by_weights(Literal(), data()[0], targets=data()[1], masks=4)
    assert np.ptp(found.layers[0].by_mask) > 0


@pytest.mark.parametrize("name", MEASURES)
def test_a_call_behind_a_question_for_training_mode_is_missed_aloud(name):
    with pytest.warns(DropdiagWarning, match=r"the masks of \(model\):dropout are not in what was measured"):
        MEASURES[name](Guarded().eval(), *data())


def test_leaving_layers_out_has_its_share_in_the_regulariser():
    model, (x, y) = Skipping(), data()
    found = {one.dropout: one for one in measure.ensemble(model, x, y, 400).regularisers}
    for name, (layerdrop, p) in {None: (0.4, 0.3), "layerdrop": (0.4, 0.0), "drop": (0.0, 0.3)}.items():
        model.train()
        model.layerdrop, model.drop.p = layerdrop, p
        with torch.no_grad():
            losses = [float(F.cross_entropy(model(x), y)) for _ in range(400)]
            expected = np.mean(losses) - float(F.cross_entropy(model.eval()(x), y))
        apart = found[name].value - expected
        assert abs(apart) < 4 * np.hypot(found[name].se, np.std(losses) / 20)
        assert found[name].se > 0


def test_a_layer_that_is_left_out_under_some_masks_says_so_and_takes_the_rate_asked_for():
    x, y = data()
    model = Skipping()
    flow = measure.masks_by_weights(model, x, targets=y, masks=4, like={"layerdrop": 0.9999}).layers[0]
    assert np.isnan(flow.by_mask).all()
    assert flow.masks_off > 0
    assert flow.masks_on is None
    assert "left out at times" in flow.why
    assert model.layerdrop == 0.4
