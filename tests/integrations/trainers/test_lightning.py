"""Lightning's Trainer with the callback, beside the loop that everybody writes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from tests.integrations.trainers import recorded
from tests.integrations.trainers.recorded import OPTIONS, assert_same, loader, plain, scalar, state
from tests.networks import mlp
from tests.zoo import importable_torchvision  # noqa: F401 - before Lightning, which imports it where it is there

L = pytest.importorskip("lightning")

pytestmark = pytest.mark.filterwarnings("ignore", "error::dropdiag.DropdiagWarning")

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, number):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, number, dataloader_idx=0):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]), batch_size=20)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=recorded.LR, momentum=0.9)


class Seed(L.Callback):
    """The plain loop's masks: the same random numbers from the first training step on."""

    def on_train_start(self, trainer, module):
        torch.manual_seed(5)


def recorder(path, **options):
    return dd.integrations.lightning.Recorder(path, **{**OPTIONS, **options})


def fit(*callbacks, module=None, validate=True, again=None, ckpt_path=None, **options):
    module = Module() if module is None else module
    trainer = again or L.Trainer(
        callbacks=[*callbacks, Seed()], **{**QUIET, "max_epochs": 1, "enable_checkpointing": False, **options}
    )
    held_out = validate if isinstance(validate, list) else loader(2, seed=9) if validate else None
    trainer.fit(module, loader(), held_out, ckpt_path=ckpt_path)
    return module, trainer


@pytest.mark.parametrize(
    ("trainers", "loops"),
    [
        ({"max_epochs": 2}, {"epochs": 2}),
        ({"accumulate_grad_batches": 3, "gradient_clip_val": 0.1}, {"accumulate": 3, "clip": 0.1}),
        ({"precision": "bf16-mixed"}, {"autocast": True}),
    ],
    ids=["epochs", "accumulated-clipped", "bf16"],
)
def test_numbers_are_those_of_the_plain_loop_and_of_a_training_without(tmp_path, trainers, loops):
    one = recorder(tmp_path / "one")
    module, trainer = fit(one, **trainers)
    bare, _ = fit(**trainers)
    model, losses = plain(tmp_path / "plain", **loops)
    assert_same(tmp_path / "plain", one.path)
    assert list(scalar(one.path, "loss").values()) == [loss.item() for loss in losses]
    assert list(scalar(one.path, "loss")) == list(range(1, trainer.global_step + 1))
    recorded.assert_same_weights(module, bare)
    recorded.assert_same_weights(module.net, model)
    assert state(one.path) == "completed"
    assert dd.load(one.path).meta["warnings"] == []
    assert recorded.bare_hooks(module)


def test_what_is_logged_comes_under_its_own_name_once(tmp_path):
    one = recorder(tmp_path / "one")
    _, trainer = fit(one, max_epochs=2)
    assert scalar(one.path, "train_loss_step") == scalar(one.path, "loss")
    epochs = scalar(one.path, "train_loss_epoch", "train_epoch")
    losses = list(scalar(one.path, "loss").values())
    assert epochs == pytest.approx({6: sum(losses[:6]) / 6, 12: sum(losses[6:]) / 6})
    found = scalar(one.path, "val_loss", "eval")
    assert list(found) == [6, 12]  # and none of the sanity check
    assert found[12] == trainer.logged_metrics["val_loss"].item()
    assert set(dd.load(one.path).select("val_loss")["phase"]) == {"eval"}


class LogsLate(Module):
    """Logs in hooks of its own, which Lightning calls after those of callbacks."""

    def on_train_epoch_start(self):
        self.log("begun_at", float(self.trainer.global_step))

    def on_train_batch_end(self, outputs, batch, number):
        self.log("late", float(self.trainer.global_step))

    def on_train_epoch_end(self):
        self.log("epoch_at", float(self.trainer.global_step))

    def on_validation_epoch_end(self):
        self.log("eval_at", float(self.trainer.global_step))


@pytest.mark.parametrize("validation", [{}, {"val_check_interval": 2}], ids=["each-epoch", "mid-epoch"])
def test_what_the_modules_own_hooks_log_comes_at_the_step_that_it_is_of(tmp_path, validation):
    one = recorder(tmp_path / "one")
    fit(one, module=LogsLate(), max_epochs=2, **validation)
    assert scalar(one.path, "late") == {step: float(step) for step in range(1, 13)}
    assert scalar(one.path, "epoch_at", "train_epoch") == {6: 6.0, 12: 12.0}
    assert scalar(one.path, "begun_at", "train_epoch") == {6: 0.0, 12: 6.0}
    evaluated = (2, 4, 6, 8, 10, 12) if validation else (6, 12)
    assert scalar(one.path, "eval_at", "eval") == {step: float(step) for step in evaluated}
    found = dd.load(one.path).scalars
    for name, phase in (("late", "train"), ("epoch_at", "train_epoch"), ("eval_at", "eval"), ("val_loss", "eval")):
        assert set(found["phase"][found["quantity"] == name]) == {phase}
    assert not found.duplicated(["step", "phase", "layer", "call", "quantity"]).any()


def test_validation_in_mid_epoch_and_of_several_dataloaders(tmp_path):
    one = recorder(tmp_path / "one")
    fit(one, validate=[loader(2, seed=9), loader(3, seed=8)], val_check_interval=2)
    correlation = dd.load(one.path).select("node_correlation_samples", layer="1")
    found = {(row.step, row.phase): row.value for row in correlation.itertuples()}
    other = "eval_dataloader_idx_1"
    assert found == {(s, phase): n for s in (2, 4, 6) for phase, n in (("eval", 40), (other, 60))}
    assert dd.load(one.path).meta["warnings"] == []


def test_early_stopping_ends_the_run_well(tmp_path):
    one = recorder(tmp_path / "one")
    stop = L.pytorch.callbacks.EarlyStopping("val_loss", stopping_threshold=100.0)
    fit(one, stop, max_epochs=5)
    assert state(one.path) == "completed"
    assert dd.load(one.path).meta["steps"] == 6


class Fails(L.Callback):
    def __init__(self, error, during):
        self.error, self.during = error, during

    def on_train_batch_start(self, trainer, module, batch, number):
        if self.during == "training" and trainer.global_step == 3:
            raise self.error

    def on_validation_batch_end(self, trainer, module, *args):
        if self.during == "validation" and not trainer.sanity_checking:
            raise self.error


@pytest.mark.parametrize("during", ["training", "validation"])
@pytest.mark.parametrize(
    ("error", "ends", "raised"),
    [(RuntimeError("lost"), "failed", RuntimeError), (KeyboardInterrupt(), "interrupted", SystemExit)],
    ids=["error", "interrupt"],
)
def test_an_exception_closes_the_run_and_takes_the_hooks_off(tmp_path, monkeypatch, during, error, ends, raised):
    monkeypatch.setattr("signal.signal", lambda *args: None)  # Lightning would ignore interrupts from there on
    one, module = recorder(tmp_path / "one"), Module()
    with pytest.raises(raised):
        fit(one, Fails(error, during), module=module)
    assert state(one.path) == ends
    assert dd.load(one.path).meta["steps"] == (3 if during == "training" else 6)
    assert recorded.bare_hooks(module)


def test_a_second_fit_begins_a_new_run_or_goes_on_where_the_trainer_does(tmp_path):
    one = recorder(tmp_path / "one")
    module, trainer = fit(one)
    assert one.path == tmp_path / "one"
    trainer.fit_loop.max_epochs = 2
    fit(one, module=module, again=trainer)
    assert one.path == tmp_path / "one"
    assert list(scalar(one.path, "loss")) == list(range(1, 13))
    assert len(dd.load(one.path).meta["sessions"]) == 2
    fit(one)
    assert one.path == tmp_path / "one-2"
    assert_same(tmp_path / "one-2", plain(tmp_path / "plain") and tmp_path / "plain")


def test_a_checkpoint_names_the_run_that_is_gone_on_in(tmp_path):
    fit(recorder(tmp_path / "one"))  # another training, which took the name
    first = recorder(tmp_path / "one", name="auto", config={"condition": "Dropout", "seed": 3})
    _, trainer = fit(first, max_epochs=1, default_root_dir=tmp_path)
    assert first.path == tmp_path / "one" / "dropout-s3"
    trainer.save_checkpoint(tmp_path / "open.ckpt")
    saved = L.pytorch.callbacks.ModelCheckpoint(tmp_path, filename="step-{step}", every_n_train_steps=4)
    first = recorder(tmp_path / "runs", name="auto")
    fit(first, saved, enable_checkpointing=True)
    assert saved.best_model_path.endswith("step-step=4.ckpt")
    assert state(first.path) == "completed"

    second = recorder(tmp_path / "runs", name="auto")
    fit(second, ckpt_path=saved.best_model_path, max_epochs=2)
    assert second.path == first.path == tmp_path / "runs" / "run"
    run = dd.load(second.path)
    assert run.meta["sessions"][-1]["from_step"] == 4
    assert run.meta["steps"] == 12
    fit(ckpt_path=saved.best_model_path, max_epochs=2)  # without the callback it loads all the same

    named = dd.integrations.lightning.Recorder(tmp_path / "runs" / "run", resume=True)
    fit(named, ckpt_path=saved.best_model_path, max_epochs=2)
    assert dd.load(named.path).meta["sessions"][-1]["from_step"] == 4


def test_of_what_its_own_hook_logs_after_micro_batches_the_last_is_kept(tmp_path):
    one = recorder(tmp_path / "one")
    fit(one, module=LogsLate(), max_epochs=2, accumulate_grad_batches=4)
    assert scalar(one.path, "late") == {step: float(step) for step in range(1, 5)}
    assert scalar(one.path, "epoch_at", "train_epoch") == {2: 2.0, 4: 4.0}
    assert not dd.load(one.path).scalars.duplicated(["step", "phase", "layer", "call", "quantity"]).any()


def test_a_checkpoint_that_is_saved_after_the_fit_names_its_run(tmp_path):
    _, trainer = fit(recorder(tmp_path / "one"))
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    again = recorder(tmp_path / "one")
    fit(again, ckpt_path=tmp_path / "after.ckpt", max_epochs=2)
    assert again.path == tmp_path / "one"
    assert list(scalar(again.path, "loss")) == list(range(1, 13))


def test_a_checkpoint_that_an_exception_leaves_names_its_run(tmp_path):
    saved = L.pytorch.callbacks.OnExceptionCheckpoint(tmp_path)
    with pytest.raises(RuntimeError, match="lost"):
        fit(recorder(tmp_path / "one"), saved, Fails(RuntimeError("lost"), "training"), enable_checkpointing=True)
    again = recorder(tmp_path / "one")
    fit(again, ckpt_path=tmp_path / "on_exception.ckpt")
    assert again.path == tmp_path / "one"
    assert state(again.path) == "completed"
    assert list(scalar(again.path, "loss")) == list(range(1, 7))


def test_a_checkpoint_that_is_loaded_for_a_validation_is_not_what_the_next_fit_goes_on_from(tmp_path):
    _, other = fit()
    other.save_checkpoint(tmp_path / "other.ckpt")
    one = recorder(tmp_path / "one")
    module, trainer = fit(one)
    trainer.validate(module, loader(2, seed=9), ckpt_path=tmp_path / "other.ckpt", verbose=False)
    trainer.fit_loop.max_epochs = 2
    fit(one, module=module, again=trainer)
    assert one.path == tmp_path / "one"
    assert dd.load(one.path).meta["steps"] == 12


def test_a_checkpoint_of_no_run_begins_one_and_says_so(tmp_path):
    saved = L.pytorch.callbacks.ModelCheckpoint(tmp_path, filename="last")
    fit(saved, enable_checkpointing=True)
    with pytest.warns(DropdiagWarning, match="goes on at step 6, and no run is known to go on in"):
        fit(recorder(tmp_path / "one"), ckpt_path=tmp_path / "last.ckpt", max_epochs=2)
    assert list(scalar(tmp_path / "one", "loss")) == list(range(1, 7))


class Twins(L.Callback):
    def __init__(self, one):
        self.one = one

    def on_train_batch_end(self, *args):
        recorded.assert_copies_hold_nothing(self.one)


def test_copies_and_pickles_hold_no_run(tmp_path):
    one = recorder(tmp_path / "one")
    fit(one, Twins(one), max_steps=1)


class Gan(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.g, self.d = (nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12)) for _ in range(2))

    def forward(self, x):
        return self.d(self.g(x))

    def training_step(self, batch, number):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self(batch[0]).square().mean())
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.g, self.d)]


def test_a_step_of_manual_optimisation_is_a_batch(tmp_path):
    one = recorder(tmp_path / "one")
    _, trainer = fit(one, module=Gan(), validate=False)
    assert trainer.global_step == 12
    run = dd.load(one.path)
    assert run.meta["steps"] == 6
    assert run.select("weight_grad_abs_mean")["value"].notna().all()
    assert set(run.select("net_grad_abs_mean")["layer"]) >= {"g.1", "d.1"}


class Zeroed(Module):
    """Accumulates as Lightning's guide to manual optimisation has it, but for ``zero_grad()``."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, number):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.manual_backward(loss / 2)
        if number % 2:
            self.optimizers().step()
            self.optimizers().zero_grad()
        return {"loss": loss}


def test_gradients_that_manual_optimisation_has_zeroed_are_told(tmp_path):
    one = recorder(tmp_path / "one", strict=False)
    with pytest.warns(DropdiagWarning, match="before zero_grad"):
        fit(one, module=Zeroed(), validate=False)
    run = dd.load(one.path)
    assert run.meta["steps"] == 3
    assert run.select("weight_grad_abs_mean")["value"].isna().all()
    assert run.select("net_grad_abs_mean", layer="1")["value"].gt(0).all()


def test_a_loss_scaler_is_found(tmp_path):
    one, scaler = recorder(tmp_path / "one"), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    plugin = L.pytorch.plugins.MixedPrecision("16-mixed", "cpu", scaler)
    fit(one, plugins=[plugin])
    plain(tmp_path / "plain", autocast=True)
    flows = [dd.load(path).select("net_grad_abs_mean")["value"] for path in (one.path, tmp_path / "plain")]
    assert flows[0].tolist() == pytest.approx(flows[1].tolist(), rel=0.05)  # half beside bfloat16
    assert set(scalar(one.path, "step_skipped").values()) == {0.0}


def test_a_step_that_the_scaler_skips_is_flagged(tmp_path):
    one, scaler = recorder(tmp_path / "one"), torch.amp.GradScaler("cpu", init_scale=2.0**30, backoff_factor=2.0**-20)
    fit(one, plugins=[L.pytorch.plugins.MixedPrecision("16-mixed", "cpu", scaler)], validate=False)
    assert list(scalar(one.path, "step_skipped").values()) == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_a_compiled_part_is_recorded(tmp_path, fresh_graphs):
    module = Module()
    module.net.compile(backend="aot_eager")
    one = recorder(tmp_path / "one")
    fit(one, module=module)  # whose sanity check compiles it before it is recorded
    run = dd.load(one.path)
    assert run.meta["warnings"] == []
    plain(tmp_path / "plain")
    flows = [dd.load(path).select("net_grad_abs_mean")["value"] for path in (one.path, tmp_path / "plain")]
    assert flows[0].tolist() == pytest.approx(flows[1].tolist(), rel=1e-4)


class CallsItself(Module):
    def training_step(self, batch, number):
        return F.cross_entropy(self(batch[0]), batch[1])


class Alone(L.LightningModule):
    """Its one method calls itself, and ``forward`` does more than to call the part."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return torch.tanh(self.net(x))

    def training_step(self, batch, number):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=recorded.LR)


def test_where_methods_call_the_module_itself_it_is_recorded_with_what_forward_does(tmp_path):
    one = recorder(tmp_path / "one")
    fit(one, module=Alone(), validate=False)
    layers = set(dd.load(one.path).scalars["layer"].dropna())
    assert "net.1" in layers
    assert any(layer.startswith("net") and layer.endswith(":tanh") for layer in layers), layers


def test_where_forward_only_calls_the_part_and_steps_do_too_the_part_is_recorded(tmp_path):
    from dropdiag.integrations.lightning_parts import recorded_part

    for kind in (Module, CallsItself):
        whole = kind()
        assert recorded_part(whole) is whole.net
    whole = Alone()
    assert recorded_part(whole) is whole


@pytest.mark.parametrize("module", ["net", lambda whole: whole.net], ids=["name", "function"])
def test_a_part_can_be_named(tmp_path, module):
    fit(recorder(tmp_path / "one", module=module))
    assert_same(tmp_path / "one", plain(tmp_path / "plain") and tmp_path / "plain")


def test_a_part_that_is_not_there(tmp_path):
    with pytest.raises(ArgumentError, match="module= names no part of Module: got 'nett', it has net"):
        fit(recorder(tmp_path / "one", module="nett"))


def test_a_folder_that_holds_a_run_is_refused_before_training(tmp_path):
    fit(recorder(tmp_path / "one"))
    with pytest.raises(dd.DropdiagError, match="holds a run already"):
        fit(recorder(tmp_path / "one"))


def test_without_lightning(monkeypatch):
    recorded.assert_missing_is_told(monkeypatch, "lightning", "lightning.pytorch", "pip install lightning")
