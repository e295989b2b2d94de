"""What a shell is offered, asked as bash, zsh and fish ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dropdiag.cli import completion
from tests.synthetic import content, write

SHELLS = "bash", "zsh", "fish"
ROOT = Path(__file__).parents[2]


def program(*arguments, here, **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "dropdiag.cli", *arguments],
        cwd=here,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def asked(shell, line, here):
    """What the program answers to a shell, for a line that ends where Tab is pressed."""
    words = line.split(" ")
    environment = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    found = program(here=here, **environment, **{"_DROPDIAG_COMPLETE": f"complete_{shell}"})
    assert found.stderr == ""
    return found.stdout


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    for name in ("drop-s0", "drop-s1", "base-s0"):
        write(folder / "runs" / name, content(name, 0, layers=2, steps=3), name, 0)
    (folder / "runs" / "drop-$(touch x)").mkdir()
    (folder / "runs" / "drop\x1b[31m").mkdir()
    (folder / "runs" / "drop-more").mkdir()
    (folder / "runs" / ".hidden").mkdir()
    (folder / "rune.txt").write_text("")
    return folder


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_script(shell, here):
    found = program("--show-completion", shell, here=here)
    assert (found.returncode, found.stderr) == (0, "")
    assert "_DROPDIAG_COMPLETE" in found.stdout
    assert f"complete_{shell}" in found.stdout


def test_a_script_is_installed_where_the_shell_reads_it(tmp_path, here):
    found = program("--install-completion", "bash", here=here, HOME=str(tmp_path))
    assert (found.returncode, found.stderr) == (0, "")
    assert "bash completion installed in" in found.stdout
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert str(script) in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("dropdiag co", ["compare", "coverage"], ["show"]),
        ("dropdiag show --la", ["--layer"], ["--phase"]),
        ("dropdiag show ru", ["runs/"], ["rune.txt"]),
        ("dropdiag show runs/dr", ["runs/drop-s0", "runs/drop-s1", "runs/drop-more/"], ["base", "touch", "\x1b"]),
        ("dropdiag compare runs/base-s0 runs/drop-s", ["runs/drop-s0", "runs/drop-s1"], ["base-s0", "drop-more"]),
        ("dropdiag show runs/drop-s0 --layer layer2.", ["layer2.linear", "layer2.activation"], ["layer1"]),
        ("dropdiag plot runs --layer layer1.", ["layer1.linear"], ["layer2"]),
        ("dropdiag plot runs --figure net_", ["net_variance", "net_value"], ["weights"]),
        ("dropdiag export runs/drop-s0 --to t", ["tensorboard"], ["csv"]),
        ("dropdiag show nowhere/x", [], ["runs"]),
        ("dropdiag show nowhere --layer l", [], ["layer"]),
    ],
)
def test_what_is_offered(shell, line, offered, not_offered, here):
    found = asked(shell, line, here)
    for name in offered:
        assert name in found
    for name in not_offered:
        assert name not in found


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_itself_completes(here, tmp_path):
    """The script, in a real bash, with a program of its name on the path."""
    (tmp_path / "dropdiag").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dropdiag.cli "$@"\n')
    (tmp_path / "dropdiag").chmod(0o755)
    script = program("--show-completion", "bash", here=here).stdout.replace("dropdiag.cli", "dropdiag")
    name = next(line.split("-F ")[1].split()[0] for line in script.splitlines() if "complete -o" in line)
    lines = f'{script}\nCOMP_WORDS=(dropdiag show runs/drop-s); COMP_CWORD=2\n{name} dropdiag\nprintf "%s\\n" "${{COMPREPLY[@]}}"\n'
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(["bash", "-c", lines], cwd=here, env=env, capture_output=True, text=True, check=False)
    assert (found.stdout.split(), found.stderr) == (["runs/drop-s0", "runs/drop-s1"], "")


def test_patterns_of_conditions_and_the_home_folder(here, monkeypatch):
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    assert completion.run_folders("Dropout=runs/drop-s") == ["Dropout=runs/drop-s0", "Dropout=runs/drop-s1"]
    assert completion.run_folders("~/runs/base") == ["~/runs/base-s0"]
    assert completion.run_folders("runs/.h") == ["runs/.hidden/"]
    assert ".hidden" not in str(completion.run_folders("runs/"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"layers": 3}', '{"layers": [1, {"layer": null}]}', "[" * 100_000]
)
def test_a_run_that_is_damaged_offers_nothing(tmp_path, text):
    (tmp_path / "run.json").write_text(text)

    class Line:
        params = {"run": tmp_path}  # noqa: RUF012

    assert completion.layers(Line(), "l") == []
    assert json.dumps(completion.run_folders(str(tmp_path)))
