from __future__ import annotations

import csv
import json
from collections import defaultdict

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.histograms.histogram import Histogram
from dropdiag.integrations import csv as module
from dropdiag.integrations.csv import to_csv
from dropdiag.store import reading
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.segments import part_of
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.synthetic import _meta, content, write
from tests.versions import write_run

AWKWARD = [0.0, -0.0, 1e-42, np.nan, -np.nan, np.inf, -np.inf, -np.inf, 1.5, 1.5, -1.5, 3e38, -1e-38]


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def awkward(path, layer='a "quoted", name'):
    writer = RunWriter(path, _meta(content("Dropout", 0), "Dropout", 0, "Tanh"))
    for step, values in ((1, AWKWARD), (2, [])):
        histogram = Histogram.from_values(values)
        writer.add_histograms(
            [HistogramRow(step, "train", layer, 0, "weight", histogram.bins, histogram.counts)] if values else []
        )
    writer.add_scalars([
        ScalarRow(1, "train", None, 0, "loss", 0.1 + 0.2),
        ScalarRow(1, "train", layer, 3, "gone", None),
        ScalarRow(2, "train", None, 0, "loss", float("nan")),
        ScalarRow(2, "train", None, 0, "loss", 5e-324),
    ])  # fmt: skip
    writer.close("completed")
    return path


def test_scalars_read_back_bit_for_bit(tmp_path):
    run = dd.load(write(tmp_path / "run", content("Dropout", 1, steps=30, size=100), "Dropout", 1))
    scalars, *_ = to_csv(run, tmp_path / "out")
    found, expected = rows(scalars), run.scalars
    assert list(found[0]) == ["step", "phase", "layer", "call", "quantity", "value"]
    assert [float(row["value"]) for row in found] == expected["value"].tolist()
    for name in ("step", "phase", "layer", "call", "quantity"):
        assert [row[name] for row in found] == expected[name].fillna("").astype(str).tolist()


def test_histograms_have_exact_counts_along_the_line(tmp_path):
    run = dd.load(write(tmp_path / "run", content("Dropout", 1, steps=30, size=3000), "Dropout", 1))
    _, histograms, *_ = to_csv(run, tmp_path / "out")
    found = defaultdict(list)
    for row in rows(histograms):
        found[row["quantity"], row["phase"], row["layer"]].append(
            [float(row["low"]), float(row["high"]), int(row["count"])]
        )
    assert len(found) == 9
    for (quantity, phase, layer), bins in found.items():
        low, high, counts = run.histogram(quantity, layer, phase=phase).bounds()
        np.testing.assert_array_equal(np.array(bins), np.stack([low, high, counts], axis=1))


def test_zeros_infinities_and_nan_keep_their_counts(tmp_path):
    scalars, histograms, *_ = to_csv(dd.load(awkward(tmp_path / "run")), tmp_path / "out")
    found = rows(histograms)
    assert {row["layer"] for row in found} == {'a "quoted", name'}
    table = [(float(row["low"]), float(row["high"]), int(row["count"])) for row in found]
    assert sum(count for *_, count in table) == len(AWKWARD)
    assert table[0] == (-np.inf, -np.inf, 2)
    assert (0.0, 0.0, 3) in table, "both zeros, and what is below the smallest bin"
    assert table[-2] == (np.inf, np.inf, 1)
    assert np.isnan(table[-1][:2]).all()
    assert table[-1][2] == 2
    finite = [low for low, *_ in table[1:-2]]
    assert finite == sorted(finite)
    for value in (1.5, -1.5, 3e38, -1e-38):
        (count,) = [
            c for low, high, c in table if low != high and min(low, high) <= np.float32(value) <= max(low, high)
        ]
        assert count == AWKWARD.count(value)
    written = [(row["layer"], row["call"], row["value"]) for row in rows(scalars)]
    assert written[0] == ("", "0", "0.30000000000000004")
    assert written[1] == ('a "quoted", name', "3", "")
    assert written[2][2] == "nan"
    assert float(written[3][2]) == 5e-324


def test_a_run_without_rows_gives_headings(tmp_path):
    RunWriter(tmp_path / "run", _meta(content("Dropout", 0), "Dropout", 0, "Tanh"))
    for path in to_csv(dd.load(tmp_path / "run"), tmp_path / "out")[:2]:
        assert len(path.read_text().splitlines()) == 1


def test_nothing_is_overwritten(tmp_path):
    run = dd.load(write(tmp_path / "run", content("Dropout", 1, steps=3, size=10), "Dropout", 1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(RunError, match="full is not empty, and nothing is ever overwritten; choose another folder"):
        to_csv(run, tmp_path / "full")
    with pytest.raises(RunError, match="is a file"):
        to_csv(run, tmp_path / "full" / "note.txt")
    (tmp_path / "empty").mkdir()
    assert all(path.exists() for path in to_csv(run, tmp_path / "empty"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "full", "run"], "no temporary folder is left"


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    run = dd.load(write(tmp_path / "run", content("Dropout", 1, steps=3, size=10), "Dropout", 1))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.pacsv, "CSVWriter", full)
    with pytest.raises(RunError, match="No space left on device; nothing is left of it"):
        to_csv(run, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_torn_segment_is_named_and_the_rest_is_written(tmp_path):
    run = dd.load(write(tmp_path / "run", content("Dropout", 1, steps=3, size=10), "Dropout", 1))
    segment = next((run.path / "rank-0").glob("histograms-*.parquet"))
    segment.write_bytes(b"PAR1")
    with pytest.warns(DropdiagWarning, match=f"{segment.name} cannot be read: .*; it is left out, the rest"):
        scalars, histograms, *_ = to_csv(run, tmp_path / "out")
    assert len(rows(scalars)) > 10
    assert rows(histograms) == []


def test_it_is_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "STREAM_ROWS", {"scalars": 7, "histograms": 2})
    run = dd.load(write(tmp_path / "run", content("Dropout", 1, steps=30, size=100), "Dropout", 1))
    assert max(table.num_rows for table in run.tables.stream("scalars")) == 7
    assert max(table.num_rows for table in run.tables.stream("histograms")) == 2
    small = [path.read_bytes() for path in to_csv(run, tmp_path / "small")]
    monkeypatch.undo()
    assert small == [path.read_bytes() for path in to_csv(run, tmp_path / "large")]


def test_what_a_later_session_recorded_anew_is_hidden(tmp_path):
    path = tmp_path / "run"
    meta = _meta(content("Dropout", 0), "Dropout", 0, "Tanh")
    writer = RunWriter(path, meta)
    writer.add_scalars([ScalarRow(step, "train", None, 0, "loss", 1.0) for step in (1, 2, 3)])
    writer.close("failed")
    text = json.loads((path / "run.json").read_text())
    text["sessions"].append({"started": "later", "from_step": 2, "first_segment": 100})
    write_meta((path / "run.json"), text)
    scalars, *_ = to_csv(dd.load(path), tmp_path / "out")
    assert [row["step"] for row in rows(scalars)] == ["1", "2"]


def test_a_run_that_ends_meanwhile_says_so(tmp_path, monkeypatch):
    run = dd.load(write(tmp_path / "run", content("Dropout", 1, steps=3, size=10), "Dropout", 1))
    listed = reading.visible_segments(part_of(run.path, run.meta["sessions"]), "scalars")
    gone = [one._replace(segment=one.segment._replace(path=one.segment.path.with_name("gone"))) for one in listed]
    monkeypatch.setattr(reading, "visible_segments", lambda *_: gone)
    with pytest.raises(RunError, match="the run ended while it was read, and its segments were joined; try again"):
        to_csv(run, tmp_path / "out")


def test_the_order_of_execution_has_a_file_of_its_own(tmp_path):
    order = [[("c1", 0)], [("c1:relu", 0)], [("fc1", 0), ("c2", 0)], [("c1:relu", 1)]]
    run = dd.load(write_run(tmp_path / "run", order=order, declared=("fc1", "c2", "c1")))
    files = to_csv(run, tmp_path / "csv")
    assert [file.name for file in files] == ["scalars.csv", "histograms.csv", "layers.csv"]
    told = [list(row.values()) for row in rows(tmp_path / "csv" / "layers.csv")]
    assert list(rows(tmp_path / "csv" / "layers.csv")[0]) == ["rank", "layer", "call", "kind", "type"]
    assert [row[:3] for row in told[:4]] == [
        ["0", "c1", "0"],
        ["1", "c1:relu", "0"],
        ["2", "fc1", "0"],
        ["2", "c2", "0"],
    ]
    assert told[4] == ["3", "c1:relu", "1", "activation", "Net"]
    assert [row[0] for row in told[5:]] == ["", ""]  # never ran
    old = dd.load(write_run(tmp_path / "old", schema=1))
    assert len(to_csv(old, tmp_path / "old-csv")) == 2
