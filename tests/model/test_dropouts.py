"""The table of dropout kinds: what it says of modules, and that one entry makes a kind known everywhere."""

import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.model import dropouts
from dropdiag.model.dropouts import DropoutKind, kind_of, layer_dropout, mask_variance_of, rate_of, settable_rates
from dropdiag.model.rates import plain_rate
from dropdiag.model.sites import DROPOUT, survey


class Mine(nn.Dropout):
    """A subclass that keeps torch's forward."""


class Noise(nn.Dropout):
    """A subclass with a forward of its own."""

    def forward(self, x):
        return x


class DropPath(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop_prob = 0.3


class Gate(nn.Module):
    """No dropout that the table knows, with its rate under a name of its own."""

    def __init__(self, level=0.5):
        super().__init__()
        self.level = level

    def forward(self, x):
        return F.dropout(x, self.level, self.training)


@pytest.mark.parametrize(
    ("module", "grain", "rate"),
    [
        (nn.Dropout(0.2), "element", 0.2),
        (Mine(0.2), "element", 0.2),
        (nn.Dropout2d(0.2), "channel", 0.2),
        (nn.AlphaDropout(0.2), "element", 0.2),
        (nn.FeatureAlphaDropout(0.2), "channel", 0.2),
        (nn.MultiheadAttention(4, 2, dropout=0.2), "attention weight", 0.2),
        (nn.LSTM(3, 3, 2, dropout=0.2), "element", 0.2),
        (DropPath(), "sample", 0.3),
        (nn.Linear(3, 3), None, None),
    ],
)
def test_kind_and_rate_of_a_module(module, grain, rate):
    kind = kind_of(module)
    assert (None if kind is None else kind.grain) == grain
    assert rate_of(module) == rate


def test_the_variance_of_masks_is_known_for_torchs_own_forward_alone():
    variance = mask_variance_of(Mine(0.2))
    masks = F.dropout(torch.ones(400_000), 0.2)
    assert variance(0.2) == pytest.approx(masks.var().item(), rel=0.02)
    assert variance(1.0) == float("inf")
    for other in (Noise(0.2), nn.Dropout2d(0.2), nn.AlphaDropout(0.2), DropPath(), nn.ReLU()):
        assert mask_variance_of(other) is None


@pytest.mark.parametrize(
    ("rate", "plain"),
    [
        (0.3, 0.3),
        (1 / 3, 1 / 3),
        (1, 1.0),
        (np.float32(0.3), 0.3),
        (np.float64(0.3), 0.3),
        (np.float16(0.3), 0.3),
        (torch.tensor(0.3), 0.3),
        (torch.tensor([0.3], dtype=torch.bfloat16), 0.3),
        (torch.tensor(1 / 3, dtype=torch.float64), 1 / 3),
        (torch.linspace(0, 0.1, 12)[1].item(), 0.009090909),
        (torch.tensor([0.3, 0.2]), None),
        ("0.3", None),
        (True, None),
        (None, None),
    ],
)
def test_rates_are_the_numbers_that_people_wrote(rate, plain):
    assert plain_rate(rate) == plain


def test_names_alone_make_no_dropout_of_what_holds_layers():
    class DropPathBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.drop_prob = nn.Linear(3, 3), 0.1

    class DropoutLinear(nn.Linear):
        p = 0.1

    for module in (DropPathBlock(), DropoutLinear(3, 3)):
        assert kind_of(module) is None
    encoder = nn.Module()
    encoder.layers, encoder.layerdrop = nn.ModuleList([nn.Linear(3, 3)]), 0.1
    assert (kind_of(encoder).grain, rate_of(encoder), layer_dropout(encoder).listed_as) == ("layer", 0.1, "layerdrop")
    assert layer_dropout(nn.LSTM(3, 3, 2, dropout=0.2)).listed_as == "dropout"
    assert layer_dropout(nn.LSTM(3, 3, 2)) is None


def test_rates_that_can_be_set():
    model = nn.ModuleDict(
        {
            "a": nn.Dropout(0.0),
            "b": nn.MultiheadAttention(4, 2, dropout=0.1),
            "c": nn.MultiheadAttention(4, 2),
            "d": nn.GRU(3, 3, 2, dropout=0.1),
            "e": nn.GRU(3, 3),
            "f": DropPath(),
        }
    )
    assert settable_rates(model) == [(model["a"], "p"), (model["b"], "dropout"), (model["d"], "dropout")]


def test_a_subclass_of_torchs_dropout_is_listed_once(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Mine(0.2))
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        model(torch.ones(2, 3)).sum().backward()
        rec.step()
        listed = [row for row in rec.coverage() if row.kind == DROPOUT]
    assert [(row.layer, row.fired, row.dropout) for row in listed] == [("2", 1, "rate 0.2, grain element")]


def test_one_entry_makes_a_kind_known_everywhere(monkeypatch):
    model = nn.Sequential(nn.Linear(3, 50), nn.Tanh(), Gate(), nn.Linear(50, 4), nn.Tanh())
    x = torch.randn(8, 3)
    assert [s for s in survey(model) if s.kind == DROPOUT] == []
    with pytest.raises(ArgumentError, match="outside of its dropout modules"):
        dd.measure.net_variance(model, x, masks=8, p=0.25)
    kind = DropoutKind("element", (Gate,), rates=("level",), mask_variance=lambda p: p / (1 - p))
    monkeypatch.setattr(dropouts, "DROPOUT_KINDS", (kind, *dropouts.DROPOUT_KINDS))
    monkeypatch.setattr(dropouts, "_KINDS_OF", weakref.WeakKeyDictionary())  # what the table before told of classes
    (site,) = [s for s in survey(model) if s.kind == DROPOUT]
    assert (site.layer, site.rate) == ("2", 0.5)
    found = dd.measure.net_variance(model, x, masks=400, p=0.25)["4"]
    assert model[2].level == 0.5
    assert found.closed_form is not None
    assert found.variance.mean() == pytest.approx(found.closed_form.mean(), rel=0.1)
