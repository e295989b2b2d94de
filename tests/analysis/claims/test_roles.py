"""Whatever conditions are called, and whoever is the baseline, no claim is lost and no number is another's."""

import numpy as np
import pytest

from dropdiag.analysis.claims.claims import claims
from dropdiag.errors import ArgumentError
from tests.analysis.claims.numbers import measured

OWN = ("weight_w1_from_start", "excess_net_variance", "far_gradient_probability")


def three(rng, *names):
    """Conditions with three seeds each: the first has the least of everything."""

    def of_run(place):
        of_layers = {name: 0.2 + 0.1 * place + 0.01 * rng.normal(size=3) for name in ("saturation_share", *OWN)}
        flow = np.exp(place + 0.01 * rng.normal(size=3))
        return {**of_layers, "gradient_flow": flow, "best:accuracy": 0.9 + 0.01 * place + 1e-3 * rng.normal()}

    return measured({name: {seed: of_run(place) for seed in range(3)} for place, name in enumerate(names)})


@pytest.mark.parametrize(
    "names", [("plain", "", "GAAF"), ("", "treated", "GAAF {}"), ("0", "{alpha}", "gaaf\n"), ("no", "x" * 300, "GAAF")]
)
def test_a_name_is_a_name_though_it_is_empty_or_looks_like_a_template(rng, names):
    found = claims(three(rng, *names))
    assert (found.roles.dropout, found.roles.gaafs) == (names[1], (names[2],))
    resembles = found.table.set_index("claim").loc["e"]
    assert f"{names[1]!r} is taken for dropout" in resembles["reason"]
    own = found.parts[
        found.parts["part"].isin(["top layer trained more", "variance transferred upward", "no gradient far out"])
    ]
    assert len(own) == 6
    assert set(own["n_baseline"]) == {0}
    assert not own["reason"].str.contains(r"(?:by|is) \+", regex=True).any()  # a number of its own has no sign


def test_where_dropout_is_the_baseline_gaaf_is_compared_with_it_in_all_claims(rng):
    found = claims(three(rng, "Dropout", "GAAF", "No dropout"), dropout="Dropout")
    rows = set(zip(found.table["claim"], found.table["condition"], strict=True))
    assert rows == {(letter, name) for letter in "abcd" for name in ("GAAF", "No dropout")} | {
        ("e", "GAAF"),
        ("f", "GAAF"),
    }
    table = found.table.set_index(["claim", "condition"])
    assert table.loc[("c", "GAAF"), "verdict"] == "supported"
    assert "dropout's own effect is not known, so there is nothing to resemble" in table.loc[("e", "GAAF"), "reason"]
    # what cannot be decided takes no share of alpha
    assert found.parts.loc[found.parts["claim"] == "e", "p_family"].isna().all()


@pytest.mark.parametrize(("options", "message"), [
    ({"alpha": "0.05"}, "alpha must lie between 0 and 1, got '0.05'"),
    ({"claims": 5}, "claims= takes letters out of a, b, c, d, e, f, g, h, i, j, k, l, as 'cd', got 5"),
])  # fmt: skip
def test_options_of_another_type_are_refused_with_what_is_wanted(rng, options, message):
    with pytest.raises(ArgumentError, match=message):
        claims(three(rng, "plain", "dropout", "GAAF"), **options)


def test_one_seed_gives_no_layer_a_p(rng):
    told = {
        name: {0: {"saturation_share": rng.random(3), "gradient_flow": rng.random(3)}}
        for name in ("no", "dropout", "GAAF")
    }
    layers = claims(measured(told)).layers
    assert set(layers["claim"]) == {"c", "d", "e"}
    assert layers[["p", "p_holm", "low"]].isna().all(axis=None)
