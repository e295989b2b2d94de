"""Which tensor is watched for the gradient of a net value, and which part of its gradient that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from dropdiag.sketches.native import PLAIN

Part: TypeAlias = Callable[[Tensor], Tensor]
"""Takes the gradient of a view out of the gradient of its base."""


def watched(z: Tensor) -> tuple[Tensor | None, Part | None]:
    """Return the tensor whose gradient holds that of a net value, and the part of it; None where there is none.

    Parameters
    ----------
    z : Tensor
        Which the activation is about to overwrite.
    """
    # A hook on a tensor stays with its value when an operation in place gives the tensor a new one, but a view that
    # is overwritten gets a new place in the graph: what it is a view of is watched instead. `_base` is private; there
    # is no public way from a view to its base.
    base = z._base
    if base is None:
        return z, None
    if type(base) not in PLAIN or base.dtype != z.dtype:
        return None, None  # a real view of complex numbers, or of a subclass
    return base, part_of(z, base)


def part_of(z: Tensor, base: Tensor) -> Part:
    """Return what takes the gradient of a view out of the gradient of its base."""
    # Numbers alone are kept: a reference to z or its base would keep the activation's memory until backward.
    view = z.size(), z.stride(), z.storage_offset() - base.storage_offset()
    size, stride = base.size(), base.stride()

    def take(gradient: Tensor) -> Tensor:
        # Laid out as the base is: the gradient's own strides may be others.
        laid_out = torch.empty_strided(size, stride, dtype=gradient.dtype, device=gradient.device).copy_(gradient)
        return laid_out.as_strided(*view)

    return take
