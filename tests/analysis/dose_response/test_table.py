"""Trends of what runs measured: beside the closed form that the runs were made of, and scipy on the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dropdiag.analysis.dose_response.lines import line_of, means_of, points_of
from dropdiag.analysis.dose_response.responses import Response, responses
from dropdiag.analysis.dose_response.table import table
from dropdiag.errors import ArgumentError, AxisError, NotRecordedError
from dropdiag.store.reader import Runs
from tests.analysis.dose_response.sweeps import accuracy, flow, net_variance, sweep

RATES, SEEDS = (0.0, 0.1, 0.3, 0.5), (0, 1, 2, 3, 4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return sweep(tmp_path_factory.mktemp("sweep"), RATES, SEEDS)


def rows(found: pd.DataFrame, measure: str) -> pd.DataFrame:
    return found[found["measure"] == measure]


def test_the_slope_of_gradient_flow_is_that_of_its_logarithm(runs: Runs) -> None:
    found = rows(table(runs), "gradient_flow")
    assert found["layer"].tolist() == [f"layer{i}.activation" for i in (1, 2, 3)]
    slopes = 1.0 + 0.05 * np.array(SEEDS)  # as the runs were made
    interval = stats.ttest_1samp(slopes, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(found["slope"], slopes.mean(), rtol=1e-6)
    np.testing.assert_allclose(found[["low", "high"]], [interval] * 3, rtol=1e-6)
    log = np.log([[flow(rate, seed) for rate in RATES] for seed in SEEDS])
    expected = min(1.0, 2.0 * stats.page_trend_test(log).pvalue)
    np.testing.assert_allclose(found["p"], expected)
    np.testing.assert_allclose(found["p_holm"], 3 * expected)
    row = found.iloc[0]
    assert (row["scale"], row["per"], row["doses"], row["seeds"], row["note"]) == ("log ratio", "1 rate", 4, 5, "")
    assert (bool(row["monotone"]), row["lowest"], row["highest"]) == (True, 0.0, 0.5)


def test_a_dose_without_a_logarithm_is_left_out_and_named(runs: Runs) -> None:
    row = rows(table(runs), "net_variance_mean").iloc[0]
    assert row["note"] == "without rate=0: no positive finite value there"
    assert (row["doses"], row["seeds"], row["lowest"]) == (3, 5, 0.1)
    log = np.log([[net_variance(rate, seed) for rate in RATES[1:]] for seed in SEEDS])
    assert row["slope"] == pytest.approx(np.mean([np.polyfit(RATES[1:], one, 1)[0] for one in log]), rel=1e-6)


def test_a_scalar_of_the_network_is_its_final_value(runs: Runs) -> None:
    row = table(runs, quantities=["accuracy"]).iloc[0]
    values = np.array([[accuracy(rate, seed) for rate in RATES] for seed in SEEDS])
    assert row["layer"] is None or pd.isna(row["layer"])
    assert row["slope"] == pytest.approx(np.mean([np.polyfit(RATES, one, 1)[0] for one in values]))
    assert not row["monotone"]
    assert row["highest"] == 0.3
    assert row["bend"] < 0.0


def test_quantities_and_layers_are_chosen_by_name(runs: Runs) -> None:
    found = table(runs, quantities=["net_grad_abs_mean", "final:accuracy"], layers=["layer2.activation"])
    assert found["measure"].tolist() == ["gradient_flow", "final:accuracy"]
    with pytest.raises(NotRecordedError, match=r"nothing was measured of 'acuracy'; did you mean .*accuracy'\? there"):
        table(runs, quantities=["acuracy"])
    with pytest.raises(ArgumentError, match="layer9"):
        table(runs, layers=["layer9"])
    with pytest.raises(ArgumentError, match="alpha must lie between 0 and 1"):
        table(runs, alpha=2.0)


def test_a_seed_with_a_gap_is_named_and_left_out(tmp_path: Path) -> None:
    found = table(sweep(tmp_path, RATES, SEEDS, gone=[(0.1, 2), (0.5, 2), (0.3, 4)]))
    row = rows(found, "gradient_flow").iloc[0]
    assert row["seeds"] == 3
    assert row["note"] == "seeds 2 (at 0.1, 0.5), 4 (at 0.3) left out: no positive finite value"
    assert row["slope"] == pytest.approx(1.0 + 0.05 * np.mean([0, 1, 3]), rel=1e-6)


def test_doses_of_several_orders_of_magnitude_are_taken_by_their_logarithms(tmp_path: Path) -> None:
    lrs = (1e-4, 1e-3, 1e-2, 1e-1)
    runs = sweep(tmp_path, lrs, (0, 1, 2), x="lr", score=lambda lr, seed: 0.5 - 0.1 * np.log10(lr) + seed * lr)
    row = table(runs, "lr", ["accuracy"]).iloc[0]
    assert row["per"] == "10-fold lr"
    values = np.array([[0.5 - 0.1 * np.log10(lr) + seed * lr for lr in lrs] for seed in (0, 1, 2)])
    assert row["slope"] == pytest.approx(np.mean([np.polyfit(np.log10(lrs), one, 1)[0] for one in values]))


def test_a_scalar_of_several_held_out_phases_has_a_row_each(tmp_path: Path) -> None:
    runs = sweep(tmp_path, RATES, (0, 1), phases=("validation", "test"),
                 held=lambda rate, seed, phase: {"accuracy": accuracy(rate, seed) + (phase == "test") * rate})  # fmt: skip
    found = table(runs, quantities=["accuracy"])
    assert found["note"].tolist() == ["in phase 'validation'", "in phase 'test'"]
    assert np.diff(found["slope"])[0] == pytest.approx(1.0)


def test_one_seed_has_slopes_alone(tmp_path: Path) -> None:
    found = table(sweep(tmp_path, RATES, (0,)))
    assert found[["low", "high", "p", "p_holm"]].isna().all(axis=None)
    assert found["slope"].notna().all()
    assert found["note"].str.startswith("one seed: no interval, no p").all()


def test_runs_that_lie_on_no_axis_are_refused(runs: Runs) -> None:
    with pytest.raises(AxisError, match="a response to 'lr' needs 2 doses or more, and no run has one"):
        table(runs, "lr")


def response(runs: Runs, name: str) -> Response:
    return next(iter(responses(runs).each([name])))


def test_lines_are_the_means_of_the_seeds_own(runs: Runs) -> None:
    one = response(runs, "accuracy")
    line, values = line_of(one, 0.1), np.array([[accuracy(rate, seed) for rate in RATES] for seed in SEEDS])
    fits = [np.polynomial.Polynomial.fit(RATES, row, 1) for row in values]
    for row in line.itertuples():
        there = np.array([fit(row.dose) for fit in fits])
        interval = stats.ttest_1samp(there, 0.0).confidence_interval(0.9)
        np.testing.assert_allclose([row.value, row.low, row.high], [there.mean(), *interval], rtol=1e-9)
    assert (line["dose"].min(), line["dose"].max()) == (0.0, 0.5)
    np.testing.assert_allclose(means_of(one)["value"], values.mean(axis=0))
    np.testing.assert_allclose(points_of(one)["value"], values.ravel())


def test_lines_of_ratios_are_straight_in_logarithms(runs: Runs) -> None:
    one = response(runs, "gradient_flow")
    line, seeds = line_of(one), np.array(SEEDS)
    expected = np.exp(np.log(1e-3) + (1 + 0.05 * seeds.mean()) * line["dose"] + 0.1 * seeds.mean())
    np.testing.assert_allclose(line["value"], expected, rtol=1e-6)
    log = np.log([[flow(rate, seed) for rate in RATES] for seed in SEEDS])
    np.testing.assert_allclose(means_of(one)["value"], np.exp(log.mean(axis=0)), rtol=1e-6)
