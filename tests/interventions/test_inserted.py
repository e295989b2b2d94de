"""A dropout that is put behind a module is the network with an `nn.Dropout` there: draws, losses, what is recorded."""

import copy
import io
import json
import re

import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.model.inserted import named_inserted
from tests.interventions.test_changes import random_states, same, trained


def without():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))


def with_dropouts(p=0.4):
    """Return the same network with dropouts of its own; the names of the others stay."""
    layers = list(without().named_children())
    for name, at in (("d1", 2), ("d3", 5)):
        layers.insert(at, (name, nn.Dropout(p)))
    model = nn.Sequential()
    for name, layer in layers:
        model.add_module(name, layer)
    return model


def test_draws_and_losses_are_those_of_the_network_with_the_dropout_in_it():
    model, wanted = without(), with_dropouts()
    before, keys, names = random_states(), list(model.state_dict()), [n for n, _ in model.named_modules()]
    handle = dd.interventions.insert(model, after=["1", "3"], p=0.4)
    assert random_states() == before
    assert list(model.state_dict()) == keys
    assert [name for name, _ in model.named_modules()] == names
    assert same(trained(model), trained(wanted))
    assert not same(trained(without()), trained(with_dropouts()))
    x = torch.randn(5, 8)
    assert torch.equal(model.eval()(x), wanted.eval()(x))
    model.train()[1].eval()  # the flag that counts is that of the module before it
    torch.manual_seed(2)
    dropped = model(x)
    torch.manual_seed(2)
    wanted.train().d1.eval()
    assert torch.equal(dropped, wanted(x))
    handle.undo()
    handle.undo()
    assert not model[1]._forward_hooks
    assert same(trained(without()), trained(with_dropouts(0.0)))


def test_it_is_listed_set_and_scheduled_by_its_name():
    model = without()
    first = dd.interventions.insert(model, "1", 0.4)
    second = dd.interventions.insert(model, ["1", "*3"], 0.1)
    assert [site.name for site in dd.interventions.list(model)] == ["1:dropout", "1:dropout#2", "3:dropout"]
    assert second.sites == ("1:dropout#2", "3:dropout")
    with dd.interventions.off(model, "1:*"):
        assert [site.rate for site in dd.interventions.list(model)] == [0, 0, 0.1]
    first.undo()
    assert [(site.name, site.rate) for site in dd.interventions.list(model)] == [
        ("1:dropout#2", 0.1),
        ("3:dropout", 0.1),
    ]


def test_copies_and_pickles_have_a_dropout_of_their_own():
    model = without()
    handle = dd.interventions.insert(model, "1", 0.4)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    for other in (copy.deepcopy(model), torch.load(stream, weights_only=False)):
        [(name, _, dropout)] = named_inserted(other)
        assert (name, dropout.p) == ("1:dropout", 0.4)
        assert dropout is not handle.modules["1"]
        assert same(trained(copy.deepcopy(other)), trained(copy.deepcopy(model)))
        with dd.interventions.off(other):
            assert handle.modules["1"].p == 0.4
    copied = copy.deepcopy(model)
    handle.undo()
    assert len(dd.interventions.list(copied)) == 1
    assert len(dd.interventions.list(model)) == 0


def test_moved_to_another_module_by_torch_it_still_goes_with_undo():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    handle = dd.interventions.insert(model, "2", 0.5)
    fused = torch.ao.quantization.fuse_modules_qat(model, [["0", "1", "2"]], inplace=True)
    x = torch.ones(64, 3, 8, 8)
    assert not torch.equal(fused(x), fused(x))
    handle.undo()
    assert torch.equal(fused(x), fused(x))


def test_under_compile_it_draws_in_training_alone_and_at_the_rate_that_is_set():
    torch.compiler.reset()
    model = nn.Sequential(nn.Identity())
    handle = dd.interventions.insert(torch.compile(model, backend="eager"), "0", 0.25)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.ones(20_000)
    for rate in (0.25, 0.5):
        with dd.interventions.set(model, {"0:dropout": rate}):
            share = float((compiled(x) == 0).double().mean())
            assert abs(share - rate) < 5 * (rate * (1 - rate) / 20_000) ** 0.5
    assert torch.equal(compiled.eval()(x), x)
    handle.undo()
    assert torch.equal(compiled.train()(x), x)


@pytest.mark.parametrize("first", ["insert", "attach"])
def test_a_recorder_sees_node_values_before_the_mask_and_lists_the_dropout(tmp_path, first):
    """Whether it attaches before or after: as with a dropout module of the model's own."""
    found = {}
    for name in ("module", "inserted"):
        model = with_dropouts() if name == "module" else without()
        if name == "inserted" and first == "insert":
            dd.interventions.insert(model, ["1", "3"], 0.4)
        with dd.Recorder(model, tmp_path / name, every=1, probes="full") as rec:
            if name == "inserted" and first == "attach":
                dd.interventions.insert(model, ["1", "3"], 0.4)
            trained(model, each=lambda _, rec=rec: rec.step())
            found[name] = {row.layer for row in rec.coverage() if row.kind == "dropout"}
    assert found == {"module": {"d1", "d3"}, "inserted": {"1:dropout", "3:dropout"}}
    runs = [dd.load(tmp_path / name) for name in ("module", "inserted")]
    a, b = (run.scalars() if callable(run.scalars) else run.scalars for run in runs)
    keys = ["step", "layer", "call", "quantity"]
    a, b = (frame[frame.layer.isin(["0", "1", "2", "3", "4"])].sort_values(keys) for frame in (a, b))
    assert len(a) > 100
    assert a[[*keys, "value"]].equals(b[[*keys, "value"]].set_index(a.index))


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_where_no_dropout_can_stand_is_refused():
    model = nn.ModuleDict({"a": nn.ReLU(), "many": nn.ModuleList([nn.ReLU()]), "lstm": nn.LSTM(2, 2), "pair": Pair()})
    for after, reason in (
        ("b", r"after='b' matches no module; the modules are a, many, many\.0, lstm, pair"),
        ("many", "no dropout can stand after many: a ModuleList is never called"),
        ("lstm", "no dropout can stand after lstm: a LSTM gives more than one tensor"),
    ):
        with pytest.raises(ArgumentError, match=reason):
            dd.interventions.insert(model, ["a", after], 0.1)
    assert not model["a"]._forward_hooks
    handle = dd.interventions.insert(model, "pair", 0.1)
    with pytest.raises(ArgumentError, match=re.escape("after a Pair, whose output is no tensor but tuple: undo() it")):
        model["pair"](torch.ones(2))
    handle.undo()
    assert len(model["pair"](torch.ones(2))) == 2


def interventions(path):
    return json.loads((path / "run.json").read_text())["interventions"]


def step(model, rec):
    model(torch.ones(4, 8)).sum().backward()
    rec.step()


def test_a_run_says_which_interventions_it_was_under_and_when(tmp_path):
    model, path = with_dropouts(), tmp_path / "run"
    before = dd.interventions.set(model, {"d1": 0.2})
    dd.interventions.off(model, "d3").undo()  # over before the run begins
    with dd.Recorder(model, path) as rec:
        step(model, rec)
        inserted = dd.interventions.insert(model, "4", 0.1)
        with dd.interventions.off(model, "d?"):
            step(model, rec)
        dd.interventions.off(with_dropouts())  # of another model
        step(model, rec)
        dd.interventions.schedule(model, ["d1"], linear=(0.4, 0, 10))
        before.undo()
    inserted.undo()  # after the run
    rates = {"left": [], "step": 1}
    assert interventions(path) == [
        {"what": "set", "patterns": ["d1"], "sites": ["d1"], "left": [], "rates": [0.2], "step": 0, "until": 3},
        {"what": "insert", "patterns": ["4"], "sites": ["4:dropout"], "rates": [0.1], "until": None, **rates},
        {"what": "off", "patterns": ["d?"], "sites": ["d1", "d3"], "rates": [0.0, 0.0], "until": 2, **rates},
        {
            "what": "schedule",
            "patterns": ["d1"],
            "sites": ["d1"],
            "left": [],
            "schedule": {"linear": [0.4, 0.0, 10]},
            "step": 3,
            "until": None,
        },
    ]
    with dd.Recorder(model, path, resume=2) as rec:  # what came after step 2 is gone; the schedule is in force
        step(model, rec)
    listed = [(one["what"], one["step"], one["until"]) for one in interventions(path)]
    assert listed == [("set", 0, 2), ("insert", 1, 2), ("off", 1, 2), ("schedule", 2, None)]


def measured(model, p):
    found = dd.measure.net_variance(model, torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), 16, p=p)
    return [(one.variance.tolist(), None if one.closed_form is None else one.closed_form.tolist()) for one in found]


def test_net_variance_is_that_of_the_network_with_the_dropout_in_it():
    """At the model's rates and at others, whatever mode the last pass was in, with the closed form."""
    model, wanted = without(), with_dropouts()
    handle = dd.interventions.insert(model, after=["1", "3"], p=0.4)
    for p in (None, 0.2):
        model.eval()(torch.ones(1, 8))
        assert measured(model.train(), p) == measured(wanted, p)
        assert measured(model, p)[1][1] is not None
    model(torch.ones(1, 8))
    with pytest.raises(ArgumentError, match="the model is in evaluation mode"):
        measured(model.eval(), 0.2)
    assert [(dropout.p, dropout.training) for dropout in handle.modules.values()] == [(0.4, True)] * 2


def test_a_compiled_one_is_listed_with_its_rate_and_no_mask_is_told_in_evaluations(tmp_path, recwarn):
    torch.compiler.reset()
    model = without()
    model.compile(backend="aot_eager")
    dd.interventions.insert(model, ["1", "3"], 0.4)
    with dd.Recorder(model, tmp_path, every=1) as rec:
        step(model, rec)
        step(model, rec)
        model.eval()
        with rec.evaluation():
            model(torch.ones(4, 8))
        found = {row.layer: (row.type, row.fired) for row in rec.coverage() if row.kind == "dropout"}
    assert found == {"1:dropout": ("Dropout", 2), "3:dropout": ("Dropout", 2)}
    assert not recwarn.list


def test_put_in_and_taken_out_while_it_is_recorded_it_is_followed_and_no_change_of_the_model_is_told(tmp_path, recwarn):
    model = without()
    with dd.Recorder(model, tmp_path, every=1) as rec:
        step(model, rec)
        with dd.interventions.insert(model, "1", 0.4):
            step(model, rec)
            step(model, rec)
        step(model, rec)
        [row] = [row for row in rec.coverage() if row.kind == "dropout"]
    assert (row.layer, row.fired) == ("1:dropout", 2)
    assert row.skipped == "no longer part of the model, found at step 4; recorded until then"
    assert not recwarn.list
