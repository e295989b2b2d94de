"""What writing segments takes of a training's memory, each measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

WRITE = """
import io, threading
from pathlib import Path
import numpy as np
from dropdiag.store import tables
from dropdiag.store.encoder import encoder
from dropdiag.store.rows import HistogramRow

counts = np.random.default_rng(0).integers(1, 1000, 2000)
bins = np.arange(2000, dtype=np.uint16)
table = tables.histograms([HistogramRow(1, "train", "layer", 0, "net_value", bins, counts)] * 125)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def write():
    with encoder(io.BytesIO(), table.schema) as out:
        out.write_table(table)

def several(number=30):  # in a thread, as the writer's
    thread = threading.Thread(target=lambda: [write() for _ in range(number)])
    thread.start()
    thread.join()

write()
before = resident()
several()
print(resident() - before)
"""

RECORD = """
import sys, torch
import dropdiag as dd

model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
with dd.Recorder(model, sys.argv[1], every=1, flush_every=0) as rec:
    for step in range(4):
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        rec.step(loss=loss)
from pathlib import Path
print([path.name.split(".")[0] for path in Path(sys.argv[1], "rank-0").glob("histograms-*-*")], "pandas" in sys.modules)
"""


def printed(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells how much memory is resident")
def test_memory_for_a_segment_is_given_back(tmp_path):
    assert float(printed(WRITE)) < 16  # Arrow's own allocator keeps 25 MB for these tables of 3


def test_recording_and_joining_segments_import_no_pandas(tmp_path):
    told = printed(RECORD, str(tmp_path / "run"))
    assert "histograms-" in told  # they were joined, so they were read
    assert told.split()[-1] == "False"
