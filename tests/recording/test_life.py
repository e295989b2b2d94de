"""A Recorder in real life: lost, run again, beside another one, over very many layers."""

import contextlib
import cProfile
import gc
import json
import multiprocessing
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.recording.session import Session
from dropdiag.recording.watching import open_runs
from tests.networks import batches, mlp, train
from tests.test_training import histogram


def hooks(model):
    tables = ("_forward_pre_hooks", "_forward_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs")
    return [hook for module in model.modules() for table in tables for hook in getattr(module, table)]


def ended(path, seconds=20.0):
    """Wait until a lost run is closed, and return its run.json: a thread of its own does it."""
    until = time.monotonic() + seconds
    while (meta := json.loads((path / "run.json").read_text()))["state"] == "running" and time.monotonic() < until:
        time.sleep(0.01)
    return meta


def threads(name):
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def flow_steps(path):
    return sorted(dd.load(path).scalars.query("quantity == 'net_grad_abs_mean'")["step"].unique())


# Lost ----------------------------------------------------------------------------------------------------------


def lose_by_name(model, path):
    rec = dd.Recorder(model, path)
    train(model, 3, rec)
    del rec


def lose_by_exception(model, path):
    def run():
        rec = dd.Recorder(model, path)
        train(model, 3, rec)
        raise ValueError("bad batch")

    with contextlib.suppress(ValueError):
        run()  # the traceback, and with it the Recorder, goes at the end


def lose_in_a_cycle(model, path):
    rec = dd.Recorder(model, path)
    train(model, 3, rec)
    rec.itself = rec
    del rec
    gc.collect()


@pytest.mark.parametrize("lose", [lose_by_name, lose_by_exception, lose_in_a_cycle])
def test_a_lost_recorder_ends_its_run_as_interrupted_with_all_rows(tmp_path, lose):
    model = mlp()
    lose(model, tmp_path / "run")
    meta = ended(tmp_path / "run")
    assert (meta["state"], meta["error"], meta["steps"]) == ("interrupted", "the Recorder was not closed", 3)
    assert not hooks(model)
    assert flow_steps(tmp_path / "run") == [1, 2, 3]
    assert {row["layer"] for row in meta["coverage"] if row["fired"]} >= {"0", "1", "9"}
    with dd.Recorder(model, tmp_path / "again") as rec:
        train(model, 2, rec)
    assert flow_steps(tmp_path / "again") == [1, 2]


def test_the_weights_of_a_lost_run_are_those_of_its_steps(tmp_path):
    model = mlp()
    lose_by_name(model, tmp_path / "run")
    train(model, 4)  # goes on, unrecorded
    ended(tmp_path / "run")
    assert sorted(dd.load(tmp_path / "run").histograms("weight", "all")["step"].unique()) == [0, 1]


def test_a_new_recorder_does_not_wait_for_anybody_to_notice_that_the_last_was_lost(tmp_path):
    model = mlp()
    for k in range(5):
        rec = dd.Recorder(model, tmp_path / f"run{k}")
        train(model, 1, rec)
        del rec
    for k in range(5):
        assert ended(tmp_path / f"run{k}")["state"] == "interrupted"
    assert not hooks(model)


def test_a_recorder_in_uncollected_garbage_blocks_nothing(tmp_path):
    model = mlp()
    gc.disable()
    try:
        rec = dd.Recorder(model, tmp_path / "run")
        rec.itself = rec
        del rec
        dd.Recorder(model, tmp_path / "again").close()
    finally:
        gc.enable()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "interrupted"


def test_a_recorder_that_a_traceback_holds_is_detached(tmp_path):
    model = mlp()

    def run():
        rec = dd.Recorder(model, tmp_path / "run")
        train(model, 2, rec)
        raise ValueError("bad batch")

    with pytest.raises(ValueError, match="bad batch") as held:  # as sys.last_traceback does in a notebook
        run()
    with pytest.raises(ArgumentError, match="has a Recorder already"):
        dd.Recorder(model, tmp_path / "again")
    assert dd.detach(model) == [tmp_path / "run"]
    dd.Recorder(model, tmp_path / "again").close()
    assert flow_steps(tmp_path / "run") == [1, 2]
    del held


def test_a_model_goes_together_with_its_recorder(tmp_path):
    model = mlp()
    model.recorder = dd.Recorder(model, tmp_path / "run")  # as a LightningModule would hold it
    train(model, 2, model.recorder)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    meta = ended(tmp_path / "run")
    assert (meta["state"], meta["steps"]) == ("interrupted", 2)
    assert flow_steps(tmp_path / "run") == [1, 2]


def test_a_recorder_that_is_held_is_in_use_and_blocks(tmp_path):
    model = mlp()
    rec = dd.Recorder(model, tmp_path / "run")
    gc.collect()
    train(model, 2, rec)
    message = r"has a Recorder already, of .*run, which records 0, 1, 2, 3, 4 and 5 more.*dd\.detach\(model\)"
    with pytest.raises(ArgumentError, match=message):
        dd.Recorder(model, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    rec.close()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "completed"


def test_detach_in_an_evaluation_ends_it_without_a_word(tmp_path, recwarn):
    model = mlp()
    rec = dd.Recorder(model, tmp_path / "run")
    train(model, 1, rec)
    with rec.evaluation():
        model.eval()(torch.ones(2, 12))
        assert dd.detach(model) == [tmp_path / "run"]
    assert not recwarn.list
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "interrupted"


def test_detach_closes_what_is_on_a_model_and_its_parts(tmp_path):
    model = nn.Sequential(mlp(), nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    recs = [dd.Recorder(model[0], tmp_path / "a"), dd.Recorder(model[1], tmp_path / "b")]
    other = dd.Recorder(mlp(), tmp_path / "other")
    train(model, 1, recs[0])
    assert sorted(dd.detach(model)) == [tmp_path / "a", tmp_path / "b"]
    assert not hooks(model)
    assert dd.detach(model) == []
    meta = json.loads((tmp_path / "a" / "run.json").read_text())
    assert (meta["state"], meta["error"], meta["steps"]) == ("interrupted", "detached: dd.detach() was called", 1)
    with pytest.raises(ArgumentError, match="is closed"):
        recs[0].step()
    recs[0].close()
    assert not other._session.closed
    other.close()
    with pytest.raises(ArgumentError, match=r"detach\(\) takes an nn.Module, got int"):
        dd.detach(3)


def test_a_recorder_lost_in_the_middle_of_a_forward_pass_leaves_no_mode_behind(tmp_path, monkeypatch):
    seen, asked = threading.Event(), Session.in_forward_pass.fget

    def sees(session):
        seen.set()
        return asked(session)

    monkeypatch.setattr(Session, "in_forward_pass", property(sees))

    class Careless(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.held = mlp(), []

        def forward(self, x):
            h = torch.tanh(self.body(x))
            self.held.clear()
            assert seen.wait(60)  # until the thread that closes the run waits for this pass
            return torch.tanh(h)

    model = Careless()
    before = torch._C._len_torch_function_stack()
    model.held.append(dd.Recorder(model, tmp_path / "run", every=1))
    x = next(batches(1))[0]
    model(x).sum().backward()
    assert torch._C._len_torch_function_stack() == before
    assert ended(tmp_path / "run")["state"] == "interrupted"
    model(x).sum().backward()
    assert torch._C._len_torch_function_stack() == before
    assert not hooks(model)


def test_no_thread_stays_when_nothing_is_open(tmp_path):
    rec = dd.Recorder(mlp(), tmp_path / "run")
    assert "dropdiag-closer" in {thread.name for thread in threading.enumerate()}
    rec.close()
    for thread in threads("dropdiag"):
        thread.join(60)
    assert not threads("dropdiag")
    assert not open_runs._runs


def test_a_run_is_closed_where_the_process_ends_with_a_traceback_that_holds_it(tmp_path):
    code = """
import sys
import dropdiag as dd
from tests.networks import mlp, train
model = mlp()
def run():
    rec = dd.Recorder(model, sys.argv[1])
    train(model, 3, rec)
    1 / 0
run()
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n"), done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "interrupted"
    assert flow_steps(tmp_path / "run") == [1, 2, 3]


def _in_a_child(model, path):
    with dd.Recorder(model, path) as rec:
        train(model, 1, rec)


def test_a_forked_child_leaves_its_parents_run_alone(tmp_path):
    model = mlp()
    rec = dd.Recorder(model, tmp_path / "parent")
    train(model, 1, rec)
    child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(mlp(), tmp_path / "child"))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    train(model, 1, rec)
    rec.close()
    assert flow_steps(tmp_path / "parent") == [1, 2]
    assert flow_steps(tmp_path / "child") == [1]


# Begun in vain ---------------------------------------------------------------------------------------------------


def test_a_recorder_that_cannot_begin_leaves_nothing(tmp_path, monkeypatch):
    model = mlp()

    def refuse(*_args, **_options):
        raise OSError("no hooks today")

    monkeypatch.setattr(model[7], "register_forward_hook", refuse)
    (tmp_path / "empty").mkdir()
    for name in ("run", "empty"):
        with pytest.raises(OSError, match="no hooks today"):
            dd.Recorder(model, tmp_path / name)
    with pytest.raises(OSError, match="no hooks today"):
        dd.Recorder(model, tmp_path, name="auto")
    assert not hooks(model)
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]
    assert not any((tmp_path / "empty").iterdir())
    monkeypatch.undo()
    for thread in threads("dropdiag-writer"):
        thread.join(60)
    assert not threads("dropdiag-writer")
    dd.Recorder(model, tmp_path / "run").close()


def test_a_run_that_cannot_be_resumed_keeps_what_it_has(tmp_path, monkeypatch):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run") as rec:
        train(model, 2, rec)

    def refuse(*_args, **_options):
        raise OSError("no hooks today")

    monkeypatch.setattr(model[7], "register_forward_hook", refuse)
    with pytest.raises(OSError, match="no hooks today"):
        dd.Recorder(model, tmp_path / "run", resume=True)
    assert flow_steps(tmp_path / "run") == [1, 2]
    assert dd.load(tmp_path / "run").meta["state"] == "failed"


# Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"condition": "Dropout", "seed": 0}, ["dropout-s0", "dropout-s0-2", "dropout-s0-3"]),
        ({"condition": "No dropout / late: 0.5"}, ["no-dropout-late-0.5", "no-dropout-late-0.5-2"]),
        ({"seed": 7}, ["run-s7", "run-s7-2"]),
        ({"condition": "../.."}, ["run", "run-2"]),
        ({"condition": "x" * 500}, ["x" * 80, "x" * 80 + "-2"]),
    ],
)
def test_auto_names_a_run_by_its_config_and_overwrites_nothing(tmp_path, config, names):
    for name in names:
        with dd.Recorder(mlp(), tmp_path / "runs", name="auto", config=config) as rec:
            assert rec.path == tmp_path / "runs" / name
        assert dd.load(rec.path).meta["name"] == name
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == sorted(names)


def test_many_that_begin_at_once_get_a_folder_each(tmp_path):
    from dropdiag.recording.naming import claimed_folder

    found, start = [], threading.Barrier(8)

    def claim():
        start.wait()
        found.extend(claimed_folder(tmp_path, {"condition": "a", "seed": 1}) for _ in range(20))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 160 == len(list(tmp_path.iterdir()))


def test_a_name_of_ones_own_is_a_folder_below_the_path(tmp_path):
    with dd.Recorder(mlp(), tmp_path, name="mine") as rec:
        assert rec.path == tmp_path / "mine"
    with pytest.raises(RunError, match='holds a run already.*name="auto"'):
        dd.Recorder(mlp(), tmp_path, name="mine")
    for name in ("", "a/b", "..", 3):
        with pytest.raises(ArgumentError, match="name= takes the name of a folder"):
            dd.Recorder(mlp(), tmp_path, name=name)
    with pytest.raises(ArgumentError, match='name="auto" begins a new run'):
        dd.Recorder(mlp(), tmp_path, name="auto", resume=True)


def test_numbers_come_as_mappings_too_and_what_is_none_is_refused(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run") as rec:
        model(next(batches(1))[0]).sum().backward()
        rec.step({"loss": torch.tensor(0.5), "lr/0": 1e-3}, norm=np.float32(2))
        rec.log({"acc": 0.75, "phase": 1}, phase="test")
        for give in (rec.step, rec.log):
            name = give.__name__
            for wrong, message in [
                ({"loss": "0.3"}, "loss= must be one number, got '0.3'"),
                ({"loss": None}, "loss= must be one number, got None"),
                ({"loss": torch.ones(2)}, r"got a tensor of shape \(2,\)"),
                ({"step_seconds": 1.0}, "is recorded by dropdiag itself"),
                ({3: 1.0}, "the name of a number must be text, got 3"),
                (0.3, rf"{name}\(\) takes numbers by name, {name}\(loss=loss\) .* got 0.3"),
            ]:
                with pytest.raises(ArgumentError, match=message):
                    give(wrong)
            with pytest.raises(ArgumentError, match=rf"{name}\(\) got loss twice"):
                give({"loss": 1.0}, loss=1.0)
            with pytest.raises(ArgumentError, match="loss= must be one number, got '0.3'"):
                give(loss="0.3")
    assert rec.completed == 1
    rows = dd.load(tmp_path / "run").scalars.query("layer != layer or layer == ''")
    found = {(row.phase, row.quantity): row.value for row in rows.itertuples()}
    assert {("train", "loss"): 0.5, ("train", "lr/0"): 1e-3, ("train", "norm"): 2.0}.items() <= found.items()
    assert {("test", "acc"): 0.75, ("test", "phase"): 1.0}.items() <= found.items()


# Side by side -----------------------------------------------------------------------------------------------------


class Head(nn.Module):
    def __init__(self, trunk):
        super().__init__()
        self.trunk, self.head, self.act = trunk, nn.Linear(8, 8), nn.Tanh()

    def forward(self, x):
        return self.act(self.head(self.trunk(x)))


def kept(layer):
    """Keep the outputs of a layer with their gradients."""
    taken = []

    def keep(_module, _args, out):
        out.retain_grad()
        taken.append(out)

    layer.register_forward_hook(keep)
    return taken


def numbers(path, layer):
    run = dd.load(path)
    flow = run.scalars.query("quantity == 'net_grad_abs_mean' and layer == @layer")["value"]
    return [run.histogram("net_value", layer, phase="train", step=k + 1) for k in range(len(flow))], flow.tolist()


def test_two_networks_that_share_a_trunk_are_recorded_each_with_its_own(tmp_path):
    trunk = nn.Sequential(nn.Linear(12, 8), nn.ReLU())
    actor, critic = Head(trunk), Head(trunk)
    a = dd.Recorder(actor, tmp_path / "actor", every=1)
    with pytest.raises(ArgumentError, match=r"of .*actor, which records trunk.0, trunk.1: .*exclude="):
        dd.Recorder(critic, tmp_path / "critic", every=1)
    b = dd.Recorder(critic, tmp_path / "critic", every=1, exclude="trunk*")
    outs = {rec.path: kept(network.head) for rec, network in ((a, actor), (b, critic))}
    # the critic's passes go through sites of the actor's run: they count there, and that is said
    with pytest.warns(DropdiagWarning, match="parts of the model were called without calling the model"):
        for x, _ in batches(3):
            for network in (actor, critic):
                network(x).square().sum().backward()
            for rec in (a, b):
                rec.step()
    a.close()
    b.close()
    for path, taken in outs.items():
        histograms, flow = numbers(path, "act")
        assert histograms == [histogram(z) for z in taken]
        np.testing.assert_allclose(flow, [z.grad.double().abs().mean().item() for z in taken], rtol=1e-6)
    assert not [layer for layer in dd.load(b.path).scalars["layer"].dropna() if layer.startswith("trunk")]


def test_a_student_and_the_network_around_it(tmp_path):
    class Distilled(nn.Module):
        def __init__(self):
            super().__init__()
            self.student, self.teacher = mlp(), mlp(seed=1)

        def forward(self, x):
            return (self.student(x) - self.teacher(x)).square().mean()

    model = Distilled()
    whole = dd.Recorder(model, tmp_path / "whole", exclude="student*", every=1)
    student = dd.Recorder(model.student, tmp_path / "student", every=1)
    outs = kept(model.student[0]), kept(model.teacher[0])
    for x, _ in batches(2):
        model(x).backward()
        whole.step()
        student.step()
    whole.close()
    student.close()
    for path, layer, taken in ((student.path, "1", outs[0]), (whole.path, "teacher.1", outs[1])):
        histograms, flow = numbers(path, layer)
        assert histograms == [histogram(z) for z in taken]
        np.testing.assert_allclose(flow, [z.grad.double().abs().mean().item() for z in taken], rtol=1e-6)
    assert {layer.split(".")[0] for layer in dd.load(whole.path).scalars["layer"].dropna()} == {"teacher"}


# Very many --------------------------------------------------------------------------------------------------------


def test_work_grows_with_the_number_of_sites_and_not_with_its_square(tmp_path):
    """Counted in calls of Python functions, which no other load of the machine changes."""

    def calls(layers):
        model = nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(2, 2), nn.Tanh())))
        x, made = torch.randn(2, 2), []
        profile = cProfile.Profile()
        with profile:
            rec = dd.Recorder(model, tmp_path / str(layers), every=1)
            model(x).sum().backward()
            rec.step()
            rec.coverage()
            rec.close()
        made.append(sum(entry.callcount for entry in profile.getstats()))
        return made[0]

    calls(2)  # imports
    few, many = calls(40), calls(400)
    assert many < 11 * few
