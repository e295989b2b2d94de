"""Seeds of any size and sign, from the Recorder to every place where they are shown."""

import io
import json
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError, RunError
from dropdiag.report.cells import integer
from dropdiag.store.catalog import Catalog
from dropdiag.store.seeds import in_javascript, seed_column, seed_of
from tests.cli.conftest import call
from tests.described import write_meta
from tests.synthetic import content, write

LARGE = 2**63 + 11
ALIKE = (LARGE, LARGE + 1)  # one number, as floats


@pytest.mark.parametrize(("given", "expected"), [
    (0, 0), (-5, -5), (LARGE, LARGE), (2**64 - 1, 2**64 - 1), (10**30, 10**30), ("3", 3), (" -7 ", -7), (3.0, 3),
    (np.int64(4), 4), (np.uint64(LARGE), LARGE), (None, None),
])  # fmt: skip
def test_integers_are_seeds_however_they_come(given, expected):
    assert seed_of({"seed": given}) == expected
    assert seed_of({}) is None


@pytest.mark.parametrize(
    "given", ["one", "", "3.5", 3.5, float("nan"), True, False, np.bool_(True), [1], 10**76, "9" * 5000]
)
def test_what_is_no_integer_is_said(given):
    with pytest.raises(ArgumentError, match="must be an integer, got"):
        seed_of({"seed": given})


@pytest.mark.parametrize(("seeds", "dtype"), [
    ([1, None, -5, 2**63 - 1], "Int64"), ([LARGE, None, 0], "UInt64"), ([None, None], "Int64"), ([], "Int64"),
    ([LARGE, -1, None], "decimal128(38, 0)[pyarrow]"), ([10**40, 1], "decimal256(76, 0)[pyarrow]"),
])  # fmt: skip
def test_a_column_keeps_every_digit_and_goes_everywhere(seeds, dtype):
    frame = pd.DataFrame({"seed": seed_column(seeds), "value": np.arange(len(seeds))})
    assert str(frame["seed"].dtype) == dtype

    def kept(column):
        return [None if pd.isna(one) else int(one) for one in column]

    assert kept(frame["seed"]) == seeds
    assert kept(pd.read_parquet(io.BytesIO(frame.to_parquet()))["seed"]) == seeds
    assert [line.split(",")[0] for line in frame.to_csv(index=False).split()[1:]] == [
        "" if s is None else str(s) for s in seeds
    ]
    known = [seed for seed in seeds if seed is not None]
    assert kept(frame.groupby("seed").size().index) == sorted(known)
    for seed in known:
        assert (frame["seed"] == (Decimal(seed) if "decimal" in dtype else seed)).fillna(False).sum() == 1


def test_javascript_has_no_room_beyond_53_bits():
    assert in_javascript(2**53) == 2**53
    assert in_javascript(-(2**53) - 1) == str(-(2**53) - 1)
    assert integer(LARGE).value == str(LARGE)
    assert re.sub(r"\D", "", integer(LARGE).shown) == str(LARGE)


@pytest.fixture
def runs(tmp_path):
    """Two conditions, each with two seeds that are one float."""
    for condition in ("No dropout", "Dropout"):
        for seed in ALIKE:
            write(
                tmp_path / "runs" / f"{condition}-{seed}", content(condition, seed, steps=20, size=200), condition, seed
            )
    return dd.load(str(tmp_path / "runs" / "*"))


def test_large_seeds_stay_apart_wherever_they_are_shown(runs, tmp_path):
    assert sorted(set(runs.select("loss")["seed"])) == list(ALIKE)
    assert sorted(set(next(runs.batches("loss"))["seed"])) == list(ALIKE)
    assert sorted(set(runs.histograms("weight")["seed"])) == list(ALIKE)
    assert sorted(set(Catalog(tmp_path / "runs").table["seed"])) == list(ALIKE)
    assert (dd.compare(runs).table["paired"]).all()
    assert dd.plots.gradient_flow(runs)
    listed = json.loads(call("ls", tmp_path / "runs", "--json", "--sort", "seed")[1])["runs"]
    assert [run["seed"] for run in listed] == sorted(2 * ALIKE)
    assert str(LARGE + 1) in call("ls", tmp_path / "runs", columns=200)[1]
    assert f"seed {LARGE}" in call("show", runs[0].path, columns=200)[1]
    assert str(LARGE) in runs._repr_html_()
    page = dd.report(runs, tmp_path / "report.html").read_text()
    assert f'"seed":"{LARGE + 1}"' in page.replace('": ', '":')


@pytest.mark.parametrize("given", [2**64 - 3, np.int64(-3), np.uint64(LARGE), torch.tensor(7), "12", 5.0])
def test_the_recorder_takes_them(tmp_path, given):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    config = {"seed": given, "lr": np.float32(0.5), "nested": {"rates": [np.float64(0.1), np.int32(2)]}}
    with dd.Recorder(model, tmp_path / "run", config=config):
        pass
    run = dd.load(tmp_path / "run")
    assert run.seed == int(given)
    assert run.meta["config"] == {"seed": int(given), "lr": 0.5, "nested": {"rates": [0.1, 2]}}


def test_a_seed_that_is_none_is_named_with_its_run(tmp_path):
    path = write(tmp_path / "run", content("Dropout", 0, steps=5, size=20), "Dropout", 0)
    meta = json.loads((path / "run.json").read_text())
    meta["config"]["seed"] = "one"
    write_meta((path / "run.json"), meta)
    with pytest.raises(RunError, match="run.json is damaged: config..seed.. must be an integer, got 'one'"):
        dd.load([path]).select("loss")
    assert call("ls", tmp_path)[0] == 1
