"""Runs are opened in one way, whatever they are called and in whatever state they are."""

import json
import os
import warnings

import pytest

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store.reader import Runs, load, open_runs
from tests.described import write_meta
from tests.store.test_run_folder import write as write_small
from tests.synthetic import content, write

AWKWARD = ["lr=[0.1]", "~old", "a?b", "**", "with space"]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_path_that_exists_is_no_pattern(tmp_path, monkeypatch, name):
    for other in ("lr=0", "lr=1", "old", "axb"):
        write_small(tmp_path / other)
    write_small(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for where in (name, str(tmp_path / name), tmp_path / name):
        assert [run.name for run in open_runs([where]).runs] == [name]
        assert load({"A": where})[0].name == name


def test_the_home_folder_is_known_in_paths_and_patterns(tmp_path, monkeypatch):
    write_small(tmp_path / "run-1")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/run-1").path == tmp_path / "run-1"
    assert load({"A": "~/run-*"})[0].path == tmp_path / "run-1"


def test_a_run_counts_once_whatever_leads_to_it(tmp_path):
    write_small(tmp_path / "run-1")
    (tmp_path / "link").symlink_to(tmp_path / "run-1")
    (tmp_path / "same").symlink_to(tmp_path)
    paths = [tmp_path / "run-1", tmp_path / "link", tmp_path / "same" / "run-1", str(tmp_path / "run-*")]
    runs, problems = open_runs(paths, on_error="collect")
    assert [run.path for run in runs] == [tmp_path / "run-1"]
    # a link is said; a pattern that names the same path again is no news
    assert [said.split(" and ")[0] for said in problems] == [str(tmp_path / "link"), str(tmp_path / "same" / "run-1")]
    assert all("are one folder, to which links lead: it is counted once." in said for said in problems)
    with pytest.warns(DropdiagWarning, match="are one folder") as warned:
        assert len(load(paths[:2])) == 1
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load([paths[0], paths[3], os.path.relpath(paths[0])])) == 1
    assert load(tmp_path / "link").name == load([tmp_path / "link"])[0].name == "run-1"
    with pytest.raises(ArgumentError, match="is given as 'A' and as 'B'"):
        open_runs({"A": tmp_path / "run-1", "B": tmp_path / "link"}, on_error="collect")


def test_what_is_wrong_is_raised_or_collected(tmp_path):
    for name in ("good", "torn", "damaged", "empty"):
        write(tmp_path / name, content("Dropout", 0, steps=5, size=20), "Dropout", 0)
    (tmp_path / "torn" / "run.json").write_text("{")
    damaged = json.loads((tmp_path / "damaged" / "run.json").read_text())
    damaged["sessions"] = damaged.pop("layers")
    write_meta((tmp_path / "damaged" / "run.json"), damaged)
    (tmp_path / "empty" / "run.json").unlink()
    where = [str(tmp_path / "*"), str(tmp_path / "none-*")]
    with pytest.raises(RunError, match="torn/run.json cannot be read"):
        open_runs([tmp_path / "good", tmp_path / "torn"])
    with pytest.warns(DropdiagWarning) as warned:
        assert [run.name for run in open_runs(where[:1]).runs] == ["good"]
    said = " ".join(str(one.message) for one in warned)
    assert "torn/run.json cannot be read" in said
    assert "damaged/run.json is damaged: sessions[0].started is missing" in said
    with pytest.raises(RunError, match="no run matches"):
        open_runs(where)
    runs, problems = open_runs(where, on_error="collect")
    assert [run.name for run in runs] == ["good"]
    assert len(problems) == 4
    for expected in (
        "torn/run.json cannot be read",
        "damaged/run.json is damaged",
        "empty is not a run",
        "no run match",
    ):
        assert sum(expected in problem for problem in problems) == 1
    assert all(problem.endswith(".") for problem in problems)


def test_open_runs_are_taken_as_they_are(tmp_path):
    write_small(tmp_path / "run")
    run = load(tmp_path / "run")
    assert list(open_runs(run).runs) == list(open_runs([run]).runs) == list(open_runs(Runs([run])).runs) == [run]
    assert open_runs(Runs([run], ordered=True)).runs.ordered
    with pytest.raises(ArgumentError, match="takes runs, a path or pattern, a list of them or a dict"):
        open_runs(3)
