"""docs/dask.md is run as it stands, on a cluster of two processes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from dropdiag.analysis.select import GROUP, histograms, pooled
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import load
from dropdiag.store.run import Run
from tests.ranks import histogram, write
from tests.synthetic import content
from tests.synthetic import write as write_one

distributed = pytest.importorskip("distributed")
DOCS = Path(__file__).parents[2] / "docs" / "dask.md"


@pytest.fixture
def folder(tmp_path, rng):
    """Five runs of one process in two conditions, one of two ranks in a third."""
    for seed in range(5):
        condition = "Dropout" if seed % 2 else "No dropout"
        made = content(condition, seed, layers=2, steps=2, size=300)
        made.net_value["layer1.activation"][:5] = [0.0, -0.0, np.nan, np.inf, -np.inf]
        write_one(tmp_path / "runs" / f"s{seed}", made, condition, seed)
    ranks = [histogram(1, "net_value", rng.normal(size=50), phase="eval") for _ in range(2)]
    told = {"config": {"condition": "Two ranks", "seed": 0}}
    write(tmp_path / "runs" / "ranks", ranks, told=[told] * 2)
    return tmp_path / "runs"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed")
def test_two_processes_add_up_what_one_does_bit_for_bit(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    workers = watched(monkeypatch)
    names = {"__name__": "__main__"}  # as a script: its functions travel to the workers by value
    with monkeypatch.context() as here:
        here.setattr(Run, "histograms", read_here)
        exec(code, names)  # noqa: S102 - the documentation's own code
    expected = pooled(histograms(load(folder), "net_value", phase="eval"))
    found = names["pooled"]
    assert len(found) == len(expected) == 5
    for row in expected.to_dict("records"):
        mine = found[tuple(row[name] for name in GROUP)]
        for own, other in ((mine.bins, row["histogram"].bins), (mine.counts, row["histogram"].counts)):
            assert own.dtype == other.dtype
            assert own.tobytes() == other.tobytes()
    assert found["No dropout", "layer1.activation", 0].n == 900
    assert capsys.readouterr().out.count("\n") == 5
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert all(tasks > 0 for tasks in workers.values())


def read_here(*args, **kwargs):
    raise AssertionError("the workers read, not the process that asks")


def watched(monkeypatch):
    """Return a dict that gets each worker's process, and how many tasks it has done, when the client closes."""
    found: dict[int, int] = {}
    close = distributed.Client.close

    def told(self, *args, **kwargs):
        if not found:
            found.update(self.run(lambda dask_worker: (os.getpid(), dask_worker.state.executed_count)).values())
        return close(self, *args, **kwargs)

    monkeypatch.setattr(distributed.Client, "close", told)
    return found


def test_a_histogram_adds_up_in_any_order(rng):
    parts = [Histogram.from_values(rng.normal(size=20)) for _ in range(6)]
    orders = [sum(parts[i] for i in rng.permutation(6)) for _ in range(5)]
    assert all(one == orders[0] for one in orders)
