"""Hashes of running numbers: which of many values make up a sample, with no random number drawn."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.sketches import native

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST: Final = np.uint64(31)


def mixed(first: int, n: int) -> NDArray[np.uint64]:
    """Return the outputs of splitmix64 for the numbers from `first` on: one to one, and alike to random numbers.

    Parameters
    ----------
    first : int
        At least 0.
    n : int

    Returns
    -------
    ndarray of uint64, shape (n,)

    Notes
    -----
    Multiples of a constant (the golden ratio, say) modulo 2**64 are more even over all numbers, but not over those that
    a period picks out: of a period that is a Fibonacci number they pass over whole phases.
    """
    if native.loops is not None:
        hashes = np.empty(n, np.uint64)
        native.loops.mix(first, n, native.address(hashes))
        return hashes
    keys = np.arange(first, first + n, dtype=np.uint64)
    keys *= _STEP  # unsigned: it wraps around, as it should
    for shift, factor in _ROUNDS:
        keys ^= keys >> shift
        keys *= factor
    keys ^= keys >> _LAST
    return keys
