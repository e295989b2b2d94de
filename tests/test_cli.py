from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
from typer.testing import CliRunner

from dropdiag.cli import app, program
from dropdiag.experiments import reproduce as module
from dropdiag.experiments.mnist.train import train

from .experiments.conftest import here, quick_figures, train_with, write_mnist
from .synthetic import content, write

__all__ = ["here", "quick_figures", "train_with"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.delenv("DROPDIAG_DATA", raising=False)
    return write_mnist(tmp_path / "tiny")


def call(*arguments) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160", "NO_COLOR": "1"})
    return result.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", result.stdout), result.stderr


def test_version(monkeypatch):
    monkeypatch.setattr(program, "version", lambda name: f"1.2.3 of {name}")
    assert call("--version") == (0, "dropdiag 1.2.3 of dropdiag\n", "")


def test_version_of_a_bare_checkout(monkeypatch):
    def nothing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(program, "version", nothing)
    assert call("--version") == (0, "dropdiag, not installed as a package: its version is unknown\n", "")


def test_without_a_command_it_helps():
    _, out, err = call()
    assert "reproduce" in out + err


def test_help_teaches_with_examples():
    code, out, _ = call("reproduce", "--help")
    assert code == 0
    options = (
        "--data",
        "--seeds",
        "--epochs",
        "--optimizer",
        "--conditions",
        "--jobs",
        "--out",
        "--lr",
        "--every",
    )
    assert all(option in out for option in options)
    assert "dropdiag reproduce --seeds 2 --epochs 5 --out out/quick" in out
    assert "DROPDIAG_DATA" in out


@pytest.mark.usefixtures("quick_figures")
def test_reproduce_says_where_everything_is(data, tmp_path, here):
    out = tmp_path / "out"
    code, said, _ = call(
        "reproduce", "mnist", "--data", data, "--seeds", 1, "--epochs", 1, "--jobs", 1, "--every", 5, "--measurements", 0,
        "--optimizer", "sgd", "--lr", 0.05, "--conditions", "no-dropout", "--conditions", "dropout", "--out", out,
    )  # fmt: skip
    assert code == 0
    assert said == f"report:  {out / 'index.html'}\nfigures: {out / 'figures'}\ntables:  {out / 'tables'}\n"
    assert "SGD at learning rate 0.05" in (out / "index.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["dropout-s0", "no-dropout-s0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--data", "nowhere"],
            "error: no MNIST file in nowhere; looked in nowhere, nowhere/mnist, nowhere/MNIST/raw for train-images",
        ),
        (["--conditions", "dropin"], "error: unknown condition 'dropin'; the conditions are 'No dropout'"),
        (["--lr", "-1"], "error: lr must be positive and finite, got -1.0"),
    ],
)
def test_errors_are_one_line_and_code_2(data, tmp_path, arguments, message):
    code, said, error = call("reproduce", "--out", tmp_path / "out", *arguments)
    assert (code, said) == (2, "")
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_unknown_experiments_and_optimisers_are_refused(tmp_path):
    for arguments in (["cifar"], ["--optimizer", "lion"], ["--seeds", "0"]):
        code, _, error = call("reproduce", "--out", tmp_path / "out", *arguments)
        assert code == 2
        assert " of dropdiag reproduce takes " in error


@pytest.mark.usefixtures("quick_figures")
def test_failed_runs_are_named_and_the_code_is_1(data, tmp_path, here, train_with):
    def fail(settings, *rest):
        if settings.condition == "GAAF":
            raise MemoryError("too large")
        train(settings, *rest)

    train_with(fail)
    code, said, error = call(
        "reproduce",
        "--data",
        data,
        "--seeds",
        1,
        "--epochs",
        1,
        "--jobs",
        1,
        "--measurements",
        0,
        "--out",
        tmp_path / "o",
    )
    assert code == 1
    assert "failed: gaaf-s0: MemoryError: too large" in error
    assert f"what they wrote: {tmp_path / 'o' / 'launches'}" in error
    assert "report:" in said


def test_ctrl_c_says_how_to_go_on(data, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_all", interrupt)
    code, _, error = call("reproduce", "--data", data, "--out", tmp_path / "o")
    assert code == 130
    assert f"finished runs are kept, and the same command goes on from {tmp_path / 'o'}" in error


def test_as_a_process(data, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "dropdiag.cli", "reproduce", "--data", data, "--seeds", "1",
         "--epochs", "1", "--conditions", "gaaf", "--conditions", "dropout", "--jobs", "2", "--measurements", "0",
         "--out", tmp_path / "out"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"report:  {tmp_path / 'out' / 'index.html'}"
    assert "Training 2 runs, 2 at a time" in done.stderr


def test_help_does_not_pay_for_torch():
    code = "import sys, dropdiag.cli; sys.exit(sorted({'torch', 'matplotlib', 'pandas'} & set(sys.modules)) != [])"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_coverage_shows_every_site_of_a_run(tmp_path):
    import dropdiag as dd
    from tests.networks import mlp, train

    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        train(model, 2, rec)
    code, said, _ = call("coverage", tmp_path / "run")
    assert code == 0
    assert "rate 0.5, grain element" in said
    assert said.splitlines()[0].split() == [
        "layer", "call", "kind", "type", "functional", "expected", "fired", "sampled", "skipped", "nodes", "dropout",
        "chain",
    ]  # fmt: skip
    code, said, _ = call("coverage", tmp_path / "run", "--json")
    rows = {row["layer"]: row for row in json.loads(said)}
    assert rows["1"]["fired"] == 2
    code, _, error = call("coverage", tmp_path / "none")
    assert code == 2
    assert "is not a run" in error


def test_catalog_does_nothing_and_says_so(tmp_path):
    write(tmp_path / "run-0", content("Dropout", 0, steps=10, size=20), "Dropout", 0)
    code, out, err = call("catalog", tmp_path)
    assert (code, out) == (0, "1 runs, nothing kept of them\n")
    assert "DeprecationWarning: dropdiag catalog does nothing any more" in err
    assert [path.name for path in tmp_path.iterdir()] == ["run-0"]
    assert call("catalog", tmp_path / "nothing")[0] == 2
