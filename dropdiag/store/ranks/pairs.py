"""Which share of all pairs of nodes a correlation is over, where each rank has some of the nodes (tensor parallel)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from dropdiag.store.coverage import Coverage, CoverageRow

if TYPE_CHECKING:
    import pandas as pd

WIDTH: Final = "node_correlation_width"
Widths: TypeAlias = dict[tuple[str, int], float]
"""Width of each site, (layer, call)."""


def with_pairs(table: Coverage, whole: pd.DataFrame, parts: Sequence[pd.DataFrame]) -> Coverage:
    """Return a coverage table that says which pairs of nodes are correlated.

    Parameters
    ----------
    table : Coverage
    whole : DataFrame
        The scalars `WIDTH` of the merged run.
    parts : sequence of DataFrame
        Those of each of the ranks that share a batch: they have parts of its tensors, or copies.
    """
    widths, own = _widths(whole), list(map(_widths, parts))
    return Coverage([_with_pairs(row, widths, own) for row in table])


def _widths(rows: pd.DataFrame) -> Widths:
    """Return the width of each site that was recorded last."""
    columns = (rows[name].tolist() for name in ("layer", "call", "value"))
    return {(layer, call): value for layer, call, value in zip(*columns, strict=True)}


def _with_pairs(row: CoverageRow, widths: Widths, parts: Sequence[Mapping[tuple[str, int], float]]) -> CoverageRow:
    site = row.layer, row.call
    own = [part[site] for part in parts if site in part]
    if row.kind == "weight" or site not in widths or not own or max(own) >= widths[site]:
        return row
    share = sum(n * (n - 1) for n in own) / (widths[site] * (widths[site] - 1))
    said = f"correlations of pairs within a rank, {share:.0%} of all pairs"
    return replace(row, sampled="; ".join(filter(None, [row.sampled, said])))
