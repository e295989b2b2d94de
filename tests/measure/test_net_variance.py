from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.gaaf import GAAF
from dropdiag.measure.net_variance import net_variance

MASKS = 400


def mlp(p: float = 0.5, act=nn.Tanh, **options) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, 32), act(), nn.Dropout(p, **options), nn.Linear(32, 24), act(), nn.Dropout(p, **options),
        nn.Linear(24, 8), act(), nn.Linear(8, 3),
    )  # fmt: skip


def inputs(n: int = 64, width: int = 20) -> torch.Tensor:
    return 2 * torch.randn(n, width, generator=torch.Generator().manual_seed(1))


def by_hand(model: nn.Module, x: torch.Tensor, masks: int, names: dict[str, nn.Module]) -> dict[str, np.ndarray]:
    """All net values of all masks, kept: the slow way."""
    model = copy.deepcopy(model).train()
    modules = dict(model.named_modules())
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for name in names:
        modules[name].register_forward_pre_hook(lambda _m, a, n=name: kept[n].append(a[0].double().numpy().copy()))
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(masks):
            model(x)
    return {name: np.stack(values) for name, values in kept.items()}


def test_the_numbers_are_those_of_all_masks_kept():
    model, x = mlp(), inputs(16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    state = torch.get_rng_state()
    found = net_variance(model, x, 50)
    assert torch.equal(torch.get_rng_state(), state)
    kept = by_hand(model, x, 50, {"1": None, "4": None, "7": None})
    assert [layer.layer for layer in found] == ["1", "4", "7"]
    for layer in found:
        z = kept[layer.layer]
        np.testing.assert_allclose(layer.mean, z.mean(0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(layer.variance, z.var(0, ddof=1), rtol=1e-9, atol=1e-12)
        border = np.arctanh(np.sqrt(0.9))
        saturated = np.abs(z.mean(0)) >= border
        masked_net_values = z[:, saturated]
        assert np.array_equal(layer.saturated, saturated)
        assert layer.masked_net_values.n == masked_net_values.size
        assert layer.gradient_probability == pytest.approx((np.abs(masked_net_values) < border).mean(), abs=1e-12)
        assert layer.slope_over_masks == pytest.approx((1 - np.tanh(masked_net_values) ** 2).mean(), rel=1e-9)
        assert layer.slope_at_mean == pytest.approx((1 - np.tanh(z.mean(0)[saturated]) ** 2).mean(), rel=1e-9)
    assert found["7"].gradient_probability > 0.05


@pytest.mark.parametrize("options", [{}, {"inplace": True}])
def test_masks_and_closed_form_agree_within_the_monte_carlo_error(options):
    model, x = mlp(0.3, **options), inputs()
    found = net_variance(model, x, MASKS)
    layer = found["4"]  # no mask before its own
    with torch.no_grad():
        h = torch.tanh(model[0](x)).double().numpy()
    w = model[3].weight.detach().double().numpy()
    formula = 0.3 / 0.7 * (h**2) @ (w**2).T
    np.testing.assert_allclose(layer.closed_form, formula, rtol=1e-5)
    ratio = layer.variance / formula
    # the nodes of one sample share masks: the samples are the independent replicates
    error = np.sqrt(2 / (MASKS - 1) / len(x))
    assert abs(ratio.mean() - 1) < 4 * error
    assert ratio.std() < 2 * np.sqrt(2 / (MASKS - 1))
    # of the third layer the closed form is a part: the second layer's masks vary its inputs as well
    assert found["7"].variance.mean() > 1.05 * found["7"].closed_form.mean()
    assert found["1"].closed_form is None
    assert not found["1"].variance.any()


def test_the_closed_form_of_a_convolution():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.4), nn.Conv2d(3, 5, 3, padding=1, stride=2), nn.ReLU())
    x = torch.randn(32, 3, 8, 8)
    layer = net_variance(model, x, MASKS)[0]
    w = model[1].weight.detach().double()
    formula = 0.4 / 0.6 * F.conv2d(x.double() ** 2, w**2, padding=1, stride=2)
    np.testing.assert_allclose(layer.closed_form, formula.numpy(), rtol=1e-6)
    assert abs((layer.variance / formula.numpy()).mean() - 1) < 4 * np.sqrt(2 / (MASKS - 1) / 32)


def test_there_is_no_closed_form_where_something_stands_between():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(), nn.LayerNorm(6), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh())
    assert [layer.closed_form for layer in net_variance(model, torch.randn(4, 6), 4)] == [None, None]


def test_a_dropout_is_set_where_there_is_none_and_taken_off():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 24), nn.Tanh())
    dropped = nn.Sequential(plain[0], plain[1], nn.Dropout(0.5), plain[2], plain[3], nn.Dropout(0.5))
    x = inputs()
    set_for_it, its_own = net_variance(plain, x, 100, p=0.5), net_variance(dropped, x, 100)
    np.testing.assert_array_equal(set_for_it["3"].variance, its_own["4"].variance)
    np.testing.assert_allclose(set_for_it["3"].closed_form, its_own["4"].closed_form)
    assert not plain[1]._forward_hooks
    halved = net_variance(dropped, x, 100, p=0.2)["4"].closed_form
    np.testing.assert_allclose(halved, its_own["4"].closed_form * 0.25)
    assert dropped[2].p == 0.5


class Mixed(nn.Module):
    """Batch norm, a functional dropout, one activation called twice, several arguments."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.act = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()

    def forward(self, x, *, scale):
        h = F.dropout(self.act(self.norm(self.first(x))), 0.5, self.training)
        return self.act(input=self.first(h) * scale)


def test_any_dropout_any_arguments_and_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    model = Mixed()
    model.norm.eval()
    state = copy.deepcopy(model.state_dict())
    modes = {name: module.training for name, module in model.named_modules()}
    found = net_variance(model, {"x": torch.randn(5, 6), "scale": 2.0}, 8, include="act")
    assert [(layer.layer, layer.call) for layer in found] == [("act", 0), ("act", 1)]
    assert not found[0].variance.any()
    assert found[1].variance.all()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_model_is_left_as_it_was_after_an_error():
    model = mlp()
    model[3].eval()
    with pytest.raises(RuntimeError, match="shapes"):
        net_variance(model, torch.randn(4, 21), 4, p=0.1)
    assert [m.training for m in model] == [i != 3 for i in range(9)]
    assert model[2].p == 0.5
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.filterwarnings("ignore:.*lru_cache:UserWarning")
def test_a_compiled_model_is_measured_as_its_eager_one():
    model, x = mlp(), inputs(8)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    np.testing.assert_array_equal(net_variance(compiled, x, 8)["4"].variance, net_variance(model, x, 8)["4"].variance)


def test_gaaf_is_judged_by_its_base():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(), nn.Linear(20, 16), nn.Tanh())
    x = 3 * inputs(16)
    twin = nn.Sequential(model[0], model[1], GAAF("tanh"))
    plain, accelerated = net_variance(model, x, 16)[0], net_variance(twin, x, 16)[0]
    assert plain.gradient_probability == accelerated.gradient_probability > 0
    assert plain.slope_over_masks == pytest.approx(accelerated.slope_over_masks)


def test_an_activation_without_a_saturation_area():
    model = nn.Sequential(nn.Dropout(), nn.Linear(6, 4), nn.PReLU())
    layer = net_variance(model, torch.randn(4, 6), 4)[0]
    assert layer.variance.all()
    assert np.isnan([layer.gradient_probability, layer.slope_over_masks, layer.scalars()["saturated_mean_share"]]).all()


def test_the_table_and_the_sequence():
    found = net_variance(mlp(), inputs(4), 4)
    assert found.table["layer"].tolist() == ["1", "4", "7"]
    assert found.table["net_variance_mean"].tolist() == [layer.variance.mean() for layer in found]
    assert found.table["net_values"].tolist() == [4 * 32, 4 * 24, 4 * 8]
    assert "NetVariance of 4 masks" in repr(found)
    assert found[0] is found["1"]
    with pytest.raises(KeyError, match="'no'; the layers are 1, 4, 7"):
        found["no"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: net_variance(mlp(), inputs(2), 1), "masks must be at least 2"),
        (lambda: net_variance(mlp(), inputs(2), p=1.0), r"p must be a dropout rate in \[0, 1\), got 1.0"),
        (
            lambda: net_variance(nn.Sequential(nn.Linear(20, 2)), inputs(2)),
            "no activation modules, and its forward pass",
        ),
        (lambda: net_variance(nn.Sequential(nn.Linear(20, 2), nn.Tanh()), inputs(2)), "no dropout mask reaches"),
        (lambda: net_variance(mlp(), inputs(2), include="nothing"), "matches no layer"),
        (lambda: net_variance(torch.tanh, inputs(2)), "must be an nn.Module"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def train(model, rec, x, y, measure):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(4):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rec.step(loss=loss)
        losses.append(loss.item())
        if measure and step == 1:
            rec.net_variance(x, 8)
    return losses


def test_a_recorder_keeps_it_in_the_run_and_training_does_not_change(tmp_path):
    x, y = inputs(32), torch.arange(32) % 3
    losses = {}
    for measure in (False, True):
        model = mlp()
        config = {"condition": "Dropout", "seed": 0}
        with dd.Recorder(model, tmp_path / str(measure), every=1, config=config, strict=True) as rec:
            losses[measure] = train(model, rec, x, y, measure)
    assert losses[True] == losses[False]
    with_it, without = dd.load(tmp_path / "True"), dd.load(tmp_path / "False")
    rows = with_it.scalars
    kept = rows[rows["phase"] == "masks"]
    assert set(kept["step"]) == {2}
    own = rows[(rows["phase"] == "train") & ~rows["quantity"].str.endswith("seconds")].reset_index(drop=True)
    other = without.scalars
    other = other[~other["quantity"].str.endswith("seconds")].reset_index(drop=True)
    np.testing.assert_array_equal(own["value"], other["value"])
    assert with_it.coverage().as_dicts() == without.coverage().as_dicts()
    assert with_it.histogram("net_variance", "4", phase="masks").n == 32 * 24
    assert kept[(kept["quantity"] == "dropout_masks")]["value"].unique().tolist() == [8.0]
    missing = kept[(kept["quantity"] == "net_variance_closed_form_mean") & (kept["layer"] == "1")]["value"]
    assert missing.isna().all()


def test_a_recorder_refuses_it_in_an_evaluation(tmp_path):
    with dd.Recorder(mlp(), tmp_path / "run") as rec:
        with rec.evaluation():
            with pytest.raises(ArgumentError, match="leave it before"):
                rec.net_variance(inputs(2))
            rec._model.eval()(inputs(2))
        rec._model.train()
        rec.net_variance(inputs(2), 4)


class Odd(nn.Module):
    """One layer called twice, the second time behind a dropout; things done to tensors in between."""

    def __init__(self, how):
        super().__init__()
        self.how, self.linear, self.drop, self.act = how, nn.Linear(16, 16), nn.Dropout(0.5), nn.Tanh()
        self.first = nn.Linear(16, 16)

    def forward(self, x):
        if self.how == "shared":
            return self.act(self.linear(self.drop(self.linear(x))))
        h = self.drop(self.first(x))
        if self.how == "after the dropout":
            h += x
        z = self.linear(h)
        if self.how == "after the layer":
            z /= 10
        return self.act(z)


@pytest.mark.parametrize(("how", "known"), [("shared", True), ("after the dropout", False), ("after the layer", False)])
def test_the_closed_form_is_right_or_not_given(how, known):
    torch.manual_seed(0)
    layer = net_variance(Odd(how), torch.randn(64, 16), MASKS)[0]
    assert (layer.closed_form is not None) is known
    if known:
        assert abs((layer.variance / layer.closed_form).mean() - 1) < 4 * np.sqrt(2 / (MASKS - 1) / 64)


class Scaled(nn.Linear):
    def forward(self, x):
        return F.linear(x, 3 * self.weight)


@pytest.mark.parametrize(
    "layer",
    [Scaled(6, 6), nn.Conv1d(6, 6, 3, padding=1, padding_mode="replicate")],
    ids=["subclass", "padding"],
)
def test_no_closed_form_for_what_is_not_torch_s_own(layer):
    x = torch.randn(8, 6, 6)
    assert net_variance(nn.Sequential(nn.Dropout(), layer, nn.Tanh()), x, 4)[0].closed_form is None


@pytest.mark.parametrize("make", [nn.Conv1d, nn.ConvTranspose1d])
def test_a_parametrised_convolution_has_the_closed_form_of_its_effective_weight(make):
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(make(4, 4, 3, stride=2))
    model = nn.Sequential(nn.Dropout(0.3), layer, nn.Tanh())
    x = torch.randn(64, 4, 9)
    state = copy.deepcopy(model.state_dict())
    found = net_variance(model, x, MASKS)[0]
    assert abs((found.variance / found.closed_form).mean() - 1) < 4 * np.sqrt(2 / (MASKS - 1) / 64)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


def test_spectral_norm_alone_is_no_dropout():
    for layer in (nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.utils.spectral_norm(nn.Linear(4, 4))):
        with pytest.raises(ArgumentError, match="no dropout mask reaches"):
            net_variance(nn.Sequential(layer, nn.Tanh()), torch.randn(4, 4), 4)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.linear, self.act = nn.Dropout(0.5, inplace=True), nn.Linear(8, 8), nn.Tanh()

    def forward(self, x):
        return self.act(self.linear(self.drop(x["x"][0].div_(1.5))))


def test_the_batch_is_not_touched_and_every_pass_gets_it_as_it_is():
    torch.manual_seed(0)
    x = torch.randn(32, 8)
    before = x.clone()
    found = net_variance(InPlace(), ({"x": (x,)},), MASKS)[0]
    assert torch.equal(x, before)
    assert abs((found.variance / found.closed_form).mean() - 1) < 4 * np.sqrt(2 / (MASKS - 1) / 32)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mask", torch.ones(1, 4).expand(3, 4))
        self.linear, self.drop, self.act = nn.Linear(4, 4), nn.Dropout(), nn.Tanh()

    def forward(self, x):
        self.calls = self.calls + 1
        return self.act(self.linear(self.drop(x * self.mask)))


def test_buffers_are_put_back_even_new_ones_and_expanded_ones():
    model = Counting()
    model.linear.eval()
    net_variance(model, torch.randn(3, 4), 4, p=0.9)
    assert model.calls == 0
    assert model.drop.p == 0.5
    assert [m.training for m in (model, model.linear, model.drop)] == [True, False, True]


def test_a_backward_pass_may_come_after_it():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4), nn.Tanh())
    x = torch.randn(8, 4)
    loss = model(x).sum()
    net_variance(model, x, 4)
    loss.backward()


def test_lazy_modules_are_refused_and_stay_lazy():
    model = nn.Sequential(nn.Dropout(), nn.LazyLinear(4), nn.Tanh())
    with pytest.raises(ArgumentError, match="lazy modules without values"):
        net_variance(model, torch.randn(2, 4))
    assert isinstance(model[1].weight, nn.parameter.UninitializedParameter)


def test_a_rate_reaches_attention_and_is_refused_where_it_would_not_reach():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.3, activation=nn.GELU(), batch_first=True)
    x = torch.randn(4, 5, 16)
    assert not net_variance(layer, x, 4, p=0.0)[0].variance.any()
    assert layer.self_attn.dropout == 0.3
    assert net_variance(layer, x, 16, p=0.5)[0].variance.mean() > net_variance(layer, x, 16, p=0.1)[0].variance.mean()
    with pytest.raises(ArgumentError, match=r"outside of its dropout modules"):
        net_variance(Mixed(), {"x": torch.randn(5, 6), "scale": 1.0}, 4, p=0.5)


def test_include_chooses_what_is_measured_and_not_where_masks_are():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 24), nn.Tanh())
    x = inputs(8)
    np.testing.assert_array_equal(
        net_variance(plain, x, 8, p=0.5, include="3")[0].variance, net_variance(plain, x, 8, p=0.5)["3"].variance
    )


class OldStyle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, g):
        return g * (1 - ctx.saved_tensors[0].tanh() ** 2)


class OldTanh(nn.Tanh):
    def forward(self, x):
        return OldStyle.apply(x)


def test_an_activation_of_an_old_kind():
    model = nn.Sequential(nn.Dropout(), nn.Linear(8, 8), OldTanh())
    twin = nn.Sequential(model[0], model[1], nn.Tanh())
    x = 5 * torch.randn(16, 8)
    ours, theirs = net_variance(model, x, 8)[0], net_variance(twin, x, 8)[0]
    assert ours.slope_over_masks == pytest.approx(theirs.slope_over_masks, rel=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_model_compiled_in_place_stays_compiled():
    torch._dynamo.reset()
    calls = []

    def backend(graph, _inputs):
        def run(*args):
            calls.append(1)
            return graph.forward(*args)

        return run

    model, x = mlp(), inputs(8)
    model.compile(backend=backend)
    with torch.no_grad():
        model(x)
    before = len(calls)
    net_variance(model, x, 12, p=0.5)
    assert len(calls) == before
    with torch.no_grad():
        model(x)
    assert len(calls) == 2 * before


def test_a_second_measurement_at_one_step_is_kept_apart(tmp_path):
    model, x = mlp(), inputs(8)
    with dd.Recorder(model, tmp_path / "run", exclude="1", config={"condition": "A", "seed": 0}) as rec:
        first = rec.net_variance(x, 8)
        with pytest.warns(dd.DropdiagWarning, match="'masks' came twice at one step; it is kept as 'masks-2'"):
            second = rec.net_variance(x, 8, p=0.9)
        with pytest.raises(ArgumentError, match="other than 'train'"):
            rec.net_variance(x, 8, phase="train")
        model(x).sum().backward()
        rec.step()
    run = dd.load(tmp_path / "run")
    table = dd.analysis.net_variance.table
    assert [layer.layer for layer in first] == ["4", "7"]
    assert table(run)["net_variance_mean"].tolist() == pytest.approx([a.variance.mean() for a in first])
    assert table(run)["seeds"].tolist() == [1, 1]
    assert table(run, phase="masks-2")["net_variance_mean"].tolist() == pytest.approx(
        [a.variance.mean() for a in second]
    )
    rows = run.scalars
    rates = rows[rows["quantity"] == "dropout_rate"].groupby("phase", observed=True)["value"].first()
    assert rates["masks-2"] == 0.9
    assert np.isnan(rates["masks"])
    steps = rows[(rows["quantity"] == "step_seconds") & (rows["phase"] == "train")]["value"]
    measured = rows[(rows["quantity"] == "evaluation_seconds") & (rows["phase"] == "masks")]["value"]
    assert len(measured) == 1
    assert len(steps) == 1


@pytest.mark.parametrize("options", [{"layer": 3}, {"layer": ""}, {"phase": 7}, {"phase": "train"}])
def test_log_refuses_what_is_no_name(tmp_path, options):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run") as rec:
        with pytest.raises(ArgumentError, match="must be a"):
            rec.log(value=1.0, **options)
        rec.log(layer="anything", value=2.0)
        model(inputs(2)).sum().backward()
        rec.step()
    rows = dd.load(tmp_path / "run").scalars
    assert rows[rows["quantity"] == "value"][["layer", "value"]].to_numpy().tolist() == [["anything", 2.0]]


@pytest.mark.parametrize(("scale", "known"), [(1.0, True), (1e4, False)])
def test_where_the_area_of_an_oscillating_activation_is_not_known_nothing_is_judged(scale, known):
    @dd.register_activation
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 40), Sine())
    with torch.no_grad():
        model[1].weight *= scale
    (layer,) = dd.measure.net_variance(model, torch.randn(50, 6), masks=8)
    assert (layer.derivative is not None) is known
    assert np.isfinite(layer.gradient_probability) == known
    assert np.isfinite(layer.variance).all()
