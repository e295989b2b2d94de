"""What a sweep makes of a user's function: runs with their config, kept, extended, or refused."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
import torch

import dropdiag as dd
from dropdiag.errors import ArgumentError, RunError
from dropdiag.experiments.sweep.sweep import commands, sweep
from dropdiag.store.folder import read_meta

from . import trains
from .conftest import TRAINS, content


def test_runs_are_recorded_with_their_config_and_read_as_conditions(swept, tmp_path):
    made = swept("well", seeds=[3, 1])
    assert made.trained == ("rate-0-s3", "rate-0.5-s3", "rate-0-s1", "rate-0.5-s1")
    assert (made.failed, made.kept, made.stopped) == ({}, (), {})
    runs = dd.load(str(tmp_path / "out/runs/*"))
    assert runs.conditions == ["rate=0", "rate=0.5"]
    configs = {run.name: run.meta["config"] for run in runs}
    assert {key: configs["rate-0.5-s3"][key] for key in ("condition", "seed", "rate")} == {
        "condition": "rate=0.5",
        "seed": 3,
        "rate": 0.5,
    }
    assert [(run.condition, run.seed) for run in made.runs()] == [
        ("rate=0", 1), ("rate=0", 3), ("rate=0.5", 1), ("rate=0.5", 3),
    ]  # fmt: skip
    assert configs["rate-0-s1"]["sweep"].startswith("trains.py:well, sha256 ")


def test_a_run_is_that_of_the_function_alone_after_the_same_seed(swept, tmp_path):
    swept("well", {"rate": [0.5]})
    torch.manual_seed(0)
    trains.well({"rate": 0.5, "seed": 0}, tmp_path / "alone")
    alone, in_sweep = dd.load(tmp_path / "alone"), dd.load(tmp_path / "out/runs/rate-0.5-s0")
    timed = "not quantity.str.endswith('_seconds')"
    assert alone.scalars.query(timed).equals(in_sweep.scalars.query(timed))
    assert "origin" in in_sweep.meta
    assert "origin" not in alone.meta


def test_numpy_and_random_are_seeded_too_and_the_process_keeps_its_own(swept):
    seen = []

    def train(config, path):
        seen.append((config["seed"], config["rate"], random.random(), np.random.rand(), float(torch.rand(()))))  # noqa: NPY002
        trains.fit(trains.network(config["rate"]), path)

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    swept(train, seeds=2)
    assert states() == before
    draws = {one[:2]: one[2:] for one in seen}
    for seed in (0, 1):
        expected = random.Random(seed).random(), np.random.RandomState(seed).rand()
        for rate in (0, 0.5):
            assert draws[seed, rate][:2] == expected
        assert draws[seed, 0][2] == float(torch.rand((), generator=torch.Generator().manual_seed(seed)))


def test_what_the_user_records_in_the_config_is_kept(swept):
    config = swept("with_config").runs()[1].meta["config"]
    assert (config["width"], config["rate"], config["condition"]) == (6, 0.5, "rate=0.5")


def test_finished_runs_are_kept_untouched(swept, tmp_path):
    swept("well")
    before = content(tmp_path / "out" / "runs")
    again = swept("well")
    assert (again.trained, again.kept) == ((), ("rate-0-s0", "rate-0.5-s0"))
    assert content(tmp_path / "out" / "runs") == before
    assert "Kept, because finished: 2 of 2 runs" in swept.console.file.getvalue()


def test_more_values_and_more_seeds_add_to_what_is_there(swept, tmp_path):
    swept("well", seeds=1)
    before = content(tmp_path / "out" / "runs")
    more = swept("well", {"rate": [0.25]}, seeds=2)
    assert (more.trained, more.kept) == (("rate-0.25-s0", "rate-0.25-s1"), ())
    assert before.items() <= content(tmp_path / "out" / "runs").items()
    assert more.runs().conditions == ["rate=0", "rate=0.25", "rate=0.5"]
    told = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert (told["axes"], told["seeds"], len(told["runs"])) == ({"rate": [0, 0.25, 0.5]}, [0, 1], 4)


@pytest.mark.parametrize(("options", "message"), [
    ({"settings": {"epochs": 3}}, "epochs 2 there, 3 now"),
    ({"settings": None}, "was swept with epochs = 2, which is missing now"),
    ({"over": {"rate": [0], "lr": [1]}}, "rate-0-s0 is 'rate=0', of other axes than rate, lr; choose another out"),
    ({"name": "well"}, r"was trained by trains.py:for_epochs, sha256 \w+, and train now is trains.py:well"),
])  # fmt: skip
def test_runs_that_were_made_otherwise_are_refused_before_anything_is_written(swept, tmp_path, options, message):
    swept("for_epochs", {"rate": [0]}, settings={"epochs": 2})
    before = content(tmp_path / "out")
    options = {"over": {"rate": [0]}, "settings": {"epochs": 2}, "name": "for_epochs", **options}
    with pytest.raises(ArgumentError, match=message):
        swept(options.pop("name"), options.pop("over"), **options)
    assert content(tmp_path / "out") == before


def test_a_changed_file_is_refused_unless_its_runs_are_to_be_kept(swept, tmp_path):
    own = tmp_path / "own.py"
    shutil.copy(TRAINS, own)
    swept(f"{own}:well", {"rate": [0]})
    own.write_text(own.read_text() + "\n# a remark\n")
    with pytest.raises(ArgumentError, match="what was changed may change numbers; choose another out, or where it"):
        swept(f"{own}:well")
    made = swept(f"{own}:well", keep_changed=True)
    assert (made.kept, made.trained) == (("rate-0-s0",), ("rate-0.5-s0",))
    assert "Trained by another state of train's file than the others: rate-0-s0." in made.remarks


def test_a_cell_that_is_run_again_is_the_same_and_one_that_was_changed_is_refused(swept):
    def cell(lines, rate="config['rate']"):
        there = {"trains": trains, "__name__": "__main__"}
        text = "\n" * lines + f"def train(config, path):\n    trains.fit(trains.network({rate}), path)\n"
        exec(compile(text, f"<cell {lines}>", "exec"), there)  # noqa: S102 - as a notebook does
        return there["train"]

    swept(cell(1), {"rate": [0.5]})
    assert swept(cell(7), {"rate": [0.5]}).kept == ("rate-0.5-s0",)
    with pytest.raises(
        ArgumentError, match="was trained by train of one process, sha256 .*, and train now is train of"
    ):
        swept(cell(1, "config['rate'] / 2"), {"rate": [0.5]})


def test_a_run_of_somebody_else_is_refused(swept, tmp_path):
    trains.fit(trains.network(), tmp_path / "out" / "runs" / "mine")
    with pytest.raises(ArgumentError, match="mine is a run that no sweep made; choose another out"):
        swept("well")


@pytest.mark.parametrize(("name", "message"), [
    ("forgets", "RunError: train has recorded nothing: it opened no Recorder at the path that it was given"),
    ("elsewhere", "ArgumentError: train opens a Recorder at {out}/mine, and was given {run}: open it at that path"),
    ("named", "ArgumentError: train opens a Recorder at {run}/auto, and was given {run}"),
    ("several", "ArgumentError: train opens a second Recorder, at {run}"),
    ("left_open", "RunError: the run is running, though train is over: close the Recorder"),
    ("without_steps", "RunError: the run has no step: train must call rec.step() after each training step"),
    ("unread_but_recorded", "RunError: 'rate' was never read by train, so all its values would give the same network"),
    ("clashing", "ArgumentError: the Recorder's config has 'seed' = 99, where the sweep gives 0: leave 'seed' out"),
    ("fails_afterwards", "ValueError: no room for the figure"),
])  # fmt: skip
def test_a_run_that_is_none_fails_and_is_not_kept(swept, tmp_path, name, message):
    out = tmp_path / "out"
    with pytest.raises(RunError, match="every run failed"):
        swept(name, {"rate": [0.5]})
    error = json.loads((out / "sweep.json").read_text())["failed"]["rate-0.5-s0"]
    assert error.startswith(message.format(out=out, run=out / "runs" / "rate-0.5-s0"))
    assert "Traceback" in (out / "launches" / "rate-0.5-s0.log").read_text()
    path = out / "runs" / "rate-0.5-s0"
    assert not path.exists() or read_meta(path)["state"] != "completed"
    for rec in trains.LEFT:
        rec.close()
    trains.LEFT.clear()


def test_where_every_run_failed_an_axis_may_be_called_otherwise(swept):
    with pytest.raises(RunError, match="every run failed .KeyError: 'rate'"):
        swept("for_epochs", {"rates": [0.5]}, settings={"epochs": 1})
    assert swept("well", {"rate": [0.5]}).trained == ("rate-0.5-s0",)


def test_one_that_fails_stops_no_other(swept, tmp_path):
    made = swept("fails", seeds=2)
    assert made.trained == ("rate-0-s0", "rate-0-s1")
    assert made.failed == {"rate-0.5-s0": "ValueError: too large", "rate-0.5-s1": "ValueError: too large"}
    assert made.runs().conditions == ["rate=0"]
    assert made.table[["condition", "seeds"]].values.tolist() == [["rate=0", 2]]


def test_the_table_has_means_over_seeds(swept):
    made = swept("well", seeds=3)
    expected = {}
    for run in made.runs():
        value = run.scalars.query("quantity == 'accuracy'")["value"].iloc[-1]
        expected.setdefault(run.condition, []).append(value)
    table = made.table.set_index("condition")
    for condition, values in expected.items():
        assert table.loc[condition, "eval accuracy"] == pytest.approx(np.mean(values))
        assert table.loc[condition, "eval accuracy sd"] == pytest.approx(np.std(values, ddof=1))
    assert table["rate"].tolist() == [0, 0.5]


def test_a_printed_plan_writes_nothing(tmp_path):
    printed = commands(f"{TRAINS}:well", {"rate": [0, 0.5]}, seeds=2, out=tmp_path / "out")
    assert len(printed) == 4
    assert "--name rate-0.5-s1" in printed[-1]
    assert not (tmp_path / "out").exists()


def test_a_function_that_sweeps_where_it_is_imported_is_told(tmp_path):
    file = tmp_path / "unguarded.py"
    file.write_text(
        "from dropdiag.experiments.sweep.sweep import sweep\n"
        "def train(config, path): pass\n"
        "sweep(train, {'rate': [0]}, out='out')\n"
    )
    from dropdiag.experiments.engines.report import Report
    from dropdiag.experiments.sweep.function import Function
    from dropdiag.experiments.sweep.one import One
    from dropdiag.experiments.sweep.training import train_one

    function = Function.named(f"{file}:train")
    config = {"condition": "rate=0", "seed": 0, "rate": 0, "sweep": function.described}
    with pytest.raises(ArgumentError, match="put the call there under `if __name__ == '__main__':`"):
        train_one(One(tmp_path / "out", "rate-0-s0", config, function.text), Report(None))
    file.write_text(file.read_text() + "\n")
    with pytest.raises(ArgumentError, match="the run was planned with unguarded.py:train, sha256 .* plan it anew"):
        train_one(One(tmp_path / "out", "rate-0-s0", config, function.text), Report(None))


@pytest.mark.parametrize(("options", "message"), [
    ({"seeds": 0}, "seeds= takes their number"),
    ({"seeds": [1, 1]}, "each once"),
    ({"processes": 0}, "processes must be at least 1"),
    ({"over": {}}, "over= has no axis"),
    ({"over": {"dropout:*": [1.0]}}, r"a dropout rate is a number in \[0, 1\)"),
    ({"over": {"early:*": [0.1]}}, "'early:\\*' is no axis that changes dropouts"),
    ({"settings": {"rate": 1}}, "settings= has 'rate', an axis"),
    ({"engine": "nowhere"}, "unknown engine 'nowhere'"),
    ({"engine": "here", "processes": 2}, "one run after the other, got processes=2"),
])  # fmt: skip
def test_what_cannot_be_used_is_an_error_at_once(tmp_path, options, message):
    options = {"over": {"rate": [0]}, "out": tmp_path / "out", **options}
    with pytest.raises(ArgumentError, match=message):
        sweep(f"{TRAINS}:well", options.pop("over"), **options)
    assert not (tmp_path / "out").exists()
