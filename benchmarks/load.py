"""Large runs, many runs, large models: time and memory against size, each size in a process of its own.

    python benchmarks/load.py                          # the whole table
    python benchmarks/load.py rows histograms          # some of it
    python benchmarks/load.py rows --sizes 100000      # at sizes of one's own

Linear work shows as microseconds for each unit that do not grow with the size; bounded memory as megabytes that do not.
What is read is checked against what was written before a time is printed. (Linux alone tells memory.)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZES: dict[str, list[int]] = {
    "rows": [100_000, 1_000_000, 10_000_000],
    "histograms": [10_000, 100_000, 1_000_000],
    "steps": [1_000, 10_000, 100_000],
    "sites": [100, 1_000, 10_000],
    "runs": [100, 1_000, 10_000],
    "compared": [200, 2_000],
}
LAYERS = 50


def memory() -> float:
    """Return the most memory that this process has had, in MB."""
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


class Stages:
    """Seconds of the stages of a workload, and the memory at the end of each."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    def time(self, name: str, call: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        value = call()
        self.found[name] = {"seconds": time.perf_counter() - begun, "MB": memory()}
        return value


def _writer(path: Path) -> Any:
    from dropdiag.store.writer import RunWriter

    layers = [{"layer": f"layer{i}", "call": 0, "kind": "activation"} for i in range(LAYERS)]
    meta = {"config": {"condition": "A", "seed": 0}, "steps": 0, "versions": {}, "layers": layers, "activations": {},
            "warnings": [], "disabled_probes": []}  # fmt: skip
    return RunWriter(path, meta)


def _write(path: Path, steps: Iterator[tuple[int, Callable[[Any], None]]]) -> None:
    writer = _writer(path)
    for step, add in steps:
        add(writer)
        writer.meta["steps"] = step
        if writer.due:
            writer.flush()
    writer.close("completed")


def rows(size: int, folder: Path, stages: Stages) -> None:
    """Scalars of one run: a number a layer and step, each its own."""
    from dropdiag.store.reader import load
    from dropdiag.store.rows import ScalarRow

    def steps() -> Iterator[tuple[int, Callable[[Any], None]]]:
        for step in range(1, size // LAYERS + 1):
            values = [
                ScalarRow(step, "train", f"layer{i}", 0, "net_grad_abs_mean", step + i / 64) for i in range(LAYERS)
            ]
            yield step, lambda writer, values=values: writer.add_scalars(values)

    stages.time("write", lambda: _write(folder / "run", steps()))
    frame = stages.time("select a layer", lambda: load(folder / "run").select(layer="layer7"))
    assert np.array_equal(frame["value"], np.arange(1, size // LAYERS + 1) + 7 / 64)
    found = stages.time("read in batches", lambda: sum(map(len, _runs(folder).batches("net_grad_abs_mean"))))
    assert found == size


def _runs(folder: Path) -> Any:
    from dropdiag.store.reader import load

    return load(str(folder / "*"))


def histograms(size: int, folder: Path, stages: Stages) -> None:
    """Histograms of one run, of 30 bins each."""
    from dropdiag.store.reader import load
    from dropdiag.store.rows import HistogramRow

    bins = np.arange(100, 130, dtype=np.uint16)

    def steps() -> Iterator[tuple[int, Callable[[Any], None]]]:
        for step in range(1, size // LAYERS + 1):
            counts = np.arange(1, 31, dtype=np.int64) + step
            rows = [HistogramRow(step, "train", f"layer{i}", 0, "net_value", bins, counts + i) for i in range(LAYERS)]
            yield step, lambda writer, rows=rows: writer.add_histograms(rows)

    stages.time("write", lambda: _write(folder / "run", steps()))
    last = size // LAYERS
    frame = stages.time("read the last step", lambda: load(folder / "run").histograms("net_value"))
    assert [int(one.counts.sum()) for one in frame["histogram"]] == [465 + 30 * (last + i) for i in range(LAYERS)]


def steps(size: int, folder: Path, stages: Stages) -> None:
    """Recorded steps of a small network, histograms at every tenth."""
    import torch

    import dropdiag as dd

    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))
    x = torch.randn(16, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train(rec: Any, many: int) -> None:
        for _ in range(many):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rec.step(loss=loss)

    rec = dd.Recorder(model, folder / "run", every=10)
    train(rec, 500)
    for quarter in range(1, 5):  # of a soak: the most memory stays what it was after the first
        stages.time(f"record, part {quarter} of 4", lambda: train(rec, (size - 500) // 4))
    train(rec, (size - 500) % 4)
    stages.time("close", rec.close)
    frame = stages.time("select the loss", lambda: dd.load(folder / "run").select("loss"))
    assert frame["step"].tolist() == list(range(1, size + 1))


def sites(size: int, folder: Path, stages: Stages) -> None:
    """Sites of one network: a weight and an activation a layer."""
    import torch

    import dropdiag as dd

    torch.set_num_threads(1)
    parts = [part for _ in range(size // 2) for part in (torch.nn.Linear(4, 4), torch.nn.Tanh())]
    model, x = torch.nn.Sequential(*parts), torch.randn(2, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rec = stages.time("open", lambda: dd.Recorder(model, folder / "run", every=2))
    for step in range(1, 7):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        stages.time("step with histograms" if step % 2 == 0 else "other step", rec.step)
    stages.time("close", rec.close)
    run = stages.time("load", lambda: dd.load(folder / "run"))
    assert len(run.meta["layers"]) >= size


def _made(size: int, folder: Path) -> None:
    from synthetic_runs import make_runs

    make_runs(folder, ["Base", "Dropout"], size // 2, layers=6, steps=50)


def runs(size: int, folder: Path, stages: Stages) -> None:
    """Runs below one folder, of 6 layers and 50 steps."""
    _made(size, folder)
    from dropdiag.analysis import gradient_flow, learning
    from dropdiag.store.listing import listing

    found = stages.time("ls", lambda: listing(folder))
    assert len(found.runs) == size
    opened = stages.time("load", lambda: _runs(folder))
    stages.time("tables and curves", lambda: (gradient_flow.table(opened), learning.curves(opened, "loss")))


def compared(size: int, folder: Path, stages: Stages) -> None:
    """Runs of two conditions: compared, and in a report."""
    _made(size, folder)
    import dropdiag as dd

    where = {name: str(folder / f"{name.lower()}-*") for name in ("Base", "Dropout")}
    found = stages.time("compare", lambda: dd.compare(where, baseline="Base").table)
    assert found["n"].max() == size // 2
    stages.time("report", lambda: dd.report(dd.load(where), folder / "report.html", baseline="Base"))


WORKLOADS: dict[str, Callable[[int, Path, Stages], None]] = {
    "rows": rows, "histograms": histograms, "steps": steps, "sites": sites, "runs": runs, "compared": compared,
}  # fmt: skip


def alone(name: str, size: int) -> None:
    """Do one workload here, and print what it took as JSON."""
    stages = Stages()
    with tempfile.TemporaryDirectory() as folder:
        WORKLOADS[name](size, Path(folder), stages)
        disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 1e6
    print(json.dumps({"stages": stages.found, "disk": disk}))


def measured(name: str, size: int) -> dict[str, Any]:
    """Return what a workload took in a process of its own."""
    command = [sys.executable, __file__, name, "--sizes", str(size), "--alone"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; else all of them")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--alone", action="store_true", help="in this process, and as JSON")
    args = parser.parse_args()
    if unknown := sorted({*args.workloads} - {*WORKLOADS}):
        parser.error(f"unknown workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    if args.alone:
        alone(args.workloads[0], args.sizes[0])
        return
    print(f"{'':<12}{'size':>12}  {'stage':<28}{'seconds':>10}{'us each':>10}{'MB':>8}{'MB on disk':>12}")
    for name in args.workloads or WORKLOADS:
        for size in args.sizes or SIZES[name]:
            found = measured(name, size)
            for stage, took in found["stages"].items():
                each = 1e6 * took["seconds"] / size
                print(f"{name:<12}{size:>12,}  {stage:<28}{took['seconds']:>10.2f}{each:>10.2f}{took['MB']:>8.0f}"
                      f"{found['disk']:>12.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
