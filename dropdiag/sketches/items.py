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
        self._waiting: list[tuple[Source, tuple[int, ...], Numbers]] = []  # and at which places these are
        self._last: object = None
        self._block = 0

    def begin(self, source: Source | None) -> None:
        """Take note that samples of a batch follow."""
        batch = None if source is None else source.batch
        if batch is not self._last or batch is None:
            self._settle()
            self._block += 1
            self._last = batch

    def put(self, source: Source | None, dims: tuple[int, ...], samples: Numbers, places: Numbers) -> None:
        """Put samples of the batch that was begun at places: new ones at the end, or those of others that go."""
        if source is None:
            samples = np.full(samples.size, UNKNOWN, np.int64)
        self._write(samples, places)
        if source is not None:
            self._waiting.append((source, dims, places))

    def _write(self, numbers: Numbers, places: Numbers) -> None:
        self._waiting = [(of, dims, at[~np.isin(at, places)]) for of, dims, at in self._waiting]
        new = max(int(places.max(initial=-1)) + 1 - self._numbers.size, 0)
        self._numbers = np.concatenate([self._numbers, np.empty(new, np.int64)]) if new else self._numbers
        self._numbers[places] = numbers

    def _settle(self) -> None:
        for source, dims, at in self._waiting:
            items = source.items(dims, self._numbers[at])
            self._numbers[at] = UNKNOWN if items is None else self._block * _BLOCK + items
        self._waiting.clear()

    def take(self, other: ItemLog, chosen: Numbers, places: Numbers) -> None:
        """Put some samples of another log at places; none of its items is one of these."""
        self._settle()
        other._settle()
        moved = np.where(other._numbers == UNKNOWN, UNKNOWN, other._numbers + (self._block + 1) * _BLOCK)
        self._write(moved[chosen], places)
        self._block += other._block + 1
        self._last = None

    def count(self) -> int | None:
        """Return how many items the samples belong to; None where that of any sample is not known."""
        self._settle()
        found = np.sort(self._numbers)  # several times faster than numpy.unique
        return None if (found == UNKNOWN).any() else int(np.count_nonzero(np.diff(found))) + bool(found.size)
