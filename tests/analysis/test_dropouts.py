"""The table of dropout sites: rates, dropped shares and noise beside the signal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import dropdiag as dd
from dropdiag.analysis import dropouts
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from tests.versions import DROPOUTS, STEPS, WEIGHTS, drop_run, dropped, noise, schedule, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dropouts")
    for seed in range(3):
        write_run(folder / f"base-s{seed}", condition="No dropout", seed=seed)
        drop_run(folder / f"drop-s{seed}", seed)
        drop_run(folder / f"early-s{seed}", seed, "Early", schedule)
    return load(
        {"No dropout": str(folder / "base-*"), "Dropout": str(folder / "drop-*"), "Early": str(folder / "early-*")}
    )


def test_a_row_a_condition_and_site_with_means_and_intervals_over_seeds(runs):
    found = dropouts.table(runs)
    assert found[["condition", "layer", "call"]].to_numpy().tolist() == [
        [condition, site, 0] for condition in ("Dropout", "Early") for site in DROPOUTS
    ]
    for place, row in enumerate(found[found["condition"] == "Dropout"].to_dict("records")):
        for name, value in (("dropped_share", dropped), ("noise_to_signal", noise)):
            means = [np.mean([value(place, seed, step) for step in range(1, STEPS + 1)]) for seed in range(3)]
            low, high = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
            assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((np.mean(means), low, high))
        assert (row["rate_first"], row["rate_last"], row["scheduled"]) == (0.3, 0.3, False)
        assert (row["seeds"], row["missing"], row["grain"], row["applied_to"]) == (3, 0, "element", "c1:relu")
    assert found["feeds"].fillna("").tolist() == ["c2", ""] * 2


def test_a_scheduled_rate_has_its_first_and_its_last_value(runs):
    row = dropouts.table(runs, conditions=["Early"], layers=["fc1.drop"]).iloc[0]
    assert (row["rate_first"], row["rate_last"], row["scheduled"]) == (pytest.approx(0.36), 0.0, True)
    assert dropouts.table(runs, conditions=["Early"], until=5)["rate_last"].tolist() == [pytest.approx(0.2)] * 2


def test_without_a_recorded_rate_it_is_the_one_that_the_run_was_begun_with(tmp_path):
    path = tmp_path / "run"
    rows = [{"layer": "drop", "call": 0, "kind": "dropout", "type": "Dropout", "rate": 0.5, "grain": "channel"}]
    write_run(path, rows=rows)
    row = dropouts.table(load(path)).iloc[0]
    assert (row["rate_first"], row["rate_last"], row["scheduled"], row["missing"]) == (0.5, 0.5, False, 1)
    assert np.isnan(row["dropped_share"])
    assert len(dropouts.recorded(dropouts.table(load(path)))) == 1


def test_runs_of_schema_1_list_their_dropouts_and_measure_nothing(tmp_path):
    rows = [{"layer": "drop", "call": 0, "kind": "dropout", "type": "Dropout"}]
    found = dropouts.table(load(write_run(tmp_path / "old", schema=1, rows=rows)))
    assert found["layer"].tolist() == ["drop"]
    assert dropouts.recorded(found).empty


def test_further_calls_of_a_dropout_are_sites_of_their_own(tmp_path):
    rows = [{"layer": "drop", "call": 0, "kind": "dropout", "type": "Dropout", "rate": 0.5, "grain": "element"}]
    order = [[(name, 0)] for name in ("c1", "c1:relu", "drop", "c2")] + [[("drop", 1)]]
    scalars = [ScalarRow(1, "train", "drop", call, "dropped_share", 0.4 + call) for call in (0, 1)]
    found = dropouts.table(load(write_run(tmp_path / "run", rows=rows, order=order, scalars=scalars)))
    assert found[["call", "dropped_share", "rate_last", "grain"]].to_numpy().tolist() == [
        [0, 0.4, 0.5, "element"], [1, 1.4, 0.5, "element"],
    ]  # fmt: skip


def test_no_dropout_and_unknown_names_are_told(runs):
    with pytest.raises(NotRecordedError, match="no run of 'No dropout' has a dropout site"):
        dropouts.table(runs, conditions=["No dropout"])
    with pytest.raises(
        ArgumentError, match="no layer 'drop9'; did you mean 'fc1.drop'. there are 'c1:dropout', 'fc1.drop'"
    ):
        dropouts.table(runs, layers=["drop9"])


def test_a_comparison_with_a_condition_without_dropout_lacks_nothing(runs):
    found = dd.compare(runs, baseline="No dropout", on_unreadable="ignore")
    assert found.unmatched.empty
    assert not any("layers" in problem for problem in found.problems)
    assert set(found.table["layer"].dropna()) == {*WEIGHTS, *(f"{name}:relu" for name in WEIGHTS)}
    between = dd.compare(runs, baseline="Dropout", on_unreadable="ignore").table
    rows = between[
        (between["condition"] == "Early") & between["measure"].isin(["dropped_share", "dropout_noise_to_signal"])
    ]
    assert rows[["layer", "measure", "scale"]].to_numpy().tolist() == [
        [site, measure, scale] for site in DROPOUTS
        for measure, scale in (("dropped_share", "difference"), ("dropout_noise_to_signal", "log ratio"))
    ]  # fmt: skip
    assert rows["effect"].to_numpy() == pytest.approx(0.0)  # both dropped the same
