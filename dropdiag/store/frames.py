"""Tables as tidy frames, with the run that each row belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from dropdiag.store.reading import decoded

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUN_COLUMNS: Final = ("condition", "seed", "run")
TEXT: Final = ("phase", "layer", "quantity")


class Labels(NamedTuple):
    """Condition, seed and name of each run, by position."""

    conditions: Sequence[str]
    seeds: Sequence[int | None]
    names: Sequence[str]


def tidy(table: pa.Table) -> pd.DataFrame:
    """Return scalars as a frame, names as text."""
    frame: pd.DataFrame = decoded(table).to_pandas()
    return frame


def tidy_of_runs(table: pa.Table, labels: Labels) -> pd.DataFrame:
    """Return a batch as a frame, with the runs' text columns before."""
    who = run_columns(table["position"].to_numpy(), labels)
    return pd.concat([who, tidy(table.drop_columns("position"))], axis=1)


def run_columns(positions: Sequence[int] | NDArray[np.integer[Any]], labels: Labels) -> pd.DataFrame:
    """Return condition, seed and name of runs as text, a row a position."""
    position = pa.array(np.asarray(positions, np.int32))
    columns: dict[str, object] = {}
    for name, values in (("condition", labels.conditions), ("run", labels.names)):
        column = pa.DictionaryArray.from_arrays(position, pa.array(values, pa.string())).cast(pa.string())
        columns[name] = pa.table({name: column}).to_pandas()[name]
    columns["seed"] = _seeds(position.to_numpy(), labels.seeds)
    return pd.DataFrame(columns, columns=list(RUN_COLUMNS))


def coded_of_runs(table: pa.Table, labels: Labels) -> pd.DataFrame:
    """Return a batch as a frame whose text columns are categories: a quarter of the memory and of the time."""
    position = table["position"].to_numpy()
    columns: dict[str, object] = {
        "condition": _category(position, labels.conditions),
        "seed": _seeds(position, labels.seeds),
        "run": _category(position, labels.names),
    }
    return pd.DataFrame({**columns, **_coded(table.drop_columns("position"))})


def coded_frame(table: pa.Table) -> pd.DataFrame:
    """Return scalars, or some of their columns, as a frame whose text columns are categories."""
    return pd.DataFrame(_coded(table))


def _coded(table: pa.Table) -> dict[str, object]:
    columns: dict[str, object] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in TEXT:
            codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            columns[name] = _from_codes(codes, column.dictionary.to_pylist())
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return columns


def _category(position: NDArray[np.int32], values: Sequence[str]) -> pd.Categorical[str]:
    each, names = pd.factorize(np.array(values, dtype=object))
    return _from_codes(each.astype(np.int32)[position], list(names))


def _from_codes(codes: NDArray[np.int32], names: list[str]) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype="str"))


def _seeds(position: NDArray[np.int32], seeds: Sequence[int | None]) -> pd.Series[int]:
    return pd.Series(pd.array(list(seeds), dtype="Int64").take(position))
