"""A catalog opens runs below a folder as `load` does, and keeps no files."""

import json

import pandas as pd
import pytest

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store.catalog import Catalog
from dropdiag.store.reader import load
from tests.described import write_meta
from tests.synthetic import content, write

CONDITIONS = {"Base": "base-*", "Drop": ["drop-*"]}


@pytest.fixture
def root(tmp_path):
    for name in ("base", "drop"):
        for seed in (0, 1, 2):
            made = content("Dropout", seed, steps=20, size=50)
            write(tmp_path / f"{name}-{seed}", made, "Dropout", seed)
    return tmp_path


def test_it_opens_what_load_opens(root):
    folders = load({"Base": str(root / "base-*"), "Drop": str(root / "drop-*")})
    runs = Catalog(root).runs(CONDITIONS)
    assert (runs.conditions, runs.ordered) == (["Base", "Drop"], True)
    pd.testing.assert_frame_equal(runs.scalars, folders.scalars, check_exact=True)
    assert runs.histograms("weight").equals(folders.histograms("weight"))


def test_runs_at_any_depth_are_found_and_a_pattern_does_not_cross_a_folder(root):
    write(root / "deep" / "base-9", content("GAAF", 9, steps=5, size=20), "GAAF", 9)
    assert [run.name for run in Catalog(root).runs()][3] == "base-9"
    assert len(Catalog(root).runs({"Base": "base-*"})) == 3
    assert len(Catalog(root).runs({"Deep": "deep/*"})) == 1


def test_a_catalog_of_an_earlier_version_is_neither_read_nor_touched(root):
    (root / ".catalog").mkdir()
    (root / ".catalog" / "index.parquet").write_bytes(b"old")
    assert len(Catalog(root).runs()) == 6
    with pytest.warns(DeprecationWarning, match="does nothing any more"):
        assert Catalog(root).update().read == 6
    assert [p.read_bytes() for p in (root / ".catalog").iterdir()] == [b"old"]


def test_runs_that_cannot_be_read_are_named_and_left_out(root):
    (root / "drop-0" / "run.json").write_text("{")
    meta = json.loads((root / "drop-1" / "run.json").read_text())
    del meta["layers"]
    write_meta((root / "drop-1" / "run.json"), meta)
    with pytest.warns(DropdiagWarning) as said:
        runs = Catalog(root).runs()
    assert len(runs) == 4
    texts = [str(w.message) for w in said]
    assert any("drop-0/run.json cannot be read" in text for text in texts)
    assert any("drop-1/run.json is damaged" in text for text in texts)


def test_a_condition_of_0_is_not_lost(tmp_path):
    for rate in (0, 0.5):
        write(tmp_path / f"rate-{rate}", content("Dropout", 0, steps=5, size=20), rate, 0)
    assert sorted(Catalog(tmp_path).runs().conditions) == ["0", "0.5"]
    assert Catalog(tmp_path).runs({0: "rate-0", "half": "rate-0.5"}).conditions == ["0", "half"]


def test_conditions_from_the_config_and_some_of_the_runs(root):
    catalog = Catalog(root)
    assert catalog.runs("seed").conditions == ["seed=0", "seed=1", "seed=2"]
    assert [run.seed for run in catalog.runs(where={"seed": [0, 2]})] == [0, 2, 0, 2]
    assert catalog.table["path"].tolist() == ["base-0", "base-1", "base-2", "drop-0", "drop-1", "drop-2"]
    assert catalog.table["seed"].dtype == "Int64"
    with pytest.raises(ArgumentError, match="no run's config has 'lr'; there are 'condition', 'seed'"):
        catalog.runs("lr")
    with pytest.raises(ArgumentError, match="base-0 is given as 'A' and as 'B'"):
        catalog.runs({"A": "base-*", "B": "*-0"})
    with pytest.raises(RunError, match="no run of the catalog matches 'x-\\*'"):
        catalog.runs({"A": "x-*"})
    with pytest.raises(RunError, match="is left with where="):
        catalog.runs(where={"seed": 77})


def test_what_is_no_folder_of_runs_is_refused(root):
    with pytest.raises(RunError, match="is no folder"):
        Catalog(root / "nothing")
    with pytest.raises(RunError, match="is a run itself; give the folder above"):
        Catalog(root / "base-0")
