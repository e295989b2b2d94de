"""Ignite's engines with the handler, beside the loop that everybody writes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from tests.integrations.trainers import recorded
from tests.integrations.trainers.recorded import OPTIONS, assert_same, loader, plain, scalar, state
from tests.networks import mlp

engines = pytest.importorskip("ignite.engine")
metrics = pytest.importorskip("ignite.metrics")
handlers = pytest.importorskip("ignite.handlers")
Events = engines.Events

pytestmark = pytest.mark.filterwarnings("ignore", "error::dropdiag.DropdiagWarning")


def recorder(path, **options):
    return dd.integrations.ignite.Recorder(path, **{**OPTIONS, **options})


class Training:
    """A trainer and an evaluator after each epoch, whose handler stands before the Recorder's."""

    def __init__(self, one=None, *, update=None, validate=True, attach=None, **options):
        self.model = mlp()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=recorded.LR, momentum=0.9)
        if update is None:
            self.trainer = engines.create_supervised_trainer(self.model, self.optimizer, F.cross_entropy, **options)
        else:
            self.trainer = engines.Engine(lambda _, batch: update(self, *batch))
        loss = {"val_loss": metrics.Loss(F.cross_entropy)}
        self.evaluator = engines.create_supervised_evaluator(self.model, metrics=loss)
        self.trainer.add_event_handler(Events.STARTED, lambda: torch.manual_seed(5))
        if validate:
            self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.validate)
        if one is not None:
            one.attach(self.trainer, self.model, self.evaluator, **(attach or {}))

    def validate(self):
        self.evaluator.run(loader(2, seed=9))

    def run(self, epochs=1, **options):
        self.trainer.run(loader(), max_epochs=epochs, **options)
        return self


def accumulated(self, x, y):
    """An update of one's own, with what people do in it."""
    self.model.train()
    iteration = self.trainer.state.iteration
    loss = F.cross_entropy(self.model(x), y) / 3
    loss.backward()
    if iteration % 3 == 0:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
    return loss * 3


def updated(self, x, y):
    if (self.trainer.state.iteration - 1) % 3 == 0:
        self.optimizer.zero_grad()
    return accumulated(self, x, y)


def autocast(self, x, y):
    self.model.train()
    self.optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(self.model(x), y)
    loss.backward()
    self.optimizer.step()
    return {"loss": loss}


@pytest.mark.parametrize(
    ("trainers", "loops"),
    [
        ({}, {}),
        ({"gradient_accumulation_steps": 3}, {"accumulate": 3}),
        (
            {"update": updated, "attach": {"gradient_accumulation_steps": 3}},
            {"accumulate": 3, "clip": 0.1},
        ),
        ({"update": autocast, "validate": False}, {"autocast": True, "evaluate": False}),
    ],
    ids=["epochs", "accumulated", "accumulated-clipped", "bf16"],
)
def test_numbers_are_those_of_the_plain_loop_and_of_a_training_without(tmp_path, trainers, loops):
    one = recorder(tmp_path / "one")
    training = Training(one, **trainers).run(2)
    bare = Training(**{**trainers, "attach": None}).run(2)
    model, losses = plain(tmp_path / "plain", epochs=2, **loops)
    assert_same(tmp_path / "plain", one.path)
    found = scalar(one.path, "loss")
    assert list(found) == list(range(1, 13 if loops.get("accumulate", 1) == 1 else 5))
    assert list(found.values()) == pytest.approx([loss.item() for loss in losses], rel=1e-6)
    if "accumulate" not in loops:
        assert list(found.values()) == [loss.item() for loss in losses]
    recorded.assert_same_weights(training.model, bare.model)
    recorded.assert_same_weights(training.model, model)
    assert state(one.path) == "completed"
    assert dd.load(one.path).meta["warnings"] == []
    assert recorded.bare_hooks(training.model)


def test_metrics_come_under_their_names(tmp_path):
    one = recorder(tmp_path / "one")
    training = Training(one)
    metrics.Loss(F.cross_entropy, output_transform=lambda _: (torch.zeros(20, 3), torch.zeros(20).long())).attach(
        training.trainer, "constant"
    )
    metrics.RunningAverage(output_transform=lambda loss: loss).attach(training.trainer, "running")
    training.run(2)
    assert list(scalar(one.path, "val_loss", "eval")) == [6, 12]
    assert scalar(one.path, "val_loss", "eval")[12] == training.evaluator.state.metrics["val_loss"]
    found = scalar(one.path, "running", "train_epoch")
    assert found[12] == training.trainer.state.metrics["running"]
    assert found[6] != found[12]
    assert list(scalar(one.path, "constant", "train_epoch")) == [6, 12]


def test_what_an_update_returns_is_named(tmp_path):
    one = recorder(tmp_path / "one")
    transform = {"output_transform": lambda output: {"mine": output[1], "half": output[1] / 2}}
    update = {"output_transform": lambda x, y, prediction, loss: (prediction, loss)}
    Training(one, attach=transform, gradient_accumulation_steps=2, **update).run()
    found = scalar(one.path, "mine")
    assert list(found) == [1, 2, 3]
    assert scalar(one.path, "half") == {step: pytest.approx(value / 2) for step, value in found.items()}
    assert "loss" not in set(dd.load(one.path).select()["quantity"])
    other = recorder(tmp_path / "other")
    Training(other, **update).run()
    assert "loss" not in set(dd.load(other.path).select()["quantity"])
    assert dd.load(other.path).meta["steps"] == 6


def test_an_evaluation_sees_the_step_before_it_whatever_stands_first(tmp_path):
    one = recorder(tmp_path / "one")
    training = Training(validate=False)
    training.trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), training.validate)
    other = engines.create_supervised_evaluator(training.model)
    training.trainer.add_event_handler(Events.ITERATION_COMPLETED(every=3), lambda: other.run(loader(3, seed=8)))
    one.attach(training.trainer, training.model, {"eval": training.evaluator, "test": other})
    training.validate()  # outside of a training
    training.run()
    training.validate()
    correlation = dd.load(one.path).select("node_correlation_samples", layer="1")
    found = {(row.step, row.phase): row.value for row in correlation.itertuples()}
    assert found == {**{(step, "eval"): 40 for step in (2, 4, 6)}, **{(step, "test"): 60 for step in (3, 6)}}
    assert dd.load(one.path).meta["warnings"] == []


def test_early_stopping_ends_the_run_well(tmp_path):
    one = recorder(tmp_path / "one")
    training = Training(one)
    stop = handlers.EarlyStopping(1, lambda engine: -engine.state.iteration, training.trainer)
    training.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: stop(training.trainer))
    training.run(5)
    assert state(one.path) == "completed"
    assert dd.load(one.path).meta["steps"] == 12
    skips = recorder(tmp_path / "skips")
    training = Training(skips)
    training.trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=4), lambda: training.trainer.terminate(skip_completed=True)
    )
    training.run()
    assert state(skips.path) == "completed"
    assert dd.load(skips.path).meta["steps"] == 4


def raises(error):
    def handler():
        raise error

    return handler


@pytest.mark.parametrize("during", ["training", "validation"])
@pytest.mark.parametrize(
    ("error", "ends"),
    [(RuntimeError("lost"), "failed"), (KeyboardInterrupt(), "interrupted")],
    ids=["error", "interrupt"],
)
def test_an_exception_closes_the_run_and_takes_the_hooks_off(tmp_path, during, error, ends):
    one = recorder(tmp_path / "one")
    training = Training(one)
    if during == "training":
        training.trainer.add_event_handler(Events.ITERATION_STARTED(once=4), raises(error))
    else:
        training.evaluator.add_event_handler(Events.ITERATION_COMPLETED, raises(error))
    with pytest.raises(type(error)):
        training.run()
    assert state(one.path) == ends
    assert dd.load(one.path).meta["steps"] == (3 if during == "training" else 6)
    assert "eval" not in set(dd.load(one.path).select()["phase"])
    assert recorded.bare_hooks(training.model)


def test_an_exception_that_a_handler_takes_ends_what_the_engine_ends(tmp_path):
    one = recorder(tmp_path / "one")
    training = Training(one)
    training.evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=1), raises(RuntimeError("lost")))
    training.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), training.validate)
    training.trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda error: None)
    training.run(2)  # the epoch ends, and the training goes on
    assert state(one.path) == "failed"  # as the evaluation after it does
    assert dd.load(one.path).meta["steps"] == 3
    other = recorder(tmp_path / "other")
    training = Training(other)
    training.trainer.add_event_handler(Events.ITERATION_STARTED(once=4), raises(RuntimeError("lost")))
    training.trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda error: None)
    training.run(2)
    assert state(other.path) == "completed"
    assert list(scalar(other.path, "val_loss", "eval")) == [3, 9]


def test_a_second_training_begins_a_new_run_or_goes_on_where_the_trainer_does(tmp_path):
    one = recorder(tmp_path / "one")
    training = Training(one).run()
    training.run(2)
    assert one.path == tmp_path / "one"
    assert list(scalar(one.path, "loss")) == list(range(1, 13))
    training.run(2)  # ended, and so it begins at 0
    assert one.path == tmp_path / "one-2"
    Training(one).run()
    assert one.path == tmp_path / "one-3"
    assert_same(tmp_path / "one-3", plain(tmp_path / "plain") and tmp_path / "plain")


def test_an_interrupted_engine_goes_on_in_the_open_run(tmp_path):
    one = recorder(tmp_path / "one")
    training = Training(one)
    training.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=4), training.trainer.interrupt)
    training.run()
    assert not recorded.bare_hooks(training.model)
    training.run()
    assert state(one.path) == "completed"
    assert len(dd.load(one.path).meta["sessions"]) == 1
    assert_same(tmp_path / "one", plain(tmp_path / "plain") and tmp_path / "plain")


def test_a_checkpoint_names_the_run_that_is_gone_on_in(tmp_path):
    Training(recorder(tmp_path / "one")).run()  # another training, which took the name
    first = recorder(tmp_path / "one", name="auto", config={"condition": "Dropout", "seed": 3})
    training = Training(first)
    saved = {}
    training.trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=4),
        handlers.Checkpoint(
            {"trainer": training.trainer, "model": training.model, "recorder": first},
            lambda checkpoint, *_: saved.update(recorded.copy.deepcopy(checkpoint)),
        ),
    )
    training.run(1)
    assert first.path == tmp_path / "one" / "dropout-s3"

    def resumed(one):
        training = Training(one)
        to_load = {"trainer": training.trainer, "model": training.model}
        whole = {name: value for name, value in saved.items() if name in ("trainer", "model")}
        handlers.Checkpoint.load_objects(to_load, whole)
        return training

    second = recorder(tmp_path / "one", name="auto")
    training = resumed(second)
    second.load_state_dict(saved["recorder"])
    training.run(2)
    assert second.path == first.path
    run = dd.load(second.path)
    assert run.meta["sessions"][-1]["from_step"] == 4
    assert run.meta["steps"] == 12

    given = dd.integrations.ignite.Recorder(first.path, resume=True)
    resumed(given).run(2)
    assert dd.load(given.path).meta["sessions"][-1]["from_step"] == 4
    with pytest.warns(DropdiagWarning, match="goes on at step 4, and no run is known to go on in"):
        resumed(recorder(tmp_path / "lost")).run(1)


def test_a_loss_scaler_is_found(tmp_path):
    one = recorder(tmp_path / "one")
    training = Training(one)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    update = engines.supervised_training_step_amp(
        training.model, training.optimizer, F.cross_entropy, scaler=scaler, gradient_accumulation_steps=2
    )
    trainer = engines.Engine(update)
    recorder(tmp_path / "scaled").attach(trainer, training.model)
    trainer.run(loader())
    assert scalar(tmp_path / "scaled", "step_skipped") == {1: 0.0, 2: 0.0, 3: 0.0}
    Training(one, gradient_accumulation_steps=2, validate=False).run()
    own, other = (
        dd.load(tmp_path / name).select("net_grad_abs_mean", layer="1")["value"].mean() for name in ("one", "scaled")
    )
    assert own == pytest.approx(other, rel=0.9)  # other masks; not 1024 times as much


def test_an_update_that_accumulates_and_does_not_say_so_is_told(tmp_path):
    with pytest.warns(DropdiagWarning, match="the parts of one update are counted as steps"):
        Training(recorder(tmp_path / "one", strict=False), update=updated).run(2)


def test_copies_and_pickles_hold_no_run(tmp_path):
    one = recorder(tmp_path / "one")
    training = Training(one)
    training.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: recorded.assert_copies_hold_nothing(one))
    training.run()


def test_what_cannot_be_attached(tmp_path):
    one, training = recorder(tmp_path / "one"), Training()
    with pytest.raises(
        ArgumentError, match=r"takes a trainer and evaluators that are Ignite's Engines, got Sequential"
    ):
        one.attach(training.trainer, training.model, {"eval": training.model})
    with pytest.raises(ArgumentError, match="an evaluation cannot be called 'train'"):
        one.attach(training.trainer, training.model, {"train": training.evaluator})
    with pytest.raises(ArgumentError, match="gradient_accumulation_steps= takes an integer of at least 1, got 0"):
        one.attach(training.trainer, training.model, gradient_accumulation_steps=0)
    one.attach(training.trainer, training.model)
    with pytest.raises(ArgumentError, match="attached to this trainer already; attach it once"):
        one.attach(training.trainer, training.model)
    training.run()
    with pytest.raises(dd.DropdiagError, match="holds a run already"):
        Training(recorder(tmp_path / "one")).run()


def test_without_ignite(monkeypatch):
    recorded.assert_missing_is_told(monkeypatch, "ignite", "ignite.engine", "pip install pytorch-ignite")
