"""Runs in processes of their own: killed, gone on with, and interrupted."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys

from dropdiag.experiments.sweep.sweep import commands, sweep
from dropdiag.store.folder import read_meta
from tests.experiments.engines.conftest import are_gone, same_package, trainings, wait_until

from .conftest import TRAINS, content

__all__ = ["same_package"]

PROGRAM = "import typer; from dropdiag.cli.sweep import sweep; typer.run(sweep)"


def test_a_run_that_is_killed_is_named_and_the_same_call_goes_on(tmp_path):
    options = {"over": {"rate": [0, 0.5]}, "seeds": 1, "out": tmp_path / "out"}
    first = sweep(f"{TRAINS}:killed_once", processes=2, **options)
    assert first.trained == ("rate-0-s0",)
    assert first.failed["rate-0.5-s0"].startswith("it was killed by signal 9 (SIGKILL)")
    assert read_meta(tmp_path / "out/runs/rate-0.5-s0")["steps"] == 1
    before = content(tmp_path / "out/runs/rate-0-s0")
    (command,) = commands(f"{TRAINS}:killed_once", **options)
    assert subprocess.run(shlex.split(command), capture_output=True, check=False).returncode == 0
    second = sweep(f"{TRAINS}:killed_once", **options)
    assert (second.trained, second.kept, second.failed) == ((), ("rate-0-s0", "rate-0.5-s0"), {})
    assert content(tmp_path / "out/runs/rate-0-s0") == before
    assert read_meta(tmp_path / "out/interrupted/rate-0.5-s0.interrupted-1")["steps"] == 1
    assert second.remarks[0] == "Runs of one seed began with the same weights in all conditions."


def test_ctrl_c_closes_the_run_under_way_begins_no_other_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", PROGRAM, f"{TRAINS}:waits", "--over", "rate=0,.5", "--seeds", "1",
               "--processes", "1", "--out", str(out)]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        wait_until(lambda: list(out.glob("runs/*.waiting")), "the first one trains")
        under_way = trainings(out)
        parent.send_signal(signal.SIGINT)
        _, error = parent.communicate()
    assert parent.returncode == 130
    assert f"finished runs are kept, and the same command goes on from {out}" in error
    assert len(under_way) == 1
    assert are_gone(under_way)
    assert {path.name: read_meta(path)["state"] for path in out.glob("runs/*-s0")} == {"rate-0-s0": "interrupted"}
    assert json.loads((out / "sweep.json").read_text())["axes"] == {"rate": [0, 0.5]}
