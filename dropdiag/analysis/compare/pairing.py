"""Which runs of two conditions belong together, and the values of each side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dropdiag.analysis.compare.resampling import Design
from dropdiag.store.reader import Runs

Label: TypeAlias = str


@dataclass(frozen=True)
class Sides:
    """Runs of a condition and of its baseline, by label.

    Attributes
    ----------
    condition, baseline : tuple of str
        Paired: run i of both has the same seed.
    paired : bool
    alone : tuple of str
        Runs left out of the pairs, for no run of the other side has their seed.
    """

    condition: tuple[Label, ...]
    baseline: tuple[Label, ...]
    paired: bool
    alone: tuple[Label, ...] = ()

    def design(self) -> Design:
        """Return the numbers of runs."""
        return Design(len(self.condition), len(self.baseline), self.paired)

    def having(self, condition: Mapping[Label, object], baseline: Mapping[Label, object]) -> Sides:
        """Return the runs that have a value; paired, a pair falls where one of the two has none."""
        if self.paired:
            both = [
                (a, b) for a, b in zip(self.condition, self.baseline, strict=True) if a in condition and b in baseline
            ]
            return Sides(tuple(a for a, _ in both), tuple(b for _, b in both), paired=True, alone=self.alone)
        mine, theirs = (tuple(label for label in side if label in known)
                        for side, known in ((self.condition, condition), (self.baseline, baseline)))  # fmt: skip
        return Sides(mine, theirs, paired=False)


def sides(runs: Runs, condition: str, baseline: str) -> Sides:
    """Pair two conditions by seed, where their seeds allow it.

    Parameters
    ----------
    runs : Runs
    condition, baseline : str

    Returns
    -------
    Sides
        Paired where every run has a seed, none comes twice in a condition, and the seeds of one condition are all
        among those of the other; runs without a partner are then left out. Else all runs, as independent samples.
    """
    mine, theirs = ([(run.seed, label) for run, label in zip(runs, runs.labels(), strict=True) if run.condition == name]
                    for name in (condition, baseline))  # fmt: skip
    left, right = dict(mine), dict(theirs)
    whole = None not in left.keys() | right.keys() and (len(left), len(right)) == (len(mine), len(theirs))
    common = [seed for seed in right if seed in left]
    if not whole or len(common) < min(len(left), len(right)):
        return Sides(tuple(label for _, label in mine), tuple(label for _, label in theirs), paired=False)
    alone = [label for side in (left, right) for seed, label in side.items() if seed not in common]
    return Sides(tuple(left[s] for s in common), tuple(right[s] for s in common), paired=True, alone=tuple(alone))


def finite(values: Mapping[Label, float], *, positive: bool = False) -> dict[Label, float]:
    """Return the values that are finite, and positive where a logarithm is taken."""
    return {label: value for label, value in values.items() if np.isfinite(value) and (value > 0.0 or not positive)}
