from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.images import train as training
from dropdiag.experiments.images.augment import EpochPlan, Normaliser, cropped
from dropdiag.experiments.images.network import CONDITIONS, build, layers
from dropdiag.experiments.images.train import EVALUATION_BATCH, ImageSettings, device_named, train
from dropdiag.experiments.training import evaluate
from tests.experiments.image_files import published, write

TINY = {"epochs": 3, "batch_size": 25, "width": 0.06, "every": 4, "record_epochs": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_images("cifar10", write(tmp_path_factory.mktemp("cifar"), published("cifar10")))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("runs")
    told = {}
    for condition in CONDITIONS:
        told[condition] = []
        path = folder / condition.replace(" ", "")
        train(
            ImageSettings(condition, 0, dataset="cifar10", **TINY),
            data,
            path,
            lambda *t, c=condition: told[c].append(t),
        )
    return dd.load(sorted(folder.iterdir())), told


def test_every_quantity_is_recorded_where_it_is_due(runs):
    for run in runs[0]:
        scalars = run.scalars
        flow = scalars[scalars["quantity"] == "net_grad_abs_mean"]
        assert set(flow["layer"]) == set(layers().activations)
        assert sorted(flow["step"].unique()) == list(range(1, 13))
        assert (flow["value"] > 0).all()
        accuracy = scalars[scalars["quantity"] == "accuracy"]
        assert (accuracy["step"].tolist(), accuracy["phase"].unique().tolist()) == ([4, 8, 12], ["eval"])
        correlation = scalars[(scalars["quantity"] == "node_correlation_abs_mean") & (scalars["phase"] == "eval")]
        assert sorted(correlation["step"].unique()) == [8, 12]
        for name in layers().weights:
            assert run.histogram("weight", name, step=12).n > 0
        for name in layers().activations:
            assert run.histogram("net_value", name, step=8, phase="eval").n_finite > 0


def test_progress_tells_every_step_and_every_accuracy(runs):
    for told in runs[1].values():
        assert [step for step, accuracy in told if accuracy is None] == list(range(1, 13))
        assert [step for step, accuracy in told if accuracy is not None] == [4, 8, 12]
        assert all(0 <= accuracy <= 1 for _, accuracy in told if accuracy is not None)


def test_losses_are_those_of_the_recipe_written_by_hand(runs, data):
    """The same training without Recorder, clipping and schedule as formulas."""
    run = next(run for run in runs[0] if run.condition == "Base")
    recorded = run.scalars.query("quantity == 'loss'")["value"].to_numpy()
    model = build("Base", 10, 0, width=0.06)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    generator, normalise, step, losses = torch.Generator().manual_seed(0), Normaliser.of(data.train_images), 0, []
    for _ in range(3):
        order = torch.randperm(100, generator=generator).view(4, 25)
        for batch, shift, mirrored in EpochPlan.draw(order, generator, flip=True):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = 0.05 if step == 1 else 0.025 * (1 + np.cos(np.pi * (step - 1) / 12))
            inputs = normalise(cropped(data.train_images[batch], shift, mirrored))
            loss = F.cross_entropy(model(inputs), data.train_labels[batch])
            optimizer.zero_grad()
            loss.backward()
            norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
            for parameter in model.parameters():
                parameter.grad *= min(1.0, 1.0 / (norm.item() + 1e-6))
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(recorded, losses, rtol=2e-4)


def test_conditions_of_a_seed_see_the_same_batches(tmp_path, data, monkeypatch):
    seen = {}
    original = training.cropped

    def remember(images, shift, mirrored):
        seen.setdefault(condition, []).append(original(images, shift, mirrored).sum().item())
        return original(images, shift, mirrored)

    monkeypatch.setattr(training, "cropped", remember)
    for condition in ("Base", "Batch norm + GAAF"):
        train(ImageSettings(condition, 1, dataset="cifar10", **{**TINY, "epochs": 1}), data, tmp_path / condition[:4])
    assert seen["Base"] == seen["Batch norm + GAAF"]
    assert len(set(seen["Base"])) == 4


@pytest.mark.parametrize("changes", [{"amp": True}, {"optimizer": "adam"}, {"batch_size": 1000}])
def test_other_settings_train_too(tmp_path, data, changes):
    train(
        ImageSettings("Batch norm + GAAF", 0, dataset="cifar10", **{**TINY, "epochs": 1, **changes}),
        data,
        tmp_path / "run",
    )
    run = dd.load(tmp_path / "run")
    assert np.isfinite(run.scalars.query("quantity == 'loss'")["value"]).all()
    assert run.meta["state"] == "completed"


def test_it_learns(tmp_path, data):
    """Ten labels that a bright row tells; chance is 0.1."""
    accuracies = []
    settings = ImageSettings(
        "Batch norm", 0, dataset="cifar10", epochs=12, batch_size=20, width=0.15, every=1000, record_epochs=99
    )
    train(settings, data, tmp_path / "run", lambda _, accuracy: accuracies.append(accuracy))
    assert accuracies[-1] > 0.4


def test_evaluation_is_that_of_numpy_and_leaves_the_mode(data):
    model = build("Batch norm", 10, 0, width=0.06).train()
    normalise = Normaliser.of(data.train_images)
    accuracy, loss = evaluate(
        model, lambda x: model(normalise(x)), data.test_images, data.test_labels, EVALUATION_BATCH
    )
    assert model.training
    logits = model.eval()(normalise(data.test_images)).detach().double()
    right = logits.numpy().argmax(1) == data.test_labels.numpy()
    assert accuracy == pytest.approx(right.mean())
    assert loss == pytest.approx(nn.CrossEntropyLoss()(logits, data.test_labels).item(), rel=1e-5)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_named("auto") == "cpu"
    with pytest.raises(ArgumentError, match="device 'cuda' is not here; use --device auto"):
        device_named("cuda")
    with pytest.raises(ArgumentError, match="device must be one of auto, cuda, mps, cpu, got 'tpu'"):
        device_named("tpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_named("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_named("auto") == "cuda"
