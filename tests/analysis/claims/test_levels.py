"""What is decided at a strict level, or of many questions, is decided at a looser one and of fewer."""

import numpy as np
import pytest

from dropdiag.analysis.claims.claims import claims
from dropdiag.analysis.claims.rules import CONTRADICTED, SUPPORTED, UNDECIDED
from dropdiag.analysis.compare.effects import mean_difference
from dropdiag.analysis.compare.resampling import LABELLINGS, Design
from tests.analysis.claims.numbers import measured

ALPHAS = (1e-6, 1e-4, 1e-3, 0.01, 0.02, 0.05, 0.07, 0.1, 0.13, 0.2, 0.5)
MEASURES = (
    "weight_ks_normal", "weight_shape_distance", "abs_correlation", "gradient_flow", "saturation_share",
    "weight_w1_from_start", "far_gradient_probability",
)  # fmt: skip


def decided(found):
    """Return the parts that are decided, and those that a layer alone keeps from it."""
    rows = found.parts.assign(
        key=list(zip(found.parts["claim"], found.parts["condition"], found.parts["part"], strict=True))
    )
    sure = rows[rows["verdict"].isin([SUPPORTED, CONTRADICTED])]
    return dict(zip(sure["key"], sure["verdict"], strict=True)), set(
        rows["key"][rows["reason"].str.contains("on average")]
    )


def flows(*logs):
    """Two conditions: the gradient flow of the second is that of the first times exp of a number a seed."""
    return measured({
        "No dropout": {seed: {"gradient_flow": [1.0] * 3} for seed in range(len(logs))},
        "Dropout": {seed: {"gradient_flow": [np.exp(log)] * 3} for seed, log in enumerate(logs)},
    })  # fmt: skip


@pytest.mark.parametrize("alpha", ALPHAS)
def test_students_t_does_not_decide_what_relabelled_seeds_contradict_at_a_looser_level(alpha):
    # one of five pairs lies on the other side: t has p = 0.017, all sign flips 0.125
    part = claims(flows(1.0, 1.0, 1.0, 1.0, -0.01), claims="c", alpha=alpha).parts.iloc[0]
    assert part["verdict"] == (SUPPORTED if alpha >= 0.125 else UNDECIDED)
    assert part["p"] == 0.125
    # where all are on one side so many seeds cannot say more, and t decides
    clear = claims(flows(1.0, 1.1, 0.9, 1.0, 1.05), claims="c", alpha=alpha).parts.iloc[0]
    assert clear["verdict"] == (SUPPORTED if alpha >= 1e-4 else UNDECIDED)
    assert clear["provisional"] == (1e-4 <= alpha < 0.0625)


@pytest.mark.parametrize("n", [5, 6, 7, 8])
@pytest.mark.parametrize("alpha", [0.01, 0.02, 0.05, 0.1, 0.2])
def test_one_layer_far_outside_contradicts_resemblance_at_any_level(rng, n, alpha):
    told = {
        name: {seed: {"gradient_flow": np.exp(shift + 0.02 * rng.normal(size=3))} for seed in range(n)}
        for name, shift in (("No dropout", 0.0), ("Dropout", 1.6), ("GAAF", np.array([1.6, 1.6, 3.0])))
    }
    part = claims(measured(told), claims="e", alpha=alpha).parts.iloc[0]
    assert part["verdict"] == CONTRADICTED


@pytest.mark.parametrize("seed", range(6))
def test_a_stricter_level_and_a_greater_family_decide_less(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 9))
    effects = {measure: rng.normal(0.0, 0.02) for measure in MEASURES}

    def values(measure, place):
        found = 0.3 + (place > 0) * effects[measure] + rng.normal(0.0, 0.01, 3)
        return np.exp(10 * found) if measure == "gradient_flow" else found

    comparison = measured({
        name: {seed: {measure: values(measure, place) for measure in MEASURES} for seed in range(n)}
        for place, name in enumerate(("No dropout", "Dropout", "GAAF"))
    })  # fmt: skip
    said, vetoed = zip(*(decided(claims(comparison, alpha=alpha)) for alpha in ALPHAS), strict=True)
    for strict, loose, but in zip(said, said[1:], vetoed[1:], strict=False):
        assert {key: verdict for key, verdict in strict.items() if key not in but}.items() <= loose.items()
    whole, _ = decided(claims(comparison))
    for letter in "abcde":
        alone, but = decided(claims(comparison, claims=letter))
        assert {
            key: verdict for key, verdict in whole.items() if key[0] == letter and key not in but
        }.items() <= alone.items()


@pytest.mark.parametrize(("n", "m", "paired"), [(13, 13, True), (14, 14, True), (7, 8, False), (8, 8, False)])
def test_what_can_be_attained_by_drawn_labellings_counts_those_that_change_nothing(n, m, paired):
    base = np.arange(m) * 1e-3
    found = mean_difference(np.arange(n) * 1e-3 + 5.0 + 1e-4 * np.arange(n), base, paired=paired)
    assert not Design(n, m, paired).exact
    assert found.p == found.p_attainable >= 1 / LABELLINGS
