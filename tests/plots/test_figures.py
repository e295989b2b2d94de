from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dropdiag import plots
from dropdiag.analysis import correlation, gaaf, gradient_flow, kde, learning, saturation
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.plots import style
from dropdiag.store.reader import load
from tests.synthetic import BORDER, SAMPLES, content, write

LAYERED = ("weights", "correlation", "gradient_flow", "saturation")
CONDITIONS = ["No dropout", "Dropout", "GAAF"]


def drawn(ax) -> dict[str, np.ndarray]:
    """Labelled lines of the axes, by condition."""
    return {line.get_label(): line.get_xydata() for line in ax.lines if line.get_label() in CONDITIONS}


def written(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def legend_labels(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("name", "quantity", "options"),
    [
        ("weights", "weight", {}),
        ("correlation", "node_correlation", {"support": (-1.0, 1.0), "limits": (-1.0, 1.0)}),
    ],
)
def test_density_figures_draw_the_curves_and_bars_of_the_analysis(runs, name, quantity, options) -> None:
    figure = getattr(plots, name)(runs, bandwidth="scott")
    axes = figure.axes
    limits = {"limits": axes[0].get_xlim()} | options
    curves = kde.curves(runs, quantity, bandwidth="scott", **limits)
    bars = kde.bars(runs, quantity, **limits)
    for ax, layer in zip(axes, curves["layer"].unique(), strict=True):
        assert ax.get_title() == layer
        lines = drawn(ax)
        assert list(lines) == CONDITIONS
        for i, condition in enumerate(CONDITIONS):
            same = (curves["layer"] == layer) & (curves["condition"] == condition)
            np.testing.assert_allclose(lines[condition], curves.loc[same, ["x", "density"]], atol=1e-9)
            same = (bars["layer"] == layer) & (bars["condition"] == condition)
            stairs = [patch for patch in ax.patches if hasattr(patch, "get_data")][2 * i]
            np.testing.assert_allclose(stairs.get_data().values, bars.loc[same, "density"], atol=1e-9)


def test_correlation_shows_the_permutation_null(runs) -> None:
    limit = correlation.null_limit(SAMPLES)
    for ax in plots.correlation(runs).axes:
        band = next(p for p in ax.patches if to_hex(p.get_facecolor()) == "#bdbdbd")
        assert (band.get_x(), band.get_width()) == pytest.approx((-limit, 2 * limit))
        assert ax.get_xlim() == (-1.0, 1.0)
        assert written(ax) == [f"±{limit:.2g}"]


def test_saturation_shades_the_area_and_writes_the_exact_shares(runs) -> None:
    figure = plots.saturation(runs)
    table = saturation.table(runs)
    for ax, layer in zip(figure.axes, table["layer"].unique(), strict=True):
        spans = [p for p in ax.patches if to_hex(p.get_facecolor()) == style.SHADE.lower()]
        first, last = ax.get_xlim()
        ends = sorted((p.get_x(), p.get_x() + p.get_width()) for p in spans)
        np.testing.assert_allclose(ends, [(first, -BORDER), (BORDER, last)])
        rows = table[table["layer"] == layer]
        expected = [f"{100 * v:.1f} %" for row in rows.itertuples() for v in (row.left, row.right)]
        assert written(ax) == expected
        figure.canvas.draw()
        lowest = min(t.get_window_extent().y0 for t in ax.texts)
        tallest = max(line[:, 1].max() for line in drawn(ax).values())
        assert ax.transData.transform((0, tallest))[1] < lowest  # no text over data


def test_gradient_flow_draws_curves_and_writes_the_table(runs) -> None:
    figure = plots.gradient_flow(runs)
    curves, table = gradient_flow.curves(runs), gradient_flow.table(runs)
    *panels, below = figure.axes
    for ax, layer in zip(panels, curves["layer"].unique(), strict=True):
        assert ax.get_yscale() == "log"
        assert len(ax.collections) == 3  # bands
        for condition, line in drawn(ax).items():
            same = (curves["layer"] == layer) & (curves["condition"] == condition)
            np.testing.assert_allclose(line, curves.loc[same, ["step", "value"]])
    text = written(below)
    for row in table.itertuples():
        digits, power = f"{row.mean:.2e}".split("e")
        assert rf"${digits} \times 10^{{{int(power)}}}$" in text
        if row.condition != "No dropout":
            assert f"{row.ratio:.2f} [{row.ratio_low:.2f}, {row.ratio_high:.2f}]" in text
    assert "ratio to No dropout [95 %]" in text
    marks = [c.lines[0].get_xdata()[0] for c in below.containers]
    np.testing.assert_allclose(sorted(marks), sorted(table["mean"]))
    other = plots.gradient_flow(runs, baseline="GAAF").axes[-1]
    assert "ratio to GAAF [95 %]" in written(other)


def test_learning_draws_what_was_recorded(runs) -> None:
    figure = plots.learning(runs)
    loss, accuracy = figure.axes
    assert (loss.get_title(), accuracy.get_title()) == ("loss, training", "accuracy, held out")
    curve = learning.curves(runs, "accuracy", conditions=["GAAF"])
    np.testing.assert_allclose(drawn(accuracy)["GAAF"], curve[["step", "value"]])
    assert len(plots.learning(runs, ["loss"], conditions=["GAAF"]).axes) == 1
    with pytest.raises(NotRecordedError, match="no run holds 'f1'"):
        plots.learning(runs, ["f1"])


def test_gaaf_draws_the_saw_tooth_and_the_shapes() -> None:
    saw, tanh, relu = plots.gaaf(k=1000.0).axes
    assert np.nanmax(np.abs(saw.lines[-1].get_ydata())) == pytest.approx(0.5)
    assert "K = 1,000" in saw.get_xlabel()
    for ax, name in ((tanh, "tanh"), (relu, "relu")):
        by_label = {line.get_label(): line for line in ax.lines}
        x = by_label["$s(x)$"].get_xdata()
        np.testing.assert_allclose(by_label["$s(x)$"].get_ydata(), gaaf.shape(x, name))
        np.testing.assert_allclose(by_label[r"$\phi(x)$"].get_ydata(), gaaf.phi(x, name))


def test_a_condition_looks_the_same_in_every_figure(runs) -> None:
    seen = set()
    for figure in (plots.weights(runs, conditions=["GAAF"]), plots.saturation(runs), plots.learning(runs)):
        line = next(line for line in figure.axes[0].lines if line.get_label() == "GAAF")
        seen.add((to_hex(line.get_color()), line.get_linestyle()))
    assert len(seen) == 1
    many = style.looks([str(i) for i in range(30)])
    assert len({(look.colour, str(look.line)) for look in many.values()}) == 30


@pytest.mark.parametrize("name", LAYERED)
def test_layers_may_be_chosen_and_named(runs, name: str) -> None:
    part = "linear" if name == "weights" else "activation"
    figure = getattr(plots, name)(runs, layers={f"layer2.{part}": "Second", f"layer1.{part}": "First"})
    assert [ax.get_title() for ax in figure.axes[:2]] == ["Second", "First"]
    with pytest.raises(ArgumentError, match=f"no layer 'fc'; there are 'layer1.{part}'"):
        getattr(plots, name)(runs, layers=["fc"])
    with pytest.raises(ArgumentError, match="no condition 'x'; there are 'No dropout'"):
        getattr(plots, name)(runs, conditions=["x"])
    with pytest.raises(ArgumentError, match="layers must be a list of names, got the string 'fc'"):
        getattr(plots, name)(runs, layers="fc")


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("which", ["runs", "deep", "one"])
def test_no_text_is_clipped_or_overlaps(runs, deep, name: str, which: str, tmp_path) -> None:
    given = {"runs": runs, "deep": deep, "one": runs[:1]}[which]
    figure = getattr(plots, name)(given)
    figure.draw_without_rendering()
    size = figure.bbox
    boxes = []
    for ax in figure.axes:
        texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
        boxes += [t.get_window_extent() for t in texts if t.get_text() and t.get_visible()]
        boxes += [t.get_window_extent() for t in _tick_labels(ax)]
    boxes.append(figure.legends[0].get_window_extent())
    for box in boxes:
        assert box.x0 >= size.x0 - 1
        assert box.x1 <= size.x1 + 1
        assert box.y0 >= size.y0 - 1
        assert box.y1 <= size.y1 + 1
    for i, box in enumerate(boxes):
        for other in boxes[i + 1 :]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert not (width > 1.5 and height > 1.5), (box, other)


def _tick_labels(ax) -> list:
    shown = []
    for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
        place = 0 if axis is ax.xaxis else 1
        texts = [label for label in axis.get_majorticklabels() if label.get_text() and label.get_visible()]
        shown += [label for label in texts if low <= label.get_position()[place] <= high]
    return shown


def test_exact_zeros_are_told(tmp_path) -> None:
    made = content("Dropout", 0)
    made.weight["layer1.linear"][:1000] = 0.0
    runs = load([write(tmp_path / "r", made, "Dropout", 0)])
    first, second, _ = plots.weights(runs).axes
    assert first.get_xlabel().endswith("\nexact zeros: Dropout 25.0 %")
    assert "zeros" not in second.get_xlabel()
    assert first.get_ylim()[1] == pytest.approx(1.1 * drawn(first)["Dropout"][:, 1].max())


def test_a_condition_without_finite_values_is_told(tmp_path) -> None:
    made = content("GAAF", 0)
    made.net_value["layer1.activation"][:] = np.nan
    paths = [
        write(tmp_path / "a", content("Dropout", 0), "Dropout", 0),
        write(tmp_path / "b", made, "GAAF", 0),
    ]
    figure = plots.saturation(load(paths))
    assert figure.axes[0].get_xlabel().endswith("\nno finite value: GAAF")
    assert "no finite" not in figure.axes[1].get_xlabel()
    assert list(drawn(figure.axes[0])) == ["Dropout"]
    assert legend_labels(figure)[:2] == ["Dropout", "GAAF"]


def test_a_layer_without_finite_values_keeps_its_panel(tmp_path) -> None:
    made = content("GAAF", 0)
    made.weight["layer2.linear"][:] = np.nan
    figure = plots.weights(load([write(tmp_path / "a", made, "GAAF", 0)]))
    assert [len(drawn(ax)) for ax in figure.axes] == [1, 0, 1]
    assert figure.axes[1].get_xlabel().endswith("no finite value: GAAF")


def test_nothing_leaks_into_matplotlib(runs) -> None:
    before = dict(mpl.rcParams)
    figure = plots.weights(runs)
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
