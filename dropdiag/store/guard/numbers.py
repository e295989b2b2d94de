"""Columns of numbers as numpy arrays, with no pandas: Arrow's `to_numpy` imports it, which takes 60 MB and a second.

A training reads its segments once, to join them at the end, and needs no pandas for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Return numbers, none of which is null, as they lie in Arrow's memory; those of several chunks are copied."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    found: NDArray[Any] = np.from_dlpack(column)
    return found
