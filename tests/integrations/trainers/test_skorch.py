"""skorch's nets with the callback, beside the loop that everybody writes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from tests.integrations.trainers import recorded
from tests.integrations.trainers.recorded import OPTIONS, assert_same, loader, plain, scalar, state
from tests.networks import batches, mlp

skorch = pytest.importorskip("skorch")
callbacks = pytest.importorskip("skorch.callbacks")
helper = pytest.importorskip("skorch.helper")
model_selection = pytest.importorskip("sklearn.model_selection")
sklearn = pytest.importorskip("sklearn.base")

pytestmark = pytest.mark.filterwarnings("ignore", "error::dropdiag.DropdiagWarning")

X, Y = (torch.cat(parts).numpy() for parts in zip(*batches(6), strict=True))
HELD_OUT = skorch.dataset.Dataset(*(torch.cat(parts).numpy() for parts in zip(*batches(2, seed=9), strict=True)))


def recorder(path, **options):
    return dd.integrations.skorch.Recorder(path, **{**OPTIONS, **options})


class Seed(callbacks.Callback):
    """The plain loop's masks: the same random numbers from the first training step on."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 1:
            torch.manual_seed(5)


class Mlp(nn.Module):
    """A network that a net builds, and that leaves the random numbers to the training."""

    def __init__(self, p=0.5):
        super().__init__()
        self.net = mlp()
        for part in self.net:
            if isinstance(part, nn.Dropout):
                part.p = p

    def forward(self, x):
        return self.net(x)


class Accumulating(skorch.NeuralNetClassifier):
    """As skorch's own answers to questions have it, which zero gradients within a training step."""

    every = 3

    def get_loss(self, *args, **kwargs):
        loss = super().get_loss(*args, **kwargs)
        return loss / self.every if self.module_.training else loss

    def train_step(self, batch, **fit_params):
        step = self.train_step_single(batch, **fit_params)
        if len(self.history[-1, "batches"]) % self.every == 0:
            torch.nn.utils.clip_grad_norm_(self.module_.parameters(), 0.1)
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


class Autocast(skorch.NeuralNetClassifier):
    def infer(self, *args, **kwargs):
        with torch.autocast("cpu", torch.bfloat16):
            return super().infer(*args, **kwargs).float()  # as the loss takes it under autocast


def quiet(*args, **kwargs):
    """A loader that draws nothing from torch's own generator, as that of the plain loop."""
    return DataLoader(*args, generator=torch.Generator(), **kwargs)


def net(*own, kind=skorch.NeuralNetClassifier, **options):
    """A net whose training is the plain loop's."""
    given = {
        "module": mlp(),
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "lr": recorded.LR,
        "batch_size": 20,
        "iterator_train": quiet,
        "iterator_valid": quiet,
        "max_epochs": 1,
        "train_split": helper.predefined_split(HELD_OUT),
        "callbacks": [*own, Seed()],
        "verbose": 0,
    }
    return kind(**{**given, **options})


@pytest.mark.parametrize(
    ("kind", "loops"),
    [
        (skorch.NeuralNetClassifier, {}),
        (Accumulating, {"accumulate": 3, "clip": 0.1}),
        (Autocast, {"autocast": True}),
    ],
    ids=["epochs", "accumulated-clipped", "bf16"],
)
def test_numbers_are_those_of_the_plain_loop_and_of_a_training_without(tmp_path, kind, loops):
    one = recorder(tmp_path / "one")
    fitted = net(one, kind=kind, max_epochs=2).fit(X, Y)
    bare = net(kind=kind, max_epochs=2).fit(X, Y)
    model, losses = plain(tmp_path / "plain", epochs=2, **loops)
    assert_same(tmp_path / "plain", one.path_)
    parts = loops.get("accumulate", 1)
    found = scalar(one.path_, "loss")
    assert list(found) == list(range(1, 1 + 12 // parts))
    told = [batch["train_loss"] for epoch in fitted.history for batch in epoch["batches"] if "train_loss" in batch]
    assert list(found.values()) == pytest.approx(np.reshape(told, (-1, parts)).mean(axis=1), rel=1e-6)
    if parts == 1:
        assert list(found.values()) == [loss.item() for loss in losses]
    recorded.assert_same_weights(fitted.module_, bare.module_)
    recorded.assert_same_weights(fitted.module_, model)
    for epoch, other in zip(fitted.history, bare.history, strict=True):
        assert {n: v for n, v in epoch.items() if n not in ("dur", "batches")}.items() <= other.items()
    assert state(one.path_) == "completed"
    assert dd.load(one.path_).meta["warnings"] == []
    assert recorded.bare_hooks(fitted.module_)
    assert not fitted.optimizer_._optimizer_step_post_hooks
    assert "fit_loop" not in vars(fitted)


def test_what_the_history_tells_comes_under_its_names(tmp_path):
    one = recorder(tmp_path / "one", config={"seed": 3})
    late = callbacks.EpochScoring("accuracy", name="late", use_caching=False)
    fitted = net(one, late, max_epochs=2).fit(X, Y)
    for name, phase in (("valid_loss", "eval"), ("valid_acc", "eval"), ("late", "eval"), ("train_loss", "train_epoch")):
        assert scalar(one.path_, name, phase) == {6: fitted.history[0, name], 12: fitted.history[1, name]}
    run = dd.load(one.path_)
    assert not {"dur", "epoch", "train_batch_count", "valid_loss_best"} & set(run.select()["quantity"])
    correlation = run.select("node_correlation_samples", layer="1")
    assert correlation["value"].tolist() == [40, 40]  # nothing of what others predict
    assert run.meta["config"]["seed"] == 3
    assert run.meta["config"]["net"]["lr"] == recorded.LR


def test_early_stopping_ends_the_run_well(tmp_path):
    one = recorder(tmp_path / "one")
    stop = callbacks.EarlyStopping(patience=1, threshold=100.0, threshold_mode="abs", load_best=True)
    fitted = net(stop, one, max_epochs=5).fit(X, Y)
    assert state(one.path_) == "completed"
    assert dd.load(one.path_).meta["steps"] == 12
    assert list(scalar(one.path_, "valid_loss", "eval")) == [6, 12]
    assert len(fitted.history) == 2


class Fails(callbacks.Callback):
    def __init__(self, error, training):
        self.error, self.training = error, training

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training is self.training and (not training or len(net.history[-1, "batches"]) == 4):
            raise self.error


@pytest.mark.parametrize("training", [True, False], ids=["training", "validation"])
def test_an_exception_closes_the_run_and_takes_the_hooks_off(tmp_path, training):
    one = recorder(tmp_path / "one")
    failing = net(one, Fails(RuntimeError("lost"), training))
    with pytest.raises(RuntimeError, match="lost"):
        failing.fit(X, Y)
    check_cut_short(one, failing, "failed", training)


@pytest.mark.parametrize("training", [True, False], ids=["training", "validation"])
def test_an_interrupt_that_the_net_keeps_to_itself(tmp_path, training):
    one = recorder(tmp_path / "one")
    stopped = net(one, Fails(KeyboardInterrupt(), training)).fit(X, Y)
    check_cut_short(one, stopped, "interrupted", training)


class Refuses(callbacks.Callback):
    def on_train_begin(self, net, **kwargs):
        raise ValueError("not yet")


def test_a_fit_that_does_not_begin_leaves_the_next_one_whole(tmp_path):
    one = recorder(tmp_path / "one")
    refused = net(one, Refuses())
    with pytest.raises(ValueError, match="not yet"):
        refused.fit(X, Y)
    assert one.path_ is None
    refused.set_params(callbacks__Refuses=None).fit(X, Y)
    assert state(one.path_) == "completed"
    assert "fit_loop" not in vars(refused)


def check_cut_short(one, net, ends, training):
    assert state(one.path_) == ends
    assert dd.load(one.path_).meta["steps"] == (3 if training else 6)
    assert "eval" not in set(dd.load(one.path_).select()["phase"])
    assert recorded.bare_hooks(net.module_)
    assert not net.optimizer_._optimizer_step_post_hooks


def test_a_second_fit_begins_a_new_run_and_a_partial_one_goes_on(tmp_path):
    one = recorder(tmp_path / "one")
    fitted = net(one).fit(X, Y)
    fitted.partial_fit(X, Y)
    assert one.path_ == tmp_path / "one"
    assert list(scalar(one.path_, "loss")) == list(range(1, 13))
    assert len(dd.load(one.path_).meta["sessions"]) == 2
    fitted.set_params(module=mlp(), callbacks__Recorder__every=3).fit(X, Y)
    assert one.path_ == tmp_path / "one-2"
    weights = dd.load(one.path_).select("weight_grad_abs_mean", layer="0")
    assert weights["step"].tolist() == [1, 2, 3, 4, 5, 6]
    fitted.set_params(callbacks__Recorder__path=tmp_path / "other").fit(X, Y)
    assert one.path_ == tmp_path / "other"
    with pytest.raises(dd.DropdiagError, match="holds a run already"):
        net(recorder(tmp_path / "one")).fit(X, Y)


def test_a_checkpoint_names_the_run_that_is_gone_on_in(tmp_path):
    net(recorder(tmp_path / "one")).fit(X, Y)  # another training, which took the name
    first = recorder(tmp_path / "one", name="auto", config={"condition": "Dropout", "seed": 3})
    saved = callbacks.Checkpoint(dirname=tmp_path / "saved", monitor=None, f_pickle="net.pkl")
    net(first, saved, kind=Accumulating, max_epochs=2).fit(X, Y)
    assert first.path_ == tmp_path / "one" / "dropout-s3"

    second = recorder(tmp_path / "one", name="auto")
    loads = callbacks.LoadInitState(saved)
    net(second, loads, kind=Accumulating).fit(X, Y)
    assert second.path_ == first.path_
    run = dd.load(second.path_)
    assert run.meta["sessions"][-1]["from_step"] == 4
    assert run.meta["steps"] == 6

    pickled = pickle.loads((tmp_path / "saved" / "net.pkl").read_bytes())  # noqa: S301 - our own
    pickled.partial_fit(X, Y)
    assert dict(pickled.callbacks_)["Recorder"].path_ == first.path_
    assert dd.load(first.path_).meta["sessions"][-1]["from_step"] == 4


def test_a_history_of_no_run_begins_one_and_says_so(tmp_path):
    trained = net().fit(X, Y)
    trained.callbacks = [recorder(tmp_path / "one")]
    trained.initialize_callbacks()
    with pytest.warns(DropdiagWarning, match="goes on at step 6, and no run is known to go on in"):
        trained.partial_fit(X, Y)
    assert list(scalar(tmp_path / "one", "loss")) == list(range(1, 7))


class Twins(callbacks.Callback):
    def on_batch_end(self, net, **kwargs):
        one = dict(net.callbacks_)["Recorder"]
        assert one.attached_.recorder is not None
        twins = (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), sklearn.clone(one))  # noqa: S301 - our own
        for twin in (*twins, dict(copy.deepcopy(net).callbacks_)["Recorder"]):
            assert twin.attached_.recorder is None
            assert twin.path_ is None
            assert twin.get_params() == one.get_params()
        assert set(sklearn.clone(net).get_params(deep=False)) == set(net.get_params(deep=False))


def test_copies_pickles_and_clones_hold_no_run(tmp_path):
    net(recorder(tmp_path / "one"), Twins()).fit(X[:40], Y[:40])


def test_every_fit_of_a_search_is_a_run(tmp_path):
    one = recorder(tmp_path / "runs", name="auto", probes="light")
    searched = net(one, module=Mlp, max_epochs=1, train_split=None)
    search = model_selection.GridSearchCV(searched, {"module__p": [0.0, 0.5]}, cv=2, scoring="accuracy")
    search.fit(X, Y)
    runs = [dd.load(path) for path in sorted((tmp_path / "runs").iterdir())]
    assert [run.path.name for run in runs] == ["run", "run-2", "run-3", "run-4", "run-5"]
    rates = sorted(run.meta["config"]["net"]["module__p"] for run in runs)
    assert rates in ([0.0, 0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5, 0.5])
    assert all(run.meta["state"] == "completed" for run in runs)
    assert one.path_ is None


class Two(skorch.NeuralNetClassifier):
    """Two modules with an optimiser each, the second of which steps every other time."""

    def initialize_module(self):
        super().initialize_module()
        self.other_ = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
        return self

    def initialize_optimizer(self):
        self.optimizer_, self.slow_ = (
            torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.module_, self.other_)
        )
        return self

    def train_step(self, batch, **fit_params):
        self._zero_grad_optimizer()
        x, y = batch
        loss = F.cross_entropy(self.other_(self.module_(x)), y)
        loss.backward()
        self.optimizer_.step()
        if len(self.history[-1, "batches"]) % 2 == 0:
            self.slow_.step()
        return {"loss": loss, "y_pred": None}


@pytest.mark.parametrize("module", ["module", "other"])
def test_a_step_of_several_optimisers_is_a_batch(tmp_path, module):
    one = recorder(tmp_path / "one", module=module)
    net(one, kind=Two, train_split=None).fit(X, Y)
    run = dd.load(one.path_)
    assert run.meta["steps"] == 6
    assert list(scalar(one.path_, "loss")) == [1, 2, 3, 4, 5, 6]
    assert run.select("weight_grad_abs_mean")["value"].notna().all()
    assert run.meta["warnings"] == []


def test_an_accelerated_net(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    hf = pytest.importorskip("skorch.hf")

    class Accelerated(hf.AccelerateMixin, skorch.NeuralNetClassifier):
        pass

    one = recorder(tmp_path / "one")
    net(one, kind=Accelerated, accelerator=accelerate.Accelerator(cpu=True), device=None).fit(X, Y)
    assert_same(tmp_path / "one", plain(tmp_path / "plain") and tmp_path / "plain")
    two = recorder(tmp_path / "two")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=3)
    net(two, kind=Accelerated, accelerator=accelerator, device=None).fit(X, Y)
    assert dd.load(two.path_).meta["steps"] == 2


def test_an_option_that_there_is_not():
    with pytest.raises(ArgumentError, match="a Recorder takes no evry; it takes name, probes, every, "):
        recorder("runs/x", evry=3)


def test_without_skorch(monkeypatch):
    recorded.assert_missing_is_told(monkeypatch, "skorch", "skorch", "pip install skorch")


def test_the_data_are_the_plain_loops():
    assert np.array_equal(X, torch.cat([x for x, _ in loader()]).numpy())
