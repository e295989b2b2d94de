"""What MLflow's client gives back of a run that was sent to it is what the run folder holds."""

import copy
import pickle
import re
import sys
from collections import defaultdict

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagError, DropdiagWarning
from dropdiag.integrations.mlflow import QUANTILES, Sink, accepted
from tests.integrations.sinks.runs import histograms, recorded, same_training, scalars

mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: pip install mlflow-skinny")


@pytest.fixture(autouse=True)
def client(tmp_path, monkeypatch):
    """A store of files, which is all that mlflow-skinny has without a server."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)


def runs_of(client):
    return client.search_runs([one.experiment_id for one in client.search_experiments()])


def got(client, run_id):
    found = defaultdict(dict)
    for name in client.get_run(run_id).data.metrics:
        for one in client.get_metric_history(run_id, name):
            assert one.step not in found[name]
            found[name][one.step] = one.value
    return dict(found)


def expected(path):
    found = {accepted(f"dropdiag/{phase}/{tag}"): some for (phase, tag), some in scalars(path).items()}
    for (phase, tag), some in histograms(path).items():
        name = accepted(f"dropdiag/{phase}/{tag}")
        for place, q in enumerate(QUANTILES):
            found[f"{name}/q{round(100 * q):02}"] = {step: one.quantile(QUANTILES)[place] for step, one in some.items()}
        found[f"{name}/mean"] = {step: one.mean() for step, one in some.items()}
        found[f"{name}/std"] = {step: one.std() for step, one in some.items()}
    return found


def test_it_holds_what_the_run_folder_holds(tmp_path, client):
    recorded(tmp_path / "run", Sink(experiment="dropout"))
    (run,) = runs_of(client)
    assert got(client, run.info.run_id) == expected(tmp_path / "run")
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params == {"lr": "0.5", "condition": "Dropout"}
    assert client.get_experiment(run.info.experiment_id).name == "dropout"
    assert mlflow.active_run() is None


def test_quantiles_are_those_of_the_values(tmp_path, client):
    model, _ = recorded(tmp_path / "run", Sink())
    (run,) = runs_of(client)
    weights = model[0].weight.detach().numpy().ravel()
    for q in QUANTILES:
        (at_the_end,) = (
            v
            for s, v in got(client, run.info.run_id)[f"dropdiag/train/weight/0/q{round(100 * q):02}"].items()
            if s == 8
        )
        assert at_the_end == pytest.approx(np.quantile(weights, q), rel=0.1, abs=0.02)


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_it_ends_as_the_run_does(tmp_path, client, error, status):
    with pytest.raises(type(error)):
        recorded(tmp_path / "run", Sink(), steps=2, error=error)
    assert [run.info.status for run in runs_of(client)] == [status]


def test_training_is_bit_identical(tmp_path):
    assert same_training(tmp_path / "run", Sink())


def test_the_active_run_is_used_and_not_ended(tmp_path, client):
    with mlflow.start_run() as mine:
        mlflow.log_metric("loss", 7.0, step=1)
        recorded(tmp_path / "run", Sink())
        assert mlflow.active_run().info.run_id == mine.info.run_id
        assert client.get_run(mine.info.run_id).info.status == "RUNNING"
        assert got(client, mine.info.run_id) == {"loss": {1: 7.0}, **expected(tmp_path / "run")}
    assert len(runs_of(client)) == 1


def test_a_run_that_is_named_is_used_and_not_ended(tmp_path, client):
    run = client.create_run(client.create_experiment("x"))
    recorded(tmp_path / "run", Sink(run.info.run_id), steps=2)
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    assert got(client, run.info.run_id) == expected(tmp_path / "run")


@pytest.mark.parametrize("how", ["set", "environment", "default"])
def test_the_experiment_is_mlflows_choice(tmp_path, client, monkeypatch, how):
    if how == "set":
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")  # put back at the end
        mlflow.set_experiment("chosen")
    elif how == "environment":
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "chosen")
    recorded(tmp_path / "run", Sink(), steps=1)
    (run,) = runs_of(client)
    assert client.get_experiment(run.info.experiment_id).name == ("Default" if how == "default" else "chosen")


def test_a_run_that_is_continued_goes_on_in_its_run(tmp_path, client):
    model, _ = recorded(tmp_path / "run", Sink(), steps=4)
    recorded(tmp_path / "run", Sink(), model=model, resume=True, steps=2)
    (run,) = runs_of(client)
    assert run.info.status == "FINISHED"
    assert sorted(got(client, run.info.run_id)["dropdiag/train/loss"]) == [1, 2, 3, 4, 5, 6]


def test_a_server_that_is_not_there_is_told(tmp_path):
    with pytest.warns(DropdiagWarning, match="the sink mlflow.Sink failed"):
        recorded(tmp_path / "run", Sink("0" * 32), steps=2)
    assert dd.load(tmp_path / "run").state == "completed"


@pytest.mark.parametrize(
    "name", ["a/b c.d-e_f:1", "a#b", "../x", "a//b", "ä", "x" * 300, "", "a/./b", "/a", "a/..", "."]
)
def test_names(name):
    made = accepted(name)
    assert re.fullmatch(r"[/\w.\- :]+", made, re.ASCII)
    assert len(made) <= 240
    assert not any(part.strip(".") == "" for part in made.split("/"))
    assert (made == name) == (name == "a/b c.d-e_f:1")
    assert accepted(name + "#") != made


def test_copies_are_not_open():
    sink = Sink(experiment="x")
    for copied in (copy.deepcopy(sink), pickle.loads(pickle.dumps(sink))):  # noqa: S301
        assert (copied._asked, copied._client) == (sink._asked, None)


def test_arguments(monkeypatch):
    with pytest.raises(ArgumentError, match="takes run_id= or experiment=, got 'a' and 'b'"):
        Sink("a", experiment="b")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(DropdiagError, match="needs the package mlflow.*pip install mlflow-skinny"):
        Sink()
