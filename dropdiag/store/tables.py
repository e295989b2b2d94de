"""The Parquet tables of a run folder, made of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.histograms.grid import line_bins

if TYPE_CHECKING:
    from dropdiag.store.rows import HistogramRow, ScalarRow, StateRow

_KEY: Final = [
    ("step", pa.int64()), ("phase", pa.string()), ("layer", pa.string()), ("call", pa.int32()),
    ("quantity", pa.string()),
]  # fmt: skip

SCHEMAS: Final = {
    "scalars": pa.schema([*_KEY, ("value", pa.float64())]),
    "histograms": pa.schema(
        [*_KEY, ("n", pa.int64()), ("bins", pa.list_(pa.uint16())), ("counts", pa.list_(pa.int64()))]
    ),
    "states": pa.schema([*_KEY, ("count", pa.int64()), ("nodes", pa.int32()), ("state", pa.list_(pa.float64()))]),
    "derivatives": pa.schema([("activation", pa.string()), ("bin", pa.uint16()), ("abs_derivative", pa.float64())]),
}
COUNT: Final = pa.field("count", pa.float64())
"""The column that the scalars of several ranks have after ``value``."""


def scalars(rows: Sequence[ScalarRow], *, counts: bool = False) -> pa.Table:
    """Turn scalar rows into a table; a value or a count of None becomes null.

    Parameters
    ----------
    rows : sequence of ScalarRow
    counts : bool
        Whether the table has the column ``count``: in runs of several ranks alone.
    """
    *key, values, count = zip(*rows, strict=True)
    schema = SCHEMAS["scalars"].append(COUNT) if counts else SCHEMAS["scalars"]
    return pa.Table.from_arrays([*_keys(key), *map(_numbers, (values, count) if counts else (values,))], schema=schema)


def histograms(rows: Sequence[HistogramRow]) -> pa.Table:
    """Turn histogram rows into a table, with ``n`` the sum of the counts."""
    key = zip(*((r.step, r.phase, r.layer, r.call, r.quantity) for r in rows), strict=True)
    offsets = _array(pa.int32(), np.cumsum([0, *(len(r.bins) for r in rows)], dtype=np.int32))
    arrays = [*_keys(key), _array(pa.int64(), np.array([r.counts.sum() for r in rows], np.int64))]
    for column, dtype in ("bins", pa.uint16()), ("counts", pa.int64()):
        flat = b"".join([getattr(r, column) for r in rows])  # a copy at the speed of memory, of arrays as well
        values = pa.Array.from_buffers(dtype, len(flat) // (dtype.bit_width // 8), [None, pa.py_buffer(flat)])
        arrays.append(pa.ListArray.from_arrays(offsets, values))
    return pa.Table.from_arrays(arrays, schema=SCHEMAS["histograms"])


def states(rows: Sequence[StateRow]) -> list[pa.Table]:
    """Turn rows of states into tables, one a quantity: moments are seven numbers, a covariance half a million."""
    found: dict[str, list[StateRow]] = {}
    for row in rows:
        found.setdefault(row.quantity, []).append(row)
    return list(map(_states, found.values()))


def _states(rows: Sequence[StateRow]) -> pa.Table:
    *key, count, nodes, state = zip(*rows, strict=True)
    offsets = _array(pa.int32(), np.cumsum([0, *map(len, state)], dtype=np.int32))
    values = _array(pa.float64(), np.concatenate(state).astype(np.float64, copy=False))
    numbers = _array(pa.int64(), np.array(count, np.int64)), _array(pa.int32(), np.array(nodes, np.int32))
    arrays = [*_keys(key), *numbers, pa.ListArray.from_arrays(offsets, values)]
    return pa.Table.from_arrays(arrays, schema=SCHEMAS["states"])


def derivative(activation: str, values: NDArray[np.float64]) -> pa.Table:
    """Turn |phi'| on the grid (in order of the real line) into a table."""
    bins = line_bins()
    arrays = [_texts([activation] * len(bins)), _array(pa.uint16(), bins), _array(pa.float64(), values)]
    return pa.Table.from_arrays(arrays, schema=SCHEMAS["derivatives"])


def _keys(columns: Iterable[Sequence[Any]]) -> list[pa.Array]:
    steps, phases, layers, calls, quantities = columns
    numbers = _array(pa.int64(), np.array(steps, np.int64)), _array(pa.int32(), np.array(calls, np.int32))
    return [numbers[0], _texts(phases), _texts(layers), numbers[1], _texts(quantities)]


# `pa.array` would import pandas (60 MB) into the training's process to see whether its input is a Series.


def _numbers(values: Sequence[float | None]) -> pa.Array:
    """Return numbers as an array of float64, null for None."""
    known = np.array([value is not None for value in values])
    return _array(pa.float64(), np.array([np.nan if value is None else value for value in values], np.float64), known)


def _array(dtype: pa.DataType, values: NDArray[Any], known: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers as an array without a copy; null where they are not known."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(dtype, values.size, [_validity(known), pa.py_buffer(values)])


def _texts(values: Sequence[str | None]) -> pa.Array:
    """Return texts as an array, null for None."""
    encoded = [b"" if value is None else value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    known = np.array([value is not None for value in values])
    buffers = [_validity(known), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def _validity(known: NDArray[np.bool_] | None) -> pa.Buffer | None:
    return None if known is None or known.all() else pa.py_buffer(np.packbits(known, bitorder="little").tobytes())


PLACE: Final = b"dropdiag"
"""Under this key the metadata of a segment say which it is: no two are equal, byte by byte, but copies."""


def placed(schema: pa.Schema, place: str) -> pa.Schema:
    """Return the schema of a segment that says which one it is, as `dropdiag.store.segments.place_name` does."""
    return schema.with_metadata({PLACE: place.encode()})


LEVEL: Final = 1
"""How hard segments are compressed while training waits for the processor."""
JOINED_LEVEL: Final = 9
"""How hard they are where they are joined, at the end."""


def encoding(schema: pa.Schema, level: int = LEVEL) -> dict[str, Any]:
    """Return how `pyarrow.parquet.write_table` is to encode tables of a schema.

    Neighbouring bins differ by one, so their differences pack to nearly nothing; names repeat, so they go
    through a dictionary.

    Parameters
    ----------
    schema : Schema
    level : int
        How hard zstd is to try.
    """
    integers = (pa.int64(), pa.int32())  # the count of a scalar is none, and goes through a dictionary
    plain = {field.name: "DELTA_BINARY_PACKED" for field in schema if field.type in integers}
    # Parquet deltas take signed types alone of 32 and 64 bits: uint16 is stored as such an INT32.
    if "bins" in schema.names:
        plain |= {"bins.list.element": "DELTA_BINARY_PACKED", "counts.list.element": "DELTA_BINARY_PACKED"}
    if "bin" in schema.names:
        plain["bin"] = "DELTA_BINARY_PACKED"
    words = ("phase", "layer", "quantity", "activation", "count")
    names = [name for name in words if name in schema.names and name not in plain]
    return {"compression": "zstd", "compression_level": level, "use_dictionary": names, "column_encoding": plain}
