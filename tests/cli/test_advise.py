from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from dropdiag.cli.advise import advise
from tests.analysis.advice.folders import write_sweep

APP = typer.Typer()
APP.command()(advise)


def call(*arguments) -> tuple[int, str, str]:
    result = CliRunner().invoke(APP, [str(one) for one in arguments], env={"COLUMNS": "80", "NO_COLOR": "1"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("sweep"), {0.0: 0.9, 0.1: 0.9, 0.5: 0.8}, range(3))


def test_the_sentence_comes_first_and_all_fits_in_80_columns(sweep):
    code, out, err = call(sweep)
    assert (code, err) == (0, "")
    assert out.startswith("Of the rates 0, 0.1 and 0.5, those that cannot be told from the best on")
    assert max(map(len, out.splitlines())) <= 80
    for head in ("What was found", "What to try next", "Not measured"):
        assert head in out


def test_json_and_a_page(sweep, tmp_path):
    code, out, _ = call(sweep, "--json", "--alpha", "0.1", "--scalar", "loss", "--out", tmp_path / "advice.html")
    found = json.loads(out)
    assert code == 0
    assert (found["alpha"], found["chosen_on"]) == (0.1, "validation/loss")
    assert found["page"] == str(tmp_path / "advice.html")
    assert found["sentence"] in (tmp_path / "advice.html").read_text(encoding="utf-8").replace("&#39;", "'")


def test_what_is_left_out_is_named_and_the_code_is_1(tmp_path):
    code, out, err = call(write_sweep(tmp_path, {0.0: 0.9, 0.1: 0.9, 0.5: 0.8}, range(3), diverged={(0.5, 0)}))
    assert code == 1
    assert "note: 'rate=0.5' is left out: training diverged in 1 of its runs." in err
    assert "diverged at rate 0.5 (1 run), which is not advised" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--alpha", "2"], "alpha must lie between 0 and 1"), (["--x", "lr"], "in no run's config"),
     (["--scalar", "f1"], "no held-out scalar 'f1'")],
)  # fmt: skip
def test_wrong_input_is_code_2_and_writes_nothing(sweep, tmp_path, arguments, said):
    code, out, err = call(sweep, *arguments, "--out", tmp_path / "advice.html")
    assert (code, out) == (2, "")
    assert said in err
    assert not (tmp_path / "advice.html").exists()
