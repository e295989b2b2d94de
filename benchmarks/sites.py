"""What each site costs where a network has many: opening a run, a step on and off the schedule, coverage, closing.

Linear work shows as numbers that do not grow with the number of layers.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from timing import machine
from torch import nn

import dropdiag as dd

STAGES = ("open", "scheduled passes", "scheduled step", "other step", "coverage", "close")
STEPS = 3


def network(layers: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(4, 4), nn.Tanh())))


def timed(call: Callable[..., object], *args: object) -> float:
    begun = time.perf_counter()
    call(*args)
    return time.perf_counter() - begun


def measure(layers: int, probes: str) -> dict[str, float]:
    """Return seconds by stage, the least of the steps of a kind; a step is `step()` alone.

    Passes, forward and backward, are those of the network with its hooks: some 30 us a site are the network's.
    """
    model, x, seconds = network(layers), torch.randn(2, 4), defaultdict(list)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        rec = dd.Recorder(model, Path(folder) / "run", probes=probes, every=lambda step: step % 2 == 1)
        seconds["open"].append(time.perf_counter() - begun)
        for step in range(1, 2 * STEPS + 1):
            optimizer.zero_grad()
            passes = timed(lambda: model(x).sum().backward())
            optimizer.step()
            seconds["scheduled step" if step % 2 else "other step"].append(timed(rec.step))
            if step % 2:
                seconds["scheduled passes"].append(passes)
        seconds["coverage"].append(timed(rec.coverage))
        seconds["close"].append(timed(rec.close))
    return {stage: min(times) for stage, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--probes", nargs="+", default=["light", "paper"])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    print("microseconds a site; a layer has two: a weight and an activation. The least of the rounds.\n")
    print(f"{'probes':<8}{'sites':>8}" + "".join(f"{stage:>18}" for stage in STAGES))
    for probes in args.probes:
        for layers in args.layers:
            gc.collect()
            found = [measure(layers, probes) for _ in range(args.rounds)]
            least = [1e6 * min(one[stage] for one in found) / (2 * layers) for stage in STAGES]
            print(f"{probes:<8}{2 * layers:>8}" + "".join(f"{number:>18.2f}" for number in least), flush=True)


if __name__ == "__main__":
    main()
