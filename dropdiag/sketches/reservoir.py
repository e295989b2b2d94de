"""A sample of bounded size, with no random number drawn: those of the lowest hashes of their running numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dropdiag.sketches import native

Keys = NDArray[np.uint64]
Places = NDArray[np.int64]


class Reservoir:
    """Which samples are kept, and at which places: what comes takes the place of what it pushes out.

    So nothing that is kept is moved, and the samples kept at any time do not depend on how they were split.

    Parameters
    ----------
    most : int
        Samples that are kept.

    Attributes
    ----------
    n : int
        Samples that are kept so far, at the places from 0 on.
    """

    __slots__ = ("_keys", "_most", "n")

    def __init__(self, most: int) -> None:
        self._most, self.n = most, 0
        self._keys: Keys = np.empty(0, np.uint64)

    @property
    def keys(self) -> Keys:
        """The hashes of the samples that are kept, by place."""
        return self._keys[: self.n]

    def offer(self, keys: Keys) -> tuple[Places, Places]:
        """Return which samples are to be kept, by their hashes; `take` has to follow.

        Parameters
        ----------
        keys : ndarray of uint64, shape (k,)

        Returns
        -------
        chosen : ndarray of int64
            Positions, ascending, of those that are to be kept.
        places : ndarray of int64, of the same shape
            Where each of them is to be kept: ascending.
        """
        if native.loops is None:
            return self._offered(keys)
        return self._offered_to_loop(keys)

    def take(self, keys: Keys, chosen: Places, places: Places) -> None:
        """Take note that samples are kept as `offer` said: after they are, as an interruption may come before."""
        if self._keys.size == 0:
            self._keys = np.empty(self._most, np.uint64)
        if places.size:
            self._keys[places] = keys[chosen]
            self.n = max(self.n, int(places[-1]) + 1)

    def _offered(self, keys: Keys) -> tuple[Places, Places]:
        both = np.concatenate([self.keys, keys])
        kept = np.ones(both.size, dtype=bool)
        if both.size > self._most:
            kept[np.argpartition(both, self._most - 1)[self._most :]] = False
        chosen, left = np.flatnonzero(kept[self.n :]), np.flatnonzero(~kept[: self.n])
        places = np.concatenate([left, np.arange(self.n, self._most)])
        return chosen, places[: chosen.size]

    def _offered_to_loop(self, keys: Keys) -> tuple[Places, Places]:
        assert native.loops is not None  # noqa: S101 - it is asked for where they are
        chosen, places = np.empty((2, min(keys.size, self._most)), np.int64)
        given = native.address(self._keys), self.n, self._most, native.address(keys), keys.size
        found = native.loops.choose(*given, native.address(chosen), native.address(places))
        return chosen[:found], places[:found]
