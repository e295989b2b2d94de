import copy
import io
import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.printable import well_formed
from dropdiag.probes import Probe, Signal
from dropdiag.sketches import AbsMean
from tests.networks import batches, mlp, train


def hooks(model):
    return [h for m in model.modules() for d in (m._forward_pre_hooks, m._forward_hooks) for h in d.values()]


def steps_of(run, quantity):
    return sorted(run.scalars.query("quantity == @quantity")["step"].unique())


class Broken(Probe):
    name = "broken"
    signal = Signal.NET_VALUE

    def sketch(self, place):
        return AbsMean()

    def values(self, sketch):
        raise RuntimeError("no such luck")


# Arguments: refused before anything is written ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes": "papre"}, "unknown probe 'papre'; presets are light, paper, full, probes are weights"),
        ({"probes": []}, "probes= is empty"),
        ({"probes": ["weights", "weights"]}, "names weights twice"),
        ({"every": 0}, "at least 1, got 0"),
        ({"every": "often"}, "integer or a callable"),
        ({"include": "conv*"}, r"include='conv\*' matches no layer; the layers are 0, 0.bias"),
        ({"exclude": ["0", "nothing"]}, "exclude='nothing' matches no layer"),
        ({"exclude": "*"}, "nothing of this model can be recorded"),
        ({"config": {"when": object()}}, "config= must hold only what JSON knows"),
        ({"config": {"lr": float("nan")}}, "config= must hold only what JSON knows"),
        ({"config": {"seed": "one"}}, "must be an integer, got 'one'"),
        ({"config": [1]}, "takes a dict"),
        ({"scaler": object()}, "takes a torch.amp.GradScaler, got object"),
    ],
)
def test_bad_arguments_raise_before_anything_is_written(tmp_path, changes, message):
    model = mlp()
    with pytest.raises(ArgumentError, match=message):
        dd.Recorder(model, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
    assert not hooks(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (F.relu, "takes an nn.Module, got function"),
        (nn.Sequential(), "it has no weights and no activation modules"),
        (nn.BatchNorm1d(3), "a bias or scale, not a weight matrix"),
        (nn.DataParallel(nn.Linear(2, 2)), "use DistributedDataParallel"),
    ],
    ids=["function", "empty", "norm", "parallel"],
)
def test_models_without_anything_to_record_are_refused(tmp_path, model, message):
    with pytest.raises(ArgumentError, match=message):
        dd.Recorder(model, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_models_are_refused_by_name(tmp_path):
    inner = nn.Sequential(nn.Linear(2, 2), torch.jit.script(nn.Tanh()))
    with pytest.raises(ArgumentError, match=r"^1 is scripted and runs no Python hooks"):
        dd.Recorder(inner, tmp_path / "run")


def test_an_existing_run_a_full_folder_and_a_file_are_never_written_to(tmp_path):
    dd.Recorder(mlp(), tmp_path / "run").close()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("kept")
    (tmp_path / "file").write_text("kept")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for name, message in {"run": "holds a run already", "notes": "is not empty", "file": "is a file"}.items():
        with pytest.raises(RunError, match=message):
            dd.Recorder(mlp(), tmp_path / name)
    with pytest.raises(RunError, match="cannot make the run folder"):
        dd.Recorder(mlp(), tmp_path / "file" / "below")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_two_recorders_on_one_model_are_refused(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "a"):
        with pytest.raises(ArgumentError, match="has a Recorder already"):
            dd.Recorder(model, tmp_path / "b")
        assert not (tmp_path / "b").exists()
    dd.Recorder(model, tmp_path / "b").close()


# Lifetime ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("bad batch"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_after_an_exception_hooks_are_gone_and_the_run_says_how_it_ended(tmp_path, error, state):
    model = mlp()
    with pytest.raises(type(error)), dd.Recorder(model, tmp_path / "run") as rec:
        train(model, 3, rec)
        raise error
    assert not hooks(model)
    run = dd.load(tmp_path / "run")
    assert (run.meta["state"], run.meta["steps"]) == (state, 3)
    assert run.meta["error"].startswith(type(error).__name__)
    assert steps_of(run, "net_grad_abs_mean") == [1, 2, 3]


def test_closing_twice_is_harmless_and_a_closed_recorder_refuses_steps(tmp_path):
    model = mlp()
    rec = dd.Recorder(model, tmp_path / "run")
    train(model, 1, rec)
    rec.close()
    rec.close()
    with pytest.raises(ArgumentError, match="is closed; open a new run, or resume=True"):
        rec.step()
    assert dd.load(tmp_path / "run").meta["state"] == "completed"


def test_a_users_own_hooks_stay(tmp_path):
    model, seen = mlp(), []
    handle = model[1].register_forward_hook(lambda *_: seen.append(1))
    with dd.Recorder(model, tmp_path / "run") as rec:
        train(model, 2, rec)
    assert len(hooks(model)) == 1
    assert len(seen) == 2
    handle.remove()


def test_resume_goes_on_and_hides_what_is_recorded_anew(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        train(model, 6, rec)
    for bad in (-1, "4", 2.5):
        with pytest.raises(ArgumentError, match="a step of at least 0 \\(the run came to 6\\)"):
            dd.Recorder(model, tmp_path / "run", resume=bad)
    with pytest.raises(RunError, match="is not a run"):
        dd.Recorder(model, tmp_path / "other", resume=True)
    with dd.Recorder(model, tmp_path / "run", every=1, resume=4) as rec:
        assert rec.completed == 4
        losses = train(model, 4, rec, seed=5)
    run = dd.load(tmp_path / "run")
    loss = run.scalars.query("quantity == 'loss'").set_index("step")["value"]
    assert loss.index.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(loss.loc[5:], [x.item() for x in losses])
    assert sorted(run.histograms("weight", "all")["step"].unique()) == list(range(9))
    assert len(run.derivative("Tanh")[0]) == 32640
    with dd.Recorder(model, tmp_path / "run", resume=True) as rec:
        assert rec.completed == 8


# Steps and evaluations ---------------------------------------------------------------------------------------


def test_gradient_flow_at_every_step_and_histograms_on_the_schedule(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=lambda step: step in (2, 5)) as rec:
        train(model, 6, rec)
    run = dd.load(tmp_path / "run")
    assert steps_of(run, "net_grad_abs_mean") == [1, 2, 3, 4, 5, 6]
    assert sorted(run.histograms("net_value", "all")["step"].unique()) == [2, 5]
    assert sorted(run.histograms("weight", "all")["step"].unique()) == [0, 2, 5, 6]


def test_micro_batches_are_one_step(tmp_path):
    x, y = next(batches(1, n=24))
    model = mlp().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name, parts in {"whole": 1, "parts": 3}.items():
        with dd.Recorder(model, tmp_path / name, every=1, probes="full") as rec:
            for px, py in zip(x.chunk(parts), y.chunk(parts), strict=True):
                (F.cross_entropy(model(px), py) / parts).backward()
            rec.step()
            model.zero_grad()
    whole, parts = dd.load(tmp_path / "whole"), dd.load(tmp_path / "parts")
    for layer in ("1", "4", "7"):
        assert whole.histogram("net_value", layer).n == parts.histogram("net_value", layer).n
    for quantity in ("net_grad_abs_mean", "weight_grad_abs_mean"):
        a, b = (r.scalars[r.scalars["quantity"] == quantity]["value"].to_numpy() for r in (whole, parts))
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_one_module_used_twice_is_two_calls(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.Tanh()

        def forward(self, x):
            return self.act(self.b(self.act(self.a(x))))

    model = Twice()
    x = torch.randn(6, 4)
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        for _ in range(2):
            model(x).sum().backward()
            rec.step()
    run = dd.load(tmp_path / "run")
    with torch.no_grad():
        z0 = model.a(x)
        z1 = model.b(model.act(z0))
    assert run.histogram("net_value", "act", call=0) == dd.Histogram.from_values(z0.numpy())
    assert run.histogram("net_value", "act", call=1) == dd.Histogram.from_values(z1.numpy())
    assert (
        run.scalars.query("quantity == 'net_grad_abs_mean'").groupby("step")["call"].apply(list).tolist()
        == [[0, 1]] * 2
    )


def test_a_missing_gradient_is_missing_and_not_zero(tmp_path):
    model = mlp()
    for parameter in model[:3].parameters():
        parameter.requires_grad_(False)
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        train(model, 2, rec)
    flow = dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'").groupby("layer")["value"]
    assert flow.apply(lambda v: v.isna().all()).to_dict() == {"1": True, "4": False, "7": False}
    gradient = dd.load(tmp_path / "run").scalars.query("quantity == 'weight_grad_abs_mean' and layer == '0'")
    assert gradient["value"].isna().all()
    assert len(gradient) == 2


def test_evaluation_pools_its_batches_and_counts_evaluation_mode_alone(tmp_path):
    model = mlp()
    x = next(batches(1, n=40))[0]
    with dd.Recorder(model, tmp_path / "run") as rec:
        train(model, 2, rec)
        model.eval()
        model(x)  # outside of an evaluation: not recorded
        with rec.evaluation(), torch.no_grad():
            for part in x.split(7):
                model(part)
            rec.log(accuracy=0.25)
        model.train()
        train(model, 1, rec)
    run = dd.load(tmp_path / "run")
    assert run.histogram("net_value", "1", phase="eval").n == 40 * 16
    accuracy = run.scalars.query("quantity == 'accuracy'")
    assert accuracy[["step", "phase", "value"]].values.tolist() == [[2, "eval", 0.25]]
    assert run.histogram("net_value", "1", step=1, phase="train").n == 20 * 16


def test_evaluation_in_training_mode_is_named_and_not_recorded(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run") as rec:
        with pytest.warns(DropdiagWarning, match=r"dropout was active in them\): call model.eval"), rec.evaluation():
            model(next(batches(1))[0])
        with pytest.warns(DropdiagWarning, match="saw no forward pass"), rec.evaluation("test"):
            pass
        with pytest.raises(ArgumentError, match="cannot be nested"), rec.evaluation(), rec.evaluation("x"):
            pass
        with pytest.raises(ArgumentError, match="cannot be called 'train'"), rec.evaluation("train"):
            pass
        train(model, 1, rec)
    run = dd.load(tmp_path / "run")
    assert run.scalars["phase"].unique().tolist() == ["train"]
    assert len(run.meta["warnings"]) == 2


def test_a_second_evaluation_of_one_name_at_one_step_is_kept_apart(tmp_path):
    model = mlp().eval()
    with dd.Recorder(model, tmp_path / "run") as rec:
        with rec.evaluation():
            model(next(batches(1))[0])
        for number in (2, 3):
            with pytest.warns(DropdiagWarning, match=f"kept as 'eval-{number}'"), rec.evaluation():
                model(next(batches(1))[0])
    assert set(dd.load(tmp_path / "run").scalars["phase"]) == {"eval", "eval-2", "eval-3"}


def test_a_failed_evaluation_leaves_no_half_numbers(tmp_path):
    model = mlp().eval()
    with dd.Recorder(model, tmp_path / "run") as rec:
        with pytest.raises(ZeroDivisionError), rec.evaluation():
            model(next(batches(1))[0])
            raise ZeroDivisionError
        with rec.evaluation():
            model(next(batches(1, n=8))[0])
    assert dd.load(tmp_path / "run").histogram("net_value", "1").n == 8 * 16


@pytest.mark.parametrize("value", [torch.ones(2), "much", torch.ones((), dtype=torch.complex64), None])
def test_scalars_that_are_not_one_number_are_refused(tmp_path, value):
    with dd.Recorder(mlp(), tmp_path / "run") as rec, pytest.raises(ArgumentError, match="loss= must be one number"):
        rec.step(loss=value)


def test_a_loss_that_is_not_a_number_is_kept(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run") as rec:
        model(next(batches(1))[0])
        rec.step(loss=float("nan"), again=torch.tensor(float("inf")))
    values = dd.load(tmp_path / "run").scalars.set_index("quantity")["value"]
    assert np.isnan(values["loss"])
    assert values["again"] == np.inf


# Failures ----------------------------------------------------------------------------------------------------


def test_a_probe_that_fails_is_disabled_and_named_and_training_goes_on(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes=[Broken(), "weights", "gradient_flow"], every=1) as rec:
        with pytest.warns(
            DropdiagWarning, match=r"probe 'broken' failed at '1' and is disabled there.*no such luck"
        ) as caught:
            train(model, 3, rec)
        assert len(caught) == 1
    run = dd.load(tmp_path / "run")
    cause = "RuntimeError('no such luck')"
    assert run.meta["disabled_probes"] == [{"probe": "broken", "layer": at, "cause": cause} for at in "147"]
    assert steps_of(run, "net_grad_abs_mean") == [1, 2, 3]


def test_strict_raises_what_a_probe_raises(tmp_path):
    model = mlp()
    with (
        pytest.raises(RuntimeError, match="no such luck"),
        dd.Recorder(model, tmp_path / "run", probes=[Broken()], every=1, strict=True) as rec,
    ):
        train(model, 1, rec)
    assert not hooks(model)


def test_values_that_are_not_finite_are_counted_and_do_not_stop_anything(tmp_path):
    model = mlp()
    x = next(batches(1))[0]
    x[0, 0], x[1, 0] = float("inf"), float("nan")
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True) as rec:
        model(x).sum().backward()
        rec.step()
        model.eval()
        with rec.evaluation():
            model(x)
    histogram = dd.load(tmp_path / "run").histogram("net_value", "1", phase="train")
    assert histogram.nans == 16
    assert histogram.positive_infinities + histogram.negative_infinities == 16
    assert histogram.n == 20 * 16


def test_a_full_disk_does_not_stop_training_and_loses_nothing_that_fits_later(tmp_path, monkeypatch):
    from dropdiag.store import jobs

    model = mlp()
    real = jobs.write_segment

    def full(path, table):
        raise OSError(28, "No space left on device")

    with (
        warnings.catch_warnings(record=True) as caught,
        dd.Recorder(model, tmp_path / "run", every=1, flush_every=0) as rec,
    ):
        warnings.simplefilter("always")
        monkeypatch.setattr(jobs, "write_segment", full)
        for _ in range(20):
            train(model, 1, rec)
            time.sleep(0.01)  # the writer's thread tells of it at a later step
        monkeypatch.setattr(jobs, "write_segment", real)
        train(model, 2, rec)
    told = [str(w.message) for w in caught]
    assert sum("refuses rows (No space left on device); they are kept" in message for message in told) == 1
    assert not any("lost" in message for message in told)
    assert steps_of(dd.load(tmp_path / "run"), "net_grad_abs_mean") == list(range(1, 23))


def test_strict_raises_where_the_disk_refuses(tmp_path, monkeypatch):
    from dropdiag.store import jobs

    def full(path, parts):
        raise OSError(28, "No space left on device")

    model = mlp()
    rec = dd.Recorder(model, tmp_path / "run", every=1, strict=True)
    train(model, 2, rec)
    monkeypatch.setattr(jobs, "write_segment", full)
    with pytest.raises(OSError, match="No space left"):
        rec.close()
    assert not hooks(model)


def test_a_step_waits_for_a_slow_disk_and_the_run_says_so(tmp_path, monkeypatch):
    from dropdiag.store import jobs

    real = jobs.write_segment

    def slow(path, parts):
        time.sleep(0.05)
        real(path, parts)

    model = mlp()
    monkeypatch.setattr(jobs, "write_segment", slow)
    with pytest.warns(DropdiagWarning, match="waited for the disk"):
        with dd.Recorder(model, tmp_path / "run", every=1, flush_every=0) as rec:
            train(model, 8, rec)
    run = dd.load(tmp_path / "run")
    assert steps_of(run, "net_grad_abs_mean") == list(range(1, 9))
    assert run.meta["cost"]["waits"] > 0
    assert run.meta["cost"]["seconds_waited"] > 0.0


def test_a_layer_that_is_never_used_is_named(tmp_path):
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.spare = mlp(), nn.ReLU()

        def forward(self, x):
            return self.body(x)

    model = Unused()
    rec = dd.Recorder(model, tmp_path / "run")
    train(model, 1, rec)
    with pytest.warns(DropdiagWarning, match="no recorded forward pass went through spare"):
        rec.close()
    assert "spare" in json.loads((tmp_path / "run" / "run.json").read_text())["warnings"][0]


# Copies ------------------------------------------------------------------------------------------------------


def test_copies_and_pickles_of_a_recorded_model_are_inert(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        copied = copy.deepcopy(model)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        train(model, 1, rec)
        for other in (copied, loaded):
            train(other, 1)
        train(model, 1, rec)
    assert b"dropdiag.recording.hooks" not in file.getvalue()
    run = dd.load(tmp_path / "run")
    assert run.histogram("net_value", "1", step=2, phase="train").n == 20 * 16


@pytest.mark.filterwarnings("ignore:training waited for the disk")
def test_a_disk_that_refuses_for_too_long_stops_the_recording_and_not_the_training(tmp_path, monkeypatch):
    from dropdiag.recording import failures
    from dropdiag.store import jobs

    def full(path, parts):
        raise OSError(28, "No space left on device")

    model = mlp()
    rec = dd.Recorder(model, tmp_path / "run", every=1, flush_every=0)
    train(model, 2, rec)
    monkeypatch.setattr(jobs, "write_segment", full)
    with pytest.warns(DropdiagWarning) as told:
        train(model, 1, rec)
        while rec._session.writer.background.failure is None:
            time.sleep(0.01)
        monkeypatch.setattr(failures, "WAITING_BYTES_LIMIT", 100_000)
        for _ in range(20):
            train(model, 1, rec)
            time.sleep(0.01)
    assert any(re.search(r"recording stopped at step \d+: .*No space left", str(one.message)) for one in told)
    assert not hooks(model)
    rec.log(accuracy=1.0)
    with rec.evaluation():
        model(next(batches(1))[0])
    with pytest.warns(DropdiagWarning, match=r"\d+ rows are lost"):
        rec.close()
    assert rec.completed == 23


def test_a_run_belongs_to_where_it_was_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = mlp()
    with dd.Recorder(model, "run") as rec:
        train(model, 1, rec)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        train(model, 1, rec)
    monkeypatch.chdir(tmp_path)
    run = dd.load("run")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert steps_of(run, "net_grad_abs_mean") == [1, 2]


def test_resume_beyond_the_last_flush_names_the_gap_and_keeps_what_was_warned(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes=[Broken(), "gradient_flow"], every=1) as rec:
        with pytest.warns(DropdiagWarning, match="no such luck"):
            train(model, 2, rec)
    with dd.Recorder(model, tmp_path / "run", every=1, resume=np.int64(20)) as rec:
        train(model, 1, rec)
    meta = dd.load(tmp_path / "run").meta
    assert "steps 3 to 20 were lost" in meta["warnings"][1]
    assert meta["disabled_probes"][0]["probe"] == "broken"
    assert meta["steps"] == 21


def test_an_evaluation_repeated_after_resume_is_kept_apart(tmp_path):
    model = mlp()

    def evaluate(rec):
        model.eval()
        with rec.evaluation():
            model(next(batches(1))[0])
        model.train()

    with dd.Recorder(model, tmp_path / "run") as rec:
        train(model, 2, rec)
        evaluate(rec)
    with dd.Recorder(model, tmp_path / "run", resume=True) as rec:
        with pytest.warns(DropdiagWarning, match="kept as 'eval-2'"):
            evaluate(rec)
        train(model, 1, rec)
    run = dd.load(tmp_path / "run")
    assert run.histogram("net_value", "1", phase="eval").n == 20 * 16


def test_a_recorder_that_is_never_closed_keeps_its_rows(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import dropdiag as dd
from tests.networks import mlp, train
model = mlp()
rec = dd.Recorder(model, {str(tmp_path / "run")!r})
train(model, 4, rec)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    run = dd.load(tmp_path / "run")
    assert (run.meta["state"], run.meta["error"]) == ("interrupted", "the Recorder was not closed")
    assert steps_of(run, "net_grad_abs_mean") == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [FileNotFoundError("\udcff.jpg"), RuntimeError("x" * 10_000)])
def test_any_exceptions_text_is_kept(tmp_path, error):
    with pytest.raises(type(error)), dd.Recorder(mlp(), tmp_path / "run"):
        raise error
    assert dd.load(tmp_path / "run").meta["error"] == well_formed(f"{type(error).__name__}: {error}")


def test_a_schedule_that_cannot_be_asked_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ArgumentError, match="every= must be callable with a step's number"):
        dd.Recorder(mlp(), tmp_path / "run", every=lambda: True)
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be_compacted_is_completed_and_told_once(tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("a codec is missing")

    monkeypatch.setattr("dropdiag.store.writer.compact", broken)
    model = mlp()
    rec = dd.Recorder(model, tmp_path / "run")
    train(model, 2, rec)
    with pytest.warns(DropdiagWarning, match=r"could not be compacted \(a codec is missing\); it is complete") as said:
        rec.close()
    assert len(said) == 1
    assert dd.load(tmp_path / "run").meta["state"] == "completed"
    rec = dd.Recorder(model, tmp_path / "strict", strict=True)
    train(model, 2, rec)
    with pytest.raises(ValueError, match="a codec is missing"):
        rec.close()
    assert dd.load(tmp_path / "strict").meta["state"] == "completed"


def test_a_probe_whose_value_is_no_number_is_disabled(tmp_path):
    class Vector(Broken):
        name = "vector"

        def values(self, sketch):
            return [("vector", torch.ones(3))]

    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes=[Vector(), "gradient_flow"], every=1) as rec:
        with pytest.warns(DropdiagWarning, match="one number or a histogram, got a tensor of shape"):
            train(model, 2, rec)
    assert steps_of(dd.load(tmp_path / "run"), "net_grad_abs_mean") == [1, 2]


def test_a_layer_of_changing_width_loses_its_correlation_alone(tmp_path):
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.act = mlp(), nn.Sigmoid()

        def forward(self, x):
            return self.act(self.body(x)[:, : 1 + len(x) % 2 + 1])

    model = Growing().eval()
    with dd.Recorder(model, tmp_path / "run") as rec:
        with pytest.warns(DropdiagWarning, match="'node_correlation' failed at 'act'.*had 2 nodes and now has 3"):
            with rec.evaluation(), torch.no_grad():
                model(torch.randn(4, 12))
                model(torch.randn(5, 12))
    correlated = dd.load(tmp_path / "run").scalars.query("quantity == 'node_correlation_abs_mean'")
    assert correlated["layer"].tolist() == ["body.1", "body.4", "body.7"]


class Own(Probe):
    """Says the same of one histogram twice, and numbers of every kind."""

    name = "own"
    signal = Signal.NET_VALUE

    def sketch(self, place):
        from dropdiag.sketches import HistogramSketch

        return HistogramSketch()

    def values(self, sketch):
        yield "first", sketch
        yield "second", sketch
        yield "n", float(sketch.dense().sum())
        yield "numpy", np.float32(0.5)
        yield "whole", 2**60
        yield "tensor", torch.tensor(3)
        yield "missing", None


def test_what_a_probe_of_ones_own_says_is_kept_whatever_its_type(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes=[Own()], every=1, strict=True) as rec:
        train(model, 2, rec)
    run = dd.load(tmp_path / "run")
    n = 20 * 16
    assert run.histogram("first", "1", step=2).n == run.histogram("second", "1", step=2).n == n
    values = run.scalars.query("layer == '1' and step == 2").set_index("quantity")["value"]
    assert values["n"] == n
    assert (values["numpy"], values["whole"], values["tensor"]) == (0.5, 2.0**60, 3.0)
    assert np.isnan(values["missing"])


def test_a_value_of_a_live_tensor_is_that_of_its_step(tmp_path):
    live = torch.zeros(())

    class Live(Own):
        name = "live"

        def values(self, sketch):
            return [("live", live)]

    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes=[Live()], every=1) as rec:
        for k in range(3):
            live.fill_(k)
            train(model, 1, rec)
    assert dd.load(tmp_path / "run").scalars.query("quantity == 'live' and layer == '1'")["value"].tolist() == [0, 1, 2]


def test_evaluation_in_inference_mode_is_recorded(tmp_path):
    model = mlp()
    x = torch.cat([x for x, _ in batches(150)])
    with dd.Recorder(model, tmp_path / "run", strict=True) as rec:
        with rec.evaluation(), torch.inference_mode():
            for part in x.split(500):
                model.eval()(part)
        model.train()
        train(model, 2, rec)
    run = dd.load(tmp_path / "run")
    samples = run.scalars.query("quantity == 'node_correlation_samples'")["value"]
    assert (samples == min(len(x), 2048)).all()
    assert len(x) > 2048
    assert run.meta["disabled_probes"] == []


def test_names_that_are_the_recorders_own_are_refused(tmp_path):
    with dd.Recorder(mlp(), tmp_path / "run") as rec:
        for give in (rec.step, rec.log):
            with pytest.raises(ArgumentError, match="step_seconds= is recorded by dropdiag itself; choose another"):
                give(step_seconds=1.0)


def test_a_step_inside_an_evaluation_is_refused(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run") as rec, rec.evaluation("test"):
        model.eval()(next(batches(1))[0])
        with pytest.raises(ArgumentError, match="evaluation 'test' is open: leave it before step"):
            rec.step()


def test_run_json_names_no_step_whose_rows_are_not_on_their_way(tmp_path):
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.late = mlp(), False

        def forward(self, x):
            h = self.body(x)
            return torch.tanh(h) if self.late else h

    model = Late()
    rec = dd.Recorder(model, tmp_path / "run", every=1)
    train(model, 3, rec)
    model.late = True  # a functional site is found: run.json is written anew
    train(model, 1, rec)
    rec._session.writer.drain()
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["steps"] == 3
    assert any(site["layer"].endswith(":tanh") for site in told["layers"])
    assert steps_of(dd.load(tmp_path / "run"), "net_grad_abs_mean") == [1, 2, 3]
    rec.close()


def test_a_recorder_that_was_never_closed_says_what_is_lost_where_its_folder_is_gone(tmp_path):
    code = """
import shutil, sys
import torch
import dropdiag as dd
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
rec = dd.Recorder(model, sys.argv[1], every=1)
model(torch.randn(5, 4)).sum().backward()
rec.step()
rec._session.writer.drain()
shutil.rmtree(sys.argv[1])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "rows are lost" in done.stderr
    assert "Traceback" not in done.stderr
