"""Cost of recording: ratio of a monitored to a bare training step, all monitors interleaved in one process.

Each monitor has its own copy of the network. In every round each one trains for a block of steps, in random
order; what is printed is the median of the rounds' ratios to the bare block of the same round, with quartiles, and the
ratio of the fastest tenth. "bare again" is the noise, "empty hooks" the floor. A peer that is not installed is named
and left out.

    python benchmarks/overhead.py [--models mlp cnn] [--monitors "dropdiag paper / 1"] [--rounds 40] [--threads 2]
    python benchmarks/overhead.py --evaluation --memory
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from models import CASES, Loop
from peers import MONITORS, make
from timing import HEAD, machine, ratios, rounds
from torch.nn import functional as F

import dropdiag as dd

IMAGES, BATCH = 10_000, 500


def monitors(names: list[str]) -> tuple[dict[str, object], list[str]]:
    """Make the monitors that can be made; return them, and a line for each of the others."""
    made, missing = {}, []
    for name in names:
        try:
            made[name] = make(name)
        except ImportError as error:
            missing.append(f"{name}: not installed ({error})")
    return made, missing


def steps(model: str, names: list[str], number: int | None, block: int, folder: Path) -> dict[str, dict]:
    """Print and return the table of one network."""
    case = CASES[model]
    number = number or case.rounds
    made, missing = monitors(names)
    loops = {}
    for position, (name, monitor) in enumerate(made.items()):
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                loop = Loop(case, monitor, folder / f"{model}-{position}")
                loop.block(1)
                loops[name] = loop
            except Exception as error:  # noqa: BLE001 - a peer that fails on a network is told, the others go on
                missing.append(f"{name}: fails here ({error!r})")
    try:
        times = rounds({name: lambda loop=loop: loop.block(block) for name, loop in loops.items()}, number)
    finally:
        for loop in loops.values():
            with contextlib.redirect_stdout(io.StringIO()):
                loop.monitor.close()
    print(f"\n{model}: {number} rounds of {block} steps\n{'monitor':<24}{HEAD}")
    table = {}
    for name, ratio in ratios(times, "bare", per=block).items():
        print(f"{name:<24}{ratio}", flush=True)
        table[name] = vars(ratio)
    for line in missing:
        print(f"  {line}")
    return table


def evaluation(number: int, folder: Path) -> dict[str, dict]:
    """Print and return the cost of an evaluation with net values and node correlation."""
    torch.manual_seed(0)
    x, y = torch.rand(IMAGES, 784), torch.randint(10, (IMAGES,))
    bare, again, recorded = (CASES["mlp"].make().eval() for _ in range(3))
    recorder = dd.Recorder(recorded, folder / "evaluation")

    def test(model: torch.nn.Module) -> float:
        start = time.perf_counter()
        with torch.no_grad():
            for i in range(0, IMAGES, BATCH):
                output = model(x[i : i + BATCH])
                F.cross_entropy(output, y[i : i + BATCH]).item()
                (output.argmax(1) == y[i : i + BATCH]).sum().item()
        return time.perf_counter() - start

    def record() -> float:
        start = time.perf_counter()
        with recorder.evaluation(f"set-{start}"):
            test(recorded)
        return time.perf_counter() - start

    times = rounds({"bare": lambda: test(bare), "bare again": lambda: test(again), "recorded": record}, number)
    print(f"\nevaluation of the mlp on {IMAGES:,} images in batches of {BATCH}\n{'':<24}{HEAD}")
    table = ratios(times, "bare")
    for name, ratio in table.items():
        print(f"{name:<24}{ratio}", flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recorder.close()
    return {name: vars(ratio) for name, ratio in table.items()}


def memory(names: list[str]) -> None:
    """Print the memory that a monitor adds, each in a process of its own."""
    print("\nmemory of the mlp, MB: before attaching, then added after 100, 400, 700 and 1,000 steps")
    for name in names:
        command = [sys.executable, __file__, "--memory-of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"{name:<24}{done.stdout.strip() or done.stderr.strip().splitlines()[-1]}", flush=True)


def memory_of(name: str) -> None:
    """Train 1,000 steps and print how much memory they added."""
    with tempfile.TemporaryDirectory() as folder:
        monitor = make(name)  # its package is imported before the first reading
        bare = Loop(CASES["mlp"], make("bare"), Path(folder))
        bare.block(50)
        before = _resident()
        loop = Loop(CASES["mlp"], monitor, Path(folder) / "run")
        readings = []
        for number in (100, 300, 300, 300):
            loop.block(number)
            readings.append(_resident() - before)
        loop.monitor.close()
    print(f"{before:6.0f}  " + "  ".join(f"{reading:+6.0f}" for reading in readings))


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    """Parse options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--monitors", nargs="*", default=list(MONITORS), choices=list(MONITORS))
    parser.add_argument("--rounds", type=int, help="default: by the network")
    parser.add_argument("--block", type=int, default=10, help="steps a block: 10, so that each has one 10th step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--evaluation", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the tables to a file as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        memory_of(options.memory_of)
        return
    print(machine())
    names = ["bare", *(name for name in options.monitors if name != "bare")]
    tables = {"machine": machine()}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for model in options.models:
            tables[model] = steps(model, names, options.rounds, options.block, Path(folder))
        if options.evaluation:
            tables["evaluation"] = evaluation(options.rounds or 20, Path(folder))
    if options.memory:
        memory([name for name in names if "again" not in name])
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1))


if __name__ == "__main__":
    main()
