"""Figures of many layers stay of the size of a page; what a picture leaves out is said in it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dropdiag import plots
from dropdiag.analysis import gradient_flow, kde, saturation, scalar
from dropdiag.plots.layout import MANY, log_axis, panels
from dropdiag.store.reader import load
from tests.plots.test_figures import drawn, written
from tests.synthetic import Content, content, write, write_runs

# none of these conditions says that it is the baseline
pytestmark = pytest.mark.filterwarnings("ignore:no ratios of the gradient flow")


def mesh(ax) -> np.ndarray:
    (found,) = [one for one in ax.collections if hasattr(one, "get_coordinates")]
    return found.get_array()


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> object:
    """One condition has all layers, one lacks the last two."""
    folder = tmp_path_factory.mktemp("uneven")
    paths = []
    for name, layers in (("No dropout", MANY + 3), ("Dropout", MANY + 1)):
        made = content(name, 0, layers=layers, steps=12, size=300)
        made.weight["layer1.linear"][::4] = np.nan
        paths.append(write(folder / name, made, name, 0))
    return load(paths)


def test_densities_are_maps_of_the_analysis_curves(uneven) -> None:
    figure = plots.weights(uneven, bandwidth="scott")
    assert figure.get_figheight() < 10.0
    maps = figure.axes[:2]
    limits = maps[0].get_xlim()
    curves = kde.curves(uneven, "weight", bandwidth="scott", limits=limits)
    for ax, condition, layers in zip(maps, ("No dropout", "Dropout"), (MANY + 3, MANY + 1), strict=True):
        assert ax.get_title() == condition
        values = mesh(ax)
        assert values.shape == (MANY + 3, 400)
        assert (~np.ma.getmaskarray(values).all(axis=1)).sum() == layers
        curve = curves[(curves["condition"] == condition) & (curves["layer"] == "layer2.linear")]
        # a column shows the most in it, of the curve's points and of its middle
        edges = np.linspace(*limits, 401)
        expected = np.interp((edges[1:] + edges[:-1]) / 2, curve["x"], curve["density"])
        for i, (left, right) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            inside = curve["density"][(curve["x"] >= left) & (curve["x"] < right)]
            expected[i] = max(expected[i], inside.max()) if len(inside) else expected[i]
        np.testing.assert_allclose(values[1, 1:-1], expected[1:-1] / curve["density"].max(), atol=1e-9)
        assert "not finite: up to 25.0 % of the values, in 1 of 3" in " ".join(ax.get_xlabel().split("\n"))
    assert "grey: 2 of 35 layers, which it does not have" in " ".join(maps[1].get_xlabel().split("\n"))


def test_gradient_flow_of_many_layers(uneven) -> None:
    figure = plots.gradient_flow(uneven)
    assert figure.get_figheight() < 10.0
    _, second, means = figure.axes[:3]
    curves = gradient_flow.curves(uneven, conditions=["Dropout"])
    np.testing.assert_allclose(mesh(second)[0], curves.loc[curves["layer"] == "layer1.activation", "value"])
    assert np.ma.getmaskarray(mesh(second))[-2:].all()
    table = gradient_flow.table(uneven, conditions=["Dropout"])
    line = drawn(means)["Dropout"]
    np.testing.assert_allclose(line[:-2, 0], table["mean"])
    assert np.isnan(line[-2:, 0]).all()  # the line does not run over layers that the condition lacks
    assert len(line) == len(drawn(means)["No dropout"]) == MANY + 3


def test_saturation_of_many_layers(uneven) -> None:
    figure = plots.saturation(uneven)
    shares = saturation.table(uneven, conditions=["Dropout"])
    line = drawn(figure.axes[2])["Dropout"]
    np.testing.assert_allclose(line[:-2, 0], shares["left"] + shares["right"])


def test_a_scalar_of_many_layers(uneven) -> None:
    ax = plots.scalar(uneven, "participation_ratio").axes[0]
    values = scalar.curves(uneven, "participation_ratio", conditions=["No dropout"])["value"]
    np.testing.assert_allclose(mesh(ax)[:, 0], values)


def test_many_means_have_marks_without_numbers(tmp_path) -> None:
    paths = [write(tmp_path / str(i), content("A", i, layers=10, steps=5, size=50), f"c{i}", 0) for i in range(5)]
    below = plots.gradient_flow(load(paths), baseline="c0").axes[-1]
    assert written(below) == []
    assert sum(len(container.lines[0].get_xdata()) for container in below.containers) == 50


def _with(folder, name: str, made: Content, seed: int = 0):
    return write(folder / f"{name}-{seed}", made, name, seed)


def test_rows_do_not_overlap_where_conditions_have_other_layers(tmp_path) -> None:
    paths = []
    for place, name in enumerate(("a", "b", "c")):
        made = content("GAAF", place, steps=10, size=100)
        made.gradient_flow[f"own{place}"] = made.gradient_flow.pop("layer3.activation")
        paths.append(_with(tmp_path, name, made))
    figure = plots.gradient_flow(load(paths), baseline="a")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[-1].texts]
    for i, box in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert not box.padded(-1.0).overlaps(other.padded(-1.0))


def test_values_that_are_not_finite_are_told(tmp_path) -> None:
    made = content("GAAF", 0)
    made.weight["layer2.linear"][::2] = np.nan
    made.loss[20:30] = np.inf
    made.gradient_flow["layer1.activation"][:50] = np.nan
    run = load(_with(tmp_path, "GAAF", made))
    first, second, _ = plots.weights(run).axes
    assert second.get_xlabel().endswith("\nnot finite: GAAF 50.0 %")
    assert "finite" not in first.get_xlabel()
    loss = plots.learning(run, ["loss"]).axes[0]
    assert loss.get_xlabel() == "training step\nnot finite: GAAF 5.0 %"
    pieces = [line.get_xdata() for line in loss.lines]
    assert max(pieces[0]) < 31 < min(pieces[1]) + 12  # no line over the gap
    flow = plots.gradient_flow(run).axes[0]
    assert " ".join(flow.get_xlabel().split("\n")[1:]) == "not finite or not positive: GAAF 25.0 %"


def test_a_mean_of_some_runs_is_pale_and_its_number_is_told(tmp_path) -> None:
    lengths = {0: 60, 1: 60, 2: 40}
    paths = [_with(tmp_path, "GAAF", content("GAAF", seed, steps=n, size=50), seed) for seed, n in lengths.items()]
    (ax,) = plots.learning(load(paths), ["loss"]).axes
    whole, some = ax.lines
    assert (whole.get_alpha(), some.get_alpha()) == (1.0, 0.4)
    assert (max(whole.get_xdata()), min(some.get_xdata()), max(some.get_xdata())) == (40, 41, 60)
    assert " ".join(ax.get_xlabel().split("\n")[1:]) == "pale: GAAF 2 of 3 runs after step 40"
    assert [text for text in (whole.get_label(), some.get_label()) if not text.startswith("_")] == ["GAAF"]


def test_one_wide_layer_and_one_wide_condition_do_not_ruin_the_others(tmp_path) -> None:
    made, other = content("No dropout", 0, layers=4), content("Dropout", 0, layers=4)
    for part in (made, other):
        part.weight["layer2.linear"] *= 50
    other.weight["layer3.linear"] *= 100
    axes = plots.weights(load([_with(tmp_path, "No dropout", made), _with(tmp_path, "Dropout", other)])).axes
    ends = [ax.get_xlim() for ax in axes]
    assert ends[0] == ends[2] == ends[3]
    assert ends[0][1] < 0.3 < 5 < ends[1][1]
    assert axes[1].get_xlabel().endswith("\nan x axis of its own")
    values = other.weight["layer3.linear"]
    beyond = 100 * np.mean((values < ends[0][0]) | (values > ends[0][1]))
    told = re.fullmatch(r"[^\n]*\nbeyond the x axis: Dropout ([0-9.]+) %", axes[2].get_xlabel())
    assert told is not None
    assert float(told[1]) == pytest.approx(beyond, abs=0.2)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> list:
    """Forty conditions with long names, of which every other lacks a layer, half of whose weights are no numbers."""
    folder, paths = tmp_path_factory.mktemp("crowd"), []
    for i in range(40):
        made = content("GAAF", i, layers=2, steps=12 - i % 3, size=60)
        for part in (made.weight, made.net_value, made.node_correlation, made.gradient_flow):
            for key in [key for key in part if i % 2 and key.startswith("layer2")]:
                part.pop(key)
        made.weight["layer1.linear"][::2] = np.nan
        called = f"the $same$ beginning of every_name, {i} of them, the same end as well"
        paths.append(write(folder / str(i), made, called, 0))
    return paths


@pytest.mark.parametrize("name", ["weights", "saturation", "gradient_flow", "learning"])
@pytest.mark.parametrize("conditions", [8, 40])
def test_remarks_and_long_names_stay_apart_and_inside(crowd, name: str, conditions: int) -> None:
    runs = load(crowd[:conditions])
    figure = getattr(plots, name)(runs, **({"baseline": runs.conditions[0]} if name == "gradient_flow" else {}))
    figure.draw_without_rendering()
    boxes = [ax.xaxis.label.get_window_extent() for ax in figure.axes] + [
        ax.title.get_window_extent() for ax in figure.axes
    ]
    boxes += [text.get_window_extent() for legend in figure.legends for text in legend.get_texts()]
    for i, box in enumerate(boxes):
        assert figure.bbox.padded(1.0).containsx(box.x0)
        assert figure.bbox.padded(1.0).containsx(box.x1)
        assert figure.bbox.y0 - 1 <= box.y0 <= box.y1 <= figure.bbox.y1 + 1
        assert not any(box.padded(-1.0).overlaps(other.padded(-1.0)) for other in boxes[i + 1 :])
    labels = [text.get_text() for text in figure.legends[0].get_texts()][:conditions]
    assert len(set(labels)) == conditions


def test_a_long_entry_of_the_legend_leaves_the_conditions_their_columns(tmp_path) -> None:
    names = [f"Rate {i / 10}" for i in range(8)]
    figure = plots.saturation(write_runs(tmp_path, names, (0,), layers=1, steps=5, size=200))
    figure.draw_without_rendering()
    above, below = figure.legends
    assert [text.get_text() for text in above.get_texts()] == names
    assert len({round(text.get_window_extent().x0) for text in above.get_texts()}) >= 2
    assert "saturation area" in below.get_texts()[0].get_text()
    (panel,) = figure.axes
    assert below.get_window_extent().y1 < panel.xaxis.label.get_window_extent().y0
    assert below.get_window_extent().y0 >= figure.bbox.y0


def test_a_logarithmic_loss_has_plain_numbers_at_few_ticks(tmp_path) -> None:
    figure = plots.learning(write_runs(tmp_path, ["Dropout"], (0,), layers=1, steps=40, size=50), ["loss"])
    figure.draw_without_rendering()
    (panel,) = figure.axes
    assert panel.get_yscale() == "log"
    low, high = panel.get_ylim()
    shown = {
        label.get_text()
        for label in panel.get_yticklabels()
        if label.get_text() and low <= label.get_position()[1] <= high
    }
    assert shown
    assert shown <= {"0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5"}


@pytest.mark.parametrize(("low", "high", "expected"), [(3.0, 40_000.0, "10^{4}"), (1e-5, 1e-3, "10^{-4}")])
def test_numbers_too_long_to_be_read_are_powers(low: float, high: float, expected: str) -> None:
    _, (panel,) = panels(1)
    panel.set(yscale="log", ylim=(low, high))
    log_axis(panel, "y")
    panel.figure.draw_without_rendering()
    assert any(expected in label.get_text() for label in panel.get_yticklabels())


def test_a_layer_too_narrow_for_a_map_is_seen_and_told(tmp_path) -> None:
    made = content("Dropout", 0, layers=MANY + 2, steps=5, size=300)
    made.weight["layer3.linear"] = 1e-5 * made.weight["layer3.linear"]
    figure = plots.weights(load(write(tmp_path, made, "Dropout", 0)))
    assert f"less wide than 2 % of it: 1 of {MANY + 2} layers" in " ".join(figure.axes[0].get_xlabel().split("\n"))
    rows = mesh(figure.axes[0])
    np.testing.assert_allclose(rows.max(axis=1), 1.0, atol=1e-6)
    assert (rows[2] > 0).sum() <= 2  # one column, or the two beside the middle


def test_what_a_map_of_a_log_ratio_leaves_out_is_said_as_in_panels(tmp_path) -> None:
    made = content("Dropout", 0, layers=MANY + 2, steps=10, size=50)
    for name in list(made.gradient_flow)[:2]:
        made.gradient_flow[name][:] = 0.0
    figure = plots.scalar(load(write(tmp_path, made, "Dropout", 0)), "net_grad_abs_mean", phase="train")
    share = f"not finite or not positive: {100 * 2 / (MANY + 2):.1f} %"
    assert share in " ".join(figure.axes[0].get_xlabel().split("\n"))
