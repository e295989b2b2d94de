"""Screening: by seeds of its own, in a folder of its own, with nothing of it among what is compared."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from dropdiag.errors import ArgumentError
from dropdiag.experiments.sweep.asked import Asked
from dropdiag.experiments.sweep.screening import EarlyStop, judged
from dropdiag.store.folder import read_meta


def asked(*rates, epochs=16, seeds=(0, 1)):
    return Asked(tuple({"rate": rate} for rate in rates), seeds, {"epochs": epochs}, "t")


def finals(values, quantity="accuracy", phase="eval"):
    rows = [
        (f"rate={rate}", seed, phase, quantity, value) for rate, two in values.items() for seed, value in enumerate(two)
    ]
    return pd.DataFrame(rows, columns=["condition", "seed", "phase", "quantity", "value"])


def test_rounds_have_growing_budgets_and_seeds_that_nobody_else_has():
    rounds = EarlyStop("accuracy", least=2).rounds(asked(0, 0.1))
    assert [one.settings["epochs"] for one in rounds] == [2, 4, 8]
    seeds = [seed for one in rounds for seed in one.seeds]
    assert len(set(seeds)) == 6
    assert min(seeds) >= 1_000_000
    assert [one.settings["epochs"] for one in EarlyStop("accuracy", factor=3).rounds(asked(0, epochs=10))] == [3, 9]


def test_the_better_half_goes_on_and_the_first_condition_always():
    values = {0: (0.1, 0.2), 0.1: (0.9, 0.7), 0.2: (0.5, 0.5), 0.3: (0.8, 0.9), 0.4: (0.6, 0.6)}
    stop, one = EarlyStop("accuracy"), asked(*values)
    made = judged(stop, one, finals(values), "rate=0")
    assert made.kept == ("rate=0", "rate=0.1", "rate=0.3", "rate=0.4")
    assert list(made.stopped) == ["rate=0.2"]
    assert made.stopped["rate=0.2"] == "after epochs = 16, eval accuracy 0.5, mean of 2 screening seeds"
    of_loss = judged(EarlyStop("loss"), one, finals(values, "loss"), "rate=0")
    assert of_loss.kept == ("rate=0", "rate=0.2", "rate=0.4")


def test_a_run_that_diverged_or_is_missing_stops_its_condition():
    values = {0: (0.5, 0.5), 0.1: (0.9, math.nan), 0.2: (0.9,), 0.3: (0.1, 0.1)}
    made = judged(EarlyStop("accuracy"), asked(*values), finals(values), "rate=0")
    assert made.kept == ("rate=0", "rate=0.3")
    assert made.stopped["rate=0.1"] == "after epochs = 16 a run had failed, diverged or no accuracy"
    assert made.stopped["rate=0.2"] == made.stopped["rate=0.1"]


def test_validation_data_decide_where_there_are_some():
    both = pd.concat([finals({0: (0.5, 0.5), 0.1: (0.4, 0.4)}, phase=phase) for phase in ("test", "validation")])
    assert judged(EarlyStop("accuracy"), asked(0, 0.1), both, "rate=0").phase == "validation"
    two = both.replace({"validation": "other"})
    with pytest.raises(
        ArgumentError, match="one held-out phase with 'accuracy'.*logged is other accuracy, test accuracy"
    ):
        judged(EarlyStop("accuracy"), asked(0, 0.1), two, "rate=0")
    assert judged(EarlyStop("accuracy", phase="test"), asked(0, 0.1), two, "rate=0").phase == "test"


@pytest.mark.parametrize(("stop", "of", "message"), [
    (EarlyStop("accuracy", budget="steps"), asked(0), "as settings={'steps': 20}; got None"),
    (EarlyStop("accuracy", least=16), asked(0), "least from 1 to below epochs = 16"),
    (EarlyStop("accuracy"), asked(0, seeds=(1_000_000,)), "seeds from 1000000 on are those of screening"),
])  # fmt: skip
def test_what_cannot_be_screened_is_refused(stop, of, message):
    with pytest.raises(ArgumentError, match=message):
        stop.rounds(of)


def test_what_is_no_way_to_stop():
    with pytest.raises(ArgumentError, match="early_stop= takes a metric, or as"):
        EarlyStop.of({"quantity": "accuracy"})
    assert EarlyStop.of("loss") == EarlyStop("loss")


def test_a_screened_sweep(swept, tmp_path):
    """A rate of 0.95 learns nothing in so short a time."""
    stop = {"metric": "accuracy", "least": 2, "seeds": 1}
    options = {"seeds": 1, "settings": {"epochs": 4}, "early_stop": stop}
    over = {"rate": [0, 0.1, 0.9, 0.95]}
    made = swept("for_epochs", over, **options)
    told = json.loads((tmp_path / "out" / "sweep.json").read_text())
    (one,) = told["screening"]
    screened = {path.name: read_meta(path) for path in (tmp_path / "out/screening/epochs-2/runs").iterdir()}
    assert {meta["steps"] for meta in screened.values()} == {8}
    assert sorted(meta["config"]["seed"] for meta in screened.values()) == [1_000_000] * 4
    means = {meta["config"]["condition"]: one["means"][meta["config"]["condition"]] for meta in screened.values()}
    best = sorted(means, key=means.get, reverse=True)[:2]
    assert set(one["kept"]) == {"rate=0", *best}
    assert set(made.stopped) == set(means) - set(one["kept"])
    assert made.runs().conditions == one["kept"]
    assert {(run.seed, run.meta["steps"]) for run in made.runs()} == {(0, 16)}
    for name in made.stopped:
        assert any(remark.startswith(f"{name} was stopped after epochs = 2") for remark in made.remarks)
    again = swept("for_epochs", over, **options)
    assert (again.trained, again.stopped) == ((), made.stopped)


def test_two_conditions_are_not_screened(swept, tmp_path):
    made = swept("for_epochs", settings={"epochs": 4}, early_stop="accuracy")
    assert (made.stopped, len(made.trained)) == ({}, 2)
    assert not (tmp_path / "out" / "screening").exists()


def test_a_budget_that_train_does_not_read_is_told(swept):
    with pytest.raises(Exception, match="'epochs' was never read by train"):
        swept(
            "budget_ignored",
            {"rate": [0, 0.1, 0.2]},
            settings={"epochs": 4},
            early_stop={"metric": "accuracy", "seeds": 1},
        )
