"""Advice on run folders: what is read, what is said of it, and the page."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis.advice.advice import advise
from dropdiag.errors import ArgumentError, RunError
from dropdiag.formatting import jsonable
from dropdiag.store.reader import load
from tests.analysis.advice.folders import SD, STEPS, write_sweep
from tests.described import write_meta

RATES = {0.0: 0.90, 0.1: 0.90, 0.3: 0.85, 0.5: 0.80}
FEW = {0.0: 0.90, 0.1: 0.90, 0.5: 0.80}
THREE = (0, 1, 2)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Four rates, GAAF, five seeds: 0 and 0.1 are alike, all others far behind."""
    return write_sweep(tmp_path_factory.mktemp("sweep"), {**RATES, "GAAF": 0.85})


@pytest.fixture(scope="module")
def advice(sweep):
    return advise(str(sweep))


def finding(advice, rule):
    return [one for one in advice.findings if one.rule == rule]


def test_the_sentence_names_the_rates_that_are_left_and_how_sure(advice):
    assert advice.sentence == (
        "Of the rates 0, 0.1, 0.3, 0.5 and 'GAAF', those that cannot be told from the best on validation accuracy are 0 "
        "and 0.1 (5 seeds, 95 % simultaneous over all tests of this page); 0, no dropout, is the lowest of them."
    )
    assert advice.problems == ()
    assert advice.sentence in repr(advice)


def test_the_table_has_the_numbers_of_the_runs(sweep, advice):
    rows = load(sweep).select("accuracy", layer=[None])
    last = rows[rows["step"] == STEPS]
    for phase, column in (("validation", "chosen"), ("test", "reported")):
        for row in advice.table.to_dict("records"):
            values = last[(last["phase"] == phase) & (last["condition"] == row["condition"])]["value"].to_numpy()
            low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
            assert (row[column], row[f"{column}_low"], row[f"{column}_high"]) == pytest.approx(
                (values.mean(), low, high)
            )
    assert advice.table["verdict"].tolist() == ["not told from the best"] * 2 + ["worse"] * 3

    assert advice.table["gap"].to_numpy() == pytest.approx(np.full(5, 0.2), abs=2.0 * SD)


def test_every_rule_speaks_and_has_a_source(advice):
    assert {one.rule for one in advice.findings} == {"rates", "gaaf", "convergence", "gap", "layers", "nodes"}
    assert all(one.source for one in advice.findings)
    (gap,) = finding(advice, "gap")
    assert gap.found
    assert "training mode" in gap.what  # the training loss was taken with masks on
    most = next(one for one in finding(advice, "layers") if "masks there add" in one.what)
    assert most.value == pytest.approx(0.1 * 0.1 * 2)  # of conv2 at rate 0.1, the highest that is left
    assert "conv2.drop, the most, and 0.01 at conv1.drop, the least" in most.what


def test_what_no_run_holds_is_named_with_its_call(advice):
    lacking = {one.what: one.call for one in advice.not_measured}
    assert "rec.net_variance(x)" in lacking["the net variance"]
    assert "the regulariser of each dropout" not in lacking
    assert '[{"dropout:conv1.drop": 0.1, "dropout:conv2.drop": 0}, ...]' in lacking["single sites"]
    assert "GAAF" not in lacking


def test_a_sweeps_folder_stands_for_its_runs_and_not_for_those_moved_aside(sweep, tmp_path):
    shutil.copytree(sweep, tmp_path / "out" / "runs")
    told = {
        "axes": {"rate": [0, 0.1]},
        "failed": {"rate-0.7-s0": "it ran out of memory."},
        "stopped": {"rate=0.9": "0.2 after 2 epochs"},
    }
    (tmp_path / "out" / "sweep.json").write_text(json.dumps(told))
    shutil.copytree(sweep / "rate-0.3-s1", tmp_path / "out" / "interrupted" / "rate-0.3-s1")
    found = advise(tmp_path / "out")
    assert found.sentence == advise([str(tmp_path / "out")]).sentence
    assert "(5 seeds" in found.sentence
    assert found.problems == (
        "rate-0.7-s0 failed, and is not among the runs: it ran out of memory.",
        "rate=0.9 was stopped by screening, and nothing is said of it: 0.2 after 2 epochs.",
    )


def test_a_rate_whose_runs_diverged_is_named_and_not_advised(tmp_path):
    found = advise(write_sweep(tmp_path, FEW, THREE, diverged={(0.5, 1), (0.5, 2)}))
    assert found.sentence.startswith("Of the rates 0 and 0.1, none can be told from the best")
    assert found.sentence.endswith("training diverged at rate 0.5 (2 runs), which is not advised.")
    assert found.table.iloc[-1]["verdict"] == "left out: training diverged in 2 of its runs"


def test_runs_that_did_not_end_are_left_out_and_named(sweep, tmp_path):
    shutil.copytree(sweep, tmp_path / "runs")
    broken = tmp_path / "runs" / "rate-0.1-s2" / "run.json"
    write_meta(broken, json.loads(broken.read_text()) | {"state": "failed"})
    found = advise(tmp_path / "runs")
    assert any("rate-0.1-s2 ended as 'failed'" in one and "it is left out" in one for one in found.problems)
    assert "Seed 2 lacks a run of some condition, and no verdict rests on them." in found.problems
    assert "(4 seeds" in found.sentence


def test_one_seed_has_no_verdict_and_says_how_many_it_takes(tmp_path):
    found = advise(write_sweep(tmp_path, FEW, [0]))
    assert found.sentence.startswith(
        "No verdict: one seed tells nothing about chance; two seeds of each of the rates are the least"
    )
    assert found.next[0].what == "Train 5 seeds of each of the rates, the same seeds of all."
    assert set(found.table["verdict"]) == {"no verdict"}


def test_runs_that_still_get_better_have_no_verdict(tmp_path):
    found = advise(write_sweep(tmp_path, FEW, THREE, rise=20.0 * SD))
    assert found.sentence.startswith("No verdict: training had not converged")
    assert not finding(found, "rates")


def test_without_evaluations_on_the_way_that_is_not_known(tmp_path):
    found = advise(write_sweep(tmp_path, FEW, THREE, evaluations=1))
    assert "whether training had converged" in {one.what for one in found.not_measured}
    assert not finding(found, "convergence")


def test_nothing_held_out_is_no_verdict(tmp_path):
    found = advise(write_sweep(tmp_path, FEW, [0, 1], phases=()))
    assert found.sentence == "No verdict: no run recorded a loss or a score on held-out data."
    assert found.not_measured[0].what == "a score on held-out data"
    found.html(tmp_path / "page.html")


def test_one_held_out_set_is_said_to_be_optimistic(tmp_path):
    found = advise(write_sweep(tmp_path, FEW, THREE, phases=("eval",), training="training data"))
    assert any("which is optimistic" in one.what for one in finding(found, "rates"))
    assert "accuracy on test data" in {one.what for one in found.not_measured}
    assert "training mode" not in finding(found, "gap")[0].what


def test_conditions_without_rates_go_by_name(sweep):
    found = advise({"No dropout": str(sweep / "rate-0.0-*"), "GAAF": str(sweep / "GAAF-*")})
    assert found.sentence.startswith(
        "Of the conditions 'No dropout' and 'GAAF', 'No dropout' is the best on validation accuracy: the other is worse"
    )
    with pytest.raises(ArgumentError, match="'lr' is in no run's config"):
        advise(sweep, "lr")


def test_the_edge_of_the_range_is_next_and_nothing_is_said_beyond(tmp_path):
    found = advise(write_sweep(tmp_path, {0.1: 0.8, 0.5: 0.9}, THREE))
    assert found.next[0].what == "Test rates above 0.5: of these nothing is known."
    assert "0.5 is the best" in found.sentence


def test_gaaf_at_another_budget_is_not_compared(tmp_path):
    found = advise(write_sweep(tmp_path, {0.0: 0.9, 0.5: 0.8, "GAAF": 0.95}, THREE, steps={"GAAF": 2 * STEPS}))
    (gaaf,) = finding(found, "gaaf")
    assert "at unequal budgets nothing is said" in gaaf.what
    assert "GAAF" not in found.sentence
    assert found.table.iloc[-1]["verdict"] == "left out: it was trained for another number of steps"


def test_no_completed_run_is_an_error(tmp_path):
    write_sweep(tmp_path / "runs", {0.0: 0.9}, seeds=[0])
    file = tmp_path / "runs" / "rate-0.0-s0" / "run.json"
    write_meta(file, json.loads(file.read_text()) | {"state": "failed"})
    with pytest.raises(RunError, match="no completed run can be read.*ended as 'failed'"):
        advise(tmp_path / "runs")


class Parsed(HTMLParser):
    """Text and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_says_it_all_and_asks_for_nothing(advice, tmp_path):
    file = advice.html(tmp_path / "new" / "advice.html")
    text = file.read_text(encoding="utf-8")
    page = Parsed(text)
    assert "script" not in page.tags
    assert page.links == []
    assert file.stat().st_size < 60_000
    for part in (advice.sentence, *(one.call for one in advice.not_measured), *(one.source for one in advice.findings)):
        assert part in page.text
    assert text.count('class="run"') == 25
    assert text.count('class="seed"') == 5  # of the rates alone: GAAF goes on from none of them
    assert (text.count('class="inside"'), text.count('class="outside"')) == (2, 3)
    with pytest.raises(ArgumentError, match="is a folder"):
        advice.html(tmp_path)


def test_names_of_strangers_are_text(tmp_path):
    name = "<script>alert(1)</script> \u202e drop"
    write_sweep(tmp_path / "a", {0.0: 0.9}, THREE, layers=["<img src=x>"])
    write_sweep(tmp_path / "b", {0.5: 0.8}, THREE, layers=["<img src=x>"])
    found = advise({"base": str(tmp_path / "a"), name: str(tmp_path / "b")})
    for text in (found.html(tmp_path / "page.html").read_text(encoding="utf-8"), found._repr_html_()):
        assert not {"script", "img"} & set(Parsed(text).tags)


def test_all_of_it_is_strict_json(advice):
    record = json.loads(json.dumps(jsonable(advice.record()), allow_nan=False))
    assert record["chosen_on"] == "validation/accuracy"
    assert [row["dose"] for row in record["table"]] == [0.0, 0.1, 0.3, 0.5, None]
    assert {one["rule"] for one in record["findings"]} >= {"rates", "gap"}
