"""transformers' Trainer with the callback, beside the loop that everybody writes."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from tests.integrations.trainers import recorded
from tests.integrations.trainers.recorded import OPTIONS, assert_same, loader, plain, scalar, state
from tests.networks import mlp
from tests.zoo import importable_torchvision  # noqa: F401 - before transformers, which imports it where it is there

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = pytest.mark.filterwarnings("ignore", "error::dropdiag.DropdiagWarning")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x, labels=None):
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Reseed(transformers.TrainerCallback):
    """The plain loop's masks: those of an update depend on its number alone."""

    def on_step_begin(self, args, state, control, **kwargs):
        torch.manual_seed(state.global_step)


def examples(number=6, seed=1):
    return [{"x": x, "labels": y} for xs, ys in loader(number, seed) for x, y in zip(xs, ys, strict=True)]


def recorder(path, **options):
    return dd.integrations.transformers.Recorder(path, **{**OPTIONS, **options})


def trainer_of(folder, *callbacks, model=None, held_out=None, kind=transformers.Trainer, **arguments):
    model = Net() if model is None else model
    settings = {
        "output_dir": str(folder / "output"), "use_cpu": True, "per_device_train_batch_size": 20,
        "per_device_eval_batch_size": 20, "num_train_epochs": 1, "max_grad_norm": 0.0, "eval_strategy": "epoch",
        "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "train_sampling_strategy": "sequential",
        "logging_steps": 2, "seed": 5,
    }  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=recorded.LR, momentum=0.9)
    return kind(
        model,
        transformers.TrainingArguments(**{**settings, **arguments}),
        train_dataset=examples(),
        eval_dataset=held_out or examples(2, 9),
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
        callbacks=[*callbacks, Reseed()],
    )


@pytest.mark.parametrize(
    ("trainers", "loops"),
    [
        ({"num_train_epochs": 2}, {"epochs": 2}),
        ({"gradient_accumulation_steps": 3, "max_grad_norm": 0.1}, {"accumulate": 3, "clip": 0.1}),
        ({"bf16": True}, {"autocast": True}),
    ],
    ids=["epochs", "accumulated-clipped", "bf16"],
)
def test_numbers_are_those_of_the_plain_loop_and_of_a_training_without(tmp_path, trainers, loops):
    one = recorder(tmp_path / "one")
    trainer, bare = trainer_of(tmp_path, one, **trainers), trainer_of(tmp_path, **trainers)
    trainer.train()
    bare.train()
    model, losses = plain(tmp_path / "plain", model=Net(), reseed=True, **loops)
    # Accelerate makes a copy of the logits in float32, which no loss is taken of: their gradient is missing
    but = {"output_grad_abs_mean", "path_grad_abs_mean"} if "bf16" in trainers else ()
    assert_same(tmp_path / "plain", one.path, but)
    assert list(scalar(one.path, "loss").values()) == [loss.item() for loss in losses]
    assert list(scalar(one.path, "loss")) == list(range(1, trainer.state.global_step + 1))
    recorded.assert_same_weights(trainer.model, bare.model)
    recorded.assert_same_weights(trainer.model, model)
    assert state(one.path) == "completed"
    assert dd.load(one.path).meta["warnings"] == []
    assert recorded.bare_hooks(trainer.model)
    assert not vars(trainer).keys() & {"training_step", "evaluation_loop", "_run_epoch"}


def test_what_is_logged_comes_under_its_own_name_once(tmp_path):
    one = recorder(tmp_path / "one")
    trainer = trainer_of(tmp_path, one, max_grad_norm=0.1, eval_on_start=True)
    trainer.train()
    told = {row["step"]: row for row in trainer.state.log_history if "grad_norm" in row}
    assert scalar(one.path, "grad_norm", "log") == {step: row["grad_norm"] for step, row in told.items()}
    losses = scalar(one.path, "loss")
    assert {s: (losses[s - 1] + losses[s]) / 2 for s in told} == pytest.approx({s: r["loss"] for s, r in told.items()})
    assert set(scalar(one.path, "learning_rate").values()) == {recorded.LR}
    evaluated = {row["step"]: row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row}
    assert list(evaluated) == [0, 6]
    assert scalar(one.path, "eval_loss", "eval") == evaluated
    assert set(dd.load(one.path).select("eval_loss")["phase"]) == {"eval"}
    assert "train_loss" in set(dd.load(one.path).select(phase="log")["quantity"])


def test_nothing_is_told_twice_of_one_step(tmp_path):
    one = recorder(tmp_path / "one")
    trainer_of(tmp_path, one, eval_on_start=True, logging_steps=1, num_train_epochs=2).train()
    found = dd.load(one.path).scalars
    assert not found.duplicated(["step", "phase", "layer", "call", "quantity"]).any()
    assert scalar(one.path, "epoch", "log")[12] == 2.0


class OnTrainingData(transformers.TrainerCallback):
    def on_epoch_end(self, *args, **kwargs):
        self.trainer.evaluate(examples(3, 8), metric_key_prefix="train")


def test_an_evaluation_on_the_training_data_is_called_train_eval(tmp_path):
    one, during = recorder(tmp_path / "one"), OnTrainingData()
    trainer = during.trainer = trainer_of(tmp_path, one, during, num_train_epochs=2)
    trainer.train()
    run = dd.load(one.path)
    assert (run.meta["state"], run.meta["steps"], run.meta["warnings"]) == ("completed", 12, [])
    evaluated = {
        r["step"]: r["train_loss"] for r in trainer.state.log_history if "total_flos" not in r and "train_loss" in r
    }
    assert scalar(one.path, "train_loss", "train_eval") == evaluated
    assert list(evaluated) == [6, 12]
    assert scalar(one.path, "train_loss", "log").keys() == {
        12
    }  # the mean over the training, which the trainer tells last
    samples = run.select("node_correlation_samples", phase="train_eval")
    assert set(samples["value"]) == {60.0}


class Answers(transformers.Trainer):
    """Computes metrics after the evaluation and logs them, as transformers' example of question answering does."""

    def evaluate(self, *args, **kwargs):
        metrics = {**super().evaluate(*args, **kwargs), "eval_f1": 0.5}
        self.log(metrics)
        return metrics


def test_metrics_that_are_computed_after_an_evaluation_are_among_its_numbers(tmp_path):
    one = recorder(tmp_path / "one")
    trainer_of(tmp_path, one, kind=Answers).train()
    assert scalar(one.path, "eval_f1", "eval") == {6: 0.5}
    assert list(scalar(one.path, "eval_loss", "eval")) == [6]
    assert set(dd.load(one.path).select("eval_loss")["phase"]) == {"eval"}


def test_two_callbacks_have_their_own_runs_also_after_a_checkpoint(tmp_path):
    def both():
        parts = {"first": ("net.0*", "net.1*"), "second": ("net.2*", "net.3*", "net.4*")}
        return [recorder(tmp_path / name, include=part) for name, part in parts.items()]

    first = both()
    trainer = trainer_of(tmp_path, *first, save_strategy="steps", save_steps=4)
    trainer.train()
    assert not vars(trainer).keys() & {"training_step", "evaluation_loop", "_run_epoch"}
    second = both()
    trainer_of(tmp_path, *second).train(resume_from_checkpoint=str(tmp_path / "output" / "checkpoint-4"))
    assert [one.path for one in second] == [tmp_path / "first", tmp_path / "second"]
    trainer.train()
    assert [one.path for one in first] == [tmp_path / "first-2", tmp_path / "second-2"]
    for one in (*second, *first):
        run = dd.load(one.path)
        assert run.meta["steps"] == 6
        assert ("net.0" in set(run.scalars["layer"])) is one.path.name.startswith("first")
    losses = [list(scalar(one.path, "loss").values()) for one in first]
    told = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[0] == losses[1]
    assert [sum(losses[0][at : at + 2]) / 2 for at in (0, 2, 4)] == pytest.approx(told)


def test_evaluation_in_mid_epoch_and_of_several_data_sets(tmp_path):
    one = recorder(tmp_path / "one")
    sets = {"near": examples(2, 9), "far": examples(3, 8)}
    trainer_of(tmp_path, one, held_out=sets, eval_strategy="steps", eval_steps=2).train()
    correlation = dd.load(one.path).select("node_correlation_samples", layer="net.1")
    found = {(row.step, row.phase): row.value for row in correlation.itertuples()}
    assert found == {(s, phase): n for s in (2, 4, 6) for phase, n in (("eval_near", 40), ("eval_far", 60))}
    assert list(scalar(one.path, "eval_far_loss", "eval_far")) == [2, 4, 6]


def test_early_stopping_ends_the_run_well_at_the_weights_that_it_stopped_with(tmp_path):
    one = recorder(tmp_path / "one", every=1000)
    stop = transformers.EarlyStoppingCallback(1, early_stopping_threshold=100.0)
    trainer = trainer_of(
        tmp_path, one, stop, num_train_epochs=5, save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="loss",
    )  # fmt: skip
    last = {}

    class Keep(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            last.update({name: tensor.clone() for name, tensor in model.state_dict().items()})

    trainer.add_callback(Keep())
    trainer.train()
    run = dd.load(one.path)
    assert run.meta["state"] == "completed"
    assert run.meta["steps"] == 12
    assert not torch.equal(last["net.0.weight"], trainer.model.net[0].weight)  # those of the first epoch were loaded
    expected = dd.Histogram.from_values(last["net.0.weight"].numpy())
    assert run.histogram("weight", "net.0", step=12, phase="train") == expected


class Fails(transformers.TrainerCallback):
    def __init__(self, error, during):
        self.error, self.during = error, during

    def on_step_begin(self, args, state, control, **kwargs):
        if self.during == "training" and state.global_step == 3:
            raise self.error

    def on_prediction_step(self, args, state, control, **kwargs):
        if self.during == "evaluation":
            raise self.error


@pytest.mark.parametrize("during", ["training", "evaluation"])
@pytest.mark.parametrize(
    ("error", "ends"),
    [(RuntimeError("lost"), "failed"), (KeyboardInterrupt(), "interrupted")],
    ids=["error", "interrupt"],
)
def test_an_exception_closes_the_run_and_takes_the_hooks_off(tmp_path, during, error, ends):
    one = recorder(tmp_path / "one")
    trainer = trainer_of(tmp_path, one, Fails(error, during))
    with pytest.raises(type(error)):
        trainer.train()
    assert state(one.path) == ends
    assert dd.load(one.path).meta["steps"] == (3 if during == "training" else 6)
    assert recorded.bare_hooks(trainer.model)
    assert not vars(trainer).keys() & {"training_step", "evaluation_loop", "_run_epoch"}


def test_a_second_training_begins_a_new_run(tmp_path):
    one = recorder(tmp_path / "one")
    trainer = trainer_of(tmp_path, one)
    trainer.train()
    assert one.path == tmp_path / "one"
    trainer.evaluate()  # outside of a training: nothing is recorded, and nothing is in the way
    trainer.train()
    assert one.path == tmp_path / "one-2"
    assert scalar(one.path, "loss").keys() == scalar(tmp_path / "one", "loss").keys()
    weights = [dd.load(path).histogram("weight", "net.0", step=s) for path, s in ((tmp_path / "one", 6), (one.path, 0))]
    assert weights[0] == weights[1]


def test_an_exception_outside_of_an_epoch_is_known_when_the_next_training_begins(tmp_path):
    class Stops(transformers.TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            if state.epoch:
                raise RuntimeError("lost")

    one, stops = recorder(tmp_path / "one"), Stops()
    trainer = trainer_of(tmp_path, one, stops, num_train_epochs=2)
    with pytest.raises(RuntimeError, match="lost"):
        trainer.train()
    assert state(one.path) == "running"
    trainer.remove_callback(stops)
    trainer.train()
    assert state(tmp_path / "one") == "failed"
    assert one.path == tmp_path / "one-2"
    assert state(one.path) == "completed"
    assert len(scalar(one.path, "loss")) == 12


def test_a_compiled_model_is_recorded_with_its_evaluations(tmp_path, fresh_graphs):
    one = recorder(tmp_path / "one")
    trainer_of(tmp_path, one, torch_compile=True, torch_compile_backend="aot_eager").train()
    run = dd.load(one.path)
    assert run.meta["warnings"] == []
    assert run.meta["steps"] == 6
    plain(tmp_path / "plain", model=Net(), reseed=True)
    expected, flow = dd.load(tmp_path / "plain"), "net_grad_abs_mean"
    assert run.select(flow)["value"].tolist() == pytest.approx(expected.select(flow)["value"].tolist(), rel=1e-4)
    samples = run.select("node_correlation_samples")
    assert set(samples["value"]) == {40.0}
    assert set(samples["phase"]) == {"eval"}


def test_a_checkpoint_names_the_run_that_is_gone_on_in(tmp_path):
    recorder_of = {"name": "auto", "config": {"condition": "Dropout", "seed": 3}}
    first = recorder(tmp_path / "runs", **recorder_of)
    trainer_of(tmp_path, first, save_strategy="steps", save_steps=4).train()
    checkpoint = tmp_path / "output" / "checkpoint-4"
    assert json.loads((checkpoint / "trainer_state.json").read_text())["stateful_callbacks"]["dropdiag"]["path"]

    second = recorder(tmp_path / "runs", **recorder_of)
    resumed = trainer_of(tmp_path, second, num_train_epochs=2)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert second.path == first.path == tmp_path / "runs" / "dropout-s3"
    run = dd.load(second.path)
    assert run.meta["sessions"][-1]["from_step"] == 4
    assert run.meta["steps"] == resumed.state.global_step == 12
    assert list(scalar(second.path, "loss")) == list(range(1, 13))
    trainer_of(tmp_path).train(resume_from_checkpoint=str(checkpoint))  # without the callback it loads all the same


def test_a_checkpoint_of_no_run_begins_one_and_says_so(tmp_path):
    trainer_of(tmp_path, save_strategy="steps", save_steps=4).train()
    trainer = trainer_of(tmp_path, recorder(tmp_path / "one"))
    with pytest.warns(DropdiagWarning, match="goes on at step 4, and no run is known to go on in"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "output" / "checkpoint-4"))
    assert list(scalar(tmp_path / "one", "loss")) == [1, 2]


def test_copies_and_pickles_hold_no_run(tmp_path):
    one = recorder(tmp_path / "one")

    class Twins(transformers.TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            recorded.assert_copies_hold_nothing(one)

    trainer_of(tmp_path, one, Twins(), max_steps=1).train()


def test_a_model_in_data_parallel_is_refused(tmp_path):
    trainer = trainer_of(tmp_path, recorder(tmp_path / "one"))
    trainer._wrap_model = lambda model, *args, **kwargs: nn.DataParallel(model) if trainer.is_in_train else model
    with pytest.raises(ArgumentError, match=r"is an nn\.DataParallel"):
        trainer.train()
    assert not (tmp_path / "one").exists()


def test_a_loop_of_ones_own_is_told_to_use_the_recorder(tmp_path):
    with pytest.raises(ArgumentError, match=r"a callback of a transformers\.Trainer"):
        recorder(tmp_path / "one").on_train_begin(None, transformers.TrainerState(), None, model=mlp())


def test_without_transformers(monkeypatch):
    recorded.assert_missing_is_told(monkeypatch, "transformers", "transformers", r"pip install 'transformers\[torch\]'")
