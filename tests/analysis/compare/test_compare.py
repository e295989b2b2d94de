"""compare(): from run folders to the table, and what happens to runs that are not as they should be."""

import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import dropdiag as dd
from dropdiag.analysis import correlation
from dropdiag.analysis.compare.distances import PooledCounts
from dropdiag.analysis.compare.resampling import Design
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.synthetic import SAMPLES, content, write, write_runs

COLUMNS = {
    "condition", "baseline", "layer", "call", "quantity", "measure", "scale", "unit", "effect", "low", "high", "interval",
    "value", "baseline_value", "p", "p_attainable", "p_holm", "test", "n", "n_baseline", "paired", "note",
}  # fmt: skip
LAYER = ["gradient_flow", "saturation_share", "abs_correlation", "correlation_squared", "correlation_sd",
         "correlation_variance", "participation_ratio", "effective_rank", "weight_excess_kurtosis", "weight_ks_normal",
         "weight_shape_distance", "weight_scale_distance", "weight_w1", "net_value_w1"]  # fmt: skip
NETWORK = ["final:accuracy", "best:accuracy", "epochs_to_best:accuracy", "final:loss"]


@pytest.fixture(scope="module")
def comparison(runs):
    return dd.compare(runs)


def row(comparison, measure, layer=None, condition="Dropout"):
    table = comparison.table
    at = table["layer"].isna() if layer is None else table["layer"] == layer
    found = table[at & (table["measure"] == measure) & (table["condition"] == condition)]
    assert len(found) == 1
    return found.iloc[0]


def made(condition, seed):
    return content(condition, seed)


def test_the_table_has_a_row_a_condition_layer_and_measure(comparison):
    table = comparison.table
    assert set(table.columns) >= COLUMNS
    assert set(table["measure"]) == {*LAYER, *NETWORK}
    assert comparison.conditions == ("No dropout", "Dropout", "GAAF")
    assert not table.duplicated(["condition", "layer", "call", "measure"]).any()
    assert len(table) == 2 * (3 * len(LAYER) + len(NETWORK))
    assert set(table["scale"]) == {"log ratio", "difference", "distance"}
    assert table["paired"].all()
    assert (table["n"] == 3).all()
    assert table["layer"].dropna().unique().tolist() == [
        f"layer{i}.{kind}" for i in (1, 2, 3) for kind in ("linear", "activation")
    ]
    assert comparison.problems == ()
    assert comparison.unmatched.empty
    assert list(comparison.unmatched.columns) == ["condition", "layer", "reason"]
    assert repr(comparison) == "<Comparison of 'Dropout', 'GAAF' with 'No dropout': 92 effects, 9 runs>"


def test_gradient_flow_is_the_log_ratio_of_means_over_training(comparison):
    logs = np.log([[made(c, s).gradient_flow["layer2.activation"].mean() for s in range(3)]
                   for c in ("Dropout", "No dropout")])  # fmt: skip
    got = row(comparison, "gradient_flow", "layer2.activation")
    assert got["effect"] == pytest.approx((logs[0] - logs[1]).mean())
    assert got["value"] == pytest.approx(np.exp(logs[0]).mean())
    assert (got["unit"], got["quantity"], got["interval"]) == ("1", "net_grad_abs_mean", "t")
    assert (got["test"], got["p_attainable"]) == ("sign flip", 0.25)
    table = dd.analysis.gradient_flow.table(comparison.runs)
    beside = table[(table["condition"] == "Dropout") & (table["layer"] == "layer2.activation")].iloc[0]
    np.testing.assert_allclose(np.exp(got[["effect", "low", "high"]].astype(float)),
                               beside[["ratio", "ratio_low", "ratio_high"]].astype(float))  # fmt: skip


def test_correlation_saturation_and_dimensions_with_their_nulls(comparison):
    r = [np.mean([np.abs(made(c, s).node_correlation["layer1.activation"]).mean() for s in range(3)])
         for c in ("Dropout", "No dropout")]  # fmt: skip
    got = row(comparison, "abs_correlation", "layer1.activation")
    assert got["effect"] == pytest.approx(r[0] - r[1], rel=1e-2)
    assert got["null"] == got["baseline_null"] == pytest.approx(correlation.null_mean_abs(SAMPLES))
    got = row(comparison, "participation_ratio", "layer1.activation")
    assert got["null"] == pytest.approx(correlation.null_participation_ratio(90, SAMPLES))
    assert got["effect"] == pytest.approx(got["value"] - got["baseline_value"])
    assert got["unit"] == "nodes"
    got = row(comparison, "effective_rank", "layer1.activation")
    assert got["null"] == pytest.approx(correlation.null_effective_rank(90, SAMPLES))
    shares = dd.analysis.saturation.table(comparison.runs).set_index(["condition", "layer"])["share"]
    expected = shares["Dropout", "layer3.activation"] - shares["No dropout", "layer3.activation"]
    assert row(comparison, "saturation_share", "layer3.activation")["effect"] == pytest.approx(expected)


def test_distances_are_those_of_pooled_seeds_in_the_quantitys_unit(comparison):
    parts = [Histogram.from_values(made(c, s).weight["layer1.linear"])
             for c in ("Dropout", "No dropout") for s in range(3)]  # fmt: skip
    pooled = PooledCounts(parts)
    expected = pooled.wasserstein(Design(3, 3, paired=True).observed(pooled.counts))[0]
    got = row(comparison, "weight_w1", "layer1.linear")
    assert got["effect"] == pytest.approx(expected)
    assert got["low"] >= 0.0
    assert (got["unit"], got["scale"]) == ("weight units", "distance")


def test_scalars_of_the_network(comparison):
    accuracy = np.array([[made(c, s).accuracy for s in range(3)] for c in ("Dropout", "No dropout")])
    last, best = accuracy[:, :, -1], accuracy.max(axis=2)
    assert row(comparison, "final:accuracy")["effect"] == pytest.approx((last[0] - last[1]).mean())
    assert row(comparison, "best:accuracy")["effect"] == pytest.approx((best[0] - best[1]).mean())
    epochs = accuracy.argmax(axis=2) + 1
    assert row(comparison, "epochs_to_best:accuracy")["effect"] == pytest.approx((epochs[0] - epochs[1]).mean())
    tail = np.array([[made(c, s).loss[-20:].mean() for s in range(3)] for c in ("Dropout", "No dropout")])
    assert row(comparison, "final:loss")["effect"] == pytest.approx((tail[0] - tail[1]).mean())


def test_holm_is_over_the_layers_of_a_condition_and_measure(comparison):
    part = comparison.table.query("condition == 'GAAF' and measure == 'gradient_flow'")
    np.testing.assert_allclose(part["p_holm"], np.minimum(1.0, 3 * part["p"].min()))
    assert row(comparison, "final:loss")["p_holm"] == row(comparison, "final:loss")["p"]


def test_other_baseline_layers_and_confidence(runs):
    turned = dd.compare(runs, baseline="GAAF", layers=["layer2.activation"], alpha=0.5)
    assert turned.conditions == ("GAAF", "No dropout", "Dropout")
    assert set(turned.table["layer"].dropna()) == {"layer2.activation"}
    straight = dd.compare(runs)
    one, other = (
        row(turned, "abs_correlation", "layer2.activation", "No dropout"),
        row(straight, "abs_correlation", "layer2.activation", "GAAF"),
    )
    assert one["effect"] == pytest.approx(-other["effect"])
    assert one["high"] - one["low"] < 0.3 * (other["high"] - other["low"])


def test_unpaired_where_the_seeds_are_not_the_same(tmp_path):
    for condition, seeds in (("A", (0, 1, 2)), ("B", (2, 3, 4, 5))):
        for seed in seeds:
            write(tmp_path / f"{condition}{seed}", content(condition, seed), condition, seed)
    got = row(dd.compare([str(tmp_path / "*")], baseline="A"), "gradient_flow", "layer1.activation", "B")
    assert (got["paired"], got["test"], got["n"], got["n_baseline"]) == (False, "permutation", 4, 3)
    assert got["p_attainable"] == pytest.approx(1 / 35)


@pytest.mark.parametrize("seeds", [(0, 1, None), (0, 1), (1, 2, 3)], ids=["one without", "fewer", "others"])
def test_the_figures_table_and_compare_pair_by_one_rule(tmp_path, seeds):
    for condition, several in (("A", (0, 1, 2)), ("B", seeds)):
        for place, seed in enumerate(several):
            write(tmp_path / f"{condition}{place}", content(condition, place + 7 * len(condition)), condition, seed)
    comparison = dd.compare([str(tmp_path / "*")], baseline="A")
    got = row(comparison, "gradient_flow", "layer2.activation", "B")
    table = dd.analysis.gradient_flow.table(comparison.runs, baseline="A").set_index(["condition", "layer"])
    beside = table.loc[("B", "layer2.activation")]
    np.testing.assert_allclose(np.exp(got[["effect", "low", "high"]].astype(float)),
                               beside[["ratio", "ratio_low", "ratio_high"]].astype(float))  # fmt: skip
    assert beside["pairs"] == (got["n"] if got["paired"] else 0)


def test_runs_without_a_partner_are_left_out_of_the_pairs(tmp_path):
    for condition, seeds in (("A", (0, 1, 2)), ("B", (0, 1, 2, 3, 4))):
        for seed in seeds:
            write(tmp_path / f"{condition}{seed}", content(condition, seed), condition, seed)
    got = row(dd.compare([str(tmp_path / "*")], baseline="A"), "gradient_flow", "layer1.activation", "B")
    assert (got["paired"], got["n"], got["n_baseline"]) == (True, 3, 3)
    assert "2 runs left out, for no run has their seed on the other side" in got["note"]


def test_one_seed_has_effects_and_no_p(tmp_path):
    comparison = dd.compare(write_runs(tmp_path, seeds=[0]))
    table = comparison.table
    assert table["effect"].notna().all()
    assert table[["low", "high", "p", "p_attainable", "p_holm", "p_t"]].isna().all(axis=None)
    assert set(table["interval"]) == set(table["test"]) == {"none"}
    assert table["note"].str.contains("one seed on a side: no interval, no p").all()


def renamed(made, change):
    for part in (made.weight, made.net_value, made.node_correlation, made.gradient_flow):
        items = list(part.items())
        part.clear()
        part.update({change(name): values for name, values in items})
    return made


def test_layers_match_by_position_where_no_name_does(tmp_path):
    for seed in (0, 1):
        write(tmp_path / f"a{seed}", content("A", seed), "A", seed)
        other = renamed(content("Dropout", seed), lambda name: name.replace("layer", "block"))
        write(tmp_path / f"b{seed}", other, "B", seed)
    comparison = dd.compare([str(tmp_path / "*")], baseline="A")
    got = row(comparison, "gradient_flow", "layer3.activation", "B")
    assert got["note"] == "matched with 'block3.activation' by its position"
    assert got["effect"] == pytest.approx(np.mean([
        np.log(content("Dropout", s).gradient_flow["layer3.activation"].mean())
        - np.log(content("A", s).gradient_flow["layer3.activation"].mean()) for s in (0, 1)
    ]))  # fmt: skip
    assert comparison.unmatched.empty


def test_what_does_not_match_is_listed_and_can_be_matched_by_hand(tmp_path):
    for seed in (0, 1):
        write(tmp_path / f"a{seed}", content("A", seed, layers=3), "A", seed)
        other = renamed(content("B", seed, layers=2), lambda name: name.replace("layer2", "top"))
        write(tmp_path / f"b{seed}", other, "B", seed)
    comparison = dd.compare([str(tmp_path / "*")], baseline="A")
    assert set(comparison.table["layer"].dropna()) == {"layer1.linear", "layer1.activation"}
    listed = comparison.unmatched.set_index("layer")
    assert set(listed.index) == {
        f"{name}.{kind}" for name in ("layer2", "layer3", "top") for kind in ("linear", "activation")
    }
    reason = "'B' has no layer of this name, and the networks have 3 and 2 activations"
    assert listed.loc["layer3.activation"].tolist() == ["A", reason]
    by_hand = dd.compare([str(tmp_path / "*")], baseline="A", match={"layer3.activation": "top.activation"})
    assert "as given by match=" in row(by_hand, "gradient_flow", "layer3.activation", "B")["note"]
    assert "top.activation" not in set(by_hand.unmatched["layer"])
    with pytest.raises(ArgumentError, match="no layer 'nope'"):
        dd.compare([str(tmp_path / "*")], baseline="A", match={"nope": "top.activation"})
    with pytest.raises(ArgumentError, match="no layer 'nope'"):
        dd.compare([str(tmp_path / "*")], baseline="A", match={"layer3.activation": "nope"})
    with pytest.raises(ArgumentError, match="gives 'top.linear' for several layers"):
        dd.compare(
            [str(tmp_path / "*")], baseline="A", match={"layer2.linear": "top.linear", "layer3.linear": "top.linear"}
        )
    with pytest.raises(ArgumentError, match="match= takes a dict"):
        dd.compare([str(tmp_path / "*")], baseline="A", match=["layer1"])


@pytest.fixture
def folder(tmp_path):
    write_runs(tmp_path, conditions=("No dropout", "Dropout"), seeds=(0, 1, 2))
    return tmp_path


PATTERNS = {"No dropout": "no-dropout-*", "Dropout": "dropout-*"}


def compared(folder, *, gaaf=False, **options):
    patterns = PATTERNS | ({"GAAF": "gaaf-*"} if gaaf else {})
    return dd.compare({name: str(folder / pattern) for name, pattern in patterns.items()}, **options)


def damage(folder, how):
    """Damage the run dropout-s1, or put something else in its place."""
    run = folder / "dropout-s1"
    meta = json.loads((run / "run.json").read_text())
    if how == "foreign":
        (run / "run.json").write_text('{"name": "not ours"}')
    elif how == "no run.json":
        (run / "run.json").unlink()
    elif how == "torn run.json":
        (run / "run.json").write_text((run / "run.json").read_text()[:200])
    elif how == "other schema":
        write_meta((run / "run.json"), {**meta, "schema": 99})
    elif how == "no layers":
        del meta["layers"]
        write_meta((run / "run.json"), meta)
    elif how == "odd seed":
        write_meta((run / "run.json"), {**meta, "config": {"condition": "Dropout", "seed": "one"}})
    elif how == "a file":
        shutil.rmtree(run)
        run.write_text("hello")
    elif how == "empty":
        shutil.rmtree(run)
        run.mkdir()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("foreign", "is not that of a dropdiag run"),
        ("no run.json", "is not a run: it has no run.json"),
        ("torn run.json", "cannot be read"),
        ("other schema", "has run schema 99 and this version reads 1, 2, 3"),
        ("no layers", "run.json is damaged: layers is missing"),
        ("odd seed", "run.json is damaged"),
        ("empty", "is not a run: it has no run.json"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_the_others_are_compared(folder, how, message):
    whole = row(compared(folder), "abs_correlation", "layer1.activation")
    damage(folder, how)
    with pytest.warns(DropdiagWarning) as caught:
        comparison = compared(folder)
    (problem,) = comparison.problems
    assert [str(w.message) for w in caught] == [problem]
    assert "dropout-s1" in problem
    assert message in problem
    assert problem.endswith("the run is left out.")
    got = row(comparison, "abs_correlation", "layer1.activation")
    assert (got["n"], got["n_baseline"], got["paired"]) == (2, 2, True)
    assert got["effect"] == pytest.approx(whole["effect"], abs=0.02)
    with pytest.raises(RunError, match="dropout-s1"):
        compared(folder, on_unreadable="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compared(folder, on_unreadable="ignore").problems == comparison.problems


def test_a_torn_segment_is_named_and_the_rest_of_the_run_is_compared(folder):
    segment = next((folder / "dropout-s1" / "rank-0").glob("histograms-*.parquet"))
    segment.write_bytes(segment.read_bytes()[:100])
    comparison = compared(folder, on_unreadable="ignore")
    assert any("dropout-s1" in problem and segment.name in problem for problem in comparison.problems)
    assert row(comparison, "gradient_flow", "layer1.activation")["n"] == 3
    got = row(comparison, "weight_w1", "layer1.linear")
    assert (got["n"], got["n_baseline"]) == (2, 2)


def test_a_run_that_fails_while_it_is_read_is_named_and_left_out(folder, monkeypatch):
    from dropdiag.store.run import Run

    recorded = Run.recorded

    def failing(self, *arguments, **options):
        if self.path.name == "dropout-s1":
            raise OSError("stale file handle")
        return recorded(self, *arguments, **options)

    monkeypatch.setattr(Run, "recorded", failing)
    comparison = compared(folder, on_unreadable="ignore")
    assert comparison.problems == (f"{folder / 'dropout-s1'} cannot be read (stale file handle) and is left out.",)
    assert row(comparison, "weight_w1", "layer1.linear")["n"] == 2
    assert row(comparison, "gradient_flow", "layer1.activation")["n"] == 3


def test_a_pattern_without_a_run_and_a_condition_without_any(folder):
    three = {**{name: str(folder / p) for name, p in PATTERNS.items()}, "GAAF": str(folder / "gaaf-*")}
    comparison = dd.compare(three, on_unreadable="ignore")
    assert comparison.conditions == ("No dropout", "Dropout")
    assert f"no run matches {str(folder / 'gaaf-*')!r}" in comparison.problems[0]
    with pytest.raises(RunError, match="there is 'No dropout' alone.*no run matches"):
        dd.compare({"No dropout": str(folder / "no-*"), "GAAF": str(folder / "gaaf-*")})
    with pytest.raises(RunError, match="no run of the baseline 'GAAF' can be read"):
        dd.compare(three, baseline="GAAF")
    with pytest.raises(RunError, match="no run can be read"):
        dd.compare({"GAAF": str(folder / "gaaf-*")})


def test_a_run_that_goes_on_or_failed_is_compared_as_far_as_it_is(folder):
    for name, state in (("dropout-s1", "running"), ("dropout-s2", "failed")):
        file = folder / name / "run.json"
        write_meta(file, {**json.loads(file.read_text()), "state": state, "steps": 120})
    comparison = compared(folder, on_unreadable="ignore")
    assert (
        f"{folder / 'dropout-s1'} is still being recorded, or was killed: it is compared as it stands at step 120."
        in (comparison.problems)
    )
    assert (
        f"{folder / 'dropout-s2'} ended as 'failed' at step 120: it is compared as far as it went."
        in comparison.problems
    )
    assert row(comparison, "gradient_flow", "layer1.activation")["n"] == 3


def test_runs_of_other_layers_in_one_condition_are_named(folder):
    write(folder / "dropout-s3", content("Dropout", 3, layers=2), "Dropout", 3)
    write(folder / "no-dropout-s3", content("No dropout", 3), "No dropout", 3)
    comparison = compared(folder, on_unreadable="ignore")
    (problem,) = comparison.problems
    assert problem == (
        f"{folder / 'dropout-s3'} has other layers than dropout-s0 of the same condition "
        "(without 'layer3.linear', 'layer3.activation')."
    )
    assert row(comparison, "gradient_flow", "layer1.activation")["n"] == 4
    got = row(comparison, "gradient_flow", "layer3.activation")
    assert got["n"] == 3
    assert "runs left out, with their partners" in got["note"]


def set_meta(path, **changes):
    file = path / "run.json"
    write_meta(file, {**json.loads(file.read_text()), **changes})


@pytest.fixture
def lengths(tmp_path):
    """Two runs each of 300 and 200 (No dropout), 400 (Dropout) and 100 steps (GAAF)."""
    of = {"No dropout": (300, 200), "Dropout": (400, 400), "GAAF": (100, 100)}
    for condition, steps in of.items():
        for seed, n in enumerate(steps):
            path = tmp_path / f"{condition.lower().replace(' ', '-')}-s{seed}"
            set_meta(write(path, content(condition, seed, steps=n), condition, seed), steps=n)
    return tmp_path, of


def flow_effect(of, condition, baseline, until, layer="layer1.activation"):
    means = [[content(c, seed, steps=n).gradient_flow[layer][:until].mean() for seed, n in enumerate(of[c])]
             for c in (condition, baseline)]  # fmt: skip
    return np.mean(np.log(means[0]) - np.log(means[1]))


def test_gradient_flow_is_taken_over_the_steps_of_the_two_conditions_whatever_the_others(lengths):
    folder, of = lengths
    two, three = compared(folder), compared(folder, gaaf=True)
    alone, beside = (row(one, "gradient_flow", "layer1.activation") for one in (two, three))
    assert alone["effect"] == beside["effect"] == pytest.approx(flow_effect(of, "Dropout", "No dropout", 200))
    assert alone["steps"] == beside["steps"] == 200
    assert alone["note"] == "over the first 200 training steps, which the completed runs of both conditions share"
    gaaf = row(three, "gradient_flow", "layer1.activation", "GAAF")
    assert gaaf["effect"] == pytest.approx(flow_effect(of, "GAAF", "No dropout", 100))
    assert gaaf["steps"] == 100
    assert np.isnan(row(two, "saturation_share", "layer1.activation")["steps"])
    claims = three.claims()
    table = claims.table.set_index(["claim", "condition"])["reason"]
    assert "over the first 200 training steps" in table["c", "Dropout"]
    assert "over the first 100 training steps" in table["c", "GAAF"]
    assert "over the first 100 training steps" in table["e", "GAAF"], "beside Dropout's 400"
    overall = claims.parts[(claims.parts["claim"] == "e") & (claims.parts["measure"] == "gradient_flow")]
    layers = [flow_effect(of, "GAAF", "Dropout", 100, f"layer{i}.activation") for i in (1, 2, 3)]
    assert overall["effect"].item() == pytest.approx(np.mean(layers))


def test_a_run_that_has_not_reached_the_window_is_left_out_of_the_gradient_flow_and_named(lengths):
    folder, of = lengths
    set_meta(folder / "dropout-s1", steps=150, state="running")
    comparison = compared(folder, on_unreadable="ignore")
    got = row(comparison, "gradient_flow", "layer1.activation")
    assert (got["n"], got["steps"]) == (1, 200)
    assert "dropout-s1: at step 150 it has not reached step 200" in got["note"]
    assert row(comparison, "saturation_share", "layer1.activation")["n"] == 2
    set_meta(folder / "dropout-s1", steps=250, state="running")
    assert row(compared(folder, on_unreadable="ignore"), "gradient_flow", "layer1.activation")["effect"] == (
        pytest.approx(flow_effect(of, "Dropout", "No dropout", 200))
    ), "a run that goes on is cut as well"


@pytest.fixture
def diverging(folder):
    """Dropout seed 3 diverges after 150 of 200 steps, with a finite accuracy and an old correlation."""
    broken = content("Dropout", 3)
    for layer in broken.gradient_flow:
        broken.gradient_flow[layer][150:] = np.nan
    for part in (broken.weight, broken.net_value):
        for layer in part:
            part[layer] = np.full_like(part[layer], np.nan)
    broken.loss[150:] = np.nan
    write(folder / "dropout-s3", broken, "Dropout", 3)
    write(folder / "no-dropout-s3", content("No dropout", 3), "No dropout", 3)
    return folder


def test_a_run_that_diverged_is_named_and_left_out_of_what_it_lost(diverging):
    comparison = compared(diverging, on_unreadable="ignore")
    (problem,) = comparison.problems
    assert problem == (
        f"{diverging / 'dropout-s3'} has diverged: its gradients, net values, weights and last values of 'loss' are NaN "
        "or infinite, and it is left out of what is measured from them."
    )
    for measure in ("gradient_flow", "saturation_share", "net_value_w1"):
        assert row(comparison, measure, "layer1.activation")["n"] == 3
    for measure in ("weight_ks_normal", "weight_shape_distance", "weight_w1"):
        assert row(comparison, measure, "layer1.linear")["n"] == 3
    assert row(comparison, "final:loss")["n"] == 3
    assert row(comparison, "final:accuracy")["n"] == 4
    assert (
        "dropout-s3: 50 of 200 gradients are not finite"
        in row(comparison, "gradient_flow", "layer1.activation")["note"]
    )
    without = dd.compare({name: [str(p) for p in sorted(diverging.glob(pattern)) if p.name[-1] != "3"]
                          for name, pattern in PATTERNS.items()})  # fmt: skip
    for measure, layer in (("gradient_flow", "layer1.activation"), ("saturation_share", "layer2.activation")):
        assert row(comparison, measure, layer)["effect"] == pytest.approx(row(without, measure, layer)["effect"])


def test_a_condition_that_diverged_gives_no_verdict(folder):
    for seed in range(3):
        shutil.rmtree(folder / f"dropout-s{seed}")
        broken = content("Dropout", seed)
        for part in (broken.weight, broken.net_value, broken.gradient_flow):
            for layer in part:
                part[layer] = np.full_like(part[layer], np.nan)
        write(folder / f"dropout-s{seed}", broken, "Dropout", seed)
    claims = compared(folder, on_unreadable="ignore").claims().table.set_index("claim")
    assert claims.loc[["a", "c", "d"], "verdict"].tolist() == ["undecided"] * 3
    assert claims.loc["a", "reason"].startswith(
        "The weights' distribution has no finite value on one side (dropout-s0, "
    )
    assert "the net values are not finite" in claims.loc["d", "reason"]
    assert "200 of 200 gradients are not finite" in claims.loc["c", "reason"]


def test_a_step_that_is_skipped_leaves_no_run_out(folder):
    skipped = content("Dropout", 3)
    skipped.gradient_flow["layer1.activation"][:2] = np.inf
    write(folder / "dropout-s3", skipped, "Dropout", 3)
    write(folder / "no-dropout-s3", content("No dropout", 3), "No dropout", 3)
    comparison = compared(folder)
    assert comparison.problems == ()
    got = row(comparison, "gradient_flow", "layer1.activation")
    assert got["n"] == 4
    assert got["note"] == "dropout-s3: without 2 of 200 gradients, which are NaN or infinite"


def test_a_correlation_older_than_the_last_evaluation_does_not_count(folder):
    write(folder / "dropout-s3", content("Dropout", 3), "Dropout", 3, correlated=120)
    write(folder / "no-dropout-s3", content("No dropout", 3), "No dropout", 3)
    got = row(compared(folder), "abs_correlation", "layer1.activation")
    assert got["n"] == 3
    assert "dropout-s3: its last |r| is of step 120, before its last evaluation" in got["note"]


def test_scalars_that_only_count_are_no_measure(tmp_path):
    for condition in ("A", "B"):
        path = tmp_path / condition
        writer = RunWriter(path, {"config": {"condition": condition}, "versions": {}, "layers": [], "activations": {}})
        writer.add_scalars([ScalarRow(step, phase, None, 0, name, 1.0 * step)
                            for step in (1, 2) for phase, name in (("eval", "accuracy"), ("train", "epoch"))])  # fmt: skip
        writer.close("completed")
    found = dd.compare([str(tmp_path / "*")], baseline="A", on_unreadable="ignore").table["measure"]
    assert set(found) == {"final:accuracy", "best:accuracy", "epochs_to_best:accuracy"}


def test_one_path_or_pattern_is_taken_too(folder):
    every = dd.compare(str(folder / "*"))
    assert every.conditions[0] in ("Dropout", "No dropout", "GAAF")
    pd.testing.assert_frame_equal(every.table, dd.compare([str(folder / "*")]).table)


def test_not_a_number_is_left_out_and_said(folder):
    broken = content("Dropout", 3)
    broken.gradient_flow["layer1.activation"][:] = np.nan
    broken.net_value["layer1.activation"][:] = np.nan
    broken.node_correlation["layer2.activation"] = np.zeros(0, np.float32)
    broken.accuracy[:] = np.nan
    write(folder / "dropout-s3", broken, "Dropout", 3)
    write(folder / "no-dropout-s3", content("No dropout", 3), "No dropout", 3)
    comparison = compared(folder, on_unreadable="ignore")
    got = row(comparison, "gradient_flow", "layer1.activation")
    assert got["n"] == 3
    assert got["note"] == (
        "2 of 8 runs left out, with their partners: no positive finite value; "
        "dropout-s3: 200 of 200 gradients are not finite"
    )
    assert [problem.split(" has diverged")[0] for problem in comparison.problems] == [str(folder / "dropout-s3")]
    assert row(comparison, "net_value_w1", "layer1.activation")["n"] == 3
    assert row(comparison, "abs_correlation", "layer2.activation")["n"] == 3
    assert row(comparison, "best:accuracy")["n"] == 3
    assert row(comparison, "gradient_flow", "layer2.activation")["n"] == 4


def test_what_only_some_runs_recorded_is_compared_where_it_is(folder):
    light = content("Dropout", 3)
    light.node_correlation.clear()
    write(folder / "dropout-s3", light, "Dropout", 3)
    write(folder / "no-dropout-s3", content("No dropout", 3), "No dropout", 3)
    comparison = compared(folder)
    assert row(comparison, "abs_correlation", "layer1.activation")["n"] == 3
    assert row(comparison, "saturation_share", "layer1.activation")["n"] == 4


def test_runs_that_share_a_folder_name_stay_apart(tmp_path):
    for condition in ("A", "B"):
        for seed in (0, 1):
            light = content(condition, seed)
            if condition == "A":
                light.node_correlation.clear()
            write(tmp_path / condition / f"s{seed}", light, condition, seed)
    comparison = dd.compare({c: str(tmp_path / c / "*") for c in "AB"}, on_unreadable="ignore")
    assert row(comparison, "weight_w1", "layer1.linear", "B")["n"] == 2
    assert "abs_correlation" not in set(comparison.table["measure"])  # B alone has it
    measured = comparison.measured
    assert set(measured.loc[measured["measure"] == "abs_correlation", "run"]) == {
        str(tmp_path / "B" / f"s{s}") for s in (0, 1)
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.0}, "alpha must lie between 0 and 1, got 1.0"),
        ({"alpha": float("nan")}, "alpha must lie between 0 and 1, got nan"),
        ({"on_unreadable": "skip"}, "on_unreadable must be 'warn', 'raise' or 'ignore'"),
        ({"baseline": "Nothing"}, "no condition 'Nothing'; there are 'No dropout', 'Dropout', 'GAAF'"),
        ({"layers": ["layer9"]}, "no layer 'layer9'; there are 'layer1.linear'"),
        ({"layers": "layer1.linear"}, "layers must be a list of names"),
    ],
)
def test_options_that_cannot_be(runs, options, message):
    with pytest.raises(ArgumentError, match=message):
        dd.compare(runs, **options)


def test_former_names_work_for_one_version(runs, comparison):
    with pytest.warns(DeprecationWarning, match=r"compare\(n_boot=\) is ignored"):
        again = dd.compare(runs, n_boot=100)
    pd.testing.assert_frame_equal(again.table, comparison.table)
    with pytest.warns(DeprecationWarning, match=r"compare\(confidence=0.9\) is now alpha="):
        wider = dd.compare(runs, confidence=0.9)
    pd.testing.assert_frame_equal(wider.table, dd.compare(runs, alpha=1 - 0.9).table)
    with pytest.warns(DeprecationWarning, match="now called step_ranges"):
        assert comparison.windows is comparison.step_ranges


def test_what_is_no_comparison_is_refused(folder):
    with pytest.raises(ArgumentError, match="needs two conditions, and there is 'Dropout' alone"):
        dd.compare([str(folder / "dropout-*")])
    with pytest.raises(ArgumentError, match="takes runs, a path or pattern, a list of them or a dict"):
        dd.compare(3)
    with pytest.raises(RunError, match="no run can be read"):
        dd.compare(str(folder / "none"))
    with pytest.raises(ArgumentError, match="is given as 'A' and as 'B'"):
        dd.compare({"A": str(folder / "dropout-s0"), "B": str(folder / "dropout-s0")})


def test_the_same_runs_give_the_same_table_whichever_way_they_are_given(folder):
    given = [compared(folder), compared(folder), dd.compare(dd.load({n: str(folder / p) for n, p in PATTERNS.items()})),
             dd.compare(list(compared(folder).runs))]  # fmt: skip
    for other in given[1:]:
        pd.testing.assert_frame_equal(given[0].table, other.table)


def test_comparing_needs_no_torch():
    code = "import sys, dropdiag as dd; dd.compare; import dropdiag.analysis.claims.claims; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
