"""Tensors in what modules take and give, and whether two are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors_in(nested: Any) -> Iterator[Tensor]:
    """Give the tensors in what a module takes or gives."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, Mapping):
        yield from tensors_in(tuple(nested.values()))
    elif isinstance(nested, (tuple, list)):
        for part in nested:
            yield from tensors_in(part)


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same up to the order of sums in a kernel."""
    if a.shape != b.shape:
        return False
    if not a.is_floating_point() or torch.equal(a, b):
        return torch.equal(a, b)
    a, b = a.to(torch.float32), b.to(torch.float32)
    finite = a[a.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=1e-5 * scale, equal_nan=True)
