"""Whether ranks that hold copies of the weights hold the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.store.lists import read_histograms
from dropdiag.store.merging.once import WEIGHTS, roles
from dropdiag.store.ranks.gathering import parts_of
from dropdiag.store.ranks.majority import usual
from dropdiag.store.ranks.members import Rank
from dropdiag.store.reading import decoded, one_chunk, read_scalars
from dropdiag.store.selection import Selection

_Copy: TypeAlias = dict[tuple[str, str], object]
WEIGHT = "weight"
SCALARS = tuple(f"weight_{name}" for name in ("mean", "sd", "abs_mean", "minimum", "maximum"))


def unlike(ranks: Mapping[int, Rank]) -> dict[int, str]:
    """Say whose copies of the weights are others than those of most ranks, at the last step that all recorded.

    Parameters
    ----------
    ranks : mapping of int to Rank
        Those of one stage. Layers of which each has a part are no copies.
    """
    steps = {number: _steps(rank) for number, rank in ranks.items()}
    having = [some for some in steps.values() if some]
    common = set.intersection(*having) if len(having) > 1 else set()
    if not common:
        return {}
    at = max(common)
    copies = {number: _copy(rank, at) for number, rank in ranks.items() if steps[number]}
    differing: dict[int, dict[str, None]] = {}
    for key in dict.fromkeys(key for copy in copies.values() for key in copy):
        own = {number: copy[key] for number, copy in copies.items() if key in copy}
        most = usual(own)
        for number in (number for number, content in own.items() if content != most):
            differing.setdefault(number, {})[key[0]] = None
    return {number: f"its weights of {', '.join(some)} are others at step {at}" for number, some in differing.items()}


def _steps(rank: Rank) -> set[int]:
    """Return the steps at which a rank recorded weights."""
    found: set[int] = set()

    def none(keys: pa.Table) -> NDArray[np.bool_]:
        found.update(keys["step"].to_numpy()[_of_copies(rank, keys)].tolist())
        return np.zeros(len(keys), np.bool_)

    read_histograms(rank.part, none)
    return found


def _of_copies(rank: Rank, keys: pa.Table) -> NDArray[np.bool_]:
    """Whether each histogram is of weights of which other ranks have copies."""
    mask = Selection.of(WEIGHT).mask(keys)
    if mask is None or not len(keys):
        return np.zeros(len(keys), np.bool_)
    found: NDArray[np.bool_] = mask.to_numpy() & (roles(keys, parts_of(rank)) == WEIGHTS)
    return found


def _copy(rank: Rank, step: int) -> _Copy:
    """Return what a rank recorded of its weights at a step, by layer and quantity."""

    def there(keys: pa.Table) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = _of_copies(rank, keys) & (keys["step"].to_numpy() == step)
        return found

    histograms = decoded(read_histograms(rank.part, there).table).to_pylist()
    found: _Copy = {(row["layer"], WEIGHT): (row["bins"], row["counts"]) for row in histograms}
    wanted = Selection.of(SCALARS, steps=step)
    scalars = one_chunk(wanted.apply(read_scalars(rank.part, wanted).table))
    whole = scalars.filter(pa.array(roles(scalars, parts_of(rank)) == WEIGHTS))
    return found | {(row["layer"], row["quantity"]): row["value"] for row in decoded(whole).to_pylist()}
