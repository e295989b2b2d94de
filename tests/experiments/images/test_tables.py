from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from torch import nn

import dropdiag as dd
from dropdiag.experiments import paper
from dropdiag.experiments.cells import printed, signed
from dropdiag.experiments.images.experiment import accuracies, sections
from dropdiag.experiments.images.figures import points
from dropdiag.experiments.images.network import CONDITIONS
from dropdiag.experiments.tables import paired_difference


def final(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["condition", "seed", "accuracy"])


def test_differences_are_paired_by_seed_with_the_interval_of_scipy():
    frame = final(
        ("Base", 0, 80.0), ("Base", 1, 82.0), ("Base", 2, 81.5), ("Base", 7, 10.0),
        ("GAAF", 2, 82.0), ("GAAF", 0, 81.0), ("GAAF", 1, 82.2), ("GAAF", 9, 99.0),
    )  # fmt: skip
    mean, low, high, pairs = paired_difference(frame, "GAAF", "Base")
    difference = np.array([1.0, 0.2, 0.5])
    expected = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
    assert (mean, low, high, pairs) == (pytest.approx(difference.mean()), *map(pytest.approx, expected), 3)


def test_one_pair_has_no_interval_and_none_has_nothing():
    frame = final(("Base", 0, 80.0), ("GAAF", 0, 81.0), ("Batch norm", 1, 90.0))
    mean, low, high, pairs = paired_difference(frame, "GAAF", "Base")
    assert (mean, pairs) == (pytest.approx(1.0), 1)
    assert np.isnan([low, high]).all()
    mean, *_, pairs = paired_difference(frame, "Batch norm", "Base")
    assert np.isnan(mean)
    assert pairs == 0


def test_the_papers_numbers_are_consistent_with_each_other():
    for dataset, values in paper.IMAGE_ACCURACY.items():
        assert list(values) == list(CONDITIONS)
        for name, without in (("GAAF", "Base"), ("Batch norm + GAAF", "Batch norm")):
            assert round(values[name] - values[without], 2) == paper.IMAGE_GAIN[dataset][name]


def test_signed():
    assert [signed(x) for x in (1.234, -0.5, 0.001, -0.001, float("nan"))] == ["+1.23", "−0.50", "0.00", "0.00", "–"]


def test_points_show_every_seed_the_mean_and_the_paper():
    frame = final(("Base", 0, 80.0), ("Base", 1, 82.0), ("GAAF", 0, 81.0))
    ax = points(frame, {"Base": 89.5, "GAAF": 90.0})
    drawn = [line.get_ydata().tolist() for line in ax.lines]
    assert drawn == [[80.0, 82.0], [89.5], [81.0], [90.0]]
    bars = [collection.get_segments()[0][:, 1].tolist() for collection in ax.collections]
    assert bars == [[81.0, 81.0], [81.0, 81.0]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Base", "GAAF"]


def test_a_table_of_runs(tmp_path):

    truth = {"Base": (0.80, 0.82), "GAAF": (0.81, 0.85)}
    for condition, values in truth.items():
        for seed, value in enumerate(values):
            config = {"condition": condition, "seed": seed}
            with dd.Recorder(nn.Linear(2, 2), tmp_path / f"{condition}-{seed}", config=config, probes="weights") as rec:
                for accuracy in (0.9, value):
                    rec.step(loss=1.0)
                    rec.log(accuracy=accuracy)
    runs = dd.load({name: str(tmp_path / f"{name}-*") for name in truth})
    frame = accuracies(runs, "svhn")
    assert frame["condition"].tolist() == ["Base", "GAAF"]
    assert frame["final_accuracy"].tolist() == pytest.approx([81.0, 83.0])
    assert frame["final_accuracy_sd"].tolist() == pytest.approx([np.sqrt(2.0), np.sqrt(8.0)])
    assert frame["best_accuracy"].tolist() == pytest.approx([90.0, 90.0])
    assert frame["best_epoch"].tolist() == [1.0, 1.0]
    assert frame["gain"].tolist()[1] == frame["difference"].tolist()[1] == pytest.approx(2.0)
    half = stats.t.ppf(0.975, 1) * np.std([1.0, 3.0], ddof=1) / np.sqrt(2)
    assert frame["gain_high"].tolist()[1] == pytest.approx(2.0 + half)
    assert frame["paper_accuracy"].tolist() == [92.03, 92.19]
    assert frame["paper_gain"].tolist()[1] == 0.16
    section = sections("svhn")[0]
    base, gaaf = printed(frame, section.columns)
    assert base[:5] == ["Base", "81.00 (1.41)", "–", "–", "–"]
    assert gaaf[:5] == ["GAAF", "83.00 (2.83)", "+2.00 [−10.71, +14.71]", "+2.00 [−10.71, +14.71]", "2"]
    assert section.at_a_glance(frame) == ("final accuracy:", "Base 81.00 %", "GAAF 83.00 % (+2.00 by GAAF)")
