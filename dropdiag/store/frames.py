"""Tables as tidy frames, with the run that each row belongs to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import pandas as pd
import pyarrow as pa

from dropdiag.store.reading import decoded

TEXT: Final = ("phase", "layer", "quantity")


def tidy(table: pa.Table) -> pd.DataFrame:
    """Return scalars as a frame, names as text."""
    frame: pd.DataFrame = decoded(table).to_pandas()
    return frame


def run_columns(conditions: Sequence[str], seeds: Sequence[int | None], names: Sequence[str]) -> pd.DataFrame:
    """Return condition, seed and name of runs, a row each."""
    columns = {"condition": conditions, "seed": pd.array(list(seeds), dtype="Int64"), "run": names}
    frame: pd.DataFrame = pd.DataFrame(columns).astype({"condition": "str", "run": "str"})
    return frame


def as_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what `run_columns` did with categories in place of text, in the order of their first appearance."""
    # categories in the order given, not sorted: groupby(sort=False) and figures then keep it
    columns = {name: pd.Categorical(frame[name], categories=frame[name].unique()) for name in ("condition", "run")}
    coded: pd.DataFrame = frame.assign(**columns)
    return coded


def of_runs(table: pa.Table, runs: pd.DataFrame, frame: Callable[[pa.Table], pd.DataFrame]) -> pd.DataFrame:
    """Return a batch as a frame, the columns of its runs before.

    Parameters
    ----------
    table : Table
        A batch, with the column ``position``.
    runs : DataFrame
        From `run_columns`, or `as_categories`.
    frame : callable
        `tidy`, or `coded_frame`.
    """
    who = runs.iloc[table["position"].to_numpy()].reset_index(drop=True)
    joined: pd.DataFrame = pd.concat([who, frame(table.drop_columns("position"))], axis=1)
    return joined


def coded_frame(table: pa.Table) -> pd.DataFrame:
    """Return scalars as a frame whose text columns are categories: a quarter of the memory and of the time."""
    columns: dict[str, object] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in TEXT:
            codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            categories = pd.Index(column.dictionary.to_pylist(), dtype="str")
            columns[name] = pd.Categorical.from_codes(codes, categories=categories)
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return pd.DataFrame(columns)
