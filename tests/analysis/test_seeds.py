from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dropdiag.analysis.seeds import over_seeds, paired_ratio, t_interval


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


def test_ratios_are_paired_by_seed() -> None:
    base = pd.DataFrame({"seed": pd.array([0, 1, 2], "Int64"), "m": [1.0, 2.0, 4.0]})
    other = pd.DataFrame({"seed": pd.array([2, 0, 5], "Int64"), "m": [8.0, 8.0, 9.0]})
    got = paired_ratio(other, base, "m")
    mean, low, high = t_interval(np.log([8.0, 2.0]))
    assert got["pairs"] == 2
    assert got["ratio"] == pytest.approx(4.0) == np.exp(mean)
    assert (got["ratio_low"], got["ratio_high"]) == (np.exp(low), np.exp(high))


def test_ratio_without_pairs_or_with_one() -> None:
    one = pd.DataFrame({"seed": pd.array([None], "Int64"), "m": [1.0]})
    two = pd.DataFrame({"seed": pd.array([None], "Int64"), "m": [3.0]})
    single = paired_ratio(two, one, "m")
    assert (single["ratio"], single["pairs"]) == (pytest.approx(3.0), 1)
    assert np.isnan(single["ratio_low"])
    twice = pd.DataFrame({"seed": pd.array([0, 0], "Int64"), "m": [1.0, 2.0]})
    none = paired_ratio(twice, twice, "m")
    assert none["pairs"] == 0
    assert np.isnan(none["ratio"])
