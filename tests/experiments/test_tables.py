from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dropdiag.experiments import paper
from dropdiag.experiments.cells import across, label, printed, ratio, value
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.mnist.experiment import MNIST
from dropdiag.experiments.mnist.network import CONDITIONS
from dropdiag.experiments.mnist.train import MnistSettings, train
from dropdiag.formatting import typeset as number
from dropdiag.store.reader import Runs, load

from .conftest import write_mnist

LAYERS = MNIST.layers(MnistSettings("GAAF", 0))
SECTIONS = {section.name: section for section in MNIST.sections}


def table(name: str, runs) -> pd.DataFrame:
    return SECTIONS[name].table(runs, LAYERS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    data = load_images("mnist", write_mnist(folder / "data"))
    for condition in CONDITIONS:
        for seed in (0, 1):
            wanted = MnistSettings(condition, seed, epochs=2, batch_size=50, widths=(784, 12, 8, 8, 10))
            train(wanted, data, folder / f"{condition}{seed}")
    return load([folder / f"{condition}{seed}" for condition in CONDITIONS for seed in (0, 1)])


def test_gradient_flow_is_the_mean_over_all_steps_beside_table_2(runs):
    frame = table("gradient_flow", runs)
    assert frame[["layer", "condition"]].to_records(index=False).tolist() == [
        (f"Layer {i}", condition) for i in (1, 2, 3) for condition in CONDITIONS
    ]
    rows = runs.scalars
    rows = rows[(rows["quantity"] == "net_grad_abs_mean") & (rows["layer"] == "layer2.activation")]
    means = rows.groupby(["condition", "seed"])["value"].mean()
    row = frame.set_index(["layer", "condition"]).loc[("Layer 2", "Dropout")]
    assert row["gradient_flow"] == pytest.approx(means["Dropout"].mean(), rel=1e-12)
    assert row["gradient_flow_sd"] == pytest.approx(means["Dropout"].std(), rel=1e-9)
    logs = np.log(means["Dropout"].to_numpy() / means["No dropout"].to_numpy())
    assert row["ratio"] == pytest.approx(np.exp(logs.mean()), rel=1e-12)
    assert (row["paper_gradient_flow"], row["paper_ratio"]) == (6.52e-04, 4.66)
    assert np.isnan(frame["paper_ratio"][frame["condition"] == "GAAF"]).all()


def test_without_the_baseline_there_is_no_published_ratio(runs):
    others = [run for run in runs if run.condition != "No dropout"]
    frame = table("gradient_flow", Runs(others, ordered=True))
    assert set(frame["baseline"]) == {"Dropout"}
    assert "paper_ratio" not in frame


def test_the_other_tables_stand_beside_their_figures(runs):
    weights = table("weights", runs).set_index(["layer", "condition"])
    assert weights.loc[("Layer 3", "Dropout"), "paper_peak_density"] == 5.6
    assert weights.loc[("Layer 1", "GAAF"), "weights"] == 784 * 12
    correlation = table("correlation", runs).set_index(["layer", "condition"])
    assert correlation.loc[("Layer 2", "No dropout"), "paper_peak_density"] == 1.52
    assert correlation["samples"].eq(50).all()
    assert correlation["peak_density"].between(0.3, 20).all()
    saturation = table("saturation", runs).set_index(["layer", "condition"])
    assert saturation.loc[("Layer 2", "Dropout"), "paper_modes"] == "±2.4"
    assert (saturation["share"] == saturation["left"] + saturation["right"]).all()


def test_accuracy_is_in_per_cent_and_its_best_in_epochs(runs):
    frame = table("learning", runs).set_index("condition")
    rows = runs.scalars
    rows = rows[rows["quantity"] == "accuracy"].pivot_table(index=["condition", "seed"], columns="step", values="value")
    for condition in CONDITIONS:
        values = rows.loc[condition].to_numpy()
        assert frame.loc[condition, "final_accuracy"] == pytest.approx(100 * values[:, -1].mean())
        assert frame.loc[condition, "best_accuracy"] == pytest.approx(100 * values.max(axis=1).mean())
        assert frame.loc[condition, "best_epoch"] == pytest.approx(1 + values.argmax(axis=1).mean())
    assert frame.loc["GAAF", ["paper_accuracy", "paper_epochs_sd"]].tolist() == [98.35, 24.8]


@pytest.mark.parametrize("section", [s for s in MNIST.sections if s.table], ids=lambda s: s.name)
def test_every_section_prints_its_table(runs, section):
    frame = section.table(runs, LAYERS)
    cells = printed(frame, section.columns)
    assert len(cells) == len(frame)
    assert all(isinstance(cell, str) and "nan" not in cell for row in cells for cell in row)
    lines = section.at_a_glance(frame)
    assert any(line.startswith("Dropout ") for line in lines)


def test_published_numbers_are_those_of_the_paper():
    ratios = {i: paper.GRADIENT_FLOW["Dropout"][i] / paper.GRADIENT_FLOW["No dropout"][i] for i in (1, 2, 3)}
    assert ratios == pytest.approx(paper.GRADIENT_FLOW_RATIO["Dropout"], abs=0.006)


def test_numbers_are_printed_for_people():
    assert number(-1.234, ".2f") == "−1.23"
    assert number(1.07e-4, ".2e") == "1.07e−4"
    assert number(0.0, ".2e") == "0.00e0"
    assert number(None, ".2f") == number(float("nan"), ".2f") == number(float("inf"), ".1f") == "–"
    assert number("±2.4", ".2f") == "±2.4"


def test_columns():
    row = {"layer": "Layer 1", "a": 1.0, "a_sd": 0.25, "b": 2.0, "b_sd": float("nan"), "condition": "x"}
    frame = pd.DataFrame([{**row, "baseline": "y", "r": 2.0, "r_low": 1.5, "r_high": 3.0}])
    columns = (
        label("layer", "Layer"),
        value("a", "A", ".2f"),
        value("b", "B", ".1f"),
        ratio("r", "R"),
    )
    assert printed(frame, columns) == [["Layer 1", "1.00 (0.25)", "2.0", "2.00 [1.50, 3.00]"]]
    assert printed(frame.assign(baseline="x"), columns)[0][3] == "1"
    assert printed(frame.assign(r_low=None), columns)[0][3] == "2.00"
    assert printed(frame, (value("missing", "M"),)) == [["–"]]


def test_a_condition_without_numbers_is_left_out():
    frame = pd.DataFrame({"condition": ["a", "a", "b", "b"], "x": [1.0, 2.0, np.nan, np.nan]})
    assert across(frame, "x", ".1f") == ("a 1.0\N{NO-BREAK SPACE}/\N{NO-BREAK SPACE}2.0",)
