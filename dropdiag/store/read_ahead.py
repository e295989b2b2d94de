"""Read many runs in threads, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

THREADS: Final = 2  # they hide the latency of a slow file system, and decode beside each other; four gained no more
AHEAD: Final = 8  # items that are read and not used yet, at most: a bound on memory
FEW: Final = 4  # items that are not worth a pool
Item = TypeVar("Item")
Found = TypeVar("Found")


def read_ahead(read: Callable[[Item], Found], items: Sequence[Item]) -> Iterator[tuple[Item, Found]]:
    """Yield each item with what was read of it; warnings are the caller's to give, in the caller's thread."""
    if len(items) < FEW:
        yield from ((item, read(item)) for item in items)
        return
    waiting: deque[tuple[Item, Future[Found]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > AHEAD:
                first, found = waiting.popleft()
                yield first, found.result()
        yield from ((item, found.result()) for item, found in waiting)
