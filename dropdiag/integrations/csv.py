"""A run as CSV files, for spreadsheets and other languages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from dropdiag.histograms import grid
from dropdiag.integrations.destination import new_folder
from dropdiag.integrations.spreadsheet import without_formulas
from dropdiag.store.reading import BIN_COLUMNS, coded, decoded
from dropdiag.store.run import Run

KEYS: Final = ["step", "phase", "layer", "call", "quantity"]


def to_csv(run: Run, out: Path) -> list[Path]:
    """Write a run's scalars and histograms as tidy CSV files.

    ``scalars.csv`` has the columns step, phase, layer (empty for the run's own), call, quantity, value (empty where
    it is missing, ``nan`` where it is not a number). ``histograms.csv`` has a row an occupied bin: step, phase,
    layer, call, quantity, low, high, count, along the real line. Counts are exact. The zeros are one bin with
    low = high = 0, infinities have low = high = ``inf`` or ``-inf``, NaN ``nan``: the counts of a histogram
    sum to all of its values. Numbers read back as the same float64.

    Names may be anybody's, and a spreadsheet runs a cell that begins with ``=``: a text that begins with ``=``, ``+``,
    ``-``, ``@``, a tab or a line end, or with an apostrophe, has an apostrophe before it. Whoever reads the files by
    program takes that one away: ``text[1:] if text.startswith("'") else text``.

    Of a run that recorded its order of execution, ``layers.csv`` has a row a site in that order: rank (empty where it
    never ran), layer, call, kind, type. Sites of one rank stand in parallel branches.

    Memory: under 100 MB, whatever the size of the run. A histogram has one or two thousand bins, so
    ``histograms.csv`` is some fifty times as large as the run.

    Parameters
    ----------
    run : Run
    out : Path
        A new or empty folder. It is put in place when all files are whole.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    RunError
        If ``out`` holds something, or cannot be written; or the run ends meanwhile.

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read; the others are.

    Examples
    --------
    >>> from dropdiag.integrations.csv import to_csv
    >>> sorted(path.name for path in to_csv(run, Path("csv")))
    ['histograms.csv', 'layers.csv', 'scalars.csv']
    """
    out = out.expanduser().absolute()
    files = {"scalars.csv": _tables(run, "scalars"), "histograms.csv": map(_long, _tables(run, "histograms"))}
    if run.order:
        files["layers.csv"] = iter([_layers(run)])
    with new_folder(out) as folder:
        for name, tables in files.items():
            _write(folder / name, tables)
    return [out / name for name in files]


def _write(path: Path, tables: Iterator[pa.Table]) -> None:
    first = next(tables)  # one without rows, so that a run without any has a header
    options = pacsv.WriteOptions(include_header=True, quoting_style="needed")
    with (
        pa.OSFile(os.fsencode(path), "wb") as file,
        pacsv.CSVWriter(file, first.schema, write_options=options) as writer,
    ):
        writer.write_table(without_formulas(first))
        for table in tables:
            writer.write_table(without_formulas(table))


def _tables(run: Run, name: str) -> Iterator[pa.Table]:
    """Yield all rows of a run's table, names as text; before them a table without rows."""
    yield decoded(coded(name).empty_table())
    yield from map(decoded, run.tables.stream(name))


def _layers(run: Run) -> pa.Table:
    """Return a row a site, in the order of execution."""
    known = {(str(row["layer"]), int(row["call"])): row for row in run.meta["layers"]}
    firsts = {layer: row for (layer, _), row in reversed(known.items())}
    sites = run.places.sorted({**known, **run.order})
    rows = [known.get(site) or firsts.get(site[0], {}) for site in sites]
    columns = {"rank": pa.array([run.order.get(site) for site in sites], pa.int64()),
               "layer": pa.array([layer for layer, _ in sites], pa.string()),
               "call": pa.array([call for _, call in sites], pa.int64())}  # fmt: skip
    return pa.table(
        columns | {name: pa.array([row.get(name) for row in rows], pa.string()) for name in ("kind", "type")}
    )


def _long(table: pa.Table) -> pa.Table:
    """Return a row a bin, in the order of the real line; bins of one place (the zeros, NaN) are one row."""
    numbers, amounts = (table[name].combine_chunks() for name in BIN_COLUMNS)
    flat = numbers.flatten().to_numpy()
    row = np.repeat(np.arange(len(table)), numbers.value_lengths().to_numpy(zero_copy_only=False))
    place = _PLACES[flat]  # bins are numbered by the bits of a float: negative ones after all positive ones
    order = np.lexsort((place, row))
    row, place, flat = row[order], place[order], flat[order]
    begins = np.flatnonzero(np.r_[True, (np.diff(row) != 0) | (np.diff(place) != 0)][: len(row)])
    count = np.add.reduceat(amounts.flatten().to_numpy()[order], begins) if len(begins) else np.empty(0, np.int64)
    result = table.select(KEYS).take(pa.array(row[begins]))
    for name, values in (("low", _LOWS), ("high", _HIGHS)):
        result = result.append_column(name, pa.array(values[flat[begins]]))
    return result.append_column("count", pa.array(count, pa.int64()))


def _places() -> NDArray[np.int64]:
    """Place of every bin on the line from -Inf over the real numbers to +Inf, then NaN."""
    places = np.full(grid.BINS, grid.BINS + 1, np.int64)
    places[grid.line_bins()] = np.arange(1, len(grid.line_bins()) + 1)
    places[grid.NEGATIVE_ZERO] = places[grid.ZERO]
    places[grid.NEGATIVE_INFINITY], places[grid.POSITIVE_INFINITY] = 0, grid.BINS
    return places


def _bounds() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    every = np.arange(grid.BINS, dtype=np.uint16)
    finite = grid.is_finite_bin(every)
    low, high = np.full(grid.BINS, np.nan), np.full(grid.BINS, np.nan)
    low[finite], high[finite] = grid.bin_bounds(every[finite])
    for bounds in (low, high):
        bounds[[grid.ZERO, grid.NEGATIVE_ZERO]] = 0.0
        bounds[[grid.POSITIVE_INFINITY, grid.NEGATIVE_INFINITY]] = np.inf, -np.inf
    return low, high


_PLACES: Final = _places()
_LOWS, _HIGHS = _bounds()
