"""Weights that something makes, and gradients that are of this step: against what the functions are called with."""

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torch.overrides import TorchFunctionMode

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from tests.networks import batches, mlp, train


class Used(TorchFunctionMode):
    """Keeps the weights that linear maps and convolutions are called with."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (F.linear, F.conv1d):
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            self.weights.append(weight.detach().clone())
        return function(*args, **(kwargs or {}))


def old(name, module, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return getattr(nn.utils, name)(module, **options)


def standardized(layer):
    """Let a pre-hook of one's own make the weight of another parameter."""
    raw = layer.weight
    del layer._parameters["weight"]
    layer.register_parameter("weight_raw", raw)
    layer.register_forward_pre_hook(lambda m, _: setattr(m, "weight", (m.weight_raw - m.weight_raw.mean()) / 2))
    return layer


def pruned(layer, name="weight"):
    prune.l1_unstructured(layer, name, 0.5)
    return layer


MAKERS = {
    "weight_norm": lambda layer: old("weight_norm", layer),
    "weight_norm of dim 1": lambda layer: old("weight_norm", layer, dim=1),
    "spectral_norm": lambda layer: old("spectral_norm", layer, n_power_iterations=2),
    "prune": pruned,
    "pruned twice": lambda layer: pruned(pruned(layer)),
    "a pruned part": lambda layer: pruned(old("spectral_norm", layer), name="weight_orig"),
    "own": standardized,
}


def made(maker):
    torch.manual_seed(0)
    layers = nn.Linear(12, 6), nn.Conv1d(1, 2, 3)
    return nn.Sequential(
        MAKERS[maker](layers[0]), nn.Tanh(), nn.Unflatten(1, (1, 6)), MAKERS[maker](layers[1]), nn.Tanh(), nn.Flatten()
    )


def states(model):
    """Return everything of a model, tensors that are no parameters among it."""
    tensors = [v for m in model.modules() for v in (*vars(m).values(), *m._parameters.values(), *m._buffers.values())]
    return [t.detach().clone() for t in tensors if isinstance(t, torch.Tensor)]


def fit(model, rec=None, steps=3, lr=0.1):
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for x, _ in batches(steps):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        if rec is not None:
            rec.step()
    return states(model)


@pytest.mark.parametrize("maker", MAKERS)
def test_the_weight_in_use_is_recorded_and_nothing_of_it_changes(tmp_path, maker):
    bare, model = made(maker), made(maker)
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True) as rec:
        for one, other in zip(fit(model, rec), fit(bare), strict=True):
            assert torch.equal(one, other)
        coverage, in_use = rec.coverage(), [model[0].weight.detach().clone(), model[3].weight.detach().clone()]
    run = dd.load(tmp_path / "run")
    with Used() as used:  # once more: parameters are what the last step made them
        model.eval()(next(batches(1))[0])
    if maker == "own":  # what such a hook will make is not known: it is what the last forward pass used
        used.weights = in_use
    for layer, weight in zip(("0", "3"), used.weights, strict=True):
        assert run.histogram("weight", layer, 3) == dd.Histogram.from_values(weight.numpy())
        means = run.scalars.query("layer == @layer and quantity == 'weight_grad_abs_mean'")["value"]
        assert np.isnan(means).all()
    rows = {row.layer: row for row in coverage if row.kind == "weight"}
    assert all("no gradient of its own" in rows[layer].sampled for layer in ("0", "3"))
    parts = {row.layer for row in rows.values() if row.skipped and "effective weight is recorded" in row.skipped}
    own = {name for name, _ in model.named_parameters() if name.partition(".")[2].startswith("weight")}
    assert parts == own


@pytest.mark.parametrize("maker", MAKERS)
def test_the_weight_of_the_very_forward_pass_where_nothing_is_updated(tmp_path, maker):
    model = made(maker)
    with dd.Recorder(model, tmp_path / "run", every=1, strict=True) as rec, Used() as used:
        fit(model, rec, steps=2, lr=0.0)
    run = dd.load(tmp_path / "run")
    for step in (1, 2):
        for layer, weight in zip(("0", "3"), used.weights[2 * step - 2 :], strict=False):
            assert run.histogram("weight", layer, step) == dd.Histogram.from_values(weight.numpy())


def test_a_weight_that_is_pruned_while_it_trains_and_set_free_again(tmp_path):
    torch.manual_seed(0)
    model, expected, words = nn.Sequential(nn.Linear(12, 6), nn.Tanh()), [], []
    changes = (lambda layer: layer), pruned, (lambda layer: prune.remove(layer, "weight"))
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True) as rec:
        for change in changes:
            change(model[0])
            fit(model, rec, steps=1)
            words.append(next(row.sampled for row in rec.coverage() if row.layer == "0"))
            with Used() as used, torch.no_grad():
                model(next(batches(1))[0])
            expected.append(used.weights[0].numpy())
    assert words == [None, "made by a hook of weight_orig, weight_mask: no gradient of its own", None]
    run = dd.load(tmp_path / "run")
    for step, weight in enumerate(expected, start=1):
        assert run.histogram("weight", "0", step) == dd.Histogram.from_values(weight)
    assert run.histogram("weight", "0", 2).zeros == 36
    flow = run.scalars.query("layer == '0' and quantity in ('weight_grad_abs_mean', 'raw_weight_grad_abs_mean')")
    known = flow.assign(known=np.isfinite(flow["value"])).groupby("step")["known"].all()
    assert known.tolist() == [True, False, True]


# Gradients -----------------------------------------------------------------------------------------------------


def gradient_means(run, layer, quantity="weight_grad_abs_mean"):
    return run.scalars.query("layer == @layer and quantity == @quantity")["value"].to_numpy()


def test_a_gradient_that_an_earlier_step_left_is_missing(tmp_path):
    """Two parts are trained by turns: that of the other part stays behind, clipped and all."""
    model, expected = mlp(), []
    parts = [model[0].weight, model[0].bias], [p for layer in (3, 6, 9) for p in model[layer].parameters()]

    with dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True) as rec:
        for step, (x, y) in enumerate(batches(4)):
            for p in model.parameters():
                p.requires_grad_(False)
            mine = parts[step % 2]
            for p in mine:
                p.requires_grad_(True)
                p.grad = None
            F.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            trained = [layer for layer in "0369" if any(model[int(layer)].weight is p for p in mine)]
            expected.append({layer: model[int(layer)].weight.grad.double().abs().mean().item() for layer in trained})
            rec.step()
    run = dd.load(tmp_path / "run")
    for layer in "0369":
        values = [step.get(layer, np.nan) for step in expected]
        np.testing.assert_allclose(gradient_means(run, layer), values, rtol=1e-9)
        counted = run.histograms("weight_grad", "all").query("layer == @layer")["step"].tolist()
        assert counted == [step for step, found in enumerate(expected, start=1) if layer in found]


def test_gradients_that_were_there_before_the_recorder_are_none_of_its_steps(tmp_path):
    model = mlp()
    train(model, 1)
    model[0].weight.requires_grad_(False)
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        x, y = next(batches(1))
        F.cross_entropy(model(x), y).backward()
        rec.step()
    assert np.isnan(gradient_means(dd.load(tmp_path / "run"), "0")).tolist() == [True]


def test_gradients_that_are_set_by_hand_are_in_use(tmp_path):
    model, expected = mlp(), []
    with dd.Recorder(model, tmp_path / "run", probes="weight_gradient_means", every=1) as rec:
        for x, y in batches(3):
            found = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
            for p, gradient in zip(model.parameters(), found, strict=True):
                p.grad = gradient
            expected.append(found[0].double().abs().mean().item())
            rec.step()
    np.testing.assert_allclose(gradient_means(dd.load(tmp_path / "run"), "0"), expected, rtol=1e-9)


def test_an_unfrozen_part_that_is_called_by_itself_has_its_gradient(tmp_path):
    model = mlp()
    model.requires_grad_(False)
    with pytest.warns(DropdiagWarning, match="parts of the model|went through 4, 7"):
        with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
            for x, _ in batches(3):
                model[0].requires_grad_(True)
                model[0].zero_grad(set_to_none=False)
                model[1](model[0](x)).square().sum().backward()
                rec.step()
    assert np.isfinite(gradient_means(dd.load(tmp_path / "run"), "0")).all()


@pytest.mark.parametrize("first", [True, False])
def test_gradients_that_an_optimiser_uses_up_inside_backward_are_missing_with_the_right_word(tmp_path, first):
    model, seen = mlp(), []

    def register():
        for p in model.parameters():
            optimizer = torch.optim.SGD([p], lr=0.1)

            def update(p, optimizer=optimizer):
                seen.append(p.grad.double().abs().mean().item())
                optimizer.step()
                optimizer.zero_grad()

            p.register_post_accumulate_grad_hook(update)

    if first:
        register()
    with pytest.warns(DropdiagWarning, match="an optimiser in a post-accumulate hook") as caught:
        with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
            if not first:
                register()
            for x, y in batches(2):
                F.cross_entropy(model(x), y).backward()
                rec.step()
            coverage = rec.coverage()
    assert not [w for w in caught if "zero_grad" in str(w.message)]
    run = dd.load(tmp_path / "run")
    assert np.isnan(gradient_means(run, "0")).all()
    assert [row.sampled for row in coverage if row.kind == "weight" and row.expected] == [
        "gradients used up inside backward()"
    ] * 4
    if not first:
        np.testing.assert_allclose(gradient_means(run, "0", "raw_weight_grad_abs_mean"), seen[7::8], rtol=1e-6)


def test_parametrised_weights_say_that_they_have_no_gradient(tmp_path):
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(12, 6)), nn.Tanh())
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True) as rec:
        fit(model, rec)
        (word,) = [row.sampled for row in rec.coverage() if row.layer == "0"]
    assert word == "made by a parametrisation: no gradient of its own"
    assert np.isnan(gradient_means(dd.load(tmp_path / "run"), "0")).all()


def test_a_copy_of_a_model_has_no_hooks_of_gradients(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        train(model, 1, rec)
        twin = copy.deepcopy(model)
    assert not any(p._post_accumulate_grad_hooks for m in (model, twin) for p in m.parameters())


@pytest.mark.parametrize("maker", MAKERS)
def test_a_weight_that_a_hook_makes_has_its_place_in_the_order(tmp_path, maker):
    model = made(maker)
    with dd.Recorder(model, tmp_path / "run", every=1, strict=True) as rec:
        model(torch.randn(5, 12)).sum().backward()
        rec.step()
    order = [layer for layer, _ in dd.load(tmp_path / "run").order if not layer.endswith("weight_orig")]
    assert order == ["0", "1", "3", "4"]
