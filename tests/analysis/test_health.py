"""The tables of health and of multiple correlation: last values beside first ones, over seeds."""

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis import health, multiple_correlation
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from tests.versions import write_run

ACTIVATIONS, WEIGHTS = ("a1", "a2"), ("w1", "w2")
LAYERS = [{"layer": name, "call": 0, "kind": kind, "type": kind} for kind, names in (
    ("weight", WEIGHTS), ("activation", ACTIVATIONS)) for name in names]  # fmt: skip


def value(quantity, place, seed, step):
    """Return some number of one run."""
    return (list(health.QUANTITIES).index(quantity) + 1) * 0.1 + 0.01 * place + 0.003 * seed**2 + 0.001 * step


def rows(seed, *, evaluated=(0, 20), condition="A"):
    found = []
    for quantity in health.QUANTITIES:
        of_nodes = quantity in health.OF_NODES
        for phase, steps in (("train", (1, 10, 20)), ("eval", evaluated if of_nodes else ())):
            for step in steps:
                found += [ScalarRow(step, phase, layer, 0, quantity, value(quantity, place, seed, step))
                          for place, layer in enumerate(ACTIVATIONS if of_nodes else WEIGHTS)]  # fmt: skip
    return found


def one(path, seed, condition="A", scalars=None, **options):
    given = rows(seed, **options) if scalars is None else scalars
    return write_run(path, condition=condition, seed=seed, rows=LAYERS, scalars=given)


@pytest.fixture
def runs(tmp_path):
    for condition in ("A", "B"):
        for seed in range(3):
            one(tmp_path / f"{condition}-{seed}", seed, condition)
    return load({name: str(tmp_path / f"{name}-*") for name in ("A", "B")})


def test_a_row_a_quantity_condition_and_site_with_both_ends_over_seeds(runs):
    found = health.table(runs)
    assert found[["quantity", "condition", "layer"]].to_numpy().tolist() == [
        [quantity, condition, layer]
        for quantity in health.QUANTITIES for condition in ("A", "B")
        for layer in (ACTIVATIONS if quantity in health.OF_NODES else WEIGHTS)
    ]  # fmt: skip
    for row in found.to_dict("records"):
        of_nodes = row["quantity"] in health.OF_NODES
        assert (row["phase"], row["step"], row["start_step"]) == (("eval", 20, 0) if of_nodes else ("train", 20, 1))
        for name, step in (("", row["step"]), ("start", row["start_step"])):
            x = [value(row["quantity"], int(row["layer"][1]) - 1, seed, step) for seed in range(3)]
            low, high = stats.t.interval(0.95, 2, np.mean(x), stats.sem(x))
            columns = (name or "value", *(f"{name}_{end}".strip("_") for end in ("low", "high")))
            assert [row[column] for column in columns] == pytest.approx([np.mean(x), low, high])
        assert (row["seeds"], row["missing"]) == (3, 0)


def test_layers_conditions_and_phase_are_chosen(runs):
    found = health.table(runs, layers=["w2", "a1"], conditions=["B"], phase="train")
    assert found[["quantity", "layer"]].to_numpy().tolist() == [
        ["dead_share", "a1"], ["always_saturated_share", "a1"], ["update_to_weight", "w2"], ["distance_from_start", "w2"]
    ]  # fmt: skip
    assert set(found["condition"]) == {"B"}
    assert (found["start_step"] == 1).all()
    with pytest.raises(ArgumentError, match="no layer 'w3'"):
        health.table(runs, layers=["w3"])
    with pytest.raises(NotRecordedError, match="in phase 'test'"):
        health.table(runs, phase="test")


def test_a_run_that_is_not_evaluated_is_left_out_with_a_warning(tmp_path):
    one(tmp_path / "a", 0)
    one(tmp_path / "b", 1, evaluated=())
    left_out = "left out, for they hold no '{}_share' in phase 'eval': 'b'"
    with pytest.warns(match=left_out.format("dead")), pytest.warns(match=left_out.format("always_saturated")):
        found = health.table(load([tmp_path / "a", tmp_path / "b"]))
    assert found.groupby("quantity")["seeds"].first().to_dict() == {
        "dead_share": 1, "always_saturated_share": 1, "update_to_weight": 2, "distance_from_start": 2,
    }  # fmt: skip


def test_what_is_missing_is_counted_and_no_number(tmp_path):
    some = [row._replace(value=None) if row.step == 20 and row.layer == "w1" else row for row in rows(0)]
    one(tmp_path / "run", 0, scalars=some)
    found = health.table(load(tmp_path / "run")).set_index(["quantity", "layer"])
    row = found.loc["distance_from_start", "w1"]
    assert np.isnan(row["value"])
    assert (row["missing"], row["start"]) == (1, value("distance_from_start", 0, 0, 1))
    assert found.loc["distance_from_start", "w2"]["missing"] == 0


def test_runs_that_recorded_none_of_it_say_how(tmp_path):
    write_run(tmp_path / "run")
    with pytest.raises(NotRecordedError, match="probes='full'"):
        health.table(load(tmp_path / "run"))


def test_multiple_correlation_stands_beside_its_null(tmp_path):
    for seed in range(3):
        some = [ScalarRow(step, "eval", "a1", 0, name, number)
                for step in (0, 20) for name, number in (
                    ("multiple_correlation", 0.5 + 0.1 * seed + step), ("multiple_correlation_null", 0.25))]  # fmt: skip
        some += [ScalarRow(20, "eval", "a2", 0, name, None) for name in (
            "multiple_correlation", "multiple_correlation_null")]  # fmt: skip
        one(tmp_path / f"run-{seed}", seed, scalars=some)
    found = multiple_correlation.table(load(str(tmp_path / "run-*"))).set_index("layer")
    low, high = stats.t.interval(0.95, 2, 20.6, stats.sem([20.5, 20.6, 20.7]))
    assert found.loc["a1", ["value", "low", "high", "null"]].tolist() == pytest.approx([20.6, low, high, 0.25])
    assert np.isnan(found.loc["a2", "value"])
    assert found["missing"].tolist() == [0, 3]
