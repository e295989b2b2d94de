"""The compiled loops, and which tensors they can read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from types import ModuleType
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dropdiag.store.memory import check_for_thread

try:
    from dropdiag.sketches import _native
except ImportError:  # not built: no compiler was there when dropdiag was installed
    loops: ModuleType | None = None
else:
    _native.setup(Tensor, nn.Parameter, torch.float32, torch.bfloat16)
    loops = _native

WIDTHS: Final = {torch.float32: 4, torch.bfloat16: 2}
PARALLEL: Final = 4_000_000
"""From this many values on several threads count: waking one takes as long as counting some 300,000 values."""
INTERVALS: Final = 16
"""Intervals that are counted in one go."""
PLAIN: Final = (Tensor, nn.Parameter)
"""Types whose memory holds their values. A subclass (DTensor, say) may mean anything by it."""

MemorySpan = tuple[int, int, int, Tensor]
"""Address of values, how many they are, bytes of each, and the tensor that keeps them alive."""


def memory_span(values: Tensor) -> MemorySpan | None:
    """Return where a tensor's values lie, in any order; None where the compiled loops cannot read them.

    Parameters
    ----------
    values : Tensor
        Readable are plain float32 and bfloat16 tensors on the CPU; one with gaps is copied first.
    """
    width = WIDTHS.get(values.dtype)
    if loops is None or width is None or not values.is_cpu or type(values) not in PLAIN or values.is_neg():
        return None
    if values.is_contiguous():  # the usual case first: this runs in every hook
        return values.data_ptr(), values.numel(), width, values
    if values.layout != torch.strided:
        return None
    # Counts and sums do not depend on the order of values, so memory without gaps is read as it lies.
    owner = values if is_dense(values) else values.detach().contiguous()
    return owner.data_ptr(), owner.numel(), width, owner


def address(array: NDArray[Any]) -> int:
    """Return where the values of a contiguous array lie; ``array.ctypes`` takes several times as long to tell."""
    where: int = array.__array_interface__["data"][0]
    return where


def is_dense(values: Tensor) -> bool:
    """Whether values that are not contiguous still fill a stretch of memory without gaps."""
    if values.ndim == 4:
        return values.is_contiguous(memory_format=torch.channels_last)
    return values.ndim == 2 and values.t().is_contiguous()


def count_parallel(values: MemorySpan, tables: Sequence[Tensor]) -> None:
    """Count parts of the values, of about one size, into several tables at once.

    Parameters
    ----------
    values : MemorySpan
    tables : sequence of Tensor of int64, shape (32768,)
        One for each part; as many threads work, the one that calls among them.
    """
    assert loops is not None  # noqa: S101 - `memory_span` gives None without them
    address, n, width, _ = values
    size = -(-n // len(tables))
    mine, *others = [
        (address + start * width, min(size, n - start), width, table.data_ptr(), True)  # the loop lets others run
        for start, table in zip(range(0, n, size), tables, strict=False)  # there may be fewer parts than tables
    ]
    check_for_thread()
    jobs: list[Future[None]] = []
    try:
        jobs.extend(_pool(os.getpid()).submit(loops.count, *part) for part in others)
        loops.count(*mine)
    finally:
        wait(jobs)  # they write where the tables are: not after these are gone
    for job in jobs:
        job.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - threads stay behind when a process is forked
    return ThreadPoolExecutor(thread_name_prefix="dropdiag-count")
