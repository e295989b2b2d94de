"""Which runs count for which condition, and how often: leaving one out, drawing again, labelling anew.

A statistic of two conditions is a function of weights: how often each run counts for the condition, and how
often for its baseline. So one function serves the effect itself, its jackknife, its bootstrap and its null.
"""

from __future__ import annotations

from collections.abc import Callable
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


class Weights(NamedTuple):
    """How often each run counts, in k cases.

    Attributes
    ----------
    condition, baseline : ndarray of float64, shape (k, runs)
        Columns: the condition's runs, then its baseline's.
    """

    condition: Floats
    baseline: Floats


Statistic: TypeAlias = Callable[[Weights], Floats]
"""Weights of k cases -> k numbers."""


@dataclass(frozen=True)
class Design:
    """Numbers of runs that are compared.

    Attributes
    ----------
    n, n_baseline : int
        Runs of the condition and of its baseline.
    paired : bool
        Whether run i of the condition has the seed of run i of the baseline; then both numbers are equal.
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

    @property
    def attainable(self) -> float:
        """Smallest two-sided p that this many runs can give: 2 / 2^n pairs, 2 / C(2n, n), 1 / C(n + m, n).

        With equal numbers a labelling and its mirror are equally far from no effect, hence the 2. Where
        labellings are drawn, no p is below 1 over their number.
        """
        mirrored = self.paired or self.n == self.n_baseline
        least = (2.0 if mirrored else 1.0) / self.labellings
        return least if self.exact else max(least, 1.0 / LABELLINGS)

    def observed(self) -> Weights:
        """Return the one case in which each run counts once, where it belongs."""
        return _weights(np.ones((1, self.n)), np.ones((1, self.n_baseline)))

    def without_one(self) -> Weights:
        """Return the cases in which one run (paired: one pair) is left out; the condition's runs first."""
        mine, theirs = (np.ones((k, k)) - np.eye(k) for k in (self.n, self.n_baseline))
        if self.paired:
            return _weights(mine, theirs)
        one = np.ones((self.n_baseline, self.n)), np.ones((self.n, self.n_baseline))
        return _weights(np.vstack([mine, one[0]]), np.vstack([one[1], theirs]))

    def drawn_again(self, times: int, seed: int) -> Weights:
        """Return bootstrap cases: runs (paired: pairs) drawn with replacement within their condition."""
        return _drawn_again(self, times, seed)

    def relabelled(self, seed: int) -> Weights:
        """Return the labellings: all of them, or `LABELLINGS` - 1 that are drawn."""
        return _relabelled(self, seed)


def _weights(condition: Floats, baseline: Floats) -> Weights:
    """Weights of the condition's runs for it, and of the baseline's for it."""
    return Weights(
        np.hstack([condition, np.zeros((len(condition), baseline.shape[1]))]),
        np.hstack([np.zeros((len(baseline), condition.shape[1])), baseline]),
    )


@lru_cache(maxsize=16)
def _drawn_again(design: Design, times: int, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    mine = _multinomial(rng, design.n, times)
    return _weights(mine, mine if design.paired else _multinomial(rng, design.n_baseline, times))


def _multinomial(rng: np.random.Generator, n: int, times: int) -> Floats:
    return rng.multinomial(n, np.full(n, 1.0 / n), size=times).astype(np.float64)


@lru_cache(maxsize=16)
def _relabelled(design: Design, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    if design.paired:
        stays = _signs(design, rng)
        condition = np.hstack([stays, 1.0 - stays])
    else:
        condition = _labels(design, rng)
    return Weights(condition, 1.0 - condition)


def _signs(design: Design, rng: np.random.Generator) -> Floats:
    """Whether each pair stays as it is."""
    if design.exact:
        return np.array(list(product((1.0, 0.0), repeat=design.n)))
    return rng.integers(0, 2, size=(LABELLINGS - 1, design.n)).astype(np.float64)


def _labels(design: Design, rng: np.random.Generator) -> Floats:
    """Whether each run is labelled as one of the condition."""
    runs = design.n + design.n_baseline
    if not design.exact:
        first = np.tile(np.arange(runs) < design.n, (LABELLINGS - 1, 1))
        return rng.permuted(first, axis=1).astype(np.float64)
    chosen = np.array(list(combinations(range(runs), design.n)))
    labels = np.zeros((len(chosen), runs))
    np.put_along_axis(labels, chosen, 1.0, axis=1)
    return labels
