"""Whether a hook makes the host wait: by torch's own check, and by what the profiler saw inside steps."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from models import Loop
from peers import make
from torch.profiler import ProfilerActivity, profile, record_function

from dropdiag.errors import DropdiagWarning
from on_device.page import Section, table
from on_device.setting import EVERY_STEP, Network, Setting

STEP = "benchmark step"
WAITS = (
    "cudaDeviceSynchronize",
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "aten::item",
    "aten::_local_scalar_dense",
)
"""Calls of CUDA in which the host waits, and those of torch that read a number, of either memory."""
SYNCHRONIZING = "synchronizing CUDA operation"
"""What torch warns of in its debug mode."""


def waits(setting: Setting) -> Section:
    """Train every network with a recorder at every step, and count where the host waits."""
    section = Section("No hook makes the host wait")
    rows = []
    for network in setting.networks():
        told, bare, recorded = _of(network, setting)
        rows.append((network.title, *(f"{bare[name]}, {recorded[name]}" for name in WAITS)))
        section.problems += [f"{network.title}: {line}" for line in told]
        section.problems += [f"{network.title}: recording adds {line}" for line in added(bare, recorded)]
    section.lines = [_words(setting), table(("network", *WAITS), rows)]
    return section


def added(bare: Counter[str], recorded: Counter[str]) -> list[str]:
    """Return a line for each call of CUDA that waits, of which a recorded step has more than a bare one.

    Numbers that are read from the host's own memory make nobody wait: `aten::item` is shown alone.
    """
    return [f"{n} of {name}" for name, n in (recorded - bare).items() if name.startswith("cuda")]


def _words(setting: Setting) -> str:
    checked = f"`torch.cuda.set_sync_debug_mode` told of nothing below in {setting.steps} steps, every one recorded. "
    counted = f"The profiler's count of calls inside {setting.steps} steps, bare and recorded"
    read = "`aten::item` also reads numbers of the host's own memory, at which nobody waits"
    return f"{checked if setting.on_gpu else ''}{counted}. {read}."


def _of(network: Network, setting: Setting) -> tuple[list[str], Counter[str], Counter[str]]:
    counts = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name in ("bare", EVERY_STEP):
            loop = Loop(network.case, make(name), Path(folder) / str(len(counts)), setting.device, **network.loop)
            loop.block(5)
            told = told_of(loop, setting)
            counts[name] = seen_in_steps(loop, setting)
            loop.monitor.close()
    return told, counts["bare"], counts[EVERY_STEP]


def told_of(loop: Loop, setting: Setting) -> list[str]:
    """Return torch's warnings of some steps, one wherever the host waits, and dropdiag's own.

    Warnings and no errors: a recorder that meets an error in a hook goes on without it, and says so in a warning.
    """
    setting.wait()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _debug(setting, "warn")
        try:
            loop.block_without_end(setting.steps)
        finally:
            _debug(setting, "default")
    meant = [w for w in caught if SYNCHRONIZING in str(w.message) or issubclass(w.category, DropdiagWarning)]
    lines = Counter(f"{w.message} ({Path(w.filename).name}:{w.lineno})" for w in meant)
    return [f"{line}, {number} times" for line, number in lines.items()]


def _debug(setting: Setting, mode: str) -> None:
    if setting.on_gpu:
        torch.cuda.set_sync_debug_mode(mode)


def seen_in_steps(loop: Loop, setting: Setting) -> Counter[str]:
    """Return how often each of `WAITS` was called inside steps."""
    setting.wait()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.on_gpu else [])]
    with profile(activities=activities) as seen:
        for _ in range(setting.steps):
            with record_function(STEP):
                loop.block_without_end(1)
    return inside(seen.events())


def inside(events: Iterable[Any]) -> Counter[str]:
    """Count the events of `WAITS` that began within a step: the profiler itself waits before and after."""
    events = list(events)
    steps = [event.time_range for event in events if event.name == STEP]
    found = (event for event in events if event.name in WAITS)
    return Counter(e.name for e in found if any(step.start <= e.time_range.start <= step.end for step in steps))
