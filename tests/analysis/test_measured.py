"""Tables of active measurements, beside numpy on what was written."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis import measured
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.store.reader import Runs, load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.schema import MEASURED, QUANTITIES, at, base_and_x, quantity_of
from dropdiag.store.writer import RunWriter

STEPS = (0, 10, 100)
LOSS = np.random.default_rng(3).normal(1.0, 0.2, (2, 4, len(STEPS), 3))
"""Of a condition, a seed, a step and a noise."""
NOISES = (0.0, 0.5, 0.1)
INTERACTION = np.random.default_rng(4).normal(0.1, 0.05, (2, 4, 2))
CONDITIONS = ("No dropout", "Dropout")


def write(path: Path, condition: str, seed: int, rows: list[ScalarRow]) -> Path:
    sites = [{"layer": name, "call": 0, "kind": "activation", "type": "Tanh", "activation": None, "shape": []}
             for name in ("low", "high")]  # fmt: skip
    writer = RunWriter(path, {"config": {"condition": condition, "seed": seed}, "versions": {}, "layers": sites,
                              "order": [[["low", 0]], [["high", 0]]], "activations": {}})  # fmt: skip
    writer.add_scalars(rows)
    writer.close("completed")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp("measured")
    paths: dict[str, list[Path]] = {}
    for c, condition in enumerate(CONDITIONS):
        for seed in range(4):
            rows = [
                ScalarRow(step, "robustness", None, 0, at("noisy_loss", x), float(LOSS[c, seed, i, j]))
                for i, step in enumerate(STEPS)
                for j, x in enumerate(NOISES)
            ]
            rows += [ScalarRow(100, "ablation", layer, 0, "ablation_interaction", float(INTERACTION[c, seed, k]))
                     for k, layer in enumerate(("high", "low"))]  # fmt: skip
            # neither a user's own scalar in a phase of that name is the measurement's, nor the time that it took
            rows.append(ScalarRow(100, "ablation", None, 0, "cost", 3.0))
            rows.append(ScalarRow(100, "ablation", None, 0, "evaluation_seconds", 0.2))
            paths.setdefault(condition, []).append(write(folder / f"{c}-{seed}", condition, seed, rows))
    return load(paths)


def test_names_of_families_come_apart_as_they_were_made():
    assert at("noisy_loss", 0.1) == "noisy_loss@0.1"
    assert at("hessian_eigenvalue", 1) == "hessian_eigenvalue@1"
    assert [base_and_x(name) for name in ("noisy_loss@0.1", "loss", "a@b", "@1", "p@1e-05")] == [
        ("noisy_loss", 0.1), ("loss", None), ("a@b", None), ("@1", None), ("p", 1e-5)
    ]  # fmt: skip
    every = [name for several in MEASURED.values() for name in several]
    assert len(set(every)) == len(every)
    assert QUANTITIES.keys() >= set(every)
    assert quantity_of("noisy_loss@0.1").unit == QUANTITIES["noisy_loss"].unit
    assert quantity_of("accuracy@5") is None


def test_the_last_measurement_over_seeds(runs):
    frame = measured.table(runs, "robustness")
    assert list(frame.columns) == measured.TABLE
    assert frame["condition"].tolist() == [name for name in CONDITIONS for _ in NOISES]
    assert frame["x"].tolist()[:3] == list(NOISES)
    for c, (condition, part) in enumerate(frame.groupby("condition", sort=False)):
        assert condition == CONDITIONS[c]
        for j, row in enumerate(part.itertuples()):
            values = LOSS[c, :, 2, j]
            assert row.mean == pytest.approx(values.mean())
            assert row.sd == pytest.approx(values.std(ddof=1))
            low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
            assert (row.low, row.high) == pytest.approx((low, high))
            assert (row.step, row.n, row.missing, row.layer, row.base) == (100, 4, 0, "", "noisy_loss")


def test_a_step_those_between_two_and_all_of_them(runs):
    early = measured.table(runs, "robustness", quantities=["noisy_loss@0.1"], step=(0, 50), conditions=["Dropout"])
    per_run = LOSS[1, :, :2, 2].mean(axis=1)
    assert early["mean"].tolist() == pytest.approx([per_run.mean()])
    assert early["sd"].tolist() == pytest.approx([per_run.std(ddof=1)])
    assert early["step"].tolist() == [5]
    one = measured.table(runs, "robustness", quantities=["noisy_loss@0.1"], step=10, conditions=["Dropout"])
    assert one["mean"].tolist() == pytest.approx([LOSS[1, :, 1, 2].mean()])
    every = measured.table(runs, "robustness", quantities=["noisy_loss@0.1"], step="all", conditions=["Dropout"])
    assert every["step"].tolist() == list(STEPS)
    np.testing.assert_allclose(every["mean"], LOSS[1, :, :, 2].mean(axis=0))
    curves = measured.over_training(runs, "noisy_loss@0.1", conditions=["Dropout"])
    np.testing.assert_allclose(curves["value"], LOSS[1, :, :, 2].mean(axis=0))


def test_a_family_over_its_parameter(runs):
    frame = measured.curve(runs, "noisy_loss", conditions=["Dropout"])
    assert frame["x"].tolist() == [0.0, 0.1, 0.5]
    np.testing.assert_allclose(frame["mean"], LOSS[1, :, 2, :].mean(axis=0)[[0, 2, 1]])


def test_layers_stand_in_network_order(runs):
    frame = measured.table(runs, "ablation")
    assert frame[["condition", "layer"]].to_numpy().tolist() == [
        [condition, layer] for condition in CONDITIONS for layer in ("low", "high")
    ]
    np.testing.assert_allclose(frame["mean"], INTERACTION.mean(axis=1)[:, ::-1].ravel())
    top = measured.table(runs, "ablation", layers=["high"])
    assert top["layer"].unique().tolist() == ["high"]
    with pytest.raises(ArgumentError, match="no layer 'middle'"):
        measured.table(runs, "ablation", layers=["middle"])


def test_what_is_missing_is_counted_and_never_zero(tmp_path):
    def rows(*values):
        return [ScalarRow(i, "robustness", None, 0, "noisy_loss@0.1", value) for i, value in enumerate(values)]

    found = load([write(tmp_path / "a", "A", 0, rows(1.0, 3.0)), write(tmp_path / "b", "A", 1, rows(2.0, None)),
                  write(tmp_path / "c", "A", 2, rows(4.0, 7.0))])  # fmt: skip
    row = measured.table(found, "robustness").iloc[0]
    assert (row["mean"], row["n"], row["missing"]) == (5.0, 2, 1)
    mean = measured.table(found, "robustness", step=(0, 1)).iloc[0]
    assert (mean["mean"], mean["n"], mean["missing"]) == ((2.0 + 5.5) / 2, 2, 1)
    alone = measured.table(found[:1], "robustness").iloc[0]
    assert np.isnan(alone["low"])
    assert np.isnan(alone["sd"])


def test_runs_that_were_measured_at_other_steps_are_named(tmp_path):
    def run(seed, *steps):
        rows = [ScalarRow(step, "robustness", None, 0, "noisy_loss@0.1", float(step)) for step in steps]
        return write(tmp_path / f"s{seed}", "A", seed, rows)

    found = load([run(0, 1, 5, 9), run(1, 1, 5, 9), run(2, 1, 9), run(3, 1, 5)])
    with pytest.warns(DropdiagWarning, match="not of one step: .*s3 end before step 9"):
        assert measured.table(found, "robustness").iloc[0]["mean"] == (9 + 9 + 9 + 5) / 4
    with pytest.warns(DropdiagWarning, match="lack some of the steps 1, 5"):
        row = measured.table(found, "robustness", step=(0, 6)).iloc[0]
    assert (row["mean"], row["n"]) == (3.0, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measured.table(found, "robustness", step=1).iloc[0]["mean"] == 1.0


def test_wrong_questions_say_what_there_is(runs):
    with pytest.raises(NotRecordedError, match=r"no run holds a measurement 'flatness'; record it with rec.measure"):
        measured.table(runs, "flatness")
    with pytest.raises(NotRecordedError, match="did you mean 'robustness'"):
        measured.table(runs, "robustnes")
    with pytest.raises(NotRecordedError, match="nothing was measured at step 7; there are steps 0, 10, 100"):
        measured.table(runs, "robustness", step=7)
    with pytest.raises(ArgumentError, match="no quantity 'noisy_los'; did you mean 'noisy_loss'"):
        measured.table(runs, "robustness", quantities=["noisy_los"])
    with pytest.raises(ArgumentError, match="step= takes a step"):
        measured.table(runs, "robustness", step="first")
    with pytest.raises(ArgumentError, match="no active measurement has a quantity 'loudness'"):
        measured.curve(runs, "loudness")
