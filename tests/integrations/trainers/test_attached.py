"""What all trainers' callbacks share, without any trainer."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.integrations.attached import Attached
from tests.integrations.trainers import recorded
from tests.integrations.trainers.recorded import OPTIONS, loader, scalar, state
from tests.networks import mlp


def steps(attached, model, number=2, **more):
    optimizer = torch.optim.SGD(model.parameters(), lr=recorded.LR)
    for x, y in loader(number):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        attached.step({"loss": loss, **more})


def test_an_option_that_a_recorder_does_not_have_is_told_at_once(tmp_path):
    with pytest.raises(ArgumentError, match="a Recorder takes no evry; it takes name, probes, every, "):
        Attached(tmp_path / "one", evry=10)


def test_nothing_happens_outside_of_a_fit(tmp_path):
    attached = Attached(tmp_path / "one")
    attached.step({"loss": 1.0})
    attached.evaluation_begins("eval")
    attached.log({"accuracy": 1.0}, "eval")
    attached.evaluation_ends()
    attached.close()
    attached.close(RuntimeError())
    assert attached.path is None
    assert attached.state is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_is_left_out_and_told_once(tmp_path):
    attached, model = Attached(tmp_path / "one", **OPTIONS), mlp()
    attached.open(model)
    odd = {"text": "a", "vector": torch.ones(2), "step_seconds": 1.0, "": 1.0, "fine": torch.tensor(2.0), "no": None}
    with pytest.warns(
        DropdiagWarning, match="not recorded of what the trainer logs.*: , no, step_seconds, text, vector"
    ):
        attached.log(odd, "eval")
    attached.log(odd, "eval")
    steps(attached, model, 1, text="b", fine=3)
    attached.close()
    assert scalar(tmp_path / "one", "fine", "eval") == {0: 2.0}
    assert scalar(tmp_path / "one", "fine") == {1: 3.0}


def test_an_error_leaves_nothing_of_the_evaluation_that_it_was_in(tmp_path):
    attached, model = Attached(tmp_path / "one", **OPTIONS), mlp()
    attached.open(model)
    attached.evaluation_begins("eval")
    model.eval()(next(iter(loader(1)))[0])
    attached.close(ValueError("no"))
    run = dd.load(tmp_path / "one")
    assert run.meta["state"] == "failed"
    assert "ValueError: no" in run.meta["error"]
    assert "node_correlation_samples" not in set(run.select()["quantity"])
    assert recorded.bare_hooks(model)


def test_a_fit_that_begins_before_the_last_one_was_said_to_end_closes_that_one(tmp_path):
    attached, model = Attached(tmp_path / "one", **OPTIONS), mlp()
    attached.open(model)
    steps(attached, model)
    attached.open(model)
    assert attached.path == tmp_path / "one-2"
    attached.close()
    assert state(tmp_path / "one") == "failed"
    assert state(tmp_path / "one-2") == "completed"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["one", "one-2", "one-3"]),
        ({"name": "a"}, ["one/a", "one/a-2", "one/a-3"]),
        ({"name": "auto", "config": {"condition": "B", "seed": 1}}, ["one/b-s1", "one/b-s1-2", "one/b-s1-3"]),
    ],
    ids=["path", "name", "auto"],
)
def test_each_fit_from_the_start_has_a_run_of_its_own(tmp_path, options, names):
    attached = Attached(tmp_path / "one", **options)
    for name in names:
        attached.open(mlp())
        attached.close()
        assert attached.path == tmp_path / name


def test_a_run_that_was_moved_is_found_at_the_path_and_no_other_is_taken_for_it(tmp_path):
    first, model = Attached(tmp_path / "one", **OPTIONS), mlp()
    first.open(model)
    steps(first, model)
    known = first.state
    first.close()
    (tmp_path / "one").rename(tmp_path / "moved")
    moved = Attached(tmp_path / "moved", **OPTIONS)
    moved.restore(known)
    moved.open(model, step=2)
    steps(moved, model, 1)
    moved.close()
    assert list(scalar(tmp_path / "moved", "loss")) == [1, 2, 3]

    other = Attached(tmp_path / "one", **OPTIONS)
    other.open(model)
    other.close()
    lost = Attached(tmp_path / "one", name="auto")
    lost.restore({**known, "id": "another"})
    with pytest.warns(DropdiagWarning, match="no run is known to go on in"):
        lost.open(model, step=2)
    lost.close()
    assert lost.path == tmp_path / "one" / "run"


@pytest.mark.parametrize("named", [None, {"path": "gone", "id": None}], ids=["nothing", "no-id"])
def test_a_checkpoint_of_another_training_does_not_go_on_in_the_run_of_the_last_fit(tmp_path, named):
    attached = Attached(tmp_path / "one", **OPTIONS)
    attached.open(mlp())
    attached.close()
    attached.restore(named)
    with pytest.warns(DropdiagWarning, match="goes on at step 5, and no run is known"):
        attached.open(mlp(), step=5)
    attached.close()
    assert attached.path == tmp_path / "one-2"


def test_a_checkpoint_counts_for_one_fit_alone(tmp_path):
    attached = Attached(tmp_path / "one", **OPTIONS)
    attached.open(mlp())
    attached.restore(attached.state)
    attached.open(mlp(), step=1)
    assert attached.path == tmp_path / "one"
    attached.open(mlp())
    assert attached.path == tmp_path / "one-2"
    attached.close()


@pytest.mark.parametrize(
    ("resume", "step", "begins"), [(True, 1, 1), ("force", 1, 1), (2, 1, 2), (True, 0, 2), (("force", 0), 1, 0)]
)
def test_who_says_resume_goes_on_in_the_path(tmp_path, resume, step, begins):
    first, model = Attached(tmp_path / "one", **OPTIONS), mlp()
    first.open(model)
    steps(first, model)
    first.close()
    again = Attached(tmp_path / "one", resume=resume)
    assert again.open(model, step=step).completed == begins
    again.close()


def test_a_run_goes_on_beside_one_that_is_taken_for_alive(tmp_path):
    """A job that was preempted is started again within moments, while the first one may look alive."""
    attached, model = Attached(tmp_path / "one", **OPTIONS), mlp()
    attached.open(model)
    steps(attached, model)
    known = attached.state
    dead = attached.recorder  # whose process was killed, as far as the folder tells
    attached = Attached(tmp_path / "one", **OPTIONS)
    attached.restore(known)
    dd.detach(model)
    attached.open(model, step=1)
    assert attached.recorder.completed == 1
    attached.close()
    del dead


def test_the_users_scaler_goes_before_the_trainers(tmp_path):
    own = torch.amp.GradScaler("cpu")
    attached = Attached(tmp_path / "one", scaler=own)
    recorder = attached.open(mlp(), scaler=torch.amp.GradScaler("cpu"))
    assert recorder._session._loss_scale._scaler is own
    attached.close()


def test_names_are_imported_when_they_are_asked_for():
    assert {"lightning", "transformers", "accelerate", "csv"} <= set(dir(dd.integrations))
    with pytest.raises(AttributeError, match="no attribute 'keras'"):
        dd.integrations.keras  # noqa: B018
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dd.integrations.attached.Attached is Attached
