"""What a message says to users of Python is said in the terms of the command that is running."""

from __future__ import annotations

import json

import pytest
import typer

from dropdiag.cli.common import clear_errors, tell
from dropdiag.cli.words import Command, in_shell_terms, running
from dropdiag.errors import ArgumentError
from tests.described import write_meta

from .conftest import call


@pytest.fixture
def command():
    """A command with options, one of which is called otherwise than its argument."""
    made = Command.of("dropdiag compare", [
        ("runs", ["runs"]), ("baseline", ["--baseline"]), ("phase", ["--phase"]), ("as_json", ["--json"]),
        ("layer", ["--layer", "-l"]), ("batch_size", ["--batch-size"]),
    ])  # fmt: skip
    token = running.set(made)
    yield made
    running.reset(token)


@pytest.mark.parametrize(("said", "expected"), [
    ("choose one with phase=", "choose one with --phase"),
    ("choose one with phase=.", "choose one with --phase."),
    ("name it: baseline='No dropout', or", "name it: --baseline 'No dropout', or"),
    ('name it: baseline="it\'s"', "name it: --baseline 'it'\"'\"'s'"),
    ("baseline='A' and phase='eval'", "--baseline A and --phase eval"),
    ("batch_size=128, layers=['a']", "--batch-size 128, --layer['a']"),
    ("match= says which", "match= says which"),
    ("no run of 'phase=eval' in runs/phase=eval", "no run of 'phase=eval' in runs/phase=eval"),
    ("'baseline=3, phase=x' may be 'the one'; name it: baseline='phase=x'", "'baseline=3, phase=x' may be 'the one'; name it: --baseline phase=x"),
    ("it doesn't say phase= and 'a' doesn't", "it doesn't say --phase and 'a' doesn't"),
    ("as in compare({\"No dropout\": \"runs/base-*\", \"B\": \"b\"}).", 'as in dropdiag compare "No dropout=runs/base-*" "B=b".'),
    ("compare({1, 2}) is none", "compare({1, 2}) is none"),
])  # fmt: skip
def test_arguments_become_options(command, said, expected):
    assert in_shell_terms(said) == expected


def test_where_no_command_runs_nothing_changes(capsys):
    with pytest.raises(typer.Exit), clear_errors():
        raise ArgumentError("choose one with phase=")
    assert capsys.readouterr().err == "error: choose one with phase=\n"


def test_problems_are_put_so_as_well(command, capsys):
    tell(["left out; choose with phase="], "left out")
    assert capsys.readouterr().err == "left out: left out; choose with --phase\n"


def test_the_command_that_runs_is_known_and_forgotten(runs, tmp_path):
    (runs.parent / "plain").mkdir()
    for path in list(runs.iterdir()):
        meta = path / "run.json"
        write_meta(meta, json.loads(meta.read_text().replace("No dropout", "B").replace("Dropout", "A")))
    for command in (["compare", runs], ["report", runs, "--out", tmp_path / "report.html"]):
        code, _, err = call(*command)
        if command[0] == "compare":
            assert code == 2
            assert "name it: --baseline A" in err
            assert "baseline=" not in err
    code, _, err = call("compare", f"A={runs}/dropout-*")
    assert 'as in dropdiag compare "No dropout=runs/base-*" "Dropout=runs/drop-*".' in err
    assert running.get() is None
