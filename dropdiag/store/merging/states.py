"""Numbers that no mean of several ranks' numbers gives: taken from what each rank has seen, put together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.histograms.histogram import Histogram
from dropdiag.store.merging import correlation, health, moments, noise
from dropdiag.store.merging.groups import KEYS, Ints, grouped
from dropdiag.store.merging.once import ACTIVATIONS, MOVED, bits, counted_once, numbers
from dropdiag.store.merging.scalars import Gathered

T = TypeVar("T")
Shards: TypeAlias = Mapping[int, Sequence[int]]

CORRELATION: Final = "node_correlation"
NOISE: Final = "dropout_noise_to_signal"
DEAD: Final = "dead_share"
MOMENTS: Final = {f"{of}_moments": of for of in ("net_value", "weight")}
GIVEN: Final[dict[str, str]] = {
    **{f"{of}_{name}": state for state, of in MOMENTS.items() for name in moments.VALUES},
    **dict.fromkeys(correlation.VALUES, CORRELATION),
    NOISE: NOISE,
    **dict.fromkeys(health.DEAD, DEAD),
    **{name: name for name in MOVED},
}
"""Scalars that states give: each with the quantity of the state."""
MERGEABLE: Final = frozenset(
    {f"{of}_{name}" for of in MOMENTS.values() for name in ("mean", "abs_mean", "minimum", "maximum")}
    | {correlation.WIDTH}
)
"""Those of them that follow from the ranks' numbers, too."""


class Given(NamedTuple):
    """What states give of several ranks together.

    Attributes
    ----------
    table : Table
        Columns `KEYS` and value.
    single : ndarray of bool
        Whether one state alone counts, so that a rank recorded the very number.
    came : ndarray of int64
        How many states there are, those of no value left out.
    """

    table: pa.Table
    single: NDArray[np.bool_]
    came: Ints


class States:
    """States of several ranks.

    Parameters
    ----------
    rows : Gathered
        With columns `KEYS`, count, nodes and state.

    Attributes
    ----------
    groups : Groups
    problems : list of str
        A sentence for each layer whose ranks have different nodes.
    """

    def __init__(self, rows: Gathered) -> None:
        self.problems: list[str] = []
        self._rows = rows
        self.groups = grouped(rows.table.select(KEYS), rows.rank)
        self._count, self._nodes = (rows.table[name].to_numpy() for name in ("count", "nodes"))
        states = rows.table["state"].combine_chunks()
        ends = np.r_[0, np.cumsum(states.value_lengths().to_numpy())]
        self._flat, self._ends = states.flatten().to_numpy(), ends
        self._identity = self._identities()
        self._names = rows.table["quantity"].take(self.groups.first).to_pylist()

    def _identities(self) -> Ints:
        """Return a number for what each row holds: within a group, the same for what is equal bit for bit."""
        found = np.zeros(len(self._count), np.int64)
        small = np.diff(self._ends) == moments.NUMBERS
        rows = np.flatnonzero(small)
        found[rows] = bits(self._count[rows].astype(np.float64), *self._moments_of(rows).T)
        rest = np.flatnonzero(~small)
        found[rest] = numbers((int(self._count[row]), self._state(row).tobytes()) for row in rest)
        return found

    def _moments_of(self, rows: Ints) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self._flat[self._ends[rows][:, None] + np.arange(moments.NUMBERS)]
        return found

    def scalars(self, wanted: Collection[str]) -> Given:
        """Return the wanted scalars."""
        found = [*self._moments(wanted), *self._correlations(wanted), *self._noises(wanted),
                 *self._dead(wanted), *self._moved(wanted)]  # fmt: skip
        none = self._keys([]).append_column("value", pa.array([], pa.float64()))
        table = pa.concat_tables([none, *(_named(self._keys(at), name, values) for at, name, values, _ in found)])
        single = np.concatenate([np.empty(0, np.bool_), *(single for *_, single in found)])
        came = np.bincount(self.groups.of[self._count > 0], minlength=len(self.groups))
        at = np.concatenate([np.empty(0, np.int64), *(one.at for one in found)])
        return Given(table.unify_dictionaries().combine_chunks(), single, came[at])

    def histograms(self) -> tuple[pa.Table, list[Histogram | None]]:
        """Return the keys of correlations of which several states count, and each histogram, None where missing."""
        groups, found = [], list[Histogram | None]()
        for group, shards in self._shards(CORRELATION):
            if sum(map(len, shards.values())) > 1:
                parts = self._parts(correlation.Covariance.of, shards)
                groups.append(group)
                found.append(None if parts is None else correlation.correlation(parts).histogram)
        return self._keys(groups), found

    def split(self) -> tuple[pa.Table, list[dict[int, int]]]:
        """Return the keys of correlations of which each rank has some nodes, and of each the shard of every rank."""
        parts = {group: {int(self._rows.rank[row]): shard for shard, rows in shards.items() for row in rows}
                 for group, shards in self._shards(CORRELATION) if len(shards) > 1}  # fmt: skip
        return self._keys(list(parts)), list(parts.values())

    def _keys(self, groups: Sequence[int] | Ints) -> pa.Table:
        return self._rows.table.select(KEYS).take(self.groups.first[np.asarray(groups, np.int64)])

    def _state(self, row: int | np.int64) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self._flat[self._ends[row] : self._ends[row + 1]]
        return found

    def _moments(self, wanted: Collection[str]) -> Iterator[_Found]:
        for state, of in MOMENTS.items():
            names = [name for name in moments.VALUES if f"{of}_{name}" in wanted]
            rows = self._counted(state)
            if not (names and len(rows)):
                continue
            at, starts, sizes = np.unique(self.groups.of[rows], return_index=True, return_counts=True)
            told = moments.Moments(self._count[rows].astype(np.float64), self._moments_of(rows))
            values = told.merged(starts).values()
            yield from (_Found(at, f"{of}_{name}", values[name], sizes == 1) for name in names)

    @cached_property
    def _once(self) -> NDArray[np.bool_]:
        """Which rows of weights and moments count."""
        once = counted_once(self.groups.of, self._rows.role, self._rows.batch, self._identity)
        came: NDArray[np.bool_] = self._count > 0
        return once & came

    def _counted(self, state: str) -> Ints:
        """Return the rows of a state that count, group after group."""
        here = np.array([name == state for name in self._names], np.bool_)
        rows = np.flatnonzero(self._once & here[self.groups.of])
        return rows[np.argsort(self.groups.of[rows], kind="stable")]

    def _moved(self, wanted: Collection[str]) -> Iterator[_Found]:
        for name in MOVED:
            rows = self._counted(name)
            if name in wanted and len(rows):
                at, starts, sizes = np.unique(self.groups.of[rows], return_index=True, return_counts=True)
                squares = np.stack([self._state(row) for row in rows])
                values, known = health.ratios(squares, starts)
                yield _Found(at, name, pa.array(values, pa.float64(), mask=~known), sizes == 1)

    def _dead(self, wanted: Collection[str]) -> Iterator[_Found]:
        names = [name for name in health.DEAD if name in wanted]
        found: list[tuple[int, list[float | None], bool]] = []
        for group, shards in self._shards(DEAD) if names else ():
            parts = self._parts(health.NodeCodes.of, shards)
            told = [None] * len(health.DEAD) if parts is None else health.shares(parts)
            values = [told[health.DEAD.index(name)] for name in names]
            found.append((group, values, sum(map(len, shards.values())) == 1))
        yield from _columns(names, found)

    def _correlations(self, wanted: Collection[str]) -> Iterator[_Found]:
        names = [name for name in correlation.VALUES if name in wanted and name != correlation.WIDTH]
        found = []
        for group, shards in self._shards(CORRELATION) if names else ():
            parts = self._parts(correlation.Covariance.of, shards)
            told = {} if parts is None else correlation.correlation(parts, names).values
            found.append((group, [told.get(name) for name in names], sum(map(len, shards.values())) == 1))
        yield from _columns(names, found)

    def _noises(self, wanted: Collection[str]) -> Iterator[_Found]:
        found: list[tuple[int, list[float | None], bool]] = []
        for group, shards in self._shards(NOISE) if NOISE in wanted else ():
            parts = self._parts(noise.NodeNoise.of, shards)
            value = None if parts is None else noise.ratio(parts)
            found.append((group, [value], sum(map(len, shards.values())) == 1))
        yield from _columns([NOISE], found)

    def _parts(self, make: Callable[[int, int, Any], T], shards: Shards) -> dict[int, list[T]] | None:
        """Return what is to be merged of each shard; None where its ranks have different nodes."""
        for rows in shards.values():
            if len({int(self._nodes[row]) for row in rows}) > 1:
                self.problems.append(self._unlike(rows))
                return None
        return {shard: [make(int(self._count[row]), int(self._nodes[row]), self._state(row)) for row in rows]
                for shard, rows in shards.items()}  # fmt: skip

    def _unlike(self, rows: Sequence[int]) -> str:
        key = {name: self._rows.table[name][rows[0]].as_py() for name in KEYS}
        nodes = ", ".join(str(self._nodes[row]) for row in rows)
        return (
            f"{key['quantity']} of {key['layer']!r} at step {key['step']} ({key['phase']}) is of {nodes} nodes on its "
            "ranks: nodes that are not the same cannot be merged, and it is missing"
        )

    def _shards(self, quantity: str) -> Iterator[tuple[int, Shards]]:
        """Yield each group of a quantity, and which of its rows count, by the nodes that they are of."""
        came = np.flatnonzero(self._count > 0)
        came = came[np.argsort(self.groups.of[came], kind="stable")]
        starts = np.searchsorted(self.groups.of[came], np.arange(len(self.groups) + 1))
        for group, name in enumerate(self._names):
            rows = came[starts[group] : starts[group + 1]]
            if name == quantity and len(rows):
                yield group, self._by_shard(rows)

    def _by_shard(self, rows: Ints) -> Shards:
        of_batches: dict[int, list[int]] = {}
        for row in rows.tolist():
            of_batches.setdefault(int(self._rows.batch[row]), []).append(row)
        shared = [members for members in of_batches.values() if len(members) > 1]
        whole = all(len(set(self._identity[members])) == 1 for members in shared)
        if shared and whole and self._rows.role[rows[0]] == ACTIVATIONS:  # a tensor that each of them holds
            return {0: [members[0] for members in of_batches.values()]}
        found: dict[int, list[int]] = {}
        for row in rows.tolist():
            found.setdefault(int(self._rows.shard[row]), []).append(row)
        return found


class _Found(NamedTuple):
    """Numbers of one quantity, of some groups."""

    at: Ints
    quantity: str
    values: NDArray[np.float64] | pa.Array
    single: NDArray[np.bool_]


def _columns(names: Sequence[str], found: Sequence[tuple[int, list[float | None], bool]]) -> Iterator[_Found]:
    at = np.array([group for group, _, _ in found], np.int64)
    single = np.array([one for _, _, one in found], np.bool_)
    for place, name in enumerate(names):
        # a layer without the value, as where an eigenvalue decomposition was not asked for, is null
        yield _Found(at, name, pa.array([values[place] for _, values, _ in found], pa.float64()), single)


def _named(keys: pa.Table, quantity: str, values: NDArray[np.float64] | pa.Array) -> pa.Table:
    return called(keys, quantity).append_column("value", pa.array(values, pa.float64()))


def called(keys: pa.Table, quantity: str) -> pa.Table:
    """Return keys of another quantity."""
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(keys), np.int32)), pa.array([quantity]))
    at = keys.schema.get_field_index("quantity")
    return keys.set_column(at, keys.schema.field("quantity"), names)
