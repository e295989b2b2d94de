"""The histogram by Triton: bins of each program's own, in shared memory or in a table that stays in the cache.

With TRITON_INTERPRET=1 the same kernels run on the CPU, slowly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dropdiag.histograms.grid import BINS, SHIFT

VALUES = 16_384
"""Values a program takes at a time: half as many as there are bins, which it sets to 0 and reads again each time."""


@triton.jit
def _shared(values, counts, n, shift: tl.constexpr, block: tl.constexpr, bins: tl.constexpr):
    """Count into 128 KB of shared memory, add up in registers, and add to the table at the end."""
    total = tl.zeros([bins], tl.int32)
    for start in range(tl.program_id(0) * block, n, tl.num_programs(0) * block):
        at = start + tl.arange(0, block)
        bits = tl.load(values + at, mask=at < n, other=0).to(tl.int32)
        total += tl.histogram((bits >> shift) & (bins - 1), bins, mask=at < n)
    tl.atomic_add(counts + tl.arange(0, bins), total.to(tl.int64), mask=total > 0, sem="relaxed")


@triton.jit
def _own_tables(values, tables, n, shift: tl.constexpr, block: tl.constexpr, bins: tl.constexpr):
    """Count into a table of the program's own."""
    table = tables + tl.program_id(0) * bins
    for start in range(tl.program_id(0) * block, n, tl.num_programs(0) * block):
        at = start + tl.arange(0, block)
        bits = tl.load(values + at, mask=at < n, other=0).to(tl.int32)
        tl.atomic_add(table + ((bits >> shift) & (bins - 1)), 1, mask=at < n, sem="relaxed")


def _bits(values: Tensor) -> tuple[Tensor, int]:
    """Return the bits of float32 or bfloat16 values, and by how many a bin's number is shifted in them."""
    short = values.dtype == torch.bfloat16
    return values.contiguous().flatten().view(torch.int16 if short else torch.int32), SHIFT - 16 * short


def _programs(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 3


def in_shared_memory(values: Tensor, counts: Tensor) -> None:
    """Add to the counts; int64, shape (32768,), on the values' device. Fewer than 2**31 values."""
    bits, shift = _bits(values)
    programs = min(_programs(values.device), triton.cdiv(bits.numel(), VALUES))
    _shared[(programs,)](bits, counts, bits.numel(), shift=shift, block=VALUES, bins=BINS, num_warps=32)


def in_own_tables(values: Tensor, counts: Tensor) -> None:
    """Add to the counts; int64, shape (32768,), on the values' device. Fewer than 2**31 values."""
    bits, shift = _bits(values)
    programs = min(_programs(values.device), triton.cdiv(bits.numel(), 1024))
    tables = torch.zeros(programs, BINS, dtype=torch.int32, device=values.device)
    _own_tables[(programs,)](bits, tables, bits.numel(), shift=shift, block=1024, bins=BINS, num_warps=8)
    counts += tables.sum(0)
