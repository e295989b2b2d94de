"""The top of the page: parts and provisional verdicts, what nobody can test, scores and gaps, who is compared with whom."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import dropdiag as dd
from dropdiag.analysis.claims import claims as columns_of
from dropdiag.analysis.claims.claims import Claims
from dropdiag.analysis.claims.roles import Roles
from dropdiag.report.data import Content, gather
from dropdiag.report.headlines import cards
from dropdiag.report.outcomes import is_score, outcomes
from dropdiag.report.page import render
from dropdiag.report.series import Scalars
from dropdiag.report.verdicts import by_claim, verdicts
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter
from tests.report.stand_in import Comparison, comparison

TABLE = ["claim", "statement", "condition", "baseline", "verdict", "provisional", "reason", "caveats", "n"]
ROWS = [
    (
        "a",
        "Weights change.",
        "Dropout",
        "No dropout",
        "in part",
        False,
        "One part is, one is not; 5 and 6 seeds.",
        "5 and 6 seeds.",
        5,
    ),
    ("b", "Correlation is higher.", "Dropout", "No dropout", "supported", True, "It is.", "", 3),
    ("c", "More flows.", "Dropout", "No dropout", "supported", False, "It does.", "", 5),
    ("d", "Saturation.", "Dropout", "No dropout", "undecided", False, "No share was recorded.", "", 0),
    ("e", "GAAF resembles it.", "", "", "undecided", False, "No condition plays gaaf by its name.", "", 0),
]
PARTS = [
    {"claim": "a", "condition": "Dropout", "part": "more Gaussian", "verdict": "supported", "provisional": False, "counts": True,
     "measure": "weight_ks_normal", "scale": "difference", "effect": -0.03, "low": -0.04, "high": -0.02, "threshold": 0.0,
     "p": 0.01, "p_family": 0.04, "p_attainable": 0.008, "test": "permutation", "n": 5, "n_baseline": 6, "reason": "It is -0.03.",
     "beside": "half of -0.06"},
    {"claim": "a", "condition": "Dropout", "part": "more alike", "verdict": "contradicted", "provisional": True, "counts": False,
     "measure": "gradient_flow", "scale": "log ratio", "effect": np.log(2.0), "low": np.log(1.5), "high": np.log(3.0),
     "threshold": np.nan, "p": np.nan, "p_family": np.nan, "p_attainable": np.nan, "test": "none", "n": 5, "n_baseline": 5, "reason": ""},
    {"claim": "d", "condition": "Dropout", "part": "share", "verdict": "not recorded", "provisional": False, "counts": True,
     "test": "none", "n": 0, "n_baseline": 0},
    *({"claim": claim, "condition": "Dropout", "part": "whole", "verdict": "supported", "provisional": claim == "b", "counts": True,
       "measure": "gradient_flow", "scale": "log ratio", "effect": 0.7, "threshold": 0.0, "test": "sign flip", "n": 5, "n_baseline": 5}
      for claim in "bc"),
]  # fmt: skip


RULES = dict.fromkeys("abcde", "The rule.") | {"a": "The rule of (a).", "e": "The rule of (e)."}


def claims_of(rows, parts=()):
    """Return claims with parts and a level of their own; columns that are not given are empty."""
    table, made = (
        pd.DataFrame(some, columns=columns) for some, columns in ((rows, columns_of.TABLE), (parts, columns_of.PARTS))
    )
    layers = pd.DataFrame(columns=columns_of.LAYERS)
    return Claims(table, made, layers, RULES, Roles(None, (), ()), 0.01, "'Dropout' compared with 'No dropout'")


@pytest.fixture(scope="module")
def claimed():
    return claims_of([dict(zip(TABLE, row, strict=True)) for row in ROWS], PARTS)


@pytest.fixture(scope="module")
def made(runs, claimed):
    class Claimed(Comparison):
        def claims(self, **_options):
            return claimed

    plain = comparison(runs)
    return gather(Claimed(plain.runs, plain.baseline, plain.conditions, plain.table))


def test_each_part_has_its_verdict_effect_and_p(made):
    first, second = made.verdicts[0].parts
    assert (first.verdict, first.mark, first.beside) == ("supported", "✔", False)
    assert (first.reason, first.p) == ("It is −0.03.", "p = 0.04 over the family")
    assert (second.look, second.beside) == ("contradicted provisional", True)
    assert second.p == "", "of nothing that is missing a word is said"
    assert (first.others, second.others) == ("Half of −0.06.", "")
    assert 'p = 0.04 over the family. <span class="others">Half of −0.06.</span>' in render(made)
    assert [(part.verdict, part.beside) for part in made.verdicts[3].parts] == [("not recorded", False)]


def test_a_number_is_said_once(made):
    page = render(made)
    claims = page[page.index('id="claims"') : page.index('<section id="effects"')]
    assert claims.count("It is −0.03.") == 1
    assert "One part is, one is not" not in claims, "the parts say it"
    assert claims.count("5 and 6 seeds.") == 1
    table = made.verdicts[0].layers
    rows = [[cell.shown for cell in row] for row in table.rows]
    assert rows[0] == [
        "more Gaussian, mean over layers",
        "weight ks normal",
        "−0.03 [−0.04, −0.02]",
        "–",
        "0",
        "0.01",
        "0.04",
        "0.008",
        "supported",
    ]
    assert rows[1][0] == "more alike, mean over layers"
    assert rows[1][-1] == "contradicted, provisional"


def test_a_provisional_verdict_never_looks_like_a_firm_one(made):
    looks = {one.claim: one.look for one in made.verdicts}
    assert looks == {"a": "in-part", "b": "supported provisional", "c": "supported", "d": "undecided", "e": "undecided"}
    page = render(made)
    assert '<span class="badge supported"><span aria-hidden="true">✔</span>&nbsp;supported</span>' in page
    assert (
        '<span class="badge supported provisional"><span aria-hidden="true">✔</span>&nbsp;supported, provisional</span>'
        in page
    )
    css = page[page.index("<style>") : page.index("</style>")]
    firm, early = (
        re.search(rf"\.badge\.{name} {{ color: var\((--\w+)\)", css)[1] for name in ("supported", "provisional")
    )
    colours = [re.findall(rf"{name}: (#\w+);", css) for name in (firm, early)]
    assert len(colours[0]) == len(colours[1]) == 2, "one for a light page, one for a dark one"
    assert not set(colours[0]) & set(colours[1])


def test_claims_that_nobody_can_test_are_folded_with_the_reason(made):
    assert [one.claim for one in made.tested] == ["a", "b", "c"]
    assert [one.claim for one in made.untested] == ["d", "e"]
    page = render(made)
    folded = "Not tested with these runs: (d), (e). No share was recorded. No condition plays gaaf by its name."
    assert page.count(f"<summary>{folded}</summary>") == 2
    assert page.count("GAAF resembles it.") == 2, "in the two folds alone"
    assert made.judged == ["Dropout"]


def test_what_was_recorded_for_one_condition_is_tested(claimed):
    rows = [*claimed.table.to_dict("records"), {**claimed.table.iloc[3].to_dict(), "condition": "GAAF", "n": 3}]
    recorded = {**PARTS[0], "claim": "d", "condition": "GAAF"}
    d = next(one for one in by_claim(verdicts(claims_of(rows, [*PARTS, recorded]))) if one.claim == "d")
    assert [one.tested for one in d.verdicts] == [False, True]
    assert d.tested


def test_the_level_is_the_claims_own(made, runs):
    assert made.alpha == 0.01
    assert "alpha = 0.01" in render(made)
    assert gather(runs, claims={"alpha": 0.2}).alpha == 0.2


def test_the_page_says_first_who_is_compared_with_whom(made):
    assert made.headline == "'Dropout' compared with 'No dropout'."
    page = render(made)
    assert page.index("compared with") < page.index('id="summary"')


def test_cards_stand_in_the_order_of_the_tables():
    names = ["zeta", "Alpha", "beta", "Z"]
    row = {"baseline": "Base", "measure": "gradient_flow", "scale": "log ratio", "effect": 0.5, "low": np.nan, "high": np.nan,
           "n": 1, "n_baseline": 1}  # fmt: skip
    table = pd.DataFrame([{**row, "condition": name} for name in names])
    assert [card.condition for card in cards(table, None, ["Base", *names])] == names
    assert [card.condition for card in cards(table)] == names


def test_the_wide_matrix_has_a_row_a_condition_in_their_order(claimed):
    names = ["z", "a", "M", "b", "Dropout"]
    frame = claimed.table[claimed.table["claim"] == "c"]
    table = pd.concat([frame.assign(condition=name) for name in names])
    parts = [part | {"condition": name} for part in PARTS if part["claim"] == "c" for name in names]
    given = claims_of(table.to_dict("records"), parts)
    run = SimpleNamespace(meta={"layers": []}, name="r", condition="")
    runs = type("Some", (list,), {"conditions": ["Base", *names], "runs": []})([run])
    content = Content(runs, "Base", verdicts=verdicts(given))
    assert content.judged == names


def score_runs(folder, *, training=True, nan=False):
    """Two conditions, three seeds: training loss falls by 0.01 a step to 0, held-out numbers are set."""
    paths = {}
    for c, condition in enumerate(("No dropout", "Dropout")):
        for seed in range(3):
            path = folder / f"{c}-{seed}"
            paths.setdefault(condition, []).append(path)
            head = {"config": {"condition": condition, "seed": seed}, "versions": {}, "layers": [], "activations": {}}
            writer = RunWriter(path, head)
            for step in range(1, 101):
                rows = [ScalarRow(step, "train", None, 0, "loss", 1.0 - 0.01 * step + c)] if training else []
                if step % 25 == 0:
                    held = float("nan") if nan and seed == 2 else 0.5 + seed
                    rows += [
                        ScalarRow(step, "eval", None, 0, "loss", held),
                        ScalarRow(step, "eval", None, 0, "accuracy", 0.9 + 0.01 * seed),
                    ]
                    rows += [
                        ScalarRow(step, "train", None, 0, "train_acc", 0.95),
                        ScalarRow(step, "train", None, 0, "lr", 0.1),
                    ]
                writer.add_scalars(rows)
            writer.close("completed")
    return load(paths)


def column(table, head):
    return [row[list(table.heads).index(head)] for row in table.rows]


def test_scores_and_gaps_stand_in_the_summary(tmp_path):
    runs = score_runs(tmp_path)
    table = gather(runs).outcomes
    assert [cell.shown for cell in column(table, "Condition")] == ["No dropout", "Dropout"]
    assert [float(cell.value) for cell in column(table, "accuracy, held out")] == pytest.approx([0.91, 0.91])
    assert [float(cell.value) for cell in column(table, "loss, held out")] == pytest.approx([1.5, 1.5])
    tail = np.mean([1.0 - 0.01 * step for step in range(91, 101)])  # the last tenth before the last evaluation
    assert [float(cell.value) for cell in column(table, "loss, training")] == pytest.approx([tail, 1.0 + tail])
    assert [float(cell.value) for cell in column(table, "gap: loss")] == pytest.approx([1.5 - tail, 0.5 - tail])
    assert column(table, "loss, held out")[0].shown == "1.5 (1)"
    assert not any("lr" in head for head in table.heads)
    page = render(gather(runs))
    assert page.index('id="outcomes-table"') < page.index('id="claims"')


def test_an_accuracy_under_a_name_of_its_own_has_its_gap(tmp_path):
    runs = score_runs(tmp_path)
    (tmp_path / "x").mkdir()
    paths = []
    for seed in (0, 1):
        writer = RunWriter(
            tmp_path / "x" / f"s{seed}",
            {"config": {"condition": "A", "seed": seed}, "versions": {}, "layers": [], "activations": {}},
        )
        for step in (10, 20):
            writer.add_scalars(
                [
                    ScalarRow(step, "train", None, 0, "train_acc", 0.9),
                    ScalarRow(step, "train", None, 0, "val_acc", 0.5 + 0.1 * seed),
                ]
            )
        writer.close("completed")
        paths.append(tmp_path / "x" / f"s{seed}")
    table = gather(load(paths)).outcomes
    assert list(table.heads) == [
        "Condition",
        "val_acc, logged in training",
        "train_acc, training",
        "gap: val_acc",
        "Runs",
    ]
    assert float(column(table, "gap: val_acc")[0].value) == pytest.approx(0.35)
    assert len(runs) == 6


def test_without_a_training_score_there_is_no_gap_and_the_page_says_so(tmp_path):
    table = outcomes(scalars(runs := score_runs(tmp_path, training=False)), runs)
    assert table.note.endswith("There is no gap: nothing was recorded both in training and on held-out data.")
    assert not any(head.startswith("gap") for head in table.heads)


def test_a_diverged_run_is_left_out_and_counted(tmp_path):
    table = outcomes(scalars(runs := score_runs(tmp_path, nan=True)), runs)
    assert [float(cell.value) for cell in column(table, "loss, held out")] == pytest.approx([1.0, 1.0])
    assert [cell.shown for cell in column(table, "Of them without some number")] == ["1", "1"]


def test_without_held_out_scores_there_is_no_such_table(runs):
    train = SimpleNamespace(tracks={key: one for key, one in scalars(runs).tracks.items() if key == ("loss", "train")})
    assert outcomes(train, runs) is None


@pytest.mark.parametrize(("name", "scored"), [
    ("accuracy", True), ("test_acc", True), ("val_loss", True), ("top5", True), ("perplexity", True), ("Macro F1", True),
    ("lr", False), ("epoch", False), ("acceleration", False), ("weight_norm", False),
])  # fmt: skip
def test_what_counts_as_a_score(name, scored):
    assert is_score(name) == scored


def test_the_score_has_its_effect_in_the_cards(tmp_path):
    card = next(one for one in gather(score_runs(tmp_path)).cards if one.condition == "Dropout")
    first = card.lines[0]
    assert first.measure == "accuracy, held out"
    assert first.detail == "at the end: 0.91 against 0.91; n = 3 and 3"


def scalars(runs):
    return Scalars(runs, {})


def test_the_claims_of_today_are_shown_as_well(runs):
    content = gather(dd.compare(runs))
    assert {one.claim for one in content.tested} >= {"b", "c", "d", "e"}
    assert all(one.provisional for one in content.verdicts if one.verdict == "supported"), (
        "three seeds decide nothing firmly"
    )
