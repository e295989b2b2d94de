"""What W&B wrote of a run that was sent to it is what the run folder holds; a run of the user's is left alone."""

import copy
import pickle
import sys
from collections import defaultdict

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagError, DropdiagWarning
from dropdiag.integrations.wandb import Sink, equal_bins
from dropdiag.store.rows import ScalarRow
from tests.integrations.sinks.runs import histograms, recorded, same_training, scalars
from tests.integrations.sinks.wandb_file import files, history, records

wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install wandb")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def mine(tmp_path):
    run = wandb.init(project="mine", dir=tmp_path, settings=wandb.Settings(console="off"))
    yield run
    run.finish()


def got(path, prefix="dropdiag/"):
    """(phase, tag) -> {step: value} of a W&B file, numbers and histograms apart."""
    numbers, distributions = defaultdict(dict), defaultdict(dict)
    for row in history(path):
        step = row.pop("dropdiag/step", None)
        for name, value in row.items():
            if name.startswith(prefix):
                phase, _, tag = name.removeprefix(prefix).partition("/")
                found = distributions if isinstance(value, dict) else numbers
                assert step not in found[phase, tag]
                found[phase, tag][step] = value
    return dict(numbers), dict(distributions)


def assert_same(path, run, prefix="dropdiag/"):
    numbers, distributions = got(path, prefix)
    assert numbers == scalars(run)
    expected = histograms(run)
    assert distributions.keys() == expected.keys()
    for key, some in expected.items():
        assert distributions[key].keys() == some.keys()
        for step, whole in some.items():
            counts, edges = equal_bins(whole)
            found = distributions[key][step]
            assert found["_type"] == "histogram"
            np.testing.assert_allclose(found["values"], counts, rtol=1e-12)
            np.testing.assert_allclose(found["bins"], edges, rtol=1e-12)


def test_it_holds_what_the_run_folder_holds(tmp_path):
    recorded(tmp_path / "run", Sink(project="p", dir=tmp_path))
    (file,) = files(tmp_path)
    assert_same(file, tmp_path / "run")
    kept = list(records(file))
    (run,) = (one.run for one in kept if one.HasField("run"))
    assert (run.run_id, run.project, run.display_name) == (dd.load(tmp_path / "run").meta["id"], "p", "run")
    assert {one.key: one.value_json for one in run.config.update}["lr"] == "0.5"
    axes = {one.metric.glob_name: one.metric.step_metric for one in kept if one.HasField("metric")}
    assert axes["dropdiag/*"] == "dropdiag/step"
    assert wandb.run is None


@pytest.mark.parametrize(("error", "code"), [(None, 0), (ValueError("no"), 1)])
def test_it_ends_as_the_run_does(tmp_path, error, code):
    if error is None:
        recorded(tmp_path / "run", Sink(project="p", dir=tmp_path), steps=2)
    else:
        with pytest.raises(ValueError, match="no"):
            recorded(tmp_path / "run", Sink(project="p", dir=tmp_path), steps=2, error=error)
    (file,) = files(tmp_path)
    assert [one.exit.exit_code for one in records(file) if one.HasField("exit")] == [code]


def test_training_is_bit_identical(tmp_path):
    assert same_training(tmp_path / "run", Sink(project="p", dir=tmp_path))


def test_steps_of_a_run_of_the_users_are_not_disturbed(tmp_path, mine):
    """A run of its own: what the user logs with step= is all there."""
    sink = Sink(project="p", dir=tmp_path)
    for step in range(3):
        recorded(tmp_path / f"run{step}", sink, steps=2)
        mine.log({"user": step}, step=step)
    assert wandb.run is mine
    mine.log({"user": 3}, step=3)
    mine.finish()
    (file,) = (one for one in files(tmp_path) if mine.id in one.name)
    rows = [row for row in history(file) if "user" in row]
    assert [(row["_step"], row["user"]) for row in rows] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert got(file) == ({}, {})


def test_a_run_that_is_given_is_used_and_not_finished(tmp_path, mine):
    recorded(tmp_path / "run", Sink(mine))
    assert wandb.run is mine
    mine.log({"user": 1})
    mine.finish()
    (file,) = files(tmp_path)
    assert_same(file, tmp_path / "run")
    assert [row["user"] for row in history(file) if "user" in row] == [1]


def test_a_run_that_is_continued_has_the_same_id(tmp_path):
    model, _ = recorded(tmp_path / "run", Sink(project="p", dir=tmp_path), steps=4)
    recorded(tmp_path / "run", Sink(project="p", dir=tmp_path), model=model, resume=True, steps=2)
    first, second = files(tmp_path)
    assert first.name == second.name
    assert min(step for some in got(second)[0].values() for step in some) == 5


def test_a_share_of_a_rank_is_called_so(tmp_path):
    sink = Sink(project="p", dir=tmp_path)
    recorded(tmp_path / "run", sink, steps=1)
    sink.open({**dd.load(tmp_path / "run").meta, "id": "other", "ranks": {"rank": 0, "world_size": 2}})
    sink.scalars([ScalarRow(1, "train", None, 0, "loss", 0.5)])
    sink.close("completed")
    (file,) = (one for one in files(tmp_path) if "other" in one.name)
    assert got(file, "dropdiag/rank-0/") == ({("train", "loss"): {1: 0.5}}, {})


def test_a_run_that_is_finished_meanwhile_is_told(tmp_path, mine):
    mine.finish()
    with pytest.warns(DropdiagWarning, match="the sink wandb.Sink failed and is sent nothing more"):
        recorded(tmp_path / "run", Sink(mine), steps=2)
    assert dd.load(tmp_path / "run").state == "completed"


def test_equal_bins():
    from dropdiag.histograms.histogram import Histogram

    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    counts, edges = equal_bins(Histogram.from_values(values))
    assert counts.sum() == pytest.approx(10_000)
    exact, _ = np.histogram(values, edges)
    assert np.abs(counts - exact).max() < 0.01 * 10_000
    counts, edges = equal_bins(Histogram.from_values(np.zeros(3, np.float32)))
    assert (counts.sum(), edges[0], edges[-1]) == (3, -0.5, 0.5)


def test_copies_are_not_open(tmp_path):
    sink = Sink(project="p", dir=tmp_path)
    for copied in (copy.deepcopy(sink), pickle.loads(pickle.dumps(sink))):  # noqa: S301
        assert (copied._settings, copied._run) == ({"project": "p", "dir": tmp_path}, None)


def test_arguments(mine, monkeypatch):
    with pytest.raises(ArgumentError, match=r"takes a run, or settings of a new one, got both \(project\)"):
        Sink(mine, project="p")
    with pytest.raises(ArgumentError, match="takes an open W&B run, such as wandb.run after wandb.init"):
        Sink("my-run")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DropdiagError, match="needs the package wandb.*pip install wandb"):
        Sink()
