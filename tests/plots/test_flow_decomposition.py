from __future__ import annotations

import numpy as np
import pytest

from dropdiag import plots
from dropdiag.analysis import flow_decomposition as decomposition
from dropdiag.analysis import gradient_flow
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.plots.factors import factor_axis
from dropdiag.plots.flow_decomposition import COLOURS
from dropdiag.plots.layout import panels
from dropdiag.store.reader import Runs, load
from tests.flows import NET, OUTPUT, flow_runs, readings, write_flow


@pytest.fixture(scope="module")
def decomposed(tmp_path_factory) -> Runs:
    return flow_runs(tmp_path_factory.mktemp("flow"), paths=["act2"])


def test_bars_of_each_sign_add_up_to_the_total_that_is_marked(decomposed) -> None:
    (ax,) = plots.flow_decomposition(decomposed).axes
    table = decomposition.table(decomposed)
    for row, layer in enumerate(("act1", "act2", "act3")):
        bars = [bar for bar in ax.patches if abs(bar.get_y() + bar.get_height() / 2 - row) < 1e-9]
        part = table[table["layer"] == layer].set_index("term")["effect"]
        assert sum(bar.get_width() for bar in bars) == pytest.approx(part["total"], abs=1e-9)
        widths = {bar.get_facecolor(): bar.get_width() for bar in bars}
        assert len(widths) == len(part) - 1
        for sign in (1, -1):  # each begins where the one before ended
            side = sorted((bar for bar in bars if bar.get_width() * sign > 0), key=lambda bar: abs(bar.get_x()))
            ends = np.cumsum([0.0, *(bar.get_width() for bar in side)])
            np.testing.assert_allclose([bar.get_x() for bar in side], ends[:-1], atol=1e-12)
        (mark,) = [line for line in ax.lines if line.get_marker() == "D" and list(line.get_ydata()) == [row]]
        assert mark.get_xdata()[0] == pytest.approx(part["total"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["act1", "act2", "act3"]
    legend = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert legend == [*COLOURS, "total"]


def test_over_training_a_line_a_term(decomposed) -> None:
    figure = plots.flow_decomposition(decomposed, over="training", layers=["act2", "act1"])
    assert [ax.get_title() for ax in figure.axes] == ["act2", "act1"]
    frame = decomposition.over_training(decomposed, layers=["act2"], bins=40)
    for line in figure.axes[0].lines[1:]:
        rows = frame[frame["term"] == line.get_label()]
        np.testing.assert_allclose(line.get_ydata(), rows["effect"])
        np.testing.assert_allclose(line.get_xdata(), rows["step"])


def test_a_term_that_is_missing_is_told_below(tmp_path) -> None:
    paths = {}
    for seed, condition in enumerate(("No dropout", "Dropout")):
        made = readings(["act1"], steps=4, seed=seed)
        made[OUTPUT, "(output)"][:] = np.nan
        paths[condition] = write_flow(tmp_path / condition, made, ["act1"], condition=condition, seed=0)
    (ax,) = plots.flow_decomposition(load(paths)).axes
    told = " ".join(ax.get_xlabel().split())
    assert "no output error" in told
    assert "the gradient of the output of '(output)' has no value" in told


def test_runs_without_it_are_told_to_record_it(runs) -> None:
    with pytest.raises(NotRecordedError, match="record it with probes='paper'"):
        plots.flow_decomposition(runs)


def test_wrong_options_are_refused(decomposed) -> None:
    with pytest.raises(ArgumentError, match="over must be 'training' or left out, got 'epochs'"):
        plots.flow_decomposition(decomposed, over="epochs")
    with pytest.raises(ArgumentError, match="against must be 'loss' or left out, got 'step'"):
        plots.gradient_flow(decomposed, against="step")


@pytest.mark.parametrize("far", [0.02, 0.1, 0.5, 1.0, 3.0, 12.0])
def test_factor_ticks_stand_at_the_logarithm_of_what_they_say(far: float) -> None:
    _, (ax,) = panels(1)
    ax.set_xlim(-far, far)
    factor_axis(ax, "x")
    ticks, names = ax.get_xticks(), [text.get_text() for text in ax.get_xticklabels()]
    assert len(ticks) >= 3
    for at, name in zip(ticks, names, strict=True):
        factor = 1.0 if name == "1" else float(name[1:]) ** (1 if name[0] == "×" else -1)
        assert at == pytest.approx(np.log(factor), abs=1e-6)


def test_against_the_loss_the_flow_and_its_ratio_stand_side_by_side(tmp_path) -> None:
    paths: dict[str, list] = {"No dropout": [], "Dropout": []}
    for seed in range(2):
        for condition, found in paths.items():
            loss = np.geomspace(2.0, 0.1, 100)
            made = {(NET, "act1"): loss * (2.0 if condition == "Dropout" else 1.0) * (1.0 + seed)}
            at = tmp_path / f"{condition}-{seed}"
            found.append(write_flow(at, made, ["act1"], condition=condition, seed=seed, loss=loss))
    runs = load(paths)
    flow, ratio = plots.gradient_flow(runs, against="loss").axes
    frame = gradient_flow.at_equal_loss(runs)
    for line in flow.lines:
        rows = frame[frame["condition"] == line.get_label()]
        np.testing.assert_allclose(line.get_xydata(), rows[["loss", "value"]])
    assert flow.get_xlim()[0] > flow.get_xlim()[1]  # the loss falls to the right
    (line,) = [line for line in ratio.lines if line.get_label() == "Dropout"]
    np.testing.assert_allclose(line.get_ydata(), np.log(2.0))


def test_a_layer_of_one_condition_alone_has_nothing_beside_it(tmp_path) -> None:
    loss = np.geomspace(2.0, 0.1, 100)
    paths = {}
    for condition, layers in (("No dropout", ["act1", "act2"]), ("Dropout", ["act1", "act3"])):
        made = {(NET, layer): loss for layer in layers}
        paths[condition] = write_flow(tmp_path / condition, made, layers, condition=condition, seed=0, loss=loss)
    figure = plots.gradient_flow(load(paths), against="loss")
    told = {ax.get_title(): ax.get_xlabel().strip() for ax in figure.axes[1::2]}
    assert told["act2, at equal loss"] == "not in Dropout"
    assert told["act3, at equal loss"] == "not in No dropout"
    assert "smoothed" in told["act1, at equal loss"]
