"""Claims (g) to (k): on numbers of which it is known whether they hold, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdicts import ALPHA, World, simulate
from dropdiag.analysis.claims.claims import claims
from dropdiag.analysis.compare.active import BY_GAAF, NO_MASK
from dropdiag.errors import ArgumentError
from tests.analysis.claims.numbers import measured

SEEDS = range(8)
BASE, DROP = "No dropout", "Dropout"
OPEN = (-3.0, 3.0, -2.0, 2.0, -1.0, 1.0, -2.5, 2.5)
"""Shifts of which nothing is decided."""


def told(shift, layers=None, *, scale=1.0, around=1.0):
    """Values of eight pairs: noise that a pair shares, a little of its own, and a shift of the condition."""
    rng = np.random.default_rng(5)
    shape = () if layers is None else (layers,)
    shared, own = rng.normal(size=(8, *shape)), rng.normal(size=(2, 8, *shape))
    values = around + scale * (0.5 * shared + 0.1 * own)
    values[1] += scale * np.broadcast_to(shift, (8, *shape))
    return values


def both(**measures):
    """Return what `measured` takes of measures of both conditions, shape (2, 8) or (2, 8, layers)."""
    return {
        name: {seed: {measure: values[side, seed] if np.ndim(values[side, seed]) else float(values[side, seed])
                      for measure, values in measures.items()} for seed in SEEDS}
        for side, name in enumerate((BASE, DROP))
    }  # fmt: skip


def flat(relative, rise, noisy):
    return both(**{
        "relative_flatness": np.exp(told(relative)), "loss_rise@0.1": told(rise), "loss_rise@0.5": told(9.0),
        "noisy_loss_rise@0.2": told(noisy), "noisy_loss_rise@0.5": told(9.0), "hessian_eigenvalue@1": told(5.0),
    })  # fmt: skip


def row(found, claim):
    (one,) = found.table[found.table["claim"] == claim].itertuples()
    return one


def parts(found, claim):
    return found.parts[found.parts["claim"] == claim].set_index("part")


@pytest.mark.parametrize(
    ("shifts", "verdict"),
    [((-1, -1, -1), "supported"), ((1, 1, 1), "contradicted"), ((-1, 1, -1), "in part"), ((-1, OPEN, -1), "in part"),
     ((OPEN, OPEN, OPEN), "undecided"), ((OPEN, 1, OPEN), "contradicted")],
)  # fmt: skip
def test_flatter_and_more_robust(shifts, verdict):
    found = claims(measured(flat(*shifts)), claims="g")
    assert row(found, "g").verdict == verdict
    # sizes and noises that were measured beside those that decide say the opposite, and so does the eigenvalue
    assert list(parts(found, "g").index) == [
        "lower relative flatness", "lower loss rise with weights moved by 0.1", "lower loss rise with input noise of 0.2",
        "largest Hessian eigenvalue",
    ]  # fmt: skip
    assert parts(found, "g").loc["largest Hessian eigenvalue", ["verdict", "counts"]].tolist() == ["not judged", False]
    assert "largest Hessian eigenvalue changes by +4.95" in row(found, "g").reason


def test_the_size_that_decides_is_the_one_measured_nearest_to_the_one_asked_for():
    found = claims(measured(flat(-1, -1, -1)), claims="g", rise_size=0.3, noise=0.4)
    said = parts(found, "g")
    assert said.loc["lower loss rise with weights moved by 0.5", "verdict"] == "contradicted"
    assert said.loc["lower loss rise with input noise of 0.5", "verdict"] == "contradicted"
    assert row(found, "g").verdict == "in part"


def test_what_is_shown_alone_takes_no_share_of_alpha():
    numbers = flat(-1, -1, -1)
    without = {name: {seed: {k: v for k, v in one.items() if "hessian" not in k} for seed, one in seeds.items()}
               for name, seeds in numbers.items()}  # fmt: skip
    with_it, alone = (parts(claims(measured(one), claims="g"), "g") for one in (numbers, without))
    assert np.isnan(with_it.loc["largest Hessian eigenvalue", "p_family"])
    np.testing.assert_array_equal(with_it["p_family"][:3], alone["p_family"][:3])


def test_curvature_of_gaaf_is_not_missed():
    numbers = flat(-1, -1, -1)
    for one in numbers[DROP].values():
        del one["relative_flatness"]
    gone = measured(numbers, notes={(DROP, "relative_flatness"): BY_GAAF})
    found = claims(gone, claims="g")
    assert row(found, "g").verdict == "supported"
    assert BY_GAAF in parts(found, "g").loc["lower relative flatness", "reason"]
    # where nobody says that it cannot be compared, it is missed
    assert row(claims(measured(numbers), claims="g"), "g").verdict == "in part"


@pytest.mark.parametrize(
    ("kl", "verdict"), [(0.001, "supported"), (0.02, "contradicted"), ((0.0049, 0.0052) * 4, "undecided")]
)
def test_weight_scaling_is_the_geometric_mean_within_a_margin(kl, verdict):
    values = np.abs(np.broadcast_to(kl, 8) * np.random.default_rng(2).normal(1.0, 0.05, 8))
    # what few masks add alone would decide the contrary
    bias = 0.1
    numbers = {BASE: {seed: {"ensemble_kl_geometric_corrected": 0.5} for seed in SEEDS},
               DROP: {seed: {"ensemble_kl_geometric": bias + values[seed], "ensemble_kl_geometric_corrected": values[seed],
                             "ensemble_kl_arithmetic_corrected": 0.3 + values[seed]}
                      for seed in SEEDS}}  # fmt: skip
    found = claims(measured(numbers), claims="h")
    part = parts(found, "h").loc["geometric mean"]
    assert row(found, "h").verdict == verdict
    assert part["effect"] == pytest.approx(values.mean())
    assert part["threshold"] == 0.005
    assert (part["n"], part["n_baseline"]) == (8, 0)
    # sign flips of the distances to the margin, all 256 of them
    signs = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    flipped = np.abs((signs * (values - 0.005)).mean(axis=1))
    assert part["p"] == pytest.approx((flipped >= abs((values - 0.005).mean()) * (1 - 1e-10)).mean())
    assert (
        f"KL is {bias + values.mean():.3g} nats as measured, 0.1 of them for the finite number of masks"
        in part["beside"]
    )
    assert "only where one masked layer stands right before the softmax" in row(found, "h").reason
    assert parts(found, "h").loc["arithmetic mean", "verdict"] == "not judged"
    assert row(claims(measured(numbers), claims="h", ensemble_margin=0.1), "h").verdict == "supported"


def test_without_dropout_there_is_no_mean_over_masks():
    numbers = {name: {seed: {"final:loss": 1.0} for seed in SEEDS} for name in (BASE, DROP)}
    found = claims(measured(numbers, notes={(DROP, "ensemble_kl_geometric_corrected"): NO_MASK}), claims="h")
    assert row(found, "h").verdict == "undecided"
    assert NO_MASK in row(found, "h").reason


def flow(slope, total, layers=3):
    return both(flow_slope=np.exp(told(slope, layers, scale=0.1)), flow_total=np.exp(told(total, layers, scale=0.1)),
                flow_output_error=np.exp(told(2.0, layers, scale=0.1)))  # fmt: skip


@pytest.mark.parametrize(
    ("slope", "total", "verdicts", "verdict"),
    [(4, 5, ("supported", "supported"), "supported"), (-2, 5, ("contradicted", "contradicted"), "contradicted"),
     (1.2, 6, ("supported", "contradicted"), "in part"), (4, -5, ("undecided", "undecided"), "undecided"),
     (4, np.reshape(OPEN, (8, 1)), ("undecided", "undecided"), "undecided")],
)  # fmt: skip
def test_the_extra_flow_is_due_to_the_slope(slope, total, verdicts, verdict):
    found = claims(measured(flow(slope, total)), claims="i")
    said = parts(found, "i")
    assert tuple(said["verdict"]) == verdicts
    assert row(found, "i").verdict == verdict
    assert "the gradient flow's factor of" in said["beside"].iloc[0]
    assert said["beside"].iloc[0] in row(found, "i").reason
    lacks = "the gradient flow is not decidedly larger, so there is nothing that the slope could explain"
    assert (lacks in row(found, "i").reason) == (verdict == "undecided")


def test_a_part_of_the_mechanism_is_no_surer_than_its_subject():
    numbers = flow(4, (2.5, 0.5, 0.2))
    found = claims(measured(numbers), claims="i")
    logs = {name: np.log([[numbers[side][seed][name] for seed in SEEDS] for side in (BASE, DROP)])
            for name in ("flow_slope", "flow_total")}  # fmt: skip
    apart = {name: (both[1] - both[0]).mean(axis=1) for name, both in logs.items()}
    said = parts(found, "i")
    assert said["effect"].tolist() == pytest.approx(
        [apart["flow_slope"].mean(), (apart["flow_slope"] - 0.5 * apart["flow_total"]).mean()]
    )
    signs = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)

    def p(x):
        return (np.abs((signs * x).mean(axis=1)) >= abs(x.mean()) * (1 - 1e-10)).mean()

    assert said["p"].tolist() == pytest.approx(
        [max(p(apart["flow_slope"]), p(apart["flow_total"])),
         max(p(apart["flow_slope"] - 0.5 * apart["flow_total"]), p(apart["flow_total"]))]
    )  # fmt: skip


def test_a_layer_that_says_the_opposite_keeps_the_mechanism_undecided():
    numbers = flow((5, 5, -3), (9, 9, 9))
    found = claims(measured(numbers), claims="i")
    assert parts(found, "i").loc["phi' gives more", "verdict"] == "undecided"
    assert "'l3' contradicts it" in row(found, "i").reason
    # a layer in which no more gradient flows has nothing that it could contradict
    without = claims(measured(flow((5, 5, -3), (9, 9, -2))), claims="i")
    assert parts(without, "i").loc["phi' gives more", "verdict"] == "supported"


def ablated(base, drop, noise=0.02):
    """Interactions around means that are told, each run's by lot .5, and the measures that a comparison makes of them."""
    rng = np.random.default_rng(6)
    observed = np.stack([np.broadcast_to(mean, (8, 3)) + noise * rng.normal(size=(8, 3)) for mean in (base, drop)])
    apart = observed - 0.5
    return both(ablation_interaction=observed, ablation_dependence=np.abs(apart),
                ablation_dependence_squared=apart**2 - 0.01**2, abs_correlation=told(2, 3),
                multiple_correlation=told(-1, 3))  # fmt: skip


@pytest.mark.parametrize(
    ("base", "drop", "verdict", "says"),
    [(1.5, 0.7, "supported", "in both partners back each other up"), (0.7, 1.5, "contradicted", "in both partners back"),
     # needing each other is dependence as well: a lower I is no less of it
     (0.7, -0.5, "contradicted", "in 'Dropout' partners need each other, in 'No dropout' partners back each other up"),
     (-0.5, 0.7, "supported", "in 'Dropout' partners back each other up, in 'No dropout' partners need each other"),
     (1.5, (0.7, 0.9, 2.5), "undecided", "in both partners back each other up")],
)  # fmt: skip
def test_nodes_depend_less_on_particular_others_whatever_the_sign(base, drop, verdict, says):
    numbers = ablated(base, drop)
    found = claims(measured(numbers, nulls={"ablation_interaction": 0.5}), claims="bj")
    part = parts(found, "j").loc["less dependence on particular nodes"]
    assert row(found, "j").verdict == verdict
    apart = np.abs(
        np.array([[numbers[name][seed]["ablation_interaction"] for seed in SEEDS] for name in (BASE, DROP)]) - 0.5
    )
    assert part["effect"] == pytest.approx((apart[1] - apart[0]).mean())
    means = [np.mean([numbers[name][seed]["ablation_interaction"] for seed in SEEDS]) for name in (DROP, BASE)]
    reason = row(found, "j").reason
    assert (
        f"I is {means[0]:+.3g} in 'Dropout' (by lot +0.5) and {means[1]:+.3g} in 'No dropout' (by lot +0.5)" in reason
    )
    assert says in reason
    # what the other definitions do is said, and decides nothing here
    assert "by other definitions of co-adaptation mean |r| changes by +2" in reason
    correlated = np.array([[numbers[name][seed]["multiple_correlation"] for seed in SEEDS] for name in (BASE, DROP)])
    assert f"multiple correlation R² changes by {(correlated[1] - correlated[0]).mean():+.3g}" in reason


def test_what_groups_drawn_by_lot_vary_by_is_no_dependence():
    # |I - by lot| is greater with dropout by chance alone, as random groups vary more there: its square says so
    rng = np.random.default_rng(3)
    sd = np.array([0.01, 0.4])[:, None, None]
    apart = sd * rng.normal(size=(2, 8, 3))
    numbers = both(ablation_dependence=np.abs(apart), ablation_dependence_squared=apart**2 - sd**2)
    alone = both(ablation_dependence=np.abs(apart), ablation_dependence_squared=np.abs(apart))
    assert row(claims(measured(alone), claims="j"), "j").verdict == "contradicted"
    assert row(claims(measured(numbers), claims="j"), "j").verdict == "undecided"
    without = both(ablation_dependence=np.abs(apart))
    assert "do not say how much that of random groups varies" in row(claims(measured(without), claims="j"), "j").reason


def series(values, steps, name="gradient_direction_variance"):
    """Of each side and seed the values at some steps."""
    return {who: {seed: {name: dict(zip(steps, values[side, seed], strict=True))} for seed in SEEDS}
            for side, who in enumerate((BASE, DROP))}  # fmt: skip


def test_the_direction_is_more_consistent_early():
    steps = (0, 40, 100, 500, 1000)
    values = np.stack([told(shift) for shift in (9, -1, -1, 9, 9)], axis=-1)
    numbers = both(**{"final:loss": told(0)})
    found = claims(measured(numbers, series=series(values, steps), steps=1000), claims="k")
    part = parts(found, "k").loc["less variance of direction"]
    assert row(found, "k").verdict == "supported"
    differences = (values[1] - values[0])[:, 1:3].mean(axis=1)
    assert part["effect"] == pytest.approx(differences.mean())
    low, high = stats.t.interval(0.95, 7, differences.mean(), stats.sem(differences))
    assert (part["low"], part["high"]) == pytest.approx((low, high))
    assert "measured at steps 40, 100" in part["note"]
    later = claims(measured(numbers, series=series(values, steps), steps=1000), claims="k", early=1.0)
    assert row(later, "k").verdict == "contradicted"


def test_a_run_that_was_not_measured_early_is_left_out():
    values = np.stack([told(-1), told(-1)], axis=-1)
    told_of = series(values, (50, 100))
    del told_of[DROP][3]["gradient_direction_variance"][50]
    numbers = both(**{"final:loss": told(0)})
    part = parts(claims(measured(numbers, series=told_of, steps=1000), claims="k"), "k").loc[
        "less variance of direction"
    ]
    assert part["n"] == 7
    assert "Dropout-3 left out, for a step is missing there" in part["note"]
    for seed in SEEDS:
        told_of[DROP][seed]["gradient_direction_variance"] = {60: 1.0, 90: 1.0}
    found = claims(measured(numbers, series=told_of, steps=1000), claims="k")
    assert "was not measured at the same steps of both sides, between step 1 and 100" in row(found, "k").reason


def test_what_nobody_recorded_is_not_asked_and_changes_nothing():
    numbers = both(gradient_flow=np.exp(told(4, 3)), saturation_share=told(1, 3))
    found, alone = claims(measured(numbers)), claims(measured(numbers), claims="abcdef")
    assert found.table.equals(alone.table)
    assert found.parts.equals(alone.parts)
    assert [one.claim for one in found.unrecorded] == list("ghijkl")
    assert 'rec.measure("ablation")' in found.unrecorded[3].record
    assert alone.unrecorded == ()
    # asked for by its letter it stands there, says what is missing, and still takes no share
    asked = claims(measured(numbers), claims="abcdefghijk")
    assert row(asked, "j").verdict == "undecided"
    assert 'was not recorded on both sides; it takes rec.measure("ablation").' in row(asked, "j").reason
    shared = asked.parts[asked.parts["claim"] < "g"].reset_index(drop=True)
    assert shared["p_family"].equals(alone.parts["p_family"])
    # one that was recorded is asked, and is one of the family
    more = claims(measured(both(gradient_flow=np.exp(told(4, 3)), ablation_dependence=told(-1, 3),
                                ablation_dependence_squared=told(-1, 3))))  # fmt: skip
    assert [*dict.fromkeys(more.table["claim"])] == list("abcdefj")
    assert parts(more, "c")["p_family"].iloc[0] > parts(more, "c")["p"].iloc[0]


def test_one_seed_decides_nothing():
    numbers = {**flat(-1, -1, -1)}
    one = {name: {0: seeds[0]} for name, seeds in numbers.items()}
    assert row(claims(measured(one), claims="g"), "g").verdict == "undecided"


@pytest.mark.parametrize(("options", "message"), [
    ({"ensemble_margin": 0.0}, "ensemble_margin must be above 0, got 0.0"),
    ({"slope_share": 1.5}, "slope_share is a share and must lie above 0, up to 1, got 1.5"),
    ({"early": float("nan")}, "early is a share and must lie above 0, up to 1, got nan"),
    ({"noise": -1.0}, "noise must be above 0, got -1.0"),
])  # fmt: skip
def test_numbers_that_cannot_be_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        claims(measured(flat(-1, -1, -1)), **options)


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_without_an_effect_hardly_any_family_has_a_wrong_verdict(slope):
    # each at alpha, 14 parts would be wrong in half of them; `make slow-verdicts` has more, and whole families
    times = 40
    rate = simulate(World(n=(6, 6, 6), slope=slope), times, seed=21, claims="ghijk").rate
    assert rate <= ALPHA + 3.0 * np.sqrt(ALPHA * (1.0 - ALPHA) / times)
