"""A loop with an Accelerator, beside the loop that everybody writes."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError
from tests.integrations.trainers import recorded
from tests.integrations.trainers.recorded import OPTIONS, assert_same, held_out, loader, plain, scalar, state
from tests.networks import mlp

accelerate = pytest.importorskip("accelerate")

pytestmark = pytest.mark.filterwarnings("ignore", "error::dropdiag.DropdiagWarning")


@pytest.fixture(autouse=True)
def _fresh_state():
    """No Accelerator of another test counts."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def train(path=None, *, epochs=1, clip=None, number=6, fail=None, resume=False, **arguments):
    """Train as Accelerate's guide has it; return the model and the Recorder."""
    accelerator = accelerate.Accelerator(cpu=True, **arguments)
    inner = mlp()
    optimizer = torch.optim.SGD(inner.parameters(), lr=recorded.LR, momentum=0.9)
    model, optimizer, batches = accelerator.prepare(inner, optimizer, loader(number))
    rec = path and dd.integrations.accelerate.Recorder(accelerator, model, path, resume=resume, **OPTIONS)
    torch.manual_seed(5)
    with rec or nullcontext():
        for _ in range(epochs):
            for place, (x, y) in enumerate(batches):
                if place == fail:
                    raise RuntimeError("lost")
                with accelerator.accumulate(model):
                    loss = F.cross_entropy(model(x), y)
                    accelerator.backward(loss)
                    if clip is not None and accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), clip)
                    optimizer.step()
                    if rec:
                        rec.step(loss=loss)
                    optimizer.zero_grad()
            if rec:
                with rec.evaluation():
                    held_out(inner)
    return inner, rec


@pytest.mark.parametrize(
    ("accelerated", "loops"),
    [
        ({"epochs": 2}, {"epochs": 2}),
        ({"gradient_accumulation_steps": 3, "clip": 0.1}, {"accumulate": 3, "clip": 0.1}),
        ({"mixed_precision": "bf16"}, {"autocast": True}),
    ],
    ids=["epochs", "accumulated-clipped", "bf16"],
)
def test_numbers_are_those_of_the_plain_loop_and_of_a_training_without(tmp_path, accelerated, loops):
    model, rec = train(tmp_path / "one", **accelerated)
    bare, _ = train(**accelerated)
    expected, losses = plain(tmp_path / "plain", **loops)
    # with autocast Accelerate gives the loss an output in float32, whose gradient is not rounded
    assert_same(tmp_path / "plain", rec.path, {"output_grad_abs_mean"} if "mixed_precision" in accelerated else ())
    assert list(scalar(rec.path, "loss").values()) == pytest.approx([loss.item() for loss in losses], rel=1e-7)
    recorded.assert_same_weights(model, bare)
    recorded.assert_same_weights(model, expected)
    assert state(rec.path) == "completed"
    assert dd.load(rec.path).meta["warnings"] == []
    assert recorded.bare_hooks(model)


def test_a_step_is_marked_where_gradients_are_synchronised_with_the_mean_of_its_numbers(tmp_path):
    given = []
    step = dd.integrations.accelerate.Recorder.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            dd.integrations.accelerate.Recorder, "step",
            lambda self, loss: (given.append(loss.item()), step(self, loss=loss)),
        )  # fmt: skip
        _, rec = train(tmp_path / "one", gradient_accumulation_steps=4)
    # the last two of six batches are an update, too
    assert scalar(rec.path, "loss") == pytest.approx({1: sum(given[:4]) / 4, 2: sum(given[4:]) / 2})


def test_an_exception_closes_the_run(tmp_path):
    with pytest.raises(RuntimeError, match="lost"):
        train(tmp_path / "one", fail=3)
    assert state(tmp_path / "one") == "failed"
    assert dd.load(tmp_path / "one").meta["steps"] == 3


def test_a_run_is_gone_on_in_at_the_step_of_a_checkpoint(tmp_path):
    train(tmp_path / "one")
    _, rec = train(tmp_path / "one", resume=4)
    assert rec.completed == 10
    assert list(scalar(rec.path, "loss")) == list(range(1, 11))
    assert dd.load(rec.path).meta["sessions"][-1]["from_step"] == 4


class Scaled:
    """What is asked of an Accelerator, with a loss scaler: Accelerate itself makes one on an accelerator alone."""

    sync_gradients = True

    def __init__(self):
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def unwrap_model(self, model):
        return model.module


def test_the_model_is_unwrapped_and_the_loss_scaler_known(tmp_path):
    accelerator, model = Scaled(), mlp()
    outside = nn.Sequential()
    outside.module = model
    optimizer = torch.optim.SGD(model.parameters(), lr=recorded.LR)
    with dd.integrations.accelerate.Recorder(accelerator, outside, tmp_path / "one", **OPTIONS) as rec:
        for x, y in loader(2):
            accelerator.scaler.scale(F.cross_entropy(model(x), y)).backward()
            accelerator.scaler.step(optimizer)
            accelerator.scaler.update()
            rec.step()
            optimizer.zero_grad()
    run = dd.load(tmp_path / "one")
    assert list(scalar(rec.path, "step_skipped").values()) == [0.0, 0.0]
    assert run.select("net_grad_abs_mean")["value"].max() < 1.0
    assert "1" in set(run.select("net_grad_abs_mean")["layer"])


def test_a_step_of_a_closed_recorder_is_an_error_in_mid_update_too(tmp_path):
    accelerator = accelerate.Accelerator(cpu=True)
    rec = dd.integrations.accelerate.Recorder(accelerator, accelerator.prepare(mlp()), tmp_path / "one")
    rec.close()
    with pytest.raises(ArgumentError, match="is closed"):
        rec.step(loss=1.0)


def test_without_accelerate(monkeypatch):
    recorded.assert_missing_is_told(monkeypatch, "accelerate", "accelerate", "pip install accelerate")


def test_the_accelerator_comes_first(tmp_path):
    with pytest.raises(ArgumentError, match="an Accelerator, a model and a path, in this order; got Sequential first"):
        dd.integrations.accelerate.Recorder(mlp(), accelerate.Accelerator(cpu=True), tmp_path / "one")
