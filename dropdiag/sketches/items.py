"""Which items of a batch the samples of a sketch belong to: what is independent, beside what is only counted."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

UNKNOWN: Final = -1
_BLOCK: Final = 2**32
"""Items of one batch have numbers of one block, so that those of two batches never meet."""


class Source(Protocol):
    """A batch, or a part of one, that samples come from. What it says may change until its forward pass is over."""

    @property
    def batch(self) -> object:
        """The whole batch: sources with the same one share its items."""
        ...

    def items(self, dims: tuple[int, ...], samples: Numbers) -> Numbers | None:
        """Return which item each sample belongs to; None where that cannot be told.

        Parameters
        ----------
        dims : tuple of int
            The dimensions of a tensor that count samples.
        samples : ndarray of int64
            Numbers of samples, counted over these dimensions in their order.
        """
        ...


class ItemLog:
    """The items of samples that are kept, one after the other.

    A sample's item is asked for when the next batch comes, or at the end: what a forward pass shows of its batch it
    shows by its end.
    """

    def __init__(self) -> None:
        self._numbers: Numbers = np.empty(0, np.int64)  # of items, or of samples where the item is yet to be asked for
        self._waiting: list[tuple[Source, tuple[int, ...], Numbers | slice]] = []  # and at which places these are
        self._last: object = None
        self._block = 0

    def begin(self, source: Source | None) -> None:
        """Take note that samples of a batch follow."""
        batch = None if source is None else source.batch
        if batch is not self._last or batch is None:
            self._settle()
            self._block += 1
            self._last = batch

    def add(self, source: Source | None, dims: tuple[int, ...], samples: Numbers) -> None:
        """Append samples of the batch that was begun."""
        start = self._numbers.size
        if source is None:
            samples = np.full(samples.size, UNKNOWN, np.int64)
        else:
            self._waiting.append((source, dims, slice(start, start + samples.size)))
        self._numbers = np.concatenate([self._numbers, samples])

    def move(self, source: Numbers, target: Numbers, keep: int) -> None:
        """Move samples to other places, and keep the first ones alone."""
        if self._waiting:
            now = np.arange(self._numbers.size)
            now[target], now[keep:] = -1, -1
            now[source] = target
            places = [(of, dims, now[at]) for of, dims, at in self._waiting]
            self._waiting = [(of, dims, at[at >= 0]) for of, dims, at in places]
        self._numbers[target] = self._numbers[source]
        self._numbers = self._numbers[:keep]

    def _settle(self) -> None:
        for source, dims, at in self._waiting:
            items = source.items(dims, self._numbers[at])
            self._numbers[at] = UNKNOWN if items is None else self._block * _BLOCK + items
        self._waiting.clear()

    def extend(self, other: ItemLog) -> None:
        """Append the samples of another log; none of its items is one of these."""
        self._settle()
        other._settle()
        moved = np.where(other._numbers == UNKNOWN, UNKNOWN, other._numbers + (self._block + 1) * _BLOCK)
        self._numbers = np.concatenate([self._numbers, moved])
        self._block += other._block + 1
        self._last = None

    def count(self) -> int | None:
        """Return how many items the samples belong to; None where that of any sample is not known."""
        self._settle()
        found = np.unique(self._numbers)
        return None if (found == UNKNOWN).any() else int(found.size)
