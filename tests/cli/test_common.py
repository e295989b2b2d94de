from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import typer

from dropdiag.cli.common import check_file, check_folder, clear_errors, echo_json, groups
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError, warned

from .conftest import call


def test_groups_name_conditions():
    assert groups(["A=runs/a-*", "B=runs/b-*", "A=more/a-*"]) == {"A": ["runs/a-*", "more/a-*"], "B": ["runs/b-*"]}
    assert groups(["No dropout = x=1"]) == {"No dropout": [" x=1"]}


def test_paths_have_no_name(tmp_path, monkeypatch):
    assert groups(["runs/lr=0.1-s0", "runs/b"]) == ["runs/lr=0.1-s0", "runs/b"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1").mkdir()
    assert groups(["lr=0.1"]) == ["lr=0.1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A=x", "y"], "'y' has no condition and others have; name all of them"),
        (["=x"], "'=x' is no NAME=PATTERN"),
        (["A="], "'A=' is no NAME=PATTERN"),
    ],
)
def test_wrong_groups(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        groups(arguments)


def test_json_is_strict(capsys):
    frame = pd.DataFrame({"x": [1.5, np.nan], "n": pd.array([1, None], "Int64")})
    echo_json({"a": np.float64("inf"), "b": np.arange(2), 3: frame.to_dict("records"), "p": True})
    assert json.loads(capsys.readouterr().out) == {
        "a": None, "b": [0, 1], "3": [{"x": 1.5, "n": 1}, {"x": None, "n": None}], "p": True,
    }  # fmt: skip


def test_errors_are_one_line(capsys):
    with pytest.raises(typer.Exit) as caught, clear_errors():
        raise RunError("first\n  second")
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == "error: first second\n"


@pytest.mark.parametrize("where", ["file/report.html", "file", "/proc/nowhere/report.html"])
@pytest.mark.parametrize("command", ["compare", "report", "plot", "export", "reproduce"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, monkeypatch, command, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    if where == "file":
        if command in ("compare", "report"):
            return  # a file is replaced
        where = "file/below"
    options = {"export": ["nothing", "--to", "csv"], "reproduce": ["mnist", "--epochs", "1"]}.get(command, ["nothing"])
    code, out, err = call(command, *options, "--out", where)
    assert (code, out) == (2, "")
    assert "cannot be made" in err
    assert "choose another place for --out" in err, "and not that there is no run called 'nothing'"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_folder_is_no_file_to_write(tmp_path):
    for command in ("compare", "report"):
        code, _, err = call(command, "nothing", "--out", tmp_path)
        assert code == 2
        assert f"{tmp_path} is a folder; give the file to write" in err


def test_where_a_file_can_be_made_nothing_is_left(tmp_path):
    assert check_file(tmp_path / "new" / "er" / "report.html") == tmp_path / "new" / "er" / "report.html"
    assert check_folder(tmp_path / "new") == tmp_path / "new"
    assert list(tmp_path.iterdir()) == []


def test_a_command_of_one_run_takes_a_folder_with_one(runs):
    assert call("show", runs)[0] == 2
    assert "stands for 4 runs and this command takes one: " in call("coverage", runs)[2]
    assert call("show", f"{runs}/dropout-s0*")[0] == 0
    assert "did you mean" in call("show", f"{runs}/dropuot-s0")[2]


def test_ctrl_c_is_130(capsys):
    with pytest.raises(typer.Exit) as caught, clear_errors():
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_own_warnings_are_gathered_and_others_pass():
    with pytest.warns(UserWarning, match="else"), warned() as sentences:
        warnings.warn("ours", DropdiagWarning, stacklevel=1)
        warnings.warn("else", UserWarning, stacklevel=1)
    assert sentences == ["ours"]


@pytest.mark.parametrize(
    "command", ["reproduce", "ls", "show", "coverage", "compare", "report", "plot", "watch", "export", "catalog"]
)
def test_every_command_teaches(command):
    code, out, _ = call(command, "--help", columns=160)
    assert code == 0
    assert "Example" in out
    assert f"dropdiag {command}" in out


def test_the_program_explains_its_exit_codes():
    out = " ".join(call("--help", columns=160)[1].split())
    assert "Exit codes: 0 all is well; 1 done in part" in out


@pytest.mark.parametrize("command", ["show", "compare", "plot", "watch", "export", "ls"])
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys\nfrom dropdiag.cli import app\n"
        f"try: app([{command!r}, '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(sorted({'torch', 'matplotlib', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules)) != [])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
