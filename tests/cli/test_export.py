from __future__ import annotations

import json
import sys

import pytest

from .conftest import call


def test_csv(runs, tmp_path):
    out = tmp_path / "csv"
    code, said, err = call("export", runs / "dropout-s0", "--to", "csv", "--out", out)
    assert (code, err) == (0, "")
    assert said == f"wrote {out / 'scalars.csv'}\nwrote {out / 'histograms.csv'}\nwrote {out / 'layers.csv'}\n"
    code, said, err = call("export", runs / "dropout-s0", "--to", "csv", "--out", out)
    assert (code, said) == (2, "")
    assert err == f"error: {out} is not empty, and nothing is ever overwritten; choose another folder\n"


def test_tensorboard(runs, tmp_path):
    pytest.importorskip("tensorboard")
    code, said, _ = call("export", runs / "dropout-s0", "--to", "tensorboard", "--out", tmp_path / "tb", "--json")
    assert code == 0
    assert len(json.loads(said)["files"]) == 2


def test_without_tensorboard_it_is_one_line(runs, tmp_path, monkeypatch):
    for name in ("tensorboard", "tensorboard.compat.proto", "tensorboard.summary.writer.record_writer"):
        monkeypatch.setitem(sys.modules, name, None)
    code, _, err = call("export", runs / "dropout-s0", "--to", "tensorboard", "--out", tmp_path / "tb")
    assert code == 2
    assert "pip install 'dropdiag[tensorboard]'" in err
    assert err.count("\n") == 1


def test_a_torn_segment_is_told_and_the_code_is_1(runs, tmp_path):
    segment = next((runs / "dropout-s0" / "rank-0").glob("histograms-*.parquet"))
    segment.write_bytes(b"PAR1")
    code, said, err = call("export", runs / "dropout-s0", "--to", "csv", "--out", tmp_path / "csv")
    assert code == 1
    assert "scalars.csv" in said
    assert err.startswith("warning: ")
    assert segment.name in err


def test_unknown_formats_and_missing_options(runs, tmp_path):
    assert call("export", runs / "dropout-s0", "--to", "xls", "--out", tmp_path / "x")[0] == 2
    assert call("export", runs / "dropout-s0", "--to", "csv")[0] == 2
