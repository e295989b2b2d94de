"""The figure of masks and weights holds the numbers of its table."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from dropdiag import plots
from dropdiag.analysis import masks_by_weights
from dropdiag.errors import ArgumentError
from tests.analysis.test_masks_by_weights import LAYERS, make

TITLES = ["Weights", "Masks", "Interaction", "Weights and masks"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make(tmp_path_factory.mktemp("runs"), steps=(100, 200, 300))


def test_marks_and_bars_stand_at_the_factors_of_the_table(runs):
    figure, table = plots.masks_by_weights(runs), masks_by_weights.table(runs)
    assert [ax.get_title() for ax in figure.axes[:4]] == TITLES
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(LAYERS)
    for ax, effect in zip(figure.axes[:4], masks_by_weights.EFFECTS, strict=True):
        rows = table[table["effect"] == effect]
        marks = next(line for line in ax.lines if line.get_marker() == "s")
        np.testing.assert_allclose(marks.get_xdata(), np.exp(rows["value"]))
        bars = np.array(ax.collections[0].get_segments())[:, :, 0]
        np.testing.assert_allclose(bars, np.exp(rows[["low", "high"]]))
        low, high = ax.get_xlim()
        assert (ax.get_xscale(), low < 1 < high) == ("log", True)
    assert len({ax.get_xlim() for ax in figure.axes[:4]}) == 1


def test_a_panel_a_layer_shows_the_measurements_in_training(runs):
    figure, table = plots.masks_by_weights(runs, layers={"c2:relu": "second"}), masks_by_weights.table(runs, step="all")
    (ax,) = [ax for ax in figure.axes[4:] if ax.axison]
    assert ax.get_title() == "second, over training"
    lines = [line for line in ax.lines if len(line.get_xdata()) == 3]
    for line, effect in zip(lines, ("weights", "masks", "interaction"), strict=True):
        rows = table[(table["layer"] == "c2:relu") & (table["effect"] == effect)]
        assert line.get_xdata().tolist() == [100, 200, 300]
        np.testing.assert_allclose(line.get_ydata(), np.exp(rows["value"]))
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in lines}) == 3


def test_few_measurements_have_no_panels_over_training_and_a_missing_one_is_a_dash(tmp_path):
    def change(value, condition, seed, layer):
        return None if layer == "c1:relu" else value

    figure = plots.masks_by_weights(make(tmp_path, change=change))
    assert [ax.get_title() for ax in figure.axes] == TITLES
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [["–"]] * 4


def test_one_panel_takes_axes_and_the_figure_refuses_them(runs):
    ax = Figure().subplots()
    table = masks_by_weights.table(runs)
    assert plots.masks_by_weights.__name__ == "masks_by_weights"
    from dropdiag.plots.masks_by_weights import by_layer

    assert by_layer(table[table["effect"] == "masks"], ax=ax) is ax
    with pytest.raises(ArgumentError, match="draw one with by_layer"):
        plots.masks_by_weights(runs, ax=ax)
