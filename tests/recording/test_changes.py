"""Modules that come, go and change places while a model is recorded."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from tests.networks import batches, mlp, train
from tests.recording.test_life import hooks, kept
from tests.test_training import histogram


def steps(run, quantity, layer):
    frame = run.histograms(quantity, "all") if quantity in ("weight", "net_value") else run.scalars
    if "quantity" in frame:
        frame = frame[frame["quantity"] == quantity]
    return sorted(frame[frame["layer"] == layer]["step"].unique())


def test_a_layer_that_is_exchanged_is_recorded_from_then_on(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=10) as rec:
        train(model, 14, rec)
        old, model[3], model[4] = model[3], nn.Linear(16, 8), nn.ReLU()
        taken = kept(model[3])
        with pytest.warns(DropdiagWarning, match="found at step 20: exchanged: 3, 4. What came") as said:
            train(model, 6, rec)
    assert len(said) == 1
    run = dd.load(tmp_path / "run")
    assert run.histogram("weight", "3", step=20) == histogram(model[3].weight)
    assert run.histogram("net_value", "4", phase="train", step=20) == histogram(taken[-1])
    flow = run.scalars.query("quantity == 'net_grad_abs_mean' and layer == '4'").set_index("step")["value"]
    # unscheduled steps look at no module: between the change and step 20 the new one's flow is missing, not the old one's
    assert list(flow.dropna().index) == [*range(1, 15), 20]
    assert flow[20] == pytest.approx(taken[-1].grad.double().abs().mean().item(), rel=1e-6)
    assert run.meta["activations"].keys() >= {"Tanh", "ReLU"}
    assert {row["layer"]: row["type"] for row in run.meta["layers"] if row["kind"] == "activation"}["4"] == "ReLU"
    model[3]._forward_hooks.clear()  # the test's own
    assert not hooks(model)
    assert not hooks(old)


def test_what_is_taken_out_has_no_rows_any_more_and_what_is_added_has(tmp_path):
    model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        train(model, 2, rec)
        model[1] = nn.Identity()
        model.append(nn.Sigmoid()).append(nn.Linear(3, 3))
        with pytest.warns(DropdiagWarning, match="found at step 3: new: 3, 4; gone: 1. What"):
            train(model, 2, rec)
        coverage = {(row.layer, row.kind): row for row in rec.coverage()}
    run = dd.load(tmp_path / "run")
    assert steps(run, "net_value", "1") == [1, 2]
    assert steps(run, "net_value", "3") == [3, 4]
    assert steps(run, "weight", "4") == [3, 4]
    gone = coverage["1", "activation"]
    assert gone.fired == 2
    assert gone.skipped == "no longer part of the model, found at step 3; recorded until then"
    assert coverage["3", "activation"].fired == 2


class Growing(nn.Module):
    """Builds a block in its first forward pass, as some code does; and what it builds is called at once."""

    def __init__(self):
        super().__init__()
        self.first, self.blocks = mlp(), nn.ModuleDict()

    def forward(self, x):
        h = self.first(x)
        if "late" not in self.blocks:
            self.blocks.update({"late": nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 3))})
        return self.blocks["late"](h)


def test_modules_that_are_built_in_forward_are_recorded_from_the_next_step_on(tmp_path):
    model = Growing()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        with pytest.warns(DropdiagWarning, match="found at step 1: new: blocks.late.0, blocks.late.1, blocks.late.2"):
            train(model, 3, rec)
    run = dd.load(tmp_path / "run")
    assert steps(run, "net_value", "blocks.late.1") == [2, 3]
    assert steps(run, "weight", "blocks.late.2") == [1, 2, 3]


class Adapted(nn.Module):
    """A low-rank adapter around a layer, merged into it and taken out again."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.down, self.up, self.act = nn.Linear(base.in_features, 2), nn.Linear(2, base.out_features), nn.Tanh()

    def forward(self, x):
        return self.base(x) + self.up(self.act(self.down(x)))


def test_adapters_come_and_go(tmp_path):
    model = mlp()
    base = model[3]
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        train(model, 2, rec)
        model[3] = Adapted(base)
        with pytest.warns(DropdiagWarning, match="new: 3.base, 3.down, 3.up, 3.act; gone: 3"):
            train(model, 2, rec)
        with torch.no_grad():
            base.weight += model[3].up.weight @ model[3].down.weight
        model[3] = base
        with pytest.warns(DropdiagWarning, match="found at step 5: new: 3; gone: 3.base, 3.down, 3.up, 3.act"):
            train(model, 2, rec)
    run = dd.load(tmp_path / "run")
    assert steps(run, "weight", "3") == [0, 1, 2, 5, 6]
    assert steps(run, "weight", "3.base") == [3, 4]
    assert steps(run, "net_value", "3.act") == [3, 4]


def test_changes_are_found_by_evaluations_and_at_the_end(tmp_path):
    model, x = mlp(), next(batches(1))[0]
    with dd.Recorder(model, tmp_path / "run", every=1000) as rec:
        train(model, 2, rec)
        model[1] = nn.Sigmoid()
        with pytest.warns(DropdiagWarning, match="found at step 2: exchanged: 1"):
            with rec.evaluation(), torch.no_grad():
                model.eval()(x)
        expected = histogram(model[0](x))
        model.train()
        train(model, 1, rec)
        model[9] = nn.Linear(8, 3)
        with pytest.warns(DropdiagWarning, match="found at step 3: exchanged: 9"):
            rec.close()
    run = dd.load(tmp_path / "run")
    assert run.histogram("net_value", "1", phase="eval", step=2) == expected
    assert run.histogram("weight", "9", step=3) == histogram(model[9].weight)


def test_patterns_hold_for_what_comes(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=1, exclude="1*") as rec:
        train(model, 1, rec)
        model.append(nn.Tanh())
        train(model, 1, rec)
        assert next(row for row in rec.coverage() if row.layer == "10").skipped == "in exclude"
    assert "10" not in set(dd.load(tmp_path / "run").scalars["layer"])


def test_parameters_alone_change_frozen_unfrozen_exchanged_added(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=1, probes=["weights", "weight_gradient_means"]) as rec:
        train(model, 1, rec)
        model[0].weight = nn.Parameter(torch.randn(16, 12))
        model[3].requires_grad_(False)
        train(model, 1, rec)
        exchanged = histogram(model[0].weight)
        model[3].requires_grad_(True)
        model[6].scale = nn.Parameter(torch.randn(4, 4))
        with pytest.warns(DropdiagWarning, match="found at step 3: new: 6.scale"):
            train(model, 1, rec)
    run = dd.load(tmp_path / "run")
    assert run.histogram("weight", "0", step=2) == exchanged
    assert steps(run, "weight", "6.scale") == [3]


def test_many_changes_are_followed_and_told_a_few_times(tmp_path):
    model = mlp()
    with (
        pytest.warns(DropdiagWarning, match="exchanged: 1") as said,
        dd.Recorder(model, tmp_path / "run", every=1) as rec,
    ):
        for _ in range(9):
            model[1] = nn.Tanh()
            train(model, 1, rec)
    assert len(said) == 5
    assert str(said[-1].message).endswith("such changes are followed and not told")
    assert steps(dd.load(tmp_path / "run"), "net_value", "1") == list(range(1, 10))


def test_a_part_that_takes_no_hooks_by_now_is_left_out(tmp_path):
    model = nn.Sequential(mlp(), nn.Linear(3, 3))
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        train(model, 1, rec)
        model[0] = nn.DataParallel(model[0])
        with pytest.warns(DropdiagWarning, match="found at step 2: gone: 0.0, 0.1, 0.2, 0.3, 0.4 and 5 more"):
            train(model, 1, rec)
        reasons = {row.layer: row.skipped for row in rec.coverage()}
    assert reasons["0.1"].startswith("it is an nn.DataParallel")
    assert steps(dd.load(tmp_path / "run"), "net_value", "0.1") == [1]


def test_functions_of_exchanged_modules_are_seen(tmp_path):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return torch.tanh(self.linear(x))

    model = nn.Sequential(mlp(), Block())
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        train(model, 1, rec)
        model[1] = nn.Sequential(Block())
        with pytest.warns(DropdiagWarning, match="new: 1.0.linear; gone: 1.linear"):
            train(model, 3, rec)
    run = dd.load(tmp_path / "run")
    late = {row["layer"] for row in run.meta["layers"] if row["functional"] and row["kind"] == "activation"}
    assert len(late) == 2
    assert np.isfinite(run.scalars.query("quantity == 'net_grad_abs_mean' and layer in @late")["value"]).sum() == 4


@pytest.mark.filterwarnings("ignore:the model's modules have changed")
def test_a_weight_that_is_computed_by_now_is_recorded_as_it_is_used(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        train(model, 1, rec)
        prune.l1_unstructured(model[3], "weight", 0.5)
        train(model, 1, rec)
        nn.utils.parametrizations.weight_norm(model[6])
        train(model, 1, rec)
    run = dd.load(tmp_path / "run")
    assert run.histogram("weight", "3", step=2).zeros == model[3].weight.numel() // 2
    assert steps(run, "weight", "3") == steps(run, "weight", "6") == [0, 1, 2, 3]
    assert run.histogram("weight", "6", step=3) == histogram(model[6].weight)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_under_compile_a_change_is_told_and_training_goes_on(tmp_path):
    torch._dynamo.reset()
    model, twin = mlp(), mlp()
    compiled = torch.compile(model, backend="eager")
    torch.manual_seed(4)
    with dd.Recorder(compiled, tmp_path / "run", every=1) as rec:
        losses = train(compiled, 2, rec)
        model[1] = nn.Sigmoid()
        with pytest.warns(DropdiagWarning, match="found at step 3: exchanged: 1"):
            losses += train(compiled, 3, rec)
    torch._dynamo.reset()
    bare = torch.compile(twin, backend="eager")
    torch.manual_seed(4)
    expected = train(bare, 2)
    twin[1] = nn.Sigmoid()
    expected += train(bare, 3)
    assert losses == expected
    assert steps(dd.load(tmp_path / "run"), "weight", "0") == [0, 1, 2, 3, 4, 5]


def test_what_cannot_be_followed_is_told_and_training_goes_on(tmp_path):
    class Stubborn(nn.Tanh):
        def register_forward_pre_hook(self, *_args, **_options):
            raise OSError("no hooks here")

    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        train(model, 1, rec)
        model[1] = Stubborn()
        with pytest.warns(DropdiagWarning, match="what came cannot be recorded, training goes on: OSError"):
            train(model, 2, rec)
    assert steps(dd.load(tmp_path / "run"), "net_value", "4") == [1, 2, 3]
