from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dropdiag.analysis.seeds import SeedPairing, difference, over_seeds, pair_by_seed, ratio_to_baseline, t_interval


def test_missing_values_are_left_out_and_counted() -> None:
    frame = pd.DataFrame({"g": ["a", "a", "a", "b"], "v": [1.0, 3.0, np.nan, np.nan]})
    a, b = over_seeds(frame, ["g"], ["v"]).to_dict("records")
    assert (a["v"], a["seeds"], a["missing"]) == (2.0, 3, 1)
    assert a["v_sd"] == pytest.approx(np.sqrt(2))
    assert np.isnan([b["v"], b["v_sd"]]).all()
    assert b["missing"] == 1


def test_interval_is_students() -> None:
    x = np.array([1.0, 1.4, 0.7, 1.1])
    low, high = stats.t.interval(0.95, 3, loc=x.mean(), scale=stats.sem(x))
    assert t_interval([*x, np.nan]) == pytest.approx((x.mean(), low, high))
    assert t_interval([2.0])[0] == 2.0
    assert np.isnan(t_interval([2.0])[1:]).all()
    assert np.isnan(t_interval([])).all()


class Recorded(list):
    """Runs of which only condition and seed matter; each label is both."""

    def __init__(self, **seeds: list[int | None]) -> None:
        super().__init__(SimpleNamespace(condition=c, seed=s) for c, several in seeds.items() for s in several)

    def labels(self) -> list[str]:
        return [f"{run.condition}{i}" for i, run in enumerate(self)]


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ({"a": [0, 1], "b": [1, 0]}, SeedPairing(("a1", "a0"), ("b2", "b3"), True)),
        ({"a": [0, 1, 5], "b": [1, 0]}, SeedPairing(("a1", "a0"), ("b3", "b4"), True, ("a2",))),
        ({"a": [0, 1], "b": [1, 2]}, SeedPairing(("a0", "a1"), ("b2", "b3"), False)),
        ({"a": [0, None], "b": [0, 1]}, SeedPairing(("a0", "a1"), ("b2", "b3"), False)),
        ({"a": [0, 0], "b": [0, 1]}, SeedPairing(("a0", "a1"), ("b2", "b3"), False)),
    ],
    ids=["same", "one alone", "others", "one without", "twice"],
)
def test_conditions_are_paired_where_their_seeds_allow_it(seeds, expected) -> None:
    assert pair_by_seed(Recorded(**seeds), "a", "b") == expected


@pytest.mark.parametrize(
    ("seeds", "note"),
    [
        ({"a": [0, 1], "b": [1, 0]}, ""),
        ({"a": [0, 1, 5], "b": [1, 0]}, ""),
        (
            {"a": [0, 1], "b": [1, 2**63 + 1]},
            f"not paired by seed: seed 1 is in both, seed 0 in 'a' alone, seed {2**63 + 1} in 'b' alone; "
            "all runs are taken as independent",
        ),
        ({"a": [0, 1], "b": [2, 3]}, "not paired by seed: no seed is in both; all runs are taken as independent"),
        ({"a": [0, None], "b": [0, 1]}, "1 of 2 runs of 'a' have no seed; seed 0 is in both"),
        ({"a": [0, 0], "b": [0, 1]}, "seed 0 comes twice in 'a'; seed 0 is in both"),
        ({"a": [None], "b": [None]}, "1 of 1 runs of 'a' have no seed; 1 of 1 runs of 'b' have no seed; all"),
        (
            {"a": [*range(20), 99], "b": [*range(20), 98, 97]},
            "seeds 0, 1, 2, 3, 4, 5, 6, 7 and 12 more are in both, seed 99",
        ),
    ],
)
def test_why_conditions_are_not_paired_is_said(seeds, note) -> None:
    found = pair_by_seed(Recorded(**seeds), "a", "b")
    assert found.paired == (not note)
    assert note in found.note
    assert not note or found.having(set(found.runs)).note == found.note


def test_a_condition_beside_itself_is_paired_run_by_run() -> None:
    runs = Recorded(a=[None, None])
    pairing = pair_by_seed(runs, "a", "a")
    found = ratio_to_baseline({"a0": 1.0, "a1": 3.0}, pairing)
    assert found == {"ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0, "pairs": 2}


def test_ratios_are_of_pairs_or_of_independent_samples() -> None:
    values = {"a0": 8.0, "a1": 8.0, "b2": 4.0, "b3": 1.0}
    pairs = SeedPairing(("a0", "a1"), ("b2", "b3"), paired=True)
    mean, low, high = t_interval(np.log([2.0, 8.0]))
    got = ratio_to_baseline(values, pairs)
    assert got == pytest.approx(
        {"ratio": np.exp(mean), "ratio_low": np.exp(low), "ratio_high": np.exp(high), "pairs": 2}
    )
    got = ratio_to_baseline(values | {"a1": 2.0}, SeedPairing(("a0", "a1"), ("b2", "b3"), paired=False))
    welch = stats.ttest_ind(np.log([8.0, 2.0]), np.log([4.0, 1.0]), equal_var=False).confidence_interval()
    assert (got["ratio"], got["pairs"]) == (pytest.approx(2.0), 0)
    np.testing.assert_allclose(np.log([got["ratio_low"], got["ratio_high"]]), welch)


def test_what_has_no_logarithm_is_left_out_with_its_partner() -> None:
    pairs = SeedPairing(("a0", "a1"), ("b2", "b3"), paired=True)
    got = ratio_to_baseline({"a0": 0.0, "a1": 3.0, "b2": 4.0, "b3": 1.0}, pairs)
    assert (got["ratio"], got["pairs"]) == (pytest.approx(3.0), 1)
    assert np.isnan(got["ratio_low"])
    assert np.isnan(ratio_to_baseline({"a0": 1.0, "a1": np.nan}, pairs)["ratio"])
    found = difference(np.array([]), np.array([1.0]), paired=False)
    assert np.isnan([found.effect, *found.interval(0.95)]).all()
