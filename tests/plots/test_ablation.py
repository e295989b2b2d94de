"""The figures of ablation and of the gradient's direction hold the numbers of the analysis."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from dropdiag import plots
from dropdiag.analysis import ablation, scalar
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter
from tests.analysis.test_ablation import LAYERS, ablated_runs
from tests.plots.test_figures import drawn, legend_labels, written
from tests.synthetic import _meta, content


@pytest.fixture(scope="module")
def ablated(tmp_path_factory):
    return load(ablated_runs(tmp_path_factory.mktemp("ablated"), correlated=True, multiple=True))


def test_definitions_stand_side_by_side_before_the_curves(ablated):
    figure = plots.ablation(ablated)
    titles = ["Interaction when ablated", "Node correlation", "Multiple correlation"]
    assert [ax.get_title() for ax in figure.axes] == titles + [f"{layer}: accuracy" for layer in LAYERS]
    assert legend_labels(figure) == ["No dropout", "Dropout", "null: groups drawn by lot; finite samples"]
    table = ablation.table(ablated)
    for ax, name in zip(figure.axes, ("interaction", "correlation", "multiple correlation"), strict=False):
        rows = table[table["definition"] == name]
        called = [tick.get_text().replace("\n", "") for tick in ax.get_xticklabels()]
        assert called == [*LAYERS]
        for bars, condition in zip(ax.containers, ("No dropout", "Dropout"), strict=True):
            own = rows[rows["condition"] == condition]
            np.testing.assert_allclose(bars.lines[0].get_ydata(orig=False), own["value"])
            ends = [segment[:, 1] for segment in bars.lines[2][0].get_segments()]
            np.testing.assert_allclose(np.ptp(ends, axis=1), 2 * own["value_sd"], rtol=1e-9)
        strokes = [y for one in ax.collections[::2] for y in np.array(one.get_segments())[:, 0, 1]]
        assert sorted(strokes) == pytest.approx(sorted(rows["null"]))
    curves = ablation.curves(ablated)
    for ax, layer in zip(figure.axes[3:], LAYERS, strict=True):
        rows = curves[curves["layer"] == layer]
        for line, condition in zip(ax.lines, ("No dropout", "Dropout"), strict=True):
            own = rows[rows["condition"] == condition]
            np.testing.assert_allclose(line.get_xydata(), own[["share", "value"]])


def test_without_classes_the_loss_is_drawn_and_what_is_not_recorded_is_not(tmp_path):
    runs = load(ablated_runs(tmp_path, accuracy=False))
    figure = plots.ablation(runs, layers={LAYERS[1]: "second"}, conditions=["Dropout"])
    assert [ax.get_title() for ax in figure.axes] == ["Interaction when ablated", "second: loss"]
    assert legend_labels(figure)[0] == "Dropout"
    figure = plots.ablation(runs)  # the definitions have a row of their own
    shown = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title() for ax in shown] == ["Interaction when ablated", *(f"{layer}: loss" for layer in LAYERS)]
    assert [ax.get_subplotspec().rowspan.start for ax in shown] == [0, 1, 1, 1]


def test_one_axes_does_not_hold_them(ablated):
    with pytest.raises(ArgumentError, match=r"draw one with definition\(\) or curve\(\)"):
        plots.ablation(ablated, ax=Figure().add_subplot())


STEPS = 0, 1, 10, 1000


def direction_runs(folder, *, finite=True):
    paths = {}
    for effect, condition in enumerate(("No dropout", "Dropout")):
        for seed in (0, 1):
            path = folder / f"{effect}-{seed}"
            writer = RunWriter(path, _meta(content(condition, seed, steps=10), condition, seed, "Tanh"))
            for place, step in enumerate(STEPS):
                for switch, there in (("on", effect == 1), ("off", True)):
                    for name, base in (("direction_variance", 0.1), ("direction_error", 0.2), ("noise_scale", 30)):
                        value = base * (1 + place) * (1 + seed) if there and finite else None
                        name = f"gradient_{name}_masks_{switch}"  # noqa: PLW2901 - a column of its own
                        writer.add_scalars([ScalarRow(step, "gradient_direction", None, 0, name, value)])
            writer.close("completed")
            paths.setdefault(condition, []).append(path)
    return load(paths)


def test_directions_are_drawn_over_training_with_masks_on_and_off(tmp_path):
    runs = direction_runs(tmp_path)
    figure = plots.gradient_direction(runs)
    names = ["direction_variance", "direction_error", "noise_scale"]
    titles = ["Variance of direction", "Error of direction", "Noise scale"]
    assert [ax.get_title() for ax in figure.axes] == [f"{t}, masks {s}" for s in ("on", "off") for t in titles]
    for place, ax in enumerate(figure.axes):
        switch = "off" if place >= 3 else "on"
        log = place % 3 == 2
        curves = scalar.curves(runs, f"gradient_{names[place % 3]}_masks_{switch}", log=log)
        lines = drawn(ax)
        assert list(lines) == (["No dropout", "Dropout"] if switch == "off" else ["Dropout"])
        for condition, line in lines.items():
            np.testing.assert_allclose(line, curves.loc[curves["condition"] == condition, ["step", "value"]])
        assert ax.get_yscale() == ("log" if log else "linear")
        assert ax.get_xscale() == "symlog"
        assert ax.get_ylim() == figure.axes[(place + 3) % 6].get_ylim()
        assert ("no finite value: No dropout" in ax.get_xlabel()) == (switch == "on")
    assert legend_labels(figure) == ["No dropout", "Dropout"]


def test_without_any_dropout_the_panels_with_masks_say_so(tmp_path):
    runs = direction_runs(tmp_path)
    figure = plots.gradient_direction(runs, conditions=["No dropout"])
    assert written(figure.axes[0]) == ["no finite value"]
    assert list(drawn(figure.axes[3])) == ["No dropout"]


def test_nothing_finite_is_an_error(tmp_path):
    with pytest.raises(NotRecordedError, match="no value of gradient_direction is finite"):
        plots.gradient_direction(direction_runs(tmp_path, finite=False))
