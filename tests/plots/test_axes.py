"""Figures of one panel can be drawn into somebody's axes."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from dropdiag import plots
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import load
from tests.plots.test_figures import CONDITIONS, drawn
from tests.synthetic import content, write

ONE = {
    "weights": {"layers": ["layer2.linear"]},
    "correlation": {"layers": ["layer2.activation"]},
    "saturation": {"layers": ["layer2.activation"]},
}


@pytest.mark.parametrize(
    ("draw", "first"),
    [
        *((lambda runs, name=name, **o: getattr(plots, name)(runs, **ONE[name], **o), 0) for name in ONE),
        (lambda runs, **o: plots.distribution(runs, "weight", layers=["layer2.linear"], **o), 0),
        (lambda runs, **o: plots.scalar(runs, "participation_ratio", layers=["layer2.activation"], **o), 0),
        (lambda runs, **o: plots.scalar(runs, "net_grad_abs_mean", layers=["layer2.activation"], **o), 0),
        (lambda runs, **o: plots.learning(runs, ["loss"], **o), 0),
    ],
)
def test_one_panel_is_drawn_into_given_axes(runs, draw, first: int) -> None:
    figure = Figure(figsize=(8, 3))
    left, right = figure.subplots(1, 2)
    size = figure.get_size_inches().tolist()
    assert draw(runs, ax=right) is figure
    assert (left.has_data(), figure.legends, figure.get_size_inches().tolist()) == (False, [], size)
    alone = draw(runs).axes[first]
    assert list(drawn(right)) == CONDITIONS
    for name, line in drawn(alone).items():
        np.testing.assert_allclose(drawn(right)[name], line)
    assert (right.get_title(), right.get_ylabel()) == (alone.get_title(), alone.get_ylabel())
    assert [text.get_text() for text in right.get_legend().get_texts()][:3] == CONDITIONS
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("draw", "advice"),
    [
        (lambda runs, ax: plots.weights(runs, ax=ax), r"has 3: choose one layer with layers=\[...\], or leave ax out"),
        (lambda runs, ax: plots.scalar(runs, "participation_ratio", ax=ax), "choose one layer"),
        (lambda runs, ax: plots.learning(runs, ax=ax), r"has 2: choose one quantity, such as \['loss'\]"),
        (lambda runs, ax: plots.gradient_flow(runs, ax=ax), r"has 4: draw the curves of one layer with plots.scalar"),
        (lambda runs, ax: plots.gaaf(ax=ax), r"has 3: draw one with saw_tooth\(\) or shape\(\)"),
    ],
)
def test_axes_are_refused_where_one_panel_is_not_enough(runs, draw, advice: str) -> None:
    with pytest.raises(ArgumentError, match=advice):
        draw(runs, Figure().add_subplot())


def test_an_array_of_axes_is_refused(runs) -> None:
    with pytest.raises(
        ArgumentError, match="ax must be one matplotlib Axes, got ndarray; of an array, give one element"
    ):
        plots.weights(runs, layers=["layer1.linear"], ax=Figure().subplots(1, 2))


def test_many_layers_of_one_condition_are_one_map(deepest) -> None:
    figure = Figure()
    ax = figure.add_subplot()
    assert plots.weights(deepest, conditions=["Dropout"], ax=ax) is figure
    assert figure.axes == [ax]
    with pytest.raises(
        ArgumentError, match=r"has 2: choose one condition with conditions=\[...\], or at most 32 layers"
    ):
        plots.weights(deepest, ax=ax)


def test_figures_that_cannot_be_drawn_say_what_to_record(runs, tmp_path) -> None:
    with pytest.raises(NotRecordedError, match=r"call rec.net_variance\(x\) .* or draw what dropdiag.measure"):
        plots.net_variance(runs)
    run = load(write(tmp_path / "a", content("GAAF", 0), "GAAF", 0))
    for given in (runs, run):
        with pytest.raises(ArgumentError, match="takes no runs; what GAAF did in runs, plots.saturation"):
            plots.gaaf(given)
    for k in (0.0, -1.0, np.nan, np.inf, "10"):
        with pytest.raises(ArgumentError, match="k must be a positive number"):
            plots.gaaf(k)
