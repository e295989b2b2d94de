"""Cost of recording on a CUDA GPU, and a check that no hook makes the host wait.

The same table as overhead.py, with the device synchronised at the borders of each block, and a transformer of 100
million parameters under bfloat16 autocast, eager and compiled. Without a GPU it says so.

    python benchmarks/gpu.py [--rounds 20] [--monitors "dropdiag paper / 1"]
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from models import CASES, Case, Loop, transformer
from overhead import monitors
from peers import make
from timing import HEAD, machine, ratios, rounds

LARGE = Case(lambda: transformer(layers=12, d=832, heads=13, inner=3328), (16, 512, 832), 10)
BLOCK = 10
MONITORS = ("bare", "bare again", "empty hooks", "dropdiag paper / 1", "dropdiag paper / 10", "dropdiag full / 1")


def table(title: str, case: Case, names: list[str], number: int, **settings: Callable) -> None:
    """Print the table of one network."""
    made, missing = monitors(names)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        loops = {
            name: Loop(case, monitor, Path(folder) / str(position), device="cuda", **settings)
            for position, (name, monitor) in enumerate(made.items())
        }
        times = rounds({name: lambda loop=loop: loop.block(BLOCK) for name, loop in loops.items()}, number)
        print(f"\n{title}: {number} rounds of {BLOCK} steps\n{'monitor':<24}{HEAD}")
        for name, ratio in ratios(times, "bare", per=BLOCK).items():
            print(f"{name:<24}{ratio}", flush=True)
        for line in missing:
            print(f"  {line}")
        for loop in loops.values():
            loop.monitor.close()


def waits() -> None:
    """Train with an error wherever the host waits for the device inside a step."""
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(CASES["mlp"], make("dropdiag paper / 1"), Path(folder) / "run", device="cuda")
        loop.block(5)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            loop.block_without_end(20)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        loop.monitor.close()
    print("no hook and no step made the host wait (20 steps, every one recorded)")


def main() -> None:
    """Parse options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--monitors", nargs="*", default=MONITORS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA GPU here: nothing was measured on one")
        return
    print(f"{machine()}, {torch.cuda.get_device_name()}")
    names = ["bare", *(name for name in options.monitors if name != "bare")]
    waits()
    for model, case in CASES.items():
        table(model, case, names, options.rounds)
    amp = functools.partial(torch.autocast, "cuda", dtype=torch.bfloat16)
    table("transformer, 100 M parameters, bf16", LARGE, names, options.rounds, context=amp)
    table("the same, compiled", LARGE, names, options.rounds, context=amp, wrap=torch.compile)


if __name__ == "__main__":
    main()
