from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tests.ranks import add, close, histogram, scalar, writer

from .conftest import call


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(5)
    weights = rng.normal(size=50)
    for rank in range(3):
        one = writer(tmp_path / "run", rank, 3)
        for step in (1, 2):
            add(one, histogram(step, "weight", weights + (rank == 2) * step, layer="fc"),
                [scalar(step, name, value, layer=None) for name, value in (
                    ("step_seconds", 0.02), ("recorder_seconds", 0.001 * (rank + 1)), ("loss", float(rank + step)))])  # fmt: skip
        close(one, 2 - (rank == 1))
    return tmp_path / "run"


def test_ranks_are_shown_side_by_side(run):
    code, out, err = call("show", run, "--ranks")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "ranks 3 ranks; rank 1 ended at step 1" in lines
    at = lines.index("rank state steps sessions step, ms recorder differs")
    assert lines[at + 2] == "0 completed 2 1 20 5.0%"
    assert lines[at + 3] == "1 completed 1 1 20 10.0%"
    assert " ".join(lines[at + 4 : at + 6]).startswith(
        "2 completed 2 1 20 15.0% its weights of fc are others at step 2"
    )
    at = lines.index("over ranks step ranks mean sd least most")
    assert "loss (train) 2 3 3 1 2 4" in lines[at:]


def test_what_is_missing_is_named_and_the_exit_code_tells(run):
    shutil.rmtree(run / "rank-1")
    code, out, err = call("show", run, "--ranks")
    assert code == 1
    assert err == f"warning: {run} is read from 2 of 3 ranks: rank 1: it has no folder rank-1\n"
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "ranks 2 of 3 ranks; rank 1: it has no folder rank-1" in lines
    assert any(line.startswith("1 missing 0 0 it has no folder rank-1") for line in lines)
    code, out, err = call("show", run)
    assert (code, "2 of 3 ranks; rank 1: it has no folder rank-1" in out) == (1, True)
    code, out, _ = call("ls", run.parent)
    assert (code, out.splitlines()[2].endswith("2 of 3 ranks")) == (0, True)
    assert out.splitlines()[0].split()[-1] == "ranks"


def test_ranks_in_json(run):
    code, out, _ = call("show", run, "--ranks", "--json")
    found = json.loads(out)
    assert (code, found["ranks"]) == (0, {"world_size": 3, "read": 3, "lacking": {}})
    assert [row["steps"] for row in found["each_rank"]] == [2, 1, 2]
    assert [row["recorder_share"] for row in found["each_rank"]] == pytest.approx([0.05, 0.1, 0.15])
    loss = next(row for row in found["spread"] if row["quantity"] == "loss")
    assert (loss["mean"], loss["sd"], loss["ranks"]) == (3.0, 1.0, 3)
    assert json.loads(call("ls", run.parent, "--json")[1])["runs"][0]["ranks"] == "3 ranks"


def test_a_run_of_one_process_has_one_row(runs):
    code, out, _ = call("show", runs / "dropout-s0", "--ranks")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines() if line.split()[:1] == ["0"]] == [["0", "completed", "40"]]
    assert not any(line.startswith("ranks") for line in out.splitlines())
