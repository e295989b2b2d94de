"""Paths, folders and patterns: what they open, and what is said where there is nothing."""

from pathlib import Path

import pytest

from dropdiag.errors import ArgumentError, RunError
from dropdiag.store.reader import Run, Runs, load, open_runs
from tests.store.test_run_folder import write


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of runs at several depths, with names that patterns know and that they do not."""
    for name in (
        "runs/drop-0",
        "runs/drop-1",
        "runs/deep/er/base-0",
        "runs/lr=[0.1]/s0",
        "runs/lr=[0.1]/s1",
        "my runs/s 0",
    ):
        write(tmp_path / name)
    (tmp_path / "runs" / "figures").mkdir()
    (tmp_path / "runs" / "notes.txt").write_text("none")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def names(found):
    return [run.name for run in found]


@pytest.mark.parametrize("as_path", [str, Path])
@pytest.mark.parametrize(("where", "expected"), [
    ("runs", ["base-0", "drop-0", "drop-1", "s0", "s1"]),
    ("runs/", ["base-0", "drop-0", "drop-1", "s0", "s1"]),
    ("runs/drop-*", ["drop-0", "drop-1"]),
    ("runs/drop-*/", ["drop-0", "drop-1"]),
    ("runs/drop-1*", ["drop-1"]),
    ("runs/*", ["base-0", "drop-0", "drop-1", "s0", "s1"]),
    ("runs/**/*0", ["base-0", "drop-0", "s0"]),
    ("**/base-?", ["base-0"]),
    ("~/runs/drop-*", ["drop-0", "drop-1"]),
    ("~/runs/deep", ["base-0"]),
    ("runs/lr=[0.1]", ["s0", "s1"]),
    ("runs/lr=[0.1]/s*", ["s0", "s1"]),
    ("runs/lr=[0.1]*", ["s0", "s1"]),
    ("runs/drop-[01]", ["drop-0", "drop-1"]),
    ("my runs", ["s 0"]),
    ("my runs/s *", ["s 0"]),
])  # fmt: skip
def test_a_folder_or_a_pattern_opens_all_of_its_runs(here, where, expected, as_path):
    found = load(as_path(where))
    assert isinstance(found, Runs)
    assert names(found) == names(load([where])) == names(load({"A": as_path(where)})) == expected
    assert names(open_runs(str(here / where) if "~" not in where else where, on_error="collect").runs) == expected


@pytest.mark.parametrize(
    "where", ["runs/drop-0", "runs/drop-0/", "~/runs/drop-0", "runs/drop-0/run.json", Path("runs/drop-0")]
)
def test_the_path_of_a_run_opens_that_run(here, where):
    found = load(where)
    assert isinstance(found, Run)
    assert found.name == "drop-0"
    assert found.path == here / "runs" / "drop-0"


@pytest.mark.parametrize(("where", "message"), [
    ("rnus", "rnus is not a run: there is no such folder; .*did you mean 'runs'"),
    ("rnus/drop-*", "no run matches 'rnus/drop-[*]'; .*did you mean 'runs/drop-[*]'"),
    ("runs/drp-0", "did you mean 'runs/drop-0'"),
    ("runs/xyz*", "has the folders 'deep', 'drop-0', 'drop-1', 'figures', 'lr=.0.1.'"),
    ("runs/figures", "figures is not a run: it has no run.json"),
    ("runs/figures/*", "no run matches .*figures has no folder"),
    ("runs/notes.txt", "notes.txt.* is"),
])  # fmt: skip
def test_where_there_is_nothing_the_error_says_what_there_is(here, where, message):
    for given in (where, [where], {"A": where}):
        with pytest.raises(RunError, match=message):
            load(given)
    runs, problems = open_runs([where, "runs/drop-0"], on_error="collect")
    assert names(runs) == ["drop-0"]
    assert len(problems) == 1


@pytest.mark.parametrize("where", [{"A": [], "B": ["runs"]}, {"A": ()}, [[], "runs"], {"A": [[]]}, {"A": ["runs", []]}])
@pytest.mark.parametrize("on_error", ["raise", "collect"])
def test_an_empty_list_drops_nothing_silently(here, where, on_error):
    with pytest.raises(ArgumentError, match="has no run: it is given|is an empty list"):
        open_runs(where, on_error)


@pytest.mark.parametrize("where", [3, None, b"runs", {"A": 3}, [3], [["runs", None]], {"A": {"B": "runs"}}])
def test_what_is_no_path_is_said(here, where):
    with pytest.raises(ArgumentError, match=r"takes|given"):
        load(where)


def test_two_conditions_of_one_name_are_said(here):
    with pytest.raises(ArgumentError, match="two conditions are called '0'"):
        load({0: "runs/drop-0", "0": "runs/drop-1"})
    assert load({0.0: "runs/drop-0", "": "runs/drop-1"}).conditions == ["0.0", ""]


def test_two_patterns_are_two_conditions_where_no_config_names_any(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a-0", "a-1", "b-0", "drop/s0", "base/s0"):
        write(tmp_path / name, condition=None)
    runs = load(["a-*", "b-*"])
    assert [(run.condition, run.name) for run in runs] == [("a", "a-0"), ("a", "a-1"), ("b", "b-0")]
    assert runs.ordered
    assert load(["drop/s*", "base/s*"]).conditions == ["drop", "base"]
    assert load(["drop", "base"]).conditions == ["drop", "base"]
    assert load("a-*").conditions == ["a-0", "a-1"], "one pattern says nothing of groups"
    assert load(["a-0", "a-1", "b-0"]).conditions == ["a-0", "a-1", "b-0"], "nor do the names of runs"
    with pytest.raises(ArgumentError, match="a-0 is given as 'a' and as '0'"):
        load(["a-*", "*-0"])


def test_patterns_beside_configs_that_name_conditions_go_by_these(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a-0", condition="Dropout")
    write(tmp_path / "b-0", condition="No dropout")
    assert load(["a-*", "b-*"]).conditions == ["Dropout", "No dropout"]
    write(tmp_path / "b-1", condition=None)
    assert load(["a-*", "b-*"]).conditions == ["Dropout", "No dropout", "b-1"]


def test_open_runs_and_paths_may_stand_beside_each_other(here):
    one, two = load("runs/drop-0"), load("runs/deep")
    assert names(load([one, two, "runs/drop-1"])) == ["drop-0", "base-0", "drop-1"]
    assert load({"A": one, "B": [two, "runs/drop-1"]}).conditions == ["A", "B"]
    assert names(load(sorted(Path("runs").glob("drop-*")))) == ["drop-0", "drop-1"]
    assert names(load(path for path in ("runs/drop-1", "runs/drop-0"))) == ["drop-1", "drop-0"]
