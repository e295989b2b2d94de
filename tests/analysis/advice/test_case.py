from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dropdiag.analysis.advice.case import Case, blocks
from dropdiag.analysis.advice.outcome import Outcome, Series
from dropdiag.errors import ArgumentError

OUTCOME = Outcome(Series("validation", "accuracy"), Series("test", "accuracy"))


def ends(values: np.ndarray, seeds=None) -> pd.DataFrame:
    n, k = values.shape
    rows = [
        (f"c{j}", i if seeds is None else seeds(i, j), f"c{j}-{i:02d}", values[i, j])
        for i in range(n)
        for j in range(k)
    ]
    frame = pd.DataFrame(rows, columns=["condition", "seed", "run", "chosen"])
    return frame.assign(reported=frame["chosen"], steps=10.0)


def test_runs_of_a_seed_stand_in_a_row_whatever_their_order():
    values = np.arange(12.0).reshape(4, 3)
    frame = ends(values).sample(frac=1.0, random_state=1)
    found = blocks(frame, "chosen", ["c2", "c0"])
    assert found[0].tolist() == values[:, [2, 0]].tolist()
    assert found.note == ""


def test_a_seed_that_lacks_a_condition_is_named_and_not_whole():
    frame = ends(np.arange(12.0).reshape(4, 3))
    found = blocks(frame[~((frame["condition"] == "c1") & (frame["seed"] == 2))], "chosen", ["c0", "c1"])
    assert found.whole[:, 0].tolist() == [0.0, 3.0, 9.0]
    assert found.note.startswith("seed 2 lacks a run")


@pytest.mark.parametrize("seeds", [lambda i, j: 10 * j + i, lambda i, j: None, lambda i, j: 0])
def test_runs_whose_seeds_do_not_pair_stand_in_the_order_of_their_names(seeds):
    values = np.arange(12.0).reshape(4, 3)
    found = blocks(ends(values, seeds), "chosen", ["c0", "c1", "c2"])
    assert found[0].tolist() == values.tolist()
    assert "do not pair" in found.note


def test_noise_is_what_a_run_differs_by_from_its_condition_and_its_seed():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 1)) * 5.0 + rng.normal(size=(400, 3)) * 0.3 + [0.0, 2.0, 7.0]
    case = Case(("c0", "c1", "c2"), ends(values), OUTCOME)
    fitted = np.concatenate([np.eye(400).repeat(3, 0), np.tile(np.eye(3), (400, 1))], axis=1)
    left = values.ravel() - fitted @ np.linalg.lstsq(fitted, values.ravel(), rcond=None)[0]
    assert case.noise == pytest.approx(np.sqrt((left**2).sum() / (399 * 2)), rel=1e-9)
    assert case.noise == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan"), "0.05"])
def test_alpha_is_a_probability(alpha):
    with pytest.raises(ArgumentError, match="alpha must lie between 0 and 1"):
        Case(("a",), ends(np.zeros((1, 1))), OUTCOME, alpha=alpha)
