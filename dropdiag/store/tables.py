"""The Parquet tables of a run folder: rows in, rows out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.schema import line_bins

if TYPE_CHECKING:
    from dropdiag.store.rows import HistogramRow, ScalarRow
    from dropdiag.store.segments import Segment

_KEY: Final = [
    ("step", pa.int64()),
    ("phase", pa.string()),
    ("layer", pa.string()),
    ("call", pa.int32()),
    ("quantity", pa.string()),
]

SCHEMAS: Final = {
    "scalars": pa.schema([*_KEY, ("value", pa.float64())]),
    "histograms": pa.schema(
        [
            *_KEY,
            ("n", pa.int64()),
            ("bins", pa.list_(pa.uint16())),
            ("counts", pa.list_(pa.int64())),
        ]
    ),
    "derivatives": pa.schema([("activation", pa.string()), ("bin", pa.uint16()), ("abs_derivative", pa.float64())]),
}


def scalars(rows: Sequence[ScalarRow]) -> pa.Table:
    """Turn scalar rows into a table; a value of None becomes null."""
    columns = list(zip(*rows, strict=True))
    schema = SCHEMAS["scalars"]
    return pa.Table.from_arrays([pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)], schema=schema)


def histograms(rows: Sequence[HistogramRow]) -> pa.Table:
    """Turn histogram rows into a table, with ``n`` the sum of the counts."""
    key = list(zip(*((r.step, r.phase, r.layer, r.call, r.quantity) for r in rows), strict=True))
    offsets = pa.array(np.cumsum([0, *(len(r.bins) for r in rows)]), pa.int32())
    arrays = [pa.array(c, t) for c, (_, t) in zip(key, _KEY, strict=True)]
    arrays.append(pa.array([int(r.counts.sum()) for r in rows], pa.int64()))
    for column, dtype in ("bins", pa.uint16()), ("counts", pa.int64()):
        flat = b"".join([getattr(r, column) for r in rows])  # a copy at the speed of memory, of arrays as well
        values = pa.Array.from_buffers(dtype, offsets[-1].as_py(), [None, pa.py_buffer(flat)])
        arrays.append(pa.ListArray.from_arrays(offsets, values))
    return pa.Table.from_arrays(arrays, schema=SCHEMAS["histograms"])


def derivative(activation: str, values: NDArray[np.float64]) -> pa.Table:
    """Turn |phi'| on the grid (in order of the real line) into a table."""
    bins = line_bins()
    arrays = [pa.array([activation] * len(bins)), pa.array(bins), pa.array(values)]
    return pa.Table.from_arrays(arrays, schema=SCHEMAS["derivatives"])


def encoding(table: pa.Table) -> dict[str, Any]:
    """Return how `pyarrow.parquet.write_table` is to encode a table.

    Neighbouring bins differ by one, so their differences pack to nearly nothing; names repeat, so they go
    through a dictionary.
    """
    plain = {name: "DELTA_BINARY_PACKED" for name in ("step", "call", "n") if name in table.column_names}
    if "bins" in table.column_names:
        # Parquet deltas take signed types alone of 32 and 64 bits: uint16 is stored as such an INT32.
        plain |= {"bins.list.element": "DELTA_BINARY_PACKED", "counts.list.element": "DELTA_BINARY_PACKED"}
    names = [n for n in ("phase", "layer", "quantity", "activation") if n in table.column_names]
    return {"compression": "zstd", "compression_level": 1, "use_dictionary": names, "column_encoding": plain}


def read_or_raise(segment: Segment, columns: list[str] | None = None, filters: Any = None) -> pa.Table:
    """Read one segment.

    Raises
    ------
    RunError
        If it cannot be read.
    """
    try:
        return pq.read_table(segment.path, columns=columns, filters=filters, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{segment.path} cannot be read: {error}") from error


def read(segment: Segment, columns: list[str] | None = None, filters: Any = None) -> pa.Table | None:
    """Read one segment; where it cannot be read, warn with its name and return None."""
    try:
        return read_or_raise(segment, columns, filters)
    except RunError as error:
        warnings.warn(f"{error}; it is left out, the rest of the run is read", DropdiagWarning, stacklevel=2)
        return None
