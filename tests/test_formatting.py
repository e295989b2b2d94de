"""Numbers and effects as text: what is missing is never a number, and a page's numbers are typeset."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from dropdiag.formatting import bounds, effect, facts, magnitude, minus, missing, plain, site, size, typeset, whole


@pytest.mark.parametrize("nothing", [None, math.nan, np.float64("nan")])
def test_what_is_missing_is_empty_or_a_dash(nothing):
    assert missing(nothing)
    assert (plain(nothing), typeset(nothing), whole(nothing)) == ("", "–", "–")
    assert magnitude(nothing, ratio=True) == magnitude(nothing, ratio=False) == ""


def test_plain_numbers_can_be_read_by_a_program():
    assert [float(plain(value)) for value in (-1.5e-7, 0.25, 1234567.0)] == [-1.5e-7, 0.25, 1.23e6]
    assert plain(0.0316, ".1%") == "3.2%"


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(-0.25, ".3f", "−0.250"), (1.8e-05, ".2e", "1.80e−5"), (-4.0e-12, ".2g", "−4e−12"), (2.5e7, ".3g", "2.5e7"),
     (0.5, ".0%", "50%"), (math.inf, ".3g", "–"), ("as it is", ".3g", "as it is")],
)  # fmt: skip
def test_a_page_has_true_minus_signs_and_short_exponents(value, digits, shown):
    assert typeset(value, digits) == shown


def test_sentences_get_minus_signs_before_numbers_alone():
    assert minus("r is -0.5 (1e-05), an F-test of layer-2") == "r is −0.5 (1e−5), an F-test of layer-2"


def test_a_log_ratio_is_shown_as_its_factor():
    assert magnitude(math.log(1.82), ratio=True) == "×1.82"
    assert magnitude(1e6, ratio=True) == "×inf"
    assert magnitude(-0.25, ratio=False, form=typeset, sign=True) == "−0.25"
    assert magnitude(0.25, ratio=False, sign=True) == "+0.25"
    assert bounds(0.0, math.log(4.0), ratio=True) == ("1", "4")


def test_a_row_of_effects():
    row = SimpleNamespace(scale="difference", measure="abs_correlation", layer="fc1", call=1.0, effect=-0.125, low=-0.25,
                          high=0.0, p_holm=math.nan, p_attainable=0.0625, n=5, n_baseline=4)  # fmt: skip
    assert effect(row) == ["abs_correlation", "fc1#1", "-0.125", "-0.25 to 0", "", "0.0625", "5 and 4"]


def test_whole_numbers_and_sizes():
    assert whole(-1234567) == "−1\u202f234\u202f567"
    assert [size(n) for n in (0, 999, 1000, 99_600, 1_240_000)] == ["0 B", "999 B", "1 kB", "100 kB", "1.2 MB"]
    assert (site("fc1", 0), site("fc1", 2), site("fc1", math.nan)) == ("fc1", "fc1, call 3", "fc1")


def test_what_was_done_to_dropouts_is_a_fact():
    held = {"patterns": ["*"], "left": [], "step": 0, "until": None}
    meta = {"config": {}, "state": "completed", "interventions": [
        {**held, "what": "set", "sites": ["a", "b", "c", "d"], "rates": [0.1, 0.1, 0.1, 0.25]},
        {**held, "what": "schedule", "sites": ["a"], "schedule": {"early": [0.4, 0.0, 20]}, "step": 3, "until": 9},
    ]}  # fmt: skip
    assert facts(meta)["dropouts"] == (
        "set a, b, c and 1 more (0.1, 0.25) from step 0; schedule a (early [0.4, 0.0, 20]) from step 3 to 9"
    )
    assert "dropouts" not in facts({"config": {}, "state": "completed"})
