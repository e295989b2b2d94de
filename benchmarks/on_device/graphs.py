"""What a recorder does when a step is captured into a CUDA graph and replayed."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from models import CASES, Loop
from peers import make
from torch import Tensor
from torch.nn import functional as F

import dropdiag as dd
from on_device.page import Section
from on_device.setting import EVERY_STEP, Setting

WARM_UP, REPLAYS = 3, 5


def graphs(setting: Setting) -> Section:
    """Capture a step of the MLP with and without a recorder, replay both, and tell what was recorded."""
    section = Section("CUDA graphs")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        bare = replayed("bare", Path(folder) / "bare", setting)
        recorded = replayed(EVERY_STEP, Path(folder) / "recorded", setting)
        steps = recorded_steps(Path(folder) / "recorded")
    if not all(map(torch.equal, bare.parameters(), recorded.parameters())):
        section.problems.append("the weights after the replays are not those of the network without a recorder")
    said = sorted({str(warning.message) for warning in told})
    section.lines = [_words(setting, steps), "\n".join(f"- {line}" for line in said or ["nothing"])]
    return section


def replayed(monitor: str, folder: Path, setting: Setting) -> torch.nn.Module:
    """Train a few steps, capture one, replay it, and return the network; the monitor is told of every step."""
    loop = Loop(CASES["mlp"], make(monitor), folder, setting.device)
    replay = captured(lambda: train(loop), loop, setting)
    for _ in range(REPLAYS):
        loop.monitor.step(replay())
    setting.wait()
    loop.monitor.close()
    return loop.model


def train(loop: Loop) -> Tensor:
    """Train one step, all of it on the device."""
    loss = F.cross_entropy(loop.run(loop.x), loop.y)
    loop.optimizer.zero_grad()
    loss.backward()
    loop.optimizer.step()
    return loss


def captured(step: Callable[[], Tensor], loop: Loop, setting: Setting) -> Callable[[], Tensor]:
    """Return the step as a graph, once it is warm; without a GPU the step as it is."""
    side = torch.cuda.Stream() if setting.on_gpu else None
    setting.wait()
    with torch.cuda.stream(side):  # without a stream this does nothing
        for _ in range(WARM_UP):
            loop.monitor.step(step())
    if side is None:
        return step
    setting.wait()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


def recorded_steps(folder: Path) -> list[int]:
    """Return the steps whose gradient flow was recorded."""
    scalars = dd.load(folder).scalars
    return sorted(set(scalars.loc[scalars["quantity"] == "net_grad_abs_mean", "step"]))


def _words(setting: Setting, steps: list[int]) -> str:
    how = f"captured once and replayed {REPLAYS} times" if setting.on_gpu else f"run {REPLAYS} times (no graph here)"
    return (
        f"The MLP: {WARM_UP} steps, then a step {how}, `step()` called after each. Gradient flow was recorded at "
        f"{len(steps)} of {WARM_UP + REPLAYS} steps ({', '.join(map(str, steps)) or 'none'}). The weights are held "
        "against those of a network without a recorder that was captured in the same way. What dropdiag said:"
    )
