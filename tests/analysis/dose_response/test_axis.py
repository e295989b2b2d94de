"""Which dose a run has: by its config, else by its condition's name, and never by a guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dropdiag.analysis.dose_response.axis import axis_of
from dropdiag.errors import ArgumentError
from dropdiag.store.reader import Runs, load
from dropdiag.store.writer import RunWriter


def made(folder: Path, *configs: dict[str, Any]) -> Runs:
    for i, config in enumerate(configs):
        RunWriter(folder / f"r{i}", {"config": config, "versions": {}, "layers": [], "activations": {}}).close(
            "completed"
        )
    return load([folder / f"r{i}" for i in range(len(configs))])


def named(folder: Path, *conditions: str) -> Runs:
    return made(folder, *({"condition": name, "seed": seed} for name in conditions for seed in (0, 1)))


def test_the_dose_is_what_the_config_says_whatever_the_condition_is_called(tmp_path: Path) -> None:
    runs = made(
        tmp_path,
        {"condition": "rate=9", "rate": 0.5, "seed": 0},
        {"condition": "b", "rate": 0, "seed": 0},
        {"condition": "c", "rate": "0.25", "seed": 0},
    )
    axis = axis_of(runs)
    assert axis.values == {"r0": 0.5, "r1": 0.0, "r2": 0.25}
    assert axis.doses == (0.0, 0.25, 0.5)
    assert axis.left_out == {}
    assert axis.shown(0.25) == "rate=0.25"


@pytest.mark.parametrize(
    ("value", "said"),
    [("high", "'high'"), (True, "True"), (None, "None"), ("1e999", "'1e999'"), ("lr=0.1", "'lr=0.1'")],
)
def test_what_is_no_number_is_left_out_and_named(tmp_path: Path, value: Any, said: str) -> None:
    told = {"condition": "x", "seed": 0}
    runs = made(tmp_path, {**told, "rate": 0.0}, {**told, "rate": 0.1}, {**told, "rate": value}, told)
    axis = axis_of(runs)
    assert axis.doses == (0.0, 0.1)
    assert axis.left_out["r2"] == f"'rate' is {said}, no finite number"
    assert axis.left_out["r3"] == "no 'rate' in its config"


def test_a_run_without_a_seed_belongs_to_no_block(tmp_path: Path) -> None:
    runs = made(tmp_path, *({"condition": "x", "rate": rate, "seed": 3} for rate in (0.0, 0.1)),
                {"condition": "x", "rate": 0.2})  # fmt: skip
    assert axis_of(runs).left_out == {"r2": "no seed in its config, so that it belongs to no block"}


@pytest.mark.parametrize(
    ("conditions", "doses"),
    [
        (["0", "0.1", ".5"], (0.0, 0.1, 0.5)),
        (["rate=0.0", "rate=0.5"], (0.0, 0.5)),
        (["p: .2", "p: .1"], (0.1, 0.2)),
        (["dropout 10 %", "dropout 25 %"], (0.1, 0.25)),
    ],
)
def test_names_that_are_numbers_of_this_kind_are_doses(
    tmp_path: Path, conditions: list[str], doses: tuple[float, ...]
) -> None:
    assert axis_of(named(tmp_path, *conditions)).doses == doses


def test_names_of_another_kind_are_not(tmp_path: Path) -> None:
    runs = named(tmp_path, "0", "0.1", "lr=0.3", "keep=0.9", "Dropout")
    axis = axis_of(runs)
    assert axis.doses == (0.0, 0.1)
    assert sorted(axis.left_out) == [f"r{i}" for i in range(4, 10)]
    assert "is a number of 'lr'" in axis.left_out["r4"]
    assert "is no number" in axis.left_out["r8"]
    assert axis_of(named(tmp_path / "lr", "lr=0.1", "lr=0.3"), "lr").doses == (0.1, 0.3)


def test_fewer_than_two_doses_are_refused_with_what_was_left_out(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"needs 2 doses or more, and no run has one.*x='rate' is in no run's conf"):
        axis_of(named(tmp_path / "a", "Dropout", "GAAF"))
    with pytest.raises(ArgumentError, match=r"there is 0.1 alone; load runs of several doses\."):
        axis_of(made(tmp_path / "b", {"condition": "x", "rate": 0.1, "seed": 0}))


def test_two_runs_of_one_dose_and_seed_are_refused(tmp_path: Path) -> None:
    lrs = [
        {"condition": f"rate={rate}, lr={lr}", "rate": rate, "lr": lr, "seed": 0} for rate in (0, 1) for lr in (1, 2)
    ]
    with pytest.raises(ArgumentError, match=r"r0, r1 all have rate=0 and seed 0 .*'rate=0, lr=1', 'rate=0, lr=2'"):
        axis_of(made(tmp_path, *lrs))


def test_values_are_arranged_by_seed_and_dose(tmp_path: Path) -> None:
    runs = made(tmp_path, *({"condition": "x", "rate": rate, "seed": seed} for seed in (4, 2) for rate in (0.5, 0.1)),
                {"condition": "x", "rate": 0.5, "seed": 9})  # fmt: skip
    found = axis_of(runs).blocks({"r0": 1.0, "r1": 2.0, "r2": 3.0, "r3": np.inf, "r4": 5.0})
    np.testing.assert_array_equal(found.table, [[np.inf, 3.0], [2.0, 1.0], [np.nan, 5.0]])
    assert found.seeds == (2, 4, 9)
    assert found.missing == {2: (0.1,), 9: (0.1,)}
