"""Each rule beside its closed form, on numbers that were drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.advice import SD, World
from dropdiag.analysis.advice import convergence, gap, layers
from dropdiag.analysis.advice.advice import judge
from dropdiag.analysis.advice.case import Case
from dropdiag.analysis.advice.family import GAP, family
from dropdiag.analysis.advice.outcome import Outcome, Series
from dropdiag.analysis.advice.seeds_needed import detectable, power, seeds_needed
from dropdiag.analysis.compare.values import COLUMNS
from dropdiag.analysis.seeds import Estimate


def test_a_late_gain_is_the_fitted_slope_times_the_steps():
    rng = np.random.default_rng(0)
    steps, values = np.arange(10.0, 310.0, 10.0), rng.normal(size=30)
    late = steps >= 200.0
    slope = np.polyfit(steps[late], values[late], 1)[0]
    assert convergence.late_gain(steps, values) == pytest.approx(slope * (300.0 - 200.0), rel=1e-9)
    values[25] = np.nan
    kept = late & np.isfinite(values)
    assert convergence.late_gain(steps, values) == pytest.approx(np.polyfit(steps[kept], values[kept], 1)[0] * 100.0)


@pytest.mark.parametrize("steps", [[], [10.0], [10.0, 20.0, 30.0, 40.0], [30.0, 30.0, 30.0]])
def test_without_three_late_evaluations_nothing_is_known(steps):
    assert np.isnan(convergence.late_gain(np.array(steps), np.ones(len(steps))))


def test_tests_of_the_page_are_students_with_their_parts_of_alpha():
    rng = np.random.default_rng(1)
    gaps = rng.normal(1.0, 1.0, 5)
    rises = {name: rng.normal(0.0, 1.0, 5) for name in "abc"}
    mean = np.mean(list(rises.values()), axis=0)
    found = family(0.05, gap=Estimate.of_means([gaps]), on_average=Estimate.of_means([mean]),
                   conditions={name: Estimate.of_means([values]) for name, values in rises.items()})  # fmt: skip
    samples = {
        GAP: (gaps, 1.0),
        "convergence": (mean, 1.0),
        **{f"convergence: {n}": (v, 1.0 / 3.0) for n, v in rises.items()},
    }
    p = {n: stats.ttest_1samp(v, 0.0, alternative="greater").pvalue for n, (v, _) in samples.items()}
    left, before = 16.0 + 3.0, 0.0
    for name in sorted(p, key=lambda one: p[one] / samples[one][1]):  # Holm (1979), section 4
        before = max(before, min(1.0, p[name] * left / samples[name][1]))
        assert found.p[name] == pytest.approx(before, rel=1e-9)
        left -= samples[name][1]
    assert min(found.p.values()) > 0.05
    assert found.level == pytest.approx(0.05 * 16.0 / 19.0)
    sure = family(
        0.05, gap=Estimate.of_means([rng.normal(100.0, 1.0, 5)]), on_average=Estimate.of_means([mean]), conditions={}
    )
    assert sure.found(GAP)
    assert sure.level == pytest.approx(0.05 * 16.0 / 17.0)  # the gap's part is handed on
    alone = family(0.05, gap=None, on_average=None, conditions={})
    assert alone.level == pytest.approx(0.05)


def test_p_of_a_found_gap_is_bonferronis():
    rng = np.random.default_rng(2)
    case = World((0.0, 0.0, 0.0), gap=30.0).draw(rng)
    one = next(one for one in judge(case).findings if one.rule == "gap")
    apart = case.gaps["training"] - case.gaps["held_out"]  # an accuracy: training is the greater one
    values = apart[case.gaps["condition"] == "rate=0"].to_numpy()
    p = stats.ttest_1samp(values, 0.0, alternative="greater").pvalue
    assert one.found
    assert one.value == pytest.approx(values.mean())
    assert (one.low, one.high) == pytest.approx(stats.t.interval(0.95, 4, values.mean(), stats.sem(values)))
    assert one.p == pytest.approx(19.0 * p, rel=1e-6)  # of 16 + 1 + 1 + 1 parts it has one, and is the first


def test_the_gap_of_a_loss_and_of_an_accuracy_have_one_sign():
    runs = pd.DataFrame(
        {"condition": "a", "seed": [0, 1], "run": ["x", "y"], "training": [0.1, 0.2], "held_out": [0.5, 0.4]}
    )
    outcome = Outcome(Series("eval", "loss"), Series("eval", "loss"))
    loss = Case(("a",), runs, outcome, gaps=runs, gap_of="loss")
    accuracy = Case(("a",), runs, outcome, gaps=runs, gap_of="accuracy")
    assert gap.gap(loss, "a").effect == pytest.approx(0.3)
    assert gap.gap(accuracy, "a").effect == pytest.approx(-0.3)


def test_numbers_of_layers_are_means_and_the_flow_a_ratio_of_geometric_means():
    rng = np.random.default_rng(3)
    flows = {"rate=0": rng.lognormal(size=4), "rate=0.1": rng.lognormal(size=4)}
    rows = [(name, seed, f"{name}-{seed}", "relu", 0, "q", measure, value, np.nan, np.nan, np.nan, "")
            for name, values in flows.items() for seed, value in enumerate(values)
            for measure in ("gradient_flow", "dead_share")]  # fmt: skip
    frame = pd.DataFrame(rows, columns=COLUMNS)
    outcome = Outcome(Series("eval", "loss"), Series("eval", "loss"))
    case = Case(tuple(flows), frame, outcome, doses={"rate=0": 0.0, "rate=0.1": 0.1}, axis="rate", layers=frame)
    found = layers.numbers(case).set_index(["measure", "condition"])
    apart = np.log(flows["rate=0.1"]) - np.log(flows["rate=0"])
    flow = found.loc[("gradient_flow", "rate=0.1")]
    assert flow["value"] == pytest.approx(np.exp(apart.mean()))
    assert (flow["low"], flow["high"]) == pytest.approx(
        np.exp(stats.t.interval(0.95, 3, apart.mean(), stats.sem(apart)))
    )
    assert ("gradient_flow", "rate=0") not in found.index  # 1 by definition
    assert found.loc[("dead_share", "rate=0"), "value"] == pytest.approx(flows["rate=0"].mean())


@pytest.mark.parametrize(("effect", "seeds", "rivals"), [(2.0, 5, 3), (0.5, 30, 1), (1.0, 3, 5)])
def test_power_is_that_of_students_t(effect, seeds, rivals):
    limit = stats.t.ppf(1.0 - 0.05 / rivals, seeds - 1)
    assert power(effect, seeds, rivals, 0.05) == pytest.approx(
        stats.nct.sf(limit, seeds - 1, effect * seeds**0.5), rel=1e-6
    )


def test_so_many_seeds_are_needed_and_no_fewer():
    needed = seeds_needed(1.0, 3, 0.05)
    assert power(1.0, needed, 3, 0.05) >= 0.8 > power(1.0, needed - 1, 3, 0.05)
    assert power(detectable(5, 3, 0.05), 5, 3, 0.05) == pytest.approx(0.8, abs=1e-6)
    assert seeds_needed(1e-3, 3, 0.05) is None
    assert seeds_needed(0.0, 3, 0.05) is None


def test_runs_that_rise_have_no_verdict_and_say_by_how_much():
    case = World((0.0, -4.0, -6.0), gap=20.0, rising=(6.0,)).draw(np.random.default_rng(4))
    advice = judge(case)
    assert advice.sentence.startswith(
        "No verdict: training had not converged, validation accuracy still got better by 0.02"
    )
    assert set(advice.table["verdict"]) == {"no verdict"}
    assert not [one for one in advice.findings if one.rule in ("rates", "gaaf")]
    assert advice.table["improvement"].to_numpy() == pytest.approx(np.full(3, 6.0 * SD), abs=SD)
    assert [one.what for one in advice.next] == ["Train all of them for longer, say twice as long, and ask again."]


@pytest.mark.parametrize(
    ("values", "said"),
    [([3.0], "is 3 at a: so it is"), ([3.0, 3.0], "is 3 at every layer that has it: so it is"),
     ([1.0, 3.0, 2.0], "is 3 at b, the most, and 1 at a, the least: so it is")],
)  # fmt: skip
def test_the_layers_with_the_most_and_the_least_are_named(values, said):
    rows = [("dead_share", "abc"[i], 0, "rate=0.1", value, np.nan, np.nan, 1) for i, value in enumerate(values)]
    outcome = Outcome(Series("eval", "loss"), Series("eval", "loss"))
    case = Case(("rate=0.1",), pd.DataFrame(), outcome, doses={"rate=0.1": 0.1}, axis="rate")
    (found,) = layers.extremes(case, pd.DataFrame(rows, columns=layers.COLUMNS), "dead_share", "rate=0.1",
                               rule="nodes", source="", tells="so it is")  # fmt: skip
    assert found.what == f"At rate 0.1, share of dead nodes {said}."
    assert found.value == max(values)


@pytest.mark.parametrize(
    ("sites", "said"),
    [(("a", "b"), "Test single sites, lower rates, or late dropout"), (("a",), "Test lower rates, or late dropout")],
)
def test_single_sites_are_next_only_where_there_are_several(sites, said):
    case = replace(World((0.0, -9.0), gap=30.0).draw(np.random.default_rng(5)), dropouts=sites)
    assert judge(case).next[0].what.startswith(said)
