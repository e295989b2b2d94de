from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dropdiag.analysis import gradient_flow
from dropdiag.analysis.seeds import t_interval
from dropdiag.analysis.training import step_bins
from dropdiag.errors import ArgumentError
from dropdiag.store.reader import load
from tests.synthetic import content, write

LAYER = "layer3.activation"


def flow(condition: str, seed: int) -> np.ndarray:
    return content(condition, seed).gradient_flow[LAYER]


def test_table_averages_all_steps_then_the_seeds(runs) -> None:
    table = gradient_flow.table(runs)
    row = table[(table["condition"] == "Dropout") & (table["layer"] == LAYER)].iloc[0]
    means = np.array([flow("Dropout", s).mean() for s in range(3)])
    base = np.array([flow("No dropout", s).mean() for s in range(3)])
    assert row["mean"] == pytest.approx(means.mean())
    assert row["mean_sd"] == pytest.approx(means.std(ddof=1))
    expected = np.exp(t_interval(np.log(means / base)))
    np.testing.assert_allclose(row[["ratio", "ratio_low", "ratio_high"]].astype(float), expected)
    assert (row["pairs"], row["steps"], row["dropped"], row["baseline"]) == (3, 200, 0, "No dropout")
    own = table[table["condition"] == "No dropout"]
    np.testing.assert_allclose(own["ratio"], 1.0)


def test_baseline_may_be_another_and_need_not_be_drawn(runs) -> None:
    table = gradient_flow.table(runs, conditions=["Dropout"], baseline="GAAF")
    assert list(table["condition"].unique()) == ["Dropout"]
    assert (table["ratio"] > 1.2).all()
    with pytest.raises(ArgumentError, match="no condition 'none'; there are 'No dropout'"):
        gradient_flow.table(runs, baseline="none")


def test_one_seed_has_a_ratio_without_an_interval(runs) -> None:
    table = gradient_flow.table(runs[0:7:3])
    row = table[table["condition"] == "Dropout"].iloc[0]
    assert row["pairs"] == 1
    assert row["ratio"] > 1
    assert np.isnan(row[["ratio_low", "ratio_high", "mean_sd"]].astype(float)).all()


def test_missing_steps_are_dropped_and_counted_never_zero(tmp_path) -> None:
    made = content("Dropout", 0)
    values = made.gradient_flow[LAYER]
    values[:50], values[50], values[51] = np.nan, np.inf, 0.0
    run = load(write(tmp_path / "r", made, "Dropout", 0))
    row = gradient_flow.table(run, layers=[LAYER]).iloc[0]
    assert row["mean"] == pytest.approx(values[51:].mean())
    assert (row["steps"], row["dropped"]) == (149, 51)
    curve = gradient_flow.curves(run, layers=[LAYER], bins=200)
    assert len(curve) == 148
    assert curve["step"].min() == 53


def test_runs_of_different_lengths_compare_over_the_steps_they_share(runs) -> None:
    whole, first = gradient_flow.per_run(runs), gradient_flow.per_run(runs, until=50)
    rows = runs.scalars
    rows = rows[(rows["quantity"] == gradient_flow.QUANTITY) & (rows["phase"] == "train") & (rows["step"] <= 50)]
    expected = rows.groupby(["run", "layer"], observed=True)["value"].mean()
    for row in first.to_dict("records"):
        assert row["mean"] == pytest.approx(expected[row["run"], row["layer"]], rel=1e-12)
    assert (first["steps"] < whole["steps"]).all()
    table = gradient_flow.table(runs, until=50)
    assert (table["steps"] == first["steps"].iloc[0]).all()


def test_curves_average_on_the_log_scale(runs) -> None:
    curve = gradient_flow.curves(runs, layers=[LAYER], conditions=["GAAF"], bins=10)
    logs = np.log([flow("GAAF", s) for s in range(3)]).reshape(3, 10, 20).mean(axis=2)
    np.testing.assert_allclose(curve["value"], np.exp(logs.mean(axis=0)))
    np.testing.assert_allclose(curve["high"], np.exp(logs.mean(axis=0) + logs.std(axis=0, ddof=1)))
    np.testing.assert_allclose(curve["step"], np.arange(10) * 20 + 10.5)
    single = gradient_flow.curves(runs[0], layers=[LAYER])
    assert single["low"].isna().all()


def test_steps_that_are_few_are_left_alone() -> None:
    steps = pd.Series([5, 1, 5, 9])
    assert step_bins(steps, 3).tolist() == [2, 1, 2, 3]
    assert step_bins(steps, 2).tolist() == [0, 0, 0, 1]


def test_steps_are_in_order_when_the_seeds_were_recorded_at_different_ones(tmp_path) -> None:
    paths = []
    for seed, every in ((0, 2), (1, 3)):
        made = content("GAAF", seed, steps=30)
        for values in made.gradient_flow.values():
            values[np.arange(30) % every > 0] = np.nan
        paths.append(write(tmp_path / f"s{seed}", made, "GAAF", seed))
    runs = load(paths)
    frame = gradient_flow.curves(runs, layers=[LAYER])
    expected = sorted({*range(1, 31, 2), *range(1, 31, 3)})
    assert frame["step"].tolist() == expected
    assert frame["seeds"].tolist() == [2] * 19 + [1]  # between its own steps a run is interpolated, beyond them not


def test_a_frozen_layer_has_a_row_without_a_mean(tmp_path) -> None:
    made = content("GAAF", 0)
    made.gradient_flow[LAYER][:] = np.nan
    run = load(write(tmp_path / "r", made, "GAAF", 0))
    row = gradient_flow.table(run).set_index("layer").loc[LAYER]
    assert np.isnan(row["mean"])
    assert (row["missing"], row["steps"], row["dropped"]) == (1, 0, 200)
    assert LAYER not in set(gradient_flow.curves(run)["layer"])
