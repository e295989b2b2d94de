"""The figure of health: marks at the numbers of the table."""

import numpy as np
import pytest

from dropdiag import plots
from dropdiag.analysis import health
from dropdiag.store.reader import load
from tests.analysis.test_health import one, rows


@pytest.fixture
def runs(tmp_path):
    for condition in ("A", "B"):
        for seed in range(2):
            one(tmp_path / f"{condition}-{seed}", seed, condition)
    return load({name: str(tmp_path / f"{name}-*") for name in ("A", "B")})


def test_full_marks_are_the_last_values_and_hollow_ones_the_first(runs):
    figure, table = plots.health(runs), health.table(runs)
    assert len(figure.axes) == len(health.QUANTITIES)
    for ax, quantity in zip(figure.axes, health.QUANTITIES, strict=True):
        part = table[table["quantity"] == quantity]
        drawn = [line.get_xdata().tolist() for line in ax.lines]
        expected = [part.loc[part["condition"] == name, column].tolist()
                    for name in ("A", "B") for column in ("start", "value")]  # fmt: skip
        assert drawn == expected
        assert [line.get_markerfacecolor() == "white" for line in ax.lines] == [True, False] * 2
        assert [text.get_text() for text in ax.get_yticklabels()] == part["layer"].drop_duplicates().tolist()
        assert ax.get_xscale() == ("log" if quantity == "update_to_weight" else "linear")
    assert "eval, step 20, start: step 0" in figure.axes[0].get_xlabel()
    assert "step 20, start: step 1" in figure.axes[2].get_xlabel()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A", "B", "at the start"]


def test_only_what_was_recorded_has_a_panel_and_what_is_missing_a_dash(tmp_path):
    some = [row._replace(value=None) if row.layer == "w1" and row.step == 20 else row
            for row in rows(0) if row.quantity == "distance_from_start"]  # fmt: skip
    one(tmp_path / "run", 0, scalars=some)
    (ax,) = plots.health(load(tmp_path / "run")).axes
    assert [text.get_text() for text in ax.texts] == ["–"]
    assert np.isnan(ax.lines[1].get_xdata()).tolist() == [True, False]


def test_one_panel_can_be_drawn_into_axes_of_ones_own(runs):
    from dropdiag.plots.health import by_layer
    from dropdiag.plots.layout import own_axes

    table = health.table(runs)
    ax = own_axes(None)
    assert by_layer(table[table["quantity"] == "dead_share"], ax=ax) is ax
    assert len(ax.lines) == 4
