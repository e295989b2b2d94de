"""Samples of large tensors: one value of each stretch of equal length, at a place that a hash says."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.sketches.devices import sent
from dropdiag.sketches.mixing import mixed

CACHED: Final = 16
"""Tables of places that are kept, of 1 MB each for 2**18 values."""


def thinned(values: Tensor, max_values: int, number: int = 0) -> tuple[Tensor, int]:
    """Return at most `max_values` values of a tensor, and of how many each is one.

    Parameters
    ----------
    values : Tensor, any shape
    max_values : int
    number : int
        Of the tensor among those that are sampled into one sketch, from 0: the next one is sampled at other places.

    Returns
    -------
    sample : Tensor, shape (n,)
        One value of each stretch of `stride` values, in the order of `values`. Where in its stretch is as good as
        random and yet always the same, so whatever period the values have (nodes, positions, tokens), its phases come
        about as often as in a random sample. At a fixed stride they would not.
    stride : int
    """
    flat = values.detach().reshape(-1)
    stride = -(-flat.numel() // max_values)
    # The stretches begin a value later in each tensor, which is sampled at other places so, by the same table.
    start = number % stride
    n = -(-(flat.numel() - start) // stride)
    if start + (n - 1) * stride + _place(n - 1, stride) >= flat.numel():
        n -= 1  # the last stretch is not whole, and its place lies beyond the end
    return flat[start:].index_select(0, _table(stride, max_values, flat.device)[:n]), stride


def _place(number: int, stride: int) -> int:
    return int(mixed(number, 1)[0] % np.uint64(stride))


@lru_cache(maxsize=CACHED)
def _table(stride: int, n: int, device: torch.device) -> Tensor:
    """Return the places of one value in each of n stretches."""
    places: NDArray[np.int64] = (mixed(0, n) % np.uint64(stride)).astype(np.int64)
    places += np.arange(n, dtype=np.int64) * stride
    small = n * stride <= np.iinfo(np.int32).max
    with torch.inference_mode(False):
        return sent(torch.from_numpy(places.astype(np.int32) if small else places), device)
