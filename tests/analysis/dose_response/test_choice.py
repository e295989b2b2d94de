"""The doses that cannot be told from the best: on which data they are chosen, and on which they are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis.dose_response.best import cannot_be_told_from_best
from dropdiag.analysis.dose_response.choice import choice
from dropdiag.errors import ArgumentError, NotRecordedError
from tests.analysis.dose_response.sweeps import accuracy, sweep

RATES, SEEDS = (0.0, 0.1, 0.3, 0.5), (0, 1, 2, 3, 4)


def off(rate: float, seed: int, phase: str) -> dict[str, float]:
    """Test data on which another rate looks best than on validation data."""
    return {"accuracy": accuracy(rate, seed) + (0.5 * rate if phase == "test" else 0.0)}


def test_the_rate_is_chosen_on_validation_data_and_reported_on_test_data(tmp_path: Path) -> None:
    found = choice(sweep(tmp_path, phases=("test", "validation"), held=off))
    assert (str(found.chosen_on), str(found.reported_on)) == ("accuracy (validation)", "accuracy (test)")
    assert not found.optimistic
    assert found.inside == (0.3,)
    values = np.array([[accuracy(rate, seed) for rate in RATES] for seed in SEEDS])
    alone = cannot_be_told_from_best(values, less_is_better=False)
    assert tuple(found.table["inside"]) == alone.inside
    np.testing.assert_allclose(found.table[["behind", "behind_low", "behind_high", "p"]],
                               np.transpose([alone.behind, alone.low, alone.high, alone.p]))  # fmt: skip
    np.testing.assert_allclose(found.table["chosen"], values.mean(axis=0))
    np.testing.assert_allclose(found.table["chosen_sd"], values.std(axis=0, ddof=1))
    test = values + 0.5 * np.array(RATES)
    intervals = [stats.ttest_1samp(column, 0.0).confidence_interval(0.95) for column in test.T]
    np.testing.assert_allclose(found.table["reported"], test.mean(axis=0))
    np.testing.assert_allclose(found.table[["reported_low", "reported_high"]], intervals)
    assert found.note == ""


def test_one_held_out_set_is_optimistic_and_said_to_be(tmp_path: Path) -> None:
    found = choice(sweep(tmp_path))
    assert found.optimistic
    assert "chosen and reported on the same held-out data: what is reported of the best is optimistic" in found.note


def test_a_validation_scalar_of_the_same_phase_chooses(tmp_path: Path) -> None:
    runs = sweep(tmp_path, seeds=(0, 1, 2), held=lambda rate, seed, _: {
        "accuracy": accuracy(rate, seed) + rate, "validation_accuracy": accuracy(rate, seed)})  # fmt: skip
    found = choice(runs)
    assert (str(found.chosen_on), str(found.reported_on)) == ("validation_accuracy (eval)", "accuracy (eval)")
    assert found.inside == (0.3,)


def test_phases_may_be_named(tmp_path: Path) -> None:
    runs = sweep(tmp_path, phases=("a", "b"), seeds=(0, 1, 2), held=off)
    with pytest.raises(ArgumentError, match="several held-out phases"):
        choice(runs)
    found = choice(runs, chosen_on="a", reported_on="b")
    assert (found.chosen_on.phase, found.reported_on.phase) == ("a", "b")
    with pytest.raises(ArgumentError, match="no run holds 'accuracy' in phase 'c'; recorded are 'a', 'b'"):
        choice(runs, chosen_on="c")
    with pytest.raises(NotRecordedError, match="no run holds 'loss' of held-out data; .*: 'accuracy'"):
        choice(runs, scalar="loss")


def test_of_a_loss_less_is_better(tmp_path: Path) -> None:
    runs = sweep(tmp_path, held=lambda rate, seed, _: {"loss": -accuracy(rate, seed)})
    assert choice(runs, scalar="loss").inside == (0.3,)
    assert choice(runs, scalar="loss", less=False).inside != (0.3,)


def test_a_rate_of_which_a_run_diverged_is_never_inside(tmp_path: Path) -> None:
    def score(rate: float, seed: int) -> float:
        return float("nan") if (rate, seed) == (0.3, 1) else accuracy(rate, seed)

    found = choice(sweep(tmp_path, score=score))
    row = found.table.set_index("dose").loc[0.3]
    assert not row["inside"]
    assert (row["diverged"], row["note"]) == (1, "1 of 5 runs diverged: the last value is not finite")
    assert "rate=0.3 is not compared: 1 of 5 runs diverged" in found.note
    assert np.isnan(row["p"])
    assert found.compared == (0.0, 0.1, 0.5)
    assert found.seeds == 5  # no seed is lost to it
    values = np.array([[accuracy(rate, seed) for rate in found.compared] for seed in SEEDS])
    alone = cannot_be_told_from_best(values, less_is_better=False)
    assert found.best is not None
    assert (found.best.inside, found.best.best) == (alone.inside, alone.best)
    np.testing.assert_allclose(found.best.low, alone.low)


def test_gaps_leave_out_their_seed_and_a_rate_with_few_seeds(tmp_path: Path) -> None:
    gone = [(0.5, seed) for seed in (1, 2, 3, 4)] + [(0.1, 4)]
    found = choice(sweep(tmp_path, gone=gone))
    assert found.compared == (0.0, 0.1, 0.3)
    assert found.left_out == (4,)
    assert found.seeds == 4
    assert "rate=0.5 is not compared: 1 of 5 seeds have a value" in found.note
    assert "left out for a gap at a dose: seed 4" in found.note
    assert found.table["runs"].tolist() == [5, 4, 5, 1]


def test_one_seed_leaves_all_inside(tmp_path: Path) -> None:
    found = choice(sweep(tmp_path, seeds=(0,)))
    assert found.inside == RATES
    assert "one seed: no dose can be told from another" in found.note
    assert found.table["best"].tolist() == [False, False, True, False]


def test_where_all_others_diverged_one_is_left(tmp_path: Path) -> None:
    found = choice(sweep(tmp_path, score=lambda rate, seed: accuracy(rate, seed) if rate == 0.1 else float("inf")))
    assert found.inside == (0.1,)
    assert found.best is None
    assert "fewer than two doses can be compared" in found.note
