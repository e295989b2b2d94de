"""Gradient flow in four cells against plain autograd, and what carries masks from one model to another."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.measure import masks_by_weights
from dropdiag.measure.passes.state.random_states import derived
from tests.measure.test_no_trace import KINDS, data
from tests.measure.traces import recorded_beside

MASKS = 6


def network(p, seed=0, middle=None):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 16), nn.Tanh(), middle or nn.Dropout(p), nn.Linear(16, 12), nn.Tanh(), nn.Dropout(p), nn.Linear(12, 3)
    )  # fmt: skip


def flow_by_hand(model, masks):
    """Gradient flow by autograd: ``masks`` are the factors of both dropouts."""
    x, y = data()
    z1 = F.linear(x, model[0].weight.detach(), model[0].bias.detach()).requires_grad_()
    z2 = F.linear(torch.tanh(z1) * masks[0], model[3].weight, model[3].bias)
    out = F.linear(torch.tanh(z2) * masks[1], model[6].weight, model[6].bias)
    return [g.abs().double().mean().item() for g in torch.autograd.grad(F.cross_entropy(out, y), [z1, z2])]


def drawn(k, p=0.4, seed=7):
    """The masks of number k, of both dropouts, by the seeds that they are said to have."""
    masks = []
    with torch.random.fork_rng():
        for name, width in (("2", 16), ("5", 12)):
            torch.manual_seed(derived(seed, k, name, 0))
            masks.append(F.dropout(torch.ones(8, width), p))
    return masks


def test_all_four_cells_are_those_of_plain_autograd():
    a, b = network(0.0, 1), network(0.4, 2)
    found = masks_by_weights({"No dropout": a, "Dropout": b}, data(), masks=MASKS, seed=7)
    assert (found.baseline, found.dropout, found.masks) == ("No dropout", "Dropout", MASKS)
    off = {name: flow_by_hand(model, (1.0, 1.0)) for name, model in (("a", a), ("b", b))}
    on = {name: np.array([flow_by_hand(m, drawn(k)) for k in range(1, MASKS + 1)]) for name, m in (("a", a), ("b", b))}
    for i, layer in enumerate(found.layers):
        assert layer.layer == ("1", "4")[i]
        for flow, name in ((layer.baseline, "a"), (layer.dropout, "b")):
            assert flow.masks_off == pytest.approx(off[name][i], rel=1e-5)
            np.testing.assert_allclose(flow.by_mask, on[name][:, i], rtol=1e-5)
            assert flow.masks_on == pytest.approx(on[name][:, i].mean(), rel=1e-5)
            assert flow.masks_on_se == pytest.approx(on[name][:, i].std(ddof=1) / MASKS**0.5, rel=1e-4)
        a0, b0, a1, b1 = off["a"][i], off["b"][i], on["a"][:, i].mean(), on["b"][:, i].mean()
        assert layer.weights == pytest.approx(np.log(b0 * b1 / (a0 * a1)) / 2, abs=1e-4)
        assert layer.masks == pytest.approx(np.log(a1 * b1 / (a0 * b0)) / 2, abs=1e-4)
        assert layer.interaction == pytest.approx(np.log(b1 * a0 / (b0 * a1)), abs=1e-4)
        # what training has in both conditions
        assert layer.weights + layer.masks == pytest.approx(np.log(b1 / a0), abs=1e-4)
    assert str(found.cost) == f"{2 * (MASKS + 2)} forward and {2 * (MASKS + 1)} backward passes"
    assert list(found.table["layer"]) == ["1", "4"]
    assert found.table["weights_se"].tolist() == [layer.weights_se for layer in found.layers]


def test_standard_errors_over_masks_are_those_of_many_repetitions():
    models = {"No dropout": network(0.0, 1), "Dropout": network(0.4, 2)}
    found = [masks_by_weights(models, data(), masks=12, seed=seed) for seed in range(60)]
    for effect in ("weights", "masks", "interaction"):
        values = np.array([[getattr(layer, effect) for layer in one.layers] for one in found])
        errors = np.array([[getattr(layer, f"{effect}_se") for layer in one.layers] for one in found])
        # a standard deviation of 60 values is known to 9 %
        np.testing.assert_allclose(errors.mean(0), values.std(0, ddof=1), rtol=0.35)


def test_one_known_thing_moves_one_effect_alone():
    model = network(0.4, 1)
    twin = network(0.0, 1)
    same = masks_by_weights({"a": twin, "b": model}, data(), masks=3)
    assert all((layer.weights, layer.interaction) == (0.0, 0.0) for layer in same.layers)
    assert all(layer.masks != 0.0 for layer in same.layers)
    with torch.no_grad():
        model[6].weight *= 2  # of a linear loss, all gradients below double, with masks and without
    doubled = masks_by_weights({"a": twin, "b": model}, data()[0], lambda out: out.mean(), masks=3)
    for layer in doubled.layers:
        assert layer.weights == pytest.approx(np.log(2), abs=1e-5)
        assert layer.interaction == pytest.approx(0.0, abs=1e-5)


def test_one_model_gives_its_own_two_cells_and_two_of_them_make_the_four():
    a, b = network(0.0, 1), network(0.4, 2)
    both = masks_by_weights({"a": a, "b": b}, data(), masks=4, seed=3)
    own = masks_by_weights(b, data(), masks=4, seed=3)
    like = masks_by_weights(a, data(), masks=4, seed=3, like={"2": 0.4, "5": 0.4})
    for layer, dropout, baseline in zip(both.layers, own.layers, like.layers, strict=True):
        assert (dropout.masks_off, dropout.masks_on) == (layer.dropout.masks_off, layer.dropout.masks_on)
        assert (baseline.masks_off, baseline.masks_on) == (layer.baseline.masks_off, layer.baseline.masks_on)
    assert own.dropouts == like.dropouts == ("2", "5")
    values = [(v.quantity, v.layer, v.n) for v in own.values()]
    assert values == [
        ("flow_masks_off", "1", 128), ("flow_masks_on", "1", 128),
        ("flow_masks_off", "4", 96), ("flow_masks_on", "4", 96),
    ]  # fmt: skip
    placed = masks_by_weights(nn.Sequential(*a[:2], *a[3:5], a[6]), data(), p=0.5, masks=3)
    assert placed.dropouts == ("1", "3")


class Attending(nn.Module):
    def __init__(self, p, rate=0.3):
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.attn = nn.LSTM(6, 8, 2, dropout=p), nn.MultiheadAttention(8, 2, dropout=p)
        self.act, self.rate, self.last = nn.Tanh(), rate, nn.Linear(8, 3)

    def forward(self, x):
        h, _ = self.lstm(x[None])
        h = F.dropout(self.attn(h, h, h)[0], self.rate, self.training)
        return self.last(self.act(h))[0]


PAIRS = {
    "rate 0": (network(0.0), network(0.4), None),
    "identity": (network(0.0, middle=nn.Identity()), network(0.4), None),
    "in evaluation mode": (network(0.0).eval(), network(0.4).eval(), None),
    "by its sites": (nn.Sequential(*[m for m in network(0.0) if type(m) is not nn.Dropout]), network(0.4),
                     {"2": "1", "5": "3"}),
    "inside layers and functions": (Attending(0.0, 0.0), Attending(0.3), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", PAIRS)
def test_the_other_model_draws_the_same_masks(kind):
    a, b, sites = PAIRS[kind]
    a.load_state_dict(dict(zip(a.state_dict(), b.state_dict().values(), strict=True)))
    (x, y), modes = data(), [[m.training for m in one.modules()] for one in (a, b)]
    found = masks_by_weights({"a": a, "b": b}, x, F.cross_entropy, y, masks=3, sites=sites)
    for layer in found.layers:
        np.testing.assert_array_equal(layer.baseline.by_mask, layer.dropout.by_mask)
        assert layer.baseline.masks_off == layer.dropout.masks_off != layer.dropout.masks_on
    assert [[m.training for m in one.modules()] for one in (a, b)] == modes


def test_an_inserted_dropout_is_carried_behind_the_same_module():
    models = {"a": network(0.0), "b": network(0.0)}
    dd.interventions.insert(models["b"], "1", 0.5)
    found = masks_by_weights(models, data(), masks=3)
    assert all((layer.weights, layer.interaction) == (0, 0) and layer.masks for layer in found.layers)


@pytest.mark.parametrize("training", [True, False])
def test_all_but_dropouts_stays_in_its_mode(training):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 3))
    model[1].running_var.mul_(3)
    model.train(training)
    before = copy.deepcopy(model.state_dict())
    found = masks_by_weights(model, data(), masks=2)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    x, y = data()
    z = model[1](model[0](x)).detach().requires_grad_()
    F.cross_entropy(model[4](torch.tanh(z)), y).backward()
    assert found.layers[0].masks_off == pytest.approx(z.grad.abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS[:8])
def test_training_goes_on_as_if_nothing_had_been_measured(kind, tmp_path):
    x, y = data()
    run = recorded_beside(
        kind, tmp_path, lambda rec, _: rec.measure("masks_by_weights", x, F.cross_entropy, y, masks=2)
    )
    rows = run.scalars[run.scalars["quantity"] == "flow_masks_on"]
    assert sorted(set(rows["step"])) == [1, 2]
    assert set(rows["phase"]) == {"masks_by_weights"}


def train_once(model, rec):
    F.cross_entropy(model(data()[0]), data()[1]).backward()
    rec.step()


def test_a_run_holds_what_was_returned(tmp_path):
    model, (x, y) = network(0.4), data()
    with dd.Recorder(model, tmp_path / "run") as rec:
        train_once(model, rec)
        found = rec.measure("masks_by_weights", (x, y), masks=3)
        with pytest.warns(dd.DropdiagWarning, match="masks_by_weights-2"):
            rec.measure("masks_by_weights", (x, y), masks=3)
        rec.measure("masks_by_weights", (x, y), masks=2, phase="other")
        with pytest.raises(ArgumentError, match="there is no measurement 'flows'; there are .*masks_by_weights"):
            rec.measure("flows", x)
        with rec.evaluation():
            model.eval()(x)
            with pytest.raises(ArgumentError, match=r"leave it before masks_by_weights\(\)"):
                rec.measure("masks_by_weights", (x, y))
        with pytest.raises(ArgumentError, match="phase"):
            rec.measure("masks_by_weights", (x, y), phase="train")
    with pytest.raises(ArgumentError, match="closed"):
        rec.measure("masks_by_weights", (x, y))
    rows = dd.load(tmp_path / "run").scalars
    assert set(rows["phase"]) >= {"masks_by_weights", "masks_by_weights-2", "other"}
    rows = rows[(rows["phase"] == "masks_by_weights") & rows["quantity"].str.startswith("flow")]
    assert [tuple(row) for row in rows[["quantity", "layer", "value"]].itertuples(index=False)] == [
        (value.quantity, value.layer, value.value) for value in found.values()
    ]


def test_two_runs_make_the_four_cells_of_two_models(tmp_path):
    models = {"No dropout": network(0.0, 1), "Dropout": network(0.4, 2)}
    like = {"No dropout": {"like": {"2": 0.4, "5": 0.4}}, "Dropout": {}}
    for name, model in models.items():
        with dd.Recorder(model, tmp_path / name, config={"condition": name, "seed": 0}) as rec:
            train_once(model, rec)
            rec.measure("masks_by_weights", data(), masks=4, seed=3, **like[name])
    found = masks_by_weights(models, data(), masks=4, seed=3)
    runs = dd.load({name: tmp_path / name for name in models})
    table = dd.analysis.masks_by_weights.table(runs).set_index(["layer", "effect"])["value"]
    for layer in found.layers:
        for effect in ("weights", "masks", "interaction"):
            assert table[layer.layer, effect] == pytest.approx(getattr(layer, effect), abs=1e-12)
    assert len(dd.plots.masks_by_weights(runs).axes) == 4


def test_a_frozen_layer_has_no_gradient_and_says_so(tmp_path):
    model = network(0.4)
    model[0].requires_grad_(False)
    with dd.Recorder(model, tmp_path / "run") as rec:
        train_once(model, rec)
        found = rec.measure("masks_by_weights", data(), masks=2)
    assert [value.value is None for value in found.values()] == [True, True, False, False]
    assert found.table["why"].tolist()[0].startswith("no gradient came to its net values")
    assert "missing: no gradient" in str(found)
    run = dd.load(tmp_path / "run")
    (told,) = run.meta["warnings"]
    assert told.startswith("masks_by_weights: flow_masks_off of 1, flow_masks_on of 1 is missing: no gradient came")
    rows = run.scalars
    assert rows[rows["quantity"] == "flow_masks_on"]["value"].isna().tolist() == [True, False]


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


TWO = {"a": network(0.0), "b": network(0.4)}
SHIFTED = nn.Sequential(*[m for m in network(0.0) if type(m) is not nn.Dropout])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masks_by_weights(TWO, data(), masks=0), "masks must be a whole number of at least 2, got 0"),
        (lambda: masks_by_weights({"a": SHIFTED, "b": TWO["b"]}, data()),
         r"mask of 2 \(a Dropout\) of 'b' has no place in 'a': its 2 is a Linear, .* sites=\{'2': 'MODULE'\}"),
        (lambda: masks_by_weights({"a": SHIFTED[:3], "b": TWO["b"]}, data()), "activations of both models do not"),
        (lambda: masks_by_weights(TWO, data(), sites={"3": "1"}), "sites names '3', and the dropouts of 'b' are 2, 5"),
        (lambda: masks_by_weights(TWO, data(), sites={"2": "one"}), "has '2' behind 'one', and 'a' has no such module"),
        (lambda: masks_by_weights({"a": TWO["a"], "b": network(0.0)}, data()), "neither model has a dropout"),
        (lambda: masks_by_weights({"a": network(0.2), "b": TWO["b"]}, data()),
         r"both models have dropouts, and not the same ones \('a' has 2 \(0.2\), 5 \(0.2\); .*dropout=NAME"),
        (lambda: masks_by_weights(TWO, data(), dropout="a"), r"dropout='a' names no model with dropouts"),
        (lambda: masks_by_weights(TWO, data(), p=0.5), "p= and like= are for one model"),
        (lambda: masks_by_weights(TWO["b"], data(), p=0.5), "p= is for a model without dropouts, and this one has 2, 5"),
        (lambda: masks_by_weights(TWO["a"], data()), "the model has no dropout with a rate above 0: give p="),
        (lambda: masks_by_weights(TWO["a"], data(), like={"9": 0.5}), "like names '9'"),
        (lambda: masks_by_weights(TWO["a"], data(), like={"2": 1.5}), r"like of 2: a dropout rate is a number in \[0, 1\)"),
        (lambda: masks_by_weights(TWO["a"], data(), like={"2": 0.5}, p=0.5), "give p= or like=, not both"),
        (lambda: masks_by_weights(TWO["b"], data(), sites={"2": "1"}), "are for two models"),
        (lambda: masks_by_weights({**TWO, "c": TWO["a"]}, data()), "give one model, or two by condition"),
        (lambda: masks_by_weights(nn.Sequential(Noise(), network(0.4)), data()),
         r"with all of its dropouts off .* as 0 \(a Noise\) draws random numbers"),
        (lambda: masks_by_weights(nn.Sequential(nn.Linear(6, 3), nn.Dropout()), data()), "no activation modules, and its forward pass"),
        (lambda: masks_by_weights(TWO["b"], data()[0]), "there is no loss: give loss_fn="),
        (lambda: masks_by_weights(TWO["b"], data(), lambda out, y: out - y[:, None]), "must return one floating-point"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_where_both_have_dropouts_the_condition_is_named():
    models = {"a": network(0.2, 1), "b": network(0.4, 1)}
    found = masks_by_weights(models, data(), masks=3, dropout="a")
    assert (found.baseline, found.dropout) == ("b", "a")
    assert all((layer.weights, layer.interaction) == (0.0, 0.0) for layer in found.layers)
    assert masks_by_weights({"a": network(0.4, 1), "b": network(0.4, 2)}, data(), masks=2).dropout == "b"


def test_a_gradient_that_is_not_finite_is_missing_and_says_so():
    flow = masks_by_weights(network(0.4), data(), lambda out, y: F.cross_entropy(out, y) * float("nan"), masks=2)
    assert {value.why for value in flow.values()} == {"the gradient of its net values is not finite"}
    assert {value.value for value in flow.values()} == {None}
