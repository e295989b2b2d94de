from __future__ import annotations

import numpy as np
import pytest
import torch

from dropdiag.analysis import learning
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.recorder import Recorder
from dropdiag.store.reader import load
from tests.synthetic import content, write


def test_curves_are_means_over_seeds(runs) -> None:
    frame = learning.curves(runs, "accuracy", conditions=["GAAF"])
    raw = np.array([content("GAAF", s).accuracy for s in range(3)])
    np.testing.assert_allclose(frame["value"], raw.mean(axis=0))
    np.testing.assert_allclose(frame["high"] - frame["value"], raw.std(axis=0, ddof=1))
    assert list(frame["step"]) == list(range(20, 201, 20))
    assert set(frame["phase"]) == {"eval"}
    binned = learning.curves(runs, "loss", conditions=["GAAF"], bins=10)
    losses = np.array([content("GAAF", s).loss for s in range(3)])
    np.testing.assert_allclose(binned["value"], losses.reshape(3, 10, 20).mean(axis=(0, 2)))


def test_best_value_and_when(runs) -> None:
    table = learning.best(runs).set_index("condition")
    raw = np.array([content("Dropout", s).accuracy for s in range(3)])
    row = table.loc["Dropout"]
    assert row["best"] == pytest.approx(raw.max(axis=1).mean())
    assert row["evaluation"] == pytest.approx((raw.argmax(axis=1) + 1).mean())
    assert row["step"] == pytest.approx(20 * row["evaluation"])
    assert row["final"] == pytest.approx(raw[:, -1].mean())
    assert row["best_sd"] == pytest.approx(raw.max(axis=1).std(ddof=1))
    least = learning.best(runs, "loss", phase="train", mode="min").set_index("condition")
    losses = [content("Dropout", s).loss.min() for s in range(3)]
    assert least.loc["Dropout", "best"] == pytest.approx(np.mean(losses))


def test_another_scalar_may_decide(tmp_path) -> None:
    validation = {0: [0.1, 0.7, 0.7, 0.2], 1: [0.9, 0.3, np.nan, 0.4]}
    tested = {0: [0.5, 0.6, 0.8, 0.9], 1: [0.3, 0.8, 0.7, 0.6]}
    for seed in (0, 1):
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh())
        with Recorder(model, tmp_path / str(seed), config={"condition": "A", "seed": seed}) as rec:
            for a, b in zip(validation[seed], tested[seed], strict=True):
                model(torch.ones(1, 2)).sum().backward()
                rec.step()
                rec.log(accuracy=b)
                rec.log(validation_accuracy=a)
    row = learning.best(load([tmp_path / "0", tmp_path / "1"]), by="validation_accuracy").iloc[0]
    assert row["best"] == pytest.approx(
        (0.6 + 0.3) / 2
    )  # the first of two equal ones, and what the test set says there
    assert row["evaluation"] == pytest.approx((2 + 1) / 2)
    assert row["final"] == pytest.approx((0.9 + 0.6) / 2)


def test_nan_is_never_the_best_nor_zero(tmp_path) -> None:
    made = content("GAAF", 0)
    made.accuracy[3:] = np.nan
    run = load(write(tmp_path / "a", made, "GAAF", 0))
    row = learning.best(run).iloc[0]
    assert row["best"] == pytest.approx(made.accuracy[:3].max())
    assert np.isnan(row["final"])
    assert row["missing"] == 1
    assert learning.curves(run, "accuracy")["seeds"].tolist() == [1, 1, 1]
    made.accuracy[:] = np.nan
    gone = learning.best(load(write(tmp_path / "b", made, "GAAF", 0))).iloc[0]
    assert np.isnan(gone["best"])


def test_wrong_questions_are_refused(runs) -> None:
    with pytest.raises(ArgumentError, match="mode must be 'max' or 'min', got 'most'"):
        learning.best(runs, mode="most")
    with pytest.raises(NotRecordedError, match="no run holds 'perplexity'"):
        learning.curves(runs, "perplexity")
    with pytest.raises(NotRecordedError, match="belongs to layers"):
        learning.curves(runs, "net_grad_abs_mean")


def test_steps_are_in_order_when_the_seeds_were_evaluated_at_different_ones(tmp_path) -> None:
    paths = []
    for seed, count in ((0, 10), (1, 8)):
        made = content("GAAF", seed)
        made.accuracy = made.accuracy[:count]
        paths.append(write(tmp_path / f"s{seed}", made, "GAAF", seed))
    paths.append(write(tmp_path / "other", content("Dropout", 0), "Dropout", 0))
    frame = learning.curves(load(paths), "accuracy")
    assert list(frame["condition"].unique()) == ["GAAF", "Dropout"]
    steps = frame.loc[frame["condition"] == "GAAF", "step"].tolist()
    assert steps == sorted({*range(20, 201, 20), *range(25, 201, 25)})
