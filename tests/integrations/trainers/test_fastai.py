"""fastai's Learner with the callback, beside the loop that everybody writes."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from tests.integrations.trainers import recorded
from tests.integrations.trainers.recorded import OPTIONS, assert_same, loader, plain, scalar, state
from tests.networks import mlp

learner = pytest.importorskip("fastai.learner")
core = pytest.importorskip("fastai.callback.core")
fp16 = pytest.importorskip("fastai.callback.fp16")
schedule = pytest.importorskip("fastai.callback.schedule")
tracker = pytest.importorskip("fastai.callback.tracker")
training = pytest.importorskip("fastai.callback.training")
data = pytest.importorskip("fastai.data.core")
load = pytest.importorskip("fastai.data.load")
torch_core = pytest.importorskip("fastai.torch_core")
optimizer = pytest.importorskip("fastai.optimizer")

pytestmark = pytest.mark.filterwarnings("ignore", "error::dropdiag.DropdiagWarning")


def recorder(path, **options):
    return dd.integrations.fastai.Recorder(path, **{**OPTIONS, **options})


class Seed(core.Callback):
    """The plain loop's masks: the same random numbers from the first training step on."""

    def before_batch(self):
        if self.training and self.train_iter == 0:
            torch.manual_seed(5)


class Quiet(core.Callback):
    order = 100

    def before_fit(self):
        self.learn.logger = core.noop


class Autocast(core.Callback):
    """MixedPrecision in bfloat16, which is fastai's for CUDA alone."""

    def before_batch(self):
        self.autocast = torch.autocast("cpu", torch.bfloat16)
        self.autocast.__enter__()

    def after_loss(self):
        self.autocast.__exit__(None, None, None)


def sgd(params, lr, **_):
    return optimizer.OptimWrapper(params, torch.optim.SGD, lr=lr, momentum=0.9)


def cross_entropy(prediction, target, reduction="mean"):
    return F.cross_entropy(prediction, target, reduction=reduction)


def accuracy(prediction, target):
    return (prediction.argmax(-1) == target).float().mean()


def fastais(number=6, seed=1, kind=None):
    """The same batches from fastai's own loader, which draws random numbers at the beginning of each epoch."""
    pairs = [(x, y) if kind is None else (kind(x), y) for x, y in loader(number, seed)]
    samples = [(x, y) for xs, ys in pairs for x, y in zip(xs, ys, strict=True)]
    return load.DataLoader(samples, bs=20, num_workers=0)


def learn(tmp_path, *callbacks, make=loader, **options):
    dls = data.DataLoaders(make(), make(2, seed=9), device="cpu")
    given = {"loss_func": cross_entropy, "opt_func": sgd, "lr": recorded.LR, "metrics": accuracy, "path": tmp_path}
    own = learner.Learner(dls, mlp(), cbs=[*callbacks, Seed(), Quiet()], **{**given, **options})
    return own.remove_cb(own.progress) if hasattr(own, "progress") else own


@pytest.mark.parametrize(
    ("trainers", "loops"),
    [
        ([], {}),
        ([training.GradientAccumulation(60), training.GradientClip(0.1)], {"accumulate": 3, "clip": 0.1}),
        ([Autocast()], {"autocast": True}),
    ],
    ids=["epochs", "accumulated-clipped", "bf16"],
)
def test_numbers_are_those_of_the_plain_loop_and_of_a_training_without(tmp_path, trainers, loops):
    one = recorder(tmp_path / "one")
    own = learn(tmp_path, one, *trainers)
    own.fit(2)
    bare = learn(tmp_path, *trainers)
    bare.fit(2)
    model, losses = plain(tmp_path / "plain", epochs=2, **loops)
    assert_same(tmp_path / "plain", one.path)
    found = scalar(one.path, "loss")
    assert list(found) == list(range(1, 1 + 12 // loops.get("accumulate", 1)))
    assert list(found.values()) == pytest.approx([loss.item() for loss in losses], rel=1e-6)
    if "accumulate" not in loops:
        assert list(found.values()) == [loss.item() for loss in losses]
    assert set(scalar(one.path, "lr").values()) == {recorded.LR}
    recorded.assert_same_weights(own.model, bare.model)
    recorded.assert_same_weights(own.model, model)
    assert state(one.path) == "completed"
    assert dd.load(one.path).meta["warnings"] == []
    assert recorded.bare_hooks(own.model)
    assert "_with_events" not in vars(own)


def test_what_is_told_of_an_epoch_comes_under_its_names(tmp_path):
    one = recorder(tmp_path / "one")
    own = learn(tmp_path, one, core.FetchPredsCallback(), make=fastais)
    own.fit(2)
    for place, (name, phase) in enumerate(
        (("train_loss", "train_epoch"), ("valid_loss", "eval"), ("accuracy", "eval"))
    ):
        assert scalar(one.path, name, phase) == {6: own.recorder.values[0][place], 12: own.recorder.values[1][place]}
    run = dd.load(one.path)
    assert "time" not in set(run.select()["quantity"])
    correlation = run.select("node_correlation_samples", layer="1")
    assert correlation["value"].tolist() == [40, 40]  # nothing of what others predict
    assert own.recorder is not one
    assert isinstance(own.recorder, learner.Recorder)


def test_what_is_no_training_is_no_run(tmp_path):
    one = recorder(tmp_path / "one")
    own = learn(tmp_path, one, make=fastais)
    own.validate()
    own.get_preds()
    own.lr_find(num_it=8, show_plot=False, suggest_funcs=None)
    assert one.path is None
    assert not (tmp_path / "one").exists()
    own.fit(1)
    assert dd.load(one.path).meta["steps"] == 6
    own.validate()
    assert one.path == tmp_path / "one"


class Validates(core.Callback):
    """Looks at other data in the midst of a fit, which tells every callback of a fit within the fit."""

    def after_validate(self):
        if not self.learn.lock.locked() and self.learn.training is False and not hasattr(self.learn, "looking"):
            self.learn.looking = True
            self.learn.validate(dl=fastais(3, seed=8))
            del self.learn.looking


def test_a_fit_within_the_fit_ends_nothing(tmp_path):
    one = recorder(tmp_path / "one")
    own = learn(tmp_path, one, Validates(), make=fastais)
    with pytest.warns(DropdiagWarning, match="eval-2"):
        own.fit(2)
    run = dd.load(one.path)
    assert one.path == tmp_path / "one"
    assert run.meta["steps"] == 12
    assert run.meta["state"] == "completed"
    correlation = run.select("node_correlation_samples", layer="1")
    assert dict(zip(correlation["phase"], correlation["value"], strict=True)) == {"eval": 40, "eval-2": 60}


def test_early_stopping_ends_the_run_well(tmp_path):
    one = recorder(tmp_path / "one")
    own = learn(tmp_path, one, tracker.EarlyStoppingCallback(min_delta=100.0, patience=1), tracker.SaveModelCallback())
    own.fit(5)
    assert state(one.path) == "completed"
    assert dd.load(one.path).meta["steps"] == 12
    assert list(scalar(one.path, "valid_loss", "eval")) == [6, 12]


class Fails(core.Callback):
    def __init__(self, error, during):
        self.error, self.during = error, during

    def before_batch(self):
        if self.during == ("training" if self.training else "validation") and (not self.training or self.iter == 3):
            raise self.error

    def after_epoch(self):
        if self.during == "epoch":
            raise self.error


@pytest.mark.parametrize("during", ["training", "validation", "epoch"])
@pytest.mark.parametrize(
    ("error", "ends"),
    [(RuntimeError("lost"), "failed"), (KeyboardInterrupt(), "interrupted")],
    ids=["error", "interrupt"],
)
def test_an_exception_closes_the_run_and_takes_the_hooks_off(tmp_path, during, error, ends):
    one = recorder(tmp_path / "one")
    own = learn(tmp_path, one, Fails(error, during))
    with pytest.raises(type(error)):
        own.fit(1)
    assert state(one.path) == ends
    assert dd.load(one.path).meta["steps"] == (3 if during == "training" else 6)
    assert ("eval" in set(dd.load(one.path).select()["phase"])) is (during == "epoch")
    assert recorded.bare_hooks(own.model)
    assert "_with_events" not in vars(own)


def test_a_cancelled_validation_keeps_what_it_saw(tmp_path):
    one = recorder(tmp_path / "one")
    learn(tmp_path, one, training.ShortEpochCallback(0.5)).fit(1)
    run = dd.load(one.path)
    assert run.meta["steps"] == 4
    assert run.select("node_correlation_samples", layer="1")["value"].tolist() == [40]
    assert state(one.path) == "completed"


def test_a_second_fit_begins_a_new_run_or_goes_on_where_an_epoch_does(tmp_path):
    one = recorder(tmp_path / "one")
    own = learn(tmp_path, one, training.GradientAccumulation(40), make=fastais)
    own.fit(1)
    own.fit(2, start_epoch=1)
    assert one.path == tmp_path / "one"
    assert list(scalar(one.path, "loss")) == [1, 2, 3, 4, 5, 6]
    assert len(dd.load(one.path).meta["sessions"]) == 2
    own.fit(1)
    assert one.path == tmp_path / "one-2"
    learn(tmp_path).fit(1, cbs=[one])
    assert one.path == tmp_path / "one-3"
    with pytest.raises(dd.DropdiagError, match="holds a run already"):
        learn(tmp_path, recorder(tmp_path / "one")).fit(1)


def test_a_checkpoint_goes_on_in_the_run_that_is_given(tmp_path):
    one = recorder(tmp_path / "one")
    own = learn(tmp_path, one, tracker.SaveModelCallback(every_epoch=True, with_opt=True))
    own.fit(2)
    again = learn(tmp_path, dd.integrations.fastai.Recorder(tmp_path / "one", resume=True))
    again.load("model_0")
    again.fit(3, start_epoch=1)
    run = dd.load(tmp_path / "one")
    assert run.meta["sessions"][-1]["from_step"] == 6
    assert run.meta["steps"] == 18
    with pytest.warns(DropdiagWarning, match="goes on at step 6, and no run is known to go on in"):
        learn(tmp_path, recorder(tmp_path / "lost")).fit(2, start_epoch=1)


def test_a_skipped_step_is_flagged(tmp_path):
    one = recorder(tmp_path / "one")

    class Scaled(fp16.MixedPrecision):
        """On the CPU, with a scale that overflows once."""

        def before_fit(self):
            self.autocast, self.learn.scaler = torch.autocast("cpu", enabled=False), torch.amp.GradScaler("cpu", 1024.0)
            self.scales = []

        def after_backward(self):
            if self.train_iter == 2:
                next(self.model.parameters()).grad[0, 0] = torch.inf

    own = learn(tmp_path, one, Scaled())
    own.fit(1)
    assert scalar(one.path, "step_skipped") == {1: 0, 2: 0, 3: 1, 4: 0, 5: 0, 6: 0}
    weights, gradient = scalar(one.path, "loss"), dd.load(one.path).select("net_grad_abs_mean", layer="1")["value"]
    assert len(weights) == 6
    plain(tmp_path / "plain")
    other = dd.load(tmp_path / "plain").select("net_grad_abs_mean", layer="1")["value"]
    assert gradient[:2].tolist() == other[:2].tolist()  # a power of two


class Twins(core.Callback):
    def after_epoch(self):
        one = self.learn.dropdiag_recorder
        recorded.assert_copies_hold_nothing(one)
        assert copy.deepcopy(one).learn.dropdiag_recorder._attached.recorder is None


def test_copies_and_pickles_hold_no_run(tmp_path):
    learn(tmp_path, recorder(tmp_path / "one"), Twins()).fit(1)


def test_an_exported_learner_predicts_and_trains(tmp_path):
    own = learn(tmp_path, recorder(tmp_path / "one"), make=fastais)
    own.fit(1)
    again = pickle.loads(pickle.dumps(own))  # noqa: S301 - our own
    again.get_preds()
    again.dropdiag_recorder._attached._where = tmp_path / "again"
    again.fit(1)
    assert dd.load(tmp_path / "again").meta["steps"] == 6


def test_images_of_fastais_own_type_are_read_as_the_learner_casts_them(tmp_path):
    one = recorder(tmp_path / "one")
    learn(tmp_path, one, make=partial(fastais, kind=torch_core.TensorImage)).fit(1)
    assert_same(tmp_path / "one", plain(tmp_path / "plain") and tmp_path / "plain")


def test_without_fastai(monkeypatch):
    recorded.assert_missing_is_told(monkeypatch, "fastai", "fastai.callback.core", "pip install fastai")


def test_the_module_is_what_the_learner_trains(tmp_path):
    own = learn(tmp_path, recorder(tmp_path / "one"))
    own.model = nn.DataParallel(own.model)
    with pytest.raises(dd.DropdiagError, match=r"the model is an nn\.DataParallel"):
        own.fit(1)
