"""Folders of runs in which something lies that is neither file nor folder: it is named, and the rest is read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import dropdiag as dd
from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.listing import folder_size
from tests.cli.conftest import call
from tests.synthetic import content, write


@pytest.fixture
def runs(tmp_path) -> Path:
    """Three small runs."""
    for seed in range(3):
        write(tmp_path / "runs" / f"s{seed}", content("Dropout", seed, layers=1, steps=3), "Dropout", seed)
    return tmp_path / "runs"


def test_a_link_in_a_circle_stops_nothing(runs):
    """One beside the runs, one in a run, one in place of a segment; and one given as a run."""
    good = sorted(run.name for run in dd.load(runs))
    one = runs / good[0]
    for circle in (runs / "circle", one / "circle", one / "rank-0" / "scalars-000900.parquet"):
        circle.symlink_to(circle.name)
    assert folder_size(one) > 0
    assert [(code, said) for code, _, said in (call("ls", runs),)] == [(0, "")]
    code, shown, _ = call("show", one)
    assert (code, "completed" in shown) == (1, True)
    with pytest.warns(DropdiagWarning, match="scalars-000900.parquet cannot be read"):
        assert len(set(dd.load(runs).select("loss")["run"])) == len(good)
    for command in ("show", "ls", "report"):
        code, _, said = call(command, runs / "circle")
        assert (code, "circle" in said) == (2, True)


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_a_rank_that_is_no_folder_is_named_and_the_other_runs_are_read(runs, make):
    names = sorted(run.name for run in dd.load(runs))
    rank = runs / names[0] / "rank-0"
    shutil.rmtree(rank)
    make(rank)
    with pytest.warns(DropdiagWarning, match="rank-0 is no folder"):
        found = dd.load(runs)
    assert sorted(run.name for run in found) == names[1:]
    with pytest.raises(RunError, match="rank-0 is no folder"):
        dd.load(rank.parent)
