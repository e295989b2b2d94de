"""What a monitored step costs beside a bare one, in time and in the device's memory."""

from __future__ import annotations

import contextlib
import gc
import io
import tempfile
from pathlib import Path

import torch
from models import Loop
from overhead import monitors
from timing import Ratio, ratios, rounds

from on_device.page import Section, table
from on_device.setting import Network, Setting

Made = tuple[dict[str, Loop], list[str]]


def overhead(setting: Setting) -> Section:
    """Return the table of every network: ratios to a bare step, all monitors in turn in one process."""
    section = Section("A training step, monitored over bare")
    for network in setting.networks():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            section.lines += _of(network, setting, Path(folder))
    return section


def _of(network: Network, setting: Setting, folder: Path) -> list[str]:
    loops, missing = attached(network, setting, folder)
    try:
        number = _affordable(loops, setting)
        times = rounds({name: lambda loop=loop: loop.block(setting.block) for name, loop in loops.items()}, number)
    finally:
        _close(loops)
    found = ratios(times, "bare", per=setting.block)
    title = f"**{network.title}**: {number} rounds of {setting.block} steps, in random order."
    rows = [(name, _cell(ratio), f"{1e3 * ratio.seconds:.2f}") for name, ratio in found.items()]
    shown = table(("monitor", "ratio: median (quartiles)", "ms a step"), rows)
    return [title, shown, *(_goals(network, found) if setting.on_gpu else []), *missing]


def attached(network: Network, setting: Setting, folder: Path) -> Made:
    """Return a training loop for each monitor that can be had, and a line for each that cannot."""
    made, missing = monitors(list(network.monitors))
    loops = {}
    for name, monitor in made.items():
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                loop = Loop(network.case, monitor, folder / str(len(loops)), setting.device, **network.loop)
                loop.block(1)
                loops[name] = loop
            except Exception as error:
                if name == "bare" or name.startswith("dropdiag"):
                    raise
                missing.append(f"{name}: fails here ({error!r})")
    return loops, missing


def _affordable(loops: dict[str, Loop], setting: Setting) -> int:
    """Return how many rounds fit into the seconds that a table may take, at least 3."""
    for _ in range(2):  # the first compiles
        seconds = sum(loop.block(setting.block) for loop in loops.values())
    return max(3, min(setting.rounds, int(setting.seconds / seconds)))


def _close(loops: dict[str, Loop]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        for loop in loops.values():
            loop.monitor.close()


def _cell(ratio: Ratio) -> str:
    return f"{ratio.median:.3f} ({ratio.low:.3f}-{ratio.high:.3f})"


def _goals(network: Network, found: dict[str, Ratio]) -> list[str]:
    """Return a line for each goal; it is for whoever reads to judge, as a busy machine misses it with no fault."""
    return [
        f"{name}: {found[name].median:.3f}, the goal {goal:.2f} is {'met' if found[name].median <= goal else 'missed'}."
        for name, goal in network.goals.items()
    ]


def memory(setting: Setting) -> Section:
    """Return how much of the device's memory each monitor takes at its most, beyond a bare step."""
    section = Section("Memory of the device")
    rows = []
    for network in setting.networks():
        made, _missing = monitors([name for name in network.monitors if name != "bare again"])
        peaks = {name: _peak(network, monitor, setting) for name, monitor in made.items()}
        bare = peaks["bare"]
        rows += [(network.title, name, _megabytes(peak), _megabytes(peak, bare)) for name, peak in peaks.items()]
    shown = table(("network", "monitor", "most allocated, MB", "beyond bare, MB"), rows)
    section.lines = [f"`torch.cuda.max_memory_allocated` over {setting.steps} steps, of a network at a time.", shown]
    return section


def _peak(network: Network, monitor: object, setting: Setting) -> int | None:
    """Return the most bytes that were allocated while training; None where the device does not say."""
    gc.collect()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.redirect_stdout(io.StringIO()):
        before = torch.cuda.memory_allocated() if setting.on_gpu else 0
        loop = Loop(network.case, monitor, Path(folder) / "run", setting.device, **network.loop)
        loop.block(2)
        if setting.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        loop.block(setting.steps)
        most = torch.cuda.max_memory_allocated() - before if setting.on_gpu else None
        loop.monitor.close()
    return most


def _megabytes(value: int | None, less: int | None = 0) -> str:
    return "–" if value is None or less is None else f"{(value - less) / 1e6:.1f}"
