from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq

from .conftest import call

FILES = [
    "views.sql",
    *(f"{name}.parquet" for name in ("bins", "runs", "sites", "activations", "saturation", "segments")),
]


def test_files_and_conditions(runs, tmp_path):
    out = tmp_path / "sql"
    code, said, err = call("sql", f"Base={runs}/no-dropout-*", f"Drop={runs}/dropout-*", "--out", out)
    assert (code, err) == (0, "")
    assert said == "".join(f"wrote {out / name}\n" for name in FILES)
    table = pq.read_table(out / "runs.parquet").to_pandas()
    assert table["condition"].tolist() == ["Base", "Base", "Drop", "Drop"]
    assert table["seed"].tolist() == [0, 1, 0, 1]
    code, _, err = call("sql", runs, "--out", out)
    assert (code, err) == (2, f"error: {out} is not empty, and nothing is ever overwritten; choose another folder\n")


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_there(runs, tmp_path):
    (runs / "dropout-s0" / "run.json").write_text("{")
    code, said, err = call("sql", runs, "--out", tmp_path / "sql", "--json")
    assert code == 1
    assert err.startswith("left out: ")
    assert "dropout-s0" in err
    document = json.loads(said)
    assert len(document["runs"]) == 3
    assert document["files"] == [str(tmp_path / "sql" / name) for name in FILES]


def test_without_any_run_nothing_is_written(runs, tmp_path):
    shutil.rmtree(runs / "dropout-s0")
    code, _, err = call("sql", f"{runs}/dropout-s0*", "--out", tmp_path / "sql")
    assert code == 2
    assert err.startswith("error: no run can be read. no run matches")
    assert not (tmp_path / "sql").exists()
