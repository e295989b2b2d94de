"""Where in a training step recording costs: forward pass, backward pass, optimiser, and the monitor's own ``step()``.

Every monitor has its own copy of the mlp; in each round each one trains three steps, in random order, of which the last
two count. What is printed are microseconds beyond bare, at the lower quartile: what others do on the machine falls on
the rest. "empty hooks" are as many hooks in the same places as the Recorder has; "without NAME" is the preset without
one of its probes, so its distance from the whole is what that probe costs.

    python benchmarks/parts_of_a_step.py [--rounds 200] [--threads 2] [--every 1]
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from models import CASES, Loop
from peers.bare import Bare, EmptyHooks
from peers.recorder import Dropdiag
from timing import machine
from torch.nn import functional as F

from dropdiag.probes import PRESETS

PARTS = ("forward", "zero_grad", "backward", "optimizer", "step()")


def monitors(every: int) -> dict[str, Any]:
    """Return the monitors by name."""
    made: dict[str, Any] = {"bare": Bare(), "bare again": Bare(), "empty hooks": EmptyHooks()}
    made["light, no histogram"] = Dropdiag("light", 10**9)
    made["paper"] = Dropdiag("paper", every)
    for name in PRESETS["paper"]:
        made[f"without {name}"] = Dropdiag("paper", every, without=name)
    return made


def step(loop: Loop) -> list[float]:
    """Train one step and return the microseconds of its parts."""
    at = [time.perf_counter()]
    loss = F.cross_entropy(loop.run(loop.x).flatten(0, -2), loop.y.flatten())
    at.append(time.perf_counter())
    loop.optimizer.zero_grad()
    at.append(time.perf_counter())
    loss.backward()
    at.append(time.perf_counter())
    loop.optimizer.step()
    at.append(time.perf_counter())
    loop.monitor.step(loss)
    at.append(time.perf_counter())
    return [1e6 * (b - a) for a, b in itertools.pairwise(at)]


def measured(loops: dict[str, Loop], rounds: int) -> dict[str, list[float]]:
    """Return the lower quartile of each part, by monitor."""
    times: dict[str, list[list[float]]] = {name: [] for name in loops}
    names, generator = list(loops), random.Random(0)
    for _ in range(rounds):
        generator.shuffle(names)
        for name in names:
            step(loops[name])
            times[name] += [step(loops[name]), step(loops[name])]
    return {name: [statistics.quantiles(part, n=4)[0] for part in zip(*t, strict=True)] for name, t in times.items()}


def main() -> None:
    """Parse options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--every", type=int, default=1, help="of the preset; 1: every step has histograms")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = monitors(options.every)
        loops = {name: Loop(CASES["mlp"], one, Path(folder) / str(i)) for i, (name, one) in enumerate(made.items())}
        for loop in loops.values():
            loop.block(30)
        found = measured(loops, options.rounds)
        for loop in loops.values():
            loop.monitor.close()
    bare = found["bare"]
    print(
        "microseconds beyond bare, which takes " + ", ".join(f"{n} {t:.0f}" for n, t in zip(PARTS, bare, strict=True))
    )
    print(f"{'':<32}" + "".join(f"{name:>11}" for name in (*PARTS, "all")))
    for name, parts in found.items():
        beyond = [a - b for a, b in zip(parts, bare, strict=True)]
        print(f"{name:<32}" + "".join(f"{value:11.0f}" for value in (*beyond, sum(beyond))))


if __name__ == "__main__":
    main()
