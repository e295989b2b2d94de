"""``dropdiag sweep``: what is asked for, what is printed, exit codes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dropdiag.cli.sweep import sweep
from dropdiag.store.reader import load

TRAINS = Path(__file__).parents[1] / "experiments" / "sweep" / "trains.py"


def call(*arguments) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(sweep)
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", result.stdout), result.stderr


def test_what_comes_out_is_the_table_the_remarks_and_what_is_next(tmp_path):
    code, said, error = call(
        f"{TRAINS}:for_epochs", "--over", "rate=0,.5", "--set", "epochs=3", "--seeds", "2,5", "--engine", "here",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0
    lines = said.splitlines()
    assert lines[0].split() == ["condition", "seeds", "eval", "accuracy"]
    made = load(tmp_path / "out" / "runs")
    for line, condition in zip(lines[2:4], ("rate=0", "rate=0.5"), strict=True):
        found = made.select("accuracy", condition=condition)["value"]
        assert line.split() == [condition, "2", f"{found.mean():.4g}", f"±{found.std():.2g}"]
    assert "Runs of one seed began with the same weights in all conditions." in lines
    assert lines[-1] == f"next:  dropdiag advise {tmp_path / 'out'}"
    assert "[4/4] rate-0.5-s5 done" in error


def test_what_failed_is_named_and_the_code_is_one(tmp_path):
    code, said, error = call(
        f"{TRAINS}:fails", "--over", "rate=0,.5", "--seeds", 1, "--engine", "here", "--out", tmp_path / "out"
    )
    assert code == 1
    assert "failed: rate-0.5-s0: ValueError: too large" in error
    assert f"what they wrote: {tmp_path / 'out' / 'launches'}" in error
    assert said.splitlines()[2].startswith("rate=0 ")


@pytest.mark.parametrize(("arguments", "message"), [
    (("nowhere.py:train", "--over", "rate=0"), "there is no file"),
    ((f"{TRAINS}:well", "--over", "rate"), "NAME=VALUE,VALUE, as rate=0,.1,.3; got 'rate'"),
    ((f"{TRAINS}:well", "--over", "rate=0", "--over", "rate=1"), "'rate' is given twice"),
    ((f"{TRAINS}:well", "--over", "rate=0", "--set", "epochs"), "a setting is given as NAME=VALUE, as epochs=20, of one value; got 'epochs'"),
    ((f"{TRAINS}:well", "--over", "rate=0", "--set", "epochs=1,2"), "of one value; got 'epochs=1,2'"),
    ((f"{TRAINS}:well", "--over", "rate=0", "--seeds", "few"), "takes their number"),
    ((f"{TRAINS}:well", "--over", "rate=0", "--early-stop", "accuracy"), "needs the whole budget as a setting"),
    ((f"{TRAINS}:well", "--over", "rate=0", "--least", 2), "least= is the first budget of screening; give early_stop="),
    ((f"{TRAINS}:well", "--over", "rate=0", "--early-stop", "loss", "--print-plan"), "no plan is known before"),
])  # fmt: skip
def test_wrong_input_is_one_line_and_nothing_is_written(tmp_path, arguments, message):
    code, said, error = call(*arguments, "--out", tmp_path / "out")
    assert (code, said) == (2, "")
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_plan_is_printed_and_nothing_else(tmp_path):
    code, said, error = call(
        f"{TRAINS}:well", "--over", "rate=0,.5", "--seeds", 2, "--print-plan", "--out", tmp_path / "o u t"
    )
    assert (code, error) == (0, "")
    commands = [shlex.split(line) for line in said.splitlines()]
    assert [command[command.index("--name") + 1] for command in commands] == [
        "rate-0-s0", "rate-0.5-s0", "rate-0-s1", "rate-0.5-s1",
    ]  # fmt: skip
    assert not (tmp_path / "o u t").exists()
