"""Curves of seeds that were recorded at other steps, values that are not finite, and times, as the page has them."""

from __future__ import annotations

import numpy as np
import pytest

from dropdiag.histograms.histogram import Histogram
from dropdiag.report.binary import read
from dropdiag.report.cells import moment
from dropdiag.report.data import gather
from dropdiag.report.series import Scalars
from dropdiag.store.reader import load
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.writer import RunWriter
from tests.report.test_data import densities, numbers, tables
from tests.synthetic import content, write


def curve_runs(folder, every, values=lambda seed, step: np.sqrt(step) + seed, condition="A"):
    """One condition whose seeds were evaluated each at its own steps."""
    paths = []
    for seed, steps in enumerate(every):
        paths.append(folder / f"{condition}-{seed}")
        head = {"config": {"condition": condition, "seed": seed}, "versions": {}, "layers": [], "activations": {}}
        writer = RunWriter(paths[-1], head)
        writer.add_scalars(
            [ScalarRow(int(step), "eval", None, 0, "accuracy", float(values(seed, step))) for step in steps]
        )
        writer.close("completed")
    return load({condition: paths})


def accuracy(runs):
    return Scalars(runs, {}).tracks["accuracy", "eval"].series()


@pytest.mark.parametrize("many", [10, 400])
def test_seeds_that_were_evaluated_at_other_steps_make_no_teeth(tmp_path, many):
    every = [np.arange(1, many) * 20, np.arange(1, many) * 20 + 7, np.arange(1, many) * 20 + 13]
    made = accuracy(curve_runs(tmp_path, every))
    own = made.values[0]
    inside = ~np.isnan(own).any(axis=0)
    mean = own[:, inside].mean(axis=0)
    assert (np.diff(mean) > 0).all(), "each seed rises, and so does their mean"
    assert np.allclose(mean, np.sqrt(made.steps[inside]) + 1, atol=0.3 if many == 10 else 0.7)
    for run, steps in zip(own, every, strict=True):
        # numpy's own line through the run's own values, at the steps of all
        known = ~np.isnan(run)
        assert (made.steps[known] >= steps[0] - 80).all()
        assert (made.steps[known] <= steps[-1] + 80).all()


def test_at_steps_of_its_own_a_run_has_its_own_values_and_between_them_the_line(tmp_path):
    every = [np.array([10, 30, 50]), np.array([20, 40, 60])]
    made = accuracy(curve_runs(tmp_path, every))
    assert made.steps.tolist() == [10, 20, 30, 40, 50, 60]
    for seed, (run, steps) in enumerate(zip(made.values[0], every, strict=True)):
        want = np.interp(made.steps, steps, np.sqrt(steps) + seed, left=np.nan, right=np.nan)
        assert np.allclose(run, want, equal_nan=True)


def test_runs_of_the_same_steps_are_left_as_they_are(tmp_path):
    made = accuracy(curve_runs(tmp_path, [np.arange(1, 9)] * 2))
    assert np.array_equal(made.values[0], [np.sqrt(made.steps), np.sqrt(made.steps) + 1])


def test_a_run_that_ends_is_never_carried_on(tmp_path):
    made = accuracy(curve_runs(tmp_path, [np.arange(1, 11), np.arange(1, 6)]))
    assert np.isnan(made.values[0]).sum(axis=1).tolist() == [0, 5]


def test_the_numbers_of_distributions_are_brought_to_common_steps_too(tmp_path):
    paths = []
    for seed, steps in enumerate(([10, 30], [20, 40])):
        paths.append(tmp_path / f"s{seed}")
        head = {"config": {"condition": "A", "seed": seed}, "versions": {}, "activations": {},
                "layers": [{"layer": "fc", "call": 0, "kind": "weight", "type": "Linear", "activation": None, "shape": [2]}]}  # fmt: skip
        writer = RunWriter(paths[-1], head)
        for step in steps:
            one = Histogram.from_values(np.linspace(-step, step, 301).astype(np.float32))
            writer.add_histograms([HistogramRow(step, "train", "fc", 0, "weight", one.bins, one.counts)])
        writer.close("completed")
    runs = load(paths)
    made = densities(runs, "weight", {"sd": lambda h: h.std()}).measures["sd"]
    assert made.steps.tolist() == [10, 20, 30, 40]
    own = [
        run.histogram("weight", "fc", step=step).std()
        for run, step in zip([*runs, *runs], [10, 20, 30, 40], strict=True)
    ]
    want = [[own[0], (own[0] + own[2]) / 2, own[2], np.nan], [np.nan, own[1], (own[1] + own[3]) / 2, own[3]]]
    assert np.allclose(made.values[0], want, equal_nan=True)


def lossy(folder):
    """Half of the net values of the first layer of "Dropout" are NaN, in one seed all of them."""
    paths = {}
    for condition in ("No dropout", "Dropout"):
        for seed in (0, 1):
            one = content(condition, seed, layers=2, steps=10, size=400)
            if condition == "Dropout":
                values = one.net_value["layer1.activation"]
                values[:: 2 - seed] = np.nan
            paths.setdefault(condition, []).append(write(folder / f"{condition}-{seed}", one, condition, seed))
    return load(paths)


def test_the_share_of_values_that_are_not_finite_is_told(tmp_path):
    runs = lossy(tmp_path)
    made = gather(runs)
    said = [line for line in made.problems if line.startswith("Dropout: up to 75 % of the values of net value")]
    assert len(said) == 1
    assert "of layer1.activation are NaN or infinite; curves and numbers are of the finite ones alone" in said[0]
    table = tables(made)["net_values"]
    assert numbers(table, "Not finite") == [0.0, 0.0, 0.75, 0.0]
    assert "Not finite" not in tables(made)["weights"].heads
    density, text = made.figures["sections"]["net_values"]["density"], made.blob.text()
    assert read(text, density["lost"]).reshape(2, 2).tolist() == [[0.0, 0.75], [0.0, 0.0]]
    assert read(text, density["last_lost"]).reshape(2, 4).tolist() == [[0.0, 0.0, 0.5, 1.0], [0.0] * 4]
    assert "lost" not in made.figures["sections"]["weights"]["density"], "a page without any is not larger"


def test_where_net_values_are_not_finite_the_share_is_absent_from_chart_and_table(tmp_path):
    """By hand: of three evaluations the second run's net values are NaN at the last two, though shares are recorded."""
    paths = []
    for seed, lost in enumerate(([], [20, 30])):
        site = {"layer": "phi", "call": 0, "kind": "activation", "type": "Tanh", "activation": "Tanh", "shape": []}
        meta = {"config": {"condition": "A", "seed": seed}, "versions": {}, "layers": [site], "activations": {}}
        writer = RunWriter(tmp_path / f"s{seed}", meta)
        for step in (10, 20, 30):
            values = Histogram.from_values([0.0, np.nan if step in lost else 1.0])
            writer.add_histograms([HistogramRow(step, "eval", "phi", 0, "net_value", values.bins, values.counts)])
            writer.add_scalars([ScalarRow(step, "eval", "phi", 0, f"saturation_share_{side}", 0.01 * step)
                                for side in ("left", "right")])  # fmt: skip
        writer.close("completed")
        paths.append(tmp_path / f"s{seed}")
    made = gather(load(paths))
    series = made.figures["sections"]["net_values"]["measures"]["saturation share"]
    shown = read(made.blob.text(), series["values"]).reshape(2, 3)
    np.testing.assert_allclose(shown, [[0.2, 0.4, 0.6], [0.2, np.nan, np.nan]], rtol=1e-6)
    assert series["dropped"] == 2
    assert numbers(tables(made)["net_values"], "Share") == [0.6]
    assert any("there is no saturation share where any is" in line for line in made.problems)


def test_times_are_told_with_their_zone(tmp_path):
    told = {"2026-11-25T23:51:53+00:00": "2026-11-25 23:51:53 UTC", "2026-11-25T23:51:53Z": "2026-11-25 23:51:53 UTC",
            "2026-11-25T23:51:53-03:30": "2026-11-25 23:51:53 UTC-03:30",
            "2026-11-25T23:51:53": "2026-11-25 23:51:53 (zone unknown)", "yesterday": "yesterday"}  # fmt: skip
    for given, shown in told.items():
        cell = moment(given)
        assert (cell.shown, cell.value) == (shown, given)
    runs = load([write(tmp_path / "run", content("A", 0, layers=1, steps=5), "A", 0)])
    table = gather(runs).facts["runs"]
    assert table.rows[0][list(table.heads).index("Started")].value == runs[0].meta["created"]
    assert table.rows[0][list(table.heads).index("Ended")].shown.endswith(" UTC")
