"""What rank 0 tells the others of the runs that it opens, in the order in which it opens them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

_PREFIX: Final = "dropdiag"


class Board:
    """Announcements of rank 0 in the store of a process group, as one rank reads them.

    Parameters
    ----------
    store : Store
        What a process group keeps keys in.
    rank : int
    """

    def __init__(self, store: Any, rank: int) -> None:
        self._store, self._rank = store, rank

    def answers(self) -> bool:
        """Whether the store can be reached."""
        try:
            return self._passed >= 0
        except RuntimeError:  # a store that is gone
            return False

    def announce(self, content: dict[str, Any]) -> None:
        """Append an announcement."""
        number = int(self._store.add(f"{_PREFIX}/announced", 1))
        self._store.set(_key(number), json.dumps(content))

    def take(self, asked: str) -> dict[str, Any] | None:
        """Return the first announcement of a path that this rank has not taken yet; None where there is none."""
        for number, told in self._since(0):
            if told["asked"] == asked and self._store.add(f"{_PREFIX}/taken/{self._rank}/{number}", 1) == 1:
                self.pass_by(number)  # what rank 0 opened before is its own business
                return told
        return None

    def pending(self) -> tuple[int, dict[str, Any]] | None:
        """Return the first announcement, with its number, after all that this rank took or passed by."""
        return next(self._since(self._passed), None)

    def wait(self, after: int, seconds: float) -> bool:
        """Wait for an announcement after the first so many; return whether one came."""
        try:
            self._store.wait([_key(after + 1)], timedelta(seconds=seconds))
        except RuntimeError:  # DistStoreError among them
            return False
        return True

    def pass_by(self, number: int) -> None:
        """Take note that announcements up to this one are not for this rank."""
        behind = number - self._passed
        if behind > 0:
            self._store.add(f"{_PREFIX}/passed/{self._rank}", behind)

    @property
    def _passed(self) -> int:
        return int(self._store.add(f"{_PREFIX}/passed/{self._rank}", 0))  # adds nothing: it asks

    @property
    def count(self) -> int:
        """How many announcements can be read: one is counted a moment before it is there."""
        count = int(self._store.add(f"{_PREFIX}/announced", 0))
        return count - (count > 0 and not self._store.check([_key(count)]))

    def _since(self, number: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for later in range(number + 1, self.count + 1):
            yield later, json.loads(self._store.get(_key(later)))


def _key(number: int) -> str:
    return f"{_PREFIX}/announcement/{number}"
