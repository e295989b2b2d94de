"""Interaction of ablated nodes: networks in which it is known, plain torch and scipy, and that it leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.measure.ablation import ablation
from dropdiag.measure.passes.state.random_states import derived
from tests.measure.test_no_trace import KINDS, data
from tests.measure.traces import check_training_goes_on, recorded_beside


def signs(n, m):
    """A full factorial of m signs, over and over: their columns are orthogonal, and so are those of their products."""
    table = torch.tensor([[1.0 if row >> j & 1 else -1.0 for j in range(m)] for row in range(2**m)])
    return table.repeat(n // 2**m, 1).double()


class Nodes(nn.Module):
    """Node values that are the input itself, and any function of them."""

    def __init__(self, function):
        super().__init__()
        self.act, self.function = nn.LeakyReLU(1.0), function

    def forward(self, x):
        return self.function(self.act(x))


def one_pair(function, x, loss_fn):
    layer = ablation(Nodes(function), x, loss_fn, groups=2, permutations=2, shares=()).layers[0]
    assert layer.null == pytest.approx(layer.interaction)  # two nodes can be grouped in one way only
    assert layer.p == 1.0
    return layer.interaction


def test_effects_that_add_up_do_not_interact():
    x = signs(64, 4)
    weights = torch.tensor([1.0, 2.0, -3.0, 0.5]).double()
    # of orthogonal nodes also a quadratic loss is a sum of effects
    for loss_fn in (lambda h: (x @ weights - h).square().mean(), lambda h: (h * x[:, 0]).mean()):
        for groups in (2, 4):
            found = ablation(Nodes(lambda h: h @ weights), x, loss_fn, groups=groups, permutations=4, shares=())
            assert found.layers[0].interaction == pytest.approx(0.0, abs=1e-12)
            assert found.layers[0].null == pytest.approx(0.0, abs=1e-12)


def test_nodes_that_are_of_use_only_together_have_an_interaction_of_minus_a_half():
    x = signs(16, 2)
    target = x[:, 0] * x[:, 1]
    # without either node, or both, the product is 0: d_A = d_B = d_AB
    assert one_pair(lambda h: h[:, 0] * h[:, 1], x, lambda out: (out - target).square().mean()) == pytest.approx(-0.5)


@pytest.mark.parametrize("strength", [0.6, 0.75, 0.9])
def test_nodes_that_stand_in_for_each_other_have_an_interaction_above_zero(strength):
    x = signs(16, 1).expand(-1, 2).contiguous()

    def out(h):
        return (strength * h.sum(1)).clamp(-1, 1)

    # without one node the output is `strength`, without both 0, where 1 is wanted
    alone, both = 1 - strength, 1.0
    expected = (both - 2 * alone) / (2 * alone)
    assert one_pair(out, x, lambda o: -(o * x[:, 0]).mean()) == pytest.approx(expected)
    assert expected > 0


def test_a_quadratic_loss_has_the_interaction_of_its_covariance():
    torch.manual_seed(0)
    x = torch.randn(50, 2).double() @ torch.tensor([[1.0, 0.6], [0.0, 0.8]]).double()
    w, y = torch.tensor([1.0, -0.7]).double(), torch.randn(50).double()
    parts = (w * (x - x.mean(0))).numpy()
    residual = (x @ w - y).numpy()
    alone = [(-2 * residual * parts[:, j] + parts[:, j] ** 2).mean() for j in range(2)]
    expected = 2 * (parts[:, 0] * parts[:, 1]).mean() / np.abs(alone).sum()
    assert one_pair(lambda h: h @ w, x, lambda out: (out - y).square().mean()) == pytest.approx(expected)


def test_copies_interact_and_nodes_drawn_by_lot_do_not():
    pairs = 8
    x = signs(256, pairs).repeat_interleave(2, 1)[
        :, torch.randperm(2 * pairs, generator=torch.Generator().manual_seed(1))
    ]

    def out(h):  # every signal is held by two nodes, of which 0.75 alone would do
        sums = torch.stack([h[:, (x[:, [i]] == x).all(0)].sum(1) for i in range(2 * pairs)], 1)
        return (0.75 * sums).clamp(-1, 1)

    layer = ablation(Nodes(out), x, lambda o: -(o * x).mean(), groups=2 * pairs, permutations=60, shares=()).layers[0]
    assert layer.interaction == pytest.approx(1.0)
    # two of 2P nodes are copies in one of 2P - 1 cases
    expected = 1 / (2 * pairs - 1)
    assert abs(layer.null - expected) < 5 * layer.null_sd / np.sqrt(60)
    assert layer.p == 1 / 61


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 13), nn.Tanh(), nn.Dropout(0.5), nn.Linear(13, 9), nn.ReLU(), nn.Linear(9, 3))


def larger(n=40):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, 6, generator=generator).double(), torch.randint(3, (n,), generator=generator)


def by_hand(model, x, y, place, nodes):
    """Loss and accuracy without some nodes of a layer of a Sequential."""
    with torch.no_grad():
        h = model[: place + 1](x).clone()
        h[:, nodes] = h[:, nodes].mean(0)
        out = model[place + 1 :](h)
    return F.cross_entropy(out, y).item(), (out.argmax(1) == y).double().mean().item()


def ratio(model, x, y, place, order, groups):
    clean = by_hand(model, x, y, place, [])[0]
    rises = lambda nodes: by_hand(model, x, y, place, list(nodes))[0] - clean  # noqa: E731
    above = below = 0.0
    for block in np.array_split(order, groups // 2):
        a, b = list(block[::2]), list(block[1::2])
        above += rises(a + b) - rises(a) - rises(b)
        below += abs(rises(a)) + abs(rises(b))
    return above / below


def test_interactions_and_curves_are_those_of_a_plain_loop():
    model, (x, y) = network().double(), larger()
    found = ablation(model, x, targets=y, groups=4, permutations=3, shares=(0, 0.3, 1), orders=3, seed=5)
    model.eval()
    for layer, place in zip(found.layers, (1, 4), strict=True):
        with torch.no_grad(), np.errstate(invalid="ignore"):
            r = np.nan_to_num(np.corrcoef(model[: place + 1](x).numpy().T))
        upper = np.triu_indices(len(r), 1)
        order = leaves_list(linkage(1 - np.abs(r[upper]), "average"))
        generator = np.random.default_rng(derived(5, str(place), 0))
        assert layer.interaction == pytest.approx(ratio(model, x, y, place, order, 4), rel=1e-9)
        null = [ratio(model, x, y, place, generator.permutation(len(r)), 4) for _ in range(3)]
        assert (layer.null, layer.null_sd) == pytest.approx((np.mean(null), np.std(null, ddof=1)), rel=1e-9)
        rows = []
        for _ in range(3):
            nodes = generator.permutation(len(r))
            rows.append([by_hand(model, x, y, place, nodes[: round(s * len(r))].tolist()) for s in (0, 0.3, 1)])
        table = np.array(rows)
        np.testing.assert_allclose(layer.loss, table[..., 0].mean(0), rtol=1e-12)
        np.testing.assert_allclose(layer.accuracy, table[..., 1].mean(0), rtol=1e-12)
        np.testing.assert_allclose(layer.loss_se, table[..., 0].std(0, ddof=1) / np.sqrt(3), rtol=1e-9, atol=1e-15)
    # one pass before; at each layer 4 + 2 for each grouping, 3 for the one share between, one for all nodes;
    # small groups may be drawn twice, and are ablated once
    assert 50 < found.cost.forward <= 1 + 2 * (6 * 4 + 3 + 1)
    assert found.cost.backward == 0


def test_the_default_cost_is_what_the_documentation_says():
    model, (x, y) = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 3)), larger()
    assert ablation(model.double(), x, targets=y).cost.forward == 1 + 577


class Images(nn.Module):
    """Convolutions, an activation in place whose output nobody reads, one module called twice, tokens, a gated unit."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.norm = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4)
        self.tokens, self.gelu = nn.Linear(4, 6), nn.GELU()
        self.both, self.glu, self.last = nn.Linear(6, 10), nn.GLU(), nn.Linear(5, 3)

    def forward(self, x, without=None):
        h = self.norm(self.conv(x))
        self.act(h)
        h = self.replaced("act0", h, 1, without)
        h = self.replaced("act1", F.relu(h - 0.1), 1, without) if without else self.act(h - 0.1)
        h = self.replaced("gelu", self.gelu(self.tokens(h.flatten(2).transpose(1, 2))), 2, without)
        return self.last(self.replaced("glu", self.glu(self.both(h)), 2, without)).mean(1)

    def replaced(self, name, h, dim, without):
        if not without or without[0] != name:
            return h
        h = h.movedim(dim, -1).clone()
        h[..., without[1]] = h[..., without[1]].flatten(0, -2).mean(0)
        return h.movedim(-1, dim)


def test_channels_tokens_calls_and_gates_are_ablated_as_nodes():
    torch.manual_seed(0)
    model = Images().double()
    x, y = torch.randn(12, 1, 7, 7).double(), torch.randint(3, (12,))
    found = ablation(model, x, targets=y, groups=2, permutations=2, shares=(0.5, 1), orders=2, seed=1)
    assert [(one.layer, one.call, one.nodes) for one in found.layers] == [
        ("act", 0, 4), ("act", 1, 4), ("gelu", 0, 6), ("glu", 0, 5)
    ]  # fmt: skip
    model.eval()
    for layer, name in zip(found.layers, ("act0", "act1", "gelu", "glu"), strict=True):
        generator = np.random.default_rng(derived(1, layer.layer, layer.call))
        for _ in range(2):
            generator.permutation(layer.nodes)
        every, some = np.arange(layer.nodes), round(layer.nodes / 2)
        orders = [generator.permutation(layer.nodes) for _ in range(2)]
        half = [loss_without(model, x, y, name, order[:some]) for order in orders]
        assert layer.loss == pytest.approx((np.mean(half), loss_without(model, x, y, name, every)), rel=1e-12)


def loss_without(model, x, y, name, nodes):
    with torch.no_grad():
        return F.cross_entropy(model(x, (name, nodes.tolist())), y).item()


def test_layers_are_measured_alike_whichever_are_chosen_and_seeds_count():
    model, (x, y) = network().double(), larger()
    options = {"targets": y, "groups": 4, "permutations": 3, "shares": (0.5,), "orders": 2}
    both, one = ablation(model, x, **options), ablation(model, x, include="4", **options)
    assert one.layers == both.layers[1:]
    other = ablation(model, x, seed=1, **options)
    assert other.layers[0].interaction == both.layers[0].interaction
    assert other.layers[0].null != both.layers[0].null


class Called(nn.Module):
    def __init__(self, functional):
        super().__init__()
        self.first, self.last, self.functional = nn.Linear(6, 6), nn.Linear(6, 3), functional
        self.act, self.relu, self.sigmoid = nn.Tanh(), nn.ReLU(inplace=True), nn.Sigmoid()

    def forward(self, x):
        if self.functional:
            return self.last(self.act(F.relu(self.first(x), inplace=True).sigmoid()))
        return self.last(self.act(self.sigmoid(self.relu(self.first(x)))))


def test_functions_are_ablated_as_modules_are():
    x, y = larger()
    options = {"targets": y, "groups": 4, "permutations": 2, "shares": (0, 1)}
    torch.manual_seed(0)
    model = Called(functional=True).double()
    functional = ablation(model, x, **options)
    model.functional = False
    modules = ablation(model, x, **options)
    assert [one.layer for one in functional.layers[:3]] == ["first:relu", "first:sigmoid", "act"]
    for one, other in zip(functional.layers, ("relu", "sigmoid", "act"), strict=False):
        same = next(layer for layer in modules.layers if layer.layer == other)
        assert (one.interaction, one.loss) == (same.interaction, same.loss)


def test_what_is_missing_says_why():
    x = larger()[0]

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.one, self.idle, self.never = nn.Tanh(), nn.Sigmoid(), nn.Sigmoid(), nn.Tanh()
            self.inner, self.last = nn.Linear(6, 1), nn.Linear(6, 3)

        def forward(self, x):
            self.idle(x)
            return self.last(self.act(x)) + self.one(self.inner(x))

    found = ablation(Odd().double(), x, lambda out: out.square().mean(), groups=4, shares=(0.5,))
    why = {one.layer: one.why for one in found.layers}
    assert why == {
        "act": None,
        "one": "one node has no partner",
        "idle": "no group of nodes alone changes the loss by more than rounding",
        "never": "the activation was not called, or gave no floating-point tensor",
    }
    assert found.no_accuracy == "targets are no class numbers"
    rows = found.table.set_index(["quantity", "layer"])
    assert np.isnan(rows.loc[("ablated_accuracy@0.5", "act"), "value"])
    assert rows.loc[("ablated_accuracy@0.5", "act"), "why"] == "targets are no class numbers"
    assert np.isnan(rows.loc[("ablation_interaction", "one"), "value"])
    assert "missing: one node has no partner" in str(found)
    diverged = ablation(network().double(), x, lambda out: out.sum() * torch.inf, shares=())
    assert [one.why for one in diverged.layers] == ["the loss is not finite"] * 2


def test_of_very_many_nodes_there_is_a_curve_alone(monkeypatch):
    monkeypatch.setattr("dropdiag.measure.ablating.ablated_passes.MOST_NODES", 12)
    x, y = larger()
    wide, narrow = ablation(network().double(), x, targets=y, groups=2, permutations=2, shares=(0.5,), orders=2).layers
    assert (wide.nodes, wide.interaction, wide.why) == (13, None, "partners are found among 8,192 nodes at most")
    assert len(wide.loss) == 1
    assert narrow.interaction is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 3}, "groups must be an even number, as groups are paired; got 3"),
        ({"groups": 0}, "groups must be a whole number of at least 2"),
        ({"permutations": 1}, "permutations must be a whole number of at least 2"),
        ({"orders": 1}, "orders must be a whole number of at least 2"),
        ({"shares": (0.5, 0.2)}, "shares must rise from 0 to 1 at most"),
        ({"shares": (0.5, 1.5)}, "shares must rise from 0 to 1 at most"),
        ({"shares": 0.5}, "shares must be a sequence of numbers .* got 0.5"),
        ({"shares": ("a",)}, "shares must be a sequence of numbers .* got "),
        ({"targets": None}, "there is no loss"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"targets": torch.zeros(3, dtype=torch.long)}, "do not fit a batch"),
        ({"include": "nothing"}, "nothing"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(options, message):
    model, (x, y) = network().double(), larger()
    model.register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
    with pytest.raises(ArgumentError, match=message):
        ablation(model, x, **{"targets": y, **options})


def test_a_model_without_activation_modules_is_refused():
    with pytest.raises(ArgumentError, match="no activation modules, and its forward pass calls no"):
        ablation(nn.Linear(6, 3).double(), larger()[0], targets=larger()[1])


FEW = {"groups": 2, "permutations": 2, "shares": (0.5,), "orders": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_what_it_was_and_training_goes_on(kind):
    x, y = data()

    def measure(model):
        assert len(ablation(model, x, targets=y, **FEW).layers) == 3  # calls of one module

    check_training_goes_on(kind, measure)


def test_it_is_the_same_by_a_recorder_which_sees_nothing_of_it(tmp_path):
    (x, y), expected = data(), []

    def measure(rec, model):
        expected.append(ablation(model, x, targets=y, **FEW))
        assert rec.measure("ablation", x, targets=y, **FEW) == expected[-1]

    rows = recorded_beside(lambda: nn.Dropout(0.4), tmp_path, measure).scalars
    rows = rows[(rows["phase"] == "ablation") & rows["quantity"].str.startswith("ablat")]
    keys = ["quantity", "layer", "call"]
    assert sorted(set(rows["step"])) == [1, 2]
    for step, found in enumerate(expected, 1):
        written = rows[rows["step"] == step].set_index(keys)["value"]
        assert written.sort_index().to_dict() == found.table.set_index(keys)["value"].sort_index().to_dict()


def test_classes_that_two_dimensions_may_count_give_no_accuracy():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 16), nn.Unflatten(1, (4, 4)))
    y = torch.randint(0, 4, (10, 4))
    found = ablation(model, torch.randn(10, 6), nn.CrossEntropyLoss(), y, shares=(0.0,), permutations=2, orders=2)
    assert "second dimension of the output or by the last" in found.no_accuracy


def test_layers_named_in_the_call_come_before_those_of_the_recorder(tmp_path):
    model, (x, y) = network().double(), larger()
    options = {"targets": y, "shares": (), "permutations": 2}
    with dd.Recorder(model, tmp_path / "run", include="1") as recorder:
        chosen = recorder.measure("ablation", x, **options)
        named = recorder.measure("ablation", x, phase="named", include="*", **options)
        F.cross_entropy(model(x), y).backward()
        recorder.step()
    assert [one.layer for one in chosen.layers] == ["1"]
    assert len(named.layers) > 1
