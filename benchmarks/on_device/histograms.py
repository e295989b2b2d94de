"""The histogram on a device: which way to count is fastest, whether all agree, and how near to the memory they come."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from histogram import distributions
from torch import Tensor

from dropdiag.histograms.grid import BINS
from dropdiag.sketches.histogram import add_counts, bin_numbers
from on_device.page import Section, table
from on_device.setting import Setting

Way = Callable[[Tensor, Tensor], None]
OURS = "dropdiag"
GOAL = 0.5
"""Share of the memory's bandwidth that the largest histogram of normal values should reach."""


def histograms(setting: Setting) -> Section:
    """Return the table of all ways to count, over sizes, types and distributions."""
    section = Section("The histogram")
    ways, section.lines = available()
    memory = bandwidth(setting)
    rows = []
    for kind, x in _inputs(setting):
        section.problems += differences(kind, x, ways, section.lines)
        rows += [(kind, *cells) for cells in _timed(x, ways, memory, setting)]
    columns = ("values", "way", "ns a value", "GB/s read", "share of bandwidth")
    section.lines = [_words(memory), table(columns, rows), *_verdict(rows, setting), *section.lines]
    return section


def available() -> tuple[dict[str, Way], list[str]]:
    """Return the ways to count that can be had, and a line for those that cannot."""
    ways: dict[str, Way] = {OURS: add_counts, "torch.bincount": _bincount}
    try:
        from on_device import triton_bins
    except ImportError as error:
        return ways, [f"Triton's kernels: not installed ({error})."]
    ways["Triton, bins in shared memory"] = triton_bins.in_shared_memory
    ways["Triton, a table a program"] = triton_bins.in_own_tables
    return ways, []


def _bincount(values: Tensor, counts: Tensor) -> None:
    counts += torch.bincount(bin_numbers(values), minlength=BINS)


def _inputs(setting: Setting) -> Iterator[tuple[str, Tensor]]:
    """Give each input by name: all distributions at the second largest size, normal values at the others."""
    for n in setting.sizes:
        kinds = distributions(n) if n == setting.sizes[-2] else {"normal": torch.randn(n)}
        for kind, x in kinds.items():
            yield f"{n:,} {kind}", x.to(setting.device)
        yield f"{n:,} normal, bfloat16", torch.randn(n).to(setting.device, torch.bfloat16)


def truth(x: Tensor) -> Tensor:
    """Return the counts by numpy on the CPU, from the bits alone."""
    bits = x.cpu().to(torch.float32).numpy().view(np.uint32)
    return torch.from_numpy(np.bincount(bits.ravel() >> 17, minlength=BINS))


def differences(kind: str, x: Tensor, ways: dict[str, Way], told: list[str]) -> list[str]:
    """Return a line for each way whose counts are not the true ones; one that fails is told, and taken out."""
    lines, true = [], truth(x)
    for name, count in list(ways.items()):
        counts = torch.zeros(BINS, dtype=torch.int64, device=x.device)
        try:
            count(x, counts)
        except Exception as error:  # noqa: BLE001 - a kernel that this device has no room for; the others go on
            told.append(f"{name}: fails here ({type(error).__name__}: {str(error)[:300]}).")
            del ways[name]
            continue
        wrong = int((counts.cpu() != true).sum())
        lines += [f"{name}, {kind}: {wrong} of {BINS} counts are wrong"] if wrong else []
    return lines


def bandwidth(setting: Setting) -> float:
    """Return bytes a second, read and written, of a copy within the device's memory."""
    a, b = (torch.zeros(setting.sizes[-1], device=setting.device) for _ in range(2))
    return 2 * a.nbytes / _seconds(lambda: b.copy_(a), setting)


def _timed(x: Tensor, ways: dict[str, Way], memory: float, setting: Setting) -> Iterator[tuple[str, str, str, str]]:
    for name, count in ways.items():
        counts = torch.zeros(BINS, dtype=torch.int64, device=x.device)
        seconds = _seconds(lambda count=count, counts=counts: count(x, counts), setting)
        read = x.nbytes / seconds
        yield name, f"{1e9 * seconds / x.numel():.4f}", f"{read / 1e9:.1f}", f"{read / memory:.3f}"


def _seconds(function: Callable[[], object], setting: Setting, repetitions: int = 7) -> float:
    """Return the median seconds of a call, of blocks that last about 20 ms, the device waited for at their ends."""
    calls = max(1, min(200, int(0.02 / max(_block(function, 2, setting), 1e-9))))
    return statistics.median(_block(function, calls, setting) for _ in range(repetitions))


def _block(function: Callable[[], object], calls: int, setting: Setting) -> float:
    setting.wait()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    setting.wait()
    return (time.perf_counter() - start) / calls


def _words(memory: float) -> str:
    return (
        "dropdiag counts by an integer scatter on a GPU, by a compiled loop on the CPU. Each way's counts are held "
        f"against numpy's of the same bits, for equality. A copy within the memory moves {memory / 1e9:.0f} GB/s, read "
        "and written; the share is of that."
    )


def _verdict(rows: list[tuple[str, ...]], setting: Setting) -> list[str]:
    """Return what wins on the largest input, and whether dropdiag's own reaches the goal there."""
    largest = [row for row in rows if row[0] == f"{setting.sizes[-1]:,} normal"]
    shares = {row[1]: float(row[-1]) for row in largest}
    if OURS not in shares:
        return []
    best = max(shares, key=lambda name: shares[name])
    met = "met" if shares[OURS] >= GOAL else "missed"
    return [
        f"Of {largest[0][0]} values {best} is fastest. dropdiag reaches {shares[OURS]:.3f}, the goal {GOAL} is {met}."
    ]
