"""Figures of what active measurements found, read back from their artists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dropdiag import plots
from dropdiag.analysis.seeds import t_interval
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import Runs
from tests.synthetic import write_measured

SIZES, NOISE = (0.05, 0.1, 0.5), (0.0, 0.1, 0.5)


def of(seed: int, height: float, *, curved: bool = True) -> dict[int, dict[str, dict[str, float | None]]]:
    rng = np.random.default_rng([seed, int(10 * height)])
    rises = {f"loss_rise@{x:g}": height * x**2 + 0.01 * float(rng.normal()) for x in SIZES}
    numbers = (
        "hessian_eigenvalue@1",
        "hessian_eigenvalue@2",
        "hessian_trace",
        "relative_flatness",
        "sam_sharpness@0.05",
    )
    flat = {name: height + float(rng.normal()) if curved else None for name in numbers}
    noisy = {f"noisy_loss@{x:g}": seed + height * x for x in NOISE}
    noisy |= {f"noisy_accuracy@{x:g}": 0.9 - 0.1 * height * x for x in NOISE}
    return {10: {"flatness": {**rises, **flat}, "robustness": noisy}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("measured")
    heights = {"No dropout": 3.0, "Dropout": 2.0, "GAAF": 1.0}
    return write_measured(
        folder, {name: {s: of(s, h, curved=name != "GAAF") for s in range(3)} for name, h in heights.items()}
    )


def labels(ax) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}


def test_flatness_has_a_panel_for_the_rise_and_one_for_each_number(runs: Runs) -> None:
    figure = plots.flatness(runs)
    assert [ax.get_title() for ax in figure.axes] == [
        "rise of the loss", "largest eigenvalue of the Hessian", "trace of the Hessian", "relative flatness",
        "SAM sharpness",
    ]  # fmt: skip
    rise, eigenvalue, *others = figure.axes
    drawn = labels(rise)
    assert set(drawn) == {"No dropout", "Dropout", "GAAF"}
    values = [of(seed, 2.0)[10]["flatness"] for seed in range(3)]
    for x, y in drawn["Dropout"]:
        assert y == pytest.approx(np.mean([one[f"loss_rise@{x:g}"] for one in values]))
    band = rise.collections[1].get_paths()[0].vertices
    _, low, high = t_interval([one["loss_rise@0.5"] for one in values])
    assert band[band[:, 0] == 0.5][:, 1].min() == pytest.approx(low)
    assert band[band[:, 0] == 0.5][:, 1].max() == pytest.approx(high)

    assert labels(eigenvalue)["Dropout"][0, 1] == pytest.approx(np.mean([v["hessian_eigenvalue@1"] for v in values]))
    for ax in (eigenvalue, *others):
        assert set(labels(ax)) == {"No dropout", "Dropout"}
        assert "no finite value: GAAF" in ax.get_xlabel()
    assert [text.get_text() for text in figure.legends[0].texts] == ["No dropout", "Dropout", "GAAF"]


def test_robustness_has_loss_what_noise_adds_and_accuracy(runs: Runs) -> None:
    figure = plots.robustness(runs, conditions=["Dropout", "No dropout"])
    loss, rise, accuracy = figure.axes
    np.testing.assert_allclose(labels(loss)["Dropout"], [[x, 1.0 + 2.0 * x] for x in NOISE])
    np.testing.assert_allclose(labels(rise)["Dropout"], [[x, 2.0 * x] for x in NOISE[1:]], atol=1e-12)
    np.testing.assert_allclose(labels(accuracy)["No dropout"], [[x, 0.9 - 0.3 * x] for x in NOISE])
    assert set(labels(loss)) == {"Dropout", "No dropout"}


def test_runs_without_a_value_are_counted_below(tmp_path: Path) -> None:
    conditions = {"A": {0: of(0, 1.0), 1: of(1, 1.0)}}
    conditions["A"][1][10]["flatness"]["hessian_trace"] = None
    figure = plots.flatness(write_measured(tmp_path, conditions))
    notes = {ax.get_title(): ax.get_xlabel() for ax in figure.axes}
    assert "runs without a value: A 1" in notes["trace of the Hessian"]
    assert "runs without a value" not in notes["relative flatness"]


def test_what_was_not_measured_is_told_and_one_axes_is_not_enough(runs: Runs, tmp_path: Path) -> None:
    only = write_measured(tmp_path, {"A": {0: {1: {"flatness": {"loss_rise@0.1": 1.0}}}}})
    with pytest.raises(NotRecordedError, match="holds noisy_loss or noisy_accuracy in the phase 'robustness'"):
        plots.robustness(only)
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert plots.flatness(only, ax=ax) is ax.figure  # one panel is enough here
    with pytest.raises(ArgumentError, match="ax holds one panel, and this figure has 5"):
        plots.flatness(runs, ax=ax)


def test_figures_are_saved_in_every_format(runs: Runs, tmp_path: Path) -> None:
    for name in ("flatness", "robustness"):
        files = plots.save(getattr(plots, name)(runs), tmp_path / name)
        assert all(file.stat().st_size > 5000 for file in files)
