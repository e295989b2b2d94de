from __future__ import annotations

import json
import math

import pytest

from dropdiag.errors import ArgumentError
from dropdiag.experiments.images.train import ImageSettings
from dropdiag.experiments.mnist.train import MnistSettings
from dropdiag.experiments.plan import make_plan
from tests.described import write_meta
from tests.frozen.expect import RECORDED


def test_settings_survive_json():
    settings = ImageSettings("batch-norm + gaaf", 3, dataset="svhn", width=0.5, data="d", source="s", device="cuda")
    assert settings.condition == "Batch norm + GAAF"
    assert settings.lr == 0.05
    config = json.loads(json.dumps({**settings.config(), "unknown": 1}))
    assert ImageSettings.from_config(config) == settings
    assert ImageSettings.from_config(config).device == "cuda"
    assert ImageSettings("Base", 0, dataset="cifar10", optimizer="adam").lr == 1e-3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "imagenet"}, "unknown data set 'imagenet'"),
        ({"condition": "Dropin"}, "unknown condition 'Dropin'"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, got 'lion'"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"every": 0}, "every must be at least 1"),
        ({"record_epochs": 0}, "record_epochs must be at least 1"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1: batch norm"),
        ({"seed": -1}, "seed must not be negative"),
        ({"lr": math.inf}, "lr must be positive and finite"),
        ({"clip": 0.0}, "clip must be positive and finite"),
        ({"weight_decay": -1e-3}, "weight_decay must not be negative"),
        ({"width": 0.0}, "width must be positive"),
        ({"rate": 1.0}, r"rate must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_settings_are_refused(changes, words):
    with pytest.raises(ArgumentError, match=words):
        ImageSettings(**{"dataset": "cifar10", "condition": "Base", "seed": 0, **changes})


def test_the_learning_rate_rises_and_falls():
    settings = ImageSettings("Base", 0, dataset="cifar10", lr=0.1)
    rates = [settings.lr_at(step, 200) for step in range(1, 201)]
    assert rates[:10] == pytest.approx([0.01 * i for i in range(1, 11)])
    assert max(rates) == rates[9] == 0.1
    assert all(a > b > 0 for a, b in zip(rates[9:], rates[10:], strict=False))
    assert rates[104] == pytest.approx(0.05 * (1 + math.cos(math.pi * 95 / 191)))
    assert rates[-1] < 1e-4
    assert settings.lr_at(1, 1) == 0.1


def test_evaluations_recorded():
    settings = ImageSettings("Base", 0, dataset="cifar10", epochs=25, record_epochs=10)
    assert [epoch for epoch in range(1, 26) if settings.recorded(epoch)] == [10, 20, 25]


def test_a_folder_of_another_experiment_is_refused(tmp_path):
    def put(settings):
        path = tmp_path / "runs" / "gaaf-s0"
        path.mkdir(parents=True, exist_ok=True)
        meta = json.loads((RECORDED / "mlp" / "dropout-s0" / "run.json").read_text())
        meta |= {"state": "completed", "config": settings.config()}
        write_meta((path / "run.json"), meta)

    put(MnistSettings("GAAF", 0))
    with pytest.raises(ArgumentError, match="is a run that `dropdiag reproduce` did not make; choose another --out"):
        make_plan(tmp_path, [ImageSettings("GAAF", 0, dataset="cifar10")])
    put(ImageSettings("GAAF", 0, dataset="cifar10"))
    with pytest.raises(ArgumentError, match="dataset cifar10 there, svhn now"):
        make_plan(tmp_path, [ImageSettings("GAAF", 0, dataset="svhn")])
    plan = make_plan(tmp_path, [ImageSettings("GAAF", 0, dataset="cifar10", device="cuda", source="elsewhere")])
    assert len(plan.done) == 1
