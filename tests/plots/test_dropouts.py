"""The figure of dropouts: by site, or over training where a rate is scheduled."""

from __future__ import annotations

import numpy as np
import pytest

from dropdiag import plots
from dropdiag.analysis import dropouts
from dropdiag.errors import NotRecordedError
from dropdiag.store.reader import load
from tests.versions import DROPOUTS, drop_run, schedule, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dropouts")
    for seed in range(2):
        write_run(folder / f"base-s{seed}", condition="No dropout", seed=seed)
        drop_run(folder / f"drop-s{seed}", seed)
        drop_run(folder / f"half-s{seed}", seed, "Half", lambda _: 0.5)
        drop_run(folder / f"early-s{seed}", seed, "Early", schedule)
    return folder


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_marks_stand_at_the_numbers_of_the_table(folder):
    runs = load(
        {"No dropout": str(folder / "base-*"), "Dropout": str(folder / "drop-*"), "Half": str(folder / "half-*")}
    )
    figure, table = plots.dropouts(runs), dropouts.table(runs)
    assert [ax.get_xlabel() for ax in figure.axes] == ["dropout rate", "dropped share", "noise-to-signal ratio"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(DROPOUTS)
    assert labels(figure) == ["Dropout", "Half"]  # a condition without dropout has no mark, and no place in the legend
    for ax, column in zip(figure.axes, ["rate_last", "dropped_share", "noise_to_signal"], strict=True):
        assert [line.get_xdata().tolist() for line in ax.lines] == [
            table.loc[table["condition"] == name, column].tolist() for name in ("Dropout", "Half")
        ]
        places = [line.get_ydata() for line in ax.lines]
        assert all(np.round(y).tolist() == [0, 1] for y in places)
        assert (places[0] < places[1]).all()


def test_a_scheduled_rate_is_drawn_over_training(folder):
    runs = load({"Dropout": str(folder / "drop-*"), "Early": str(folder / "early-*")})
    figure = plots.dropouts(runs)
    assert len(figure.axes) == 3 * len(DROPOUTS)
    assert [ax.get_title() for ax in figure.axes[::3]] == list(DROPOUTS)
    assert [ax.get_ylabel() for ax in figure.axes[:3]] == ["dropout rate", "dropped share", "noise-to-signal ratio"]
    constant, early = figure.axes[0].lines
    assert set(constant.get_ydata()) == {0.3}
    assert early.get_ydata() == pytest.approx([schedule(step) for step in early.get_xdata()])
    assert len(plots.dropouts(runs, layers={DROPOUTS[1]: "the last one"}).axes) == 3


def test_a_number_that_is_missing_is_a_dash_and_nothing_at_all_an_error(tmp_path):
    rows = [{"layer": "drop", "call": 0, "kind": "dropout", "type": "Dropout", "rate": 0.5, "grain": "block"}]
    figure = plots.dropouts(load(write_run(tmp_path / "run", rows=rows)))
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [[], ["–"], ["–"]]
    old = write_run(tmp_path / "old", schema=1, rows=[{key: rows[0][key] for key in ("layer", "call", "kind", "type")}])
    with pytest.raises(NotRecordedError, match="no run recorded the rate of a dropout"):
        plots.dropouts(load(old))
