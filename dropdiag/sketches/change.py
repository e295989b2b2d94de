"""How far a tensor has moved, beside how large it was."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from dropdiag.sketches import native

CHUNK: Final = 2**15
"""Values that are widened to float64 at a time on the CPU: they stay in the cache."""
CHUNK_OF_DEVICE: Final = 2**24


class Change(NamedTuple):
    """A tensor as it was, and as it is; of one shape."""

    before: Tensor
    now: Tensor


class ChangeNorm:
    """Frobenius norm of a change beside that of the tensor before it: ``|now - before| / |before|``.

    Error: that of float64 sums of squares, about 1e-15 relative for a million values: differences are float64 as well.
    Memory: two numbers. Parts of one tensor, each on a rank, merge to the whole.

    Attributes
    ----------
    n : int
        Values.
    squares : Tensor of float64, shape (2,), or None
        Sums of squares of the change, and of what was before.
    """

    __slots__ = ("n", "squares")

    def __init__(self) -> None:
        self.n = 0
        self.squares: Tensor | None = None

    # Fed with more than a tensor: Any, as the protocol's argument is a Tensor.
    def update(self, values: Any) -> None:
        """Take in a `Change`."""
        before, now = (tensor.detach().reshape(-1) for tensor in values)
        self._add(now.numel(), _squares(before, now))

    def merge(self, other: ChangeNorm) -> None:
        """Take in what another has seen."""
        if other.squares is not None:
            self._add(other.n, other.squares)

    def _add(self, n: int, squares: Tensor) -> None:
        self.n += n
        self.squares = squares if self.squares is None else self.squares + squares

    def ratio(self) -> float | Tensor | None:
        """Return the ratio of the norms; None (a tensor: NaN) where all was 0 before, or nothing came."""
        if self.squares is None or self.n == 0:
            return None
        if self.squares.is_cpu:
            changed, size = self.squares.tolist()
            return None if size == 0 else math.sqrt(changed / size)
        changed, size = self.squares
        return torch.where(size == 0, torch.nan, (changed / size).sqrt())


def _squares(before: Tensor, now: Tensor) -> Tensor:
    if native.loops is not None and before.dtype == now.dtype == torch.float32:
        earlier, later = native.memory_span(before), native.memory_span(now)
        if earlier is not None and later is not None:
            found = native.loops.change_squares(earlier[0], later[0], later[1])
            return torch.tensor(found, dtype=torch.float64)
    total = torch.zeros(2, dtype=torch.float64, device=now.device)
    size = CHUNK if now.is_cpu else CHUNK_OF_DEVICE
    for a, b in zip(torch.split(before, size), torch.split(now, size), strict=True):
        was = a.to(torch.float64)
        moved = b.to(torch.float64) - was
        total += torch.stack([moved.dot(moved), was.dot(was)])
    return total
