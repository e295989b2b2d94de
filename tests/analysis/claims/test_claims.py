"""Each claim on runs where it is true, where it is false, and where it cannot be decided."""

import re
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import dropdiag as dd
from dropdiag.analysis.claims import claims as claims_module
from dropdiag.analysis.claims.case import Claim, Options
from dropdiag.analysis.claims.claims import _scalar
from dropdiag.analysis.claims.effects import BELOW
from dropdiag.analysis.claims.paper import CLAIMS
from dropdiag.analysis.claims.roles import infer_roles
from dropdiag.analysis.claims.rules import CONTRADICTED, IN_PART, SUPPORTED, UNDECIDED, jointly, over_layers
from dropdiag.errors import ArgumentError
from tests.analysis.compare.scenes import Scene, content, play
from tests.synthetic import write

BASE = Scene()
DROPOUT = Scene(flow=4.0, share=0.3, slope=0.1)
TRUE = {
    "a": {"normal": 0.8, "apart": 0.0, "widths": 0.0},
    "b": {"correlation": 0.25},
    "c": {"flow": 4.0},
    "d": {"share": 0.3, "slope": 0.1},
}
FALSE = {
    "a": {},
    "b": {"correlation": 0.12},
    "c": {"flow": 0.5},
    "d": {"share": 0.15, "slope": -0.05},
}
OPEN = {
    "a": {},
    "b": {"correlation": 0.205, "spread": 16.0},
    "c": {"spread": 3.0},
    "d": {"spread": 4.0},
}


def verdicts(runs, **options):
    table = dd.compare(runs).claims(**options).table
    assert not set(table["verdict"]) - {SUPPORTED, CONTRADICTED, IN_PART, UNDECIDED}
    return {row.claim: row.verdict for row in table.itertuples() if row.condition == table["condition"].iloc[0]}


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("claim", "abcd")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [(TRUE, SUPPORTED), (FALSE, CONTRADICTED), (OPEN, UNDECIDED)],
    ids=["true", "false", "open"],
)
def test_claims_on_a_baseline(tmp_path, claim, changes, expected, paired):
    plain = Scene(**TRUE["a"]) if claim == "a" and changes is FALSE else BASE
    runs = play(tmp_path, {"plain": plain, "treated": Scene(**changes[claim])}, paired=paired)
    assert verdicts(runs)[claim] == expected


@pytest.mark.parametrize(
    ("gaaf", "expected"),
    [
        (DROPOUT, SUPPORTED),
        (Scene(flow=1.0, share=0.3, slope=0.1), IN_PART),
        (Scene(flow=4.0, share=0.2, slope=-0.1), IN_PART),
        (Scene(flow=1.0, share=0.2, slope=-0.1), CONTRADICTED),
        (Scene(flow=2.7, share=0.22, slope=0.1, spread=4.0), UNDECIDED),
    ],
    ids=["alike", "less flow", "less saturation", "less of both", "at the margin"],
)
def test_claim_e(tmp_path, gaaf, expected):
    runs = play(tmp_path, {"plain": BASE, "dropout": DROPOUT, "GAAF": gaaf})
    table = dd.compare(runs).claims().table.set_index(["claim", "condition"])
    assert table.loc[("e", "GAAF"), "verdict"] == expected
    assert table.loc[("e", "GAAF"), "baseline"] == "dropout"


def test_claim_e_is_open_where_dropout_has_no_effect_to_resemble(tmp_path):
    noisy = Scene(spread=2.0)
    found = (
        dd.compare(play(tmp_path, {"plain": noisy, "dropout": noisy, "GAAF": noisy}, (1, 2, 3, 4, 5))).claims().table
    )
    row = found[found["claim"] == "e"].iloc[0]
    assert row["verdict"] == UNDECIDED
    assert "nothing to resemble" in row["reason"]


@pytest.mark.parametrize(("best", "expected"), [(8, SUPPORTED), (19, CONTRADICTED), (15, UNDECIDED)])
def test_claim_f(tmp_path, best, expected):
    scenes = {"plain": BASE, "dropout": Scene(flow=4.0, best=15), "GAAF": Scene(flow=4.0, best=best)}
    claims = dd.compare(play(tmp_path, scenes)).claims(claims="f")
    part = claims.parts[claims.parts["part"] == "fewer epochs"].iloc[0]
    assert part["verdict"] == expected
    assert "evaluations to the best accuracy differ by" in part["reason"].lower()


@pytest.mark.parametrize(("raised", "expected"), [(0.01, SUPPORTED), (-0.01, CONTRADICTED)])
@pytest.mark.parametrize("names", [("plain", "dropout", "GAAF"), ("plain", "dropout"), ("plain", "GAAF")])
def test_accuracy_is_judged_beside_the_baseline_whoever_plays_a_part(tmp_path, names, raised, expected):
    for condition in names:
        for seed in range(4):
            made = content(BASE, seed, len(condition))
            noise = 1e-4 * np.random.default_rng([seed, len(condition)]).normal()
            made.accuracy = made.accuracy + (raised if condition != "plain" else 0.0) + noise
            write(tmp_path / f"{condition}-{seed}", made, condition, seed)
    comparison = dd.compare({name: str(tmp_path / f"{name}-*") for name in names}, baseline="plain")
    claims = comparison.claims(claims="f")
    parts = claims.parts[claims.parts["part"].str.startswith("better accuracy of")].set_index("part")
    assert parts.index.tolist() == [f"better accuracy of {name}" for name in sorted(names[1:], key=str.lower)[::-1]]
    assert set(parts["verdict"]) == {expected}
    np.testing.assert_allclose(parts["effect"], raised, atol=5e-4)


def test_with_one_seed_all_is_undecided_and_says_so(tmp_path):
    scenes = {"plain": BASE, "dropout": Scene(**TRUE["c"], **TRUE["d"]), "GAAF": DROPOUT}
    claims = dd.compare(play(tmp_path, scenes, seeds=[0])).claims()
    assert set(claims.table["verdict"]) == {UNDECIDED}
    assert set(claims.table["claim"]) == set("abcdef")
    assert claims.table["reason"].str.contains("one seed on a side: undecided").all()
    assert claims.layers[["low", "high", "p"]].isna().all(axis=None)
    assert claims.layers["effect"].notna().all()


def test_copies_of_one_run_are_one_seed_and_no_evidence(tmp_path):
    scenes = {"plain": BASE, "treated": Scene(flow=4.0)}
    for salt, (condition, scene) in enumerate(scenes.items()):
        for seed in (0, 1, 2, 3):
            write(tmp_path / f"{condition}-{seed}", content(scene, 0, salt), condition, seed)
    found = dd.compare({name: str(tmp_path / f"{name}-*") for name in scenes}, on_unreadable="ignore")
    row = found.claims().table.set_index("claim").loc["c"]
    assert (row["verdict"], row["n"]) == (UNDECIDED, 1)
    assert len(found.runs) == 2
    assert len(found.problems) == 6
    said = (
        f"{tmp_path}/plain-2 holds the very numbers of {tmp_path}/plain-0 (its seed is said to be 2, and that one's 0)"
    )
    assert found.problems[1].startswith(said)


def test_seeds_that_do_not_differ_are_not_taken_for_certain(tmp_path):
    scenes = {"plain": Scene(spread=0.0), "dropout": Scene(best=15, spread=0.0), "GAAF": Scene(best=8, spread=0.0)}
    for n, expected in ((4, UNDECIDED), (8, SUPPORTED)):
        claims = dd.compare(play(tmp_path / str(n), scenes, range(n))).claims(claims="f")
        part = claims.parts.set_index("part").loc["fewer epochs"]
        # 7 evaluations less, of every seed: the relabelled seeds alone can say whether that is chance
        assert (part["effect"], part["low"], part["high"]) == (-7.0, -7.0, -7.0)
        assert (part["verdict"], part["provisional"]) == (expected, False)
        assert part["p"] == (1.0 if n == 4 else 2 / 256)
        assert "seeds do not differ at all" in claims.table["reason"].item()


def test_one_layer_against_the_rest_keeps_the_average_from_being_the_whole(tmp_path):
    runs = play(tmp_path, {"plain": BASE, "treated": Scene(share=0.1, slope=0.2)})
    claims = dd.compare(runs).claims()
    row = claims.table.set_index("claim").loc["d"]
    share, slope, *_ = claims.parts[claims.parts["claim"] == "d"].itertuples()
    assert (share.verdict, slope.verdict, row["verdict"]) == (UNDECIDED, SUPPORTED, IN_PART)
    assert "on average saturation share supports the claim, but 'layer1.activation' contradicts it" in row["reason"]
    layers = claims.layers[claims.layers["claim"] == "d"].set_index("layer")["verdict"]
    assert layers.tolist() == [CONTRADICTED, SUPPORTED, SUPPORTED]


def test_the_factor_is_set_beside_the_published_one_and_the_numbers_are_those_of_the_table(tmp_path):
    comparison = dd.compare(play(tmp_path, {"plain": BASE, "treated": Scene(flow=2.0)}, range(8)))
    claims = comparison.claims(claims=["c"])
    row = claims.table.set_index("claim").loc["c"]
    assert "below the published 5" in row["reason"]
    assert row["n"] == 8
    assert (
        "above the published 1.5" in comparison.claims(published_factor=1.5).table.set_index("claim").loc["c", "reason"]
    )
    layers = claims.layers
    table = comparison.table[comparison.table["measure"] == "gradient_flow"]
    for column in ("effect", "low", "high", "p", "p_holm"):
        np.testing.assert_allclose(layers[column], table[column])
    assert (layers["joint_low"] < layers["low"]).all()
    assert (layers["joint_high"] > layers["high"]).all()
    part = claims.parts.iloc[0]
    assert set(layers["scale"]) == {part["scale"]} == {"log ratio"}
    assert part["effect"] == pytest.approx(table["effect"].mean())
    assert part["p"] == part["p_family"] == part["p_attainable"] == 2 / 256  # one question, one p
    assert not part["provisional"]
    with pytest.warns(DeprecationWarning, match=r"Claims\.overall is called Claims\.parts now"):
        pd.testing.assert_frame_equal(claims.overall, claims.parts)


def test_higher_is_judged_and_not_lower_is_read_beside_it(tmp_path):
    comparison = dd.compare(play(tmp_path, {"plain": BASE, "treated": Scene(correlation=0.19)}, range(8)))
    claims = comparison.claims(claims="b")
    higher, reading, wider = claims.parts.itertuples()
    assert (higher.verdict, reading.verdict) == (CONTRADICTED, SUPPORTED)  # lower, but by less than the margin
    assert (higher.counts, reading.counts, wider.counts) == (True, False, True)
    assert (higher.threshold, reading.threshold) == (0.0, -0.02)
    assert reading.high < 0.0 < reading.low + 0.02
    assert claims.table["verdict"].item() == CONTRADICTED
    strict = comparison.claims(claims="b", correlation_margin=0.002).parts
    assert strict["verdict"].tolist()[:2] == [CONTRADICTED, CONTRADICTED]


def test_one_level_governs_interval_and_verdict_and_a_stricter_one_says_less(tmp_path):
    scenes = {"plain": BASE, "dropout": Scene(flow=1.12, share=0.21, correlation=0.208), "GAAF": Scene(flow=1.1)}
    comparison = dd.compare(play(tmp_path, scenes))
    said = []
    for alpha in (0.3, 0.1, 0.05, 0.01, 0.001):
        claims = comparison.claims(alpha=alpha)
        assert claims.alpha == alpha
        pd.testing.assert_frame_equal(claims.parts, dd.compare(comparison.runs, alpha=alpha).claims().parts)
        decided = claims.parts[claims.parts["verdict"].isin([SUPPORTED, CONTRADICTED])]
        assert (decided["p_family"] <= alpha).all()
        one_sided = decided[~decided["claim"].isin(["e"]) & decided["counts"]]
        assert ((one_sided["low"] > 0) | (one_sided["high"] < 0)).all()
        said.append(set(zip(decided["claim"], decided["condition"], decided["part"], decided["verdict"], strict=True)))
    assert all(less <= more for more, less in zip(said, said[1:], strict=False))
    assert len(said[-1]) < len(said[0])


def test_what_too_few_seeds_can_only_say_by_t_is_provisional(tmp_path):
    scenes = {"plain": BASE, "treated": Scene(flow=4.0)}
    few, many = (dd.compare(play(tmp_path / str(n), scenes, range(n))).claims(claims="c") for n in (5, 6))
    assert few.table[["verdict", "provisional"]].iloc[0].tolist() == [SUPPORTED, True]
    assert "the attainable p of relabelled seeds is 0.062" in few.table["reason"].item()
    assert "provisional" in few.table["reason"].item()
    assert many.table[["verdict", "provisional"]].iloc[0].tolist() == [SUPPORTED, False]
    # the same six seeds, asked six times as much: 2 / 2^6 is not small enough for that
    assert dd.compare(many_runs(tmp_path)).claims().table.set_index("claim").loc["c", "provisional"]


def many_runs(folder):
    return dd.load({name: str(folder / "6" / f"{name}-*") for name in ("plain", "treated")})


def test_the_family_is_the_claims_asked_times_the_conditions(tmp_path):
    comparison = dd.compare(play(tmp_path, {"plain": BASE, "A": Scene(flow=1.05), "B": Scene(flow=1.05)}, range(8)))
    alone = comparison.claims(claims="c").parts.set_index("condition")
    for condition in "AB":
        pair = dd.compare(
            dd.load({name: str(tmp_path / f"{name}-*") for name in ("plain", condition)}), baseline="plain"
        )
        one = pair.claims(claims="c").parts.iloc[0]
        assert one["p_family"] == one["p"] == alone.loc[condition, "p"]
    assert alone["p_family"].min() == pytest.approx(min(1.0, 2 * alone["p"].min()))
    assert "'A', 'B' compared with 'plain'" in comparison.claims(claims="c").headline
    with pytest.raises(ArgumentError, match="claims= takes letters out of a, b, c, d, e, f"):
        comparison.claims(claims="x")
    with pytest.raises(ArgumentError, match="claims= takes letters"):
        comparison.claims(claims=[])


def test_what_was_not_recorded_leaves_claims_undecided(tmp_path):

    for condition, salt in (("plain", 0), ("dropout", 1)):
        for seed in range(3):
            made = content(BASE, seed, salt)
            made.node_correlation.clear()
            made.gradient_flow.clear()
            write(tmp_path / f"{condition}-{seed}", made, condition, seed)
    runs = {name: str(tmp_path / f"{name}-*") for name in ("plain", "dropout")}
    claims = dd.compare(runs, on_unreadable="ignore").claims()
    table = claims.table.set_index("claim")
    assert table.loc["b", "reason"] == "Node correlation was not recorded on both sides."
    assert table.loc["c", "reason"] == "Gradient flow was not recorded on both sides."
    assert table.loc[["b", "c", "e", "f"], "verdict"].tolist() == [UNDECIDED] * 4
    assert set(claims.parts.loc[claims.parts["claim"].isin(["b", "c"]), "verdict"]) == {"not recorded"}
    assert "No condition plays gaaf by its name; name it with gaaf=." in table.loc["e", "reason"]


def test_layers_are_in_network_order_whatever_order_they_are_asked_for_in(tmp_path):
    runs = play(tmp_path, {"plain": BASE, "treated": Scene(share=0.3, slope=0.1)}, seeds=[0, 1])
    every = dd.compare(runs)
    turned = dd.compare(runs, layers=every.layers[::-1])
    assert turned.layers == every.layers
    pd.testing.assert_frame_equal(turned.table, every.table)
    pd.testing.assert_frame_equal(turned.claims().parts, every.claims().parts)


def test_roles_are_guessed_by_name_said_so_and_can_be_given(tmp_path):
    scenes = {"No dropout": BASE, "p=0.5 Drop": DROPOUT, "With gaaf": DROPOUT, "x": BASE}
    comparison = dd.compare(play(tmp_path, scenes, seeds=[0, 1]))
    guessed = comparison.claims()
    assert (guessed.roles.dropout, guessed.roles.gaaf) == ("p=0.5 Drop", "With gaaf")
    reason = guessed.table.set_index("claim").loc["f", "reason"]
    assert "'p=0.5 Drop' is taken for dropout" in reason
    assert "'With gaaf' is taken for GAAF by its name" in reason
    given = comparison.claims(dropout="x", gaaf="p=0.5 Drop")
    assert given.roles.guessed == ()
    assert given.table.set_index("claim").loc["f", ["condition", "baseline"]].tolist() == ["p=0.5 Drop", "x"]
    turned = dd.compare(comparison.runs, baseline="p=0.5 Drop").claims()
    assert turned.roles.dropout == "x"  # not "No dropout"
    with pytest.raises(ArgumentError, match="no condition 'y'"):
        comparison.claims(gaaf="y")
    with pytest.raises(ArgumentError, match="both dropout= and gaaf="):
        comparison.claims(gaaf="x", dropout="x")


def test_each_condition_like_gaaf_is_heard(tmp_path):
    scenes = {"No dropout": BASE, "Dropout": DROPOUT, "GAAF fitted": BASE, "GAAF": DROPOUT, "GAAF, no shift": BASE}
    claims = dd.compare(play(tmp_path, scenes, seeds=[0, 1, 2, 3, 4, 5])).claims(claims="ef")
    assert (claims.roles.dropout, claims.roles.gaafs) == ("Dropout", ("GAAF", "GAAF fitted"))
    for claim in "ef":
        part = claims.table[claims.table["claim"] == claim]
        assert part[["condition", "baseline"]].to_numpy().tolist() == [["GAAF", "Dropout"], ["GAAF fitted", "Dropout"]]
        assert part["reason"].str.contains("'Dropout' is taken for dropout").all()
        assert "'GAAF fitted' is taken" not in part["reason"].iloc[0]
        assert "'GAAF fitted' is taken for GAAF by its name" in part["reason"].iloc[1]
    assert claims.table.query("claim == 'e'")["verdict"].tolist() == [SUPPORTED, CONTRADICTED]
    assert "; 'GAAF', 'GAAF fitted' with 'Dropout'" in claims.headline


def test_a_name_that_is_dropout_is_preferred_to_one_that_holds_it():
    found = infer_roles(["base", "Dropout", "Dropout 0.2", "my gaaf"], None, None)
    assert (found.dropout, found.gaafs) == ("Dropout", ("my gaaf",))
    assert infer_roles(["base", "Dropout 0.1", "Dropout 0.2", "gaaf"], None, None).dropout is None
    assert infer_roles(["base", "GAAF with dropout", "Dropout"], None, None).gaafs == ("GAAF with dropout",)


def test_no_claim_is_put_to_a_missing_condition(tmp_path):
    table = dd.compare(play(tmp_path, {"plain": BASE, "dropout": DROPOUT}, seeds=[0, 1])).claims().table
    assert table[["condition", "baseline"]].notna().all(axis=None)
    assert table.query("claim == 'e'")[["condition", "baseline"]].to_numpy().tolist() == [["", "dropout"]]
    assert table.query("claim == 'f'")[["condition", "baseline"]].to_numpy().tolist() == [["dropout", "plain"]]


def test_parts_are_judged_apart_and_the_claim_holds_in_part_where_they_differ(tmp_path):
    other = Scene(normal=0.8, apart=0.0, share=0.4, slope=-0.1)
    claims = dd.compare(play(tmp_path, {"plain": BASE, "treated": other})).claims()
    parts = claims.parts.set_index(["claim", "part"])["verdict"]
    assert (parts["d", "more saturated"], parts["d", "more so in higher layers"]) == (SUPPORTED, CONTRADICTED)
    assert claims.table.set_index("claim").loc["d", "verdict"] == IN_PART
    reason = claims.table.set_index("claim").loc["d", "reason"]
    said = re.findall(r"\((supported|contradicted|undecided),", reason)
    assert said == [SUPPORTED, CONTRADICTED]
    slope = claims.parts.set_index(["claim", "part"]).loc[("d", "more so in higher layers"), "effect"]
    assert slope == pytest.approx(-0.1, abs=0.02)
    assert f"from a layer to the next the change of saturation share grows by {slope:+.3g}" in reason
    assert [name for letter, name in parts.index if letter == "a"] == [
        "more Gaussian", "more alike in shape", "more alike in scale", "top layer trained more",
    ]  # fmt: skip


def test_epochs_are_counted_to_the_best_on_validation_data_and_an_open_end_is_said(tmp_path):
    for salt, (condition, best) in enumerate({"plain": 9, "dropout": 20, "GAAF": 5}.items()):
        for seed in range(4):
            made = content(Scene(best=best), seed, salt)
            made.validation_accuracy = 1.0 - 0.01 * np.abs(np.arange(1, 21) - best - (seed > 2) * (best < 9))
            write(tmp_path / f"{condition}-{seed}", made, condition, seed)
    comparison = dd.compare({name: str(tmp_path / f"{name}-*") for name in ("plain", "dropout", "GAAF")})
    claims = comparison.claims()
    reason = claims.table.set_index("claim").loc["f", "reason"]
    assert "evaluations to the best validation_accuracy differ by -14.8" in reason.lower()
    assert "in 4 of 8 runs the best is the last evaluation" in reason
    chosen = comparison.claims(scalar="accuracy").table.set_index("claim").loc["f", "reason"]
    assert "to the best accuracy" in chosen


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["accuracy", "validation_accuracy"], "validation_accuracy"),
        (["eval_accuracy", "val_accuracy"], "val_accuracy"),  # "eval" holds "val" and is no validation
        (["loss", "val_loss", "accuracy"], "accuracy"),
        (["loss", "val_loss"], "val_loss"),
        (["vaccine_rate", "valTop1Acc", "testAcc"], "valTop1Acc"),
        (["apple_accuracy", "pace"], "apple_accuracy"),  # "apple" holds "ppl" and is no perplexity
    ],
)
def test_the_scalar_of_validation_data_comes_first(names, expected):
    frame = pd.DataFrame({"measure": [f"epochs_to_best:{name}" for name in names]})
    assert _scalar(SimpleNamespace(measured=frame), None) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha must lie between 0 and 1"),
        ({"correlation_margin": -0.1}, "correlation_margin must not be negative"),
        ({"share_margin": float("nan")}, "share_margin must not be negative"),
        ({"flow_margin": 0.5}, "flow_margin is a factor and must be above 1"),
        ({"scalar": "bleu"}, "no scalar 'bleu' of held-out data; there are 'accuracy'"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, message):
    comparison = dd.compare(play(tmp_path, {"a": BASE, "b": BASE}, seeds=[0]))
    with pytest.raises(ArgumentError, match=message):
        comparison.claims(**options)


def test_the_rules_of_the_whole():
    assert over_layers(SUPPORTED, [UNDECIDED, SUPPORTED]) == SUPPORTED
    assert over_layers(SUPPORTED, [CONTRADICTED, SUPPORTED]) == UNDECIDED
    assert over_layers(CONTRADICTED, [SUPPORTED]) == UNDECIDED
    assert jointly([SUPPORTED, SUPPORTED]) == SUPPORTED
    assert jointly([SUPPORTED, UNDECIDED]) == IN_PART
    assert jointly([SUPPORTED, CONTRADICTED]) == IN_PART
    assert jointly([CONTRADICTED, UNDECIDED]) == CONTRADICTED
    assert jointly([UNDECIDED, UNDECIDED]) == jointly([]) == UNDECIDED


def test_the_rules_in_words_hold_the_numbers_in_force():
    options = Options(correlation_margin=0.037, flow_margin=1.7, published_factor=6.0)
    words = {claim.letter: claim.rule_of(options) for claim in CLAIMS}
    assert set(words) == set("abcdefghijkl")
    assert "0.037" in words["b"]
    assert "factor of 1.7" in words["e"]
    assert "published 6" in words["c"]


def documented():
    text = (Path(dd.__file__).parent.parent / "docs" / "claims.md").read_text()
    rows = re.findall(r"^\| ([a-z]) \| (.+?) \| (.+) \|$", text, re.MULTILINE)
    return text, {letter: (statement, number) for letter, statement, number in rows}


def test_the_docs_have_each_claim_with_its_statement():
    _, rows = documented()
    said = {letter: f"{statement}." for letter, (statement, _) in rows.items()}
    assert said == {claim.letter: claim.statement for claim in CLAIMS}


@pytest.mark.parametrize("option", fields(Options), ids=lambda option: option.name)
def test_the_docs_have_the_numbers_in_force_where_the_rule_has_them(option):
    text, rows = documented()
    share = option.name in ("alpha", "far_probability", "slope_share", "early")
    other = replace(Options(), **{option.name: 0.25 if share else 4.5})
    changed = [claim.letter for claim in CLAIMS if claim.rule_of(other) != claim.rule_of(Options())]
    assert changed, "no rule has this number"
    for place in [text] if option.name == "alpha" else [rows[letter][1] for letter in changed]:
        assert f"{option.default:g}" in place


def test_a_claim_of_ones_own_is_one_entry(tmp_path, monkeypatch):
    def ask(case):
        return [case.single("lower loss", "final loss differs by", case.effects.network("final:loss") or "none", BELOW)]

    own = Claim("z", "The loss ends lower.", "The difference is below 0.", ask)
    monkeypatch.setattr(claims_module, "CLAIMS", (*CLAIMS, own))
    found = dd.compare(play(tmp_path, {"plain": BASE, "treated": BASE})).claims()
    row = found.table.set_index("claim").loc["z"]
    assert row["statement"] == "The loss ends lower."
    assert row["reason"].startswith("Final loss differs by ")
    assert found.rules["z"] == "The difference is below 0."
    assert found.parts.set_index("claim").loc["z", "measure"] == "final:loss"


def test_only_some_claims_are_those_of_the_whole_family(tmp_path):
    runs = play(tmp_path, {"No dropout": BASE, "Dropout": DROPOUT}, range(3))
    claims = dd.compare(runs).claims()
    few = claims.only("dc")
    assert set(few.rules) == {"c", "d"}
    for name in ("table", "parts", "layers"):
        whole = getattr(claims, name)
        of = whole[whole["claim"].isin(["c", "d"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(getattr(few, name), of)
    assert few.headline == claims.headline
    alone = dd.compare(runs).claims(claims="c").parts["p_family"].item()
    assert few.parts.query("claim == 'c'")["p_family"].item() > alone, "of a smaller family"
    with pytest.raises(ArgumentError, match="no claim 'l'"):
        claims.only("l")
