"""What is recorded of dropouts: held against the masks themselves, which the networks here keep, and against numpy."""

import math
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from dropdiag.model.sites import FUSED
from dropdiag.sketches import dropout as sketches
from tests.zoo import from_timm  # noqa: F401 - makes torchvision importable, which timm imports

from timm.layers import DropBlock2d, DropPath, PatchDropout, drop_path  # isort: skip
from torchvision.ops import StochasticDepth, stochastic_depth  # isort: skip

ALPHA = 1.7580993408473766  # of Klambauer et al. 2017: lambda times alpha

# Networks here are not trained, or are a dropout alone: neither is what they test.
pytestmark = [
    pytest.mark.filterwarnings("ignore:rec.step"),
    pytest.mark.filterwarnings("ignore:no activation function is known"),
]


class Keeps(nn.Module):
    """Applies a dropout, a module or a function of (self, x), and keeps what goes in and what comes out."""

    def __init__(self, drop, width=6):
        super().__init__()
        self.drop = drop
        self.scale = nn.Parameter(torch.ones(1, width))
        self.before, self.after = [], []

    def forward(self, x):
        self.before.append(x.detach().clone().numpy())
        x = self.drop(x) if isinstance(self.drop, nn.Module) else self.drop(self, x)
        self.after.append(x.detach().clone().numpy())
        return x * self.scale[0, 0]


class LockedDropout(nn.Module):
    """AWD-LSTM's: one mask for all steps of a sequence, whose first dimension counts them."""

    def __init__(self, dropout):
        super().__init__()
        self.dropout = dropout

    def forward(self, x):
        mask = x.new_empty(1, x.size(1), x.size(2)).bernoulli_(1 - self.dropout) / (1 - self.dropout)
        return x * mask


class WordDropout(nn.Module):
    """Replaces numbers of words by that of the unknown word."""

    def __init__(self, p, unknown=3):
        super().__init__()
        self.p, self.unknown = p, unknown

    def forward(self, ids):
        return ids.masked_fill(torch.rand(ids.shape) < self.p, self.unknown) if self.training else ids


def record(model, x, path, steps=1, **options):
    torch.manual_seed(5)
    with dd.Recorder(model, path, every=1, probes=["dropouts", "weights"], strict=True, **options) as rec:
        for _ in range(steps):
            model(x).square().mean().backward()
            rec.step()
        coverage = rec.coverage()
    return dd.load(path), [row for row in coverage if row.kind == "dropout"]


def numbers(run, layer, call=0, step=1):
    rows = run.scalars.query("layer == @layer and call == @call and step == @step")
    return dict(zip(rows["quantity"], rows["value"], strict=True))


def units(dims):
    """Return a reader of shares for masks whose units the first dimensions number."""

    def share(before, after, replacement=0.0, replaced=0.0):
        live, gone = before != replacement, after == replaced
        rest = tuple(range(dims, before.ndim))
        live, gone = live.any(rest), gone.all(rest)
        return (live & gone).sum() / live.sum()

    return share


def alpha(dims):
    def share(before, after):
        # A dropped unit reads alpha' a + b; nothing that was kept can be less (SELU ends at alpha').
        return units(dims)(before, after, np.float32(-ALPHA), after.min())

    return share


def locked(before, after):
    return units(2)(before.transpose(1, 2, 0), after.transpose(1, 2, 0))


def fewer_tokens(before, after):
    return 1 - (after.shape[1] - 1) / (before.shape[1] - 1)  # the first, of the class, is always kept


def words(before, after):
    return (before != after).sum() / (before != 3).sum()


IMAGES = torch.randn(64, 6, 5, 5, generator=torch.Generator().manual_seed(1)).relu()
IMAGES[:3] = 0.0  # samples that are zero already
IMAGES[3:9, :2] = 0.0  # channels
VOLUMES = torch.randn(40, 6, 3, 3, 3, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(30, 17, 6, generator=torch.Generator().manual_seed(1)).relu()
ROWS = torch.randn(500, 6, generator=torch.Generator().manual_seed(1)).relu()
SELU = F.selu(8 * torch.randn(64, 6, 5, 5, generator=torch.Generator().manual_seed(1)) - 4)

CASES = {
    "dropout": (nn.Dropout(0.3), ROWS, 0.3, "element", units(2)),
    "in place": (nn.Dropout(0.3, inplace=True), ROWS, 0.3, "element", units(2)),
    "of one sample": (nn.Dropout(0.3), ROWS.flatten(), 0.3, "element", units(1)),
    "dropout1d": (nn.Dropout1d(0.3), TOKENS, 0.3, "channel", units(2)),
    "dropout1d without batch": (nn.Dropout1d(0.3), TOKENS[0], 0.3, "channel", units(1)),
    "dropout2d": (nn.Dropout2d(0.3), IMAGES, 0.3, "channel", units(2)),
    "dropout3d": (nn.Dropout3d(0.3), VOLUMES, 0.3, "channel", units(2)),
    "alpha": (nn.AlphaDropout(0.3), SELU, 0.3, "element", alpha(4)),
    "feature alpha": (nn.FeatureAlphaDropout(0.3), SELU, 0.3, "channel", alpha(2)),
    "drop path": (DropPath(0.3), IMAGES, 0.3, "sample", units(1)),
    "stochastic depth": (StochasticDepth(0.3, "row"), IMAGES, 0.3, "sample", units(1)),
    "of the batch": (StochasticDepth(0.7, "batch"), IMAGES, 0.7, "sample", units(0)),
    "drop block": (DropBlock2d(0.3, 3), IMAGES, 0.3, "block", units(4)),
    "patches": (PatchDropout(0.3), TOKENS, 0.3, "token", fewer_tokens),
    "locked": (LockedDropout(0.3), TOKENS, 0.3, "channel", locked),
    "single precision": (nn.Dropout(np.float32(0.3)), ROWS, 0.3, "element", units(2)),
    "F.dropout": (lambda s, x: F.dropout(x, 0.3, s.training), ROWS, 0.3, "element", units(2)),
    "F.dropout of a tensor": (lambda s, x: F.dropout(x, torch.tensor(0.3)), ROWS, 0.3, "element", units(2)),
    "torch.dropout": (lambda s, x: torch.dropout(x, p=0.3, train=True), ROWS, 0.3, "element", units(2)),
    "torch.dropout_": (lambda s, x: torch.dropout_(x.clone(), 0.3, True), ROWS, 0.3, "element", units(2)),
    "feature_dropout": (lambda s, x: torch.feature_dropout(x, 0.3, True), IMAGES, 0.3, "channel", units(2)),
    "F.alpha_dropout": (lambda s, x: F.alpha_dropout(x, 0.3, training=True), SELU, 0.3, "element", alpha(4)),
    "feature_alpha": (lambda s, x: torch.feature_alpha_dropout(x, 0.3, True), SELU, 0.3, "channel", alpha(2)),
    "stochastic_depth": (lambda s, x: stochastic_depth(x, 0.3, "row", s.training), IMAGES, 0.3, "sample", units(1)),
    "drop_path": (lambda s, x: drop_path(x, 0.3, s.training), IMAGES, 0.3, "sample", units(1)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_share_is_that_of_the_mask(case, tmp_path):
    drop, x, rate, grain, share = CASES[case]
    model = Keeps(drop)
    run, (row,) = record(model, x.clone(), tmp_path / "run")
    read = numbers(run, row.layer)
    assert read["dropout_rate"] == rate
    assert read["dropped_share"] == pytest.approx(share(model.before[0], model.after[0]), abs=1e-12)
    if case not in ("of the batch", "of one sample", "drop block", "dropout1d without batch"):
        assert read["dropped_share"] == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / len(x)))
    assert (row.fired, row.skipped, row.dropout) == (1, None, f"rate {rate}, grain {grain}")
    (described,) = [layer for layer in run.meta["layers"] if layer["kind"] == "dropout"]
    assert (described["layer"], described["rate"], described["grain"]) == (row.layer, rate, grain)


def test_word_dropout_on_numbers_of_words_counts_those_that_changed(tmp_path):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.keeps, self.embed = Keeps(WordDropout(0.3)), nn.Embedding(9, 6)

        def forward(self, ids):
            self.keeps.before.append(ids.numpy().copy())
            ids = self.keeps.drop(ids)
            self.keeps.after.append(ids.numpy().copy())
            return self.embed(ids)

    model = Words()
    run, (row,) = record(model, torch.randint(9, (60, 17)), tmp_path / "run")
    share = words(model.keeps.before[0], model.keeps.after[0])
    assert numbers(run, "keeps.drop")["dropped_share"] == pytest.approx(share, abs=1e-12)
    assert row.dropout == "rate 0.3, grain token"


@pytest.mark.parametrize(
    "case", ["dropout", "dropout2d", "alpha", "drop path", "locked", "F.dropout", "stochastic_depth"]
)
def test_noise_to_signal_is_what_a_thousand_masks_show(case, tmp_path):
    drop, x, _, _, _ = CASES[case]
    if case == "alpha":
        x = x[:, :, 0, 0].contiguous()
    model = Keeps(drop)
    run, (row,) = record(model, x.clone(), tmp_path / "run")
    torch.manual_seed(2)
    masked = np.stack([(drop(x) if isinstance(drop, nn.Module) else drop(model, x)).numpy() for _ in range(1000)])
    samples = tuple(d for d in range(x.ndim) if d != (1 if x.ndim == 4 else x.ndim - 1))
    noise = masked.astype(np.float64).var(axis=0).mean(samples)
    signal = masked.astype(np.float64).mean(axis=0).var(samples)
    assert numbers(run, row.layer)["dropout_noise_to_signal"] == pytest.approx((noise / signal).mean(), rel=0.05)


def test_nodes_that_do_not_vary_are_left_out_of_the_noise(tmp_path):
    x = torch.cat([ROWS, torch.full((500, 1), 0.1), torch.zeros(500, 1)], 1)
    run, (row,) = record(Keeps(nn.Dropout(0.5)), x, tmp_path / "run")
    h = ROWS.double().numpy()
    expected = ((h**2).mean(0) / h.var(0)).mean()
    assert numbers(run, row.layer)["dropout_noise_to_signal"] == pytest.approx(expected, rel=1e-12)
    constant, (row,) = record(Keeps(nn.Dropout(0.5)), torch.ones(40, 6), tmp_path / "constant")
    assert math.isnan(numbers(constant, row.layer)["dropout_noise_to_signal"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_share_is_given_where_a_dropped_unit_is_not_finite(tmp_path, value):
    x = torch.randn(8, 6)
    x[3] = value  # 0 times this is NaN, which no mask can be told from
    run, (row,) = record(Keeps(nn.Dropout(0.5)), x, tmp_path / "run")
    read = numbers(run, row.layer)
    assert read["dropout_rate"] == 0.5
    assert math.isnan(read["dropped_share"])
    assert math.isnan(read["dropout_noise_to_signal"])


def test_passes_of_a_step_are_pooled_and_rates_follow_their_schedule(tmp_path):
    model = Keeps(nn.Dropout(0.0))
    with dd.Recorder(model, tmp_path / "run", probes="paper", every=2) as rec:
        for step, rate in enumerate([0.0, 0.0, 0.2, 0.2, 0.4, 0.4], start=1):
            model.drop.p = rate
            for part in (ROWS[:100], 3 * ROWS[100:] + 1):
                model(part).sum().backward()
            if step == 6:
                model.drop.p = 0.9  # the next step's, set before step() ends this one
            rec.step()
    run = dd.load(tmp_path / "run")
    rates = run.scalars.query("quantity == 'dropout_rate'").set_index("step")["value"]
    assert rates.to_dict() == {1: 0.0, 2: 0.0, 4: 0.2, 6: 0.4}
    before, after = (np.concatenate(kept[-2:]) for kept in (model.before, model.after))
    read = numbers(run, "drop", step=6)
    assert read["dropped_share"] == pytest.approx(units(2)(before, after), abs=1e-12)
    h = before.astype(np.float64)
    assert read["dropout_noise_to_signal"] == pytest.approx((0.4 / 0.6 * (h**2).mean(0) / h.var(0)).mean(), rel=1e-10)
    assert "dropped_share" not in numbers(run, "drop", step=2)


def test_calls_of_different_rates_are_told_apart_and_those_that_do_not_train_are_no_passes(tmp_path):
    def forward(self, x):
        return F.dropout(F.dropout(F.dropout(x, 0.2, self.training), 0.9, training=False), 0.5)

    run, rows = record(Keeps(forward), ROWS, tmp_path / "run")
    assert [(row.call, row.dropout) for row in rows] == [(0, "rate 0.2, grain element"), (2, "rate 0.5, grain element")]
    assert [numbers(run, rows[0].layer, call)["dropout_rate"] for call in (0, 2)] == [0.2, 0.5]
    assert numbers(run, rows[0].layer, 2)["dropped_share"] == pytest.approx(0.5, abs=0.05)


def test_steps_that_are_not_scheduled_count_nothing(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(sketches.MaskCounter, "__init__", lambda self, *_, **__: made.append(self) or 1 / 0)
    model = Keeps(nn.Dropout(0.3))
    with dd.Recorder(model, tmp_path / "run", every=lambda step: step == 3) as rec:
        for _ in range(2):
            model(ROWS).sum().backward()
            rec.step()
        assert not made
        # Counting fails in the third step, which must not end the training.
        with pytest.warns(DropdiagWarning, match="probe 'dropouts' failed at 'drop'"):
            model(ROWS).sum().backward()
        rec.step()
    assert len(made) == 1


def test_a_rate_that_cannot_be_read_ends_no_training(tmp_path):
    class Broken(nn.Dropout):
        broken = False

        @property
        def p(self):
            return 1 / 0 if self.broken else 0.3

        @p.setter
        def p(self, value):
            pass

        def forward(self, x):
            return x

    model = Keeps(Broken())
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        Broken.broken = True
        with pytest.warns(DropdiagWarning, match="probe 'dropouts' failed at 'drop'"):
            model(ROWS).sum().backward()
        rec.step()
        Broken.broken = False


def test_padding_is_left_out(tmp_path):
    model, real = Keeps(nn.Dropout(0.3)), torch.rand(30, 17) < 0.6
    with dd.Recorder(model, tmp_path / "run", every=1, strict=True) as rec:
        with rec.padding(real):
            model(TOKENS).sum().backward()
        rec.step()
    before, after, kept = model.before[0], model.after[0], real.numpy()
    read = numbers(dd.load(tmp_path / "run"), "drop")
    assert read["dropped_share"] == pytest.approx(units(2)(before[kept], after[kept]), abs=1e-12)
    h = before[kept].astype(np.float64)
    assert read["dropout_noise_to_signal"] == pytest.approx((0.3 / 0.7 * (h**2).mean(0) / h.var(0)).mean(), rel=1e-10)


# Masks that are not between an input and an output -----------------------------------------------------------


class WeightDrop(nn.Module):
    """AWD-LSTM's: a dropout on a layer's weights, drawn anew for each pass."""

    def __init__(self, module, weights, dropout):
        super().__init__()
        self.module, self.weights, self.dropout, self.kept = module, weights, dropout, []
        for name in weights:
            module.register_parameter(f"{name}_raw", nn.Parameter(getattr(module, name).detach()))

    def forward(self, x):
        given = {}
        for name in self.weights:
            raw = getattr(self.module, f"{name}_raw")
            given[name] = F.dropout(raw, self.dropout, self.training)
            self.kept.append((raw.detach().clone().numpy(), given[name].detach().numpy()))
        return torch.func.functional_call(self.module, given, (x,))[0]


def test_dropped_weights_are_counted_over_all_weights_of_the_pass(tmp_path):
    model = nn.Sequential(WeightDrop(nn.LSTM(6, 20), ("weight_hh_l0", "weight_ih_l0"), 0.4), nn.Linear(20, 3))
    run, (row,) = record(model, TOKENS, tmp_path / "run")
    live = sum((raw != 0).sum() for raw, _ in model[0].kept)
    gone = sum(((raw != 0) & (used == 0)).sum() for raw, used in model[0].kept)
    read = numbers(run, "0")
    assert (row.layer, row.fired, row.dropout) == ("0", 1, "rate 0.4, grain weight")
    assert read["dropped_share"] == pytest.approx(gone / live, abs=1e-12)
    assert math.isnan(read["dropout_noise_to_signal"])


class Zoneout(nn.Module):
    """Krueger et al. 2017: units keep their previous state with probability p."""

    def __init__(self, p, by_hand=False):
        super().__init__()
        self.p, self.by_hand, self.kept = p, by_hand, []

    def forward(self, new, previous):
        if self.by_hand:
            state = torch.where(torch.rand(new.shape) < self.p, previous, new)
        else:
            state = (1 - self.p) * F.dropout(new - previous, self.p, self.training) + previous
        self.kept.append((new.detach().numpy(), previous.detach().numpy(), state.detach().numpy()))
        return state


class Recurrent(nn.Module):
    def __init__(self, zoneout):
        super().__init__()
        self.cell, self.zoneout = nn.GRUCell(6, 20), zoneout

    def forward(self, x):
        state = x.new_zeros(len(x), 20)
        for step in x.unbind(1):
            state = self.zoneout(self.cell(step, state), state)
        return state


def test_zoneout_counts_units_that_kept_their_state_where_it_can_be_seen(tmp_path):
    model = Recurrent(Zoneout(0.3))
    run, rows = record(model, TOKENS, tmp_path / "run")
    assert len(rows) == 17
    for call, (new, previous, state) in enumerate(model.zoneout.kept):
        share = ((new != previous) & (state == previous)).sum() / (new != previous).sum()
        assert numbers(run, "zoneout", call)["dropped_share"] == pytest.approx(share, abs=1e-12)
    run, rows = record(Recurrent(Zoneout(0.3, by_hand=True)), TOKENS, tmp_path / "by hand")
    assert numbers(run, "zoneout") == {"dropout_rate": 0.3}
    assert "rate alone: its mask is not drawn by F.dropout" in rows[0].dropout


class ConcreteDropout(nn.Module):
    """Gal, Hron & Kendall 2017, with a learned rate."""

    def __init__(self):
        super().__init__()
        self.p_logit = nn.Parameter(torch.tensor([-1.0]))

    def forward(self, x, layer):
        p, noise = torch.sigmoid(self.p_logit), torch.rand_like(x)
        logits = torch.log(p) - torch.log1p(-p) + torch.log(noise) - torch.log1p(-noise)
        return layer(x * (1 - torch.sigmoid(logits / 0.1)) / (1 - p))


class Concrete(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout, self.layer = ConcreteDropout(), nn.Linear(6, 4)

    def forward(self, x):
        return torch.sigmoid(self.dropout(x, self.layer))


def test_a_learned_rate_is_recorded_and_its_sigmoids_are_no_activations(tmp_path):
    model, learned = Concrete(), []
    with dd.Recorder(model, tmp_path / "run", every=1, strict=True) as rec:
        for _ in range(3):
            learned.append(1 / (1 + math.exp(-model.dropout.p_logit.item())))
            model(ROWS).sum().backward()
            with torch.no_grad():
                model.dropout.p_logit += 0.5
            rec.step()
        activations = [row.layer for row in rec.coverage() if row.kind == "activation"]
    assert activations == ["layer:sigmoid"]
    rates = dd.load(tmp_path / "run").scalars.query("layer == 'dropout' and quantity == 'dropout_rate'")["value"]
    np.testing.assert_allclose(rates, learned, rtol=1e-6)
    assert "dropped_share" not in numbers(dd.load(tmp_path / "run"), "dropout")


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, dropout=0.1, batch_first=True)
        self.lstm = nn.LSTM(6, 6, 2, dropout=0.2)
        self.alone = nn.LSTM(6, 6, 1)

    def forward(self, x):
        x, _ = self.attention(x, x, x)
        x = self.alone(self.lstm(x)[0])[0]
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.3 if self.training else 0.0)


def test_masks_inside_of_kernels_leave_their_rates(tmp_path):
    run, rows = record(Attention(), TOKENS, tmp_path / "run")
    rates = {"attention:attention_dropout": 0.1, "lstm:dropout": 0.2, "(model):scaled_dot_product_attention": 0.3}
    assert {row.layer for row in rows} == set(rates)
    for row in rows:
        assert numbers(run, row.layer) == {"dropout_rate": rates[row.layer]}
        assert (row.fired, row.expected) == (1, True)
        assert "rate alone: the mask is drawn inside of the kernel" in row.dropout


def test_the_fused_path_of_an_encoder_is_left_on_where_nothing_else_of_it_is_recorded(tmp_path, monkeypatch):
    model, fused = nn.Sequential(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)).eval(), []
    original = torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *a: fused.append(a) or original(*a))
    with dd.Recorder(model, tmp_path / "run", exclude="*self_attn*") as rec, torch.no_grad():
        model(TOKENS)
        rows = {row.skipped for row in rec.coverage() if row.kind == "dropout" and "self_attn" not in row.layer}
    assert len(fused) == 1
    assert rows == {FUSED}


def test_layer_drop_leaves_its_rate(tmp_path):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layerdrop, self.layers = 0.25, nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

        def forward(self, x):
            for layer in self.layers:
                if not (self.training and torch.rand([]) < self.layerdrop):
                    x = F.dropout(layer(x), 0.1, self.training)
            return x

    run, rows = record(nn.Sequential(Encoder(), nn.Linear(6, 2)), ROWS, tmp_path / "run")
    assert rows[0].layer == "0:layerdrop"
    assert numbers(run, "0:layerdrop") == {"dropout_rate": 0.25}
    assert {row.dropout for row in rows[1:]} == {"rate 0.1, grain element"}


@pytest.mark.parametrize(
    "mask",
    [
        lambda x: torch.bernoulli(torch.full_like(x, 0.7)),
        lambda x: torch.empty_like(x).bernoulli_(0.7),
        lambda x: torch.rand_like(x) > 0.3,
        lambda x: torch.rand(x.shape).lt(0.7),
        lambda x: torch.empty_like(x).uniform_() >= 0.3,
    ],
)
def test_a_mask_by_hand_is_listed_as_not_measured(mask, tmp_path):
    _, (row,) = record(Keeps(lambda s, x: x * mask(x)), ROWS, tmp_path / "run")
    assert (row.layer, row.expected, row.fired) == ("(model):mask", False, 0)
    assert "draw it by F.dropout or nn.Dropout" in row.skipped
    _, rows = record(Keeps(lambda s, x: x + torch.rand_like(x) * (x > 0)), ROWS, tmp_path / "noise")
    assert rows == []


def test_a_dropout_that_was_switched_off_is_recorded_still(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    with dd.Recorder(model, tmp_path, every=1) as rec:
        for rate in (0.5, 0.0):
            model[1].p = rate
            model(torch.ones(2, 4)).sum().backward()
            rec.step()
        [row] = [row for row in rec.coverage() if row.kind == "dropout"]
    assert (row.fired, row.expected, row.skipped, row.dropout) == (2, True, None, "rate 0, grain element")


def test_dropouts_at_rate_0_are_counted_in_one_line(tmp_path):
    dropouts = [nn.Dropout(0.0) for _ in range(20)]
    run, rows = record(nn.Sequential(*dropouts, nn.Linear(6, 2), nn.Dropout(0.5)), ROWS, tmp_path / "run")
    assert [(row.layer, row.expected) for row in rows] == [("21", True), ("20 dropouts", False)]
    assert rows[1].skipped == "rate 0: they drop nothing (0, 1, 2, ...)"
    assert numbers(run, "7") == {"dropout_rate": 0.0}


def test_a_composite_that_is_called_dropout_hides_nothing(tmp_path):
    class MLPWithDropout(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.drop = nn.Linear(6, 6), nn.Dropout(0.1)

        def forward(self, x):
            return F.dropout(self.drop(F.relu(self.fc(x))), 0.2)

    model = MLPWithDropout()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        model(ROWS).sum().backward()
        rec.step()
        sites = {(row.layer, row.kind) for row in rec.coverage() if row.kind != "weight"}
    assert sites == {("fc:relu", "activation"), ("drop", "dropout"), ("fc:dropout", "dropout")}


# Masks in evaluations ------------------------------------------------------------------------------------------


class AlwaysOn(nn.Dropout):
    def forward(self, x):
        return F.dropout(x, self.p, training=True)


class Draws(nn.Module):
    """Draws in its forward method by a generator of its own or a global one."""

    def __init__(self, draw, **held):
        super().__init__()
        self.draw, self.layer = draw, nn.Linear(6, 6)
        vars(self).update(held)

    def forward(self, x):
        return F.relu(self.layer(x)) * float(self.draw(self))


def warned_in_evaluation(model, path, loader=(ROWS,)):
    with dd.Recorder(model.eval(), path, probes=["net_values"]) as rec, pytest.warns(DropdiagWarning) as caught:
        with rec.evaluation("test"), torch.no_grad():
            for x in loader:
                model(x)
        rec.step()
        warnings.warn("the end", DropdiagWarning, stacklevel=1)  # pytest.warns wants one at least
    return [str(w.message) for w in caught if str(w.message) != "the end"]


def head(drop):
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), drop)


@pytest.mark.parametrize(
    "model",
    [
        head(Keeps(lambda s, x: F.dropout(x, 0.3))),
        head(AlwaysOn(0.3)),
        head(Keeps(lambda s, x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1))),
        head(Keeps(lambda s, x: stochastic_depth(x, 0.3, "row"))),
    ],
    ids=["function", "always on", "attention", "stochastic depth"],
)
def test_a_dropout_that_is_active_in_an_evaluation_is_told(model, tmp_path):
    (told,) = warned_in_evaluation(model, tmp_path / "run")
    assert told.startswith("a dropout was active inside evaluation 'test'")


@pytest.mark.parametrize(
    ("draw", "held", "named"),
    [
        (lambda s: torch.rand(()), {}, "torch's default generator"),
        (lambda s: np.random.rand(), {}, "numpy's global state"),  # noqa: NPY002
        (lambda s: random.random(), {}, "Python's random"),
        (lambda s: s.rng.random(), {"rng": np.random.default_rng(0)}, "numpy's generator at 0.rng"),
        (lambda s: s.own.random(), {"own": random.Random(0)}, "random's generator at 0.own"),
        (
            lambda s: torch.rand((), generator=s.many["a"]),
            {"many": {"a": torch.Generator()}},
            "torch's generator at 0.many['a']",
        ),
    ],
    ids=["torch", "numpy", "python", "a generator of numpy", "a Random", "a generator of torch"],
)
def test_numbers_that_no_dropout_explains_are_told_with_their_generator(draw, held, named, tmp_path):
    (told,) = warned_in_evaluation(nn.Sequential(Draws(draw, **held), nn.Linear(6, 2)), tmp_path / "run")
    assert told.startswith(f"random numbers were drawn in the forward pass inside evaluation 'test' ({named}), and by")
    assert "VAE" in told


def test_loaders_and_dropouts_that_are_off_are_not_told(tmp_path):
    loader = torch.utils.data.DataLoader(ROWS, batch_size=100, shuffle=True)
    model = nn.Sequential(head(nn.Dropout(0.3)), Keeps(lambda s, x: F.dropout(x, 0.3, s.training)), AlwaysOn(0.0))
    before = torch.get_rng_state()
    assert warned_in_evaluation(model, tmp_path / "run", loader) == []
    torch.set_rng_state(before)
    for _ in loader:
        pass
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    assert warned_in_evaluation(model, tmp_path / "again", loader) == []
    assert torch.equal(torch.get_rng_state(), after)  # what the loader alone draws


def test_nothing_makes_the_host_wait_for_a_device():
    # A tensor on the device "meta" has no values: whatever asks for one raises.
    x = torch.randn(8, 5, 6, device="meta")
    for leading, is_locked in ((3, False), (2, False), (3, True)):
        sketch = sketches.DropoutSketch()
        for _ in range(2):
            counted = sketches.MaskCounter(x, leading, locked=is_locked).count(x * 2)
            sketch.update(sketches.MaskedPass(0.5, *counted, sketches.NodeNoise(x, -1, 1.0)))
        assert sketch.rate == 0.5
        assert sketch.share.is_meta
        assert sketch.noise_to_signal.is_meta
    ids = torch.zeros(4, 3, dtype=torch.int64, device="meta")
    assert all(number.is_meta for number in sketches.MaskCounter(ids, 2).count(ids))


class DropsItsWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.kept = nn.Linear(6, 5), []

    def forward(self, x):
        weight = F.dropout(self.linear.weight, 0.4, self.training)
        self.kept.append(weight.detach())
        return F.dropout(torch.tanh(F.linear(x, weight, self.linear.bias)), 0.2, self.training)


def test_a_function_that_drops_a_weight_is_told_from_one_that_drops_the_output(tmp_path):
    model = DropsItsWeight()
    run, rows = record(model, torch.randn(9, 6), tmp_path / "run")
    assert {row.layer: row.dropout for row in rows} == {
        "linear:weight_dropout": "rate 0.4, grain weight",
        "linear:dropout": "rate 0.2, grain element",
    }
    read = numbers(run, "linear:weight_dropout")
    assert read["dropped_share"] == (model.kept[0] == 0).double().mean().item()
    assert math.isnan(read["dropout_noise_to_signal"])  # a weight has no samples
    sites = "linear:weight_dropout", "linear", "linear:tanh", "linear:dropout"
    assert list(run.order) == [(site, 0) for site in sites]
