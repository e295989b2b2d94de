"""Claim (l): the lower the rate, the less net variance and the less gradient; of runs whose slopes are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis.comparison import Comparison, compare
from dropdiag.store.reader import load
from tests.analysis.dose_response.sweeps import net_variance, sweep


def compared(folder: Path, rates: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5), **options: Any) -> Comparison:
    return compare(sweep(folder, rates, **options), on_unreadable="ignore")


def test_a_rise_with_the_rate_supports_it(tmp_path: Path) -> None:
    found = compared(tmp_path, seeds=range(7)).claims(claims="l")
    row = found.table.iloc[0]
    assert (row["condition"], row["baseline"], row["verdict"], row["n"]) == (
        "rate=0.1 to 0.5",
        "rate=0",
        "supported",
        7,
    )
    assert not row["provisional"]
    flow, variance = found.parts.itertuples()
    slopes = 0.1 * (1.0 + 0.05 * np.arange(7))  # as the runs were made, over 0.1 of the rate
    assert flow.effect == pytest.approx(slopes.mean(), rel=1e-6)
    assert (flow.low, flow.high) == pytest.approx(tuple(stats.ttest_1samp(slopes, 0.0).confidence_interval(0.95)))
    assert flow.scale == "log ratio"
    rates = [0.1, 0.3, 0.5]
    log = np.log([[net_variance(rate, seed) for rate in rates] for seed in range(7)])
    assert variance.effect == pytest.approx(0.1 * np.mean([np.polyfit(rates, one, 1)[0] for one in log]), rel=1e-6)
    assert "without rate=0, where nothing is above 0" in variance.note
    assert f"ver 0.1 of the rate gradient flow is multiplied by {np.exp(slopes.mean()):.3g}" in row["reason"]
    assert found.layers["layer"].tolist() == [f"layer{i}.activation" for i in (1, 2, 3)] * 2


def test_it_is_put_once_whatever_the_number_of_conditions(tmp_path: Path) -> None:
    found = compared(tmp_path).claims()
    assert (found.table["claim"] == "l").sum() == 1
    assert (found.table["claim"] == "c").sum() == 3
    assert "l" not in [one.claim for one in found.unrecorded]


def test_a_fall_contradicts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "tests.analysis.dose_response.sweeps"
    monkeypatch.setattr(f"{module}.flow", lambda rate, seed: float(np.exp(-rate * (1 + 0.05 * seed))))
    monkeypatch.setattr(f"{module}.net_variance", lambda rate, seed: float(2.0 - rate * (1 + 0.05 * seed)))
    row = compared(tmp_path, seeds=range(6)).claims(claims="l").table.iloc[0]
    assert row["verdict"] == "contradicted"


def test_without_three_rates_it_is_not_asked(tmp_path: Path) -> None:
    comparison = compared(tmp_path, (0.0, 0.5), seeds=range(3))
    found = comparison.claims()
    assert "l" not in set(found.table["claim"])
    assert "three rates or more" in next(one.record for one in found.unrecorded if one.claim == "l")
    row = comparison.claims(claims="l").table.iloc[0]
    assert row["verdict"] == "undecided"
    assert "there are no three rates" in row["reason"]


def test_a_seed_that_lacks_a_rate_is_left_out_and_named(tmp_path: Path) -> None:
    found = compared(tmp_path, seeds=range(5), gone=[(0.3, 2)]).claims(claims="l")
    flow = found.parts.iloc[0]
    assert flow["n"] == 4
    assert flow["effect"] == pytest.approx(0.1 * (1.0 + 0.05 * np.mean([0, 1, 3, 4])), rel=1e-6)
    assert "seed 2 left out for a gap at a rate" in flow["note"]


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    row = compared(tmp_path, seeds=(0,)).claims(claims="l").table.iloc[0]
    assert row["verdict"] == "undecided"
    assert "one seed" in row["reason"]


def test_rates_in_names_alone_are_an_axis(tmp_path: Path) -> None:
    runs = sweep(tmp_path, (0.0, 0.1, 0.5), range(3), x="dropout")
    found = compare(load({f"{run.meta['config']['dropout']:g}": [str(one.path) for one in runs
                          if one.meta["config"]["dropout"] == run.meta["config"]["dropout"]] for run in runs}),
                    on_unreadable="ignore").claims(claims="l")  # fmt: skip
    assert found.table.iloc[0]["condition"] == "rate=0.1 to 0.5"
    assert found.parts.iloc[0]["effect"] == pytest.approx(0.105, rel=1e-6)
