"""The ensemble of masks against all masks gone through with numpy."""

from __future__ import annotations

import gc
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.measure import ensemble
from dropdiag.measure.averages.mixtures import Scores
from tests.measure.test_no_trace import KINDS, data
from tests.measure.traces import recorded_beside

RATE = 0.3
TARGETS = torch.arange(10) % 4


def inputs():
    return torch.randn(10, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def straight():
    """Eight dropped inputs of the last layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(RATE), nn.Linear(8, 4)).double()
    with torch.no_grad():
        model[3].weight *= 4
    return model


def bent():
    """Five dropped units with a tanh behind them, and five more behind that."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(5, 5), nn.Tanh(), nn.Dropout(RATE), nn.Linear(5, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 4)
    ).double()
    with torch.no_grad():
        model[3].weight *= 6
        model[6].weight *= 4
    return model


def by_hand(model, on=(True, True)):
    """Log-probabilities under every mask and the masks' probabilities, in numpy."""
    layers = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in model if isinstance(m, nn.Linear)]
    rates = [m.p if now else 0.0 for m, now in zip([m for m in model if isinstance(m, nn.Dropout)], on, strict=False)]
    sizes = [len(b) for _, b in layers[:-1]]
    found, weights = [], []
    for bits in itertools.product((0, 1), repeat=sum(n for n, rate in zip(sizes, rates, strict=True) if rate)):
        h, at, weight = inputs().numpy(), 0, 1.0
        for (w, b), rate in zip(layers[:-1], rates, strict=True):
            h = np.tanh(h @ w.T + b)
            if rate:
                mask = np.array(bits[at : at + len(b)])
                at += len(b)
                h = h * mask / (1 - rate)
                weight *= np.prod(np.where(mask, 1 - rate, rate))
        found.append(log_softmax(h @ layers[-1][0].T + layers[-1][1], axis=1))
        weights.append(weight)
    return np.array(found), np.array(weights)


def without_masks(model):
    with torch.no_grad():
        return model.eval()(inputs()).log_softmax(1).numpy()


def kl(p, q):
    return (np.exp(p) * (p - q)).sum(1).mean()


def nll(p):
    return -p[np.arange(10), TARGETS.numpy()].mean()


def test_of_dropped_inputs_of_the_last_layer_weight_scaling_is_the_geometric_mean():
    model = straight()
    found = ensemble(model, inputs(), TARGETS, masks="all")
    logs, weights = by_hand(model)
    assert (found.masks, found.exact, len(weights)) == (256, True, 256)
    assert weights.sum() == pytest.approx(1, abs=1e-13)
    geometric = log_softmax(np.einsum("m,mij->ij", weights, logs), axis=1)
    held = found.predictions
    np.testing.assert_allclose(held.geometric, geometric, rtol=0, atol=1e-12)
    np.testing.assert_allclose(held.geometric, held.weight_scaled, rtol=0, atol=1e-12)
    np.testing.assert_allclose(held.weight_scaled, without_masks(model), rtol=0, atol=1e-12)
    assert abs(held.kl_geometric) < 1e-12
    assert held.kl_arithmetic > 1e-3  # and it is no trivial ensemble


@pytest.mark.parametrize("make", [straight, bent])
def test_all_numbers_are_those_of_going_through_all_masks(make):
    model = make()
    found = ensemble(model, inputs(), TARGETS, masks="all")
    logs, weights = by_hand(model)
    scaled = without_masks(model)
    means = {
        "weight_scaled": scaled,
        "geometric": log_softmax(np.einsum("m,mij->ij", weights, logs), axis=1),
        "arithmetic": logsumexp(logs, axis=0, b=weights[:, None, None]),
    }
    for name, expected in means.items():
        np.testing.assert_allclose(getattr(found.predictions, name), expected, rtol=0, atol=1e-12)
    entropy = -(np.exp(means["arithmetic"]) * means["arithmetic"]).sum(1).mean()
    inside = -np.einsum("m,mij,mij->i", weights, np.exp(logs), logs).mean()
    table = found.table.set_index(["quantity", "layer"])["value"]
    expected = {
        "ensemble_kl_geometric": kl(means["geometric"], scaled),
        "ensemble_kl_arithmetic": kl(means["arithmetic"], scaled),
        "predictive_entropy": entropy,
        "mutual_information": entropy - inside,
        **{f"nll_{name}": nll(p) for name, p in means.items()},
        **{f"accuracy_{name}": (p.argmax(1) == TARGETS.numpy()).mean() for name, p in means.items()},
        "regulariser": weights @ [nll(p) for p in logs] - nll(scaled),
    }
    for quantity, value in expected.items():
        assert table[quantity, np.nan] == pytest.approx(value, abs=1e-12), quantity
    if make is bent:
        assert table["ensemble_kl_geometric", np.nan] > 1e-3  # what the nonlinearity makes of it is reproduced
        for name, on in (("2", (True, False)), ("5", (False, True))):
            logs, weights = by_hand(model, on)
            assert table["regulariser", name] == pytest.approx(
                weights @ [nll(p) for p in logs] - nll(scaled), abs=1e-12
            )
        assert abs(table["regulariser", "2"] + table["regulariser", "5"] - table["regulariser", np.nan]) > 1e-4


def test_drawn_masks_come_to_the_exact_numbers():
    model, exact = bent(), ensemble(bent(), inputs(), TARGETS, masks="all")
    found = [ensemble(model, inputs(), TARGETS, masks=8, seed=seed) for seed in range(60)]
    for place, name in enumerate((None, "2", "5")):
        values = np.array([one.regularisers[place].value for one in found])
        errors = np.array([one.regularisers[place].se for one in found])
        assert {one.regularisers[place].dropout for one in found} == {name}
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.4)
        assert abs(values.mean() - exact.regularisers[place].value) < 4 * values.std(ddof=1) / 60**0.5
    for kind in ("geometric", "arithmetic"):
        drawn = np.array([getattr(one.predictions, f"kl_{kind}") for one in found])
        corrected = drawn - [getattr(one.predictions, f"bias_{kind}") for one in found]
        truth, error = getattr(exact.predictions, f"kl_{kind}"), corrected.std(ddof=1) / 60**0.5
        assert abs(corrected.mean() - truth) < 4 * error
        assert drawn.mean() - truth > 4 * drawn.std(ddof=1) / 60**0.5  # few masks make it too large


def test_the_cost_is_a_pass_without_masks_and_one_a_mask_for_all_and_for_each():
    one = ensemble(straight(), inputs(), TARGETS, masks=5)
    together, alone = one.regularisers
    assert (together.value, together.se) == (alone.value, alone.se)  # of one dropout the same, and not measured twice
    assert str(one.cost) == "6 forward and 0 backward passes"
    assert str(ensemble(bent(), inputs(), TARGETS, masks=5).cost) == "16 forward and 0 backward passes"
    few = ensemble(bent(), inputs(), TARGETS, masks=5, by_site=False)
    assert (str(few.cost), len(few.regularisers)) == ("6 forward and 0 backward passes", 1)
    assert ensemble(bent(), inputs(), masks=5).regularisers == ()


def test_a_dropout_that_is_never_called_has_no_regulariser():
    class Spare(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.spare = net, nn.Dropout(0.5)

        def forward(self, x):
            return self.net(x)

    found = ensemble(Spare(straight()), inputs(), TARGETS, masks=4)
    assert [(one.dropout, one.value is None) for one in found.regularisers] == [
        (None, False), ("net.2", False), ("spare", True)
    ]  # fmt: skip
    assert (
        found.table.set_index(["quantity", "layer"]).loc[("regulariser", "spare"), "why"]
        == "no pass called this dropout"
    )
    with pytest.raises(ArgumentError, match="no dropout was called in a pass"):
        ensemble(Spare(nn.Linear(5, 4).double()), inputs(), TARGETS, masks=4)


def calibration_error(p, y):
    """Expected calibration error, bin by bin."""
    confidence, right = p.max(1), p.argmax(1) == y
    total = 0.0
    for low, high in itertools.pairwise(np.linspace(0, 1, 16)):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_scores_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    logs, y = log_softmax(rng.normal(0, 2, (500, 6)), axis=1), rng.integers(0, 6, 500)
    found = Scores.of(torch.from_numpy(logs), torch.from_numpy(y))
    assert found.nll == pytest.approx(-logs[np.arange(500), y].mean())
    assert found.accuracy == (logs.argmax(1) == y).mean()
    assert found.calibration_error == pytest.approx(calibration_error(np.exp(logs), y), abs=1e-12)
    sure = torch.tensor([[0.0, -torch.inf]], dtype=torch.float64)
    assert Scores.of(sure, torch.tensor([0])) == Scores(0.0, 1.0, 0.0)


class Wrapped(nn.Module):
    """Gives its logits as an attribute or entry, for each token, or in the second dimension."""

    def __init__(self, form):
        super().__init__()
        self.inner, self.form = straight(), form

    def forward(self, x):
        y = self.inner(x.reshape(-1, 5))
        return {"dict": lambda: {"logits": y}, "object": lambda: SimpleNamespace(logits=y), "pair": lambda: (y, x),
                "tokens": lambda: y.view(5, 2, 4), "channels": lambda: y.view(5, 2, 4).movedim(-1, 1)}[self.form]()  # fmt: skip


@pytest.mark.parametrize("form", ["dict", "object", "pair", "tokens", "channels"])
def test_logits_are_found_where_they_are(form):
    options, targets = {}, TARGETS
    if form == "pair":
        options = {"output": lambda pair: pair[0], "loss_fn": lambda pair, y: F.cross_entropy(pair[0], y)}
    if form in ("tokens", "channels"):
        options, targets = {"loss_fn": lambda out: out.sum()}, TARGETS.view(5, 2)
    # targets are of five samples of two tokens then, and so is the batch
    x = inputs().view(5, 2, 5) if form in ("tokens", "channels") else inputs()
    found = ensemble(Wrapped(form), x, targets, masks=4, **options)
    with torch.no_grad():
        expected = straight().eval()(inputs()).log_softmax(-1)
    np.testing.assert_allclose(found.predictions.weight_scaled, expected, rtol=0, atol=1e-12)
    assert found.predictions.scores["weight_scaled"] == Scores.of(expected, TARGETS)


def test_memory_does_not_grow_with_the_masks():
    model, counted = straight(), []

    def loss(output, targets):
        counted.append(sum(type(item) is torch.Tensor and item.shape == (10, 4) for item in gc.get_objects()))
        return F.cross_entropy(output, targets)

    ensemble(model, inputs(), TARGETS, masks=8, loss_fn=loss)
    assert len(set(counted[4:])) == 1


def test_targets_that_are_no_classes_leave_the_regulariser_alone(tmp_path):
    model, x = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, 1)).double(), inputs()
    y = x.sum(1, keepdim=True)
    with dd.Recorder(model, tmp_path / "run") as rec:
        with rec.evaluation():
            model.eval()(x)
        found = rec.measure("ensemble", x, y, masks=50, loss_fn=F.mse_loss)
    table = found.table.set_index("quantity")
    assert table.loc["ensemble_kl_geometric", "why"].startswith("the targets are no class numbers")
    with torch.no_grad():
        h, w = model[:2](x), model[3].weight
    exact = 0.4 / 0.6 * (h**2 @ (w**2).T).mean().item()  # of a squared error the regulariser has a closed form
    one = found.regularisers[0]
    assert abs(one.value - exact) < 4 * one.se
    rows = dd.load(tmp_path / "run").scalars
    rows = rows[rows["phase"] == "ensemble"].set_index(["quantity", "layer"])["value"]
    assert rows["regulariser", "2"] == one.value
    assert np.isnan(rows["mutual_information"]).all()


@pytest.mark.parametrize("kind", KINDS[:8])
def test_training_goes_on_as_if_nothing_had_been_measured(kind, tmp_path):
    x, y = data()
    run = recorded_beside(kind, tmp_path, lambda rec, _: rec.measure("ensemble", x, y, 2))
    assert set(run.scalars[run.scalars["phase"] == "ensemble"]["step"]) == {1, 2}


class Always(nn.Module):
    def forward(self, x):
        return x * torch.bernoulli(torch.full_like(x, 0.5))


def channels():
    return nn.Sequential(nn.Unflatten(1, (5, 1)), nn.Dropout1d(0.5), nn.Flatten(), nn.Linear(5, 4)).double()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: ensemble(straight(), x, y, masks=0), "masks must be a whole number of at least 2, got 0"),
        (lambda x, y: ensemble(straight(), x, y, masks="every"), "masks must be a number of masks or \"all\", got 'every'"),
        (lambda x, y: ensemble(straight(), x, y, seed=0.5), "seed must be a whole number"),
        (lambda x, _: ensemble(nn.Sequential(straight(), nn.Linear(4, 16).double(), nn.Unflatten(1, (4, 4))), x,
                               torch.zeros(10, 4, dtype=torch.long)), "second dimension of the output or by the last"),
        (lambda x, y: ensemble(straight(), x, y[:4]), r"targets of shape \(4,\) do not fit a batch"),
        (lambda x, y: ensemble(straight(), x, y + 2), "targets are class numbers from 0 to 3 here"),
        (lambda x, y: ensemble(straight(), x.to("meta"), y), "batch is on meta and the model on cpu"),
        (lambda x, y: ensemble(straight(), x, y, loss_fn=lambda out, y: out), "must return one floating-point number"),
        (lambda x, y: ensemble(nn.Linear(5, 4).double(), x, y), "no dropout with a rate above 0"),
        (lambda x, y: ensemble(nn.Sequential(Always(), straight()), x, y), r"as 0 \(a Always\) draws random numbers"),
        (lambda x, _: ensemble(nn.Sequential(straight(), nn.Linear(4, 1).double()), x), "no logits of two classes or more"),
        (lambda x, _: ensemble(nn.Sequential(straight(), nn.Unflatten(1, (2, 2))), x),
         r"which dimension of the output of shape \(10, 2, 2\) counts classes cannot be told"),
        (lambda x, y: ensemble(nn.Sequential(nn.Dropout(), nn.Linear(5, 20), nn.Dropout(), nn.Linear(20, 4)).double(), x, y,
                               masks="all"), r'masks="all" would be 2\^25 masks, of 25 units \(0 5, 2 20\)'),
        (lambda x, y: ensemble(channels(), x, y, masks="all"), r"1 is a Dropout1d \(rate 0.5\): give a number of masks"),
        (lambda x, _: ensemble(nn.Sequential(straight(), nn.Flatten(0), nn.Dropout(), nn.Unflatten(0, (10, 4))), x,
                               masks="all"), r"the input of 2, of shape \(40,\), does not begin with the 10 samples"),
        (lambda x, _: ensemble(Wrapped("pair"), x), "the model gives a tuple without logits: give output= a function"),
        (lambda x, _: ensemble(straight(), x, output=lambda out: None), r"output= returned a NoneType without logits"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(inputs(), TARGETS)


def test_a_pair_is_inputs_and_targets_unless_the_model_takes_two_arguments():
    x = inputs()
    assert ensemble(straight(), (x, TARGETS), masks=4).predictions.scores == (
        ensemble(straight(), x, TARGETS, masks=4).predictions.scores
    )
    twice = nn.Sequential(straight())
    twice.forward = lambda x, numbers: twice[0](x) + numbers[:, None]
    assert not ensemble(twice, (x, TARGETS), masks=4).predictions.scores


def test_cases_that_the_loss_leaves_out_are_not_scored():
    x, model = inputs(), bent()
    marked = torch.where(TARGETS == 0, -100, TARGETS)
    found = ensemble(model, x, TARGETS, masks=4, loss_fn=nn.CrossEntropyLoss(ignore_index=0))
    assert found.predictions.scores == ensemble(model, x, marked, masks=4).predictions.scores
    assert found.predictions.scores["weight_scaled"].nll == pytest.approx(
        float(F.cross_entropy(model.eval()(x).detach(), TARGETS, ignore_index=0)), rel=1e-12
    )


def test_what_is_never_below_0_is_not_for_rounding():
    model, found = straight(), []
    with torch.no_grad():
        model[-1].weight.mul_(1e-9)
    for seed in range(20):
        values = ensemble(model, inputs()[:1], masks=2, seed=seed).values()
        found += [v.value for v in values if v.quantity in ("ensemble_kl_geometric", "mutual_information")]
    assert len(found) == 40
    assert min(found) >= 0
