"""Cost of writing and of reading back: the MLP recorded at every step, beside what other tools write; many runs.

Prints, for so many recorded steps: MB on disk for 1,000 steps, how long closing takes, whether training had to wait
for the disk, the recorder's own account of its time, and how long it takes to read the run back. Then, beside the
goals, how long tables and curves of many runs take with nothing made before: of a process each, the least of three
repetitions, loading of the runs included and importing not (Linux alone tells their memory).

    python benchmarks/store.py [--steps 500] [--monitors "wandb / 1"] [--runs 1000 10000] [--repetitions 3]
    python benchmarks/store.py --monitors --runs 1000     # reading many runs alone
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from models import CASES, Loop
from peers import make
from synthetic_runs import make_runs
from timing import machine

import dropdiag as dd

GOALS = {1_000: 1.0, 10_000: 7.0}  # seconds
ASK = """
import sys, time
import dropdiag as dd, pandas, pyarrow.parquet
from dropdiag.analysis import gradient_flow, learning
begun, used = time.perf_counter(), time.process_time()
runs = dd.load({name: f"{sys.argv[1]}/{name.lower()}-*" for name in ("Base", "Dropout")})
gradient_flow.table(runs)
gradient_flow.curves(runs)
learning.curves(runs, "loss")
learning.best(runs, "accuracy")
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # getrusage has the parent's, too
memory = int(peak.split()[1]) / 1024
print(time.perf_counter() - begun, time.process_time() - used, memory)
"""
MONITORS = ("dropdiag paper / 1", "dropdiag full / 1", "wandb / 1", "tensorboard / 1", "fastai / 1", "delve / 1")


def megabytes(folder: Path) -> float:
    """Return what lies in a folder."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def write(name: str, steps: int, folder: Path) -> None:
    """Train, close, and print what that left on disk."""
    try:
        loop = Loop(CASES["mlp"], make(name), folder)
    except Exception as error:  # noqa: BLE001 - not installed, or it fails here: told, the others go on
        print(f"{name:<22} left out ({error!r})")
        return
    with contextlib.redirect_stdout(io.StringIO()):
        seconds = loop.block(steps)
        begun = time.perf_counter()
        loop.monitor.close()
        closing = time.perf_counter() - begun
    size = 1000 * megabytes(folder) / steps
    print(f"{name:<22}{size:>18.1f}{1e3 * seconds / steps:>12.1f}{1e3 * closing:>12.0f}", flush=True)
    if name.startswith("dropdiag"):
        read(folder)


def read(folder: Path) -> None:
    """Print a run's own account of its cost, and the time of reading it."""
    begun = time.perf_counter()
    run = dd.load(folder)
    rows = len(run.scalars)
    scalars = time.perf_counter() - begun
    histograms = len(run.histograms("net_value", step="all", phase="train"))
    everything = time.perf_counter() - begun
    cost = run.meta["cost"]
    waited = f"waited {cost['waits']} times, {cost['seconds_waited']:.2f} s"
    print(f"    own share {cost['share']:.3f}, writer's processor time {cost['writer_seconds']:.2f} s, {waited}")
    print(
        f"    read back: {rows:,} scalars {1e3 * scalars:.0f} ms, {histograms:,} histograms {1e3 * everything:.0f} ms"
    )


def many(runs: int, repetitions: int, folder: Path) -> None:
    """Print what tables and curves of many runs take."""
    make_runs(folder, ["Base", "Dropout"], runs // 2)
    command = [sys.executable, "-c", ASK, str(folder)]
    told = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(repetitions)]
    seconds, processor, memory = min(tuple(map(float, one.split())) for one in told)
    goal = f"{GOALS[runs]:.1f}" if runs in GOALS else "none"
    print(f"{runs:>6,} runs{seconds:>10.2f} s{goal:>8} s (goal){processor:>10.2f} s{memory:>8.0f} MiB", flush=True)


def main() -> None:
    """Parse options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--monitors", nargs="*", default=MONITORS)
    parser.add_argument("--runs", nargs="*", type=int, default=tuple(GOALS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}; {options.steps} recorded steps of the mlp")
    print(f"{'monitor':<22}{'MB / 1,000 steps':>18}{'ms a step':>12}{'close, ms':>12}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for position, name in enumerate(options.monitors):
            write(name, options.steps, Path(folder) / str(position))
    print("tables and curves of many runs: seconds, goal, processor time, peak memory")
    for runs in options.runs:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            many(runs, options.repetitions, Path(folder))


if __name__ == "__main__":
    main()
