"""Keys that runs share are decoded once; each run's numbers are its own all the same, beside pyarrow's own reader."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from dropdiag.errors import NotRecordedError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.files import Target, write_segment
from dropdiag.store.guard.checked import Checked
from dropdiag.store.reader import load
from dropdiag.store.rows import HistogramRow
from dropdiag.store.segments import list_segments
from dropdiag.store.writer import RunWriter

META = {"config": {}, "steps": 0, "versions": {}, "layers": [], "activations": {}, "warnings": [],
        "disabled_probes": []}  # fmt: skip
SHAPES = [(("a", "b"), 50), (("a", "b"), 50), (("a", "b"), 70), (("a", "c"), 50), (("a", "b"), 50)]
"""Layers, and values of each histogram, of runs that follow each other: n differs once, and once the layers."""


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    for place, (layers, size) in enumerate(SHAPES):
        writer = RunWriter(tmp_path / f"run-{place}", META)
        for step in (1, 2):
            made = [(layer, Histogram.from_values(rng.normal(size=size))) for layer in layers]
            writer.add_histograms(
                [HistogramRow(step, "train", layer, 0, "weight", h.bins, h.counts) for layer, h in made]
            )
            writer.flush()
        writer.close("completed")
    return list(load(str(tmp_path / "run-*")))


def own(run):
    """Read the histograms of a run by pyarrow alone."""
    (file,) = run.path.glob("rank-0/histograms-*")
    rows = pq.read_table(file).to_pylist()
    return [(row["step"], row["layer"], Histogram(row["bins"], row["counts"])) for row in rows]


def test_runs_that_share_keys_and_runs_that_do_not_have_their_own_histograms(runs):
    for run in (*runs, *reversed(runs)):
        frame = run.histograms("weight", step="all")
        assert list(zip(frame["step"], frame["layer"], frame["histogram"], strict=True)) == own(run)


def test_keys_that_were_decoded_are_not_decoded_again(runs, monkeypatch):
    read, columns = Checked.read, []
    monkeypatch.setattr(Checked, "read", lambda file, names=None: columns.append(names) or read(file, names))
    whole = ["step", "phase", "layer", "call", "quantity", "n"]
    for run in runs:
        run.histograms("weight")
    assert columns[1:] == [["n"], ["n"], whole, whole]


def test_a_row_that_counts_otherwise_than_its_bins_is_damage_also_where_the_keys_are_known(runs):
    runs[0].histograms("weight")
    (segment,) = list_segments(runs[1].path / "rank-0", "histograms")
    table = pq.read_table(segment.path)
    at = table.schema.get_field_index("n")
    wrong = table.set_column(at, table.schema.field("n"), [[n.as_py() + 1 for n in table["n"]]])
    segment.path.unlink()
    write_segment(Target(segment.path.parent, *segment[:3], segment.session), [wrong])
    with pytest.warns(match="the counts of a histogram are not n together"), pytest.raises(NotRecordedError):
        runs[1].histograms("weight")
