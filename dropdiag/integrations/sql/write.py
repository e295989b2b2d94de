"""Tables and views beside recorded runs, so that SQL answers questions about them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.integrations.destination import new_folder
from dropdiag.integrations.sql.bins import bins
from dropdiag.integrations.sql.known import (
    Functions,
    left_out,
    merges_table,
    ranks_of,
    ranks_table,
    runs_table,
    segments_table,
    sites_table,
    spans_table,
)
from dropdiag.printable import well_formed
from dropdiag.store.reading import noted, open_segment
from dropdiag.store.run import Run
from dropdiag.store.runs import Runs, as_runs
from dropdiag.store.segments import list_segments, visible_segments
from dropdiag.store.storage.places import is_remote
from dropdiag.store.tables import COUNT, SCHEMAS

TEMPLATE: Final = Path(__file__).with_name("views.sql")
VIEWS: Final = "views.sql"
_TAKEN: Final = re.compile(r"(?:^|/)((?:content|filename)=)[^/]*(?=/|$)", re.IGNORECASE)


def to_sql(runs: Run | Runs, out: Path) -> list[Path]:
    """Write what SQL needs beside the files of runs: ``bins.parquet``, other small tables, ``views.sql`` for DuckDB.

    No row of the runs is copied: the views read their Parquet files. ``docs/sql.md`` has the views and their columns.

    Parameters
    ----------
    runs : Run or Runs
    out : Path
        A new or empty folder. It is put in place when all files are whole.

    Returns
    -------
    list of Path
        The files that are documented: views.sql, then bins, runs, sites, activations, saturation and segments.

    Raises
    ------
    ArgumentError
        If one of the runs is one rank of a run.
    RunError
        If ``out`` holds something, or cannot be written or read by DuckDB; if no run is left.

    Warns
    -----
    DropdiagWarning
        For each run whose path DuckDB cannot read, which is left out; for each function whose derivative is not there
        (its saturation shares are missing), each run whose ranks are not all there, each segment that cannot be read,
        and each run that SQL does not merge (``left_out`` in its row of the view ``runs`` says why).
    """
    out = out.expanduser().absolute()
    if reason := _unreadable(out):
        raise RunError(f"{out}: {reason}; choose another folder")
    every = _readable(as_runs(runs))
    _check(every)
    damaged = _damaged(every)
    tables, inner = _tables(every, damaged)
    with new_folder(out) as folder:
        (folder / "inner").mkdir()
        for name, table in tables.items():
            pq.write_table(table, folder / f"{name}.parquet")
        for name, table in inner.items():
            pq.write_table(table, folder / "inner" / f"{name}.parquet")
        places = {**{name: out / f"{name}.parquet" for name in tables},
                  **{name: out / "inner" / f"{name}.parquet" for name in inner}}  # fmt: skip
        (folder / VIEWS).write_text(_views(every, places, damaged), encoding="utf-8")
    return [out / VIEWS, *(out / f"{name}.parquet" for name in tables)]


def _readable(runs: Runs) -> Runs:
    """Return the runs that DuckDB can find; say of the others why it cannot."""
    reasons = [_unreadable(run.path) for run in runs]
    for run, reason in zip(runs, reasons, strict=True):
        if reason:
            warnings.warn(f"{run.path}: {reason}; the run is left out", DropdiagWarning, stacklevel=3)
    kept = [run for run, reason in zip(runs, reasons, strict=True) if not reason]
    if not kept:
        raise RunError("no run is left whose path DuckDB can read; rename their folders")
    return Runs(kept, ordered=runs.ordered) if len(kept) < len(runs) else runs


def _unreadable(path: Path) -> str:
    """Say why DuckDB cannot read below a path; nothing where it can."""
    text = path.as_posix()
    if "\\" in text:  # it stands for the next sign in its patterns, and no pattern stands for it
        return "DuckDB finds nothing below a path with a backslash in it"
    # as it does of any name: where Parquet is read it is told not to, and where bytes are it cannot be told
    if (taken := _TAKEN.search(text)) is not None:
        return f"DuckDB takes {taken[1]!r} in its path for a column, and fails"
    return "" if well_formed(text) == text else "its path is no UTF-8, which DuckDB takes alone"


def _check(runs: Runs) -> None:
    for run in runs:
        if is_remote(run.path):
            raise ArgumentError(
                f"{run.path} lies in an object store, and the views read files of a disk; copy the runs to one first, "
                "as with `aws s3 sync`"
            )
        if run.rank is not None:
            raise ArgumentError(f"{run.path} is one rank of a run; give the run, rank_scalars has each rank by itself")
        for problem in run.group.problems if run.group else ():
            warnings.warn(problem, DropdiagWarning, stacklevel=3)
        if reason := left_out(run):
            what = "it has no rows in the views, but in those of each rank by itself"
            warnings.warn(f"{run.path}: {reason}; {what}", DropdiagWarning, stacklevel=3)


def _damaged(runs: Runs) -> frozenset[Path]:
    """Return the segments that cannot be read, with a warning for each."""
    found: list[Path] = []
    for run in runs:
        for rank in ranks_of(run):
            for name in ("scalars", "histograms"):
                problems: list[str] = []
                for segment, _ in visible_segments(rank.part, name, problems):
                    before = len(problems)
                    with noted(segment, problems), open_segment(segment) as file:
                        file.check_pages()
                    found += [segment.path] * (len(problems) - before)
                for problem in problems:
                    warnings.warn(problem, DropdiagWarning, stacklevel=3)
    return frozenset(found)


def _tables(runs: Runs, damaged: frozenset[Path]) -> tuple[dict[str, pa.Table], dict[str, pa.Table]]:
    """Return the tables that users read, and those that only the views do."""
    functions = Functions(runs)
    tables = {
        "bins": bins(), "runs": runs_table(runs), "sites": sites_table(runs), "activations": functions.activations(),
        "saturation": functions.saturation(), "segments": segments_table(runs, damaged),
    }  # fmt: skip
    inner = {
        "ranks": ranks_table(runs), "spans": spans_table(runs), "merges": merges_table(runs),
        # beside no segment at all, or none with counts, the columns are there
        "no_scalars": SCHEMAS["scalars"].append(COUNT).empty_table(),
        "no_histograms": SCHEMAS["histograms"].empty_table(),
    }  # fmt: skip
    return tables, inner


def _views(runs: Runs, places: Mapping[str, Path], damaged: frozenset[Path]) -> str:
    folders = [run.path.as_posix() for run in runs]
    known = {name: _text(_literal(path)) for name, path in places.items()}
    found = {
        "metas": _list(f"{_literal(path)}/{name}" for path in folders for name in ("run.json", "rank-*/rank.json")),
        "segments": _list(f"{_literal(path)}/rank-*/*.parquet" for path in folders),
        **{name: _list([_literal(places[f"no_{name}"]), *(one for run in runs for one in _files(run, name, damaged))])
           for name in ("scalars", "histograms")},
    }  # fmt: skip
    sql = TEMPLATE.read_text(encoding="utf-8")
    # all at once: a path may have "@runs@" in it
    return re.sub("@([a-z_]+)@", lambda part: (known | found)[part[1]], sql)


def _files(run: Run, name: str, damaged: frozenset[Path]) -> list[str]:
    """Return patterns of the files of a table of a run: those that it will have as well, if none is damaged."""
    if not any(path.is_relative_to(run.path) for path in damaged):
        return [f"{_literal(run.path)}/rank-*/{name}-*.parquet"]
    listed = [segment.path for rank in ranks_of(run) for segment in list_segments(rank.part.folder, name)]
    return [_literal(path) for path in listed if path not in damaged]


def _literal(path: Path | str) -> str:
    """Return a path as a pattern that matches it alone."""
    text = path.as_posix() if isinstance(path, Path) else path
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _list(patterns: Iterable[str]) -> str:
    return "[" + ",\n    ".join(map(_text, patterns)) + "]"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
