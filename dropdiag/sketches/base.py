"""What every sketch can do."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

S = TypeVar("S", bound="Sketch")


@runtime_checkable
class Sketch(Protocol):
    """A fixed-size summary of a stream of values.

    Updating with two batches, in either order, equals updating with their concatenation, and merging two
    sketches equals updating one with what both have seen. So micro-batches, ranks and segments are one law.
    """

    def update(self, values: Tensor) -> None:
        """Take in a batch of values. Keeps no reference to ``values`` and draws no random number."""
        ...

    def merge(self: S, other: S) -> None:
        """Take in what ``other``, a sketch of the same kind, has seen."""
        ...
