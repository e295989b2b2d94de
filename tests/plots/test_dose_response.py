"""The figure of dose and response holds the runs, their means and lines, and rings the doses that may be best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.dose_response.choice import choice
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.plots.dose_response import dose_response, over_dose
from dropdiag.store.reader import Runs
from tests.analysis.dose_response.sweeps import accuracy, flow, sweep

RATES, SEEDS = (0.0, 0.1, 0.3, 0.5), (0, 1, 2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return sweep(tmp_path_factory.mktemp("sweep"), RATES, SEEDS, phases=("validation", "test"))


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes]


def rings(ax: Axes) -> list[float]:
    found = [line for line in ax.lines if line.get_markersize() > 8]
    return [float(x) for line in found for x in np.asarray(line.get_xdata())]


def test_a_panel_a_layer_and_quantity_then_the_network(runs: Runs) -> None:
    figure = dose_response(runs)
    layers = [f"layer{i}.activation" for i in (1, 2, 3)]
    assert titles(figure) == [*layers, *layers, "accuracy, validation", "accuracy, test"]
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels[3:] == ["mean net variance"] * 3 + ["accuracy"] * 2
    assert labels[0].startswith("gradient flow")
    assert {ax.get_xlabel() for ax in figure.axes} == {"rate"}


def test_points_means_and_trend_are_the_runs(runs: Runs) -> None:
    ax = dose_response(runs, quantities=["gradient_flow"], layers=["layer2.activation"]).axes[0]
    seeds, means = ax.lines[: len(SEEDS)], ax.lines[len(SEEDS) + 1]
    for seed, line in zip(SEEDS, seeds, strict=True):
        np.testing.assert_allclose(line.get_xdata(), RATES)
        np.testing.assert_allclose(line.get_ydata(), [2 * flow(rate, seed) for rate in RATES], rtol=1e-6)
    expected = [2 * np.exp(np.mean([np.log(flow(rate, seed)) for seed in SEEDS])) for rate in RATES]
    np.testing.assert_allclose(means.get_ydata(), expected, rtol=1e-6)
    trend = ax.lines[len(SEEDS)]
    np.testing.assert_allclose(np.asarray(trend.get_ydata())[[0, -1]], np.array(expected)[[0, -1]], rtol=1e-6)
    assert rings(ax) == []


def test_doses_that_cannot_be_told_from_the_best_are_ringed(runs: Runs) -> None:
    figure = dose_response(runs, quantities=["accuracy"])
    inside = list(choice(runs).inside)
    assert 0 < len(inside) < len(RATES)
    assert [rings(ax) for ax in figure.axes] == [inside, inside]
    assert "cannot be told from the best" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_ticks_stand_at_the_doses_and_labels_where_there_is_room(tmp_path: Path) -> None:
    rates = (0.0, 0.001, 0.002, 0.5)
    ax = dose_response(sweep(tmp_path, rates, (0, 1), layers=1), quantities=["gradient_flow"]).axes[0]
    assert ax.get_xticks().tolist() == list(rates)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "", "", "0.5"]


def test_orders_of_magnitude_stand_on_a_log_axis(tmp_path: Path) -> None:
    figure = dose_response(sweep(tmp_path, (1e-4, 1e-2, 1e-1), (0, 1), x="lr", layers=1), "lr")
    assert {ax.get_xscale() for ax in figure.axes} == {"log"}


def test_gaps_and_a_single_seed_are_said(tmp_path: Path) -> None:
    gaps = dose_response(sweep(tmp_path / "gaps", RATES, (0, 1, 2), layers=1, gone=[(0.1, 1)]))
    assert gaps.axes[0].get_xlabel() == "rate\nno value: 1 of 12 runs"
    one = dose_response(sweep(tmp_path / "one", RATES, (0,), layers=1), quantities=["accuracy"])
    assert " ".join(one.axes[0].get_xlabel().split("\n")) == "rate one seed: no dose can be told from another"
    assert rings(one.axes[0]) == list(RATES)


def test_it_draws_into_axes_of_ones_own(runs: Runs) -> None:
    figure = Figure()
    ax = figure.add_subplot()
    assert dose_response(runs, quantities=["gradient_flow"], layers=["layer1.activation"], ax=ax) is figure
    with pytest.raises(ArgumentError, match="this figure has 3"):
        dose_response(runs, quantities=["gradient_flow"], ax=ax)
    with pytest.raises(NotRecordedError, match="nothing was measured of 'nothing'"):
        dose_response(runs, quantities=["nothing"])


def test_a_frame_without_a_line_is_drawn_all_the_same(runs: Runs) -> None:
    import pandas as pd

    points = pd.DataFrame({"seed": [0, 0], "dose": [0.0, 0.5], "value": [accuracy(0.0, 0), np.nan]})
    means = pd.DataFrame({"dose": [0.0, 0.5], "value": [accuracy(0.0, 0), np.nan]})
    ax = over_dose(points, means, pd.DataFrame(columns=["dose", "value", "low", "high"], dtype="float64"))
    low, high = ax.get_ylim()
    assert low < accuracy(0.0, 0) < high
