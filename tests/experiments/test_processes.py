"""Runs in processes of their own: what `reproduce` starts, and what its printed plan does by itself."""

from __future__ import annotations

import dataclasses
import io
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from dropdiag.errors import RunError
from dropdiag.experiments.engines.report import Report
from dropdiag.experiments.reproduce import commands, reproduce
from dropdiag.experiments.run_one import One
from dropdiag.store.folder import read_meta
from dropdiag.store.reader import load
from tests.test_cli import call

from .conftest import InThisProcess, write_mnist
from .engines.conftest import are_gone, same_package, trainings, wait_until

__all__ = ["same_package"]

QUICK = {"epochs": 1, "batch_size": 50, "widths": (784, 12, 8, 8, 10), "seeds": 1, "every": 2, "measurements": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_mnist(tmp_path_factory.mktemp("data"))


def make(out, data, **options):
    return reproduce(out, data=data, **{"console": Console(file=io.StringIO()), **QUICK, **options})


def numbers(run: Path) -> pd.DataFrame:
    """All that was measured but times, which nobody repeats."""
    return load(run).scalars.query("not quantity.str.endswith('_seconds')").reset_index(drop=True)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("quick_figures")
def test_a_printed_plan_by_xargs_gives_the_runs_that_reproduce_gives(tmp_path, data):
    conditions = ["Dropout", "GAAF fitted"]
    plan = commands(tmp_path / "printed", data=data, conditions=conditions, **QUICK)
    assert not (tmp_path / "printed").exists()
    by_xargs = ["xargs", "-0", "-n", "1", "-P", "2", "sh", "-c"]
    done = subprocess.run(by_xargs, input="\0".join(plan), text=True, capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    make(tmp_path / "made", data, conditions=conditions, engine=InThisProcess())
    for name in ("dropout-s0", "gaaf-fitted-s0"):
        printed, made = (tmp_path / out / "runs" / name for out in ("printed", "made"))
        pd.testing.assert_frame_equal(numbers(printed), numbers(made))
        assert read_meta(printed)["config"] == read_meta(made)["config"]
        assert read_meta(printed)["state"] == "completed"
    before = content(tmp_path / "printed" / "runs")
    assert InThisProcess().train_one(One.of(shlex.split(plan[0])[3:]), Report(None)) is None
    assert content(tmp_path / "printed" / "runs") == before, "what is finished is left as it is"
    assert commands(tmp_path / "printed", data=data, conditions=[*conditions, "GAAF"], **QUICK)[0].count('"GAAF"') == 1
    assert make(tmp_path / "printed", data, conditions=conditions).trained == ()


def test_the_command_line_prints_commands_and_nothing_else(tmp_path, data):
    code, said, error = call(
        "reproduce", "--data", data, "--seeds", 2, "--conditions", "gaaf", "--limit", 60, "--lr", "0.1",
        "--print-plan", "--jobs", 3, "--out", tmp_path / "o u t",
    )  # fmt: skip
    assert (code, error) == (0, "")
    lines = said.splitlines()
    assert len(lines) == 2
    for seed, line in enumerate(lines):
        program, *arguments = shlex.split(line)
        assert (program, arguments[:2]) == (sys.executable, ["-m", "dropdiag.experiments.run_one"])
        one = One.of(arguments[2:])
        assert (one.key, one.data, one.limit, one.out) == ("mnist", data, 60, tmp_path / "o u t")
        assert (one.config["condition"], one.config["seed"], one.config["lr"]) == ("GAAF", seed, 0.1)
        assert one.command() == (program, *arguments)
    assert not (tmp_path / "o u t").exists()


def test_relative_paths_are_made_absolute(tmp_path, data, monkeypatch):
    monkeypatch.chdir(data.parent)
    one = One.of(shlex.split(commands("out", data=data.name, **QUICK)[0])[3:])
    assert (one.data, one.out) == (data, data.parent / "out")


@pytest.mark.usefixtures("quick_figures")
def test_a_run_that_is_killed_is_named_and_the_same_call_goes_on(tmp_path, data, monkeypatch):
    out, waiting = tmp_path / "out", tmp_path / "waiting"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        f"waiting = pathlib.Path({str(waiting)!r})\n"
        "if any('\"Dropout\"' in argument for argument in sys.orig_argv) and not waiting.exists():\n"
        "    import dropdiag.experiments.engines.report as report\n"
        "    def killed(*_):\n"
        "        waiting.touch()\n"
        "        os.kill(os.getpid(), 9)\n"
        "    report.Report.step = killed\n"
        "sys.stderr.write('careful\\n')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    console = Console(file=io.StringIO())
    first = make(out, data, conditions=["Dropout", "GAAF"], jobs=2, console=console)
    assert first.trained == ("gaaf-s0",)
    assert "gaaf-s0 wrote: careful\n" in console.file.getvalue()
    assert "careful" in (out / "launches" / "gaaf-s0.log").read_text()
    assert list(first.failed) == ["dropout-s0"]
    assert first.failed["dropout-s0"].startswith("it was killed by signal 9 (SIGKILL): out of memory, perhaps; ")
    assert read_meta(out / "runs" / "dropout-s0")["state"] == "running"
    second = make(out, data, conditions=["Dropout", "GAAF"], jobs=2)
    assert (second.trained, second.kept, second.failed) == (("dropout-s0",), ("gaaf-s0",), {})
    assert (out / "interrupted" / "dropout-s0.interrupted-1" / "run.json").exists()


def test_ctrl_c_closes_the_runs_under_way_and_says_how_to_go_on(tmp_path, data):
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "dropdiag.cli", "reproduce", "--data", data, "--epochs", "100000", "--seeds", "1",
        "--jobs", "2", "--out", out,
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        reports = [out / "launches" / f"{name}-s0.jsonl" for name in ("no-dropout", "dropout")]
        wait_until(lambda: all(path.exists() and '"accuracy"' in path.read_text() for path in reports), "both train")
        under_way = trainings(out)
        with pytest.raises(RunError, match="no-dropout-s0, dropout-s0 are being trained by another process"):
            commands(out, data=data, epochs=100000, seeds=1)
        parent.send_signal(signal.SIGINT)
        _, error = parent.communicate()
    assert parent.returncode == 130
    assert f"finished runs are kept, and the same command goes on from {out}" in error
    assert len(under_way) == 2
    assert are_gone(under_way)
    states = {path.name: read_meta(path)["state"] for path in (out / "runs").iterdir()}
    assert states == {"no-dropout-s0": "interrupted", "dropout-s0": "interrupted"}


def test_data_that_are_not_those_of_the_plan_are_refused(tmp_path, data):
    other = write_mnist(tmp_path / "other", train=100)
    one = One.of(shlex.split(commands(tmp_path / "out", data=data, **QUICK)[0])[3:])
    error = InThisProcess().train_one(dataclasses.replace(one, data=other), Report(None))
    assert error.startswith(f"DataError: the data in {other} are not those that the run was planned with")
    assert not (tmp_path / "out" / "runs").exists()
