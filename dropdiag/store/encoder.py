"""Arrow's encoder of Parquet, kept small in the training's process.

Arrow brings an allocator along, mimalloc, which keeps what it once had, in pages of 2 MB: 20 MB for tables of 3 MB. So
what can be taken from the system is, and what has to come from Arrow's own is given back after each file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, RawIOBase

import pyarrow as pa
import pyarrow.parquet as pq

from dropdiag.store import tables


@contextmanager
def encoder(file: RawIOBase | BytesIO, schema: pa.Schema, level: int = tables.LEVEL) -> Iterator[pq.ParquetWriter]:
    """Open what writes tables of a schema to a file.

    Parameters
    ----------
    file : file
    schema : Schema
    level : int
        How hard to compress.
    """
    pool = pa.system_memory_pool()
    try:
        with pq.ParquetWriter(file, schema, memory_pool=pool, **tables.encoding(schema, level)) as out:
            yield out
    finally:
        pa.default_memory_pool().release_unused()
