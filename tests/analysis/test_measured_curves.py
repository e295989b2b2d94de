"""What active measurements found, read from runs and averaged over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis.measured_curves import over_seeds, per_run, rise_from_zero
from dropdiag.errors import ArgumentError, NotRecordedError
from tests.synthetic import write_measured

A = {0: [1.0, 2.0], 1: [1.5, 2.5], 2: [2.5, None]}


def rises(values: list[float | None]) -> dict[str, float | None]:
    return {"loss_rise@0.1": values[0], "loss_rise@0.05": values[1], "sam_sharpness@0.05": 3.0, "hessian_trace": 4.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("measured")
    return write_measured(
        folder,
        {
            "Dropout": {
                seed: {5: {"flatness": rises([9.0, 9.0])}, 20: {"flatness": rises(v)}} for seed, v in A.items()
            },
            "None": {0: {20: {"flatness": rises([0.0, 0.0]), "other": {"loss_rise@0.1": 7.0}}}},
        },
    )


def test_the_last_measurement_of_each_run_counts_in_order_of_conditions_and_sizes(runs) -> None:
    found = per_run(runs, ["loss_rise"], phase="flatness", conditions=["None", "Dropout"])
    assert found["step"].unique().tolist() == [20]
    assert found["condition"].tolist() == ["None"] * 2 + ["Dropout"] * 6
    part = found[found["condition"] == "Dropout"]
    assert part["x"].tolist() == [0.05] * 3 + [0.1] * 3
    assert part["value"].iloc[3:].tolist() == [1.0, 1.5, 2.5]
    assert part["value"].iloc[:2].tolist() == [2.0, 2.5]
    assert np.isnan(part["value"].iloc[2])


def test_a_quantity_without_a_parameter_has_no_x(runs) -> None:
    found = per_run(runs, ["hessian_trace", "sam_sharpness"], phase="flatness")
    assert found["quantity"].unique().tolist() == ["hessian_trace", "sam_sharpness"]
    assert found.loc[found["quantity"] == "hessian_trace", "x"].isna().all()


def test_means_and_intervals_are_students_over_runs(runs) -> None:
    rows = over_seeds(per_run(runs, ["loss_rise"], phase="flatness"))
    row = rows[(rows["condition"] == "Dropout") & (rows["x"] == 0.1)].iloc[0]
    values = np.array([1.0, 1.5, 2.5])
    assert row["value"] == pytest.approx(values.mean())
    wanted = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (row["low"], row["high"]) == pytest.approx(wanted)
    missing = rows[(rows["condition"] == "Dropout") & (rows["x"] == 0.05)].iloc[0]
    assert (missing["value"], missing["seeds"], missing["missing"]) == (2.25, 2, 1)
    alone = rows[rows["condition"] == "None"].iloc[0]
    assert (alone["seeds"], alone["missing"]) == (1, 0)
    assert np.isnan(alone["low"])


def test_what_noise_adds_is_taken_run_by_run(tmp_path: Path) -> None:
    def of(*values: float | None) -> dict[int, dict[str, dict[str, float | None]]]:
        return {1: {"robustness": {f"noisy_loss@{x:g}": v for x, v in zip((0.0, 0.1, 0.5), values, strict=True)}}}

    runs = write_measured(tmp_path, {"A": {0: of(1.0, 1.5, 4.0), 1: of(10.0, 10.25, None), 2: of(None, 1.0, 2.0)}})
    found = rise_from_zero(per_run(runs, ["noisy_loss"], phase="robustness"))
    assert found["x"].tolist() == [0.1] * 3 + [0.5] * 3
    np.testing.assert_array_equal(found["value"], [0.5, 0.25, np.nan, 3.0, np.nan, np.nan])


def test_another_phase_is_another_measurement(runs) -> None:
    assert per_run(runs, ["loss_rise"], phase="other")["value"].tolist() == [7.0]


def test_what_is_not_there_is_told(runs, tmp_path: Path) -> None:
    with pytest.raises(
        NotRecordedError, match=r"no run of .* holds noisy_loss in the phase 'robustness': record it by"
    ):
        per_run(runs, ["noisy_loss"], phase="robustness")
    with pytest.raises(ArgumentError, match="condition"):
        per_run(runs, ["loss_rise"], phase="flatness", conditions=["Droput"])
