"""The parts of a catalog: scalars of many runs in one Parquet file, sorted by quantity so that one is read alone.

A part is written once, under a name that nobody else takes, and never changed. Its rows carry the number of the
catalog's entry that they belong to and their place in the run; rows of entries that the index no longer names
are dead.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdiag.errors import RunError
from dropdiag.store.files import put_in_place
from dropdiag.store.reading import coded, decoded, known_range, one_chunk
from dropdiag.store.selection import NAMES, Selection

GROUP: Final = 131_072  # rows of a row group
SCHEMA: Final = pa.schema([("entry", pa.int64()), ("row", pa.int64()), *coded("scalars")])
DELTAS: Final = ("entry", "row", "step", "call")


def write_part(folder: Path, entries: Mapping[int, pa.Table]) -> Path:
    """Write the scalars of runs as a new part: under a temporary name, synced, then given its name.

    Parameters
    ----------
    folder : Path
    entries : mapping of int to Table
        Number of the entry -> its scalars, names as dictionaries, as recorded.

    Returns
    -------
    Path
        The part.
    """
    path = folder / f"scalars-{uuid.uuid4().hex}.parquet"
    with put_in_place(path, Path.rename) as file:
        _write_sorted(file, _joined(entries))
    return path


def read_part(
    path: Path, positions: Mapping[int, int], selection: Selection, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read the wanted rows of some entries.

    Parameters
    ----------
    path : Path
    positions : mapping of int to int
        Number of an entry -> the position to give it.
    selection : Selection
    columns : sequence of str, optional
        Columns that are needed; None is all of them.

    Returns
    -------
    Table
        As `dropdiag.store.batches.batches` yields it.

    Raises
    ------
    RunError
        If it cannot be read.
    """
    one_quantity = len(selection.quantity or ()) == 1
    wanted = coded("scalars").names if columns is None else list(dict.fromkeys(columns))
    needed = _needed(selection, [*wanted, "entry", *([] if one_quantity else ["row"])])
    try:
        with pq.ParquetFile(path, read_dictionary=list(NAMES), pre_buffer=False) as file:
            groups = [g for g in range(file.num_row_groups) if _may_hold(file.metadata.row_group(g), selection)]
            table = selection.apply(one_chunk(file.read_row_groups(groups, needed.names).cast(needed)))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RunError(f"the catalog's part {path} cannot be read: {error}") from error
    place = _places(table["entry"].to_numpy(), positions)
    table = table.append_column("position", pa.array(place))
    if (place < 0).any():
        table = table.filter(pa.array(place >= 0))
    if not one_quantity:  # sorted by quantity: back to the order in which they were recorded
        table = table.take(np.lexsort((table["row"].to_numpy(), table["position"].to_numpy())))
    return table.select(["position", *wanted])


def _needed(selection: Selection, wanted: Sequence[str]) -> pa.Schema:
    """Return the columns that are wanted or that rows are chosen by, in the order of the file."""
    chosen_by = [name for name in NAMES if getattr(selection, name) is not None]
    step = [] if selection.steps == (None, None) else ["step"]
    return pa.schema([field for field in SCHEMA if field.name in {*wanted, *chosen_by, *step}])


def _joined(entries: Mapping[int, pa.Table]) -> pa.Table:
    parts = []
    for entry, table in entries.items():
        number = pa.array(np.full(len(table), entry, np.int64))
        row = pa.array(np.arange(len(table), dtype=np.int64))
        parts.append(table.add_column(0, "entry", number).add_column(1, "row", row))
    return one_chunk(pa.concat_tables([SCHEMA.empty_table(), *parts]))


def _write_sorted(file: object, table: pa.Table) -> None:
    """Write a table quantity by quantity, each in row groups of its own."""
    encoding = dict.fromkeys(DELTAS, "DELTA_BINARY_PACKED")
    options = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": list(NAMES),
        "column_encoding": encoding,
    }
    column = table["quantity"]
    names = column.unique().to_pylist() if len(table) else []
    with pq.ParquetWriter(file, decoded(SCHEMA.empty_table()).schema, **options) as writer:
        for name in sorted(names):
            writer.write_table(decoded(table.filter(pc.equal(column, name))), row_group_size=GROUP)


def _may_hold(group: pq.RowGroupMetaData, selection: Selection) -> bool:
    """Whether a row group can hold a wanted quantity and step, by what the file says of it."""
    least, most = known_range(group, SCHEMA.get_field_index("quantity"))
    if selection.quantity is not None and least is not None and not any(least <= q <= most for q in selection.quantity):
        return False
    least, most = known_range(group, SCHEMA.get_field_index("step"))
    return least is None or selection.may_hold(least, most)


def _places(entries: NDArray[np.int64], positions: Mapping[int, int]) -> NDArray[np.int32]:
    """Position of each row's entry; -1 where it is not asked for."""
    if not len(entries):
        return np.empty(0, np.int32)
    least, most = int(entries.min()), int(entries.max())
    table = np.full(most - least + 1, -1, np.int32)
    for entry, position in positions.items():
        if least <= entry <= most:
            table[entry - least] = position
    return table[entries - least]
