from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dropdiag import plots
from dropdiag.analysis import correlation, gaaf, gradient_flow, kde, learning, saturation
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.plots import style, words
from dropdiag.store.reader import load
from tests.synthetic import BORDER, SAMPLES, content, write

LAYERED = ("weights", "correlation", "gradient_flow", "saturation")
CONDITIONS = ["No dropout", "Dropout", "GAAF"]


def drawn(ax) -> dict[str, np.ndarray]:
    """Labelled lines of the axes, by condition."""
    return {line.get_label(): line.get_xydata() for line in ax.lines if line.get_label() in CONDITIONS}


def marks(ax) -> np.ndarray:
    """Means that have a mark with an error bar."""
    return np.concatenate([container.lines[0].get_xdata() for container in ax.containers])


def written(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def legend_labels(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


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
            stairs = [patch for patch in ax.patches if hasattr(patch, "get_data")][i]
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
        for line in drawn(ax).values():  # no text over data
            at = ax.transData.transform(line)
            for box in (text.get_window_extent() for text in ax.texts):
                beside = at[(at[:, 0] >= box.x0) & (at[:, 0] <= box.x1), 1]
                assert beside.max() < box.y0


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
        assert words.power(row.mean) in text
        if row.condition != "No dropout":
            assert f"{row.ratio:.2f} [{row.ratio_low:.2f}, {row.ratio_high:.2f}]" in text
    assert "ratio to No dropout [95 %]" in text
    np.testing.assert_allclose(sorted(marks(below)), sorted(table["mean"]))
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
@pytest.mark.parametrize("which", ["runs", "deep", "one", "deepest"])
def test_no_text_is_clipped_or_overlaps(runs, deep, deepest, name: str, which: str) -> None:
    given = {"runs": runs, "deep": deep, "one": runs[:1], "deepest": deepest}[which]
    figure = getattr(plots, name)(given)
    figure.draw_without_rendering()
    size = figure.bbox
    boxes = []
    for ax in figure.axes:
        texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
        boxes += [t.get_window_extent() for t in texts if t.get_text() and t.get_visible()]
        boxes += [t.get_window_extent() for t in _tick_labels(ax)]
    boxes += [legend.get_window_extent() for legend in figure.legends]
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


def shades(ax, colour: str) -> list[tuple[float, float]]:
    """Vertical spans of one colour."""
    spans = [p for p in ax.patches if hasattr(p, "get_x") and to_hex(p.get_facecolor()) == colour.lower()]
    return sorted((p.get_x(), p.get_x() + p.get_width()) for p in spans)


def test_runs_in_folders_of_one_name_are_drawn(tmp_path) -> None:
    paths = [write(tmp_path / f"s{seed}" / "run", content("Dropout", seed), "Dropout", seed) for seed in (0, 1)]
    assert [len(drawn(ax)) for ax in plots.saturation(load(paths)).axes] == [1, 1, 1]


@pytest.mark.parametrize("name", ["saturation", "correlation"])
def test_a_figure_shows_one_phase_alone(tmp_path, name: str) -> None:
    quantity = {"saturation": "net_value", "correlation": "node_correlation"}[name]
    both = {"train": content("GAAF", 7)}
    paths = [
        write(tmp_path / "a", content("Dropout", 0), "Dropout", 0, phase="test", also=both),
        write(tmp_path / "b", content("No dropout", 0), "No dropout", 0, phase="train"),
    ]
    runs = load(paths)
    with pytest.warns(DropdiagWarning, match=f"no '{quantity}' in phase 'test': 'b'; choose a phase") as caught:
        figure = getattr(plots, name)(runs)
    assert len(caught) == 1
    assert [list(drawn(ax)) for ax in figure.axes] == [["Dropout"]] * 3
    assert "No dropout" not in legend_labels(figure)
    limits = {"limits": figure.axes[0].get_xlim(), "support": (-1.0, 1.0) if name == "correlation" else (None, None)}
    expected = kde.curves(runs[:1], quantity, phase="test", **limits)
    first = expected[expected["layer"] == "layer1.activation"]
    np.testing.assert_allclose(drawn(figure.axes[0])["Dropout"], first[["x", "density"]], atol=1e-9)
    figure = getattr(plots, name)(runs, phase="train")
    assert [list(drawn(ax)) for ax in figure.axes] == [["Dropout", "No dropout"]] * 3
    with pytest.raises(NotRecordedError, match="in phase 'eval'; recorded are 'test', 'train'"):
        getattr(plots, name)(runs, phase="eval")


def test_shares_are_written_of_the_phase_that_is_drawn(tmp_path) -> None:
    made, other = content("Dropout", 0), content("No dropout", 5)
    run = load(write(tmp_path / "a", made, "Dropout", 0, phase="test", also={"train": other}))
    for phase, part in ((None, made), ("train", other)):
        z = part.net_value["layer3.activation"].astype(np.float64)
        shares = [(z <= -BORDER).mean(), (z >= BORDER).mean()]
        assert written(plots.saturation(run, phase=phase).axes[2]) == [f"{100 * share:.1f} %" for share in shares]


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_a_frozen_layer_keeps_its_panel_and_says_so(tmp_path, value: float) -> None:
    made = content("GAAF", 0)
    made.gradient_flow["layer2.activation"][:] = value
    run = load(write(tmp_path / "a", made, "GAAF", 0))
    figure = plots.gradient_flow(run)
    *panels, below = figure.axes
    assert [ax.get_title() for ax in panels] == list(made.gradient_flow)
    assert [written(ax) for ax in panels] == [[], ["no gradient"], []]
    assert ("–" if np.isnan(value) else "0") in written(below)
    assert len(marks(below)) == 2
    figure.draw_without_rendering()
    made.gradient_flow["layer1.activation"][:] = np.inf
    made.gradient_flow["layer3.activation"][:] = 0.0
    run = load(write(tmp_path / "b", made, "GAAF", 0))
    with pytest.raises(NotRecordedError, match="not one value of layer1.activation, layer2.activation, .* is finite"):
        plots.gradient_flow(run)


def test_a_layer_frozen_in_one_condition_alone(tmp_path) -> None:
    made = content("GAAF", 0)
    made.gradient_flow["layer1.activation"][:] = np.nan
    paths = [write(tmp_path / "a", made, "GAAF", 0), write(tmp_path / "b", content("Dropout", 0), "Dropout", 0)]
    figure = plots.gradient_flow(load(paths), baseline="GAAF")
    assert [list(drawn(ax)) for ax in figure.axes[:3]] == [["Dropout"], ["GAAF", "Dropout"], ["GAAF", "Dropout"]]
    assert written(figure.axes[-1]).count("–") == 1
    assert written(figure.axes[0]) == []
    figure.draw_without_rendering()


def test_learning_without_finite_values(tmp_path) -> None:
    made = content("GAAF", 0)
    made.loss[:] = np.nan
    run = write(tmp_path / "a", made, "GAAF", 0)
    loss, accuracy = plots.learning(load([run])).axes
    assert (drawn(loss), list(drawn(accuracy))) == ({}, ["GAAF"])
    assert loss.get_title() == "loss, training"
    assert loss.get_xlabel() == "training step\nno finite value: GAAF"
    with pytest.raises(NotRecordedError, match="not one value of 'loss' is finite"):
        plots.learning(load([run]), ["loss"])
    other = content("Dropout", 0)
    other.accuracy = other.accuracy[:0]
    loss, accuracy = plots.learning(load([run, write(tmp_path / "b", other, "Dropout", 0)])).axes
    assert list(drawn(loss)) == ["Dropout"]
    assert accuracy.get_xlabel() == "training step\nnot in Dropout"


def test_an_activation_without_known_derivative_is_drawn_without_an_area(tmp_path) -> None:
    paths = [
        write(tmp_path / "a", content("Dropout", 0), "Dropout", 0, activation="PReLU(num_parameters=1)"),
        write(tmp_path / "b", content("GAAF", 0), "GAAF", 0),
    ]
    alone = plots.saturation(load(paths[:1]))
    assert [written(ax) for ax in alone.axes] == [[], [], []]
    assert [shades(ax, style.SHADE) for ax in alone.axes] == [[], [], []]
    assert legend_labels(alone) == ["Dropout"]
    both = plots.saturation(load(paths))
    assert [len(written(ax)) for ax in both.axes] == [2, 2, 2]
    assert [shades(ax, style.SHADE) for ax in both.axes] == [[], [], []]  # it would not hold for PReLU
    assert len(shades(both.axes[0], style.COLOURS[1])) == 2


def test_areas_that_differ_are_marked_in_the_conditions_colours(tmp_path) -> None:
    relu = content("GAAF", 0)
    relu.net_value["only.here"] = relu.net_value.pop("layer3.activation")
    paths = [
        write(tmp_path / "a", content("Dropout", 0), "Dropout", 0),
        write(tmp_path / "b", relu, "GAAF", 0, activation="ReLU"),
    ]
    figure = plots.saturation(load(paths))
    by_title = {ax.get_title(): ax for ax in figure.axes}
    ax = by_title["layer1.activation"]
    first, last = ax.get_xlim()
    assert shades(ax, style.SHADE) == []
    np.testing.assert_allclose(shades(ax, style.COLOURS[0]), [(first, -BORDER), (BORDER, last)])
    np.testing.assert_allclose(shades(ax, style.COLOURS[1]), [(first, 0.0)])
    borders = {to_hex(line.get_color()): set() for line in ax.lines}
    for line in ax.lines:
        if len(set(line.get_xdata())) == 1:
            borders[to_hex(line.get_color())].add(round(float(line.get_xdata()[0]), 6))
    assert borders == {style.COLOURS[0].lower(): {round(-BORDER, 6), round(BORDER, 6)}, style.COLOURS[1].lower(): {0.0}}
    assert len(shades(by_title["layer3.activation"], style.SHADE)) == 2  # of Dropout alone
    assert shades(by_title["only.here"], style.SHADE) == [(first, 0.0)]
    labels = legend_labels(figure)
    assert labels[2].startswith("saturation area")
    assert labels[3] == "bars at the foot: each condition's own"
    alone = legend_labels(plots.saturation(load(paths), layers=["layer1.activation"]))
    assert alone[2].startswith("bars at the foot: each condition's saturation area")
    assert len(alone) == 3


def test_a_layer_that_a_condition_does_not_have_is_told(tmp_path) -> None:
    made = content("GAAF", 0)
    made.weight["only.here"] = made.weight.pop("layer3.linear")
    made.weight["layer1.linear"][:] = np.nan
    paths = [write(tmp_path / "a", content("Dropout", 0), "Dropout", 0), write(tmp_path / "b", made, "GAAF", 0)]
    axes = {ax.get_title(): ax for ax in plots.weights(load(paths)).axes}
    assert axes["layer1.linear"].get_xlabel().split("\n")[1:] == ["no finite value: GAAF"]
    assert axes["layer2.linear"].get_xlabel().split("\n")[1:] == []
    assert axes["layer3.linear"].get_xlabel().split("\n")[1:] == ["not in GAAF"]
    assert axes["only.here"].get_xlabel().split("\n")[1:] == ["not in Dropout"]


@pytest.mark.parametrize("name", [*LAYERED, "learning"])
def test_dollar_signs_are_drawn_as_they_are(tmp_path, name: str) -> None:
    """An unknown command inside dollar signs ends drawing, were it taken for mathtext."""
    odd, plain = "$\\foo$", content("GAAF", 0)
    made = content("Dropout", 0)
    for part in (made.weight, made.net_value, made.node_correlation, made.gradient_flow):
        key = next(iter(part))
        values = part.pop(key)
        values[: len(values) // 2] = 0.0 if part is not made.node_correlation else values[0]
        part[odd + key[-7:]] = values
    figure = getattr(plots, name)(load({
        odd: write(tmp_path / "a", made, odd, 0), "$x_1$": write(tmp_path / "b", plain, "$x_1$", 0),
    }))  # fmt: skip
    figure.draw_without_rendering()
    texts = list(figure.legends[0].get_texts())
    assert [text.get_text() for text in texts[:2]] == ["\\$\\foo\\$", "\\$x_1\\$"]
    assert not any(text._preprocess_math(text.get_text())[1] for text in texts[:2])
    assert texts[0]._preprocess_math(texts[0].get_text())[0] == odd
    if name != "learning":
        assert any(ax.get_title().startswith("\\$\\foo\\$") for ax in figure.axes)


def test_a_title_of_the_readers_own_may_hold_mathtext(runs) -> None:
    figure = plots.weights(runs, layers={"layer1.linear": r"$W_1$"})
    assert figure.axes[0].get_title() == r"$W_1$"
