"""Which condition is the baseline where nobody says."""

import pytest

import dropdiag as dd
from dropdiag.analysis import gradient_flow
from dropdiag.analysis.baseline import certain, likely, says_baseline
from dropdiag.errors import ArgumentError, BaselineError
from dropdiag.store.catalog import Catalog
from tests.synthetic import content, write


@pytest.mark.parametrize("name", [
    "No dropout", "no_dropout", "non-dropout", "Without", "GAAF w/o dropout", "Base", "baseline", "base-lr", "none",
    "None", "0", "0.0", "0.", ".0", "0 %", "rate=0", "rate=0.00", "p: 0", "rate 0", "lr=0.1, rate=0",
])  # fmt: skip
def test_a_name_that_says_that_something_is_left_out_is_a_baselines(name):
    assert says_baseline(name)


@pytest.mark.parametrize("name", [
    "Noise", "noisy", "Dropout", "node", "basement", "database", "nonesuch", "10", "0.5", "rate=10", "rate=0.05", "v1.0",
    "run-0", "seed0", "0x", "", "Techno", "lr=0.1, rate=0.5",
])  # fmt: skip
def test_any_other_name_is_not(name):
    assert not says_baseline(name)


def test_an_order_that_the_user_gave_decides_only_where_names_do_not():
    assert certain(["Dropout", "No dropout"], ordered=True) == "No dropout"
    assert certain(["Dropout", "No dropout"], ordered=False) == "No dropout"
    assert certain(["A", "B"], ordered=True) == "A"
    assert certain(["No dropout", "Dropout", "GAAF, no dropout"], ordered=True) == "No dropout"
    with pytest.raises(
        BaselineError, match="no name says which is the baseline of 'A', 'B'; name it: baseline='A', or"
    ):
        certain(["A", "B"], ordered=False)
    with pytest.raises(BaselineError, match="'no x', 'no y' may each be the baseline of 'z', 'no x', 'no y'; name it"):
        certain(["z", "no x", "no y"], ordered=True)
    assert likely(["A", "B"]) == "A"
    assert likely(["Dropout", "No dropout"]) == "No dropout"


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
        with pytest.raises(ArgumentError, match=r"no name says which is the baseline of 'Plain', 'Treated'"):
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
    assert "The runs could not be compared: no name says which is the baseline" in page
    page = dd.report(runs, tmp_path / "named.html", baseline="Plain").read_text()
    assert "could not be compared" not in page
