"""Which runs count for which condition: as recorded, with one run left out, and under every relabelling.

A statistic of two conditions is a function of two sums over runs, one a side. So one function gives the effect itself,
its jackknife and its null distribution: only the runs that enter the sums change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, product
from math import comb
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

LABELLINGS: Final = 5_000
"""Up to so many labellings are all counted; of more, one fewer are drawn."""
_BLOCK: Final = 2**21  # numbers in a block of cases: 16 MB a side, which stays near the cache
_WHOLE: Final = 2**24  # float32 has all whole numbers up to this one


class Sums(NamedTuple):
    """What the runs of each side add up to, in each of several cases.

    Attributes
    ----------
    condition, baseline : ndarray of float64, shape (cases, k)
    """

    condition: Floats
    baseline: Floats


Statistic: TypeAlias = Callable[[Sums], Floats]
"""Sums in several cases -> a number a case."""


@dataclass(frozen=True)
class Design:
    """Numbers of runs that are compared.

    Attributes
    ----------
    n, n_baseline : int
        Runs of the condition and of its baseline.
    paired : bool
        Whether run i of the condition has the seed of run i of the baseline; then both numbers are equal.

    Notes
    -----
    ``rows`` of the methods is an ndarray of shape (n + n_baseline, k): the condition's runs, then its baseline's.
    """

    n: int
    n_baseline: int
    paired: bool

    @property
    def replicated(self) -> bool:
        """Whether there are two runs or more on both sides: without them there is no interval and no p."""
        return min(self.n, self.n_baseline) >= 2

    @cached_property
    def labellings(self) -> int:
        """Number of ways to label the runs: pairs may be swapped, or the labels permuted."""
        return int(2**self.n) if self.paired else comb(self.n + self.n_baseline, self.n)

    @property
    def exact(self) -> bool:
        """Whether all labellings are counted."""
        return self.labellings <= LABELLINGS

    def attainable(self, seed: int = 0) -> float:
        """Return the smallest two-sided p that this many runs can give: 2 / 2^n pairs, 2 / C(2n, n), 1 / C(n + m, n).

        With equal numbers a labelling and its mirror are equally far from no effect, hence the 2. Where
        labellings are drawn (by a seed), it is what those of them give that are as they were, or its mirror.
        """
        return _attainable(self, seed)

    def observed(self, rows: Floats) -> Sums:
        """Return the one case in which each run counts where it belongs."""
        return Sums(rows[: self.n].sum(axis=0)[None], rows[self.n :].sum(axis=0)[None])

    def without_one(self, rows: Floats) -> Sums:
        """Return the cases in which one run (paired: one pair) is left out; the condition's runs first."""
        mine, theirs = self.observed(rows)
        fewer = mine - rows[: self.n], theirs - rows[self.n :]
        if self.paired:
            return Sums(*fewer)
        still = np.repeat(mine, self.n_baseline, axis=0), np.repeat(theirs, self.n, axis=0)
        return Sums(np.vstack([fewer[0], still[0]]), np.vstack([still[1], fewer[1]]))

    def relabelled(self, rows: Floats, seed: int) -> Iterator[Sums]:
        """Yield the labellings, all of them or `LABELLINGS` - 1 that are drawn, some at a time."""
        mine, theirs = self.observed(rows)
        start, moved = self._moved(rows)
        add = _adding(self, seed, moved)
        step = max(_BLOCK // rows.shape[1], 1)
        for begin in range(0, len(_labels(self, seed)), step):
            condition = start + add(slice(begin, begin + step))
            yield Sums(condition, mine + theirs - condition)

    def _moved(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return the condition's sums where no label is 1, and what each label of 1 adds to them."""
        if self.paired:
            # Swapping pair i moves its difference from one sum to the other: half the work of adding up both sides.
            return self.observed(rows).condition, rows[self.n :] - rows[: self.n]
        # each labelling has n of them: what all runs have in common need not be added up
        same = np.rint(rows.mean(axis=0)) if _are_whole(rows) else np.zeros(rows.shape[1])
        return self.n * same[None], rows - same


def _are_whole(rows: Floats) -> bool:
    """Whether all numbers are whole, as counts are."""
    return bool((np.rint(rows) == rows).all())


def _adding(design: Design, seed: int, moved: Floats) -> Callable[[slice], NDArray[np.floating]]:
    """Return what adds up, for some labellings, the rows whose label is 1."""
    labels = _labels(design, seed)
    # sums of small whole numbers are exact in float32, in whatever order, and take half of the time
    if _are_whole(moved) and bool((np.abs(moved).sum(axis=0) < _WHOLE).all()):
        single, small = _labels_as_float32(design, seed), moved.astype(np.float32)
        return lambda some: single[some] @ small
    return lambda some: labels[some] @ moved


@lru_cache(maxsize=64)  # most measures of a comparison share a design
def _attainable(design: Design, seed: int) -> float:
    """Return the smallest p that a design can give."""
    mirrored = design.paired or design.n == design.n_baseline
    if design.exact:
        return (2.0 if mirrored else 1.0) / design.labellings
    runs = design.n if design.paired else design.n + design.n_baseline
    own = np.arange(runs) < (0 if design.paired else design.n)
    labels = _labels(design, seed)
    as_they_were = (labels == own).all(axis=1) | (mirrored & (labels == ~own).all(axis=1))
    return float(1 + np.count_nonzero(as_they_were)) / LABELLINGS


@lru_cache(maxsize=4)  # of 2,000 runs one takes 80 MB, and most measures of a comparison share a design
def _labels(design: Design, seed: int) -> Floats:
    """Return for each labelling which pairs are swapped, or which runs count for the condition (1.0, else 0.0)."""
    # one seed for all measures: the same runs give the same p, and measures share their labellings
    rng = np.random.default_rng(seed)
    if design.paired:
        return _swaps(design, rng)
    runs = design.n + design.n_baseline
    if not design.exact:
        first = np.tile(np.arange(runs) < design.n, (LABELLINGS - 1, 1))
        return rng.permuted(first, axis=1).astype(np.float64)
    chosen = np.array(list(combinations(range(runs), design.n)))
    labels = np.zeros((len(chosen), runs))
    np.put_along_axis(labels, chosen, 1.0, axis=1)
    return labels


@lru_cache(maxsize=2)  # as above, half as large
def _labels_as_float32(design: Design, seed: int) -> NDArray[np.float32]:
    return _labels(design, seed).astype(np.float32)


def _swaps(design: Design, rng: np.random.Generator) -> Floats:
    if design.exact:
        return np.array(list(product((0.0, 1.0), repeat=design.n)))
    return np.asarray(1.0 - rng.integers(0, 2, size=(LABELLINGS - 1, design.n)), dtype=np.float64)
