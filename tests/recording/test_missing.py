"""What a measurement has not is in the run, with the reason: as a sentence, and as what programs read."""

from __future__ import annotations

import json

import torch
from torch import nn

import dropdiag as dd


def train(rec, model, steps=1):
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(torch.ones(8, 4)), torch.zeros(8, dtype=torch.long))
        loss.backward()
        rec.step(loss=loss)


def described(path):
    return json.loads((path / "run.json").read_text())


def direction(rec, **options):
    # all of one class, so that gradients agree and have a noise scale
    x, y = torch.ones(64, 4) + 0.1 * torch.arange(64.0)[:, None] / 64, torch.zeros(64, dtype=torch.long)
    return rec.measure("gradient_direction", x, nn.functional.cross_entropy, y, batches=4, **options)


def test_it_is_written_once_and_kept_by_a_run_that_goes_on(tmp_path):
    model, path = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), tmp_path / "run"
    with dd.Recorder(model, path) as rec:
        for _ in range(2):
            train(rec, model)
            found = direction(rec)
    lost = [value for value in found.values() if value.value is None]
    (told,) = described(path)["missing"]
    assert told["phase"] == "gradient_direction"
    assert told["of"] == [[value.quantity, value.layer] for value in lost]
    assert len(lost) == 3
    assert {told["why"]} == {value.why for value in lost}
    (sentence,) = described(path)["warnings"]
    assert sentence.startswith("gradient_direction: gradient_direction_variance_masks_on, ")
    assert sentence.endswith(told["why"])
    with dd.Recorder(model, path, resume=True) as rec:
        train(rec, model)
        direction(rec, phase="mine")
    assert [one["phase"] for one in described(path)["missing"]] == ["gradient_direction", "mine"]


def test_nothing_is_missing_where_all_is_there(tmp_path):
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))
    with dd.Recorder(model, tmp_path / "run") as rec:
        train(rec, model)
        direction(rec)
    assert described(tmp_path / "run")["missing"] == []
