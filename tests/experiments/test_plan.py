from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dropdiag.errors import ArgumentError, RunError
from dropdiag.experiments.mnist.train import MnistSettings
from dropdiag.experiments.plan import make_plan, run_name
from tests.described import write_meta
from tests.frozen.expect import RECORDED

WANTED = [
    MnistSettings(condition, seed, data="d" * 64, source="a place")
    for seed in (0, 1)
    for condition in ("Dropout", "GAAF")
]


def put(out: Path, settings: MnistSettings, state: str, name: str | None = None, **config) -> Path:
    path = out / "runs" / (name or run_name(settings.condition, settings.seed))
    path.mkdir(parents=True)
    meta = json.loads((RECORDED / "mlp" / "dropout-s0" / "run.json").read_text())
    meta |= {"state": state, "config": {**settings.config(), **config}}
    write_meta((path / "run.json"), meta)
    return path


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_names():
    assert [run_name(c, 3) for c in ("No dropout", "Dropout", "GAAF")] == [
        "no-dropout-s3",
        "dropout-s3",
        "gaaf-s3",
    ]


def test_nothing_there(tmp_path):
    plan = make_plan(tmp_path / "new", WANTED)
    assert [job.name for job in plan.todo] == ["dropout-s0", "gaaf-s0", "dropout-s1", "gaaf-s1"]
    assert plan.done == plan.aside == ()
    assert not (tmp_path / "new").exists()
    plan.make_room()
    assert tree(tmp_path / "new") == ["runs"]


def test_finished_runs_are_kept_wherever_the_data_lies_now(tmp_path):
    put(tmp_path, WANTED[1], "completed", source="another place")
    plan = make_plan(tmp_path, WANTED)
    assert [job.name for job in plan.done] == ["gaaf-s0"]
    assert [job.name for job in plan.todo] == ["dropout-s0", "dropout-s1", "gaaf-s1"]


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_broken_runs_are_moved_aside_and_never_deleted(tmp_path, state):
    (put(tmp_path, WANTED[0], state) / "kept.parquet").write_text("rows")
    (tmp_path / "interrupted" / "dropout-s0.interrupted-1").mkdir(parents=True)
    before = tree(tmp_path)
    plan = make_plan(tmp_path, WANTED)
    assert len(plan.todo) == 4
    assert tree(tmp_path) == before
    plan.make_room()
    assert not (tmp_path / "runs" / "dropout-s0").exists()
    assert (tmp_path / "interrupted" / "dropout-s0.interrupted-2" / "kept.parquet").read_text() == "rows"


@pytest.mark.parametrize("content", [None, "", "{", '{"format": "other"}'])
def test_a_folder_without_a_readable_run_counts_as_broken(tmp_path, content):
    path = tmp_path / "runs" / "gaaf-s1"
    path.mkdir(parents=True)
    if content is not None:
        (path / "run.json").write_text(content)
    plan = make_plan(tmp_path, WANTED)
    assert [source.name for source, _ in plan.aside] == ["gaaf-s1"]


def test_finished_runs_of_other_settings_are_an_error_before_anything_is_written(tmp_path):
    path = put(tmp_path, dataclasses.replace(WANTED[0], epochs=7, lr=0.5), "completed")
    before = tree(tmp_path)
    with pytest.raises(ArgumentError) as caught:
        make_plan(tmp_path, WANTED)
    message = str(caught.value)
    assert str(path) in message
    assert "epochs 7 there, 20 now; lr 0.5 there, 0.001 now" in message
    assert "choose another --out" in message
    assert tree(tmp_path) == before


def test_so_are_runs_that_are_not_asked_for_now(tmp_path):
    put(tmp_path, dataclasses.replace(WANTED[0], seed=9, epochs=7), "completed")
    with pytest.raises(ArgumentError, match="epochs 7 there, 20 now"):
        make_plan(tmp_path, WANTED)


def test_other_data_are_an_error(tmp_path):
    put(tmp_path, dataclasses.replace(WANTED[0], data="e" * 64, source="full MNIST"), "completed")
    with pytest.raises(ArgumentError, match=r"data full MNIST \(digest e{12}\) there, a place \(digest d{12}\) now"):
        make_plan(tmp_path, WANTED)


def test_a_run_of_somebody_else_is_an_error(tmp_path):
    path = put(tmp_path, WANTED[0], "completed", name="mine", condition="Batch norm")
    with pytest.raises(ArgumentError, match=f"{path} is a run that `dropdiag reproduce` did not make"):
        make_plan(tmp_path, WANTED)


def test_interrupted_runs_of_other_settings_are_only_moved(tmp_path):
    put(tmp_path, dataclasses.replace(WANTED[0], epochs=7), "interrupted")
    assert len(make_plan(tmp_path, WANTED).aside) == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    plan = make_plan(tmp_path / "file", WANTED)
    with pytest.raises(RunError, match=r"cannot write into .*file.*choose another --out"):
        plan.make_room()
