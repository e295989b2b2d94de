from __future__ import annotations

import json

import numpy as np
import pytest

from dropdiag import plots
from dropdiag.analysis import gradient_flow, learning, scalar
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import load
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.writer import RunWriter
from tests.plots.test_figures import drawn, legend_labels, written
from tests.synthetic import content, write

ROW = {"kind": "scalar", "unit": "nats", "label": "my entropy $H$", "scale": "difference"}
SAMPLES = {"kind": "histogram", "unit": "m", "label": "my length", "scale": "distance"}


def own_run(path, condition: str, values: dict[str, list[float]], phases=("eval",), **quantity):
    """Write a run of a probe that dropdiag does not know."""
    meta = {"config": {"condition": condition, "seed": 0}, "versions": {}, "layers": [], "activations": {}}
    writer = RunWriter(path, meta | {"quantities": {"entropy": ROW | quantity, "length": SAMPLES}})
    for phase in phases:
        for layer, numbers in values.items():
            writer.add_scalars([ScalarRow(10 * i, phase, layer, 0, "entropy", x) for i, x in enumerate(numbers)])
    lengths = Histogram.from_values(np.linspace(1.0, 2.0, 500))
    writer.add_histograms([HistogramRow(0, "eval", "a", 0, "length", lengths.bins, lengths.counts)])
    writer.close("completed")
    return path


def test_the_gradient_flow_is_drawn_as_in_its_own_figure(runs) -> None:
    figure, other = plots.scalar(runs, "net_grad_abs_mean"), plots.gradient_flow(runs)
    for ax, same in zip(figure.axes, other.axes[:-1], strict=True):
        assert ax.get_title() == same.get_title()
        assert (ax.get_yscale(), ax.get_ylim()) == ("log", same.get_ylim())
        lines = drawn(same)
        assert list(drawn(ax)) == list(lines)
        for condition, line in drawn(ax).items():
            np.testing.assert_allclose(line, lines[condition])
        assert len(ax.collections) == len(same.collections) == 3  # bands
    assert figure.axes[0].get_ylabel().endswith("\n(loss units per net-value unit)")
    assert [ax.get_ylabel() for ax in figure.axes[1:]] == ["", ""]


def test_curves_are_means_over_runs_with_their_standard_deviation(runs) -> None:
    frame = scalar.curves(runs, "participation_ratio", conditions=["GAAF"])
    values = runs.select("participation_ratio", condition="GAAF", phase="eval")
    expected = values.groupby("layer")["value"].agg(["mean", "std"])
    assert len(frame) == 3
    for row in frame.itertuples():
        mean, sd = expected.loc[row.layer]
        assert (row.value, row.low, row.high) == pytest.approx((mean, mean - sd, mean + sd))
        assert (row.step, row.phase, row.seeds, row.dropped) == (60, "eval", 2, 0)
    flow = gradient_flow.curves(runs)
    same = scalar.curves(runs, "net_grad_abs_mean", log=True)
    np.testing.assert_allclose(same[["step", "value", "low", "high"]], flow[["step", "value", "low", "high"]])


def test_a_scalar_of_the_network_has_one_panel(runs) -> None:
    (ax,) = plots.scalar(runs, "loss").axes
    assert (ax.get_title(), ax.get_yscale(), ax.get_ylabel()) == ("loss", "linear", "loss")
    curve = learning.curves(runs, "loss", conditions=["GAAF"], bins=80)
    np.testing.assert_allclose(drawn(ax)["GAAF"], curve[["step", "value"]])


def test_a_probe_of_the_users_own_brings_its_label_unit_and_scale(tmp_path) -> None:
    run = load(own_run(tmp_path / "r", "Dropout", {"a": [1.0, 2.0, 4.0], "b": [-1.0, 0.0, np.nan]}))
    first, second = plots.scalar(run, "entropy").axes
    assert first.get_ylabel() == "my entropy $H$\n(nats)"
    assert (first.get_title(), second.get_title()) == ("a", "b")
    np.testing.assert_allclose(drawn(first)["Dropout"], [[0, 1], [10, 2], [20, 4]])
    np.testing.assert_allclose(drawn(second)["Dropout"], [[0, -1], [10, 0]])
    assert first.get_ylim() != second.get_ylim()
    (ax,) = plots.distribution(run, "length").axes
    assert ax.get_xlabel() == "my length"
    assert drawn(ax)["Dropout"][:, 1].max() == pytest.approx(1.0, abs=0.1)


def test_a_log_ratio_is_drawn_on_a_log_axis_and_without_what_has_no_logarithm(tmp_path) -> None:
    values = {"a": [1.0, 100.0, 0.0], "b": [-1.0, 0.0, np.inf]}
    run = load(own_run(tmp_path / "r", "Dropout", values, scale="log ratio", unit="1"))
    first, second = plots.scalar(run, "entropy").axes
    assert (first.get_yscale(), first.get_ylabel()) == ("log", "my entropy $H$")
    np.testing.assert_allclose(drawn(first)["Dropout"], [[0, 1], [10, 100]])
    assert (drawn(second), written(second)) == ({}, ["no finite value"])
    assert second.get_xlabel() == "training step\nno finite value: Dropout"
    with pytest.raises(NotRecordedError, match="no value of 'entropy' is finite and positive"):
        plots.scalar(run, "entropy", layers=["b"])


def test_one_phase_is_drawn_and_runs_without_it_are_named(tmp_path) -> None:
    runs = load([
        own_run(tmp_path / "a", "Dropout", {"a": [1.0]}, phases=("test", "train")),
        own_run(tmp_path / "b", "No dropout", {"a": [2.0]}, phases=("train",)),
    ])  # fmt: skip
    with pytest.warns(DropdiagWarning, match="no 'entropy' in phase 'test': 'b'; choose a phase"):
        figure = plots.scalar(runs, "entropy")
    assert list(drawn(figure.axes[0])) == ["Dropout"]
    assert list(drawn(plots.scalar(runs, "entropy", phase="train").axes[0])) == ["Dropout", "No dropout"]


def test_what_there_is_not_is_said(runs, tmp_path) -> None:
    for wrong in ("f1", "weight"):  # a weight is a histogram
        with pytest.raises(NotRecordedError, match=f"no run holds scalar '{wrong}'"):
            plots.scalar(runs, wrong)
    with pytest.raises(ArgumentError, match="no layer 'x'; there are 'layer1.activation'"):
        plots.scalar(runs, "participation_ratio", layers=["x"])
    with pytest.raises(ArgumentError, match="no condition 'x'"):
        plots.scalar(runs, "participation_ratio", conditions=["x"])
    two = load([
        own_run(tmp_path / "a", "Dropout", {"a": [1.0]}),
        own_run(tmp_path / "b", "GAAF", {"b": [1.0]}),
    ])  # fmt: skip
    figure = plots.scalar(two, "entropy")
    assert [ax.get_xlabel().split("\n")[1] for ax in figure.axes] == ["not in GAAF", "not in Dropout"]
    assert legend_labels(figure) == ["Dropout", "GAAF"]


def test_runs_from_before_probes_carried_their_quantities_are_drawn(tmp_path) -> None:
    path = write(tmp_path / "r", content("GAAF", 0), "GAAF", 0)
    assert "quantities" not in json.loads((path / "run.json").read_text())
    assert plots.scalar(load(path), "effective_rank").axes[0].get_ylabel() == "effective rank\n(nodes)"
