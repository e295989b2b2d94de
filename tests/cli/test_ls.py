from __future__ import annotations

import json
import time

import pytest

from .conftest import call


def names(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines()[2:]]


def test_a_row_a_run(runs):
    code, out, err = call("ls", runs)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["name", "condition", "seed", "steps", "state", "size", "when"]
    assert names(out) == ["dropout-s0", "dropout-s1", "no-dropout-s0", "no-dropout-s1"]
    assert "No dropout     1     50  completed" in out
    assert max(map(len, out.splitlines())) <= 80


def test_sorted_and_the_other_way_round(runs):
    assert names(call("ls", runs, "--sort", "steps")[1])[-2:] == ["dropout-s1", "no-dropout-s1"]
    assert names(call("ls", runs, "--sort", "steps", "--reverse")[1])[:2] == ["dropout-s1", "no-dropout-s1"]
    code, _, err = call("ls", runs, "--sort", "lr")
    assert code == 2
    assert err == "error: no run has 'lr'; there are name, condition, seed, steps, state, size, when, ranks\n"


def test_filtered_by_config_and_column(runs):
    chosen = call("ls", runs, "--where", "condition=Dropout", "--where", "seed=1")[1]
    assert names(chosen) == ["dropout-s1"]
    code, out, err = call("ls", runs, "--where", "state=failed")
    assert (code, out, err) == (0, "", f"no run with that below {runs}\n")
    code, _, err = call("ls", runs, "--where", "seed")
    assert (code, err) == (2, "error: --where takes KEY=VALUE, as in condition=Dropout, got 'seed'\n")
    code, _, err = call("ls", runs, "--where", "rate=0.5")
    assert code == 2
    assert "no run has 'rate'" in err


def test_what_cannot_be_read_is_named_with_its_reason(runs):
    (runs / "dropout-s1" / "run.json").write_text('{"format": "other"}')
    (runs / "no-dropout-s0" / "run.json").write_text("{")
    code, out, err = call("ls", runs)
    assert code == 1
    assert names(out) == ["dropout-s0", "no-dropout-s1"]
    first, second = err.splitlines()
    assert first.startswith("unreadable: ")
    assert "dropout-s1/run.json is not that of a dropdiag run: its format is 'other'" in first
    assert "no-dropout-s0/run.json cannot be read" in second
    code, out, _ = call("ls", runs, "--json")
    assert code == 1
    found = json.loads(out)
    assert [run["name"] for run in found["runs"]] == ["dropout-s0", "no-dropout-s1"]
    assert [one["name"] for one in found["unreadable"]] == ["dropout-s1", "no-dropout-s0"]


def test_json(runs):
    code, out, _ = call("ls", runs, "--json", "--where", "condition=No dropout")
    found = json.loads(out)["runs"]
    assert code == 0
    assert [(run["name"], run["seed"], run["steps"], run["state"]) for run in found] == [
        ("no-dropout-s0", 0, 40, "completed"), ("no-dropout-s1", 1, 50, "completed"),
    ]  # fmt: skip
    assert found[0]["config"] == {"condition": "No dropout", "seed": 0}
    assert found[0]["size"] == sum(p.stat().st_size for p in (runs / "no-dropout-s0").rglob("*") if p.is_file())


def test_a_run_itself_nothing_and_no_folder(runs, tmp_path):
    assert names(call("ls", runs / "dropout-s0")[1]) == ["dropout-s0"]
    (tmp_path / "empty").mkdir()
    assert call("ls", tmp_path / "empty") == (0, "", f"no run below {tmp_path / 'empty'}\n")
    code, _, err = call("ls", tmp_path / "nowhere")
    assert (code, err) == (2, f"error: {tmp_path / 'nowhere'} is no folder; give one with run folders in it\n")


@pytest.mark.parametrize("count", [1000])
def test_a_thousand_runs_take_seconds(runs, tmp_path, count):
    text = (runs / "dropout-s0" / "run.json").read_text()
    for i in range(count):
        folder = tmp_path / "many" / f"run-{i:04d}"
        (folder / "rank-0").mkdir(parents=True)
        (folder / "run.json").write_text(text)
    begin = time.perf_counter()
    code, out, _ = call("ls", tmp_path / "many", "--json")
    assert time.perf_counter() - begin < 20.0, "a bound that a slow machine keeps too"
    assert code == 0
    assert len(json.loads(out)["runs"]) == count
