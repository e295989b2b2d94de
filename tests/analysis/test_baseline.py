"""Which condition is the baseline where nobody says."""

import json
from types import SimpleNamespace

import pytest
from matplotlib.text import Text

import dropdiag as dd
from dropdiag.analysis import gradient_flow
from dropdiag.analysis.baseline import baseline_of, drops, says_baseline, smallest
from dropdiag.errors import ArgumentError, BaselineError, DropdiagWarning
from dropdiag.store.catalog import Catalog
from tests.described import write_meta
from tests.synthetic import content, write


@pytest.mark.parametrize("name", [
    "No dropout", "no_dropout", "non-dropout", "Without", "GAAF w/o dropout", "Base", "baseline", "base-lr", "none",
    "None", "0", "0.0", "0.", ".0", "0 %", "rate=0", "rate=0.00", "p: 0", "rate 0", "lr=0.1, rate=0",
    "nodropout", "NoDropout", "no-drop", "False", "dropout=False", "dropout: off", "OFF",
])  # fmt: skip
def test_a_name_that_says_that_something_is_left_out_is_a_baselines(name):
    assert says_baseline(name)


@pytest.mark.parametrize("name", [
    "Noise", "noisy", "Dropout", "node", "basement", "database", "nonesuch", "10", "0.5", "rate=10", "rate=0.05", "v1.0",
    "run-0", "seed0", "0x", "", "Techno", "lr=0.1, rate=0.5", "off by one", "Nodrama", "falsehood",
])  # fmt: skip
def test_any_other_name_is_not(name):
    assert not says_baseline(name)


class Told(list):
    """Runs of which only the condition and what run.json says of dropouts matter: condition -> rates of its runs."""

    def __init__(self, *conditions, ordered=False, **rates):
        told = rates or {name: [()] for name in conditions}
        super().__init__(
            SimpleNamespace(condition=name, meta=meta(*one)) for name, runs in told.items() for one in runs
        )
        self.conditions, self.ordered = list(told), ordered


def meta(*rates, interventions=()):
    rows = [{"layer": f"d{i}", "call": 0, "kind": "dropout", "rate": rate} for i, rate in enumerate(rates)]
    return {
        "layers": [{"layer": "fc", "call": 0, "kind": "weight"}, *rows],
        "interventions": list(interventions),
        "steps": 9,
    }


def test_an_order_that_the_user_gave_decides_only_where_names_do_not():
    assert baseline_of(Told("Dropout", "No dropout", ordered=True)) == "No dropout"
    assert baseline_of(Told("Dropout", "No dropout")) == "No dropout"
    assert baseline_of(Told("A", "B", ordered=True)) == "A"
    assert baseline_of(Told("No dropout", "Dropout", "GAAF, no dropout", ordered=True)) == "No dropout"
    assert baseline_of(Told("A")) == "A"
    with pytest.raises(BaselineError, match="no name .* says which is the baseline of 'A', 'B'; name it: baseline='A'"):
        baseline_of(Told("A", "B"))
    with pytest.raises(BaselineError, match="'no x', 'no y' may each be the baseline of 'z', 'no x', 'no y'; name it"):
        baseline_of(Told("z", "no x", "no y", ordered=True))


@pytest.mark.parametrize(("rates", "expected"), [
    ({"Plain": [()], "Treated": [(0.5,)]}, "Plain"),
    ({"Treated": [(0.5, 0.0)], "Plain": [(0.0,), (0,)]}, "Plain"),
    ({"A": [(0.1,)], "B": [(0.3,)], "C": [(), ()]}, "C"),
    ({"A": [()], "B": [(0.0,)]}, None),
    ({"A": [(0.5,)], "B": [(0.1,)]}, None),
    ({"A": [(), (0.5,)], "B": [(0.5,)]}, None),
    ({"A": [()], "B": [(None,)]}, None),
    ({"A": [(None,)], "B": [(0.5,)]}, None),
    ({"A": [()], "B": [(0.5,)], "C": [(None,)]}, None),
    ({"A": [()], "B": [(0.5,)], "C": [()]}, None),
    ({"": [()], "b": [(0.5,)]}, ""),
    ({"No gaaf": [(0.5,)], "A": [()]}, "No gaaf"),
    ({"No x": [(0.5,)], "No y": [()], "z": [(0.5,)]}, None),
])  # fmt: skip
def test_a_condition_without_any_recorded_dropout_is_the_baseline(rates, expected):
    """Names come first; among several names that say so nothing recorded chooses."""
    if expected is None:
        with pytest.raises(BaselineError):
            baseline_of(Told(**rates))
    else:
        assert baseline_of(Told(**rates)) == baseline_of(Told(**rates, ordered=True)) == expected


@pytest.mark.parametrize(("rates", "interventions", "expected"), [
    ((0.5,), [{"sites": ["d0"], "rates": [0.0], "step": 0, "until": None}], False),
    ((0.5,), [{"sites": ["d0"], "rates": [0.0], "step": 0, "until": 9}], False),
    ((0.5,), [{"sites": ["d0"], "rates": [0.0], "step": 0, "until": 4}], True),
    ((0.0,), [{"sites": ["d0"], "rates": [0.3], "step": 5, "until": None}], True),
    ((), [{"sites": ["fc:dropout"], "rates": [0.3], "step": 0, "until": None}], True),
    ((0.0,), [{"sites": ["d0"], "schedule": {"linear": [[0.0, 0], [0.5, 9]]}, "step": 0, "until": None}], True),
    ((None,), [{"sites": ["d0"], "rates": [0.0], "step": 0, "until": None}], False),
    ((), (), False),
    ((None,), (), None),
])  # fmt: skip
def test_what_was_done_to_the_dropouts_of_a_run_counts(rates, interventions, expected):
    assert drops(meta(*rates, interventions=interventions)) is expected


@pytest.mark.parametrize(("names", "expected"), [
    (["0.5", "0.1", "0.3"], "0.1"),
    (["rate=0.5", "rate=0.1"], "rate=0.1"),
    (["p=.5", "p=.2", "p=1e-1"], "p=1e-1"),
    (["Dropout 50 %", "Dropout 5 %"], "Dropout 5 %"),
    (["dropout: 0.25", "dropout: 0.125"], "dropout: 0.125"),
    (["10", "9"], "9"),
    (["0.1", "0.10"], None),
    (["0.1", "0.3", "GAAF"], None),
    (["rate=0.1", "lr=0.3"], None),
    (["keep=0.9", "keep=0.5"], None),
    (["v1.0", "v2.0"], None),
])  # fmt: skip
def test_the_smallest_of_rates_is_the_baseline(names, expected):
    assert smallest(names) == smallest(names, ordered=True) == expected
    if expected is not None:
        assert baseline_of(Told(*names)) == baseline_of(Told(*names, ordered=True)) == expected


def test_numbers_that_are_no_rates_leave_an_order_that_the_user_gave():
    assert baseline_of(Told("lr=0.1", "lr=0.01", ordered=True)) == "lr=0.1"
    assert baseline_of(Told("learning rate=0.1", "learning rate=0.01", ordered=True)) == "learning rate=0.1"
    assert baseline_of(Told("lr=0.1", "lr=0.01")) == "lr=0.01"
    assert baseline_of(Told("rate=0.3", "No dropout", "rate=0.1")) == "No dropout"
    assert baseline_of(Told("0.3", "0.0", "0.1")) == "0.0"


def test_everything_that_needs_a_baseline_takes_the_same(tmp_path):
    for condition, rate in (("Alpha", 0.5), ("Beta", 0.0)):
        for seed in (0, 1):
            path = write(tmp_path / f"{condition}-{seed}", content(condition, seed, size=200), condition, seed)
            told = json.loads((path / "run.json").read_text())
            told["layers"].append({"layer": "drop", "call": 0, "kind": "dropout", "type": "Dropout", "rate": rate})
            write_meta((path / "run.json"), told)
    runs = dd.load([str(tmp_path / "*")])
    assert dd.compare(runs).baseline == "Beta"
    assert set(gradient_flow.table(runs)["baseline"]) == {"Beta"}
    assert any("ratio to Beta" in text for text in drawn_texts(dd.plots.gradient_flow(runs)))
    page = dd.report(runs, tmp_path / "report.html").read_text()
    assert "Effects against <b><bdi>Beta</bdi></b>" in page


def drawn_texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def test_without_a_known_baseline_there_are_no_ratios(tmp_path):
    runs = dd.load(runs_of(tmp_path, "Plain", "Treated"))
    with pytest.warns(DropdiagWarning, match="no ratios of the gradient flow: .* name it: baseline='Plain'"):
        table = gradient_flow.table(runs)
    assert table[["baseline", "ratio", "ratio_low", "ratio_high"]].isna().all(axis=None)
    assert (table["pairs"] == 0).all()
    assert table["mean"].notna().all()
    with pytest.warns(DropdiagWarning, match="no ratios"):
        texts = drawn_texts(dd.plots.gradient_flow(runs))
    assert not any("ratio" in text for text in texts)


def runs_of(folder, *conditions):
    """Runs whose folders stand in the order of the conditions' names."""
    for condition in conditions:
        for seed in (0, 1):
            write(folder / f"{condition.lower().replace(' ', '-')}-{seed}", content("Dropout", seed), condition, seed)
    return [str(folder / "*")]


def test_the_alphabet_does_not_turn_a_verdict_round(tmp_path):
    where = runs_of(tmp_path, "Dropout", "No dropout")
    assert dd.compare(where).conditions == ("No dropout", "Dropout")
    assert dd.compare(dd.load(where)).conditions == ("No dropout", "Dropout")
    given = {"Dropout": str(tmp_path / "dropout-*"), "No dropout": str(tmp_path / "no-*")}
    assert dd.compare(given).baseline == "No dropout"
    assert dd.compare(given, baseline="Dropout").baseline == "Dropout"
    assert set(gradient_flow.table(dd.load(where))["baseline"]) == {"No dropout"}


def test_an_order_of_file_names_is_not_taken_for_the_users(tmp_path):
    where = runs_of(tmp_path, "Plain", "Treated")
    for given in (where, dd.load(where), dd.load(where)[:4], list(dd.load(where))):
        with pytest.raises(ArgumentError, match=r"no name .*says which is the baseline of 'Plain', 'Treated'"):
            dd.compare(given)
    named = {"Treated": str(tmp_path / "treated-*"), "Plain": str(tmp_path / "plain-*")}
    for given in (named, dd.load(named), dd.load(named)[:4]):
        assert dd.compare(given).baseline == "Treated"
    assert dd.compare(where, baseline="Plain").baseline == "Plain"
    assert dd.compare(Catalog(tmp_path).runs({"T": "treated-*", "P": "plain-*"})).baseline == "T"
    with pytest.raises(BaselineError):
        dd.compare(Catalog(tmp_path).runs())


def test_a_report_without_a_known_baseline_compares_nothing_and_asks(tmp_path):
    runs = dd.load(runs_of(tmp_path / "runs", "Plain", "Treated"))
    page = dd.report(runs, tmp_path / "report.html").read_text()
    assert "The runs could not be compared: no name and no recorded dropout rate says which is the baseline" in page
    page = dd.report(runs, tmp_path / "named.html", baseline="Plain").read_text()
    assert "could not be compared" not in page
